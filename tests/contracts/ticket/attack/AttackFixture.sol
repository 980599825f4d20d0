// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TicketFixture} from "../TicketFixture.sol";
import {PaperEscrow} from "./PaperRule.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

/// @notice What the attack tests add to the ticket fixture: a sham recipient of the payer, the paper's escrow with its
/// witnesses, and the statistics of many draws.
abstract contract AttackFixture is TicketFixture {
    address internal sybil = makeAddr("sybil of the payer");
    address internal merchant2 = makeAddr("second merchant");
    address internal merchant3 = makeAddr("third merchant");
    bytes32 internal sybilR1 = keccak256("an r1 that the payer knows");

    /// @dev A witness of the paper's Π^esc.
    struct Witness {
        uint128 r1;
        uint128 r2;
        address payee;
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    // ── our escrow ──

    /// @dev An escrow whose balance covers `prizes` winners, with the default penalty of 20 prizes.
    function openWith(uint256 prizes) internal {
        open(escrowKey, payer, terms(NATIVE), prizes * PRIZE + PENALTY);
    }

    function winnerFor(address recipient, bytes32 secret, uint64 nonce)
        internal
        view
        returns (ITicketEscrow.Winner memory)
    {
        return signed(escrowKey, ticket(escrow, recipient, secret, nonce, true));
    }

    function claimAs(address recipient, bytes32 secret, uint64 nonce) internal {
        ITicketEscrow.Winner memory w = winnerFor(recipient, secret, nonce);
        vm.prank(recipient);
        escrows.claim(recipient, escrow, secret, w);
    }

    function creditOf(address account) internal view returns (uint256) {
        return escrows.creditOf(NATIVE, account);
    }

    function status() internal view returns (ITicketEscrow.Status) {
        return escrows.escrowOf(escrow).status;
    }

    /// @dev Everything the account has in the native asset, inside the contract and out.
    function wealth(address account) internal view returns (uint256) {
        return account.balance + creditOf(account);
    }

    /// @dev The ticket's digest. Gives its memory back: ten thousands of draws would pay for it squared.
    function digestOf(ITicketEscrow.Ticket memory t, bytes32 domain) internal pure returns (bytes32 digest) {
        uint256 free;
        assembly ("memory-safe") {
            free := mload(0x40)
        }
        digest = keccak256(abi.encodePacked(hex"1901", domain, keccak256(abi.encode(TICKET_TYPE, t))));
        assembly ("memory-safe") {
            mstore(0x40, free)
        }
    }

    /// @dev Whether a ticket wins under `secret`.
    function isWinner(ITicketEscrow.Ticket memory t, bytes32 domain, bytes32 secret) internal pure returns (bool won) {
        bytes32 digest = digestOf(t, domain);
        uint256 free;
        assembly ("memory-safe") {
            free := mload(0x40)
        }
        won = drawOf(digest, secret) < t.winThreshold;
        assembly ("memory-safe") {
            mstore(0x40, free)
        }
    }

    // ── the paper's escrow ──

    function paperEscrow(uint256 amount) internal returns (PaperEscrow paper) {
        vm.prank(payer);
        paper = new PaperEscrow{value: amount}(escrow);
    }

    /// @dev A payer and a merchant whose coins happen to win, or (payee is the payer's) are made to.
    function witness(PaperEscrow paper, address payee) internal view returns (Witness memory w) {
        w.r1 = uint128(uint256(keccak256(abi.encode("paper r1", payee))));
        w.r2 = w.r1 ^ 100;
        w.payee = payee;
        (w.v, w.r, w.s) = vm.sign(escrowKey, paper.digest(sha256(abi.encodePacked(w.r1)), w.r2, payee));
    }

    function release(PaperEscrow paper, Witness memory w) internal {
        paper.release(w.r1, w.r2, w.payee, w.v, w.r, w.s);
    }

    // ── statistics ──

    /// @dev |wins − n/odds| ≤ 4σ of the binomial, in integers: (odds·wins − n)² ≤ 16·n·(odds − 1).
    function assertRate(uint256 wins, uint256 n, uint256 odds, string memory what) internal pure {
        assertTrue(withinFourSigma(wins, n, odds), string.concat(what, ": ", vm.toString(wins), " of ", vm.toString(n)));
    }

    function withinFourSigma(uint256 wins, uint256 n, uint256 odds) internal pure returns (bool) {
        uint256 distance = odds * wins > n ? odds * wins - n : n - odds * wins;
        return distance * distance <= 16 * n * (odds - 1);
    }
}
