//! What happens to a store on a server: restarts, broken and silent connections, other processes, other databases, damage.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is to stop them where it happens"
)]

mod proxy;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use alloy_primitives::B256;
use micropay_storage::{
    Budget, ClaimStore, FleetStore, Issue, MirrorStore, OrderFilter, OrderRequest, OrderStore, Owner, Part,
    PostgresStore, SeedStore, StoreError, StoreIdentity, WinFilter, WinState, WinStore,
    channel::{ChannelDomainStore, ClientChannelStore, VendorChannelStore},
    conformance::{
        channel_fixture,
        fixture::{block, escrow, identity, issue, order, record, request, sign, transaction, win},
        postgres::PostgresCluster,
    },
};
use protocol::ticket::{Amount, Nonce, OrderId, Seed, Timestamp};
use sqlx::{AssertSqlSafe, Row, migrate::Migrator};
use tokio::task::JoinSet;

use self::proxy::{Mode, Proxy};

const AT: Timestamp = Timestamp(1);
const ORDER: OrderId = OrderId(B256::repeat_byte(0x0d));
const ACCOUNT: &str = "agent";

async fn database() -> String {
    PostgresCluster::shared().database().await
}

async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(url, identity()).await.unwrap()
}

async fn run(url: &str, sql: &str) {
    let mut connection = PostgresCluster::connect(url).await;
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
}

/// What was promised, and how much of it since the last restart.
#[derive(Clone, Default)]
struct Promised {
    tickets: BTreeMap<u64, (Nonce, B256)>,
    wins: BTreeSet<B256>,
    claimed: BTreeSet<B256>,
}

