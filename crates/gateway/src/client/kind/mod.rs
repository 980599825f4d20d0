//! The payer's roles as the client sees them, whatever their stores: what it asks of who pays by ticket, and of who pays by
//! channel.

pub(super) mod channel;
pub(super) mod ticket;

use async_trait::async_trait;
use payer::{channel as channels, ticket as tickets};
use protocol::channel::{Amount, ChannelId};
use protocol::ticket::{EscrowRecord, OrderId, Quote};
use reqwest::Response;
use storage::channel::{ClientChannelFilter, ClientChannelRecord, ClientChannelStore};
use storage::{Budget, OrderStore, StoreError};

use super::call::Item;

/// Who pays by ticket.
#[async_trait]
pub(super) trait Tickets: Send + Sync {
    fn domain(&self) -> &protocol::ticket::Domain;
    fn escrow(&self) -> alloy_primitives::Address;
    fn record(&self) -> &EscrowRecord;
    fn edges(&self) -> tickets::Edges;

    /// Whether this order is paid by ticket: it is, once one is signed, for ever.
    async fn has(&self, order: OrderId) -> Result<bool, StoreError>;

    async fn check(&self, quote: &Quote, budgets: &[Budget]) -> Result<(), tickets::PayError>;

    async fn pay(
        &self,
        seller: &tickets::Seller<ticket::Call<'_, '_>>,
        purchase: &tickets::Purchase<Item>,
        budgets: &[Budget],
    ) -> Result<tickets::Payment<Response>, tickets::PayError>;
}

/// Who pays by channel.
#[async_trait]
pub(super) trait Channels: Send + Sync {
    fn domain(&self) -> &protocol::channel::Domain;
    fn key(&self) -> &protocol::channel::Key;
    fn edges(&self) -> tickets::Edges;

    /// The channel that pays for this order: the one whose word was revealed for it, for ever.
    async fn has(&self, order: OrderId) -> Result<Option<ChannelId>, StoreError>;

    /// Channels that can be paid with.
    async fn open_to(&self, filter: ClientChannelFilter) -> Result<Vec<ClientChannelRecord>, StoreError>;

    async fn check(
        &self,
        channel: ChannelId,
        price: Amount,
        asset: alloy_primitives::Address,
        budgets: &[Budget],
    ) -> Result<u32, channels::PayError>;

    /// Pays in its turn, or says that it would have to wait for it.
    async fn pay(
        &self,
        vendor: &channel::Call<'_, '_>,
        purchase: &channels::Purchase<Item>,
        channel: ChannelId,
        budgets: &[Budget],
        turn: Turn,
    ) -> Result<channels::Paid<Response>, channels::PayError>;
}

/// What to do while another payment of the channel is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Wait,
    /// There is another way to pay.
    Leave,
}

#[async_trait]
impl<S: OrderStore + Send + Sync> Tickets for tickets::Payer<S> {
    fn domain(&self) -> &protocol::ticket::Domain {
        self.domain()
    }

    fn escrow(&self) -> alloy_primitives::Address {
        self.escrow()
    }

    fn record(&self) -> &EscrowRecord {
        self.record()
    }

    fn edges(&self) -> tickets::Edges {
        self.edges()
    }

    async fn has(&self, order: OrderId) -> Result<bool, StoreError> {
        Ok(self.store().order(order).await?.is_some())
    }

    async fn check(&self, quote: &Quote, budgets: &[Budget]) -> Result<(), tickets::PayError> {
        self.check(quote, budgets).await
    }

    async fn pay(
        &self,
        seller: &tickets::Seller<ticket::Call<'_, '_>>,
        purchase: &tickets::Purchase<Item>,
        budgets: &[Budget],
    ) -> Result<tickets::Payment<Response>, tickets::PayError> {
        self.pay_within(seller, purchase, budgets).await
    }
}

#[async_trait]
impl<S: ClientChannelStore + OrderStore + Send + Sync> Channels for channels::ChannelPayer<S> {
    fn domain(&self) -> &protocol::channel::Domain {
        self.domain()
    }

    fn key(&self) -> &protocol::channel::Key {
        self.key()
    }

    fn edges(&self) -> tickets::Edges {
        self.edges()
    }

    async fn has(&self, order: OrderId) -> Result<Option<ChannelId>, StoreError> {
        let payment = self.store().client_payment(order).await?;
        Ok(payment.map(|payment| payment.payment.channel))
    }

    async fn open_to(&self, filter: ClientChannelFilter) -> Result<Vec<ClientChannelRecord>, StoreError> {
        self.store().client_channels(filter).await
    }

    async fn check(
        &self,
        channel: ChannelId,
        price: Amount,
        asset: alloy_primitives::Address,
        budgets: &[Budget],
    ) -> Result<u32, channels::PayError> {
        self.check(channel, price, asset, budgets).await
    }

    async fn pay(
        &self,
        vendor: &channel::Call<'_, '_>,
        purchase: &channels::Purchase<Item>,
        channel: ChannelId,
        budgets: &[Budget],
        turn: Turn,
    ) -> Result<channels::Paid<Response>, channels::PayError> {
        match turn {
            Turn::Wait => self.pay(vendor, purchase, channel, budgets).await,
            Turn::Leave => self.try_pay(vendor, purchase, channel, budgets).await,
        }
    }
}
