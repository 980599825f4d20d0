//! Strict signatures, and the two curve libraries against each other: what one accepts the other accepts, and both recover
//! one address, on honest, malleated and degenerate signatures.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod common;

use alloy_primitives::{Address, B256, U256, keccak256};
use common::escrow_key;
use k256::ecdsa::signature::hazmat::PrehashVerifier;
use k256::ecdsa::{RecoveryId, Signature as K256Signature, VerifyingKey};
use micropay_protocol::ticket::{EscrowKey, Signature, SignatureError, recover, verify};
use proptest::prelude::*;

const ORDER: U256 = U256::from_limbs([
    0xbfd2_5e8c_d036_4141,
    0xbaae_dce6_af48_a03b,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
]);

fn join(r: U256, s: U256, v: u8) -> [u8; 65] {
    let mut bytes = [v; 65];
    bytes[..32].copy_from_slice(&r.to_be_bytes::<32>());
    bytes[32..64].copy_from_slice(&s.to_be_bytes::<32>());
    bytes
}

/// The contract's rule in k256 alone: the form by its own checks, then recovery.
fn recover_with_k256(digest: B256, bytes: &[u8]) -> Option<Address> {
    let (rs, v) = (bytes.get(..64)?, *bytes.get(64)?);
    if bytes.len() != 65 || !matches!(v, 27 | 28) {
        return None;
    }
    let signature = K256Signature::from_slice(rs).ok()?;
    if signature.normalize_s() != signature {
        return None;
    }
    let id = RecoveryId::new(v == 28, false);
    let key = VerifyingKey::recover_from_prehash(digest.as_slice(), &signature, id).ok()?;
    let hash = keccak256(&key.to_sec1_point(false).as_bytes()[1..]);
    Some(Address::from_slice(&hash[12..]))
}

fn recover_with_ours(digest: B256, bytes: &[u8]) -> Option<Address> {
    let signature = Signature::from_bytes(bytes).ok()?;
    recover(digest, &signature).ok().map(|key| key.address())
}

