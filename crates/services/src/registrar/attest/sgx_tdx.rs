//! Intel SGX and TDX quotes, by crate `dcap-qvl`: PCK chain, revocation lists, TCB info and identity of the quoting enclave,
//! all under Intel's root.

use alloy_primitives::{hex, keccak256};
use dcap_qvl::{
    QuoteCollateralV3,
    policy::{Policy as _, QuotePolicy},
    quote::{EnclaveReport, Quote, Report, TDReport10},
    tcb_info::TcbStatus,
    verify::QuoteVerifier,
};
use protocol::offline::Timestamp;
use sha2::{Digest as _, Sha384};

use super::{
    AttestationError, AttestationVerifier, Expected, Facts, Format, Rules, json, malformed,
    quotes::QuoteEvidence,
};

/// Judges quotes of one of both.
#[derive(Clone, Debug)]
pub struct SgxTdx {
    format: Format,
    rules: Rules,
}

impl SgxTdx {
    /// By the rules of a class. What is measured: SGX, MRENCLAVE; TDX, SHA-384 of MRTD and the four RTMRs.
    pub fn new(format: Format, rules: Rules) -> Self {
        Self { format, rules }
    }
}

impl AttestationVerifier for SgxTdx {
    fn format(&self) -> Format {
        self.format
    }

    fn verify(
        &self,
        evidence: &[u8],
        expected: &Expected,
        now: Timestamp,
    ) -> Result<Facts, AttestationError> {
        let evidence: QuoteEvidence = json(evidence)?;
        let quote = Quote::parse(&evidence.quote).map_err(|error| malformed("quote", error))?;
        let (got, measurement) = match &quote.report {
            Report::SgxEnclave(report) => {
                check_enclave(report)?;
                (Format::Sgx, report.mr_enclave.to_vec())
            }
            Report::TD10(report) => (Format::Tdx, check_domain(report)?),
            Report::TD15(report) => (Format::Tdx, check_domain(&report.base)?),
            other => {
                return Err(AttestationError::WrongFormat {
                    got: format!("{other:?}").chars().take(12).collect(),
                    needed: self.format,
                });
            }
        };
        if got != self.format {
            return Err(AttestationError::WrongFormat {
                got: got.to_string(),
                needed: self.format,
            });
        }
        self.rules.check_measurement(&measurement)?;
        expected.check_report(report_data(&quote.report))?;
        let collateral: QuoteCollateralV3 = serde_json::from_str(evidence.collateral.get())
            .map_err(|error| malformed("collateral", error))?;
        self.check_collateral(&collateral, now)?;
        let device = self.check_quote(&evidence.quote, &collateral, now)?;
        Ok(Facts {
            format: self.format,
            device: Some(keccak256(&device.0)),
            measurement,
            tcb: device.1,
        })
    }
}

impl SgxTdx {
    /// Everything that Intel signed must be young enough, and not over.
    fn check_collateral(
        &self,
        collateral: &QuoteCollateralV3,
        now: Timestamp,
    ) -> Result<(), AttestationError> {
        for (what, text) in [
            ("TCB info", &collateral.tcb_info),
            ("identity of the quoting enclave", &collateral.qe_identity),
        ] {
            let dates: Dates = serde_json::from_str(text).map_err(|error| malformed(what, error))?;
            let (from, until) = (time(what, &dates.issue_date)?, time(what, &dates.next_update)?);
            if now < from || now > until {
                return Err(AttestationError::OutOfTime {
                    what,
                    from,
                    until,
                    now,
                });
            }
            self.rules.check_age(what, from, now)?;
        }
        Ok(())
    }

    /// The processor's id, and the state of the platform.
    fn check_quote(
        &self,
        quote: &[u8],
        collateral: &QuoteCollateralV3,
        now: Timestamp,
    ) -> Result<(Vec<u8>, String), AttestationError> {
        let mut last = "there is no root".to_owned();
        for root in &self.rules.roots {
            let verifier = QuoteVerifier::new(root.to_vec());
            let claims =
                verifier.verify_with_policy(quote, collateral, now.0, &QuotePolicy::claims_only(now.0));
            match claims {
                Ok(claims) => {
                    let status = claims.tcb.status.to_string();
                    let mut policy = QuotePolicy::strict(now.0)
                        .allow_smt(true)
                        .allow_dynamic_platform(true)
                        .allow_cached_keys(true);
                    for accepted in [
                        TcbStatus::SWHardeningNeeded,
                        TcbStatus::ConfigurationNeeded,
                        TcbStatus::ConfigurationAndSWHardeningNeeded,
                    ] {
                        if self.rules.tcb.contains(&accepted.to_string()) {
                            policy = policy.allow_status(accepted);
                        }
                    }
                    policy
                        .validate(&claims)
                        .map_err(|error| AttestationError::WrongTcb {
                            got: format!("{status} ({error})"),
                            accepted: format!("UpToDate, {}", self.rules.tcb.join(", ")),
                        })?;
                    return Ok((claims.platform.pck.ppid, status));
                }
                Err(error) => last = format!("{error:#}"),
            }
        }
        Err(AttestationError::BadSignature {
            what: "quote",
            problem: last,
        })
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dates {
    issue_date: String,
    next_update: String,
}

/// The attributes of an enclave: DEBUG is the second bit.
fn check_enclave(report: &EnclaveReport) -> Result<(), AttestationError> {
    debug("attributes", report.attributes[0] & 2, &report.attributes)
}

/// The attributes of a trust domain: its first byte says "under debug". Gives what is measured.
fn check_domain(report: &TDReport10) -> Result<Vec<u8>, AttestationError> {
    debug("td attributes", report.td_attributes[0], &report.td_attributes)?;
    let mut hash = Sha384::new();
    for part in [
        &report.mr_td,
        &report.rt_mr0,
        &report.rt_mr1,
        &report.rt_mr2,
        &report.rt_mr3,
    ] {
        hash.update(part);
    }
    Ok(hash.finalize().to_vec())
}

fn debug(what: &str, flags: u8, attributes: &[u8]) -> Result<(), AttestationError> {
    if flags == 0 {
        return Ok(());
    }
    Err(AttestationError::DebugMode {
        got: format!("{what} {}", hex::encode(attributes)),
        needed: "no debug bit",
    })
}

fn report_data(report: &Report) -> &[u8; 64] {
    match report {
        Report::SgxEnclave(report) => &report.report_data,
        Report::TD10(report) => &report.report_data,
        Report::TD15(report) => &report.base.report_data,
        Report::TD15Ex(report) => &report.base.base.report_data,
    }
}

/// `2025-06-19T10:01:37Z`, as Intel writes it.
fn time(what: &'static str, text: &str) -> Result<Timestamp, AttestationError> {
    let wrong = || malformed(what, format!("{text:?} is no time"));
    let bytes = text.as_bytes();
    if bytes.len() != 20 || bytes[19] != b'Z' || !text.is_ascii() {
        return Err(wrong());
    }
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().map_err(|_| wrong());
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Days from civil (Howard Hinnant), years counted from March.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    u64::try_from(seconds).map(Timestamp).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intels_times_are_unix_times() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2025-06-19T10:01:37Z", 1_750_327_297),
            ("2026-03-01T00:00:00Z", 1_772_323_200),
        ] {
            assert_eq!(time("test", text), Ok(Timestamp(seconds)), "{text}");
        }
        for text in [
            "",
            "2025-06-19T10:01:37",
            "2025-06-19 10:01:3xZ",
            "2025-06-19T10:01:37+00:00",
        ] {
            assert!(time("test", text).is_err(), "{text}");
        }
    }
}
