//! Path: how a coin came to be this fragment. The deposit with its receipt, the wallets that spent with their
//! registrations, and the hops: a transfer each, with its evidence. [`Path::prove`] says that no component, no registrar
//! and no sum in it is wrong; whether that is good enough is the payee's policy (`policy.rs`).

use alloy_primitives::Address;

use super::{
    Amount, CoinId, Depth, Domain, Input, Kind, LogProof, MAX_HOPS, Output, PathError, Sequence,
    SignedDeposit, SignedRegistration, Timestamp, Transfer, TransferDigest, WalletId, WalletSignature,
};

/// What proves a transfer (§0.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Of a SIGNATURE wallet: by its key, on the digest.
    Signature(WalletSignature),
    /// Of a LOG wallet.
    Log(Box<LogProof>),
}

/// One transfer of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Who spends: a position in [`Path::wallets`].
    pub payer: usize,
    /// What is said.
    pub transfer: Transfer,
    /// What proves it.
    pub evidence: Evidence,
}

/// From a coin to a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The coin, and that its deposit is final.
    pub deposit: SignedDeposit,
    /// The coin's wallet, then every other that spends, in the order in which they do.
    pub wallets: Vec<SignedRegistration>,
    /// The transfers, none for the coin itself.
    pub hops: Vec<Hop>,
}

/// A coin or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Its name.
    pub id: Input,
    /// What it is a part of.
    pub coin: CoinId,
    /// The wallet that may spend it.
    pub wallet: WalletId,
    /// Token, or the zero address.
    pub asset: Address,
    /// What it is worth, atomic units.
    pub value: Amount,
    /// Until when it is redeemed for certain.
    pub settle_by: Timestamp,
    /// Number of transfers from the coin.
    pub depth: Depth,
    /// An exit left it: it can be redeemed, and nothing else.
    pub exited: bool,
}

/// A path in which everything is right. Made by [`Path::prove`] alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenPath<'a> {
    path: &'a Path,
    registrars: Vec<Address>,
    digests: Vec<TransferDigest>,
}

impl Path {
    /// A coin that nobody has spent.
    pub fn of_coin(deposit: SignedDeposit, wallet: SignedRegistration) -> Self {
        Self {
            deposit,
            wallets: vec![wallet],
            hops: Vec::new(),
        }
    }

    /// What the path leads to: the last transfer's part for the payee, or for the payer. Of a coin both are the coin.
    /// Proves nothing.
    pub fn fragment(&self, domain: &Domain, output: Output) -> Fragment {
        let last = self.hops.last().map(|hop| domain.transfer_digest(&hop.transfer));
        self.fragment_of(domain, last, output)
    }

