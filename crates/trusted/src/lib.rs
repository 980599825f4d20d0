//! Trusted components of the offline scheme: where a wallet's P-256 key lives, and what makes its transfers worth something.
//!
//! A component knows bytes only: digests, entries, heads. What they mean is decided above it. There are two kinds:
//!
//! - **SIGNATURE** ([`SignsTransfers`]): a transfer's evidence is a signature. [`Software`] is the only one, for development:
//!   it keeps a counter, and still whoever copies its files spends twice.
//! - **LOG** ([`LogsTransfers`]): a transfer's evidence is the certificate of a log that has it as last entry. [`Tpm`] keeps the
//!   log in an extend index of a TPM 2.0, which its owner cannot rewind, fork or begin anew.
//!
//! Messages that are no transfers (invoice, acceptance) are signed by both ([`TrustedWallet::sign`]). Their digest has a
//! type of its own, so that a transfer is not signed by mistake where it should be logged.
//!
//! A payment with a log, and what a crash leaves behind:
//!
//! ```text
//!   choose entry ─▶ persist ─▶ extend ─▶ certify ─▶ persist ─▶ release
//!                         │          │           │
//!              crash here └──────────┴───────────┘ and: Progress::of(head(), base, entry)
//!                                                  NotExtended: extend, certify       Extended: certify
//! ```
//!
//! Safety needs: the TPM is what its endorsement certificate says, and the registrar signs the first entry of a log once
//! ([`tpm`] says why). The wire to it is not trusted; nobody on it when the wallet is made ([`tpm`] says until when).
//! Liveness needs: the index is not undefined by who owns the machine; such a wallet is dead.

mod error;
mod files;
mod software;
pub mod tpm;

#[cfg(feature = "swtpm")]
pub mod swtpm;

use std::fmt;

use sha2::{Digest as _, Sha256};

pub use error::{ResponseCode, TrustedError};
pub use software::Software;
pub use tpm::Tpm;

/// What can go wrong, or a value.
pub type Result<T, E = TrustedError> = std::result::Result<T, E>;

macro_rules! bytes {
    ($(#[$docs:meta])* $name:ident, $length:literal) => {
        $(#[$docs])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; $length]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

bytes!(
    /// A P-256 public key, `x ‖ y`.
    PublicKey,
    64
);
bytes!(
    /// An ES256 signature, `r ‖ s`, with low `s`: ECDSA over the SHA-256 of the 32 bytes of a digest.
    Signature,
    64
);
bytes!(
    /// The digest of a message that is no transfer: an invoice, an acceptance.
    MessageDigest,
    32
);
bytes!(
    /// The digest of a transfer. Signed or logged with its sequence or its input, never as a mere message.
    TransferDigest,
    32
);
bytes!(
    /// The head of a log: `SHA-256(head ‖ SHA-256(entry))` for each entry in turn, from 32 zero bytes.
    Head,
    32
);
bytes!(
    /// The first entry of a log: the digest of the wallet's registration.
    Genesis,
    32
);
bytes!(
    /// An entry of a log: `input ‖ transfer digest`.
    Entry,
    64
);

impl Head {
    /// The head of a log without entries.
    pub const EMPTY: Self = Self([0; 32]);

    /// The head after the log's first entry.
    pub fn first(genesis: Genesis) -> Self {
        Self::EMPTY.fold(&genesis.0)
    }

    /// The head after `entry`.
    #[must_use]
    pub fn then(self, entry: Entry) -> Self {
        self.fold(&entry.0)
    }

    fn fold(self, data: &[u8]) -> Self {
        // An extend index hashes its head and the command's data, which is the entry's hash.
        Self(
            Sha256::new()
                .chain_update(self.0)
                .chain_update(Sha256::digest(data))
                .finalize()
                .into(),
        )
    }
}

impl Entry {
    /// The entry by which the transfer spends `input`.
    pub fn new(input: [u8; 32], transfer: TransferDigest) -> Self {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&input);
        bytes[32..].copy_from_slice(&transfer.0);
        Self(bytes)
    }

    /// The coin or fragment that is spent.
    pub fn input(&self) -> [u8; 32] {
        let mut input = [0; 32];
        input.copy_from_slice(&self.0[..32]);
        input
    }

    /// The transfer that spends it.
    pub fn transfer(&self) -> TransferDigest {
        let mut transfer = [0; 32];
        transfer.copy_from_slice(&self.0[32..]);
        TransferDigest(transfer)
    }
}

/// How far a payment came before a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The entry is not in the log: extend it, or choose another.
    NotExtended,
    /// The entry is the log's last: certify it (again). There is no way back.
    Extended,
}

impl Progress {
    /// Compares the component's `head` with what the caller persisted before it extended: the head until then (`base`) and
    /// the entry that it had chosen.
    ///
    /// # Errors
    ///
    /// [`TrustedError::HeadMismatch`] if it is neither: the caller's files are older than the log, or from another wallet.
    pub fn of(head: Head, base: Head, entry: Entry) -> Result<Self> {
        if head == base {
            Ok(Self::NotExtended)
        } else if head == base.then(entry) {
            Ok(Self::Extended)
        } else {
            Err(TrustedError::HeadMismatch {
                got: head,
                expected: base,
            })
        }
    }
}

/// A TPM's word for the head of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certified {
    /// `TPMS_ATTEST` of type NV; [`tpm::certificate`] has its layout.
    pub attest: [u8; tpm::certificate::LENGTH],
    /// The wallet key's signature over the SHA-256 of `attest`.
    pub signature: Signature,
}

/// What evidence a component gives for a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A signature.
    Signature,
    /// A certified log.
    Log,
}

