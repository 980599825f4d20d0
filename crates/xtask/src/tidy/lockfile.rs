//! Lock files work for everybody, against any mirror of the registries:
//!
//! * package-lock.json holds versions and checksums but no download addresses (`omit-lockfile-registry-resolved` in
//!   .npmrc keeps it so);
//! * its entries of forge, anvil and cast for each platform have no `bin`: npm 10 unlinks the names of packages that it
//!   leaves out for another platform, and with them the shim of the same name that it had just linked;
//! * Cargo.lock names crates.io alone.

use super::{Finding, Tree, lines};

const NPM: &str = "package-lock.json";
const CARGO: &str = "Cargo.lock";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    if tree.text(NPM).is_none() {
        return vec![Finding::new(
            NPM,
            1,
            "missing: run `npm install --package-lock-only` and commit it",
        )];
    }
    for (file, text) in tree.under("", NPM) {
        check_npm(file, text, &mut findings);
    }
    for (number, line) in lines(tree.text(CARGO).unwrap_or_default()) {
        if line.starts_with("source = ") && !line.contains("registry+") {
            findings.push(Finding::new(
                CARGO,
                number,
                "a crate from elsewhere than crates.io: use a published version",
            ));
        }
    }
    findings
}

fn check_npm(file: &str, text: &str, findings: &mut Vec<Finding>) {
    let mut platform = false;
    for (number, line) in lines(text) {
        let line = line.trim_start();
        if let Some(name) = line.strip_prefix("\"node_modules/") {
            // @foundry-rs/<tool>-<system>-<processor>
            platform = name.starts_with("@foundry-rs/") && name.matches('-').count() == 3;
        }
        if line.starts_with("\"resolved\"") {
            let message = "a download address: keep `omit-lockfile-registry-resolved=true` in .npmrc and run \
                           `npm install --package-lock-only`";
            findings.push(Finding::new(file, number, message));
        }
        if platform && line.starts_with("\"bin\"") {
            let message = "`bin` of a platform's package: remove it, or npm 10 will not link the tool (CONTRIBUTING.md)";
            findings.push(Finding::new(file, number, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<(String, usize)> {
        check(&Tree::of(files))
            .into_iter()
            .map(|finding| (finding.file, finding.line))
            .collect()
    }

    #[test]
    fn download_addresses_are_found() {
        assert_eq!(
            found(&[(NPM, "{\n  \"version\": \"1\",\n  \"resolved\": \"x\"\n}")]),
            [(NPM.to_owned(), 3)]
        );
        let below = "clients/js/package-lock.json";
        assert_eq!(
            found(&[(NPM, "{}"), (below, "\"resolved\": \"x\"")]),
            [(below.to_owned(), 1)]
        );
        assert_eq!(found(&[(NPM, "{}")]), []);
        assert_eq!(found(&[]), [(NPM.to_owned(), 1)]);
    }

    #[test]
    fn only_the_shim_owns_the_name() {
        let lock = "\"node_modules/@foundry-rs/anvil\": {\n\"bin\": {\n\
                    \"node_modules/@foundry-rs/anvil-linux-amd64\": {\n\"bin\": {\n\
                    \"node_modules/semver\": {\n\"bin\": {";
        assert_eq!(found(&[(NPM, lock)]), [(NPM.to_owned(), 4)]);
    }

    #[test]
    fn crates_come_from_the_registry() {
        let lock = "source = \"registry+x\"\nsource = \"git+y\"";
        assert_eq!(found(&[(NPM, "{}"), (CARGO, lock)]), [(CARGO.to_owned(), 2)]);
    }
}
