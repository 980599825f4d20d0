//! The commands that a wallet needs, one function each, over a [`Transport`].

use std::thread::sleep;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tpm2_protocol::data::{TpmAlgId, TpmCap, TpmCc, TpmRc, TpmRcBase, TpmRh, TpmSe, TpmSt};

use super::credential::Credential;
use super::policy::{Authorisation, Challenge, Name, POLICY_REF, hash, parent_template, public_point};
use super::session::{Salt, Salted, Sent};
use super::transport::Transport;
use super::wire::{Reader, Writer};
use crate::{PublicKey, ResponseCode, Result, Signature, TrustedError};

/// How often a command is sent again when the TPM is busy, and how much longer each pause is.
const RETRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);
const TRANSIENT: u32 = 0x8000_0000;
const LOADED_SESSIONS: u32 = 0x0200_0000;
const SAVED_SESSIONS: u32 = 0x0300_0000;
/// Every TPM reads and writes at least this much of an index at once.
const NV_CHUNK: u16 = 512;

#[derive(Clone, Copy)]
pub(super) enum Auth<'a> {
    Password(&'a [u8]),
    /// A hierarchy's password: by salted session, so that it never is on the bus. An empty one is no secret.
    Hierarchy(&'a [u8]),
    /// No authorisation: the response's first parameter comes encrypted.
    Encrypted,
    /// A policy session; it ends with the command.
    Policy(u32),
}

const NO_PASSWORD: Auth<'static> = Auth::Password(&[]);

pub(super) struct Device {
    transport: Box<dyn Transport>,
    /// Begun when it is needed.
    salted: Option<Salted>,
}

pub(super) struct Created {
    pub(super) private: Vec<u8>,
    pub(super) public: Vec<u8>,
}

impl Device {
    pub(super) fn new(transport: Box<dyn Transport>) -> Result<Self> {
        let managed = transport.managed();
        let mut device = Self {
            transport,
            salted: None,
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

    /// A response's handle, if there is one, and its parameters. For handles that are their own Names.
    fn run(
        &mut self,
        command: TpmCc,
        handles: &[u32],
        auths: &[Auth<'_>],
        parameters: &[u8],
    ) -> Result<Vec<u8>> {
        let names: Vec<[u8; 4]> = handles.iter().map(|handle| handle.to_be_bytes()).collect();
        let names: Vec<&[u8]> = names.iter().map(<[u8; 4]>::as_slice).collect();
        self.run_named(command, handles, &names, auths, parameters)
    }

    /// As [`Device::run`]; a salted session signs the Names.
    fn run_named(
        &mut self,
        command: TpmCc,
        handles: &[u32],
        names: &[&[u8]],
        auths: &[Auth<'_>],
        parameters: &[u8],
    ) -> Result<Vec<u8>> {
        let mut body = handles
            .iter()
            .fold(Writer::default(), |body, handle| body.u32(*handle));
        let mut sent = Vec::new();
        if !auths.is_empty() {
            let cp_hash = hash(&[&command.value().to_be_bytes(), &names.concat(), parameters]);
            let mut area = Writer::default();
            for auth in auths {
                let (next, part) = self.authorise(area, auth, &cp_hash)?;
                area = next;
                sent.push(part);
            }
            let area = area.done();
            body = body.u32(u32::try_from(area.len()).unwrap_or(u32::MAX)).raw(&area);
        }
        let tag = if auths.is_empty() {
            TpmSt::NoSessions
        } else {
            TpmSt::Sessions
        };
        let body = body.raw(parameters).done();
        let frame = Writer::default()
            .u16(tag.value())
            .u32(u32::try_from(body.len() + 10).unwrap_or(u32::MAX))
            .u32(command.value())
            .raw(&body)
            .done();

        let body = self.exchange(command, &frame)?;
        if sent.is_empty() {
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
        for part in &sent {
            match (part, &mut self.salted) {
                (Some(sent), Some(salted)) => salted.accept(command, sent, &mut reader, &mut parameters)?,
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

    /// Adds one entry to the authorisation area.
    fn authorise(
        &mut self,
        area: Writer,
        auth: &Auth<'_>,
        cp_hash: &[u8; 32],
    ) -> Result<(Writer, Option<Sent>)> {
        let (password, encrypted): (&[u8], bool) = match *auth {
            Auth::Password(password) => {
                return Ok((area.u32(TpmRh::Pw.value()).sized(&[]).u8(0).sized(password), None));
            }
            Auth::Hierarchy([]) => return self.authorise(area, &NO_PASSWORD, cp_hash),
            // No HMAC: the session has neither salt nor binding, and its policy asks for no password.
            Auth::Policy(session) => return Ok((area.u32(session).sized(&[]).u8(0).sized(&[]), None)),
            Auth::Hierarchy(password) => (password, false),
            Auth::Encrypted => (&[], true),
        };
        let salted = match self.salted.take() {
            Some(salted) => salted,
            None => self.start_salted()?,
        };
        let (area, sent) = salted.authorise(area, cp_hash, password, encrypted);
        self.salted = Some(salted);
        Ok((area, Some(sent)))
    }

    fn start_salted(&mut self) -> Result<Salted> {
        let (primary, public) = self.create_primary(TpmRh::Null, &[], &parent_template())?;
        let salt = Salt::draw(public_point(&public)?)?;
        let parameters = Writer::default()
            .sized(&salt.nonce)
            .sized(&salt.encrypted)
            .u8(TpmSe::Hmac.value())
            .u16(TpmAlgId::Aes.value())
            .u16(128)
            .u16(TpmAlgId::Cfb.value())
            .u16(TpmAlgId::Sha256.value())
            .done();
        let handles = [primary, TpmRh::Null.value()];
        let response = self.run(TpmCc::StartAuthSession, &handles, &[], &parameters);
        self.flush(primary)?;
        let response = response?;
        let mut reader = Reader::new("StartAuthSession", &response);
        let handle = reader.u32()?;
        Ok(salt.session(handle, reader.scalar()?))
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

    /// Handle and public area.
    pub(super) fn create_primary(
        &mut self,
        hierarchy: TpmRh,
        auth: &[u8],
        template: &[u8],
    ) -> Result<(u32, Vec<u8>)> {
        let handles = [hierarchy.value()];
        let response = self.run(
            TpmCc::CreatePrimary,
            &handles,
            &[Auth::Hierarchy(auth)],
            &creation(template),
        )?;
        let mut reader = Reader::new("CreatePrimary", &response);
        Ok((reader.u32()?, reader.sized()?.to_vec()))
    }

    pub(super) fn create(&mut self, parent: u32, template: &[u8]) -> Result<Created> {
        let response = self.run(TpmCc::Create, &[parent], &[NO_PASSWORD], &creation(template))?;
        let mut reader = Reader::new("Create", &response);
        Ok(Created {
            private: reader.sized()?.to_vec(),
            public: reader.sized()?.to_vec(),
        })
    }

    pub(super) fn load(&mut self, parent: u32, key: &Created) -> Result<u32> {
        let parameters = Writer::default().sized(&key.private).sized(&key.public).done();
        let response = self.run(TpmCc::Load, &[parent], &[NO_PASSWORD], &parameters)?;
        Reader::new("Load", &response).u32()
    }

    pub(super) fn load_external(&mut self, public: &[u8]) -> Result<u32> {
        let parameters = Writer::default()
            .sized(&[])
            .sized(public)
            .u32(TpmRh::Null.value())
            .done();
        let response = self.run(TpmCc::LoadExternal, &[], &[], &parameters)?;
        Reader::new("LoadExternal", &response).u32()
    }

    /// ES256 over 32 bytes, hashed by the TPM; `None` if it gives no ticket, because they look like an attestation.
    pub(super) fn sign(&mut self, key: u32, message: &[u8; 32]) -> Result<Option<Signature>> {
        let parameters = Writer::default()
            .sized(message)
            .u16(TpmAlgId::Sha256.value())
            .u32(TpmRh::Owner.value())
            .done();
        let response = self.run(TpmCc::Hash, &[], &[], &parameters)?;
        let mut reader = Reader::new("Hash", &response);
        let digest = reader.sized()?;
        let tag = reader.u16()?;
        let (hierarchy, ticket) = (reader.u32()?, reader.sized()?);
        if ticket.is_empty() {
            return Ok(None);
        }
        let parameters = Writer::default()
            .sized(digest)
            .u16(TpmAlgId::Null.value())
            .u16(tag)
            .u32(hierarchy)
            .sized(ticket)
            .done();
        let response = self.run(TpmCc::Sign, &[key], &[NO_PASSWORD], &parameters)?;
        signature(&mut Reader::new("Sign", &response)).map(Some)
    }

    /// Handle and nonce of a new policy session.
    pub(super) fn start_policy(&mut self) -> Result<(u32, [u8; 32])> {
        // A TPM's nonce is as long as the caller's.
        let parameters = Writer::default()
            .sized(&rand::random::<[u8; 32]>())
            .sized(&[])
            .u8(TpmSe::Policy.value())
            .u16(TpmAlgId::Null.value())
            .u16(TpmAlgId::Sha256.value())
            .done();
        let null = TpmRh::Null.value();
        let response = self.run(TpmCc::StartAuthSession, &[null, null], &[], &parameters)?;
        let mut reader = Reader::new("StartAuthSession", &response);
        let handle = reader.u32()?;
        Ok((handle, reader.scalar()?))
    }

    pub(super) fn policy_signed(
        &mut self,
        session: u32,
        key: u32,
        challenge: &Challenge,
        authorisation: &Authorisation,
    ) -> Result<()> {
        let (r, s) = authorisation.signature.0.split_at(32);
        let parameters = Writer::default()
            .sized(&challenge.nonce)
            .sized(&challenge.index.first_extend_hash(authorisation.genesis))
            .sized(POLICY_REF)
            .u32(authorisation.expiration.into())
            .u16(TpmAlgId::Ecdsa.value())
            .u16(TpmAlgId::Sha256.value())
            .sized(r)
            .sized(s)
            .done();
        self.run(TpmCc::PolicySigned, &[key, session], &[], &parameters)
            .map(drop)
    }

    pub(super) fn policy_nv_written(&mut self, session: u32) -> Result<()> {
        self.run(TpmCc::PolicyNvWritten, &[session], &[], &[1]).map(drop)
    }

    pub(super) fn policy_or(&mut self, session: u32, branches: &[[u8; 32]; 2]) -> Result<()> {
        let parameters = branches
            .iter()
            .fold(Writer::default().u32(2), |list, branch| list.sized(branch))
            .done();
        self.run(TpmCc::PolicyOr, &[session], &[], &parameters).map(drop)
    }

    pub(super) fn policy_secret(&mut self, session: u32, hierarchy: TpmRh, auth: &[u8]) -> Result<()> {
        let parameters = Writer::default().sized(&[]).sized(&[]).sized(&[]).u32(0).done();
        let handles = [hierarchy.value(), session];
        self.run(
            TpmCc::PolicySecret,
            &handles,
            &[Auth::Hierarchy(auth)],
            &parameters,
        )
        .map(drop)
    }

    pub(super) fn nv_define(&mut self, owner: &[u8], public: &[u8]) -> Result<()> {
        let parameters = Writer::default().sized(&[]).sized(public).done();
        let handles = [TpmRh::Owner.value()];
        self.run(
            TpmCc::NvDefineSpace,
            &handles,
            &[Auth::Hierarchy(owner)],
            &parameters,
        )
        .map(drop)
    }

    pub(super) fn nv_undefine(&mut self, owner: &[u8], index: u32) -> Result<()> {
        let (_, name) = self.nv_read_public(index)?;
        let owner_handle = TpmRh::Owner.value();
        self.run_named(
            TpmCc::NvUndefineSpace,
            &[owner_handle, index],
            &[&owner_handle.to_be_bytes(), &name],
            &[Auth::Hierarchy(owner)],
            &[],
        )
        .map(drop)
    }

    /// The index becomes `SHA-256(index ‖ SHA-256(entry))`: the TPM itself hashes once only.
    pub(super) fn nv_extend(&mut self, index: u32, session: u32, entry: &[u8]) -> Result<()> {
        let parameters = Writer::default().sized(&Sha256::digest(entry)).done();
        self.run(
            TpmCc::NvExtend,
            &[index, index],
            &[Auth::Policy(session)],
            &parameters,
        )
        .map(drop)
    }

    #[cfg(test)]
    pub(super) fn set_password(&mut self, hierarchy: TpmRh, password: &[u8]) -> Result<()> {
        let parameters = Writer::default().sized(password).done();
        self.run(
            TpmCc::HierarchyChangeAuth,
            &[hierarchy.value()],
            &[NO_PASSWORD],
            &parameters,
        )
        .map(drop)
    }

    /// As anyone but the policy.
    #[cfg(test)]
    pub(super) fn nv_extend_as(&mut self, who: u32, index: u32, data: &[u8]) -> Result<()> {
        let parameters = Writer::default().sized(data).done();
        self.run(TpmCc::NvExtend, &[who, index], &[NO_PASSWORD], &parameters)
            .map(drop)
    }

    pub(super) fn nv_read(&mut self, index: u32, size: u16, offset: u16) -> Result<Vec<u8>> {
        let parameters = Writer::default().u16(size).u16(offset).done();
        let response = self.run(TpmCc::NvRead, &[index, index], &[NO_PASSWORD], &parameters)?;
        Ok(Reader::new("NV_Read", &response).sized()?.to_vec())
    }

    /// `TPMS_NV_PUBLIC` and Name.
    pub(super) fn nv_read_public(&mut self, index: u32) -> Result<(Vec<u8>, Vec<u8>)> {
        let response = self.run(TpmCc::NvReadPublic, &[index], &[], &[])?;
        let mut reader = Reader::new("NV_ReadPublic", &response);
        Ok((reader.sized()?.to_vec(), reader.sized()?.to_vec()))
    }

    /// The whole of an index that anyone may read.
    pub(super) fn nv_read_all(&mut self, index: u32) -> Result<Vec<u8>> {
        let (public, _) = self.nv_read_public(index)?;
        let mut reader = Reader::new("NV public area", &public);
        reader.take(10)?;
        reader.sized()?;
        let size = reader.u16()?;
        let mut bytes = Vec::new();
        for offset in (0..size).step_by(NV_CHUNK.into()) {
            bytes.extend(self.nv_read(index, NV_CHUNK.min(size - offset), offset)?);
        }
        Ok(bytes)
    }

    /// Defines an index that anyone may read, and fills it.
    #[cfg(feature = "swtpm")]
    pub(super) fn nv_store(&mut self, index: u32, content: &[u8]) -> Result<()> {
        use tpm2_protocol::data::TpmaNv;
        let attributes = TpmaNv::OWNERWRITE | TpmaNv::AUTHREAD | TpmaNv::OWNERREAD | TpmaNv::NO_DA;
        let size = u16::try_from(content.len()).unwrap_or(u16::MAX);
        let public = Writer::default()
            .u32(index)
            .u16(TpmAlgId::Sha256.value())
            .u32(attributes.bits())
            .sized(&[])
            .u16(size)
            .done();
        self.nv_define(&[], &public)?;
        for (chunk, offset) in content
            .chunks(NV_CHUNK.into())
            .zip((0..size).step_by(NV_CHUNK.into()))
        {
            let parameters = Writer::default().sized(chunk).u16(offset).done();
            let handles = [TpmRh::Owner.value(), index];
            self.run(TpmCc::NvWrite, &handles, &[NO_PASSWORD], &parameters)?;
        }
        Ok(())
    }

    /// Attestation and signature.
    pub(super) fn nv_certify(
        &mut self,
        key: u32,
        index: u32,
        qualifying: &[u8; 32],
    ) -> Result<(Vec<u8>, Signature)> {
        let parameters = Writer::default()
            .sized(qualifying)
            .u16(TpmAlgId::Null.value())
            .u16(32)
            .u16(0)
            .done();
        let handles = [key, index, index];
        let response = self.run(
            TpmCc::NvCertify,
            &handles,
            &[NO_PASSWORD, NO_PASSWORD],
            &parameters,
        )?;
        let mut reader = Reader::new("NV_Certify", &response);
        let attest = reader.sized()?.to_vec();
        Ok((attest, signature(&mut reader)?))
    }

    pub(super) fn activate_credential(
        &mut self,
        [(key, key_name), (endorsement, endorsement_name)]: [(u32, Name); 2],
        session: u32,
        credential: &Credential,
    ) -> Result<Vec<u8>> {
        let parameters = Writer::default()
            .sized(&credential.blob)
            .sized(&credential.encrypted_seed)
            .done();
        let response = self.run_named(
            TpmCc::ActivateCredential,
            &[key, endorsement],
            &[&key_name.0, &endorsement_name.0],
            &[NO_PASSWORD, Auth::Policy(session), Auth::Encrypted],
            &parameters,
        )?;
        Ok(Reader::new("ActivateCredential", &response).sized()?.to_vec())
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

/// No password, a template, no outside data, no PCRs.
fn creation(template: &[u8]) -> Vec<u8> {
    let sensitive = Writer::default().sized(&[]).sized(&[]).done();
    Writer::default()
        .sized(&sensitive)
        .sized(template)
        .sized(&[])
        .u32(0)
        .done()
}

/// `TPMT_SIGNATURE` by ECDSA with SHA-256, its `s` made low: TPMs give either.
fn signature(reader: &mut Reader<'_>) -> Result<Signature> {
    reader.expect(TpmAlgId::Ecdsa.value())?;
    reader.expect(TpmAlgId::Sha256.value())?;
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&reader.scalar()?);
    bytes[32..].copy_from_slice(&reader.scalar()?);
    let ecdsa = p256::ecdsa::Signature::from_slice(&bytes).map_err(|_| TrustedError::BadSignature {
        signature: Signature(bytes),
        key: PublicKey([0; 64]),
    })?;
    Ok(Signature(ecdsa.normalize_s().to_bytes().into()))
}
