//! Chunks and files, and whatever else somebody may feed the readers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use carry::{
    Assembler, CHUNK_BODY, CHUNK_LENGTH, CarryError, MAX_MESSAGE, Message, MessageType, Progress, Receiver,
    Sender, chunks, file,
};
use proptest::prelude::*;

fn message(kind: MessageType, length: usize) -> Message {
    Message::new(kind, (0..length).map(|n| (n * 7 + n / 256) as u8).collect()).unwrap()
}

fn any_message() -> impl Strategy<Value = Message> {
    (
        prop::sample::select(MessageType::ALL.to_vec()),
        prop::collection::vec(any::<u8>(), 1..3_000),
    )
        .prop_map(|(kind, body)| Message::new(kind, body).unwrap())
}

/// A chunk of another content whose own checksum is right.
fn forge(mut chunk: Vec<u8>, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut chunk);
    let mut sum = crc32fast::Hasher::new();
    sum.update(&chunk[..14]);
    sum.update(&chunk[18..]);
    chunk[14..18].copy_from_slice(&sum.finalize().to_be_bytes());
    chunk
}

#[test]
fn a_message_has_a_length() {
    let made = |length| Message::new(MessageType::Invoice, vec![0; length]);
    assert!(matches!(made(0), Err(CarryError::Empty)));
    assert!(made(MAX_MESSAGE).is_ok());
    assert!(matches!(made(MAX_MESSAGE + 1), Err(CarryError::TooLong { .. })));
}

#[test]
fn a_payment_is_three_chunks() {
    let payment = message(MessageType::Payment, 491);
    let all: Vec<_> = chunks(&payment).collect();
    let lengths: Vec<_> = all.iter().map(Vec::len).collect();
    assert_eq!(lengths, [240, 240, 18 + 491 - 2 * CHUNK_BODY]);
    let mut assembler = Assembler::expecting(MessageType::Payment);
    for (have, chunk) in (1..).zip(all.iter().rev()) {
        let progress = assembler.receive(chunk).unwrap();
        assert_eq!(progress, Progress { have, parts: 3 });
        // Again: nothing changes.
        assert_eq!(assembler.receive(chunk).unwrap(), progress);
    }
    assert_eq!(assembler.take(), Some(payment));
    assert_eq!(assembler.progress(), Progress::default());
}

#[test]
fn wrong_chunks_change_nothing() {
    let payment = message(MessageType::Payment, 1_000);
    let good: Vec<_> = chunks(&payment).collect();
    let mut assembler = Assembler::expecting(MessageType::Payment);
    assembler.receive(&good[0]).unwrap();

    let other = message(MessageType::Payment, 999);
    let wrong: Vec<(Vec<u8>, &str)> = vec![
        (chunks(&other).next().unwrap(), "OtherMessage"),
        (
            chunks(&message(MessageType::Invoice, 1_000)).next().unwrap(),
            "WrongType",
        ),
        (forge(good[1].clone(), |c| c[0] = 2), "UnknownVersion"),
        (forge(good[1].clone(), |c| c[1] = 9), "UnknownCode"),
        (forge(good[1].clone(), |c| c[3] = 5), "Malformed"),
        (forge(good[1].clone(), |c| c[5] = 6), "Malformed"),
        (forge(good[1].clone(), |c| c[6..10].fill(0xff)), "TooLong"),
        (forge(good[1].clone(), |c| c[6..10].fill(0)), "Empty"),
        (forge(good[1].clone(), |c| c.truncate(100)), "Malformed"),
        (vec![1; CHUNK_LENGTH + 1], "Malformed"),
        (vec![1; 18], "Malformed"),
        (vec![], "Malformed"),
        (
            {
                let mut c = good[1].clone();
                c[100] ^= 1;
                c
            },
            "Checksum",
        ),
    ];
    for (chunk, name) in &wrong {
        let error = assembler.receive(chunk).expect_err(name);
        assert!(
            format!("{error:?}").starts_with(name),
            "{error:?}, expected {name}"
        );
        assert_eq!(assembler.progress(), Progress { have: 1, parts: 5 });
    }
    for chunk in &good {
        assembler.receive(chunk).unwrap();
    }
    assert_eq!(assembler.take(), Some(payment));
}

#[test]
fn attack_a_forged_chunk_spoils_one_round_only() {
    let payment = message(MessageType::Payment, 1_000);
    let good: Vec<_> = chunks(&payment).collect();
    let mut assembler = Assembler::new();
    assembler
        .receive(&forge(good[1].clone(), |c| c[100] ^= 1))
        .unwrap();
    let error = good
        .iter()
        .find_map(|chunk| assembler.receive(chunk).err())
        .unwrap();
    assert!(error.begins_anew(), "{error}");
    assert_eq!(assembler.progress(), Progress::default());
    for chunk in &good {
        assembler.receive(chunk).unwrap();
    }
    assert_eq!(assembler.message(), Some(&payment));
}

