//! The bank's permits. A permit admits one channel, once: whoever asks again with the same terms gets the same bytes, and
//! other terms for that channel are refused for ever. A top-up is a further generation of the channel's permits, each of
//! which is there once.

use alloy_primitives::Address;
use protocol::channel::{Admitted, ChannelId, Permit, Timestamp, recover};

use crate::{Result, StoreError};

/// What a bank has signed, and with which keys.
pub trait BankStore {
    /// Notes that permits are signed with this key in this epoch (the contract's count of the bank's keys). True if it is
    /// new. Another key for an epoch that is known is [`BankKeyTaken`](StoreError::BankKeyTaken), and an epoch below the newest one is
    /// [`BankEpochBackwards`](StoreError::BankEpochBackwards).
    fn use_bank_key(&self, epoch: u64, key: Address) -> impl Future<Output = Result<bool>> + Send;

    /// Every key that was used, by epoch.
    fn bank_keys(&self) -> impl Future<Output = Result<Vec<(u64, Address)>>> + Send;

    /// The permit of a channel's generation. If there is none, in one transaction: counts the client's permits against the
    /// quota, has this one signed with the newest key, stores it. On return it is durable and may be sent. If there is one
    /// with the same terms (all but its time and the reputations) it is given back, and `sign` is not called; other terms are
    /// [`PermitExists`](StoreError::PermitExists) with what differs.
    ///
    /// `sign` runs inside the transaction, so it must only compute. A signature by another key than that of the newest epoch,
    /// or under another permit, is [`PermitSignedOther`](StoreError::PermitSignedOther).
    fn issue_permit<F>(
        &self,
        request: PermitRequest,
        sign: F,
    ) -> impl Future<Output = Result<IssuedPermit>> + Send
    where
        F: FnOnce(Permit) -> Admitted + Send + 'static;

    /// A channel's permits, by generation.
    fn permits_of(&self, channel: ChannelId) -> impl Future<Output = Result<Vec<PermitRecord>>> + Send;

    /// The latest `limit` permits, newest first; of one client or of all.
    fn permits(
        &self,
        client: Option<Address>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<PermitRecord>>> + Send;
}

/// A permit that the bank has decided to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitRequest {
    /// What is to be signed, as the bank's rules admitted it.
    pub permit: Permit,
    /// 0: the opening; one more for each top-up.
    pub generation: u32,
    /// How many permits the client may have in a time, if that is limited.
    pub quota: Option<PermitQuota>,
}

/// A limit to the permits of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermitQuota {
    /// From then on.
    pub since: Timestamp,
    /// At most so many.
    pub limit: u32,
}

/// What [`BankStore::issue_permit`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum IssuedPermit {
    /// It was just signed and stored.
    Fresh(PermitRecord),
    /// It was there; as stored.
    Existing(PermitRecord),
}

impl IssuedPermit {
    /// The permit, new or not.
    pub fn record(&self) -> &PermitRecord {
        match self {
            Self::Fresh(record) | Self::Existing(record) => record,
        }
    }

    /// The permit, new or not.
    pub fn into_record(self) -> PermitRecord {
        match self {
            Self::Fresh(record) | Self::Existing(record) => record,
        }
    }
}

/// A permit as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitRecord {
    /// The permit with the bank's signature.
    pub admitted: Admitted,
    /// 0: the opening; one more for each top-up.
    pub generation: u32,
    /// Number of the key that signed.
    pub epoch: u64,
}

// What every backend decides alike.

impl PermitRequest {
    pub(crate) fn channel(&self) -> ChannelId {
        self.permit.channel()
    }

    /// Whether a stored permit has the terms asked for. When it was asked and what the parties' reputation was then may differ.
    pub(crate) fn check_stored(&self, stored: &PermitRecord) -> Result<()> {
        let (got, had) = (&self.permit, stored.admitted.permit());
        let fields = [
            ("client", got.client().to_string(), had.client().to_string()),
            ("vendor", got.vendor().to_string(), had.vendor().to_string()),
            (
                "receiptKey",
                got.receipt_key().to_string(),
                had.receipt_key().to_string(),
            ),
            ("asset", got.asset().to_string(), had.asset().to_string()),
            ("unit", got.unit().to_string(), had.unit().to_string()),
            ("length", got.length().to_string(), had.length().to_string()),
            ("anchor", got.anchor().to_string(), had.anchor().to_string()),
            ("expiry", got.expiry().to_string(), had.expiry().to_string()),
        ];
        match fields.into_iter().find(|(_, got, stored)| got != stored) {
            Some((field, got, stored)) => Err(StoreError::PermitExists {
                channel: self.channel(),
                generation: self.generation,
                field,
                got,
                stored,
            }),
            None => Ok(()),
        }
    }

    /// Whether the generation is the one after so many permits.
    pub(crate) fn check_next(&self, next: u32) -> Result<()> {
        if self.generation == next {
            return Ok(());
        }
        Err(StoreError::PermitGap {
            channel: self.channel(),
            got: self.generation,
            next,
        })
    }

    /// Whether a client that had so many permits since then may have one more.
    pub(crate) fn check_quota(&self, quota: PermitQuota, issued: u64) -> Result<()> {
        if issued < u64::from(quota.limit) {
            return Ok(());
        }
        Err(StoreError::PermitQuota {
            client: self.permit.client(),
            issued,
            limit: quota.limit,
            since: quota.since,
        })
    }

    /// Whether the signer signed this permit with this key.
    pub(crate) fn check_signed(&self, key: Address, admitted: &Admitted) -> Result<()> {
        let differs = |field, signed: String, asked: String| {
            Err(StoreError::PermitSignedOther {
                channel: self.channel(),
                field,
                signed,
                asked,
            })
        };
        let (signed, asked) = (admitted.permit().digest(), self.permit.digest());
        if signed != asked {
            return differs("digest", signed.to_string(), asked.to_string());
        }
        match recover(asked, admitted.signature()) {
            Ok(signer) if signer.address() == key => Ok(()),
            Ok(signer) => differs("signer", signer.address().to_string(), key.to_string()),
            Err(error) => differs("signer", error.to_string(), key.to_string()),
        }
    }
}

/// Whether an epoch's key may be noted; true if it is new. `newest` is the highest epoch that is known.
pub(crate) fn check_bank_key(
    epoch: u64,
    got: Address,
    stored: Option<Address>,
    newest: Option<u64>,
) -> Result<bool> {
    match (stored, newest) {
        (Some(stored), _) if stored == got => Ok(false),
        (Some(stored), _) => Err(StoreError::BankKeyTaken { epoch, got, stored }),
        (None, Some(newest)) if epoch < newest => Err(StoreError::BankEpochBackwards { got: epoch, newest }),
        (None, _) => Ok(true),
    }
}
