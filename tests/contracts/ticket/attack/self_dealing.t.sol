// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Rows M1-2 and M1-3. The payer is its own merchant: it knows r1, chooses r2, and so has a winning ticket at will. When an
// honest claim shows up in the mempool it outbids it and drains the escrow. In the paper that costs nothing. It cannot be
// told from honest play, so we make it a loss: what the drain leaves unpaid is recorded debt; the payer cures it (and has
// won nothing) or the penalty is burned (and it has lost more than it won).

import {AttackFixture} from "./AttackFixture.sol";
import {PaperEscrow} from "./PaperRule.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract SelfDealingTest is AttackFixture {
    uint256 private constant HONEST_WINS = 3;

    function test_attack_self_dealing_frontrun_costs_penalty() external {
        _paperIsDrainedForNothing();

        uint256 start = payer.balance;
        openWith(HONEST_WINS);
        _drain();
        for (uint64 i = 1; i <= HONEST_WINS; ++i) {
            claimAs(merchant, r1, i);
        }
        assertEq(creditOf(merchant), 0);
        assertEq(escrows.debtOf(escrow, merchant), HONEST_WINS * PRIZE);

        uint256 fork = vm.snapshotState();
        // It does not cure: the penalty burns. It has the goods (H prizes' worth of tickets unpaid) and lost P > H.
        vm.warp(vm.getBlockTimestamp() + 3 days + 1);
        vm.prank(stranger);
        escrows.burn(escrow);
        assertEq(creditOf(BURN), PENALTY);
        assertEq(start - payer.balance - creditOf(sybil), PENALTY, "the attack costs the penalty, to the wei");
        assertGt(PENALTY, HONEST_WINS * PRIZE);

        // It cures: the honest winners have their prizes, and the attack won nothing.
        assertTrue(vm.revertToState(fork));
        address[] memory creditors = new address[](1);
        creditors[0] = merchant;
        vm.prank(payer);
        escrows.cure{value: HONEST_WINS * PRIZE}(escrow, creditors, HONEST_WINS * PRIZE);
        vm.prank(payer);
        escrows.requestWithdraw(escrow);
        vm.warp(vm.getBlockTimestamp() + 3 days);
        vm.prank(payer);
        escrows.withdraw(escrow);
        assertEq(creditOf(merchant), HONEST_WINS * PRIZE);
        assertEq(start - wealth(payer) - creditOf(sybil), HONEST_WINS * PRIZE, "cured, it costs what was bought");
    }

    /// @dev The reporter's tenth is the one part of a penalty that an offender can save: it signs one nonce twice and
    /// reports itself. So the attack costs nine tenths, and a penalty is adequate when 9/10 of it cover the honest wins.
    function test_attack_self_dealing_with_self_report_costs_nine_tenths() external {
        uint256 start = payer.balance;
        openWith(HONEST_WINS);
        _drain();
        for (uint64 i = 1; i <= HONEST_WINS; ++i) {
            claimAs(merchant, r1, i);
        }
        ITicketEscrow.Ticket memory a = ticket(escrow, sybil, sybilR1, 900, true);
        ITicketEscrow.Ticket memory b = ticket(escrow, sybil, sybilR1, 900, false);
        ITicketEscrow.Signature memory signatureA = sign(escrowKey, escrows.ticketDigest(a));
        ITicketEscrow.Signature memory signatureB = sign(escrowKey, escrows.ticketDigest(b));
        vm.prank(sybil);
        escrows.proveEquivocation(a, signatureA, b, signatureB);
        vm.warp(vm.getBlockTimestamp() + 3 days + 1);
        vm.prank(stranger);
        escrows.burn(escrow);

        assertEq(creditOf(BURN), PENALTY - PENALTY / 10);
        assertEq(start - payer.balance - creditOf(sybil), PENALTY - PENALTY / 10, "nine tenths, to the wei");
    }

    function _paperIsDrainedForNothing() private {
        PaperEscrow paper = paperEscrow(1 ether);
        Witness memory honest = witness(paper, merchant);
        Witness memory own = witness(paper, sybil); // r2 chosen by who knows r1
        uint256 before = sybil.balance;
        release(paper, own); // outbids the honest claim
        vm.expectRevert("nothing left");
        paper.release(honest.r1, honest.r2, honest.payee, honest.v, honest.r, honest.s);
        assertEq(sybil.balance - before, 1 ether, "the paper's payer has everything back");
        assertEq(merchant.balance, 0);
        vm.prank(sybil);
        (bool ok,) = payer.call{value: 1 ether}("");
        assertTrue(ok);
    }

    /// @dev Ahead of the honest claims, as many winners to itself as there are prizes.
    function _drain() private {
        for (uint64 i = 1; i <= HONEST_WINS; ++i) {
            claimAs(sybil, sybilR1, i);
        }
        assertEq(creditOf(sybil), HONEST_WINS * PRIZE);
        assertEq(escrows.escrowOf(escrow).balance, 0);
    }
}
