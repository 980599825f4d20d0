//! See `checks::channel_response`.
#![no_main]

#[allow(dead_code, reason = "each target runs one of the checks")]
#[path = "../../crates/gateway/tests/decoders/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::channel_response(data);
});
