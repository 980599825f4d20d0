// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IOfflineVault} from "./IOfflineVault.sol";

/// @title OfflineHash
/// @notice Everything that is hashed in the offline scheme: EIP-712 struct hashes, ids, the fold of a payment log; and the
/// parser of the TPM certificate that speaks of one. The domain is the contract's.
library OfflineHash {
    bytes32 internal constant REGISTRATION_TYPEHASH =
        keccak256("Registration(bytes32 wallet,address owner,uint32 class,bytes32 log,uint64 validUntil)");
    bytes32 internal constant DEPOSIT_RECEIPT_TYPEHASH =
        keccak256("DepositReceipt(bytes32 coin,bytes32 wallet,address asset,uint128 amount,uint64 settleBy)");
    bytes32 internal constant INVOICE_TYPEHASH =
        keccak256("Invoice(bytes32 payee,address asset,uint128 amount,bytes32 nonce,uint64 issuedAt)");
    bytes32 internal constant TRANSFER_TYPEHASH = keccak256(
        "Transfer(bytes32 input,bytes32 payee,uint128 amount,uint128 change,uint64 sequence,bytes32 previous,bytes32 invoice,uint64 issuedAt)"
    );
    bytes32 internal constant ACCEPTANCE_TYPEHASH =
        keccak256("Acceptance(bytes32 transfer,bytes32 payee,uint64 issuedAt)");

    /// @dev Bytes of one entry of a log after the first: `input || transferDigest`.
    uint256 internal constant ENTRY_SIZE = 64;
    /// @dev Bytes of a certificate: TPMS_ATTEST of a TPM2_NV_Certify with SHA-256 names.
    uint256 internal constant CERTIFICATE_SIZE = 173;
    /// @dev Bytes of a TPM name: the algorithm's id and a SHA-256.
    uint256 private constant NAME_SIZE = 34;

    // ───────────────────────────── EIP-712 ─────────────────────────────

    /// @dev Struct hash of a registration.
    function registration(IOfflineVault.Registration calldata r) internal pure returns (bytes32) {
        return keccak256(abi.encode(REGISTRATION_TYPEHASH, r));
    }

    /// @dev Struct hash of a deposit receipt.
    function depositReceipt(IOfflineVault.DepositReceipt calldata r) internal pure returns (bytes32) {
        return keccak256(abi.encode(DEPOSIT_RECEIPT_TYPEHASH, r));
    }

    /// @dev Struct hash of an invoice.
    function invoice(IOfflineVault.Invoice calldata i) internal pure returns (bytes32) {
        return keccak256(abi.encode(INVOICE_TYPEHASH, i));
    }

    /// @dev Struct hash of an acceptance.
    function acceptance(IOfflineVault.Acceptance calldata a) internal pure returns (bytes32) {
        return keccak256(abi.encode(ACCEPTANCE_TYPEHASH, a));
    }

    /// @dev Digest of a transfer under a domain. In assembly because every hop pays for it: the eight words are copied as
    /// they lie in memory, where `abi.encode` takes them apart and allocates for each hop; 500 gas less a hop. Whoever
    /// fills the struct keeps its words clean.
    function transfer(bytes32 domain, IOfflineVault.Transfer memory t) internal pure returns (bytes32 digest) {
        bytes32 typehash = TRANSFER_TYPEHASH;
        assembly ("memory-safe") {
            let start := mload(0x40) // used up before anything else can want it, so not allocated
            mstore(start, typehash)
            mcopy(add(start, 0x20), t, 0x100)
            let hash := keccak256(start, 0x120)
            mstore(start, shl(240, 0x1901))
            mstore(add(start, 0x02), domain)
            mstore(add(start, 0x22), hash)
            digest := keccak256(start, 0x42)
        }
    }

    // ───────────────────────────── Identity ─────────────────────────────

    /// @dev What a wallet is called: the hash of its P-256 key.
    function wallet(bytes32 x, bytes32 y) internal pure returns (bytes32) {
        return pair(x, y);
    }

    /// @dev What a coin is called: bound to chain, contract, wallet and a nonce (rule E5).
    function coin(address vault, bytes32 walletId, address asset, uint256 amount, uint256 nonce)
        internal
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(block.chainid, vault, walletId, asset, amount, nonce));
    }

    /// @dev What a part of a transfer is called: 0 the payee's, 1 the payer's change.
    function fragment(bytes32 transferDigest, uint256 k) internal pure returns (bytes32) {
        return pair(transferDigest, bytes32(k));
    }

    /// @dev `keccak256(abi.encode(a, b))`, in the scratch space, which two words just fill.
    function pair(bytes32 a, bytes32 b) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            mstore(0x00, a)
            mstore(0x20, b)
            hash := keccak256(0x00, 0x40)
        }
    }

    /// @dev The accumulator over paid exits, one exit further.
    function accumulate(uint160 paid, bytes32 exit) internal pure returns (uint160) {
        return uint160(uint256(pair(bytes32(uint256(paid)), exit)));
    }

    // ───────────────────────────── SHA-256 and the log ─────────────────────────────

    /// @dev SHA-256 of one word: what a P-256 key signs for a digest. In assembly, as {fold}.
    function sha(bytes32 digest) internal view returns (bytes32 hash) {
        assembly ("memory-safe") {
            mstore(0x00, digest)
            if iszero(staticcall(gas(), 0x02, 0x00, 0x20, 0x00, 0x20)) { revert(0x00, 0x00) } // out of gas
            hash := mload(0x00)
        }
    }

    /// @dev Head of a log whose only entry is the registration's digest.
    function firstHead(bytes32 registrationDigest) internal view returns (bytes32) {
        return sha256(abi.encode(bytes32(0), sha(registrationDigest)));
    }

    /// @dev Folds entries of {ENTRY_SIZE} bytes into a head: `head' = SHA-256(head || SHA-256(entry))`. Also says which is
    /// the first of them that spends `input` (their number, if none does).
    ///
    /// In assembly for its price. Both hashes are of 64 bytes, just what the scratch space holds, so no memory is ever
    /// allocated: about 450 gas an entry, where `sha256(abi.encode(..))` takes 1,200 and more as memory grows.
    function fold(bytes32 head, bytes calldata entries, bytes32 input)
        internal
        view
        returns (bytes32 folded, uint256 first)
    {
        uint256 count = entries.length / ENTRY_SIZE;
        assembly ("memory-safe") {
            folded := head
            first := count
            let from := entries.offset
            for { let i := 0 } lt(i, count) { i := add(i, 1) } {
                if and(eq(calldataload(from), input), eq(first, count)) { first := i }
                calldatacopy(0x00, from, 0x40)
                if iszero(staticcall(gas(), 0x02, 0x00, 0x40, 0x20, 0x20)) { revert(0x00, 0x00) } // out of gas
                mstore(0x00, folded)
                if iszero(staticcall(gas(), 0x02, 0x00, 0x40, 0x00, 0x20)) { revert(0x00, 0x00) } // out of gas
                folded := mload(0x00)
                from := add(from, 0x40)
            }
        }
    }

    // ───────────────────────────── Certificate ─────────────────────────────

    // TPMS_ATTEST, of which every length is fixed, so that each field has one place:
    //   0 magic ff544347 | 4 type 8014 | 6 qualifiedSigner 0022+34 | 42 extraData 0020+32 | 76 clockInfo 17
    //   93 firmwareVersion 8 | 101 indexName 0022+34 | 137 offset 0000 | 139 nvContents 0020+32

    /// @dev Whether the bytes are such a certificate: what is not free in it is as it must be. (Magic, type, four lengths and
    /// the offset within the index.)
    function isCertificate(bytes calldata c) internal pure returns (bool) {
        if (c.length != CERTIFICATE_SIZE) return false;
        return uint64(bytes8(c[0:8])) == 0xff54434780140022 && uint16(bytes2(c[42:44])) == 0x0020
            && uint16(bytes2(c[101:103])) == 0x0022 && uint32(bytes4(c[137:141])) == 0x00000020;
    }

    /// @dev What the certificate was asked to carry: SHA-256 of the digest of the log's last transfer.
    function extraData(bytes calldata c) internal pure returns (bytes32) {
        return bytes32(c[44:76]);
    }

    /// @dev keccak256 of the name of the index that it certifies.
    function logName(bytes calldata c) internal pure returns (bytes32) {
        return keccak256(c[103:103 + NAME_SIZE]);
    }

    /// @dev The head that it certifies.
    function certifiedHead(bytes calldata c) internal pure returns (bytes32) {
        return bytes32(c[141:173]);
    }
}