#[test]
fn a_file_is_read_in_every_form() {
    let payment = message(MessageType::Payment, 2_000);
    let raw = file::to_bytes(&payment);
    assert_eq!(file::read(&raw).unwrap(), payment);
    assert_eq!(file::read_from(raw.as_slice()).unwrap(), payment);

    let text = file::to_text(&payment);
    assert_eq!(text.lines().count(), 1);
    assert_eq!(file::read(text.as_bytes()).unwrap(), payment);
    assert_eq!(
        file::read(format!("\n  {}\r\n\n", text.to_lowercase()).as_bytes()).unwrap(),
        payment
    );

    let frames: Vec<_> = Sender::new(payment.clone()).unwrap().take(6).collect();
    assert_eq!(file::read(frames.join("\n").as_bytes()).unwrap(), payment);
    assert!(matches!(
        file::read(frames[0].as_bytes()),
        Err(CarryError::Incomplete(Progress { have: 1, .. }))
    ));
    assert!(matches!(file::read(b""), Err(CarryError::Incomplete(_))));
    assert!(matches!(file::read(b"hello"), Err(CarryError::NotUr(_))));
    assert!(matches!(
        file::read(&[0xff; 20]),
        Err(CarryError::Malformed { .. })
    ));
    assert!(matches!(
        file::read_from(std::io::repeat(b' ')),
        Err(CarryError::FileTooLarge { .. })
    ));
}

proptest! {
    #[test]
    fn chunks_arrive_in_any_order(message in any_message(), order in any::<u64>()) {
        let mut all: Vec<_> = chunks(&message).collect();
        prop_assert!(all.iter().all(|chunk| chunk.len() <= CHUNK_LENGTH));
        // Any permutation by a sort of hashes.
        all.sort_by_key(|chunk| u64::from(crc32fast::hash(chunk)).wrapping_mul(order | 1));
        let mut assembler = Assembler::new();
        for chunk in &all {
            assembler.receive(chunk).unwrap();
        }
        prop_assert_eq!(assembler.take(), Some(message));
    }

    #[test]
    fn files_come_back(message in any_message()) {
        prop_assert_eq!(file::read(&file::to_bytes(&message)).unwrap(), message.clone());
        prop_assert_eq!(file::read(file::to_text(&message).as_bytes()).unwrap(), message);
    }

    #[test]
    fn a_changed_or_cut_file_is_refused(
        message in any_message(),
        at in any::<prop::sample::Index>(),
        change in 1_u8..,
        cut in any::<prop::sample::Index>(),
    ) {
        for good in [file::to_bytes(&message), file::to_text(&message).trim_end().as_bytes().to_vec()] {
            let cut = cut.index(good.len());
            prop_assert!(file::read(&good[..cut]).is_err());
            let mut bad = good.clone();
            let at = at.index(bad.len());
            bad[at] ^= change;
            // Another case of a letter is the same letter; another type's code is another message.
            match file::read(&bad) {
                Ok(read) => prop_assert_eq!(read.body(), message.body()),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut assembler = Assembler::new();
        prop_assert!(assembler.receive(&bytes).is_err());
        prop_assert_eq!(assembler.progress(), Progress::default());
        prop_assert!(file::read(&bytes).is_err());
        let mut behind_magic = file::MAGIC.to_vec();
        behind_magic.extend(&bytes);
        prop_assert!(file::read(&behind_magic).is_err());
        let mut receiver = Receiver::new();
        prop_assert!(receiver.receive(&String::from_utf8_lossy(&bytes)).is_err());
    }

    /// CBOR noise in good letters, and numbers that are nearly right.
    #[test]
    fn forged_parts_never_panic(
        numbers in prop::collection::vec((1_u32..40, 1_u32..12, 1_u32..200, 0_u32..2), 1..40),
        data in prop::collection::vec(any::<u8>(), 0..30),
        noise in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut receiver = Receiver::new();
        let letters = |bytes: &[u8]| ur::bytewords::encode(bytes, ur::bytewords::Style::Minimal);
        for (sequence, parts, length, checksum) in numbers {
            let mut cbor = minicbor::Encoder::new(Vec::new());
            cbor.array(5).unwrap();
            for number in [sequence, parts, length, checksum] {
                cbor.u32(number).unwrap();
            }
            cbor.bytes(&data).unwrap();
            let cbor = cbor.into_writer();
            let _ = receiver.receive(&format!("ur:micropay-payment/{sequence}-{parts}/{}", letters(&cbor)));
            // A length that fits.
            let length = (parts * data.len() as u32).max(1);
            let mut cbor = minicbor::Encoder::new(Vec::new());
            cbor.array(5).unwrap();
            for number in [sequence, parts, length, checksum] {
                cbor.u32(number).unwrap();
            }
            cbor.bytes(&data).unwrap();
            let cbor = cbor.into_writer();
            let _ = receiver.receive(&format!("ur:micropay-payment/{sequence}-{parts}/{}", letters(&cbor)));
        }
        let _ = receiver.receive(&format!("ur:micropay-payment/1-2/{}", letters(&noise)));
    }
}
