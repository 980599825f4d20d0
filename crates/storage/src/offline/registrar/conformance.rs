//! The suite that every registrar's store must pass. Each test wants an empty store.
#![allow(clippy::unwrap_used, reason = "a suite for tests")]

use alloy_primitives::{Address, B256, Bytes};
use protocol::offline::{
    Amount, ClassId, CoinId, Input, LogEntry, LogHead, Sequence, Timestamp, TransferDigest, WalletId,
};

use super::{
    AuthorisedRecord, ListRecord, LogIndexRecord, LogRecord, ReceiptCap, ReceiptRecord, RegisteredRecord,
    RegistrarStore, RegistrarStoreError, Stage, StageName, WalletRecord,
};

/// Everything, one after the other.
pub async fn registrar<S: RegistrarStore>(store: &S) {
    a_registration_moves_forward(store).await;
    a_device_has_so_many_wallets(store).await;
    a_coin_has_one_receipt(store).await;
    a_log_is_folded_once(store).await;
    revocations_stay_with_their_earliest_time(store).await;
    a_list_is_newer_than_the_one_before(store).await;
}

/// A wallet that has begun.
pub fn begun(number: u8, device: Option<B256>) -> WalletRecord {
    WalletRecord {
        wallet: B256::repeat_byte(number),
        version: 0,
        key: Bytes::from(vec![number; 64]),
        owner: Address::repeat_byte(number),
        class: 1,
        format: "tpm".to_owned(),
        device,
        index: Some(LogIndexRecord {
            handle: 0x0100_0000,
            name: B256::repeat_byte(9),
        }),
        begun_at: 1_000,
        expected: B256::repeat_byte(7),
        offer: Bytes::from(vec![1, 2, 3]),
        last_valid_until: 0,
        stage: Stage::Begun,
    }
}

/// The record as the next step makes it.
fn authorised(record: &WalletRecord, valid_until: u64) -> WalletRecord {
    WalletRecord {
        last_valid_until: valid_until,
        stage: Stage::Authorised(AuthorisedRecord {
            nonce: B256::repeat_byte(3),
            valid_until,
            genesis: B256::left_padding_from(&valid_until.to_be_bytes()),
            at: 1_001,
            expiration: 60,
            signature: Bytes::from(vec![4; 64]),
        }),
        ..record.clone()
    }
}

fn registered(record: &WalletRecord, valid_until: u64, first: Option<B256>) -> WalletRecord {
    WalletRecord {
        last_valid_until: record.last_valid_until.max(valid_until),
        stage: Stage::Registered(RegisteredRecord {
            valid_until,
            signature: Bytes::from(vec![5; 65]),
            first,
            at: 1_002,
            confirmed_until: match &record.stage {
                Stage::Registered(former) => former.confirmed_until,
                _ => None,
            },
        }),
        ..record.clone()
    }
}

async fn saved<S: RegistrarStore>(store: &S, record: &WalletRecord) -> WalletRecord {
    let version = store.save_wallet(record, None).await.unwrap();
    assert_eq!(version, record.version + 1);
    let stored = store.wallet(record.id()).await.unwrap().unwrap();
    let expected = WalletRecord {
        version,
        ..record.clone()
    };
    assert_eq!(stored, expected);
    stored
}

