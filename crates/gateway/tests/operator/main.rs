//! The operator's page, metrics and health over HTTP, as a browser, a scraper and a stranger ask for them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod browser;
mod dashboard;
mod http;
mod shop;
