//! A registrar's memory in one SQLite file: write-ahead log, `synchronous=FULL`. A commit that has returned survives a loss
//! of power. One connection, so that requests of one registrar follow each other; a second process is kept out by
//! `BEGIN IMMEDIATE` and the versions.

use std::{fs::OpenOptions, path::Path, time::Duration};

use alloy_primitives::{Address, B256};
use protocol::offline::{
    Amount, ClassId, CoinId, Input, LogEntry, LogHead, Sequence, Timestamp, TransferDigest, WalletId,
};
use sqlx::{
    Row as _, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

use super::{
    ListRecord, LogRecord, ReceiptCap, ReceiptRecord, RegistrarIdentity, RegistrarStore, RegistrarStoreError,
    Result, Revocations, WalletRecord, check_cap, check_move,
};

/// How long another process may hold the file.
const BUSY: Duration = Duration::from_secs(5);

/// The tables. Each statement does nothing where its table is there.
const SCHEMA: [&str; 8] = [
    "CREATE TABLE IF NOT EXISTS registrar (one INTEGER PRIMARY KEY CHECK (one = 1), identity TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS wallet (wallet BLOB PRIMARY KEY, version INTEGER NOT NULL, device BLOB, \
     body TEXT NOT NULL) STRICT",
    "CREATE INDEX IF NOT EXISTS wallet_device ON wallet (device)",
    "CREATE TABLE IF NOT EXISTS receipt (coin BLOB PRIMARY KEY, wallet BLOB NOT NULL, asset BLOB NOT NULL, \
     amount BLOB NOT NULL, settle_by INTEGER NOT NULL, signed BLOB NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS log (wallet BLOB PRIMARY KEY, head BLOB NOT NULL, sequence INTEGER NOT NULL, \
     signed BLOB NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS entry (wallet BLOB NOT NULL, sequence INTEGER NOT NULL, input BLOB NOT NULL, \
     transfer BLOB NOT NULL, PRIMARY KEY (wallet, sequence), UNIQUE (wallet, input)) STRICT",
    "CREATE TABLE IF NOT EXISTS revocation (kind INTEGER NOT NULL, name BLOB NOT NULL, at INTEGER NOT NULL, \
     PRIMARY KEY (kind, name)) STRICT",
    "CREATE TABLE IF NOT EXISTS list (one INTEGER PRIMARY KEY CHECK (one = 1), issued_at INTEGER NOT NULL, \
     signed BLOB NOT NULL) STRICT",
];

const WALLET: i64 = 0;
const CLASS: i64 = 1;

/// See the module. Clones share the file.
#[derive(Clone, Debug)]
pub struct SqliteRegistrarStore {
    pool: SqlitePool,
}

impl SqliteRegistrarStore {
    /// Opens the store in this file, or creates it, readable by its owner only. Refuses another registrar's.
    pub async fn open(path: impl AsRef<Path>, identity: RegistrarIdentity) -> Result<Self> {
        let path = path.as_ref();
        create(path)
            .map_err(|error| RegistrarStoreError::database("creating the registrar's store", error))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .busy_timeout(BUSY)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(failed("opening the registrar's store"))?;
        let store = Self { pool };
        let mut tx = store.begin("opening the registrar's store").await?;
        for statement in SCHEMA {
            sqlx::query(statement)
                .execute(&mut *tx)
                .await
                .map_err(failed("making tables"))?;
        }
        let wanted = json("registrar", "1", &identity)?;
        sqlx::query("INSERT INTO registrar (one, identity) VALUES (1, ?) ON CONFLICT DO NOTHING")
            .bind(&wanted)
            .execute(&mut *tx)
            .await
            .map_err(failed("claiming the registrar's store"))?;
        let stored: String = sqlx::query_scalar("SELECT identity FROM registrar")
            .fetch_one(&mut *tx)
            .await
            .map_err(failed("reading whose store it is"))?;
        if stored != wanted {
            return Err(RegistrarStoreError::OtherRegistrar { stored, wanted });
        }
        commit(tx, "opening the registrar's store").await?;
        Ok(store)
    }

    /// Closes the file, for every clone.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn begin(&self, doing: &'static str) -> Result<Transaction<'static, Sqlite>> {
        self.pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed(doing))
    }

    async fn withdraw(&self, kind: i64, name: &[u8], at: Timestamp) -> Result<Timestamp> {
        const DOING: &str = "revoking";
        let mut tx = self.begin(DOING).await?;
        sqlx::query(
            "INSERT INTO revocation (kind, name, at) VALUES (?, ?, ?) \
             ON CONFLICT DO UPDATE SET at = min(at, excluded.at)",
        )
        .bind(kind)
        .bind(name)
        .bind(signed(at.0))
        .execute(&mut *tx)
        .await
        .map_err(failed(DOING))?;
        let at: i64 = sqlx::query_scalar("SELECT at FROM revocation WHERE kind = ? AND name = ?")
            .bind(kind)
            .bind(name)
            .fetch_one(&mut *tx)
            .await
            .map_err(failed(DOING))?;
        commit(tx, DOING).await?;
        Ok(Timestamp(unsigned(at)))
    }
}

