// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";
import {stdError} from "forge-std/StdError.sol";

/// @notice `earmark` and `releaseEarmark`.
contract EarmarkTest is StepTest {
    uint64 internal start;

    function _arrange() internal override {
        start = uint64(vm.getBlockTimestamp());
    }

    // ── earmark ──

    function testFuzz_earmark_MovesPrizesFromTheBalance(uint32 prizes, uint64 until) external eachAsset {
        openWith(BALANCE);
        prizes = uint32(bound(prizes, 0, BALANCE / PRIZE));
        until = uint64(bound(until, start, start + escrows.MAX_EARMARK()));
        ITicketEscrow.Escrow memory wanted = escrows.escrowOf(escrow);

        vm.expectEmit(address(escrows));
        emit ITicketEscrow.Earmarked(escrow, merchant, prizes, until);
        _earmark(merchant, prizes, until);

        wanted.balance -= prizes * PRIZE;
        wanted.earmarked = prizes * PRIZE;
        wanted.earmarkUntil = until;
        assertEscrow(escrows.escrowOf(escrow), wanted);
        assertPair(escrows.pairOf(escrow, merchant), 0, prizes, until);
        assertPair(escrows.pairOf(escrow, other), 0, 0, 0);
    }

    function test_earmark_AddsUpAndHoldsUntilTheLatest() external eachAsset {
        openWith(BALANCE);
        _earmark(merchant, 2, start + 2 days);
        _earmark(other, 3, start + 1 days);
        _earmark(merchant, 4, start + 3 days);
        assertPair(escrows.pairOf(escrow, merchant), 0, 6, start + 3 days);
        assertPair(escrows.pairOf(escrow, other), 0, 3, start + 1 days);
        assertEq(escrows.escrowOf(escrow).earmarked, 9 * PRIZE);
        assertEq(escrows.escrowOf(escrow).earmarkUntil, start + 3 days);
    }

    function test_earmark_ProlongsWithoutMorePrizes() external eachAsset {
        openWith(BALANCE);
        _earmark(merchant, 2, start + 1 days);
        _earmark(merchant, 0, start + 2 days);
        assertPair(escrows.pairOf(escrow, merchant), 0, 2, start + 2 days);
    }

    function test_earmark_MayEndEarlierOnceNothingIsLeft() external eachAsset {
        openWith(BALANCE);
        _earmark(merchant, 1, start + 2 days);
        claimAs(merchant, 1);
        _earmark(merchant, 1, start + 1 days);
        assertPair(escrows.pairOf(escrow, merchant), 1, 1, start + 1 days);
        assertEq(escrows.escrowOf(escrow).earmarkUntil, start + 2 days, "the latest ever made");
    }

    function test_earmark_MayBeRenewedAfterItsEnd() external eachAsset {
        openWith(BALANCE);
        _earmark(merchant, 1, start + 1 days);
        skip(2 days);
        _earmark(merchant, 1, start + 2 days);
        assertPair(escrows.pairOf(escrow, merchant), 0, 2, start + 2 days);
    }

    function testFuzz_earmark_RevertWhen_BalanceTooLow(uint32 prizes, uint256 balance) external eachAsset {
        balance = bound(balance, 0, BALANCE);
        prizes = uint32(bound(prizes, balance / PRIZE + 1, type(uint32).max));
        openWith(balance);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.BalanceTooLow.selector, balance, uint256(prizes) * PRIZE));
        _earmark(merchant, prizes, start);
    }

    function test_earmark_RevertWhen_UntilIsPast() external eachAsset {
        openWith(BALANCE);
        _refusedUntil(start - 1, start);
    }

    function test_earmark_RevertWhen_UntilIsBeyondAYear() external eachAsset {
        openWith(BALANCE);
        _refusedUntil(start + escrows.MAX_EARMARK() + 1, start);
        _refusedUntil(start * 1000, start); // milliseconds
        _refusedUntil(type(uint64).max, start);
    }

    function test_earmark_RevertWhen_UntilIsBeforeWhatWasPromised() external eachAsset {
        openWith(BALANCE);
        _earmark(merchant, 1, start + 2 days);
        _refusedUntil(start + 2 days - 1, start + 2 days);
    }

    function test_earmark_RevertWhen_CallerIsNotThePayer() external eachAsset {
        openWith(BALANCE);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.NotPayer.selector, stranger, payer));
        vm.prank(stranger);
        escrows.earmark(escrow, stranger, 1, start);
    }

    function test_earmark_RevertWhen_Withdrawing() external eachAsset {
        openWith(BALANCE);
        vm.prank(payer);
        escrows.requestWithdraw(escrow);
        vm.expectRevert(
            abi.encodeWithSelector(
                ITicketEscrow.WrongStatus.selector, ITicketEscrow.Status.WITHDRAWING, ITicketEscrow.Status.OPEN
            )
        );
        _earmark(merchant, 1, start);
    }

    /// The count of prizes is 32 bits; with prizes of one atomic unit it can overflow before the balance does.
    function test_earmark_RevertWhen_PrizesOverflowTheirCount() external eachAsset {
        ITicketEscrow.Terms memory t = terms(asset);
        t.prize = 1;
        open(escrowKey, payer, t, BALANCE + PENALTY);
        _earmark(merchant, type(uint32).max, start);
        vm.expectRevert(stdError.arithmeticError);
        _earmark(merchant, 1, start);
    }

    // ── release ──

    function test_releaseEarmark_ReturnsWhatIsLeftToTheBalance() external eachAsset {
        openWith(BALANCE);
        _earmark(merchant, 3, start + 1 days);
        _earmark(other, 1, start + 1 days);
        claimAs(merchant, 1);
        vm.warp(start + 1 days + escrows.EARMARK_MARGIN() + 1);

        vm.expectEmit(address(escrows));
        emit ITicketEscrow.EarmarkReleased(escrow, merchant, 2);
        _release(merchant);

        assertPair(escrows.pairOf(escrow, merchant), 1, 0, start + 1 days);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE - 2 * PRIZE, "one paid, one is the other merchant's");
        assertEq(escrows.escrowOf(escrow).earmarked, PRIZE);
    }

    function test_releaseEarmark_WhileWithdrawing() external eachAsset {
        openWith(BALANCE);
        _earmark(merchant, 3, start);
        vm.prank(payer);
        escrows.requestWithdraw(escrow);
        skip(escrows.EARMARK_MARGIN() + 1);
        _release(merchant);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE);
    }

    /// It goes to the balance, not to the creditors: only {TicketEscrow.cure} pays debt.
    function test_releaseEarmark_WhileInsolvent() external eachAsset {
        openWith(PRIZE);
        _earmark(other, 1, start);
        claimAs(merchant, 1);
        skip(escrows.EARMARK_MARGIN() + 1);
        _release(other);
        assertEq(escrows.escrowOf(escrow).balance, PRIZE);
        assertEq(escrows.escrowOf(escrow).debt, PRIZE);
        assertStatus(ITicketEscrow.Status.INSOLVENT);
    }

    function test_releaseEarmark_OfABurnedEscrowIsBurned() external eachAsset {
        openWith(PRIZE);
        _earmark(other, 1, start);
        claimAs(merchant, 1);
        skip(escrows.CURE_PERIOD() + 1);
        escrows.burn(escrow);
        assertEq(creditOf(BURN), PENALTY);

        vm.expectEmit(address(escrows));
        emit ITicketEscrow.EarmarkReleased(escrow, other, 1);
        _release(other);

        assertEq(creditOf(BURN), PENALTY + PRIZE);
        assertEq(creditOf(payer), 0);
        assertEq(escrows.escrowOf(escrow).balance, 0);
        assertEq(escrows.escrowOf(escrow).earmarked, 0);
    }

    function testFuzz_releaseEarmark_RevertWhen_EarmarkIsLive(uint64 until, uint64 at) external eachAsset {
        openWith(BALANCE);
        until = uint64(bound(until, start, start + escrows.MAX_EARMARK()));
        uint64 releaseAt = until + escrows.EARMARK_MARGIN();
        at = uint64(bound(at, start, releaseAt));
        _earmark(merchant, 1, until);

        vm.warp(at);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.EarmarkLive.selector, at, releaseAt));
        _release(merchant);

        vm.warp(releaseAt + 1);
        _release(merchant);
    }

    function test_releaseEarmark_RevertWhen_NothingWasEarmarked() external eachAsset {
        openWith(BALANCE);
        _earmark(merchant, 1, start);
        skip(escrows.EARMARK_MARGIN() + 1);
        _refusedRelease(other);
        _release(merchant);
        _refusedRelease(merchant);
    }

    function test_releaseEarmark_RevertWhen_AllWasClaimed() external eachAsset {
        openWith(BALANCE);
        _earmark(merchant, 1, start);
        claimAs(merchant, 1);
        skip(escrows.EARMARK_MARGIN() + 1);
        _refusedRelease(merchant);
    }

    function test_releaseEarmark_RevertWhen_AWithdrawalReturnedIt() external eachAsset {
        openWith(BALANCE);
        _earmark(merchant, 1, start);
        vm.startPrank(payer);
        escrows.requestWithdraw(escrow);
        skip(escrows.WITHDRAW_DELAY());
        escrows.withdraw(escrow);
        vm.stopPrank();
        assertPair(escrows.pairOf(escrow, merchant), 0, 1, start);
        _refusedRelease(merchant);
    }

    function test_releaseEarmark_RevertWhen_CallerIsNotThePayer() external eachAsset {
        openWith(BALANCE);
        _earmark(merchant, 1, start);
        skip(escrows.EARMARK_MARGIN() + 1);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.NotPayer.selector, merchant, payer));
        vm.prank(merchant);
        escrows.releaseEarmark(escrow, merchant);
    }

    function _earmark(address recipient, uint32 prizes, uint64 until) private {
        vm.prank(payer);
        escrows.earmark(escrow, recipient, prizes, until);
    }

    function _release(address recipient) private {
        vm.prank(payer);
        escrows.releaseEarmark(escrow, recipient);
    }

    function _refusedRelease(address recipient) private {
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.NothingEarmarked.selector, escrow, recipient));
        _release(recipient);
    }

    function _refusedUntil(uint64 until, uint64 low) private {
        uint64 high = uint64(vm.getBlockTimestamp()) + escrows.MAX_EARMARK();
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.EarmarkUntilOutOfRange.selector, until, low, high));
        _earmark(merchant, 1, until);
    }
}
