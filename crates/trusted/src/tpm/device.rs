//! How a command is sent: handles, sessions, parameters in one frame, over a [`Transport`]. And the life of the one salted
//! session that a wallet has.
//!
//! ```text
//!   none ──first need──▶ open ──each command: a nonce from both sides──▶ open
//!    ▲                    │
//!    └──── any failure ───┘   who is ahead is not known then, so the next command begins a new one
//! ```
//!
//! One session for all commands: to begin one costs the TPM a primary key and a point multiplication, on a software TPM about as
//! much time as a payment.

use std::thread::sleep;
use std::time::Duration;

use tpm2_protocol::data::{TpmAlgId, TpmCap, TpmCc, TpmRc, TpmRcBase, TpmRh, TpmSe, TpmSt};

use super::Passwords;
use super::policy::{Name, hash, parent_template, public_point};
use super::session::{Cover, Salt, Salted, Sent};
use super::transport::Transport;
use super::wire::{Reader, Writer};
use crate::{ResponseCode, Result, TrustedError};

/// How often a command is sent again when the TPM is busy, and how much longer each pause is.
const RETRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);
const TRANSIENT: u32 = 0x8000_0000;
const LOADED_SESSIONS: u32 = 0x0200_0000;
const SAVED_SESSIONS: u32 = 0x0300_0000;

#[derive(Clone, Copy)]
pub(super) enum Auth {
    /// The empty password: what it opens is not closed by passwords.
    Empty,
    /// A hierarchy's password: by the session, so that it never is on the bus. An empty one is no secret.
    Hierarchy(TpmRh),
    /// The session, for something without a password, or for nothing but what it covers.
    Session(Cover),
    /// A policy session; it ends with the command.
    Policy(u32),
}

/// What a command is about. The session signs Names: a TPM that has something else at the handle refuses.
#[derive(Clone, Copy)]
pub(super) struct Handle {
    value: u32,
    name: Option<Name>,
}

impl Handle {
    /// Hierarchies and sessions, which are their own Names; and what goes to no session.
    pub(super) fn bare(value: u32) -> Self {
        Self { value, name: None }
    }

    pub(super) fn named(value: u32, name: Name) -> Self {
        let name = Some(name);
        Self { value, name }
    }

    fn name(&self) -> Vec<u8> {
        match &self.name {
            Some(name) => name.0.to_vec(),
            None => self.value.to_be_bytes().to_vec(),
        }
    }
}

/// A primary key, loaded.
pub(super) struct Primary {
    pub(super) handle: u32,
    pub(super) public: Vec<u8>,
}

impl Primary {
    pub(super) fn name(&self) -> Name {
        Name::of(&self.public)
    }
}

pub(super) struct Device {
    transport: Box<dyn Transport>,
    passwords: Passwords,
    /// The Name that the storage root must have. `None` until a new wallet has seen it.
    root: Option<Name>,
    /// Begun when it is needed.
    salted: Option<Salted>,
    /// Sessions that failed, and may be there or not: flushed before another is begun, as a TPM has room for three.
    abandoned: Vec<u32>,
}

impl Device {
    pub(super) fn new(
        transport: Box<dyn Transport>,
        passwords: Passwords,
        root: Option<Name>,
    ) -> Result<Self> {
        let managed = transport.managed();
        let mut device = Self {
            transport,
            passwords,
            root,
            salted: None,
            abandoned: Vec::new(),
        };
        if !managed {
            for kind in [TRANSIENT, LOADED_SESSIONS, SAVED_SESSIONS] {
                for handle in device.handles(kind)? {
                    // A saved session is flushed by the handle it had.
                    device.flush(if kind == SAVED_SESSIONS {
                        LOADED_SESSIONS | (handle & 0x00ff_ffff)
                    } else {
                        handle
                    })?;
                }
            }
        }
        Ok(device)
    }

