//! What a wallet keeps beside its books, as rows.

use std::fmt::Display;

use protocol::offline::{
    Domain, Outgoing, Payee, Sequence, SignedAcceptance, SignedDeposit, SignedInvoice, SignedRejection,
};

use super::{
    Connection, Row,
    columns::{Bind, Fields},
    database_error,
};
use crate::{
    Result,
    offline::{
        DepositRecord, Event, EventKind, HistoryRecord, InvoiceMark, InvoiceRecord, InvoiceStage,
        InvoiceState, OutgoingMark, OutgoingRecord, OutgoingStage, OutgoingState, Standing,
    },
    sql::blob::Blob,
};

const SAVING: &str = "saving a wallet's records";

pub(super) async fn save_invoice(
    conn: &mut Connection,
    domain: &Domain,
    record: &InvoiceRecord,
) -> Result<()> {
    let failed = |error| database_error(SAVING, error);
    let digest = record.digest(domain);
    let mark = record.mark(domain);
    let row = sqlx::query(
        "SELECT digest, state, transfer, standing, answer FROM offline_invoices WHERE digest = $1",
    )
    .blob(&digest)
    .fetch_optional(&mut *conn)
    .await
    .map_err(failed)?;
    if let Some(row) = row {
        invoice_mark(&row)?.check_next(digest, &mark)?;
    }
    let (rejected, credited) = match &record.state {
        InvoiceState::Waiting => (None, None),
        InvoiceState::Rejected { at, .. } => (Some(*at), None),
        InvoiceState::Credited { credited, .. } => (None, Some(credited.encode(domain))),
    };
    sqlx::query(
        "INSERT INTO offline_invoices (digest, number, invoice, state, rejected, transfer, credited, standing, answer)
         VALUES ($1, (SELECT COALESCE(MAX(number), 0) + 1 FROM offline_invoices), $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (digest) DO UPDATE
             SET state = $3, rejected = $4, transfer = $5, credited = $6, standing = $7, answer = $8",
    )
    .blob(&digest)
    .bind(record.invoice.encode(domain))
    .bind(mark.stage.name())
    .maybe_blob(rejected.as_ref())
    .maybe_blob(mark.transfer.as_ref())
    .bind(credited)
    .bind(mark.standing.map(Standing::name))
    .bind(mark.answer)
    .execute(conn)
    .await
    .map(drop)
    .map_err(failed)
}

pub(super) async fn save_outgoing(
    conn: &mut Connection,
    domain: &Domain,
    record: &OutgoingRecord,
) -> Result<()> {
    let failed = |error| database_error(SAVING, error);
    let digest = record.digest(domain);
    let mark = record.mark();
    let row = sqlx::query("SELECT transfer, sequence, state FROM offline_outgoing WHERE transfer = $1")
        .blob(&digest)
        .fetch_optional(&mut *conn)
        .await
        .map_err(failed)?;
    if let Some(row) = row {
        outgoing_mark(&row)?.check_next(digest, &mark)?;
    }
    let acceptance = record.acceptance().map(|acceptance| acceptance.encode(domain));
    sqlx::query(
        "INSERT INTO offline_outgoing (transfer, sequence, invoice, outgoing, state, acceptance)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (transfer) DO UPDATE SET state = $5, acceptance = $6",
    )
    .blob(&digest)
    .blob(&mark.sequence.0)
    .maybe_blob(record.invoice(domain).as_ref())
    .bind(record.outgoing.encode(domain))
    .bind(mark.stage.name())
    .bind(acceptance)
    .execute(conn)
    .await
    .map(drop)
    .map_err(failed)
}

pub(super) async fn save_deposit(
    conn: &mut Connection,
    domain: &Domain,
    record: &DepositRecord,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO offline_deposits (coin, number, deposit, imported_at)
         VALUES ($1, (SELECT COALESCE(MAX(number), 0) + 1 FROM offline_deposits), $2, $3) ON CONFLICT DO NOTHING",
    )
    .blob(&domain.coin_id(&record.deposit.coin))
    .bind(record.deposit.encode(domain))
    .blob(&record.at)
    .execute(conn)
    .await
    .map(drop)
    .map_err(|error| database_error(SAVING, error))
}

pub(super) async fn save_event(conn: &mut Connection, event: &Event) -> Result<()> {
    sqlx::query(
        "INSERT INTO offline_history (number, happened_at, kind, subject, asset, amount, other)
         VALUES ((SELECT COALESCE(MAX(number), 0) + 1 FROM offline_history), $1, $2, $3, $4, $5, $6)",
    )
    .blob(&event.at)
    .bind(event.kind.name())
    .blob(&event.subject)
    .blob(&event.asset)
    .blob(&event.amount)
    .maybe_blob(event.other.as_ref())
    .execute(conn)
    .await
    .map(drop)
    .map_err(|error| database_error(SAVING, error))
}

