//! Values in columns and back. What the database returns is judged like input: a damaged row is an error that names it.

use std::fmt::Display;

use alloy_primitives::B256;
use bindings::ticket;
use protocol::{
    channel::Index,
    ticket::{BlockRef, Domain, Issued, SessionId, Ticket, Won},
};
use sqlx::{QueryBuilder, Row as _, query::Query};

use super::{Arguments, Db, Row};
use crate::{
    Result, StoreError,
    sql::blob::{Blob, width_differs},
};

/// Binding by blob, so that no call site chooses an encoding.
pub(super) trait Bind {
    fn blob(self, value: &impl Blob) -> Self;
    fn maybe_blob(self, value: Option<&impl Blob>) -> Self;
}

impl Bind for Query<'static, Db, Arguments> {
    fn blob(self, value: &impl Blob) -> Self {
        self.bind(value.to_blob())
    }

    fn maybe_blob(self, value: Option<&impl Blob>) -> Self {
        self.bind(value.map(Blob::to_blob))
    }
}

/// Adds `AND <column> = <value>` if there is a value.
pub(super) fn push_equal(sql: &mut QueryBuilder<Db>, column: &'static str, value: Option<&impl Blob>) {
    if let Some(value) = value {
        sql.push(" AND ")
            .push(column)
            .push(" = ")
            .push_bind(value.to_blob());
    }
}

/// Adds `LIMIT n` if there is a limit.
pub(super) fn push_limit(sql: &mut QueryBuilder<Db>, limit: Option<u32>) {
    if let Some(limit) = limit {
        sql.push(" LIMIT ").push_bind(i64::from(limit));
    }
}

/// A row, with the names that an error needs.
pub(super) struct Fields<'r> {
    row: &'r Row,
    table: &'static str,
    key: &'static str,
}

impl<'r> Fields<'r> {
    /// `key` is the column that names the row in errors.
    pub(super) fn new(row: &'r Row, table: &'static str, key: &'static str) -> Self {
        Self { row, table, key }
    }

    /// The columns that a join took from another table, whose key is in `key`.
    pub(super) fn of(&self, table: &'static str, key: &'static str) -> Self {
        Self {
            row: self.row,
            table,
            key,
        }
    }

    /// Whether the answer has this column.
    pub(super) fn has(&self, column: &str) -> bool {
        self.row.try_column(column).is_ok()
    }

    pub(super) fn get<T: Blob>(&self, column: &'static str) -> Result<T> {
        let blob: &[u8] = self
            .row
            .try_get(column)
            .map_err(|error| self.corrupt(column, error))?;
        self.parse(column, blob)
    }

    pub(super) fn maybe<T: Blob>(&self, column: &'static str) -> Result<Option<T>> {
        let blob: Option<&[u8]> = self
            .row
            .try_get(column)
            .map_err(|error| self.corrupt(column, error))?;
        blob.map(|blob| self.parse(column, blob)).transpose()
    }

