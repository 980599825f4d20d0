//! The payer's side: a [`Client`] that pays for what it asks for, as a `reqwest` middleware.
//!
//! ```text
//!   terms known ────▶ request with payment ──▶ answer, and the terms of the next call
//!        ▲                 │        ▲
//!        │                 ▼        │ a new ticket (price or commitment changed), or
//!        │                402 ──────┘ the same ticket (no answer, not now)
//!        │                 ▲
//!   terms unknown ──▶ plain request ──▶ answer: it was free
//! ```
//!
//! One call has one name (its `Idempotency-Key`), the name one order, the order one ticket: whatever happens on the way, a
//! call is paid once. The ticket is in the payer's store before it leaves. Assumptions for safety: the store is durable and
//! its own (two stores of one escrow key would sign one nonce twice), and its clock is within a ticket's life of the
//! merchant's. A payment answers the terms of one origin and goes to that origin only: redirects are followed here, each as a
//! call of its own, and another origin is asked without payment.

mod budgets;
mod cache;
mod call;
mod error;
mod middleware;
mod redirect;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use payer::ticket::Payer;
use protocol::ticket::{Amount, OrderId};
use reqwest_middleware::ClientWithMiddleware;
use storage::OrderStore;

pub use budgets::{Budgets, day_of};
pub use error::ClientError;
pub use middleware::MicropayMiddleware;

/// Longest wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Longest silence in the middle of an answer.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// An HTTP client that pays. Everything else about it is a [`ClientWithMiddleware`], which is a `reqwest::Client`. Cheap to
/// clone; clones share terms, connections and budgets. Any number of calls at once.
#[derive(Clone, Debug)]
pub struct Client(ClientWithMiddleware);

/// A [`Client`] to be.
pub struct Builder<S> {
    payer: Payer<S>,
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
    /// Digest of the ticket.
    pub ticket: B256,
    /// What the ticket was worth in expectation, atomic units.
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
    /// Whether the server said that it took this ticket. If not, the answer may have been free; the ticket counts against
    /// budgets all the same, because it can still be claimed.
    pub acknowledged: bool,
}

/// In [`reqwest::Response::extensions`] of a dry run: what the call would have cost. Nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WouldPay {
    /// What a ticket would have been worth in expectation, atomic units.
    pub price: Amount,
    /// Token, or the zero address for the native asset.
    pub asset: Address,
    /// Who would have been paid.
    pub recipient: Address,
    /// What the price is for: `METHOD glob` or `METHOD ~regex`.
    pub route: String,
}

impl Client {
    /// A client that pays with `payer` and within its limits, with no budget beyond these.
    pub fn new<S: OrderStore + Send + Sync + 'static>(payer: Payer<S>) -> Result<Self, reqwest::Error> {
        Self::builder(payer).build()
    }

    /// A client with more to say about it.
    pub fn builder<S: OrderStore + Send + Sync + 'static>(payer: Payer<S>) -> Builder<S> {
        Builder {
            payer,
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
}

impl Deref for Client {
    type Target = ClientWithMiddleware;

    fn deref(&self) -> &ClientWithMiddleware {
        &self.0
    }
}

impl<S: OrderStore + Send + Sync + 'static> Builder<S> {
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
        let pays = MicropayMiddleware::new(self.payer, self.settings);
        Ok(reqwest_middleware::ClientBuilder::new(http).with_arc(Arc::new(pays)))
    }
}
