//! What the tests share: vector files, and a small world of one merchant and one escrow in which a ticket is acceptable.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use alloy_primitives::{Address, B256, U256, keccak256};
use micropay_protocol::ticket::{
    Accepted, Admission, Amount, Domain, EscrowKey, EscrowPublicKey, EscrowRecord, EscrowView, Issued, Nonce,
    Offer, PairRecord, Policy, Quote, Refusal, Seconds, Seed, Session, SessionId, Status, Ticket, Timestamp,
    WinThreshold, accept, odds, quote,
};
use serde_json::Value;

/// A file of `tests/vectors`.
pub(crate) fn vector_path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors")).join(name)
}

/// A parsed file of `tests/vectors`.
pub(crate) fn read_vectors(name: &str) -> Value {
    let path = vector_path(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// 32 bytes that look random, the same in each run.
pub(crate) fn bytes32(name: &str, number: u64) -> B256 {
    keccak256([name.as_bytes(), &number.to_be_bytes()].concat())
}

/// An escrow key, the same in each run.
pub(crate) fn escrow_key(name: &str) -> EscrowKey {
    EscrowKey::from_bytes(&bytes32(name, 0).0).unwrap()
}

/// A merchant, an escrow, and what both know: everything that [`accept`] judges a ticket on, owned.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) domain: Domain,
    pub(crate) key: EscrowKey,
    pub(crate) seed: Seed,
    pub(crate) recipient: Address,
    pub(crate) session: SessionId,
    pub(crate) commitment_closed: bool,
    pub(crate) offer: Offer,
    pub(crate) nonce_seen: bool,
    pub(crate) nonce_floor: Nonce,
    pub(crate) now: Timestamp,
    pub(crate) policy: Policy,
    pub(crate) last_final: Option<EscrowRecord>,
    pub(crate) head: Option<EscrowRecord>,
    pub(crate) mirror_age: Seconds,
    pub(crate) unclaimed_wins: u32,
    pub(crate) payer_unclaimed_wins: u32,
    pub(crate) known_key: Option<EscrowPublicKey>,
}

impl World {
    /// A healthy escrow of 20 prizes of 1,000,000 for 1,034 tickets at 1/128.
    pub(crate) fn new() -> Self {
        Self::with(WinThreshold::one_in(128), Amount(1_000_000), Nonce(1034))
    }

    /// A healthy escrow of 20 prizes, its penalty just adequate.
    pub(crate) fn with(win_threshold: WinThreshold, prize: Amount, ticket_cap: Nonce) -> Self {
        let policy = Policy::default();
        let offer = Offer {
            asset: Address::repeat_byte(0xaa),
            prize,
            win_threshold,
        };
        let record = EscrowRecord {
            payer: Address::repeat_byte(0xbb),
            asset: offer.asset,
            prize,
            max_threshold: win_threshold,
            ticket_cap,
            balance: prize.checked_mul(20).unwrap(),
            penalty: odds::required_penalty(prize, ticket_cap, win_threshold, policy.epsilon),
            status: Status::Open,
            withdraw_at: None,
            cure_by: None,
            debt: U256::ZERO,
            earmarked: Amount::ZERO,
            earmark_until: Timestamp(0),
            pairs: BTreeMap::new(),
            debts: BTreeMap::new(),
        };
        Self {
            domain: Domain::new(31337, Address::repeat_byte(0xcc)),
            key: escrow_key("escrow"),
            seed: Seed::new(bytes32("seed", 0).0),
            recipient: Address::repeat_byte(0xdd),
            session: SessionId { boot: 1, serial: 0 },
            commitment_closed: false,
            offer,
            nonce_seen: false,
            nonce_floor: Nonce(0),
            now: Timestamp(1_800_000_000),
            policy,
            last_final: Some(record.clone()),
            head: Some(record),
            mirror_age: Seconds(2),
            unclaimed_wins: 0,
            payer_unclaimed_wins: 0,
            known_key: None,
        }
    }

    /// Changes both records.
    pub(crate) fn change(&mut self, change: impl Fn(&mut EscrowRecord)) {
        self.last_final.iter_mut().chain(&mut self.head).for_each(change);
    }

    /// What is kept for the merchant, in both records.
    pub(crate) fn set_pair(&mut self, pair: PairRecord) {
        let recipient = self.recipient;
        self.change(|record| {
            record.pairs.insert(recipient, pair);
        });
    }

    pub(crate) fn session(&self) -> Session {
        Session::derive(
            &self.domain,
            &self.seed,
            self.recipient,
            self.key.address(),
            self.session,
        )
    }

    pub(crate) fn quote(&self) -> Quote {
        quote(&self.session(), &self.offer, &self.policy, self.nonce_floor)
    }

    /// A good ticket with this nonce.
    pub(crate) fn issue(&self, nonce: u64) -> Ticket<Issued> {
        let quote = self.quote();
        let expiry = quote.expiry(self.now);
        Ticket::issue(
            &self.domain,
            &self.key,
            &quote,
            bytes32("r2", nonce),
            expiry,
            Nonce(nonce),
        )
    }

    /// The ticket with other fields, signed by the escrow key.
    pub(crate) fn reissue(
        &self,
        ticket: &Ticket<Issued>,
        change: impl Fn(&mut bindings::ticket::Ticket),
    ) -> Ticket<Issued> {
        let mut fields = ticket.fields().clone();
        change(&mut fields);
        let signature = self.key.sign(self.domain.ticket_digest(&fields));
        Ticket::from_parts(&self.domain, fields, signature)
    }

    pub(crate) fn accept(&self, ticket: Ticket<Issued>) -> Result<Ticket<Accepted>, Refusal> {
        let session = self.session();
        accept(
            ticket,
            &Admission {
                session: &session,
                commitment_closed: self.commitment_closed,
                offer: self.offer,
                nonce_seen: self.nonce_seen,
                nonce_floor: self.nonce_floor,
                now: self.now,
                policy: &self.policy,
                escrow: EscrowView {
                    last_final: self.last_final.as_ref(),
                    head: self.head.as_ref(),
                },
                mirror_age: self.mirror_age,
                unclaimed_wins: self.unclaimed_wins,
                payer_unclaimed_wins: self.payer_unclaimed_wins,
                known_key: self.known_key.as_ref(),
            },
        )
    }
}

/// Panics unless `wins` is within four standard deviations of what `n` tosses at `rate` give.
#[track_caller]
pub(crate) fn assert_rate(wins: u32, n: u32, rate: f64) {
    let mean = f64::from(n) * rate;
    let sigma = (mean * (1.0 - rate)).sqrt();
    let z = (f64::from(wins) - mean) / sigma;
    assert!(
        z.abs() <= 4.0,
        "{wins} of {n} won, expected {mean:.0} ± {sigma:.1}: {z:.1} sigma away"
    );
}
