//! The payer's side: asks a bank for permits, and believes what it can check.

use std::time::Duration;

use alloy_primitives::{Address, B256};
use protocol::channel::{
    AdmitRequest, Admitted, ChannelId, Domain, PermitError, Signature, SignatureError, Timestamp,
};
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;
use url::Url;

use super::{
    PERMIT_PATH, PermitRequest,
    wire::{BankAnswer, PermitAnswer, PermitBody, PermitsAnswer, Problem, ReputationAnswer},
};

/// Longest answer that is read, bytes.
const ANSWER_BYTES: usize = 256 * 1024;

/// A bank's address on the web, and who the bank is.
#[derive(Clone, Debug)]
pub struct BankClient {
    http: reqwest::Client,
    base: Url,
    domain: Domain,
    bank: Address,
}

/// A permit, as the bank gave it and this client has checked it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The permit.
    pub admitted: Admitted,
    /// 0: the opening; one more for each top-up.
    pub generation: u32,
    /// Number of the bank's key.
    pub epoch: u64,
}

/// Why there is no permit.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none that a path can be put on.
    #[error("{0} is not the address of a bank")]
    BadAddress(Url),
    /// No answer.
    #[error("the bank cannot be reached: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// The account does not sign.
    #[error("the account does not sign: {0}")]
    Signer(Box<dyn std::error::Error + Send + Sync>),
    /// The bank refuses, and says why.
    #[error("the bank refuses ({}): {}", .0.rule, .0.detail)]
    Refused(Box<Problem>),
    /// The answer is not the bank's, or not understood.
    #[error("the bank answers {status} and not what was expected: {problem}")]
    Rubbish {
        /// HTTP status.
        status: u16,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The answer is longer than any permit.
    #[error("the bank answers more than {limit} bytes")]
    AnswerTooLong {
        /// The limit.
        limit: usize,
    },
    /// Another bank, chain or contract answers.
    #[error("{field} of the bank is {got}, not {expected}")]
    OtherBank {
        /// What differs.
        field: &'static str,
        /// Its value in the answer.
        got: String,
        /// Its value here.
        expected: String,
    },
    /// The permit is for something else.
    #[error("the permit has {field} {got}, asked was {asked}")]
    OtherTerms {
        /// The field.
        field: &'static str,
        /// Its value in the permit.
        got: String,
        /// Its value in the request.
        asked: String,
    },
    /// The signature has no proper form.
    #[error("the bank's signature: {0}")]
    Signature(#[from] SignatureError),
    /// The bank's key did not sign it.
    #[error(transparent)]
    Permit(#[from] PermitError),
}

impl ClientError {
    /// Whether the same request can succeed later.
    pub fn retry(&self) -> bool {
        match self {
            Self::Unreachable(error) => !error.is_builder(),
            Self::Refused(problem) => problem.retry,
            Self::Rubbish { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

impl BankClient {
    /// A client of the bank at `base`, which has to be the bank of this address in this contract's ledger.
    pub fn new(base: Url, domain: Domain, bank: Address) -> Result<Self, ClientError> {
        if base.cannot_be_a_base() {
            return Err(ClientError::BadAddress(base));
        }
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .connect_timeout(Duration::from_secs(10))
            // A signed request goes to the bank that was named, and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            http,
            base,
            domain,
            bank,
        })
    }

    /// Who the bank is and what it asks. Refused if it is another bank, or works for another contract.
    pub async fn about(&self) -> Result<BankAnswer, ClientError> {
        let answer: BankAnswer = self.get("/v1/bank").await?;
        let differs = |field, got: &dyn ToString, expected: &dyn ToString| {
            Err(ClientError::OtherBank {
                field,
                got: got.to_string(),
                expected: expected.to_string(),
            })
        };
        if answer.bank != self.bank {
            return differs("address", &answer.bank, &self.bank);
        }
        if answer.chain_id != self.domain.chain_id() {
            return differs("chain", &answer.chain_id, &self.domain.chain_id());
        }
        if answer.contract != self.domain.contract() {
            return differs("contract", &answer.contract, &self.domain.contract());
        }
        Ok(answer)
    }

    /// What the bank says of a customer. The contract says it, too.
    pub async fn reputation(&self, customer: Address) -> Result<ReputationAnswer, ClientError> {
        self.get(&format!("/v1/reputation/{customer}")).await
    }

    /// Asks for a permit on these terms, or again for one that was given. `account` signs with the client's account;
    /// `bank_key` is the key that signs the bank's permits, as the contract says (`bankKeyOf`).
    pub async fn permit<E>(
        &self,
        terms: AdmitRequest,
        now: Timestamp,
        bank_key: Address,
        account: impl FnOnce(B256) -> Result<Signature, E>,
    ) -> Result<Granted, ClientError>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let request = PermitRequest {
            terms,
            requested_at: now,
        };
        let signed = request
            .sign(&self.domain, account)
            .map_err(|error| ClientError::Signer(Box::new(error)))?;
        let body = serde_json::to_vec(&PermitBody::from(&signed)).map_err(|error| ClientError::Rubbish {
            status: 0,
            problem: error.to_string(),
        })?;
        let sent = self
            .http
            .post(self.place(PERMIT_PATH))
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body);
        let granted = self.granted(&read::<PermitAnswer>(sent.send().await?).await?)?;
        let differs = request.differs_from(&self.domain, granted.admitted.permit());
        if let Some((field, asked, got)) = differs {
            return Err(ClientError::OtherTerms { field, got, asked });
        }
        granted.admitted.check(bank_key)?;
        Ok(granted)
    }

    /// A channel's permits, the opening one first, as the bank has them: a client that lost its own finds them here. Whose key
    /// signed them is for the caller to check ([`Admitted::check`]), who knows which key was the bank's at the time.
    pub async fn permits(&self, channel: ChannelId) -> Result<Vec<Granted>, ClientError> {
        let answer: PermitsAnswer = self.get(&format!("{PERMIT_PATH}/{channel}")).await?;
        let permits: Vec<_> = answer
            .permits
            .iter()
            .map(|permit| self.granted(permit))
            .collect::<Result<_, _>>()?;
        match permits
            .iter()
            .find(|granted| granted.admitted.permit().channel() != channel)
        {
            Some(other) => Err(ClientError::OtherTerms {
                field: "channelId",
                got: other.admitted.permit().channel().to_string(),
                asked: channel.to_string(),
            }),
            None => Ok(permits),
        }
    }

    fn granted(&self, answer: &PermitAnswer) -> Result<Granted, ClientError> {
        if answer.bank != self.bank {
            return Err(ClientError::OtherBank {
                field: "address",
                got: answer.bank.to_string(),
                expected: self.bank.to_string(),
            });
        }
        Ok(Granted {
            admitted: answer.admitted(&self.domain)?,
            generation: answer.generation,
            epoch: answer.epoch,
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        read(self.http.get(self.place(path)).send().await?).await
    }

    /// The interface may stand under a path of its own.
    fn place(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let prefix = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{prefix}{path}"));
        url
    }
}

async fn read<T: DeserializeOwned>(mut response: Response) -> Result<T, ClientError> {
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err(ClientError::AnswerTooLong { limit: ANSWER_BYTES });
        }
        body.extend_from_slice(&chunk);
    }
    let rubbish = |error: serde_json::Error| ClientError::Rubbish {
        status: status.as_u16(),
        problem: error.to_string(),
    };
    if matches!(status, StatusCode::OK | StatusCode::CREATED) {
        return serde_json::from_slice(&body).map_err(rubbish);
    }
    let problem = serde_json::from_slice(&body).map_err(rubbish)?;
    Err(ClientError::Refused(Box::new(problem)))
}
