//! What differs between kinds of payment, behind one face: the gate's path is the same for a ticket and for a channel's
//! word.
//!
//! ```text
//!   payment, as read ─▶ Paying ─admit─▶ Deliver(Goods) ─▶ delivered: receipt, counted
//!                          │      │            └────────▶ failed, kept
//!                          │      └──▶ Repeat: the kept answer
//!                          └──▶ Refused
//! ```

pub(super) mod channel;
mod desk;
pub(super) mod ticket;

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use http::HeaderMap;
use merchant::ticket::Price;
use protocol::ticket::{OrderId, Quote, Timestamp};

pub(super) use channel::ChannelSeller;
pub(super) use ticket::TicketSeller;

use super::answers::CallName;
use super::gate::GateStore;
use super::operator::Counters;
use super::reply::Protocol;
use crate::wire::{Kind, Problem};

/// What is paid with, and who takes it.
pub(super) enum Paying<S> {
    /// By ticket.
    Ticket(ticket::Paying<S>),
    /// By channel.
    Channel(channel::Paying<S>),
}

/// What came of a payment that is taken.
pub(super) enum Taken<S: GateStore> {
    /// Its good is to be delivered.
    Deliver(Goods<S>),
    /// It was delivered before, for this same request: here is the name of its answer.
    Repeat(B256),
}

/// A payment that was taken, whose good is on its way.
pub(super) enum Goods<S: GateStore> {
    /// By ticket.
    Ticket(ticket::Goods<S>),
    /// By channel.
    Channel(channel::Goods<S>),
}

/// Why a payment is not taken.
pub(super) struct Refused {
    /// By which it is counted.
    pub(super) rule: &'static str,
    /// As its payer is told; with terms where the status is 402.
    pub(super) why: Problem,
    /// Terms of the payer's own, if there are any.
    pub(super) known: Option<(Address, Quote)>,
    /// The seller's own failure, in words.
    pub(super) failure: Option<String>,
}

/// What was sold, as far as a receipt goes.
pub(super) struct Sold<'a> {
    pub(super) price: &'a Price,
    pub(super) route: String,
    pub(super) protocol: Protocol,
    pub(super) now: Timestamp,
}

impl<S: GateStore> Paying<S> {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Ticket(_) => Kind::Ticket,
            Self::Channel(_) => Kind::Channel,
        }
    }

    /// Who pays, if the payment alone shows that it does.
    pub(super) fn signer(&self) -> Option<Address> {
        match self {
            Self::Ticket(paying) => paying.signer(),
            // A word shows it when it is taken.
            Self::Channel(_) => None,
        }
    }

    /// Which call it is, by its payer's name for it. A channel's payments need no names: there is one at a time, and the same
    /// call is paid with the same one.
    pub(super) fn call(&self, name: &[u8]) -> Option<CallName> {
        match self {
            Self::Ticket(paying) => Some(CallName::new(paying.escrow(), name)),
            Self::Channel(_) => None,
        }
    }

    /// Judges it. On `Ok` the payment is safe.
    pub(super) async fn admit(
        &self,
        order: OrderId,
        target: &Target<'_>,
        price: &Price,
        now: Timestamp,
    ) -> Result<Taken<S>, Box<Refused>> {
        match self {
            Self::Ticket(paying) => paying.admit(order, price, now).await,
            Self::Channel(paying) => paying.admit(order, target, price, now).await,
        }
    }
}

/// What is asked for, as a channel's receipt has it.
pub(super) struct Target<'a> {
    pub(super) method: &'a str,
    /// Path and query.
    pub(super) target: &'a str,
}

impl<S: GateStore> Goods<S> {
    /// The upstream answered: the payment is consumed, and its receipt goes with the answer. `keep` gets the name of the
    /// answer and its headers before anybody who asks again is told that it was delivered.
    pub(super) async fn delivered(
        self,
        sold: Sold<'_>,
        headers: &mut HeaderMap,
        counters: &Counters,
        keep: impl FnOnce(B256, &HeaderMap),
    ) {
        match self {
            Self::Ticket(goods) => goods.delivered(sold, headers, counters, keep).await,
            Self::Channel(goods) => goods.delivered(sold, headers, counters, keep).await,
        }
    }

    /// There is no good, and its payer is not to blame.
    pub(super) async fn failed(self) {
        match self {
            Self::Ticket(goods) => goods.delivery.failed().await,
            Self::Channel(goods) => goods.delivery.failed().await,
        }
    }

    /// There is no good, because its payer broke off.
    pub(super) fn kept(self) {
        match self {
            Self::Ticket(goods) => goods.delivery.kept(),
            Self::Channel(goods) => goods.delivery.kept(),
        }
    }

    /// What is to be said of the payment where its good failed.
    pub(super) fn fate(&self) -> &'static str {
        match self {
            Self::Ticket(_) => "the ticket is not consumed",
            Self::Channel(_) => "the word is kept, and the next payment at its index takes its place",
        }
    }
}

/// Who sells.
pub(super) struct Desks<S> {
    pub(super) tickets: Option<Arc<TicketSeller<S>>>,
    pub(super) channels: Option<Arc<ChannelSeller<S>>>,
}