    /// A response's handle, if there is one, and its parameters.
    pub(super) fn run(
        &mut self,
        command: TpmCc,
        handles: &[Handle],
        auths: &[Auth],
        parameters: &[u8],
    ) -> Result<Vec<u8>> {
        let mut parameters = parameters.to_vec();
        let sent = self.begin(auths, &mut parameters)?;
        let frame = self.frame(command, handles, auths, &parameters, sent.as_ref());
        let answer = self
            .exchange(command, &frame)
            .and_then(|body| self.accept(command, auths, sent.as_ref(), body));
        if sent.is_some() && answer.is_err() {
            self.abandoned
                .extend(self.salted.take().map(|salted| salted.handle()));
        }
        answer
    }

    /// The session's part, if one of `auths` asks for it.
    fn begin(&mut self, auths: &[Auth], parameters: &mut [u8]) -> Result<Option<Sent>> {
        let Some((hierarchy, cover)) = auths.iter().find_map(|auth| self.session_for(auth)) else {
            return Ok(None);
        };
        let salted = match self.salted.take() {
            Some(salted) => salted,
            None => self.start_salted()?,
        };
        let password = hierarchy.map_or(&[][..], |hierarchy| self.password(hierarchy));
        let sent = salted.begin(password, cover, parameters);
        self.salted = Some(salted);
        sent.map(Some)
    }

    fn session_for(&self, auth: &Auth) -> Option<(Option<TpmRh>, Cover)> {
        match *auth {
            Auth::Hierarchy(hierarchy) if !self.password(hierarchy).is_empty() => {
                Some((Some(hierarchy), Cover::Authorise))
            }
            Auth::Session(cover) => Some((None, cover)),
            Auth::Hierarchy(_) | Auth::Empty | Auth::Policy(_) => None,
        }
    }

    fn password(&self, hierarchy: TpmRh) -> &[u8] {
        match hierarchy {
            TpmRh::Owner => &self.passwords.owner,
            TpmRh::Endorsement => &self.passwords.endorsement,
            _ => &[],
        }
    }

    fn frame(
        &self,
        command: TpmCc,
        handles: &[Handle],
        auths: &[Auth],
        parameters: &[u8],
        sent: Option<&Sent>,
    ) -> Vec<u8> {
        let mut body = handles
            .iter()
            .fold(Writer::default(), |body, handle| body.u32(handle.value));
        if !auths.is_empty() {
            let names: Vec<u8> = handles.iter().flat_map(Handle::name).collect();
            let cp_hash = hash(&[&command.value().to_be_bytes(), &names, parameters]);
            let area = auths.iter().fold(Writer::default(), |area, auth| {
                match (auth, &self.salted, sent, self.session_for(auth)) {
                    (_, Some(salted), Some(sent), Some(_)) => salted.entry(sent, area, &cp_hash),
                    // No HMAC: the session has neither salt nor binding, and its policy asks for no password.
                    (Auth::Policy(session), ..) => area.u32(*session).sized(&[]).u8(0).sized(&[]),
                    _ => area.u32(TpmRh::Pw.value()).sized(&[]).u8(0).sized(&[]),
                }
            });
            let area = area.done();
            body = body.u32(u32::try_from(area.len()).unwrap_or(u32::MAX)).raw(&area);
        }
        let tag = if auths.is_empty() {
            TpmSt::NoSessions
        } else {
            TpmSt::Sessions
        };
        let body = body.raw(parameters).done();
        Writer::default()
            .u16(tag.value())
            .u32(u32::try_from(body.len() + 10).unwrap_or(u32::MAX))
            .u32(command.value())
            .raw(&body)
            .done()
    }