/// A component that holds a wallet's key.
///
/// Calls block: a TPM takes milliseconds to a second. One component is one wallet, used by one caller at a time.
pub trait TrustedWallet: Send {
    /// The wallet's key.
    fn public_key(&self) -> PublicKey;

    /// Signs a message that is no transfer. The component sees a digest only and cannot tell: a transfer that is signed here
    /// is worthless for a LOG wallet, and for a SIGNATURE wallet it goes past the counter, the caller's breach.
    ///
    /// # Errors
    ///
    /// [`TrustedError::NotSignable`] if a TPM refuses the digest (one in 2³²: it looks like an attestation); change the
    /// message. Else the component failed, see [`TrustedError`].
    fn sign(&mut self, message: MessageDigest) -> Result<Signature>;

    /// What makes a transfer of this wallet count: the only way to its evidence, by kind.
    fn transfers(&mut self) -> Transfers<'_>;

    /// The kind of evidence.
    fn kind(&mut self) -> Kind {
        match self.transfers() {
            Transfers::Signature(_) => Kind::Signature,
            Transfers::Log(_) => Kind::Log,
        }
    }
}

/// A component that is chosen at run time.
impl<T: TrustedWallet + ?Sized> TrustedWallet for Box<T> {
    fn public_key(&self) -> PublicKey {
        (**self).public_key()
    }

    fn sign(&mut self, message: MessageDigest) -> Result<Signature> {
        (**self).sign(message)
    }

    fn transfers(&mut self) -> Transfers<'_> {
        (**self).transfers()
    }
}

/// The part of a component that makes evidence for transfers.
pub enum Transfers<'a> {
    /// By signature.
    Signature(&'a mut dyn SignsTransfers),
    /// By certified log.
    Log(&'a mut dyn LogsTransfers),
}

/// Evidence of kind SIGNATURE.
pub trait SignsTransfers: Send {
    /// The sequence of the next transfer: one above the last that was signed, from 1.
    fn next_sequence(&self) -> u64;

    /// Signs the transfer with this sequence; durable before it returns. The last transfer may be signed again (after a
    /// crash): same digest, same signature.
    ///
    /// # Errors
    ///
    /// [`TrustedError::SequenceOutOfOrder`] if `sequence` is not the next one; [`TrustedError::SequenceUsed`] if it is the
    /// last one, with another digest: an equivocation, for which the wallet would be punished.
    fn sign_transfer(&mut self, sequence: u64, transfer: TransferDigest) -> Result<Signature>;
}

/// Evidence of kind LOG.
pub trait LogsTransfers: Send {
    /// The log's head.
    ///
    /// # Errors
    ///
    /// [`TrustedError::Refused`] with `TPM_RC_NV_UNINITIALIZED` before the first entry, with `TPM_RC_HANDLE` if the log is
    /// gone; or the component failed.
    fn head(&mut self) -> Result<Head>;

    /// Appends `entry` to the log whose head is `base`, for ever, and returns the new head. Persist `base` and `entry` before.
    ///
    /// # Errors
    ///
    /// [`TrustedError::HeadMismatch`] if the log's head is not `base`; nothing is appended (so a repeated call cannot append
    /// twice). After another error the entry may be in the log or not: [`Progress::of`] tells.
    fn extend(&mut self, base: Head, entry: Entry) -> Result<Head>;

    /// The certificate that the log's head is `head`, for `transfer`, its last entry. May be asked for again.
    ///
    /// # Errors
    ///
    /// [`TrustedError::HeadMismatch`] if the head is another; [`TrustedError::CertificateMismatch`] or
    /// [`TrustedError::BadSignature`] if the component's answer is worth nothing (ask again); else it failed.
    fn certify(&mut self, head: Head, transfer: TransferDigest) -> Result<Certified>;

    /// The log's Name, as it is once written: 34 bytes, whose keccak256 is `Registration.log`.
    fn log_name(&self) -> tpm::Name;
}
