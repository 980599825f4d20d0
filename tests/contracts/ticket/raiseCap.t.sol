// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ILedger} from "contracts/shared/ILedger.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract RaiseCapTest is StepTest {
    function _arrange() internal override {
        openWith(BALANCE);
    }

    function testFuzz_raiseCap_RaisesCapAndPenaltyOnly(uint64 cap, uint256 amount) external eachAsset {
        cap = uint64(bound(cap, CAP + 1, type(uint32).max));
        amount = bound(amount, 1, type(uint96).max - PENALTY);
        fund(payer, amount);
        ITicketEscrow.Escrow memory wanted = escrows.escrowOf(escrow);
        uint256 held = heldBy(address(escrows));

        vm.expectEmit(address(escrows));
        emit ITicketEscrow.CapRaised(escrow, cap, PENALTY + amount);
        vm.prank(payer);
        escrows.raiseCap{value: valueOf(amount)}(escrow, cap, amount);

        wanted.ticketCap = cap;
        wanted.penalty += amount;
        assertEscrow(escrows.escrowOf(escrow), wanted);
        assertEq(heldBy(address(escrows)), held + amount);
    }

    function test_raiseCap_MakesHigherNoncesPayable() external eachAsset {
        vm.prank(payer);
        escrows.raiseCap{value: valueOf(1)}(escrow, CAP + 1, 1);
        claimAs(merchant, CAP);
        assertEq(creditOf(merchant), PRIZE);
    }

    function test_raiseCap_RevertWhen_CapDoesNotRise() external eachAsset {
        uint64[3] memory caps = [uint64(0), CAP - 1, CAP];
        for (uint256 i; i < caps.length; ++i) {
            _refusedCap(caps[i]);
        }
    }

    function testFuzz_raiseCap_RevertWhen_CapAbove32Bits(uint64 cap) external eachAsset {
        _refusedCap(uint64(bound(cap, uint64(type(uint32).max) + 1, type(uint64).max)));
    }

    function test_raiseCap_RevertWhen_CapIsAtItsHighest() external eachAsset {
        vm.startPrank(payer);
        escrows.raiseCap{value: valueOf(1)}(escrow, type(uint32).max, 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                ITicketEscrow.TicketCapOutOfRange.selector,
                type(uint32).max,
                uint64(type(uint32).max) + 1,
                type(uint32).max
            )
        );
        escrows.raiseCap{value: valueOf(1)}(escrow, type(uint32).max, 1);
        vm.stopPrank();
    }

    function test_raiseCap_RevertWhen_PenaltyNotRaised() external eachAsset {
        vm.expectRevert(ITicketEscrow.PenaltyNotRaised.selector);
        vm.prank(payer);
        escrows.raiseCap(escrow, CAP + 1, 0);
    }

    function test_raiseCap_RevertWhen_PenaltyAbove96Bits() external eachAsset {
        uint256 amount = type(uint96).max - PENALTY + 1;
        fund(payer, amount);
        vm.expectRevert(
            abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, uint8(96), PENALTY + amount)
        );
        vm.prank(payer);
        escrows.raiseCap{value: valueOf(amount)}(escrow, CAP + 1, amount);
    }

    function test_raiseCap_RevertWhen_CallerIsNotThePayer() external eachAsset {
        fund(stranger, 1);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.NotPayer.selector, stranger, payer));
        vm.prank(stranger);
        escrows.raiseCap{value: valueOf(1)}(escrow, CAP + 1, 1);
    }

    function test_raiseCap_RevertWhen_Withdrawing() external eachAsset {
        vm.startPrank(payer);
        escrows.requestWithdraw(escrow);
        vm.expectRevert(
            abi.encodeWithSelector(
                ITicketEscrow.WrongStatus.selector, ITicketEscrow.Status.WITHDRAWING, ITicketEscrow.Status.OPEN
            )
        );
        escrows.raiseCap{value: valueOf(1)}(escrow, CAP + 1, 1);
        vm.stopPrank();
    }

    function _refusedCap(uint64 cap) private {
        vm.expectRevert(
            abi.encodeWithSelector(ITicketEscrow.TicketCapOutOfRange.selector, cap, CAP + 1, type(uint32).max)
        );
        vm.prank(payer);
        escrows.raiseCap{value: valueOf(1)}(escrow, cap, 1);
    }

    function test_raiseCap_RevertWhen_ValueIsNotTheAmount() external onlyNative {
        vm.expectRevert(abi.encodeWithSelector(ILedger.WrongValue.selector, 2, 1));
        vm.prank(payer);
        escrows.raiseCap{value: 2}(escrow, CAP + 1, 1);
    }

    function test_raiseCap_RevertWhen_ValueIsSentWithAToken() external onlyErc20 {
        vm.expectRevert(abi.encodeWithSelector(ILedger.WrongValue.selector, 1, 0));
        vm.prank(payer);
        escrows.raiseCap{value: 1}(escrow, CAP + 1, 1);
    }
}
