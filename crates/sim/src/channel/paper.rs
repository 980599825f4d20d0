//! What the paper says of its own experiment (section 6, Tables 3 and 4), and what cannot be right in it: each claim is
//! computed from its numbers and from lengths that follow from the scheme (`channel.md` C-17), and where it says so from what
//! was measured here.

use std::fmt;

use protocol::channel::{Lock, Sigma};
use serde::Serialize;

/// Transactions that Table 3 is about.
pub const TRANSACTIONS: u32 = 10_000;
/// The most transactions that the experiment is said to have.
pub const MOST_TRANSACTIONS: u32 = 1_000;
/// "We ran 900 operations."
pub const OPERATIONS: u32 = 900;
/// Table 3: seconds of setup, transaction and release.
pub const SECONDS: [f64; 3] = [0.100, 0.140, 0.004];
/// Table 3: kb of setup, transaction and release.
pub const KILO: [f64; 3] = [311.0, 476.0, 0.0];
/// Transactions that Table 4 is about.
pub const TABLE_4_TRANSACTIONS: u32 = 10;
/// "We used 40-bit characters to represent bank-generated signature."
pub const SIGNATURE_BITS: u32 = 40;
/// "Each micropayment is under 10 dollars."
pub const AMOUNT_BELOW: u32 = 10;

/// Length of an ECDSA signature over a curve of 256 bits.
pub const SIGNATURE_BYTES: usize = Sigma::LENGTH;
/// Length of a lock: it hides a signature.
pub const LOCK_BYTES: usize = Lock::LENGTH;
/// Length of a hash, and of a coin, which is one.
pub const HASH_BYTES: usize = 32;
/// Length of a serial number.
pub const SERIAL_BYTES: usize = 4;

/// What was measured here that claims are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Digest and signature of one receipt, µs.
    pub receipt_us: f64,
    /// One lock opened with the paper's hash, its tag checked, µs.
    pub unlock_us: f64,
    /// One signature verified, µs.
    pub verify_us: f64,
    /// The most that a phase differs between amounts, as a part of it.
    pub between_amounts: f64,
    /// The most that a phase differs between runs with the same amount, as a part of it.
    pub between_runs: f64,
    /// Bytes of a payment, by amount, in rising order of amounts.
    pub payment_bytes: [f64; 3],
    /// Bytes of permit and request together.
    pub setup_bytes: f64,
}

/// Something that the paper says and that its own numbers contradict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// Where, and what.
    pub says: String,
    /// What follows.
    pub but: String,
}

/// Table 4's formula for its own scheme, `sig + 10f + s + 9h`, in bytes.
pub fn table_4_ours() -> usize {
    let n = TABLE_4_TRANSACTIONS as usize;
    SIGNATURE_BYTES + n * HASH_BYTES + SERIAL_BYTES + (n - 1) * HASH_BYTES
}

/// What the client sends by the paper's own protocol (section 4.3), in bytes: `{f_i, Tx_i, lk_i}` each time.
pub fn protocol_as_printed() -> usize {
    TABLE_4_TRANSACTIONS as usize * (HASH_BYTES + HASH_BYTES + LOCK_BYTES)
}

/// A time of Table 3 shared by its transactions, µs.
pub fn us_each(seconds: f64) -> f64 {
    seconds * 1e6 / f64::from(TRANSACTIONS)
}

/// A size of Table 3 shared by its transactions: bits if "kb" are kilobits, bytes if they are kilobytes.
pub fn each(kilo: f64) -> f64 {
    kilo * 1e3 / f64::from(TRANSACTIONS)
}

/// A figure of Table 3 shared by the 900 operations that were run.
pub fn per_operation(figure: f64) -> f64 {
    figure / f64::from(OPERATIONS)
}

/// What cannot be right.
pub fn claims(here: &Measured) -> Vec<Claim> {
    [
        signatures(),
        coins(),
        transaction_time(here),
        transaction_size(),
        setup_size(here),
        signature_length(),
        release(here),
        amounts(here),
        ranges(),
        nine_hundred(here),
    ]
    .into_iter()
    .map(|(says, but)| Claim {
        says: says.into(),
        but,
    })
    .collect()
}

fn signatures() -> (&'static str, String) {
    let (n, counted) = (TABLE_4_TRANSACTIONS as usize, SIGNATURE_BYTES);
    let sent = n * LOCK_BYTES;
    (
        "Table 4: ten transactions cost sig + 10f + s + 9h",
        format!(
            "each of them carries a lock, and a lock is as long as the signature that it hides: {n} × {LOCK_BYTES} = {sent} \
             bytes, of which one sig counts {counted}. {} bytes are missing, and with them 9 of the 10 Tx_i and serial \
             numbers; the formula makes {} bytes, section 4.3 sends {}",
            sent - counted,
            table_4_ours(),
            protocol_as_printed(),
        ),
    )
}

