// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

/// @notice What the tests of locks add: receipts, locks and their signed tree, for payments 1, 2, 3, 5 (a jump of two units)
/// and 6.
abstract contract LockTest is StepTest {
    uint32[5] internal indices = [1, 2, 3, 5, 6];
    IPaymentChannel.Signature[5] internal sigmas;
    IPaymentChannel.Signature internal sigma0;
    IPaymentChannel.LockLeaf[5] internal leaves;

    function _arrange() internal virtual override {
        super._arrange();
        sigma0 = signPermit(terms.permit);
        bytes32 transcript = channels.permitDigest(terms.permit);
        IPaymentChannel.Signature memory previous = sigma0;
        for (uint256 i; i < indices.length; ++i) {
            IPaymentChannel.Receipt memory r = receiptOf(its(), indices[i], 0);
            transcript = keccak256(abi.encode(transcript, r.itemHash));
            r.transcript = transcript;
            IPaymentChannel.Signature memory sigma = sign(receiptKey, channels.receiptDigest(r));
            sigmas[i] = sigma;
            (bytes32 maskR, bytes32 maskS) = h64(sigma);
            leaves[i] = IPaymentChannel.LockLeaf({
                index: indices[i],
                previous: i == 0 ? 0 : indices[i - 1],
                lockR: previous.r ^ maskR,
                lockS: previous.s ^ maskS,
                tag: tagOf(id, indices[i], sigma.r, sigma.s)
            });
            previous = sigma;
        }
    }

    /// @dev H64 as the page has it, over the 64 bytes of a signature.
    function h64(IPaymentChannel.Signature memory s) internal pure returns (bytes32, bytes32) {
        bytes memory x = bytes.concat(s.r, s.s);
        return (keccak256(bytes.concat(hex"01", x)), keccak256(bytes.concat(hex"02", x)));
    }

    function hashLeaf(IPaymentChannel.LockLeaf memory l) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(l.index, l.previous, l.lockR, l.lockS, l.tag))));
    }

    function parent(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }

    /// @dev Tree over the first four leaves; the fifth is alone under a root of its own.
    function rootOf(uint256 i) internal view returns (bytes32) {
        if (i == 4) return hashLeaf(leaves[4]);
        return
            parent(parent(hashLeaf(leaves[0]), hashLeaf(leaves[1])), parent(hashLeaf(leaves[2]), hashLeaf(leaves[3])));
    }

    function signedLeaf(uint256 i) internal view returns (IPaymentChannel.SignedLeaf memory s) {
        s.leaf = leaves[i];
        uint32 index = i == 4 ? 6 : 5;
        s.checkpoint = IPaymentChannel.Checkpoint(id, index, wordAt(its(), index), rootOf(i));
        s.signature = sign(receiptKey, channels.checkpointDigest(s.checkpoint));
        if (i == 4) return s;
        s.path = new bytes32[](2);
        s.path[0] = hashLeaf(leaves[i ^ 1]);
        s.path[1] =
            i < 2 ? parent(hashLeaf(leaves[2]), hashLeaf(leaves[3])) : parent(hashLeaf(leaves[0]), hashLeaf(leaves[1]));
    }

    function noLeaf() internal pure returns (IPaymentChannel.SignedLeaf memory s) {}

    /// @dev The predecessor's leaf, or none for the first payment.
    function predecessorOf(uint256 i) internal view returns (IPaymentChannel.SignedLeaf memory) {
        return i == 0 ? noLeaf() : signedLeaf(i - 1);
    }

    /// @dev What the vendor does once it has `sigma` of the i-th payment.
    function prove(uint256 i) internal {
        IPaymentChannel.SignedLeaf memory bad = signedLeaf(i);
        IPaymentChannel.SignedLeaf memory before = predecessorOf(i);
        vm.prank(vendor);
        channels.proveBadLock(its(), bad, before, sigmas[i].r, sigmas[i].s);
    }

    /// @dev The client locks garbage at the i-th payment, and signs it.
    function spoil(uint256 i) internal {
        leaves[i].lockS = bytes32(uint256(leaves[i].lockS) ^ 1);
    }
}
