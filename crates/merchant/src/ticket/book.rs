//! The merchant's memory: per escrow the live session, the nonces seen, the floor, and what is in flight. A ticket enters
//! the book before it is judged and leaves it settled or not at all, so that two copies of one ticket, or a ticket and a
//! claim that would bury it, can never both succeed. Nothing here waits; the lock is held for lookups only.
//!
//! What a crash takes with it is harmless: sessions die with the process (their boot number never comes back), so no ticket
//! of an earlier process is accepted again, and winners and floors are read back from the store.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use alloy_primitives::map::AddressMap;
use alloy_primitives::{Address, B256};
use parking_lot::Mutex;
use protocol::ticket::{
    Domain, EscrowPublicKey, Issued, Nonce, OrderId, Seconds, Seed, Session, SessionId, Ticket, Timestamp,
};
use storage::WinRecord;

/// Closed commitments remembered per escrow; only to name the refusal.
const CLOSED_KEPT: usize = 16;
/// Accepted nonces at or below the floor remembered per escrow, so that a payer whose answer was lost still gets its good.
const SEEN_KEPT: usize = 1024;

pub(crate) struct Book {
    domain: Domain,
    seed: Seed,
    recipient: Address,
    pages: Mutex<Pages>,
}

struct Pages {
    boot: u64,
    /// Sessions for payers who are not known yet.
    open: Sessions,
    escrows: AddressMap<Entry>,
    /// Escrows by the payer who opened them.
    payers: AddressMap<BTreeSet<Address>>,
}

struct Entry {
    sessions: Sessions,
    seen: BTreeMap<Nonce, Seen>,
    in_flight: BTreeMap<Nonce, Flight>,
    floor: Nonce,
    unclaimed: u32,
    key: Option<EscrowPublicKey>,
}

/// The session that is quoted, and the one before it, which is honoured until its secret is about to be revealed: a payer
/// at work learns the next commitment from an answer in time.
struct Sessions {
    live: Session,
    retiring: Option<(Session, Timestamp)>,
    closed: VecDeque<B256>,
}

/// An accepted ticket.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    digest: B256,
    order: OrderId,
    good: Good,
    won: bool,
}

/// What became of a ticket's good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Good {
    /// The payer has it.
    Delivered,
    /// A winner is stored, and its good may not have been delivered.
    Owed,
    /// There was none: the ticket is not consumed. It stays bound to its order all the same. The time of a refusal may tell
    /// that a ticket won, and a payer that could take its losers elsewhere would pay with them alone.
    Failed,
}

/// How far a ticket whose nonce is taken has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flight {
    /// Being judged, drawn and stored: it may be a winner.
    Judged,
    /// No claim can bury it: it lost, or is a stored winner, or is too low to become one. Its good may be on its way.
    Harmless,
}

/// What the book says to a ticket at the door.
pub(crate) enum Entered {
    /// To be judged with this; the nonce is taken until the place is settled or dropped.
    Judge(Box<Known>, Place),
    /// This very ticket was accepted for this very order, by an earlier process that may not have delivered.
    Again(Place),
    /// This very ticket was accepted for this very order, and the good was delivered. `public`: it is a winner that is being
    /// claimed, so that whoever reads the chain has it.
    Repeat { public: bool },
    /// A ticket with this nonce is being judged, or its good is on its way, right now.
    Busy,
}

/// What the merchant knows of a ticket's escrow.
pub(crate) struct Known {
    pub(crate) session: Session,
    pub(crate) commitment_closed: bool,
    pub(crate) nonce_seen: bool,
    pub(crate) floor: Nonce,
    pub(crate) unclaimed: u32,
    pub(crate) payer_unclaimed: u32,
    pub(crate) key: Option<EscrowPublicKey>,
}

/// A nonce taken while its ticket is judged and its good is on its way. Dropped unsettled, the nonce is free again.
pub(crate) struct Place {
    book: Arc<Book>,
    escrow: Address,
    nonce: Nonce,
    digest: B256,
    /// Whether the nonce was free, and so is this place's to free.
    owned: bool,
}

