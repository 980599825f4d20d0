//! Attestation: what a trusted component's maker says of a wallet's key, in the maker's own format, judged by one trait.
//!
//! | format | evidence | what it is bound to the key by |
//! |---|---|---|
//! | `tpm` | JSON [`tpm::TpmEvidence`] | credential activation, then the certified log ([`tpm`]) |
//! | `sgx`, `tdx` | JSON [`quotes::QuoteEvidence`] | the first 32 bytes of the report data, the rest zero |
//! | `sev-snp` | JSON [`quotes::SnpEvidence`] | as above |
//! | `nitro` | the COSE document | its user data |
//! | `software` | nothing | nothing: DEV classes only |
//!
//! A verifier is pure: bytes, what is expected, and the time; no network and no clock. Whatever a maker publishes beside the
//! evidence (collateral, intermediate certificates) travels with it, and is as old as the policy allows. Cheap rules come
//! first, signatures last: a refusal says what was refused, not that the rest was good.

mod chain;
pub mod nitro;
pub mod quotes;
#[cfg(feature = "sev-snp")]
mod sev_snp;
#[cfg(feature = "sgx-tdx")]
mod sgx_tdx;
pub mod tpm;

use std::{fmt, str::FromStr};

use alloy_primitives::{B256, hex};
use protocol::offline::{Kind, Seconds, Timestamp, WalletKey};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use nitro::Nitro;
#[cfg(feature = "sev-snp")]
pub use sev_snp::SevSnp;
#[cfg(feature = "sgx-tdx")]
pub use sgx_tdx::SgxTdx;
pub use tpm::Tpm;

/// Most bytes of any evidence: a quote with its collateral has some 25,000.
pub const MAX_EVIDENCE_BYTES: usize = 96 * 1024;

/// A maker's format of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// TPM 2.0.
    Tpm,
    /// Intel SGX quote.
    Sgx,
    /// Intel TDX quote.
    Tdx,
    /// AMD SEV-SNP report.
    SevSnp,
    /// AWS Nitro enclave's document.
    Nitro,
    /// A key that any program can read.
    Software,
}

/// What the evidence must be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The wallet's key.
    pub key: WalletKey,
    /// What an enclave puts into its report: a hash and zeros. (A Nitro enclave: the hash alone.)
    pub report_data: [u8; 64],
}

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The format.
    pub format: Format,
    /// Which device vouches, where the format says it: one TPM, one processor.
    pub device: Option<B256>,
    /// What runs there; empty for a TPM.
    pub measurement: Vec<u8>,
    /// How patched the platform is, in the maker's words.
    pub tcb: String,
}

/// What a class asks of one format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Certificates that are trusted, DER.
    pub roots: Vec<CertificateDer<'static>>,
    /// Programs that are taken.
    pub measurements: Vec<Vec<u8>>,
    /// How old collateral, or a document, may be.
    pub max_collateral_age: Seconds,
    /// States of the platform that are taken, in the maker's words.
    pub tcb: Vec<String>,
    /// The least versions of an SEV-SNP platform.
    pub min_snp_tcb: SnpTcb,
    /// Whether software that plays a chip is taken. DEV classes only.
    pub allow_emulated: bool,
}

/// Versions of an SEV-SNP platform's parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpTcb {
    /// Boot loader.
    pub bootloader: u8,
    /// PSP operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

/// Judges evidence of one format, by the rules of one class.
pub trait AttestationVerifier: Send + Sync {
    /// The format.
    fn format(&self) -> Format;

    /// Judges it.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks, with both values.
    fn verify(&self, evidence: &[u8], expected: &Expected, now: Timestamp)
    -> Result<Facts, AttestationError>;
}

