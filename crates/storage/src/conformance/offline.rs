//! Cases for an offline wallet.

use protocol::offline::{
    AcceptedClass, Amount, AnyPayer, ClassId, Coin, Credited, DepositNonce, DepositReceipt, Domain, Exposure,
    Invoice, InvoiceDigest, InvoiceTerms, Key, NameHash, Outgoing, Payee, PayeePolicy, Payer, PayerPolicy,
    Proof, Registration, RevocationList, Seconds, Sequence, SignedAcceptance, SignedDeposit, SignedInvoice,
    SignedRegistration, SignedRejection, SignedRevocationList, SoftwareKey, Timestamp, TransferDigest, View,
    Waiting, Wallet, WalletId,
};

use super::*;
use crate::offline::{
    DepositRecord, Event, EventKind, InvoiceRecord, InvoiceStage, InvoiceState, OutgoingRecord,
    OutgoingStage, OutgoingState, RevocationStore, Standing, WalletSave, WalletStore, WalletVersion,
};

const NOW: Timestamp = Timestamp(1_800_000_000);
const CLASS: ClassId = ClassId(7);

fn domain() -> Domain {
    Domain::new(31337, Address::repeat_byte(0xcc))
}

fn key(name: u8) -> SoftwareKey {
    SoftwareKey::from_bytes(&[name; 32]).unwrap()
}

fn id(name: u8) -> WalletId {
    key(name).public_key().wallet()
}

fn registrar() -> Key {
    Key::from_bytes(&[9; 32]).unwrap()
}

fn registration(name: u8) -> SignedRegistration {
    let valid_until = NOW.plus(Seconds::DAY.times(30));
    let registration = Registration {
        wallet: id(name),
        owner: Address::repeat_byte(name),
        class: CLASS,
        log: NameHash::NONE,
        valid_until,
    };
    SignedRegistration {
        key: *key(name).public_key(),
        owner: registration.owner,
        class: CLASS,
        index: None,
        valid_until,
        signature: registration.confirm(&domain(), &registrar()),
        first: None,
    }
}

fn deposit(name: u8, nonce: u64) -> SignedDeposit {
    let coin = Coin {
        wallet: id(name),
        asset: Address::ZERO,
        amount: Amount(1_000),
        deposit_nonce: DepositNonce(nonce),
    };
    let settle_by = NOW.plus(Seconds::DAY.times(60));
    let receipt = DepositReceipt {
        coin: domain().coin_id(&coin),
        wallet: coin.wallet,
        asset: coin.asset,
        amount: coin.amount,
        settle_by,
    };
    SignedDeposit {
        coin,
        settle_by,
        signature: receipt.sign(&domain(), &registrar()),
    }
}

fn funded(name: u8) -> Wallet {
    let mut wallet = Wallet::new(&domain(), registration(name));
    for nonce in 0..2 {
        wallet.import(&domain(), deposit(name, nonce)).unwrap();
    }
    wallet
}

fn invoice(name: u8, nonce: u8) -> SignedInvoice {
    let terms = InvoiceTerms {
        salt: B256::repeat_byte(nonce),
        classes: vec![(registrar().address(), CLASS)],
    };
    let invoice = Invoice {
        payee: id(name),
        asset: Address::ZERO,
        amount: Amount(300),
        nonce: terms.nonce(),
        issued_at: NOW,
    };
    SignedInvoice {
        key: *key(name).public_key(),
        invoice,
        terms,
        signature: key(name).sign(domain().invoice_digest(&invoice).0.as_slice()),
    }
}

/// Books after the payment, and the payment.
fn pay(wallet: Wallet, name: u8, invoice: &SignedInvoice) -> (Wallet, Outgoing) {
    let payer = Payer::new(wallet)
        .reserve(&domain(), invoice, &PayerPolicy::default(), NOW)
        .unwrap()
        .commit(&domain(), NOW)
        .unwrap();
    let digest = payer.digest(&domain());
    let proof = Proof::Signature(key(name).sign(digest.0.as_slice()));
    let (idle, outgoing) = payer.prove(&domain(), proof).unwrap().set_aside();
    (idle.into_wallet(), outgoing)
}

