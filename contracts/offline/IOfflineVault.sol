// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ILedger} from "../shared/ILedger.sol";

/// @title IOfflineVault
/// @notice Payments between two wallets without a network, settled here later. The goals are those of Jie et al. (IEEE Trans.
/// Computers 2024); phases and messages are our reconstruction (design/offline.md, section 0). A *wallet* is a P-256 key in a
/// trusted component; its *owner* is an account; a *registrar* vouches for the component by signing the wallet into a
/// *class*. A *coin* is deposited for a wallet. Offline, a *transfer* splits a coin, or a *fragment* of one, into the payee's
/// part and the payer's change, each a fragment again. A *path* is a coin and the transfers (*hops*, each with its evidence)
/// from it; an *exit* is a transfer of a wallet to itself of all that a fragment holds, and the only thing that is redeemed.
///
/// ```text
/// wallet   NONE ── register ──▶ REGISTERED ── revoke, killClass ──▶ STOPPED
///                                 └ renew ┘    (its payments of before, and its exits, count for GRACE more)
///          proveEquivocation, proveFork: no more coins and no renewal; what it pays is for its first payee, and then for
///          its collateral
///
/// coin     NONE ── deposit ──▶ LIVE ── settleBy + GRACE ──▶ OVER ── reclaim ──▶ (nothing left)
///                               └ redeem, compensate ┘
///
/// part of a coin   FREE ── redeem, compensate ──▶ PAID       (each atomic unit once)
/// ```
///
/// **Who gets which part.** A transfer of the part `[low, high)` of a coin gives the payee the upper `amount` of it and leaves
/// the payer the lower `change`. An exit takes its part out of what is free of the coin. So two exits can only stand in each
/// other's way if some wallet on *both* paths signed two transfers of one input: whoever breaks a component can double-spend
/// what that component held, and never what others hold of the same coin. Whom it cheats can show so and be compensated.
///
/// **Two kinds of evidence** (section 0.1). A wallet without a log (SIGNATURE kind) signs. One with a log (LOG kind, a TPM)
/// shows a certificate of an append-only log whose last entry is the transfer: nothing is taken from it that is not in the
/// log, nor what an earlier entry spends. Either may be recorded beforehand, so that later paths need not prove it again.
///
/// Assumptions, for safety:
/// - A wallet's component signs at most one transfer of an input and of a sequence number. Where it does not, its payees lose
///   up to what they accepted of it, less the collateral; the vault and everybody else lose nothing.
/// - A registrar signs only keys that it knows to be inside such components. Who accepts its classes trusts it so far.
/// - P-256, SHA-256 and keccak256 hold. P-256 is checked by the precompile of EIP-7951, in Solidity where there is none.
/// - No wallet has the same key as another's (ids are hashes of keys), and an owner of a LOG wallet may log what it likes:
///   what a log says is believed of its own wallet's inputs only.
/// For liveness:
/// - An exit enters the chain by `settleBy + GRACE`, and within GRACE after a wallet on its path was stopped.
/// - Amounts are atomic units below 2^104 a coin; times are Unix seconds.
interface IOfflineVault is ILedger {
    // ───────────────────────────── Types ─────────────────────────────

    /// @notice A wallet's P-256 key.
    struct Key {
        bytes32 x;
        bytes32 y;
    }

    /// @notice ES256 over a 32-byte digest: ECDSA on SHA-256(digest), `s` in the lower half.
    struct Signature {
        bytes32 r;
        bytes32 s;
    }

    /// @notice A registrar's secp256k1 signature, `s` in the lower half, `v` 27 or 28.
    struct RegistrarSignature {
        bytes32 r;
        bytes32 s;
        uint8 v;
    }

