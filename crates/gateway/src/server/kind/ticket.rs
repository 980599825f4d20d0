//! Selling by ticket: terms with the commitment of a session, admission by the merchant's book, a receipt with the terms of
//! the next ticket.

use std::num::NonZeroUsize;
use std::sync::Arc;

use alloy_primitives::{Address, B256};
use http::HeaderMap;
use lru::LruCache;
use merchant::ticket::{AcceptError, Admitted, Delivery, Merchant, Price, Receipt};
use parking_lot::Mutex;
use protocol::ticket::{Amount, Domain, Issued, OrderId, Quote, Refusal, Ticket, Timestamp, odds};
use tracing::{debug, warn};

use super::{Refused, Sold, Taken};
use crate::server::gate::GateStore;
use crate::server::operator::Counters;
use crate::server::renewal::{Basis, Renewals};
use crate::server::reply::add_receipt;
use crate::wire::{Advice, Extra, Opening, Payment, Problem, Requirements, SCHEME, WireError, network};

/// Prices whose example escrow is remembered.
const PRICES_KEPT: NonZeroUsize = NonZeroUsize::new(1_000).expect("is not 0");
/// The cap of the escrow that a first 402 names as an example.
const EXAMPLE_CAP: protocol::ticket::Nonce = protocol::ticket::Nonce(10_000);

/// See the module.
pub(in crate::server) struct TicketSeller<S> {
    merchant: Arc<Merchant<S>>,
    /// Of the escrows named as examples, by price and prize: a binomial tail takes longer than all the rest.
    penalties: Mutex<LruCache<(Amount, Amount), u128>>,
    renewals: Renewals,
}

/// A ticket as it came.
pub(in crate::server) struct Paying<S> {
    seller: Arc<TicketSeller<S>>,
    payment: Payment,
    ticket: Ticket<Issued>,
}

/// A ticket that was taken.
pub(in crate::server) struct Goods<S: GateStore> {
    seller: Arc<TicketSeller<S>>,
    pub(super) delivery: Box<Delivery<S>>,
    payment: Payment,
}

/// Whom the terms are for.
#[derive(Clone, Copy)]
pub(in crate::server) enum Terms {
    /// Any escrow.
    Open,
    /// This one.
    Known(Address, Quote),
}

impl<S: GateStore> TicketSeller<S> {
    pub(in crate::server) fn new(merchant: Arc<Merchant<S>>) -> Arc<Self> {
        Arc::new(Self {
            merchant,
            penalties: Mutex::new(LruCache::new(PRICES_KEPT)),
            renewals: Renewals::new(),
        })
    }

    pub(in crate::server) fn domain(&self) -> &Domain {
        self.merchant.domain()
    }

    /// A payment, with nothing checked but its form.
    pub(in crate::server) fn read(self: &Arc<Self>, payment: Payment) -> Result<Paying<S>, WireError> {
        Ok(Paying {
            seller: Arc::clone(self),
            ticket: payment.ticket(self.domain())?,
            payment,
        })
    }

    /// Terms for an escrow that has said that it will pay.
    pub(in crate::server) fn known(&self, escrow: Address, price: &Price) -> Option<(Address, Quote)> {
        let known = self.merchant.knows(escrow);
        let quote = known.then(|| self.merchant.quote(escrow, price).ok()).flatten();
        quote.map(|quote| (escrow, quote))
    }

    /// The terms of a price, as they travel.
    pub(in crate::server) fn requirements(&self, price: &Price, terms: Terms, route: String) -> Requirements {
        let (domain, policy) = (self.merchant.domain(), self.merchant.policy());
        let (escrow, commitment, prize, win_threshold, nonce_floor) = match terms {
            Terms::Open => {
                let open = self.merchant.open_quote(price);
                (None, open.commitment, open.prize, open.win_threshold, 0)
            }
            Terms::Known(escrow, quote) => (
                Some(escrow),
                quote.commitment,
                quote.prize,
                quote.win_threshold,
                quote.nonce_floor.0,
            ),
        };
        let opening = escrow.is_none().then(|| Opening {
            ticket_cap: EXAMPLE_CAP.0,
            min_penalty: *self.penalties.lock().get_or_insert((price.price, prize), || {
                odds::required_penalty(prize, EXAMPLE_CAP, win_threshold, policy.epsilon).0
            }),
        });
        Requirements {
            scheme: SCHEME.to_owned(),
            network: network(domain.chain_id()),
            amount: price.price.0,
            asset: price.asset,
            pay_to: self.merchant.recipient(),
            max_timeout_seconds: policy.max_ticket_life.0,
            extra: Extra {
                contract: domain.contract(),
                commitment,
                prize: prize.0,
                win_threshold: win_threshold.0,
                min_prize: price.min_prize.0,
                max_prize: price.max_prize.0,
                opening,
                min_ticket_life: policy.claim_margin.0,
                max_ticket_life: policy.max_ticket_life.0,
                nonce_floor,
                escrow,
                route,
            },
        }
    }