fn credited(invoice: &SignedInvoice, outgoing: &Outgoing) -> Box<Payee<Credited>> {
    let policy = PayeePolicy {
        classes: vec![AcceptedClass {
            registrar: registrar().address(),
            class: CLASS,
            asset: Address::ZERO,
            accept_limit: Amount(10_000),
            min_fragment: Amount(1),
        }],
        ..PayeePolicy::default()
    };
    let (lists, exposure) = ([list(0)], Exposure::default());
    let view = View {
        policy: &policy,
        lists: &lists,
        exposure: &exposure,
        now: NOW,
    };
    let waiting = Payee::<Waiting>::new(invoice.invoice);
    Box::new(waiting.receive(&domain(), outgoing.payment(), &view).unwrap())
}

fn acceptance(name: u8, credited: &Payee<Credited>, seconds: u64) -> SignedAcceptance {
    let mut acceptance = credited.acceptance();
    acceptance.issued_at = acceptance.issued_at.plus(Seconds(seconds));
    SignedAcceptance {
        acceptance,
        signature: key(name).sign(domain().acceptance_digest(&acceptance).as_slice()),
    }
}

fn list(age: u64) -> RevocationList {
    let issued_at = Timestamp(NOW.0 - age);
    SignedRevocationList::sign(
        &domain(),
        &registrar(),
        issued_at,
        B256::repeat_byte(7),
        &[(id(9), issued_at)],
        &[],
    )
    .verify(&domain())
    .unwrap()
}

fn idle(wallet: Wallet) -> Option<Arc<AnyPayer>> {
    Some(Arc::new(Payer::new(wallet).into()))
}

fn event(n: u64) -> Event {
    Event {
        at: NOW.plus(Seconds(n)),
        kind: EventKind::ALL[n as usize % EventKind::ALL.len()],
        subject: B256::repeat_byte(n as u8),
        asset: Address::repeat_byte(3),
        amount: Amount(u128::MAX - u128::from(n)),
        other: n.is_multiple_of(2).then(|| id(2)),
    }
}

/// Whose store [`fill_wallet`] fills.
pub fn wallet_identity(name: u8) -> StoreIdentity {
    StoreIdentity::wallet(domain().chain_id(), domain().contract(), id(name))
}

/// A store of wallet 1 with its books at version 1.
async fn wallet<B: Backend>() -> (B, B::Store) {
    let place = B::place().await;
    let store = place.open(wallet_identity(1)).await.unwrap();
    let first = WalletSave {
        payer: idle(funded(1)),
        ..WalletSave::default()
    };
    assert_eq!(store.save_wallet(&first).await.unwrap(), WalletVersion(1));
    (place, store)
}

async fn again<B: Backend>(place: &B, store: B::Store) -> B::Store {
    place.close(store).await.unwrap();
    place.open(wallet_identity(1)).await.unwrap()
}

fn save(from: u64) -> WalletSave {
    WalletSave {
        from: WalletVersion(from),
        ..WalletSave::default()
    }
}

/// A row in every table of the store of wallet 1.
pub async fn fill_wallet(store: &(impl WalletStore + RevocationStore)) {
    let asked = invoice(1, 1);
    let (_, received) = pay(funded(3), 3, &asked);
    let by = credited(&asked, &received);
    let (books, paid) = pay(funded(1), 1, &invoice(2, 1));
    let accepted = acceptance(2, &credited(&invoice(2, 1), &paid), 0);
    let first = WalletSave {
        payer: idle(books),
        invoices: vec![InvoiceRecord {
            invoice: asked,
            state: InvoiceState::Credited {
                answer: Some(acceptance(1, &by, 0)),
                credited: by,
                standing: Standing::Claimed,
            },
        }],
        outgoing: vec![OutgoingRecord {
            outgoing: paid,
            state: OutgoingState::Accepted(accepted),
        }],
        deposits: vec![DepositRecord {
            deposit: deposit(1, 0),
            at: NOW,
        }],
        events: vec![event(0)],
        ..WalletSave::default()
    };
    store.save_wallet(&first).await.unwrap();
    assert!(store.save_list(&list(0)).await.unwrap());
}

