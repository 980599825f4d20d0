// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

contract ProveDoubleReceiptTest is StepTest {
    // ── proving ──

    function test_proveDoubleReceipt_LowersTheClientOnly() external eachAsset {
        vm.expectEmit(address(channels));
        emit IPaymentChannel.DoubleReceiptProven(id, 7);
        _prove(stranger, _receipt(7, "one"), _receipt(7, "two"));
        assertEq(reputationOf(client), 50);
        assertEq(reputationOf(vendor), 90);
        assertCredits(0, 0);
        IPaymentChannel.Channel memory c = channels.channelOf(its());
        assertTrue(c.doubleReceiptProven);
        assertFalse(c.badLockProven);
        assertEq(uint256(c.status), uint256(IPaymentChannel.Status.OPEN));
    }

    /// A difference in any field but channel and index is one.
    function test_proveDoubleReceipt_OfAnyDifference() external eachAsset {
        for (uint256 field; field < 4; ++field) {
            uint256 start = vm.snapshotState();
            IPaymentChannel.Receipt memory b = _receipt(7, "one");
            if (field == 0) b.itemHash = 0;
            if (field == 1) b.cumulative += 1;
            if (field == 2) b.issuedAt += 1;
            if (field == 3) b.transcript = 0;
            _prove(stranger, _receipt(7, "one"), b);
            assertEq(reputationOf(client), 50);
            vm.revertToState(start);
        }
    }

    function test_proveDoubleReceipt_AfterTheEnd() external eachAsset {
        uint256 start = vm.snapshotState();
        close(7);
        _prove(vendor, _receipt(7, "one"), _receipt(7, "two"));
        assertEq(reputationOf(client), 50);
        vm.revertToState(start);
        refund();
        _prove(vendor, _receipt(7, "one"), _receipt(7, "two"));
        assertEq(reputationOf(client), 50);
    }

    function test_proveDoubleReceipt_StopsAtZero() external eachAsset {
        setReputation(client, 29);
        _prove(stranger, _receipt(7, "one"), _receipt(7, "two"));
        assertEq(reputationOf(client), 0);
    }

    /// Each kind of proof counts once, and they do not stand in each other's way.
    function test_proveDoubleReceipt_RevertWhen_AlreadyProven() external eachAsset {
        _prove(stranger, _receipt(7, "one"), _receipt(7, "two"));
        _refused(
            _receipt(8, "one"), _receipt(8, "two"), abi.encodeWithSelector(IPaymentChannel.AlreadyProven.selector, id)
        );
        assertEq(reputationOf(client), 50);
    }

    // ── refusing ──

    function test_proveDoubleReceipt_RevertWhen_OneReceiptTwice() external eachAsset {
        IPaymentChannel.Receipt memory r = _receipt(7, "one");
        bytes32 digest = channels.receiptDigest(r);
        _refused(r, r, abi.encodeWithSelector(IPaymentChannel.NotDoubleReceipt.selector, digest, digest));
    }

    function test_proveDoubleReceipt_RevertWhen_IndicesDiffer() external eachAsset {
        IPaymentChannel.Receipt memory a = _receipt(7, "one");
        IPaymentChannel.Receipt memory b = _receipt(8, "one");
        _refused(a, b, _not(a, b));
    }

    function test_proveDoubleReceipt_RevertWhen_ChannelsDiffer() external eachAsset {
        IPaymentChannel.Receipt memory a = _receipt(7, "one");
        IPaymentChannel.Receipt memory b = _receipt(7, "two");
        b.channelId = bytes32(uint256(1));
        _refused(a, b, _not(a, b));
        _refused(b, a, abi.encodeWithSelector(IPaymentChannel.WrongChannel.selector, bytes32(uint256(1)), id));
    }

    function test_proveDoubleReceipt_RevertWhen_AnotherKeySigned() external eachAsset {
        IPaymentChannel.Receipt memory a = _receipt(7, "one");
        IPaymentChannel.Receipt memory b = _receipt(7, "two");
        IPaymentChannel.Signature memory good = sign(receiptKey, channels.receiptDigest(a));
        _refusedSigned(a, good, b, sign(vendorKey, channels.receiptDigest(b)), wrongSigner(vendor, receipts));
        _refusedSigned(b, sign(vendorKey, channels.receiptDigest(b)), a, good, wrongSigner(vendor, receipts));
        IPaymentChannel.Signature[] memory spoiled = unrecoverable(sign(receiptKey, channels.receiptDigest(b)));
        for (uint256 i; i < spoiled.length; ++i) {
            _refusedSigned(a, good, b, spoiled[i], wrongSigner(address(0), receipts));
        }
    }

    function test_proveDoubleReceipt_RevertWhen_TermsAreUnknown() external eachAsset {
        IPaymentChannel.Receipt memory a = _receipt(7, "one");
        IPaymentChannel.Receipt memory b = _receipt(7, "two");
        IPaymentChannel.Signature memory ofA = sign(receiptKey, channels.receiptDigest(a));
        IPaymentChannel.Signature memory ofB = sign(receiptKey, channels.receiptDigest(b));
        IPaymentChannel.Terms memory other = otherTerms();
        vm.expectRevert(unknownTerms());
        channels.proveDoubleReceipt(other, a, ofA, b, ofB);
    }

    // ── helpers ──

    function _receipt(uint32 index, string memory item) private view returns (IPaymentChannel.Receipt memory r) {
        r = receiptOf(its(), index, TRANSCRIPT);
        r.itemHash = keccak256(bytes(item));
    }

    function _not(IPaymentChannel.Receipt memory a, IPaymentChannel.Receipt memory b)
        private
        view
        returns (bytes memory)
    {
        return abi.encodeWithSelector(
            IPaymentChannel.NotDoubleReceipt.selector, channels.receiptDigest(a), channels.receiptDigest(b)
        );
    }

    function _prove(address caller, IPaymentChannel.Receipt memory a, IPaymentChannel.Receipt memory b) private {
        IPaymentChannel.Signature memory ofA = sign(receiptKey, channels.receiptDigest(a));
        IPaymentChannel.Signature memory ofB = sign(receiptKey, channels.receiptDigest(b));
        vm.prank(caller);
        channels.proveDoubleReceipt(its(), a, ofA, b, ofB);
    }

    function _refused(IPaymentChannel.Receipt memory a, IPaymentChannel.Receipt memory b, bytes memory refusal)
        private
    {
        _refusedSigned(
            a, sign(receiptKey, channels.receiptDigest(a)), b, sign(receiptKey, channels.receiptDigest(b)), refusal
        );
    }

    function _refusedSigned(
        IPaymentChannel.Receipt memory a,
        IPaymentChannel.Signature memory ofA,
        IPaymentChannel.Receipt memory b,
        IPaymentChannel.Signature memory ofB,
        bytes memory refusal
    ) private {
        vm.expectRevert(refusal);
        vm.prank(stranger);
        channels.proveDoubleReceipt(its(), a, ofA, b, ofB);
    }
}
