//! Channels against a real chain.

mod happy;
