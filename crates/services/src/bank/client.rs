//! The payer's side: asks a bank for permits, and believes what it can check.

use alloy_primitives::{Address, B256};
use protocol::channel::{
    AdmitRequest, Admitted, ChannelId, Domain, PermitError, Signature, SignatureError, Timestamp,
};
use url::Url;

use super::{
    PERMIT_PATH, PermitRequest,
    wire::{BankAnswer, PermitAnswer, PermitBody, PermitsAnswer, ReputationAnswer},
};
use crate::caller::{CallError, Caller};

/// Longest answer that is read, bytes.
const ANSWER_BYTES: usize = 256 * 1024;

/// A bank's address on the web, and who the bank is.
#[derive(Clone, Debug)]
pub struct BankClient {
    caller: Caller,
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
    /// The bank did not answer, or refuses.
    #[error("the bank {0}")]
    Call(#[from] CallError),
    /// The account does not sign.
    #[error("the account does not sign: {0}")]
    Signer(Box<dyn std::error::Error + Send + Sync>),
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
            Self::Call(error) => error.retry(),
            _ => false,
        }
    }
}

/// Who answers at this address, as it says itself: nothing is known of it yet.
///
/// # Errors
///
/// [`CallError`].
pub async fn ask_who(base: Url) -> Result<BankAnswer, CallError> {
    Caller::new(base, ANSWER_BYTES)?.get("/v1/bank").await
}

impl BankClient {
    /// A client of the bank at `base`, which has to be the bank of this address in this contract's ledger.
    pub fn new(base: Url, domain: Domain, bank: Address) -> Result<Self, ClientError> {
        Ok(Self {
            caller: Caller::new(base, ANSWER_BYTES)?,
            domain,
            bank,
        })
    }

    /// Who the bank is and what it asks. Refused if it is another bank, or works for another contract.
    pub async fn about(&self) -> Result<BankAnswer, ClientError> {
        let answer: BankAnswer = self.caller.get("/v1/bank").await?;
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
        Ok(self.caller.get(&format!("/v1/reputation/{customer}")).await?)
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
        let answer: PermitAnswer = self.caller.post(PERMIT_PATH, &PermitBody::from(&signed)).await?;
        let granted = self.granted(&answer)?;
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
        let answer: PermitsAnswer = self.caller.get(&format!("{PERMIT_PATH}/{channel}")).await?;
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
}
