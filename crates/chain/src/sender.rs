//! Transactions: prepared (simulated, priced, signed) first, so that the caller can save them; then broadcast; then watched
//! until one of those that share an account nonce is mined. A sender keeps nothing that a kill would lose.
//!
//! ```text
//!   prepare ──▶ (save) ──▶ broadcast ──▶ PENDING ──▶ MINED ──▶ final (the follower says when)
//!      ▲                       ▲            │  │        │ reorg
//!      │ bump, same nonce      │ rebroadcast│  │        ▼
//!      └───────────────────────┴── UNKNOWN ◀┘  └──▶ SUPERSEDED: another transaction used the account nonce
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::consensus::{SignableTransaction, Transaction, TxEip1559, TxEnvelope};
use alloy::eips::Decodable2718;
use alloy::eips::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy::rpc::types::TransactionRequest;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use protocol::block::BlockRef;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::{info, warn};

use crate::{At, ChainError, Client, Fees, Scheme, Tickets, bump};

/// The most gas one transaction may ask for (EIP-7825).
const TRANSACTION_GAS_CAP: u64 = 1 << 24;

/// How long a node may count a transaction whose receipt it does not show yet: anvil with a block of many events, or two
/// nodes behind one address. Only waited for, a little and then longer, where a transaction seems to be superseded.
const RECEIPT_LAG: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(450)];

/// Gas beyond the estimate, besides a quarter of it.
const SPARE_GAS: u64 = 80_000;

/// First pause between two looks at a transaction; doubles up to [`SenderConfig::poll_interval`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// How much to pay and how long to wait.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Never offer more than this per gas, in wei, whatever the market or a node says.
    pub fee_cap: u128,
    /// Longest pause between two looks at a transaction that [`Sender::send`] waits for.
    pub poll_interval: Duration,
    /// A transaction pending this long is replaced by one with higher fees.
    pub bump_after: Duration,
    /// [`Sender::send`] gives up waiting after this.
    pub give_up_after: Duration,
}

impl Default for SenderConfig {
    /// 500 gwei; look every second, bump after 30 s, give up after 10 minutes.
    fn default() -> Self {
        Self {
            fee_cap: 500_000_000_000,
            poll_interval: Duration::from_secs(1),
            bump_after: Duration::from_secs(30),
            give_up_after: Duration::from_secs(600),
        }
    }
}

/// A signed transaction that passed its simulation. Save it, then broadcast `raw`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Its hash.
    pub hash: B256,
    /// Its signed encoding, for [`Sender::broadcast`].
    pub raw: Bytes,
    /// The account nonce that it uses.
    pub account_nonce: u64,
    /// The most it pays per gas, in wei.
    pub max_fee_per_gas: u128,
    /// The tip within that, per gas, in wei.
    pub max_priority_fee_per_gas: u128,
    /// The most gas it may use.
    pub gas_limit: u64,
}

impl Prepared {
    /// Its fees, for a replacement to exceed.
    #[must_use]
    pub fn fees(&self) -> Fees {
        Fees {
            max_fee_per_gas: self.max_fee_per_gas,
            max_priority_fee_per_gas: self.max_priority_fee_per_gas,
        }
    }
}

/// What the node did with a broadcast. All three are fine: [`Sender::fate`] tells the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// Taken into the pool.
    Sent,
    /// It was in the pool already.
    AlreadyKnown,
    /// The account nonce is used: by this transaction, mined meanwhile, or by another.
    NonceUsed,
}

/// A transaction that is in a block. Not final: a reorg may take it out again.
#[derive(Clone, Debug)]
pub struct Mined<S: Scheme = Tickets> {
    /// The transaction.
    pub hash: B256,
    /// Its block.
    pub block: BlockRef,
    /// `false`: it reverted and did nothing.
    pub success: bool,
    /// Gas that it used.
    pub gas_used: u64,
    /// What it paid per gas, in wei.
    pub effective_gas_price: u128,
    /// The contract's events in it, in order.
    pub events: Vec<S::Event>,
}

