//! Receipts for coins, and checkpoints of logs: what the chain has for good, signed for those who cannot see the chain.

use std::collections::BTreeMap;

use alloy_primitives::{B256, keccak256};
use protocol::offline::{
    Amount, Attest, ClassId, Coin, DepositReceipt, Input, Kind, LogCheckpoint, LogEntry, LogHead, Sequence,
    SignedDeposit, SignedLogCheckpoint, SignedRegistration, SpentTree, Timestamp, WalletId, WalletSignature,
};
use storage::offline::registrar::{
    LogRecord, ReceiptCap, ReceiptRecord, RegistrarStore, RegistrarStoreError,
};

use super::{FinalDeposits, FinalWallets, Registrar, RegistrarError, Result};

/// Most entries of one request.
pub const MAX_ENTRIES: usize = 2_048;

/// A part of a wallet's log, and the TPM's word for its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSegment {
    /// The wallet.
    pub wallet: WalletId,
    /// Number of transfers before the entries: of the last checkpoint, or any before it.
    pub from: Sequence,
    /// The transfers after them.
    pub entries: Vec<LogEntry>,
    /// The certificate, for the last of them.
    pub attest: Vec<u8>,
    /// Its signature.
    pub signature: WalletSignature,
}

impl<S: RegistrarStore, V: FinalDeposits + FinalWallets> Registrar<S, V> {
    /// The receipt of a coin: signed once, when it is final. It is no secret, so whoever asks gets it.
    pub async fn receipt(&self, coin: &Coin, now: Timestamp) -> Result<SignedDeposit> {
        let id = self.domain.coin_id(coin);
        if let Some(stored) = self.store.receipt(id).await? {
            return self.deposit(&stored);
        }
        let registration = self.confirmed(coin.wallet, now).await?;
        self.check_alive(coin.wallet, registration.class).await?;
        self.check_alive_on_chain(coin.wallet, registration.class, now)
            .await?;
        let class = self.known_class(registration.class)?;
        let cap = class
            .cap(coin.asset)
            .ok_or_else(|| RegistrarError::AssetNotAccepted {
                class: class.id,
                got: coin.asset,
                accepted: class.caps.iter().map(|cap| cap.asset).collect(),
            })?;
        if coin.amount.0 > cap.coin {
            return Err(RegistrarError::CoinTooLarge {
                class: class.id,
                got: coin.amount,
                limit: Amount(cap.coin),
            });
        }
        let fin = self.vault.deposit(coin).await?;
        let settle_by = fin.ok_or(RegistrarError::NotFinal { coin: id })?.settle_by;
        let receipt = DepositReceipt {
            coin: id,
            wallet: coin.wallet,
            asset: coin.asset,
            amount: coin.amount,
            settle_by,
        };
        let signed = SignedDeposit {
            coin: *coin,
            settle_by,
            signature: receipt.sign(&self.domain, &self.keys.registrar),
        };
        let record = ReceiptRecord {
            coin: id,
            wallet: coin.wallet,
            asset: coin.asset,
            amount: coin.amount,
            settle_by,
            signed: signed.encode(&self.domain),
        };
        let cap = ReceiptCap {
            since: now,
            limit: Amount(cap.wallet),
        };
        let stored = self.store.add_receipt(&record, Some(cap)).await?;
        self.deposit(&stored)
    }

    fn deposit(&self, stored: &ReceiptRecord) -> Result<SignedDeposit> {
        SignedDeposit::decode(&self.domain, &stored.signed).map_err(|error| {
            RegistrarStoreError::Corrupt {
                table: "receipt",
                row: stored.coin.to_string(),
                problem: error.to_string(),
            }
            .into()
        })
    }

