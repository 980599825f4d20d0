//! [`RevocationStore`] in SQL.

use alloy_primitives::Address;
use protocol::offline::{Domain, RevocationList, SignedRevocationList};

use super::{
    Connection, Row, SqlStore,
    columns::{Bind, Fields},
    database_error, in_time,
    writer::Write,
};
use crate::{Result, offline::RevocationStore};

impl RevocationStore for SqlStore {
    async fn save_list(&self, list: &RevocationList) -> Result<bool> {
        let (domain, _) = self.identity.of_wallet()?;
        let list = list.clone();
        self.writer.write(SaveList { domain, list }).await
    }

    async fn lists(&self) -> Result<Vec<RevocationList>> {
        let (domain, _) = self.identity.of_wallet()?;
        let rows = in_time(async {
            sqlx::query("SELECT * FROM offline_lists ORDER BY registrar")
                .fetch_all(&self.readers)
                .await
                .map_err(|error| database_error("reading revocation lists", error))
        })
        .await?;
        rows.iter().map(|row| list(row, &domain)).collect()
    }
}

struct SaveList {
    domain: Domain,
    list: RevocationList,
}

impl Write for SaveList {
    type Out = bool;
    // Writes with one statement.
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "saving a revocation list";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO offline_lists (registrar, issued_at, list) VALUES ($1, $2, $3)
             ON CONFLICT (registrar) DO UPDATE SET issued_at = $2, list = $3 WHERE offline_lists.issued_at < $2",
        )
        .blob(&self.list.registrar())
        .blob(&self.list.issued_at())
        .bind(self.list.signed().encode(&self.domain))
        .execute(conn)
        .await
        .map_err(|error| database_error(Self::DOING, error))?;
        Ok(done.rows_affected() == 1)
    }
}

fn list(row: &Row, domain: &Domain) -> Result<RevocationList> {
    let fields = Fields::new(row, "offline_lists", "registrar");
    let signed = SignedRevocationList::decode(domain, fields.bytes("list")?)
        .map_err(|error| fields.corrupt("list", error))?;
    let list = signed
        .verify(domain)
        .map_err(|error| fields.corrupt("list", error))?;
    let (stored, computed): (Address, _) = (fields.get("registrar")?, list.registrar());
    if stored != computed {
        return Err(fields.corrupt("registrar", format!("{stored} stored, {computed} signed")));
    }
    Ok(list)
}
