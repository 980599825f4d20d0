//! `deposit`, `wallet import` and `reclaim`: coins on their way into a wallet, and back to who deposited them. A deposit is
//! sent once, whatever happens in between; it becomes a coin when it is final, and a wallet takes it once.

use std::fmt;
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolCall;
use bindings::erc20::IERC20;
use bindings::offline::OfflineVault::{self, OfflineVaultEvents};
use chain::{Finality, Mined, Sender, Vaults};
use clap::Args;
use eyre::{OptionExt, ensure};
use protocol::offline::{Amount, ClassId, Coin, CoinId, Domain, Seconds, SignedDeposit, WalletId};
use serde_json::json;
use services::CallError;
use services::registrar::client::{ClientError, RegistrarClient};
use storage::offline::WalletStore;
use tracing::warn;
use url::Url;
use wallet::{DeviceError, Online};

use super::ask::{about, check_vault, take_lists, until};
use super::coin_file::CoinFile;
use super::folder::{At, Folder, show_class};
use super::sent::{Call, done, send_once};
use super::wait_of;
use super::wallet::parse_wallet;
use crate::config::Config;
use crate::exit::{refused, usage};
use crate::output::{Output, ether, rows};
use crate::units::{Asset, parse_span};
use crate::{clock, keys};

/// A deposit that is under way, in the wallet's folder.
const SENT: &str = "deposit.sent";
/// Its coin, until it is imported.
const MADE: &str = "deposit.json";

/// How much, for whom, for how long.
#[derive(Debug, Args)]
pub(crate) struct Deposit {
    /// The wallet's folder
    #[arg(long = "wallet", value_name = "DIR", env = "MICROPAY_WALLET")]
    folder: Option<PathBuf>,
    /// Id of somebody else's wallet, instead: its coin is written to --out
    #[arg(long, value_name = "WALLET", value_parser = parse_wallet, requires_all = ["out", "registrar"])]
    to: Option<WalletId>,
    /// Where that wallet's registrar answers
    #[arg(long, value_name = "URL", requires = "to")]
    registrar: Option<Url>,
    /// Coin file for that wallet: micropay offline wallet import --in FILE
    #[arg(long, value_name = "FILE", requires = "to")]
    out: Option<PathBuf>,
    /// How much, e.g. 0.5. One payment spends one coin, or a part of it
    #[arg(long)]
    amount: String,
    /// Token address [default: the native asset]
    #[arg(long, default_value_t = Address::ZERO, hide_default_value = true)]
    token: Address,
    /// How long its payments can be redeemed for certain, 90d at most
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "30d")]
    settle_within: Seconds,
    /// Key of the account that pays
    #[arg(long, value_name = "KEY")]
    from: String,
    /// Longest wait until it is final; the same command again goes on
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "30m")]
    wait: Seconds,
}

/// Which coins.
#[derive(Debug, Args)]
pub(crate) struct Import {
    #[command(flatten)]
    at: At,
    /// A coin file, as deposit --to writes it; with the registrar's receipt in it no network is needed
    #[arg(long = "in", value_name = "FILE")]
    file: Option<PathBuf>,
    /// The coin's id [default: every coin of the wallet that the chain has]
    #[arg(long, value_name = "COIN", conflicts_with = "file")]
    coin: Option<B256>,
    /// Longest wait until it is final
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "30m")]
    wait: Seconds,
}

/// Which coin.
#[derive(Debug, Args)]
pub(crate) struct Reclaim {
    /// The coin's id
    #[arg(long, value_name = "COIN", required_unless_present = "file")]
    coin: Option<B256>,
    /// Or its file
    #[arg(long = "in", value_name = "FILE", conflicts_with = "coin")]
    file: Option<PathBuf>,
    /// Key of the account that deposited it
    #[arg(long, value_name = "KEY")]
    from: String,
}

