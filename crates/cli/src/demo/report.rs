//! What the demo found, as a table and as JSON. Money is judged here, from balances on chain alone.

use std::collections::BTreeMap;
use std::fmt;

use alloy::primitives::{Address, B256};
use chain::{At, Client, Scheme};
use protocol::channel::ChannelId;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{Gas, wei};
use crate::output::{count, ether, rows};

/// The demo's result. Amounts in wei, times in seconds.
pub(super) struct Report {
    pub(super) payments: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) won: u64,
    pub(super) claimed: u64,
    pub(super) expected_wins: f64,
    pub(super) interval_99: [u32; 2],
    pub(super) prize: u128,
    pub(super) pieces: u64,
    pub(super) bytes: u64,
    pub(super) sha256: B256,
    pub(super) sha256_ok: bool,
    pub(super) claim_gas: u64,
    pub(super) claim_transactions: u64,
    pub(super) total_gas: u64,
    /// The payer, the merchants, the contract.
    pub(super) parties: Vec<Party>,
    pub(super) sale_s: f64,
    pub(super) elapsed_s: f64,
}

/// One account's money.
pub(super) struct Party {
    pub(super) name: String,
    pub(super) address: Address,
    pub(super) before: u128,
    pub(super) after: u128,
    /// What its transactions cost.
    pub(super) gas_fee: u128,
}

/// Everybody whose money is looked at, the contract last.
pub(super) struct Accounts(pub(super) Vec<(String, Address)>);

impl Accounts {
    /// Their native balances, now.
    pub(super) async fn balances<S: Scheme>(
        &self,
        client: &Client<S>,
    ) -> eyre::Result<BTreeMap<Address, u128>> {
        let mut balances = BTreeMap::new();
        for (_, address) in &self.0 {
            balances.insert(
                *address,
                client.balance(Address::ZERO, *address, At::Latest).await?.0,
            );
        }
        Ok(balances)
    }

    /// What became of each between two looks.
    pub(super) fn parties(
        self,
        before: &BTreeMap<Address, u128>,
        after: &BTreeMap<Address, u128>,
        gas: &BTreeMap<Address, Gas>,
    ) -> Vec<Party> {
        let party = |(name, address): (String, Address)| Party {
            name,
            address,
            before: before.get(&address).copied().unwrap_or_default(),
            after: after.get(&address).copied().unwrap_or_default(),
            gas_fee: gas.get(&address).map_or(0, |gas| gas.fee),
        };
        self.0.into_iter().map(party).collect()
    }
}

impl Party {
    /// What it gained or lost besides gas.
    pub(super) fn net(&self) -> i128 {
        self.after as i128 + self.gas_fee as i128 - self.before as i128
    }

    fn describe(&self) -> Value {
        json!({
            "name": self.name, "address": self.address, "before": self.before.to_string(),
            "after": self.after.to_string(), "gas_fee": self.gas_fee.to_string(), "net": self.net().to_string(),
        })
    }
}

impl Report {
    fn payer(&self) -> &Party {
        self.parties.first().expect("the payer is a party")
    }

    fn contract(&self) -> &Party {
        self.parties.last().expect("the contract is a party")
    }

    fn merchants(&self) -> &[Party] {
        &self.parties[1..self.parties.len() - 1]
    }

    /// What the payer is poorer by, gas aside.
    fn payer_spent(&self) -> i128 {
        -self.payer().net()
    }

    /// What the merchants are richer by, gas aside.
    fn merchants_received(&self) -> i128 {
        self.merchants().iter().map(Party::net).sum()
    }

    /// Prizes claimed.
    fn paid_out(&self) -> u128 {
        u128::from(self.claimed) * self.prize
    }

    /// Whether every wei is where it belongs, by the balances on chain: nothing appears or vanishes, the contract keeps
    /// nothing, and the merchants got the prizes they claimed, no more.
    pub(super) fn conserved(&self) -> bool {
        let sum: i128 = self.parties.iter().map(Party::net).sum();
        sum == 0
            && self.contract().net() == 0
            && self.payer_spent() == self.merchants_received()
            && self.merchants_received() == self.paid_out() as i128
    }

    fn gas_per_claim(&self) -> f64 {
        self.claim_gas as f64 / (self.claimed.max(1)) as f64
    }

    fn gas_per_payment(&self) -> f64 {
        self.total_gas as f64 / (self.payments.max(1)) as f64
    }

    fn payments_per_s(&self) -> f64 {
        self.payments as f64 / self.sale_s.max(1e-9)
    }

