//! One channel from its permit to its opened receipts, step by step, all roles. A step does its work for all payments of
//! the channel before the next one begins, so that the stopwatch is read a dozen times and not once a payment.
//!
//! ```text
//! setup         client: chain   bank: check, sign   client: verify    both: begin
//! transaction   client: word, receipt, lock, tag                      vendor: accept, record
//! release       client: opener                                        vendor: digest, unlock, verify
//! ```
//!
//! [`ClientChannel::pay`](protocol::channel::ClientChannel::pay) and
//! [`open_receipts`](protocol::channel::open_receipts) do the same in one piece with the channel's own profile; tests hold
//! both against each other.

use alloy_primitives::{Address, B256};
use bindings::channel::PaymentChannel::{Opened, PaymentChannelEvents};
use protocol::channel::{
    Admission, AdmitPolicy, AdmitRequest, Admitted, Amount, Chain, ChannelRecord, ChannelView, Domain, Index,
    ItemHash, Key, Lock, LockHash, LockedReceipt, MAX_LENGTH, Opener, Order, Payment, Policy, Reputation,
    Seconds, Sigma, Tag, Timestamp, VendorChannel, accept, admit, chain_seed, fold, lock, transcript, unlock,
};
use serde::Serialize;
use thiserror::Error;

use crate::clock::{Spent, Stopwatch, VirtualClock};
use crate::seed::Seed;

/// Atomic units of a dollar: the tokens that are one have six decimals.
pub const DOLLAR: Amount = Amount(1_000_000);

const START: Timestamp = Timestamp(1_800_000_000);
const LIFE: Seconds = Seconds::DAY.times(30);
const REPUTATION: Reputation = Reputation::new(80).expect("at most 100");

/// The paper's phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Until the first payment can be made.
    Setup,
    /// The payments.
    Transaction,
    /// The receipts open.
    Release,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Client: all words are hashed once, for the anchor.
    Chain,
    /// Bank: the reputation of both, and the rest of the request.
    Check,
    /// Bank: the permit is signed.
    SignPermit,
    /// Client: the bank's signature.
    VerifyPermit,
    /// Vendor: the channel, from the event of its opening.
    Begin,
    /// Client: the next words.
    Word,
    /// Client: transcript, digest and signature of a receipt.
    Receipt,
    /// Client: the lock on the signature before.
    Lock,
    /// Client: what pins the signature.
    Tag,
    /// Vendor: the word and all other rules, then the transcript.
    Accept,
    /// Vendor: the payment is written down, in memory.
    Record,
    /// Vendor: transcripts and digests, from the opening on.
    Digest,
    /// Vendor: lock after lock, with its tag, down to `sigma_0`.
    Unlock,
    /// Vendor: the signatures.
    Verify,
}

/// One channel of the experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Where keys and items come from.
    pub seed: Seed,
    /// Payments, one unit each.
    pub transactions: u32,
    /// What a payment is worth.
    pub amount: Amount,
}

/// What came of it: every receipt is open, and the chain of locks ended in the bank's signature. All but the times follows
/// from the case.
#[derive(Clone, Debug)]
pub struct Run {
    /// What each step took, in the order of [`Step::ALL`].
    pub spent: [Spent; Step::ALL.len()],
    /// What the client asked its bank for.
    pub request: AdmitRequest,
    /// What it answered.
    pub admitted: Admitted,
    /// What was sent.
    pub payments: Vec<Payment>,
    /// What opened it.
    pub opener: Opener,
    /// The signatures that the vendor opened and checked, in order.
    pub opened: Vec<Sigma>,
    /// The vendor at the end.
    pub vendor: VendorChannel,
    /// What it wrote down.
    pub recorded: Vec<u8>,
}

