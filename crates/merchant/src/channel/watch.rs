//! A watcher without the vendor's key: it has a file with a word of the vendor's, a gas account of its own, and sends a
//! checkpoint before the expiry if the contract has settled less. A checkpoint can only pay the vendor, so that the file is
//! nothing that could be stolen. The watcher keeps nothing: it looks at the chain each time, and so survives restarts and
//! reorgs.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use bindings::channel::{PaymentChannel, Proof, Terms};
use chain::{At, ChainError, Channels, Sender};
use protocol::channel::{ChannelId, CloseGas, Index, Seconds, Timestamp};
use storage::StoreError;
use storage::channel::{ChannelDomainStore, SettlementStep, VendorChannelStore};
use tracing::info;

use super::plan::{Known, Part};
use super::vendor::Vendor;

/// What a watcher needs for one channel: the arguments of `checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchFile {
    /// The chain's id.
    pub chain_id: u64,
    /// The contract.
    pub contract: Address,
    /// Of the chain that the word is on.
    pub terms: Terms,
    /// The word, and where its walk ends.
    pub proof: Proof,
}

/// Guards vendors that are offline.
#[derive(Clone, Debug)]
pub struct Watcher {
    sender: Sender<Channels>,
    margin: Seconds,
}

/// What a look at a channel came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// It is not time yet; look again by then.
    Waits {
        /// When the watcher will act.
        until: Timestamp,
    },
    /// The contract has settled as much, or more, at the newest block: look again until the channel is over.
    Settled {
        /// Units settled.
        settled: Index,
    },
    /// A checkpoint is in a block: look again until the channel is over.
    Checkpointed {
        /// The transaction.
        hash: B256,
    },
    /// The channel is closed, or its time is over: there is nothing more to do.
    Over,
}

/// Why a watcher could not look, or act.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The chain, or the contract's refusal.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The file is for another contract.
    #[error(
        "the file is for contract {got} on chain {got_chain}, the watcher looks at {contract} on chain {chain}"
    )]
    OtherContract {
        /// The file's contract.
        got: Address,
        /// The file's chain.
        got_chain: u64,
        /// The watcher's contract.
        contract: Address,
        /// The watcher's chain.
        chain: u64,
    },
    /// The contract has no channel with these terms.
    #[error("the contract has no channel {channel} with the file's terms")]
    UnknownChannel {
        /// The channel.
        channel: ChannelId,
    },
}

impl WatchError {
    /// Whether the same look can succeed later.
    pub fn retry(&self) -> bool {
        match self {
            Self::Chain(error) => error.retry(),
            Self::OtherContract { .. } => false,
            // Its opening may have been reorganised away for now.
            Self::UnknownChannel { .. } => true,
        }
    }
}

impl Watcher {
    /// A watcher that acts `margin` before the expiry, and pays for it from the account of `sender`.
    pub fn new(sender: Sender<Channels>, margin: Seconds) -> Self {
        Self { sender, margin }
    }

    /// Looks at a channel, and sends the checkpoint if it is time.
    pub async fn step(&self, file: &WatchFile, now: Timestamp) -> Result<Watched, WatchError> {
        let client = self.sender.client();
        let (contract, chain) = (client.contract(), client.config().chain_id);
        if (file.contract, file.chain_id) != (contract, chain) {
            return Err(WatchError::OtherContract {
                got: file.contract,
                got_chain: file.chain_id,
                contract,
                chain,
            });
        }
        let id = ChannelId(file.terms.permit.channelId);
        let channel = client
            .channel_of(&file.terms, At::Latest)
            .await?
            .ok_or(WatchError::UnknownChannel { channel: id })?;
        const OPEN: u8 = 1;
        let (settled, expiry) = (Index(channel.settled), Timestamp(channel.expiry));
        if channel.status != OPEN || now > expiry {
            return Ok(Watched::Over);
        }
        if settled.0 >= file.proof.index {
            return Ok(Watched::Settled { settled });
        }
        let until = Timestamp(expiry.0.saturating_sub(self.margin.0));
        if now < until {
            return Ok(Watched::Waits { until });
        }
        let call = PaymentChannel::checkpointCall {
            terms: file.terms.clone(),
            proof: file.proof.clone(),
        };
        let data = Bytes::from(call.abi_encode());
        let hash = self.sender.send(contract, data, U256::ZERO).await?.hash;
        info!(channel = %id, index = file.proof.index, %hash, "settled for an offline vendor");
        Ok(Watched::Checkpointed { hash })
    }
}

impl<S> Vendor<S>
where
    S: ChannelDomainStore + VendorChannelStore + Clone + Send + Sync + 'static,
{
    /// The file for a watcher: what was paid over a channel so far. `None` if nothing was, beyond what is settled.
    pub async fn watch_file(
        self: &Arc<Self>,
        channel: ChannelId,
        gas: &CloseGas,
    ) -> Result<Option<WatchFile>, StoreError> {
        let (Some(chain), Some(stored)) = (self.record(channel), self.store.vendor_channel(channel).await?)
        else {
            return Ok(None);
        };
        let known = Known {
            domain: &self.domain,
            chain: &chain,
            stored: Some(&stored),
            anchor: None,
            gas,
        };
        let part = Part::plan(&known, SettlementStep::Checkpoint, known.held().paid.index).ok();
        Ok(part.map(|part| WatchFile {
            chain_id: self.domain.chain_id(),
            contract: self.domain.contract(),
            terms: part.close.terms,
            proof: part.close.proof,
        }))
    }
}
