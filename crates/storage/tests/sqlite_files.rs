//! What SQLite files can look like: shared, foreign, newer, damaged.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is to stop them where it happens"
)]

use std::{fs, path::Path, time::Duration};

use alloy_primitives::Address;
use micropay_storage::{
    Budget, ClaimStore, FleetStore, MirrorStore, OrderFilter, OrderRequest, OrderStore, Owner, Part, Result,
    SeedStore, SqliteStore, StoreError, StoreIdentity, WinFilter, WinStore,
    channel::{
        BankStore, ChannelDomainStore, ChannelMirrorStore, ClientChannelFilter, ClientChannelStore,
        PaymentState, SettlementMove, SettlementStep, SettlementStore, VendorChannelStore,
    },
    conformance::{
        channel_fixture::{self, channel},
        fill_wallet,
        fixture::{block, escrow, identity, order, record, request, sign, transaction, win},
        read_wallet, wallet_identity,
    },
};
use protocol::{
    channel::Index,
    ticket::{Amount, Nonce, OrderId, Seed, Timestamp},
};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection, migrate::Migrator, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

const AT: Timestamp = Timestamp(1);
const ORDER: OrderId = OrderId(alloy_primitives::B256::repeat_byte(0x0d));

fn place() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    (folder, file)
}

/// A store with a row in every table.
async fn filled(file: &Path) {
    let store = SqliteStore::open(file, identity()).await.unwrap();
    store.seed_or_insert(Seed::new([1; 32])).await.unwrap();
    store.next_boot().await.unwrap();
    let charged = OrderRequest {
        budgets: vec![budget()],
        ..request(1, 0)
    };
    let _ = store.issue(charged, sign(1, 0)).await.unwrap();
    store
        .beat(1, 0, Duration::from_secs(3600), Part::MayClaim)
        .await
        .unwrap();
    store.save_win(&win(0, 1, 0), ORDER, Amount(1), AT).await.unwrap();
    let claim = store.queue(&[win(0, 1, 0).digest()], AT).await.unwrap();
    store.add_transaction(claim, &transaction(1)).await.unwrap();
    store.mined(claim, transaction(1).hash, block(1)).await.unwrap();
    store
        .save_mirror(block(1), &[(escrow(0), record(0))].into())
        .await
        .unwrap();
    fill_channels(&store).await;
    store.close().await.unwrap();
}

async fn fill_channels(store: &SqliteStore) {
    store.use_channels(channel_fixture::domain()).await.unwrap();
    let records = [(channel(0), channel_fixture::full_record(1))].into();
    store.save_channel_mirror(block(1), &records).await.unwrap();
    store
        .save_client_channel(&channel_fixture::new_channel(0))
        .await
        .unwrap();
    for n in 1..3 {
        let request = channel_fixture::pay_request(n, 0, 1);
        let paid = store
            .pay(request, channel_fixture::sign_payment(n, 0, 1))
            .await
            .unwrap();
        let order = paid.record().order;
        store
            .resolve_payment(order, PaymentState::Delivered)
            .await
            .unwrap();
    }
    let taken = channel_fixture::accepted(&channel_fixture::opened(0), 0, 1, 0, false);
    store.save_payment(&taken, ORDER, Amount(10), AT).await.unwrap();
    store
        .save_checkpoint(&channel_fixture::checkpoint(0, 1, 0))
        .await
        .unwrap();
    store
        .save_opening(&channel_fixture::opening(0, 1, 1))
        .await
        .unwrap();
    let id = store
        .queue_settlement(SettlementStep::Close, &[(channel(0), Index(1))], AT)
        .await
        .unwrap();
    store
        .add_settlement_transaction(id, &transaction(9))
        .await
        .unwrap();
    let mined = SettlementMove::Mined {
        hash: transaction(9).hash,
        block: block(1),
    };
    store.move_settlement(id, mined).await.unwrap();
    store
        .use_bank_key(0, channel_fixture::bank_key(0).address())
        .await
        .unwrap();
    let _ = store
        .issue_permit(
            channel_fixture::permit_request(0, 0, 0),
            channel_fixture::sign_permit(0),
        )
        .await
        .unwrap();
}

fn budget() -> Budget {
    Budget {
        account: "agent".to_owned(),
        limit: Amount(u128::MAX),
    }
}

