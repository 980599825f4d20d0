// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "./OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

/// @notice The LOG kind: what its evidence must show to be paid, {settleLog}, and {proveFork}.
contract LogTest is OfflineFixture {
    uint256 private constant HEAD = 49;

    // ── redeeming by a log ──

    function test_redeem_ByALog() external eachAsset {
        Trip memory t = exit(begin(depositOf(T, AMOUNT)));
        vault.redeem(t.path);
        assertEq(creditOf(T), AMOUNT);
    }

    function test_redeem_ThroughBothKinds() external eachAsset {
        Trip memory t = begin(depositOf(A, AMOUNT));
        t = exit(pay(pay(pay(t, T, AMOUNT), U, 500), B, 400));
        vault.redeem(t.path);
        assertEq(creditOf(B), 400);
    }

    /// Entries before do not matter, nor does a checkpoint in between.
    function test_redeem_WithHistory() external eachAsset {
        for (uint256 i; i < 5; ++i) {
            pay(begin(depositOf(T, AMOUNT)), A, 1);
        }
        Trip memory t = exit(begin(depositOf(T, AMOUNT)));
        vault.redeem(t.path);
        settleLog(T);
        t = exit(begin(depositOf(T, AMOUNT)));
        vault.redeem(t.path);
        assertEq(creditOf(T), 2 * AMOUNT);
    }

    /// A log settled by another in front of it cannot stop a path that the log shows.
    function test_redeem_AfterTheLogWasSettled() external eachAsset {
        Trip memory t = exit(begin(depositOf(T, AMOUNT)));
        settleLog(T);
        vault.redeem(t.path);
        assertEq(creditOf(T), AMOUNT);
    }

    /// A transfer signed but not logged is worth nothing.
    function test_attack_signed_but_not_logged() external eachAsset {
        Trip memory t = exit(begin(depositOf(T, AMOUNT)));
        IOfflineVault.Signature memory s = sign(T, t.digest);
        t.path.hops = bytes.concat(_head(t), abi.encodePacked(s.r, s.s));
        t.path.hops[64] = 0x09;
        refused(t.path, IOfflineVault.WrongEvidence.selector, 1, 2);
    }

    /// An input spent twice in one log: the first entry counts, on chain as for a payee.
    function test_attack_input_spent_twice_in_one_log() external eachAsset {
        Coin memory coin = depositOf(T, AMOUNT);
        Trip memory first = pay(begin(coin), A, AMOUNT);
        Trip memory second = pay(begin(coin), B, AMOUNT);
        second = exit(second);
        refusedFor(second.path, IOfflineVault.InputSpent.selector, first.digest, _digestOfHop(second));
        settleLog(T);
        refusedFor(second.path, IOfflineVault.InputSpent.selector, first.digest, _digestOfHop(second));
        first = exit(first);
        vault.redeem(first.path);
        assertEq(creditOf(A), AMOUNT);
    }

    function test_redeem_RevertWhen_TheBaseIsAnother() external {
        Trip memory t = exit(begin(depositOf(T, AMOUNT)));
        bytes32 other = keccak256("other");
        t.path.hops = bytes.concat(_head(t), logEvidence(T, other, devices[T].entries));
        refusedFor(t.path, IOfflineVault.WrongBase.selector, other, devices[T].base);
    }

    function test_redeem_RevertWhen_TheLastEntryIsAnother() external {
        Coin memory coin = depositOf(T, AMOUNT);
        Trip memory t = exit(begin(coin));
        bytes memory entries = devices[T].entries;
        // Goes on after the transfer.
        bytes32 later = keccak256("later");
        t.path.hops = bytes.concat(_head(t), logEvidence(T, devices[T].base, bytes.concat(entries, coin.id, later)));
        refusedFor(t.path, IOfflineVault.WrongLastEntry.selector, later, t.digest);
        // The transfer's digest under another input.
        t.path.hops = bytes.concat(_head(t), logEvidence(T, devices[T].base, bytes.concat(later, t.digest)));
        refusedFor(t.path, IOfflineVault.InputSpent.selector, 0, t.digest);
        // No entries: the certificate alone.
        IOfflineVault.Stretch memory s = stretchOf(T, devices[T].base, entries);
        t.path.hops = bytes.concat(
            _head(t),
            abi.encodePacked(devices[T].base, uint16(0)),
            s.certificate,
            abi.encodePacked(s.signature.r, s.signature.s)
        );
        refusedFor(t.path, IOfflineVault.WrongLastEntry.selector, 0, t.digest);
    }

    /// A count that promises more than there is.
    function test_redeem_RevertWhen_TheEntriesAreTruncated() external {
        Trip memory t = exit(begin(depositOf(T, AMOUNT)));
        bytes memory whole = t.path.hops;
        t.path.hops[t.evidenceAt + 32] = 0xff;
        vm.expectPartialRevert(IOfflineVault.PathTruncated.selector);
        vault.redeem(t.path);
        t.path.hops = whole;
        for (uint256 length = t.evidenceAt; length < whole.length; ++length) {
            bytes memory cut = bytes.concat(whole);
            assembly ("memory-safe") {
                mstore(cut, length)
            }
            t.path.hops = cut;
            vm.expectPartialRevert(IOfflineVault.PathTruncated.selector);
            vault.redeem(t.path);
        }
    }

    // ── certificates ──

    /// Magic, type, every length, the offset: each byte of a certificate that must be what it is.
    function test_redeem_RevertWhen_TheBytesAreNoCertificate() external {
        Trip memory t = exit(begin(depositOf(T, AMOUNT)));
        bytes memory good = certificateOf(T, t.digest, fold(devices[T].base, devices[T].entries));
        uint8[18] memory fixed_ = [0, 1, 2, 3, 4, 5, 6, 7, 42, 43, 101, 102, 137, 138, 139, 140, 0, 7];
        for (uint256 i; i < fixed_.length; ++i) {
            bytes memory bad = bytes.concat(good);
            bad[fixed_[i]] ^= bytes1(uint8(1 << (i % 8)));
            t.path.hops = _with(t, bad);
            refused(t.path, IOfflineVault.NotACertificate.selector, 173, 173);
        }
        t.path.hops = _with(t, good);
        vault.redeem(t.path);
    }

    /// Any other byte changes what is certified, or who signed.
    function test_redeem_RevertWhen_AnyByteOfTheEvidenceIsChanged() external {
        Trip memory t = exit(begin(depositOf(T, AMOUNT)));
        bytes memory whole = t.path.hops;
        for (uint256 i = t.evidenceAt; i < whole.length; ++i) {
            bytes memory forged = bytes.concat(whole);
            forged[i] ^= bytes1(uint8(1 << (i % 8)));
            t.path.hops = forged;
            vm.expectRevert();
            vault.redeem(t.path);
        }
        t.path.hops = whole;
        vault.redeem(t.path);
    }

    function test_redeem_RevertWhen_TheCertificateIsOfAnotherLog() external {
        Trip memory t = exit(begin(depositOf(T, AMOUNT)));
        // Signed by the wallet's key, of another index of the same TPM.
        bytes memory other = certificateOf(U, t.digest, fold(devices[T].base, devices[T].entries));
        t.path.hops = _with(t, other);
        refusedFor(t.path, IOfflineVault.WrongLog.selector, devices[U].log, devices[T].log);
        // The same name with another hash algorithm.
        other = certificateOf(T, t.digest, fold(devices[T].base, devices[T].entries));
        other[104] = 0x0c;
        t.path.hops = _with(t, other);
        vm.expectPartialRevert(IOfflineVault.WrongLog.selector);
        vault.redeem(t.path);
    }

    function test_redeem_RevertWhen_TheCertificateIsForAnotherTransfer() external {
        Trip memory t = exit(begin(depositOf(T, AMOUNT)));
        bytes32 other = keccak256("other");
        t.path.hops = _with(t, certificateOf(T, other, fold(devices[T].base, devices[T].entries)));
        refusedFor(
            t.path,
            IOfflineVault.WrongExtraData.selector,
            sha256(abi.encodePacked(other)),
            sha256(abi.encodePacked(t.digest))
        );
    }

    function test_redeem_RevertWhen_TheHeadIsAnother() external {
        Trip memory t = exit(begin(depositOf(T, AMOUNT)));
        bytes32 other = keccak256("other");
        t.path.hops = _with(t, certificateOf(T, t.digest, other));
        refusedFor(t.path, IOfflineVault.WrongHead.selector, other, fold(devices[T].base, devices[T].entries));
    }

    function test_redeem_RevertWhen_AnotherKeySignedTheCertificate() external {
        Trip memory t = exit(begin(depositOf(T, AMOUNT)));
        IOfflineVault.Stretch memory s = stretchOf(T, devices[T].base, devices[T].entries);
        IOfflineVault.Signature memory by = signHash(devices[U].secret, sha256(s.certificate));
        t.path.hops = bytes.concat(
            _head(t),
            abi.encodePacked(devices[T].base, uint16(1)),
            s.entries,
            s.certificate,
            abi.encodePacked(by.r, by.s)
        );
        refusedFor(t.path, IOfflineVault.BadSignature.selector, t.digest, devices[T].id);
        // And the high twin of the right one.
        t.path.hops = bytes.concat(
            _head(t),
            abi.encodePacked(devices[T].base, uint16(1)),
            s.entries,
            s.certificate,
            abi.encodePacked(s.signature.r, N - uint256(s.signature.s))
        );
        refusedFor(t.path, IOfflineVault.BadSignature.selector, t.digest, devices[T].id);
    }

    // ── settleLog ──

    function test_settleLog_RecordsEveryEntry() external eachAsset {
        Coin[] memory coins = new Coin[](3);
        Trip[] memory trips = new Trip[](3);
        for (uint256 i; i < 3; ++i) {
            coins[i] = depositOf(T, AMOUNT);
            trips[i] = pay(begin(coins[i]), A, AMOUNT);
        }
        bytes memory entries = devices[T].entries;
        bytes32 top = fold(devices[T].base, entries);
        vm.expectEmit(address(vault));
        emit IOfflineVault.LogSettled(devices[T].id, top, entries);
        settleLog(T);
        assertEq(vault.walletOf(devices[T].id).head, top);
        for (uint256 i; i < 3; ++i) {
            assertEq(vault.spentBy(devices[T].id, coins[i].id), trips[i].digest);
            // Recorded: no evidence, and stale evidence too.
            Trip memory t = exit(trips[i]);
            vault.redeem(t.path);
        }
        assertEq(creditOf(A), 3 * AMOUNT);
    }

    /// A log may say what it likes of inputs that are not its wallet's: nobody else is bound by it.
    function test_attack_log_names_the_input_of_another_wallet() external eachAsset {
        Coin memory coin = depositOf(B, AMOUNT);
        devices[T].entries = bytes.concat(coin.id, keccak256("poison"));
        settleLog(T);
        assertEq(vault.spentBy(devices[B].id, coin.id), 0);
        Trip memory t = exit(begin(coin));
        vault.record(t.path);
        vault.redeem(t.path);
        assertEq(creditOf(B), AMOUNT);
    }

    function test_settleLog_RevertWhen_ItIsNone() external {
        pay(begin(depositOf(T, AMOUNT)), A, AMOUNT);
        Device memory d = devices[T];
        IOfflineVault.Stretch memory s = stretchOf(T, d.base, d.entries);
        s.entries = "";
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.PathTruncated.selector, 64, 0));
        vault.settleLog(d.key, s);
        s.entries = bytes.concat(d.entries, hex"00");
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.PathTruncated.selector, 64, 65));
        vault.settleLog(d.key, s);
        s.entries = d.entries;
        s.certificate = bytes.concat(s.certificate, hex"00");
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NotACertificate.selector, 174, 173));
        vault.settleLog(d.key, s);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.WrongKind.selector, devices[A].id, 0));
        vault.settleLog(devices[A].key, s);
        IOfflineVault.Key memory nobody = IOfflineVault.Key(bytes32(uint256(1)), bytes32(uint256(2)));
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NotRegistered.selector, vault.walletIdOf(nobody), 0));
        vault.settleLog(nobody, s);
        s = stretchOf(T, d.base, d.entries);
        vault.settleLog(d.key, s);
        vm.expectPartialRevert(IOfflineVault.WrongHead.selector); // twice: it starts from the new head
        vault.settleLog(d.key, s);
    }

    // ── proveFork ──

    /// `attack_clone`: a software TPM's state copied, both branches paid with. Each branch has a certified head.
    function test_proveFork_MarksTheClone() external eachAsset {
        (bytes32 base, IOfflineVault.Stretch memory one, IOfflineVault.Stretch memory other) = _fork();
        vm.expectEmit(address(vault));
        emit IOfflineVault.Equivocated(devices[T].id, fold(base, one.entries), fold(base, other.entries));
        vm.prank(stranger);
        vault.proveFork(devices[T].key, base, one, other);
        IOfflineVault.Wallet memory w = vault.walletOf(devices[T].id);
        assertTrue(w.equivocated);
        assertEq(w.revokedAt, 0, "that is its registrar's");
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.AlreadyEquivocated.selector, devices[T].id));
        vault.proveFork(devices[T].key, base, one, other);
    }

    /// The offender cannot dodge by settling one branch first.
    function test_proveFork_AfterOneBranchWasSettled() external eachAsset {
        (bytes32 base, IOfflineVault.Stretch memory one, IOfflineVault.Stretch memory other) = _fork();
        vault.settleLog(devices[T].key, one);
        vault.proveFork(devices[T].key, base, one, other);
        assertTrue(vault.walletOf(devices[T].id).equivocated);
    }

    /// An honest log gives no fork: of any two stretches that it certifies from one base, the first entries are the same.
    function test_attack_frame_an_honest_log() external {
        Device memory d = devices[T];
        IOfflineVault.Stretch[] memory stretches = new IOfflineVault.Stretch[](6);
        bytes32[] memory bases = new bytes32[](4);
        for (uint256 i; i < 3; ++i) {
            bases[i] = fold(d.base, devices[T].entries);
            pay(begin(depositOf(T, AMOUNT)), A, 1);
        }
        bytes memory all = devices[T].entries;
        uint256 n;
        for (uint256 from; from < 3; ++from) {
            for (uint256 to = from + 1; to <= 3; ++to) {
                stretches[n++] = stretchOf(T, bases[from], _slice(all, from * 64, to * 64));
            }
        }
        for (uint256 i; i < n; ++i) {
            for (uint256 j; j < n; ++j) {
                for (uint256 from; from < 3; ++from) {
                    vm.expectRevert();
                    vault.proveFork(d.key, bases[from], stretches[i], stretches[j]);
                }
            }
        }
        assertFalse(vault.walletOf(d.id).equivocated);
    }

    function test_proveFork_RevertWhen_TheFirstEntriesAgree() external {
        (bytes32 base, IOfflineVault.Stretch memory one,) = _fork();
        bytes32 entry = keccak256(one.entries);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NotFork.selector, entry, entry));
        vault.proveFork(devices[T].key, base, one, one);
    }

    function test_proveFork_RevertWhen_AStretchIsEmpty() external {
        (bytes32 base, IOfflineVault.Stretch memory one, IOfflineVault.Stretch memory other) = _fork();
        other.entries = "";
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.PathTruncated.selector, 64, 0));
        vault.proveFork(devices[T].key, base, one, other);
    }

    function test_proveFork_RevertWhen_TheWalletHasNoLog() external {
        (bytes32 base, IOfflineVault.Stretch memory one, IOfflineVault.Stretch memory other) = _fork();
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.WrongKind.selector, devices[A].id, 0));
        vault.proveFork(devices[A].key, base, one, other);
    }

    // ── helpers ──

    function _fork()
        private
        returns (bytes32 base, IOfflineVault.Stretch memory one, IOfflineVault.Stretch memory other)
    {
        Coin memory coin = depositOf(T, AMOUNT);
        base = devices[T].base;
        Device memory image = imageOf(T);
        pay(begin(coin), A, AMOUNT);
        one = stretchOf(T, base, devices[T].entries);
        restore(T, image);
        pay(begin(coin), B, AMOUNT);
        other = stretchOf(T, base, devices[T].entries);
    }

    /// @dev The path up to its exit's evidence.
    function _head(Trip memory t) private pure returns (bytes memory) {
        return _slice(t.path.hops, 0, t.evidenceAt);
    }

    /// @dev The same exit with another certificate, signed by its wallet.
    function _with(Trip memory t, bytes memory certificate) private view returns (bytes memory) {
        IOfflineVault.Signature memory s = signHash(devices[T].secret, sha256(certificate));
        return bytes.concat(
            _head(t),
            abi.encodePacked(devices[T].base, uint16(1)),
            devices[T].entries,
            certificate,
            abi.encodePacked(s.r, s.s)
        );
    }

    /// @dev The digest of a path's first hop: the entry for it is the last of its evidence.
    function _digestOfHop(Trip memory t) private pure returns (bytes32) {
        uint256 at = 64 + HEAD + 48 + 64 + 32;
        uint256 count = uint256(wordAt(t.path.hops, at)) >> 240;
        return wordAt(t.path.hops, at + 2 + count * 64 - 32);
    }

    function _slice(bytes memory data, uint256 from, uint256 to) private pure returns (bytes memory cut) {
        cut = new bytes(to - from);
        for (uint256 i; i < cut.length; ++i) {
            cut[i] = data[from + i];
        }
    }
}
