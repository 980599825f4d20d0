//! `micropay credit`: what a contract owes an account, and its withdrawal to any address.

use alloy::primitives::{Address, U256};
use alloy::sol_types::SolCall;
use bindings::ticket::TicketEscrow;
use chain::{At, Client, Mined, Scheme, Sender};
use clap::Subcommand;
use protocol::ticket::Amount;
use serde_json::json;

use crate::config::Config;
use crate::exit::refused;
use crate::keys;
use crate::output::Output;
use crate::units::Asset;

/// Credit in the contract.
#[derive(Debug, Subcommand)]
pub(crate) enum Credit {
    /// Show the credit of an account
    Show {
        /// Address or key name
        account: String,
        /// Token address [default: the native asset]
        #[arg(long, default_value_t = Address::ZERO, hide_default_value = true)]
        asset: Address,
        /// In the payment channel contract, where vendors and clients are paid [default: in the ticket escrow]
        #[arg(long)]
        channel: bool,
        /// In the offline vault, where exits are paid
        #[arg(long, conflicts_with = "channel")]
        offline: bool,
    },
    /// Withdraw credit
    Withdraw {
        /// Key of the account
        #[arg(long, value_name = "KEY")]
        from: String,
        /// Where to [default: the account itself]
        #[arg(long)]
        to: Option<Address>,
        /// How much [default: all]
        #[arg(long)]
        amount: Option<String>,
        /// Token address [default: the native asset]
        #[arg(long, default_value_t = Address::ZERO, hide_default_value = true)]
        asset: Address,
        /// From the payment channel contract [default: from the ticket escrow]
        #[arg(long)]
        channel: bool,
        /// From the offline vault
        #[arg(long, conflicts_with = "channel")]
        offline: bool,
    },
}

pub(crate) async fn run(command: &Credit, config: &Config, out: Output) -> eyre::Result<()> {
    let (Credit::Show { channel, offline, .. } | Credit::Withdraw { channel, offline, .. }) = command;
    match (channel, offline) {
        (_, true) => run_at(command, config, &config.connect_vault().await?, out).await,
        (true, false) => run_at(command, config, &config.connect_channels().await?, out).await,
        (false, false) => run_at(command, config, &config.connect().await?, out).await,
    }
}

async fn run_at<S: Scheme>(
    command: &Credit,
    config: &Config,
    client: &Client<S>,
    out: Output,
) -> eyre::Result<()> {
    match command {
        Credit::Show { account, asset, .. } => {
            let account = keys::address_or_name(config, account)?;
            let asset = Asset::read(client, *asset).await?;
            let credit = client.credit_of(asset.address, account, At::Latest).await?;
            let value = json!({ "account": account, "asset": asset.address, "credit": credit.0.to_string() });
            out.answer(&value, asset.show(credit))
        }
        Credit::Withdraw {
            from,
            to,
            amount,
            asset,
            ..
        } => {
            let sender = Sender::new(client.clone(), keys::account(config, from)?);
            let asset = Asset::read(client, *asset).await?;
            let amount = match amount {
                Some(amount) => asset.parse(amount)?,
                None => {
                    client
                        .credit_of(asset.address, sender.address(), At::Latest)
                        .await?
                }
            };
            if amount == Amount::ZERO {
                return Err(refused(format!(
                    "{} has no credit in {}",
                    sender.address(),
                    asset.symbol
                )));
            }
            let to = to.unwrap_or(sender.address());
            let mined = withdraw(&sender, asset.address, to, amount).await?;
            let value = json!({
                "account": sender.address(), "to": to, "asset": asset.address, "amount": amount.0.to_string(),
                "transaction": mined.hash, "gas": mined.gas_used,
            });
            out.answer(&value, format!("{} sent to {to}", asset.show(amount)))
        }
    }
}

/// Moves credit of the sender's account to an address.
pub(crate) async fn withdraw<S: Scheme>(
    sender: &Sender<S>,
    asset: Address,
    to: Address,
    amount: Amount,
) -> eyre::Result<Mined<S>> {
    // Every contract of ours has this function.
    let call = TicketEscrow::withdrawCreditCall {
        asset,
        to,
        amount: amount.into(),
    };
    let contract = sender.client().contract();
    Ok(sender
        .send(contract, call.abi_encode().into(), U256::ZERO)
        .await?)
}

#[cfg(test)]
mod tests {
    use bindings::channel::PaymentChannel;
    use bindings::offline::OfflineVault;

    use super::*;

    #[test]
    fn every_contract_gives_credit_out_alike() {
        assert_eq!(
            [
                PaymentChannel::withdrawCreditCall::SELECTOR,
                OfflineVault::withdrawCreditCall::SELECTOR
            ],
            [TicketEscrow::withdrawCreditCall::SELECTOR; 2]
        );
    }
}
