//! Follows the contract's events and keeps the [`Mirror`]. See the diagram in the crate's documentation.
//!
//! Non-final blocks are held with their hashes and events. A poll links the node's newest block to them by parent hashes,
//! so that a reorg between two requests is seen, never mixed in; events of such blocks are asked for by block hash. Blocks
//! that are final already when we first see them are read in ranges, with the hashes of the range's ends compared before
//! and after.
//!
//! Nothing changes before everything of a step has been fetched and folded; then it changes at once. So a poll may be
//! cancelled or fail at any point, and the next one goes on.

use std::collections::VecDeque;
use std::sync::Arc;

use alloy::primitives::B256;
use futures::{StreamExt, TryStreamExt, stream};
use protocol::block::BlockRef;
use tracing::{debug, info, warn};

use crate::client::Header;
use crate::{ChainError, ChainEvent, Client, Mirror, Records, Scheme, Tickets};

/// How often one poll tries to get a consistent reading.
const ATTEMPTS: u32 = 5;
/// Requests at a time.
const CONCURRENCY: usize = 8;

/// When a block counts as final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// With this many blocks on top of it. For chains that do not tell; a reorg deeper than this is
    /// [`ChainError::FinalityBroken`].
    Depth(u64),
    /// When the node says so (the `finalized` tag).
    Finalized,
}

/// How to follow.
#[derive(Clone, Copy, Debug)]
pub struct FollowerConfig {
    /// When a block counts as final.
    pub finality: Finality,
    /// Most blocks to ask for at once while catching up. Halved where the node refuses, raised again where it does not.
    pub max_range: u64,
}

impl FollowerConfig {
    /// With ranges of 2,000 blocks, which every node allows.
    #[must_use]
    pub fn new(finality: Finality) -> Self {
        Self {
            finality,
            max_range: 2_000,
        }
    }
}

/// Where to start.
#[derive(Clone, Debug)]
pub enum Start<S: Scheme = Tickets> {
    /// From nothing; the contract was deployed in this block or later. 0 is always right, and slow on a long chain
    /// ([`Client::deployment_block`] finds the number).
    Deployed {
        /// Number of the block.
        block: u64,
    },
    /// From what was saved: the final block, and every record at it. Whether the block is still on the chain is checked
    /// before anything is built on it.
    Saved {
        /// [`Polled::final_block`] of the last poll that was saved.
        cursor: BlockRef,
        /// Every record at that block: the union of all [`Polled::changed`], later ones first.
        records: Records<S>,
    },
}

/// What a poll found. Save `changed` and `final_block` together, in one step.
#[derive(Clone, Debug)]
pub struct Polled<S: Scheme = Tickets> {
    /// The newest block that was read. While `behind` is not 0, an old one.
    pub head: BlockRef,
    /// The last final block that was read: the cursor to save.
    pub final_block: BlockRef,
    /// Events that became final since the last poll that returned, in order.
    pub newly_final: Vec<ChainEvent<S>>,
    /// Records that these events touched, as they are at `final_block`.
    pub changed: Records<S>,
    /// How many blocks a reorg took away since the last poll that returned.
    pub rolled_back: u64,
    /// Final blocks still to read. Not 0: poll again at once; the mirror does not count as refreshed.
    pub behind: u64,
}

/// Keeps a [`Mirror`] equal to the chain.
#[derive(Debug)]
pub struct Follower<S: Scheme = Tickets> {
    client: Client<S>,
    config: FollowerConfig,
    /// Blocks to ask for at once now.
    range: u64,
    mirror: Arc<Mirror<S>>,
    final_block: BlockRef,
    /// The non-final blocks, oldest first, each the parent of the next.
    blocks: VecDeque<HeadBlock<S>>,
    unreported: Unreported<S>,
}

#[derive(Clone, Debug)]
struct HeadBlock<S: Scheme> {
    at: BlockRef,
    events: Vec<ChainEvent<S>>,
}

