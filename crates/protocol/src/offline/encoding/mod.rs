//! One encoding for everything that travels or is saved: CBOR (RFC 8949), maps with integer keys in ascending order, the
//! shortest form of everything. What the reader can rebuild is left out: ids and digests, an input, the change, a payee who
//! spends on, a predecessor that the log or the registration names.
//!
//! Decoding is for hostile input: every length is checked against its limit before anything is allocated, and what was
//! decoded is encoded again and must give the same bytes, so that a message has one form. Decoding proves nothing; what
//! was decoded is then judged.
//!
//! * `cbor.rs`: maps, numbers and bytes, strictly
//! * `messages.rs`: what two wallets and a registrar say
//! * `paths.rs`: paths, and what is left out of them
//! * `states.rs`: what a wallet saves

mod cbor;
mod messages;
mod paths;
mod states;

pub use paths::{MAX_HISTORY, MAX_PATH_BYTES};

use super::{DecodeError, Domain};
use cbor::{Fields, MapWriter, Reader};

/// Something that is encoded: as a map on its own, or inside another one.
trait Encoded: Sized {
    /// Writes the fields, keys in ascending order, from 1.
    fn write(&self, domain: &Domain, map: &mut MapWriter);

    /// Reads the fields in the same order.
    fn read(domain: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError>;
}

/// Something with a number of its own, at key 0.
trait Message: Encoded {
    /// Which message, in this version.
    const NUMBER: u64;
    /// Most bytes that any such message has.
    const MAX_BYTES: usize;
}

fn encode<M: Message>(domain: &Domain, message: &M) -> Vec<u8> {
    let mut map = MapWriter::default();
    map.uint(0, M::NUMBER);
    message.write(domain, &mut map);
    map.finish()
}

fn decode<M: Message>(domain: &Domain, bytes: &[u8]) -> Result<M, DecodeError> {
    if bytes.len() > M::MAX_BYTES {
        return Err(DecodeError::TooLong {
            got: bytes.len(),
            limit: M::MAX_BYTES,
        });
    }
    let mut reader = Reader::new(bytes);
    let message = reader.map(|fields| {
        let got = fields.uint(0)?;
        if got != M::NUMBER {
            return Err(DecodeError::WrongMessage {
                got,
                needed: M::NUMBER,
            });
        }
        M::read(domain, fields)
    })?;
    let end = reader.position();
    if end != bytes.len() {
        return Err(DecodeError::TrailingBytes {
            got: bytes.len(),
            needed: end,
        });
    }
    let again = encode(domain, &message);
    if again != bytes {
        let same = again.iter().zip(bytes).take_while(|(one, other)| one == other);
        return Err(DecodeError::Malformed { at: same.count() });
    }
    Ok(message)
}

/// `encode` and `decode` of a message.
macro_rules! message {
    ($type:ty, $number:expr, $limit:expr) => {
        impl $crate::offline::encoding::Message for $type {
            const NUMBER: u64 = $number;
            const MAX_BYTES: usize = $limit;
        }

        impl $type {
            /// As it travels, or is saved.
            pub fn encode(&self, domain: &$crate::offline::Domain) -> Vec<u8> {
                $crate::offline::encoding::encode(domain, self)
            }

            /// Decodes it, strictly. Proves nothing.
            pub fn decode(
                domain: &$crate::offline::Domain,
                bytes: &[u8],
            ) -> Result<Self, $crate::offline::DecodeError> {
                $crate::offline::encoding::decode(domain, bytes)
            }
        }
    };
}
use message;
