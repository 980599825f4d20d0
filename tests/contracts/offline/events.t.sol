// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "./OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";
import {ILedger} from "contracts/shared/ILedger.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice Whoever folds the events alone ends with what the vault holds: wallets, logs, coins part by part, records, exits,
/// collateral and credit. The fold reads logs and nothing else.
contract EventsTest is OfflineFixture {
    uint128 private constant UNITS = 100;

    struct FoldedCoin {
        address asset;
        IOfflineVault.Coin coin;
        bytes free; // a byte for each unit; 0: taken
    }

    struct Spend {
        bytes32 wallet;
        bytes32 input;
    }

    struct Exit {
        bytes32 wallet;
        uint64 sequence;
        bytes32 digest;
    }

    mapping(bytes32 wallet => IOfflineVault.Wallet) private _wallet;
    mapping(address registrar => mapping(uint32 class => uint64)) private _killed;
    mapping(bytes32 wallet => mapping(address asset => uint256)) private _collateral;
    mapping(bytes32 coin => FoldedCoin) private _coin;
    mapping(bytes32 wallet => mapping(bytes32 input => bytes32)) private _spentBy;
    mapping(bytes32 wallet => mapping(uint256 group => uint96)) private _exits;
    mapping(bytes32 wallet => mapping(uint256 group => uint160)) private _paid;
    mapping(bytes32 exit => uint256) private _compensated;
    mapping(address account => mapping(address asset => uint256)) private _credit;
    mapping(bytes32 topic => uint256) private _seen;
    bytes32[] private _ids;
    bytes32[] private _coinIds;
    Spend[] private _spends;
    Exit[] private _all;

    // What the steps of the life hand on. Wallets: P and Q of the SIGNATURE kind, R of the LOG kind.
    uint256 private constant P = 7;
    uint256 private constant Q = 8;
    uint256 private constant R = 9;
    Coin private _first;
    IOfflineVault.Transfer private _one;
    IOfflineVault.Transfer private _other;
    Trip private _loser;

    function test_events_RebuildTheState() external eachAsset {
        vm.recordLogs();
        this.liveRegistered();
        this.liveRedeemed();
        this.liveCheated();
        this.liveForked();
        _fold(vm.getRecordedLogs());
        _compare();
        this.liveStopped();
        this.liveOver();
        _fold(vm.getRecordedLogs());
        _compare();
        _assertSeen();
    }

    // ── a life in which every event occurs ──

    function liveRegistered() external {
        validFor = 60 days;
        register(addDevice("P", false));
        register(addDevice("Q", false));
        register(addDevice("R", true));
        validFor = 61 days;
        IOfflineVault.Registration memory r = registrationOf(Q);
        IOfflineVault.RegistrarSignature memory vouched = vouch(r);
        vault.register{value: 3}(r, devices[Q].key, registrar, vouched, IOfflineVault.Signature(0, 0));
        pledge(P, 60);
        pledge(Q, 5);
    }

    function liveRedeemed() external {
        _first = depositOf(P, UNITS);
        // From the middle, then above it, in a batch with one that is left out.
        (Trip memory upper, Trip memory rest) = bothParts(begin(_first), R, 20);
        vault.redeem(exit(pay(rest, Q, 30)).path);
        IOfflineVault.Path[] memory paths = new IOfflineVault.Path[](2);
        paths[0] = exit(upper).path;
        paths[1] = IOfflineVault.Path(asset, 1, 1, 0, "");
        vault.redeemBatch(paths);
        vault.record(pay(begin(depositOf(Q, UNITS)), P, 7).path);
        devices[R].entries = bytes.concat(devices[R].entries, keccak256("void"), bytes32(0));
        pay(begin(depositOf(R, UNITS)), P, 8);
        settleLog(R);
    }

    /// @dev P pays the middle of a coin to R, and all of it to Q; Q is compensated from both, in two calls.
    function liveCheated() external {
        Coin memory coin = depositOf(P, UNITS);
        Device memory image = imageOf(P);
        Trip memory kept = change(begin(coin), Q, 40);
        _one = kept.last;
        vault.redeem(exit(pay(kept, R, 35)).path);
        restore(P, image);
        Trip memory all = pay(begin(coin), Q, UNITS);
        _other = all.last;
        _loser = exit(all);
        equivocate(P, _one, _other);
        vault.compensate(_loser.path, 0, new bytes32[](0));
    }

    function liveForked() external {
        settleLog(R);
        Coin memory coin = depositOf(R, UNITS);
        bytes32 base = devices[R].base;
        Device memory image = imageOf(R);
        pay(begin(coin), P, 1);
        IOfflineVault.Stretch memory one = stretchOf(R, base, devices[R].entries);
        restore(R, image);
        pay(begin(coin), P, 2);
        IOfflineVault.Stretch memory other = stretchOf(R, base, devices[R].entries);
        vault.proveFork(devices[R].key, base, one, other);
    }

    function liveStopped() external {
        vm.startPrank(registrar);
        vault.revoke(devices[Q].id);
        vault.killClass(CLASS);
        vm.stopPrank();
    }

    function liveOver() external {
        vm.warp(_first.settleBy + GRACE + 1);
        vm.prank(depositor);
        vault.reclaim(_first.wallet, _first.asset, _first.amount, _first.nonce);
        skip(200 days);
        vm.startPrank(devices[Q].owner);
        vault.releaseCollateral(devices[Q].id, asset);
        vault.withdrawCredit(asset, stranger, 2);
        vm.stopPrank();
    }

    // ── the fold ──

    function _fold(Vm.Log[] memory logs) private {
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].emitter != address(vault)) continue;
            ++_seen[logs[i].topics[0]];
            if (_foldWallet(logs[i]) || _foldMoney(logs[i])) continue;
            assertEq(logs[i].topics[0], IOfflineVault.ItemSkipped.selector, "an event this fold does not know");
        }
    }

    function _foldWallet(Vm.Log memory log) private returns (bool) {
        bytes32 topic = log.topics[0];
        if (topic == IOfflineVault.ClassKilled.selector) {
            _killed[_account(log.topics[1])][uint32(uint256(log.topics[2]))] = abi.decode(log.data, (uint64));
            return true;
        }
        IOfflineVault.Wallet storage w = _wallet[log.topics[1]];
        if (topic == IOfflineVault.Registered.selector) {
            bytes32 digest;
            (w.registrar, w.owner) = (_account(log.topics[2]), _account(log.topics[3]));
            (w.class, w.log, w.validUntil, digest,) =
                abi.decode(log.data, (uint32, bytes32, uint64, bytes32, IOfflineVault.Key));
            if (w.log != 0) w.head = sha256(abi.encodePacked(bytes32(0), sha256(abi.encodePacked(digest))));
            _ids.push(log.topics[1]);
        } else if (topic == IOfflineVault.Renewed.selector) {
            w.validUntil = abi.decode(log.data, (uint64));
        } else if (topic == IOfflineVault.Revoked.selector) {
            w.revokedAt = abi.decode(log.data, (uint64));
        } else if (topic == IOfflineVault.Equivocated.selector) {
            w.equivocated = true;
        } else if (topic == IOfflineVault.Recorded.selector) {
            _spend(log.topics[1], log.topics[2], abi.decode(log.data, (bytes32)));
        } else if (topic == IOfflineVault.LogSettled.selector) {
            bytes memory entries;
            (w.head, entries) = abi.decode(log.data, (bytes32, bytes));
            for (uint256 at; at < entries.length; at += 64) {
                _spend(log.topics[1], wordAt(entries, at), wordAt(entries, at + 32));
            }
        } else {
            return false;
        }
        return true;
    }

    function _spend(bytes32 wallet, bytes32 input, bytes32 transfer) private {
        if (_spentBy[wallet][input] != 0) return;
        _spentBy[wallet][input] = transfer == 0 ? bytes32(uint256(1)) : transfer;
        _spends.push(Spend(wallet, input));
    }

    function _foldMoney(Vm.Log memory log) private returns (bool) {
        bytes32 topic = log.topics[0];
        FoldedCoin storage c = _coin[log.topics[1]];
        if (topic == IOfflineVault.Deposited.selector) {
            c.coin.depositor = _account(log.topics[3]);
            uint128 amount;
            (c.asset, amount,, c.coin.settleBy) = abi.decode(log.data, (address, uint128, uint256, uint64));
            c.free = new bytes(amount);
            _put(c, amount, 0, amount);
            _coinIds.push(log.topics[1]);
        } else if (topic == IOfflineVault.Redeemed.selector) {
            _foldExit(c, log);
        } else if (topic == IOfflineVault.Compensated.selector) {
            _foldCompensation(c, log);
        } else if (topic == IOfflineVault.Reclaimed.selector) {
            uint256 amount = abi.decode(log.data, (uint256));
            _take(c, 0, c.free.length, amount);
            _credit[c.coin.depositor][c.asset] += amount;
        } else if (topic == IOfflineVault.CollateralAdded.selector) {
            (, uint256 amount) = abi.decode(log.data, (address, uint256));
            _collateral[log.topics[1]][_account(log.topics[2])] += amount;
        } else if (topic == IOfflineVault.CollateralReleased.selector) {
            uint256 amount = abi.decode(log.data, (uint256));
            _collateral[log.topics[1]][_account(log.topics[2])] -= amount;
            _credit[_wallet[log.topics[1]].owner][_account(log.topics[2])] += amount;
        } else if (topic == ILedger.CreditWithdrawn.selector) {
            (, uint256 amount) = abi.decode(log.data, (address, uint256));
            _credit[_account(log.topics[2])][_account(log.topics[1])] -= amount;
        } else {
            return false;
        }
        return true;
    }

    function _foldExit(FoldedCoin storage c, Vm.Log memory log) private {
        bytes32 wallet = log.topics[2];
        (bytes32 digest, uint64 sequence, uint128 low, uint128 amount) =
            abi.decode(log.data, (bytes32, uint64, uint128, uint128));
        _take(c, low, low + amount, amount);
        _credit[_wallet[wallet].owner][c.asset] += amount;
        _exits[wallet][sequence / 96] |= uint96(uint256(1) << (sequence % 96));
        uint160 before = _paid[wallet][sequence / 96];
        _paid[wallet][sequence / 96] = uint160(uint256(keccak256(abi.encode(before, digest))));
        _all.push(Exit(wallet, sequence, digest));
    }

    function _foldCompensation(FoldedCoin storage c, Vm.Log memory log) private {
        (bytes32 digest, uint128 low, uint128 amount, uint256 fromCoin, uint256 fromCollateral) =
            abi.decode(log.data, (bytes32, uint128, uint128, uint256, uint256));
        _take(c, low, low + amount, fromCoin);
        _collateral[log.topics[3]][c.asset] -= fromCollateral;
        _credit[_wallet[log.topics[2]].owner][c.asset] += fromCoin + fromCollateral;
        _compensated[digest] += fromCoin + fromCollateral;
    }

    /// @dev The lowest `amount` free units of a part.
    function _take(FoldedCoin storage c, uint256 low, uint256 high, uint256 amount) private {
        bytes memory free = c.free;
        uint256 left = amount;
        for (uint256 i = low; i < high && left != 0; ++i) {
            if (free[i] == 0) continue;
            free[i] = 0;
            --left;
        }
        assertEq(left, 0, "what an event says was taken was free");
        c.free = free;
        c.coin.left -= uint128(amount);
    }

    function _put(FoldedCoin storage c, uint128 amount, uint256 low, uint256 high) private {
        bytes memory free = c.free;
        for (uint256 i = low; i < high; ++i) {
            free[i] = 0x01;
        }
        c.free = free;
        c.coin.left += amount;
    }

    // ── the comparison ──

    function _compare() private view {
        for (uint256 i; i < _ids.length; ++i) {
            IOfflineVault.Wallet memory w = _wallet[_ids[i]];
            w.killedAt = _killed[w.registrar][w.class];
            assertEq(keccak256(abi.encode(w)), keccak256(abi.encode(vault.walletOf(_ids[i]))), "wallet");
            assertEq(_collateral[_ids[i]][asset], vault.collateralOf(_ids[i], asset), "collateral");
            assertEq(_collateral[_ids[i]][NATIVE], vault.collateralOf(_ids[i], NATIVE), "native collateral");
            assertEq(_credit[w.owner][asset], vault.creditOf(asset, w.owner), "owner's credit");
        }
        assertEq(_credit[depositor][asset], vault.creditOf(asset, depositor), "depositor's credit");
        for (uint256 i; i < _coinIds.length; ++i) {
            _compareCoin(_coinIds[i]);
        }
        for (uint256 i; i < _spends.length; ++i) {
            Spend memory s = _spends[i];
            assertEq(_spentBy[s.wallet][s.input], vault.spentBy(s.wallet, s.input), "spent by");
        }
        for (uint256 i; i < _all.length; ++i) {
            (uint96 exits, uint160 paid) = vault.redeemedOf(_all[i].wallet, _all[i].sequence);
            assertEq(_exits[_all[i].wallet][_all[i].sequence / 96], exits, "exits");
            assertEq(_paid[_all[i].wallet][_all[i].sequence / 96], paid, "paid exits");
            assertEq(vault.compensatedOf(_all[i].digest), 0);
        }
        assertEq(_compensated[_loser.digest], vault.compensatedOf(_loser.digest), "compensated");
    }

    function _compareCoin(bytes32 id) private view {
        FoldedCoin memory c = _coin[id];
        IOfflineVault.Coin memory seen = vault.coinOf(id);
        assertEq(keccak256(abi.encode(c.coin)), keccak256(abi.encode(seen)), "coin");
        if (seen.left == 0) return; // parts of a reclaimed coin stay as they are
        for (uint128 place; place < c.free.length; ++place) {
            (uint128 start, uint128 end) = vault.freePartOf(id, place);
            assertEq(c.free[place] != 0, start <= place && place < end, "a unit of a coin");
        }
    }

    function _assertSeen() private view {
        bytes32[15] memory topics = [
            IOfflineVault.Registered.selector,
            IOfflineVault.Renewed.selector,
            IOfflineVault.CollateralAdded.selector,
            IOfflineVault.CollateralReleased.selector,
            IOfflineVault.Deposited.selector,
            IOfflineVault.Recorded.selector,
            IOfflineVault.Redeemed.selector,
            IOfflineVault.ItemSkipped.selector,
            IOfflineVault.LogSettled.selector,
            IOfflineVault.Equivocated.selector,
            IOfflineVault.Compensated.selector,
            IOfflineVault.Revoked.selector,
            IOfflineVault.ClassKilled.selector,
            IOfflineVault.Reclaimed.selector,
            ILedger.CreditWithdrawn.selector
        ];
        for (uint256 i; i < topics.length; ++i) {
            assertGt(_seen[topics[i]], 0, vm.toString(i));
        }
    }

    function _account(bytes32 topic) private pure returns (address) {
        return address(uint160(uint256(topic)));
    }
}
