//! The one writer. Writers take turns, and a durable commit costs one flush to disk, so every write of a process goes
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

use tokio::sync::{mpsc, oneshot};

use super::{BATCH, Connection, Link, database_error};
use crate::{Result, StoreError, WriteStats};

/// Requests that may wait before callers have to: backpressure.
const QUEUE: usize = 1024;

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
    fn apply(self, conn: &mut Connection) -> impl Future<Output = Result<Self::Out>> + Send;
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
    pub(super) fn start(link: Link) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        let counters = Arc::new(Counters::default());
        tokio::spawn(run(link, queue, counters.clone()));
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

    /// Lets everything handed in before finish, then closes the connection.
    pub(super) async fn close(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        if self.requests.send(Request::Close(reply)).await.is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }

    pub(super) fn stats(&self) -> WriteStats {
        WriteStats {
            writes: self.counters.writes.load(Ordering::Relaxed),
            commits: self.counters.commits.load(Ordering::Relaxed),
        }
    }
}

/// A request with its caller, without its type.
pub(super) trait Job: Send {
    /// Applies the request and keeps the result. False: the transaction is spoilt and must be rolled back.
    fn apply<'a>(
        &'a mut self,
        conn: &'a mut Connection,
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
        conn: &'a mut Connection,
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

async fn run(mut link: Link, mut queue: mpsc::Receiver<Request>, counters: Arc<Counters>) {
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
            let committed = link.transaction(&mut jobs).await;
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
            let _ = reply.send(link.close().await);
            return;
        }
    }
}

/// Applies all jobs in the transaction that was begun, and commits it. On an error none of them is durable, unless the error is that the answer to the commit was
/// lost: then all may be.
pub(super) async fn commit(conn: &mut Connection, jobs: &mut [Box<dyn Job>]) -> Result<()> {
    // Plain statements rather than sqlx's transactions: SQLite ends a transaction by itself on a full disk, and sqlx would
    // go on counting it.
    let done = try_commit(conn, jobs).await;
    if done.is_err() {
        // Fails where the database has rolled back already, and then there is nothing to do.
        let _ = execute(conn, "ROLLBACK", "rolling back").await;
    }
    done
}

async fn try_commit(conn: &mut Connection, jobs: &mut [Box<dyn Job>]) -> Result<()> {
    let alone = jobs.len() == 1;
    for job in jobs {
        if !job.apply(conn, alone).await {
            let reason = "rolled back because another request of the same transaction met a database error";
            return Err(crate::sql::database_error("committing", reason, true));
        }
    }
    execute(conn, "COMMIT", "committing").await
}

pub(super) async fn execute(conn: &mut Connection, sql: &'static str, doing: &'static str) -> Result<()> {
    sqlx::query(sql)
        .execute(conn)
        .await
        .map(drop)
        .map_err(|error| database_error(doing, error))
}
