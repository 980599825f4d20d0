//! The payer's steps: reserve, pay, resume, accepted, abort; and exit, which is a payment to oneself. The order of effects
//! is that of `protocol::offline::Payer`; each of its states is saved before the next effect.

use std::sync::Arc;

use alloy_primitives::B256;
use protocol::offline::{
    AnyPayer, Chosen, Committed, ConfirmationCode, Domain, Input, InvoiceDigest, LogEntry, MAX_HISTORY,
    MAX_PATH_BYTES, MAX_PAYMENT_BYTES, Path, PayError, Payer, Reserved, SignedAcceptance, SignedInvoice,
    SignedRejection, Timestamp, TransferDigest, Wallet,
};
use storage::offline::{
    Event, EventKind, OutgoingRecord, OutgoingStage, OutgoingState, SavedWallet, WalletSave, WalletVersion,
};
use tracing::info;
use trusted::TrustedWallet;

use crate::device::{Store, event};
use crate::exposure::{depends, registrar};
use crate::{Config, Device, DeviceError, Result, bridge};

/// More than a hop has without its history: certificate, registration, a gap of as many siblings as there are transfers.
const HOP_BYTES: usize = 1_536;

/// What is sent to a payee, again and again until it is accepted; of an exit, what is redeemed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Names it.
    pub transfer: TransferDigest,
    /// What it pays; `None` of an exit.
    pub invoice: Option<InvoiceDigest>,
    /// The transfer with its path.
    pub path: Path,
}

/// What a device found when it resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// Nothing was under way. What was released before is in [`Device::outstanding`].
    Idle,
    /// An invoice is reserved: pay it, or abort.
    Reserved(Box<SignedInvoice>),
    /// A payment that was chosen is proven: send it, or redeem it.
    Released(Box<Payment>),
}

impl Payment {
    /// What both sides show; `None` of an exit.
    pub fn confirmation_code(&self) -> Option<ConfirmationCode> {
        Some(ConfirmationCode::new(self.invoice?, self.transfer))
    }

    pub(crate) fn of(domain: &Domain, record: &OutgoingRecord) -> Self {
        Self {
            transfer: record.digest(domain),
            invoice: record.invoice(domain),
            path: record.outgoing.payment().clone(),
        }
    }
}

impl<C: TrustedWallet, S: Store> Device<C, S> {
    /// Sets an input aside for an invoice, so that the owner can be asked. Nothing has happened yet. Again for the same
    /// invoice changes nothing.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Pay`] if it cannot be paid; [`DeviceError::LogSetBack`], [`DeviceError::SequenceSetBack`];
    /// [`DeviceError::UnderWay`].
    pub async fn reserve(&mut self, invoice: &SignedInvoice) -> Result<()> {
        let saved = self.load().await?;
        match &*saved.payer {
            AnyPayer::Reserved(payer) if payer.state().invoice == *invoice => Ok(()),
            AnyPayer::Idle(payer) => {
                let reserved = self.choose(payer.wallet(), invoice)?;
                self.save_payer(saved.version, reserved.into()).await?;
                Ok(())
            }
            other => Err(self.under_way(other, "another payment is reserved")),
        }
    }

    /// Pays an invoice: reserves it if it is not, and goes as far as the release. Asked again for an invoice that was paid,
    /// gives back the same payment. After an error [`Device::resume`] says how far it came.
    ///
    /// # Errors
    ///
    /// As [`Device::reserve`]; [`DeviceError::Component`] if the component failed.
    pub async fn pay(&mut self, invoice: &SignedInvoice) -> Result<Payment> {
        let digest = self.config.domain.invoice_digest(&invoice.invoice);
        self.set_aside().await?;
        if let Some(record) = self.store.outgoing_for(digest).await? {
            return Ok(Payment::of(&self.config.domain, &record));
        }
        let saved = self.load().await?;
        let (version, reserved) = match &*saved.payer {
            AnyPayer::Chosen(payer) if payer.state().invoice.as_ref() == Some(invoice) => {
                return self.finish(saved.version, payer.clone()).await;
            }
            AnyPayer::Idle(payer) => {
                let reserved = self.choose(payer.wallet(), invoice)?;
                let version = self.save_payer(saved.version, reserved.clone().into()).await?;
                (version, reserved)
            }
            // Chosen anew: since it was reserved the invoice may have become stale, and the files may have been set back.
            AnyPayer::Reserved(payer) if payer.state().invoice == *invoice => {
                (saved.version, self.choose(payer.wallet(), invoice)?)
            }
            other => return Err(self.under_way(other, "another payment")),
        };
        let chosen = reserved
            .commit(&self.config.domain, self.now())
            .map_err(|stopped| stopped.error)?;
        let version = self.save_payer(version, chosen.clone().into()).await?;
        self.finish(version, chosen).await
    }