fn coins() -> (&'static str, String) {
    let coins = TABLE_4_TRANSACTIONS as usize * HASH_BYTES;
    (
        "Table 4: 10f in the client's column and 10f in the vendor's",
        format!(
            "each coin is sent once, by the client: {coins} bytes are counted twice, and the vendor sends none"
        ),
    )
}

fn transaction_time(here: &Measured) -> (&'static str, String) {
    let [_, seconds, _] = SECONDS;
    let (each, all) = (us_each(seconds), seconds * f64::from(TRANSACTIONS));
    (
        "Table 3: 0.140 s for 10,000 transactions; the text: 0.140 s on average for one",
        format!(
            "the two are a factor of 10,000 apart. As a total it leaves {each:.1} µs for a transaction, in Python, \
             with a signature, which takes {:.1} µs here, in compiled code; as an average it makes {all:.0} s of 10,000 \
             transactions, and the row is not about them",
            here.receipt_us
        ),
    )
}

fn transaction_size() -> (&'static str, String) {
    let [_, kilo, _] = KILO;
    let (each, bits) = (each(kilo), LOCK_BYTES * 8);
    (
        "Table 3: 476 kb for 10,000 transactions",
        format!(
            "that is {each:.1} bits for one if kb are kilobits, and {each:.1} bytes if they are kilobytes; the lock alone has \
             {bits} bits, {LOCK_BYTES} bytes"
        ),
    )
}

fn setup_size(here: &Measured) -> (&'static str, String) {
    let [kilo, ..] = KILO;
    let (bits, bytes) = (kilo * 1e3 / 8.0, kilo * 1e3);
    (
        "Table 3: 311 kb for a setup",
        format!(
            "B sends F, Tx_0, the parties and σ_0 once, whatever the number of transactions: with the request {:.0} bytes \
             here. 311 kb are {:.0} times as many (kilobits), or {:.0} times (kilobytes)",
            here.setup_bytes,
            bits / here.setup_bytes,
            bytes / here.setup_bytes
        ),
    )
}

fn signature_length() -> (&'static str, String) {
    let (bits, needed) = (SIGNATURE_BITS, SIGNATURE_BYTES * 8);
    (
        "\"We used 40-bit characters to represent bank-generated signature\"",
        format!(
            "40 bits are forged in 2^{} guesses, 40 hexadecimal characters are {} bytes; an ECDSA signature has {needed} bits, \
             so that what was counted is none",
            bits - 1,
            bits / 2
        ),
    )
}

fn release(here: &Measured) -> (&'static str, String) {
    let [.., seconds] = SECONDS;
    let (each, all) = (us_each(seconds), seconds * f64::from(TRANSACTIONS));
    (
        "Table 3: 0.004 s and nothing sent for a release",
        format!(
            "for 10,000 transactions that is {each:.1} µs each: opening one lock takes {:.1} µs here and verifying what it \
             hides {:.1} µs; for one of them, {all:.0} s in all. Nothing is sent because lk_n is σ_n itself, so that σ_(n-1) ⊕ \
             H(σ_n) was never sent, and no lock opens at all (C-1)",
            here.unlock_us, here.verify_us
        ),
    )
}

fn amounts(here: &Measured) -> (&'static str, String) {
    let [one, five, ten] = here.payment_bytes;
    (
        "Figures 4 to 6: times for payments of 1, 5 and 10 dollars",
        format!(
            "an amount is a number of fixed width that is hashed once: payments have {one:.0}, {five:.0} and {ten:.0} bytes, \
             the same hashes and signatures. Here phases differ by at most {:.1} % between amounts, and by {:.1} % between \
             runs of one amount: what three curves show is noise",
            here.between_amounts * 100.0,
            here.between_runs * 100.0
        ),
    )
}

fn ranges() -> (&'static str, String) {
    (
        "\"Each micropayment is under 10 dollars\"; \"between 10-1000 times\"",
        format!(
            "Table 3 is about amounts of {AMOUNT_BELOW} dollars and about 10,000 transactions, {} times as many as the \
             experiment had",
            TRANSACTIONS / MOST_TRANSACTIONS
        ),
    )
}

/// The one reading under which the figures are possible: not the paper's.
fn nine_hundred(here: &Measured) -> (&'static str, String) {
    let [setup, transaction, release] = SECONDS.map(|seconds| per_operation(seconds) * 1e6);
    let [setup_bytes, transaction_bytes, _] = KILO.map(|kilo| per_operation(kilo) * 1e3);
    (
        "\"We ran 900 operations\"",
        format!(
            "if Table 3 sums these, which the text does not say, a setup takes {setup:.0} µs and {setup_bytes:.0} bytes, a \
             transaction {transaction:.0} µs and {transaction_bytes:.0} bytes, a release {release:.1} µs: all of it possible \
             with compiled cryptography, and then a release verifies no signature (that alone takes {:.1} µs here)",
            here.verify_us
        ),
    )
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}.", self.says, self.but)
    }
}
