//! A message as QR in the terminal: one static code, or an animation until the message was shown three times over.
//! `cargo run -p micropay-carry --example show -- [BYTES] [VERSION]`: how long the message is, and the largest QR version.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::thread;
use std::time::Duration;

use carry::{Background, FRAMES_PER_SECOND, Message, MessageType, Qr, QrVersion, Receiver, Sender};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bytes: usize = arguments.next().map_or(Ok(491), |text| text.parse())?;
    let version = match arguments.next() {
        Some(text) => QrVersion::new(text.parse()?)?,
        None => QrVersion::MAX,
    };
    let body = (0..bytes).map(|n| (n * 31 + n / 256) as u8).collect();
    let message = Message::new(MessageType::Payment, body)?;
    println!("{message:?}");

    let sender = Sender::within(message.clone(), version)?;
    let (animated, frames) = (sender.is_animated(), 3 * sender.parts());
    let mut receiver = Receiver::expecting(MessageType::Payment);
    for frame in sender.take(frames) {
        let code = Qr::new(&frame, version)?;
        if animated {
            // From the top left again.
            print!("\x1b[H\x1b[2J");
        }
        print!("{}", code.to_terminal(Background::Dark));
        println!("version {}, {} parts", code.version(), receiver.receive(&frame)?);
        if animated {
            thread::sleep(Duration::from_secs(1) / FRAMES_PER_SECOND.into());
        }
    }
    assert_eq!(receiver.take(), Some(message));
    Ok(())
}
