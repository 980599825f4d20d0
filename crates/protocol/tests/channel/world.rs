//! A small world in which a payment is acceptable: one bank, one client, one vendor, one channel, and the contract's rule
//! for what a close pays, written again.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolStruct;
use bindings::channel::PaymentChannel::{Opened as OpenedEvent, ToppedUp};
use bindings::channel::{Checkpoint, Proof};
use micropay_protocol::channel::{
    Accepted, Admission, AdmitPolicy, AdmitRequest, Admitted, Amount, Chain, ChannelEvent, ChannelRecord,
    ChannelView, ClientChannel, Close, CloseGas, Delivered, Domain, Index, ItemHash, Key, LockedReceipt,
    Order, Payment, Policy, Refusal, Reputation, Seconds, SignedCheckpoint, Timestamp, TopUpRequest,
    VendorChannel, Word, accept, admit, admit_top_up, chain_seed, fold, recover, walk,
};

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);
pub(crate) const GAS: CloseGas = CloseGas {
    base: 60_000,
    per_step: 58,
    signature: 5_000,
};

/// 32 bytes that look random, the same in each run.
pub(crate) fn bytes32(name: &str, number: u64) -> B256 {
    keccak256([name.as_bytes(), &number.to_be_bytes()].concat())
}

pub(crate) fn key(name: &str) -> Key {
    Key::from_bytes(&bytes32(name, 0).0).unwrap()
}

pub(crate) fn item(number: u64) -> ItemHash {
    ItemHash(bytes32("item", number))
}

pub(crate) fn reputation(number: u8) -> Reputation {
    Reputation::new(number).unwrap()
}

/// Everything that the parties have, owned.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) domain: Domain,
    pub(crate) bank: Key,
    pub(crate) key: Key,
    pub(crate) client: Key,
    pub(crate) vendor: Key,
    pub(crate) unit: Amount,
    pub(crate) now: Timestamp,
    pub(crate) policy: Policy,
    /// The client's.
    pub(crate) chain: Chain,
    pub(crate) payer: ClientChannel,
    /// The vendor's.
    pub(crate) seller: VendorChannel,
    pub(crate) receipts: Vec<LockedReceipt>,
    pub(crate) signed: Vec<SignedCheckpoint>,
    pub(crate) in_delivery: bool,
    /// The chain's.
    pub(crate) last_final: Option<ChannelRecord>,
    pub(crate) head: Option<ChannelRecord>,
    pub(crate) mirror_age: Seconds,
}

impl World {
    pub(crate) fn new(length: u32) -> Self {
        Self::of("channel", length)
    }

    /// A world of its own: other keys, another channel.
    pub(crate) fn of(name: &str, length: u32) -> Self {
        let domain = Domain::new(31337, Address::repeat_byte(0xcc));
        let [bank, key, client, vendor] = ["bank", "receipts", "client", "vendor"]
            .map(|role| Key::from_bytes(&bytes32(&format!("{name} {role}"), 0).0).unwrap());
        let salt = bytes32(name, 1);
        let id = domain.channel_id(client.address(), vendor.address(), salt);
        let seed = chain_seed(&key, id, 0, Index(length));
        let chain = Chain::from_seed(seed, id, Index(length)).unwrap();
        let request = AdmitRequest {
            client: client.address(),
            vendor: vendor.address(),
            salt,
            receipt_key: key.address(),
            asset: Address::repeat_byte(0xaa),
            unit: Amount(100),
            length: Index(length),
            anchor: chain.anchor(),
            expiry: NOW.plus(Seconds::DAY.times(7)),
        };
        let admitted = admit(
            &domain,
            &request,
            reputation(80),
            reputation(90),
            &AdmitPolicy::default(),
            NOW,
        )
        .unwrap()
        .sign(bank.address(), &bank);
        let mut record = None;
        fold(&mut record, &opened_event(&admitted)).unwrap();
        let policy = Policy {
            banks: vec![bank.address()],
            ..Policy::default()
        };
        let seller = VendorChannel::open(&domain, record.as_ref().unwrap());
        Self {
            domain,
            bank,
            key,
            client,
            vendor,
            unit: Amount(100),
            now: NOW,
            policy,
            chain,
            payer: ClientChannel::open(admitted),
            seller,
            receipts: Vec::new(),
            signed: Vec::new(),
            in_delivery: false,
            last_final: record.clone(),
            head: record,
            mirror_age: Seconds(2),
        }
    }

