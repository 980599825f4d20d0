//! `micropay demo`: the main job on real input. Starts a chain, deploys, opens one escrow, sells a file piece by piece over
//! HTTP, through the gateways of three merchants before one server, claims the winners, and pays everybody out. What it reports is read back from the
//! chain: balances before and after, gas from the receipts.

mod channel;
mod goods;
mod offline;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, U256};
use alloy::providers::{Provider, RootProvider};
use alloy::signers::local::PrivateKeySigner;
use chain::anvil::{Anvil, AnvilOptions};
use chain::{At, ChainClient, ChainConfig, Finality, Sender, deploy};
use clap::{Args, Subcommand};
use eyre::{OptionExt, WrapErr, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use gateway::client::{Client, Paid};
use gateway::server::{
    Charge, Gate, GateConfig, GateLayer, ListenLimits, Listing, RateLimits, Service, Table, Upstream,
    UpstreamLimits, listen,
};
use gateway::wire::ChallengeKey;
use indicatif::{ProgressBar, ProgressStyle};
use merchant::ticket::{ClaimPolicy, Price};
use payer::ticket::{Edges, EscrowSteps, Limits, Payer};
use protocol::ticket::{Amount, EscrowKey, Nonce, Policy, Seconds, WinThreshold, odds};
use storage::{ClaimState, ClaimStore, SqliteStore, WinStore};
use tokio::net::TcpListener;
use tower::Layer;

use crate::business::{Business, Setup};
use crate::dev::{PRIZE, opening};
use crate::output::Output;
use crate::{clock, credit, picture, stores};
use goods::{Goods, sha256};
use report::{Accounts, Report};

/// How many merchants sell.
const MERCHANTS: usize = 3;
/// One ticket in so many wins.
const ONE_IN: u64 = 128;
/// Blocks that make a block final on the demo's chain.
const FINALITY: Finality = Finality::Depth(2);
/// Longest wait for the last claims to be final.
const CLAIM_LIMIT: Duration = Duration::from_secs(60);

/// What to sell, and how much of it.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Demo {
    #[command(subcommand)]
    scheme: Option<Scheme>,
    /// The file to sell [default: a picture that the demo renders, about 2 MiB]
    #[arg(long)]
    file: Option<PathBuf>,
    /// Most payments; the file is cut to so many pieces of 1 KiB
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    payments: Option<u64>,
    /// Payments in flight at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    at_once: u16,
    /// Write the file as the payer received it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Which scheme to show, besides tickets.
#[derive(Debug, Subcommand)]
enum Scheme {
    /// Sell a file in 10,000 pieces over one channel: open, pay, checkpoint, receipts, close, refund
    Channel(channel::ChannelDemo),
    /// Pay without a network: four wallets on software TPMs (Debian package swtpm), ten hops, a copied wallet, settlement
    Offline(offline::OfflineDemo),
}

pub(crate) async fn run(demo: &Demo, out: Output) -> eyre::Result<()> {
    match &demo.scheme {
        Some(Scheme::Channel(demo)) => channel::run(demo, out).await,
        Some(Scheme::Offline(demo)) => offline::run(demo, out).await,
        None => sell_by_ticket(demo, out).await,
    }
}

async fn sell_by_ticket(demo: &Demo, out: Output) -> eyre::Result<()> {
    let started = Instant::now();
    let goods = goods(demo)?;
    let pieces = goods.pieces();
    let folder = tempfile::tempdir().wrap_err("a folder for keys and stores")?;

    say(out, "starting a chain");
    let anvil = Anvil::spawn(&AnvilOptions {
        block_time: Some(1),
        ..AnvilOptions::default()
    })?;
    let world = World::new(&anvil, folder).await?;
    let before = world.accounts().balances(&world.client).await?;
    let first_block = world.client.head().await?.number + 1;

    say(out, "opening an escrow");
    let key = EscrowKey::from_bytes(&clock::random().0)?;
    // Room for tickets that are refused.
    let opening = opening(Nonce(pieces + pieces / 8 + 64), ONE_IN)?;
    let steps = EscrowSteps::new(world.sender(&world.payer));
    steps.open(&key, &opening).await?;

    say(out, &format!("selling {pieces} pieces over HTTP"));
    let upstream = serve(goods.clone()).await?;
    let (mut businesses, mut addresses) = (Vec::new(), Vec::new());
    for account in &world.merchants {
        let (business, address) = world.open_business(account.clone(), &upstream).await?;
        businesses.push(business);
        addresses.push(address);
    }
    world.wait_until_known(&businesses, key.address()).await?;
    let sale = Instant::now();
    let bought = world.buy(&key, &addresses, pieces, demo.at_once, out).await?;
    let sale = sale.elapsed();

    say(out, "claiming the winners");
    for business in &businesses {
        settle(business).await?;
    }
    for account in &world.merchants {
        let sender = world.sender(account);
        let owed = world
            .client
            .credit_of(Address::ZERO, account.address(), At::Latest)
            .await?;
        if owed != Amount::ZERO {
            credit::withdraw(&sender, Address::ZERO, account.address(), owed).await?;
        }
    }
    let claims = claim_totals(&businesses).await?;
    let won = won(&businesses).await?;
    drop(businesses); // ends their tasks, before time jumps

    say(out, "withdrawing the rest");
    steps.request_withdraw(key.address()).await?;
    anvil
        .increase_time(merchant::ticket::WITHDRAW_DELAY.0 + 1)
        .await?;
    steps.withdraw(key.address()).await?;
    let payer = world.sender(&world.payer);
    let rest = world
        .client
        .credit_of(Address::ZERO, payer.address(), At::Latest)
        .await?;
    credit::withdraw(&payer, Address::ZERO, payer.address(), rest).await?;

    let after = world.accounts().balances(&world.client).await?;
    let gas = gas_since(
        world.client.provider(),
        first_block,
        world.client.head().await?.number,
    )
    .await?;
    if let Some(file) = &demo.out {
        std::fs::write(file, &bought.bytes).wrap_err_with(|| file.display().to_string())?;
    }
    let rho = WinThreshold::one_in(ONE_IN).probability();
    let accepted = bought.payments;
    let n = u32::try_from(accepted).wrap_err("tickets")?;
    let report = Report {
        payments: bought.payments,
        accepted,
        refused: bought.refused,
        won,
        claimed: claims.claimed,
        expected_wins: accepted as f64 * rho,
        interval_99: odds::interval(n, rho, 0.99).into(),
        prize: PRIZE.0,
        pieces,
        bytes: bought.bytes.len() as u64,
        sha256: sha256(&bought.bytes),
        sha256_ok: sha256(&bought.bytes) == goods.sha256(),
        claim_gas: claims.gas,
        claim_transactions: claims.transactions,
        total_gas: gas.values().map(|gas| gas.used).sum(),
        parties: world.accounts().parties(&before, &after, &gas),
        sale_s: sale.as_secs_f64(),
        elapsed_s: started.elapsed().as_secs_f64(),
    };
    out.answer(&report, &report)?;
    ensure!(
        report.sha256_ok,
        "the received file differs: {} instead of {}",
        report.sha256,
        goods.sha256()
    );
    ensure!(report.conserved(), "money was made or lost");
    ensure!(
        report.won == report.claimed,
        "{} tickets won, {} were claimed",
        report.won,
        report.claimed
    );
    Ok(())
}

/// Progress for people, on standard error.
fn say(out: Output, what: &str) {
    use std::io::Write;
    if !out.json {
        // Nobody minds if nobody listens.
        let _ = writeln!(std::io::stderr(), "· {what}");
    }
}

fn goods(demo: &Demo) -> eyre::Result<Goods> {
    let whole = match &demo.file {
        Some(file) => Goods::read(file)?,
        None => Goods::new(picture::render(picture::SIDE)),
    };
    let limit = demo.payments.unwrap_or(whole.pieces());
    Ok(whole.first_pieces(limit))
}

/// A server on a free port; its address.
async fn serve(goods: Goods) -> eyre::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, goods.server()).await });
    Ok(format!("http://{address}"))
}