impl Book {
    pub(crate) fn new(domain: Domain, seed: Seed, recipient: Address, boot: u64) -> Arc<Self> {
        let open = Session::derive_open(&domain, &seed, recipient, SessionId { boot, serial: 0 });
        Arc::new(Self {
            domain,
            seed,
            recipient,
            pages: Mutex::new(Pages {
                boot,
                open: Sessions::new(open),
                escrows: AddressMap::default(),
                payers: AddressMap::default(),
            }),
        })
    }

    fn entry<'p>(&self, pages: &'p mut Pages, escrow: Address) -> &'p mut Entry {
        let boot = pages.boot;
        pages.escrows.entry(escrow).or_insert_with(|| Entry {
            sessions: Sessions::new(self.session(escrow, boot, 0)),
            seen: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            floor: Nonce::default(),
            unclaimed: 0,
            key: None,
        })
    }

    fn session(&self, escrow: Address, boot: u64, serial: u64) -> Session {
        let id = SessionId { boot, serial };
        Session::derive(&self.domain, &self.seed, self.recipient, escrow, id)
    }

    fn open_session(&self, boot: u64, serial: u64) -> Session {
        let id = SessionId { boot, serial };
        Session::derive_open(&self.domain, &self.seed, self.recipient, id)
    }

    /// The live session and floor of an escrow, for a quote. Only for escrows that exist: an entry is memory.
    pub(crate) fn quote(&self, escrow: Address) -> (Session, Nonce) {
        let mut pages = self.pages.lock();
        let entry = self.entry(&mut pages, escrow);
        (entry.sessions.live, entry.floor)
    }

    /// The live commitment for payers who are not known yet.
    pub(crate) fn open_commitment(&self) -> B256 {
        self.pages.lock().open.live.commitment()
    }

    /// A ticket enters. Only for escrows that exist: an entry is memory.
    pub(crate) fn enter(
        self: &Arc<Self>,
        ticket: &Ticket<Issued>,
        payer: Address,
        order: OrderId,
    ) -> Entered {
        let (escrow, nonce, digest) = (ticket.escrow(), ticket.nonce(), ticket.digest());
        let mut pages = self.pages.lock();
        let payer_unclaimed = pages.unclaimed_of(payer, escrow);
        let open = pages.open.find(ticket.commitment());
        let open_closed = pages.open.closed.contains(&ticket.commitment());
        let entry = self.entry(&mut pages, escrow);
        let seen = entry.seen.get(&nonce).copied();
        let same = seen.filter(|seen| (seen.digest, seen.order) == (digest, order));
        let commitment = ticket.commitment();
        let session = entry.sessions.find(commitment).or(open);
        if let Some(Seen { won, .. }) = same.filter(|seen| seen.good == Good::Delivered) {
            let public = won && session.is_none();
            return Entered::Repeat { public };
        }
        // Another ticket with this nonce may yet be refused: anybody can send one in a payer's name.
        if entry.in_flight.contains_key(&nonce) {
            return Entered::Busy;
        }
        let place = |owned| Place {
            book: Arc::clone(self),
            escrow,
            nonce,
            digest,
            owned,
        };
        if same.is_some_and(|seen| seen.good == Good::Owed) {
            entry.in_flight.insert(nonce, Flight::Harmless);
            return Entered::Again(place(true));
        }
        let known = Known {
            session: session.unwrap_or(entry.sessions.live),
            commitment_closed: open_closed || entry.sessions.closed.contains(&commitment),
            nonce_seen: seen.is_some() && same.is_none(),
            floor: entry.floor,
            unclaimed: entry.exposure(),
            payer_unclaimed,
            key: entry.key,
        };
        if !known.nonce_seen {
            // At or below the floor it will be refused: it must not hold up a claim meanwhile, as anybody can send it.
            let flight = if nonce <= entry.floor {
                Flight::Harmless
            } else {
                Flight::Judged
            };
            entry.in_flight.insert(nonce, flight);
        }
        let owned = !known.nonce_seen;
        Entered::Judge(Box::new(known), place(owned))
    }

    /// What was in the store when this process started: a winner without its outcome. `payer` as far as the mirror knows.
    pub(crate) fn restore_win(&self, win: &WinRecord, payer: Option<Address>) {
        let ticket = &win.ticket;
        let mut pages = self.pages.lock();
        if let Some(payer) = payer {
            pages.unclaimed_of(payer, ticket.escrow());
        }
        let entry = self.entry(&mut pages, ticket.escrow());
        entry.seen.insert(
            ticket.nonce(),
            Seen {
                digest: ticket.digest(),
                order: win.order,
                good: if win.delivered {
                    Good::Delivered
                } else {
                    Good::Owed
                },
                won: true,
            },
        );
        entry.unclaimed += 1;
    }

    /// Before winners with these commitments are claimed: their sessions are quoted no more, but are honoured for `grace`.
    /// True when that has passed for all of them.
    pub(crate) fn retire(
        &self,
        escrow: Address,
        commitments: &BTreeSet<B256>,
        now: Timestamp,
        grace: Seconds,
    ) -> bool {
        let mut pages = self.pages.lock();
        let boot = pages.boot;
        let open_next = self.open_session(boot, pages.open.live.id().serial + 1);
        let open = pages.open.retire(commitments, open_next, now, grace);
        let entry = self.entry(&mut pages, escrow);
        let next = self.session(escrow, boot, entry.sessions.live.id().serial + 1);
        entry.sessions.retire(commitments, next, now, grace) && open
    }

    /// Before winners with these nonces are claimed: raises the floor to the highest that can be. Winners at or above a nonce
    /// in flight stay out, as that one may win, too, and a higher nonce paid would bury it. Returns the highest nonce to
    /// claim, if any.
    pub(crate) fn raise_below_flight(
        &self,
        escrow: Address,
        nonces: impl Iterator<Item = Nonce>,
    ) -> Option<Nonce> {
        let mut pages = self.pages.lock();
        let entry = self.entry(&mut pages, escrow);
        let in_flight = entry.lowest_in_flight();
        let highest = nonces
            .filter(|nonce| in_flight.is_none_or(|lowest| *nonce < lowest))
            .max()?;
        entry.floor = entry.floor.max(highest);
        Some(highest)
    }

    /// Before their secrets are revealed: nothing is accepted under these commitments any more.
    pub(crate) fn close(&self, escrow: Address, commitments: &BTreeSet<B256>) {
        let mut pages = self.pages.lock();
        let boot = pages.boot;
        let open_next = self.open_session(boot, pages.open.live.id().serial + 1);
        pages
            .open
            .close(|commitment| commitments.contains(commitment), open_next);
        let entry = self.entry(&mut pages, escrow);
        let next = self.session(escrow, boot, entry.sessions.live.id().serial + 1);
        entry
            .sessions
            .close(|commitment| commitments.contains(commitment), next);
    }

    /// Whether a ticket under this commitment is known to its payer and this merchant alone: its session is not closed, so
    /// that no winner of it has been shown to the chain.
    pub(crate) fn is_secret(&self, escrow: Address, commitment: B256) -> bool {
        let pages = self.pages.lock();
        let own = pages.escrows.get(&escrow);
        let own = own.and_then(|entry| entry.sessions.find(commitment));
        own.or_else(|| pages.open.find(commitment)).is_some()
    }

    /// Another process of this merchant is about to claim winners of this escrow up to `floor`, some of them perhaps of
    /// sessions of this one: closes them all. False while a ticket at or below the floor is in flight: to be asked again.
    pub(crate) fn give_way(&self, escrow: Address, floor: Nonce) -> bool {
        let mut pages = self.pages.lock();
        let boot = pages.boot;
        let open_next = self.open_session(boot, pages.open.live.id().serial + 1);
        pages.open.close(|_| true, open_next);
        let entry = self.entry(&mut pages, escrow);
        let next = self.session(escrow, boot, entry.sessions.live.id().serial + 1);
        entry.sessions.close(|_| true, next);
        entry.floor = entry.floor.max(floor);
        entry.lowest_in_flight().is_none_or(|lowest| lowest > floor)
    }

    /// The process has a new number: all its sessions begin anew.
    pub(crate) fn restart(&self, boot: u64) {
        let mut pages = self.pages.lock();
        pages.boot = boot;
        pages.open = Sessions::new(self.open_session(boot, 0));
        for (escrow, entry) in &mut pages.escrows {
            entry.sessions = Sessions::new(self.session(*escrow, boot, 0));
        }
    }

    /// From now on this escrow's tickets need a nonce above this one.
    pub(crate) fn raise_floor(&self, escrow: Address, nonce: Nonce) {
        let mut pages = self.pages.lock();
        let entry = self.entry(&mut pages, escrow);
        entry.floor = entry.floor.max(nonce);
    }

    /// Winners of this escrow got their outcome.
    pub(crate) fn settled(&self, escrow: Address, count: u32) {
        let mut pages = self.pages.lock();
        let entry = self.entry(&mut pages, escrow);
        entry.unclaimed = entry.unclaimed.saturating_sub(count);
    }

    /// What all processes of this merchant have won and not been paid, by escrow.
    pub(crate) fn set_unclaimed(&self, mut unclaimed: HashMap<Address, u32>) {
        let mut pages = self.pages.lock();
        for (escrow, entry) in &mut pages.escrows {
            entry.unclaimed = unclaimed.remove(escrow).unwrap_or(0);
        }
        for (escrow, count) in unclaimed {
            self.entry(&mut pages, escrow).unclaimed = count;
        }
    }
}

