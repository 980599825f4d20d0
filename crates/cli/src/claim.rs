//! `micropay claim`: the merchant's winners and claims, and a claim now.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use chain::{ChainClient, Follower, Sender};
use clap::Subcommand;
use eyre::{OptionExt, ensure};
use merchant::ticket::{ClaimPolicy, Claimer, Decision, Merchant, Step, follow_once};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::ticket::{Policy, Seconds, Seed};
use serde_json::json;
use storage::{Part, Store, WinStage};

use crate::business::{beat_for_ever, catch_up};
use crate::config::Config;
use crate::exit::again;
use crate::output::{Output, count, date, rows};
use crate::stores::{self, Locked, Place, Storage};
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
        #[command(flatten)]
        storage: Storage,
    },
    /// Claim all winners now, however few. If the merchant runs on this machine, it is told to; else this does it and waits
    /// until final
    Now {
        /// Key of the account that sends claims: the merchant, or an operator of it
        #[arg(long, value_name = "KEY")]
        from: String,
        /// Whose winners [default: of the account of --from]
        #[arg(long, value_name = "ADDRESS|KEY")]
        pay_to: Option<String>,
        #[command(flatten)]
        storage: Storage,
    },
}

/// Of this process among gateways on the same database, which it is for as long as it claims.
const LEASE: Duration = Duration::from_secs(30);

pub(crate) async fn run(command: &Claim, config: &Config, out: Output) -> eyre::Result<()> {
    match command {
        Claim::List {
            merchant,
            limit,
            storage,
        } => {
            let recipient = keys::address_or_name(config, merchant)?;
            let domain = config.domain().await?;
            match storage.place(&config.home, domain, recipient)? {
                Place::File(path) => {
                    let store = stores::merchant_at(&path, domain, recipient).await?;
                    list(&store, recipient, *limit, out).await
                }
                Place::Database(url) => {
                    let store = stores::merchant_in(&url, domain, recipient).await?;
                    list(&store, recipient, *limit, out).await
                }
            }
        }
        Claim::Now {
            from,
            pay_to,
            storage,
        } => now(config, from, pay_to.as_deref(), storage, out).await,
    }
}

async fn list<S: Store>(store: &S, recipient: Address, limit: u32, out: Output) -> eyre::Result<()> {
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

async fn now(
    config: &Config,
    from: &str,
    pay_to: Option<&str>,
    storage: &Storage,
    out: Output,
) -> eyre::Result<()> {
    let client = config.connect().await?;
    let account = keys::account(config, from)?;
    let recipient = match pay_to {
        Some(recipient) => keys::address_or_name(config, recipient)?,
        None => account.address(),
    };
    let domain = client.domain();
    let sender = Sender::new(client.clone(), account);
    let (claimed, paid) = match storage.place(&config.home, domain, recipient)? {
        Place::File(path) => {
            // Another `claim now` may ask this one: it is at it already.
            let _deaf = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::user_defined1())?;
            let _lock = match stores::lock_merchant(&config.home, domain, recipient)? {
                Locked::Ours(lock) => lock,
                Locked::Held { pid } => return ask(pid, out),
            };
            let store = stores::merchant_at(&path, domain, recipient).await?;
            let (merchant, follower) = start(config, &client, &store, recipient).await?;
            claim_all(&merchant, follower, sender).await?
        }
        Place::Database(url) => {
            let store = stores::merchant_in(&url, domain, recipient).await?;
            let (merchant, follower) = start(config, &client, &store, recipient).await?;
            claim_among(&merchant, follower, sender).await?
        }
    };
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

/// Only the process that accepts may claim: it alone knows which nonces are in flight.
fn ask(pid: Option<i32>, out: Output) -> eyre::Result<()> {
    let pid = pid.ok_or_eyre("another process has the merchant's lock, but does not say which")?;
    kill(Pid::from_raw(pid), Signal::SIGUSR1)?;
    out.answer(
        &json!({ "asked": pid }),
        format!("asked the running merchant (pid {pid}) to claim"),
    )
}

/// A merchant that is up to date and sells nothing.
async fn start<S: Store>(
    config: &Config,
    client: &ChainClient,
    store: &S,
    recipient: Address,
) -> eyre::Result<(Arc<Merchant<S>>, Follower)> {
    let follower = catch_up(client, store, config.finality()?).await?;
    let (mirror, fresh) = (follower.mirror(), Seed::new(clock::random().0));
    let (policy, domain) = (Policy::default(), client.domain());
    let merchant = Merchant::start(domain, recipient, policy, mirror, store.clone(), fresh).await?;
    Ok((merchant, follower))
}

/// Claims as one of the processes on a database. One of them claims at a time: while another does, this one must not.
async fn claim_among<S: Store>(
    merchant: &Arc<Merchant<S>>,
    follower: Follower,
    sender: Sender,
) -> eyre::Result<(u32, u128)> {
    merchant.join(LEASE, Part::MayClaim).await?;
    let done = if merchant.claims() {
        tokio::select! {
            claimed = claim_all(merchant, follower, sender) => claimed,
            error = beat_for_ever(merchant, LEASE) => Err(error),
        }
    } else {
        Err(again(
            "another process on this database claims: send it SIGUSR1, or stop it and ask again",
        ))
    };
    merchant.leave().await?;
    done
}

/// Claims until no winner is left, and waits until that is final. Winners and atomic units.
async fn claim_all<S: Store>(
    merchant: &Arc<Merchant<S>>,
    mut follower: Follower,
    sender: Sender,
) -> eyre::Result<(u32, u128)> {
    let store = merchant.store();
    let policy = ClaimPolicy {
        settle_secs: 0,
        ..ClaimPolicy::default()
    };
    let claimer = Claimer::new(Arc::clone(merchant), sender, policy, Seconds::MINUTE);
    let (mut claimed, mut paid) = (0, 0u128);
    loop {
        claimer.ask();
        match claimer.step(clock::now()).await? {
            // Gateways on the same database have not yet taken over what this claim closes.
            Step::Waited(Decision::Wait { settling, .. }) if settling > 0 => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
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
                follow_once(&mut follower, store).await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            _ => {}
        }
    }
}
