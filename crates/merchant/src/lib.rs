//! The merchant's role: quotes, accepts tickets, draws, stores winners before it delivers, and claims them. Every step
//! reads load, decide, save, send.

pub mod ticket;
