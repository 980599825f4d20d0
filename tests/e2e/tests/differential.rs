//! Rust against Solidity on ten thousand random tickets, most of them spoiled in some way: for each one the contract's
//! verdict (paid how, or refused why, with both values) is the one that the functions of `protocol` predict, and so is
//! what the tickets leave behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::{Address, B256, U256, aliases::B32, keccak256};
use alloy::sol_types::SolError;
use bindings::ticket::TicketEscrow::{self, TicketEscrowEvents};
use bindings::ticket::{Group, Signature as SolSignature, Ticket as Fields, Winner};
use chain::{At, Mined};
use micropay_e2e::{NATIVE, World};
use payer::ticket::Opening;
use protocol::ticket::{
    Amount, Domain, EscrowKey, EscrowRecord, Escrows, Nonce, Seconds, Signature, Status, Timestamp,
    WinThreshold, apply, draw, recover,
};

const TICKETS: usize = 10_240;
/// Tickets in one transaction, in groups of up to [`GROUP`].
const BATCH: usize = 256;
const GROUP: u64 = 8;
const PRIZE: u128 = 1_000_003;
const DAY: u64 = 86_400;

/// A deterministic stream of numbers: every run makes the same tickets, but for their times.
struct Random(B256);

impl Random {
    fn word(&mut self) -> B256 {
        self.0 = keccak256(self.0);
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (U256::from_be_bytes(self.word().0) % U256::from(bound)).to()
    }

    /// Once in `n`.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// How a ticket is spoiled, before or after it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Spoiled {
    No,
    OtherSigner,
    HighS,
    BadV,
    OtherV,
    ZeroR,
    GarbageSignature,
    OtherChain,
    OtherContract,
    OtherR1,
    OtherRecipient,
    OtherEscrow,
    ChangedR2,
    ThresholdAtMax,
    ThresholdAboveMax,
    ThresholdZero,
    NonceAgain,
    NonceZero,
    NonceBelowCap,
    NonceAtCap,
    ExpiredLongAgo,
    ExpiresAtBlock,
    ExpiredAtBlock,
}

const SPOILED: [Spoiled; 22] = [
    Spoiled::OtherSigner,
    Spoiled::HighS,
    Spoiled::BadV,
    Spoiled::OtherV,
    Spoiled::ZeroR,
    Spoiled::GarbageSignature,
    Spoiled::OtherChain,
    Spoiled::OtherContract,
    Spoiled::OtherR1,
    Spoiled::OtherRecipient,
    Spoiled::OtherEscrow,
    Spoiled::ChangedR2,
    Spoiled::ThresholdAtMax,
    Spoiled::ThresholdAboveMax,
    Spoiled::ThresholdZero,
    Spoiled::NonceAgain,
    Spoiled::NonceZero,
    Spoiled::NonceBelowCap,
    Spoiled::NonceAtCap,
    Spoiled::ExpiredLongAgo,
    Spoiled::ExpiresAtBlock,
    Spoiled::ExpiredAtBlock,
];

/// The group order of secp256k1.
const ORDER: U256 = U256::from_limbs([
    0xbfd2_5e8c_d036_4141,
    0xbaae_dce6_af48_a03b,
    0xffff_ffff_ffff_fffe,
    u64::MAX,
]);

struct Scene {
    world: World,
    random: Random,
    keys: Vec<Arc<EscrowKey>>,
    /// What Rust says the escrows are.
    model: Escrows,
    /// What Rust says the contract owes, by asset and account.
    credits: BTreeMap<(Address, Address), u128>,
    merchants: [usize; 3],
    /// The highest nonce tried so far, by escrow and recipient.
    tried: BTreeMap<(Address, Address), u64>,
    seen: BTreeMap<&'static str, usize>,
}

