//! Revocation lists, for payees without a network: which wallets and classes a registrar has withdrawn, and when. Signed,
//! and as old as they say.
//!
//! A wallet is nine bytes: six of `keccak256(salt ‖ wallet)`, and three for the minutes between its revocation and the
//! list. 1,000 wallets are 9 kB. Six bytes of the id itself could be ground: who makes keys until one collides with a
//! shop's wallet, and has that one revoked, shuts the shop. The salt is drawn for each list, after all its wallets were
//! registered, so that there is nothing to grind against; an accident (one in 2.8 × 10^11 for a wallet and a list of 1,000)
//! is over with the next list. A revoked wallet is always found. Rounding is towards the earlier time: stricter.

use alloy_primitives::{Address, B256, keccak256};

use super::{
    ClassId, Domain, Key, ListError, Seconds, Signature, SignatureError, Timestamp, WalletId, recover,
};

/// Most bytes of the entries of a list: what a payee is ready to store of one registrar.
pub const MAX_LIST_BYTES: usize = 1 << 20;

const PREFIX: usize = 6;
const WALLET_ENTRY: usize = PREFIX + 3;
const CLASS_ENTRY: usize = 4 + 3;
const MAX_MINUTES: u64 = (1 << 24) - 1;

/// What of a list is signed: time, salt, and the hashes of both parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RevocationHeader {
    /// By the registrar's clock.
    pub issued_at: Timestamp,
    /// Random, for this list alone.
    pub salt: B256,
    /// `keccak256` of the wallets' entries.
    pub wallets: B256,
    /// `keccak256` of the classes' entries.
    pub classes: B256,
}

/// A list as it travels. Entries are in order, nine bytes a wallet and seven a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRevocationList {
    /// By the registrar's clock.
    pub issued_at: Timestamp,
    /// Random, for this list alone.
    pub salt: B256,
    /// The wallets' entries.
    pub wallets: Vec<u8>,
    /// The classes' entries.
    pub classes: Vec<u8>,
    /// The registrar's.
    pub signature: Signature,
}

/// A list whose form is right and whose signer is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    signed: SignedRevocationList,
    registrar: Address,
}

impl SignedRevocationList {
    /// Makes and signs a list. The salt must be random, and drawn now.
    pub fn sign(
        domain: &Domain,
        registrar: &Key,
        issued_at: Timestamp,
        salt: B256,
        wallets: &[(WalletId, Timestamp)],
        classes: &[(ClassId, Timestamp)],
    ) -> Self {
        let mut entries: Vec<[u8; WALLET_ENTRY]> = wallets
            .iter()
            .map(|(wallet, at)| entry(&prefix(salt, *wallet), minutes(issued_at, *at)))
            .collect();
        entries.sort_unstable();
        // The same wallet twice, or an accident: the earlier time has more minutes, and counts.
        entries.reverse();
        entries.dedup_by(|one, other| one[..PREFIX] == other[..PREFIX]);
        entries.reverse();
        let mut killed: Vec<[u8; CLASS_ENTRY]> = classes
            .iter()
            .map(|(class, at)| entry(&class.0.to_be_bytes(), minutes(issued_at, *at)))
            .collect();
        killed.sort_unstable();
        killed.reverse();
        killed.dedup_by(|one, other| one[..4] == other[..4]);
        killed.reverse();
        let (wallets, classes) = (entries.concat(), killed.concat());
        let header = RevocationHeader {
            issued_at,
            salt,
            wallets: keccak256(&wallets),
            classes: keccak256(&classes),
        };
        Self {
            issued_at,
            salt,
            wallets,
            classes,
            signature: registrar.sign(domain.revocation_list_digest(&header)),
        }
    }

    /// What the registrar signed.
    pub fn header(&self) -> RevocationHeader {
        RevocationHeader {
            issued_at: self.issued_at,
            salt: self.salt,
            wallets: keccak256(&self.wallets),
            classes: keccak256(&self.classes),
        }
    }

