//! Payment kind `micropay-channel`: terms, payment, receipt, and what the two parties of a channel ask each other beside
//! payments. The terms are the same for every payer, so that they can be kept for as long as the price holds.
//!
//! # What is paid for
//!
//! A receipt of a channel is for an *item*. Over HTTP an item is a request's method and target, hashed by [`item_hash`]; this
//! is normative:
//!
//! ```text
//! part(x)  = u64 big-endian (length of x in bytes) ‖ x
//! itemHash = keccak256(part("micropay/http/item/v1") ‖ part(METHOD) ‖ part(path and query, as sent))
//! ```
//!
//! The body is no part of it, so that a payment can leave before a body that is streamed. A gateway holds a payment to one
//! request, with its body, all the same.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, keccak256};
use bindings::channel::Checkpoint;
use protocol::channel::{
    Acknowledged, ChannelId, Domain, Index, ItemHash, Key, Lock, LockedReceipt, Opener, PublicKey,
    Reputation, Sigma, Signature, SignedCheckpoint, Tag, Timestamp, Transcript, Word,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::encoding::{checksummed, decimal};
use super::{WireError, network};

/// Where a gateway answers the parties of a channel: `POST {CHANNELS}{channel}/{position|opener|close|payments}`.
pub const CHANNELS: &str = "/.well-known/micropay/channels/";
/// Longest body of a question about a channel, and of its answer, bytes.
pub const MAX_CHANNEL_BODY: usize = 4096;
/// How old, or how far ahead, a request for a position may be, seconds.
pub const POSITION_SECONDS: u64 = 300;
/// Most payments that are given back to a vendor at once, so that they fit a body.
pub const MAX_LOST: usize = 5;
/// Most banks that terms name.
pub const MAX_BANKS: usize = 4;

/// One way to pay (x402 `PaymentRequirements`): by a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelRequirements {
    /// `micropay-channel`.
    pub scheme: String,
    /// CAIP-2 name of the chain: `eip155:<chain id>`.
    pub network: String,
    /// The price, atomic units. A channel pays as many of its units as cover it.
    #[serde(with = "decimal")]
    pub amount: u128,
    /// Token, or the zero address for the native asset.
    #[serde(with = "checksummed")]
    pub asset: Address,
    /// Who is paid: the channel's vendor.
    #[serde(with = "checksummed")]
    pub pay_to: Address,
    /// How long these terms can be answered, as x402 calls it.
    pub max_timeout_seconds: u64,
    /// Which channels are taken.
    pub extra: ChannelExtra,
}

/// Which channels are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelExtra {
    /// The channel contract.
    #[serde(with = "checksummed")]
    pub contract: Address,
    /// Banks whose channels are taken, at most [`MAX_BANKS`].
    #[serde(deserialize_with = "few_banks")]
    pub banks: Vec<Address>,
    /// The least reputation of a client, as its bank signed it.
    #[serde(deserialize_with = "reputation")]
    pub min_reputation: u8,
    /// Nothing is taken later than this before a channel's expiry, seconds.
    pub margin: u64,
    /// Most units that one payment may pay.
    pub max_jump: u32,
    /// A checkpoint is to come with a payment after so many units.
    pub checkpoint_every: u32,
    /// Whether checkpoints commit to the locks.
    pub accountable: bool,
    /// What the terms are for: `METHOD glob` or `METHOD ~regex` over paths, `*` for any method.
    pub route: String,
}

/// A payment of a channel as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChannelPayment {
    /// The channel.
    pub channel_id: B256,
    /// Units paid with it, in all: 1 to 2^20.
    #[serde(deserialize_with = "index")]
    pub index: u32,
    /// The chain's word of this index.
    pub word: B256,
    /// What is paid for; see the module.
    pub item_hash: B256,
    /// When the receipt was signed, unix.
    #[serde(with = "decimal")]
    pub issued_at: u64,
    /// The signature of the payment before, under a lock: 64 bytes.
    pub lock: FixedBytes<64>,
    /// Pins the receipt's signature.
    pub tag: B256,
    /// Bounds the walk of a close; comes now and then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointPayload>,
}

/// A signed checkpoint as it travels with a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckpointPayload {
    /// Units that the signature is worth.
    #[serde(deserialize_with = "index")]
    pub index: u32,
    /// The chain's word of this index.
    pub word: B256,
    /// The tree's root over the locks, or zero.
    pub locks_root: B256,
    /// The receipt key's signature, 65 bytes.
    pub signature: Bytes,
}

/// What a receipt says of a channel's payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChannelReceipt {
    /// The channel.
    pub channel: B256,
    /// Units paid with this payment, in all.
    pub index: u32,
    /// The payment's tag.
    pub tag: B256,
}

/// Where a vendor stands, in a refusal: the last payment that it delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Units paid for what was delivered.
    pub index: u32,
    /// That payment's tag; of the bank's own signature at 0.
    pub tag: B256,
}

