//! The payer's side: a [`Client`] that pays for what it asks for, as a `reqwest` middleware.
//!
//! ```text
//!   terms known ────▶ request with payment ──▶ answer, and the terms of the next call
//!        ▲                 │        ▲
//!        │                 ▼        │ a new payment (price or commitment changed), or
//!        │                402 ──────┘ the same payment (no answer, not now)
//!        │                 ▲
//!   terms unknown ──▶ plain request ──▶ answer: it was free
//! ```
//!
//! One call has one name (its `Idempotency-Key`), the name one order, the order one payment, by ticket or by channel:
//! whatever happens on the way, a call is paid once, and in one way. The payment is in the payer's store before it leaves.
//! A seller who is paid often is paid by a channel where one is open ([`ChannelPolicy`]); while that is at work, by ticket.
//! Assumptions for safety: the store is durable and its own (two stores of one escrow key would sign one nonce twice), no two
//! programs make the same call at once, and the clock is within a ticket's life of the merchant's. A payment answers the terms of one origin and goes to that origin only: redirects are followed here, each as a
//! call of its own, and another origin is asked without payment.

mod budgets;
mod cache;
mod call;
mod error;
mod kind;
mod middleware;
mod opening;
mod redirect;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use payer::channel::ChannelPayer;
use payer::ticket::Payer;
use protocol::channel::{ChannelId, Index, Tag};
use protocol::ticket::{Amount, OrderId};
use reqwest_middleware::ClientWithMiddleware;
use storage::OrderStore;
use storage::channel::ClientChannelStore;

use self::kind::{Channels, Tickets};
use self::opening::Openings;
pub use crate::wire::Kind;
pub use budgets::{Budgets, day_of};
pub use error::ClientError;
pub use kind::channel::Desk;
pub use middleware::MicropayMiddleware;
pub use opening::{ChannelPolicy, OpenChannel, OpeningFuture, OpensChannels, WantedChannel};

/// Longest wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Longest silence in the middle of an answer.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// An HTTP client that pays. Everything else about it is a [`ClientWithMiddleware`], which is a `reqwest::Client`. Cheap to
/// clone; clones share terms, connections and budgets. Any number of calls at once.
#[derive(Clone, Debug)]
pub struct Client(ClientWithMiddleware);

/// A [`Client`] to be.
pub struct Builder {
    tickets: Option<Box<dyn Tickets>>,
    channels: Option<Box<dyn Channels>>,
    policy: ChannelPolicy,
    settings: Settings,
    http: reqwest::ClientBuilder,
}

/// What a [`Client`] does, apart from the payer's own limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) budgets: Budgets,
    pub(crate) plain_http: bool,
    pub(crate) dry_run: bool,
    pub(crate) redirects: usize,
}

/// In [`reqwest::Response::extensions`]: what this answer cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    /// What paid.
    pub proof: Proof,
    /// What the ticket was worth in expectation, or what was paid by channel, atomic units.
    pub price: Amount,
    /// Token, or the zero address for the native asset.
    pub asset: Address,
    /// Who was paid.
    pub recipient: Address,
    /// The order in the payer's store.
    pub order: OrderId,
    /// The call's name. The same call with this `Idempotency-Key` is not paid again.
    pub key: String,
    /// HTTP requests that this call took.
    pub requests: u32,
    /// The call was made before under its name, and its payment is the one made then. Only known of calls that the caller
    /// has named.
    pub before: bool,
    /// Whether the server said that it took this payment. If not, the answer may have been free; the payment counts against
    /// budgets all the same, because it can still be claimed.
    pub acknowledged: bool,
}

/// What paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// A ticket.
    Ticket {
        /// Its digest.
        ticket: B256,
    },
    /// A word of a channel.
    Channel {
        /// The channel.
        channel: ChannelId,
        /// Units paid with it, in all.
        index: Index,
        /// Of this payment.
        tag: Tag,
    },
}

impl Proof {
    /// Which kind of payment it was.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Ticket { .. } => Kind::Ticket,
            Self::Channel { .. } => Kind::Channel,
        }
    }

    /// The ticket, if it was one.
    pub fn ticket(&self) -> Option<B256> {
        match self {
            Self::Ticket { ticket } => Some(*ticket),
            Self::Channel { .. } => None,
        }
    }
}

