//! What is no payment: opening, renewing, checkpoints, two processes.

use alloy_primitives::B256;
use protocol::offline::{
    Amount, Key, LogCheckpoint, Seconds, SignedRegistration, SignedRevocationList, SpentTree,
};
use storage::offline::WalletStore;
use storage::{MemoryStore, StoreError, StoreIdentity};
use wallet::{Device, DeviceError};

use crate::faults::Frail;
use crate::world::{
    DEV_CLASS, ETHER, Home, Kind, START, config, domain, hand_over, held, list, register_until, registrar,
};

#[tokio::test]
async fn device_is_of_its_component_and_its_books() {
    let home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let other = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let device = home.start().await;
    let (component, _) = device.into_parts();
    let foreign = Frail {
        store: other.store.clone(),
        fuse: other.fuse.clone(),
    };
    match Device::open(component, foreign, config()).await {
        Err(DeviceError::OtherComponent { component, books }) => {
            assert_eq!((component, books), (home.id(), other.id()));
        }
        result => panic!("{result:?}"),
    }
    let (component, store) = home.start().await.into_parts();
    let again = Device::create(component, store, config(), home.registration).await;
    assert!(matches!(again, Err(DeviceError::Exists(id)) if id == home.id()));
    let (component, _) = home.start().await.into_parts();
    let identity = StoreIdentity::wallet(domain().chain_id(), domain().contract(), home.id());
    let empty = Frail {
        store: MemoryStore::new(identity),
        fuse: home.fuse.clone(),
    };
    let none = Device::open(component, empty, config()).await;
    assert!(matches!(none, Err(DeviceError::NoBooks(id)) if id == home.id()));
}

/// Another process saved in between: the step is decided again, from what is there now.
#[tokio::test]
async fn two_processes_of_one_wallet_do_not_both_advance() {
    let home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let mut device = home.start().await;
    device.import(&home.coin(10)).await.unwrap();
    let seen = home.store.load_wallet().await.unwrap().unwrap();
    device.import(&home.coin(10)).await.unwrap();
    let stale = storage::offline::WalletSave {
        from: seen.version,
        payer: Some(seen.payer),
        ..storage::offline::WalletSave::default()
    };
    let error = home.store.save_wallet(&stale).await.unwrap_err();
    assert!(matches!(error, StoreError::WalletStale { .. }), "{error}");
    // And the device sees what another one saved.
    let fresh = home.store.load_wallet().await.unwrap().unwrap();
    let other = storage::offline::WalletSave {
        from: fresh.version,
        payer: Some(fresh.payer),
        ..storage::offline::WalletSave::default()
    };
    home.store.save_wallet(&other).await.unwrap();
    device.import(&home.coin(10)).await.unwrap();
    assert_eq!(held(&mut device).await, 30);
}

#[tokio::test]
async fn renewal_changes_the_end_only() {
    let home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let mut device = home.start().await;
    let known = home.registration;
    let later = known.valid_until.plus(Seconds::DAY);
    let renewed = SignedRegistration {
        first: Some(known.origin(&domain())),
        ..register_until(known.key, DEV_CLASS, None, later)
    };
    let unchained = SignedRegistration {
        first: None,
        ..renewed
    };
    let class = register_until(known.key, protocol::offline::ClassId(1), None, later);
    let classless = SignedRegistration {
        first: renewed.first,
        ..class
    };
    for (wrong, needed) in [
        (unchained, "first registration"),
        (classless, "class"),
        (known, "end"),
    ] {
        match device.renew(wrong).await {
            Err(DeviceError::Renewal { field, .. }) => assert_eq!(field, needed),
            result => panic!("{result:?}"),
        }
    }
    device.import(&home.coin(10)).await.unwrap();
    device.renew(renewed).await.unwrap();
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let mut payee = payee_home.start().await;
    let path = hand_over(&mut device, &mut payee, 7).await;
    assert_eq!(path.wallets[0], renewed);
}

/// After a checkpoint payees see less, and take the payments nevertheless.
#[tokio::test]
async fn checkpoint_shortens_what_payees_see() {
    let Some(home) = Home::<MemoryStore>::in_memory(Kind::Tpm).await else {
        return;
    };
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let (mut payer, mut payee) = (home.start().await, payee_home.start().await);
    for _ in 0..4 {
        payer.import(&home.coin(10)).await.unwrap();
    }
    for _ in 0..2 {
        hand_over(&mut payer, &mut payee, 10).await;
    }
    let longer = hand_over(&mut payer, &mut payee, 10).await;
    let books = payer.wallet().await.unwrap();
    let checkpoint = LogCheckpoint {
        wallet: home.id(),
        head: books.head(&domain()).unwrap(),
        sequence: books.sequence,
        spent: SpentTree::new(books.spent.iter().copied()).root(),
        issued_at: START,
    };
    let foreign = protocol::offline::Key::from_bytes(&[8; 32]).unwrap();
    let error = payer
        .take_checkpoint(checkpoint.sign(&domain(), &foreign))
        .await
        .unwrap_err();
    assert!(matches!(error, DeviceError::Log(_)), "{error}");
    payer
        .take_checkpoint(checkpoint.sign(&domain(), &registrar()))
        .await
        .unwrap();
    drop(payer);
    let mut payer = home.start().await;
    payer.check().await.unwrap();
    let path = hand_over(&mut payer, &mut payee, 10).await;
    let length = |path: &protocol::offline::Path| path.encode(&domain()).len();
    println!(
        "{} bytes with 2 entries before, {} after a checkpoint",
        length(&longer),
        length(&path)
    );
    assert_eq!(held(&mut payee).await, 40);
}

#[tokio::test]
async fn strangers_lists_are_not_kept() {
    let home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let mut strict = config();
    strict.payee.classes.clear();
    let mut device = home.start_with(strict).await;
    let stranger = Key::from_bytes(&[8; 32]).unwrap();
    let theirs = SignedRevocationList::sign(&domain(), &stranger, START, B256::ZERO, &[], &[]);
    let error = device.take_revocations(theirs).await.unwrap_err();
    assert!(
        matches!(error, DeviceError::UnknownRegistrar(got) if got == stranger.address()),
        "{error}"
    );
    // Its own registrar's it takes, though it takes nobody's payments: the wallet itself may be stopped.
    let newer = START.plus(Seconds(1));
    assert!(device.take_revocations(list(newer, &[])).await.unwrap());
}

/// One payment at a time: another invoice waits until the reserved one is paid or given up.
#[tokio::test]
async fn one_payment_is_under_way_at_a_time() {
    let home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let (mut payer, mut payee) = (home.start().await, payee_home.start().await);
    payer.import(&home.coin(10)).await.unwrap();
    let one = payee.invoice(ETHER, Amount(3)).await.unwrap();
    let other = payee.invoice(ETHER, Amount(4)).await.unwrap();
    payer.reserve(&one).await.unwrap();
    payer.reserve(&one).await.unwrap();
    for error in [
        payer.reserve(&other).await.unwrap_err(),
        payer.pay(&other).await.unwrap_err(),
    ] {
        assert!(matches!(error, DeviceError::UnderWay { .. }), "{error}");
    }
    // Coins and payments come in meanwhile.
    payer.import(&home.coin(10)).await.unwrap();
    payer.abort().await.unwrap();
    payer.pay(&other).await.unwrap();
    assert_eq!(held(&mut payer).await, 16);
}
