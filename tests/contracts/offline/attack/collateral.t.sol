// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {InflatingToken} from "../../mocks/HostileTokens.sol";
import {OfflineFixture} from "../OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

/// @notice How an offender, or anybody else, could keep the collateral from those whom it is for.
contract CollateralAttackTest is OfflineFixture {
    IOfflineVault.Transfer private _one;
    IOfflineVault.Transfer private _other;

    /// Anybody may name the offender. Of two on a path, one has a unit: whoever names that one first must not use up the
    /// loser's only call.
    function test_attack_a_compensation_is_spent_on_an_offender_that_has_little() external eachAsset {
        pledge(A, AMOUNT);
        pledge(D, 1);
        Coin memory coin = depositOf(A, AMOUNT);
        Device memory image = imageOf(A);
        Trip memory first = pay(begin(coin), B, AMOUNT);
        Trip memory winner = exit(first);
        restore(A, image);
        Trip memory second = pay(begin(coin), D, AMOUNT);
        Trip memory loser = exit(pay(second, C, AMOUNT));
        equivocate(A, first.last, second.last);
        _equivocateAnyhow(D);
        vault.redeem(winner.path);

        vm.prank(stranger);
        vault.compensate(loser.path, 1, new bytes32[](0));
        assertEq(creditOf(C), 1);
        vault.compensate(loser.path, 0, new bytes32[](0));
        assertEq(creditOf(C), AMOUNT, "the rest is the other's to pay");
        assertEq(vault.collateralOf(devices[A].id, asset), 1);
        assertEq(vault.collateralOf(devices[D].id, asset), 0);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.AlreadyCompensated.selector, loser.digest));
        vault.compensate(loser.path, 0, new bytes32[](0));
    }

    /// Whoever pledges later pays on: what is owed stays owed, up to what the exit holds.
    function test_compensate_GoesOnWhenCollateralIsAdded() external eachAsset {
        (Trip memory winner, Trip memory loser) = _doubleSpend(depositOf(A, AMOUNT), AMOUNT);
        _prove();
        vault.redeem(winner.path);
        for (uint256 i; i < 3; ++i) {
            pledge(A, 10);
            vault.compensate(loser.path, 0, new bytes32[](0));
            assertEq(creditOf(C), 10 * (i + 1));
            vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NothingLeft.selector, devices[A].id));
            vault.compensate(loser.path, 0, new bytes32[](0));
        }
        pledge(A, 2 * AMOUNT);
        vault.compensate(loser.path, 0, new bytes32[](0));
        assertEq(creditOf(C), AMOUNT);
        assertEq(vault.collateralOf(devices[A].id, asset), AMOUNT + 30);
    }

    /// The part that was double-spent lies in more pieces than a call visits. The collateral must not pay for what the coin
    /// still has, nor may what lies beyond the first pieces be lost.
    function test_attack_a_coin_cut_into_many_parts_defeats_compensation() external {
        uint256 parts = 70;
        pledge(A, parts);
        Coin memory coin = depositOf(A, 1000);
        // A broken wallet pays every second unit: transfers of one input, each to another place.
        for (uint256 i; i < parts; ++i) {
            devices[A].sequence = uint64(i * 2);
            Trip memory t = begin(coin);
            uint128 above = uint128(2 * i);
            if (above != 0) t = change(t, D, above);
            vault.redeem(exit(pay(t, B, 1)).path);
        }
        (, Trip memory loser) = _doubleSpend(coin, 1000);
        _prove();
        vault.compensate(loser.path, 0, new bytes32[](0));
        assertEq(vault.collateralOf(devices[A].id, asset), parts, "not before the coin gave what it has");
        uint256 first = creditOf(C);
        assertLt(first, 1000 - parts);
        assertEq(leftOf(coin), 1000 - parts - first);
        vault.compensate(loser.path, 0, new bytes32[](0));
        assertEq(creditOf(C), 1000);
        assertEq(leftOf(coin), 0);
        assertEq(vault.collateralOf(devices[A].id, asset), 0);
        vm.expectPartialRevert(IOfflineVault.AlreadyCompensated.selector);
        vault.compensate(loser.path, 0, new bytes32[](0));
    }

    /// Parts that are all taken: a call that only comes further along the coin is none in vain.
    function test_compensate_ComesFurtherOverPartsThatAreTaken() external {
        Coin memory coin = depositOf(A, 140);
        for (uint256 i; i < 140; ++i) {
            // From the lower end up, each above the one before, so that every part stays one of its own.
            devices[A].sequence = uint64(i * 2);
            Trip memory t = begin(coin);
            uint128 above = uint128(139 - i);
            if (above != 0) t = change(t, D, above);
            vault.redeem(exit(pay(t, B, 1)).path);
        }
        (, Trip memory loser) = _doubleSpend(coin, 140);
        _prove();
        pledge(A, 140);
        uint256 calls;
        for (; creditOf(C) == 0; ++calls) {
            vault.compensate(loser.path, 0, new bytes32[](0));
        }
        assertEq(creditOf(C), 140);
        emit log_named_uint("calls", calls);
    }

    /// An accomplice redeems a single unit of the coin in its last second. The rest of the loser's part is free, and the
    /// depositor's a second later: were it counted as the loser's, the collateral would owe the one unit.
    function test_attack_a_double_spend_in_the_last_second_defeats_the_collateral() external eachAsset {
        pledge(A, AMOUNT);
        Coin memory coin = depositOf(A, AMOUNT);
        (Trip memory winner, Trip memory loser) = _doubleSpend(coin, 1);
        uint256 last = coin.settleBy + GRACE;
        vm.warp(last);
        vault.redeem(winner.path);
        vm.warp(last + 1);
        _prove();
        _compensateInFull(loser);
        vm.prank(depositor);
        vault.reclaim(coin.wallet, coin.asset, coin.amount, coin.nonce);
        assertEq(vault.creditOf(asset, depositor), AMOUNT - 1, "what was free is the depositor's");
    }

    /// The same of a wallet that was stopped: its payees' last second is GRACE after the stop, and the losers' another GRACE.
    function test_attack_a_double_spend_in_the_last_second_of_a_stop_defeats_the_collateral() external eachAsset {
        pledge(A, AMOUNT);
        (Trip memory winner, Trip memory loser) = _doubleSpend(depositOf(A, AMOUNT), AMOUNT);
        _prove();
        vm.prank(registrar);
        vault.revoke(devices[A].id);
        uint256 stopped = vm.getBlockTimestamp();
        vm.warp(stopped + GRACE);
        vault.redeem(winner.path);
        uint256 last = stopped + 2 * GRACE;
        vm.warp(last + 1);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.GraceOver.selector, last + 1, last));
        vault.compensate(loser.path, 0, new bytes32[](0));
        vm.warp(last);
        _compensateInFull(loser);
    }

    /// Of what may come last: a payment in the registration's last second, accepted by a clock that is behind, of a coin of
    /// just then with the longest life; and the conflict in that coin's last second. The collateral outlives it.
    function test_collateral_OutlivesTheLastCompensation() external eachAsset {
        validFor = 1 days;
        uint256 w = addDevice("short-lived", false);
        register(w);
        pledge(w, AMOUNT);
        uint64 end = vault.walletOf(devices[w].id).validUntil;
        vm.warp(end + vault.CLOCK_SKEW());
        Coin memory coin = depositFor(A, AMOUNT, vault.MAX_COIN_LIFE());
        vm.warp(end); // by the payer's clock
        Trip memory received = pay(begin(coin), w, AMOUNT);
        Device memory image = imageOf(w);
        Trip memory one = pay(received, B, AMOUNT);
        restore(w, image);
        Trip memory other = pay(received, C, AMOUNT);
        vm.warp(coin.settleBy + GRACE);
        vault.redeem(exit(one).path);
        uint256 last = coin.settleBy + 2 * GRACE;
        assertLe(last, end + vault.COLLATERAL_DELAY(), "the last second of a compensation");
        vm.warp(last);
        vm.expectPartialRevert(IOfflineVault.TooEarly.selector);
        vm.prank(devices[w].owner);
        vault.releaseCollateral(devices[w].id, asset);
        equivocate(w, one.last, other.last);
        vault.compensate(exit(other).path, 1, new bytes32[](0));
        assertEq(creditOf(C), AMOUNT);
    }

    /// A stop that the payee could not know yet, by its clock: the payment is void, and its loss the collateral's.
    function test_attack_a_stop_within_the_clocks_skew() external eachAsset {
        pledge(A, AMOUNT);
        Coin memory coin = depositOf(A, AMOUNT);
        Device memory image = imageOf(A);
        Trip memory first = pay(begin(coin), B, AMOUNT);
        Trip memory winner = exit(first);
        uint256 at = vm.getBlockTimestamp();
        vm.prank(registrar);
        vault.revoke(devices[A].id);
        vault.redeem(winner.path);
        uint256 skew = vault.CLOCK_SKEW();
        assertEq(skew, 10 minutes);
        vm.warp(at + skew + 1);
        restore(A, image);
        Trip memory late = exit(pay(begin(coin), D, AMOUNT));
        vm.warp(at + skew);
        restore(A, image);
        Trip memory second = pay(begin(coin), C, AMOUNT);
        Trip memory loser = exit(second);
        equivocate(A, first.last, second.last);
        refused(loser.path, IOfflineVault.IssuedAfterStop.selector, at + skew, at);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.IssuedAfterStop.selector, at + skew + 1, at + skew));
        vault.compensate(late.path, 0, new bytes32[](0));
        vault.compensate(loser.path, 0, new bytes32[](0));
        assertEq(creditOf(C), AMOUNT);
    }

    /// Which of several proven offenders on a path pays is the caller's choice: the one charged here double-spent, but not
    /// this coin. (Were it only the input that was proven, an offender would prove itself on a worthless one.)
    function test_compensate_ChargesAnyProvenOffenderOnThePath() external eachAsset {
        pledge(D, AMOUNT);
        Coin memory coin = depositOf(A, AMOUNT);
        Device memory image = imageOf(A);
        Trip memory winner = exit(pay(begin(coin), B, AMOUNT));
        restore(A, image);
        Trip memory loser = exit(pay(pay(begin(coin), D, AMOUNT), C, AMOUNT));
        _equivocateAnyhow(D);
        vault.redeem(winner.path);
        vault.compensate(loser.path, 1, new bytes32[](0));
        assertEq(creditOf(C), AMOUNT);
    }

    /// Collateral in a token that makes itself up would be credit of any size, and one more unit of it, in a batch, the
    /// overflow that throws everybody's exits out.
    function test_attack_a_token_that_lies_about_its_balance_makes_a_batch_revert() external {
        InflatingToken lying = new InflatingToken();
        uint256 w = addDevice("of the same owner", false);
        devices[w].owner = devices[A].owner;
        validFor = 1 days;
        register(w);
        uint256 most = type(uint104).max;
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.AmountOutOfRange.selector, type(uint256).max, 1, most));
        vault.addCollateral(devices[w].id, address(lying), type(uint256).max);
        vault.addCollateral(devices[w].id, address(lying), most);
        skip(1 days + vault.COLLATERAL_DELAY() + 1);
        vm.prank(devices[w].owner);
        vault.releaseCollateral(devices[w].id, address(lying));
        IOfflineVault.Path[] memory paths = new IOfflineVault.Path[](2);
        asset = address(lying);
        paths[0] = exit(begin(depositOf(A, uint128(most)))).path;
        asset = NATIVE;
        paths[1] = exit(begin(depositOf(B, AMOUNT))).path;
        vault.redeemBatch(paths);
        assertEq(creditOf(B), AMOUNT);
    }

    // ── helpers ──

    /// @dev A pays C all of a coin; a clone of it pays B `amount`. Both leave.
    function _doubleSpend(Coin memory coin, uint128 amount) private returns (Trip memory winner, Trip memory loser) {
        devices[A].sequence = 1000;
        Trip memory one = pay(begin(coin), B, amount);
        winner = exit(one);
        devices[A].sequence = 1000;
        Trip memory other = pay(begin(coin), C, coin.amount);
        loser = exit(other);
        (_one, _other) = (one.last, other.last);
    }

    function _prove() private {
        equivocate(A, _one, _other);
    }

    /// @dev Proves of a wallet that it double-spent a coin that has nothing to do with anything else.
    function _equivocateAnyhow(uint256 w) private {
        Coin memory own = depositOf(w, AMOUNT);
        Device memory image = imageOf(w);
        IOfflineVault.Transfer memory one = pay(begin(own), E, 1).last;
        restore(w, image);
        IOfflineVault.Transfer memory other = pay(begin(own), E, 2).last;
        restore(w, image);
        equivocate(w, one, other);
    }

    function _compensateInFull(Trip memory loser) private {
        vault.compensate(loser.path, 0, new bytes32[](0));
        assertEq(creditOf(C), AMOUNT);
        assertEq(vault.collateralOf(devices[A].id, asset), 0);
    }
}
