//! A message as a file or over a pipe: raw bytes, or UR text that survives a chat window; reading tells which, and reads the
//! QR codes of a PNG as well.
//!
//! ```text
//!   raw:  b5 'M' 'P' 'Y' │ version 1 │ type 1 │ length 4 │ CRC-32 4 │ message
//! ```
//!
//! Numbers are big-endian. The first byte begins no UTF-8 text and no PNG.

use std::io::Read;

use crate::frames::to_ur;
use crate::{CarryError, Message, MessageId, MessageType, Receiver, Result, each_code_in_png};

/// What a raw file begins with.
pub const MAGIC: [u8; 4] = *b"\xb5MPY";

/// The largest file that is read, in bytes: a photograph, as PNG.
pub const MAX_FILE: usize = 32 << 20;

const VERSION: u8 = 1;
const HEADER: usize = MAGIC.len() + 10;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The message as raw bytes.
pub fn to_bytes(message: &Message) -> Vec<u8> {
    let id = message.id();
    let mut bytes = Vec::with_capacity(HEADER + message.body().len());
    bytes.extend(MAGIC);
    bytes.extend([VERSION, id.kind.code()]);
    bytes.extend(id.length.to_be_bytes());
    bytes.extend(id.checksum.to_be_bytes());
    bytes.extend(message.body());
    bytes
}

/// The message as one line of text, however long: a static UR.
pub fn to_text(message: &Message) -> String {
    let mut text = to_ur(message);
    text.push('\n');
    text
}

/// Reads a message in any form: raw, UR text (one static UR, or the parts of an animated one, between white space), or a PNG
/// with its QR code (an animated PNG with its parts).
///
/// # Errors
/// What is wrong with it. Codes in a picture that are not ours are passed over.
pub fn read(bytes: &[u8]) -> Result<Message> {
    if bytes.starts_with(&MAGIC) {
        return read_raw(bytes);
    }
    if bytes.starts_with(PNG) {
        return read_png(bytes);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => read_text(text),
        Err(_) => Err(CarryError::malformed(
            "the file's beginning",
            format!("{:02x?}", &bytes[..bytes.len().min(8)]),
            "raw bytes with our magic, UR text or a PNG",
        )),
    }
}

/// Reads a message from a file or stdin, to its end, as [`read`] does.
///
/// # Errors
/// As [`read`], or when the stream cannot be read or is longer than [`MAX_FILE`].
pub fn read_from(stream: impl Read) -> Result<Message> {
    let mut bytes = Vec::new();
    stream
        .take(MAX_FILE as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(CarryError::Read)?;
    if bytes.len() > MAX_FILE {
        return Err(CarryError::FileTooLarge { max: MAX_FILE });
    }
    read(&bytes)
}

fn read_raw(bytes: &[u8]) -> Result<Message> {
    let Some((header, body)) = bytes.split_at_checked(HEADER) else {
        return Err(CarryError::malformed(
            "the file's length",
            bytes.len(),
            format!("more than {HEADER}"),
        ));
    };
    let u32_at = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if header[4] != VERSION {
        return Err(CarryError::UnknownVersion {
            got: header[4],
            expected: VERSION,
        });
    }
    let id = MessageId::checked(MessageType::from_code(header[5])?, u32_at(6), u32_at(10))?;
    if body.len() != id.length as usize {
        return Err(CarryError::malformed(
            "the message's length",
            body.len(),
            id.length,
        ));
    }
    let (got, expected) = (crc32fast::hash(body), id.checksum);
    if got != expected {
        return Err(CarryError::Checksum { got, expected });
    }
    Message::new(id.kind, body.to_vec())
}

fn read_text(text: &str) -> Result<Message> {
    let mut receiver = Receiver::new();
    for frame in text.split_whitespace() {
        receiver.receive(frame)?;
    }
    let progress = receiver.progress();
    receiver.take().ok_or(CarryError::Incomplete(progress))
}

fn read_png(bytes: &[u8]) -> Result<Message> {
    let mut receiver = Receiver::new();
    let mut refused = None;
    each_code_in_png(bytes, |code| {
        match receiver.receive(&code) {
            Ok(_) => {}
            // Two of our messages in one picture are not a choice to make here; a stranger's code is passed over.
            Err(error @ (CarryError::NotUr(_) | CarryError::UnknownType(_))) => refused = Some(error),
            Err(error) => return Err(error),
        }
        Ok(receiver.message().is_none())
    })?;
    let progress = receiver.progress();
    match (receiver.take(), refused) {
        (Some(message), _) => Ok(message),
        (None, Some(error)) if progress.parts == 0 => Err(error),
        _ => Err(CarryError::Incomplete(progress)),
    }
}