    /// Leaves a coin or fragment to be redeemed: the only transfer that the contract pays. Asked again, gives back the same.
    ///
    /// # Errors
    ///
    /// As [`Device::pay`].
    pub async fn exit(&mut self, input: Input) -> Result<Payment> {
        self.set_aside().await?;
        let saved = self.load().await?;
        let payer = match &*saved.payer {
            AnyPayer::Idle(payer) => payer,
            AnyPayer::Chosen(payer)
                if payer.state().invoice.is_none() && payer.state().transfer.input == input =>
            {
                return self.finish(saved.version, payer.clone()).await;
            }
            other => return Err(self.under_way(other, "an exit")),
        };
        if payer.wallet().spent.contains(&input) {
            let stages = [
                OutgoingStage::Released,
                OutgoingStage::Claimed,
                OutgoingStage::Settled,
            ];
            for record in self.exits(&stages).await? {
                if record.transfer().is_some_and(|transfer| transfer.input == input) {
                    return Ok(Payment::of(&self.config.domain, &record));
                }
            }
        }
        bridge::check_in_step(&mut self.component, &self.config.domain, payer.wallet())?;
        check_size(&self.config.domain, payer.wallet(), input, MAX_PATH_BYTES)?;
        let chosen = payer
            .clone()
            .exit(&self.config.domain, input, self.now())
            .map_err(|stopped| stopped.error)?;
        let version = self.save_payer(saved.version, chosen.clone().into()).await?;
        self.finish(version, chosen).await
    }

    /// Goes on where the device was stopped. To be called after a start, and after a step that failed; again as often as
    /// one likes.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Component`]; [`DeviceError::Log`] or [`DeviceError::SequenceSetBack`] if the component has neither
    /// just made the chosen transfer nor is about to: the files were set back.
    pub async fn resume(&mut self) -> Result<Resumed> {
        let released = self.set_aside().await?;
        if let Some(payment) = released {
            return Ok(Resumed::Released(Box::new(payment)));
        }
        let saved = self.load().await?;
        match &*saved.payer {
            AnyPayer::Idle(_) | AnyPayer::Committed(_) => Ok(Resumed::Idle),
            AnyPayer::Reserved(payer) => Ok(Resumed::Reserved(Box::new(payer.state().invoice.clone()))),
            AnyPayer::Chosen(payer) => {
                let payment = self.finish(saved.version, payer.clone()).await?;
                Ok(Resumed::Released(Box::new(payment)))
            }
        }
    }

    /// The payee holds the money: the payment need not be sent again. True if that is new.
    ///
    /// # Errors
    ///
    /// [`DeviceError::UnknownTransfer`]; [`DeviceError::Pay`] if the payee did not sign it.
    pub async fn accepted(&mut self, acceptance: &SignedAcceptance) -> Result<bool> {
        self.set_aside().await?;
        let saved = self.load().await?;
        let transfer = acceptance.acceptance.transfer;
        let record = self.store.outgoing(transfer).await?;
        let record = record.ok_or(DeviceError::UnknownTransfer(transfer))?;
        record.outgoing.is_accepted(&self.config.domain, acceptance)?;
        if matches!(record.state, OutgoingState::Accepted(_)) {
            return Ok(false);
        }
        let event = outgoing_event(&self.config.domain, EventKind::Accepted, self.now(), &record);
        let save = WalletSave {
            from: saved.version,
            outgoing: vec![OutgoingRecord {
                state: OutgoingState::Accepted(*acceptance),
                ..record
            }],
            events: event.into_iter().collect(),
            ..WalletSave::default()
        };
        self.save(save).await?;
        Ok(true)
    }

    /// Gives up what is reserved: the wallet is what it was, to the bit.
    ///
    /// # Errors
    ///
    /// [`DeviceError::NothingReserved`]; there is no way back from what is chosen.
    pub async fn abort(&mut self) -> Result<()> {
        let saved = self.load().await?;
        match &*saved.payer {
            AnyPayer::Reserved(payer) => {
                self.save_payer(saved.version, payer.clone().abort().into())
                    .await?;
                Ok(())
            }
            other => Err(nothing_reserved(other)),
        }
    }

    /// The payee does not want the money: aborts, if the payment is only reserved.
    ///
    /// # Errors
    ///
    /// As [`Device::abort`]; [`DeviceError::Pay`] if it is for another invoice, or not signed by its payee.
    pub async fn rejected(&mut self, rejection: &SignedRejection) -> Result<()> {
        let saved = self.load().await?;
        match &*saved.payer {
            AnyPayer::Reserved(payer) => {
                let idle = payer
                    .clone()
                    .rejected(&self.config.domain, rejection)
                    .map_err(|stopped| stopped.error)?;
                self.save_payer(saved.version, idle.into()).await?;
                Ok(())
            }
            other => Err(nothing_reserved(other)),
        }
    }

