//! What a client asks of a vendor, whatever the transport. It lives with its caller; transports implement it, so that client
//! code is the same over every wire.

use protocol::channel::{
    ChannelId, Index, LockedReceipt, Opener, Payment, Retry, Signature, SignedCheckpoint, Tag, Transcript,
    Word,
};
use protocol::ticket::OrderId;

use super::ApiError;

/// A vendor as its clients see it.
pub trait VendorApi: Send + Sync {
    /// What is asked for: a piece, a path, a query.
    type Item: Send + Sync;
    /// What is delivered.
    type Good: Send;

    /// Sends a payment and waits for the good. The vendor answers the same payment for the same order with the same good.
    fn pay(
        &self,
        order: OrderId,
        item: &Self::Item,
        payment: &Payment,
        checkpoint: Option<&SignedCheckpoint>,
    ) -> impl Future<Output = Result<Answer<Self::Good>, ApiError>> + Send;

    /// Where the vendor stands: for a client that lost its store, or an answer. `None`: nothing was paid.
    fn position(&self, channel: ChannelId)
    -> impl Future<Output = Result<Option<Position>, ApiError>> + Send;

    /// Gives the vendor the signature that opens every receipt up to it.
    fn open_receipts(&self, opener: &Opener)
    -> impl Future<Output = Result<ReceiptsOpened, ApiError>> + Send;

    /// Asks for the vendor's half of a cooperative close at this index. From its answer on it takes no more payments.
    fn cooperative_close(
        &self,
        channel: ChannelId,
        index: Index,
    ) -> impl Future<Output = Result<Signature, ApiError>> + Send;

    /// Gives a vendor that was restored from a backup the payments that it has lost, in order. Their goods were delivered;
    /// nothing is delivered again.
    fn resend(
        &self,
        channel: ChannelId,
        payments: &[(OrderId, Payment)],
    ) -> impl Future<Output = Result<(), ApiError>> + Send {
        let message = format!(
            "channel {channel}: {} payments cannot be sent again this way",
            payments.len()
        );
        async move { Err(ApiError::Transport(message)) }
    }
}

/// A vendor's answer to a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<G> {
    /// The payment was accepted; here is the good.
    Delivered {
        /// What was bought.
        good: G,
    },
    /// The word was accepted and is kept; there is no good for it. Another order may have it, at the same index.
    Failed {
        /// What went wrong, in words.
        message: String,
    },
    /// The payment was refused.
    Refused {
        /// Stable name of the rule.
        rule: String,
        /// The refusal in words, with both values.
        message: String,
        /// What can help.
        retry: Retry,
        /// The last payment that the vendor delivered, if the refusal says so: its index and tag.
        position: Option<(Index, Tag)>,
    },
    /// The payment was accepted before, and this request gets nothing for it: its good is no longer kept, or it went to
    /// another request.
    Taken {
        /// Stable name of the rule.
        rule: String,
        /// What happened, in words.
        message: String,
    },
}

/// Where a vendor stands in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last receipt that counts: taken or delivered.
    pub receipt: LockedReceipt,
    /// The transcript before it.
    pub before: Transcript,
    /// Index of the last checkpoint over locks that the vendor has; 0 if it has none.
    pub accounted: Index,
    /// The highest word that it holds, with its index: what the client has revealed.
    pub held: (Index, Word),
}

/// What an opener opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptsOpened {
    /// How many receipts.
    pub opened: u32,
    /// Whether the chain ends in the bank's own signature.
    pub ends_in_sigma0: bool,
}
