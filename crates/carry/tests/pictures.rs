//! Codes through pictures: written as PNG, animated PNG or a folder, and read again; light on dark; with colours; damaged.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::time::{Duration, Instant};

use carry::{
    Background, CarryError, MAX_ANIMATION_PIXELS, MAX_MESSAGE, Message, MessageType, Qr, QrVersion, Receiver,
    Scale, Sender, animated_png, codes_in_png, file, write_folder,
};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn message(seed: u64, length: usize) -> Message {
    let rng = &mut StdRng::seed_from_u64(seed);
    let body = (0..length).map(|_| rng.random()).collect();
    Message::new(MessageType::Payment, body).unwrap()
}

fn scale(pixels: u8) -> Scale {
    Scale::new(pixels).unwrap()
}

fn codes(message: &Message, largest: QrVersion, rounds: usize) -> Vec<Qr> {
    let sender = Sender::within(message.clone(), largest).unwrap();
    let frames = rounds * sender.parts();
    Qr::all(&sender.take(frames).collect::<Vec<_>>(), largest).unwrap()
}

/// An 8-bit picture of any colour type.
fn png(color: png::ColorType, side: usize, pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side as u32, side as u32);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(pixels).unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn every_size_is_written_and_read() {
    for (seed, length) in (1..).zip([100, 151, 300, 491, 600, 610, 800, 1_500, 3_000, 6_000]) {
        let message = message(seed, length);
        let mut receiver = Receiver::new();
        let (mut read, mut shown, mut version) = (0, 0, 0);
        let mut slowest = Duration::ZERO;
        let sender = Sender::new(message.clone()).unwrap();
        let parts = sender.parts();
        for frame in sender.take(4 * parts + 8) {
            let code = Qr::new(&frame, QrVersion::MAX).unwrap();
            version = code.version();
            shown += 1;
            let png = code.to_png(scale(4)).unwrap();
            let start = Instant::now();
            let found = codes_in_png(&png);
            slowest = slowest.max(start.elapsed());
            // A code that is not found is as good as a lost frame.
            if let Ok(found) = found {
                assert_eq!(found, [frame]);
                read += 1;
                if receiver.receive(&found[0]).unwrap().is_complete() {
                    break;
                }
            }
        }
        println!(
            "{length} bytes, {parts} parts: version {version}, {shown} shown, {read} read, at most {slowest:?} each"
        );
        assert_eq!(receiver.take(), Some(message));
    }
}

#[test]
fn static_codes_are_read_at_every_scale_and_version() {
    let (mut read, mut all) = (0, 0);
    for length in (20..=610).step_by(59) {
        let frame = Sender::new(message(length as u64, length))
            .unwrap()
            .next()
            .unwrap();
        let code = Qr::new(&frame, QrVersion::MAX).unwrap();
        for pixels in [3, 5, 8] {
            all += 1;
            match codes_in_png(&code.to_png(scale(pixels)).unwrap()) {
                Ok(found) => {
                    assert_eq!(found, std::slice::from_ref(&frame));
                    read += 1;
                }
                Err(error) => println!(
                    "{length} bytes, version {}, {pixels} pixels: {error}",
                    code.version()
                ),
            }
        }
    }
    println!("{read} of {all} pictures read");
    assert!(read * 100 >= all * 95, "{read} of {all}");
}

#[test]
fn an_animation_is_one_file_or_a_folder() {
    let message = message(1, 2_000);
    let codes = codes(&message, QrVersion::new(12).unwrap(), 2);
    let animation = animated_png(&codes, scale(4)).unwrap();
    println!("{} pictures, {} bytes as one file", codes.len(), animation.len());
    assert_eq!(file::read(&animation).unwrap(), message);

    let folder = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::new();
    for path in write_folder(&folder.path().join("codes"), &codes, scale(4)).unwrap() {
        for code in codes_in_png(&fs::read(path).unwrap()).unwrap() {
            receiver.receive(&code).unwrap();
        }
    }
    assert_eq!(receiver.take().as_ref(), Some(&message));

    // Too few pictures say how many parts are there.
    let few = animated_png(&codes[..3], scale(4)).unwrap();
    match file::read(&few) {
        Err(CarryError::Incomplete(progress)) => assert_eq!(progress.have, 3),
        other => panic!("{other:?}"),
    }
    assert!(matches!(animated_png(&[], scale(4)), Err(CarryError::NoFrames)));
}