async fn a_registration_moves_forward<S: RegistrarStore>(store: &S) {
    assert_eq!(store.wallet(WalletId(B256::repeat_byte(1))).await.unwrap(), None);
    let first = saved(store, &begun(1, None)).await;
    // Two requests decided from one version.
    let stale = store.save_wallet(&begun(1, None), None).await;
    assert!(matches!(
        stale,
        Err(RegistrarStoreError::WalletStale {
            got: 0,
            stored: 1,
            ..
        })
    ));
    // Begun anew: other terms.
    let mut other = begun(1, None);
    other.owner = Address::repeat_byte(0xee);
    other.version = first.version;
    let begun = saved(store, &other).await;
    let once = saved(store, &authorised(&begun, 5_000)).await;
    let back = WalletRecord {
        stage: Stage::Begun,
        ..once.clone()
    };
    assert!(matches!(
        store.save_wallet(&back, None).await,
        Err(RegistrarStoreError::WalletMove {
            from: StageName::Authorised,
            to: StageName::Begun,
            ..
        })
    ));
    for same in [4_999, 5_000] {
        assert!(matches!(
            store.save_wallet(&authorised(&once, same), None).await,
            Err(RegistrarStoreError::BeginningNotNew { .. })
        ));
    }
    let twice = saved(store, &authorised(&once, 5_001)).await;
    let elsewhere = WalletRecord {
        owner: Address::ZERO,
        ..registered(&twice, 5_001, None)
    };
    for wrong in [
        registered(&twice, 5_000, None),
        registered(&twice, 5_001, Some(B256::ZERO)),
        elsewhere,
    ] {
        assert!(matches!(
            store.save_wallet(&wrong, None).await,
            Err(RegistrarStoreError::WalletMove { .. })
        ));
    }
    let done = saved(store, &registered(&twice, 5_001, None)).await;
    // Never two: neither another first one, nor an authorisation.
    for wrong in [registered(&done, 6_000, None), authorised(&done, 6_000)] {
        assert!(matches!(
            store.save_wallet(&wrong, None).await,
            Err(RegistrarStoreError::WalletMove { .. })
        ));
    }
    // The contract has it, and nothing else of it changes.
    let confirmed = |record: &WalletRecord, until, valid_until| {
        let Stage::Registered(known) = &record.stage else {
            panic!("{record:?}");
        };
        WalletRecord {
            stage: Stage::Registered(RegisteredRecord {
                valid_until,
                confirmed_until: Some(until),
                ..known.clone()
            }),
            ..record.clone()
        }
    };
    for wrong in [confirmed(&done, 5_000, 5_001), confirmed(&done, 5_001, 5_002)] {
        assert!(matches!(
            store.save_wallet(&wrong, None).await,
            Err(RegistrarStoreError::WalletMove { .. })
        ));
    }
    let done = saved(store, &confirmed(&done, 5_001, 5_001)).await;
    let origin = Some(B256::repeat_byte(6));
    let renewed = saved(store, &registered(&done, 6_000, origin)).await;
    let other_origin = registered(&renewed, 7_000, Some(B256::repeat_byte(8)));
    assert!(store.save_wallet(&other_origin, None).await.is_err());
    saved(store, &registered(&renewed, 7_000, origin)).await;
}

async fn a_device_has_so_many_wallets<S: RegistrarStore>(store: &S) {
    let device = Some(B256::repeat_byte(0xd0));
    for number in [0x10, 0x11] {
        store.save_wallet(&begun(number, device), Some(2)).await.unwrap();
    }
    assert!(matches!(
        store.save_wallet(&begun(0x12, device), Some(2)).await,
        Err(RegistrarStoreError::DeviceQuota { got: 2, limit: 2, .. })
    ));
    // A wallet that is there goes on, and other devices are not concerned.
    let there = store
        .wallet(WalletId(B256::repeat_byte(0x11)))
        .await
        .unwrap()
        .unwrap();
    store
        .save_wallet(&authorised(&there, 9_000), Some(2))
        .await
        .unwrap();
    store
        .save_wallet(&begun(0x12, Some(B256::ZERO)), Some(2))
        .await
        .unwrap();
}

fn coin(number: u8, amount: u128, settle_by: u64) -> ReceiptRecord {
    ReceiptRecord {
        coin: CoinId(B256::repeat_byte(number)),
        wallet: WalletId(B256::repeat_byte(1)),
        asset: Address::ZERO,
        amount: Amount(amount),
        settle_by: Timestamp(settle_by),
        signed: vec![number; 10],
    }
}

