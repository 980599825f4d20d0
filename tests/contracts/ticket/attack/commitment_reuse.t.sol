// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Row M1-10. The paper's coin is the bare r1 XOR r2. A payer that repeats one r2 on m tickets under one commitment makes
// all of them win or none: an escrow with B prizes then pays min(m, B) where it sold m tickets, so 128 tickets on a
// one-prize escrow are worth 1/128 of their price. Our draw hashes r1 with the digest of the whole ticket, nonce included:
// the same r2 on m tickets is m independent coins.

import {AttackFixture} from "./AttackFixture.sol";
import {PaperRule} from "./PaperRule.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract CommitmentReuseTest is AttackFixture {
    uint256 private constant TICKETS = 128;
    uint256 private constant SESSIONS = 128;

    function test_attack_commitment_reuse_correlated_r2() external {
        bytes32 domain = escrows.domainSeparator();
        uint256 paperSessions;
        uint256 ourSessions;
        uint256 ourWins;
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, 1, true);
        t.r2 = "the same for all";
        for (uint256 s; s < SESSIONS; ++s) {
            bytes32 secret = keccak256(abi.encode("session", s));
            t.commitment = commitmentTo(merchant, secret);
            uint256 paperWins;
            uint256 wins;
            for (uint256 i; i < TICKETS; ++i) {
                t.nonce = uint64(i + 1);
                if (PaperRule.lastDigitsWin(uint128(uint256(secret)), uint128(uint256(t.r2)))) ++paperWins;
                if (isWinner(t, domain, secret)) ++wins;
            }
            assertTrue(paperWins == 0 || paperWins == TICKETS, "the paper: all or none");
            if (paperWins != 0) ++paperSessions;
            if (wins != 0) ++ourSessions;
            ourWins += wins;
        }
        assertRate(ourWins, SESSIONS * TICKETS, 128, "tickets with one r2");
        // 1 - (127/128)^128 = 63.4 % of the sessions have a winner: 81 expected, σ = 5.45, against one or two.
        assertApproxEqAbs(ourSessions, 81, 22);
        assertLt(paperSessions, 8);

        // In money, on an escrow of three prizes: three winners of one r2, each paid, and no more than three nonces are.
        openWith(3);
        t.commitment = commitmentTo(merchant, r1);
        uint256 paid;
        for (uint64 nonce = 1; paid < 3; ++nonce) {
            t.nonce = nonce;
            if (!isWinner(t, domain, r1)) continue;
            ITicketEscrow.Winner memory w = signed(escrowKey, t);
            vm.prank(merchant);
            escrows.claim(merchant, escrow, r1, w);
            assertEq(creditOf(merchant), ++paid * PRIZE);
        }
        assertEq(escrows.escrowOf(escrow).balance, 0);
    }
}
