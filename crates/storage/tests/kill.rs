//! Kill -9 at any point of a payer's or a merchant's writing. A child process (this test binary again) hammers a store
//! and prints each thing that the store acknowledged; the parent kills it at a random moment, many times on one file, and
//! then checks that everything acknowledged is there and that nothing else is odd.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is to stop them where it happens"
)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    env,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy_primitives::{Address, B256, hex};
use micropay_storage::{
    Budget, ClaimId, ClaimStage, ClaimStore, MirrorStore, OrderFilter, OrderRequest, OrderState, OrderStore,
    Outcome, Result, SeedStore, SqliteStore, WinFilter, WinStore,
    conformance::fixture::{block, escrow, identity, issue, order, record, request, transaction, win},
};
use protocol::ticket::{Amount, Nonce, OrderId, Seed, Timestamp};

const KILLS: usize = 40;
const FILE: &str = "MICROPAY_KILL_TEST_STORE";
const ROUND: &str = "MICROPAY_KILL_TEST_ROUND";
const ACCOUNT: &str = "agent";
const AT: Timestamp = Timestamp(1);
const ORDER: OrderId = OrderId(B256::repeat_byte(0x0d));

/// What the parent knows to be promised.
#[derive(Default)]
struct Acknowledged {
    seed: Option<String>,
    boots: BTreeSet<u64>,
    /// Order to (escrow, nonce, digest, signature).
    orders: BTreeMap<u64, (Address, u64, B256, String)>,
    resolved: BTreeSet<u64>,
    wins: BTreeSet<B256>,
    delivered: BTreeSet<B256>,
    /// Claim to the last stage and its winners.
    claims: BTreeMap<u64, (ClaimStage, Vec<B256>)>,
    transactions: BTreeMap<u64, Vec<B256>>,
    floors: HashMap<Address, u64>,
    mirror: u64,
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let mut known = Acknowledged::default();
    let mut acknowledged = 0;
    let mut random = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("random start {random}");
    for round in 0..KILLS {
        // xorshift: the moments must only differ.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Sometimes while the store is still being opened or created.
        let life = Duration::from_micros(if round % 5 == 0 {
            random % 30_000
        } else {
            random % 300_000
        });
        acknowledged += run_and_kill(&file, round, life, &mut known);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(check(&file, &known, round));
    }
    println!(
        "{KILLS} kills, {acknowledged} acknowledgements: {} orders, {} winners, {} claims",
        known.orders.len(),
        known.wins.len(),
        known.claims.len()
    );
    let finals = known
        .claims
        .values()
        .filter(|(stage, _)| *stage == ClaimStage::Final)
        .count();
    assert!(
        known.orders.len() > 100 && known.wins.len() > 100 && finals > 20,
        "the children did too little"
    );
}

/// Starts a child, kills it after `life`, and takes in what it printed.
fn run_and_kill(file: &PathBuf, round: usize, life: Duration, known: &mut Acknowledged) -> usize {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--ignored", "--test-threads=1"])
        .env(FILE, file)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let killer = std::thread::spawn(move || {
        std::thread::sleep(life);
        child.kill().unwrap();
        child.wait().unwrap()
    });
    let mut count = 0;
    for line in output.split(b'\n') {
        let line = String::from_utf8(line.unwrap()).unwrap();
        // The harness prints lines of its own; the last line may be cut off.
        if let Some(said) = line.strip_prefix('@').and_then(|line| line.strip_suffix('.')) {
            take_in(known, said);
            count += 1;
        }
    }
    let status = killer.join().unwrap();
    assert!(!status.success(), "the child ended by itself: {status}");
    assert_ne!(status.code(), Some(101), "the child panicked");
    count
}

fn take_in(known: &mut Acknowledged, said: &str) {
    let words: Vec<&str> = said.split(' ').collect();
    let number = |n: usize| words[n].parse::<u64>().unwrap();
    let digest = |n: usize| words[n].parse::<B256>().unwrap();
    match words[0] {
        "seed" => {
            let seed = known.seed.get_or_insert_with(|| words[1].to_owned());
            assert_eq!(seed, words[1], "the seed changed");
        }
        "boot" => assert!(known.boots.insert(number(1)), "boot {} came twice", words[1]),
        "order" => {
            let ticket = (
                words[2].parse().unwrap(),
                number(3),
                digest(4),
                words[5].to_owned(),
            );
            let stored = known.orders.entry(number(1)).or_insert_with(|| ticket.clone());
            assert_eq!(*stored, ticket, "order {} got another ticket", words[1]);
        }
        "resolved" => {
            known.resolved.insert(number(1));
        }
        "win" => {
            known.wins.insert(digest(1));
        }
        "delivered" => {
            known.delivered.insert(digest(1));
        }
        "claim" => {
            let stage = ClaimStage::ALL
                .into_iter()
                .find(|stage| stage.name() == words[2])
                .unwrap();
            let claim = known.claims.entry(number(1)).or_insert((stage, Vec::new()));
            claim.0 = stage;
            if stage == ClaimStage::Queued && words.len() > 3 {
                claim.1 = (5..words.len()).map(digest).collect();
                let floor = known.floors.entry(words[3].parse().unwrap()).or_default();
                *floor = number(4).max(*floor);
            }
        }
        "transaction" => known.transactions.entry(number(1)).or_default().push(digest(2)),
        "mirror" => known.mirror = number(1),
        other => panic!("the child said {other}"),
    }
}