async fn a_coin_has_one_receipt<S: RegistrarStore>(store: &S) {
    let cap = Some(ReceiptCap {
        since: Timestamp(100),
        limit: Amount(u128::MAX - 1),
    });
    assert_eq!(store.receipt(coin(1, 0, 0).coin).await.unwrap(), None);
    let first = coin(1, u128::MAX - 11, 100);
    assert_eq!(store.add_receipt(&first, cap).await.unwrap(), first);
    let again = ReceiptRecord {
        signed: vec![0xff],
        ..first.clone()
    };
    assert_eq!(store.add_receipt(&again, cap).await.unwrap(), first);
    assert_eq!(store.receipt(first.coin).await.unwrap(), Some(first.clone()));
    let over = store.add_receipt(&coin(2, 11, 100), cap).await;
    assert!(matches!(over, Err(RegistrarStoreError::ReceiptCap { .. })));
    assert_eq!(store.receipt(coin(2, 0, 0).coin).await.unwrap(), None);
    store.add_receipt(&coin(2, 10, 100), cap).await.unwrap();
    // Those of another asset, and those long settled, do not count.
    let other = ReceiptRecord {
        asset: Address::repeat_byte(1),
        ..coin(3, 100, 100)
    };
    store.add_receipt(&other, cap).await.unwrap();
    let later = Some(ReceiptCap {
        since: Timestamp(101),
        limit: Amount(100),
    });
    store.add_receipt(&coin(4, 100, 200), later).await.unwrap();
}

fn entry(number: u8) -> LogEntry {
    LogEntry {
        input: Input(B256::repeat_byte(number)),
        transfer: TransferDigest(B256::repeat_byte(number ^ 0xff)),
    }
}

async fn a_log_is_folded_once<S: RegistrarStore>(store: &S) {
    let wallet = WalletId(B256::repeat_byte(1));
    let at = |sequence: u64| LogRecord {
        wallet,
        head: LogHead(B256::repeat_byte(u8::try_from(sequence).unwrap())),
        sequence: Sequence(sequence),
        signed: vec![1; 7],
    };
    assert_eq!(store.log(wallet).await.unwrap(), None);
    assert!(store.log_entries(wallet).await.unwrap().is_empty());
    store
        .save_log(Sequence::ZERO, &[entry(1), entry(2)], &at(2))
        .await
        .unwrap();
    for from in [0, 1, 3] {
        let stale = store.save_log(Sequence(from), &[entry(3)], &at(3)).await;
        assert!(matches!(
            stale,
            Err(RegistrarStoreError::CheckpointStale {
                stored: Sequence(2),
                ..
            })
        ));
    }
    store.save_log(Sequence(2), &[entry(3)], &at(3)).await.unwrap();
    assert_eq!(store.log(wallet).await.unwrap(), Some(at(3)));
    assert_eq!(
        store.log_entries(wallet).await.unwrap(),
        [entry(1), entry(2), entry(3)]
    );
}

async fn revocations_stay_with_their_earliest_time<S: RegistrarStore>(store: &S) {
    let (one, two) = (WalletId(B256::repeat_byte(1)), WalletId(B256::repeat_byte(2)));
    for (at, stays) in [(50, 50), (60, 50), (40, 40)] {
        assert_eq!(store.revoke(two, Timestamp(at)).await.unwrap(), Timestamp(stays));
    }
    store.revoke(one, Timestamp(70)).await.unwrap();
    store.kill_class(ClassId(7), Timestamp(80)).await.unwrap();
    assert_eq!(
        store.kill_class(ClassId(7), Timestamp(90)).await.unwrap(),
        Timestamp(80)
    );
    let revocations = store.revocations().await.unwrap();
    assert_eq!(revocations.wallets, [(one, Timestamp(70)), (two, Timestamp(40))]);
    assert_eq!(revocations.classes, [(ClassId(7), Timestamp(80))]);
}

async fn a_list_is_newer_than_the_one_before<S: RegistrarStore>(store: &S) {
    let list = |at: u64| ListRecord {
        issued_at: Timestamp(at),
        signed: at.to_be_bytes().to_vec(),
    };
    assert_eq!(store.list().await.unwrap(), None);
    store.save_list(&list(10)).await.unwrap();
    for old in [9, 10] {
        assert!(matches!(
            store.save_list(&list(old)).await,
            Err(RegistrarStoreError::ListBackwards { .. })
        ));
    }
    store.save_list(&list(11)).await.unwrap();
    assert_eq!(store.list().await.unwrap(), Some(list(11)));
}
