//! A wallet's books: who it is, what it holds, what it spent last, and its log. All of it is the owner's and may be lost or
//! set back; what must not be, the component keeps. Payers and payees (`payer.rs`, `payee.rs`) move it along.

use alloy_primitives::Address;

use super::{
    Amount, Base, Domain, Fragment, Input, InvoiceDigest, LogEntry, LogError, LogHead, MAX_HOLDINGS, Output,
    Path, PayError, Previous, Sequence, SignedDeposit, SignedLogCheckpoint, SignedRegistration, SpentTree,
    Timestamp, WalletId,
};

/// A coin or fragment that a wallet may spend, with its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// How it came to be.
    pub path: Path,
    /// Which part of the last transfer it is.
    pub output: Output,
}

/// An invoice that was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaidInvoice {
    /// Which.
    pub invoice: InvoiceDigest,
    /// By the payee's clock. Long after, the invoice is stale, and forgotten.
    pub issued_at: Timestamp,
}

/// The wallet's copy of its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalletLog {
    /// The newest checkpoint.
    pub checkpoint: Option<SignedLogCheckpoint>,
    /// The transfers since.
    pub entries: Vec<LogEntry>,
}

/// A wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wallet {
    /// Who it is, as payees have to know it.
    pub registration: SignedRegistration,
    /// The number of its last transfer.
    pub sequence: Sequence,
    /// Its last transfer, or its first registration.
    pub previous: Previous,
    /// What it may spend.
    pub holdings: Vec<Holding>,
    /// What it has spent, one input for each transfer, so that nothing is imported or received twice.
    pub spent: Vec<Input>,
    /// Invoices that it has paid and that are not stale for sure, so that a copy of one is not paid again.
    pub paid: Vec<PaidInvoice>,
    /// Its log, if it is of a LOG class.
    pub log: Option<WalletLog>,
}

impl Holding {
    /// What it is worth, and the rest of it.
    pub fn fragment(&self, domain: &Domain) -> Fragment {
        self.path.fragment(domain, self.output)
    }
}

impl Wallet {
    /// A wallet that was just registered.
    pub fn new(domain: &Domain, registration: SignedRegistration) -> Self {
        Self {
            registration,
            sequence: Sequence::ZERO,
            previous: registration.origin(domain).into(),
            holdings: Vec::new(),
            spent: Vec::new(),
            paid: Vec::new(),
            log: registration.index.map(|_| WalletLog::default()),
        }
    }

    /// Its name.
    pub fn id(&self) -> WalletId {
        self.registration.wallet()
    }

    /// What it holds of an asset.
    pub fn balance(&self, domain: &Domain, asset: Address) -> Amount {
        self.holdings
            .iter()
            .map(|holding| holding.fragment(domain))
            .filter(|fragment| fragment.asset == asset)
            .fold(Amount::ZERO, |sum, fragment| {
                sum.checked_add(fragment.value).unwrap_or(Amount::MAX)
            })
    }

    /// With a coin, whose receipt says that its deposit is final. A coin that is held already, or was spent, changes
    /// nothing: it is imported once.
    pub fn import(&mut self, domain: &Domain, deposit: SignedDeposit) -> Result<(), PayError> {
        let path = Path::of_coin(deposit, self.registration);
        let fragment = path.prove(domain)?.fragment(domain, Output::Payee);
        self.hold(domain, fragment, path, Output::Payee)
    }

    /// What the component's index must hold now; `None` without a log.
    pub fn head(&self, domain: &Domain) -> Option<LogHead> {
        let log = self.log.as_ref()?;
        Some(self.start(domain, log).folded(&log.entries))
    }

    /// Takes a checkpoint that the registrar signed, after checking that it is at a place of this log and counts as spent
    /// what was spent up to there, and nothing else.
    pub fn take_checkpoint(
        &mut self,
        domain: &Domain,
        registrar: Address,
        signed: SignedLogCheckpoint,
    ) -> Result<(), LogError> {
        signed.check(domain, self.id(), registrar)?;
        let checkpoint = signed.checkpoint;
        let mut log = self.log.clone().ok_or(LogError::NoLog { wallet: self.id() })?;
        let mut head = self.start(domain, &log);
        let mut folded = 0;
        while head != checkpoint.head {
            let Some(entry) = log.entries.get(folded) else {
                return Err(LogError::CheckpointNotMine {
                    got: checkpoint.head,
                    head,
                });
            };
            head = head.folded(core::slice::from_ref(entry));
            folded += 1;
        }
        log.entries.drain(..folded);
        // One input a transfer: what is left in the log are the last of them.
        let count = self.spent.len() - log.entries.len().min(self.spent.len());
        let needed = Sequence::ZERO.plus(count).unwrap_or(Sequence(u64::MAX));
        if checkpoint.sequence != needed {
            return Err(LogError::WrongSequence {
                got: checkpoint.sequence,
                needed,
            });
        }
        let needed = SpentTree::new(self.spent[..count].iter().copied()).root();
        if checkpoint.spent != needed {
            return Err(LogError::CheckpointSpent {
                got: checkpoint.spent,
                needed,
            });
        }
        log.checkpoint = Some(signed);
        self.log = Some(log);
        Ok(())
    }

    /// Where a payee starts to fold for a transfer that spends `input`.
    pub(super) fn base(&self, input: Input) -> Result<Base, LogError> {
        let Some(signed) = self.log.as_ref().and_then(|log| log.checkpoint) else {
            return Ok(Base::Registration);
        };
        let sequence = signed.checkpoint.sequence;
        let before = self
            .spent
            .iter()
            .zip(1..)
            .take_while(|(_, number)| *number <= sequence.0);
        let gap = SpentTree::new(before.map(|(input, _)| *input))
            .gap(input)
            .ok_or(LogError::SpentBefore { input, sequence })?;
        Ok(Base::Checkpoint(Box::new(signed), gap))
    }

    pub(super) fn hold(
        &mut self,
        domain: &Domain,
        fragment: Fragment,
        path: Path,
        output: Output,
    ) -> Result<(), PayError> {
        if fragment.wallet != self.id() {
            return Err(PayError::NotMine {
                input: fragment.id,
                owner: fragment.wallet,
                me: self.id(),
            });
        }
        if !self.holds(domain, fragment.id) && !self.spent.contains(&fragment.id) {
            let held = self.holdings.len();
            if held >= MAX_HOLDINGS {
                return Err(PayError::TooManyHoldings {
                    held,
                    limit: MAX_HOLDINGS,
                });
            }
            self.holdings.push(Holding { path, output });
        }
        Ok(())
    }

    fn holds(&self, domain: &Domain, input: Input) -> bool {
        self.holdings
            .iter()
            .any(|holding| holding.fragment(domain).id == input)
    }

    fn start(&self, domain: &Domain, log: &WalletLog) -> LogHead {
        match &log.checkpoint {
            Some(signed) => signed.checkpoint.head,
            None => LogHead::registered(self.registration.origin(domain)),
        }
    }
}
