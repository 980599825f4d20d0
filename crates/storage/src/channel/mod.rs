//! The scheme "channel": what payer, vendor and bank must not forget. Same database, same writer and same rules as for
//! tickets; see the crate's documentation.
//!
//! A handle is told once which contract its channels are of ([`ChannelDomainStore::use_channels`]); ids, digests and tags are
//! only good for that one.

pub mod bank;
pub mod client;
pub mod mirror;
pub mod settle;
pub mod vendor;

use std::fmt;

use protocol::channel::Domain;

pub use bank::{BankStore, IssuedPermit, PermitQuota, PermitRecord, PermitRequest};
pub use client::{
    ClientChannelFilter, ClientChannelRecord, ClientChannelStore, NewClientChannel, Pay, PayRequest,
    PaymentRecord, PaymentStage, PaymentState, PaymentTotals,
};
pub use mirror::ChannelMirrorStore;
pub use settle::{
    SettlementId, SettlementItem, SettlementMove, SettlementOutcome, SettlementRecord, SettlementStage,
    SettlementState, SettlementStep, SettlementStore,
};

pub use vendor::{
    ChannelPhase, CheckpointRecord, Opening, PaymentFate, PaymentSum, Resumed, VendorChannelRecord,
    VendorChannelStore, VendorPayment, VendorPaymentState, VendorTotals,
};

pub(crate) use bank::check_bank_key;
pub(crate) use settle::{check_outcomes as check_settlement_outcomes, check_settlement};
pub(crate) use vendor::{check_checkpoint, check_resumed};

use crate::Result;

/// Which contract the channels are of.
pub trait ChannelDomainStore {
    /// Says so for this handle and its clones. The first contract ever said is stored; another one is
    /// [`OtherChannels`](crate::StoreError::OtherChannels). Until it is said, what needs it is
    /// [`ChannelsUnsaid`](crate::StoreError::ChannelsUnsaid).
    fn use_channels(&self, domain: Domain) -> impl Future<Output = Result<()>> + Send;
}

/// Every capability of the scheme at once.
pub trait ChannelStore:
    ChannelDomainStore
    + ChannelMirrorStore
    + ClientChannelStore
    + VendorChannelStore
    + SettlementStore
    + BankStore
{
}

impl<T> ChannelStore for T where
    T: ChannelDomainStore
        + ChannelMirrorStore
        + ClientChannelStore
        + VendorChannelStore
        + SettlementStore
        + BankStore
{
}

/// Two contracts, where there can be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherChannels {
    /// What the store has channels of.
    pub stored: Domain,
    /// What it was to have channels of.
    pub wanted: Domain,
}

impl fmt::Display for OtherChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stored, wanted } = self;
        write!(
            f,
            "the store has channels of chain {}, contract {}, not of chain {}, contract {}",
            stored.chain_id(),
            stored.contract(),
            wanted.chain_id(),
            wanted.contract()
        )
    }
}
