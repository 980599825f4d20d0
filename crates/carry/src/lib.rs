//! How the messages of the offline scheme travel between two devices that have no network: as QR codes, as chunks that fit an
//! NFC frame, or as a file. A message is opaque bytes here (one CBOR item, by the scheme's encoding) with a [`MessageType`].
//!
//! | carrier | sends | receives | shape |
//! |---|---|---|---|
//! | QR | [`Sender`], [`Qr`] | [`codes_in_png`], [`Receiver`] | BC-UR in upper case; one static code where it fits, else an endless fountain |
//! | NFC | [`chunks`] | [`Assembler`] | at most [`CHUNK_LENGTH`] bytes each, in any order |
//! | file, stdin | [`file::to_bytes`], [`file::to_text`] | [`file::read`] | raw bytes, UR text or a PNG: reading tells which |
//!
//! What receives never trusts what it reads:
//!
//! ```text
//!              frame                       frame                    last part
//!   waiting ───────────▶ collecting ───────────────▶ collecting ───────────────▶ complete
//!                            │  wrong, damaged, of another message: refused, nothing changes
//!                            └─ parts complete and their checksum wrong: Spoiled, back to waiting
//! ```
//!
//! The limits are [`MAX_MESSAGE`], [`MAX_PARTS`], [`MAX_BUFFER`], [`MAX_PIXELS`] and [`MAX_ANIMATION_PIXELS`]. A checksum here finds accidents; who made a
//! message, and whether it is good, is for its signatures to say.
//!
//! There is no camera reader: `codes_in_png` reads its pictures when something else takes them.

mod chunk;
mod error;
pub mod file;
mod frames;
mod message;
mod picture;
mod qr;

pub use chunk::{Assembler, CHUNK_BODY, CHUNK_LENGTH, chunks};
pub use error::CarryError;
pub use frames::{FRAMES_PER_SECOND, MAX_BUFFER, MAX_PARTS, Receiver, Sender};
pub use message::{MAX_MESSAGE, Message, MessageId, MessageType, Progress};
pub use picture::{MAX_ANIMATION_PIXELS, MAX_PICTURES, MAX_PIXELS, codes_in_png, each_code_in_png};
pub use qr::{Background, Qr, QrVersion, Scale, animated_png, write_folder};

/// What can go wrong, or a value.
pub type Result<T, E = CarryError> = std::result::Result<T, E>;
