//! Session secrets. A merchant stores nothing per session: every secret follows from one seed, the number of the process
//! (`boot`) and a counter in memory. So a crash closes every session, because the next process has another boot number.

use protocol::ticket::Seed;

use crate::Result;

/// The seed of the session secrets and the boot counter.
pub trait SeedStore {
    /// The seed of this store. The first one ever stored stays; `fresh` (32 bytes of the system's randomness) is kept only
    /// if there is none yet.
    fn seed_or_insert(&self, fresh: Seed) -> impl Future<Output = Result<Seed>> + Send;

    /// Number of this process, from 1 and higher by one at each call, for ever. Durable before it is returned: two
    /// processes with one number would accept tickets under secrets that are already revealed.
    fn next_boot(&self) -> impl Future<Output = Result<u64>> + Send;
}
