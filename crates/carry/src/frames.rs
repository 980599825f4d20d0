//! BC-UR: a message as texts, each for one QR code. One static text where the code stays within the largest version that is
//! wished for, else a fountain: parts without end, any few more than the message has fragments bring it.
//!
//! Upper case, since QR's alphanumeric mode packs that and lower case would cost half as much again.

use std::mem;

use ur::fountain::{Decoder, Part};

use crate::qr::{Level, capacity};
use crate::{CarryError, MAX_MESSAGE, Message, MessageId, MessageType, Progress, QrVersion, Result};

/// How fast animated codes are shown: what a phone's camera reads with ease, and half of what it takes.
pub const FRAMES_PER_SECOND: u16 = 10;

/// The most parts that a message may be cut into.
pub const MAX_PARTS: usize = 1024;

/// Bytes that a receiver keeps at most of parts that are not a message yet. The longest message in 900 parts, half of them lost, stays below.
pub const MAX_BUFFER: usize = 8 << 20;

/// A fountain begins anew after so many frames, which keeps their length fixed: four digits, a CBOR integer of three bytes.
const LAST_SEQUENCE: usize = 9_999;

/// `array(5), sequence, parts, length, checksum, bytes(…)`, at their longest, and the CRC-32 of the letters.
const PART_OVERHEAD: usize = 1 + 3 + 3 + 5 + 5 + 3 + 4;

/// A static frame of the longest message, and then some.
const MAX_FRAME: usize = 2 * (MAX_MESSAGE + 4) + 64;

/// The frames of a message, in upper case. A static message is one frame; an animated one has no end.
pub struct Sender {
    message: Message,
    largest: QrVersion,
    frames: Frames,
}

enum Frames {
    Static(Option<String>),
    Animated {
        fragment: usize,
        encoder: ur::Encoder<'static>,
    },
}

impl Sender {
    /// Frames for codes up to version 20, which phones read from each other.
    ///
    /// # Errors
    /// None, for messages that can be: version 20 has room for each.
    pub fn new(message: Message) -> Result<Self> {
        Self::within(message, QrVersion::MAX)
    }

    /// Frames for codes up to version `largest`: smaller ones for small terminals and bad cameras.
    ///
    /// # Errors
    /// [`CarryError::TooManyParts`], for a long message and a small version.
    pub fn within(message: Message, largest: QrVersion) -> Result<Self> {
        let room = capacity(largest, Level::Low)?;
        let text = to_ur(&message);
        if text.len() <= room {
            return Ok(Self {
                message,
                largest,
                frames: Frames::Static(Some(text)),
            });
        }

        let scheme = "UR:".len() + message.kind().ur_type().len() + "/9999-9999/".len();
        // Version 5 holds 154 characters, more than twice the overhead.
        let fragment = (room.saturating_sub(scheme) / 2)
            .saturating_sub(PART_OVERHEAD)
            .max(1);
        let parts = message.body().len().div_ceil(fragment);
        if parts > MAX_PARTS {
            return Err(CarryError::TooManyParts {
                got: parts,
                max: MAX_PARTS,
            });
        }
        let encoder = fountain(&message, fragment)?;
        Ok(Self {
            message,
            largest,
            frames: Frames::Animated { fragment, encoder },
        })
    }

    /// Whether the frames have no end.
    pub fn is_animated(&self) -> bool {
        matches!(self.frames, Frames::Animated { .. })
    }

    /// The parts that the message is cut into: a receiver that misses nothing needs so many frames.
    pub fn parts(&self) -> usize {
        match &self.frames {
            Frames::Static(_) => 1,
            Frames::Animated { encoder, .. } => encoder.fragment_count(),
        }
    }

    /// The largest version that its codes have.
    pub fn largest(&self) -> QrVersion {
        self.largest
    }
}

impl Iterator for Sender {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        match &mut self.frames {
            Frames::Static(text) => text.take(),
            Frames::Animated { fragment, encoder } => {
                if encoder.current_index() >= LAST_SEQUENCE {
                    *encoder = fountain(&self.message, *fragment).ok()?;
                }
                // Serialising five values into memory does not fail.
                encoder.next_part().ok().map(|part| part.to_ascii_uppercase())
            }
        }
    }
}

/// The message as one UR, in upper case, of whatever length.
pub(crate) fn to_ur(message: &Message) -> String {
    let letters = ur::bytewords::encode(message.body(), ur::bytewords::Style::Minimal);
    format!("ur:{}/{letters}", message.kind()).to_ascii_uppercase()
}

