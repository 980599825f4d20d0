//! Everything that can go wrong between us and the chain: one variant per failure, with the values compared, and whether
//! trying again can help. No address of a node is ever printed in full, because hosted nodes carry keys in theirs.

use std::fmt;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::sol_types::{Panic, Revert as RevertString, SolError, SolInterface};
use bindings::test_token::TestToken::TestTokenErrors;
use protocol::block::BlockRef;

use crate::{Channels, Scheme, Tickets, Vaults};

/// A failed read from or write to the chain. [`ChainError::retry`] tells whether trying again can help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// No connection to the node, or it broke.
    #[error("{method}: node {node} cannot be reached: {message}")]
    Unreachable {
        /// The JSON-RPC method.
        method: &'static str,
        /// Scheme, host and port of the node; never its path, which may hold a key.
        node: String,
        /// What the network said.
        message: String,
    },
    /// The node took longer than the request timeout.
    #[error("{method}: node {node} did not answer within {} ms", limit.as_millis())]
    Timeout {
        /// The JSON-RPC method.
        method: &'static str,
        /// Scheme, host and port of the node.
        node: String,
        /// The request timeout.
        limit: Duration,
    },
    /// The node answered with an HTTP error that holds no JSON-RPC error.
    #[error("{method}: node {node} answered with HTTP status {status}, not 200: {body:?}")]
    Http {
        /// The JSON-RPC method.
        method: &'static str,
        /// Scheme, host and port of the node.
        node: String,
        /// The HTTP status.
        status: u16,
        /// The start of the answer.
        body: String,
    },
    /// The node understood and said no: a limit, an unknown method, a missing state.
    #[error("{method}: node {node} refused with code {code}: {message}")]
    Refused {
        /// The JSON-RPC method.
        method: &'static str,
        /// Scheme, host and port of the node.
        node: String,
        /// The JSON-RPC error code.
        code: i64,
        /// The node's words.
        message: String,
    },
    /// The node's answer makes no sense: not JSON, the wrong type, a missing field, or a contradiction.
    #[error("{method}: the node answered {got:?}, which is not {expected}")]
    Rubbish {
        /// The JSON-RPC method.
        method: &'static str,
        /// The start of the answer, or the part that is wrong.
        got: String,
        /// What a sane node would have answered.
        expected: String,
    },
    /// The node is on another chain.
    #[error("the node is on chain {got}, we are on chain {expected}")]
    WrongChain {
        /// The node's chain id.
        got: u64,
        /// Ours.
        expected: u64,
    },
    /// There is no contract at the address.
    #[error("there is no contract at {address} on chain {chain_id}")]
    NoContract {
        /// The address.
        address: Address,
        /// The chain.
        chain_id: u64,
    },
    /// There is a contract at the address, but it is not the scheme's for this chain.
    #[error("the contract at {address} is no {scheme}: its domain separator is {got}, expected {expected}")]
    WrongContract {
        /// The address.
        address: Address,
        /// What it should be ([`Scheme::NAME`]).
        scheme: &'static str,
        /// What the contract answered, or what its answer was instead.
        got: String,
        /// The EIP-712 domain separator of such a contract at this address on this chain.
        expected: B256,
    },
    /// The CREATE2 factory is not on this chain, so the contract cannot have its usual address.
    #[error(
        "chain {chain_id} has no CREATE2 factory at {factory}; deploy that first (a pre-signed transaction exists for it)"
    )]
    NoFactory {
        /// Where the factory should be.
        factory: Address,
        /// The chain.
        chain_id: u64,
    },
    /// The call would revert, or did.
    #[error("the contract refused: {0}")]
    Reverted(Revert),
    /// A transaction was mined and reverted, although it passed its simulation.
    #[error("transaction {hash} was mined in block {block} and failed: {reason}")]
    Failed {
        /// The transaction.
        hash: B256,
        /// The block number.
        block: u64,
        /// Why, as far as a replay on the block tells.
        reason: String,
    },
    /// The account cannot pay for the transaction.
    #[error("account {account} has {have} wei, the transaction may need {need} wei")]
    InsufficientFunds {
        /// The account.
        account: Address,
        /// Its balance in wei.
        have: U256,
        /// Value and highest possible fee in wei.
        need: U256,
    },
    /// The market (or the bump of a stuck transaction) asks for more than we allow.
    #[error("the fee would be {needed} wei per gas, our limit is {cap}")]
    FeeAboveCap {
        /// Highest fee per gas that the transaction would need, in wei.
        needed: u128,
        /// Our limit in wei.
        cap: u128,
    },
    /// The node wants a higher fee before it replaces the transaction.
    #[error("node {node} wants a higher fee to replace the pending transaction: {message}")]
    Underpriced {
        /// Scheme, host and port of the node.
        node: String,
        /// The node's words.
        message: String,
    },
    /// The transaction was not mined in the time given. It still may be: look for it before sending it anew.
    #[error("none of {hashes:?} (account nonce {account_nonce}) was mined within {} s; it still may be", waited.as_secs())]
    NotMined {
        /// Every transaction sent with this account nonce.
        hashes: Vec<B256>,
        /// The account nonce that they share.
        account_nonce: u64,
        /// How long we waited.
        waited: Duration,
    },
    /// Another transaction used the account nonce, so ours will never be mined.
    #[error("account nonce {account_nonce} was used by another transaction than {hashes:?}")]
    Superseded {
        /// The transactions that shared the account nonce.
        hashes: Vec<B256>,
        /// The account nonce.
        account_nonce: u64,
    },
    /// The chain changed under each of our attempts to read it.
    #[error("the chain changed while we read it, {attempts} times in a row, last at block {block}")]
    Unstable {
        /// How often we tried.
        attempts: u32,
        /// Number of the block that moved.
        block: u64,
    },
    /// The node has not reached the block that we know to be final.
    #[error("the node is at block {head}, behind our final block {final_block}")]
    NodeBehind {
        /// The node's newest block.
        head: u64,
        /// Our newest final block.
        final_block: u64,
    },
    /// The node's events contradict our state: an event is missing, doubled, or of another contract.
    #[error("event {log_index} of block {block} does not fit what came before it: {source}")]
    DoesNotFold {
        /// Number of the block.
        block: u64,
        /// Index of the event in the block.
        log_index: u64,
        /// What does not fit: the scheme's [`Scheme::FoldError`].
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A block that counted as final is gone. What was built on it may be wrong, and no program can tell. Nothing was
    /// changed: if it was the node that erred, polling again goes on as if nothing had happened.
    #[error(
        "block {} was final with hash {}, the chain now has {}: a reorg deeper than the configured finality. Check that \
         the node is sane; then choose a greater depth, delete the saved mirror (micropay merchant resync) and let it be read anew",
        ours.number, ours.hash, theirs.map_or_else(|| "no such block".to_owned(), |hash| hash.to_string())
    )]
    FinalityBroken {
        /// The block we took for final.
        ours: BlockRef,
        /// Hash of the block that the chain has at that height.
        theirs: Option<B256>,
    },
    /// A caller's own step failed between preparing a transaction and sending it; nothing was sent.
    #[error("the transaction could not be saved, and was not sent: {0}")]
    NotSaved(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ChainError {
    /// Whether the same call can succeed later without anyone changing a configuration or an argument. A node that
    /// answers rubbish counts as ill: it may recover.
    #[must_use]
    pub fn retry(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Rubbish { .. }
            | Self::Underpriced { .. }
            | Self::FeeAboveCap { .. }
            | Self::NotMined { .. }
            | Self::Unstable { .. }
            | Self::NodeBehind { .. }
            | Self::DoesNotFold { .. } => true,
            // 4xx is our fault (wrong path, wrong key), except for these two.
            Self::Http { status, .. } => *status >= 500 || matches!(status, 408 | 429),
            // -32601: no such method, -32602: bad parameters.
            Self::Refused { code, .. } => !matches!(code, -32601 | -32602),
            Self::WrongChain { .. }
            | Self::NoContract { .. }
            | Self::WrongContract { .. }
            | Self::NoFactory { .. }
            | Self::Reverted(_)
            | Self::Failed { .. }
            | Self::InsufficientFunds { .. }
            | Self::Superseded { .. }
            | Self::FinalityBroken { .. }
            | Self::NotSaved(_) => false,
        }
    }

    /// What the contract said, if it was the contract.
    #[must_use]
    pub fn revert(&self) -> Option<&Revert> {
        match self {
            Self::Reverted(revert) => Some(revert),
            _ => None,
        }
    }
}

