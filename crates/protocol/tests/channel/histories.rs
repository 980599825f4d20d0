//! Payments, failures, retries, crashes, jumps, checkpoints and top-ups in any order, cut off anywhere: the vendor can prove
//! what the client acknowledged and at most the one payment under way, for every index. Every prefix of a run is a history
//! that ends in an abort.

use std::thread;

use micropay_protocol::channel::{
    Accepted, Index, Order, PayError, Payment, Refusal, VendorChannel, open_receipts, walk,
};

use crate::world::{World, bytes32, item};

/// At least so many histories, in each of two threads.
const HISTORIES: u64 = 51_000;
const MAX_UNITS: u32 = 3;

/// A small generator, seeded: the same runs each time.
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// What a run has seen, so that a test can say what it covered.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    histories: u64,
    delivered: u64,
    lost: u64,
    failed: u64,
    answers_lost: u64,
    crashes: u64,
    retries: u64,
    top_ups: u64,
    checkpoints: u64,
    credit: u64,
}

struct Run {
    world: World,
    rng: Rng,
    items: u64,
    seen: Seen,
}

impl Run {
    fn new(template: &World, seed: u64) -> Self {
        Self {
            world: template.clone(),
            rng: Rng(u64::from_be_bytes(bytes32("history", seed)[..8].try_into().unwrap()) | 1),
            items: 0,
            seen: Seen::default(),
        }
    }

    fn step(&mut self) {
        match self.rng.below(16) {
            0..=5 => self.buy(),
            6 => {
                self.pay();
                self.seen.lost += 1;
            }
            7 | 8 => self.good_fails(),
            9 | 10 => self.answer_is_lost(),
            11 => self.vendor_stops_before_it_stores_the_delivery(),
            12 | 13 => self.send_again(),
            14 => self.checkpoint(),
            _ => self.top_up(),
        }
        self.abort();
    }

