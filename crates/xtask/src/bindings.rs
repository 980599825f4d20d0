//! `cargo xtask bindings`: compile the contracts that Rust talks to and write `crates/bindings/abi/<Name>.json`, so that
//! `cargo build` needs no solc. The compiler is the npm solc behind `script/solc`, its settings are those of
//! `foundry.toml` (the one source of truth), so the bytecode is byte for byte the one that forge tests.
//!
//! solc is asked for the listed contracts alone: it parses the imports but generates code for nothing else.

use eyre::{Context, Result, bail, ensure, eyre};
use foundry_compilers::{
    Graph, ProjectPathsConfig,
    artifacts::{
        BytecodeHash, CompilerOutput, EvmVersion, Settings, SettingsMetadata, SolcInput, Source, Sources,
        output_selection::OutputSelection, remappings::Remapping,
    },
    resolver::parse::SolParser,
    solc::{Solc, SolcLanguage},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// One contract that Rust knows: `crates/bindings/abi/<name>.json` holds `contract` of the file `source`.
#[derive(Debug)]
pub struct Binding {
    /// File name under `crates/bindings/abi`, without `.json`.
    pub name: &'static str,
    /// Solidity file, from the repository's root.
    pub source: &'static str,
    /// Name of the contract in that file.
    pub contract: &'static str,
}

/// The contracts that Rust deploys or calls. A new scheme adds its line here.
pub const BINDINGS: &[Binding] = &[
    Binding {
        name: "TicketEscrow",
        source: "contracts/ticket/TicketEscrow.sol",
        contract: "TicketEscrow",
    },
    Binding {
        name: "PaymentChannel",
        source: "contracts/channel/PaymentChannel.sol",
        contract: "PaymentChannel",
    },
    Binding {
        name: "OfflineVault",
        source: "contracts/offline/OfflineVault.sol",
        contract: "OfflineVault",
    },
    Binding {
        name: "TestToken",
        source: "tests/contracts/ticket/TicketFixture.sol",
        contract: "Token",
    },
];

const ABI_DIR: &str = "crates/bindings/abi";
const MEND: &str = "cargo xtask bindings";

/// Keys of `[profile.default]` that do not reach solc. Any key that is neither here nor in [`Profile`] stops the task:
/// somebody has to decide whether it changes bytecode.
const NOT_FOR_SOLC: &[&str] = &[
    "test",
    "script",
    "out",
    "cache_path",
    "broadcast",
    "snapshots",
    "libs",
    "auto_detect_remappings",
    "offline",
    "fs_permissions",
    "deny",
    "ignored_warnings_from",
    "ignored_error_codes",
    "fuzz",
    "invariant",
    "gas_reports",
    "gas_reports_ignore",
    "isolate",
    "gas_snapshot_check",
    "build_info",
    "extra_output",
    "verbosity",
    "dynamic_test_linking",
    "sparse_mode",
    "show_progress",
    "threads",
];

/// What `[profile.default]` of foundry.toml tells solc. Nothing has a default here: a setting that forge would choose by
/// itself might be chosen otherwise here.
#[derive(Debug, Deserialize)]
struct Profile {
    src: PathBuf,
    solc: PathBuf,
    remappings: Vec<String>,
    evm_version: String,
    via_ir: bool,
    optimizer: bool,
    optimizer_runs: usize,
    bytecode_hash: String,
    cbor_metadata: bool,
    /// Named sets of settings; each is that of its restriction.
    #[serde(default, rename = "additional_compiler_profiles")]
    _profiles: Vec<toml::Value>,
    #[serde(default)]
    compilation_restrictions: Vec<Restriction>,
    #[serde(flatten)]
    rest: BTreeMap<String, toml::Value>,
}

/// A file that is compiled with other settings. Forge takes what it is named here for exactly, where another compiler profile
/// has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Restriction {
    paths: String,
    optimizer_runs: usize,
}