#[tokio::test]
async fn ten_thousand_random_tickets_end_in_rust_as_in_solidity() {
    let mut scene = Scene::new().await;
    for batch in 0..TICKETS / BATCH {
        scene.batch(batch).await;
    }
    scene.compare_state().await;
    // The tickets have covered what they were made to cover.
    let seen = |name: &str| scene.seen.get(name).copied().unwrap_or_default();
    for (name, least) in [
        ("paid from the balance", 1_000),
        ("paid from an earmark", 10),
        ("paid in part", 1),
        ("owed", 100),
        ("EscrowNotPaying", 100),
        ("TicketExpired", 100),
        ("NonceNotBelowCap", 50),
        ("NonceNotAboveLast", 100),
        ("ThresholdAboveMax", 50),
        ("DrawNotBelowThreshold", 1_000),
        ("TicketNotSigned: another", 200),
        ("TicketNotSigned: nobody", 100),
    ] {
        assert!(
            seen(name) >= least,
            "{name}: {} of at least {least}; {:?}",
            seen(name),
            scene.seen
        );
    }
    assert_eq!(scene.seen.values().sum::<usize>(), TICKETS);
}

impl Scene {
    /// Escrows in every state in which tickets may meet them.
    async fn new() -> Self {
        let world = World::with_args(&["--gas-limit", "60000000"]).await;
        world.mint(0, u128::from(u64::MAX)).await;
        let mut scene = Self {
            world,
            random: Random(keccak256("differential")),
            keys: Vec::new(),
            model: Escrows::new(),
            credits: BTreeMap::new(),
            merchants: [1, 2, 3],
            tried: BTreeMap::new(),
            seen: BTreeMap::new(),
        };
        let [native, token] = [NATIVE, scene.world.token];
        let rich = 20_000 * PRIZE;
        // Two that pay all, one that pays one prize and a half and then owes, one with earmarks, one that closes, one that
        // withdraws, one with a cap that is soon reached, and (below) one that was never opened.
        for (number, (asset, balance, cap)) in [
            (native, rich, u32::MAX),
            (token, rich, u32::MAX),
            (token, PRIZE * 3 / 2, u32::MAX),
            (native, 40 * PRIZE, u32::MAX),
            (native, rich, u32::MAX),
            (native, rich, u32::MAX),
            (token, rich, 400),
        ]
        .into_iter()
        .enumerate()
        {
            scene.open(number as u64, asset, balance, cap).await;
        }
        let steps = scene.world.steps(0);
        let address = |index: usize| scene.keys[index].address();
        let until = scene.world.clock.now().plus(Seconds(30 * DAY));
        for (merchant, prizes) in [(1, 10), (2, 20), (3, 7)] {
            let recipient = scene.world.sender(merchant).address();
            steps.earmark(address(3), recipient, prizes, until).await.unwrap();
        }
        steps.request_withdraw(address(4)).await.unwrap();
        scene.world.anvil.increase_time(3 * DAY).await.unwrap();
        steps.withdraw(address(4)).await.unwrap();
        steps.request_withdraw(address(5)).await.unwrap();
        scene.keys.push(Arc::new(
            EscrowKey::from_bytes(&keccak256("never opened").0).unwrap(),
        ));
        scene.fold_the_chain().await;
        scene
    }

    async fn open(&mut self, number: u64, asset: Address, balance: u128, cap: u32) {
        let opening = Opening {
            asset,
            prize: Amount(PRIZE),
            max_threshold: WinThreshold(U256::from(3) << 254),
            ticket_cap: Nonce(cap.into()),
            penalty: Amount(5 * PRIZE),
            balance: Amount(balance),
        };
        let escrow = self
            .world
            .open(0, &format!("differential {number}"), &opening)
            .await;
        self.keys.push(escrow.key);
    }

    /// The model starts as what the events so far make of it.
    async fn fold_the_chain(&mut self) {
        let head = self.world.client.head().await.unwrap().number;
        for event in self.world.client.events(0, head).await.unwrap() {
            apply(&mut self.model, &event.event).unwrap();
        }
    }

    /// One transaction of one merchant: random groups, predicted, claimed, compared.
    async fn batch(&mut self, number: usize) {
        let merchant = self.world.sender(self.merchants[number % self.merchants.len()]);
        let recipient = merchant.address();
        // So that expiries can be set to the second.
        let at = self
            .world
            .client
            .head()
            .await
            .unwrap()
            .timestamp
            .plus(Seconds(20));
        let mut groups = Vec::new();
        let mut left = BATCH as u64;
        while left > 0 {
            let size = (1 + self.random.below(GROUP)).min(left);
            left -= size;
            groups.push(self.group(recipient, size, at));
        }
        self.world.anvil.set_next_timestamp(at.0).await.unwrap();
        let call = TicketEscrow::claimBatchCall {
            recipient,
            groups: groups.clone(),
        };
        let mined: Mined = self.world.call(&merchant, call).await;
        assert_eq!(mined.block.timestamp, at);

        let mut predicted = Vec::new();
        for group in &groups {
            predicted.extend(self.predict(recipient, group, at));
        }
        assert_eq!(mined.events.len(), predicted.len(), "batch {number}");
        for (index, (got, expected)) in mined.events.iter().zip(&predicted).enumerate() {
            assert_eq!(text(got), text(expected), "event {index} of batch {number}");
        }
        if number.is_multiple_of(8) {
            self.compare_state().await;
        }
    }

