// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ILedger} from "../shared/ILedger.sol";
import {IOperators} from "../shared/IOperators.sol";

/// @title IPaymentChannel
/// @notice CMS of Wang, Chen, Chu & Lan (2023): many payments of one client to one vendor, closed by one transaction. Two
/// chains run side by side. The *value* chain is a PayWord chain: `w_0`, its anchor, is in the opening; payment i reveals
/// `w_i`, worth `i × unit` in all, with `w_{i-1} = keccak256(abi.encode(w_i, channelId))`. The *receipt* chain are the
/// client's signatures, each locked by the next one (lockable signatures, section 4.2); no value ever depends on a lock. A
/// *bank* admits both by reputation and signs the opening, `sigma_0`.
///
/// ```text
///           checkpoint, topUp
///               ┌──────┐
///   open        │      ▼   close (vendor, until expiry)
///  NONE ──────▶  OPEN  ─────────────────────────────────▶ CLOSED
///                      cooperativeClose (both, any time)
///                      refund (client, after expiry)
/// ```
///
/// Assumptions, for safety:
/// - The client keeps its seed and its receipt key secret. Who has the seed can only pay the vendor; who has the receipt
///   key can pay the vendor and cost the client its reputation.
/// - The vendor hands out nothing for words that it has not stored, closes before `expiry`, and takes no payment after it
///   has signed a {CooperativeClose}.
/// - The bank signs one permit for one opening of a channel. Two that differ let their client choose, and harm nobody.
/// - No two {Terms} with one 224-bit hash can be found (2^112 work).
/// For liveness:
/// - A close enters the chain between the vendor's last acceptance (its margin before `expiry`) and `expiry`.
/// - Client and vendor of a {cooperativeClose} are plain keys: the signatures are checked against their addresses.
/// - Amounts are atomic units; times are Unix seconds.
interface IPaymentChannel is ILedger, IOperators {
    // ───────────────────────────── Types ─────────────────────────────

    /// @notice Life of a channel. `CLOSED` is final; the id never opens again.
    enum Status {
        NONE,
        OPEN,
        CLOSED
    }

    /// @notice What the bank signs to admit a channel; its digest is the paper's Tx_0, the signature `sigma_0` (EIP-712).
    /// @param channelId {channelIdOf} of client, vendor and a salt.
    /// @param receiptKey Address of the client's key that signs receipts and checkpoints.
    /// @param asset Token, or the zero address for the native asset.
    /// @param unit What one payment is worth, atomic units.
    /// @param length Payments that the chain has; the deposit is `length × unit` (the paper's F).
    /// @param anchor `w_0`.
    /// @param clientReputation, vendorReputation What the bank's ledger here says of both.
    /// @param expiry Last second of {checkpoint} and {close}; {refund} comes after it.
    struct OpenPermit {
        bytes32 channelId;
        address client;
        address vendor;
        address receiptKey;
        address asset;
        uint128 unit;
        uint32 length;
        bytes32 anchor;
        uint8 clientReputation;
        uint8 vendorReputation;
        uint64 issuedAt;
        uint64 expiry;
    }

    /// @notice What the receipt key signs for payment `index`; the signature is `sigma_index` (EIP-712).
    /// @param cumulative `index × unit`.
    /// @param transcript The paper's Tx_index: `keccak256(abi.encode(transcript before, itemHash))`.
    struct Receipt {
        bytes32 channelId;
        uint32 index;
        bytes32 itemHash;
        uint128 cumulative;
        uint64 issuedAt;
        bytes32 transcript;
    }

    /// @notice What the receipt key signs now and then: the word at an index, and in accountable mode the Merkle root of
    /// the {LockLeaf}s since the checkpoint before (EIP-712).
    struct Checkpoint {
        bytes32 channelId;
        uint32 index;
        bytes32 word;
        bytes32 locksRoot;
    }

    /// @notice What client and vendor both sign to close at `index` (EIP-712).
    struct CooperativeClose {
        bytes32 channelId;
        uint32 index;
    }

    /// @notice A secp256k1 signature with `s` in the lower half and `v` 27 or 28. Three words, so that no other encoding
    /// of a signature exists on chain. A `sigma` is `r || s`.
    struct Signature {
        bytes32 r;
        bytes32 s;
        uint8 v;
    }

    /// @notice The terms of one chain, as opened or topped up. The contract keeps their hash alone.
    /// @param bank In whose reputation ledger both parties stand.
    /// @param tag0 `keccak256(abi.encode(channelId, 0, r, s))` of `sigma_0`.
    struct Terms {
        OpenPermit permit;
        address bank;
        bytes32 tag0;
    }

