//! The payer's role: opens escrows and channels, and pays merchants with tickets and words. Every step reads load, decide,
//! save, send: a payment is durable in the store before it leaves, and one order is paid once for ever.

pub mod channel;
pub mod ticket;
