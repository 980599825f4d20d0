//! `micropay ticket inspect`: what a ticket says, who signed it, and whether it wins. No node, no key, no store.

use std::fmt;
use std::path::PathBuf;

use alloy::primitives::{Address, B256, Bytes, U256};
use chain::Tickets;
use clap::Subcommand;
use eyre::WrapErr;
use protocol::ticket::{Domain, Signature, WinThreshold, draw, recover};
use serde::{Deserialize, Serialize};

use crate::exit::usage;
use crate::output::{Output, rows};

/// Single tickets.
#[derive(Debug, Subcommand)]
pub(crate) enum Ticket {
    /// Inspect a ticket given as JSON: escrow, recipient, commitment, r2, winThreshold, expiry, nonce, signature, and r1 if
    /// known
    Inspect {
        /// A file, or - for standard input
        file: PathBuf,
    },
}

/// A ticket as people have it, from a log or a store. `expiry` and `nonce` are numbers or strings, `winThreshold` decimal or hexadecimal.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TicketJson {
    escrow: Address,
    recipient: Address,
    commitment: B256,
    r2: B256,
    win_threshold: U256,
    #[serde(deserialize_with = "lenient_u64")]
    expiry: u64,
    #[serde(deserialize_with = "lenient_u64")]
    nonce: u64,
    signature: Bytes,
    /// The recipient's secret, once revealed; only for inspection.
    #[serde(default)]
    r1: Option<B256>,
}

impl TicketJson {
    fn fields(&self) -> bindings::ticket::Ticket {
        bindings::ticket::Ticket {
            escrow: self.escrow,
            recipient: self.recipient,
            commitment: self.commitment,
            r2: self.r2,
            winThreshold: self.win_threshold,
            expiry: self.expiry,
            nonce: self.nonce,
        }
    }
}

/// A number, or a string with a decimal or `0x` number.
fn lenient_u64<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = U256::deserialize(deserializer)?;
    u64::try_from(value).map_err(|_| serde::de::Error::custom(format!("{value} is above {}", u64::MAX)))
}

/// What there is to know of a ticket. What needs `r1` is absent without it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Inspection {
    digest: B256,
    signer: Option<Address>,
    signer_is_escrow: bool,
    signature_error: Option<String>,
    commitment_opens: Option<bool>,
    half: Option<B256>,
    draw: Option<U256>,
    wins: Option<bool>,
    win_probability: f64,
}

pub(crate) fn run(
    command: &Ticket,
    chain_id: Option<u64>,
    contract: Option<Address>,
    out: Output,
) -> eyre::Result<()> {
    let Ticket::Inspect { file } = command;
    let chain_id = chain_id.ok_or_else(|| usage("a ticket is for one chain: give --chain-id"))?;
    let contract = contract.unwrap_or_else(chain::deploy::address::<Tickets>);
    let text = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        std::fs::read_to_string(file).wrap_err_with(|| file.display().to_string())?
    };
    let ticket: TicketJson = serde_json::from_str(&text).wrap_err("not a ticket")?;
    let inspection = inspect(&Domain::new(chain_id, contract), &ticket);
    out.answer(&inspection, &inspection)
}

fn inspect(domain: &Domain, ticket: &TicketJson) -> Inspection {
    let digest = domain.ticket_digest(&ticket.fields());
    let signer = Signature::from_bytes(&ticket.signature)
        .and_then(|signature| recover(digest, &signature))
        .map(|key| key.address());
    let threshold = WinThreshold(ticket.win_threshold);
    let opens = ticket
        .r1
        .map(|r1| domain.commitment(ticket.recipient, r1) == ticket.commitment);
    let drawn = ticket.r1.map(|r1| draw(digest, r1));
    Inspection {
        digest,
        signer: signer.as_ref().ok().copied(),
        signer_is_escrow: signer.as_ref().is_ok_and(|signer| *signer == ticket.escrow),
        signature_error: signer.err().map(|error| error.to_string()),
        commitment_opens: opens,
        half: ticket.r1,
        draw: drawn,
        // A secret that does not open the commitment draws nothing.
        wins: opens
            .zip(drawn)
            .map(|(opens, drawn)| opens && drawn < threshold.0),
        win_probability: threshold.probability(),
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = || "unknown without r1".to_owned();
        let signer = match (&self.signer, &self.signature_error) {
            (Some(signer), _) => signer.to_string(),
            (None, Some(error)) => format!("none: {error}"),
            (None, None) => "none".to_owned(),
        };
        f.write_str(&rows(&[
            ("digest", self.digest.to_string()),
            ("signer", signer),
            ("signerIsEscrow", self.signer_is_escrow.to_string()),
            (
                "commitmentOpens",
                self.commitment_opens
                    .map_or_else(unknown, |opens| opens.to_string()),
            ),
            ("half", self.half.map_or_else(unknown, |half| half.to_string())),
            (
                "draw",
                self.draw.map_or_else(unknown, |draw| format!("{draw:#066x}")),
            ),
            ("wins", self.wins.map_or_else(unknown, |wins| wins.to_string())),
            ("winProbability", format!("{:.8}", self.win_probability)),
        ]))
    }
}
