//! `make bench`, second part: the gateway under load. All ratios are of the same run, measured in turns over loopback. The
//! load, the proxy and the upstream share the machine's cores.
#![allow(clippy::print_stdout, reason = "the table is the point")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use eyre::{Result, ensure};
use gateway::server::Sellers;
use micropay_bench::http::calls::World;
use micropay_bench::http::channel::{self, Fleet};
use micropay_bench::http::inside;
use micropay_bench::http::load::{Target, Times, closed, open};
use micropay_bench::http::nginx::Nginx;
use micropay_bench::http::proxy;
use micropay_bench::market::Market;
use mimalloc::MiMalloc;
use protocol::ticket::{OrderId, verify};
use serde_json::{Value, json};
use storage::{MemoryStore, StoreIdentity};

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 9;
const REQUESTS: usize = 3_000;
const PAYERS: u64 = 8;
/// Requests at half load, in each of so many turns.
const PACED: usize = 2_000;
const TURNS: usize = 5;
/// Calls of the gate in this process.
const INSIDE: usize = 2_000;
/// As the command has it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The paper's web server, requests per second: without payments, and with.
const PAPER: (f64, f64) = (534.0, 497.0);
const KNOWN_PAYERS: u64 = 100_000;

fn main() -> Result<()> {
    // `cargo test` builds and runs benches, too.
    if !std::env::args().any(|word| word == "--bench") {
        return Ok(());
    }
    let mut rows = Vec::new();
    throughput(&mut rows)?;
    let clients = proxy::runtime()?;
    clients.block_on(calls(&mut rows))?;
    clients.block_on(memory(&mut rows))?;
    println!("\n{:<66} {:>12} {:>12}", "gateway", "measured", "target");
    for (name, measured, target, _) in &rows {
        println!("{name:<66} {measured:>12} {target:>12}");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench");
    fs::create_dir_all(&folder)?;
    let json: Vec<Value> = rows
        .iter()
        .map(|(name, measured, target, value)| {
            json!({ "name": name, "measured": measured, "target": target, "value": value })
        })
        .collect();
    fs::write(folder.join("gateway.json"), serde_json::to_vec_pretty(&json)?)?;
    Ok(())
}

/// Name, measured, target, and the measured number.
type Row = (String, String, &'static str, f64);

fn row(rows: &mut Vec<Row>, name: impl Into<String>, value: f64, unit: &str, target: &'static str) {
    let measured = if value >= 1000.0 {
        format!("{value:.0}{unit}")
    } else {
        format!("{value:.2}{unit}")
    };
    rows.push((name.into(), measured, target, value));
}

fn throughput(rows: &mut Vec<Row>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let market = Market::new(PAYERS);
    let (behind, before, client) = (
        proxy::small_runtime()?,
        proxy::runtime()?,
        proxy::small_runtime()?,
    );
    let upstream = behind.block_on(proxy::upstream())?;
    let merchant = before.block_on(proxy::merchant(&market, folder.path()))?;
    let each = ((ROUNDS + 1) * REQUESTS).div_ceil(CONNECTIONS);
    let fleet = Fleet::new(
        merchant.recipient(),
        market.price.price,
        CONNECTIONS as u64,
        u32::try_from(each)?,
    );
    let vendor = before.block_on(fleet.vendor(merchant.store().clone()))?;
    let sellers = Sellers::from(Arc::clone(&merchant)).and_channels(vendor);
    let gateway = before.block_on(proxy::gateway(sellers, market.price, upstream, proxy::now))?;
    let nginx = Nginx::before(upstream)?;
    let terms = client.block_on(proxy::terms(gateway, &market))?;
    let paid_requests = (ROUNDS + 1) * REQUESTS + TURNS * PACED;
    let mut payments = proxy::payments(&market, &merchant, &terms, 1, paid_requests + INSIDE)?;
    let inside = client.block_on(inside::added(
        &market,
        &merchant,
        &payments.split_off(paid_requests),
    ))?;
    let direct = Target::new(upstream, "/x", Vec::new());
    let free = Target::new(gateway, "/free/x", Vec::new());
    let paid = Target::new(gateway, "/x", payments);
    // Payments are for nothing there, and come and go as large as they are.
    let filled = paid.on(proxy::FILLED);
    let by_channel = client.block_on(fleet.targets(gateway))?;
    let plain = nginx
        .as_ref()
        .map(|nginx| Target::new(nginx.address, "/x", Vec::new()));

    let run = |target: &Target| -> Result<f64> {
        Ok(client.block_on(closed(target, CONNECTIONS, REQUESTS))?.rate())
    };
    let mut of_ticket = Vec::new();
    let (mut of_free, mut filled_of_free, mut of_nginx, mut of_direct, mut paid_rate, mut free_rate) = (
        Vec::new(),
        Vec::new(),
        Vec::new(),
        Vec::new(),
        Vec::new(),
        Vec::new(),
    );
    for round in 0..=ROUNDS {
        let (direct, free, paid) = (run(&direct)?, run(&free)?, run(&paid)?);
        let (filled, nginx) = (run(&filled)?, plain.as_ref().map(&run).transpose()?);
        let channel = client.block_on(channel::rate(&by_channel, REQUESTS / CONNECTIONS))?;
        if round == 0 {
            continue; // warms up
        }
        of_free.push(paid / free);
        of_ticket.push(channel / paid);
        filled_of_free.push(filled / free);
        of_direct.push(paid / direct);
        of_nginx.extend(nginx.map(|nginx| paid / nginx));
        paid_rate.push(paid);
        free_rate.push(free);
    }
    let (rate, free_rate) = (median(&mut paid_rate), median(&mut free_rate));
    row(
        rows,
        "paid / free route, requests per second, 64 connections",
        median(&mut of_free),
        " x",
        ">= 0.5",
    );
    row(
        rows,
        "channel / ticket, requests per second, 64 connections",
        median(&mut of_ticket),
        " x",
        "",
    );
    row(
        rows,
        "free route with headers as large as a payment's / free route",
        median(&mut filled_of_free),
        " x",
        "",
    );
    if of_nginx.is_empty() {
        rows.push((
            "paid / nginx as a plain proxy".into(),
            "no nginx".into(),
            "",
            f64::NAN,
        ));
    } else {
        row(
            rows,
            "paid / nginx as a plain proxy",
            median(&mut of_nginx),
            " x",
            "",
        );
    }
    row(
        rows,
        "paid / upstream asked directly",
        median(&mut of_direct),
        " x",
        "",
    );
    row(
        rows,
        "paid requests per second, load and upstream on the same cores",
        rate,
        "",
        "",
    );
    row(
        rows,
        "the paper's /buy / its /base (497 / 534)",
        PAPER.1 / PAPER.0,
        " x",
        "",
    );

    let half = rate.min(free_rate) / 2.0;
    let mut paced: [Vec<Times>; 3] = Default::default();
    for _ in 0..TURNS {
        for (times, target) in paced.iter_mut().zip([&free, &filled, &paid]) {
            times.push(client.block_on(open(target, CONNECTIONS, half, PACED))?);
        }
    }
    let [without, filled, with] = paced.map(Times::pooled);
    let less = |times: &Times, part| micros(times.quantile(part)) - micros(without.quantile(part));
    let added = |part| less(&with, part);
    let signature = micros(verification(&market)?);
    row(
        rows,
        "added latency at half load, p50 / bare verification",
        added(0.5) / signature,
        " x",
        "<= 2",
    );
    row(rows, "added latency at half load, p50", added(0.5), " us", "");
    row(
        rows,
        "added latency at half load, p99",
        added(0.99) / 1000.0,
        " ms",
        "<= 5",
    );
    let headers = less(&filled, 0.5) / signature;
    row(
        rows,
        "of which with headers as large on a free route, p50",
        headers,
        " x",
        "",
    );
    row(
        rows,
        "the gate alone, called in one process, paid less free",
        micros(inside) / signature,
        " x",
        "",
    );
    row(rows, "bare signature verification", signature, " us", "");
    Ok(())
}

/// One verification of a ticket's signature under a known key.
fn verification(market: &Market) -> Result<Duration> {
    let ticket = market.issue(0, 1);
    let key = market.escrows[0].key.public_key();
    let rounds = 2_000;
    let begun = Instant::now();
    for _ in 0..rounds {
        ensure!(
            verify(ticket.digest(), ticket.signature(), key),
            "a good signature"
        );
    }
    Ok(begun.elapsed() / rounds)
}

async fn calls(rows: &mut Vec<Row>) -> Result<()> {
    let world = World::new().await?;
    let upstream = proxy::upstream().await?;
    let seller = world.seller(0, upstream).await?;
    for at_once in [50, 500] {
        let urls = (0..at_once)
            .map(|call| format!("http://{seller}/{call}"))
            .collect();
        let calls = world.call("parallel", urls, at_once).await?;
        let name = format!("{at_once} calls at once on one deposit: answered, of {at_once}");
        row(rows, name, calls.paid as f64, "", "100 %");
        let name = format!("{at_once} calls at once on one deposit: tickets per call");
        row(rows, name, calls.tickets as f64 / calls.paid as f64, "", "1");
    }
    let urls = (0..1000)
        .map(|call| format!("http://{seller}/again/{call}"))
        .collect();
    let calls = world.call("sequential", urls, 1).await?;
    let each = calls.requests as f64 / calls.paid as f64;
    rows.push((
        "1,000 calls in sequence: HTTP requests per call".into(),
        format!("{each:.3}"),
        "<= 1.01",
        each,
    ));
    let mut urls = Vec::new();
    for number in 1..=100 {
        let seller = world.seller(number, upstream).await?;
        urls.extend((0..3).map(|call| format!("http://{seller}/{call}")));
    }
    let calls = world.call("many sellers", urls, 10).await?;
    row(
        rows,
        "100 sellers x 3 calls: answered, of 300",
        calls.paid as f64,
        "",
        "300",
    );
    let transactions = world.payer_transactions().await? as f64;
    row(
        rows,
        "transactions of the payer for all of these",
        transactions,
        "",
        "<= 2",
    );
    Ok(())
}

/// Memory of a gateway that has been paid by so many.
async fn memory(rows: &mut Vec<Row>) -> Result<()> {
    let market = Market::new(KNOWN_PAYERS);
    let identity = StoreIdentity::merchant(market.domain, market.recipient);
    let before = resident()?;
    let merchant = market.merchant(MemoryStore::new(identity)).await?;
    for (escrow, owner) in market.escrows.iter().enumerate() {
        let quote = merchant.quote(owner.key.address(), &market.price)?;
        let ticket = market.issue_for(&quote, escrow, 1);
        let order = OrderId(B256::from(alloy_primitives::U256::from(escrow)));
        merchant.accept(order, ticket, &market.price, market.now).await?;
    }
    let after = resident()?;
    row(
        rows,
        "memory of 100,000 known payers, mirror and book",
        (after - before) as f64 / 1e6,
        " MB",
        "",
    );
    Ok(())
}

/// Resident memory of this process, bytes.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap_or_default();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap_or("0").parse()?;
    Ok(kilobytes * 1024)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
