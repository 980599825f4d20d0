// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {LockTest} from "./LockTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

/// @notice H8: status only moves along the diagram of {IPaymentChannel}. Every step is tried in every state with arguments
/// and caller that leave the state as the only reason to refuse it.
contract StatusTest is LockTest {
    enum State {
        MISSING,
        OPENED,
        TOPPED_UP,
        EXPIRED,
        CLOSED,
        COOPERATIVELY_CLOSED,
        REFUNDED
    }

    enum Step {
        OPEN,
        TOP_UP,
        CHECKPOINT,
        CLOSE,
        CLOSE_ALL, // a batch
        COOPERATIVE_CLOSE,
        REFUND,
        PROVE_BAD_LOCK,
        PROVE_DOUBLE_RECEIPT
    }

    IPaymentChannel.Status private constant NONE = IPaymentChannel.Status.NONE;
    IPaymentChannel.Status private constant OPEN = IPaymentChannel.Status.OPEN;
    IPaymentChannel.Status private constant CLOSED = IPaymentChannel.Status.CLOSED;

    /// @dev The status after a step; `NONE` where it is refused, and never the status of a channel that exists.
    mapping(State => mapping(Step => IPaymentChannel.Status)) private _next;
    uint256 private _tried;
    uint256 private _passed;

    function _arrange() internal override {
        super._arrange();
        spoil(2);
        _next[State.MISSING][Step.OPEN] = OPEN;
        for (uint256 state = uint256(State.OPENED); state <= uint256(State.EXPIRED); ++state) {
            bool live = State(state) != State.EXPIRED;
            if (live) {
                _next[State(state)][Step.TOP_UP] = OPEN;
                _next[State(state)][Step.CHECKPOINT] = OPEN;
                _next[State(state)][Step.CLOSE] = CLOSED;
                _next[State(state)][Step.CLOSE_ALL] = CLOSED;
            } else {
                _next[State(state)][Step.REFUND] = CLOSED;
            }
            _next[State(state)][Step.COOPERATIVE_CLOSE] = CLOSED;
            _next[State(state)][Step.PROVE_BAD_LOCK] = OPEN;
            _next[State(state)][Step.PROVE_DOUBLE_RECEIPT] = OPEN;
        }
        for (uint256 state = uint256(State.CLOSED); state <= uint256(State.REFUNDED); ++state) {
            _next[State(state)][Step.PROVE_BAD_LOCK] = CLOSED;
            _next[State(state)][Step.PROVE_DOUBLE_RECEIPT] = CLOSED;
        }
    }

    function test_status_OnlyTheAllowedStepsPassInEachState() external eachAsset {
        _tried = 0;
        _passed = 0;
        for (uint256 state; state <= uint256(type(State).max); ++state) {
            for (uint256 step; step <= uint256(type(Step).max); ++step) {
                uint256 before = vm.snapshotState();
                _try(State(state), Step(step));
                (uint256 tried, uint256 passed) = (_tried, _passed);
                vm.revertToState(before);
                (_tried, _passed) = (tried, passed);
            }
        }
        assertEq(_tried, 7 * 9, "every pair was tried");
        assertEq(_passed, 1 + 7 + 7 + 4 + 3 * 2, "as many as the table names");
    }

    function _try(State state, Step step) private {
        _reach(state);
        (IPaymentChannel.Status from,) = channels.statusOf(id);
        IPaymentChannel.Status to = _next[state][step];
        string memory name = string.concat("state ", vm.toString(uint256(state)), ", step ", vm.toString(uint256(step)));
        bytes memory refusal = _refusal(state, step, from);

        uint256 credits = creditOf(vendor) + creditOf(client);
        (bool ok, bytes memory data) = _do(step);

        ++_tried;
        (IPaymentChannel.Status after_,) = channels.statusOf(id);
        if (to == NONE) {
            assertEq(uint256(after_), uint256(from), name);
            assertEq(creditOf(vendor) + creditOf(client), credits, name);
            // A batch never reverts for a channel it cannot close, so it is judged by its effect.
            assertEq(ok, step == Step.CLOSE_ALL, name);
            if (!ok) assertEq(data, refusal, name);
        } else {
            assertTrue(ok, name);
            assertEq(uint256(after_), uint256(to), name);
            ++_passed;
        }
    }

    /// @dev Brings the default channel into a state.
    function _reach(State state) private {
        if (state == State.MISSING) {
            // As before it was opened: its one slot is empty.
            vm.store(address(channels), _slotOf(id), 0);
            return;
        }
        if (state == State.TOPPED_UP) topUp(its(), longer(its(), 120), LENGTH);
        if (state == State.EXPIRED) vm.warp(expiry + 1);
        if (state == State.CLOSED) close(1);
        if (state == State.COOPERATIVELY_CLOSED) {
            closeTogether(its(), 1);
            setReputation(client, 80);
            setReputation(vendor, 90);
        }
        if (state == State.REFUNDED) refund();
    }

    /// @dev Where the channel's one slot is: its mapping is the one after credit (0) and EIP-712's two fallback strings (1,
    /// 2) and operators (3).
    function _slotOf(bytes32 channelId) private pure returns (bytes32) {
        return keccak256(abi.encode(channelId, uint256(4)));
    }

    function _do(Step step) private returns (bool ok, bytes memory data) {
        (address caller, uint256 value, bytes memory call) = _call(step);
        vm.prank(caller);
        return address(channels).call{value: valueOf(value)}(call);
    }

    function _call(Step step) private view returns (address caller, uint256 value, bytes memory call) {
        if (step == Step.OPEN) {
            return (client, DEPOSIT, abi.encodeCall(channels.open, (terms.permit, SALT, bank, sigma0)));
        }
        if (step == Step.TOP_UP) {
            IPaymentChannel.OpenPermit memory permit = longer(its(), 150);
            uint256 length = channels.channelOf(its()).length;
            if (length == 0) length = LENGTH;
            return (client, (150 - length) * UNIT, abi.encodeCall(channels.topUp, (its(), permit, signPermit(permit))));
        }
        if (step == Step.CHECKPOINT) {
            return (stranger, 0, abi.encodeCall(channels.checkpoint, (its(), proof(its(), 5))));
        }
        if (step == Step.CLOSE) {
            return (vendor, 0, abi.encodeCall(channels.close, (its(), proof(its(), 5), TRANSCRIPT, noReceipt())));
        }
        if (step == Step.CLOSE_ALL) {
            IPaymentChannel.CloseItem[] memory items = new IPaymentChannel.CloseItem[](1);
            items[0] = IPaymentChannel.CloseItem(its(), proof(its(), 5), TRANSCRIPT, noReceipt());
            return (vendor, 0, abi.encodeCall(channels.batchClose, (items)));
        }
        if (step == Step.COOPERATIVE_CLOSE) {
            return (
                client,
                0,
                abi.encodeCall(
                    channels.cooperativeClose, (its(), 5, signClose(clientKey, id, 5), signClose(vendorKey, id, 5))
                )
            );
        }
        if (step == Step.REFUND) return (client, 0, abi.encodeCall(channels.refund, (its())));
        if (step == Step.PROVE_BAD_LOCK) {
            return (
                vendor,
                0,
                abi.encodeCall(channels.proveBadLock, (its(), signedLeaf(2), signedLeaf(1), sigmas[2].r, sigmas[2].s))
            );
        }
        IPaymentChannel.Receipt memory a = receiptOf(its(), 7, TRANSCRIPT);
        IPaymentChannel.Receipt memory b = receiptOf(its(), 7, 0);
        return (
            stranger,
            0,
            abi.encodeCall(
                channels.proveDoubleReceipt,
                (its(), a, sign(receiptKey, channels.receiptDigest(a)), b, sign(receiptKey, channels.receiptDigest(b)))
            )
        );
    }

    /// @dev How each step says no.
    function _refusal(State state, Step step, IPaymentChannel.Status from) private view returns (bytes memory) {
        if (step == Step.OPEN) return abi.encodeWithSelector(IPaymentChannel.ChannelExists.selector, id);
        if (step == Step.PROVE_BAD_LOCK || step == Step.PROVE_DOUBLE_RECEIPT) {
            return abi.encodeWithSelector(IPaymentChannel.UnknownTerms.selector, channels.termsHash(its()), bytes32(0));
        }
        if (from != OPEN) return wrongStatus(from);
        if (state == State.EXPIRED) return tooLate();
        return abi.encodeWithSelector(IPaymentChannel.RefundTooEarly.selector, vm.getBlockTimestamp(), expiry);
    }
}
