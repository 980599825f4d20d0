// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "./OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

contract RedeemTest is OfflineFixture {
    function test_redeem_ACoinsOwnWalletLeaves() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        Trip memory t = exit(begin(coin));
        vm.expectEmit(address(vault));
        emit IOfflineVault.Redeemed(coin.id, devices[A].id, t.digest, 1, 0, AMOUNT);
        vm.prank(stranger); // anyone may send it
        vault.redeem(t.path);
        assertEq(creditOf(A), AMOUNT);
        assertEq(leftOf(coin), 0);
        assertTrue(vault.isRedeemed(devices[A].id, 1));
        assertFalse(vault.isRedeemed(devices[A].id, 2));
    }

    /// The payee's part is the upper one; what its owner collects is the payee's money.
    function test_redeem_APayeeLeaves() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        Trip memory t = exit(pay(begin(coin), B, AMOUNT / 4));
        vm.expectEmit(address(vault));
        emit IOfflineVault.Redeemed(coin.id, devices[B].id, t.digest, 1, AMOUNT - AMOUNT / 4, AMOUNT / 4);
        vault.redeem(t.path);
        assertEq(creditOf(B), AMOUNT / 4);
        assertEq(creditOf(A), 0);
        assertEq(leftOf(coin), AMOUNT - AMOUNT / 4);
        vm.prank(devices[B].owner);
        vault.withdrawCredit(asset, stranger, AMOUNT / 4);
    }

    /// `conservation_tree`: whatever the tree of payments and the order of exits, its leaves sum to the deposit.
    /// forge-config: default.fuzz.runs = 48
    function testFuzz_redeem_ConservationTree(uint256 seed) external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        Trip[] memory leaves = new Trip[](9);
        leaves[0] = begin(coin);
        uint256 count = 1;
        for (uint256 i; i < 8; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            uint256 leaf = seed % count;
            if (leaves[leaf].value == 0) continue;
            uint128 amount = uint128((seed >> 8) % leaves[leaf].value) + 1;
            if ((seed >> 200) % 4 == 0) amount = leaves[leaf].value; // nothing is left to change
            (leaves[count], leaves[leaf]) = bothParts(leaves[leaf], (seed >> 160) % 7, amount);
            ++count;
        }
        this.leaveInSomeOrder(leaves, count, seed);
        assertEq(leftOf(coin), 0, "leaves sum to the deposit");
        uint256 sum;
        for (uint256 w; w < 7; ++w) {
            sum += creditOf(w);
        }
        assertEq(sum, AMOUNT, "owners have the deposit");
    }

    /// @dev Exits in an order of the seed. Logs are settled first, so that the transfers in them stand.
    function leaveInSomeOrder(Trip[] memory leaves, uint256 count, uint256 seed) external {
        for (uint256 w = T; w <= U; ++w) {
            if (devices[w].entries.length != 0) settleLog(w);
        }
        for (uint256 n = count; n > 0; --n) {
            seed = uint256(keccak256(abi.encode(seed)));
            uint256 i = seed % n;
            Trip memory t = leaves[i];
            leaves[i] = leaves[n - 1];
            if (t.value == 0) continue;
            uint256 before = creditOf(t.payer);
            t = exit(t);
            vault.redeem(t.path);
            if (devices[t.payer].log != 0) settleLog(t.payer);
            assertEq(creditOf(t.payer), before + t.value);
        }
    }

    // ── each reason ──

    function test_redeem_RevertWhen_NoSuchCoin() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        IOfflineVault.Path memory path = exit(begin(coin)).path;
        path.nonce += 1;
        _refusedAs(path, path.nonce, path.amount, path.asset);
        path.nonce -= 1;
        path.amount += 1;
        _refusedAs(path, path.nonce, path.amount, path.asset);
        path.amount -= 1;
        path.asset = path.asset == NATIVE ? address(token) : NATIVE; // a coin in one asset pays in no other
        _refusedAs(path, path.nonce, path.amount, path.asset);
    }

    function _refusedAs(IOfflineVault.Path memory path, uint256 nonce, uint128 amount, address asset_) private {
        bytes32 id = vault.coinIdOf(devices[A].id, asset_, amount, nonce);
        refusedFor(path, IOfflineVault.UnknownCoin.selector, id, 0);
    }

    function test_redeem_RevertWhen_TooLate() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        IOfflineVault.Path memory path = exit(begin(coin)).path;
        vm.warp(coin.settleBy + GRACE + 1);
        refused(path, IOfflineVault.TooLate.selector, coin.settleBy + GRACE + 1, coin.settleBy + GRACE);
        vm.warp(coin.settleBy + GRACE);
        vault.redeem(path);
    }

    /// `double_deposit_rejected`: once by anyone, whatever the encoding.
    function test_redeem_RevertWhen_RedeemedAlready() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        Trip memory t = exit(pay(begin(coin), B, AMOUNT / 4));
        vault.redeem(t.path);
        refused(t.path, IOfflineVault.SequencePaid.selector, 1, 2);
        // (r, n - s) is no second signature.
        bytes32 s = wordAt(t.path.hops, t.evidenceAt + 32);
        t.path.hops = _put(t.path.hops, t.evidenceAt + 32, bytes32(N - uint256(s)));
        refusedFor(t.path, IOfflineVault.BadSignature.selector, t.digest, devices[B].id);
        assertEq(creditOf(B), AMOUNT / 4);
    }

    /// `hop_limit`: sixteen and the exit, no more.
    function test_redeem_RevertWhen_TooManyHops() external eachAsset {
        Trip memory t = begin(depositOf(A, AMOUNT));
        for (uint256 i; i < 16; ++i) {
            t = pay(t, (i + 1) % 5, AMOUNT);
        }
        Trip memory over = exit(pay(t, 2, AMOUNT));
        refused(over.path, IOfflineVault.TooManyHops.selector, 17, 16);
        --devices[1].sequence;
        t = exit(t);
        vault.redeem(t.path);
        assertEq(creditOf(1), AMOUNT);
    }

    function test_redeem_RevertWhen_PathIsTruncated() external eachAsset {
        Trip memory t = exit(pay(begin(depositOf(A, AMOUNT)), B, AMOUNT / 4));
        bytes memory whole = t.path.hops;
        for (uint256 length; length < whole.length; ++length) {
            t.path.hops = _cutTo(whole, length);
            // At the border between the two hops it is a path that does not end in an exit.
            bool border = length == 64 + 161 + 64;
            vm.expectPartialRevert(border ? IOfflineVault.NotAnExit.selector : IOfflineVault.PathTruncated.selector);
            vault.redeem(t.path);
        }
        t.path.hops = bytes.concat(whole, hex"00");
        refused(t.path, IOfflineVault.ExitIsNotLast.selector, 1, whole.length);
        t.path.hops = whole;
        vault.redeem(t.path);
    }

    /// `forged_hop_rejected`: every bit of a path is signed, hashed, or in the way.
    function test_redeem_RevertWhen_AnyBitIsChanged() external {
        Trip memory t = exit(pay(change(begin(depositOf(A, AMOUNT)), C, 5 gwei), B, AMOUNT / 4));
        bytes memory whole = t.path.hops;
        for (uint256 i; i < whole.length; ++i) {
            bytes memory forged = bytes.concat(whole);
            forged[i] = bytes1(uint8(forged[i]) ^ uint8(1 << (i * 5) % 8));
            t.path.hops = forged;
            vm.expectRevert();
            vault.redeem(t.path);
        }
        t.path.hops = whole;
        vault.redeem(t.path);
    }

    function test_redeem_RevertWhen_TagIsUnknown() external {
        Trip memory t = exit(begin(depositOf(A, AMOUNT)));
        for (uint256 tag; tag < 256; ++tag) {
            t.path.hops[64] = bytes1(uint8(tag));
            if (tag == 9) continue;
            vm.expectRevert();
            vault.redeem(t.path);
        }
        t.path.hops[64] = 0x19;
        refused(t.path, IOfflineVault.UnknownTag.selector, 0x19, 0x0f);
        t.path.hops[64] = 0x0d; // an exit that keeps its change
        refused(t.path, IOfflineVault.UnknownTag.selector, 0x0d, 0x0f);
        t.path.hops[64] = 0x0b; // evidence of no kind
        refused(t.path, IOfflineVault.WrongEvidence.selector, 3, 1);
        t.path.hops[64] = 0x0a; // a log of a wallet that has none
        refused(t.path, IOfflineVault.WrongEvidence.selector, 2, 1);
        t.path.hops[64] = 0x08; // recorded, where nothing is
        refusedFor(t.path, IOfflineVault.NotRecorded.selector, bytes32(0), t.digest);
        t.path.hops[64] = 0x09;
        vault.redeem(t.path);
    }

    /// A path that goes on after an exit is a double spend without any component broken (D1).
    function test_redeem_RevertWhen_ThePathGoesOnAfterAnExit() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        Trip memory t = begin(coin);
        Trip memory left = exit(t);
        // The exit spelt as a transfer: payee is the payer, all of it, no invoice.
        left.path.hops = bytes.concat(
            t.path.hops,
            head(left.last, 1),
            abi.encodePacked(AMOUNT, bytes32(0), devices[A].key.x, devices[A].key.y),
            evidenceOf(A, 0, left.digest)
        );
        left.input = keccak256(abi.encode(left.digest, 0));
        uint256 end = 64 + 161;
        refused(left.path, IOfflineVault.ExitIsNotLast.selector, 0, end);
        Trip memory on = exit(pay(left, B, AMOUNT));
        refused(on.path, IOfflineVault.ExitIsNotLast.selector, 0, end);
        on = exit(change(left, B, AMOUNT / 2));
        refused(on.path, IOfflineVault.ExitIsNotLast.selector, 0, end);
    }

    function test_redeem_RevertWhen_AmountIsNotWithinTheInput() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        Trip memory t = begin(coin);
        Trip memory zero = exit(pay(t, B, 0));
        refused(zero.path, IOfflineVault.AmountAboveInput.selector, 0, AMOUNT);
        t.value = AMOUNT + 1;
        Trip memory more = exit(pay(t, B, AMOUNT + 1));
        refused(more.path, IOfflineVault.AmountAboveInput.selector, AMOUNT + 1, AMOUNT);
        t.value = AMOUNT;
        // A change of nothing holds nothing.
        Trip memory nothing = exit(change(t, B, AMOUNT));
        refused(nothing.path, IOfflineVault.AmountAboveInput.selector, 0, 0);
        nothing = exit(pay(change(t, B, AMOUNT), C, 1));
        refused(nothing.path, IOfflineVault.AmountAboveInput.selector, 1, 0);
    }

    function test_redeem_RevertWhen_AWalletIsNotRegistered() external eachAsset {
        uint256 nobody = addDevice("nobody", false);
        Trip memory t = exit(pay(begin(depositOf(A, AMOUNT)), nobody, AMOUNT));
        refusedFor(t.path, IOfflineVault.NotRegistered.selector, devices[nobody].id, 0);
        register(nobody); // its registration may come later
        vault.redeem(t.path);
        assertEq(creditOf(nobody), AMOUNT);
    }

    function test_redeem_RevertWhen_IssuedAfterTheRegistration() external eachAsset {
        uint64 end = uint64(vm.getBlockTimestamp() + 365 days);
        vm.warp(end);
        Coin memory coin = depositOf(A, AMOUNT);
        Trip memory good = exit(begin(coin));
        vm.warp(end + 1);
        Trip memory late = exit(pay(begin(coin), B, AMOUNT));
        refused(late.path, IOfflineVault.IssuedTooLate.selector, end + 1, end);
        vault.redeem(good.path);
    }

    /// An exit pays its wallet's owner, whose sequence may repeat only for nothing.
    function test_redeem_RevertWhen_ASequenceIsUsedTwice() external eachAsset {
        Trip memory one = exit(begin(depositOf(A, AMOUNT)));
        --devices[A].sequence;
        Trip memory two = exit(begin(depositOf(A, AMOUNT)));
        vault.redeem(one.path);
        refused(two.path, IOfflineVault.SequencePaid.selector, 1, 2);
    }

    /// Every 96 sequences share a slot: none is taken for another.
    /// forge-config: default.fuzz.runs = 64
    function testFuzz_redeem_SequencesAreApart(uint64 a, uint64 b) external {
        a = uint64(bound(a, 1, type(uint64).max));
        b = uint64(bound(b, 1, type(uint64).max));
        vm.assume(a != b);
        devices[A].sequence = a - 1;
        vault.redeem(exit(begin(depositOf(A, AMOUNT))).path);
        assertTrue(vault.isRedeemed(devices[A].id, a));
        assertFalse(vault.isRedeemed(devices[A].id, b));
        devices[A].sequence = b - 1;
        vault.redeem(exit(begin(depositOf(A, AMOUNT))).path);
        assertTrue(vault.isRedeemed(devices[A].id, b));
        assertEq(creditOf(A), 2 * AMOUNT);
    }

    /// `near` is a help and never a trap: whatever it says, an exit whose part is free is paid.
    /// forge-config: default.fuzz.runs = 64
    function testFuzz_redeem_AnyNearWorks(uint128 near, uint8 which) external {
        Coin memory coin = depositOf(A, 1000);
        Trip[] memory sides = new Trip[](5);
        Trip memory t = begin(coin);
        for (uint256 i; i < 5; ++i) {
            (sides[i], t) = bothParts(t, B, 100);
        }
        vault.redeem(exit(sides[1]).path); // [800, 900)
        vault.redeem(exit(sides[3]).path); // [600, 700)
        (uint128 start, uint128 end) = vault.freePartOf(coin.id, 750);
        assertEq(start, 700);
        assertEq(end, 800);
        Trip memory left = exit(sides[[0, 2, 4][which % 3]]);
        left.path.near = uint128(bound(near, 0, 1100));
        vault.redeem(left.path);
        assertEq(creditOf(B), 300);
        assertEq(leftOf(coin), 700);
    }

    // ── helpers ──

    function _put(bytes memory data, uint256 at, bytes32 word) private pure returns (bytes memory) {
        assembly ("memory-safe") {
            mstore(add(add(data, 0x20), at), word)
        }
        return data;
    }

    function _cutTo(bytes memory data, uint256 length) private pure returns (bytes memory cut) {
        cut = bytes.concat(data);
        assembly ("memory-safe") {
            mstore(cut, length)
        }
    }
}
