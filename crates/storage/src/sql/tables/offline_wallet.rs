//! [`WalletStore`] in SQL. The records beside the books are in `offline_records.rs`.

use std::sync::Arc;

use protocol::offline::{AnyPayer, Domain, InvoiceDigest, TransferDigest, WalletId};
use sqlx::QueryBuilder;

use super::{
    Connection, Db, Row, SqlStore,
    columns::{Bind, Fields, push_equal, push_limit},
    database_error, in_time,
    offline_records::{event, invoice, outgoing, save_deposit, save_event, save_invoice, save_outgoing},
    writer::Write,
};
use crate::{
    Result,
    offline::{
        DepositRecord, HistoryRecord, InvoiceRecord, InvoiceStage, OutgoingRecord, OutgoingStage,
        SavedWallet, WalletMark, WalletSave, WalletStore, WalletVersion,
    },
};

const READING: &str = "reading a wallet";

impl WalletStore for SqlStore {
    async fn wallet_version(&self) -> Result<Option<WalletVersion>> {
        self.identity.of_wallet()?;
        let row = self
            .wallet_row(QueryBuilder::new("SELECT one, version FROM offline_wallet"))
            .await?;
        row.map(|row| {
            Fields::new(&row, "offline_wallet", "one")
                .get("version")
                .map(WalletVersion)
        })
        .transpose()
    }

    async fn load_wallet(&self) -> Result<Option<SavedWallet>> {
        let (domain, _) = self.identity.of_wallet()?;
        let row = self
            .wallet_row(QueryBuilder::new("SELECT * FROM offline_wallet"))
            .await?;
        let Some(row) = row else { return Ok(None) };
        let fields = Fields::new(&row, "offline_wallet", "one");
        let payer = AnyPayer::decode(&domain, fields.bytes("payer")?)
            .map_err(|error| fields.corrupt("payer", error))?;
        let version = WalletVersion(fields.get("version")?);
        let payer = Arc::new(payer);
        Ok(Some(SavedWallet { version, payer }))
    }

    async fn save_wallet(&self, save: &WalletSave) -> Result<WalletVersion> {
        let (domain, owner) = self.identity.of_wallet()?;
        let save = save.clone();
        self.writer.write(Save { domain, owner, save }).await
    }

    async fn invoice(&self, digest: InvoiceDigest) -> Result<Option<InvoiceRecord>> {
        let mut sql = QueryBuilder::new("SELECT * FROM offline_invoices WHERE TRUE");
        push_equal(&mut sql, "digest", Some(&digest));
        Ok(self.wallet_records(sql, invoice).await?.pop())
    }

    async fn invoice_paid_by(&self, transfer: TransferDigest) -> Result<Option<InvoiceRecord>> {
        let mut sql = QueryBuilder::new("SELECT * FROM offline_invoices WHERE TRUE");
        push_equal(&mut sql, "transfer", Some(&transfer));
        Ok(self.wallet_records(sql, invoice).await?.pop())
    }

    async fn invoices(&self, stage: Option<InvoiceStage>) -> Result<Vec<InvoiceRecord>> {
        let mut sql = QueryBuilder::new("SELECT * FROM offline_invoices WHERE TRUE");
        if let Some(stage) = stage {
            sql.push(" AND state = ").push_bind(stage.name());
        }
        sql.push(" ORDER BY number");
        self.wallet_records(sql, invoice).await
    }

    async fn outgoing(&self, transfer: TransferDigest) -> Result<Option<OutgoingRecord>> {
        let mut sql = QueryBuilder::new("SELECT * FROM offline_outgoing WHERE TRUE");
        push_equal(&mut sql, "transfer", Some(&transfer));
        Ok(self.wallet_records(sql, outgoing).await?.pop())
    }

    async fn outgoing_for(&self, invoice: InvoiceDigest) -> Result<Option<OutgoingRecord>> {
        let mut sql = QueryBuilder::new("SELECT * FROM offline_outgoing WHERE TRUE");
        push_equal(&mut sql, "invoice", Some(&invoice));
        Ok(self.wallet_records(sql, outgoing).await?.pop())
    }

