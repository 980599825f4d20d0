//! What a payee takes for money. Nothing is taken by default: any address may be a registrar, and any key a wallet. Each
//! rule has its own refusal; rules stand in the order of their price, signatures last.
//!
//! Loss: what a broken class can take from a payee is at most the accept limit that the payee gave it. Every wallet that
//! spent in a path is counted, since any of them may have spent twice.

use std::collections::BTreeMap;

use alloy_primitives::Address;

use super::{
    Amount, ClassId, Domain, Fragment, Invoice, InvoiceTerms, MAX_HOPS, MAX_PAYMENT_BYTES, Output, Path,
    ProvenPath, Refusal, RevocationList, Seconds, Timestamp, Transfer, TransferDigest, WalletId,
};

/// How long the contract redeems what a revoked wallet transferred before (D5).
pub const GRACE: Seconds = Seconds::DAY.times(7);

/// A class of wallets whose transfers are taken, in one asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedClass {
    /// Who vouches for the wallets.
    pub registrar: Address,
    /// Its class.
    pub class: ClassId,
    /// Token, or the zero address.
    pub asset: Address,
    /// The most that is held, unsettled, of what wallets of this class spent.
    pub accept_limit: Amount,
    /// The least worth of a fragment: less is not worth its gas (O-17).
    pub min_fragment: Amount,
}

/// What a payee asks of payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayeePolicy {
    /// Whose transfers are taken.
    pub classes: Vec<AcceptedClass>,
    /// Whether a DEV class in `classes` is taken. For tests.
    pub allow_dev: bool,
    /// Most transfers of a path.
    pub max_hops: usize,
    /// How far two clocks may be apart, ε.
    pub clock_skew: Seconds,
    /// How long a message may take, Δ.
    pub latency: Seconds,
    /// What must be left until `settleBy`, or until the grace of a revoked wallet ends.
    pub settle_margin: Seconds,
    /// How old a revocation list may be.
    pub max_list_age: Seconds,
}

/// What a payee holds unsettled, by the classes that it depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exposure(BTreeMap<(Address, ClassId, Address), Amount>);

/// What a payment is judged on beside the invoice.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What the payee asks for.
    pub policy: &'a PayeePolicy,
    /// The newest list of each registrar.
    pub lists: &'a [RevocationList],
    /// What is held already.
    pub exposure: &'a Exposure,
    /// The payee's clock.
    pub now: Timestamp,
}

/// As good as the policy asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What the payee gets.
    pub fragment: Fragment,
    /// The transfer that gives it.
    pub transfer: TransferDigest,
    /// Whose honesty it depends on, to be added to the exposure.
    pub depends_on: Vec<(Address, ClassId)>,
}

impl Default for PayeePolicy {
    fn default() -> Self {
        Self {
            classes: Vec::new(),
            allow_dev: false,
            max_hops: MAX_HOPS,
            clock_skew: Seconds(120),
            latency: Seconds(30),
            settle_margin: Seconds::DAY,
            max_list_age: Seconds::DAY.times(7),
        }
    }
}

impl PayeePolicy {
    /// How far a transfer's time may be from the payee's: ε + Δ.
    pub fn window(&self) -> Seconds {
        self.clock_skew.plus(self.latency)
    }

    /// How long a payee waits for a transfer: 2Δ + ε.
    pub fn timeout(&self) -> Seconds {
        self.latency.times(2).plus(self.clock_skew)
    }

    fn class(&self, registrar: Address, class: ClassId, asset: Address) -> Option<&AcceptedClass> {
        self.classes.iter().find(|accepted| {
            (accepted.registrar, accepted.class, accepted.asset) == (registrar, class, asset)
        })
    }
}