    // ── tickets ──

    fn group(&mut self, recipient: Address, size: u64, at: Timestamp) -> Group {
        // Most tickets meet an escrow that can pay.
        let index = match self.random.below(10) {
            0..=3 => self.random.below(2),
            4..=8 => 2 + self.random.below(5),
            _ => self.random.below(8),
        };
        let key = Arc::clone(&self.keys[usize::try_from(index).unwrap()]);
        let r1 = self.random.word();
        let winners = (0..size).map(|_| self.winner(&key, recipient, r1, at)).collect();
        Group {
            escrow: key.address(),
            r1,
            winners,
        }
    }

    fn winner(&mut self, key: &EscrowKey, recipient: Address, r1: B256, at: Timestamp) -> Winner {
        let spoiled = if self.random.one_in(3) {
            *self.random.pick(&SPOILED)
        } else {
            Spoiled::No
        };
        let domain = self.world.domain;
        let record = self.model.get(&key.address());
        let max = record.map_or(U256::from(3) << 254, |record| record.max_threshold.0);
        let cap = record.map_or(u64::MAX, |record| record.ticket_cap.0);
        let last = self
            .tried
            .get(&(key.address(), recipient))
            .copied()
            .unwrap_or_default();
        let mut fields = Fields {
            escrow: key.address(),
            recipient,
            commitment: domain.commitment(recipient, r1),
            r2: self.random.word(),
            winThreshold: max - (U256::from_be_bytes(self.random.word().0) % (max >> 1)),
            expiry: at.0 + 1 + self.random.below(DAY),
            nonce: last + 1 + self.random.below(3),
        };
        match spoiled {
            Spoiled::OtherR1 => fields.commitment = domain.commitment(recipient, self.random.word()),
            Spoiled::OtherRecipient => {
                fields.recipient = key.address();
                fields.commitment = domain.commitment(key.address(), r1);
            }
            Spoiled::OtherEscrow => fields.escrow = recipient,
            Spoiled::ThresholdAtMax => fields.winThreshold = max,
            Spoiled::ThresholdAboveMax => {
                fields.winThreshold = max + U256::from(1 + self.random.below(2) * 1_000_000);
            }
            Spoiled::ThresholdZero => fields.winThreshold = U256::ZERO,
            Spoiled::NonceAgain => fields.nonce = last.saturating_sub(self.random.below(3)),
            Spoiled::NonceZero => fields.nonce = 0,
            // Only where it buries nothing that the other tickets need.
            Spoiled::NonceBelowCap if cap < 1_000 && self.random.one_in(4) => fields.nonce = cap - 1,
            Spoiled::NonceAtCap => fields.nonce = cap.saturating_add(self.random.below(2)),
            Spoiled::ExpiredLongAgo => fields.expiry = self.random.below(at.0),
            Spoiled::ExpiresAtBlock => fields.expiry = at.0,
            Spoiled::ExpiredAtBlock => fields.expiry = at.0 - 1,
            _ => {}
        }
        let domain = match spoiled {
            Spoiled::OtherChain => Domain::new(domain.chain_id() + 1, domain.contract()),
            Spoiled::OtherContract => Domain::new(domain.chain_id(), key.address()),
            _ => domain,
        };
        let digest = domain.ticket_digest(&fields);
        let mut signature: SolSignature = match spoiled {
            Spoiled::OtherSigner => EscrowKey::from_bytes(&self.random.word().0)
                .unwrap()
                .sign(digest)
                .to_sol(),
            _ => key.sign(digest).to_sol(),
        };
        match spoiled {
            Spoiled::HighS => {
                signature.s = B256::from(ORDER - U256::from_be_bytes(signature.s.0));
                signature.v = 27 + 28 - signature.v;
            }
            Spoiled::BadV => signature.v = *self.random.pick(&[0, 1, 26, 29, 255]),
            Spoiled::OtherV => signature.v = 27 + 28 - signature.v,
            Spoiled::ZeroR => signature.r = B256::ZERO,
            Spoiled::GarbageSignature => {
                let v = 27 + u8::from(self.random.one_in(2));
                signature = SolSignature {
                    r: self.random.word(),
                    s: self.random.word(),
                    v,
                };
            }
            Spoiled::ChangedR2 => fields.r2 = self.random.word(),
            _ => {}
        }
        if fields.nonce < cap.min(1 << 31) && fields.nonce > last && spoiled != Spoiled::NonceBelowCap {
            self.tried.insert((key.address(), recipient), fields.nonce);
        }
        let Fields {
            r2,
            winThreshold,
            expiry,
            nonce,
            ..
        } = fields;
        Winner {
            r2,
            winThreshold,
            expiry,
            nonce,
            signature,
        }
    }