    /// Chance alone puts the wins outside once in a hundred runs.
    fn in_interval(&self) -> bool {
        (u64::from(self.interval_99[0])..=u64::from(self.interval_99[1])).contains(&self.won)
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parties: Vec<_> = self.parties.iter().map(Party::describe).collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("payments", &self.payments)?;
        map.serialize_entry("accepted", &self.accepted)?;
        map.serialize_entry("refused", &self.refused)?;
        map.serialize_entry("won", &self.won)?;
        map.serialize_entry("claimed", &self.claimed)?;
        map.serialize_entry("expected_wins", &self.expected_wins)?;
        map.serialize_entry("interval_99", &self.interval_99)?;
        map.serialize_entry("wins_in_interval", &self.in_interval())?;
        map.serialize_entry("prize", &self.prize.to_string())?;
        map.serialize_entry("paid_out", &self.paid_out().to_string())?;
        map.serialize_entry("payer_spent", &self.payer_spent().to_string())?;
        map.serialize_entry("merchants_received", &self.merchants_received().to_string())?;
        map.serialize_entry("gas_per_claim", &self.gas_per_claim())?;
        map.serialize_entry("gas_per_payment", &self.gas_per_payment())?;
        map.serialize_entry("claim_transactions", &self.claim_transactions)?;
        map.serialize_entry("pieces", &self.pieces)?;
        map.serialize_entry("bytes", &self.bytes)?;
        map.serialize_entry("sha256", &self.sha256)?;
        map.serialize_entry("sha256_ok", &self.sha256_ok)?;
        map.serialize_entry("conserved", &self.conserved())?;
        map.serialize_entry("parties", &parties)?;
        map.serialize_entry("elapsed_s", &self.elapsed_s)?;
        map.serialize_entry("payments_per_s", &self.payments_per_s())?;
        map.end()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |ok: bool| if ok { "yes" } else { "NO" };
        let [low, high] = self.interval_99;
        let band = if self.in_interval() {
            ""
        } else {
            " — outside: chance does that once in 100 runs"
        };
        writeln!(
            f,
            "{}",
            rows(&[
                ("file", format!("{} pieces, {} bytes", self.pieces, self.bytes)),
                (
                    "SHA-256",
                    format!(
                        "{} {:x}",
                        if self.sha256_ok { "as sold:" } else { "DIFFERS:" },
                        self.sha256
                    )
                ),
                (
                    "tickets",
                    format!(
                        "{} accepted, {} refused and replaced",
                        self.accepted, self.refused
                    )
                ),
                (
                    "wins",
                    format!(
                        "{} of {:.2} expected, 99 % within {low}..{high}{band}",
                        self.won, self.expected_wins
                    )
                ),
                (
                    "claims",
                    format!(
                        "{} in {}, {:.0} gas each",
                        count(self.claimed, "winner"),
                        count(self.claim_transactions, "transaction"),
                        self.gas_per_claim()
                    )
                ),
                (
                    "gas",
                    format!(
                        "{:.0} per payment, everything but the deployment included",
                        self.gas_per_payment()
                    )
                ),
                ("paid out", ether(wei(self.paid_out()))),
                ("conserved", yes(self.conserved()).to_owned()),
                (
                    "time",
                    format!(
                        "{:.1} s, of which {:.1} s selling ({:.0} payments/s)",
                        self.elapsed_s,
                        self.sale_s,
                        self.payments_per_s()
                    )
                ),
            ])
        )?;
        write_parties(f, &self.parties)
    }
}

/// Balances, a line for each party.
fn write_parties(f: &mut fmt::Formatter<'_>, parties: &[Party]) -> fmt::Result {
    writeln!(
        f,
        "\n{:<10} {:>23} {:>23} {:>20} {:>16}",
        "wei", "before", "after", "gained besides gas", "gas paid"
    )?;
    for (index, party) in parties.iter().enumerate() {
        let end = if index + 1 == parties.len() { "" } else { "\n" };
        write!(
            f,
            "{:<10} {:>23} {:>23} {:>20} {:>16}{end}",
            party.name,
            party.before,
            party.after,
            party.net(),
            party.gas_fee
        )?;
    }
    Ok(())
}

/// What the channel demo found. Amounts in wei, times in seconds.
pub(super) struct ChannelReport {
    pub(super) payments: u64,
    pub(super) closed_index: u32,
    /// What a unit is worth.
    pub(super) unit: u128,
    pub(super) paid: u128,
    /// To the client, from both channels.
    pub(super) refunded: u128,
    pub(super) receipts_opened: u64,
    pub(super) ends_in_sigma0: bool,
    pub(super) gas_open: u64,
    pub(super) gas_close: u64,
    pub(super) gas_refund: u64,
    /// Index of the client's last signed checkpoint.
    pub(super) checkpoint_signed: u32,
    /// How many the vendor sent to the chain.
    pub(super) checkpoints_on_chain: u64,
    pub(super) channel: ChannelId,
    pub(super) short: ChannelId,
    pub(super) bytes: u64,
    pub(super) sha256: B256,
    pub(super) sha256_ok: bool,
    pub(super) total_gas: u64,
    /// Client, vendor, bank, contract.
    pub(super) parties: Vec<Party>,
    pub(super) sale_s: f64,
    pub(super) elapsed_s: f64,
}