impl Sessions {
    fn new(live: Session) -> Self {
        Self {
            live,
            retiring: None,
            closed: VecDeque::new(),
        }
    }

    fn find(&self, commitment: B256) -> Option<Session> {
        let all = [Some(self.live), self.retiring.map(|(session, _)| session)];
        all.into_iter()
            .flatten()
            .find(|session| session.commitment() == commitment)
    }

    fn retire(
        &mut self,
        commitments: &BTreeSet<B256>,
        next: Session,
        now: Timestamp,
        grace: Seconds,
    ) -> bool {
        let live = commitments.contains(&self.live.commitment());
        // With one retiring already, the live one is closed without: claims do not wait for a payer for ever.
        if live && self.retiring.is_none() {
            self.retiring = Some((std::mem::replace(&mut self.live, next), now));
        }
        self.retiring.is_none_or(|(session, since)| {
            !commitments.contains(&session.commitment()) || since.plus(grace) <= now
        })
    }

    fn close(&mut self, revealed: impl Fn(&B256) -> bool, next: Session) {
        if let Some((session, _)) = self.retiring.filter(|(old, _)| revealed(&old.commitment())) {
            self.closed.push_back(session.commitment());
            self.retiring = None;
        }
        if revealed(&self.live.commitment()) {
            self.closed.push_back(self.live.commitment());
            self.live = next;
        }
        while self.closed.len() > CLOSED_KEPT {
            self.closed.pop_front();
        }
    }
}

