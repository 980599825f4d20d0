// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Row C-14. "Higher than 50", "above 50", "below 50 … not allow": 50 itself is left open, and so is what a deduction
// "according to severity" costs. Here 50 admits, and only proofs lower.

import {LockTest} from "../LockTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

contract ReputationTest is LockTest {
    function test_reputation_49_50_51() external onlyNative {
        uint8[3] memory reputations = [49, 50, 51];
        for (uint256 i; i < 9; ++i) {
            (uint8 c, uint8 v) = (reputations[i % 3], reputations[i / 3]);
            setReputation(client, c);
            setReputation(vendor, v);
            bytes32 salt = keccak256(abi.encode(i));
            IPaymentChannel.OpenPermit memory permit = permitOf(asset, salt, LENGTH);
            IPaymentChannel.Signature memory sigma = signPermit(permit);
            if (c < 50 || v < 50) {
                vm.expectRevert(
                    abi.encodeWithSelector(IPaymentChannel.ReputationTooLow.selector, c < 50 ? client : vendor, 49, 50)
                );
            }
            vm.prank(client);
            channels.open{value: DEPOSIT}(permit, salt, bank, sigma);
        }
    }

    /// One bad lock from 64 closes the door; one from 65 does not.
    function test_reputation_ABadLockAt64ShutsTheDoor() external onlyNative {
        spoil(2);
        setReputation(client, 64);
        prove(2);
        bytes32 salt = keccak256("next");
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, salt, LENGTH);
        IPaymentChannel.Signature memory sigma = signPermit(permit);
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannel.ReputationTooLow.selector, client, 49, 50));
        vm.prank(client);
        channels.open{value: DEPOSIT}(permit, salt, bank, sigma);
        setReputation(client, 50);
        open(permitOf(asset, salt, LENGTH), salt);
    }

    /// A vendor cannot make a client worse by its own doing: an unopened lock, a frozen channel, a close without a receipt
    /// change nothing (C-13: there is no flag to raise).
    function test_attack_vendor_cannot_lower_an_honest_client() external onlyNative {
        for (uint256 i; i < indices.length; ++i) {
            IPaymentChannel.SignedLeaf memory bad = signedLeaf(i);
            IPaymentChannel.SignedLeaf memory before = predecessorOf(i);
            for (uint256 j; j < indices.length; ++j) {
                vm.prank(vendor);
                vm.expectRevert();
                channels.proveBadLock(its(), bad, before, sigmas[j].r, sigmas[j].s);
            }
        }
        close(6);
        assertEq(reputationOf(client), 80);
    }
}
