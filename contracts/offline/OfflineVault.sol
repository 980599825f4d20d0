// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Ledger} from "../shared/Ledger.sol";
import {IOfflineVault} from "./IOfflineVault.sol";
import {OfflineHash} from "./OfflineHash.sol";
import {OfflineSignature} from "./OfflineSignature.sol";
import {TransientSlot} from "@openzeppelin/contracts/utils/TransientSlot.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title OfflineVault
/// @notice See {IOfflineVault}. Each function reads: check, effect, interaction. Deposits of money come first instead, since
/// what arrives is what counts; the guard keeps one transfer from being counted twice, and nothing that a token may call
/// from within reads what the step after it writes.
///
/// A coin is one slot while it is redeemed from its upper end, as payments come in their order: `[0, end)` is free. A part
/// taken from the middle leaves a free part above it, a slot of its own; each knows where the next above begins.
contract OfflineVault is IOfflineVault, Ledger, EIP712("Micropay Offline Vault", "1") {
    using TransientSlot for *;

    /// @inheritdoc IOfflineVault
    uint256 public constant MAX_HOPS = 16;
    /// @inheritdoc IOfflineVault
    uint64 public constant GRACE = 7 days;
    /// @inheritdoc IOfflineVault
    uint64 public constant MAX_COIN_LIFE = 90 days;
    /// @inheritdoc IOfflineVault
    uint64 public constant CLOCK_SKEW = 10 minutes;
    /// @inheritdoc IOfflineVault
    uint64 public constant COLLATERAL_DELAY = MAX_COIN_LIFE + 2 * GRACE + CLOCK_SKEW;

    /// @dev What spent the input of a log's entry whose digest is zero: no transfer has this one.
    bytes32 private constant NO_TRANSFER = bytes32(uint256(1));

    // A hop's tag.
    uint256 private constant EVIDENCE = 0x03;
    uint256 private constant RECORDED = 0;
    uint256 private constant SIGNATURE = 1;
    uint256 private constant LOG = 2;
    uint256 private constant CHANGE = 0x04;
    uint256 private constant EXIT = 0x08;
    uint256 private constant KNOWN_TAGS = 0x0f;

    // Bytes of a path's parts.
    uint256 private constant KEY_SIZE = 64;
    uint256 private constant HEAD_SIZE = 49; // tag 1, sequence 8, previous 32, issuedAt 8
    uint256 private constant TERMS_SIZE = 48; // amount 16, invoice 32
    uint256 private constant SIGNATURE_SIZE = 64;
    uint256 private constant BASE_SIZE = 34; // base 32, count 2

    // Marks of a wallet.
    uint32 private constant LOGGED = 1; // of the LOG kind
    uint32 private constant EQUIVOCATED = 2;
    uint256 private constant MARK_BITS = 2;
    /// @dev Room for as many classes as nobody can pay for to fill it, also where gas is cheap (10^14 gas).
    uint256 private constant MOST_CLASSES = type(uint32).max >> MARK_BITS;

    /// @dev An exit is the one of 96 of its group.
    uint256 private constant GROUP = 96;
    /// @dev A coin of no more than this leaves its slot room for two places in it and a time.
    uint256 private constant MOST_AMOUNT = type(uint104).max;
    /// @dev Free parts that {reclaim} and {compensate} visit in one call.
    uint256 private constant MOST_PARTS = 64;
    /// @dev Of a coin that was reclaimed to its end.
    uint256 private constant RECLAIMED = type(uint256).max;
    /// @dev Of an exit whose part of the coin was compensated to its end.
    uint128 private constant GATHERED = type(uint128).max;

    /// @dev One slot. Seconds in 32 bits last until 2106.
    struct WalletRecord {
        address owner;
        uint32 validUntil;
        uint32 revokedAt;
        uint32 classAndMarks; // the class's number, MARK_BITS up; LOGGED, EQUIVOCATED
    }

    struct LogRecord {
        bytes32 name;
        bytes32 head;
    }

    struct ClassRecord {
        address registrar;
        uint32 class;
        uint32 killedAt;
    }

    /// @dev The lowest free part of a coin, `[0, end)`. Zero once the whole coin is taken: that gives gas back, and
    /// `_deposits` still knows it.
    struct CoinRecord {
        uint104 end;
        uint104 above; // where the next free part begins; 0: there is none
        uint48 settleBy;
    }

    /// @dev A further free part, `[its key, end)`; empty if they are equal. It never goes away.
    struct Part {
        uint128 end;
        uint128 above;
    }

    struct DepositRecord {
        address depositor;
        uint48 settleBy;
    }

    /// @dev The exits paid of one wallet and group: a bit each, and an accumulator over their digests.
    struct Exits {
        uint96 bits;
        uint160 paid;
    }

    /// @dev What an exit was compensated with, and which free part of the coin comes next: 0 the first, {GATHERED} none.
    struct Compensation {
        uint128 paid;
        uint128 next;
    }

    /// @dev What a path is walked for.
    enum Purpose {
        REDEEM,
        BATCH, // to redeem, with others
        RECORD,
        COMPENSATE
    }

    /// @dev Where a walk down a path is: the wallet at hand, its input, and which part of the coin that is. Or why it ended.
    struct Walk {
        bytes4 reason;
        uint256 got;
        uint256 limit;
        Purpose purpose;
        bytes32 domain;
        bytes32 coinId;
        bytes32 x;
        bytes32 y;
        bytes32 wallet;
        uint256 low;
        uint256 high;
        bytes32 digest; // of the hop at hand
        address owner; // of the wallet at hand
        bool equivocated;
        Transfer hop;
        uint256 offenderHop;
        bytes32 offender;
    }

    /// @dev A free part of a coin.
    struct Free {
        uint256 start;
        uint256 end;
        uint256 above;
    }

    /// @dev Credit that is not written yet, of one account in one asset.
    struct Due {
        address asset;
        address account;
        uint256 amount;
    }

    /// @inheritdoc IOfflineVault
    uint256 public depositNonce;
    uint256 private _classCount;
    mapping(uint256 classId => ClassRecord) private _classes;
    mapping(address registrar => mapping(uint32 class => uint32 classId)) private _classIds; // from 1
    mapping(bytes32 wallet => WalletRecord) private _wallets;
    mapping(bytes32 wallet => LogRecord) private _logs;
    mapping(bytes32 wallet => mapping(address asset => uint256 amount)) private _collateral;
    mapping(bytes32 coin => CoinRecord) private _coins;
    mapping(bytes32 coin => mapping(uint256 start => Part)) private _parts;
    mapping(bytes32 coin => DepositRecord) private _deposits;
    /// @dev Where a {reclaim} that found too many parts goes on.
    mapping(bytes32 coin => uint256 start) private _reclaimed;
    /// @dev By wallet and then input: a log may name inputs that are not its wallet's.
    mapping(bytes32 wallet => mapping(bytes32 input => bytes32 transfer)) private _spentBy;
    mapping(bytes32 wallet => mapping(uint256 group => Exits)) private _exits;
    mapping(bytes32 exit => Compensation) private _compensations;

    // ───────────────────────────── Owner ─────────────────────────────

    /// @inheritdoc IOfflineVault
    function register(
        Registration calldata registration,
        Key calldata key,
        address registrar,
        RegistrarSignature calldata vouched,
        Signature calldata possession
    ) external payable nonReentrant {
        // Check.
        bytes32 wallet = _checkKey(key, registration.wallet);
        bytes32 digest = _hashTypedDataV4(OfflineHash.registration(registration));
        (address recovered,,) = ECDSA.tryRecover(digest, vouched.v, vouched.r, vouched.s);
        require(recovered == registrar && recovered != address(0), WrongSigner(recovered, registrar));
        WalletRecord storage record_ = _wallets[wallet];
        uint64 low = record_.owner == address(0) ? uint64(block.timestamp) : uint64(record_.validUntil) + 1;
        uint64 validUntil = registration.validUntil;
        require(
            validUntil >= low && validUntil <= type(uint32).max, ValidUntilOutOfRange(validUntil, low, type(uint32).max)
        );

        // Effect.
        if (record_.owner != address(0)) {
            _renew(registration, registrar);
        } else {
            require(msg.sender == registration.owner, NotOwner(msg.sender, registration.owner));
            require(
                OfflineSignature.verify(digest, possession.r, possession.s, key.x, key.y), BadSignature(digest, wallet)
            );
            uint32 classId = _classIdOf(registrar, registration.class);
            uint32 killedAt = _classes[classId].killedAt;
            require(killedAt == 0, Stopped(wallet, killedAt));
            bool logged = registration.log != 0;
            _wallets[wallet] = WalletRecord(
                registration.owner, uint32(validUntil), 0, (classId << uint32(MARK_BITS)) | (logged ? LOGGED : 0)
            );
            if (logged) _logs[wallet] = LogRecord(registration.log, OfflineHash.firstHead(digest));
            emit Registered(
                wallet, registrar, registration.owner, registration.class, registration.log, validUntil, digest, key
            );
        }
        if (msg.value != 0) _pledge(wallet, NATIVE, msg.value);
    }

    /// @inheritdoc IOfflineVault
    function addCollateral(bytes32 wallet, address asset, uint256 amount) external payable nonReentrant {
        require(_wallets[wallet].owner != address(0), NotRegistered(wallet, 0));
        uint256 received = _deposit(asset, amount);
        // What a token that lies makes up must not overflow an account's credit: that would stop a batch.
        require(received != 0 && received <= MOST_AMOUNT, AmountOutOfRange(received, 1, MOST_AMOUNT));
        _pledge(wallet, asset, received);
    }

    /// @inheritdoc IOfflineVault
    function releaseCollateral(bytes32 wallet, address asset) external {
        // Check.
        WalletRecord memory record_ = _wallets[wallet];
        require(msg.sender == record_.owner, NotOwner(msg.sender, record_.owner));
        uint256 last = uint256(record_.validUntil) + COLLATERAL_DELAY;
        require(block.timestamp > last, TooEarly(block.timestamp, last));
        uint256 amount = _collateral[wallet][asset];
        require(amount != 0, NothingLeft(wallet));

        // Effect.
        delete _collateral[wallet][asset];
        _credit(asset, record_.owner, amount);
        emit CollateralReleased(wallet, asset, amount);
    }

    // ───────────────────────────── Depositor ─────────────────────────────

    /// @inheritdoc IOfflineVault
    function deposit(bytes32 wallet, address asset, uint128 amount, uint64 settleBy)
        external
        payable
        nonReentrant
        returns (bytes32 coin)
    {
        // Check.
        uint32 validUntil = _checkGoing(wallet).validUntil;
        require(block.timestamp <= validUntil, RegistrationEnded(wallet, validUntil));
        uint64 low = uint64(block.timestamp) + 1;
        uint64 high = uint64(block.timestamp) + MAX_COIN_LIFE;
        require(settleBy >= low && settleBy <= high, SettleByOutOfRange(settleBy, low, high));

        // Interaction.
        uint256 received = _deposit(asset, amount);
        require(received != 0 && received <= MOST_AMOUNT, AmountOutOfRange(received, 1, MOST_AMOUNT));

        // Effect.
        uint256 nonce = depositNonce++;
        coin = OfflineHash.coin(address(this), wallet, asset, received, nonce);
        _coins[coin] = CoinRecord(uint104(received), 0, uint48(settleBy));
        _deposits[coin] = DepositRecord(msg.sender, uint48(settleBy));
        emit Deposited(coin, wallet, msg.sender, asset, uint128(received), nonce, settleBy);
    }

    /// @inheritdoc IOfflineVault
    function reclaim(bytes32 wallet, address asset, uint128 amount, uint256 nonce) external {
        // Check.
        bytes32 coin = coinIdOf(wallet, asset, amount, nonce);
        DepositRecord memory made = _deposits[coin];
        require(made.depositor != address(0), UnknownCoin(coin, 0));
        require(msg.sender == made.depositor, NotDepositor(msg.sender, made.depositor));
        uint256 deadline = uint256(made.settleBy) + GRACE;
        require(block.timestamp > deadline, TooEarly(block.timestamp, deadline));
        uint256 start = _reclaimed[coin];
        require(start != RECLAIMED, NothingLeft(coin));

        // Effect. The parts stay as they are: they show who was double-spent, and not late.
        uint256 sum;
        Free memory part = _partAt(coin, start);
        for (uint256 i = 1;; ++i) {
            sum += part.end - part.start;
            start = part.above == 0 ? RECLAIMED : part.above;
            if (start == RECLAIMED || i == MOST_PARTS) break;
            part = _partAt(coin, start);
        }
        require(sum != 0 || start != RECLAIMED, NothingLeft(coin));
        _reclaimed[coin] = start;
        _credit(asset, made.depositor, sum);
        emit Reclaimed(coin, sum);
    }

    // ───────────────────────────── Anyone ─────────────────────────────

    /// @inheritdoc IOfflineVault
    function redeem(Path calldata path) external {
        Walk memory walk = _redeem(path, Purpose.REDEEM);
        if (walk.reason != 0) _revert(walk);
        _credit(path.asset, walk.owner, walk.high - walk.low);
    }

    /// @inheritdoc IOfflineVault
    function redeemBatch(Path[] calldata paths) external {
        // Credit is written once per run of exits with one owner and asset.
        Due memory due;
        for (uint256 i; i < paths.length; ++i) {
            Path calldata path = paths[i];
            Walk memory walk = _redeem(path, Purpose.BATCH);
            if (walk.reason != 0) {
                emit ItemSkipped(walk.coinId, walk.reason, walk.got, walk.limit);
                continue;
            }
            if (due.account != walk.owner || due.asset != path.asset) {
                _flush(due);
                (due.asset, due.account, due.amount) = (path.asset, walk.owner, 0);
            }
            due.amount += walk.high - walk.low;
        }
        _flush(due);
    }

    /// @inheritdoc IOfflineVault
    function record(Path calldata path) external {
        Walk memory walk = _start(path, Purpose.RECORD);
        if (walk.reason == 0 && _deposits[walk.coinId].depositor == address(0)) {
            _refuse(walk, UnknownCoin.selector, uint256(walk.coinId), 0);
        }
        if (walk.reason == 0) _walk(walk, path.hops);
        if (walk.reason != 0) _revert(walk);
    }

    /// @inheritdoc IOfflineVault
    function settleLog(Key calldata key, Stretch calldata stretch) external {
        // Check.
        bytes32 wallet = OfflineHash.wallet(key.x, key.y);
        bytes32 name = _checkLogged(wallet);
        bytes32 head = _checkStretch(key, name, _logs[wallet].head, stretch);

        // Effect.
        _logs[wallet].head = head;
        mapping(bytes32 input => bytes32 transfer) storage spent = _spentBy[wallet];
        bytes calldata entries = stretch.entries;
        for (uint256 place; place < entries.length; place += OfflineHash.ENTRY_SIZE) {
            bytes32 input = _word(entries, place);
            // Of two spends in one log the first counts, also one by nothing.
            if (spent[input] != 0) continue;
            bytes32 digest = _word(entries, place + 32);
            spent[input] = digest == 0 ? NO_TRANSFER : digest;
        }
        emit LogSettled(wallet, head, entries);
    }

    /// @inheritdoc IOfflineVault
    function proveEquivocation(
        Key calldata key,
        Transfer calldata one,
        Signature calldata signatureOfOne,
        Transfer calldata other,
        Signature calldata signatureOfOther
    ) external {
        // Check.
        bytes32 wallet = OfflineHash.wallet(key.x, key.y);
        require(_wallets[wallet].owner != address(0), NotRegistered(wallet, 0));
        require(_wallets[wallet].classAndMarks & LOGGED == 0, WrongKind(wallet, _logs[wallet].name));
        (bytes32 digest, bytes32 second) = (transferDigest(one), transferDigest(other));
        require(
            digest != second && (one.input == other.input || one.sequence == other.sequence),
            NotEquivocation(digest, second)
        );
        require(
            OfflineSignature.verify(digest, signatureOfOne.r, signatureOfOne.s, key.x, key.y),
            BadSignature(digest, wallet)
        );
        require(
            OfflineSignature.verify(second, signatureOfOther.r, signatureOfOther.s, key.x, key.y),
            BadSignature(second, wallet)
        );

        // Effect.
        _equivocated(wallet, digest, second);
    }

    /// @inheritdoc IOfflineVault
    function proveFork(Key calldata key, bytes32 base, Stretch calldata one, Stretch calldata other) external {
        // Check.
        bytes32 wallet = OfflineHash.wallet(key.x, key.y);
        bytes32 name = _checkLogged(wallet);
        bytes32 head = _checkStretch(key, name, base, one);
        bytes32 second = _checkStretch(key, name, base, other);
        bytes32 entry = keccak256(one.entries[:OfflineHash.ENTRY_SIZE]);
        bytes32 secondEntry = keccak256(other.entries[:OfflineHash.ENTRY_SIZE]);
        require(entry != secondEntry, NotFork(entry, secondEntry));

        // Effect.
        _equivocated(wallet, head, second);
    }

    /// @inheritdoc IOfflineVault
    function compensate(Path calldata path, uint256 offender, bytes32[] calldata paid) external {
        // Check.
        Walk memory walk = _start(path, Purpose.COMPENSATE);
        walk.offenderHop = offender;
        uint256 settleBy = _deposits[walk.coinId].settleBy;
        if (walk.reason == 0) _inTime(walk, settleBy, 2 * GRACE);
        if (walk.reason == 0) _walk(walk, path.hops);
        if (walk.reason != 0) _revert(walk);
        require(walk.offender != 0, NotEquivocated(0, offender));
        require(walk.offender != walk.wallet, OffenderIsPayee(walk.wallet));
        Compensation memory made = _compensations[walk.digest];
        require(made.paid < walk.high - walk.low, AlreadyCompensated(walk.digest));
        _checkUnpaid(walk, paid);
        Free memory part = _find(walk.coinId, path.near, walk.low);
        require(walk.high > part.end, ExitNotDoubleSpent(walk.high, part.end));

        // Effect.
        // After the coin's time what is free of it is the depositor's.
        if (block.timestamp > settleBy + GRACE) made.next = GATHERED;
        if (made.next != 0) part = _partAt(walk.coinId, made.next);
        _compensate(walk, path.asset, made, part);
    }

    // ───────────────────────────── Registrar ─────────────────────────────

    /// @inheritdoc IOfflineVault
    function revoke(bytes32 wallet) external {
        WalletRecord storage record_ = _wallets[wallet];
        address registrar = _classes[record_.classAndMarks >> MARK_BITS].registrar;
        require(msg.sender == registrar, NotRegistrar(msg.sender, registrar));
        require(record_.revokedAt == 0, AlreadyStopped(record_.revokedAt));
        record_.revokedAt = uint32(block.timestamp);
        emit Revoked(wallet, uint64(block.timestamp));
    }

    /// @inheritdoc IOfflineVault
    function killClass(uint32 class) external {
        ClassRecord storage record_ = _classes[_classIdOf(msg.sender, class)];
        require(record_.killedAt == 0, AlreadyStopped(record_.killedAt));
        record_.killedAt = uint32(block.timestamp);
        emit ClassKilled(msg.sender, class, uint64(block.timestamp));
    }

    // ───────────────────────────── Views ─────────────────────────────

    /// @inheritdoc IOfflineVault
    function walletOf(bytes32 wallet) external view returns (Wallet memory) {
        WalletRecord memory record_ = _wallets[wallet];
        ClassRecord memory class = _classes[record_.classAndMarks >> MARK_BITS];
        LogRecord memory log = _logs[wallet];
        return Wallet({
            owner: record_.owner,
            registrar: class.registrar,
            class: class.class,
            validUntil: record_.validUntil,
            revokedAt: record_.revokedAt,
            killedAt: class.killedAt,
            equivocated: record_.classAndMarks & EQUIVOCATED != 0,
            log: log.name,
            head: log.head
        });
    }

    /// @inheritdoc IOfflineVault
    function coinOf(bytes32 coin) external view returns (Coin memory seen) {
        DepositRecord memory made = _deposits[coin];
        (seen.depositor, seen.settleBy) = (made.depositor, made.settleBy);
        uint256 start = _reclaimed[coin];
        while (start != RECLAIMED) {
            Free memory part = _partAt(coin, start);
            seen.left += uint128(part.end - part.start);
            start = part.above == 0 ? RECLAIMED : part.above;
        }
    }

    /// @inheritdoc IOfflineVault
    function freePartOf(bytes32 coin, uint128 place) external view returns (uint128 start, uint128 end) {
        Free memory part = _find(coin, 0, place);
        return (uint128(part.start), uint128(part.end));
    }

    /// @inheritdoc IOfflineVault
    function collateralOf(bytes32 wallet, address asset) external view returns (uint256) {
        return _collateral[wallet][asset];
    }

    /// @inheritdoc IOfflineVault
    function classKilledAt(address registrar, uint32 class) external view returns (uint64) {
        return _classes[_classIds[registrar][class]].killedAt;
    }

    /// @inheritdoc IOfflineVault
    function spentBy(bytes32 wallet, bytes32 input) external view returns (bytes32) {
        return _spentBy[wallet][input];
    }

    /// @inheritdoc IOfflineVault
    function isRedeemed(bytes32 wallet, uint64 sequence) external view returns (bool) {
        return (_exits[wallet][sequence / GROUP].bits >> (sequence % GROUP)) & 1 != 0;
    }

    /// @inheritdoc IOfflineVault
    function redeemedOf(bytes32 wallet, uint64 sequence) external view returns (uint96 exits, uint160 paid) {
        Exits memory seen = _exits[wallet][sequence / GROUP];
        return (seen.bits, seen.paid);
    }

    /// @inheritdoc IOfflineVault
    function compensatedOf(bytes32 exit) external view returns (uint256) {
        return _compensations[exit].paid;
    }

    /// @inheritdoc IOfflineVault
    function walletIdOf(Key calldata key) external pure returns (bytes32) {
        return OfflineHash.wallet(key.x, key.y);
    }

    /// @inheritdoc IOfflineVault
    function coinIdOf(bytes32 wallet, address asset, uint128 amount, uint256 nonce) public view returns (bytes32) {
        return OfflineHash.coin(address(this), wallet, asset, amount, nonce);
    }

    /// @inheritdoc IOfflineVault
    function fragmentIdOf(bytes32 transfer, uint8 k) external pure returns (bytes32) {
        return OfflineHash.fragment(transfer, k);
    }

    /// @inheritdoc IOfflineVault
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// @inheritdoc IOfflineVault
    function registrationDigest(Registration calldata registration) external view returns (bytes32) {
        return _hashTypedDataV4(OfflineHash.registration(registration));
    }

    /// @inheritdoc IOfflineVault
    function depositReceiptDigest(DepositReceipt calldata receipt) external view returns (bytes32) {
        return _hashTypedDataV4(OfflineHash.depositReceipt(receipt));
    }

    /// @inheritdoc IOfflineVault
    function invoiceDigest(Invoice calldata invoice) external view returns (bytes32) {
        return _hashTypedDataV4(OfflineHash.invoice(invoice));
    }

    /// @inheritdoc IOfflineVault
    function transferDigest(Transfer calldata transfer) public view returns (bytes32) {
        return OfflineHash.transfer(_domainSeparatorV4(), transfer);
    }

    /// @inheritdoc IOfflineVault
    function acceptanceDigest(Acceptance calldata acceptance) external view returns (bytes32) {
        return _hashTypedDataV4(OfflineHash.acceptance(acceptance));
    }

    // ───────────────────────────── Wallets ─────────────────────────────

    /// @dev A later end for a wallet that is as it was, and not stopped.
    function _renew(Registration calldata registration, address registrar) private {
        bytes32 wallet = registration.wallet;
        WalletRecord memory record_ = _checkGoing(wallet);
        ClassRecord memory class = _classes[record_.classAndMarks >> MARK_BITS];
        bytes32 got = keccak256(abi.encode(registration.owner, registrar, registration.class, registration.log));
        bytes32 expected = keccak256(abi.encode(record_.owner, class.registrar, class.class, _logs[wallet].name));
        require(got == expected, RegistrationChanged(got, expected));
        _wallets[wallet].validUntil = uint32(registration.validUntil); // checked by the caller
        emit Renewed(wallet, registration.validUntil);
    }

    /// @dev The number of a registrar's class, a new one if there is none.
    function _classIdOf(address registrar, uint32 class) private returns (uint32 classId) {
        classId = _classIds[registrar][class];
        if (classId != 0) return classId;
        uint256 next = ++_classCount;
        require(next <= MOST_CLASSES, TooManyClasses(next, MOST_CLASSES));
        classId = uint32(next);
        _classIds[registrar][class] = classId;
        _classes[classId] = ClassRecord(registrar, class, 0);
    }

    function _pledge(bytes32 wallet, address asset, uint256 amount) private {
        _collateral[wallet][asset] += amount;
        emit CollateralAdded(wallet, asset, msg.sender, amount);
    }

    /// @dev From the second of this call on, and never from an earlier one: who could back-date could void honest payments
    /// (rule E8).
    /// @dev Does not stop the wallet: an owner would prove itself to void what it pays, or to shorten its payees' time.
    function _equivocated(bytes32 wallet, bytes32 one, bytes32 other) private {
        WalletRecord storage record_ = _wallets[wallet];
        require(record_.classAndMarks & EQUIVOCATED == 0, AlreadyEquivocated(wallet));
        record_.classAndMarks |= EQUIVOCATED;
        emit Equivocated(wallet, one, other);
    }

    /// @dev Registered, not stopped, and not proven to have equivocated.
    function _checkGoing(bytes32 wallet) private view returns (WalletRecord memory record_) {
        record_ = _wallets[wallet];
        require(record_.owner != address(0), NotRegistered(wallet, 0));
        uint32 killedAt = _classes[record_.classAndMarks >> MARK_BITS].killedAt;
        uint32 stoppedAt = record_.revokedAt != 0 ? record_.revokedAt : killedAt;
        require(stoppedAt == 0, Stopped(wallet, stoppedAt));
        require(record_.classAndMarks & EQUIVOCATED == 0, AlreadyEquivocated(wallet));
    }

    function _checkKey(Key calldata key, bytes32 wallet) private pure returns (bytes32) {
        bytes32 got = OfflineHash.wallet(key.x, key.y);
        require(got == wallet, WrongKey(got, wallet));
        return wallet;
    }

    /// @dev Of the LOG kind; returns the name of its log.
    function _checkLogged(bytes32 wallet) private view returns (bytes32 name) {
        WalletRecord memory record_ = _wallets[wallet];
        require(record_.owner != address(0), NotRegistered(wallet, 0));
        require(record_.classAndMarks & LOGGED != 0, WrongKind(wallet, 0));
        return _logs[wallet].name;
    }

    /// @dev The wallet's TPM certified where these entries lead from the base; returns that head.
    function _checkStretch(Key calldata key, bytes32 name, bytes32 base, Stretch calldata stretch)
        private
        view
        returns (bytes32 head)
    {
        bytes calldata entries = stretch.entries;
        uint256 length = entries.length;
        require(length != 0 && length % OfflineHash.ENTRY_SIZE == 0, PathTruncated(OfflineHash.ENTRY_SIZE, length));
        Walk memory walk;
        (walk.x, walk.y, walk.wallet) = (key.x, key.y, OfflineHash.wallet(key.x, key.y));
        walk.digest = _word(entries, length - 32);
        (head,) = OfflineHash.fold(base, entries, 0);
        _certified(walk, name, head, stretch.certificate, stretch.signature.r, stretch.signature.s);
        if (walk.reason != 0) _revert(walk);
    }

    // ───────────────────────────── Paths ─────────────────────────────

    // A path is refused, not reverted: `walk.reason` is an error's selector (0: it holds) beside its two values, so that one
    // path cannot stop its batch.

    /// @dev At the coin, before the first hop. The coin may not exist.
    function _start(Path calldata path, Purpose purpose) private view returns (Walk memory walk) {
        walk.purpose = purpose;
        bytes calldata hops = path.hops;
        if (hops.length < KEY_SIZE) {
            _refuse(walk, PathTruncated.selector, KEY_SIZE, hops.length);
            return walk;
        }
        walk.domain = _domainSeparatorV4();
        (walk.x, walk.y) = (_word(hops, 0), _word(hops, 32));
        walk.wallet = OfflineHash.wallet(walk.x, walk.y);
        walk.high = path.amount;
        walk.coinId = coinIdOf(walk.wallet, path.asset, path.amount, path.nonce);
        walk.hop.input = walk.coinId;
    }

    /// @dev Whether the coin exists, and may be taken from until `grace` after its time.
    function _inTime(Walk memory walk, uint256 settleBy, uint256 grace) private view {
        if (settleBy == 0) return _refuse(walk, UnknownCoin.selector, uint256(walk.coinId), 0);
        uint256 deadline = settleBy + grace;
        if (block.timestamp > deadline) _refuse(walk, TooLate.selector, block.timestamp, deadline);
    }

    /// @dev Goes down the path, hop by hop.
    function _walk(Walk memory walk, bytes calldata hops) private {
        uint256 place = KEY_SIZE;
        uint256 index;
        while (true) {
            uint256 tag;
            (tag, place) = _readHop(walk, hops, place, index);
            if (walk.reason != 0) return;
            _checkWallet(walk, tag);
            if (walk.reason != 0) return;
            if (walk.purpose == Purpose.COMPENSATE && index == walk.offenderHop) {
                require(walk.equivocated, NotEquivocated(walk.wallet, index));
                walk.offender = walk.wallet;
            }
            uint256 keyAt; // of the payee, if that pays the next hop
            unchecked {
                keyAt = place - KEY_SIZE; // a hop's head and terms are longer
            }
            place = _prove(walk, hops, place, tag & EVIDENCE);
            if (walk.reason != 0) return;
            if (walk.purpose == Purpose.RECORD) {
                _record(walk);
                if (walk.reason != 0) return;
            }
            if (tag & EXIT != 0) {
                if (place != hops.length) _refuse(walk, ExitIsNotLast.selector, index, place);
                return;
            }
            if (place == hops.length) {
                if (walk.purpose != Purpose.RECORD) _refuse(walk, NotAnExit.selector, index, place);
                return;
            }
            _follow(walk, hops, tag, keyAt);
            unchecked {
                ++index; // at most MAX_HOPS
            }
        }
    }

    /// @dev Reads what the hop at `place` says into `walk.hop`, and its digest. Returns where its evidence begins.
    function _readHop(Walk memory walk, bytes calldata hops, uint256 place, uint256 index)
        private
        pure
        returns (uint256 tag, uint256 next)
    {
        Transfer memory hop = walk.hop;
        uint256 length = hops.length;
        unchecked {
            // No sum here exceeds the path's length by more than a few hundred.
            next = place + HEAD_SIZE;
            if (next > length) return _truncated(walk, next, length);
            uint256 head = uint256(_word(hops, place));
            tag = head >> 248;
            hop.sequence = uint64(head >> 184);
            hop.previous = _word(hops, place + 9);
            hop.issuedAt = uint64(uint256(_word(hops, place + 17))); // the last 8 of 49 bytes
            uint256 input = walk.high - walk.low; // high >= low all along
            if (tag & ~EVIDENCE == EXIT) {
                (hop.payee, hop.amount, hop.change, hop.invoice) = (walk.wallet, uint128(input), 0, 0);
                // The last change may be nothing, and a payment of nothing is none.
                if (input == 0) _refuse(walk, AmountAboveInput.selector, 0, 0);
            } else {
                if (tag > CHANGE + EVIDENCE) {
                    _refuse(walk, UnknownTag.selector, tag, KNOWN_TAGS);
                    return (tag, next);
                }
                if (index == MAX_HOPS) {
                    _refuse(walk, TooManyHops.selector, index + 1, MAX_HOPS);
                    return (tag, next);
                }
                place = next + TERMS_SIZE;
                next = place + (tag & CHANGE != 0 ? 32 : KEY_SIZE);
                if (next > length) return _truncated(walk, next, length);
                uint256 amount = uint256(_word(hops, place - TERMS_SIZE)) >> 128;
                // A payment of nothing is none; more than the input is not there.
                if (amount - 1 >= input) {
                    _refuse(walk, AmountAboveInput.selector, amount, input);
                    return (tag, next);
                }
                (hop.amount, hop.change) = (uint128(amount), uint128(input - amount));
                hop.invoice = _word(hops, place - 32);
                bytes32 payee = _word(hops, place);
                if (tag & CHANGE == 0) payee = OfflineHash.wallet(payee, _word(hops, place + 32));
                hop.payee = payee;
                if (payee == walk.wallet && amount == input && hop.invoice == 0) {
                    _refuse(walk, ExitIsNotLast.selector, index, next);
                }
            }
        }
        walk.digest = OfflineHash.transfer(walk.domain, hop);
    }

    function _truncated(Walk memory walk, uint256 needed, uint256 length) private pure returns (uint256, uint256) {
        _refuse(walk, PathTruncated.selector, needed, length);
        return (0, needed);
    }

    /// @dev Whether the wallet at hand may have issued the transfer at hand. Time opens and closes windows here; it orders
    /// nothing. An exit may be issued at any time: it pays nobody else, and what is stopped or over is paying others. (Who has
    /// a leaked key could put an earlier time into it anyway.)
    function _checkWallet(Walk memory walk, uint256 tag) private view {
        WalletRecord storage slot = _wallets[walk.wallet];
        (address owner, uint256 validUntil, uint256 revokedAt, uint256 classAndMarks) =
            (slot.owner, slot.validUntil, slot.revokedAt, slot.classAndMarks);
        if (owner == address(0)) return _refuse(walk, NotRegistered.selector, uint256(walk.wallet), 0);
        if (walk.hop.issuedAt > validUntil && tag & EXIT == 0) {
            return _refuse(walk, IssuedTooLate.selector, walk.hop.issuedAt, validUntil);
        }
        if (revokedAt != 0) _checkStop(walk, tag, revokedAt);
        uint256 killedAt = _classes[classAndMarks >> MARK_BITS].killedAt;
        if (killedAt != 0) _checkStop(walk, tag, killedAt);
        uint256 needed = classAndMarks & LOGGED != 0 ? LOG : SIGNATURE;
        uint256 evidence = tag & EVIDENCE;
        if (evidence != needed && evidence != RECORDED) _refuse(walk, WrongEvidence.selector, evidence, needed);
        walk.owner = owner;
        walk.equivocated = classAndMarks & EQUIVOCATED != 0;
    }

    function _checkStop(Walk memory walk, uint256 tag, uint256 stoppedAt) private view {
        // Whom a wallet cheated could not know of a stop that its clock did not show yet, and has until GRACE after the last
        // exit that may stand in its way.
        bool cheated = walk.purpose == Purpose.COMPENSATE;
        uint256 last = cheated ? stoppedAt + CLOCK_SKEW : stoppedAt;
        uint256 issuedAt = walk.hop.issuedAt;
        if (issuedAt > last && tag & EXIT == 0) return _refuse(walk, IssuedAfterStop.selector, issuedAt, last);
        uint256 deadline = stoppedAt + (cheated ? 2 * GRACE : GRACE);
        if (block.timestamp > deadline) _refuse(walk, GraceOver.selector, block.timestamp, deadline);
    }

    /// @dev Whether the evidence at `place` shows that the wallet at hand made the transfer at hand. Returns where it ends.
    function _prove(Walk memory walk, bytes calldata hops, uint256 place, uint256 evidence)
        private
        returns (uint256 next)
    {
        bytes32 digest = walk.digest;
        if (evidence == RECORDED) {
            bytes32 recorded = _spentBy[walk.wallet][walk.hop.input];
            if (recorded != digest) _refuse(walk, NotRecorded.selector, uint256(recorded), uint256(digest));
            return place;
        }
        uint256 entries;
        unchecked {
            // No sum here exceeds the path's length by more than 2^16 entries.
            next = place + SIGNATURE_SIZE;
            if (evidence == LOG) {
                entries = place + BASE_SIZE;
                if (entries > hops.length) {
                    _refuse(walk, PathTruncated.selector, entries, hops.length);
                    return next;
                }
                uint256 count = uint256(_word(hops, place + 32)) >> 240;
                next = entries + count * OfflineHash.ENTRY_SIZE + OfflineHash.CERTIFICATE_SIZE + SIGNATURE_SIZE;
            }
        }
        if (next > hops.length) {
            _refuse(walk, PathTruncated.selector, next, hops.length);
            return next;
        }
        // A hop that a batch proved once is proven: its digest names its input, and so its wallet.
        TransientSlot.BooleanSlot proven = digest.asBoolean();
        bool batch = walk.purpose == Purpose.BATCH;
        if (batch && proven.tload()) return next;
        if (evidence == LOG) {
            _proveLogged(walk, _word(hops, place), hops[entries:next]);
        } else if (!OfflineSignature.verify(digest, _word(hops, place), _word(hops, place + 32), walk.x, walk.y)) {
            _refuse(walk, BadSignature.selector, uint256(digest), uint256(walk.wallet));
        }
        if (batch && walk.reason == 0) proven.tstore(true);
    }

    /// @dev Whether a log shows the transfer at hand.
    /// @param shown Entries, certificate and signature.
    function _proveLogged(Walk memory walk, bytes32 base, bytes calldata shown) private view {
        (bytes32 input, bytes32 digest) = (walk.hop.input, walk.digest);
        LogRecord memory log = _logs[walk.wallet];
        // When a fork is proven, neither branch orders anything: each starts where it likes, and exits compete for their
        // parts, as those of a wallet that signs. But no branch is recorded over the other.
        bool forked = walk.equivocated && walk.purpose != Purpose.RECORD;
        bytes32 recorded = _spentBy[walk.wallet][input];
        if (recorded == digest) return; // someone settled the log in the meantime
        if (!forked) {
            if (recorded != 0) return _refuse(walk, InputSpent.selector, uint256(recorded), uint256(digest));
            if (base != log.head) return _refuse(walk, WrongBase.selector, uint256(base), uint256(log.head));
        }
        uint256 end = shown.length - OfflineHash.CERTIFICATE_SIZE - SIGNATURE_SIZE;
        bytes32 last = end == 0 ? bytes32(0) : _word(shown, end - 32);
        if (last != digest) return _refuse(walk, WrongLastEntry.selector, uint256(last), uint256(digest));
        (bytes32 head, uint256 first) = OfflineHash.fold(base, shown[:end], input);
        if (first != end / OfflineHash.ENTRY_SIZE - 1) {
            // Spent before; or, the last entry of another input, not at all.
            bool none = first * OfflineHash.ENTRY_SIZE == end;
            bytes32 before = none ? bytes32(0) : _word(shown, first * OfflineHash.ENTRY_SIZE + 32);
            return _refuse(walk, InputSpent.selector, uint256(before), uint256(digest));
        }
        uint256 signature = end + OfflineHash.CERTIFICATE_SIZE;
        _certified(walk, log.name, head, shown[end:signature], _word(shown, signature), _word(shown, signature + 32));
    }

    /// @dev Whether the wallet's TPM certified that its log `name` stands at `head`, for the transfer `walk.digest`.
    function _certified(Walk memory walk, bytes32 name, bytes32 head, bytes calldata certificate, bytes32 r, bytes32 s)
        private
        view
    {
        if (!OfflineHash.isCertificate(certificate)) {
            return _refuse(walk, NotACertificate.selector, certificate.length, OfflineHash.CERTIFICATE_SIZE);
        }
        bytes32 got = OfflineHash.logName(certificate);
        if (got != name) return _refuse(walk, WrongLog.selector, uint256(got), uint256(name));
        got = OfflineHash.extraData(certificate);
        bytes32 needed = OfflineHash.sha(walk.digest);
        if (got != needed) return _refuse(walk, WrongExtraData.selector, uint256(got), uint256(needed));
        got = OfflineHash.certifiedHead(certificate);
        if (got != head) return _refuse(walk, WrongHead.selector, uint256(got), uint256(head));
        if (!OfflineSignature.verifyHash(sha256(certificate), r, s, walk.x, walk.y)) {
            _refuse(walk, BadSignature.selector, uint256(walk.digest), uint256(walk.wallet));
        }
    }

    /// @dev Records the hop at hand, which was proven.
    function _record(Walk memory walk) private {
        (bytes32 input, bytes32 digest) = (walk.hop.input, walk.digest);
        bytes32 recorded = _spentBy[walk.wallet][input];
        if (recorded == digest) return;
        if (recorded != 0) return _refuse(walk, InputSpent.selector, uint256(recorded), uint256(digest));
        _spentBy[walk.wallet][input] = digest;
        emit Recorded(walk.wallet, input, digest);
    }

    /// @dev On to the part of the hop at hand that the next one spends: the upper is the payee's, the lower the change.
    function _follow(Walk memory walk, bytes calldata hops, uint256 tag, uint256 keyAt) private pure {
        unchecked {
            // low + change <= high, since amount + change is their difference.
            uint256 border = walk.low + walk.hop.change;
            if (tag & CHANGE != 0) {
                walk.high = border;
                walk.hop.input = OfflineHash.fragment(walk.digest, 1);
            } else {
                walk.low = border;
                walk.wallet = walk.hop.payee;
                (walk.x, walk.y) = (_word(hops, keyAt), _word(hops, keyAt + 32));
                walk.hop.input = OfflineHash.fragment(walk.digest, 0);
            }
        }
    }

    // ───────────────────────────── Settling ─────────────────────────────

    /// @dev Redeems a path, but for the credit: `walk.high - walk.low` is `walk.owner`'s.
    function _redeem(Path calldata path, Purpose purpose) private returns (Walk memory walk) {
        // Check.
        walk = _start(path, purpose);
        if (walk.reason != 0) return walk;
        bytes32 coinId = walk.coinId;
        uint256 settleBy = _coins[coinId].settleBy;
        _inTime(walk, settleBy != 0 ? settleBy : _deposits[coinId].settleBy, GRACE);
        if (walk.reason != 0) return walk;
        _walk(walk, path.hops);
        if (walk.reason != 0) return walk;
        uint256 sequence = walk.hop.sequence;
        Exits storage slot = _exits[walk.wallet][sequence / GROUP];
        (uint96 bits, uint160 paid) = (slot.bits, slot.paid);
        uint256 bit = uint256(1) << (sequence % GROUP);
        if (bits & bit != 0) {
            _refuse(walk, SequencePaid.selector, sequence, bits);
            return walk;
        }
        Free memory part = _find(coinId, path.near, walk.low);
        if (walk.high > part.end) {
            _refuse(walk, NotFree.selector, walk.high, part.end);
            return walk;
        }

        // Effect.
        // The cast is safe: a bit of the lowest 96.
        (slot.bits, slot.paid) = (bits | uint96(bit), OfflineHash.accumulate(paid, walk.digest));
        _cut(coinId, part, walk.low, walk.high);
        // Casts are safe here and below: places in a coin, and sequences of 64 bits.
        emit Redeemed(
            coinId, walk.wallet, walk.digest, uint64(sequence), uint128(walk.low), uint128(walk.high - walk.low)
        );
    }

    /// @dev That the walk's exit is not among those that were paid.
    function _checkUnpaid(Walk memory walk, bytes32[] calldata list) private view {
        uint256 sequence = walk.hop.sequence;
        Exits memory slot = _exits[walk.wallet][sequence / GROUP];
        if ((slot.bits >> (sequence % GROUP)) & 1 == 0) return;
        uint160 folded;
        bool listed;
        for (uint256 i; i < list.length; ++i) {
            listed = listed || list[i] == walk.digest;
            folded = OfflineHash.accumulate(folded, list[i]);
        }
        require(!listed && folded == slot.paid, ExitPaid(folded, slot.paid));
    }

    /// @dev Takes what is free of the exit's part of the coin, from `part` up; and when that is done, the rest from the
    /// offender's collateral, which must not pay for what the coin still has.
    function _compensate(Walk memory walk, address asset, Compensation memory made, Free memory part) private {
        uint256 fromCoin;
        uint256 next = made.next;
        for (uint256 i; i < MOST_PARTS && next != GATHERED; ++i) {
            uint256 low = part.start > walk.low ? part.start : walk.low;
            uint256 high = part.end < walk.high ? part.end : walk.high;
            next = part.above == 0 || part.above >= walk.high ? GATHERED : part.above;
            if (low < high) {
                fromCoin += high - low;
                _cut(walk.coinId, part, low, high);
            }
            if (next != GATHERED) part = _partAt(walk.coinId, next);
        }
        uint256 amount = walk.high - walk.low;
        uint256 fromCollateral;
        if (next == GATHERED) {
            uint256 held = _collateral[walk.offender][asset];
            uint256 due = amount - made.paid - fromCoin; // parts of the coin are apart, and come first
            fromCollateral = due < held ? due : held;
            _collateral[walk.offender][asset] = held - fromCollateral;
        }
        uint256 sum = fromCoin + fromCollateral;
        require(sum != 0 || next != GATHERED, NothingLeft(walk.offender));
        // Casts are safe: no more than the exit holds, and a place in a coin or the mark.
        _compensations[walk.digest] = Compensation(made.paid + uint128(sum), uint128(next));
        _credit(asset, walk.owner, sum);
        emit Compensated(
            walk.coinId,
            walk.wallet,
            walk.offender,
            walk.digest,
            uint128(walk.low),
            uint128(amount),
            fromCoin,
            fromCollateral
        );
    }

    /// @dev The free part that begins at `start`; the lowest for 0.
    function _partAt(bytes32 coin, uint256 start) private view returns (Free memory part) {
        part.start = start;
        if (start == 0) {
            CoinRecord memory lowest = _coins[coin];
            (part.end, part.above) = (lowest.end, lowest.above);
        } else {
            Part memory further = _parts[coin][start];
            (part.end, part.above) = (further.end, further.above);
        }
    }

    /// @dev The highest free part that begins at or below `place`, seen from `near` if a part begins there.
    function _find(bytes32 coin, uint256 near, uint256 place) private view returns (Free memory part) {
        if (near == 0 || near > place || _parts[coin][near].end == 0) near = 0;
        part = _partAt(coin, near);
        while (part.above != 0 && part.above <= place) part = _partAt(coin, part.above);
    }

    /// @dev Takes `[low, high)`, not empty, out of a free part that holds it.
    function _cut(bytes32 coin, Free memory part, uint256 low, uint256 high) private {
        uint256 above = part.above;
        // Casts are safe: all are places in a coin, at most MOST_AMOUNT.
        if (high < part.end) {
            _parts[coin][high] = Part(uint128(part.end), uint128(above));
            above = high;
        }
        if (part.start != 0) {
            _parts[coin][part.start] = Part(uint128(low), uint128(above));
        } else if (low == 0 && above == 0) {
            delete _coins[coin];
        } else {
            CoinRecord storage lowest = _coins[coin];
            (lowest.end, lowest.above) = (uint104(low), uint104(above));
        }
    }

    // ───────────────────────────── Helpers ─────────────────────────────

    /// @dev The word at a place in a byte string, which the caller knows to reach so far, or cuts what it does not. In assembly
    /// because every hop reads ten: a slice checks its bounds again each time.
    function _word(bytes calldata data, uint256 place) private pure returns (bytes32 word) {
        assembly ("memory-safe") {
            word := calldataload(add(data.offset, place))
        }
    }

    /// @dev The first reason stands.
    function _refuse(Walk memory walk, bytes4 reason, uint256 got, uint256 limit) private pure {
        if (walk.reason != 0) return;
        (walk.reason, walk.got, walk.limit) = (reason, got, limit);
    }

    /// @dev Reverts with the error that a reason names.
    function _revert(Walk memory walk) private pure {
        bytes memory data = abi.encodeWithSelector(walk.reason, walk.got, walk.limit);
        assembly ("memory-safe") {
            revert(add(data, 0x20), mload(data))
        }
    }

    function _flush(Due memory due) private {
        if (due.amount != 0) _credit(due.asset, due.account, due.amount);
    }
}