    /// Payments that were released and not accepted yet, in their order: to be sent again.
    pub async fn outstanding(&mut self) -> Result<Vec<Payment>> {
        self.set_aside().await?;
        let released = self.store.outgoings(Some(OutgoingStage::Released)).await?;
        let payments = released
            .iter()
            .map(|record| Payment::of(&self.config.domain, record));
        Ok(payments.filter(|payment| payment.invoice.is_some()).collect())
    }

    /// Exits of this wallet at these stages.
    pub(crate) async fn exits(&self, stages: &[OutgoingStage]) -> Result<Vec<OutgoingRecord>> {
        let mut exits = Vec::new();
        for stage in stages {
            exits.extend(self.store.outgoings(Some(*stage)).await?);
        }
        exits.retain(|record| record.outgoing.committed().invoice.is_none());
        Ok(exits)
    }

    /// Checks that the invoice may be paid now, and which input pays it so that a payee like this one would take it: a
    /// payment that was committed and is refused is lost to its payer.
    fn choose(&mut self, wallet: &Wallet, invoice: &SignedInvoice) -> Result<Payer<Reserved>> {
        let Config {
            domain, payer, payee, ..
        } = &self.config;
        let now = self.now();
        bridge::check_in_step(&mut self.component, domain, wallet)?;
        let settled_after = now.plus(payee.settle_margin).plus(payee.window());
        let (id, class) = (wallet.id(), wallet.registration.class);
        let registrar = registrar(domain, id, &wallet.registration, &mut self.registrars)?;
        let mine = self.lists.iter().filter(|list| list.registrar() == registrar);
        if let Some(since) = mine.filter_map(|list| list.revoked_at(id, class)).min() {
            return Err(PayError::Stopped { wallet: id, since }.into());
        }
        if !invoice.terms.takes(registrar, class) {
            let refused = PayError::ClassNotTaken {
                registrar,
                class,
                payee: invoice.invoice.payee,
                accepted: invoice.terms.classes.len(),
            };
            return Err(refused.into());
        }
        let mut takeable = wallet.clone();
        takeable.holdings.clear();
        for holding in &wallet.holdings {
            let fragment = holding.fragment(domain);
            if fragment.settle_by >= settled_after
                && fragment.depth.0 < payee.max_hops
                && depends(domain, id, &holding.path, &mut self.registrars)?
                    .iter()
                    .all(|(registrar, class)| invoice.terms.takes(*registrar, *class))
            {
                takeable.holdings.push(holding.clone());
            }
        }
        let reserved = Payer::new(takeable)
            .reserve(domain, invoice, payer, now)
            .map_err(|stopped| stopped.error)?;
        let state = reserved.state().clone();
        check_size(domain, wallet, state.input, MAX_PAYMENT_BYTES)?;
        Ok(Payer::resume(wallet.clone(), state))
    }

    /// From chosen to released.
    async fn finish(&mut self, from: WalletVersion, payer: Payer<Chosen>) -> Result<Payment> {
        let proof = bridge::prove(&mut self.component, &self.config.domain, &payer)?;
        let committed = payer
            .prove(&self.config.domain, proof)
            .map_err(|stopped| stopped.error)?;
        self.release(from, committed).await
    }

    /// Saves the proven payment beside the books, which are free for the next one.
    async fn release(&mut self, from: WalletVersion, payer: Payer<Committed>) -> Result<Payment> {
        let (idle, outgoing) = payer.set_aside();
        let kind = match outgoing.committed().invoice {
            Some(_) => EventKind::Paid,
            None => EventKind::Exited,
        };
        let record = OutgoingRecord {
            outgoing,
            state: OutgoingState::Released,
        };
        let payment = Payment::of(&self.config.domain, &record);
        let event = outgoing_event(&self.config.domain, kind, self.now(), &record);
        let save = WalletSave {
            from,
            payer: Some(Arc::new(idle.into())),
            outgoing: vec![record],
            events: event.into_iter().collect(),
            ..WalletSave::default()
        };
        self.save(save).await?;
        info!(transfer = %payment.transfer, exit = payment.invoice.is_none(), "released");
        Ok(payment)
    }

    /// A payment that was saved as committed is put beside the books; then it is returned.
    async fn set_aside(&mut self) -> Result<Option<Payment>> {
        let SavedWallet { version, payer } = self.load().await?;
        match &*payer {
            AnyPayer::Committed(payer) => Ok(Some(self.release(version, payer.clone()).await?)),
            _ => Ok(None),
        }
    }

    async fn save_payer(&mut self, from: WalletVersion, payer: AnyPayer) -> Result<WalletVersion> {
        let save = WalletSave {
            from,
            payer: Some(Arc::new(payer)),
            ..WalletSave::default()
        };
        self.save(save).await
    }

