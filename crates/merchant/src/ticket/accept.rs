//! Steps `quote`, `accept` and `draw`: judges a ticket on what is in memory, draws, and has a winner on disk before the
//! caller may deliver. No chain call and no database stands on the path of a losing ticket.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use chain::Mirror;
use protocol::ticket::{
    Admission, Amount, Domain, Drawn, Issued, Offer, OrderId, Policy, PolicyError, Quote, Refusal, Seconds,
    Seed, Ticket, Timestamp, accept, quote,
};
use storage::{ClaimStore, SeedStore, StoreError, WinStore};
use tracing::info;

use super::book::{Book, Entered};
use super::{Price, PriceError};

/// The contract's withdraw delay. `ITicketEscrow.WITHDRAW_DELAY`; a test of the e2e suite compares them.
pub const WITHDRAW_DELAY: Seconds = Seconds::DAY.times(3);

/// A merchant that is paid at one address. Shared by all its payers' requests, any number at once.
pub struct Merchant<S> {
    pub(crate) recipient: Address,
    pub(crate) price: Price,
    pub(crate) policy: Policy,
    pub(crate) book: Arc<Book>,
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) store: S,
    domain: Domain,
}

/// An accepted ticket: deliver.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// What the ticket was worth, atomic units.
    pub price: Amount,
    /// Whether it had been accepted before, for this same order.
    pub repeat: bool,
    /// Whether it won. Not for the payer's ears before it has its good.
    pub won: bool,
    /// Terms of the next ticket.
    pub quote: Quote,
}

/// Why a ticket is not accepted. Nothing was stored, and the ticket can be sent again where that can help.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It breaks an admission rule.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A ticket with the same nonce is being judged for another request right now.
    #[error("ticket {0}, or another with its nonce, is being judged already; ask again")]
    Busy(B256),
    /// It won and could not be stored: it is not accepted.
    #[error("the winner could not be stored: {0}")]
    Store(#[from] StoreError),
}

/// Why a merchant does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The policy is not safe.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The price allows no payment.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<S> Merchant<S>
where
    S: SeedStore + WinStore + ClaimStore + Clone + Send + Sync + 'static,
{
    /// Starts: checks the configuration, takes a new boot number, reads winners and floors back. `fresh` is 32 bytes of the
    /// system's randomness, used if the store has no seed yet.
    pub async fn start(
        domain: Domain,
        recipient: Address,
        price: Price,
        policy: Policy,
        mirror: Arc<Mirror>,
        store: S,
        fresh: Seed,
    ) -> Result<Arc<Self>, StartError> {
        policy.check(WITHDRAW_DELAY)?;
        price.check()?;
        let seed = store.seed_or_insert(fresh).await?;
        let boot = store.next_boot().await?;
        let book = Book::new(domain, seed, recipient, boot);
        for (escrow, floor) in store.floors().await? {
            book.restore_floor(escrow, floor);
        }
        let unfinished = store.load_unfinished().await?;
        for win in &unfinished {
            let view = mirror.view(win.ticket.escrow());
            book.restore_win(win, view.head.or(view.last_final).map(|record| record.payer));
        }
        info!(%recipient, boot, winners = unfinished.len(), "merchant started");
        Ok(Arc::new(Self {
            recipient,
            price,
            policy,
            book,
            mirror,
            store,
            domain,
        }))
    }

    /// The domain of the tickets it takes.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Where it is paid.
    pub fn recipient(&self) -> Address {
        self.recipient
    }

    /// Whether an escrow is final in the mirror, so that its tickets can be accepted.
    pub fn knows(&self, escrow: Address) -> bool {
        self.mirror.view(escrow).last_final.is_some()
    }

    /// Step `quote`: terms for tickets of an escrow that the mirror knows.
    pub fn quote(&self, escrow: Address) -> Result<Quote, Refusal> {
        let view = self.mirror.view(escrow);
        let record = view.head.as_deref().or(view.last_final.as_deref());
        let record = record.ok_or(Refusal::EscrowMissing { escrow })?;
        Ok(self.quote_for(escrow, &self.price.offer(record)))
    }

    fn quote_for(&self, escrow: Address, offer: &Offer) -> Quote {
        let (session, floor) = self.book.quote(escrow);
        quote(&session, offer, &self.policy, floor)
    }

    /// Steps `accept` and `draw`. On `Ok` the payment is safe: a winner is on disk, a loser remembered. A winner is stored
    /// to the end even if the caller stops waiting.
    pub async fn accept(
        self: &Arc<Self>,
        order: OrderId,
        ticket: Ticket<Issued>,
        now: Timestamp,
    ) -> Result<Receipt, AcceptError> {
        let escrow = ticket.escrow();
        // Load. The escrow must exist before anything is remembered of it: made-up addresses cost nothing.
        let view = self.mirror.view(escrow);
        let record = view.head.as_deref().or(view.last_final.as_deref());
        let record = record.ok_or(Refusal::EscrowMissing { escrow })?;
        let offer = self.price.offer(record);
        let price = offer.win_threshold.price(offer.prize);
        let digest = ticket.digest();
        let (known, place) = match self.book.enter(&ticket, record.payer, order) {
            Entered::Judge(known, place) => (known, place),
            Entered::Busy => return Err(AcceptError::Busy(digest)),
            Entered::Repeat => {
                return Ok(Receipt {
                    price,
                    repeat: true,
                    won: false,
                    quote: self.quote_for(escrow, &offer),
                });
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
        let accepted = match accept(ticket, &admission) {
            Ok(accepted) => accepted,
            Err(refusal) => return self.repeat_of_a_winner(order, digest, price, refusal).await,
        };
        let key = *accepted.key();

        // Save.
        let won = match accepted.draw()? {
            Drawn::Lost(_) => {
                place.settle(order, false, key);
                false
            }
            Drawn::Won(win) => {
                let store = self.store.clone();
                let saved = tokio::spawn(async move {
                    let new = store.save_win(&win, order, price, now).await?;
                    place.settle(order, new, key);
                    info!(%escrow, nonce = %win.nonce(), ticket = %win.digest(), "won");
                    Ok::<_, StoreError>(())
                });
                saved.await.map_err(|_| AcceptError::Busy(digest))??;
                true
            }
        };
        Ok(Receipt {
            price,
            repeat: false,
            won,
            quote: self.quote_for(escrow, &offer),
        })
    }

    /// A payer whose answer was lost may ask again when the book has forgotten its ticket: after a restart, or long after
    /// the claim. A loser was worth nothing, so a fresh ticket will do; a winner is in the store, and is honoured.
    async fn repeat_of_a_winner(
        &self,
        order: OrderId,
        digest: B256,
        price: Amount,
        refusal: Refusal,
    ) -> Result<Receipt, AcceptError> {
        let forgotten = matches!(
            refusal,
            Refusal::CommitmentUnknown { .. }
                | Refusal::CommitmentClosed { .. }
                | Refusal::NonceNotAboveFloor { .. }
        );
        if forgotten
            && let Some(win) = self.store.win(digest).await?
            && win.order == order
        {
            let quote = self.quote(win.ticket.escrow())?;
            return Ok(Receipt {
                price,
                repeat: true,
                won: false,
                quote,
            });
        }
        Err(refusal.into())
    }
}