/// Why a call reverted: the Solidity error with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revert {
    /// Name of the custom error, `Error` for a string, `Panic` for a panic, `unknown` for anything else.
    pub name: String,
    /// The error as one reads it, with its values: `TicketExpired { nowAt: 12, expiry: 10 }`.
    pub text: String,
    /// What the contract returned.
    pub data: Bytes,
}

impl Revert {
    /// Decodes revert data of a call to the scheme's contract: its custom errors, then those of our other contracts and the
    /// standard ERC-20 errors, strings and panics.
    #[must_use]
    pub fn decode<S: Scheme>(data: Bytes) -> Self {
        let known = debug::<S::Error>(&data).or_else(|| CUSTOM.iter().find_map(|decode| decode(&data)));
        let (name, text) = if let Some(error) = known {
            custom(&error)
        } else if let Ok(error) = RevertString::abi_decode(&data) {
            ("Error".to_owned(), format!("{:?}", error.reason))
        } else if let Ok(error) = Panic::abi_decode(&data) {
            ("Panic".to_owned(), format!("panic {error}"))
        } else if data.is_empty() {
            ("unknown".to_owned(), "no reason given".to_owned())
        } else {
            ("unknown".to_owned(), format!("unknown error {data}"))
        };
        Self { name, text, data }
    }