async fn check(file: &PathBuf, known: &Acknowledged, round: usize) {
    let store = SqliteStore::open(file, identity()).await.unwrap();
    if let Some(seed) = &known.seed {
        let fresh = Seed::new([0xff; 32]);
        assert_eq!(
            *seed,
            hex::encode(store.seed_or_insert(fresh).await.unwrap().expose()),
            "round {round}"
        );
    }
    // Every row is read: a torn one would be an error here.
    let orders = store.orders(OrderFilter::default()).await.unwrap();
    let mut nonces = BTreeMap::<Address, Vec<u64>>::new();
    for stored in &orders {
        nonces
            .entry(stored.ticket.escrow())
            .or_default()
            .push(stored.ticket.nonce().0);
    }
    for (escrow, nonces) in &nonces {
        assert!(
            nonces.windows(2).all(|pair| pair[0] < pair[1]),
            "a nonce was given out twice"
        );
        let next = store.next_nonce(*escrow).await.unwrap().0;
        assert!(
            nonces.iter().copied().eq(1..next),
            "a nonce of {escrow} was taken without a ticket"
        );
    }
    let worth = store.order_totals(None).await.unwrap().all().unwrap().price;
    assert_eq!(
        store.spent(ACCOUNT).await.unwrap(),
        worth,
        "an order is charged with its ticket, or not at all"
    );
    for (n, (escrow, nonce, digest, signature)) in &known.orders {
        let stored = store
            .order(order(*n))
            .await
            .unwrap()
            .unwrap_or_else(|| panic!("order {n} was lost"));
        let ticket = (
            stored.ticket.escrow(),
            stored.ticket.nonce().0,
            stored.ticket.digest(),
        );
        assert_eq!(ticket, (*escrow, *nonce, *digest), "order {n} in round {round}");
        assert_eq!(hex::encode(stored.ticket.signature().to_bytes()), *signature);
        if known.resolved.contains(n) {
            assert_eq!(stored.state, OrderState::Delivered, "order {n} went back");
        }
    }
    let wins: HashMap<B256, bool> = store
        .wins(WinFilter::default())
        .await
        .unwrap()
        .into_iter()
        .map(|win| (win.ticket.digest(), win.delivered))
        .collect();
    for digest in &known.wins {
        assert!(
            wins.contains_key(digest),
            "winner {digest} was lost in round {round}"
        );
    }
    for digest in &known.delivered {
        assert!(wins[digest], "the delivery for winner {digest} was forgotten");
    }
    let floors: HashMap<Address, Nonce> = store.floors().await.unwrap().into_iter().collect();
    for (escrow, floor) in &known.floors {
        assert!(floors[escrow].0 >= *floor, "the floor of {escrow} fell");
    }
    for (id, (stage, digests)) in &known.claims {
        let claim = store
            .claim(ClaimId(*id))
            .await
            .unwrap()
            .unwrap_or_else(|| panic!("claim {id} was lost"));
        // One step may have been committed and not yet acknowledged.
        assert!(
            claim.state.stage() >= *stage,
            "claim {id} went back from {stage} to {}",
            claim.state
        );
        let stored: BTreeSet<B256> = claim.wins.iter().map(|win| win.ticket.digest()).collect();
        if !digests.is_empty() {
            assert_eq!(
                stored,
                digests.iter().copied().collect(),
                "claim {id} has other winners"
            );
        }
        for win in &claim.wins {
            assert_eq!(
                win.state.stage().name(),
                claim.state.stage().name(),
                "claim {id} is torn"
            );
        }
        for hash in known.transactions.get(id).into_iter().flatten() {
            assert!(
                claim.transactions.iter().any(|tx| tx.hash == *hash),
                "transaction {hash} was lost"
            );
        }
    }
    if known.mirror > 0 {
        let (cursor, escrows) = store.load_mirror().await.unwrap().unwrap();
        assert!(cursor.number >= known.mirror, "the cursor fell");
        // Cursor and record were saved together.
        assert_eq!(escrows[&escrow(0)], record(cursor.number), "the mirror is torn");
    }
    let mut connection = sqlx_check::open(file).await;
    assert_eq!(sqlx_check::integrity(&mut connection).await, "ok");
    store.close().await.unwrap();
}

