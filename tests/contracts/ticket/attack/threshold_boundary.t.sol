// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Row M1-6 and rule E12. The paper's coin is told in digits: first two, last two, padded or not, and each reading has another
// rate. Ours compares one word with a threshold, so the rate is exact; what is left to get wrong is the boundary. A draw
// cannot be chosen, so the predicate that the contract calls is tested at its edges, and the contract with thresholds at theirs.

import {AttackFixture} from "./AttackFixture.sol";
import {PaperRule} from "./PaperRule.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";
import {TicketHash} from "contracts/ticket/TicketHash.sol";

contract ThresholdBoundaryTest is AttackFixture {
    uint256 private constant MAX = type(uint256).max;

    function test_threshold_boundary() external pure {
        // The paper: "two digits" of 128 bits is 1 % read from the end, 2.94 % read from the front of 39 digits (10³⁷ of 2¹²⁸),
        // and a number on the one boundary (10³⁷ ends in zeros, but does not start with them) wins by one reading alone.
        assertTrue(PaperRule.firstDigitsWin(uint128(10 ** 37 - 1), 0));
        assertFalse(PaperRule.firstDigitsWin(uint128(10 ** 37), 0));
        assertTrue(PaperRule.lastDigitsWin(uint128(10 ** 37), 0));
        assertEq(PaperRule.FIRST_TWO_DIGITS * 10_000 / 2 ** 128, 293);

        uint256[4] memory thresholds = [RHO_1_128, 1, 1 << 232, MAX];
        for (uint256 i; i < thresholds.length; ++i) {
            uint256 t = thresholds[i];
            assertTrue(TicketHash.wins(t - 1, t), "draw = T - 1 wins");
            assertFalse(TicketHash.wins(t, t), "draw = T loses");
            assertTrue(TicketHash.wins(0, t), "draw = 0 wins");
            assertFalse(TicketHash.wins(MAX, t), "draw = 2^256 - 1 loses, even against the highest threshold");
        }
        assertFalse(TicketHash.wins(0, 0), "nothing wins against 0");
    }

    /// forge-config: default.fuzz.runs = 512
    function testFuzz_threshold_boundary_is_monotone(uint256 drawn, uint256 threshold) external pure {
        assertEq(TicketHash.wins(drawn, threshold), drawn < threshold);
        if (drawn < MAX) assertTrue(TicketHash.wins(drawn, drawn + 1));
        assertFalse(TicketHash.wins(drawn, drawn));
    }

    /// @dev The contract at the edges of the threshold: 0 never wins, the escrow's bound is allowed, one more is not.
    function test_threshold_boundary_on_chain() external {
        openDefault(NATIVE);
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, 1, false);
        t.winThreshold = 0;
        ITicketEscrow.Winner memory w = signed(escrowKey, t);
        uint256 drawn = drawOf(escrows.ticketDigest(t), r1);
        vm.prank(merchant);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.DrawNotBelowThreshold.selector, drawn, 0));
        escrows.claim(merchant, escrow, r1, w);

        t.winThreshold = RHO_1_128 + 1;
        w = signed(escrowKey, grind(t, r1, true));
        vm.prank(merchant);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.ThresholdAboveMax.selector, RHO_1_128 + 1, RHO_1_128));
        escrows.claim(merchant, escrow, r1, w);

        t.winThreshold = RHO_1_128;
        w = signed(escrowKey, grind(t, r1, true));
        vm.prank(merchant);
        escrows.claim(merchant, escrow, r1, w);
        assertEq(creditOf(merchant), PRIZE);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE - PRIZE);
    }
}
