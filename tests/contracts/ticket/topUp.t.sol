// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ILedger} from "contracts/shared/ILedger.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract TopUpTest is StepTest {
    function testFuzz_topUp_AddsToTheBalanceAndChangesNothingElse(uint256 amount) external eachAsset {
        amount = bound(amount, 0, type(uint96).max - BALANCE);
        openWith(BALANCE);
        _addsAndChangesNothingElse(payer, amount);
    }

    function test_topUp_ByAnyone() external eachAsset {
        openWith(BALANCE);
        _addsAndChangesNothingElse(stranger, PRIZE);
    }

    function test_topUp_CancelsNoWithdrawal() external eachAsset {
        openWith(BALANCE);
        vm.prank(payer);
        escrows.requestWithdraw(escrow);
        _addsAndChangesNothingElse(stranger, PRIZE);
        assertStatus(ITicketEscrow.Status.WITHDRAWING);
    }

    function test_topUp_CuresNoDebt() external eachAsset {
        makeInsolvent();
        _addsAndChangesNothingElse(stranger, BALANCE);
        assertStatus(ITicketEscrow.Status.INSOLVENT);
        assertEq(escrows.debtOf(escrow, merchant), PRIZE / 2);
    }

    function test_topUp_RevertWhen_EscrowMissing() external eachAsset {
        _refused(ITicketEscrow.Status.NONE);
    }

    function test_topUp_RevertWhen_Withdrawn() external eachAsset {
        makeWithdrawn();
        _refused(ITicketEscrow.Status.CLOSED);
    }

    function test_topUp_RevertWhen_Burned() external eachAsset {
        makeBurned();
        _refused(ITicketEscrow.Status.CLOSED);
    }

    function testFuzz_topUp_RevertWhen_BalanceAbove96Bits(uint256 amount) external eachAsset {
        amount = bound(amount, type(uint96).max - BALANCE + 1, type(uint128).max);
        openWith(BALANCE);
        fund(payer, amount);
        vm.expectRevert(
            abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, uint8(96), BALANCE + amount)
        );
        vm.prank(payer);
        escrows.topUp{value: valueOf(amount)}(escrow, amount);
    }

    function _addsAndChangesNothingElse(address from, uint256 amount) private {
        fund(from, amount);
        ITicketEscrow.Escrow memory wanted = escrows.escrowOf(escrow);
        uint256 held = heldBy(address(escrows));

        vm.expectEmit(address(escrows));
        emit ITicketEscrow.ToppedUp(escrow, from, amount);
        vm.prank(from);
        escrows.topUp{value: valueOf(amount)}(escrow, amount);

        wanted.balance += amount;
        assertEscrow(escrows.escrowOf(escrow), wanted);
        assertEq(heldBy(address(escrows)), held + amount);
    }

    function _refused(ITicketEscrow.Status status) private {
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.WrongStatus.selector, status, ITicketEscrow.Status.OPEN));
        vm.prank(payer);
        escrows.topUp{value: valueOf(1)}(escrow, 1);
    }

    function test_topUp_RevertWhen_ValueIsNotTheAmount() external onlyNative {
        openWith(BALANCE);
        vm.expectRevert(abi.encodeWithSelector(ILedger.WrongValue.selector, 1, 2));
        vm.prank(payer);
        escrows.topUp{value: 1}(escrow, 2);
    }

    function test_topUp_RevertWhen_ValueIsSentWithAToken() external onlyErc20 {
        openWith(BALANCE);
        vm.expectRevert(abi.encodeWithSelector(ILedger.WrongValue.selector, 1, 0));
        vm.prank(payer);
        escrows.topUp{value: 1}(escrow, 2);
    }
}
