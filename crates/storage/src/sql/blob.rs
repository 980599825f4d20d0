//! Values as blobs.

use alloy_primitives::{Address, B256, U256, aliases::B32};
use protocol::{
    channel::{ChannelId, ItemHash, Lock, Sigma, Tag, Transcript, Word},
    offline::{CoinId, InvoiceDigest, TransferDigest, WalletId},
    ticket::{Amount, Nonce, OrderId, Signature, Timestamp},
};

/// A value that is stored as a blob of fixed width, big-endian, so that blobs order as values do.
pub(super) trait Blob: Sized {
    const WIDTH: usize;
    fn to_blob(&self) -> Vec<u8>;
    /// `blob` has the right width.
    fn from_blob(blob: &[u8]) -> Result<Self, String>;
}

macro_rules! integer_blob {
    ($($integer:ty),*) => {$(
        impl Blob for $integer {
            const WIDTH: usize = size_of::<$integer>();
            fn to_blob(&self) -> Vec<u8> {
                self.to_be_bytes().to_vec()
            }
            fn from_blob(blob: &[u8]) -> Result<Self, String> {
                blob.try_into().map(Self::from_be_bytes).map_err(|_| width_differs(blob.len(), Self::WIDTH))
            }
        }
    )*};
}
integer_blob!(u64, u128);

macro_rules! bytes_blob {
    ($($bytes:ty: $width:literal),*) => {$(
        impl Blob for $bytes {
            const WIDTH: usize = $width;
            fn to_blob(&self) -> Vec<u8> {
                self.to_vec()
            }
            fn from_blob(blob: &[u8]) -> Result<Self, String> {
                Self::try_from(blob).map_err(|_| width_differs(blob.len(), Self::WIDTH))
            }
        }
    )*};
}
bytes_blob!(Address: 20, B256: 32, B32: 4);

macro_rules! newtype_blob {
    ($($outer:ident($inner:ty)),*) => {$(
        impl Blob for $outer {
            const WIDTH: usize = <$inner>::WIDTH;
            fn to_blob(&self) -> Vec<u8> {
                self.0.to_blob()
            }
            fn from_blob(blob: &[u8]) -> Result<Self, String> {
                <$inner>::from_blob(blob).map($outer)
            }
        }
    )*};
}
newtype_blob!(Amount(u128), Nonce(u64), Timestamp(u64), OrderId(B256));
newtype_blob!(
    ChannelId(B256),
    Word(B256),
    ItemHash(B256),
    Transcript(B256),
    Tag(B256)
);
newtype_blob!(
    WalletId(B256),
    InvoiceDigest(B256),
    TransferDigest(B256),
    CoinId(B256)
);

impl Blob for U256 {
    const WIDTH: usize = 32;
    fn to_blob(&self) -> Vec<u8> {
        self.to_be_bytes::<32>().to_vec()
    }
    fn from_blob(blob: &[u8]) -> Result<Self, String> {
        B256::from_blob(blob).map(|word| Self::from_be_bytes(word.0))
    }
}

impl Blob for Signature {
    const WIDTH: usize = 65;
    fn to_blob(&self) -> Vec<u8> {
        self.to_bytes().to_vec()
    }
    fn from_blob(blob: &[u8]) -> Result<Self, String> {
        Self::from_bytes(blob).map_err(|error| error.to_string())
    }
}

impl Blob for Sigma {
    const WIDTH: usize = 64;
    fn to_blob(&self) -> Vec<u8> {
        self.to_bytes().to_vec()
    }
    fn from_blob(blob: &[u8]) -> Result<Self, String> {
        Self::from_bytes(blob).map_err(|error| error.to_string())
    }
}

impl Blob for Lock {
    const WIDTH: usize = 64;
    fn to_blob(&self) -> Vec<u8> {
        self.0.to_vec()
    }
    fn from_blob(blob: &[u8]) -> Result<Self, String> {
        Self::from_bytes(blob).map_err(|error| error.to_string())
    }
}

pub(super) fn width_differs(got: usize, needed: usize) -> String {
    format!("{got} bytes instead of {needed}")
}
