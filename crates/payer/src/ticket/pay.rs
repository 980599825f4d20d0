//! Step `issue`: pays for one order. The ticket is in the store before it leaves. A lost answer is asked for again with the
//! same ticket. Only a refusal that a fresh ticket can mend leads to a second ticket, under a new order that names the one
//! it replaces, and at most [`MAX_TICKETS`] times: a merchant that asks for more is fishing for draws (M1-14).

use std::sync::Arc;

use alloy_primitives::{Address, B256, keccak256};
use parking_lot::Mutex;
use protocol::ticket::{Amount, Domain, EscrowKey, EscrowRecord, OrderId, Quote, Retry, Ticket, Timestamp};
use storage::{Budget, OrderRecord, OrderRequest, OrderState, OrderStore, StoreError};
use tracing::{debug, info, warn};

use super::{Answer, ApiError, LimitError, Limits, MerchantApi};

/// Most tickets for one purchase, the first included.
const MAX_TICKETS: usize = 4;

/// A payer with one escrow. Shared by all its purchases, any number at once.
pub struct Payer<S> {
    domain: Domain,
    key: Arc<EscrowKey>,
    escrow: EscrowRecord,
    limits: Limits,
    store: S,
    edges: Edges,
}

/// Time and randomness, which enter from outside.
#[derive(Clone, Copy, Debug)]
pub struct Edges {
    /// Unix seconds.
    pub now: fn() -> Timestamp,
    /// 32 fresh uniform bytes from the operating system.
    pub random: fn() -> B256,
}

/// A merchant with the latest quote it gave.
pub struct Seller<M> {
    api: M,
    quote: Mutex<Option<Quote>>,
}

/// What to buy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purchase<I> {
    /// Names the purchase for ever: asking again with this order never pays twice.
    pub order: OrderId,
    /// What is asked for.
    pub item: I,
}

/// A purchase that was delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Payment<G> {
    /// What was bought.
    pub good: G,
    /// The order that was delivered: the purchase's, or the last replacement of it.
    pub order: OrderId,
    /// Digest of the ticket that paid.
    pub ticket: B256,
    /// What the ticket was worth, atomic units.
    pub price: Amount,
    /// Refusals on the way, by rule.
    pub refusals: Vec<String>,
}

/// Why a purchase was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum PayError {
    /// The quote is not acceptable. No ticket was issued.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The merchant refused the ticket, which is not consumed.
    #[error("order {order} was refused ({rule}): {message}")]
    Refused {
        /// The order.
        order: OrderId,
        /// Stable name of the rule.
        rule: String,
        /// The refusal in words.
        message: String,
    },
    /// The merchant delivered this before, and no longer knows the ticket. A second one is not issued.
    #[error(
        "order {order} was paid and delivered before, and the merchant has forgotten it ({rule}); to pay again, begin another purchase"
    )]
    DeliveredBefore {
        /// The order.
        order: OrderId,
        /// Stable name of the rule.
        rule: String,
    },
    /// The merchant took the ticket before, and has nothing for this request. A second one is not issued.
    #[error("the ticket of order {order} was taken before ({rule}): {message}")]
    Taken {
        /// The order.
        order: OrderId,
        /// Stable name of the rule.
        rule: String,
        /// What happened, in words.
        message: String,
    },
    /// The merchant cannot take the ticket now; the same ticket may be taken later.
    #[error("order {order} has to wait ({rule}): {message}")]
    NotNow {
        /// The order.
        order: OrderId,
        /// Stable name of the rule.
        rule: String,
        /// The refusal in words.
        message: String,
    },
    /// The merchant refused every ticket for a reason that a fresh one should have mended.
    #[error("the merchant refused {tickets} tickets for one purchase, the last by rule {rule}")]
    TooManyRefusals {
        /// Tickets issued.
        tickets: usize,
        /// The last rule.
        rule: String,
    },
    /// No answer. The ticket may have been accepted; ask again with the same order.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The store failed. Nothing was sent that is not stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PayError {
    /// Whether the same purchase can succeed when tried again.
    pub fn retry(&self) -> bool {
        match self {
            Self::Api(error) => error.retry(),
            Self::Store(error) => error.retry(),
            Self::NotNow { .. } => true,
            Self::Limit(_)
            | Self::Refused { .. }
            | Self::DeliveredBefore { .. }
            | Self::Taken { .. }
            | Self::TooManyRefusals { .. } => false,
        }
    }
}

impl<M> Seller<M> {
    /// A merchant whose terms are not known yet.
    pub fn new(api: M) -> Self {
        Self {
            api,
            quote: Mutex::new(None),
        }
    }

    /// A merchant that has given these terms.
    pub fn with_quote(api: M, quote: Quote) -> Self {
        Self {
            api,
            quote: Mutex::new(Some(quote)),
        }
    }

    /// The merchant.
    pub fn api(&self) -> &M {
        &self.api
    }
}

impl<S: OrderStore> Payer<S> {
    /// A payer that signs with `key`, whose escrow is `escrow` on chain.
    pub fn new(
        domain: Domain,
        key: Arc<EscrowKey>,
        escrow: EscrowRecord,
        limits: Limits,
        store: S,
        edges: Edges,
    ) -> Self {
        Self {
            domain,
            key,
            escrow,
            limits,
            store,
            edges,
        }
    }

    /// Address of the escrow key.
    pub fn escrow(&self) -> Address {
        self.key.address()
    }

    /// The escrow on chain, as it was when this payer was made.
    pub fn record(&self) -> &EscrowRecord {
        &self.escrow
    }

    /// The domain of the tickets it signs.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Where its tickets are.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Time and randomness.
    pub fn edges(&self) -> Edges {
        self.edges
    }