/// Why evidence is worth nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestationError {
    /// More than there ever is.
    #[error("evidence of {got} bytes, the most is {limit}")]
    TooLong {
        /// Its length.
        got: usize,
        /// The most.
        limit: usize,
    },
    /// Not what the format says.
    #[error("{what} is malformed: {problem}")]
    Malformed {
        /// Which part.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// It is of another format than it says.
    #[error("the evidence is {got}, not {needed}")]
    WrongFormat {
        /// What it is.
        got: String,
        /// What was asked for.
        needed: Format,
    },
    /// It is about another key.
    #[error("the evidence is about key {got}, not {needed}")]
    WrongKey {
        /// Its key.
        got: String,
        /// The wallet's.
        needed: String,
    },
    /// A certificate, or collateral, is over or not begun.
    #[error("{what} is good from {from} to {until}, now is {now}")]
    OutOfTime {
        /// Which.
        what: &'static str,
        /// Its begin; 0 where it is not known.
        from: Timestamp,
        /// Its end.
        until: Timestamp,
        /// The registrar's clock.
        now: Timestamp,
    },
    /// Collateral, or a document, is older than the class takes.
    #[error("{what} was issued at {issued}, {limit} seconds old at most, now is {now}")]
    TooOld {
        /// Which.
        what: &'static str,
        /// When it was issued.
        issued: Timestamp,
        /// The registrar's clock.
        now: Timestamp,
        /// The most.
        limit: Seconds,
    },
    /// The certificates do not lead to a root of the class.
    #[error("{what} does not lead to one of {roots} trusted roots: {problem}")]
    WrongChain {
        /// Which certificate.
        what: &'static str,
        /// How many roots there are.
        roots: usize,
        /// What the check said.
        problem: String,
    },
    /// Software plays the chip.
    #[error("the maker is {got}: software that plays a chip is taken in DEV classes only")]
    Emulated {
        /// The maker's name.
        got: String,
    },
    /// It can be looked into.
    #[error("the component is in debug mode ({got}), needed is {needed}")]
    DebugMode {
        /// The flags.
        got: String,
        /// What they should be.
        needed: &'static str,
    },
    /// Another program runs there.
    #[error("the measurement is {got}, not one of {accepted}")]
    WrongMeasurement {
        /// In hex.
        got: String,
        /// Those that are taken, in hex.
        accepted: String,
    },
    /// It is about another wallet, or another challenge.
    #[error("the report data is {got}, not {needed}")]
    WrongReportData {
        /// In hex.
        got: String,
        /// In hex.
        needed: String,
    },
    /// The platform is not patched.
    #[error("the platform is {got}, taken are {accepted}")]
    WrongTcb {
        /// In the maker's words.
        got: String,
        /// Those that are taken.
        accepted: String,
    },
    /// A signature, or something below it, does not verify.
    #[error("{what} does not verify: {problem}")]
    BadSignature {
        /// What is signed.
        what: &'static str,
        /// What the check said.
        problem: String,
    },
    /// This program was built without that format.
    #[error("this registrar was built without {0}")]
    NotBuilt(Format),
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 6] = [
        Self::Tpm,
        Self::Sgx,
        Self::Tdx,
        Self::SevSnp,
        Self::Nitro,
        Self::Software,
    ];

    /// What proves a transfer of a wallet with such evidence.
    pub fn kind(self) -> Kind {
        match self {
            Self::Tpm => Kind::Log,
            _ => Kind::Signature,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::Sgx => "sgx",
            Self::Tdx => "tdx",
            Self::SevSnp => "sev-snp",
            Self::Nitro => "nitro",
            Self::Software => "software",
        }
    }

    /// The verifier of this format, by these rules.
    ///
    /// # Errors
    ///
    /// [`AttestationError::NotBuilt`]: see the crate's features.
    pub fn verifier(self, rules: Rules) -> Result<Box<dyn AttestationVerifier>, AttestationError> {
        match self {
            Self::Tpm => Ok(Box::new(Tpm::new(rules))),
            Self::Nitro => Ok(Box::new(Nitro::new(rules))),
            Self::Software => Ok(Box::new(Software)),
            #[cfg(feature = "sgx-tdx")]
            Self::Sgx | Self::Tdx => Ok(Box::new(SgxTdx::new(self, rules))),
            #[cfg(feature = "sev-snp")]
            Self::SevSnp => Ok(Box::new(SevSnp::new(rules))),
            #[allow(unreachable_patterns, reason = "with every feature there is none left")]
            other => Err(AttestationError::NotBuilt(other)),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| format!("{text:?} is no format of evidence"))
    }
}

impl Expected {
    /// For this key, and the challenge that the registrar gave.
    pub fn new(key: WalletKey, challenge: B256) -> Self {
        let hash = Sha256::new()
            .chain_update(b"micropay registrar report")
            .chain_update(key.x())
            .chain_update(key.y())
            .chain_update(challenge);
        let mut report_data = [0; 64];
        report_data[..32].copy_from_slice(&hash.finalize());
        Self { key, report_data }
    }

    #[cfg(any(feature = "sev-snp", feature = "sgx-tdx"))]
    fn check_report(&self, got: &[u8; 64]) -> Result<(), AttestationError> {
        let needed = self.report_data;
        if *got == needed {
            return Ok(());
        }
        Err(AttestationError::WrongReportData {
            got: hex::encode(got),
            needed: hex::encode(needed),
        })
    }
}

impl Rules {
    fn check_measurement(&self, got: &[u8]) -> Result<(), AttestationError> {
        if self.measurements.iter().any(|accepted| accepted == got) {
            return Ok(());
        }
        let accepted: Vec<String> = self.measurements.iter().map(hex::encode).collect();
        Err(AttestationError::WrongMeasurement {
            got: hex::encode(got),
            accepted: accepted.join(", "),
        })
    }

    fn check_age(
        &self,
        what: &'static str,
        issued: Timestamp,
        now: Timestamp,
    ) -> Result<(), AttestationError> {
        if now.since(issued) <= self.max_collateral_age {
            return Ok(());
        }
        Err(AttestationError::TooOld {
            what,
            issued,
            now,
            limit: self.max_collateral_age,
        })
    }
}

/// Nobody vouches. The policy sees to it that the class is marked DEV.
#[derive(Clone, Copy, Debug)]
pub struct Software;

impl AttestationVerifier for Software {
    fn format(&self) -> Format {
        Format::Software
    }

    fn verify(&self, evidence: &[u8], _: &Expected, _: Timestamp) -> Result<Facts, AttestationError> {
        check_length(evidence, 0)?;
        Ok(Facts {
            format: Format::Software,
            device: None,
            measurement: Vec::new(),
            tcb: "a file".to_owned(),
        })
    }
}

fn check_length(evidence: &[u8], limit: usize) -> Result<(), AttestationError> {
    let got = evidence.len();
    if got > limit {
        return Err(AttestationError::TooLong { got, limit });
    }
    Ok(())
}

/// Evidence in JSON.
fn json<'a, T: Deserialize<'a>>(evidence: &'a [u8]) -> Result<T, AttestationError> {
    check_length(evidence, MAX_EVIDENCE_BYTES)?;
    serde_json::from_slice(evidence).map_err(|error| malformed("evidence", error))
}

#[allow(clippy::needless_pass_by_value, reason = "errors come by value")]
fn malformed(what: &'static str, problem: impl ToString) -> AttestationError {
    AttestationError::Malformed {
        what,
        problem: problem.to_string(),
    }
}
