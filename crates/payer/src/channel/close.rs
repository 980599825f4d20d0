//! Steps at the end: the opener, which gives the vendor every receipt, and the cooperative close, which gives the client the
//! rest at once, without waiting for the expiry.

use alloy_primitives::Address;
use bindings::channel::PaymentChannel;
use chain::{At, ChainError, Channels, Mined};
use protocol::channel::{
    ChannelId, Domain, Index, Key, Permit, Signature, SignatureError, Status, Timestamp, recover,
    sign_cooperative_close,
};
use storage::StoreError;
use storage::channel::ClientChannelStore;
use tracing::info;

use super::{ApiError, ChannelSteps, OpenError, ReceiptsOpened, VendorApi};

/// A channel that both parties closed.
#[derive(Clone, Debug)]
pub struct CooperativelyClosed {
    /// Units that the vendor was paid, in all.
    pub index: Index,
    /// The transaction; `None` if the channel was closed before.
    pub mined: Option<Box<Mined<Channels>>>,
}

/// Why a channel was not closed, or its receipts were not opened.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// A step on chain.
    #[error(transparent)]
    Step(#[from] OpenError),
    /// The vendor's answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The vendor's signature is malformed.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Another key signed.
    #[error("the vendor's half is signed by {recovered}, not by {vendor}")]
    WrongSigner {
        /// The address that the signature recovers.
        recovered: Address,
        /// The channel's vendor.
        vendor: Address,
    },
    /// The key is not the client's account.
    #[error("the key is of {got}, the channel's client is {client}")]
    WrongKey {
        /// Address of the key.
        got: Address,
        /// The channel's client.
        client: Address,
    },
}

impl From<StoreError> for CloseError {
    fn from(error: StoreError) -> Self {
        Self::Step(error.into())
    }
}

impl From<ChainError> for CloseError {
    fn from(error: ChainError) -> Self {
        Self::Step(error.into())
    }
}

impl CloseError {
    /// Whether the same step can succeed when tried again.
    pub fn retry(&self) -> bool {
        match self {
            Self::Step(error) => error.retry(),
            Self::Api(error) => error.retry(),
            Self::Signature(_) | Self::WrongSigner { .. } | Self::WrongKey { .. } => false,
        }
    }
}

impl<S: ClientChannelStore + Sync> ChannelSteps<S> {
    /// Gives the vendor the signature of the last receipt that was acknowledged, which opens all of them. Not for a channel
    /// that was recovered: it may have signed two receipts for an index.
    pub async fn deliver_opener(
        &self,
        vendor: &impl VendorApi,
        channel: ChannelId,
    ) -> Result<ReceiptsOpened, CloseError> {
        let stored = self.record(channel).await?;
        let opener = stored.channel.opener();
        if opener.index == Index::ZERO {
            return Ok(ReceiptsOpened {
                opened: 0,
                ends_in_sigma0: true,
            });
        }
        Ok(vendor.open_receipts(&opener).await?)
    }

    /// Closes together with the vendor at the highest index that was revealed (which the vendor can take in any case), and
    /// gets the rest at once, as credit. `key` is the key of the client's account.
    pub async fn cooperative_close(
        &self,
        vendor: &impl VendorApi,
        key: &Key,
        channel: ChannelId,
        now: Timestamp,
    ) -> Result<CooperativelyClosed, CloseError> {
        let stored = self.record(channel).await?;
        let newest = &stored.channel.terms()[stored.channel.terms().len() - 1];
        let permit = newest.permit();
        if key.address() != permit.client() {
            return Err(CloseError::WrongKey {
                got: key.address(),
                client: permit.client(),
            });
        }
        let client = self.sender.client();
        if let Some((Status::Closed, index)) = client.status_of(channel, At::Latest).await? {
            self.store.close_client_channel(channel, now).await?;
            return Ok(CooperativelyClosed { index, mined: None });
        }
        let (domain, index) = (client.domain(), stored.channel.revealed());
        let theirs = vendor.cooperative_close(channel, index).await?;
        check_half(&domain, permit, index, &theirs)?;
        let mine = sign_cooperative_close(&domain, key, permit, index);
        let call = PaymentChannel::cooperativeCloseCall {
            terms: newest.terms(),
            index: index.0,
            clientSignature: mine.to_sol(),
            vendorSignature: theirs.to_sol(),
        };
        let mined = self.send(call).await?;
        self.store.close_client_channel(channel, now).await?;
        info!(%channel, %index, hash = %mined.hash, "closed together");
        Ok(CooperativelyClosed {
            index,
            mined: Some(Box::new(mined)),
        })
    }
}

fn check_half(domain: &Domain, permit: &Permit, index: Index, half: &Signature) -> Result<(), CloseError> {
    let digest = domain.cooperative_close_digest(permit.channel(), index);
    let recovered = recover(digest, half)?.address();
    if recovered != permit.vendor() {
        return Err(CloseError::WrongSigner {
            recovered,
            vendor: permit.vendor(),
        });
    }
    Ok(())
}
