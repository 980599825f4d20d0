//! Rule 1 of ARCHITECTURE.md: a crate depends only on crates of lower layers, and crates of one layer do not know each
//! other. A crate states its layer in its Cargo.toml:
//!
//! ```toml
//! [package.metadata.tidy]
//! layer = 2
//! # Tests may look up, when they say why:
//! dev-above = { micropay-chain = "the real follower drives the conformance suite" }
//! ```

use super::{Finding, lines, relative};
use eyre::{Context, Result, ensure};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path, process::Command};

/// What the rule needs to know of a workspace crate.
#[derive(Debug)]
pub(super) struct Package {
    name: String,
    /// Its Cargo.toml, from the root.
    manifest: String,
    layer: Option<u32>,
    dev_above: BTreeMap<String, String>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug)]
struct Dependency {
    name: String,
    /// For tests only.
    dev: bool,
    /// Its line in the manifest.
    line: usize,
}

pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    let layers: BTreeMap<&str, u32> = packages
        .iter()
        .filter_map(|package| Some((package.name.as_str(), package.layer?)))
        .collect();
    let mut findings = Vec::new();
    for package in packages {
        let mut say =
            |line: usize, message: String| findings.push(Finding::new(&package.manifest, line, message));
        let Some(layer) = package.layer else {
            say(
                1,
                "the crate states no layer: add `layer = N` under [package.metadata.tidy]".to_owned(),
            );
            continue;
        };
        for Dependency {
            name: dependency,
            dev,
            line,
        } in &package.dependencies
        {
            let Some(below) = layers.get(dependency.as_str()) else {
                continue;
            };
            if *below < layer || package.name == *dependency {
                continue;
            }
            let reason = package
                .dev_above
                .get(dependency)
                .map_or("", |reason| reason.trim());
            if !dev {
                say(
                    *line,
                    format!(
                        "{} (layer {layer}) depends on {dependency} (layer {below}): only lower layers may be used. Move what \
                     both need to a lower crate, or let the caller define a trait",
                        package.name
                    ),
                );
            } else if reason.is_empty() {
                say(
                    *line,
                    format!(
                        "the tests of {} (layer {layer}) use {dependency} (layer {below}): move them up (tests/e2e), or give \
                     the reason under [package.metadata.tidy]: dev-above = {{ {dependency} = \"…\" }}",
                        package.name
                    ),
                );
            }
        }
        for name in package.dev_above.keys() {
            if !package
                .dependencies
                .iter()
                .any(|dependency| dependency.dev && dependency.name == *name)
            {
                say(
                    1,
                    format!("dev-above names {name}, which is no dev-dependency: remove it"),
                );
            }
        }
    }
    findings
}

/// The workspace's crates, from `cargo metadata`.
pub(super) fn packages(root: &Path) -> Result<Vec<Package>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .wrap_err("cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Metadata = serde_json::from_slice(&output.stdout).wrap_err("cargo metadata")?;
    Ok(metadata
        .packages
        .into_iter()
        .map(|package| package.into_package(root))
        .collect())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<RawPackage>,
}

#[derive(Deserialize)]
struct RawPackage {
    name: String,
    manifest_path: String,
    metadata: Option<RawMetadata>,
    dependencies: Vec<RawDependency>,
}

#[derive(Deserialize)]
struct RawDependency {
    name: String,
    rename: Option<String>,
    kind: Option<String>,
}

#[derive(Deserialize)]
struct RawMetadata {
    tidy: Option<RawTidy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawTidy {
    layer: u32,
    #[serde(default)]
    dev_above: BTreeMap<String, String>,
}

impl RawPackage {
    fn into_package(self, root: &Path) -> Package {
        let tidy = self.metadata.and_then(|metadata| metadata.tidy);
        let text = std::fs::read_to_string(&self.manifest_path).unwrap_or_default();
        Package {
            name: self.name,
            manifest: relative(root, Path::new(&self.manifest_path)),
            layer: tidy.as_ref().map(|tidy| tidy.layer),
            dev_above: tidy.map(|tidy| tidy.dev_above).unwrap_or_default(),
            dependencies: self
                .dependencies
                .into_iter()
                .map(|raw| Dependency {
                    line: line_of(&text, raw.rename.as_deref().unwrap_or(&raw.name)),
                    dev: raw.kind.as_deref() == Some("dev"),
                    name: raw.name,
                })
                .collect(),
        }
    }
}

/// The line that declares the dependency under this key, or the first.
fn line_of(manifest: &str, key: &str) -> usize {
    lines(manifest)
        .find(|(_, line)| {
            line.strip_prefix(key)
                .is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
        })
        .map_or(1, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(
        name: &str,
        layer: Option<u32>,
        dependencies: &[(&str, bool)],
        dev_above: &[(&str, &str)],
    ) -> Package {
        Package {
            name: name.to_owned(),
            manifest: format!("crates/{name}/Cargo.toml"),
            layer,
            dev_above: dev_above
                .iter()
                .map(|(name, why)| ((*name).to_owned(), (*why).to_owned()))
                .collect(),
            dependencies: dependencies
                .iter()
                .map(|(name, dev)| Dependency {
                    name: (*name).to_owned(),
                    dev: *dev,
                    line: 7,
                })
                .collect(),
        }
    }

    fn messages(packages: &[Package]) -> Vec<String> {
        check(packages).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lower_layers_and_strangers_are_free() {
        let packages = [
            package("low", Some(0), &[("serde", false)], &[]),
            package("high", Some(1), &[("low", false), ("low", true)], &[]),
        ];
        assert_eq!(messages(&packages), Vec::<String>::new());
    }

    #[test]
    fn upwards_and_sideways_are_refused() {
        let packages = [
            package("low", Some(0), &[("left", false)], &[]),
            package("left", Some(1), &[("right", false)], &[]),
            package("right", Some(1), &[], &[]),
        ];
        let found = messages(&packages);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("crates/low/Cargo.toml:7: low (layer 0) depends on left (layer 1)"));
        assert!(found[1].contains("left (layer 1) depends on right (layer 1)"));
    }

    #[test]
    fn tests_may_look_up_with_a_reason() {
        let high = || package("high", Some(2), &[], &[]);
        let silent = [package("low", Some(0), &[("high", true)], &[]), high()];
        assert!(messages(&silent)[0].contains("give the reason"));
        let reasoned = [
            package("low", Some(0), &[("high", true)], &[("high", "shared fixture")]),
            high(),
        ];
        assert_eq!(messages(&reasoned), Vec::<String>::new());
        let stale = [
            package("low", Some(0), &[], &[("high", "shared fixture")]),
            high(),
        ];
        assert!(messages(&stale)[0].contains("no dev-dependency"));
    }

    #[test]
    fn a_dependency_has_its_line() {
        let manifest = "[dependencies]\nchain-tools = \"1\"\nchain.workspace = true\n";
        assert_eq!(line_of(manifest, "chain"), 3);
    }

    #[test]
    fn a_crate_without_a_layer_is_named() {
        assert!(messages(&[package("new", None, &[], &[])])[0].contains("states no layer"));
    }
}
