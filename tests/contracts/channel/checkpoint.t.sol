// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

contract CheckpointTest is StepTest {
    // ── paying ──

    function test_checkpoint_PaysTheVendorAndMovesTheAnchor() external eachAsset {
        bytes32 word = wordAt(its(), 40);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Checkpointed(id, 40, word, uint256(40) * UNIT);
        checkpoint(40);
        assertCredits(uint256(40) * UNIT, 0);
        assertOpen(40);
        (uint32 index, bytes28 anchor) = channels.anchorOf(its());
        assertEq(index, 40);
        assertEq(anchor, bytes28(word));
    }

    function test_checkpoint_FromTheMovedAnchorPaysTheDifference() external eachAsset {
        checkpoint(40);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Checkpointed(id, 41, wordAt(its(), 41), UNIT);
        checkpoint(41);
        checkpoint(LENGTH);
        assertCredits(DEPOSIT, 0);
        assertOpen(LENGTH);
    }

    /// A walk from a signed checkpoint needs no anchor and leaves it where it is.
    function test_checkpoint_FromASignedOnePaysAndMovesNoAnchor() external eachAsset {
        IPaymentChannel.Proof memory p = proofFrom(its(), 80, 64);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Checkpointed(id, 80, p.word, uint256(80) * UNIT);
        channels.checkpoint(its(), p);
        assertCredits(uint256(80) * UNIT, 0);
        assertOpen(80);
        (uint32 index, bytes28 anchor) = channels.anchorOf(its());
        assertEq(index, 0);
        assertEq(anchor, bytes28(terms.permit.anchor));
        // What comes after walks on from either.
        checkpoint(81);
        channels.checkpoint(its(), proofFrom(its(), 90, 64));
        assertCredits(uint256(90) * UNIT, 0);
    }

    function test_checkpoint_AtTheSignedIndexItself() external eachAsset {
        channels.checkpoint(its(), proofFrom(its(), 64, 64));
        assertCredits(uint256(64) * UNIT, 0);
    }

    /// The signed index may be below what is settled: a checkpoint in front of it must not spoil it.
    function test_checkpoint_FromASignedOneBelowWhatIsSettled() external eachAsset {
        checkpoint(70);
        channels.checkpoint(its(), proofFrom(its(), 80, 64));
        assertCredits(uint256(80) * UNIT, 0);
    }

    /// It can only pay the vendor: a watcher without a key may send it.
    function test_checkpoint_ByAnyone() external eachAsset {
        address[4] memory callers = [stranger, client, bank, vendor];
        for (uint32 i; i < callers.length; ++i) {
            IPaymentChannel.Proof memory p = proof(its(), i + 1);
            vm.prank(callers[i]);
            channels.checkpoint(its(), p);
        }
        assertCredits(4 * uint256(UNIT), 0);
        assertEq(creditOf(stranger), 0);
    }

    function test_checkpoint_InTheLastSecond() external eachAsset {
        vm.warp(expiry);
        checkpoint(1);
        assertCredits(UNIT, 0);
    }

    /// Any rising list of indices, by either way of proof, pays the last of them.
    /// forge-config: default.fuzz.runs = 128
    function testFuzz_checkpoint_PaysTheHighestIndex(uint8[6] memory steps, uint8[6] memory signed) external eachAsset {
        uint32 index;
        for (uint256 i; i < steps.length; ++i) {
            index += uint32(bound(steps[i], 1, LENGTH / 6));
            uint32 from = uint32(bound(signed[i], 0, index));
            channels.checkpoint(its(), from == 0 ? proof(its(), index) : proofFrom(its(), index, from));
            assertCredits(uint256(index) * UNIT, 0);
            assertOpen(index);
        }
    }

    // ── refusing ──

    function test_checkpoint_RevertWhen_NotOpen() external eachAsset {
        IPaymentChannel.Terms memory missing = its();
        missing.permit.channelId = bytes32(uint256(1));
        _refusedOf(missing, proof(its(), 1), wrongStatus(IPaymentChannel.Status.NONE));
        close(1);
        _refused(proof(its(), 2), wrongStatus(IPaymentChannel.Status.CLOSED));
    }

    function test_checkpoint_RevertWhen_TermsAreUnknown() external eachAsset {
        _refusedOf(otherTerms(), proof(its(), 1), unknownTerms());
        // Nor after the anchor has moved, when there is more to look at.
        checkpoint(1);
        _refusedOf(otherTerms(), proof(its(), 2), unknownTerms());
    }

    function test_checkpoint_RevertWhen_AnyOfTheTermsChanges() external eachAsset {
        for (uint256 field; field < 13; ++field) {
            IPaymentChannel.Terms memory t = its();
            if (field == 0) t.permit.client = stranger;
            if (field == 1) t.permit.vendor = stranger;
            if (field == 2) t.permit.receiptKey = stranger;
            if (field == 3) t.permit.asset = stranger;
            if (field == 4) t.permit.unit += 1;
            if (field == 5) t.permit.length += 1;
            if (field == 6) t.permit.anchor = 0;
            if (field == 7) t.permit.clientReputation += 1;
            if (field == 8) t.permit.vendorReputation += 1;
            if (field == 9) t.permit.issuedAt += 1;
            if (field == 10) t.permit.expiry += 1;
            if (field == 11) t.bank = stranger;
            if (field == 12) t.tag0 = 0;
            _refusedOf(
                t,
                proof(its(), 1),
                abi.encodeWithSelector(
                    IPaymentChannel.UnknownTerms.selector,
                    channels.termsHash(t),
                    bytes32(bytes28(channels.termsHash(its())))
                )
            );
        }
    }

    function test_checkpoint_RevertWhen_TooLate() external eachAsset {
        vm.warp(expiry + 1);
        _refused(proof(its(), 1), tooLate());
    }

    function test_checkpoint_RevertWhen_IndexNotAboveSettled() external eachAsset {
        _refused(noProof(), abi.encodeWithSelector(IPaymentChannel.IndexNotAboveSettled.selector, 0, 0));
        checkpoint(40);
        for (uint32 index = 39; index <= 40; ++index) {
            _refused(
                proof(its(), index), abi.encodeWithSelector(IPaymentChannel.IndexNotAboveSettled.selector, index, 40)
            );
        }
    }

    function test_checkpoint_RevertWhen_IndexAboveLength() external eachAsset {
        uint32[3] memory indices = [LENGTH + 1, 1 << 24, type(uint32).max];
        for (uint256 i; i < indices.length; ++i) {
            IPaymentChannel.Proof memory p = proofFrom(its(), LENGTH, LENGTH);
            p.index = indices[i];
            _refused(p, abi.encodeWithSelector(IPaymentChannel.IndexAboveLength.selector, indices[i], LENGTH));
        }
    }

    function test_checkpoint_RevertWhen_SignedIndexAboveIndex() external eachAsset {
        IPaymentChannel.Proof memory p = proofFrom(its(), 64, 64);
        p.index = 63;
        _refused(p, abi.encodeWithSelector(IPaymentChannel.SignedIndexAboveIndex.selector, 64, 63));
    }

    function test_checkpoint_RevertWhen_WordIsNotInTheChain() external eachAsset {
        IPaymentChannel.Proof memory p = proof(its(), 40);
        // One step too many and one too few.
        for (uint32 index = 39; index <= 41; index += 2) {
            p.index = index;
            bytes32 walked = index == 39 ? wordAt(its(), 1) : below(wordAt(its(), 0), id);
            _refused(
                p,
                abi.encodeWithSelector(
                    IPaymentChannel.WordNotInChain.selector, walked, bytes32(bytes28(terms.permit.anchor))
                )
            );
        }
        // From a moved anchor, and from a signed checkpoint.
        checkpoint(38);
        p.index = 39;
        _refused(
            p,
            abi.encodeWithSelector(
                IPaymentChannel.WordNotInChain.selector, wordAt(its(), 39), bytes32(bytes28(wordAt(its(), 38)))
            )
        );
        p = proofFrom(its(), 64, 64);
        p.index = 65;
        _refused(
            p,
            abi.encodeWithSelector(
                IPaymentChannel.WordNotInChain.selector, wordAt(its(), 63), bytes32(bytes28(wordAt(its(), 64)))
            )
        );
    }

    function test_checkpoint_RevertWhen_SignedByAnotherKey() external eachAsset {
        IPaymentChannel.Proof memory p = proofFrom(its(), 80, 64);
        bytes32 digest = channels.checkpointDigest(IPaymentChannel.Checkpoint(id, 64, p.signedWord, p.locksRoot));
        uint256[3] memory keys = [clientKey, vendorKey, bankKey];
        for (uint256 i; i < keys.length; ++i) {
            p.signature = sign(keys[i], digest);
            _refused(p, wrongSigner(vm.addr(keys[i]), receipts));
        }
    }

    function test_checkpoint_RevertWhen_SignatureIsMalformedOrMalleable() external eachAsset {
        IPaymentChannel.Proof memory p = proofFrom(its(), 80, 64);
        IPaymentChannel.Signature[] memory spoiled = unrecoverable(p.signature);
        for (uint256 i; i < spoiled.length; ++i) {
            p.signature = spoiled[i];
            _refused(p, wrongSigner(address(0), receipts));
        }
    }

    function test_checkpoint_RevertWhen_AnotherFieldWasSigned() external eachAsset {
        for (uint256 field; field < 3; ++field) {
            IPaymentChannel.Proof memory p = proofFrom(its(), 80, 64);
            if (field == 0) p.signedIndex = 63;
            if (field == 1) p.signedWord = wordAt(its(), 65);
            if (field == 2) p.locksRoot = 0;
            bytes32 digest =
                channels.checkpointDigest(IPaymentChannel.Checkpoint(id, p.signedIndex, p.signedWord, p.locksRoot));
            _refused(p, wrongSigner(recover(digest, p.signature), receipts));
        }
    }

    /// A receipt key that nobody has signs nothing: what recovers nothing is not its signature.
    function test_checkpoint_RevertWhen_TheReceiptKeyIsTheZeroAddress() external eachAsset {
        bytes32 salt = keccak256("no receipts");
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, salt, LENGTH);
        permit.receiptKey = address(0);
        IPaymentChannel.Terms memory t = open(permit, salt);
        IPaymentChannel.Proof memory p = proof(t, 80);
        (p.signedIndex, p.signedWord) = (80, p.word);
        _refusedOf(t, p, wrongSigner(address(0), address(0)));
        channels.checkpoint(t, proof(t, 80)); // it pays by its words all the same
    }

    // ── helpers ──

    function _refused(IPaymentChannel.Proof memory p, bytes memory refusal) private {
        _refusedOf(its(), p, refusal);
    }

    function _refusedOf(IPaymentChannel.Terms memory of_, IPaymentChannel.Proof memory p, bytes memory refusal)
        private
    {
        vm.expectRevert(refusal);
        channels.checkpoint(of_, p);
    }
}
