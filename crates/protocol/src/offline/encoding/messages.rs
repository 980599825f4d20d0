//! What two wallets say to each other beside the payment, and what a registrar gives them.

use alloy_primitives::Address;

use super::cbor::{Fields, MapWriter};
use super::{Encoded, message};
use crate::offline::{
    Acceptance, ClassId, Coin, DecodeError, DepositNonce, Domain, IndexName, Invoice, InvoiceDigest,
    InvoiceTerms, LogCheckpoint, LogHead, MAX_LIST_BYTES, NameHash, Registration, RegistrationDigest,
    Rejection, Sequence, SignedAcceptance, SignedDeposit, SignedInvoice, SignedLogCheckpoint,
    SignedRegistration, SignedRejection, SignedRevocationList, SpentRoot, TransferDigest,
    VouchedRegistration, WalletId,
};

message!(SignedInvoice, 1, 512);
message!(SignedAcceptance, 3, 512);
message!(SignedRejection, 4, 512);
message!(SignedRevocationList, 5, 2 * MAX_LIST_BYTES);
message!(SignedRegistration, 6, 512);
message!(SignedDeposit, 7, 512);
message!(SignedLogCheckpoint, 8, 512);
message!(VouchedRegistration, 9, 512);

impl Encoded for SignedInvoice {
    fn write(&self, _: &Domain, map: &mut MapWriter) {
        map.bytes(1, &self.key.to_compressed());
        map.asset(2, self.invoice.asset);
        map.amount(3, self.invoice.amount);
        map.bytes(4, self.terms.salt.as_slice());
        map.time(5, self.invoice.issued_at);
        map.bytes(6, &self.signature.to_bytes());
        map.bytes_unless_empty(7, &self.terms.classes_to_bytes());
    }

    fn read(_: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        let key = fields.key(1)?;
        let (asset, amount) = (fields.asset(2)?, fields.amount(3)?);
        let salt = fields.word(4)?;
        let issued_at = fields.time(5)?;
        let signature = fields.wallet_signature(6)?;
        let classes = fields.pieces::<{ InvoiceTerms::CLASS_LENGTH }>(7, InvoiceTerms::MOST_CLASSES)?;
        let classes = classes.iter().map(|class| {
            let (registrar, number) = class.split_at(Address::len_bytes());
            let mut bytes = [0; 4];
            bytes.copy_from_slice(number);
            (Address::from_slice(registrar), ClassId(u32::from_be_bytes(bytes)))
        });
        let terms = InvoiceTerms {
            salt,
            classes: classes.collect(),
        };
        Ok(Self {
            key,
            invoice: Invoice {
                payee: key.wallet(),
                asset,
                amount,
                nonce: terms.nonce(),
                issued_at,
            },
            terms,
            signature,
        })
    }
}

impl Encoded for SignedAcceptance {
    fn write(&self, _: &Domain, map: &mut MapWriter) {
        map.bytes(1, self.acceptance.transfer.0.as_slice());
        map.bytes(2, self.acceptance.payee.0.as_slice());
        map.time(3, self.acceptance.issued_at);
        map.bytes(4, &self.signature.to_bytes());
    }

    fn read(_: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        let acceptance = Acceptance {
            transfer: TransferDigest(fields.word(1)?),
            payee: WalletId(fields.word(2)?),
            issued_at: fields.time(3)?,
        };
        let signature = fields.wallet_signature(4)?;
        Ok(Self {
            acceptance,
            signature,
        })
    }
}

impl Encoded for SignedRejection {
    fn write(&self, _: &Domain, map: &mut MapWriter) {
        map.bytes(1, self.rejection.invoice.0.as_slice());
        map.bytes(2, self.rejection.payee.0.as_slice());
        map.time(3, self.rejection.issued_at);
        map.bytes(4, &self.signature.to_bytes());
    }

    fn read(_: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        let rejection = Rejection {
            invoice: InvoiceDigest(fields.word(1)?),
            payee: WalletId(fields.word(2)?),
            issued_at: fields.time(3)?,
        };
        let signature = fields.wallet_signature(4)?;
        Ok(Self { rejection, signature })
    }
}

impl Encoded for SignedRevocationList {
    fn write(&self, _: &Domain, map: &mut MapWriter) {
        map.time(1, self.issued_at);
        map.bytes(2, self.salt.as_slice());
        map.bytes_unless_empty(3, &self.wallets);
        map.bytes_unless_empty(4, &self.classes);
        map.bytes(5, &self.signature.to_bytes());
    }