impl RegistrarStore for SqliteRegistrarStore {
    async fn wallet(&self, wallet: WalletId) -> Result<Option<WalletRecord>> {
        let body: Option<String> = sqlx::query_scalar("SELECT body FROM wallet WHERE wallet = ?")
            .bind(wallet.0.as_slice())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("reading a wallet"))?;
        body.map(|body| parse(wallet, &body)).transpose()
    }

    async fn save_wallet(&self, record: &WalletRecord, device_limit: Option<u32>) -> Result<u64> {
        const DOING: &str = "saving a wallet";
        let mut tx = self.begin(DOING).await?;
        let stored: Option<String> = sqlx::query_scalar("SELECT body FROM wallet WHERE wallet = ?")
            .bind(record.wallet.as_slice())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed(DOING))?;
        let stored = stored.map(|body| parse(record.id(), &body)).transpose()?;
        check_move(stored.as_ref(), record)?;
        if let (Some(device), Some(limit)) = (record.device, device_limit) {
            let got: i64 = sqlx::query_scalar("SELECT count(*) FROM wallet WHERE device = ? AND wallet <> ?")
                .bind(device.as_slice())
                .bind(record.wallet.as_slice())
                .fetch_one(&mut *tx)
                .await
                .map_err(failed(DOING))?;
            let got = u32::try_from(got).unwrap_or(u32::MAX);
            if got >= limit {
                return Err(RegistrarStoreError::DeviceQuota { device, got, limit });
            }
        }
        let next = WalletRecord {
            version: record.version + 1,
            ..record.clone()
        };
        sqlx::query(
            "INSERT INTO wallet (wallet, version, device, body) VALUES (?, ?, ?, ?) \
             ON CONFLICT DO UPDATE SET version = excluded.version, device = excluded.device, body = excluded.body",
        )
        .bind(next.wallet.as_slice())
        .bind(signed(next.version))
        .bind(next.device.as_ref().map(|device| device.as_slice()))
        .bind(json("wallet", &next.wallet.to_string(), &next)?)
        .execute(&mut *tx)
        .await
        .map_err(failed(DOING))?;
        commit(tx, DOING).await?;
        Ok(next.version)
    }

    async fn receipt(&self, coin: CoinId) -> Result<Option<ReceiptRecord>> {
        let row =
            sqlx::query("SELECT coin, wallet, asset, amount, settle_by, signed FROM receipt WHERE coin = ?")
                .bind(coin.0.as_slice())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed("reading a receipt"))?;
        row.as_ref().map(receipt).transpose()
    }

    async fn add_receipt(&self, record: &ReceiptRecord, cap: Option<ReceiptCap>) -> Result<ReceiptRecord> {
        const DOING: &str = "saving a receipt";
        let mut tx = self.begin(DOING).await?;
        let known =
            sqlx::query("SELECT coin, wallet, asset, amount, settle_by, signed FROM receipt WHERE coin = ?")
                .bind(record.coin.0.as_slice())
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed(DOING))?;
        if let Some(row) = known {
            return receipt(&row);
        }
        let amounts: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT amount FROM receipt WHERE wallet = ? AND asset = ? AND settle_by >= ?",
        )
        .bind(record.wallet.0.as_slice())
        .bind(record.asset.as_slice())
        .bind(signed(cap.map_or(0, |cap| cap.since.0)))
        .fetch_all(&mut *tx)
        .await
        .map_err(failed(DOING))?;
        let mut held = Amount::ZERO;
        for amount in amounts {
            held = held.checked_add(self::amount(&amount)?).unwrap_or(Amount::MAX);
        }
        check_cap(held, record, cap)?;
        sqlx::query(
            "INSERT INTO receipt (coin, wallet, asset, amount, settle_by, signed) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(record.coin.0.as_slice())
        .bind(record.wallet.0.as_slice())
        .bind(record.asset.as_slice())
        .bind(&record.amount.0.to_be_bytes()[..])
        .bind(signed(record.settle_by.0))
        .bind(&record.signed[..])
        .execute(&mut *tx)
        .await
        .map_err(failed(DOING))?;
        commit(tx, DOING).await?;
        Ok(record.clone())
    }

    async fn log(&self, wallet: WalletId) -> Result<Option<LogRecord>> {
        let row = sqlx::query("SELECT head, sequence, signed FROM log WHERE wallet = ?")
            .bind(wallet.0.as_slice())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("reading a checkpoint"))?;
        row.map(|row| {
            Ok(LogRecord {
                wallet,
                head: LogHead(word(&row, "log", "head")?),
                sequence: Sequence(number(&row, "log", "sequence")?),
                signed: bytes(&row, "log", "signed")?,
            })
        })
        .transpose()
    }

    async fn log_entries(&self, wallet: WalletId) -> Result<Vec<LogEntry>> {
        let rows = sqlx::query("SELECT input, transfer FROM entry WHERE wallet = ? ORDER BY sequence")
            .bind(wallet.0.as_slice())
            .fetch_all(&self.pool)
            .await
            .map_err(failed("reading a log"))?;
        rows.iter()
            .map(|row| {
                Ok(LogEntry {
                    input: Input(word(row, "entry", "input")?),
                    transfer: TransferDigest(word(row, "entry", "transfer")?),
                })
            })
            .collect()
    }

    async fn save_log(&self, from: Sequence, entries: &[LogEntry], record: &LogRecord) -> Result<()> {
        const DOING: &str = "saving a checkpoint";
        let mut tx = self.begin(DOING).await?;
        let stored: Option<i64> = sqlx::query_scalar("SELECT sequence FROM log WHERE wallet = ?")
            .bind(record.wallet.0.as_slice())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed(DOING))?;
        let stored = Sequence(stored.map_or(0, unsigned));
        if stored != from {
            return Err(RegistrarStoreError::CheckpointStale {
                wallet: record.wallet,
                got: from,
                stored,
            });
        }
        for (entry, sequence) in entries.iter().zip(from.0 + 1..) {
            sqlx::query("INSERT INTO entry (wallet, sequence, input, transfer) VALUES (?, ?, ?, ?)")
                .bind(record.wallet.0.as_slice())
                .bind(signed(sequence))
                .bind(entry.input.0.as_slice())
                .bind(entry.transfer.0.as_slice())
                .execute(&mut *tx)
                .await
                .map_err(failed(DOING))?;
        }
        sqlx::query(
            "INSERT INTO log (wallet, head, sequence, signed) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET \
             head = excluded.head, sequence = excluded.sequence, signed = excluded.signed",
        )
        .bind(record.wallet.0.as_slice())
        .bind(record.head.0.as_slice())
        .bind(signed(record.sequence.0))
        .bind(&record.signed[..])
        .execute(&mut *tx)
        .await
        .map_err(failed(DOING))?;
        commit(tx, DOING).await
    }

    async fn revoke(&self, wallet: WalletId, at: Timestamp) -> Result<Timestamp> {
        self.withdraw(WALLET, wallet.0.as_slice(), at).await
    }

    async fn kill_class(&self, class: ClassId, at: Timestamp) -> Result<Timestamp> {
        self.withdraw(CLASS, &class.0.to_be_bytes(), at).await
    }

    async fn revocations(&self) -> Result<Revocations> {
        let rows = sqlx::query("SELECT kind, name, at FROM revocation ORDER BY kind, name")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("reading the revocations"))?;
        let mut revocations = Revocations::default();
        for row in &rows {
            let at = Timestamp(number(row, "revocation", "at")?);
            if number(row, "revocation", "kind")? == 0 {
                let wallet = WalletId(word(row, "revocation", "name")?);
                revocations.wallets.push((wallet, at));
            } else {
                let class = ClassId(u32::from_be_bytes(array(row, "revocation", "name")?));
                revocations.classes.push((class, at));
            }
        }
        Ok(revocations)
    }

    async fn list(&self) -> Result<Option<ListRecord>> {
        let row = sqlx::query("SELECT issued_at, signed FROM list")
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("reading the list"))?;
        row.map(|row| {
            Ok(ListRecord {
                issued_at: Timestamp(number(&row, "list", "issued_at")?),
                signed: bytes(&row, "list", "signed")?,
            })
        })
        .transpose()
    }

    async fn save_list(&self, record: &ListRecord) -> Result<()> {
        const DOING: &str = "saving a list";
        let mut tx = self.begin(DOING).await?;
        let stored: Option<i64> = sqlx::query_scalar("SELECT issued_at FROM list")
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed(DOING))?;
        if let Some(stored) = stored.map(|at| Timestamp(unsigned(at)))
            && stored >= record.issued_at
        {
            return Err(RegistrarStoreError::ListBackwards {
                got: record.issued_at,
                stored,
            });
        }
        sqlx::query(
            "INSERT INTO list (one, issued_at, signed) VALUES (1, ?, ?) ON CONFLICT DO UPDATE SET \
             issued_at = excluded.issued_at, signed = excluded.signed",
        )
        .bind(signed(record.issued_at.0))
        .bind(&record.signed[..])
        .execute(&mut *tx)
        .await
        .map_err(failed(DOING))?;
        commit(tx, DOING).await
    }
}