impl<S: Scheme> Mined<S> {
    /// What it cost, in wei, without any value sent along.
    #[must_use]
    pub fn fee(&self) -> u128 {
        u128::from(self.gas_used).saturating_mul(self.effective_gas_price)
    }
}

/// What became of transactions that share one account nonce, as of the newest block.
#[derive(Clone, Debug)]
pub enum Fate<S: Scheme = Tickets> {
    /// At least one waits in the node's pool.
    Pending,
    /// The node knows none of them: broadcast again.
    Unknown,
    /// One is in a block.
    Mined(Mined<S>),
    /// The account nonce was used by another transaction. Only a reorg could still bring one of these onto the chain.
    Superseded,
}

/// The right to take the next account nonce; see [`Sender::turn`].
#[derive(Debug)]
pub struct Turn {
    _guard: OwnedMutexGuard<()>,
}

/// Signs and sends for one account. Clones share their [`Turn`]s, and so do senders for other contracts that were made from
/// it ([`Sender::of`]).
#[derive(Clone)]
pub struct Sender<S: Scheme = Tickets> {
    client: Client<S>,
    signer: PrivateKeySigner,
    config: SenderConfig,
    turns: Arc<Mutex<()>>,
}

impl<S: Scheme> fmt::Debug for Sender<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

impl<S: Scheme> Sender<S> {
    /// A sender with the default configuration.
    #[must_use]
    pub fn new(client: Client<S>, signer: PrivateKeySigner) -> Self {
        Self::with_config(client, signer, SenderConfig::default())
    }

    /// A sender with another configuration.
    #[must_use]
    pub fn with_config(client: Client<S>, signer: PrivateKeySigner, config: SenderConfig) -> Self {
        Self {
            client,
            signer,
            config,
            turns: Arc::default(),
        }
    }

    /// The same account for another contract. Whatever a process sends from one account must come from senders that
    /// descend from one, by this or by cloning: they share their [`Turn`]s, so that no two transactions take one account
    /// nonce. For the same reason `client` must ask the same node: another may not have heard yet of what is pending.
    #[must_use]
    pub fn of<T: Scheme>(&self, client: Client<T>) -> Sender<T> {
        Sender {
            client,
            signer: self.signer.clone(),
            config: self.config.clone(),
            turns: Arc::clone(&self.turns),
        }
    }

    /// The account that pays and signs.
    #[must_use]
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// The client that it sends through.
    #[must_use]
    pub fn client(&self) -> &Client<S> {
        &self.client
    }

    /// Waits until no other task of this process is between preparing a transaction with a fresh account nonce and
    /// broadcasting it; otherwise two would take the same nonce, and one would be [`Fate::Superseded`]. Hold it from
    /// [`Sender::prepare`] to [`Sender::broadcast`].
    pub async fn turn(&self) -> Turn {
        Turn {
            _guard: Arc::clone(&self.turns).lock_owned().await,
        }
    }

