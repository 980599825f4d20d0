//! Saving comes before sending: a payer's order gets its ticket from the store, and the same one again after a restart.
//!
//! `cargo run -p micropay-storage --example issue`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::{error::Error, sync::Arc};

use alloy_primitives::{Address, B256};
use micropay_storage::{OrderRequest, OrderState, OrderStore, SqliteStore, StoreIdentity};
use protocol::ticket::{Amount, Domain, EscrowKey, Nonce, OrderId, Ticket, Timestamp};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let domain = Domain::new(31337, Address::repeat_byte(0xc0));
    let key = Arc::new(EscrowKey::from_bytes(&[7; 32])?);
    let recipient = Address::repeat_byte(0xaa);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("payer.db");

    let request = OrderRequest {
        order: OrderId(B256::repeat_byte(1)),
        escrow: key.address(),
        recipient,
        price: Amount(1_000),
        replaces: None,
        budgets: Vec::new(),
        at: Timestamp(1_800_000_000),
    };
    let sign = move |nonce: Nonce| {
        let fields = bindings::ticket::Ticket {
            escrow: key.address(),
            recipient,
            commitment: B256::repeat_byte(2),
            r2: B256::repeat_byte(3),
            winThreshold: alloy_primitives::U256::MAX >> 7,
            expiry: 1_800_086_400,
            nonce: nonce.0,
        };
        let signature = key.sign(domain.ticket_digest(&fields));
        Ticket::from_parts(&domain, fields, signature)
    };

    let store = SqliteStore::open(&file, StoreIdentity::payer(domain)).await?;
    let first = store.issue(request.clone(), sign.clone()).await?.into_record();
    println!(
        "ticket {} with nonce {} is on the disk; now it may be sent",
        first.ticket.digest(),
        first.ticket.nonce()
    );
    store.close().await?;

    let store = SqliteStore::open(&file, StoreIdentity::payer(domain)).await?;
    let again = store.issue(request, sign).await?.into_record();
    println!(
        "after a restart the order has the same ticket: {}",
        again.ticket == first.ticket
    );
    store.resolve(again.id, OrderState::Delivered).await?;
    println!(
        "it is {} now",
        store.orders(first.ticket.escrow()).await?[0].state
    );
    Ok(())
}
