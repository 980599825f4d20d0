// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

/// @notice setReputation and setBankKey: what a bank does, and for itself alone.
contract BankTest is StepTest {
    // ── reputation ──

    function testFuzz_setReputation_InTheCallersOwnLedger(address customer, uint8 reputation) external {
        reputation = uint8(bound(reputation, 0, 100));
        vm.expectEmit(address(channels));
        emit IPaymentChannel.ReputationSet(stranger, customer, reputation);
        vm.prank(stranger);
        channels.setReputation(customer, reputation);
        assertEq(channels.reputationOf(stranger, customer), reputation);
        assertEq(reputationOf(client), 80, "another bank's ledger");
    }

    function testFuzz_setReputation_RevertWhen_Above100(uint8 reputation) external {
        reputation = uint8(bound(reputation, 101, type(uint8).max));
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannel.ReputationOutOfRange.selector, reputation, 100));
        vm.prank(bank);
        channels.setReputation(client, reputation);
    }

    // ── key ──

    function test_setBankKey_CountsItsEpochs() external {
        (address key, uint64 epoch) = channels.bankKeyOf(bank);
        assertEq(key, bank, "its own, until it sets one");
        assertEq(epoch, 0);
        address[3] memory keys = [makeAddr("first"), makeAddr("second"), address(0)];
        for (uint64 i; i < keys.length; ++i) {
            vm.expectEmit(address(channels));
            emit IPaymentChannel.BankKeySet(bank, keys[i], i + 1);
            vm.prank(bank);
            channels.setBankKey(keys[i]);
            (key, epoch) = channels.bankKeyOf(bank);
            assertEq(key, i == 2 ? bank : keys[i]);
            assertEq(epoch, i + 1);
        }
        (key, epoch) = channels.bankKeyOf(stranger);
        assertEq(key, stranger);
        assertEq(epoch, 0);
    }

    /// C-19: after a rotation the old key admits nobody, and what it has admitted goes on.
    function test_setBankKey_OldPermitsAreRefusedAndOpenChannelsUntouched() external eachAsset {
        bytes32 salt = keccak256("after the rotation");
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, salt, LENGTH);
        IPaymentChannel.Signature memory old = signPermit(permit);
        (address key, uint256 secret) = makeAddrAndKey("new bank key");
        vm.prank(bank);
        channels.setBankKey(key);

        vm.expectRevert(wrongSigner(bank, key));
        vm.prank(client);
        channels.open{value: valueOf(DEPOSIT)}(permit, salt, bank, old);
        IPaymentChannel.OpenPermit memory more = longer(its(), 150);
        IPaymentChannel.Signature memory oldMore = signPermit(more);
        vm.expectRevert(wrongSigner(bank, key));
        vm.prank(client);
        channels.topUp{value: valueOf(uint256(50) * UNIT)}(its(), more, oldMore);

        checkpoint(40);
        close(50);
        assertCredits(uint256(50) * UNIT, uint256(50) * UNIT);

        IPaymentChannel.Signature memory sigma0 = sign(secret, channels.permitDigest(permit));
        vm.prank(client);
        channels.open{value: valueOf(DEPOSIT)}(permit, salt, bank, sigma0);
    }

    /// The bank may still open what its key signs, by its own address.
    function test_setBankKey_TheBankOpensByItsAddressNotItsKey() external eachAsset {
        (address key, uint256 secret) = makeAddrAndKey("new bank key");
        vm.prank(bank);
        channels.setBankKey(key);
        bytes32 salt = keccak256("after the rotation");
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, salt, LENGTH);
        IPaymentChannel.Signature memory sigma0 = sign(secret, channels.permitDigest(permit));
        fund(key, DEPOSIT);
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannel.NotClientOrBank.selector, key, client, bank));
        vm.prank(key);
        channels.open{value: valueOf(DEPOSIT)}(permit, salt, bank, sigma0);
        fund(bank, DEPOSIT);
        vm.prank(bank);
        channels.open{value: valueOf(DEPOSIT)}(permit, salt, bank, sigma0);
    }
}
