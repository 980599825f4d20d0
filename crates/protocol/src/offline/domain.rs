//! The EIP-712 domain of one deployed `OfflineVault`, and the digest of everything that is signed under it. Struct types
//! come from the Solidity interface through `bindings`; those that no contract reads stand here, and only here.

use std::sync::LazyLock;

use alloy_primitives::{B256, U256, keccak256};
use alloy_sol_types::SolStruct;
use bindings::offline as sol;

use super::{
    Acceptance, Coin, CoinId, DepositReceipt, FragmentId, Invoice, InvoiceDigest, LogCheckpoint, Output,
    Registration, RegistrationDigest, Rejection, RevocationHeader, Transfer, TransferDigest,
};
use crate::typed_data;

typed_data::domain!("OfflineVault", "Micropay Offline Vault");

macro_rules! typehash {
    ($name:ident, $type:expr) => {
        static $name: LazyLock<B256> = LazyLock::new(|| keccak256($type));
    };
}

// These are ours: no contract reads them.
typehash!(REGISTERED, "Registered(bytes32 registration)");
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

    /// What the registrar signs to put a wallet into a class, and the wallet to agree.
    pub fn registration_digest(&self, registration: &Registration) -> RegistrationDigest {
        RegistrationDigest(self.typed(&registration.to_sol()))
    }

    /// What the registrar signs when a registration is final on the chain.
    pub fn registered_digest(&self, registration: RegistrationDigest) -> B256 {
        self.digest(&[*REGISTERED, registration.0])
    }

    /// What the registrar signs when a deposit is final.
    pub fn deposit_receipt_digest(&self, receipt: &DepositReceipt) -> B256 {
        self.typed(&sol::DepositReceipt {
            coin: receipt.coin.0,
            wallet: receipt.wallet.0,
            asset: receipt.asset,
            amount: receipt.amount.0,
            settleBy: receipt.settle_by.0,
        })
    }

    /// What the payee's wallet signs to ask for money.
    pub fn invoice_digest(&self, invoice: &Invoice) -> InvoiceDigest {
        InvoiceDigest(self.typed(&sol::Invoice {
            payee: invoice.payee.0,
            asset: invoice.asset,
            amount: invoice.amount.0,
            nonce: invoice.nonce.0,
            issuedAt: invoice.issued_at.0,
        }))
    }

    /// What the payer's wallet signs, or logs, to pay.
    pub fn transfer_digest(&self, transfer: &Transfer) -> TransferDigest {
        TransferDigest(self.typed(&transfer.to_sol()))
    }

    /// What the payee's wallet signs when it holds the money.
    pub fn acceptance_digest(&self, acceptance: &Acceptance) -> B256 {
        self.typed(&sol::Acceptance {
            transfer: acceptance.transfer.0,
            payee: acceptance.payee.0,
            issuedAt: acceptance.issued_at.0,
        })
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

    fn typed(&self, message: &impl SolStruct) -> B256 {
        self.typed_data_hash(message.eip712_hash_struct())
    }

    fn digest(&self, words: &[B256]) -> B256 {
        let mut bytes = Vec::with_capacity(words.len() * 32);
        for word in words {
            bytes.extend_from_slice(word.as_slice());
        }
        self.typed_data_hash(keccak256(bytes))
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
