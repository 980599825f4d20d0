//! The three messages under loss, duplication and crashes at every position, exhaustively: every state that two honest
//! wallets and a bad channel can get into is visited, with the real payer, payee and encoding in it. Two parties each have
//! what they know and what they saved; a crash leaves what was saved; a component keeps what it was told.
//!
//! O1 never both hold: once the payee has the money, the payer can spend the coin no more.
//! O2 never both lose: payer's, payee's and what is under way are together what the coin was, and every state has a way on
//!    to one in which one of them has it and both know.

use std::collections::{BTreeMap, HashMap, VecDeque};

use alloy_primitives::Address;
use micropay_protocol::offline::{
    AnyPayer, Credited, LogHead, Path, Payee, Payer, PayerPolicy, SignedAcceptance, SignedInvoice,
    SignedRejection, Step, Waiting,
};

use crate::world::{Device, NOW, Shop, domain};

const COIN: u128 = 1_000;
const PRICE: u128 = 300;

const INVOICE: u8 = 1;
const PAYMENT: u8 = 2;
const ACCEPTANCE: u8 = 4;
const REJECTION: u8 = 8;

/// An encoded state, by number.
type Id = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct State {
    payer: Id,
    payer_saved: Id,
    extended: bool,
    payee: Id,
    payee_saved: Id,
    channel: u8,
}