/// In [`reqwest::Response::extensions`] of a dry run: what the call would have cost. Nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WouldPay {
    /// In which way.
    pub kind: Kind,
    /// What a ticket would have been worth in expectation, atomic units.
    pub price: Amount,
    /// Token, or the zero address for the native asset.
    pub asset: Address,
    /// Who would have been paid.
    pub recipient: Address,
    /// What the price is for: `METHOD glob` or `METHOD ~regex`.
    pub route: String,
    /// The channel that would have paid, where one would.
    pub channel: Option<ChannelId>,
}

impl Client {
    /// A client that pays with `payer` and within its limits, with no budget beyond these.
    pub fn new<S: OrderStore + Send + Sync + 'static>(payer: Payer<S>) -> Result<Self, reqwest::Error> {
        Self::builder(payer).build()
    }

    /// A client with more to say about it.
    pub fn builder<S: OrderStore + Send + Sync + 'static>(payer: Payer<S>) -> Builder {
        Builder {
            tickets: Some(Box::new(payer)),
            ..Builder::nothing()
        }
    }

    /// A client that pays by channels alone: it has no escrow.
    pub fn by_channels<S>(payer: ChannelPayer<S>, policy: ChannelPolicy) -> Builder
    where
        S: ClientChannelStore + OrderStore + Send + Sync + 'static,
    {
        Builder::nothing().channels(payer, policy)
    }
}

impl Deref for Client {
    type Target = ClientWithMiddleware;

    fn deref(&self) -> &ClientWithMiddleware {
        &self.0
    }
}

impl Builder {
    fn nothing() -> Self {
        Self {
            tickets: None,
            channels: None,
            policy: ChannelPolicy::default(),
            settings: Settings {
                budgets: Budgets::default(),
                plain_http: false,
                dry_run: false,
                redirects: 10,
            },
            http: reqwest::Client::builder()
                .connect_timeout(CONNECT_LIMIT)
                .read_timeout(READ_LIMIT),
        }
    }

    /// Pays by channel, too: with one that is open to the seller, if its unit divides the price and it is not at work just
    /// then. On one store with the tickets, both count against the same budgets, a channel with the units that it reveals.
    pub fn channels<S>(mut self, payer: ChannelPayer<S>, policy: ChannelPolicy) -> Self
    where
        S: ClientChannelStore + OrderStore + Send + Sync + 'static,
    {
        self.channels = Some(Box::new(payer));
        self.policy = policy;
        self
    }

    /// Most that may be signed away (default: without bound).
    pub fn budgets(mut self, budgets: Budgets) -> Self {
        self.settings.budgets = budgets;
        self
    }

    /// Pays over unencrypted connections, too, and not only to this very machine: whoever listens learns what is bought, and
    /// whoever interferes can take the answer that was paid for. Tickets themselves are safe: they name who is paid.
    pub fn allow_plain_http(mut self) -> Self {
        self.settings.plain_http = true;
        self
    }

    /// Signs nothing: the answer to a call with a price is the 402, with [`WouldPay`]; limits and budgets refuse as ever.
    pub fn dry_run(mut self) -> Self {
        self.settings.dry_run = true;
        self
    }

    /// Most redirects of one call that are followed (default 10); after 0 the redirect is the answer.
    pub fn redirects(mut self, most: usize) -> Self {
        self.settings.redirects = most;
        self
    }

    /// Another HTTP client below. Its redirect policy is replaced: it would take a payment to wherever a server says.
    pub fn http(mut self, http: reqwest::ClientBuilder) -> Self {
        self.http = http;
        self
    }

    /// The client.
    pub fn build(self) -> Result<Client, reqwest::Error> {
        Ok(Client(self.stack()?.build()))
    }

    /// The client with room for more middleware below the payment: it sees each HTTP request, where one above would see
    /// each call.
    pub fn stack(self) -> Result<reqwest_middleware::ClientBuilder, reqwest::Error> {
        let http = self.http.redirect(reqwest::redirect::Policy::none()).build()?;
        let openings = Openings::new(self.policy);
        let pays = MicropayMiddleware::new(self.tickets, self.channels, openings, self.settings);
        Ok(reqwest_middleware::ClientBuilder::new(http).with_arc(Arc::new(pays)))
    }
}