/// The chain and everybody on it.
struct World {
    client: ChainClient,
    payer: PrivateKeySigner,
    merchants: Vec<PrivateKeySigner>,
    folder: tempfile::TempDir,
}

/// Gas of one account's transactions.
#[derive(Clone, Copy, Debug, Default)]
struct Gas {
    used: u64,
    fee: u128,
}

impl World {
    async fn new(anvil: &Anvil, folder: tempfile::TempDir) -> eyre::Result<Self> {
        let client =
            ChainClient::connect_before_deploy(anvil.url(), ChainConfig::new(anvil.chain_id())).await?;
        // The last account, so that the contract costs nobody at the table.
        deploy::deploy(&Sender::new(client.clone(), Anvil::key(9))).await?;
        let merchants = (1..=MERCHANTS).map(Anvil::key).collect();
        Ok(Self {
            client,
            payer: Anvil::key(0),
            merchants,
            folder,
        })
    }

    fn sender(&self, account: &PrivateKeySigner) -> Sender {
        Sender::new(self.client.clone(), account.clone())
    }

    fn accounts(&self) -> Accounts {
        let payer = [("payer".to_owned(), self.payer.address())];
        let merchants = self.merchants.iter().zip(1..);
        let merchants =
            merchants.map(|(merchant, number)| (format!("merchant {number}"), merchant.address()));
        let contract = [("contract".to_owned(), self.client.contract())];
        Accounts(payer.into_iter().chain(merchants).chain(contract).collect())
    }

