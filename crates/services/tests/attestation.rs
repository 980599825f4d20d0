//! Evidence of every format: real samples at their times, and everything that is wrong with them otherwise. An enclave's sample
//! is about no wallet of ours: the expectation is made from the sample, and each negative changes one thing.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{fs, path::PathBuf};

use alloy_primitives::{Bytes, hex};
use micropay_services::registrar::attest::{
    AttestationError, AttestationVerifier, Expected, Facts, Format, Nitro, Rules, SevSnp, SgxTdx, SnpTcb,
};
use protocol::offline::{Seconds, SoftwareKey, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384,
    SigningKey as _,
};
use serde_json::{Value, json};

type Verdict = Result<Facts, AttestationError>;

fn sample(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/samples")
        .join(name);
    fs::read(path).unwrap()
}

fn pem(name: &str) -> Vec<u8> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    CertificateDer::from_pem_slice(&sample(name)).unwrap().to_vec()
}

/// An expectation whose report data is what the sample says.
fn expected(report_data: &[u8]) -> Expected {
    let mut padded = [0; 64];
    padded[..report_data.len()].copy_from_slice(report_data);
    Expected {
        key: *SoftwareKey::from_bytes(&[7; 32]).unwrap().public_key(),
        report_data: padded,
    }
}

/// What was refused, in one word.
fn refusal(verdict: &Verdict) -> String {
    let text = format!("{:?}", verdict.as_ref().unwrap_err());
    text.split([' ', '(']).next().unwrap().to_owned()
}

/// A quote of Intel's, with what its verifier takes.
struct Intel {
    format: Format,
    quote: Vec<u8>,
    collateral: Value,
    root: Vec<u8>,
    rules: Rules,
    report_data: Vec<u8>,
    report_at: usize,
    attributes_at: usize,
}

/// Four weeks after the collateral was issued, and before it is over.
const INTEL_NOW: Timestamp = Timestamp(1_751_500_000);

impl Intel {
    fn sgx() -> Self {
        let quote = sample("sgx_quote");
        let mut intel = Self::new(Format::Sgx, quote, "sgx_quote_collateral.json", 48 + 320, 48 + 48);
        intel.rules.measurements = vec![intel.quote[48 + 64..48 + 96].to_vec()];
        intel.rules.tcb = vec!["ConfigurationAndSWHardeningNeeded".to_owned()];
        intel
    }

    fn tdx() -> Self {
        use sha2::{Digest as _, Sha384};
        let quote = sample("tdx_quote");
        let mut intel = Self::new(
            Format::Tdx,
            quote,
            "tdx_quote_collateral.json",
            48 + 520,
            48 + 120,
        );
        let body = &intel.quote[48..];
        let hash = Sha384::new()
            .chain_update(&body[136..184])
            .chain_update(&body[328..520])
            .finalize();
        intel.rules.measurements = vec![hash.to_vec()];
        intel
    }

    fn new(format: Format, quote: Vec<u8>, collateral: &str, report_at: usize, attributes_at: usize) -> Self {
        let root = sample("intel-root.der");
        Self {
            format,
            collateral: serde_json::from_slice(&sample(collateral)).unwrap(),
            rules: Rules {
                roots: vec![root.clone().into()],
                max_collateral_age: Seconds::DAY.times(30),
                ..Rules::default()
            },
            root,
            report_data: quote[report_at..report_at + 64].to_vec(),
            quote,
            report_at,
            attributes_at,
        }
    }

    fn verify_at(&self, now: Timestamp) -> Verdict {
        self.verify_as(self.format, now)
    }

    fn verify_as(&self, format: Format, now: Timestamp) -> Verdict {
        let evidence = json!({ "quote": Bytes::from(self.quote.clone()), "collateral": self.collateral });
        let verifier = SgxTdx::new(format, self.rules.clone());
        verifier.verify(
            &serde_json::to_vec(&evidence).unwrap(),
            &expected(&self.report_data),
            now,
        )
    }

    /// One thing changed.
    fn but(&self, change: impl FnOnce(&mut Self)) -> Verdict {
        let mut other = Self {
            format: self.format,
            quote: self.quote.clone(),
            collateral: self.collateral.clone(),
            root: self.root.clone(),
            rules: self.rules.clone(),
            report_data: self.report_data.clone(),
            report_at: self.report_at,
            attributes_at: self.attributes_at,
        };
        change(&mut other);
        other.verify_at(INTEL_NOW)
    }

