//! What a registrar takes: a TOML file, read once. Nothing is taken by default, unknown words are refused, and what a class
//! says must make sense together.
//!
//! ```toml
//! wallets_per_device = 16             # whatever their stage
//! revocation_list_life = 3600         # seconds after which the list is signed anew
//! authorisation_life = 120            # seconds that a TPM has to begin its log
//!
//! [[class]]
//! number = 1
//! kind = "log"                        # or "signature"
//! validity = 604800                   # seconds, of a registration
//! caps = [{ asset = "0x0000000000000000000000000000000000000000", coin = "1000000", wallet = "5000000" }]
//! accept = [{ format = "tpm", roots = ["tpm-makers.pem"] }]
//!
//! [[class]]
//! number = 2
//! kind = "signature"
//! validity = 86400
//! [[class.accept]]
//! format = "sgx"
//! roots = ["intel.pem"]
//! measurements = ["9f…"]
//! max_collateral_age = 2592000
//! tcb = ["SWHardeningNeeded"]
//!
//! [[class]]
//! number = 1
//! dev = true                          # refused unless the registrar allows it; the class's highest bit is set
//! kind = "signature"
//! validity = 3600
//! accept = [{ format = "software" }]
//! ```

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use alloy_primitives::{Address, hex};
use protocol::offline::{Amount, ClassId, Kind, Seconds};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::Deserialize;

use super::attest::{AttestationError, AttestationVerifier, Format, Rules, SnpTcb, tpm::is_emulators};
use crate::decimal;

/// The longest life of a registration: no coin outlives it (MAX_COIN_LIFE).
pub const MAX_VALIDITY: Seconds = Seconds::DAY.times(90);

/// What a registrar takes.
pub struct Policy {
    /// Most wallets of one device.
    pub wallets_per_device: u32,
    /// After so long the revocation list is signed anew.
    pub revocation_list_life: Seconds,
    /// How long a TPM has to begin its log.
    pub authorisation_life: u16,
    classes: Vec<ClassPolicy>,
}

/// A class of wallets.
pub struct ClassPolicy {
    /// Its name, with the DEV mark where it is one.
    pub id: ClassId,
    /// What proves transfers.
    pub kind: Kind,
    /// How long a registration is good.
    pub validity: Seconds,
    /// The only assets that get deposit receipts; none listed: any, without bounds.
    pub caps: Vec<Cap>,
    verifiers: Vec<(Format, Rules, Box<dyn AttestationVerifier>)>,
}

/// The most that wallets of a class hold, in one asset. What a broken component can take is bounded by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// Token, or the zero address.
    pub asset: Address,
    /// Most of one coin, atomic units.
    #[serde(with = "decimal")]
    pub coin: u128,
    /// Most of a wallet's coins together, atomic units.
    #[serde(with = "decimal")]
    pub wallet: u128,
}

