//! The commands that a wallet needs, one function each. Those that a payment is made of go through the session ([`Cover`] says
//! how much of each can be encrypted); what goes without it is public, and worth nothing unless a later command in the session
//! agrees with it.

use sha2::{Digest as _, Sha256};
use tpm2_protocol::data::{TpmAlgId, TpmCc, TpmRh};

use super::credential::Credential;
use super::device::{Auth, Device, Handle, Primary};
use super::policy::{Authorisation, Challenge, Name, POLICY_REF};
use super::session::Cover;
use super::wire::{Reader, Writer};
use crate::{PublicKey, Result, Signature, TrustedError};

/// Every TPM reads and writes at least this much of an index at once.
const NV_CHUNK: u16 = 512;

pub(super) struct Created {
    pub(super) private: Vec<u8>,
    pub(super) public: Vec<u8>,
}

impl Device {
    pub(super) fn create_primary(&mut self, hierarchy: TpmRh, template: &[u8]) -> Result<Primary> {
        let response = self.run(
            TpmCc::CreatePrimary,
            &[Handle::bare(hierarchy.value())],
            &[Auth::Hierarchy(hierarchy)],
            &creation(template),
        )?;
        let mut reader = Reader::new("CreatePrimary", &response);
        Ok(Primary {
            handle: reader.u32()?,
            public: reader.sized()?.to_vec(),
        })
    }

    /// A key whose public area is no secret, and is checked when it signs for the first time.
    pub(super) fn create(&mut self, parent: &Primary, template: &[u8]) -> Result<Created> {
        let handles = [Handle::bare(parent.handle)];
        let response = self.run(TpmCc::Create, &handles, &[Auth::Empty], &creation(template))?;
        let mut reader = Reader::new("Create", &response);
        Ok(Created {
            private: reader.sized()?.to_vec(),
            public: reader.sized()?.to_vec(),
        })
    }