    /// @notice What a registrar signs to vouch for a wallet, and the wallet signs to agree (EIP-712).
    /// @param wallet {walletIdOf} its key.
    /// @param owner Whose credit the wallet's exits are.
    /// @param class The registrar's number for components of this sort.
    /// @param log keccak256 of the name of the TPM's log index; 0: the wallet is of the SIGNATURE kind.
    /// @param validUntil Last second of its payments. It may leave with what it holds as long as the coin lasts.
    struct Registration {
        bytes32 wallet;
        address owner;
        uint32 class;
        bytes32 log;
        uint64 validUntil;
    }

    /// @notice What a registrar signs of a deposit once it is final, for payees that are offline (EIP-712). Not read here.
    struct DepositReceipt {
        bytes32 coin;
        bytes32 wallet;
        address asset;
        uint128 amount;
        uint64 settleBy;
    }

    /// @notice What a payee's wallet signs to be paid (EIP-712). Not read here.
    struct Invoice {
        bytes32 payee;
        address asset;
        uint128 amount;
        bytes32 nonce;
        uint64 issuedAt;
    }

    /// @notice What a payer's wallet signs, or logs (EIP-712).
    /// @param input The coin's or fragment's id.
    /// @param payee The payee's wallet.
    /// @param amount, change What the payee gets and what the payer keeps; together all that the input holds.
    /// @param sequence The wallet's count of its transfers, from 1.
    /// @param previous Digest of the wallet's transfer before; of its first registration, where there is none.
    /// @param invoice Digest of the invoice that it pays.
    struct Transfer {
        bytes32 input;
        bytes32 payee;
        uint128 amount;
        uint128 change;
        uint64 sequence;
        bytes32 previous;
        bytes32 invoice;
        uint64 issuedAt;
    }

    /// @notice What a payee's wallet signs when it has a transfer (EIP-712). Not read here.
    struct Acceptance {
        bytes32 transfer;
        bytes32 payee;
        uint64 issuedAt;
    }

    /// @notice A coin and the hops from it. The coin's wallet is that of the key at the head of `hops`.
    /// @param asset, amount, nonce Of the coin.
    /// @param near Where a free part of the coin begins, at or below the exit's own; 0 always works. Spares the walk over the
    /// free parts of a coin that many redeemed from.
    /// @param hops Packed, big-endian, without anything that follows from the rest (input, change, the payee of an exit):
    /// ```text
    /// hops  = x 32 | y 32 | hop …            the key of the coin's wallet
    /// hop   = tag 1 | sequence 8 | previous 32 | issuedAt 8 | terms | evidence
    /// terms = amount 16 | invoice 32 | x 32 | y 32     the payee's key: it pays the next hop, with what it got
    ///       | amount 16 | invoice 32 | payee 32        tag 0x04: the payer pays the next hop too, with its change
    ///       |                                          tag 0x08: an exit, the last hop
    /// evidence =                                       tag +0: recorded
    ///       | r 32 | s 32                              tag +1: signature
    ///       | base 32 | count 2 | entry 64 … | certificate 173 | r 32 | s 32      tag +2: log
    /// ```
    struct Path {
        address asset;
        uint128 amount;
        uint256 nonce;
        uint128 near;
        bytes hops;
    }

    /// @notice A stretch of a payment log and the TPM's certificate of where it ends.
    /// @param entries 64 bytes each: `input || transferDigest`.
    /// @param certificate TPMS_ATTEST of a TPM2_NV_Certify, 173 bytes; its extraData is SHA-256 of the last digest.
    struct Stretch {
        bytes entries;
        bytes certificate;
        Signature signature;
    }

    /// @notice A wallet as this contract knows it.
    /// @param log, head Of the LOG kind: the name's hash, and the head that entries are folded from. Else 0.
    /// @param revokedAt 0: it is not. `killedAt` likewise, of its class.
    struct Wallet {
        address owner;
        address registrar;
        uint32 class;
        uint64 validUntil;
        uint64 revokedAt;
        uint64 killedAt;
        bool equivocated;
        bytes32 log;
        bytes32 head;
    }

    /// @notice A coin as this contract knows it.
    /// @param left What is free of it.
    struct Coin {
        address depositor;
        uint64 settleBy;
        uint128 left;
    }

