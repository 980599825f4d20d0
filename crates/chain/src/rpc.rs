//! Asking a node: one HTTP request, one answer, and what is wrong with it if it is wrong.

use std::fmt;
use std::time::Duration;

use alloy::primitives::{B256, Bytes, U64, U128};
use alloy::rpc::client::{ClientBuilder, RpcClient};
use alloy::rpc::types::Log;
use alloy::transports::http::reqwest;
use alloy::transports::{RpcError, TransportError, TransportErrorKind};
use protocol::block::BlockRef;
use protocol::units::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::ChainError;
use crate::client::Header;
use crate::error::{Revert, excerpt};

/// A node behind an HTTP address.
pub(crate) struct Node {
    rpc: RpcClient,
    /// Scheme, host and port: the rest of the URL may hold a key.
    name: String,
    timeout: Duration,
    /// Two contracts may give one error's values different names: whom we ask decides.
    decode: fn(Bytes) -> Revert,
}

impl Node {
    pub(crate) fn new(url: Url, timeout: Duration, decode: fn(Bytes) -> Revert) -> Self {
        let name = url.origin().ascii_serialization();
        let http = reqwest::Client::builder()
            .timeout(timeout)
            // A redirected POST becomes a GET: the answer would be of something else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("no option above can fail");
        Self {
            rpc: ClientBuilder::default().http_with_client(http, url),
            name,
            timeout,
            decode,
        }
    }

    /// Scheme, host and port.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The connection, for alloy.
    pub(crate) fn client(&self) -> RpcClient {
        self.rpc.clone()
    }

    pub(crate) async fn request<P, R>(&self, method: &'static str, params: P) -> Result<R, ChainError>
    where
        P: Serialize + Clone + fmt::Debug + Send + Sync + Unpin,
        R: DeserializeOwned + fmt::Debug + Send + Sync + Unpin + 'static,
    {
        self.rpc
            .request(method, params)
            .await
            .map_err(|error| self.judge(method, error))
    }

    fn judge(&self, method: &'static str, error: TransportError) -> ChainError {
        let node = self.name.clone();
        match error {
            RpcError::ErrorResp(payload) => {
                if matches!(method, "eth_call" | "eth_estimateGas") {
                    if let Some(data) = payload.as_revert_data() {
                        return ChainError::Reverted((self.decode)(data));
                    }
                    if payload.code == 3 || payload.message.contains("execution reverted") {
                        return ChainError::Reverted((self.decode)(Bytes::new()));
                    }
                }
                ChainError::Refused {
                    method,
                    node,
                    code: payload.code,
                    message: excerpt(&payload.message),
                }
            }
            RpcError::DeserError { err, text } => ChainError::Rubbish {
                method,
                got: excerpt(&text),
                expected: format!("JSON of the right form: {err}"),
            },
            RpcError::Transport(kind) => self.judge_transport(method, kind),
            error => ChainError::Rubbish {
                method,
                got: excerpt(&error.to_string()),
                expected: "an answer".to_owned(),
            },
        }
    }

    fn judge_transport(&self, method: &'static str, kind: TransportErrorKind) -> ChainError {
        let node = self.name.clone();
        if let Some(http) = kind.as_http_error() {
            return ChainError::Http {
                method,
                node,
                status: http.status,
                body: excerpt(&http.body),
            };
        }
        let TransportErrorKind::Custom(error) = kind else {
            return ChainError::Unreachable {
                method,
                node,
                message: kind.to_string(),
            };
        };
        match error.downcast::<reqwest::Error>() {
            Ok(error) if error.is_timeout() => ChainError::Timeout {
                method,
                node,
                limit: self.timeout,
            },
            // Without its URL, which may hold a key.
            Ok(error) => ChainError::Unreachable {
                method,
                node,
                message: chain_of(&error.without_url()),
            },
            Err(error) => ChainError::Unreachable {
                method,
                node,
                message: chain_of(&*error),
            },
        }
    }
}

/// An error and its causes in one line.
fn chain_of(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

// Only the fields that we use: other chains have other blocks.

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RpcBlock {
    pub(crate) number: U64,
    pub(crate) hash: B256,
    pub(crate) parent_hash: B256,
    pub(crate) timestamp: U64,
    pub(crate) base_fee_per_gas: Option<U128>,
}

impl RpcBlock {
    pub(crate) fn header(&self) -> Header {
        let at = BlockRef {
            number: self.number.to(),
            hash: self.hash,
            timestamp: Timestamp(self.timestamp.to()),
        };
        Header {
            at,
            parent: self.parent_hash,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RpcTransaction {
    pub(crate) hash: B256,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RpcReceipt {
    pub(crate) transaction_hash: B256,
    pub(crate) block_number: Option<U64>,
    pub(crate) block_hash: Option<B256>,
    pub(crate) status: U64,
    pub(crate) gas_used: U64,
    pub(crate) effective_gas_price: U128,
    pub(crate) logs: Vec<Log>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FeeHistory {
    #[serde(default)]
    pub(crate) base_fee_per_gas: Vec<U128>,
    pub(crate) reward: Option<Vec<Vec<U128>>>,
}
