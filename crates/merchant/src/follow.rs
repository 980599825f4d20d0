//! Keeps the mirror equal to the chain, and on disk: after a restart it goes on where it was. When the node fails the
//! mirror ages, payments go on until the policy's limit, claims wait, and the log says so.

use std::time::Duration;

use chain::{ChainError, Channels, Follower, Records, Scheme, Tickets};
use protocol::block::BlockRef;
use storage::channel::ChannelMirrorStore;
use storage::{MirrorStore, StoreError};
use tracing::{info, warn};

/// Pause between two attempts at a busy store.
const SAVE_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause between two attempts at a failing node.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why following ended: going on would build on sand.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The chain is not the one it was.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The mirror cannot be saved.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a mirror is saved. Each scheme has its own place in a store, and its own cursor.
pub trait KeepMirror<S: Scheme>: Sync {
    /// Moves the cursor and stores the records that changed since, atomically. A cursor behind the stored one, or another
    /// block of the same height, is [`StoreError::CursorBackwards`].
    fn keep(
        &self,
        cursor: BlockRef,
        changed: &Records<S>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl<T: MirrorStore + Sync> KeepMirror<Tickets> for T {
    fn keep(
        &self,
        cursor: BlockRef,
        changed: &Records<Tickets>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.save_mirror(cursor, changed)
    }
}

impl<T: ChannelMirrorStore + Sync> KeepMirror<Channels> for T {
    fn keep(
        &self,
        cursor: BlockRef,
        changed: &Records<Channels>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.save_channel_mirror(cursor, changed)
    }
}

/// One look at the chain: load, decide (the follower folds), save. Returns whether the mirror has caught up.
pub async fn follow_once<S: Scheme>(
    follower: &mut Follower<S>,
    store: &impl KeepMirror<S>,
) -> Result<bool, FollowError> {
    let before = follower.mirror().final_block();
    let polled = follower.poll().await?;
    if polled.rolled_back > 0 {
        warn!(
            blocks = polled.rolled_back,
            head = polled.head.number,
            "the chain was reorganised"
        );
    }
    if polled.final_block != before {
        // The follower tells each change once: one that is not saved would be missing after a restart, for ever.
        while let Err(error) = store.keep(polled.final_block, &polled.changed).await {
            if let StoreError::CursorBackwards { got, stored } = &error
                && got.number < stored.number
            {
                break; // another process of this merchant was here before, and saved as much and more
            }
            if !error.retry() {
                return Err(error.into());
            }
            warn!(%error, "cannot save the mirror yet");
            tokio::time::sleep(SAVE_PAUSE).await;
        }
    }
    Ok(polled.behind == 0)
}

/// Follows for ever, looking every `pause`. A node on another chain or behind a broken gateway is a node that fails: it may
/// be replaced by a good one while we wait. Returns only when a final block is gone, or the mirror cannot be saved.
pub async fn follow<S: Scheme>(
    mut follower: Follower<S>,
    store: impl KeepMirror<S>,
    pause: Duration,
) -> FollowError {
    let mut failures = 0u32;
    loop {
        match follow_once(&mut follower, &store).await {
            Ok(true) => {
                if failures > 0 {
                    info!(failures, "the node answers again");
                }
                failures = 0;
                tokio::time::sleep(pause).await;
            }
            Ok(false) => {} // still catching up
            Err(FollowError::Chain(error)) if !matches!(error, ChainError::FinalityBroken { .. }) => {
                failures = failures.saturating_add(1);
                let wait = (pause * 2u32.saturating_pow(failures.min(16))).min(LONGEST_PAUSE);
                let age = follower.mirror().age().map(|age| age.as_secs());
                warn!(%error, mirror_age_s = age, retry_in_s = wait.as_secs_f32(), "cannot read the chain; claims wait");
                tokio::time::sleep(wait).await;
            }
            Err(error) => return error,
        }
    }
}
