//! Shapes of the registrar's HTTP interface; `openapi.json` beside this file says the same for everybody. What is signed
//! travels as it is saved (CBOR, in hexadecimal): one form. Amounts are decimal text, because JSON numbers are not exact;
//! times are Unix seconds; bytes are hexadecimal with `0x`.

use alloy_primitives::{Address, B256, Bytes};
use protocol::offline::{
    Amount, ClassId, Coin, DepositNonce, Timestamp, WalletId, WalletKey, WalletKeyError, WalletSignature,
    WalletSignatureError,
};
use serde::{Deserialize, Serialize};

use super::{RegistrationRequest, RenewalRequest};
use crate::decimal;

pub use crate::problem::{PROBLEM, Problem};

/// The body of `POST /v1/registrations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistrationBody {
    /// The wallet's key.
    pub key: KeyFields,
    /// Who gets the credit, and sends the registration to the contract.
    pub owner: Address,
    /// The class.
    pub class: u32,
    /// Format of the evidence.
    pub format: String,
    /// A TPM's evidence (JSON in bytes); empty for what answers a challenge.
    pub evidence: Bytes,
    /// The wallet's clock.
    pub requested_at: u64,
    /// The wallet's signature, 64 bytes.
    pub signature: Bytes,
}

/// A point of P-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFields {
    /// The x-coordinate.
    pub x: B256,
    /// The y-coordinate.
    pub y: B256,
}

/// The answer to it: what the wallet has to answer to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BegunAnswer {
    /// The wallet.
    pub wallet: B256,
    /// `begun`, `authorised` or `registered`.
    pub stage: String,
    /// For a TPM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialFields>,
    /// For what answers with evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<B256>,
    /// The log's first entry, once it was authorised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<B256>,
    /// The registration for the contract, once it was signed: CBOR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouched: Option<Bytes>,
}

/// A secret that the right TPM gives back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialFields {
    /// `TPMS_ID_OBJECT`.
    pub blob: Bytes,
    /// `TPMS_ECC_POINT`.
    pub encrypted_seed: Bytes,
}

/// The body of `POST /v1/registrations/{wallet}/authorisation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorisationBody {
    /// The activated secret.
    pub secret: B256,
    /// The TPM's nonce of the session in which the log's beginning waits.
    pub nonce: B256,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorisationAnswer {
    /// The log's first entry: the digest of the registration.
    pub genesis: B256,
    /// The registration's end.
    pub valid_until: u64,
    /// Seconds from the session's begin after which the TPM refuses it.
    pub expiration: u16,
    /// The policy key's signature, 64 bytes.
    pub signature: Bytes,
}

/// The body of `POST /v1/registrations/{wallet}/completion`: one of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompletionBody {
    /// A TPM's certificate of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<CertificateFields>,
    /// Evidence about key and challenge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Bytes>,
}

/// A certificate of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFields {
    /// `TPMS_ATTEST`, 173 bytes.
    pub attest: Bytes,
    /// The wallet key's signature, 64 bytes.
    pub signature: Bytes,
}

/// The body of `POST /v1/registrations/{wallet}/renewal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenewalBody {
    /// The wallet's key.
    pub key: KeyFields,
    /// The wallet's clock.
    pub requested_at: u64,
    /// The wallet's signature, 64 bytes.
    pub signature: Bytes,
}

/// The body of `POST /v1/deposits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DepositBody {
    /// Whose coin it is.
    pub wallet: B256,
    /// Token, or the zero address.
    pub asset: Address,
    /// Its value, atomic units.
    #[serde(with = "decimal")]
    pub amount: u128,
    /// Which deposit it was.
    pub deposit_nonce: u64,
}

/// The body of `POST /v1/checkpoints`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointBody {
    /// The wallet.
    pub wallet: B256,
    /// Number of transfers before the entries.
    pub from: u64,
    /// The entries, 64 bytes each.
    pub entries: Bytes,
    /// The TPM's certificate, for the last of them.
    pub log: CertificateFields,
}

/// Something signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedAnswer {
    /// As it is saved, and travels: CBOR.
    pub signed: Bytes,
}

