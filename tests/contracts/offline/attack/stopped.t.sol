// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "../OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

/// @notice A stop, or the end of a registration, ends a wallet's payments. What it holds it may still leave with.
contract StoppedAttackTest is OfflineFixture {
    /// B is paid, its wallet is revoked, and only then does it leave: its exit cannot be older than the stop.
    function test_attack_a_revocation_takes_what_a_wallet_received() external eachAsset {
        _stopAfterReceiving(false);
    }

    function test_attack_a_killed_class_takes_what_its_wallets_received() external eachAsset {
        _stopAfterReceiving(true);
    }

    function _stopAfterReceiving(bool class) private {
        Trip memory held = pay(begin(depositOf(A, AMOUNT)), B, AMOUNT);
        Trip memory more = pay(begin(depositOf(A, AMOUNT)), B, AMOUNT);
        skip(1 hours);
        uint256 at = vm.getBlockTimestamp();
        vm.prank(registrar);
        if (class) vault.killClass(CLASS);
        else vault.revoke(devices[B].id);
        vm.warp(at + 1);
        // To pay others is over.
        refused(exit(pay(held, C, 1)).path, IOfflineVault.IssuedAfterStop.selector, at + 1, at);
        vm.warp(at + GRACE);
        Trip memory leaving = exit(held);
        Trip memory late = exit(more);
        vault.redeem(leaving.path);
        assertEq(creditOf(B), AMOUNT, "who is stopped leaves with what it holds");
        vm.warp(at + GRACE + 1);
        refused(late.path, IOfflineVault.GraceOver.selector, at + GRACE + 1, at + GRACE);
    }

    /// An owner that breaks its component proves itself to have double-spent something worthless. Payees hear of it when
    /// its registrar revokes it, and till then its payments count: the first payee has the coin, the next the collateral.
    function test_attack_an_owner_proves_itself_to_void_what_it_pays() external eachAsset {
        Trip memory before = _provesItself();
        skip(1 days);
        Trip memory toC = pay(before, C, AMOUNT / 2);
        vault.redeem(exit(toC).path);
        assertEq(creditOf(C), AMOUNT / 2);
        assertEq(vault.walletOf(devices[A].id).revokedAt, 0);
        // Its registrar stops it, as any other.
        vm.prank(registrar);
        vault.revoke(devices[A].id);
    }

    /// Or it proves itself a second after it paid, so that its payees have no more than GRACE.
    function test_attack_an_owner_proves_itself_to_shorten_its_payees_time() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        Trip memory toB = pay(begin(coin), B, AMOUNT);
        _provesItself();
        vm.warp(coin.settleBy + GRACE);
        vault.redeem(exit(toB).path);
        assertEq(creditOf(B), AMOUNT);
    }

    /// A double-spends a worthless coin and shows it, and has another coin.
    function _provesItself() private returns (Trip memory before) {
        Coin memory coin = depositOf(A, AMOUNT);
        Coin memory worthless = depositOf(A, 2);
        Device memory image = imageOf(A);
        IOfflineVault.Transfer memory one = pay(begin(worthless), B, 1).last;
        restore(A, image);
        equivocate(A, one, pay(begin(worthless), C, 1).last);
        before = begin(coin);
    }

    /// The same of a registration that ended, until the coin's time is over.
    function test_attack_the_end_of_a_registration_takes_what_a_wallet_received() external eachAsset {
        validFor = 1 days;
        uint256 w = addDevice("short-lived", false);
        register(w);
        Coin memory coin = depositOf(A, AMOUNT);
        Trip memory held = pay(begin(coin), w, AMOUNT);
        uint256 end = vault.walletOf(devices[w].id).validUntil;
        vm.warp(coin.settleBy + GRACE);
        refused(exit(pay(held, C, 1)).path, IOfflineVault.IssuedTooLate.selector, coin.settleBy + GRACE, end);
        vault.redeem(exit(held).path);
        assertEq(creditOf(w), AMOUNT);
    }

    /// What this opens: a leaked key of a revoked wallet leaves with what that wallet holds, which is what it is owed; it
    /// could have put an earlier time into the exit anyway. Whom the wallet paid before competes with it for that part and no
    /// other, as ever.
    function test_attack_leaked_key_of_a_revoked_wallet_leaves() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        (Trip memory ofD, Trip memory rest) = bothParts(begin(coin), D, 100);
        Trip memory paid = exit(pay(ofD, C, 40)); // D paid C before, and C leaves later
        uint256 at = vm.getBlockTimestamp();
        vm.prank(registrar);
        vault.revoke(devices[D].id);
        vm.warp(at + 1 days);
        Trip memory stolen = exit(ofD);
        uint256 start = vm.snapshotState();
        // The thief first: C has lost against D's broken component, and D's collateral is for it.
        vault.redeem(stolen.path);
        refused(paid.path, IOfflineVault.NotFree.selector, AMOUNT, AMOUNT - 100);
        // C first: the thief has nothing.
        vm.revertToState(start);
        vault.redeem(paid.path);
        refused(stolen.path, IOfflineVault.NotFree.selector, AMOUNT, AMOUNT - 40);
        // Others are untouched either way.
        vault.redeem(exit(pay(rest, B, AMOUNT - 100)).path);
        assertEq(creditOf(B), AMOUNT - 100);
    }
}
