//! Selling by channel: terms that are the same for everybody, admission by the vendor's last word, a receipt that repeats
//! the tag.

use std::sync::Arc;

use alloy_primitives::B256;
use http::HeaderMap;
use merchant::channel::{AcceptError, Accountability, Admitted, Delivery, Receipt, Sale, Vendor};
use merchant::ticket::Price;
use protocol::channel::{CHECKPOINT_EVERY, Domain, Key, Payment, Refusal, SignedCheckpoint, Timestamp};
use protocol::ticket::OrderId;
use tracing::{debug, warn};

use super::{Refused, Sold, Taken, Target};
use crate::server::gate::GateStore;
use crate::server::operator::Counters;
use crate::server::reply::add_channel_receipt;
use crate::wire::{
    Advice, ChannelExtra, ChannelPayment, ChannelRequirements, Kind, MAX_BANKS, Position, Problem, WireError,
    item_hash, network,
};

/// How long terms of a channel can be answered, seconds: they change with the price only.
const ANSWER_SECONDS: u64 = 600;

/// See the module.
pub(in crate::server) struct ChannelSeller<S> {
    pub(super) vendor: Arc<Vendor<S>>,
    /// The key of the account that is paid, if channels are closed together with their clients.
    pub(super) account: Option<Key>,
}

/// A payment of a channel as it came.
pub(in crate::server) struct Paying<S> {
    seller: Arc<ChannelSeller<S>>,
    payment: Payment,
    checkpoint: Option<SignedCheckpoint>,
}

/// A payment that was taken.
pub(in crate::server) struct Goods<S: GateStore> {
    seller: Arc<ChannelSeller<S>>,
    pub(super) delivery: Delivery<S>,
}

impl<S: GateStore> ChannelSeller<S> {
    pub(in crate::server) fn new(vendor: Arc<Vendor<S>>, account: Option<Key>) -> Arc<Self> {
        Arc::new(Self { vendor, account })
    }

    pub(in crate::server) fn domain(&self) -> &Domain {
        self.vendor.domain()
    }

    /// A payment, with nothing checked but its form.
    pub(in crate::server) fn read(
        self: &Arc<Self>,
        payment: &ChannelPayment,
    ) -> Result<Paying<S>, WireError> {
        Ok(Paying {
            seller: Arc::clone(self),
            payment: payment.payment(),
            checkpoint: payment.checkpoint()?,
        })
    }

    /// The terms of a price, as they travel.
    pub(in crate::server) fn requirements(&self, price: &Price, route: String) -> ChannelRequirements {
        let (domain, config) = (self.vendor.domain(), self.vendor.config());
        let policy = &config.policy;
        let (accountable, checkpoint_every) = match config.accountability {
            Accountability::Welcome => (false, CHECKPOINT_EVERY),
            Accountability::Required { every } => (true, every),
        };
        ChannelRequirements {
            scheme: Kind::Channel.scheme().to_owned(),
            network: network(domain.chain_id()),
            amount: price.price.0,
            asset: price.asset,
            pay_to: self.vendor.recipient(),
            max_timeout_seconds: ANSWER_SECONDS,
            extra: ChannelExtra {
                contract: domain.contract(),
                banks: policy.banks.iter().take(MAX_BANKS).copied().collect(),
                min_reputation: policy.min_reputation.get(),
                margin: policy.margin.0,
                max_jump: policy.max_jump,
                checkpoint_every,
                accountable,
                route,
            },
        }
    }
}

impl<S: GateStore> Paying<S> {
    pub(super) async fn admit(
        &self,
        order: OrderId,
        target: &Target<'_>,
        price: &Price,
        now: Timestamp,
    ) -> Result<Taken<S>, Box<Refused>> {
        let sale = Sale {
            order,
            item: item_hash(target.method, target.target),
            price: price.price,
            asset: price.asset,
        };
        let vendor = &self.seller.vendor;
        match vendor
            .admit(sale, self.payment, self.checkpoint.clone(), now)
            .await
        {
            Ok(Admitted::Deliver(delivery)) => Ok(Taken::Deliver(super::Goods::Channel(Goods {
                seller: Arc::clone(&self.seller),
                delivery,
            }))),
            Ok(Admitted::Repeat(receipt)) => Ok(Taken::Repeat(answer_name(&receipt))),
            Err(error) => Err(Box::new(refused(&error))),
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
        let domain = *self.seller.vendor.domain();
        let keep = |receipt: &Receipt| {
            add_channel_receipt(headers, sold.protocol, &domain, receipt, sold.now);
            keep(answer_name(receipt), headers);
        };
        let receipt = self.delivery.delivered(keep).await;
        counters.paid_by_channel(receipt.price);
    }
}

/// Answers are kept by the payment's tag, which no other payment has.
fn answer_name(receipt: &Receipt) -> B256 {
    receipt.tag.0
}

/// Why a payment is not taken, as its client is told.
pub(super) fn refused(error: &AcceptError) -> Refused {
    let (rule, why) = match error {
        // One payment of a channel at a time; which of them is of no concern to who has to wait.
        AcceptError::Busy { .. }
        | AcceptError::Refused {
            refusal: Refusal::Busy { .. },
            ..
        } => {
            let why = Problem::new(409, "in-progress", Advice::Retry, error.to_string());
            ("in-progress", why)
        }
        AcceptError::Refused { refusal, .. } => (refusal.rule(), Problem::refused_channel(refusal)),
        AcceptError::OtherOrder { .. } => {
            let why = Problem::new(409, error.rule(), Advice::Stop, error.to_string());
            (error.rule(), why)
        }
        AcceptError::Checkpoint(_) | AcceptError::CheckpointDue { .. } => {
            let why = Problem::new(402, error.rule(), Advice::NewNonce, error.to_string());
            (error.rule(), why)
        }
        AcceptError::Store(_) | AcceptError::Interrupted { .. } => {
            warn!(%error, "a channel's payment cannot be accepted now");
            return Refused {
                rule: "cannot-accept-now",
                why: Problem::new(503, "cannot-accept-now", Advice::Retry, error.to_string()),
                known: None,
                failure: Some(error.to_string()),
            };
        }
    };
    debug!(rule, %error, "refused");
    let position = error.position().map(|(index, tag)| Position {
        index: index.0,
        tag: tag.0,
    });
    Refused {
        rule,
        why: Problem {
            position: position.or(why.position),
            ..why
        },
        known: None,
        failure: None,
    }
}
