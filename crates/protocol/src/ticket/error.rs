//! Why a step does not happen. One variant per rule, with the two values that were compared, and whether trying again can
//! help. Names are stable: payer and merchant talk about refusals by [`Refusal::rule`].

use alloy_primitives::{Address, B256, U256};
use thiserror::Error;

use super::{Amount, Nonce, Seconds, SignatureError, Status, Timestamp, WinThreshold};
use crate::units::UnitError;

/// Why a merchant does not accept a ticket. The variants stand in the order in which the rules are checked.
///
/// A ticket made for another chain or contract has another digest, under which its signature recovers some other address:
/// it is refused as [`Refusal::WrongSigner`] (or as an unknown commitment, which comes first).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The ticket names a commitment that is not the live one for its escrow, and was not in this run of the merchant.
    #[error("commitment {got} is not mine for this escrow, the live one is {live}")]
    CommitmentUnknown {
        /// The ticket's commitment.
        got: B256,
        /// The one to use.
        live: B256,
    },
    /// The ticket names a commitment whose secret was, or may have been, revealed.
    #[error("commitment {got} is closed, the live one is {live}")]
    CommitmentClosed {
        /// The ticket's commitment.
        got: B256,
        /// The one to use.
        live: B256,
    },
    /// The ticket pays somebody else.
    #[error("ticket pays {got}, I am {me}")]
    WrongRecipient {
        /// The ticket's recipient.
        got: Address,
        /// This merchant.
        me: Address,
    },
    /// A ticket with this nonce came before.
    #[error("nonce {nonce} of escrow {escrow} was seen before")]
    NonceSeen {
        /// The ticket's nonce.
        nonce: Nonce,
        /// The ticket's escrow.
        escrow: Address,
    },
    /// A ticket with this or a higher nonce is in a claim: this one might never be payable.
    #[error("nonce {nonce} is not above {floor}")]
    NonceNotAboveFloor {
        /// The ticket's nonce.
        nonce: Nonce,
        /// Highest nonce in any claim.
        floor: Nonce,
    },
    /// The contract pays no such nonce.
    #[error("nonce {nonce} is not below the cap {cap}")]
    NonceNotBelowCap {
        /// The ticket's nonce.
        nonce: Nonce,
        /// The escrow's cap.
        cap: Nonce,
    },
    /// The ticket may expire before it is claimed.
    #[error("ticket expires at {expiry}, the earliest I take is {earliest}")]
    TicketExpiresTooSoon {
        /// The ticket's expiry.
        expiry: Timestamp,
        /// Now and the claim margin.
        earliest: Timestamp,
    },
    /// The ticket outlives what a withdrawal's delay covers.
    #[error("ticket expires at {expiry}, the latest I take is {latest}")]
    TicketLivesTooLong {
        /// The ticket's expiry.
        expiry: Timestamp,
        /// Now and the longest ticket life.
        latest: Timestamp,
    },
    /// The ticket is not worth the price (or is worth more: not what was quoted).
    #[error("ticket's threshold is {got}, the price is {price}")]
    WrongThreshold {
        /// The ticket's threshold.
        got: WinThreshold,
        /// The threshold that makes the price.
        price: WinThreshold,
    },
    /// The merchant has not heard from the chain for too long.
    #[error("my view of the chain is {age} old, I accept up to {limit}")]
    MirrorStale {
        /// Age of the newest block's view.
        age: Seconds,
        /// The highest age at which tickets are accepted.
        limit: Seconds,
    },
    /// No such escrow at a final block.
    #[error("escrow {escrow} is not open at a final block")]
    EscrowMissing {
        /// The ticket's escrow.
        escrow: Address,
    },
    /// The escrow holds another asset.
    #[error("escrow holds asset {got}, the price is in {price}")]
    WrongAsset {
        /// The escrow's asset.
        got: Address,
        /// The quoted asset.
        price: Address,
    },
    /// The escrow pays another prize.
    #[error("escrow pays a prize of {got}, the price is for {price}")]
    WrongPrize {
        /// The escrow's prize.
        got: Amount,
        /// The quoted prize.
        price: Amount,
    },
    /// The escrow is insolvent or closed.
    #[error("escrow is {status:?}, not Open")]
    EscrowNotOpen {
        /// Where it stands.
        status: Status,
    },
    /// The payer may be gone with the money before the ticket is claimed.
    #[error("escrow can be withdrawn at {withdraw_at}, needed is {needed} or later")]
    EscrowWithdrawing {
        /// When the payer can withdraw.
        withdraw_at: Timestamp,
        /// The ticket's expiry and the withdraw margin.
        needed: Timestamp,
    },
    /// The contract would not pay so likely a ticket.
    #[error("ticket's threshold is {got}, the escrow's highest is {max}")]
    ThresholdAboveMax {
        /// The ticket's threshold.
        got: WinThreshold,
        /// The escrow's bound.
        max: WinThreshold,
    },
    /// The payer could gain by winning its own tickets against honest winners.
    #[error("penalty is {penalty}, needed is {required}")]
    PenaltyTooLow {
        /// The escrow's penalty.
        penalty: Amount,
        /// See [`super::odds::required_penalty`].
        required: Amount,
    },
    /// The balance does not cover this ticket on top of the merchant's unclaimed wins, nor does an earmark.
    #[error("balance is {balance}, needed is {needed}")]
    BalanceTooLow {
        /// The escrow's balance.
        balance: Amount,
        /// A prize for each unclaimed win and this ticket.
        needed: Amount,
    },
    /// The payer owes the merchant too much already.
    #[error("{wins} wins of this payer would be unclaimed, I carry at most {cap}")]
    ExposureTooHigh {
        /// Unclaimed wins, this ticket counted.
        wins: u32,
        /// The merchant's cap.
        cap: u32,
    },
    /// The signature is malformed, or no key's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Another key signed, or the escrow's key signed something else.
    #[error("ticket is signed by {recovered}, not by its escrow {escrow}")]
    WrongSigner {
        /// The address that the signature recovers.
        recovered: Address,
        /// The ticket's escrow.
        escrow: Address,
    },
}

