//! `micropay escrow`: the payer's steps on chain.

use alloy::primitives::{Address, U256};
use chain::{At, ChainClient, Mined, Sender};
use clap::{Args, Subcommand};
use eyre::OptionExt;
use payer::ticket::{EscrowSteps, Opening};
use protocol::ticket::{EscrowRecord, Nonce, Seconds, Status, Timestamp, odds};
use serde_json::{Value, json};
use storage::OrderStore;

use crate::config::Config;
use crate::exit::refused;
use crate::output::{Output, date, ether, rows, span};
use crate::units::{Asset, Rate, parse_span};
use crate::{keys, stores};

/// Escrows on chain.
#[derive(Debug, Subcommand)]
pub(crate) enum Escrow {
    /// Open an escrow
    Open(Open),
    /// Show an escrow as the chain has it
    Show {
        /// Address or key name of the escrow
        escrow: String,
    },
    /// Add to the balance (anyone may)
    TopUp {
        /// Address or key name of the escrow
        escrow: String,
        /// How much, e.g. 0.5
        amount: String,
        /// Key of the account that pays
        #[arg(long, value_name = "KEY")]
        from: String,
    },
    /// Raise the ticket cap and the penalty
    RaiseCap {
        /// Address or key name of the escrow
        escrow: String,
        /// The new cap
        cap: u64,
        /// How much to add to the penalty [default: what the cap needs]
        #[arg(long)]
        penalty: Option<String>,
        /// Key of the payer's account
        #[arg(long, value_name = "KEY")]
        from: String,
    },
    /// Set prizes aside for one merchant: the only unconditional guarantee
    Earmark {
        /// Address or key name of the escrow
        escrow: String,
        /// Address or key name of the merchant
        recipient: String,
        /// How many prizes
        prizes: u32,
        /// For how long, e.g. 7d
        #[arg(long, value_name = "SPAN", value_parser = parse_span)]
        life: Seconds,
        /// Key of the payer's account
        #[arg(long, value_name = "KEY")]
        from: String,
    },
    /// Take back what is left of an expired earmark
    Release {
        /// Address or key name of the escrow
        escrow: String,
        /// Address or key name of the merchant
        recipient: String,
        /// Key of the payer's account
        #[arg(long, value_name = "KEY")]
        from: String,
    },
    /// Withdraw: the first call starts the delay, a call after it closes the escrow
    Withdraw {
        /// Address or key name of the escrow
        escrow: String,
        /// Key of the payer's account
        #[arg(long, value_name = "KEY")]
        from: String,
    },
    /// Stop a withdrawal
    Cancel {
        /// Address or key name of the escrow
        escrow: String,
        /// Key of the payer's account
        #[arg(long, value_name = "KEY")]
        from: String,
    },
    /// After restoring an old copy of the payer's store: never again use the nonces that were issued since. Without this a
    /// second ticket with one of them would forfeit the penalty
    SkipNonces {
        /// Address or key name of the escrow
        escrow: String,
        /// The highest nonce that may have been issued
        #[arg(long, value_name = "NONCE")]
        above: u64,
    },
    /// Pay all creditors of an insolvent escrow (anyone may)
    Cure {
        /// Address or key name of the escrow
        escrow: String,
        /// Key of the account that pays
        #[arg(long, value_name = "KEY")]
        from: String,
    },
    /// Burn the penalty of an escrow that was not cured in time (anyone may)
    Burn {
        /// Address or key name of the escrow
        escrow: String,
        /// Key of the account that pays the gas
        #[arg(long, value_name = "KEY")]
        from: String,
    },
}

/// What a payer chooses at opening.
#[derive(Debug, Args)]
pub(crate) struct Open {
    /// Name of the escrow key, which signs tickets (`micropay keys new NAME`)
    key: String,
    /// Key of the account that pays, and gets back what is left
    #[arg(long, value_name = "KEY")]
    from: String,
    /// What a winning ticket pays, e.g. 0.01
    #[arg(long)]
    prize: String,
    /// What winners are paid from
    #[arg(long)]
    balance: String,
    /// How many tickets the escrow may issue, at most
    #[arg(long, value_name = "TICKETS")]
    tickets: u32,
    /// Most often a ticket may win
    #[arg(long, value_name = "1/N", default_value = "1/128")]
    rate: Rate,
    /// What is burned if the escrow cheats [default: what merchants ask for this cap and rate]
    #[arg(long)]
    penalty: Option<String>,
    /// Token address [default: the native asset]
    #[arg(long, default_value_t = Address::ZERO, hide_default_value = true)]
    asset: Address,
}