impl Profile {
    /// How often the optimizer thinks that the code of a file runs.
    fn runs(&self, source: &str) -> usize {
        let named = self
            .compilation_restrictions
            .iter()
            .find(|known| known.paths == source);
        named.map_or(self.optimizer_runs, |named| named.optimizer_runs)
    }
}

/// Shape of a file under `crates/bindings/abi`: what alloy's `sol!` reads.
#[derive(Serialize)]
struct Artifact<'a, Abi: Serialize> {
    abi: &'a Abi,
    bytecode: String,
}

/// Compiles and writes every file; answers the paths written, from the root.
///
/// # Errors
/// When foundry.toml has a setting this task does not know, a contract is missing, or solc reports an error.
pub fn write(root: &Path) -> Result<Vec<String>> {
    let mut written = Vec::new();
    for (file, text) in compile(root)? {
        fs::write(root.join(&file), text).wrap_err_with(|| format!("cannot write {file}"))?;
        written.push(file);
    }
    Ok(written)
}

/// Compiles and compares with the committed files.
///
/// # Errors
/// As [`write()`]; and, naming each file and the command that mends it, when a committed file is missing, differs, or
/// belongs to no contract of [`BINDINGS`].
pub fn check(root: &Path) -> Result<()> {
    let drift = drift(root, &compile(root)?)?;
    ensure!(drift.is_empty(), "{}", drift.join("\n"));
    Ok(())
}

/// What differs between `expected` (path → text) and the files on disk.
fn drift(root: &Path, expected: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut drift = Vec::new();
    for (file, text) in expected {
        match fs::read_to_string(root.join(file)) {
            Err(_) => drift.push(format!("{file}: missing; run `{MEND}`")),
            Ok(found) if found != *text => {
                drift.push(format!(
                    "{file}: differs from what the contracts compile to; run `{MEND}`"
                ));
            }
            Ok(_) => {}
        }
    }
    for entry in fs::read_dir(root.join(ABI_DIR)).wrap_err(ABI_DIR)? {
        let file = format!("{ABI_DIR}/{}", entry?.file_name().to_string_lossy());
        if !expected.contains_key(&file) {
            drift.push(format!(
                "{file}: no contract of crates/xtask/src/bindings.rs writes it; remove it or add a line there"
            ));
        }
    }
    Ok(drift)
}

/// path of the ABI file → its text
fn compile(root: &Path) -> Result<BTreeMap<String, String>> {
    let profile = profile(&fs::read_to_string(root.join("foundry.toml")).wrap_err("foundry.toml")?)?;
    ensure!(
        root.join("node_modules/solc").is_dir(),
        "node_modules/solc is missing: run `make setup` (it runs `npm ci`)"
    );
    // The version only guards flags for compilers of before 0.8; asking for it would start node once more.
    let solc = Solc::new(root.join(&profile.solc))?;
    let mut by_runs: BTreeMap<usize, Vec<&Binding>> = BTreeMap::new();
    for binding in BINDINGS {
        by_runs
            .entry(profile.runs(binding.source))
            .or_default()
            .push(binding);
    }
    let mut files = BTreeMap::new();
    for (runs, bindings) in by_runs {
        let input = input(root, &profile, runs, &bindings)?;
        let output = solc.compile(&input).wrap_err("solc")?;
        let errors: Vec<String> = output
            .errors
            .iter()
            .filter(|error| error.is_error())
            .map(ToString::to_string)
            .collect();
        ensure!(
            errors.is_empty(),
            "the contracts do not compile:\n{}",
            errors.join("\n")
        );
        for binding in bindings {
            let (file, text) = artifact(&output, binding)?;
            files.insert(file, text);
        }
    }
    Ok(files)
}

