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
// Typed from the interface until the contract compiles and its ABI is committed.
pub mod channel {
    alloy::sol! {
        #[sol(all_derives, extra_derives(serde::Serialize, serde::Deserialize))]
        contract PaymentChannel {
            enum Status {
                NONE,
                OPEN,
                CLOSED
            }
            struct OpenPermit {
                bytes32 channelId;
                address client;
                address vendor;
                address receiptKey;
                address asset;
                uint128 unit;
                uint32 length;
                bytes32 anchor;
                uint8 clientReputation;
                uint8 vendorReputation;
                uint64 issuedAt;
                uint64 expiry;
            }
            struct Receipt {
                bytes32 channelId;
                uint32 index;
                bytes32 itemHash;
                uint128 cumulative;
                uint64 issuedAt;
                bytes32 transcript;
            }
            struct Checkpoint {
                bytes32 channelId;
                uint32 index;
                bytes32 word;
                bytes32 locksRoot;
            }
            struct CooperativeClose {
                bytes32 channelId;
                uint32 index;
            }
            struct Signature {
                bytes32 r;
                bytes32 s;
                uint8 v;
            }
            struct Terms {
                OpenPermit permit;
                address bank;
                bytes32 tag0;
            }
            struct Proof {
                uint32 index;
                bytes32 word;
                uint32 signedIndex;
                bytes32 signedWord;
                bytes32 locksRoot;
                Signature signature;
            }
            struct LastReceipt {
                bytes32 itemHash;
                uint64 issuedAt;
                Signature sigma;
            }
            struct CheckpointItem {
                Terms terms;
                Proof proof;
            }
            struct CloseItem {
                Terms terms;
                Proof proof;
                bytes32 transcript;
                LastReceipt receipt;
            }
            struct LockLeaf {
                uint32 index;
                uint32 previous;
                bytes32 lockR;
                bytes32 lockS;
                bytes32 tag;
            }
            struct SignedLeaf {
                LockLeaf leaf;
                Checkpoint checkpoint;
                Signature signature;
                bytes32[] path;
            }
            struct Channel {
                uint32 settled;
                uint32 length;
                uint64 expiry;
                Status status;
                bool badLockProven;
                bool doubleReceiptProven;
            }
            event Opened(
                bytes32 indexed channelId,
                address indexed client,
                address indexed vendor,
                address bank,
                OpenPermit permit,
                Signature sigma0
            );
            event ToppedUp(bytes32 indexed channelId, OpenPermit permit, Signature sigma0);
            event Checkpointed(bytes32 indexed channelId, uint32 index, bytes32 word, uint256 paid);
            event Closed(bytes32 indexed channelId, uint32 index, uint256 paid, uint256 refunded, bytes32 transcript);
            event ReceiptShown(bytes32 indexed channelId, uint32 index, bytes32 receiptDigest);
            event CooperativelyClosed(bytes32 indexed channelId, uint32 index, uint256 paid, uint256 refunded);
            event Refunded(bytes32 indexed channelId, uint32 index, uint256 refunded);
            event ItemSkipped(bytes32 indexed channelId, bytes4 reason, uint256 got, uint256 limit);
            event BadLockProven(bytes32 indexed channelId, uint32 index);
            event DoubleReceiptProven(bytes32 indexed channelId, uint32 index);
            event ReputationSet(address indexed bank, address indexed customer, uint8 reputation);
            event BankKeySet(address indexed bank, address key, uint64 epoch);
        }
    }
    pub use PaymentChannel::{
        Channel, Checkpoint, CheckpointItem, CloseItem, CooperativeClose, LastReceipt, LockLeaf, OpenPermit,
        Proof, Receipt, Signature, SignedLeaf, Status, Terms,
    };
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
