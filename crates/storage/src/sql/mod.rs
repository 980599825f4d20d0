//! SQL databases through sqlx: a file ([`sqlite`]) or a server ([`postgres`]). One task writes, a pool of connections reads.
//!
//! What is stored and how it is judged is the same for both, and written once, in `tables/`. sqlx has other types for each
//! database, so each backend compiles those files as modules of its own, against the names that it gives to its types:
//!
//! | name | is |
//! |---|---|
//! | `Db`, `Connection`, `Row`, `Arguments`, `Pool`, `Executor` | sqlx's types for the database |
//! | `SqlStore` | the backend's store, with `identity`, `writer` and `readers` |
//! | `Link` | the connection that writes: begins transactions that no other writer interrupts, and mends itself |
//! | `BATCH` | how many requests share a transaction, at most |
//! | `NOW` | a query for the database's time |
//! | `in_time` | gives up reading from a server that says nothing |
//! | `database_error` | which errors pass by themselves |

mod blob;
mod postgres;
mod sqlite;

use std::{error::Error, sync::Arc};

pub use self::{postgres::PostgresStore, sqlite::SqliteStore};
use crate::StoreError;

/// How much a store's writer has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Requests answered.
    pub writes: u64,
    /// Transactions committed for them: flushes to disk.
    pub commits: u64,
}

/// An error of the database. `transient`: whether it may pass by itself.
fn database_error(
    doing: &'static str,
    error: impl Into<Box<dyn Error + Send + Sync>>,
    transient: bool,
) -> StoreError {
    StoreError::Database {
        doing,
        source: Arc::from(error.into()),
        transient,
    }
}