/// Reads every row of it.
pub async fn read_wallet(store: &(impl WalletStore + RevocationStore)) -> Result<()> {
    store.wallet_version().await?;
    store.load_wallet().await?;
    store.invoices(None).await?;
    store.outgoings(None).await?;
    store.deposits().await?;
    store.history(None, 9).await?;
    store.lists().await?;
    Ok(())
}

/// A store is of one wallet, as it is of one merchant.
pub async fn offline_store_is_of_one_wallet<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    refused!(
        store.load_wallet().await,
        StoreError::NotOfWallet(Owner::Merchant(_))
    );
    refused!(store.save_wallet(&save(0)).await, StoreError::NotOfWallet(_));
    refused!(store.save_list(&list(0)).await, StoreError::NotOfWallet(_));
    let (place, store) = wallet::<B>().await;
    place.close(store).await.unwrap();
    if B::KEEPS {
        match place.open(wallet_identity(2)).await {
            Err(StoreError::OtherStore(other)) => {
                assert_eq!(
                    (other.stored, other.wanted),
                    (wallet_identity(1), wallet_identity(2))
                );
            }
            _ => panic!("opened as another wallet's"),
        }
    }
}

/// The books in every state of a payer survive, and a step from old books is refused.
pub async fn wallet_is_saved_from_the_version_it_was_decided_from<B: Backend>() {
    let place = B::place().await;
    let mut store = place.open(wallet_identity(1)).await.unwrap();
    assert_eq!(store.wallet_version().await.unwrap(), None);
    assert_eq!(store.load_wallet().await.unwrap(), None);
    refused!(store.save_wallet(&save(0)).await, StoreError::NoWallet(got) if got == id(1));
    let idle = Payer::new(funded(1));
    let reserved = idle
        .clone()
        .reserve(&domain(), &invoice(2, 1), &PayerPolicy::default(), NOW)
        .unwrap();
    let chosen = reserved.clone().commit(&domain(), NOW).unwrap();
    let proof = Proof::Signature(key(1).sign(chosen.digest(&domain()).0.as_slice()));
    let committed = chosen.clone().prove(&domain(), proof).unwrap();
    let states: [AnyPayer; 4] = [idle.into(), reserved.into(), chosen.into(), committed.into()];
    for (from, payer) in states.into_iter().enumerate() {
        let (version, payer) = (WalletVersion(from as u64 + 1), Arc::new(payer));
        let next = WalletSave {
            payer: Some(payer.clone()),
            ..save(from as u64)
        };
        assert_eq!(store.save_wallet(&next).await.unwrap(), version);
        refused!(
            store.save_wallet(&next).await,
            StoreError::WalletStale { got, stored } if got == next.from && stored == version
        );
        store = again(&place, store).await;
        assert_eq!(store.wallet_version().await.unwrap(), Some(version));
        let saved = store.load_wallet().await.unwrap().unwrap();
        assert_eq!((saved.version, saved.payer), (version, payer));
    }
    refused!(store.save_wallet(&save(9)).await, StoreError::WalletStale { .. });
}

/// Two that decided from the same books: one of them saves.
pub async fn concurrent_steps_of_a_wallet_take_turns<B: Backend>() {
    let (_place, store) = wallet::<B>().await;
    let mut tasks = Vec::new();
    for n in 0..20 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let next = WalletSave {
                events: vec![event(n)],
                ..save(1)
            };
            match store.save_wallet(&next).await {
                Ok(_) => 1,
                Err(StoreError::WalletStale { .. }) => 0,
                Err(error) => panic!("{error}"),
            }
        }));
    }
    let mut saved = 0;
    for task in tasks {
        saved += task.await.unwrap();
    }
    assert_eq!(saved, 1, "two steps from one version");
    assert_eq!(store.history(None, 99).await.unwrap().len(), 1);
}