/// Before SQLite does it, so that nobody else may read it at any time.
fn create(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn failed(doing: &'static str) -> impl Fn(sqlx::Error) -> RegistrarStoreError {
    move |error| RegistrarStoreError::database(doing, error)
}

async fn commit(tx: Transaction<'static, Sqlite>, doing: &'static str) -> Result<()> {
    tx.commit().await.map_err(failed(doing))
}

fn json<T: serde::Serialize>(table: &'static str, row: &str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| RegistrarStoreError::Corrupt {
        table,
        row: row.to_owned(),
        problem: error.to_string(),
    })
}

fn parse(wallet: WalletId, body: &str) -> Result<WalletRecord> {
    let record: Result<WalletRecord, _> = serde_json::from_str(body);
    let corrupt = |problem: String| RegistrarStoreError::Corrupt {
        table: "wallet",
        row: wallet.to_string(),
        problem,
    };
    let record = record.map_err(|error| corrupt(error.to_string()))?;
    if record.id() != wallet {
        return Err(corrupt(format!("it is of wallet {}", record.wallet)));
    }
    Ok(record)
}

/// SQLite counts to 2⁶³; later times and larger numbers keep their order at the end.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn receipt(row: &SqliteRow) -> Result<ReceiptRecord> {
    Ok(ReceiptRecord {
        coin: CoinId(word(row, "receipt", "coin")?),
        wallet: WalletId(word(row, "receipt", "wallet")?),
        asset: Address::from(array(row, "receipt", "asset")?),
        amount: amount(&bytes(row, "receipt", "amount")?)?,
        settle_by: Timestamp(number(row, "receipt", "settle_by")?),
        signed: bytes(row, "receipt", "signed")?,
    })
}