pub(super) async fn deposit(command: &Deposit, config: &Config, out: Output) -> eyre::Result<()> {
    match (&command.folder, command.to) {
        // The environment may name one's own wallet all the same.
        (_, Some(to)) => for_other(command, to, config, out).await,
        (Some(_), None) => for_own(command, config, out).await,
        (None, None) => Err(usage(
            "for whom? --wallet DIR for one's own wallet, --to WALLET for another's",
        )),
    }
}

async fn for_own(command: &Deposit, config: &Config, out: Output) -> eyre::Result<()> {
    let at = command.folder.as_deref().ok_or_eyre("a folder")?;
    let mut folder =
        Folder::open(at)?.ok_or_else(|| usage(format!("there is no wallet in {}", at.display())))?;
    // Before anything is sent: the wallet is registered, and nobody else has it.
    let mut device = folder.device().await?;
    let class = folder.terms().map(|terms| terms.class);
    let registrar = folder.registrar()?;
    let made = folder.path.join(MADE);
    let (sent, wallet, domain) = (folder.path.join(SENT), folder.id(), folder.domain());
    let client = config.connect_vault().await?;
    ensure_domain(client.domain(), domain)?;
    let asset = Asset::read(&client, command.token).await?;
    let sender = Sender::new(client, keys::account(config, &command.from)?);
    folder.learn(&asset)?;
    let amount = asset.parse(&command.amount)?;
    let wait = wait_of(command.wait);
    // While the transaction is kept, which coin it makes is the chain's to say: a reorg may have changed it.
    let coin = if made.exists() && !sent.exists() {
        let known = CoinFile::read(&made)?.coin(domain)?;
        if (known.asset, known.amount) != (asset.address, amount) {
            return Err(refused(format!(
                "a deposit of {} is under way, not of {}: finish that one first, with the same command",
                folder.asset(known.asset).show(known.amount),
                asset.show(amount)
            )));
        }
        known
    } else {
        if !sent.exists() {
            check_caps(&registrar, class, &asset, amount).await?;
        }
        send(
            &sender,
            ([&sent, &made], config.finality()?),
            wallet,
            command,
            amount,
        )
        .await?
    };
    let id = domain.coin_id(&coin);
    let receipt = until("the deposit is final", wait, || registrar.receipt(&coin)).await?;
    let new = device.import(&receipt).await?;
    if let Err(error) = take_lists(&folder, &mut device).await {
        warn!(%error, "the coin is there, and a revocation list is not: micropay offline sync");
    }
    let held = device.balance(asset.address).await?.held;
    let value = json!({
        "wallet": wallet.0, "coin": id.0, "asset": asset.address, "amount": coin.amount.0.to_string(),
        "settleBy": receipt.settle_by.0, "imported": new, "held": held.0.to_string(),
    });
    out.answer(&value, coin_text(id, &asset, &receipt, held))?;
    // Last of all: whoever does not see the answer asks again, and must not deposit again.
    done(&sent)?;
    done(&made)
}

