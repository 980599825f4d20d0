//! A shop as its payers see it, without a wire: what the CLI's transport does, and faults on request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use alloy::primitives::{Address, B256};
use merchant::ticket::AcceptError;
use payer::ticket::{Answer, ApiError, MerchantApi};
use protocol::ticket::{Issued, OrderId, Quote, Retry, Ticket};
use storage::Store;

use crate::Shop;

/// What goes wrong with one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The ticket never arrives.
    LoseRequest,
    /// The ticket arrives, the answer does not.
    LoseAnswer,
    /// The payment arrives, and the seller has no good for it (channels).
    LoseGood,
    /// The payment is taken, and the seller's process ends before the good leaves (channels).
    Keep,
}

/// Sells numbers: the good of item `n` is `n`.
pub struct Counter<S> {
    shop: Arc<Shop<S>>,
    faults: Mutex<VecDeque<Fault>>,
    arrived: Mutex<Vec<(OrderId, B256)>>,
}

impl<S: Store> Counter<S> {
    /// The counter of a shop.
    pub fn new(shop: &Arc<Shop<S>>) -> Self {
        Self {
            shop: Arc::clone(shop),
            faults: Mutex::default(),
            arrived: Mutex::default(),
        }
    }

    /// The next message suffers this.
    pub fn fail(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }

    /// Orders and tickets that arrived, in order.
    pub fn arrived(&self) -> Vec<(OrderId, B256)> {
        self.arrived.lock().unwrap().clone()
    }
}

impl<S: Store> MerchantApi for Counter<S> {
    type Item = u64;
    type Good = u64;

    async fn quote(&self, escrow: Address) -> Result<Quote, ApiError> {
        let refused = |refusal: protocol::ticket::Refusal| ApiError::Refused {
            rule: refusal.rule().into(),
            message: refusal.to_string(),
            retry: refusal.retry(),
        };
        self.shop
            .merchant
            .quote(escrow, &self.shop.price)
            .map_err(refused)
    }

    async fn buy(
        &self,
        order: OrderId,
        item: &u64,
        ticket: &Ticket<Issued>,
    ) -> Result<Answer<u64>, ApiError> {
        let fault = self.faults.lock().unwrap().pop_front();
        let lost = || Err(ApiError::Transport("as the test wishes".into()));
        if fault == Some(Fault::LoseRequest) {
            return lost();
        }
        self.arrived.lock().unwrap().push((order, ticket.digest()));
        let signature = ticket.signature().to_bytes();
        let answer = match self
            .shop
            .deliver(order, ticket.fields().clone(), &signature)
            .await
        {
            Ok(receipt) => Answer::Delivered {
                good: *item,
                quote: Some(receipt.quote),
            },
            Err(AcceptError::Refused(refusal)) => {
                let retry = refusal.retry();
                let quote = match retry {
                    Retry::NewQuote => self.shop.merchant.quote(ticket.escrow(), &self.shop.price).ok(),
                    Retry::Later | Retry::Never => None,
                };
                Answer::Refused {
                    rule: refusal.rule().into(),
                    message: refusal.to_string(),
                    retry,
                    quote,
                }
            }
            Err(error @ (AcceptError::Busy(_) | AcceptError::Store(_) | AcceptError::LeaseOver { .. })) => {
                Answer::Refused {
                    rule: "try-later".into(),
                    message: error.to_string(),
                    retry: Retry::Later,
                    quote: None,
                }
            }
        };
        if fault == Some(Fault::LoseAnswer) {
            lost()
        } else {
            Ok(answer)
        }
    }
}