    pub(super) fn bytes(&self, column: &'static str) -> Result<&'r [u8]> {
        self.row
            .try_get(column)
            .map_err(|error| self.corrupt(column, error))
    }

    pub(super) fn text(&self, column: &'static str) -> Result<&'r str> {
        self.row
            .try_get(column)
            .map_err(|error| self.corrupt(column, error))
    }

    pub(super) fn maybe_text(&self, column: &'static str) -> Result<Option<&'r str>> {
        self.row
            .try_get(column)
            .map_err(|error| self.corrupt(column, error))
    }

    pub(super) fn maybe_bytes(&self, column: &'static str) -> Result<Option<&'r [u8]>> {
        self.row
            .try_get(column)
            .map_err(|error| self.corrupt(column, error))
    }

    /// A count or row number, which databases keep as a signed integer.
    pub(super) fn count(&self, column: &'static str) -> Result<u64> {
        let number: i64 = self
            .row
            .try_get(column)
            .map_err(|error| self.corrupt(column, error))?;
        u64::try_from(number).map_err(|error| self.corrupt(column, error))
    }

    pub(super) fn maybe_count(&self, column: &'static str) -> Result<Option<u64>> {
        let number: Option<i64> = self
            .row
            .try_get(column)
            .map_err(|error| self.corrupt(column, error))?;
        number
            .map(u64::try_from)
            .transpose()
            .map_err(|error| self.corrupt(column, error))
    }

    /// An index of a channel.
    pub(super) fn index(&self, column: &'static str) -> Result<Index> {
        self.small(column, self.count(column)?).map(Index)
    }

    pub(super) fn maybe_index(&self, column: &'static str) -> Result<Option<Index>> {
        let number = self.maybe_count(column)?;
        number
            .map(|number| self.small(column, number).map(Index))
            .transpose()
    }

    /// A number that has to fit a smaller integer.
    pub(super) fn small<T: TryFrom<u64>>(&self, column: &'static str, number: u64) -> Result<T> {
        T::try_from(number).map_err(|_| self.corrupt(column, format!("{number} is too large")))
    }

    /// Somebody else's words, so they may hold what text columns do not take (PostgreSQL: a zero byte).
    pub(super) fn maybe_string(&self, column: &'static str) -> Result<Option<String>> {
        let bytes = self.maybe_bytes(column)?;
        let text = bytes.map(|bytes| String::from_utf8(bytes.to_vec())).transpose();
        text.map_err(|error| self.corrupt(column, error))
    }

    pub(super) fn flag(&self, column: &'static str) -> Result<bool> {
        Ok(self.count(column)? != 0)
    }

    /// A block from three columns.
    pub(super) fn block(
        &self,
        number: &'static str,
        hash: &'static str,
        timestamp: &'static str,
    ) -> Result<BlockRef> {
        Ok(BlockRef {
            number: self.get(number)?,
            hash: self.get(hash)?,
            timestamp: self.get(timestamp)?,
        })
    }

    /// The ticket of an order. Its digest is computed again and compared: a damaged field cannot go unseen.
    pub(super) fn issued(&self, domain: &Domain) -> Result<Ticket<Issued>> {
        let fields = ticket::Ticket {
            escrow: self.get("escrow")?,
            recipient: self.get("recipient")?,
            commitment: self.get("commitment")?,
            r2: self.get("r2")?,
            winThreshold: self.get("win_threshold")?,
            expiry: self.get("expiry")?,
            nonce: self.get("nonce")?,
        };
        let ticket = Ticket::from_parts(domain, fields, self.get("signature")?);
        let stored: B256 = self.get("digest")?;
        if stored != ticket.digest() {
            let computed = ticket.digest();
            return Err(self.corrupt("digest", format!("{stored} stored, {computed} computed")));
        }
        Ok(ticket)
    }

    /// The ticket of a winner; checks that `r1` opens its commitment and that it still wins.
    pub(super) fn won(&self, domain: &Domain) -> Result<Ticket<Won>> {
        let issued = self.issued(domain)?;
        let session = SessionId {
            boot: self.get("boot")?,
            serial: self.get("serial")?,
        };
        let r1: B256 = self.get("r1")?;
        let opened = domain.commitment(issued.recipient(), r1);
        if opened != issued.commitment() {
            let commitment = issued.commitment();
            return Err(self.corrupt(
                "r1",
                format!("opens {opened}, the ticket's commitment is {commitment}"),
            ));
        }
        Ticket::<Won>::restore(
            issued.digest(),
            issued.fields().clone(),
            *issued.signature(),
            session,
            r1,
        )
        .map_err(|error| self.corrupt("r1", error))
    }

    pub(super) fn corrupt(&self, column: &'static str, problem: impl Display) -> StoreError {
        let row = match self.row.try_get::<&[u8], _>(self.key) {
            Ok(key) => alloy_primitives::hex::encode_prefixed(key),
            Err(_) => match self.row.try_get::<i64, _>(self.key) {
                Ok(key) => key.to_string(),
                Err(_) => format!("(unreadable {})", self.key),
            },
        };
        StoreError::Corrupt {
            table: self.table,
            row,
            column,
            problem: problem.to_string(),
        }
    }

    fn parse<T: Blob>(&self, column: &'static str, blob: &[u8]) -> Result<T> {
        if blob.len() != T::WIDTH {
            return Err(self.corrupt(column, width_differs(blob.len(), T::WIDTH)));
        }
        T::from_blob(blob).map_err(|problem| self.corrupt(column, problem))
    }
}
