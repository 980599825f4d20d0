// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";
import {Vm} from "forge-std/Vm.sol";

contract EquivocationTest is StepTest {
    function test_proveEquivocation_BurnsNineTenthsAndRewardsTheReporter() external eachAsset {
        openWith(BALANCE);
        (ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b) = _pair();
        ITicketEscrow.Escrow memory wanted = escrows.escrowOf(escrow);

        vm.expectEmit(address(escrows));
        emit ITicketEscrow.EquivocationProven(escrow, stranger, 7, PENALTY * 9 / 10, PENALTY / 10);
        _prove(a, b);

        wanted.penalty = 0;
        assertEscrow(escrows.escrowOf(escrow), wanted); // status and balance stay
        assertEq(creditOf(stranger), PENALTY / 10);
        assertEq(creditOf(BURN), PENALTY * 9 / 10);
    }

    /// At least nine tenths burn, whatever the rounding.
    function testFuzz_proveEquivocation_RewardIsAtMostATenth(uint256 penalty) external eachAsset {
        ITicketEscrow.Terms memory t = terms(asset);
        t.penalty = bound(penalty, 1, type(uint96).max);
        fund(payer, t.penalty);
        open(escrowKey, payer, t, t.penalty);
        (ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b) = _pair();
        _prove(a, b);
        assertLe(creditOf(stranger) * 10, t.penalty);
        assertEq(creditOf(stranger), t.penalty / 10);
        assertEq(creditOf(stranger) + creditOf(BURN), t.penalty);
    }

    /// Any field but escrow and nonce may differ; whether a ticket wins, has expired or could be paid does not matter.
    function testFuzz_proveEquivocation_AnyDifferenceCounts(uint8 field, uint256 change) external eachAsset {
        openWith(BALANCE);
        ITicketEscrow.Ticket memory a = ticket(escrow, merchant, r1, 7, false);
        ITicketEscrow.Ticket memory b =
            ITicketEscrow.Ticket(a.escrow, a.recipient, a.commitment, a.r2, a.winThreshold, a.expiry, a.nonce);
        field = uint8(bound(field, 0, 4));
        change = bound(change, 1, type(uint64).max);
        if (field == 0) b.recipient = address(uint160(b.recipient) ^ uint160(change));
        if (field == 1) b.commitment ^= bytes32(change);
        if (field == 2) b.r2 ^= bytes32(change);
        if (field == 3) b.winThreshold ^= change;
        if (field == 4) b.expiry ^= uint64(change);
        _prove(a, b);
        assertEq(escrows.escrowOf(escrow).penalty, 0);
    }

    function test_proveEquivocation_WhileWithdrawingOrInsolvent() external eachAsset {
        openWith(0);
        (ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b) = _pair();
        vm.prank(payer);
        escrows.requestWithdraw(escrow);
        uint256 withdrawing = vm.snapshotState();
        _prove(a, b);
        assertStatus(ITicketEscrow.Status.WITHDRAWING);
        vm.revertToState(withdrawing);
        claimAs(merchant, 1);
        _prove(a, b);
        assertStatus(ITicketEscrow.Status.INSOLVENT);
        assertEq(creditOf(stranger), PENALTY / 10);
    }

    /// What a merchant must reckon with: a payer that gives its escrow up can report itself first, so the most that a
    /// penalty deters from is nine tenths of it.
    function test_proveEquivocation_OffenderRescuesATenthByReportingItself() external eachAsset {
        makeInsolvent();
        (ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b) = _pair();
        ITicketEscrow.Signature memory signatureA = sign(escrowKey, escrows.ticketDigest(a));
        ITicketEscrow.Signature memory signatureB = sign(escrowKey, escrows.ticketDigest(b));
        vm.prank(payer);
        escrows.proveEquivocation(a, signatureA, b, signatureB);
        assertEq(creditOf(payer), PENALTY / 10);
        assertEq(creditOf(BURN), PENALTY - PENALTY / 10);
    }

    /// The key is its payer's, but a proof after the withdrawal finds nothing: the delay is the time for it.
    function test_proveEquivocation_RevertWhen_Closed() external eachAsset {
        makeWithdrawn();
        (ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b) = _pair();
        _refused(a, b, abi.encodeWithSelector(ITicketEscrow.PenaltyZero.selector, escrow));
    }

    function test_proveEquivocation_RevertWhen_EscrowMissing() external eachAsset {
        (ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b) = _pair();
        _refused(a, b, abi.encodeWithSelector(ITicketEscrow.PenaltyZero.selector, escrow));
    }

    function test_proveEquivocation_RevertWhen_ProvenBefore() external eachAsset {
        openWith(BALANCE);
        (ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b) = _pair();
        _prove(a, b);
        _refused(a, b, abi.encodeWithSelector(ITicketEscrow.PenaltyZero.selector, escrow));
    }

    function test_proveEquivocation_RevertWhen_SameTicketTwice() external eachAsset {
        openWith(BALANCE);
        (ITicketEscrow.Ticket memory a,) = _pair();
        _refusedPair(a, a);
    }

    /// One ticket with two signatures is one ticket: neither (r, n−s) nor a second `k` makes two of it.
    function test_proveEquivocation_RevertWhen_OnlyTheSignaturesDiffer() external eachAsset {
        openWith(BALANCE);
        (ITicketEscrow.Ticket memory a,) = _pair();
        bytes32 digest = escrows.ticketDigest(a);
        ITicketEscrow.Signature memory s = sign(escrowKey, digest);
        ITicketEscrow.Signature[2] memory seconds_ = [malleated(s), _signWithAnotherNonce(digest)];
        for (uint256 i; i < seconds_.length; ++i) {
            assertEq(recover(digest, seconds_[i]), escrow, "it is a signature of the key");
            vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.NotEquivocation.selector, digest, digest));
            escrows.proveEquivocation(a, s, a, seconds_[i]);
        }
    }

    function test_proveEquivocation_RevertWhen_NoncesDiffer() external eachAsset {
        openWith(BALANCE);
        (ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b) = _pair();
        b.nonce += 1;
        _refusedPair(a, b);
    }

    function test_proveEquivocation_RevertWhen_EscrowsDiffer() external eachAsset {
        openWith(BALANCE);
        (ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b) = _pair();
        b.escrow = other;
        _refusedPair(a, b);
    }

    function test_proveEquivocation_RevertWhen_EitherIsForged() external eachAsset {
        openWith(BALANCE);
        (ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b) = _pair();
        (address forger, uint256 key) = makeAddrAndKey("forger");
        bytes memory reason = abi.encodeWithSelector(ITicketEscrow.WrongSigner.selector, forger, escrow);
        bytes32 digestA = escrows.ticketDigest(a);
        bytes32 digestB = escrows.ticketDigest(b);
        vm.expectRevert(reason);
        escrows.proveEquivocation(a, sign(key, digestA), b, sign(escrowKey, digestB));
        vm.expectRevert(reason);
        escrows.proveEquivocation(a, sign(escrowKey, digestA), b, sign(key, digestB));
    }

    function test_proveEquivocation_RevertWhen_EitherIsMalformedOrMalleable() external eachAsset {
        openWith(BALANCE);
        (ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b) = _pair();
        ITicketEscrow.Signature memory signatureA = sign(escrowKey, escrows.ticketDigest(a));
        ITicketEscrow.Signature memory signatureB = sign(escrowKey, escrows.ticketDigest(b));
        ITicketEscrow.Signature[] memory listA = unrecoverable(signatureA);
        ITicketEscrow.Signature[] memory listB = unrecoverable(signatureB);
        bytes memory reason = abi.encodeWithSelector(ITicketEscrow.WrongSigner.selector, address(0), escrow);
        for (uint256 i; i < listA.length; ++i) {
            vm.expectRevert(reason);
            escrows.proveEquivocation(a, listA[i], b, signatureB);
            vm.expectRevert(reason);
            escrows.proveEquivocation(a, signatureA, b, listB[i]);
        }
    }

    // ── helpers ──

    function _pair() private view returns (ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b) {
        a = ticket(escrow, merchant, r1, 7, false);
        b = ticket(escrow, other, r1, 7, false);
    }

    function _prove(ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b) private {
        ITicketEscrow.Signature memory signatureA = sign(escrowKey, escrows.ticketDigest(a));
        ITicketEscrow.Signature memory signatureB = sign(escrowKey, escrows.ticketDigest(b));
        vm.prank(stranger);
        escrows.proveEquivocation(a, signatureA, b, signatureB);
    }

    function _refused(ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b, bytes memory reason) private {
        ITicketEscrow.Signature memory signatureA = sign(escrowKey, escrows.ticketDigest(a));
        ITicketEscrow.Signature memory signatureB = sign(escrowKey, escrows.ticketDigest(b));
        vm.expectRevert(reason);
        vm.prank(stranger);
        escrows.proveEquivocation(a, signatureA, b, signatureB);
    }

    function _refusedPair(ITicketEscrow.Ticket memory a, ITicketEscrow.Ticket memory b) private {
        _refused(
            a,
            b,
            abi.encodeWithSelector(
                ITicketEscrow.NotEquivocation.selector, escrows.ticketDigest(a), escrows.ticketDigest(b)
            )
        );
    }

    /// @dev A second signature of one digest: s = k⁻¹(z + r·d) with a `k` that is not RFC 6979's.
    function _signWithAnotherNonce(bytes32 digest) private returns (ITicketEscrow.Signature memory) {
        uint256 k = uint256(keccak256("k"));
        Vm.Wallet memory once = vm.createWallet(k); // its public key is k·G
        uint256 r = once.publicKeyX % ORDER;
        uint256 sum = addmod(uint256(digest), mulmod(r, escrowKey, ORDER), ORDER);
        uint256 s = mulmod(_inverse(k), sum, ORDER);
        uint8 v = 27 + uint8(once.publicKeyY & 1);
        if (s > ORDER / 2) (s, v) = (ORDER - s, v == 27 ? 28 : 27);
        return ITicketEscrow.Signature(bytes32(r), bytes32(s), v);
    }

    /// @dev a^(n−2) mod n, with the MODEXP precompile.
    function _inverse(uint256 a) private view returns (uint256) {
        (bool ok, bytes memory out) =
            address(5).staticcall(abi.encode(uint256(32), uint256(32), uint256(32), a, ORDER - 2, ORDER));
        require(ok);
        return abi.decode(out, (uint256));
    }
}
