// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// P1 of section 2.1 and row M1-1. The malicious payer knows the commitment c but not r1, and chooses r2 and everything else
// in the ticket as it likes, after seeing how earlier tickets fared. The paper promises the merchant a *witness* with
// probability 1/100; it does not promise that the witness is paid (one escrow, one prize, any number of merchants), and
// under its XOR a payer that repeats the r2 of a losing ticket never loses. We draw from a hash of the whole ticket, so
// every strategy wins at ρ; and an escrow holds many prizes, so a win is money.

import {AttackFixture} from "./AttackFixture.sol";
import {PaperEscrow, PaperRule} from "./PaperRule.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract GameP1Test is AttackFixture {
    uint256 private constant DRAWS = 16_384; // 128 wins expected, σ = 11.3

    enum Strategy {
        CONSTANT_R2,
        R2_IS_COMMITMENT,
        HIGHEST_DIGEST_OF_FOUR,
        REPEAT_WHAT_LOST,
        LOSE_AGAINST_A_GUESS
    }

    function test_game_P1_hidden_r1() external {
        // The paper: repeat what lost once, and lose for ever.
        uint128 paperR1 = uint128(uint256(r1));
        uint128 lost = ~paperR1;
        assertFalse(PaperRule.lastDigitsWin(paperR1, lost));
        assertFalse(PaperRule.firstDigitsWin(paperR1, lost));

        // Ours: no strategy moves the rate.
        for (uint256 s; s <= uint256(type(Strategy).max); ++s) {
            assertRate(_play(Strategy(s)), DRAWS, 128, string.concat("payer strategy ", vm.toString(s)));
        }
    }

    /// @dev P1': a witness is paid. 1,034 real tickets, every winner claimed, and the credit is a prize for each.
    function test_game_P1_a_witness_is_paid() external {
        // The paper: of two merchants with a winning witness the second holds paper.
        PaperEscrow paper = paperEscrow(1 ether);
        release(paper, witness(paper, merchant));
        assertEq(merchant.balance, 1 ether);
        Witness memory second = witness(paper, merchant2);
        assertTrue(paper.isWitness(second.r1, second.r2, second.payee, second.v, second.r, second.s));
        vm.expectRevert("nothing left");
        paper.release(second.r1, second.r2, second.payee, second.v, second.r, second.s);

        openDefault(NATIVE);
        bytes32 domain = escrows.domainSeparator();
        uint256 wins;
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, 0, true);
        for (uint64 nonce = 1; nonce < CAP; ++nonce) {
            (t.nonce, t.r2) = (nonce, keccak256(abi.encode("payer's r2", nonce)));
            if (!isWinner(t, domain, r1)) continue;
            ITicketEscrow.Winner memory w = signed(escrowKey, t);
            vm.prank(merchant);
            escrows.claim(merchant, escrow, r1, w);
            ++wins;
        }
        assertRate(wins, CAP - 1, 128, "real tickets");
        assertEq(creditOf(merchant), wins * PRIZE);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE - wins * PRIZE);
    }

    function _play(Strategy strategy) private view returns (uint256 wins) {
        bytes32 domain = escrows.domainSeparator();
        bytes32 secret = keccak256(abi.encode("hidden r1", strategy));
        bytes32 guess = keccak256("what the payer takes r1 to be");
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, secret, 0, true);
        t.r2 = 0;
        for (uint256 i; i < DRAWS; ++i) {
            t.nonce = uint64(i + 1);
            if (strategy == Strategy.R2_IS_COMMITMENT) t.r2 = t.commitment;
            if (strategy == Strategy.HIGHEST_DIGEST_OF_FOUR) t.r2 = _highestDigest(t, domain);
            if (strategy == Strategy.LOSE_AGAINST_A_GUESS) {
                while (isWinner(t, domain, guess)) t.r2 = bytes32(uint256(t.r2) + 1);
            }
            bool won = isWinner(t, domain, secret);
            if (won) ++wins;
            if (won && strategy == Strategy.REPEAT_WHAT_LOST) t.r2 = bytes32(uint256(t.r2) + 1);
        }
    }

    function _highestDigest(ITicketEscrow.Ticket memory t, bytes32 domain) private pure returns (bytes32 best) {
        bytes32 highest;
        for (uint256 i; i < 4; ++i) {
            t.r2 = bytes32(i);
            bytes32 digest = digestOf(t, domain);
            if (digest > highest) (highest, best) = (digest, t.r2);
        }
    }
}