pub(crate) async fn run(command: &Escrow, config: &Config, out: Output) -> eyre::Result<()> {
    let client = config.connect().await?;
    match command {
        Escrow::Open(open) => open_escrow(open, config, client, out).await,
        Escrow::Show { escrow } => show(&client, keys::address_or_name(config, escrow)?, out).await,
        Escrow::TopUp { escrow, amount, from } => {
            let (escrow, record) = read(config, &client, escrow).await?;
            let asset = Asset::read(&client, record.asset).await?;
            let amount = asset.parse(amount)?;
            let mined = steps(config, &client, from)?
                .top_up(escrow, record.asset, amount)
                .await?;
            done(out, "topped up", escrow, &mined)
        }
        Escrow::RaiseCap {
            escrow,
            cap,
            penalty,
            from,
        } => {
            let (escrow, record) = read(config, &client, escrow).await?;
            let asset = Asset::read(&client, record.asset).await?;
            let cap = Nonce(*cap);
            let amount = match penalty {
                Some(amount) => asset.parse(amount)?,
                None => {
                    let needed = odds::required_penalty(record.prize, cap, record.max_threshold, EPSILON);
                    // The contract wants more penalty for more cap, even where there is enough already.
                    needed
                        .checked_sub(record.penalty)
                        .unwrap_or_default()
                        .max(record.prize)
                }
            };
            let mined = steps(config, &client, from)?
                .raise_cap(escrow, record.asset, cap, amount)
                .await?;
            done(out, "cap raised", escrow, &mined)
        }
        Escrow::Earmark {
            escrow,
            recipient,
            prizes,
            life,
            from,
        } => {
            let escrow = keys::address_or_name(config, escrow)?;
            let recipient = keys::address_or_name(config, recipient)?;
            let until = client.head().await?.timestamp.plus(*life);
            let mined = steps(config, &client, from)?
                .earmark(escrow, recipient, *prizes, until)
                .await?;
            done(out, "earmarked", escrow, &mined)
        }
        Escrow::Release {
            escrow,
            recipient,
            from,
        } => {
            let escrow = keys::address_or_name(config, escrow)?;
            let recipient = keys::address_or_name(config, recipient)?;
            let mined = steps(config, &client, from)?
                .release_earmark(escrow, recipient)
                .await?;
            done(out, "released", escrow, &mined)
        }
        Escrow::Withdraw { escrow, from } => withdraw(config, &client, escrow, from, out).await,
        Escrow::Cancel { escrow, from } => {
            let (escrow, record) = read(config, &client, escrow).await?;
            if record.status != Status::Withdrawing {
                return Err(refused(format!(
                    "escrow {escrow} is {}, not withdrawing",
                    status_name(record.status)
                )));
            }
            let mined = steps(config, &client, from)?.cancel_withdraw(escrow).await?;
            done(out, "withdrawal cancelled", escrow, &mined)
        }
        Escrow::SkipNonces { escrow, above } => {
            let escrow = keys::address_or_name(config, escrow)?;
            let store = stores::payer(&config.home, client.domain()).await?;
            let next = store.raise_nonce(escrow, Nonce(*above)).await?;
            out.answer(
                &json!({ "escrow": escrow, "nextNonce": next.0 }),
                format!("the next nonce of {escrow} is {next}"),
            )
        }
        Escrow::Burn { escrow, from } => {
            let escrow = keys::address_or_name(config, escrow)?;
            let mined = steps(config, &client, from)?.burn(escrow).await?;
            done(out, "burned", escrow, &mined)
        }
        Escrow::Cure { escrow, from } => cure(config, &client, escrow, from, out).await,
    }
}

/// Probability that an escrow's tickets win more than its penalty covers, as merchants judge by default.
const EPSILON: f64 = 1e-4;

