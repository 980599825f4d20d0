//! A wallet in a TPM 2.0: key and payment log never leave the chip. Pure Rust, over the kernel's device or a software TPM's
//! socket ([`transport`]).
//!
//! ```text
//!   create ─▶ begin ──challenge──▶ registrar ──authorisation──▶ write_first ─▶ extend, certify ─▶ extend, certify ─▶ …
//!    key,      session                signs once                 genesis         free, offline
//!    index
//! ```
//!
//! - The **key** is a restricted signing key under the owner hierarchy's storage root; its encrypted blob is in the wallet's
//!   folder and loads in this TPM only.
//! - The **log** is an NV index of type extend. Its first entry needs the registrar ([`policy`]), so whoever undefines it and
//!   defines it again cannot begin a second log without. TPM2_Clear ends index and key together.
//! - The **registrar** must sign the first entry of a wallet once: [`Challenge::authorise`] says why.
//!
//! Registration, in the one order that leaves no second log. Equal handles and registrars give equal Names on every TPM, so
//! the Name alone shows nothing; step 4 does, because a key certifies only what its own TPM holds.
//!
//! 1. The wallet sends endorsement certificate, [`KeyArea`] and index; the registrar checks the certificate's chain.
//! 2. [`make_credential`], [`Tpm::activate_credential`]: the key is in that TPM.
//! 3. [`Tpm::begin`], [`Challenge::authorise`] with the digest of the registration and an expiration, [`Tpm::write_first`].
//! 4. [`Tpm::certify_first`], [`Certified::verify`]: the log is in the same TPM, and has begun with this registration.
//! 5. Only now the registrar signs the registration. From here on it never authorises for this key again.
//!
//! What a TPM cannot do: refuse to log an input twice, or an entry out of sequence. It makes the log visible to the payee and
//! the contract, and they refuse. And a software TPM can be copied with its log; its endorsement is worth what its maker says.
//!
//! Between machine and chip everything that matters goes through a salted session (`session.rs`): who is on the bus neither
//! reads a password or an activated secret, nor changes, repeats or invents an entry, a head, a certificate or a signature
//! unnoticed. The session's salt goes to the storage root, whose Name is pinned in the wallet's folder when the wallet is made:
//! **trust on first use**, until the first certificate, in which the TPM itself says under which root the key is. So whoever
//! showed another root is found out at registration, before the registrar signs ([`Tpm::certify_first`]); that the key itself is
//! a TPM's, the registrar has found out in step 2.
//!
//! Who is on the bus can still spoil a wallet, as by cutting a wire: the free branch of the log's policy asks for no secret, so
//! it may extend the log by what nobody knows. The wallet believes no answer without an HMAC, and refuses the head that it
//! finds. And with an owner's password: that is told before the pinned root can be used, to a key that is not pinned. Who
//! changes that key in transit sees an HMAC to guess the password by, so it should not be guessable.

pub mod certificate;
mod commands;
pub mod credential;
mod device;
pub mod policy;
mod session;
pub mod transport;
mod wire;

#[cfg(test)]
mod attack;
#[cfg(test)]
mod interposer;

use std::path::Path;

use sha2::{Digest as _, Sha256};
use tpm2_protocol::data::TpmRh;
use zeroize::Zeroizing;

use crate::files::{self, Lock};
use crate::{
    Certified, Entry, Genesis, Head, LogsTransfers, MessageDigest, PublicKey, Result, Signature,
    TransferDigest, Transfers, TrustedError, TrustedWallet,
};
use commands::Created;
use device::{Auth, Device, Handle, Primary};
use policy::{endorsement_template, public_point, registrar_public, wallet_template};
use session::Cover;
use transport::Transport;
use wire::{Reader, Writer};

pub use credential::{Credential, make_credential};
pub use policy::{Authorisation, Challenge, EndorsementKey, IndexHandle, KeyArea, LogIndex, Name};

const FILE: &str = "tpm-wallet";
const MAGIC: &[u8; 8] = b"mptpm 2\n";
/// Where TPM makers put the certificate of the ECC P-256 endorsement key (TCG EK Credential Profile, low range).
const ENDORSEMENT_CERTIFICATE: u32 = 0x01c0_000a;

/// Passwords of the TPM's hierarchies; empty on most machines.
#[derive(Clone, Default)]
pub struct Passwords {
    /// The owner's: to make keys and to define the log.
    pub owner: Zeroizing<Vec<u8>>,
    /// The endorsement hierarchy's: to show which TPM this is.
    pub endorsement: Zeroizing<Vec<u8>>,
}