fn fountain(message: &Message, fragment: usize) -> Result<ur::Encoder<'static>> {
    ur::Encoder::new(message.body(), fragment, message.kind().ur_type())
        .map_err(|error| CarryError::malformed("a fragment's length", error, "1 or more"))
}

/// Takes frames in any order until the message is complete. The first good frame decides which message that is.
///
/// A frame that is refused changes nothing, unless its error [begins anew](CarryError::begins_anew).
#[derive(Default)]
pub struct Receiver {
    expected: Option<MessageType>,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Waiting,
    Collecting(Box<Collecting>),
    Complete {
        message: Message,
        parts: usize,
    },
}

struct Collecting {
    id: MessageId,
    parts: usize,
    fragment: usize,
    /// Bytes kept, about.
    buffered: usize,
    fountain: Decoder,
}

impl Receiver {
    /// Takes a message of any type.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes messages of one type and refuses all others.
    pub fn expecting(kind: MessageType) -> Self {
        Self {
            expected: Some(kind),
            state: State::Waiting,
        }
    }

    /// Takes one frame, in upper or lower case.
    ///
    /// # Errors
    /// What is wrong with it. Nothing has changed then, unless the error [begins anew](CarryError::begins_anew).
    pub fn receive(&mut self, frame: &str) -> Result<Progress> {
        let frame = Frame::parse(frame, self.expected)?;
        match frame.part {
            None => self.receive_static(frame.kind, frame.bytes)?,
            Some((sequence, parts)) => {
                let part = FountainPart::parse(frame.kind, &frame.bytes, sequence, parts)?;
                self.receive_part(part)?;
            }
        }
        Ok(self.progress())
    }

    /// How much is there.
    pub fn progress(&self) -> Progress {
        match &self.state {
            State::Waiting => Progress::default(),
            State::Collecting(collecting) => Progress {
                have: collecting.fountain.resolved_fragment_count().unwrap_or(0),
                parts: collecting.parts,
            },
            State::Complete { parts, .. } => Progress {
                have: *parts,
                parts: *parts,
            },
        }
    }

    /// The message that is being received, or is complete.
    pub fn receiving(&self) -> Option<MessageId> {
        match &self.state {
            State::Waiting => None,
            State::Collecting(collecting) => Some(collecting.id),
            State::Complete { message, .. } => Some(message.id()),
        }
    }

    /// The message, once it is complete.
    pub fn message(&self) -> Option<&Message> {
        match &self.state {
            State::Complete { message, .. } => Some(message),
            _ => None,
        }
    }

    /// The message, once it is complete; the receiver waits for another then.
    pub fn take(&mut self) -> Option<Message> {
        match mem::take(&mut self.state) {
            State::Complete { message, .. } => Some(message),
            state => {
                self.state = state;
                None
            }
        }
    }

    /// Forgets what it has: the first frame was of the wrong message.
    pub fn reset(&mut self) {
        self.state = State::Waiting;
    }

    fn receive_static(&mut self, kind: MessageType, bytes: Vec<u8>) -> Result<()> {
        let message = Message::new(kind, bytes)?;
        self.is_of(message.id())?;
        if self.message().is_none() {
            self.state = State::Complete { message, parts: 1 };
        }
        Ok(())
    }

    fn receive_part(&mut self, part: FountainPart) -> Result<()> {
        self.is_of(part.id)?;
        match &mut self.state {
            State::Complete { .. } => Ok(()),
            State::Waiting => {
                let mut collecting = Collecting {
                    id: part.id,
                    parts: part.parts,
                    fragment: part.fragment,
                    buffered: 0,
                    fountain: Decoder::default(),
                };
                collecting.add(part)?;
                self.state = State::Collecting(Box::new(collecting));
                self.finish()
            }
            State::Collecting(collecting) => {
                collecting.add(part)?;
                self.finish()
            }
        }
    }

