//! The scheme "offline": what a registrar must not forget.

pub mod registrar;
