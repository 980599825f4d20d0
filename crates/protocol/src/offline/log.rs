//! The payment log of a LOG wallet: `head' = SHA-256(head ‖ SHA-256(entry))` from 32 zero bytes, as a TPM's extend index
//! computes it. Entry 0 is the 32 bytes of the first registration's digest, every other `input ‖ transferDigest`.
//!
//! A payee folds the entries since the registration, or since a checkpoint that the registrar signed, and refuses a
//! transfer that is not the last, or whose input an earlier entry spends. What is before a checkpoint it does not see: the
//! checkpoint carries the root of everything that was spent there, and the payer shows that the input is not in it.

use alloy_primitives::{Address, B256};
use sha2::{Digest, Sha256};

use super::{
    Certificate, Domain, Gap, Input, Key, LogError, LogHead, Previous, RegistrationDigest, Sequence,
    Signature, SignedRegistration, SpentRoot, Timestamp, Transfer, TransferDigest, WalletId, recover,
};

/// One transfer in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogEntry {
    /// What it spends.
    pub input: Input,
    /// Which transfer.
    pub transfer: TransferDigest,
}

/// What a registrar signs of a wallet's log. Only for a head that `settleLog` has stored for good: the contract folds from
/// there, and what it has not seen cannot be redeemed over a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogCheckpoint {
    /// The wallet.
    pub wallet: WalletId,
    /// What its log was folded to.
    pub head: LogHead,
    /// Number of transfers in it.
    pub sequence: Sequence,
    /// Everything that they spend.
    pub spent: SpentRoot,
    /// By the registrar's clock.
    pub issued_at: Timestamp,
}

/// A checkpoint with its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedLogCheckpoint {
    /// What is signed.
    pub checkpoint: LogCheckpoint,
    /// The registrar's.
    pub signature: Signature,
}

/// Where the entries start that a payee gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// At the wallet's first registration.
    Registration,
    /// At a checkpoint, before which the input was not spent.
    Checkpoint(Box<SignedLogCheckpoint>, Gap),
}

/// That a LOG wallet's transfer is the last entry of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogProof {
    /// Where the entries start.
    pub base: Base,
    /// Those before the transfer's own.
    pub history: Vec<LogEntry>,
    /// The TPM's, over the head with the transfer's entry.
    pub certificate: Certificate,
}

impl LogHead {
    /// An index before its first extend.
    pub const EMPTY: Self = Self(B256::ZERO);

    /// The head after one more entry, whatever it is.
    pub fn extended(self, entry: &[u8]) -> Self {
        let hash = Sha256::digest(entry);
        Self(B256::new(
            Sha256::new()
                .chain_update(self.0)
                .chain_update(hash)
                .finalize()
                .into(),
        ))
    }

    /// The head of a log that holds nothing but its registration.
    pub fn registered(first: RegistrationDigest) -> Self {
        Self::EMPTY.extended(first.0.as_slice())
    }

    /// The head after these transfers.
    pub fn folded(self, entries: &[LogEntry]) -> Self {
        entries
            .iter()
            .fold(self, |head, entry| head.extended(&entry.to_bytes()))
    }
}

impl LogEntry {
    /// Length in bytes.
    pub const LENGTH: usize = 64;

    /// `input ‖ transferDigest`.
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..32].copy_from_slice(self.input.0.as_slice());
        bytes[32..].copy_from_slice(self.transfer.0.as_slice());
        bytes
    }

    /// From `input ‖ transferDigest`.
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        let (input, transfer) = bytes.split_at(32);
        Self {
            input: Input(B256::from_slice(input)),
            transfer: TransferDigest(B256::from_slice(transfer)),
        }
    }
}

impl LogCheckpoint {
    /// Signed by the registrar.
    pub fn sign(&self, domain: &Domain, registrar: &Key) -> SignedLogCheckpoint {
        SignedLogCheckpoint {
            checkpoint: *self,
            signature: registrar.sign(domain.log_checkpoint_digest(self)),
        }
    }
}

/// Where a segment starts: head, number of transfers, and the last of them where it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    head: LogHead,
    sequence: Sequence,
    previous: Option<Previous>,
}

impl LogProof {
    /// Whether the transfer is the last entry of the wallet's log, and the first that spends its input. `registrar` is who
    /// signed the wallet's registration.
    pub fn check(
        &self,
        domain: &Domain,
        wallet: &SignedRegistration,
        registrar: Address,
        transfer: &Transfer,
        digest: TransferDigest,
    ) -> Result<(), LogError> {
        let index = wallet.index.ok_or(LogError::NoLog {
            wallet: wallet.wallet(),
        })?;
        let start = self.start(domain, wallet, registrar, transfer.input)?;
        for entry in &self.history {
            if entry.transfer == digest {
                return Err(LogError::NotLastEntry { transfer: digest });
            }
            if entry.input == transfer.input {
                return Err(LogError::InputSpentEarlier {
                    input: transfer.input,
                    by: entry.transfer,
                });
            }
        }
        let needed = start.sequence.plus(self.history.len() + 1);
        if needed != Some(transfer.sequence) {
            return Err(LogError::WrongSequence {
                got: transfer.sequence,
                needed: needed.unwrap_or(Sequence(u64::MAX)),
            });
        }
        let needed = self.previous(&start);
        if let Some(needed) = needed
            && needed != transfer.previous
        {
            return Err(LogError::WrongPrevious {
                got: transfer.previous,
                needed,
            });
        }
        let head = start.head.folded(&self.history).folded(&[transfer.entry(digest)]);
        if !self.certificate.verify(&wallet.key, index, head, digest) {
            return Err(LogError::NotCertified {
                head,
                transfer: digest,
            });
        }
        Ok(())
    }

    /// The head that the entries start from. Proves nothing.
    pub(super) fn start_head(&self, domain: &Domain, wallet: &SignedRegistration) -> LogHead {
        match &self.base {
            Base::Registration => LogHead::registered(wallet.origin(domain)),
            Base::Checkpoint(signed, _) => signed.checkpoint.head,
        }
    }

    fn previous(&self, start: &Start) -> Option<Previous> {
        match self.history.last() {
            Some(entry) => Some(entry.transfer.into()),
            None => start.previous,
        }
    }

    fn start(
        &self,
        domain: &Domain,
        wallet: &SignedRegistration,
        registrar: Address,
        input: Input,
    ) -> Result<Start, LogError> {
        match &self.base {
            Base::Registration => {
                let first = wallet.origin(domain);
                Ok(Start {
                    head: LogHead::registered(first),
                    sequence: Sequence::ZERO,
                    previous: Some(first.into()),
                })
            }
            Base::Checkpoint(signed, gap) => {
                let checkpoint = &signed.checkpoint;
                signed.check(domain, wallet.wallet(), registrar)?;
                gap.check(input, checkpoint.spent)?;
                Ok(Start {
                    head: checkpoint.head,
                    sequence: checkpoint.sequence,
                    previous: None,
                })
            }
        }
    }
}

impl SignedLogCheckpoint {
    /// Whether it is `wallet`'s, and by the registrar who registered it.
    pub fn check(&self, domain: &Domain, wallet: WalletId, registrar: Address) -> Result<(), LogError> {
        if self.checkpoint.wallet != wallet {
            return Err(LogError::ForeignCheckpoint {
                got: self.checkpoint.wallet,
                needed: wallet,
            });
        }
        let signer = recover(domain.log_checkpoint_digest(&self.checkpoint), &self.signature)?.address();
        if signer != registrar {
            return Err(LogError::CheckpointSigner {
                got: signer,
                needed: registrar,
            });
        }
        Ok(())
    }
}