    /// The error of a scheme's contract, if it is one.
    #[must_use]
    pub fn error_of<S: Scheme>(&self) -> Option<S::Error> {
        S::Error::abi_decode_validate(&self.data).ok()
    }
}

/// Custom errors that we know, a set for each contract, printed as its generated enum prints itself.
const CUSTOM: [Decode; 4] = [
    debug::<<Tickets as Scheme>::Error>,
    debug::<<Channels as Scheme>::Error>,
    debug::<<Vaults as Scheme>::Error>,
    debug::<TestTokenErrors>,
];

type Decode = fn(&[u8]) -> Option<String>;

fn debug<E: SolInterface + fmt::Debug>(data: &[u8]) -> Option<String> {
    let error = E::abi_decode_validate(data).ok()?;
    Some(format!("{error:?}"))
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `Name(Name { values })`, as the generated enums print themselves, becomes `Name` and `Name { values }`.
fn custom(debug: &str) -> (String, String) {
    match debug.split_once('(') {
        Some((name, rest)) => (name.to_owned(), rest.strip_suffix(')').unwrap_or(rest).to_owned()),
        None => (debug.to_owned(), debug.to_owned()),
    }
}

/// The first characters of an answer, for an error message.
pub(crate) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 160;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use alloy::sol_types::SolError;
    use bindings::channel::PaymentChannel;
    use bindings::ticket::TicketEscrow::{TicketEscrowErrors, TicketExpired};

    use super::*;

    #[test]
    fn a_custom_error_is_named_with_its_values() {
        let error = TicketExpired {
            nowAt: U256::from(12),
            expiry: U256::from(10),
        };
        let revert = Revert::decode::<Tickets>(error.abi_encode().into());
        assert_eq!(revert.name, "TicketExpired");
        assert_eq!(revert.text, "TicketExpired { nowAt: 12, expiry: 10 }");
        assert!(matches!(
            revert.error_of::<Tickets>(),
            Some(TicketEscrowErrors::TicketExpired(_))
        ));
    }

    #[test]
    fn an_error_that_two_contracts_have_is_told_in_the_words_of_the_one_that_was_asked() {
        let (recovered, expected) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let error = PaymentChannel::WrongSigner { recovered, expected };
        let data = Bytes::from(error.abi_encode());
        let channels = Revert::decode::<Channels>(data.clone()).text;
        assert!(channels.contains("expected: 0x0202"), "{channels}");
        let tickets = Revert::decode::<Tickets>(data).text;
        assert!(tickets.contains("escrow: 0x0202"), "{tickets}");
        // Of another contract of ours, through which the call went.
        let data = PaymentChannel::UnitZero {}.abi_encode().into();
        assert_eq!(Revert::decode::<Tickets>(data).name, "UnitZero");
    }

    #[test]
    fn any_revert_data_decodes_to_something() {
        assert_eq!(Revert::decode::<Tickets>(Bytes::new()).text, "no reason given");
        assert_eq!(
            Revert::decode::<Tickets>(Bytes::from_static(&[1, 2, 3])).name,
            "unknown"
        );
        assert_eq!(
            Revert::decode::<Tickets>(RevertString::from("no").abi_encode().into()).text,
            "\"no\""
        );
        // A known selector with too little data behind it.
        assert_eq!(
            Revert::decode::<Tickets>(TicketExpired::SELECTOR.to_vec().into()).name,
            "unknown"
        );
    }

    #[test]
    fn an_excerpt_cuts_between_characters() {
        assert_eq!(excerpt("short"), "short");
        assert_eq!(excerpt(&"ü".repeat(500)).chars().count(), 161);
    }
}
