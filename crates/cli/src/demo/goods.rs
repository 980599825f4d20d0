//! The file for sale, and the server that answers with its pieces: what stands behind the demo's gateways.

use std::path::Path;
use std::sync::Arc;

use alloy::primitives::B256;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::routing::get;
use http::StatusCode;
use sha2::{Digest, Sha256};

/// Bytes of a piece.
pub(super) const PIECE_BYTES: usize = 1024;

/// What is sold.
#[derive(Clone, Debug)]
pub(super) struct Goods {
    bytes: Arc<Vec<u8>>,
    /// How many pieces of about the same size; `None`: of [`PIECE_BYTES`] each.
    pieces: Option<u64>,
}

impl Goods {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Arc::new(bytes),
            pieces: None,
        }
    }

    /// The same goods in exactly so many pieces, none of them empty.
    pub(super) fn in_pieces(mut self, pieces: u64) -> eyre::Result<Self> {
        eyre::ensure!(
            self.bytes.len() as u64 >= pieces,
            "{} bytes do not make {pieces} pieces",
            self.bytes.len()
        );
        self.pieces = Some(pieces);
        Ok(self)
    }

    pub(super) fn read(path: &Path) -> eyre::Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| eyre::eyre!("{}: {error}", path.display()))?;
        eyre::ensure!(
            !bytes.is_empty(),
            "{} is empty: there is nothing to sell",
            path.display()
        );
        Ok(Self::new(bytes))
    }

    /// The same goods, cut to so many pieces.
    pub(super) fn first_pieces(mut self, pieces: u64) -> Self {
        let limit = usize::try_from(pieces)
            .unwrap_or(usize::MAX)
            .saturating_mul(PIECE_BYTES);
        Arc::make_mut(&mut self.bytes).truncate(limit);
        self
    }

    pub(super) fn sha256(&self) -> B256 {
        sha256(&self.bytes)
    }

    pub(super) fn pieces(&self) -> u64 {
        let of_fixed_size = self.bytes.len().div_ceil(PIECE_BYTES) as u64;
        self.pieces.unwrap_or(of_fixed_size)
    }

    fn piece(&self, index: u64) -> Option<Bytes> {
        if let Some(pieces) = self.pieces {
            let at = |index: u64| u128::from(index) * self.bytes.len() as u128 / u128::from(pieces);
            let (from, to) = (
                at(index),
                at(index.checked_add(1).filter(|next| *next <= pieces)?),
            );
            let range = usize::try_from(from).ok()?..usize::try_from(to).ok()?;
            return Some(Bytes::copy_from_slice(&self.bytes[range]));
        }
        let index = usize::try_from(index).ok()?;
        self.bytes
            .chunks(PIECE_BYTES)
            .nth(index)
            .map(Bytes::copy_from_slice)
    }

    /// A server like any other: it knows nothing of payments.
    pub(super) fn server(self) -> Router {
        let piece = |State(goods): State<Self>, UrlPath(index): UrlPath<u64>| async move {
            goods.piece(index).ok_or(StatusCode::NOT_FOUND)
        };
        Router::new()
            .route("/pieces/{index}", get(piece))
            .with_state(self)
    }
}

pub(super) fn sha256(bytes: &[u8]) -> B256 {
    B256::from_slice(&Sha256::digest(bytes))
}
