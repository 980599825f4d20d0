//! The merchant's memory: per escrow the live session, the nonces seen, the floor, and what is in flight. A ticket enters
//! the book before it is judged and leaves it settled or not at all, so that two copies of one ticket, or a ticket and a
//! claim that would bury it, can never both succeed. Nothing here waits; the lock is held for lookups only.
//!
//! What a crash takes with it is harmless: sessions die with the process (their boot number never comes back), so no ticket
//! of an earlier process is accepted again, and winners and floors are read back from the store.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use alloy_primitives::{Address, B256};
use parking_lot::Mutex;
use protocol::ticket::{Domain, EscrowPublicKey, Issued, Nonce, OrderId, Seed, Session, SessionId, Ticket};
use storage::WinRecord;

/// Closed commitments remembered per escrow; only to name the refusal.
const CLOSED_KEPT: usize = 16;
/// Accepted nonces at or below the floor remembered per escrow, so that a payer whose answer was lost still gets its good.
const SEEN_KEPT: usize = 1024;

pub(crate) struct Book {
    domain: Domain,
    seed: Seed,
    recipient: Address,
    boot: u64,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    escrows: HashMap<Address, Entry>,
    /// Escrows by the payer who opened them.
    payers: HashMap<Address, BTreeSet<Address>>,
}

struct Entry {
    session: Session,
    closed: VecDeque<B256>,
    seen: BTreeMap<Nonce, Seen>,
    in_flight: BTreeSet<Nonce>,
    floor: Nonce,
    unclaimed: u32,
    key: Option<EscrowPublicKey>,
}

/// An accepted ticket.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    digest: B256,
    order: OrderId,
}

/// What the book says to a ticket at the door.
pub(crate) enum Entered {
    /// To be judged with this; the nonce is taken until the place is settled or dropped.
    Judge(Box<Known>, Place),
    /// This very ticket was accepted for this very order: the same good again.
    Repeat,
    /// A ticket with this nonce is being judged right now.
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

/// A nonce taken while its ticket is judged. Dropped unsettled, the nonce is free again.
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
        Arc::new(Self {
            domain,
            seed,
            recipient,
            boot,
            pages: Mutex::default(),
        })
    }

    fn entry<'p>(&self, pages: &'p mut Pages, escrow: Address) -> &'p mut Entry {
        pages.escrows.entry(escrow).or_insert_with(|| Entry {
            session: self.session(escrow, 0),
            closed: VecDeque::new(),
            seen: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            floor: Nonce::default(),
            unclaimed: 0,
            key: None,
        })
    }

    fn session(&self, escrow: Address, serial: u64) -> Session {
        Session::derive(
            &self.domain,
            &self.seed,
            self.recipient,
            escrow,
            SessionId {
                boot: self.boot,
                serial,
            },
        )
    }

    /// The live session and floor of an escrow, for a quote. Only for escrows that exist: an entry is memory.
    pub(crate) fn quote(&self, escrow: Address) -> (Session, Nonce) {
        let mut pages = self.pages.lock();
        let entry = self.entry(&mut pages, escrow);
        (entry.session, entry.floor)
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
        let entry = self.entry(&mut pages, escrow);
        if entry.seen.get(&nonce) == Some(&Seen { digest, order }) {
            return Entered::Repeat;
        }
        // Another ticket with this nonce may yet be refused: anybody can send one in a payer's name.
        if entry.in_flight.contains(&nonce) {
            return Entered::Busy;
        }
        let nonce_seen = entry.seen.contains_key(&nonce);
        let known = Known {
            session: entry.session,
            commitment_closed: entry.closed.contains(&ticket.commitment()),
            nonce_seen,
            floor: entry.floor,
            unclaimed: entry.exposure(),
            payer_unclaimed,
            key: entry.key,
        };
        if !nonce_seen {
            entry.in_flight.insert(nonce);
        }
        Entered::Judge(
            Box::new(known),
            Place {
                book: Arc::clone(self),
                escrow,
                nonce,
                digest,
                owned: !nonce_seen,
            },
        )
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
            },
        );
        entry.unclaimed += 1;
    }

    /// What was in the store when this process started: the highest nonce of this escrow in any claim.
    pub(crate) fn restore_floor(&self, escrow: Address, floor: Nonce) {
        let mut pages = self.pages.lock();
        let entry = self.entry(&mut pages, escrow);
        entry.floor = entry.floor.max(floor);
    }

    /// Before winners with these nonces are claimed: raises the floor to the highest that can be, and closes the session,
    /// whose `r1` the claim will reveal. Winners at or above a nonce in flight stay out, as that one may win, too, and a
    /// higher nonce paid would bury it. Returns the highest nonce to claim, if any.
    pub(crate) fn close(&self, escrow: Address, nonces: impl Iterator<Item = Nonce>) -> Option<Nonce> {
        let mut pages = self.pages.lock();
        let entry = self.entry(&mut pages, escrow);
        let in_flight = entry.in_flight.first().copied();
        let highest = nonces
            .filter(|nonce| in_flight.is_none_or(|lowest| *nonce < lowest))
            .max()?;
        entry.floor = entry.floor.max(highest);
        let serial = entry.session.id().serial + 1;
        entry.closed.push_back(entry.session.commitment());
        if entry.closed.len() > CLOSED_KEPT {
            entry.closed.pop_front();
        }
        entry.session = self.session(escrow, serial);
        Some(highest)
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
}

