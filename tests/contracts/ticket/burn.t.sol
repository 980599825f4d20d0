// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract BurnTest is StepTest {
    function test_burn_TakesPenaltyAndBalanceAndCloses() external eachAsset {
        makeInsolvent();
        fund(stranger, PRIZE);
        vm.prank(stranger);
        escrows.topUp{value: valueOf(PRIZE)}(escrow, PRIZE);
        ITicketEscrow.Escrow memory wanted = escrows.escrowOf(escrow);
        skip(escrows.CURE_PERIOD() + 1);

        vm.expectEmit(address(escrows));
        emit ITicketEscrow.Burned(escrow, PENALTY + PRIZE);
        vm.prank(stranger);
        escrows.burn(escrow);

        wanted.balance = 0;
        wanted.penalty = 0;
        wanted.status = ITicketEscrow.Status.CLOSED;
        assertEscrow(escrows.escrowOf(escrow), wanted); // debt and cureBy stay, as a record
        assertEq(escrows.debtOf(escrow, merchant), PRIZE / 2);
        assertEq(creditOf(BURN), PENALTY + PRIZE);
        assertEq(creditOf(payer), 0);
        assertEq(creditOf(stranger), 0);
        assertEq(creditOf(merchant), PRIZE / 2);
    }

    function test_burn_LeavesEarmarksClaimable() external eachAsset {
        openWith(2 * PRIZE);
        vm.prank(payer);
        escrows.earmark(escrow, other, 2, uint64(vm.getBlockTimestamp()));
        claimAs(merchant, 1);
        skip(escrows.CURE_PERIOD() + 1);
        escrows.burn(escrow);
        assertEq(creditOf(BURN), PENALTY);
        assertEq(escrows.escrowOf(escrow).earmarked, 2 * PRIZE);
        claimAs(other, 1);
        assertEq(creditOf(other), PRIZE);
    }

    function test_burn_AfterAnEquivocationTookThePenalty() external eachAsset {
        makeInsolvent();
        ITicketEscrow.Ticket memory a = ticket(escrow, merchant, r1, 5, true);
        ITicketEscrow.Ticket memory b = ticket(escrow, merchant, r1, 5, false);
        vm.prank(stranger);
        escrows.proveEquivocation(
            a, sign(escrowKey, escrows.ticketDigest(a)), b, sign(escrowKey, escrows.ticketDigest(b))
        );
        skip(escrows.CURE_PERIOD() + 1);
        vm.expectEmit(address(escrows));
        emit ITicketEscrow.Burned(escrow, 0);
        escrows.burn(escrow);
        assertStatus(ITicketEscrow.Status.CLOSED);
    }

    function testFuzz_burn_RevertWhen_TooEarly(uint256 at) external eachAsset {
        makeInsolvent();
        uint256 cureBy = escrows.escrowOf(escrow).cureBy;
        vm.warp(bound(at, vm.getBlockTimestamp(), cureBy));
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.BurnTooEarly.selector, vm.getBlockTimestamp(), cureBy));
        escrows.burn(escrow);

        vm.warp(cureBy + 1);
        escrows.burn(escrow);
    }

    function test_burn_RevertWhen_NotInsolvent() external eachAsset {
        _refused(ITicketEscrow.Status.NONE);
        openWith(0);
        _refused(ITicketEscrow.Status.OPEN);
        vm.prank(payer);
        escrows.requestWithdraw(escrow);
        _refused(ITicketEscrow.Status.WITHDRAWING);
        claimAs(merchant, 1);
        skip(escrows.CURE_PERIOD() + 1);
        escrows.burn(escrow);
        _refused(ITicketEscrow.Status.CLOSED);
    }

    function _refused(ITicketEscrow.Status status) private {
        vm.expectRevert(
            abi.encodeWithSelector(ITicketEscrow.WrongStatus.selector, status, ITicketEscrow.Status.INSOLVENT)
        );
        escrows.burn(escrow);
    }
}