/// Asks again until the answer is not that it may work in a moment.
macro_rules! insist {
    ($met:expr, $ask:expr) => {
        loop {
            match $ask.await {
                Err(error) if error.retry() => {
                    $met.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                answer => break answer,
            }
        }
    };
}

async fn pay(store: PostgresStore, lane: u64, met: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Promised {
    let mut promised = Promised::default();
    for n in lane * 1_000_000.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let charged = OrderRequest {
            budgets: vec![Budget {
                account: ACCOUNT.to_owned(),
                limit: Amount(u128::MAX),
            }],
            ..request(n, lane)
        };
        let sign = move |nonce| issue(n, lane, nonce);
        let issued: Issue = insist!(met, store.issue(charged.clone(), sign)).unwrap();
        let ticket = issued.into_record().ticket;
        promised.tickets.insert(n, (ticket.nonce(), ticket.digest()));
    }
    promised
}

async fn collect(store: PostgresStore, lane: u64, met: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Promised {
    let mut promised = Promised::default();
    for n in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let ticket = win(lane, n, 0);
        let digest = ticket.digest();
        insist!(met, store.save_win(&ticket, ORDER, Amount(1), AT)).unwrap();
        promised.wins.insert(digest);
        insist!(met, store.mark_delivered(digest)).unwrap();
        if n % 4 == 0 {
            match insist!(met, store.queue(&[digest], AT)) {
                Ok(_) => {}
                // The answer that it was queued was lost.
                Err(StoreError::WinMove {
                    from: WinState::Queued(_),
                    ..
                }) => {}
                Err(error) => panic!("{error}"),
            }
            promised.claimed.insert(digest);
        }
    }
    promised
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_promised_is_lost_when_the_server_restarts() {
    let cluster = Arc::new(PostgresCluster::start());
    let url = cluster.database().await;
    let store = open(&url).await;
    let (met, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    const TERMINATED: u32 = 2;
    let mut tasks = JoinSet::new();
    for lane in 0..4 {
        tasks.spawn(pay(store.clone(), lane, met.clone(), stop.clone()));
        tasks.spawn(collect(store.clone(), lane, met.clone(), stop.clone()));
    }
    for round in 0..4 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = met.load(Ordering::Relaxed);
        if round == TERMINATED {
            // As an administrator does.
            run(
                &url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                     AND datname = current_database()",
            )
            .await;
        } else {
            let cluster = cluster.clone();
            tokio::task::spawn_blocking(move || cluster.restart())
                .await
                .unwrap();
        }
        let writes = store.stats().writes;
        let start = Instant::now();
        while store.stats().writes < writes + 100 {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "round {round}: the store does not go on"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Connections may end between two transactions, and then nobody need know.
        assert!(
            round == TERMINATED || met.load(Ordering::Relaxed) > before,
            "round {round}: nobody noticed"
        );
    }
    stop.store(true, Ordering::Relaxed);
    let mut promised = Promised::default();
    while let Some(lane) = tasks.join_next().await {
        let lane = lane.unwrap();
        promised.tickets.extend(lane.tickets);
        promised.wins.extend(lane.wins);
        promised.claimed.extend(lane.claimed);
    }

    // Through the old handle, and as after a restart of the merchant.
    check(&store, &promised).await;
    store.close().await.unwrap();
    check(&open(&url).await, &promised).await;
    println!(
        "{} tickets, {} winners, {} of them in claims, {} answers said: in a moment",
        promised.tickets.len(),
        promised.wins.len(),
        promised.claimed.len(),
        met.load(Ordering::Relaxed)
    );
}

async fn check(store: &PostgresStore, promised: &Promised) {
    let orders = store.orders(OrderFilter::default()).await.unwrap();
    let stored: BTreeMap<_, _> = orders
        .iter()
        .map(|order| (order.id, (order.ticket.nonce(), order.ticket.digest())))
        .collect();
    for (n, ticket) in &promised.tickets {
        assert_eq!(stored.get(&order(*n)), Some(ticket), "order {n}");
    }
    for lane in 0..4 {
        let nonces = orders
            .iter()
            .filter(|order| order.ticket.escrow() == escrow(lane));
        let next = store.next_nonce(escrow(lane)).await.unwrap().0;
        assert!(
            nonces.map(|order| order.ticket.nonce().0).eq(1..next),
            "a nonce was given out twice, or taken without a ticket"
        );
    }
    let worth = store.order_totals(None).await.unwrap().all().unwrap().price;
    assert_eq!(
        store.spent(ACCOUNT).await.unwrap(),
        worth,
        "charged once per ticket"
    );
    let wins = store.wins(WinFilter::default()).await.unwrap();
    let stored: BTreeSet<_> = wins.iter().map(|win| win.ticket.digest()).collect();
    assert!(stored.is_superset(&promised.wins), "a winner was lost");
    for win in wins {
        let claimed = promised.claimed.contains(&win.ticket.digest());
        assert_eq!(claimed, win.claim.is_some(), "{}", win.ticket.digest());
    }
}

/// Nobody was asked anything while the server was away, so nobody need know.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn restart_between_requests_goes_unseen() {
    let cluster = Arc::new(PostgresCluster::start());
    let store = open(&cluster.database().await).await;
    store.save_win(&win(0, 1, 0), ORDER, Amount(1), AT).await.unwrap();
    assert_eq!(store.unclaimed(escrow(0)).await.unwrap(), 1);
    let control = cluster.clone();
    tokio::task::spawn_blocking(move || control.restart())
        .await
        .unwrap();
    assert!(store.save_win(&win(0, 2, 0), ORDER, Amount(1), AT).await.unwrap());
    assert_eq!(store.unclaimed(escrow(0)).await.unwrap(), 2);

    // Away for longer: whoever asks is told to come again.
    let control = cluster.clone();
    tokio::task::spawn_blocking(move || control.stop()).await.unwrap();
    let away = store
        .save_win(&win(0, 3, 0), ORDER, Amount(1), AT)
        .await
        .unwrap_err();
    assert!(away.retry(), "{away}");
    let away = store.unclaimed(escrow(0)).await.unwrap_err();
    assert!(away.retry(), "{away}");
    tokio::task::spawn_blocking({
        let cluster = cluster.clone();
        move || cluster.resume()
    })
    .await
    .unwrap();
    assert!(store.save_win(&win(0, 3, 0), ORDER, Amount(1), AT).await.unwrap());
}

/// The commit was made, and the caller does not know: it is told to ask again, which is safe.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lost_answer_to_a_commit_is_to_be_asked_again() {
    let url = database().await;
    let proxy = Proxy::start(PostgresCluster::shared().port()).await;
    let store = open(&proxy.url(&url)).await;
    proxy.set(Mode::CutAtCommit);
    let ticket = win(0, 1, 0);
    let error = store.save_win(&ticket, ORDER, Amount(1), AT).await.unwrap_err();
    assert!(error.retry(), "{error}");
    assert_eq!(proxy.cuts(), 1);
    proxy.set(Mode::Pass);
    assert!(
        !store.save_win(&ticket, ORDER, Amount(1), AT).await.unwrap(),
        "it was stored"
    );

    // The same for a ticket: one order, one nonce.
    let store = open(&proxy.url(&url)).await;
    proxy.set(Mode::CutAtCommit);
    let error = store.issue(request(1, 0), sign(1, 0)).await.unwrap_err();
    assert!(error.retry(), "{error}");
    assert_eq!(proxy.cuts(), 2);
    proxy.set(Mode::Pass);
    let again = store
        .issue(request(1, 0), |_| panic!("signed twice"))
        .await
        .unwrap();
    assert_eq!(again.record().ticket, issue(1, 0, Nonce(1)));
}

/// A server, or the network before it, that says nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn silent_server_is_given_up_in_time() {
    let url = database().await;
    let proxy = Proxy::start(PostgresCluster::shared().port()).await;
    let store = open(&proxy.url(&url)).await;
    store.floors().await.unwrap();
    proxy.set(Mode::Silent);
    let start = Instant::now();
    let ticket = win(0, 1, 0);
    let (written, read) = tokio::join!(store.save_win(&ticket, ORDER, Amount(1), AT), store.floors());
    for error in [written.map(drop).unwrap_err(), read.map(drop).unwrap_err()] {
        assert!(error.retry(), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(45), "{:?}", start.elapsed());
    proxy.set(Mode::Pass);
    store.save_win(&ticket, ORDER, Amount(1), AT).await.unwrap();
    assert!(store.floors().await.unwrap().is_empty());
}

/// Another process that holds the lock and does not go on.
#[tokio::test]
async fn sleeping_process_does_not_block_the_others_for_ever() {
    let url = database().await;
    let store = open(&url).await;
    let mut sleeper = PostgresCluster::connect(&url).await;
    sqlx::raw_sql("BEGIN; SELECT pg_advisory_xact_lock(1297105241, hashtext(current_schema()))")
        .execute(&mut sleeper)
        .await
        .unwrap();
    let error = store.next_boot().await.unwrap_err();
    assert!(error.retry(), "{error}");
    drop(sleeper);
    assert_eq!(store.next_boot().await.unwrap(), 1);
}

/// As two processes have it: each with its own writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_share_nonces_and_claims() {
    let url = database().await;
    // Both create it at the same time.
    let (a, b) = tokio::join!(
        PostgresStore::open(&url, identity()),
        PostgresStore::open(&url, identity())
    );
    let stores = [a.unwrap(), b.unwrap()];
    let mut tasks = JoinSet::new();
    for n in 0..60u64 {
        // Every order twice, once through each.
        for store in stores.clone() {
            tasks.spawn(async move {
                let issued = store.issue(request(n, 0), sign(n, 0)).await.unwrap();
                issued.into_record().ticket
            });
        }
    }
    let mut tickets = BTreeMap::<Nonce, Vec<_>>::new();
    while let Some(ticket) = tasks.join_next().await {
        let ticket = ticket.unwrap();
        tickets.entry(ticket.nonce()).or_default().push(ticket);
    }
    assert!(tickets.keys().copied().eq((1..=60).map(Nonce)));
    assert!(tickets.values().all(|pair| pair.len() == 2 && pair[0] == pair[1]));

    // One claims while the other takes tickets: whatever it took, it can claim, or it was refused.
    let mut tasks = JoinSet::new();
    for nonce in 1..=40 {
        let store = stores[0].clone();
        tasks.spawn(async move {
            match store.save_win(&win(0, nonce, 0), ORDER, Amount(1), AT).await {
                Ok(new) => assert!(new),
                Err(StoreError::BelowFloor {
                    nonce: got, floor, ..
                }) => {
                    assert!(got == Nonce(nonce) && got <= floor);
                }
                Err(error) => panic!("{error}"),
            }
        });
    }
    let mut last = Nonce(0);
    while !tasks.is_empty() {
        let wins = stores[1].wins(micropay_storage::WinStage::Won).await.unwrap();
        for win in &wins {
            assert!(
                win.ticket.nonce() > last,
                "a winner below the floor {last} was taken"
            );
        }
        if !wins.is_empty() {
            let digests: Vec<_> = wins.iter().map(|win| win.ticket.digest()).collect();
            stores[1].queue(&digests, AT).await.unwrap();
            last = stores[1].floors().await.unwrap()[0].1;
        }
        while let Some(done) = tasks.try_join_next() {
            done.unwrap();
        }
    }
    let ticket = win(1, 1, 0);
    let saved = tokio::join!(
        stores[0].save_win(&ticket, ORDER, Amount(1), AT),
        stores[1].save_win(&ticket, ORDER, Amount(1), AT)
    );
    assert!(saved.0.unwrap() != saved.1.unwrap(), "new once");
    let wins = [ticket.digest()];
    let claimed = tokio::join!(stores[0].queue(&wins, AT), stores[1].queue(&wins, AT));
    assert!(claimed.0.is_ok() != claimed.1.is_ok(), "claimed once");
}

