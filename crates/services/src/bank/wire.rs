//! Shapes of the bank's HTTP interface; `openapi.json` beside this file says the same for everybody. Amounts are decimal text,
//! because JSON numbers are not exact; times are Unix seconds; bytes are hexadecimal with `0x`.

use alloy_primitives::{Address, B256, Bytes};
use bindings::channel::OpenPermit;
use protocol::channel::{
    AdmitRequest, Admitted, Amount, Domain, Index, Permit, Signature, SignatureError, Timestamp, Word,
};
use serde::{Deserialize, Serialize};

use super::{PermitRequest, SignedRequest};
use crate::decimal;

pub use crate::problem::{PROBLEM, Problem};

/// The body of `POST /v1/permits`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PermitBody {
    /// Who pays, and asks.
    pub client: Address,
    /// Who sells.
    pub vendor: Address,
    /// Makes the channel's name new; of a top-up, that of the opening.
    pub salt: B256,
    /// Address of the key that signs receipts.
    pub receipt_key: Address,
    /// Token, or the zero address.
    pub asset: Address,
    /// What one payment is worth, atomic units.
    #[serde(with = "decimal")]
    pub unit: u128,
    /// How many payments the chain has.
    pub length: u32,
    /// `w_0` of the chain.
    pub anchor: B256,
    /// Last second in which the vendor can close.
    pub expiry: u64,
    /// The client's clock.
    pub requested_at: u64,
    /// The client's signature, 65 bytes.
    pub signature: Bytes,
}

/// The answer to it, and an element of `GET /v1/permits/{channelId}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PermitAnswer {
    /// What the bank signed.
    pub permit: PermitFields,
    /// In whose ledger both parties stand.
    pub bank: Address,
    /// The bank's signature (`sigma_0`, with `v`), 65 bytes.
    pub signature: Bytes,
    /// 0: the opening; one more for each top-up.
    pub generation: u32,
    /// Number of the bank's key.
    pub epoch: u64,
}

/// `OpenPermit`, field by field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "as in contracts/channel/IPaymentChannel.sol")]
pub struct PermitFields {
    pub channel_id: B256,
    pub client: Address,
    pub vendor: Address,
    pub receipt_key: Address,
    pub asset: Address,
    #[serde(with = "decimal")]
    pub unit: u128,
    pub length: u32,
    pub anchor: B256,
    pub client_reputation: u8,
    pub vendor_reputation: u8,
    pub issued_at: u64,
    pub expiry: u64,
}

/// The body of `GET /v1/permits/{channelId}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitsAnswer {
    /// The opening one first.
    pub permits: Vec<PermitAnswer>,
}

/// The body of `GET /v1/bank`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BankAnswer {
    /// The bank's address.
    pub bank: Address,
    /// The key whose permits the contract takes.
    pub key: Address,
    /// Number of that key.
    pub epoch: u64,
    /// Chain id.
    pub chain_id: u64,
    /// The contract.
    pub contract: Address,
    /// The bank's rules.
    pub policy: PolicyAnswer,
}

/// A bank's rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyAnswer {
    /// The least reputation of both.
    pub min_reputation: u8,
    /// The longest chain.
    pub max_length: u32,
    /// The least that one payment may be worth.
    #[serde(with = "decimal")]
    pub min_unit: u128,
    /// The most.
    #[serde(with = "decimal")]
    pub max_unit: u128,
    /// The most that a channel may hold.
    #[serde(with = "decimal")]
    pub max_deposit: u128,
    /// The shortest life, seconds.
    pub min_life: u64,
    /// The longest life, seconds.
    pub max_life: u64,
    /// The only assets; null: any.
    pub assets: Option<Vec<Address>>,
    /// Whether only some vendors are admitted.
    pub vendors_listed: bool,
    /// Permits that a client may have in an hour; null: any number.
    pub permits_per_hour: Option<u32>,
}

/// The body of `GET /v1/reputation/{address}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReputationAnswer {
    /// In whose ledger.
    pub bank: Address,
    /// Of whom.
    pub customer: Address,
    /// 0 to 100.
    pub reputation: u8,
    /// The least that is admitted.
    pub needed: u8,
    /// Whether it is enough.
    pub admitted: bool,
}

impl TryFrom<PermitBody> for SignedRequest {
    type Error = SignatureError;

    fn try_from(body: PermitBody) -> Result<Self, SignatureError> {
        let signature = Signature::from_bytes(&body.signature)?;
        let terms = AdmitRequest {
            client: body.client,
            vendor: body.vendor,
            salt: body.salt,
            receipt_key: body.receipt_key,
            asset: body.asset,
            unit: Amount(body.unit),
            length: Index(body.length),
            anchor: Word(body.anchor),
            expiry: Timestamp(body.expiry),
        };
        Ok(Self {
            request: PermitRequest {
                terms,
                requested_at: Timestamp(body.requested_at),
            },
            signature,
        })
    }
}

impl From<&SignedRequest> for PermitBody {
    fn from(signed: &SignedRequest) -> Self {
        let terms = &signed.request.terms;
        Self {
            client: terms.client,
            vendor: terms.vendor,
            salt: terms.salt,
            receipt_key: terms.receipt_key,
            asset: terms.asset,
            unit: terms.unit.0,
            length: terms.length.0,
            anchor: terms.anchor.0,
            expiry: terms.expiry.0,
            requested_at: signed.request.requested_at.0,
            signature: signed.signature.to_bytes().to_vec().into(),
        }
    }
}

impl PermitAnswer {
    /// A stored permit as it is answered.
    pub fn new(admitted: &Admitted, generation: u32, epoch: u64) -> Self {
        let fields = admitted.permit().fields();
        Self {
            permit: PermitFields {
                channel_id: fields.channelId,
                client: fields.client,
                vendor: fields.vendor,
                receipt_key: fields.receiptKey,
                asset: fields.asset,
                unit: fields.unit,
                length: fields.length,
                anchor: fields.anchor,
                client_reputation: fields.clientReputation,
                vendor_reputation: fields.vendorReputation,
                issued_at: fields.issuedAt,
                expiry: fields.expiry,
            },
            bank: admitted.bank(),
            signature: admitted.signature().to_bytes().to_vec().into(),
            generation,
            epoch,
        }
    }

    /// The permit with its signature, whose form is checked and whose signer is not.
    pub fn admitted(&self, domain: &Domain) -> Result<Admitted, SignatureError> {
        let fields = &self.permit;
        let permit = OpenPermit {
            channelId: fields.channel_id,
            client: fields.client,
            vendor: fields.vendor,
            receiptKey: fields.receipt_key,
            asset: fields.asset,
            unit: fields.unit,
            length: fields.length,
            anchor: fields.anchor,
            clientReputation: fields.client_reputation,
            vendorReputation: fields.vendor_reputation,
            issuedAt: fields.issued_at,
            expiry: fields.expiry,
        };
        let signature = Signature::from_bytes(&self.signature)?;
        Ok(Admitted::restore(
            Permit::new(domain, permit),
            self.bank,
            signature,
        ))
    }
}
