// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Rule E6: who can put transactions in front of the vendor's (the client, a stranger with copied calldata) must gain nothing
// and spoil nothing. Every test signs the vendor's transaction first, then does the worst, then sends it as it is.

import {StepTest} from "../StepTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";
import {IOperators} from "contracts/shared/IOperators.sol";

contract RacesTest is StepTest {
    // ── top-ups ──

    function test_attack_top_up_in_front_of_a_close() external eachAsset {
        bytes memory walked = _closing(proof(its(), 60));
        bytes memory signed_ = _closing(proofFrom(its(), 60, 50));
        uint256 state = vm.snapshotState();
        for (uint256 i; i < 2; ++i) {
            topUp(its(), longer(its(), 150), LENGTH);
            _send(vendor, i == 0 ? walked : signed_);
            assertCredits(uint256(60) * UNIT, uint256(90) * UNIT);
            vm.revertToState(state);
        }
    }

    function test_attack_top_up_in_front_of_a_checkpoint() external eachAsset {
        bytes memory call = abi.encodeCall(channels.checkpoint, (its(), proof(its(), 60)));
        topUp(its(), longer(its(), 150), LENGTH);
        topUp(its(), longer(its(), 200), 150);
        _send(vendor, call);
        assertCredits(uint256(60) * UNIT, 0);
    }

    /// Nor does a top-up buy the client a second in which nobody can close: the old chain lives as long as the new one.
    function test_attack_top_up_in_the_last_second() external eachAsset {
        bytes memory call = _closing(proof(its(), 60));
        vm.warp(expiry);
        topUp(its(), longer(its(), 150), LENGTH);
        _send(vendor, call);
        assertCredits(uint256(60) * UNIT, uint256(90) * UNIT);
    }

    // ── checkpoints of others ──

    /// A stranger settles less than the vendor is about to, once or many times over, by the anchor or by a signed one.
    function test_attack_checkpoints_in_front_of_a_close() external eachAsset {
        bytes memory walked = _closing(proof(its(), 60));
        bytes memory signed_ = _closing(proofFrom(its(), 60, 20));
        IPaymentChannel.Proof memory stale = proof(its(), 10);
        uint256 state = vm.snapshotState();
        for (uint256 i; i < 2; ++i) {
            vm.startPrank(stranger);
            channels.checkpoint(its(), stale);
            channels.checkpoint(its(), proofFrom(its(), 30, 20)); // above the signed index of the vendor's proof
            channels.checkpoint(its(), proof(its(), 59));
            vm.stopPrank();
            _send(vendor, i == 0 ? walked : signed_);
            assertCredits(uint256(60) * UNIT, uint256(40) * UNIT);
            vm.revertToState(state);
        }
    }

    /// A stranger copies the proof out of the vendor's close: it pays the vendor, and the close closes.
    function test_attack_copied_proof_in_front_of_a_close() external eachAsset {
        IPaymentChannel.Proof memory p = proof(its(), 60);
        bytes memory call = _closing(p);
        vm.prank(stranger);
        channels.checkpoint(its(), p);
        assertEq(creditOf(stranger), 0);
        _send(vendor, call);
        assertCredits(uint256(60) * UNIT, uint256(40) * UNIT);
    }

    /// The client itself pays more than the vendor asks for: the vendor's close takes it, and closes.
    function test_attack_higher_checkpoint_in_front_of_a_close() external eachAsset {
        bytes memory call = _closing(proof(its(), 60));
        checkpoint(61);
        _send(vendor, call);
        assertCredits(uint256(61) * UNIT, uint256(39) * UNIT);
    }

    /// A stale close would cost the vendor the difference: nobody but the vendor and its operators may choose the index.
    function test_attack_stale_close_by_others() external eachAsset {
        IPaymentChannel.Proof memory stale = proof(its(), 1);
        address[3] memory others = [client, bank, stranger];
        for (uint256 i; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IOperators.NotOperator.selector, others[i], vendor));
            vm.prank(others[i]);
            channels.close(its(), stale, TRANSCRIPT, noReceipt());
        }
        vm.prank(stranger);
        channels.checkpoint(its(), stale); // this they may: it takes nothing away
        close(60);
        assertCredits(uint256(60) * UNIT, uint256(40) * UNIT);
    }

    // ── batches ──

    /// The client closes one channel, lets a stranger checkpoint another, tops up a third: the batch that was signed before
    /// pays all there is.
    function test_attack_batch_griefing() external eachAsset {
        IPaymentChannel.CloseItem[] memory items = new IPaymentChannel.CloseItem[](4);
        for (uint256 i; i < items.length; ++i) {
            bytes32 salt = keccak256(abi.encode("batch", i));
            items[i].terms = open(permitOf(asset, salt, LENGTH), salt);
            items[i].proof = i % 2 == 0 ? proof(items[i].terms, 60) : proofFrom(items[i].terms, 60, 50);
        }
        bytes memory call = abi.encodeCall(channels.batchClose, (items));
        closeTogether(items[0].terms, 60);
        vm.prank(stranger);
        channels.checkpoint(items[1].terms, proof(items[1].terms, 55));
        topUp(items[2].terms, longer(items[2].terms, 150), LENGTH);
        _send(vendor, call);
        assertCredits(4 * uint256(60) * UNIT, (40 + 40 + 90 + 40) * uint256(UNIT));
    }

    /// A walk is as long as the vendor lets it be: an item of another's making costs at most its own chain.
    function test_attack_batch_cannot_be_made_to_run_out_of_gas() external onlyNative {
        IPaymentChannel.CheckpointItem[] memory items = new IPaymentChannel.CheckpointItem[](3);
        for (uint256 i; i < items.length; ++i) {
            items[i].terms = its();
            items[i].proof = proof(its(), 60);
        }
        // The largest numbers there are: refused before a single step is walked.
        items[0].proof.index = type(uint32).max;
        items[1].proof.index = LENGTH;
        items[1].proof.signedIndex = type(uint32).max;
        uint256 before = gasleft();
        channels.batchCheckpoint(items);
        assertLt(before - gasleft(), 200_000);
        assertCredits(uint256(60) * UNIT, 0);
    }

    // ── helpers ──

    function _closing(IPaymentChannel.Proof memory p) private view returns (bytes memory) {
        return abi.encodeCall(channels.close, (its(), p, TRANSCRIPT, noReceipt()));
    }

    function _send(address from, bytes memory call) private {
        vm.prank(from);
        (bool ok,) = address(channels).call(call);
        assertTrue(ok, "the transaction that was signed before still works");
    }
}
