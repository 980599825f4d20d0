//! Why a bank signs nothing. Names of rules are stable: clients go by them.

use std::sync::Arc;

use alloy_primitives::Address;
use chain::ChainError;
use protocol::channel::{AdmitRefusal, Amount, ChannelId};
use storage::StoreError;

use super::RequestError;

/// What the bank answers.
pub type Result<T, E = BankError> = std::result::Result<T, E>;

/// Why there is no permit. Nothing was signed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BankError {
    /// It is not the client who asks, or not now.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The scheme's rules, with the bank's bounds.
    #[error(transparent)]
    Refused(#[from] AdmitRefusal),
    /// The bank has no customers who pay with this asset.
    #[error("asset {got} is not one of {accepted:?}")]
    AssetNotAccepted {
        /// The asset.
        got: Address,
        /// The ones there are.
        accepted: Vec<Address>,
    },
    /// The bank has a list of vendors.
    #[error("vendor {got} is not one of the {accepted} that the bank takes")]
    VendorNotAccepted {
        /// The vendor.
        got: Address,
        /// How many there are.
        accepted: usize,
    },
    /// A payment of next to nothing.
    #[error("a unit of {got}, the least is {low}")]
    UnitTooSmall {
        /// The unit, atomic units.
        got: Amount,
        /// The least.
        low: Amount,
    },
    /// Too much money for one channel.
    #[error("a deposit of {got}, the most is {high}")]
    DepositTooLarge {
        /// Length × unit, atomic units.
        got: Amount,
        /// The most.
        high: Amount,
    },
    /// A top-up changes what it may not.
    #[error("channel {channel} has {field} {stored}, a top-up cannot make it {got}")]
    TopUpChanges {
        /// The channel.
        channel: ChannelId,
        /// The field.
        field: &'static str,
        /// Its value in the request.
        got: String,
        /// Its value in the channel.
        stored: String,
    },
    /// The channel is over.
    #[error("channel {channel} is closed")]
    ChannelClosed {
        /// The channel.
        channel: ChannelId,
    },
    /// The channel was opened with a permit that this store does not have.
    #[error("channel {channel} is open on chain, with a permit that is not stored here")]
    PermitLost {
        /// The channel.
        channel: ChannelId,
    },
    /// There is no permit for this channel.
    #[error("channel {channel} has no permit")]
    PermitMissing {
        /// The channel.
        channel: ChannelId,
    },
    /// The contract takes permits of another key.
    #[error(
        "the contract takes permits signed by {chain} (epoch {epoch}), the service has the key of {ours}"
    )]
    KeySuperseded {
        /// The key on chain.
        chain: Address,
        /// Its epoch.
        epoch: u64,
        /// The key here.
        ours: Address,
    },
    /// The node does not answer, or not well.
    #[error("the ledger cannot be read: {0}")]
    Ledger(Arc<ChainError>),
    /// The store refused: other terms for a channel that has a permit, too many permits, or it is out of order.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ChainError> for BankError {
    fn from(error: ChainError) -> Self {
        Self::Ledger(Arc::new(error))
    }
}

