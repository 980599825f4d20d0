//! Maps with integer keys, numbers and bytes, over crate minicbor. A map is read in the order of its keys, and all of it; a
//! length is judged before what it announces is looked at.

use alloy_primitives::{Address, B256};
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use super::Encoded;
use crate::offline::{Amount, DecodeError, Domain, Signature, Timestamp, WalletKey, WalletSignature};

/// Writes one map, keys in ascending order.
#[derive(Default)]
pub(super) struct MapWriter {
    count: u64,
    body: Vec<u8>,
}

impl MapWriter {
    /// The map.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.body.len() + 3);
        with(&mut bytes, |encoder| encoder.map(self.count).map(drop));
        bytes.extend_from_slice(&self.body);
        bytes
    }

    pub(super) fn uint(&mut self, key: u64, value: u64) {
        self.key(key);
        with(&mut self.body, |encoder| encoder.u64(value).map(drop));
    }

    pub(super) fn bytes(&mut self, key: u64, value: &[u8]) {
        self.key(key);
        with(&mut self.body, |encoder| encoder.bytes(value).map(drop));
    }

    /// Left out when there are none.
    pub(super) fn bytes_unless_empty(&mut self, key: u64, value: &[u8]) {
        if !value.is_empty() {
            self.bytes(key, value);
        }
    }

    /// Left out when zero: the native asset, no invoice.
    pub(super) fn word_unless_zero(&mut self, key: u64, value: B256) {
        if value != B256::ZERO {
            self.bytes(key, value.as_slice());
        }
    }

    /// Left out for the native asset.
    pub(super) fn asset(&mut self, key: u64, value: Address) {
        if value != Address::ZERO {
            self.bytes(key, value.as_slice());
        }
    }

    /// A number if 64 bits hold it, else as few bytes as hold it.
    pub(super) fn amount(&mut self, key: u64, value: Amount) {
        match u64::try_from(value.0) {
            Ok(value) => self.uint(key, value),
            Err(_) => {
                let bytes = value.0.to_be_bytes();
                let zeros = value.0.leading_zeros() as usize / 8;
                self.bytes(key, &bytes[zeros..]);
            }
        }
    }

    pub(super) fn time(&mut self, key: u64, value: Timestamp) {
        self.uint(key, value.0);
    }

    pub(super) fn nested(&mut self, key: u64, write: impl FnOnce(&mut Self)) {
        self.key(key);
        let mut map = Self::default();
        write(&mut map);
        self.body.extend_from_slice(&map.finish());
    }

    pub(super) fn list<T>(&mut self, key: u64, items: &[T], mut write: impl FnMut(usize, &T, &mut Self)) {
        self.key(key);
        with(&mut self.body, |encoder| {
            encoder.array(items.len() as u64).map(drop)
        });
        for (at, item) in items.iter().enumerate() {
            let mut map = Self::default();
            write(at, item, &mut map);
            self.body.extend_from_slice(&map.finish());
        }
    }

    pub(super) fn encoded<T: Encoded>(&mut self, domain: &Domain, key: u64, value: &T) {
        self.nested(key, |map| value.write(domain, map));
    }

    fn key(&mut self, key: u64) {
        self.count += 1;
        with(&mut self.body, |encoder| encoder.u64(key).map(drop));
    }
}

type Written = Result<(), minicbor::encode::Error<core::convert::Infallible>>;

fn with(bytes: &mut Vec<u8>, write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Written) {
    write(&mut Encoder::new(bytes)).expect("a vector takes all that is written to it");
}

/// Reads one value after another.
pub(super) struct Reader<'b> {
    decoder: Decoder<'b>,
}

