// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Ledger} from "../shared/Ledger.sol";
import {Operators} from "../shared/Operators.sol";
import {ITicketEscrow} from "./ITicketEscrow.sol";
import {TicketHash} from "./TicketHash.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title TicketEscrow
/// @notice See {ITicketEscrow}. Each function reads: check, effect (nothing here interacts but a deposit, which is guarded).
contract TicketEscrow is ITicketEscrow, Ledger, EIP712("Micropay Ticket Escrow", "1"), Operators {
    using SafeCast for uint256;

    /// @inheritdoc ITicketEscrow
    uint64 public constant WITHDRAW_DELAY = 3 days;
    /// @inheritdoc ITicketEscrow
    uint64 public constant CURE_PERIOD = 3 days;
    /// @inheritdoc ITicketEscrow
    uint64 public constant EARMARK_MARGIN = 6 hours;
    /// @inheritdoc ITicketEscrow
    uint64 public constant MAX_EARMARK = 365 days;
    /// @inheritdoc ITicketEscrow
    // forge-lint: disable-next-line(incorrect-shift): one, shifted by the constant, in this order
    uint256 public constant THRESHOLD_UNIT = 1 << THRESHOLD_SHIFT;

    uint256 private constant THRESHOLD_SHIFT = 232;
    /// @dev A proven equivocation pays 1/10 of the penalty: enough for gas and trouble, too little to refund an offender
    /// that reports itself.
    uint256 private constant REPORTER_DIVISOR = 10;

    /// @dev {ITicketEscrow.Escrow} packed so that opening writes three slots and a claim reads two of them.
    struct Account {
        // Read and written by every claim.
        uint96 balance;
        uint96 prize;
        uint32 ticketCap;
        uint24 maxThreshold; // in THRESHOLD_UNIT
        Status status;
        // Read by every claim.
        address asset;
        uint96 penalty;
        // Read by the payer's steps.
        address payer;
        uint40 withdrawAt;
        uint40 cureBy;
        // Written only when a balance falls short. A whole word: a payer with many sham recipients can pile up any debt,
        // and an overflow would hold up honest claims.
        uint256 debt;
        // Written only with earmarks.
        uint96 earmarked;
        uint40 earmarkUntil;
    }

    /// @dev What claiming a group works on; written back once.
    struct Tally {
        uint256 balance;
        uint256 prize;
        uint256 ticketCap;
        uint256 maxThreshold;
        Status status;
        uint64 lastNonce;
        uint256 earmarkPrizes;
        uint256 fromEarmark;
        uint256 fromBalance;
        uint256 owed;
    }

    mapping(address escrow => Account) private _accounts;
    mapping(address escrow => mapping(address recipient => Pair)) private _pairs;
    mapping(address escrow => mapping(address creditor => uint256 amount)) private _debtOf;

    // ───────────────────────────── Payer ─────────────────────────────

    /// @inheritdoc ITicketEscrow
    function open(address escrow, Terms calldata terms, uint256 amount, Signature calldata possession)
        external
        payable
        nonReentrant
    {
        // Check.
        Account storage account = _accounts[escrow];
        require(account.status == Status.NONE, EscrowExists(escrow));
        require(terms.prize != 0, PrizeZero());
        require(
            terms.maxThreshold != 0 && terms.maxThreshold % THRESHOLD_UNIT == 0,
            ThresholdNotMultiple(terms.maxThreshold, THRESHOLD_UNIT)
        );
        _checkCap(terms.ticketCap, 2); // nonce 0 is never payable: a lower cap could pay nothing
        bytes32 digest = openingDigest(
            Opening(escrow, msg.sender, terms.asset, terms.prize, terms.maxThreshold, terms.ticketCap, terms.penalty)
        );
        address recovered = _recover(digest, possession);
        // A signature that recovers nothing must not open the zero address: everyone could then "sign" its tickets.
        require(recovered == escrow && escrow != address(0), WrongSigner(recovered, escrow));

        // Interaction, before the effect it measures; re-entry is barred.
        uint256 received = _deposit(terms.asset, amount);
        require(received >= terms.penalty, PenaltyNotCovered(received, terms.penalty));

        // Effect.
        uint96 balance = (received - terms.penalty).toUint96();
        account.balance = balance;
        account.prize = terms.prize.toUint96();
        account.ticketCap = uint32(terms.ticketCap);
        account.maxThreshold = uint24(terms.maxThreshold >> THRESHOLD_SHIFT);
        account.status = Status.OPEN;
        account.asset = terms.asset;
        account.penalty = terms.penalty.toUint96();
        account.payer = msg.sender;
        emit Opened(
            escrow, msg.sender, terms.asset, terms.prize, terms.maxThreshold, terms.ticketCap, balance, terms.penalty
        );
    }

    /// @inheritdoc ITicketEscrow
    function topUp(address escrow, uint256 amount) external payable nonReentrant {
        Account storage account = _accounts[escrow];
        Status status = account.status;
        require(status != Status.NONE && status != Status.CLOSED, WrongStatus(status, Status.OPEN));

        uint256 received = _deposit(account.asset, amount);

        account.balance = (uint256(account.balance) + received).toUint96();
        emit ToppedUp(escrow, msg.sender, received);
    }

    /// @inheritdoc ITicketEscrow
    function raiseCap(address escrow, uint64 ticketCap, uint256 amount) external payable nonReentrant {
        Account storage account = _asPayer(escrow, Status.OPEN);
        _checkCap(ticketCap, uint64(account.ticketCap) + 1);

        uint256 received = _deposit(account.asset, amount);
        require(received != 0, PenaltyNotRaised());

        uint96 penalty = (uint256(account.penalty) + received).toUint96();
        account.ticketCap = uint32(ticketCap);
        account.penalty = penalty;
        emit CapRaised(escrow, ticketCap, penalty);
    }

    /// @inheritdoc ITicketEscrow
    function earmark(address escrow, address recipient, uint32 prizes, uint64 until) external {
        // Check.
        Account storage account = _asPayer(escrow, Status.OPEN);
        Pair storage pair = _pairs[escrow][recipient];
        uint64 low = uint64(block.timestamp);
        if (pair.earmarkPrizes != 0 && pair.earmarkUntil > low) low = pair.earmarkUntil;
        uint64 high = uint64(block.timestamp) + MAX_EARMARK;
        require(until >= low && until <= high, EarmarkUntilOutOfRange(until, low, high));
        uint256 amount = uint256(prizes) * account.prize;
        require(amount <= account.balance, BalanceTooLow(account.balance, amount));

        // Effect. Casts and sums are safe: `amount` is within the balance, `until` within a year.
        account.balance -= uint96(amount);
        account.earmarked += uint96(amount);
        if (until > account.earmarkUntil) account.earmarkUntil = uint40(until);
        pair.earmarkPrizes += prizes;
        pair.earmarkUntil = until;
        emit Earmarked(escrow, recipient, prizes, until);
    }

    /// @inheritdoc ITicketEscrow
    function releaseEarmark(address escrow, address recipient) external {
        // Check.
        Account storage account = _accounts[escrow];
        require(msg.sender == account.payer, NotPayer(msg.sender, account.payer));
        Pair storage pair = _pairs[escrow][recipient];
        uint32 prizes = pair.earmarkPrizes;
        uint256 amount = uint256(prizes) * account.prize;
        // A withdrawal has returned what its pairs still name, hence the second comparison.
        require(prizes != 0 && amount <= account.earmarked, NothingEarmarked(escrow, recipient));
        uint256 releaseAt = uint256(pair.earmarkUntil) + EARMARK_MARGIN;
        require(block.timestamp > releaseAt, EarmarkLive(block.timestamp, releaseAt));

        // Effect.
        pair.earmarkPrizes = 0;
        account.earmarked -= uint96(amount);
        if (account.status == Status.CLOSED) {
            _credit(account.asset, BURN_ADDRESS, amount);
        } else {
            account.balance = (uint256(account.balance) + amount).toUint96();
        }
        emit EarmarkReleased(escrow, recipient, prizes);
    }

    /// @inheritdoc ITicketEscrow
    function requestWithdraw(address escrow) external {
        Account storage account = _asPayer(escrow, Status.OPEN);
        uint64 withdrawAt = uint64(block.timestamp) + WITHDRAW_DELAY;
        account.status = Status.WITHDRAWING;
        account.withdrawAt = uint40(withdrawAt);
        emit WithdrawRequested(escrow, withdrawAt);
    }

    /// @inheritdoc ITicketEscrow
    function cancelWithdraw(address escrow) external {
        Account storage account = _asPayer(escrow, Status.WITHDRAWING);
        account.status = Status.OPEN;
        account.withdrawAt = 0;
        emit WithdrawCancelled(escrow);
    }

    /// @inheritdoc ITicketEscrow
    function withdraw(address escrow) external {
        // Check. Debt needs no check: with debt the status is INSOLVENT.
        Account storage account = _asPayer(escrow, Status.WITHDRAWING);
        require(block.timestamp >= account.withdrawAt, WithdrawTooEarly(block.timestamp, account.withdrawAt));
        uint256 earmarked = account.earmarked;
        if (earmarked != 0) {
            uint256 releaseAt = uint256(account.earmarkUntil) + EARMARK_MARGIN;
            require(block.timestamp > releaseAt, EarmarkLive(block.timestamp, releaseAt));
            account.earmarked = 0;
        }

        // Effect.
        uint256 amount = uint256(account.balance) + account.penalty + earmarked;
        account.balance = 0;
        account.penalty = 0;
        account.status = Status.CLOSED;
        account.withdrawAt = 0;
        _credit(account.asset, msg.sender, amount);
        emit Withdrawn(escrow, msg.sender, amount);
    }

    // ───────────────────────────── Recipient ─────────────────────────────

    /// @inheritdoc ITicketEscrow
    function claim(address recipient, address escrow, bytes32 r1, Winner calldata winner) external {
        _checkOperator(recipient);
        Account storage account = _accounts[escrow];
        Pair storage pair = _pairs[escrow][recipient];
        Tally memory tally = _tally(account, pair);
        bytes32 domain = _domainSeparatorV4();
        Ticket memory ticket = _ticket(domain, escrow, recipient, r1);

        (bytes4 reason, uint256 got, uint256 limit) = _check(tally, domain, ticket, r1, winner);
        if (reason != 0) _revert(reason, got, limit);
        _settle(tally, ticket);

        _save(tally, account, pair, escrow, recipient);
        _credit(account.asset, recipient, tally.fromEarmark + tally.fromBalance);
    }

    /// @inheritdoc ITicketEscrow
    function claimBatch(address recipient, Group[] calldata groups) external {
        _checkOperator(recipient);
        bytes32 domain = _domainSeparatorV4();
        // Credit is written once per run of groups with one asset.
        address asset;
        uint256 sum;
        for (uint256 i; i < groups.length; ++i) {
            (address groupAsset, uint256 paid) = _claimGroup(domain, recipient, groups[i]);
            if (paid == 0) continue;
            if (groupAsset != asset && sum != 0) {
                _credit(asset, recipient, sum);
                sum = 0;
            }
            asset = groupAsset;
            sum += paid;
        }
        if (sum != 0) _credit(asset, recipient, sum);
    }

    // ───────────────────────────── Anyone ─────────────────────────────

    /// @inheritdoc ITicketEscrow
    function cure(address escrow, address[] calldata creditors, uint256 amount) external payable nonReentrant {
        // Check.
        Account storage account = _accounts[escrow];
        require(account.status == Status.INSOLVENT, WrongStatus(account.status, Status.INSOLVENT));
        require(block.timestamp <= account.cureBy, CureTooLate(block.timestamp, account.cureBy));

        // Interaction, before the effect it measures; re-entry is barred.
        address asset = account.asset;
        uint256 received = _deposit(asset, amount);

        // Effect.
        uint256 debt = account.debt;
        uint256 paid;
        for (uint256 i; i < creditors.length; ++i) {
            address creditor = creditors[i];
            uint256 owed = _debtOf[escrow][creditor];
            if (owed == 0) continue; // paid by another curer, or listed twice
            delete _debtOf[escrow][creditor];
            paid += owed;
            _credit(asset, creditor, owed);
            emit Cured(escrow, creditor, owed, debt - paid);
        }
        require(paid != 0, NothingOwed(escrow));
        require(received >= paid, DebtNotCovered(received, paid));
        if (received > paid) _credit(asset, msg.sender, received - paid);
        account.debt = debt - paid;
        if (debt == paid) {
            account.status = Status.OPEN;
            account.cureBy = 0;
        }
    }

    /// @inheritdoc ITicketEscrow
    function burn(address escrow) external {
        // Check.
        Account storage account = _accounts[escrow];
        require(account.status == Status.INSOLVENT, WrongStatus(account.status, Status.INSOLVENT));
        require(block.timestamp > account.cureBy, BurnTooEarly(block.timestamp, account.cureBy));

        // Effect.
        uint256 amount = uint256(account.balance) + account.penalty;
        account.balance = 0;
        account.penalty = 0;
        account.status = Status.CLOSED;
        _credit(account.asset, BURN_ADDRESS, amount);
        emit Burned(escrow, amount);
    }

    /// @inheritdoc ITicketEscrow
    function proveEquivocation(
        Ticket calldata a,
        Signature calldata signatureA,
        Ticket calldata b,
        Signature calldata signatureB
    ) external {
        // Check.
        bytes32 digestA = ticketDigest(a);
        bytes32 digestB = ticketDigest(b);
        require(a.escrow == b.escrow && a.nonce == b.nonce && digestA != digestB, NotEquivocation(digestA, digestB));
        address escrow = a.escrow;
        Account storage account = _accounts[escrow];
        uint256 penalty = account.penalty;
        require(penalty != 0, PenaltyZero(escrow));
        address recovered = _recover(digestA, signatureA);
        require(recovered == escrow, WrongSigner(recovered, escrow));
        recovered = _recover(digestB, signatureB);
        require(recovered == escrow, WrongSigner(recovered, escrow));

        // Effect.
        uint256 reward = penalty / REPORTER_DIVISOR;
        account.penalty = 0;
        _credit(account.asset, msg.sender, reward);
        _credit(account.asset, BURN_ADDRESS, penalty - reward);
        emit EquivocationProven(escrow, msg.sender, a.nonce, penalty - reward, reward);
    }

    // ───────────────────────────── Views ─────────────────────────────

    /// @inheritdoc ITicketEscrow
    function escrowOf(address escrow) external view returns (Escrow memory) {
        Account storage account = _accounts[escrow];
        return Escrow({
            payer: account.payer,
            asset: account.asset,
            balance: account.balance,
            penalty: account.penalty,
            prize: account.prize,
            maxThreshold: uint256(account.maxThreshold) << THRESHOLD_SHIFT,
            ticketCap: account.ticketCap,
            withdrawAt: account.withdrawAt,
            cureBy: account.cureBy,
            debt: account.debt,
            earmarked: account.earmarked,
            earmarkUntil: account.earmarkUntil,
            status: account.status
        });
    }

    /// @inheritdoc ITicketEscrow
    function pairOf(address escrow, address recipient) external view returns (Pair memory) {
        return _pairs[escrow][recipient];
    }

    /// @inheritdoc ITicketEscrow
    function debtOf(address escrow, address creditor) external view returns (uint256) {
        return _debtOf[escrow][creditor];
    }

    /// @inheritdoc ITicketEscrow
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// @inheritdoc ITicketEscrow
    function ticketDigest(Ticket calldata ticket) public view returns (bytes32) {
        return _hashTypedDataV4(TicketHash.ticket(ticket));
    }

    /// @inheritdoc ITicketEscrow
    function openingDigest(Opening memory opening) public view returns (bytes32) {
        return _hashTypedDataV4(TicketHash.opening(opening));
    }

    /// @inheritdoc ITicketEscrow
    function commitmentOf(CoinCommitment calldata coin) external view returns (bytes32) {
        return _hashTypedDataV4(TicketHash.coinCommitment(coin.recipient, coin.r1));
    }

    // ───────────────────────────── Claiming ─────────────────────────────

    function _claimGroup(bytes32 domain, address recipient, Group calldata group)
        private
        returns (address asset, uint256 paid)
    {
        address escrow = group.escrow;
        Account storage account = _accounts[escrow];
        Pair storage pair = _pairs[escrow][recipient];
        Tally memory tally = _tally(account, pair);
        bytes32 r1 = group.r1;
        Ticket memory ticket = _ticket(domain, escrow, recipient, r1);
        uint64 lastNonce = tally.lastNonce;

        Winner[] calldata winners = group.winners;
        for (uint256 i; i < winners.length; ++i) {
            Winner calldata winner = winners[i];
            (bytes4 reason, uint256 got, uint256 limit) = _check(tally, domain, ticket, r1, winner);
            if (reason != 0) emit TicketSkipped(escrow, recipient, winner.nonce, reason, got, limit);
            else _settle(tally, ticket);
        }

        if (tally.lastNonce == lastNonce) return (NATIVE, 0); // nothing settled
        _save(tally, account, pair, escrow, recipient);
        return (account.asset, tally.fromEarmark + tally.fromBalance);
    }

    function _tally(Account storage account, Pair storage pair) private view returns (Tally memory tally) {
        tally.balance = account.balance;
        tally.prize = account.prize;
        tally.ticketCap = account.ticketCap;
        tally.maxThreshold = uint256(account.maxThreshold) << THRESHOLD_SHIFT;
        tally.status = account.status;
        tally.lastNonce = pair.lastNonce;
        tally.earmarkPrizes = pair.earmarkPrizes;
        // After a withdrawal the pairs still name their earmarks, but the money is gone.
        if (tally.earmarkPrizes != 0 && account.earmarked == 0) tally.earmarkPrizes = 0;
    }

    /// @dev The fields that all tickets of a group share.
    function _ticket(bytes32 domain, address escrow, address recipient, bytes32 r1)
        private
        pure
        returns (Ticket memory ticket)
    {
        ticket.escrow = escrow;
        ticket.recipient = recipient;
        ticket.commitment = MessageHashUtils.toTypedDataHash(domain, TicketHash.coinCommitment(recipient, r1));
    }

    /// @dev The release condition Π^esc, cheapest rule first. Fills the winner's fields into `ticket`. Everything that a
    /// winner can get wrong ends as a reason (an error's selector; 0 for none) with its two values, so that one winner
    /// cannot stop its batch.
    function _check(Tally memory tally, bytes32 domain, Ticket memory ticket, bytes32 r1, Winner calldata winner)
        private
        view
        returns (bytes4 reason, uint256 got, uint256 limit)
    {
        if (tally.status == Status.NONE || (tally.status == Status.CLOSED && tally.earmarkPrizes == 0)) {
            return (EscrowNotPaying.selector, uint256(tally.status), uint256(Status.OPEN));
        }
        if (block.timestamp > winner.expiry) {
            return (TicketExpired.selector, block.timestamp, winner.expiry);
        }
        if (winner.nonce >= tally.ticketCap) {
            return (NonceNotBelowCap.selector, winner.nonce, tally.ticketCap);
        }
        if (winner.nonce <= tally.lastNonce) {
            return (NonceNotAboveLast.selector, winner.nonce, tally.lastNonce);
        }
        if (winner.winThreshold > tally.maxThreshold) {
            return (ThresholdAboveMax.selector, winner.winThreshold, tally.maxThreshold);
        }
        ticket.r2 = winner.r2;
        ticket.winThreshold = winner.winThreshold;
        ticket.expiry = winner.expiry;
        ticket.nonce = winner.nonce;
        bytes32 digest = MessageHashUtils.toTypedDataHash(domain, TicketHash.ticket(ticket));
        uint256 drawn = TicketHash.draw(digest, r1);
        if (!TicketHash.wins(drawn, winner.winThreshold)) {
            return (DrawNotBelowThreshold.selector, drawn, winner.winThreshold);
        }
        // The commitment is inside the digest: a wrong `r1` or recipient is a wrong signature.
        address recovered = _recover(digest, winner.signature);
        if (recovered != ticket.escrow) {
            return (TicketNotSigned.selector, uint160(recovered), uint160(ticket.escrow));
        }
    }

    /// @dev Pays one prize: from the earmark, else from the balance; what is missing becomes debt.
    function _settle(Tally memory tally, Ticket memory ticket) private {
        uint256 prize = tally.prize;
        uint256 fromEarmark;
        uint256 owed;
        if (tally.earmarkPrizes != 0) {
            fromEarmark = prize;
            --tally.earmarkPrizes;
            tally.fromEarmark += prize;
        } else {
            uint256 fromBalance = Math.min(tally.balance, prize);
            owed = prize - fromBalance;
            tally.balance -= fromBalance;
            tally.fromBalance += fromBalance;
            tally.owed += owed;
        }
        tally.lastNonce = ticket.nonce;
        emit Claimed(ticket.escrow, ticket.recipient, ticket.nonce, fromEarmark, owed);
    }

    function _save(Tally memory tally, Account storage account, Pair storage pair, address escrow, address recipient)
        private
    {
        if (tally.owed != 0) {
            account.debt += tally.owed;
            _debtOf[escrow][recipient] += tally.owed;
            if (tally.status != Status.INSOLVENT) {
                uint64 cureBy = uint64(block.timestamp) + CURE_PERIOD;
                account.status = Status.INSOLVENT;
                account.withdrawAt = 0;
                account.cureBy = uint40(cureBy);
                emit BecameInsolvent(escrow, cureBy);
            }
        }
        // Casts are safe: the amounts only went down.
        account.balance = uint96(tally.balance);
        if (tally.fromEarmark != 0) account.earmarked -= uint96(tally.fromEarmark);
        pair.lastNonce = tally.lastNonce;
        pair.earmarkPrizes = uint32(tally.earmarkPrizes);
    }

    /// @dev Reverts with the error that a reason names.
    function _revert(bytes4 reason, uint256 got, uint256 limit) private pure {
        bytes memory data = abi.encodeWithSelector(reason, got, limit);
        assembly ("memory-safe") {
            revert(add(data, 0x20), mload(data))
        }
    }

    // ───────────────────────────── Checks ─────────────────────────────

    function _asPayer(address escrow, Status needed) private view returns (Account storage account) {
        account = _accounts[escrow];
        require(msg.sender == account.payer, NotPayer(msg.sender, account.payer));
        require(account.status == needed, WrongStatus(account.status, needed));
    }

    function _checkCap(uint64 ticketCap, uint64 low) private pure {
        require(
            ticketCap >= low && ticketCap <= type(uint32).max, TicketCapOutOfRange(ticketCap, low, type(uint32).max)
        );
    }

    /// @dev Strict ECDSA with the raw key (never ERC-1271): 0 for a high `s`, a `v` other than 27 or 28, or no signature.
    function _recover(bytes32 digest, Signature calldata signature) private pure returns (address recovered) {
        (recovered,,) = ECDSA.tryRecover(digest, signature.v, signature.r, signature.s);
    }
}
