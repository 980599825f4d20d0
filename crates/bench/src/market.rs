//! What the benchmarks pay with: one merchant and some payers, each with an escrow for 2^15 tickets of 1/128, the penalty
//! just adequate. Everything is the same in each run.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256, keccak256};
use chain::Mirror;
use eyre::{Result, eyre};
use merchant::ticket::{Merchant, Price};
use protocol::ticket::{
    Admission, Amount, BlockRef, Domain, Drawn, EscrowKey, EscrowRecord, EscrowView, Escrows, Issued, Nonce,
    Offer, Policy, Quote, Seconds, Seed, Session, SessionId, Status, Ticket, Timestamp, WinThreshold, Won,
    accept, odds, quote,
};
use storage::{ClaimStore, SeedStore, WinStore};

/// One ticket in so many wins.
pub const ONE_IN: u64 = 128;

const PRIZE: Amount = Amount(128_000_000);
const CAP: Nonce = Nonce(1 << 15);
/// More prizes than the tickets below the cap will win, as no claim is made.
const PRIZES: u64 = 1 << 10;

/// One merchant and its payers.
#[derive(Debug)]
pub struct Market {
    /// The contract.
    pub domain: Domain,
    /// The merchant's address.
    pub recipient: Address,
    /// What a payment costs.
    pub price: Price,
    /// What the merchant asks for.
    pub policy: Policy,
    /// When everything happens.
    pub now: Timestamp,
    /// Each payer's escrow.
    pub escrows: Vec<Escrow>,
}

/// An escrow with its key.
#[derive(Debug)]
pub struct Escrow {
    /// Signs its tickets.
    pub key: EscrowKey,
    /// What the chain says of it.
    pub record: EscrowRecord,
    /// The merchant's live session with it.
    pub session: Session,
}

impl Market {
    /// A market with so many payers.
    ///
    /// # Panics
    /// Never in practice: a hash is a private key.
    #[must_use]
    pub fn new(payers: u64) -> Self {
        let domain = Domain::new(31337, Address::repeat_byte(0xcc));
        let recipient = Address::repeat_byte(0xdd);
        let policy = Policy::default();
        let price = Price {
            asset: Address::ZERO,
            price: Amount(PRIZE.0 / u128::from(ONE_IN)),
            min_prize: PRIZE,
            max_prize: PRIZE,
        };
        let escrow = |number: u64| {
            let key = EscrowKey::from_bytes(&bytes32("escrow", number).0).expect("a hash is a private key");
            let record = record(bytes32("payer", number), &policy);
            let seed = Seed::new(bytes32("seed", 0).0);
            let id = SessionId { boot: 1, serial: 0 };
            let session = Session::derive(&domain, &seed, recipient, key.address(), id);
            Escrow { key, record, session }
        };
        Self {
            domain,
            recipient,
            price,
            policy,
            now: Timestamp(1_800_000_000),
            escrows: (0..payers).map(escrow).collect(),
        }
    }

    /// What a payment costs, for every escrow here.
    #[must_use]
    pub fn offer(&self) -> Offer {
        Offer {
            asset: self.price.asset,
            prize: PRIZE,
            win_threshold: WinThreshold::one_in(ONE_IN),
        }
    }

    /// A quote under an escrow's live session.
    #[must_use]
    pub fn quote(&self, escrow: usize) -> Quote {
        quote(
            &self.escrows[escrow].session,
            &self.offer(),
            &self.policy,
            Nonce(0),
        )
    }

    /// A good ticket under an escrow's live session.
    #[must_use]
    pub fn issue(&self, escrow: usize, nonce: u64) -> Ticket<Issued> {
        self.issue_for(&self.quote(escrow), escrow, nonce)
    }

    /// A good ticket for a quote.
    #[must_use]
    pub fn issue_for(&self, quote: &Quote, escrow: usize, nonce: u64) -> Ticket<Issued> {
        let (key, r2) = (&self.escrows[escrow].key, bytes32("r2", nonce));
        Ticket::issue(&self.domain, key, quote, r2, quote.expiry(self.now), Nonce(nonce))
    }