/// What has been done and not yet been returned by a poll.
#[derive(Debug, Default)]
struct Unreported<S: Scheme> {
    newly_final: Vec<ChainEvent<S>>,
    changed: Records<S>,
    rolled_back: u64,
}

/// How a step ended.
enum Step {
    /// With this many final blocks still to read.
    Done { behind: u64 },
    /// The chain changed between two requests; this block is where it was noticed.
    Moved { block: u64 },
}

/// What a step wants to change: keep so many of our non-final blocks, and put these on top.
struct Change<S: Scheme> {
    keep: usize,
    new: Vec<HeadBlock<S>>,
    /// Blocks up to this one become final.
    final_number: u64,
}

impl<S: Scheme> Follower<S> {
    /// A follower that has read nothing yet (or what was saved). Only [`Start::Deployed`] asks the node for something.
    pub async fn start(
        client: Client<S>,
        config: FollowerConfig,
        start: Start<S>,
    ) -> Result<Self, ChainError> {
        let (final_block, records) = match start {
            Start::Saved { cursor, records } => (cursor, records),
            Start::Deployed { block } => {
                let head = client.head().await?;
                // Before the contract, so that its events come after it; and final, so that no reorg can break it.
                let number = final_number(&client, config.finality, head, 0)
                    .await?
                    .min(block.saturating_sub(1));
                let base = client
                    .block(number)
                    .await?
                    .ok_or_else(|| missing_block(number, head.number))?;
                (base, Records::<S>::new())
            }
        };
        Ok(Self {
            mirror: Arc::new(Mirror::new(final_block, records)),
            range: config.max_range.max(1),
            client,
            config,
            final_block,
            blocks: VecDeque::new(),
            unreported: Unreported::default(),
        })
    }

    /// The mirror that it keeps.
    #[must_use]
    pub fn mirror(&self) -> Arc<Mirror<S>> {
        Arc::clone(&self.mirror)
    }

    /// Reads what is new. Far behind, it reads one range and says how much is left. On an error, or when cancelled, the
    /// mirror keeps its last good state, and nothing that became final is lost: the next poll returns it.
    pub async fn poll(&mut self) -> Result<Polled<S>, ChainError> {
        self.client.check_chain().await?;
        let mut moved = self.final_block.number;
        for attempt in 1..=ATTEMPTS {
            match self.step().await? {
                Step::Done { behind } => return Ok(self.report(behind)),
                Step::Moved { block } => {
                    debug!(
                        contract = S::NAME,
                        attempt, block, "the chain moved while we read it"
                    );
                    moved = block;
                }
            }
        }
        Err(ChainError::Unstable {
            attempts: ATTEMPTS,
            block: moved,
        })
    }

    fn report(&mut self, behind: u64) -> Polled<S> {
        let Unreported {
            newly_final,
            changed,
            rolled_back,
        } = std::mem::take(&mut self.unreported);
        Polled {
            head: self.tip(),
            final_block: self.final_block,
            newly_final,
            changed,
            rolled_back,
            behind,
        }
    }

    /// The newest block that we have.
    fn tip(&self) -> BlockRef {
        self.blocks.back().map_or(self.final_block, |block| block.at)
    }

    async fn step(&mut self) -> Result<Step, ChainError> {
        let head = self.client.head_header().await?;
        let final_block = self.final_block.number;
        if head.at.number < final_block {
            return Err(ChainError::NodeBehind {
                head: head.at.number,
                final_block,
            });
        }
        let target = final_number(&self.client, self.config.finality, head.at, final_block).await?;
        if target > self.tip().number {
            match self.catch_up(target).await? {
                Step::Done { behind: 0 } => {}
                unfinished => return Ok(unfinished),
            }
        }
        self.follow(head, target).await
    }

    // ── far behind: blocks that are final already ──