    pub(super) fn load(&mut self, parent: &Primary, key: &Created) -> Result<u32> {
        let parameters = Writer::default().sized(&key.private).sized(&key.public).done();
        let handles = [Handle::bare(parent.handle)];
        let response = self.run(TpmCc::Load, &handles, &[Auth::Empty], &parameters)?;
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
    pub(super) fn sign(&mut self, key: Handle, message: &[u8; 32]) -> Result<Option<Signature>> {
        let parameters = Writer::default()
            .sized(message)
            .u16(TpmAlgId::Sha256.value())
            .u32(TpmRh::Owner.value())
            .done();
        let response = self.run(TpmCc::Hash, &[], &[Auth::Session(Cover::Both)], &parameters)?;
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
        let response = self.run(TpmCc::Sign, &[key], &[Auth::Session(Cover::Command)], &parameters)?;
        signature(&mut Reader::new("Sign", &response)).map(Some)
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
        self.run(
            TpmCc::PolicySigned,
            &[key, session].map(Handle::bare),
            &[],
            &parameters,
        )
        .map(drop)
    }

    pub(super) fn policy_nv_written(&mut self, session: u32) -> Result<()> {
        self.run(TpmCc::PolicyNvWritten, &[Handle::bare(session)], &[], &[1])
            .map(drop)
    }

    pub(super) fn policy_or(&mut self, session: u32, branches: &[[u8; 32]; 2]) -> Result<()> {
        let parameters = branches
            .iter()
            .fold(Writer::default().u32(2), |list, branch| list.sized(branch))
            .done();
        self.run(TpmCc::PolicyOr, &[Handle::bare(session)], &[], &parameters)
            .map(drop)
    }

    pub(super) fn policy_secret(&mut self, session: u32, hierarchy: TpmRh) -> Result<()> {
        let parameters = Writer::default().sized(&[]).sized(&[]).sized(&[]).u32(0).done();
        self.run(
            TpmCc::PolicySecret,
            &[hierarchy.value(), session].map(Handle::bare),
            &[Auth::Hierarchy(hierarchy)],
            &parameters,
        )
        .map(drop)
    }

    pub(super) fn nv_define(&mut self, public: &[u8]) -> Result<()> {
        let parameters = Writer::default().sized(&[]).sized(public).done();
        self.run(
            TpmCc::NvDefineSpace,
            &[Handle::bare(TpmRh::Owner.value())],
            &[Auth::Hierarchy(TpmRh::Owner)],
            &parameters,
        )
        .map(drop)
    }

    pub(super) fn nv_undefine(&mut self, index: u32) -> Result<()> {
        let (_, name) = self.nv_read_public(index)?;
        self.run(
            TpmCc::NvUndefineSpace,
            &[Handle::bare(TpmRh::Owner.value()), Handle::named(index, name)],
            &[Auth::Hierarchy(TpmRh::Owner)],
            &[],
        )
        .map(drop)
    }

    /// The log's first entry. The registrar signed the command's parameters as the TPM receives them, so they go in clear.
    pub(super) fn nv_extend_first(&mut self, index: Handle, session: u32, entry: &[u8]) -> Result<()> {
        self.nv_extend_by(
            index,
            &[Auth::Policy(session), Auth::Session(Cover::Audit)],
            entry,
        )
    }

    pub(super) fn nv_extend(&mut self, index: Handle, session: u32, entry: &[u8]) -> Result<()> {
        self.nv_extend_by(
            index,
            &[Auth::Policy(session), Auth::Session(Cover::Command)],
            entry,
        )
    }

    /// The index becomes `SHA-256(index ‖ SHA-256(entry))`: the TPM itself hashes once only.
    pub(super) fn nv_extend_by(&mut self, index: Handle, auths: &[Auth], entry: &[u8]) -> Result<()> {
        let parameters = Writer::default().sized(&Sha256::digest(entry)).done();
        self.run(TpmCc::NvExtend, &[index, index], auths, &parameters)
            .map(drop)
    }

    #[cfg(test)]
    pub(super) fn set_password(&mut self, hierarchy: TpmRh, password: &[u8]) -> Result<()> {
        let parameters = Writer::default().sized(password).done();
        self.run(
            TpmCc::HierarchyChangeAuth,
            &[Handle::bare(hierarchy.value())],
            &[Auth::Empty],
            &parameters,
        )
        .map(drop)
    }

    /// As anyone but the policy.
    #[cfg(test)]
    pub(super) fn nv_extend_as(&mut self, who: u32, index: u32, data: &[u8]) -> Result<()> {
        let parameters = Writer::default().sized(data).done();
        self.run(
            TpmCc::NvExtend,
            &[who, index].map(Handle::bare),
            &[Auth::Empty],
            &parameters,
        )
        .map(drop)
    }

    pub(super) fn nv_read(&mut self, index: Handle, auth: Auth, size: u16, offset: u16) -> Result<Vec<u8>> {
        let parameters = Writer::default().u16(size).u16(offset).done();
        let response = self.run(TpmCc::NvRead, &[index, index], &[auth], &parameters)?;
        Ok(Reader::new("NV_Read", &response).sized()?.to_vec())
    }

    /// `TPMS_NV_PUBLIC` and Name; nobody vouches for them.
    pub(super) fn nv_read_public(&mut self, index: u32) -> Result<(Vec<u8>, Name)> {
        let response = self.run(TpmCc::NvReadPublic, &[Handle::bare(index)], &[], &[])?;
        let mut reader = Reader::new("NV_ReadPublic", &response);
        let public = reader.sized()?.to_vec();
        let name = Reader::new("Name of the index", reader.sized()?).array()?;
        Ok((public, Name(name)))
    }

    /// The whole of an index that anyone may read, and that says by itself whether it is genuine.
    pub(super) fn nv_read_all(&mut self, index: u32) -> Result<Vec<u8>> {
        let (public, _) = self.nv_read_public(index)?;
        let mut reader = Reader::new("NV public area", &public);
        reader.take(10)?;
        reader.sized()?;
        let size = reader.u16()?;
        let mut bytes = Vec::new();
        for offset in (0..size).step_by(NV_CHUNK.into()) {
            let size = NV_CHUNK.min(size - offset);
            bytes.extend(self.nv_read(Handle::bare(index), Auth::Empty, size, offset)?);
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
        self.nv_define(&public)?;
        for (chunk, offset) in content
            .chunks(NV_CHUNK.into())
            .zip((0..size).step_by(NV_CHUNK.into()))
        {
            let parameters = Writer::default().sized(chunk).u16(offset).done();
            let handles = [TpmRh::Owner.value(), index].map(Handle::bare);
            self.run(TpmCc::NvWrite, &handles, &[Auth::Empty], &parameters)?;
        }
        Ok(())
    }

    /// Attestation and signature.
    pub(super) fn nv_certify(
        &mut self,
        key: Handle,
        index: Handle,
        qualifying: &[u8; 32],
    ) -> Result<(Vec<u8>, Signature)> {
        let parameters = Writer::default()
            .sized(qualifying)
            .u16(TpmAlgId::Null.value())
            .u16(32)
            .u16(0)
            .done();
        let response = self.run(
            TpmCc::NvCertify,
            &[key, index, index],
            &[Auth::Session(Cover::Both), Auth::Empty],
            &parameters,
        )?;
        let mut reader = Reader::new("NV_Certify", &response);
        let attest = reader.sized()?.to_vec();
        Ok((attest, signature(&mut reader)?))
    }

    pub(super) fn activate_credential(
        &mut self,
        key: Handle,
        endorsement: &Primary,
        session: u32,
        credential: &Credential,
    ) -> Result<Vec<u8>> {
        let parameters = Writer::default()
            .sized(&credential.blob)
            .sized(&credential.encrypted_seed)
            .done();
        let response = self.run(
            TpmCc::ActivateCredential,
            &[key, Handle::named(endorsement.handle, endorsement.name())],
            &[Auth::Session(Cover::Both), Auth::Policy(session)],
            &parameters,
        )?;
        Ok(Reader::new("ActivateCredential", &response).sized()?.to_vec())
    }
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
