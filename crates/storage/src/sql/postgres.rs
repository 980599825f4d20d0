//! A store in one PostgreSQL database, for several processes. Writers take turns by an advisory lock that a transaction
//! holds from its beginning, so that requests mean the same as on one file. The connection that writes is made anew after
//! any error of the database; a commit whose answer was lost is an error, too, and asking again is safe.
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

use std::{
    str::FromStr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use protocol::{channel, ticket::Domain};
use sqlx::{
    Connection as _, PgConnection, PgPool, Row as _,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use self::{
    identity::{check_identity, claim_identity, migrate, read_identity},
    writer::{Job, Writer, execute},
};
use crate::{Result, StoreError, StoreIdentity, WriteStats};

type SqlStore = PostgresStore;
type Db = sqlx::Postgres;
type Connection = PgConnection;
type Pool = PgPool;
type Row = sqlx::postgres::PgRow;
type Arguments = sqlx::postgres::PgArguments;
use sqlx::PgExecutor as Executor;

/// How long a connection, the write lock or one answer may take before a request is given up for now.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a transaction may take, or all that is read for one request: several answers.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// Requests in one transaction. Each takes some answers of a server that may be far away, and all must be there in time.
const BATCH: usize = 64;

/// Connections that read at the same time.
const READERS: u32 = 4;

/// Each statement sees what was committed before it, and so all that the lock's last holder did.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

const CONNECTING: &str = "connecting to the database";
const BEGINNING: &str = "beginning a transaction";

/// The lock of this schema's store ("MPAY" as a number, and the schema); it goes with the transaction or the connection.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1297105241, hashtext(current_schema()))";

const NOW: &str = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT AS now_ms";

/// For the connection that writes. A commit is on the disk when it returns, whatever the database's own setting; nobody waits
/// for ever for a process that holds the lock and has gone to sleep.
const WRITING: &str = "SET synchronous_commit = on; SET lock_timeout = '10s'; SET statement_timeout = '10s';
    SET idle_in_transaction_session_timeout = '10s'";

/// For connections that read: what one transaction reads is of one moment.
const READING: &str =
    "SET default_transaction_isolation = 'repeatable read'; SET default_transaction_read_only = on;
    SET statement_timeout = '30s'";

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// A store in one schema of a PostgreSQL database. Clones share it; several processes, on several machines, may have it open.
#[derive(Clone)]
pub struct PostgresStore {
    identity: StoreIdentity,
    /// The contract of the channels, once it is said.
    channels: Arc<OnceLock<channel::Domain>>,
    place: String,
    writer: Writer,
    readers: PgPool,
}

impl PostgresStore {
    /// Opens the store in this database, or creates its tables there. Refuses a database that is in use for something else,
    /// or a store that was made for another chain, contract or owner, or by a newer program.
    ///
    /// `url` is `postgres://user:password@host:port/database?sslmode=verify-full&…` as for `psql`; what it leaves out is
    /// taken from the environment (`PGPASSWORD` and so on). The tables are made in the first schema of the search path
    /// (`options=-csearch_path=…`). The connection must be to PostgreSQL itself, or a pooler that keeps one session.
    ///
    /// Must be called within a Tokio runtime; the writer's task runs there.
    pub async fn open(url: &str, identity: StoreIdentity) -> Result<Self> {
        let options = options(url)?;
        let failed = |error| database_error("opening the store", error);
        let mut conn = connect(&options).await?;
        // A store of another identity is not even migrated.
        if check_tables(&mut conn).await? {
            check_identity(read_identity(&mut conn).await?, identity)?;
        }
        let setup = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE)
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        migrate(&setup, &MIGRATIONS).await?;
        setup.close().await;
        claim_identity(&mut conn, identity).await?;
        let place = format!(
            "postgres://{}:{}/{}",
            options.get_host(),
            options.get_port(),
            options.get_database().unwrap_or(options.get_username())
        );
        let readers = PgPoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(PATIENCE)
            .after_connect(|conn, _| {
                Box::pin(async move { sqlx::raw_sql(READING).execute(conn).await.map(drop) })
            })
            // A connection whose answer nobody waited for is asked again; where it says nothing it is cut off.
            .after_release(|conn, _| {
                Box::pin(async move {
                    let alive = timeout(PATIENCE, conn.ping()).await;
                    alive
                        .map_err(|elapsed| sqlx::Error::Io(elapsed.into()))?
                        .map(|()| true)
                })
            })
            .connect_lazy_with(options.clone());
        let link = Link {
            options,
            conn: Some(conn),
        };
        Ok(Self {
            identity,
            channels: Arc::default(),
            place,
            writer: Writer::start(link),
            readers,
        })
    }

    /// What the store in this database was made for, without opening it for anything. None if there is none yet.
    pub async fn identity_of(url: &str) -> Result<Option<StoreIdentity>> {
        let mut conn = connect(&options(url)?).await?;
        let identity = if check_tables(&mut conn).await? {
            read_identity(&mut conn).await?
        } else {
            None
        };
        let closed = conn.close().await;
        closed.map_err(|error| database_error("reading the store's identity", error))?;
        Ok(identity)
    }

    /// What the store is for.
    pub fn identity(&self) -> StoreIdentity {
        self.identity
    }

    /// Requests written and transactions committed by this process.
    pub fn stats(&self) -> WriteStats {
        self.writer.stats()
    }

    /// Lets waiting requests finish and closes the connections, for every clone. Later requests get [`StoreError::Closed`].
    /// Without this they close when the last clone is gone; nothing that was answered can be lost either way.
    pub async fn close(&self) -> Result<()> {
        self.readers.close().await;
        self.writer.close().await
    }

    fn domain(&self) -> &Domain {
        &self.identity.domain
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore")
            .field("place", &self.place)
            .field("identity", &self.identity)
            .finish()
    }
}

fn options(url: &str) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url);
    options.map_err(|error| database_error("reading the database's address", error))
}

