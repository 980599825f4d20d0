//! `micropay demo channel`: one channel from its permit to its last wei. A bank admits both parties and answers over HTTP, a
//! client opens a channel and buys a file piece by piece through a gateway, sends what opens its receipts, and the vendor
//! opens them, shows them in a file, and closes. A second channel is left to expire and is refunded. What is reported is read
//! back from the chain.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::Address;
use alloy::signers::local::PrivateKeySigner;
use chain::anvil::{Anvil, AnvilOptions};
use chain::{At, ChainClient, ChainConfig, Channels, Client, Sender, deploy};
use clap::Args;
use eyre::{OptionExt, WrapErr, bail, ensure};
use gateway::client::Desk;
use gateway::server::{
    Charge, Gate, GateConfig, GateLayer, ListenLimits, Listing, RateLimits, Service, Table, Upstream,
    UpstreamLimits, listen,
};
use gateway::wire::ChallengeKey;
use merchant::channel::{ClosePolicy, VendorConfig};
use merchant::ticket::{ClaimPolicy, Price};
use payer::channel::{ChannelPayer, ChannelSteps, Checkpoints, Done, Limits, VendorApi};
use payer::ticket::Edges;
use protocol::channel::{Amount, ChannelId, Index, Key, Policy, ReceiptsFile, Reputation, Seconds, Status};
use storage::SqliteStore;
use storage::channel::{
    ChannelDomainStore, ClientChannelStore, SettlementState, SettlementStep, SettlementStore,
    VendorChannelStore,
};
use tokio::net::TcpListener;
use tower::Layer;

use super::goods::{Goods, sha256};
use super::report::{Accounts, ChannelReport};
use super::{FINALITY, gas_since, progress_bar, say, serve};
use crate::business::{Business, ChannelSetup, Setup};
use crate::channel::{
    AskedBank, Found, ReceiptsJson, Verified, Wish, admit, bank_service, find_or_ask, start_bank,
};
use crate::output::Output;
use crate::{clock, credit, picture, stores};

/// What one piece costs, and one unit of the channel: 0.0001 ether.
const UNIT: Amount = Amount(100_000_000_000_000);
/// About so many bytes make a piece of the picture.
const PIECE_BYTES: u64 = 1024;
/// How long the first channel may live.
const LIFE: Seconds = Seconds::DAY;
/// How long the second one lives.
const SHORT_LIFE: Seconds = Seconds(2 * 3_600);
/// Units of the second one.
const SHORT_LENGTH: Index = Index(100);
/// Longest wait for something to be final.
const LIMIT: Duration = Duration::from_secs(120);

/// What to sell, and in how many pieces.
#[derive(Debug, Args)]
pub(super) struct ChannelDemo {
    /// How many pieces, a payment each
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=1_048_576))]
    pieces: u32,
    /// The file to sell [default: a picture that the demo renders, 1 KiB a piece]
    #[arg(long)]
    file: Option<PathBuf>,
    /// Write the file as the client received it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the opened receipts, for `micropay channel verify`
    #[arg(long, value_name = "FILE")]
    receipts: Option<PathBuf>,
}

