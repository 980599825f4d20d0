//! The merchant's end of the local transport: sells the pieces of one file over TCP, a JSON line a message. What the HTTP
//! gateway of a later version does for any server; here it is what the demo and the crash tests need.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy::primitives::{B256, Bytes, keccak256};
use merchant::ticket::{AcceptError, Merchant};
use protocol::ticket::{OrderId, Refusal, Retry};
use sha2::{Digest, Sha256};
use storage::SqliteStore;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::clock;
use crate::wire::{Reply, Request, RetryJson};

/// Bytes of a piece.
pub(crate) const PIECE_BYTES: usize = 1024;
/// Longest request line: a ticket is under 1 KiB.
const MAX_LINE_BYTES: u64 = 16 * 1024;
/// Connections at a time: well below the usual limit of open files, which the store and the node need, too.
const MAX_CONNECTIONS: usize = 128;
/// A connection that says nothing for so long, or does not take its answer, is closed.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// What is sold.
#[derive(Clone, Debug)]
pub(crate) struct Goods {
    name: String,
    bytes: Arc<Vec<u8>>,
    sha256: B256,
}

impl Goods {
    pub(crate) fn new(name: String, bytes: Vec<u8>) -> Self {
        let sha256 = sha256(&bytes);
        Self {
            name,
            bytes: Arc::new(bytes),
            sha256,
        }
    }

    pub(crate) fn read(path: &Path) -> eyre::Result<Self> {
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        let bytes = std::fs::read(path).map_err(|error| eyre::eyre!("{}: {error}", path.display()))?;
        eyre::ensure!(
            !bytes.is_empty(),
            "{} is empty: there is nothing to sell",
            path.display()
        );
        Ok(Self::new(name, bytes))
    }

    /// The same goods, cut to so many pieces.
    pub(crate) fn first_pieces(self, pieces: u64) -> Self {
        let limit = usize::try_from(pieces)
            .unwrap_or(usize::MAX)
            .saturating_mul(PIECE_BYTES);
        if limit >= self.bytes.len() {
            return self;
        }
        Self::new(self.name, self.bytes[..limit].to_vec())
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn sha256(&self) -> B256 {
        self.sha256
    }

    pub(crate) fn pieces(&self) -> u64 {
        self.bytes.len().div_ceil(PIECE_BYTES) as u64
    }

    fn piece(&self, index: u64) -> Option<Bytes> {
        let index = usize::try_from(index).ok()?;
        self.bytes
            .chunks(PIECE_BYTES)
            .nth(index)
            .map(Bytes::copy_from_slice)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> B256 {
    B256::from_slice(&Sha256::digest(bytes))
}

/// How often what happened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Tickets accepted, repeats not counted again.
    pub(crate) accepted: AtomicU64,
    /// Tickets refused.
    pub(crate) refused: AtomicU64,
    /// Tickets that won.
    pub(crate) won: AtomicU64,
}

/// Serves one merchant's goods until the task is aborted.
pub(crate) struct Shop {
    pub(crate) merchant: Arc<Merchant<SqliteStore>>,
    pub(crate) goods: Goods,
    pub(crate) counts: Counts,
}

impl Shop {
    /// Accepts connections for ever.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            // Whoever comes when all places are taken waits in the kernel's queue.
            let place = Arc::clone(&room).acquire_owned().await.expect("never closed");
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let shop = Arc::clone(&self);
                    tokio::spawn(async move {
                        let _place = place;
                        if let Err(error) = shop.connection(stream).await {
                            debug!(%peer, %error, "connection ended");
                        }
                    });
                }
                // Out of file descriptors, most likely: the connections there are must end first.
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(&self, mut stream: TcpStream) -> eyre::Result<()> {
        stream.set_nodelay(true)?;
        let (read, mut write) = stream.split();
        let mut lines = BufReader::new(read);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = (&mut lines).take(MAX_LINE_BYTES);
            let read = timeout(IDLE_LIMIT, bounded.read_until(b'\n', &mut line)).await??;
            if read == 0 {
                return Ok(());
            }
            let whole = line.ends_with(b"\n");
            let reply = match serde_json::from_slice(&line) {
                Ok(request) if whole => self.answer(request).await,
                Ok(_) => malformed(format!("a line of {MAX_LINE_BYTES} bytes or more, or cut short")),
                Err(error) => malformed(error.to_string()),
            };
            let mut text = serde_json::to_vec(&reply)?;
            text.push(b'\n');
            timeout(IDLE_LIMIT, write.write_all(&text)).await??;
            if !whole {
                return Ok(()); // where the next message starts is anybody's guess
            }
        }
    }