/// What a screenshot of the terminal has: a character is a module wide and two high.
fn screenshot(code: &Qr, on: Background, pixels: usize) -> (usize, Vec<u8>) {
    let text = code.to_terminal(on);
    let (ink, paper) = match on {
        Background::Dark => (230, 20),
        Background::Light => (20, 230),
    };
    let mut rows: Vec<Vec<u8>> = Vec::new();
    for line in text.lines() {
        for upper in [true, false] {
            rows.push(
                line.chars()
                    .map(|c| {
                        let inked = match c {
                            '█' => true,
                            '▀' => upper,
                            '▄' => !upper,
                            _ => false,
                        };
                        if inked { ink } else { paper }
                    })
                    .collect(),
            );
        }
    }
    let side = code.side();
    let picture = (0..side * pixels)
        .flat_map(|y| (0..side * pixels).map(move |x| (x, y)))
        .map(|(x, y)| rows[y / pixels][x / pixels])
        .collect();
    (side * pixels, picture)
}

#[test]
fn a_terminal_is_read_on_both_backgrounds_and_inverted() {
    let message = message(3, 151);
    let frame = Sender::new(message.clone()).unwrap().next().unwrap();
    let code = Qr::new(&frame, QrVersion::MAX).unwrap();
    for on in [Background::Dark, Background::Light] {
        let (side, picture) = screenshot(&code, on, 5);
        let found = codes_in_png(&png(png::ColorType::Grayscale, side, &picture)).unwrap();
        assert_eq!(found, std::slice::from_ref(&frame), "{on:?}");
        // The wrong choice of background: light on dark.
        let inverted: Vec<u8> = picture.iter().map(|value| 255 - value).collect();
        let picture = png(png::ColorType::Grayscale, side, &inverted);
        assert_eq!(file::read(&picture).unwrap(), message, "{on:?}, inverted");
    }
}

#[test]
fn colours_and_transparency_are_read() {
    let message = message(4, 100);
    let frame = Sender::new(message.clone()).unwrap().next().unwrap();
    let code = Qr::new(&frame, QrVersion::MAX).unwrap();
    let (side, gray) = screenshot(&code, Background::Light, 4);
    let rgb: Vec<u8> = gray.iter().flat_map(|&v| [v / 2, v, v]).collect();
    // Dark where opaque, and what is transparent is black underneath.
    let rgba: Vec<u8> = gray
        .iter()
        .flat_map(|&v| [0, 0, 0, if v < 128 { 255 } else { 0 }])
        .collect();
    let gray_alpha: Vec<u8> = gray.iter().flat_map(|&v| [v, 255]).collect();
    for (color, pixels) in [
        (png::ColorType::Rgb, rgb),
        (png::ColorType::Rgba, rgba),
        (png::ColorType::GrayscaleAlpha, gray_alpha),
    ] {
        assert_eq!(
            file::read(&png(color, side, &pixels)).unwrap(),
            message,
            "{color:?}"
        );
    }
}

#[test]
fn a_picture_may_hold_no_code_or_a_strangers() {
    let blank = png(png::ColorType::Grayscale, 50, &[255; 2_500]);
    assert!(matches!(file::read(&blank), Err(CarryError::NoCode)));
    let stranger = Qr::new("HTTPS://EXAMPLE.ORG", QrVersion::MAX).unwrap();
    assert!(matches!(
        file::read(&stranger.to_png(scale(4)).unwrap()),
        Err(CarryError::NotUr(_))
    ));
}

#[test]
fn attack_a_picture_that_asks_for_memory() {
    // A header of 60,000 by 60,000 pixels, and nothing behind it.
    let mut bytes = Vec::new();
    let encoder = png::Encoder::new(&mut bytes, 60_000, 60_000);
    let writer = encoder.write_header().unwrap();
    drop(writer);
    assert!(matches!(
        codes_in_png(&bytes),
        Err(CarryError::PictureTooLarge { width: 60_000, .. })
    ));
}