/// Two stores in one database, each in a schema of its own.
#[tokio::test]
async fn schemas_are_stores_of_their_own() {
    let url = database().await;
    run(&url, "CREATE SCHEMA a; CREATE SCHEMA b").await;
    let payer = StoreIdentity {
        owner: Owner::Payer,
        ..identity()
    };
    let a = PostgresStore::open(&format!("{url}?options=-csearch_path=a"), identity())
        .await
        .unwrap();
    let b = PostgresStore::open(&format!("{url}?options=-csearch_path=b"), payer)
        .await
        .unwrap();
    assert_eq!(a.next_boot().await.unwrap(), 1);
    assert_eq!(a.next_boot().await.unwrap(), 2);
    assert_eq!(b.next_boot().await.unwrap(), 1);
    assert_eq!(PostgresStore::identity_of(&url).await.unwrap(), None);
    assert!(!format!("{b:?}").is_empty());
}

#[tokio::test]
async fn identity_can_be_read_without_knowing_it() {
    let url = database().await;
    assert_eq!(PostgresStore::identity_of(&url).await.unwrap(), None);
    let payer = StoreIdentity {
        owner: Owner::Payer,
        ..identity()
    };
    PostgresStore::open(&url, payer)
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    assert_eq!(PostgresStore::identity_of(&url).await.unwrap(), Some(payer));
    assert!(matches!(
        PostgresStore::open(&url, identity()).await,
        Err(StoreError::OtherStore(_))
    ));
}

