// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";
import {IOperators} from "contracts/shared/IOperators.sol";
import {Vm} from "forge-std/Vm.sol";

contract CloseTest is StepTest {
    // ── closing ──

    function test_close_PaysTheVendorAndReturnsTheRest() external eachAsset {
        IPaymentChannel.Proof memory p = proof(its(), 40);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Closed(id, 40, uint256(40) * UNIT, uint256(60) * UNIT, TRANSCRIPT);
        vm.prank(vendor);
        channels.close(its(), p, TRANSCRIPT, noReceipt());
        assertCredits(uint256(40) * UNIT, uint256(60) * UNIT);
        assertClosed(40);
    }

    function test_close_FromASignedCheckpoint() external eachAsset {
        IPaymentChannel.Proof memory p = proofFrom(its(), 80, 64);
        vm.prank(vendor);
        channels.close(its(), p, TRANSCRIPT, noReceipt());
        assertCredits(uint256(80) * UNIT, uint256(20) * UNIT);
    }

    function test_close_WithoutAPayment() external eachAsset {
        close(0);
        assertCredits(0, DEPOSIT);
        assertClosed(0);
    }

    function test_close_OfTheWholeChain() external eachAsset {
        close(LENGTH);
        assertCredits(DEPOSIT, 0);
        assertClosed(LENGTH);
    }

    function test_close_AtWhatIsSettledNeedsNoWord() external eachAsset {
        checkpoint(40);
        IPaymentChannel.Proof memory p;
        p.index = 40;
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Closed(id, 40, 0, uint256(60) * UNIT, TRANSCRIPT);
        vm.prank(vendor);
        channels.close(its(), p, TRANSCRIPT, noReceipt());
        assertCredits(uint256(40) * UNIT, uint256(60) * UNIT);
        assertClosed(40);
    }

    /// What was paid is paid: a stale index closes at what is settled.
    function test_close_BelowWhatIsSettledClosesThere() external eachAsset {
        checkpoint(40);
        IPaymentChannel.Proof memory p = proof(its(), 39);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Closed(id, 40, 0, uint256(60) * UNIT, TRANSCRIPT);
        vm.prank(vendor);
        channels.close(its(), p, TRANSCRIPT, noReceipt());
        assertCredits(uint256(40) * UNIT, uint256(60) * UNIT);
    }

    function test_close_AfterACheckpointPaysTheDifference() external eachAsset {
        checkpoint(40);
        IPaymentChannel.Proof memory p = proof(its(), 50);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Closed(id, 50, uint256(10) * UNIT, uint256(50) * UNIT, TRANSCRIPT);
        vm.prank(vendor);
        channels.close(its(), p, TRANSCRIPT, noReceipt());
        assertCredits(uint256(50) * UNIT, uint256(50) * UNIT);
    }

    function test_close_InTheLastSecond() external eachAsset {
        vm.warp(expiry);
        close(1);
        assertCredits(UNIT, DEPOSIT - UNIT);
    }

    function test_close_ByAnOperatorCreditsTheVendor() external eachAsset {
        vm.prank(vendor);
        channels.setOperator(stranger, true);
        IPaymentChannel.Proof memory p = proof(its(), 40);
        vm.prank(stranger);
        channels.close(its(), p, TRANSCRIPT, noReceipt());
        assertCredits(uint256(40) * UNIT, uint256(60) * UNIT);
        assertEq(creditOf(stranger), 0);
    }

    // ── the last receipt ──

    function test_close_ShowsAValidReceipt() external eachAsset {
        IPaymentChannel.LastReceipt memory r = lastReceipt(its(), 40, TRANSCRIPT);
        IPaymentChannel.Proof memory p = proof(its(), 40);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Closed(id, 40, uint256(40) * UNIT, uint256(60) * UNIT, TRANSCRIPT);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.ReceiptShown(id, 40, channels.receiptDigest(receiptOf(its(), 40, TRANSCRIPT)));
        vm.prank(vendor);
        channels.close(its(), p, TRANSCRIPT, r);
        assertEq(reputationOf(client), 81);
        assertEq(reputationOf(vendor), 91);
    }

    function test_close_ReputationStopsAt100() external eachAsset {
        setReputation(client, 99);
        setReputation(vendor, 100);
        IPaymentChannel.LastReceipt memory r = lastReceipt(its(), 40, TRANSCRIPT);
        IPaymentChannel.Proof memory p = proof(its(), 40);
        vm.prank(vendor);
        channels.close(its(), p, TRANSCRIPT, r);
        assertEq(reputationOf(client), 100);
        assertEq(reputationOf(vendor), 100);
    }

    /// The receipt is of the index that the vendor named, though a checkpoint by another has settled more.
    function test_close_ShowsTheReceiptOfItsOwnIndex() external eachAsset {
        checkpoint(41);
        IPaymentChannel.LastReceipt memory r = lastReceipt(its(), 40, TRANSCRIPT);
        IPaymentChannel.Proof memory p = proof(its(), 40);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.ReceiptShown(id, 40, channels.receiptDigest(receiptOf(its(), 40, TRANSCRIPT)));
        vm.prank(vendor);
        channels.close(its(), p, TRANSCRIPT, r);
        assertClosed(41);
    }

    function test_close_WithoutAReceiptRaisesNobody() external eachAsset {
        close(40);
        assertEq(reputationOf(client), 80);
        assertEq(reputationOf(vendor), 90);
    }

    /// A wrong receipt never holds up the money.
    function test_close_WithAWrongReceiptPaysAndRecordsNone() external eachAsset {
        uint256 start = vm.snapshotState();
        IPaymentChannel.LastReceipt memory good = lastReceipt(its(), 40, TRANSCRIPT);
        IPaymentChannel.Signature[] memory spoiled = unrecoverable(good.sigma);
        for (uint256 i; i < spoiled.length; ++i) {
            _closesWithout(IPaymentChannel.LastReceipt(good.itemHash, good.issuedAt, spoiled[i]), TRANSCRIPT);
            vm.revertToState(start);
        }
        _closesWithout(IPaymentChannel.LastReceipt(0, good.issuedAt, good.sigma), TRANSCRIPT);
        vm.revertToState(start);
        _closesWithout(IPaymentChannel.LastReceipt(good.itemHash, good.issuedAt + 1, good.sigma), TRANSCRIPT);
        vm.revertToState(start);
        _closesWithout(good, keccak256("another transcript"));
        vm.revertToState(start);
        _closesWithout(lastReceipt(its(), 39, TRANSCRIPT), TRANSCRIPT);
        vm.revertToState(start);
        // Signed by another key.
        receiptKey = clientKey;
        _closesWithout(lastReceipt(its(), 40, TRANSCRIPT), TRANSCRIPT);
    }

    /// A receipt key that nobody has signs no receipt.
    function test_close_ReceiptOfTheZeroAddressIsNone() external eachAsset {
        bytes32 salt = keccak256("no receipts");
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, salt, LENGTH);
        permit.receiptKey = address(0);
        terms = open(permit, salt);
        id = permit.channelId;
        _closesWithout(IPaymentChannel.LastReceipt(0, 0, IPaymentChannel.Signature(0, 0, 27)), TRANSCRIPT);
    }

    // ── refusing ──

    function test_close_RevertWhen_CallerIsNeitherVendorNorOperator() external eachAsset {
        IPaymentChannel.Proof memory p = proof(its(), 40);
        address[4] memory callers = [stranger, client, bank, receipts];
        for (uint256 i; i < callers.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IOperators.NotOperator.selector, callers[i], vendor));
            vm.prank(callers[i]);
            channels.close(its(), p, TRANSCRIPT, noReceipt());
        }
    }

    function test_close_RevertWhen_NotOpen() external eachAsset {
        IPaymentChannel.Terms memory missing = its();
        missing.permit.channelId = bytes32(uint256(1));
        _refusedOf(missing, proof(its(), 1), wrongStatus(IPaymentChannel.Status.NONE));
        close(1);
        _refused(noProof(), wrongStatus(IPaymentChannel.Status.CLOSED));
        _refused(proof(its(), 2), wrongStatus(IPaymentChannel.Status.CLOSED));
    }

    function test_close_RevertWhen_TermsAreUnknown() external eachAsset {
        _refusedOf(otherTerms(), noProof(), unknownTerms());
    }

    function test_close_RevertWhen_TooLate() external eachAsset {
        checkpoint(1);
        vm.warp(expiry + 1);
        _refused(proof(its(), 2), tooLate());
        _refused(noProof(), tooLate());
    }

    function test_close_RevertWhen_IndexAboveLength() external eachAsset {
        IPaymentChannel.Proof memory p = proof(its(), LENGTH);
        p.index = LENGTH + 1;
        _refused(p, abi.encodeWithSelector(IPaymentChannel.IndexAboveLength.selector, LENGTH + 1, LENGTH));
    }

    function test_close_RevertWhen_SignedIndexAboveIndex() external eachAsset {
        IPaymentChannel.Proof memory p = proofFrom(its(), 64, 64);
        p.index = 63;
        _refused(p, abi.encodeWithSelector(IPaymentChannel.SignedIndexAboveIndex.selector, 64, 63));
    }

    function test_close_RevertWhen_WordIsNotInTheChain() external eachAsset {
        IPaymentChannel.Proof memory p = proof(its(), 40);
        p.index = 41;
        _refused(
            p,
            abi.encodeWithSelector(
                IPaymentChannel.WordNotInChain.selector,
                below(terms.permit.anchor, id),
                bytes32(bytes28(terms.permit.anchor))
            )
        );
    }

    function test_close_RevertWhen_CheckpointIsNotSigned() external eachAsset {
        IPaymentChannel.Proof memory p = proofFrom(its(), 80, 64);
        p.signature = malleated(p.signature);
        _refused(p, wrongSigner(address(0), receipts));
    }

    // ── helpers ──

    function _closesWithout(IPaymentChannel.LastReceipt memory r, bytes32 transcript) private {
        uint256 before = creditOf(vendor);
        IPaymentChannel.Proof memory p = proof(its(), 40);
        vm.recordLogs();
        vm.prank(vendor);
        channels.close(its(), p, transcript, r);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 1);
        assertEq(logs[0].topics[0], IPaymentChannel.Closed.selector);
        assertEq(creditOf(vendor) - before, uint256(40) * UNIT);
        assertEq(reputationOf(client), 80);
        assertEq(reputationOf(vendor), 90);
    }

    function _refused(IPaymentChannel.Proof memory p, bytes memory refusal) private {
        _refusedOf(its(), p, refusal);
    }

    function _refusedOf(IPaymentChannel.Terms memory of_, IPaymentChannel.Proof memory p, bytes memory refusal)
        private
    {
        vm.expectRevert(refusal);
        vm.prank(vendor);
        channels.close(of_, p, TRANSCRIPT, noReceipt());
    }
}
