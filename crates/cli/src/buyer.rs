//! The payer's end of the local transport: a merchant behind a TCP address, and the purchase of a whole file from several
//! of them, piece by piece, many at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, keccak256};
use eyre::{WrapErr, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use payer::ticket::{Answer, ApiError, MerchantApi, PayError, Payer, Payment, Purchase, Seller};
use protocol::ticket::{Issued, OrderId, Quote, Ticket};
use serde_json::Value;
use storage::SqliteStore;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::info;

use crate::shop::PIECE_BYTES;
use crate::wire::{QuoteJson, Reply, Request, TicketJson};

/// Longest answer: a piece in hexadecimal and a quote.
const MAX_ANSWER_BYTES: u64 = 16 * 1024;
/// Largest file: 1 GiB.
const MAX_PIECES: u64 = 1 << 20;
/// Longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Attempts per piece where trying again can help, with a pause that doubles.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A merchant that sells over TCP. Connections are kept and shared.
pub(crate) struct TcpMerchant {
    address: String,
    idle: Mutex<Vec<BufReader<TcpStream>>>,
}

/// What a merchant sells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Catalog {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) pieces: u64,
    pub(crate) piece_bytes: u64,
    pub(crate) sha256: B256,
}

impl TcpMerchant {
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            idle: Mutex::default(),
        }
    }

    pub(crate) async fn catalog(&self) -> Result<Catalog, ApiError> {
        match self.ask(&Request::Catalog).await? {
            Reply::Catalog {
                name,
                bytes,
                pieces,
                piece_bytes,
                sha256,
                recipient: _,
            } => {
                let expected = bytes.div_ceil(PIECE_BYTES as u64);
                if piece_bytes != PIECE_BYTES as u64 || pieces != expected || pieces > MAX_PIECES {
                    return Err(ApiError::Malformed(format!(
                        "a catalog of {pieces} pieces of {piece_bytes} bytes for a file of {bytes} bytes"
                    )));
                }
                Ok(Catalog {
                    name,
                    bytes,
                    pieces,
                    piece_bytes,
                    sha256,
                })
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Reply, ApiError> {
        let transport = |error: std::io::Error| ApiError::Transport(format!("{}: {error}", self.address));
        let idle = self.idle.lock().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect(&self.address).await.map_err(transport)?;
                stream.set_nodelay(true).map_err(transport)?;
                BufReader::new(stream)
            }
        };
        let mut line = serde_json::to_vec(request).map_err(|error| ApiError::Malformed(error.to_string()))?;
        line.push(b'\n');
        connection.write_all(&line).await.map_err(transport)?;
        let mut answer = Vec::new();
        let mut bounded = (&mut connection).take(MAX_ANSWER_BYTES);
        let read = timeout(ANSWER_LIMIT, bounded.read_until(b'\n', &mut answer));
        let read = read.await.map_err(|_| {
            ApiError::Transport(format!(
                "{}: silent for {} s",
                self.address,
                ANSWER_LIMIT.as_secs()
            ))
        })?;
        read.map_err(transport)?;
        if answer.len() as u64 >= MAX_ANSWER_BYTES {
            return Err(ApiError::Malformed(format!(
                "an answer of {MAX_ANSWER_BYTES} bytes or more"
            )));
        }
        if !answer.ends_with(b"\n") {
            return Err(ApiError::Transport(format!(
                "{}: the connection was closed",
                self.address
            )));
        }
        let reply =
            serde_json::from_slice(&answer).map_err(|error| ApiError::Malformed(error.to_string()))?;
        self.idle.lock().push(connection);
        Ok(reply)
    }
}

impl MerchantApi for TcpMerchant {
    type Item = u64;
    type Good = Bytes;

    async fn quote(&self, escrow: Address) -> Result<Quote, ApiError> {
        match self.ask(&Request::Quote { escrow }).await? {
            Reply::Quote { quote } => read_quote(quote),
            Reply::Refused {
                rule, message, retry, ..
            } => Err(ApiError::Refused {
                rule,
                message,
                retry: retry.into(),
            }),
            other => Err(unexpected(&other)),
        }
    }

