//! The payee's steps: invoice, receive, reject; and import, by which a wallet is paid from the chain. What is taken is saved
//! before it is answered, and the answer is saved before it leaves: it is the same each time.

use alloy_primitives::{Address, B256};
use protocol::offline::{
    Amount, AnyPayer, Credited, Domain, Invoice, InvoiceDigest, InvoiceTerms, MAX_HOLDINGS, Path, PayError,
    Payee, Refusal, Rejected, SignedAcceptance, SignedDeposit, SignedInvoice, SignedRejection, Timestamp,
    View, Waiting,
};
use storage::offline::{
    DepositRecord, EventKind, InvoiceRecord, InvoiceState, OutgoingStage, SavedWallet, Standing, WalletSave,
};
use tracing::info;
use trusted::{TrustedError, TrustedWallet};

use crate::device::{Store, event, over};
use crate::exposure::exposure;
use crate::{Device, DeviceError, Result, bridge};

/// How often another nonce is drawn for an invoice that a TPM does not sign, which is one in 2^32.
const NONCES: u32 = 4;

impl<C: TrustedWallet, S: Store> Device<C, S> {
    /// Imports a coin of this wallet, whose receipt says that its deposit is final. True if it is new; a coin is imported
    /// once, and spent ones not again.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Pay`] if it is another wallet's, or not signed by this wallet's registrar.
    pub async fn import(&mut self, deposit: &SignedDeposit) -> Result<bool> {
        let domain = self.config.domain;
        let SavedWallet { version, payer } = self.load().await?;
        let mut wallet = payer.wallet().clone();
        let before = wallet.holdings.len();
        wallet.import(&domain, *deposit)?;
        if wallet.holdings.len() == before {
            return Ok(false);
        }
        let at = self.now();
        let coin = deposit.coin;
        let id = domain.coin_id(&coin);
        let save = WalletSave {
            from: version,
            payer: Some(over(&payer, wallet)),
            deposits: vec![DepositRecord {
                deposit: *deposit,
                at,
            }],
            events: vec![event(
                EventKind::Imported,
                at,
                id.0,
                coin.asset,
                coin.amount,
                None,
            )],
            ..WalletSave::default()
        };
        self.save(save).await?;
        Ok(true)
    }

    /// Asks for money, of those whom it could be taken from now.
    ///
    /// # Errors
    ///
    /// [`DeviceError::LogSetBack`] or [`DeviceError::SequenceSetBack`]: a wallet that cannot pay asks for nothing.
    /// [`DeviceError::Refused`] if nobody's payment would be taken.
    pub async fn invoice(&mut self, asset: Address, amount: Amount) -> Result<SignedInvoice> {
        let saved = self.load().await?;
        let wallet = saved.payer.wallet();
        if matches!(*saved.payer, AnyPayer::Idle(_) | AnyPayer::Reserved(_)) {
            bridge::check_in_step(&mut self.component, &self.config.domain, wallet)?;
        }
        let held = wallet.holdings.len();
        if held >= MAX_HOLDINGS {
            let limit = MAX_HOLDINGS;
            return Err(PayError::TooManyHoldings { held, limit }.into());
        }
        let (payee, key) = (wallet.id(), wallet.registration.key);
        let classes = self.judge(&saved, |_, view| view.takes(asset, amount)).await?;
        let mut terms = InvoiceTerms {
            salt: B256::ZERO,
            classes,
        };
        let mut tries = 0;
        let invoice = loop {
            tries += 1;
            terms.salt = (self.config.edges.random)();
            let invoice = Invoice {
                payee,
                asset,
                amount,
                nonce: terms.nonce(),
                issued_at: self.now(),
            };
            let digest = self.config.domain.invoice_digest(&invoice);
            match bridge::sign(&mut self.component, digest.0) {
                Ok(signature) => {
                    break SignedInvoice {
                        key,
                        invoice,
                        terms,
                        signature,
                    };
                }
                Err(DeviceError::Component(error))
                    if matches!(*error, TrustedError::NotSignable(_)) && tries < NONCES => {}
                Err(error) => return Err(error),
            }
        };
        let save = WalletSave {
            from: saved.version,
            invoices: vec![InvoiceRecord {
                invoice: invoice.clone(),
                state: InvoiceState::Waiting,
            }],
            ..WalletSave::default()
        };
        self.save(save).await?;
        Ok(invoice)
    }

    /// Judges a payment by the policy and takes it. One that was taken gets the same answer, to the byte, and is credited no
    /// second time; one that comes late is taken, too.
    ///
    /// # Errors
    ///
    /// [`DeviceError::UnknownInvoice`]; [`DeviceError::Refused`] with the rule: nothing changed, and a right payment may
    /// still come. After another error the payment may have been taken: it is answered when it comes again.
    pub async fn receive(&mut self, payment: &Path) -> Result<SignedAcceptance> {
        let domain = self.config.domain;
        let last = payment
            .hops
            .last()
            .ok_or(Refusal::NoTransfer { depth: 0, needed: 1 })?;
        let digest = last.transfer.invoice;
        let saved = self.load().await?;
        let record = self.store.invoice(digest).await?;
        let record = record.ok_or(DeviceError::UnknownInvoice(digest))?;
        let InvoiceRecord { invoice, state } = record;
        let credited = match state {
            InvoiceState::Credited {
                credited,
                answer,
                standing,
            } => {
                credited.again(&domain, payment)?;
                return match answer {
                    Some(answer) => Ok(answer),
                    None => self.answer(invoice, credited, standing).await,
                };
            }
            InvoiceState::Waiting => {
                let waiting = Payee::<Waiting>::new(invoice.invoice);
                self.judge(&saved, |domain, view| waiting.receive(domain, payment, view))
                    .await?
            }
            InvoiceState::Rejected { at, .. } => {
                let rejected = Payee::<Rejected>::resume(invoice.invoice, at);
                self.judge(&saved, |domain, view| rejected.receive(domain, payment, view))
                    .await?
            }
        };
        let credited = Box::new(credited);
        self.credit(saved, invoice.clone(), credited.clone()).await?;
        self.answer(invoice, credited, Standing::OfflineAccepted).await
    }