pub(super) fn invoice(row: &Row, domain: &Domain) -> Result<InvoiceRecord> {
    let fields = Fields::new(row, "offline_invoices", "digest");
    let invoice = SignedInvoice::decode(domain, fields.bytes("invoice")?)
        .map_err(|error| fields.corrupt("invoice", error))?;
    let mark = invoice_mark(row)?;
    let answer = mark.answer.as_deref();
    let state = match mark.stage {
        InvoiceStage::Waiting => InvoiceState::Waiting,
        InvoiceStage::Rejected => InvoiceState::Rejected {
            at: fields.get("rejected")?,
            answer: answer
                .map(|bytes| SignedRejection::decode(domain, bytes))
                .transpose()
                .map_err(|error| fields.corrupt("answer", error))?,
        },
        InvoiceStage::Credited => InvoiceState::Credited {
            credited: Payee::decode(domain, fields.bytes("credited")?)
                .map(Box::new)
                .map_err(|error| fields.corrupt("credited", error))?,
            answer: answer
                .map(|bytes| SignedAcceptance::decode(domain, bytes))
                .transpose()
                .map_err(|error| fields.corrupt("answer", error))?,
            standing: mark.standing.unwrap_or_default(),
        },
    };
    let record = InvoiceRecord { invoice, state };
    same(&fields, "digest", &record.digest(domain))?;
    let computed = record.mark(domain).transfer;
    if mark.transfer != computed {
        return Err(fields.corrupt(
            "transfer",
            format!("{:?} stored, {computed:?} computed", mark.transfer),
        ));
    }
    Ok(record)
}

fn invoice_mark(row: &Row) -> Result<InvoiceMark> {
    let fields = Fields::new(row, "offline_invoices", "digest");
    let stage = fields.text("state")?;
    let stage = InvoiceStage::named(stage)
        .ok_or_else(|| fields.corrupt("state", format!("{stage:?} is no state of an invoice")))?;
    let standing = fields.maybe_text("standing")?;
    let standing = standing
        .map(|name| {
            Standing::named(name)
                .ok_or_else(|| fields.corrupt("standing", format!("{name:?} is no standing")))
        })
        .transpose()?;
    Ok(InvoiceMark {
        stage,
        transfer: fields.maybe("transfer")?,
        answer: fields.maybe_bytes("answer")?.map(<[u8]>::to_vec),
        standing,
    })
}

pub(super) fn outgoing(row: &Row, domain: &Domain) -> Result<OutgoingRecord> {
    let fields = Fields::new(row, "offline_outgoing", "transfer");
    let outgoing = Outgoing::decode(domain, fields.bytes("outgoing")?)
        .map_err(|error| fields.corrupt("outgoing", error))?;
    let state = match outgoing_mark(row)?.stage {
        OutgoingStage::Released => OutgoingState::Released,
        OutgoingStage::Accepted => OutgoingState::Accepted(
            SignedAcceptance::decode(domain, fields.bytes("acceptance")?)
                .map_err(|error| fields.corrupt("acceptance", error))?,
        ),
        OutgoingStage::Claimed => OutgoingState::Claimed,
        OutgoingStage::Settled => OutgoingState::Settled,
    };
    let record = OutgoingRecord { outgoing, state };
    same(&fields, "transfer", &record.digest(domain))?;
    Ok(record)
}

fn outgoing_mark(row: &Row) -> Result<OutgoingMark> {
    let fields = Fields::new(row, "offline_outgoing", "transfer");
    let stage = fields.text("state")?;
    let stage = OutgoingStage::named(stage)
        .ok_or_else(|| fields.corrupt("state", format!("{stage:?} is no state of a transfer")))?;
    let sequence = Sequence(fields.get("sequence")?);
    Ok(OutgoingMark { stage, sequence })
}

pub(super) fn deposit(row: &Row, domain: &Domain) -> Result<DepositRecord> {
    let fields = Fields::new(row, "offline_deposits", "coin");
    let deposit = SignedDeposit::decode(domain, fields.bytes("deposit")?)
        .map_err(|error| fields.corrupt("deposit", error))?;
    same(&fields, "coin", &domain.coin_id(&deposit.coin))?;
    let at = fields.get("imported_at")?;
    Ok(DepositRecord { deposit, at })
}

pub(super) fn event(row: &Row) -> Result<HistoryRecord> {
    let fields = Fields::new(row, "offline_history", "number");
    let kind = fields.text("kind")?;
    let kind =
        EventKind::named(kind).ok_or_else(|| fields.corrupt("kind", format!("{kind:?} is no event")))?;
    Ok(HistoryRecord {
        number: fields.count("number")?,
        event: Event {
            at: fields.get("happened_at")?,
            kind,
            subject: fields.get("subject")?,
            asset: fields.get("asset")?,
            amount: fields.get("amount")?,
            other: fields.maybe("other")?,
        },
    })
}

/// A name is made of what it names.
fn same<T: Blob + PartialEq + Display>(
    fields: &Fields<'_>,
    column: &'static str,
    computed: &T,
) -> Result<()> {
    let stored: T = fields.get(column)?;
    if stored == *computed {
        return Ok(());
    }
    Err(fields.corrupt(column, format!("{stored} stored, {computed} computed")))
}