    /// Whether everything in the path is right: names, owners, sums, signatures, logs.
    pub fn prove(&self, domain: &Domain) -> Result<ProvenPath<'_>, PathError> {
        self.check_length()?;
        let registrars = self.check_registrations(domain)?;
        self.check_deposit(domain, &registrars)?;
        let mut digests: Vec<TransferDigest> = Vec::with_capacity(self.hops.len());
        let coin = self.deposit.coin;
        let mut held = (
            Held::Coin(domain.coin_id(&coin)),
            [(coin.wallet, coin.amount), (coin.wallet, coin.amount)],
        );
        for (at, hop) in self.hops.iter().enumerate() {
            let wallet = self.wallets.get(hop.payer).ok_or(PathError::NoSuchWallet {
                hop: at,
                got: hop.payer,
                wallets: self.wallets.len(),
            })?;
            let payer = wallet.wallet();
            let (names, owners) = &held;
            let output = names.output_of(hop.transfer.input).ok_or(PathError::WrongInput {
                hop: at,
                got: hop.transfer.input,
                needed: names.payee_part(),
            })?;
            check_split(
                at,
                payer,
                &hop.transfer,
                owners[usize::from(output == Output::Change)],
            )?;
            if at > 0 && self.is_exit(at - 1) {
                return Err(PathError::AfterExit {
                    hop: at,
                    exit: digests[at - 1],
                });
            }
            self.check_order(domain, at, wallet)?;
            let digest = domain.transfer_digest(&hop.transfer);
            check_evidence(domain, at, wallet, registrars[hop.payer], hop, digest)?;
            digests.push(digest);
            held = (
                Held::Parts(digest),
                [
                    (hop.transfer.payee, hop.transfer.amount),
                    (payer, hop.transfer.change),
                ],
            );
        }
        Ok(ProvenPath {
            path: self,
            registrars,
            digests,
        })
    }

    /// Number of transfers that count against the limits: an exit at the end does not (D9).
    pub fn length(&self) -> usize {
        let exits = self
            .hops
            .len()
            .checked_sub(1)
            .is_some_and(|last| self.is_exit(last));
        self.hops.len() - usize::from(exits)
    }

    fn is_exit(&self, at: usize) -> bool {
        let hop = &self.hops[at];
        self.wallets
            .get(hop.payer)
            .is_some_and(|wallet| hop.transfer.is_exit(wallet.wallet()))
    }

    fn fragment_of(&self, domain: &Domain, last: Option<TransferDigest>, output: Output) -> Fragment {
        let coin = self.deposit.coin;
        let id = domain.coin_id(&coin);
        let of_coin = Fragment {
            id: id.into(),
            coin: id,
            wallet: coin.wallet,
            asset: coin.asset,
            value: coin.amount,
            settle_by: self.deposit.settle_by,
            depth: Depth(self.hops.len()),
            exited: false,
        };
        let (Some(hop), Some(digest)) = (self.hops.last(), last) else {
            return of_coin;
        };
        let payer = self
            .wallets
            .get(hop.payer)
            .map_or(WalletId::default(), SignedRegistration::wallet);
        let (wallet, value) = match output {
            Output::Payee => (hop.transfer.payee, hop.transfer.amount),
            Output::Change => (payer, hop.transfer.change),
        };
        Fragment {
            id: digest.fragment(output).into(),
            wallet,
            value,
            exited: hop.transfer.is_exit(payer),
            ..of_coin
        }
    }

    fn check_length(&self) -> Result<(), PathError> {
        let got = self.length();
        if got > MAX_HOPS {
            return Err(PathError::TooLong { got, limit: MAX_HOPS });
        }
        // One wallet for each hop that counts, and the coin's own.
        let limit = MAX_HOPS + 1;
        if self.wallets.len() > limit {
            return Err(PathError::TooManyWallets {
                got: self.wallets.len(),
                limit,
            });
        }
        Ok(())
    }

    fn check_registrations(&self, domain: &Domain) -> Result<Vec<Address>, PathError> {
        let mut registrars = Vec::with_capacity(self.wallets.len());
        for (at, wallet) in self.wallets.iter().enumerate() {
            let registrar = wallet
                .registrar(domain)
                .map_err(|error| PathError::Registration { wallet: at, error })?;
            registrars.push(registrar);
        }
        Ok(registrars)
    }

    fn check_deposit(&self, domain: &Domain, registrars: &[Address]) -> Result<(), PathError> {
        let (Some(first), Some(needed)) = (self.wallets.first(), registrars.first()) else {
            return Err(PathError::NoSuchWallet {
                hop: 0,
                got: 0,
                wallets: 0,
            });
        };
        if first.wallet() != self.deposit.coin.wallet {
            return Err(PathError::WrongCoinWallet {
                got: first.wallet(),
                needed: self.deposit.coin.wallet,
            });
        }
        let got = self.deposit.registrar(domain).map_err(PathError::Receipt)?;
        if got != *needed {
            return Err(PathError::ReceiptSigner { got, needed: *needed });
        }
        Ok(())
    }

    /// Sequence, predecessor and time of one transfer.
    fn check_order(&self, domain: &Domain, at: usize, wallet: &SignedRegistration) -> Result<(), PathError> {
        let Hop { payer, transfer, .. } = &self.hops[at];
        let earlier = self.hops[..at].iter().rev().find(|hop| hop.payer == *payer);
        let last = earlier.map_or(Sequence::ZERO, |hop| hop.transfer.sequence);
        if transfer.sequence <= last {
            return Err(PathError::SequenceNotAbove {
                hop: at,
                got: transfer.sequence,
                last,
            });
        }
        let origin = wallet.origin(domain).into();
        if transfer.sequence == Sequence::FIRST && transfer.previous != origin {
            return Err(PathError::WrongPrevious {
                hop: at,
                got: transfer.previous,
                needed: origin,
            });
        }
        // An exit pays nobody but the wallet's own owner.
        if transfer.issued_at > wallet.valid_until && !transfer.is_exit(wallet.wallet()) {
            return Err(PathError::RegistrationExpired {
                hop: at,
                issued_at: transfer.issued_at,
                valid_until: wallet.valid_until,
            });
        }
        Ok(())
    }
}

