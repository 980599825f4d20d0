//! Frames between two devices that see each other badly: lost, out of order, of other messages, damaged, forged; and how long
//! three messages take.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use carry::{CarryError, FRAMES_PER_SECOND, Message, MessageType, Progress, QrVersion, Receiver, Sender};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

fn message(rng: &mut StdRng, kind: MessageType, length: usize) -> Message {
    Message::new(kind, (0..length).map(|_| rng.random()).collect()).unwrap()
}

fn version(version: u8) -> QrVersion {
    QrVersion::new(version).unwrap()
}

/// The frames that a screen shows, without end.
fn screen(message: &Message, largest: QrVersion) -> Box<dyn Iterator<Item = String>> {
    let mut sender = Sender::within(message.clone(), largest).unwrap();
    if sender.is_animated() {
        Box::new(sender)
    } else {
        let frame = sender.next().unwrap();
        assert_eq!(sender.next(), None, "a static message is one frame");
        Box::new(std::iter::repeat(frame))
    }
}

/// Frames shown until the message was there.
fn shown(rng: &mut StdRng, message: &Message, largest: QrVersion, loss: f64) -> usize {
    let mut receiver = Receiver::expecting(message.kind());
    for (shown, frame) in (1..).zip(screen(message, largest)) {
        if !rng.random_bool(loss) && receiver.receive(&frame).unwrap().is_complete() {
            assert_eq!(receiver.take().as_ref(), Some(message));
            return shown;
        }
        assert!(
            shown < 20_000,
            "{message:?} does not arrive: {}",
            receiver.progress()
        );
    }
    unreachable!("a screen has no end")
}

/// A part with these numbers, its letters' checksum right.
fn part(kind: MessageType, [sequence, parts, length, checksum]: [u32; 4], data: &[u8]) -> String {
    let mut cbor = minicbor::Encoder::new(Vec::new());
    cbor.array(5).unwrap();
    for number in [sequence, parts, length, checksum] {
        cbor.u32(number).unwrap();
    }
    cbor.bytes(data).unwrap();
    let letters = ur::bytewords::encode(&cbor.into_writer(), ur::bytewords::Style::Minimal);
    format!("ur:{kind}/{sequence}-{parts}/{letters}")
}

#[test]
fn the_messages_of_a_payment_are_static() {
    let rng = &mut StdRng::seed_from_u64(1);
    for (kind, length) in [
        (MessageType::Invoice, 151),
        (MessageType::Payment, 491),
        (MessageType::Acceptance, 146),
    ] {
        let sender = Sender::new(message(rng, kind, length)).unwrap();
        assert!(!sender.is_animated(), "{kind} of {length} bytes");
        let frame = sender.last().unwrap();
        assert_eq!(frame, frame.to_ascii_uppercase());
        assert!(frame.starts_with("UR:MICROPAY-"));
    }
    assert!(
        Sender::new(message(rng, MessageType::Payment, 800))
            .unwrap()
            .is_animated()
    );
}

#[test]
fn lost_frames_cost_time_only() {
    let rng = &mut StdRng::seed_from_u64(2);
    for loss in [0.0, 0.3, 0.5] {
        for length in [700, 2_000, 6_000, 20_000] {
            let mut counts: Vec<usize> = (0..20)
                .map(|_| {
                    let message = message(rng, MessageType::Payment, length);
                    shown(rng, &message, QrVersion::MAX, loss)
                })
                .collect();
            counts.sort_unstable();
            let parts = Sender::new(message(rng, MessageType::Payment, length))
                .unwrap()
                .parts();
            println!(
                "{length} bytes, {parts} parts, {:.0} % lost: p50 {} frames, most {}",
                loss * 100.0,
                counts[10],
                counts[19]
            );
            if loss == 0.0 {
                assert_eq!(counts[19], parts);
            }
        }
    }
}