    /// Simulates, prices and signs a transaction; sends nothing.
    ///
    /// `account_nonce`: `None` takes the next one that the node knows of, pending ones counted. `replaces`: fees of the
    /// transaction with the same account nonce that this one shall take the place of; the new ones are higher
    /// ([`bump`]).
    ///
    /// [`ChainError::Reverted`] if it would fail as things stand after the newest block.
    pub async fn prepare(
        &self,
        to: Address,
        data: Bytes,
        value: U256,
        account_nonce: Option<u64>,
        replaces: Option<Fees>,
    ) -> Result<Prepared, ChainError> {
        let account = self.address();
        let account_nonce = match account_nonce {
            Some(nonce) => nonce,
            None => self.client.account_nonce(account, At::Pending).await?,
        };
        let have = U256::from(self.client.balance(Address::ZERO, account, At::Latest).await?.0);
        let afford = |need: U256| {
            if have < need {
                Err(ChainError::InsufficientFunds { account, have, need })
            } else {
                Ok(())
            }
        };
        // Before the simulation, as nodes have no common way to say it.
        afford(value)?;
        let request = TransactionRequest {
            from: Some(account),
            to: Some(TxKind::Call(to)),
            input: data.clone().into(),
            value: Some(value),
            ..Default::default()
        };
        self.client.call(&request, At::Latest).await?;
        let estimate = self.client.estimate_gas(&request).await?;
        // More, as the state may move before it is mined (a claim that finds a drained escrow writes three slots more); what
        // is not used is not paid.
        let gas_limit = estimate
            .saturating_add(SPARE_GAS)
            .saturating_add(estimate / 4)
            .min(estimate.max(TRANSACTION_GAS_CAP));
        let fees = self.fees(replaces).await?;
        let fee = U256::from(gas_limit).saturating_mul(U256::from(fees.max_fee_per_gas));
        afford(value.saturating_add(fee))?;
        Ok(self.sign(TxEip1559 {
            chain_id: self.client.config().chain_id,
            nonce: account_nonce,
            gas_limit,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            to: TxKind::Call(to),
            value,
            input: data,
            ..Default::default()
        }))
    }

    async fn fees(&self, replaces: Option<Fees>) -> Result<Fees, ChainError> {
        let market = self.client.market_fees().await?;
        let fees = replaces.map_or(market, |previous| bump(previous, market));
        let (needed, cap) = (fees.max_fee_per_gas, self.config.fee_cap);
        if needed > cap {
            Err(ChainError::FeeAboveCap { needed, cap })
        } else {
            Ok(fees)
        }
    }

    fn sign(&self, transaction: TxEip1559) -> Prepared {
        let signature = self
            .signer
            .sign_hash_sync(&transaction.signature_hash())
            .expect("a key in memory signs any hash");
        let (account_nonce, gas_limit) = (transaction.nonce, transaction.gas_limit);
        let (max_fee_per_gas, max_priority_fee_per_gas) =
            (transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas);
        let signed = TxEnvelope::from(transaction.into_signed(signature));
        Prepared {
            hash: *signed.tx_hash(),
            raw: signed.encoded_2718().into(),
            account_nonce,
            max_fee_per_gas,
            max_priority_fee_per_gas,
            gas_limit,
        }
    }

