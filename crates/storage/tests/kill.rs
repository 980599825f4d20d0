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
    channel::{
        BankStore, ChannelDomainStore, ClientChannelFilter, ClientChannelStore, PayRequest, PaymentFate,
        PaymentRecord, PaymentState, SettlementId, SettlementMove, SettlementOutcome, SettlementStage,
        SettlementStep, SettlementStore, VendorChannelStore, VendorPaymentState,
    },
    conformance::{
        channel_fixture::{self, channel, pay_request},
        fixture::{block, escrow, identity, issue, order, record, request, transaction, win},
    },
};
use protocol::{
    channel::Index,
    ticket::{Amount, Nonce, OrderId, Seed, Timestamp},
};

const KILLS: usize = 40;
const FILE: &str = "MICROPAY_KILL_TEST_STORE";
const ROUND: &str = "MICROPAY_KILL_TEST_ROUND";
const ACCOUNT: &str = "agent";
const CHANNEL_ACCOUNT: &str = "channels";
const ALL: std::ops::RangeInclusive<Index> = Index(0)..=Index(u32::MAX);
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
    channels: Channels,
}

/// What the parent knows to be promised over channels.
#[derive(Default)]
struct Channels {
    /// Order to (index, word, tag, transcript, signature).
    payments: HashMap<u64, [String; 5]>,
    /// Channel to the index that the client stands on, at least.
    acked: HashMap<u64, u32>,
    /// Channel to the indices and tags that were taken, and whether delivery was noted.
    taken: HashMap<(u64, u32), (String, bool)>,
    /// Channel and generation to the permit's signature.
    permits: HashMap<(u64, u32), String>,
    /// Settlement to the last stage.
    settlements: BTreeMap<u64, SettlementStage>,
    sent: BTreeMap<u64, B256>,
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let mut known = Acknowledged::default();
    let mut acknowledged = 0;
    let mut random = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("random start {random}");
    let mut kills = 0;
    // On a busy machine the children get less done in their time, so there are more of them.
    while kills < KILLS || (kills < 4 * KILLS && !known.is_enough()) {
        let round = kills;
        kills += 1;
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
        "{kills} kills, {acknowledged} acknowledgements: {}",
        known.counts()
    );
    assert!(known.is_enough(), "the children did too little");
}

impl Acknowledged {
    fn finals(&self) -> usize {
        let claims = self.claims.values();
        claims.filter(|(stage, _)| *stage == ClaimStage::Final).count()
    }

    /// Whether so much was promised that a loss would have been seen.
    fn is_enough(&self) -> bool {
        let channels = &self.channels;
        self.orders.len() > 100
            && self.wins.len() > 100
            && self.finals() > 20
            && channels.payments.len() > 50
            && channels.taken.len() > 50
            && channels.permits.len() > 30
            && channels.settlements.len() > 5
    }

    fn counts(&self) -> String {
        let channels = &self.channels;
        format!(
            "{} orders, {} winners, {} claims ({} final), {} payments made, {} taken, {} permits, {} settlements",
            self.orders.len(),
            self.wins.len(),
            self.claims.len(),
            self.finals(),
            channels.payments.len(),
            channels.taken.len(),
            channels.permits.len(),
            channels.settlements.len()
        )
    }
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
        "payment" => {
            let made = [2, 3, 4, 5, 6].map(|n| words[n].to_owned());
            let stored = known.channels.payments.entry(number(1));
            assert_eq!(
                *stored.or_insert_with(|| made.clone()),
                made,
                "order {} got another payment",
                words[1]
            );
        }
        "acked" => {
            known.channels.acked.insert(number(1), number(2) as u32);
        }
        "taken" => {
            let key = (number(1), number(2) as u32);
            known.channels.taken.insert(key, (words[3].to_owned(), false));
        }
        "marked" => {
            let key = (number(1), number(2) as u32);
            known.channels.taken.entry(key).and_modify(|taken| taken.1 = true);
        }
        "permit" => {
            let key = (number(1), number(2) as u32);
            let signature = words[3].to_owned();
            let stored = known.channels.permits.entry(key);
            assert_eq!(*stored.or_insert_with(|| signature.clone()), signature);
        }
        "settlement" => {
            let stage = SettlementStage::ALL
                .into_iter()
                .find(|stage| stage.name() == words[2])
                .unwrap();
            known.channels.settlements.insert(number(1), stage);
            if words.len() > 3 {
                known.channels.sent.insert(number(1), digest(3));
            }
        }
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
    check_channels(&store, &known.channels, round).await;
    let mut connection = sqlx_check::open(file).await;
    assert_eq!(sqlx_check::integrity(&mut connection).await, "ok");
    store.close().await.unwrap();
}

