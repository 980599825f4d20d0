//! Cases for the bank's permits.

use protocol::channel::Timestamp as At;

use super::{
    channel_fixture::{NOW, admitted, bank_key, channel, client, permit, permit_request, sign_permit},
    *,
};
use crate::channel::{IssuedPermit, PermitQuota, PermitRequest};

/// A bank that signs with its first key.
async fn bank<B: Backend>() -> (B, B::Store) {
    let (place, store) = fresh_channels::<B>().await;
    assert!(store.use_bank_key(0, bank_key(0).address()).await.unwrap());
    (place, store)
}

async fn issue(store: &impl Store, request: PermitRequest) -> Result<IssuedPermit> {
    store.issue_permit(request, sign_permit(0)).await
}

/// The same terms get the same bytes, whenever they come; nothing is signed.
pub async fn permit_is_issued_once<B: Backend>() {
    let (place, store) = bank::<B>().await;
    let IssuedPermit::Fresh(first) = issue(&store, permit_request(0, 0, 0)).await.unwrap() else {
        panic!("it is new");
    };
    assert_eq!(
        (&first.admitted, first.generation, first.epoch),
        (&admitted(0, 0), 0, 0)
    );
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    // Later, and with another reputation.
    let mut fields = permit(0, 0, 0).fields().clone();
    fields.issuedAt += 60;
    fields.clientReputation = 99;
    let later = PermitRequest {
        permit: protocol::channel::Permit::new(&channel_fixture::domain(), fields),
        ..permit_request(0, 0, 0)
    };
    let again = store.issue_permit(later, |_| panic!("signed a second one")).await;
    assert_eq!(again.unwrap(), IssuedPermit::Existing(first.clone()));
    assert_eq!(
        store.permits_of(channel(0)).await.unwrap(),
        std::slice::from_ref(&first)
    );
    assert_eq!(store.permits_of(channel(1)).await.unwrap(), []);
    let second = issue(&store, permit_request(1, 0, 0))
        .await
        .unwrap()
        .into_record();
    let all = store.permits(None, 9).await.unwrap();
    assert_eq!(all, [second.clone(), first.clone()]);
    assert_eq!(store.permits(None, 1).await.unwrap(), [second]);
    assert_eq!(store.permits(Some(client(0)), 9).await.unwrap().len(), 2);
    assert_eq!(store.permits(Some(client(2)), 9).await.unwrap(), []);
}

/// A channel has one permit, for ever; the refusal says what differs.
pub async fn permit_with_other_terms_is_refused<B: Backend>() {
    let (_place, store) = bank::<B>().await;
    let _ = issue(&store, permit_request(0, 0, 0)).await.unwrap();
    let (stored, other) = (permit(0, 0, 0), permit(0, 0, 5));
    let result = store
        .issue_permit(permit_request(0, 0, 5), |_| panic!("signed"))
        .await;
    refused!(
        result,
        StoreError::PermitExists { generation: 0, field: "expiry", got, stored: had, .. }
            if got == other.expiry().to_string() && had == stored.expiry().to_string()
    );
    let mut tasks = Vec::new();
    for variant in 0..20 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            match issue(&store, permit_request(1, 0, variant)).await {
                Ok(issued) => Some(issued.into_record().admitted),
                Err(StoreError::PermitExists { .. }) => None,
                Err(error) => panic!("{error}"),
            }
        }));
    }
    let mut issued = Vec::new();
    for task in tasks {
        issued.extend(task.await.unwrap());
    }
    assert_eq!(issued.len(), 1, "two permits for one channel");
}