    /// Gives a signed transaction to the node. May be repeated at will.
    pub async fn broadcast(&self, raw: &Bytes) -> Result<Broadcast, ChainError> {
        match self.client.send_raw(raw).await {
            Ok(got) if got == keccak256(raw) => Ok(Broadcast::Sent),
            Ok(got) => Err(ChainError::Rubbish {
                method: "eth_sendRawTransaction",
                got: got.to_string(),
                expected: format!("the transaction's hash {}", keccak256(raw)),
            }),
            Err(ChainError::Refused {
                method,
                node,
                code,
                message,
            }) => {
                // Every node has its own words, and none a code.
                let words = message.to_lowercase();
                let says = |any: &[&str]| any.iter().any(|part| words.contains(part));
                if says(&[
                    "already known",
                    "already imported",
                    "known transaction",
                    "already exists",
                    "already in",
                ]) {
                    Ok(Broadcast::AlreadyKnown)
                } else if says(&[
                    "nonce too low",
                    "nonce is too low",
                    "oldnonce",
                    "nonce has already been used",
                ]) {
                    Ok(Broadcast::NonceUsed)
                } else if says(&[
                    "underpriced",
                    "gas price too low to replace",
                    "fee too low to replace",
                ]) {
                    Err(ChainError::Underpriced { node, message })
                } else if says(&["insufficient funds", "insufficient balance"]) {
                    self.insufficient(raw).await
                } else {
                    Err(ChainError::Refused {
                        method,
                        node,
                        code,
                        message,
                    })
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn insufficient(&self, raw: &Bytes) -> Result<Broadcast, ChainError> {
        let account = self.address();
        let have = U256::from(self.client.balance(Address::ZERO, account, At::Latest).await?.0);
        let need = TxEnvelope::decode_2718(&mut raw.as_ref()).map_or(U256::ZERO, |transaction| {
            let fee =
                U256::from(transaction.gas_limit()).saturating_mul(U256::from(transaction.max_fee_per_gas()));
            transaction.value().saturating_add(fee)
        });
        Err(ChainError::InsufficientFunds { account, have, need })
    }

    /// What became of transactions of this account that share one account nonce.
    pub async fn fate(&self, hashes: &[B256], account_nonce: u64) -> Result<Fate<S>, ChainError> {
        const ATTEMPTS: u32 = 5;
        let mut pauses = RECEIPT_LAG.into_iter();
        for _ in 0..ATTEMPTS {
            // The nonce is read before and after the receipts. A block between the first two reads would otherwise
            // look like a stranger's transaction.
            let used_before = self.nonce_used(account_nonce).await?;
            for hash in hashes {
                if let Some(mined) = self.mined(*hash).await? {
                    return Ok(Fate::Mined(mined));
                }
            }
            match (used_before, self.nonce_used(account_nonce).await?) {
                // Several times in a row, as the first may have met a reorg that takes our transaction out and puts it
                // back.
                (true, true) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Ok(Fate::Superseded),
                },
                (false, false) => {
                    for hash in hashes {
                        if self.client.knows_transaction(*hash).await? {
                            return Ok(Fate::Pending);
                        }
                    }
                    return Ok(Fate::Unknown);
                }
                (true, false) | (false, true) => pauses = RECEIPT_LAG.into_iter(),
            }
        }
        Err(ChainError::Unstable {
            attempts: ATTEMPTS,
            block: self.client.head().await?.number,
        })
    }

    async fn nonce_used(&self, account_nonce: u64) -> Result<bool, ChainError> {
        Ok(self.client.account_nonce(self.address(), At::Latest).await? > account_nonce)
    }

    /// The receipt, unless its block has left the chain.
    async fn mined(&self, hash: B256) -> Result<Option<Mined<S>>, ChainError> {
        let Some(receipt) = self.client.receipt(hash).await? else {
            return Ok(None);
        };
        let block = self.client.block(receipt.block_number).await?;
        Ok(block
            .filter(|block| block.hash == receipt.block_hash)
            .map(|block| Mined {
                hash,
                block,
                success: receipt.success,
                gas_used: receipt.gas_used,
                effective_gas_price: receipt.effective_gas_price,
                events: receipt.events.into_iter().map(|event| event.event).collect(),
            }))
    }

    /// Prepares, broadcasts and waits until mined, with higher fees when stuck. For single steps by hand: after a kill,
    /// look at the chain before repeating one. [`Sender::send_saving`] can go on instead.
    pub async fn send(&self, to: Address, data: Bytes, value: U256) -> Result<Mined<S>, ChainError> {
        self.send_saving(to, data, value, |_| Ok(())).await
    }

    /// As [`Sender::send`]; `save` gets every transaction before it is broadcast, so that after a kill
    /// [`Sender::confirm`] can go on with them.
    pub async fn send_saving(
        &self,
        to: Address,
        data: Bytes,
        value: U256,
        mut save: impl FnMut(&Prepared) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<Mined<S>, ChainError> {
        let turn = self.turn().await;
        let first = self.prepare(to, data.clone(), value, None, None).await?;
        save(&first).map_err(ChainError::NotSaved)?;
        match self.broadcast(&first.raw).await {
            Ok(_) => {}
            // The node may have it all the same: from here on only its fate counts.
            Err(error) if error.retry() => {
                warn!(hash = %first.hash, %error, "broadcast failed, will look and repeat");
            }
            Err(error) => return Err(error),
        }
        drop(turn);
        self.confirm(to, data, value, vec![first], save).await
    }

    /// Waits until one of `sent` (all with one account nonce, oldest first) is mined; rebroadcasts the newest if the node
    /// forgot it, replaces it when stuck.
    ///
    /// # Panics
    /// When `sent` is empty.
    pub async fn confirm(
        &self,
        to: Address,
        data: Bytes,
        value: U256,
        mut sent: Vec<Prepared>,
        mut save: impl FnMut(&Prepared) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<Mined<S>, ChainError> {
        let account_nonce = sent
            .first()
            .expect("at least one transaction to wait for")
            .account_nonce;
        let started = Instant::now();
        let mut last_sent = started;
        let mut pause = FIRST_PAUSE;
        loop {
            let hashes: Vec<B256> = sent.iter().map(|prepared| prepared.hash).collect();
            let newest = sent.last().expect("never emptied");
            let mut trouble = None;
            match self.fate(&hashes, account_nonce).await {
                Ok(Fate::Mined(mined)) if mined.success => return Ok(mined),
                Ok(Fate::Mined(mined)) => {
                    return Err(self.failed(to, data, value, &mined, newest.gas_limit).await);
                }
                Ok(Fate::Superseded) => {
                    return Err(ChainError::Superseded {
                        hashes,
                        account_nonce,
                    });
                }
                // Also where the node knows none of them: it may have thrown out what pays too little.
                Ok(Fate::Pending | Fate::Unknown) if last_sent.elapsed() >= self.config.bump_after => {
                    last_sent = Instant::now();
                    match self.outbid(to, &data, value, newest, &mut save).await {
                        Ok(higher) => {
                            trouble = self.broadcast(&higher.raw).await.err();
                            sent.push(higher);
                        }
                        Err(error @ ChainError::NotSaved(_)) => return Err(error),
                        // The one that was sent may be mined all the same: go on waiting.
                        Err(error) => trouble = Some(error),
                    }
                }
                Ok(Fate::Unknown) => trouble = self.broadcast(&newest.raw).await.err(),
                Ok(Fate::Pending) => {}
                Err(error) if error.retry() => trouble = Some(error),
                Err(error) => return Err(error),
            }
            if let Some(error) = &trouble {
                warn!(account_nonce, %error, "waiting for a transaction");
            }
            let waited = started.elapsed();
            if waited >= self.config.give_up_after {
                let hashes = sent.iter().map(|prepared| prepared.hash).collect();
                return Err(ChainError::NotMined {
                    hashes,
                    account_nonce,
                    waited,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.config.poll_interval.max(FIRST_PAUSE));
        }
    }

    /// Prepares and saves what shall take the place of a stuck transaction.
    async fn outbid(
        &self,
        to: Address,
        data: &Bytes,
        value: U256,
        stuck: &Prepared,
        save: &mut impl FnMut(&Prepared) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<Prepared, ChainError> {
        let account_nonce = stuck.account_nonce;
        let higher = self
            .prepare(to, data.clone(), value, Some(account_nonce), Some(stuck.fees()))
            .await?;
        save(&higher).map_err(ChainError::NotSaved)?;
        info!(old = %stuck.hash, new = %higher.hash, account_nonce, fee = higher.max_fee_per_gas,
            "stuck: sending again with a higher fee");
        Ok(higher)
    }

    /// Why a mined transaction failed, by running it again on its block.
    async fn failed(
        &self,
        to: Address,
        data: Bytes,
        value: U256,
        mined: &Mined<S>,
        gas_limit: u64,
    ) -> ChainError {
        let request = TransactionRequest {
            from: Some(self.address()),
            to: Some(TxKind::Call(to)),
            input: data.into(),
            value: Some(value),
            gas: Some(gas_limit),
            ..Default::default()
        };
        let reason = match self.client.call(&request, At::Block(mined.block.hash)).await {
            Err(ChainError::Reverted(revert)) => revert.to_string(),
            _ if mined.gas_used >= gas_limit => format!("out of gas: used {} of {gas_limit}", mined.gas_used),
            _ => "unknown: the same call succeeds now".to_owned(),
        };
        ChainError::Failed {
            hash: mined.hash,
            block: mined.block.number,
            reason,
        }
    }
}
