// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "../OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

/// @notice A copied TPM has two logs, and one of them can be settled. Whom the other branch paid must not lose by that alone.
contract ForkAttackTest is OfflineFixture {
    Coin private _coin;
    bytes32 private _base;
    IOfflineVault.Stretch private _one;
    IOfflineVault.Stretch private _other;

    /// The offender settles the branch of an accomplice, who never leaves: nothing is taken, so nothing is compensated, and
    /// the other branch's payee may not redeem either.
    function test_attack_the_settled_branch_locks_the_other_payee_out() external eachAsset {
        (, Trip memory other) = _fork();
        pledge(T, AMOUNT);
        vault.settleLog(devices[T].key, _one);
        vm.expectPartialRevert(IOfflineVault.InputSpent.selector);
        vault.redeem(other.path);

        // Ours: when the fork is proven, neither branch orders anything any more.
        _prove();
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.ExitNotDoubleSpent.selector, AMOUNT, AMOUNT));
        _compensate(other);
        vault.redeem(other.path);
        assertEq(creditOf(C), AMOUNT);
    }

    function test_attack_the_settled_branch_locks_the_other_payee_out_of_a_batch() external eachAsset {
        (, Trip memory other) = _fork();
        vault.settleLog(devices[T].key, _one);
        _prove();
        IOfflineVault.Path[] memory paths = new IOfflineVault.Path[](1);
        paths[0] = other.path;
        vault.redeemBatch(paths);
        assertEq(creditOf(C), AMOUNT);
    }

    /// Exits of both branches compete for their parts of the coin; the later is compensated, and it alone.
    function test_fork_TheLaterBranchIsCompensated() external eachAsset {
        for (uint256 first; first < 2; ++first) {
            uint256 start = vm.snapshotState();
            (Trip memory one, Trip memory other) = _fork();
            pledge(T, AMOUNT);
            vault.settleLog(devices[T].key, _one);
            _prove();
            if (first == 1) (one, other) = (other, one);
            vault.redeem(one.path);
            refused(other.path, IOfflineVault.NotFree.selector, AMOUNT, 0);
            vm.expectPartialRevert(IOfflineVault.ExitPaid.selector);
            _compensate(one);
            _compensate(other);
            assertEq(creditOf(B), AMOUNT);
            assertEq(creditOf(C), AMOUNT);
            vm.revertToState(start);
        }
    }

    /// A path that needs no proof, since the branch it shows was settled, still holds.
    function test_fork_TheSettledBranchIsStillRecorded() external eachAsset {
        (Trip memory one,) = _fork();
        vault.settleLog(devices[T].key, _one);
        _prove();
        one.path.hops = _bare(one.path.hops);
        vault.redeem(one.path);
        assertEq(creditOf(B), AMOUNT);
    }

    /// No record of the settled branch is written over, whatever was proven of the other one before in the transaction.
    function test_attack_record_a_forked_branch_over_the_settled_one() external eachAsset {
        (Trip memory one, Trip memory other) = _fork();
        vault.settleLog(devices[T].key, _one);
        _prove();
        IOfflineVault.Path[] memory paths = new IOfflineVault.Path[](1);
        paths[0] = other.path;
        vault.redeemBatch(paths);
        bytes32 settled = wordAt(_one.entries, 32);
        assertEq(vault.spentBy(devices[T].id, _coin.id), settled);
        bytes32 second = wordAt(_other.entries, 32);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.InputSpent.selector, settled, second));
        vault.record(other.path);
        // Nor does it pass as recorded.
        other.path.hops = _bare(other.path.hops);
        refusedFor(other.path, IOfflineVault.NotRecorded.selector, settled, second);
        vault.record(one.path);
    }

    /// Nothing is loosened before the fork is proven.
    function test_fork_RevertWhen_ItIsNotProven() external {
        (, Trip memory other) = _fork();
        pay(begin(depositOf(T, AMOUNT)), A, 1);
        settleLog(T); // the other branch, and beyond
        Trip memory stale = exit(begin(depositOf(U, AMOUNT)));
        settleLog(U);
        Trip memory next = exit(begin(depositOf(U, AMOUNT)));
        next.path.hops = bytes.concat(_upTo(next), logEvidence(U, keccak256("any"), devices[U].entries));
        refusedFor(next.path, IOfflineVault.WrongBase.selector, keccak256("any"), devices[U].base);
        vault.redeem(stale.path);
        vault.redeem(other.path);
    }

    /// After the proof the wallet is as one whose key leaked: also of one log a second spend counts, if it comes first. It
    /// takes what that wallet held, and nothing else.
    function test_attack_a_proven_forks_log_spends_an_input_twice() external eachAsset {
        _fork();
        Coin memory coin = depositOf(T, AMOUNT);
        Coin memory bystander = depositOf(B, AMOUNT);
        Trip memory honest = exit(pay(begin(coin), D, AMOUNT));
        bytes32 base = fold(devices[T].base, devices[T].entries);
        Device memory image = imageOf(T);
        (devices[T].base, devices[T].entries) = (base, "");
        Trip memory second = exit(pay(begin(coin), E, AMOUNT)); // hides the entry before
        restore(T, image);
        vm.expectPartialRevert(IOfflineVault.WrongBase.selector);
        vault.redeem(second.path);
        _prove();
        vault.redeem(second.path);
        refused(honest.path, IOfflineVault.NotFree.selector, AMOUNT, 0);
        pledge(T, AMOUNT);
        _compensate(honest);
        assertEq(creditOf(D), AMOUNT);
        vault.redeem(exit(begin(bystander)).path);
    }

    // ── helpers ──

    /// @dev T pays all of a coin to B, and its copy to C; both leave.
    function _fork() private returns (Trip memory one, Trip memory other) {
        _coin = depositOf(T, AMOUNT);
        _base = devices[T].base;
        Device memory image = imageOf(T);
        one = exit(pay(begin(_coin), B, AMOUNT));
        _one = stretchOf(T, _base, devices[T].entries);
        restore(T, image);
        other = exit(pay(begin(_coin), C, AMOUNT));
        _other = stretchOf(T, _base, devices[T].entries);
    }

    function _prove() private {
        vault.proveFork(devices[T].key, _base, _one, _other);
    }

    function _compensate(Trip memory t) private {
        vault.compensate(t.path, 0, new bytes32[](0));
    }

    function _upTo(Trip memory t) private pure returns (bytes memory cut) {
        cut = bytes.concat(t.path.hops);
        uint256 length = t.evidenceAt;
        assembly ("memory-safe") {
            mstore(cut, length)
        }
    }

    /// @dev A path of one payment by a log of one entry and an exit by signature, with the first as recorded.
    function _bare(bytes memory hops) private pure returns (bytes memory bare) {
        uint256 before = 64 + 49 + 48 + 64;
        uint256 evidence = 34 + 64 + 173 + 64;
        bare = new bytes(hops.length - evidence);
        for (uint256 i; i < bare.length; ++i) {
            bare[i] = hops[i < before ? i : i + evidence];
        }
        bare[64] = 0x00;
    }
}
