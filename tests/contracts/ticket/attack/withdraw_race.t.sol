// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Row M1-4. The paper has no way back for the payer's money, only "can be slightly modified". The obvious modification, a
// refund at any time, lets the payer watch the mempool and take the money out ahead of a winning claim. Ours waits three
// days, longer than the longest ticket life and the claim margin; claims go on meanwhile, and one that falls short cancels
// the withdrawal.

import {AttackFixture} from "./AttackFixture.sol";
import {PaperEscrow} from "./PaperRule.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract WithdrawRaceTest is AttackFixture {
    function test_attack_withdraw_race() external {
        // The paper, slightly modified: the refund wins the race.
        PaperEscrow paper = paperEscrow(1 ether);
        Witness memory w = witness(paper, merchant);
        vm.prank(payer);
        paper.refund();
        vm.expectRevert("nothing left");
        paper.release(w.r1, w.r2, w.payee, w.v, w.r, w.s);

        // Ours: the merchant holds winners when the payer asks for its money.
        uint256 start = payer.balance;
        openWith(5);
        ITicketEscrow.Winner memory first = winner(1);
        ITicketEscrow.Winner memory second = winner(2);
        uint256 asked = vm.getBlockTimestamp();
        vm.prank(payer);
        escrows.requestWithdraw(escrow);
        _refused(asked, asked + 3 days);

        // A claim at once, and one at the last second of the longest life.
        vm.prank(merchant);
        escrows.claim(merchant, escrow, r1, first);
        vm.warp(second.expiry);
        vm.prank(merchant);
        escrows.claim(merchant, escrow, r1, second);
        assertEq(creditOf(merchant), 2 * PRIZE);

        vm.warp(asked + 3 days - 1);
        _refused(asked + 3 days - 1, asked + 3 days);
        vm.warp(asked + 3 days);
        vm.prank(payer);
        escrows.withdraw(escrow);
        assertEq(wealth(payer), start - 2 * PRIZE, "the payer has all but what it lost, to the wei");
        assertEq(address(escrows).balance, creditOf(merchant) + creditOf(payer));
    }

    /// @dev A second request, a cancellation and a new request never shorten the wait.
    function test_attack_withdraw_race_cannot_bank_the_delay() external {
        openWith(5);
        uint256 asked = vm.getBlockTimestamp();
        vm.startPrank(payer);
        escrows.requestWithdraw(escrow);
        vm.warp(asked + 3 days - 1);
        escrows.cancelWithdraw(escrow);
        escrows.requestWithdraw(escrow);
        vm.warp(asked + 3 days);
        vm.stopPrank();
        _refused(asked + 3 days, asked + 6 days - 1);
    }

    /// @dev The payer drains the balance by itself while the withdrawal waits: the honest claim that falls short stops it.
    function test_attack_withdraw_race_shortfall_cancels() external {
        openWith(1);
        uint256 asked = vm.getBlockTimestamp();
        vm.prank(payer);
        escrows.requestWithdraw(escrow);
        claimAs(sybil, sybilR1, 1);
        claimAs(merchant, r1, 1);
        assertEq(uint256(status()), uint256(ITicketEscrow.Status.INSOLVENT));
        vm.warp(asked + 3 days);
        vm.prank(payer);
        vm.expectRevert(
            abi.encodeWithSelector(
                ITicketEscrow.WrongStatus.selector, ITicketEscrow.Status.INSOLVENT, ITicketEscrow.Status.WITHDRAWING
            )
        );
        escrows.withdraw(escrow);
        assertEq(creditOf(payer), 0);
    }

    function _refused(uint256 nowAt, uint256 withdrawAt) private {
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.WithdrawTooEarly.selector, nowAt, withdrawAt));
        escrows.withdraw(escrow);
        assertEq(creditOf(payer), 0);
    }
}
