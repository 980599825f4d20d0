//! `make bench`: times the steps of the channel with criterion, compares them with bare hashes and signatures of the same
//! run, sells with and without a store, and prints and writes the report. With further arguments
//! (`cargo bench -p micropay-bench --bench channel -- accept`) it is criterion alone.
#![allow(clippy::print_stdout, reason = "the table is the point")]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use criterion::Criterion;
use eyre::{ContextCompat, Result, ensure};
use micropay_bench::channel::report::{Compared, OpenReceipts, Payer, Report, Row};
use micropay_bench::channel::{Opened, Town, durable, item};
use micropay_bench::clock::{ThreadTime, thread_time};
use micropay_bench::ratio::{self, Ratio};
use protocol::channel::{
    Accepted, CHECKPOINT_EVERY, Chain, Index, Keccak, Lock, LockTree, LockedReceipt, MAX_LENGTH, Payment,
    Sigma, Tag, VendorChannel, chain_seed, lock, open_receipts, previous, transcript,
};

type Bench = Criterion<ThreadTime>;

/// Receipts that one opener opens.
const RECEIPTS: u32 = 10_000;
/// Inputs that rows take in turn.
const INPUTS: usize = 512;
/// Rounds in which two things take turns.
const ROUNDS: usize = 60;

/// The table.
const ROWS: &[Row] = &[
    ("hash", "one link of the chain hashed (keccak, 64 bytes)"),
    ("accept", "accept: the word and all other rules"),
    ("deliver", "accept and deliver: the transcript, too"),
    ("word", "the client's next word, chain of 2^20"),
    ("sign", "k256 sign, a receipt's digest"),
    ("lock", "sign, lock, tag"),
    ("receipt", "transcript, digest, sign, lock, tag"),
    ("pay", "the client's step: word, receipt, new state"),
    ("verify", "libsecp256k1 verify, the same signatures"),
    ("checkpoint", "checkpoint of 64 locks: root and signature"),
    ("root", "Merkle root of 64 locks"),
];

/// Payments with what both sides know of them.
struct Sold {
    town: Town,
    opened: Opened,
    payments: Vec<Payment>,
    receipts: Vec<LockedReceipt>,
    /// The vendor before each payment.
    before: Vec<VendorChannel>,
    signed: Vec<Signed>,
}

/// A receipt's digest and signature, parsed for every library.
struct Signed {
    digest: B256,
    previous: Sigma,
    index: Index,
    message: secp256k1::Message,
    signature: secp256k1::ecdsa::Signature,
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
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let sold = Sold::new()?;
    sold.vendor_rows(&mut bench);
    sold.client_rows(&mut bench)?;
    sold.checkpoint_rows(&mut bench)?;

    // Run by `make bench`, and not for a part of it.
    if !std::env::args().skip(1).eq(["--bench"]) {
        return Ok(());
    }
    fs::create_dir_all(&folder)?;
    let compared = Compared {
        accept_over_hash: sold.accept_over_hash(),
        lock_over_sign: sold.over_sign(|signed| sold.lock(signed)),
        receipt_over_sign: sold.over_sign(|signed| sold.receipt(signed)),
        pay_over_sign: sold.pay_over_sign()?,
        open_receipts: sold.open_receipts()?,
        payer: payer(&sold.opened)?,
        vendor: durable::run(&folder)?,
    };
    let report = Report::read(&criterion_folder, ROWS, compared)?;
    let path = folder.join("channel.json");
    report.write(&path)?;
    println!("{report}\n{}", path.display());
    Ok(())
}

impl Sold {
    fn new() -> Result<Self> {
        let town = Town::default();
        let mut opened = town.open(0, RECEIPTS)?;
        let (fresh, sigma0) = (opened.clone(), opened.admitted.sigma0());
        let payments = opened.payments(&town, RECEIPTS)?;
        let receipts: Vec<_> = payments.iter().map(Payment::receipt).collect();
        let mut vendor = fresh.vendor;
        let mut before = Vec::new();
        for payment in &payments {
            before.push(vendor);
            vendor = town.accept(&fresh.record, &vendor, *payment)?.delivered().channel;
        }
        let found = open_receipts(
            &town.domain,
            &fresh.admitted,
            &receipts,
            &opened.client.opener(),
            2,
        );
        ensure!(
            found.ends_in_sigma0,
            "the receipts do not open: {:?}",
            found.stopped
        );
        let mut previous = sigma0;
        let signed = found.receipts.iter().map(|receipt| {
            let signed = Signed {
                digest: receipt.digest,
                previous,
                index: receipt.receipt.index,
                message: secp256k1::Message::from_digest(receipt.digest.0),
                signature: secp256k1::ecdsa::Signature::from_compact(&receipt.sigma.to_bytes())?,
            };
            previous = receipt.sigma;
            Ok(signed)
        });
        Ok(Self {
            signed: signed.collect::<Result<_>>()?,
            town,
            opened: Opened {
                client: opened.client,
                ..fresh
            },
            payments,
            receipts,
            before,
        })
    }

