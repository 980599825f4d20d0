//! `micropay merchant`: what a merchant does besides selling.

use alloy::primitives::Address;
use chain::Sender;
use clap::Subcommand;
use eyre::bail;
use serde_json::json;
use storage::MirrorStore;

use crate::config::Config;
use crate::keys;
use crate::output::Output;
use crate::stores::{self, Locked};

/// The merchant.
#[derive(Debug, Subcommand)]
pub(crate) enum MerchantCommand {
    /// Forget the copy of the chain, to be read anew: the way out when a final block was reorganised away
    Resync {
        /// Address or key name of the merchant
        merchant: String,
    },
    /// Let another account claim for this merchant, or no longer
    Operator {
        /// Address or key name of the account that may claim
        operator: String,
        /// Take the right away
        #[arg(long)]
        revoke: bool,
        /// Key of the merchant's account
        #[arg(long, value_name = "KEY")]
        from: String,
    },
}

pub(crate) async fn run(command: &MerchantCommand, config: &Config, out: Output) -> eyre::Result<()> {
    match command {
        MerchantCommand::Resync { merchant } => {
            let recipient = keys::address_or_name(config, merchant)?;
            let domain = config.domain().await?;
            let Locked::Ours(_lock) = stores::lock_merchant(&config.home, domain, recipient)? else {
                bail!("merchant {recipient} is running; stop it first");
            };
            stores::merchant(&config.home, domain, recipient)
                .await?
                .forget_mirror()
                .await?;
            out.answer(
                &json!({ "merchant": recipient, "forgotten": true }),
                "forgotten: the next start reads the chain anew",
            )
        }
        MerchantCommand::Operator {
            operator,
            revoke,
            from,
        } => {
            let client = config.connect().await?;
            let operator = keys::address_or_name(config, operator)?;
            let sender = Sender::new(client, keys::account(config, from)?);
            set_operator(&sender, operator, !revoke).await?;
            let value = json!({ "recipient": sender.address(), "operator": operator, "approved": !revoke });
            out.answer(
                &value,
                format!(
                    "{operator} may {}claim for {}",
                    if *revoke { "no longer " } else { "" },
                    sender.address()
                ),
            )
        }
    }
}

async fn set_operator(sender: &Sender, operator: Address, approved: bool) -> eyre::Result<()> {
    use alloy::sol_types::SolCall;
    let call = bindings::ticket::TicketEscrow::setOperatorCall { operator, approved };
    let contract = sender.client().contract();
    sender
        .send(contract, call.abi_encode().into(), alloy::primitives::U256::ZERO)
        .await?;
    Ok(())
}
