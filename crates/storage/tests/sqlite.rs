//! The suite on SQLite.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is to stop them where it happens"
)]

use micropay_storage::{Result, SqliteStore, StoreIdentity, conformance::Backend};
use tempfile::TempDir;

struct Sqlite(TempDir);

impl Backend for Sqlite {
    type Store = SqliteStore;
    const KEEPS: bool = true;

    async fn place() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self, identity: StoreIdentity) -> Result<SqliteStore> {
        SqliteStore::open(self.0.path().join("store.db"), identity).await
    }

    async fn close(&self, store: SqliteStore) -> Result<()> {
        store.close().await
    }
}

micropay_storage::conformance!(Sqlite);