    fn vendor_rows(&self, bench: &mut Bench) {
        let inputs: Vec<_> = self.inputs().collect();
        each(bench, "hash", &inputs, |(_, payment)| {
            previous(payment.word, payment.channel)
        });
        each(bench, "accept", &inputs, |(before, payment)| {
            self.accept(before, payment)
        });
        each(bench, "deliver", &inputs, |(before, payment)| {
            self.accept(before, payment).delivered()
        });
        let public = self.public();
        each(bench, "verify", &self.signed, |one| {
            secp256k1::ecdsa::verify(&one.signature, one.message, &public)
        });
    }

    fn client_rows(&self, bench: &mut Bench) -> Result<()> {
        let signed = &self.signed[..INPUTS];
        each(bench, "sign", signed, |one| self.opened.key.sign(one.digest));
        each(bench, "lock", signed, |one| self.lock(one));
        each(bench, "receipt", signed, |one| self.receipt(one));
        let fresh = self.town.open(1, MAX_LENGTH.0)?;
        let mut chain = fresh.chain.clone();
        bench.bench_function("channel_word", |bencher| {
            bencher.iter(|| {
                let next = chain.position().plus(1).filter(|next| *next <= MAX_LENGTH);
                if next.is_none() {
                    chain = fresh.chain.clone();
                }
                chain.word(next.unwrap_or(Index(1)))
            });
        });
        let (mut opened, mut number) = (fresh, 0);
        bench.bench_function("channel_pay", |bencher| {
            bencher.iter(|| {
                number += 1;
                opened.pay(&self.town, item(number % INPUTS as u64))
            });
        });
        Ok(())
    }

    fn checkpoint_rows(&self, bench: &mut Bench) -> Result<()> {
        let locks = &self.receipts[..CHECKPOINT_EVERY as usize];
        bench.bench_function("channel_root", |bencher| {
            bencher.iter(|| LockTree::over(black_box(locks), Index::ZERO).map(|tree| tree.root()));
        });
        let (town, mut opened) = (&self.town, self.town.open(2, RECEIPTS)?);
        opened.payments(town, CHECKPOINT_EVERY)?;
        bench.bench_function("channel_checkpoint", |bencher| {
            bencher.iter(|| {
                let root = LockTree::over(black_box(locks), Index::ZERO).map(|tree| tree.root());
                opened.client.checkpoint(
                    &town.domain,
                    &opened.key,
                    &mut opened.chain,
                    root.unwrap_or_default(),
                )
            });
        });
        Ok(())
    }

    fn accept(&self, before: &VendorChannel, payment: &Payment) -> Accepted {
        self.town
            .accept(&self.opened.record, before, *payment)
            .expect("payments are good")
    }

    /// From the digest on: signature, lock, tag.
    fn lock(&self, signed: &Signed) -> (Lock, Tag) {
        let sigma = Sigma::from(&self.opened.key.sign(signed.digest));
        let id = self.opened.admitted.permit().channel();
        (
            lock::<Keccak>(&signed.previous, &sigma),
            Tag::of(id, signed.index, &sigma),
        )
    }

    /// All that a receipt takes.
    fn receipt(&self, signed: &Signed) -> (Lock, Tag) {
        let permit = self.opened.admitted.permit();
        let (receipt, before) = (
            &self.receipts[signed.index.0 as usize - 1],
            self.before[signed.index.0 as usize - 1].delivered.transcript,
        );
        let so_far = transcript(before, receipt.item);
        let fields = receipt.receipt(permit.channel(), permit.unit(), so_far);
        let digest = self.town.domain.receipt_digest(&fields);
        debug_assert_eq!(digest, signed.digest);
        self.lock(&Signed { digest, ..*signed })
    }

