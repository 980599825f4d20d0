// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Rows M1-1 and M1-3. In the paper the second winner of an escrow holds a worthless witness; and a penalty paid out to
// unpaid winners (the usual repair) is claimed by the payer's own sham winners. Ours records the debt. Cured in time, each
// creditor has its due to the wei; not cured, penalty and rest burn, and no share of them is anyone's.

import {AttackFixture} from "./AttackFixture.sol";
import {PaperEscrow} from "./PaperRule.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract InsolvencyTest is AttackFixture {
    uint256 private constant REST = PRIZE / 3; // what is left for the first who falls short

    function test_insolvency_cure_pays_all_creditors() external {
        _paperSecondWinnerGetsNothing();
        _becomeInsolvent();
        uint256 debt = 3 * PRIZE - REST;
        assertEq(escrows.escrowOf(escrow).debt, debt);

        // A stranger cures two of them in part, the payer the rest: never twice, never too little.
        address[] memory some = new address[](3);
        (some[0], some[1], some[2]) = (merchant, merchant2, merchant);
        vm.deal(stranger, 1 ether);
        vm.prank(stranger);
        escrows.cure{value: 1 ether}(escrow, some, 1 ether);
        assertEq(creditOf(stranger), 1 ether - (2 * PRIZE - REST), "what was too much is the curer's");
        assertEq(uint256(status()), uint256(ITicketEscrow.Status.INSOLVENT));
        assertEq(escrows.escrowOf(escrow).debt, PRIZE);

        address[] memory rest = new address[](1);
        rest[0] = merchant3;
        vm.prank(payer);
        escrows.cure{value: PRIZE}(escrow, rest, PRIZE);

        assertEq(creditOf(merchant), PRIZE);
        assertEq(creditOf(merchant2), PRIZE);
        assertEq(creditOf(merchant3), PRIZE);
        assertEq(uint256(status()), uint256(ITicketEscrow.Status.OPEN));
        assertEq(escrows.escrowOf(escrow).debt, 0);
        assertEq(escrows.escrowOf(escrow).penalty, PENALTY, "cured in full, the penalty stays whole");
    }

    function test_insolvency_burn_returns_nothing() external {
        _paperSecondWinnerGetsNothing();
        uint256 start = payer.balance;
        _becomeInsolvent();
        // The payer makes sham creditors of itself, for a share of whatever the penalty may pay.
        claimAs(sybil, sybilR1, 2);
        claimAs(sybil, sybilR1, 3);
        // Money that arrives now burns with the rest.
        vm.deal(stranger, 5);
        vm.prank(stranger);
        escrows.topUp{value: 5}(escrow, 5);

        uint256 cureBy = escrows.escrowOf(escrow).cureBy;
        vm.warp(cureBy);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.BurnTooEarly.selector, cureBy, cureBy));
        escrows.burn(escrow);
        vm.warp(cureBy + 1);
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.CureTooLate.selector, cureBy + 1, cureBy));
        escrows.cure{value: 1 ether}(escrow, new address[](0), 1 ether);
        escrows.burn(escrow);

        assertEq(creditOf(BURN), PENALTY + 5);
        assertEq(wealth(payer), start - PENALTY - PRIZE - REST, "nothing came back");
        assertEq(creditOf(sybil), PRIZE, "what it had before, of its own money");
        assertEq(creditOf(merchant) + creditOf(merchant2) + creditOf(merchant3), REST);
        assertEq(address(escrows).balance, PENALTY + 5 + PRIZE + REST, "all of it is someone's credit");
        // The key is dead for ever.
        ITicketEscrow.Signature memory proof = possession(escrowKey, payer, terms(NATIVE));
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.EscrowExists.selector, escrow));
        escrows.open{value: PENALTY}(escrow, terms(NATIVE), PENALTY, proof);
    }

    /// @dev One prize and a third: one to the sybil, a third to the first merchant, two merchants get nothing.
    function _becomeInsolvent() private {
        open(escrowKey, payer, terms(NATIVE), PENALTY + PRIZE + REST);
        claimAs(sybil, sybilR1, 1);
        claimAs(merchant, r1, 1);
        claimAs(merchant2, "r1 of the second", 1);
        claimAs(merchant3, "r1 of the third", 1);
        assertEq(creditOf(merchant), REST);
        assertEq(escrows.debtOf(escrow, merchant), PRIZE - REST);
        assertEq(escrows.debtOf(escrow, merchant2), PRIZE);
        assertEq(escrows.debtOf(escrow, merchant3), PRIZE);
        assertEq(uint256(status()), uint256(ITicketEscrow.Status.INSOLVENT));
    }

    function _paperSecondWinnerGetsNothing() private {
        PaperEscrow paper = paperEscrow(1);
        release(paper, witness(paper, sybil));
        Witness memory w = witness(paper, merchant);
        vm.expectRevert("nothing left");
        paper.release(w.r1, w.r2, w.payee, w.v, w.r, w.s);
        assertEq(merchant.balance, 0);
    }
}
