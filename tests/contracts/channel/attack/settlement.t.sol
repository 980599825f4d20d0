// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Rows C-3, C-15 and C-16, and tests 11 to 15 of the design: what is paid is the highest index proven in time, all the rest
// is the client's, and the way there does not matter.

import {StepTest} from "../StepTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

contract SettlementTest is StepTest {
    /// forge-config: default.fuzz.runs = 256
    function testFuzz_close_monotone(uint32[8] memory indices, uint256 kinds) external onlyNative {
        uint32 highest;
        for (uint256 i; i < indices.length; ++i) {
            uint32 index = uint32(bound(indices[i], 0, LENGTH + 3));
            bool good = (kinds >> (i * 8)) % 4 != 0;
            assertEq(this.tryCheckpoint(index, good), good && index > highest && index <= LENGTH);
            if (good && index > highest && index <= LENGTH) highest = index;
            (, uint32 settled) = channels.statusOf(id);
            assertEq(settled, highest);
            assertCredits(uint256(highest) * UNIT, 0);
        }
        close(0);
        assertCredits(uint256(highest) * UNIT, uint256(LENGTH - highest) * UNIT);
    }

    /// @dev A checkpoint with the word of an index, or with one that is none. A call of its own: in the loop it leaves the
    /// compiler no room on the stack.
    function tryCheckpoint(uint32 index, bool good) external returns (bool taken) {
        IPaymentChannel.Proof memory p;
        if (index <= LENGTH) p = proof(its(), index);
        p.index = index;
        if (!good) p.word = below(p.word, id);
        try channels.checkpoint(its(), p) {
            taken = true;
        } catch {}
    }

    /// forge-config: default.fuzz.runs = 128
    function testFuzz_conservation(uint32 settled, uint32 closed, uint8 way, uint128 unit) external eachAsset {
        this.conserve(settled, closed, way, uint128(bound(unit, 1, 1e18)));
    }

    /// @dev A call of its own: in the test it leaves the compiler no room on the stack.
    function conserve(uint32 settled, uint32 closed, uint8 way, uint128 unit) external {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, bytes32(0), LENGTH);
        permit.unit = unit;
        terms = open(permit, bytes32(0));
        (id, expiry) = (permit.channelId, permit.expiry);
        uint256 deposit = uint256(LENGTH) * unit;
        settled = uint32(bound(settled, 0, LENGTH));
        if (settled != 0) checkpoint(settled);
        closed = uint32(bound(closed, settled, LENGTH));
        if (way % 3 == 0) close(closed);
        else if (way % 3 == 1) closeTogether(its(), closed);
        else refund();
        uint256 paid = uint256(way % 3 == 2 ? settled : closed) * unit;
        assertCredits(paid, deposit - paid);
        assertEq(heldBy(address(channels)), deposit + DEPOSIT, "with the default channel's");
    }

    function test_refund_only_after_expiry() external eachAsset {
        vm.warp(expiry);
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannel.RefundTooEarly.selector, expiry, expiry));
        vm.prank(client);
        channels.refund(its());
        vm.warp(expiry + 1);
        vm.prank(client);
        channels.refund(its());
        assertCredits(0, DEPOSIT);
    }

    /// There is no second in which both the vendor and the client could, nor one in which neither can.
    function test_close_not_after_expiry() external eachAsset {
        uint256 state = vm.snapshotState();
        vm.warp(expiry + 1);
        IPaymentChannel.Proof memory p = proof(its(), LENGTH);
        vm.startPrank(vendor);
        vm.expectRevert(tooLate());
        channels.close(its(), p, TRANSCRIPT, noReceipt());
        vm.expectRevert(tooLate());
        channels.checkpoint(its(), p);
        vm.stopPrank();
        vm.revertToState(state);
        vm.warp(expiry);
        close(LENGTH);
        assertCredits(DEPOSIT, 0);
    }

    /// forge-config: default.fuzz.runs = 128
    function testFuzz_checkpoint_then_close_same_total(uint32 first, uint32 last, uint32 from) external eachAsset {
        last = uint32(bound(last, 1, LENGTH));
        first = uint32(bound(first, 1, last));
        from = uint32(bound(from, 1, last));
        uint256 state = vm.snapshotState();
        close(last);
        (uint256 ofVendor, uint256 ofClient) = (creditOf(vendor), creditOf(client));
        vm.revertToState(state);
        checkpoint(first);
        IPaymentChannel.Proof memory p = proofFrom(its(), last, from);
        vm.prank(vendor);
        channels.close(its(), p, TRANSCRIPT, noReceipt());
        assertCredits(ofVendor, ofClient);
    }

    function test_attack_double_close() external eachAsset {
        close(40);
        IPaymentChannel.Proof memory p = proof(its(), 60);
        vm.prank(vendor);
        vm.expectRevert(wrongStatus(IPaymentChannel.Status.CLOSED));
        channels.close(its(), p, TRANSCRIPT, noReceipt());
        vm.expectRevert(wrongStatus(IPaymentChannel.Status.CLOSED));
        channels.checkpoint(its(), p);
        IPaymentChannel.Signature memory ofClient = signClose(clientKey, id, 60);
        IPaymentChannel.Signature memory ofVendor = signClose(vendorKey, id, 60);
        vm.prank(vendor);
        vm.expectRevert(wrongStatus(IPaymentChannel.Status.CLOSED));
        channels.cooperativeClose(its(), 60, ofClient, ofVendor);
        vm.warp(expiry + 1);
        vm.prank(client);
        vm.expectRevert(wrongStatus(IPaymentChannel.Status.CLOSED));
        channels.refund(its());
        assertCredits(uint256(40) * UNIT, uint256(60) * UNIT);
    }

    /// A refund in front of everything else cannot be: until expiry it is refused, and after it nothing else is left.
    function test_attack_refund_front_run() external eachAsset {
        IPaymentChannel.Proof memory p = proof(its(), 60);
        vm.warp(expiry);
        vm.prank(client);
        vm.expectPartialRevert(IPaymentChannel.RefundTooEarly.selector);
        channels.refund(its()); // with whatever gas price
        vm.prank(vendor);
        channels.close(its(), p, TRANSCRIPT, noReceipt());
        assertCredits(uint256(60) * UNIT, uint256(40) * UNIT);
    }

    /// What the two signed together stands until one of them sends it; a checkpoint in between takes nothing from anyone, and
    /// one above it makes it void.
    function test_attack_old_cooperative_close() external eachAsset {
        IPaymentChannel.Signature memory ofClient = signClose(clientKey, id, 40);
        IPaymentChannel.Signature memory ofVendor = signClose(vendorKey, id, 40);
        checkpoint(41);
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannel.IndexOutOfRange.selector, 40, 41, LENGTH));
        channels.cooperativeClose(its(), 40, ofClient, ofVendor);
        close(60);
        assertCredits(uint256(60) * UNIT, uint256(40) * UNIT);
    }
}
