//! What a wallet saves: its books with the payment that is under way, payments that wait for their acceptance, and what it
//! was paid. Read back as strictly as what arrives from others: files are set back, cut off and mixed up.

use alloy_primitives::B256;

use super::cbor::{Fields, MapWriter};
use super::{Encoded, message};
use crate::offline::{
    Amount, AnyPayer, Chosen, Committed, Credited, DecodeError, Domain, Holding, Idle, Input, Invoice,
    InvoiceDigest, LogEntry, MAX_HOLDINGS, MAX_PAYMENT_BYTES, MAX_TRANSFERS, Nonce32, Outgoing, Output,
    PaidInvoice, Path, Payee, Payer, Previous, Reserved, Sequence, SignedInvoice, SignedRegistration,
    Timestamp, Transfer, Wallet, WalletId, WalletLog,
};

/// Most inputs that a wallet has spent.
const MAX_SPENT: usize = MAX_TRANSFERS as usize;
/// Most bytes of what is saved: [`MAX_HOLDINGS`] payments, and as much again for all else.
const MAX_STATE_BYTES: usize = 2 * MAX_HOLDINGS * MAX_PAYMENT_BYTES;

const IDLE: u64 = 0;
const RESERVED: u64 = 1;
const CHOSEN: u64 = 2;
const COMMITTED: u64 = 3;

message!(AnyPayer, 16, MAX_STATE_BYTES);
message!(Outgoing, 17, MAX_STATE_BYTES);
message!(Payee<Credited>, 18, MAX_STATE_BYTES);

impl Encoded for AnyPayer {
    fn write(&self, domain: &Domain, map: &mut MapWriter) {
        map.encoded(domain, 1, self.wallet());
        match self {
            Self::Idle(_) => map.uint(2, IDLE),
            Self::Reserved(payer) => {
                map.uint(2, RESERVED);
                map.encoded(domain, 3, &payer.state().invoice);
                map.bytes(4, payer.state().input.0.as_slice());
            }
            Self::Chosen(payer) => {
                map.uint(2, CHOSEN);
                if let Some(invoice) = &payer.state().invoice {
                    map.encoded(domain, 3, invoice);
                }
                map.encoded(domain, 5, &payer.state().transfer);
            }
            Self::Committed(payer) => {
                map.uint(2, COMMITTED);
                map.encoded(domain, 3, payer.state());
            }
        }
    }

    fn read(domain: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        let wallet = fields.encoded(domain, 1)?;
        let state = fields.uint(2)?;
        let at = fields.position();
        Ok(match state {
            IDLE => Payer::resume(wallet, Idle).into(),
            RESERVED => {
                let invoice = fields.encoded(domain, 3)?;
                let input = Input(fields.word(4)?);
                Payer::resume(wallet, Reserved { invoice, input }).into()
            }
            CHOSEN => {
                let invoice = fields.optional_encoded(domain, 3)?;
                let transfer = fields.encoded(domain, 5)?;
                Payer::resume(wallet, Chosen { invoice, transfer }).into()
            }
            COMMITTED => Payer::resume(wallet, fields.encoded::<Committed>(domain, 3)?).into(),
            _ => return Err(DecodeError::OutOfRange { at }),
        })
    }
}

impl Encoded for Committed {
    fn write(&self, domain: &Domain, map: &mut MapWriter) {
        if let Some(invoice) = &self.invoice {
            map.encoded(domain, 1, invoice);
        }
        map.encoded(domain, 2, &self.payment);
    }

    fn read(domain: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        let invoice: Option<SignedInvoice> = fields.optional_encoded(domain, 1)?;
        let payment: Path = fields.encoded(domain, 2)?;
        Ok(Self { invoice, payment })
    }
}

impl Encoded for Outgoing {
    fn write(&self, domain: &Domain, map: &mut MapWriter) {
        self.committed().write(domain, map);
    }

    fn read(domain: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        Committed::read(domain, fields).map(Self::new)
    }
}

impl Encoded for Payee<Credited> {
    fn write(&self, domain: &Domain, map: &mut MapWriter) {
        map.bytes(1, self.invoice().payee.0.as_slice());
        map.asset(2, self.invoice().asset);
        map.amount(3, self.invoice().amount);
        map.bytes(4, self.invoice().nonce.0.as_slice());
        map.time(5, self.invoice().issued_at);
        map.encoded(domain, 6, &self.state().path);
        map.time(7, self.state().at);
        if self.state().late {
            map.uint(8, 1);
        }
    }

