//! The experiment on a stopwatch that counts its readings, so that everything it prints is exact. And the paper's claims,
//! each computed from the paper's own numbers.

use std::cell::Cell;
use std::time::Duration;

use protocol::channel::{
    Chain, ClientChannel, Index, LockedReceipt, Sigma, chain_seed, lock, open_receipts, unlock,
};
use serde_json::Value;

use super::phases::World;
use super::*;

/// Every reading is a millisecond after the one before; the wall's clock runs at a quarter of the speed.
#[derive(Default)]
struct Counting(Cell<u32>);

impl Stopwatch for Counting {
    fn cpu(&self) -> Duration {
        self.0.set(self.0.get() + 1);
        Duration::from_millis(self.0.get().into())
    }

    fn wall(&self) -> Duration {
        self.cpu() / 4
    }
}

fn case(transactions: u32) -> Case {
    Case {
        seed: Seed(7),
        transactions,
        amount: DOLLAR,
    }
}

fn report() -> Report {
    let experiment = Experiment::new(vec![50, 10], 3, Seed(1)).unwrap();
    experiment.run(&Counting::default(), |_, _| {}).unwrap()
}

/// The steps here are those of the protocol's own functions, cut into pieces.
#[test]
fn steps_in_pieces_are_those_in_one_piece() {
    let run = Profile::Keccak.run(&case(23), &Counting::default()).unwrap();
    let World {
        domain, receipt_key, ..
    } = &World::new(Seed(7));
    let id = run.admitted.permit().channel();
    let seed = chain_seed(receipt_key, id, 0, Index(23));
    let mut chain = Chain::from_seed(seed, id, Index(23)).unwrap();
    let mut client = ClientChannel::open(run.admitted.clone());
    for payment in &run.payments {
        let prepared = client
            .pay(
                domain,
                receipt_key,
                &mut chain,
                payment.item,
                1,
                payment.issued_at,
            )
            .unwrap();
        let (channel, sent) = prepared.send();
        assert_eq!(sent, *payment);
        client = channel.acknowledge(sent.tag).unwrap();
    }
    assert_eq!(client.opener(), run.opener);
    let receipts: Vec<LockedReceipt> = run.payments.iter().map(|payment| payment.receipt()).collect();
    let opened = open_receipts(domain, &run.admitted, &receipts, &run.opener, 1);
    assert!(opened.ends_in_sigma0);
    let sigmas: Vec<Sigma> = opened.receipts.iter().map(|receipt| receipt.sigma).collect();
    assert_eq!(sigmas, run.opened);
    assert_eq!(run.vendor.delivered.transcript, client.acknowledged().transcript);
    assert_eq!(run.vendor.paid.index, Index(23));
}

#[test]
fn what_is_recorded_is_what_is_sent() {
    let run = Profile::Keccak.run(&case(3), &Counting::default()).unwrap();
    let sent: Vec<u8> = run
        .payments
        .iter()
        .flat_map(|payment| size::binary(&size::payment(payment)))
        .collect();
    assert_eq!(run.recorded, sent);
}

/// The profile changes locks and nothing else; both open to the same signatures.
#[test]
fn profiles_differ_in_locks_alone() {
    let [keccak, sha3] = Profile::ALL.map(|profile| profile.run(&case(9), &Counting::default()).unwrap());
    assert_eq!(keccak.opened, sha3.opened);
    for (a, b) in keccak.payments.iter().zip(&sha3.payments) {
        assert_ne!(a.lock, b.lock);
        assert_eq!(protocol::channel::Payment { lock: b.lock, ..*a }, *b);
    }
}

#[test]
fn the_seed_decides_everything_but_time() {
    let sent = |seed| {
        let case = Case {
            seed: Seed(seed),
            ..case(4)
        };
        Profile::Keccak.run(&case, &Counting::default()).unwrap().payments
    };
    assert_eq!(sent(1), sent(1));
    assert_ne!(sent(1)[0].word, sent(2)[0].word);
    let (one, two) = (report(), report());
    assert_eq!(one.to_string(), two.to_string());
    assert_eq!((one.csv(), one.figures()), (two.csv(), two.figures()));
}

