// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ILedger} from "../shared/ILedger.sol";
import {IOperators} from "../shared/IOperators.sol";

/// @title ITicketEscrow
/// @notice MICROPAY1 of Pass & shelat (CCS 2015, section 2.1) with one escrow for any number of merchants. A payer funds
/// an escrow; each payment is a signed lottery ticket; a ticket wins with probability `winThreshold / 2^256` and then pays
/// one `prize`; winners are claimed here.
///
/// ```text
///            requestWithdraw            withdraw (after the delay)
///   OPEN ───────────────────▶ WITHDRAWING ───────────────────────▶ CLOSED
///    ▲ ▲ ◀─────────────────────   │                                  ▲
///    │ │      cancelWithdraw      │ claim finds too little           │
///    │ │                          ▼                                  │
///    │ └────────────────────── INSOLVENT ────────────────────────────┘
///    │        cure (all debt)     ▲         burn (after cureBy)
///    └──────── claim finds ───────┘
///              too little
/// ```
///
/// Assumptions, for safety:
/// - The escrow key signs no two tickets with one nonce, and its holder keeps it secret. Who has the key can spend the
///   balance by winning tickets to itself; it can never make a withdrawal.
/// - A merchant reveals `r1` only by claiming, and accepts nothing more under the commitment once it has.
/// - Merchants accept a ticket only while the penalty is at least `prize` times the wins that `ticketCap` tickets may have
///   (see `protocol::ticket::odds`): that makes draining an escrow against honest winners a loss. This contract does not
///   judge adequacy.
/// - Block time is honest within minutes; the delays are days.
/// For liveness:
/// - A claim enters the chain within the longest ticket life and claim margin, together at most {WITHDRAW_DELAY}.
/// - Amounts are atomic units and fit 96 bits; times are Unix seconds.
interface ITicketEscrow is ILedger, IOperators {
    // ───────────────────────────── Types ─────────────────────────────

    /// @notice Life of an escrow. `NONE`: no such key. `CLOSED` is final; the key never opens again.
    enum Status {
        NONE,
        OPEN,
        WITHDRAWING,
        INSOLVENT,
        CLOSED
    }

    /// @notice One payment as signed by the escrow key (EIP-712). `expiry` is the last second at which it can be claimed.
    struct Ticket {
        address escrow;
        address recipient;
        bytes32 commitment;
        bytes32 r2;
        uint256 winThreshold;
        uint64 expiry;
        uint64 nonce;
    }

    /// @notice What a recipient commits to; the EIP-712 digest of this is a ticket's `commitment`.
    struct CoinCommitment {
        address recipient;
        bytes32 r1;
    }

    /// @notice What the escrow key signs to prove that the payer holds it (EIP-712).
    struct Opening {
        address escrow;
        address payer;
        address asset;
        uint256 prize;
        uint256 maxThreshold;
        uint64 ticketCap;
        uint256 penalty;
    }

    /// @notice What a payer chooses at opening.
    /// @param asset Token, or the zero address for the native asset.
    /// @param prize What a winner pays, atomic units.
    /// @param maxThreshold Highest `winThreshold` a ticket may have; a multiple of {THRESHOLD_UNIT}.
    /// @param ticketCap Nonces of payable tickets are below this; nonce 0 is never payable.
    /// @param penalty The part of the deposit that is burned if the escrow cheats or stays insolvent.
    struct Terms {
        address asset;
        uint256 prize;
        uint256 maxThreshold;
        uint64 ticketCap;
        uint256 penalty;
    }

    /// @notice A secp256k1 signature with `s` in the lower half and `v` 27 or 28. Three words, so that no other encoding
    /// of a signature exists on chain.
    struct Signature {
        bytes32 r;
        bytes32 s;
        uint8 v;
    }

    /// @notice The fields of a winning ticket that its group does not already say, with its signature.
    struct Winner {
        bytes32 r2;
        uint256 winThreshold;
        uint64 expiry;
        uint64 nonce;
        Signature signature;
    }

    /// @notice Winners of one escrow under one commitment, in rising nonce order.
    struct Group {
        address escrow;
        bytes32 r1;
        Winner[] winners;
    }

