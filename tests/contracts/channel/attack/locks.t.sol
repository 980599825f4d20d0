// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Rows C-4, C-5 and C-6. A lock cannot be judged before it opens, a mask of 32 bytes leaves half of a signature bare, and of
// every ECDSA signature there is a second one, which unlocks garbage. Here no value depends on a lock, the mask has 64 bytes,
// and a tag pins the one signature that opens.

import {LockTest} from "../LockTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

contract LocksTest is LockTest {
    /// The paper's Algorithm 1 is won with (r, n − s): it verifies, and the lock opens to garbage.
    function test_attack_malleated_opener() external onlyNative {
        IPaymentChannel.Signature memory twin = malleated(sigmas[2]);
        bytes32 digest = keccak256("any message");
        IPaymentChannel.Signature memory s = sign(receiptKey, digest);
        assertEq(recover(digest, malleated(s)), receipts, "the precompile takes either");

        // By the paper's rule the vendor ends with 64 bytes that are nobody's signature, and cannot say whose fault it is.
        (bytes32 maskR, bytes32 maskS) = h64(twin);
        bytes32 garbageR = leaves[2].lockR ^ maskR;
        bytes32 garbageS = leaves[2].lockS ^ maskS;
        assertTrue(garbageR != sigmas[1].r && garbageS != sigmas[1].s, "garbage");

        // Ours: the twin does not have the tag, so it is no opener, and no proof against the client that sent the right one.
        assertNotEq(tagOf(id, 3, twin.r, twin.s), leaves[2].tag);
        IPaymentChannel.SignedLeaf memory bad = signedLeaf(2);
        IPaymentChannel.SignedLeaf memory before = signedLeaf(1);
        vm.expectPartialRevert(IPaymentChannel.OpenerNotTagged.selector);
        vm.prank(vendor);
        channels.proveBadLock(its(), bad, before, twin.r, twin.s);
        // As the last receipt it is none: the money moves, the reputation does not.
        IPaymentChannel.LastReceipt memory last = lastReceipt(its(), 3, TRANSCRIPT);
        last.sigma = malleated(last.sigma);
        IPaymentChannel.Proof memory p = proof(its(), 3);
        vm.prank(vendor);
        channels.close(its(), p, TRANSCRIPT, last);
        assertCredits(3 * uint256(UNIT), DEPOSIT - 3 * uint256(UNIT));
        assertEq(reputationOf(client), 80);
    }

    /// Whatever the locks are, proven bad or not: every step moves the same money.
    function testFuzz_attack_garbage_lock_value_unaffected(bytes32 garbage, uint32 index, bool proven)
        external
        onlyNative
    {
        index = uint32(bound(index, 0, LENGTH));
        leaves[2].lockR ^= garbage;
        leaves[2].lockS ^= garbage;
        if (proven && garbage != 0) {
            prove(2);
            assertEq(reputationOf(client), 65);
        }
        close(index);
        assertCredits(uint256(index) * UNIT, uint256(LENGTH - index) * UNIT);
    }

    /// A mask of one hash leaves `s` bare (zero-padded) or gives away r XOR s (used twice). Two hashes do neither.
    function test_attack_short_mask_rejected() external onlyNative {
        IPaymentChannel.Signature memory previous = sigmas[1];
        IPaymentChannel.Signature memory next = sigmas[2];
        bytes32 mask = keccak256(bytes.concat(next.r, next.s));
        // Zero-padded: anyone reads half of the signature off the lock.
        (, bytes32 padded) = (previous.r ^ mask, previous.s);
        assertEq(padded, previous.s);
        // Used twice: anyone has one half from the other.
        bytes32 halves = (previous.r ^ mask) ^ (previous.s ^ mask);
        assertEq(halves, previous.r ^ previous.s);
        // Ours gives away neither, and a lock of the short kind does not open.
        assertNotEq(leaves[2].lockS, previous.s);
        assertNotEq(leaves[2].lockR ^ leaves[2].lockS, previous.r ^ previous.s);
        (leaves[2].lockR, leaves[2].lockS) = (previous.r ^ mask, previous.s ^ mask);
        prove(2);
        assertEq(reputationOf(client), 65);
    }
}
