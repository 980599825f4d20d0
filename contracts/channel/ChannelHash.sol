// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IPaymentChannel} from "./IPaymentChannel.sol";

/// @title ChannelHash
/// @notice Everything that is hashed in the channel scheme: EIP-712 struct hashes, words, transcripts, tags, locks, leaves.
/// Pure; the domain is the contract's.
library ChannelHash {
    bytes32 internal constant OPEN_PERMIT_TYPEHASH = keccak256(
        "OpenPermit(bytes32 channelId,address client,address vendor,address receiptKey,address asset,uint128 unit,uint32 length,bytes32 anchor,uint8 clientReputation,uint8 vendorReputation,uint64 issuedAt,uint64 expiry)"
    );
    bytes32 internal constant RECEIPT_TYPEHASH = keccak256(
        "Receipt(bytes32 channelId,uint32 index,bytes32 itemHash,uint128 cumulative,uint64 issuedAt,bytes32 transcript)"
    );
    bytes32 internal constant CHECKPOINT_TYPEHASH =
        keccak256("Checkpoint(bytes32 channelId,uint32 index,bytes32 word,bytes32 locksRoot)");
    bytes32 internal constant COOPERATIVE_CLOSE_TYPEHASH =
        keccak256("CooperativeClose(bytes32 channelId,uint32 index)");

    /// @dev Members of an {IPaymentChannel.OpenPermit}, in bytes.
    uint256 private constant PERMIT_SIZE = 12 * 32;

    // ───────────────────────────── EIP-712 ─────────────────────────────

    /// @dev Struct hash of a permit. In assembly because every step pays for it: the words are copied as they came, where
    /// `abi.encode` would take them apart and check each. A word with dirty upper bits only hashes to what no bank signed
    /// and no channel knows.
    function permit(IPaymentChannel.OpenPermit calldata p) internal pure returns (bytes32 hash) {
        bytes32 typehash = OPEN_PERMIT_TYPEHASH;
        assembly ("memory-safe") {
            let start := mload(0x40) // used up before anything else can want it, so not allocated
            mstore(start, typehash)
            calldatacopy(add(start, 0x20), p, PERMIT_SIZE)
            hash := keccak256(start, add(PERMIT_SIZE, 0x20))
        }
    }

    /// @dev Struct hash of a receipt.
    function receipt(IPaymentChannel.Receipt memory r) internal pure returns (bytes32) {
        return keccak256(abi.encode(RECEIPT_TYPEHASH, r));
    }

    /// @dev Struct hash of a checkpoint.
    function checkpoint(bytes32 channelId, uint32 index, bytes32 word, bytes32 locksRoot)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(CHECKPOINT_TYPEHASH, channelId, index, word, locksRoot));
    }

    /// @dev Struct hash of a cooperative close.
    function cooperativeClose(bytes32 channelId, uint32 index) internal pure returns (bytes32) {
        return keccak256(abi.encode(COOPERATIVE_CLOSE_TYPEHASH, channelId, index));
    }

    // ───────────────────────────── Identity ─────────────────────────────

    /// @dev What a channel is called: bound to chain, contract and parties (rule E5).
    function channel(address channels, address client, address vendor, bytes32 salt) internal view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, channels, client, vendor, salt));
    }

    /// @dev What the contract keeps of terms. It takes the permit's struct hash and not its digest: after a fork of the
    /// chain the domain is another one, and a deposit must still find its way out there.
    function terms(bytes32 permitHash, address bank, bytes32 tag0) internal pure returns (bytes32) {
        return keccak256(abi.encode(permitHash, bank, tag0));
    }

    /// @dev The same of terms at hand, copied as they came, for the same reason as {permit}.
    function terms(IPaymentChannel.Terms calldata t) internal pure returns (bytes32 hash) {
        bytes32 permitHash = permit(t.permit);
        assembly ("memory-safe") {
            let start := mload(0x40)
            mstore(start, permitHash)
            calldatacopy(add(start, 0x20), add(t, PERMIT_SIZE), 0x40) // bank and tag0 follow the permit
            hash := keccak256(start, 0x60)
        }
    }

    /// @dev What a top-up must leave as it is: id, client, vendor, receipt key, asset and unit, the permit's first six words.
    function parties(IPaymentChannel.OpenPermit calldata p) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let start := mload(0x40)
            calldatacopy(start, p, 0xc0)
            hash := keccak256(start, 0xc0)
        }
    }

    // ───────────────────────────── Value chain ─────────────────────────────

    /// @dev Walks a word down: `w_{j-1} = keccak256(abi.encode(w_j, channelId))`, `steps` times.
    ///
    /// In assembly for its price. A step hashes two words, just what the scratch space holds: the id stays in its second
    /// word, each hash falls into its first. That is 52 gas a step and no memory is ever allocated, where `abi.encode`
    /// costs 300 and more as memory grows (C-16). Eight steps a round spread the loop's own 40 gas.
    function walk(bytes32 word, bytes32 id, uint256 steps) internal pure returns (bytes32 reached) {
        assembly ("memory-safe") {
            mstore(0x00, word)
            mstore(0x20, id)
            for {} gt(steps, 7) { steps := sub(steps, 8) } {
                mstore(0x00, keccak256(0x00, 0x40))
                mstore(0x00, keccak256(0x00, 0x40))
                mstore(0x00, keccak256(0x00, 0x40))
                mstore(0x00, keccak256(0x00, 0x40))
                mstore(0x00, keccak256(0x00, 0x40))
                mstore(0x00, keccak256(0x00, 0x40))
                mstore(0x00, keccak256(0x00, 0x40))
                mstore(0x00, keccak256(0x00, 0x40))
            }
            for {} steps { steps := sub(steps, 1) } { mstore(0x00, keccak256(0x00, 0x40)) }
            reached := mload(0x00)
        }
    }

    // ───────────────────────────── Receipt chain ─────────────────────────────

    /// @dev Pins the one signature that opens: of every ECDSA signature anyone can make a second one (C-6).
    function tag(bytes32 id, uint256 index, bytes32 r, bytes32 s) internal pure returns (bytes32) {
        return keccak256(abi.encode(id, index, r, s));
    }

    /// @dev Opens a lock: `sigma_previous = lock XOR H64(sigma)` with H64(x) = keccak256(0x01 || x) || keccak256(0x02 || x).
    /// 64 bytes for the 64 of a signature; a mask of 32 would leave half of it bare, or give away r XOR s (C-5).
    function open(bytes32 lockR, bytes32 lockS, bytes32 r, bytes32 s)
        internal
        pure
        returns (bytes32 previousR, bytes32 previousS)
    {
        previousR = lockR ^ keccak256(abi.encodePacked(uint8(1), r, s));
        previousS = lockS ^ keccak256(abi.encodePacked(uint8(2), r, s));
    }

    /// @dev A leaf of the tree of locks; hashed twice, so that no inner node is one.
    function leaf(IPaymentChannel.LockLeaf memory l) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(l))));
    }
}
