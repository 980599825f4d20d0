//! `cargo xtask tidy`: the house rules that no compiler knows. Each rule is a file here: a function from text (or from a
//! tree on disk) to findings, so that its tests need no repository.
//!
//! | rule | file |
//! |---|---|
//! | a crate depends on lower layers only | `layers` |
//! | documents name paths, commands and numbers that are there | `docs` |
//! | every contract has a file of its test, every weakness a test by name | `evidence` |
//! | a source file says what it is for, and leaves nothing unfinished | `sources` |
//! | the lock files work against any mirror | `lockfile` |

mod docs;
mod evidence;
mod layers;
mod lockfile;
mod sources;

use eyre::{Context, Result};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// One broken rule: where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// File, from the repository's root.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong and what mends it.
    pub message: String,
}

impl Finding {
    fn new(file: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Every finding of every rule, sorted by file.
///
/// # Errors
/// When the tree cannot be read or `cargo metadata` fails; a broken rule is a finding, not an error.
pub fn run(root: &Path) -> Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    let mut findings = layers::check(&layers::packages(root)?);
    findings.extend(docs::check(&tree));
    findings.extend(evidence::check(&tree));
    findings.extend(sources::check(&tree));
    findings.extend(lockfile::check(&tree));
    findings.sort();
    Ok(findings)
}

/// The files the rules look at, read once. Paths are from the root, with `/`.
#[derive(Debug, Default)]
struct Tree {
    files: Vec<(String, String)>,
    /// Everything that exists, folders included.
    paths: std::collections::BTreeSet<String>,
}

impl Tree {
    /// Reads everything but what git ignores (by name: `target`, `node_modules`, …) and git itself.
    fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).wrap_err_with(|| folder.display().to_string())? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if matches!(
                    name.as_str(),
                    "target" | "node_modules" | ".git" | ".venv" | "cache" | "out"
                ) {
                    continue;
                }
                let path = relative(root, &entry.path());
                tree.paths.insert(path.clone());
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if let Some(text) = is_text(&name).then(|| fs::read_to_string(entry.path())) {
                    tree.files.push((path.clone(), text.wrap_err(path)?));
                }
            }
        }
        tree.files.sort();
        Ok(tree)
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.files
            .iter()
            .find(|(file, _)| file == path)
            .map(|(_, text)| text.as_str())
    }

    /// Files under `folder` (with its closing `/`, or "" for all) whose name ends so.
    fn under<'a>(&'a self, folder: &'a str, end: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.starts_with(folder) && path.ends_with(end))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    fn exists(&self, path: &str) -> bool {
        self.paths.contains(path.trim_end_matches('/'))
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.files.push(((*path).to_owned(), (*text).to_owned()));
            tree.paths.extend(
                Path::new(path)
                    .ancestors()
                    .map(|folder| folder.to_string_lossy().into_owned()),
            );
        }
        tree.paths.remove("");
        tree
    }
}

fn is_text(name: &str) -> bool {
    const ENDS: &[&str] = &[".rs", ".sol", ".md", ".toml", ".json", ".lock"];
    name == "Makefile" || ENDS.iter().any(|end| name.ends_with(end))
}

fn relative(root: &Path, path: &Path) -> String {
    let path: PathBuf = path.strip_prefix(root).unwrap_or(path).components().collect();
    path.to_string_lossy().replace('\\', "/")
}

/// Lines with their number, from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// What stands between backticks in a line of Markdown.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}
