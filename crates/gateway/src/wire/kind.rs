//! Kinds of payment: what one 402 offers side by side, and how a payment says which it is. In x402 a kind is a scheme, in the
//! `Payment` scheme an intent of our method.

use protocol::{channel, ticket};
use serde::Serialize;

use super::{ChannelPayment, ChannelRequirements, Payment, Requirements, WireError, network};

/// A way to pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A lottery ticket of an escrow.
    Ticket,
    /// A word of a channel.
    Channel,
}

/// The contracts that one side pays by or is paid by; `None`: not in this way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contracts {
    /// Of tickets.
    pub ticket: Option<ticket::Domain>,
    /// Of channels.
    pub channel: Option<channel::Domain>,
}

/// One way to pay, in a 402.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Way {
    /// By ticket.
    Ticket(Box<Requirements>),
    /// By channel.
    Channel(Box<ChannelRequirements>),
}

/// What a 402 offers that is ours, at most one of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// By ticket.
    pub ticket: Option<Requirements>,
    /// By channel.
    pub channel: Option<ChannelRequirements>,
}

/// What was paid with (x402 calls it the payload).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Payload {
    /// A ticket.
    Ticket(Payment),
    /// A word of a channel, with its receipt.
    Channel(ChannelPayment),
}

impl Kind {
    /// Every kind, in the order in which a 402 offers them.
    pub const ALL: [Self; 2] = [Self::Ticket, Self::Channel];

    /// Its name in x402.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Ticket => "micropay-ticket",
            Self::Channel => "micropay-channel",
        }
    }

    /// Its name as an intent of our method in the `Payment` scheme.
    pub const fn intent(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Channel => "channel",
        }
    }

    pub(super) fn of_scheme(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.scheme() == name)
    }

    pub(super) fn of_intent(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.intent() == name)
    }
}

impl Contracts {
    /// The chain on which this kind is paid.
    fn chain(&self, kind: Kind) -> Option<u64> {
        match kind {
            Kind::Ticket => self.ticket.map(|domain| domain.chain_id()),
            Kind::Channel => self.channel.map(|domain| domain.chain_id()),
        }
    }

    /// The kinds with their chains, in words.
    pub fn ways(&self) -> String {
        let ways = Kind::ALL.into_iter().filter_map(|kind| {
            let chain = self.chain(kind)?;
            Some(format!("{} on {}", kind.scheme(), network(chain)))
        });
        ways.collect::<Vec<_>>().join(", ")
    }

    /// The kinds, as x402 names them.
    pub fn schemes(&self) -> String {
        let kinds = Kind::ALL.into_iter().filter(|kind| self.chain(*kind).is_some());
        kinds.map(Kind::scheme).collect::<Vec<_>>().join(", ")
    }

    /// The kind, if it is one of ours, on its chain. What a server says and what a payer says is checked by the same rule.
    pub(super) fn check(&self, kind: Option<Kind>, name: &str, got: &str) -> Result<Kind, WireError> {
        let Some((kind, chain)) = kind.and_then(|kind| Some((kind, self.chain(kind)?))) else {
            return Err(WireError::Scheme {
                got: name.to_owned(),
                expected: self.schemes(),
            });
        };
        let expected = network(chain);
        if got != expected {
            return Err(WireError::Network {
                got: got.to_owned(),
                expected,
            });
        }
        Ok(kind)
    }
}

impl From<&ticket::Domain> for Contracts {
    fn from(domain: &ticket::Domain) -> Self {
        Self {
            ticket: Some(*domain),
            channel: None,
        }
    }
}

impl From<&channel::Domain> for Contracts {
    fn from(domain: &channel::Domain) -> Self {
        Self {
            ticket: None,
            channel: Some(*domain),
        }
    }
}

impl From<&Contracts> for Contracts {
    fn from(contracts: &Contracts) -> Self {
        *contracts
    }
}

impl Offers {
    /// What the terms are for: the same for both kinds, or that of the first.
    pub fn route(&self) -> Option<&str> {
        let ticket = self.ticket.as_ref().map(|terms| terms.extra.route.as_str());
        ticket.or(self.channel.as_ref().map(|terms| terms.extra.route.as_str()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ticket.is_none() && self.channel.is_none()
    }
}

impl From<Requirements> for Way {
    fn from(terms: Requirements) -> Self {
        Self::Ticket(Box::new(terms))
    }
}

impl From<ChannelRequirements> for Way {
    fn from(terms: ChannelRequirements) -> Self {
        Self::Channel(Box::new(terms))
    }
}

impl From<Payment> for Payload {
    fn from(payment: Payment) -> Self {
        Self::Ticket(payment)
    }
}

impl From<ChannelPayment> for Payload {
    fn from(payment: ChannelPayment) -> Self {
        Self::Channel(payment)
    }
}

impl Payload {
    /// Which way it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Ticket(_) => Kind::Ticket,
            Self::Channel(_) => Kind::Channel,
        }
    }

    /// Reads the payload of a payment that says it is of this kind.
    pub(super) fn read(kind: Kind, json: &str) -> Result<Self, WireError> {
        match kind {
            Kind::Ticket => serde_json::from_str(json).map(Self::Ticket),
            Kind::Channel => serde_json::from_str(json).map(Self::Channel),
        }
        .map_err(|error| WireError::Json(error.to_string()))
    }
}