    pub(crate) fn record(&self) -> &ChannelRecord {
        self.last_final.as_ref().unwrap()
    }

    pub(crate) fn terms(&self) -> Vec<Admitted> {
        self.record().admitted(&self.domain)
    }

    pub(crate) fn opening(&self) -> Admitted {
        self.terms().remove(0)
    }

    /// Changes both records.
    pub(crate) fn change(&mut self, change: impl Fn(&mut ChannelRecord)) {
        self.last_final.iter_mut().chain(&mut self.head).for_each(change);
    }

    /// Both records take an event.
    pub(crate) fn happen(&mut self, event: &ChannelEvent) {
        fold(&mut self.last_final, event).unwrap();
        fold(&mut self.head, event).unwrap();
    }

    pub(crate) fn order(&self, number: u64, units: u32) -> Order {
        Order {
            item: item(number),
            asset: Address::repeat_byte(0xaa),
            units,
        }
    }

    /// The client pays and remembers it.
    pub(crate) fn pay(&mut self, number: u64, units: u32) -> Payment {
        let (payer, payment) = self
            .payer
            .pay(
                &self.domain,
                &self.key,
                &mut self.chain,
                item(number),
                units,
                self.now,
            )
            .unwrap()
            .send();
        self.payer = payer;
        payment
    }

    pub(crate) fn accept(&self, payment: Payment, order: Order) -> Result<Accepted, Refusal> {
        accept(
            payment,
            &Admission {
                me: self.vendor.address(),
                channel: &self.seller,
                view: ChannelView {
                    last_final: self.last_final.as_ref(),
                    head: self.head.as_ref(),
                },
                mirror_age: self.mirror_age,
                order,
                in_delivery: self.in_delivery,
                now: self.now,
                policy: &self.policy,
            },
        )
    }

    /// The vendor stores what it accepted.
    pub(crate) fn store(&mut self, accepted: &Accepted) {
        self.receipts.extend(accepted.confirmed());
        self.seller = *accepted.channel();
    }

    /// The vendor stores what it delivered.
    pub(crate) fn deliver(&mut self, accepted: Accepted) {
        let Delivered { channel, receipt } = accepted.delivered();
        self.seller = channel;
        self.receipts.push(receipt);
    }

    /// A purchase on which nothing goes wrong.
    pub(crate) fn buy(&mut self, number: u64, units: u32) -> Payment {
        let payment = self.pay(number, units);
        let accepted = self.accept(payment, self.order(number, units)).unwrap();
        self.store(&accepted);
        self.deliver(accepted);
        self.payer = self.payer.acknowledge(payment.tag).unwrap();
        payment
    }

    /// The client tops up to `length` words; both see it at once.
    pub(crate) fn top_up(&mut self, length: u32) {
        let generation = u32::try_from(self.payer.terms().len()).unwrap();
        let id = self.payer.id();
        let seed = chain_seed(&self.key, id, generation, Index(length));
        self.chain = Chain::from_seed(seed, id, Index(length)).unwrap();
        let current = self.payer.terms().last().unwrap().permit().clone();
        let request = TopUpRequest {
            length: Index(length),
            anchor: self.chain.anchor(),
            expiry: current.expiry(),
        };
        let policy = AdmitPolicy::default();
        let admitted = admit_top_up(
            &self.domain,
            &current,
            &request,
            reputation(80),
            reputation(90),
            &policy,
            self.now,
        )
        .unwrap()
        .sign(self.bank.address(), &self.bank);
        self.happen(&topped_up_event(&admitted));
        self.payer = self.payer.topped_up(admitted).unwrap();
    }

