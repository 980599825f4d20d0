//! The payee's side: an invoice waits, and is credited once, however often and however late its transfer comes. To be saved
//! before the acceptance leaves; the acceptance is the same each time.
//!
//! ```text
//! Waiting ──receive──▶ Credited ── again (same digest): the same acceptance; another digest: refused
//!    └───reject───▶ Rejected ──receive──▶ Credited, late
//! ```
//!
//! When its timeout (2Δ + ε) is over, a payee stops waiting; but a payer that has committed cannot go back, so a late
//! transfer is credited, and money that is not wanted any more goes back by a new payment (O-6).

use super::{
    Acceptance, DecodeError, Domain, Fragment, Invoice, InvoiceDigest, Judged, Output, Path, PayError,
    PayeePolicy, Refusal, Rejection, Timestamp, TransferDigest, View, Wallet, judge,
};

/// An invoice, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payee<S> {
    invoice: Invoice,
    state: S,
}

/// Nothing came yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting;

/// The payee said that it does not want the money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// When.
    pub at: Timestamp,
}

/// The money is the payee's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credited {
    /// What it got, and whose honesty that depends on.
    pub judged: Judged,
    /// How it came to be: to be redeemed, or spent.
    pub path: Path,
    /// When.
    pub at: Timestamp,
    /// After the timeout, or after a rejection: there is nothing to deliver any more.
    pub late: bool,
}

impl<S> Payee<S> {
    /// What was asked for.
    pub fn invoice(&self) -> &Invoice {
        &self.invoice
    }

    /// Its name.
    pub fn digest(&self, domain: &Domain) -> InvoiceDigest {
        domain.invoice_digest(&self.invoice)
    }

    /// What the state knows.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// When the payee stops waiting.
    pub fn timeout(&self, policy: &PayeePolicy) -> Timestamp {
        self.invoice.issued_at.plus(policy.timeout())
    }

    fn credited(
        &self,
        domain: &Domain,
        payment: &Path,
        view: &View<'_>,
        unwanted: bool,
    ) -> Result<Payee<Credited>, Refusal> {
        let judged = judge(domain, &self.invoice, payment, view)?;
        Ok(Payee {
            invoice: self.invoice,
            state: Credited {
                judged,
                path: payment.clone(),
                at: view.now,
                late: unwanted || view.now > self.timeout(view.policy),
            },
        })
    }
}

impl Payee<Waiting> {
    /// An invoice that was just signed, or was saved.
    pub fn new(invoice: Invoice) -> Self {
        Self {
            invoice,
            state: Waiting,
        }
    }

    /// Judges a payment, and takes it. A refusal changes nothing: a right one may still come.
    pub fn receive(
        &self,
        domain: &Domain,
        payment: &Path,
        view: &View<'_>,
    ) -> Result<Payee<Credited>, Refusal> {
        self.credited(domain, payment, view, false)
    }

    /// The money is not wanted any more. What is returned is to be signed and sent.
    pub fn reject(self, domain: &Domain, now: Timestamp) -> (Payee<Rejected>, Rejection) {
        let rejection = Rejection {
            invoice: self.digest(domain),
            payee: self.invoice.payee,
            issued_at: now,
        };
        let payee = Payee {
            invoice: self.invoice,
            state: Rejected { at: now },
        };
        (payee, rejection)
    }
}

impl Payee<Rejected> {
    /// What was saved of one.
    pub fn resume(invoice: Invoice, at: Timestamp) -> Self {
        Self {
            invoice,
            state: Rejected { at },
        }
    }

    /// The payer had committed before it heard: the money is taken nevertheless.
    pub fn receive(
        &self,
        domain: &Domain,
        payment: &Path,
        view: &View<'_>,
    ) -> Result<Payee<Credited>, Refusal> {
        self.credited(domain, payment, view, true)
    }
}

impl Payee<Credited> {
    /// What was saved of one.
    pub fn resume(invoice: Invoice, state: Credited) -> Self {
        Self { invoice, state }
    }

    /// What the payee got.
    pub fn fragment(&self) -> &Fragment {
        &self.state.judged.fragment
    }

    /// Puts it into the wallet's books, once. To be saved together with this state.
    pub fn hold(&self, domain: &Domain, wallet: &mut Wallet) -> Result<(), PayError> {
        wallet.hold(domain, *self.fragment(), self.state.path.clone(), Output::Payee)
    }

    /// The third message, to be signed: the same each time.
    pub fn acceptance(&self) -> Acceptance {
        Acceptance {
            transfer: self.state.judged.transfer,
            payee: self.invoice.payee,
            issued_at: self.state.at,
        }
    }

    /// A payment that comes again is accepted again, and credited no second time. A different one is refused: its payer has
    /// paid twice, and may have it back.
    pub fn again(&self, domain: &Domain, payment: &Path) -> Result<Acceptance, Refusal> {
        let last = payment
            .hops
            .last()
            .ok_or(Refusal::NoTransfer { depth: 0, needed: 1 })?;
        let got: TransferDigest = domain.transfer_digest(&last.transfer);
        let first = self.state.judged.transfer;
        if got != first {
            return Err(Refusal::AlreadyPaid { got, first });
        }
        Ok(self.acceptance())
    }
}

impl Credited {
    /// From what was saved of it. The path was judged when it came; now it is only proven.
    pub(super) fn restored(
        domain: &Domain,
        path: Path,
        at: Timestamp,
        late: bool,
    ) -> Result<Self, DecodeError> {
        let judged = Judged::restored(domain, &path.prove(domain)?);
        Ok(Self {
            judged,
            path,
            at,
            late,
        })
    }
}
