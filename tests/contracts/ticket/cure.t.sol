// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {ILedger} from "contracts/shared/ILedger.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract CureTest is StepTest {
    address private curer = makeAddr("curer");

    /// @dev Half a prize owed to `merchant`, one and two to `other` and `stranger`.
    function _owe() private {
        makeInsolvent();
        claimAs(other, 1);
        claimAs(stranger, 1);
        claimAs(stranger, 2);
        fund(curer, BALANCE);
    }

    function test_cure_PaysAllCreditorsAndReopens() external eachAsset {
        _owe();
        ITicketEscrow.Escrow memory wanted = escrows.escrowOf(escrow);
        uint256 debt = wanted.debt;
        uint256 held = heldBy(address(escrows));
        assertEq(debt, PRIZE / 2 + 3 * PRIZE);

        _expectCured(merchant, PRIZE / 2, 3 * PRIZE);
        _expectCured(other, PRIZE, 2 * PRIZE);
        _expectCured(stranger, 2 * PRIZE, 0);
        _cure(_creditors(merchant, other, stranger), debt);

        wanted.debt = 0;
        wanted.cureBy = 0;
        wanted.status = ITicketEscrow.Status.OPEN;
        assertEscrow(escrows.escrowOf(escrow), wanted);
        assertEq(creditOf(merchant), PRIZE, "half from the balance, half from the cure");
        assertEq(creditOf(other), PRIZE);
        assertEq(creditOf(stranger), 2 * PRIZE);
        assertEq(escrows.debtOf(escrow, merchant), 0);
        assertEq(escrows.debtOf(escrow, other), 0);
        assertEq(escrows.debtOf(escrow, stranger), 0);
        assertEq(creditOf(curer), 0);
        assertEq(heldBy(address(escrows)), held + debt);
    }

    function test_cure_InParts() external eachAsset {
        _owe();
        uint64 cureBy = escrows.escrowOf(escrow).cureBy;
        _expectCured(other, PRIZE, PRIZE / 2 + 2 * PRIZE);
        _cure(_creditors(other), PRIZE);
        assertStatus(ITicketEscrow.Status.INSOLVENT);
        assertEq(escrows.escrowOf(escrow).cureBy, cureBy, "what is paid buys no time");
        assertEq(escrows.escrowOf(escrow).debt, PRIZE / 2 + 2 * PRIZE);

        _cure(_creditors(merchant, stranger), PRIZE / 2 + 2 * PRIZE);
        assertStatus(ITicketEscrow.Status.OPEN);
    }

    function test_cure_CreditsTheCallerWithWhatIsOver() external eachAsset {
        _owe();
        _cure(_creditors(merchant, other, stranger), 5 * PRIZE);
        assertEq(creditOf(curer), 5 * PRIZE - (PRIZE / 2 + 3 * PRIZE));
    }

    /// Listing a creditor twice, or one who is owed nothing, costs nothing and pays nobody twice.
    function test_cure_IgnoresRepeatsAndStrangers() external eachAsset {
        _owe();
        vm.recordLogs();
        _cure(_creditors(other, other, payer), 2 * PRIZE);
        assertEq(creditOf(other), PRIZE);
        assertEq(creditOf(payer), 0);
        assertEq(creditOf(curer), PRIZE);
        assertEq(escrows.escrowOf(escrow).debt, PRIZE / 2 + 2 * PRIZE);
    }

    function test_cure_TheLastSecondCounts() external eachAsset {
        _owe();
        vm.warp(escrows.escrowOf(escrow).cureBy);
        _cure(_creditors(merchant, other, stranger), 4 * PRIZE);
        assertStatus(ITicketEscrow.Status.OPEN);
    }

    function test_cure_AnEscrowCanFailAgain() external eachAsset {
        _owe();
        _cure(_creditors(merchant, other, stranger), 4 * PRIZE);
        skip(10 days);
        claimAs(merchant, 2);
        assertStatus(ITicketEscrow.Status.INSOLVENT);
        assertEq(escrows.escrowOf(escrow).cureBy, vm.getBlockTimestamp() + escrows.CURE_PERIOD());
        assertEq(escrows.debtOf(escrow, merchant), PRIZE);
    }

    /// The penalty pays no creditor: restitution comes from the curer alone (rule E9).
    function test_cure_LeavesPenaltyBalanceAndEarmarks() external eachAsset {
        openWith(PRIZE);
        vm.prank(payer);
        escrows.earmark(escrow, other, 1, uint64(vm.getBlockTimestamp()));
        claimAs(merchant, 1);
        fund(curer, PRIZE);
        _cure(_creditors(merchant), PRIZE);
        assertEq(escrows.escrowOf(escrow).penalty, PENALTY);
        assertEq(escrows.escrowOf(escrow).balance, 0);
        assertEq(escrows.escrowOf(escrow).earmarked, PRIZE);
    }

    /// Any debts, any order and any split over two curers: each creditor ends with exactly what it was owed.
    /// forge-config: default.fuzz.runs = 64
    function testFuzz_cure_PaysEachCreditorExactly(uint8[4] memory wins, uint256 split, uint256 over)
        external
        eachAsset
    {
        openWith(0);
        address[] memory all = new address[](wins.length);
        uint256 debt;
        for (uint256 i; i < wins.length; ++i) {
            all[i] = makeAddr(vm.toString(i));
            uint256 count = bound(wins[i], i == 0 ? 1 : 0, 3);
            for (uint64 nonce = 1; nonce <= count; ++nonce) {
                claimAs(all[i], nonce);
            }
            debt += count * PRIZE;
        }
        over = bound(over, 0, PRIZE);
        split = bound(split, 0, all.length);
        address[] memory first = new address[](split);
        for (uint256 i; i < split; ++i) {
            first[i] = all[split - 1 - i];
        }
        fund(curer, 2 * (debt + over));
        if (split != 0) _cure(first, debt + over); // creditor 0 is owed something
        if (escrows.escrowOf(escrow).debt != 0) _cure(all, debt + over);

        assertStatus(ITicketEscrow.Status.OPEN);
        uint256 credited = creditOf(curer);
        for (uint256 i; i < all.length; ++i) {
            assertEq(creditOf(all[i]), bound(wins[i], i == 0 ? 1 : 0, 3) * PRIZE);
            assertEq(escrows.debtOf(escrow, all[i]), 0);
            credited += creditOf(all[i]);
        }
        assertEq(heldBy(address(escrows)), credited + PENALTY);
    }

    function test_cure_RevertWhen_NotInsolvent() external eachAsset {
        fund(curer, BALANCE);
        _refusedStatus(ITicketEscrow.Status.NONE);
        openWith(0);
        _refusedStatus(ITicketEscrow.Status.OPEN);
        vm.prank(payer);
        escrows.requestWithdraw(escrow);
        _refusedStatus(ITicketEscrow.Status.WITHDRAWING);
        claimAs(merchant, 1);
        skip(escrows.CURE_PERIOD() + 1);
        escrows.burn(escrow);
        _refusedStatus(ITicketEscrow.Status.CLOSED);
    }

    function testFuzz_cure_RevertWhen_TooLate(uint256 late) external eachAsset {
        _owe();
        uint256 cureBy = escrows.escrowOf(escrow).cureBy;
        vm.warp(cureBy + bound(late, 1, 3650 days));
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.CureTooLate.selector, vm.getBlockTimestamp(), cureBy));
        _cure(_creditors(merchant), PRIZE);
    }

    function test_cure_RevertWhen_NothingOwedToTheListed() external eachAsset {
        _owe();
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.NothingOwed.selector, escrow));
        _cure(_creditors(payer), PRIZE);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.NothingOwed.selector, escrow));
        _cure(new address[](0), PRIZE);
    }

    function testFuzz_cure_RevertWhen_DebtNotCovered(uint256 amount) external eachAsset {
        _owe();
        amount = bound(amount, 0, PRIZE + PRIZE / 2 - 1);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.DebtNotCovered.selector, amount, PRIZE + PRIZE / 2));
        _cure(_creditors(merchant, other), amount);
    }

    function test_cure_RevertWhen_ValueIsNotTheAmount() external onlyNative {
        _owe();
        vm.expectRevert(abi.encodeWithSelector(ILedger.WrongValue.selector, PRIZE - 1, PRIZE));
        vm.prank(curer);
        escrows.cure{value: PRIZE - 1}(escrow, _creditors(merchant), PRIZE);
    }

    function test_cure_RevertWhen_ValueIsSentWithAToken() external onlyErc20 {
        _owe();
        vm.deal(curer, 1);
        vm.expectRevert(abi.encodeWithSelector(ILedger.WrongValue.selector, 1, 0));
        vm.prank(curer);
        escrows.cure{value: 1}(escrow, _creditors(merchant), PRIZE);
    }

    // ── helpers ──

    function _cure(address[] memory creditors, uint256 amount) private {
        vm.prank(curer);
        escrows.cure{value: valueOf(amount)}(escrow, creditors, amount);
    }

    function _expectCured(address creditor, uint256 amount, uint256 debt) private {
        vm.expectEmit(address(escrows));
        emit ITicketEscrow.Cured(escrow, creditor, amount, debt);
    }

    function _refusedStatus(ITicketEscrow.Status status) private {
        vm.expectRevert(
            abi.encodeWithSelector(ITicketEscrow.WrongStatus.selector, status, ITicketEscrow.Status.INSOLVENT)
        );
        _cure(_creditors(merchant), PRIZE);
    }

    function _creditors(address a) private pure returns (address[] memory list) {
        list = new address[](1);
        list[0] = a;
    }

    function _creditors(address a, address b) private pure returns (address[] memory list) {
        list = new address[](2);
        (list[0], list[1]) = (a, b);
    }

    function _creditors(address a, address b, address c) private pure returns (address[] memory list) {
        list = new address[](3);
        (list[0], list[1], list[2]) = (a, b, c);
    }
}
