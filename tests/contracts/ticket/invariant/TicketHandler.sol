// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TicketGhost} from "./TicketGhost.sol";
import {ILedger} from "contracts/shared/ILedger.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice The steps of payers and strangers. Each takes one seed, says what the contract must answer, calls, and books.
abstract contract TicketPayerSteps is TicketGhost {
    function open(uint256 seed) external atPresent {
        _open(pickMostlyIn(seed, ITicketEscrow.Status.NONE), pick(seed, "short", 8) == 0);
    }

    function topUp(uint256 seed) external atPresent {
        uint256 e = pick(seed, "escrow", ESCROWS);
        uint256 amount = pick(seed, "amount", prizeOf(e));
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
        uint32 prizes = uint32(pick(seed, "prizes", 4));
        uint64 until = uint64(vm.getBlockTimestamp() + 2 days - pick(seed, "until", 50 hours));
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
        if (pick(seed, "wait", 2) == 0 && vm.getBlockTimestamp() <= releaseAt && pair.earmarkPrizes != 0) {
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
        uint256 e = pickMostlyIn(seed, ITicketEscrow.Status.INSOLVENT);
        ITicketEscrow.Escrow memory before = state(e);
        if (
            pick(seed, "wait", 4) != 0 && before.status == ITicketEscrow.Status.INSOLVENT
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
        uint256 amount = short ? t.penalty - 1 : t.penalty + 3 * t.prize + t.prize / 3;
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

    function _waitFor(uint256 seed, ITicketEscrow.Escrow memory s, uint256 releaseAt) private {
        uint256 kind = pick(seed, "wait", 6);
        uint256 at = vm.getBlockTimestamp();
        if (kind == 0) at = s.withdrawAt - 1;
        if (kind == 1) at = s.withdrawAt;
        if (kind == 2) at = releaseAt >= s.withdrawAt ? releaseAt + 1 : s.withdrawAt;
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

    /// @dev All creditors or some, with one of them twice and some that are owed nothing.
    function _creditors(uint256 seed, uint256 e) private view returns (address[] memory list, uint256 owed) {
        bool all = pick(seed, "all", 3) != 0;
        list = new address[](everyone.length + 1);
        uint256 n;
        for (uint256 i; i < everyone.length; ++i) {
            if (!all && pick(seed, everyone[i] == sybils[0] ? "sybil" : vm.toString(i), 2) == 0) continue;
            list[n++] = everyone[i];
            owed += escrows.debtOf(escrowOfKey[e], everyone[i]);
        }
        if (n != 0) list[n++] = list[0];
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

/// @notice The steps of merchants, honest and sham. Honest ones follow the admission rule of ticket.md section 1.3.
contract TicketHandler is TicketPayerSteps {
    /// @dev An accepted winner that is not claimed yet, with the secret it needs.
    struct Won {
        ITicketEscrow.Winner winner;
        bytes32 r1;
    }

    mapping(uint256 e => mapping(address merchant => Won[])) internal won; // rising nonces
    mapping(uint256 e => mapping(address merchant => uint64)) internal floor; // highest nonce in any claim submitted
    mapping(uint256 e => mapping(address merchant => mapping(uint64 nonce => bool))) internal seen;
    mapping(uint256 e => mapping(address merchant => uint256)) internal session;
    ITicketEscrow.Winner internal lastPaid;
    uint256 internal lastPaidEscrow;
    address internal lastPaidMerchant;
    bytes32 internal lastPaidR1;
    bytes32 internal skipped; // running hash of the TicketSkipped events to expect

    constructor() {
        setUp();
        nowAt = vm.getBlockTimestamp();
        for (uint256 e; e < OPENED; ++e) {
            _open(e, false);
        }
    }

    /// @dev A payer hands six tickets to an honest merchant, which admits, draws and keeps winners.
    function pay(uint256 seed) external atPresent {
        uint256 e = pickMostlyIn(seed, ITicketEscrow.Status.OPEN);
        address m = merchant_(seed);
        if (pick(seed, "earmarked", 2) == 0) {
            (bool found, uint256 with, address favoured) = pickEarmarked(seed, merchants);
            if (found) (e, m) = (with, favoured);
        }
        for (uint256 i; i < 6; ++i) {
            uint256 luck = uint256(keccak256(abi.encode(seed, i)));
            ITicketEscrow.Winner memory w;
            // Nonces arrive out of order, at times below the floor, used, or at the cap.
            uint64 base = pick(luck, "old", 6) == 0 ? 0 : floor[e][m];
            w.nonce = base + uint64(pick(luck, "nonce", 10));
            w.expiry = uint64(vm.getBlockTimestamp() + 5 hours + pick(luck, "life", 20 hours));
            w.winThreshold = pick(luck, "price", 8) == 0 ? RHO / 2 : RHO;
            w.r2 = keccak256(abi.encode("r2", luck));
            bytes32 secret = secretOf(e, m);
            signWinner(e, m, secret, w);
            if (!_admits(e, m, w)) {
                refused[Step.PAY] += 1;
                continue;
            }
            seen[e][m][w.nonce] = true;
            did[Step.PAY] += 1;
            if (drawOf(digestOf(escrowOfKey[e], m, secret, w), secret) < w.winThreshold) {
                _keep(won[e][m], w, secret);
                reach("an honest ticket that won");
            }
        }
        observe(Step.PAY, e);
    }

    /// @dev A merchant claims its accepted winner with the lowest nonce.
    function claim(uint256 seed) external atPresent {
        (uint256 e, address m) = _pickWinner(seed);
        _dropExpired(e, m);
        if (won[e][m].length == 0) return observe(Step.CLAIM, e);
        _closeSession(e, m);
        Won memory first = won[e][m][0];
        Sim memory sim = load(escrowOfKey[e], m);
        bytes memory expected = refusal(sim, escrowOfKey[e], m, first.r1, first.winner);
        if (expected.length == 0) settle(sim, first.winner.nonce);
        else if (!book[e].burned) acceptedButRefused += 1;

        uint256 credit = escrows.creditOf(assetOf(e), m);
        vm.recordLogs();
        bytes memory data = abi.encodeCall(escrows.claim, (m, escrowOfKey[e], first.r1, first.winner));
        act(Step.CLAIM, _claimer(m), 0, data, expected);
        noteClaims(vm.getRecordedLogs());
        assertEq(escrows.creditOf(assetOf(e), m), credit + sim.paid, "a claim credits what it must");
        _afterClaim(e, m, sim);
        _drop(e, m, 1, expected.length == 0);
        observe(Step.CLAIM, e);
    }

    /// @dev A merchant claims all it has, from every escrow, with bad tickets in between that must hurt nobody.
    function claimBatch(uint256 seed) external atPresent {
        address m = merchant_(seed);
        ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](ESCROWS * 8);
        Sim[] memory sims = new Sim[](ESCROWS);
        uint256 n;
        skipped = 0;
        for (uint256 e; e < ESCROWS; ++e) {
            _dropExpired(e, m);
            sims[e] = load(escrowOfKey[e], m);
            n = _groupsOf(seed, e, m, sims[e], groups, n);
        }
        assembly ("memory-safe") {
            mstore(groups, n)
        }
        uint256[2] memory credit = [escrows.creditOf(assets[0], m), escrows.creditOf(assets[1], m)];

        vm.recordLogs();
        act(Step.CLAIM_BATCH, _claimer(m), 0, abi.encodeCall(escrows.claimBatch, (m, groups)), "");
        _checkBatch(m, credit);
        for (uint256 e; e < ESCROWS; ++e) {
            _afterClaim(e, m, sims[e]);
            _drop(e, m, won[e][m].length, sims[e].settled != 0);
        }
        observe(Step.CLAIM_BATCH, 0);
    }

    /// @dev A payer makes winners for its own sham recipient, at will.
    function selfDeal(uint256 seed) external atPresent {
        (uint256 e, address sybil) = _pickSham(seed);
        bytes32 secret = "a secret that the payer knows";
        Sim memory sim = load(escrowOfKey[e], sybil);
        uint64 nonce = sim.pair.lastNonce;
        ITicketEscrow.Winner[] memory list = new ITicketEscrow.Winner[](1 + pick(seed, "count", 4));
        skipped = 0;
        for (uint256 i; i < list.length; ++i) {
            list[i] = groundWinner(e, sybil, secret, ++nonce, seed >> 8);
            _simulate(sim, e, sybil, secret, list[i]);
        }
        ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](1);
        groups[0] = group(escrowOfKey[e], secret, list);
        uint256[2] memory credit = [escrows.creditOf(assets[0], sybil), escrows.creditOf(assets[1], sybil)];

        vm.recordLogs();
        act(Step.SELF_DEAL, sybil, 0, abi.encodeCall(escrows.claimBatch, (sybil, groups)), "");
        _checkBatch(sybil, credit);
        if (sim.settled != 0) reach("a sybil paid itself");
        _afterClaim(e, sybil, sim);
        observe(Step.SELF_DEAL, e);
    }

    /// @dev Strangers and payers claim an honest merchant's winner, and merchants claim what was paid or never won.
    function claimUnasked(uint256 seed) external atPresent {
        (uint256 e, address m) = _pickWinner(seed);
        ITicketEscrow.Winner memory w;
        bytes32 secret;
        address caller;
        bytes memory expected;
        if (won[e][m].length != 0 && pick(seed, "kind", 2) == 0) {
            (w, secret) = (won[e][m][0].winner, won[e][m][0].r1);
            caller = pick(seed, "who", 2) == 0 ? stranger : payerOf(e);
            expected = abi.encodeWithSelector(ITicketEscrow.NotOperator.selector, caller, m);
        } else if (lastPaid.nonce != 0) {
            (e, m, w, secret) = (lastPaidEscrow, lastPaidMerchant, lastPaid, lastPaidR1);
            caller = _claimer(m);
            expected = refusal(load(escrowOfKey[e], m), escrowOfKey[e], m, secret, w);
            assertGt(expected.length, 0, "I3: a paid ticket is not payable");
            reach("a paid ticket claimed again");
        } else {
            return;
        }
        bytes memory data = abi.encodeCall(escrows.claim, (m, escrowOfKey[e], secret, w));
        act(Step.CLAIM_UNASKED, caller, 0, data, expected);
        observe(Step.CLAIM_UNASKED, e);
    }

    /// @dev The last merchant changes its mind about its operator, and claims itself meanwhile.
    function setOperator(uint256 seed) external atPresent {
        bool approved = pick(seed, "approved", 3) != 0;
        act(
            Step.SET_OPERATOR,
            merchants[MERCHANTS - 1],
            0,
            abi.encodeCall(escrows.setOperator, (operator, approved)),
            ""
        );
        observe(Step.SET_OPERATOR, 0);
    }

    // ── what the invariants read ──

    function report() external view returns (Report memory r) {
        for (uint256 a; a < assets.length; ++a) {
            r.flows[a] = flow[assets[a]];
        }
        r.books = book;
        r.pairs = new PairBook[][](ESCROWS);
        for (uint256 e; e < ESCROWS; ++e) {
            r.pairs[e] = new PairBook[](everyone.length);
            for (uint256 i; i < everyone.length; ++i) {
                r.pairs[e][i] = pairBook[escrowOfKey[e]][everyone[i]];
            }
        }
        r.settledTwice = settledTwice;
        r.payerPaidOutOfTurn = payerPaidOutOfTurn;
        r.movedOffTable = movedOffTable;
        r.acceptedButRefused = acceptedButRefused;
        r.unclaimable = _unclaimable();
    }

    /// @dev Accepted, unexpired winners that the contract would refuse now, though their escrow was not burned.
    function _unclaimable() private view returns (uint256 count) {
        for (uint256 e; e < ESCROWS; ++e) {
            if (book[e].burned) continue;
            for (uint256 i; i < MERCHANTS; ++i) {
                Won[] storage list = won[e][merchants[i]];
                if (list.length == 0) continue;
                Sim memory sim = load(escrowOfKey[e], merchants[i]);
                for (uint256 k; k < list.length; ++k) {
                    if (list[k].winner.expiry < nowAt) continue;
                    if (
                        sim.escrow.status == ITicketEscrow.Status.CLOSED || list[k].winner.nonce <= sim.pair.lastNonce
                            || list[k].winner.nonce >= sim.escrow.ticketCap
                            || list[k].winner.winThreshold > sim.escrow.maxThreshold
                    ) ++count;
                }
            }
        }
    }

    /// @dev Claims every accepted winner that has not expired, as a run's last step; a refusal that nothing excuses shows
    /// in {acceptedButRefused}.
    function claimAll() external atPresent {
        for (uint256 i; i < MERCHANTS; ++i) {
            for (uint256 e; e < ESCROWS; ++e) {
                _dropExpired(e, merchants[i]);
                Won[] storage list = won[e][merchants[i]];
                for (uint256 k; k < list.length; ++k) {
                    vm.prank(merchants[i]);
                    try escrows.claim(merchants[i], escrowOfKey[e], list[k].r1, list[k].winner) {}
                    catch {
                        if (!book[e].burned) acceptedButRefused += 1;
                    }
                }
            }
        }
    }

    function actors() external view returns (address[] memory, address[] memory, address[] memory) {
        return (everyone, escrowOfKey, assets);
    }

    function system() external view returns (ITicketEscrow, address) {
        return (ITicketEscrow(address(escrows)), address(token));
    }

    // ── the honest merchant ──

    function secretOf(uint256 e, address m) internal view returns (bytes32) {
        return keccak256(abi.encode("session", e, m, session[e][m]));
    }

    /// @dev ticket.md section 1.3, rules 1 and 2. (3 and 4, signature and draw, hold or are drawn by the caller.)
    function _admits(uint256 e, address m, ITicketEscrow.Winner memory w) private view returns (bool) {
        ITicketEscrow.Escrow memory s = state(e);
        ITicketEscrow.Pair memory pair = escrows.pairOf(escrowOfKey[e], m);
        uint256 at = vm.getBlockTimestamp();
        if (seen[e][m][w.nonce] || w.nonce <= floor[e][m] || w.nonce >= s.ticketCap) return false;
        if (w.expiry < at + CLAIM_MARGIN || w.expiry > at + LONGEST_LIFE || w.winThreshold != RHO) return false;
        bool closing = s.status == ITicketEscrow.Status.WITHDRAWING;
        if (s.status != ITicketEscrow.Status.OPEN && !closing) return false;
        if (closing && s.withdrawAt < w.expiry + CLAIM_MARGIN) return false;
        if (s.penalty < ADEQUATE_PRIZES * s.prize) return false;
        uint256 wins = 1 + won[e][m].length;
        return s.balance >= s.prize * wins || (pair.earmarkPrizes >= wins && pair.earmarkUntil >= w.expiry);
    }

    /// @dev Inserts in rising nonce order.
    function _keep(Won[] storage list, ITicketEscrow.Winner memory w, bytes32 secret) private {
        list.push(Won(w, secret));
        for (uint256 i = list.length - 1; i != 0 && list[i - 1].winner.nonce > w.nonce; --i) {
            Won memory other = list[i - 1];
            list[i - 1] = Won(w, secret);
            list[i] = other;
        }
    }

    function _dropExpired(uint256 e, address m) private {
        Won[] storage list = won[e][m];
        uint256 kept;
        for (uint256 i; i < list.length; ++i) {
            if (list[i].winner.expiry < vm.getBlockTimestamp()) {
                reach("a winner that its merchant let expire");
            } else {
                if (kept != i) list[kept] = list[i];
                ++kept;
            }
        }
        while (list.length != kept) list.pop();
    }

    /// @dev Removes the lowest `count` winners, which a claim has carried.
    function _drop(uint256 e, address m, uint256 count, bool paid) private {
        Won[] storage list = won[e][m];
        if (count == 0) return;
        if (paid) {
            (lastPaid, lastPaidR1) = (list[count - 1].winner, list[count - 1].r1);
            (lastPaidEscrow, lastPaidMerchant) = (e, m);
        }
        floor[e][m] = list[count - 1].winner.nonce;
        for (uint256 i; i + count < list.length; ++i) {
            list[i] = list[i + count];
        }
        for (uint256 i; i < count; ++i) {
            list.pop();
        }
    }

    /// @dev Nothing more is accepted under a commitment whose r1 a claim is about to show.
    function _closeSession(uint256 e, address m) private {
        session[e][m] += 1;
    }

    function _claimer(address m) private returns (address) {
        if (!escrows.isOperator(m, operator)) return m;
        reach("a claim by an operator");
        return operator;
    }

    function _pickWinner(uint256 seed) private view returns (uint256 e, address m) {
        uint256 start = pick(seed, "pair", ESCROWS * MERCHANTS);
        for (uint256 i; i < ESCROWS * MERCHANTS; ++i) {
            uint256 at = (start + i) % (ESCROWS * MERCHANTS);
            (e, m) = (at % ESCROWS, merchants[at / ESCROWS]);
            if (won[e][m].length != 0) return (e, m);
        }
    }

    /// @dev Where a sham recipient may get something: an earmark, even of a burned escrow, or an open balance.
    function _pickSham(uint256 seed) private view returns (uint256 e, address sybil) {
        bool found;
        (found, e, sybil) = pickEarmarked(seed, sybils);
        if (found && (book[e].burned || pick(seed, "earmarked", 2) == 0)) return (e, sybil);
        bool closing = pick(seed, "closing", 3) == 0;
        e = pickIn(seed, closing ? ITicketEscrow.Status.WITHDRAWING : ITicketEscrow.Status.OPEN);
        sybil = sybils[pick(seed, "sybil", SYBILS)];
    }

    // ── batches ──

    /// @dev Adds the groups of one escrow: accepted winners, one group per secret in a row, with bad tickets between them;
    /// and where there is nothing to claim, at times a group that is bad throughout.
    function _groupsOf(
        uint256 seed,
        uint256 e,
        address m,
        Sim memory sim,
        ITicketEscrow.Group[] memory groups,
        uint256 n
    ) private returns (uint256) {
        Won[] memory list = won[e][m];
        if (list.length != 0) _closeSession(e, m);
        uint256 next;
        while (next < list.length) {
            bytes32 secret = list[next].r1;
            uint256 end = next;
            while (end < list.length && list[end].r1 == secret) ++end;
            ITicketEscrow.Winner[] memory winners_ = new ITicketEscrow.Winner[](2 * (end - next));
            for (uint256 i; i < winners_.length; i += 2) {
                Won memory good = list[next + i / 2];
                bool badFirst = pick(seed, vm.toString(i), 2) == 0;
                (uint256 b, uint256 g) = badFirst ? (i, i + 1) : (i + 1, i);
                winners_[g] = good.winner;
                winners_[b] = _spoil(uint256(keccak256(abi.encode(seed, e, i))), e, m, secret, good.winner);
                if (badFirst) _simulate(sim, e, m, secret, winners_[b]);
                if (!_simulate(sim, e, m, secret, good.winner) && !book[e].burned) acceptedButRefused += 1;
                if (!badFirst) _simulate(sim, e, m, secret, winners_[b]);
            }
            groups[n++] = group(escrowOfKey[e], secret, winners_);
            next = end;
        }
        if (list.length == 0 && pick(seed, string.concat("bad", vm.toString(e)), 4) == 0) {
            ITicketEscrow.Winner[] memory winners_ = new ITicketEscrow.Winner[](1);
            winners_[0].nonce = uint64(seed);
            winners_[0].expiry = uint64(vm.getBlockTimestamp());
            _simulate(sim, e, m, "nothing", winners_[0]);
            groups[n++] = group(escrowOfKey[e], "nothing", winners_);
        }
        return n;
    }

    /// @dev A ticket near a good one that must not be paid beside it: its nonce is too low, too high or its own; or the
    /// ticket is too old, wins too often, or is not what the escrow key signed.
    function _spoil(uint256 luck, uint256 e, address m, bytes32 secret, ITicketEscrow.Winner memory good)
        private
        view
        returns (ITicketEscrow.Winner memory w)
    {
        ITicketEscrow.Signature memory s = good.signature;
        w = ITicketEscrow.Winner(
            good.r2, good.winThreshold, good.expiry, good.nonce, ITicketEscrow.Signature(s.r, s.s, s.v)
        );
        uint256 kind = pick(luck, "bad", 7);
        if (kind == 0) w.signature.v = w.signature.v == 27 ? 28 : 27;
        if (kind == 1) {
            w.signature = ITicketEscrow.Signature(
                good.signature.r, bytes32(ORDER - uint256(good.signature.s)), good.signature.v == 27 ? 28 : 27
            );
        }
        if (kind == 2) w.expiry = uint64(vm.getBlockTimestamp()) - 1;
        if (kind == 3) w.nonce = state(e).ticketCap + uint64(luck % 3);
        if (kind == 4) w.nonce = 0;
        if (kind == 5) w.winThreshold = RHO + 1 + (luck >> 2);
        if (kind == 6) w.r2 = keccak256(abi.encode(luck));
        if (kind > 1 && kind < 6) signWinner(e, m, secret, w); // well signed, and yet not payable
    }

    /// @dev Moves the expectation by one ticket of a batch; false if it is to be skipped.
    function _simulate(Sim memory sim, uint256 e, address m, bytes32 secret, ITicketEscrow.Winner memory w)
        private
        returns (bool paid)
    {
        bytes memory reason = refusal(sim, escrowOfKey[e], m, secret, w);
        if (reason.length == 0) {
            settle(sim, w.nonce);
            return true;
        }
        // selector, got, limit
        bytes32 topics = keccak256(abi.encode(escrowOfKey[e], m));
        skipped = keccak256(abi.encode(skipped, topics, w.nonce, reason));
    }

    /// @dev The batch said of every ticket what was expected of it, and credited what its events say.
    function _checkBatch(address m, uint256[2] memory credit) private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        bytes32 got;
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != ITicketEscrow.TicketSkipped.selector) continue;
            (uint64 nonce, bytes4 reason, uint256 a, uint256 b) =
                abi.decode(logs[i].data, (uint64, bytes4, uint256, uint256));
            bytes32 topics = keccak256(abi.encode(logs[i].topics[1], logs[i].topics[2]));
            got = keccak256(abi.encode(got, topics, nonce, abi.encodeWithSelector(reason, a, b)));
            reach("a bad ticket skipped in a batch");
        }
        assertEq(got, skipped, "a batch skips what it must, and says why");
        (uint256 native, uint256 erc20) = noteClaims(logs);
        if (native != 0 && erc20 != 0) reach("a batch paid in two assets");
        assertEq(escrows.creditOf(assets[0], m), credit[0] + native, "a batch credits what its events say");
        assertEq(escrows.creditOf(assets[1], m), credit[1] + erc20, "a batch credits what its events say");
    }

    /// @dev The escrow and the pair are what the second writing of the rules says.
    function _afterClaim(uint256 e, address m, Sim memory sim) private view {
        ITicketEscrow.Escrow memory s = state(e);
        ITicketEscrow.Pair memory pair = escrows.pairOf(escrowOfKey[e], m);
        assertEq(uint256(s.status), uint256(sim.escrow.status), "status after a claim");
        assertEq(s.balance, sim.escrow.balance, "balance after a claim");
        assertEq(s.earmarked, sim.escrow.earmarked, "earmarks after a claim");
        assertEq(s.debt, sim.escrow.debt, "debt after a claim");
        assertEq(s.penalty, sim.escrow.penalty, "a claim leaves the penalty");
        assertEq(pair.lastNonce, sim.pair.lastNonce, "last nonce after a claim");
        if (s.earmarked != 0) assertEq(pair.earmarkPrizes, sim.pair.earmarkPrizes, "earmark after a claim");
    }
}
