//! Lock and unlock: that they are inverse, that a lock shows nothing, and that the test which says so would notice if it
//! did. Then the paper's two games (section 4.2, Algorithms 1 and 2), as `channel.md` §4 repairs them.

use alloy_primitives::{B256, U256, keccak256};
use micropay_protocol::channel::{
    ChannelId, Index, Keccak, Key, Lock, LockHash, Sha3_512, Sigma, SigmaError, SignatureError, Tag, lock,
    unlock,
};
use proptest::prelude::*;

use crate::world::{bytes32, key};

const ORDER: U256 = U256::from_limbs([
    0xbfd2_5e8c_d036_4141,
    0xbaae_dce6_af48_a03b,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
]);
const LOCKS: u64 = 20_000;
/// Of 512 fair bits, one is so far off once in a thousand runs.
const Z_MAX: f64 = 4.75;

fn sigma(key: &Key, number: u64) -> Sigma {
    Sigma::from(&key.sign(bytes32("message", number)))
}

/// (r, n − s): what a lax verifier takes for a signature of the same message.
pub(crate) fn malleate(sigma: &Sigma) -> [u8; 64] {
    let mut bytes = sigma.to_bytes();
    let s = ORDER - U256::from_be_slice(&bytes[32..]);
    bytes[32..].copy_from_slice(&s.to_be_bytes::<32>());
    bytes
}

