//! A salted HMAC session between wallet and chip: who is on the bus between them neither changes a command or an answer
//! unnoticed, nor repeats one, nor reads what is encrypted. TPM 2.0 Architecture, sections 19 and 21.
//!
//! ```text
//!   session key = KDFa(salt, nonces)       the salt goes to the TPM's storage root, whose Name the wallet has pinned
//!   command ─▶  HMAC(cpHash ‖ nonce of the wallet ‖ last nonce of the TPM ‖ attributes)
//!   answer  ◀─  HMAC(rpHash ‖ new nonce of the TPM ‖ nonce of the wallet ‖ attributes)     checked before it is believed
//! ```
//!
//! Both sides draw a nonce for each command, so that an HMAC is good once. A first parameter that is a byte string is
//! encrypted (AES-128-CFB), under a key of its own each time, by the same nonces.
//!
//! What it cannot cover: an answer that says no has no session. A false no costs a retry; nothing is released for it.

use aes::Aes128;
use aes::cipher::KeyIvInit as _;
use tpm2_protocol::data::{TpmCc, TpmaSession};
use zeroize::Zeroizing;

use super::credential::{kdf_a, mac, shared_seed};
use super::policy::{hash, hex};
use super::wire::{Reader, Writer};
use crate::{PublicKey, Result, TrustedError};

/// What a session does for a command besides its HMAC.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cover {
    /// Nothing: it authorises, and there is nothing to encrypt.
    Authorise,
    /// Nothing: it does not authorise either, and a TPM wants a reason for its presence.
    Audit,
    /// Encrypts the command's first parameter.
    Command,
    /// Encrypts the answer's first parameter.
    Answer,
    /// Encrypts both.
    Both,
}

impl Cover {
    fn attributes(self) -> u8 {
        let cover = match self {
            Self::Authorise => TpmaSession::CONTINUE_SESSION,
            Self::Audit => TpmaSession::AUDIT,
            Self::Command => TpmaSession::DECRYPT,
            Self::Answer => TpmaSession::ENCRYPT,
            Self::Both => TpmaSession::DECRYPT | TpmaSession::ENCRYPT,
        };
        (TpmaSession::CONTINUE_SESSION | cover).bits()
    }
}

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

/// One command's part in a session: what its answer is checked with.
pub(super) struct Sent {
    nonce: [u8; 32],
    key: Zeroizing<Vec<u8>>,
    cover: Cover,
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
        Salted {
            handle,
            key: kdf_a(self.salt.as_slice(), b"ATH\0", &[&nonce_tpm, &self.nonce], 256),
            nonce_tpm,
        }
    }
}

impl Salted {
    pub(super) fn handle(&self) -> u32 {
        self.handle
    }

    /// Begins a command: encrypts its first parameter, if that is covered. `password` is that of what the session authorises.
    pub(super) fn begin(&self, password: &[u8], cover: Cover, parameters: &mut [u8]) -> Result<Sent> {
        // A TPM takes trailing zeros off passwords.
        let length = password
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let sent = Sent {
            nonce: rand::random(),
            key: Zeroizing::new([self.key.as_slice(), &password[..length]].concat()),
            cover,
        };
        if matches!(cover, Cover::Command | Cover::Both) {
            let (key, iv) = sent.cipher(&sent.nonce, &self.nonce_tpm);
            cfb_mode::Encryptor::<Aes128>::new(&(*key).into(), &iv.into()).encrypt(first(parameters)?);
        }
        Ok(sent)
    }

    /// The session's entry in the command's authorisation area. `cp_hash` is of the parameters as they are sent.
    pub(super) fn entry(&self, sent: &Sent, area: Writer, cp_hash: &[u8; 32]) -> Writer {
        let attributes = sent.cover.attributes();
        let hmac = mac(&sent.key, &[cp_hash, &sent.nonce, &self.nonce_tpm, &[attributes]]);
        area.u32(self.handle)
            .sized(&sent.nonce)
            .u8(attributes)
            .sized(&hmac)
    }

    /// Checks the session's entry in the answer, decrypts the first parameter, and goes on to the next nonce.
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
        // Time may tell how much of it was right: it is good for this one answer only, and a second try is another command.
        if got != expected {
            return Err(TrustedError::ForgedAnswer {
                command: command.to_string(),
                got: hex(got),
                expected: hex(&expected),
            });
        }
        self.nonce_tpm = nonce_tpm;
        if matches!(sent.cover, Cover::Answer | Cover::Both) {
            let (key, iv) = sent.cipher(&nonce_tpm, &sent.nonce);
            cfb_mode::Decryptor::<Aes128>::new(&(*key).into(), &iv.into()).decrypt(first(parameters)?);
        }
        Ok(())
    }
}

impl Sent {
    /// Key and initial vector for one direction of one command.
    fn cipher(&self, newer: &[u8; 32], older: &[u8; 32]) -> (Zeroizing<[u8; 16]>, [u8; 16]) {
        let both = kdf_a(&self.key, b"CFB\0", &[newer, older], 256);
        let (mut key, mut iv) = (Zeroizing::new([0; 16]), [0; 16]);
        key.copy_from_slice(&both[..16]);
        iv.copy_from_slice(&both[16..]);
        (key, iv)
    }
}

/// The bytes of the first parameter; its length stays in clear.
fn first(parameters: &mut [u8]) -> Result<&mut [u8]> {
    let length = Reader::new("first parameter", parameters).sized()?.len();
    Ok(&mut parameters[2..2 + length])
}
