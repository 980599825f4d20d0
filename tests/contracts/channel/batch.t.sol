// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";
import {IOperators} from "contracts/shared/IOperators.sol";

contract BatchTest is StepTest {
    uint256 private constant ITEMS = 5;
    IPaymentChannel.Terms[] private all;

    /// @dev Five channels in the asset under test; the third is the default one.
    function _arrange() internal override {
        delete all;
        for (uint256 i; i < ITEMS; ++i) {
            bytes32 salt = i == 2 ? SALT : keccak256(abi.encode("salt", i));
            all.push(open(permitOf(asset, salt, LENGTH), salt));
        }
        terms = all[2];
        id = terms.permit.channelId;
        expiry = terms.permit.expiry;
    }

    // ── batchCheckpoint ──

    function test_batchCheckpoint_PaysEveryChannel() external eachAsset {
        IPaymentChannel.CheckpointItem[] memory items = _checkpoints();
        for (uint32 i; i < ITEMS; ++i) {
            vm.expectEmit(address(channels));
            emit IPaymentChannel.Checkpointed(
                all[i].permit.channelId, 10 + i, wordAt(all[i], 10 + i), uint256(10 + i) * UNIT
            );
        }
        vm.prank(stranger);
        channels.batchCheckpoint(items);
        assertCredits(uint256(60) * UNIT, 0);
    }

    function test_batchCheckpoint_OfNothingDoesNothing() external eachAsset {
        vm.recordLogs();
        channels.batchCheckpoint(new IPaymentChannel.CheckpointItem[](0));
        channels.batchClose(new IPaymentChannel.CloseItem[](0));
        assertEq(vm.getRecordedLogs().length, 0);
    }

    /// Credit is summed per run of one vendor and asset: runs must not leak into each other.
    function test_batchCheckpoint_OfSeveralVendorsAndAssetsCreditsEach() external {
        (address first, address second) = (vendor, makeAddr("second vendor"));
        setReputation(second, 90);
        IPaymentChannel.CheckpointItem[] memory items = new IPaymentChannel.CheckpointItem[](8);
        uint256[2][2] memory owed;
        for (uint32 i; i < items.length; ++i) {
            // The order of both has runs of one and of more.
            uint256 v = (i / 2) % 2;
            uint256 a = (i / 3) % 2;
            vendor = v == 0 ? first : second;
            bytes32 salt = keccak256(abi.encode("mixed", i));
            items[i].terms = open(permitOf(a == 0 ? NATIVE : address(token), salt, LENGTH), salt);
            items[i].proof = proof(items[i].terms, i + 1);
            owed[v][a] += uint256(i + 1) * UNIT;
        }
        channels.batchCheckpoint(items);
        assertEq(channels.creditOf(NATIVE, first), owed[0][0]);
        assertEq(channels.creditOf(address(token), first), owed[0][1]);
        assertEq(channels.creditOf(NATIVE, second), owed[1][0]);
        assertEq(channels.creditOf(address(token), second), owed[1][1]);
        vendor = first;
    }

    /// Two proofs of one channel are two checkpoints, in their order.
    function test_batchCheckpoint_OneChannelTwice() external eachAsset {
        IPaymentChannel.CheckpointItem[] memory items = new IPaymentChannel.CheckpointItem[](3);
        for (uint256 i; i < items.length; ++i) {
            items[i] = IPaymentChannel.CheckpointItem(its(), proof(its(), i == 1 ? 20 : 10));
        }
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Checkpointed(id, 10, wordAt(its(), 10), uint256(10) * UNIT);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Checkpointed(id, 20, wordAt(its(), 20), uint256(10) * UNIT);
        _expectSkipped(IPaymentChannel.IndexNotAboveSettled.selector, 10, 20);
        channels.batchCheckpoint(items);
        assertCredits(uint256(20) * UNIT, 0);
    }

    function test_batchCheckpoint_SkipsEveryReason() external eachAsset {
        uint256 start = vm.snapshotState();
        for (uint256 kind; kind < 9; ++kind) {
            IPaymentChannel.CheckpointItem[] memory items = _checkpoints();
            (bytes4 reason, uint256 got, uint256 limit) = _spoil(kind, items[2].terms, items[2].proof);
            emit log_named_uint("kind", kind);
            bytes32 spoiledId = items[2].terms.permit.channelId;
            vm.expectEmit(address(channels));
            emit IPaymentChannel.ItemSkipped(spoiledId, reason, got, limit);
            channels.batchCheckpoint(items);
            // Kind 0 is closed and kind 1 late: of all channels, or of the one.
            assertEq(creditOf(vendor), kind == 1 ? 0 : uint256(48) * UNIT, "the others are paid");
            // Alone, it reverts with the same error.
            vm.expectRevert(abi.encodeWithSelector(reason, got, limit));
            channels.checkpoint(items[2].terms, items[2].proof);
            vm.revertToState(start);
        }
    }

    // ── batchClose ──

    function test_batchClose_PaysEveryChannel() external eachAsset {
        IPaymentChannel.CloseItem[] memory items = _closes();
        for (uint32 i; i < ITEMS; ++i) {
            vm.expectEmit(address(channels));
            emit IPaymentChannel.Closed(
                all[i].permit.channelId,
                10 + i,
                uint256(10 + i) * UNIT,
                uint256(90 - i) * UNIT,
                keccak256(abi.encode(TRANSCRIPT, i))
            );
        }
        vm.prank(vendor);
        channels.batchClose(items);
        assertCredits(uint256(60) * UNIT, uint256(440) * UNIT);
    }

    function test_batchClose_ShowsReceipts() external eachAsset {
        IPaymentChannel.CloseItem[] memory items = _closes();
        for (uint32 i; i < 3; ++i) {
            items[i].receipt = lastReceipt(all[i], 10 + i, items[i].transcript);
        }
        items[1].receipt.sigma.v = 29; // a wrong one
        vm.prank(vendor);
        channels.batchClose(items);
        assertCredits(uint256(60) * UNIT, uint256(440) * UNIT);
        assertEq(reputationOf(client), 82);
        assertEq(reputationOf(vendor), 92);
    }

    /// The refund is summed per run of one client and asset, too.
    function test_batchClose_OfSeveralClientsAndAssetsCreditsEach() external {
        address[2] memory clients = [client, makeAddr("second client")];
        vm.deal(clients[1], 100 ether);
        token.mint(clients[1], 100 ether);
        vm.prank(clients[1]);
        token.approve(address(channels), type(uint256).max);
        setReputation(clients[1], 80);
        IPaymentChannel.CloseItem[] memory items = new IPaymentChannel.CloseItem[](8);
        uint256[2][2] memory back;
        uint256[2] memory owed;
        for (uint32 i; i < items.length; ++i) {
            uint256 c = (i / 2) % 2;
            uint256 a = (i / 3) % 2;
            client = clients[c];
            bytes32 salt = keccak256(abi.encode("mixed", i));
            items[i].terms = open(permitOf(a == 0 ? NATIVE : address(token), salt, LENGTH), salt);
            items[i].proof = proof(items[i].terms, i);
            owed[a] += uint256(i) * UNIT;
            back[c][a] += uint256(LENGTH - i) * UNIT;
        }
        vm.prank(vendor);
        channels.batchClose(items);
        for (uint256 a; a < 2; ++a) {
            asset = a == 0 ? NATIVE : address(token);
            assertEq(creditOf(vendor), owed[a]);
            assertEq(creditOf(clients[0]), back[0][a]);
            assertEq(creditOf(clients[1]), back[1][a]);
        }
        client = clients[0];
    }

    /// A vendor that is its own client is paid both parts.
    function test_batchClose_VendorIsTheClient() external eachAsset {
        client = vendor;
        fund(vendor, DEPOSIT);
        bytes32 salt = keccak256("self");
        IPaymentChannel.CloseItem[] memory items = new IPaymentChannel.CloseItem[](1);
        items[0].terms = open(permitOf(asset, salt, LENGTH), salt);
        items[0].proof = proof(items[0].terms, 10);
        vm.prank(vendor);
        channels.batchClose(items);
        assertEq(creditOf(vendor), DEPOSIT);
    }

    function test_batchClose_OneChannelTwice() external eachAsset {
        IPaymentChannel.CloseItem[] memory items = new IPaymentChannel.CloseItem[](2);
        for (uint256 i; i < items.length; ++i) {
            items[i].terms = its();
            items[i].proof = proof(its(), 10);
        }
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Closed(id, 10, uint256(10) * UNIT, uint256(90) * UNIT, 0);
        _expectSkipped(IPaymentChannel.WrongStatus.selector, 2, 1);
        vm.prank(vendor);
        channels.batchClose(items);
        assertCredits(uint256(10) * UNIT, uint256(90) * UNIT);
    }

    function test_batchClose_SkipsEveryReason() external eachAsset {
        uint256 start = vm.snapshotState();
        for (uint256 kind; kind < 9; ++kind) {
            if (kind == 3) continue; // an index that is settled closes
            IPaymentChannel.CloseItem[] memory items = _closes();
            (bytes4 reason, uint256 got, uint256 limit) = _spoil(kind, items[2].terms, items[2].proof);
            emit log_named_uint("kind", kind);
            bytes32 spoiledId = items[2].terms.permit.channelId;
            vm.expectEmit(address(channels));
            emit IPaymentChannel.ItemSkipped(spoiledId, reason, got, limit);
            vm.prank(vendor);
            channels.batchClose(items);
            assertEq(creditOf(vendor), kind == 1 ? 0 : uint256(48) * UNIT, "the others are paid");
            vm.expectRevert(abi.encodeWithSelector(reason, got, limit));
            vm.prank(vendor);
            channels.close(items[2].terms, items[2].proof, 0, noReceipt());
            vm.revertToState(start);
        }
    }

    /// Channels of vendors for whom the caller may not act are left out one by one.
    function test_batchClose_SkipsForeignVendors() external eachAsset {
        address mine = vendor;
        (vendor,) = makeAddrAndKey("foreign vendor");
        setReputation(vendor, 90);
        bytes32 salt = keccak256("foreign");
        IPaymentChannel.CloseItem[] memory items = _closes();
        items[2].terms = open(permitOf(asset, salt, LENGTH), salt);
        items[2].proof = proof(items[2].terms, 10);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.ItemSkipped(
            items[2].terms.permit.channelId, IOperators.NotOperator.selector, uint160(mine), uint160(vendor)
        );
        vm.prank(mine);
        channels.batchClose(items);
        assertEq(creditOf(vendor), 0);
        vendor = mine;
        assertCredits(uint256(48) * UNIT, uint256(352) * UNIT);

        // A stranger's batch is one of nothing but left-out items.
        vm.prank(stranger);
        channels.batchClose(items);
        assertCredits(uint256(48) * UNIT, uint256(352) * UNIT);
    }

    /// A batch ends as the same channels closed one by one, whatever is wrong with some of them.
    /// forge-config: default.fuzz.runs = 64
    function testFuzz_batchClose_EqualsClosesOneByOne(uint8[5] memory kinds, uint8[5] memory indices)
        external
        eachAsset
    {
        IPaymentChannel.CloseItem[] memory items = _closes();
        for (uint256 i; i < ITEMS; ++i) {
            uint32 index = uint32(bound(indices[i], 0, LENGTH));
            items[i].proof = proof(all[i], index);
            uint256 kind = kinds[i] % 16;
            if (kind == 3) items[i].terms = items[(i + 1) % ITEMS].terms;
            if (kind > 3 && kind < 9) _spoil(kind, items[i].terms, items[i].proof);
        }
        uint256 start = vm.snapshotState();
        for (uint256 i; i < ITEMS; ++i) {
            vm.prank(vendor);
            try channels.close(items[i].terms, items[i].proof, items[i].transcript, items[i].receipt) {} catch {}
        }
        bytes32 oneByOne = _state();
        vm.revertToState(start);
        vm.prank(vendor);
        channels.batchClose(items);
        assertEq(_state(), oneByOne);
    }

    // ── helpers ──

    function _checkpoints() private view returns (IPaymentChannel.CheckpointItem[] memory items) {
        items = new IPaymentChannel.CheckpointItem[](ITEMS);
        for (uint32 i; i < ITEMS; ++i) {
            items[i].terms = all[i];
            items[i].proof = i % 2 == 0 ? proof(all[i], 10 + i) : proofFrom(all[i], 10 + i, 8);
        }
    }

    function _closes() private view returns (IPaymentChannel.CloseItem[] memory items) {
        IPaymentChannel.CheckpointItem[] memory parts = _checkpoints();
        items = new IPaymentChannel.CloseItem[](ITEMS);
        for (uint32 i; i < ITEMS; ++i) {
            items[i].terms = parts[i].terms;
            items[i].proof = parts[i].proof;
            items[i].transcript = keccak256(abi.encode(TRANSCRIPT, i));
        }
    }

    /// @dev Spoils an item of the default channel, index 12; returns why it is refused.
    function _spoil(uint256 kind, IPaymentChannel.Terms memory t, IPaymentChannel.Proof memory p)
        private
        returns (bytes4 reason, uint256 got, uint256 limit)
    {
        if (kind == 0) {
            close(1);
            // Not counted with the others.
            vm.startPrank(vendor);
            channels.withdrawCredit(asset, vendor, UNIT);
            vm.stopPrank();
            return (IPaymentChannel.WrongStatus.selector, 2, 1);
        }
        if (kind == 1) {
            vm.warp(expiry + 1);
            return (IPaymentChannel.TooLate.selector, expiry + 1, expiry);
        }
        if (kind == 2) {
            t.permit.channelId = bytes32(uint256(1)); // no such channel
            return (IPaymentChannel.WrongStatus.selector, 0, 1);
        }
        if (kind == 3) {
            p.index = 0;
            return (IPaymentChannel.IndexNotAboveSettled.selector, 0, 0);
        }
        if (kind == 4) {
            t.permit.unit += 1;
            return (
                IPaymentChannel.UnknownTerms.selector,
                uint256(channels.termsHash(t)),
                uint256(bytes32(bytes28(channels.termsHash(its()))))
            );
        }
        if (kind == 5) {
            p.index = LENGTH + 1;
            return (IPaymentChannel.IndexAboveLength.selector, LENGTH + 1, LENGTH);
        }
        if (kind == 6) {
            (p.index, p.signedIndex) = (12, 13);
            return (IPaymentChannel.SignedIndexAboveIndex.selector, 13, 12);
        }
        if (kind == 7) {
            (p.index, p.signedIndex) = (12, 8);
            p.signature = IPaymentChannel.Signature(0, 0, 0);
            return (IPaymentChannel.WrongSigner.selector, 0, uint160(receipts));
        }
        p.index = 1;
        p.signedIndex = 0;
        p.word = 0;
        return (
            IPaymentChannel.WordNotInChain.selector,
            uint256(below(0, t.permit.channelId)),
            uint256(bytes32(bytes28(t.permit.anchor)))
        );
    }

    function _expectSkipped(bytes4 reason, uint256 got, uint256 limit) private {
        vm.expectEmit(address(channels));
        emit IPaymentChannel.ItemSkipped(id, reason, got, limit);
    }

    function _state() private view returns (bytes32 state) {
        state = keccak256(abi.encode(creditOf(vendor), creditOf(client)));
        for (uint256 i; i < ITEMS; ++i) {
            state = keccak256(abi.encode(state, channels.channelOf(all[i])));
        }
    }
}
