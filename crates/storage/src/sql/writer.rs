//! The one writer. SQLite takes one writer at a time and a durable commit costs one flush to disk, so every write goes
//! through one task: it takes all requests that wait, applies them in one transaction and answers after the commit. What
//! arrives meanwhile is the next transaction. So a thousand concurrent winners cost a few flushes, not a thousand, and a
//! caller who stops waiting (a timeout, a closed connection) cannot interrupt a transaction half-way.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::database_error;
use crate::{Result, StoreError};

/// Requests that may wait before callers have to: backpressure.
const QUEUE: usize = 1024;

/// Requests in one transaction: bounds how long the first one waits for the others.
const BATCH: usize = 512;

/// One request to the writer.
pub(super) trait Write: Send + 'static {
    /// What it answers.
    type Out: Send + 'static;

    /// Whether it writes with more than one statement, so that a failure must be undone by a savepoint. A single statement
    /// undoes itself.
    const SAVEPOINT: bool = true;

    /// What the store is doing, for errors.
    const DOING: &'static str;

    /// Reads and writes inside the writer's transaction. Must not end it.
    fn apply(self, conn: &mut SqliteConnection) -> impl Future<Output = Result<Self::Out>> + Send;
}

/// How much the writer has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SqliteStats {
    /// Requests answered.
    pub writes: u64,
    /// Transactions committed for them: flushes to disk.
    pub commits: u64,
}

#[derive(Clone)]
pub(super) struct Writer {
    requests: mpsc::Sender<Request>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    writes: AtomicU64,
    commits: AtomicU64,
}

enum Request {
    Write(Box<dyn Job>),
    Close(oneshot::Sender<Result<()>>),
}

impl Writer {
    /// Starts the task; it ends when the last clone is gone or on [`Writer::close`].
    pub(super) fn start(conn: SqliteConnection) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        let counters = Arc::new(Counters::default());
        tokio::spawn(run(conn, queue, counters.clone()));
        Self { requests, counters }
    }

    /// Hands in a request and waits until it is durable.
    pub(super) async fn write<W: Write>(&self, write: W) -> Result<W::Out> {
        let (reply, answer) = oneshot::channel();
        let job = Pending {
            write: Some(write),
            result: None,
            reply,
        };
        self.requests
            .send(Request::Write(Box::new(job)))
            .await
            .map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Lets everything handed in before finish, then closes the file.
    pub(super) async fn close(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        if self.requests.send(Request::Close(reply)).await.is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }

    pub(super) fn stats(&self) -> SqliteStats {
        SqliteStats {
            writes: self.counters.writes.load(Ordering::Relaxed),
            commits: self.counters.commits.load(Ordering::Relaxed),
        }
    }
}

/// A request with its caller, without its type.
trait Job: Send {
    /// Applies the request and keeps the result. False: the transaction is spoilt and must be rolled back.
    fn apply<'a>(
        &'a mut self,
        conn: &'a mut SqliteConnection,
        alone: bool,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

    /// Answers the caller. With an error, the transaction is not durable, whatever the request's own result was.
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Pending<W: Write> {
    write: Option<W>,
    result: Option<Result<W::Out>>,
    reply: oneshot::Sender<Result<W::Out>>,
}

impl<W: Write> Job for Pending<W> {
    fn apply<'a>(
        &'a mut self,
        conn: &'a mut SqliteConnection,
        alone: bool,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move {
            let write = self.write.take().expect("a request is applied once");
            // Alone in its transaction, a request is undone by rolling that back: no savepoint needed.
            let savepoint = W::SAVEPOINT && !alone;
            if savepoint && let Err(error) = execute(conn, "SAVEPOINT request", W::DOING).await {
                self.result = Some(Err(error));
                return false;
            }
            let result = write.apply(conn).await;
            let sound = match &result {
                Ok(_) if savepoint => execute(conn, "RELEASE request", W::DOING).await.is_ok(),
                Ok(_) => true,
                // If the database undid the whole transaction (disk full), the savepoint is gone and this fails.
                Err(_) if savepoint => {
                    execute(conn, "ROLLBACK TO request", W::DOING).await.is_ok()
                        && execute(conn, "RELEASE request", W::DOING).await.is_ok()
                }
                Err(error) => !W::SAVEPOINT && !matches!(error, StoreError::Database { .. }),
            };
            self.result = Some(result);
            sound
        })
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let answer = match (self.result, committed) {
            // A refusal stands, whether or not the others could be saved.
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(result), Ok(())) => result,
            (None, Ok(())) => Err(StoreError::Closed),
        };
        // The caller may have stopped waiting; what was committed stays.
        let _ = self.reply.send(answer);
    }
}