async fn check_channels(store: &SqliteStore, known: &Channels, round: usize) {
    store.use_channels(channel_fixture::domain()).await.unwrap();
    for (n, made) in &known.payments {
        let order = pay_request(*n, 0, 1).order;
        let stored = store.client_payment(order).await.unwrap();
        let stored = stored.unwrap_or_else(|| panic!("payment {n} was lost in round {round}"));
        assert_eq!(show(&stored), *made, "payment {n} changed");
    }
    let mut charged = 0;
    for record in store
        .client_channels(ClientChannelFilter::default())
        .await
        .unwrap()
    {
        let id = record.channel.id();
        let payments = store.client_payments(id, ALL).await.unwrap();
        let delivered = payments
            .iter()
            .filter(|payment| payment.state == PaymentState::Delivered);
        let highest = delivered
            .map(|payment| payment.payment.index)
            .max()
            .unwrap_or_default();
        assert_eq!(
            record.channel.acknowledged().index,
            highest,
            "delivered and position are one"
        );
        let revealed = payments.iter().map(|payment| payment.payment.index).max();
        assert_eq!(
            record.channel.revealed(),
            revealed.unwrap_or_default(),
            "a payment and what it reveals are one"
        );
        charged += payments.iter().map(|payment| payment.charged.0).sum::<u128>();
    }
    assert_eq!(
        store.spent(CHANNEL_ACCOUNT).await.unwrap().0,
        charged,
        "a payment and its charge are one"
    );
    for (c, index) in &known.acked {
        let record = store.client_channel(channel(*c)).await.unwrap().unwrap();
        assert!(
            record.channel.acknowledged().index.0 >= *index,
            "the position of {c} fell"
        );
    }
    for ((c, index), (tag, delivered)) in &known.taken {
        let at = Index(*index)..=Index(*index);
        let stored = store.vendor_payments(channel(*c), at).await.unwrap();
        let stored = stored
            .first()
            .unwrap_or_else(|| panic!("payment {index} of {c} was lost"));
        assert_eq!(stored.payment.tag.to_string(), *tag);
        assert!(
            !delivered || stored.state == VendorPaymentState::Delivered,
            "a delivery was forgotten"
        );
    }
    for ((c, generation), signature) in &known.permits {
        let stored = store.permits_of(channel(*c)).await.unwrap();
        let admitted = &stored[*generation as usize].admitted;
        assert_eq!(
            hex::encode(admitted.signature().to_bytes()),
            *signature,
            "two permits for one channel"
        );
    }
    for (id, stage) in &known.settlements {
        let stored = store.settlement(SettlementId(*id)).await.unwrap().unwrap();
        assert!(stored.state.stage() >= *stage, "settlement {id} went back");
        if let Some(hash) = known.sent.get(id) {
            assert!(
                stored.transactions.iter().any(|tx| tx.hash == *hash),
                "transaction {hash} was lost"
            );
        }
        if stored.state.stage() == SettlementStage::Final {
            assert!(
                stored.items.iter().all(|item| item.outcome.is_some()),
                "settlement {id} is torn"
            );
        }
    }
}