/// `POST …/position`: a client that lost its store asks where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PositionRequest {
    /// Now, unix.
    #[serde(with = "decimal")]
    pub requested_at: u64,
    /// The receipt key's signature of [`position_digest`], 65 bytes.
    pub signature: Bytes,
}

/// What it is told: the last receipt, and what its client needs to sign it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PositionAnswer {
    /// The channel.
    pub channel_id: B256,
    /// Where it stands; absent where nothing was paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastReceipt>,
}

/// The last payment that counts, with the transcript before it, and what else the vendor has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LastReceipt {
    /// Units paid with it, in all.
    #[serde(deserialize_with = "index")]
    pub index: u32,
    /// What was paid for.
    pub item_hash: B256,
    /// When the client signed it, unix.
    #[serde(with = "decimal")]
    pub issued_at: u64,
    /// The signature before it, under a lock.
    pub lock: FixedBytes<64>,
    /// Pins its signature.
    pub tag: B256,
    /// Everything paid for before it.
    pub before: B256,
    /// Index of the last checkpoint over locks that the vendor has; 0 if it has none.
    #[serde(deserialize_with = "index_or_zero")]
    pub accounted: u32,
    /// The highest word that it holds: what the client has revealed.
    pub held: HeldWord,
}

/// A word with its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeldWord {
    /// Units that it is worth.
    #[serde(deserialize_with = "index")]
    pub index: u32,
    /// The word.
    pub word: B256,
}

/// `POST …/opener`: the client opens its receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenerRequest {
    /// Which receipt it signs.
    #[serde(deserialize_with = "index")]
    pub index: u32,
    /// Its signature, 64 bytes.
    pub sigma: FixedBytes<64>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenerAnswer {
    /// Receipts that opened.
    pub opened: u32,
    /// Whether the last of them was locked to the bank's own signature.
    pub ends_in_sigma0: bool,
}

/// `POST …/close`: both close, without a walk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CloseRequest {
    /// Units that both agree were paid.
    #[serde(deserialize_with = "index_or_zero")]
    pub index: u32,
    /// The client's signature, 65 bytes.
    pub client_signature: Bytes,
}

/// The vendor's half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CloseAnswer {
    /// Units that both agree were paid.
    #[serde(deserialize_with = "index_or_zero")]
    pub index: u32,
    /// The vendor's signature, 65 bytes.
    pub vendor_signature: Bytes,
}

/// `POST …/payments`: payments that a vendor restored from a backup has lost, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PaymentsRequest {
    /// At most [`MAX_LOST`].
    #[serde(deserialize_with = "few_payments")]
    pub payments: Vec<LostPayment>,
}

/// A payment whose good was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LostPayment {
    /// The client's name of what it paid for.
    pub order: B256,
    /// As it was sent.
    pub payment: ChannelPayment,
}

/// What became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PaymentsAnswer {
    /// How many were new.
    pub taken: u32,
}

/// What a request is to a channel's receipts; see the module. `target` is the path and query as they are sent.
pub fn item_hash(method: &str, target: &str) -> ItemHash {
    ItemHash(hash_parts(&[
        b"micropay/http/item/v1",
        method.as_bytes(),
        target.as_bytes(),
    ]))
}

/// What a receipt key signs to ask for its channel's position, at a time in unix seconds.
pub fn position_digest(channel: ChannelId, requested_at: u64) -> B256 {
    hash_parts(&[
        b"micropay/channel/position/v1",
        channel.0.as_slice(),
        &requested_at.to_be_bytes(),
    ])
}

fn hash_parts(parts: &[&[u8]]) -> B256 {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    keccak256(bytes)
}

/// Reads a question about a channel, or its answer.
pub fn read_channel_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    if body.len() > MAX_CHANNEL_BODY {
        return Err(WireError::TooLong {
            got: body.len(),
            limit: MAX_CHANNEL_BODY,
        });
    }
    serde_json::from_slice(body).map_err(|error| WireError::Json(error.to_string()))
}

impl ChannelRequirements {
    /// Whether these terms are for channels of this contract.
    pub fn is_of(&self, domain: &Domain) -> bool {
        self.extra.contract == domain.contract() && self.network == network(domain.chain_id())
    }
}

impl ChannelPayment {
    /// The payment, with nothing checked but its form.
    pub fn payment(&self) -> protocol::channel::Payment {
        protocol::channel::Payment {
            channel: ChannelId(self.channel_id),
            index: Index(self.index),
            word: Word(self.word),
            item: ItemHash(self.item_hash),
            issued_at: Timestamp(self.issued_at),
            lock: Lock(self.lock.0),
            tag: Tag(self.tag),
        }
    }

    /// The checkpoint that came with it, with nothing checked but the signature's form.
    pub fn checkpoint(&self) -> Result<Option<SignedCheckpoint>, WireError> {
        let Some(payload) = &self.checkpoint else {
            return Ok(None);
        };
        Ok(Some(SignedCheckpoint {
            fields: Checkpoint {
                channelId: self.channel_id,
                index: payload.index,
                word: payload.word,
                locksRoot: payload.locks_root,
            },
            signature: Signature::from_bytes(&payload.signature)?,
        }))
    }

