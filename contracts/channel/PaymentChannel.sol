// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Ledger} from "../shared/Ledger.sol";
import {Operators} from "../shared/Operators.sol";
import {ChannelHash} from "./ChannelHash.sol";
import {IPaymentChannel} from "./IPaymentChannel.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

/// @title PaymentChannel
/// @notice See {IPaymentChannel}. Each function reads: check, effect, interaction. Only a deposit interacts; its amount is
/// known beforehand, so it comes last, and the guard keeps one transfer from being counted twice.
///
/// What never changes travels in calldata and is checked by its hash; what is kept of a channel is one slot:
/// opening writes that slot alone, and a close reads and writes no other. A channel that was topped up, or whose anchor
/// moved, has more (`KEPT`).
contract PaymentChannel is IPaymentChannel, Ledger, EIP712("Micropay Channel", "1"), Operators {
    /// @inheritdoc IPaymentChannel
    uint32 public constant MAX_LENGTH = 1 << 20;
    /// @inheritdoc IPaymentChannel
    uint64 public constant MAX_LIFE = 365 days;
    /// @inheritdoc IPaymentChannel
    uint8 public constant MIN_REPUTATION = 50;
    /// @inheritdoc IPaymentChannel
    uint8 public constant MAX_REPUTATION = 100;
    /// @inheritdoc IPaymentChannel
    uint8 public constant BAD_LOCK_PENALTY = 15;
    /// @inheritdoc IPaymentChannel
    uint8 public constant DOUBLE_RECEIPT_PENALTY = 30;

    /// @dev {IPaymentChannel.Status}, and for an open channel where to look.
    enum Phase {
        NONE,
        FRESH, // one chain, its anchor where it was: all there is to know is in its terms
        KEPT, // topped up, or an anchor moved: there may be more in `_extensions` and `_anchors`
        CLOSED
    }

    /// @dev 224 bits of the hash are enough. To pass off other terms for those that were opened a stranger needs a second
    /// preimage, 2^224. Who makes both terms needs a collision, 2^112, as much as a 2048-bit RSA key.
    struct Record {
        bytes28 opened; // hash of the terms of `open`
        uint24 settled; // at most MAX_LENGTH
        Phase phase;
    }

    /// @dev Zero until a top-up or a proof.
    struct Extension {
        uint32 length; // of the newest chain; 0: of the terms
        uint40 expiry; // likewise
        bool badLockProven;
        bool doubleReceiptProven;
    }

    /// @dev A word to walk to. 224 bits of it are enough: a stranger needs a second preimage, 2^224. The client can make
    /// its own chains meet with 2^112 work, and has nothing from it, since either word pays the vendor.
    struct Anchor {
        bytes28 word;
        uint24 index; // at most MAX_LENGTH
        bool known;
    }

    struct BankKey {
        address key; // 0: the bank's own
        uint64 epoch;
    }

    /// @dev What is known of a channel, terms and storage put together.
    struct View {
        bytes32 channelId;
        address client;
        address vendor;
        address asset;
        uint256 unit;
        bytes32 hash; // of the terms at hand
        bytes28 opened; // of the terms of `open`
        bool known; // the channel has the terms at hand
        Phase phase;
        uint256 settled;
        uint256 length;
        uint256 expiry;
    }

    /// @dev Credit that is not written yet, of one account in one asset.
    struct Due {
        address asset;
        address account;
        uint256 amount;
    }

    mapping(bytes32 channelId => Record) private _records;
    mapping(bytes32 channelId => Extension) private _extensions;
    /// @dev Anchors that moved, and those of topped-up chains, which this makes known.
    mapping(bytes32 terms => Anchor) private _anchors;
    mapping(address bank => mapping(address customer => uint8 reputation)) private _reputationOf;
    mapping(address bank => BankKey) private _bankKeys;

    // ───────────────────────────── Client ─────────────────────────────

    /// @inheritdoc IPaymentChannel
    function open(OpenPermit calldata permit, bytes32 salt, address bank, Signature calldata sigma0)
        external
        payable
        nonReentrant
    {
        // Check.
        bytes32 channelId = permit.channelId;
        (address client, address vendor) = (permit.client, permit.vendor);
        require(msg.sender == client || msg.sender == bank, NotClientOrBank(msg.sender, client, bank));
        bytes32 expected = channelIdOf(client, vendor, salt);
        require(channelId == expected, WrongChannelId(channelId, expected));
        require(_records[channelId].phase == Phase.NONE, ChannelExists(channelId));
        require(permit.unit != 0, UnitZero());
        bytes32 terms = _admit(permit, bank, sigma0, 1, uint64(block.timestamp) + 1);

        // Effect.
        _records[channelId] = Record(bytes28(terms), 0, Phase.FRESH);
        emit Opened(channelId, client, vendor, bank, permit, sigma0);

        // Interaction.
        _take(permit.asset, uint256(permit.length) * permit.unit);
    }

    /// @inheritdoc IPaymentChannel
    function topUp(Terms calldata terms, OpenPermit calldata permit, Signature calldata sigma0)
        external
        payable
        nonReentrant
    {
        // Check.
        View memory channel = _view(terms);
        _checkClient(channel);
        _checkOpen(channel);
        require(block.timestamp <= channel.expiry, TooLate(block.timestamp, channel.expiry));
        bytes32 parties = ChannelHash.parties(permit);
        bytes32 expected = ChannelHash.parties(terms.permit);
        require(parties == expected, PartiesChanged(parties, expected));
        // Casts are safe: both come from a 32- and a 64-bit field.
        bytes32 hash = _admit(permit, terms.bank, sigma0, uint32(channel.length) + 1, uint64(channel.expiry));

        // Effect, all of it: a token may call {close} from within its transfer.
        _save(channel, channel.settled, Phase.KEPT);
        Extension storage extension = _extensions[channel.channelId];
        extension.length = permit.length;
        extension.expiry = uint40(permit.expiry); // at most a year ahead
        _anchors[hash] = Anchor(bytes28(permit.anchor), 0, true);
        emit ToppedUp(channel.channelId, permit, sigma0);

        // Interaction.
        _take(channel.asset, (permit.length - channel.length) * channel.unit);
    }

    /// @inheritdoc IPaymentChannel
    function refund(Terms calldata terms) external {
        // Check.
        View memory channel = _view(terms);
        _checkClient(channel);
        _checkOpen(channel);
        require(block.timestamp > channel.expiry, RefundTooEarly(block.timestamp, channel.expiry));

        // Effect.
        (, uint256 refunded) = _closeAt(channel, channel.settled);
        _pay(channel, 0, refunded);
        emit Refunded(channel.channelId, uint32(channel.settled), refunded);
    }

    // ───────────────────────────── Vendor ─────────────────────────────

    /// @inheritdoc IPaymentChannel
    function checkpoint(Terms calldata terms, Proof calldata proof) external {
        View memory channel = _view(terms);
        (bytes4 reason, uint256 got, uint256 limit) = _mayCheckpoint(channel, terms.permit, proof);
        if (reason != 0) _revert(reason, got, limit);
        _pay(channel, _checkpoint(channel, proof), 0);
    }

    /// @inheritdoc IPaymentChannel
    function close(Terms calldata terms, Proof calldata proof, bytes32 transcript, LastReceipt calldata receipt)
        external
    {
        View memory channel = _view(terms);
        (bytes4 reason, uint256 got, uint256 limit) = _mayClose(channel, terms.permit, proof);
        if (reason != 0) _revert(reason, got, limit);
        (uint256 paid, uint256 refunded) = _close(channel, terms, proof, transcript, receipt);
        _pay(channel, paid, refunded);
    }

    /// @inheritdoc IPaymentChannel
    function batchCheckpoint(CheckpointItem[] calldata items) external {
        // Credit is written once per run of channels with one vendor and asset.
        Due memory vendor;
        for (uint256 i; i < items.length; ++i) {
            CheckpointItem calldata item = items[i];
            View memory channel = _view(item.terms);
            (bytes4 reason, uint256 got, uint256 limit) = _mayCheckpoint(channel, item.terms.permit, item.proof);
            if (reason != 0) emit ItemSkipped(channel.channelId, reason, got, limit);
            else _add(vendor, channel.asset, channel.vendor, _checkpoint(channel, item.proof));
        }
        _flush(vendor);
    }

    /// @inheritdoc IPaymentChannel
    function batchClose(CloseItem[] calldata items) external {
        Due memory vendor;
        Due memory client;
        for (uint256 i; i < items.length; ++i) {
            CloseItem calldata item = items[i];
            View memory channel = _view(item.terms);
            (bytes4 reason, uint256 got, uint256 limit) = _mayClose(channel, item.terms.permit, item.proof);
            if (reason != 0) {
                emit ItemSkipped(channel.channelId, reason, got, limit);
                continue;
            }
            (uint256 paid, uint256 refunded) = _close(channel, item.terms, item.proof, item.transcript, item.receipt);
            _add(vendor, channel.asset, channel.vendor, paid);
            _add(client, channel.asset, channel.client, refunded);
        }
        _flush(vendor);
        _flush(client);
    }

    /// @inheritdoc IPaymentChannel
    function proveBadLock(
        Terms calldata terms,
        SignedLeaf calldata bad,
        SignedLeaf calldata predecessor,
        bytes32 r,
        bytes32 s
    ) external {
        // Check.
        View memory channel = _view(terms);
        _checkOpened(channel);
        _checkOperator(channel.vendor);
        bytes32 channelId = channel.channelId;
        Extension storage extension = _extensions[channelId];
        require(!extension.badLockProven, AlreadyProven(channelId));
        LockLeaf memory leaf = _checkLeaf(channelId, terms.permit.receiptKey, bad);
        bytes32 opener = ChannelHash.tag(channelId, leaf.index, r, s);
        require(opener == leaf.tag, OpenerNotTagged(opener, leaf.tag));
        bytes32 expected = terms.tag0;
        if (leaf.previous != 0) {
            LockLeaf memory before = _checkLeaf(channelId, terms.permit.receiptKey, predecessor);
            require(before.index == leaf.previous, WrongPredecessor(before.index, leaf.previous));
            expected = before.tag;
        }
        (bytes32 previousR, bytes32 previousS) = ChannelHash.open(leaf.lockR, leaf.lockS, r, s);
        bytes32 hidden = ChannelHash.tag(channelId, leaf.previous, previousR, previousS);
        require(hidden != expected, LockOpens(expected));

        // Effect.
        extension.badLockProven = true;
        _lower(terms.bank, channel.client, BAD_LOCK_PENALTY);
        emit BadLockProven(channelId, leaf.index);
    }

    // ───────────────────────────── Both ─────────────────────────────

    /// @inheritdoc IPaymentChannel
    function cooperativeClose(
        Terms calldata terms,
        uint32 index,
        Signature calldata clientSignature,
        Signature calldata vendorSignature
    ) external {
        // Check.
        View memory channel = _view(terms);
        (address client, address vendor) = (channel.client, channel.vendor);
        require(msg.sender == client || _actsFor(vendor), NotParty(msg.sender, client, vendor));
        _checkOpen(channel);
        // Casts are safe: both come from 32-bit fields.
        require(
            index >= channel.settled && index <= channel.length,
            IndexOutOfRange(index, uint32(channel.settled), uint32(channel.length))
        );
        bytes32 digest = _hashTypedDataV4(ChannelHash.cooperativeClose(channel.channelId, index));
        _checkSigner(digest, clientSignature, client);
        _checkSigner(digest, vendorSignature, vendor);

        // Effect.
        (uint256 paid, uint256 refunded) = _closeAt(channel, index);
        _pay(channel, paid, refunded);
        emit CooperativelyClosed(channel.channelId, index, paid, refunded);
        _raise(terms.bank, client, vendor);
    }

    // ───────────────────────────── Anyone ─────────────────────────────

    /// @inheritdoc IPaymentChannel
    function proveDoubleReceipt(
        Terms calldata terms,
        Receipt calldata a,
        Signature calldata signatureA,
        Receipt calldata b,
        Signature calldata signatureB
    ) external {
        // Check.
        View memory channel = _view(terms);
        _checkOpened(channel);
        bytes32 channelId = channel.channelId;
        Extension storage extension = _extensions[channelId];
        require(!extension.doubleReceiptProven, AlreadyProven(channelId));
        require(a.channelId == channelId, WrongChannel(a.channelId, channelId));
        bytes32 digestA = receiptDigest(a);
        bytes32 digestB = receiptDigest(b);
        require(
            b.channelId == channelId && a.index == b.index && digestA != digestB, NotDoubleReceipt(digestA, digestB)
        );
        address receiptKey = terms.permit.receiptKey;
        _checkSigner(digestA, signatureA, receiptKey);
        _checkSigner(digestB, signatureB, receiptKey);

        // Effect.
        extension.doubleReceiptProven = true;
        _lower(terms.bank, channel.client, DOUBLE_RECEIPT_PENALTY);
        emit DoubleReceiptProven(channelId, a.index);
    }

    // ───────────────────────────── Bank ─────────────────────────────

    /// @inheritdoc IPaymentChannel
    function setReputation(address customer, uint8 reputation) external {
        require(reputation <= MAX_REPUTATION, ReputationOutOfRange(reputation, MAX_REPUTATION));
        _reputationOf[msg.sender][customer] = reputation;
        emit ReputationSet(msg.sender, customer, reputation);
    }

    /// @inheritdoc IPaymentChannel
    function setBankKey(address key) external {
        BankKey storage current = _bankKeys[msg.sender];
        uint64 epoch = current.epoch + 1;
        current.key = key;
        current.epoch = epoch;
        emit BankKeySet(msg.sender, key, epoch);
    }

    // ───────────────────────────── Views ─────────────────────────────

    /// @inheritdoc IPaymentChannel
    function statusOf(bytes32 channelId) external view returns (Status status, uint32 settled) {
        Record storage record = _records[channelId];
        return (_status(record.phase), record.settled);
    }

    /// @inheritdoc IPaymentChannel
    function channelOf(Terms calldata terms) external view returns (Channel memory channel) {
        View memory seen = _view(terms);
        if (!seen.known) return channel;
        Extension storage extension = _extensions[seen.channelId];
        return Channel({
            settled: uint32(seen.settled),
            length: uint32(seen.length),
            expiry: uint64(seen.expiry),
            status: _status(seen.phase),
            badLockProven: extension.badLockProven,
            doubleReceiptProven: extension.doubleReceiptProven
        });
    }

    /// @inheritdoc IPaymentChannel
    function anchorOf(Terms calldata terms) external view returns (uint32 index, bytes28 word) {
        View memory channel = _view(terms);
        if (!channel.known) return (0, 0);
        return _anchor(channel, terms.permit.anchor);
    }

    /// @inheritdoc IPaymentChannel
    function reputationOf(address bank, address customer) external view returns (uint8) {
        return _reputationOf[bank][customer];
    }

    /// @inheritdoc IPaymentChannel
    function bankKeyOf(address bank) public view returns (address key, uint64 epoch) {
        BankKey storage current = _bankKeys[bank];
        (key, epoch) = (current.key, current.epoch);
        if (key == address(0)) key = bank;
    }

    /// @inheritdoc IPaymentChannel
    function channelIdOf(address client, address vendor, bytes32 salt) public view returns (bytes32) {
        return ChannelHash.channel(address(this), client, vendor, salt);
    }

    /// @inheritdoc IPaymentChannel
    function termsHash(Terms calldata terms) public pure returns (bytes32) {
        return ChannelHash.terms(terms);
    }

    /// @inheritdoc IPaymentChannel
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// @inheritdoc IPaymentChannel
    function permitDigest(OpenPermit calldata permit) external view returns (bytes32) {
        return _hashTypedDataV4(ChannelHash.permit(permit));
    }

    /// @inheritdoc IPaymentChannel
    function receiptDigest(Receipt memory receipt) public view returns (bytes32) {
        return _hashTypedDataV4(ChannelHash.receipt(receipt));
    }

    /// @inheritdoc IPaymentChannel
    function checkpointDigest(Checkpoint calldata signed) external view returns (bytes32) {
        return _checkpointDigest(signed.channelId, signed.index, signed.word, signed.locksRoot);
    }

    /// @inheritdoc IPaymentChannel
    function cooperativeCloseDigest(CooperativeClose calldata signed) external view returns (bytes32) {
        return _hashTypedDataV4(ChannelHash.cooperativeClose(signed.channelId, signed.index));
    }

    // ───────────────────────────── Opening ─────────────────────────────

    /// @dev What {open} and {topUp} require of a permit; returns the hash of its terms.
    function _admit(
        OpenPermit calldata permit,
        address bank,
        Signature calldata sigma0,
        uint32 lowLength,
        uint64 lowExpiry
    ) private view returns (bytes32 terms) {
        uint32 length = permit.length;
        require(length >= lowLength && length <= MAX_LENGTH, LengthOutOfRange(length, lowLength, MAX_LENGTH));
        uint256 deposit = uint256(length) * permit.unit;
        require(deposit <= type(uint128).max, DepositTooLarge(deposit, type(uint128).max));
        uint64 expiry = permit.expiry;
        uint64 highExpiry = uint64(block.timestamp) + MAX_LIFE;
        require(expiry >= lowExpiry && expiry <= highExpiry, ExpiryOutOfRange(expiry, lowExpiry, highExpiry));
        bytes32 hash = ChannelHash.permit(permit);
        (address key,) = bankKeyOf(bank);
        _checkSigner(_hashTypedDataV4(hash), sigma0, key);
        _checkReputation(bank, permit.client, permit.clientReputation);
        _checkReputation(bank, permit.vendor, permit.vendorReputation);
        return ChannelHash.terms(hash, bank, ChannelHash.tag(permit.channelId, 0, sigma0.r, sigma0.s));
    }

    function _checkReputation(address bank, address customer, uint8 signed) private view {
        uint8 reputation = _reputationOf[bank][customer];
        require(reputation == signed, ReputationDiffers(customer, signed, reputation));
        require(reputation >= MIN_REPUTATION, ReputationTooLow(customer, reputation, MIN_REPUTATION));
    }

    /// @dev Takes exactly `amount`, or undoes everything: with less the last payments would be bad, with more nobody would own the rest.
    function _take(address asset, uint256 amount) private {
        uint256 received = _deposit(asset, amount);
        require(received == amount, FundsDiffer(received, amount));
    }

    // ───────────────────────────── Settling ─────────────────────────────

    // Why a channel is refused: an error's selector (0: it is not) with its two values. They are returned and not thrown, so
    // that one channel cannot stop its batch.

    function _mayCheckpoint(View memory channel, OpenPermit calldata permit, Proof calldata proof)
        private
        view
        returns (bytes4 reason, uint256 got, uint256 limit)
    {
        (reason, got, limit) = _live(channel);
        if (reason != 0) return (reason, got, limit);
        if (proof.index <= channel.settled) {
            return (IndexNotAboveSettled.selector, proof.index, channel.settled);
        }
        return _proves(channel, permit, proof);
    }

    function _mayClose(View memory channel, OpenPermit calldata permit, Proof calldata proof)
        private
        view
        returns (bytes4 reason, uint256 got, uint256 limit)
    {
        if (!_actsFor(channel.vendor)) {
            return (NotOperator.selector, uint160(msg.sender), uint160(channel.vendor));
        }
        (reason, got, limit) = _live(channel);
        if (reason != 0 || proof.index <= channel.settled) return (reason, got, limit);
        return _proves(channel, permit, proof);
    }

    /// @dev Whether the channel is open, has these terms, and is in time.
    function _live(View memory channel) private view returns (bytes4 reason, uint256 got, uint256 limit) {
        if (!_known(channel)) return _unknown(channel);
        if (block.timestamp > channel.expiry) return (TooLate.selector, block.timestamp, channel.expiry);
    }

    /// @dev Whether the channel is open and has these terms.
    function _known(View memory channel) private pure returns (bool) {
        return channel.known && channel.phase != Phase.CLOSED; // nothing knows terms before it is opened
    }

    function _unknown(View memory channel) private pure returns (bytes4 reason, uint256 got, uint256 limit) {
        Status status = _status(channel.phase);
        if (status != Status.OPEN) return (WrongStatus.selector, uint256(status), uint256(Status.OPEN));
        return (UnknownTerms.selector, uint256(channel.hash), uint256(bytes32(channel.opened)));
    }

    /// @dev Whether a proof above what is settled holds. Nothing that another transaction may do to the channel, but
    /// settling as much or closing, makes a proof fail that held.
    function _proves(View memory channel, OpenPermit calldata permit, Proof calldata proof)
        private
        view
        returns (bytes4 reason, uint256 got, uint256 limit)
    {
        uint256 index = proof.index;
        if (index > permit.length) return (IndexAboveLength.selector, index, permit.length);
        uint256 start = proof.signedIndex;
        bytes28 word;
        if (start == 0) {
            (start, word) = _anchor(channel, permit.anchor);
        } else {
            if (start > index) return (SignedIndexAboveIndex.selector, start, index);
            bytes32 digest = _checkpointDigest(channel.channelId, proof.signedIndex, proof.signedWord, proof.locksRoot);
            address receiptKey = permit.receiptKey;
            (bool ok, address recovered) = _signed(digest, proof.signature, receiptKey);
            if (!ok) return (WrongSigner.selector, uint160(recovered), uint160(receiptKey));
            word = bytes28(proof.signedWord);
        }
        uint256 steps;
        unchecked {
            steps = index - start; // the anchor is at most at what is settled, which is below the index
        }
        bytes32 walked = ChannelHash.walk(proof.word, channel.channelId, steps);
        if (bytes28(walked) != word) return (WordNotInChain.selector, uint256(walked), uint256(bytes32(word)));
    }

    /// @dev Settles at an index that was proven, above what was settled; returns what the vendor is owed for it.
    function _checkpoint(View memory channel, Proof calldata proof) private returns (uint256 paid) {
        uint256 index = proof.index;
        unchecked {
            paid = (index - channel.settled) * channel.unit; // settled < index <= length, and length × unit fits
        }
        Phase phase = channel.phase;
        if (proof.signedIndex == 0) {
            phase = Phase.KEPT;
            _anchors[channel.hash] = Anchor(bytes28(proof.word), uint24(index), true); // at most the length
        }
        _save(channel, index, phase);
        emit Checkpointed(channel.channelId, uint32(index), proof.word, paid);
    }

    /// @dev Closes at an index that was proven, or at what is settled; returns what both are owed.
    function _close(
        View memory channel,
        Terms calldata terms,
        Proof calldata proof,
        bytes32 transcript,
        LastReceipt calldata receipt
    ) private returns (uint256 paid, uint256 refunded) {
        uint256 index = proof.index;
        uint256 closedAt = index > channel.settled ? index : channel.settled;
        (paid, refunded) = _closeAt(channel, closedAt);
        emit Closed(channel.channelId, uint32(closedAt), paid, refunded, transcript);

        // The last receipt, if the receipt key signed it. It is of the proof's index, though more may be settled.
        if (receipt.sigma.v == 0) return (paid, refunded);
        bytes32 digest = receiptDigest(
            Receipt({
                channelId: channel.channelId,
                index: uint32(index),
                itemHash: receipt.itemHash,
                cumulative: uint128(index * channel.unit), // fits, as length × unit does
                issuedAt: receipt.issuedAt,
                transcript: transcript
            })
        );
        (bool ok,) = _signed(digest, receipt.sigma, terms.permit.receiptKey);
        if (!ok) return (paid, refunded);
        emit ReceiptShown(channel.channelId, uint32(index), digest);
        _raise(terms.bank, channel.client, channel.vendor);
    }

    /// @dev Splits what is left at an index from what is settled to the channel's length.
    function _closeAt(View memory channel, uint256 index) private returns (uint256 paid, uint256 refunded) {
        unchecked {
            // settled <= index <= length, and length × unit fits 128 bits.
            paid = (index - channel.settled) * channel.unit;
            refunded = (channel.length - index) * channel.unit;
        }
        _save(channel, index, Phase.CLOSED);
    }

    /// @dev Writes the channel's one slot. `settled` is at most a length, which fits.
    function _save(View memory channel, uint256 settled, Phase phase) private {
        _records[channel.channelId] = Record(channel.opened, uint24(settled), phase);
    }

    function _pay(View memory channel, uint256 paid, uint256 refunded) private {
        if (paid != 0) _credit(channel.asset, channel.vendor, paid);
        if (refunded != 0) _credit(channel.asset, channel.client, refunded);
    }

    /// @dev Books credit, and writes what was booked before if that is another account's or asset's.
    function _add(Due memory due, address asset, address account, uint256 amount) private {
        if (amount == 0) return;
        if (due.account != account || due.asset != asset) {
            _flush(due);
            (due.asset, due.account, due.amount) = (asset, account, 0);
        }
        due.amount += amount;
    }

    function _flush(Due memory due) private {
        if (due.amount != 0) _credit(due.asset, due.account, due.amount);
    }

    // ───────────────────────────── Reputation ─────────────────────────────

    /// @dev Raises both by 1, to at most 100.
    function _raise(address bank, address client, address vendor) private {
        uint8 reputation = _reputationOf[bank][client];
        if (reputation < MAX_REPUTATION) _reputationOf[bank][client] = reputation + 1;
        reputation = _reputationOf[bank][vendor];
        if (reputation < MAX_REPUTATION) _reputationOf[bank][vendor] = reputation + 1;
    }

    /// @dev Lowers the client's, to no less than 0.
    function _lower(address bank, address client, uint8 penalty) private {
        uint8 reputation = _reputationOf[bank][client];
        _reputationOf[bank][client] = reputation > penalty ? reputation - penalty : 0;
    }

    // ───────────────────────────── Reading ─────────────────────────────

    function _view(Terms calldata terms) private view returns (View memory channel) {
        OpenPermit calldata permit = terms.permit;
        channel.channelId = permit.channelId;
        channel.client = permit.client;
        channel.vendor = permit.vendor;
        channel.asset = permit.asset;
        channel.unit = permit.unit;
        channel.length = permit.length;
        channel.expiry = permit.expiry;
        channel.hash = ChannelHash.terms(terms);
        Record memory record = _records[channel.channelId];
        channel.opened = record.opened;
        channel.settled = record.settled;
        channel.phase = record.phase;
        if (record.phase == Phase.NONE) return channel;
        channel.known = record.opened == bytes28(channel.hash);
        if (record.phase == Phase.FRESH) return channel;
        if (!channel.known) channel.known = _anchors[channel.hash].known;
        Extension storage extension = _extensions[channel.channelId];
        if (extension.length != 0) (channel.length, channel.expiry) = (extension.length, extension.expiry);
    }

    /// @dev Where the walk of a proof without a signed checkpoint ends.
    function _anchor(View memory channel, bytes32 opened) private view returns (uint32 index, bytes28 word) {
        if (channel.phase != Phase.FRESH) {
            Anchor storage moved = _anchors[channel.hash];
            if (moved.known) return (moved.index, moved.word);
        }
        return (0, bytes28(opened));
    }

    function _status(Phase phase) private pure returns (Status) {
        if (phase == Phase.NONE) return Status.NONE;
        return phase == Phase.CLOSED ? Status.CLOSED : Status.OPEN;
    }

    // ───────────────────────────── Checks ─────────────────────────────

    function _checkClient(View memory channel) private view {
        require(msg.sender == channel.client, NotClient(msg.sender, channel.client));
    }

    function _checkOpen(View memory channel) private pure {
        if (_known(channel)) return;
        (bytes4 reason, uint256 got, uint256 limit) = _unknown(channel);
        _revert(reason, got, limit);
    }

    /// @dev The terms are those of {open}, and not of a top-up.
    function _checkOpened(View memory channel) private pure {
        require(
            channel.phase != Phase.NONE && channel.opened == bytes28(channel.hash),
            UnknownTerms(channel.hash, channel.opened)
        );
    }

    /// @dev Reverts with the error that a reason names.
    function _revert(bytes4 reason, uint256 got, uint256 limit) private pure {
        bytes memory data = abi.encodeWithSelector(reason, got, limit);
        assembly ("memory-safe") {
            revert(add(data, 0x20), mload(data))
        }
    }

    /// @dev The leaf is of this channel and under a root that the receipt key signed.
    function _checkLeaf(bytes32 channelId, address receiptKey, SignedLeaf calldata signed)
        private
        view
        returns (LockLeaf memory leaf)
    {
        Checkpoint memory root = signed.checkpoint;
        require(root.channelId == channelId, WrongChannel(root.channelId, channelId));
        bytes32 digest = _checkpointDigest(channelId, root.index, root.word, root.locksRoot);
        _checkSigner(digest, signed.signature, receiptKey);
        leaf = signed.leaf;
        bytes32 got = MerkleProof.processProofCalldata(signed.path, ChannelHash.leaf(leaf));
        require(got == root.locksRoot, LeafNotUnderRoot(got, root.locksRoot));
    }

    function _checkSigner(bytes32 digest, Signature calldata signature, address expected) private pure {
        (bool ok, address recovered) = _signed(digest, signature, expected);
        require(ok, WrongSigner(recovered, expected));
    }

    /// @dev Strict ECDSA with the raw key (never ERC-1271): recovers 0 for a high `s`, a `v` other than 27 or 28, or no
    /// signature. What recovers 0 is nobody's signature, not even of the zero address, were that a party.
    function _signed(bytes32 digest, Signature calldata signature, address expected)
        private
        pure
        returns (bool ok, address recovered)
    {
        (recovered,,) = ECDSA.tryRecover(digest, signature.v, signature.r, signature.s);
        ok = recovered == expected && recovered != address(0);
    }

    function _checkpointDigest(bytes32 channelId, uint32 index, bytes32 word, bytes32 locksRoot)
        private
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(ChannelHash.checkpoint(channelId, index, word, locksRoot));
    }
}
