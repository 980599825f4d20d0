//! What a client asks of a bank: who it is, and permits. What it answers is checked against the chain.

use alloy::primitives::{Address, B256};
use chain::{At, Channels, Client};
use eyre::eyre;
use protocol::channel::{AdmitRequest, Admitted, ChannelId, Index, Key, Signature};
use services::CallError;
use services::bank::client::{BankClient, ClientError, ask_who};
use services::bank::wire::BankAnswer;
use url::Url;

use crate::clock;
use crate::exit::{again, usage};

/// A bank that was asked who it is.
pub(crate) struct AskedBank {
    client: BankClient,
    /// Who signs its permits, as the chain says.
    key: Address,
}

/// What became of a request for a permit.
pub(crate) enum Permitted {
    /// Signed, for just these terms.
    Granted(Box<Admitted>),
    /// There is a permit for this channel, with other terms.
    Other,
}

impl AskedBank {
    /// Asks the bank at this address.
    pub(crate) async fn at(url: &Url, chain: &Client<Channels>) -> eyre::Result<Self> {
        let about = about(url).await?;
        let client = BankClient::new(url.clone(), chain.domain(), about.bank)?;
        // Of another chain or contract it is of no use.
        client.about().await?;
        let announced = chain.bank_key_of(about.bank, At::Latest).await?;
        Ok(Self {
            client,
            key: announced.key,
        })
    }

    /// Asks for a permit, or again for one that was given, with the signature of the client's account.
    pub(crate) async fn permit(&self, account: &Key, terms: AdmitRequest) -> Result<Permitted, ClientError> {
        let sign = |digest: B256| Ok::<Signature, std::convert::Infallible>(account.sign(digest));
        match self.client.permit(terms, clock::now(), self.key, sign).await {
            Ok(granted) => Ok(Permitted::Granted(Box::new(granted.admitted))),
            Err(ClientError::Call(CallError::Refused(problem))) if problem.rule == "permit-exists" => {
                Ok(Permitted::Other)
            }
            Err(error) => Err(error),
        }
    }

    /// The permit of this generation and length that the bank has signed for a channel, if there is one.
    pub(crate) async fn signed(
        &self,
        channel: ChannelId,
        generation: u32,
        length: Index,
    ) -> eyre::Result<Option<Admitted>> {
        let permits = self.client.permits(channel).await?;
        let found = permits
            .into_iter()
            .find(|granted| granted.generation == generation && granted.admitted.permit().length() == length);
        let Some(granted) = found else {
            return Ok(None);
        };
        granted.admitted.check(self.key)?;
        Ok(Some(granted.admitted))
    }
}

/// Who answers at this address.
async fn about(url: &Url) -> eyre::Result<BankAnswer> {
    ask_who(url.clone()).await.map_err(|error| match error {
        CallError::BadAddress(url) => usage(format!("{url} is not the address of a service")),
        error if error.retry() => again(format!("the bank at {url} {error}")),
        error => eyre!("the bank at {url} {error}"),
    })
}