/// A valid canonical signature with another nonce than RFC 6979's.
fn sign_again(secret: B256, digest: B256, nonce: u64) -> Sigma {
    let secret = secp256k1::SecretKey::from_secret_bytes(secret.0).unwrap();
    let message = secp256k1::Message::from_digest(digest.0);
    let signature = secp256k1::ecdsa::sign_with_noncedata(message, &secret, &bytes32("nonce", nonce).0);
    Sigma::from_bytes(&signature.serialize_compact()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn lock_unlock_roundtrip(secret in 1u64.., a in any::<u64>(), b in any::<u64>()) {
        fn check<H: LockHash>(previous: &Sigma, current: &Sigma, other: &Sigma) {
            let locked = lock::<H>(previous, current);
            assert_eq!(unlock::<H>(&locked, current), previous.to_bytes(), "{}", H::NAME);
            if other != current {
                assert_ne!(unlock::<H>(&locked, other), previous.to_bytes(), "{}", H::NAME);
            }
            assert_eq!(Lock::from_bytes(&locked.0), Ok(locked));
        }
        let key = Key::from_bytes(&bytes32("secret", secret).0).unwrap();
        let (previous, current, other) = (sigma(&key, a), sigma(&key, b), sigma(&key, a ^ 1));
        check::<Keccak>(&previous, &current, &other);
        check::<Sha3_512>(&previous, &current, &other);
        prop_assert_ne!(lock::<Keccak>(&previous, &current), lock::<Sha3_512>(&previous, &current));
    }
}

#[test]
fn masks_are_those_of_the_design() {
    let sigma = sigma(&key("client"), 1).to_bytes();
    let half = |prefix: u8| keccak256([&[prefix], &sigma[..]].concat());
    assert_eq!(Keccak::mask(&sigma)[..], [half(1), half(2)].concat());
    // SHA3-512 of "abc" (FIPS 202) tells the standard from the original Keccak; the vectors tell the rest.
    use sha3::Digest;
    assert_eq!(
        sha3::Sha3_512::digest(b"abc")[..4],
        [0xb7, 0x51, 0x85, 0x0b],
        "SHA3-512 is not the standard's"
    );
    assert_eq!(Sha3_512::mask(&sigma)[..], sha3::Sha3_512::digest(sigma)[..]);
}

/// A mask of 32 bytes makes no lock: there is no type for it, and no parser takes one (C-5).
#[test]
fn short_mask_rejected() {
    for got in [0, 32, 63, 65, 128] {
        let error = SigmaError::Length { got, needed: 64 };
        assert_eq!(Lock::from_bytes(&vec![1; got]), Err(error));
        assert_eq!(Sigma::from_bytes(&vec![1; got]), Err(error));
    }
    // Both halves of a mask differ, in both profiles.
    let sigma = sigma(&key("client"), 1).to_bytes();
    for mask in [Keccak::mask(&sigma), Sha3_512::mask(&sigma)] {
        assert_ne!(mask[..32], mask[32..]);
        assert_ne!(mask[32..], [0; 32]);
    }
}

#[test]
fn sigmas_are_strict() {
    let good = sigma(&key("client"), 1);
    assert_eq!(Sigma::from_bytes(&good.to_bytes()), Ok(good));
    let high = Sigma::from_bytes(&malleate(&good)).unwrap_err();
    assert!(
        matches!(high, SigmaError::Signature(SignatureError::HighS { .. })),
        "{high}"
    );
    let with = |r: U256, s: U256| {
        let bytes = [r.to_be_bytes::<32>(), s.to_be_bytes::<32>()].concat();
        Sigma::from_bytes(&bytes)
    };
    let one = U256::from(1);
    assert!(with(one, one).is_ok() && with(ORDER - one, ORDER >> 1).is_ok());
    for (r, s) in [
        (U256::ZERO, one),
        (ORDER, one),
        (one, U256::ZERO),
        (one, (ORDER >> 1) + one),
        (one, ORDER),
    ] {
        assert!(with(r, s).is_err(), "r = {r}, s = {s}");
    }
}

// ───────────────────────────── Invisibility, statistically ─────────────────────────────

/// How far the worst bit of many locks is from fair, in standard deviations.
fn worst_bit(locks: impl Iterator<Item = [u8; 64]>) -> f64 {
    let (mut ones, mut n) = ([0u32; 512], 0u32);
    for lock in locks {
        n += 1;
        for (bit, count) in ones.iter_mut().enumerate() {
            *count += u32::from(lock[bit / 8] >> (7 - bit % 8) & 1);
        }
    }
    let (mean, deviation) = (f64::from(n) / 2.0, f64::from(n).sqrt() / 2.0);
    ones.iter()
        .map(|&count| ((f64::from(count) - mean) / deviation).abs())
        .fold(0.0, f64::max)
}

/// The signatures of a long run of payments, the same in each run.
fn signatures() -> Vec<Sigma> {
    let key = key("invisible");
    (0..=LOCKS).map(|number| sigma(&key, number)).collect()
}

fn locks_with(signatures: &[Sigma], lock: impl Fn(&Sigma, &Sigma) -> [u8; 64]) -> f64 {
    worst_bit(signatures.windows(2).map(|pair| lock(&pair[0], &pair[1])))
}

fn xor(a: [u8; 64], b: [u8; 64]) -> [u8; 64] {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// Whether a mask is used twice: then the halves of a lock differ as `r` and `s` do, whatever the mask is.
fn repeats_mask(signatures: &[Sigma], lock: impl Fn(&Sigma, &Sigma) -> [u8; 64]) -> bool {
    signatures.windows(2).all(|pair| {
        let lock = lock(&pair[0], &pair[1]);
        let hidden = pair[0].to_bytes();
        (0..32).all(|i| lock[i] ^ lock[32 + i] == hidden[i] ^ hidden[32 + i])
    })
}

#[test]
fn invisibility_bits() {
    let signatures = signatures();
    for (name, z) in [
        (
            Keccak::NAME,
            locks_with(&signatures, |a, b| lock::<Keccak>(a, b).0),
        ),
        (
            Sha3_512::NAME,
            locks_with(&signatures, |a, b| lock::<Sha3_512>(a, b).0),
        ),
    ] {
        println!("{name}: max |z| over 512 bits of {LOCKS} locks is {z:.2}");
        assert!(
            z < Z_MAX,
            "{name}: a bit of the locks is {z:.2} standard deviations from fair"
        );
    }
    assert!(!repeats_mask(&signatures[..100], |a, b| lock::<Keccak>(a, b).0));
    assert!(!repeats_mask(&signatures[..100], |a, b| lock::<Sha3_512>(a, b).0));
}

/// The test above notices what it is there to notice.
#[test]
fn invisibility_negative_controls() {
    let signatures = signatures();
    // No hash: two signatures with a low `s` have the same top bit.
    let bare = |a: &Sigma, b: &Sigma| xor(a.to_bytes(), b.to_bytes());
    let z = locks_with(&signatures, bare);
    assert!(z > 100.0, "XOR without a hash passes with z = {z:.2}");

    // A mask of 32 bytes, padded with zeros: `s` is in clear.
    let short = |b: &Sigma| keccak256([&[1u8], &b.to_bytes()[..]].concat());
    let padded = |a: &Sigma, b: &Sigma| {
        let mut mask = [0; 64];
        mask[..32].copy_from_slice(short(b).as_slice());
        xor(a.to_bytes(), mask)
    };
    let z = locks_with(&signatures, padded);
    assert!(z > 100.0, "a zero-padded mask passes with z = {z:.2}");

    // The same 32 bytes twice: every bit is fair, and the halves give `r ⊕ s` away.
    let repeated = |a: &Sigma, b: &Sigma| {
        let mask = [short(b).0, short(b).0].concat().try_into().unwrap();
        xor(a.to_bytes(), mask)
    };
    let z = locks_with(&signatures, repeated);
    assert!(z < Z_MAX, "bits of a repeated mask are fair, yet z = {z:.2}");
    assert!(
        repeats_mask(&signatures, repeated),
        "a repeated mask goes unnoticed"
    );
}

// ───────────────────────────── The repaired games ─────────────────────────────

/// Unlockability′: the adversary has a signing oracle for every message and wins with a signature σ* of m̂ that the strict
/// verifier takes, whose tag is the pinned one, and that does not unlock. Each attempt is what an adversary could return.
#[test]
fn unlockability_game() {
    let channel = ChannelId(bytes32("channel", 0));
    let (mut wins_by_our_rule, mut wins_by_the_papers) = (0, 0);
    for round in 0..50 {
        let secret = bytes32("secret", round);
        let key = Key::from_bytes(&secret.0).unwrap();
        let (m, m_hat) = (bytes32("m", round), bytes32("m hat", round));
        let (locked, opener) = (Sigma::from(&key.sign(m)), Sigma::from(&key.sign(m_hat)));
        let lk = lock::<Keccak>(&locked, &opener);
        let tag = Tag::of(channel, Index(2), &opener);
        let attempts: [[u8; 64]; 5] = [
            opener.to_bytes(),
            malleate(&opener),
            sign_again(secret, m_hat, round).to_bytes(),
            locked.to_bytes(),
            [0x11; 64],
        ];
        for attempt in attempts {
            let verifies_strictly =
                Sigma::from_bytes(&attempt).is_ok_and(|sigma| sigma.verify(m_hat, key.public_key()));
            let tagged =
                Sigma::from_bytes(&attempt).is_ok_and(|sigma| Tag::of(channel, Index(2), &sigma) == tag);
            let mut unlocked = lk.0;
            for (byte, mask) in unlocked.iter_mut().zip(Keccak::mask(&attempt)) {
                *byte ^= mask;
            }
            let unlocks = unlocked == locked.to_bytes();
            wins_by_our_rule += u32::from(verifies_strictly && tagged && !unlocks);
            wins_by_the_papers += u32::from(verifies_laxly(&attempt, m_hat, &key) && !unlocks);
        }
    }
    assert_eq!(wins_by_our_rule, 0, "a tagged canonical signature did not unlock");
    // The paper's rule is lost to the malleated opener and to the other nonce, every time (C-6).
    assert_eq!(wins_by_the_papers, 100);
}

/// As textbook ECDSA verifies: any `s` below the order.
fn verifies_laxly(bytes: &[u8; 64], digest: B256, key: &Key) -> bool {
    let s = U256::from_be_slice(&bytes[32..]);
    let low = if s > ORDER >> 1 { ORDER - s } else { s };
    let mut normal = *bytes;
    normal[32..].copy_from_slice(&low.to_be_bytes::<32>());
    Sigma::from_bytes(&normal).is_ok_and(|sigma| sigma.verify(digest, key.public_key()))
}

/// Invisibility′: the adversary chooses m and m̂ (and may not have m̂ signed), gets the lock or 64 uniform bytes, and says
/// which. These adversaries look at what a lock could show: weight, top bits, halves, and whether what it would hide, under
/// masks that can be made without the opener, is a signature of m.
#[test]
fn invisibility_game() {
    const ROUNDS: u64 = 2_000;
    type Adversary = (&'static str, fn(&Key, B256, &[u8; 64]) -> bool);
    let adversaries: [Adversary; 4] = [
        ("weight", |_, _, seen| {
            seen.iter().map(|byte| byte.count_ones()).sum::<u32>() > 256
        }),
        ("low s shows through", |_, _, seen| seen[32] < 0x80),
        ("halves differ as r and s do", |key, m, seen| {
            let hidden = Sigma::from(&key.sign(m)).to_bytes();
            (0..32).all(|i| seen[i] ^ seen[32 + i] == hidden[i] ^ hidden[32 + i])
        }),
        ("another opener fits", |key, m, seen| {
            let other = Sigma::from(&key.sign(keccak256(m)));
            Sigma::from_bytes(&unlock::<Keccak>(&Lock(*seen), &other))
                .is_ok_and(|sigma| sigma.verify(m, key.public_key()))
        }),
    ];
    let key = key("client");
    let mut right = [0u32; 4];
    for round in 0..ROUNDS {
        let (m, m_hat) = (bytes32("m", round), bytes32("m hat", round));
        let coin = bytes32("coin", round)[0] & 1 == 1;
        let seen = if coin {
            lock::<Keccak>(&Sigma::from(&key.sign(m)), &Sigma::from(&key.sign(m_hat))).0
        } else {
            [bytes32("uniform", round).0, bytes32("uniform too", round).0]
                .concat()
                .try_into()
                .unwrap()
        };
        for (right, (_, guess)) in right.iter_mut().zip(adversaries) {
            *right += u32::from(guess(&key, m, &seen) == coin);
        }
    }
    for (right, (name, _)) in right.into_iter().zip(adversaries) {
        // Four standard deviations of a guess.
        let z = (f64::from(right) - ROUNDS as f64 / 2.0) / (ROUNDS as f64).sqrt() * 2.0;
        assert!(
            z.abs() < 4.0,
            "`{name}` tells a lock from noise: right {right} times of {ROUNDS}"
        );
    }
}
