//! Steps of the client on chain: `open`, `topUp` and `refund`. Each is one transaction of the client's account (two for a
//! token, with its approval), simulated before it is sent. The permit comes from the bank, which gives the same one again.
//!
//! Each looks at the chain first, so that it can be called again after a kill. A second deposit is impossible besides: an id
//! opens one channel, for ever, and a top-up has to be longer than the one before.

use alloy_primitives::{Address, B256, Bytes, Keccak256, U256};
use alloy_sol_types::SolCall;
use bindings::channel::PaymentChannel;
use bindings::erc20::IERC20;
use chain::{At, ChainError, Channels, Mined, Sender};
use protocol::channel::{
    Admitted, Amount, ChannelId, Index, Key, PayError as SchemeError, Status, Timestamp,
};
use storage::StoreError;
use storage::channel::{ClientChannelRecord, ClientChannelStore, NewClientChannel};

const SALT_TAG: &[u8] = b"micropay/channel/salt/v1";

/// The client's steps on chain, from the account of `sender`, with the channels in `store`.
#[derive(Clone, Debug)]
pub struct ChannelSteps<S> {
    pub(super) sender: Sender<Channels>,
    pub(super) store: S,
}

/// What a step did.
#[derive(Clone, Debug)]
pub enum Done {
    /// The transaction is in a block.
    Mined(Box<Mined<Channels>>),
    /// It was done before: nothing was sent.
    Already,
}

/// How far a top-up is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopUpState {
    /// The contract does not know it at that block.
    NotYet,
    /// It pays from now on.
    Pays,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The chain, or the contract's refusal.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The store. Nothing was sent that is not stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The permit is not one of this channel, or no longer chain.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    /// The store does not have the channel.
    #[error("there is no channel {channel} in the store")]
    UnknownChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// An id opens once.
    #[error("channel {channel} was opened before, and is closed with {settled} units paid")]
    Closed {
        /// The channel.
        channel: ChannelId,
        /// Units that the vendor was paid.
        settled: Index,
    },
    /// The permit is for another account.
    #[error("the permit is for client {client}, the transactions come from {account}")]
    WrongAccount {
        /// The permit's client.
        client: Address,
        /// The sender's account.
        account: Address,
    },
    /// No contract can hold what the chain would pay.
    #[error("{length} units of {unit} are more than 128 bits hold")]
    DepositTooLarge {
        /// The unit, atomic units.
        unit: Amount,
        /// The length.
        length: Index,
    },
}

impl OpenError {
    /// Whether the same step can succeed when tried again.
    pub fn retry(&self) -> bool {
        match self {
            Self::Chain(error) => error.retry(),
            Self::Store(error) => error.retry(),
            Self::Scheme(_)
            | Self::UnknownChannel { .. }
            | Self::Closed { .. }
            | Self::WrongAccount { .. }
            | Self::DepositTooLarge { .. } => false,
        }
    }
}

/// The salt of a client's `number`-th channel to a vendor. It follows from the receipt key, so that a client that lost its
/// store finds its channels by the key alone.
///
/// A salt is public once the channel is open, and says nothing of the key: keccak keyed by 32 uniform bytes is a
/// pseudo-random function, and nothing else hashes a string with this tag.
pub fn channel_salt(receipt_key: &Key, client: Address, vendor: Address, number: u32) -> B256 {
    let secret = receipt_key.to_bytes();
    let mut hasher = Keccak256::new();
    hasher.update(SALT_TAG);
    hasher.update(secret.as_slice());
    hasher.update(client);
    hasher.update(vendor);
    hasher.update(number.to_be_bytes());
    hasher.finalize()
}

impl<S: ClientChannelStore + Sync> ChannelSteps<S> {
    /// Steps from this account. The store was told which contract its channels are of.
    pub fn new(sender: Sender<Channels>, store: S) -> Self {
        Self { sender, store }
    }

    /// The account's sender.
    pub fn sender(&self) -> &Sender<Channels> {
        &self.sender
    }

    /// The salt of the first of this client's channels to a vendor that neither the store nor the chain has.
    pub async fn fresh_salt(&self, receipt_key: &Key, vendor: Address) -> Result<B256, OpenError> {
        let (client, domain) = (self.sender.client(), self.sender.client().domain());
        let mut number = 0;
        loop {
            let salt = channel_salt(receipt_key, self.sender.address(), vendor, number);
            let channel = domain.channel_id(self.sender.address(), vendor, salt);
            if self.store.client_channel(channel).await?.is_none()
                && client.status_of(channel, At::Latest).await?.is_none()
            {
                return Ok(salt);
            }
            number += 1;
        }
    }

