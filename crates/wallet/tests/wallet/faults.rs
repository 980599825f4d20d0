//! A fuse on everything that a device does to the world: saves, and what it asks of its component. After the n-th effect, or
//! just before it, the device is dead, as after kill -9. It also keeps the journal of what the component made, and the time
//! that was spent outside our own code.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use protocol::offline::{InvoiceDigest, RevocationList, TransferDigest};
use storage::offline::{
    DepositRecord, HistoryRecord, InvoiceRecord, InvoiceStage, OutgoingRecord, OutgoingStage,
    RevocationStore, SavedWallet, WalletSave, WalletStore, WalletVersion,
};
use storage::{Result as Stored, StoreError};
use trusted::{
    Certified, Entry, Head, LogsTransfers, MessageDigest, PublicKey, Result, Signature, SignsTransfers,
    Software, Tpm, Transfers, TrustedError, TrustedWallet, tpm::Name,
};

/// When the device dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Burn {
    /// Instead of the effect.
    Before,
    /// When the effect has taken place, and before anybody knows.
    After,
}

#[derive(Debug, Default)]
struct State {
    /// Effects until it burns.
    left: Option<(u32, Burn)>,
    dead: bool,
    /// Every transfer that the component made evidence for or logged, by sequence (SIGNATURE) or by its place (LOG).
    transfers: BTreeMap<u64, Vec<[u8; 32]>>,
    logged: Vec<Entry>,
    outside: Duration,
}

/// Shared by a device's store and component.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fuse(Arc<Mutex<State>>);

impl Fuse {
    /// Burns at the effect with this number, from 0.
    pub(crate) fn set(&self, at: u32, burn: Burn) {
        let mut state = self.0.lock().unwrap();
        (state.left, state.dead) = (Some((at, burn)), false);
    }

    /// A new process, which lives.
    pub(crate) fn mend(&self) {
        let mut state = self.0.lock().unwrap();
        (state.left, state.dead) = (None, false);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.lock().unwrap().dead
    }

    /// Time outside our own code, since it was asked last.
    pub(crate) fn take_outside(&self) -> Duration {
        std::mem::take(&mut self.0.lock().unwrap().outside)
    }

    pub(crate) fn logged(&self) -> Vec<Entry> {
        self.0.lock().unwrap().logged.clone()
    }

    /// No sequence has two transfers, no input two entries.
    #[track_caller]
    pub(crate) fn assert_nothing_twice(&self) {
        let state = self.0.lock().unwrap();
        for (sequence, digests) in &state.transfers {
            assert!(
                digests.iter().all(|digest| *digest == digests[0]),
                "sequence {sequence} was signed for two transfers"
            );
        }
        for (at, entry) in state.logged.iter().enumerate() {
            let earlier = &state.logged[..at];
            assert!(
                earlier.iter().all(|other| other.input() != entry.input()),
                "an input was logged twice"
            );
        }
    }

    fn before(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        if state.left == Some((0, Burn::Before)) {
            state.dead = true;
        }
        !state.dead
    }

    fn after(&self, took: Duration) -> bool {
        let mut state = self.0.lock().unwrap();
        state.outside += took;
        match &mut state.left {
            Some((0, Burn::After)) => {
                state.dead = true;
                false
            }
            Some((left, _)) => {
                *left = left.saturating_sub(1);
                true
            }
            None => true,
        }
    }

    fn component<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        if !self.before() {
            return Err(killed());
        }
        let start = Instant::now();
        let done = act();
        if self.after(start.elapsed()) {
            done
        } else {
            Err(killed())
        }
    }

    fn reads<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.is_dead() {
            return Err(killed());
        }
        let start = Instant::now();
        let done = act();
        self.0.lock().unwrap().outside += start.elapsed();
        done
    }

    async fn saves<T>(&self, act: impl Future<Output = Stored<T>>) -> Stored<T> {
        if !self.before() {
            return Err(StoreError::Closed);
        }
        let start = Instant::now();
        let done = act.await;
        if self.after(start.elapsed()) {
            done
        } else {
            Err(StoreError::Closed)
        }
    }

    async fn loads<T>(&self, act: impl Future<Output = Stored<T>>) -> Stored<T> {
        if self.is_dead() {
            return Err(StoreError::Closed);
        }
        let start = Instant::now();
        let done = act.await;
        self.0.lock().unwrap().outside += start.elapsed();
        done
    }
}

fn killed() -> TrustedError {
    TrustedError::Transport {
        command: "any".to_owned(),
        source: io::Error::other("killed by the test"),
    }
}

/// A component on a fuse.
pub(crate) struct Chip {
    pub(crate) real: Real,
    pub(crate) fuse: Fuse,
}

pub(crate) enum Real {
    Software(Box<Software>),
    Tpm(Box<Tpm>),
}

impl Real {
    fn wallet(&mut self) -> &mut dyn TrustedWallet {
        match self {
            Self::Software(software) => software.as_mut(),
            Self::Tpm(tpm) => tpm.as_mut(),
        }
    }

