// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Row M1-18 and §1.2 of ticket.md. The paper's escrow is an address and its prize is whatever lies there, so anyone who sends
// money changes the price of every ticket sold. And where a top-up reactivates an escrow, a stranger can with one wei hold
// up a withdrawal for ever, or pass an unpaid debt off as settled. Our top-up adds to the balance and does nothing else.

import {AttackFixture} from "./AttackFixture.sol";
import {PaperEscrow} from "./PaperRule.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract TopUpGriefingTest is AttackFixture {
    function test_attack_topup_griefing() external {
        // The paper: a gift changes what a ticket pays.
        PaperEscrow paper = paperEscrow(1 ether);
        vm.deal(address(paper), 3 ether);
        release(paper, witness(paper, merchant));
        assertEq(merchant.balance, 3 ether);

        uint256 start = payer.balance;
        vm.deal(stranger, 1 ether);
        openWith(2);
        uint256 gifts;
        gifts += _gift(1); // OPEN
        claimAs(merchant, r1, 1);
        assertEq(creditOf(merchant), PRIZE, "a prize is a prize");

        uint256 asked = vm.getBlockTimestamp();
        vm.prank(payer);
        escrows.requestWithdraw(escrow);
        for (uint256 i; i < 3; ++i) {
            vm.warp(asked + i * 1 days);
            gifts += _gift(1); // WITHDRAWING: holds nothing up
        }
        vm.warp(asked + 3 days);
        gifts += _gift(1);
        vm.prank(payer);
        escrows.withdraw(escrow);
        assertEq(wealth(payer), start - PRIZE + gifts, "on time, and with the gifts");

        // CLOSED takes nothing.
        vm.prank(stranger);
        vm.expectRevert(
            abi.encodeWithSelector(
                ITicketEscrow.WrongStatus.selector, ITicketEscrow.Status.CLOSED, ITicketEscrow.Status.OPEN
            )
        );
        escrows.topUp{value: 1}(escrow, 1);
    }

    /// @dev In debt, a top-up pays later winners, cures nobody, and buys no time.
    function test_attack_topup_griefing_cures_nothing() external {
        openWith(0);
        claimAs(merchant, r1, 1);
        uint256 cureBy = escrows.escrowOf(escrow).cureBy;
        vm.deal(stranger, 1 ether);
        _gift(PRIZE);
        assertEq(escrows.debtOf(escrow, merchant), PRIZE);
        claimAs(merchant2, "r1 of the second", 1);
        assertEq(creditOf(merchant2), PRIZE);
        assertEq(escrows.escrowOf(escrow).debt, PRIZE);
        vm.warp(cureBy);
        _gift(PRIZE);
        vm.warp(cureBy + 1);
        escrows.burn(escrow);
        assertEq(creditOf(BURN), PENALTY + PRIZE);
        assertEq(creditOf(merchant), 0);
    }

    /// @dev All of the escrow but the balance is as before.
    function _gift(uint256 amount) private returns (uint256) {
        ITicketEscrow.Escrow memory before = escrows.escrowOf(escrow);
        vm.prank(stranger);
        escrows.topUp{value: amount}(escrow, amount);
        before.balance += amount;
        assertEq(abi.encode(escrows.escrowOf(escrow)), abi.encode(before), "a top-up changes the balance alone");
        return amount;
    }
}