#[test]
fn bytes_by_part() {
    let sizes = &report().sizes[1];
    assert_eq!(sizes.transactions, 50);
    let parts: Vec<_> = sizes
        .payment
        .parts
        .iter()
        .map(|part| (part.name, part.binary))
        .collect();
    assert_eq!(
        parts,
        [
            ("channelId", 32.0),
            ("index", 4.0),
            ("word", 32.0),
            ("itemHash", 32.0),
            ("issuedAt", 8.0),
            ("lock", 64.0),
            ("tag", 32.0),
        ]
    );
    assert_eq!(sizes.payment.binary, 204.0);
    assert_eq!(sizes.opener.binary, 100.0);
    // The JSON is JSON, and as long as its parts and a brace more (each part has its comma counted, the last has none).
    let run = Profile::Keccak.run(&case(1), &Counting::default()).unwrap();
    let parts = size::payment(&run.payments[0]);
    let json = size::json(&parts);
    let parsed: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed["index"], "1");
    let size = MessageSize::average([parts]);
    let sum: f64 = size.parts.iter().map(|part| part.json).sum();
    assert_eq!(sum + 1.0, json.len() as f64);
    assert_eq!([0, 1, 2, 3, 4].map(size::base64), [0, 2, 3, 4, 6]);
}

/// C-17: one signature's length is counted, and ten locks are sent.
#[test]
fn table_4_counts_one_signature_of_ten() {
    assert_eq!(paper::table_4_ours(), 64 + 320 + 4 + 288);
    assert_eq!(paper::protocol_as_printed(), 10 * (32 + 32 + 64));
    assert!(10 * paper::LOCK_BYTES > paper::table_4_ours() - 320 - 4);
    let ours = report().table_4;
    assert_eq!((ours.client, ours.client_least), (2_140.0, 1_280.0));
}

/// C-17: 14 µs for a signature in Python, or 1,400 s for the row.
#[test]
fn table_3_is_for_one_transaction_or_for_ten_thousand() {
    let [_, transaction, release] = paper::SECONDS;
    assert!((paper::us_each(transaction) - 14.0).abs() < 1e-9);
    assert!((paper::us_each(release) - 0.4).abs() < 1e-9);
    assert_eq!((transaction * 10_000.0).round(), 1_400.0);
}

/// C-17: less than a lock, whatever a kb is.
#[test]
fn table_3_sends_less_than_a_lock() {
    let each = paper::each(paper::KILO[1]);
    assert!((each - 47.6).abs() < 1e-9);
    assert!(each < paper::LOCK_BYTES as f64 && each < paper::LOCK_BYTES as f64 * 8.0);
}

/// The amount is in no message but the permit, and there as wide as any other.
#[test]
fn the_amount_cannot_change_the_cost() {
    let runs = AMOUNTS.map(|dollars| {
        let case = Case {
            amount: DOLLAR.saturating_mul(dollars.into()),
            ..case(12)
        };
        Profile::Sha3_512.run(&case, &Counting::default()).unwrap()
    });
    let lengths = runs.each_ref().map(|run| {
        let payments: Vec<_> = run
            .payments
            .iter()
            .map(|payment| size::binary(&size::payment(payment)).len())
            .collect();
        (payments, size::binary(&size::permit(&run.admitted)).len())
    });
    assert!(lengths.windows(2).all(|pair| pair[0] == pair[1]));
    // The words do not depend on it, but the receipts do: it is signed.
    assert_ne!(runs[0].payments[0].tag, runs[1].payments[0].tag);
    assert_eq!(report().measured.payment_bytes, [204.0; 3]);
}

