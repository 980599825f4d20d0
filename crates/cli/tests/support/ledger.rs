//! What must be true when all is over, from the merchant's store, the payer's store and the chain.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use alloy::primitives::{Address, B256};
use bindings::ticket::TicketEscrow::TicketEscrowEvents;
use chain::At;
use protocol::ticket::{Amount, EscrowRecord, OrderId, Seed, Session, SessionId, draw};
use storage::{
    ClaimState, ClaimStore, OrderRecord, OrderState, OrderStore, SeedStore, WinFilter, WinState, WinStore,
};

use super::{World, escrow_key};

/// Prize of [`World::open_escrow`].
pub(crate) const PRIZE: Amount = Amount(1_000_000_000_000_000);

/// What was found, for the test's own questions.
pub(crate) struct Ledger {
    /// The payer's tickets, delivered and refused.
    pub(crate) tickets: usize,
    /// Calls of the payer that brought their answer.
    pub(crate) delivered: usize,
    /// Delivered for a winner.
    pub(crate) won: usize,
    /// Paid on chain.
    pub(crate) claimed: usize,
    /// Claim transactions.
    pub(crate) claims: usize,
    /// Processes that ever sold.
    pub(crate) boots: u64,
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tickets,
            delivered,
            won,
            claimed,
            claims,
            boots,
        } = self;
        write!(
            f,
            "{tickets} tickets, {delivered} delivered, {won} of them won, {claimed} paid in {claims} claims, {boots} processes"
        )
    }
}

/// Checks all of it; `before` is the escrow as it was opened. Every claim must be settled.
///
/// 1. *No accepted winner is lost.* Every winner that was ever stored is paid in full. Every delivered ticket is drawn again,
///    with the secrets that follow from the merchant's seed: what won is among the paid. It holds because a winner is stored
///    before the upstream is asked, and is taken out again only when there is no answer to deliver.
/// 2. *Nothing is buried, nothing is paid twice.* The nonces paid on chain are exactly those stored, each once, the contract
///    left out none, and from claim to claim they rise. It holds because a claim raises the floor first, in every process.
/// 3. *No call is charged twice.* Of all tickets signed for a call at most one was accepted and delivered, and at most one is
///    in the merchant's store. It holds because a fresh ticket is signed only when the last was refused, and a stored winner
///    is never refused.
/// 4. *The two stores agree.* Every winner of the merchant's is a ticket that the payer stored before it was sent.
/// 5. *Money is conserved*, to the wei: what left the escrow is the merchant's credit, and the contract holds the rest.
pub(crate) async fn audit<S>(world: &World, store: &S, before: &EscrowRecord) -> Ledger
where
    S: WinStore + ClaimStore + SeedStore,
{
    let (domain, shop, escrow) = (world.domain(), world.shop(), escrow_key().address());
    let wins = store.wins(WinFilter::default()).await.unwrap();
    for win in &wins {
        let paid = WinState::Final {
            paid: PRIZE,
            owed: Amount::ZERO,
        };
        assert_eq!(win.state, paid, "nonce {}", win.ticket.nonce());
    }
    let stored: BTreeSet<u64> = wins.iter().map(|win| win.ticket.nonce().0).collect();
    assert_eq!(stored.len(), wins.len());

    let client = world.connect().await;
    let head = client.head().await.unwrap().number;
    let mut claimed = BTreeSet::new();
    for event in client.events(0, head).await.unwrap() {
        match event.event {
            TicketEscrowEvents::Claimed(paid) => {
                assert_eq!((paid.escrow, paid.recipient), (escrow, shop));
                assert!(
                    claimed.last().is_none_or(|last| *last < paid.nonce),
                    "nonce {} after {claimed:?}",
                    paid.nonce
                );
                claimed.insert(paid.nonce);
            }
            TicketEscrowEvents::TicketSkipped(skipped) => {
                panic!(
                    "the contract left out nonce {} ({})",
                    skipped.nonce, skipped.reason
                );
            }
            _ => {}
        }
    }
    assert_eq!(claimed, stored, "paid on chain, and stored");
    let claims = store.claims(u32::MAX).await.unwrap();
    assert!(
        claims
            .iter()
            .all(|claim| matches!(claim.state, ClaimState::Final { .. })),
        "an unfinished claim"
    );

    let credit = client.credit_of(Address::ZERO, shop, At::Latest).await.unwrap();
    let after = client.escrow_of(escrow, At::Latest).await.unwrap().unwrap();
    let contract = client
        .balance(Address::ZERO, domain.contract(), At::Latest)
        .await
        .unwrap();
    assert_eq!(credit.0, PRIZE.0 * claimed.len() as u128);
    assert_eq!(after.balance.0 + credit.0, before.balance.0);
    assert_eq!(after.penalty, before.penalty);
    assert_eq!(contract.0, after.balance.0 + after.penalty.0 + credit.0);

    let orders = world.payer_store().await.orders(escrow).await.unwrap();
    let by_digest: HashMap<B256, &OrderRecord> = orders
        .iter()
        .map(|order| (order.ticket.digest(), order))
        .collect();
    let call_of = calls(&orders);
    let mut charged: BTreeMap<B256, u64> = BTreeMap::new();
    for win in &wins {
        let nonce = win.ticket.nonce();
        let order = by_digest.get(&win.ticket.digest());
        let order =
            order.unwrap_or_else(|| panic!("the payer knows nothing of the winner with nonce {nonce}"));
        let other = charged.insert(call_of[&order.id.0], nonce.0);
        assert_eq!(
            other, None,
            "a call was charged twice: with nonces {nonce} and {other:?}"
        );
    }

    let seed = store.seed_or_insert(Seed::new([0; 32])).await.unwrap();
    let boots = store.next_boot().await.unwrap();
    // A session ends with a claim, of whatever process.
    let serials = claims.len() as u64 + 8;
    let ids = (1..boots).flat_map(|boot| (0..serials).map(move |serial| SessionId { boot, serial }));
    let secrets: HashMap<B256, B256> = ids
        .flat_map(|id| {
            [
                Session::derive(&domain, &seed, shop, escrow, id),
                Session::derive_open(&domain, &seed, shop, id),
            ]
        })
        .map(|session| (session.commitment(), session.r1()))
        .collect();
    let (mut won, mut delivered) = (0, BTreeSet::new());
    for order in orders.iter().filter(|order| order.state == OrderState::Delivered) {
        let ticket = &order.ticket;
        assert!(
            delivered.insert(call_of[&order.id.0]),
            "order {} is the second ticket that was delivered for its call",
            order.id
        );
        let r1 = secrets
            .get(&ticket.commitment())
            .expect("delivered under a commitment of this merchant");
        if draw(ticket.digest(), *r1) < ticket.win_threshold().0 {
            assert!(
                claimed.contains(&ticket.nonce().0),
                "nonce {} won, was delivered, and is lost",
                ticket.nonce()
            );
            won += 1;
        }
    }
    Ledger {
        tickets: orders.len(),
        delivered: delivered.len(),
        won,
        claimed: claimed.len(),
        claims: claims.len(),
        boots: boots - 1,
    }
}

/// The first order of each order's call.
fn calls(orders: &[OrderRecord]) -> HashMap<B256, B256> {
    let replaces: HashMap<OrderId, OrderId> = orders
        .iter()
        .filter_map(|order| Some((order.id, order.replaces?)))
        .collect();
    let first = |order: &OrderRecord| {
        let mut id = order.id;
        while let Some(earlier) = replaces.get(&id) {
            id = *earlier;
        }
        (order.id.0, id.0)
    };
    orders.iter().map(first).collect()
}
