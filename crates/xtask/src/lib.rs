//! What the repository does to itself: `bindings` carries the contracts' ABI and bytecode to Rust, `tidy` holds the
//! house rules that a compiler does not know. Both run as commands (`cargo xtask …`) and inside `cargo test`.

pub mod bindings;
pub mod tidy;

use std::path::{Path, PathBuf};

/// The repository's root: two folders above this crate.
#[must_use]
pub fn root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(2).unwrap_or(crate_dir).to_path_buf()
}
