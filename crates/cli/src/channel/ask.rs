//! What a client asks of a bank over HTTP.

use alloy::primitives::Address;
use chain::{Channels, Client};
use protocol::channel::{AdmitRequest, Admitted, ChannelId, Domain, Key, Timestamp, TopUpRequest};
use url::Url;

pub(crate) struct BankClient {
    url: Url,
}

pub(crate) struct BankKeyChecked;

#[derive(Debug, thiserror::Error)]
pub(crate) enum NotPermitted {
    #[error("{message}")]
    Exists { message: String },
}

impl BankClient {
    pub(crate) fn new(url: &Url) -> eyre::Result<Self> {
        Ok(Self { url: url.clone() })
    }
    pub(crate) async fn key(&self, _client: &Client<Channels>) -> eyre::Result<BankKeyChecked> {
        todo!()
    }
    pub(crate) async fn permit(&self, _domain: &Domain, _account: &Key, _request: &AdmitRequest, _now: Timestamp) -> Result<Admitted, NotPermitted> {
        todo!()
    }
    pub(crate) async fn top_up(&self, _domain: &Domain, _account: &Key, _id: ChannelId, _generation: u32, _request: &TopUpRequest, _now: Timestamp) -> Result<Admitted, NotPermitted> {
        todo!()
    }
}

impl BankKeyChecked {
    pub(crate) fn check(&self, admitted: Admitted) -> eyre::Result<Admitted> {
        Ok(admitted)
    }
}
