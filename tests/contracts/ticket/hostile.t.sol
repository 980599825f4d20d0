// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {
    BlocklistToken,
    FalseReturnToken,
    FeeOnTransferToken,
    MintableToken,
    NoReturnToken,
    ReentrantToken
} from "../mocks/HostileTokens.sol";
import {TicketFixture} from "./TicketFixture.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

/// @notice Tokens with faults, through the steps that move money. What the faults do to a deposit or a withdrawal as such is
/// in `Ledger.t.sol`.
contract HostileTokenTest is TicketFixture {
    // ── fee on transfer: what arrives counts ──

    function test_feeOnTransfer_OpenTopUpRaiseCapAndCureCountWhatArrives() external {
        FeeOnTransferToken fee = new FeeOnTransferToken();
        _give(fee, payer);
        open(escrowKey, payer, terms(address(fee)), 1 ether);
        uint256 balance = 0.99 ether - PENALTY;
        assertEq(escrows.escrowOf(escrow).balance, balance);

        vm.startPrank(payer);
        vm.expectEmit(address(escrows));
        emit ITicketEscrow.ToppedUp(escrow, payer, 0.0099 ether);
        escrows.topUp(escrow, 0.01 ether);
        balance += 0.0099 ether;

        vm.expectEmit(address(escrows));
        emit ITicketEscrow.CapRaised(escrow, CAP + 1, PENALTY + 99);
        escrows.raiseCap(escrow, CAP + 1, 100);
        escrows.earmark(escrow, stranger, uint32(balance / PRIZE), uint64(vm.getBlockTimestamp()));
        vm.stopPrank();
        _claim(1);
        uint256 owed = PRIZE - balance % PRIZE;
        assertEq(escrows.debtOf(escrow, merchant), owed);

        // A cure that sends the exact debt arrives too small.
        address[] memory creditors = new address[](1);
        creditors[0] = merchant;
        vm.startPrank(payer);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.DebtNotCovered.selector, owed - owed / 100, owed));
        escrows.cure(escrow, creditors, owed);
        escrows.cure(escrow, creditors, 2 * owed);
        vm.stopPrank();
        assertEq(escrows.creditOf(address(fee), merchant), PRIZE);
        assertEq(escrows.creditOf(address(fee), payer), 2 * owed - 2 * owed / 100 - owed);
        _conserved(fee);
    }

    function test_feeOnTransfer_RevertWhen_PenaltyDoesNotArrive() external {
        FeeOnTransferToken fee = new FeeOnTransferToken();
        _give(fee, payer);
        ITicketEscrow.Terms memory t = terms(address(fee));
        ITicketEscrow.Signature memory proof = possession(escrowKey, payer, t);
        vm.expectRevert(
            abi.encodeWithSelector(ITicketEscrow.PenaltyNotCovered.selector, PENALTY - PENALTY / 100, PENALTY)
        );
        vm.prank(payer);
        escrows.open(escrow, t, PENALTY, proof);
    }

    // ── false, nothing, blocked ──

    function test_falseReturn_RevertWhen_ADepositFails() external {
        FalseReturnToken failing = new FalseReturnToken();
        _give(failing, payer);
        open(escrowKey, payer, terms(address(failing)), BALANCE + PENALTY);
        failing.setFailing(true);
        vm.startPrank(payer);
        bytes memory reason = abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(failing));
        vm.expectRevert(reason);
        escrows.topUp(escrow, 1);
        vm.expectRevert(reason);
        escrows.raiseCap(escrow, CAP + 1, 1);
        vm.stopPrank();
        // Claims need no token; what they credit waits.
        _claim(1);
        assertEq(escrows.creditOf(address(failing), merchant), PRIZE);
    }

    function test_noReturn_WholeLife() external {
        NoReturnToken silent = new NoReturnToken();
        _give(silent, payer);
        open(escrowKey, payer, terms(address(silent)), BALANCE + PENALTY);
        _claim(1);
        vm.prank(merchant);
        escrows.withdrawCredit(address(silent), merchant, PRIZE);
        assertEq(silent.balanceOf(merchant), PRIZE);
        _conserved(silent);
    }

    /// A blocked merchant is credited all the same and collects to another address; a blocked burn address holds up no burn.
    function test_blocklist_HoldsUpNoClaimAndNoBurn() external {
        BlocklistToken blocking = new BlocklistToken();
        _give(blocking, payer);
        open(escrowKey, payer, terms(address(blocking)), PENALTY + PRIZE);
        blocking.setBlocked(merchant, true);
        blocking.setBlocked(BURN, true);
        _claim(1);
        _claim(2);
        skip(escrows.CURE_PERIOD() + 1);
        escrows.burn(escrow);
        assertEq(escrows.creditOf(address(blocking), BURN), PENALTY);

        vm.startPrank(merchant);
        vm.expectRevert(abi.encodeWithSelector(BlocklistToken.Blocked.selector, merchant));
        escrows.withdrawCredit(address(blocking), merchant, PRIZE);
        escrows.withdrawCredit(address(blocking), stranger, PRIZE);
        vm.stopPrank();
        assertEq(blocking.balanceOf(stranger), PRIZE);
        _conserved(blocking);
    }

    // ── re-entry ──

    /// Every entry is called from within the token's transfer, before and after the money moves, by an account that has
    /// every right: payer, recipient, creditor and curer at once. The guarded ones are barred; the others may pass and
    /// must leave the books right.
    function test_reentrant_GuardedEntriesAreBarredInEveryStep() external {
        for (uint256 step; step < 5; ++step) {
            uint256 before = vm.snapshotState();
            _reenter(step);
            vm.revertToState(before);
        }
    }

    function _reenter(uint256 step) private {
        ReentrantToken evil = new ReentrantToken();
        evil.mint(address(evil), 100 ether);
        vm.prank(address(evil));
        evil.approve(address(escrows), type(uint256).max);
        (address second, uint256 secondKey) = makeAddrAndKey("second");

        // The token is payer of two escrows: one open, one insolvent that owes it half a prize.
        _openAs(evil, escrowKey, PENALTY + 5 * PRIZE);
        _openAs(evil, secondKey, PENALTY + PRIZE / 2);
        bytes memory claim = abi.encodeCall(
            escrows.claim, (address(evil), second, r1, signed(secondKey, ticket(second, address(evil), r1, 1, true)))
        );
        evil.execute(address(escrows), 0, claim);

        uint256 guarded;
        {
            ReentrantToken.Call[] memory calls = _entries(evil, second, secondKey);
            guarded = 6;
            evil.arm(calls);
        }
        evil.execute(address(escrows), 0, _entry(step, evil, second));

        (bool[] memory ok, bytes[] memory data) = evil.answers();
        assertEq(ok.length, 2 * 15, "every entry, twice");
        for (uint256 i; i < ok.length; ++i) {
            if (i % 15 >= guarded) continue;
            assertFalse(ok[i], vm.toString(i));
            assertEq(
                data[i],
                abi.encodePacked(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector),
                vm.toString(i)
            );
        }
        // The unguarded ones were not all refused: otherwise this test would show little.
        uint256 passed;
        for (uint256 i; i < ok.length; ++i) {
            if (ok[i]) ++passed;
        }
        assertGe(passed, 5, "unguarded entries that passed");
        _conserved(evil);
    }

    /// @dev What runs outside: each step that moves the token.
    function _entry(uint256 step, ReentrantToken evil, address second) private view returns (bytes memory) {
        address[] memory creditors = new address[](1);
        creditors[0] = address(evil);
        if (step == 0) return abi.encodeCall(escrows.topUp, (escrow, PRIZE));
        if (step == 1) return abi.encodeCall(escrows.raiseCap, (escrow, CAP + 1, PRIZE));
        if (step == 2) return abi.encodeCall(escrows.cure, (second, creditors, 2 ether));
        if (step == 3) {
            return abi.encodeCall(escrows.withdrawCredit, (address(evil), address(evil), PRIZE / 2));
        }
        (, uint256 thirdKey) = _keyOf("third");
        ITicketEscrow.Terms memory t = terms(address(evil));
        return
            abi.encodeCall(
                escrows.open, (vm.addr(thirdKey), t, PENALTY + PRIZE, possession(thirdKey, address(evil), t))
            );
    }

    /// @dev What is tried inside: first the guarded entries, then the others.
    function _entries(ReentrantToken evil, address second, uint256 secondKey)
        private
        view
        returns (ReentrantToken.Call[] memory calls)
    {
        address self = address(evil);
        address[] memory creditors = new address[](1);
        creditors[0] = self;
        (, uint256 fourthKey) = _keyOf("fourth");
        ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](1);
        ITicketEscrow.Winner[] memory list = new ITicketEscrow.Winner[](1);
        list[0] = signed(escrowKey, ticket(escrow, self, r1, 7, true));
        groups[0] = group(escrow, r1, list);
        ITicketEscrow.Ticket memory a = ticket(second, merchant, r1, 9, false);
        ITicketEscrow.Ticket memory b = ticket(second, self, r1, 9, false);

        calls = new ReentrantToken.Call[](15);
        bytes[15] memory data = [
            abi.encodeCall(escrows.topUp, (escrow, PRIZE)),
            abi.encodeCall(escrows.raiseCap, (escrow, CAP + 2, PRIZE)),
            abi.encodeCall(escrows.cure, (second, creditors, PRIZE)),
            abi.encodeCall(escrows.withdrawCredit, (self, self, 0)),
            abi.encodeCall(
                escrows.open, (vm.addr(fourthKey), terms(self), PENALTY, possession(fourthKey, self, terms(self)))
            ),
            abi.encodeCall(escrows.withdrawCredit, (NATIVE, self, 0)),
            abi.encodeCall(escrows.claim, (self, escrow, r1, signed(escrowKey, ticket(escrow, self, r1, 3, true)))),
            abi.encodeCall(escrows.claimBatch, (self, groups)),
            abi.encodeCall(escrows.earmark, (escrow, self, 1, uint64(vm.getBlockTimestamp()))),
            abi.encodeCall(escrows.releaseEarmark, (escrow, self)),
            abi.encodeCall(
                escrows.proveEquivocation,
                (a, sign(secondKey, escrows.ticketDigest(a)), b, sign(secondKey, escrows.ticketDigest(b)))
            ),
            abi.encodeCall(escrows.burn, (second)),
            abi.encodeCall(escrows.requestWithdraw, (escrow)),
            abi.encodeCall(escrows.cancelWithdraw, (escrow)),
            abi.encodeCall(escrows.withdraw, (escrow))
        ];
        for (uint256 i; i < data.length; ++i) {
            calls[i] = ReentrantToken.Call(address(escrows), data[i]);
        }
    }

    /// The one status that can change under a deposit: a payer that withdraws in the middle of its own top-up loses the
    /// top-up (it stays in a closed escrow), and nobody else anything.
    function test_reentrant_WithdrawDuringOwnTopUpHarmsThePayerAlone() external {
        ReentrantToken evil = new ReentrantToken();
        evil.mint(address(evil), 100 ether);
        vm.prank(address(evil));
        evil.approve(address(escrows), type(uint256).max);
        _openAs(evil, escrowKey, PENALTY + BALANCE);
        evil.execute(address(escrows), 0, abi.encodeCall(escrows.requestWithdraw, (escrow)));
        skip(escrows.WITHDRAW_DELAY());
        ReentrantToken.Call[] memory calls = new ReentrantToken.Call[](1);
        calls[0] = ReentrantToken.Call(address(escrows), abi.encodeCall(escrows.withdraw, (escrow)));
        evil.arm(calls);
        evil.execute(address(escrows), 0, abi.encodeCall(escrows.topUp, (escrow, PRIZE)));

        assertEq(uint256(escrows.escrowOf(escrow).status), uint256(ITicketEscrow.Status.CLOSED));
        assertEq(escrows.creditOf(address(evil), address(evil)), PENALTY + BALANCE);
        assertEq(escrows.escrowOf(escrow).balance, PRIZE);
        assertEq(evil.balanceOf(address(escrows)), PENALTY + BALANCE + PRIZE);
    }

    // ── helpers ──

    function _openAs(ReentrantToken evil, uint256 key, uint256 amount) private {
        ITicketEscrow.Terms memory t = terms(address(evil));
        evil.execute(
            address(escrows),
            0,
            abi.encodeCall(escrows.open, (vm.addr(key), t, amount, possession(key, address(evil), t)))
        );
    }

    function _keyOf(string memory name) private pure returns (address, uint256 key) {
        key = uint256(keccak256(bytes(name)));
        return (vm.addr(key), key);
    }

    function _give(MintableToken asset, address who) private {
        asset.mint(who, 100 ether);
        vm.prank(who);
        asset.approve(address(escrows), type(uint256).max);
    }

    function _claim(uint64 nonce) private {
        ITicketEscrow.Winner memory w = winner(nonce);
        vm.prank(merchant);
        escrows.claim(merchant, escrow, r1, w);
    }

    /// @dev I1: what the books say is what the contract holds.
    function _conserved(MintableToken asset) private view {
        string[4] memory names = ["escrow", "second", "third", "fourth"];
        uint256 sum;
        for (uint256 i; i < names.length; ++i) {
            ITicketEscrow.Escrow memory e = escrows.escrowOf(vm.addr(uint256(keccak256(bytes(names[i])))));
            sum += e.balance + e.penalty + e.earmarked;
        }
        address[5] memory accounts = [merchant, payer, stranger, BURN, address(asset)];
        for (uint256 i; i < accounts.length; ++i) {
            sum += escrows.creditOf(address(asset), accounts[i]);
        }
        assertEq(asset.balanceOf(address(escrows)), sum);
    }
}
