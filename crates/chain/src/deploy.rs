//! A contract's place: the same address on every chain, made by the usual CREATE2 factory from the committed bytecode
//! and salt zero. Who deploys it does not matter.

use alloy::primitives::{Address, B256, Bytes, U256, address};

use crate::{ChainError, Mined, Scheme, Sender, Tickets};

/// The deterministic deployment proxy that most chains have.
pub const FACTORY: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");

/// Salt of our deployments.
pub const SALT: B256 = B256::ZERO;

/// What [`deploy`] did.
#[derive(Clone, Debug)]
pub struct Deployment<S: Scheme = Tickets> {
    /// Where the contract is.
    pub address: Address,
    /// The transaction that put it there; `None` when it was there already.
    pub mined: Option<Mined<S>>,
}

/// Address of a scheme's contract on every chain. Depends on the committed bytecode alone.
#[must_use]
pub fn address<S: Scheme>() -> Address {
    FACTORY.create2_from_code(SALT, S::creation_code())
}

/// Deploys the contract of the sender's scheme at its [`address()`], or does nothing where it already is. The sender's client
/// must have been made with [`crate::Client::connect_before_deploy`].
pub async fn deploy<S: Scheme>(sender: &Sender<S>) -> Result<Deployment<S>, ChainError> {
    let client = sender.client();
    let (address, chain_id) = (address::<S>(), client.config().chain_id);
    if !client.code(address).await?.is_empty() {
        return Ok(Deployment { address, mined: None });
    }
    if client.code(FACTORY).await?.is_empty() {
        return Err(ChainError::NoFactory {
            factory: FACTORY,
            chain_id,
        });
    }
    // What the factory takes: the salt, then the creation code.
    let data: Bytes = [SALT.as_slice(), S::creation_code()].concat().into();
    let mined = sender.send(FACTORY, data, U256::ZERO).await?;
    if client.code(address).await?.is_empty() {
        return Err(ChainError::NoContract { address, chain_id });
    }
    Ok(Deployment {
        address,
        mined: Some(mined),
    })
}
