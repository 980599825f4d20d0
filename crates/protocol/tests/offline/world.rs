//! A small world: one registrar, wallets of both kinds, an honest component for each, and a payee that takes what they pay.
//! The component of a LOG wallet is a TPM as far as the scheme sees it: an index that can only be extended, and a key that
//! certifies it.

use alloy_primitives::{Address, B256, keccak256};
use micropay_protocol::offline::{
    AcceptedClass, Amount, Attest, Certificate, ClassId, Coin, Credited, DepositNonce, DepositReceipt,
    Domain, Exposure, IndexName, Invoice, InvoiceTerms, Judged, Key, LogCheckpoint, LogHead, NameHash, Path,
    Payee, PayeePolicy, Payer, PayerPolicy, Proof, Refusal, Registration, RevocationList, Seconds,
    SignedAcceptance, SignedDeposit, SignedInvoice, SignedLogCheckpoint, SignedRegistration,
    SignedRevocationList, SoftwareKey, SpentTree, Step, Timestamp, TransferDigest, View, Waiting, Wallet,
    WalletId, judge, qualifying_data,
};

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);
pub(crate) const SIGNATURE_CLASS: ClassId = ClassId(7);
pub(crate) const LOG_CLASS: ClassId = ClassId(9);

/// 32 bytes that look random, the same in each run.
pub(crate) fn bytes32(name: &str, number: u64) -> B256 {
    keccak256([name.as_bytes(), &number.to_be_bytes()].concat())
}

pub(crate) fn domain() -> Domain {
    Domain::new(31337, Address::repeat_byte(0xcc))
}

pub(crate) fn registrar() -> Key {
    Key::from_bytes(&bytes32("registrar", 0).0).unwrap()
}

/// A device: its component, and its books.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) key: SoftwareKey,
    pub(crate) index: Option<IndexName>,
    /// What the index holds.
    pub(crate) head: LogHead,
    pub(crate) wallet: Wallet,
    pub(crate) nonces: u64,
}

impl Device {
    pub(crate) fn signature(name: &str) -> Self {
        Self::new(name, SIGNATURE_CLASS, None)
    }

    pub(crate) fn log(name: &str) -> Self {
        Self::new(
            name,
            LOG_CLASS,
            Some(IndexName(bytes32("index", name.len() as u64))),
        )
    }

    pub(crate) fn new(name: &str, class: ClassId, index: Option<IndexName>) -> Self {
        let key = SoftwareKey::from_bytes(&bytes32(name, 1).0).unwrap();
        let registration = register(&key, class, index, Timestamp(NOW.0 + 30 * 86_400));
        let origin = registration.origin(&domain());
        Self {
            index,
            head: LogHead::registered(origin),
            wallet: Wallet::new(&domain(), registration),
            nonces: 0,
            key,
        }
    }

    pub(crate) fn id(&self) -> WalletId {
        self.wallet.id()
    }

    pub(crate) fn invoice(&mut self, amount: u128, issued_at: Timestamp) -> SignedInvoice {
        self.nonces += 1;
        let terms = InvoiceTerms {
            salt: bytes32("salt", self.nonces),
            classes: [SIGNATURE_CLASS, LOG_CLASS]
                .map(|class| (registrar().address(), class))
                .to_vec(),
        };
        let invoice = Invoice {
            payee: self.id(),
            asset: Address::ZERO,
            amount: Amount(amount),
            nonce: terms.nonce(),
            issued_at,
        };
        self.sign_invoice(invoice, terms)
    }

    pub(crate) fn sign_invoice(&self, invoice: Invoice, terms: InvoiceTerms) -> SignedInvoice {
        SignedInvoice {
            key: *self.key.public_key(),
            invoice,
            terms,
            signature: self.key.sign(domain().invoice_digest(&invoice).0.as_slice()),
        }
    }

