//! Small made-up channels, with real keys and chains. Everything follows from a few numbers, so that two runs make the same.

use std::{collections::HashMap, sync::LazyLock};

use alloy_primitives::{Address, B256};
use bindings::channel::{Checkpoint, OpenPermit};
use parking_lot::Mutex;
use protocol::{
    channel::{
        Accepted, Acknowledged, Admission, Admitted, Amount, Chain, ChainTerms, ChannelId, ChannelRecord,
        ChannelView, ClientChannel, Closing, Domain, Index, ItemHash, Key, Lock, Opener, Order, PayError,
        Payment, Permit, Policy, Prepared, Seconds, Sigma, SignedCheckpoint, Tag, Timestamp, Transcript,
        VendorChannel, Word, accept, chain_seed,
    },
    ticket::OrderId,
};

use super::fixture::{hash, recipient};
use crate::channel::{CheckpointRecord, NewClientChannel, Opening, PayRequest, PermitRequest};

/// Now, in every fixture.
pub const NOW: Timestamp = Timestamp(1_800_000_000);

/// What a unit is worth.
pub const UNIT: Amount = Amount(10);

static DOMAIN: LazyLock<Domain> = LazyLock::new(|| Domain::new(31337, Address::repeat_byte(0xcc)));

static BANK: LazyLock<Key> = LazyLock::new(|| key("bank", 0));

/// What was made once need not be made again: the suite would spend its time on curves.
type Made<K, V> = LazyLock<Mutex<HashMap<K, V>>>;

/// The contract of every channel here.
pub fn domain() -> Domain {
    *DOMAIN
}

/// The bank's address, which is that of its first key.
pub fn bank() -> Address {
    BANK.address()
}

/// One of the bank's keys.
pub fn bank_key(epoch: u64) -> Key {
    if epoch == 0 {
        BANK.clone()
    } else {
        key("bank", epoch)
    }
}

/// Who pays over channel `c`: two channels each.
pub fn client(c: u64) -> Address {
    key("client", c / 2).address()
}

/// Signs the receipts of channel `c`.
pub fn receipt_key(c: u64) -> Key {
    key("receipts", c)
}

/// Makes the name of channel `c` new.
pub fn salt(c: u64) -> B256 {
    hash("salt", &[c])
}

/// Channel `c`.
pub fn channel(c: u64) -> ChannelId {
    DOMAIN.channel_id(client(c), recipient(), salt(c))
}

/// How many units the chain of a generation can pay.
pub fn length(generation: u32) -> Index {
    Index(40 * (generation + 1))
}

/// The chain of a generation of channel `c`.
pub fn chain(c: u64, generation: u32) -> Chain {
    static CHAINS: Made<(u64, u32), Chain> = LazyLock::new(Mutex::default);
    CHAINS
        .lock()
        .entry((c, generation))
        .or_insert_with(|| {
            let length = length(generation);
            let seed = chain_seed(&receipt_key(c), channel(c), generation, length);
            Chain::from_seed(seed, channel(c), length).expect("the length is one that chains have")
        })
        .clone()
}

/// What the bank is to sign for channel `c`. `variant` changes the terms.
pub fn permit(c: u64, generation: u32, variant: u64) -> Permit {
    let fields = OpenPermit {
        channelId: channel(c).0,
        client: client(c),
        vendor: recipient(),
        receiptKey: receipt_key(c).address(),
        asset: Address::ZERO,
        unit: UNIT.0,
        length: length(generation).0,
        anchor: chain(c, generation).anchor().0,
        clientReputation: 50,
        vendorReputation: 100,
        issuedAt: NOW.0 + c,
        expiry: NOW.0 + 1_000_000 + variant,
    };
    Permit::new(&DOMAIN, fields)
}

/// The signed permit of a generation of channel `c`.
pub fn admitted(c: u64, generation: u32) -> Admitted {
    static PERMITS: Made<(u64, u32), Admitted> = LazyLock::new(Mutex::default);
    PERMITS
        .lock()
        .entry((c, generation))
        .or_insert_with(|| permit(c, generation, 0).sign(bank(), &BANK))
        .clone()
}

/// Asks the bank's store for a permit.
pub fn permit_request(c: u64, generation: u32, variant: u64) -> PermitRequest {
    PermitRequest {
        permit: permit(c, generation, variant),
        generation,
        quota: None,
    }
}

/// Signs with the bank's key of this epoch.
pub fn sign_permit(epoch: u64) -> impl FnOnce(Permit) -> Admitted + Send + 'static {
    move |permit| permit.sign(bank(), &bank_key(epoch))
}

/// Channel `c`, about to be opened.
pub fn new_channel(c: u64) -> NewClientChannel {
    NewClientChannel {
        admitted: admitted(c, 0),
        salt: salt(c),
        origin: c
            .is_multiple_of(2)
            .then(|| format!("https://vendor.example/{c}\0")),
        at: Timestamp(NOW.0 + c),
    }
}

/// A purchase with order `n`, paid over channel `c`.
pub fn pay_request(n: u64, c: u64, units: u32) -> PayRequest {
    PayRequest {
        order: OrderId(hash("channel order", &[n])),
        channel: channel(c),
        price: Amount(u128::from(units) * UNIT.0),
        units,
        budgets: Vec::new(),
        at: NOW,
    }
}

/// What order `n` is for.
pub fn item(n: u64) -> ItemHash {
    ItemHash(hash("item", &[n]))
}

