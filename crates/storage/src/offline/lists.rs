//! Revocation lists: the newest of each registrar.

use protocol::offline::RevocationList;

use crate::Result;

/// The registrars' words on who is withdrawn.
pub trait RevocationStore {
    /// Keeps a list if it is newer than the one of the same registrar. True if it was.
    fn save_list(&self, list: &RevocationList) -> impl Future<Output = Result<bool>> + Send;

    /// The newest list of each registrar, by its address.
    fn lists(&self) -> impl Future<Output = Result<Vec<RevocationList>>> + Send;
}