    fn log(&mut self) -> &mut dyn LogsTransfers {
        match self.wallet().transfers() {
            Transfers::Log(log) => log,
            Transfers::Signature(_) => unreachable!("has no log"),
        }
    }

    fn signer(&mut self) -> &mut dyn SignsTransfers {
        match self.wallet().transfers() {
            Transfers::Signature(signer) => signer,
            Transfers::Log(_) => unreachable!("has a log"),
        }
    }
}

impl TrustedWallet for Chip {
    fn public_key(&self) -> PublicKey {
        match &self.real {
            Real::Software(software) => software.public_key(),
            Real::Tpm(tpm) => tpm.public_key(),
        }
    }

    fn sign(&mut self, message: MessageDigest) -> Result<Signature> {
        self.fuse.component(|| self.real.wallet().sign(message))
    }

    fn transfers(&mut self) -> Transfers<'_> {
        match &self.real {
            Real::Software(_) => Transfers::Signature(self),
            Real::Tpm(_) => Transfers::Log(self),
        }
    }
}

impl SignsTransfers for Chip {
    fn next_sequence(&self) -> u64 {
        match &self.real {
            Real::Software(software) => software.next_sequence(),
            Real::Tpm(_) => unreachable!("has a log"),
        }
    }

    fn sign_transfer(&mut self, sequence: u64, transfer: trusted::TransferDigest) -> Result<Signature> {
        let fuse = self.fuse.clone();
        fuse.component(|| {
            let signed = self.real.signer().sign_transfer(sequence, transfer)?;
            let mut state = fuse.0.lock().unwrap();
            state.transfers.entry(sequence).or_default().push(transfer.0);
            Ok(signed)
        })
    }
}

impl LogsTransfers for Chip {
    fn head(&mut self) -> Result<Head> {
        self.fuse.reads(|| self.real.log().head())
    }

    fn extend(&mut self, base: Head, entry: Entry) -> Result<Head> {
        let fuse = self.fuse.clone();
        fuse.component(|| {
            let head = self.real.log().extend(base, entry)?;
            fuse.0.lock().unwrap().logged.push(entry);
            Ok(head)
        })
    }

    fn certify(&mut self, head: Head, transfer: trusted::TransferDigest) -> Result<Certified> {
        self.fuse.component(|| self.real.log().certify(head, transfer))
    }

    fn log_name(&self) -> Name {
        match &self.real {
            Real::Tpm(tpm) => tpm.log_name(),
            Real::Software(_) => unreachable!("has no log"),
        }
    }
}

/// A store on a fuse.
#[derive(Clone)]
pub(crate) struct Frail<S> {
    pub(crate) store: S,
    pub(crate) fuse: Fuse,
}

impl<S: WalletStore + Sync> WalletStore for Frail<S> {
    async fn wallet_version(&self) -> Stored<Option<WalletVersion>> {
        self.fuse.loads(self.store.wallet_version()).await
    }

    async fn load_wallet(&self) -> Stored<Option<SavedWallet>> {
        self.fuse.loads(self.store.load_wallet()).await
    }

    async fn save_wallet(&self, save: &WalletSave) -> Stored<WalletVersion> {
        self.fuse.saves(self.store.save_wallet(save)).await
    }

    async fn invoice(&self, invoice: InvoiceDigest) -> Stored<Option<InvoiceRecord>> {
        self.fuse.loads(self.store.invoice(invoice)).await
    }

    async fn invoice_paid_by(&self, transfer: TransferDigest) -> Stored<Option<InvoiceRecord>> {
        self.fuse.loads(self.store.invoice_paid_by(transfer)).await
    }

    async fn invoices(&self, stage: Option<InvoiceStage>) -> Stored<Vec<InvoiceRecord>> {
        self.fuse.loads(self.store.invoices(stage)).await
    }

    async fn outgoing(&self, transfer: TransferDigest) -> Stored<Option<OutgoingRecord>> {
        self.fuse.loads(self.store.outgoing(transfer)).await
    }

    async fn outgoing_for(&self, invoice: InvoiceDigest) -> Stored<Option<OutgoingRecord>> {
        self.fuse.loads(self.store.outgoing_for(invoice)).await
    }

    async fn outgoings(&self, stage: Option<OutgoingStage>) -> Stored<Vec<OutgoingRecord>> {
        self.fuse.loads(self.store.outgoings(stage)).await
    }

    async fn deposits(&self) -> Stored<Vec<DepositRecord>> {
        self.fuse.loads(self.store.deposits()).await
    }

    async fn history(&self, before: Option<u64>, limit: u32) -> Stored<Vec<HistoryRecord>> {
        self.fuse.loads(self.store.history(before, limit)).await
    }
}

impl<S: RevocationStore + Sync> RevocationStore for Frail<S> {
    async fn save_list(&self, list: &RevocationList) -> Stored<bool> {
        self.fuse.saves(self.store.save_list(list)).await
    }

    async fn lists(&self) -> Stored<Vec<RevocationList>> {
        self.fuse.loads(self.store.lists()).await
    }
}
