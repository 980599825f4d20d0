//! What sets one contract apart from another. Reading blocks, following events, mirroring records and sending transactions
//! is the same for all of them; a scheme says how its contract is found, and what its events do. It is a type without
//! values: which contract a client, a follower or a sender is for is known when they are compiled.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Debug;
use std::hash::Hash;

use alloy::primitives::{Address, B256, Bytes};
use alloy::sol_types::{SolEventInterface, SolInterface};

/// One of our contracts, and the records that its events keep.
///
/// The supertraits hold for any unit struct that derives them; they let generic types derive theirs.
pub trait Scheme: Copy + Debug + Default + Send + Sync + 'static {
    /// What the contract is, for messages: "the contract at 0x… is no *ticket escrow*".
    const NAME: &'static str;

    /// Events of the contract. Any other log of it is an error.
    type Event: SolEventInterface + Clone + Debug + Send + Sync;
    /// Custom errors of the contract.
    type Error: SolInterface + Debug;
    /// Names a record.
    type Id: Copy + Eq + Hash + Debug + Send + Sync;
    /// What the events say about one id.
    type Record: Clone + PartialEq + Debug + Send + Sync;
    /// Why an event does not fit the records before it.
    type FoldError: Error + Send + Sync + 'static;
    /// The EIP-712 domain: chain and contract, and the separator that both make.
    type Domain: Copy + Debug + Send + Sync;

    /// Creation code of the contract, with any arguments: what the address from CREATE2 depends on.
    fn creation_code() -> &'static Bytes;

    /// The domain of the contract at an address on a chain.
    fn domain(chain_id: u64, contract: Address) -> Self::Domain;

    /// The separator that the contract must answer with.
    fn separator(domain: &Self::Domain) -> B256;

    /// The record that an event changes, or `None` for one that changes none.
    fn id_of(event: &Self::Event) -> Option<Self::Id>;

    /// Applies an event to the record of [`Scheme::id_of`], which is among `records` if there is one, and to no other. On an
    /// error nothing is changed.
    fn apply(records: &mut Records<Self>, event: &Self::Event) -> Result<(), Self::FoldError>;
}

/// Records of a scheme by what names them.
pub type Records<S> = HashMap<<S as Scheme>::Id, <S as Scheme>::Record>;

#[cfg(test)]
mod tests {
    use alloy::sol_types::SolCall;
    use bindings::channel::PaymentChannel;
    use bindings::offline::OfflineVault;
    use bindings::shared::IShared;
    use bindings::ticket::TicketEscrow;

    /// What every contract answers is typed again by hand in `bindings::shared`.
    #[test]
    fn the_shared_reads_are_those_of_every_contract() {
        assert_eq!(
            [IShared::creditOfCall::SELECTOR; 3],
            [
                TicketEscrow::creditOfCall::SELECTOR,
                PaymentChannel::creditOfCall::SELECTOR,
                OfflineVault::creditOfCall::SELECTOR
            ]
        );
        assert_eq!(
            [IShared::domainSeparatorCall::SELECTOR; 3],
            [
                TicketEscrow::domainSeparatorCall::SELECTOR,
                PaymentChannel::domainSeparatorCall::SELECTOR,
                OfflineVault::domainSeparatorCall::SELECTOR
            ]
        );
        assert_eq!(
            [IShared::isOperatorCall::SELECTOR; 2],
            [
                TicketEscrow::isOperatorCall::SELECTOR,
                PaymentChannel::isOperatorCall::SELECTOR
            ]
        );
    }
}
