//! Rebuilds when a migration is added: `sqlx::migrate!` only sees the files that were there when it last ran.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