    /// The client signs a checkpoint, the vendor takes it.
    pub(crate) fn checkpoint(&mut self) {
        let signed = self
            .payer
            .checkpoint(&self.domain, &self.key, &mut self.chain, B256::ZERO)
            .unwrap();
        self.seller = self
            .seller
            .take_checkpoint(&self.domain, self.record(), &signed, None)
            .unwrap();
        self.signed.push(signed);
    }

    /// What a close pays the vendor in all, by the contract's rule.
    pub(crate) fn payout(&self) -> Amount {
        self.payout_of(&self.seller)
    }

    /// As [`World::payout`], of any state of the vendor's.
    pub(crate) fn payout_of(&self, seller: &VendorChannel) -> Amount {
        if seller.paid.index == Index::ZERO {
            return Amount::ZERO;
        }
        let signed = self.signed.last();
        let close = Close::plan(&self.terms(), &seller.paid, signed, None, Index::ZERO, &GAS).unwrap();
        self.contract_pays(&close).unwrap()
    }

    /// The contract's rule for a proof (`PaymentChannel._proves`), written again, with nothing settled and no anchor moved.
    pub(crate) fn contract_pays(&self, close: &Close) -> Result<Amount, &'static str> {
        let known = self
            .record()
            .admitted(&self.domain)
            .iter()
            .any(|admitted| admitted.terms() == close.terms);
        if !known {
            return Err("UnknownTerms");
        }
        let permit = &close.terms.permit;
        let Proof {
            index,
            word,
            signedIndex,
            signedWord,
            locksRoot,
            signature,
        } = close.proof.clone();
        if index > permit.length {
            return Err("IndexAboveLength");
        }
        let start = if signedIndex == 0 {
            permit.anchor
        } else {
            if signedIndex > index {
                return Err("SignedIndexAboveIndex");
            }
            let checkpoint = Checkpoint {
                channelId: permit.channelId,
                index: signedIndex,
                word: signedWord,
                locksRoot,
            };
            let digest = self.domain.checkpoint_digest(&checkpoint);
            let signature =
                micropay_protocol::channel::Signature::from_sol(&signature).map_err(|_| "WrongSigner")?;
            if recover(digest, &signature).map_err(|_| "WrongSigner")?.address() != permit.receiptKey {
                return Err("WrongSigner");
            }
            signedWord
        };
        if walk(Word(word), self.payer.id(), index - signedIndex).0 != start {
            return Err("WordNotInChain");
        }
        Ok(Amount(permit.unit * u128::from(index)))
    }
}

pub(crate) fn opened_event(admitted: &Admitted) -> ChannelEvent {
    ChannelEvent::Opened(OpenedEvent {
        channelId: admitted.permit().channel().0,
        client: admitted.permit().client(),
        vendor: admitted.permit().vendor(),
        bank: admitted.bank(),
        permit: admitted.permit().fields().clone(),
        sigma0: admitted.signature().to_sol(),
    })
}

pub(crate) fn topped_up_event(admitted: &Admitted) -> ChannelEvent {
    ChannelEvent::ToppedUp(ToppedUp {
        channelId: admitted.permit().channel().0,
        permit: admitted.permit().fields().clone(),
        sigma0: admitted.signature().to_sol(),
    })
}

/// EIP-712 by string and concatenation.
pub(crate) fn digest_by_hand(separator: B256, type_string: &str, body: &[B256]) -> B256 {
    let words = [&[keccak256(type_string)], body].concat().concat();
    keccak256([&[0x19, 0x01], &separator[..], &keccak256(words)[..]].concat())
}

pub(crate) fn number(value: impl TryInto<u128>) -> B256 {
    U256::from(value.try_into().unwrap_or_else(|_| panic!("a number"))).into()
}

/// The struct hash as the generated type makes it.
pub(crate) fn struct_hash(message: &impl SolStruct) -> B256 {
    message.eip712_hash_struct()
}