    async fn buy(
        &self,
        order: OrderId,
        piece: &u64,
        ticket: &Ticket<Issued>,
    ) -> Result<Answer<Bytes>, ApiError> {
        let request = Request::Buy {
            order: order.0,
            piece: *piece,
            ticket: Box::new(TicketJson::from(ticket)),
        };
        match self.ask(&request).await? {
            Reply::Piece {
                piece: got,
                data,
                quote,
            } if got == *piece && data.len() <= PIECE_BYTES => Ok(Answer::Delivered {
                good: data,
                quote: Some(read_quote(quote)?),
            }),
            Reply::Refused {
                rule,
                message,
                retry,
                quote,
            } => Ok(Answer::Refused {
                rule,
                message,
                retry: retry.into(),
                quote: quote.map(read_quote).transpose()?,
            }),
            other => Err(unexpected(&other)),
        }
    }
}

fn read_quote(quote: QuoteJson) -> Result<Quote, ApiError> {
    quote
        .try_into()
        .map_err(|error: protocol::ticket::UnitError| ApiError::Malformed(error.to_string()))
}

fn unexpected(reply: &Reply) -> ApiError {
    let kind = serde_json::to_value(reply).ok();
    let kind = kind
        .as_ref()
        .and_then(|value| value.get("type"))
        .and_then(Value::as_str)
        .unwrap_or("?")
        .to_owned();
    ApiError::Malformed(format!("an answer of type {kind} to another question"))
}

/// A file bought piece by piece.
pub(crate) struct Bought {
    pub(crate) bytes: Vec<u8>,
    /// Pieces paid for now.
    pub(crate) payments: u64,
    /// Tickets refused on the way.
    pub(crate) refused: u64,
}

/// Buys pieces `0..pieces` of the catalog from the sellers in turn, `at_once` at a time, but for those it `got` before. The
/// orders follow from the file and `salt`, so that a payer that was killed buys nothing twice: what it had ordered it asks
/// for again.
#[expect(clippy::too_many_arguments, reason = "each is one thing")]
pub(crate) async fn buy_file<M: MerchantApi<Item = u64, Good = Bytes>>(
    payer: &Payer<SqliteStore>,
    sellers: &[Seller<M>],
    catalog: &Catalog,
    pieces: u64,
    mut got: BTreeMap<u64, Bytes>,
    salt: B256,
    at_once: usize,
    progress: impl Fn(u64),
) -> eyre::Result<Bought> {
    ensure!(!sellers.is_empty(), "no merchant to buy from");
    got.retain(|piece, _| *piece < pieces);
    let before = got.len() as u64;
    progress(before);
    let missing: Vec<u64> = (0..pieces).filter(|piece| !got.contains_key(piece)).collect();
    let (done, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let bought: BTreeMap<u64, Bytes> = stream::iter(missing)
        .map(|piece| {
            let seller = &sellers[(piece % sellers.len() as u64) as usize];
            let (done, refused, progress) = (&done, &refused, &progress);
            async move {
                let order = order_id(salt, catalog.sha256, piece);
                let payment = pay_patiently(payer, seller, &Purchase { order, item: piece })
                    .await
                    .wrap_err_with(|| format!("piece {piece}"))?;
                refused.fetch_add(payment.refusals.len() as u64, Ordering::Relaxed);
                progress(before + done.fetch_add(1, Ordering::Relaxed) + 1);
                Ok::<_, eyre::Report>((piece, payment.good))
            }
        })
        .buffer_unordered(at_once)
        .try_collect()
        .await?;
    got.extend(bought);
    let bytes = got.into_values().flat_map(|piece| piece.to_vec()).collect();
    Ok(Bought {
        bytes,
        payments: done.into_inner(),
        refused: refused.into_inner(),
    })
}

/// Pays, and tries again with the same order while that can help.
async fn pay_patiently<M: MerchantApi<Item = u64, Good = Bytes>>(
    payer: &Payer<SqliteStore>,
    seller: &Seller<M>,
    purchase: &Purchase<u64>,
) -> Result<Payment<Bytes>, PayError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match payer.pay(seller, purchase).await {
            Err(error) if error.retry() => {
                info!(piece = purchase.item, %error, "trying again");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            done => return done,
        }
    }
    payer.pay(seller, purchase).await
}

/// Names the purchase of one piece of one file.
pub(crate) fn order_id(salt: B256, file: B256, piece: u64) -> OrderId {
    OrderId(keccak256(
        [
            b"micropay/piece/v1".as_slice(),
            salt.as_slice(),
            file.as_slice(),
            &piece.to_be_bytes(),
        ]
        .concat(),
    ))
}
