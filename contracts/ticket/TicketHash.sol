// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ITicketEscrow} from "./ITicketEscrow.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

/// @title TicketHash
/// @notice EIP-712 struct hashes of the ticket scheme, and the draw. Pure; the domain is the contract's.
library TicketHash {
    bytes32 internal constant TICKET_TYPEHASH = keccak256(
        "Ticket(address escrow,address recipient,bytes32 commitment,bytes32 r2,uint256 winThreshold,uint64 expiry,uint64 nonce)"
    );
    bytes32 internal constant COIN_COMMITMENT_TYPEHASH = keccak256("CoinCommitment(address recipient,bytes32 r1)");
    bytes32 internal constant OPENING_TYPEHASH = keccak256(
        "Opening(address escrow,address payer,address asset,uint256 prize,uint256 maxThreshold,uint64 ticketCap,uint256 penalty)"
    );

    /// @dev Struct hash of a ticket. In assembly because it runs once per claimed ticket: the type hash is laid over the
    /// word before the struct for the time of the hash, where `abi.encode` would copy all eight words.
    function ticket(ITicketEscrow.Ticket memory t) internal pure returns (bytes32 hash) {
        bytes32 typehash = TICKET_TYPEHASH;
        assembly ("memory-safe") {
            let start := sub(t, 0x20)
            let before := mload(start)
            mstore(start, typehash)
            hash := keccak256(start, 0x100)
            mstore(start, before)
        }
    }

    /// @dev Struct hash of a commitment's contents.
    function coinCommitment(address recipient, bytes32 r1) internal pure returns (bytes32) {
        return keccak256(abi.encode(COIN_COMMITMENT_TYPEHASH, recipient, r1));
    }

    /// @dev Struct hash of an opening.
    function opening(ITicketEscrow.Opening memory o) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(OPENING_TYPEHASH, o.escrow, o.payer, o.asset, o.prize, o.maxThreshold, o.ticketCap, o.penalty)
        );
    }

    /// @dev The coin toss: a ticket wins iff this is below its threshold. It hashes the whole ticket, never its signature,
    /// so one ticket has one draw and tickets under one commitment are independent.
    function draw(bytes32 ticketDigest, bytes32 half) internal pure returns (uint256) {
        return uint256(Hashes.efficientKeccak256(ticketDigest, half));
    }

    /// @dev P[win] is exactly `winThreshold / 2^256`: a draw is one of 2^256 values, and this many are below the threshold.
    function wins(uint256 drawn, uint256 winThreshold) internal pure returns (bool) {
        return drawn < winThreshold;
    }
}
