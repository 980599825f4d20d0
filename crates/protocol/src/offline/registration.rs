//! Registration: a registrar puts a wallet into a class (secp256k1, strict). Any address may be a registrar; who it was is
//! recovered from the signature, and whether it counts is the payee's policy.

use alloy_primitives::{Address, B256};

use super::{
    ClassId, Domain, IndexName, Key, Kind, NameHash, RegistrationDigest, Signature, SignatureError,
    Timestamp, WalletId, WalletKey, recover,
};

/// What the registrar signs.
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

/// A wallet as a payee has to know it: key and signed registration. What follows from the rest is left out.
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
    /// The registrar's.
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

    /// Signed by the registrar.
    pub fn sign(&self, domain: &Domain, registrar: &Key) -> Signature {
        registrar.sign(domain.registration_digest(self).0)
    }
}

impl SignedRegistration {
    /// The wallet.
    pub fn wallet(&self) -> WalletId {
        self.key.wallet()
    }

    /// What the registrar signed.
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
        let digest: B256 = domain.registration_digest(&self.registration()).0;
        recover(digest, &self.signature).map(|key| key.address())
    }
}