pub(super) async fn run(demo: &ChannelDemo, out: Output) -> eyre::Result<()> {
    let started = Instant::now();
    let goods = match &demo.file {
        Some(file) => Goods::read(file)?,
        None => Goods::new(picture::render(picture::side_of(
            u64::from(demo.pieces) * PIECE_BYTES,
        ))),
    };
    let goods = goods.in_pieces(demo.pieces.into())?;
    let length = Index(demo.pieces);
    let folder = tempfile::tempdir().wrap_err("a folder for stores")?;

    say(out, "starting a chain");
    let anvil = Anvil::spawn(&AnvilOptions {
        block_time: Some(1),
        ..AnvilOptions::default()
    })?;
    let world = World::new(&anvil, folder).await?;
    let before = world.accounts().balances(&world.channels).await?;
    let first_block = world.channels.head().await?.number + 1;

    say(out, "a bank admits both, and answers over HTTP");
    let bank = world.start_bank().await?;

    say(
        out,
        &format!("opening a channel of {length} units, and a short one"),
    );
    let store = world.client_store().await?;
    let receipt_key = Key::from_bytes(&clock::random().0)?;
    let steps = ChannelSteps::new(world.sender(&world.client), store.clone());
    let opener = Opener {
        world: &world,
        steps: &steps,
        store: &store,
        bank: &bank,
        receipt_key: &receipt_key,
    };
    let (channel, gas_open) = opener.open(length, LIFE).await?;
    let (short, _) = opener.open(SHORT_LENGTH, SHORT_LIFE).await?;

    say(out, &format!("selling {} pieces over HTTP", demo.pieces));
    let upstream = serve(goods.clone()).await?;
    let (business, address) = world.open_business(&upstream).await?;
    world.wait_until_known(&business, channel).await?;
    let sale = Instant::now();
    let bytes = world
        .buy(
            &store,
            &receipt_key,
            channel,
            &business,
            &address,
            demo.pieces,
            out,
        )
        .await?;
    let sale = sale.elapsed();

    say(out, "sending what opens the receipts");
    let desk = world.desk(&address, &receipt_key)?;
    let record = store
        .client_channel(channel)
        .await?
        .ok_or_eyre("the channel is gone")?;
    let signed = business.store.latest_checkpoint(channel).await?;
    let answered = desk.open_receipts(&record.channel.opener()).await?;
    let verified = world
        .show_receipts(&business.store, channel, demo.receipts.as_deref())
        .await?;

    say(out, "the vendor closes");
    let (closed, gas_close) = world.close(&business, channel).await?;
    let checkpoints = settlements(&business.store, SettlementStep::Checkpoint).await?;
    drop(business); // ends its tasks, before time jumps
    world.withdraw(&world.vendor).await?;

    say(
        out,
        "the short channel expires, and its client takes everything back",
    );
    anvil.increase_time(SHORT_LIFE.0 + 60).await?;
    let Done::Mined(refund) = steps.refund(short, clock::now()).await? else {
        bail!("channel {short} was closed before");
    };
    world.withdraw(&world.client).await?;

    let after = world.accounts().balances(&world.channels).await?;
    let gas = gas_since(
        world.channels.provider(),
        first_block,
        world.channels.head().await?.number,
    )
    .await?;
    if let Some(file) = &demo.out {
        std::fs::write(file, &bytes).wrap_err_with(|| file.display().to_string())?;
    }
    let report = ChannelReport {
        payments: demo.pieces.into(),
        closed_index: closed.0,
        unit: UNIT.0,
        paid: UNIT.saturating_mul(closed.0.into()).0,
        refunded: UNIT
            .saturating_mul(u64::from(length.above(closed)) + u64::from(SHORT_LENGTH.0))
            .0,
        receipts_opened: verified.opened as u64,
        ends_in_sigma0: verified.holds() && answered.ends_in_sigma0,
        gas_open,
        gas_close,
        gas_refund: refund.gas_used,
        checkpoint_signed: signed.map_or(0, |checkpoint| checkpoint.signed.index().0),
        checkpoints_on_chain: checkpoints,
        channel,
        short,
        bytes: bytes.len() as u64,
        sha256: sha256(&bytes),
        sha256_ok: sha256(&bytes) == goods.sha256(),
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
    ensure!(verified.holds(), "the receipts do not hold: {}", verified.text());
    ensure!(
        report.receipts_opened == report.payments,
        "{} receipts opened, {} payments were made",
        report.receipts_opened,
        report.payments
    );
    ensure!(
        report.closed_index == demo.pieces,
        "closed at {}, paid were {}",
        report.closed_index,
        demo.pieces
    );
    ensure!(report.conserved(), "money was made or lost");
    Ok(())
}

/// The chain and everybody on it.
struct World {
    tickets: ChainClient,
    channels: Client<Channels>,
    client: PrivateKeySigner,
    vendor: PrivateKeySigner,
    bank: PrivateKeySigner,
    folder: tempfile::TempDir,
}

/// What opening takes.
struct Opener<'a> {
    world: &'a World,
    steps: &'a ChannelSteps<SqliteStore>,
    store: &'a SqliteStore,
    bank: &'a AskedBank,
    receipt_key: &'a Key,
}

impl Opener<'_> {
    /// Asks the bank, saves, deposits. The channel and what the opening cost.
    async fn open(&self, length: Index, life: Seconds) -> eyre::Result<(ChannelId, u64)> {
        let account = Key::from_bytes(&self.world.client.to_bytes().0)?;
        let wish = Wish {
            vendor: self.world.vendor.address(),
            asset: Address::ZERO,
            unit: UNIT,
            length,
            life,
            another: true,
        };
        let Found { admitted, salt, .. } = find_or_ask(
            self.steps,
            self.store,
            self.bank,
            &account,
            self.receipt_key,
            &wish,
        )
        .await?;
        let channel = admitted.permit().channel();
        match self.steps.open(&admitted, salt, None, clock::now()).await? {
            Done::Mined(mined) => Ok((channel, mined.gas_used)),
            Done::Already => bail!("channel {channel} was open before"),
        }
    }
}

