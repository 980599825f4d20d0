// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "./OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

/// @notice Broken components: {proveEquivocation} and {compensate}.
contract CompensateTest is OfflineFixture {
    // ── proveEquivocation ──

    function test_proveEquivocation_OneInput() external eachAsset {
        _doubleSpend();
        vm.expectEmit(address(vault));
        emit IOfflineVault.Equivocated(devices[A].id, transferDigest(_one), transferDigest(_other));
        _prove();
        assertTrue(vault.walletOf(devices[A].id).equivocated);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.AlreadyEquivocated.selector, devices[A].id));
        this.proveAgain();
    }

    /// `attack_rollback`: a restored snapshot signs another transfer with a sequence that it used.
    function test_proveEquivocation_OneSequence() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        Coin memory second = depositOf(A, AMOUNT);
        Device memory image = imageOf(A);
        IOfflineVault.Transfer memory one = pay(begin(coin), B, 1).last;
        restore(A, image);
        IOfflineVault.Transfer memory other = pay(begin(second), B, 1).last;
        equivocate(A, one, other);
        assertTrue(vault.walletOf(devices[A].id).equivocated);
    }

    /// A revocation of before stays where it was.
    function test_proveEquivocation_AfterARevocation() external {
        _doubleSpend();
        uint256 at = vm.getBlockTimestamp();
        vm.prank(registrar);
        vault.revoke(devices[A].id);
        vm.warp(at + 1 days);
        _prove();
        assertEq(vault.walletOf(devices[A].id).revokedAt, at);
    }

    function test_proveEquivocation_RevertWhen_ItIsNone() external {
        Coin memory coin = depositOf(A, AMOUNT);
        Trip memory t = change(begin(coin), B, 1);
        IOfflineVault.Transfer memory one = t.last;
        IOfflineVault.Transfer memory next = change(t, B, 1).last;
        bytes32 digest = transferDigest(one);
        _refused(one, one, abi.encodeWithSelector(IOfflineVault.NotEquivocation.selector, digest, digest));
        _refused(
            one, next, abi.encodeWithSelector(IOfflineVault.NotEquivocation.selector, digest, transferDigest(next))
        );
        // One that the wallet did not sign.
        IOfflineVault.Transfer memory made = abi.decode(abi.encode(one), (IOfflineVault.Transfer));
        made.amount += 1;
        IOfflineVault.Signature memory good = sign(A, digest);
        IOfflineVault.Signature memory bad = sign(B, transferDigest(made));
        vm.expectRevert(
            abi.encodeWithSelector(IOfflineVault.BadSignature.selector, transferDigest(made), devices[A].id)
        );
        vault.proveEquivocation(devices[A].key, one, good, made, bad);
        vm.expectRevert(
            abi.encodeWithSelector(IOfflineVault.BadSignature.selector, transferDigest(made), devices[A].id)
        );
        vault.proveEquivocation(devices[A].key, made, bad, one, good);
    }

    /// A LOG wallet signs no transfers: what looks so is worth nothing, also against it.
    function test_proveEquivocation_RevertWhen_TheWalletHasALog() external {
        Coin memory coin = depositOf(T, AMOUNT);
        IOfflineVault.Transfer memory one = pay(begin(coin), A, 1).last;
        IOfflineVault.Transfer memory other = pay(begin(coin), B, 1).last;
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.WrongKind.selector, devices[T].id, devices[T].log));
        this.equivocateAs(T, one, other);
        uint256 nobody = addDevice("nobody", false);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NotRegistered.selector, devices[nobody].id, 0));
        this.equivocateAs(nobody, one, other);
    }

    // ── compensate ──

    /// `attack_clone_two_payees_first_paid_second_from_collateral`.
    function test_attack_clone_two_payees_first_paid_second_from_collateral() external eachAsset {
        pledge(A, 5 * AMOUNT);
        (Coin memory coin, Trip memory one, Trip memory other) = _doubleSpend();
        vault.redeem(one.path);
        assertEq(creditOf(B), AMOUNT);
        refused(other.path, IOfflineVault.NotFree.selector, AMOUNT, 0);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NotEquivocated.selector, devices[A].id, 0));
        _compensate(other);
        _prove();
        vm.expectEmit(address(vault));
        emit IOfflineVault.Compensated(coin.id, devices[C].id, devices[A].id, other.digest, 0, AMOUNT, 0, AMOUNT);
        vm.prank(stranger);
        _compensate(other);
        assertEq(creditOf(C), AMOUNT, "the second payee is whole");
        assertEq(vault.compensatedOf(other.digest), AMOUNT);
        assertEq(vault.collateralOf(devices[A].id, asset), 4 * AMOUNT);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.AlreadyCompensated.selector, other.digest));
        _compensate(other);
        refused(other.path, IOfflineVault.NotFree.selector, AMOUNT, 0);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.ExitPaid.selector, 0, _paid(one.digest)));
        _compensate(one);
    }

    /// What is still free of its part of the coin is the loser's, before the collateral is touched.
    function test_compensate_TakesWhatTheCoinStillHas() external eachAsset {
        pledge(A, AMOUNT);
        Coin memory coin = depositOf(A, AMOUNT);
        Device memory image = imageOf(A);
        Trip memory one = exit(pay(change(begin(coin), D, 100), B, 300)); // [600, 900) of a thousand
        restore(A, image);
        Trip memory other = exit(pay(begin(coin), C, AMOUNT - 50)); // [50, 1000)
        vault.redeem(one.path);
        _proveBy(coin, image);
        _compensate(other);
        assertEq(creditOf(C), AMOUNT - 50);
        assertEq(vault.collateralOf(devices[A].id, asset), AMOUNT - 300);
        assertEq(leftOf(coin), 50);
        assertEq(creditOf(B), 300);
    }

    /// Without collateral the loser has what the coin has; without either, an error, and may come again.
    function test_compensate_WithoutCollateral() external eachAsset {
        (, Trip memory one, Trip memory other) = _doubleSpend();
        vault.redeem(one.path);
        _prove();
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NothingLeft.selector, devices[A].id));
        _compensate(other);
        pledge(A, 10);
        _compensate(other);
        assertEq(creditOf(C), 10);
    }

    /// Collateral in one asset pays for coins in it.
    function test_compensate_OfAnotherAssetPaysNothing() external {
        (, Trip memory one, Trip memory other) = _doubleSpend();
        asset = address(token);
        pledge(A, AMOUNT);
        vault.redeem(one.path);
        _prove();
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NothingLeft.selector, devices[A].id));
        _compensate(other);
    }

    /// The list shows that another exit took its sequence; no other list does.
    function test_compensate_WhenTheSequenceWasPaid() external eachAsset {
        pledge(A, AMOUNT);
        (, Trip memory one, Trip memory other) = _doubleSpend();
        // C's own sequence 1 was paid for another coin: C's component is broken as well, or was restored.
        Device memory image = imageOf(C);
        devices[C].sequence = 0;
        Trip memory elsewhere = exit(begin(depositOf(C, AMOUNT)));
        vault.redeem(elsewhere.path);
        restore(C, image);
        vault.redeem(one.path);
        _prove();
        refused(other.path, IOfflineVault.SequencePaid.selector, 1, 2);
        uint160 paid = _paid(elsewhere.digest);
        bytes32[] memory list = new bytes32[](1);
        list[0] = keccak256("made up");
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.ExitPaid.selector, _paid(list[0]), paid));
        vault.compensate(other.path, 0, list);
        list[0] = elsewhere.digest;
        vault.compensate(other.path, 0, list);
        assertEq(creditOf(C), 2 * AMOUNT);
    }

    /// An exit that was paid is not paid again, whatever the list.
    function test_attack_compensate_a_paid_exit() external {
        pledge(A, AMOUNT);
        (, Trip memory one,) = _doubleSpend();
        vault.redeem(one.path);
        _prove();
        uint160 paid = _paid(one.digest);
        bytes32[] memory list = new bytes32[](1);
        list[0] = one.digest;
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.ExitPaid.selector, paid, paid));
        vault.compensate(one.path, 0, list);
    }

    /// What {redeem} can pay is for it, in time and afterwards: who was merely late is not compensated.
    function test_compensate_RevertWhen_NobodyStandsInTheWay() external eachAsset {
        pledge(A, AMOUNT);
        (Coin memory coin,, Trip memory other) = _doubleSpend();
        _prove();
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.ExitNotDoubleSpent.selector, AMOUNT, AMOUNT));
        _compensate(other);
        // Also where the proof comes late, and when the depositor has the rest.
        vm.warp(vm.getBlockTimestamp() + GRACE);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.ExitNotDoubleSpent.selector, AMOUNT, AMOUNT));
        _compensate(other);
        assertEq(leftOf(coin), AMOUNT);
    }

    /// The conflicting exit may come in the last second: the loser has GRACE more, and the depositor's reclaim takes
    /// nothing from it.
    function test_compensate_AfterTheCoinsTime() external eachAsset {
        pledge(A, AMOUNT);
        Coin memory coin = depositOf(A, AMOUNT);
        vm.warp(coin.settleBy);
        Device memory image = imageOf(A);
        Trip memory one = exit(pay(begin(coin), B, 700));
        restore(A, image);
        Trip memory other = exit(pay(begin(coin), C, AMOUNT));
        vm.warp(coin.settleBy + GRACE);
        vault.redeem(one.path);
        vm.warp(coin.settleBy + GRACE + 1);
        vm.prank(depositor);
        vault.reclaim(coin.wallet, coin.asset, coin.amount, coin.nonce);
        _proveBy(coin, image);
        vm.warp(coin.settleBy + 2 * GRACE);
        _compensate(other);
        assertEq(creditOf(C), AMOUNT, "of the collateral all of it, of the coin nothing more");
        vm.warp(coin.settleBy + 2 * GRACE + 1);
        vm.expectPartialRevert(IOfflineVault.TooLate.selector);
        _compensate(other);
    }

    function test_compensate_RevertWhen_TheOffenderIsThePayee() external {
        pledge(A, AMOUNT);
        Coin memory coin = depositOf(A, AMOUNT);
        Device memory image = imageOf(A);
        Trip memory one = exit(pay(begin(coin), B, AMOUNT));
        restore(A, image);
        Trip memory own = exit(begin(coin));
        vault.redeem(one.path);
        _proveBy(coin, image);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.OffenderIsPayee.selector, devices[A].id));
        _compensate(own);
    }

    function test_compensate_RevertWhen_TheHopIsAnotherOrNone() external {
        (, Trip memory one, Trip memory other) = _doubleSpend();
        vault.redeem(one.path);
        _prove();
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NotEquivocated.selector, devices[C].id, 1));
        vault.compensate(other.path, 1, new bytes32[](0));
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NotEquivocated.selector, 0, 2));
        vault.compensate(other.path, 2, new bytes32[](0));
    }

    function test_compensate_RevertWhen_ThePathDoesNotHold() external {
        (, Trip memory one, Trip memory other) = _doubleSpend();
        vault.redeem(one.path);
        _prove();
        bytes memory whole = other.path.hops;
        for (uint256 i; i < whole.length; i += 3) {
            bytes memory forged = bytes.concat(whole);
            forged[i] ^= 0x04;
            other.path.hops = forged;
            vm.expectRevert();
            _compensate(other);
        }
        other.path.hops = "";
        vm.expectPartialRevert(IOfflineVault.PathTruncated.selector);
        _compensate(other);
    }

    /// A cloned TPM: the branch that lost has a certificate too, from a base that the contract left behind.
    function test_attack_cloned_tpm_loser_is_paid_from_collateral() external eachAsset {
        pledge(T, AMOUNT);
        Coin memory coin = depositOf(T, AMOUNT);
        Device memory image = imageOf(T);
        Trip memory one = exit(pay(begin(coin), B, AMOUNT));
        IOfflineVault.Stretch memory a = stretchOf(T, image.base, devices[T].entries);
        restore(T, image);
        Trip memory other = exit(pay(begin(coin), C, AMOUNT));
        IOfflineVault.Stretch memory b = stretchOf(T, image.base, devices[T].entries);
        vault.settleLog(devices[T].key, a);
        vault.redeem(one.path);
        vm.expectPartialRevert(IOfflineVault.InputSpent.selector);
        vault.redeem(other.path);
        vault.proveFork(devices[T].key, image.base, a, b);
        _compensate(other);
        assertEq(creditOf(B), AMOUNT);
        assertEq(creditOf(C), AMOUNT);
        assertEq(vault.collateralOf(devices[T].id, asset), 0);
    }

    // ── helpers ──

    IOfflineVault.Transfer private _one;
    IOfflineVault.Transfer private _other;

    /// @dev A pays all of a coin to B, and as a clone to C; both leave.
    function _doubleSpend() private returns (Coin memory coin, Trip memory one, Trip memory other) {
        coin = depositOf(A, AMOUNT);
        Device memory image = imageOf(A);
        one = pay(begin(coin), B, AMOUNT);
        _one = one.last;
        one = exit(one);
        restore(A, image);
        other = pay(begin(coin), C, AMOUNT);
        _other = other.last;
        other = exit(other);
    }

    function _prove() private {
        equivocate(A, _one, _other);
    }

    function proveAgain() external {
        equivocate(A, _one, _other);
    }

    function equivocateAs(uint256 w, IOfflineVault.Transfer memory one, IOfflineVault.Transfer memory other) external {
        equivocate(w, one, other);
    }

    /// @dev Two further transfers of the coin's, by the same clone.
    function _proveBy(Coin memory coin, Device memory image) private {
        restore(A, image);
        IOfflineVault.Transfer memory one = pay(begin(coin), D, 1).last;
        restore(A, image);
        IOfflineVault.Transfer memory other = pay(begin(coin), D, 2).last;
        equivocate(A, one, other);
    }

    function _compensate(Trip memory t) private {
        vault.compensate(t.path, 0, new bytes32[](0));
    }

    function _refused(IOfflineVault.Transfer memory one, IOfflineVault.Transfer memory other, bytes memory refusal)
        private
    {
        vm.expectRevert(refusal);
        this.equivocateAs(A, one, other);
    }

    function _paid(bytes32 digest) private pure returns (uint160) {
        return uint160(uint256(keccak256(abi.encode(uint160(0), digest))));
    }
}
