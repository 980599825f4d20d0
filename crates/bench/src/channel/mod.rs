//! What the benchmarks of the channel pay with: one bank, one vendor, and clients with a channel each. Everything is the
//! same in each run.

pub mod durable;
pub mod report;

use alloy_primitives::{Address, B256, U256, keccak256};
use eyre::{ContextCompat, Result};
use protocol::channel::{
    Accepted, Admission, AdmitPolicy, AdmitRequest, Admitted, Amount, Chain, ChainTerms, ChannelRecord,
    ChannelView, ClientChannel, Domain, Index, ItemHash, Key, MAX_LENGTH, Order, Payment, Policy, Refusal,
    Reputation, Seconds, Timestamp, VendorChannel, accept, admit, chain_seed,
};

/// What a unit is worth, atomic units.
pub const UNIT: Amount = Amount(1_000_000);

/// One vendor and its bank.
#[derive(Debug)]
pub struct Town {
    /// The contract.
    pub domain: Domain,
    /// The bank's key.
    pub bank: Key,
    /// Who sells.
    pub vendor: Address,
    /// What the vendor asks for.
    pub policy: Policy,
    /// When everything happens.
    pub now: Timestamp,
}

/// A channel, as both sides have it when it is opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Signs receipts.
    pub key: Key,
    /// The words.
    pub chain: Chain,
    /// The permit.
    pub admitted: Admitted,
    /// The client's side.
    pub client: ClientChannel,
    /// What the chain says of it.
    pub record: ChannelRecord,
    /// The vendor's side.
    pub vendor: VendorChannel,
}

impl Default for Town {
    fn default() -> Self {
        let bank = key("bank", 0);
        Self {
            domain: Domain::new(31_337, Address::repeat_byte(0xcc)),
            vendor: Address::repeat_byte(0xdd),
            policy: Policy {
                banks: vec![bank.address()],
                max_walk: MAX_LENGTH.0,
                ..Policy::default()
            },
            bank,
            now: Timestamp(1_800_000_000),
        }
    }
}

impl Town {
    /// A channel of this number, `length` units long.
    ///
    /// # Errors
    /// When the bank refuses it.
    pub fn open(&self, number: u64, length: u32) -> Result<Opened> {
        let (client, salt) = (
            Address::from_slice(&bytes32("client", number)[12..]),
            bytes32("salt", number),
        );
        let key = key("receipt key", number);
        let (id, length) = (self.domain.channel_id(client, self.vendor, salt), Index(length));
        let chain = Chain::from_seed(chain_seed(&key, id, 0, length), id, length)?;
        let request = AdmitRequest {
            client,
            vendor: self.vendor,
            salt,
            receipt_key: key.address(),
            asset: Address::ZERO,
            unit: UNIT,
            length,
            anchor: chain.anchor(),
            expiry: self.now.plus(Seconds::DAY.times(30)),
        };
        let good = Reputation::new(80).wrap_err("80 is a reputation")?;
        let permit = admit(
            &self.domain,
            &request,
            good,
            good,
            &AdmitPolicy::default(),
            self.now,
        )?;
        let admitted = permit.sign(self.bank.address(), &self.bank);
        let record = record(&admitted);
        Ok(Opened {
            key,
            chain,
            client: ClientChannel::open(admitted.clone()),
            vendor: VendorChannel::open(&self.domain, &record),
            admitted,
            record,
        })
    }

    /// The vendor's decision.
    ///
    /// # Errors
    /// When the payment breaks a rule.
    pub fn accept(
        &self,
        record: &ChannelRecord,
        channel: &VendorChannel,
        payment: Payment,
    ) -> Result<Accepted, Refusal> {
        let admission = Admission {
            me: self.vendor,
            channel,
            view: ChannelView {
                last_final: Some(record),
                head: Some(record),
            },
            mirror_age: Seconds(0),
            order: Order {
                item: payment.item,
                asset: Address::ZERO,
                units: 1,
            },
            in_delivery: false,
            now: self.now,
            policy: &self.policy,
        };
        accept(payment, &admission)
    }
}

impl Opened {
    /// The client pays one unit, and knows that its good arrived.
    ///
    /// # Errors
    /// When the chain is at its end.
    pub fn pay(&mut self, town: &Town, item: ItemHash) -> Result<Payment> {
        let prepared = self
            .client
            .pay(&town.domain, &self.key, &mut self.chain, item, 1, town.now)?;
        let (client, payment) = prepared.send();
        self.client = client.acknowledge(payment.tag)?;
        Ok(payment)
    }

    /// So many payments.
    ///
    /// # Errors
    /// When the chain is at its end.
    pub fn payments(&mut self, town: &Town, count: u32) -> Result<Vec<Payment>> {
        (0..count)
            .map(|number| self.pay(town, item(number.into())))
            .collect()
    }
}

/// What is paid for.
#[must_use]
pub fn item(number: u64) -> ItemHash {
    ItemHash(bytes32("item", number))
}

fn record(admitted: &Admitted) -> ChannelRecord {
    let permit = admitted.permit();
    ChannelRecord {
        client: permit.client(),
        vendor: permit.vendor(),
        bank: admitted.bank(),
        chains: vec![ChainTerms {
            permit: permit.fields().clone(),
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

fn key(purpose: &str, number: u64) -> Key {
    Key::from_bytes(&bytes32(purpose, number).0).expect("a hash is a private key")
}

fn bytes32(purpose: &str, number: u64) -> B256 {
    keccak256([purpose.as_bytes(), &U256::from(number).to_be_bytes::<32>()].concat())
}
