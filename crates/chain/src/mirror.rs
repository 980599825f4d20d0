//! All escrows in memory, at two blocks: the last final one and the newest one. Written by the follower alone, in one step
//! per poll; read by admission, at the price of a lock and two reference counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use parking_lot::RwLock;
use protocol::ticket::{BlockRef, EscrowRecord, EscrowView, Escrows, FoldError, apply, escrow_of};
use tokio::time::Instant;

use crate::{ChainError, ChainEvent};

/// What the chain says about every escrow.
#[derive(Debug)]
pub struct Mirror {
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    final_block: BlockRef,
    head: BlockRef,
    /// By tokio's clock, which tests put forward.
    refreshed_at: Option<Instant>,
    finals: HashMap<Address, Arc<EscrowRecord>>,
    /// Only the escrows that differ after the non-final blocks.
    heads: HashMap<Address, Arc<EscrowRecord>>,
}

/// One escrow at two blocks, owned.
#[derive(Clone, Debug, Default)]
pub struct MirrorView {
    /// At the last final block; `None` if it was not open by then.
    pub last_final: Option<Arc<EscrowRecord>>,
    /// At the newest block; `None` if it is not open there.
    pub head: Option<Arc<EscrowRecord>>,
}

impl MirrorView {
    /// The same, borrowed, as admission takes it.
    #[must_use]
    pub fn as_view(&self) -> EscrowView<'_> {
        EscrowView {
            last_final: self.last_final.as_deref(),
            head: self.head.as_deref(),
        }
    }
}

impl Mirror {
    pub(crate) fn new(final_block: BlockRef, escrows: Escrows) -> Self {
        let finals = escrows
            .into_iter()
            .map(|(escrow, record)| (escrow, Arc::new(record)))
            .collect();
        let state = State {
            final_block,
            head: final_block,
            refreshed_at: None,
            finals,
            heads: HashMap::new(),
        };
        Self {
            state: RwLock::new(state),
        }
    }

    /// These escrows, taken to be what the chain says at this moment: for benchmarks and simulations, which have no node to
    /// follow. Nothing refreshes it, so that it ages from now on.
    #[must_use]
    pub fn of(final_block: BlockRef, escrows: Escrows) -> Self {
        let mirror = Self::new(final_block, escrows);
        mirror.confirm();
        mirror
    }

    /// An escrow at the final and at the newest block, both of the same moment.
    #[must_use]
    pub fn view(&self, escrow: Address) -> MirrorView {
        let state = self.state.read();
        let last_final = state.finals.get(&escrow).cloned();
        let head = state.heads.get(&escrow).cloned().or_else(|| last_final.clone());
        MirrorView { last_final, head }
    }

    /// The newest block that was read. Its timestamp tells whether the node itself has fallen behind.
    #[must_use]
    pub fn head(&self) -> BlockRef {
        self.state.read().head
    }

    /// The last final block that was read.
    #[must_use]
    pub fn final_block(&self) -> BlockRef {
        self.state.read().final_block
    }

    /// When the mirror last equalled the node's newest block; `None` before the first time.
    #[must_use]
    pub fn refreshed_at(&self) -> Option<Instant> {
        self.state.read().refreshed_at
    }

    /// How long ago the mirror last equalled the node's newest block; `None` before the first time.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.refreshed_at().map(|at| at.elapsed())
    }

    /// Every escrow that is final, in no order.
    #[must_use]
    pub fn escrows(&self) -> Vec<(Address, Arc<EscrowRecord>)> {
        self.state
            .read()
            .finals
            .iter()
            .map(|(escrow, record)| (*escrow, Arc::clone(record)))
            .collect()
    }

    /// How many escrows are final.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.read().finals.len()
    }

    /// Whether no escrow is final.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.read().finals.is_empty()
    }

    /// Works out what events do, without doing it: first those that are final, then those that are not.
    pub(crate) fn fold<'a>(
        &self,
        finals: impl IntoIterator<Item = &'a ChainEvent>,
        heads: impl IntoIterator<Item = &'a ChainEvent>,
    ) -> Result<Folded, ChainError> {
        let state = self.state.read();
        let finals = fold(finals, |escrow| {
            state.finals.get(&escrow).map(|record| (**record).clone())
        })?;
        let heads = fold(heads, |escrow| {
            finals
                .get(&escrow)
                .cloned()
                .or_else(|| state.finals.get(&escrow).map(|record| (**record).clone()))
        })?;
        Ok(Folded { finals, heads })
    }

    /// Takes over what [`Mirror::fold`] worked out. The only writer is the follower, so nothing has changed since.
    pub(crate) fn replace(&self, folded: &Folded, final_block: BlockRef, head: BlockRef, fresh: bool) {
        let arcs = |escrows: &Escrows| -> Vec<_> {
            escrows
                .iter()
                .map(|(escrow, record)| (*escrow, Arc::new(record.clone())))
                .collect()
        };
        let (finals, heads) = (arcs(&folded.finals), arcs(&folded.heads));
        let mut state = self.state.write();
        state.finals.extend(finals);
        state.heads = heads.into_iter().collect();
        state.final_block = final_block;
        state.head = head;
        if fresh {
            state.refreshed_at = Some(Instant::now());
        }
    }

    /// The node's newest block is still the one we have.
    pub(crate) fn confirm(&self) {
        self.state.write().refreshed_at = Some(Instant::now());
    }
}

/// Escrows after some events: only those that the events touched.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    pub(crate) finals: Escrows,
    pub(crate) heads: Escrows,
}

fn fold<'a>(
    events: impl IntoIterator<Item = &'a ChainEvent>,
    before: impl Fn(Address) -> Option<EscrowRecord>,
) -> Result<Escrows, ChainError> {
    let mut touched = Escrows::new();
    for event in events {
        if let Some(escrow) = escrow_of(&event.event)
            && !touched.contains_key(&escrow)
            && let Some(record) = before(escrow)
        {
            touched.insert(escrow, record);
        }
        apply(&mut touched, &event.event).map_err(|source: FoldError| ChainError::DoesNotFold {
            block: event.block_number,
            log_index: event.log_index,
            source,
        })?;
    }
    Ok(touched)
}
