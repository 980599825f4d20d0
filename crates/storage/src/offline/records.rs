//! What a wallet keeps beside its books: invoices and what became of them, its own transfers, coins, history.

use std::fmt;

use alloy_primitives::{Address, B256};
use protocol::offline::{
    Amount, Credited, Domain, InvoiceDigest, Outgoing, Payee, Sequence, SignedAcceptance, SignedDeposit,
    SignedInvoice, SignedRejection, Timestamp, Transfer, TransferDigest, WalletId,
};

use crate::{Result, StoreError};

/// An invoice of this wallet, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceRecord {
    /// As it was sent.
    pub invoice: SignedInvoice,
    /// What became of it.
    pub state: InvoiceState,
}

/// What became of an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvoiceState {
    /// Nothing came yet.
    Waiting,
    /// The money is not wanted any more.
    Rejected {
        /// Since when.
        at: Timestamp,
        /// The answer, once it is signed.
        answer: Option<SignedRejection>,
    },
    /// The money is the wallet's.
    Credited {
        /// By what.
        credited: Box<Payee<Credited>>,
        /// The answer, once it is signed: the same each time.
        answer: Option<SignedAcceptance>,
        /// How far it is on its way to the chain.
        standing: Standing,
    },
}

/// [`InvoiceState`] without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InvoiceStage {
    /// See [`InvoiceState::Waiting`].
    Waiting,
    /// See [`InvoiceState::Rejected`].
    Rejected,
    /// See [`InvoiceState::Credited`].
    Credited,
}

/// How far a payment that was taken is on its way to the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Taken without a network. May be spent, offline.
    #[default]
    OfflineAccepted,
    /// Its exit is on its way to the chain.
    Claimed,
    /// The owner has the credit, for good.
    Settled,
}

/// A transfer of this wallet that was proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingRecord {
    /// What is sent, or redeemed.
    pub outgoing: Outgoing,
    /// What became of it.
    pub state: OutgoingState,
}

/// What became of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutgoingState {
    /// It may have left. To be sent again until it is accepted; of an exit, to be redeemed.
    Released,
    /// The payee holds the money.
    Accepted(SignedAcceptance),
    /// The exit is on its way to the chain. Released again if the chain refuses it.
    Claimed,
    /// The owner has the credit, for good.
    Settled,
}

/// [`OutgoingState`] without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutgoingStage {
    /// See [`OutgoingState::Released`].
    Released,
    /// See [`OutgoingState::Accepted`].
    Accepted,
    /// See [`OutgoingState::Claimed`].
    Claimed,
    /// See [`OutgoingState::Settled`].
    Settled,
}

/// A coin that was imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepositRecord {
    /// With its registrar's receipt.
    pub deposit: SignedDeposit,
    /// When it was imported.
    pub at: Timestamp,
}

/// A line of the wallet's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// By this wallet's clock. Events are in their order whatever it says.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// Which coin, invoice or transfer it is about.
    pub subject: B256,
    /// Token, or the zero address.
    pub asset: Address,
    /// How much, atomic units.
    pub amount: Amount,
    /// The other wallet, where there is one and it is known.
    pub other: Option<WalletId>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A coin was imported.
    Imported,
    /// A payment was taken.
    Received,
    /// A payment was taken after its time, or after a rejection: nothing was delivered for it.
    ReceivedLate,
    /// An invoice was rejected.
    Rejected,
    /// A payment was made.
    Paid,
    /// The payee holds a payment.
    Accepted,
    /// A holding was left to be redeemed.
    Exited,
    /// An exit is on its way to the chain.
    Claimed,
    /// The chain refused an exit, for good as far as it was sent.
    Refused,
    /// An exit is settled.
    Settled,
}

/// An event with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRecord {
    /// From 1, without gaps.
    pub number: u64,
    /// What happened.
    pub event: Event,
}

macro_rules! names {
    ($type:ident: $($value:ident = $name:literal),*) => {
        impl $type {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$value),*];

            /// Stable lower-case name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $name),* }
            }

            pub(crate) fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

names!(InvoiceStage: Waiting = "waiting", Rejected = "rejected", Credited = "credited");
names!(Standing: OfflineAccepted = "offline-accepted", Claimed = "claimed", Settled = "settled");
names!(OutgoingStage: Released = "released", Accepted = "accepted", Claimed = "claimed", Settled = "settled");
names!(EventKind: Imported = "imported", Received = "received", ReceivedLate = "received-late",
    Rejected = "rejected", Paid = "paid", Accepted = "accepted", Exited = "exited", Claimed = "claimed",
    Refused = "refused", Settled = "settled");

