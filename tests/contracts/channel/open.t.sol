// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";
import {ILedger} from "contracts/shared/ILedger.sol";

contract OpenTest is StepTest {
    /// @dev Nothing is open yet.
    function _arrange() internal override {}

    // ── opening ──

    function test_open_RecordsTheTermsAndTakesTheDeposit() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        uint256 before = heldBy(client);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Opened(permit.channelId, client, vendor, bank, permit, sigma0);
        vm.prank(client);
        channels.open{value: valueOf(DEPOSIT)}(permit, SALT, bank, sigma0);

        assertEq(before - heldBy(client), DEPOSIT);
        assertEq(heldBy(address(channels)), DEPOSIT);
        assertCredits(0, 0);
        terms = termsOf(permit);
        id = permit.channelId;
        assertChannel(0, LENGTH, permit.expiry, IPaymentChannel.Status.OPEN);
        (uint32 index, bytes28 word) = channels.anchorOf(its());
        assertEq(index, 0);
        assertEq(word, bytes28(permit.anchor));
    }

    function test_open_ByTheBankPaysFromTheBank() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        fund(bank, DEPOSIT);
        uint256 before = heldBy(client);
        vm.prank(bank);
        channels.open{value: valueOf(DEPOSIT)}(permit, SALT, bank, sigma0);
        assertEq(heldBy(client), before);
        assertEq(heldBy(bank), 0);
        (IPaymentChannel.Status status,) = channels.statusOf(permit.channelId);
        assertEq(uint256(status), uint256(IPaymentChannel.Status.OPEN));
    }

    function test_open_TwoSaltsAreTwoChannels() external eachAsset {
        IPaymentChannel.Terms memory one = openDefault(asset);
        bytes32 salt = keccak256("another salt");
        IPaymentChannel.Terms memory two = open(permitOf(asset, salt, LENGTH), salt);
        assertNotEq(one.permit.channelId, two.permit.channelId);
        assertEq(heldBy(address(channels)), 2 * DEPOSIT);
    }

    function test_open_LongestChainAndShortest() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, 1);
        assertEq(channels.channelOf(open(permit, SALT)).length, 1);
        permit = permitOf(asset, bytes32(0), 1);
        permit.length = channels.MAX_LENGTH();
        assertEq(channels.channelOf(open(permit, bytes32(0))).length, 1 << 20);
    }

    function test_open_LargestDeposit() external onlyErc20 {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, 1);
        permit.unit = type(uint128).max;
        fund(client, permit.unit);
        assertEq(channels.channelOf(open(permit, SALT)).length, 1);
    }

    function test_open_LongestLifeAndShortest() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        permit.expiry = uint64(vm.getBlockTimestamp()) + 1;
        open(permit, SALT);
        permit = permitOf(asset, bytes32(0), LENGTH);
        permit.expiry = uint64(vm.getBlockTimestamp()) + 365 days;
        open(permit, bytes32(0));
    }

    /// 50 is admitted and 100 is, 49 is not: `attack/reputation.t.sol` has both parties.
    function test_open_LowestReputationAndHighest() external eachAsset {
        setReputation(client, 50);
        setReputation(vendor, 100);
        openDefault(asset);
    }

    /// Nothing on chain depends on when the permit was signed; its time is for people.
    function testFuzz_open_IssuedAtIsNotJudged(uint64 issuedAt) external onlyNative {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        permit.issuedAt = issuedAt;
        open(permit, SALT);
    }

    // ── refusing ──

    function test_open_RevertWhen_CallerIsNeitherClientNorBank() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        address[3] memory callers = [stranger, vendor, receipts];
        for (uint256 i; i < callers.length; ++i) {
            fund(callers[i], DEPOSIT);
            vm.expectRevert(abi.encodeWithSelector(IPaymentChannel.NotClientOrBank.selector, callers[i], client, bank));
            vm.prank(callers[i]);
            channels.open{value: valueOf(DEPOSIT)}(permit, SALT, bank, sigma0);
        }
    }

    function test_open_RevertWhen_IdIsOfAnotherSalt() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        bytes32 other = keccak256("another salt");
        bytes32 expected = channels.channelIdOf(client, vendor, other);
        _refused(
            permit,
            other,
            DEPOSIT,
            abi.encodeWithSelector(IPaymentChannel.WrongChannelId.selector, permit.channelId, expected)
        );
    }

    function test_open_RevertWhen_ChannelExists() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = openDefault(asset).permit;
        bytes memory refusal = abi.encodeWithSelector(IPaymentChannel.ChannelExists.selector, permit.channelId);
        _refused(permit, SALT, DEPOSIT, refusal);
        // A closed one never opens again.
        closeTogether(termsOf(permit), 1);
        _refused(permitOf(asset, SALT, LENGTH), SALT, DEPOSIT, refusal);
    }

    function test_open_RevertWhen_UnitIsZero() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        permit.unit = 0;
        _refused(permit, SALT, 0, abi.encodeWithSelector(IPaymentChannel.UnitZero.selector));
    }

    function test_open_RevertWhen_LengthOutOfRange() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        uint32[4] memory lengths = [0, (1 << 20) + 1, 1 << 24, type(uint32).max];
        for (uint256 i; i < lengths.length; ++i) {
            permit.length = lengths[i];
            bytes memory refusal =
                abi.encodeWithSelector(IPaymentChannel.LengthOutOfRange.selector, lengths[i], 1, 1 << 20);
            _refused(permit, SALT, fundsOf(permit), refusal);
        }
    }

    function test_open_RevertWhen_DepositTooLarge() external onlyErc20 {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, 2);
        permit.unit = (1 << 127);
        fund(client, 1 << 128);
        _refused(
            permit,
            SALT,
            0,
            abi.encodeWithSelector(IPaymentChannel.DepositTooLarge.selector, 1 << 128, type(uint128).max)
        );
    }

    function test_open_RevertWhen_ExpiryOutOfRange() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        uint64 nowAt = uint64(vm.getBlockTimestamp());
        uint64[5] memory expiries = [0, nowAt - 1, nowAt, nowAt + 365 days + 1, type(uint64).max];
        for (uint256 i; i < expiries.length; ++i) {
            permit.expiry = expiries[i];
            bytes memory refusal = abi.encodeWithSelector(
                IPaymentChannel.ExpiryOutOfRange.selector, expiries[i], nowAt + 1, nowAt + 365 days
            );
            _refused(permit, SALT, DEPOSIT, refusal);
        }
    }

    function test_open_RevertWhen_ReputationTooLow() external eachAsset {
        setReputation(client, 49);
        _refused(
            permitOf(asset, SALT, LENGTH),
            SALT,
            DEPOSIT,
            abi.encodeWithSelector(IPaymentChannel.ReputationTooLow.selector, client, 49, 50)
        );
        setReputation(client, 80);
        setReputation(vendor, 0);
        _refused(
            permitOf(asset, SALT, LENGTH),
            SALT,
            DEPOSIT,
            abi.encodeWithSelector(IPaymentChannel.ReputationTooLow.selector, vendor, 0, 50)
        );
    }

    function test_open_RevertWhen_ReputationDiffers() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        permit.clientReputation = 81;
        _refused(
            permit, SALT, DEPOSIT, abi.encodeWithSelector(IPaymentChannel.ReputationDiffers.selector, client, 81, 80)
        );
        permit.clientReputation = 80;
        permit.vendorReputation = 89;
        _refused(
            permit, SALT, DEPOSIT, abi.encodeWithSelector(IPaymentChannel.ReputationDiffers.selector, vendor, 89, 90)
        );
    }

    /// Reputation in another bank's ledger is none in this one.
    function test_open_RevertWhen_AnotherBankSigns() external eachAsset {
        (address other, uint256 otherKey) = makeAddrAndKey("another bank");
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        IPaymentChannel.Signature memory sigma0 = sign(otherKey, channels.permitDigest(permit));
        _refusedSigned(permit, bank, sigma0, wrongSigner(other, bank));
        _refusedSigned(
            permit, other, sigma0, abi.encodeWithSelector(IPaymentChannel.ReputationDiffers.selector, client, 80, 0)
        );
    }

    function test_open_RevertWhen_SignatureIsMalformedOrMalleable() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        IPaymentChannel.Signature[] memory spoiled = unrecoverable(signPermit(permit));
        assertEq(recover(channels.permitDigest(permit), spoiled[0]), bank, "valid to the precompile");
        for (uint256 i; i < spoiled.length; ++i) {
            _refusedSigned(permit, bank, spoiled[i], wrongSigner(address(0), bank));
        }
    }

    /// A signature that recovers nothing must not be the zero address's.
    function test_open_RevertWhen_TheBankIsTheZeroAddress() external eachAsset {
        _refusedSigned(permitOf(asset, SALT, LENGTH), address(0), none(), wrongSigner(address(0), address(0)));
    }

    function test_open_RevertWhen_AnyFieldOfThePermitChanges() external eachAsset {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        for (uint256 field; field < 6; ++field) {
            IPaymentChannel.OpenPermit memory p = permitOf(asset, SALT, LENGTH);
            if (field == 0) p.receiptKey = stranger;
            if (field == 1) p.asset = asset == NATIVE ? address(token) : NATIVE;
            if (field == 2) p.unit += 1;
            if (field == 3) p.length -= 1;
            if (field == 4) p.anchor = bytes32(uint256(p.anchor) ^ 1);
            if (field == 5) p.expiry += 1;
            bytes32 digest = channels.permitDigest(p);
            assertNotEq(digest, channels.permitDigest(permit));
            _refusedSigned(p, bank, sigma0, wrongSigner(recover(digest, sigma0), bank));
        }
    }

    function test_open_RevertWhen_ValueIsNotTheDeposit() external onlyNative {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        uint256[3] memory values = [0, DEPOSIT - 1, DEPOSIT + 1];
        for (uint256 i; i < values.length; ++i) {
            bytes memory refusal = abi.encodeWithSelector(ILedger.WrongValue.selector, values[i], DEPOSIT);
            _refused(permit, SALT, values[i], refusal);
        }
    }

    function test_open_RevertWhen_ValueIsSentWithAToken() external onlyErc20 {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        vm.expectRevert(abi.encodeWithSelector(ILedger.WrongValue.selector, 1, 0));
        vm.prank(client);
        channels.open{value: 1}(permit, SALT, bank, sigma0);
    }

    // ── helpers ──

    function _refused(IPaymentChannel.OpenPermit memory permit, bytes32 salt, uint256 amount, bytes memory refusal)
        private
    {
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        uint256 value = valueOf(amount);
        if (client.balance < value) vm.deal(client, value);
        vm.expectRevert(refusal);
        vm.prank(client);
        channels.open{value: value}(permit, salt, bank, sigma0);
    }

    function _refusedSigned(
        IPaymentChannel.OpenPermit memory permit,
        address bank_,
        IPaymentChannel.Signature memory sigma0,
        bytes memory refusal
    ) private {
        uint256 value = permit.asset == NATIVE ? fundsOf(permit) : 0;
        vm.expectRevert(refusal);
        vm.prank(client);
        channels.open{value: value}(permit, SALT, bank_, sigma0);
    }
}