    /// Reads one range of blocks up to `target`, all of them final.
    async fn catch_up(&mut self, target: u64) -> Result<Step, ChainError> {
        let keep = match self.still_on_chain().await? {
            Some(keep) => keep,
            None => return self.broken().await,
        };
        let base = keep
            .checked_sub(1)
            .map_or(self.final_block, |last| self.blocks[last].at);
        let from = base.number.saturating_add(1);
        let to = target.min(base.number.saturating_add(self.range));
        let Some((to, last, events)) = self.read_range(from, to).await? else {
            return Ok(Step::Moved { block: to });
        };
        // Same end, same chain: the events are of one history, if our own block is part of it.
        if !self.is_on_chain(base).await? {
            return Ok(Step::Moved { block: base.number });
        }
        let new = vec![HeadBlock { at: last, events }];
        self.commit(
            Change {
                keep,
                new,
                final_number: to,
            },
            false,
        )?;
        debug!(contract = S::NAME, from, to, target, "caught up with a range");
        Ok(Step::Done { behind: target - to })
    }

    /// How many of our non-final blocks are still on the chain; `None` if not even the final one is.
    async fn still_on_chain(&self) -> Result<Option<usize>, ChainError> {
        for keep in (1..=self.blocks.len()).rev() {
            if self.is_on_chain(self.blocks[keep - 1].at).await? {
                return Ok(Some(keep));
            }
        }
        Ok(self.is_on_chain(self.final_block).await?.then_some(0))
    }

    async fn is_on_chain(&self, block: BlockRef) -> Result<bool, ChainError> {
        Ok(self
            .client
            .block(block.number)
            .await?
            .is_some_and(|got| got.hash == block.hash))
    }

