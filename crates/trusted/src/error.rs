//! Everything that can go wrong in a trusted component, with the values compared.

use std::fmt;
use std::io;
use std::path::PathBuf;

use tpm2_protocol::data::TpmRc;

use crate::tpm::Name;
use crate::{Head, TransferDigest};

/// A TPM's answer that is not success, shown by the name that the specification gives it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResponseCode(pub u32);

impl ResponseCode {
    /// The name without the number of the parameter, handle or session that it is about: `TPM_RC_SIGNATURE`.
    pub fn name(self) -> String {
        match TpmRc::try_from(self.0) {
            Ok(code) => code.base().to_string(),
            Err(_) => format!("{:#06x}", self.0),
        }
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TpmRc::try_from(self.0) {
            Ok(code) => write!(f, "{code} ({:#06x})", self.0),
            Err(_) => write!(f, "unknown code {:#06x}", self.0),
        }
    }
}

impl fmt::Debug for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseCode({self})")
    }
}

/// A failed call of a trusted component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustedError {
    /// The TPM could not be reached, or the connection broke. The command may have been done.
    #[error("{command}: no answer from the TPM")]
    Transport {
        /// The command, by its name in the specification.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The TPM understood and said no.
    #[error("{command}: the TPM refused with {code}")]
    Refused {
        /// The command.
        command: String,
        /// The reason.
        code: ResponseCode,
    },
    /// Bytes that are not what the specification says: an answer, a key, a certificate.
    #[error("{what}: got {got}, expected {expected}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What it is.
        got: String,
        /// What it should be.
        expected: String,
    },
    /// An answer's HMAC is not the session's: the answer was changed on its way, is an old one, or answers something else. What
    /// it says is not believed; the command may have been done.
    #[error("{command}: the HMAC of the answer is {got}, expected {expected}: is somebody on the bus?")]
    ForgedAnswer {
        /// The command.
        command: String,
        /// The answer's, in hex.
        got: String,
        /// The session's, in hex.
        expected: String,
    },
    /// The storage root that the TPM shows is not the one that was pinned when the wallet was made.
    #[error(
        "the TPM's storage root is {got}, pinned was {expected}: another TPM, a cleared one, or somebody on the bus"
    )]
    OtherRoot {
        /// The Name of what the TPM shows.
        got: Name,
        /// The pinned Name.
        expected: Name,
    },
    /// The log has another head than the caller believes.
    #[error("the log's head is {got}, expected {expected}")]
    HeadMismatch {
        /// The component's head.
        got: Head,
        /// The caller's.
        expected: Head,
    },
    /// A certificate is about something else.
    #[error("the certificate's {field} is {got}, expected {expected}")]
    CertificateMismatch {
        /// The field that differs.
        field: &'static str,
        /// The certificate's, in hex.
        got: String,
        /// The caller's, in hex.
        expected: String,
    },
    /// A signature does not verify under the key.
    #[error("the signature {signature} is not by key {key}")]
    BadSignature {
        /// The signature.
        signature: crate::Signature,
        /// The key.
        key: crate::PublicKey,
    },
    /// 64 bytes that are no point of P-256.
    #[error("{got} is no point of P-256")]
    NotAPoint {
        /// The bytes.
        got: crate::PublicKey,
    },
    /// A TPM signs no outside data that begins like its own attestations. Change the message: a later time, another nonce.
    #[error("a TPM signs no digest that begins like an attestation (ff544347): {0}")]
    NotSignable(crate::MessageDigest),
    /// A sequence that is not the next one.
    #[error("the next transfer has sequence {next}, not {got}")]
    SequenceOutOfOrder {
        /// The sequence asked for.
        got: u64,
        /// The sequence that the component expects.
        next: u64,
    },
    /// The sequence was used for another transfer: signing would be an equivocation.
    #[error("sequence {sequence} is used by transfer {signed}, so transfer {got} is not signed")]
    SequenceUsed {
        /// The sequence.
        sequence: u64,
        /// The transfer asked for.
        got: TransferDigest,
        /// The transfer that was signed.
        signed: TransferDigest,
    },
    /// The counter's file is not what this process wrote last.
    #[error("the counter file says {got}, this process last wrote {expected}: was the file restored?")]
    CounterChanged {
        /// The file's sequence.
        got: u64,
        /// This process's.
        expected: u64,
    },
    /// A file of the wallet cannot be read or written.
    #[error("{path}: cannot {action}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// There is a wallet already.
    #[error("{path}: there is a wallet already", path = .0.display())]
    Exists(PathBuf),
    /// Another process, or another part of this one, has the wallet open.
    #[error("{path}: the wallet is open already", path = .0.display())]
    InUse(PathBuf),
    /// Others than its owner may read a file that holds a key.
    #[error("{path}: mode {got:o}, expected {expected:o}: others may read the key", path = path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its mode.
        got: u32,
        /// What it should be.
        expected: u32,
    },
    /// The first entry was not begun ([`crate::Tpm::begin`]), or its session is lost.
    #[error("the first entry was not begun, or the TPM restarted since: begin again")]
    NotBegun,
}

impl TrustedError {
    /// The TPM's reason by name (`TPM_RC_POLICY_FAIL`), if it refused.
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::Refused { code, .. } => Some(code.name()),
            _ => None,
        }
    }
}