    /// Checks an answer's sessions, and gives its handle and parameters.
    fn accept(
        &mut self,
        command: TpmCc,
        auths: &[Auth],
        sent: Option<&Sent>,
        body: Vec<u8>,
    ) -> Result<Vec<u8>> {
        if auths.is_empty() {
            return Ok(body);
        }
        // Where sessions authorised the command, the parameters have a length, and after them come the sessions. A handle
        // comes first; of our commands these return one.
        let mut reader = Reader::new("response", &body);
        let with_handle = matches!(command, TpmCc::CreatePrimary | TpmCc::Load);
        let handle = reader.take(if with_handle { 4 } else { 0 })?;
        let length = reader.u32()?;
        let mut parameters = reader
            .take(usize::try_from(length).unwrap_or(usize::MAX))?
            .to_vec();
        for auth in auths {
            let in_session = self.session_for(auth).is_some();
            match (sent, &mut self.salted) {
                (Some(sent), Some(salted)) if in_session => {
                    salted.accept(command, sent, &mut reader, &mut parameters)?;
                }
                _ => {
                    reader.sized()?;
                    reader.u8()?;
                    reader.sized()?;
                }
            }
        }
        reader.end()?;
        Ok([handle, &parameters].concat())
    }

    /// The storage root, loaded, if it is the one that was pinned: without the session, which is made with it.
    pub(super) fn storage_root(&mut self) -> Result<Primary> {
        // The owner's password, too, must not be on the bus. Nothing that is pinned can be used before it is told, so it goes
        // through a session of its own, with a key that the TPM makes up for it.
        let first = self.salted.is_none() && !self.passwords.owner.is_empty();
        if first {
            let key = self.create_primary(TpmRh::Null, &parent_template())?;
            self.salted = Some(self.salted_to(&key)?);
            self.flush(key.handle)?;
        }
        let root = self.create_primary(TpmRh::Owner, &parent_template());
        if first && let Some(salted) = self.salted.take() {
            self.end_session(salted.handle())?;
        }
        let root = root?;
        let (got, expected) = (root.name(), *self.root.get_or_insert(root.name()));
        if got == expected {
            return Ok(root);
        }
        self.flush(root.handle)?;
        Err(TrustedError::OtherRoot { got, expected })
    }

    /// Begins the session while the storage root is loaded anyway.
    pub(super) fn secure(&mut self, root: &Primary) -> Result<()> {
        self.salted = Some(self.salted_to(root)?);
        Ok(())
    }

    fn start_salted(&mut self) -> Result<Salted> {
        let root = self.storage_root()?;
        let salted = self.salted_to(&root);
        self.flush(root.handle)?;
        salted
    }

    fn salted_to(&mut self, key: &Primary) -> Result<Salted> {
        let salt = Salt::draw(public_point(&key.public)?)?;
        let (handle, nonce_tpm) =
            self.start_session(TpmSe::Hmac, key.handle, &salt.nonce, &salt.encrypted)?;
        Ok(salt.session(handle, nonce_tpm))
    }

    /// Handle and nonce of a new policy session.
    pub(super) fn start_policy(&mut self) -> Result<(u32, [u8; 32])> {
        // A TPM's nonce is as long as the caller's.
        self.start_session(TpmSe::Policy, TpmRh::Null.value(), &rand::random(), &[])
    }

    fn start_session(
        &mut self,
        kind: TpmSe,
        salt_key: u32,
        nonce: &[u8; 32],
        encrypted_salt: &[u8],
    ) -> Result<(u32, [u8; 32])> {
        while let Some(handle) = self.abandoned.last() {
            self.end_session(*handle)?;
            self.abandoned.pop();
        }
        let parameters = Writer::default()
            .sized(nonce)
            .sized(encrypted_salt)
            .u8(kind.value());
        let parameters = match kind {
            TpmSe::Hmac => parameters
                .u16(TpmAlgId::Aes.value())
                .u16(128)
                .u16(TpmAlgId::Cfb.value()),
            _ => parameters.u16(TpmAlgId::Null.value()),
        };
        let parameters = parameters.u16(TpmAlgId::Sha256.value()).done();
        let handles = [salt_key, TpmRh::Null.value()].map(Handle::bare);
        let response = self.run(TpmCc::StartAuthSession, &handles, &[], &parameters)?;
        let mut reader = Reader::new("StartAuthSession", &response);
        Ok((reader.u32()?, reader.scalar()?))
    }