impl Entry {
    /// Unclaimed wins, those among them that are being stored. What is being judged counts: a loser is judged without
    /// waiting for anything, so that nearly all that is found so has won.
    fn exposure(&self) -> u32 {
        let judged = self
            .in_flight
            .values()
            .filter(|flight| **flight == Flight::Judged)
            .count();
        self.unclaimed
            .saturating_add(u32::try_from(judged).unwrap_or(u32::MAX))
    }

    /// The lowest nonce in flight that may be a winner's.
    fn lowest_in_flight(&self) -> Option<Nonce> {
        self.in_flight
            .iter()
            .find(|(_, flight)| **flight == Flight::Judged)
            .map(|(nonce, _)| *nonce)
    }
}

impl Pages {
    /// Unclaimed wins on all escrows of a payer, of which `escrow` is one.
    fn unclaimed_of(&mut self, payer: Address, escrow: Address) -> u32 {
        let own = self.payers.entry(payer).or_default();
        own.insert(escrow);
        own.iter()
            .filter_map(|escrow| self.escrows.get(escrow))
            .map(Entry::exposure)
            .fold(0, u32::saturating_add)
    }
}

impl Place {
    /// No claim needs to wait for the ticket any more, and it is no exposure: it lost, or is stored.
    pub(crate) fn harmless(&self) {
        if !self.owned {
            return; // the nonce is another's
        }
        let mut pages = self.book.pages.lock();
        let entry = self.book.entry(&mut pages, self.escrow);
        if let Some(flight) = entry.in_flight.get_mut(&self.nonce) {
            *flight = Flight::Harmless;
        }
    }