/// Another wallet's books, and books with fewer transfers, are refused.
pub async fn books_are_the_wallets_own_and_never_fall<B: Backend>() {
    let (_place, store) = wallet::<B>().await;
    let foreign = WalletSave {
        payer: idle(funded(2)),
        ..save(1)
    };
    refused!(
        store.save_wallet(&foreign).await,
        StoreError::ForeignWallet { got, owner } if got == id(2) && owner == id(1)
    );
    let (paid, _) = pay(funded(1), 1, &invoice(2, 1));
    let next = WalletSave {
        payer: idle(paid),
        ..save(1)
    };
    store.save_wallet(&next).await.unwrap();
    let back = WalletSave {
        payer: idle(funded(1)),
        ..save(2)
    };
    refused!(
        store.save_wallet(&back).await,
        StoreError::WalletBackwards {
            got: Sequence(0),
            stored: Sequence(1)
        }
    );
    assert_eq!(store.wallet_version().await.unwrap(), Some(WalletVersion(2)));
}

/// An invoice is credited once, keeps its answer, and never goes back; it is found by its transfer.
pub async fn invoices_move_forward_only<B: Backend>() {
    let (place, mut store) = wallet::<B>().await;
    let (asked, other) = (invoice(1, 1), invoice(1, 2));
    let (_, outgoing) = pay(funded(3), 3, &asked);
    let by = credited(&asked, &outgoing);
    let transfer = by.state().judged.transfer;
    let answer = acceptance(1, &by, 0);
    let rejection = {
        let (_, rejection) = Payee::<Waiting>::new(asked.invoice).reject(&domain(), NOW);
        let signature = key(1).sign(domain().rejection_digest(&rejection).as_slice());
        SignedRejection { rejection, signature }
    };
    let taken = |answer, standing| InvoiceState::Credited {
        credited: by.clone(),
        answer,
        standing,
    };
    let rejected = |answer| InvoiceState::Rejected { at: NOW, answer };
    let steps = [
        InvoiceState::Waiting,
        rejected(None),
        rejected(Some(rejection)),
        taken(None, Standing::OfflineAccepted),
        taken(Some(answer), Standing::OfflineAccepted),
        taken(Some(answer), Standing::Claimed),
        taken(Some(answer), Standing::Settled),
    ];
    let mut from = 1;
    for (at, state) in steps.iter().enumerate() {
        let record = InvoiceRecord {
            invoice: asked.clone(),
            state: state.clone(),
        };
        let next = WalletSave {
            invoices: vec![record.clone()],
            ..save(from)
        };
        from = store.save_wallet(&next).await.unwrap().0;
        for before in &steps[..at] {
            let back = WalletSave {
                invoices: vec![InvoiceRecord {
                    invoice: asked.clone(),
                    state: before.clone(),
                }],
                ..save(from)
            };
            // The chain refused its exit; and it is claimed again.
            if (before, state) == (&steps[4], &steps[5]) {
                let refused = store.save_wallet(&back).await.unwrap().0;
                let claimed = WalletSave {
                    invoices: vec![record.clone()],
                    ..save(refused)
                };
                from = store.save_wallet(&claimed).await.unwrap().0;
                continue;
            }
            refused!(
                store.save_wallet(&back).await,
                StoreError::InvoiceMove { invoice, .. } if invoice == record.digest(&domain())
            );
        }
        store = again(&place, store).await;
        let digest = domain().invoice_digest(&asked.invoice);
        assert_eq!(store.invoice(digest).await.unwrap(), Some(record.clone()));
        let by_transfer = store.invoice_paid_by(transfer).await.unwrap();
        assert_eq!(by_transfer, (at >= 3).then_some(record));
    }
    let changed = WalletSave {
        invoices: vec![InvoiceRecord {
            invoice: asked.clone(),
            state: taken(Some(acceptance(1, &by, 1)), Standing::Settled),
        }],
        ..save(from)
    };
    refused!(store.save_wallet(&changed).await, StoreError::InvoiceMove { .. });
    let waiting = InvoiceRecord {
        invoice: other,
        state: InvoiceState::Waiting,
    };
    let next = WalletSave {
        invoices: vec![waiting.clone()],
        ..save(from)
    };
    store.save_wallet(&next).await.unwrap();
    assert_eq!(store.invoices(None).await.unwrap().len(), 2);
    assert_eq!(store.invoices(None).await.unwrap()[1], waiting);
    assert_eq!(
        store.invoices(Some(InvoiceStage::Waiting)).await.unwrap(),
        [waiting]
    );
    assert_eq!(store.invoices(Some(InvoiceStage::Rejected)).await.unwrap(), []);
    assert_eq!(store.invoice(InvoiceDigest::NONE).await.unwrap(), None);
}