    /// Everything that both have in common.
    fn negatives(&self) {
        assert_eq!(
            refusal(&self.verify_at(Timestamp(1_753_000_000))),
            "OutOfTime",
            "expired collateral"
        );
        assert_eq!(
            refusal(&self.verify_at(Timestamp(1_750_000_000))),
            "OutOfTime",
            "collateral of the future"
        );
        assert_eq!(
            refusal(&self.but(|it| it.rules.max_collateral_age = Seconds::DAY)),
            "TooOld",
            "collateral older than the policy takes"
        );
        let signature_at = self.report_at + 64 + 4;
        assert_eq!(
            refusal(&self.but(|it| it.quote[signature_at] ^= 1)),
            "BadSignature",
            "a flipped bit of the signature"
        );
        assert_eq!(
            refusal(&self.but(|it| it.quote[self.report_at - 1] ^= 1)),
            if self.format == Format::Tdx {
                "WrongMeasurement"
            } else {
                "BadSignature"
            },
            "a flipped bit of the report"
        );
        let debug = if self.format == Format::Sgx { 2 } else { 1 };
        assert_eq!(
            refusal(&self.but(|it| it.quote[it.attributes_at] |= debug)),
            "DebugMode",
            "debug mode"
        );
        assert_eq!(
            refusal(&self.but(|it| it.rules.measurements = vec![vec![0; 32]])),
            "WrongMeasurement",
            "another program"
        );
        assert_eq!(
            refusal(&self.but(|it| it.quote[it.report_at + 63] ^= 1)),
            "WrongReportData",
            "about something more"
        );
        assert_eq!(
            refusal(&self.but(|it| it.report_data[0] ^= 1)),
            "WrongReportData",
            "another wallet"
        );
        assert_eq!(
            refusal(&self.but(|it| it.rules.roots = vec![sample("nitro-root.der").into()])),
            "BadSignature",
            "another root"
        );
        assert_eq!(
            refusal(&self.but(|it| it.rules.roots.clear())),
            "BadSignature",
            "no root"
        );
        assert_eq!(
            refusal(&self.but(|it| {
                let info = it.collateral["tcb_info"].as_str().unwrap();
                it.collateral["tcb_info"] = info.replacen("\"id\":\"", "\"id\":\"X", 1).into();
            })),
            "BadSignature",
            "changed collateral"
        );
        let other = if self.format == Format::Sgx {
            Format::Tdx
        } else {
            Format::Sgx
        };
        assert_eq!(
            refusal(&self.verify_as(other, INTEL_NOW)),
            "WrongFormat",
            "one format as the other"
        );
        assert_eq!(
            refusal(&self.but(|it| it.quote.truncate(300))),
            "Malformed",
            "a part of it"
        );
    }
}

#[test]
fn sgx_quote_of_real_hardware() {
    let intel = Intel::sgx();
    let facts = intel.verify_at(INTEL_NOW).unwrap();
    assert_eq!(facts.tcb, "ConfigurationAndSWHardeningNeeded");
    assert!(facts.device.is_some());
    assert_eq!(
        refusal(&intel.but(|it| it.rules.tcb.clear())),
        "WrongTcb",
        "a platform that is not patched"
    );
    intel.negatives();
}

#[test]
fn tdx_quote_of_real_hardware() {
    let intel = Intel::tdx();
    let facts = intel.verify_at(INTEL_NOW).unwrap();
    assert_eq!((facts.tcb.as_str(), facts.format), ("UpToDate", Format::Tdx));
    assert!(facts.device.is_some());
    intel.negatives();
}

/// An AMD report, with what its verifier takes.
#[derive(Clone)]
struct Amd {
    report: Vec<u8>,
    vek: Vec<u8>,
    ask: Vec<u8>,
    rules: Rules,
    report_data: Vec<u8>,
}

/// What is wrong with it.
type Change = fn(&mut Amd);

const AMD_NOW: Timestamp = Timestamp(1_751_500_000);

impl Amd {
    fn milan() -> Self {
        let report = hex::decode(sample("report_milan.hex")).unwrap();
        Self {
            vek: sample("vcek_milan.der"),
            ask: pem("milan-ask.pem"),
            rules: Rules {
                roots: vec![pem("milan-ark.pem").into()],
                measurements: vec![report[0x90..0xc0].to_vec()],
                ..Rules::default()
            },
            report_data: report[0x50..0x90].to_vec(),
            report,
        }
    }

    fn verify_at(&self, now: Timestamp) -> Verdict {
        let evidence = json!({
            "report": Bytes::from(self.report.clone()),
            "vek": Bytes::from(self.vek.clone()),
            "ask": Bytes::from(self.ask.clone()),
        });
        let verifier = SevSnp::new(self.rules.clone());
        verifier.verify(
            &serde_json::to_vec(&evidence).unwrap(),
            &expected(&self.report_data),
            now,
        )
    }

    fn but(&self, change: impl FnOnce(&mut Self)) -> Verdict {
        let mut other = self.clone();
        change(&mut other);
        other.verify_at(AMD_NOW)
    }
}

