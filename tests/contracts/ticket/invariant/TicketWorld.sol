// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TicketFixture} from "../TicketFixture.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

/// @notice The people, assets and keys of the stateful tests, and the release condition written a second time: what a
/// claim must answer, from the views alone. Small numbers make the rare frequent: every second ticket wins, and an escrow
/// holds two prizes and a third.
abstract contract TicketWorld is TicketFixture {
    uint256 internal constant ESCROWS = 6; // the first four are open from the start, the others wait for {open}
    uint256 internal constant OPENED = 4;
    uint256 internal constant MERCHANTS = 3; // honest; the last one claims through an operator
    uint256 internal constant SYBILS = 2; // recipients whose r1 the payers know
    uint256 internal constant RHO = 1 << 255; // 1/2
    uint64 internal constant TICKET_CAP = 64;
    uint256 internal constant ADEQUATE_PRIZES = 5; // penalty that honest merchants ask for
    uint64 internal constant LONGEST_LIFE = 24 hours;
    uint64 internal constant CLAIM_MARGIN = 6 hours;

    /// @dev What one claim works on, as the page (ticket.md section 1.2) describes it.
    struct Sim {
        ITicketEscrow.Escrow escrow;
        ITicketEscrow.Pair pair;
        uint256 paid;
        uint256 owed;
        uint256 settled;
        uint256 fromEarmark;
    }

    address[] internal escrowOfKey;
    uint256[] internal keys;
    address[] internal assets;
    address[] internal payers;
    address[] internal merchants;
    address[] internal sybils;
    address[] internal everyone; // whoever may ever have credit, but for the burn address
    address internal operator = makeAddr("operator");

    function setUp() public virtual override {
        super.setUp();
        assets = [NATIVE, address(token)];
        payers = [makeAddr("payer A"), makeAddr("payer B")];
        for (uint256 i; i < MERCHANTS; ++i) {
            merchants.push(makeAddr(string.concat("honest merchant ", vm.toString(i))));
        }
        for (uint256 i; i < SYBILS; ++i) {
            sybils.push(makeAddr(string.concat("sybil ", vm.toString(i))));
        }
        everyone = [stranger, operator, payers[0], payers[1]];
        for (uint256 i; i < MERCHANTS; ++i) {
            everyone.push(merchants[i]);
        }
        for (uint256 i; i < SYBILS; ++i) {
            everyone.push(sybils[i]);
        }
        for (uint256 i; i < everyone.length; ++i) {
            vm.deal(everyone[i], 1000 ether);
            token.mint(everyone[i], 1000 ether);
            vm.prank(everyone[i]);
            token.approve(address(escrows), type(uint256).max);
        }
        for (uint256 i; i < ESCROWS; ++i) {
            (address key, uint256 secret) = makeAddrAndKey(string.concat("escrow ", vm.toString(i)));
            escrowOfKey.push(key);
            keys.push(secret);
        }
        vm.prank(merchants[MERCHANTS - 1]);
        escrows.setOperator(operator, true);
    }

    // ── choices ──

    /// @dev An independent choice in [0, n) for each salt.
    function pick(uint256 seed, string memory salt, uint256 n) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, salt))) % n;
    }

    function payerOf(uint256 e) internal view returns (address) {
        return payers[(e >> 1) & 1];
    }

    function assetOf(uint256 e) internal view returns (address) {
        return assets[e & 1];
    }

    /// @dev Odd numbers, so that a shortfall leaves a part of a prize.
    function prizeOf(uint256 e) internal pure returns (uint256) {
        return 1_000_003 + e;
    }

    function termsOf(uint256 e) internal view returns (ITicketEscrow.Terms memory) {
        return ITicketEscrow.Terms(assetOf(e), prizeOf(e), RHO, TICKET_CAP, ADEQUATE_PRIZES * prizeOf(e) + 7);
    }

    function state(uint256 e) internal view returns (ITicketEscrow.Escrow memory) {
        return escrows.escrowOf(escrowOfKey[e]);
    }

    /// @dev The first escrow at or after a random one that is in `status`; a random one if none is.
    function pickIn(uint256 seed, ITicketEscrow.Status status) internal view returns (uint256) {
        uint256 start = pick(seed, "escrow", ESCROWS);
        for (uint256 i; i < ESCROWS; ++i) {
            uint256 e = (start + i) % ESCROWS;
            if (state(e).status == status) return e;
        }
        return start;
    }

    /// @dev Mostly one in `status`, at times any.
    function pickMostlyIn(uint256 seed, ITicketEscrow.Status status) internal view returns (uint256) {
        return pick(seed, "any", 8) == 0 ? pick(seed, "escrow", ESCROWS) : pickIn(seed, status);
    }

    // ── tickets ──

    function digestOf(address escrow_, address recipient, bytes32 secret, ITicketEscrow.Winner memory w)
        internal
        view
        returns (bytes32)
    {
        ITicketEscrow.Ticket memory t = ITicketEscrow.Ticket(
            escrow_, recipient, commitmentTo(recipient, secret), w.r2, w.winThreshold, w.expiry, w.nonce
        );
        return keccak256(abi.encodePacked(hex"1901", escrows.domainSeparator(), keccak256(abi.encode(TICKET_TYPE, t))));
    }

    function signWinner(uint256 e, address recipient, bytes32 secret, ITicketEscrow.Winner memory w) internal view {
        w.signature = sign(keys[e], digestOf(escrowOfKey[e], recipient, secret, w));
    }

    /// @dev A winner that a payer makes for a sybil at will.
    function groundWinner(uint256 e, address recipient, bytes32 secret, uint64 nonce, uint256 salt)
        internal
        view
        returns (ITicketEscrow.Winner memory w)
    {
        w.winThreshold = RHO;
        w.expiry = uint64(vm.getBlockTimestamp()) + 1 hours;
        w.nonce = nonce;
        bytes32 digest;
        do {
            w.r2 = keccak256(abi.encode("ground", salt++));
            digest = digestOf(escrowOfKey[e], recipient, secret, w);
        } while (drawOf(digest, secret) >= RHO);
        w.signature = sign(keys[e], digest);
    }

    function recoverStrict(bytes32 digest, ITicketEscrow.Signature memory s) internal pure returns (address) {
        if (uint256(s.s) > ORDER / 2) return address(0);
        return ecrecover(digest, s.v, s.r, s.s);
    }

    // ── the release condition, a second time ──

    function load(address escrow_, address recipient) internal view returns (Sim memory sim) {
        sim.escrow = escrows.escrowOf(escrow_);
        sim.pair = escrows.pairOf(escrow_, recipient);
    }

    /// @dev The error that a claim of `w` must revert with or be skipped for; empty if it must be paid.
    function refusal(Sim memory sim, address escrow_, address recipient, bytes32 secret, ITicketEscrow.Winner memory w)
        internal
        view
        returns (bytes memory)
    {
        ITicketEscrow.Status status = sim.escrow.status;
        // A burned escrow still pays its earmarks, a withdrawn one has none left.
        bool pays = status == ITicketEscrow.Status.OPEN || status == ITicketEscrow.Status.WITHDRAWING
            || status == ITicketEscrow.Status.INSOLVENT
            || (status == ITicketEscrow.Status.CLOSED && sim.escrow.earmarked > 0 && sim.pair.earmarkPrizes > 0);
        if (!pays) return abi.encodeWithSelector(ITicketEscrow.EscrowNotPaying.selector, status, 1);
        uint256 nowAt = vm.getBlockTimestamp();
        if (w.expiry < nowAt) return abi.encodeWithSelector(ITicketEscrow.TicketExpired.selector, nowAt, w.expiry);
        if (w.nonce >= sim.escrow.ticketCap) {
            return abi.encodeWithSelector(ITicketEscrow.NonceNotBelowCap.selector, w.nonce, sim.escrow.ticketCap);
        }
        if (w.nonce <= sim.pair.lastNonce) {
            return abi.encodeWithSelector(ITicketEscrow.NonceNotAboveLast.selector, w.nonce, sim.pair.lastNonce);
        }
        if (w.winThreshold > sim.escrow.maxThreshold) {
            return
                abi.encodeWithSelector(
                    ITicketEscrow.ThresholdAboveMax.selector, w.winThreshold, sim.escrow.maxThreshold
                );
        }
        bytes32 digest = digestOf(escrow_, recipient, secret, w);
        uint256 drawn = drawOf(digest, secret);
        if (drawn >= w.winThreshold) {
            return abi.encodeWithSelector(ITicketEscrow.DrawNotBelowThreshold.selector, drawn, w.winThreshold);
        }
        address recovered = recoverStrict(digest, w.signature);
        if (recovered != escrow_) {
            return abi.encodeWithSelector(ITicketEscrow.TicketNotSigned.selector, recovered, escrow_);
        }
        return "";
    }

    /// @dev What paying one winner does.
    function settle(Sim memory sim, uint64 nonce) internal pure {
        uint256 prize = sim.escrow.prize;
        uint256 paid = prize;
        if (sim.pair.earmarkPrizes > 0) {
            sim.pair.earmarkPrizes -= 1;
            sim.escrow.earmarked -= prize;
            sim.fromEarmark += prize;
        } else {
            if (paid > sim.escrow.balance) paid = sim.escrow.balance;
            sim.escrow.balance -= paid;
            sim.escrow.debt += prize - paid;
            sim.owed += prize - paid;
            if (paid < prize) sim.escrow.status = ITicketEscrow.Status.INSOLVENT;
        }
        sim.paid += paid;
        sim.settled += 1;
        sim.pair.lastNonce = nonce;
    }
}