    /// Sends a frame, again while the TPM is busy, and returns what follows the response's header.
    fn exchange(&mut self, command: TpmCc, frame: &[u8]) -> Result<Vec<u8>> {
        let mut attempt = 0;
        loop {
            let response = self
                .transport
                .transact(frame)
                .map_err(|source| TrustedError::Transport {
                    command: command.to_string(),
                    source,
                })?;
            let mut reader = Reader::new("response", &response);
            let tag = reader.u16()?;
            let size = reader.u32()?;
            if usize::try_from(size) != Ok(response.len()) {
                return Err(TrustedError::Malformed {
                    what: "response size",
                    got: response.len().to_string(),
                    expected: size.to_string(),
                });
            }
            let code = reader.u32()?;
            if code == 0 {
                let sent = u16::from_be_bytes([frame[0], frame[1]]);
                if tag != sent {
                    return Err(TrustedError::Malformed {
                        what: "response tag",
                        got: format!("{tag:#06x}"),
                        expected: format!("{sent:#06x}"),
                    });
                }
                return Ok(response[10..].to_vec());
            }
            if attempt == RETRIES || !is_busy(code) {
                return Err(TrustedError::Refused {
                    command: command.to_string(),
                    code: ResponseCode(code),
                });
            }
            attempt += 1;
            sleep(PAUSE * attempt);
        }
    }

    /// What a session for each command would cost.
    #[cfg(test)]
    pub(super) fn begin_anew(&mut self) -> Result<()> {
        self.abandoned
            .extend(self.salted.take().map(|salted| salted.handle()));
        self.salted = Some(self.start_salted()?);
        Ok(())
    }

    /// A frame as it is, and its answer.
    #[cfg(test)]
    pub(super) fn raw(&mut self, frame: &[u8]) -> std::io::Result<Vec<u8>> {
        self.transport.transact(frame)
    }

    fn handles(&mut self, first: u32) -> Result<Vec<u32>> {
        let parameters = Writer::default()
            .u32(TpmCap::Handles.value())
            .u32(first)
            .u32(64)
            .done();
        let response = self.run(TpmCc::GetCapability, &[], &[], &parameters)?;
        let mut reader = Reader::new("handles", &response);
        reader.u8()?;
        reader.u32()?;
        let count = reader.u32()?;
        (0..count).map(|_| reader.u32()).collect()
    }

    pub(super) fn flush(&mut self, handle: u32) -> Result<()> {
        self.run(TpmCc::FlushContext, &[], &[], &handle.to_be_bytes())
            .map(drop)
    }

    /// Flushes a session that may be gone already.
    pub(super) fn end_session(&mut self, handle: u32) -> Result<()> {
        match self.flush(handle) {
            Err(TrustedError::Refused { .. }) => Ok(()),
            done => done,
        }
    }

    /// Leaves a session whose command failed.
    pub(super) fn abandon(&mut self, session: u32) {
        self.abandoned.push(session);
    }

    /// Leaves nothing behind in the TPM's few slots: neither `key`, nor a session.
    pub(super) fn close(&mut self, key: u32) -> Result<()> {
        if self.transport.managed() {
            return Ok(());
        }
        let sessions = self.salted.take().map(|salted| salted.handle());
        self.abandoned.extend(sessions);
        while let Some(session) = self.abandoned.pop() {
            self.end_session(session)?;
        }
        self.flush(key)
    }
}

fn is_busy(code: u32) -> bool {
    let busy = [
        TpmRcBase::Retry,
        TpmRcBase::Testing,
        TpmRcBase::Yielded,
        TpmRcBase::NvRate,
    ];
    TpmRc::try_from(code).is_ok_and(|code| busy.contains(&code.base()))
}
