//! One node, one contract: reads over HTTP JSON-RPC that are the same for every scheme; those of one scheme are in its
//! file. Every answer is checked for sense before it is believed. No call is repeated in here; [`ChainError::retry`] tells
//! the caller whether to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, TxKind, U64, U128, U256};
use alloy::providers::RootProvider;
use alloy::rpc::types::{Log, TransactionRequest};
use alloy::sol_types::{SolCall, SolEventInterface};
use bindings::erc20::IERC20;
use bindings::shared::IShared;
use protocol::block::BlockRef;
use protocol::units::Amount;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use url::Url;

use crate::error::{Revert, excerpt};
use crate::rpc::{FeeHistory, Node, RpcBlock, RpcReceipt, RpcTransaction};
use crate::{ChainError, Fees, Scheme, Tickets, deploy};

/// Which chain and contract to expect, and how patient to be.
#[derive(Clone, Debug)]
pub struct ChainConfig {
    /// Address of the contract; `None` is its usual one ([`deploy::address`]).
    pub contract: Option<Address>,
    /// The chain that the node must be on.
    pub chain_id: u64,
    /// Longest wait for one answer.
    pub request_timeout: Duration,
}

impl ChainConfig {
    /// The usual contract address and 10 s of patience.
    #[must_use]
    pub fn new(chain_id: u64) -> Self {
        Self {
            contract: None,
            chain_id,
            request_timeout: Duration::from_secs(10),
        }
    }
}

/// As of which state to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// After the newest block.
    Latest,
    /// After the transactions that the node knows of and are not mined yet.
    Pending,
    /// After the block with this hash. Fails if a reorg took it away.
    Block(B256),
}

impl At {
    fn json(self) -> serde_json::Value {
        match self {
            Self::Latest => json!("latest"),
            Self::Pending => json!("pending"),
            Self::Block(hash) => json!({ "blockHash": hash, "requireCanonical": true }),
        }
    }
}

/// An event with its place on the chain.
#[derive(Clone, Debug)]
pub struct ChainEvent<S: Scheme = Tickets> {
    /// Number of the block.
    pub block_number: u64,
    /// Hash of the block.
    pub block_hash: B256,
    /// Place among all events of the block.
    pub log_index: u64,
    /// The transaction that emitted it.
    pub transaction: B256,
    /// What happened.
    pub event: S::Event,
}

/// A block's place and its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) at: BlockRef,
    pub(crate) parent: B256,
}

/// A receipt, as far as we need it.
#[derive(Clone, Debug)]
pub(crate) struct Receipt<S: Scheme> {
    pub(crate) block_number: u64,
    pub(crate) block_hash: B256,
    pub(crate) success: bool,
    pub(crate) gas_used: u64,
    pub(crate) effective_gas_price: u128,
    /// Of our contract only.
    pub(crate) events: Vec<ChainEvent<S>>,
}

/// A connection to a node for the contract of one scheme. Cheap to clone.
#[derive(Clone)]
pub struct Client<S: Scheme> {
    inner: Arc<Inner<S>>,
}

struct Inner<S: Scheme> {
    node: Node,
    config: ChainConfig,
    contract: Address,
    domain: S::Domain,
}

