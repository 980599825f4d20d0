//! Step `open receipts`: an opener arrives, and opens every receipt up to its own. Off the path of payments, on a thread of
//! its own with as many more as the caller gives. What does not open is reported; no value depends on it.

use std::sync::Arc;

use protocol::channel::{
    Admitted, ChannelId, Index, LockedReceipt, Opened, Opener, ReceiptsFile, Stopped, Timestamp,
    open_receipts,
};
use storage::StoreError;
use storage::channel::{ChannelDomainStore, Opening, VendorChannelStore};
use tracing::{info, warn};

use super::vendor::Vendor;

/// Why an opener was not taken.
#[derive(Debug, thiserror::Error)]
pub enum OpenReceiptsError {
    /// There is no such channel, or it never paid.
    #[error("no payment over channel {channel} is known")]
    UnknownChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// It is not the signature that came pinned with the payment, so that anybody may have made it up.
    #[error("the opener of index {index} opens nothing: {stopped:?}")]
    NotTheOpener {
        /// The opener's index.
        index: Index,
        /// Why.
        stopped: Stopped,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process ends.
    #[error("the receipts of channel {channel} were not opened: the process is ending")]
    Interrupted {
        /// The channel.
        channel: ChannelId,
    },
}

impl<S> Vendor<S>
where
    S: ChannelDomainStore + VendorChannelStore + Clone + Send + Sync + 'static,
{
    /// Opens the receipts up to the opener's, with `threads` threads, and keeps the opener if it is the client's.
    pub async fn open_receipts(
        self: &Arc<Self>,
        opener: Opener,
        threads: usize,
        now: Timestamp,
    ) -> Result<Opened, OpenReceiptsError> {
        let channel = opener.channel;
        let (opening, receipts) = self.receipts_upto(channel, opener.index).await?;
        let domain = self.domain;
        let opened = tokio::task::spawn_blocking(move || {
            open_receipts(&domain, &opening, &receipts, &opener, threads)
        });
        let opened = opened
            .await
            .map_err(|_| OpenReceiptsError::Interrupted { channel })?;
        match opened.stopped {
            Some(stopped @ (Stopped::WrongChannel { .. } | Stopped::NoReceipt { .. })) => {
                return Err(OpenReceiptsError::NotTheOpener {
                    index: opener.index,
                    stopped,
                });
            }
            Some(stopped @ Stopped::WrongTag { index, .. }) if index == opener.index => {
                return Err(OpenReceiptsError::NotTheOpener { index, stopped });
            }
            Some(stopped) => {
                warn!(%channel, opener = %opener.index, unopenable = opened.unopenable.len(), ?stopped,
                    "a client's receipts do not open");
            }
            None => {
                info!(%channel, receipts = opened.receipts.len(), "receipts opened, down to the bank's signature");
            }
        }
        let opening = Opening {
            opener,
            opened: u32::try_from(opened.receipts.len()).unwrap_or(u32::MAX),
            ends_in_sigma0: opened.ends_in_sigma0,
            at: now,
        };
        self.store.save_opening(&opening).await?;
        Ok(opened)
    }

    /// The receipts of a channel with the best opener, for anybody to check; `None` without an opener.
    pub async fn receipts_file(&self, channel: ChannelId) -> Result<Option<ReceiptsFile>, OpenReceiptsError> {
        let Some(opening) = self
            .store
            .vendor_channel(channel)
            .await?
            .and_then(|stored| stored.opening)
        else {
            return Ok(None);
        };
        let record = self
            .record(channel)
            .ok_or(OpenReceiptsError::UnknownChannel { channel })?;
        let (_, receipts) = self.receipts_upto(channel, opening.opener.index).await?;
        Ok(Some(ReceiptsFile {
            terms: record.admitted(&self.domain),
            receipts,
            opener: opening.opener,
        }))
    }

    /// The permit that opened the channel, and its receipts up to an index.
    pub(super) async fn receipts_upto(
        &self,
        channel: ChannelId,
        upto: Index,
    ) -> Result<(Admitted, Vec<LockedReceipt>), OpenReceiptsError> {
        let unknown = || OpenReceiptsError::UnknownChannel { channel };
        let record = self.record(channel).ok_or_else(unknown)?;
        let opening = record
            .admitted(&self.domain)
            .into_iter()
            .next()
            .ok_or_else(unknown)?;
        let payments = self.store.vendor_payments(channel, Index::ZERO..=upto).await?;
        Ok((
            opening,
            payments.iter().map(|payment| payment.payment.receipt()).collect(),
        ))
    }
}