async fn open_escrow(open: &Open, config: &Config, client: ChainClient, out: Output) -> eyre::Result<()> {
    let asset = Asset::read(&client, open.asset).await?;
    let prize = asset.parse(&open.prize)?;
    // Nonces start at 1.
    let ticket_cap = Nonce(u64::from(open.tickets) + 1);
    let max_threshold = open.rate.0.to_bound().ok_or_eyre("the rate is too close to 1")?;
    let penalty = match &open.penalty {
        Some(penalty) => asset.parse(penalty)?,
        None => odds::required_penalty(prize, ticket_cap, max_threshold, EPSILON),
    };
    let opening = Opening {
        asset: open.asset,
        prize,
        max_threshold,
        ticket_cap,
        penalty,
        balance: asset.parse(&open.balance)?,
    };
    let key = keys::escrow_key(config, &open.key)?;
    let mined = steps(config, &client, &open.from)?.open(&key, &opening).await?;
    let value = json!({
        "escrow": key.address(), "transaction": mined.hash, "block": mined.block.number, "gas": mined.gas_used,
        "balance": opening.balance.0.to_string(), "penalty": penalty.0.to_string(), "prize": prize.0.to_string(),
        "ticketCap": ticket_cap.0,
    });
    out.answer(
        &value,
        rows(&[
            ("escrow", key.address().to_string()),
            ("balance", asset.show(opening.balance)),
            ("penalty", asset.show(penalty)),
            ("prize", asset.show(prize)),
            ("tickets", open.tickets.to_string()),
            ("transaction", mined.hash.to_string()),
            ("gas", mined.gas_used.to_string()),
        ]),
    )
}

async fn show(client: &ChainClient, escrow: Address, out: Output) -> eyre::Result<()> {
    let record = client.escrow_of(escrow, At::Latest).await?;
    let record = record.ok_or_else(|| eyre::eyre!("there is no escrow {escrow}"))?;
    let asset = Asset::read(client, record.asset).await?;
    let required = odds::required_penalty(record.prize, record.ticket_cap, record.max_threshold, EPSILON);
    let mut text = vec![
        ("escrow", escrow.to_string()),
        ("payer", record.payer.to_string()),
        ("status", status(&record)),
        ("balance", asset.show(record.balance)),
        (
            "penalty",
            format!(
                "{} (merchants ask {})",
                asset.show(record.penalty),
                asset.show(required)
            ),
        ),
        ("prize", asset.show(record.prize)),
        (
            "tickets",
            format!(
                "{} at most, each winning 1 time in {:.0} at most",
                record.ticket_cap.0.saturating_sub(1),
                1.0 / record.max_threshold.probability()
            ),
        ),
    ];
    if record.earmarked.0 > 0 {
        text.push((
            "earmarked",
            format!(
                "{} until {}",
                asset.show(record.earmarked),
                date(record.earmark_until)
            ),
        ));
    }
    if record.debt > U256::ZERO {
        text.push(("debt", asset.show(record.debt)));
    }
    out.answer(&describe(escrow, &record, required.0), rows(&text))
}

fn describe(escrow: Address, record: &EscrowRecord, required: u128) -> Value {
    json!({
        "escrow": escrow, "payer": record.payer, "asset": record.asset,
        "status": status_name(record.status),
        "balance": record.balance.0.to_string(), "penalty": record.penalty.0.to_string(),
        "penaltyRequired": required.to_string(), "prize": record.prize.0.to_string(),
        "maxThreshold": record.max_threshold.0, "ticketCap": record.ticket_cap.0,
        "earmarked": record.earmarked.0.to_string(), "earmarkUntil": record.earmark_until.0,
        "withdrawAt": record.withdraw_at.map(|at| at.0), "cureBy": record.cure_by.map(|at| at.0),
        "debt": record.debt.to_string(),
    })
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Open => "open",
        Status::Withdrawing => "withdrawing",
        Status::Insolvent => "insolvent",
        Status::Closed => "closed",
    }
}

fn status(record: &EscrowRecord) -> String {
    let name = status_name(record.status);
    match (record.status, record.withdraw_at, record.cure_by) {
        (Status::Withdrawing, Some(at), _) => format!("{name}, possible at {}", date(at)),
        (Status::Insolvent, _, Some(by)) => format!("{name}, to be cured by {}", date(by)),
        _ => name.to_owned(),
    }
}

