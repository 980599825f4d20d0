//! The merchant's role: quotes, accepts tickets and words, draws, stores what it is owed before it delivers, and claims it.
//! Every step reads load, decide, save, send.

pub mod channel;
pub mod follow;
pub mod ticket;
