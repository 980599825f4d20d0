//! What is claimed has a test: every contract a file of its test, every weakness of the paper (`docs/threats.md`) a test
//! by name.
//!
//! A row of the threats table looks like `| M1-7 | problem | repair | `attack_…`, `test_…` |`: the names in backticks in
//! its last cell are tests, Solidity (`function name(`) or Rust (`fn name(`).

use super::{Finding, Tree, code_spans, lines};

const THREATS: &str = "docs/threats.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = contracts(tree);
    findings.extend(threats(tree));
    findings
}

/// `contracts/<scheme>/<Name>.sol` is imported, or deployed by name, somewhere under `tests/contracts/` (an abstract one by its
/// harness among the mocks), and a `*.t.sol` stands under `tests/contracts/<scheme>/`. An interface `I<Name>.sol` is tested through its contract.
fn contracts(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, _) in tree.under("contracts/", ".sol") {
        let Some((scheme, name)) = file.trim_start_matches("contracts/").rsplit_once('/') else {
            findings.push(Finding::new(
                file,
                1,
                "a contract lies in its scheme's folder: contracts/<scheme>/",
            ));
            continue;
        };
        if name
            .strip_prefix('I')
            .is_some_and(|name| tree.exists(&format!("contracts/{scheme}/{name}")))
        {
            continue;
        }
        let folder = format!("tests/contracts/{scheme}/");
        let tested = tree.under(&folder, ".t.sol").next().is_some()
            && tree.under("tests/contracts/", ".sol").any(|(_, text)| {
                text.contains(&format!("\"{file}\"")) || text.contains(&format!("deployCode(\"{name}:"))
            });
        if !tested {
            let message = format!("no test imports it: write {folder}<step>.t.sol");
            findings.push(Finding::new(file, 1, message));
        }
    }
    findings
}

fn threats(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(THREATS) else {
        return vec![Finding::new(
            THREATS,
            1,
            "missing: each weakness of the paper with the test that shows it",
        )];
    };
    let mut findings = Vec::new();
    for (number, line) in lines(text) {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let Some(id) = cells.first().filter(|cell| line.starts_with('|') && is_id(cell)) else {
            continue;
        };
        let names: Vec<&str> = cells
            .last()
            .into_iter()
            .flat_map(|cell| code_spans(cell))
            .map(test_name)
            .collect();
        if names.is_empty() {
            let message = format!("{id} names no test: put its name in backticks into the row's last cell");
            findings.push(Finding::new(THREATS, number, message));
        }
        for name in names.into_iter().filter(|name| !has_test(tree, name)) {
            let message = format!("{id}: there is no test `{name}`: correct the name or write the test");
            findings.push(Finding::new(THREATS, number, message));
        }
    }
    findings
}

/// A row's id such as `M1-7`, `N-3` or `H4`, perhaps in bold.
fn is_id(cell: &str) -> bool {
    let id = cell.trim_matches('*');
    let scheme = id.trim_end_matches(|last: char| last.is_ascii_digit());
    let scheme_is_word = scheme.starts_with(|first: char| first.is_ascii_uppercase())
        && scheme
            .trim_end_matches('-')
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric());
    scheme.len() < id.len() && scheme_is_word
}

/// `module::name`, `file.t.sol:name` and `name()` all mean `name`.
fn test_name(code: &str) -> &str {
    code.rsplit(':').next().unwrap_or(code).trim_end_matches("()")
}

fn has_test(tree: &Tree, name: &str) -> bool {
    let defined = |text: &str, keyword: &str| text.contains(&format!("{keyword} {name}("));
    tree.under("tests/", ".sol")
        .any(|(_, text)| defined(text, "function"))
        || tree.under("", ".rs").any(|(_, text)| defined(text, "fn"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: (&str, &str) = ("contracts/ticket/Escrow.sol", "contract Escrow {}");
    const TEST: (&str, &str) = (
        "tests/contracts/ticket/claim.t.sol",
        "import {Escrow} from \"contracts/ticket/Escrow.sol\";\nfunction attack_replay() external {}",
    );

    #[test]
    fn a_contract_has_a_test_that_imports_it() {
        let interface = ("contracts/ticket/IEscrow.sol", "interface IEscrow {}");
        assert!(contracts(&Tree::of(&[CONTRACT, interface, TEST])).is_empty());
        let found = contracts(&Tree::of(&[CONTRACT]));
        assert_eq!(found[0].file, "contracts/ticket/Escrow.sol");
        let elsewhere = ("tests/contracts/bank/a.t.sol", TEST.1);
        assert_eq!(contracts(&Tree::of(&[CONTRACT, elsewhere])).len(), 1);
    }

    #[test]
    fn a_row_names_tests_that_exist() {
        let rust = ("crates/p/tests/t.rs", "fn draw_is_uniform() {}");
        let table = "| id | problem | test |\n|---|---|---|\n\
             | M1-1 | `code` in the middle | `attack_replay`, `ticket::draw_is_uniform()` |\n\
             | M1-2 | no test | none |\n\
             | **N-3** | a lost test | `claim.t.sol:attack_gone` |\n";
        let found = threats(&Tree::of(&[TEST, rust, (THREATS, table)]));
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(
            found[0].to_string(),
            "docs/threats.md:4: M1-2 names no test: put its name in backticks into the row's last cell"
        );
        assert_eq!(found[1].line, 5);
        assert!(found[1].message.contains("`attack_gone`"));
    }
}