    /// @notice An escrow as this contract knows it. See {Terms}; the rest:
    /// @param balance Shared balance that winners are paid from.
    /// @param earmarked Money set aside for single recipients, outside `balance`.
    /// @param earmarkUntil Latest `until` of any earmark ever made.
    /// @param withdrawAt When {withdraw} becomes possible; 0 unless `WITHDRAWING`.
    /// @param cureBy Last second for {cure}; 0 unless `INSOLVENT` or burned.
    /// @param debt What winners are owed beyond the balance; above 0 exactly while `INSOLVENT`, and kept after a burn.
    struct Escrow {
        address payer;
        address asset;
        uint256 balance;
        uint256 penalty;
        uint256 prize;
        uint256 maxThreshold;
        uint64 ticketCap;
        uint64 withdrawAt;
        uint64 cureBy;
        uint256 debt;
        uint256 earmarked;
        uint64 earmarkUntil;
        Status status;
    }

    /// @notice What is kept per escrow and recipient.
    /// @param lastNonce Highest nonce paid; only higher nonces can still be claimed.
    /// @param earmarkPrizes Prizes set aside for this recipient alone.
    /// @param earmarkUntil The payer cannot take them back before {EARMARK_MARGIN} after this.
    struct Pair {
        uint64 lastNonce;
        uint32 earmarkPrizes;
        uint64 earmarkUntil;
    }

    // ───────────────────────────── Events ─────────────────────────────
    // Together they rebuild every escrow and pair without reading state.

    /// @notice A payer opened an escrow.
    event Opened(
        address indexed escrow,
        address indexed payer,
        address indexed asset,
        uint256 prize,
        uint256 maxThreshold,
        uint64 ticketCap,
        uint256 balance,
        uint256 penalty
    );
    /// @notice `amount` was added to the shared balance.
    event ToppedUp(address indexed escrow, address indexed from, uint256 amount);
    /// @notice The cap is now `ticketCap` and the penalty `penalty`.
    event CapRaised(address indexed escrow, uint64 ticketCap, uint256 penalty);
    /// @notice `prizes` more were set aside for `recipient`; all of its earmark now holds until `until`.
    event Earmarked(address indexed escrow, address indexed recipient, uint32 prizes, uint64 until);
    /// @notice What was left of an expired earmark went back to the shared balance, or was burned with a burned escrow.
    event EarmarkReleased(address indexed escrow, address indexed recipient, uint32 prizes);
    /// @notice A winner was settled with one prize: `fromEarmark` of it credited from the earmark, `owed` recorded as debt,
    /// and the rest credited from the shared balance.
    event Claimed(address indexed escrow, address indexed recipient, uint64 nonce, uint256 fromEarmark, uint256 owed);
    /// @notice A ticket of a batch was left out. `reason` is the selector of the error that {claim} reverts with, `got` and
    /// `limit` its values.
    event TicketSkipped(
        address indexed escrow, address indexed recipient, uint64 nonce, bytes4 reason, uint256 got, uint256 limit
    );
    /// @notice A claim found too little. The debt must be cured by `cureBy`; a withdrawal under way is cancelled.
    event BecameInsolvent(address indexed escrow, uint64 cureBy);
    /// @notice `creditor` got the `amount` it was owed. `debt` is what remains; at 0 the escrow is `OPEN` again.
    event Cured(address indexed escrow, address indexed creditor, uint256 amount, uint256 debt);
    /// @notice An insolvent escrow was closed and `amount` (penalty and leftover balance) burned.
    event Burned(address indexed escrow, uint256 amount);
    /// @notice Two tickets with one nonce: the penalty is gone, `reward` of it to `reporter`, the rest burned.
    event EquivocationProven(
        address indexed escrow, address indexed reporter, uint64 nonce, uint256 burned, uint256 reward
    );
    /// @notice The payer may withdraw at `withdrawAt`.
    event WithdrawRequested(address indexed escrow, uint64 withdrawAt);
    /// @notice The payer changed its mind.
    event WithdrawCancelled(address indexed escrow);
    /// @notice The escrow was closed and `amount` credited to its payer.
    event Withdrawn(address indexed escrow, address indexed payer, uint256 amount);

    // ───────────────────────────── Errors ─────────────────────────────

