//! Registration: a registrar puts a wallet into a class (secp256k1, strict). Any address may be a registrar; who it was is
//! recovered from the signature, and whether it counts is the payee's policy.
//!
//! It signs twice. First it *vouches*, and the owner takes that to the contract. A payee cannot see whether it did, or
//! registered the wallet with somebody else, where its payments are worth nothing. So the registrar signs again when the
//! contract has the registration for good, and only that signature counts offline.

use alloy_primitives::Address;

use super::{
    ClassId, Domain, IndexName, Key, Kind, NameHash, RegistrationDigest, Signature, SignatureError,
    Timestamp, WalletId, WalletKey, recover,
};

/// What registrar and wallet sign, and the contract keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Registration {
    /// The wallet.
    pub wallet: WalletId,
    /// Who gets the credit when its fragments are redeemed.
    pub owner: Address,
    /// Its class, one of the registrar's.
    pub class: ClassId,
    /// Its payment log; [`NameHash::NONE`] in a SIGNATURE class.
    pub log: NameHash,
    /// Transfers that say a later time do not count.
    pub valid_until: Timestamp,
}

/// What a registrar vouches for: the contract takes it, and no payee does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VouchedRegistration {
    /// The wallet's key.
    pub key: WalletKey,
    /// What is signed.
    pub registration: Registration,
    /// The registrar's.
    pub signature: Signature,
}

/// A wallet as a payee has to know it: its key, and that its registration is on the chain for good. What follows from the
/// rest is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedRegistration {
    /// The wallet's key.
    pub key: WalletKey,
    /// Who gets the credit.
    pub owner: Address,
    /// Its class.
    pub class: ClassId,
    /// The TPM Name of its payment log; `None` in a SIGNATURE class.
    pub index: Option<IndexName>,
    /// Until when it may transfer.
    pub valid_until: Timestamp,
    /// The registrar's, on [`Domain::registered_digest`].
    pub signature: Signature,
    /// The wallet's first registration, if this is a renewal: its transfers and its log start there (D4).
    pub first: Option<RegistrationDigest>,
}

impl Registration {
    /// As the contract takes it.
    pub fn to_sol(&self) -> bindings::offline::Registration {
        bindings::offline::Registration {
            wallet: self.wallet.0,
            owner: self.owner,
            class: self.class.0,
            log: self.log.0,
            validUntil: self.valid_until.0,
        }
    }

    /// The registrar's signature for the contract.
    pub fn vouch(&self, domain: &Domain, registrar: &Key) -> Signature {
        registrar.sign(domain.registration_digest(self).0)
    }

    /// The registrar's signature for payees, when the contract has this for good.
    pub fn confirm(&self, domain: &Domain, registrar: &Key) -> Signature {
        registrar.sign(domain.registered_digest(domain.registration_digest(self)))
    }
}

impl VouchedRegistration {
    /// Who signed.
    pub fn registrar(&self, domain: &Domain) -> Result<Address, SignatureError> {
        recover(domain.registration_digest(&self.registration).0, &self.signature).map(|key| key.address())
    }
}

impl SignedRegistration {
    /// The wallet.
    pub fn wallet(&self) -> WalletId {
        self.key.wallet()
    }

    /// What the contract has.
    pub fn registration(&self) -> Registration {
        Registration {
            wallet: self.wallet(),
            owner: self.owner,
            class: self.class,
            log: self.index.map_or(NameHash::NONE, |name| name.hash()),
            valid_until: self.valid_until,
        }
    }

    /// What proves a transfer of this wallet.
    pub fn kind(&self) -> Kind {
        match self.index {
            None => Kind::Signature,
            Some(_) => Kind::Log,
        }
    }

    /// Where the wallet's transfers and its log start.
    pub fn origin(&self, domain: &Domain) -> RegistrationDigest {
        self.first
            .unwrap_or_else(|| domain.registration_digest(&self.registration()))
    }

    /// Who signed.
    pub fn registrar(&self, domain: &Domain) -> Result<Address, SignatureError> {
        let digest = domain.registered_digest(domain.registration_digest(&self.registration()));
        recover(digest, &self.signature).map(|key| key.address())
    }
}