    /// @notice Shows that the client revealed `word` for payment `index`. With `signedIndex` above 0 it is walked back to
    /// the `signedWord` of a {Checkpoint} that the receipt key signed; with 0, to the chain's anchor, and the three fields
    /// after it are not read.
    struct Proof {
        uint32 index;
        bytes32 word;
        uint32 signedIndex;
        bytes32 signedWord;
        bytes32 locksRoot;
        Signature signature;
    }

    /// @notice What of the {Receipt} for the index of a close the other arguments do not say. `sigma.v` 0: none is shown.
    struct LastReceipt {
        bytes32 itemHash;
        uint64 issuedAt;
        Signature sigma;
    }

    /// @notice One channel of a {batchCheckpoint}.
    struct CheckpointItem {
        Terms terms;
        Proof proof;
    }

    /// @notice One channel of a {batchClose}.
    struct CloseItem {
        Terms terms;
        Proof proof;
        bytes32 transcript;
        LastReceipt receipt;
    }

    /// @notice What accountable mode commits to for payment `index`, whose predecessor is payment `previous` (0: none;
    /// payments of k units skip indices). `lockR || lockS` is the lock, `tag` that of `sigma_index`. The leaf is
    /// `keccak256(bytes.concat(keccak256(abi.encode(leaf))))`; a parent hashes its children in ascending order.
    struct LockLeaf {
        uint32 index;
        uint32 previous;
        bytes32 lockR;
        bytes32 lockS;
        bytes32 tag;
    }

    /// @notice A leaf, the {Checkpoint} whose `locksRoot` it is under, and the path between them.
    struct SignedLeaf {
        LockLeaf leaf;
        Checkpoint checkpoint;
        Signature signature;
        bytes32[] path;
    }

    /// @notice A channel as this contract knows it.
    /// @param settled Highest index paid for; in all `settled × unit` was credited to the vendor.
    /// @param length Payments that the deposit covers, of the longest chain.
    /// @param expiry Last second of {checkpoint} and {close}, of the newest chain and for all of them.
    /// @param badLockProven, doubleReceiptProven Each proof lowers the client's reputation once per channel.
    struct Channel {
        uint32 settled;
        uint32 length;
        uint64 expiry;
        Status status;
        bool badLockProven;
        bool doubleReceiptProven;
    }

    // ───────────────────────────── Events ─────────────────────────────
    // Together they rebuild every channel, reputation and bank key without reading state.

    /// @notice A channel opened. With the permit, a vendor or client that lost its store can go on.
    event Opened(
        bytes32 indexed channelId,
        address indexed client,
        address indexed vendor,
        address bank,
        OpenPermit permit,
        Signature sigma0
    );
    /// @notice A further chain can pay, and the deposit covers `permit.length` payments.
    event ToppedUp(bytes32 indexed channelId, OpenPermit permit, Signature sigma0);
    /// @notice The vendor was credited `paid` for the payments up to `index`, the last of which revealed `word`.
    event Checkpointed(bytes32 indexed channelId, uint32 index, bytes32 word, uint256 paid);
    /// @notice The vendor closed (the paper's Tx_n): `paid` more to the vendor, `refunded` to the client.
    event Closed(bytes32 indexed channelId, uint32 index, uint256 paid, uint256 refunded, bytes32 transcript);
    /// @notice A close showed the valid receipt of `index`: both parties' reputation rose by 1, to at most 100.
    event ReceiptShown(bytes32 indexed channelId, uint32 index, bytes32 receiptDigest);
    /// @notice Both closed, and the reputation of both rose by 1, to at most 100.
    event CooperativelyClosed(bytes32 indexed channelId, uint32 index, uint256 paid, uint256 refunded);
    /// @notice The client took back what was not proven by `expiry`. `index` is the last payment that was.
    event Refunded(bytes32 indexed channelId, uint32 index, uint256 refunded);
    /// @notice An item of a batch was left out. `reason` is the selector of the error that it reverts with alone, `got` and
    /// `limit` its values.
    event ItemSkipped(bytes32 indexed channelId, bytes4 reason, uint256 got, uint256 limit);
    /// @notice The lock of payment `index` does not open: the client's reputation fell by {BAD_LOCK_PENALTY}.
    event BadLockProven(bytes32 indexed channelId, uint32 index);
    /// @notice Two receipts for one index: the client's reputation fell by {DOUBLE_RECEIPT_PENALTY}.
    event DoubleReceiptProven(bytes32 indexed channelId, uint32 index);
    /// @notice In the ledger of `bank`, `customer` now stands at `reputation`.
    event ReputationSet(address indexed bank, address indexed customer, uint8 reputation);
    /// @notice Permits of `bank` are now signed by `key` (0: by the bank's own address), its `epoch`-th change.
    event BankKeySet(address indexed bank, address key, uint64 epoch);

