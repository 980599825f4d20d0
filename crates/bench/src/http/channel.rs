//! Paying by channel under load: a channel for each connection, since one has one payment under way at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use alloy_primitives::{Address, B256, keccak256};
use bindings::channel::OpenPermit;
use chain::{Channels, Mirror};
use eyre::{Result, WrapErr, eyre};
use futures::future::try_join_all;
use gateway::wire::{ChannelPayment, ChannelRequirements, PaymentSignature, item_hash, read_required};
use http::HeaderValue;
use merchant::channel::{Vendor, VendorConfig};
use protocol::block::BlockRef;
use protocol::channel::{
    Amount, Chain, ChainTerms, ChannelRecord, ClientChannel, Domain, Index, Key, Permit, Policy, Seconds,
    chain_seed,
};
use storage::SqliteStore;

use super::load::{Target, closed};
use super::proxy::now;

/// What is asked for, by `GET`.
const PATH: &str = "/x";

/// Channels to one vendor, each of which can pay so often.
#[derive(Debug)]
pub struct Fleet {
    domain: Domain,
    vendor: Address,
    unit: Amount,
    payments: u32,
    channels: u64,
}

fn key(name: &str, number: u64) -> Result<Key> {
    let bytes = keccak256([name.as_bytes(), &number.to_be_bytes()].concat());
    Key::from_bytes(&bytes.0).wrap_err("a key of the bench")
}

impl Fleet {
    /// `channels` channels of `payments` payments of `price` each.
    #[must_use]
    pub fn new(vendor: Address, price: Amount, channels: u64, payments: u32) -> Self {
        Self {
            domain: Domain::new(31_337, Address::repeat_byte(0xce)),
            vendor,
            unit: price,
            payments,
            channels,
        }
    }

    fn chain(&self, number: u64) -> Result<Chain> {
        let (receipts, client) = (key("receipts", number)?, key("client", number)?.address());
        let id = self.domain.channel_id(client, self.vendor, B256::ZERO);
        let length = Index(self.payments);
        Ok(Chain::from_seed(
            chain_seed(&receipts, id, 0, length),
            id,
            length,
        )?)
    }

    fn record(&self, number: u64) -> Result<ChannelRecord> {
        let (chain, bank) = (self.chain(number)?, key("bank", 0)?);
        let fields = OpenPermit {
            channelId: chain.channel().0,
            client: key("client", number)?.address(),
            vendor: self.vendor,
            receiptKey: key("receipts", number)?.address(),
            asset: Address::ZERO,
            unit: self.unit.0,
            length: self.payments,
            anchor: chain.anchor().0,
            clientReputation: 60,
            vendorReputation: 60,
            issuedAt: now().0,
            expiry: now().plus(Seconds::DAY).0,
        };
        let admitted = Permit::new(&self.domain, fields).sign(bank.address(), &bank);
        Ok(ChannelRecord {
            client: admitted.permit().client(),
            vendor: self.vendor,
            bank: bank.address(),
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
        })
    }

    /// The vendor, whose mirror shows them.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn vendor(&self, store: SqliteStore) -> Result<Arc<Vendor<SqliteStore>>> {
        let records = (0..self.channels).map(|number| {
            let record = self.record(number)?;
            Ok((self.chain(number)?.channel(), record))
        });
        let block = BlockRef {
            number: 1,
            hash: B256::ZERO,
            timestamp: now(),
        };
        let mirror = Mirror::<Channels>::of(block, records.collect::<Result<_>>()?);
        let config = VendorConfig {
            policy: Policy {
                banks: vec![key("bank", 0)?.address()],
                max_mirror_age: Seconds::DAY,
                ..Policy::default()
            },
            ..VendorConfig::default()
        };
        let started = Vendor::start(self.domain, self.vendor, config, Arc::new(mirror), store);
        Ok(started.await?)
    }

    /// Payments as they travel, by channel.
    ///
    /// # Errors
    /// When the gateway gives no terms.
    pub async fn targets(&self, gateway: SocketAddr) -> Result<Vec<Target>> {
        let answer = reqwest::get(format!("http://{gateway}{PATH}")).await?;
        let header = answer
            .headers()
            .get("payment-required")
            .map(|value| value.to_str());
        let offers = read_required(header.transpose()?.unwrap_or_default(), &self.domain)?;
        let terms = offers.channel.ok_or_else(|| eyre!("no channels in the 402"))?;
        (0..self.channels)
            .map(|number| Ok(Target::new(gateway, PATH, self.payments(number, &terms)?)))
            .collect()
    }

    fn payments(&self, number: u64, terms: &ChannelRequirements) -> Result<Vec<HeaderValue>> {
        let record = self.record(number)?;
        let opening = record.admitted(&self.domain).into_iter().next();
        let opening = opening.ok_or_else(|| eyre!("a channel without a permit"))?;
        let (mut channel, mut chain) = (ClientChannel::open(opening), self.chain(number)?);
        let (receipts, item) = (key("receipts", number)?, item_hash("GET", PATH));
        let mut payments = Vec::new();
        for _ in 0..self.payments {
            let prepared = channel.pay(&self.domain, &receipts, &mut chain, item, 1, now())?;
            let (next, payment) = prepared.send();
            channel = next.acknowledge(payment.tag)?;
            let signature = PaymentSignature {
                payment: ChannelPayment::new(&payment, None).into(),
                identifier: None,
            };
            payments.push(HeaderValue::try_from(signature.header(terms))?);
        }
        Ok(payments)
    }
}

/// Requests per second: `requests` over a connection for each target, one after another.
///
/// # Errors
/// When one is not answered with 200.
pub async fn rate(targets: &[Target], requests: usize) -> Result<f64> {
    let begun = Instant::now();
    try_join_all(targets.iter().map(|target| closed(target, 1, requests))).await?;
    Ok((targets.len() * requests) as f64 / begun.elapsed().as_secs_f64())
}
