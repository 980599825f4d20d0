//! The terms of a payer's next call. Nearly every receipt repeats its escrow's, and they change with a claim or a new price:
//! what was written last is kept for the payers who are at work.

use std::num::NonZeroUsize;

use alloy_primitives::Address;
use lru::LruCache;
use merchant::ticket::Price;
use parking_lot::Mutex;
use protocol::ticket::Quote;

use crate::wire::{Requirements, Written};

/// Escrows whose terms are kept, of about a kilobyte each.
const KEPT: NonZeroUsize = NonZeroUsize::new(4_096).expect("is not 0");

/// See the module.
pub(super) struct Renewals(Mutex<LruCache<Address, (Basis, Written)>>);

/// All that the terms for an escrow are made of, besides what never changes.
#[derive(PartialEq)]
pub(super) struct Basis {
    pub(super) quote: Quote,
    pub(super) price: Price,
    pub(super) route: String,
}

impl Renewals {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }

    /// The terms for an escrow, written; by `write` where they are not as they were.
    pub(super) fn find(
        &self,
        escrow: Address,
        basis: Basis,
        write: impl FnOnce(&Basis) -> Requirements,
    ) -> Written {
        if let Some((was, written)) = self.0.lock().get(&escrow)
            && *was == basis
        {
            return written.clone();
        }
        let written = Written::from(&write(&basis));
        self.0.lock().put(escrow, (basis, written.clone()));
        written
    }
}