    /// The ticket is accepted. A `new_winner` is one that no earlier process had stored. Whatever became of its good, the
    /// same ticket is good for the same order only.
    pub(crate) fn settle(
        mut self,
        order: OrderId,
        (won, new_winner): (bool, bool),
        key: Option<EscrowPublicKey>,
        good: Good,
    ) {
        let book = Arc::clone(&self.book);
        let mut pages = book.pages.lock();
        let entry = book.entry(&mut pages, self.escrow);
        entry.in_flight.remove(&self.nonce);
        let seen = Seen {
            digest: self.digest,
            order,
            good,
            won,
        };
        entry.seen.insert(self.nonce, seen);
        entry.key = key.or(entry.key);
        if new_winner {
            entry.unclaimed += 1;
        }
        while entry.seen.len() > SEEN_KEPT {
            match entry.seen.first_key_value() {
                Some((nonce, _)) if *nonce <= entry.floor => entry.seen.pop_first(),
                _ => break, // above the floor every nonce is remembered
            };
        }
        self.owned = false;
    }

    /// The winner of an earlier process was given back by another one: it is no winner of ours any more.
    pub(crate) fn forget(self) {
        let mut pages = self.book.pages.lock();
        let entry = self.book.entry(&mut pages, self.escrow);
        // Another ticket may have this nonce, and was accepted.
        if entry
            .seen
            .get(&self.nonce)
            .is_some_and(|seen| seen.digest == self.digest)
        {
            entry.seen.remove(&self.nonce);
            entry.unclaimed = entry.unclaimed.saturating_sub(1);
        }
    }