impl InvoiceState {
    /// The state without its values.
    pub fn stage(&self) -> InvoiceStage {
        match self {
            Self::Waiting => InvoiceStage::Waiting,
            Self::Rejected { .. } => InvoiceStage::Rejected,
            Self::Credited { .. } => InvoiceStage::Credited,
        }
    }
}

impl OutgoingState {
    /// The state without its values.
    pub fn stage(&self) -> OutgoingStage {
        match self {
            Self::Released => OutgoingStage::Released,
            Self::Accepted(_) => OutgoingStage::Accepted,
            Self::Claimed => OutgoingStage::Claimed,
            Self::Settled => OutgoingStage::Settled,
        }
    }
}

impl OutgoingRecord {
    /// The transfer itself.
    pub fn transfer(&self) -> Option<&Transfer> {
        self.outgoing.payment().hops.last().map(|hop| &hop.transfer)
    }

    /// Its digest.
    pub fn digest(&self, domain: &Domain) -> TransferDigest {
        self.outgoing.committed().digest(domain)
    }

    /// What it pays; `None` of an exit.
    pub fn invoice(&self, domain: &Domain) -> Option<InvoiceDigest> {
        let invoice = self.outgoing.committed().invoice.as_ref()?;
        Some(domain.invoice_digest(&invoice.invoice))
    }
}

// What every backend decides alike.

/// What a stored invoice's next state is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvoiceMark {
    pub(crate) stage: InvoiceStage,
    pub(crate) transfer: Option<TransferDigest>,
    pub(crate) answer: Option<Vec<u8>>,
    pub(crate) standing: Option<Standing>,
}

impl InvoiceRecord {
    /// Its name.
    pub fn digest(&self, domain: &Domain) -> InvoiceDigest {
        domain.invoice_digest(&self.invoice.invoice)
    }

    pub(crate) fn mark(&self, domain: &Domain) -> InvoiceMark {
        let (transfer, answer, standing) = match &self.state {
            InvoiceState::Waiting => (None, None, None),
            InvoiceState::Rejected { answer, .. } => (None, answer.map(|answer| answer.encode(domain)), None),
            InvoiceState::Credited {
                credited,
                answer,
                standing,
            } => (
                Some(credited.state().judged.transfer),
                answer.map(|answer| answer.encode(domain)),
                Some(*standing),
            ),
        };
        InvoiceMark {
            stage: self.state.stage(),
            transfer,
            answer,
            standing,
        }
    }
}

impl InvoiceMark {
    /// Whether `next` may replace it.
    pub(crate) fn check_next(&self, invoice: InvoiceDigest, next: &Self) -> Result<()> {
        let same_stage = self.stage == next.stage;
        let refused =
            self.standing == Some(Standing::Claimed) && next.standing == Some(Standing::OfflineAccepted);
        let forward = self.stage <= next.stage
            && (!same_stage
                || self.transfer == next.transfer
                    && (self.standing <= next.standing || refused)
                    && (self.answer.is_none() || self.answer == next.answer));
        if forward {
            return Ok(());
        }
        Err(StoreError::InvoiceMove {
            invoice,
            from: self.to_string(),
            to: next.to_string(),
        })
    }
}

impl fmt::Display for InvoiceMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.stage.name())?;
        if let Some(transfer) = self.transfer {
            write!(f, " by {transfer}")?;
        }
        if let Some(standing) = self.standing {
            write!(f, ", {standing}")?;
        }
        if self.answer.is_some() {
            f.write_str(", answered")?;
        }
        Ok(())
    }
}

/// What a stored transfer's next state is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutgoingMark {
    pub(crate) stage: OutgoingStage,
    pub(crate) sequence: Sequence,
}

impl OutgoingRecord {
    pub(crate) fn mark(&self) -> OutgoingMark {
        OutgoingMark {
            stage: self.state.stage(),
            sequence: self
                .transfer()
                .map_or(Sequence::ZERO, |transfer| transfer.sequence),
        }
    }

    pub(crate) fn acceptance(&self) -> Option<&SignedAcceptance> {
        match &self.state {
            OutgoingState::Accepted(acceptance) => Some(acceptance),
            OutgoingState::Released | OutgoingState::Claimed | OutgoingState::Settled => None,
        }
    }
}

impl OutgoingMark {
    /// Whether `next` may replace it.
    pub(crate) fn check_next(&self, transfer: TransferDigest, next: &Self) -> Result<()> {
        use OutgoingStage::{Accepted, Claimed, Released, Settled};
        match (self.stage, next.stage) {
            (from, to) if from == to => Ok(()),
            (Released, Accepted | Claimed | Settled) | (Claimed, Released | Settled) => Ok(()),
            (from, to) => Err(StoreError::OutgoingMove { transfer, from, to }),
        }
    }
}