    // ───────────────────────────── Errors ─────────────────────────────

    /// @notice Only the client or the bank of a permit may open with it.
    error NotClientOrBank(address caller, address client, address bank);
    /// @notice Only the channel's client may.
    error NotClient(address caller, address client);
    /// @notice Only the client, the vendor or the vendor's operator may.
    error NotParty(address caller, address client, address vendor);
    /// @notice The permit's id is not that of its client and vendor with this salt.
    error WrongChannelId(bytes32 got, bytes32 expected);
    /// @notice An id opens one channel, once, for ever.
    error ChannelExists(bytes32 channelId);
    /// @notice A chain is empty, no longer than the one before, or beyond {MAX_LENGTH}.
    error LengthOutOfRange(uint32 got, uint32 low, uint32 high);
    /// @notice A payment of nothing buys nothing.
    error UnitZero();
    /// @notice `length × unit` has to fit 128 bits, as receipts have it.
    error DepositTooLarge(uint256 got, uint256 high);
    /// @notice An expiry is in the past, before the one promised earlier, or beyond {MAX_LIFE}.
    error ExpiryOutOfRange(uint64 got, uint64 low, uint64 high);
    /// @notice The bank does not admit a customer below {MIN_REPUTATION}.
    error ReputationTooLow(address customer, uint8 reputation, uint8 needed);
    /// @notice The bank signed another reputation than its ledger has.
    error ReputationDiffers(address customer, uint8 signed, uint8 recorded);
    /// @notice A reputation is above {MAX_REPUTATION}.
    error ReputationOutOfRange(uint8 got, uint8 high);
    /// @notice What arrived is not what the chain costs.
    error FundsDiffer(uint256 received, uint256 needed);
    /// @notice A top-up changes parties, receipt key, asset or unit. Values are hashes of these.
    error PartiesChanged(bytes32 got, bytes32 expected);
    /// @notice The time lock is not over.
    error RefundTooEarly(uint256 nowAt, uint256 expiry);
    /// @notice A cooperative close takes back what was paid, or pays more than there is.
    error IndexOutOfRange(uint32 got, uint32 low, uint32 high);
    /// @notice The two receipts have different indices or channels, or are one and the same.
    error NotDoubleReceipt(bytes32 digestA, bytes32 digestB);
    /// @notice The client's reputation fell for this already.
    error AlreadyProven(bytes32 channelId);
    /// @notice A checkpoint or receipt is of another channel.
    error WrongChannel(bytes32 got, bytes32 expected);
    /// @notice The opener is not the signature that the leaf's tag pins.
    error OpenerNotTagged(bytes32 got, bytes32 tag);
    /// @notice The lock opens: what it hides has the tag that it must have.
    error LockOpens(bytes32 tag);
    /// @notice The leaf is not under the signed root.
    error LeafNotUnderRoot(bytes32 got, bytes32 root);
    /// @notice The leaf is of another payment than the predecessor.
    error WrongPredecessor(uint32 got, uint32 expected);

    // Reasons for refusing one channel of a batch. All have the shape (got, limit), so that {ItemSkipped} can carry any of
    // them; {NotOperator} is another.

    /// @notice The step is not possible in the channel's status.
    error WrongStatus(Status got, Status needed);
    /// @notice The channel knows no such terms. Values are hashes; `opened` has its upper 224 bits only.
    error UnknownTerms(bytes32 got, bytes32 opened);
    /// @notice The channel's time is over: what is left is the client's.
    error TooLate(uint256 nowAt, uint256 expiry);
    /// @notice The index, or a higher one, was paid.
    error IndexNotAboveSettled(uint256 index, uint256 settled);
    /// @notice The chain is not that long.
    error IndexAboveLength(uint256 index, uint256 length);
    /// @notice Words are walked downwards.
    error SignedIndexAboveIndex(uint256 signedIndex, uint256 index);
    /// @notice A signature is of another key; `recovered` is 0 where it is malformed or malleable.
    error WrongSigner(address recovered, address expected);
    /// @notice The word leads elsewhere; of a moved anchor, the upper 224 bits are known.
    error WordNotInChain(bytes32 walked, bytes32 anchor);

