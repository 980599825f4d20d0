// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

/// @notice `requestWithdraw`, `cancelWithdraw` and `withdraw`.
contract WithdrawTest is StepTest {
    // ── request ──

    function test_requestWithdraw_StartsTheDelay() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Escrow memory wanted = escrows.escrowOf(escrow);
        uint64 withdrawAt = uint64(vm.getBlockTimestamp()) + escrows.WITHDRAW_DELAY();

        vm.expectEmit(address(escrows));
        emit ITicketEscrow.WithdrawRequested(escrow, withdrawAt);
        _request();

        wanted.status = ITicketEscrow.Status.WITHDRAWING;
        wanted.withdrawAt = withdrawAt;
        assertEscrow(escrows.escrowOf(escrow), wanted);
        assertEq(creditOf(payer), 0);
    }

    function test_requestWithdraw_RevertWhen_CallerIsNotThePayer() external eachAsset {
        openWith(BALANCE);
        _notPayer(escrow);
        vm.prank(escrow); // the escrow key signs tickets, it does not own the money
        escrows.requestWithdraw(escrow);

        _notPayer(stranger);
        vm.prank(stranger);
        escrows.requestWithdraw(escrow);
    }

    function test_requestWithdraw_RevertWhen_EscrowMissing() external eachAsset {
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.NotPayer.selector, payer, address(0)));
        _request();
    }

    function test_requestWithdraw_RevertWhen_RequestedBefore() external eachAsset {
        openWith(BALANCE);
        _request();
        skip(1 days);
        _wrongStatus(ITicketEscrow.Status.WITHDRAWING, ITicketEscrow.Status.OPEN);
        _request();
    }

    function test_requestWithdraw_RevertWhen_Insolvent() external eachAsset {
        makeInsolvent();
        _wrongStatus(ITicketEscrow.Status.INSOLVENT, ITicketEscrow.Status.OPEN);
        _request();
    }

    // ── cancel ──

    function testFuzz_cancelWithdraw_Reopens(uint256 at) external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Escrow memory wanted = escrows.escrowOf(escrow);
        _request();
        skip(bound(at, 0, 365 days));

        vm.expectEmit(address(escrows));
        emit ITicketEscrow.WithdrawCancelled(escrow);
        vm.prank(payer);
        escrows.cancelWithdraw(escrow);

        assertEscrow(escrows.escrowOf(escrow), wanted);
    }

    /// A cancelled request buys no time for the next one.
    function test_cancelWithdraw_TheNextRequestWaitsInFull() external eachAsset {
        openWith(BALANCE);
        _request();
        skip(escrows.WITHDRAW_DELAY());
        vm.prank(payer);
        escrows.cancelWithdraw(escrow);
        _request();
        assertEq(escrows.escrowOf(escrow).withdrawAt, vm.getBlockTimestamp() + escrows.WITHDRAW_DELAY());
    }

    function test_cancelWithdraw_RevertWhen_CallerIsNotThePayer() external eachAsset {
        openWith(BALANCE);
        _request();
        _notPayer(stranger);
        vm.prank(stranger);
        escrows.cancelWithdraw(escrow);
    }

    function test_cancelWithdraw_RevertWhen_NothingWasRequested() external eachAsset {
        openWith(BALANCE);
        _wrongStatus(ITicketEscrow.Status.OPEN, ITicketEscrow.Status.WITHDRAWING);
        vm.prank(payer);
        escrows.cancelWithdraw(escrow);
    }

    // ── withdraw ──

    function testFuzz_withdraw_CreditsThePayerWithAllThatIsLeft(uint256 balance, uint64 wins, uint256 late)
        external
        eachAsset
    {
        balance = bound(balance, 0, type(uint96).max);
        wins = uint64(bound(wins, 0, balance / PRIZE > 3 ? 3 : balance / PRIZE));
        fund(payer, balance + PENALTY);
        openWith(balance);
        _request();
        for (uint64 nonce = 1; nonce <= wins; ++nonce) {
            claimAs(merchant, nonce);
        }
        ITicketEscrow.Escrow memory wanted = escrows.escrowOf(escrow);
        uint256 amount = balance + PENALTY - wins * PRIZE;
        skip(escrows.WITHDRAW_DELAY() + bound(late, 0, 3650 days));

        vm.expectEmit(address(escrows));
        emit ITicketEscrow.Withdrawn(escrow, payer, amount);
        _withdraw();

        wanted.balance = 0;
        wanted.penalty = 0;
        wanted.withdrawAt = 0;
        wanted.status = ITicketEscrow.Status.CLOSED;
        assertEscrow(escrows.escrowOf(escrow), wanted);
        assertEq(creditOf(payer), amount);

        uint256 before = heldBy(payer);
        vm.prank(payer);
        escrows.withdrawCredit(asset, payer, amount);
        assertEq(heldBy(payer) - before, amount);
        assertEq(heldBy(address(escrows)), creditOf(merchant));
    }

    function test_withdraw_TakesExpiredEarmarksBack() external eachAsset {
        openWith(BALANCE);
        uint64 start = uint64(vm.getBlockTimestamp());
        vm.startPrank(payer);
        escrows.earmark(escrow, merchant, 3, start + 1 days);
        escrows.earmark(escrow, other, 2, start + 2 days);
        vm.stopPrank();
        _request();
        skip(escrows.WITHDRAW_DELAY());
        _withdraw();
        assertEq(creditOf(payer), BALANCE + PENALTY);
        assertEq(escrows.escrowOf(escrow).earmarked, 0);
    }

    /// Nothing is earmarked any more, so the old end does not matter.
    function test_withdraw_MayFollowAClaimedEarmarkBeforeItsEnd() external eachAsset {
        openWith(BALANCE);
        vm.prank(payer);
        escrows.earmark(escrow, merchant, 1, uint64(vm.getBlockTimestamp()) + 365 days);
        claimAs(merchant, 1);
        _request();
        skip(escrows.WITHDRAW_DELAY());
        _withdraw();
        assertEq(creditOf(payer), BALANCE - PRIZE + PENALTY);
    }

    function test_withdraw_AfterAnEquivocationReturnsTheBalanceOnly() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Ticket memory a = ticket(escrow, merchant, r1, 1, true);
        ITicketEscrow.Ticket memory b = ticket(escrow, merchant, r1, 1, false);
        escrows.proveEquivocation(
            a, sign(escrowKey, escrows.ticketDigest(a)), b, sign(escrowKey, escrows.ticketDigest(b))
        );
        _request();
        skip(escrows.WITHDRAW_DELAY());
        _withdraw();
        assertEq(creditOf(payer), BALANCE);
    }

    /// I4: nothing before the delay is over.
    function testFuzz_withdraw_RevertWhen_TooEarly(uint256 at) external eachAsset {
        openWith(BALANCE);
        _request();
        uint256 withdrawAt = escrows.escrowOf(escrow).withdrawAt;
        vm.warp(bound(at, vm.getBlockTimestamp(), withdrawAt - 1));
        vm.expectRevert(
            abi.encodeWithSelector(ITicketEscrow.WithdrawTooEarly.selector, vm.getBlockTimestamp(), withdrawAt)
        );
        _withdraw();

        vm.warp(withdrawAt);
        _withdraw();
    }

    function testFuzz_withdraw_RevertWhen_EarmarkLive(uint64 until, uint256 at) external eachAsset {
        openWith(BALANCE);
        uint64 start = uint64(vm.getBlockTimestamp());
        until = uint64(bound(until, start + escrows.WITHDRAW_DELAY(), start + escrows.MAX_EARMARK()));
        uint256 releaseAt = until + escrows.EARMARK_MARGIN();
        vm.prank(payer);
        escrows.earmark(escrow, merchant, 1, until);
        _request();

        vm.warp(bound(at, escrows.escrowOf(escrow).withdrawAt, releaseAt));
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.EarmarkLive.selector, vm.getBlockTimestamp(), releaseAt));
        _withdraw();

        vm.warp(releaseAt + 1);
        _withdraw();
        assertEq(creditOf(payer), BALANCE + PENALTY);
    }

    function test_withdraw_RevertWhen_CallerIsNotThePayer() external eachAsset {
        openWith(BALANCE);
        _request();
        skip(escrows.WITHDRAW_DELAY());
        _notPayer(stranger);
        vm.prank(stranger);
        escrows.withdraw(escrow);
    }

    function test_withdraw_RevertWhen_NothingWasRequested() external eachAsset {
        openWith(BALANCE);
        skip(365 days);
        _wrongStatus(ITicketEscrow.Status.OPEN, ITicketEscrow.Status.WITHDRAWING);
        _withdraw();
    }

    function test_withdraw_RevertWhen_InsolventInTheMeantime() external eachAsset {
        openWith(0);
        _request();
        claimAs(merchant, 1);
        skip(escrows.WITHDRAW_DELAY());
        _wrongStatus(ITicketEscrow.Status.INSOLVENT, ITicketEscrow.Status.WITHDRAWING);
        _withdraw();
    }

    function test_withdraw_RevertWhen_Twice() external eachAsset {
        makeWithdrawn();
        _wrongStatus(ITicketEscrow.Status.CLOSED, ITicketEscrow.Status.WITHDRAWING);
        _withdraw();
    }

    // ── helpers ──

    function _request() private {
        vm.prank(payer);
        escrows.requestWithdraw(escrow);
    }

    function _withdraw() private {
        vm.prank(payer);
        escrows.withdraw(escrow);
    }

    function _notPayer(address caller) private {
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.NotPayer.selector, caller, payer));
    }

    function _wrongStatus(ITicketEscrow.Status got, ITicketEscrow.Status needed) private {
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.WrongStatus.selector, got, needed));
    }
}
