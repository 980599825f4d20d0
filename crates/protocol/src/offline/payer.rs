//! The payer's side: three messages, and what must be saved before what. A step consumes the state before it; the order of
//! the effects is the order of the types, so that a program may be stopped anywhere.
//!
//! ```text
//!  Idle ──reserve──▶ Reserved ──commit──▶ Chosen ─────prove────▶ Committed ──accepted──▶ Done ──▶ Idle
//!    ▲                  │                   ▲                        │
//!    └──── abort, ──────┘        exit ──────┘ (from Idle)            └──set_aside──▶ Idle, Outgoing
//!          rejected
//!
//!  1 choose:  Payer<Chosen>      save it         before the component is touched
//!  2 extend:  the component logs the entry       (LOG)
//!  3 certify: the component certifies, or signs
//!  4 prove:   Payer<Committed>   save it         before the payment is released
//!  5 release: send the payment, again and again, until it is accepted
//! ```
//!
//! There is no way back from `Chosen`: after a crash nobody knows whether step 2 took place, until the component is asked
//! ([`Payer::next_step`]). The same payment is sent again each time; the payee knows it by its digest.

use super::{
    Amount, Certificate, Domain, Evidence, Holding, Hop, Input, InvoiceDigest, LogError, LogHead, LogProof,
    MAX_HOLDINGS, MAX_HOPS, MAX_TRANSFERS, Output, PaidInvoice, Path, PayError, Seconds, Sequence,
    SignedAcceptance, SignedInvoice, SignedRejection, Timestamp, Transfer, TransferDigest, Wallet,
    WalletSignature,
};

/// How far a payer trusts clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayerPolicy {
    /// How far two clocks may be apart, ε.
    pub clock_skew: Seconds,
    /// How long a message may take, Δ.
    pub latency: Seconds,
}

/// A wallet that pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payer<S> {
    wallet: Wallet,
    state: S,
}

/// Nothing is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle;

/// An input is set aside for an invoice. Nothing has happened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// What will be paid.
    pub invoice: SignedInvoice,
    /// What will be spent.
    pub input: Input,
}

/// The transfer is chosen, for ever; the component may have logged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// What is paid; `None` in an exit.
    pub invoice: Option<SignedInvoice>,
    /// The one transfer that may come of it.
    pub transfer: Transfer,
}

/// The transfer is proven: the payer's books are debited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// What is paid; `None` in an exit.
    pub invoice: Option<SignedInvoice>,
    /// The transfer with its path: what is sent.
    pub payment: Path,
}

/// The payee holds the money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// What the payee said.
    pub acceptance: SignedAcceptance,
}

/// A payment that was not accepted yet and does not keep the payer from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing(Committed);

/// What the component has to do next for a chosen transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Extend the log by these bytes, then certify.
    Extend([u8; 64]),
    /// Certify the log as it is, with SHA-256 of the transfer's digest.
    Certify(TransferDigest),
    /// Sign the digest.
    Sign(TransferDigest),
}

/// What a component made for a chosen transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By the key of a SIGNATURE wallet.
    Signature(WalletSignature),
    /// By the TPM of a LOG wallet.
    Certificate(Certificate),
}

/// A step that did not happen, with the payer as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped<P> {
    /// As before the step.
    pub payer: P,
    /// Why.
    pub error: PayError,
}

/// A payer in whatever state: what is saved, and what a program finds when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyPayer {
    /// Go on.
    Idle(Payer<Idle>),
    /// Abort, or commit.
    Reserved(Payer<Reserved>),
    /// Ask the component, and prove.
    Chosen(Payer<Chosen>),
    /// Send again.
    Committed(Payer<Committed>),
}

impl Default for PayerPolicy {
    fn default() -> Self {
        Self {
            clock_skew: Seconds(120),
            latency: Seconds(30),
        }
    }
}

impl<S> Payer<S> {
    /// What was saved of one.
    pub fn resume(wallet: Wallet, state: S) -> Self {
        Self { wallet, state }
    }

    /// The wallet's books in this state.
    pub fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// What the state knows.
    pub fn state(&self) -> &S {
        &self.state
    }

    fn stopped<T>(self, error: impl Into<PayError>) -> Result<T, Box<Stopped<Self>>> {
        Err(Box::new(Stopped {
            payer: self,
            error: error.into(),
        }))
    }
}

impl Payer<Idle> {
    /// A wallet with nothing under way.
    pub fn new(wallet: Wallet) -> Self {
        Self { wallet, state: Idle }
    }

    /// The books, to import, receive, or take a checkpoint.
    pub fn into_wallet(self) -> Wallet {
        self.wallet
    }

