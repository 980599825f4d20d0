//! A salted session: what goes through it, passwords and the activated secret, cannot be read from the bus between machine
//! and chip, nor changed there. TPM 2.0 Architecture, section 19.
//!
//! The salt is encrypted to a key of the TPM's null hierarchy, made for this. Whoever reads the bus learns nothing; whoever
//! replaces that key in transit does, and can only spoil a wallet: neither key nor log depend on the session.

use aes::Aes128;
use aes::cipher::KeyIvInit as _;
use tpm2_protocol::data::{TpmCc, TpmaSession};
use zeroize::Zeroizing;

use super::credential::{mac, shared_seed};
use super::policy::hash;
use super::wire::{Reader, Writer};
use crate::{PublicKey, Result, TrustedError};

pub(super) struct Salted {
    handle: u32,
    key: Zeroizing<[u8; 32]>,
    nonce_tpm: [u8; 32],
}

/// Drawn before the TPM is asked for a session.
pub(super) struct Salt {
    pub(super) nonce: [u8; 32],
    /// `TPMS_ECC_POINT` for StartAuthSession.
    pub(super) encrypted: Vec<u8>,
    salt: Zeroizing<[u8; 32]>,
}

/// One command's part: what its response is checked with.
pub(super) struct Sent {
    nonce: [u8; 32],
    key: Zeroizing<Vec<u8>>,
    encrypted: bool,
}

impl Salt {
    pub(super) fn draw(key: PublicKey) -> Result<Self> {
        let (salt, encrypted) = shared_seed(key, b"SECRET\0")?;
        Ok(Self {
            nonce: rand::random(),
            encrypted,
            salt,
        })
    }

    pub(super) fn session(self, handle: u32, nonce_tpm: [u8; 32]) -> Salted {
        let parts: [&[u8]; 5] = [
            &1u32.to_be_bytes(),
            b"ATH\0",
            &nonce_tpm,
            &self.nonce,
            &256u32.to_be_bytes(),
        ];
        Salted {
            handle,
            key: Zeroizing::new(mac(self.salt.as_slice(), &parts)),
            nonce_tpm,
        }
    }
}

impl Salted {
    /// The session's entry in a command's authorisation area: for a hierarchy's `password`, or (`encrypted`) so that the
    /// response's first parameter comes back encrypted.
    pub(super) fn authorise(
        &self,
        area: Writer,
        cp_hash: &[u8; 32],
        password: &[u8],
        encrypted: bool,
    ) -> (Writer, Sent) {
        let nonce: [u8; 32] = rand::random();
        let attributes = if encrypted {
            TpmaSession::CONTINUE_SESSION | TpmaSession::ENCRYPT
        } else {
            TpmaSession::CONTINUE_SESSION
        };
        let attributes = attributes.bits();
        // A TPM takes trailing zeros off passwords.
        let length = password
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let mut key = Zeroizing::new(self.key.to_vec());
        key.extend_from_slice(&password[..length]);
        let hmac = mac(&key, &[cp_hash, &nonce, &self.nonce_tpm, &[attributes]]);
        let area = area.u32(self.handle).sized(&nonce).u8(attributes).sized(&hmac);
        (
            area,
            Sent {
                nonce,
                key,
                encrypted,
            },
        )
    }

    /// Checks the session's entry in the response, decrypts the first parameter, and goes on to the next nonce.
    pub(super) fn accept(
        &mut self,
        command: TpmCc,
        sent: &Sent,
        entry: &mut Reader<'_>,
        parameters: &mut [u8],
    ) -> Result<()> {
        let nonce_tpm = entry.scalar()?;
        let attributes = entry.u8()?;
        let got = entry.sized()?;
        let rp_hash = hash(&[&[0; 4], &command.value().to_be_bytes(), parameters]);
        let expected = mac(&sent.key, &[&rp_hash, &nonce_tpm, &sent.nonce, &[attributes]]);
        if got != expected {
            return Err(TrustedError::Malformed {
                what: "HMAC of a response: changed on the bus?",
                got: hex(got),
                expected: hex(&expected),
            });
        }
        self.nonce_tpm = nonce_tpm;
        if sent.encrypted && parameters.len() > 2 {
            let parts: [&[u8]; 5] = [
                &1u32.to_be_bytes(),
                b"CFB\0",
                &nonce_tpm,
                &sent.nonce,
                &256u32.to_be_bytes(),
            ];
            let both = Zeroizing::new(mac(&sent.key, &parts));
            let (mut key, mut iv) = (Zeroizing::new([0; 16]), [0; 16]);
            key.copy_from_slice(&both[..16]);
            iv.copy_from_slice(&both[16..]);
            // The size stays in clear. Our encrypted responses have one parameter.
            cfb_mode::Decryptor::<Aes128>::new(&(*key).into(), &iv.into()).decrypt(&mut parameters[2..]);
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
