//! The EIP-712 domain of one deployed `OfflineVault`, and the digest of everything that is signed under it. The type
//! strings and the order of the fields stand in this file only, until the contract's interface declares them: then the
//! bodies below take the structs of `bindings`, and nothing else changes.

use std::sync::LazyLock;

use alloy_primitives::{Address, B256, U256, keccak256};

use super::{
    Acceptance, Coin, CoinId, DepositReceipt, FragmentId, Invoice, InvoiceDigest, LogCheckpoint, Output,
    Registration, RegistrationDigest, Rejection, RevocationHeader, Transfer, TransferDigest,
};
use crate::typed_data;

/// One deployed `OfflineVault`: chain and address, and the separator that both make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Domain {
    chain_id: u64,
    contract: Address,
    separator: B256,
}

macro_rules! typehash {
    ($name:ident, $type:expr) => {
        static $name: LazyLock<B256> = LazyLock::new(|| keccak256($type));
    };
}

typehash!(
    REGISTRATION,
    "Registration(bytes32 wallet,address owner,uint32 class,bytes32 log,uint64 validUntil)"
);
typehash!(
    DEPOSIT_RECEIPT,
    "DepositReceipt(bytes32 coin,bytes32 wallet,address asset,uint128 amount,uint64 settleBy)"
);
typehash!(
    INVOICE,
    "Invoice(bytes32 payee,address asset,uint128 amount,bytes32 nonce,uint64 issuedAt)"
);
typehash!(
    TRANSFER,
    "Transfer(bytes32 input,bytes32 payee,uint128 amount,uint128 change,uint64 sequence,bytes32 previous,\
     bytes32 invoice,uint64 issuedAt)"
);
typehash!(
    ACCEPTANCE,
    "Acceptance(bytes32 transfer,bytes32 payee,uint64 issuedAt)"
);
// The three below are ours: no contract reads them.
typehash!(
    REJECTION,
    "Rejection(bytes32 invoice,bytes32 payee,uint64 issuedAt)"
);
typehash!(
    LOG_CHECKPOINT,
    "LogCheckpoint(bytes32 wallet,bytes32 head,uint64 sequence,bytes32 spent,uint64 issuedAt)"
);
typehash!(
    REVOCATION_LIST,
    "RevocationList(uint64 issuedAt,bytes32 salt,bytes32 wallets,bytes32 classes)"
);

impl Domain {
    /// Name in the EIP-712 domain.
    pub const NAME: &str = "Micropay Offline Vault";
    /// Version in the EIP-712 domain.
    pub const VERSION: &str = "1";

    /// The domain of the contract at `contract` on the chain with this id.
    pub fn new(chain_id: u64, contract: Address) -> Self {
        Self {
            chain_id,
            contract,
            separator: typed_data::separator(Self::NAME, Self::VERSION, chain_id, contract),
        }
    }

    /// The chain's id.
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The contract's address.
    pub fn contract(&self) -> Address {
        self.contract
    }

    /// The EIP-712 domain separator.
    pub fn separator(&self) -> B256 {
        self.separator
    }

    /// The name of a deposit.
    pub fn coin_id(&self, coin: &Coin) -> CoinId {
        CoinId(keccak256(
            [
                number(self.chain_id).0,
                self.contract.into_word().0,
                coin.wallet.0.0,
                coin.asset.into_word().0,
                number(coin.amount.0).0,
                number(coin.deposit_nonce.0).0,
            ]
            .concat(),
        ))
    }

    /// What the registrar signs to put a wallet into a class.
    pub fn registration_digest(&self, registration: &Registration) -> RegistrationDigest {
        RegistrationDigest(self.digest(&[
            *REGISTRATION,
            registration.wallet.0,
            registration.owner.into_word(),
            number(registration.class.0),
            registration.log.0,
            number(registration.valid_until.0),
        ]))
    }

    /// What the registrar signs when a deposit is final.
    pub fn deposit_receipt_digest(&self, receipt: &DepositReceipt) -> B256 {
        self.digest(&[
            *DEPOSIT_RECEIPT,
            receipt.coin.0,
            receipt.wallet.0,
            receipt.asset.into_word(),
            number(receipt.amount.0),
            number(receipt.settle_by.0),
        ])
    }

    /// What the payee's wallet signs to ask for money.
    pub fn invoice_digest(&self, invoice: &Invoice) -> InvoiceDigest {
        InvoiceDigest(self.digest(&[
            *INVOICE,
            invoice.payee.0,
            invoice.asset.into_word(),
            number(invoice.amount.0),
            invoice.nonce.0,
            number(invoice.issued_at.0),
        ]))
    }

    /// What the payer's wallet signs, or logs, to pay.
    pub fn transfer_digest(&self, transfer: &Transfer) -> TransferDigest {
        TransferDigest(self.digest(&[
            *TRANSFER,
            transfer.input.0,
            transfer.payee.0,
            number(transfer.amount.0),
            number(transfer.change.0),
            number(transfer.sequence.0),
            transfer.previous.0,
            transfer.invoice.0,
            number(transfer.issued_at.0),
        ]))
    }

    /// What the payee's wallet signs when it holds the money.
    pub fn acceptance_digest(&self, acceptance: &Acceptance) -> B256 {
        self.digest(&[
            *ACCEPTANCE,
            acceptance.transfer.0,
            acceptance.payee.0,
            number(acceptance.issued_at.0),
        ])
    }

    /// What the payee's wallet signs when it does not want the money any more.
    pub fn rejection_digest(&self, rejection: &Rejection) -> B256 {
        self.digest(&[
            *REJECTION,
            rejection.invoice.0,
            rejection.payee.0,
            number(rejection.issued_at.0),
        ])
    }

    /// What the registrar signs to spare a wallet the log before.
    pub fn log_checkpoint_digest(&self, checkpoint: &LogCheckpoint) -> B256 {
        self.digest(&[
            *LOG_CHECKPOINT,
            checkpoint.wallet.0,
            checkpoint.head.0,
            number(checkpoint.sequence.0),
            checkpoint.spent.0,
            number(checkpoint.issued_at.0),
        ])
    }

    /// What the registrar signs of a revocation list.
    pub fn revocation_list_digest(&self, header: &RevocationHeader) -> B256 {
        self.digest(&[
            *REVOCATION_LIST,
            number(header.issued_at.0),
            header.salt,
            header.wallets,
            header.classes,
        ])
    }

    fn digest(&self, words: &[B256]) -> B256 {
        let mut bytes = Vec::with_capacity(words.len() * 32);
        for word in words {
            bytes.extend_from_slice(word.as_slice());
        }
        typed_data::digest(self.separator, keccak256(bytes))
    }
}

impl TransferDigest {
    /// The name of one part of what the transfer spends.
    pub fn fragment(self, output: Output) -> FragmentId {
        let k = match output {
            Output::Payee => 0_u64,
            Output::Change => 1,
        };
        FragmentId(keccak256([self.0.0, number(k).0].concat()))
    }
}

/// `abi.encode` of an unsigned number.
fn number(value: impl Into<u128>) -> B256 {
    B256::from(U256::from(value.into()))
}