    /// Checks the form, and recovers who signed.
    pub fn verify(self, domain: &Domain) -> Result<RevocationList, ListError> {
        check_entries(&self.wallets, WALLET_ENTRY, PREFIX)?;
        check_entries(&self.classes, CLASS_ENTRY, 4)?;
        let registrar = self.registrar(domain).map_err(ListError::Signature)?;
        Ok(RevocationList {
            signed: self,
            registrar,
        })
    }

    fn registrar(&self, domain: &Domain) -> Result<Address, SignatureError> {
        recover(domain.revocation_list_digest(&self.header()), &self.signature).map(|key| key.address())
    }
}

impl RevocationList {
    /// Who signed it.
    pub fn registrar(&self) -> Address {
        self.registrar
    }

    /// When.
    pub fn issued_at(&self) -> Timestamp {
        self.signed.issued_at
    }

    /// How old it is.
    pub fn age(&self, now: Timestamp) -> Seconds {
        now.since(self.signed.issued_at)
    }

    /// The list as it travels.
    pub fn signed(&self) -> &SignedRevocationList {
        &self.signed
    }

    /// Since when the wallet, or its class, is withdrawn; the earlier of both.
    pub fn revoked_at(&self, wallet: WalletId, class: ClassId) -> Option<Timestamp> {
        let SignedRevocationList {
            wallets,
            classes,
            salt,
            ..
        } = &self.signed;
        let of_wallet = find::<WALLET_ENTRY>(wallets, &prefix(*salt, wallet));
        let of_class = find::<CLASS_ENTRY>(classes, &class.0.to_be_bytes());
        // More minutes ago is earlier.
        let minutes = of_wallet.max(of_class)?;
        if minutes == MAX_MINUTES {
            return Some(Timestamp(0));
        }
        Some(Timestamp(
            self.signed
                .issued_at
                .0
                .saturating_sub(minutes * Seconds::MINUTE.0),
        ))
    }
}

/// In order, and none twice: one list has one form.
fn check_entries(entries: &[u8], length: usize, key: usize) -> Result<(), ListError> {
    if entries.len() > MAX_LIST_BYTES {
        return Err(ListError::TooLong {
            got: entries.len(),
            limit: MAX_LIST_BYTES,
        });
    }
    if !entries.len().is_multiple_of(length) {
        return Err(ListError::PartialEntry {
            got: entries.len(),
            entry: length,
        });
    }
    let mut pairs = entries.chunks(length).zip(entries.chunks(length).skip(1));
    match pairs.position(|(one, next)| one[..key] >= next[..key]) {
        None => Ok(()),
        Some(at) => Err(ListError::NotInOrder { at, next: at + 1 }),
    }
}

fn prefix(salt: B256, wallet: WalletId) -> [u8; PREFIX] {
    let hash = keccak256([salt.0, wallet.0.0].concat());
    let mut prefix = [0; PREFIX];
    prefix.copy_from_slice(&hash[..PREFIX]);
    prefix
}

/// Minutes from `at` to the list, rounded up.
fn minutes(issued_at: Timestamp, at: Timestamp) -> u64 {
    issued_at.since(at).0.div_ceil(Seconds::MINUTE.0).min(MAX_MINUTES)
}

fn entry<const N: usize>(key: &[u8], minutes: u64) -> [u8; N] {
    let mut entry = [0; N];
    entry[..key.len()].copy_from_slice(key);
    entry[key.len()..].copy_from_slice(&minutes.to_be_bytes()[5..]);
    entry
}

fn find<const N: usize>(entries: &[u8], key: &[u8]) -> Option<u64> {
    let (entries, _) = entries.as_chunks::<N>();
    let at = entries
        .binary_search_by(|entry| entry[..key.len()].cmp(key))
        .ok()?;
    let mut minutes = [0; 8];
    minutes[5..].copy_from_slice(&entries[at][key.len()..]);
    Some(u64::from_be_bytes(minutes))
}
