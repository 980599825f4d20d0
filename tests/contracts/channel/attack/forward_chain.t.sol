// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Rows C-2 and C-3. The paper's coins run forward, f_i = H(f_{i-1}): who has seen one makes all that follow. And what the
// vendor is paid against is a signature that only the last opener gives it. Ours run backwards, as PayWord's do, and each
// is money by itself.

import {StepTest} from "../StepTest.sol";
import {PaperChannel} from "./PaperChannel.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

contract ForwardChainTest is StepTest {
    function test_attack_forward_chain_predicts_coins() external onlyNative {
        // The paper: paid for one, the vendor takes all.
        bytes32 first = keccak256("f_1");
        vm.prank(client);
        PaperChannel paper =
            new PaperChannel{value: 100 * uint256(UNIT)}(vendor, receipts, first, UNIT, block.timestamp + 1 days);
        paper.redeem(100, paper.coin(first, 100));
        assertEq(vendor.balance, 100 * uint256(UNIT), "one coin was spent");

        // Ours: what follows from a word is what was paid before it.
        bytes32 word = wordAt(its(), 1);
        for (uint32 index = 2; index <= LENGTH; ++index) {
            IPaymentChannel.Proof memory p;
            (p.index, p.word) = (index, below(word, id)); // the only thing a hash can make of it
            vm.expectPartialRevert(IPaymentChannel.WordNotInChain.selector);
            channels.checkpoint(its(), p);
            p.word = word;
            vm.expectPartialRevert(IPaymentChannel.WordNotInChain.selector);
            channels.checkpoint(its(), p);
        }
        close(1);
        assertCredits(UNIT, DEPOSIT - UNIT);
    }

    /// Wherever the client stops, the vendor has what it was paid.
    function test_attack_abort_at_i_vendor_paid_i() external onlyNative {
        // The paper: at payment 99 of 100 no lock is open, so there is no signature, and the time lock returns everything.
        vm.prank(client);
        PaperChannel paper = new PaperChannel{value: 100 * uint256(UNIT)}(
            vendor, receipts, keccak256("f_1"), UNIT, block.timestamp + 1 days
        );
        uint256 before = client.balance;
        vm.prank(vendor);
        vm.expectRevert("no signature");
        paper.close(99, keccak256("payment 99"), 27, bytes32(uint256(1)), bytes32(uint256(1)));
        uint256 start = vm.getBlockTimestamp();
        vm.warp(start + 1 days + 1);
        vm.prank(client);
        paper.refund();
        assertEq(client.balance - before, 100 * uint256(UNIT), "goods for nothing");
        vm.warp(start);

        // Ours, for every i, by either way of closing.
        uint256 state = vm.snapshotState();
        for (uint32 i; i <= LENGTH; ++i) {
            close(i);
            assertCredits(uint256(i) * UNIT, uint256(LENGTH - i) * UNIT);
            vm.revertToState(state);
            if (i == 0) continue;
            IPaymentChannel.Proof memory p = proofFrom(its(), i, i - (i - 1) % 7);
            vm.prank(vendor);
            channels.close(its(), p, TRANSCRIPT, noReceipt());
            assertCredits(uint256(i) * UNIT, uint256(LENGTH - i) * UNIT);
            vm.revertToState(state);
        }
    }

    /// A word is worth nothing in another channel, be it of the same parties, seed and length.
    function test_attack_coin_of_other_channel_rejected() external eachAsset {
        bytes32 salt = keccak256("another channel");
        IPaymentChannel.Terms memory other = open(permitOf(asset, salt, LENGTH), salt);
        assertNotEq(other.permit.anchor, terms.permit.anchor, "one seed, two chains");
        IPaymentChannel.Proof memory p = proof(its(), 40);
        vm.expectPartialRevert(IPaymentChannel.WordNotInChain.selector);
        channels.checkpoint(other, p);
        // Nor a checkpoint that the same receipt key signed for the one.
        p = proofFrom(its(), 40, 40);
        vm.expectPartialRevert(IPaymentChannel.WrongSigner.selector);
        channels.checkpoint(other, p);
        // Even where both have one anchor: the channel is hashed into every step.
        IPaymentChannel.OpenPermit memory twin = permitOf(asset, bytes32(0), LENGTH);
        twin.anchor = terms.permit.anchor;
        other = open(twin, bytes32(0));
        p = proof(its(), 40);
        vm.expectPartialRevert(IPaymentChannel.WordNotInChain.selector);
        channels.checkpoint(other, p);
    }
}
