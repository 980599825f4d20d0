// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Row M1-7. Section 3.3 implements r2 as 8 bits. The merchant chooses r1 knowing that the payer can flip only its lowest
// byte: with "the first two digits" it wins every ticket, with "the last two digits" three of 256 instead of one of 100,
// and at the rate 1/512 one of 256, twice the rate. Our r1 and r2 are 32 bytes and the draw hashes both, so the same
// strategies win at ρ, even against a payer whose r2 has only 8 bits left.

import {AttackFixture} from "./AttackFixture.sol";
import {PaperRule} from "./PaperRule.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract R2Of8BitsTest is AttackFixture {
    uint256 private constant SESSIONS = 64; // of 256 tickets, one for each r2: 128 wins expected, σ = 11.3

    function test_attack_8bit_r2_first_digits_wins_always() external {
        uint128 chosen = 12_345; // any r1 whose leading digits are zero
        for (uint256 r2; r2 < 256; ++r2) {
            assertTrue(PaperRule.firstDigitsWin(chosen, uint128(r2)), "wins whatever the payer draws");
        }
        _oursHoldsAgainst(chosen);
    }

    function test_attack_8bit_r2_last_digits_3_of_256() external {
        // The upper bits decide how many of the 256 neighbours end in 00: two or three. The merchant takes three.
        uint128 chosen = 100 << 8; // neighbours 25,600 to 25,855: 25,600, 25,700 and 25,800
        uint256 wins;
        for (uint256 r2; r2 < 256; ++r2) {
            if (PaperRule.lastDigitsWin(chosen, uint128(r2))) ++wins;
        }
        assertEq(wins, 3, "3/256 = 1.17 %, not 1 %");
        // An honest merchant, over all upper bits: 256 of 25,600, exactly 1 %.
        wins = 0;
        for (uint256 x; x < 25_600; ++x) {
            if (PaperRule.lastDigitsWin(uint128(x & ~uint256(0xff)), uint128(x & 0xff))) ++wins;
        }
        assertEq(wins, 256);

        // Rate 1/512: bit 8 of r1 is out of the payer's reach, so the merchant clears it.
        wins = 0;
        for (uint256 r2; r2 < 256; ++r2) {
            if (PaperRule.lastNineBitsWin(0xabcd00 & ~uint128(0x100), uint128(r2))) ++wins;
        }
        assertEq(wins, 1, "1/256, twice the rate");
        _oursHoldsAgainst(chosen);
    }

    /// @dev The same r1 in our draw, against payers with full and with 8-bit r2; and one winner paid to the wei.
    function _oursHoldsAgainst(uint128 chosen) private {
        bytes32 domain = escrows.domainSeparator();
        bytes32 secret = bytes32(uint256(chosen));
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, secret, 1, true);
        uint256 full;
        uint256 short;
        for (uint256 i; i < SESSIONS * 256; ++i) {
            t.nonce = uint64(i + 1);
            t.r2 = keccak256(abi.encode("payer's PRF", chosen, i));
            if (isWinner(t, domain, secret)) ++full;
            t.r2 = bytes32(i & 0xff);
            if (isWinner(t, domain, secret)) ++short;
        }
        assertRate(full, SESSIONS * 256, 128, "32-byte r2");
        assertRate(short, SESSIONS * 256, 128, "8-bit r2");

        openDefault(NATIVE);
        claimAs(merchant, secret, 1);
        assertEq(creditOf(merchant), PRIZE);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE - PRIZE);
    }
}