async fn raw(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .foreign_keys(false);
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn run(file: &Path, sql: &str) {
    let mut connection = raw(file).await;
    sqlx::query("PRAGMA ignore_check_constraints = ON")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

/// Reads everything, and returns the first error.
async fn read_all(file: &Path) -> Result<()> {
    let store = SqliteStore::open(file, identity()).await?;
    store.seed_or_insert(Seed::new([2; 32])).await?;
    store.next_boot().await?;
    store.order(order(1)).await?;
    store.orders(OrderFilter::default()).await?;
    store.order_totals(None).await?;
    store.raise_nonce(escrow(0), Nonce(1)).await?;
    store.floors().await?;
    store.spent("agent").await?;
    store
        .beat(1, 0, Duration::from_secs(3600), Part::MayClaim)
        .await?;
    store.acked(1, None).await?;
    store.claims(9).await?;
    store.unfinished_claims().await?;
    store.win(win(0, 1, 0).digest()).await?;
    store.wins(WinFilter::default()).await?;
    store.load_unfinished().await?;
    store.win_totals().await?;
    store.load_mirror().await?;
    store.use_channels(channel_fixture::domain()).await?;
    store.load_channel_mirror().await?;
    store.client_channels(ClientChannelFilter::default()).await?;
    store.client_payments(channel(0), Index(0)..=Index(9)).await?;
    store.client_payment_totals(None).await?;
    store.vendor_channels().await?;
    store.vendor_payments(channel(0), Index(0)..=Index(9)).await?;
    store.checkpoints(channel(0)).await?;
    store.vendor_totals().await?;
    store.settlements(9).await?;
    store.bank_keys().await?;
    store.permits(None, 9).await?;
    store.close().await
}

#[tokio::test]
async fn damaged_row_is_an_error_that_names_it() {
    let (_folder, file) = place();
    filled(&file).await;
    read_all(&file).await.unwrap();
    let sound = fs::read(&file).unwrap();
    // Each damage has a file of its own: a store that was dropped may still be closing the one before.
    let mut copies = 0;
    let mut copy = || {
        copies += 1;
        let copy = file.with_file_name(format!("copy{copies}.db"));
        fs::write(&copy, &sound).unwrap();
        copy
    };
    let order_row = order(1).0.to_string();
    let win_row = win(0, 1, 0).digest().to_string();
    let transaction_row = transaction(1).hash.to_string();
    let member_row = "0x0000000000000001".to_owned();
    let account_row = alloy_primitives::hex::encode_prefixed("agent");
    let escrow_row = format!("{:#x}", escrow(0));
    let digest = win_row.trim_start_matches("0x");
    let channel_row = channel(0).to_string();
    let payment_row = channel_fixture::pay_request(2, 0, 1).order.0.to_string();
    let settlement_row = transaction(9).hash.to_string();
    for (damage, table, row, column) in [
        (
            "UPDATE orders SET r2 = zeroblob(32)",
            "orders",
            &order_row,
            "digest",
        ),
        ("UPDATE orders SET nonce = x'01'", "orders", &order_row, "nonce"),
        (
            "UPDATE orders SET price = zeroblob(17)",
            "orders",
            &order_row,
            "price",
        ),
        (
            "UPDATE orders SET signature = zeroblob(65)",
            "orders",
            &order_row,
            "signature",
        ),
        ("UPDATE orders SET state = 'lost'", "orders", &order_row, "state"),
        (
            "UPDATE orders SET state = 'refused'",
            "orders",
            &order_row,
            "rule",
        ),
        (
            "UPDATE orders SET replaces = x''",
            "orders",
            &order_row,
            "replaces",
        ),
        ("UPDATE nonces SET next = x'ff'", "nonces", &escrow_row, "next"),
        (
            "UPDATE session SET seed = x'01'",
            "session",
            &"1".to_owned(),
            "seed",
        ),
        (
            "UPDATE session SET boot = x''",
            "session",
            &"1".to_owned(),
            "boot",
        ),
        ("UPDATE wins SET expiry = zeroblob(8)", "wins", &win_row, "digest"),
        ("UPDATE wins SET r1 = zeroblob(32)", "wins", &win_row, "r1"),
        ("UPDATE wins SET claim = -4", "wins", &win_row, "claim"),
        ("UPDATE wins SET paid = x'02'", "wins", &win_row, "paid"),
        ("UPDATE wins SET reason = x'01020304'", "wins", &win_row, "got"),
        ("UPDATE claims SET state = 'released'", "wins", &win_row, "claim"),
        (
            "UPDATE claims SET state = 'gone'",
            "claims",
            &"1".to_owned(),
            "state",
        ),
        (
            "UPDATE claims SET block_hash = NULL",
            "claims",
            &"1".to_owned(),
            "block_hash",
        ),
        (
            "UPDATE claims SET queued_at = zeroblob(0)",
            "claims",
            &"1".to_owned(),
            "queued_at",
        ),
        (
            "UPDATE transactions SET account_nonce = zeroblob(9)",
            "transactions",
            &transaction_row,
            "account_nonce",
        ),
        ("UPDATE floors SET nonce = x'00'", "floors", &escrow_row, "nonce"),
        ("UPDATE floors SET round = x'ff'", "floors", &escrow_row, "round"),
        ("UPDATE members SET acked = x''", "members", &member_row, "acked"),
        ("UPDATE spent SET amount = x'01'", "spent", &account_row, "amount"),
        (
            "UPDATE orders SET state = 'refused', rule = x'ff'",
            "orders",
            &order_row,
            "rule",
        ),
        ("UPDATE wins SET delivered = -1", "wins", &win_row, "delivered"),
        (
            "UPDATE mirror_cursor SET hash = x'00'",
            "mirror_cursor",
            &"1".to_owned(),
            "hash",
        ),
        (
            "UPDATE mirror_escrows SET record = '{}'",
            "mirror_escrows",
            &escrow_row,
            "record",
        ),
        (
            "UPDATE mirror_escrows SET record = replace(record, '\"balance\":\"0x', '\"balance\":\"0xffffffffffffffffffffffffff')",
            "mirror_escrows",
            &escrow_row,
            "record",
        ),
        (
            "UPDATE store SET chain_id = x'01'",
            "store",
            &"1".to_owned(),
            "chain_id",
        ),
        (
            "UPDATE store SET bank = merchant",
            "store",
            &"1".to_owned(),
            "bank",
        ),
        (
            "UPDATE channel_domain SET contract = x'00'",
            "channel_domain",
            &"1".to_owned(),
            "contract",
        ),
        (
            "UPDATE channel_cursor SET number = x''",
            "channel_cursor",
            &"1".to_owned(),
            "number",
        ),
        (
            "UPDATE channel_mirror SET record = replace(record, '\"sigma0\":\"0x', '\"sigma0\":\"0xff')",
            "channel_mirror",
            &channel_row,
            "record",
        ),
        (
            "UPDATE channel_mirror SET record = '{\"client\":1}'",
            "channel_mirror",
            &channel_row,
            "record",
        ),
        (
            "UPDATE client_channels SET sigma = zeroblob(64)",
            "client_channels",
            &channel_row,
            "sigma",
        ),
        (
            "UPDATE client_channels SET acked = -1",
            "client_channels",
            &channel_row,
            "acked",
        ),
        (
            "UPDATE client_channels SET revealed = 4294967296",
            "client_channels",
            &channel_row,
            "revealed",
        ),
        (
            "UPDATE client_channels SET vendor = zeroblob(20)",
            "client_permits",
            &channel_row,
            "digest",
        ),
        (
            "DELETE FROM client_permits",
            "client_channels",
            &channel_row,
            "channel",
        ),
        (
            "UPDATE client_permits SET length = 41",
            "client_permits",
            &channel_row,
            "digest",
        ),
        (
            "UPDATE client_permits SET client_reputation = 256",
            "client_permits",
            &channel_row,
            "client_reputation",
        ),
        (
            "UPDATE client_payments SET idx = 3 WHERE idx = 2",
            "client_payments",
            &payment_row,
            "tag",
        ),
        (
            "UPDATE client_payments SET state = 'lost' WHERE idx = 2",
            "client_payments",
            &payment_row,
            "state",
        ),
        (
            "UPDATE client_payments SET rule = x'ff' WHERE idx = 2",
            "client_payments",
            &payment_row,
            "rule",
        ),
        (
            "UPDATE client_payments SET charged = x'ff' WHERE idx = 2",
            "client_payments",
            &payment_row,
            "charged",
        ),
        (
            "UPDATE vendor_channels SET phase = 'open'",
            "vendor_channels",
            &channel_row,
            "phase",
        ),
        (
            "UPDATE vendor_channels SET opener = x'00'",
            "vendor_channels",
            &channel_row,
            "opener",
        ),
        (
            "UPDATE vendor_payments SET lock = x''",
            "vendor_payments",
            &channel_row,
            "lock",
        ),
        (
            "UPDATE vendor_payments SET state = 'gone'",
            "vendor_payments",
            &channel_row,
            "state",
        ),
        (
            "UPDATE vendor_checkpoints SET signature = zeroblob(65)",
            "vendor_checkpoints",
            &channel_row,
            "signature",
        ),
        (
            "UPDATE settlements SET step = 'burn'",
            "settlements",
            &"1".to_owned(),
            "step",
        ),
        (
            "UPDATE settlements SET mined_hash = NULL",
            "settlements",
            &"1".to_owned(),
            "mined_hash",
        ),
        (
            "UPDATE settlement_items SET paid_at = 1",
            "settlement_items",
            &channel_row,
            "paid",
        ),
        (
            "UPDATE settlement_transactions SET sent_at = x''",
            "settlement_transactions",
            &settlement_row,
            "sent_at",
        ),
        (
            "UPDATE bank_keys SET address = x''",
            "bank_keys",
            &"0x0000000000000000".to_owned(),
            "address",
        ),
        (
            "UPDATE bank_permits SET unit = zeroblob(16)",
            "bank_permits",
            &channel_row,
            "digest",
        ),
    ] {
        let file = copy();
        run(&file, damage).await;
        match read_all(&file).await {
            Err(StoreError::Corrupt {
                table: t,
                row: r,
                column: c,
                problem,
            }) => {
                assert_eq!(
                    (t, r.as_str(), c),
                    (table, row.as_str(), column),
                    "{damage}: {problem}"
                );
            }
            other => panic!("{damage}: {other:?}"),
        }
    }
    // A digest that is not the ticket's.
    let file = copy();
    run(
        &file,
        &format!("UPDATE wins SET digest = zeroblob(32) WHERE digest = x'{digest}'"),
    )
    .await;
    assert!(matches!(
        read_all(&file).await,
        Err(StoreError::Corrupt {
            table: "wins",
            column: "digest",
            ..
        })
    ));
    // Pages that are no pages.
    for at in [100, 4096 + 100, sound.len() / 2] {
        let mut torn = sound.clone();
        torn[at..at + 2000].fill(0xa5);
        fs::write(&file, torn).unwrap();
        // A damaged page need not be one that is read; a panic would be the failure.
        let _ = read_all(&file).await;
    }
}

#[tokio::test]
async fn damaged_row_of_a_wallet_is_an_error_that_names_it() {
    let (_folder, file) = place();
    let store = SqliteStore::open(&file, wallet_identity(1)).await.unwrap();
    fill_wallet(&store).await;
    read_wallet(&store).await.unwrap();
    store.close().await.unwrap();
    let sound = fs::read(&file).unwrap();
    for (at, (damage, table, column)) in [
        (
            "UPDATE offline_wallet SET version = x'01'",
            "offline_wallet",
            "version",
        ),
        (
            "UPDATE offline_wallet SET payer = x'a0'",
            "offline_wallet",
            "payer",
        ),
        (
            "UPDATE offline_wallet SET payer = CAST(payer || x'00' AS BLOB)",
            "offline_wallet",
            "payer",
        ),
        (
            "UPDATE offline_invoices SET digest = zeroblob(32)",
            "offline_invoices",
            "digest",
        ),
        (
            "UPDATE offline_invoices SET transfer = zeroblob(32)",
            "offline_invoices",
            "transfer",
        ),
        (
            "UPDATE offline_invoices SET invoice = x''",
            "offline_invoices",
            "invoice",
        ),
        (
            "UPDATE offline_invoices SET state = 'lost'",
            "offline_invoices",
            "state",
        ),
        (
            "UPDATE offline_invoices SET state = 'waiting'",
            "offline_invoices",
            "transfer",
        ),
        (
            "UPDATE offline_invoices SET standing = 'gone'",
            "offline_invoices",
            "standing",
        ),
        (
            "UPDATE offline_invoices SET credited = invoice",
            "offline_invoices",
            "credited",
        ),
        (
            "UPDATE offline_invoices SET answer = x'a1'",
            "offline_invoices",
            "answer",
        ),
        (
            "UPDATE offline_outgoing SET transfer = zeroblob(32)",
            "offline_outgoing",
            "transfer",
        ),
        (
            "UPDATE offline_outgoing SET outgoing = x'00'",
            "offline_outgoing",
            "outgoing",
        ),
        (
            "UPDATE offline_outgoing SET state = 'sent'",
            "offline_outgoing",
            "state",
        ),
        (
            "UPDATE offline_outgoing SET acceptance = NULL",
            "offline_outgoing",
            "acceptance",
        ),
        (
            "UPDATE offline_deposits SET coin = zeroblob(32)",
            "offline_deposits",
            "coin",
        ),
        (
            "UPDATE offline_deposits SET imported_at = x''",
            "offline_deposits",
            "imported_at",
        ),
        (
            "UPDATE offline_history SET kind = 'lost'",
            "offline_history",
            "kind",
        ),
        (
            "UPDATE offline_history SET amount = x'01'",
            "offline_history",
            "amount",
        ),
        (
            "UPDATE offline_lists SET registrar = zeroblob(20)",
            "offline_lists",
            "registrar",
        ),
        ("UPDATE offline_lists SET list = x'00'", "offline_lists", "list"),
    ]
    .into_iter()
    .enumerate()
    {
        let copy = file.with_file_name(format!("copy{at}.db"));
        fs::write(&copy, &sound).unwrap();
        run(&copy, damage).await;
        let store = SqliteStore::open(&copy, wallet_identity(1)).await.unwrap();
        match read_wallet(&store).await {
            Err(StoreError::Corrupt {
                table: got_table,
                column: got_column,
                ..
            }) => assert_eq!((got_table, got_column), (table, column), "{damage}"),
            other => panic!("{damage}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn foreign_file_is_refused_untouched() {
    let (folder, file) = place();
    run(&file, "CREATE TABLE photos (a); PRAGMA application_id = 7").await;
    let before = fs::read(&file).unwrap();
    match SqliteStore::open(&file, identity()).await {
        Err(StoreError::NotAStore { got: 7, expected, .. }) => assert_eq!(expected.to_be_bytes(), *b"MPAY"),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read(&file).unwrap(), before);
    let text = folder.path().join("letter.txt");
    let letter = "Dear store, I am not a database. ".repeat(99);
    fs::write(&text, &letter).unwrap();
    assert!(matches!(
        SqliteStore::open(&text, identity()).await,
        Err(StoreError::Database { .. })
    ));
    assert_eq!(fs::read_to_string(&text).unwrap(), letter);
    let nowhere = folder.path().join("no/such/folder/store.db");
    assert!(matches!(
        SqliteStore::open(nowhere, identity()).await,
        Err(StoreError::Database { .. })
    ));
}

#[tokio::test]
async fn newer_schema_is_refused_with_both_versions() {
    let (_folder, file) = place();
    filled(&file).await;
    run(
        &file,
        "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
         VALUES (900, 'later', CURRENT_TIMESTAMP, 1, x'00', 0)",
    )
    .await;
    match SqliteStore::open(&file, identity()).await {
        Err(StoreError::NewerSchema { got: 900, known: 3 }) => {}
        other => panic!("{other:?}"),
    }
}

/// A store of the time before channels: migrated, with all that was in it.
#[tokio::test]
async fn older_store_gets_the_tables_of_channels() {
    let (_folder, file) = place();
    let first = sqlx::migrate!("migrations/sqlite").iter().next().unwrap().clone();
    let mut connection = raw(&file).await;
    sqlx::raw_sql("PRAGMA application_id = 1297105241")
        .execute(&mut connection)
        .await
        .unwrap();
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
    sqlx::query("INSERT INTO session VALUES (1, NULL, $1)")
        .bind(7_u64.to_be_bytes().to_vec())
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    assert_eq!(SqliteStore::identity_of(&file).await.unwrap(), Some(identity()));
    let bank = StoreIdentity::bank(chain, contract, merchant);
    assert!(matches!(
        SqliteStore::open(&file, bank).await,
        Err(StoreError::OtherStore(_))
    ));
    let store = SqliteStore::open(&file, identity()).await.unwrap();
    assert_eq!(store.next_boot().await.unwrap(), 8);
    fill_channels(&store).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn identity_can_be_read_without_knowing_it() {
    let (_folder, file) = place();
    assert_eq!(SqliteStore::identity_of(&file).await.unwrap(), None);
    assert!(!file.exists(), "looking creates nothing");
    let payer = StoreIdentity {
        owner: Owner::Payer,
        ..identity()
    };
    SqliteStore::open(&file, payer)
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    assert_eq!(SqliteStore::identity_of(&file).await.unwrap(), Some(payer));
    assert!(matches!(
        SqliteStore::open(&file, identity()).await,
        Err(StoreError::OtherStore(_))
    ));
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_the_seed() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, file) = place();
    let store = SqliteStore::open(&file, identity()).await.unwrap();
    store.seed_or_insert(Seed::new([1; 32])).await.unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", entry.path().display());
    }
}

/// As two processes have it: each with its own writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_openings_of_one_file_share_nonces_and_claims() {
    let (_folder, file) = place();
    // Both create it at the same time.
    let (a, b) = tokio::join!(
        SqliteStore::open(&file, identity()),
        SqliteStore::open(&file, identity())
    );
    let stores = [a.unwrap(), b.unwrap()];
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..60u64 {
        // Every order twice, once through each.
        for store in stores.clone() {
            tasks.spawn(async move {
                store
                    .issue(request(n, 0), sign(n, 0))
                    .await
                    .unwrap()
                    .into_record()
                    .ticket
            });
        }
    }
    let mut tickets = std::collections::BTreeMap::<Nonce, Vec<_>>::new();
    while let Some(ticket) = tasks.join_next().await {
        let ticket = ticket.unwrap();
        tickets.entry(ticket.nonce()).or_default().push(ticket);
    }
    assert!(tickets.keys().copied().eq((1..=60).map(Nonce)));
    assert!(tickets.values().all(|pair| pair.len() == 2 && pair[0] == pair[1]));

    let ticket = win(0, 1, 0);
    let saved = tokio::join!(
        stores[0].save_win(&ticket, ORDER, Amount(1), AT),
        stores[1].save_win(&ticket, ORDER, Amount(1), AT)
    );
    assert!(saved.0.unwrap() != saved.1.unwrap(), "new once");
    let wins = [ticket.digest()];
    let claimed = tokio::join!(stores[0].queue(&wins, AT), stores[1].queue(&wins, AT));
    assert!(claimed.0.is_ok() != claimed.1.is_ok(), "claimed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_wins_share_commits() {
    let (_folder, file) = place();
    let store = SqliteStore::open(&file, identity()).await.unwrap();
    let wins: Vec<_> = (0..600).map(|nonce| win(0, nonce, 0)).collect();
    let before = store.stats();
    let mut tasks = tokio::task::JoinSet::new();
    for ticket in wins {
        let store = store.clone();
        tasks.spawn(async move { store.save_win(&ticket, ORDER, Amount(1), AT).await.unwrap() });
    }
    while let Some(new) = tasks.join_next().await {
        assert!(new.unwrap());
    }
    let stats = store.stats();
    let (writes, commits) = (stats.writes - before.writes, stats.commits - before.commits);
    assert_eq!(writes, 600);
    assert!(commits <= 150, "{commits} commits for {writes} winners");
    assert_eq!(store.unclaimed(escrow(0)).await.unwrap(), 600);
}

/// One payment for each of many channels: what a busy vendor sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn payments_of_many_channels_share_commits() {
    const CHANNELS: u64 = 400;
    let (_folder, file) = place();
    let store = SqliteStore::open(&file, identity()).await.unwrap();
    store.use_channels(channel_fixture::domain()).await.unwrap();
    let accepted: Vec<_> = (0..CHANNELS)
        .map(|c| channel_fixture::accepted(&channel_fixture::opened(c), c, 1, 0, false))
        .collect();
    let before = store.stats();
    let mut tasks = tokio::task::JoinSet::new();
    for taken in accepted {
        let store = store.clone();
        tasks.spawn(async move { store.save_payment(&taken, ORDER, Amount(10), AT).await.unwrap() });
    }
    while let Some(new) = tasks.join_next().await {
        assert!(new.unwrap());
    }
    let stats = store.stats();
    let (writes, commits) = (stats.writes - before.writes, stats.commits - before.commits);
    println!("{commits} commits for {writes} payments");
    assert_eq!(writes, CHANNELS);
    assert!(commits <= 100, "{commits} commits for {writes} payments");
    assert_eq!(store.vendor_totals().await.unwrap().taken.units, CHANNELS);
}

#[tokio::test]
async fn closed_store_says_so() {
    let (_folder, file) = place();
    let store = SqliteStore::open(&file, identity()).await.unwrap();
    let clone = store.clone();
    store.close().await.unwrap();
    assert!(matches!(clone.next_boot().await, Err(StoreError::Closed)));
    assert!(matches!(clone.floors().await, Err(StoreError::Closed)));
    store.close().await.unwrap();
}

/// A merchant counts its unclaimed winners often and has many settled ones.
#[tokio::test]
async fn frequent_questions_use_an_index() {
    let (_folder, file) = place();
    filled(&file).await;
    let mut connection = raw(&file).await;
    for (sql, index) in [
        (
            "SELECT COUNT(*) FROM wins w WHERE w.paid IS NULL AND w.reason IS NULL AND w.escrow = x'00'",
            "wins_unfinished",
        ),
        (
            "SELECT * FROM wins w WHERE TRUE AND w.paid IS NULL AND w.reason IS NULL ORDER BY w.escrow, w.nonce",
            "wins_unfinished",
        ),
        (
            "SELECT * FROM wins w WHERE TRUE AND w.claim = 1 ORDER BY w.escrow, w.nonce",
            "wins_claim",
        ),
        (
            "SELECT * FROM claims WHERE state IN ('queued', 'sent', 'mined') ORDER BY id",
            "claims_unfinished",
        ),
        (
            "SELECT COUNT(*) FROM orders WHERE escrow = x'00'",
            "sqlite_autoindex_orders_2",
        ),
        (
            "SELECT escrow, round FROM floors ORDER BY round DESC LIMIT 1",
            "floors_round",
        ),
        (
            "UPDATE members SET lease_end_ms = NULL, claims = 0 WHERE lease_end_ms <= 7",
            "members_alive",
        ),
        ("SELECT boot FROM members WHERE claims = 1", "members_claimer"),
        (
            "SELECT * FROM transactions WHERE claim = 1 ORDER BY seq",
            "transactions_claim",
        ),
        (
            "SELECT tag FROM vendor_payments WHERE channel = x'00' AND (state <> 'failed' OR tag = x'00') ORDER BY idx DESC LIMIT 1",
            "sqlite_autoindex_vendor_payments_1",
        ),
        (
            "SELECT * FROM vendor_payments WHERE channel = x'00' AND tag = x'01'",
            "sqlite_autoindex_vendor_payments_1",
        ),
        (
            "SELECT * FROM vendor_channels WHERE phase <> 'closed' ORDER BY channel",
            "vendor_channels_live",
        ),
        (
            "SELECT * FROM client_payments WHERE channel = x'00' AND previous = 7 AND state <> 'delivered'",
            "client_payments_open",
        ),
        (
            "SELECT s.id FROM settlement_items i JOIN settlements s ON s.id = i.settlement
             WHERE i.channel = x'00' AND s.state IN ('queued', 'sent', 'mined')",
            "settlement_items_channel",
        ),
        (
            "SELECT COUNT(*) AS number FROM bank_permits WHERE client = x'00' AND issued_at >= x'00'",
            "bank_permits_client",
        ),
    ] {
        let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
            .fetch_all(&mut connection)
            .await
            .unwrap()
            .iter()
            .map(|row| sqlx::Row::get::<String, _>(row, "detail"))
            .collect::<Vec<_>>()
            .join("; ");
        assert!(plan.contains(index), "{sql}: {plan}");
    }
}

#[test]
fn futures_can_be_spawned() {
    fn send<T: Send>(_: T) {}
    let identity = StoreIdentity::merchant(protocol::ticket::Domain::new(1, Address::ZERO), Address::ZERO);
    send(SqliteStore::open("never", identity));
}
