// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "./OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

/// @notice {register}, with renewal; what becomes of a wallet: {revoke} and {killClass}.
contract RegisterTest is OfflineFixture {
    struct Call {
        IOfflineVault.Registration r;
        IOfflineVault.Key key;
        address registrar;
        IOfflineVault.RegistrarSignature vouched;
        IOfflineVault.Signature possession;
    }

    // ── register ──

    function test_register_RecordsTheWallet() external {
        for (uint256 kind; kind < 2; ++kind) {
            uint256 w = addDevice(kind == 0 ? "new" : "new with a log", kind == 1);
            IOfflineVault.Registration memory r = registrationOf(w);
            bytes32 digest = vault.registrationDigest(r);
            vm.expectEmit(address(vault));
            emit IOfflineVault.Registered(
                r.wallet, registrar, r.owner, CLASS, r.log, r.validUntil, digest, devices[w].key
            );
            register(w);
            IOfflineVault.Wallet memory seen = vault.walletOf(r.wallet);
            assertEq(seen.owner, r.owner);
            assertEq(seen.registrar, registrar);
            assertEq(seen.class, CLASS);
            assertEq(seen.validUntil, r.validUntil);
            assertEq(seen.log, r.log);
            assertEq(seen.head, kind == 0 ? bytes32(0) : devices[w].base);
            assertFalse(seen.equivocated);
        }
    }

    function test_register_WithCollateral() external {
        Call memory c = _new();
        vm.deal(c.r.owner, 5 ether);
        vm.expectEmit(address(vault));
        emit IOfflineVault.CollateralAdded(c.r.wallet, NATIVE, c.r.owner, 5 ether);
        _send(c, 5 ether);
        assertEq(vault.collateralOf(c.r.wallet, NATIVE), 5 ether);
    }

    function test_register_RevertWhen_CallerIsNotTheOwner() external {
        Call memory c = _new();
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NotOwner.selector, stranger, c.r.owner));
        vm.prank(stranger);
        vault.register(c.r, c.key, c.registrar, c.vouched, c.possession);
    }

    function test_register_RevertWhen_KeyIsAnother() external {
        Call memory c = _new();
        c.key = devices[A].key;
        _refused(c, abi.encodeWithSelector(IOfflineVault.WrongKey.selector, devices[A].id, c.r.wallet));
    }

    function test_register_RevertWhen_TheRegistrarDidNotSign() external {
        Call memory c = _new();
        c.registrar = stranger;
        _refused(c, abi.encodeWithSelector(IOfflineVault.WrongSigner.selector, registrar, stranger));
        c.registrar = registrar;
        IOfflineVault.RegistrarSignature memory good = c.vouched;
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        c.vouched = IOfflineVault.RegistrarSignature(good.r, bytes32(order - uint256(good.s)), good.v == 27 ? 28 : 27);
        _refused(c, abi.encodeWithSelector(IOfflineVault.WrongSigner.selector, 0, registrar));
        // Nobody's signature is not that of the zero address.
        c.vouched = IOfflineVault.RegistrarSignature(0, 0, 0);
        c.registrar = address(0);
        _refused(c, abi.encodeWithSelector(IOfflineVault.WrongSigner.selector, 0, 0));
    }

    /// Without the wallet's own signature anyone could be a registrar, put a foreign wallet under its own name, and collect
    /// the wallet's exits; or hold the wallet's place for ever.
    function test_attack_register_a_foreign_wallet_under_an_own_registrar() external {
        uint256 victim = addDevice("victim", false);
        (address evil, uint256 evilKey) = makeAddrAndKey("evil registrar");
        Call memory c;
        c.r = registrationOf(victim);
        c.r.owner = evil;
        c.key = devices[victim].key;
        c.registrar = evil;
        bytes32 digest = vault.registrationDigest(c.r);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(evilKey, digest);
        c.vouched = IOfflineVault.RegistrarSignature(r, s, v);
        c.possession = sign(A, digest);
        _refused(c, abi.encodeWithSelector(IOfflineVault.BadSignature.selector, digest, c.r.wallet));
        // The victim's signature on its own registration is none on this one.
        c.possession = sign(victim, vault.registrationDigest(registrationOf(victim)));
        _refused(c, abi.encodeWithSelector(IOfflineVault.BadSignature.selector, digest, c.r.wallet));
        register(victim);
    }

    function test_register_RevertWhen_ItEndsTooSoonOrTooLate() external {
        Call memory c = _new();
        uint64[3] memory ends = [uint64(vm.getBlockTimestamp()) - 1, uint64(type(uint32).max) + 1, 0];
        for (uint256 i; i < ends.length; ++i) {
            c.r.validUntil = ends[i];
            c.vouched = vouch(c.r);
            _refused(
                c,
                abi.encodeWithSelector(
                    IOfflineVault.ValidUntilOutOfRange.selector, ends[i], vm.getBlockTimestamp(), type(uint32).max
                )
            );
        }
        c.r.validUntil = type(uint32).max;
        c.vouched = vouch(c.r);
        c.possession = sign(devices.length - 1, vault.registrationDigest(c.r));
        _send(c, 0);
    }

    function test_register_RevertWhen_TheClassWasKilled() external {
        Call memory c = _new();
        vm.prank(registrar);
        vault.killClass(CLASS);
        _refused(c, abi.encodeWithSelector(IOfflineVault.Stopped.selector, c.r.wallet, vm.getBlockTimestamp()));
    }

    /// Nobody can pay for so many classes; were it so, the next is refused, and those that there are go on.
    function test_register_RevertWhen_ThereIsNoRoomForAnotherClass() external {
        uint256 most = type(uint32).max >> 2;
        uint256 slot;
        while (vm.load(address(vault), bytes32(slot)) != bytes32(uint256(1))) ++slot; // their number: one so far
        vm.store(address(vault), bytes32(slot), bytes32(most - 1));
        vm.startPrank(stranger);
        vault.killClass(1);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.TooManyClasses.selector, most + 1, most));
        vault.killClass(2);
        vm.stopPrank();
        assertEq(vault.classKilledAt(stranger, 1), vm.getBlockTimestamp());
        register(addDevice("of a class that there is", false));
    }

    // ── renew ──

    function test_renew_MovesTheEndAndNothingElse() external {
        Call memory c = _renewal(T);
        IOfflineVault.Wallet memory before = vault.walletOf(c.r.wallet);
        vm.expectEmit(address(vault));
        emit IOfflineVault.Renewed(c.r.wallet, c.r.validUntil);
        _send(c, 0);
        IOfflineVault.Wallet memory seen = vault.walletOf(c.r.wallet);
        assertEq(seen.validUntil, c.r.validUntil);
        before.validUntil = c.r.validUntil;
        assertEq(keccak256(abi.encode(seen)), keccak256(abi.encode(before)), "its log goes on from the first");
    }

    function test_renew_RevertWhen_ItEndsNoLater() external {
        Call memory c = _renewal(A);
        c.r.validUntil = vault.walletOf(c.r.wallet).validUntil;
        c.vouched = vouch(c.r);
        _refused(
            c,
            abi.encodeWithSelector(
                IOfflineVault.ValidUntilOutOfRange.selector, c.r.validUntil, c.r.validUntil + 1, type(uint32).max
            )
        );
    }

    function test_renew_RevertWhen_AnythingElseChanges() external {
        for (uint256 i; i < 4; ++i) {
            Call memory c = _renewal(T);
            if (i == 0) c.r.owner = stranger;
            if (i == 1) c.r.class = CLASS + 1;
            if (i == 2) c.r.log = 0;
            c.vouched = vouch(c.r);
            if (i == 3) {
                uint256 key;
                (c.registrar, key) = makeAddrAndKey("another registrar");
                (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, vault.registrationDigest(c.r));
                c.vouched = IOfflineVault.RegistrarSignature(r, s, v);
            }
            vm.expectPartialRevert(IOfflineVault.RegistrationChanged.selector);
            _send(c, 0);
        }
    }

    function test_renew_RevertWhen_Stopped() external {
        vm.startPrank(registrar);
        vault.revoke(devices[A].id);
        vm.stopPrank();
        _refused(
            _renewal(A), abi.encodeWithSelector(IOfflineVault.Stopped.selector, devices[A].id, vm.getBlockTimestamp())
        );
        vm.prank(registrar);
        vault.killClass(CLASS);
        _refused(
            _renewal(B), abi.encodeWithSelector(IOfflineVault.Stopped.selector, devices[B].id, vm.getBlockTimestamp())
        );
    }

    // ── revoke, killClass ──

    /// `revoked_wallet_after_grace_rejected`: older payments redeem within the grace period, and no longer.
    function test_revoke_OlderPaymentsCountForTheGracePeriod() external eachAsset {
        _stop(false);
    }

    function test_killClass_OlderPaymentsCountForTheGracePeriod() external eachAsset {
        _stop(true);
    }

    function _stop(bool class) private {
        // A pays B, and issues more in the second of the revocation and after it.
        Trip memory before = exit(pay(begin(depositOf(A, AMOUNT)), B, AMOUNT));
        Coin memory second = depositOf(A, AMOUNT);
        vm.warp(vm.getBlockTimestamp() + 1 hours);
        uint64 at = uint64(vm.getBlockTimestamp());
        Trip memory atStop = exit(begin(second));
        vm.expectEmit(address(vault));
        if (class) emit IOfflineVault.ClassKilled(registrar, CLASS, at);
        else emit IOfflineVault.Revoked(devices[A].id, at);
        vm.prank(registrar);
        if (class) vault.killClass(CLASS);
        else vault.revoke(devices[A].id);
        assertEq(vault.classKilledAt(registrar, CLASS), class ? at : 0);
        vm.warp(at + 1);
        Trip memory late = exit(pay(begin(second), B, AMOUNT));
        refused(late.path, IOfflineVault.IssuedAfterStop.selector, at + 1, at);
        vm.warp(at + GRACE);
        vault.redeem(before.path);
        assertEq(creditOf(B), AMOUNT);
        vm.warp(at + GRACE + 1);
        refused(atStop.path, IOfflineVault.GraceOver.selector, at + GRACE + 1, at + GRACE);
    }

    /// Of two stops each has its own end, and what is refused by both is refused by the first that is looked at.
    function test_stop_OfAWalletAndItsClass() external eachAsset {
        Trip memory t = exit(begin(depositOf(A, AMOUNT)));
        Trip memory early = exit(begin(depositOf(A, AMOUNT)));
        uint256 at = vm.getBlockTimestamp();
        vm.startPrank(registrar);
        vault.killClass(CLASS);
        vm.warp(at + 1 days);
        vault.revoke(devices[A].id);
        vm.stopPrank();
        vm.warp(at + GRACE);
        vault.redeem(early.path);
        vm.warp(at + GRACE + 1);
        refused(t.path, IOfflineVault.GraceOver.selector, at + GRACE + 1, at + GRACE);
        vm.warp(at + 1 days + GRACE + 1);
        refused(t.path, IOfflineVault.GraceOver.selector, at + 1 days + GRACE + 1, at + 1 days + GRACE);
    }

    function test_revoke_RevertWhen_CallerIsNotItsRegistrar() external {
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NotRegistrar.selector, stranger, registrar));
        vm.prank(stranger);
        vault.revoke(devices[A].id);
        // Nor of no wallet at all.
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NotRegistrar.selector, registrar, 0));
        vm.prank(registrar);
        vault.revoke("nobody");
    }

    /// No second time: a later one would let in what the first kept out, were it to move.
    function test_revoke_RevertWhen_StoppedBefore() external {
        uint256 at = vm.getBlockTimestamp();
        vm.startPrank(registrar);
        vault.revoke(devices[A].id);
        vault.killClass(CLASS);
        vm.warp(at + 1);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.AlreadyStopped.selector, at));
        vault.revoke(devices[A].id);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.AlreadyStopped.selector, at));
        vault.killClass(CLASS);
        vm.stopPrank();
    }

    /// A class is its registrar's own: the same number of another is another.
    function test_killClass_OfAnotherRegistrarStopsNobodyHere() external {
        vm.prank(stranger);
        vault.killClass(CLASS);
        vault.redeem(exit(begin(depositOf(A, AMOUNT))).path);
        assertEq(vault.classKilledAt(stranger, CLASS), vm.getBlockTimestamp());
        assertEq(vault.classKilledAt(registrar, CLASS), 0);
    }

    // ── helpers ──

    function _new() private returns (Call memory c) {
        uint256 w = addDevice("new", false);
        c.r = registrationOf(w);
        c.key = devices[w].key;
        c.registrar = registrar;
        c.vouched = vouch(c.r);
        c.possession = sign(w, vault.registrationDigest(c.r));
    }

    function _renewal(uint256 w) private view returns (Call memory c) {
        c.r = registrationOf(w);
        c.r.validUntil += 30 days;
        c.key = devices[w].key;
        c.registrar = registrar;
        c.vouched = vouch(c.r); // of the wallet's own signature there is no need
    }

    function _send(Call memory c, uint256 value) private {
        vm.prank(c.r.owner);
        vault.register{value: value}(c.r, c.key, c.registrar, c.vouched, c.possession);
    }

    function _refused(Call memory c, bytes memory refusal) private {
        vm.expectRevert(refusal);
        _send(c, 0);
    }
}
