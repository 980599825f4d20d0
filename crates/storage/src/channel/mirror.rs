//! The mirror of the channels at the last final block. Its cursor is its own: the two contracts are followed independently.

use alloy_primitives::{Address, B256, Bytes, U64, U128};
use bindings::channel::OpenPermit;
use protocol::channel::{
    Amount, BlockRef, ChainTerms, ChannelRecord, Channels, Closing, Index, Signature, Transcript, Word,
};
use serde::{Deserialize, Serialize};

use crate::Result;

/// Channels as of a final block.
pub trait ChannelMirrorStore {
    /// The final block up to which events are folded in, and every channel as of it. None before the first save.
    fn load_channel_mirror(&self) -> impl Future<Output = Result<Option<(BlockRef, Channels)>>> + Send;

    /// Moves the cursor and stores the channels that changed since, atomically. A cursor behind the stored one, or another
    /// block of the same height, is [`CursorBackwards`](crate::StoreError::CursorBackwards).
    fn save_channel_mirror(
        &self,
        cursor: BlockRef,
        changed: &Channels,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Forgets the cursor and every channel: the way out of a reorg deeper than finality.
    fn forget_channel_mirror(&self) -> impl Future<Output = Result<()>> + Send;
}

/// [`ChannelRecord`] as it is stored: JSON with numbers as hexadecimal text, because JSON numbers are not exact.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredChannel {
    client: Address,
    vendor: Address,
    bank: Address,
    chains: Vec<StoredChain>,
    settled: u32,
    checkpointed: Option<(u32, B256)>,
    closing: Option<StoredClosing>,
    receipt_shown: Option<B256>,
    bad_lock_proven: bool,
    double_receipt_proven: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredChain {
    channel: B256,
    client: Address,
    vendor: Address,
    receipt_key: Address,
    asset: Address,
    unit: U128,
    length: u32,
    anchor: B256,
    client_reputation: u8,
    vendor_reputation: u8,
    issued_at: U64,
    expiry: U64,
    sigma0: Bytes,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum StoredClosing {
    Closed {
        paid: U128,
        refunded: U128,
        transcript: B256,
    },
    Cooperative {
        paid: U128,
        refunded: U128,
    },
    Refunded {
        refunded: U128,
    },
}

impl From<&ChannelRecord> for StoredChannel {
    fn from(record: &ChannelRecord) -> Self {
        // Every field by name, so that a new one cannot be forgotten here.
        let ChannelRecord {
            client,
            vendor,
            bank,
            chains,
            settled,
            checkpointed,
            closing,
            receipt_shown,
            bad_lock_proven,
            double_receipt_proven,
        } = record;
        let number = |amount: &Amount| U128::from(amount.0);
        Self {
            client: *client,
            vendor: *vendor,
            bank: *bank,
            chains: chains.iter().map(StoredChain::from).collect(),
            settled: settled.0,
            checkpointed: checkpointed.map(|(index, word)| (index.0, word.0)),
            closing: closing.as_ref().map(|closing| match closing {
                Closing::Closed {
                    paid,
                    refunded,
                    transcript,
                } => StoredClosing::Closed {
                    paid: number(paid),
                    refunded: number(refunded),
                    transcript: transcript.0,
                },
                Closing::Cooperative { paid, refunded } => StoredClosing::Cooperative {
                    paid: number(paid),
                    refunded: number(refunded),
                },
                Closing::Refunded { refunded } => StoredClosing::Refunded {
                    refunded: number(refunded),
                },
            }),
            receipt_shown: *receipt_shown,
            bad_lock_proven: *bad_lock_proven,
            double_receipt_proven: *double_receipt_proven,
        }
    }
}

impl From<&ChainTerms> for StoredChain {
    fn from(chain: &ChainTerms) -> Self {
        let OpenPermit {
            channelId,
            client,
            vendor,
            receiptKey,
            asset,
            unit,
            length,
            anchor,
            clientReputation,
            vendorReputation,
            issuedAt,
            expiry,
        } = &chain.permit;
        Self {
            channel: *channelId,
            client: *client,
            vendor: *vendor,
            receipt_key: *receiptKey,
            asset: *asset,
            unit: U128::from(*unit),
            length: *length,
            anchor: *anchor,
            client_reputation: *clientReputation,
            vendor_reputation: *vendorReputation,
            issued_at: U64::from(*issuedAt),
            expiry: U64::from(*expiry),
            sigma0: chain.sigma0.to_bytes().to_vec().into(),
        }
    }
}

impl TryFrom<StoredChannel> for ChannelRecord {
    /// What is wrong with it.
    type Error = String;

    fn try_from(stored: StoredChannel) -> Result<Self, String> {
        if stored.chains.is_empty() {
            return Err("a channel without a chain".to_owned());
        }
        let amount = |number: U128| Amount(number.to());
        Ok(Self {
            client: stored.client,
            vendor: stored.vendor,
            bank: stored.bank,
            chains: stored
                .chains
                .into_iter()
                .map(ChainTerms::try_from)
                .collect::<Result<_, _>>()?,
            settled: Index(stored.settled),
            checkpointed: stored
                .checkpointed
                .map(|(index, word)| (Index(index), Word(word))),
            closing: stored.closing.map(|closing| match closing {
                StoredClosing::Closed {
                    paid,
                    refunded,
                    transcript,
                } => Closing::Closed {
                    paid: amount(paid),
                    refunded: amount(refunded),
                    transcript: Transcript(transcript),
                },
                StoredClosing::Cooperative { paid, refunded } => Closing::Cooperative {
                    paid: amount(paid),
                    refunded: amount(refunded),
                },
                StoredClosing::Refunded { refunded } => Closing::Refunded {
                    refunded: amount(refunded),
                },
            }),
            receipt_shown: stored.receipt_shown,
            bad_lock_proven: stored.bad_lock_proven,
            double_receipt_proven: stored.double_receipt_proven,
        })
    }
}

impl TryFrom<StoredChain> for ChainTerms {
    type Error = String;

    fn try_from(stored: StoredChain) -> Result<Self, String> {
        Ok(Self {
            permit: OpenPermit {
                channelId: stored.channel,
                client: stored.client,
                vendor: stored.vendor,
                receiptKey: stored.receipt_key,
                asset: stored.asset,
                unit: stored.unit.to(),
                length: stored.length,
                anchor: stored.anchor,
                clientReputation: stored.client_reputation,
                vendorReputation: stored.vendor_reputation,
                issuedAt: stored.issued_at.to(),
                expiry: stored.expiry.to(),
            },
            sigma0: Signature::from_bytes(&stored.sigma0).map_err(|error| error.to_string())?,
        })
    }
}
