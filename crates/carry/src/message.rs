//! A message as every carrier sees it: a type and bytes, and the id by which parts of one message know each other.

use std::fmt;

use crate::{CarryError, Result};

/// The longest message, in bytes. A thousand entries of a log, at 64 bytes each, are about that.
pub const MAX_MESSAGE: usize = 1 << 16;

/// What a message is. Carriers name it, so that a device that waits for a payment does not take an invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// What the payee asks for.
    Invoice,
    /// The payer's transfer, with its path.
    Payment,
    /// The payee took the payment.
    Acceptance,
    /// The payee did not, and says so with its signature.
    Rejection,
}

impl MessageType {
    /// Every type, in the order of their codes.
    pub const ALL: [Self; 4] = [Self::Invoice, Self::Payment, Self::Acceptance, Self::Rejection];

    /// The type's name in a UR, in lower case.
    pub const fn ur_type(self) -> &'static str {
        match self {
            Self::Invoice => "micropay-invoice",
            Self::Payment => "micropay-payment",
            Self::Acceptance => "micropay-acceptance",
            Self::Rejection => "micropay-rejection",
        }
    }

    /// The type's byte in chunks and raw files.
    pub const fn code(self) -> u8 {
        match self {
            Self::Invoice => 1,
            Self::Payment => 2,
            Self::Acceptance => 3,
            Self::Rejection => 4,
        }
    }

    pub(crate) fn from_ur_type(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.ur_type() == name)
            .ok_or_else(|| CarryError::UnknownType(name.chars().take(40).collect()))
    }

    pub(crate) fn from_code(code: u8) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.code() == code)
            .ok_or(CarryError::UnknownCode(code))
    }

    pub(crate) fn check(self, expected: Option<Self>) -> Result<()> {
        match expected {
            Some(expected) if expected != self => Err(CarryError::WrongType { got: self, expected }),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.ur_type())
    }
}

/// By what the parts of one message are told from those of another: type, length and CRC-32 (ISO-HDLC, as in BC-UR).
/// Good against accidents, no proof of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// The message's type.
    pub kind: MessageType,
    /// Its length in bytes.
    pub length: u32,
    /// The CRC-32 of its bytes.
    pub checksum: u32,
}

impl MessageId {
    /// Refuses a length that no message has. `length` comes from outside.
    pub(crate) fn checked(kind: MessageType, length: u32, checksum: u32) -> Result<Self> {
        check_length(length as usize)?;
        Ok(Self {
            kind,
            length,
            checksum,
        })
    }

    /// The message of this id, when `body` has its length and checksum.
    pub(crate) fn complete(self, body: Vec<u8>) -> Result<Message> {
        let message = Message::new(self.kind, body)?;
        if message.id() != self {
            return Err(CarryError::Spoiled(self));
        }
        Ok(message)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} bytes ({:08x})",
            self.kind, self.length, self.checksum
        )
    }
}

/// A message: 1 to [`MAX_MESSAGE`] bytes and their type.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    kind: MessageType,
    body: Vec<u8>,
}

impl Message {
    /// # Errors
    /// No bytes, or more than [`MAX_MESSAGE`].
    pub fn new(kind: MessageType, body: Vec<u8>) -> Result<Self> {
        check_length(body.len())?;
        Ok(Self { kind, body })
    }

    /// Its type.
    pub fn kind(&self) -> MessageType {
        self.kind
    }

    /// Its bytes.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Its bytes, to keep.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// Its id.
    pub fn id(&self) -> MessageId {
        MessageId {
            kind: self.kind,
            // At most MAX_MESSAGE.
            length: self.body.len() as u32,
            checksum: crc32fast::hash(&self.body),
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({})", self.id())
    }
}

/// How much of a message is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Parts that are known.
    pub have: usize,
    /// Parts that the message has; 0 while nothing was received.
    pub parts: usize,
}

impl Progress {
    /// Whether the message is there.
    pub fn is_complete(self) -> bool {
        self.parts > 0 && self.have == self.parts
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.have, self.parts)
    }
}

fn check_length(length: usize) -> Result<()> {
    match length {
        0 => Err(CarryError::Empty),
        1..=MAX_MESSAGE => Ok(()),
        got => Err(CarryError::TooLong {
            got,
            max: MAX_MESSAGE,
        }),
    }
}
