// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TicketPayerSteps} from "./TicketPayerSteps.sol";
import {IOperators} from "contracts/shared/IOperators.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";
import {Vm} from "forge-std/Vm.sol";

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

    /// @dev A payer hands eight tickets to an honest merchant, which admits, draws and keeps winners.
    function pay(uint256 seed) external atPresent {
        uint256 e = pickMostlyIn(seed, ITicketEscrow.Status.OPEN);
        address m = merchant_(seed);
        if (pick(seed, "earmarked", 2) == 0) {
            (bool found, uint256 with, address favoured) = pickEarmarked(seed, merchants);
            if (found) (e, m) = (with, favoured);
        }
        // In both assets: the neighbour has the same payer and the other asset.
        for (uint256 i; i < 8; ++i) {
            _handOver(uint256(keccak256(abi.encode(seed, i))), i < 5 ? e : e ^ 1, m);
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
        ITicketEscrow.Winner[] memory list = new ITicketEscrow.Winner[](1 + pick(seed, "count", 5));
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
        if (sim.pair.earmarkPrizes != 0 && book[e].status == ITicketEscrow.Status.CLOSED && !book[e].burned) {
            reach("an earmark claimed after its withdrawal");
        }
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
            expected = abi.encodeWithSelector(IOperators.NotOperator.selector, caller, m);
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

    /// @dev One ticket. Nonces arrive out of order, at times below the floor, used, or at the cap.
    function _handOver(uint256 luck, uint256 e, address m) private {
        ITicketEscrow.Winner memory w;
        uint64 base = pick(luck, "old", 6) == 0 ? 0 : floor[e][m];
        w.nonce = base + uint64(pick(luck, "nonce", 10));
        w.expiry = uint64(vm.getBlockTimestamp() + 5 hours + pick(luck, "life", 20 hours));
        w.winThreshold = pick(luck, "price", 8) == 0 ? RHO / 2 : RHO;
        w.r2 = keccak256(abi.encode("r2", luck));
        bytes32 secret = secretOf(e, m);
        signWinner(e, m, secret, w);
        if (!_admits(e, m, w)) {
            refused[Step.PAY] += 1;
            return;
        }
        seen[e][m][w.nonce] = true;
        did[Step.PAY] += 1;
        if (drawOf(digestOf(escrowOfKey[e], m, secret, w), secret) < w.winThreshold) {
            _keep(won[e][m], w, secret);
            reach("an honest ticket that won");
        }
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

    /// @dev Where a sham recipient may get something: its earmark of a closed escrow, the balance beside another's earmark,
    /// its own earmark, or any balance or debt.
    function _pickSham(uint256 seed) private view returns (uint256 e, address sybil) {
        for (uint256 i; i < ESCROWS * SYBILS; ++i) {
            (e, sybil) = (i / SYBILS, sybils[i % SYBILS]);
            // Closed with an earmark: burned, it still pays; withdrawn, the money is gone and only the number is left.
            if (book[e].status != ITicketEscrow.Status.CLOSED) continue;
            if (!book[e].burned && pick(seed, "gone", 2) == 0) continue;
            if (escrows.pairOf(escrowOfKey[e], sybil).earmarkPrizes != 0) return (e, sybil);
        }
        uint256 kind = pick(seed, "sham", 4);
        if (kind < 3) {
            bool found;
            (found, e, sybil) = pickEarmarked(seed, kind == 0 ? sybils : everyone);
            if (found && kind == 0) return (e, sybil);
            if (found) return (e, sybil == sybils[0] ? sybils[1] : sybils[0]);
        }
        e = pickIn(seed, ITicketEscrow.Status(1 + pick(seed, "status", 3))); // open, withdrawing or insolvent
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