    async fn outgoings(&self, stage: Option<OutgoingStage>) -> Result<Vec<OutgoingRecord>> {
        let mut sql = QueryBuilder::new("SELECT * FROM offline_outgoing WHERE TRUE");
        if let Some(stage) = stage {
            sql.push(" AND state = ").push_bind(stage.name());
        }
        sql.push(" ORDER BY sequence");
        self.wallet_records(sql, outgoing).await
    }

    async fn deposits(&self) -> Result<Vec<DepositRecord>> {
        let sql = QueryBuilder::new("SELECT * FROM offline_deposits ORDER BY number");
        self.wallet_records(sql, super::offline_records::deposit).await
    }

    async fn history(&self, before: Option<u64>, limit: u32) -> Result<Vec<HistoryRecord>> {
        let mut sql = QueryBuilder::new("SELECT * FROM offline_history WHERE TRUE");
        if let Some(before) = before {
            sql.push(" AND number < ")
                .push_bind(i64::try_from(before).unwrap_or(i64::MAX));
        }
        sql.push(" ORDER BY number DESC");
        push_limit(&mut sql, Some(limit));
        self.wallet_records(sql, |row, _| event(row)).await
    }
}

impl SqlStore {
    async fn wallet_row(&self, mut sql: QueryBuilder<Db>) -> Result<Option<Row>> {
        in_time(async {
            let row = sql.build().fetch_optional(&self.readers).await;
            row.map_err(|error| database_error(READING, error))
        })
        .await
    }

    async fn wallet_records<T>(
        &self,
        mut sql: QueryBuilder<Db>,
        read: fn(&Row, &Domain) -> Result<T>,
    ) -> Result<Vec<T>> {
        let (domain, _) = self.identity.of_wallet()?;
        let rows = in_time(async {
            let rows = sql.build().fetch_all(&self.readers).await;
            rows.map_err(|error| database_error(READING, error))
        })
        .await?;
        rows.iter().map(|row| read(row, &domain)).collect()
    }
}

struct Save {
    domain: Domain,
    owner: WalletId,
    save: WalletSave,
}

impl Write for Save {
    type Out = WalletVersion;
    const DOING: &'static str = "saving a wallet";

    async fn apply(self, conn: &mut Connection) -> Result<WalletVersion> {
        let Self { domain, owner, save } = self;
        let failed = |error| database_error(Self::DOING, error);
        let row = sqlx::query("SELECT one, version, sequence FROM offline_wallet")
            .fetch_optional(&mut *conn)
            .await
            .map_err(failed)?;
        let stored = match row {
            None => WalletMark::default(),
            Some(row) => {
                let fields = Fields::new(&row, "offline_wallet", "one");
                WalletMark {
                    version: WalletVersion(fields.get("version")?),
                    sequence: protocol::offline::Sequence(fields.get("sequence")?),
                }
            }
        };
        let mark = save.check(owner, stored)?;
        match &save.payer {
            Some(payer) => {
                sqlx::query(
                    "INSERT INTO offline_wallet (one, version, sequence, payer) VALUES (1, $1, $2, $3)
                     ON CONFLICT (one) DO UPDATE SET version = $1, sequence = $2, payer = $3",
                )
                .blob(&mark.version.0)
                .blob(&mark.sequence.0)
                .bind(payer.encode(&domain))
                .execute(&mut *conn)
                .await
            }
            None => {
                sqlx::query("UPDATE offline_wallet SET version = $1")
                    .blob(&mark.version.0)
                    .execute(&mut *conn)
                    .await
            }
        }
        .map_err(failed)?;
        for record in &save.invoices {
            save_invoice(conn, &domain, record).await?;
        }
        for record in &save.outgoing {
            save_outgoing(conn, &domain, record).await?;
        }
        for record in &save.deposits {
            save_deposit(conn, &domain, record).await?;
        }
        for event in &save.events {
            save_event(conn, event).await?;
        }
        Ok(mark.version)
    }
}