#[test]
fn a_receiver_that_comes_late_or_reads_backwards_gets_it_too() {
    let rng = &mut StdRng::seed_from_u64(3);
    let message = message(rng, MessageType::Payment, 5_000);
    let sender = || Sender::new(message.clone()).unwrap();
    let parts = sender().parts();

    let mut late = Receiver::new();
    let used = sender()
        .skip(parts)
        .position(|frame| late.receive(&frame).unwrap().is_complete())
        .unwrap();
    println!("{parts} parts, from the fountain alone: {} frames", used + 1);
    assert_eq!(late.take().as_ref(), Some(&message));

    let mut frames: Vec<String> = sender().take(8 * parts).collect();
    frames.shuffle(rng);
    let mut shuffled = Receiver::new();
    for frame in &frames {
        shuffled.receive(frame).unwrap();
    }
    assert_eq!(shuffled.take().as_ref(), Some(&message));
    assert_eq!(shuffled.progress(), Progress::default());
}

#[test]
fn a_fountain_begins_anew_before_its_frames_grow() {
    let rng = &mut StdRng::seed_from_u64(4);
    let mut sender = Sender::within(message(rng, MessageType::Payment, 200), version(6)).unwrap();
    let first = sender.next().unwrap();
    assert_eq!(sender.nth(9_998), Some(first), "frame 10,000 is the first again");
}

#[test]
fn two_screens_in_view_are_told_apart() {
    let rng = &mut StdRng::seed_from_u64(5);
    let wanted = message(rng, MessageType::Payment, 3_000);
    let mut others = vec![
        // Another message of the same type and length; of another length; of another type; a static one.
        message(rng, MessageType::Payment, 3_000),
        message(rng, MessageType::Payment, 2_000),
        Message::new(MessageType::Rejection, wanted.body().to_vec()).unwrap(),
        message(rng, MessageType::Payment, 50),
    ];
    others.push(message(rng, MessageType::Invoice, 10));
    let mut screens: Vec<_> = others.iter().map(|other| screen(other, QrVersion::MAX)).collect();

    let mut receiver = Receiver::expecting(MessageType::Payment);
    for frame in screen(&wanted, QrVersion::MAX) {
        if receiver.receive(&frame).unwrap().is_complete() {
            break;
        }
        for (other, screen) in others.iter().zip(&mut screens) {
            let before = (receiver.progress(), receiver.receiving());
            let error = receiver.receive(&screen.next().unwrap()).unwrap_err();
            match error {
                CarryError::OtherMessage { got, expected } => {
                    assert_eq!((got, expected), (other.id(), wanted.id()));
                }
                CarryError::WrongType { got, expected } => {
                    assert_eq!((got, expected), (other.kind(), MessageType::Payment));
                }
                error => panic!("{error}"),
            }
            assert_eq!((receiver.progress(), receiver.receiving()), before);
        }
    }
    // Complete: its own frames are welcome, others are not.
    assert!(
        receiver
            .receive(&Sender::new(wanted.clone()).unwrap().next().unwrap())
            .unwrap()
            .is_complete()
    );
    assert!(matches!(
        receiver.receive(&screens[0].next().unwrap()),
        Err(CarryError::OtherMessage { .. })
    ));
    assert_eq!(receiver.take(), Some(wanted));
    // And the next one may come.
    while receiver.message().is_none() {
        receiver.receive(&screens[0].next().unwrap()).unwrap();
    }
    assert_eq!(receiver.take().as_ref(), Some(&others[0]));
}

#[test]
fn the_wrong_screen_first_is_forgotten_by_reset() {
    let rng = &mut StdRng::seed_from_u64(6);
    let (wrong, right) = (
        message(rng, MessageType::Payment, 3_000),
        message(rng, MessageType::Payment, 3_000),
    );
    let mut receiver = Receiver::new();
    receiver
        .receive(&screen(&wrong, QrVersion::MAX).next().unwrap())
        .unwrap();
    let mut frames = screen(&right, QrVersion::MAX);
    assert!(receiver.receive(&frames.next().unwrap()).is_err());
    receiver.reset();
    while !receiver.receive(&frames.next().unwrap()).unwrap().is_complete() {}
    assert_eq!(receiver.take(), Some(right));
}