    /// As it travels.
    pub fn new(payment: &protocol::channel::Payment, checkpoint: Option<&SignedCheckpoint>) -> Self {
        Self {
            channel_id: payment.channel.0,
            index: payment.index.0,
            word: payment.word.0,
            item_hash: payment.item.0,
            issued_at: payment.issued_at.0,
            lock: payment.lock.0.into(),
            tag: payment.tag.0,
            checkpoint: checkpoint.map(|signed| CheckpointPayload {
                index: signed.fields.index,
                word: signed.fields.word,
                locks_root: signed.fields.locksRoot,
                signature: Bytes::copy_from_slice(&signed.signature.to_bytes()),
            }),
        }
    }
}

impl From<&protocol::channel::Payment> for ChannelReceipt {
    fn from(payment: &protocol::channel::Payment) -> Self {
        Self {
            channel: payment.channel.0,
            index: payment.index.0,
            tag: payment.tag.0,
        }
    }
}

impl PositionRequest {
    /// A request that the channel's receipt key signs.
    pub fn new(key: &Key, channel: ChannelId, now: Timestamp) -> Self {
        let signature = key.sign(position_digest(channel, now.0));
        Self {
            requested_at: now.0,
            signature: Bytes::copy_from_slice(&signature.to_bytes()),
        }
    }

    /// Who signed it for this channel.
    pub fn signer(&self, channel: ChannelId) -> Result<Address, WireError> {
        let signature = Signature::from_bytes(&self.signature)?;
        let key: PublicKey =
            protocol::channel::recover(position_digest(channel, self.requested_at), &signature)?;
        Ok(key.address())
    }

    /// Whether it is of about now.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.requested_at.abs_diff(now.0) <= POSITION_SECONDS
    }
}

impl LastReceipt {
    /// As it travels.
    pub fn new(
        receipt: &LockedReceipt,
        before: Transcript,
        accounted: Index,
        (index, word): (Index, Word),
    ) -> Self {
        Self {
            index: receipt.index.0,
            item_hash: receipt.item.0,
            issued_at: receipt.issued_at.0,
            lock: receipt.lock.0.into(),
            tag: receipt.tag.0,
            before: before.0,
            accounted: accounted.0,
            held: HeldWord {
                index: index.0,
                word: word.0,
            },
        }
    }

    /// What a client recovers from: the receipt, and the transcript before it.
    pub fn parts(&self) -> (LockedReceipt, Transcript) {
        let receipt = LockedReceipt {
            index: Index(self.index),
            item: ItemHash(self.item_hash),
            issued_at: Timestamp(self.issued_at),
            lock: Lock(self.lock.0),
            tag: Tag(self.tag),
        };
        (receipt, Transcript(self.before))
    }
}

impl OpenerRequest {
    /// The opener of this channel, if its signature has a form that a key could have made.
    pub fn opener(&self, channel: ChannelId) -> Result<Opener, WireError> {
        let sigma = Sigma::from_bytes(self.sigma.as_slice())
            .map_err(|error| WireError::Json(format!("sigma: {error}")))?;
        Ok(Opener {
            channel,
            index: Index(self.index),
            sigma,
        })
    }
}

impl From<&Opener> for OpenerRequest {
    fn from(opener: &Opener) -> Self {
        Self {
            index: opener.index.0,
            sigma: opener.sigma.to_bytes().into(),
        }
    }
}

impl Position {
    /// Whether this is where a client stands.
    pub fn is(&self, acknowledged: &Acknowledged, channel: ChannelId) -> bool {
        let tag = Tag::of(channel, acknowledged.index, &acknowledged.sigma);
        (self.index, self.tag) == (acknowledged.index.0, tag.0)
    }
}

fn index<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match index_or_zero(deserializer)? {
        0 => Err(serde::de::Error::custom("index 0 pays nothing")),
        index => Ok(index),
    }
}

fn index_or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    Index::try_from(number).map_err(serde::de::Error::custom)?;
    Ok(number)
}

fn reputation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let number = u8::deserialize(deserializer)?;
    let too_high =
        || serde::de::Error::custom(format_args!("reputation {number} is above {}", Reputation::MAX));
    Reputation::new(number).map(Reputation::get).ok_or_else(too_high)
}

fn few_payments<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<LostPayment>, D::Error> {
    let payments = Vec::<LostPayment>::deserialize(deserializer)?;
    if payments.len() > MAX_LOST {
        let text = format_args!(
            "{} payments, at most {MAX_LOST} are taken at once",
            payments.len()
        );
        return Err(serde::de::Error::custom(text));
    }
    Ok(payments)
}

fn few_banks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Address>, D::Error> {
    let banks = Vec::<Address>::deserialize(deserializer)?;
    if banks.len() > MAX_BANKS {
        let text = format_args!("{} banks, at most {MAX_BANKS} are named", banks.len());
        return Err(serde::de::Error::custom(text));
    }
    Ok(banks)
}