    fn inputs(&self) -> impl Iterator<Item = (VendorChannel, Payment)> + '_ {
        self.before
            .iter()
            .copied()
            .zip(self.payments.iter().copied())
            .take(INPUTS)
    }

    fn accept_over_hash(&self) -> Ratio {
        let inputs: Vec<_> = self.inputs().collect();
        // Turns of half a millisecond, so that few are interrupted.
        ratio::measure(
            ROUNDS * 16,
            || {
                for (before, payment) in &inputs {
                    black_box(self.accept(black_box(before), black_box(payment)));
                }
            },
            || {
                for (_, payment) in &inputs {
                    black_box(previous(black_box(payment).word, payment.channel));
                }
            },
        )
    }

    fn over_sign<T>(&self, step: impl Fn(&Signed) -> T) -> Ratio {
        let signed = &self.signed[..128];
        ratio::measure(
            ROUNDS,
            || {
                for one in signed {
                    black_box(step(black_box(one)));
                }
            },
            || self.sign(signed),
        )
    }

    fn pay_over_sign(&self) -> Result<Ratio> {
        let mut opened = self.town.open(3, MAX_LENGTH.0)?;
        let signed = &self.signed[..128];
        let mut number = 0;
        Ok(ratio::measure(
            ROUNDS,
            || {
                for _ in signed {
                    number += 1;
                    assert!(black_box(opened.pay(&self.town, item(number))).is_ok());
                }
            },
            || self.sign(signed),
        ))
    }

    fn sign(&self, signed: &[Signed]) {
        for one in signed {
            black_box(self.opened.key.sign(black_box(one.digest)));
        }
    }

    fn open_receipts(&self) -> Result<OpenReceipts> {
        const TURNS: usize = 5;
        let opener = self.opened.client.opener();
        let open = |threads| {
            let opened = open_receipts(
                &self.town.domain,
                &self.opened.admitted,
                &self.receipts,
                &opener,
                threads,
            );
            assert!(black_box(opened).ends_in_sigma0);
        };
        let public = self.public();
        let over_verify = ratio::measure(
            TURNS,
            || open(1),
            || {
                for one in &self.signed {
                    let verified = secp256k1::ecdsa::verify(&one.signature, one.message, &public);
                    assert!(black_box(verified).is_ok());
                }
            },
        );
        let wall = |threads| {
            let start = Instant::now();
            open(threads);
            start.elapsed().as_secs_f64() * 1e6 / f64::from(RECEIPTS)
        };
        let turns: Vec<_> = (0..TURNS).map(|_| (wall(1), wall(2))).collect();
        let best = |times: &mut dyn Iterator<Item = f64>| times.fold(f64::INFINITY, f64::min);
        Ok(OpenReceipts {
            receipts: self.receipts.len(),
            over_verify,
            one_thread_us: best(&mut turns.iter().map(|turn| turn.0)),
            two_threads_us: best(&mut turns.iter().map(|turn| turn.1)),
            speedup: Ratio::of(turns.iter().map(|(one, two)| one / two).collect()),
        })
    }

    fn public(&self) -> secp256k1::PublicKey {
        let secret = secp256k1::SecretKey::from_secret_bytes(*self.opened.key.to_bytes());
        secp256k1::PublicKey::from_secret_key(&secret.expect("it signs"))
    }
}

/// What the longest chain costs.
fn payer(opened: &Opened) -> Result<Payer> {
    let (id, length) = (opened.admitted.permit().channel(), MAX_LENGTH);
    let seed = chain_seed(&opened.key, id, 0, length);
    let rebuild = |position| -> Result<(Chain, f64)> {
        let start = thread_time();
        let chain = Chain::at(seed.clone(), id, length, position)?;
        Ok((chain, (thread_time() - start).as_secs_f64() * 1e3))
    };
    let (_, rebuild_middle_ms) = rebuild(Index(length.0 / 2))?;
    let (mut chain, rebuild_ms) = rebuild(Index::ZERO)?;
    let (nodes, bytes) = (chain.nodes(), chain.bytes());
    let (mut sum, mut max) = (0u64, 0);
    let start = thread_time();
    for index in 1..=length.0 {
        let (_, hashes) = chain.word_counted(Index(index))?;
        sum += u64::from(hashes);
        max = max.max(hashes);
    }
    let spent = thread_time() - start;
    Ok(Payer {
        length: length.0,
        nodes,
        bytes,
        hashes_mean: sum as f64 / f64::from(length.0),
        hashes_max: max,
        word_us: spent.as_secs_f64() * 1e6 / f64::from(length.0),
        rebuild_ms,
        rebuild_middle_ms,
    })
}

/// A row whose iterations take the inputs in turn.
fn each<T, O>(bench: &mut Bench, name: &str, inputs: &[T], step: impl Fn(&T) -> O) {
    let mut inputs = inputs.iter().cycle();
    bench.bench_function(&format!("channel_{name}"), |bencher| {
        bencher.iter(|| inputs.next().map(|input| step(black_box(input))));
    });
}
