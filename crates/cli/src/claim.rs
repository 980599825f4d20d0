//! `micropay claim`: the merchant's winners and claims, and a claim now.

use std::time::Duration;

use alloy::primitives::Address;
use chain::{ChainClient, Finality, Sender};
use clap::Subcommand;
use eyre::{OptionExt, ensure};
use merchant::ticket::{ClaimPolicy, Claimer, Merchant, Step, follow_once};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::ticket::{Policy, Seconds, Seed};
use serde_json::json;
use storage::{ClaimStore, WinStage, WinStore};

use crate::business::catch_up;
use crate::config::Config;
use crate::output::{Output, count, date, rows};
use crate::stores::{self, Locked};
use crate::{clock, keys};

/// The merchant's claims.
#[derive(Debug, Subcommand)]
pub(crate) enum Claim {
    /// List winners by state, and the latest claims
    List {
        /// Address or key name of the merchant
        merchant: String,
        /// How many claims
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Claim all winners now, however few. If the merchant runs, it is told to; else this does it and waits until final
    Now {
        /// Key of the account that sends claims: the merchant, or an operator of it
        #[arg(long, value_name = "KEY")]
        from: String,
        /// Whose winners [default: of the account of --from]
        #[arg(long, value_name = "ADDRESS|KEY")]
        pay_to: Option<String>,
    },
}

pub(crate) async fn run(command: &Claim, config: &Config, out: Output) -> eyre::Result<()> {
    match command {
        Claim::List { merchant, limit } => list(config, merchant, *limit, out).await,
        Claim::Now { from, pay_to } => now(config, from, pay_to.as_deref(), out).await,
    }
}

async fn list(config: &Config, merchant: &str, limit: u32, out: Output) -> eyre::Result<()> {
    let recipient = keys::address_or_name(config, merchant)?;
    let domain = config.domain().await?;
    let store = stores::merchant(&config.home, domain, recipient).await?;
    let claims = store.claims(limit).await?;
    let mut wins = Vec::new();
    for stage in WinStage::ALL {
        wins.push((stage.name(), store.wins(stage).await?.len()));
    }
    let value = json!({
        "merchant": recipient,
        "wins": wins.iter().map(|(stage, count)| ((*stage).to_owned(), json!(count))).collect::<serde_json::Map<_, _>>(),
        "claims": claims.iter().map(|claim| json!({
            "id": claim.id.0, "state": claim.state.stage().name(), "winners": claim.wins.len(),
            "queuedAt": claim.queued_at.0, "transactions": claim.transactions.iter().map(|tx| tx.hash).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    let counts: Vec<_> = wins
        .iter()
        .map(|(stage, count)| (*stage, count.to_string()))
        .collect();
    let mut text = format!("winners of {recipient}\n{}\n\nclaims", rows(&counts));
    for claim in &claims {
        let winners = count(claim.wins.len() as u64, "winner");
        text.push_str(&format!(
            "\n{:>4}  {}  {winners}  {}",
            claim.id.0,
            date(claim.queued_at),
            claim.state
        ));
    }
    if claims.is_empty() {
        text.push_str(" none yet");
    }
    out.answer(&value, text)
}

async fn now(config: &Config, from: &str, pay_to: Option<&str>, out: Output) -> eyre::Result<()> {
    let client = config.connect().await?;
    let account = keys::account(config, from)?;
    let recipient = match pay_to {
        Some(recipient) => keys::address_or_name(config, recipient)?,
        None => account.address(),
    };
    // Another `claim now` may ask this one: it is at it already.
    let _deaf = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::user_defined1())?;
    match stores::lock_merchant(&config.home, client.domain(), recipient)? {
        Locked::Held { pid } => {
            // Only the process that accepts may claim: it alone knows which nonces are in flight.
            let pid = pid.ok_or_eyre("another process has the merchant's lock, but does not say which")?;
            kill(Pid::from_raw(pid), Signal::SIGUSR1)?;
            out.answer(
                &json!({ "asked": pid }),
                format!("asked the running merchant (pid {pid}) to claim"),
            )
        }
        Locked::Ours(_lock) => {
            let sender = Sender::new(client.clone(), account);
            let (claimed, paid) = claim_all(config, client, sender, recipient, config.finality()?).await?;
            let value = json!({ "claimed": claimed, "paid": paid.to_string() });
            let text = match claimed {
                0 => "no winner to claim".to_owned(),
                _ => format!(
                    "{} claimed, {paid} atomic units credited (micropay credit withdraw)",
                    count(claimed, "winner")
                ),
            };
            out.answer(&value, text)
        }
    }
}

/// Claims until no winner is left, and waits until that is final. Winners and atomic units.
async fn claim_all(
    config: &Config,
    client: ChainClient,
    sender: Sender,
    recipient: Address,
    finality: Finality,
) -> eyre::Result<(u32, u128)> {
    let domain = client.domain();
    let store = stores::merchant(&config.home, domain, recipient).await?;
    let mut follower = catch_up(&client, &store, finality).await?;
    let (mirror, fresh) = (follower.mirror(), Seed::new(clock::random().0));
    let merchant =
        Merchant::start(domain, recipient, Policy::default(), mirror, store.clone(), fresh).await?;
    let policy = ClaimPolicy {
        settle_secs: 0,
        ..ClaimPolicy::default()
    };
    let claimer = Claimer::new(merchant, sender, policy, Seconds::MINUTE);
    let (mut claimed, mut paid) = (0, 0u128);
    loop {
        claimer.ask();
        match claimer.step(clock::now()).await? {
            Step::Waited(_) => {
                ensure!(
                    store.wins(WinStage::Won).await?.is_empty(),
                    "winners are left that cannot be claimed now"
                );
                return Ok((claimed, paid));
            }
            Step::Final(_, settled) => {
                claimed += settled.claimed;
                paid = paid.saturating_add(settled.paid);
            }
            Step::Pending(_) => {
                follow_once(&mut follower, &store).await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            _ => {}
        }
    }
}
