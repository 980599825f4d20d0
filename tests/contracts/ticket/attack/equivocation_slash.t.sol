// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Rows M1-2 and M1-19. In the paper one escrow may be promised to any number of merchants at once and no one can tell: no
// ticket has a number. Ours has a nonce below a cap, so the number of tickets is bounded and two tickets with one nonce are
// a proof. Its penalty burns, a tenth at most goes to the reporter, and whoever holds winners is still paid.

import {AttackFixture} from "./AttackFixture.sol";
import {PaperEscrow} from "./PaperRule.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract EquivocationSlashTest is AttackFixture {
    function test_equivocation_two_tickets_one_nonce_slashes() external {
        // The paper: three merchants hold a valid witness of one escrow, and nothing on chain ever says so.
        PaperEscrow paper = paperEscrow(1 ether);
        address[3] memory sold = [merchant, merchant2, merchant3];
        for (uint256 i; i < 3; ++i) {
            Witness memory w = witness(paper, sold[i]);
            assertTrue(paper.isWitness(w.r1, w.r2, w.payee, w.v, w.r, w.s));
        }

        // Ours: one nonce sold to two merchants. They compare, one of them reports.
        openDefault(NATIVE);
        ITicketEscrow.Ticket memory a = ticket(escrow, merchant, r1, 7, true);
        ITicketEscrow.Ticket memory b = ticket(escrow, merchant2, "r1 of the second", 7, true);
        ITicketEscrow.Signature memory signatureA = sign(escrowKey, escrows.ticketDigest(a));
        ITicketEscrow.Signature memory signatureB = sign(escrowKey, escrows.ticketDigest(b));
        vm.prank(stranger);
        escrows.proveEquivocation(a, signatureA, b, signatureB);
        assertEq(creditOf(stranger), PENALTY / 10);
        assertEq(creditOf(BURN), PENALTY - PENALTY / 10);
        assertEq(escrows.escrowOf(escrow).penalty, 0);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE, "the balance stays for winners");

        // Once: the penalty is gone.
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.PenaltyZero.selector, escrow));
        escrows.proveEquivocation(b, signatureB, a, signatureA);

        // Both winners are paid: it was not their fault.
        ITicketEscrow.Winner memory one = signed(escrowKey, a);
        ITicketEscrow.Winner memory two = signed(escrowKey, b);
        vm.prank(merchant);
        escrows.claim(merchant, escrow, r1, one);
        vm.prank(merchant2);
        escrows.claim(merchant2, escrow, "r1 of the second", two);
        assertEq(creditOf(merchant), PRIZE);
        assertEq(creditOf(merchant2), PRIZE);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE - 2 * PRIZE);
    }

    /// @dev The proof never ages: whatever penalty such an escrow is given later, anyone may have it slashed. It cannot be
    /// made trustworthy again, only withdrawn.
    function test_equivocation_slashes_a_later_penalty_too() external {
        openDefault(NATIVE);
        ITicketEscrow.Ticket memory a = ticket(escrow, merchant, r1, 7, true);
        ITicketEscrow.Ticket memory b = ticket(escrow, merchant, r1, 7, false);
        ITicketEscrow.Signature memory signatureA = sign(escrowKey, escrows.ticketDigest(a));
        ITicketEscrow.Signature memory signatureB = sign(escrowKey, escrows.ticketDigest(b));
        escrows.proveEquivocation(a, signatureA, b, signatureB);
        vm.prank(payer);
        escrows.raiseCap{value: 100}(escrow, CAP + 1, 100);
        vm.prank(stranger);
        escrows.proveEquivocation(a, signatureA, b, signatureB);
        assertEq(creditOf(stranger), 10);
        assertEq(creditOf(BURN), PENALTY - PENALTY / 10 + 90);

        uint256 before = wealth(payer);
        vm.prank(payer);
        escrows.requestWithdraw(escrow);
        vm.warp(vm.getBlockTimestamp() + 3 days);
        vm.prank(payer);
        escrows.withdraw(escrow);
        assertEq(wealth(payer) - before, BALANCE, "the balance comes back, no wei of the penalty");
    }

    /// @dev Nobody can be framed: one ticket twice, two nonces, a forged or malleated second signature prove nothing.
    function test_equivocation_cannot_be_framed() external {
        openDefault(NATIVE);
        ITicketEscrow.Ticket memory a = ticket(escrow, merchant, r1, 7, true);
        ITicketEscrow.Signature memory s = sign(escrowKey, escrows.ticketDigest(a));
        ITicketEscrow.Signature memory twin =
            ITicketEscrow.Signature(s.r, bytes32(ORDER - uint256(s.s)), s.v == 27 ? 28 : 27);
        bytes32 digest = escrows.ticketDigest(a);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.NotEquivocation.selector, digest, digest));
        escrows.proveEquivocation(a, s, a, twin);

        ITicketEscrow.Ticket memory b = ticket(escrow, merchant, r1, 8, true);
        ITicketEscrow.Signature memory other = sign(escrowKey, escrows.ticketDigest(b));
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.NotEquivocation.selector, digest, escrows.ticketDigest(b)));
        escrows.proveEquivocation(a, s, b, other);

        b.nonce = 7;
        (, uint256 strangerKey) = makeAddrAndKey("a forger");
        other = sign(strangerKey, escrows.ticketDigest(b));
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.WrongSigner.selector, vm.addr(strangerKey), escrow));
        escrows.proveEquivocation(a, s, b, other);
        other = sign(escrowKey, escrows.ticketDigest(b));
        other = ITicketEscrow.Signature(other.r, bytes32(ORDER - uint256(other.s)), other.v == 27 ? 28 : 27);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.WrongSigner.selector, address(0), escrow));
        escrows.proveEquivocation(a, s, b, other);
        assertEq(escrows.escrowOf(escrow).penalty, PENALTY);
    }
}
