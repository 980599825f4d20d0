//! What a wallet takes over when it is online: checkpoints of its log, revocation lists, a renewed registration, and how far
//! its exits are on the chain.

use protocol::offline::{
    Domain, Output, Path, SignedLogCheckpoint, SignedRegistration, SignedRevocationList, TransferDigest,
};
use storage::offline::{
    EventKind, InvoiceRecord, InvoiceState, OutgoingRecord, OutgoingStage, OutgoingState, Standing,
    WalletSave,
};
use trusted::TrustedWallet;

use crate::device::{Store, over};
use crate::pay::outgoing_event;
use crate::{Device, DeviceError, Result};

impl<C: TrustedWallet, S: Store> Device<C, S> {
    /// Takes the registrar's checkpoint of this wallet's log: payees see only what is after it.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Log`] if it is not by this wallet's registrar, or not of a place of its log.
    pub async fn take_checkpoint(&mut self, checkpoint: SignedLogCheckpoint) -> Result<()> {
        let domain = self.config.domain;
        let saved = self.load().await?;
        let mut wallet = saved.payer.wallet().clone();
        let registrar = wallet.registration.registrar(&domain)?;
        wallet.take_checkpoint(&domain, registrar, checkpoint)?;
        let save = WalletSave {
            from: saved.version,
            payer: Some(over(&saved.payer, wallet)),
            ..WalletSave::default()
        };
        self.save(save).await?;
        Ok(())
    }

    /// Takes a registrar's revocation list, if it is newer than the one that is known. True if it was. That of its own
    /// registrar tells a wallet that it is stopped.
    ///
    /// # Errors
    ///
    /// [`DeviceError::List`]; [`DeviceError::UnknownRegistrar`] if the policy takes nobody's wallets whom it registered, nor
    /// did it register this one; [`DeviceError::ListFromFuture`].
    pub async fn take_revocations(&mut self, list: SignedRevocationList) -> Result<bool> {
        let list = list.verify(&self.config.domain)?;
        let registrar = list.registrar();
        let own = self.load().await?.payer.wallet().registration;
        let own = own.registrar(&self.config.domain)?;
        let policy = &self.config.payee;
        if registrar != own && !policy.classes.iter().any(|class| class.registrar == registrar) {
            return Err(DeviceError::UnknownRegistrar(registrar));
        }
        let (issued_at, now, skew) = (list.issued_at(), self.now(), policy.clock_skew);
        if issued_at > now.plus(skew) {
            return Err(DeviceError::ListFromFuture { issued_at, now, skew });
        }
        let new = self.store.save_list(&list).await?;
        self.lists = self.store.lists().await?;
        Ok(new)
    }

    /// Takes a renewal of this wallet's registration: the same but for a later end.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Renewal`] with what differs.
    pub async fn renew(&mut self, renewal: SignedRegistration) -> Result<()> {
        let domain = self.config.domain;
        let saved = self.load().await?;
        let mut wallet = saved.payer.wallet().clone();
        check_renewal(&domain, &wallet.registration, &renewal)?;
        wallet.registration = renewal;
        let save = WalletSave {
            from: saved.version,
            payer: Some(over(&saved.payer, wallet)),
            ..WalletSave::default()
        };
        self.save(save).await?;
        Ok(())
    }

    /// An exit is on its way to the chain. True if that is new.
    ///
    /// # Errors
    ///
    /// [`DeviceError::UnknownTransfer`], [`DeviceError::NotAnExit`].
    pub async fn claimed(&mut self, exit: TransferDigest) -> Result<bool> {
        self.stand(exit, Standing::Claimed).await
    }

    /// An exit that was on its way is not any more: by what is final, the chain has not paid it, and its transaction left it
    /// out, reverted, or is gone. It is exited again, and may be claimed again. True if that is new; also if it was not
    /// claimed, or is settled, nothing changes.
    ///
    /// # Errors
    ///
    /// As [`Device::claimed`].
    pub async fn refused(&mut self, exit: TransferDigest) -> Result<bool> {
        self.stand(exit, Standing::OfflineAccepted).await
    }

    /// An exit was paid, and that is final. True if that is new. Gives its exposure back.
    ///
    /// # Errors
    ///
    /// As [`Device::claimed`].
    pub async fn settled(&mut self, exit: TransferDigest) -> Result<bool> {
        self.stand(exit, Standing::Settled).await
    }

    async fn stand(&mut self, exit: TransferDigest, standing: Standing) -> Result<bool> {
        let domain = self.config.domain;
        let saved = self.load().await?;
        let record = self.store.outgoing(exit).await?;
        let record = record.ok_or(DeviceError::UnknownTransfer(exit))?;
        if record.outgoing.committed().invoice.is_some() {
            return Err(DeviceError::NotAnExit(exit));
        }
        let (state, kind) = match standing {
            Standing::OfflineAccepted => (OutgoingState::Released, EventKind::Refused),
            Standing::Claimed => (OutgoingState::Claimed, EventKind::Claimed),
            Standing::Settled => (OutgoingState::Settled, EventKind::Settled),
        };
        if record.state == state || record.state.stage() == OutgoingStage::Settled {
            return Ok(false);
        }
        let received = match received(&domain, record.outgoing.payment()) {
            Some(transfer) => self.store.invoice_paid_by(transfer).await?,
            None => None,
        };
        let invoices = received.and_then(|record| standing_of(record, standing));
        let save = WalletSave {
            from: saved.version,
            invoices: invoices.into_iter().collect(),
            events: outgoing_event(&domain, kind, self.now(), &record)
                .into_iter()
                .collect(),
            outgoing: vec![OutgoingRecord { state, ..record }],
            ..WalletSave::default()
        };
        self.save(save).await?;
        Ok(true)
    }
}

/// The transfer whose payee's part an exit leaves whole.
fn received(domain: &Domain, exit: &Path) -> Option<TransferDigest> {
    let [.., before, last] = exit.hops.as_slice() else {
        return None;
    };
    let digest = domain.transfer_digest(&before.transfer);
    (last.transfer.input == digest.fragment(Output::Payee).into()).then_some(digest)
}

fn standing_of(record: InvoiceRecord, standing: Standing) -> Option<InvoiceRecord> {
    match record.state {
        InvoiceState::Credited { credited, answer, .. } => Some(InvoiceRecord {
            invoice: record.invoice,
            state: InvoiceState::Credited {
                credited,
                answer,
                standing,
            },
        }),
        InvoiceState::Waiting | InvoiceState::Rejected { .. } => None,
    }
}

fn check_renewal(domain: &Domain, known: &SignedRegistration, renewal: &SignedRegistration) -> Result<()> {
    let same = |field, got: String, needed: String| {
        if got == needed {
            return Ok(());
        }
        Err(DeviceError::Renewal { field, got, needed })
    };
    same("wallet", renewal.wallet().to_string(), known.wallet().to_string())?;
    same("owner", renewal.owner.to_string(), known.owner.to_string())?;
    same("class", renewal.class.to_string(), known.class.to_string())?;
    same(
        "log",
        format!("{:?}", renewal.index),
        format!("{:?}", known.index),
    )?;
    let (got, needed) = (renewal.registrar(domain)?, known.registrar(domain)?);
    same("registrar", got.to_string(), needed.to_string())?;
    let (got, needed) = (renewal.origin(domain), known.origin(domain));
    same("first registration", got.to_string(), needed.to_string())?;
    if renewal.valid_until <= known.valid_until {
        return Err(DeviceError::Renewal {
            field: "end",
            got: renewal.valid_until.to_string(),
            needed: format!("later than {}", known.valid_until),
        });
    }
    Ok(())
}