    // ───────────────────────────── Events ─────────────────────────────
    // Together they rebuild every wallet, log, coin, credit and collateral without reading state.

    /// @notice A wallet was registered; `digest` is what its chain of transfers and its log start with.
    event Registered(
        bytes32 indexed wallet,
        address indexed registrar,
        address indexed owner,
        uint32 class,
        bytes32 log,
        uint64 validUntil,
        bytes32 digest,
        Key key
    );
    /// @notice A wallet's registration now ends at `validUntil`.
    event Renewed(bytes32 indexed wallet, uint64 validUntil);
    /// @notice `from` put `amount` of `asset` behind a wallet.
    event CollateralAdded(bytes32 indexed wallet, address indexed asset, address from, uint256 amount);
    /// @notice The owner was credited the wallet's collateral.
    event CollateralReleased(bytes32 indexed wallet, address indexed asset, uint256 amount);
    /// @notice A coin, `nonce`-th of this vault.
    event Deposited(
        bytes32 indexed coin,
        bytes32 indexed wallet,
        address indexed depositor,
        address asset,
        uint128 amount,
        uint256 nonce,
        uint64 settleBy
    );
    /// @notice That `wallet` spent `input` by `transfer` need not be proven again.
    event Recorded(bytes32 indexed wallet, bytes32 indexed input, bytes32 transfer);
    /// @notice The owner of `wallet` was credited `amount`, the part of the coin that begins at `low`, by `exit`.
    event Redeemed(
        bytes32 indexed coin, bytes32 indexed wallet, bytes32 exit, uint64 sequence, uint128 low, uint128 amount
    );
    /// @notice A path of a batch was left out. `reason` is the selector of the error that it reverts with alone, `got` and
    /// `limit` its values.
    event ItemSkipped(bytes32 indexed coin, bytes4 reason, uint256 got, uint256 limit);
    /// @notice A wallet's log was followed to `head`. Of entries with one input the first counts, also if its digest is zero.
    event LogSettled(bytes32 indexed wallet, bytes32 head, bytes entries);
    /// @notice A wallet signed two transfers, or certified two heads, that exclude each other.
    event Equivocated(bytes32 indexed wallet, bytes32 one, bytes32 other);
    /// @notice `exit`, of `wallet`, was double-spent: that wallet's owner was credited `fromCoin`, the lowest units that were
    /// still free of the exit's part of the coin (which begins at `low` and has `amount`), and `fromCollateral` of the
    /// collateral of `offender`.
    event Compensated(
        bytes32 indexed coin,
        bytes32 indexed wallet,
        bytes32 indexed offender,
        bytes32 exit,
        uint128 low,
        uint128 amount,
        uint256 fromCoin,
        uint256 fromCollateral
    );
    /// @notice Payments that the wallet issues after `since` do not count; older ones, and its exits, for {GRACE} more.
    event Revoked(bytes32 indexed wallet, uint64 since);
    /// @notice The same of all wallets of a class.
    event ClassKilled(address indexed registrar, uint32 indexed class, uint64 since);
    /// @notice The depositor was credited `amount`, which nobody redeemed.
    event Reclaimed(bytes32 indexed coin, uint256 amount);

    // ───────────────────────────── Errors ─────────────────────────────