/// Pays `units` over channel `c` for item `n`.
pub fn sign_payment(
    n: u64,
    c: u64,
    units: u32,
) -> impl FnOnce(&ClientChannel) -> Result<Prepared, PayError> + Send + 'static {
    move |client: &ClientChannel| {
        let generation = client.terms().len() as u32 - 1;
        let mut chain = chain(c, generation);
        client.pay(&DOMAIN, &receipt_key(c), &mut chain, item(n), units, NOW)
    }
}

/// A position of channel `c`, with a signature that is one, of something else.
pub fn position(c: u64, index: u32) -> Acknowledged {
    Acknowledged {
        index: Index(index),
        transcript: Transcript(hash("transcript", &[c, index.into()])),
        sigma: sigma(c, index),
    }
}

/// A signature of the receipt key of channel `c`.
pub fn sigma(c: u64, n: u32) -> Sigma {
    Sigma::from(&receipt_key(c).sign(hash("receipt", &[n.into()])))
}

/// Channel `c` on chain, with this many chains.
pub fn channel_record(c: u64, chains: u32) -> ChannelRecord {
    ChannelRecord {
        client: client(c),
        vendor: recipient(),
        bank: bank(),
        chains: (0..chains)
            .map(|generation| {
                let admitted = admitted(c, generation);
                ChainTerms {
                    permit: admitted.permit().fields().clone(),
                    sigma0: *admitted.signature(),
                }
            })
            .collect(),
        settled: Index::ZERO,
        checkpointed: None,
        closing: None,
        receipt_shown: None,
        bad_lock_proven: false,
        double_receipt_proven: false,
    }
}

/// A record with every field in use.
pub fn full_record(n: u64) -> ChannelRecord {
    let (paid, refunded) = (Amount(u128::MAX - u128::from(n)), Amount(1 << 90));
    ChannelRecord {
        settled: Index(u32::MAX),
        checkpointed: (n % 2 == 1).then_some((Index(7), Word(B256::repeat_byte(7)))),
        closing: match n % 4 {
            0 => None,
            1 => Some(Closing::Closed {
                paid,
                refunded,
                transcript: Transcript(B256::repeat_byte(8)),
            }),
            2 => Some(Closing::Cooperative { paid, refunded }),
            _ => Some(Closing::Refunded { refunded }),
        },
        receipt_shown: n.is_multiple_of(2).then_some(B256::repeat_byte(9)),
        bad_lock_proven: n % 2 == 1,
        double_receipt_proven: n.is_multiple_of(2),
        ..channel_record(n % 4, 1 + (n % 2) as u32)
    }
}

/// The vendor's side of channel `c` as it was opened.
pub fn opened(c: u64) -> VendorChannel {
    VendorChannel::open(&DOMAIN, &channel_record(c, 1))
}

/// A payment over channel `c` at an index; `variant` makes another one. Its lock and tag are noise, as a vendor cannot tell.
pub fn payment(c: u64, index: u32, variant: u64) -> Payment {
    let noise = hash("tag", &[c, index.into(), variant]);
    let mut lock = [0; 64];
    lock[..32].copy_from_slice(noise.as_slice());
    lock[32..].copy_from_slice(noise.as_slice());
    Payment {
        channel: channel(c),
        index: Index(index),
        word: chain(c, 0).word(Index(index)).expect("chains here are that long"),
        item: item(variant),
        issued_at: NOW,
        lock: Lock(lock),
        tag: Tag(noise),
    }
}

/// The payment at an index, accepted by a vendor that stands at `on`; it stands on what was delivered, or on what is pending
/// if there is no other way.
pub fn accepted(on: &VendorChannel, c: u64, index: u32, variant: u64, on_pending: bool) -> Accepted {
    let record = channel_record(c, 1);
    let payment = payment(c, index, variant);
    let from = match on.pending {
        Some(pending) if on_pending => pending.index,
        _ => on.delivered.index,
    };
    let admission = Admission {
        me: recipient(),
        channel: on,
        view: ChannelView {
            last_final: Some(&record),
            head: Some(&record),
        },
        mirror_age: Seconds(0),
        order: Order {
            item: payment.item,
            asset: Address::ZERO,
            units: payment.index.above(from),
        },
        in_delivery: false,
        now: NOW,
        policy: &Policy {
            banks: vec![bank()],
            ..Policy::default()
        },
    };
    accept(payment, &admission).expect("the payment is a good one")
}

/// A checkpoint of channel `c`.
pub fn checkpoint(c: u64, index: u32, variant: u64) -> CheckpointRecord {
    let fields = Checkpoint {
        channelId: channel(c).0,
        index,
        word: match chain(c, 0).word(Index(index)) {
            Ok(word) => word.0,
            Err(_) => hash("word", &[index.into()]),
        },
        locksRoot: hash("root", &[variant]),
    };
    let signature = receipt_key(c).sign(DOMAIN.checkpoint_digest(&fields));
    CheckpointRecord {
        signed: SignedCheckpoint { fields, signature },
        chain: 0,
    }
}

/// What an opener of channel `c` opened.
pub fn opening(c: u64, index: u32, opened: u32) -> Opening {
    Opening {
        opener: Opener {
            channel: channel(c),
            index: Index(index),
            sigma: sigma(c, index),
        },
        opened,
        ends_in_sigma0: opened == index,
        at: NOW,
    }
}

fn key(what: &'static str, n: u64) -> Key {
    static KEYS: Made<(&str, u64), Key> = LazyLock::new(Mutex::default);
    KEYS.lock()
        .entry((what, n))
        .or_insert_with(|| {
            Key::from_bytes(&hash(what, &[n]).0).expect("a hash is a key, but for one in 2^128")
        })
        .clone()
}