async fn withdraw(
    config: &Config,
    client: &ChainClient,
    escrow: &str,
    from: &str,
    out: Output,
) -> eyre::Result<()> {
    let (escrow, record) = read(config, client, escrow).await?;
    if matches!(record.status, Status::Insolvent | Status::Closed) {
        return Err(refused(format!(
            "escrow {escrow} is {}, not open",
            status_name(record.status)
        )));
    }
    let steps = steps(config, client, from)?;
    if record.status != Status::Withdrawing {
        let mined = steps.request_withdraw(escrow).await?;
        let (_, record) = read(config, client, &escrow.to_string()).await?;
        let at = record.withdraw_at.unwrap_or_default();
        let value =
            json!({ "step": "requested", "escrow": escrow, "withdrawAt": at.0, "transaction": mined.hash });
        let text = format!(
            "withdrawal requested; call this again at {}, in {}",
            date(at),
            span(until(client, at).await?)
        );
        return out.answer(&value, text);
    }
    let at = record.withdraw_at.unwrap_or_default();
    let wait = until(client, at).await?;
    if wait > 0 {
        return Err(refused(format!(
            "the withdrawal is possible at {}, in {}",
            date(at),
            span(wait)
        )));
    }
    let mined = steps.withdraw(escrow).await?;
    let value = json!({ "step": "withdrawn", "escrow": escrow, "transaction": mined.hash });
    out.answer(
        &value,
        "withdrawn: what was left is your credit (micropay credit withdraw)",
    )
}

async fn until(client: &ChainClient, at: Timestamp) -> eyre::Result<u64> {
    Ok(at.since(client.head().await?.timestamp).0)
}

async fn cure(
    config: &Config,
    client: &ChainClient,
    escrow: &str,
    from: &str,
    out: Output,
) -> eyre::Result<()> {
    let (escrow, record) = read(config, client, escrow).await?;
    if record.status != Status::Insolvent {
        return Err(refused(format!(
            "escrow {escrow} is {}, not insolvent",
            status_name(record.status)
        )));
    }
    let creditors = creditors(client, escrow).await?;
    let debt = protocol::ticket::Amount::try_from(record.debt)?;
    let mined = steps(config, client, from)?
        .cure(escrow, record.asset, creditors, debt)
        .await?;
    done(out, "cured", escrow, &mined)
}

/// Who is owed, from the contract's events.
async fn creditors(client: &ChainClient, escrow: Address) -> eyre::Result<Vec<Address>> {
    let start = chain::Start::Deployed { block: 0 };
    let config = chain::FollowerConfig::new(chain::Finality::Depth(0));
    let mut follower = chain::Follower::start(client.clone(), config, start).await?;
    while follower.poll().await?.behind > 0 {}
    let view = follower.mirror().view(escrow);
    Ok(view
        .head
        .map(|record| record.debts.keys().copied().collect())
        .unwrap_or_default())
}

async fn read(config: &Config, client: &ChainClient, escrow: &str) -> eyre::Result<(Address, EscrowRecord)> {
    let escrow = keys::address_or_name(config, escrow)?;
    let record = client.escrow_of(escrow, At::Latest).await?;
    Ok((
        escrow,
        record.ok_or_else(|| eyre::eyre!("there is no escrow {escrow}"))?,
    ))
}

fn steps(config: &Config, client: &ChainClient, from: &str) -> eyre::Result<EscrowSteps> {
    Ok(EscrowSteps::new(Sender::new(
        client.clone(),
        keys::account(config, from)?,
    )))
}

fn done(out: Output, what: &str, escrow: Address, mined: &Mined) -> eyre::Result<()> {
    let value = json!({
        "step": what, "escrow": escrow, "transaction": mined.hash, "block": mined.block.number, "gas": mined.gas_used,
    });
    out.answer(
        &value,
        format!(
            "{what}: {escrow} in block {} (gas {}, fee {})",
            mined.block.number,
            mined.gas_used,
            ether(U256::from(mined.fee()))
        ),
    )
}