/// Why a policy is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a policy.
    #[error("the policy: {0}")]
    Toml(#[from] toml::de::Error),
    /// Two classes of one number.
    #[error("class {0} is there twice")]
    ClassTwice(ClassId),
    /// A class's number has the highest bit, which marks DEV.
    #[error("class {got} is not below {limit}; dev = true marks a class DEV")]
    NumberTooLarge {
        /// The number.
        got: u32,
        /// The limit.
        limit: u32,
    },
    /// A class for development.
    #[error("class {0} is for development, and this registrar does not allow that")]
    DevClass(ClassId),
    /// A value is out of its bounds.
    #[error("{what} of class {class} is {got}, not {low} to {high}")]
    OutOfRange {
        /// The class; 0 for the whole policy.
        class: ClassId,
        /// The value's name.
        what: &'static str,
        /// The value.
        got: u64,
        /// The least.
        low: u64,
        /// The most.
        high: u64,
    },
    /// A format does not go with the class.
    #[error("class {class} is {got}, and takes {format}, which is {needed}")]
    WrongKind {
        /// The class.
        class: ClassId,
        /// The format.
        format: Format,
        /// The class's kind.
        got: Kind,
        /// The format's kind.
        needed: Kind,
    },
    /// A format twice, or none.
    #[error("class {class} takes {got} formats, {distinct} of them different; there must be one at least")]
    Formats {
        /// The class.
        class: ClassId,
        /// How many are listed.
        got: usize,
        /// How many are different.
        distinct: usize,
    },
    /// A key that any program can read vouches for nothing.
    #[error("class {0} takes software keys and is not marked dev")]
    SoftwareNotDev(ClassId),
    /// The authority of a software TPM.
    #[error("{path} of class {class} is the authority of a software TPM, and the class is not marked dev", path = path.display())]
    EmulatedRoot {
        /// The class.
        class: ClassId,
        /// The file.
        path: PathBuf,
    },
    /// No certificate where one is needed, or something else.
    #[error("{format} of class {class}: {problem}")]
    Accept {
        /// The class.
        class: ClassId,
        /// The format.
        format: Format,
        /// What is wrong.
        problem: String,
    },
    /// The format cannot be verified by this program.
    #[error(transparent)]
    Attestation(#[from] AttestationError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "wallets_per_device")]
    wallets_per_device: u32,
    #[serde(default = "list_life")]
    revocation_list_life: u64,
    #[serde(default = "authorisation_life")]
    authorisation_life: u16,
    #[serde(default)]
    class: Vec<Class>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    number: u32,
    #[serde(default)]
    dev: bool,
    kind: KindName,
    validity: u64,
    #[serde(default)]
    caps: Vec<Cap>,
    accept: Vec<Accept>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Log,
    Signature,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accept {
    format: Format,
    #[serde(default)]
    roots: Vec<PathBuf>,
    #[serde(default)]
    measurements: Vec<String>,
    max_collateral_age: Option<u64>,
    #[serde(default)]
    tcb: Vec<String>,
    #[serde(default)]
    min_snp_tcb: SnpTcb,
}

fn wallets_per_device() -> u32 {
    16
}

fn list_life() -> u64 {
    3_600
}

fn authorisation_life() -> u16 {
    120
}

impl Policy {
    /// Reads a policy file; certificates' paths are relative to it.
    ///
    /// # Errors
    ///
    /// [`PolicyError`]: what does not make sense.
    pub fn load(path: &Path, allow_dev: bool) -> Result<Self, PolicyError> {
        let text = read(path)?;
        let text = String::from_utf8_lossy(&text);
        Self::parse(&text, path.parent().unwrap_or(Path::new(".")), allow_dev)
    }

    /// As [`Policy::load`], of text; paths are relative to `base`.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn parse(text: &str, base: &Path, allow_dev: bool) -> Result<Self, PolicyError> {
        let file: File = toml::from_str(text)?;
        let whole = ClassId(0);
        within(
            whole,
            "wallets_per_device",
            file.wallets_per_device.into(),
            1,
            1 << 20,
        )?;
        let life = file.revocation_list_life;
        within(whole, "revocation_list_life", life, 60, Seconds::DAY.0)?;
        within(
            whole,
            "authorisation_life",
            file.authorisation_life.into(),
            10,
            3_600,
        )?;
        let mut classes: Vec<ClassPolicy> = Vec::new();
        for class in file.class {
            let class = ClassPolicy::new(class, base, allow_dev)?;
            if classes.iter().any(|other| other.id == class.id) {
                return Err(PolicyError::ClassTwice(class.id));
            }
            classes.push(class);
        }
        Ok(Self {
            wallets_per_device: file.wallets_per_device,
            revocation_list_life: Seconds(life),
            authorisation_life: file.authorisation_life,
            classes,
        })
    }

    /// The classes.
    pub fn classes(&self) -> &[ClassPolicy] {
        &self.classes
    }

    /// The class of this name.
    pub fn class(&self, id: ClassId) -> Option<&ClassPolicy> {
        self.classes.iter().find(|class| class.id == id)
    }
}

impl ClassPolicy {
    fn new(class: Class, base: &Path, allow_dev: bool) -> Result<Self, PolicyError> {
        if class.number >= ClassId::DEV {
            return Err(PolicyError::NumberTooLarge {
                got: class.number,
                limit: ClassId::DEV,
            });
        }
        let id = match class.dev {
            true => ClassId::dev(class.number),
            false => ClassId(class.number),
        };
        if class.dev && !allow_dev {
            return Err(PolicyError::DevClass(id));
        }
        within(id, "validity", class.validity, 60, MAX_VALIDITY.0)?;
        let kind = match class.kind {
            KindName::Log => Kind::Log,
            KindName::Signature => Kind::Signature,
        };
        let formats: BTreeSet<Format> = class.accept.iter().map(|accept| accept.format).collect();
        if formats.is_empty() || formats.len() != class.accept.len() {
            return Err(PolicyError::Formats {
                class: id,
                got: class.accept.len(),
                distinct: formats.len(),
            });
        }
        let mut verifiers = Vec::new();
        for accept in class.accept {
            let format = accept.format;
            if format.kind() != kind {
                return Err(PolicyError::WrongKind {
                    class: id,
                    format,
                    got: kind,
                    needed: format.kind(),
                });
            }
            let rules = accept.rules(id, base)?;
            verifiers.push((format, rules.clone(), format.verifier(rules)?));
        }
        Ok(Self {
            id,
            kind,
            validity: Seconds(class.validity),
            caps: class.caps,
            verifiers,
        })
    }

    /// The formats that are taken.
    pub fn formats(&self) -> impl Iterator<Item = Format> + '_ {
        self.verifiers.iter().map(|(format, _, _)| *format)
    }

    /// The verifier of a format, if it is taken.
    pub fn verifier(&self, format: Format) -> Option<&dyn AttestationVerifier> {
        let found = self.verifiers.iter().find(|(taken, _, _)| *taken == format);
        found.map(|(_, _, verifier)| &**verifier)
    }

    /// The rules of a format, if it is taken.
    pub fn rules(&self, format: Format) -> Option<&Rules> {
        let found = self.verifiers.iter().find(|(taken, _, _)| *taken == format);
        found.map(|(_, rules, _)| rules)
    }

    /// The cap of an asset: `None` if it gets no receipts.
    pub fn cap(&self, asset: Address) -> Option<Cap> {
        let unbounded = Cap {
            asset,
            coin: Amount::MAX.0,
            wallet: Amount::MAX.0,
        };
        if self.caps.is_empty() {
            return Some(unbounded);
        }
        self.caps.iter().copied().find(|cap| cap.asset == asset)
    }
}

