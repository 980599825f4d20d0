//! The payer's promises. An order is one purchase; it gets one ticket, and the same one however often it is asked for: a
//! second ticket for one order would be a second draw, and a second ticket under one nonce costs the penalty.
//!
//! ```text
//!   issue ──▶ Sent ──▶ Delivered
//!               └────▶ Refused { rule }
//! ```

use std::fmt;

use alloy_primitives::Address;
use protocol::ticket::{Amount, Domain, Issued, Nonce, OrderId, Ticket, Timestamp};

use crate::{Result, StoreError, Total};

/// Issued tickets by order, and the nonces handed out per escrow.
pub trait OrderStore {
    /// The ticket of an order. If the order is new, in one transaction: charges the budgets, takes the escrow's next nonce
    /// (from 1), has it signed, stores the ticket. On return the ticket is durable and may be sent. A known order gives back the stored
    /// ticket, whatever else the request says, and `sign` is not called.
    ///
    /// `sign` runs inside the transaction, so it must only compute. It is `'static` because the transaction outlives a
    /// caller who stops waiting; give it an `Arc` of the key. A ticket for another escrow, recipient or nonce is
    /// [`SignedOther`](crate::StoreError::SignedOther), and a price beyond a budget
    /// [`OverBudget`](crate::StoreError::OverBudget); then no nonce is taken and no budget charged.
    fn issue<F>(&self, request: OrderRequest, sign: F) -> impl Future<Output = Result<Issue>> + Send
    where
        F: FnOnce(Nonce) -> Ticket<Issued> + Send + 'static;

    /// One order, if it was ever issued.
    fn order(&self, id: OrderId) -> impl Future<Output = Result<Option<OrderRecord>>> + Send;

    /// Records how an order ended. Only forward: `Sent` to `Delivered` or `Refused`. True if this changed it, false if it
    /// said so already.
    fn resolve(&self, id: OrderId, state: OrderState) -> impl Future<Output = Result<bool>> + Send;

    /// From now on the escrow's nonces are above `above` (a merchant's floor). Never lowers. Returns the next nonce.
    fn raise_nonce(&self, escrow: Address, above: Nonce) -> impl Future<Output = Result<Nonce>> + Send;

    /// Orders, by rising nonce within an escrow. An [`Address`] is a filter, too: all orders of that escrow.
    fn orders(
        &self,
        filter: impl Into<OrderFilter> + Send,
    ) -> impl Future<Output = Result<Vec<OrderRecord>>> + Send;

    /// The nonce that the escrow's next ticket will have, unless another is issued first. 1 for an unknown escrow.
    fn next_nonce(&self, escrow: Address) -> impl Future<Output = Result<Nonce>> + Send;

    /// What the tickets charged to this account were worth together, atomic units. Signed tickets count for ever, refused or
    /// not: a dishonest merchant may still claim a ticket that it said it refused.
    fn spent(&self, account: &str) -> impl Future<Output = Result<Amount>> + Send;

    /// How many orders are in which state and what they were worth; of one escrow or of all.
    fn order_totals(&self, escrow: Option<Address>) -> impl Future<Output = Result<OrderTotals>> + Send;
}

/// What is to be paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRequest {
    /// The purchase; the payer's choice, unique for ever in its store.
    pub order: OrderId,
    /// Pays.
    pub escrow: Address,
    /// Is paid.
    pub recipient: Address,
    /// What the ticket is worth, atomic units: prize × win probability.
    pub price: Amount,
    /// The order, refused for a reason that a fresh ticket mends, in whose place this one is.
    pub replaces: Option<OrderId>,
    /// Accounts of the payer that the price is charged to, in full to each. One named twice is charged once.
    pub budgets: Vec<Budget>,
    /// Now.
    pub at: Timestamp,
}

/// A limit to what may be spent: for a task, an agent, a day; whatever the payer calls an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The account; its sum is kept by this name for ever.
    pub account: String,
    /// What its tickets may be worth together, atomic units. It is of the request, so it can change from order to order.
    pub limit: Amount,
}

/// What [`OrderStore::issue`] did.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Issue {
    /// The order was new; this ticket was just signed and stored.
    Fresh(OrderRecord),
    /// The order was known; this is its ticket as stored.
    Existing(OrderRecord),
}

impl Issue {
    /// The order, new or not.
    pub fn record(&self) -> &OrderRecord {
        match self {
            Self::Fresh(record) | Self::Existing(record) => record,
        }
    }

    /// The order, new or not.
    pub fn into_record(self) -> OrderRecord {
        match self {
            Self::Fresh(record) | Self::Existing(record) => record,
        }
    }
}

/// An order as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderRecord {
    /// The purchase.
    pub id: OrderId,
    /// Its one ticket.
    pub ticket: Ticket<Issued>,
    /// Who is paid (as the ticket says).
    pub recipient: Address,
    /// What the ticket is worth, atomic units.
    pub price: Amount,
    /// The order in whose place this one is.
    pub replaces: Option<OrderId>,
    /// When the ticket was signed.
    pub issued_at: Timestamp,
    /// What became of it.
    pub state: OrderState,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderState {
    /// The ticket is durable and may have reached the merchant. Nothing else is known.
    Sent,
    /// The merchant took the ticket and delivered.
    Delivered,
    /// The merchant refused the ticket.
    Refused {
        /// Stable name of the admission rule.
        rule: String,
    },
}