/// The answer to `GET /v1/revocations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevocationsAnswer {
    /// When it was signed.
    pub issued_at: u64,
    /// How old it is now, seconds.
    pub age: u64,
    /// As it travels: CBOR.
    pub signed: Bytes,
}

/// The answer to `GET /v1/registrar`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrarAnswer {
    /// Who signs.
    pub registrar: Address,
    /// Who authorises the beginnings of logs.
    pub policy_key: KeyFields,
    /// Chain id.
    pub chain_id: u64,
    /// The vault.
    pub contract: Address,
    /// What is registered.
    pub classes: Vec<ClassAnswer>,
}

/// A class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassAnswer {
    /// Its number, with the DEV mark.
    pub class: u32,
    /// Whether it is for development.
    pub dev: bool,
    /// `LOG` or `SIGNATURE`.
    pub kind: String,
    /// How long a registration is good, seconds.
    pub validity: u64,
    /// The formats that are taken.
    pub formats: Vec<String>,
    /// What a wallet may hold, by asset; empty: any, without bounds.
    pub caps: Vec<CapFields>,
}

/// What a wallet may hold, in one asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapFields {
    /// Token, or the zero address.
    pub asset: Address,
    /// Most of one coin, atomic units.
    #[serde(with = "decimal")]
    pub coin: u128,
    /// Most of a wallet's coins together, atomic units.
    #[serde(with = "decimal")]
    pub wallet: u128,
}

/// Why a body is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The key.
    #[error("the wallet's key: {0}")]
    Key(#[from] WalletKeyError),
    /// The signature.
    #[error("the wallet's signature: {0}")]
    Signature(#[from] WalletSignatureError),
}

impl KeyFields {
    /// The key, if it is a point.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn key(&self) -> Result<WalletKey, WalletKeyError> {
        WalletKey::new(self.x, self.y)
    }
}

impl From<&WalletKey> for KeyFields {
    fn from(key: &WalletKey) -> Self {
        Self {
            x: key.x(),
            y: key.y(),
        }
    }
}

impl RegistrationBody {
    /// As it is sent.
    pub fn new(request: &RegistrationRequest, signature: &WalletSignature) -> Self {
        Self {
            key: (&request.key).into(),
            owner: request.owner,
            class: request.class.0,
            format: request.format.clone(),
            evidence: request.evidence.clone(),
            requested_at: request.requested_at.0,
            signature: signature.to_bytes().to_vec().into(),
        }
    }
}

impl TryFrom<RegistrationBody> for (RegistrationRequest, WalletSignature) {
    type Error = BodyError;

    fn try_from(body: RegistrationBody) -> Result<Self, BodyError> {
        let signature = WalletSignature::from_bytes(&body.signature)?;
        let request = RegistrationRequest {
            key: body.key.key()?,
            owner: body.owner,
            class: ClassId(body.class),
            format: body.format,
            evidence: body.evidence,
            requested_at: Timestamp(body.requested_at),
        };
        Ok((request, signature))
    }
}

impl RenewalBody {
    /// As it is sent.
    pub fn new(request: &RenewalRequest, signature: &WalletSignature) -> Self {
        Self {
            key: (&request.key).into(),
            requested_at: request.requested_at.0,
            signature: signature.to_bytes().to_vec().into(),
        }
    }
}

impl TryFrom<RenewalBody> for (RenewalRequest, WalletSignature) {
    type Error = BodyError;

    fn try_from(body: RenewalBody) -> Result<Self, BodyError> {
        let signature = WalletSignature::from_bytes(&body.signature)?;
        let request = RenewalRequest {
            key: body.key.key()?,
            requested_at: Timestamp(body.requested_at),
        };
        Ok((request, signature))
    }
}

impl From<DepositBody> for Coin {
    fn from(body: DepositBody) -> Self {
        Self {
            wallet: WalletId(body.wallet),
            asset: body.asset,
            amount: Amount(body.amount),
            deposit_nonce: DepositNonce(body.deposit_nonce),
        }
    }
}

impl From<&Coin> for DepositBody {
    fn from(coin: &Coin) -> Self {
        Self {
            wallet: coin.wallet.0,
            asset: coin.asset,
            amount: coin.amount.0,
            deposit_nonce: coin.deposit_nonce.0,
        }
    }
}
