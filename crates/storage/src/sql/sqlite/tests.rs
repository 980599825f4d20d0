//! The writer and its settings.

use alloy_primitives::Address;
use sqlx::sqlite::SqliteConnectOptions;

use super::{writer::Write, *};

/// Settings of the writing connection.
struct Settings;

impl Write for Settings {
    type Out = (String, i64, i64, i64);
    const DOING: &'static str = "reading settings";

    async fn apply(self, conn: &mut SqliteConnection) -> Result<Self::Out> {
        let row = sqlx::query(
            "SELECT (SELECT journal_mode FROM pragma_journal_mode) AS mode,
                 (SELECT synchronous FROM pragma_synchronous) AS sync,
                 (SELECT foreign_keys FROM pragma_foreign_keys) AS keys,
                 (SELECT timeout FROM pragma_busy_timeout) AS busy",
        )
        .fetch_one(conn)
        .await
        .unwrap();
        Ok((row.get("mode"), row.get("sync"), row.get("keys"), row.get("busy")))
    }
}

#[tokio::test]
async fn commits_reach_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let identity = StoreIdentity::payer(Domain::new(1, Address::ZERO));
    let store = SqliteStore::open(folder.path().join("store.db"), identity)
        .await
        .unwrap();
    // 2 is FULL: every commit is flushed.
    let settings = ("wal".to_owned(), 2, 1, BUSY.as_millis() as i64);
    assert_eq!(store.writer.write(Settings).await.unwrap(), settings);
}

/// Writes a row, and then fails in some way.
#[derive(Clone, Copy)]
enum Probe {
    Fine,
    Refused,
    /// As SQLite does when the disk is full: the whole transaction is gone.
    RolledBack,
}

impl Write for Probe {
    type Out = ();
    const DOING: &'static str = "probing";

    async fn apply(self, conn: &mut Connection) -> Result<()> {
        execute(conn, "INSERT INTO probe VALUES (1)", Self::DOING).await?;
        match self {
            Self::Fine => Ok(()),
            Self::Refused => Err(StoreError::ClaimEmpty),
            Self::RolledBack => {
                execute(conn, "ROLLBACK", Self::DOING).await?;
                Err(database_error(Self::DOING, sqlx::Error::WorkerCrashed))
            }
        }
    }
}

/// A request with one statement, which needs no savepoint.
struct Single;

impl Write for Single {
    type Out = ();
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "probing";

    async fn apply(self, conn: &mut Connection) -> Result<()> {
        execute(conn, "INSERT INTO nowhere VALUES (1)", Self::DOING).await
    }
}

struct Count;

impl Write for Count {
    type Out = i64;
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "counting";

    async fn apply(self, conn: &mut Connection) -> Result<i64> {
        let row = sqlx::query("SELECT COUNT(*) FROM probe")
            .fetch_one(conn)
            .await
            .unwrap();
        Ok(row.get(0))
    }
}

async fn writer() -> Writer {
    let mut conn = Connection::connect_with(&SqliteConnectOptions::new().in_memory(true))
        .await
        .unwrap();
    execute(&mut conn, "CREATE TABLE probe (a)", "preparing")
        .await
        .unwrap();
    Writer::start(Link(conn))
}

/// All in one transaction: on this runtime's one thread, the writer runs only when everyone waits.
async fn together(writer: &Writer, probes: &[Probe]) -> Vec<Result<()>> {
    let mut tasks = Vec::new();
    for probe in probes.iter().copied() {
        let writer = writer.clone();
        tasks.push(tokio::spawn(async move { writer.write(probe).await }));
    }
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

#[tokio::test]
async fn a_refused_request_is_undone_and_the_others_stay() {
    let writer = writer().await;
    let results = together(&writer, &[Probe::Fine, Probe::Refused, Probe::Fine]).await;
    assert!(
        matches!(results[..], [Ok(()), Err(StoreError::ClaimEmpty), Ok(())]),
        "{results:?}"
    );
    assert_eq!(writer.write(Count).await.unwrap(), 2);
    assert!(writer.write(Probe::Refused).await.is_err(), "alone, too");
    assert_eq!(writer.write(Count).await.unwrap(), 2);
    let stats = writer.stats();
    assert!(stats.commits < stats.writes, "{stats:?}");
}

#[tokio::test]
async fn nobody_is_told_that_a_lost_transaction_is_durable() {
    let writer = writer().await;
    for probes in [
        &[Probe::Fine, Probe::RolledBack, Probe::Fine][..],
        &[Probe::RolledBack],
        &[Probe::Fine, Probe::Refused, Probe::RolledBack],
    ] {
        let results = together(&writer, probes).await;
        for (probe, result) in probes.iter().zip(results) {
            match probe {
                Probe::Refused => assert!(matches!(result, Err(StoreError::ClaimEmpty))),
                // Harmed by another's error, so it may be asked again; or its own error.
                Probe::Fine => assert!(result.unwrap_err().retry()),
                Probe::RolledBack => assert!(!result.unwrap_err().retry()),
            }
        }
        assert_eq!(writer.write(Count).await.unwrap(), 0);
    }
    assert!(writer.write(Single).await.is_err());
    writer.write(Probe::Fine).await.unwrap();
    assert_eq!(writer.write(Count).await.unwrap(), 1, "the writer goes on");
}

#[tokio::test]
async fn a_closed_writer_says_so() {
    let writer = writer().await;
    writer.write(Probe::Fine).await.unwrap();
    writer.close().await.unwrap();
    assert!(matches!(writer.write(Probe::Fine).await, Err(StoreError::Closed)));
    writer.close().await.unwrap();
}
