//! Which channel pays, and when one is worth opening. A payer that comes back to one seller often is asked to open a
//! channel: the library counts its tickets and says when; whoever composed the client asks a bank and sends the
//! transaction.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;

use alloy_primitives::Address;
use parking_lot::Mutex;
use protocol::channel::{Amount, ChannelId, Index, Seconds, Timestamp};
use storage::StoreError;
use storage::channel::{ClientChannelFilter, ClientChannelRecord};
use tracing::{info, warn};

use super::cache::Target;
use super::kind::Channels;
use crate::wire::{ChannelRequirements, Offers};

/// Most sellers that are counted. Beyond it none is added: who buys from so many comes back to few.
const MAX_SELLERS: usize = 4_096;

/// When a channel is opened, and what it is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenChannel {
    /// After so many ticket payments to one seller. They are counted in memory: a restart begins anew, which costs tickets,
    /// not money.
    pub after: u64,
    /// Units of the channel.
    pub length: Index,
    /// What a unit is worth, atomic units; `None`: the price of the call that is the last of `after`. A channel pays prices
    /// that are multiples of its unit.
    pub unit: Option<Amount>,
    /// How long it is open.
    pub life: Seconds,
    /// The bank that admits it. Sellers that do not take its channels are paid by ticket for ever.
    pub bank: Address,
}

/// A channel that is worth opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedChannel {
    /// Who sells.
    pub vendor: Address,
    /// In which asset.
    pub asset: Address,
    /// What a unit is worth, atomic units.
    pub unit: Amount,
    /// Units.
    pub length: Index,
    /// How long it is open.
    pub life: Seconds,
    /// The bank that is to admit it.
    pub bank: Address,
    /// Where the seller was met.
    pub origin: String,
}

/// Opens channels: asks a bank, sends the transaction, waits until it is final. In the background: no call waits for it.
pub trait OpensChannels: Send + Sync + 'static {
    /// Opens this one. On `Ok` it is in the payer's store, and pays.
    fn open(&self, wanted: WantedChannel) -> OpeningFuture;
}

/// What [`OpensChannels::open`] does.
pub type OpeningFuture =
    Pin<Box<dyn Future<Output = Result<ChannelId, Box<dyn Error + Send + Sync>>> + Send>>;

impl<F, W> OpensChannels for F
where
    F: Fn(WantedChannel) -> W + Send + Sync + 'static,
    W: Future<Output = Result<ChannelId, Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    fn open(&self, wanted: WantedChannel) -> OpeningFuture {
        Box::pin(self(wanted))
    }
}

/// How a client uses channels. The default pays with those that are open, and opens none.
#[derive(Clone, Default)]
pub struct ChannelPolicy {
    open: Option<(OpenChannel, Arc<dyn OpensChannels>)>,
    only: Option<ChannelId>,
}

impl ChannelPolicy {
    /// Pays with channels that are open, and has others opened.
    pub fn opening(when: OpenChannel, opener: impl OpensChannels) -> Self {
        Self {
            open: Some((when, Arc::new(opener))),
            only: None,
        }
    }

    /// Pays with this channel and no other, and opens none.
    pub fn only(channel: ChannelId) -> Self {
        Self {
            open: None,
            only: Some(channel),
        }
    }
}

/// See the module.
pub(super) struct Openings {
    policy: ChannelPolicy,
    sellers: Arc<Mutex<HashMap<(Address, Address), Seller>>>,
    /// Channels that are at their end, or that their vendors refuse.
    worn_out: Mutex<HashSet<ChannelId>>,
}

/// Who was paid by ticket.
#[derive(Clone, Copy, Debug)]
enum Seller {
    /// So often.
    Counted(u64),
    /// So often that a channel is being opened.
    Opening,
}

impl Openings {
    pub(super) fn new(policy: ChannelPolicy) -> Self {
        Self {
            policy,
            sellers: Arc::default(),
            worn_out: Mutex::default(),
        }
    }

    /// This channel is not chosen any more.
    pub(super) fn worn_out(&self, channel: ChannelId) {
        self.worn_out.lock().insert(channel);
    }

    /// The channel that pays these terms: it is open, its unit divides the price, and it has enough left. Of several the one
    /// that ends first.
    pub(super) async fn find(
        &self,
        channels: &dyn Channels,
        terms: &ChannelRequirements,
        now: Timestamp,
    ) -> Result<Option<ChannelId>, StoreError> {
        let filter = ClientChannelFilter {
            vendor: Some(terms.pay_to),
            asset: Some(terms.asset),
            open: true,
        };
        let open = channels.open_to(filter).await?;
        let worn_out = self.worn_out.lock();
        let fit = open
            .iter()
            .filter(|record| self.policy.only.is_none_or(|only| record.channel.id() == only))
            .filter(|record| !worn_out.contains(&record.channel.id()) && fits(record, terms, now));
        let first =
            fit.min_by_key(|record| record.channel.terms().last().map(|terms| terms.permit().expiry()));
        Ok(first.map(|record| record.channel.id()))
    }

    /// A ticket was taken. Enough of them, and a channel is worth opening.
    pub(super) fn paid_by_ticket(&self, target: &Target, offers: &Offers, now: Timestamp) {
        let (Some((when, opener)), Some(terms)) = (&self.policy.open, &offers.channel) else {
            return;
        };
        let unit = when.unit.unwrap_or(Amount(terms.amount));
        if !terms.extra.banks.contains(&when.bank) || !is_multiple(terms.amount, unit) {
            return;
        }
        let seller = (terms.pay_to, terms.asset);
        {
            let mut sellers = self.sellers.lock();
            if sellers.len() >= MAX_SELLERS && !sellers.contains_key(&seller) {
                return;
            }
            let counted = sellers.entry(seller).or_insert(Seller::Counted(0));
            match counted {
                Seller::Counted(times) if *times + 1 < when.after => {
                    *times += 1;
                    return;
                }
                Seller::Counted(_) => *counted = Seller::Opening,
                Seller::Opening => return,
            }
        }
        let wanted = WantedChannel {
            vendor: terms.pay_to,
            asset: terms.asset,
            unit,
            length: when.length,
            life: when.life,
            bank: when.bank,
            origin: target.origin.to_string(),
        };
        info!(vendor = %wanted.vendor, origin = wanted.origin, at = %now, "opening a channel");
        let (opening, sellers) = (opener.open(wanted), Arc::clone(&self.sellers));
        tokio::spawn(async move {
            match opening.await {
                Ok(channel) => info!(%channel, "a channel is open"),
                Err(error) => warn!(%error, "no channel was opened"),
            }
            // From the beginning, whether the channel has an end or has no beginning.
            sellers.lock().insert(seller, Seller::Counted(0));
        });
    }
}

fn fits(record: &ClientChannelRecord, terms: &ChannelRequirements, now: Timestamp) -> bool {
    let channel = &record.channel;
    let Some(newest) = channel.terms().last() else {
        return false;
    };
    let permit = newest.permit();
    let units = terms.amount.checked_div(permit.unit().0).unwrap_or(u128::MAX);
    is_multiple(terms.amount, permit.unit())
        && units <= u128::from(channel.left().min(terms.extra.max_jump))
        && terms.extra.banks.contains(&newest.bank())
        && now.0.saturating_add(terms.extra.margin) <= permit.expiry().0
}

fn is_multiple(price: u128, unit: Amount) -> bool {
    price > 0 && unit.0 > 0 && price.is_multiple_of(unit.0)
}