#[test]
fn sev_snp_report_of_real_hardware() {
    let amd = Amd::milan();
    let facts = amd.verify_at(AMD_NOW).unwrap();
    assert_eq!(facts.measurement, amd.rules.measurements[0]);
    assert!(facts.device.is_some());

    for (now, why) in [(1_680_000_000, "not begun"), (1_910_000_000, "expired")] {
        assert_eq!(refusal(&amd.verify_at(Timestamp(now))), "OutOfTime", "{why}");
    }
    let cases: [(&str, &str, Change); 12] = [
        ("BadSignature", "a flipped bit of the signature", |it| {
            it.report[0x2a0] ^= 1;
        }),
        ("BadSignature", "a flipped bit of what is signed", |it| {
            it.report[0xc0] ^= 1;
        }),
        ("DebugMode", "debugging allowed", |it| it.report[10] |= 1 << 3),
        ("DebugMode", "a migration agent", |it| it.report[10] |= 1 << 2),
        ("DebugMode", "below another privilege level", |it| {
            it.report[0x30] = 1;
        }),
        ("WrongMeasurement", "another program", |it| {
            it.rules.measurements = vec![vec![0; 48]];
        }),
        ("WrongReportData", "another wallet", |it| it.report_data[0] ^= 1),
        ("WrongReportData", "about something more", |it| {
            it.report[0x8f] ^= 1;
        }),
        ("WrongChain", "another generation's root", |it| {
            it.rules.roots = vec![pem("genoa-ark.pem").into()];
        }),
        ("WrongChain", "another generation's intermediate", |it| {
            it.ask = pem("genoa-ask.pem");
        }),
        ("WrongTcb", "an old platform", |it| {
            it.rules.min_snp_tcb = SnpTcb {
                microcode: 255,
                ..SnpTcb::default()
            };
        }),
        ("Malformed", "a part of it", |it| it.report.truncate(1_000)),
    ];
    for (rule, why, change) in cases {
        assert_eq!(refusal(&amd.but(change)), rule, "{why}");
    }
    // The chip's id, and the versions that its key was derived from, are in its certificate.
    assert_eq!(
        refusal(&amd.but(|it| it.report[0x1a0] ^= 1)),
        "WrongChain",
        "another chip"
    );
    assert_eq!(
        refusal(&amd.but(|it| it.report[0x187] ^= 1)),
        "WrongTcb",
        "another microcode"
    );
}

const NITRO_NOW: Timestamp = Timestamp(1_736_179_625);

fn nitro_rules() -> Rules {
    Rules {
        roots: vec![sample("nitro-root.der").into()],
        max_collateral_age: Seconds(300),
        ..Rules::default()
    }
}

#[test]
fn nitro_document_of_real_hardware() {
    let document = sample("nitro.cose");
    let opened = Nitro::new(nitro_rules()).open(&document, NITRO_NOW).unwrap();
    assert_eq!(opened.module, "i-0bee92034f3d60691-enc01943c5eaab3ad6a");
    assert_eq!(opened.made_at, NITRO_NOW);
    // It is about no wallet: nobody put anything into it.
    let rules = Rules {
        measurements: vec![opened.registers[&0].clone()],
        ..nitro_rules()
    };
    let verdict = Nitro::new(rules.clone()).verify(&document, &expected(&[0; 32]), NITRO_NOW);
    assert_eq!(refusal(&verdict), "WrongReportData");
    let other = Rules {
        measurements: vec![vec![1; 48]],
        ..rules.clone()
    };
    let verdict = Nitro::new(other).verify(&document, &expected(&[0; 32]), NITRO_NOW);
    assert_eq!(refusal(&verdict), "WrongMeasurement");
    let late = Nitro::new(rules.clone()).verify(&document, &expected(&[0; 32]), Timestamp(NITRO_NOW.0 + 301));
    assert_eq!(refusal(&late), "TooOld");

    let open = |document: &[u8], now: u64| {
        let opened = Nitro::new(rules.clone()).open(document, Timestamp(now));
        let text = format!("{:?}", opened.unwrap_err());
        text.split([' ', '(']).next().unwrap().to_owned()
    };
    for now in [NITRO_NOW.0 - 86_400, NITRO_NOW.0 + 86_400] {
        assert_eq!(open(&document, now), "OutOfTime", "certificates at {now}");
    }
    let mut flipped = document.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(open(&flipped, NITRO_NOW.0), "BadSignature");
    // The module's id is at the begin of what is signed.
    let mut flipped = document.clone();
    let at = document.windows(4).position(|part| part == b"i-0b").unwrap();
    flipped[at + 3] ^= 1;
    assert_eq!(open(&flipped, NITRO_NOW.0), "BadSignature");
    assert_eq!(open(&document[..document.len() - 1], NITRO_NOW.0), "Malformed");
    let mut longer = document.clone();
    longer.push(0);
    assert_eq!(open(&longer, NITRO_NOW.0), "Malformed");
    let strangers = Rules {
        roots: vec![sample("intel-root.der").into()],
        ..rules
    };
    let opened = Nitro::new(strangers).open(&document, NITRO_NOW);
    assert!(matches!(opened, Err(AttestationError::WrongChain { .. })));
}