/// What a payer can do about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Ask for a new quote and issue a new ticket.
    NewQuote,
    /// Send the same again when the chain or the merchant has moved on.
    Later,
    /// Nothing, with this escrow.
    Never,
}

/// Why a payer does not pay a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QuoteError {
    /// The quote names one price and takes another.
    #[error("quote says {price}, its ticket is worth {worth}")]
    PriceNotWorth {
        /// The price it names.
        price: Amount,
        /// What the threshold makes it.
        worth: Amount,
    },
    /// The escrow holds another asset.
    #[error("quote is in asset {got}, the escrow holds {escrow}")]
    WrongAsset {
        /// The quote's asset.
        got: Address,
        /// The escrow's asset.
        escrow: Address,
    },
    /// The escrow pays another prize.
    #[error("quote is for a prize of {got}, the escrow pays {escrow}")]
    WrongPrize {
        /// The quote's prize.
        got: Amount,
        /// The escrow's prize.
        escrow: Amount,
    },
    /// The escrow allows no such ticket.
    #[error("quote asks for threshold {got}, the escrow's highest is {max}")]
    ThresholdAboveMax {
        /// The quote's threshold.
        got: WinThreshold,
        /// The escrow's bound.
        max: WinThreshold,
    },
    /// No expiry would be accepted.
    #[error("quote takes tickets that live from {min} to {max}")]
    NoTicketLife {
        /// Shortest life.
        min: Seconds,
        /// Longest life.
        max: Seconds,
    },
}

/// Why a merchant's policy is unsafe.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum PolicyError {
    /// A payer could withdraw before a ticket that was good when it came is claimed (rule E7).
    #[error("tickets may need {window} to be claimed, a withdrawal takes only {delay}")]
    WindowAboveDelay {
        /// Longest ticket life, withdraw margin and age of the view together.
        window: Seconds,
        /// The contract's withdraw delay.
        delay: Seconds,
    },
    /// No expiry would be accepted.
    #[error("claim margin {min} is above the longest ticket life {max}")]
    NoTicketLife {
        /// The claim margin.
        min: Seconds,
        /// The longest ticket life.
        max: Seconds,
    },
    /// Epsilon is a probability, and 0 asks for a penalty of every ticket's prize.
    #[error("epsilon is {got}, not between 0 and 1")]
    EpsilonOutOfRange {
        /// The value.
        got: f64,
    },
}

/// Why winners cannot go into one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClaimError {
    /// One claim pays one recipient.
    #[error("a claim pays one recipient, these wins are for {first} and {other}")]
    MixedRecipients {
        /// Recipient of the first win.
        first: Address,
        /// Another one.
        other: Address,
    },
    /// A nonce is paid once.
    #[error("two wins of escrow {escrow} have nonce {nonce}")]
    NonceTwice {
        /// The escrow.
        escrow: Address,
        /// The nonce.
        nonce: Nonce,
    },
}