impl Accept {
    fn rules(self, class: ClassId, base: &Path) -> Result<Rules, PolicyError> {
        let format = self.format;
        let wrong = |problem: String| PolicyError::Accept {
            class,
            format,
            problem,
        };
        if format == Format::Software && !class.is_dev() {
            return Err(PolicyError::SoftwareNotDev(class));
        }
        let mut roots = Vec::new();
        for path in &self.roots {
            let path = base.join(path);
            for root in certificates(&path).map_err(|error| wrong(format!("{}: {error}", path.display())))? {
                if format == Format::Tpm && !class.is_dev() && is_emulators(&root) {
                    return Err(PolicyError::EmulatedRoot { class, path });
                }
                roots.push(root);
            }
        }
        let mut measurements = Vec::new();
        for text in &self.measurements {
            let length = if format == Format::Sgx { 32 } else { 48 };
            match hex::decode(text) {
                Ok(bytes) if bytes.len() == length => measurements.push(bytes),
                _ => {
                    return Err(wrong(format!(
                        "measurement {text:?} is not {length} bytes in hex"
                    )));
                }
            }
        }
        let measured = !matches!(format, Format::Tpm | Format::Software);
        if format != Format::Software && roots.is_empty() {
            return Err(wrong("there is no root certificate".to_owned()));
        }
        if measured && measurements.is_empty() {
            return Err(wrong("there is no measurement".to_owned()));
        }
        if !measured && !measurements.is_empty() {
            return Err(wrong("it measures nothing".to_owned()));
        }
        let aged = matches!(format, Format::Sgx | Format::Tdx | Format::Nitro);
        if aged != self.max_collateral_age.is_some() {
            return Err(wrong(match aged {
                true => "max_collateral_age is missing".to_owned(),
                false => "it has no collateral that ages".to_owned(),
            }));
        }
        Ok(Rules {
            roots,
            measurements,
            max_collateral_age: Seconds(self.max_collateral_age.unwrap_or_default()),
            tcb: self.tcb,
            min_snp_tcb: self.min_snp_tcb,
            allow_emulated: class.is_dev(),
        })
    }
}

fn within(class: ClassId, what: &'static str, got: u64, low: u64, high: u64) -> Result<(), PolicyError> {
    if (low..=high).contains(&got) {
        return Ok(());
    }
    Err(PolicyError::OutOfRange {
        class,
        what,
        got,
        low,
        high,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, PolicyError> {
    fs::read(path).map_err(|source| PolicyError::File {
        path: path.to_owned(),
        source,
    })
}

/// All certificates of a PEM file, or the one of a DER file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    if bytes.starts_with(&[0x30, 0x82]) {
        return Ok(vec![CertificateDer::from(bytes)]);
    }
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    match found.is_empty() {
        false => Ok(found),
        true => Err("there is no certificate".to_owned()),
    }
}
