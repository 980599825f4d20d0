//! What a purchase has got so far, in a file beside the one to be: so that a payer that was killed goes on where it was. A
//! piece is here before its order counts as delivered, because a merchant that was restarted meanwhile could not give it
//! again. Layout: the purchase's name (32 bytes), then pieces as they came (number, length, bytes).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes};
use eyre::{WrapErr, ensure};
use parking_lot::Mutex;
use payer::ticket::{Answer, ApiError, MerchantApi};
use protocol::ticket::{Issued, OrderId, Quote, Ticket};

use crate::buyer::TcpMerchant;
use crate::shop::PIECE_BYTES;

/// Bytes of a piece's number and length.
const HEAD: usize = 12;

/// The pieces of one purchase, kept as they come. One process at a time.
pub(crate) struct Parts {
    path: PathBuf,
    file: Mutex<File>,
}

impl Parts {
    /// Opens the parts of the file `out`, with the pieces that are there already.
    pub(crate) fn open(out: &Path, purchase: B256) -> eyre::Result<(Self, BTreeMap<u64, Bytes>)> {
        let path = path(out);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .wrap_err_with(|| path.display().to_string())?;
        ensure!(
            file.try_lock().is_ok(),
            "another process is buying to {}",
            out.display()
        );
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if bytes.len() < 32 {
            bytes = purchase.to_vec(); // new, or killed before the name was written
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&bytes)?;
        }
        ensure!(
            bytes[..32] == purchase[..],
            "{} has the pieces of another purchase: remove it, or choose another --out",
            path.display()
        );
        let (pieces, end) = read(&bytes);
        // A piece that was cut off by a kill comes again.
        file.set_len(end as u64)?;
        file.seek(SeekFrom::End(0))?;
        Ok((
            Self {
                path,
                file: Mutex::new(file),
            },
            pieces,
        ))
    }

    /// Whether a purchase to `out` is under way.
    pub(crate) fn exist(out: &Path) -> bool {
        path(out).exists()
    }

    fn keep(&self, piece: u64, data: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(data.len()).map_err(std::io::Error::other)?;
        let record = [&piece.to_be_bytes(), length.to_be_bytes().as_slice(), data].concat();
        self.file.lock().write_all(&record)
    }

    /// The file is complete.
    pub(crate) fn remove(&self) -> std::io::Result<()> {
        fs::remove_file(&self.path)
    }
}

fn path(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// The whole pieces, and where they end.
fn read(bytes: &[u8]) -> (BTreeMap<u64, Bytes>, usize) {
    let (mut pieces, mut at) = (BTreeMap::new(), 32);
    while let Some((head, rest)) = bytes[at..].split_first_chunk::<HEAD>() {
        let (piece, length) = head.split_at(8);
        let piece = piece
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        let length = length
            .iter()
            .fold(0, |number, byte| number << 8 | usize::from(*byte));
        let Some(data) = rest.get(..length).filter(|data| data.len() <= PIECE_BYTES) else {
            break;
        };
        pieces.insert(piece, Bytes::copy_from_slice(data));
        at += HEAD + length;
    }
    (pieces, at)
}

/// A merchant whose goods are kept before anybody else hears of them.
pub(crate) struct Keeping {
    pub(crate) merchant: TcpMerchant,
    pub(crate) parts: Arc<Parts>,
}

impl MerchantApi for Keeping {
    type Item = u64;
    type Good = Bytes;

    async fn quote(&self, escrow: Address) -> Result<Quote, ApiError> {
        self.merchant.quote(escrow).await
    }

    async fn buy(
        &self,
        order: OrderId,
        piece: &u64,
        ticket: &Ticket<Issued>,
    ) -> Result<Answer<Bytes>, ApiError> {
        let answer = self.merchant.buy(order, piece, ticket).await?;
        if let Answer::Delivered { good, .. } = &answer {
            self.parts
                .keep(*piece, good)
                .map_err(|error| ApiError::NotKept(error.to_string()))?;
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_there_again_and_half_a_piece_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("file");
        let purchase = B256::repeat_byte(1);
        let (parts, pieces) = Parts::open(&out, purchase).unwrap();
        assert!(pieces.is_empty());
        parts.keep(3, b"three").unwrap();
        parts.keep(0, &[7; PIECE_BYTES]).unwrap();
        assert!(Parts::open(&out, purchase).is_err(), "two at once");
        drop(parts);
        let path = path(&out);
        let whole = fs::read(&path).unwrap();
        for cut in whole.len() - PIECE_BYTES - HEAD..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (parts, pieces) = Parts::open(&out, purchase).unwrap();
            assert_eq!(
                pieces,
                BTreeMap::from([(3, Bytes::from_static(b"three"))]),
                "cut at {cut}"
            );
            parts.keep(1, b"one").unwrap();
            drop(parts);
            assert_eq!(Parts::open(&out, purchase).unwrap().1.len(), 2);
        }
        assert!(Parts::open(&out, B256::ZERO).is_err(), "another purchase");
    }
}