    fn read(_: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        Ok(Self {
            issued_at: fields.time(1)?,
            salt: fields.word(2)?,
            wallets: fields.pieces::<1>(3, MAX_LIST_BYTES)?.as_flattened().to_vec(),
            classes: fields.pieces::<1>(4, MAX_LIST_BYTES)?.as_flattened().to_vec(),
            signature: fields.signature(5)?,
        })
    }
}

impl Encoded for SignedRegistration {
    fn write(&self, _: &Domain, map: &mut MapWriter) {
        map.bytes(1, &self.key.to_compressed());
        map.bytes(2, self.owner.as_slice());
        map.uint(3, self.class.0.into());
        if let Some(index) = self.index {
            map.bytes(4, index.0.as_slice());
        }
        map.time(5, self.valid_until);
        map.bytes(6, &self.signature.to_bytes());
        if let Some(first) = self.first {
            map.bytes(7, first.0.as_slice());
        }
    }

    fn read(_: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key: fields.key(1)?,
            owner: fields.address(2)?,
            class: class(fields, 3)?,
            index: fields.optional_word(4)?.map(IndexName),
            valid_until: fields.time(5)?,
            signature: fields.signature(6)?,
            first: fields.optional_word(7)?.map(RegistrationDigest),
        })
    }
}

impl Encoded for VouchedRegistration {
    fn write(&self, _: &Domain, map: &mut MapWriter) {
        map.bytes(1, &self.key.to_compressed());
        map.bytes(2, self.registration.owner.as_slice());
        map.uint(3, self.registration.class.0.into());
        if self.registration.log != NameHash::NONE {
            map.bytes(4, self.registration.log.0.as_slice());
        }
        map.time(5, self.registration.valid_until);
        map.bytes(6, &self.signature.to_bytes());
    }

    fn read(_: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        let key = fields.key(1)?;
        let registration = Registration {
            wallet: key.wallet(),
            owner: fields.address(2)?,
            class: class(fields, 3)?,
            log: fields.optional_word(4)?.map_or(NameHash::NONE, NameHash),
            valid_until: fields.time(5)?,
        };
        Ok(Self {
            key,
            registration,
            signature: fields.signature(6)?,
        })
    }
}

impl Encoded for SignedDeposit {
    fn write(&self, domain: &Domain, map: &mut MapWriter) {
        write_deposit(self, domain, map);
        map.bytes(6, self.coin.wallet.0.as_slice());
    }

    fn read(_: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        let mut deposit = read_deposit(fields, WalletId::default())?;
        deposit.coin.wallet = WalletId(fields.word(6)?);
        Ok(deposit)
    }
}

/// A deposit whose wallet follows from elsewhere.
pub(super) fn write_deposit(deposit: &SignedDeposit, _: &Domain, map: &mut MapWriter) {
    map.asset(1, deposit.coin.asset);
    map.amount(2, deposit.coin.amount);
    map.uint(3, deposit.coin.deposit_nonce.0);
    map.time(4, deposit.settle_by);
    map.bytes(5, &deposit.signature.to_bytes());
}

pub(super) fn read_deposit(
    fields: &mut Fields<'_, '_>,
    wallet: WalletId,
) -> Result<SignedDeposit, DecodeError> {
    let coin = Coin {
        wallet,
        asset: fields.asset(1)?,
        amount: fields.amount(2)?,
        deposit_nonce: DepositNonce(fields.uint(3)?),
    };
    Ok(SignedDeposit {
        coin,
        settle_by: fields.time(4)?,
        signature: fields.signature(5)?,
    })
}

impl Encoded for SignedLogCheckpoint {
    fn write(&self, _: &Domain, map: &mut MapWriter) {
        map.bytes(1, self.checkpoint.wallet.0.as_slice());
        map.bytes(2, self.checkpoint.head.0.as_slice());
        map.uint(3, self.checkpoint.sequence.0);
        map.bytes(4, self.checkpoint.spent.0.as_slice());
        map.time(5, self.checkpoint.issued_at);
        map.bytes(6, &self.signature.to_bytes());
    }

    fn read(_: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        let checkpoint = LogCheckpoint {
            wallet: WalletId(fields.word(1)?),
            head: LogHead(fields.word(2)?),
            sequence: Sequence(fields.uint(3)?),
            spent: SpentRoot(fields.word(4)?),
            issued_at: fields.time(5)?,
        };
        let signature = fields.signature(6)?;
        Ok(Self {
            checkpoint,
            signature,
        })
    }
}

fn class(fields: &mut Fields<'_, '_>, key: u64) -> Result<ClassId, DecodeError> {
    let got = fields.uint(key)?;
    let at = fields.position();
    u32::try_from(got)
        .map(ClassId)
        .map_err(|_| DecodeError::OutOfRange { at })
}
