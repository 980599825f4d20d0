//! The payer's role: opens escrows and pays merchants with tickets. Every step reads load, decide, save, send: a ticket is
//! durable in the store before it leaves, and one order has one ticket for ever.

pub mod ticket;