    // ── what Rust says ──

    /// The events of a group, from the functions that payers and merchants use. The model moves on with them.
    fn predict(&mut self, recipient: Address, group: &Group, at: Timestamp) -> Vec<TicketEscrowEvents> {
        let before = self.model.get(&group.escrow).map(|record| record.status);
        let mut events = Vec::new();
        let mut owed = false;
        for winner in &group.winners {
            let event = match self.judge(recipient, group, winner, before, at) {
                Ok(claimed) => {
                    owed |= !claimed.owed.is_zero();
                    let asset = self.model[&group.escrow].asset;
                    let paid: u128 = PRIZE - claimed.owed.to::<u128>();
                    *self.credits.entry((asset, recipient)).or_default() += paid;
                    self.count(match (claimed.fromEarmark.is_zero(), claimed.owed.to::<u128>()) {
                        (false, _) => "paid from an earmark",
                        (true, 0) => "paid from the balance",
                        (true, PRIZE) => "owed",
                        (true, _) => "paid in part",
                    });
                    TicketEscrowEvents::Claimed(claimed)
                }
                Err(skipped) => {
                    self.count(name(&skipped));
                    TicketEscrowEvents::TicketSkipped(skipped)
                }
            };
            apply(&mut self.model, &event).unwrap();
            events.push(event);
        }
        if owed && before != Some(Status::Insolvent) {
            let event = TicketEscrow::BecameInsolvent {
                escrow: group.escrow,
                cureBy: at.0 + 3 * DAY,
            };
            let event = TicketEscrowEvents::BecameInsolvent(event);
            apply(&mut self.model, &event).unwrap();
            events.push(event);
        }
        events
    }

