// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Rows C-18 and C-19, rules E1, E3 and E5: what is signed for one chain, contract and channel is nothing elsewhere, and what
// is signed stays valid, whatever code its signer puts on afterwards.

import {LockTest} from "../LockTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";
import {PaymentChannel} from "contracts/channel/PaymentChannel.sol";

/// @notice Refuses every signature.
contract Refusing {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return 0xffffffff;
    }
}

contract ReplayTest is LockTest {
    function test_attack_replay_on_another_contract() external onlyNative {
        PaymentChannel first = channels;
        IPaymentChannel.OpenPermit memory permit = terms.permit;
        channels = PaymentChannel(deployCode("PaymentChannel.sol:PaymentChannel"));
        setReputation(client, 80);
        setReputation(vendor, 90);
        bytes32 expected = channels.channelIdOf(client, vendor, SALT);
        assertNotEq(expected, id);
        // The permit names a channel of the first contract.
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannel.WrongChannelId.selector, id, expected));
        vm.prank(client);
        channels.open{value: DEPOSIT}(permit, SALT, bank, sigma0);
        // With the new contract's id in it, it is not what the bank signed.
        permit.channelId = expected;
        vm.expectPartialRevert(IPaymentChannel.WrongSigner.selector);
        vm.prank(client);
        channels.open{value: DEPOSIT}(permit, SALT, bank, sigma0);
        // A channel of the same parties, seed and salt there: its words are others.
        IPaymentChannel.Terms memory there = openDefault(NATIVE);
        IPaymentChannel.Proof memory p = proof(its(), 40);
        vm.expectPartialRevert(IPaymentChannel.WordNotInChain.selector);
        channels.checkpoint(there, p);
        channels = first;
    }

    function test_attack_replay_on_another_chain() external onlyNative {
        IPaymentChannel.OpenPermit memory permit = permitOf(NATIVE, keccak256("next"), LENGTH);
        IPaymentChannel.Signature memory sigma = signPermit(permit);
        IPaymentChannel.Proof memory p = proofFrom(its(), 80, 64);
        IPaymentChannel.Signature memory ofClient = signClose(clientKey, id, 60);
        IPaymentChannel.Signature memory ofVendor = signClose(vendorKey, id, 60);
        vm.chainId(block.chainid + 1);
        vm.expectPartialRevert(IPaymentChannel.WrongChannelId.selector);
        vm.prank(client);
        channels.open{value: DEPOSIT}(permit, keccak256("next"), bank, sigma);
        vm.expectPartialRevert(IPaymentChannel.WrongSigner.selector);
        channels.checkpoint(its(), p);
        vm.expectPartialRevert(IPaymentChannel.WrongSigner.selector);
        vm.prank(vendor);
        channels.cooperativeClose(its(), 60, ofClient, ofVendor);
    }

    /// After a fork both chains have the deposit, and the id says which one was meant by the words. Neither is stuck: the
    /// vendor closes and the client is refunded on either.
    function test_fork_of_the_chain_strands_no_deposit() external eachAsset {
        vm.chainId(block.chainid + 1);
        uint256 state = vm.snapshotState();
        close(40);
        assertCredits(uint256(40) * UNIT, uint256(60) * UNIT);
        vm.revertToState(state);
        refund();
        assertCredits(0, DEPOSIT);
    }

    /// sigma_0 opens once (C-19): not again while open, not after the close, by nobody.
    function test_attack_replay_of_the_opening() external onlyNative {
        bytes memory refusal = abi.encodeWithSelector(IPaymentChannel.ChannelExists.selector, id);
        IPaymentChannel.OpenPermit memory permit = terms.permit;
        vm.deal(bank, DEPOSIT);
        for (uint256 i; i < 2; ++i) {
            vm.expectRevert(refusal);
            vm.prank(client);
            channels.open{value: DEPOSIT}(permit, SALT, bank, sigma0);
            vm.expectRevert(refusal);
            vm.prank(bank);
            channels.open{value: DEPOSIT}(permit, SALT, bank, sigma0);
            if (i == 0) close(40);
        }
    }

    /// Another bank cannot put its name under a permit, and the same one not under another tag.
    function test_attack_terms_of_another_sigma0() external onlyNative {
        IPaymentChannel.Terms memory t = its();
        IPaymentChannel.Signature memory twin = malleated(sigma0);
        t.tag0 = tagOf(id, 0, twin.r, twin.s);
        IPaymentChannel.SignedLeaf memory honest = signedLeaf(0);
        vm.expectPartialRevert(IPaymentChannel.UnknownTerms.selector);
        vm.prank(vendor);
        channels.proveBadLock(t, honest, noLeaf(), sigmas[0].r, sigmas[0].s);
    }

    /// Rule E3: a client that delegates its account and its receipt key (EIP-7702) to code that refuses every signature voids
    /// neither checkpoint, receipt, cooperative close nor proof: they are checked against the raw keys.
    function test_attack_7702_delegation_voids_nothing() external onlyNative {
        spoil(2);
        IPaymentChannel.Proof memory p = proofFrom(its(), 80, 64);
        IPaymentChannel.LastReceipt memory last = lastReceipt(its(), 80, TRANSCRIPT);
        IPaymentChannel.Signature memory ofClient = signClose(clientKey, id, 80);
        IPaymentChannel.Signature memory ofVendor = signClose(vendorKey, id, 80);
        address code = address(new Refusing());
        vm.signAndAttachDelegation(code, receiptKey);
        vm.prank(stranger);
        channels.setOperator(stranger, false); // any transaction carries it
        vm.signAndAttachDelegation(code, clientKey);
        vm.prank(stranger);
        channels.setOperator(stranger, false);
        assertEq(receipts.code, abi.encodePacked(hex"ef0100", code));
        assertEq(client.code, abi.encodePacked(hex"ef0100", code));

        uint256 state = vm.snapshotState();
        vm.prank(vendor);
        channels.close(its(), p, TRANSCRIPT, last);
        assertCredits(uint256(80) * UNIT, uint256(20) * UNIT);
        assertEq(reputationOf(client), 81);
        vm.revertToState(state);
        vm.prank(vendor);
        channels.cooperativeClose(its(), 80, ofClient, ofVendor);
        assertCredits(uint256(80) * UNIT, uint256(20) * UNIT);
        vm.revertToState(state);
        prove(2);
        assertEq(reputationOf(client), 65);
    }
}