impl View<'_> {
    /// Whose wallets may pay so much of an asset now: what an invoice says. Not more than an invoice has room for.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoClassAccepted`] if there is no class for the asset; else why the first of them may not pay, if none may.
    pub fn takes(&self, asset: Address, amount: Amount) -> Result<Vec<(Address, ClassId)>, Refusal> {
        let mut classes = Vec::new();
        let mut refused = None;
        for accepted in self
            .policy
            .classes
            .iter()
            .filter(|accepted| accepted.asset == asset)
        {
            let (registrar, class) = (accepted.registrar, accepted.class);
            let takes = check_class(registrar, class, asset, amount, self)
                .and_then(|()| list_of(registrar, self).map(|_| ()));
            match takes {
                Ok(()) if classes.len() < InvoiceTerms::MOST_CLASSES => classes.push((registrar, class)),
                Ok(()) => break,
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        if classes.is_empty() {
            return Err(refused.unwrap_or(Refusal::NoClassAccepted {
                asset,
                classes: self.policy.classes.len(),
            }));
        }
        Ok(classes)
    }
}

impl Exposure {
    /// What is held of one class, in one asset.
    pub fn of(&self, registrar: Address, class: ClassId, asset: Address) -> Amount {
        self.0
            .get(&(registrar, class, asset))
            .copied()
            .unwrap_or_default()
    }

    /// With a fragment that was taken.
    pub fn add(&mut self, judged: &Judged) {
        for (registrar, class) in &judged.depends_on {
            let held = self
                .0
                .entry((*registrar, *class, judged.fragment.asset))
                .or_default();
            // Above the limit it stays, wherever that is.
            *held = held.checked_add(judged.fragment.value).unwrap_or(Amount::MAX);
        }
    }

    /// Without a fragment that is settled, or was paid on.
    pub fn remove(&mut self, judged: &Judged) {
        for (registrar, class) in &judged.depends_on {
            let held = self
                .0
                .entry((*registrar, *class, judged.fragment.asset))
                .or_default();
            *held = held.checked_sub(judged.fragment.value).unwrap_or_default();
        }
    }
}

impl Judged {
    /// What a path gives that was judged before.
    pub(super) fn restored(domain: &Domain, proven: &ProvenPath<'_>) -> Self {
        let mut depends_on = Vec::new();
        for hop in &proven.path().hops {
            let class = (
                proven.registrars()[hop.payer],
                proven.path().wallets[hop.payer].class,
            );
            if !depends_on.contains(&class) {
                depends_on.push(class);
            }
        }
        Self {
            fragment: proven.fragment(domain, Output::Payee),
            transfer: proven.digests().last().copied().unwrap_or_default(),
            depends_on,
        }
    }
}

/// Judges a payment of `invoice`.
pub fn judge(domain: &Domain, invoice: &Invoice, path: &Path, view: &View<'_>) -> Result<Judged, Refusal> {
    let last = &path
        .hops
        .last()
        .ok_or(Refusal::NoTransfer { depth: 0, needed: 1 })?
        .transfer;
    check_message(domain, invoice, path, last)?;
    check_clock(invoice, last, view)?;
    check_horizon(path, view)?;
    let proven = path.prove(domain)?;
    let judged = Judged::restored(domain, &proven);
    check_classes(&judged, view)?;
    check_lists(&proven, view)?;
    Ok(judged)
}

/// It pays me, for this, and so much.
fn check_message(domain: &Domain, invoice: &Invoice, path: &Path, last: &Transfer) -> Result<(), Refusal> {
    let got = path.encode(domain).len();
    if got > MAX_PAYMENT_BYTES {
        return Err(Refusal::TooLarge {
            got,
            limit: MAX_PAYMENT_BYTES,
        });
    }
    let needed = domain.invoice_digest(invoice);
    if last.invoice != needed {
        return Err(Refusal::WrongInvoice {
            got: last.invoice,
            needed,
        });
    }
    if last.payee != invoice.payee {
        return Err(Refusal::NotPayee {
            got: last.payee,
            me: invoice.payee,
        });
    }
    let got = path.deposit.coin.asset;
    if got != invoice.asset {
        return Err(Refusal::WrongAsset {
            got,
            needed: invoice.asset,
        });
    }
    if last.amount != invoice.amount {
        return Err(Refusal::WrongAmount {
            got: last.amount,
            needed: invoice.amount,
        });
    }
    Ok(())
}

/// It was made now; or it is a late one, made while the invoice was young. Time orders nothing: the window only bounds how
/// long before a revocation or an expiry a transfer can claim to have been made.
fn check_clock(invoice: &Invoice, last: &Transfer, view: &View<'_>) -> Result<(), Refusal> {
    let (made, now, policy) = (last.issued_at, view.now, view.policy);
    let window = policy.window();
    if made > now.plus(window) {
        return Err(Refusal::FromFuture {
            issued_at: made,
            now,
            window,
        });
    }
    let fresh = now.since(made) <= window;
    let asked = invoice.issued_at;
    let made_in_time = made.plus(policy.clock_skew) >= asked && made <= asked.plus(window);
    if !fresh && !made_in_time {
        return Err(Refusal::Stale {
            issued_at: made,
            now,
            window,
        });
    }
    Ok(())
}

/// There is time to redeem it, and room to spend it.
fn check_horizon(path: &Path, view: &View<'_>) -> Result<(), Refusal> {
    let policy = view.policy;
    if path.length() > policy.max_hops {
        return Err(Refusal::TooManyHops {
            got: path.length(),
            limit: policy.max_hops,
        });
    }
    let settle_by = path.deposit.settle_by;
    if view.now.plus(policy.settle_margin) > settle_by {
        return Err(Refusal::SettleTooSoon {
            settle_by,
            now: view.now,
            margin: policy.settle_margin,
        });
    }
    Ok(())
}

/// Everybody who spent is of a class that is taken, and not for too much.
fn check_classes(judged: &Judged, view: &View<'_>) -> Result<(), Refusal> {
    let Fragment { asset, value, .. } = judged.fragment;
    let mut depends_on = judged.depends_on.iter();
    depends_on.try_for_each(|(registrar, class)| check_class(*registrar, *class, asset, value, view))
}

fn check_class(
    registrar: Address,
    class: ClassId,
    asset: Address,
    value: Amount,
    view: &View<'_>,
) -> Result<(), Refusal> {
    if class.is_dev() && !view.policy.allow_dev {
        return Err(Refusal::DevClass { registrar, class });
    }
    let accepted = view
        .policy
        .class(registrar, class, asset)
        .ok_or(Refusal::ClassNotAccepted {
            registrar,
            class,
            asset,
        })?;
    if value < accepted.min_fragment {
        return Err(Refusal::FragmentTooSmall {
            got: value,
            needed: accepted.min_fragment,
        });
    }
    let held = view.exposure.of(registrar, class, asset);
    if held
        .checked_add(value)
        .is_none_or(|sum| sum > accepted.accept_limit)
    {
        return Err(Refusal::AboveAcceptLimit {
            got: value,
            held,
            limit: accepted.accept_limit,
        });
    }
    Ok(())
}

/// Nobody who spent was revoked, as far as can be known without a network.
fn check_lists(proven: &ProvenPath<'_>, view: &View<'_>) -> Result<(), Refusal> {
    let path = proven.path();
    for (at, hop) in path.hops.iter().enumerate() {
        let list = list_of(proven.registrars()[hop.payer], view)?;
        let registration = &path.wallets[hop.payer];
        let wallet = registration.wallet();
        let Some(revoked_at) = list.revoked_at(wallet, registration.class) else {
            continue;
        };
        // A key that is known to be stolen dates its transfers as it likes.
        let is_last = at + 1 == path.hops.len();
        if is_last || hop.transfer.issued_at > revoked_at {
            return Err(Refusal::Revoked {
                wallet,
                issued_at: hop.transfer.issued_at,
                revoked_at,
            });
        }
        check_grace(wallet, revoked_at, view)?;
    }
    Ok(())
}

/// The newest list of a registrar, if it is not too old.
fn list_of<'a>(registrar: Address, view: &View<'a>) -> Result<&'a RevocationList, Refusal> {
    let (now, policy) = (view.now, view.policy);
    let list = view
        .lists
        .iter()
        .filter(|list| list.registrar() == registrar)
        .max_by_key(|list| list.issued_at())
        .ok_or(Refusal::NoRevocationList { registrar })?;
    if list.issued_at() > now.plus(policy.clock_skew) {
        return Err(Refusal::ListFromFuture {
            issued_at: list.issued_at(),
            now,
            skew: policy.clock_skew,
        });
    }
    let age = now.since(list.issued_at());
    if age > policy.max_list_age {
        return Err(Refusal::ListTooOld {
            age,
            limit: policy.max_list_age,
        });
    }
    Ok(list)
}

fn check_grace(wallet: WalletId, revoked_at: Timestamp, view: &View<'_>) -> Result<(), Refusal> {
    let end = revoked_at.plus(GRACE);
    if view.now.plus(view.policy.settle_margin) > end {
        return Err(Refusal::GraceTooShort {
            wallet,
            end,
            now: view.now,
            margin: view.policy.settle_margin,
        });
    }
    Ok(())
}