async fn for_other(command: &Deposit, to: WalletId, config: &Config, out: Output) -> eyre::Result<()> {
    let (Some(url), Some(file)) = (&command.registrar, &command.out) else {
        return Err(usage("--to needs --registrar and --out"));
    };
    let client = config.connect_vault().await?;
    let domain = client.domain();
    let answer = about(url).await?;
    check_vault(&answer, domain)?;
    let registrar = RegistrarClient::new(url.clone(), domain, answer.registrar)?;
    let known = client.wallet_of(to, chain::At::Latest).await?;
    let known = known.ok_or_else(|| refused(format!("wallet {to} is not registered")))?;
    let known_class = known.class;
    if known.registrar != answer.registrar {
        return Err(refused(format!(
            "wallet {to} is registered by {}, not by {}, who answers at {url}",
            known.registrar, answer.registrar
        )));
    }
    let asset = Asset::read(&client, command.token).await?;
    let amount = asset.parse(&command.amount)?;
    let sender = Sender::new(client, keys::account(config, &command.from)?);
    let mut sent = file.as_os_str().to_owned();
    sent.push(".sent");
    let sent = PathBuf::from(sent);
    // As long as there is no receipt the transaction is kept, and which coin it makes is the chain's to say.
    let known = if file.exists() {
        Some(CoinFile::read(file)?)
    } else {
        None
    };
    let coin = match known {
        Some(known) if known.receipt(domain)?.is_some() || !sent.exists() => {
            let coin = known.coin(domain)?;
            if (coin.wallet, coin.asset, coin.amount) != (to, asset.address, amount) {
                return Err(refused(format!(
                    "{} is of another coin: {} for wallet {}",
                    file.display(),
                    coin.amount,
                    coin.wallet
                )));
            }
            coin
        }
        _ => {
            if !sent.exists() {
                check_caps(&registrar, Some(ClassId(known_class)), &asset, amount).await?;
            }
            send(&sender, ([&sent, file], config.finality()?), to, command, amount).await?
        }
    };
    let wait = wait_of(command.wait);
    let receipt = until("the deposit is final", wait, || registrar.receipt(&coin)).await?;
    CoinFile::new(domain, &coin, Some(&receipt)).write(file)?;
    done(&sent)?;
    let id = domain.coin_id(&coin);
    let value = json!({
        "wallet": to.0, "coin": id.0, "asset": asset.address, "amount": coin.amount.0.to_string(),
        "settleBy": receipt.settle_by.0, "file": file,
    });
    out.answer(
        &value,
        format!(
            "coin {id} of {} for wallet {to}: {}",
            asset.show(coin.amount),
            file.display()
        ),
    )
}

/// A coin above the registrar's caps would get no receipt, and wait for its depositor until its time is over.
async fn check_caps(
    registrar: &RegistrarClient,
    class: Option<ClassId>,
    asset: &Asset,
    amount: Amount,
) -> eyre::Result<()> {
    let answer = registrar.about().await?;
    let Some(class) = answer
        .classes
        .iter()
        .find(|known| Some(ClassId(known.class)) == class)
    else {
        return Err(refused(format!(
            "registrar {} no longer has class {}: it would give the coin no receipt",
            answer.registrar,
            class.map_or_else(|| "–".to_owned(), show_class)
        )));
    };
    if class.caps.is_empty() {
        return Ok(());
    }
    let name = show_class(ClassId(class.class));
    let Some(cap) = class.caps.iter().find(|cap| cap.asset == asset.address) else {
        return Err(refused(format!(
            "registrar {} gives class {name} receipts for {} assets, and {} is none of them",
            answer.registrar,
            class.caps.len(),
            asset.address
        )));
    };
    let limit = cap.coin.min(cap.wallet);
    if amount.0 > limit {
        return Err(refused(format!(
            "a coin of {} is above {}, the most of class {name}",
            asset.show(amount),
            asset.show(Amount(limit))
        )));
    }
    Ok(())
}

/// Sends the deposit, or goes on with the one that was sent, and writes the coin that it makes as things stand. Both files
/// stay: a reorg can still take the coin away, and bring it back as another.
async fn send(
    sender: &Sender<Vaults>,
    ([file, made], finality): ([&Path; 2], Finality),
    wallet: WalletId,
    command: &Deposit,
    amount: Amount,
) -> eyre::Result<Coin> {
    let asset = command.token;
    if asset != Address::ZERO && !file.exists() {
        approve(sender, asset, amount).await?;
    }
    let purpose = json!({ "deposit": amount.0.to_string(), "asset": asset, "wallet": wallet.0 });
    let mined = send_once(sender, (file, finality), purpose, || {
        let call = OfflineVault::depositCall {
            wallet: wallet.0,
            asset,
            amount: amount.0,
            settleBy: clock::now().plus(command.settle_within).0,
        };
        Call {
            data: call.abi_encode().into(),
            value: if asset == Address::ZERO {
                U256::from(amount.0)
            } else {
                U256::ZERO
            },
        }
    })
    .await;
    if mined.is_err() && !file.exists() {
        // Of a transaction that comes to nothing there is no coin.
        done(made)?;
    }
    let mined = mined?;
    let coin = mined.events.iter().find_map(chain::deposited);
    let (coin, _) = coin.ok_or_else(|| eyre::eyre!("transaction {} has no event Deposited", mined.hash))?;
    CoinFile::new(sender.client().domain(), &coin, None).write(made)?;
    Ok(coin)
}

