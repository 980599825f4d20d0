// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {LockTest} from "./LockTest.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";
import {ILedger} from "contracts/shared/ILedger.sol";
import {IOperators} from "contracts/shared/IOperators.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice Whoever folds the events alone ends with what the contract holds: channels, credits, reputations, bank keys.
contract EventsTest is LockTest {
    struct Folded {
        address bank;
        IPaymentChannel.OpenPermit permit; // of the opening
        IPaymentChannel.Channel channel;
    }

    mapping(bytes32 id => Folded) private _folded;
    mapping(address account => uint256) private _credit;
    mapping(address bank => mapping(address customer => uint8)) private _reputation;
    mapping(address bank => address) private _key;
    mapping(address bank => uint64) private _epoch;
    IPaymentChannel.Terms[] private all;
    uint256 private _events;

    function test_events_RebuildTheState() external eachAsset {
        delete all;
        _events = 0;
        _forget();
        vm.recordLogs();
        // What setUp did before the recording.
        setReputation(client, 80);
        setReputation(vendor, 90);
        spoil(2);
        _live();
        _fold(vm.getRecordedLogs());
        _compare();
        assertGe(_events, 30);
    }

    /// @dev A life in which every event occurs. In steps that are calls of their own: in one function they leave the
    /// compiler no room on the stack.
    function _live() private {
        this.liveOpened();
        this.liveToppedUp();
        this.liveClosed();
        this.liveBatch();
        this.liveProofs();
        this.liveRoles();
        this.liveRefunded();
    }

    function liveOpened() external {
        for (uint256 i; i < 8; ++i) {
            bytes32 salt = keccak256(abi.encode("events", i));
            all.push(open(permitOf(asset, salt, LENGTH), salt));
        }
    }

    function liveToppedUp() external {
        channels.checkpoint(all[0], proof(all[0], 10));
        channels.checkpoint(all[0], proofFrom(all[0], 20, 15));
        topUp(all[1], longer(all[1], 130), LENGTH);
        IPaymentChannel.OpenPermit memory permit = longer(all[2], 140);
        permit.expiry += 3 days;
        IPaymentChannel.Terms memory second = topUp(all[2], permit, LENGTH);
        channels.checkpoint(second, proof(second, 135));
    }

    function liveClosed() external {
        IPaymentChannel.LastReceipt memory last = lastReceipt(all[3], 30, TRANSCRIPT);
        vm.startPrank(vendor);
        channels.close(all[2], noProof(), TRANSCRIPT, noReceipt());
        channels.close(all[3], proof(all[3], 30), TRANSCRIPT, last);
        vm.stopPrank();
        closeTogether(all[4], 44);
    }

    function liveBatch() external {
        IPaymentChannel.CloseItem[] memory items = new IPaymentChannel.CloseItem[](3);
        items[0] = IPaymentChannel.CloseItem(all[5], proof(all[5], 50), TRANSCRIPT, noReceipt());
        items[1] = items[0];
        items[2] = IPaymentChannel.CloseItem(all[6], proof(all[6], 60), 0, lastReceipt(all[6], 60, 0));
        vm.prank(vendor);
        channels.batchClose(items);
    }

    function liveProofs() external {
        IPaymentChannel.Receipt memory a = receiptOf(all[0], 7, TRANSCRIPT);
        IPaymentChannel.Receipt memory b = receiptOf(all[0], 7, 0);
        channels.proveDoubleReceipt(
            all[0], a, sign(receiptKey, channels.receiptDigest(a)), b, sign(receiptKey, channels.receiptDigest(b))
        );
        prove(2); // of the default channel, whose opening is not among the events
    }

    function liveRoles() external {
        vm.startPrank(bank);
        channels.setBankKey(stranger);
        channels.setBankKey(address(0));
        vm.stopPrank();
        vm.startPrank(vendor);
        channels.setOperator(stranger, true);
        channels.withdrawCredit(asset, stranger, 3 * uint256(UNIT));
        vm.stopPrank();
    }

    function liveRefunded() external {
        vm.warp(all[0].permit.expiry + 1);
        vm.startPrank(client);
        channels.refund(all[0]);
        channels.refund(all[1]);
        vm.stopPrank();
    }

    function _compare() private view {
        for (uint256 i; i < all.length; ++i) {
            IPaymentChannel.Channel memory wanted = channels.channelOf(all[i]);
            IPaymentChannel.Channel memory got = _folded[all[i].permit.channelId].channel;
            assertEq(keccak256(abi.encode(got)), keccak256(abi.encode(wanted)), vm.toString(i));
            assertEq(
                keccak256(abi.encode(_folded[all[i].permit.channelId].permit)), keccak256(abi.encode(all[i].permit))
            );
        }
        assertEq(_credit[vendor], creditOf(vendor), "vendor's credit");
        assertEq(_credit[client], creditOf(client), "client's credit");
        // The bad lock of the default channel.
        assertEq(_reputation[bank][client], reputationOf(client), "client's reputation");
        assertEq(_reputation[bank][vendor], reputationOf(vendor), "vendor's reputation");
        (address key, uint64 epoch) = channels.bankKeyOf(bank);
        assertEq(_key[bank] == address(0) ? bank : _key[bank], key, "bank key");
        assertEq(_epoch[bank], epoch, "epoch");
    }

    // ── the fold ──

    function _forget() private {
        (_credit[vendor], _credit[client], _epoch[bank], _key[bank]) = (0, 0, 0, address(0));
        // The default channel opened before the recording.
        _folded[id].permit = terms.permit;
        _folded[id].bank = bank;
    }

    function _fold(Vm.Log[] memory logs) private {
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].emitter != address(channels)) continue;
            ++_events;
            bytes32 topic = logs[i].topics[0];
            if (topic == IOperators.OperatorSet.selector) continue;
            if (topic == ILedger.CreditWithdrawn.selector) {
                (, uint256 amount) = abi.decode(logs[i].data, (address, uint256));
                _credit[address(uint160(uint256(logs[i].topics[2])))] -= amount;
            } else if (topic == IPaymentChannel.ReputationSet.selector) {
                _reputation[_account(logs[i], 1)][_account(logs[i], 2)] = abi.decode(logs[i].data, (uint8));
            } else if (topic == IPaymentChannel.BankKeySet.selector) {
                (_key[_account(logs[i], 1)], _epoch[_account(logs[i], 1)]) = abi.decode(logs[i].data, (address, uint64));
            } else {
                _foldChannel(topic, logs[i].topics[1], logs[i].data);
            }
        }
    }

    function _foldChannel(bytes32 topic, bytes32 channelId, bytes memory data) private {
        Folded storage f = _folded[channelId];
        if (topic == IPaymentChannel.Opened.selector) {
            (f.bank, f.permit,) = abi.decode(data, (address, IPaymentChannel.OpenPermit, IPaymentChannel.Signature));
            f.channel =
                IPaymentChannel.Channel(0, f.permit.length, f.permit.expiry, IPaymentChannel.Status.OPEN, false, false);
        } else if (topic == IPaymentChannel.ToppedUp.selector) {
            (IPaymentChannel.OpenPermit memory permit,) =
                abi.decode(data, (IPaymentChannel.OpenPermit, IPaymentChannel.Signature));
            (f.channel.length, f.channel.expiry) = (permit.length, permit.expiry);
        } else if (topic == IPaymentChannel.Checkpointed.selector) {
            (uint32 index,, uint256 paid) = abi.decode(data, (uint32, bytes32, uint256));
            _pay(f, index, paid);
        } else if (topic == IPaymentChannel.Closed.selector) {
            (uint32 index, uint256 paid, uint256 refunded,) = abi.decode(data, (uint32, uint256, uint256, bytes32));
            _pay(f, index, paid);
            _close(f, refunded);
        } else if (topic == IPaymentChannel.CooperativelyClosed.selector) {
            (uint32 index, uint256 paid, uint256 refunded) = abi.decode(data, (uint32, uint256, uint256));
            _pay(f, index, paid);
            _close(f, refunded);
            _raise(f);
        } else if (topic == IPaymentChannel.ReceiptShown.selector) {
            _raise(f);
        } else if (topic == IPaymentChannel.Refunded.selector) {
            (uint32 index, uint256 refunded) = abi.decode(data, (uint32, uint256));
            assertEq(index, f.channel.settled);
            _close(f, refunded);
        } else if (topic == IPaymentChannel.BadLockProven.selector) {
            f.channel.badLockProven = true;
            _lower(f, 15);
        } else if (topic == IPaymentChannel.DoubleReceiptProven.selector) {
            f.channel.doubleReceiptProven = true;
            _lower(f, 30);
        } else {
            assertEq(topic, IPaymentChannel.ItemSkipped.selector, "an event this fold does not know");
        }
    }

    function _pay(Folded storage f, uint32 index, uint256 paid) private {
        assertEq(paid, uint256(index - f.channel.settled) * f.permit.unit, "paid");
        f.channel.settled = index;
        _credit[f.permit.vendor] += paid;
    }

    function _close(Folded storage f, uint256 refunded) private {
        assertEq(refunded, uint256(f.channel.length - f.channel.settled) * f.permit.unit, "refunded");
        f.channel.status = IPaymentChannel.Status.CLOSED;
        _credit[f.permit.client] += refunded;
    }

    function _raise(Folded storage f) private {
        if (_reputation[f.bank][f.permit.client] < 100) _reputation[f.bank][f.permit.client] += 1;
        if (_reputation[f.bank][f.permit.vendor] < 100) _reputation[f.bank][f.permit.vendor] += 1;
    }

    function _lower(Folded storage f, uint8 by) private {
        uint8 r = _reputation[f.bank][f.permit.client];
        _reputation[f.bank][f.permit.client] = r > by ? r - by : 0;
    }

    function _account(Vm.Log memory log, uint256 topic) private pure returns (address) {
        return address(uint160(uint256(log.topics[topic])));
    }
}