    /// A checkpoint of a wallet's log. Entries that are known already are compared: where they differ, and the TPM certified
    /// both, the wallet is a clone and is revoked.
    pub async fn checkpoint(&self, segment: &LogSegment, now: Timestamp) -> Result<SignedLogCheckpoint> {
        let wallet = segment.wallet;
        let count = segment.entries.len();
        if count == 0 || count > MAX_ENTRIES {
            return Err(RegistrarError::EntryCount {
                got: count,
                limit: MAX_ENTRIES,
            });
        }
        let registration = self.confirmed(wallet, now).await?;
        if registration.kind() != Kind::Log {
            return Err(RegistrarError::NoLog { wallet });
        }
        self.check_alive(wallet, registration.class).await?;
        let stored = self.store.log(wallet).await?;
        let known = self.store.log_entries(wallet).await?;
        let known_count = stored.as_ref().map_or(Sequence::ZERO, |record| record.sequence);
        let start = usize::try_from(segment.from.0).unwrap_or(usize::MAX);
        let Some(before) = known.get(..start) else {
            return Err(RegistrarError::EntriesMissing {
                got: segment.from,
                known: known_count,
            });
        };
        let origin = LogHead::registered(registration.origin(&self.domain));
        let head = origin.folded(before).folded(&segment.entries);
        self.check_certificate(&registration, segment, head)?;
        // The TPM's word for these entries is good. From here on a difference is a fork.
        self.check_fork(segment, &known, registration.class, now).await?;
        let new = segment.entries.get(known.len() - start..).unwrap_or_default();
        let (Some(_), Some(record)) = (new.is_empty().then_some(()), &stored) else {
            return self
                .sign_checkpoint(wallet, (known_count, &known), new, head, now)
                .await;
        };
        decode(self, record)
    }

    fn check_certificate(
        &self,
        registration: &SignedRegistration,
        segment: &LogSegment,
        head: LogHead,
    ) -> Result<()> {
        let wallet = segment.wallet;
        let attest = Attest::parse(&segment.attest)?;
        let index = registration.index.ok_or(RegistrarError::NoLog { wallet })?;
        let last = segment.entries.last().ok_or(RegistrarError::EntryCount {
            got: 0,
            limit: MAX_ENTRIES,
        })?;
        let certificate = attest.certificate(segment.signature);
        match certificate.verify(&registration.key, index, head, last.transfer) {
            true => Ok(()),
            false => Err(RegistrarError::NotCertified { head }),
        }
    }

    async fn check_fork(
        &self,
        segment: &LogSegment,
        known: &[LogEntry],
        class: ClassId,
        now: Timestamp,
    ) -> Result<()> {
        let start = usize::try_from(segment.from.0).unwrap_or(usize::MAX);
        let rest = known.get(start..).unwrap_or_default();
        let pairs = rest.iter().zip(&segment.entries);
        let Some((offset, (stored, got))) = pairs.enumerate().find(|(_, (stored, got))| stored != got) else {
            return Ok(());
        };
        let wallet = segment.wallet;
        let at = Sequence(segment.from.0 + 1 + u64::try_from(offset).unwrap_or_default());
        tracing::warn!(%wallet, %class, %at, "the wallet's log forks: revoked");
        self.revoke(wallet, now).await?;
        Err(RegistrarError::LogForks {
            wallet,
            at,
            got: keccak256(got.to_bytes()),
            stored: keccak256(stored.to_bytes()),
        })
    }

    async fn sign_checkpoint(
        &self,
        wallet: WalletId,
        (from, known): (Sequence, &[LogEntry]),
        new: &[LogEntry],
        head: LogHead,
        now: Timestamp,
    ) -> Result<SignedLogCheckpoint> {
        let mut spent: BTreeMap<Input, Sequence> = BTreeMap::new();
        for (entry, number) in known.iter().chain(new).zip(1..) {
            if let Some(first) = spent.insert(entry.input, Sequence(number)) {
                return Err(RegistrarError::InputSpentTwice {
                    input: entry.input,
                    first,
                    second: Sequence(number),
                });
            }
        }
        let settled = self.vault.wallet(wallet).await?;
        let settled = settled.map_or(LogHead(B256::ZERO), |wallet| wallet.head);
        if settled != head {
            return Err(RegistrarError::NotSettled { got: head, settled });
        }
        let sequence = Sequence(u64::try_from(spent.len()).unwrap_or(u64::MAX));
        let signed = LogCheckpoint {
            wallet,
            head,
            sequence,
            spent: SpentTree::new(spent.keys().copied()).root(),
            issued_at: now,
        }
        .sign(&self.domain, &self.keys.registrar);
        let record = LogRecord {
            wallet,
            head,
            sequence,
            signed: signed.encode(&self.domain),
        };
        self.store.save_log(from, new, &record).await?;
        Ok(signed)
    }
}

fn decode<S, V>(registrar: &Registrar<S, V>, record: &LogRecord) -> Result<SignedLogCheckpoint> {
    SignedLogCheckpoint::decode(&registrar.domain, &record.signed).map_err(|error| {
        RegistrarStoreError::Corrupt {
            table: "log",
            row: record.wallet.to_string(),
            problem: error.to_string(),
        }
        .into()
    })
}
