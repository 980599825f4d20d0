//! TPM structures as bytes: big-endian integers and byte strings with a 16-bit length (`TPM2B`). Commands are built from these
//! two, because Names and command hashes are over the same bytes.

use crate::{Result, TrustedError};

#[derive(Clone, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A `TPM2B`. Nothing here comes near 64 KiB: the length saturates, and the TPM refuses it.
    pub(super) fn sized(self, bytes: &[u8]) -> Self {
        self.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX))
            .raw(bytes)
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }
}

pub(super) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| TrustedError::Malformed {
                what: self.what,
                got: format!("{} bytes", self.rest.len()),
                expected: format!("{count} bytes more"),
            })?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn sized(&mut self) -> Result<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A 32-byte integer from a `TPM2B`: some TPMs leave out leading zeros.
    pub(super) fn scalar(&mut self) -> Result<[u8; 32]> {
        let bytes = self.sized()?;
        let start = 32usize
            .checked_sub(bytes.len())
            .ok_or_else(|| TrustedError::Malformed {
                what: self.what,
                got: format!("an integer of {} bytes", bytes.len()),
                expected: "at most 32 bytes".to_owned(),
            })?;
        let mut scalar = [0; 32];
        scalar[start..].copy_from_slice(bytes);
        Ok(scalar)
    }

    pub(super) fn expect(&mut self, expected: u16) -> Result<()> {
        let got = self.u16()?;
        if got == expected {
            return Ok(());
        }
        Err(TrustedError::Malformed {
            what: self.what,
            got: format!("{got:#06x}"),
            expected: format!("{expected:#06x}"),
        })
    }

    pub(super) fn end(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(TrustedError::Malformed {
            what: self.what,
            got: format!("{} bytes more", self.rest.len()),
            expected: "the end".to_owned(),
        })
    }
}