/// Why an event does not fit what was known: the node is wrong, or an earlier event was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FoldError {
    /// An escrow was opened that is open, or was.
    #[error("escrow {escrow} is opened a second time")]
    EscrowExists {
        /// The escrow.
        escrow: Address,
    },
    /// Something happened to an escrow that was not opened.
    #[error("event of escrow {escrow}, which was not opened")]
    EscrowMissing {
        /// The escrow.
        escrow: Address,
    },
    /// A number is beyond what the contract can hold.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// More leaves a place than was in it.
    #[error("escrow {escrow} spends {needed} of {available}")]
    Overspent {
        /// The escrow.
        escrow: Address,
        /// What was there, atomic units or prizes.
        available: U256,
        /// What leaves.
        needed: U256,
    },
    /// The event names an amount that follows from what was known, and names another.
    #[error("escrow {escrow}: the event says {got}, known was {known}")]
    Mismatch {
        /// The escrow.
        escrow: Address,
        /// What the event says, atomic units or prizes.
        got: U256,
        /// What it should say.
        known: U256,
    },
    /// A sum is beyond what the contract can hold.
    #[error("escrow {escrow} cannot hold {held} and {added}")]
    Overflow {
        /// The escrow.
        escrow: Address,
        /// What was there, atomic units or prizes.
        held: U256,
        /// What is added.
        added: U256,
    },
    /// A cap is beyond 32 bits, which the contract counts in.
    #[error("ticket cap {got} is above the contract's {limit}")]
    CapTooLarge {
        /// The cap.
        got: u64,
        /// The highest cap.
        limit: u32,
    },
}

impl Refusal {
    /// The rule's name, in kebab case; never changes.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::CommitmentUnknown { .. } => "commitment-unknown",
            Self::CommitmentClosed { .. } => "commitment-closed",
            Self::WrongRecipient { .. } => "wrong-recipient",
            Self::NonceSeen { .. } => "nonce-seen",
            Self::NonceNotAboveFloor { .. } => "nonce-not-above-floor",
            Self::NonceNotBelowCap { .. } => "nonce-not-below-cap",
            Self::TicketExpiresTooSoon { .. } => "ticket-expires-too-soon",
            Self::TicketLivesTooLong { .. } => "ticket-lives-too-long",
            Self::WrongThreshold { .. } => "wrong-threshold",
            Self::MirrorStale { .. } => "mirror-stale",
            Self::EscrowMissing { .. } => "escrow-missing",
            Self::WrongAsset { .. } => "wrong-asset",
            Self::WrongPrize { .. } => "wrong-prize",
            Self::EscrowNotOpen { .. } => "escrow-not-open",
            Self::EscrowWithdrawing { .. } => "escrow-withdrawing",
            Self::ThresholdAboveMax { .. } => "threshold-above-max",
            Self::PenaltyTooLow { .. } => "penalty-too-low",
            Self::BalanceTooLow { .. } => "balance-too-low",
            Self::ExposureTooHigh { .. } => "exposure-too-high",
            Self::Signature(_) => "signature-malformed",
            Self::WrongSigner { .. } => "wrong-signer",
        }
    }

    /// What the payer can do about it.
    pub fn retry(&self) -> Retry {
        match self {
            // A fresh commitment, nonce, clock or price helps. The ticket itself never becomes good.
            Self::CommitmentUnknown { .. }
            | Self::CommitmentClosed { .. }
            | Self::WrongRecipient { .. }
            | Self::NonceNotAboveFloor { .. }
            | Self::TicketExpiresTooSoon { .. }
            | Self::TicketLivesTooLong { .. }
            | Self::WrongThreshold { .. } => Retry::NewQuote,
            // A block, a claim, a top-up, a cure or a raised cap helps.
            Self::NonceNotBelowCap { .. }
            | Self::MirrorStale { .. }
            | Self::EscrowMissing { .. }
            | Self::EscrowNotOpen {
                status: Status::Open | Status::Withdrawing | Status::Insolvent,
            }
            | Self::EscrowWithdrawing { .. }
            | Self::PenaltyTooLow { .. }
            | Self::BalanceTooLow { .. }
            | Self::ExposureTooHigh { .. } => Retry::Later,
            // These never change. A nonce that was seen was accepted, unless the payer's key is in two places: who pays
            // again, pays twice.
            Self::NonceSeen { .. }
            | Self::EscrowNotOpen {
                status: Status::Closed,
            }
            | Self::WrongAsset { .. }
            | Self::WrongPrize { .. }
            | Self::ThresholdAboveMax { .. }
            | Self::Signature(_)
            | Self::WrongSigner { .. } => Retry::Never,
        }
    }
}
