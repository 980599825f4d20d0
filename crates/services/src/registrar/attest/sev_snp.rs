//! AMD SEV-SNP reports, by crate `sev` (its pure-Rust signatures). The crate checks signatures alone; times, the chip's id and
//! the versions that the certificate is about are checked here.

use alloy_primitives::{hex, keccak256};
use protocol::offline::Timestamp;
use sev::{
    certs::snp::{Certificate, Chain, Verifiable as _, ca},
    firmware::guest::AttestationReport,
    parser::ByteParser as _,
};
use x509_cert::{Certificate as X509, der::oid::ObjectIdentifier};

use super::{
    AttestationError, AttestationVerifier, Expected, Facts, Format, Rules, SnpTcb, json, malformed,
    quotes::SnpEvidence,
};

const BOOTLOADER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
const TEE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
const SNP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
const MICROCODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
const CHIP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");

/// Judges reports.
#[derive(Clone, Debug)]
pub struct SevSnp {
    rules: Rules,
}

impl SevSnp {
    /// By the rules of a class. What is measured: MEASUREMENT, at VMPL 0.
    pub fn new(rules: Rules) -> Self {
        Self { rules }
    }
}

impl AttestationVerifier for SevSnp {
    fn format(&self) -> Format {
        Format::SevSnp
    }

    fn verify(
        &self,
        evidence: &[u8],
        expected: &Expected,
        now: Timestamp,
    ) -> Result<Facts, AttestationError> {
        let evidence: SnpEvidence = json(evidence)?;
        let report =
            AttestationReport::from_bytes(&evidence.report).map_err(|error| malformed("report", error))?;
        // The crate hashes what it writes: that must be what came.
        let again = report.to_bytes().map_err(|error| malformed("report", error))?;
        if again.as_slice() != &evidence.report[..] {
            return Err(malformed("report", "it has another form"));
        }
        check_policy(&report)?;
        self.rules.check_measurement(&report.measurement)?;
        expected.check_report(&report.report_data)?;
        let vek = certificate("certificate of the chip", &evidence.vek)?;
        let ask = certificate("intermediate certificate", &evidence.ask)?;
        let tcb = self.check_tcb(&report, &X509::from(vek.clone()))?;
        self.check_chain(&report, ask, vek, now)?;
        Ok(Facts {
            format: Format::SevSnp,
            device: Some(keccak256(report.chip_id)),
            measurement: report.measurement.to_vec(),
            tcb,
        })
    }
}

impl SevSnp {
    /// Versions: those of the report are those that the chip's key was derived from, and not below the class's.
    fn check_tcb(&self, report: &AttestationReport, vek: &X509) -> Result<String, AttestationError> {
        let got = SnpTcb {
            bootloader: report.reported_tcb.bootloader,
            tee: report.reported_tcb.tee,
            snp: report.reported_tcb.snp,
            microcode: report.reported_tcb.microcode,
        };
        let certified = SnpTcb {
            bootloader: version(vek, BOOTLOADER)?,
            tee: version(vek, TEE)?,
            snp: version(vek, SNP)?,
            microcode: version(vek, MICROCODE)?,
        };
        let least = self.rules.min_snp_tcb;
        let wrong = |accepted: String| AttestationError::WrongTcb {
            got: format!("{got:?}"),
            accepted,
        };
        if got != certified {
            return Err(wrong(format!("{certified:?}, as certified")));
        }
        let enough = got.bootloader >= least.bootloader
            && got.tee >= least.tee
            && got.snp >= least.snp
            && got.microcode >= least.microcode;
        if !enough {
            return Err(wrong(format!("{least:?} or newer")));
        }
        let chip = extension(vek, CHIP)?;
        if chip != report.chip_id {
            return Err(AttestationError::WrongChain {
                what: "certificate of the chip",
                roots: self.rules.roots.len(),
                problem: format!(
                    "it is of chip {}, not {}",
                    hex::encode(chip),
                    hex::encode(report.chip_id)
                ),
            });
        }
        Ok(format!("{got:?}"))
    }

    fn check_chain(
        &self,
        report: &AttestationReport,
        ask: Certificate,
        vek: Certificate,
        now: Timestamp,
    ) -> Result<(), AttestationError> {
        check_time("certificate of the chip", &vek, now)?;
        check_time("intermediate certificate", &ask, now)?;
        let roots = self.rules.roots.len();
        let mut chain = Chain {
            ca: ca::Chain {
                ark: ask.clone(),
                ask,
            },
            vek,
        };
        let mut last = "there is no root".to_owned();
        for root in &self.rules.roots {
            chain.ca.ark = certificate("root", root)?;
            match chain.verify() {
                Ok(_) => {
                    check_time("root", &chain.ca.ark, now)?;
                    return (&chain, report)
                        .verify()
                        .map_err(|error| AttestationError::BadSignature {
                            what: "report",
                            problem: error.to_string(),
                        });
                }
                Err(error) => last = error.to_string(),
            }
        }
        Err(AttestationError::WrongChain {
            what: "certificate of the chip",
            roots,
            problem: last,
        })
    }
}

fn check_policy(report: &AttestationReport) -> Result<(), AttestationError> {
    if report.policy.debug_allowed() || report.policy.migrate_ma_allowed() {
        return Err(AttestationError::DebugMode {
            got: format!("guest policy {:#x}", u64::from(report.policy)),
            needed: "neither debugging nor a migration agent",
        });
    }
    if report.vmpl != 0 {
        return Err(AttestationError::DebugMode {
            got: format!("VMPL {}", report.vmpl),
            needed: "VMPL 0",
        });
    }
    Ok(())
}

fn certificate(what: &'static str, der: &[u8]) -> Result<Certificate, AttestationError> {
    Certificate::from_der(der).map_err(|error| malformed(what, error))
}

fn check_time(what: &'static str, certificate: &Certificate, now: Timestamp) -> Result<(), AttestationError> {
    let validity = X509::from(certificate.clone()).tbs_certificate.validity;
    let from = Timestamp(validity.not_before.to_unix_duration().as_secs());
    let until = Timestamp(validity.not_after.to_unix_duration().as_secs());
    if now < from || now > until {
        return Err(AttestationError::OutOfTime {
            what,
            from,
            until,
            now,
        });
    }
    Ok(())
}

fn extension(certificate: &X509, id: ObjectIdentifier) -> Result<&[u8], AttestationError> {
    let extensions = certificate.tbs_certificate.extensions.iter().flatten();
    let mut found = extensions.filter(|extension| extension.extn_id == id);
    let extension = found
        .next()
        .ok_or_else(|| malformed("certificate of the chip", format!("it has no extension {id}")))?;
    Ok(extension.extn_value.as_bytes())
}

/// A DER INTEGER of one byte.
fn version(certificate: &X509, id: ObjectIdentifier) -> Result<u8, AttestationError> {
    match *extension(certificate, id)? {
        [2, 1, version] if version < 0x80 => Ok(version),
        [2, 2, 0, version] => Ok(version),
        ref other => Err(malformed(
            "certificate of the chip",
            format!("extension {id} is {}", hex::encode(other)),
        )),
    }
}
