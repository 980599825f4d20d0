// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

/// @notice I5: status only moves along the diagram of {ITicketEscrow}. Every step is tried in every state with arguments,
/// caller and time that leave the status as the only reason to refuse it.
contract StatusTest is StepTest {
    enum State {
        MISSING,
        OPENED,
        WITHDRAWING,
        INSOLVENT,
        WITHDRAWN,
        BURNED
    }

    enum Step {
        OPEN,
        TOP_UP,
        RAISE_CAP,
        EARMARK,
        RELEASE,
        REQUEST,
        CANCEL,
        WITHDRAW,
        CLAIM,
        CLAIM_ALL, // a batch that needs more than the balance
        CURE,
        BURN,
        EQUIVOCATION
    }

    ITicketEscrow.Status private constant NONE = ITicketEscrow.Status.NONE;
    ITicketEscrow.Status private constant OPEN = ITicketEscrow.Status.OPEN;
    ITicketEscrow.Status private constant WITHDRAWING = ITicketEscrow.Status.WITHDRAWING;
    ITicketEscrow.Status private constant INSOLVENT = ITicketEscrow.Status.INSOLVENT;
    ITicketEscrow.Status private constant CLOSED = ITicketEscrow.Status.CLOSED;

    /// @dev The status after a step; `NONE` where it is refused, and never the status of an escrow that exists.
    mapping(State => mapping(Step => ITicketEscrow.Status)) private _next;
    uint256 private _tried;
    uint256 private _passed;

    function _arrange() internal override {
        _next[State.MISSING][Step.OPEN] = OPEN;

        _next[State.OPENED][Step.TOP_UP] = OPEN;
        _next[State.OPENED][Step.RAISE_CAP] = OPEN;
        _next[State.OPENED][Step.EARMARK] = OPEN;
        _next[State.OPENED][Step.RELEASE] = OPEN;
        _next[State.OPENED][Step.REQUEST] = WITHDRAWING;
        _next[State.OPENED][Step.CLAIM] = OPEN;
        _next[State.OPENED][Step.CLAIM_ALL] = INSOLVENT;
        _next[State.OPENED][Step.EQUIVOCATION] = OPEN;

        _next[State.WITHDRAWING][Step.TOP_UP] = WITHDRAWING;
        _next[State.WITHDRAWING][Step.RELEASE] = WITHDRAWING;
        _next[State.WITHDRAWING][Step.CANCEL] = OPEN;
        _next[State.WITHDRAWING][Step.WITHDRAW] = CLOSED;
        _next[State.WITHDRAWING][Step.CLAIM] = WITHDRAWING;
        _next[State.WITHDRAWING][Step.CLAIM_ALL] = INSOLVENT;
        _next[State.WITHDRAWING][Step.EQUIVOCATION] = WITHDRAWING;

        _next[State.INSOLVENT][Step.TOP_UP] = INSOLVENT;
        _next[State.INSOLVENT][Step.RELEASE] = INSOLVENT;
        _next[State.INSOLVENT][Step.CLAIM] = INSOLVENT;
        _next[State.INSOLVENT][Step.CLAIM_ALL] = INSOLVENT;
        _next[State.INSOLVENT][Step.CURE] = OPEN;
        _next[State.INSOLVENT][Step.BURN] = CLOSED;
        _next[State.INSOLVENT][Step.EQUIVOCATION] = INSOLVENT;

        _next[State.BURNED][Step.RELEASE] = CLOSED;
    }

    function test_status_OnlyTheAllowedStepsPassInEachState() external eachAsset {
        _tried = 0;
        _passed = 0;
        for (uint256 state; state <= uint256(type(State).max); ++state) {
            for (uint256 step; step <= uint256(type(Step).max); ++step) {
                uint256 before = vm.snapshotState();
                _try(State(state), Step(step));
                uint256 tried = _tried;
                uint256 passed = _passed;
                vm.revertToState(before);
                (_tried, _passed) = (tried, passed);
            }
        }
        assertEq(_tried, 6 * 13, "every pair was tried");
        assertEq(_passed, 24, "as many as the table names");
    }

    function _try(State state, Step step) private {
        _reach(state);
        ITicketEscrow.Status from = statusOf(escrow);
        ITicketEscrow.Status to = _next[state][step];
        // A batch never reverts for a winner it cannot pay, so it is judged by its effect.
        bool batch = step == Step.CLAIM_ALL;
        string memory name = string.concat("state ", vm.toString(uint256(state)), ", step ", vm.toString(uint256(step)));
        bytes memory refusal = _refusal(state, step, from);

        uint256 credit = creditOf(merchant);
        (bool ok, bytes memory data) = _do(step);

        ++_tried;
        if (to == NONE) {
            if (batch) {
                assertTrue(ok, name);
                assertEq(creditOf(merchant), credit, name);
            } else {
                assertFalse(ok, name);
                assertEq(data, refusal, name);
            }
            assertEq(uint256(statusOf(escrow)), uint256(from), name);
        } else {
            assertTrue(ok, name);
            assertEq(uint256(statusOf(escrow)), uint256(to), name);
            ++_passed;
        }
    }

    /// @dev Brings the default escrow into a state, with one prize earmarked for `other` whose time is over, and within
    /// the time for a cure.
    function _reach(State state) private {
        if (state == State.MISSING) return;
        openWith(2 * PRIZE + PRIZE / 2);
        vm.prank(payer);
        escrows.earmark(escrow, other, 1, uint64(vm.getBlockTimestamp()));
        if (state == State.WITHDRAWING || state == State.WITHDRAWN) {
            vm.prank(payer);
            escrows.requestWithdraw(escrow);
        }
        if (state == State.WITHDRAWN) {
            skip(escrows.WITHDRAW_DELAY());
            vm.prank(payer);
            escrows.withdraw(escrow);
        }
        if (state == State.INSOLVENT || state == State.BURNED) {
            claimAs(merchant, 1);
            claimAs(merchant, 2);
        }
        if (state == State.BURNED) {
            skip(escrows.CURE_PERIOD() + 1);
            escrows.burn(escrow);
        }
        skip(escrows.EARMARK_MARGIN() + 1);
    }

    function _do(Step step) private returns (bool ok, bytes memory data) {
        if (step == Step.WITHDRAW) skip(escrows.WITHDRAW_DELAY());
        if (step == Step.BURN) skip(escrows.CURE_PERIOD());
        (address caller, uint256 value, bytes memory call) = _call(step);
        vm.prank(caller);
        return address(escrows).call{value: valueOf(value)}(call);
    }

    function _call(Step step) private view returns (address caller, uint256 value, bytes memory call) {
        if (step == Step.OPEN) {
            ITicketEscrow.Terms memory t = terms(asset);
            return (payer, PENALTY, abi.encodeCall(escrows.open, (escrow, t, PENALTY, possession(escrowKey, payer, t))));
        }
        if (step == Step.TOP_UP) return (payer, 1, abi.encodeCall(escrows.topUp, (escrow, 1)));
        if (step == Step.RAISE_CAP) return (payer, 1, abi.encodeCall(escrows.raiseCap, (escrow, CAP + 1, 1)));
        if (step == Step.EARMARK) {
            return (payer, 0, abi.encodeCall(escrows.earmark, (escrow, other, 0, uint64(vm.getBlockTimestamp()))));
        }
        if (step == Step.RELEASE) return (payer, 0, abi.encodeCall(escrows.releaseEarmark, (escrow, other)));
        if (step == Step.REQUEST) return (payer, 0, abi.encodeCall(escrows.requestWithdraw, (escrow)));
        if (step == Step.CANCEL) return (payer, 0, abi.encodeCall(escrows.cancelWithdraw, (escrow)));
        if (step == Step.WITHDRAW) return (payer, 0, abi.encodeCall(escrows.withdraw, (escrow)));
        if (step == Step.CLAIM) {
            return (merchant, 0, abi.encodeCall(escrows.claim, (merchant, escrow, r1, winner(3))));
        }
        if (step == Step.CLAIM_ALL) {
            ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](1);
            groups[0] = group(escrow, r1, winners(3, 3));
            return (merchant, 0, abi.encodeCall(escrows.claimBatch, (merchant, groups)));
        }
        if (step == Step.CURE) {
            address[] memory creditors = new address[](1);
            creditors[0] = merchant;
            return (payer, PRIZE, abi.encodeCall(escrows.cure, (escrow, creditors, PRIZE)));
        }
        if (step == Step.BURN) return (stranger, 0, abi.encodeCall(escrows.burn, (escrow)));
        ITicketEscrow.Ticket memory a = ticket(escrow, merchant, r1, 9, false);
        ITicketEscrow.Ticket memory b = ticket(escrow, other, r1, 9, false);
        return (
            stranger,
            0,
            abi.encodeCall(
                escrows.proveEquivocation,
                (a, sign(escrowKey, escrows.ticketDigest(a)), b, sign(escrowKey, escrows.ticketDigest(b)))
            )
        );
    }

    /// @dev How each step says no.
    function _refusal(State state, Step step, ITicketEscrow.Status from) private view returns (bytes memory) {
        if (step == Step.OPEN) return abi.encodeWithSelector(ITicketEscrow.EscrowExists.selector, escrow);
        if (step == Step.CLAIM) {
            return abi.encodeWithSelector(ITicketEscrow.EscrowNotPaying.selector, uint256(from), uint256(OPEN));
        }
        if (step == Step.EQUIVOCATION) return abi.encodeWithSelector(ITicketEscrow.PenaltyZero.selector, escrow);
        if (step == Step.TOP_UP) return _wrongStatus(from, OPEN);
        if (step == Step.CURE || step == Step.BURN) return _wrongStatus(from, INSOLVENT);
        // The payer's steps; a missing escrow has no payer.
        if (state == State.MISSING) {
            return abi.encodeWithSelector(ITicketEscrow.NotPayer.selector, payer, address(0));
        }
        if (step == Step.RELEASE) {
            return abi.encodeWithSelector(ITicketEscrow.NothingEarmarked.selector, escrow, other);
        }
        if (step == Step.CANCEL || step == Step.WITHDRAW) return _wrongStatus(from, WITHDRAWING);
        return _wrongStatus(from, OPEN);
    }

    function _wrongStatus(ITicketEscrow.Status got, ITicketEscrow.Status needed) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ITicketEscrow.WrongStatus.selector, got, needed);
    }
}
