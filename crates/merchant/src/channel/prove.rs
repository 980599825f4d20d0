//! Steps `proveBadLock` and `proveDoubleReceipt`: what a client signed and is not so costs its reputation. No money moves.
//! Single transactions, simulated before they are sent.

use alloy_primitives::{Bytes, U256};
use alloy_sol_types::SolCall;
use bindings::channel::PaymentChannel;
use bindings::channel::Receipt;
use chain::{ChainError, Channels, Mined};
use protocol::channel::{
    ChannelId, Index, LeafProof, LockedReceipt, NotBadLock, NotDoubleReceipt, Sigma, SignedCheckpoint,
    bad_lock, double_receipt, open_receipts,
};
use storage::StoreError;
use storage::channel::{ChannelDomainStore, SettlementStore, VendorChannelStore};

use super::OpenReceiptsError;
use super::close::Closer;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The client sent no opener, so that nothing is known of its locks.
    #[error("channel {channel} has no opener")]
    NoOpener {
        /// The channel.
        channel: ChannelId,
    },
    /// Every lock up to the opener opens.
    #[error("all {opened} receipts of channel {channel} open")]
    AllOpen {
        /// The channel.
        channel: ChannelId,
        /// How many receipts there are.
        opened: usize,
    },
    /// The client did not sign for the lock.
    #[error("no checkpoint of channel {channel} is over the lock of payment {index}")]
    NotSignedFor {
        /// The channel.
        channel: ChannelId,
        /// The payment.
        index: Index,
    },
    /// The contract would not take it.
    #[error(transparent)]
    NotBadLock(#[from] NotBadLock),
    /// The contract would not take it.
    #[error(transparent)]
    NotDoubleReceipt(#[from] NotDoubleReceipt),
    /// The receipts cannot be read.
    #[error(transparent)]
    Receipts(#[from] OpenReceiptsError),
    /// The chain, or the contract's refusal.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<S> Closer<S>
where
    S: ChannelDomainStore + VendorChannelStore + SettlementStore + Clone + Send + Sync + 'static,
{
    /// Proves the first lock, from the opener down, that does not open.
    pub async fn prove_bad_lock(&self, channel: ChannelId) -> Result<Mined<Channels>, ProveError> {
        let vendor = &self.vendor;
        let stored = vendor.store.vendor_channel(channel).await?;
        let opener = stored
            .and_then(|stored| stored.opening)
            .map(|opening| opening.opener);
        let opener = opener.ok_or(ProveError::NoOpener { channel })?;
        let (opening, receipts) = vendor.receipts_upto(channel, opener.index).await?;
        let opened = open_receipts(&vendor.domain, &opening, &receipts, &opener, 1);
        // The lowest receipt that opened has the lock that did not, and its signature is the key to it.
        let (Some(lowest), false) = (opened.receipts.first(), opened.ends_in_sigma0) else {
            return Err(ProveError::AllOpen {
                channel,
                opened: opened.receipts.len(),
            });
        };
        let checkpoints = vendor.store.checkpoints(channel).await?;
        let over_locks = checkpoints.into_iter().map(|checkpoint| checkpoint.signed);
        let over_locks = over_locks.filter(|checkpoint| !checkpoint.fields.locksRoot.is_zero());
        let checkpoints: Vec<SignedCheckpoint> = over_locks.collect();
        let leaf =
            |index| leaf(&receipts, &checkpoints, index).ok_or(ProveError::NotSignedFor { channel, index });
        let bad = leaf(lowest.receipt.index)?;
        let predecessor = match bad.leaf.previous {
            0 => None,
            previous => Some(leaf(Index(previous))?),
        };
        let sigma = lowest.sigma.to_bytes();
        let proof = bad_lock(&vendor.domain, &opening, &bad, predecessor.as_ref(), sigma)?;
        let call = PaymentChannel::proveBadLockCall {
            terms: proof.terms,
            bad: proof.bad,
            predecessor: proof.predecessor,
            r: proof.r,
            s: proof.s,
        };
        self.prove(call).await
    }

    /// Proves that the client signed two receipts of one index.
    pub async fn prove_double_receipt(
        &self,
        channel: ChannelId,
        a: (&Receipt, &Sigma),
        b: (&Receipt, &Sigma),
    ) -> Result<Mined<Channels>, ProveError> {
        let (opening, _) = self.vendor.receipts_upto(channel, Index::ZERO).await?;
        let proof = double_receipt(&self.vendor.domain, &opening, a, b)?;
        let call = PaymentChannel::proveDoubleReceiptCall {
            terms: proof.terms,
            a: proof.a.0,
            signatureA: proof.a.1.to_sol(),
            b: proof.b.0,
            signatureB: proof.b.1.to_sol(),
        };
        self.prove(call).await
    }

    async fn prove(&self, call: impl SolCall) -> Result<Mined<Channels>, ProveError> {
        let contract = self.vendor.domain.contract();
        let data = Bytes::from(call.abi_encode());
        Ok(self.sender.send(contract, data, U256::ZERO).await?)
    }
}

/// The leaf of a payment under the checkpoint that is over it.
fn leaf(receipts: &[LockedReceipt], checkpoints: &[SignedCheckpoint], index: Index) -> Option<LeafProof> {
    let over = checkpoints
        .iter()
        .position(|checkpoint| checkpoint.index() >= index)?;
    let last = match over {
        0 => Index::ZERO,
        over => checkpoints[over - 1].index(),
    };
    let of: Vec<LockedReceipt> = receipts
        .iter()
        .filter(|receipt| receipt.index > last && receipt.index <= checkpoints[over].index())
        .copied()
        .collect();
    LeafProof::of(index, &of, last, &checkpoints[over])
}