    fn read(domain: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        let invoice = Invoice {
            payee: WalletId(fields.word(1)?),
            asset: fields.asset(2)?,
            amount: fields.amount(3)?,
            nonce: Nonce32(fields.word(4)?),
            issued_at: fields.time(5)?,
        };
        let path: Path = fields.encoded(domain, 6)?;
        let at = fields.time(7)?;
        let late = fields.has(8)? && fields.value()? == 1;
        let credited = Credited::restored(domain, path, at, late)?;
        Ok(Self::resume(invoice, credited))
    }
}

impl Encoded for Wallet {
    fn write(&self, domain: &Domain, map: &mut MapWriter) {
        map.encoded(domain, 1, &self.registration);
        map.bytes(2, self.previous.0.as_slice());
        let spent: Vec<[u8; 32]> = self.spent.iter().map(|input| input.0.0).collect();
        map.bytes_unless_empty(3, spent.as_flattened());
        map.list(4, &self.holdings, |_, holding, map| {
            map.encoded(domain, 1, &holding.path);
            if holding.output == Output::Change {
                map.uint(2, 1);
            }
        });
        if let Some(log) = &self.log {
            if let Some(signed) = &log.checkpoint {
                map.encoded(domain, 5, signed);
            }
            let entries: Vec<[u8; LogEntry::LENGTH]> = log.entries.iter().map(LogEntry::to_bytes).collect();
            map.bytes_unless_empty(6, entries.as_flattened());
        }
        let paid: Vec<[u8; PAID]> = self.paid.iter().map(paid_to_bytes).collect();
        map.bytes_unless_empty(7, paid.as_flattened());
    }

    fn read(domain: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        let registration: SignedRegistration = fields.encoded(domain, 1)?;
        let previous = Previous(fields.word(2)?);
        let spent: Vec<Input> = fields
            .pieces::<32>(3, MAX_SPENT)?
            .iter()
            .map(|input| Input((*input).into()))
            .collect();
        let holdings = fields.list(4, MAX_HOLDINGS, |_, fields| {
            let path = fields.encoded(domain, 1)?;
            let change = fields.has(2)? && fields.value()? == 1;
            let output = if change { Output::Change } else { Output::Payee };
            Ok(Holding { path, output })
        })?;
        let log = WalletLog {
            checkpoint: fields.optional_encoded(domain, 5)?,
            entries: fields
                .pieces(6, MAX_SPENT)?
                .iter()
                .map(LogEntry::from_bytes)
                .collect(),
        };
        let paid = fields.pieces(7, MAX_SPENT)?.iter().map(paid_from_bytes).collect();
        Ok(Self {
            registration,
            paid,
            sequence: Sequence::ZERO.plus(spent.len()).unwrap_or_default(),
            previous,
            holdings,
            spent,
            log: registration.index.map(|_| log),
        })
    }
}

/// Digest and time.
const PAID: usize = 32 + 8;

fn paid_to_bytes(paid: &PaidInvoice) -> [u8; PAID] {
    let mut bytes = [0; PAID];
    bytes[..32].copy_from_slice(paid.invoice.0.as_slice());
    bytes[32..].copy_from_slice(&paid.issued_at.0.to_be_bytes());
    bytes
}

fn paid_from_bytes(bytes: &[u8; PAID]) -> PaidInvoice {
    let mut time = [0; 8];
    time.copy_from_slice(&bytes[32..]);
    PaidInvoice {
        invoice: InvoiceDigest(B256::from_slice(&bytes[..32])),
        issued_at: Timestamp(u64::from_be_bytes(time)),
    }
}

impl Encoded for Transfer {
    fn write(&self, _: &Domain, map: &mut MapWriter) {
        map.bytes(1, self.input.0.as_slice());
        map.bytes(2, self.payee.0.as_slice());
        map.amount(3, self.amount);
        map.amount(4, self.change);
        map.uint(5, self.sequence.0);
        map.bytes(6, self.previous.0.as_slice());
        map.word_unless_zero(7, self.invoice.0);
        map.time(8, self.issued_at);
    }

    fn read(_: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        let input = Input(fields.word(1)?);
        let payee = WalletId(fields.word(2)?);
        let amount: Amount = fields.amount(3)?;
        Ok(Self {
            input,
            payee,
            amount,
            change: fields.amount(4)?,
            sequence: Sequence(fields.uint(5)?),
            previous: Previous(fields.word(6)?),
            invoice: InvoiceDigest(fields.optional_word(7)?.unwrap_or_default()),
            issued_at: fields.time(8)?,
        })
    }
}
