//! The payer's side: a reqwest middleware that pays.
