//! Preparing the tables, and whose they are.

use std::time::Duration;

use protocol::ticket::Domain;
use sqlx::migrate::{MigrateError, Migrator};

use super::{
    Connection, Pool,
    columns::{Bind, Fields},
    database_error,
};
use crate::{Owner, Result, StoreError, StoreIdentity, error::OtherStore};

pub(super) async fn migrate(pool: &Pool, migrations: &Migrator) -> Result<()> {
    // Two processes that create one store at the same time: the second one finds tables made in between. Migrations are
    // transactions, so it can just look again.
    const TRIES: u32 = 5;
    let mut tries = 0;
    loop {
        tries += 1;
        match migrations.run(pool).await {
            Ok(()) => return Ok(()),
            Err(MigrateError::VersionMissing(got)) => {
                let known = migrations.iter().map(|migration| migration.version).max();
                let known = known.unwrap_or(0);
                return Err(StoreError::NewerSchema { got, known });
            }
            Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..)) if tries < TRIES => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                return Err(database_error("preparing the tables", error));
            }
            Err(error) => return Err(crate::sql::database_error("preparing the tables", error, false)),
        }
    }
}

/// Writes the identity into a new store, compares it with that of an old one.
pub(super) async fn claim_identity(conn: &mut Connection, wanted: StoreIdentity) -> Result<()> {
    let (merchant, bank, wallet) = match &wanted.owner {
        Owner::Payer => (None, None, None),
        Owner::Merchant(recipient) => (Some(recipient), None, None),
        Owner::Bank(bank) => (None, Some(bank), None),
        Owner::Wallet(wallet) => (None, None, Some(wallet)),
    };
    sqlx::query(
        "INSERT INTO store (one, chain_id, contract, merchant, bank, wallet) VALUES (1, $1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .blob(&wanted.domain.chain_id())
    .blob(&wanted.domain.contract())
    .maybe_blob(merchant)
    .maybe_blob(bank)
    .maybe_blob(wallet)
    .execute(&mut *conn)
    .await
    .map_err(|error| database_error("storing the store's identity", error))?;
    check_identity(read_identity(conn).await?, wanted)
}

/// Whether the store may be opened as `wanted`. A new one has no identity yet.
pub(super) fn check_identity(stored: Option<StoreIdentity>, wanted: StoreIdentity) -> Result<()> {
    match stored {
        Some(stored) if stored != wanted => {
            Err(StoreError::OtherStore(Box::new(OtherStore { stored, wanted })))
        }
        _ => Ok(()),
    }
}

pub(super) async fn read_identity(conn: &mut Connection) -> Result<Option<StoreIdentity>> {
    // A store that is not migrated yet has fewer columns. Not kept prepared: the migration would change the answer's columns.
    let row = sqlx::query("SELECT * FROM store")
        .persistent(false)
        .fetch_optional(conn)
        .await
        .map_err(|error| database_error("reading the store's identity", error))?;
    row.map(|row| {
        let fields = Fields::new(&row, "store", "one");
        let domain = Domain::new(fields.get("chain_id")?, fields.get("contract")?);
        let bank = if fields.has("bank") {
            fields.maybe("bank")?
        } else {
            None
        };
        let wallet = if fields.has("wallet") {
            fields.maybe("wallet")?
        } else {
            None
        };
        let owner = match (fields.maybe("merchant")?, bank, wallet) {
            (None, None, None) => Owner::Payer,
            (Some(recipient), None, None) => Owner::Merchant(recipient),
            (None, Some(bank), None) => Owner::Bank(bank),
            (None, None, Some(wallet)) => Owner::Wallet(wallet),
            (Some(merchant), Some(bank), _) => {
                return Err(fields.corrupt("bank", format!("of bank {bank} and of merchant {merchant}")));
            }
            (_, _, Some(wallet)) => {
                return Err(fields.corrupt("wallet", format!("of wallet {wallet} and of another owner")));
            }
        };
        Ok(StoreIdentity { domain, owner })
    })
    .transpose()
}
