// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {LockTest} from "./LockTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";
import {IOperators} from "contracts/shared/IOperators.sol";

contract ProveBadLockTest is LockTest {
    // ── proving ──

    /// Each position of the chain: the first, whose predecessor is sigma_0, ones within, one after a jump, and one whose
    /// predecessor is under an earlier root.
    function test_proveBadLock_LowersTheClientOnly() external eachAsset {
        for (uint256 i; i < indices.length; ++i) {
            uint256 start = vm.snapshotState();
            spoil(i);
            vm.expectEmit(address(channels));
            emit IPaymentChannel.BadLockProven(id, indices[i]);
            prove(i);
            assertEq(reputationOf(client), 65);
            assertEq(reputationOf(vendor), 90);
            assertCredits(0, 0);
            IPaymentChannel.Channel memory c = channels.channelOf(its());
            assertTrue(c.badLockProven);
            assertFalse(c.doubleReceiptProven);
            assertEq(uint256(c.status), uint256(IPaymentChannel.Status.OPEN));
            vm.revertToState(start);
        }
    }

    /// Any 64 bytes that are not the lock are a bad one.
    function testFuzz_proveBadLock_AnyGarbage(uint256 i, bytes32 lockR, bytes32 lockS) external onlyNative {
        i = bound(i, 0, 4);
        vm.assume(lockR != leaves[i].lockR || lockS != leaves[i].lockS);
        (leaves[i].lockR, leaves[i].lockS) = (lockR, lockS);
        prove(i);
        assertEq(reputationOf(client), 65);
    }

    /// A lock on the other signature of the same receipt opens to what nobody's tag pins (C-6).
    function test_proveBadLock_OfALockOnAMalleatedReceipt() external onlyNative {
        bytes32 s = bytes32(ORDER - uint256(sigmas[0].s));
        (, bytes32 maskS) = h64(sigmas[1]);
        leaves[1].lockS = s ^ maskS;
        prove(1);
        assertEq(reputationOf(client), 65);
    }

    function test_proveBadLock_ByAnOperator() external eachAsset {
        vm.prank(vendor);
        channels.setOperator(stranger, true);
        spoil(2);
        IPaymentChannel.SignedLeaf memory bad = signedLeaf(2);
        IPaymentChannel.SignedLeaf memory before = signedLeaf(1);
        vm.prank(stranger);
        channels.proveBadLock(its(), bad, before, sigmas[2].r, sigmas[2].s);
        assertEq(reputationOf(client), 65);
    }

    /// At any time: a channel that is over and closed has receipts all the same.
    function test_proveBadLock_AfterTheEnd() external eachAsset {
        spoil(2);
        uint256 start = vm.snapshotState();
        close(6);
        prove(2);
        assertEq(reputationOf(client), 65);
        vm.revertToState(start);
        refund();
        prove(2);
        assertEq(reputationOf(client), 65);
        vm.revertToState(start);
        topUp(its(), longer(its(), 150), LENGTH);
        prove(2);
        assertEq(reputationOf(client), 65);
    }

    function test_proveBadLock_StopsAtZero() external eachAsset {
        spoil(2);
        uint8[3] memory reputations = [0, 15, 16];
        for (uint256 i; i < reputations.length; ++i) {
            uint256 start = vm.snapshotState();
            setReputation(client, reputations[i]);
            prove(2);
            assertEq(reputationOf(client), reputations[i] == 16 ? 1 : 0);
            vm.revertToState(start);
        }
    }

    // ── refusing ──

    /// An honest client cannot be framed at any position.
    function test_proveBadLock_RevertWhen_TheLockOpens() external eachAsset {
        for (uint256 i; i < indices.length; ++i) {
            bytes32 expected = i == 0 ? terms.tag0 : leaves[i - 1].tag;
            _refused(
                signedLeaf(i),
                predecessorOf(i),
                sigmas[i],
                abi.encodeWithSelector(IPaymentChannel.LockOpens.selector, expected)
            );
        }
    }

    function test_proveBadLock_RevertWhen_CallerIsNeitherVendorNorOperator() external eachAsset {
        spoil(2);
        IPaymentChannel.SignedLeaf memory bad = signedLeaf(2);
        IPaymentChannel.SignedLeaf memory before = signedLeaf(1);
        address[3] memory callers = [stranger, client, bank];
        for (uint256 i; i < callers.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IOperators.NotOperator.selector, callers[i], vendor));
            vm.prank(callers[i]);
            channels.proveBadLock(its(), bad, before, sigmas[2].r, sigmas[2].s);
        }
    }

    function test_proveBadLock_RevertWhen_AlreadyProven() external eachAsset {
        spoil(2);
        prove(2);
        spoil(3);
        _refused(
            signedLeaf(3), signedLeaf(2), sigmas[3], abi.encodeWithSelector(IPaymentChannel.AlreadyProven.selector, id)
        );
        assertEq(reputationOf(client), 65);
    }

    /// Another opener than the one that the client's own tag pins, such as its malleated twin, proves nothing.
    function test_proveBadLock_RevertWhen_OpenerIsNotTagged() external eachAsset {
        spoil(2);
        IPaymentChannel.Signature memory twin = malleated(sigmas[2]);
        _refused(
            signedLeaf(2),
            signedLeaf(1),
            twin,
            abi.encodeWithSelector(
                IPaymentChannel.OpenerNotTagged.selector, tagOf(id, 3, twin.r, twin.s), leaves[2].tag
            )
        );
    }

    function test_proveBadLock_RevertWhen_PredecessorIsAnother() external eachAsset {
        spoil(2);
        _refused(
            signedLeaf(2),
            signedLeaf(0),
            sigmas[2],
            abi.encodeWithSelector(IPaymentChannel.WrongPredecessor.selector, 1, 2)
        );
    }

    function test_proveBadLock_RevertWhen_LeafIsNotUnderTheRoot() external eachAsset {
        IPaymentChannel.SignedLeaf memory bad = signedLeaf(2);
        bad.leaf.lockS = 0; // the vendor's doing
        bytes32 got =
            parent(parent(hashLeaf(bad.leaf), hashLeaf(leaves[3])), parent(hashLeaf(leaves[0]), hashLeaf(leaves[1])));
        bytes memory refusal =
            abi.encodeWithSelector(IPaymentChannel.LeafNotUnderRoot.selector, got, bad.checkpoint.locksRoot);
        _refused(bad, signedLeaf(1), sigmas[2], refusal);
        // Nor the predecessor.
        bad = signedLeaf(2);
        IPaymentChannel.SignedLeaf memory before = signedLeaf(1);
        before.leaf.tag = 0;
        got = parent(
            parent(hashLeaf(before.leaf), hashLeaf(leaves[0])), parent(hashLeaf(leaves[2]), hashLeaf(leaves[3]))
        );
        refusal = abi.encodeWithSelector(IPaymentChannel.LeafNotUnderRoot.selector, got, bad.checkpoint.locksRoot);
        _refused(bad, before, sigmas[2], refusal);
    }

    function test_proveBadLock_RevertWhen_RootIsNotSigned() external eachAsset {
        spoil(2);
        IPaymentChannel.SignedLeaf memory bad = signedLeaf(2);
        bad.signature = sign(vendorKey, channels.checkpointDigest(bad.checkpoint));
        _refused(bad, signedLeaf(1), sigmas[2], wrongSigner(vendor, receipts));
        IPaymentChannel.Signature[] memory spoiled = unrecoverable(signedLeaf(2).signature);
        for (uint256 i; i < spoiled.length; ++i) {
            bad.signature = spoiled[i];
            _refused(bad, signedLeaf(1), sigmas[2], wrongSigner(address(0), receipts));
        }
        // Nor the predecessor's.
        IPaymentChannel.SignedLeaf memory before = signedLeaf(1);
        before.signature = malleated(before.signature);
        _refused(signedLeaf(2), before, sigmas[2], wrongSigner(address(0), receipts));
    }

    /// One receipt key may serve several channels; what it signed for one is nothing in another.
    function test_proveBadLock_RevertWhen_RootIsOfAnotherChannel() external eachAsset {
        spoil(2);
        IPaymentChannel.SignedLeaf memory bad = signedLeaf(2);
        bad.checkpoint.channelId = bytes32(uint256(1));
        bad.signature = sign(receiptKey, channels.checkpointDigest(bad.checkpoint));
        _refused(
            bad,
            signedLeaf(1),
            sigmas[2],
            abi.encodeWithSelector(IPaymentChannel.WrongChannel.selector, bytes32(uint256(1)), id)
        );
    }

    function test_proveBadLock_RevertWhen_TermsAreUnknown() external eachAsset {
        spoil(2);
        IPaymentChannel.Terms memory mine = its();
        IPaymentChannel.SignedLeaf memory bad = signedLeaf(2);
        IPaymentChannel.SignedLeaf memory before = signedLeaf(1);
        IPaymentChannel.Terms memory others = otherTerms();
        bytes memory refusal = unknownTerms();
        vm.startPrank(vendor);
        vm.expectRevert(refusal);
        channels.proveBadLock(others, bad, before, sigmas[2].r, sigmas[2].s);
        // A channel that does not exist.
        mine.permit.channelId = 0;
        bytes32 hash = channels.termsHash(mine);
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannel.UnknownTerms.selector, hash, bytes32(0)));
        channels.proveBadLock(mine, bad, before, sigmas[2].r, sigmas[2].s);
        vm.stopPrank();
    }

    /// The receipt chain ends in the sigma_0 of the opening, never in that of a top-up: who chose between them could frame
    /// an honest client.
    function test_proveBadLock_RevertWhen_TermsAreOfATopUp() external eachAsset {
        IPaymentChannel.Terms memory second = topUp(its(), longer(its(), 150), LENGTH);
        IPaymentChannel.SignedLeaf memory honest = signedLeaf(0);
        bytes memory refusal = abi.encodeWithSelector(
            IPaymentChannel.UnknownTerms.selector,
            channels.termsHash(second),
            bytes32(bytes28(channels.termsHash(its())))
        );
        vm.expectRevert(refusal);
        vm.prank(vendor);
        channels.proveBadLock(second, honest, noLeaf(), sigmas[0].r, sigmas[0].s);
    }

    // ── helpers ──

    function _refused(
        IPaymentChannel.SignedLeaf memory bad,
        IPaymentChannel.SignedLeaf memory before,
        IPaymentChannel.Signature memory opener,
        bytes memory refusal
    ) private {
        vm.expectRevert(refusal);
        vm.prank(vendor);
        channels.proveBadLock(its(), bad, before, opener.r, opener.s);
    }
}