    /// With a coin of its own.
    pub(crate) fn funded(mut self, amount: u128) -> Self {
        let deposit = deposit(self.id(), amount, 0);
        self.wallet.import(&domain(), deposit).unwrap();
        self
    }

    /// Does what a component does.
    pub(crate) fn perform(&mut self, step: Step) -> Option<Proof> {
        match step {
            Step::Extend(entry) => {
                self.head = self.head.extended(&entry);
                None
            }
            Step::Certify(digest) => Some(Proof::Certificate(self.certify(digest))),
            Step::Sign(digest) => Some(Proof::Signature(self.key.sign(digest.0.as_slice()))),
        }
    }

    pub(crate) fn certify(&self, digest: TransferDigest) -> Certificate {
        certify(&self.key, self.index.unwrap(), self.head, digest)
    }

    pub(crate) fn component_head(&self) -> Option<LogHead> {
        self.index.map(|_| self.head)
    }

    /// Pays, as far as the release.
    pub(crate) fn pay(&mut self, invoice: &SignedInvoice, now: Timestamp) -> Path {
        let payer = Payer::new(self.wallet.clone())
            .reserve(&domain(), invoice, &PayerPolicy::default(), now)
            .unwrap()
            .commit(&domain(), now)
            .unwrap();
        let proof = loop {
            let step = payer.next_step(&domain(), self.component_head()).unwrap();
            if let Some(proof) = self.perform(step) {
                break proof;
            }
        };
        let payer = payer.prove(&domain(), proof).unwrap();
        let path = payer.payment().clone();
        self.wallet = payer.set_aside().0.into_wallet();
        path
    }

    /// Leaves a coin or fragment to be redeemed.
    pub(crate) fn exit(&mut self, input: micropay_protocol::offline::Input, now: Timestamp) -> Path {
        let payer = Payer::new(self.wallet.clone())
            .exit(&domain(), input, now)
            .unwrap();
        let proof = loop {
            let step = payer.next_step(&domain(), self.component_head()).unwrap();
            if let Some(proof) = self.perform(step) {
                break proof;
            }
        };
        let payer = payer.prove(&domain(), proof).unwrap();
        let path = payer.payment().clone();
        self.wallet = payer.set_aside().0.into_wallet();
        path
    }

    pub(crate) fn receive(
        &mut self,
        invoice: &SignedInvoice,
        path: &Path,
        shop: &Shop,
    ) -> Result<Payee<Credited>, Refusal> {
        let credited = Payee::<Waiting>::new(invoice.invoice).receive(&domain(), path, &shop.view())?;
        credited.hold(&domain(), &mut self.wallet).unwrap();
        Ok(credited)
    }

    pub(crate) fn accept(&self, payee: &Payee<Credited>) -> SignedAcceptance {
        let acceptance = payee.acceptance();
        SignedAcceptance {
            acceptance,
            signature: self.key.sign(domain().acceptance_digest(&acceptance).as_slice()),
        }
    }

    /// The registrar's checkpoint of the log as it is.
    pub(crate) fn checkpoint(&self) -> SignedLogCheckpoint {
        LogCheckpoint {
            wallet: self.id(),
            head: self.head,
            sequence: self.wallet.sequence,
            spent: SpentTree::new(self.wallet.spent.iter().copied()).root(),
            issued_at: NOW,
        }
        .sign(&domain(), &registrar())
    }
}

pub(crate) fn certify(
    key: &SoftwareKey,
    index: IndexName,
    head: LogHead,
    digest: TransferDigest,
) -> Certificate {
    let attest = Attest {
        qualified_signer: [0x0b; 34],
        extra_data: qualifying_data(digest),
        clock_info: [3; 17],
        firmware_version: [0x20, 0x16, 5, 11, 0, 0, 0, 1],
        index,
        head,
    };
    attest.certificate(key.sign(&attest.to_bytes()))
}