/// Again it does nothing.
async fn approve(sender: &Sender<Vaults>, token: Address, amount: Amount) -> eyre::Result<()> {
    let client = sender.client();
    let (spender, amount) = (client.contract(), U256::from(amount.0));
    if client.allowance(token, sender.address(), spender).await? < amount {
        let call = IERC20::approveCall { spender, amount };
        sender.send(token, call.abi_encode().into(), U256::ZERO).await?;
    }
    Ok(())
}

pub(super) async fn import(command: &Import, config: &Config, out: Output) -> eyre::Result<()> {
    let folder = command.at.open()?;
    let mut device = folder.device().await?;
    let domain = folder.domain();
    let coins: Vec<(Coin, Option<SignedDeposit>)> = match (&command.file, command.coin) {
        (Some(file), _) => {
            let read = CoinFile::read(file)?;
            vec![(read.coin(domain)?, read.receipt(domain)?)]
        }
        (None, Some(coin)) => vec![(find(config, domain, CoinId(coin)).await?, None)],
        (None, None) => {
            let client = config.connect_vault().await?;
            ensure_domain(client.domain(), domain)?;
            let all = client.deposits_of(folder.id()).await?;
            all.into_iter().map(|(coin, _)| (coin, None)).collect()
        }
    };
    let known = device.store().deposits().await?;
    let named = command.file.is_some() || command.coin.is_some();
    let mut found = Vec::new();
    for (coin, receipt) in &coins {
        let id = domain.coin_id(coin);
        if coin.wallet != folder.id() {
            return Err(refused(format!(
                "coin {id} is of wallet {}, not of {}",
                coin.wallet,
                folder.id()
            )));
        }
        let had = known.iter().find(|known| known.deposit.coin == *coin);
        let receipt = match receipt.or(had.map(|known| known.deposit)) {
            Some(receipt) => Ok(receipt),
            None if named => {
                let (registrar, wait) = (folder.registrar()?, wait_of(command.wait));
                Ok(until("the deposit is final", wait, || registrar.receipt(coin)).await?)
            }
            None => receipt_now(&folder.registrar()?, coin).await?,
        };
        let came = match receipt {
            Err(not) => not,
            Ok(receipt) => match device.import(&receipt).await {
                Ok(true) => Came::New,
                Ok(false) => Came::Before,
                // Anybody may deposit for a wallet: such a coin must not keep the others out.
                Err(DeviceError::Refused(why)) if !named => Came::Refused(why.to_string()),
                Err(error) => return Err(error.into()),
            },
        };
        found.push((id, *coin, came));
    }
    let line = |(id, coin, came): &(CoinId, Coin, Came)| {
        let amount = folder.asset(coin.asset).show(coin.amount);
        format!("{id}  {amount}  {came}")
    };
    let lines = found.iter().map(line).collect::<Vec<_>>().join("\n");
    let is_refused = |came: &Came| matches!(came, Came::Refused(_));
    if found.iter().any(|(.., came)| is_refused(came))
        && !found
            .iter()
            .any(|(.., came)| matches!(came, Came::New | Came::Before))
    {
        return Err(refused(format!("no coin was imported:\n{lines}")));
    }
    let value: Vec<_> = found
        .iter()
        .map(|(id, coin, came)| came.json(*id, coin))
        .collect();
    let text = if found.is_empty() {
        format!("the chain has no coin of wallet {}", folder.id())
    } else {
        lines
    };
    out.answer(&value, text)
}