/// An enclave of our own, under a root of our own: what no sample shows.
struct Enclave {
    root: Vec<u8>,
    middle: Vec<u8>,
    leaf: Vec<u8>,
    key: KeyPair,
}

impl Enclave {
    /// `authority`: whether the certificate in the middle may certify.
    fn new(authority: bool) -> Self {
        let params = |name: &str, ca: IsCa| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = ca;
            params.not_before = rcgen::date_time_ymd(2024, 1, 1);
            params.not_after = rcgen::date_time_ymd(2026, 1, 1);
            params
        };
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let ca = || IsCa::Ca(BasicConstraints::Unconstrained);
        let (root_key, middle_key, leaf_key) = (key(), key(), key());
        let root_params = params("root", ca());
        let root = root_params.self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(root_params, root_key);
        let middle_params = params("middle", if authority { ca() } else { IsCa::NoCa });
        let middle = middle_params.signed_by(&middle_key, &root_issuer).unwrap();
        let middle_issuer = Issuer::new(middle_params, middle_key);
        let leaf = params("leaf", IsCa::NoCa)
            .signed_by(&leaf_key, &middle_issuer)
            .unwrap();
        Self {
            root: root.der().to_vec(),
            middle: middle.der().to_vec(),
            leaf: leaf.der().to_vec(),
            key: leaf_key,
        }
    }

    fn document(&self, image: &[u8], user_data: &[u8]) -> Vec<u8> {
        let mut payload = minicbor::Encoder::new(Vec::new());
        payload.map(7).unwrap();
        payload.str("module_id").unwrap().str("test").unwrap();
        payload.str("digest").unwrap().str("SHA384").unwrap();
        payload.str("timestamp").unwrap().u64(NITRO_NOW.0 * 1000).unwrap();
        payload.str("pcrs").unwrap().map(1).unwrap();
        payload.u64(0).unwrap().bytes(image).unwrap();
        payload.str("certificate").unwrap().bytes(&self.leaf).unwrap();
        payload.str("cabundle").unwrap().array(2).unwrap();
        payload.bytes(&self.root).unwrap().bytes(&self.middle).unwrap();
        payload.str("user_data").unwrap().bytes(user_data).unwrap();
        let payload = payload.into_writer();
        let protected = [0xa1, 0x01, 0x38, 0x22];
        let mut message = minicbor::Encoder::new(Vec::new());
        message.array(4).unwrap().str("Signature1").unwrap();
        message.bytes(&protected).unwrap().bytes(&[]).unwrap();
        message.bytes(&payload).unwrap();
        let der = self.key.sign(&message.into_writer()).unwrap();
        let mut document = minicbor::Encoder::new(Vec::new());
        document.array(4).unwrap().bytes(&protected).unwrap();
        document.map(0).unwrap().bytes(&payload).unwrap();
        document.bytes(&fixed(&der)).unwrap();
        document.into_writer()
    }

    fn verify(&self, image: &[u8], user_data: &[u8]) -> Verdict {
        let rules = Rules {
            roots: vec![self.root.clone().into()],
            measurements: vec![vec![5; 48]],
            max_collateral_age: Seconds(300),
            ..Rules::default()
        };
        let document = self.document(image, user_data);
        Nitro::new(rules).verify(&document, &expected(&[9; 32]), NITRO_NOW)
    }
}

/// An X.509 signature as COSE has it.
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut out = Vec::new();
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        out.extend(vec![0; 48 - number.len()]);
        out.extend(number);
        rest = &rest[2 + length..];
    }
    out
}

#[test]
fn nitro_enclave_of_a_wallet() {
    let enclave = Enclave::new(true);
    let facts = enclave.verify(&[5; 48], &[9; 32]).unwrap();
    assert_eq!((facts.measurement, facts.tcb.as_str()), (vec![5; 48], "test"));
    assert_eq!(refusal(&enclave.verify(&[0; 48], &[9; 32])), "DebugMode");
    assert_eq!(refusal(&enclave.verify(&[], &[9; 32])), "DebugMode");
    assert_eq!(refusal(&enclave.verify(&[6; 48], &[9; 32])), "WrongMeasurement");
    assert_eq!(refusal(&enclave.verify(&[5; 48], &[8; 32])), "WrongReportData");
    assert_eq!(refusal(&enclave.verify(&[5; 48], &[9; 31])), "WrongReportData");
    // Whoever has a certificate of an enclave cannot certify another one with it.
    assert_eq!(
        refusal(&Enclave::new(false).verify(&[5; 48], &[9; 32])),
        "WrongChain"
    );
}
