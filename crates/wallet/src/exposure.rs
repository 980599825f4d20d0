//! What a wallet holds of other people's honesty: every holding, and every exit that is not settled, counts for each class
//! whose wallets spent on the way to it. The wallet's own transfers are not counted: it trusts itself.

use std::collections::{HashMap, hash_map::Entry};

use alloy_primitives::Address;
use protocol::offline::{
    ClassId, Domain, Exposure, Judged, Output, Path, SignatureError, SignedRegistration, TransferDigest,
    Wallet, WalletId,
};

/// Who signed which registration; recovered once.
pub(crate) type Registrars = HashMap<(WalletId, ClassId, [u8; 65]), Address>;

/// The exposure of these books, and of these exits.
pub(crate) fn exposure(
    domain: &Domain,
    wallet: &Wallet,
    exits: &[&Path],
    registrars: &mut Registrars,
) -> Result<Exposure, SignatureError> {
    let mut exposure = Exposure::default();
    let held = wallet
        .holdings
        .iter()
        .map(|holding| (&holding.path, holding.output));
    let left = exits.iter().map(|path| (*path, Output::Payee));
    for (path, output) in held.chain(left) {
        let fragment = path.fragment(domain, output);
        exposure.add(&Judged {
            fragment,
            transfer: TransferDigest::default(),
            depends_on: depends(domain, wallet.id(), path, registrars)?,
        });
    }
    Ok(exposure)
}

/// The classes of the others whose wallets spent on a path.
pub(crate) fn depends(
    domain: &Domain,
    me: WalletId,
    path: &Path,
    registrars: &mut Registrars,
) -> Result<Vec<(Address, ClassId)>, SignatureError> {
    let mut depends_on = Vec::new();
    for hop in &path.hops {
        let Some(wallet) = path.wallets.get(hop.payer) else {
            continue;
        };
        let id = wallet.wallet();
        if id == me {
            continue;
        }
        let class = (registrar(domain, id, wallet, registrars)?, wallet.class);
        if !depends_on.contains(&class) {
            depends_on.push(class);
        }
    }
    Ok(depends_on)
}

pub(crate) fn registrar(
    domain: &Domain,
    id: WalletId,
    wallet: &SignedRegistration,
    registrars: &mut Registrars,
) -> Result<Address, SignatureError> {
    match registrars.entry((id, wallet.class, wallet.signature.to_bytes())) {
        Entry::Occupied(known) => Ok(*known.get()),
        Entry::Vacant(new) => Ok(*new.insert(wallet.registrar(domain)?)),
    }
}