/// C-1: with `lk_n := σ_n` the lock on `σ_(n-1)` is never sent.
#[test]
fn the_paper_releases_nothing_with_nothing() {
    let run = Profile::Sha3_512.run(&case(6), &Counting::default()).unwrap();
    let sigmas = &run.opened;
    // lk_i = σ_(i-1) ⊕ H(σ_i) for i < n, as printed; the vendor has σ_n.
    let before = [run.admitted.sigma0()].into_iter().chain(sigmas.iter().copied());
    let printed: Vec<_> = before
        .zip(sigmas)
        .map(|(before, sigma)| lock::<Sha3_512>(&before, sigma))
        .take(sigmas.len() - 1)
        .collect();
    let known = sigmas.last().unwrap();
    for lock in printed {
        let opened = unlock::<Sha3_512>(&lock, known);
        assert!(sigmas.iter().all(|sigma| sigma.to_bytes() != opened));
    }
}

#[test]
fn nine_hundred_operations_would_fit() {
    assert_eq!((paper::per_operation(paper::SECONDS[1]) * 1e6).round(), 156.0);
    assert_eq!((paper::per_operation(paper::KILO[0]) * 1e3).round(), 346.0);
    assert_eq!((paper::per_operation(paper::KILO[1]) * 1e3).round(), 529.0);
}

#[test]
fn csv_has_a_row_for_each_step_of_each_run() {
    let report = report();
    let csv = report.csv();
    let mut lines = csv.lines();
    let columns = lines.next().unwrap().split(',').count();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 2 * 3 * 2 * 3 * Step::ALL.len());
    assert!(rows.iter().all(|row| row.len() == columns));
    // What is sent adds up to Table 3.
    let sent: f64 = rows
        .iter()
        .filter(|row| row[..4] == ["keccak", "10", "50", "1"] && row[4] == "transaction")
        .map(|row| row[9].parse::<f64>().unwrap())
        .sum();
    assert_eq!(sent, 50.0 * 204.0);
    assert_eq!(report.table_3[1].binary_bytes, sent);
    // Nothing is read between the readings of the processor's time.
    assert!(rows.iter().all(|row| row[7] == "0.001000000"), "{csv}");
}

#[test]
fn figures_show_every_point() {
    let report = report();
    let figures = report.figures();
    let files: Vec<&str> = figures.iter().map(|figure| figure.file.as_str()).collect();
    assert_eq!(
        files,
        [
            "figure-4-setup.svg",
            "figure-5-transaction.svg",
            "figure-6-release.svg"
        ]
    );
    for figure in figures {
        // Six lines of two points, and those of the legend.
        assert_eq!(figure.svg.matches("<polyline").count(), 6);
        assert_eq!(figure.svg.matches("<circle").count(), 4 * (2 + 1));
        assert!(!figure.svg.contains("NaN") && !figure.svg.contains("inf"));
    }
}

#[test]
fn the_report_says_what_it_says() {
    let report = report();
    let text = report.to_string();
    for words in [
        "Table 3.",
        "Table 4.",
        "Bytes of a payment",
        "Figures 4 to 6, locks by sha3-512",
        "10 × 64 = 640 bytes, of which one sig counts 64",
        "47.6 bits",
        "14.0 µs",
        "1400 s",
        "0.4 µs",
        "What cannot be right",
        "seed 1",
    ] {
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(words), "{words}: {text}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["table_3"][1]["phase"], "transaction");
    assert_eq!(json["points"].as_array().unwrap().len(), 2 * 3 * 2);
    assert_eq!(json["points"][0]["lock_hash"], "keccak");
    assert_eq!(report.warning(), None);
}

#[test]
fn nothing_is_not_measured() {
    for (counts, runs) in [(vec![], 1), (vec![0, 1], 1), (vec![1], 0), (vec![u32::MAX], 1)] {
        assert!(Experiment::new(counts, runs, Seed(0)).is_err());
    }
    assert_eq!(
        Experiment::new(vec![5, 1, 5], 1, Seed(0)).unwrap().counts(),
        [1, 5]
    );
}