impl BankError {
    /// Stable name of the rule, in kebab case.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Request(RequestError::OutOfTime { .. }) => "request-out-of-time",
            Self::Request(RequestError::Signature(_)) => "bad-signature",
            Self::Request(RequestError::WrongSigner { .. }) => "wrong-signer",
            Self::Refused(refusal) => match refusal {
                AdmitRefusal::ReputationTooLow { .. } => "reputation-too-low",
                AdmitRefusal::SameParty { .. } => "same-party",
                AdmitRefusal::ReceiptKeyZero { .. } => "receipt-key-zero",
                AdmitRefusal::UnitOutOfRange { .. } => "unit-out-of-range",
                AdmitRefusal::LengthOutOfRange { .. } => "length-out-of-range",
                AdmitRefusal::DepositTooLarge { .. } => "deposit-too-large",
                AdmitRefusal::ExpiryOutOfRange { .. } => "expiry-out-of-range",
                AdmitRefusal::AnchorUsed { .. } => "anchor-used",
            },
            Self::AssetNotAccepted { .. } => "asset-not-accepted",
            Self::VendorNotAccepted { .. } => "vendor-not-accepted",
            Self::UnitTooSmall { .. } => "unit-out-of-range",
            Self::DepositTooLarge { .. } => "deposit-too-large",
            Self::TopUpChanges { .. } => "top-up-changes-terms",
            Self::ChannelClosed { .. } => "channel-closed",
            Self::PermitLost { .. } => "permit-lost",
            Self::PermitMissing { .. } => "permit-missing",
            Self::KeySuperseded { .. } => "key-superseded",
            Self::Ledger(_) => "ledger-unreadable",
            Self::Store(StoreError::PermitExists { .. }) => "permit-exists",
            Self::Store(StoreError::PermitQuota { .. }) => "too-many-permits",
            Self::Store(StoreError::BankEpochBackwards { .. }) => "ledger-behind",
            Self::Store(StoreError::PermitSignedOther { .. }) => "key-superseded",
            Self::Store(_) => "store-failed",
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Request(RequestError::WrongSigner { .. } | RequestError::OutOfTime { .. }) => 401,
            Self::Request(RequestError::Signature(_)) => 400,
            Self::Refused(_)
            | Self::AssetNotAccepted { .. }
            | Self::VendorNotAccepted { .. }
            | Self::UnitTooSmall { .. }
            | Self::DepositTooLarge { .. } => 403,
            Self::PermitMissing { .. } => 404,
            Self::TopUpChanges { .. }
            | Self::ChannelClosed { .. }
            | Self::PermitLost { .. }
            | Self::Store(StoreError::PermitExists { .. } | StoreError::PermitGap { .. }) => 409,
            Self::Store(StoreError::PermitQuota { .. }) => 429,
            Self::KeySuperseded { .. } | Self::Ledger(_) => 503,
            // The node is behind, or the key was changed in between.
            Self::Store(StoreError::BankEpochBackwards { .. } | StoreError::PermitSignedOther { .. }) => 503,
            Self::Store(error) if error.retry() => 503,
            Self::Store(_) => 500,
        }
    }

    /// Whether the same terms can be permitted later, without anybody changing anything.
    pub fn retry(&self) -> bool {
        match self {
            Self::Request(RequestError::OutOfTime { .. })
            | Self::KeySuperseded { .. }
            // Two requests at the same time: the other one came first, so this one is looked at anew.
            | Self::Store(
                StoreError::PermitQuota { .. }
                | StoreError::PermitGap { .. }
                | StoreError::BankEpochBackwards { .. }
                | StoreError::PermitSignedOther { .. },
            ) => true,
            Self::Ledger(error) => error.retry(),
            Self::Store(error) => error.retry(),
            _ => false,
        }
    }

    /// What can be said to everybody: not what a node or database said.
    pub fn public(&self) -> String {
        match self {
            Self::Ledger(_) => "the bank cannot read its ledger now".to_owned(),
            Self::Store(error) if !matches!(self.status(), 409 | 429) => match error.retry() {
                true => "the bank's store is busy".to_owned(),
                false => "the bank's store is out of order".to_owned(),
            },
            other => other.to_string(),
        }
    }

    /// The two values that were compared, where there are two.
    pub fn values(&self) -> Option<(String, String)> {
        let pair = |got: &dyn ToString, needed: &dyn ToString| Some((got.to_string(), needed.to_string()));
        match self {
            Self::Request(RequestError::OutOfTime { got, low, high }) => {
                pair(got, &format!("{}..{}", low.0, high.0))
            }
            Self::Request(RequestError::WrongSigner { got, client }) => pair(got, client),
            Self::Refused(refusal) => match refusal {
                AdmitRefusal::ReputationTooLow { got, needed, .. } => pair(got, needed),
                AdmitRefusal::UnitOutOfRange { got, low, high } => pair(got, &format!("{low}..{high}")),
                AdmitRefusal::LengthOutOfRange { got, low, high } => pair(got, &format!("{low}..{high}")),
                AdmitRefusal::ExpiryOutOfRange { got, low, high } => pair(got, &format!("{low}..{high}")),
                AdmitRefusal::AnchorUsed { got, current } => pair(got, current),
                AdmitRefusal::SameParty { client, vendor } => pair(client, vendor),
                AdmitRefusal::DepositTooLarge { unit, length } => pair(unit, length),
                AdmitRefusal::ReceiptKeyZero { .. } => None,
            },
            Self::AssetNotAccepted { got, accepted } => pair(got, &format!("{accepted:?}")),
            Self::VendorNotAccepted { got, accepted } => pair(got, accepted),
            Self::UnitTooSmall { got, low } => pair(got, low),
            Self::DepositTooLarge { got, high } => pair(got, high),
            Self::TopUpChanges { got, stored, .. } => pair(got, stored),
            Self::KeySuperseded { chain, ours, .. } => pair(ours, chain),
            Self::Store(StoreError::PermitExists { got, stored, .. }) => pair(got, stored),
            Self::Store(StoreError::PermitQuota { issued, limit, .. }) => pair(issued, limit),
            _ => None,
        }
    }
}
