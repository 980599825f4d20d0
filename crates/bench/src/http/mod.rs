//! The gateway under load: what paying costs on top of passing through, beside nginx doing the latter.

pub mod calls;
pub mod channel;
pub mod inside;
pub mod load;
pub mod nginx;
pub mod proxy;
