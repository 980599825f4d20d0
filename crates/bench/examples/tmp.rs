//! tmp
#![allow(clippy::all, clippy::print_stdout)]
fn main() { println!("{:#?}", micropay_bench::durable::run(std::path::Path::new("/work/main/target/bench")).unwrap()); }