impl OrderState {
    /// The state without its values.
    pub fn stage(&self) -> OrderStage {
        match self {
            Self::Sent => OrderStage::Sent,
            Self::Delivered => OrderStage::Delivered,
            Self::Refused { .. } => OrderStage::Refused,
        }
    }
}

impl fmt::Display for OrderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { rule } => write!(f, "refused ({rule})"),
            other => write!(f, "{}", other.stage()),
        }
    }
}

/// [`OrderState`] without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrderStage {
    /// See [`OrderState::Sent`].
    Sent,
    /// See [`OrderState::Delivered`].
    Delivered,
    /// See [`OrderState::Refused`].
    Refused,
}

impl OrderStage {
    /// Every stage, in order.
    pub const ALL: [Self; 3] = [Self::Sent, Self::Delivered, Self::Refused];

    /// Stable lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for OrderStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which orders to list. The default is all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderFilter {
    /// Only this escrow's.
    pub escrow: Option<Address>,
    /// Only in this state.
    pub stage: Option<OrderStage>,
    /// At most so many, the highest nonces.
    pub limit: Option<u32>,
}

impl From<Address> for OrderFilter {
    fn from(escrow: Address) -> Self {
        Self {
            escrow: Some(escrow),
            ..Self::default()
        }
    }
}

impl From<OrderStage> for OrderFilter {
    fn from(stage: OrderStage) -> Self {
        Self {
            stage: Some(stage),
            ..Self::default()
        }
    }
}

/// Orders by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderTotals {
    /// Issued, outcome unknown.
    pub sent: Total,
    /// Paid and delivered.
    pub delivered: Total,
    /// Refused by the merchant.
    pub refused: Total,
}

impl OrderTotals {
    /// Orders in any state.
    pub fn all(&self) -> Result<Total> {
        self.sent.plus(self.delivered)?.plus(self.refused)
    }

    pub(crate) fn of_mut(&mut self, stage: OrderStage) -> &mut Total {
        match stage {
            OrderStage::Sent => &mut self.sent,
            OrderStage::Delivered => &mut self.delivered,
            OrderStage::Refused => &mut self.refused,
        }
    }
}

// What every backend decides alike.

impl Budget {
    /// What an account that has spent so much will have spent with a ticket of this price, if it may.
    pub fn charge(&self, spent: Amount, price: Amount) -> Result<Amount> {
        match spent.0.checked_add(price.0).map(Amount) {
            Some(total) if total <= self.limit => Ok(total),
            _ => Err(StoreError::OverBudget {
                account: self.account.clone(),
                spent,
                price,
                limit: self.limit,
            }),
        }
    }
}

impl OrderRecord {
    pub(crate) fn new(request: &OrderRequest, ticket: Ticket<Issued>) -> Self {
        Self {
            id: request.order,
            ticket,
            recipient: request.recipient,
            price: request.price,
            replaces: request.replaces,
            issued_at: request.at,
            state: OrderState::Sent,
        }
    }
}

/// Whether the move changes anything; an error if it is not forward.
pub(crate) fn check_move(record: &OrderRecord, to: &OrderState) -> Result<bool> {
    match (&record.state, to) {
        (from, to) if from == to => Ok(false),
        (OrderState::Sent, OrderState::Delivered | OrderState::Refused { .. }) => Ok(true),
        (from, to) => Err(StoreError::OrderMove {
            order: record.id,
            from: from.clone(),
            to: to.clone(),
        }),
    }
}

/// The nonce above this one.
pub(crate) fn nonce_after(escrow: Address, nonce: Nonce) -> Result<Nonce> {
    nonce
        .0
        .checked_add(1)
        .map(Nonce)
        .ok_or(StoreError::NonceExhausted { escrow, above: nonce })
}

/// Whether the signer signed what it was asked to.
pub(crate) fn check_signed(
    domain: &Domain,
    request: &OrderRequest,
    nonce: Nonce,
    ticket: &Ticket<Issued>,
) -> Result<()> {
    let differs = |field, signed: String, asked: String| {
        Err(StoreError::SignedOther {
            order: request.order,
            field,
            signed,
            asked,
        })
    };
    if ticket.escrow() != request.escrow {
        return differs("escrow", ticket.escrow().to_string(), request.escrow.to_string());
    }
    if ticket.recipient() != request.recipient {
        return differs(
            "recipient",
            ticket.recipient().to_string(),
            request.recipient.to_string(),
        );
    }
    if ticket.nonce() != nonce {
        return differs("nonce", ticket.nonce().to_string(), nonce.to_string());
    }
    let digest = domain.ticket_digest(ticket.fields());
    if ticket.digest() != digest {
        return differs("digest", ticket.digest().to_string(), digest.to_string());
    }
    Ok(())
}
