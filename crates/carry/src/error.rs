//! Everything that can go wrong on the way between two devices, with the values compared.

use std::io;
use std::path::PathBuf;

use crate::{MessageId, MessageType, Progress};

/// A frame, chunk, picture or file that is refused, or a message that cannot be carried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CarryError {
    /// A message without bytes.
    #[error("a message has at least one byte")]
    Empty,
    /// A message, or what says it is one, that is too long.
    #[error("{got} bytes are more than the {max} that a message may have")]
    TooLong {
        /// Its bytes.
        got: usize,
        /// [`crate::MAX_MESSAGE`].
        max: usize,
    },
    /// More parts than a receiver takes.
    #[error("{got} parts are more than {max}: use a larger QR version")]
    TooManyParts {
        /// The message's parts.
        got: usize,
        /// [`crate::MAX_PARTS`].
        max: usize,
    },
    /// A text that is longer than any frame.
    #[error("a frame of {got} characters, at most {max} are read")]
    FrameTooLong {
        /// Its characters.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// A text that is no UR: some other code, or an address.
    #[error("this is no UR: it begins with {0:?}")]
    NotUr(String),
    /// A UR of somebody else.
    #[error("{0:?} is no message of ours")]
    UnknownType(String),
    /// A type that is not known, in a chunk or file.
    #[error("no message type has the code {0}")]
    UnknownCode(u8),
    /// A chunk or file of another version of this format.
    #[error("format version {got}, this reads {expected}")]
    UnknownVersion {
        /// Its version.
        got: u8,
        /// Ours.
        expected: u8,
    },
    /// A good message, and another than is waited for.
    #[error("got a {got}, waiting for a {expected}")]
    WrongType {
        /// The frame's type.
        got: MessageType,
        /// The type waited for.
        expected: MessageType,
    },
    /// The letters of a UR's body are damaged.
    #[error("a damaged frame")]
    Damaged(#[source] ur::bytewords::Error),
    /// The checksum of a chunk or file is wrong.
    #[error("damaged: the checksum is {got:08x}, it says {expected:08x}")]
    Checksum {
        /// Of the bytes received.
        got: u32,
        /// That they say they have.
        expected: u32,
    },
    /// A frame, chunk or file whose numbers contradict each other or its length.
    #[error("{what} is {got}, expected {expected}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What it is.
        got: String,
        /// What it should be.
        expected: String,
    },
    /// A part of another message, while one is being received: two senders are in view. `reset` begins anew.
    #[error("a part of {got}, while receiving {expected}")]
    OtherMessage {
        /// The part's message.
        got: MessageId,
        /// The message being received.
        expected: MessageId,
    },
    /// The right message, cut into other parts: its sender began again. `reset` begins anew.
    #[error("the message is in {got} parts, it was in {expected}")]
    OtherParts {
        /// The part's count.
        got: usize,
        /// The count so far.
        expected: usize,
    },
    /// The parts are complete and are not the message that each said it belongs to: one was forged, and nobody knows which.
    /// The receiver forgot them all.
    #[error("the parts of {0} do not make it, one is forged: receiving begins anew")]
    Spoiled(MessageId),
    /// Parts without end that bring no message: made up. `reset` begins anew.
    #[error("parts of {got} bytes are kept, at most {max}")]
    BufferFull {
        /// Bytes with this part.
        got: usize,
        /// [`crate::MAX_BUFFER`].
        max: usize,
    },
    /// Text or pictures that end before the message does.
    #[error("{0} parts: the message is not complete")]
    Incomplete(Progress),
    /// A QR version outside of what we use.
    #[error("QR version {got}, expected {min} to {max}")]
    QrVersion {
        /// The version asked for.
        got: u8,
        /// The least.
        min: u8,
        /// The largest.
        max: u8,
    },
    /// A scale that makes no picture.
    #[error("{got} pixels a module, expected 1 to {max}")]
    Scale {
        /// The scale asked for.
        got: u8,
        /// The largest.
        max: u8,
    },
    /// A text that is no frame of a QR code: too long for the version, or with other than upper-case letters, digits and `:/-`.
    #[error("{got} characters do not fit a QR code of version {version}, which holds {max}")]
    DoesNotFit {
        /// Its characters.
        got: usize,
        /// What the version holds.
        max: usize,
        /// The version.
        version: u8,
    },
    /// A character that QR's alphanumeric mode does not have.
    #[error("{0:?} is not in QR's alphanumeric alphabet")]
    NotAlphanumeric(char),
    /// The QR encoder failed.
    #[error("no QR code")]
    Qr(#[source] qrcode::types::QrError),
    /// No frames, so no picture.
    #[error("no frames to draw")]
    NoFrames,
    /// A PNG that cannot be written.
    #[error("cannot write the PNG")]
    PngWrite(#[source] png::EncodingError),
    /// A PNG that cannot be read.
    #[error("cannot read the PNG")]
    PngRead(#[source] png::DecodingError),
    /// A picture that is too large.
    #[error("a picture of {width} by {height} pixels, at most {max} pixels are read")]
    PictureTooLarge {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// [`crate::MAX_PIXELS`].
        max: usize,
    },
    /// An animation whose pictures are too large together, and did not make a message before.
    #[error("the animation's pictures have {pixels} pixels so far, at most {max} are read")]
    AnimationTooLarge {
        /// Pixels of the pictures up to the one that is too much.
        pixels: usize,
        /// [`crate::MAX_ANIMATION_PIXELS`].
        max: usize,
    },
    /// The search for codes in a picture broke down, or was stopped: too much in it looks like a code.
    #[error("the search for QR codes was given up in this picture")]
    SearchFailed,
    /// A picture without a QR code that can be read.
    #[error("no QR code that can be read is in the picture")]
    NoCode,
    /// A file that is too large to hold a message in any form.
    #[error("more than the {max} bytes of the largest file that is read")]
    FileTooLarge {
        /// The limit.
        max: usize,
    },
    /// A file or stream that cannot be read.
    #[error("cannot read the message")]
    Read(#[source] io::Error),
    /// A file that cannot be written.
    #[error("{path}: cannot write", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl CarryError {
    #[expect(clippy::needless_pass_by_value, reason = "numbers and texts made for it")]
    pub(crate) fn malformed(what: &'static str, got: impl ToString, expected: impl ToString) -> Self {
        Self::Malformed {
            what,
            got: got.to_string(),
            expected: expected.to_string(),
        }
    }

    /// Whether the receiver that said so forgot what it had.
    pub fn begins_anew(&self) -> bool {
        matches!(self, Self::Spoiled(_))
    }
}
