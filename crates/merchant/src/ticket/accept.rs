//! Steps `quote`, `accept` and `draw`: judges a ticket on what is in memory, draws, and has a winner on disk before the
//! caller may deliver. No chain call and no database stands on the path of a losing ticket.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use chain::Mirror;
use protocol::ticket::{
    Admission, Amount, Domain, Drawn, EscrowPublicKey, Issued, Offer, OrderId, Policy, PolicyError, Quote,
    Refusal, Seconds, Seed, Ticket, Timestamp, WinThreshold, accept, quote, recover,
};
use storage::{ClaimStore, SeedStore, StoreError, WinStore};
use tracing::{info, warn};

use super::Price;
use super::book::{Book, Entered, Good, Place};
use super::fleet::Lease;

/// The contract's withdraw delay. `ITicketEscrow.WITHDRAW_DELAY`; a test of the e2e suite compares them.
pub const WITHDRAW_DELAY: Seconds = Seconds::DAY.times(3);

/// A merchant that is paid at one address. Shared by all its payers' requests, any number at once.
pub struct Merchant<S> {
    pub(crate) recipient: Address,
    pub(crate) policy: Policy,
    pub(crate) book: Arc<Book>,
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) store: S,
    pub(crate) lease: Lease,
    domain: Domain,
}

/// What came of a payment that is taken.
#[must_use = "an accepted ticket is consumed only by `delivered`"]
pub enum Admitted<S: WinStore + Clone + Send + Sync + 'static> {
    /// Deliver, and say what came of it.
    Deliver(Box<Delivery<S>>),
    /// The good of this very ticket and order was delivered before.
    Repeat(Box<Receipt>),
}

/// An accepted ticket whose good is on its way. It is safe: a winner is on disk, a loser's nonce is taken. It is consumed by
/// [`Delivery::delivered`] and not before: a good that cannot be delivered costs nothing. Whatever comes of it, from now on
/// the ticket is good for its order only. Dropped, it is kept, as by [`Delivery::kept`].
pub struct Delivery<S: WinStore + Clone + Send + Sync + 'static> {
    merchant: Arc<Merchant<S>>,
    /// Taken when it is known what came of it.
    place: Option<Place>,
    order: OrderId,
    /// `None` for a winner of an earlier process.
    key: Option<EscrowPublicKey>,
    sold: Sold,
    won: bool,
}

/// What a ticket pays for, as far as a receipt goes.
#[derive(Clone, Copy)]
struct Sold {
    ticket: B256,
    escrow: Address,
    payer: Address,
    offer: Offer,
}

/// What a payer gets for its ticket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Receipt {
    /// Digest of the ticket.
    pub ticket: B256,
    /// Who opened the escrow.
    pub payer: Address,
    /// What the ticket was worth, atomic units.
    pub price: Amount,
    /// Its probability to win.
    pub probability: f64,
    /// Whether it won. Not for the payer's ears before it has its good.
    pub won: bool,
    /// Whether its good was delivered before, for this same order.
    pub repeat: bool,
    /// Whether it is a winner that is being claimed: whoever reads the chain has it, so that it no longer shows that its
    /// sender is its payer.
    pub public: bool,
    /// Terms of the next ticket.
    pub quote: Quote,
}

/// Terms for whoever pays: any escrow with a prize within the price's bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpenQuote {
    /// The live commitment for payers who are not known yet.
    pub commitment: B256,
    /// An example of a prize.
    pub prize: Amount,
    /// The threshold for it.
    pub win_threshold: WinThreshold,
}

/// Why a ticket is not accepted. Nothing was stored, and the ticket can be sent again where that can help.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It breaks an admission rule.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A ticket with the same nonce is being judged for another request right now, or its good is on its way.
    #[error("ticket {0}, or another with its nonce, is in progress; ask again")]
    Busy(B256),
    /// It won and could not be stored: it is not accepted.
    #[error("the winner could not be stored: {0}")]
    Store(#[from] StoreError),
    /// Other processes of this merchant may take this one for dead.
    #[error("the store has not been reached for {silent} s, the lease is {lease} s")]
    LeaseOver {
        /// Seconds since the lease was renewed.
        silent: u64,
        /// Its length in seconds.
        lease: u64,
    },
}