#[test]
fn damaged_and_strange_frames_change_nothing() {
    let rng = &mut StdRng::seed_from_u64(7);
    let wanted = message(rng, MessageType::Payment, 3_000);
    let mut receiver = Receiver::new();
    let mut frames = screen(&wanted, QrVersion::MAX);
    receiver.receive(&frames.next().unwrap()).unwrap();
    while receiver.message().is_none() {
        let good = frames.next().unwrap();
        let mut damaged = good.clone().into_bytes();
        let at = rng.random_range(0..damaged.len());
        damaged[at] = if damaged[at] == b'Q' { b'K' } else { b'Q' };
        let strangers = [
            String::from_utf8(damaged).unwrap(),
            good[..good.len() - 2].to_owned(),
            good.replace("PAYMENT", "VOUCHER"),
            "https://example.org/".to_owned(),
            "ur:bytes/iehsjyhspmwfwfia".to_owned(),
            "UR:MICROPAY-PAYMENT/".to_owned(),
            "UR:MICROPAY-PAYMENT/1-2/3-4/AE".to_owned(),
            String::new(),
            "ü".repeat(70_000),
        ];
        for stranger in &strangers {
            let before = (receiver.progress(), receiver.receiving());
            let error = receiver
                .receive(stranger)
                .expect_err(&stranger[..stranger.len().min(60)]);
            assert!(!error.begins_anew(), "{error}");
            assert_eq!((receiver.progress(), receiver.receiving()), before);
        }
        receiver.receive(&good).unwrap();
    }
    assert_eq!(receiver.take(), Some(wanted));
}

#[test]
fn attack_numbers_that_ask_for_memory() {
    let mut receiver = Receiver::new();
    let kind = MessageType::Payment;
    // The decoder of `ur` would make a list of four thousand million parts.
    for numbers in [
        [5, u32::MAX, 60_000, 1],
        [u32::MAX, 1025, 60_000, 1],
        [1, 3, u32::MAX, 1],
        [1, 0, 30, 1],
        [0, 3, 30, 1],
        [1, 3, 0, 1],
        [1, 3, 31, 1],
        [1, 3, 20, 1],
    ] {
        let error = receiver.receive(&part(kind, numbers, &[7; 10])).unwrap_err();
        assert!(
            matches!(
                error,
                CarryError::TooManyParts { .. }
                    | CarryError::TooLong { .. }
                    | CarryError::Empty
                    | CarryError::Malformed { .. }
            ),
            "{numbers:?}: {error}"
        );
        assert_eq!(receiver.progress(), Progress::default());
    }
    assert!(receiver.receive(&part(kind, [1, 1, 30, 1], &[])).is_err());
    assert!(receiver.receive(&part(kind, [1, 3, 30, 1], &[7; 10])).is_ok());
    // The same message in other fragments.
    assert!(matches!(
        receiver.receive(&part(kind, [1, 2, 30, 1], &[7; 15])),
        Err(CarryError::OtherParts { got: 2, expected: 3 })
    ));
    // The text around a part says another number.
    let liar = part(kind, [2, 3, 30, 1], &[7; 10]).replace("/2-3/", "/3-3/");
    assert!(matches!(
        receiver.receive(&liar),
        Err(CarryError::Malformed { .. })
    ));
}

#[test]
fn attack_a_forged_part_spoils_one_round_only() {
    let rng = &mut StdRng::seed_from_u64(8);
    let wanted = message(rng, MessageType::Payment, 3_000);
    let parts = Sender::new(wanted.clone()).unwrap().parts();
    let fragment = 3_000_usize.div_ceil(parts);
    let id = wanted.id();
    let forged = part(
        id.kind,
        [2, parts as u32, id.length, id.checksum],
        &vec![0; fragment],
    );

    let mut receiver = Receiver::new();
    receiver.receive(&forged).unwrap();
    let mut frames = screen(&wanted, QrVersion::MAX);
    let error = frames
        .by_ref()
        .find_map(|frame| receiver.receive(&frame).err())
        .unwrap();
    assert!(
        matches!(error, CarryError::Spoiled(spoiled) if spoiled == id),
        "{error}"
    );
    assert!(error.begins_anew());
    assert_eq!(receiver.progress(), Progress::default());
    while !receiver.receive(&frames.next().unwrap()).unwrap().is_complete() {}
    assert_eq!(receiver.take(), Some(wanted));
}

