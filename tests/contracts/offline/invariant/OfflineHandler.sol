// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "../OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

/// @notice The steps of a campaign, each with the answer it must get, and the books of an observer beside them. Wallet E's
/// key is leaked: whoever has it signs what it likes.
contract OfflineHandler is OfflineFixture {
    enum Step {
        DEPOSIT,
        PAY,
        LEAVE,
        LEAVE_MANY,
        LEAK,
        REPLAY,
        RECORD,
        SETTLE,
        PLEDGE,
        RECLAIM,
        WITHDRAW,
        WARP
    }

    struct Book {
        Coin coin;
        uint256 paid;
        uint256 reclaimed;
    }

    /// @dev A part of a coin in a wallet's hands. Of E's: what was paid of it, to whomever.
    struct Leaf {
        Trip trip;
        uint256 book;
        bool leaked;
        bool gone;
        uint256 paid;
    }

    mapping(Step => uint256) public did;
    mapping(Step => uint256) public refused_;
    Book[] internal books;
    Leaf[] internal leaves;
    IOfflineVault.Path[] private _used;
    mapping(address asset => uint256) public pledged;
    /// @dev Block time does not outlive a call of the fuzzer; this does.
    uint64 private _now;

    modifier atPresent() {
        if (_now != 0) vm.warp(_now);
        _;
        _now = uint64(vm.getBlockTimestamp());
    }

    function setUp() public override {
        validFor = 3650 days;
        super.setUp();
    }

    // ── steps ──

    function deposit(uint256 seed) external atPresent {
        if (books.length > 59) return;
        asset = _pick(seed, "asset", 2) == 0 ? NATIVE : address(token);
        Book storage b = books.push();
        b.coin = depositOf(_pick(seed, "wallet", 4), uint128(1000 + _pick(seed, "amount", 1000)));
        Leaf storage leaf = leaves.push();
        leaf.trip = begin(b.coin);
        leaf.book = books.length - 1;
        ++did[Step.DEPOSIT];
    }

    /// @dev An honest wallet pays, offline: nothing happens here.
    function pay(uint256 seed) external atPresent {
        (bool some, uint256 i) = _honest(seed);
        if (!some || leaves[i].trip.value < 2) return;
        uint256 payee = [B, C, D, E, T][_pick(seed, "payee", 5)];
        Trip memory t = leaves[i].trip;
        if (t.path.hops.length > 1600) return; // about ten hops
        uint128 amount = uint128(_pick(seed, "part", t.value - 1)) + 1;
        (Trip memory paid, Trip memory kept) = bothParts(t, payee, amount);
        leaves[i].trip = kept;
        Leaf storage leaf = leaves.push();
        leaf.trip = paid;
        leaf.book = leaves[i].book;
        leaf.leaked = payee == E;
        ++did[Step.PAY];
    }

    function leave(uint256 seed) external atPresent {
        (bool some, uint256 i) = _honest(seed);
        if (!some) return;
        IOfflineVault.Path memory path = _leaving(i);
        bytes4 refusal = _inTime(leaves[i].book) ? bytes4(0) : IOfflineVault.TooLate.selector;
        if (_act(Step.LEAVE, stranger, abi.encodeCall(vault.redeem, (path)), refusal)) {
            books[leaves[i].book].paid += leaves[i].trip.value;
            _used.push(path);
        }
    }

    /// @dev Some in one batch, one of which is spoilt.
    function leaveMany(uint256 seed) external atPresent {
        IOfflineVault.Path[] memory paths = new IOfflineVault.Path[](4);
        uint256[] memory paidOf = new uint256[](4);
        for (uint256 n; n < 4; ++n) {
            (bool some, uint256 i) = _honest(uint256(keccak256(abi.encode(seed, n))));
            if (!some || n == _pick(seed, "spoilt", 4)) {
                paths[n] = IOfflineVault.Path(NATIVE, 1, n, 0, abi.encodePacked(seed, seed, seed));
                continue;
            }
            paths[n] = _leaving(i);
            if (!_inTime(leaves[i].book)) continue;
            books[leaves[i].book].paid += leaves[i].trip.value;
            paidOf[n] = 1;
        }
        vault.redeemBatch(paths);
        ++did[Step.LEAVE_MANY];
        for (uint256 n; n < 4; ++n) {
            if (paidOf[n] != 0) _used.push(paths[n]);
            else ++refused_[Step.LEAVE_MANY];
        }
    }

    /// @dev Who has E's key spends a part that E got, in any way, for the first time or the tenth.
    function leak(uint256 seed) external atPresent {
        uint256 from = _pick(seed, "from", leaves.length + 1);
        for (uint256 n; n < leaves.length; ++n) {
            uint256 i = (from + n) % leaves.length;
            if (!leaves[i].leaked) continue;
            return _leak(seed, i);
        }
    }

    function _leak(uint256 seed, uint256 i) private {
        Trip memory t = leaves[i].trip;
        for (uint256 hop; hop < seed % 3 && t.payer == E; ++hop) {
            uint128 amount = uint128((seed >> (16 * hop + 8)) % t.value) + 1;
            t = (seed >> (200 + hop)) % 2 == 0 || amount == t.value ? _next(t, amount, false) : _next(t, amount, true);
        }
        uint256 value = t.value;
        Trip memory out = exit(t);
        (bool ok,) = address(vault).call(abi.encodeCall(vault.redeem, (out.path)));
        if (ok) {
            leaves[i].paid += value;
            books[leaves[i].book].paid += value;
            _used.push(out.path);
            ++did[Step.LEAK];
        } else {
            ++refused_[Step.LEAK];
        }
    }

    function _next(Trip memory t, uint128 amount, bool keeps) private returns (Trip memory) {
        return keeps ? change(t, D, amount) : pay(t, D, amount);
    }

    /// @dev What was paid is never paid again.
    function replay(uint256 seed) external atPresent {
        if (_used.length == 0) return;
        IOfflineVault.Path memory path = _used[_pick(seed, "which", _used.length)];
        (bool ok,) = address(vault).call(abi.encodeCall(vault.redeem, (path)));
        assertFalse(ok, "V3: an exit is paid once");
        ++refused_[Step.REPLAY];
        ++did[Step.REPLAY];
    }

    function record(uint256 seed) external atPresent {
        (bool some, uint256 i) = _honest(seed);
        if (!some) return;
        bytes4 refusal;
        if (leaves[i].trip.path.hops.length == 64) refusal = IOfflineVault.PathTruncated.selector;
        _act(Step.RECORD, stranger, abi.encodeCall(vault.record, (leaves[i].trip.path)), refusal);
    }

    function settle(uint256) external atPresent {
        if (devices[T].entries.length == 0) {
            ++refused_[Step.SETTLE];
            return;
        }
        settleLog(T);
        ++did[Step.SETTLE];
    }

    function pledge(uint256 seed) external atPresent {
        asset = _pick(seed, "asset", 2) == 0 ? NATIVE : address(token);
        uint256 amount = 1 + _pick(seed, "amount", 100);
        pledge(_pick(seed, "wallet", 7), amount);
        pledged[asset] += amount;
        ++did[Step.PLEDGE];
    }

    function reclaim(uint256 seed) external atPresent {
        if (books.length == 0) return;
        Book storage b = books[_pick(seed, "book", books.length)];
        Coin memory c = b.coin;
        uint256 left = c.amount - b.paid - b.reclaimed;
        bytes4 refusal;
        if (vm.getBlockTimestamp() <= c.settleBy + GRACE) refusal = IOfflineVault.TooEarly.selector;
        else if (left == 0) refusal = IOfflineVault.NothingLeft.selector;
        bytes memory call = abi.encodeCall(vault.reclaim, (c.wallet, c.asset, c.amount, c.nonce));
        if (_act(Step.RECLAIM, depositor, call, refusal)) b.reclaimed += left;
    }

    function withdraw(uint256 seed) external atPresent {
        address owner = devices[_pick(seed, "owner", 7)].owner;
        address a = _pick(seed, "asset", 2) == 0 ? NATIVE : address(token);
        uint256 held = vault.creditOf(a, owner);
        uint256 amount = _pick(seed, "amount", held + 2);
        bytes4 refusal = amount > held ? bytes4(keccak256("CreditTooLow(uint256,uint256)")) : bytes4(0);
        _act(Step.WITHDRAW, owner, abi.encodeCall(vault.withdrawCredit, (a, stranger, amount)), refusal);
    }

    function warp(uint256 seed) external atPresent {
        skip(_pick(seed, "time", 15 days));
        ++did[Step.WARP];
    }

    // ── what the invariants look at ──

    function vaultIs() external view returns (IOfflineVault) {
        return vault;
    }

    function assetAt(uint256 a) external view returns (address) {
        return a == 0 ? NATIVE : address(token);
    }

    function bookCount() external view returns (uint256) {
        return books.length;
    }

    function bookAt(uint256 i) external view returns (Book memory) {
        return books[i];
    }

    function ownersIs() external view returns (address[] memory list) {
        list = new address[](8);
        for (uint256 w; w < 7; ++w) {
            list[w] = devices[w].owner;
        }
        list[7] = depositor;
    }

    function balanceOf(address a) external view returns (uint256) {
        return a == NATIVE ? address(vault).balance : token.balanceOf(address(vault));
    }

    /// @dev The worst of E's parts: what was paid beyond what it holds.
    function overpaid() external view returns (uint256 most) {
        for (uint256 i; i < leaves.length; ++i) {
            Leaf storage leaf = leaves[i];
            if (leaf.leaked && leaf.paid > leaf.trip.value) most = leaf.paid - leaf.trip.value;
        }
    }

    /// @dev All that is in someone's hands of a coin, and what honest wallets took out.
    function leavesOf(uint256 book) external view returns (uint256 sum) {
        for (uint256 i; i < leaves.length; ++i) {
            if (leaves[i].book == book) sum += leaves[i].trip.value;
        }
    }

    // ── helpers ──

    function _leaving(uint256 i) private returns (IOfflineVault.Path memory path) {
        Trip memory t = exit(leaves[i].trip);
        leaves[i].gone = true;
        return t.path;
    }

    function _inTime(uint256 book) private view returns (bool) {
        return vm.getBlockTimestamp() <= books[book].coin.settleBy + GRACE;
    }

    function _honest(uint256 seed) private view returns (bool some, uint256 i) {
        uint256 from = _pick(seed, "leaf", leaves.length + 1);
        for (uint256 n; n < leaves.length; ++n) {
            i = (from + n) % leaves.length;
            if (!leaves[i].gone && !leaves[i].leaked) return (true, i);
        }
    }

    function _pick(uint256 seed, string memory what, uint256 of_) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, what))) % of_;
    }

    /// @dev Takes a step, and compares its answer with the one it must get.
    function _act(Step step, address who, bytes memory call, bytes4 refusal) private returns (bool ok) {
        bytes memory answer;
        vm.prank(who);
        (ok, answer) = address(vault).call(call);
        assertEq(ok ? bytes4(0) : bytes4(answer), refusal, "V6: no step surprises");
        if (ok) ++did[step];
        else ++refused_[step];
    }
}