/// A map that is being read.
pub(super) struct Fields<'r, 'b> {
    reader: &'r mut Reader<'b>,
    left: u64,
    next: Option<u64>,
}

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self {
            decoder: Decoder::new(bytes),
        }
    }

    pub(super) fn position(&self) -> usize {
        self.decoder.position()
    }

    /// Reads a map, all of it.
    pub(super) fn map<T>(
        &mut self,
        read: impl FnOnce(&mut Fields<'_, 'b>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let left = self.decoder.map();
        let left = self.must(left)?.ok_or(self.malformed())?;
        let mut fields = Fields {
            reader: self,
            left,
            next: None,
        };
        let value = read(&mut fields)?;
        fields.end()?;
        Ok(value)
    }

    fn uint(&mut self) -> Result<u64, DecodeError> {
        let value = self.decoder.u64();
        self.must(value)
    }

    fn bytes(&mut self) -> Result<&'b [u8], DecodeError> {
        let value = self.decoder.bytes();
        self.must(value)
    }

    fn must<T>(&self, value: Result<T, minicbor::decode::Error>) -> Result<T, DecodeError> {
        value.map_err(|_| self.malformed())
    }

    fn malformed(&self) -> DecodeError {
        DecodeError::Malformed { at: self.position() }
    }
}