impl Entry {
    /// Unclaimed wins, those among them that are being stored. What is in flight counts: a loser is judged without
    /// waiting for anything, so that nearly all that is found in flight has won.
    fn exposure(&self) -> u32 {
        self.unclaimed
            .saturating_add(u32::try_from(self.in_flight.len()).unwrap_or(u32::MAX))
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
    /// The ticket is accepted; if it won, it is stored.
    pub(crate) fn settle(mut self, order: OrderId, won: bool, key: EscrowPublicKey) {
        let book = Arc::clone(&self.book);
        let mut pages = book.pages.lock();
        let entry = book.entry(&mut pages, self.escrow);
        entry.in_flight.remove(&self.nonce);
        entry.seen.insert(
            self.nonce,
            Seen {
                digest: self.digest,
                order,
            },
        );
        entry.key = Some(key);
        if won {
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
        fn ticket(&self, nonce: u64, r2: u8) -> Ticket<Issued> {
            let (session, floor) = self.book.quote(self.key.address());
            let quote = Quote {
                recipient: session.recipient(),
                commitment: session.commitment(),
                asset: Address::ZERO,
                prize: protocol::ticket::Amount(1),
                win_threshold: WinThreshold(U256::from(1)),
                price: protocol::ticket::Amount(1),
                ticket_life: Seconds::DAY,
                min_ticket_life: Seconds::HOUR,
                nonce_floor: floor,
            };
            let r2 = B256::repeat_byte(r2);
            Ticket::issue(&self.domain, &self.key, &quote, r2, Timestamp(1), Nonce(nonce))
        }

        fn enter(&self, ticket: &Ticket<Issued>, order: u8) -> Entered {
            self.book.enter(ticket, PAYER, OrderId(B256::repeat_byte(order)))
        }

        fn settle(&self, ticket: &Ticket<Issued>, order: u8, won: bool) {
            match self.enter(ticket, order) {
                Entered::Judge(_, place) => {
                    place.settle(OrderId(B256::repeat_byte(order)), won, *self.key.public_key());
                }
                _ => panic!("expected to be judged"),
            }
        }

        fn close(&self, nonces: &[u64]) -> Option<Nonce> {
            self.book
                .close(self.key.address(), nonces.iter().map(|nonce| Nonce(*nonce)))
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
            matches!(stand.enter(&ticket, 1), Entered::Repeat),
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
        place.settle(OrderId(B256::ZERO), true, *stand.key.public_key());
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
}