/// Why a merchant does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The policy is not safe.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<S> Merchant<S>
where
    S: SeedStore + WinStore + ClaimStore + Clone + Send + Sync + 'static,
{
    /// Starts: checks the policy, takes a new boot number, reads winners and floors back. `fresh` is 32 bytes of the
    /// system's randomness, used if the store has no seed yet.
    pub async fn start(
        domain: Domain,
        recipient: Address,
        policy: Policy,
        mirror: Arc<Mirror>,
        store: S,
        fresh: Seed,
    ) -> Result<Arc<Self>, StartError> {
        policy.check(WITHDRAW_DELAY)?;
        let seed = store.seed_or_insert(fresh).await?;
        let boot = store.next_boot().await?;
        let book = Book::new(domain, seed, recipient, boot);
        for (escrow, floor) in store.floors().await? {
            book.raise_floor(escrow, floor);
        }
        let unfinished = store.load_unfinished().await?;
        for win in &unfinished {
            let view = mirror.view(win.ticket.escrow());
            book.restore_win(win, view.head.or(view.last_final).map(|record| record.payer));
        }
        info!(%recipient, boot, winners = unfinished.len(), "merchant started");
        Ok(Arc::new(Self {
            recipient,
            policy,
            book,
            mirror,
            store,
            lease: Lease::new(boot),
            domain,
        }))
    }

    /// The domain of the tickets it takes.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether this process may accept anything now; see [`AcceptError::LeaseOver`].
    pub fn ready(&self) -> Result<(), AcceptError> {
        self.lease.check()
    }

    /// Where it is paid.
    pub fn recipient(&self) -> Address {
        self.recipient
    }

    /// What it asks of tickets and escrows.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Its copy of the chain.
    pub fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    /// Its store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Whether an escrow is final in the mirror, so that its tickets can be accepted.
    pub fn knows(&self, escrow: Address) -> bool {
        self.mirror.view(escrow).last_final.is_some()
    }

    /// Whether the sender of this ticket holds its escrow's key, or is trusted by who does: it is signed, and under a
    /// commitment of which the chain has seen no ticket yet.
    pub fn is_of_payer(&self, ticket: &Ticket<Issued>) -> bool {
        self.book.is_secret(ticket.escrow(), ticket.commitment()) && check_signer(ticket).is_ok()
    }

    /// Who opened an escrow that the mirror knows.
    pub fn payer(&self, escrow: Address) -> Option<Address> {
        let view = self.mirror.view(escrow);
        Some(view.head.or(view.last_final)?.payer)
    }

    /// Step `quote`: terms for tickets of an escrow that the mirror knows.
    pub fn quote(&self, escrow: Address, price: &Price) -> Result<Quote, Refusal> {
        let view = self.mirror.view(escrow);
        let record = view.head.as_deref().or(view.last_final.as_deref());
        let record = record.ok_or(Refusal::EscrowMissing { escrow })?;
        Ok(self.quote_for(escrow, &price.offer(record)))
    }

    /// Step `quote` for payers who are not known yet.
    pub fn open_quote(&self, price: &Price) -> OpenQuote {
        let (prize, win_threshold) = price.example();
        OpenQuote {
            commitment: self.book.open_commitment(),
            prize,
            win_threshold,
        }
    }

    fn quote_for(&self, escrow: Address, offer: &Offer) -> Quote {
        let (session, floor) = self.book.quote(escrow);
        quote(&session, offer, &self.policy, floor)
    }

    /// Steps `accept` and `draw` for a good that is at hand: delivered as soon as the ticket is accepted.
    pub async fn accept(
        self: &Arc<Self>,
        order: OrderId,
        ticket: Ticket<Issued>,
        price: &Price,
        now: Timestamp,
    ) -> Result<Receipt, AcceptError> {
        match self.admit(order, ticket, price, now).await? {
            Admitted::Deliver(delivery) => Ok(delivery.delivered(|_| ()).await),
            Admitted::Repeat(receipt) => Ok(*receipt),
        }
    }

    /// Steps `accept` and `draw`. On `Ok` the payment is safe: a winner is on disk, a loser's nonce is taken. A winner is
    /// stored to the end even if the caller stops waiting.
    ///
    /// `order` names the purchase and what is bought: the same ticket buys nothing else.
    pub async fn admit(
        self: &Arc<Self>,
        order: OrderId,
        ticket: Ticket<Issued>,
        price: &Price,
        now: Timestamp,
    ) -> Result<Admitted<S>, AcceptError> {
        self.lease.check()?;
        let escrow = ticket.escrow();
        // Load. The escrow must exist before anything is remembered of it: made-up addresses cost nothing.
        let view = self.mirror.view(escrow);
        let record = view.head.as_deref().or(view.last_final.as_deref());
        let record = record.ok_or(Refusal::EscrowMissing { escrow })?;
        let offer = price.offer(record);
        let digest = ticket.digest();
        let sold = Sold {
            ticket: digest,
            escrow,
            payer: record.payer,
            offer,
        };
        let (known, place) = match self.book.enter(&ticket, record.payer, order) {
            Entered::Judge(known, place) => (known, place),
            Entered::Again(place) => {
                check_signer(&ticket)?;
                return match self.honour(order, place, sold).await {
                    // Given back by another process meanwhile: asked again, it is judged anew.
                    Err(StoreError::UnknownWin(_)) => Err(AcceptError::Busy(digest)),
                    honoured => Ok(honoured?),
                };
            }
            Entered::Busy => return Err(AcceptError::Busy(digest)),
            Entered::Repeat { public } => {
                check_signer(&ticket)?;
                let receipt = self.receipt(sold, false, true);
                return Ok(Admitted::Repeat(Box::new(Receipt { public, ..receipt })));
            }
        };

        // Decide. The answer to a refused ticket is the same whether it would have won.
        let admission = Admission {
            session: &known.session,
            commitment_closed: known.commitment_closed,
            offer,
            nonce_seen: known.nonce_seen,
            nonce_floor: known.floor,
            now,
            policy: &self.policy,
            escrow: view.as_view(),
            // Never refreshed is older than any limit.
            mirror_age: self
                .mirror
                .age()
                .map_or(Seconds(u64::MAX), |age| Seconds(age.as_secs())),
            unclaimed_wins: known.unclaimed,
            payer_unclaimed_wins: known.payer_unclaimed,
            known_key: known.key.as_ref(),
        };
        let copy = ticket.clone();
        let accepted = match accept(ticket, &admission) {
            Ok(accepted) => accepted,
            Err(refusal) => return self.again(order, place, &copy, sold, refusal).await,
        };
        let key = *accepted.key();

        // Save.
        let mut delivery = self.delivery(order, place, false, sold);
        delivery.key = Some(key);
        match accepted.draw()? {
            Drawn::Lost(_) => {
                if let Some(place) = &delivery.place {
                    place.harmless();
                }
                Ok(Admitted::Deliver(delivery))
            }
            Drawn::Won(win) => {
                let (store, price) = (self.store.clone(), offer.win_threshold.price(offer.prize));
                let saved = tokio::spawn(async move {
                    store.save_win(&win, order, price, now).await?;
                    info!(%escrow, nonce = %win.nonce(), ticket = %win.digest(), "won");
                    delivery.won = true;
                    Ok::<_, StoreError>(delivery)
                });
                match saved.await.map_err(|_| AcceptError::Busy(digest))? {
                    Ok(delivery) => Ok(Admitted::Deliver(delivery)),
                    // Another process has claimed above it meanwhile.
                    Err(StoreError::BelowFloor { escrow, nonce, floor }) => {
                        self.book.raise_floor(escrow, floor);
                        Err(Refusal::NonceNotAboveFloor { nonce, floor }.into())
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    fn delivery(self: &Arc<Self>, order: OrderId, place: Place, won: bool, sold: Sold) -> Box<Delivery<S>> {
        Box::new(Delivery {
            merchant: Arc::clone(self),
            place: Some(place),
            order,
            key: None,
            sold,
            won,
        })
    }

    /// A receipt, with the terms of this moment.
    fn receipt(&self, sold: Sold, won: bool, repeat: bool) -> Receipt {
        let Sold {
            ticket,
            escrow,
            payer,
            offer,
        } = sold;
        Receipt {
            ticket,
            payer,
            price: offer.win_threshold.price(offer.prize),
            probability: offer.win_threshold.probability(),
            won,
            repeat,
            public: false,
            quote: self.quote_for(escrow, &offer),
        }
    }

    /// A payer whose answer was lost may ask again when the book has forgotten its ticket: after a restart, at another
    /// process, or long after the claim. A loser was worth nothing, so a fresh ticket will do; a winner is in the store, and
    /// is honoured. Only its payer may make the store work.
    async fn again(
        self: &Arc<Self>,
        order: OrderId,
        place: Place,
        ticket: &Ticket<Issued>,
        sold: Sold,
        refusal: Refusal,
    ) -> Result<Admitted<S>, AcceptError> {
        let forgotten = matches!(
            refusal,
            Refusal::CommitmentUnknown { .. }
                | Refusal::CommitmentClosed { .. }
                | Refusal::NonceNotAboveFloor { .. }
        );
        if !forgotten || check_signer(ticket).is_err() {
            return Err(refusal.into());
        }
        place.harmless(); // if it is one, it is a stored winner
        let win = self.store.win(sold.ticket).await?;
        match win.filter(|win| win.order == order) {
            Some(win) if win.delivered => Ok(Admitted::Repeat(Box::new(self.receipt(sold, false, true)))),
            Some(_) => match self.honour(order, place, sold).await {
                // Given back by another process meanwhile.
                Err(StoreError::UnknownWin(_)) => Err(refusal.into()),
                honoured => Ok(honoured?),
            },
            None => Err(refusal.into()),
        }
    }

    /// Delivers for a winner that an earlier process has stored, or another one that may be delivering it this very moment.
    /// As that cannot be told apart, among several processes the winner counts as delivered from here on: neither of them
    /// can give it back while the other delivers. (A payer that makes one of them fail could take back what it now knows has
    /// won.) Here its payer can ask again until it has its good.
    async fn honour(
        self: &Arc<Self>,
        order: OrderId,
        place: Place,
        sold: Sold,
    ) -> Result<Admitted<S>, StoreError> {
        if self.lease.is_shared() {
            match self.store.mark_delivered(sold.ticket).await {
                Err(error @ StoreError::UnknownWin(_)) => {
                    place.forget();
                    return Err(error);
                }
                marked => marked?,
            }
        }
        Ok(Admitted::Deliver(self.delivery(order, place, true, sold)))
    }
}

impl<S> Delivery<S>
where
    S: SeedStore + WinStore + ClaimStore + Clone + Send + Sync + 'static,
{
    /// The good leaves: the ticket is consumed. `keep` is called before anybody who asks again is told so: what it keeps is
    /// there for them.
    pub async fn delivered(mut self, keep: impl FnOnce(&Receipt)) -> Receipt {
        if self.won
            && let Err(error) = self.merchant.store.mark_delivered(self.sold.ticket).await
        {
            // A payer that asks again after a restart gets its good twice.
            warn!(%error, ticket = %self.sold.ticket, "cannot note that a winner's good was delivered");
        }
        let receipt = self.merchant.receipt(self.sold, self.won, false);
        keep(&receipt);
        self.settle(Good::Delivered);
        receipt
    }
}

/// Whether the escrow's key signed the ticket: a digest is no secret, and has no signature in it.
fn check_signer(ticket: &Ticket<Issued>) -> Result<(), Refusal> {
    let (escrow, key) = (ticket.escrow(), recover(ticket.digest(), ticket.signature())?);
    match key.address() {
        recovered if recovered == escrow => Ok(()),
        recovered => Err(Refusal::WrongSigner { recovered, escrow }),
    }
}

impl<S> Delivery<S>
where
    S: WinStore + Clone + Send + Sync + 'static,
{
    /// There is no good: the ticket is not consumed, and can be sent again for the same order. A winner is given back.
    pub async fn failed(mut self) {
        if !self.won {
            return self.settle(Good::Failed);
        }
        match self.merchant.store.void(self.sold.ticket).await {
            Ok(()) => {
                info!(ticket = %self.sold.ticket, "a winner is given back: its good could not be delivered");
                match (self.key, self.place.take()) {
                    (Some(_), Some(place)) => place.settle(self.order, (true, false), self.key, Good::Failed),
                    (None, Some(place)) => place.give_back(self.order),
                    (_, None) => {}
                }
            }
            Err(error) => {
                warn!(%error, ticket = %self.sold.ticket, "a winner whose good failed cannot be given back");
                self.keep();
            }
        }
    }

    /// The payer broke off what it asked for. Its ticket can be sent again for the same order, and a winner stays one.
    pub fn kept(mut self) {
        self.keep();
    }

    fn keep(&mut self) {
        self.settle(if self.won { Good::Owed } else { Good::Failed });
    }

    fn settle(&mut self, good: Good) {
        if let Some(place) = self.place.take() {
            let won = self.won;
            // A winner of an earlier process was counted when it was read back.
            place.settle(self.order, (won, won && self.key.is_some()), self.key, good);
        }
    }
}

impl<S> Drop for Delivery<S>
where
    S: WinStore + Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.keep();
    }
}
