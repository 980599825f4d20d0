//! `micropay channel advise`: ticket or channel? A channel costs two transactions, whatever is paid over it; tickets cost a
//! share of a claim each. The gas is what the committed snapshots measured.

use std::collections::BTreeMap;

use alloy::primitives::U256;
use alloy::providers::Provider;
use clap::Args;

use protocol::channel::advise::{Advice, Habit, SchemeGas, advise};
use protocol::channel::{Amount, Seconds};
use serde_json::json;

use crate::config::Config;
use crate::exit::usage;
use crate::output::{Output, ether, rows};
use crate::units::{Asset, Rate, parse_span};

const TICKETS: &str = include_str!("../../../../tests/contracts/snapshots/TicketEscrow.json");
const CHANNELS: &str = include_str!("../../../../tests/contracts/snapshots/PaymentChannel.json");

/// A payer's habit with one seller.
#[derive(Debug, Args)]
pub(crate) struct Advise {
    /// Payments a day to the one seller
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    per_day: f64,
    /// For how long a channel would be open
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "30d")]
    life: Seconds,
    /// How often a ticket would win
    #[arg(long, value_name = "1/N", default_value = "1/128")]
    rate: Rate,
    /// What one payment is worth, in ether (0.0001) or wei (100wei): to compare with its gas
    #[arg(long, value_name = "AMOUNT")]
    price: Option<String>,
    /// There is an escrow anyway: tickets cost only their claims
    #[arg(long)]
    has_escrow: bool,
    /// In a token, not in the native asset
    #[arg(long)]
    erc20: bool,
}

pub(super) async fn run(command: &Advise, config: &Config, out: Output) -> eyre::Result<()> {
    if !(command.per_day.is_finite() && command.per_day > 0.0) {
        return Err(usage(format!(
            "payments a day are above 0, got {}",
            command.per_day
        )));
    }
    let price = command
        .price
        .as_deref()
        .map(|text| Asset::ether().parse(text))
        .transpose()?;
    let gas = scheme_gas(command.erc20, command.has_escrow)?;
    let habit = Habit {
        payments_per_day: command.per_day,
        life: command.life,
        tickets_per_win: 1.0 / command.rate.0.probability(),
    };
    let advice = advise(&gas, &habit);
    let gas_price = gas_price(config).await;
    let value = json!({
        "cheaper": if advice.channel() { "channel" } else { "ticket" }, "breakEven": advice.break_even,
        "expected": advice.expected, "ticketGas": advice.ticket_gas, "channelGas": advice.channel_gas,
        "gas": { "channelOpen": gas.channel_open, "channelClose": gas.channel_close, "ticketOpen": gas.ticket_open,
            "ticketClaim": gas.ticket_claim },
        "gasPrice": gas_price.map(|price| price.to_string()),
        "ticketShare": share(advice.ticket_gas, &advice, gas_price, price),
        "channelShare": share(advice.channel_gas, &advice, gas_price, price),
    });
    let way = |gas: f64| {
        let mut text = format!("{gas:.0} gas");
        if let Some(price) = gas_price {
            text.push_str(&format!(", {}", ether(U256::from((gas * price as f64) as u128))));
        }
        if let Some(share) = share(gas, &advice, gas_price, price) {
            text.push_str(&format!(", {:.3} % of what is paid", share * 100.0));
        }
        text
    };
    let even = advice.break_even.map_or("never".to_owned(), |payments| {
        format!("from {payments} payments to one seller on, a channel is cheaper")
    });
    out.answer(
        &value,
        rows(&[
            ("break-even", even),
            (
                "expected",
                format!("{:.0} payments in the channel's life", advice.expected),
            ),
            ("by tickets", way(advice.ticket_gas)),
            ("by a channel", way(advice.channel_gas)),
            (
                "so",
                format!("pay by {}", if advice.channel() { "channel" } else { "ticket" }),
            ),
        ]),
    )
}

/// What share of the money paid is gas, where both prices are known.
fn share(gas: f64, advice: &Advice, gas_price: Option<u128>, price: Option<Amount>) -> Option<f64> {
    let paid = price?.0 as f64 * advice.expected;
    (paid > 0.0).then_some(gas * gas_price? as f64 / paid)
}

/// Wei per gas, if a node can be asked.
async fn gas_price(config: &Config) -> Option<u128> {
    let client = config.connect_channels_before_deploy().await.ok()?;
    client.provider().get_gas_price().await.ok()
}

/// From the snapshots that `make gas` writes and `make test` holds the contracts to.
fn scheme_gas(erc20: bool, has_escrow: bool) -> eyre::Result<SchemeGas> {
    let suffix = if erc20 { "_erc20" } else { "" };
    let ticket = |key: &str| snapshot(TICKETS, &format!("{key}{suffix}"));
    let channel = |key: &str| snapshot(CHANNELS, &format!("{key}{suffix}"));
    Ok(SchemeGas {
        channel_open: channel("open")?,
        channel_close: channel("close_64")?,
        ticket_open: if has_escrow { 0 } else { ticket("open")? },
        ticket_claim: ticket("claim_batch_32_per_ticket")?,
    })
}

fn snapshot(file: &str, key: &str) -> eyre::Result<u64> {
    let values: BTreeMap<String, String> = serde_json::from_str(file)?;
    let value = values
        .get(key)
        .ok_or_else(|| eyre::eyre!("no gas was measured for {key}"))?;
    Ok(value.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gas_number_was_measured() {
        for (erc20, has_escrow) in [(false, false), (true, false), (false, true), (true, true)] {
            let gas = scheme_gas(erc20, has_escrow).expect("in the snapshots");
            assert!(gas.channel_open > 21_000 && gas.channel_close > 21_000 && gas.ticket_claim > 1_000);
        }
    }
}
