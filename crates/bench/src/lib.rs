#![doc = include_str!("../README.md")]

pub mod channel;
pub mod clock;
pub mod durable;
pub mod http;
pub mod market;
pub mod ratio;
pub mod report;
pub mod wire;
