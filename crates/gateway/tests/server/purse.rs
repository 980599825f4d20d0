//! A client that pays over a channel by hand.

use alloy_primitives::B256;
use micropay_gateway::wire::{ChannelPayment, Kind, item_hash};
use protocol::channel::{Chain, ClientChannel, Payment, SignedCheckpoint, Tag, Timestamp};
use serde_json::{Value, json};

use super::channel::{Like, channel_domain, receipt_key};

/// The client's side, without a store.
pub(crate) struct Purse {
    pub(crate) like: Like,
    pub(crate) channel: ClientChannel,
    chain: Chain,
    pub(crate) now: Timestamp,
}

impl Purse {
    pub(crate) fn new(like: Like) -> Self {
        Self {
            channel: ClientChannel::open(like.admitted()),
            chain: like.chain(),
            now: like.issued_at,
            like,
        }
    }

    /// So many units more, for a `GET` of this path.
    pub(crate) fn pay(&mut self, path: &str, units: u32) -> Payment {
        self.pay_for("GET", path, units)
    }

    pub(crate) fn pay_for(&mut self, method: &str, path: &str, units: u32) -> Payment {
        let (key, item) = (receipt_key(self.like.receipts), item_hash(method, path));
        let prepared = self
            .channel
            .pay(&channel_domain(), &key, &mut self.chain, item, units, self.now);
        let (channel, payment) = prepared.unwrap().send();
        self.channel = channel;
        payment
    }

    pub(crate) fn acknowledge(&mut self, tag: Tag) {
        self.channel = self.channel.acknowledge(tag).unwrap();
    }

    pub(crate) fn checkpoint(&mut self) -> SignedCheckpoint {
        self.checkpoint_over(B256::ZERO)
    }

    pub(crate) fn checkpoint_over(&mut self, locks_root: B256) -> SignedCheckpoint {
        let key = receipt_key(self.like.receipts);
        self.channel
            .checkpoint(&channel_domain(), &key, &mut self.chain, locks_root)
            .unwrap()
    }
}

/// A payment as x402 has it, in JSON, to be spoiled before it is encoded.
pub(crate) fn channel_payment_json(payment: &Payment, checkpoint: Option<&SignedCheckpoint>) -> Value {
    json!({
        "x402Version": 2,
        "accepted": { "scheme": Kind::Channel.scheme(), "network": "eip155:31337" },
        "payload": ChannelPayment::new(payment, checkpoint),
    })
}
