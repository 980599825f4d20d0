//! Documents keep their word. In every Markdown file:
//!
//! * a relative link leads to a file that is there;
//! * `make <target>` and `cargo xtask <task>` in code name a target of the Makefile and a task of this crate;
//! * a number followed by `<!-- = FILE#KEY -->` (unseen when rendered) is the number under that key of that JSON file:
//!   `51,696<!-- = tests/contracts/snapshots/TicketEscrow.json#claim_next -->`.
//!
//! And in ARCHITECTURE.md every path in backticks in a table's cell, above all in the step table, exists.

use super::{Finding, Tree, code_spans, lines};

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const TASKS: &[&str] = &["bindings", "tidy"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = steps(tree);
    for (file, text) in tree.under("", ".md") {
        let mut fenced = false;
        for (number, line) in lines(text) {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
                continue;
            }
            let mut say = |message: String| findings.push(Finding::new(file, number, message));
            if fenced {
                command(tree, line).into_iter().for_each(&mut say);
            } else {
                code_spans(line)
                    .filter_map(|code| command(tree, code))
                    .for_each(&mut say);
                let prose: String = line.split('`').step_by(2).collect();
                links(tree, file, &prose).into_iter().for_each(&mut say);
                numbers(tree, &prose).into_iter().for_each(&mut say);
            }
        }
    }
    findings
}

fn steps(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(ARCHITECTURE) else {
        return vec![Finding::new(
            ARCHITECTURE,
            1,
            "missing: map, step table, invariants, glossary",
        )];
    };
    lines(text)
        .filter(|(_, line)| line.trim_start().starts_with('|'))
        .flat_map(|(number, line)| {
            code_spans(line)
                .filter(|code| is_path(code))
                .map(move |code| (number, code))
        })
        .filter(|(_, path)| !tree.exists(path))
        .map(|(number, path)| {
            Finding::new(
                ARCHITECTURE,
                number,
                format!("`{path}` is not there: correct the row or write the file"),
            )
        })
        .collect()
}

/// A file or folder of this repository, not a type, a route or a command.
fn is_path(code: &str) -> bool {
    const ROOTS: &[&str] = &["contracts/", "crates/", "tests/", "script/", "docs/", ".ci/"];
    const STRANGE: &[char] = &[' ', '<', '*', '{', '…'];
    !code.contains(STRANGE) && (ROOTS.iter().any(|root| code.starts_with(root)) || code.ends_with(".md"))
}

/// The first complaint about `make …` or `cargo xtask …` in a line of code.
fn command(tree: &Tree, code: &str) -> Option<String> {
    let words: Vec<&str> = code
        .split('#')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let words = words.strip_prefix(&["$"]).unwrap_or(&words);
    match words {
        ["make", target, ..] if !target.contains(['=', '<', '…']) => {
            let makefile = tree.text("Makefile").unwrap_or_default();
            let known = makefile.lines().any(|line| {
                line.split_once(':').is_some_and(|(targets, _)| {
                    !line.starts_with(['\t', '.', '#'])
                        && targets.split_whitespace().any(|name| name == *target)
                })
            });
            (!known).then(|| format!("`make {target}` is no target of the Makefile: correct or remove it"))
        }
        ["cargo", "xtask", task, ..] if !TASKS.contains(task) && !task.contains(['<', '…']) => {
            Some(format!("`cargo xtask {task}` is no task: correct or remove it"))
        }
        _ => None,
    }
}

fn links(tree: &Tree, file: &str, line: &str) -> Vec<String> {
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#', ' ']).next())
        .filter(|target| !target.is_empty() && !target.contains(':'))
        .filter(|target| !tree.exists(&join(folder, target)))
        .map(|target| format!("the link to {target} leads nowhere: correct it"))
        .collect()
}

fn join(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn numbers(tree: &Tree, line: &str) -> Vec<String> {
    const MARK: &str = "<!-- = ";
    let mut complaints = Vec::new();
    for (before, after) in line
        .match_indices(MARK)
        .map(|(at, _)| (&line[..at], &line[at + MARK.len()..]))
    {
        let source = after.split("-->").next().unwrap_or_default().trim();
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        let is_number = |letter: char| letter.is_ascii_digit() || ",_'".contains(letter);
        let start = before
            .rfind(|letter: char| !is_number(letter))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let claimed = digits(&before[start..]);
        let found = source.split_once('#').and_then(|(file, key)| {
            let json: serde_json::Value = serde_json::from_str(tree.text(file)?).ok()?;
            Some(digits(&json.get(key)?.to_string()))
        });
        match found {
            None => complaints.push(format!("there is no number at {source}: correct the mark")),
            Some(found) if found != claimed => {
                complaints.push(format!(
                    "says {claimed}, but {source} says {found}: correct the number"
                ));
            }
            Some(_) => {}
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).iter().map(ToString::to_string).collect()
    }

    const MAKEFILE: (&str, &str) = ("Makefile", ".PHONY: demo\ndemo gas: setup\n\tcargo run\n");

    #[test]
    fn the_step_table_names_what_is_there() {
        let table = "Text: `crates/gone/free.rs`\n\n| step | file |\n|---|---|\n\
             | claim | `crates/p/claim.rs`, `TicketEscrow.claim`, `crates/<scheme>/x.rs` |\n| cure | `crates/p/cure.rs` |\n";
        let complaints = found(&[(ARCHITECTURE, table), ("crates/p/claim.rs", "")]);
        assert_eq!(
            complaints,
            ["ARCHITECTURE.md:6: `crates/p/cure.rs` is not there: correct the row or write the file"]
        );
        assert!(found(&[])[0].starts_with("ARCHITECTURE.md:1: missing"));
    }

    #[test]
    fn commands_exist() {
        let readme = "Run `make demo` or `make tea`.\n```sh\n$ make gas ARGS=1 # text\nmake coffee\ncargo xtask tidy\n\
             cargo xtask dance\n```\nIt will make sense.\n";
        let complaints = found(&[MAKEFILE, (ARCHITECTURE, ""), ("README.md", readme)]);
        assert_eq!(complaints.len(), 3, "{complaints:?}");
        assert!(complaints[0].starts_with("README.md:1: `make tea`"));
        assert!(complaints[1].starts_with("README.md:4: `make coffee`"));
        assert!(complaints[2].starts_with("README.md:6: `cargo xtask dance`"));
    }

    #[test]
    fn links_lead_somewhere() {
        let text = "[a](../README.md#top) [b](gone.md) [c](https://example.org/x) [d](#here)";
        let complaints = found(&[(ARCHITECTURE, ""), ("README.md", ""), ("docs/a.md", text)]);
        assert_eq!(
            complaints,
            ["docs/a.md:1: the link to gone.md leads nowhere: correct it"]
        );
    }

    #[test]
    fn numbers_are_those_of_their_file() {
        let text = "A claim takes 51,696<!-- = s.json#claim --> gas, not 1<!-- = s.json#claim -->, 2<!-- = s.json#gone -->.";
        let complaints = found(&[
            (ARCHITECTURE, ""),
            ("README.md", text),
            ("s.json", "{\"claim\": \"51696\"}"),
        ]);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].contains("says 1, but s.json#claim says 51696"));
        assert!(complaints[1].contains("no number at s.json#gone"));
    }
}