/// A coin's receipt, or why there is none; nobody waits for it.
async fn receipt_now(registrar: &RegistrarClient, coin: &Coin) -> eyre::Result<Result<SignedDeposit, Came>> {
    match registrar.receipt(coin).await {
        Ok(receipt) => Ok(Ok(receipt)),
        Err(ClientError::Call(CallError::Refused(problem))) if problem.rule == "not-final" => {
            Ok(Err(Came::NotFinal(problem.detail)))
        }
        Err(ClientError::Call(CallError::Refused(problem))) if !problem.retry => {
            Ok(Err(Came::Refused(problem.detail)))
        }
        Err(error) => Err(error.into()),
    }
}

/// What became of a coin.
enum Came {
    New,
    Before,
    /// Asked again later, it is there.
    NotFinal(String),
    Refused(String),
}

impl Came {
    fn json(&self, id: CoinId, coin: &Coin) -> serde_json::Value {
        let mut value = json!({
            "coin": id.0, "asset": coin.asset, "amount": coin.amount.0.to_string(),
            "imported": matches!(self, Self::New),
        });
        match self {
            Self::New | Self::Before => {}
            Self::NotFinal(why) => value["notFinal"] = json!(why),
            Self::Refused(why) => value["refused"] = json!(why),
        }
        value
    }
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("imported"),
            Self::Before => f.write_str("was imported before"),
            Self::NotFinal(why) => write!(f, "not final yet, ask again: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

pub(super) async fn reclaim(command: &Reclaim, config: &Config, out: Output) -> eyre::Result<()> {
    let client = config.connect_vault().await?;
    let domain = client.domain();
    let coin = match (&command.file, command.coin) {
        (Some(file), _) => CoinFile::read(file)?.coin(domain)?,
        (None, Some(coin)) => find(config, domain, CoinId(coin)).await?,
        (None, None) => return Err(usage("which coin? --coin ID or --in FILE")),
    };
    let id = domain.coin_id(&coin);
    let asset = Asset::read(&client, coin.asset).await?;
    let sender = Sender::new(client, keys::account(config, &command.from)?);
    let mined: Mined<Vaults> = Online::new(sender.clone()).reclaim(&coin).await?;
    let back = mined.events.iter().find_map(|event| match event {
        OfflineVaultEvents::Reclaimed(reclaimed) => Some(reclaimed.amount),
        _ => None,
    });
    let back = back.unwrap_or_default();
    let value = json!({
        "coin": id.0, "account": sender.address(), "asset": coin.asset, "amount": back.to_string(),
        "transaction": mined.hash, "gas": mined.gas_used,
    });
    out.answer(
        &value,
        format!(
            "{} of coin {id} are {}'s credit again (gas {}, fee {}): micropay credit withdraw --offline",
            asset.show(back),
            sender.address(),
            mined.gas_used,
            ether(U256::from(mined.fee()))
        ),
    )
}

/// A coin by its name, which only the chain knows what it is made of.
async fn find(config: &Config, domain: Domain, id: CoinId) -> eyre::Result<Coin> {
    let client = config.connect_vault().await?;
    ensure_domain(client.domain(), domain)?;
    let found = client.deposit_of(id).await?;
    let (coin, _) = found.ok_or_else(|| refused(format!("the chain has no coin {id}")))?;
    ensure!(
        domain.coin_id(&coin) == id,
        "the node says that coin {id} is {}",
        domain.coin_id(&coin)
    );
    Ok(coin)
}

/// Whether the node's vault is the wallet's.
pub(super) fn ensure_domain(got: Domain, needed: Domain) -> eyre::Result<()> {
    if (got.chain_id(), got.contract()) == (needed.chain_id(), needed.contract()) {
        return Ok(());
    }
    Err(usage(format!(
        "the node's vault is {} on chain {}, the wallet's {} on chain {}",
        got.contract(),
        got.chain_id(),
        needed.contract(),
        needed.chain_id()
    )))
}

fn coin_text(id: CoinId, asset: &Asset, receipt: &SignedDeposit, held: Amount) -> String {
    rows(&[
        ("coin", id.to_string()),
        ("amount", asset.show(receipt.coin.amount)),
        ("settle by", crate::output::date(receipt.settle_by)),
        ("held now", asset.show(held)),
    ])
}