    /// Events of the blocks from `from` to `to`, or to a lower end if the node refuses so many. Returns the end, its
    /// block, and the events; `None` if the chain changed meanwhile.
    async fn read_range(
        &mut self,
        from: u64,
        mut to: u64,
    ) -> Result<Option<(u64, BlockRef, Vec<ChainEvent<S>>)>, ChainError> {
        loop {
            let Some(before) = self.client.block(to).await? else {
                return Ok(None);
            };
            match self.client.events(from, to).await {
                Ok(events) => {
                    let same =
                        |event: &ChainEvent<S>| event.block_number != to || event.block_hash == before.hash;
                    if !events.iter().all(same)
                        || self.client.block(to).await?.map(|block| block.hash) != Some(before.hash)
                    {
                        return Ok(None);
                    }
                    self.range = self.range.saturating_mul(2).min(self.config.max_range.max(1));
                    return Ok(Some((to, before, events)));
                }
                Err(error) if to > from && too_much(&error) => {
                    let half = (to - from).div_ceil(2);
                    info!(contract = S::NAME, from, to, half, %error, "the node refuses a range of blocks; asking for half");
                    self.range = half;
                    to = from + half - 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    // ── close behind: blocks that may still go ──

    /// Links `head` to our blocks and takes over what is new.
    async fn follow(&mut self, head: Header, target: u64) -> Result<Step, ChainError> {
        let tip = self.tip();
        if head.at.hash == tip.hash {
            if self.final_number_in_blocks(target) > self.final_block.number {
                self.commit(
                    Change {
                        keep: self.blocks.len(),
                        new: vec![],
                        final_number: target,
                    },
                    true,
                )?;
            } else {
                self.mirror.confirm();
            }
            return Ok(Step::Done { behind: 0 });
        }
        let Some(mut headers) = self.headers_after(tip.number, head).await? else {
            return Ok(Step::Moved {
                block: head.at.number,
            });
        };
        // Down to a block that we have.
        let keep = loop {
            let first = headers.front().map_or(head, |header| *header);
            match self.position(first.at.number, first.at.hash, first.parent) {
                Position::Ours(keep) => {
                    headers.pop_front();
                    break keep;
                }
                Position::Child(keep) => break keep,
                Position::Broken => return self.broken().await,
                Position::Unknown => match self.client.header_by_hash(first.parent).await? {
                    Some(parent) if Some(parent.at.number) == first.at.number.checked_sub(1) => {
                        headers.push_front(parent);
                    }
                    Some(parent) => {
                        return Err(ChainError::Rubbish {
                            method: "eth_getBlockByHash",
                            got: format!("block {} as parent", parent.at.number),
                            expected: format!("the parent of block {}", first.at.number),
                        });
                    }
                    None => {
                        return Ok(Step::Moved {
                            block: first.at.number - 1,
                        });
                    }
                },
            }
        };
        let Some(new) = self.with_events(headers).await? else {
            return Ok(Step::Moved {
                block: head.at.number,
            });
        };
        // Some nodes answer "no events" for a block that they have dropped, so look whether it still counts.
        if !self.is_on_chain(head.at).await? {
            return Ok(Step::Moved {
                block: head.at.number,
            });
        }
        self.commit(
            Change {
                keep,
                new,
                final_number: target,
            },
            true,
        )?;
        Ok(Step::Done { behind: 0 })
    }

    /// Highest block up to `target` that we hold.
    fn final_number_in_blocks(&self, target: u64) -> u64 {
        target.min(self.tip().number)
    }

    /// The headers above `tip` up to `head`, linked by parent hashes; only `head` if it is not above. `None` if they do
    /// not link, because the chain changed meanwhile.
    async fn headers_after(&self, tip: u64, head: Header) -> Result<Option<VecDeque<Header>>, ChainError> {
        // Ends at the first height without a block, so that an absurd head costs nothing.
        let below = stream::iter(tip.saturating_add(1)..head.at.number)
            .map(|number| async move { self.client.header(number).await?.ok_or(Gap::Missing) })
            .buffered(CONCURRENCY)
            .try_collect::<VecDeque<Header>>()
            .await;
        let mut headers = match below {
            Ok(headers) => headers,
            Err(Gap::Missing) => return Ok(None),
            Err(Gap::Failed(error)) => return Err(error),
        };
        headers.push_back(head);
        let linked = headers
            .iter()
            .zip(headers.iter().skip(1))
            .all(|(parent, child)| child.parent == parent.at.hash);
        Ok(linked.then_some(headers))
    }

    /// Where a block stands relative to ours.
    fn position(&self, number: u64, hash: B256, parent: B256) -> Position {
        let base = self.final_block;
        let Some(height) = number.checked_sub(base.number) else {
            return Position::Broken;
        };
        // Height 0 is the final block, height n our n-th non-final block.
        let ours = |height: u64| match height {
            0 => Some(base.hash),
            n => usize::try_from(n - 1)
                .ok()
                .and_then(|index| self.blocks.get(index))
                .map(|block| block.at.hash),
        };
        let keep = |height: u64| usize::try_from(height).unwrap_or(usize::MAX);
        if ours(height) == Some(hash) {
            return Position::Ours(keep(height));
        }
        match height {
            0 => Position::Broken,
            _ if ours(height - 1) == Some(parent) => Position::Child(keep(height - 1)),
            1 => Position::Broken,
            _ => Position::Unknown,
        }
    }

    /// Fetches the events of blocks, each by its hash. `None` if one of them has left the chain.
    async fn with_events(&self, headers: VecDeque<Header>) -> Result<Option<Vec<HeadBlock<S>>>, ChainError> {
        let fetched: Result<Vec<HeadBlock<S>>, (Header, ChainError)> = stream::iter(headers)
            .map(|header| async move {
                let events = self
                    .client
                    .events_of(header.at.hash)
                    .await
                    .map_err(|error| (header, error))?;
                Ok(HeadBlock {
                    at: header.at,
                    events,
                })
            })
            .buffered(CONCURRENCY)
            .try_collect()
            .await;
        match fetched {
            Ok(blocks) => {
                let wrong = blocks.iter().find_map(|block| {
                    let event = block
                        .events
                        .iter()
                        .find(|event| event.block_number != block.at.number)?;
                    Some((event.block_number, block.at.number))
                });
                match wrong {
                    None => Ok(Some(blocks)),
                    Some((got, expected)) => Err(ChainError::Rubbish {
                        method: "eth_getLogs",
                        got: format!("an event of block {got}"),
                        expected: format!("an event of block {expected}"),
                    }),
                }
            }
            // Nodes refuse a block that they have dropped, each in its own words.
            Err((header, error @ ChainError::Refused { .. })) => {
                if self.is_on_chain(header.at).await? {
                    Err(error)
                } else {
                    Ok(None)
                }
            }
            Err((_, error)) => Err(error),
        }
    }

    /// Our final block seems gone: make sure before saying so.
    async fn broken(&self) -> Result<Step, ChainError> {
        let ours = self.final_block;
        match self.client.block(ours.number).await? {
            Some(block) if block.hash == ours.hash => Ok(Step::Moved { block: ours.number }),
            // The head is above it, so a sane node has something there.
            None => Err(missing_block(ours.number, ours.number)),
            Some(block) => Err(ChainError::FinalityBroken {
                ours,
                theirs: Some(block.hash),
            }),
        }
    }

    // ── at once ──

    /// Changes everything, or, on an error, nothing. No await in here.
    fn commit(&mut self, change: Change<S>, fresh: bool) -> Result<(), ChainError> {
        let Change {
            keep,
            new,
            final_number,
        } = change;
        let rolled_back = self.blocks.len() - keep;
        let (finals, heads): (Vec<&HeadBlock<S>>, Vec<&HeadBlock<S>>) = self
            .blocks
            .iter()
            .take(keep)
            .chain(&new)
            .partition(|block| block.at.number <= final_number);
        let folded = self.mirror.fold(
            finals.iter().flat_map(|block| &block.events),
            heads.iter().flat_map(|block| &block.events),
        )?;
        let promoted = finals.len();
        let final_block = finals.last().map_or(self.final_block, |block| block.at);
        let head = heads.last().map_or(final_block, |block| block.at);

        // From here on nothing can fail.
        self.mirror.replace(&folded, final_block, head, fresh);
        self.blocks.truncate(keep);
        self.blocks.extend(new);
        let newly_final = self.blocks.drain(..promoted).flat_map(|block| block.events);
        self.unreported.newly_final.extend(newly_final);
        self.unreported.changed.extend(folded.finals);
        self.unreported.rolled_back += rolled_back as u64;
        self.final_block = final_block;
        if rolled_back > 0 {
            warn!(
                contract = S::NAME,
                blocks = rolled_back,
                head = head.number,
                "reorg: blocks were taken off the chain"
            );
        }
        Ok(())
    }
}

/// Why the headers up to the newest block are not complete.
enum Gap {
    Missing,
    Failed(ChainError),
}

impl From<ChainError> for Gap {
    fn from(error: ChainError) -> Self {
        Self::Failed(error)
    }
}

enum Position {
    /// It is ours: keep so many of our non-final blocks.
    Ours(usize),
    /// Its parent is ours: keep so many.
    Child(usize),
    /// Not yet known: look at its parent.
    Unknown,
    /// It is not on top of our final block.
    Broken,
}

/// Number of the last final block under `head`, at least `known`.
async fn final_number<S: Scheme>(
    client: &Client<S>,
    finality: Finality,
    head: BlockRef,
    known: u64,
) -> Result<u64, ChainError> {
    let number = match finality {
        Finality::Depth(depth) => head.number.saturating_sub(depth),
        // None on a young chain. It may already be above `head`, which was read before.
        Finality::Finalized => client
            .finalized()
            .await?
            .map_or(known, |block| block.number)
            .min(head.number),
    };
    Ok(number.max(known))
}

/// Whether a smaller range might do.
fn too_much(error: &ChainError) -> bool {
    match error {
        ChainError::Refused { code, .. } => *code != -32601,
        ChainError::Http { status, .. } => matches!(status, 400 | 413 | 502 | 504),
        ChainError::Timeout { .. } => true,
        _ => false,
    }
}

fn missing_block(number: u64, head: u64) -> ChainError {
    ChainError::Rubbish {
        method: "eth_getBlockByNumber",
        got: "null".to_owned(),
        expected: format!("block {number}, as the newest is {head}"),
    }
}