    /// The good of a winner that was stored before could not be delivered after all, and it is no winner of ours any more.
    pub(crate) fn give_back(self, order: OrderId) {
        {
            let mut pages = self.book.pages.lock();
            let entry = self.book.entry(&mut pages, self.escrow);
            if entry.seen.contains_key(&self.nonce) {
                entry.unclaimed = entry.unclaimed.saturating_sub(1);
            }
        }
        self.settle(order, (true, false), None, Good::Failed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.owned {
            let mut pages = self.book.pages.lock();
            self.book
                .entry(&mut pages, self.escrow)
                .in_flight
                .remove(&self.nonce);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;
    use protocol::ticket::{EscrowKey, Quote, Seconds, Timestamp, WinThreshold};

    use super::*;

    const PAYER: Address = Address::repeat_byte(7);

    struct Stand {
        book: Arc<Book>,
        domain: Domain,
        key: EscrowKey,
    }

    fn stand() -> Stand {
        let domain = Domain::new(31337, Address::repeat_byte(1));
        let book = Book::new(domain, Seed::new([3; 32]), Address::repeat_byte(2), 1);
        let key = EscrowKey::from_bytes(&[5; 32]).expect("a key");
        Stand { book, domain, key }
    }

    impl Stand {
        fn any_quote(&self) -> Quote {
            let (session, floor) = self.book.quote(self.key.address());
            Quote {
                recipient: session.recipient(),
                commitment: session.commitment(),
                asset: Address::ZERO,
                prize: protocol::ticket::Amount(1),
                win_threshold: WinThreshold(U256::from(1)),
                price: protocol::ticket::Amount(1),
                ticket_life: Seconds::DAY,
                min_ticket_life: Seconds::HOUR,
                nonce_floor: floor,
            }
        }

        fn ticket(&self, nonce: u64, r2: u8) -> Ticket<Issued> {
            let quote = self.any_quote();
            let r2 = B256::repeat_byte(r2);
            Ticket::issue(&self.domain, &self.key, &quote, r2, Timestamp(1), Nonce(nonce))
        }

        fn enter(&self, ticket: &Ticket<Issued>, order: u8) -> Entered {
            self.book.enter(ticket, PAYER, OrderId(B256::repeat_byte(order)))
        }

        fn settle(&self, ticket: &Ticket<Issued>, order: u8, won: bool) {
            match self.enter(ticket, order) {
                Entered::Judge(_, place) => {
                    place.settle(
                        OrderId(B256::repeat_byte(order)),
                        (won, won),
                        Some(*self.key.public_key()),
                        Good::Delivered,
                    );
                }
                _ => panic!("expected to be judged"),
            }
        }

        /// Raises the floor as for a claim, and closes the live session.
        fn close(&self, nonces: &[u64]) -> Option<Nonce> {
            let escrow = self.key.address();
            let live = self.book.quote(escrow).0.commitment();
            let highest = self
                .book
                .raise_below_flight(escrow, nonces.iter().map(|nonce| Nonce(*nonce)));
            if highest.is_some() {
                self.book.close(escrow, &BTreeSet::from([live]));
            }
            highest
        }
    }

    #[test]
    fn two_copies_of_a_ticket_are_judged_once() {
        let stand = stand();
        let ticket = stand.ticket(1, 1);
        let Entered::Judge(known, place) = stand.enter(&ticket, 1) else {
            panic!("the first is judged")
        };
        assert!(!known.nonce_seen);
        assert!(matches!(stand.enter(&ticket, 1), Entered::Busy));
        drop(place); // refused: the nonce is free again
        stand.settle(&ticket, 1, false);
        assert!(
            matches!(stand.enter(&ticket, 1), Entered::Repeat { public: false }),
            "same ticket, same order"
        );
        let Entered::Judge(known, _place) = stand.enter(&ticket, 2) else {
            panic!("another order is judged")
        };
        assert!(known.nonce_seen, "one ticket buys one thing");
    }

    #[test]
    fn another_ticket_with_a_nonce_in_flight_waits_for_the_verdict() {
        let stand = stand();
        let (first, second) = (stand.ticket(1, 1), stand.ticket(1, 2));
        let Entered::Judge(_, place) = stand.enter(&first, 1) else {
            panic!("the first is judged")
        };
        assert!(matches!(stand.enter(&second, 2), Entered::Busy));
        assert!(matches!(stand.enter(&first, 1), Entered::Busy), "still in flight");
        drop(place); // refused: forged, say
        stand.settle(&second, 2, false);
        let Entered::Judge(known, _place) = stand.enter(&first, 1) else {
            panic!("judged, to be refused")
        };
        assert!(known.nonce_seen);
    }

    #[test]
    fn what_is_in_flight_counts_as_won() {
        let stand = stand();
        let Entered::Judge(known, _first) = stand.enter(&stand.ticket(1, 1), 1) else {
            panic!("judged")
        };
        assert_eq!(
            (known.unclaimed, known.payer_unclaimed),
            (0, 0),
            "a ticket does not count itself"
        );
        let Entered::Judge(known, _second) = stand.enter(&stand.ticket(2, 1), 2) else {
            panic!("judged")
        };
        assert_eq!((known.unclaimed, known.payer_unclaimed), (1, 1));
    }

    #[test]
    fn a_claim_stays_below_what_is_in_flight() {
        let stand = stand();
        let before = stand.book.quote(stand.key.address()).0;
        let Entered::Judge(_, place) = stand.enter(&stand.ticket(5, 1), 1) else {
            panic!("judged")
        };
        assert_eq!(stand.close(&[6, 9]), None, "both above the one in flight");
        assert_eq!(
            stand.book.quote(stand.key.address()).0,
            before,
            "nothing was closed"
        );
        assert_eq!(stand.close(&[3, 4, 9]), Some(Nonce(4)));
        let (session, floor) = stand.book.quote(stand.key.address());
        assert_eq!(floor, Nonce(4));
        assert_ne!(session.commitment(), before.commitment());
        let key = Some(*stand.key.public_key());
        place.settle(OrderId(B256::ZERO), (true, true), key, Good::Delivered);
        assert_eq!(stand.close(&[5, 9]), Some(Nonce(9)));
    }

    #[test]
    fn a_closed_commitment_is_known_as_closed() {
        let stand = stand();
        let ticket = stand.ticket(9, 1);
        stand.settle(&stand.ticket(1, 1), 1, true);
        stand.close(&[1]);
        let Entered::Judge(known, _) = stand.enter(&ticket, 2) else {
            panic!("judged")
        };
        assert!(known.commitment_closed);
        assert_eq!(
            (known.floor, known.unclaimed, known.payer_unclaimed),
            (Nonce(1), 1, 1)
        );
        stand.book.settled(stand.key.address(), 1);
        let Entered::Judge(known, _) = stand.enter(&stand.ticket(10, 1), 3) else {
            panic!("judged")
        };
        assert_eq!((known.commitment_closed, known.unclaimed), (false, 0));
    }

    #[test]
    fn memory_is_bounded_below_the_floor() {
        let stand = stand();
        for nonce in 1..=(SEEN_KEPT as u64 + 50) {
            stand.settle(&stand.ticket(nonce, 1), 1, false);
        }
        let seen = |stand: &Stand| stand.book.pages.lock().escrows[&stand.key.address()].seen.len();
        assert_eq!(
            seen(&stand),
            SEEN_KEPT + 50,
            "above the floor every nonce is remembered"
        );
        stand.close(&[SEEN_KEPT as u64]);
        stand.settle(&stand.ticket(SEEN_KEPT as u64 + 51, 1), 1, false);
        assert_eq!(seen(&stand), SEEN_KEPT);
    }

    /// Anybody can send tickets in a payer's name, and a payer tickets that will be refused: neither keeps winners from being
    /// claimed until they expire.
    #[test]
    fn attack_tickets_below_the_floor_hold_up_no_claim() {
        let stand = stand();
        stand.settle(&stand.ticket(9, 1), 1, true);
        let Entered::Judge(_, before) = stand.enter(&stand.ticket(3, 1), 2) else {
            panic!("judged")
        };
        assert_eq!(stand.close(&[9]), None, "it may win");
        drop(before);
        // What the claimer does with a winner that has settled.
        stand.book.raise_floor(stand.key.address(), Nonce(9));
        let Entered::Judge(known, _refused) = stand.enter(&stand.ticket(4, 1), 3) else {
            panic!("judged, to be refused")
        };
        assert_eq!((known.floor, known.unclaimed), (Nonce(9), 1));
        assert_eq!(stand.close(&[9]), Some(Nonce(9)));
    }

    /// A payer holds back the delivery of a stored winner again and again.
    #[test]
    fn attack_a_winner_asked_for_again_holds_up_no_claim_and_counts_once() {
        let stand = stand();
        let (owed, order) = (stand.ticket(5, 1), OrderId(B256::repeat_byte(1)));
        let Entered::Judge(_, place) = stand.enter(&owed, 1) else {
            panic!("judged")
        };
        place.settle(order, (true, true), None, Good::Owed);
        let Entered::Again(place) = stand.enter(&owed, 1) else {
            panic!("its good is owed")
        };
        let Entered::Judge(known, _) = stand.enter(&stand.ticket(6, 1), 2) else {
            panic!("judged")
        };
        assert_eq!(known.unclaimed, 1);
        assert_eq!(stand.close(&[9]), Some(Nonce(9)));
        // Given back, it still buys nothing else.
        place.give_back(order);
        let Entered::Judge(known, _) = stand.enter(&owed, 7) else {
            panic!("judged, to be refused")
        };
        assert_eq!((known.nonce_seen, known.unclaimed), (true, 0));
    }

    /// Who reads the chain has the winning tickets of claims, with their signatures.
    #[test]
    fn attack_a_claimed_winner_proves_nothing_any_more() {
        let stand = stand();
        let (winner, loser) = (stand.ticket(1, 1), stand.ticket(2, 1));
        stand.settle(&winner, 1, true);
        stand.settle(&loser, 2, false);
        let public = |ticket, order| match stand.enter(ticket, order) {
            Entered::Repeat { public } => public,
            _ => panic!("a repeat"),
        };
        let escrow = stand.key.address();
        assert!(!public(&winner, 1) && stand.book.is_secret(escrow, winner.commitment()));
        stand.close(&[1]);
        assert!(public(&winner, 1) && !stand.book.is_secret(escrow, winner.commitment()));
        assert!(!public(&loser, 2), "nobody else has seen it");
    }

    /// A claim waits for what may have won, not for goods that are on their way.
    #[test]
    fn a_loser_whose_good_is_on_its_way_holds_up_no_claim_and_is_no_exposure() {
        let stand = stand();
        let Entered::Judge(_, place) = stand.enter(&stand.ticket(5, 1), 1) else {
            panic!("judged")
        };
        assert_eq!(stand.close(&[9]), None);
        place.harmless();
        assert_eq!(stand.close(&[9]), Some(Nonce(9)));
        let Entered::Judge(known, _) = stand.enter(&stand.ticket(10, 1), 2) else {
            panic!("judged")
        };
        assert_eq!(known.unclaimed, 0);
        assert!(
            matches!(stand.enter(&stand.ticket(5, 1), 1), Entered::Busy),
            "its good is on its way"
        );
    }

    /// A payer at work learns the next commitment from an answer before the one it has is closed.
    #[test]
    fn a_retiring_session_is_honoured_and_not_quoted() {
        let stand = stand();
        let escrow = stand.key.address();
        let old = stand.book.quote(escrow).0.commitment();
        let held = stand.ticket(7, 1);
        let revealed = BTreeSet::from([old]);
        let retire = |now| stand.book.retire(escrow, &revealed, Timestamp(now), Seconds(3));
        assert!(!retire(100));
        let next = stand.book.quote(escrow).0.commitment();
        assert_ne!(next, old);
        assert!(!retire(102));
        let Entered::Judge(known, place) = stand.enter(&held, 1) else {
            panic!("judged")
        };
        assert_eq!(
            (known.session.commitment(), known.commitment_closed),
            (old, false)
        );
        drop(place);
        assert!(retire(103));
        stand.book.close(escrow, &revealed);
        let Entered::Judge(known, _) = stand.enter(&held, 1) else {
            panic!("judged")
        };
        assert_eq!(
            (known.session.commitment(), known.commitment_closed),
            (next, true)
        );
        assert_eq!(
            stand.book.quote(escrow).0.commitment(),
            next,
            "it stays as it was"
        );
    }

    /// The terms of a first 402 are for nobody in particular; a claim under them ends them for all.
    #[test]
    fn a_session_for_anybody_closes_when_one_of_its_winners_is_claimed() {
        let stand = stand();
        let (escrow, other) = (stand.key.address(), Address::repeat_byte(0x77));
        let open = stand.book.open_commitment();
        let revealed = BTreeSet::from([open]);
        assert!(!stand.book.retire(escrow, &revealed, Timestamp(100), Seconds(3)));
        let next = stand.book.open_commitment();
        assert_ne!(open, next);
        // A winner of the old one is claimed on one escrow; then nobody's ticket is taken under it.
        stand.book.close(other, &revealed);
        let key = &stand.key;
        let quote = Quote {
            commitment: open,
            ..stand.any_quote()
        };
        let ticket = Ticket::issue(&stand.domain, key, &quote, B256::ZERO, Timestamp(1), Nonce(1));
        let Entered::Judge(known, _) = stand.enter(&ticket, 1) else {
            panic!("judged")
        };
        assert!(known.commitment_closed && known.session.commitment() != open);
        let quote = Quote {
            commitment: next,
            ..stand.any_quote()
        };
        let ticket = Ticket::issue(&stand.domain, key, &quote, B256::ZERO, Timestamp(1), Nonce(2));
        let Entered::Judge(known, _) = stand.enter(&ticket, 1) else {
            panic!("judged")
        };
        assert!(known.session.commitment() == next && known.session.serves(escrow));
    }

    /// Another process claims up to a nonce: this one's sessions close, and its flights below are waited for.
    #[test]
    fn giving_way_closes_everything_and_waits_for_flights() {
        let stand = stand();
        let escrow = stand.key.address();
        let (own, open) = (
            stand.book.quote(escrow).0.commitment(),
            stand.book.open_commitment(),
        );
        let Entered::Judge(_, place) = stand.enter(&stand.ticket(5, 1), 1) else {
            panic!("judged")
        };
        assert!(!stand.book.give_way(escrow, Nonce(9)));
        assert!(stand.book.give_way(escrow, Nonce(4)), "that is below");
        drop(place);
        assert!(stand.book.give_way(escrow, Nonce(9)));
        let (session, floor) = stand.book.quote(escrow);
        assert_eq!(floor, Nonce(9));
        assert!(session.commitment() != own && stand.book.open_commitment() != open);
        stand.book.restart(2);
        assert_eq!(stand.book.quote(escrow).0.id(), SessionId { boot: 2, serial: 0 });
    }
}
