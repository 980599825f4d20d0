// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {IOperators} from "contracts/shared/IOperators.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract ClaimBatchTest is StepTest {
    // ── paying ──

    function test_claimBatch_PaysEveryWinner() external eachAsset {
        openWith(BALANCE);
        for (uint64 nonce = 3; nonce < 8; ++nonce) {
            _expectClaimed(escrow, merchant, nonce, 0, 0);
        }
        _claimBatch(_one(escrow, r1, winners(3, 5)));
        assertEq(creditOf(merchant), 5 * PRIZE);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE - 5 * PRIZE);
        assertPair(escrows.pairOf(escrow, merchant), 7, 0, 0);
    }

    function test_claimBatch_ByAnOperatorCreditsTheRecipient() external eachAsset {
        openWith(BALANCE);
        vm.prank(merchant);
        escrows.setOperator(stranger, true);
        ITicketEscrow.Group[] memory groups = _one(escrow, r1, winners(1, 2));
        vm.prank(stranger);
        escrows.claimBatch(merchant, groups);
        assertEq(creditOf(merchant), 2 * PRIZE);
        assertEq(creditOf(stranger), 0);
    }

    function test_claimBatch_OfNothingDoesNothing() external eachAsset {
        openWith(BALANCE);
        vm.recordLogs();
        _claimBatch(new ITicketEscrow.Group[](0));
        _claimBatch(_one(escrow, r1, winners(1, 0)));
        _claimBatch(_one(makeAddr("no escrow"), r1, winners(1, 0)));
        assertEq(vm.getRecordedLogs().length, 0);
        assertEq(creditOf(merchant), 0);
    }

    function test_claimBatch_FromManyPayers() external eachAsset {
        ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](5);
        for (uint256 i; i < groups.length; ++i) {
            groups[i] = _openAnother(i, asset);
        }
        _claimBatch(groups);
        assertEq(creditOf(merchant), groups.length * PRIZE);
        for (uint256 i; i < groups.length; ++i) {
            assertEq(escrows.escrowOf(groups[i].escrow).balance, BALANCE - PRIZE);
        }
    }

    /// Credit is summed per run of one asset: runs must not leak into each other.
    function test_claimBatch_OfSeveralAssetsCreditsEach() external {
        address[6] memory assets = [NATIVE, NATIVE, address(token), NATIVE, address(token), address(token)];
        ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](assets.length);
        for (uint256 i; i < groups.length; ++i) {
            groups[i] = _openAnother(i, assets[i]);
        }
        _claimBatch(groups);
        assertEq(escrows.creditOf(NATIVE, merchant), 3 * PRIZE);
        assertEq(escrows.creditOf(address(token), merchant), 3 * PRIZE);
    }

    function testFuzz_claimBatch_OfSeveralAssetsCreditsEach(bool[7] memory native) external {
        ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](native.length);
        uint256 natives;
        for (uint256 i; i < groups.length; ++i) {
            groups[i] = _openAnother(i, native[i] ? NATIVE : address(token));
            if (native[i]) ++natives;
        }
        _claimBatch(groups);
        assertEq(escrows.creditOf(NATIVE, merchant), natives * PRIZE);
        assertEq(escrows.creditOf(address(token), merchant), (native.length - natives) * PRIZE);
    }

    /// Two commitments of one escrow are two groups.
    function test_claimBatch_OneEscrowUnderTwoCommitments() external eachAsset {
        openWith(BALANCE);
        bytes32 second = keccak256("second r1");
        ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](2);
        groups[0] = group(escrow, r1, winners(1, 2));
        groups[1] = group(escrow, second, _list(signed(escrowKey, ticket(escrow, merchant, second, 3, true))));
        _claimBatch(groups);
        assertEq(creditOf(merchant), 3 * PRIZE);
        assertEq(escrows.pairOf(escrow, merchant).lastNonce, 3);
    }

    function test_claimBatch_PaysEarmarkThenBalanceThenOwes() external eachAsset {
        openWith(3 * PRIZE + PRIZE / 2);
        uint64 until = uint64(vm.getBlockTimestamp());
        uint64 cureBy = until + escrows.CURE_PERIOD();
        vm.prank(payer);
        escrows.earmark(escrow, merchant, 2, until);

        _expectClaimed(escrow, merchant, 1, PRIZE, 0);
        _expectClaimed(escrow, merchant, 2, PRIZE, 0);
        _expectClaimed(escrow, merchant, 3, 0, 0);
        _expectClaimed(escrow, merchant, 4, 0, PRIZE / 2);
        _expectClaimed(escrow, merchant, 5, 0, PRIZE);
        vm.expectEmit(address(escrows));
        emit ITicketEscrow.BecameInsolvent(escrow, cureBy);
        _claimBatch(_one(escrow, r1, winners(1, 5)));

        assertEq(creditOf(merchant), 3 * PRIZE + PRIZE / 2);
        assertEq(escrows.debtOf(escrow, merchant), PRIZE + PRIZE / 2);
        assertEq(escrows.escrowOf(escrow).debt, PRIZE + PRIZE / 2);
        assertEq(escrows.escrowOf(escrow).balance, 0);
        assertEq(escrows.escrowOf(escrow).earmarked, 0);
        assertEq(escrows.escrowOf(escrow).cureBy, cureBy);
        assertStatus(ITicketEscrow.Status.INSOLVENT);
        assertPair(escrows.pairOf(escrow, merchant), 5, 0, until);
    }

    /// A group that is owed everything credits nothing, and the next group is paid all the same.
    function test_claimBatch_OwedInFullThenPaid() external eachAsset {
        openWith(0);
        ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](2);
        groups[0] = group(escrow, r1, winners(1, 1));
        groups[1] = _openAnother(0, asset);
        _claimBatch(groups);
        assertEq(creditOf(merchant), PRIZE);
        assertEq(escrows.debtOf(escrow, merchant), PRIZE);
    }

    /// With the earmark of a burned escrow used up in the middle of a group, the rest is refused.
    function test_claimBatch_EarmarkOfABurnedEscrowRunsOut() external eachAsset {
        openWith(PRIZE);
        vm.prank(payer);
        escrows.earmark(escrow, merchant, 1, uint64(vm.getBlockTimestamp()));
        claimAs(other, 1);
        skip(escrows.CURE_PERIOD() + 1);
        escrows.burn(escrow);

        _expectClaimed(escrow, merchant, 1, PRIZE, 0);
        _expectSkipped(2, ITicketEscrow.EscrowNotPaying.selector, 4, 1);
        _claimBatch(_one(escrow, r1, winners(1, 2)));
        assertEq(creditOf(merchant), PRIZE);
    }

    // ── leaving out ──

    function test_claimBatch_SkipsEscrowMissing() external eachAsset {
        address missing = makeAddr("no escrow");
        ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](2);
        groups[0] = group(missing, r1, winners(1, 1));
        groups[1] = _openAnother(0, asset);
        vm.expectEmit(address(escrows));
        emit ITicketEscrow.TicketSkipped(missing, merchant, 1, ITicketEscrow.EscrowNotPaying.selector, 0, 1);
        _expectClaimed(groups[1].escrow, merchant, 1, 0, 0);
        _claimBatch(groups);
        assertEq(creditOf(merchant), PRIZE);
        assertPair(escrows.pairOf(missing, merchant), 0, 0, 0);
    }

    function test_claimBatch_SkipsClosed() external eachAsset {
        makeWithdrawn();
        _expectSkipped(1, ITicketEscrow.EscrowNotPaying.selector, 4, 1);
        _claimBatch(_one(escrow, r1, winners(1, 1)));
        assertEq(creditOf(merchant), 0);
    }

    function test_claimBatch_SkipsExpired() external eachAsset {
        openWith(BALANCE);
        uint64 nowAt = uint64(vm.getBlockTimestamp());
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, 2, true);
        t.expiry = nowAt - 1;
        _skipsTheMiddle(signed(escrowKey, t), 2, ITicketEscrow.TicketExpired.selector, nowAt, nowAt - 1);
    }

    function test_claimBatch_SkipsNonceNotBelowCap() external eachAsset {
        openWith(BALANCE);
        _skipsTheMiddle(winner(CAP), CAP, ITicketEscrow.NonceNotBelowCap.selector, CAP, CAP);
    }

    function test_claimBatch_SkipsNonceNotAboveLast() external eachAsset {
        openWith(BALANCE);
        _skipsTheMiddle(winner(1), 1, ITicketEscrow.NonceNotAboveLast.selector, 1, 1);
    }

    function test_claimBatch_SkipsThresholdAboveMax() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, 2, true);
        t.winThreshold = RHO_1_128 + 1;
        _skipsTheMiddle(signed(escrowKey, t), 2, ITicketEscrow.ThresholdAboveMax.selector, RHO_1_128 + 1, RHO_1_128);
    }

    function test_claimBatch_SkipsDrawNotBelowThreshold() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, 2, false);
        uint256 drawn = drawOf(escrows.ticketDigest(t), r1);
        _skipsTheMiddle(signed(escrowKey, t), 2, ITicketEscrow.DrawNotBelowThreshold.selector, drawn, RHO_1_128);
    }

    function test_claimBatch_SkipsTicketNotSigned() external eachAsset {
        openWith(BALANCE);
        (address forger, uint256 key) = makeAddrAndKey("forger");
        ITicketEscrow.Winner memory forged = signed(key, ticket(escrow, merchant, r1, 2, true));
        _skipsTheMiddle(forged, 2, ITicketEscrow.TicketNotSigned.selector, uint160(forger), uint160(escrow));
    }

    function test_claimBatch_SkipsMalformedOrMalleableSignatures() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Winner[] memory good = winners(2, 1);
        ITicketEscrow.Signature[] memory spoiled = unrecoverable(good[0].signature);
        ITicketEscrow.Winner[] memory list = new ITicketEscrow.Winner[](spoiled.length + 1);
        for (uint256 i; i < spoiled.length; ++i) {
            list[i] = winner(2);
            list[i].signature = spoiled[i];
            _expectSkipped(2, ITicketEscrow.TicketNotSigned.selector, 0, uint160(escrow));
        }
        list[spoiled.length] = good[0];
        _expectClaimed(escrow, merchant, 2, 0, 0);
        _claimBatch(_one(escrow, r1, list));
        assertEq(creditOf(merchant), PRIZE);
    }

    function test_claimBatch_SkipsTheSameWinnerTwice() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](2);
        ITicketEscrow.Winner[] memory twice = new ITicketEscrow.Winner[](2);
        twice[0] = winner(1);
        twice[1] = winner(1);
        groups[0] = group(escrow, r1, twice);
        groups[1] = group(escrow, r1, winners(1, 1));
        _expectClaimed(escrow, merchant, 1, 0, 0);
        _expectSkipped(1, ITicketEscrow.NonceNotAboveLast.selector, 1, 1);
        _expectSkipped(1, ITicketEscrow.NonceNotAboveLast.selector, 1, 1);
        _claimBatch(groups);
        assertEq(creditOf(merchant), PRIZE);
    }

    /// Order is the claimer's business: what comes after a higher nonce is left out, for ever.
    function test_claimBatch_SkipsWhatIsOutOfOrder() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Winner[] memory list = new ITicketEscrow.Winner[](3);
        (list[0], list[1], list[2]) = (winner(2), winner(1), winner(3));
        _expectClaimed(escrow, merchant, 2, 0, 0);
        _expectSkipped(1, ITicketEscrow.NonceNotAboveLast.selector, 1, 2);
        _expectClaimed(escrow, merchant, 3, 0, 0);
        _claimBatch(_one(escrow, r1, list));
        assertEq(creditOf(merchant), 2 * PRIZE);
    }

    function test_claimBatch_SkippedWinnersMoveNoNonce() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Winner[] memory list = _list(signed(escrowKey, ticket(escrow, merchant, r1, 9, false)));
        _claimBatch(_one(escrow, r1, list));
        assertEq(escrows.pairOf(escrow, merchant).lastNonce, 0);
        claimAs(merchant, 1);
    }

    function test_claimBatch_RevertWhen_CallerIsNeitherRecipientNorOperator() external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Group[] memory groups = _one(escrow, r1, winners(1, 1));
        address[3] memory callers = [stranger, payer, escrow];
        for (uint256 i; i < callers.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IOperators.NotOperator.selector, callers[i], merchant));
            vm.prank(callers[i]);
            escrows.claimBatch(merchant, groups);
        }
    }

    /// A batch ends as the same winners claimed one by one, whatever is wrong with some of them.
    /// forge-config: default.fuzz.runs = 128
    function testFuzz_claimBatch_EqualsClaimsOneByOne(uint256 balance, uint256 prizes, uint8[8] memory kinds)
        external
        eachAsset
    {
        balance = bound(balance, 0, 10 * PRIZE);
        openWith(balance);
        prizes = bound(prizes, 0, balance / PRIZE);
        vm.prank(payer);
        escrows.earmark(escrow, merchant, uint32(prizes), uint64(vm.getBlockTimestamp()));
        ITicketEscrow.Winner[] memory list = new ITicketEscrow.Winner[](kinds.length);
        for (uint64 i; i < kinds.length; ++i) {
            list[i] = _ofKind(kinds[i] % 8, i + 1);
        }

        uint256 start = vm.snapshotState();
        for (uint256 i; i < list.length; ++i) {
            vm.prank(merchant);
            try escrows.claim(merchant, escrow, r1, list[i]) {} catch {}
        }
        bytes32 oneByOne = _state();
        vm.revertToState(start);
        _claimBatch(_one(escrow, r1, list));
        assertEq(_state(), oneByOne);
    }

    // ── helpers ──

    function _ofKind(uint256 kind, uint64 nonce) private view returns (ITicketEscrow.Winner memory w) {
        if (kind == 0) return signed(escrowKey, ticket(escrow, merchant, r1, nonce, false)); // loses
        if (kind == 1) return signed(escrowKey + 1, ticket(escrow, merchant, r1, nonce, true)); // forged
        if (kind == 2) return winner(CAP + nonce);
        w = winner(nonce);
        if (kind == 3) w.expiry = 0;
        if (kind == 4) w.winThreshold = type(uint256).max;
        if (kind == 5) w.signature = malleated(w.signature);
    }

    function _state() private view returns (bytes32) {
        return keccak256(
            abi.encode(
                escrows.escrowOf(escrow),
                escrows.pairOf(escrow, merchant),
                escrows.debtOf(escrow, merchant),
                creditOf(merchant)
            )
        );
    }

    /// @dev 1, the bad one, 3: the bad one is left out for `reason`, the others are paid.
    function _skipsTheMiddle(ITicketEscrow.Winner memory bad, uint64 nonce, bytes4 reason, uint256 got, uint256 limit)
        private
    {
        ITicketEscrow.Winner[] memory list = new ITicketEscrow.Winner[](3);
        (list[0], list[1], list[2]) = (winner(1), bad, winner(3));
        _expectClaimed(escrow, merchant, 1, 0, 0);
        _expectSkipped(nonce, reason, got, limit);
        _expectClaimed(escrow, merchant, 3, 0, 0);
        _claimBatch(_one(escrow, r1, list));
        assertEq(creditOf(merchant), 2 * PRIZE);
        assertEq(escrows.pairOf(escrow, merchant).lastNonce, 3);
    }

    /// @dev One winner, nonce 1, of a further escrow in `asset_`.
    function _openAnother(uint256 i, address asset_) private returns (ITicketEscrow.Group memory) {
        (address key, uint256 secret) = makeAddrAndKey(string.concat("payer", vm.toString(i)));
        open(secret, payer, terms(asset_), BALANCE + PENALTY);
        return group(key, r1, _list(signed(secret, ticket(key, merchant, r1, 1, true))));
    }

    function _list(ITicketEscrow.Winner memory w) private pure returns (ITicketEscrow.Winner[] memory list) {
        list = new ITicketEscrow.Winner[](1);
        list[0] = w;
    }

    function _one(address escrow_, bytes32 secret, ITicketEscrow.Winner[] memory list)
        private
        pure
        returns (ITicketEscrow.Group[] memory groups)
    {
        groups = new ITicketEscrow.Group[](1);
        groups[0] = group(escrow_, secret, list);
    }

    function _claimBatch(ITicketEscrow.Group[] memory groups) private {
        vm.prank(merchant);
        escrows.claimBatch(merchant, groups);
    }

    function _expectClaimed(address escrow_, address recipient, uint64 nonce, uint256 fromEarmark, uint256 owed)
        private
    {
        vm.expectEmit(address(escrows));
        emit ITicketEscrow.Claimed(escrow_, recipient, nonce, fromEarmark, owed);
    }

    function _expectSkipped(uint64 nonce, bytes4 reason, uint256 got, uint256 limit) private {
        vm.expectEmit(address(escrows));
        emit ITicketEscrow.TicketSkipped(escrow, merchant, nonce, reason, got, limit);
    }
}
