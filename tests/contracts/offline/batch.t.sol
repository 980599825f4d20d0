// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "./OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

contract BatchTest is OfflineFixture {
    function test_redeemBatch_PaysEveryPath() external eachAsset {
        IOfflineVault.Path[] memory paths = new IOfflineVault.Path[](4);
        Trip memory t = begin(depositOf(A, AMOUNT));
        Trip memory side;
        (side, t) = bothParts(t, B, AMOUNT / 4);
        paths[0] = exit(side).path;
        (side, t) = bothParts(t, C, AMOUNT / 4);
        paths[1] = exit(side).path;
        paths[2] = exit(t).path;
        paths[3] = exit(begin(depositOf(B, AMOUNT))).path;
        vm.prank(stranger);
        vault.redeemBatch(paths);
        assertEq(creditOf(A), AMOUNT / 2);
        assertEq(creditOf(B), AMOUNT / 4 + AMOUNT);
        assertEq(creditOf(C), AMOUNT / 4);
    }

    function test_redeemBatch_OfNothingDoesNothing() external {
        vm.recordLogs();
        vault.redeemBatch(new IOfflineVault.Path[](0));
        assertEq(vm.getRecordedLogs().length, 0);
    }

    /// Credit is summed per run of one owner and asset: runs must not leak into each other.
    function test_redeemBatch_OfSeveralOwnersAndAssetsCreditsEach() external {
        IOfflineVault.Path[] memory paths = new IOfflineVault.Path[](8);
        uint256[2][2] memory owed;
        for (uint256 i; i < 8; ++i) {
            (uint256 w, uint256 a) = ((i / 2) % 2, (i / 3) % 2);
            asset = a == 0 ? NATIVE : address(token);
            paths[i] = exit(begin(depositOf(w, uint128(i + 1)))).path;
            owed[w][a] += i + 1;
        }
        vault.redeemBatch(paths);
        for (uint256 a; a < 2; ++a) {
            asset = a == 0 ? NATIVE : address(token);
            assertEq(creditOf(A), owed[0][a]);
            assertEq(creditOf(B), owed[1][a]);
        }
    }

    /// One path in a batch twice, and in two batches: exactly one credit.
    function test_redeemBatch_DuplicatesArePaidOnce() external eachAsset {
        IOfflineVault.Path[] memory paths = new IOfflineVault.Path[](3);
        Trip memory t = exit(pay(begin(depositOf(A, AMOUNT)), B, AMOUNT / 4));
        (paths[0], paths[1]) = (t.path, t.path);
        paths[2] = exit(begin(depositOf(C, AMOUNT))).path;
        vm.expectEmit(address(vault));
        emit IOfflineVault.ItemSkipped(t.coin, IOfflineVault.SequencePaid.selector, 1, 2);
        vault.redeemBatch(paths);
        vault.redeemBatch(paths);
        assertEq(creditOf(B), AMOUNT / 4);
        assertEq(creditOf(C), AMOUNT);
    }

    /// A bad path never harms the others, whatever is wrong with it, and reverts with the same error alone.
    function test_redeemBatch_SkipsEveryReason() external eachAsset {
        uint256 start = vm.snapshotState();
        for (uint256 kind; kind < 14; ++kind) {
            IOfflineVault.Path[] memory paths = new IOfflineVault.Path[](3);
            paths[0] = exit(begin(depositOf(A, AMOUNT))).path;
            bytes4 reason;
            (paths[1], reason) = _spoilt(kind);
            paths[2] = exit(begin(depositOf(E, AMOUNT))).path;
            emit log_named_uint("kind", kind);
            vm.recordLogs();
            vault.redeemBatch(paths);
            _assertSkipped(reason);
            assertEq(creditOf(A), AMOUNT, "the first is paid");
            assertEq(creditOf(E), AMOUNT, "the last is paid");
            vm.expectPartialRevert(reason);
            vault.redeem(paths[1]);
            vm.revertToState(start);
        }
    }

    function _assertSkipped(bytes4 reason) private {
        Vm_Log[] memory logs = abi.decode(abi.encode(vm.getRecordedLogs()), (Vm_Log[]));
        uint256 skipped;
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != IOfflineVault.ItemSkipped.selector) continue;
            ++skipped;
            (bytes4 got,,) = abi.decode(logs[i].data, (bytes4, uint256, uint256));
            assertEq(got, reason, "reason");
        }
        assertEq(skipped, 1, "one is left out");
    }

    /// @dev As forge's log.
    struct Vm_Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    function _spoilt(uint256 kind) private returns (IOfflineVault.Path memory path, bytes4 reason) {
        Trip memory t = begin(depositOf(B, AMOUNT));
        if (kind == 0) {
            path = exit(t).path;
            path.nonce += 1000;
            return (path, IOfflineVault.UnknownCoin.selector);
        }
        if (kind == 1) return (path, IOfflineVault.PathTruncated.selector); // no hops at all
        if (kind == 2) return (t.path, IOfflineVault.PathTruncated.selector);
        if (kind == 3) return (pay(t, C, 1).path, IOfflineVault.NotAnExit.selector);
        if (kind == 4) return (exit(pay(t, C, 0)).path, IOfflineVault.AmountAboveInput.selector);
        if (kind == 5) {
            path = exit(t).path;
            path.hops[70] ^= 0x01;
            return (path, IOfflineVault.BadSignature.selector);
        }
        if (kind == 6) {
            validFor = 1 days;
            uint256 w = addDevice("short-lived", false);
            register(w);
            t = begin(depositOf(w, AMOUNT));
            vm.warp(vm.getBlockTimestamp() + 1 days + 1);
            return (exit(pay(t, C, 1)).path, IOfflineVault.IssuedTooLate.selector);
        }
        if (kind == 7) {
            vm.prank(registrar);
            vault.revoke(devices[B].id);
            vm.warp(vm.getBlockTimestamp() + 1);
            return (exit(pay(t, C, 1)).path, IOfflineVault.IssuedAfterStop.selector);
        }
        if (kind == 8) {
            path = exit(t).path;
            path.hops[64] = 0x0a;
            return (path, IOfflineVault.WrongEvidence.selector);
        }
        if (kind == 9) {
            path = exit(t).path;
            path.hops[64] = 0xff;
            return (path, IOfflineVault.UnknownTag.selector);
        }
        if (kind == 10) {
            path = exit(t).path;
            path.hops = bytes.concat(path.hops, hex"00");
            return (path, IOfflineVault.ExitIsNotLast.selector);
        }
        if (kind == 11) {
            path = exit(t).path;
            vault.redeem(path);
            return (path, IOfflineVault.SequencePaid.selector);
        }
        if (kind == 12) {
            path = exit(t).path;
            vault.redeem(exit(t).path); // a second exit of one coin: double-spent
            return (path, IOfflineVault.NotFree.selector);
        }
        path = exit(t).path;
        path.hops[64] = 0x08;
        return (path, IOfflineVault.NotRecorded.selector);
    }

    /// A batch ends as the same paths redeemed one by one, whatever is wrong with their exits. (Evidence of a hop that was
    /// proven before in the batch is not read.)
    /// forge-config: default.fuzz.runs = 48
    function testFuzz_redeemBatch_EqualsOneByOne(uint256 seed) external {
        IOfflineVault.Path[] memory paths = new IOfflineVault.Path[](6);
        Trip memory t = begin(depositOf(A, AMOUNT));
        for (uint256 i; i < 6; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            Trip memory side;
            (side, t) = bothParts(t, 1 + seed % 4, 10 gwei);
            paths[i] = exit(side).path;
            if ((seed >> 8) % 4 == 0) paths[i].hops[paths[i].hops.length - 1 - (seed >> 16) % 113] ^= 0x10;
            if ((seed >> 8) % 4 == 1) paths[i] = paths[(seed >> 16) % (i + 1)];
        }
        uint256 start = vm.snapshotState();
        for (uint256 i; i < 6; ++i) {
            try vault.redeem(paths[i]) {} catch {}
        }
        bytes32 oneByOne = _state();
        vm.revertToState(start);
        vault.redeemBatch(paths);
        assertEq(_state(), oneByOne);
    }

    function _state() private view returns (bytes32 state) {
        for (uint256 w; w < 7; ++w) {
            state = keccak256(abi.encode(state, creditOf(w), vault.isRedeemed(devices[w].id, 1)));
        }
    }
}