#[test]
fn attack_parts_without_end_meet_a_limit() {
    // Parts that never name fragment 0 never complete.
    let mut receiver = Receiver::new();
    let (parts, length) = (1024, 1024 * 64);
    let mut accepted = 0;
    for sequence in 1025.. {
        let text = part(MessageType::Payment, [sequence, parts, length, 1], &[1; 64]);
        let letters = text.rsplit_once('/').unwrap().1;
        let cbor = ur::bytewords::decode(letters, ur::bytewords::Style::Minimal).unwrap();
        let indexes = minicbor::decode::<ur::fountain::Part>(&cbor).unwrap().indexes();
        // Many indexes, to be done soon.
        if indexes.contains(&0) || indexes.len() < 200 {
            continue;
        }
        match receiver.receive(&text) {
            Ok(_) => accepted += 1,
            Err(error) => {
                assert!(matches!(error, CarryError::BufferFull { .. }), "{error}");
                break;
            }
        }
    }
    println!("{accepted} parts that lead nowhere were kept");
    assert!(accepted < 2_000);
}

#[test]
fn the_longest_message_fits_the_receivers_limits() {
    let rng = &mut StdRng::seed_from_u64(9);
    let longest = message(rng, MessageType::Payment, carry::MAX_MESSAGE);
    assert!(shown(rng, &longest, QrVersion::MAX, 0.5) > 0);
    // Version 7 makes about 870 parts of it, version 5 more than are taken.
    let parts = Sender::within(longest.clone(), version(7)).unwrap().parts();
    println!("version 7: {parts} parts");
    assert!(shown(rng, &longest, version(7), 0.5) > parts);
    assert!(matches!(
        Sender::within(longest, QrVersion::MIN),
        Err(CarryError::TooManyParts { .. })
    ));
}

/// Milliseconds.
fn percentiles(mut times: Vec<u64>) -> (u64, u64, u64) {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100];
    (at(50), at(95), times[times.len() - 1])
}

/// Three messages, one after the other, each shown until it is read: the bound is 5 s at 10 frames/s with 30 % lost.
/// The clock counts frames, half a frame on average until the reader's next look, and 50 ms of computing a message.
#[test]
fn three_messages_take_less_than_five_seconds() {
    const FRAME_MS: u64 = 1_000 / FRAMES_PER_SECOND as u64;
    const COMPUTE_MS: u64 = 50;
    let rng = &mut StdRng::seed_from_u64(10);
    for largest in [20, 15, 10, 6] {
        for payment in [491, 800] {
            for loss in [0.3, 0.5] {
                let times = (0..500)
                    .map(|_| {
                        [
                            (MessageType::Invoice, 151),
                            (MessageType::Payment, payment),
                            (MessageType::Acceptance, 146),
                        ]
                        .into_iter()
                        .map(|(kind, length)| {
                            let message = message(rng, kind, length);
                            let frames = shown(rng, &message, version(largest), loss) as u64;
                            frames * FRAME_MS + rng.random_range(0..FRAME_MS) + COMPUTE_MS
                        })
                        .sum()
                    })
                    .collect();
                let (p50, p95, most) = percentiles(times);
                println!(
                    "version ≤ {largest}, payment {payment} bytes, {:.0} % lost: p50 {p50} ms, p95 {p95} ms, most {most} ms",
                    loss * 100.0
                );
                if loss < 0.4 && largest >= 10 {
                    assert!(p95 < 5_000, "{p95} ms");
                }
                if largest == 20 {
                    assert!(most < 5_000, "{most} ms");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sent_arrives(
        body in prop::collection::vec(any::<u8>(), 1..3_000),
        kind in prop::sample::select(MessageType::ALL.to_vec()),
        largest in 5_u8..=20,
        loss in 0.0..0.6,
        seed in any::<u64>(),
    ) {
        let message = Message::new(kind, body).unwrap();
        let rng = &mut StdRng::seed_from_u64(seed);
        prop_assert!(shown(rng, &message, version(largest), loss) > 0);
        // And every frame has room in its code.
        for frame in screen(&message, version(largest)).take(1) {
            let code = carry::Qr::new(&frame, version(largest)).unwrap();
            prop_assert!(code.version() <= largest);
        }
    }
}
