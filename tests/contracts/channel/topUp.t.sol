// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";
import {ILedger} from "contracts/shared/ILedger.sol";

contract TopUpTest is StepTest {
    uint32 private constant LONGER = 150;
    uint256 private constant ADDED = uint256(LONGER - LENGTH) * UNIT;

    // ── lengthening ──

    function test_topUp_AddsAChainAndItsDeposit() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = longer(its(), LONGER);
        permit.expiry = expiry + 5 days;
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        uint256 before = heldBy(client);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.ToppedUp(id, permit, sigma0);
        vm.prank(client);
        channels.topUp{value: valueOf(ADDED)}(its(), permit, sigma0);

        assertEq(before - heldBy(client), ADDED);
        assertEq(heldBy(address(channels)), DEPOSIT + ADDED);
        assertChannel(0, LONGER, expiry + 5 days, IPaymentChannel.Status.OPEN);
        // Either chain's terms name the channel, each with its own anchor.
        IPaymentChannel.Terms memory second = termsOf(permit);
        assertEq(abi.encode(channels.channelOf(second)), abi.encode(channels.channelOf(its())));
        _assertAnchor(its(), 0, terms.permit.anchor);
        _assertAnchor(second, 0, permit.anchor);
    }

    /// Indices count on: payment 120 is worth 120 units, whatever chain it is on.
    function test_topUp_TheNewChainPays() external eachAsset {
        checkpoint(60);
        IPaymentChannel.Terms memory second = topUp(its(), longer(its(), LONGER), LENGTH);
        channels.checkpoint(second, proof(second, 120));
        assertCredits(uint256(120) * UNIT, 0);
        _assertAnchor(second, 120, wordAt(second, 120));
        _assertAnchor(its(), 60, wordAt(its(), 60));
        vm.prank(vendor);
        channels.close(second, proof(second, 130), TRANSCRIPT, noReceipt());
        assertCredits(uint256(130) * UNIT, uint256(20) * UNIT);
    }

    /// What the vendor holds of the chain before is worth what it was.
    function test_topUp_TheChainBeforePaysToItsEnd() external eachAsset {
        topUp(its(), longer(its(), LONGER), LENGTH);
        checkpoint(40);
        channels.checkpoint(its(), proofFrom(its(), 80, 64));
        vm.prank(vendor);
        channels.close(its(), proof(its(), LENGTH), TRANSCRIPT, noReceipt());
        assertCredits(DEPOSIT, ADDED);
        assertChannel(LENGTH, LONGER, expiry, IPaymentChannel.Status.CLOSED);
    }

    function test_topUp_TheChainBeforeLivesAsLongAsTheNewOne() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = longer(its(), LONGER);
        permit.expiry = expiry + 5 days;
        topUp(its(), permit, LENGTH);
        vm.warp(expiry + 5 days);
        vm.prank(client);
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentChannel.RefundTooEarly.selector, expiry + 5 days, expiry + 5 days)
        );
        channels.refund(its());
        close(70);
        assertCredits(uint256(70) * UNIT, uint256(LONGER - 70) * UNIT);
    }

    /// Only the highest index counts: what a chain shows below it is paid already.
    function test_topUp_ChainsDoNotAddUp() external eachAsset {
        IPaymentChannel.Terms memory second = topUp(its(), longer(its(), LONGER), LENGTH);
        channels.checkpoint(second, proof(second, 90));
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannel.IndexNotAboveSettled.selector, 90, 90));
        checkpoint(90);
        checkpoint(95);
        assertCredits(uint256(95) * UNIT, 0);
    }

    /// A word of one chain is none of the other.
    function test_topUp_RevertWhen_WordIsOfTheOtherChain() external eachAsset {
        IPaymentChannel.Terms memory second = topUp(its(), longer(its(), LONGER), LENGTH);
        IPaymentChannel.Proof memory p = proof(its(), 50);
        bytes32 walked = wordAt(its(), 0);
        vm.expectRevert(
            abi.encodeWithSelector(
                IPaymentChannel.WordNotInChain.selector, walked, bytes32(bytes28(second.permit.anchor))
            )
        );
        channels.checkpoint(second, p);
    }

    /// A checkpoint that the receipt key signed holds for every chain of the channel.
    function test_topUp_SignedCheckpointsHoldOnEither() external eachAsset {
        IPaymentChannel.Terms memory second = topUp(its(), longer(its(), LONGER), LENGTH);
        channels.checkpoint(second, proofFrom(second, 140, 128));
        assertCredits(uint256(140) * UNIT, 0);
        _assertAnchor(second, 0, second.permit.anchor);
    }

    function test_topUp_AgainAndAgain() external eachAsset {
        IPaymentChannel.Terms memory second = topUp(its(), longer(its(), LONGER), LENGTH);
        IPaymentChannel.Terms memory third = topUp(its(), longer(its(), 200), LONGER); // named by the first chain
        IPaymentChannel.Terms memory fourth = topUp(second, longer(its(), 201), 200); // and by the second
        assertChannel(0, 201, expiry, IPaymentChannel.Status.OPEN);
        channels.checkpoint(third, proof(third, 200));
        channels.checkpoint(fourth, proof(fourth, 201));
        assertCredits(uint256(201) * UNIT, 0);
    }

    /// After the last word of a chain the channel is not over.
    function test_topUp_AfterTheEndOfTheChain() external eachAsset {
        checkpoint(LENGTH);
        IPaymentChannel.Terms memory second = topUp(its(), longer(its(), LENGTH + 1), LENGTH);
        channels.checkpoint(second, proof(second, LENGTH + 1));
        assertCredits(DEPOSIT + UNIT, 0);
    }

    function test_topUp_InTheLastSecond() external eachAsset {
        vm.warp(expiry);
        topUp(its(), longer(its(), LONGER), LENGTH);
        assertChannel(0, LONGER, expiry, IPaymentChannel.Status.OPEN);
    }

    /// The same anchor with more words behind it is a longer chain as well.
    function test_topUp_OfAChainThatWasLongerAllAlong() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = longer(its(), LONGER);
        permit.anchor = terms.permit.anchor;
        IPaymentChannel.Terms memory second = topUp(its(), permit, LENGTH);
        channels.checkpoint(second, proof(its(), LENGTH));
        assertCredits(DEPOSIT, 0);
    }

    // ── refusing ──

    function test_topUp_RevertWhen_CallerIsNotTheClient() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = longer(its(), LONGER);
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        address[3] memory callers = [stranger, vendor, bank];
        for (uint256 i; i < callers.length; ++i) {
            fund(callers[i], ADDED);
            vm.expectRevert(abi.encodeWithSelector(IPaymentChannel.NotClient.selector, callers[i], client));
            vm.prank(callers[i]);
            channels.topUp{value: valueOf(ADDED)}(its(), permit, sigma0);
        }
    }

    function test_topUp_RevertWhen_TermsAreUnknown() external eachAsset {
        _refusedOf(otherTerms(), longer(its(), LONGER), ADDED, unknownTerms());
    }

    function test_topUp_RevertWhen_NotOpen() external eachAsset {
        IPaymentChannel.Terms memory missing = its();
        missing.permit.channelId = bytes32(uint256(1));
        _refusedOf(missing, longer(its(), LONGER), ADDED, wrongStatus(IPaymentChannel.Status.NONE));
        close(1);
        _refused(longer(its(), LONGER), ADDED, wrongStatus(IPaymentChannel.Status.CLOSED));
    }

    function test_topUp_RevertWhen_TooLate() external eachAsset {
        vm.warp(expiry + 1);
        IPaymentChannel.OpenPermit memory permit = longer(its(), LONGER);
        permit.expiry = expiry + 1 days;
        _refused(permit, ADDED, tooLate());
    }

    function test_topUp_RevertWhen_PartiesChange() external eachAsset {
        for (uint256 field; field < 6; ++field) {
            IPaymentChannel.OpenPermit memory p = longer(its(), LONGER);
            if (field == 0) p.channelId = bytes32(uint256(p.channelId) ^ 1);
            if (field == 1) p.client = stranger;
            if (field == 2) p.vendor = stranger;
            if (field == 3) p.receiptKey = stranger;
            if (field == 4) p.asset = asset == NATIVE ? address(token) : NATIVE;
            if (field == 5) p.unit += 1;
            _refused(
                p,
                ADDED,
                abi.encodeWithSelector(IPaymentChannel.PartiesChanged.selector, _parties(p), _parties(terms.permit))
            );
        }
    }

    function test_topUp_RevertWhen_LengthOutOfRange() external eachAsset {
        topUp(its(), longer(its(), LONGER), LENGTH);
        uint32[4] memory lengths = [LENGTH, LONGER, (1 << 20) + 1, type(uint32).max];
        for (uint256 i; i < lengths.length; ++i) {
            IPaymentChannel.OpenPermit memory permit = longer(its(), 1);
            permit.length = lengths[i];
            _refused(
                permit,
                0,
                abi.encodeWithSelector(
                    IPaymentChannel.LengthOutOfRange.selector, lengths[i], LONGER + 1, uint32(1 << 20)
                )
            );
        }
    }

    function test_topUp_RevertWhen_ExpiryOutOfRange() external eachAsset {
        uint64 high = uint64(vm.getBlockTimestamp()) + 365 days;
        uint64[3] memory expiries = [expiry - 1, high + 1, type(uint64).max];
        for (uint256 i; i < expiries.length; ++i) {
            IPaymentChannel.OpenPermit memory permit = longer(its(), LONGER);
            permit.expiry = expiries[i];
            _refused(
                permit,
                ADDED,
                abi.encodeWithSelector(IPaymentChannel.ExpiryOutOfRange.selector, expiries[i], expiry, high)
            );
        }
    }

    function test_topUp_RevertWhen_DepositTooLarge() external onlyErc20 {
        bytes32 salt = keccak256("large");
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, salt, 1);
        permit.unit = type(uint128).max;
        fund(client, permit.unit);
        IPaymentChannel.Terms memory large = open(permit, salt);
        _refusedOf(
            large,
            longer(large, 2),
            0,
            abi.encodeWithSelector(
                IPaymentChannel.DepositTooLarge.selector, uint256(type(uint128).max) * 2, type(uint128).max
            )
        );
    }

    function test_topUp_RevertWhen_ReputationFell() external eachAsset {
        setReputation(client, 49);
        _refused(
            longer(its(), LONGER),
            ADDED,
            abi.encodeWithSelector(IPaymentChannel.ReputationTooLow.selector, client, 49, 50)
        );
        IPaymentChannel.OpenPermit memory permit = longer(its(), LONGER);
        permit.clientReputation = 80;
        _refused(permit, ADDED, abi.encodeWithSelector(IPaymentChannel.ReputationDiffers.selector, client, 80, 49));
    }

    function test_topUp_RevertWhen_TheBankDidNotSign() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = longer(its(), LONGER);
        IPaymentChannel.Signature[] memory spoiled = unrecoverable(signPermit(permit));
        for (uint256 i; i < spoiled.length; ++i) {
            vm.expectRevert(wrongSigner(address(0), bank));
            vm.prank(client);
            channels.topUp{value: valueOf(ADDED)}(its(), permit, spoiled[i]);
        }
        IPaymentChannel.Signature memory forged = sign(clientKey, channels.permitDigest(permit));
        vm.expectRevert(wrongSigner(client, bank));
        vm.prank(client);
        channels.topUp{value: valueOf(ADDED)}(its(), permit, forged);
    }

    function test_topUp_RevertWhen_ValueIsNotTheDifference() external onlyNative {
        uint256[3] memory values = [0, ADDED - 1, DEPOSIT + ADDED];
        for (uint256 i; i < values.length; ++i) {
            _refused(
                longer(its(), LONGER), values[i], abi.encodeWithSelector(ILedger.WrongValue.selector, values[i], ADDED)
            );
        }
    }

    // ── helpers ──

    function _parties(IPaymentChannel.OpenPermit memory p) private pure returns (bytes32) {
        return keccak256(abi.encode(p.channelId, p.client, p.vendor, p.receiptKey, p.asset, p.unit));
    }

    function _refused(IPaymentChannel.OpenPermit memory permit, uint256 amount, bytes memory refusal) private {
        _refusedOf(its(), permit, amount, refusal);
    }

    function _refusedOf(
        IPaymentChannel.Terms memory of_,
        IPaymentChannel.OpenPermit memory permit,
        uint256 amount,
        bytes memory refusal
    ) private {
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        vm.expectRevert(refusal);
        vm.prank(client);
        channels.topUp{value: valueOf(amount)}(of_, permit, sigma0);
    }

    function _assertAnchor(IPaymentChannel.Terms memory of_, uint32 index, bytes32 word) private view {
        (uint32 gotIndex, bytes28 got) = channels.anchorOf(of_);
        assertEq(gotIndex, index, "anchor's index");
        assertEq(got, bytes28(word), "anchor");
    }
}
