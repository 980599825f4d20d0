// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ChannelWorld} from "./ChannelWorld.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";
import {IOperators} from "contracts/shared/IOperators.sol";

/// @notice The steps of a campaign, each with the answer it must get, and the books of an observer beside them.
contract ChannelHandler is ChannelWorld {
    enum Step {
        OPEN,
        TOP_UP,
        CHECKPOINT,
        CLOSE,
        BATCH_CHECKPOINT,
        BATCH_CLOSE,
        COOPERATIVE_CLOSE,
        REFUND,
        PROVE_BAD_LOCK,
        PROVE_DOUBLE_RECEIPT,
        SET_REPUTATION,
        WITHDRAW_CREDIT,
        DONATE,
        WARP
    }

    mapping(Step => uint256) public did;
    mapping(Step => uint256) public refused;
    mapping(address asset => uint256) public donated;
    mapping(address asset => uint256) internal deposited;
    mapping(address asset => uint256) internal withdrawn;
    mapping(address asset => mapping(address account => uint256)) internal creditBefore;
    uint256 public movedWithoutAClose; // H4
    uint256 public movedByProof; // H6
    uint256 public movedAfterTheEnd; // H8
    uint256 public fell; // H2
    uint256 private _salt;
    /// @dev Block time does not outlive a call of the fuzzer; this does.
    uint64 private _now;

    modifier atPresent() {
        if (_now != 0) vm.warp(_now);
        _;
        _now = uint64(vm.getBlockTimestamp());
    }

    function stepName(uint256 step) public pure returns (string memory) {
        string[14] memory names = [
            "open",
            "topUp",
            "checkpoint",
            "close",
            "batchCheckpoint",
            "batchClose",
            "cooperativeClose",
            "refund",
            "proveBadLock",
            "proveDoubleReceipt",
            "setReputation",
            "withdrawCredit",
            "donate",
            "warp"
        ];
        return names[step];
    }

    // ── steps ──

    function open(uint256 seed) external atPresent {
        uint256 slot = pick(seed, "slot", CHANNELS);
        if (current[slot] != 0 && books[current[slot] - 1].status == IPaymentChannel.Status.OPEN) {
            return _reopen(current[slot] - 1);
        }
        (client, vendor) = (clients[slot % 2], vendors[(slot / 2) % 2]);
        bytes32 salt = bytes32(++_salt);
        IPaymentChannel.OpenPermit memory permit = permitOf(assets[slot / 3], salt, CHAIN);
        permit.unit = uint128(1000 + pick(seed, "unit", 7));
        permit.expiry = nowAt() + 1 days + uint64(pick(seed, "life", 3 * WEEK));
        bytes4 refusal = _reputationRefusal();
        bytes memory call = abi.encodeCall(channels.open, (permit, salt, bank, signPermit(permit)));
        uint256 funds = fundsOf(permit);
        if (!_act(Step.OPEN, client, permit.asset == NATIVE ? funds : 0, call, refusal)) return;

        Book storage b = books.push();
        current[slot] = books.length;
        b.chains.push(termsOf(permit));
        b.salt = salt;
        (b.client, b.vendor, b.asset, b.unit) = (client, vendor, permit.asset, permit.unit);
        (b.length, b.expiry, b.deposit) = (CHAIN, permit.expiry, funds);
        b.status = IPaymentChannel.Status.OPEN;
        deposited[b.asset] += funds;
        _observe(Step.OPEN, books.length - 1);
    }

    function topUp(uint256 seed) external atPresent {
        (bool some, uint256 i) = _any(seed);
        if (!some) return;
        Book storage b = books[i];
        (client, vendor) = (b.client, b.vendor);
        uint256 chain = pick(seed, "chain", b.chains.length);
        uint32 length = b.length + uint32(pick(seed, "longer", 6)); // 0: not longer
        IPaymentChannel.OpenPermit memory permit = longer(b.chains[chain], length);
        permit.expiry = b.expiry + uint64(pick(seed, "life", WEEK));
        bytes4 refusal;
        if (b.status != IPaymentChannel.Status.OPEN) refusal = IPaymentChannel.WrongStatus.selector;
        else if (nowAt() > b.expiry) refusal = IPaymentChannel.TooLate.selector;
        else if (length == b.length) refusal = IPaymentChannel.LengthOutOfRange.selector;
        else refusal = _reputationRefusal();
        uint256 funds = uint256(length - b.length) * b.unit;
        bytes memory call = abi.encodeCall(channels.topUp, (b.chains[chain], permit, signPermit(permit)));
        if (!_act(Step.TOP_UP, client, b.asset == NATIVE ? funds : 0, call, refusal)) return;

        b.chains.push(termsOf(permit));
        (b.length, b.expiry) = (length, permit.expiry);
        b.deposit += funds;
        deposited[b.asset] += funds;
        _observe(Step.TOP_UP, i);
    }

    function checkpoint(uint256 seed) external atPresent {
        (bool some, uint256 i) = _any(seed);
        if (!some) return;
        (uint256 chain, IPaymentChannel.Proof memory p, bool honest) = _someProof(seed, i);
        bytes4 refusal = refusalOfCheckpoint(books[i], chain, p, honest);
        bytes memory call = abi.encodeCall(channels.checkpoint, (books[i].chains[chain], p));
        if (!_act(Step.CHECKPOINT, everyone[pick(seed, "who", everyone.length)], 0, call, refusal)) return;
        _settle(i, p.index);
        _observe(Step.CHECKPOINT, i);
    }

    function close(uint256 seed) external atPresent {
        (bool some, uint256 i) = _any(seed);
        if (!some || pick(seed, "rarely", 3) != 0) return;
        (uint256 chain, IPaymentChannel.Proof memory p, bool honest) = _someProof(seed, i);
        address caller = _closer(seed, i);
        bytes4 refusal = refusalOfClose(books[i], chain, p, honest, caller, IOperators.NotOperator.selector);
        IPaymentChannel.LastReceipt memory last;
        bool shows = pick(seed, "receipt", 2) == 0;
        if (shows) last = lastReceipt(books[i].chains[chain], p.index, bytes32(seed));
        bytes memory call = abi.encodeCall(channels.close, (books[i].chains[chain], p, bytes32(seed), last));
        if (!_act(Step.CLOSE, caller, 0, call, refusal)) return;
        _settle(i, p.index);
        _end(i);
        if (shows) _raise(i);
        _observe(Step.CLOSE, i);
    }

    function batchCheckpoint(uint256 seed) external atPresent {
        if (books.length == 0) return;
        IPaymentChannel.CheckpointItem[] memory items = new IPaymentChannel.CheckpointItem[](1 + pick(seed, "items", 4));
        uint256 last;
        for (uint256 k; k < items.length; ++k) {
            uint256 each = uint256(keccak256(abi.encode(seed, k)));
            (, last) = _any(each);
            (uint256 chain, IPaymentChannel.Proof memory p, bool honest) = _someProof(each, last);
            items[k] = IPaymentChannel.CheckpointItem(books[last].chains[chain], p);
            // In order: what one item settles counts for the next.
            if (refusalOfCheckpoint(books[last], chain, p, honest) == 0) _settle(last, p.index);
            else refused[Step.BATCH_CHECKPOINT] += 1;
        }
        bytes memory call = abi.encodeCall(channels.batchCheckpoint, (items));
        _act(Step.BATCH_CHECKPOINT, everyone[pick(seed, "who", everyone.length)], 0, call, 0);
        _observe(Step.BATCH_CHECKPOINT, last);
    }

    function batchClose(uint256 seed) external atPresent {
        if (books.length == 0 || pick(seed, "rarely", 3) != 0) return;
        IPaymentChannel.CloseItem[] memory items = new IPaymentChannel.CloseItem[](1 + pick(seed, "items", 4));
        (, uint256 last) = _any(seed);
        address caller = _closer(seed, last);
        for (uint256 k; k < items.length; ++k) {
            uint256 each = uint256(keccak256(abi.encode(seed, k)));
            (, last) = _any(each);
            (uint256 chain, IPaymentChannel.Proof memory p, bool honest) = _someProof(each, last);
            items[k].terms = books[last].chains[chain];
            items[k].proof = p;
            bytes4 refusal = refusalOfClose(books[last], chain, p, honest, caller, IOperators.NotOperator.selector);
            if (refusal != 0) {
                refused[Step.BATCH_CLOSE] += 1;
                continue;
            }
            _settle(last, p.index);
            _end(last);
        }
        _act(Step.BATCH_CLOSE, caller, 0, abi.encodeCall(channels.batchClose, (items)), 0);
        _observe(Step.BATCH_CLOSE, last);
    }

    function cooperativeClose(uint256 seed) external atPresent {
        (bool some, uint256 i) = _any(seed);
        if (!some || pick(seed, "rarely", 4) != 0) return;
        Book storage b = books[i];
        uint32 index = uint32(pick(seed, "index", b.length + 2));
        bytes32 id = b.chains[0].permit.channelId;
        bytes4 refusal;
        if (b.status != IPaymentChannel.Status.OPEN) refusal = IPaymentChannel.WrongStatus.selector;
        else if (index < b.settled || index > b.length) refusal = IPaymentChannel.IndexOutOfRange.selector;
        bytes memory call = abi.encodeCall(
            channels.cooperativeClose,
            (
                b.chains[pick(seed, "chain", b.chains.length)],
                index,
                signClose(keyOf(b.client), id, index),
                signClose(keyOf(b.vendor), id, index)
            )
        );
        address caller = pick(seed, "who", 2) == 0 ? b.client : b.vendor;
        if (!_act(Step.COOPERATIVE_CLOSE, caller, 0, call, refusal)) return;
        _settle(i, index);
        _end(i);
        _raise(i);
        _observe(Step.COOPERATIVE_CLOSE, i);
    }

    function refund(uint256 seed) external atPresent {
        (bool some, uint256 i) = _any(seed);
        if (!some) return;
        Book storage b = books[i];
        bytes4 refusal;
        if (b.status != IPaymentChannel.Status.OPEN) refusal = IPaymentChannel.WrongStatus.selector;
        else if (nowAt() <= b.expiry) refusal = IPaymentChannel.RefundTooEarly.selector;
        bytes memory call = abi.encodeCall(channels.refund, (b.chains[pick(seed, "chain", b.chains.length)]));
        if (!_act(Step.REFUND, b.client, 0, call, refusal)) return;
        _end(i);
        _observe(Step.REFUND, i);
    }

    /// @dev A single leaf under its own root; the client locked garbage, or it did not.
    function proveBadLock(uint256 seed) external atPresent {
        (bool some, uint256 i) = _any(seed);
        if (!some) return;
        Book storage b = books[i];
        IPaymentChannel.Terms memory t = b.chains[0];
        IPaymentChannel.Signature memory opener = sign(receiptKey, keccak256(abi.encode(seed)));
        IPaymentChannel.Signature memory first = signPermit(t.permit);
        bool garbage = pick(seed, "garbage", 2) == 0;
        IPaymentChannel.SignedLeaf memory bad;
        bad.leaf = IPaymentChannel.LockLeaf({
            index: 1,
            previous: 0,
            lockR: first.r ^ keccak256(bytes.concat(hex"01", opener.r, opener.s)),
            lockS: garbage ? bytes32(seed) : first.s ^ keccak256(bytes.concat(hex"02", opener.r, opener.s)),
            tag: tagOf(t.permit.channelId, 1, opener.r, opener.s)
        });
        bytes32 root = keccak256(bytes.concat(keccak256(abi.encode(bad.leaf))));
        bad.checkpoint = IPaymentChannel.Checkpoint(t.permit.channelId, 1, wordAt(t, 1), root);
        bad.signature = sign(receiptKey, channels.checkpointDigest(bad.checkpoint));
        IPaymentChannel.SignedLeaf memory nothing;
        bytes4 refusal;
        if (b.badLock) refusal = IPaymentChannel.AlreadyProven.selector;
        else if (!garbage) refusal = IPaymentChannel.LockOpens.selector;
        bytes memory call = abi.encodeCall(channels.proveBadLock, (t, bad, nothing, opener.r, opener.s));
        if (!_act(Step.PROVE_BAD_LOCK, b.vendor, 0, call, refusal)) return;
        b.badLock = true;
        _lower(b.client, 15);
        _observe(Step.PROVE_BAD_LOCK, i);
    }

    function proveDoubleReceipt(uint256 seed) external atPresent {
        (bool some, uint256 i) = _any(seed);
        if (!some || pick(seed, "rarely", 3) != 0) return;
        Book storage b = books[i];
        IPaymentChannel.Receipt memory a_ = receiptOf(b.chains[0], 3, bytes32(seed));
        IPaymentChannel.Receipt memory b_ = receiptOf(b.chains[0], 3, bytes32(~seed));
        bytes4 refusal = b.doubleReceipt ? IPaymentChannel.AlreadyProven.selector : bytes4(0);
        if (pick(seed, "same", 3) == 0 && refusal == 0) {
            b_ = a_;
            refusal = IPaymentChannel.NotDoubleReceipt.selector;
        }
        bytes memory call = abi.encodeCall(
            channels.proveDoubleReceipt,
            (
                b.chains[0],
                a_,
                sign(receiptKey, channels.receiptDigest(a_)),
                b_,
                sign(receiptKey, channels.receiptDigest(b_))
            )
        );
        if (!_act(Step.PROVE_DOUBLE_RECEIPT, stranger, 0, call, refusal)) return;
        b.doubleReceipt = true;
        _lower(b.client, 30);
        _observe(Step.PROVE_DOUBLE_RECEIPT, i);
    }

    function setReputation(uint256 seed) external atPresent {
        address customer = everyone[pick(seed, "who", 4)];
        // Mostly good, so that channels can open.
        uint8 value = uint8(pick(seed, "good", 4) == 0 ? pick(seed, "value", 110) : 60 + pick(seed, "value", 41));
        bytes4 refusal = value > 100 ? IPaymentChannel.ReputationOutOfRange.selector : bytes4(0);
        bytes memory call = abi.encodeCall(channels.setReputation, (customer, value));
        if (!_act(Step.SET_REPUTATION, bank, 0, call, refusal)) return;
        reputation[customer] = value;
        if (books.length != 0) _observe(Step.SET_REPUTATION, 0);
    }

    function withdrawCredit(uint256 seed) external atPresent {
        address who = everyone[pick(seed, "who", everyone.length)];
        address asset = assets[pick(seed, "asset", 2)];
        uint256 credit = channels.creditOf(asset, who);
        uint256 amount = pick(seed, "amount", credit + 2);
        bytes4 refusal = amount > credit ? bytes4(keccak256("CreditTooLow(uint256,uint256)")) : bytes4(0);
        bytes memory call = abi.encodeCall(channels.withdrawCredit, (asset, who, amount));
        if (!_act(Step.WITHDRAW_CREDIT, who, 0, call, refusal)) return;
        withdrawn[asset] += amount;
        creditBefore[asset][who] -= amount;
    }

    function donate(uint256 seed) external atPresent {
        uint256 amount = pick(seed, "amount", 1000);
        if (seed % 2 == 0) {
            vm.deal(address(channels), address(channels).balance + amount); // as a self-destruct can
            donated[NATIVE] += amount;
        } else {
            vm.prank(stranger);
            assertTrue(token.transfer(address(channels), amount));
            donated[address(token)] += amount;
        }
        did[Step.DONATE] += 1;
        refused[Step.DONATE] += 1; // nothing can refuse it
    }

    function warp(uint256 seed) external atPresent {
        skip(pick(seed, "long", 4) == 0 ? pick(seed, "time", WEEK) : pick(seed, "time", 1 hours));
        did[Step.WARP] += 1;
        refused[Step.WARP] += 1;
    }

    // ── for the invariants ──

    function bookCount() external view returns (uint256) {
        return books.length;
    }

    function bookAt(uint256 i) external view returns (Book memory) {
        return books[i];
    }

    function everyoneIs() external view returns (address[] memory) {
        return everyone;
    }

    function contractOf() external view returns (IPaymentChannel) {
        return channels;
    }

    function assetAt(uint256 i) external view returns (address) {
        return assets[i];
    }

    function heldOf(address asset) external view returns (uint256) {
        return asset == NATIVE ? address(channels).balance : token.balanceOf(address(channels));
    }

    function flowOf(address asset) external view returns (uint256 in_, uint256 out) {
        return (deposited[asset], withdrawn[asset]);
    }

    function reputationInBook(address who) external view returns (uint8 booked, uint8 recorded) {
        return (reputation[who], channels.reputationOf(bank, who));
    }

    // ── helpers ──

    function _any(uint256 seed) private view returns (bool, uint256) {
        if (books.length == 0) return (false, 0);
        // Mostly one that is current.
        uint256 slot = pick(seed, "slot", CHANNELS);
        if (pick(seed, "old", 6) != 0 && current[slot] != 0) return (true, current[slot] - 1);
        return (true, pick(seed, "any", books.length));
    }

    function _closer(uint256 seed, uint256 i) private view returns (address) {
        if (pick(seed, "closer", 6) == 0) return everyone[pick(seed, "who", everyone.length)];
        return books[i].vendor == vendors[1] && pick(seed, "operator", 2) == 0 ? operator : books[i].vendor;
    }

    /// @dev A proof under the terms of any chain of the channel; every fourth is spoiled.
    function _someProof(uint256 seed, uint256 i)
        private
        view
        returns (uint256 chain, IPaymentChannel.Proof memory p, bool honest)
    {
        Book storage b = books[i];
        chain = pick(seed, "chain", b.chains.length);
        IPaymentChannel.Terms memory t = b.chains[chain];
        // Mostly somewhat above what is settled.
        uint32 index = uint32(
            pick(seed, "anywhere", 4) == 0
                ? pick(seed, "index", t.permit.length + 3)
                : b.settled + pick(seed, "index", 4)
        );
        honest = pick(seed, "honest", 4) != 0;
        if (index == 0 || index > t.permit.length) {
            p.index = index;
            return (chain, p, true);
        }
        uint32 from = uint32(pick(seed, "from", index + 1));
        p = pick(seed, "signed", 2) == 0 || from == 0 ? proof(t, index) : proofFrom(t, index, from);
        if (honest) return (chain, p, true);
        if (p.signedIndex != 0 && pick(seed, "how", 2) == 0) p.signature.v = 29;
        else p.word = keccak256(abi.encode(p.word));
    }

    function _reputationRefusal() private view returns (bytes4) {
        return
            reputation[client] < 50 || reputation[vendor] < 50 ? IPaymentChannel.ReputationTooLow.selector : bytes4(0);
    }

    /// @dev An id never opens twice.
    function _reopen(uint256 i) private {
        Book storage b = books[i];
        IPaymentChannel.OpenPermit memory permit = b.chains[0].permit;
        bytes memory call = abi.encodeCall(channels.open, (permit, b.salt, bank, signPermit(permit)));
        _act(Step.OPEN, b.client, 0, call, IPaymentChannel.ChannelExists.selector);
    }

    /// @dev Makes a call whose outcome is known: `refusal` is the selector of the error, 0 for success.
    function _act(Step step, address caller, uint256 value, bytes memory call, bytes4 refusal)
        private
        returns (bool ok)
    {
        string memory name = string.concat("the answer to ", stepName(uint256(step)));
        bytes memory answer;
        vm.prank(caller);
        (ok, answer) = address(channels).call{value: value}(call);
        assertEq(bytes4(answer), refusal, name);
        assertEq(ok, refusal == 0, name);
        if (ok) did[step] += 1;
        else refused[step] += 1;
    }

    function _settle(uint256 i, uint32 index) private {
        Book storage b = books[i];
        if (index <= b.settled) return;
        b.paid += uint256(index - b.settled) * b.unit;
        b.settled = index;
    }

    function _end(uint256 i) private {
        Book storage b = books[i];
        b.status = IPaymentChannel.Status.CLOSED;
        b.refunded = uint256(b.length - b.settled) * b.unit;
    }

    function _raise(uint256 i) private {
        for (uint256 k; k < 2; ++k) {
            address who = k == 0 ? books[i].client : books[i].vendor;
            if (reputation[who] < 100) reputation[who] += 1;
        }
    }

    function _lower(address who, uint8 by) private {
        reputation[who] = reputation[who] > by ? reputation[who] - by : 0;
    }

    /// @dev Compares credits before and after a step: who may have got something from it.
    function _observe(Step step, uint256) private {
        bool closes =
            step == Step.CLOSE || step == Step.BATCH_CLOSE || step == Step.COOPERATIVE_CLOSE || step == Step.REFUND;
        bool pays = closes || step == Step.CHECKPOINT || step == Step.BATCH_CHECKPOINT;
        for (uint256 a; a < 2; ++a) {
            for (uint256 k; k < everyone.length; ++k) {
                uint256 credit = channels.creditOf(assets[a], everyone[k]);
                uint256 before = creditBefore[assets[a]][everyone[k]];
                if (credit < before) fell += 1;
                if (credit > before && !pays) movedByProof += 1;
                if (credit > before && !closes && (everyone[k] == clients[0] || everyone[k] == clients[1])) {
                    movedWithoutAClose += 1;
                }
                creditBefore[assets[a]][everyone[k]] = credit;
            }
        }
        for (uint256 i; i < books.length; ++i) {
            if (books[i].status != IPaymentChannel.Status.CLOSED) continue;
            (IPaymentChannel.Status status, uint32 settled) = channels.statusOf(books[i].chains[0].permit.channelId);
            if (status != IPaymentChannel.Status.CLOSED || settled != books[i].settled) movedAfterTheEnd += 1;
        }
    }
}
