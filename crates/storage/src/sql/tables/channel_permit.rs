//! Permits in columns and back, for the payer who has them and the bank that signs them.

use alloy_primitives::{Address, B256};
use bindings::channel::OpenPermit;
use protocol::channel::{Admitted, Amount, ChannelId, Domain, Permit, Timestamp, Word};
use sqlx::query::Query;

use super::{
    Arguments, Db,
    columns::{Bind, Fields},
};
use crate::Result;

/// Binds, in this order: digest, receipt_key, unit, length, anchor, client_reputation, vendor_reputation, issued_at, expiry,
/// bank, signature. Channel and parties are the caller's.
pub(super) fn bind_permit(
    query: Query<'static, Db, Arguments>,
    admitted: &Admitted,
) -> Query<'static, Db, Arguments> {
    let permit = admitted.permit();
    let fields = permit.fields();
    query
        .blob(&permit.digest())
        .blob(&permit.receipt_key())
        .blob(&permit.unit())
        .bind(i64::from(fields.length))
        .blob(&permit.anchor())
        .bind(i64::from(fields.clientReputation))
        .bind(i64::from(fields.vendorReputation))
        .blob(&permit.issued_at())
        .blob(&permit.expiry())
        .blob(&admitted.bank())
        .blob(admitted.signature())
}

/// A permit. Its digest is computed again and compared: a damaged field cannot go unseen.
pub(super) fn admitted(
    fields: &Fields<'_>,
    domain: &Domain,
    channel: ChannelId,
    (client, vendor, asset): (Address, Address, Address),
) -> Result<Admitted> {
    let reputation = |column| fields.small(column, fields.count(column)?);
    let permit = OpenPermit {
        channelId: channel.0,
        client,
        vendor,
        receiptKey: fields.get("receipt_key")?,
        asset,
        unit: fields.get::<Amount>("unit")?.0,
        length: fields.index("length")?.0,
        anchor: fields.get::<Word>("anchor")?.0,
        clientReputation: reputation("client_reputation")?,
        vendorReputation: reputation("vendor_reputation")?,
        issuedAt: fields.get::<Timestamp>("issued_at")?.0,
        expiry: fields.get::<Timestamp>("expiry")?.0,
    };
    let permit = Permit::new(domain, permit);
    let stored: B256 = fields.get("digest")?;
    if stored != permit.digest() {
        let computed = permit.digest();
        return Err(fields.corrupt("digest", format!("{stored} stored, {computed} computed")));
    }
    Ok(Admitted::restore(
        permit,
        fields.get("bank")?,
        fields.get("signature")?,
    ))
}
