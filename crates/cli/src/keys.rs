//! `micropay keys`: accounts and escrow keys in encrypted files (Web3 Secret Storage, as geth and cast write them).

use std::fs;
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256};
use alloy::signers::local::PrivateKeySigner;
use clap::Subcommand;
use eth_keystore::KeystoreError;
use eyre::{WrapErr, bail, ensure};
use protocol::channel::Key;
use protocol::ticket::EscrowKey;
use rand::rngs::OsRng;
use serde_json::json;
use zeroize::Zeroizing;

use crate::clock;
use crate::config::Config;
use crate::exit::usage;
use crate::output::{Output, rows};

/// Keys in files.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a new key
    New {
        /// What to call it
        name: String,
    },
    /// Take over a private key from standard input (64 hexadecimal digits)
    Import {
        /// What to call it
        name: String,
    },
    /// List all keys
    List,
    /// Show a key's address
    Show {
        /// Its name
        name: String,
    },
}

pub(crate) fn run(command: &Keys, config: &Config, out: Output) -> eyre::Result<()> {
    match command {
        Keys::New { name } => save(config, name, &fresh(), out),
        Keys::Import { name } => {
            let mut line = Zeroizing::new(String::new());
            std::io::stdin().read_line(&mut line)?;
            let secret: B256 = line.trim().parse().map_err(|_| {
                usage(format!(
                    "a private key has 64 hexadecimal digits, got {} characters",
                    line.trim().len()
                ))
            })?;
            save(config, name, &Zeroizing::new(secret.0), out)
        }
        Keys::List => {
            let keys = list(config)?;
            let value: Vec<_> = keys
                .iter()
                .map(|(name, address)| json!({ "name": name, "address": address }))
                .collect();
            let text: Vec<_> = keys
                .iter()
                .map(|(name, address)| (name.as_str(), address.to_string()))
                .collect();
            out.answer(
                &value,
                if text.is_empty() {
                    "no keys yet: micropay keys new NAME".into()
                } else {
                    rows(&text)
                },
            )
        }
        Keys::Show { name } => {
            let address = address(config, name)?;
            out.answer(&json!({ "name": name, "address": address }), address)
        }
    }
}

fn folder(config: &Config) -> PathBuf {
    config.home.join("keys")
}

fn path(config: &Config, name: &str) -> eyre::Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(usage(format!(
            "a key's name has letters, digits, '-', '_' and '.', and no '.' first, got {name:?}"
        )));
    }
    Ok(folder(config).join(name))
}

fn save(config: &Config, name: &str, secret: &[u8; 32], out: Output) -> eyre::Result<()> {
    let (address, file) = store(config, name, secret)?;
    let value = json!({ "name": name, "address": address, "file": file });
    out.answer(
        &value,
        rows(&[
            ("name", name.to_owned()),
            ("address", address.to_string()),
            ("file", file.display().to_string()),
        ]),
    )
}

/// Writes a key file. Its address and where it is.
pub(crate) fn store(config: &Config, name: &str, secret: &[u8; 32]) -> eyre::Result<(Address, PathBuf)> {
    let file = path(config, name)?;
    ensure!(
        !file.exists(),
        "there is a key {name:?} already: {}",
        file.display()
    );
    let key = EscrowKey::from_bytes(secret).map_err(|error| usage(format!("not a private key: {error}")))?;
    let password = password(config, true)?;
    private_folder(&folder(config))?;
    // Written beside, made durable, then moved: a key is there whole or not at all.
    let part = format!(".{name}.part");
    eth_keystore::encrypt_key(
        folder(config),
        &mut OsRng,
        secret,
        password.as_bytes(),
        Some(&part),
    )?;
    let part = folder(config).join(part);
    add_address(&part, key.address())?;
    fs::rename(&part, &file)?;
    fs::File::open(folder(config))?.sync_all()?;
    Ok((key.address(), file))
}

/// Makes a folder, and the missing ones above it, for this user alone.
pub(crate) fn private_folder(folder: &Path) -> eyre::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .wrap_err_with(|| folder.display().to_string())
}

/// Puts the address into the file, where other wallets have it, too: so that it can be read without the password.
fn add_address(file: &Path, address: Address) -> eyre::Result<()> {
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(file)?)?;
    value["address"] = json!(format!("{address:x}"));
    fs::write(file, serde_json::to_vec(&value)?)?;
    #[cfg(unix)]
    fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(fs::File::open(file)?.sync_all()?)
}