    /// Checks an invoice, and sets aside the smallest input that pays it.
    pub fn reserve(
        self,
        domain: &Domain,
        invoice: &SignedInvoice,
        policy: &PayerPolicy,
        now: Timestamp,
    ) -> Result<Payer<Reserved>, Box<Stopped<Self>>> {
        let chosen = self
            .check_invoice(domain, invoice, policy, now)
            .and_then(|()| self.choose(domain, invoice, now));
        match chosen {
            Ok(input) => Ok(Payer {
                wallet: self.wallet,
                state: Reserved {
                    invoice: invoice.clone(),
                    input,
                },
            }),
            Err(error) => self.stopped(error),
        }
    }

    /// Chooses the exit of a coin or fragment: the transfer that makes it redeemable. Also after the wallet's registration has
    /// ended: what it received is its owner's.
    pub fn exit(
        self,
        domain: &Domain,
        input: Input,
        now: Timestamp,
    ) -> Result<Payer<Chosen>, Box<Stopped<Self>>> {
        let (me, held) = (self.wallet.id(), self.wallet.holdings.len());
        let Some(value) = self.wallet.value_of(domain, input) else {
            return self.stopped(PayError::NoSuchHolding { input, held });
        };
        let sequence = match next(&self.wallet, MAX_TRANSFERS) {
            Ok(sequence) => sequence,
            Err(error) => return self.stopped(error),
        };
        let transfer = Transfer {
            input,
            payee: me,
            amount: value,
            change: Amount::ZERO,
            sequence,
            previous: self.wallet.previous,
            invoice: InvoiceDigest::NONE,
            issued_at: now,
        };
        Ok(Payer {
            wallet: self.wallet,
            state: Chosen {
                invoice: None,
                transfer,
            },
        })
    }

    fn check_invoice(
        &self,
        domain: &Domain,
        signed: &SignedInvoice,
        policy: &PayerPolicy,
        now: Timestamp,
    ) -> Result<(), PayError> {
        let (invoice, me) = (&signed.invoice, self.wallet.id());
        let issued_at = invoice.issued_at;
        // An invoice is made before it is read: only clocks may differ. One second more, and a payee that gets the transfer
        // late would not believe that it was made in time.
        let skew = policy.clock_skew;
        if issued_at > now.plus(skew) {
            return Err(PayError::InvoiceFromFuture { issued_at, now, skew });
        }
        let window = skew.plus(policy.latency);
        if now.since(issued_at) > window {
            return Err(PayError::InvoiceStale {
                issued_at,
                now,
                window,
            });
        }
        let valid_until = self.wallet.registration.valid_until;
        if now > valid_until {
            return Err(PayError::RegistrationExpired { valid_until, now });
        }
        if invoice.payee == me {
            return Err(PayError::OwnInvoice {
                payee: invoice.payee,
                payer: me,
            });
        }
        let digest = domain.invoice_digest(invoice);
        if self.wallet.paid.iter().any(|paid| paid.invoice == digest) {
            return Err(PayError::AlreadyPaid {
                invoice: digest,
                issued_at,
            });
        }
        if invoice.amount == Amount::ZERO {
            return Err(PayError::NothingAsked {
                invoice: digest,
                amount: invoice.amount,
            });
        }
        if !signed.verify(domain) {
            return Err(PayError::InvoiceSignature {
                invoice: digest,
                payee: invoice.payee,
            });
        }
        Ok(())
    }

    /// The smallest input that is enough, and of those the shortest path.
    fn choose(&self, domain: &Domain, signed: &SignedInvoice, now: Timestamp) -> Result<Input, PayError> {
        next(&self.wallet, MAX_TRANSFERS - MAX_HOLDINGS as u64)?;
        let (asset, needed) = (signed.invoice.asset, signed.invoice.amount);
        let spendable: Vec<_> = self
            .wallet
            .holdings
            .iter()
            .map(|holding| holding.fragment(domain))
            .filter(|fragment| {
                fragment.asset == asset
                    && !fragment.exited
                    && fragment.depth.0 < MAX_HOPS
                    && fragment.settle_by >= now
            })
            .collect();
        spendable
            .iter()
            .filter(|fragment| fragment.value >= needed)
            .min_by_key(|fragment| (fragment.value, fragment.depth, fragment.id))
            .map(|fragment| fragment.id)
            .ok_or_else(|| PayError::NoInput {
                needed,
                largest: spendable
                    .iter()
                    .map(|fragment| fragment.value)
                    .max()
                    .unwrap_or_default(),
            })
    }
}

impl Payer<Reserved> {
    /// Nothing happened. The wallet is what it was, to the bit.
    pub fn abort(self) -> Payer<Idle> {
        Payer::new(self.wallet)
    }