/// Whether the schema has a store (true) or is still empty (false); anything else is refused before anything is changed.
async fn check_tables(conn: &mut PgConnection) -> Result<bool> {
    let failed = |error| database_error("looking at the store", error);
    let rows = sqlx::query(
        "SELECT tablename::TEXT AS name FROM pg_catalog.pg_tables
         WHERE schemaname = current_schema() AND tablename <> '_sqlx_migrations' ORDER BY tablename",
    )
    .fetch_all(conn)
    .await
    .map_err(failed)?;
    let tables = rows.iter().map(|row| row.try_get("name"));
    let tables: Vec<String> = tables.collect::<Result<_, _>>().map_err(failed)?;
    match tables.first() {
        None => Ok(false),
        Some(_) if tables.iter().any(|table| table == "store") => Ok(true),
        Some(table) => Err(StoreError::ForeignTable(table.clone())),
    }
}

/// The connection that writes, if there is a sound one.
struct Link {
    options: PgConnectOptions,
    conn: Option<PgConnection>,
}

impl Link {
    /// After an error the connection is not used again: it may be broken, or in the middle of a transaction.
    async fn transaction(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<()> {
        let conn = self.begin().await?;
        let work = async {
            execute(conn, LOCK, "waiting for the write lock").await?;
            writer::commit(conn, jobs).await
        };
        let done = patiently(LONG_PATIENCE, "committing", work).await;
        if done.is_err() {
            self.conn = None;
        }
        done
    }

    /// A connection in a transaction. One that broke while it was idle was asked nothing, so a new one does as well.
    async fn begin(&mut self) -> Result<&mut PgConnection> {
        if let Some(mut conn) = self.conn.take()
            && begin(&mut conn).await.is_ok()
        {
            return Ok(self.conn.insert(conn));
        }
        let mut conn = connect(&self.options).await?;
        begin(&mut conn).await?;
        Ok(self.conn.insert(conn))
    }

    async fn close(self) -> Result<()> {
        match self.conn {
            Some(conn) => {
                let closed = conn.close().await;
                closed.map_err(|error| database_error("closing the store", error))
            }
            None => Ok(()),
        }
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    let work = async {
        let mut conn = PgConnection::connect_with(options).await?;
        sqlx::raw_sql(WRITING).execute(&mut conn).await?;
        Ok(conn)
    };
    patiently(PATIENCE, CONNECTING, async {
        work.await.map_err(|error| database_error(CONNECTING, error))
    })
    .await
}

async fn begin(conn: &mut PgConnection) -> Result<()> {
    patiently(PATIENCE, BEGINNING, execute(conn, BEGIN, BEGINNING)).await
}

async fn in_time<T>(reading: impl Future<Output = Result<T>>) -> Result<T> {
    patiently(LONG_PATIENCE, "reading", reading).await
}

/// A peer that says nothing is one that is gone. The connection must not be used after that.
async fn patiently<T>(
    patience: Duration,
    doing: &'static str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match timeout(patience, work).await {
        Ok(done) => done,
        Err(elapsed) => Err(super::database_error(doing, elapsed, true)),
    }
}

fn database_error(doing: &'static str, error: sqlx::Error) -> StoreError {
    let transient = match &error {
        sqlx::Error::Database(inner) => inner.code().is_some_and(|code| is_transient(&code)),
        // A broken connection, also where the server's last words were cut off.
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::PoolClosed => return StoreError::Closed,
        _ => false,
    };
    super::database_error(doing, error, transient)
}

/// Whether an SQLSTATE is of the moment, so that the same request can succeed later.
fn is_transient(code: &str) -> bool {
    // Class 08: connection exceptions.
    code.starts_with("08")
        || matches!(
            code,
            "25P03"   // idle in transaction for too long: this process was asleep
            | "40001" // serialization failure
            | "40P01" // deadlock
            | "53300" // too many connections
            | "55P03" // lock not available in time
            | "57014" // cancelled, also by a time-out
            | "57P01" // shut down by an administrator
            | "57P02" // restarting after a crash
            | "57P03" // cannot connect now: starting up or shutting down
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings of the writing connection.
    #[cfg(feature = "conformance")]
    struct Settings;

    #[cfg(feature = "conformance")]
    impl writer::Write for Settings {
        type Out = (String, String);
        const DOING: &'static str = "reading settings";

        async fn apply(self, conn: &mut PgConnection) -> Result<Self::Out> {
            let row = sqlx::query(
                "SELECT current_setting('synchronous_commit'), current_setting('transaction_isolation')",
            )
            .fetch_one(conn)
            .await
            .unwrap();
            Ok((row.get(0), row.get(1)))
        }
    }

    /// Whatever the database's administrator has chosen for others.
    #[cfg(feature = "conformance")]
    #[tokio::test]
    async fn commits_reach_the_disk_one_after_the_other() {
        use crate::conformance::{fixture::identity, postgres::PostgresCluster};
        let url = PostgresCluster::shared().database().await;
        let mut conn = PostgresCluster::connect(&url).await;
        sqlx::raw_sql(
            "ALTER ROLE micropay SET synchronous_commit = off;
             ALTER ROLE micropay SET default_transaction_isolation = 'serializable'",
        )
        .execute(&mut conn)
        .await
        .unwrap();
        let store = PostgresStore::open(&url, identity()).await.unwrap();
        let settings = ("on".to_owned(), "read committed".to_owned());
        assert_eq!(store.writer.write(Settings).await.unwrap(), settings);
    }

    #[test]
    fn what_passes_by_itself_is_transient() {
        for code in [
            "08006", "08001", "25P03", "40001", "40P01", "53300", "55P03", "57014", "57P01", "57P02", "57P03",
        ] {
            assert!(is_transient(code), "{code}");
        }
        // A disk that is full, a constraint, a table that is missing, a password that is wrong.
        for code in ["53100", "23505", "42P01", "28P01", "57P04", "25006"] {
            assert!(!is_transient(code), "{code}");
        }
    }

    /// What is written down twice is the same twice.
    #[test]
    fn tables_are_those_of_sqlite() {
        for (postgres, sqlite) in MIGRATIONS.iter().zip(super::super::sqlite::MIGRATIONS.iter()) {
            let translated = sqlite
                .sql
                .as_str()
                .replace(") STRICT;", ");")
                .replace(" BLOB", " BYTEA")
                .replace(" INTEGER", " BIGINT")
                .replace(
                    "seq                      BIGINT NOT NULL PRIMARY KEY",
                    "seq                      BIGINT NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY",
                );
            assert_eq!(postgres.sql.as_str(), translated, "migration {}", sqlite.version);
        }
        assert_eq!(
            MIGRATIONS.iter().count(),
            super::super::sqlite::MIGRATIONS.iter().count()
        );
    }
}
