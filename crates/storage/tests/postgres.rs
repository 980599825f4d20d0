//! The suite on PostgreSQL.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is to stop them where it happens"
)]

use micropay_storage::{
    PostgresStore, Result, StoreIdentity,
    conformance::{Backend, postgres::PostgresCluster},
};

/// The address of a database.
struct Postgres(String);

impl Backend for Postgres {
    type Store = PostgresStore;
    const KEEPS: bool = true;

    async fn place() -> Self {
        Self(PostgresCluster::shared().database().await)
    }

    async fn open(&self, identity: StoreIdentity) -> Result<PostgresStore> {
        PostgresStore::open(&self.0, identity).await
    }

    async fn close(&self, store: PostgresStore) -> Result<()> {
        store.close().await
    }
}

micropay_storage::conformance!(Postgres);
