//! Solidity seen from Rust: the only `sol!` calls of the workspace. ABI and bytecode are committed under `abi/` and
//! written by `cargo xtask bindings`, so that `cargo build` needs no solc and a signed message is declared once, as a
//! struct in the Solidity interface.
#![allow(
    missing_docs,
    reason = "generated from the ABI; the documentation is in contracts/*/I*.sol"
)]
#![allow(clippy::too_many_arguments, reason = "generated from the ABI")]

/// The ticket scheme's contract (`contracts/ticket/ITicketEscrow.sol`).
pub mod ticket {
    alloy::sol! {
        #[sol(rpc, all_derives, extra_derives(serde::Serialize, serde::Deserialize))]
        TicketEscrow,
        "abi/TicketEscrow.json"
    }
    pub use ITicketEscrow::{CoinCommitment, Group, Opening, Signature, Terms, Ticket, Winner};
}

/// The channel scheme's contract (`contracts/channel/IPaymentChannel.sol`).
pub mod channel {
    alloy::sol! {
        #[sol(rpc, all_derives, extra_derives(serde::Serialize, serde::Deserialize))]
        PaymentChannel,
        "abi/PaymentChannel.json"
    }
    pub use IPaymentChannel::{
        Channel, Checkpoint, CheckpointItem, CloseItem, CooperativeClose, LastReceipt, LockLeaf, OpenPermit,
        Proof, Receipt, Signature, SignedLeaf, Terms,
    };
}

/// The offline scheme's contract (`contracts/offline/IOfflineVault.sol`).
pub mod offline {
    alloy::sol! {
        #[sol(rpc, all_derives, extra_derives(serde::Serialize, serde::Deserialize))]
        OfflineVault,
        "abi/OfflineVault.json"
    }
    pub use IOfflineVault::{
        Acceptance, Coin, DepositReceipt, Invoice, Key, Path, RegistrarSignature, Registration, Signature,
        Stretch, Transfer, Wallet,
    };
}

/// What a channel's client signs for its bank, under the channel's domain. No contract reads it, so it is declared here.
pub mod bank {
    alloy::sol! {
        /// Asks the bank to admit a channel, or to let it be topped up.
        #[derive(Debug, PartialEq, Eq)]
        struct PermitRequest {
            bytes32 channelId;
            address client;
            address vendor;
            address receiptKey;
            address asset;
            uint128 unit;
            uint32 length;
            bytes32 anchor;
            uint64 expiry;
            uint64 requestedAt;
        }
    }
}

/// What every contract of ours answers (`contracts/shared`, and the separator that each scheme's interface asks for), to be
/// called where it does not matter which it is.
pub mod shared {
    alloy::sol! {
        interface IShared {
            function creditOf(address asset, address account) external view returns (uint256 amount);
            function domainSeparator() external view returns (bytes32);
            function isOperator(address recipient, address operator) external view returns (bool approved);
        }
    }
}

/// The part of ERC-20 that payers and tests need.
pub mod erc20 {
    alloy::sol! {
        #[sol(rpc)]
        interface IERC20 {
            function approve(address spender, uint256 amount) external returns (bool);
            function allowance(address owner, address spender) external view returns (uint256);
            function balanceOf(address account) external view returns (uint256);
            function transfer(address to, uint256 amount) external returns (bool);
            function decimals() external view returns (uint8);
            function symbol() external view returns (string);
        }
    }
}

/// A plain ERC-20 that anyone may mint (`Token` in `tests/contracts/ticket/TicketFixture.sol`), for tests and demos on a
/// local chain.
pub mod test_token {
    alloy::sol! {
        #[sol(rpc, all_derives)]
        TestToken,
        "abi/TestToken.json"
    }
}
