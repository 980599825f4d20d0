// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

contract RefundTest is StepTest {
    function test_refund_ReturnsTheDeposit() external eachAsset {
        vm.warp(expiry + 1);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Refunded(id, 0, DEPOSIT);
        vm.prank(client);
        channels.refund(its());
        assertCredits(0, DEPOSIT);
        assertClosed(0);
    }

    function test_refund_LeavesWhatWasProven() external eachAsset {
        checkpoint(40);
        vm.warp(expiry + 1);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Refunded(id, 40, uint256(60) * UNIT);
        vm.prank(client);
        channels.refund(its());
        assertCredits(uint256(40) * UNIT, uint256(60) * UNIT);
        assertClosed(40);
    }

    function test_refund_OfNothingCloses() external eachAsset {
        checkpoint(LENGTH);
        vm.warp(expiry + 1);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Refunded(id, LENGTH, 0);
        vm.prank(client);
        channels.refund(its());
        assertCredits(DEPOSIT, 0);
        assertClosed(LENGTH);
    }

    /// By the terms of any chain, all of the deposit.
    function test_refund_AfterATopUp() external eachAsset {
        IPaymentChannel.Terms memory second = topUp(its(), longer(its(), 150), LENGTH);
        vm.warp(expiry + 1);
        uint256 start = vm.snapshotState();
        vm.startPrank(client);
        channels.refund(its());
        assertCredits(0, uint256(150) * UNIT);
        vm.revertToState(start);
        channels.refund(second);
        assertCredits(0, uint256(150) * UNIT);
        vm.stopPrank();
    }

    function test_refund_RaisesNobody() external eachAsset {
        refund();
        assertEq(reputationOf(client), 80);
        assertEq(reputationOf(vendor), 90);
    }

    function test_refund_RevertWhen_CallerIsNotTheClient() external eachAsset {
        vm.warp(expiry + 1);
        address[3] memory callers = [stranger, vendor, bank];
        for (uint256 i; i < callers.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IPaymentChannel.NotClient.selector, callers[i], client));
            vm.prank(callers[i]);
            channels.refund(its());
        }
    }

    function test_refund_RevertWhen_TooEarly() external eachAsset {
        uint64[2] memory times = [uint64(vm.getBlockTimestamp()), expiry];
        for (uint256 i; i < times.length; ++i) {
            vm.warp(times[i]);
            _refused(its(), abi.encodeWithSelector(IPaymentChannel.RefundTooEarly.selector, times[i], expiry));
        }
    }

    function test_refund_RevertWhen_NotOpen() external eachAsset {
        IPaymentChannel.Terms memory missing = its();
        missing.permit.channelId = bytes32(uint256(1));
        _refused(missing, wrongStatus(IPaymentChannel.Status.NONE));
        refund();
        _refused(its(), wrongStatus(IPaymentChannel.Status.CLOSED));
    }

    function test_refund_RevertWhen_TermsAreUnknown() external eachAsset {
        vm.warp(expiry + 1);
        _refused(otherTerms(), unknownTerms());
    }

    function _refused(IPaymentChannel.Terms memory of_, bytes memory refusal) private {
        vm.expectRevert(refusal);
        vm.prank(client);
        channels.refund(of_);
    }
}