/// An animation of `count` pictures, the first of them `first`, the others white.
fn animation(side: usize, first: &[u8], count: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side as u32, side as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_animated(count, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(first).unwrap();
    for _ in 1..count {
        writer.write_image_data(&vec![255; side * side]).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

#[test]
fn attack_an_animation_that_asks_for_time() {
    let side = 4_096;
    let bytes = animation(side, &vec![255; side * side], 10);
    assert!(bytes.len() < 1 << 20, "{} bytes", bytes.len());
    match file::read(&bytes) {
        Err(CarryError::AnimationTooLarge { pixels, max }) => {
            assert_eq!((pixels, max), (9 * side * side, MAX_ANIMATION_PIXELS));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_largest_message_in_our_own_pictures_is_read() {
    let parts = Sender::within(message(10, MAX_MESSAGE), QrVersion::MAX)
        .unwrap()
        .parts();
    // As many as the command writes, with the quiet zone.
    let frames = parts + parts.div_ceil(3);
    let side = (4 * usize::from(QrVersion::MAX.get()) + 17 + 8) * 8;
    assert!(frames * side * side <= MAX_ANIMATION_PIXELS, "{frames} of {side}");
}

#[test]
fn what_follows_a_whole_message_is_not_looked_at() {
    let sent = message(9, 100);
    let code = Qr::new(
        &Sender::new(sent.clone()).unwrap().next().unwrap(),
        QrVersion::MAX,
    )
    .unwrap();
    let (side, picture) = screenshot(&code, Background::Light, 3);
    let mut bytes = animation(side, &picture, 20);
    // Nor need it be there.
    bytes.truncate(bytes.len() / 2);
    assert_eq!(file::read(&bytes).unwrap(), sent);
}

#[test]
fn attack_a_picture_of_finder_patterns_is_given_up() {
    // 12 by 12 of them: each three might be a code.
    let (patterns, pitch) = (12, 22);
    let side = patterns * pitch + 4;
    let mut picture = vec![255; side * side];
    for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
        let module = |at: usize| at.checked_sub(4).map(|at| at % pitch / 2).filter(|at| *at < 7);
        if let (Some(across), Some(down)) = (module(x), module(y)) {
            let ring = [0, 6].contains(&across) || [0, 6].contains(&down);
            let core = (2..=4).contains(&across) && (2..=4).contains(&down);
            if ring || core {
                picture[y * side + x] = 0;
            }
        }
    }
    assert!(matches!(
        codes_in_png(&png(png::ColorType::Grayscale, side, &picture)),
        Err(CarryError::SearchFailed)
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damaged_pictures_never_panic(
        blots in prop::collection::vec((any::<prop::sample::Index>(), 1_usize..40, any::<u8>()), 0..60),
        length in 20_usize..400,
        pixels in 2_usize..5,
    ) {
        let frame = Sender::new(message(7, length)).unwrap().next().unwrap();
        let code = Qr::new(&frame, QrVersion::MAX).unwrap();
        let (side, mut picture) = screenshot(&code, Background::Light, pixels);
        for (at, size, value) in blots {
            let at = at.index(picture.len());
            for row in 0..size {
                for x in 0..size {
                    if let Some(pixel) = picture.get_mut(at + row * side + x) {
                        *pixel = value;
                    }
                }
            }
        }
        match codes_in_png(&png(png::ColorType::Grayscale, side, &picture)) {
            Ok(found) => prop_assert!(found.contains(&frame)),
            Err(error) => prop_assert!(matches!(error, CarryError::NoCode), "{}", error),
        }
    }

    #[test]
    fn damaged_png_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let frame = Sender::new(message(8, 100)).unwrap().next().unwrap();
        let mut bytes = Qr::new(&frame, QrVersion::MAX).unwrap().to_png(scale(3)).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = codes_in_png(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = codes_in_png(&bytes);
    }
}