/// Why a simulation stopped. Honest parties never get one.
#[derive(Debug, Error)]
pub enum SimError {
    /// The bank.
    #[error("the bank refused: {0}")]
    Admit(#[from] protocol::channel::AdmitRefusal),
    /// The client, about the bank's signature.
    #[error(transparent)]
    Permit(#[from] protocol::channel::PermitError),
    /// The chain of words.
    #[error(transparent)]
    Chain(#[from] protocol::channel::ChainError),
    /// The opening.
    #[error(transparent)]
    Fold(#[from] protocol::channel::FoldError),
    /// The vendor.
    #[error("the vendor refused: {0}")]
    Refusal(#[from] protocol::channel::Refusal),
    /// What a lock hides.
    #[error(transparent)]
    Sigma(#[from] protocol::channel::SigmaError),
    /// A signature is not the one that its tag pins.
    #[error("receipt {index} has tag {tag}, what opened makes {got}")]
    WrongTag {
        /// Whose tag.
        index: Index,
        /// What opened.
        got: Tag,
        /// What came with the payment.
        tag: Tag,
    },
    /// A signature is not of the receipt key.
    #[error("receipt {index} was not signed by {receipt_key}")]
    NotSigned {
        /// Which one.
        index: Index,
        /// The channel's.
        receipt_key: Address,
    },
    /// Nothing to simulate.
    #[error("there are {got} {what}, at least {low} is needed")]
    TooFew {
        /// Of what.
        what: &'static str,
        /// How many.
        got: u32,
        /// How many at least.
        low: u32,
    },
}

/// The channel's setting, the same for every case.
#[derive(Debug)]
pub(super) struct World {
    pub(super) domain: Domain,
    bank: Key,
    pub(super) receipt_key: Key,
    client: Address,
    vendor: Address,
}

/// What the setup leaves.
struct Channel {
    chain: Chain,
    admitted: Admitted,
    record: ChannelRecord,
    vendor: VendorChannel,
}

struct Timer<'a, W> {
    watch: &'a W,
    spent: [Spent; Step::ALL.len()],
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 14] = [
        Self::Chain,
        Self::Check,
        Self::SignPermit,
        Self::VerifyPermit,
        Self::Begin,
        Self::Word,
        Self::Receipt,
        Self::Lock,
        Self::Tag,
        Self::Accept,
        Self::Record,
        Self::Digest,
        Self::Unlock,
        Self::Verify,
    ];

    /// The phase that it belongs to.
    pub fn phase(self) -> Phase {
        match self {
            Self::Chain | Self::Check | Self::SignPermit | Self::VerifyPermit | Self::Begin => Phase::Setup,
            Self::Word | Self::Receipt | Self::Lock | Self::Tag | Self::Accept | Self::Record => {
                Phase::Transaction
            }
            Self::Digest | Self::Unlock | Self::Verify => Phase::Release,
        }
    }

    /// Who does it.
    pub fn role(self) -> &'static str {
        match self {
            Self::Check | Self::SignPermit => "bank",
            Self::Chain | Self::VerifyPermit | Self::Word | Self::Receipt | Self::Lock | Self::Tag => {
                "client"
            }
            Self::Begin | Self::Accept | Self::Record | Self::Digest | Self::Unlock | Self::Verify => {
                "vendor"
            }
        }
    }

    /// Its name, in kebab case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Check => "check",
            Self::SignPermit => "sign-permit",
            Self::VerifyPermit => "verify-permit",
            Self::Begin => "begin",
            Self::Word => "word",
            Self::Receipt => "receipt",
            Self::Lock => "lock",
            Self::Tag => "tag",
            Self::Accept => "accept",
            Self::Record => "record",
            Self::Digest => "digest",
            Self::Unlock => "unlock",
            Self::Verify => "verify",
        }
    }
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 3] = [Self::Setup, Self::Transaction, Self::Release];

    /// Its name, as the paper has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Transaction => "transaction",
            Self::Release => "release",
        }
    }
}

impl Run {
    /// What a phase took.
    pub fn phase(&self, phase: Phase) -> Spent {
        let mut sum = Spent::default();
        for (step, spent) in Step::ALL.into_iter().zip(self.spent) {
            if step.phase() == phase {
                sum.cpu += spent.cpu;
                sum.wall += spent.wall;
            }
        }
        sum
    }
}

/// Opens a channel, pays over it to its end, and opens its receipts.
///
/// # Errors
/// When a role refuses what another did: never, for honest ones.
pub fn run<H: LockHash>(case: &Case, watch: &impl Stopwatch) -> Result<Run, SimError> {
    if case.transactions == 0 {
        return Err(SimError::TooFew {
            what: "transactions",
            got: 0,
            low: 1,
        });
    }
    let world = World::new(case.seed);
    let mut timer = Timer {
        watch,
        spent: [Spent::default(); Step::ALL.len()],
    };
    let mut clock = VirtualClock::new(START);
    let (request, mut channel) = world.setup(case, clock, &mut timer)?;
    let (payments, opener) = world.pay::<H>(case, &mut channel, &mut clock, &mut timer)?;
    let (receipts, recorded) = world.sell(&payments, &mut channel, &mut timer)?;
    let opened = world.release::<H>(&channel.admitted, &receipts, &opener, &mut timer)?;
    Ok(Run {
        spent: timer.spent,
        request,
        admitted: channel.admitted,
        payments,
        opener,
        opened,
        vendor: channel.vendor,
        recorded,
    })
}

