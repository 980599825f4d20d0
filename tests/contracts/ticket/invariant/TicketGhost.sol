// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TicketWorld} from "./TicketWorld.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice Ghost state: the books of an observer who sees every transfer and every event, and compares before and after
/// each step. The invariants read nothing else but these books and the contract's views.
abstract contract TicketGhost is TicketWorld {
    enum Step {
        OPEN,
        TOP_UP,
        RAISE_CAP,
        EARMARK,
        RELEASE_EARMARK,
        REQUEST_WITHDRAW,
        CANCEL_WITHDRAW,
        WITHDRAW,
        PAY,
        CLAIM,
        CLAIM_BATCH,
        SELF_DEAL,
        CLAIM_UNASKED,
        CURE,
        BURN,
        PROVE_EQUIVOCATION,
        WITHDRAW_CREDIT,
        SET_OPERATOR,
        DONATE,
        WARP
    }

    struct Flow {
        uint256 deposited; // arrived through the contract's functions
        uint256 donated; // arrived around them
        uint256 claimed; // credited by claims
        uint256 cured; // credited by cures
        uint256 surplus; // credited back to curers
        uint256 returned; // credited by withdrawals
        uint256 burned; // credited to the burn address
        uint256 rewards; // credited to reporters
        uint256 slashed; // penalty taken by equivocation proofs
        uint256 penaltyLeak; // penalty that became credit of anyone but by withdrawal or reward
    }

    struct Book {
        uint256 moneyIn;
        uint256 moneyOut;
        ITicketEscrow.Status status;
        uint256 penalty;
        uint256 requestedAt;
        bool burned;
    }

    struct PairBook {
        uint256 paid; // by claims and cures
        uint256 settled; // Claimed events
    }

    /// @dev All books at once, for the invariants.
    struct Report {
        Flow[2] flows;
        Book[ESCROWS] books;
        PairBook[][] pairs; // by escrow, then as `everyone`
        uint256 settledTwice;
        uint256 payerPaidOutOfTurn;
        uint256 movedOffTable;
        uint256 acceptedButRefused;
        uint256 unclaimable;
    }

    mapping(address asset => Flow) internal flow;
    Book[ESCROWS] internal book;
    mapping(address escrow => mapping(address recipient => PairBook)) internal pairBook;
    mapping(address escrow => mapping(address recipient => mapping(uint64 nonce => uint256))) internal timesSettled;
    mapping(address asset => mapping(address account => uint256)) internal creditBefore;
    mapping(uint256 from => mapping(uint256 to => uint256)) public timesMoved;
    mapping(Step => uint256) public did;
    mapping(Step => uint256) public refused;
    mapping(string place => uint256) internal timesReached;

    uint256 internal settledTwice;
    uint256 internal payerPaidOutOfTurn;
    uint256 internal movedOffTable;
    uint256 public acceptedButRefused;
    /// @dev Block time does not outlive a call of the fuzzer; this does.
    uint256 public nowAt;

    modifier atPresent() {
        vm.warp(nowAt);
        _;
        nowAt = vm.getBlockTimestamp();
    }

    function reach(string memory place) internal {
        timesReached[place] += 1;
    }

    function reached(string memory place) external view returns (uint256) {
        return timesReached[place];
    }

    /// @dev In the order of {Step}.
    function stepNames() public pure returns (string[20] memory) {
        return [
            "open",
            "topUp",
            "raiseCap",
            "earmark",
            "releaseEarmark",
            "requestWithdraw",
            "cancelWithdraw",
            "withdraw",
            "pay (honest tickets admitted)",
            "claim",
            "claimBatch",
            "selfDeal",
            "claimUnasked (must be refused)",
            "cure",
            "burn",
            "proveEquivocation",
            "withdrawCredit",
            "setOperator",
            "donate",
            "warp"
        ];
    }

    // ── acting ──

    /// @dev Makes a call whose outcome is known: `expected` is the revert data, empty for success.
    function act(Step step, address caller, uint256 value, bytes memory data, bytes memory expected)
        internal
        returns (bool ok)
    {
        string memory name = string.concat("the answer to ", stepNames()[uint256(step)]);
        bytes memory answer;
        vm.prank(caller);
        (ok, answer) = address(escrows).call{value: value}(data);
        assertEq(answer, expected, name); // no step returns a value
        assertEq(ok, expected.length == 0, name);
        if (ok) did[step] += 1;
        else refused[step] += 1;
    }

    function noteIn(uint256 e, uint256 amount) internal {
        flow[assetOf(e)].deposited += amount;
        book[e].moneyIn += amount;
    }

    /// @dev Books the `Claimed` events of a call and returns what they say was credited in each asset.
    function noteClaims(Vm.Log[] memory logs) internal returns (uint256 native, uint256 erc20) {
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != ITicketEscrow.Claimed.selector) continue;
            address escrow_ = address(uint160(uint256(logs[i].topics[1])));
            address recipient = address(uint160(uint256(logs[i].topics[2])));
            (uint64 nonce, uint256 fromEarmark, uint256 owed) = abi.decode(logs[i].data, (uint64, uint256, uint256));
            uint256 e = indexOf(escrow_);
            uint256 paid = prizeOf(e) - owed;

            uint256 times = ++timesSettled[escrow_][recipient][nonce];
            if (times > 1) settledTwice += 1;
            pairBook[escrow_][recipient].settled += 1;
            pairBook[escrow_][recipient].paid += paid;
            book[e].moneyOut += paid;
            flow[assetOf(e)].claimed += paid;
            if (assetOf(e) == NATIVE) native += paid;
            else erc20 += paid;
            if (fromEarmark != 0) reach("a claim paid from an earmark");
            if (fromEarmark != 0 && book[e].burned) reach("a claim paid from an earmark of a burned escrow");
            if (owed != 0) reach("a claim recorded as debt");
            if (owed != 0 && paid != 0) reach("a claim paid in part");
        }
    }

    function indexOf(address escrow_) internal view returns (uint256) {
        for (uint256 e; e < ESCROWS; ++e) {
            if (escrowOfKey[e] == escrow_) return e;
        }
        revert("unknown escrow");
    }

    // ── observing ──

    /// @dev Compares the contract with the books after a step: status moves (I5), payers' income (I4), penalty (I8).
    /// `e` is the escrow that the step was about.
    function observe(Step step, uint256 e) internal {
        ITicketEscrow.Escrow[ESCROWS] memory states;
        for (uint256 i; i < ESCROWS; ++i) {
            states[i] = state(i);
        }
        for (uint256 a; a < assets.length; ++a) {
            _observeCredit(step, e, assets[a], states);
        }
        for (uint256 i; i < ESCROWS; ++i) {
            ITicketEscrow.Status from = book[i].status;
            ITicketEscrow.Status to = states[i].status;
            book[i].penalty = states[i].penalty;
            if (from == to) continue;
            book[i].status = to;
            timesMoved[uint256(from)][uint256(to)] += 1;
            if (!_inTable(from, to, step)) movedOffTable += 1;
            if (from == ITicketEscrow.Status.WITHDRAWING && to == ITicketEscrow.Status.INSOLVENT) {
                reach("a claim that cancelled a withdrawal");
            }
        }
    }

    /// @dev The table of {ITicketEscrow}: which step may move an escrow from where to where.
    function _inTable(ITicketEscrow.Status from, ITicketEscrow.Status to, Step step) private pure returns (bool) {
        bool claims = step == Step.CLAIM || step == Step.CLAIM_BATCH || step == Step.SELF_DEAL;
        if (from == ITicketEscrow.Status.NONE) return to == ITicketEscrow.Status.OPEN && step == Step.OPEN;
        if (from == ITicketEscrow.Status.OPEN) {
            return (to == ITicketEscrow.Status.WITHDRAWING && step == Step.REQUEST_WITHDRAW)
                || (to == ITicketEscrow.Status.INSOLVENT && claims);
        }
        if (from == ITicketEscrow.Status.WITHDRAWING) {
            return (to == ITicketEscrow.Status.OPEN && step == Step.CANCEL_WITHDRAW)
                || (to == ITicketEscrow.Status.CLOSED && step == Step.WITHDRAW)
                || (to == ITicketEscrow.Status.INSOLVENT && claims);
        }
        if (from == ITicketEscrow.Status.INSOLVENT) {
            return (to == ITicketEscrow.Status.OPEN && step == Step.CURE)
                || (to == ITicketEscrow.Status.CLOSED && step == Step.BURN);
        }
        return false;
    }

    function _observeCredit(Step step, uint256 e, address asset, ITicketEscrow.Escrow[ESCROWS] memory states) private {
        uint256 rise; // of everyone but the burn address
        for (uint256 i; i < everyone.length; ++i) {
            uint256 credit = escrows.creditOf(asset, everyone[i]);
            uint256 before = creditBefore[asset][everyone[i]];
            if (credit == before) continue;
            if (credit > before) {
                rise += credit - before;
                if (isPayer(everyone[i]) && !_inTurn(step, e)) payerPaidOutOfTurn += 1;
            }
            creditBefore[asset][everyone[i]] = credit;
        }
        uint256 burned = escrows.creditOf(asset, BURN) - creditBefore[asset][BURN];
        creditBefore[asset][BURN] += burned;
        flow[asset].burned += burned;

        // Penalty that is gone, and whether anyone but its payer (by withdrawal) or a reporter got of it.
        uint256 lost;
        for (uint256 i; i < ESCROWS; ++i) {
            uint256 penalty = states[i].penalty;
            if (assetOf(i) == asset && penalty < book[i].penalty) lost += book[i].penalty - penalty;
        }
        if (lost == 0 || step == Step.WITHDRAW) return;
        uint256 allowed = step == Step.PROVE_EQUIVOCATION ? lost / 10 : 0;
        if (rise > allowed) flow[asset].penaltyLeak += rise - allowed;
        if (burned + rise < lost) flow[asset].penaltyLeak += lost - burned - rise;
    }

    /// @dev The only way a payer's credit may rise: the withdrawal of an escrow of its own that was in no debt, a full
    /// delay after it was asked for, by the observer's own clock.
    function _inTurn(Step step, uint256 e) private view returns (bool) {
        return step == Step.WITHDRAW && book[e].status == ITicketEscrow.Status.WITHDRAWING
            && vm.getBlockTimestamp() >= book[e].requestedAt + 3 days && state(e).debt == 0;
    }

    function isPayer(address account) internal view returns (bool) {
        return account == payers[0] || account == payers[1];
    }
}