/// Plays the TPM's maker: puts a certificate where makers put it.
#[cfg(feature = "swtpm")]
pub(crate) fn install_certificate(transport: Box<dyn Transport>, certificate: &[u8]) -> Result<()> {
    Device::new(transport, Passwords::default(), None)?.nv_store(ENDORSEMENT_CERTIFICATE, certificate)
}

/// A wallet in a TPM. Kind LOG.
pub struct Tpm {
    device: Device,
    /// The Name of the storage root, pinned.
    root: Name,
    key: KeyArea,
    key_handle: u32,
    index: LogIndex,
    /// The session in which the first entry waits for the registrar, and its nonce.
    begun: Option<(u32, [u8; 32])>,
    /// Between reading the head and extending it no other process comes.
    _lock: Lock,
}

impl Tpm {
    /// Makes a wallet: key, file in `folder`, and the empty log.
    ///
    /// # Errors
    ///
    /// [`TrustedError::Exists`] if the folder has one; [`TrustedError::Refused`] with `TPM_RC_NV_DEFINED` if the handle is in
    /// use (the wallet's file is there then: [`Tpm::define`] when the handle is free), with `TPM_RC_BAD_AUTH` for a wrong
    /// password.
    pub fn create(
        transport: Box<dyn Transport>,
        folder: &Path,
        passwords: Passwords,
        index: LogIndex,
    ) -> Result<Self> {
        let lock = files::prepare(folder, FILE)?;
        let mut device = Device::new(transport, passwords, None)?;
        let root = device.storage_root()?;
        let created = device.create(&root, &wallet_template())?;
        let content = Writer::default()
            .raw(MAGIC)
            .u32(index.handle.0)
            .raw(&index.registrar.0)
            .raw(&root.name().0)
            .sized(&created.public)
            .sized(&created.private)
            .done();
        files::replace(&folder.join(FILE), &content)?;
        let mut wallet = Self::load(device, &root, index, &created, lock)?;
        wallet.define()?;
        Ok(wallet)
    }

    /// Opens the wallet of `folder`: after a restart of the program, or of the TPM.
    ///
    /// # Errors
    ///
    /// [`TrustedError::InUse`], [`TrustedError::File`], [`TrustedError::Malformed`]; [`TrustedError::OtherRoot`] if the TPM is
    /// another, or was cleared, or somebody between shows a key of its own.
    pub fn open(transport: Box<dyn Transport>, folder: &Path, passwords: Passwords) -> Result<Self> {
        let lock = files::lock(folder)?;
        let content = files::read(&folder.join(FILE))?;
        let mut reader = Reader::new("wallet file", &content);
        let magic = reader.array::<8>()?;
        if magic != *MAGIC {
            return Err(TrustedError::Malformed {
                what: "wallet file",
                got: format!("{magic:?}"),
                expected: format!("{MAGIC:?}"),
            });
        }
        let index = LogIndex {
            handle: IndexHandle(reader.u32()?),
            registrar: PublicKey(reader.array()?),
        };
        let pinned = Name(reader.array()?);
        let (public, private) = (reader.sized()?.to_vec(), reader.sized()?.to_vec());
        reader.end()?;
        let mut device = Device::new(transport, passwords, Some(pinned))?;
        let root = device.storage_root()?;
        Self::load(device, &root, index, &Created { private, public }, lock)
    }

    fn load(
        mut device: Device,
        root: &Primary,
        index: LogIndex,
        created: &Created,
        lock: Lock,
    ) -> Result<Self> {
        let key = KeyArea::parse(&created.public)?;
        let key_handle = device.load(root, created)?;
        device.secure(root)?;
        device.flush(root.handle)?;
        Ok(Self {
            device,
            root: root.name(),
            key,
            key_handle,
            index,
            begun: None,
            _lock: lock,
        })
    }

    /// What the registrar is sent about the key.
    pub fn key_area(&self) -> &KeyArea {
        &self.key
    }

    /// The log's index.
    pub fn index(&self) -> LogIndex {
        self.index
    }

    /// Defines the log's index, without entries. [`Tpm::create`] has done it.
    ///
    /// # Errors
    ///
    /// [`TrustedError::Refused`], as [`Tpm::create`].
    pub fn define(&mut self) -> Result<()> {
        self.device.nv_define(&self.index.definition())
    }

    /// Removes the log. **The wallet cannot pay again**: the registrar signs a log's beginning once.
    ///
    /// # Errors
    ///
    /// [`TrustedError::Refused`] with `TPM_RC_HANDLE` if there is none.
    pub fn undefine(&mut self) -> Result<()> {
        self.device.nv_undefine(self.index.handle.0)
    }

