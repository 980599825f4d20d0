//! The payment protocols as pure functions: every decision of payer and merchant, and nothing else. No async, no clock, no
//! storage, no randomness; what a step needs is passed in, what it decides is returned.
//!
//! One module per scheme. A step has one word, and that word is the name of the file here, of the contract's function
//! and of the command.
//!
//! What is no scheme's own stands beside them: signatures and keys, typed data, units, blocks.

pub mod block;
pub mod channel;
pub mod offline;
pub mod signature;
pub mod ticket;
mod typed_data;
pub mod units;
