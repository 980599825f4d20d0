//! Between the component, which knows bytes, and the scheme, which knows what they mean. The only file that has both.

use alloy_primitives::B256;
use protocol::offline::{
    Attest, Chosen, Domain, IndexName, LogHead, Payer, Proof, Sequence, Step, TransferDigest, Wallet,
    WalletKey, WalletSignature,
};
use trusted::{
    Certified, Entry, Head, LogsTransfers, MessageDigest, PublicKey, Signature, SignsTransfers, Transfers,
    TrustedWallet,
};

use crate::{DeviceError, Result};

/// The component's key.
pub(crate) fn key(component: &impl TrustedWallet) -> Result<WalletKey> {
    let PublicKey(bytes) = component.public_key();
    let (x, y) = bytes.split_at(32);
    Ok(WalletKey::new(B256::from_slice(x), B256::from_slice(y))?)
}

/// The component's log, if its kind has one.
pub(crate) fn log(component: &mut impl TrustedWallet) -> Result<Option<IndexName>> {
    match component.transfers() {
        Transfers::Signature(_) => Ok(None),
        Transfers::Log(log) => Ok(Some(IndexName::from_bytes(&log.log_name().0)?)),
    }
}

/// Signs a message that is no transfer.
pub(crate) fn sign(component: &mut impl TrustedWallet, digest: B256) -> Result<WalletSignature> {
    signature(component.sign(MessageDigest(digest.0))?)
}

/// Whether the component stands where the books stand.
pub(crate) fn check_in_step(
    component: &mut impl TrustedWallet,
    domain: &Domain,
    wallet: &Wallet,
) -> Result<()> {
    match component.transfers() {
        Transfers::Signature(signer) => {
            let component = Sequence(signer.next_sequence());
            let books = wallet.sequence.plus(1).unwrap_or(wallet.sequence);
            if component != books {
                return Err(DeviceError::SequenceSetBack { component, books });
            }
        }
        Transfers::Log(log) => {
            let component = head(log)?;
            let books = wallet.head(domain).unwrap_or_default();
            if component != books {
                return Err(DeviceError::LogSetBack { component, books });
            }
        }
    }
    Ok(())
}

/// Has the component prove a transfer that was saved as chosen, from wherever it stands with it.
pub(crate) fn prove(
    component: &mut impl TrustedWallet,
    domain: &Domain,
    payer: &Payer<Chosen>,
) -> Result<Proof> {
    match component.transfers() {
        Transfers::Signature(signer) => by_signature(signer, domain, payer),
        Transfers::Log(log) => by_log(log, domain, payer),
    }
}

fn by_signature(signer: &mut dyn SignsTransfers, domain: &Domain, payer: &Payer<Chosen>) -> Result<Proof> {
    let sequence = payer.state().transfer.sequence;
    let next = Sequence(signer.next_sequence());
    // The next one, or the last one again.
    if next != sequence && Some(next) != sequence.plus(1) {
        return Err(DeviceError::SequenceSetBack {
            component: next,
            books: sequence,
        });
    }
    let digest = transfer(payer.digest(domain));
    let signed = signer.sign_transfer(sequence.0, digest)?;
    Ok(Proof::Signature(signature(signed)?))
}

fn by_log(log: &mut dyn LogsTransfers, domain: &Domain, payer: &Payer<Chosen>) -> Result<Proof> {
    let base = head(log)?;
    if let Step::Extend(entry) = payer.next_step(domain, Some(base))? {
        log.extend(Head(base.0.0), Entry(entry))?;
    }
    // The component's own word again: what was extended is what is certified.
    let at = head(log)?;
    match payer.next_step(domain, Some(at))? {
        Step::Certify(digest) => certificate(&log.certify(Head(at.0.0), transfer(digest))?),
        Step::Extend(_) | Step::Sign(_) => Err(DeviceError::LogSetBack {
            component: at,
            books: payer.wallet().head(domain).unwrap_or_default(),
        }),
    }
}

fn head(log: &mut dyn LogsTransfers) -> Result<LogHead> {
    let Head(bytes) = log.head()?;
    Ok(LogHead(B256::new(bytes)))
}

fn transfer(digest: TransferDigest) -> trusted::TransferDigest {
    trusted::TransferDigest(digest.0.0)
}

fn signature(Signature(bytes): Signature) -> Result<WalletSignature> {
    Ok(WalletSignature::normalised(&bytes)?)
}

fn certificate(certified: &Certified) -> Result<Proof> {
    let attest = Attest::parse(&certified.attest)?;
    Ok(Proof::Certificate(
        attest.certificate(signature(certified.signature)?),
    ))
}
