// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Rows M1-10 and M1-17. Once a claim has shown r1 (mined, reverted or reorganised away), the payer computes every draw
// under that commitment and signs only losing tickets: it never loses again. No contract can see that. The repair is the
// merchant's: it closes a commitment before the claim that reveals its r1, and accepts nothing more under it. What the
// contract adds: tickets accepted before stay payable, and nobody else can use the revealed r1.

import {AttackFixture} from "./AttackFixture.sol";
import {PaperRule} from "./PaperRule.sol";
import {IOperators} from "contracts/shared/IOperators.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract R1KnownTest is AttackFixture {
    uint256 private constant DRAWS = 16_384;
    bytes32 private constant NEXT_R1 = keccak256("the next session's r1");
    mapping(bytes32 commitment => bool) private live;

    function test_attack_r1_known_after_reveal() external {
        // The weakness, on the paper's rule and on ours alike: with r1 known, a thousand tickets and not one winner.
        uint128 paperR1 = uint128(uint256(r1));
        bytes32 domain = escrows.domainSeparator();
        for (uint256 i; i < 1000; ++i) {
            uint128 r2 = uint128(i);
            while (PaperRule.lastDigitsWin(paperR1, r2)) ++r2;
            assertFalse(PaperRule.lastDigitsWin(paperR1, r2));
            ITicketEscrow.Ticket memory ground = ticket(escrow, merchant, r1, uint64(i + 1), false);
            assertFalse(isWinner(ground, domain, r1));
        }

        // Ours: two winners under one commitment, accepted; closed; then the first claim shows r1.
        openDefault(NATIVE);
        live[commitmentTo(merchant, r1)] = true;
        ITicketEscrow.Winner memory first = winner(1);
        ITicketEscrow.Winner memory second = winner(2);
        live[commitmentTo(merchant, r1)] = false;
        live[commitmentTo(merchant, NEXT_R1)] = true;
        vm.prank(merchant);
        escrows.claim(merchant, escrow, r1, first);

        // The payer's ground losers are refused for their commitment (rule 1 of admission), which needs no draw.
        ITicketEscrow.Ticket memory loser = ticket(escrow, merchant, r1, 3, false);
        assertFalse(live[loser.commitment]);
        // Under the next commitment the old r1 is worth nothing: ground against it, tickets win at ρ.
        uint256 wins;
        for (uint256 i; i < DRAWS; ++i) {
            ITicketEscrow.Ticket memory t = loser;
            t.commitment = commitmentTo(merchant, NEXT_R1);
            t.nonce = uint64(i + 3);
            t.r2 = bytes32(i);
            while (isWinner(t, domain, r1)) t.r2 = bytes32(uint256(t.r2) + DRAWS);
            if (isWinner(t, domain, NEXT_R1)) ++wins;
        }
        assertRate(wins, DRAWS, 128, "ground against the revealed r1");

        // The second winner is paid all the same, and only to the merchant.
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(IOperators.NotOperator.selector, payer, merchant));
        escrows.claim(merchant, escrow, r1, second);
        vm.prank(merchant);
        escrows.claim(merchant, escrow, r1, second);
        assertEq(creditOf(merchant), 2 * PRIZE);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE - 2 * PRIZE);
    }
}
