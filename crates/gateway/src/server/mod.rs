//! The seller's side: a layer that charges, a reverse proxy behind it, and the operator's page.
pub mod operator;
