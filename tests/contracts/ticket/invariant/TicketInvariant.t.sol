// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TicketGhost} from "./TicketGhost.sol";
import {TicketHandler} from "./TicketHandler.sol";
import {TicketPayerSteps} from "./TicketPayerSteps.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";
import {Test} from "forge-std/Test.sol";
import {console} from "forge-std/console.sol";

/// @notice I1 to I8 of ticket.md section 4 after every step of a run; README.md beside this says each in a sentence.
contract TicketInvariantTest is Test {
    string private constant I1 =
        "I1: balances, penalties, earmarks and credits of an asset add up to what the contract holds of it";
    string private constant I2 = "I2: no escrow pays out more than came in for it";
    string private constant I3 =
        "I3: a ticket is settled at most once, and a recipient gets no more than a prize per distinct winning nonce";
    string private constant I4 =
        "I4: a payer receives nothing but by a withdrawal, a full delay after asking, and never while debt is open";
    string private constant I5 = "I5: the status moves only along the table";
    string private constant I6 =
        "I6: a ticket accepted by the admission rule is claimable until its expiry unless its escrow was burned";
    string private constant I7 =
        "I7: paid, burned, rewarded, returned and still inside add up to what was deposited, in each asset";
    string private constant I8 = "I8: a penalty never becomes credit of anyone, but for a tenth of it to a reporter";

    address private constant BURN = 0x000000000000000000000000000000000000dEaD;

    TicketHandler private handler;
    ITicketEscrow private escrows;
    address private token;
    address[] private accounts;
    address[] private keys;
    address[] private assets;

    function setUp() public {
        handler = new TicketHandler();
        (escrows, token) = handler.system();
        (accounts, keys, assets) = handler.actors();
        targetContract(address(handler));
        targetSelector(FuzzSelector(address(handler), steps()));
    }

    /// @dev All steps, each as likely as the others.
    function steps() private pure returns (bytes4[] memory list) {
        list = new bytes4[](20);
        list[0] = TicketHandler.pay.selector;
        list[1] = TicketHandler.claim.selector;
        list[2] = TicketHandler.claimBatch.selector;
        list[3] = TicketHandler.selfDeal.selector;
        list[4] = TicketHandler.claimUnasked.selector;
        list[5] = TicketHandler.setOperator.selector;
        list[6] = TicketPayerSteps.open.selector;
        list[7] = TicketPayerSteps.topUp.selector;
        list[8] = TicketPayerSteps.raiseCap.selector;
        list[9] = TicketPayerSteps.earmark.selector;
        list[10] = TicketPayerSteps.releaseEarmark.selector;
        list[11] = TicketPayerSteps.requestWithdraw.selector;
        list[12] = TicketPayerSteps.cancelWithdraw.selector;
        list[13] = TicketPayerSteps.withdraw.selector;
        list[14] = TicketPayerSteps.cure.selector;
        list[15] = TicketPayerSteps.burn.selector;
        list[16] = TicketPayerSteps.proveEquivocation.selector;
        list[17] = TicketPayerSteps.withdrawCredit.selector;
        list[18] = TicketPayerSteps.donate.selector;
        list[19] = TicketPayerSteps.warp.selector;
    }

    // ── the invariants ──

    /// @dev One campaign for all of them: forge would give each its own, with the same seed and so the same calls. Every
    /// seed is hashed before use, so a dictionary of values seen has nothing to add.
    /// forge-config: default.invariant.dictionary-weight = 0
    /// forge-config: deep.invariant.dictionary-weight = 0
    function invariant_I1_to_I8() external view {
        TicketGhost.Report memory r = handler.report();
        ITicketEscrow.Escrow[] memory states = new ITicketEscrow.Escrow[](keys.length);
        for (uint256 e; e < keys.length; ++e) {
            states[e] = escrows.escrowOf(keys[e]);
        }
        _I1_contract_holds_what_it_owes(r, states);
        _I2_no_escrow_pays_more_than_came_in(r, states);
        _I3_each_ticket_is_paid_once(r, states);
        assertEq(r.payerPaidOutOfTurn, 0, I4);
        _I5_status_moves_along_the_table(r, states);
        assertEq(r.acceptedButRefused, 0, I6);
        assertEq(r.unclaimable, 0, I6);
        _I7_nothing_appears_or_vanishes(r, states);
        _I8_penalty_profits_nobody(r);
    }

    /// @dev The end of a run: what was accepted is really claimed, not only judged claimable.
    function afterInvariant() external {
        handler.claimAll();
        assertEq(handler.acceptedButRefused(), 0, I6);
    }

    function _I1_contract_holds_what_it_owes(TicketGhost.Report memory r, ITicketEscrow.Escrow[] memory states)
        private
        view
    {
        for (uint256 a; a < assets.length; ++a) {
            uint256 owed = _inside(assets[a], states) + escrows.creditOf(assets[a], BURN);
            for (uint256 i; i < accounts.length; ++i) {
                owed += escrows.creditOf(assets[a], accounts[i]);
            }
            assertEq(_held(assets[a]), owed + r.flows[a].donated, I1);
        }
    }

    function _I2_no_escrow_pays_more_than_came_in(TicketGhost.Report memory r, ITicketEscrow.Escrow[] memory states)
        private
        pure
    {
        for (uint256 e; e < states.length; ++e) {
            uint256 inside = states[e].balance + states[e].penalty + states[e].earmarked;
            assertLe(r.books[e].moneyOut, r.books[e].moneyIn, I2);
            assertEq(r.books[e].moneyIn - r.books[e].moneyOut, inside, I2);
        }
    }

    function _I3_each_ticket_is_paid_once(TicketGhost.Report memory r, ITicketEscrow.Escrow[] memory states)
        private
        view
    {
        assertEq(r.settledTwice, 0, I3);
        for (uint256 e; e < states.length; ++e) {
            uint256 debt;
            for (uint256 i; i < accounts.length; ++i) {
                TicketGhost.PairBook memory p = r.pairs[e][i];
                if (p.settled == 0 && p.paid == 0) continue;
                uint256 owed = escrows.debtOf(keys[e], accounts[i]);
                // What a recipient got and what it is owed are its prizes, no more and no less.
                assertEq(p.paid + owed, p.settled * states[e].prize, I3);
                debt += owed;
            }
            assertEq(states[e].debt, debt, I3);
        }
    }

    function _I5_status_moves_along_the_table(TicketGhost.Report memory r, ITicketEscrow.Escrow[] memory states)
        private
        pure
    {
        assertEq(r.movedOffTable, 0, I5);
        for (uint256 e; e < states.length; ++e) {
            ITicketEscrow.Escrow memory s = states[e];
            bool owes = s.status == ITicketEscrow.Status.INSOLVENT || r.books[e].burned;
            assertEq(s.debt != 0, owes, I5);
            assertEq(s.cureBy != 0, owes, I5);
            assertEq(s.withdrawAt != 0, s.status == ITicketEscrow.Status.WITHDRAWING, I5);
        }
    }

    function _I7_nothing_appears_or_vanishes(TicketGhost.Report memory r, ITicketEscrow.Escrow[] memory states)
        private
        view
    {
        for (uint256 a; a < assets.length; ++a) {
            TicketGhost.Flow memory f = r.flows[a];
            uint256 out = f.claimed + f.cured + f.surplus + f.burned + f.rewards + f.returned;
            assertEq(out + _inside(assets[a], states), f.deposited, I7);
        }
    }

    function _I8_penalty_profits_nobody(TicketGhost.Report memory r) private view {
        for (uint256 a; a < assets.length; ++a) {
            assertEq(r.flows[a].penaltyLeak, 0, I8);
            assertLe(r.flows[a].rewards * 10, r.flows[a].slashed, I8);
        }
    }

    // ── reach ──

    /// @dev The campaign above says nothing about the places it never sees. This drives the same handler with the same
    /// steps at the same weights, and says what must have been seen.
    function test_campaign_reaches_every_step_and_place() external {
        vm.pauseGasMetering();
        uint256 runs = 128;
        uint256 depth = 64;
        bytes4[] memory list = steps();
        string[] memory places = _places();
        uint256[] memory did = new uint256[](20);
        uint256[] memory refused = new uint256[](20);
        uint256[] memory times = new uint256[](places.length);
        uint256[25] memory moves;
        uint256 start = vm.snapshotState();
        for (uint256 run; run < runs; ++run) {
            for (uint256 i; i < depth; ++i) {
                uint256 seed = uint256(keccak256(abi.encode("reach", run, i)));
                (bool ok, bytes memory answer) =
                    address(handler).call(abi.encodeWithSelector(list[seed % list.length], seed));
                assertTrue(ok, string(answer));
            }
            for (uint256 s; s < 20; ++s) {
                did[s] += handler.did(TicketGhost.Step(s));
                refused[s] += handler.refused(TicketGhost.Step(s));
            }
            for (uint256 m; m < 25; ++m) {
                moves[m] += handler.timesMoved(m / 5, m % 5);
            }
            for (uint256 p; p < places.length; ++p) {
                times[p] += handler.reached(places[p]);
            }
            assertTrue(vm.revertToState(start));
        }
        _report(did, refused, places, times, moves);
    }

    function _report(
        uint256[] memory did,
        uint256[] memory refused,
        string[] memory places,
        uint256[] memory times,
        uint256[25] memory moves
    ) private view {
        string[20] memory names = handler.stepNames();
        console.log("step: succeeded, refused with the predicted error");
        for (uint256 s; s < 20; ++s) {
            console.log(names[s], did[s], refused[s]);
            bool forbidden = s == uint256(TicketGhost.Step.CLAIM_UNASKED);
            assertGt(forbidden ? refused[s] : did[s], 0, string.concat(names[s], " never happened"));
            if (forbidden) assertEq(did[s], 0, "nobody but the recipient claims, and nothing twice");
        }
        console.log("place: times");
        for (uint256 p; p < places.length; ++p) {
            console.log(places[p], times[p]);
        }
        for (uint256 p; p < places.length; ++p) {
            assertGt(times[p], 0, string.concat("never reached: ", places[p]));
        }
        string[5] memory status = ["NONE", "OPEN", "WITHDRAWING", "INSOLVENT", "CLOSED"];
        console.log("status moves");
        for (uint256 m; m < 25; ++m) {
            if (moves[m] != 0) console.log(string.concat(status[m / 5], " to ", status[m % 5]), moves[m]);
        }
        uint256[8] memory table = [uint256(1), 7, 8, 11, 13, 14, 16, 19];
        for (uint256 i; i < table.length; ++i) {
            assertGt(moves[table[i]], 0, "a move of the table never happened");
        }
    }

    function _places() private pure returns (string[] memory list) {
        list = new string[](20);
        list[0] = "an honest ticket that won";
        list[1] = "a claim by an operator";
        list[2] = "a claim paid from an earmark";
        list[3] = "a claim paid from an earmark of a burned escrow";
        list[4] = "a claim recorded as debt";
        list[5] = "a claim paid in part";
        list[6] = "a claim that cancelled a withdrawal";
        list[7] = "a paid ticket claimed again";
        list[8] = "a bad ticket skipped in a batch";
        list[9] = "a batch paid in two assets";
        list[10] = "a sybil paid itself";
        list[11] = "a cure of all debt";
        list[12] = "a cure of a part of the creditors";
        list[13] = "a burn with an earmark left";
        list[14] = "an earmark burned after its escrow";
        list[15] = "a withdrawal with an earmark that was over";
        list[16] = "a winner that its merchant let expire";
        list[17] = "a withdrawal stopped by an earmark";
        list[18] = "an earmark claimed after its withdrawal";
        list[19] = "a cure that was too little";
    }

    // ── helpers ──

    function _held(address asset) private view returns (uint256) {
        if (asset == address(0)) return address(escrows).balance;
        (bool ok, bytes memory answer) =
            token.staticcall(abi.encodeWithSignature("balanceOf(address)", address(escrows)));
        assertTrue(ok);
        return abi.decode(answer, (uint256));
    }

    /// @dev What the escrows of an asset hold, for themselves and for earmarks.
    function _inside(address asset, ITicketEscrow.Escrow[] memory states) private pure returns (uint256 sum) {
        for (uint256 e; e < states.length; ++e) {
            ITicketEscrow.Escrow memory s = states[e];
            if (s.status != ITicketEscrow.Status.NONE && s.asset == asset) sum += s.balance + s.penalty + s.earmarked;
        }
    }
}