    /// @notice Only the wallet's owner may.
    error NotOwner(address caller, address owner);
    /// @notice Only the registrar of the wallet's class may.
    error NotRegistrar(address caller, address registrar);
    /// @notice Only the coin's depositor may.
    error NotDepositor(address caller, address depositor);
    /// @notice The key is not the wallet's.
    error WrongKey(bytes32 got, bytes32 wallet);
    /// @notice A registrar's signature is of another key; `recovered` is 0 where it is malformed or malleable.
    error WrongSigner(address recovered, address registrar);
    /// @notice A registration ends before now, no later than the one before, or in a year beyond 2105.
    error ValidUntilOutOfRange(uint64 got, uint64 low, uint64 high);
    /// @notice A renewal changes owner, registrar, class or log. Values are hashes of these.
    error RegistrationChanged(bytes32 got, bytes32 expected);
    /// @notice There are 2^30 classes, and no room for another.
    error TooManyClasses(uint256 got, uint256 high);
    /// @notice The wallet was revoked, or its class killed, at that time.
    error Stopped(bytes32 wallet, uint64 since);
    /// @notice The class was killed, or the wallet revoked, before.
    error AlreadyStopped(uint64 since);
    /// @notice What arrived makes no coin, or no collateral: nothing, or too much.
    error AmountOutOfRange(uint256 got, uint256 low, uint256 high);
    /// @notice A coin's `settleBy` is not ahead, or beyond {MAX_COIN_LIFE}.
    error SettleByOutOfRange(uint64 got, uint64 low, uint64 high);
    /// @notice The wallet's registration ended at that time.
    error RegistrationEnded(bytes32 wallet, uint64 validUntil);
    /// @notice The time has not come.
    error TooEarly(uint256 nowAt, uint256 after_);
    /// @notice Nothing is left to give back.
    error NothingLeft(bytes32 id);
    /// @notice Only a wallet of the other kind can have done this. Values: its log, 0 for the SIGNATURE kind.
    error WrongKind(bytes32 wallet, bytes32 log);
    /// @notice The transfers are one and the same, or have neither input nor sequence in common.
    error NotEquivocation(bytes32 one, bytes32 other);
    /// @notice The stretches of log start alike, or one of them is empty. Values are the hashes of their first entries.
    error NotFork(bytes32 one, bytes32 other);
    /// @notice That wallet's equivocation was proven before.
    error AlreadyEquivocated(bytes32 wallet);
    /// @notice The wallet at that hop is not proven to have equivocated.
    error NotEquivocated(bytes32 wallet, uint256 hop);
    /// @notice The offender's own exits are not compensated.
    error OffenderIsPayee(bytes32 wallet);
    /// @notice The exit was compensated in full.
    error AlreadyCompensated(bytes32 exit);
    /// @notice The exit was paid, or the list does not show that it was not. Values: what the list hashes to, and what it must.
    error ExitPaid(uint160 got, uint160 paid);
    /// @notice Nothing stands in the exit's way but, maybe, the time: it is for {redeem}.
    error ExitNotDoubleSpent(uint256 high, uint256 freeUntil);

    // Reasons for refusing a path. All have the shape (got, limit), so that {ItemSkipped} can carry any of them.