impl<'b> Fields<'_, 'b> {
    pub(super) fn position(&self) -> usize {
        self.reader.position()
    }

    /// Whether the next key is this one, which is then read.
    pub(super) fn has(&mut self, key: u64) -> Result<bool, DecodeError> {
        if self.next.is_none() && self.left > 0 {
            self.left -= 1;
            self.next = Some(self.reader.uint()?);
        }
        match self.next {
            Some(got) if got == key => {
                self.next = None;
                Ok(true)
            }
            Some(got) if got < key => Err(DecodeError::UnknownKey {
                got,
                at: self.position(),
            }),
            _ => Ok(false),
        }
    }

    fn need(&mut self, key: u64) -> Result<(), DecodeError> {
        if self.has(key)? {
            return Ok(());
        }
        Err(DecodeError::MissingKey {
            needed: key,
            at: self.position(),
        })
    }

    /// The number after a key that was there.
    pub(super) fn value(&mut self) -> Result<u64, DecodeError> {
        self.reader.uint()
    }

    /// The map after a key that was there.
    pub(super) fn map_value<T>(
        &mut self,
        read: impl FnOnce(&mut Fields<'_, 'b>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        self.reader.map(read)
    }

    /// The signature after a key that was there.
    pub(super) fn wallet_signature_value(&mut self) -> Result<WalletSignature, DecodeError> {
        let bytes: [u8; WalletSignature::LENGTH] = self.fixed_value()?;
        Ok(WalletSignature::from_bytes(&bytes)?)
    }

    pub(super) fn uint(&mut self, key: u64) -> Result<u64, DecodeError> {
        self.need(key)?;
        self.reader.uint()
    }

    pub(super) fn time(&mut self, key: u64) -> Result<Timestamp, DecodeError> {
        self.uint(key).map(Timestamp)
    }

    pub(super) fn fixed<const N: usize>(&mut self, key: u64) -> Result<[u8; N], DecodeError> {
        self.need(key)?;
        self.fixed_value()
    }

    pub(super) fn optional<const N: usize>(&mut self, key: u64) -> Result<Option<[u8; N]>, DecodeError> {
        if self.has(key)? {
            self.fixed_value().map(Some)
        } else {
            Ok(None)
        }
    }

    pub(super) fn word(&mut self, key: u64) -> Result<B256, DecodeError> {
        self.fixed(key).map(B256::new)
    }

    pub(super) fn optional_word(&mut self, key: u64) -> Result<Option<B256>, DecodeError> {
        Ok(self.optional(key)?.map(B256::new))
    }

    pub(super) fn asset(&mut self, key: u64) -> Result<Address, DecodeError> {
        Ok(self.optional(key)?.map_or(Address::ZERO, Address::new))
    }

    pub(super) fn address(&mut self, key: u64) -> Result<Address, DecodeError> {
        self.fixed(key).map(Address::new)
    }

    pub(super) fn amount(&mut self, key: u64) -> Result<Amount, DecodeError> {
        self.need(key)?;
        let at = self.position();
        let datatype = self.reader.decoder.datatype();
        if self.reader.must(datatype)? != Type::Bytes {
            return self.reader.uint().map(|value| Amount(value.into()));
        }
        let bytes = self.reader.bytes()?;
        let mut wide = [0; 16];
        // What 64 bits hold is a number, and has no leading zero.
        if !(9..=16).contains(&bytes.len()) || bytes[0] == 0 {
            return Err(DecodeError::OutOfRange { at });
        }
        wide[16 - bytes.len()..].copy_from_slice(bytes);
        Ok(Amount(u128::from_be_bytes(wide)))
    }

    pub(super) fn key(&mut self, key: u64) -> Result<WalletKey, DecodeError> {
        let bytes: [u8; WalletKey::COMPRESSED] = self.fixed(key)?;
        Ok(WalletKey::from_compressed(&bytes)?)
    }

    pub(super) fn wallet_signature(&mut self, key: u64) -> Result<WalletSignature, DecodeError> {
        self.need(key)?;
        self.wallet_signature_value()
    }

    pub(super) fn signature(&mut self, key: u64) -> Result<Signature, DecodeError> {
        let bytes: [u8; Signature::LENGTH] = self.fixed(key)?;
        Ok(Signature::from_bytes(&bytes)?)
    }

    /// Pieces of one length, one after another, none if the key is not there.
    pub(super) fn pieces<const N: usize>(
        &mut self,
        key: u64,
        limit: usize,
    ) -> Result<&'b [[u8; N]], DecodeError> {
        if !self.has(key)? {
            return Ok(&[]);
        }
        let at = self.position();
        let bytes = self.reader.bytes()?;
        let (pieces, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(DecodeError::WrongLength {
                got: bytes.len(),
                needed: N,
                at,
            });
        }
        if pieces.len() > limit {
            return Err(DecodeError::TooMany {
                got: pieces.len() as u64,
                limit: limit as u64,
                at,
            });
        }
        Ok(pieces)
    }

    pub(super) fn nested<T>(
        &mut self,
        key: u64,
        read: impl FnOnce(&mut Fields<'_, 'b>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        self.need(key)?;
        self.reader.map(read)
    }

    pub(super) fn encoded<T: Encoded>(&mut self, domain: &Domain, key: u64) -> Result<T, DecodeError> {
        self.need(key)?;
        self.reader.map(|fields| T::read(domain, fields))
    }

    pub(super) fn optional_encoded<T: Encoded>(
        &mut self,
        domain: &Domain,
        key: u64,
    ) -> Result<Option<T>, DecodeError> {
        if self.has(key)? {
            self.reader.map(|fields| T::read(domain, fields)).map(Some)
        } else {
            Ok(None)
        }
    }

    pub(super) fn list<T>(
        &mut self,
        key: u64,
        limit: usize,
        mut read: impl FnMut(usize, &mut Fields<'_, 'b>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.need(key)?;
        let at = self.position();
        let got = self.reader.decoder.array();
        let got = self.reader.must(got)?.ok_or(DecodeError::Malformed { at })?;
        let limit = limit as u64;
        if got > limit {
            return Err(DecodeError::TooMany { got, limit, at });
        }
        // Not with what is announced: a vector grows with what is there.
        let mut items = Vec::new();
        for number in 0..got {
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            items.push(self.reader.map(|fields| read(number, fields))?);
        }
        Ok(items)
    }

    fn fixed_value<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let at = self.position();
        let bytes = self.reader.bytes()?;
        bytes.try_into().map_err(|_| DecodeError::WrongLength {
            got: bytes.len(),
            needed: N,
            at,
        })
    }

    fn end(&mut self) -> Result<(), DecodeError> {
        if self.next.is_none() && self.left > 0 {
            self.left -= 1;
            self.next = Some(self.reader.uint()?);
        }
        match self.next {
            None => Ok(()),
            Some(got) => Err(DecodeError::UnknownKey {
                got,
                at: self.position(),
            }),
        }
    }
}