    /// Says that the money of an invoice is not wanted any more. Frees a payer that has not committed; the payment of one
    /// that has is still taken. Asked again, gives the same answer.
    ///
    /// # Errors
    ///
    /// [`DeviceError::UnknownInvoice`]; [`DeviceError::PaidAlready`].
    pub async fn reject(&mut self, digest: InvoiceDigest) -> Result<SignedRejection> {
        let saved = self.load().await?;
        let record = self.store.invoice(digest).await?;
        let InvoiceRecord { invoice, state } = record.ok_or(DeviceError::UnknownInvoice(digest))?;
        let (at, version) = match state {
            InvoiceState::Credited { credited, .. } => {
                return Err(DeviceError::PaidAlready {
                    invoice: digest,
                    transfer: credited.state().judged.transfer,
                });
            }
            InvoiceState::Rejected {
                answer: Some(answer), ..
            } => return Ok(answer),
            InvoiceState::Rejected { at, answer: None } => (at, saved.version),
            InvoiceState::Waiting => {
                let at = self.now();
                let Invoice { asset, amount, .. } = invoice.invoice;
                let save = WalletSave {
                    from: saved.version,
                    invoices: vec![InvoiceRecord {
                        invoice: invoice.clone(),
                        state: InvoiceState::Rejected { at, answer: None },
                    }],
                    events: vec![event(EventKind::Rejected, at, digest.0, asset, amount, None)],
                    ..WalletSave::default()
                };
                (at, self.save(save).await?)
            }
        };
        let (_, rejection) = Payee::<Waiting>::new(invoice.invoice).reject(&self.config.domain, at);
        let signed = self.config.domain.rejection_digest(&rejection);
        let signature = bridge::sign(&mut self.component, signed)?;
        let answer = SignedRejection { rejection, signature };
        let save = WalletSave {
            from: version,
            invoices: vec![InvoiceRecord {
                invoice,
                state: InvoiceState::Rejected {
                    at,
                    answer: Some(answer),
                },
            }],
            ..WalletSave::default()
        };
        self.save(save).await?;
        Ok(answer)
    }

    /// When this wallet stops waiting for the payment of an invoice.
    pub fn timeout(&self, invoice: &SignedInvoice) -> Timestamp {
        Payee::<Waiting>::new(invoice.invoice).timeout(&self.config.payee)
    }

    /// Judges in view of what is held, and what is known of revocations.
    async fn judge<T>(
        &mut self,
        saved: &SavedWallet,
        judge: impl FnOnce(&Domain, &View<'_>) -> Result<T, Refusal>,
    ) -> Result<T> {
        let unsettled = [OutgoingStage::Released, OutgoingStage::Claimed];
        let exits = self.exits(&unsettled).await?;
        let exits: Vec<&Path> = exits.iter().map(|record| record.outgoing.payment()).collect();
        let wallet = saved.payer.wallet();
        let exposure = exposure(&self.config.domain, wallet, &exits, &mut self.registrars)?;
        let view = View {
            policy: &self.config.payee,
            lists: &self.lists,
            exposure: &exposure,
            now: self.now(),
        };
        Ok(judge(&self.config.domain, &view)?)
    }

    /// Saves that the money is here.
    async fn credit(
        &mut self,
        saved: SavedWallet,
        invoice: SignedInvoice,
        credited: Box<Payee<Credited>>,
    ) -> Result<()> {
        let mut wallet = saved.payer.wallet().clone();
        credited.hold(&self.config.domain, &mut wallet)?;
        let state = credited.state();
        let kind = if state.late {
            EventKind::ReceivedLate
        } else {
            EventKind::Received
        };
        let fragment = state.judged.fragment;
        let payer = state
            .path
            .hops
            .last()
            .and_then(|hop| state.path.wallets.get(hop.payer))
            .map(|wallet| wallet.wallet());
        let transfer = state.judged.transfer;
        let save = WalletSave {
            from: saved.version,
            payer: Some(over(&saved.payer, wallet)),
            events: vec![event(
                kind,
                state.at,
                transfer.0,
                fragment.asset,
                fragment.value,
                payer,
            )],
            invoices: vec![InvoiceRecord {
                invoice,
                state: InvoiceState::Credited {
                    credited,
                    answer: None,
                    standing: Standing::OfflineAccepted,
                },
            }],
            ..WalletSave::default()
        };
        self.save(save).await?;
        info!(%transfer, late = kind == EventKind::ReceivedLate, "credited");
        Ok(())
    }

    /// Signs the acceptance of what is credited, and saves it.
    async fn answer(
        &mut self,
        invoice: SignedInvoice,
        credited: Box<Payee<Credited>>,
        standing: Standing,
    ) -> Result<SignedAcceptance> {
        let from = self.load().await?.version;
        let acceptance = credited.acceptance();
        let digest = self.config.domain.acceptance_digest(&acceptance);
        let signature = bridge::sign(&mut self.component, digest)?;
        let answer = SignedAcceptance {
            acceptance,
            signature,
        };
        let save = WalletSave {
            from,
            invoices: vec![InvoiceRecord {
                invoice,
                state: InvoiceState::Credited {
                    credited,
                    answer: Some(answer),
                    standing,
                },
            }],
            ..WalletSave::default()
        };
        self.save(save).await?;
        Ok(answer)
    }
}
