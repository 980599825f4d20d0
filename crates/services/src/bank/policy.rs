//! What a bank asks of a channel, beside what the contract asks.

use alloy_primitives::Address;
use protocol::channel::{AdmitPolicy, Amount};

use super::{BankError, PermitRequest, Result};

/// A bank's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Reputation, length, largest unit and life.
    pub admit: AdmitPolicy,
    /// The only assets; `None`: any. The zero address is the native asset.
    pub assets: Option<Vec<Address>>,
    /// The only vendors; `None`: any that has the reputation.
    pub vendors: Option<Vec<Address>>,
    /// The least that one payment may be worth, atomic units.
    pub min_unit: Amount,
    /// The most that a channel may hold, atomic units.
    pub max_deposit: Amount,
    /// Permits that a client may have in an hour; `None`: any number.
    pub permits_per_hour: Option<u32>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            admit: AdmitPolicy::default(),
            assets: None,
            vendors: None,
            min_unit: Amount(1),
            max_deposit: Amount::MAX,
            permits_per_hour: Some(20),
        }
    }
}

impl Policy {
    /// The rules that need no look at the chain.
    pub fn check(&self, request: &PermitRequest) -> Result<()> {
        let terms = &request.terms;
        if let Some(assets) = &self.assets
            && !assets.contains(&terms.asset)
        {
            return Err(BankError::AssetNotAccepted {
                got: terms.asset,
                accepted: assets.clone(),
            });
        }
        if let Some(vendors) = &self.vendors
            && !vendors.contains(&terms.vendor)
        {
            return Err(BankError::VendorNotAccepted {
                got: terms.vendor,
                accepted: vendors.len(),
            });
        }
        if terms.unit < self.min_unit {
            return Err(BankError::UnitTooSmall {
                got: terms.unit,
                low: self.min_unit,
            });
        }
        // Beyond 128 bits is judged by the protocol; here it is only too much.
        let deposit = terms.unit.saturating_mul(terms.length.0.into());
        if deposit > self.max_deposit {
            return Err(BankError::DepositTooLarge {
                got: deposit,
                high: self.max_deposit,
            });
        }
        Ok(())
    }
}