    fn judge(
        &self,
        recipient: Address,
        group: &Group,
        winner: &Winner,
        status: Option<Status>,
        at: Timestamp,
    ) -> Result<TicketEscrow::Claimed, TicketEscrow::TicketSkipped> {
        let escrow = group.escrow;
        let skip = |reason: [u8; 4], got: U256, limit: U256| {
            let reason = B32::from(reason);
            Err(TicketEscrow::TicketSkipped {
                escrow,
                recipient,
                nonce: winner.nonce,
                reason,
                got,
                limit,
            })
        };
        let status_number = |status| match status {
            None => 0,
            Some(Status::Open) => 1,
            Some(Status::Withdrawing) => 2,
            Some(Status::Insolvent) => 3,
            Some(Status::Closed) => 4,
        };
        let pays =
            |record: &EscrowRecord| status != Some(Status::Closed) || live_earmark(record, recipient) > 0;
        let Some(record) = self.model.get(&escrow).filter(|record| pays(record)) else {
            let (got, open) = (
                U256::from(status_number(status)),
                U256::from(status_number(Some(Status::Open))),
            );
            return skip(TicketEscrow::EscrowNotPaying::SELECTOR, got, open);
        };
        let number = U256::from::<u64>;
        if at.0 > winner.expiry {
            return skip(
                TicketEscrow::TicketExpired::SELECTOR,
                number(at.0),
                number(winner.expiry),
            );
        }
        let (nonce, cap) = (Nonce(winner.nonce), record.ticket_cap);
        if nonce >= cap {
            return skip(
                TicketEscrow::NonceNotBelowCap::SELECTOR,
                number(nonce.0),
                number(cap.0),
            );
        }
        let last = record.pair(recipient).last_nonce;
        if nonce <= last {
            return skip(
                TicketEscrow::NonceNotAboveLast::SELECTOR,
                number(nonce.0),
                number(last.0),
            );
        }
        let threshold = WinThreshold(winner.winThreshold);
        if threshold > record.max_threshold {
            return skip(
                TicketEscrow::ThresholdAboveMax::SELECTOR,
                threshold.0,
                record.max_threshold.0,
            );
        }
        let domain = &self.world.domain;
        let digest = domain.ticket_digest(&Fields {
            escrow,
            recipient,
            commitment: domain.commitment(recipient, group.r1),
            r2: winner.r2,
            winThreshold: winner.winThreshold,
            expiry: winner.expiry,
            nonce: winner.nonce,
        });
        let drawn = draw(digest, group.r1);
        if !threshold.wins(drawn) {
            return skip(TicketEscrow::DrawNotBelowThreshold::SELECTOR, drawn, threshold.0);
        }
        let signer = Signature::from_sol(&winner.signature).and_then(|signature| recover(digest, &signature));
        let signer = signer.map_or(Address::ZERO, |key| key.address());
        if signer != escrow {
            let address = |address: Address| U256::from_be_bytes(address.into_word().0);
            return skip(
                TicketEscrow::TicketNotSigned::SELECTOR,
                address(signer),
                address(escrow),
            );
        }
        let (from_earmark, owed) = match live_earmark(record, recipient) {
            0 => (0, PRIZE - record.balance.0.min(PRIZE)),
            _ => (PRIZE, 0),
        };
        let (from_earmark, owed) = (U256::from(from_earmark), U256::from(owed));
        Ok(TicketEscrow::Claimed {
            escrow,
            recipient,
            nonce: winner.nonce,
            fromEarmark: from_earmark,
            owed,
        })
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    // ── what is left behind ──

    async fn compare_state(&self) {
        let client = &self.world.client;
        for key in &self.keys {
            let escrow = key.address();
            let got = client.escrow_of(escrow, At::Latest).await.unwrap();
            let model = self.model.get(&escrow);
            let bare = |record: &EscrowRecord| EscrowRecord {
                pairs: BTreeMap::new(),
                debts: BTreeMap::new(),
                ..record.clone()
            };
            assert_eq!(got, model.map(bare));
            let Some(model) = model else { continue };
            for merchant in self.merchants {
                let recipient = self.world.sender(merchant).address();
                assert_eq!(
                    client.pair_of(escrow, recipient, At::Latest).await.unwrap(),
                    model.pair(recipient)
                );
                let debt = client.debt_of(escrow, recipient, At::Latest).await.unwrap();
                assert_eq!(debt, model.debts.get(&recipient).copied().unwrap_or_default());
            }
        }
        for ((asset, account), credit) in &self.credits {
            assert_eq!(self.world.credit(*asset, *account).await, *credit);
        }
    }
}

/// Prizes that an earmark can still pay; none after a withdrawal, although the pair names them.
fn live_earmark(record: &EscrowRecord, recipient: Address) -> u32 {
    if record.earmarked == Amount(0) {
        0
    } else {
        record.pair(recipient).earmark_prizes
    }
}

fn name(skipped: &TicketEscrow::TicketSkipped) -> &'static str {
    match skipped.reason.0 {
        TicketEscrow::EscrowNotPaying::SELECTOR => "EscrowNotPaying",
        TicketEscrow::TicketExpired::SELECTOR => "TicketExpired",
        TicketEscrow::NonceNotBelowCap::SELECTOR => "NonceNotBelowCap",
        TicketEscrow::NonceNotAboveLast::SELECTOR => "NonceNotAboveLast",
        TicketEscrow::ThresholdAboveMax::SELECTOR => "ThresholdAboveMax",
        TicketEscrow::DrawNotBelowThreshold::SELECTOR => "DrawNotBelowThreshold",
        _ if skipped.got.is_zero() => "TicketNotSigned: nobody",
        _ => "TicketNotSigned: another",
    }
}

fn text(event: &TicketEscrowEvents) -> String {
    format!("{event:?}")
}
