//! Names and numbers of the offline scheme; those of every scheme are in `crate::units`. Each digest has its own type, so
//! that a coin cannot be mistaken for a fragment, nor an invoice for the transfer that pays it.

use core::fmt;

use alloy_primitives::B256;

/// Most transfers of a path; an exit is not counted among them (D9).
pub const MAX_HOPS: usize = 16;

/// Most bytes of a payment that a payee takes: room for about 1,000 entries of a log. A wallet with a longer one needs a checkpoint
/// before it pays; it leaves without.
pub const MAX_PAYMENT_BYTES: usize = 1 << 16;

/// Most coins and fragments that a wallet holds at once.
pub const MAX_HOLDINGS: usize = 1 << 12;

/// Most transfers of a wallet. The last [`MAX_HOLDINGS`] of them are exits: what it holds is never stuck.
pub const MAX_TRANSFERS: u64 = 1 << 20;

/// A wallet's name: `keccak256(abi.encode(x, y))` of its P-256 key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalletId(pub B256);

/// A deposit's name: `keccak256(abi.encode(chainId, vault, wallet, asset, amount, depositNonce))`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoinId(pub B256);

/// The name of one part of a spent input: `keccak256(abi.encode(transferDigest, k))`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentId(pub B256);

/// What a transfer spends: a [`CoinId`] or a [`FragmentId`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Input(pub B256);

/// The digest of a Transfer, which names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferDigest(pub B256);

/// The digest of an Invoice, which names it; zero in an exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvoiceDigest(pub B256);

/// The digest of a Registration. A wallet's first one starts its chain of transfers and its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistrationDigest(pub B256);

/// The digest of the same wallet's last Transfer, or of its first Registration before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Previous(pub B256);

/// Counts a wallet's transfers, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// A registrar's class of wallets. The highest bit marks DEV: a key that any program can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u32);

/// What a payment log has been folded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogHead(pub B256);

/// `keccak256` of the TPM Name of the log's NV index; zero where the class has no log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameHash(pub B256);

/// 32 random bytes that make an invoice the payee's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce32(pub B256);

/// Counts the deposits of a vault, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DepositNonce(pub u64);

/// Number of transfers from a coin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Depth(pub usize);

/// The two parts of a spent input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// What the payee gets, `k = 0`.
    Payee,
    /// What the payer keeps, `k = 1`.
    Change,
}

/// What proves a transfer of a wallet (§0.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A signature by the wallet's key.
    Signature,
    /// The TPM's certificate of a log that ends in the transfer.
    Log,
}

impl Sequence {
    /// Nothing was transferred.
    pub const ZERO: Self = Self(0);
    /// The first transfer's.
    pub const FIRST: Self = Self(1);

    /// `transfers` more, unless there is no such number.
    pub fn plus(self, transfers: usize) -> Option<Self> {
        self.0.checked_add(u64::try_from(transfers).ok()?).map(Self)
    }
}

impl ClassId {
    /// Marks a class of software keys.
    pub const DEV: u32 = 1 << 31;

    /// The DEV class with this number.
    pub const fn dev(number: u32) -> Self {
        Self(Self::DEV | number)
    }

    /// Whether no hardware guards the keys of this class.
    pub const fn is_dev(self) -> bool {
        self.0 & Self::DEV != 0
    }
}

impl NameHash {
    /// The class has no log.
    pub const NONE: Self = Self(B256::ZERO);
}

impl InvoiceDigest {
    /// No invoice: an exit's.
    pub const NONE: Self = Self(B256::ZERO);
}

impl From<CoinId> for Input {
    fn from(coin: CoinId) -> Self {
        Self(coin.0)
    }
}

impl From<FragmentId> for Input {
    fn from(fragment: FragmentId) -> Self {
        Self(fragment.0)
    }
}

impl From<TransferDigest> for Previous {
    fn from(digest: TransferDigest) -> Self {
        Self(digest.0)
    }
}

impl From<RegistrationDigest> for Previous {
    fn from(digest: RegistrationDigest) -> Self {
        Self(digest.0)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "SIGNATURE",
            Self::Log => "LOG",
        })
    }
}

macro_rules! display_inner {
    ($($unit:ty),*) => {$(
        impl fmt::Display for $unit {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}

display_inner!(
    WalletId,
    CoinId,
    FragmentId,
    Input,
    TransferDigest,
    InvoiceDigest,
    RegistrationDigest,
    Previous,
    Sequence,
    ClassId,
    LogHead,
    NameHash,
    Nonce32,
    DepositNonce,
    Depth
);