/// A transfer is sent until it is accepted; an exit is claimed and settled, and released again only if it was refused.
pub async fn outgoing_transfers_move_forward_only<B: Backend>() {
    let (place, store) = wallet::<B>().await;
    let asked = invoice(2, 1);
    let (wallet, payment) = pay(funded(1), 1, &asked);
    let accepted = OutgoingState::Accepted(acceptance(2, &credited(&asked, &payment), 0));
    let exit = {
        let input = wallet.holdings[0].fragment(&domain()).id;
        let payer = Payer::new(wallet.clone()).exit(&domain(), input, NOW).unwrap();
        let proof = Proof::Signature(key(1).sign(payer.digest(&domain()).0.as_slice()));
        payer.prove(&domain(), proof).unwrap().set_aside().1
    };
    let record = |outgoing: &Outgoing, state| OutgoingRecord {
        outgoing: outgoing.clone(),
        state,
    };
    let steps = [
        (&payment, OutgoingState::Released, None),
        (&payment, accepted, Some(OutgoingState::Claimed)),
        (&exit, OutgoingState::Released, None),
        (&exit, OutgoingState::Claimed, Some(accepted)),
        // The chain refused it.
        (&exit, OutgoingState::Released, None),
        (&exit, OutgoingState::Claimed, None),
        (&exit, OutgoingState::Settled, Some(OutgoingState::Claimed)),
    ];
    let mut from = 1;
    for (outgoing, state, refused) in steps {
        let next = WalletSave {
            outgoing: vec![record(outgoing, state)],
            ..save(from)
        };
        from = store.save_wallet(&next).await.unwrap().0;
        let digest = outgoing.committed().digest(&domain());
        if let Some(refused) = refused {
            let back = WalletSave {
                outgoing: vec![record(outgoing, refused)],
                ..save(from)
            };
            refused!(
                store.save_wallet(&back).await,
                StoreError::OutgoingMove { transfer, from, to }
                    if (transfer, from, to) == (digest, state.stage(), refused.stage())
            );
        }
        assert_eq!(
            store.outgoing(digest).await.unwrap(),
            Some(record(outgoing, state))
        );
    }
    let store = again(&place, store).await;
    let all = [record(&payment, accepted), record(&exit, OutgoingState::Settled)];
    assert_eq!(store.outgoings(None).await.unwrap(), all);
    assert_eq!(
        store.outgoings(Some(OutgoingStage::Accepted)).await.unwrap(),
        all[..1]
    );
    let paid = domain().invoice_digest(&asked.invoice);
    assert_eq!(store.outgoing_for(paid).await.unwrap(), Some(all[0].clone()));
    assert_eq!(store.outgoing_for(InvoiceDigest::NONE).await.unwrap(), None);
    assert_eq!(store.outgoing(TransferDigest::default()).await.unwrap(), None);
}

