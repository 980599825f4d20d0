// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {IOperators} from "contracts/shared/IOperators.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";
import {TicketEscrow} from "contracts/ticket/TicketEscrow.sol";

contract ClaimTest is StepTest {
    // ── paying ──

    function test_claim_CreditsOnePrizeFromTheBalance() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Escrow memory wanted = escrows.escrowOf(escrow);
        uint256 held = heldBy(address(escrows));

        _expectClaimed(7, 0, 0);
        claimAs(merchant, 7);

        wanted.balance -= PRIZE;
        assertEscrow(escrows.escrowOf(escrow), wanted);
        assertPair(escrows.pairOf(escrow, merchant), 7, 0, 0);
        assertEq(creditOf(merchant), PRIZE);
        assertEq(heldBy(address(escrows)), held, "a claim moves no asset");
    }

    function test_claim_ByAnOperatorCreditsTheRecipient() external eachAsset {
        openWith(BALANCE);
        vm.prank(merchant);
        escrows.setOperator(stranger, true);
        ITicketEscrow.Winner memory w = winner(1);
        vm.prank(stranger);
        escrows.claim(merchant, escrow, r1, w);
        assertEq(creditOf(merchant), PRIZE);
        assertEq(creditOf(stranger), 0);
    }

    function test_claim_WhileWithdrawing() external eachAsset {
        openWith(BALANCE);
        vm.prank(payer);
        escrows.requestWithdraw(escrow);
        claimAs(merchant, 1);
        assertEq(creditOf(merchant), PRIZE);
        assertStatus(ITicketEscrow.Status.WITHDRAWING);
    }

    function test_claim_StaysPossibleAfterAnEquivocation() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Ticket memory a = ticket(escrow, merchant, r1, 1, true);
        ITicketEscrow.Ticket memory b = ticket(escrow, merchant, r1, 1, false);
        escrows.proveEquivocation(
            a, sign(escrowKey, escrows.ticketDigest(a)), b, sign(escrowKey, escrows.ticketDigest(b))
        );
        claimAs(merchant, 1);
        assertEq(creditOf(merchant), PRIZE);
    }

    /// I3: a pair is paid once per winning nonce, in any rising order.
    /// forge-config: default.fuzz.runs = 64
    function testFuzz_claim_PaysOncePerRisingNonce(uint64[8] memory steps) external eachAsset {
        openWith(BALANCE);
        uint64 nonce;
        for (uint256 i; i < steps.length; ++i) {
            uint64 next = nonce + uint64(bound(steps[i], 0, 100));
            if (next == nonce) {
                _refused(winner(next), ITicketEscrow.NonceNotAboveLast.selector, next, nonce);
            } else {
                claimAs(merchant, next);
                nonce = next;
            }
        }
        uint256 paid = creditOf(merchant);
        assertEq(paid % PRIZE, 0);
        assertEq(escrows.escrowOf(escrow).balance + paid, BALANCE);
        assertEq(escrows.pairOf(escrow, merchant).lastNonce, nonce);
    }

    /// Every recipient has its own nonces.
    function test_claim_OtherRecipientsNonceDoesNotMatter() external eachAsset {
        openWith(BALANCE);
        claimAs(merchant, 500);
        claimAs(other, 1);
        assertEq(creditOf(other), PRIZE);
        assertEq(escrows.pairOf(escrow, merchant).lastNonce, 500);
        assertEq(escrows.pairOf(escrow, other).lastNonce, 1);
    }

    // ── earmark, balance, debt ──

    function test_claim_PaysTheEarmarkFirst() external eachAsset {
        openWith(BALANCE);
        uint64 until = _earmark(merchant, 2);

        _expectClaimed(1, PRIZE, 0);
        claimAs(merchant, 1);
        assertPair(escrows.pairOf(escrow, merchant), 1, 1, until);
        assertEq(escrows.escrowOf(escrow).earmarked, PRIZE);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE - 2 * PRIZE);

        _expectClaimed(2, PRIZE, 0);
        claimAs(merchant, 2);
        assertEq(escrows.escrowOf(escrow).earmarked, 0);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE - 2 * PRIZE);

        _expectClaimed(3, 0, 0);
        claimAs(merchant, 3);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE - 3 * PRIZE);
        assertEq(creditOf(merchant), 3 * PRIZE);
    }

    function test_claim_LeavesTheEarmarksOfOthers() external eachAsset {
        openWith(2 * PRIZE);
        _earmark(other, 1);
        claimAs(merchant, 1);
        claimAs(merchant, 2);
        assertEq(creditOf(merchant), PRIZE, "one prize was left for all");
        assertEq(escrows.debtOf(escrow, merchant), PRIZE);
        claimAs(other, 1);
        assertEq(creditOf(other), PRIZE, "one was earmarked");
        assertEq(escrows.debtOf(escrow, other), 0);
    }

    /// An earmark that nobody released is paid, however old.
    function test_claim_PaysAnEarmarkAfterItsEnd() external eachAsset {
        openWith(PRIZE);
        _earmark(merchant, 1);
        skip(30 days);
        claimAs(merchant, 1);
        assertEq(creditOf(merchant), PRIZE);
    }

    /// forge-config: default.fuzz.runs = 64
    function testFuzz_claim_SplitsThePrize(uint256 balance, uint256 prizes) external eachAsset {
        balance = bound(balance, 0, 5 * PRIZE);
        prizes = bound(prizes, 0, balance / PRIZE);
        openWith(balance);
        if (prizes != 0) _earmark(merchant, uint32(prizes));
        for (uint64 nonce = 1; nonce <= 6; ++nonce) {
            claimAs(merchant, nonce);
        }
        uint256 paid = balance > 6 * PRIZE ? 6 * PRIZE : balance;
        assertEq(creditOf(merchant), paid);
        assertEq(escrows.debtOf(escrow, merchant), 6 * PRIZE - paid);
        assertEq(escrows.escrowOf(escrow).debt, 6 * PRIZE - paid);
        assertEq(escrows.escrowOf(escrow).balance, 0);
        assertEq(escrows.escrowOf(escrow).earmarked, 0);
        assertStatus(ITicketEscrow.Status.INSOLVENT);
    }

    function test_claim_ThatEmptiesTheBalanceLeavesTheEscrowOpen() external eachAsset {
        openWith(PRIZE);
        claimAs(merchant, 1);
        assertEq(escrows.escrowOf(escrow).balance, 0);
        assertStatus(ITicketEscrow.Status.OPEN);
    }

    function test_claim_ShortfallBecomesDebt() external eachAsset {
        openWith(PRIZE / 4);
        uint64 cureBy = uint64(vm.getBlockTimestamp()) + escrows.CURE_PERIOD();
        ITicketEscrow.Escrow memory wanted = escrows.escrowOf(escrow);
        uint256 owed = PRIZE - PRIZE / 4;

        _expectClaimed(1, 0, owed);
        vm.expectEmit(address(escrows));
        emit ITicketEscrow.BecameInsolvent(escrow, cureBy);
        claimAs(merchant, 1);

        wanted.balance = 0;
        wanted.debt = owed;
        wanted.cureBy = cureBy;
        wanted.status = ITicketEscrow.Status.INSOLVENT;
        assertEscrow(escrows.escrowOf(escrow), wanted);
        assertEq(escrows.debtOf(escrow, merchant), owed);
        assertEq(creditOf(merchant), PRIZE / 4);
    }

    function test_claim_ShortfallCancelsAWithdrawal() external eachAsset {
        openWith(0);
        vm.prank(payer);
        escrows.requestWithdraw(escrow);
        claimAs(merchant, 1);
        assertStatus(ITicketEscrow.Status.INSOLVENT);
        assertEq(escrows.escrowOf(escrow).withdrawAt, 0);
    }

    /// Debt adds up and the cure period is not prolonged: creditors of the first hour wait no longer for those of the last.
    function test_claim_WhileInsolventAddsDebtWithoutMoreTime() external eachAsset {
        makeInsolvent();
        uint64 cureBy = escrows.escrowOf(escrow).cureBy;
        skip(1 hours);
        vm.recordLogs();
        claimAs(merchant, 2);
        claimAs(other, 1);
        assertEq(vm.getRecordedLogs().length, 2, "Claimed twice and nothing else");
        assertEq(escrows.escrowOf(escrow).cureBy, cureBy);
        assertEq(escrows.escrowOf(escrow).debt, PRIZE / 2 + 2 * PRIZE);
        assertEq(escrows.debtOf(escrow, merchant), PRIZE / 2 + PRIZE);
        assertEq(escrows.debtOf(escrow, other), PRIZE);
    }

    /// New money of an insolvent escrow pays new winners; older debt waits for the cure.
    function test_claim_WhileInsolventAfterATopUp() external eachAsset {
        makeInsolvent();
        fund(payer, PRIZE);
        vm.prank(payer);
        escrows.topUp{value: valueOf(PRIZE)}(escrow, PRIZE);
        claimAs(other, 1);
        assertEq(creditOf(other), PRIZE);
        assertEq(escrows.debtOf(escrow, merchant), PRIZE / 2);
    }

    function test_claim_EarmarkOfABurnedEscrow() external eachAsset {
        openWith(PRIZE);
        _earmark(merchant, 1);
        claimAs(other, 1);
        skip(escrows.CURE_PERIOD() + 1);
        escrows.burn(escrow);

        claimAs(merchant, 1);
        assertEq(creditOf(merchant), PRIZE);
        assertStatus(ITicketEscrow.Status.CLOSED);
        _refusedNotPaying(ITicketEscrow.Status.CLOSED, 2);
    }

    // ── who ──

    function test_claim_RevertWhen_CallerIsNeitherRecipientNorOperator() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Winner memory w = winner(1);
        address[4] memory callers = [stranger, payer, escrow, address(escrows)];
        for (uint256 i; i < callers.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IOperators.NotOperator.selector, callers[i], merchant));
            vm.prank(callers[i]);
            escrows.claim(merchant, escrow, r1, w);
        }
    }

    function test_claim_RevertWhen_OperatorWasRevoked() external eachAsset {
        openWith(BALANCE);
        vm.startPrank(merchant);
        escrows.setOperator(stranger, true);
        escrows.setOperator(stranger, false);
        vm.stopPrank();
        ITicketEscrow.Winner memory w = winner(1);
        vm.expectRevert(abi.encodeWithSelector(IOperators.NotOperator.selector, stranger, merchant));
        vm.prank(stranger);
        escrows.claim(merchant, escrow, r1, w);
    }

    // ── reasons, in the order of the checks ──

    function test_claim_RevertWhen_EscrowMissing() external eachAsset {
        _refusedNotPaying(ITicketEscrow.Status.NONE, 1);
    }

    function test_claim_RevertWhen_Withdrawn() external eachAsset {
        makeWithdrawn();
        _refusedNotPaying(ITicketEscrow.Status.CLOSED, 1);
    }

    function test_claim_RevertWhen_Burned() external eachAsset {
        makeBurned();
        _refusedNotPaying(ITicketEscrow.Status.CLOSED, 2);
    }

    /// The pair still names the earmark, but the withdrawal took the money.
    function test_claim_RevertWhen_AWithdrawalReturnedTheEarmark() external eachAsset {
        openWith(BALANCE);
        _earmark(merchant, 1);
        vm.startPrank(payer);
        escrows.requestWithdraw(escrow);
        skip(escrows.WITHDRAW_DELAY());
        escrows.withdraw(escrow);
        vm.stopPrank();
        assertEq(escrows.pairOf(escrow, merchant).earmarkPrizes, 1);
        _refusedNotPaying(ITicketEscrow.Status.CLOSED, 1);
    }

    function testFuzz_claim_RevertWhen_Expired(uint64 expiry, uint64 late) external eachAsset {
        openWith(BALANCE);
        uint256 start = vm.getBlockTimestamp();
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, 1, true);
        t.expiry = uint64(bound(expiry, start, start + 365 days));
        ITicketEscrow.Winner memory w = signed(escrowKey, grind(t, r1, true));

        vm.warp(t.expiry + bound(late, 1, 365 days));
        _refused(w, ITicketEscrow.TicketExpired.selector, vm.getBlockTimestamp(), t.expiry);

        vm.warp(t.expiry);
        _claim(w);
        assertEq(creditOf(merchant), PRIZE, "its last second counts");
    }

    function testFuzz_claim_RevertWhen_NonceNotBelowCap(uint64 nonce) external eachAsset {
        openWith(BALANCE);
        nonce = uint64(bound(nonce, CAP, type(uint64).max));
        _refused(winner(nonce), ITicketEscrow.NonceNotBelowCap.selector, nonce, CAP);
        claimAs(merchant, CAP - 1);
    }

    function testFuzz_claim_RevertWhen_NonceNotAboveLast(uint64 last, uint64 nonce) external eachAsset {
        openWith(BALANCE);
        last = uint64(bound(last, 1, CAP - 1));
        nonce = uint64(bound(nonce, 0, last));
        claimAs(merchant, last);
        _refused(winner(nonce), ITicketEscrow.NonceNotAboveLast.selector, nonce, last);
    }

    function test_claim_RevertWhen_NonceZero() external eachAsset {
        openWith(BALANCE);
        _refused(winner(0), ITicketEscrow.NonceNotAboveLast.selector, 0, 0);
    }

    function test_claim_RevertWhen_ReplayedAsItIs() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Winner memory w = winner(1);
        _claim(w);
        _refused(w, ITicketEscrow.NonceNotAboveLast.selector, 1, 1);
    }

    function testFuzz_claim_RevertWhen_ThresholdAboveMax(uint256 threshold) external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, 1, true);
        t.winThreshold = bound(threshold, RHO_1_128 + 1, type(uint256).max);
        t = grind(t, r1, true);
        _refused(signed(escrowKey, t), ITicketEscrow.ThresholdAboveMax.selector, t.winThreshold, RHO_1_128);
    }

    function testFuzz_claim_AnyThresholdUpToTheMax(uint256 threshold) external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, 1, true);
        t.winThreshold = bound(threshold, 1 << 247, RHO_1_128);
        _claim(signed(escrowKey, grind(t, r1, true)));
        assertEq(creditOf(merchant), PRIZE);
    }

    function testFuzz_claim_RevertWhen_DrawNotBelowThreshold(uint64 nonce) external eachAsset {
        openWith(BALANCE);
        nonce = uint64(bound(nonce, 1, CAP - 1));
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, nonce, false);
        uint256 drawn = drawOf(escrows.ticketDigest(t), r1);
        _refused(signed(escrowKey, t), ITicketEscrow.DrawNotBelowThreshold.selector, drawn, RHO_1_128);
    }

    function test_claim_RevertWhen_ThresholdZero() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, 1, false);
        t.winThreshold = 0;
        uint256 drawn = drawOf(escrows.ticketDigest(t), r1);
        _refused(signed(escrowKey, t), ITicketEscrow.DrawNotBelowThreshold.selector, drawn, 0);
    }

    function test_claim_RevertWhen_AnotherKeySigned() external eachAsset {
        openWith(BALANCE);
        (address forger, uint256 key) = makeAddrAndKey("forger");
        _refusedSigner(signed(key, ticket(escrow, merchant, r1, 1, true)), forger);
    }

    function test_claim_RevertWhen_SignatureIsMalformedOrMalleable() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Winner memory w = winner(1);
        ITicketEscrow.Signature[] memory list = unrecoverable(w.signature);
        for (uint256 i; i < list.length; ++i) {
            w.signature = list[i];
            _refusedSigner(w, address(0));
        }
    }

    /// The commitment of the signed ticket opens with `r1` only. (Ground so that the false reading wins its draw; with
    /// overwhelming odds it fails there already.)
    function test_claim_RevertWhen_CommitmentDoesNotOpen() external eachAsset {
        openWith(BALANCE);
        bytes32 false1 = keccak256("another r1");
        ITicketEscrow.Ticket memory read = ticket(escrow, merchant, false1, 1, true);
        _refusedReading(read, commitmentTo(merchant, r1), merchant, false1);
    }

    /// An operator of another recipient cannot take the ticket: the recipient is in the commitment and in the ticket.
    function test_claim_RevertWhen_RecipientIsAnother() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Ticket memory read = ticket(escrow, other, r1, 1, true);
        _refusedReading(read, read.commitment, merchant, r1);
    }

    function test_claim_RevertWhen_EscrowIsAnother() external eachAsset {
        openWith(BALANCE);
        (address escrow2, uint256 key2) = makeAddrAndKey("escrow 2");
        open(key2, payer, terms(asset), BALANCE + PENALTY);
        ITicketEscrow.Ticket memory read = ticket(escrow, merchant, r1, 1, true);
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, 1, true);
        t.escrow = escrow2;
        ITicketEscrow.Signature memory s = sign(key2, escrows.ticketDigest(t));
        _refusedSigner(
            ITicketEscrow.Winner(read.r2, read.winThreshold, read.expiry, read.nonce, s),
            recover(escrows.ticketDigest(read), s)
        );
    }

    function test_claim_RevertWhen_SignedForAnotherContract() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Ticket memory read = ticket(escrow, merchant, r1, 1, true);
        ITicketEscrow.Signature memory s = sign(escrowKey, new TicketEscrow().ticketDigest(read));
        _refusedSigner(
            ITicketEscrow.Winner(read.r2, read.winThreshold, read.expiry, read.nonce, s),
            recover(escrows.ticketDigest(read), s)
        );
    }

    function test_claim_RevertWhen_SignedForAnotherChain() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Ticket memory read = ticket(escrow, merchant, r1, 1, true);
        vm.chainId(1);
        ITicketEscrow.Signature memory s = sign(escrowKey, escrows.ticketDigest(read));
        vm.chainId(31_337);
        _refusedSigner(
            ITicketEscrow.Winner(read.r2, read.winThreshold, read.expiry, read.nonce, s),
            recover(escrows.ticketDigest(read), s)
        );
    }

    /// Each signed field: a changed one is another ticket, with another signer.
    function test_claim_RevertWhen_AnyFieldDiffersFromTheSigned() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, 1, true);
        ITicketEscrow.Signature memory s = sign(escrowKey, escrows.ticketDigest(t));
        for (uint256 field; field < 4; ++field) {
            // Ground again where a field other than r2 changes, so that the changed ticket gets as far as its signature.
            ITicketEscrow.Ticket memory read = ticket(escrow, merchant, r1, field == 0 ? 2 : 1, true);
            if (field == 1) read.expiry += 1;
            if (field == 2) read.winThreshold -= 1;
            if (field == 3) read.r2 = keccak256("r2");
            for (uint256 i; drawOf(escrows.ticketDigest(read), r1) >= read.winThreshold; ++i) {
                read.r2 = keccak256(abi.encode(field, i));
            }
            _refusedSigner(
                ITicketEscrow.Winner(read.r2, read.winThreshold, read.expiry, read.nonce, s),
                recover(escrows.ticketDigest(read), s)
            );
        }
    }

    // ── helpers ──

    function _claim(ITicketEscrow.Winner memory w) private {
        vm.prank(merchant);
        escrows.claim(merchant, escrow, r1, w);
    }

    function _earmark(address recipient, uint32 prizes) private returns (uint64 until) {
        until = uint64(vm.getBlockTimestamp());
        vm.prank(payer);
        escrows.earmark(escrow, recipient, prizes, until);
    }

    function _expectClaimed(uint64 nonce, uint256 fromEarmark, uint256 owed) private {
        vm.expectEmit(address(escrows));
        emit ITicketEscrow.Claimed(escrow, merchant, nonce, fromEarmark, owed);
    }

    function _refused(ITicketEscrow.Winner memory w, bytes4 reason, uint256 got, uint256 limit) private {
        vm.expectRevert(abi.encodeWithSelector(reason, got, limit));
        _claim(w);
    }

    function _refusedNotPaying(ITicketEscrow.Status status, uint64 nonce) private {
        _refused(
            winner(nonce), ITicketEscrow.EscrowNotPaying.selector, uint256(status), uint256(ITicketEscrow.Status.OPEN)
        );
    }

    function _refusedSigner(ITicketEscrow.Winner memory w, address recovered) private {
        assertNotEq(recovered, escrow);
        _refused(w, ITicketEscrow.TicketNotSigned.selector, uint160(recovered), uint160(escrow));
    }

    /// @dev The escrow key signs `read` with another commitment and recipient; the contract reads it as `read`.
    function _refusedReading(ITicketEscrow.Ticket memory read, bytes32 commitment, address recipient, bytes32 secret)
        private
    {
        ITicketEscrow.Ticket memory t = ITicketEscrow.Ticket(
            read.escrow, recipient, commitment, read.r2, read.winThreshold, read.expiry, read.nonce
        );
        ITicketEscrow.Winner memory w = signed(escrowKey, t);
        address recovered = recover(escrows.ticketDigest(read), w.signature);
        assertNotEq(recovered, escrow);
        vm.expectRevert(
            abi.encodeWithSelector(ITicketEscrow.TicketNotSigned.selector, uint160(recovered), uint160(escrow))
        );
        vm.prank(read.recipient);
        escrows.claim(read.recipient, escrow, secret, w);
    }
}