    /// @notice No such coin. `settleBy` is 0.
    error UnknownCoin(bytes32 coin, uint256 settleBy);
    /// @notice The coin's time is over: what is left is the depositor's.
    error TooLate(uint256 nowAt, uint256 deadline);
    /// @notice The hops end in the middle of one.
    error PathTruncated(uint256 needed, uint256 length);
    /// @notice A tag has bits that mean nothing.
    error UnknownTag(uint256 got, uint256 known);
    /// @notice More than {MAX_HOPS} before the exit.
    error TooManyHops(uint256 got, uint256 high);
    /// @notice The path goes on after an exit, or spells one as another transfer. Values: the exit's hop, and where it ends.
    error ExitIsNotLast(uint256 hop, uint256 end);
    /// @notice The path does not end in an exit.
    error NotAnExit(uint256 hop, uint256 end);
    /// @notice A hop pays nothing, or more than its input holds.
    error AmountAboveInput(uint256 amount, uint256 input);
    /// @notice No such wallet. `validUntil` is 0.
    error NotRegistered(bytes32 wallet, uint256 validUntil);
    /// @notice The payment was issued after the wallet's registration ended. Not of an exit.
    error IssuedTooLate(uint256 issuedAt, uint256 validUntil);
    /// @notice The payment was issued after its wallet was stopped. Not of an exit.
    error IssuedAfterStop(uint256 issuedAt, uint256 stoppedAt);
    /// @notice The wallet was stopped more than {GRACE} ago.
    error GraceOver(uint256 nowAt, uint256 deadline);
    /// @notice A LOG wallet's transfer is not shown by its log, or a SIGNATURE wallet's by one. Values as in the tag.
    error WrongEvidence(uint256 got, uint256 needed);
    /// @notice The wallet did not sign this: the signature is of another key or digest, malformed, or malleable.
    error BadSignature(bytes32 digest, bytes32 wallet);
    /// @notice Nothing, or another transfer, is recorded for the input.
    error NotRecorded(bytes32 recorded, bytes32 transfer);
    /// @notice Another transfer spent the input before: it is recorded, or an earlier entry of the log. A record does not count
    /// against the log of a proven fork, but when recording.
    error InputSpent(bytes32 before, bytes32 transfer);
    /// @notice The log does not start where the contract left it. That of a proven fork may, but when recording.
    error WrongBase(bytes32 base, bytes32 head);
    /// @notice The log is empty, or ends with another entry. Values are digests of transfers.
    error WrongLastEntry(bytes32 got, bytes32 transfer);
    /// @notice The bytes are no certificate: magic, type, a length or the offset is another. `length` is that of all.
    error NotACertificate(uint256 length, uint256 needed);
    /// @notice The certificate is of another log.
    error WrongLog(bytes32 got, bytes32 log);
    /// @notice The certificate was made for another transfer.
    error WrongExtraData(bytes32 got, bytes32 needed);
    /// @notice The certified head is not what the entries fold to.
    error WrongHead(bytes32 certified, bytes32 folded);
    /// @notice An exit of this wallet with this sequence was paid. Values: the sequence, and the exits paid of its group.
    error SequencePaid(uint256 sequence, uint256 exits);
    /// @notice The exit's part of the coin is not free, all of it: someone double-spent. Values: where it ends, and where
    /// what is free below that ends.
    error NotFree(uint256 high, uint256 freeUntil);

    // ───────────────────────────── Constants ─────────────────────────────

    /// @notice Most transfers of a path before its exit: 16.
    function MAX_HOPS() external view returns (uint256);
    /// @notice How long redeeming goes on after `settleBy`, and after a wallet is stopped: 7 days.
    function GRACE() external view returns (uint64);
    /// @notice Latest `settleBy`, from the deposit: 90 days.
    function MAX_COIN_LIFE() external view returns (uint64);
    /// @notice How far a payee's clock may be behind the chain's without its loss by it: 10 minutes. A payment that it took in
    /// that time after a stop is void, but compensated.
    function CLOCK_SKEW() external view returns (uint64);
    /// @notice How long after the end of its registration a wallet's collateral stays: {MAX_COIN_LIFE} for the last coin that a
    /// payee may have taken ({CLOCK_SKEW} later), and twice {GRACE}, once for redeeming and once for those whom that refuses.
    function COLLATERAL_DELAY() external view returns (uint64);

    // ───────────────────────────── Owner ─────────────────────────────

    /// @notice Registers a wallet, only by `registration.owner`; or renews its registration, by anyone: payees that were paid
    /// under a renewal need not wait for the owner to submit it. Value sent along is collateral. (So a registrar can keep a
    /// wallet's collateral here by renewing again and again: who pledges trusts it so far.)
    /// @param key The wallet's.
    /// @param registrar Whose signature `vouched` is.
    /// @param possession The wallet's own signature on the registration's digest, so that nobody can put a wallet under
    /// another owner by a registrar of its own. Not read when renewing: owner, registrar, class and log stay, `validUntil`
    /// rises.
    /// Emits {Registered} or {Renewed}, and {CollateralAdded}.
    function register(
        Registration calldata registration,
        Key calldata key,
        address registrar,
        RegistrarSignature calldata vouched,
        Signature calldata possession
    ) external payable;

    /// @notice Puts what arrives of `amount`, below 2^104, behind a wallet. Anyone; it is the owner's when released.
    /// Emits {CollateralAdded}.
    function addCollateral(bytes32 wallet, address asset, uint256 amount) external payable;