/// Path of a contract's ABI file, and its text.
fn artifact(output: &CompilerOutput, binding: &Binding) -> Result<(String, String)> {
    let Binding {
        name,
        source,
        contract,
    } = binding;
    let compiled = output.contracts.get(Path::new(source)).and_then(|file| file.get(*contract)).ok_or_else(|| {
        eyre!("{source} has no contract `{contract}`: correct the line `{name}` in crates/xtask/src/bindings.rs")
    })?;
    let abi = compiled
        .abi
        .as_ref()
        .ok_or_else(|| eyre!("solc gave no ABI for {contract}"))?;
    let object = compiled
        .evm
        .as_ref()
        .and_then(|evm| evm.bytecode.as_ref())
        .map(|code| &code.object);
    let Some(bytecode) = object
        .and_then(|object| object.as_bytes())
        .filter(|code| !code.is_empty())
    else {
        bail!(
            "{source}: `{contract}` has no linked bytecode (an abstract contract, or an external library?)"
        );
    };
    let artifact = Artifact {
        abi,
        bytecode: bytecode.to_string(),
    };
    Ok((
        format!("{ABI_DIR}/{name}.json"),
        serde_json::to_string_pretty(&artifact)? + "\n",
    ))
}

/// Standard JSON for these contracts, paths from the root as forge names them.
fn input(root: &Path, profile: &Profile, runs: usize, bindings: &[&Binding]) -> Result<SolcInput> {
    let remappings = profile
        .remappings
        .iter()
        .map(|line| line.parse::<Remapping>())
        .collect::<Result<Vec<_>, _>>()?;
    let absolute = remappings.iter().map(|mapping| Remapping {
        context: mapping.context.clone(),
        name: mapping.name.clone(),
        path: root.join(&mapping.path).to_string_lossy().into_owned(),
    });
    let paths = ProjectPathsConfig::builder()
        .sources(root.join(&profile.src))
        .remappings(absolute)
        .no_libs()
        .build_with_root::<SolcLanguage>(root);

    let mut roots = Sources::new();
    let mut selection: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for Binding { source, contract, .. } in bindings {
        let text = fs::read_to_string(root.join(source)).wrap_err_with(|| {
            format!("{source} is gone: correct its line in crates/xtask/src/bindings.rs")
        })?;
        roots.insert(root.join(source), Source::new(text));
        selection.entry((*source).to_owned()).or_default().insert(
            (*contract).to_owned(),
            vec!["abi".to_owned(), "evm.bytecode.object".to_owned()],
        );
    }
    let graph = Graph::<SolParser>::resolve_sources(&paths, roots)?;
    let (all, _) = graph.into_sources();
    let mut sources = Sources::new();
    for (path, source) in all {
        let relative = path
            .strip_prefix(&paths.root)
            .map(Path::to_path_buf)
            .unwrap_or(path);
        sources.insert(relative, source);
    }
    Ok(SolcInput {
        language: SolcLanguage::Solidity,
        sources,
        settings: settings(profile, runs, remappings, selection)?,
    })
}

fn settings(
    profile: &Profile,
    runs: usize,
    remappings: Vec<Remapping>,
    selection: BTreeMap<String, BTreeMap<String, Vec<String>>>,
) -> Result<Settings> {
    let evm_version: EvmVersion = profile
        .evm_version
        .parse()
        .map_err(|error| eyre!("foundry.toml: evm_version: {error}"))?;
    let bytecode_hash: BytecodeHash = profile
        .bytecode_hash
        .parse()
        .map_err(|error| eyre!("foundry.toml: bytecode_hash: {error}"))?;
    let mut settings = Settings::new(OutputSelection::from(selection));
    settings.remappings = remappings;
    settings.optimizer.enabled = Some(profile.optimizer);
    settings.optimizer.runs = Some(runs);
    settings.via_ir = Some(profile.via_ir);
    settings.evm_version = Some(evm_version);
    settings.metadata = Some(SettingsMetadata::new(bytecode_hash, profile.cbor_metadata));
    Ok(settings)
}

