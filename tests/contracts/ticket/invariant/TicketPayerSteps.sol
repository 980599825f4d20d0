// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TicketGhost} from "./TicketGhost.sol";
import {ILedger} from "contracts/shared/ILedger.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

/// @notice The steps of payers and strangers. Each takes one seed, says what the contract must answer, calls, and books.
abstract contract TicketPayerSteps is TicketGhost {
    function open(uint256 seed) external atPresent {
        _open(pickMostlyIn(seed, ITicketEscrow.Status.NONE), pick(seed, "short", 8) == 0);
    }

    function topUp(uint256 seed) external atPresent {
        uint256 e = pick(seed, "escrow", ESCROWS);
        uint256 amount = pick(seed, "amount", prizeOf(e) / 2);
        ITicketEscrow.Escrow memory before = state(e);
        bytes memory expected;
        if (before.status == ITicketEscrow.Status.NONE || before.status == ITicketEscrow.Status.CLOSED) {
            expected = wrongStatus(before.status, ITicketEscrow.Status.OPEN);
        }
        bytes memory data = abi.encodeCall(escrows.topUp, (escrowOfKey[e], amount));
        // An escrow that never was has no asset, so the native one is asked for, but not before the status.
        if (act(Step.TOP_UP, stranger, assetOf(e) == NATIVE ? amount : 0, data, expected)) {
            noteIn(e, amount);
            before.balance += amount;
            assertEq(abi.encode(state(e)), abi.encode(before), "a top-up changes the balance and nothing else");
        }
        observe(Step.TOP_UP, e);
    }

    function raiseCap(uint256 seed) external atPresent {
        uint256 e = pickMostlyIn(seed, ITicketEscrow.Status.OPEN);
        address caller = someone(seed, payerOf(e));
        uint256 amount = pick(seed, "amount", 4) * prizeOf(e);
        ITicketEscrow.Escrow memory before = state(e);
        uint64 cap = before.ticketCap + uint64(pick(seed, "cap", 20));
        bytes memory expected = payerOnly(caller, before, ITicketEscrow.Status.OPEN);
        if (expected.length == 0 && cap == before.ticketCap) {
            expected = abi.encodeWithSelector(
                ITicketEscrow.TicketCapOutOfRange.selector, cap, before.ticketCap + 1, type(uint32).max
            );
        }
        if (expected.length == 0 && amount == 0) {
            expected = abi.encodeWithSelector(ITicketEscrow.PenaltyNotRaised.selector);
        }
        bytes memory data = abi.encodeCall(escrows.raiseCap, (escrowOfKey[e], cap, amount));
        if (act(Step.RAISE_CAP, caller, assetOf(e) == NATIVE ? amount : 0, data, expected)) noteIn(e, amount);
        observe(Step.RAISE_CAP, e);
    }

    function earmark(uint256 seed) external atPresent {
        uint256 e = pickMostlyIn(seed, ITicketEscrow.Status.OPEN);
        address caller = someone(seed, payerOf(e));
        address recipient = pick(seed, "sham", 2) == 0 ? sybils[pick(seed, "sybil", SYBILS)] : merchant_(seed);
        uint32 prizes = pick(seed, "many", 4) == 0 ? uint32(pick(seed, "prizes", 4)) : 1;
        uint64 until = uint64(vm.getBlockTimestamp() + 5 days - pick(seed, "until", 122 hours));
        ITicketEscrow.Escrow memory before = state(e);
        ITicketEscrow.Pair memory pair = escrows.pairOf(escrowOfKey[e], recipient);
        bytes memory expected = payerOnly(caller, before, ITicketEscrow.Status.OPEN);
        uint64 low = uint64(vm.getBlockTimestamp());
        uint64 high = low + 365 days;
        if (pair.earmarkPrizes != 0 && low < pair.earmarkUntil) low = pair.earmarkUntil;
        if (expected.length == 0 && until < low) {
            expected = abi.encodeWithSelector(ITicketEscrow.EarmarkUntilOutOfRange.selector, until, low, high);
        }
        uint256 amount = prizes * prizeOf(e);
        if (expected.length == 0 && before.balance < amount) {
            expected = abi.encodeWithSelector(ITicketEscrow.BalanceTooLow.selector, before.balance, amount);
        }
        act(
            Step.EARMARK,
            caller,
            0,
            abi.encodeCall(escrows.earmark, (escrowOfKey[e], recipient, prizes, until)),
            expected
        );
        observe(Step.EARMARK, e);
    }

    function releaseEarmark(uint256 seed) external atPresent {
        (, uint256 e, address recipient) = pickEarmarked(seed, everyone);
        ITicketEscrow.Escrow memory before = state(e);
        ITicketEscrow.Pair memory pair = escrows.pairOf(escrowOfKey[e], recipient);
        address caller = someone(seed, payerOf(e));
        uint256 releaseAt = uint256(pair.earmarkUntil) + 6 hours;
        if (pick(seed, "wait", 8) == 0 && vm.getBlockTimestamp() <= releaseAt && pair.earmarkPrizes != 0) {
            vm.warp(releaseAt + 1);
        }
        bytes memory expected;
        if (caller != before.payer) {
            expected = abi.encodeWithSelector(ITicketEscrow.NotPayer.selector, caller, before.payer);
        } else if (pair.earmarkPrizes == 0 || before.earmarked == 0) {
            expected = abi.encodeWithSelector(ITicketEscrow.NothingEarmarked.selector, escrowOfKey[e], recipient);
        } else if (vm.getBlockTimestamp() <= releaseAt) {
            expected = abi.encodeWithSelector(ITicketEscrow.EarmarkLive.selector, vm.getBlockTimestamp(), releaseAt);
        }
        bytes memory data = abi.encodeCall(escrows.releaseEarmark, (escrowOfKey[e], recipient));
        if (act(Step.RELEASE_EARMARK, caller, 0, data, expected) && book[e].burned) {
            book[e].moneyOut += uint256(pair.earmarkPrizes) * prizeOf(e);
            reach("an earmark burned after its escrow");
        }
        observe(Step.RELEASE_EARMARK, e);
    }

    function requestWithdraw(uint256 seed) external atPresent {
        uint256 e = pickMostlyIn(seed, ITicketEscrow.Status.OPEN);
        address caller = someone(seed, payerOf(e));
        bytes memory expected = payerOnly(caller, state(e), ITicketEscrow.Status.OPEN);
        bytes memory data = abi.encodeCall(escrows.requestWithdraw, (escrowOfKey[e]));
        if (act(Step.REQUEST_WITHDRAW, caller, 0, data, expected)) book[e].requestedAt = vm.getBlockTimestamp();
        observe(Step.REQUEST_WITHDRAW, e);
    }

    function cancelWithdraw(uint256 seed) external atPresent {
        uint256 e = pickMostlyIn(seed, ITicketEscrow.Status.WITHDRAWING);
        address caller = someone(seed, payerOf(e));
        bytes memory expected = payerOnly(caller, state(e), ITicketEscrow.Status.WITHDRAWING);
        bytes memory data = abi.encodeCall(escrows.cancelWithdraw, (escrowOfKey[e]));
        act(Step.CANCEL_WITHDRAW, caller, 0, data, expected);
        observe(Step.CANCEL_WITHDRAW, e);
    }

    function withdraw(uint256 seed) external atPresent {
        uint256 e = pickMostlyIn(seed, ITicketEscrow.Status.WITHDRAWING);
        address caller = someone(seed, payerOf(e));
        ITicketEscrow.Escrow memory before = state(e);
        uint256 releaseAt = uint256(before.earmarkUntil) + 6 hours;
        if (before.status == ITicketEscrow.Status.WITHDRAWING) _waitFor(seed, before, releaseAt);

        bytes memory expected = payerOnly(caller, before, ITicketEscrow.Status.WITHDRAWING);
        if (expected.length == 0 && vm.getBlockTimestamp() < before.withdrawAt) {
            expected = abi.encodeWithSelector(
                ITicketEscrow.WithdrawTooEarly.selector, vm.getBlockTimestamp(), before.withdrawAt
            );
        } else if (expected.length == 0 && before.earmarked != 0 && vm.getBlockTimestamp() <= releaseAt) {
            expected = abi.encodeWithSelector(ITicketEscrow.EarmarkLive.selector, vm.getBlockTimestamp(), releaseAt);
            reach("a withdrawal stopped by an earmark");
        }
        bytes memory data = abi.encodeCall(escrows.withdraw, (escrowOfKey[e]));
        if (act(Step.WITHDRAW, caller, 0, data, expected)) {
            uint256 amount = before.balance + before.penalty + before.earmarked;
            book[e].moneyOut += amount;
            flow[assetOf(e)].returned += amount;
            if (before.earmarked != 0) reach("a withdrawal with an earmark that was over");
        }
        observe(Step.WITHDRAW, e);
    }

    // ── anyone ──

    function cure(uint256 seed) external atPresent {
        uint256 e = pickMostlyIn(seed, ITicketEscrow.Status.INSOLVENT);
        address curer = pick(seed, "curer", 2) == 0 ? payerOf(e) : stranger;
        (address[] memory creditors, uint256 owed) = _creditors(seed, e);
        uint256 amount = owed;
        if (pick(seed, "short", 8) == 0 && amount != 0) amount -= 1;
        else if (curer == stranger) amount += pick(seed, "surplus", 3);

        ITicketEscrow.Escrow memory before = state(e);
        bytes memory expected;
        if (before.status != ITicketEscrow.Status.INSOLVENT) {
            expected = wrongStatus(before.status, ITicketEscrow.Status.INSOLVENT);
        } else if (vm.getBlockTimestamp() > before.cureBy) {
            expected = abi.encodeWithSelector(ITicketEscrow.CureTooLate.selector, vm.getBlockTimestamp(), before.cureBy);
        } else if (owed == 0) {
            expected = abi.encodeWithSelector(ITicketEscrow.NothingOwed.selector, escrowOfKey[e]);
        } else if (amount < owed) {
            expected = abi.encodeWithSelector(ITicketEscrow.DebtNotCovered.selector, amount, owed);
            reach("a cure that was too little");
        }
        uint256[] memory owedTo = new uint256[](creditors.length);
        for (uint256 i; i < creditors.length; ++i) {
            owedTo[i] = escrows.debtOf(escrowOfKey[e], creditors[i]);
        }
        bytes memory data = abi.encodeCall(escrows.cure, (escrowOfKey[e], creditors, amount));
        if (act(Step.CURE, curer, assetOf(e) == NATIVE ? amount : 0, data, expected)) {
            _noteCure(e, creditors, owedTo, amount, owed);
            reach(before.debt == owed ? "a cure of all debt" : "a cure of a part of the creditors");
        }
        observe(Step.CURE, e);
    }

    function burn(uint256 seed) external atPresent {
        uint256 e = _pickBurnable(seed);
        ITicketEscrow.Escrow memory before = state(e);
        if (
            pick(seed, "wait", 2) == 0 && before.status == ITicketEscrow.Status.INSOLVENT
                && vm.getBlockTimestamp() <= before.cureBy
        ) vm.warp(before.cureBy + 1);
        bytes memory expected;
        if (before.status != ITicketEscrow.Status.INSOLVENT) {
            expected = wrongStatus(before.status, ITicketEscrow.Status.INSOLVENT);
        } else if (vm.getBlockTimestamp() <= before.cureBy) {
            expected =
                abi.encodeWithSelector(ITicketEscrow.BurnTooEarly.selector, vm.getBlockTimestamp(), before.cureBy);
        }
        if (act(Step.BURN, stranger, 0, abi.encodeCall(escrows.burn, (escrowOfKey[e])), expected)) {
            book[e].moneyOut += before.balance + before.penalty;
            book[e].burned = true;
            if (before.earmarked != 0) reach("a burn with an earmark left");
        }
        observe(Step.BURN, e);
    }

    function proveEquivocation(uint256 seed) external atPresent {
        uint256 e = pick(seed, "escrow", ESCROWS);
        address reporter = pick(seed, "reporter", 2) == 0 ? stranger : sybils[0];
        ITicketEscrow.Ticket memory a = _signedOnce(e, merchants[0], "a", uint64(pick(seed, "nonce", TICKET_CAP)));
        ITicketEscrow.Ticket memory b = _signedOnce(e, merchants[pick(seed, "m", MERCHANTS)], "b", a.nonce);
        ITicketEscrow.Signature memory signatureA = sign(keys[e], escrows.ticketDigest(a));
        // Mostly a false accusation, else no penalty would last.
        uint256 kind = pick(seed, "kind", 8);
        if (kind < 2) b.nonce += 1;
        else if (kind < 4) b = a;
        ITicketEscrow.Signature memory signatureB = sign(keys[e], escrows.ticketDigest(b));
        if (kind > 4) signatureB = sign(keys[(e + 1) % ESCROWS], escrows.ticketDigest(b));
        address recovered = recoverStrict(escrows.ticketDigest(b), signatureB);

        ITicketEscrow.Escrow memory before = state(e);
        bytes memory expected;
        if (kind < 4) {
            expected = abi.encodeWithSelector(
                ITicketEscrow.NotEquivocation.selector, escrows.ticketDigest(a), escrows.ticketDigest(b)
            );
        } else if (before.penalty == 0) {
            expected = abi.encodeWithSelector(ITicketEscrow.PenaltyZero.selector, escrowOfKey[e]);
        } else if (recovered != escrowOfKey[e]) {
            expected = abi.encodeWithSelector(ITicketEscrow.WrongSigner.selector, recovered, escrowOfKey[e]);
        }
        bytes memory data = abi.encodeCall(escrows.proveEquivocation, (a, signatureA, b, signatureB));
        if (act(Step.PROVE_EQUIVOCATION, reporter, 0, data, expected)) {
            book[e].moneyOut += before.penalty;
            flow[assetOf(e)].slashed += before.penalty;
            flow[assetOf(e)].rewards += before.penalty / 10;
        }
        observe(Step.PROVE_EQUIVOCATION, e);
    }

    function withdrawCredit(uint256 seed) external atPresent {
        address asset = assets[pick(seed, "asset", assets.length)];
        address account = _pickWithCredit(seed, asset);
        uint256 credit = escrows.creditOf(asset, account);
        uint256 amount = pick(seed, "all", 2) == 0 ? credit : pick(seed, "amount", credit + 2);
        address to = makeAddr("pocket");
        uint256 kind = pick(seed, "kind", 16);
        bytes memory expected;
        if (kind == 0) to = address(escrows);
        if (kind == 1) to = address(0);
        if (kind < 2) expected = abi.encodeWithSelector(ILedger.BadDestination.selector, to);
        else if (amount > credit) expected = abi.encodeWithSelector(ILedger.CreditTooLow.selector, amount, credit);
        uint256 before = _balanceOf(asset, to);
        bytes memory data = abi.encodeCall(escrows.withdrawCredit, (asset, to, amount));
        if (act(Step.WITHDRAW_CREDIT, account, 0, data, expected)) {
            assertEq(_balanceOf(asset, to), before + amount, "credit arrives to the wei");
        }
        observe(Step.WITHDRAW_CREDIT, 0);
    }

    /// @dev Money that the contract never asked for: it must become nobody's.
    function donate(uint256 seed) external atPresent {
        uint256 amount = pick(seed, "amount", 1000);
        address asset = assets[pick(seed, "asset", assets.length)];
        if (asset == NATIVE) {
            vm.deal(address(escrows), address(escrows).balance + amount);
        } else {
            vm.prank(stranger);
            assertTrue(token.transfer(address(escrows), amount));
        }
        flow[asset].donated += amount;
        did[Step.DONATE] += 1;
        observe(Step.DONATE, 0);
    }

    function warp(uint256 seed) external atPresent {
        vm.warp(vm.getBlockTimestamp() + 1 minutes + pick(seed, "time", 5 hours));
        did[Step.WARP] += 1;
        observe(Step.WARP, 0);
    }

    // ── helpers ──

    /// @dev `deposit short by one` is the one way in which an opening with the right signature may fail.
    function _open(uint256 e, bool short) internal {
        ITicketEscrow.Terms memory t = termsOf(e);
        uint256 amount = short ? t.penalty - 1 : t.penalty + 2 * t.prize + t.prize / 3;
        bytes memory expected;
        if (state(e).status != ITicketEscrow.Status.NONE) {
            expected = abi.encodeWithSelector(ITicketEscrow.EscrowExists.selector, escrowOfKey[e]);
        } else if (short) {
            expected = abi.encodeWithSelector(ITicketEscrow.PenaltyNotCovered.selector, amount, t.penalty);
        }
        bytes memory data =
            abi.encodeCall(escrows.open, (escrowOfKey[e], t, amount, possession(keys[e], payerOf(e), t)));
        if (act(Step.OPEN, payerOf(e), t.asset == NATIVE ? amount : 0, data, expected)) noteIn(e, amount);
        observe(Step.OPEN, e);
    }

    function payerOnly(address caller, ITicketEscrow.Escrow memory s, ITicketEscrow.Status needed)
        internal
        pure
        returns (bytes memory)
    {
        if (caller != s.payer) return abi.encodeWithSelector(ITicketEscrow.NotPayer.selector, caller, s.payer);
        return s.status == needed ? bytes("") : wrongStatus(s.status, needed);
    }

    function wrongStatus(ITicketEscrow.Status got, ITicketEscrow.Status needed) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(ITicketEscrow.WrongStatus.selector, got, needed);
    }

    /// @dev The right caller, or now and then a stranger.
    function someone(uint256 seed, address right) internal view returns (address) {
        return pick(seed, "caller", 10) == 0 ? stranger : right;
    }

    function merchant_(uint256 seed) internal view returns (address) {
        return merchants[pick(seed, "merchant", MERCHANTS)];
    }

    /// @dev Mostly an insolvent escrow, with an earmark if there is one.
    function _pickBurnable(uint256 seed) private view returns (uint256) {
        for (uint256 e; e < ESCROWS; ++e) {
            ITicketEscrow.Escrow memory s = state(e);
            if (s.status == ITicketEscrow.Status.INSOLVENT && s.earmarked != 0) return e;
        }
        return pickMostlyIn(seed, ITicketEscrow.Status.INSOLVENT);
    }

    function _waitFor(uint256 seed, ITicketEscrow.Escrow memory s, uint256 releaseAt) private {
        uint256 kind = pick(seed, "wait", 5);
        uint256 at = vm.getBlockTimestamp();
        if (kind == 0) at = s.withdrawAt - 1;
        if (kind == 1) at = s.withdrawAt;
        if (kind > 2) at = releaseAt >= s.withdrawAt ? releaseAt + 1 : s.withdrawAt;
        if (at > vm.getBlockTimestamp()) vm.warp(at);
    }

    /// @dev A pair with an earmark; a random pair if there is none.
    function pickEarmarked(uint256 seed, address[] memory among)
        internal
        view
        returns (bool found, uint256 e, address recipient)
    {
        uint256 pairs = ESCROWS * among.length;
        uint256 start = pick(seed, "pair", pairs);
        for (uint256 i; i < pairs; ++i) {
            uint256 at = (start + i) % pairs;
            (e, recipient) = (at % ESCROWS, among[at / ESCROWS]);
            if (escrows.pairOf(escrowOfKey[e], recipient).earmarkPrizes != 0) return (true, e, recipient);
        }
    }

    function _pickWithCredit(uint256 seed, address asset) private view returns (address account) {
        uint256 start = pick(seed, "account", everyone.length);
        for (uint256 i; i < everyone.length; ++i) {
            account = everyone[(start + i) % everyone.length];
            if (escrows.creditOf(asset, account) != 0) return account;
        }
    }

    /// @dev All creditors, or one and some that are owed nothing; the first of them twice.
    function _creditors(uint256 seed, uint256 e) private view returns (address[] memory list, uint256 owed) {
        bool all = pick(seed, "all", 2) == 0;
        uint256 start = pick(seed, "first", everyone.length);
        list = new address[](everyone.length + 1);
        uint256 n;
        for (uint256 i; i < everyone.length && (all || owed == 0); ++i) {
            list[n] = everyone[(start + i) % everyone.length];
            owed += escrows.debtOf(escrowOfKey[e], list[n++]);
        }
        list[n++] = list[0];
        assembly ("memory-safe") {
            mstore(list, n)
        }
    }

    function _noteCure(uint256 e, address[] memory creditors, uint256[] memory owedTo, uint256 amount, uint256 owed)
        private
    {
        address asset = assetOf(e);
        flow[asset].deposited += amount;
        flow[asset].surplus += amount - owed;
        flow[asset].cured += owed;
        book[e].moneyIn += owed;
        book[e].moneyOut += owed;
        for (uint256 i; i < creditors.length; ++i) {
            // The last repeats the first.
            if (i + 1 < creditors.length) pairBook[escrowOfKey[e]][creditors[i]].paid += owedTo[i];
            assertEq(escrows.debtOf(escrowOfKey[e], creditors[i]), 0, "a cured creditor is owed nothing");
        }
    }

    function _signedOnce(uint256 e, address recipient, string memory r2, uint64 nonce)
        private
        view
        returns (ITicketEscrow.Ticket memory)
    {
        return ITicketEscrow.Ticket(
            escrowOfKey[e],
            recipient,
            commitmentTo(recipient, "one"),
            bytes32(bytes(r2)),
            RHO,
            uint64(vm.getBlockTimestamp()) + 1 hours,
            nonce
        );
    }

    function _balanceOf(address asset, address account) private view returns (uint256) {
        return asset == NATIVE ? account.balance : token.balanceOf(account);
    }
}
