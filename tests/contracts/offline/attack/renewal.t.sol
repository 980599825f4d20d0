// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "../OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

/// @notice A renewal is a promise to payees: whoever holds it may bring it here.
contract RenewalAttackTest is OfflineFixture {
    /// The registrar renews a wallet, which pays under that; its owner, who is the only one to gain, never submits it.
    function test_attack_an_owner_that_sits_on_a_renewal_voids_payments_under_it() external eachAsset {
        validFor = 1 days;
        uint256 w = addDevice("renewed", false);
        register(w);
        uint64 end = vault.walletOf(devices[w].id).validUntil;
        Coin memory coin = depositOf(w, AMOUNT);
        validFor = 8 days;
        IOfflineVault.Registration memory renewal = registrationOf(w);
        IOfflineVault.RegistrarSignature memory vouched = vouch(renewal);
        vm.warp(end + 1);
        Trip memory t = exit(pay(begin(coin), B, AMOUNT));
        refused(t.path, IOfflineVault.IssuedTooLate.selector, end + 1, end);

        // Ours: the payee, or anyone, submits it. The wallet signs nothing for it.
        vm.prank(stranger);
        vault.register(renewal, devices[w].key, registrar, vouched, IOfflineVault.Signature(0, 0));
        vault.redeem(t.path);
        assertEq(creditOf(B), AMOUNT);
    }

    /// What a stranger sends along is collateral, as the owner's is.
    function test_renew_ByAnyoneWithCollateral() external {
        validFor += 1 days;
        IOfflineVault.Registration memory renewal = registrationOf(A);
        IOfflineVault.RegistrarSignature memory vouched = vouch(renewal);
        vm.expectEmit(address(vault));
        emit IOfflineVault.Renewed(renewal.wallet, renewal.validUntil);
        vm.expectEmit(address(vault));
        emit IOfflineVault.CollateralAdded(renewal.wallet, NATIVE, stranger, 5);
        hoax(stranger, 5);
        vault.register{value: 5}(renewal, devices[A].key, registrar, vouched, IOfflineVault.Signature(0, 0));
        assertEq(vault.collateralOf(renewal.wallet, NATIVE), 5);
    }

    /// A stranger's renewal changes nothing but the end: not by a registrar of its own, and not the owner.
    function test_attack_renew_a_foreign_wallet_under_an_own_registrar() external {
        (address evil, uint256 evilKey) = makeAddrAndKey("evil registrar");
        validFor += 1 days;
        IOfflineVault.Registration memory renewal = registrationOf(A);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(evilKey, vault.registrationDigest(renewal));
        IOfflineVault.RegistrarSignature memory vouched = IOfflineVault.RegistrarSignature(r, s, v);
        vm.expectPartialRevert(IOfflineVault.RegistrationChanged.selector);
        vm.prank(stranger);
        vault.register(renewal, devices[A].key, evil, vouched, IOfflineVault.Signature(0, 0));
        renewal.owner = stranger;
        vouched = vouch(renewal);
        vm.expectPartialRevert(IOfflineVault.RegistrationChanged.selector);
        vm.prank(stranger);
        vault.register(renewal, devices[A].key, registrar, vouched, IOfflineVault.Signature(0, 0));
    }
}