    fn under_way(&self, payer: &AnyPayer, asked: &str) -> DeviceError {
        let subject = match payer {
            AnyPayer::Reserved(payer) => {
                let invoice = self.config.domain.invoice_digest(&payer.state().invoice.invoice);
                format!("invoice {invoice}")
            }
            AnyPayer::Chosen(payer) => format!("transfer {}", payer.digest(&self.config.domain)),
            AnyPayer::Committed(payer) => format!("transfer {}", payer.state().digest(&self.config.domain)),
            AnyPayer::Idle(_) => "nothing".to_owned(),
        };
        DeviceError::UnderWay {
            doing: format!("{subject} ({})", state(payer)),
            asked: asked.to_owned(),
        }
    }
}

/// Nothing is chosen that payees, or of an exit this wallet itself, could not read again: there is no way back from it.
fn check_size(domain: &Domain, wallet: &Wallet, input: Input, limit: usize) -> Result<()> {
    let own = wallet.log.as_ref().map_or(0, |log| log.entries.len());
    if own >= MAX_HISTORY {
        return Err(DeviceError::LogTooLong {
            got: own,
            limit: MAX_HISTORY,
        });
    }
    let holding = wallet
        .holdings
        .iter()
        .find(|holding| holding.fragment(domain).id == input);
    let before = holding.map_or(0, |holding| holding.path.encode(domain).len());
    let got = before + own * LogEntry::LENGTH + HOP_BYTES;
    if got > limit {
        return Err(DeviceError::PaymentTooLarge { got, limit });
    }
    Ok(())
}

fn state(payer: &AnyPayer) -> &'static str {
    match payer {
        AnyPayer::Idle(_) => "idle",
        AnyPayer::Reserved(_) => "reserved",
        AnyPayer::Chosen(_) => "chosen",
        AnyPayer::Committed(_) => "committed",
    }
}

fn nothing_reserved(payer: &AnyPayer) -> DeviceError {
    DeviceError::NothingReserved { state: state(payer) }
}

/// What the history says of a transfer. Of an exit there is no other wallet.
pub(crate) fn outgoing_event(
    domain: &Domain,
    kind: EventKind,
    at: Timestamp,
    record: &OutgoingRecord,
) -> Option<Event> {
    let transfer = record.transfer()?;
    let subject: B256 = record.digest(domain).0;
    let other = record
        .outgoing
        .committed()
        .invoice
        .as_ref()
        .map(|_| transfer.payee);
    let asset = record.outgoing.payment().deposit.coin.asset;
    Some(event(kind, at, subject, asset, transfer.amount, other))
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;
    use protocol::offline::{
        ClassId, IndexName, Registration, SignedRegistration, SoftwareKey, TransferDigest, Wallet,
    };

    use super::*;

    fn with_entries(count: usize) -> (Domain, Wallet) {
        let domain = Domain::new(1, Address::ZERO);
        let registrar = protocol::offline::Key::from_bytes(&[9; 32]).unwrap();
        let key = *SoftwareKey::from_bytes(&[1; 32]).unwrap().public_key();
        let index = IndexName(B256::ZERO);
        let registration = Registration {
            wallet: key.wallet(),
            owner: Address::ZERO,
            class: ClassId(9),
            log: index.hash(),
            valid_until: Timestamp(1),
        };
        let mut wallet = Wallet::new(
            &domain,
            SignedRegistration {
                key,
                owner: registration.owner,
                class: registration.class,
                index: Some(index),
                valid_until: registration.valid_until,
                signature: registration.confirm(&domain, &registrar),
                first: None,
            },
        );
        let entry = LogEntry {
            input: Input(B256::repeat_byte(1)),
            transfer: TransferDigest(B256::repeat_byte(2)),
        };
        wallet.log.get_or_insert_default().entries = vec![entry; count];
        (domain, wallet)
    }

    /// A long log keeps a wallet from paying until it has a checkpoint, and from leaving much later only.
    #[test]
    fn a_long_log_stops_payments_before_exits() {
        let size = |count, limit| {
            let (domain, wallet) = with_entries(count);
            check_size(&domain, &wallet, Input(B256::ZERO), limit)
        };
        size(1_000, MAX_PAYMENT_BYTES).unwrap();
        let error = size(1_001, MAX_PAYMENT_BYTES).unwrap_err();
        assert!(
            matches!(error, DeviceError::PaymentTooLarge { got, limit } if got > limit),
            "{error}"
        );
        size(MAX_HISTORY - 1, MAX_PATH_BYTES).unwrap();
        let error = size(MAX_HISTORY, MAX_PATH_BYTES).unwrap_err();
        assert!(
            matches!(error, DeviceError::LogTooLong { got, limit } if got == limit),
            "{error}"
        );
    }
}