    /// @notice Credits the owner with the wallet's collateral. Only the owner, {COLLATERAL_DELAY} after the registration ended.
    /// Emits {CollateralReleased}.
    function releaseCollateral(bytes32 wallet, address asset) external;

    // ───────────────────────────── Depositor ─────────────────────────────

    /// @notice Makes a coin of what arrives of `amount`, for a wallet that is not stopped and whose registration has not ended.
    /// Anyone.
    /// Emits {Deposited}. Requires a `settleBy` ahead, by {MAX_COIN_LIFE} at most.
    function deposit(bytes32 wallet, address asset, uint128 amount, uint64 settleBy)
        external
        payable
        returns (bytes32 coin);

    /// @notice Credits the depositor with what nobody redeemed of a coin: the answer to a lost device. Only the depositor, only
    /// after `settleBy + GRACE`. Of a coin with very many free parts 64 at a time. Emits {Reclaimed}.
    /// @param wallet, asset, amount, nonce Of the coin.
    function reclaim(bytes32 wallet, address asset, uint128 amount, uint256 nonce) external;

    // ───────────────────────────── Anyone ─────────────────────────────

    /// @notice Credits the owner of the path's last wallet with what its exit holds. Anyone may send it: it can only pay the
    /// owner, and the owner's wallet signed that it leaves (rule E6). Until and including `settleBy + GRACE`.
    /// Emits {Redeemed}. Reverts with one of the reasons above.
    function redeem(Path calldata path) external;

    /// @notice {redeem} for many paths. One that is refused is left out with {ItemSkipped} and never harms the others. A hop
    /// that several share is proven once.
    function redeemBatch(Path[] calldata paths) external;

    /// @notice Records the hops of a path, which need not end in an exit, so that later paths need not prove them. Anyone.
    /// Emits {Recorded} for each that was not.
    function record(Path calldata path) external;

    /// @notice Follows a wallet's log from where the contract left it: what its entries spend is recorded. Anyone.
    /// Emits {LogSettled}.
    function settleLog(Key calldata key, Stretch calldata stretch) external;

    /// @notice Proves that a wallet of the SIGNATURE kind signed two transfers with one input or one sequence. Anyone, once.
    /// Its collateral is for those whom it cheated, and it is neither renewed nor gets coins. It is not stopped: its payees
    /// cannot know, and an owner could prove itself to void what it pays. Its registrar revokes it. Emits {Equivocated}.
    function proveEquivocation(
        Key calldata key,
        Transfer calldata one,
        Signature calldata signatureOfOne,
        Transfer calldata other,
        Signature calldata signatureOfOther
    ) external;

    /// @notice Proves that a wallet of the LOG kind has two logs: both stretches start from `base`, any head, and their first
    /// entries differ. (A certified head is the end of a hash chain, so its last entries prove themselves.) Otherwise as
    /// {proveEquivocation}. From then on the log shows what the wallet signed, and no more what it spent first: a path may show
    /// either branch, from any base, and the first exit of a part has it. What is recorded stays.
    function proveFork(Key calldata key, bytes32 base, Stretch calldata one, Stretch calldata other) external;

    /// @notice Credits the owner of an exit that was double-spent: what is free of its part of the coin (until `settleBy +
    /// GRACE`; then that is the depositor's), and the rest from the collateral, in the coin's asset, of a wallet on its path
    /// that is proven to double-spend. Anyone may send it, and again until the exit is paid in full: with another offender,
    /// more collateral, or since a call visits 64 free parts of the coin and the collateral pays only after all of them.
    /// Until and including `settleBy + 2 × GRACE`, and 2 × GRACE after a wallet on the path was stopped; a payment counts
    /// that was issued up to {CLOCK_SKEW} after the stop. Emits {Compensated}.
    ///
    /// Which of several proven offenders on a path pays is the caller's choice: the one charged may have double-spent
    /// something else. (If only the input counted that was proven, an offender would have itself proven on a worthless one.)
    /// @param path As for {redeem}.
    /// @param offender Which hop's wallet equivocated, from 0.
    /// @param paid The exits paid of the exit's wallet and group of sequences, in their order; shows that this one is not
    /// among them. Not read if none with its sequence was paid.
    function compensate(Path calldata path, uint256 offender, bytes32[] calldata paid) external;