    // ───────────────────────────── Constants ─────────────────────────────

    /// @notice Longest chain: 2^20 payments.
    function MAX_LENGTH() external view returns (uint32);
    /// @notice Longest life, in seconds from now: 365 days. Guards against a time in milliseconds.
    function MAX_LIFE() external view returns (uint64);
    /// @notice Lowest reputation that a bank admits: 50 ("higher than 50" and "below 50 … not allow" leave 50 itself open;
    /// it is admitted here).
    function MIN_REPUTATION() external view returns (uint8);
    /// @notice Reputation goes from 0 to 100.
    function MAX_REPUTATION() external view returns (uint8);
    /// @notice What a proven bad lock costs: 15.
    function BAD_LOCK_PENALTY() external view returns (uint8);
    /// @notice What two receipts for one payment cost: 30.
    function DOUBLE_RECEIPT_PENALTY() external view returns (uint8);

    // ───────────────────────────── Client ─────────────────────────────

    /// @notice Opens a channel (the paper's first transaction, section 4.1): takes the deposit and records the terms. The
    /// caller is the client or the bank, and pays.
    /// @param permit What the bank admits.
    /// @param salt Makes `permit.channelId`, with client and vendor.
    /// @param bank Whose current key signed the permit, and in whose ledger both parties have the reputation that is signed.
    /// @param sigma0 That signature.
    /// Emits {Opened}. Requires a fresh id, a reputation of {MIN_REPUTATION} for both, an expiry ahead, and exactly
    /// `length × unit` of the asset.
    function open(OpenPermit calldata permit, bytes32 salt, address bank, Signature calldata sigma0) external payable;

    /// @notice Adds a longer chain under a new anchor to an open channel, and the deposit for its payments beyond the
    /// channel's length. Only the client. Indices count on: payment i is worth `i × unit` on every chain, the highest one
    /// shown on any counts. The chains before keep working up to their own length, so that a top-up cannot spoil a word
    /// that the vendor holds, nor a transaction under way. The receipt chain runs on, down to the `sigma_0` of {open}.
    /// @param terms Those of any chain of the channel.
    /// @param permit The same id, parties, receipt key, asset and unit, signed by the same bank; longer than the channel,
    /// and no sooner over.
    /// Emits {ToppedUp}. Requires what {open} does, and that the channel's time is not over.
    function topUp(Terms calldata terms, OpenPermit calldata permit, Signature calldata sigma0) external payable;

    /// @notice Credits the client with all that the vendor did not prove by the channel's expiry (the paper's time lock,
    /// section 4.3). Only the client, only after expiry. Emits {Refunded}.
    /// @param terms Those of any chain of the channel.
    function refund(Terms calldata terms) external;

    // ───────────────────────────── Vendor ─────────────────────────────

    /// @notice Credits the vendor with the payments up to `proof.index`. Anyone may send it, until and including expiry: it
    /// can only pay the vendor, so that a key-less watcher can guard an offline vendor (rule E6), and it makes no proof of
    /// the vendor's stale. A proof that starts from the anchor moves it up, so that later walks are shorter; one that
    /// starts from a signed {Checkpoint} needs no anchor, and moves none.
    /// Emits {Checkpointed}. Requires an index above what is settled, and a word that walks to where the proof starts.
    function checkpoint(Terms calldata terms, Proof calldata proof) external;

    /// @notice Closes (the paper's last transaction, Tx_n): credits the vendor with the payments up to `proof.index` and the
    /// client with the rest. Only the vendor or its operator (who may choose the index could choose a stale one), until and
    /// including expiry. An index at or below what is settled needs no word and closes at what is settled: a checkpoint by
    /// another in front of it cannot stop it, and 0 closes without a payment.
    /// @param transcript The paper's Tx_n, recorded in {Closed}.
    /// @param receipt The last receipt's rest, if any. A valid one is recorded ({ReceiptShown}) and raises both parties'
    /// reputation by 1; a wrong one is not, and never holds up the money.
    /// Emits {Closed}.
    function close(Terms calldata terms, Proof calldata proof, bytes32 transcript, LastReceipt calldata receipt)
        external;

    /// @notice {checkpoint} for many channels, of any vendors. One that cannot be settled is left out with {ItemSkipped} and
    /// never harms the others. Anyone may send it.
    function batchCheckpoint(CheckpointItem[] calldata items) external;

    /// @notice {close} for many channels. One that cannot be closed is left out with {ItemSkipped} and never harms the
    /// others; this includes channels of vendors for whom the caller may not act.
    function batchClose(CloseItem[] calldata items) external;