    /// The client pays for something new; the answer of the vendor is still to come.
    fn pay(&mut self) -> (Payment, Order) {
        loop {
            let units = 1 + u32::try_from(self.rng.below(u64::from(MAX_UNITS))).unwrap();
            self.items += 1;
            let world = &mut self.world;
            let item = item(self.items);
            match world.payer.pay(
                &world.domain,
                &world.key,
                &mut world.chain,
                item,
                units,
                world.now,
            ) {
                Ok(prepared) => {
                    let (payer, payment) = prepared.send();
                    world.payer = payer;
                    return (payment, world.order(self.items, units));
                }
                Err(PayError::Exhausted { .. }) => self.top_up(),
                Err(PayError::TooManyInFlight { .. }) => panic!("a run is too short for that"),
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// The vendor accepts, perhaps after a word about where it stands; answers the order that it accepted.
    fn accept(&mut self, payment: Payment, order: Order) -> Accepted {
        let (mut payment, mut order) = (payment, order);
        for _ in 0..5 {
            match self.world.accept(payment, order) {
                Ok(accepted) => {
                    self.world.store(&accepted);
                    return accepted;
                }
                // The answer to the last payment was lost: the refusal's tag says which one it was.
                Err(Refusal::IndexBackwards { tag, .. } | Refusal::AlreadyDelivered { tag, .. }) => {
                    self.world.payer = self.world.payer.acknowledge(tag).unwrap();
                    (payment, order) = self.pay();
                }
                Err(Refusal::PaysTooLittle { .. }) => {
                    // As above, after a jump.
                    let tag = self.world.seller.delivered.tag;
                    self.world.payer = self.world.payer.acknowledge(tag).unwrap();
                    (payment, order) = self.pay();
                }
                Err(Refusal::CheckpointNeeded { .. }) => self.checkpoint_revealed(),
                Err(other) => panic!("{other}"),
            }
        }
        panic!(
            "the two do not come together: {:?}",
            self.world.accept(payment, order)
        );
    }

    fn buy(&mut self) {
        let (payment, order) = self.pay();
        let accepted = self.accept(payment, order);
        self.finish(accepted);
    }

    fn finish(&mut self, accepted: Accepted) {
        let tag = accepted.payment().tag;
        self.world.deliver(accepted);
        self.world.payer = self.world.payer.acknowledge(tag).unwrap();
        self.seen.delivered += 1;
    }

    fn good_fails(&mut self) {
        let (payment, order) = self.pay();
        let accepted = self.accept(payment, order);
        self.world.seller = accepted.failed().channel;
        self.seen.failed += 1;
    }

    fn answer_is_lost(&mut self) {
        let (payment, order) = self.pay();
        let accepted = self.accept(payment, order);
        self.world.deliver(accepted);
        self.seen.answers_lost += 1;
    }

    /// The client has its good, and the vendor only knows that it accepted.
    fn vendor_stops_before_it_stores_the_delivery(&mut self) {
        let (payment, order) = self.pay();
        let accepted = self.accept(payment, order);
        self.world.payer = self.world.payer.acknowledge(accepted.payment().tag).unwrap();
        self.seen.crashes += 1;
    }

    /// The client sends one of its payments once more.
    fn send_again(&mut self) {
        let in_flight = self.world.payer.in_flight();
        if in_flight.is_empty() {
            return self.buy();
        }
        let at = usize::try_from(self.rng.below(in_flight.len() as u64)).unwrap();
        let tag = in_flight[at].payment.tag;
        let payment = self.world.payer.send_again(&mut self.world.chain, tag).unwrap();
        let units = payment.index.above(self.world.payer.acknowledged().index);
        let order = Order {
            item: payment.item,
            units,
            ..self.world.order(0, 1)
        };
        let accepted = self.accept(payment, order);
        self.finish(accepted);
        self.seen.retries += 1;
    }

    fn top_up(&mut self) {
        let longer = u32::try_from(1 + self.rng.below(9)).unwrap();
        let length = self.world.record().length().0 + longer + MAX_UNITS;
        self.world.top_up(length);
        self.seen.top_ups += 1;
    }

    fn checkpoint(&mut self) {
        let world = &self.world;
        if usize::try_from(world.seller.paid.chain).unwrap() + 1 < world.record().chains.len() {
            return self.checkpoint_revealed();
        }
        let acknowledged = world.payer.acknowledged().index;
        // What is acknowledged may be on the chain before the vendor's base.
        if acknowledged > world.seller.paid.base {
            self.world.checkpoint();
            self.seen.checkpoints += 1;
        }
    }

    fn checkpoint_revealed(&mut self) {
        let world = &mut self.world;
        let on_newest = usize::try_from(world.seller.paid.chain).unwrap() + 1 == world.record().chains.len();
        if world.payer.revealed() == Index::ZERO
            || (on_newest && world.payer.revealed() <= world.seller.paid.base)
        {
            return;
        }
        let signed = world
            .payer
            .checkpoint_revealed(&world.domain, &world.key, &mut world.chain)
            .unwrap();
        world.seller = world
            .seller
            .take_checkpoint(&world.domain, world.record(), &signed, None)
            .unwrap();
        world.signed.push(signed);
        self.seen.checkpoints += 1;
    }

    /// Everything stops here. What can the vendor prove?
    fn abort(&mut self) {
        let world = &self.world;
        let (paid, payer) = (world.seller.paid, &world.payer);
        let acknowledged = payer.acknowledged().index;
        assert!(
            provable(world, &world.seller),
            "the vendor cannot prove {}",
            paid.index
        );
        assert!(
            paid.index >= acknowledged,
            "acknowledged are {acknowledged}, the vendor can prove {}",
            paid.index
        );
        assert!(
            paid.index <= payer.revealed(),
            "revealed are {}, the vendor can prove {}",
            payer.revealed(),
            paid.index
        );
        assert!(
            payer.revealed().above(acknowledged) <= MAX_UNITS,
            "acknowledged are {acknowledged}, revealed are {}: more than one payment is at stake",
            payer.revealed()
        );
        // What was delivered is never more than what is paid, nor behind what is acknowledged but for one pending.
        let pending = world
            .seller
            .pending
            .map_or(world.seller.delivered.index, |payment| payment.index);
        assert!(
            world.seller.delivered.index <= paid.index
                && pending.max(world.seller.delivered.index) >= acknowledged
        );
        self.seen.credit += u64::from(paid.index > acknowledged && payer.in_flight().is_empty());
        self.seen.histories += 1;
    }

    /// The client gives the opener of what it acknowledged; every receipt up to there opens.
    fn open(&mut self) {
        if let Some(delivered) = self.world.seller.confirm() {
            self.world.receipts.push(delivered.receipt);
        }
        let world = &self.world;
        let opener = world.payer.opener();
        if opener.index == Index::ZERO {
            return;
        }
        let opened = open_receipts(&world.domain, &world.opening(), &world.receipts, &opener, 1);
        assert!(opened.ends_in_sigma0, "{:?}", opened.stopped);
    }
}

/// The contract's rule, by the shortest way: to a checkpoint that the client signed, or to the anchor of the word's chain.
fn provable(world: &World, seller: &VendorChannel) -> bool {
    let (paid, id) = (seller.paid, world.payer.id());
    let chain = &world.record().chains[usize::try_from(paid.chain).unwrap()].permit;
    if paid.index.0 > chain.length {
        return false;
    }
    let signed = world.signed.iter().rev().any(|signed| {
        signed.index() <= paid.index && walk(paid.word, id, paid.index.above(signed.index())) == signed.word()
    });
    signed || walk(paid.word, id, paid.index.0).0 == chain.anchor
}

fn runs(first: u64, histories: u64) -> Seen {
    let template = World::new(8);
    let mut total = Seen::default();
    let mut seed = first;
    while total.histories < histories {
        let mut run = Run::new(&template, seed);
        if seed.is_multiple_of(3) {
            run.world.policy.max_walk = 4;
        }
        let steps = 1 + run.rng.below(24);
        for _ in 0..steps {
            run.step();
        }
        if seed.is_multiple_of(16) {
            run.open();
        }
        let seen = run.seen;
        total.histories += seen.histories;
        total.delivered += seen.delivered;
        total.lost += seen.lost;
        total.failed += seen.failed;
        total.answers_lost += seen.answers_lost;
        total.crashes += seen.crashes;
        total.retries += seen.retries;
        total.top_ups += seen.top_ups;
        total.checkpoints += seen.checkpoints;
        total.credit += seen.credit;
        seed += 2;
    }
    total
}

/// C-3, as far as anything can go wrong off chain. `PROPTEST_CASES` above 100,000 asks for more histories.
#[test]
fn attack_abort_at_i_vendor_paid_i() {
    let deep = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(0u64);
    let each = HISTORIES.max(deep / 2);
    let seen = thread::scope(|scope| {
        let other = scope.spawn(|| runs(1, each));
        [runs(0, each), other.join().unwrap()]
    });
    println!("{seen:#?}");
    for seen in seen {
        let Seen {
            histories,
            delivered,
            lost,
            failed,
            answers_lost,
            crashes,
            retries,
            top_ups,
            checkpoints,
            credit,
        } = seen;
        assert!(histories >= 50_000);
        for (name, count) in [
            ("delivered", delivered),
            ("lost", lost),
            ("failed", failed),
            ("answers lost", answers_lost),
            ("crashes", crashes),
            ("retries", retries),
            ("top-ups", top_ups),
            ("checkpoints", checkpoints),
            ("credit left from a failed jump", credit),
        ] {
            assert!(count > 300, "only {count} of `{name}` in {histories} histories");
        }
    }
}
