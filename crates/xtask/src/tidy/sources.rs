//! The first screen of a source file says what it is for, and nothing is left unfinished. (Clippy warns of the macros
//! too, but only where it compiles: not behind a feature or for another platform.)

use super::{Finding, Tree, lines};

const UNFINISHED: &[&str] = &[
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("db", "g!"),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.under("", ".rs") {
        let in_src = file.starts_with("crates/") && file.contains("/src/");
        if in_src && !opens_with_purpose(text) {
            findings.push(Finding::new(
                file,
                1,
                "open the file with two or three `//!` sentences: what it is for",
            ));
        }
        for (number, line) in lines(text) {
            let code = line.split("//").next().unwrap_or_default();
            for name in UNFINISHED.iter().filter(|name| code.contains(**name)) {
                findings.push(Finding::new(
                    file,
                    number,
                    format!("`{name}` in a source: finish or remove it"),
                ));
            }
        }
    }
    findings
}

/// `//!`, or a README as the module's documentation.
fn opens_with_purpose(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with("//!") || text.starts_with("#![doc = include_str!(")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_opens_with_its_purpose() {
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "//! What it is for.\nfn f() {}"),
            ("crates/a/src/b.rs", "fn f() {}"),
            ("crates/a/src/c.rs", "#![doc = include_str!(\"README.md\")]"),
            ("crates/a/tests/t.rs", "fn f() {}"),
        ]);
        let found = check(&tree);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].file.as_str(), found[0].line), ("crates/a/src/b.rs", 1));
    }

    #[test]
    fn nothing_is_left_unfinished() {
        let call = UNFINISHED[0];
        let text = format!("//! A file.\n// {call}() in a comment\nfn f() {{ {call}() }}");
        let found = check(&Tree::of(&[("crates/a/src/lib.rs", &text)]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].line, 3);
    }
}
