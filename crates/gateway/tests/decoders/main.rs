//! Everything that reads what strangers send, over the committed seeds (`fuzz/seeds`) and over mutations of them. The same
//! checks run under libFuzzer with `make fuzz`.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is to stop them where it happens"
)]

mod checks;
mod seeds;

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use checks::CHECKS;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(name)
}

/// Seeds with their names.
fn seeds(name: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder(name)).unwrap();
    let mut seeds: Vec<_> = files
        .map(|file| file.unwrap())
        .map(|file| {
            (
                file.file_name().into_string().unwrap(),
                fs::read(file.path()).unwrap(),
            )
        })
        .collect();
    seeds.sort();
    seeds
}

#[test]
fn every_seed_is_taken_or_refused_as_its_name_says() {
    for (name, check) in CHECKS {
        let seeds = seeds(name);
        assert!(seeds.iter().any(|(file, _)| file.starts_with("good")), "{name}");
        for (file, bytes) in seeds {
            assert_eq!(check(&bytes), file.starts_with("good"), "{name}/{file}");
        }
    }
}

/// One change to some bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Cut(Index, Index),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let token = select(vec![
        &b"\""[..],
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"-1",
        b"1e999",
        b"\\u0000",
        b"\\ud800",
        b"18446744073709551616",
        b"0x",
        b"/",
        b"%",
        b"*",
        b"**",
        b"~(",
        b"\0",
        b"\xff",
        b"\n",
    ]);
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Flip(at, byte)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Cut(from, to)),
        (any::<Index>(), token).prop_map(|(at, token)| Change::Insert(at, token.to_vec())),
        (any::<Index>(), proptest::collection::vec(any::<u8>(), 0..8))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<Index>(), any::<Index>(), 2..200usize)
            .prop_map(|(from, to, times)| Change::Repeat(from, to, times)),
    ]
}

fn apply(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let at = |index: &Index| index.index(bytes.len() + 1);
        match change {
            Change::Flip(index, mask) if !bytes.is_empty() => {
                let at = index.index(bytes.len());
                bytes[at] ^= mask;
            }
            Change::Flip(..) => {}
            Change::Cut(one, other) => {
                let (from, to) = (at(one).min(at(other)), at(one).max(at(other)));
                bytes.drain(from..to);
            }
            Change::Insert(index, more) => {
                let at = at(index);
                bytes.splice(at..at, more.iter().copied());
            }
            Change::Repeat(one, other, times) => {
                let (from, to) = (at(one).min(at(other)), at(one).max(at(other)));
                let part = bytes[from..to].repeat(*times);
                bytes.splice(from..to, part);
                bytes.truncate(64 * 1024);
            }
        }
    }
    bytes
}

/// Changes to the bytes as they are, and, where they are base64, to what is in them.
#[test]
fn mutations_of_every_seed_break_nothing() {
    for (name, check) in CHECKS {
        let seeds: Vec<Vec<u8>> = seeds(name).into_iter().map(|(_, bytes)| bytes).collect();
        let mutated = (
            select(seeds),
            proptest::collection::vec(change(), 1..6),
            any::<bool>(),
        );
        let mut runner = TestRunner::new(Config {
            cases: 400,
            failure_persistence: None,
            ..Config::default()
        });
        let result = runner.run(&mutated, |(seed, changes, inside)| {
            let decoded = inside.then(|| STANDARD.decode(&seed).ok()).flatten();
            check(&match decoded {
                Some(decoded) => STANDARD.encode(apply(decoded, &changes)).into_bytes(),
                None => apply(seed, &changes),
            });
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Not the size of what is sent decides how much memory it takes to say no.
#[test]
fn attack_what_is_too_long_is_refused_before_it_is_decoded() {
    let long = STANDARD.encode(vec![b'['; 1 << 20]);
    let contracts = checks::contracts();
    let errors = [
        micropay_gateway::wire::read_required(&long, contracts).unwrap_err(),
        micropay_gateway::wire::read_signature(&long, contracts).unwrap_err(),
        micropay_gateway::wire::read_response(&long).unwrap_err(),
        micropay_gateway::wire::read_channel_response(&long).unwrap_err(),
        micropay_gateway::wire::read_credential(&long, &checks::challenge_key(), contracts).unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("at most 16384 are read"), "{error}");
    }
    // Deep rather than long.
    let deep = STANDARD.encode("[".repeat(12_000));
    assert!(micropay_gateway::wire::read_response(&deep).is_err());
}
