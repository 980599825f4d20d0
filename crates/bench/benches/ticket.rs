//! `make bench`: times the steps of the ticket scheme with criterion, compares them with bare signatures, runs the merchant
//! on one core, and prints and writes the report. With further arguments (`cargo bench -p micropay-bench -- check`) it is
//! criterion alone.
#![allow(clippy::print_stdout, reason = "the table is the point")]

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use alloy_sol_types::SolCall;
use bindings::ticket::TicketEscrow::claimBatchCall;
use criterion::Criterion;
use eyre::{ContextCompat, Result};
use k256::ecdsa::signature::hazmat::PrehashVerifier;
use micropay_bench::clock::ThreadTime;
use micropay_bench::market::Market;
use micropay_bench::report::{Compared, Report, Row};
use micropay_bench::{durable, ratio, wire};
use protocol::ticket::{Drawn, Issued, Nonce, Seed, Session, SessionId, Ticket, groups, quote};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId, Signature};
use secp256k1::{Message, PublicKey, SecretKey, ecdsa};
use storage::{MemoryStore, StoreIdentity};

type Bench = Criterion<ThreadTime>;

const BATCH: u32 = 32;
/// Winners among the tickets that are checked, which are 128 times as many.
const WINNERS: usize = 10;
/// Rounds in which check and bare verification take turns.
const ROUNDS: usize = 60;
const PER_ROUND: usize = 256;

/// The table.
const ROWS: &[Row] = &[
    row("quote", "quote, live session", Some(3.7)),
    row("quote_new_session", "quote, new session", Some(84.9)),
    row("issue", "issue", Some(170.6)),
    row("check", "check, from ABI bytes", Some(437.6)),
    row("check_json", "check, from JSON", None),
    row("check_first", "check, first ticket of an escrow", None),
    Row {
        tickets: BATCH,
        ..row("claim_encoding", "claim encoding, batch of 32", None)
    },
    row("libsecp256k1_sign", "libsecp256k1 sign", None),
    row("libsecp256k1_verify", "libsecp256k1 verify", None),
    row("libsecp256k1_recover", "libsecp256k1 recover", None),
    row("k256_sign", "k256 sign", None),
    row("k256_verify", "k256 verify", None),
    row("k256_recover", "k256 recover", None),
];

const fn row(name: &'static str, label: &'static str, paper_us: Option<f64>) -> Row {
    Row {
        name,
        label,
        paper_us,
        tickets: 1,
    }
}

fn main() -> Result<()> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .wrap_err("no target folder")?;
    let (criterion_folder, folder) = (target.join("criterion"), target.join("bench"));
    let mut bench = Criterion::default()
        .with_measurement(ThreadTime)
        .output_directory(&criterion_folder)
        .without_plots()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let market = Market::new(1);
    let tickets = market.tickets(WINNERS)?;
    quote_rows(&mut bench, &market)?;
    issue_row(&mut bench, &market);
    check_rows(&mut bench, &market, &tickets)?;
    claim_row(&mut bench, &market)?;
    let bare = Bare::of(&market, &tickets)?;
    bare.rows(&mut bench);

    // Run by `make bench`, and not for a part of it.
    if !std::env::args().skip(1).eq(["--bench"]) {
        return Ok(());
    }
    fs::create_dir_all(&folder)?;
    let abi: Vec<_> = tickets.iter().map(wire::to_abi).collect();
    let json = tickets.iter().map(wire::to_json).collect::<Result<Vec<_>>>()?;
    let over_verify = BTreeMap::from([
        (
            "check",
            compare(&bare, &abi, |bytes| check_abi(&market, bytes, true)),
        ),
        (
            "check_json",
            compare(&bare, &json, |bytes| check_json(&market, bytes)),
        ),
        (
            "check_first",
            compare(&bare, &abi, |bytes| check_abi(&market, bytes, false)),
        ),
    ]);
    let compared = Compared {
        over_verify,
        durable: durable::run(&folder)?,
    };
    let report = Report::read(&criterion_folder, ROWS, compared)?;
    let path = folder.join("report.json");
    report.write(&path)?;
    println!("{report}\n{}", path.display());
    Ok(())
}

/// As `Merchant::quote` gives it: mirror, book, price. And with a session that has just been opened.
fn quote_rows(bench: &mut Bench, market: &Market) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let identity = StoreIdentity::merchant(market.domain, market.recipient);
    let merchant = runtime.block_on(market.merchant(MemoryStore::new(identity)))?;
    let escrow = market.escrows[0].key.address();
    merchant.quote(escrow, &market.price)?;
    bench.bench_function("quote", |bencher| {
        bencher.iter(|| merchant.quote(black_box(escrow), &market.price));
    });
    let (seed, mut id) = (Seed::new([7; 32]), SessionId::default());
    let offer = market.offer();
    bench.bench_function("quote_new_session", |bencher| {
        bencher.iter(|| {
            id.serial += 1;
            let session = Session::derive(&market.domain, &seed, market.recipient, escrow, black_box(id));
            quote(&session, &offer, &market.policy, Nonce(0))
        });
    });
    Ok(())
}