    fn refused(&self, escrow: Address, price: &Price, error: &AcceptError) -> Refused {
        let refusal = match error {
            AcceptError::Refused(refusal) => refusal,
            AcceptError::Busy(_) => {
                return Refused {
                    rule: "in-progress",
                    why: Problem::new(409, "in-progress", Advice::Retry, error.to_string()),
                    known: None,
                    failure: None,
                };
            }
            AcceptError::Store(_) | AcceptError::LeaseOver { .. } => {
                warn!(%error, "a ticket cannot be accepted now");
                return Refused {
                    rule: "cannot-accept-now",
                    why: Problem::new(503, "cannot-accept-now", Advice::Retry, error.to_string()),
                    known: None,
                    failure: Some(error.to_string()),
                };
            }
        };
        debug!(rule = refusal.rule(), %refusal, %escrow, "refused");
        let why = Problem::refused(refusal);
        let quote = match refusal {
            // Anybody can make up an address; only what is on the chain gets terms of its own.
            Refusal::EscrowMissing { .. } => None,
            _ if why.status != 402 => None,
            _ => self.merchant.quote(escrow, price).ok(),
        };
        Refused {
            rule: refusal.rule(),
            why,
            known: quote.map(|quote| (escrow, quote)),
            failure: None,
        }
    }
}

impl<S: GateStore> Paying<S> {
    pub(super) fn escrow(&self) -> Address {
        self.payment.escrow
    }

    /// Its payer, where the sender is known to be it: one could use up another's share, and learn its answers.
    pub(super) fn signer(&self) -> Option<Address> {
        let payer = self.seller.merchant.payer(self.payment.escrow)?;
        self.seller.merchant.is_of_payer(&self.ticket).then_some(payer)
    }

    pub(super) async fn admit(
        &self,
        order: OrderId,
        price: &Price,
        now: Timestamp,
    ) -> Result<Taken<S>, Box<Refused>> {
        let merchant = &self.seller.merchant;
        match merchant.admit(order, self.ticket.clone(), price, now).await {
            Ok(Admitted::Deliver(delivery)) => Ok(Taken::Deliver(super::Goods::Ticket(Goods {
                seller: Arc::clone(&self.seller),
                delivery,
                payment: self.payment.clone(),
            }))),
            Ok(Admitted::Repeat(receipt)) if receipt.public => {
                let ticket = receipt.ticket;
                let detail = format!("ticket {ticket} won and is being claimed: it is no secret any more");
                Err(Box::new(Refused {
                    rule: "answer-not-kept",
                    why: Problem::new(410, "answer-not-kept", Advice::Stop, detail),
                    known: None,
                    failure: None,
                }))
            }
            Ok(Admitted::Repeat(receipt)) => Ok(Taken::Repeat(receipt.ticket)),
            Err(error) => Err(Box::new(self.seller.refused(self.payment.escrow, price, &error))),
        }
    }
}

impl<S: GateStore> Goods<S> {
    pub(super) async fn delivered(
        self,
        sold: Sold<'_>,
        headers: &mut HeaderMap,
        counters: &Counters,
        keep: impl FnOnce(B256, &HeaderMap),
    ) {
        let Self {
            seller,
            delivery,
            payment,
        } = self;
        let Sold {
            price,
            route,
            protocol,
            now,
        } = sold;
        let keep = |receipt: &Receipt| {
            let (escrow, quote) = (payment.escrow, receipt.quote);
            let basis = Basis {
                quote,
                price: *price,
                route,
            };
            let next = seller.renewals.find(escrow, basis, |basis| {
                seller.requirements(price, Terms::Known(escrow, quote), basis.route.clone())
            });
            let domain = seller.merchant.domain();
            add_receipt(headers, protocol, &payment, domain, receipt, next, now);
            keep(receipt.ticket, headers);
        };
        let receipt = delivery.delivered(keep).await;
        let (payer, worth) = (receipt.payer, receipt.price);
        counters.accepted(payer, payment.escrow, worth, receipt.probability, receipt.won);
    }
}