    /// Tickets of the first escrow of which exactly one in [`ONE_IN`] wins, the winners spread evenly.
    ///
    /// # Errors
    /// When the merchant refuses its own payers.
    pub fn tickets(&self, winners: usize) -> Result<Vec<Ticket<Issued>>> {
        let losers_each = ONE_IN as usize - 1;
        let (mut won, mut lost) = (Vec::new(), Vec::new());
        for nonce in 1..CAP.0 {
            let ticket = self.issue(0, nonce);
            match self.check(ticket.clone(), true)? {
                Drawn::Won(_) => won.push(ticket),
                Drawn::Lost(_) => lost.push(ticket),
            }
            if won.len() >= winners && lost.len() >= winners * losers_each {
                break;
            }
        }
        let mut losers = lost.into_iter();
        Ok(won
            .into_iter()
            .take(winners)
            .flat_map(|winner| {
                let mut run: Vec<_> = losers.by_ref().take(losers_each).collect();
                run.push(winner);
                run
            })
            .collect())
    }

    /// Winners of the first escrow.
    ///
    /// # Errors
    /// When there are not enough.
    pub fn winners(&self, count: usize) -> Result<Vec<Ticket<Won>>> {
        let mut won = Vec::new();
        for ticket in self.tickets(count)? {
            won.extend(self.check(ticket, true)?.won());
        }
        Ok(won)
    }

    /// Steps `accept` and `draw` for a ticket of the first escrow, as the merchant does them: every rule, the signature
    /// against the key that it knows from an earlier ticket (or not), the draw.
    ///
    /// # Errors
    /// When the ticket is refused.
    pub fn check(&self, ticket: Ticket<Issued>, key_known: bool) -> Result<Drawn> {
        let escrow = &self.escrows[0];
        let admission = Admission {
            session: &escrow.session,
            commitment_closed: false,
            offer: self.offer(),
            nonce_seen: false,
            nonce_floor: Nonce(0),
            now: self.now,
            policy: &self.policy,
            escrow: EscrowView {
                last_final: Some(&escrow.record),
                head: Some(&escrow.record),
            },
            mirror_age: Seconds(1),
            unclaimed_wins: 0,
            payer_unclaimed_wins: 0,
            known_key: key_known.then(|| escrow.key.public_key()),
        };
        Ok(accept(ticket, &admission)?.draw()?)
    }

    /// A merchant's process over this store, its mirror showing every escrow.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn merchant<S>(&self, store: S) -> Result<Arc<Merchant<S>>>
    where
        S: SeedStore + WinStore + ClaimStore + Clone + Send + Sync + 'static,
    {
        let block = BlockRef {
            number: 1,
            hash: bytes32("block", 1),
            timestamp: self.now,
        };
        let escrows: Escrows = self
            .escrows
            .iter()
            .map(|escrow| (escrow.key.address(), escrow.record.clone()))
            .collect();
        let mirror = Arc::new(Mirror::of(block, escrows));
        let seed = Seed::new(bytes32("seed", 0).0);
        Merchant::start(self.domain, self.recipient, self.policy, mirror, store, seed)
            .await
            .map_err(|error| eyre!(error))
    }
}

fn record(payer: B256, policy: &Policy) -> EscrowRecord {
    let max_threshold = WinThreshold::one_in(ONE_IN);
    EscrowRecord {
        payer: Address::from_word(payer),
        asset: Address::ZERO,
        prize: PRIZE,
        max_threshold,
        ticket_cap: CAP,
        balance: PRIZE.saturating_mul(PRIZES),
        penalty: odds::required_penalty(PRIZE, CAP, max_threshold, policy.epsilon),
        status: Status::Open,
        withdraw_at: None,
        cure_by: None,
        debt: U256::ZERO,
        earmarked: Amount::ZERO,
        earmark_until: Timestamp(0),
        pairs: BTreeMap::new(),
        debts: BTreeMap::new(),
    }
}

/// 32 bytes that look random, the same in each run.
fn bytes32(name: &str, number: u64) -> B256 {
    keccak256([name.as_bytes(), &number.to_be_bytes()].concat())
}