mod sqlx_check {
    use std::path::Path;

    use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};

    pub(super) async fn open(file: &Path) -> SqliteConnection {
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(file))
            .await
            .unwrap()
    }

    pub(super) async fn integrity(connection: &mut SqliteConnection) -> String {
        let broken = sqlx::query("PRAGMA foreign_key_check")
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        assert!(broken.is_empty());
        sqlx::query("PRAGMA integrity_check")
            .fetch_one(connection)
            .await
            .unwrap()
            .get(0)
    }
}

/// Not a test: what the parent starts and kills.
#[test]
#[ignore = "started by the test above"]
fn child() {
    let Ok(file) = env::var(FILE) else { return };
    let round: u64 = env::var(ROUND).unwrap().parse().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = SqliteStore::open(file, identity()).await.unwrap();
        let seed = store
            .seed_or_insert(Seed::new([round as u8 + 1; 32]))
            .await
            .unwrap();
        say(format!("seed {}", hex::encode(seed.expose())));
        say(format!("boot {}", store.next_boot().await.unwrap()));
        let base = round * 1_000_000;
        let mut tasks = tokio::task::JoinSet::new();
        for lane in 0..4 {
            tasks.spawn(pay(store.clone(), base + lane * 100_000, round));
            tasks.spawn(collect(store.clone(), base + lane * 100_000, lane));
        }
        tasks.spawn(follow(store.clone()));
        while let Some(result) = tasks.join_next().await {
            result.unwrap().unwrap();
        }
    });
}

/// Issues new orders and asks again for old ones, also of earlier rounds.
async fn pay(store: SqliteStore, base: u64, round: u64) -> Result<()> {
    for n in base.. {
        let old = (n * 7919) % (round + 1) * 1_000_000 + n % 5;
        for id in [n, old] {
            let e = id % 2;
            let request = OrderRequest {
                budgets: vec![Budget {
                    account: ACCOUNT.to_owned(),
                    limit: Amount(u128::MAX),
                }],
                ..request(id, e)
            };
            // `n` in place of `id`: another ticket, if the old one were lost.
            let issued = store
                .issue(request, move |nonce| issue(n + 1, e, nonce))
                .await?
                .into_record();
            let ticket = &issued.ticket;
            let signature = hex::encode(ticket.signature().to_bytes());
            let (escrow, nonce, digest) = (ticket.escrow(), ticket.nonce(), ticket.digest());
            say(format!("order {id} {escrow} {nonce} {digest} {signature}"));
        }
        if n % 3 == 0 {
            store.resolve(order(n), OrderState::Delivered).await?;
            say(format!("resolved {n}"));
        }
    }
    Ok(())
}

/// Saves winners and takes every few of them through a claim.
async fn collect(store: SqliteStore, base: u64, lane: u64) -> Result<()> {
    let mut waiting = Vec::new();
    for n in base + 1.. {
        let ticket = win(lane, n, 0);
        store.save_win(&ticket, ORDER, Amount(1), AT).await?;
        say(format!("win {}", ticket.digest()));
        store.mark_delivered(ticket.digest()).await?;
        say(format!("delivered {}", ticket.digest()));
        waiting.push(ticket.digest());
        if waiting.len() < 3 {
            continue;
        }
        let claim = store.queue(&waiting, AT).await?;
        let list = waiting
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ");
        say(format!("claim {claim} queued {} {n} {list}", escrow(lane)));
        let tx = transaction(n * 4 + lane);
        store.add_transaction(claim, &tx).await?;
        say(format!("transaction {claim} {}", tx.hash));
        say(format!("claim {claim} sent"));
        store.mined(claim, tx.hash, block(n)).await?;
        say(format!("claim {claim} mined"));
        let outcome = Outcome::Final {
            paid: Amount(100),
            owed: Amount(0),
        };
        let outcomes: Vec<_> = waiting.drain(..).map(|digest| (digest, outcome)).collect();
        store.finalize(claim, &outcomes, 1, 1).await?;
        say(format!("claim {claim} final"));
    }
    Ok(())
}

/// Moves the mirror on from where it is.
async fn follow(store: SqliteStore) -> Result<()> {
    let start = store.load_mirror().await?.map_or(0, |(cursor, _)| cursor.number);
    for number in start + 1.. {
        store
            .save_mirror(block(number), &HashMap::from([(escrow(0), record(number))]))
            .await?;
        say(format!("mirror {number}"));
    }
    Ok(())
}

/// One write call for the line: a kill leaves whole lines, and perhaps one cut off, which its missing end gives away.
fn say(line: impl std::fmt::Display) {
    let line = format!("@{line}.\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}