    /// The payee does not want the money: aborts. After [`Payer::commit`] a rejection means nothing.
    pub fn rejected(
        self,
        domain: &Domain,
        signed: &SignedRejection,
    ) -> Result<Payer<Idle>, Box<Stopped<Self>>> {
        let invoice = &self.state.invoice;
        let needed = domain.invoice_digest(&invoice.invoice);
        let got = signed.rejection.invoice;
        if got != needed {
            return self.stopped(PayError::WrongInvoice { got, needed });
        }
        if !signed.verify(domain, &invoice.key) {
            let payee = invoice.invoice.payee;
            return self.stopped(PayError::NotSignedByPayee {
                got: signed.rejection.payee,
                payee,
            });
        }
        Ok(self.abort())
    }

    /// Chooses the transfer. To be saved before the component is asked for anything; there is no abort from here.
    pub fn commit(self, domain: &Domain, now: Timestamp) -> Result<Payer<Chosen>, Box<Stopped<Self>>> {
        let Reserved { invoice, input } = self.state.clone();
        let held = self.wallet.holdings.len();
        let amount = invoice.invoice.amount;
        let change = self
            .wallet
            .value_of(domain, input)
            .and_then(|value| value.checked_sub(amount));
        let (Some(change), Some(sequence)) = (change, self.wallet.sequence.plus(1)) else {
            return self.stopped(PayError::NoSuchHolding { input, held });
        };
        let transfer = Transfer {
            input,
            payee: invoice.invoice.payee,
            amount,
            change,
            sequence,
            previous: self.wallet.previous,
            invoice: domain.invoice_digest(&invoice.invoice),
            issued_at: now,
        };
        Ok(Payer {
            wallet: self.wallet,
            state: Chosen {
                invoice: Some(invoice),
                transfer,
            },
        })
    }
}

impl Payer<Chosen> {
    /// The transfer's digest.
    pub fn digest(&self, domain: &Domain) -> TransferDigest {
        domain.transfer_digest(&self.state.transfer)
    }

    /// What the component has to do next, given what its index holds now (of a LOG wallet). A head that is neither before
    /// the entry nor after it stops here: the wallet's files were set back, or the component was used by others.
    pub fn next_step(&self, domain: &Domain, component: Option<LogHead>) -> Result<Step, LogError> {
        let digest = self.digest(domain);
        let Some(before) = self.wallet.head(domain) else {
            return Ok(Step::Sign(digest));
        };
        let entry = self.state.transfer.entry(digest);
        let after = before.folded(&[entry]);
        let got = component.unwrap_or(LogHead::EMPTY);
        if got == before {
            Ok(Step::Extend(entry.to_bytes()))
        } else if got == after {
            Ok(Step::Certify(digest))
        } else {
            Err(LogError::UnknownHead { got, before, after })
        }
    }

    /// The component proved the transfer: debits the books. To be saved before the payment leaves. Everything is checked as
    /// a payee would, so that no component can make the wallet release what nobody takes.
    pub fn prove(self, domain: &Domain, proof: Proof) -> Result<Payer<Committed>, Box<Stopped<Self>>> {
        match self.extended(domain, proof) {
            Ok(payer) => Ok(payer),
            Err(error) => self.stopped(error),
        }
    }

    fn extended(&self, domain: &Domain, proof: Proof) -> Result<Payer<Committed>, PayError> {
        let (mut wallet, transfer) = (self.wallet.clone(), self.state.transfer);
        let digest = self.digest(domain);
        let input = transfer.input;
        let held = wallet.holdings.len();
        let evidence = match proof {
            Proof::Signature(signature) => Evidence::Signature(signature),
            Proof::Certificate(certificate) => Evidence::Log(Box::new(LogProof {
                base: wallet.base(input)?,
                history: wallet
                    .log
                    .as_ref()
                    .map_or_else(Vec::new, |log| log.entries.clone()),
                certificate,
            })),
        };
        let Holding { mut path, .. } = wallet
            .take(domain, input)
            .ok_or(PayError::NoSuchHolding { input, held })?;
        let payer = wallet.seat(&mut path);
        path.hops.push(Hop {
            payer,
            transfer,
            evidence,
        });
        path.prove(domain)?;
        wallet.sequence = transfer.sequence;
        wallet.previous = digest.into();
        wallet.spent.push(input);
        // Copies of an invoice cannot be told from it; what is older than this is stale for every clock.
        wallet
            .paid
            .retain(|paid| paid.issued_at.plus(Seconds::DAY) >= transfer.issued_at);
        wallet
            .paid
            .extend(self.state.invoice.as_ref().map(|signed| PaidInvoice {
                invoice: transfer.invoice,
                issued_at: signed.invoice.issued_at,
            }));
        if let Some(log) = &mut wallet.log {
            log.entries.push(transfer.entry(digest));
        }
        if transfer.change > Amount::ZERO {
            wallet.holdings.push(Holding {
                path: path.clone(),
                output: Output::Change,
            });
        }
        Ok(Payer {
            wallet,
            state: Committed {
                invoice: self.state.invoice.clone(),
                payment: path,
            },
        })
    }
}

