//! What the bank has to know of the chain: its own ledger in the contract.

use alloy_primitives::Address;
use bindings::channel::Terms;
use chain::{At, ChainError, Channels, Client};
use protocol::channel::{Admitted, ChannelId, Reputation, Status};

/// The contract, as far as a bank reads it. The newest block is what counts: the contract compares what was signed with what
/// it has when the channel is opened, so that a wrong answer opens nothing.
pub trait Ledger: Send + Sync + 'static {
    /// What the bank's ledger says of a customer.
    fn reputation(&self, customer: Address) -> impl Future<Output = Result<Reputation, ChainError>> + Send;

    /// The key whose permits of this bank the contract takes.
    fn signer(&self) -> impl Future<Output = Result<Signer, ChainError>> + Send;

    /// Where a channel stands; `None` if it was never opened.
    fn status(&self, channel: ChannelId) -> impl Future<Output = Result<Option<Status>, ChainError>> + Send;

    /// Whether this permit opened its channel, or topped it up.
    fn knows(&self, permit: &Admitted) -> impl Future<Output = Result<bool, ChainError>> + Send;
}

/// Whose permits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Address of the key.
    pub key: Address,
    /// How often the bank has changed it.
    pub epoch: u64,
}

/// A bank's ledger, read from a node.
#[derive(Clone, Debug)]
pub struct ChainLedger {
    client: Client<Channels>,
    bank: Address,
}

impl ChainLedger {
    /// The ledger of the bank at this address.
    pub fn new(client: Client<Channels>, bank: Address) -> Self {
        Self { client, bank }
    }
}

impl Ledger for ChainLedger {
    async fn reputation(&self, customer: Address) -> Result<Reputation, ChainError> {
        self.client.reputation_of(self.bank, customer, At::Latest).await
    }

    async fn signer(&self) -> Result<Signer, ChainError> {
        let got = self.client.bank_key_of(self.bank, At::Latest).await?;
        Ok(Signer {
            key: got.key,
            epoch: got.epoch,
        })
    }

    async fn status(&self, channel: ChannelId) -> Result<Option<Status>, ChainError> {
        let status = self.client.status_of(channel, At::Latest).await?;
        Ok(status.map(|(status, _)| status))
    }

    async fn knows(&self, permit: &Admitted) -> Result<bool, ChainError> {
        let terms: Terms = permit.terms();
        Ok(self.client.channel_of(&terms, At::Latest).await?.is_some())
    }
}
