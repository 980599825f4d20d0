//! See `checks::answers`.
#![no_main]

#[path = "../../crates/trusted/tests/answers/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let folder = format!("micropay-fuzz-{}", std::process::id());
    checks::answers(&std::env::temp_dir().join(folder), data);
});