fn read_address(file: &Path) -> eyre::Result<Address> {
    let named = || format!("key file {}", file.display());
    let text = fs::read(file).wrap_err_with(named)?;
    let value: serde_json::Value = serde_json::from_slice(&text).wrap_err_with(named)?;
    let address = value["address"].as_str().unwrap_or_default();
    address
        .parse()
        .map_err(|_| eyre::eyre!("{} has the address {address:?}", named()))
}

pub(crate) fn list(config: &Config) -> eyre::Result<Vec<(String, Address)>> {
    let mut keys = Vec::new();
    if !folder(config).exists() {
        return Ok(keys);
    }
    for entry in fs::read_dir(folder(config))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            keys.push((name, read_address(&entry.path())?));
        }
    }
    keys.sort();
    Ok(keys)
}

/// The address of a key file, without its password.
pub(crate) fn address(config: &Config, name: &str) -> eyre::Result<Address> {
    let file = path(config, name)?;
    ensure!(
        file.exists(),
        "there is no key {name:?} in {}",
        folder(config).display()
    );
    read_address(&file)
}

/// An address, or the name of a key file.
pub(crate) fn address_or_name(config: &Config, text: &str) -> eyre::Result<Address> {
    if text.starts_with("0x") {
        return text.parse().map_err(|_| {
            usage(format!(
                "an address is 0x and 40 hexadecimal digits, got {text:?}"
            ))
        });
    }
    address(config, text)
}

fn secret(config: &Config, name: &str) -> eyre::Result<Zeroizing<[u8; 32]>> {
    let file = path(config, name)?;
    ensure!(
        file.exists(),
        "there is no key {name:?} in {}",
        folder(config).display()
    );
    let password = password(config, false)?;
    let bytes = Zeroizing::new(
        eth_keystore::decrypt_key(&file, password.as_bytes()).map_err(|error| match error {
            KeystoreError::MacMismatch => eyre::eyre!("wrong password for key {name:?}"),
            error => eyre::eyre!("key {name:?}: {error}"),
        })?,
    );
    let length = bytes.len();
    let bytes = bytes.as_slice().try_into();
    Ok(Zeroizing::new(bytes.map_err(|_| {
        eyre::eyre!("key {name:?} has {length} bytes instead of 32")
    })?))
}

/// Opens a key file as an account that sends transactions.
pub(crate) fn account(config: &Config, name: &str) -> eyre::Result<PrivateKeySigner> {
    Ok(PrivateKeySigner::from_bytes(&B256::new(*secret(config, name)?))?)
}

/// Opens a key file as an escrow key, which signs tickets.
pub(crate) fn escrow_key(config: &Config, name: &str) -> eyre::Result<EscrowKey> {
    signing_key(config, name)
}

/// Opens a key file as one that signs promises of any scheme: receipts, permits, halves of a close.
pub(crate) fn signing_key(config: &Config, name: &str) -> eyre::Result<Key> {
    Ok(Key::from_bytes(&*secret(config, name)?)?)
}

/// Opens a key file as one of P-256, which authorises the beginnings of TPMs' logs. (Its file names an account all the same.)
pub(crate) fn p256_key(config: &Config, name: &str) -> eyre::Result<p256::ecdsa::SigningKey> {
    let secret = secret(config, name)?;
    p256::ecdsa::SigningKey::from_slice(&*secret).map_err(|_| eyre::eyre!("key {name:?} is no key of P-256"))
}

/// The address of the key of this name, which is made if there is none; and whether it was.
pub(crate) fn take_or_make(config: &Config, name: &str) -> eyre::Result<(bool, Address)> {
    if path(config, name)?.exists() {
        return Ok((false, address(config, name)?));
    }
    let (address, _) = store(config, name, &fresh())?;
    Ok((true, address))
}

fn fresh() -> Zeroizing<[u8; 32]> {
    loop {
        let bytes = clock::random();
        if EscrowKey::from_bytes(&bytes.0).is_ok() {
            return Zeroizing::new(bytes.0); // all but one in 2^128
        }
    }
}

/// From the file of the configuration, else from `MICROPAY_PASSWORD`, else from the terminal.
fn password(config: &Config, twice: bool) -> eyre::Result<Zeroizing<String>> {
    if let Some(file) = &config.password_file {
        let text = Zeroizing::new(fs::read_to_string(file).wrap_err_with(|| file.display().to_string())?);
        return Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()));
    }
    if let Ok(password) = std::env::var("MICROPAY_PASSWORD") {
        return Ok(Zeroizing::new(password));
    }
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .wrap_err("no terminal to ask for the password: set MICROPAY_PASSWORD or --password-file")
    };
    let password = ask("Password: ")?;
    if twice && *ask("Again: ")? != *password {
        bail!("the two passwords differ");
    }
    Ok(password)
}