    // ───────────────────────────── Registrar ─────────────────────────────

    /// @notice Stops a wallet from now on: it may no more pay, and has {GRACE} to leave with what it holds. Only the registrar
    /// of its class. Emits {Revoked}.
    function revoke(bytes32 wallet) external;

    /// @notice Stops all wallets of a class of the caller, those registered and those to come. Emits {ClassKilled}.
    function killClass(uint32 class) external;

    // ───────────────────────────── Views ─────────────────────────────

    /// @notice The wallet; all zero if there is none.
    function walletOf(bytes32 wallet) external view returns (Wallet memory);
    /// @notice The coin; all zero if there is none. Walks its free parts.
    function coinOf(bytes32 coin) external view returns (Coin memory);
    /// @notice The free part of a coin that holds `place`, or the next one below: what {Path}'s `near` wants is `start`.
    function freePartOf(bytes32 coin, uint128 place) external view returns (uint128 start, uint128 end);
    /// @notice Collateral of a wallet, atomic units of `asset`.
    function collateralOf(bytes32 wallet, address asset) external view returns (uint256 amount);
    /// @notice When a registrar's class was killed; 0: it was not.
    function classKilledAt(address registrar, uint32 class) external view returns (uint64 since);
    /// @notice The transfer by which `wallet` is recorded to have spent `input`; 0: none. 1: its log names the input with a
    /// digest of zero, which spends it for nothing.
    function spentBy(bytes32 wallet, bytes32 input) external view returns (bytes32 transfer);
    /// @notice Whether an exit of the wallet with this sequence was paid.
    function isRedeemed(bytes32 wallet, uint64 sequence) external view returns (bool);
    /// @notice The exits paid of a wallet whose sequences are in the group of 96 of this one: a bit for each, and the
    /// accumulator `paid' = uint160(uint256(keccak256(abi.encode(paid, exit))))` over them in their order.
    function redeemedOf(bytes32 wallet, uint64 sequence) external view returns (uint96 exits, uint160 paid);
    /// @notice What an exit was compensated with so far, atomic units of the coin's asset.
    function compensatedOf(bytes32 exit) external view returns (uint256 amount);
    /// @notice Nonce of the next coin.
    function depositNonce() external view returns (uint256);
    /// @notice `keccak256(abi.encode(x, y))`.
    function walletIdOf(Key calldata key) external pure returns (bytes32 wallet);
    /// @notice The id of a coin on this chain, in this contract.
    function coinIdOf(bytes32 wallet, address asset, uint128 amount, uint256 nonce) external view returns (bytes32 coin);
    /// @notice The id of a part of a transfer: 0 the payee's, 1 the payer's change.
    function fragmentIdOf(bytes32 transfer, uint8 k) external pure returns (bytes32 fragment);
    /// @notice EIP-712 domain separator for the current chain.
    function domainSeparator() external view returns (bytes32);
    /// @notice EIP-712 digest that registrar and wallet sign.
    function registrationDigest(Registration calldata registration) external view returns (bytes32);
    /// @notice EIP-712 digest that a registrar signs of a final deposit.
    function depositReceiptDigest(DepositReceipt calldata receipt) external view returns (bytes32);
    /// @notice EIP-712 digest that a payee's wallet signs to be paid.
    function invoiceDigest(Invoice calldata invoice) external view returns (bytes32);
    /// @notice EIP-712 digest that a payer's wallet signs or logs.
    function transferDigest(Transfer calldata transfer) external view returns (bytes32);
    /// @notice EIP-712 digest that a payee's wallet signs when it has a transfer.
    function acceptanceDigest(Acceptance calldata acceptance) external view returns (bytes32);
}