fn show(record: &PaymentRecord) -> [String; 5] {
    let payment = &record.payment;
    [
        payment.index.to_string(),
        payment.word.to_string(),
        payment.tag.to_string(),
        record.transcript.to_string(),
        record.sigma.to_string(),
    ]
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
        store.use_channels(channel_fixture::domain()).await.unwrap();
        for lane in 0..2 {
            tasks.spawn(pay_channel(
                store.clone(),
                base + lane * 100_000,
                round * 2 + lane,
            ));
            tasks.spawn(take_channel(
                store.clone(),
                base + lane * 100_000,
                round * 2 + lane,
            ));
        }
        tasks.spawn(admit(store.clone(), base));
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

/// Pays over one channel until its chain ends, then over the next one; every third good fails.
async fn pay_channel(store: SqliteStore, base: u64, start: u64) -> Result<()> {
    let mut n = base;
    for c in (0..).map(|more| start + 1000 * more) {
        store
            .save_client_channel(&channel_fixture::new_channel(c))
            .await?;
        let mut acked = store
            .client_channel(channel(c))
            .await?
            .unwrap()
            .channel
            .acknowledged()
            .index;
        while acked < channel_fixture::length(0) {
            n += 1;
            let request = PayRequest {
                budgets: vec![Budget {
                    account: CHANNEL_ACCOUNT.to_owned(),
                    limit: Amount(u128::MAX),
                }],
                ..pay_request(n, c, 1)
            };
            let made = store
                .pay(request.clone(), channel_fixture::sign_payment(n, c, 1))
                .await?;
            say(format!("payment {n} {}", show(made.record()).join(" ")));
            // Another item: another payment, if the first one were lost.
            let again = store
                .pay(request, channel_fixture::sign_payment(n + 1, c, 1))
                .await?;
            say(format!("payment {n} {}", show(again.record()).join(" ")));
            let order = made.record().order;
            if n.is_multiple_of(3) {
                store.resolve_payment(order, PaymentState::Failed).await?;
            } else {
                store.resolve_payment(order, PaymentState::Delivered).await?;
                acked = made.record().payment.index;
                say(format!("acked {c} {acked}"));
            }
        }
    }
    Ok(())
}

/// Takes payments over one channel until its chain ends, closes it, and goes on with the next one.
async fn take_channel(store: SqliteStore, base: u64, start: u64) -> Result<()> {
    let mut sent = 2_000_000 + base;
    for c in (0..).map(|more| start + 1000 * more) {
        let mut state = channel_fixture::opened(c);
        for index in 1..=4 {
            let taken = channel_fixture::accepted(&state, c, index, 0, false);
            store.save_payment(&taken, ORDER, Amount(10), AT).await?;
            let tag = taken.payment().tag;
            say(format!("taken {c} {index} {tag}"));
            if index % 2 == 0 {
                store
                    .mark_payment(channel(c), tag, PaymentFate::Delivered)
                    .await?;
                say(format!("marked {c} {index}"));
            }
            state = taken.delivered().channel;
        }
        let id = store
            .queue_settlement(SettlementStep::Close, &[(channel(c), Index(4))], AT)
            .await?;
        say(format!("settlement {id} queued"));
        sent += 1;
        let tx = transaction(sent);
        store.add_settlement_transaction(id, &tx).await?;
        say(format!("settlement {id} sent {}", tx.hash));
        let mined = SettlementMove::Mined {
            hash: tx.hash,
            block: block(1),
        };
        store.move_settlement(id, mined).await?;
        say(format!("settlement {id} mined"));
        let outcome = SettlementOutcome::Settled {
            index: Index(4),
            paid: Amount(40),
        };
        store
            .finalize_settlement(id, &[(channel(c), outcome)], 1, 1)
            .await?;
        say(format!("settlement {id} final"));
    }
    Ok(())
}

/// Signs permits, and asks again for those of earlier rounds with other terms, which must not get any.
async fn admit(store: SqliteStore, base: u64) -> Result<()> {
    store
        .use_bank_key(0, channel_fixture::bank_key(0).address())
        .await?;
    for c in base.. {
        let request = channel_fixture::permit_request(c, 0, 0);
        let issued = store
            .issue_permit(request, channel_fixture::sign_permit(0))
            .await?;
        let signature = issued.record().admitted.signature().to_bytes();
        say(format!("permit {c} 0 {}", hex::encode(signature)));
        let other = channel_fixture::permit_request(c.saturating_sub(1_000_000), 0, 1);
        let _ = store.issue_permit(other, channel_fixture::sign_permit(0)).await;
    }
    Ok(())
}

/// One write call for the line: a kill leaves whole lines, and perhaps one cut off, which its missing end gives away.
fn say(line: impl std::fmt::Display) {
    let line = format!("@{line}.\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}