#[tokio::test]
async fn foreign_database_is_refused_untouched() {
    let url = database().await;
    run(&url, "CREATE TABLE photos (a BIGINT)").await;
    match PostgresStore::open(&url, identity()).await {
        Err(StoreError::ForeignTable(table)) => assert_eq!(table, "photos"),
        other => panic!("{other:?}"),
    }
    let mut connection = PostgresCluster::connect(&url).await;
    let tables = sqlx::query("SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'");
    let tables: i64 = tables.fetch_one(&mut connection).await.unwrap().get(0);
    assert_eq!(tables, 1);
    for nowhere in [url.replace("store", "no_such_store"), "postgres//typo".to_owned()] {
        let error = PostgresStore::open(&nowhere, identity()).await.unwrap_err();
        assert!(!error.retry(), "{error}");
    }
}

/// A store of the time before channels: migrated, with all that was in it.
#[tokio::test]
async fn older_store_gets_the_tables_of_channels() {
    let url = database().await;
    let first = sqlx::migrate!("migrations/postgres")
        .iter()
        .next()
        .unwrap()
        .clone();
    let mut connection = PostgresCluster::connect(&url).await;
    let before = Migrator::with_migrations(vec![first]);
    before.run(&mut connection).await.unwrap();
    let (chain, contract) = (identity().domain.chain_id(), identity().domain.contract());
    let Owner::Merchant(merchant) = identity().owner else {
        panic!("the suite's stores are a merchant's")
    };
    sqlx::query("INSERT INTO store VALUES (1, $1, $2, $3)")
        .bind(chain.to_be_bytes().to_vec())
        .bind(contract.to_vec())
        .bind(merchant.to_vec())
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(PostgresStore::identity_of(&url).await.unwrap(), Some(identity()));
    let bank = StoreIdentity::bank(chain, contract, merchant);
    assert!(matches!(
        PostgresStore::open(&url, bank).await,
        Err(StoreError::OtherStore(_))
    ));
    let store = open(&url).await;
    store.use_channels(channel_fixture::domain()).await.unwrap();
    let new = channel_fixture::new_channel(0);
    assert!(store.save_client_channel(&new).await.unwrap());
    store.close().await.unwrap();
}

/// Two gateways, one channel: whoever is second has to look again.
#[tokio::test]
async fn payments_through_two_processes_take_turns() {
    let url = database().await;
    let stores = [open(&url).await, open(&url).await];
    for store in &stores {
        store.use_channels(channel_fixture::domain()).await.unwrap();
    }
    let state = channel_fixture::opened(0);
    let [one, other] = [0, 1].map(|variant| channel_fixture::accepted(&state, 0, 1, variant, false));
    let (a, b) = tokio::join!(
        stores[0].save_payment(&one, ORDER, Amount(1), AT),
        stores[1].save_payment(&other, ORDER, Amount(1), AT)
    );
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    let stale = a.and(b).unwrap_err();
    assert!(matches!(stale, StoreError::PaymentStale { .. }), "{stale}");
    let record = stores[1]
        .vendor_channel(channel_fixture::channel(0))
        .await
        .unwrap()
        .unwrap();
    let next = channel_fixture::accepted(&record.restore(state), 0, 2, 0, true);
    assert!(stores[1].save_payment(&next, ORDER, Amount(1), AT).await.unwrap());
}

