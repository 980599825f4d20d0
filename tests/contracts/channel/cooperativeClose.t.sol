// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

contract CooperativeCloseTest is StepTest {
    // ── closing together ──

    function test_cooperativeClose_PaysBothAndRaisesBoth() external eachAsset {
        vm.expectEmit(address(channels));
        emit IPaymentChannel.CooperativelyClosed(id, 40, uint256(40) * UNIT, uint256(60) * UNIT);
        _close(vendor, 40);
        assertCredits(uint256(40) * UNIT, uint256(60) * UNIT);
        assertClosed(40);
        assertEq(reputationOf(client), 81);
        assertEq(reputationOf(vendor), 91);
    }

    function test_cooperativeClose_ByEitherOrTheVendorsOperator() external eachAsset {
        vm.prank(vendor);
        channels.setOperator(stranger, true);
        address[3] memory callers = [client, vendor, stranger];
        for (uint256 i; i < callers.length; ++i) {
            uint256 start = vm.snapshotState();
            _close(callers[i], 40);
            assertCredits(uint256(40) * UNIT, uint256(60) * UNIT);
            vm.revertToState(start);
        }
    }

    function test_cooperativeClose_AtEitherEnd() external eachAsset {
        uint256 start = vm.snapshotState();
        _close(vendor, 0);
        assertCredits(0, DEPOSIT);
        vm.revertToState(start);
        _close(vendor, LENGTH);
        assertCredits(DEPOSIT, 0);
    }

    function test_cooperativeClose_AfterACheckpointPaysTheDifference() external eachAsset {
        checkpoint(40);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.CooperativelyClosed(id, 50, uint256(10) * UNIT, uint256(50) * UNIT);
        _close(client, 50);
        assertCredits(uint256(50) * UNIT, uint256(50) * UNIT);
    }

    function test_cooperativeClose_AtWhatIsSettled() external eachAsset {
        checkpoint(40);
        _close(client, 40);
        assertCredits(uint256(40) * UNIT, uint256(60) * UNIT);
    }

    function test_cooperativeClose_AfterExpiry() external eachAsset {
        vm.warp(expiry + 1000 days);
        _close(vendor, 40);
        assertCredits(uint256(40) * UNIT, uint256(60) * UNIT);
    }

    function test_cooperativeClose_ReputationStopsAt100() external eachAsset {
        setReputation(client, 100);
        setReputation(vendor, 99);
        _close(vendor, 40);
        assertEq(reputationOf(client), 100);
        assertEq(reputationOf(vendor), 100);
    }

    /// After a top-up the whole length is open, under the terms of either chain.
    function test_cooperativeClose_BeyondTheFirstChain() external eachAsset {
        topUp(its(), longer(its(), 150), LENGTH);
        _close(vendor, 140);
        assertCredits(uint256(140) * UNIT, uint256(10) * UNIT);
    }

    // ── refusing ──

    function test_cooperativeClose_RevertWhen_CallerIsNoParty() external eachAsset {
        address[3] memory callers = [stranger, bank, receipts];
        for (uint256 i; i < callers.length; ++i) {
            _refused(
                callers[i], 40, abi.encodeWithSelector(IPaymentChannel.NotParty.selector, callers[i], client, vendor)
            );
        }
    }

    function test_cooperativeClose_RevertWhen_NotOpen() external eachAsset {
        IPaymentChannel.Terms memory missing = its();
        missing.permit.channelId = bytes32(uint256(1));
        vm.expectRevert(wrongStatus(IPaymentChannel.Status.NONE));
        vm.prank(vendor);
        channels.cooperativeClose(missing, 1, none(), none());
        close(1);
        _refused(vendor, 40, wrongStatus(IPaymentChannel.Status.CLOSED));
    }

    function test_cooperativeClose_RevertWhen_TermsAreUnknown() external eachAsset {
        vm.expectRevert(unknownTerms());
        vm.prank(vendor);
        channels.cooperativeClose(otherTerms(), 1, none(), none());
    }

    function test_cooperativeClose_RevertWhen_IndexOutOfRange() external eachAsset {
        checkpoint(40);
        uint32[4] memory indices = [0, 39, LENGTH + 1, type(uint32).max];
        for (uint256 i; i < indices.length; ++i) {
            _refused(
                vendor,
                indices[i],
                abi.encodeWithSelector(IPaymentChannel.IndexOutOfRange.selector, indices[i], 40, LENGTH)
            );
        }
    }

    function test_cooperativeClose_RevertWhen_OneOfThemDidNotSign() external eachAsset {
        IPaymentChannel.Signature memory ofClient = signClose(clientKey, id, 40);
        IPaymentChannel.Signature memory ofVendor = signClose(vendorKey, id, 40);
        _refusedSigned(ofVendor, ofClient, wrongSigner(vendor, client));
        _refusedSigned(ofClient, ofClient, wrongSigner(client, vendor));
        // The receipt key pays; it does not close.
        _refusedSigned(signClose(receiptKey, id, 40), ofVendor, wrongSigner(receipts, client));
        IPaymentChannel.Signature[] memory spoiled = unrecoverable(ofClient);
        for (uint256 i; i < spoiled.length; ++i) {
            _refusedSigned(spoiled[i], ofVendor, wrongSigner(address(0), client));
        }
        spoiled = unrecoverable(ofVendor);
        for (uint256 i; i < spoiled.length; ++i) {
            _refusedSigned(ofClient, spoiled[i], wrongSigner(address(0), vendor));
        }
    }

    function test_cooperativeClose_RevertWhen_AnotherIndexOrChannelWasSigned() external eachAsset {
        IPaymentChannel.Signature memory ofClient = signClose(clientKey, id, 39);
        bytes32 digest = channels.cooperativeCloseDigest(IPaymentChannel.CooperativeClose(id, 40));
        _refusedSigned(ofClient, signClose(vendorKey, id, 40), wrongSigner(recover(digest, ofClient), client));
        ofClient = signClose(clientKey, bytes32(uint256(id) ^ 1), 40);
        _refusedSigned(ofClient, signClose(vendorKey, id, 40), wrongSigner(recover(digest, ofClient), client));
    }

    // ── helpers ──

    function _close(address caller, uint32 index) private {
        IPaymentChannel.Signature memory ofClient = signClose(clientKey, id, index);
        IPaymentChannel.Signature memory ofVendor = signClose(vendorKey, id, index);
        vm.prank(caller);
        channels.cooperativeClose(its(), index, ofClient, ofVendor);
    }

    function _refused(address caller, uint32 index, bytes memory refusal) private {
        IPaymentChannel.Signature memory ofClient = signClose(clientKey, id, index);
        IPaymentChannel.Signature memory ofVendor = signClose(vendorKey, id, index);
        vm.expectRevert(refusal);
        vm.prank(caller);
        channels.cooperativeClose(its(), index, ofClient, ofVendor);
    }

    function _refusedSigned(
        IPaymentChannel.Signature memory ofClient,
        IPaymentChannel.Signature memory ofVendor,
        bytes memory refusal
    ) private {
        vm.expectRevert(refusal);
        vm.prank(vendor);
        channels.cooperativeClose(its(), 40, ofClient, ofVendor);
    }
}