fn amount(bytes: &[u8]) -> Result<Amount> {
    let bytes = bytes.try_into().map_err(|_| RegistrarStoreError::Corrupt {
        table: "receipt",
        row: String::new(),
        problem: format!("amount of {} bytes", bytes.len()),
    })?;
    Ok(Amount(u128::from_be_bytes(bytes)))
}

fn number(row: &SqliteRow, table: &'static str, column: &'static str) -> Result<u64> {
    let number: i64 = row.try_get(column).map_err(damaged(table, column))?;
    Ok(unsigned(number))
}

fn bytes(row: &SqliteRow, table: &'static str, column: &'static str) -> Result<Vec<u8>> {
    row.try_get(column).map_err(damaged(table, column))
}

fn word(row: &SqliteRow, table: &'static str, column: &'static str) -> Result<B256> {
    array(row, table, column).map(B256::new)
}

fn array<const N: usize>(row: &SqliteRow, table: &'static str, column: &'static str) -> Result<[u8; N]> {
    let got = bytes(row, table, column)?;
    <[u8; N]>::try_from(&got[..]).map_err(|_| RegistrarStoreError::Corrupt {
        table,
        row: column.to_owned(),
        problem: format!("{} bytes, not {N}", got.len()),
    })
}

fn damaged(table: &'static str, column: &'static str) -> impl Fn(sqlx::Error) -> RegistrarStoreError {
    move |error| RegistrarStoreError::Corrupt {
        table,
        row: column.to_owned(),
        problem: error.to_string(),
    }
}