pub(crate) fn register(
    key: &SoftwareKey,
    class: ClassId,
    index: Option<IndexName>,
    valid_until: Timestamp,
) -> SignedRegistration {
    let owner = Address::from_slice(&key.public_key().wallet().0[..20]);
    let registration = Registration {
        wallet: key.public_key().wallet(),
        owner,
        class,
        log: index.map_or(NameHash::NONE, IndexName::hash),
        valid_until,
    };
    SignedRegistration {
        key: *key.public_key(),
        owner,
        class,
        index,
        valid_until,
        signature: registration.confirm(&domain(), &registrar()),
        first: None,
    }
}

pub(crate) fn deposit(wallet: WalletId, amount: u128, nonce: u64) -> SignedDeposit {
    deposit_signed_by(&registrar(), wallet, amount, nonce)
}

pub(crate) fn deposit_signed_by(key: &Key, wallet: WalletId, amount: u128, nonce: u64) -> SignedDeposit {
    let coin = Coin {
        wallet,
        asset: Address::ZERO,
        amount: Amount(amount),
        deposit_nonce: DepositNonce(nonce),
    };
    let settle_by = Timestamp(NOW.0 + 60 * 86_400);
    let receipt = DepositReceipt {
        coin: domain().coin_id(&coin),
        wallet,
        asset: coin.asset,
        amount: coin.amount,
        settle_by,
    };
    SignedDeposit {
        coin,
        settle_by,
        signature: receipt.sign(&domain(), key),
    }
}

pub(crate) fn list(wallets: &[(WalletId, Timestamp)], classes: &[(ClassId, Timestamp)]) -> RevocationList {
    list_of(NOW, wallets, classes)
}

pub(crate) fn list_of(
    issued_at: Timestamp,
    wallets: &[(WalletId, Timestamp)],
    classes: &[(ClassId, Timestamp)],
) -> RevocationList {
    SignedRevocationList::sign(
        &domain(),
        &registrar(),
        issued_at,
        bytes32("salt", 0),
        wallets,
        classes,
    )
    .verify(&domain())
    .unwrap()
}

/// What a payee goes by.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    pub(crate) policy: PayeePolicy,
    pub(crate) lists: Vec<RevocationList>,
    pub(crate) exposure: Exposure,
    pub(crate) now: Timestamp,
}

impl Shop {
    pub(crate) fn new() -> Self {
        let classes = [SIGNATURE_CLASS, LOG_CLASS]
            .map(|class| AcceptedClass {
                registrar: registrar().address(),
                class,
                asset: Address::ZERO,
                accept_limit: Amount(1_000_000),
                min_fragment: Amount(1),
            })
            .to_vec();
        Self {
            policy: PayeePolicy {
                classes,
                ..PayeePolicy::default()
            },
            lists: vec![list(&[], &[])],
            exposure: Exposure::default(),
            now: NOW,
        }
    }

    pub(crate) fn at(now: Timestamp) -> Self {
        Self { now, ..Self::new() }
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            policy: &self.policy,
            lists: &self.lists,
            exposure: &self.exposure,
            now: self.now,
        }
    }

    pub(crate) fn judge(&self, invoice: &SignedInvoice, path: &Path) -> Result<Judged, Refusal> {
        judge(&domain(), &invoice.invoice, path, &self.view())
    }
}

pub(crate) fn later(seconds: u64) -> Timestamp {
    NOW.plus(Seconds(seconds))
}

pub(crate) fn earlier(seconds: u64) -> Timestamp {
    Timestamp(NOW.0 - seconds)
}

/// One hop: both sides, and the money is the payee's.
pub(crate) fn hand_over(payer: &mut Device, payee: &mut Device, amount: u128) -> (SignedInvoice, Path) {
    let invoice = payee.invoice(amount, NOW);
    let path = payer.pay(&invoice, NOW);
    payee.receive(&invoice, &path, &Shop::new()).unwrap();
    (invoice, path)
}
