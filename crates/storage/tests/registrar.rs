//! A registrar's store: the suite on both backends, and what only a file can show.
#![allow(clippy::unwrap_used, reason = "tests")]

use alloy_primitives::Address;
use micropay_storage::offline::registrar::{
    MemoryRegistrarStore, RegistrarIdentity, RegistrarStore as _, RegistrarStoreError, SqliteRegistrarStore,
    conformance,
};
use protocol::offline::{ClassId, Timestamp};

fn identity() -> RegistrarIdentity {
    RegistrarIdentity {
        chain_id: 31337,
        contract: Address::repeat_byte(0xcc),
        registrar: Address::repeat_byte(0xaa),
    }
}

#[tokio::test]
async fn memory_conforms() {
    conformance::registrar(&MemoryRegistrarStore::default()).await;
}

#[tokio::test]
async fn sqlite_conforms_and_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registrar.db");
    let store = SqliteRegistrarStore::open(&path, identity()).await.unwrap();
    conformance::registrar(&store).await;
    let revocations = store.revocations().await.unwrap();
    // Without a close: what was answered is in the file.
    let again = SqliteRegistrarStore::open(&path, identity()).await.unwrap();
    assert_eq!(again.revocations().await.unwrap(), revocations);
    again.kill_class(ClassId(1), Timestamp(5)).await.unwrap();
    assert_eq!(store.revocations().await.unwrap().classes.len(), 2);
}

#[tokio::test]
async fn another_registrar_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registrar.db");
    SqliteRegistrarStore::open(&path, identity())
        .await
        .unwrap()
        .close()
        .await;
    let other = RegistrarIdentity {
        chain_id: 1,
        ..identity()
    };
    assert!(matches!(
        SqliteRegistrarStore::open(&path, other).await,
        Err(RegistrarStoreError::OtherRegistrar { .. })
    ));
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registrar.db");
    SqliteRegistrarStore::open(&path, identity()).await.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}