/// The payer's check of the quote, and the signed ticket.
fn issue_row(bench: &mut Bench, market: &Market) {
    let (quote, record) = (market.quote(0), &market.escrows[0].record);
    let mut nonce = 0;
    bench.bench_function("issue", |bencher| {
        bencher.iter(|| {
            nonce += 1;
            black_box(&quote)
                .check(record)
                .map(|()| market.issue_for(&quote, 0, nonce))
        });
    });
}

fn check_rows(bench: &mut Bench, market: &Market, tickets: &[Ticket<Issued>]) -> Result<()> {
    let abi: Vec<_> = tickets.iter().map(wire::to_abi).collect();
    let json = tickets.iter().map(wire::to_json).collect::<Result<Vec<_>>>()?;
    each(bench, "check", &abi, |bytes| check_abi(market, bytes, true));
    each(bench, "check_json", &json, |bytes| check_json(market, bytes));
    each(bench, "check_first", &abi, |bytes| {
        check_abi(market, bytes, false)
    });
    Ok(())
}

fn check_abi(market: &Market, bytes: &[u8], key_known: bool) -> Result<Drawn> {
    market.check(wire::from_abi(&market.domain, bytes)?, key_known)
}

fn check_json(market: &Market, bytes: &[u8]) -> Result<Drawn> {
    market.check(wire::from_json(&market.domain, bytes)?, true)
}

/// From stored winners to the call's data.
fn claim_row(bench: &mut Bench, market: &Market) -> Result<()> {
    let (winners, recipient) = (market.winners(BATCH as usize)?, market.recipient);
    bench.bench_function("claim_encoding", |bencher| {
        bencher.iter(|| {
            groups(black_box(&winners)).map(|groups| claimBatchCall { recipient, groups }.abi_encode())
        });
    });
    Ok(())
}

/// What bare signatures are measured on: the same tickets, everything parsed.
struct Bare {
    secret: SecretKey,
    public: PublicKey,
    signed: Vec<Signed>,
    k256_secret: k256::ecdsa::SigningKey,
}

struct Signed {
    message: Message,
    signature: Signature,
    recoverable: RecoverableSignature,
    digest: [u8; 32],
    k256: (k256::ecdsa::Signature, k256::ecdsa::RecoveryId),
}

impl Bare {
    fn of(market: &Market, tickets: &[Ticket<Issued>]) -> Result<Self> {
        let bytes = market.escrows[0].key.to_bytes();
        let secret = SecretKey::from_secret_bytes(*bytes)?;
        let signed = |ticket: &Ticket<Issued>| {
            let (digest, bytes) = (ticket.digest().0, ticket.signature().to_bytes());
            let odd = bytes[64] == 28;
            let id = if odd { RecoveryId::One } else { RecoveryId::Zero };
            Ok(Signed {
                message: Message::from_digest(digest),
                signature: Signature::from_compact(&bytes[..64])?,
                recoverable: RecoverableSignature::from_compact(&bytes[..64], id)?,
                digest,
                k256: (
                    k256::ecdsa::Signature::from_slice(&bytes[..64])?,
                    k256::ecdsa::RecoveryId::new(odd, false),
                ),
            })
        };
        Ok(Self {
            secret,
            public: PublicKey::from_secret_key(&secret),
            signed: tickets.iter().map(signed).collect::<Result<_>>()?,
            k256_secret: k256::ecdsa::SigningKey::from_slice(&bytes[..])?,
        })
    }

    fn verify(&self, signed: &Signed) -> bool {
        ecdsa::verify(&signed.signature, signed.message, &self.public).is_ok()
    }

    fn rows(&self, bench: &mut Bench) {
        let signed = &self.signed;
        each(bench, "libsecp256k1_sign", signed, |one| {
            ecdsa::sign(one.message, &self.secret)
        });
        each(bench, "libsecp256k1_verify", signed, |one| self.verify(one));
        each(bench, "libsecp256k1_recover", signed, |one| {
            one.recoverable.recover_ecdsa(one.message)
        });
        each(bench, "k256_sign", signed, |one| {
            self.k256_secret.sign_prehash_recoverable(&one.digest)
        });
        let public = *self.k256_secret.verifying_key();
        each(bench, "k256_verify", signed, |one| {
            public.verify_prehash(&one.digest, &one.k256.0)
        });
        each(bench, "k256_recover", signed, |one| {
            let (signature, id) = &one.k256;
            k256::ecdsa::VerifyingKey::recover_from_prehash(&one.digest, signature, *id)
        });
    }
}

/// A row whose iterations take the inputs in turn.
fn each<T, O>(bench: &mut Bench, name: &str, inputs: &[T], step: impl Fn(&T) -> O) {
    let mut inputs = inputs.iter().cycle();
    bench.bench_function(name, |bencher| {
        bencher.iter(|| inputs.next().map(|input| step(black_box(input))));
    });
}

/// How many times as long a check takes as bare verification of the same tickets.
fn compare<T>(bare: &Bare, messages: &[Vec<u8>], check: impl Fn(&[u8]) -> Result<T>) -> ratio::Ratio {
    let (mut messages, mut signed) = (messages.iter().cycle(), bare.signed.iter().cycle());
    ratio::measure(
        ROUNDS,
        || {
            for message in messages.by_ref().take(PER_ROUND) {
                assert!(black_box(check(black_box(message))).is_ok());
            }
        },
        || {
            for signed in signed.by_ref().take(PER_ROUND) {
                assert!(black_box(bare.verify(black_box(signed))));
            }
        },
    )
}
