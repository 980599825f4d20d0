//! The commands that a wallet needs, one function each, over a [`Transport`].

use std::thread::sleep;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tpm2_protocol::data::{TpmAlgId, TpmCap, TpmCc, TpmRc, TpmRcBase, TpmRh, TpmSe, TpmSt};

use super::policy::{Authorisation, Challenge, POLICY_REF};
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
    /// A policy session; it ends with the command.
    Policy(u32),
}

const NO_PASSWORD: Auth<'static> = Auth::Password(&[]);

pub(super) struct Device(Box<dyn Transport>);

pub(super) struct Created {
    pub(super) private: Vec<u8>,
    pub(super) public: Vec<u8>,
}

impl Device {
    pub(super) fn new(transport: Box<dyn Transport>) -> Result<Self> {
        let managed = transport.managed();
        let mut device = Self(transport);
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

    /// A response's parameters, after `handles` handles, which come first.
    fn run(
        &mut self,
        command: TpmCc,
        handles: &[u32],
        auths: &[Auth<'_>],
        parameters: &[u8],
    ) -> Result<Vec<u8>> {
        let tag = if auths.is_empty() {
            TpmSt::NoSessions
        } else {
            TpmSt::Sessions
        };
        let mut body = handles
            .iter()
            .fold(Writer::default(), |body, handle| body.u32(*handle));
        if !auths.is_empty() {
            let area = auths.iter().fold(Writer::default(), |area, auth| match auth {
                Auth::Password(password) => area.u32(TpmRh::Pw.value()).sized(&[]).u8(0).sized(password),
                // No HMAC: the session has neither salt nor binding, and its policy asks for no password.
                Auth::Policy(session) => area.u32(*session).sized(&[]).u8(0).sized(&[]),
            });
            let area = area.done();
            body = body.u32(u32::try_from(area.len()).unwrap_or(u32::MAX)).raw(&area);
        }
        let body = body.raw(parameters).done();
        let frame = Writer::default()
            .u16(tag.value())
            .u32(u32::try_from(body.len() + 10).unwrap_or(u32::MAX))
            .u32(command.value())
            .raw(&body)
            .done();

        let mut attempt = 0;
        loop {
            let response = self
                .0
                .transact(&frame)
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
                let rest = &response[10..];
                return Ok(if tag == TpmSt::Sessions.value() {
                    parameters_of(command, rest)?
                } else {
                    rest.to_vec()
                });
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
            &[Auth::Password(auth)],
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
            &[Auth::Password(auth)],
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
            &[Auth::Password(owner)],
            &parameters,
        )
        .map(drop)
    }

    pub(super) fn nv_undefine(&mut self, owner: &[u8], index: u32) -> Result<()> {
        let handles = [TpmRh::Owner.value(), index];
        self.run(TpmCc::NvUndefineSpace, &handles, &[Auth::Password(owner)], &[])
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
        key: u32,
        endorsement: u32,
        session: u32,
        blob: &[u8],
        seed: &[u8],
    ) -> Result<Vec<u8>> {
        let parameters = Writer::default().sized(blob).sized(seed).done();
        let auths = [NO_PASSWORD, Auth::Policy(session)];
        let response = self.run(
            TpmCc::ActivateCredential,
            &[key, endorsement],
            &auths,
            &parameters,
        )?;
        Ok(Reader::new("ActivateCredential", &response).sized()?.to_vec())
    }
}

/// Where sessions authorised the command, the parameters have a length, and after them come the sessions. A handle comes
/// first; of our commands these return one.
fn parameters_of(command: TpmCc, body: &[u8]) -> Result<Vec<u8>> {
    let mut reader = Reader::new("response", body);
    let mut parameters = Vec::new();
    if matches!(command, TpmCc::CreatePrimary | TpmCc::Load) {
        parameters.extend_from_slice(reader.take(4)?);
    }
    let length = reader.u32()?;
    parameters.extend_from_slice(reader.take(usize::try_from(length).unwrap_or(usize::MAX))?);
    Ok(parameters)
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