impl World {
    pub(super) fn new(seed: Seed) -> Self {
        let account = |purpose| Address::from_slice(&seed.bytes(purpose, 0)[12..]);
        Self {
            domain: Domain::new(31_337, account("contract")),
            bank: seed.key("bank"),
            receipt_key: seed.key("receipt key"),
            client: account("client"),
            vendor: account("vendor"),
        }
    }

    fn setup(
        &self,
        case: &Case,
        clock: VirtualClock,
        timer: &mut Timer<'_, impl Stopwatch>,
    ) -> Result<(AdmitRequest, Channel), SimError> {
        let salt = case.seed.bytes("salt", case.transactions);
        let (id, length) = (
            self.domain.channel_id(self.client, self.vendor, salt),
            Index(case.transactions),
        );
        let seed = chain_seed(&self.receipt_key, id, 0, length);
        let chain = timer.time(Step::Chain, || Chain::from_seed(seed, id, length))?;
        let request = AdmitRequest {
            client: self.client,
            vendor: self.vendor,
            salt,
            receipt_key: self.receipt_key.address(),
            asset: Address::from_slice(&case.seed.bytes("dollar", 0)[12..]),
            unit: case.amount,
            length,
            anchor: chain.anchor(),
            expiry: clock.now().plus(LIFE),
        };
        let policy = AdmitPolicy::default();
        let permit = timer.time(Step::Check, || {
            admit(
                &self.domain,
                &request,
                REPUTATION,
                REPUTATION,
                &policy,
                clock.now(),
            )
        })?;
        let bank = self.bank.address();
        let admitted = timer.time(Step::SignPermit, || permit.sign(bank, &self.bank));
        timer.time(Step::VerifyPermit, || admitted.check(bank))?;
        // What the contract says when the client has opened the channel with it.
        let event = PaymentChannelEvents::Opened(Opened {
            channelId: id.0,
            client: self.client,
            vendor: self.vendor,
            bank,
            permit: admitted.permit().fields().clone(),
            sigma0: admitted.signature().to_sol(),
        });
        let (record, vendor) = timer.time(Step::Begin, || {
            let mut record = None;
            fold(&mut record, &event)?;
            let record = record.expect("an opening was folded");
            let vendor = VendorChannel::open(&self.domain, &record);
            Ok::<_, SimError>((record, vendor))
        })?;
        let channel = Channel {
            chain,
            admitted,
            record,
            vendor,
        };
        Ok((request, channel))
    }

