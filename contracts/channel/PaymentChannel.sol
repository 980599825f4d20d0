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
/// @notice See {IPaymentChannel}. Each function reads: check, effect (nothing here interacts but a deposit, which is guarded).
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
        KEPT, // topped up, or an anchor moved: there may be more in the second slot and in `_anchors`
        CLOSED
    }

    /// @dev 224 bits of the hash are enough. To pass off other terms for those that were opened a stranger needs a second
    /// preimage, 2^224. Who makes both terms needs a collision, 2^112, as much as a 2048-bit RSA key.
    struct Record {
        bytes28 opened; // hash of the terms of `open`
        uint24 settled; // at most MAX_LENGTH
        Phase phase;
        // Second slot: zero until a top-up or a proof.
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
        bytes32 hash; // of the terms at hand
        bytes28 opened;
        bool known; // the channel has these terms
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
        Record storage record = _records[channelId];
        require(msg.sender == permit.client || msg.sender == bank, NotClientOrBank(msg.sender, permit.client, bank));
        bytes32 expected = channelIdOf(permit.client, permit.vendor, salt);
        require(channelId == expected, WrongChannelId(channelId, expected));
        require(record.phase == Phase.NONE, ChannelExists(channelId));
        require(permit.unit != 0, UnitZero());
        bytes32 terms = _admit(permit, bank, sigma0, 1, uint64(block.timestamp) + 1);

        // Interaction, before the effect it measures; re-entry is barred.
        _take(permit.asset, uint256(permit.length) * permit.unit);

        // Effect.
        record.opened = bytes28(terms);
        record.phase = Phase.FRESH;
        emit Opened(channelId, permit.client, permit.vendor, bank, permit, sigma0);
    }

    /// @inheritdoc IPaymentChannel
    function topUp(Terms calldata terms, OpenPermit calldata permit, Signature calldata sigma0)
        external
        payable
        nonReentrant
    {
        // Check.
        View memory channel = _view(terms);
        _checkClient(terms);
        _checkReason(_open(channel));
        _checkReason(_inTime(channel));
        bytes32 parties = _parties(permit);
        bytes32 expected = _parties(terms.permit);
        require(parties == expected, PartiesChanged(parties, expected));
        // Casts are safe: both come from a 32- and a 64-bit field.
        bytes32 hash = _admit(permit, terms.bank, sigma0, uint32(channel.length) + 1, uint64(channel.expiry));

        // Interaction, before the effect it measures; re-entry is barred.
        _take(permit.asset, (permit.length - channel.length) * permit.unit);

        // Effect.
        Record storage record = _records[permit.channelId];
        record.phase = Phase.KEPT;
        record.length = permit.length;
        record.expiry = uint40(permit.expiry); // at most a year ahead
        _anchors[hash] = Anchor(bytes28(permit.anchor), 0, true);
        emit ToppedUp(permit.channelId, permit, sigma0);
    }

    /// @inheritdoc IPaymentChannel
    function refund(Terms calldata terms) external {
        // Check.
        View memory channel = _view(terms);
        _checkClient(terms);
        _checkReason(_open(channel));
        require(block.timestamp > channel.expiry, RefundTooEarly(block.timestamp, channel.expiry));

        // Effect.
        uint256 refunded = (channel.length - channel.settled) * terms.permit.unit;
        _records[terms.permit.channelId].phase = Phase.CLOSED;
        if (refunded != 0) _credit(terms.permit.asset, terms.permit.client, refunded);
        emit Refunded(terms.permit.channelId, uint32(channel.settled), refunded);
    }

    // ───────────────────────────── Vendor ─────────────────────────────

    /// @inheritdoc IPaymentChannel
    function checkpoint(Terms calldata terms, Proof calldata proof) external {
        View memory channel = _view(terms);
        _checkReason(_mayCheckpoint(channel, terms, proof));
        _credit(terms.permit.asset, terms.permit.vendor, _checkpoint(channel, terms, proof));
    }

    /// @inheritdoc IPaymentChannel
    function close(Terms calldata terms, Proof calldata proof, bytes32 transcript, LastReceipt calldata receipt)
        external
    {
        View memory channel = _view(terms);
        _checkReason(_mayClose(channel, terms, proof));
        (uint256 paid, uint256 refunded) = _close(channel, terms, proof, transcript, receipt);
        if (paid != 0) _credit(terms.permit.asset, terms.permit.vendor, paid);
        if (refunded != 0) _credit(terms.permit.asset, terms.permit.client, refunded);
    }

    /// @inheritdoc IPaymentChannel
    function batchCheckpoint(CheckpointItem[] calldata items) external {
        Due memory vendor;
        for (uint256 i; i < items.length; ++i) {
            Terms calldata terms = items[i].terms;
            View memory channel = _view(terms);
            Reason memory reason = _mayCheckpoint(channel, terms, items[i].proof);
            if (reason.selector != 0) {
                emit ItemSkipped(terms.permit.channelId, reason.selector, reason.got, reason.limit);
                continue;
            }
            _add(vendor, terms.permit.asset, terms.permit.vendor, _checkpoint(channel, terms, items[i].proof));
        }
        _flush(vendor);
    }

    /// @inheritdoc IPaymentChannel
    function batchClose(CloseItem[] calldata items) external {
        Due memory vendor;
        Due memory client;
        for (uint256 i; i < items.length; ++i) {
            CloseItem calldata item = items[i];
            Terms calldata terms = item.terms;
            View memory channel = _view(terms);
            Reason memory reason = _mayClose(channel, terms, item.proof);
            if (reason.selector != 0) {
                emit ItemSkipped(terms.permit.channelId, reason.selector, reason.got, reason.limit);
                continue;
            }
            (uint256 paid, uint256 refunded) = _close(channel, terms, item.proof, item.transcript, item.receipt);
            _add(vendor, terms.permit.asset, terms.permit.vendor, paid);
            _add(client, terms.permit.asset, terms.permit.client, refunded);
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
        Record storage record = _opened(terms);
        _checkOperator(terms.permit.vendor);
        bytes32 channelId = terms.permit.channelId;
        require(!record.badLockProven, AlreadyProven(channelId));
        _checkLeaf(terms.permit, bad);
        LockLeaf calldata leaf = bad.leaf;
        bytes32 opener = ChannelHash.tag(channelId, leaf.index, r, s);
        require(opener == leaf.tag, OpenerNotTagged(opener, leaf.tag));
        bytes32 expected = terms.tag0;
        if (leaf.previous != 0) {
            _checkLeaf(terms.permit, predecessor);
            require(predecessor.leaf.index == leaf.previous, WrongPredecessor(predecessor.leaf.index, leaf.previous));
            expected = predecessor.leaf.tag;
        }
        (bytes32 previousR, bytes32 previousS) = ChannelHash.open(leaf.lockR, leaf.lockS, r, s);
        bytes32 hidden = ChannelHash.tag(channelId, leaf.previous, previousR, previousS);
        require(hidden != expected, LockOpens(expected));

        // Effect.
        record.badLockProven = true;
        _lower(terms, BAD_LOCK_PENALTY);
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
        OpenPermit calldata permit = terms.permit;
        View memory channel = _view(terms);
        require(
            msg.sender == permit.client || _actsFor(permit.vendor), NotParty(msg.sender, permit.client, permit.vendor)
        );
        _checkReason(_open(channel));
        // Casts are safe: both come from 32-bit fields.
        require(
            index >= channel.settled && index <= channel.length,
            IndexOutOfRange(index, uint32(channel.settled), uint32(channel.length))
        );
        bytes32 digest = _hashTypedDataV4(ChannelHash.cooperativeClose(permit.channelId, index));
        _checkSigner(digest, clientSignature, permit.client);
        _checkSigner(digest, vendorSignature, permit.vendor);

        // Effect.
        uint256 paid = (index - channel.settled) * permit.unit;
        uint256 refunded = (channel.length - index) * permit.unit;
        Record storage record = _records[permit.channelId];
        record.settled = uint24(index); // at most the length
        record.phase = Phase.CLOSED;
        if (paid != 0) _credit(permit.asset, permit.vendor, paid);
        if (refunded != 0) _credit(permit.asset, permit.client, refunded);
        emit CooperativelyClosed(permit.channelId, index, paid, refunded);
        _raise(terms.bank, permit.client);
        _raise(terms.bank, permit.vendor);
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
        Record storage record = _opened(terms);
        bytes32 channelId = terms.permit.channelId;
        require(!record.doubleReceiptProven, AlreadyProven(channelId));
        require(a.channelId == channelId, WrongChannel(a.channelId, channelId));
        bytes32 digestA = receiptDigest(a);
        bytes32 digestB = receiptDigest(b);
        require(
            b.channelId == channelId && a.index == b.index && digestA != digestB, NotDoubleReceipt(digestA, digestB)
        );
        _checkSigner(digestA, signatureA, terms.permit.receiptKey);
        _checkSigner(digestB, signatureB, terms.permit.receiptKey);

        // Effect.
        record.doubleReceiptProven = true;
        _lower(terms, DOUBLE_RECEIPT_PENALTY);
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
        Record storage record = _records[terms.permit.channelId];
        return Channel({
            settled: uint32(seen.settled),
            length: uint32(seen.length),
            expiry: uint64(seen.expiry),
            status: _status(seen.phase),
            badLockProven: record.badLockProven,
            doubleReceiptProven: record.doubleReceiptProven
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
        return ChannelHash.terms(ChannelHash.permit(terms.permit), terms.bank, terms.tag0);
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
        require(
            permit.length >= lowLength && permit.length <= MAX_LENGTH,
            LengthOutOfRange(permit.length, lowLength, MAX_LENGTH)
        );
        uint256 deposit = uint256(permit.length) * permit.unit;
        require(deposit <= type(uint128).max, DepositTooLarge(deposit, type(uint128).max));
        uint64 highExpiry = uint64(block.timestamp) + MAX_LIFE;
        require(
            permit.expiry >= lowExpiry && permit.expiry <= highExpiry,
            ExpiryOutOfRange(permit.expiry, lowExpiry, highExpiry)
        );
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

    /// @dev Takes exactly `amount`: with less the last payments would be bad, with more nobody would own the rest.
    function _take(address asset, uint256 amount) private {
        uint256 received = _deposit(asset, amount);
        require(received == amount, FundsDiffer(received, amount));
    }

    /// @dev What a top-up must leave as it is.
    function _parties(OpenPermit calldata permit) private pure returns (bytes32) {
        return keccak256(
            abi.encode(permit.channelId, permit.client, permit.vendor, permit.receiptKey, permit.asset, permit.unit)
        );
    }

    // ───────────────────────────── Settling ─────────────────────────────

    /// @dev Why a channel is refused: an error's selector (0: it is not) with its two values. A value, so that one channel
    /// cannot stop its batch.
    struct Reason {
        bytes4 selector;
        uint256 got;
        uint256 limit;
    }

    function _mayCheckpoint(View memory channel, Terms calldata terms, Proof calldata proof)
        private
        view
        returns (Reason memory reason)
    {
        reason = _open(channel);
        if (reason.selector != 0) return reason;
        reason = _inTime(channel);
        if (reason.selector != 0) return reason;
        if (proof.index <= channel.settled) {
            return Reason(IndexNotAboveSettled.selector, proof.index, channel.settled);
        }
        return _proves(channel, terms, proof);
    }

    function _mayClose(View memory channel, Terms calldata terms, Proof calldata proof)
        private
        view
        returns (Reason memory reason)
    {
        if (!_actsFor(terms.permit.vendor)) {
            return Reason(NotOperator.selector, uint160(msg.sender), uint160(terms.permit.vendor));
        }
        reason = _open(channel);
        if (reason.selector != 0) return reason;
        reason = _inTime(channel);
        if (reason.selector != 0) return reason;
        if (proof.index > channel.settled) return _proves(channel, terms, proof);
    }

    function _open(View memory channel) private pure returns (Reason memory reason) {
        Status status = _status(channel.phase);
        if (status != Status.OPEN) return Reason(WrongStatus.selector, uint256(status), uint256(Status.OPEN));
        if (!channel.known) {
            return Reason(UnknownTerms.selector, uint256(channel.hash), uint256(bytes32(channel.opened)));
        }
    }

    function _inTime(View memory channel) private view returns (Reason memory reason) {
        if (block.timestamp > channel.expiry) return Reason(TooLate.selector, block.timestamp, channel.expiry);
    }

    /// @dev Whether a proof above what is settled holds. Nothing that another transaction may do to the channel, but
    /// settling as much or closing, makes a proof fail that held.
    function _proves(View memory channel, Terms calldata terms, Proof calldata proof)
        private
        view
        returns (Reason memory reason)
    {
        OpenPermit calldata permit = terms.permit;
        uint256 index = proof.index;
        if (index > permit.length) return Reason(IndexAboveLength.selector, index, permit.length);
        uint256 start = proof.signedIndex;
        bytes28 word;
        if (start == 0) {
            (start, word) = _anchor(channel, permit.anchor); // at most what is settled
        } else {
            if (start > index) return Reason(SignedIndexAboveIndex.selector, start, index);
            bytes32 digest = _checkpointDigest(permit.channelId, proof.signedIndex, proof.signedWord, proof.locksRoot);
            address recovered = _recover(digest, proof.signature);
            if (recovered == address(0) || recovered != permit.receiptKey) {
                return Reason(WrongSigner.selector, uint160(recovered), uint160(permit.receiptKey));
            }
            word = bytes28(proof.signedWord);
        }
        bytes32 walked = ChannelHash.walk(proof.word, permit.channelId, index - start);
        if (bytes28(walked) != word) return Reason(WordNotInChain.selector, uint256(walked), uint256(bytes32(word)));
    }

    /// @dev Settles at an index that was proven, above what was settled; returns what the vendor is owed for it.
    function _checkpoint(View memory channel, Terms calldata terms, Proof calldata proof)
        private
        returns (uint256 paid)
    {
        bytes32 channelId = terms.permit.channelId;
        Record storage record = _records[channelId];
        paid = (proof.index - channel.settled) * terms.permit.unit;
        record.settled = uint24(proof.index); // at most the length
        if (proof.signedIndex == 0) {
            record.phase = Phase.KEPT;
            _anchors[channel.hash] = Anchor(bytes28(proof.word), uint24(proof.index), true);
        }
        emit Checkpointed(channelId, proof.index, proof.word, paid);
    }

    /// @dev Closes at an index that was proven, or at what is settled; returns what both are owed.
    function _close(
        View memory channel,
        Terms calldata terms,
        Proof calldata proof,
        bytes32 transcript,
        LastReceipt calldata receipt
    ) private returns (uint256 paid, uint256 refunded) {
        bytes32 channelId = terms.permit.channelId;
        uint256 index = proof.index > channel.settled ? proof.index : channel.settled;
        paid = (index - channel.settled) * terms.permit.unit;
        refunded = (channel.length - index) * terms.permit.unit;
        Record storage record = _records[channelId];
        record.settled = uint24(index); // at most the length
        record.phase = Phase.CLOSED;
        emit Closed(channelId, uint32(index), paid, refunded, transcript);
        if (receipt.sigma.v != 0) _showReceipt(terms, proof.index, transcript, receipt);
    }

    /// @dev Records the last receipt if the receipt key signed it. `index` is the proof's, though more may be settled.
    function _showReceipt(Terms calldata terms, uint32 index, bytes32 transcript, LastReceipt calldata receipt)
        private
    {
        OpenPermit calldata permit = terms.permit;
        bytes32 digest = receiptDigest(
            Receipt({
                channelId: permit.channelId,
                index: index,
                itemHash: receipt.itemHash,
                cumulative: uint128(uint256(index) * permit.unit), // index <= length, and length × unit fits
                issuedAt: receipt.issuedAt,
                transcript: transcript
            })
        );
        address recovered = _recover(digest, receipt.sigma);
        if (recovered == address(0) || recovered != permit.receiptKey) return;
        emit ReceiptShown(permit.channelId, index, digest);
        _raise(terms.bank, permit.client);
        _raise(terms.bank, permit.vendor);
    }

    /// @dev Books credit, and writes what was booked before if that is another account's or asset's.
    function _add(Due memory due, address asset, address account, uint256 amount) private {
        if (amount == 0) return;
        if (due.account != account || due.asset != asset) {
            _flush(due);
            due.asset = asset;
            due.account = account;
            due.amount = 0;
        }
        due.amount += amount;
    }

    function _flush(Due memory due) private {
        if (due.amount != 0) _credit(due.asset, due.account, due.amount);
    }

    // ───────────────────────────── Reputation ─────────────────────────────

    function _raise(address bank, address customer) private {
        uint8 reputation = _reputationOf[bank][customer];
        if (reputation < MAX_REPUTATION) _reputationOf[bank][customer] = reputation + 1;
    }

    /// @dev Lowers the client's, to no less than 0.
    function _lower(Terms calldata terms, uint8 penalty) private {
        uint8 reputation = _reputationOf[terms.bank][terms.permit.client];
        _reputationOf[terms.bank][terms.permit.client] = reputation > penalty ? reputation - penalty : 0;
    }

    // ───────────────────────────── Reading ─────────────────────────────

    function _view(Terms calldata terms) private view returns (View memory channel) {
        Record storage record = _records[terms.permit.channelId];
        channel.hash = termsHash(terms);
        channel.opened = record.opened;
        channel.settled = record.settled;
        channel.phase = record.phase;
        channel.length = terms.permit.length;
        channel.expiry = terms.permit.expiry;
        if (channel.phase == Phase.NONE) return channel;
        channel.known = channel.opened == bytes28(channel.hash);
        if (channel.phase == Phase.FRESH) return channel;
        if (!channel.known) channel.known = _anchors[channel.hash].known;
        if (record.length != 0) (channel.length, channel.expiry) = (record.length, record.expiry);
    }

    /// @dev Where the walk of a proof without a signed checkpoint ends.
    function _anchor(View memory channel, bytes32 opened) private view returns (uint32 index, bytes28 word) {
        if (channel.phase != Phase.FRESH) {
            Anchor storage moved = _anchors[channel.hash];
            if (moved.known) return (moved.index, moved.word);
        }
        return (0, bytes28(opened));
    }

    /// @dev The record of a channel, if these are the terms it was opened with.
    function _opened(Terms calldata terms) private view returns (Record storage record) {
        record = _records[terms.permit.channelId];
        bytes32 hash = termsHash(terms);
        bytes28 opened = record.opened;
        require(opened == bytes28(hash) && record.phase != Phase.NONE, UnknownTerms(hash, opened));
    }

    function _status(Phase phase) private pure returns (Status) {
        if (phase == Phase.NONE) return Status.NONE;
        return phase == Phase.CLOSED ? Status.CLOSED : Status.OPEN;
    }

    // ───────────────────────────── Checks ─────────────────────────────

    function _checkClient(Terms calldata terms) private view {
        require(msg.sender == terms.permit.client, NotClient(msg.sender, terms.permit.client));
    }

    /// @dev Reverts with the error that a reason names.
    function _checkReason(Reason memory reason) private pure {
        if (reason.selector == 0) return;
        bytes memory data = abi.encodeWithSelector(reason.selector, reason.got, reason.limit);
        assembly ("memory-safe") {
            revert(add(data, 0x20), mload(data))
        }
    }

    /// @dev The leaf is of this channel and under a root that the receipt key signed.
    function _checkLeaf(OpenPermit calldata permit, SignedLeaf calldata signed) private view {
        Checkpoint calldata root = signed.checkpoint;
        require(root.channelId == permit.channelId, WrongChannel(root.channelId, permit.channelId));
        bytes32 digest = _checkpointDigest(root.channelId, root.index, root.word, root.locksRoot);
        _checkSigner(digest, signed.signature, permit.receiptKey);
        bytes32 got = MerkleProof.processProofCalldata(signed.path, ChannelHash.leaf(signed.leaf));
        require(got == root.locksRoot, LeafNotUnderRoot(got, root.locksRoot));
    }

    /// @dev A signature that recovers nothing is nobody's: not even of the zero address, were that a party.
    function _checkSigner(bytes32 digest, Signature calldata signature, address expected) private pure {
        address recovered = _recover(digest, signature);
        require(recovered != address(0) && recovered == expected, WrongSigner(recovered, expected));
    }

    /// @dev Strict ECDSA with the raw key (never ERC-1271): 0 for a high `s`, a `v` other than 27 or 28, or no signature.
    function _recover(bytes32 digest, Signature calldata signature) private pure returns (address recovered) {
        (recovered,,) = ECDSA.tryRecover(digest, signature.v, signature.r, signature.s);
    }

    function _checkpointDigest(bytes32 channelId, uint32 index, bytes32 word, bytes32 locksRoot)
        private
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(ChannelHash.checkpoint(channelId, index, word, locksRoot));
    }
}
