// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ILedger} from "contracts/shared/ILedger.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract OpenTest is StepTest {
    function test_open_FixesTermsAndSplitsDeposit() external eachAsset {
        uint256 before = heldBy(payer);
        ITicketEscrow.Terms memory t = terms(asset);
        ITicketEscrow.Signature memory proof = possession(escrowKey, payer, t);

        vm.expectEmit(address(escrows));
        emit ITicketEscrow.Opened(escrow, payer, asset, PRIZE, RHO_1_128, CAP, BALANCE, PENALTY);
        vm.prank(payer);
        escrows.open{value: valueOf(BALANCE + PENALTY)}(escrow, t, BALANCE + PENALTY, proof);

        assertEscrow(
            escrows.escrowOf(escrow),
            ITicketEscrow.Escrow({
                payer: payer,
                asset: asset,
                balance: BALANCE,
                penalty: PENALTY,
                prize: PRIZE,
                maxThreshold: RHO_1_128,
                ticketCap: CAP,
                withdrawAt: 0,
                cureBy: 0,
                debt: 0,
                earmarked: 0,
                earmarkUntil: 0,
                status: ITicketEscrow.Status.OPEN
            })
        );
        assertEq(heldBy(address(escrows)), BALANCE + PENALTY);
        assertEq(before - heldBy(payer), BALANCE + PENALTY);
    }

    function testFuzz_open_KeepsAnyTermsExactly(
        uint256 key,
        uint256 prize,
        uint256 threshold,
        uint256 cap,
        uint256 penalty,
        uint256 balance
    ) external eachAsset {
        key = bound(key, 1, ORDER - 1);
        balance = bound(balance, 0, type(uint96).max);
        ITicketEscrow.Terms memory t = ITicketEscrow.Terms({
            asset: asset,
            prize: bound(prize, 1, type(uint96).max),
            maxThreshold: bound(threshold, 1, type(uint24).max) << 232,
            ticketCap: uint64(bound(cap, 2, type(uint32).max)),
            penalty: bound(penalty, 0, type(uint96).max)
        });
        fund(payer, balance + t.penalty);
        open(key, payer, t, balance + t.penalty);

        ITicketEscrow.Escrow memory got = escrows.escrowOf(vm.addr(key));
        assertEq(got.payer, payer);
        assertEq(got.asset, asset);
        assertEq(got.balance, balance);
        assertEq(got.penalty, t.penalty);
        assertEq(got.prize, t.prize);
        assertEq(got.maxThreshold, t.maxThreshold);
        assertEq(got.ticketCap, t.ticketCap);
        assertEq(uint256(got.status), uint256(ITicketEscrow.Status.OPEN));
    }

    function test_open_DepositMayBeThePenaltyAlone() external eachAsset {
        openWith(0);
        assertEq(escrows.escrowOf(escrow).balance, 0);
        assertEq(escrows.escrowOf(escrow).penalty, PENALTY);
    }

    function test_open_NothingAtAllMayBeDeposited() external eachAsset {
        ITicketEscrow.Terms memory t = terms(asset);
        t.penalty = 0;
        open(escrowKey, payer, t, 0);
        assertStatus(ITicketEscrow.Status.OPEN);
    }

    // ── key ──

    function test_open_RevertWhen_EscrowIsOpen() external eachAsset {
        openDefault(asset);
        _refused(terms(asset), abi.encodeWithSelector(ITicketEscrow.EscrowExists.selector, escrow));
    }

    function test_open_RevertWhen_EscrowWasWithdrawn() external eachAsset {
        makeWithdrawn();
        _refused(terms(asset), abi.encodeWithSelector(ITicketEscrow.EscrowExists.selector, escrow));
    }

    function test_open_RevertWhen_EscrowWasBurned() external eachAsset {
        makeBurned();
        _refused(terms(asset), abi.encodeWithSelector(ITicketEscrow.EscrowExists.selector, escrow));
    }

    // ── terms ──

    function test_open_RevertWhen_PrizeZero() external eachAsset {
        ITicketEscrow.Terms memory t = terms(asset);
        t.prize = 0;
        _refused(t, abi.encodeWithSelector(ITicketEscrow.PrizeZero.selector));
    }

    function test_open_RevertWhen_ThresholdZero() external eachAsset {
        ITicketEscrow.Terms memory t = terms(asset);
        t.maxThreshold = 0;
        _refused(
            t, abi.encodeWithSelector(ITicketEscrow.ThresholdNotMultiple.selector, uint256(0), escrows.THRESHOLD_UNIT())
        );
    }

    function testFuzz_open_RevertWhen_ThresholdNotMultiple(uint256 threshold) external eachAsset {
        ITicketEscrow.Terms memory t = terms(asset);
        t.maxThreshold = threshold;
        vm.assume(threshold % (1 << 232) != 0);
        _refused(
            t, abi.encodeWithSelector(ITicketEscrow.ThresholdNotMultiple.selector, threshold, escrows.THRESHOLD_UNIT())
        );
    }

    function test_open_RevertWhen_TicketCapCanPayNothing() external eachAsset {
        ITicketEscrow.Terms memory t = terms(asset);
        for (uint64 cap; cap < 2; ++cap) {
            t.ticketCap = cap;
            _refused(
                t, abi.encodeWithSelector(ITicketEscrow.TicketCapOutOfRange.selector, cap, uint64(2), type(uint32).max)
            );
        }
    }

    function testFuzz_open_RevertWhen_TicketCapAbove32Bits(uint64 cap) external eachAsset {
        ITicketEscrow.Terms memory t = terms(asset);
        t.ticketCap = uint64(bound(cap, uint64(type(uint32).max) + 1, type(uint64).max));
        _refused(
            t,
            abi.encodeWithSelector(ITicketEscrow.TicketCapOutOfRange.selector, t.ticketCap, uint64(2), type(uint32).max)
        );
    }

    function test_open_RevertWhen_PrizeAbove96Bits() external eachAsset {
        ITicketEscrow.Terms memory t = terms(asset);
        t.prize = uint256(type(uint96).max) + 1;
        _refused(t, _overflow(t.prize));
    }

    function test_open_RevertWhen_PenaltyAbove96Bits() external eachAsset {
        ITicketEscrow.Terms memory t = terms(asset);
        t.penalty = uint256(type(uint96).max) + 1;
        fund(payer, t.penalty);
        _refusedWith(t, t.penalty, _overflow(t.penalty));
    }

    function test_open_RevertWhen_BalanceAbove96Bits() external eachAsset {
        uint256 balance = uint256(type(uint96).max) + 1;
        fund(payer, balance + PENALTY);
        _refusedWith(terms(asset), balance + PENALTY, _overflow(balance));
    }

    // ── proof of possession ──

    function test_open_RevertWhen_AnotherKeySigned() external eachAsset {
        ITicketEscrow.Terms memory t = terms(asset);
        (address otherKey, uint256 secret) = makeAddrAndKey("other key");
        bytes32 digest = _digest(escrow, payer, t);
        _refusedProof(t, sign(secret, digest), otherKey);
    }

    function test_open_RevertWhen_AnotherPayerCopiesTheProof() external eachAsset {
        ITicketEscrow.Terms memory t = terms(asset);
        ITicketEscrow.Signature memory proof = possession(escrowKey, payer, t);
        address recovered = recover(_digest(escrow, stranger, t), proof);
        assertNotEq(recovered, escrow);
        fund(stranger, BALANCE + PENALTY);

        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.WrongSigner.selector, recovered, escrow));
        vm.prank(stranger);
        escrows.open{value: valueOf(BALANCE + PENALTY)}(escrow, t, BALANCE + PENALTY, proof);
    }

    /// Every term is inside the proof.
    function test_open_RevertWhen_AnyTermDiffersFromTheProof() external eachAsset {
        ITicketEscrow.Signature memory proof = possession(escrowKey, payer, terms(asset));
        ITicketEscrow.Terms[5] memory changed = [terms(asset), terms(asset), terms(asset), terms(asset), terms(asset)];
        changed[0].asset = asset == NATIVE ? address(token) : NATIVE;
        changed[1].prize += 1;
        changed[2].maxThreshold *= 2;
        changed[3].ticketCap += 1;
        changed[4].penalty -= 1;
        for (uint256 i; i < changed.length; ++i) {
            address recovered = recover(_digest(escrow, payer, changed[i]), proof);
            assertNotEq(recovered, escrow);
            _refusedProof(changed[i], proof, recovered);
        }
    }

    function test_open_RevertWhen_ProofIsOfAnotherChain() external eachAsset {
        ITicketEscrow.Terms memory t = terms(asset);
        ITicketEscrow.Signature memory proof = possession(escrowKey, payer, t);
        vm.chainId(1);
        _refusedProof(t, proof, recover(_digest(escrow, payer, t), proof));
    }

    function test_open_RevertWhen_ProofIsMalformedOrMalleable() external eachAsset {
        ITicketEscrow.Terms memory t = terms(asset);
        ITicketEscrow.Signature[] memory list = unrecoverable(possession(escrowKey, payer, t));
        for (uint256 i; i < list.length; ++i) {
            _refusedProof(t, list[i], address(0));
        }
    }

    /// A malformed signature recovers to the zero address, which must not pass for a key: an escrow of the zero address
    /// would pay everybody (rule E2, "recovered ≠ 0").
    function test_open_RevertWhen_EscrowIsTheZeroAddress() external eachAsset {
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.WrongSigner.selector, address(0), address(0)));
        vm.prank(payer);
        escrows.open{value: valueOf(BALANCE + PENALTY)}(address(0), terms(asset), BALANCE + PENALTY, none());
    }

    // ── deposit ──

    function testFuzz_open_RevertWhen_PenaltyNotCovered(uint256 amount) external eachAsset {
        amount = bound(amount, 0, PENALTY - 1);
        _refusedWith(
            terms(asset), amount, abi.encodeWithSelector(ITicketEscrow.PenaltyNotCovered.selector, amount, PENALTY)
        );
    }

    // ── helpers ──

    function _digest(address key, address owner, ITicketEscrow.Terms memory t) internal view returns (bytes32) {
        return escrows.openingDigest(
            ITicketEscrow.Opening(key, owner, t.asset, t.prize, t.maxThreshold, t.ticketCap, t.penalty)
        );
    }

    function _overflow(uint256 amount) private pure returns (bytes memory) {
        return abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, uint8(96), amount);
    }

    function _refused(ITicketEscrow.Terms memory t, bytes memory reason) internal {
        _refusedWith(t, BALANCE + PENALTY, reason);
    }

    function _refusedWith(ITicketEscrow.Terms memory t, uint256 amount, bytes memory reason) internal {
        ITicketEscrow.Signature memory proof = possession(escrowKey, payer, t);
        vm.expectRevert(reason);
        vm.prank(payer);
        escrows.open{value: valueOf(amount)}(escrow, t, amount, proof);
    }

    function _refusedProof(ITicketEscrow.Terms memory t, ITicketEscrow.Signature memory proof, address recovered)
        private
    {
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.WrongSigner.selector, recovered, escrow));
        vm.prank(payer);
        escrows.open{value: valueOf(BALANCE + PENALTY)}(escrow, t, BALANCE + PENALTY, proof);
    }

    function test_open_RevertWhen_ValueIsNotTheAmount() external onlyNative {
        ITicketEscrow.Terms memory t = terms(NATIVE);
        ITicketEscrow.Signature memory proof = possession(escrowKey, payer, t);
        uint256 amount = BALANCE + PENALTY;
        uint256[3] memory values = [0, amount - 1, amount + 1];
        for (uint256 i; i < values.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.WrongValue.selector, values[i], amount));
            vm.prank(payer);
            escrows.open{value: values[i]}(escrow, t, amount, proof);
        }
    }

    function test_open_RevertWhen_ValueIsSentWithAToken() external onlyErc20 {
        ITicketEscrow.Terms memory t = terms(address(token));
        ITicketEscrow.Signature memory proof = possession(escrowKey, payer, t);
        vm.expectRevert(abi.encodeWithSelector(ILedger.WrongValue.selector, 1, 0));
        vm.prank(payer);
        escrows.open{value: 1}(escrow, t, BALANCE + PENALTY, proof);
    }

    function test_open_RevertWhen_AllowanceTooLow() external onlyErc20 {
        vm.prank(payer);
        token.approve(address(escrows), BALANCE);
        _refused(
            terms(asset),
            abi.encodeWithSelector(
                IERC20Errors.ERC20InsufficientAllowance.selector, address(escrows), BALANCE, BALANCE + PENALTY
            )
        );
    }

    function test_open_RevertWhen_AssetHasNoCode() external onlyErc20 {
        _refused(terms(makeAddr("no token")), "");
    }

    function test_open_RevertWhen_AssetIsTheContractItself() external onlyErc20 {
        _refused(terms(address(escrows)), "");
    }
}
