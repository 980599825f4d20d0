//! Chunks that fit an NFC frame: at most 240 bytes each, in any order, each with its own checksum.
//!
//! ```text
//!   version 1 │ type 1 │ index 2 │ count 2 │ length 4 │ message CRC-32 4 │ chunk CRC-32 4 │ ≤ 222 bytes of the message
//! ```
//!
//! Numbers are big-endian. All chunks but the last are full, so `count` and each chunk's length follow from `length`; a chunk
//! that says otherwise is refused. The chunk's CRC-32 is that of everything else in it.

use crate::{CarryError, Message, MessageId, MessageType, Progress, Result};

/// The longest chunk, in bytes.
pub const CHUNK_LENGTH: usize = 240;

/// The bytes of the message in a full chunk.
pub const CHUNK_BODY: usize = CHUNK_LENGTH - HEADER;

const HEADER: usize = 18;
const VERSION: u8 = 1;
/// Where the chunk's own checksum stands.
const CHECKSUM: std::ops::Range<usize> = 14..18;

/// The message in chunks, in order.
pub fn chunks(message: &Message) -> impl ExactSizeIterator<Item = Vec<u8>> + '_ {
    let id = message.id();
    // At most MAX_MESSAGE / CHUNK_BODY, which is below 300.
    let count = message.body().len().div_ceil(CHUNK_BODY) as u16;
    message
        .body()
        .chunks(CHUNK_BODY)
        .enumerate()
        .map(move |(index, body)| {
            let mut chunk = Vec::with_capacity(HEADER + body.len());
            chunk.extend([VERSION, id.kind.code()]);
            chunk.extend((index as u16).to_be_bytes());
            chunk.extend(count.to_be_bytes());
            chunk.extend(id.length.to_be_bytes());
            chunk.extend(id.checksum.to_be_bytes());
            chunk.extend([0; 4]);
            chunk.extend(body);
            let checksum = checksum(&chunk);
            chunk[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
            chunk
        })
}

fn checksum(chunk: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&chunk[..CHECKSUM.start]);
    hasher.update(&chunk[CHECKSUM.end..]);
    hasher.finalize()
}

struct Chunk<'a> {
    id: MessageId,
    index: usize,
    count: usize,
    body: &'a [u8],
}

impl<'a> Chunk<'a> {
    fn parse(chunk: &'a [u8]) -> Result<Self> {
        if chunk.len() <= HEADER || chunk.len() > CHUNK_LENGTH {
            return Err(CarryError::malformed(
                "a chunk's length",
                chunk.len(),
                format!("{} to {CHUNK_LENGTH}", HEADER + 1),
            ));
        }
        let u16_at = |at: usize| u16::from_be_bytes([chunk[at], chunk[at + 1]]);
        let u32_at = |at: usize| u32::from_be_bytes([chunk[at], chunk[at + 1], chunk[at + 2], chunk[at + 3]]);
        if chunk[0] != VERSION {
            return Err(CarryError::UnknownVersion {
                got: chunk[0],
                expected: VERSION,
            });
        }
        let (got, expected) = (checksum(chunk), u32_at(CHECKSUM.start));
        if got != expected {
            return Err(CarryError::Checksum { got, expected });
        }
        let kind = MessageType::from_code(chunk[1])?;
        let id = MessageId::checked(kind, u32_at(6), u32_at(10))?;

        let (index, count, length) = (usize::from(u16_at(2)), usize::from(u16_at(4)), id.length as usize);
        let right = length.div_ceil(CHUNK_BODY);
        if count != right {
            return Err(CarryError::malformed("the count of chunks", count, right));
        }
        if index >= count {
            return Err(CarryError::malformed(
                "a chunk's index",
                index,
                format!("less than {count}"),
            ));
        }
        let body = &chunk[HEADER..];
        let right = CHUNK_BODY.min(length - index * CHUNK_BODY);
        if body.len() != right {
            return Err(CarryError::malformed("a chunk's body", body.len(), right));
        }
        Ok(Self {
            id,
            index,
            count,
            body,
        })
    }
}

/// Puts chunks together, in any order. The first good chunk decides which message they are of.
///
/// A chunk that is refused changes nothing, unless its error [begins anew](CarryError::begins_anew).
#[derive(Default)]
pub struct Assembler {
    expected: Option<MessageType>,
    collecting: Option<Collecting>,
    message: Option<Message>,
}

struct Collecting {
    id: MessageId,
    body: Vec<u8>,
    known: Vec<bool>,
}

impl Assembler {
    /// Takes a message of any type.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes messages of one type and refuses all others.
    pub fn expecting(kind: MessageType) -> Self {
        Self {
            expected: Some(kind),
            ..Self::default()
        }
    }

    /// Takes one chunk.
    ///
    /// # Errors
    /// What is wrong with it. Nothing has changed then, unless the error [begins anew](CarryError::begins_anew).
    pub fn receive(&mut self, chunk: &[u8]) -> Result<Progress> {
        let chunk = Chunk::parse(chunk)?;
        chunk.id.kind.check(self.expected)?;
        let collecting = self.collecting.get_or_insert_with(|| Collecting {
            id: chunk.id,
            // At most MAX_MESSAGE.
            body: vec![0; chunk.id.length as usize],
            known: vec![false; chunk.count],
        });
        if collecting.id != chunk.id {
            return Err(CarryError::OtherMessage {
                got: chunk.id,
                expected: collecting.id,
            });
        }
        if !collecting.known[chunk.index] {
            let start = chunk.index * CHUNK_BODY;
            collecting.body[start..start + chunk.body.len()].copy_from_slice(chunk.body);
            collecting.known[chunk.index] = true;
            self.finish()?;
        }
        Ok(self.progress())
    }

    /// How much is there.
    pub fn progress(&self) -> Progress {
        self.collecting
            .as_ref()
            .map_or_else(Progress::default, |collecting| Progress {
                have: collecting.known.iter().filter(|known| **known).count(),
                parts: collecting.known.len(),
            })
    }

    /// The message, once it is complete.
    pub fn message(&self) -> Option<&Message> {
        self.message.as_ref()
    }

    /// The message, once it is complete; the assembler waits for another then.
    pub fn take(&mut self) -> Option<Message> {
        let message = self.message.take()?;
        self.reset();
        Some(message)
    }

    /// Forgets what it has.
    pub fn reset(&mut self) {
        self.collecting = None;
        self.message = None;
    }

    fn finish(&mut self) -> Result<()> {
        let Some(collecting) = &self.collecting else {
            return Ok(());
        };
        if collecting.known.iter().all(|known| *known) {
            match collecting.id.complete(collecting.body.clone()) {
                Ok(message) => self.message = Some(message),
                Err(spoiled) => {
                    self.reset();
                    return Err(spoiled);
                }
            }
        }
        Ok(())
    }
}