    fn is_of(&self, got: MessageId) -> Result<()> {
        match self.receiving() {
            Some(expected) if expected != got => Err(CarryError::OtherMessage { got, expected }),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<()> {
        let State::Collecting(collecting) = &self.state else {
            return Ok(());
        };
        if !collecting.fountain.complete() {
            return Ok(());
        }
        let (id, parts) = (collecting.id, collecting.parts);
        let body = collecting.fountain.message();
        self.state = State::Waiting;
        let body = body.ok().flatten().ok_or(CarryError::Spoiled(id))?;
        let message = id.complete(body)?;
        self.state = State::Complete { message, parts };
        Ok(())
    }
}

impl Collecting {
    fn add(&mut self, part: FountainPart) -> Result<()> {
        if part.parts != self.parts {
            return Err(CarryError::OtherParts {
                got: part.parts,
                expected: self.parts,
            });
        }
        if part.fragment != self.fragment {
            return Err(CarryError::malformed(
                "a fragment's length",
                part.fragment,
                self.fragment,
            ));
        }
        // The decoder keeps a part's indexes twice, and its data up to twice.
        let cost = 2 * (part.fragment + size_of::<usize>() * part.part.indexes().len()) + 128;
        if self.buffered + cost > MAX_BUFFER {
            return Err(CarryError::BufferFull {
                got: self.buffered + cost,
                max: MAX_BUFFER,
            });
        }
        match self.fountain.receive(part.part) {
            Ok(true) => self.buffered += cost,
            Ok(false) => {}
            Err(error) => return Err(CarryError::malformed("a part", error, "one of this message")),
        }
        Ok(())
    }
}

/// A text, taken apart and its letters decoded.
struct Frame {
    kind: MessageType,
    /// Sequence and parts, of an animated one.
    part: Option<(u32, u32)>,
    bytes: Vec<u8>,
}

impl Frame {
    fn parse(text: &str, expected: Option<MessageType>) -> Result<Self> {
        let text = text.trim();
        if text.len() > MAX_FRAME {
            return Err(CarryError::FrameTooLong {
                got: text.len(),
                max: MAX_FRAME,
            });
        }
        let text = text.to_ascii_lowercase();
        let not_ur = || CarryError::NotUr(text.chars().take(20).collect());
        let (kind, rest) = text
            .strip_prefix("ur:")
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(not_ur)?;
        let kind = MessageType::from_ur_type(kind)?;
        kind.check(expected)?;

        let (part, letters) = match rest.split_once('/') {
            None => (None, rest),
            Some((part, letters)) => (Some(numbers(part)?), letters),
        };
        let bytes =
            ur::bytewords::decode(letters, ur::bytewords::Style::Minimal).map_err(CarryError::Damaged)?;
        Ok(Self { kind, part, bytes })
    }
}

fn numbers(text: &str) -> Result<(u32, u32)> {
    text.split_once('-')
        .and_then(|(sequence, parts)| Some((sequence.parse().ok()?, parts.parse().ok()?)))
        .ok_or_else(|| {
            let got: String = text.chars().take(40).collect();
            CarryError::malformed("a part's number", got, "sequence-parts")
        })
}

/// A part whose numbers fit each other, the text around it and the limits. The decoder of `ur` checks none of that, and
/// makes room for as many parts as it is told.
struct FountainPart {
    id: MessageId,
    parts: usize,
    fragment: usize,
    part: Part,
}

impl FountainPart {
    fn parse(kind: MessageType, cbor: &[u8], sequence: u32, parts: u32) -> Result<Self> {
        let not_cbor = |error| CarryError::malformed("a part", error, "CBOR of five values");
        let (fields, end) = fields(cbor).map_err(not_cbor)?;
        if end != cbor.len() {
            return Err(CarryError::malformed("a part's length", cbor.len(), end));
        }
        if (fields.sequence, fields.parts) != (sequence, parts) {
            return Err(CarryError::malformed(
                "a part's number",
                format!("{}-{}", fields.sequence, fields.parts),
                format!("{sequence}-{parts}"),
            ));
        }
        if sequence == 0 {
            return Err(CarryError::malformed("a part's number", 0, "1 or more"));
        }
        let id = MessageId::checked(kind, fields.length, fields.checksum)?;
        let (parts, length, fragment) = (parts as usize, fields.length as usize, fields.fragment);
        if parts > MAX_PARTS {
            return Err(CarryError::TooManyParts {
                got: parts,
                max: MAX_PARTS,
            });
        }
        if fragment == 0 || length.div_ceil(fragment) != parts {
            return Err(CarryError::malformed(
                "a message's length",
                length,
                format!("{parts} parts of {fragment} bytes"),
            ));
        }
        let part = minicbor::decode(cbor).map_err(not_cbor)?;
        Ok(Self {
            id,
            parts,
            fragment,
            part,
        })
    }
}

struct Fields {
    sequence: u32,
    parts: u32,
    length: u32,
    checksum: u32,
    fragment: usize,
}

fn fields(cbor: &[u8]) -> Result<(Fields, usize), minicbor::decode::Error> {
    let mut decoder = minicbor::Decoder::new(cbor);
    if decoder.array()? != Some(5) {
        return Err(minicbor::decode::Error::message("not an array of five"));
    }
    let fields = Fields {
        sequence: decoder.u32()?,
        parts: decoder.u32()?,
        length: decoder.u32()?,
        checksum: decoder.u32()?,
        fragment: decoder.bytes()?.len(),
    };
    Ok((fields, decoder.position()))
}