    async fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Catalog => Reply::Catalog {
                name: self.goods.name.clone(),
                bytes: self.goods.len() as u64,
                pieces: self.goods.pieces(),
                piece_bytes: PIECE_BYTES as u64,
                sha256: self.goods.sha256,
                recipient: self.merchant.recipient(),
            },
            Request::Quote { escrow } => match self.merchant.quote(escrow) {
                Ok(quote) => Reply::Quote {
                    quote: (&quote).into(),
                },
                Err(refusal) => self.refused(&refusal, None),
            },
            Request::Buy { order, piece, ticket } => {
                // Before the ticket is touched: a payer never pays for what there is not.
                let Some(data) = self.goods.piece(piece) else {
                    let message = format!("piece {piece} of {}", self.goods.pieces());
                    return Reply::Refused {
                        rule: "piece-missing".into(),
                        message,
                        retry: RetryJson::Never,
                        quote: None,
                    };
                };
                let escrow = ticket.escrow;
                let ticket = match ticket.to_ticket(self.merchant.domain()) {
                    Ok(ticket) => ticket,
                    Err(error) => return self.refused(&Refusal::from(error), Some(escrow)),
                };
                match self
                    .merchant
                    .accept(self.order_of(order, piece), ticket, clock::now())
                    .await
                {
                    Ok(receipt) => {
                        if !receipt.repeat {
                            self.counts.accepted.fetch_add(1, Ordering::Relaxed);
                            self.counts
                                .won
                                .fetch_add(u64::from(receipt.won), Ordering::Relaxed);
                        }
                        Reply::Piece {
                            piece,
                            data,
                            quote: (&receipt.quote).into(),
                        }
                    }
                    Err(AcceptError::Refused(refusal)) => self.refused(&refusal, Some(escrow)),
                    Err(error @ (AcceptError::Busy(_) | AcceptError::Store(_))) => {
                        warn!(%error, "ticket not accepted");
                        Reply::Refused {
                            rule: "try-later".into(),
                            message: error.to_string(),
                            retry: RetryJson::Later,
                            quote: None,
                        }
                    }
                }
            }
        }
    }

    /// What a ticket pays for: this piece of this file, under this order. Were it the payer's order alone, its ticket would
    /// be repeated for every piece.
    fn order_of(&self, order: B256, piece: u64) -> OrderId {
        let parts = [
            order.as_slice(),
            self.goods.sha256.as_slice(),
            &piece.to_be_bytes(),
        ];
        OrderId(keccak256(parts.concat()))
    }

    fn refused(&self, refusal: &Refusal, escrow: Option<alloy::primitives::Address>) -> Reply {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        let retry = refusal.retry();
        // Fresh terms only where they can help.
        let quote = escrow
            .filter(|_| retry == Retry::NewQuote)
            .and_then(|escrow| self.merchant.quote(escrow).ok())
            .map(|quote| (&quote).into());
        Reply::Refused {
            rule: refusal.rule().into(),
            message: refusal.to_string(),
            retry: retry.into(),
            quote,
        }
    }
}

fn malformed(message: String) -> Reply {
    Reply::Refused {
        rule: "malformed".into(),
        message,
        retry: RetryJson::Never,
        quote: None,
    }
}
