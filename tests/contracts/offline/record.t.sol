// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "./OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

/// @notice {record}: what was proven once need not be proven again, and no broken component can turn that on others.
contract RecordTest is OfflineFixture {
    function test_record_SparesTheProof() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        Trip memory one = pay(begin(coin), B, AMOUNT);
        Trip memory t = pay(one, C, 400);
        vm.expectEmit(address(vault));
        emit IOfflineVault.Recorded(devices[A].id, coin.id, one.digest);
        vm.expectEmit(address(vault));
        emit IOfflineVault.Recorded(devices[B].id, one.input, t.digest);
        vm.prank(stranger);
        vault.record(t.path);
        assertEq(vault.spentBy(devices[A].id, coin.id), one.digest);
        vm.recordLogs();
        vault.record(t.path); // again: nothing
        assertEq(vm.getRecordedLogs().length, 0);
        // The same path with nothing to prove but the exit.
        Trip memory bare = begin(coin);
        bare = _recorded(bare, t, 0);
        bare = _recorded(bare, t, 1);
        (bare.input, bare.value, bare.payer) = (t.input, t.value, t.payer);
        bare = exit(bare);
        vault.redeem(bare.path);
        assertEq(creditOf(C), 400);
    }

    /// A path may end in an exit, which then need not be proven either.
    function test_record_AnExit() external eachAsset {
        Trip memory t = exit(begin(depositOf(A, AMOUNT)));
        vault.record(t.path);
        t.path.hops[64] = 0x08;
        bytes memory hops = t.path.hops;
        uint256 length = t.evidenceAt;
        assembly ("memory-safe") {
            mstore(hops, length)
        }
        vault.redeem(t.path);
        assertEq(creditOf(A), AMOUNT);
    }

    /// Of two transfers of one input the first that is recorded stays.
    function test_record_RevertWhen_AnotherIsRecorded() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        Device memory image = imageOf(A);
        Trip memory one = pay(begin(coin), B, AMOUNT);
        restore(A, image);
        Trip memory other = pay(begin(coin), C, AMOUNT);
        vault.record(one.path);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.InputSpent.selector, one.digest, other.digest));
        vault.record(other.path);
        // A record binds no path that brings its own signature.
        vault.redeem(exit(other).path);
        assertEq(creditOf(C), AMOUNT);
    }

    function test_record_RevertWhen_NoSuchCoinOrNoHops() external {
        Trip memory t = pay(begin(depositOf(A, AMOUNT)), B, 1);
        t.path.nonce += 1;
        vm.expectPartialRevert(IOfflineVault.UnknownCoin.selector);
        vault.record(t.path);
        t = begin(depositOf(A, AMOUNT));
        vm.expectPartialRevert(IOfflineVault.PathTruncated.selector);
        vault.record(t.path);
        t.path.hops = "";
        vm.expectPartialRevert(IOfflineVault.PathTruncated.selector);
        vault.record(t.path);
    }

    /// @dev The `index`-th hop of a path of payments to payees that go on, without its evidence.
    function _recorded(Trip memory bare, Trip memory t, uint256 index) private pure returns (Trip memory) {
        uint256 size = 49 + 48 + 64;
        bytes memory hop = new bytes(size);
        for (uint256 i; i < size; ++i) {
            hop[i] = t.path.hops[64 + index * (size + 64) + i];
        }
        hop[0] = 0x00;
        bare.path.hops = bytes.concat(bare.path.hops, hop);
        return bare;
    }
}