impl<S: Scheme> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("scheme", &S::NAME)
            .field("node", &self.node())
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl<S: Scheme> Client<S> {
    /// Connects, and makes sure that the node is on the expected chain and the contract is the scheme's.
    pub async fn connect(url: Url, config: ChainConfig) -> Result<Self, ChainError> {
        let client = Self::connect_before_deploy(url, config).await?;
        client.check_contract().await?;
        Ok(client)
    }

    /// As [`Client::connect`], but the contract need not exist yet.
    pub async fn connect_before_deploy(url: Url, config: ChainConfig) -> Result<Self, ChainError> {
        let client = Self::unchecked(url, config);
        client.check_chain().await?;
        Ok(client)
    }

    /// Asks a node which chain it is on, where nothing is known of it yet.
    pub async fn ask_chain_id(url: Url, request_timeout: Duration) -> Result<u64, ChainError> {
        Self::unchecked(
            url,
            ChainConfig {
                request_timeout,
                ..ChainConfig::new(0)
            },
        )
        .chain_id()
        .await
    }

    fn unchecked(url: Url, config: ChainConfig) -> Self {
        let node = Node::new(url, config.request_timeout, Revert::decode::<S>);
        let contract = config.contract.unwrap_or_else(deploy::address::<S>);
        let domain = S::domain(config.chain_id, contract);
        Self {
            inner: Arc::new(Inner {
                node,
                config,
                contract,
                domain,
            }),
        }
    }

    /// What the client was made with.
    #[must_use]
    pub fn config(&self) -> &ChainConfig {
        &self.inner.config
    }

    /// Address of the contract.
    #[must_use]
    pub fn contract(&self) -> Address {
        self.inner.contract
    }

    /// Scheme, host and port of the node's address, fit for logs.
    #[must_use]
    pub fn node(&self) -> &str {
        self.inner.node.name()
    }

    /// The EIP-712 domain of the contract.
    #[must_use]
    pub fn domain(&self) -> S::Domain {
        self.inner.domain
    }

    /// Alloy's provider on the same connection, for what this client does not cover.
    #[must_use]
    pub fn provider(&self) -> RootProvider {
        RootProvider::new(self.inner.node.client())
    }

    // ── is this the right place? ──

    /// Asks the node for its chain id.
    pub async fn chain_id(&self) -> Result<u64, ChainError> {
        Ok(self.rpc::<_, U64>("eth_chainId", ()).await?.to())
    }

    /// Fails with [`ChainError::WrongChain`] unless the node is on the expected chain.
    pub async fn check_chain(&self) -> Result<(), ChainError> {
        let (got, expected) = (self.chain_id().await?, self.inner.config.chain_id);
        if got == expected {
            Ok(())
        } else {
            Err(ChainError::WrongChain { got, expected })
        }
    }

    /// Fails unless the contract exists and signs for this chain and address.
    pub async fn check_contract(&self) -> Result<(), ChainError> {
        let address = self.contract();
        if self.code(address).await?.is_empty() {
            return Err(self.no_contract());
        }
        let expected = S::separator(&self.inner.domain);
        let wrong = |got| {
            Err(ChainError::WrongContract {
                address,
                scheme: S::NAME,
                got,
                expected,
            })
        };
        match self.view(IShared::domainSeparatorCall {}, At::Latest).await {
            Ok(got) if got == expected => Ok(()),
            Ok(got) => wrong(got.to_string()),
            Err(ChainError::Reverted(revert)) => wrong(revert.to_string()),
            Err(ChainError::Rubbish { got, .. }) => wrong(got),
            Err(error) => Err(error),
        }
    }

    /// Code at an address, now.
    pub async fn code(&self, address: Address) -> Result<Bytes, ChainError> {
        self.rpc("eth_getCode", (address, At::Latest.json())).await
    }

    /// Number of the block that created the contract, by bisection: where a mirror starts to read. Needs a node that
    /// keeps old states; others refuse.
    pub async fn deployment_block(&self) -> Result<u64, ChainError> {
        let contract = self.contract();
        let (mut low, mut high) = (0, self.head().await?.number);
        while low < high {
            let middle = low + (high - low) / 2;
            let code: Bytes = self.rpc("eth_getCode", (contract, U64::from(middle))).await?;
            if code.is_empty() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let code: Bytes = self.rpc("eth_getCode", (contract, U64::from(low))).await?;
        if code.is_empty() {
            Err(self.no_contract())
        } else {
            Ok(low)
        }
    }

    fn no_contract(&self) -> ChainError {
        ChainError::NoContract {
            address: self.contract(),
            chain_id: self.inner.config.chain_id,
        }
    }

    // ── blocks and events ──

    /// The newest block.
    pub async fn head(&self) -> Result<BlockRef, ChainError> {
        Ok(self.head_header().await?.at)
    }

    /// The block at a height, if the chain is that long.
    pub async fn block(&self, number: u64) -> Result<Option<BlockRef>, ChainError> {
        Ok(self.header(number).await?.map(|header| header.at))
    }

    /// The newest block that consensus has made final, if there is one.
    pub async fn finalized(&self) -> Result<Option<BlockRef>, ChainError> {
        let block: Option<RpcBlock> = self.rpc("eth_getBlockByNumber", ("finalized", false)).await?;
        Ok(block.map(|block| block.header().at))
    }

    /// The contract's events in the blocks `from..=to`, in chain order. A node may refuse a range that is too long.
    pub async fn events(&self, from: u64, to: u64) -> Result<Vec<ChainEvent<S>>, ChainError> {
        self.events_about(&[], from, to).await
    }

    /// Of the contract's events in blocks `from` to `to` those with these topics; `None`: any.
    pub(crate) async fn events_about(
        &self,
        topics: &[Option<B256>],
        from: u64,
        to: u64,
    ) -> Result<Vec<ChainEvent<S>>, ChainError> {
        let filter = json!({
            "address": self.contract(),
            "fromBlock": U64::from(from),
            "toBlock": U64::from(to),
            "topics": topics,
        });
        let logs: Vec<Log> = self.rpc("eth_getLogs", (filter,)).await?;
        let events = self.decode_all("eth_getLogs", logs)?;
        match events
            .iter()
            .find(|event| !(from..=to).contains(&event.block_number))
        {
            None => Ok(events),
            Some(event) => Err(ChainError::Rubbish {
                method: "eth_getLogs",
                got: format!("an event of block {}", event.block_number),
                expected: format!("in blocks {from} to {to}"),
            }),
        }
    }

    /// The contract's events in one block, by hash, so that a reorg cannot mix two chains.
    pub async fn events_of(&self, block: B256) -> Result<Vec<ChainEvent<S>>, ChainError> {
        let filter = json!({ "address": self.contract(), "blockHash": block });
        let logs: Vec<Log> = self.rpc("eth_getLogs", (filter,)).await?;
        let events = self.decode_all("eth_getLogs", logs)?;
        match events.iter().find(|event| event.block_hash != block) {
            None => Ok(events),
            Some(event) => Err(ChainError::Rubbish {
                method: "eth_getLogs",
                got: format!("an event of block {}", event.block_hash),
                expected: format!("in block {block}"),
            }),
        }
    }

    pub(crate) async fn head_header(&self) -> Result<Header, ChainError> {
        Ok(self.head_block().await?.header())
    }

    pub(crate) async fn header(&self, number: u64) -> Result<Option<Header>, ChainError> {
        const METHOD: &str = "eth_getBlockByNumber";
        let block: Option<RpcBlock> = self.rpc(METHOD, (U64::from(number), false)).await?;
        match block.map(|block| block.header()) {
            Some(header) if header.at.number != number => Err(ChainError::Rubbish {
                method: METHOD,
                got: format!("block {}", header.at.number),
                expected: format!("block {number}"),
            }),
            header => Ok(header),
        }
    }

    pub(crate) async fn header_by_hash(&self, hash: B256) -> Result<Option<Header>, ChainError> {
        const METHOD: &str = "eth_getBlockByHash";
        let block: Option<RpcBlock> = self.rpc(METHOD, (hash, false)).await?;
        match block.map(|block| block.header()) {
            Some(header) if header.at.hash != hash => Err(ChainError::Rubbish {
                method: METHOD,
                got: format!("block {}", header.at.hash),
                expected: format!("block {hash}"),
            }),
            header => Ok(header),
        }
    }

    async fn head_block(&self) -> Result<RpcBlock, ChainError> {
        self.rpc("eth_getBlockByNumber", ("latest", false)).await
    }

    // ── what every contract of ours keeps ──

    /// Credit of an account, in atomic units of the asset (the zero address is the native asset).
    pub async fn credit_of(&self, asset: Address, account: Address, at: At) -> Result<Amount, ChainError> {
        let got = self.view(IShared::creditOfCall { asset, account }, at).await?;
        amount("creditOf", got)
    }

    /// Whether `operator` may act for `recipient`.
    pub async fn is_operator(
        &self,
        recipient: Address,
        operator: Address,
        at: At,
    ) -> Result<bool, ChainError> {
        self.view(IShared::isOperatorCall { recipient, operator }, at)
            .await
    }

    // ── assets ──

    /// What an account holds of an asset, in atomic units (the zero address is the native asset).
    pub async fn balance(&self, asset: Address, account: Address, at: At) -> Result<Amount, ChainError> {
        let got = if asset == Address::ZERO {
            self.rpc("eth_getBalance", (account, at.json())).await?
        } else {
            self.call_typed(asset, IERC20::balanceOfCall { account }, at)
                .await?
        };
        amount("balanceOf", got)
    }

    /// How much of a token `spender` may take from `owner`, in atomic units.
    pub async fn allowance(
        &self,
        token: Address,
        owner: Address,
        spender: Address,
    ) -> Result<U256, ChainError> {
        self.call_typed(token, IERC20::allowanceCall { owner, spender }, At::Latest)
            .await
    }

    /// A token's symbol and number of decimals, as it tells them.
    pub async fn token(&self, token: Address) -> Result<(String, u8), ChainError> {
        let symbol = self.call_typed(token, IERC20::symbolCall {}, At::Latest).await?;
        Ok((
            symbol,
            self.call_typed(token, IERC20::decimalsCall {}, At::Latest)
                .await?,
        ))
    }

    // ── accounts and transactions ──

    /// How many transactions an account has sent: its next account nonce.
    pub async fn account_nonce(&self, account: Address, at: At) -> Result<u64, ChainError> {
        Ok(self
            .rpc::<_, U64>("eth_getTransactionCount", (account, at.json()))
            .await?
            .to())
    }

    /// What the market asks per gas now.
    pub async fn market_fees(&self) -> Result<Fees, ChainError> {
        const METHOD: &str = "eth_feeHistory";
        let history: FeeHistory = self.rpc(METHOD, (U64::from(10), "latest", [50.0])).await?;
        let rewards: Vec<u128> = history.reward.iter().flatten().flatten().map(U128::to).collect();
        // The last is the base fee of the block to come. Some nodes answer an empty history on a young chain.
        let base_fee = match history.base_fee_per_gas.last() {
            Some(fee) => *fee,
            None => self
                .head_block()
                .await?
                .base_fee_per_gas
                .ok_or_else(|| ChainError::Rubbish {
                    method: METHOD,
                    got: "no base fee".to_owned(),
                    expected: "a chain with EIP-1559 fees".to_owned(),
                })?,
        };
        Ok(Fees::market(base_fee.to(), &rewards))
    }

    /// Runs a call without sending it. A revert is [`ChainError::Reverted`].
    pub async fn call(&self, call: &TransactionRequest, at: At) -> Result<Bytes, ChainError> {
        self.rpc("eth_call", (call, at.json())).await
    }

    pub(crate) async fn estimate_gas(&self, call: &TransactionRequest) -> Result<u64, ChainError> {
        Ok(self
            .rpc::<_, U64>("eth_estimateGas", (call, "latest"))
            .await?
            .to())
    }

    pub(crate) async fn send_raw(&self, raw: &Bytes) -> Result<B256, ChainError> {
        self.rpc("eth_sendRawTransaction", (raw,)).await
    }

    /// Whether the node knows the transaction, mined or pending.
    pub async fn knows_transaction(&self, hash: B256) -> Result<bool, ChainError> {
        let found: Option<RpcTransaction> = self.rpc("eth_getTransactionByHash", (hash,)).await?;
        match found {
            Some(transaction) if transaction.hash != hash => Err(ChainError::Rubbish {
                method: "eth_getTransactionByHash",
                got: format!("transaction {}", transaction.hash),
                expected: format!("transaction {hash}"),
            }),
            found => Ok(found.is_some()),
        }
    }

    pub(crate) async fn receipt(&self, hash: B256) -> Result<Option<Receipt<S>>, ChainError> {
        const METHOD: &str = "eth_getTransactionReceipt";
        let Some(receipt): Option<RpcReceipt> = self.rpc(METHOD, (hash,)).await? else {
            return Ok(None);
        };
        if receipt.transaction_hash != hash {
            return Err(ChainError::Rubbish {
                method: METHOD,
                got: format!("receipt of {}", receipt.transaction_hash),
                expected: format!("receipt of {hash}"),
            });
        }
        // Some nodes hand out receipts of pending transactions, without a block.
        let (Some(block_number), Some(block_hash)) = (receipt.block_number, receipt.block_hash) else {
            return Ok(None);
        };
        let contract = self.contract();
        let logs = receipt
            .logs
            .into_iter()
            .filter(|log| log.address() == contract)
            .collect();
        Ok(Some(Receipt {
            block_number: block_number.to(),
            block_hash,
            success: receipt.status == U64::from(1),
            gas_used: receipt.gas_used.to(),
            effective_gas_price: receipt.effective_gas_price.to(),
            events: self.decode_all(METHOD, logs)?,
        }))
    }

    // ── below: asking, decoding, judging ──

    pub(crate) async fn view<C: SolCall>(&self, call: C, at: At) -> Result<C::Return, ChainError> {
        self.call_typed(self.contract(), call, at).await
    }

    async fn call_typed<C: SolCall>(&self, to: Address, call: C, at: At) -> Result<C::Return, ChainError> {
        let request = TransactionRequest {
            to: Some(TxKind::Call(to)),
            input: Bytes::from(call.abi_encode()).into(),
            ..Default::default()
        };
        let answer = self.call(&request, at).await?;
        C::abi_decode_returns_validate(&answer).map_err(|error| ChainError::Rubbish {
            method: "eth_call",
            got: excerpt(&answer.to_string()),
            expected: format!("an answer of {}: {error}", C::SIGNATURE),
        })
    }

    fn decode_all(&self, method: &'static str, logs: Vec<Log>) -> Result<Vec<ChainEvent<S>>, ChainError> {
        let mut events = logs
            .into_iter()
            .map(|log| self.decode(method, &log))
            .collect::<Result<Vec<_>, _>>()?;
        events.sort_by_key(|event| (event.block_number, event.log_index));
        match events.windows(2).find(|pair| {
            pair[0].block_number == pair[1].block_number
                && (pair[0].log_index == pair[1].log_index || pair[0].block_hash != pair[1].block_hash)
        }) {
            None => Ok(events),
            Some(pair) => Err(ChainError::Rubbish {
                method,
                got: format!("events {pair:?}"),
                expected: "each event once, each height one block".to_owned(),
            }),
        }
    }

    fn decode(&self, method: &'static str, log: &Log) -> Result<ChainEvent<S>, ChainError> {
        let rubbish = |got: String, expected: &str| ChainError::Rubbish {
            method,
            got,
            expected: expected.to_owned(),
        };
        if log.address() != self.contract() {
            return Err(rubbish(
                format!("an event of {}", log.address()),
                "an event of our contract",
            ));
        }
        if log.removed {
            return Err(rubbish("a removed event".to_owned(), "an event on the chain"));
        }
        let (Some(block_number), Some(block_hash), Some(log_index), Some(transaction)) = (
            log.block_number,
            log.block_hash,
            log.log_index,
            log.transaction_hash,
        ) else {
            return Err(rubbish(
                excerpt(&format!("{log:?}")),
                "an event with block, index and transaction",
            ));
        };
        let event = S::Event::decode_log(&log.inner)
            .map_err(|error| {
                rubbish(
                    excerpt(&format!("{:?}", log.inner)),
                    &format!("an event we know: {error}"),
                )
            })?
            .data;
        Ok(ChainEvent {
            block_number,
            block_hash,
            log_index,
            transaction,
            event,
        })
    }

    async fn rpc<P, R>(&self, method: &'static str, params: P) -> Result<R, ChainError>
    where
        P: Serialize + Clone + fmt::Debug + Send + Sync + Unpin,
        R: DeserializeOwned + fmt::Debug + Send + Sync + Unpin + 'static,
    {
        self.inner.node.request(method, params).await
    }
}

/// An amount that the contract answered; it keeps none that is larger.
pub(crate) fn amount(call: &'static str, value: U256) -> Result<Amount, ChainError> {
    u128::try_from(value)
        .map(Amount)
        .map_err(|_| rubbish_call(call, &format!("an amount of {value}")))
}

pub(crate) fn rubbish_call(call: &'static str, got: &str) -> ChainError {
    ChainError::Rubbish {
        method: "eth_call",
        got: got.to_owned(),
        expected: format!("an answer of {call}"),
    }
}
