//! What a payer is willing to sign, whatever a merchant quotes.

use std::collections::BTreeSet;

use alloy_primitives::Address;
use protocol::ticket::{Amount, EscrowRecord, Nonce, Quote, QuoteError, Seconds};

/// Bounds on every ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Highest price of one ticket, atomic units.
    pub max_price: Amount,
    /// Longest life of a ticket. The contract's withdraw delay must exceed it, or a payer is stuck with its own promises.
    pub max_ticket_life: Seconds,
    /// Who may be paid; empty means anybody.
    pub recipients: BTreeSet<Address>,
    /// What may be paid with: tokens, or the zero address for the native asset; empty means the escrow's, whatever it is.
    pub assets: BTreeSet<Address>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_price: Amount::MAX,
            max_ticket_life: Seconds::DAY,
            recipients: BTreeSet::new(),
            assets: BTreeSet::new(),
        }
    }
}

/// Why a quote is not signed. Nothing was issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The quote does not fit the escrow.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// Too expensive.
    #[error("the price is {price}, the limit is {limit}")]
    PriceTooHigh {
        /// Quoted, atomic units.
        price: Amount,
        /// Allowed, atomic units.
        limit: Amount,
    },
    /// Not one of those who may be paid.
    #[error("recipient {got} is not on the list of {listed}")]
    RecipientNotAllowed {
        /// Quoted.
        got: Address,
        /// Length of the list.
        listed: usize,
    },
    /// Not one of those that may be paid with.
    #[error("asset {got} is not on the list of {listed}")]
    AssetNotAllowed {
        /// Quoted.
        got: Address,
        /// Length of the list.
        listed: usize,
    },
    /// The merchant wants tickets that live longer than the payer promises.
    #[error("tickets must live {wanted} s at least, the limit is {limit} s")]
    LifeTooLong {
        /// Shortest life the merchant takes.
        wanted: Seconds,
        /// Longest life allowed.
        limit: Seconds,
    },
    /// The escrow has no nonces left. Raise the cap.
    #[error("nonce {next} is not below the escrow's cap {cap}; raise the cap")]
    CapReached {
        /// The next nonce.
        next: Nonce,
        /// The escrow's cap.
        cap: Nonce,
    },
    /// The merchant has claimed a nonce that this payer has not issued: the payer's store is older than its tickets, or
    /// the merchant lies. A ticket with a lower nonce would be refused.
    #[error(
        "the merchant's floor is {floor}, but the next nonce is {next}; is this store an old copy? then skip the nonces issued since"
    )]
    FloorAboveIssued {
        /// Highest nonce in any claim, as the merchant says.
        floor: Nonce,
        /// The next nonce.
        next: Nonce,
    },
}

impl Limits {
    /// Whether to sign a ticket with nonce `next` for this quote.
    pub(crate) fn check(&self, quote: &Quote, escrow: &EscrowRecord, next: Nonce) -> Result<(), LimitError> {
        quote.check(escrow)?;
        if quote.price > self.max_price {
            return Err(LimitError::PriceTooHigh {
                price: quote.price,
                limit: self.max_price,
            });
        }
        if !self.recipients.is_empty() && !self.recipients.contains(&quote.recipient) {
            return Err(LimitError::RecipientNotAllowed {
                got: quote.recipient,
                listed: self.recipients.len(),
            });
        }
        if !self.assets.is_empty() && !self.assets.contains(&quote.asset) {
            return Err(LimitError::AssetNotAllowed {
                got: quote.asset,
                listed: self.assets.len(),
            });
        }
        if quote.min_ticket_life > self.max_ticket_life {
            return Err(LimitError::LifeTooLong {
                wanted: quote.min_ticket_life,
                limit: self.max_ticket_life,
            });
        }
        if next >= escrow.ticket_cap {
            return Err(LimitError::CapReached {
                next,
                cap: escrow.ticket_cap,
            });
        }
        if quote.nonce_floor >= next {
            return Err(LimitError::FloorAboveIssued {
                floor: quote.nonce_floor,
                next,
            });
        }
        Ok(())
    }
}
