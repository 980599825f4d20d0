//! Other people's Rust clients against our wire format. All of it is tests.
