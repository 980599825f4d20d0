//! All records of a scheme in memory, at two blocks: the last final one and the newest one. Written by the follower alone, in one step
//! per poll; read by admission, at the price of a lock and two reference counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use protocol::block::BlockRef;
use tokio::time::Instant;

use crate::{ChainError, ChainEvent, Records, Scheme, Tickets};

/// What the chain says about every record of a scheme: every escrow, every channel.
#[derive(Debug)]
pub struct Mirror<S: Scheme = Tickets> {
    state: RwLock<State<S>>,
}

#[derive(Debug)]
struct State<S: Scheme> {
    final_block: BlockRef,
    head: BlockRef,
    /// By tokio's clock, which tests put forward.
    refreshed_at: Option<Instant>,
    finals: HashMap<S::Id, Arc<S::Record>>,
    /// Only the records that differ after the non-final blocks.
    heads: HashMap<S::Id, Arc<S::Record>>,
}

/// One record at two blocks, owned.
#[derive(Clone, Debug, Default)]
pub struct MirrorView<S: Scheme = Tickets> {
    /// At the last final block; `None` if it was not open by then.
    pub last_final: Option<Arc<S::Record>>,
    /// At the newest block; `None` if it is not open there.
    pub head: Option<Arc<S::Record>>,
}

impl<S: Scheme> Mirror<S> {
    pub(crate) fn new(final_block: BlockRef, records: Records<S>) -> Self {
        let finals = records
            .into_iter()
            .map(|(id, record)| (id, Arc::new(record)))
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

    /// These records, taken to be what the chain says at this moment: for benchmarks and simulations, which have no node to
    /// follow. Nothing refreshes it, so that it ages from now on.
    #[must_use]
    pub fn of(final_block: BlockRef, records: Records<S>) -> Self {
        let mirror = Self::new(final_block, records);
        mirror.confirm();
        mirror
    }

    /// A record at the final and at the newest block, both of the same moment.
    #[must_use]
    pub fn view(&self, id: S::Id) -> MirrorView<S> {
        let state = self.state.read();
        let last_final = state.finals.get(&id).cloned();
        let head = state.heads.get(&id).cloned().or_else(|| last_final.clone());
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

    /// Every record that is final, in no order.
    #[must_use]
    pub fn records(&self) -> Vec<(S::Id, Arc<S::Record>)> {
        self.state
            .read()
            .finals
            .iter()
            .map(|(id, record)| (*id, Arc::clone(record)))
            .collect()
    }

    /// How many records are final.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.read().finals.len()
    }

    /// Whether no record is final.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.read().finals.is_empty()
    }

    /// Works out what events do, without doing it: first those that are final, then those that are not.
    pub(crate) fn fold<'a>(
        &self,
        finals: impl IntoIterator<Item = &'a ChainEvent<S>>,
        heads: impl IntoIterator<Item = &'a ChainEvent<S>>,
    ) -> Result<Folded<S>, ChainError> {
        let state = self.state.read();
        let finals = fold(finals, |id| {
            state.finals.get(&id).map(|record| (**record).clone())
        })?;
        let heads = fold(heads, |id| {
            finals
                .get(&id)
                .cloned()
                .or_else(|| state.finals.get(&id).map(|record| (**record).clone()))
        })?;
        Ok(Folded { finals, heads })
    }

    /// Takes over what [`Mirror::fold`] worked out. The only writer is the follower, so nothing has changed since.
    pub(crate) fn replace(&self, folded: &Folded<S>, final_block: BlockRef, head: BlockRef, fresh: bool) {
        let arcs = |records: &Records<S>| -> Vec<_> {
            records
                .iter()
                .map(|(id, record)| (*id, Arc::new(record.clone())))
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

/// Records after some events: only those that the events touched.
#[derive(Debug)]
pub(crate) struct Folded<S: Scheme> {
    pub(crate) finals: Records<S>,
    pub(crate) heads: Records<S>,
}

fn fold<'a, S: Scheme>(
    events: impl IntoIterator<Item = &'a ChainEvent<S>>,
    before: impl Fn(S::Id) -> Option<S::Record>,
) -> Result<Records<S>, ChainError> {
    let mut touched = Records::<S>::new();
    for event in events {
        if let Some(id) = S::id_of(&event.event)
            && !touched.contains_key(&id)
            && let Some(record) = before(id)
        {
            touched.insert(id, record);
        }
        S::apply(&mut touched, &event.event).map_err(|source| ChainError::DoesNotFold {
            block: event.block_number,
            log_index: event.log_index,
            source: Box::new(source),
        })?;
    }
    Ok(touched)
}