/// Generations come one after the other, and each of them once.
pub async fn top_ups_have_permits_of_their_own<B: Backend>() {
    let (_place, store) = bank::<B>().await;
    refused!(
        issue(&store, permit_request(0, 1, 0)).await,
        StoreError::PermitGap { got: 1, next: 0, .. }
    );
    for generation in 0..3 {
        let issued = issue(&store, permit_request(0, generation, 0)).await.unwrap();
        assert!(matches!(issued, IssuedPermit::Fresh(_)));
    }
    refused!(
        issue(&store, permit_request(0, 4, 0)).await,
        StoreError::PermitGap { got: 4, next: 3, .. }
    );
    refused!(
        issue(&store, permit_request(0, 1, 7)).await,
        StoreError::PermitExists { generation: 1, .. }
    );
    let permits = store.permits_of(channel(0)).await.unwrap();
    let signed: Vec<_> = permits.iter().map(|record| record.admitted.clone()).collect();
    assert_eq!(signed, [admitted(0, 0), admitted(0, 1), admitted(0, 2)]);
}

/// Counted with the permit, so that no two of them see the same number.
pub async fn permits_of_a_client_are_limited<B: Backend>() {
    let (_place, store) = bank::<B>().await;
    let limited = |c: u64, since: u64| PermitRequest {
        quota: Some(PermitQuota {
            since: At(NOW.0 + since),
            limit: 1,
        }),
        ..permit_request(c, 0, 0)
    };
    let _ = issue(&store, limited(0, 0)).await.unwrap();
    refused!(
        issue(&store, limited(1, 0)).await,
        StoreError::PermitQuota { client: refused, issued: 1, limit: 1, since } if refused == client(1) && since == NOW
    );
    let _ = issue(&store, limited(0, 0)).await.unwrap();
    let _ = issue(&store, limited(2, 0)).await.unwrap();
    let _ = issue(&store, limited(1, 1)).await.unwrap();
}

/// An epoch has one key, and only the newest signs. What was signed before stays.
pub async fn bank_keys_are_kept_by_epoch<B: Backend>() {
    let (place, store) = fresh_channels::<B>().await;
    refused!(
        issue(&store, permit_request(0, 0, 0)).await,
        StoreError::BankKeyMissing
    );
    let (first, second) = (bank_key(0).address(), bank_key(1).address());
    assert!(store.use_bank_key(0, first).await.unwrap());
    assert!(!store.use_bank_key(0, first).await.unwrap());
    let old = issue(&store, permit_request(0, 0, 0))
        .await
        .unwrap()
        .into_record();
    refused!(
        store.use_bank_key(0, second).await,
        StoreError::BankKeyTaken { epoch: 0, got, stored } if got == second && stored == first
    );
    assert!(store.use_bank_key(3, second).await.unwrap());
    assert!(!store.use_bank_key(0, first).await.unwrap());
    refused!(
        store.use_bank_key(2, first).await,
        StoreError::BankEpochBackwards { got: 2, newest: 3 }
    );
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    assert_eq!(store.bank_keys().await.unwrap(), [(0, first), (3, second)]);
    refused!(
        issue(&store, permit_request(1, 0, 0)).await,
        StoreError::PermitSignedOther { field: "signer", signed, asked, .. }
            if signed == first.to_string() && asked == second.to_string()
    );
    let other = store
        .issue_permit(permit_request(1, 0, 0), |_| {
            permit(1, 0, 9).sign(channel_fixture::bank(), &bank_key(1))
        })
        .await;
    refused!(other, StoreError::PermitSignedOther { field: "digest", .. });
    let panicked = store
        .issue_permit(permit_request(1, 0, 0), |_| panic!("expected by the test"))
        .await;
    refused!(panicked, StoreError::PermitSignPanicked(id) if id == channel(1));
    assert_eq!(store.permits_of(channel(1)).await.unwrap(), []);
    let new = store
        .issue_permit(permit_request(1, 0, 0), sign_permit(1))
        .await
        .unwrap();
    assert_eq!(new.record().epoch, 3);
    let again = issue(&store, permit_request(0, 0, 0)).await.unwrap();
    assert_eq!(again, IssuedPermit::Existing(old));
}
