//! The contract's place: the same address on every chain, made by the usual CREATE2 factory from the committed bytecode
//! and salt zero. Who deploys it does not matter.

use alloy::primitives::{Address, B256, Bytes, U256, address};
use bindings::ticket::TicketEscrow;

use crate::{ChainError, Mined, Sender};

/// The deterministic deployment proxy that most chains have.
pub const FACTORY: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");

/// Salt of our deployment.
pub const SALT: B256 = B256::ZERO;

/// What [`deploy`] did.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Where the contract is.
    pub address: Address,
    /// The transaction that put it there; `None` when it was there already.
    pub mined: Option<Mined>,
}

/// Address of the ticket escrow contract on every chain. Depends on the committed bytecode alone.
#[must_use]
pub fn address() -> Address {
    FACTORY.create2_from_code(SALT, &TicketEscrow::BYTECODE)
}

/// Deploys the contract, or does nothing where it already is. The sender's client must have been made with
/// [`crate::ChainClient::connect_before_deploy`].
pub async fn deploy(sender: &Sender) -> Result<Deployment, ChainError> {
    let client = sender.client();
    let address = address();
    if !client.code(address).await?.is_empty() {
        return Ok(Deployment { address, mined: None });
    }
    if client.code(FACTORY).await?.is_empty() {
        return Err(ChainError::NoFactory {
            factory: FACTORY,
            chain_id: client.config().chain_id,
        });
    }
    let mined = sender.send(FACTORY, call_data(), U256::ZERO).await?;
    if client.code(address).await?.is_empty() {
        return Err(ChainError::NoContract {
            address,
            chain_id: client.config().chain_id,
        });
    }
    Ok(Deployment {
        address,
        mined: Some(mined),
    })
}

/// What the factory takes: the salt, then the creation code.
fn call_data() -> Bytes {
    [SALT.as_slice(), &TicketEscrow::BYTECODE].concat().into()
}