    /// Begins the log: opens the session for its first entry, and returns what the registrar signs. The session is lost with
    /// this value, with the connection, and when the TPM restarts.
    ///
    /// # Errors
    ///
    /// The TPM failed.
    pub fn begin(&mut self) -> Result<Challenge> {
        if let Some((session, _)) = self.begun.take() {
            self.device.end_session(session)?;
        }
        let (session, nonce) = self.device.start_policy()?;
        self.begun = Some((session, nonce));
        Ok(Challenge {
            index: self.index,
            nonce,
        })
    }

    /// Writes the log's first entry, the digest of the wallet's registration. A signature that is not good leaves the session
    /// open for a better one.
    ///
    /// # Errors
    ///
    /// [`TrustedError::NotBegun`]; [`TrustedError::Refused`]: `TPM_RC_SIGNATURE` if it is for another session, entry, index or
    /// by another key, `TPM_RC_EXPIRED` if it came too late, `TPM_RC_POLICY_FAIL` if the log has entries already.
    pub fn write_first(&mut self, authorisation: &Authorisation) -> Result<Head> {
        self.write_first_as(authorisation, &authorisation.genesis.0)?;
        Ok(Head::first(authorisation.genesis))
    }

    /// The certificate that the log has begun with `genesis`, and has no other entry: for the registrar. Its qualifying data is
    /// made from `genesis` as a payment's is from the transfer.
    ///
    /// # Errors
    ///
    /// As [`LogsTransfers::certify`].
    pub fn certify_first(&mut self, genesis: Genesis) -> Result<Certified> {
        self.certify(Head::first(genesis), TransferDigest(genesis.0))
    }

    /// `data` is the genesis, but in attacks.
    fn write_first_as(&mut self, authorisation: &Authorisation, data: &[u8]) -> Result<()> {
        let (session, nonce) = self.begun.ok_or(TrustedError::NotBegun)?;
        let challenge = Challenge {
            index: self.index,
            nonce,
        };
        let registrar = self
            .device
            .load_external(&registrar_public(self.index.registrar))?;
        let signed = self
            .device
            .policy_signed(session, registrar, &challenge, authorisation);
        self.device.flush(registrar)?;
        signed?;
        self.begun = None;
        self.in_session(session, |device, index| {
            device.policy_or(session, &index.branches())?;
            let unwritten = Handle::named(index.handle.0, index.unwritten_name());
            device.nv_extend_first(unwritten, session, data)
        })
    }

    /// Extends by the free branch of the policy.
    fn append(&mut self, data: &[u8]) -> Result<()> {
        let (session, _) = self.device.start_policy()?;
        self.in_session(session, |device, index| {
            device.policy_nv_written(session)?;
            device.policy_or(session, &index.branches())?;
            device.nv_extend(Handle::named(index.handle.0, index.name()), session, data)
        })
    }

    /// A policy session ends with the command that it authorises. If that failed, it may be there still.
    fn in_session(
        &mut self,
        session: u32,
        act: impl FnOnce(&mut Device, LogIndex) -> Result<()>,
    ) -> Result<()> {
        let done = act(&mut self.device, self.index);
        if done.is_err() {
            self.device.abandon(session);
        }
        done
    }

    /// The TPM's endorsement key (ECC P-256). On a chip this takes a second.
    ///
    /// # Errors
    ///
    /// [`TrustedError::Refused`] with `TPM_RC_BAD_AUTH` if the hierarchy has a password.
    pub fn endorsement_key(&mut self) -> Result<EndorsementKey> {
        let key = self.load_endorsement()?;
        self.device.flush(key.handle)?;
        public_point(&key.public).map(EndorsementKey)
    }

    fn load_endorsement(&mut self) -> Result<Primary> {
        self.device
            .create_primary(TpmRh::Endorsement, &endorsement_template())
    }