    /// Whether a ticket for this quote would be signed now. Nothing is.
    pub async fn check(&self, quote: &Quote, budgets: &[Budget]) -> Result<(), PayError> {
        self.check_limits(quote).await?;
        for budget in budgets {
            budget.charge(self.store.spent(&budget.account).await?, quote.price)?;
        }
        Ok(())
    }

    async fn check_limits(&self, quote: &Quote) -> Result<(), PayError> {
        let next = self.store.next_nonce(self.escrow()).await?;
        Ok(self.limits.check(quote, &self.escrow, next)?)
    }

    /// [`Payer::pay_within`] no budget.
    pub async fn pay<M: MerchantApi>(
        &self,
        seller: &Seller<M>,
        purchase: &Purchase<M::Item>,
    ) -> Result<Payment<M::Good>, PayError> {
        self.pay_within(seller, purchase, &[]).await
    }

    /// Buys. Safe to call again with the same purchase, after an error as after a crash: what was issued is sent again,
    /// byte for byte. Every ticket that is signed counts against each of `budgets`, for ever, refused or not: a merchant
    /// that refuses a ticket can still claim it.
    pub async fn pay_within<M: MerchantApi>(
        &self,
        seller: &Seller<M>,
        purchase: &Purchase<M::Item>,
        budgets: &[Budget],
    ) -> Result<Payment<M::Good>, PayError> {
        let mut refusals = Vec::new();
        let mut replaces = None;
        let mut order = purchase.order;
        for _ in 0..MAX_TICKETS {
            let record = match self.store.order(order).await? {
                Some(record) => record,
                None => self.issue(seller, order, replaces, budgets).await?,
            };
            if let OrderState::Refused { rule } = record.state {
                refusals.push(rule); // earlier, perhaps before a crash
            } else {
                match self.send(seller, &record, &purchase.item).await? {
                    Sent::Delivered(good) => {
                        return Ok(Payment {
                            good,
                            order,
                            ticket: record.ticket.digest(),
                            price: record.price,
                            refusals,
                        });
                    }
                    Sent::Refused(rule) => refusals.push(rule),
                }
            }
            replaces = Some(order);
            order = replacement(order);
        }
        let rule = refusals.last().cloned().unwrap_or_default();
        Err(PayError::TooManyRefusals {
            tickets: MAX_TICKETS,
            rule,
        })
    }

    /// Load, decide, save.
    async fn issue<M: MerchantApi>(
        &self,
        seller: &Seller<M>,
        order: OrderId,
        replaces: Option<OrderId>,
        budgets: &[Budget],
    ) -> Result<OrderRecord, PayError> {
        let known = *seller.quote.lock();
        let quote = match known {
            Some(quote) => quote,
            None => seller.api.quote(self.escrow()).await?,
        };
        self.check_limits(&quote).await?;

        let now = (self.edges.now)();
        let life_limit = now.plus(self.limits.max_ticket_life);
        let expiry = quote.expiry(now).min(life_limit);
        let r2 = (self.edges.random)(); // after the commitment has arrived
        let (domain, key) = (self.domain, Arc::clone(&self.key));
        let request = OrderRequest {
            order,
            escrow: self.escrow(),
            recipient: quote.recipient,
            price: quote.price,
            replaces,
            at: now,
            budgets: budgets.to_vec(),
        };
        let sign = move |nonce| Ticket::issue(&domain, &key, &quote, r2, expiry, nonce);
        Ok(self.store.issue(request, sign).await?.into_record())
    }

    /// Send; save what came of it.
    async fn send<M: MerchantApi>(
        &self,
        seller: &Seller<M>,
        record: &OrderRecord,
        item: &M::Item,
    ) -> Result<Sent<M::Good>, PayError> {
        let order = record.id;
        match seller.api.buy(order, item, &record.ticket).await? {
            Answer::Delivered { good, quote } => {
                self.remember(seller, quote);
                self.store.resolve(order, OrderState::Delivered).await?;
                debug!(%order, ticket = %record.ticket.digest(), "delivered");
                Ok(Sent::Delivered(good))
            }
            Answer::Taken { rule, message } => {
                warn!(%order, %rule, %message, "taken before");
                self.store.resolve(order, OrderState::Delivered).await?;
                Err(PayError::Taken { order, rule, message })
            }
            Answer::Refused {
                rule,
                message,
                retry,
                quote,
            } => {
                match retry {
                    // Sessions close all the time.
                    Retry::NewQuote => debug!(%order, %rule, %message, "refused, a fresh ticket will do"),
                    Retry::Later => info!(%order, %rule, %message, "refused for now"),
                    Retry::Never => warn!(%order, %rule, %message, "refused"),
                }
                *seller.quote.lock() = quote;
                if retry == Retry::Later {
                    // The same ticket may still be accepted: it stays as it is.
                    return Err(PayError::NotNow { order, rule, message });
                }
                if record.state == OrderState::Delivered {
                    // Never a second ticket.
                    return Err(PayError::DeliveredBefore { order, rule });
                }
                self.store
                    .resolve(order, OrderState::Refused { rule: rule.clone() })
                    .await?;
                match retry {
                    Retry::NewQuote => Ok(Sent::Refused(rule)),
                    _ => Err(PayError::Refused { order, rule, message }),
                }
            }
        }
    }

    fn remember<M>(&self, seller: &Seller<M>, quote: Option<Quote>) {
        if quote.is_some() {
            *seller.quote.lock() = quote;
        }
    }
}

enum Sent<G> {
    Delivered(G),
    Refused(String),
}

/// The order that takes the place of a refused one. It follows from it, so that a payer that was killed in between comes
/// to the same.
fn replacement(order: OrderId) -> OrderId {
    OrderId(keccak256(
        [b"micropay/order/replacement/v1".as_slice(), order.0.as_slice()].concat(),
    ))
}