    /// @notice A key opens one escrow, once, for ever.
    error EscrowExists(address escrow);
    /// @notice The step is not possible in the escrow's status.
    error WrongStatus(Status got, Status needed);
    /// @notice Only the escrow's payer may.
    error NotPayer(address caller, address payer);
    /// @notice A signature is of another key; `recovered` is 0 where it is malformed or malleable.
    error WrongSigner(address recovered, address escrow);
    /// @notice A prize of nothing buys nothing.
    error PrizeZero();
    /// @notice A threshold bound is kept in steps of {THRESHOLD_UNIT}, and is not 0.
    error ThresholdNotMultiple(uint256 got, uint256 unit);
    /// @notice The cap is beyond what this contract counts, or does not rise.
    error TicketCapOutOfRange(uint64 got, uint64 low, uint64 high);
    /// @notice The deposit does not cover the penalty.
    error PenaltyNotCovered(uint256 received, uint256 penalty);
    /// @notice A higher cap needs more penalty.
    error PenaltyNotRaised();
    /// @notice The shared balance is too small.
    error BalanceTooLow(uint256 balance, uint256 needed);
    /// @notice An earmark's end is in the past, before the end promised earlier, or beyond {MAX_EARMARK}.
    error EarmarkUntilOutOfRange(uint64 got, uint64 low, uint64 high);
    /// @notice There is no earmark to release.
    error NothingEarmarked(address escrow, address recipient);
    /// @notice An earmark is still promised.
    error EarmarkLive(uint256 nowAt, uint256 releaseAt);
    /// @notice The delay of a withdrawal is not over.
    error WithdrawTooEarly(uint256 nowAt, uint256 withdrawAt);
    /// @notice The cure period is over.
    error CureTooLate(uint256 nowAt, uint256 cureBy);
    /// @notice The cure period is not over.
    error BurnTooEarly(uint256 nowAt, uint256 cureBy);
    /// @notice The listed creditors are owed nothing.
    error NothingOwed(address escrow);
    /// @notice The payment is smaller than what the listed creditors are owed.
    error DebtNotCovered(uint256 received, uint256 owed);
    /// @notice The two tickets have different nonces or escrows, or are one and the same.
    error NotEquivocation(bytes32 digestA, bytes32 digestB);
    /// @notice There is no penalty (left) to slash.
    error PenaltyZero(address escrow);

    // Reasons for refusing one winner. All have the shape (got, limit), so that {TicketSkipped} can carry any of them.

    /// @notice No such escrow, or it is closed and nothing is earmarked. Values are {Status} numbers.
    error EscrowNotPaying(uint256 got, uint256 needed);
    /// @notice The ticket's time is over.
    error TicketExpired(uint256 nowAt, uint256 expiry);
    /// @notice The nonce is not below the cap.
    error NonceNotBelowCap(uint256 nonce, uint256 ticketCap);
    /// @notice The nonce, or a higher one, was paid.
    error NonceNotAboveLast(uint256 nonce, uint256 lastNonce);
    /// @notice The ticket would win more often than the escrow allows.
    error ThresholdAboveMax(uint256 winThreshold, uint256 maxThreshold);
    /// @notice The ticket does not win.
    error DrawNotBelowThreshold(uint256 draw, uint256 winThreshold);
    /// @notice The escrow key did not sign this ticket with this `r1` and recipient. Values are addresses.
    error TicketNotSigned(uint256 recovered, uint256 escrow);

    // ───────────────────────────── Constants ─────────────────────────────

    /// @notice Seconds between {requestWithdraw} and {withdraw}: 3 days.
    function WITHDRAW_DELAY() external view returns (uint64);
    /// @notice Seconds a payer has to {cure}: 3 days.
    function CURE_PERIOD() external view returns (uint64);
    /// @notice Seconds after its `until` at which an earmark can be released: 6 hours, the claim margin.
    function EARMARK_MARGIN() external view returns (uint64);
    /// @notice Longest earmark, in seconds from now: 365 days. Guards against a time in milliseconds.
    function MAX_EARMARK() external view returns (uint64);
    /// @notice Step of `maxThreshold`: 2^232.
    function THRESHOLD_UNIT() external view returns (uint256);

    // ───────────────────────────── Payer ─────────────────────────────

    /// @notice Opens an escrow (section 2.1, "Escrow Set-up"). The caller becomes its payer.
    /// @param escrow Address of the escrow key, which signs the tickets.
    /// @param terms What the payer chooses.
    /// @param amount Deposit, atomic units: the penalty, and the balance with the rest.
    /// @param possession The escrow key's signature of the {Opening} that these arguments and the caller make up.
    /// Emits {Opened}.
    function open(address escrow, Terms calldata terms, uint256 amount, Signature calldata possession) external payable;

