//! A store in one SQLite file: write-ahead log, `synchronous=FULL`. A commit that has returned survives a loss of power.
#![allow(
    clippy::duplicate_mod,
    reason = "each backend compiles the tables for its own sqlx types, see the module above"
)]

#[path = "tables/channel_bank.rs"]
mod channel_bank;
#[path = "tables/channel_client.rs"]
mod channel_client;
#[path = "tables/channel_domain.rs"]
mod channel_domain;
#[path = "tables/channel_mirror.rs"]
mod channel_mirror;
#[path = "tables/channel_permit.rs"]
mod channel_permit;
#[path = "tables/channel_settlements.rs"]
mod channel_settlements;
#[path = "tables/channel_vendor.rs"]
mod channel_vendor;
#[path = "tables/claims.rs"]
mod claims;
#[path = "tables/columns.rs"]
mod columns;
#[path = "tables/fleet.rs"]
mod fleet;
#[path = "tables/identity.rs"]
mod identity;
#[path = "tables/mirror.rs"]
mod mirror;
#[path = "tables/offline_lists.rs"]
mod offline_lists;
#[path = "tables/offline_records.rs"]
mod offline_records;
#[path = "tables/offline_wallet.rs"]
mod offline_wallet;
#[path = "tables/orders.rs"]
mod orders;
#[path = "tables/seed.rs"]
mod seed;
#[path = "tables/wins.rs"]
mod wins;
#[path = "tables/writer.rs"]
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use protocol::{channel, ticket::Domain};
use sqlx::{
    Connection as _, Row as _, SqliteConnection, SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use self::{
    identity::{check_identity, claim_identity, migrate, read_identity},
    writer::{Job, Writer, execute},
};
use crate::{Result, StoreError, StoreIdentity, WriteStats};

type SqlStore = SqliteStore;
type Db = sqlx::Sqlite;
type Connection = SqliteConnection;
type Pool = SqlitePool;
type Row = sqlx::sqlite::SqliteRow;
type Arguments = sqlx::sqlite::SqliteArguments;
use sqlx::SqliteExecutor as Executor;

/// Requests in one transaction: bounds how long the first one waits for the others.
const BATCH: usize = 512;

const NOW: &str = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now_ms";

/// "MPAY": what `file(1)` and [`StoreError::NotAStore`] know a store by.
const APPLICATION_ID: u32 = 0x4d50_4159;

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(10);

/// Connections that read at the same time.
const READERS: u32 = 4;

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// A store in one SQLite file. Clones share it; several processes may have it open.
#[derive(Clone)]
pub struct SqliteStore {
    identity: StoreIdentity,
    /// The contract of the channels, once it is said.
    channels: Arc<OnceLock<channel::Domain>>,
    path: Arc<Path>,
    writer: Writer,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the store in this file, or creates it (readable by its owner only: it holds the seed). Refuses a file that is
    /// something else, was made for another chain, contract or owner, or by a newer program.
    ///
    /// Must be called within a Tokio runtime; the writer's task runs there.
    pub async fn open(path: impl AsRef<Path>, identity: StoreIdentity) -> Result<Self> {
        let path = path.as_ref();
        create(path).map_err(|error| StoreError::Database {
            doing: "creating the store",
            source: Arc::new(error),
            transient: false,
        })?;
        // A store of another identity is not even migrated. (Where the identity cannot be read, the migrations say why.)
        match Self::identity_of(path).await {
            Ok(stored) => check_identity(stored, identity)?,
            Err(error @ StoreError::NotAStore { .. }) => return Err(error),
            Err(_) => {}
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .busy_timeout(BUSY)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let failed = |error| database_error("opening the store", error);
        let setup = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        // Before the first table, so that a start cut off half-way is known again. Spelled out because a pragma takes no
        // parameters.
        debug_assert_eq!(APPLICATION_ID, 1_297_105_241);
        sqlx::query("PRAGMA application_id = 1297105241")
            .execute(&setup)
            .await
            .map_err(failed)?;
        migrate(&setup, &MIGRATIONS).await?;
        let mut conn = setup.acquire().await.map_err(failed)?.detach();
        claim_identity(&mut conn, identity).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .map_err(failed)?;
        Ok(Self {
            identity,
            channels: Arc::default(),
            path: path.into(),
            writer: Writer::start(Link(conn)),
            readers,
        })
    }

    /// What the store in this file was made for, without opening it for anything. None if there is none yet.
    pub async fn identity_of(path: impl AsRef<Path>) -> Result<Option<StoreIdentity>> {
        let path = path.as_ref();
        if !path.exists() || !check_application(path).await? {
            return Ok(None);
        }
        let failed = |error| database_error("reading the store's identity", error);
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY)
            .pragma("query_only", "ON");
        let mut conn = SqliteConnection::connect_with(&options).await.map_err(failed)?;
        let identity = read_identity(&mut conn).await;
        conn.close().await.map_err(failed)?;
        identity
    }

    /// What the store is for.
    pub fn identity(&self) -> StoreIdentity {
        self.identity
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Requests written and transactions committed by this process.
    pub fn stats(&self) -> WriteStats {
        self.writer.stats()
    }

    /// Lets waiting requests finish and closes the file, for every clone. Later requests get [`StoreError::Closed`].
    /// Without this the file closes when the last clone is gone; nothing that was answered can be lost either way.
    pub async fn close(&self) -> Result<()> {
        self.readers.close().await;
        self.writer.close().await
    }

    fn domain(&self) -> &Domain {
        &self.identity.domain
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path)
            .field("identity", &self.identity)
            .finish()
    }
}

/// Creates an empty file that only its owner can read, if there is none. Never opens an existing one: closing it again
/// would release this process's SQLite locks on it (POSIX).
fn create(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(file) => {
            file.sync_all()?;
            // The name must be durable, too, before anything in the file is promised.
            let folder = match path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
                _ => PathBuf::from("."),
            };
            if cfg!(unix) {
                File::open(folder)?.sync_all()
            } else {
                Ok(())
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the file says what it is for (true) or is still empty (false); anything else is refused before a single byte is
/// changed.
async fn check_application(path: &Path) -> Result<bool> {
    let failed = |error| database_error("looking at the store", error);
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY);
    let mut conn = SqliteConnection::connect_with(&options).await.map_err(failed)?;
    let row = sqlx::query(
        "SELECT application_id, (SELECT COUNT(*) FROM sqlite_schema) AS tables,
             (SELECT COUNT(*) FROM sqlite_schema WHERE name = 'store') AS stores
         FROM pragma_application_id",
    )
    .fetch_one(&mut conn)
    .await
    .map_err(failed)?;
    let number = |column| row.try_get::<i64, _>(column).map_err(failed);
    let (id, tables, stores) = (number("application_id")?, number("tables")?, number("stores")?);
    conn.close().await.map_err(failed)?;
    // 32 bits, which SQLite reads as a signed number.
    let got = id as u32;
    if got == APPLICATION_ID || (got == 0 && tables == 0) {
        return Ok(stores > 0);
    }
    Err(StoreError::NotAStore {
        path: path.to_path_buf(),
        got,
        expected: APPLICATION_ID,
    })
}

/// A file answers.
async fn in_time<T>(reading: impl Future<Output = Result<T>>) -> Result<T> {
    reading.await
}

/// The connection that writes. A file does not go away, so it is the same one for ever.
struct Link(SqliteConnection);

impl Link {
    async fn transaction(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<()> {
        // Takes the write lock now and waits for other processes, so that what a request reads is still true when it writes.
        execute(&mut self.0, "BEGIN IMMEDIATE", "waiting for the write lock").await?;
        writer::commit(&mut self.0, jobs).await
    }

    async fn close(self) -> Result<()> {
        let closed = self.0.close().await;
        closed.map_err(|error| database_error("closing the store", error))
    }
}

fn database_error(doing: &'static str, error: sqlx::Error) -> StoreError {
    let transient = match &error {
        // SQLITE_BUSY and SQLITE_LOCKED with their extended codes, whose low byte is the plain one.
        sqlx::Error::Database(inner) => {
            let code = inner.code().and_then(|code| code.parse::<u32>().ok());
            code.is_some_and(|code| matches!(code & 0xff, 5 | 6))
        }
        sqlx::Error::PoolTimedOut => true,
        sqlx::Error::PoolClosed => return StoreError::Closed,
        _ => false,
    };
    super::database_error(doing, error, transient)
}
