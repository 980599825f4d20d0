//! The payment channel: its scheme, and what one reads from it besides events.

use alloy::primitives::{Address, B256, Bytes, FixedBytes};
use bindings::channel::PaymentChannel::{self, PaymentChannelErrors};
use bindings::channel::{Channel, Terms};
use protocol::channel::{
    ChannelEvent, ChannelId, ChannelRecord, ChannelView, Domain, FoldError, Index, Reputation, Status, apply,
    channel_of,
};

use crate::client::rubbish_call;
use crate::{At, ChainError, Client, MirrorView, Records, Scheme};

/// The channel scheme (`contracts/channel`): one record per channel, by its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels;

impl Scheme for Channels {
    const NAME: &'static str = "payment channel";

    type Event = ChannelEvent;
    type Error = PaymentChannelErrors;
    type Id = ChannelId;
    type Record = ChannelRecord;
    type FoldError = FoldError;
    type Domain = Domain;

    fn creation_code() -> &'static Bytes {
        &PaymentChannel::BYTECODE
    }

    fn domain(chain_id: u64, contract: Address) -> Domain {
        Domain::new(chain_id, contract)
    }

    fn separator(domain: &Domain) -> B256 {
        domain.separator()
    }

    fn id_of(event: &ChannelEvent) -> Option<ChannelId> {
        channel_of(event)
    }

    fn apply(channels: &mut Records<Self>, event: &ChannelEvent) -> Result<(), FoldError> {
        apply(channels, event)
    }
}

impl MirrorView<Channels> {
    /// The same, borrowed, as admission takes it.
    #[must_use]
    pub fn as_view(&self) -> ChannelView<'_> {
        ChannelView {
            last_final: self.last_final.as_deref(),
            head: self.head.as_deref(),
        }
    }
}

/// Who signs permits of a bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BankKey {
    /// Address of the key; the bank's own unless it set another.
    pub key: Address,
    /// How often the bank set it.
    pub epoch: u64,
}

impl Client<Channels> {
    /// Where a channel stands and the highest index paid for; `None` if it was never opened.
    pub async fn status_of(&self, channel: ChannelId, at: At) -> Result<Option<(Status, Index)>, ChainError> {
        let call = PaymentChannel::statusOfCall { channelId: channel.0 };
        let got = self.view(call, at).await?;
        let status = status("statusOf", got.status)?;
        Ok(status.map(|status| (status, Index(got.settled))))
    }

    /// The channel with such terms, those of any of its chains; `None` if the contract does not know them. It keeps the
    /// hash of terms alone: they are in the events, and in [`ChannelRecord`].
    pub async fn channel_of(&self, terms: &Terms, at: At) -> Result<Option<Channel>, ChainError> {
        let terms = terms.clone();
        let got = self.view(PaymentChannel::channelOfCall { terms }, at).await?;
        Ok(status("channelOf", got.status)?.map(|_| got))
    }

    /// Where a proof that starts from the anchor of these terms' chain starts: its index, and the upper 224 bits of its word.
    pub async fn anchor_of(&self, terms: &Terms, at: At) -> Result<(Index, FixedBytes<28>), ChainError> {
        let terms = terms.clone();
        let got = self.view(PaymentChannel::anchorOfCall { terms }, at).await?;
        Ok((Index(got.index), got.word))
    }

    /// What the ledger of `bank` says of `customer`; 0 also where it says nothing.
    pub async fn reputation_of(
        &self,
        bank: Address,
        customer: Address,
        at: At,
    ) -> Result<Reputation, ChainError> {
        let call = PaymentChannel::reputationOfCall { bank, customer };
        let got = self.view(call, at).await?;
        Reputation::new(got).ok_or_else(|| rubbish_call("reputationOf", &format!("a reputation of {got}")))
    }

    /// Whose signature makes a permit of `bank`.
    pub async fn bank_key_of(&self, bank: Address, at: At) -> Result<BankKey, ChainError> {
        let got = self.view(PaymentChannel::bankKeyOfCall { bank }, at).await?;
        Ok(BankKey {
            key: got.key,
            epoch: got.epoch,
        })
    }
}

/// The numbers of Solidity's enum; `None` for a channel that was never opened.
fn status(call: &'static str, got: u8) -> Result<Option<Status>, ChainError> {
    match got {
        0 => Ok(None),
        1 => Ok(Some(Status::Open)),
        2 => Ok(Some(Status::Closed)),
        other => Err(rubbish_call(call, &format!("status {other}"))),
    }
}