    /// The maker's certificate of the endorsement key, X.509 DER (some makers pad it), or `None` where the chip has none.
    ///
    /// # Errors
    ///
    /// The TPM failed.
    pub fn endorsement_certificate(&mut self) -> Result<Option<Vec<u8>>> {
        match self.device.nv_read_all(ENDORSEMENT_CERTIFICATE) {
            Ok(certificate) => Ok(Some(certificate)),
            Err(error) if error.refusal().as_deref() == Some("TPM_RC_HANDLE") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives back the secret of a registrar's [`make_credential`]: proof that this TPM has both the endorsement key and the
    /// wallet key.
    ///
    /// # Errors
    ///
    /// [`TrustedError::Refused`] with `TPM_RC_INTEGRITY` if it is for another wallet key, or damaged; with `TPM_RC_VALUE` or
    /// `TPM_RC_INTEGRITY` if it is for another TPM.
    pub fn activate_credential(&mut self, credential: &Credential) -> Result<Zeroizing<[u8; 32]>> {
        let endorsement = self.load_endorsement()?;
        let secret = self.activate(&endorsement, credential);
        self.device.flush(endorsement.handle)?;
        let secret = Zeroizing::new(secret?);
        let length = secret.len();
        <[u8; 32]>::try_from(secret.as_slice())
            .map(Zeroizing::new)
            .map_err(|_| TrustedError::Malformed {
                what: "activated secret",
                got: format!("{length} bytes"),
                expected: "32 bytes".to_owned(),
            })
    }

    fn activate(&mut self, endorsement: &Primary, credential: &Credential) -> Result<Vec<u8>> {
        let (session, _) = self.device.start_policy()?;
        let mut secret = Vec::new();
        let key = self.key_handle();
        self.in_session(session, |device, _| {
            device.policy_secret(session, TpmRh::Endorsement)?;
            secret = device.activate_credential(key, endorsement, session, credential)?;
            Ok(())
        })?;
        Ok(secret)
    }

    fn key_handle(&self) -> Handle {
        Handle::named(self.key_handle, self.key.name())
    }

    fn read_head(&mut self, name: Name) -> Result<Head> {
        let index = Handle::named(self.index.handle.0, name);
        let head = self.device.nv_read(index, Auth::Session(Cover::Answer), 32, 0)?;
        Reader::new("head", &head).array().map(Head)
    }

    /// The Name that the TPM itself gives the log now: [`LogIndex::unwritten_name`] before the first entry, and
    /// [`LogIndex::name`] after it.
    ///
    /// # Errors
    ///
    /// [`TrustedError::Refused`] with `TPM_RC_HANDLE` if there is no log.
    pub fn current_name(&mut self) -> Result<Name> {
        self.device
            .nv_read_public(self.index.handle.0)
            .map(|(_, name)| name)
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        // What cannot be told now, because the TPM is away, is cleared by who opens the wallet next.
        if let Some((session, _)) = self.begun.take() {
            self.device.abandon(session);
        }
        drop(self.device.close(self.key_handle));
    }
}

impl TrustedWallet for Tpm {
    fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    fn sign(&mut self, message: MessageDigest) -> Result<Signature> {
        let key = self.key_handle();
        let signature = self.device.sign(key, &message.0)?;
        let signature = signature.ok_or(TrustedError::NotSignable(message))?;
        certificate::verify(self.public_key(), message.0, signature)?;
        Ok(signature)
    }

    fn transfers(&mut self) -> Transfers<'_> {
        Transfers::Log(self)
    }
}

impl LogsTransfers for Tpm {
    fn head(&mut self) -> Result<Head> {
        match self.read_head(self.index.name()) {
            // The session signs Names, and a log that has not begun has another: let the TPM say that it has no head.
            Err(error)
                if error.refusal().as_deref() == Some("TPM_RC_BAD_AUTH")
                    && self.current_name()? == self.index.unwritten_name() =>
            {
                self.read_head(self.index.unwritten_name())
            }
            head => head,
        }
    }

    fn extend(&mut self, base: Head, entry: Entry) -> Result<Head> {
        // The TPM would append to any head. Nobody comes between: the folder is locked.
        let got = self.head()?;
        if got != base {
            return Err(TrustedError::HeadMismatch { got, expected: base });
        }
        self.append(&entry.0)?;
        Ok(base.then(entry))
    }

    fn certify(&mut self, head: Head, transfer: TransferDigest) -> Result<Certified> {
        let qualifying = Sha256::digest(transfer.0).into();
        let key = self.key_handle();
        let index = Handle::named(self.index.handle.0, self.index.name());
        let (attest, signature) = self.device.nv_certify(key, index, &qualifying)?;
        let length = attest.len();
        let attest = attest.try_into().map_err(|_| TrustedError::Malformed {
            what: "certificate",
            got: format!("{length} bytes"),
            expected: format!("{} bytes", certificate::LENGTH),
        })?;
        let certified = Certified { attest, signature };
        if certified.head() != head {
            return Err(TrustedError::HeadMismatch {
                got: certified.head(),
                expected: head,
            });
        }
        // Nothing leaves that a payee would refuse, should the bus or the chip be faulty.
        certified.verify(self.public_key(), self.index.name(), head, transfer)?;
        certified.check_signer(self.root, self.key.name())?;
        Ok(certified)
    }

    fn log_name(&self) -> Name {
        self.index.name()
    }
}