    /// @notice Proves that the client locked a receipt with something that does not open (accountable mode, C-4): the
    /// signature that the leaf's tag pins opens the leaf's lock to `sigma_previous`, and that has another tag than the
    /// predecessor's leaf, or than `terms.tag0` where there is no predecessor. Only the vendor or its operator, in any
    /// status but `NONE`, once per channel. Lowers the client's reputation at the channel's bank by {BAD_LOCK_PENALTY};
    /// moves no money. Emits {BadLockProven}.
    /// @param terms Those of {open}, where the receipt chain must end.
    /// @param bad The leaf whose lock does not open.
    /// @param predecessor The leaf of `bad.leaf.previous`; not read where that is 0.
    /// @param r, s The opener `sigma_index`.
    function proveBadLock(
        Terms calldata terms,
        SignedLeaf calldata bad,
        SignedLeaf calldata predecessor,
        bytes32 r,
        bytes32 s
    ) external;

    // ───────────────────────────── Both ─────────────────────────────

    /// @notice Closes at the index that client and vendor signed: no walk, at any time while `OPEN`, also after expiry. Sent
    /// by the client, the vendor or the vendor's operator. Raises both parties' reputation by 1.
    /// Emits {CooperativelyClosed}. Requires an index from what is settled to the channel's length.
    function cooperativeClose(
        Terms calldata terms,
        uint32 index,
        Signature calldata clientSignature,
        Signature calldata vendorSignature
    ) external;

    // ───────────────────────────── Anyone ─────────────────────────────

    /// @notice Proves that the receipt key signed two different receipts for one index. Anyone, in any status but `NONE`,
    /// once per channel. Lowers the client's reputation at the channel's bank by {DOUBLE_RECEIPT_PENALTY}; moves no money.
    /// @param terms Those of {open}.
    /// Emits {DoubleReceiptProven}.
    function proveDoubleReceipt(
        Terms calldata terms,
        Receipt calldata a,
        Signature calldata signatureA,
        Receipt calldata b,
        Signature calldata signatureB
    ) external;

    // ───────────────────────────── Bank ─────────────────────────────

    /// @notice Sets the reputation of a customer in the caller's own ledger, from 0 to {MAX_REPUTATION}. Any address is a
    /// bank; clients and vendors choose which ones they trust. Emits {ReputationSet}.
    function setReputation(address customer, uint8 reputation) external;

    /// @notice Has the caller's permits signed by `key` from now on (0: by the caller's own). Permits of the key before are
    /// refused; channels that are open are not touched (C-19). Emits {BankKeySet}.
    function setBankKey(address key) external;

    // ───────────────────────────── Views ─────────────────────────────

    /// @notice Status of a channel, and the highest index paid for.
    function statusOf(bytes32 channelId) external view returns (Status status, uint32 settled);
    /// @notice The channel with such terms; all zero if it does not know them.
    function channelOf(Terms calldata terms) external view returns (Channel memory);
    /// @notice Where a proof that starts from the anchor of these terms' chain starts: its index, and the upper 224 bits
    /// of its word. Both 0 if the terms are not known.
    function anchorOf(Terms calldata terms) external view returns (uint32 index, bytes28 word);
    /// @notice What the ledger of `bank` says of `customer`.
    function reputationOf(address bank, address customer) external view returns (uint8 reputation);
    /// @notice The key that signs permits of `bank`, and how often it was set.
    function bankKeyOf(address bank) external view returns (address key, uint64 epoch);
    /// @notice The id of a channel on this chain, in this contract.
    function channelIdOf(address client, address vendor, bytes32 salt) external view returns (bytes32 channelId);
    /// @notice What the contract keeps of terms (its upper 224 bits, for those of {open}).
    function termsHash(Terms calldata terms) external pure returns (bytes32);
    /// @notice EIP-712 domain separator for the current chain.
    function domainSeparator() external view returns (bytes32);
    /// @notice EIP-712 digest that the bank signs: the paper's Tx_0.
    function permitDigest(OpenPermit calldata permit) external view returns (bytes32);
    /// @notice EIP-712 digest that the receipt key signs for a payment.
    function receiptDigest(Receipt calldata receipt) external view returns (bytes32);
    /// @notice EIP-712 digest that the receipt key signs now and then.
    function checkpointDigest(Checkpoint calldata signed) external view returns (bytes32);
    /// @notice EIP-712 digest that client and vendor sign to close together.
    function cooperativeCloseDigest(CooperativeClose calldata signed) external view returns (bytes32);
}
