// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {StepTest} from "./StepTest.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice The events alone rebuild every escrow, pair and debt: what a follower does that mirrors the contract. The fold
/// reads logs and nothing else.
contract EventsTest is StepTest {
    mapping(address escrow => ITicketEscrow.Escrow) private _escrow;
    mapping(address escrow => mapping(address recipient => ITicketEscrow.Pair)) private _pair;
    mapping(address escrow => mapping(address creditor => uint256)) private _debt;
    mapping(bytes4 topic => uint256) private _seen;

    address[2] private _keys;
    uint256[2] private _secrets;
    address[3] private _recipients;

    function _arrange() internal override {
        (_keys[0], _secrets[0]) = (escrow, escrowKey);
        (_keys[1], _secrets[1]) = makeAddrAndKey("escrow 2");
        _recipients = [merchant, other, payer];
    }

    /// One run along every step, so that every event is folded at least once.
    function test_events_RebuildTheStateAfterEveryStep() external eachAsset {
        vm.recordLogs();
        uint64 start = uint64(vm.getBlockTimestamp());
        openWith(5 * PRIZE);
        _foldAndCompare();
        open(_secrets[1], payer, terms(asset), PENALTY + 3 * PRIZE);
        vm.startPrank(payer);
        escrows.topUp{value: valueOf(PRIZE)}(escrow, PRIZE);
        escrows.raiseCap{value: valueOf(1)}(escrow, CAP + 5, 1);
        escrows.earmark(escrow, other, 2, start + 1 days);
        escrows.earmark(escrow, merchant, 1, start + 2 days);
        vm.stopPrank();
        _foldAndCompare();
        claimAs(merchant, 1);
        claimAs(merchant, 2);
        _foldAndCompare();
        vm.startPrank(payer);
        escrows.requestWithdraw(escrow);
        _foldAndCompare();
        escrows.cancelWithdraw(escrow);
        _foldAndCompare();
        vm.warp(start + 1 days + escrows.EARMARK_MARGIN() + 1);
        escrows.releaseEarmark(escrow, other);
        _foldAndCompare();
        escrows.requestWithdraw(escrow);
        vm.stopPrank();

        _claimBatch(0, merchant, 3, 6);
        _foldAndCompare();
        address[] memory creditors = new address[](1);
        creditors[0] = merchant;
        vm.prank(payer);
        escrows.cure{value: valueOf(3 * PRIZE)}(escrow, creditors, 3 * PRIZE);
        _foldAndCompare();
        _equivocate(0);
        _foldAndCompare();
        vm.startPrank(payer);
        escrows.requestWithdraw(escrow);
        skip(escrows.WITHDRAW_DELAY());
        escrows.withdraw(escrow);
        escrows.earmark(_keys[1], other, 2, uint64(vm.getBlockTimestamp()));
        vm.stopPrank();
        _foldAndCompare();

        _claimBatch(1, merchant, 1, 2);
        skip(escrows.CURE_PERIOD() + 1);
        escrows.burn(_keys[1]);
        _foldAndCompare();
        _claimBatch(1, other, 1, 1);
        _foldAndCompare();
        vm.prank(payer);
        escrows.releaseEarmark(_keys[1], other);
        _foldAndCompare();

        bytes4[14] memory all = [
            bytes4(ITicketEscrow.Opened.selector),
            bytes4(ITicketEscrow.ToppedUp.selector),
            bytes4(ITicketEscrow.CapRaised.selector),
            bytes4(ITicketEscrow.Earmarked.selector),
            bytes4(ITicketEscrow.EarmarkReleased.selector),
            bytes4(ITicketEscrow.Claimed.selector),
            bytes4(ITicketEscrow.TicketSkipped.selector),
            bytes4(ITicketEscrow.BecameInsolvent.selector),
            bytes4(ITicketEscrow.Cured.selector),
            bytes4(ITicketEscrow.Burned.selector),
            bytes4(ITicketEscrow.EquivocationProven.selector),
            bytes4(ITicketEscrow.WithdrawRequested.selector),
            bytes4(ITicketEscrow.WithdrawCancelled.selector),
            bytes4(ITicketEscrow.Withdrawn.selector)
        ];
        for (uint256 i; i < all.length; ++i) {
            assertGt(_seen[all[i]], 0, string.concat("event not exercised: ", vm.toString(i)));
        }
    }

    /// Any order of steps on two escrows, at any times.
    /// forge-config: default.fuzz.runs = 128
    function testFuzz_events_RebuildTheStateAfterAnySteps(uint256 seed) external eachAsset {
        vm.recordLogs();
        openWith(4 * PRIZE);
        open(_secrets[1], payer, terms(asset), PENALTY + 2 * PRIZE + PRIZE / 3);
        for (uint64 i; i < 24; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            _anyStep(seed, i);
        }
        _foldAndCompare();
    }

    function _anyStep(uint256 seed, uint64 i) private {
        uint256 which = seed & 1;
        address key = _keys[which];
        address recipient = _recipients[(seed >> 8) % 3];
        uint256 step = (seed >> 16) % 16;
        uint32 count = uint32((seed >> 24) % 3);
        uint64 nowAt = uint64(vm.getBlockTimestamp());
        if (step >= 11) return _claimBatch(which, recipient, i * 8 + 1, count + 1);
        if (step == 0) return skip((seed >> 32) % 4 days);
        if (step == 1) return _equivocate(which);
        address[] memory creditors = new address[](3);
        (creditors[0], creditors[1], creditors[2]) = (_recipients[0], _recipients[1], _recipients[2]);
        vm.startPrank(payer);
        // What is not possible now is not done.
        if (step == 2) try escrows.topUp{value: valueOf(count)}(key, count) {} catch {}
        if (step == 3) try escrows.raiseCap{value: valueOf(count)}(key, CAP + 8 * i + 1, count) {} catch {}
        if (step == 4) try escrows.earmark(key, recipient, count, nowAt + uint64(count) * 1 days) {} catch {}
        if (step == 5) try escrows.releaseEarmark(key, recipient) {} catch {}
        if (step == 6) try escrows.requestWithdraw(key) {} catch {}
        if (step == 7) try escrows.cancelWithdraw(key) {} catch {}
        if (step == 8) try escrows.withdraw(key) {} catch {}
        if (step == 9) try escrows.cure{value: valueOf(BALANCE)}(key, creditors, BALANCE) {} catch {}
        if (step == 10) try escrows.burn(key) {} catch {}
        vm.stopPrank();
    }

    function _claimBatch(uint256 which, address recipient, uint64 first, uint64 count) private {
        ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](1);
        ITicketEscrow.Winner[] memory list = new ITicketEscrow.Winner[](count + 1);
        for (uint64 i; i < count; ++i) {
            list[i] = signed(_secrets[which], ticket(_keys[which], recipient, r1, first + i, true));
        }
        list[count] = list[0]; // is left out
        groups[0] = group(_keys[which], r1, list);
        vm.prank(recipient);
        escrows.claimBatch(recipient, groups);
    }

    function _equivocate(uint256 which) private {
        ITicketEscrow.Ticket memory a = ticket(_keys[which], merchant, r1, 1000, false);
        ITicketEscrow.Ticket memory b = ticket(_keys[which], other, r1, 1000, false);
        ITicketEscrow.Signature memory signatureA = sign(_secrets[which], escrows.ticketDigest(a));
        ITicketEscrow.Signature memory signatureB = sign(_secrets[which], escrows.ticketDigest(b));
        vm.prank(stranger);
        try escrows.proveEquivocation(a, signatureA, b, signatureB) {} catch {}
    }

    function _foldAndCompare() private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].emitter == address(escrows)) _fold(logs[i]);
        }
        for (uint256 i; i < _keys.length; ++i) {
            assertEscrow(escrows.escrowOf(_keys[i]), _escrow[_keys[i]]);
            for (uint256 j; j < _recipients.length; ++j) {
                ITicketEscrow.Pair memory pair = _pair[_keys[i]][_recipients[j]];
                assertPair(
                    escrows.pairOf(_keys[i], _recipients[j]), pair.lastNonce, pair.earmarkPrizes, pair.earmarkUntil
                );
                assertEq(escrows.debtOf(_keys[i], _recipients[j]), _debt[_keys[i]][_recipients[j]], "debtOf");
            }
        }
    }

    // ── the fold ──

    function _fold(Vm.Log memory log) private {
        bytes32 topic = log.topics[0];
        ++_seen[bytes4(topic)];
        address key = address(uint160(uint256(log.topics[1])));
        address second = log.topics.length > 2 ? address(uint160(uint256(log.topics[2]))) : address(0);
        ITicketEscrow.Escrow storage e = _escrow[key];
        ITicketEscrow.Pair storage p = _pair[key][second];
        if (topic == ITicketEscrow.Opened.selector) {
            e.payer = second;
            e.asset = address(uint160(uint256(log.topics[3])));
            (e.prize, e.maxThreshold, e.ticketCap, e.balance, e.penalty) =
                abi.decode(log.data, (uint256, uint256, uint64, uint256, uint256));
            e.status = ITicketEscrow.Status.OPEN;
        } else if (topic == ITicketEscrow.ToppedUp.selector) {
            e.balance += abi.decode(log.data, (uint256));
        } else if (topic == ITicketEscrow.CapRaised.selector) {
            (e.ticketCap, e.penalty) = abi.decode(log.data, (uint64, uint256));
        } else if (topic == ITicketEscrow.Earmarked.selector) {
            (uint32 prizes, uint64 until) = abi.decode(log.data, (uint32, uint64));
            e.balance -= prizes * e.prize;
            e.earmarked += prizes * e.prize;
            if (until > e.earmarkUntil) e.earmarkUntil = until;
            p.earmarkPrizes += prizes;
            p.earmarkUntil = until;
        } else if (topic == ITicketEscrow.EarmarkReleased.selector) {
            uint32 prizes = abi.decode(log.data, (uint32));
            p.earmarkPrizes -= prizes;
            e.earmarked -= prizes * e.prize;
            if (e.status != ITicketEscrow.Status.CLOSED) e.balance += prizes * e.prize;
        } else if (topic == ITicketEscrow.Claimed.selector) {
            (uint64 nonce, uint256 fromEarmark, uint256 owed) = abi.decode(log.data, (uint64, uint256, uint256));
            p.lastNonce = nonce;
            if (fromEarmark != 0) --p.earmarkPrizes;
            e.earmarked -= fromEarmark;
            e.balance -= e.prize - fromEarmark - owed;
            e.debt += owed;
            _debt[key][second] += owed;
        } else {
            _foldRest(topic, log.data, e, key, second);
        }
    }

    function _foldRest(bytes32 topic, bytes memory data, ITicketEscrow.Escrow storage e, address key, address second)
        private
    {
        if (topic == ITicketEscrow.BecameInsolvent.selector) {
            e.cureBy = abi.decode(data, (uint64));
            e.withdrawAt = 0;
            e.status = ITicketEscrow.Status.INSOLVENT;
        } else if (topic == ITicketEscrow.Cured.selector) {
            uint256 amount;
            (amount, e.debt) = abi.decode(data, (uint256, uint256));
            _debt[key][second] -= amount;
            if (e.debt == 0) {
                e.status = ITicketEscrow.Status.OPEN;
                e.cureBy = 0;
            }
        } else if (topic == ITicketEscrow.Burned.selector) {
            assertEq(abi.decode(data, (uint256)), e.balance + e.penalty, "burned");
            (e.balance, e.penalty) = (0, 0);
            e.status = ITicketEscrow.Status.CLOSED;
        } else if (topic == ITicketEscrow.EquivocationProven.selector) {
            (, uint256 burned, uint256 reward) = abi.decode(data, (uint64, uint256, uint256));
            e.penalty -= burned + reward;
        } else if (topic == ITicketEscrow.WithdrawRequested.selector) {
            e.withdrawAt = abi.decode(data, (uint64));
            e.status = ITicketEscrow.Status.WITHDRAWING;
        } else if (topic == ITicketEscrow.WithdrawCancelled.selector) {
            e.withdrawAt = 0;
            e.status = ITicketEscrow.Status.OPEN;
        } else if (topic == ITicketEscrow.Withdrawn.selector) {
            assertEq(abi.decode(data, (uint256)), e.balance + e.penalty + e.earmarked, "withdrawn");
            (e.balance, e.penalty, e.earmarked, e.withdrawAt) = (0, 0, 0, 0);
            e.status = ITicketEscrow.Status.CLOSED;
        } else {
            assertEq(topic, ITicketEscrow.TicketSkipped.selector, "an event this fold does not know");
        }
    }
}