/// What can happen in each state.
type Edges = BTreeMap<State, Vec<(&'static str, State)>>;

/// The real code, each step of it done once for each state that it can be done in.
struct Lab {
    payer: Device,
    payee: Device,
    invoice: SignedInvoice,
    before: LogHead,
    after: Option<LogHead>,
    seen: Vec<Vec<u8>>,
    steps: HashMap<(Id, &'static str, bool), Option<Id>>,
}

const WAITING: &[u8] = b"waiting";
const REJECTED: &[u8] = b"rejected";

impl Lab {
    fn new(kind: fn(&str) -> Device) -> Self {
        let payer = kind("a").funded(COIN);
        let mut payee = kind("bb");
        let invoice = payee.invoice(PRICE, NOW);
        Self {
            before: payer.head,
            after: None,
            payer,
            payee,
            invoice,
            seen: Vec::new(),
            steps: HashMap::new(),
        }
    }

    fn id(&mut self, bytes: Vec<u8>) -> Id {
        if let Some(id) = self.seen.iter().position(|seen| *seen == bytes) {
            return id;
        }
        self.seen.push(bytes);
        self.seen.len() - 1
    }

    fn read(&self, id: Id) -> AnyPayer {
        AnyPayer::decode(&domain(), &self.seen[id]).unwrap()
    }

    fn credited(&self, id: Id) -> Option<Payee<Credited>> {
        let bytes = &self.seen[id];
        (bytes != WAITING && bytes != REJECTED).then(|| Payee::decode(&domain(), bytes).unwrap())
    }

    /// What a step of the payer makes of a state, if it can be done there.
    fn payer_step(&mut self, id: Id, step: &'static str, extended: bool) -> Option<Id> {
        if let Some(known) = self.steps.get(&(id, step, extended)) {
            return *known;
        }
        let next = self.payer_step_anew(self.read(id), step, extended);
        let next = next.map(|next| self.id(next.encode(&domain())));
        self.steps.insert((id, step, extended), next);
        next
    }

    fn payer_step_anew(&mut self, payer: AnyPayer, step: &str, extended: bool) -> Option<AnyPayer> {
        let domain = domain();
        Some(match (payer, step) {
            (AnyPayer::Idle(payer), "reserve") => payer
                .reserve(&domain, &self.invoice, &PayerPolicy::default(), NOW)
                .ok()?
                .into(),
            (AnyPayer::Reserved(payer), "abort") => payer.abort().into(),
            (AnyPayer::Reserved(payer), "rejected") => {
                payer.rejected(&domain, &self.rejection()).unwrap().into()
            }
            (AnyPayer::Reserved(payer), "commit") => payer.commit(&domain, NOW).unwrap().into(),
            (AnyPayer::Chosen(payer), "prove") => {
                let mut device = self.payer.clone();
                device.head = if extended {
                    self.after.unwrap()
                } else {
                    self.before
                };
                match payer.next_step(&domain, device.component_head()).unwrap() {
                    Step::Extend(_) => return None,
                    step => {
                        let proof = device.perform(step).unwrap();
                        payer.prove(&domain, proof).unwrap().into()
                    }
                }
            }
            (AnyPayer::Committed(payer), "accepted") => {
                payer.accepted(&domain, &self.acceptance()).unwrap().next().into()
            }
            _ => return None,
        })
    }

    /// What the component must do before it can prove.
    fn extend(&mut self, id: Id) -> bool {
        let AnyPayer::Chosen(payer) = self.read(id) else {
            return false;
        };
        match payer.next_step(&domain(), self.payer.index.map(|_| self.before)) {
            Ok(Step::Extend(entry)) => {
                let after = self.before.extended(&entry);
                assert!(
                    self.after.is_none_or(|known| known == after),
                    "one transfer, one entry"
                );
                self.after = Some(after);
                true
            }
            _ => false,
        }
    }

    fn payment(&self) -> Path {
        self.seen
            .iter()
            .find_map(|bytes| match AnyPayer::decode(&domain(), bytes) {
                Ok(AnyPayer::Committed(payer)) => Some(payer.payment().clone()),
                _ => None,
            })
            .unwrap()
    }

    fn acceptance(&self) -> SignedAcceptance {
        let credited = (0..self.seen.len()).find_map(|id| {
            let bytes = &self.seen[id];
            Payee::<Credited>::decode(&domain(), bytes).ok()
        });
        self.payee.accept(&credited.unwrap())
    }

    fn rejection(&self) -> SignedRejection {
        let (_, rejection) = Payee::<Waiting>::new(self.invoice.invoice).reject(&domain(), NOW);
        SignedRejection {
            rejection,
            signature: self
                .payee
                .key
                .sign(domain().rejection_digest(&rejection).as_slice()),
        }
    }

    /// What the payment makes of the payee.
    fn receive(&mut self, id: Id) -> Id {
        if let Some(known) = self.steps.get(&(id, "receive", false)) {
            return known.unwrap();
        }
        let payment = self.payment();
        let waiting = Payee::<Waiting>::new(self.invoice.invoice);
        let shop = Shop::new();
        let credited = match self.credited(id) {
            Some(credited) => {
                assert!(credited.again(&domain(), &payment).is_ok());
                credited
            }
            None if self.seen[id] == WAITING => waiting.receive(&domain(), &payment, &shop.view()).unwrap(),
            None => {
                let (rejected, _) = waiting.reject(&domain(), NOW);
                rejected.receive(&domain(), &payment, &shop.view()).unwrap()
            }
        };
        let next = self.id(credited.encode(&domain()));
        self.steps.insert((id, "receive", false), Some(next));
        next
    }

    fn is_chosen(&self, id: Id) -> bool {
        matches!(self.read(id), AnyPayer::Chosen(_))
    }

    fn is_committed(&self, id: Id) -> bool {
        matches!(self.read(id), AnyPayer::Committed(_))
    }

    /// What the payer could still give to somebody else.
    fn payer_holds(&self, id: Id) -> u128 {
        self.read(id).wallet().balance(&domain(), Address::ZERO).0
    }

    fn next(&mut self, state: State) -> Vec<(&'static str, State)> {
        let mut next = Vec::new();
        let State {
            payer,
            payer_saved,
            extended,
            payee,
            payee_saved,
            channel,
        } = state;
        let waiting = self.seen[payee] == WAITING;
        let is_credited = self.credited(payee).is_some();
        // The channel: loses, and delivers with or without keeping a copy (below).
        for bit in [INVOICE, PAYMENT, ACCEPTANCE, REJECTION] {
            if channel & bit != 0 {
                next.push((
                    "lose",
                    State {
                        channel: channel & !bit,
                        ..state
                    },
                ));
            }
        }
        // Saving, and crashing.
        next.push((
            "payer saves",
            State {
                payer_saved: payer,
                ..state
            },
        ));
        next.push((
            "payee saves",
            State {
                payee_saved: payee,
                ..state
            },
        ));
        next.push((
            "payer crashes",
            State {
                payer: payer_saved,
                ..state
            },
        ));
        next.push((
            "payee crashes",
            State {
                payee: payee_saved,
                ..state
            },
        ));
        // The payer. The component is touched, and anything released, only when all is saved.
        let mut step = |lab: &mut Self, name, needs: u8| {
            if channel & needs == needs
                && let Some(to) = lab.payer_step(payer, name, extended)
            {
                next.push((name, State { payer: to, ..state }));
            }
        };
        step(self, "reserve", INVOICE);
        step(self, "abort", 0);
        step(self, "rejected", REJECTION);
        step(self, "commit", 0);
        if is_credited || channel & ACCEPTANCE != 0 {
            step(self, "accepted", ACCEPTANCE);
        }
        if payer == payer_saved && self.is_chosen(payer) {
            if !extended && self.extend(payer) {
                next.push((
                    "extend",
                    State {
                        extended: true,
                        ..state
                    },
                ));
            }
            if let Some(to) = self.payer_step(payer, "prove", extended) {
                next.push(("prove", State { payer: to, ..state }));
            }
        }
        if payer == payer_saved && self.is_committed(payer) {
            next.push((
                "pay",
                State {
                    channel: channel | PAYMENT,
                    ..state
                },
            ));
        }
        // The payee.
        if waiting {
            next.push((
                "ask",
                State {
                    channel: channel | INVOICE,
                    ..state
                },
            ));
            let to = self.id(REJECTED.to_vec());
            next.push(("reject", State { payee: to, ..state }));
        }
        if channel & PAYMENT != 0 {
            let to = self.receive(payee);
            next.push(("receive", State { payee: to, ..state }));
        }
        if payee == payee_saved && self.seen[payee] == REJECTED {
            next.push((
                "say no",
                State {
                    channel: channel | REJECTION,
                    ..state
                },
            ));
        }
        if payee == payee_saved && is_credited {
            next.push((
                "accept",
                State {
                    channel: channel | ACCEPTANCE,
                    ..state
                },
            ));
        }
        next
    }

    fn explore(&mut self) -> (Edges, State) {
        let payer = AnyPayer::from(Payer::new(self.payer.wallet.clone())).encode(&domain());
        let (payer, payee) = (self.id(payer), self.id(WAITING.to_vec()));
        let start = State {
            payer,
            payer_saved: payer,
            extended: false,
            payee,
            payee_saved: payee,
            channel: 0,
        };
        let mut edges = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(state) = queue.pop_front() {
            if edges.contains_key(&state) {
                continue;
            }
            let next = self.next(state);
            queue.extend(next.iter().map(|(_, to)| *to));
            edges.insert(state, next);
        }
        (edges, start)
    }
}

#[test]
fn message_loss_all_positions() {
    let mut all_crashes = 0;
    for (name, kind) in [
        ("SIGNATURE", Device::signature as fn(&str) -> Device),
        ("LOG", Device::log),
    ] {
        let mut lab = Lab::new(kind);
        let (edges, start) = lab.explore();
        let holds: Vec<Option<u128>> = (0..lab.seen.len())
            .map(|id| {
                AnyPayer::decode(&domain(), &lab.seen[id])
                    .ok()
                    .map(|_| lab.payer_holds(id))
            })
            .collect();
        let credited: Vec<bool> = (0..lab.seen.len())
            .map(|id| Payee::<Credited>::decode(&domain(), &lab.seen[id]).is_ok())
            .collect();
        let mut crashes = 0;
        for (state, next) in &edges {
            crashes += next
                .iter()
                .filter(|(step, to)| step.ends_with("crashes") && to != state)
                .count();
            let (known, saved) = (holds[state.payer].unwrap(), holds[state.payer_saved].unwrap());
            let under_way = lab.is_committed(state.payer_saved) || lab.is_committed(state.payer);
            if credited[state.payee] || credited[state.payee_saved] {
                // O1: whatever the payer does or remembers, it is the same payment.
                assert_eq!(
                    (known, saved),
                    (COIN - PRICE, COIN - PRICE),
                    "O1 never both hold: {state:?}"
                );
            } else if known < COIN && saved < COIN {
                // O2, in sums: debited and not credited is under way, and can be sent again.
                assert!(under_way, "O2 never both lose: {state:?}");
            }
        }
        // O2, in ways: backwards from the good ends.
        let good = |state: &State| {
            let settled = state.payer == state.payer_saved && state.payee == state.payee_saved;
            let paid = credited[state.payee]
                && !lab.is_committed(state.payer)
                && holds[state.payer] == Some(COIN - PRICE);
            let unpaid = state.payer == start.payer && !credited[state.payee];
            settled && (paid || unpaid)
        };
        let mut before: BTreeMap<State, Vec<State>> = BTreeMap::new();
        for (from, next) in &edges {
            for (_, to) in next {
                before.entry(*to).or_default().push(*from);
            }
        }
        let mut queue: Vec<State> = edges.keys().filter(|state| good(state)).copied().collect();
        let mut reach: std::collections::BTreeSet<State> = queue.iter().copied().collect();
        while let Some(state) = queue.pop() {
            for from in before.get(&state).into_iter().flatten() {
                if reach.insert(*from) {
                    queue.push(*from);
                }
            }
        }
        let stuck = edges.keys().find(|state| !reach.contains(state));
        assert_eq!(stuck, None, "O2 every state has a way on");
        println!(
            "{name}: {} states, {crashes} crashes, {} payer and payee states",
            edges.len(),
            lab.seen.len()
        );
        all_crashes += crashes;
    }
    assert!(all_crashes >= 200, "{all_crashes} crashes that forget something");
}