fn profile(foundry_toml: &str) -> Result<Profile> {
    let document: toml::Table = foundry_toml.parse().wrap_err("foundry.toml")?;
    let default = document
        .get("profile")
        .and_then(|profiles| profiles.get("default"))
        .ok_or_else(|| eyre!("foundry.toml has no [profile.default]"))?;
    let profile: Profile = default
        .clone()
        .try_into()
        .wrap_err("foundry.toml, [profile.default]")?;
    if let Some(key) = profile
        .rest
        .keys()
        .find(|key| !NOT_FOR_SOLC.contains(&key.as_str()))
    {
        bail!(
            "foundry.toml, [profile.default]: `cargo xtask bindings` does not know `{key}`. If it changes bytecode, pass it \
             on in crates/xtask/src/bindings.rs (struct Profile); if not, name it in NOT_FOR_SOLC there"
        );
    }
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUNDRY: &str = r#"
        [profile.default]
        src = "contracts"
        solc = "script/solc"
        remappings = ["contracts/=contracts/"]
        evm_version = "osaka"
        via_ir = true
        optimizer = true
        optimizer_runs = 7
        bytecode_hash = "none"
        cbor_metadata = false
    "#;

    #[test]
    fn a_restricted_file_has_its_own_runs() {
        let restricted = format!(
            "{FOUNDRY}\nadditional_compiler_profiles = [{{ name = \"small\", optimizer_runs = 3 }}]\n\
             compilation_restrictions = [{{ paths = \"contracts/A.sol\", optimizer_runs = 3 }}]"
        );
        let profile = profile(&restricted).unwrap();
        assert_eq!(
            [profile.runs("contracts/A.sol"), profile.runs("contracts/B.sol")],
            [3, 7]
        );
    }

    #[test]
    fn settings_are_those_of_foundry_toml() {
        let profile = profile(FOUNDRY).unwrap();
        let settings = settings(&profile, profile.runs("contracts/A.sol"), vec![], BTreeMap::new()).unwrap();
        let json = serde_json::to_value(settings).unwrap();
        assert_eq!(
            json["optimizer"],
            serde_json::json!({ "enabled": true, "runs": 7 })
        );
        assert_eq!(json["viaIR"], true);
        assert_eq!(json["evmVersion"], "osaka");
        assert_eq!(
            json["metadata"],
            serde_json::json!({ "bytecodeHash": "none", "appendCBOR": false })
        );
    }

    #[test]
    fn a_setting_nobody_thought_of_stops_the_task() {
        let error = profile(&format!("{FOUNDRY}\nrevert_strings = \"strip\""))
            .unwrap_err()
            .to_string();
        assert!(error.contains("`revert_strings`"), "{error}");
    }

    #[test]
    fn a_setting_left_to_chance_stops_the_task() {
        let error = format!(
            "{:#}",
            profile(&FOUNDRY.replace("via_ir = true", "")).unwrap_err()
        );
        assert!(error.contains("via_ir"), "{error}");
    }

    #[test]
    fn drift_names_the_file_and_the_command() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(ABI_DIR);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("Same.json"), "1").unwrap();
        fs::write(dir.join("Other.json"), "1").unwrap();
        fs::write(dir.join("Stray.json"), "1").unwrap();
        let expected = [("Same", "1"), ("Other", "2"), ("Absent", "3")]
            .map(|(name, text)| (format!("{ABI_DIR}/{name}.json"), text.to_owned()));
        let drift = drift(root.path(), &expected.into()).unwrap();
        assert_eq!(drift.len(), 3, "{drift:?}");
        assert!(drift[0].starts_with("crates/bindings/abi/Absent.json: missing; run `cargo xtask bindings`"));
        assert!(drift[1].starts_with("crates/bindings/abi/Other.json: differs"));
        assert!(drift[2].starts_with("crates/bindings/abi/Stray.json: no contract"));
    }
}