impl<'a> ProvenPath<'a> {
    /// The path.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// Who registered the wallets, in their order.
    pub fn registrars(&self) -> &[Address] {
        &self.registrars
    }

    /// The transfers' digests, in their order.
    pub fn digests(&self) -> &[TransferDigest] {
        &self.digests
    }

    /// What the path leads to.
    pub fn fragment(&self, domain: &Domain, output: Output) -> Fragment {
        self.path
            .fragment_of(domain, self.digests.last().copied(), output)
    }
}

/// What the next transfer may spend.
enum Held {
    Coin(CoinId),
    Parts(TransferDigest),
}

impl Held {
    fn output_of(&self, input: Input) -> Option<Output> {
        match self {
            Self::Coin(coin) => (Input::from(*coin) == input).then_some(Output::Payee),
            Self::Parts(digest) => [Output::Payee, Output::Change]
                .into_iter()
                .find(|output| Input::from(digest.fragment(*output)) == input),
        }
    }

    fn payee_part(&self) -> Input {
        match self {
            Self::Coin(coin) => (*coin).into(),
            Self::Parts(digest) => digest.fragment(Output::Payee).into(),
        }
    }
}

/// Only the owner spends, and it spends all of it.
fn check_split(
    hop: usize,
    payer: WalletId,
    transfer: &Transfer,
    (owner, value): (WalletId, Amount),
) -> Result<(), PathError> {
    if payer != owner {
        return Err(PathError::NotOwner {
            hop,
            got: payer,
            owner,
        });
    }
    if transfer.amount == Amount::ZERO {
        return Err(PathError::NothingPaid {
            hop,
            amount: transfer.amount,
            change: transfer.change,
        });
    }
    let sum = transfer.amount.checked_add(transfer.change);
    if sum != Some(value) {
        return Err(PathError::WrongSum {
            hop,
            got: sum.unwrap_or(Amount::MAX),
            value,
        });
    }
    Ok(())
}

fn check_evidence(
    domain: &Domain,
    at: usize,
    wallet: &SignedRegistration,
    registrar: Address,
    hop: &Hop,
    digest: TransferDigest,
) -> Result<(), PathError> {
    match (&hop.evidence, wallet.index) {
        (Evidence::Signature(signature), None) => {
            if wallet.key.verify(digest.0.as_slice(), signature) {
                Ok(())
            } else {
                Err(PathError::BadSignature {
                    hop: at,
                    transfer: digest,
                    wallet: wallet.wallet(),
                })
            }
        }
        (Evidence::Log(proof), Some(_)) => proof
            .check(domain, wallet, registrar, &hop.transfer, digest)
            .map_err(|error| PathError::Log { hop: at, error }),
        (evidence, _) => Err(PathError::WrongEvidence {
            hop: at,
            got: evidence.kind(),
            needed: wallet.kind(),
        }),
    }
}

impl Evidence {
    /// Which kind of wallet it is evidence for.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Signature(_) => Kind::Signature,
            Self::Log(_) => Kind::Log,
        }
    }
}
