// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OperatorsHarness} from "../mocks/OperatorsHarness.sol";
import {TicketFixture} from "../ticket/TicketFixture.sol";
import {ILedger} from "contracts/shared/ILedger.sol";
import {IOperators} from "contracts/shared/IOperators.sol";
import {Operators} from "contracts/shared/Operators.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract OperatorsTest is TicketFixture {
    OperatorsHarness private operators;

    function setUp() public override {
        super.setUp();
        operators = new OperatorsHarness();
    }

    function testFuzz_setOperator_ApprovesAndRevokes(address recipient, address operator) external {
        assertFalse(operators.isOperator(recipient, operator));

        vm.expectEmit(address(operators));
        emit IOperators.OperatorSet(recipient, operator, true);
        vm.prank(recipient);
        operators.setOperator(operator, true);
        assertTrue(operators.isOperator(recipient, operator));
        vm.startPrank(operator);
        assertTrue(operators.actsFor(recipient));
        operators.check(recipient);
        vm.stopPrank();

        vm.expectEmit(address(operators));
        emit IOperators.OperatorSet(recipient, operator, false);
        vm.prank(recipient);
        operators.setOperator(operator, false);
        assertFalse(operators.isOperator(recipient, operator));
        vm.prank(operator);
        assertEq(operators.actsFor(recipient), operator == recipient);
    }

    /// Approval is of one operator by one recipient, in one direction.
    function testFuzz_setOperator_ApprovesNobodyElse(address recipient, address operator, address third) external {
        vm.assume(recipient != operator && third != operator && third != recipient);
        vm.prank(recipient);
        operators.setOperator(operator, true);
        assertFalse(operators.isOperator(operator, recipient));
        assertFalse(operators.isOperator(recipient, third));
        assertFalse(operators.isOperator(third, operator));
        vm.prank(third);
        vm.expectRevert(abi.encodeWithSelector(IOperators.NotOperator.selector, third, recipient));
        operators.check(recipient);
    }

    function testFuzz_actsFor_Oneself(address recipient) external {
        vm.startPrank(recipient);
        assertTrue(operators.actsFor(recipient));
        operators.check(recipient);
        vm.stopPrank();
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
