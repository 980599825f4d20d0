//! What a client is willing to pay, whatever a vendor asks.

use std::collections::BTreeSet;

use alloy_primitives::Address;
use protocol::channel::{Amount, Permit};

/// Bounds on every payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Highest price of one good, atomic units.
    pub max_price: Amount,
    /// Who may be paid; empty means anybody.
    pub vendors: BTreeSet<Address>,
    /// What may be paid with: tokens, or the zero address for the native asset; empty means the channel's, whatever it is.
    pub assets: BTreeSet<Address>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_price: Amount::MAX,
            vendors: BTreeSet::new(),
            assets: BTreeSet::new(),
        }
    }
}

/// Why a price is not paid. Nothing was revealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Too expensive.
    #[error("the price is {price}, the limit is {limit}")]
    PriceTooHigh {
        /// Asked, atomic units.
        price: Amount,
        /// Allowed, atomic units.
        limit: Amount,
    },
    /// Not one of those who may be paid.
    #[error("vendor {got} is not on the list of {listed}")]
    VendorNotAllowed {
        /// The channel's.
        got: Address,
        /// Length of the list.
        listed: usize,
    },
    /// Not one of those that may be paid with.
    #[error("asset {got} is not on the list of {listed}")]
    AssetNotAllowed {
        /// The channel's.
        got: Address,
        /// Length of the list.
        listed: usize,
    },
    /// The channel holds another asset.
    #[error("the price is in asset {price}, the channel holds {channel}")]
    WrongAsset {
        /// The price's.
        price: Address,
        /// The channel's.
        channel: Address,
    },
    /// No channel has so many units.
    #[error("a price of {price} is more units of {unit} than any channel has")]
    TooManyUnits {
        /// Asked, atomic units.
        price: Amount,
        /// What a unit is worth, atomic units.
        unit: Amount,
    },
}

impl Limits {
    /// Whether to pay this price over the channel with this permit.
    pub(super) fn check(&self, permit: &Permit, price: Amount, asset: Address) -> Result<(), LimitError> {
        if price > self.max_price {
            return Err(LimitError::PriceTooHigh {
                price,
                limit: self.max_price,
            });
        }
        let vendor = permit.vendor();
        if !self.vendors.is_empty() && !self.vendors.contains(&vendor) {
            return Err(LimitError::VendorNotAllowed {
                got: vendor,
                listed: self.vendors.len(),
            });
        }
        let held = permit.asset();
        if !self.assets.is_empty() && !self.assets.contains(&held) {
            return Err(LimitError::AssetNotAllowed {
                got: held,
                listed: self.assets.len(),
            });
        }
        if asset != held {
            return Err(LimitError::WrongAsset {
                price: asset,
                channel: held,
            });
        }
        Ok(())
    }
}