impl World {
    async fn new(anvil: &Anvil, folder: tempfile::TempDir) -> eyre::Result<Self> {
        let config = ChainConfig::new(anvil.chain_id());
        let tickets = ChainClient::connect_before_deploy(anvil.url(), config.clone()).await?;
        let channels = Client::<Channels>::connect_before_deploy(anvil.url(), config).await?;
        // The last account, so that the contracts cost nobody at the table.
        let deployer = Sender::new(tickets.clone(), Anvil::key(9));
        deploy::deploy(&deployer).await?;
        deploy::deploy(&deployer.of(channels.clone())).await?;
        Ok(Self {
            tickets,
            channels,
            client: Anvil::key(0),
            vendor: Anvil::key(1),
            bank: Anvil::key(2),
            folder,
        })
    }

    fn sender(&self, account: &PrivateKeySigner) -> Sender<Channels> {
        Sender::new(self.channels.clone(), account.clone())
    }

    fn accounts(&self) -> Accounts {
        let accounts = [
            ("client", self.client.address()),
            ("vendor", self.vendor.address()),
            ("bank", self.bank.address()),
            ("contract", self.channels.contract()),
        ];
        Accounts(accounts.map(|(name, address)| (name.to_owned(), address)).into())
    }

    /// A bank that has admitted client and vendor, on a free port.
    async fn start_bank(&self) -> eyre::Result<AskedBank> {
        let sender = self.sender(&self.bank);
        let reputation = Reputation::new(60).ok_or_eyre("a reputation")?;
        for customer in [self.client.address(), self.vendor.address()] {
            admit(&sender, customer, reputation).await?;
        }
        let (domain, bank) = (self.channels.domain(), self.bank.address());
        let store = stores::bank(self.folder.path(), domain, bank).await?;
        let key = Key::from_bytes(&self.bank.to_bytes().0)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?).parse()?;
        start_bank(
            bank_service(self.channels.clone(), bank, key, Default::default(), store),
            listener,
        );
        AskedBank::at(&url, &self.channels).await
    }

    async fn client_store(&self) -> eyre::Result<SqliteStore> {
        let store = stores::payer(self.folder.path(), self.tickets.domain()).await?;
        store.use_channels(self.channels.domain()).await?;
        Ok(store)
    }

    /// The vendor with its store and gateway, on a free port.
    async fn open_business(&self, upstream: &str) -> eyre::Result<(Business<SqliteStore>, String)> {
        let recipient = self.vendor.address();
        let setup = Setup {
            recipient,
            account: Some(self.vendor.clone()),
            policy: protocol::ticket::Policy::default(),
            claims: ClaimPolicy::default(),
            bump_after: Seconds(10),
            finality: FINALITY,
            pause: Duration::from_millis(250),
            lease: None,
            channels: Some(ChannelSetup {
                client: self.channels.clone(),
                vendor: VendorConfig {
                    policy: Policy {
                        banks: vec![self.bank.address()],
                        ..Policy::default()
                    },
                    ..VendorConfig::default()
                },
                closes: ClosePolicy::default(),
            }),
        };
        let store = stores::merchant(self.folder.path(), self.tickets.domain(), recipient).await?;
        let mut business = Business::open(setup, self.tickets.clone(), store).await?;
        let price = Charge::Price(Price {
            asset: Address::ZERO,
            price: UNIT,
            min_prize: UNIT,
            max_prize: Amount::MAX,
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

    /// Vendors take words once the channel's opening is final.
    async fn wait_until_known(
        &self,
        business: &Business<SqliteStore>,
        channel: ChannelId,
    ) -> eyre::Result<()> {
        let vendor = business
            .vendor
            .as_ref()
            .ok_or_eyre("the vendor sells by channel")?;
        let deadline = Instant::now() + LIMIT;
        while vendor.mirror().view(channel).last_final.is_none() {
            ensure!(
                Instant::now() < deadline,
                "the channel is not final after {} s",
                LIMIT.as_secs()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Buys the pieces one after another, as a channel pays. Half way the vendor settles, and the sale goes on.
    #[allow(clippy::too_many_arguments, reason = "everything about one sale")]
    async fn buy(
        &self,
        store: &SqliteStore,
        receipt_key: &Key,
        channel: ChannelId,
        business: &Business<SqliteStore>,
        address: &str,
        pieces: u32,
        out: Output,
    ) -> eyre::Result<Vec<u8>> {
        let edges = Edges {
            now: clock::now,
            random: clock::random,
        };
        let payer = ChannelPayer::new(
            self.channels.domain(),
            Arc::new(receipt_key.clone()),
            Limits::default(),
            Checkpoints::default(),
            store.clone(),
            edges,
        );
        let client = crate::get::channel_client(payer, channel)?;
        let bar = progress_bar(pieces.into(), out);
        let mut bytes = Vec::new();
        for piece in 0..pieces {
            let named = || format!("piece {piece}");
            let answer = client.get(format!("{address}/pieces/{piece}")).send().await;
            let answer = answer
                .wrap_err_with(named)?
                .error_for_status()
                .wrap_err_with(named)?;
            bytes.extend_from_slice(&answer.bytes().await.wrap_err_with(named)?);
            if piece == pieces / 2 {
                let closer = business.closer.as_ref().ok_or_eyre("the vendor settles")?;
                closer.ask(channel, SettlementStep::Checkpoint);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(bytes)
    }

    fn desk(&self, address: &str, receipt_key: &Key) -> eyre::Result<Desk> {
        Ok(Desk::new(
            reqwest::Client::new(),
            address.parse()?,
            self.channels.domain(),
            Arc::new(receipt_key.clone()),
            clock::now,
        ))
    }

    /// The vendor's receipts, from its store to a file and back, as anybody checks them.
    async fn show_receipts(
        &self,
        store: &SqliteStore,
        channel: ChannelId,
        copy: Option<&std::path::Path>,
    ) -> eyre::Result<Verified> {
        let stored = store.vendor_channel(channel).await?;
        let opening = stored
            .and_then(|stored| stored.opening)
            .ok_or_eyre("no opener came")?;
        let terms = crate::channel::mirrored(store, self.vendor.address()).await?;
        let terms = terms
            .into_iter()
            .find(|(id, _)| *id == channel)
            .ok_or_eyre("the channel is not final")?;
        let payments = store
            .vendor_payments(channel, Index::ZERO..=opening.opener.index)
            .await?;
        let domain = self.channels.domain();
        let file = ReceiptsFile {
            terms: terms.1.admitted(&domain),
            receipts: payments.iter().map(|payment| payment.payment.receipt()).collect(),
            opener: opening.opener,
        };
        let path = self.folder.path().join("receipts.json");
        ReceiptsJson::new(&domain, &file).write(&path)?;
        if let Some(copy) = copy {
            std::fs::copy(&path, copy).wrap_err_with(|| copy.display().to_string())?;
        }
        Verified::of(&ReceiptsJson::read(&path)?, &[self.bank.address()])
    }

    /// The vendor closes, and waits until that is final. Index and gas.
    async fn close(
        &self,
        business: &Business<SqliteStore>,
        channel: ChannelId,
    ) -> eyre::Result<(Index, u64)> {
        let closer = business.closer.as_ref().ok_or_eyre("the vendor settles")?;
        let deadline = Instant::now() + LIMIT;
        closer.ask(channel, SettlementStep::Close);
        loop {
            for settlement in business.store.settlements(u32::MAX).await? {
                let ours = settlement.step == SettlementStep::Close
                    && settlement.items.iter().any(|item| item.channel == channel);
                if let SettlementState::Final { gas_used, .. } = settlement.state
                    && ours
                {
                    let status = self.channels.status_of(channel, At::Latest).await?;
                    let (status, index) = status.ok_or_eyre("the channel was never opened")?;
                    ensure!(
                        status == Status::Closed,
                        "the close of {channel} is final, and it is open"
                    );
                    return Ok((index, gas_used));
                }
            }
            ensure!(
                Instant::now() < deadline,
                "the close is not final after {} s",
                LIMIT.as_secs()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Moves everything that the contract owes an account to it.
    async fn withdraw(&self, account: &PrivateKeySigner) -> eyre::Result<()> {
        let sender = self.sender(account);
        let address = sender.address();
        let owed = self
            .channels
            .credit_of(Address::ZERO, address, At::Latest)
            .await?;
        if owed != Amount::ZERO {
            credit::withdraw(&sender, Address::ZERO, address, owed).await?;
        }
        Ok(())
    }
}

/// How many settlements of this kind are final.
async fn settlements(store: &SqliteStore, step: SettlementStep) -> eyre::Result<u64> {
    let all = store.settlements(u32::MAX).await?;
    let counts = |settlement: &&storage::channel::SettlementRecord| {
        settlement.step == step && matches!(settlement.state, SettlementState::Final { .. })
    };
    Ok(all.iter().filter(counts).count() as u64)
}