async fn run(mut conn: SqliteConnection, mut queue: mpsc::Receiver<Request>, counters: Arc<Counters>) {
    let mut requests = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut requests, BATCH).await > 0 {
        let mut jobs = Vec::with_capacity(requests.len());
        let mut closing = None;
        for request in requests.drain(..) {
            match request {
                Request::Write(job) if closing.is_none() => jobs.push(job),
                // Dropped unanswered: its caller gets `Closed`.
                Request::Write(_) => {}
                Request::Close(reply) => closing = Some(reply),
            }
        }
        if !jobs.is_empty() {
            let committed = commit(&mut conn, &mut jobs).await;
            counters.writes.fetch_add(jobs.len() as u64, Ordering::Relaxed);
            counters
                .commits
                .fetch_add(u64::from(committed.is_ok()), Ordering::Relaxed);
            for job in jobs {
                job.answer(committed.clone());
            }
        }
        if let Some(reply) = closing {
            queue.close();
            let closed = conn
                .close()
                .await
                .map_err(|error| database_error("closing the store", error));
            let _ = reply.send(closed);
            return;
        }
    }
}

/// One transaction for all jobs. On an error none of them is durable.
async fn commit(conn: &mut SqliteConnection, jobs: &mut [Box<dyn Job>]) -> Result<()> {
    // IMMEDIATE: takes the write lock now and waits for other processes, so that what a request reads is still true when it
    // writes.
    // Plain statements rather than sqlx's transactions: SQLite ends a transaction by itself on a full disk, and sqlx would
    // go on counting it.
    execute(conn, "BEGIN IMMEDIATE", "waiting for the write lock").await?;
    let alone = jobs.len() == 1;
    let mut sound = true;
    for job in jobs {
        sound = job.apply(conn, alone).await;
        if !sound {
            break;
        }
    }
    let done = if sound {
        execute(conn, "COMMIT", "committing").await
    } else {
        Err(StoreError::Database {
            doing: "committing",
            source: Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(
                "rolled back because another request of the same transaction met a database error",
            )),
            transient: true,
        })
    };
    if done.is_err() {
        // Fails where SQLite has rolled back already, and then there is nothing to do.
        let _ = execute(conn, "ROLLBACK", "rolling back").await;
    }
    done
}

async fn execute(conn: &mut SqliteConnection, sql: &'static str, doing: &'static str) -> Result<()> {
    sqlx::query(sql)
        .execute(conn)
        .await
        .map(drop)
        .map_err(|error| database_error(doing, error))
}

#[cfg(test)]
mod tests {
    use sqlx::{Row, sqlite::SqliteConnectOptions};

    use super::*;

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

        async fn apply(self, conn: &mut SqliteConnection) -> Result<()> {
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

        async fn apply(self, conn: &mut SqliteConnection) -> Result<()> {
            execute(conn, "INSERT INTO nowhere VALUES (1)", Self::DOING).await
        }
    }

    struct Count;

    impl Write for Count {
        type Out = i64;
        const SAVEPOINT: bool = false;
        const DOING: &'static str = "counting";

        async fn apply(self, conn: &mut SqliteConnection) -> Result<i64> {
            let row = sqlx::query("SELECT COUNT(*) FROM probe")
                .fetch_one(conn)
                .await
                .unwrap();
            Ok(row.get(0))
        }
    }

    async fn writer() -> Writer {
        let mut conn = SqliteConnection::connect_with(&SqliteConnectOptions::new().in_memory(true))
            .await
            .unwrap();
        execute(&mut conn, "CREATE TABLE probe (a)", "preparing")
            .await
            .unwrap();
        Writer::start(conn)
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
}