#[tokio::test]
async fn newer_schema_is_refused_with_both_versions() {
    let url = database().await;
    open(&url).await.close().await.unwrap();
    run(
        &url,
        "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
         VALUES (900, 'later', now(), true, '', 0)",
    )
    .await;
    match PostgresStore::open(&url, identity()).await {
        Err(StoreError::NewerSchema { got: 900, known: 3 }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn password_is_never_shown() {
    let url = database().await.replace("micropay@", "micropay:secret@");
    let store = open(&url).await;
    let shown = format!("{store:?}");
    assert!(
        shown.contains("127.0.0.1") && !shown.contains("secret"),
        "{shown}"
    );
    let nowhere = url.replace("127.0.0.1", "secret.invalid:nonsense@");
    let error = PostgresStore::open(&nowhere, identity()).await.unwrap_err();
    assert!(!error.to_string().contains("micropay:secret"), "{error}");
}

/// Constraints refuse most damage; what they let through is found when it is read.
#[tokio::test]
async fn damaged_row_is_an_error_that_names_it() {
    let url = database().await;
    let store = open(&url).await;
    store.seed_or_insert(Seed::new([1; 32])).await.unwrap();
    let _ = store.issue(request(1, 0), sign(1, 0)).await.unwrap();
    store.save_win(&win(0, 1, 0), ORDER, Amount(1), AT).await.unwrap();
    let claim = store.queue(&[win(0, 1, 0).digest()], AT).await.unwrap();
    store.add_transaction(claim, &transaction(1)).await.unwrap();
    store.mined(claim, transaction(1).hash, block(1)).await.unwrap();
    store
        .beat(1, 0, Duration::from_secs(3600), Part::MayClaim)
        .await
        .unwrap();
    store
        .save_mirror(block(1), &[(escrow(0), record(0))].into())
        .await
        .unwrap();
    let read_all = async || {
        store.orders(OrderFilter::default()).await?;
        store.wins(WinFilter::default()).await?;
        store.claims(9).await?;
        store.load_mirror().await?;
        store.next_boot().await?;
        Ok::<_, StoreError>(())
    };
    read_all().await.unwrap();
    let win_row = win(0, 1, 0).digest().to_string();
    let order_row = order(1).0.to_string();
    let escrow_row = format!("{:#x}", escrow(0));
    for (damage, repair, table, row, column) in [
        (
            "UPDATE orders SET expiry = decode('00000000000000ff', 'hex')",
            "UPDATE orders SET expiry = decode('000000006b4b2380', 'hex')",
            "orders",
            &order_row,
            "digest",
        ),
        (
            "ALTER TABLE wins DROP CONSTRAINT wins_boot_check; UPDATE wins SET boot = ''",
            "UPDATE wins SET boot = decode('ffffffffffffffff', 'hex')",
            "wins",
            &win_row,
            "boot",
        ),
        (
            "UPDATE mirror_escrows SET record = '{}'",
            "DELETE FROM mirror_escrows",
            "mirror_escrows",
            &escrow_row,
            "record",
        ),
        (
            "UPDATE session SET boot = decode('ffffffffffffffff', 'hex')",
            "UPDATE session SET boot = decode('0000000000000007', 'hex')",
            "session",
            &"1".to_owned(),
            "boot",
        ),
        (
            "ALTER TABLE claims DROP CONSTRAINT claims_state_check, DROP CONSTRAINT claims_check; UPDATE claims SET state = 'gone'",
            "UPDATE claims SET state = 'mined'",
            "claims",
            &"1".to_owned(),
            "state",
        ),
    ] {
        run(&url, damage).await;
        match read_all().await {
            Err(StoreError::Corrupt {
                table: t,
                row: r,
                column: c,
                problem,
            }) => assert_eq!(
                (t, r.as_str(), c),
                (table, row.as_str(), column),
                "{damage}: {problem}"
            ),
            other => panic!("{damage}: {other:?}"),
        }
        run(&url, repair).await;
        read_all().await.unwrap();
    }
}

#[test]
fn futures_can_be_spawned() {
    fn send<T: Send>(_: T) {}
    send(PostgresStore::open("never", identity()));
}