    /// Opens a channel with a permit of a bank: saves it, then sends the deposit. Call it again after a kill.
    pub async fn open(
        &self,
        admitted: &Admitted,
        salt: B256,
        origin: Option<String>,
        now: Timestamp,
    ) -> Result<Done, OpenError> {
        let permit = admitted.permit();
        let channel = permit.channel();
        self.check_account(permit.client())?;
        let deposit = permit.deposit().ok_or(OpenError::DepositTooLarge {
            unit: permit.unit(),
            length: permit.length(),
        })?;
        self.store
            .save_client_channel(&NewClientChannel {
                admitted: admitted.clone(),
                salt,
                origin,
                at: now,
            })
            .await?;
        match self.sender.client().status_of(channel, At::Latest).await? {
            Some((Status::Open, _)) => return Ok(Done::Already),
            Some((Status::Closed, settled)) => return Err(OpenError::Closed { channel, settled }),
            None => {}
        }
        let call = PaymentChannel::openCall {
            permit: permit.fields().clone(),
            salt,
            bank: admitted.bank(),
            sigma0: admitted.signature().to_sol(),
        };
        self.deposit(permit.asset(), deposit, call).await
    }

    /// Sends what a longer chain costs. It pays only once [`ChannelSteps::confirm_top_up`] has seen it at a block that the
    /// vendor takes for final, too: before, the vendor would not know its words.
    pub async fn top_up(&self, admitted: &Admitted) -> Result<Done, OpenError> {
        let permit = admitted.permit();
        let stored = self.record(permit.channel()).await?;
        self.check_account(permit.client())?;
        if stored.channel.terms().contains(admitted) {
            return Ok(Done::Already);
        }
        stored.channel.topped_up(admitted.clone())?; // only asks
        let client = self.sender.client();
        if client.channel_of(&admitted.terms(), At::Latest).await?.is_some() {
            return Ok(Done::Already);
        }
        let newest = &stored.channel.terms()[stored.channel.terms().len() - 1];
        let more = permit.length().above(newest.permit().length());
        let deposit = permit
            .unit()
            .checked_mul(more.into())
            .ok_or(OpenError::DepositTooLarge {
                unit: permit.unit(),
                length: permit.length(),
            })?;
        let call = PaymentChannel::topUpCall {
            terms: newest.terms(),
            permit: permit.fields().clone(),
            sigma0: admitted.signature().to_sol(),
        };
        self.deposit(permit.asset(), deposit, call).await
    }

    /// Lets the longer chain pay, if the contract knows it at this block: at best one that the vendor takes for final.
    pub async fn confirm_top_up(&self, admitted: &Admitted, at: At) -> Result<TopUpState, OpenError> {
        let known = self.sender.client().channel_of(&admitted.terms(), at).await?;
        if known.is_none() {
            return Ok(TopUpState::NotYet);
        }
        self.store
            .topped_up(admitted.permit().channel(), admitted)
            .await?;
        Ok(TopUpState::Pays)
    }

    /// Takes back what the vendor did not prove by the channel's expiry, as credit.
    pub async fn refund(&self, channel: ChannelId, now: Timestamp) -> Result<Done, OpenError> {
        let stored = self.record(channel).await?;
        let newest = &stored.channel.terms()[stored.channel.terms().len() - 1];
        self.check_account(newest.permit().client())?;
        if let Some((Status::Closed, _)) = self.sender.client().status_of(channel, At::Latest).await? {
            self.store.close_client_channel(channel, now).await?;
            return Ok(Done::Already);
        }
        let call = PaymentChannel::refundCall {
            terms: newest.terms(),
        };
        let mined = self.send(call).await?;
        self.store.close_client_channel(channel, now).await?;
        Ok(Done::Mined(Box::new(mined)))
    }

    pub(super) async fn record(&self, channel: ChannelId) -> Result<ClientChannelRecord, OpenError> {
        let record = self.store.client_channel(channel).await?;
        record.ok_or(OpenError::UnknownChannel { channel })
    }

    pub(super) async fn send(&self, call: impl SolCall) -> Result<Mined<Channels>, ChainError> {
        let contract = self.sender.client().contract();
        self.sender
            .send(contract, Bytes::from(call.abi_encode()), U256::ZERO)
            .await
    }

    fn check_account(&self, client: Address) -> Result<(), OpenError> {
        let account = self.sender.address();
        if client == account {
            Ok(())
        } else {
            Err(OpenError::WrongAccount { client, account })
        }
    }

    /// A call that takes `amount` of `asset` from the sender, with its approval first where the asset is a token.
    async fn deposit(&self, asset: Address, amount: Amount, call: impl SolCall) -> Result<Done, OpenError> {
        let client = self.sender.client();
        let contract = client.contract();
        let mut value = amount.to_u256();
        if asset != Address::ZERO {
            value = U256::ZERO;
            let allowance = client.allowance(asset, self.sender.address(), contract).await?;
            if allowance < amount.to_u256() {
                let approve = IERC20::approveCall {
                    spender: contract,
                    amount: amount.to_u256(),
                };
                self.sender
                    .send(asset, approve.abi_encode().into(), U256::ZERO)
                    .await?;
            }
        }
        let data = Bytes::from(call.abi_encode());
        Ok(Done::Mined(Box::new(
            self.sender.send(contract, data, value).await?,
        )))
    }
}
