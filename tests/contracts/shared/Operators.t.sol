// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TicketFixture} from "../ticket/TicketFixture.sol";
import {ILedger} from "contracts/shared/ILedger.sol";
import {IOperators} from "contracts/shared/IOperators.sol";
import {Operators} from "contracts/shared/Operators.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract OperatorTest is TicketFixture {
    function testFuzz_setOperator_ApprovesAndRevokes(address recipient, address operator) external {
        assertFalse(escrows.isOperator(recipient, operator));

        vm.expectEmit(address(escrows));
        emit IOperators.OperatorSet(recipient, operator, true);
        vm.prank(recipient);
        escrows.setOperator(operator, true);
        assertTrue(escrows.isOperator(recipient, operator));

        vm.expectEmit(address(escrows));
        emit IOperators.OperatorSet(recipient, operator, false);
        vm.prank(recipient);
        escrows.setOperator(operator, false);
        assertFalse(escrows.isOperator(recipient, operator));
    }

    /// Approval is of one operator by one recipient, in one direction.
    function testFuzz_setOperator_ApprovesNobodyElse(address recipient, address operator, address third) external {
        vm.assume(recipient != operator && third != operator && third != recipient);
        vm.prank(recipient);
        escrows.setOperator(operator, true);
        assertFalse(escrows.isOperator(operator, recipient));
        assertFalse(escrows.isOperator(recipient, third));
        assertFalse(escrows.isOperator(third, operator));
    }

    /// An operator claims; it cannot take the credit.
    function test_setOperator_GivesNoPowerOverCredit() external {
        openDefault(NATIVE);
        vm.prank(merchant);
        escrows.setOperator(stranger, true);
        ITicketEscrow.Winner memory w = winner(1);
        vm.startPrank(stranger);
        escrows.claim(merchant, escrow, r1, w);
        vm.expectRevert(abi.encodeWithSelector(ILedger.CreditTooLow.selector, PRIZE, 0));
        escrows.withdrawCredit(NATIVE, stranger, PRIZE);
        vm.stopPrank();
    }
}