    /// @notice Adds to the shared balance. Anyone may. Changes nothing else: no withdrawal is cancelled, no debt cured.
    /// Emits {ToppedUp}. Requires an escrow that is not closed.
    function topUp(address escrow, uint256 amount) external payable;

    /// @notice Raises the cap and the penalty by `amount`. Only the payer, only while `OPEN`.
    /// Emits {CapRaised}.
    function raiseCap(address escrow, uint64 ticketCap, uint256 amount) external payable;

    /// @notice Sets `prizes` more aside for `recipient` until `until`: the only unconditional guarantee of payment.
    /// Only the payer, only while `OPEN`. Emits {Earmarked}.
    function earmark(address escrow, address recipient, uint32 prizes, uint64 until) external;

    /// @notice Returns what is left of an earmark to the shared balance, {EARMARK_MARGIN} after its end. Only the payer.
    /// On a burned escrow it is burned, too. Emits {EarmarkReleased}.
    function releaseEarmark(address escrow, address recipient) external;

    /// @notice Starts the delay of a withdrawal. Only the payer, only while `OPEN`. Emits {WithdrawRequested}.
    function requestWithdraw(address escrow) external;

    /// @notice Stops a withdrawal. Only the payer, only while `WITHDRAWING`. Emits {WithdrawCancelled}.
    function cancelWithdraw(address escrow) external;

    /// @notice Closes the escrow and credits its payer with all that is left. Only the payer, only while `WITHDRAWING`,
    /// after the delay, and only when no earmark is live. (Debt would make it `INSOLVENT`.) Emits {Withdrawn}.
    function withdraw(address escrow) external;

    // ───────────────────────────── Recipient ─────────────────────────────

    /// @notice Claims one winner, or reverts with the reason why it cannot be paid. Only the recipient or its operator:
    /// who may choose the order of claims could make others unclaimable. Emits {Claimed}, and {BecameInsolvent} if the
    /// balance falls short.
    function claim(address recipient, address escrow, bytes32 r1, Winner calldata winner) external;

    /// @notice Claims winners from any number of escrows (section 2.1, the witness of Π^esc). A winner that cannot be paid
    /// is left out with {TicketSkipped} and never harms the others. Only the recipient or its operator.
    function claimBatch(address recipient, Group[] calldata groups) external;

    // ───────────────────────────── Anyone ─────────────────────────────

    /// @notice Pays the listed creditors of an insolvent escrow all they are owed, within the cure period; when no debt is
    /// left the escrow is `OPEN` again. What `amount` has over is credited to the caller. Emits {Cured} per creditor.
    function cure(address escrow, address[] calldata creditors, uint256 amount) external payable;

    /// @notice Closes an escrow that was not cured in time and burns its penalty and what is left of its balance. Nothing
    /// returns to the payer. Earmarks stay claimable. Emits {Burned}.
    function burn(address escrow) external;

    /// @notice Slashes the penalty of an escrow whose key signed two different tickets with one nonce: a tenth to the
    /// caller, the rest burned. The escrow keeps its status and its balance, so that winners stay payable.
    /// Emits {EquivocationProven}.
    function proveEquivocation(
        Ticket calldata a,
        Signature calldata signatureA,
        Ticket calldata b,
        Signature calldata signatureB
    ) external;

    // ───────────────────────────── Views ─────────────────────────────

    /// @notice The escrow of a key.
    function escrowOf(address escrow) external view returns (Escrow memory);
    /// @notice What is kept for an escrow and a recipient.
    function pairOf(address escrow, address recipient) external view returns (Pair memory);
    /// @notice What an escrow owes a creditor.
    function debtOf(address escrow, address creditor) external view returns (uint256 amount);
    /// @notice EIP-712 domain separator for the current chain.
    function domainSeparator() external view returns (bytes32);
    /// @notice EIP-712 digest that the escrow key signs to pay.
    function ticketDigest(Ticket calldata ticket) external view returns (bytes32);
    /// @notice EIP-712 digest that the escrow key signs to open.
    function openingDigest(Opening calldata opening) external view returns (bytes32);
    /// @notice The commitment to `r1` by its recipient.
    function commitmentOf(CoinCommitment calldata coin) external view returns (bytes32);
}
