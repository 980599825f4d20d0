// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {FeeOnTransferToken, LyingToken, ReentrantToken} from "../mocks/HostileTokens.sol";
import {OfflineFixture} from "./OfflineFixture.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

/// @notice {deposit} and {reclaim}: what comes in of a coin, and what nobody took of it; with hostile tokens.
contract DepositTest is OfflineFixture {
    function test_deposit_MakesACoin() external eachAsset {
        bytes32 id = vault.coinIdOf(devices[A].id, asset, AMOUNT, vault.depositNonce());
        vm.expectEmit(address(vault));
        emit IOfflineVault.Deposited(
            id, devices[A].id, depositor, asset, AMOUNT, vault.depositNonce(), uint64(vm.getBlockTimestamp()) + LIFE
        );
        Coin memory coin = depositOf(A, AMOUNT);
        assertEq(coin.id, id);
        IOfflineVault.Coin memory seen = vault.coinOf(id);
        assertEq(seen.depositor, depositor);
        assertEq(seen.settleBy, coin.settleBy);
        assertEq(seen.left, AMOUNT);
        Coin memory twin = depositOf(A, AMOUNT);
        assertNotEq(twin.id, id, "every coin has its own nonce");
    }

    function test_deposit_RevertWhen_TheWalletIsNotGoing() external {
        vm.startPrank(depositor);
        uint64 settleBy = uint64(vm.getBlockTimestamp()) + LIFE;
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NotRegistered.selector, bytes32("nobody"), 0));
        vault.deposit{value: 1}("nobody", NATIVE, 1, settleBy);
        vm.stopPrank();
        vm.prank(registrar);
        vault.revoke(devices[A].id);
        bytes32 a = devices[A].id;
        bytes32 b = devices[B].id;
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.Stopped.selector, a, vm.getBlockTimestamp()));
        vm.prank(depositor);
        vault.deposit{value: 1}(a, NATIVE, 1, settleBy);
        vm.prank(registrar);
        vault.killClass(CLASS);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.Stopped.selector, b, vm.getBlockTimestamp()));
        vm.prank(depositor);
        vault.deposit{value: 1}(b, NATIVE, 1, settleBy);
    }

    function test_deposit_RevertWhen_TheWalletHasEquivocated() external {
        Coin memory coin = depositOf(A, AMOUNT);
        Device memory image = imageOf(A);
        IOfflineVault.Transfer memory one = pay(begin(coin), B, 1).last;
        restore(A, image);
        equivocate(A, one, pay(begin(coin), C, 1).last);
        bytes32 a = devices[A].id;
        uint64 settleBy = uint64(vm.getBlockTimestamp()) + 1;
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.AlreadyEquivocated.selector, a));
        vm.prank(depositor);
        vault.deposit{value: 1}(a, NATIVE, 1, settleBy);
    }

    /// Nobody could pay with such a coin; the depositor would wait for its money back.
    function test_deposit_RevertWhen_TheRegistrationEnded() external eachAsset {
        uint64 end = vault.walletOf(devices[A].id).validUntil;
        vm.warp(end);
        depositOf(A, AMOUNT);
        vm.warp(end + 1);
        bytes32 id = devices[A].id;
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.RegistrationEnded.selector, id, end));
        vm.prank(depositor);
        vault.deposit{value: asset == NATIVE ? 1 : 0}(id, asset, 1, end + LIFE);
    }

    function test_deposit_RevertWhen_SettleByIsOutOfRange() external {
        uint64 now_ = uint64(vm.getBlockTimestamp());
        uint64[3] memory times = [now_, now_ + 90 days + 1, type(uint64).max];
        bytes32 id = devices[A].id;
        for (uint256 i; i < 3; ++i) {
            vm.expectRevert(
                abi.encodeWithSelector(IOfflineVault.SettleByOutOfRange.selector, times[i], now_ + 1, now_ + 90 days)
            );
            vm.prank(depositor);
            vault.deposit{value: 1}(id, NATIVE, 1, times[i]);
        }
    }

    function test_deposit_RevertWhen_AmountIsOutOfRange() external {
        bytes32 id = devices[A].id;
        uint64 settleBy = uint64(vm.getBlockTimestamp()) + LIFE;
        uint256 most = type(uint104).max;
        vm.deal(depositor, 2 * most);
        uint128[2] memory amounts = [0, uint128(most + 1)];
        for (uint256 i; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IOfflineVault.AmountOutOfRange.selector, amounts[i], 1, most));
            vm.prank(depositor);
            vault.deposit{value: amounts[i]}(id, NATIVE, amounts[i], settleBy);
        }
        Coin memory coin = depositOf(A, uint128(most));
        Trip memory t = exit(pay(begin(coin), B, uint128(most) - 1));
        vault.redeem(t.path);
        assertEq(creditOf(B), most - 1);
        assertEq(leftOf(coin), 1);
    }

    /// What arrives is the coin; the receipt, and the id, are of that.
    function test_deposit_FeeOnTransferCountsWhatArrives() external {
        FeeOnTransferToken fee = new FeeOnTransferToken();
        _give(address(fee));
        bytes32 id = devices[A].id;
        vm.prank(depositor);
        bytes32 coin = vault.deposit(id, address(fee), 1000, uint64(vm.getBlockTimestamp()) + LIFE);
        assertEq(coin, vault.coinIdOf(id, address(fee), 990, 0));
        assertEq(vault.coinOf(coin).left, 990);
    }

    function test_deposit_RevertWhen_ATokenLies() external {
        LyingToken lying = new LyingToken();
        bytes32 id = devices[A].id;
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.AmountOutOfRange.selector, 0, 1, type(uint104).max));
        vm.prank(depositor);
        vault.deposit(id, address(lying), 1000, uint64(vm.getBlockTimestamp()) + LIFE);
    }

    /// A token that calls back in the middle of a deposit finds all that moves money in or out barred. Redeeming is not, and
    /// books what it always would.
    function test_deposit_ReentrantTokenGainsNothing() external {
        ReentrantToken evil = new ReentrantToken();
        _give(address(evil));
        evil.mint(address(evil), 1 ether);
        evil.execute(address(evil), 0, abi.encodeCall(evil.approve, (address(vault), type(uint256).max)));
        asset = address(evil);
        bytes32 id = devices[A].id;
        uint64 settleBy = uint64(vm.getBlockTimestamp()) + LIFE;
        Coin memory coin = depositOf(A, AMOUNT);
        ReentrantToken.Call[] memory calls = new ReentrantToken.Call[](4);
        calls[0] = ReentrantToken.Call(address(vault), abi.encodeCall(vault.deposit, (id, address(evil), 5, settleBy)));
        calls[1] = ReentrantToken.Call(address(vault), abi.encodeCall(vault.addCollateral, (id, address(evil), 5)));
        calls[2] =
            ReentrantToken.Call(address(vault), abi.encodeCall(vault.withdrawCredit, (address(evil), stranger, 0)));
        calls[3] = ReentrantToken.Call(address(vault), abi.encodeCall(vault.redeem, (exit(begin(coin)).path)));
        evil.arm(calls);
        Coin memory second = depositOf(A, 77);
        (bool[] memory ok, bytes[] memory answers) = evil.answers();
        assertEq(ok.length, 8, "each before and after the money moved");
        for (uint256 i; i < 8; ++i) {
            assertEq(ok[i], i == 3, "only redeeming, once");
            if (i % 4 == 3) continue;
            assertEq(answers[i], abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector));
        }
        assertEq(creditOf(A), AMOUNT);
        assertEq(leftOf(second), 77);
        assertEq(evil.balanceOf(address(vault)), AMOUNT + 77);
    }

    // ── reclaim ──

    /// `settleBy_and_reclaim_exclusive`: no second in which both are possible, and none in which neither is.
    function test_reclaim_AfterRedeemingIsOver() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        Trip memory first = exit(pay(begin(coin), B, AMOUNT / 4));
        vault.redeem(first.path);
        devices[A].sequence = 0;
        Trip memory more = exit(pay(begin(coin), C, AMOUNT));
        uint256 last = coin.settleBy + GRACE;
        vm.warp(last);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.TooEarly.selector, last, last));
        _reclaim(coin);
        vm.warp(last + 1);
        refused(more.path, IOfflineVault.TooLate.selector, last + 1, last);
        vm.expectEmit(address(vault));
        emit IOfflineVault.Reclaimed(coin.id, AMOUNT - AMOUNT / 4);
        _reclaim(coin);
        assertEq(vault.creditOf(asset, depositor), AMOUNT - AMOUNT / 4);
        assertEq(leftOf(coin), 0);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NothingLeft.selector, coin.id));
        _reclaim(coin);
        refused(more.path, IOfflineVault.TooLate.selector, last + 1, last);
    }

    function test_reclaim_RevertWhen_NothingIsLeft() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        vault.redeem(exit(begin(coin)).path);
        vm.warp(coin.settleBy + GRACE + 1);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NothingLeft.selector, coin.id));
        _reclaim(coin);
    }

    function test_reclaim_RevertWhen_NotTheDepositorsOrNoCoin() external {
        Coin memory coin = depositOf(A, AMOUNT);
        vm.warp(coin.settleBy + GRACE + 1);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NotDepositor.selector, stranger, depositor));
        vm.prank(stranger);
        vault.reclaim(coin.wallet, coin.asset, coin.amount, coin.nonce);
        coin.asset = address(token); // a coin in one asset is not given back in another
        bytes32 id = vault.coinIdOf(coin.wallet, coin.asset, coin.amount, coin.nonce);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.UnknownCoin.selector, id, 0));
        _reclaim(coin);
    }

    /// Who cuts a coin into very many parts keeps nobody from the rest.
    function test_reclaim_OfManyPartsGoesOn() external {
        uint256 parts = 70;
        Coin memory coin = depositOf(A, 1000);
        // A broken wallet pays every second unit: transfers of one input, each to another place.
        for (uint256 i; i < parts; ++i) {
            devices[A].sequence = uint64(i * 2);
            Trip memory t = begin(coin);
            uint128 above = uint128(2 * i);
            if (above != 0) t = change(t, C, above);
            t = pay(t, B, 1);
            vault.redeem(exit(t).path);
        }
        assertEq(leftOf(coin), 1000 - parts);
        vm.warp(coin.settleBy + GRACE + 1);
        _reclaim(coin);
        uint256 first = vault.creditOf(asset, depositor);
        assertLt(first, 1000 - parts);
        assertEq(leftOf(coin), 1000 - parts - first);
        _reclaim(coin);
        assertEq(vault.creditOf(asset, depositor), 1000 - parts);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NothingLeft.selector, coin.id));
        _reclaim(coin);
    }

    function _reclaim(Coin memory coin) private {
        vm.prank(depositor);
        vault.reclaim(coin.wallet, coin.asset, coin.amount, coin.nonce);
    }

    function _give(address hostile) private {
        FeeOnTransferToken(hostile).mint(depositor, 100 ether);
        vm.prank(depositor);
        FeeOnTransferToken(hostile).approve(address(vault), type(uint256).max);
    }
}