impl Committed {
    /// The transfer's digest, by which the payee knows the payment again.
    pub fn digest(&self, domain: &Domain) -> TransferDigest {
        self.payment.hops.last().map_or(TransferDigest::default(), |hop| {
            domain.transfer_digest(&hop.transfer)
        })
    }

    fn check_acceptance(&self, domain: &Domain, signed: &SignedAcceptance) -> Result<(), PayError> {
        let needed = self.digest(domain);
        let Some(invoice) = &self.invoice else {
            return Err(PayError::NoAcceptance {
                transfer: needed,
                none: InvoiceDigest::NONE,
            });
        };
        let got = signed.acceptance.transfer;
        if got != needed {
            return Err(PayError::WrongTransfer { got, needed });
        }
        if !signed.verify(domain, &invoice.key) {
            return Err(PayError::NotSignedByPayee {
                got: signed.acceptance.payee,
                payee: invoice.invoice.payee,
            });
        }
        Ok(())
    }
}

impl Payer<Committed> {
    /// What is sent; the same each time. Of an exit, what is redeemed.
    pub fn payment(&self) -> &Path {
        &self.state.payment
    }

    /// The payee holds the money.
    pub fn accepted(
        self,
        domain: &Domain,
        signed: &SignedAcceptance,
    ) -> Result<Payer<Done>, Box<Stopped<Self>>> {
        match self.state.check_acceptance(domain, signed) {
            Ok(()) => Ok(Payer {
                wallet: self.wallet,
                state: Done { acceptance: *signed },
            }),
            Err(error) => self.stopped(error),
        }
    }

    /// Lets the wallet go on, and the payment wait; of an exit, for whoever redeems it. Both are to be saved together.
    pub fn set_aside(self) -> (Payer<Idle>, Outgoing) {
        (Payer::new(self.wallet), Outgoing(self.state))
    }
}

impl Payer<Done> {
    /// Ready for the next.
    pub fn next(self) -> Payer<Idle> {
        Payer::new(self.wallet)
    }
}

impl Outgoing {
    /// What was saved of one.
    pub fn new(committed: Committed) -> Self {
        Self(committed)
    }

    /// What is sent; the same each time. Of an exit, what is redeemed.
    pub fn payment(&self) -> &Path {
        &self.0.payment
    }

    /// What is waiting.
    pub fn committed(&self) -> &Committed {
        &self.0
    }

    /// Whether this says that the payee holds the money: then it need not be sent again.
    pub fn is_accepted(&self, domain: &Domain, signed: &SignedAcceptance) -> Result<(), PayError> {
        self.0.check_acceptance(domain, signed)
    }
}

impl AnyPayer {
    /// The wallet's books.
    pub fn wallet(&self) -> &Wallet {
        match self {
            Self::Idle(payer) => payer.wallet(),
            Self::Reserved(payer) => payer.wallet(),
            Self::Chosen(payer) => payer.wallet(),
            Self::Committed(payer) => payer.wallet(),
        }
    }
}

macro_rules! any_payer {
    ($($state:ident),*) => {$(
        impl From<Payer<$state>> for AnyPayer {
            fn from(payer: Payer<$state>) -> Self {
                Self::$state(payer)
            }
        }
    )*};
}

any_payer!(Idle, Reserved, Chosen, Committed);

impl Wallet {
    fn value_of(&self, domain: &Domain, input: Input) -> Option<Amount> {
        self.holdings
            .iter()
            .map(|holding| holding.fragment(domain))
            .find(|fragment| fragment.id == input && !fragment.exited)
            .map(|fragment| fragment.value)
    }

    fn take(&mut self, domain: &Domain, input: Input) -> Option<Holding> {
        let at = self
            .holdings
            .iter()
            .position(|holding| holding.fragment(domain).id == input)?;
        Some(self.holdings.remove(at))
    }

    /// This wallet's position in a path, where the newest registration counts.
    fn seat(&self, path: &mut Path) -> usize {
        match path
            .wallets
            .iter()
            .position(|wallet| wallet.key == self.registration.key)
        {
            Some(at) => {
                path.wallets[at] = self.registration;
                at
            }
            None => {
                path.wallets.push(self.registration);
                path.wallets.len() - 1
            }
        }
    }
}

/// The number of a wallet's next transfer.
fn next(wallet: &Wallet, limit: u64) -> Result<Sequence, PayError> {
    let made = wallet.sequence;
    match made.plus(1) {
        Some(next) if next.0 <= limit => Ok(next),
        _ => Err(PayError::Exhausted { made, limit }),
    }
}
