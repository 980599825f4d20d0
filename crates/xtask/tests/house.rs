//! The house rules and the bindings, as tests: `cargo test` fails where `cargo xtask tidy` or
//! `cargo xtask bindings --check` would.

use micropay_xtask::{bindings, root, tidy};

#[test]
fn house_rules_hold() {
    let findings = tidy::run(&root()).expect("the tree can be read");
    let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} finding(s):\n{}", list.len(), list.join("\n"));
}

#[test]
fn bindings_are_what_the_contracts_compile_to() {
    if let Err(error) = bindings::check(&root()) {
        panic!("{error:#}");
    }
}
