//! Step `recover`: a client that lost its store goes on with its keys, the chain, and what the vendor has of the last
//! payment. The permits are in the contract's events, the chain of words follows from the receipt key, and whether the
//! vendor shows a receipt of this client its own signature tells.
//!
//! A vendor may show an older receipt than the last. It gains nothing (what it hides it is not paid for), but the client
//! would then sign a second receipt for an index. So the opener of a recovered channel is not given away, and the channel
//! best closed and opened anew.

use alloy_primitives::{Address, B256};
use protocol::channel::{
    Acknowledged, Chain, ChainError, ChannelId, ChannelRecord, ClientChannel, Domain, Key,
    PayError as SchemeError, Timestamp, chain_seed,
};
use storage::StoreError;
use storage::channel::{ClientChannelStore, NewClientChannel};
use tracing::info;

use super::{ApiError, VendorApi, channel_salt};

/// How many of a client's channels to one vendor are looked through for the one to recover.
const MOST_CHANNELS: u32 = 1 << 12;

/// A channel that was recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// As it is stored now.
    pub channel: ClientChannel,
    /// The salt that made its name.
    pub salt: B256,
}

/// Why a channel was not recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The vendor's answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The vendor shows what this key did not sign, or the key is another.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    /// The chain of words cannot be made.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The channel's name was not made by this key.
    #[error("channel {channel} is none of the first {searched} of client {client} with this key")]
    SaltUnknown {
        /// The channel.
        channel: ChannelId,
        /// Its client.
        client: Address,
        /// How many salts were tried.
        searched: u32,
    },
}

/// Rebuilds one channel in an empty store. `record` is what the chain says of it, at a final block.
pub async fn recover<S: ClientChannelStore>(
    domain: &Domain,
    key: &Key,
    record: &ChannelRecord,
    vendor: &impl VendorApi,
    store: &S,
    now: Timestamp,
) -> Result<Recovered, RecoverError> {
    let terms = record.admitted(domain);
    let opening = terms[0].clone();
    let permit = opening.permit();
    let (id, client) = (permit.channel(), permit.client());
    let salt = (0..MOST_CHANNELS)
        .map(|number| channel_salt(key, client, permit.vendor(), number))
        .find(|salt| domain.channel_id(client, permit.vendor(), *salt) == id)
        .ok_or(RecoverError::SaltUnknown {
            channel: id,
            client,
            searched: MOST_CHANNELS,
        })?;
    let position = vendor.position(id).await?;
    let last = position.map(|position| (position.receipt, position.before));
    let mut channel = ClientChannel::recover(domain, key, terms.clone(), last)?;
    if let Some(position) = &position {
        let newest = terms[terms.len() - 1].permit();
        let generation = u32::try_from(terms.len() - 1).unwrap_or(u32::MAX);
        let seed = chain_seed(key, id, generation, newest.length());
        let mut chain = Chain::from_seed(seed, id, newest.length())?;
        // A word of an earlier chain proves nothing new: then the receipt alone counts.
        let (index, word) = position.held;
        match channel.shown(&mut chain, index, word) {
            Ok(shown) => channel = shown,
            Err(SchemeError::NotMyWord { .. }) if generation > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
    store
        .save_client_channel(&NewClientChannel {
            admitted: opening,
            salt,
            origin: None,
            at: now,
        })
        .await?;
    for longer in &terms[1..] {
        store.topped_up(id, longer).await?;
    }
    let acknowledged: Acknowledged = *channel.acknowledged();
    store.acknowledge(id, &acknowledged).await?;
    info!(channel = %id, index = %acknowledged.index, "recovered a channel");
    Ok(Recovered { channel, salt })
}