impl ChannelReport {
    /// Whether every wei is where it belongs, by the balances on chain: the vendor has what the close was worth, the client
    /// is poorer by as much, the bank paid nothing but gas, and the contract keeps nothing.
    pub(super) fn conserved(&self) -> bool {
        let net: Vec<i128> = self.parties.iter().map(Party::net).collect();
        let paid = self.paid as i128;
        net[..] == [-paid, paid, 0, 0]
    }

    fn gas_per_payment(&self) -> f64 {
        self.total_gas as f64 / (self.payments.max(1)) as f64
    }

    fn payments_per_s(&self) -> f64 {
        self.payments as f64 / self.sale_s.max(1e-9)
    }
}

impl Serialize for ChannelReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parties: Vec<_> = self.parties.iter().map(Party::describe).collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("payments", &self.payments)?;
        map.serialize_entry("closed_index", &self.closed_index)?;
        map.serialize_entry("paid", &self.paid.to_string())?;
        map.serialize_entry("refunded", &self.refunded.to_string())?;
        map.serialize_entry("receipts_opened", &self.receipts_opened)?;
        map.serialize_entry("ends_in_sigma0", &self.ends_in_sigma0)?;
        map.serialize_entry("gas_open", &self.gas_open)?;
        map.serialize_entry("gas_close", &self.gas_close)?;
        map.serialize_entry("conserved", &self.conserved())?;
        map.serialize_entry("elapsed_s", &self.elapsed_s)?;
        map.serialize_entry("unit", &self.unit.to_string())?;
        map.serialize_entry("channel", &self.channel.0)?;
        map.serialize_entry("refunded_channel", &self.short.0)?;
        map.serialize_entry("gas_refund", &self.gas_refund)?;
        map.serialize_entry("gas_per_payment", &self.gas_per_payment())?;
        map.serialize_entry("checkpoint_signed", &self.checkpoint_signed)?;
        map.serialize_entry("checkpoints_on_chain", &self.checkpoints_on_chain)?;
        map.serialize_entry("bytes", &self.bytes)?;
        map.serialize_entry("sha256", &self.sha256)?;
        map.serialize_entry("sha256_ok", &self.sha256_ok)?;
        map.serialize_entry("parties", &parties)?;
        map.serialize_entry("payments_per_s", &self.payments_per_s())?;
        map.end()
    }
}

impl fmt::Display for ChannelReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |ok: bool| if ok { "yes" } else { "NO" };
        let sha256 = if self.sha256_ok { "as sold:" } else { "DIFFERS:" };
        writeln!(
            f,
            "{}",
            rows(&[
                ("file", format!("{} pieces, {} bytes", self.payments, self.bytes)),
                ("SHA-256", format!("{sha256} {:x}", self.sha256)),
                ("channel", self.channel.to_string()),
                (
                    "payments",
                    format!(
                        "{} of one unit, {} each; the last checkpoint signed at {}, {} on chain",
                        self.payments,
                        ether(wei(self.unit)),
                        self.checkpoint_signed,
                        self.checkpoints_on_chain
                    )
                ),
                (
                    "close",
                    format!("at unit {}: {} paid", self.closed_index, ether(wei(self.paid)))
                ),
                (
                    "refund",
                    format!(
                        "{} back to the client, from {}",
                        ether(wei(self.refunded)),
                        self.short
                    )
                ),
                (
                    "receipts",
                    format!(
                        "{} opened, down to the bank's signature: {}",
                        self.receipts_opened,
                        yes(self.ends_in_sigma0)
                    )
                ),
                (
                    "gas",
                    format!(
                        "open {}, close {}, refund {}; {:.0} per payment, everything but the deployment included",
                        self.gas_open,
                        self.gas_close,
                        self.gas_refund,
                        self.gas_per_payment()
                    )
                ),
                ("conserved", yes(self.conserved()).to_owned()),
                (
                    "time",
                    format!(
                        "{:.1} s, of which {:.1} s selling ({:.0} payments/s)",
                        self.elapsed_s,
                        self.sale_s,
                        self.payments_per_s()
                    )
                ),
            ])
        )?;
        write_parties(f, &self.parties)
    }
}