/// Scalars where something can go wrong, and any others.
fn scalars() -> impl Strategy<Value = U256> {
    prop_oneof![
        Just(U256::ZERO),
        Just(U256::from(1)),
        Just(ORDER),
        Just(ORDER - U256::from(1)),
        Just(ORDER + U256::from(1)),
        Just(ORDER >> 1),
        Just((ORDER >> 1) + U256::from(1)),
        Just(U256::MAX),
        any::<[u8; 32]>().prop_map(U256::from_be_bytes),
        any::<[u8; 32]>().prop_map(|bytes| U256::from_be_bytes(bytes) >> 1),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn libraries_agree_on_honest_signatures(secret in any::<[u8; 32]>(), digest in any::<[u8; 32]>()) {
        let digest = B256::from(digest);
        let Ok(key) = EscrowKey::from_bytes(&secret) else { return Ok(()) };
        let signature = key.sign(digest);
        let bytes = signature.to_bytes();
        prop_assert_eq!(Signature::from_bytes(&bytes), Ok(signature));
        prop_assert_eq!(Signature::from_sol(&signature.to_sol::<bindings::ticket::Signature>()), Ok(signature));
        prop_assert_eq!(recover_with_ours(digest, &bytes), Some(key.address()));
        prop_assert_eq!(recover_with_k256(digest, &bytes), Some(key.address()));
        prop_assert!(verify(digest, &signature, key.public_key()));
        prop_assert_eq!(&recover(digest, &signature).unwrap(), key.public_key());

        // The malleated twin verifies in a lax library. Nowhere here.
        let r = U256::from_be_slice(&bytes[..32]);
        let s = U256::from_be_slice(&bytes[32..64]);
        let twin = join(r, ORDER - s, 27 + 28 - bytes[64]);
        let high = SignatureError::HighS { got: ORDER - s, limit: ORDER >> 1 };
        prop_assert_eq!(Signature::from_bytes(&twin), Err(high));
        prop_assert_eq!(recover_with_k256(digest, &twin), None);

        // One bit of anything else: agreed, and not this key's.
        for bit in [3usize, 100, 255, 256, 300, 511] {
            let mut spoiled = bytes;
            spoiled[bit / 8] ^= 1 << (bit % 8);
            let ours = recover_with_ours(digest, &spoiled);
            prop_assert_eq!(ours, recover_with_k256(digest, &spoiled));
            prop_assert_ne!(ours, Some(key.address()));
            if let Ok(spoiled) = Signature::from_bytes(&spoiled) {
                prop_assert!(!verify(digest, &spoiled, key.public_key()));
            }
        }
    }

    #[test]
    fn libraries_agree_on_any_bytes(
        r in scalars(),
        s in scalars(),
        v in prop_oneof![Just(27u8), Just(28), any::<u8>()],
        digest in any::<[u8; 32]>(),
    ) {
        let digest = B256::from(digest);
        let bytes = join(r, s, v);
        let ours = recover_with_ours(digest, &bytes);
        prop_assert_eq!(ours, recover_with_k256(digest, &bytes));

        // Verification agrees, too, for whatever key recovers, and for another.
        let Ok(signature) = Signature::from_bytes(&bytes) else { return Ok(()) };
        let stranger = escrow_key("stranger");
        prop_assert!(!verify(digest, &signature, stranger.public_key()));
        if let Ok(key) = recover(digest, &signature) {
            prop_assert!(verify(digest, &signature, &key));
            let rs = K256Signature::from_slice(&bytes[..64]).unwrap();
            let id = RecoveryId::new(v == 28, false);
            let theirs = VerifyingKey::recover_from_prehash(digest.as_slice(), &rs, id).unwrap();
            prop_assert!(theirs.verify_prehash(digest.as_slice(), &rs).is_ok());
        }
    }

    #[test]
    fn length_is_65(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if bytes.len() != 65 {
            prop_assert_eq!(Signature::from_bytes(&bytes), Err(SignatureError::Length { got: bytes.len() }));
        }
    }
}

/// Each degenerate form has its own error, with the value.
#[test]
fn forms_are_refused_by_name() {
    let one = U256::from(1);
    let half = ORDER >> 1;
    let error = |r, s, v| Signature::from_bytes(&join(r, s, v)).unwrap_err();
    assert_eq!(error(one, one, 0), SignatureError::BadV { got: 0 });
    assert_eq!(error(one, one, 29), SignatureError::BadV { got: 29 });
    assert_eq!(
        error(U256::ZERO, one, 27),
        SignatureError::ROutOfRange {
            got: U256::ZERO,
            limit: ORDER
        }
    );
    assert_eq!(
        error(ORDER, one, 27),
        SignatureError::ROutOfRange {
            got: ORDER,
            limit: ORDER
        }
    );
    assert_eq!(error(one, U256::ZERO, 27), SignatureError::SZero);
    assert_eq!(
        error(one, half + one, 27),
        SignatureError::HighS {
            got: half + one,
            limit: half
        }
    );
    assert_eq!(
        error(one, U256::MAX, 28),
        SignatureError::HighS {
            got: U256::MAX,
            limit: half
        }
    );
    assert!(Signature::from_bytes(&join(ORDER - one, half, 28)).is_ok());
    assert_eq!(
        Signature::from_bytes(&[1; 64]),
        Err(SignatureError::Length { got: 64 })
    );

    // x = 5 is on no point of the curve.
    let no_point = Signature::from_bytes(&join(U256::from(5), one, 27)).unwrap();
    assert!(matches!(
        recover(B256::ZERO, &no_point),
        Err(SignatureError::NoKey { v: 27, .. })
    ));
}

#[test]
fn private_keys_are_in_range_and_hidden() {
    assert!(EscrowKey::from_bytes(&[0; 32]).is_err());
    assert!(EscrowKey::from_bytes(&ORDER.to_be_bytes::<32>()).is_err());
    assert!(EscrowKey::from_bytes(&(ORDER - U256::from(1)).to_be_bytes::<32>()).is_ok());
    let key = EscrowKey::from_bytes(&[0x5a; 32]).unwrap();
    assert_eq!(*key.to_bytes(), [0x5a; 32]);
    assert_eq!(format!("{key:?}"), format!("Key({})", key.address()));
}