    /// The client's steps for all payments.
    fn pay<H: LockHash>(
        &self,
        case: &Case,
        channel: &mut Channel,
        clock: &mut VirtualClock,
        timer: &mut Timer<'_, impl Stopwatch>,
    ) -> Result<(Vec<Payment>, Opener), SimError> {
        let (permit, sigma0) = (channel.admitted.permit(), channel.admitted.sigma0());
        let id = permit.channel();
        let words = timer.time(Step::Word, || {
            (1..=case.transactions)
                .map(|index| channel.chain.word(Index(index)))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let mut receipts: Vec<LockedReceipt> = (1..=case.transactions)
            .map(|index| LockedReceipt {
                index: Index(index),
                item: ItemHash(case.seed.bytes("item", index)),
                issued_at: clock.tick(),
                lock: Lock([0; 64]),
                tag: Tag::default(),
            })
            .collect();
        let sigmas: Vec<Sigma> = timer.time(Step::Receipt, || {
            let mut so_far = permit.transcript();
            let sign = |receipt: &LockedReceipt| {
                so_far = transcript(so_far, receipt.item);
                let fields = receipt.receipt(id, permit.unit(), so_far);
                Sigma::from(&self.receipt_key.sign(self.domain.receipt_digest(&fields)))
            };
            receipts.iter().map(sign).collect()
        });
        timer.time(Step::Lock, || {
            let before = [&sigma0].into_iter().chain(&sigmas);
            for ((receipt, before), sigma) in receipts.iter_mut().zip(before).zip(&sigmas) {
                receipt.lock = lock::<H>(before, sigma);
            }
        });
        timer.time(Step::Tag, || {
            for (receipt, sigma) in receipts.iter_mut().zip(&sigmas) {
                receipt.tag = Tag::of(id, receipt.index, sigma);
            }
        });
        let payments = receipts.iter().zip(words).map(|(receipt, word)| Payment {
            channel: id,
            index: receipt.index,
            word,
            item: receipt.item,
            issued_at: receipt.issued_at,
            lock: receipt.lock,
            tag: receipt.tag,
        });
        let opener = Opener {
            channel: id,
            index: Index(case.transactions),
            sigma: *sigmas.last().expect("at least one transaction"),
        };
        Ok((payments.collect(), opener))
    }

    /// The vendor's steps for all payments.
    fn sell(
        &self,
        payments: &[Payment],
        channel: &mut Channel,
        timer: &mut Timer<'_, impl Stopwatch>,
    ) -> Result<(Vec<LockedReceipt>, Vec<u8>), SimError> {
        let policy = Policy {
            banks: vec![channel.record.bank],
            // The experiment closes nothing.
            max_walk: MAX_LENGTH.0,
            ..Policy::default()
        };
        let Channel { record, vendor, .. } = channel;
        let asset = record.opening().asset;
        let receipts = timer.time(Step::Accept, || {
            let mut receipts = Vec::with_capacity(payments.len());
            for payment in payments {
                let admission = Admission {
                    me: self.vendor,
                    channel: vendor,
                    view: ChannelView {
                        last_final: Some(record),
                        head: Some(record),
                    },
                    mirror_age: Seconds(0),
                    order: Order {
                        item: payment.item,
                        asset,
                        units: 1,
                    },
                    in_delivery: false,
                    now: payment.issued_at,
                    policy: &policy,
                };
                let delivered = accept(*payment, &admission)?.delivered();
                *vendor = delivered.channel;
                receipts.push(delivered.receipt);
            }
            Ok::<_, SimError>(receipts)
        })?;
        let recorded = timer.time(Step::Record, || {
            let mut bytes = Vec::with_capacity(payments.len() * 256);
            for payment in payments {
                bytes.extend_from_slice(payment.channel.0.as_slice());
                bytes.extend_from_slice(&payment.index.0.to_be_bytes());
                bytes.extend_from_slice(payment.word.0.as_slice());
                bytes.extend_from_slice(payment.item.0.as_slice());
                bytes.extend_from_slice(&payment.issued_at.0.to_be_bytes());
                bytes.extend_from_slice(&payment.lock.0);
                bytes.extend_from_slice(payment.tag.0.as_slice());
            }
            bytes
        });
        Ok((receipts, recorded))
    }

    /// The vendor's steps when it has the opener.
    fn release<H: LockHash>(
        &self,
        admitted: &Admitted,
        receipts: &[LockedReceipt],
        opener: &Opener,
        timer: &mut Timer<'_, impl Stopwatch>,
    ) -> Result<Vec<Sigma>, SimError> {
        let permit = admitted.permit();
        let id = permit.channel();
        let digests: Vec<B256> = timer.time(Step::Digest, || {
            let mut so_far = permit.transcript();
            let digest = |receipt: &LockedReceipt| {
                so_far = transcript(so_far, receipt.item);
                self.domain
                    .receipt_digest(&receipt.receipt(id, permit.unit(), so_far))
            };
            receipts.iter().map(digest).collect()
        });
        let sigmas = timer.time(Step::Unlock, || {
            let check = |index, sigma: &Sigma, tag| {
                let got = Tag::of(id, index, sigma);
                if got == tag {
                    return Ok(());
                }
                Err(SimError::WrongTag { index, got, tag })
            };
            let (mut sigmas, mut sigma) = (Vec::with_capacity(receipts.len()), opener.sigma);
            for receipt in receipts.iter().rev() {
                check(receipt.index, &sigma, receipt.tag)?;
                sigmas.push(sigma);
                sigma = Sigma::from_bytes(&unlock::<H>(&receipt.lock, &sigma))?;
            }
            check(Index::ZERO, &sigma, admitted.tag0())?;
            sigmas.reverse();
            Ok::<_, SimError>(sigmas)
        })?;
        timer.time(Step::Verify, || {
            let receipt_key = permit.receipt_key();
            let not_signed = |index| SimError::NotSigned { index, receipt_key };
            let mut signed = receipts.iter().zip(&digests).zip(&sigmas);
            let Some(((first, digest), sigma)) = signed.next() else {
                return Ok(());
            };
            let (_, key) = sigma
                .signed_by(*digest, receipt_key)
                .ok_or(not_signed(first.index))?;
            for ((receipt, digest), sigma) in signed {
                if !sigma.verify(*digest, &key) {
                    return Err(not_signed(receipt.index));
                }
            }
            Ok(())
        })?;
        Ok(sigmas)
    }
}

impl<W: Stopwatch> Timer<'_, W> {
    fn time<T>(&mut self, step: Step, work: impl FnOnce() -> T) -> T {
        let (done, spent) = Spent::on(self.watch, work);
        self.spent[step as usize] = spent;
        done
    }
}
