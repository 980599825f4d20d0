//! A channel that is open in nobody's chain: its bank, and its record as a mirror has it.

use alloy_primitives::{Address, B256, keccak256};
use bindings::channel::OpenPermit;
use chain::{Channels, Mirror};
use protocol::block::BlockRef;
use protocol::channel::{
    Admitted, Amount, Chain, ChainTerms, ChannelId, ChannelRecord, Domain, Index, Key, Permit, Policy,
    Timestamp, chain_seed,
};

/// What a unit is worth.
pub(crate) const UNIT: Amount = Amount(250_000);
/// Units of a channel.
pub(crate) const LENGTH: Index = Index(5_000);

pub(crate) fn channel_domain() -> Domain {
    Domain::new(31337, Address::repeat_byte(0xce))
}

pub(crate) fn hash(name: &str, number: u64) -> B256 {
    keccak256([name.as_bytes(), &number.to_be_bytes()].concat())
}

fn key(name: &str, number: u64) -> Key {
    Key::from_bytes(&hash(name, number).0).unwrap()
}

pub(crate) fn bank() -> Address {
    key("bank", 0).address()
}

/// The account that is paid; its key signs cooperative closes.
pub(crate) fn vendor_key() -> Key {
    key("vendor", 0)
}

pub(crate) fn client_key(number: u64) -> Key {
    key("client", number)
}

pub(crate) fn receipt_key(number: u64) -> Key {
    key("receipts", number)
}

/// What a channel is like.
#[derive(Clone, Copy)]
pub(crate) struct Like {
    pub(crate) number: u64,
    pub(crate) vendor: Address,
    pub(crate) unit: Amount,
    pub(crate) length: Index,
    pub(crate) expiry: Timestamp,
    pub(crate) issued_at: Timestamp,
    /// Whose key signs its receipts.
    pub(crate) receipts: u64,
}

impl Like {
    pub(crate) fn to(vendor: Address, number: u64, now: Timestamp) -> Self {
        Self {
            number,
            vendor,
            unit: UNIT,
            length: LENGTH,
            expiry: Timestamp(now.0 + 30 * 86_400),
            issued_at: now,
            receipts: number,
        }
    }

    pub(crate) fn salt(&self) -> B256 {
        hash("salt", self.number)
    }

    pub(crate) fn id(&self) -> ChannelId {
        let client = client_key(self.number).address();
        channel_domain().channel_id(client, self.vendor, self.salt())
    }

    pub(crate) fn chain(&self) -> Chain {
        let (key, id) = (receipt_key(self.receipts), self.id());
        Chain::from_seed(chain_seed(&key, id, 0, self.length), id, self.length).unwrap()
    }

    pub(crate) fn admitted(&self) -> Admitted {
        let fields = OpenPermit {
            channelId: self.id().0,
            client: client_key(self.number).address(),
            vendor: self.vendor,
            receiptKey: receipt_key(self.receipts).address(),
            asset: Address::ZERO,
            unit: self.unit.0,
            length: self.length.0,
            anchor: self.chain().anchor().0,
            clientReputation: 60,
            vendorReputation: 90,
            issuedAt: self.issued_at.0,
            expiry: self.expiry.0,
        };
        Permit::new(&channel_domain(), fields).sign(bank(), &key("bank", 0))
    }

    pub(crate) fn record(&self) -> ChannelRecord {
        let admitted = self.admitted();
        ChannelRecord {
            client: client_key(self.number).address(),
            vendor: self.vendor,
            bank: bank(),
            chains: vec![ChainTerms {
                permit: admitted.permit().fields().clone(),
                sigma0: *admitted.signature(),
            }],
            settled: Index::ZERO,
            checkpointed: None,
            closing: None,
            receipt_shown: None,
            bad_lock_proven: false,
            double_receipt_proven: false,
        }
    }
}

/// A mirror that shows these channels, and ages.
pub(crate) fn mirror(channels: &[Like], now: Timestamp) -> Mirror<Channels> {
    let block = BlockRef {
        number: 1,
        hash: hash("block", 1),
        timestamp: now,
    };
    let records = channels.iter().map(|like| (like.id(), like.record()));
    Mirror::of(block, records.collect())
}

pub(crate) fn policy() -> Policy {
    Policy {
        banks: vec![bank()],
        ..Policy::default()
    }
}