    /// A merchant with its own store and gateway, on a free port.
    async fn open_business(
        &self,
        account: PrivateKeySigner,
        upstream: &str,
    ) -> eyre::Result<(Business<SqliteStore>, String)> {
        let recipient = account.address();
        let setup = Setup {
            recipient,
            account: Some(account),
            policy: Policy::default(),
            // Small batches, so that claims happen during so short a sale.
            claims: ClaimPolicy {
                settle_secs: 1,
                batch: 4,
                wei_per_unit: None,
                ..ClaimPolicy::default()
            },
            bump_after: Seconds(10),
            finality: FINALITY,
            pause: Duration::from_millis(250),
            lease: None,
            channels: None,
        };
        let store = stores::merchant(self.folder.path(), self.client.domain(), recipient).await?;
        let mut business = Business::open(setup, self.client.clone(), store).await?;
        let price = Charge::Price(Price {
            asset: Address::ZERO,
            price: WinThreshold::one_in(ONE_IN).price(PRIZE),
            min_prize: PRIZE,
            max_prize: PRIZE,
        });
        let config = GateConfig::default();
        let gate = Gate::new(
            business.sellers(),
            Listing::new(
                &Service::default(),
                Table::new(Vec::new(), price),
                RateLimits::default(),
            ),
            config,
            ChallengeKey::new(clock::random().0),
            clock::now,
        );
        let limits = UpstreamLimits {
            connect: config.upstream_timeout,
            idle: config.upstream_timeout,
            body_bytes: config.body_bytes,
        };
        let service = GateLayer::new(gate).layer(Upstream::new(&upstream.parse()?, limits)?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        business.tasks.spawn(async move {
            listen(listener, service, ListenLimits::default(), std::future::pending()).await;
            eyre::eyre!("the gateway closed")
        });
        Ok((business, format!("http://{address}")))
    }

    /// Merchants accept from an escrow once its opening is final.
    async fn wait_until_known(
        &self,
        businesses: &[Business<SqliteStore>],
        escrow: Address,
    ) -> eyre::Result<()> {
        let deadline = Instant::now() + CLAIM_LIMIT;
        for business in businesses {
            while !business.merchant.knows(escrow) {
                ensure!(
                    Instant::now() < deadline,
                    "the escrow is not final after {} s",
                    CLAIM_LIMIT.as_secs()
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Buys the pieces from the gateways in turn, `at_once` at a time, over one client and one escrow.
    async fn buy(
        &self,
        key: &EscrowKey,
        addresses: &[String],
        pieces: u64,
        at_once: u16,
        out: Output,
    ) -> eyre::Result<Bought> {
        let record = self
            .client
            .escrow_of(key.address(), At::Latest)
            .await?
            .ok_or_eyre("the escrow is not there")?;
        let store = stores::payer(self.folder.path(), self.client.domain()).await?;
        let edges = Edges {
            now: clock::now,
            random: clock::random,
        };
        let payer = Payer::new(
            self.client.domain(),
            Arc::new(key.clone()),
            record,
            Limits::default(),
            store,
            edges,
        );
        let client = Client::new(payer)?;
        let bar = progress_bar(pieces, out);
        let requests = AtomicU64::new(0);
        let bought: BTreeMap<u64, Vec<u8>> = stream::iter(0..pieces)
            .map(|piece| {
                let address = &addresses[(piece % addresses.len() as u64) as usize];
                let (client, bar, requests) = (&client, &bar, &requests);
                async move {
                    let named = || format!("piece {piece}");
                    let url = format!("{address}/pieces/{piece}");
                    let answer = client.get(url).send().await.wrap_err_with(named)?;
                    let answer = answer.error_for_status().wrap_err_with(named)?;
                    let paid = answer
                        .extensions()
                        .get::<Paid>()
                        .cloned()
                        .ok_or_eyre("nothing was paid")?;
                    requests.fetch_add(paid.requests.into(), Ordering::Relaxed);
                    bar.inc(1);
                    Ok::<_, eyre::Report>((piece, answer.bytes().await.wrap_err_with(named)?.to_vec()))
                }
            })
            .buffer_unordered(at_once.into())
            .try_collect()
            .await?;
        bar.finish_and_clear();
        let payments = bought.len() as u64;
        Ok(Bought {
            bytes: bought.into_values().flatten().collect(),
            payments,
            refused: requests.into_inner().saturating_sub(payments),
        })
    }
}

/// Gas per account, from the receipts of the blocks `first..=last`.
async fn gas_since(provider: RootProvider, first: u64, last: u64) -> eyre::Result<BTreeMap<Address, Gas>> {
    let mut gas: BTreeMap<Address, Gas> = BTreeMap::new();
    for number in first..=last {
        let receipts = provider
            .get_block_receipts(BlockNumberOrTag::Number(number).into())
            .await?;
        for receipt in receipts.unwrap_or_default() {
            let own = gas.entry(receipt.from).or_default();
            own.used += receipt.gas_used;
            own.fee += u128::from(receipt.gas_used) * receipt.effective_gas_price;
        }
    }
    Ok(gas)
}

/// Claims everything and waits until it is final.
async fn settle(business: &Business<SqliteStore>) -> eyre::Result<()> {
    let deadline = Instant::now() + CLAIM_LIMIT;
    if let Some(claimer) = &business.claimer {
        claimer.ask();
    }
    while !business.store.load_unfinished().await?.is_empty() {
        ensure!(
            Instant::now() < deadline,
            "claims are not final after {} s",
            CLAIM_LIMIT.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Claims of all merchants.
#[derive(Debug, Default)]
struct ClaimTotals {
    claimed: u64,
    gas: u64,
    transactions: u64,
}

async fn claim_totals(businesses: &[Business<SqliteStore>]) -> eyre::Result<ClaimTotals> {
    let mut totals = ClaimTotals::default();
    for business in businesses {
        for claim in business.store.claims(u32::MAX).await? {
            if let ClaimState::Final { gas_used, .. } = claim.state {
                totals.transactions += 1;
                totals.gas += gas_used;
                let paid = |win: &&storage::WinRecord| matches!(win.state, storage::WinState::Final { .. });
                totals.claimed += claim.wins.iter().filter(paid).count() as u64;
            }
        }
    }
    Ok(totals)
}

/// A file bought piece by piece.
struct Bought {
    bytes: Vec<u8>,
    payments: u64,
    /// Requests beyond one for each payment: first 402s, and tickets that were refused.
    refused: u64,
}

async fn won(businesses: &[Business<SqliteStore>]) -> eyre::Result<u64> {
    let mut won = 0;
    for business in businesses {
        won += business.store.win_totals().await?.all()?.count;
    }
    Ok(won)
}

/// On standard error, where it is a terminal and nobody wants JSON.
fn progress_bar(length: u64, out: Output) -> ProgressBar {
    use std::io::IsTerminal;
    if out.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} pieces  {per_sec}  {eta}").expect("a constant");
    ProgressBar::new(length).with_style(style)
}

/// Wei as contract arguments are, for the report.
fn wei(amount: u128) -> U256 {
    U256::from(amount)
}