/// One refused part, and nothing of the step is stored.
pub async fn wallet_step_is_all_or_nothing<B: Backend>() {
    let (_place, store) = wallet::<B>().await;
    let rejected = InvoiceRecord {
        invoice: invoice(1, 1),
        state: InvoiceState::Rejected {
            at: NOW,
            answer: None,
        },
    };
    let first = WalletSave {
        invoices: vec![rejected.clone()],
        ..save(1)
    };
    store.save_wallet(&first).await.unwrap();
    let (paid, outgoing) = pay(funded(1), 1, &invoice(2, 1));
    let mixed = WalletSave {
        payer: idle(paid),
        invoices: vec![
            InvoiceRecord {
                invoice: invoice(1, 2),
                state: InvoiceState::Waiting,
            },
            InvoiceRecord {
                state: InvoiceState::Waiting,
                ..rejected.clone()
            },
        ],
        outgoing: vec![OutgoingRecord {
            outgoing,
            state: OutgoingState::Released,
        }],
        deposits: vec![DepositRecord {
            deposit: deposit(1, 0),
            at: NOW,
        }],
        events: vec![event(1)],
        ..save(2)
    };
    refused!(store.save_wallet(&mixed).await, StoreError::InvoiceMove { .. });
    let saved = store.load_wallet().await.unwrap().unwrap();
    assert_eq!(
        (saved.version, Some(saved.payer)),
        (WalletVersion(2), idle(funded(1)))
    );
    assert_eq!(store.invoices(None).await.unwrap(), [rejected]);
    assert_eq!(store.outgoings(None).await.unwrap(), []);
    assert_eq!(store.deposits().await.unwrap(), []);
    assert_eq!(store.history(None, 9).await.unwrap(), []);
}

/// A deposit is imported once; history is numbered without gaps, the last first.
pub async fn deposits_and_history_are_kept_in_order<B: Backend>() {
    let (place, store) = wallet::<B>().await;
    let record = |nonce| DepositRecord {
        deposit: deposit(1, nonce),
        at: NOW.plus(Seconds(nonce)),
    };
    for (at, nonce) in [3, 1, 2].into_iter().enumerate() {
        let next = WalletSave {
            deposits: vec![record(nonce)],
            events: vec![event(2 * at as u64), event(2 * at as u64 + 1)],
            ..save(at as u64 + 1)
        };
        store.save_wallet(&next).await.unwrap();
    }
    let known = WalletSave {
        deposits: vec![DepositRecord {
            at: NOW.plus(Seconds(9)),
            ..record(1)
        }],
        ..save(4)
    };
    store.save_wallet(&known).await.unwrap();
    let store = again(&place, store).await;
    assert_eq!(store.deposits().await.unwrap(), [record(3), record(1), record(2)]);
    let history = store.history(None, 99).await.unwrap();
    let numbers: Vec<_> = history.iter().map(|record| record.number).collect();
    assert_eq!(numbers, [6, 5, 4, 3, 2, 1]);
    for record in &history {
        assert_eq!(record.event, event(record.number - 1));
    }
    assert_eq!(store.history(Some(4), 2).await.unwrap(), history[3..5]);
    assert_eq!(store.history(Some(u64::MAX), 1).await.unwrap(), history[..1]);
}

/// An older list never takes the place of a newer one.
pub async fn newest_revocation_list_stays<B: Backend>() {
    let (place, store) = wallet::<B>().await;
    assert_eq!(store.lists().await.unwrap(), []);
    assert!(store.save_list(&list(60)).await.unwrap());
    assert!(!store.save_list(&list(60)).await.unwrap());
    assert!(!store.save_list(&list(61)).await.unwrap());
    assert!(store.save_list(&list(0)).await.unwrap());
    let store = again(&place, store).await;
    assert_eq!(store.lists().await.unwrap(), [list(0)]);
}
