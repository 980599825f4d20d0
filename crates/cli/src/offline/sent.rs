//! A transaction that must not be sent twice: it is in a file before it leaves, and as long as the file is there, asking again
//! goes on with the same one.

use std::fs;
use std::path::Path;

use alloy::primitives::{Address, B256, Bytes, U256};
use chain::{At, ChainError, Finality, Mined, Prepared, Sender, Vaults};
use eyre::WrapErr;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::folder::{remove, replace};
use crate::exit::refused;

/// What is in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// Who sends.
    account: Address,
    to: Address,
    data: Bytes,
    value: U256,
    /// What it is for, in the caller's words: whoever goes on must mean the same.
    purpose: Value,
    /// All of one account nonce, the oldest first.
    sent: Vec<SavedTransaction>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedTransaction {
    hash: B256,
    raw: Bytes,
    account_nonce: u64,
    max_fee_per_gas: u128,
    max_priority_fee_per_gas: u128,
    gas_limit: u64,
}

/// A call of the vault.
pub(crate) struct Call {
    pub(crate) data: Bytes,
    pub(crate) value: U256,
}

/// Sends a call, or goes on with the one in the file. The file stays until the caller has saved what came of it, and calls
/// [`done`]; or until it failed, or another transaction took its place, for good. `call` is made only where there is none under way.
pub(crate) async fn send_once(
    sender: &Sender<Vaults>,
    (file, finality): (&Path, Finality),
    purpose: Value,
    call: impl FnOnce() -> Call,
) -> eyre::Result<Mined<Vaults>> {
    let result = match load(file)? {
        Some(saved) => resume(sender, file, &purpose, saved).await?,
        None => {
            let Call { data, value } = call();
            let to = sender.client().contract();
            let mut saved = Saved {
                account: sender.address(),
                to,
                data: data.clone(),
                value,
                purpose,
                sent: Vec::new(),
            };
            let save = |prepared: &Prepared| saved.add(file, prepared);
            sender.send_saving(to, data, value, save).await
        }
    };
    if let Err(ChainError::Superseded { .. } | ChainError::Failed { .. }) = &result
        && let Some(saved) = load(file)?
        && used_for_good(sender, finality, &saved).await?
    {
        remove(file)?;
    }
    Ok(result?)
}

/// Whether the account nonce is used in a block that stays. Before that nothing that a node says is reason enough to forget
/// what was signed: the node has it, and may mine it beside another that takes its place.
async fn used_for_good(
    sender: &Sender<Vaults>,
    finality: Finality,
    saved: &Saved,
) -> Result<bool, ChainError> {
    let client = sender.client();
    let last = match finality {
        Finality::Finalized => client.finalized().await?,
        Finality::Depth(depth) => match client.head().await?.number.checked_sub(depth) {
            Some(number) => client.block(number).await?,
            None => None,
        },
    };
    let Some(block) = last else {
        return Ok(false);
    };
    let next = client.account_nonce(saved.account, At::Block(block.hash)).await?;
    Ok(saved.sent.iter().all(|sent| sent.account_nonce < next))
}

/// What came of the call is saved.
pub(crate) fn done(file: &Path) -> eyre::Result<()> {
    if file.exists() { remove(file) } else { Ok(()) }
}

async fn resume(
    sender: &Sender<Vaults>,
    file: &Path,
    purpose: &Value,
    mut saved: Saved,
) -> eyre::Result<Result<Mined<Vaults>, ChainError>> {
    if saved.purpose != *purpose || saved.account != sender.address() {
        return Err(refused(format!(
            "{}: {} by {} is under way, not {purpose} by {}: finish that one first, with the same command",
            file.display(),
            saved.purpose,
            saved.account,
            sender.address()
        )));
    }
    let sent = saved.sent.iter().map(SavedTransaction::to_prepared).collect();
    let (to, data, value) = (saved.to, saved.data.clone(), saved.value);
    let save = |prepared: &Prepared| saved.add(file, prepared);
    Ok(sender.confirm(to, data, value, sent, save).await)
}

fn load(file: &Path) -> eyre::Result<Option<Saved>> {
    if !file.exists() {
        return Ok(None);
    }
    let named = || file.display().to_string();
    let text = fs::read(file).wrap_err_with(named)?;
    let saved: Saved = serde_json::from_slice(&text).wrap_err_with(named)?;
    Ok((!saved.sent.is_empty()).then_some(saved))
}

impl Saved {
    fn add(
        &mut self,
        file: &Path,
        prepared: &Prepared,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.sent.push(SavedTransaction::from(prepared));
        Ok(replace(file, &serde_json::to_vec(self)?)?)
    }
}

impl SavedTransaction {
    fn to_prepared(&self) -> Prepared {
        Prepared {
            hash: self.hash,
            raw: self.raw.clone(),
            account_nonce: self.account_nonce,
            max_fee_per_gas: self.max_fee_per_gas,
            max_priority_fee_per_gas: self.max_priority_fee_per_gas,
            gas_limit: self.gas_limit,
        }
    }
}

impl From<&Prepared> for SavedTransaction {
    fn from(prepared: &Prepared) -> Self {
        Self {
            hash: prepared.hash,
            raw: prepared.raw.clone(),
            account_nonce: prepared.account_nonce,
            max_fee_per_gas: prepared.max_fee_per_gas,
            max_priority_fee_per_gas: prepared.max_priority_fee_per_gas,
            gas_limit: prepared.gas_limit,
        }
    }
}
