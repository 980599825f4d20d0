//! The wallet's side: asks a registrar, and believes what it can check.

use alloy_primitives::{Address, B256, Bytes};
use protocol::offline::{
    ClassId, Coin, DecodeError, Domain, IndexName, ListError, LogEntry, LogError, RevocationList, Sequence,
    SignatureError, SignedDeposit, SignedLogCheckpoint, SignedRegistration, SignedRevocationList, Timestamp,
    VouchedRegistration, WalletId, WalletKey, WalletKeyError, WalletSignature, WalletSignatureError,
};
use trusted::{
    Certified, Genesis, Head, LogsTransfers as _, MessageDigest, PublicKey, Signature, Tpm, TrustedError,
    TrustedWallet,
    tpm::{Authorisation, Credential},
};
use url::Url;

use super::{
    RegistrationRequest, RenewalRequest,
    wire::{
        AuthorisationAnswer, AuthorisationBody, BegunAnswer, CertificateFields, CheckpointBody,
        CompletionBody, DepositBody, RegistrarAnswer, RegistrationBody, RenewalBody, RevocationsAnswer,
        SignedAnswer,
    },
};
use crate::caller::{CallError, Caller};

/// Longest answer that is read: a revocation list of the most entries, in hexadecimal.
const ANSWER_BYTES: usize = 5 * 1024 * 1024;

/// A registrar's address on the web, and who the registrar is.
#[derive(Clone, Debug)]
pub struct RegistrarClient {
    caller: Caller,
    domain: Domain,
    registrar: Address,
}

/// What a wallet asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who gets the credit.
    pub owner: Address,
    /// The class.
    pub class: ClassId,
}

/// Why there is no answer that counts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The registrar did not answer, or refuses.
    #[error("the registrar {0}")]
    Call(#[from] CallError),
    /// Another registrar, chain or contract answers, or something about another wallet.
    #[error("{field} is {got}, not {expected}")]
    Other {
        /// What differs.
        field: &'static str,
        /// In the answer.
        got: String,
        /// Asked for.
        expected: String,
    },
    /// The signature has no proper form.
    #[error("the registrar's signature: {0}")]
    Signature(#[from] SignatureError),
    /// What is signed cannot be read.
    #[error("what the registrar signed: {0}")]
    Decode(#[from] DecodeError),
    /// The checkpoint does not count.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The list does not count.
    #[error(transparent)]
    List(#[from] ListError),
    /// The component failed.
    #[error(transparent)]
    Component(#[from] TrustedError),
    /// The component's key is no point.
    #[error(transparent)]
    Key(#[from] WalletKeyError),
    /// The component's signature has no proper form.
    #[error(transparent)]
    WalletSignature(#[from] WalletSignatureError),
}

impl ClientError {
    /// Whether the same request can succeed later.
    pub fn retry(&self) -> bool {
        match self {
            Self::Call(error) => error.retry(),
            _ => false,
        }
    }
}

/// Who answers at this address, as it says itself: nothing is known of it yet.
///
/// # Errors
///
/// [`CallError`].
pub async fn ask_who(base: Url) -> Result<RegistrarAnswer, CallError> {
    Caller::new(base, ANSWER_BYTES)?.get("/v1/registrar").await
}

impl RegistrarClient {
    /// The registrar at `base`, which signs for the vault of `domain` with the key of `registrar`.
    ///
    /// # Errors
    ///
    /// [`CallError::BadAddress`], or there is no client.
    pub fn new(base: Url, domain: Domain, registrar: Address) -> Result<Self, ClientError> {
        Ok(Self {
            caller: Caller::new(base, ANSWER_BYTES)?,
            domain,
            registrar,
        })
    }

    /// Who the registrar is and what it takes. Refused if it is another, or works for another vault.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn about(&self) -> Result<RegistrarAnswer, ClientError> {
        let answer: RegistrarAnswer = self.caller.get("/v1/registrar").await?;
        same("the registrar", answer.registrar, self.registrar)?;
        same("its chain", answer.chain_id, self.domain.chain_id())?;
        same("its vault", answer.contract, self.domain.contract())?;
        Ok(answer)
    }

    /// The policy key, for a TPM's index.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn policy_key(&self) -> Result<PublicKey, ClientError> {
        let key = self.about().await?.policy_key;
        key.key()?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(key.x.as_slice());
        bytes[32..].copy_from_slice(key.y.as_slice());
        Ok(PublicKey(bytes))
    }

    /// The whole dialogue of a wallet in a TPM. May be called again after any failure: what was signed is answered again, and
    /// a beginning that was written is certified again. If the session was lost between authorisation and the log's
    /// beginning, it is refused (`authorisation-live`) until the TPM would refuse the lost one. A log that has begun with
    /// anything else is undefined: nothing was registered with it. The TPM's calls block.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn register_tpm(
        &self,
        tpm: &mut Tpm,
        terms: Terms,
        intermediates: Vec<Bytes>,
        now: Timestamp,
    ) -> Result<VouchedRegistration, ClientError> {
        let certificate = tpm.endorsement_certificate()?.unwrap_or_default();
        let evidence = serde_json::json!({
            "endorsementCertificate": Bytes::from(certificate),
            "intermediates": intermediates,
            "keyArea": Bytes::copy_from_slice(tpm.key_area().as_bytes()),
            "indexHandle": tpm.index().handle.0,
        });
        let evidence = Bytes::from(evidence.to_string().into_bytes());
        let begun = self.begin(tpm, terms, "tpm", evidence, now).await?;
        let key = wallet_key(tpm.public_key())?;
        if let Some(vouched) = &begun.vouched {
            return self.vouched(&key, terms, vouched);
        }
        if let Some(head) = head_of(tpm)? {
            let genesis = begun.genesis.map(|genesis| Genesis(genesis.0));
            if let Some(genesis) = genesis.filter(|genesis| Head::first(*genesis) == head) {
                let certified = tpm.certify_first(genesis)?;
                return self.complete_log(&key, terms, &certified).await;
            }
            tpm.undefine()?;
            tpm.define()?;
        }
        let credential = begun
            .credential
            .ok_or_else(|| rubbish("there is no credential"))?;
        let secret = tpm.activate_credential(&Credential {
            blob: credential.blob.to_vec(),
            encrypted_seed: credential.encrypted_seed.to_vec(),
        })?;
        let nonce = B256::new(tpm.begin()?.nonce);
        let authorised = self.authorise(key.wallet(), B256::new(*secret), nonce).await?;
        let genesis = Genesis(authorised.genesis.0);
        tpm.write_first(&Authorisation {
            genesis,
            expiration: authorised.expiration,
            signature: Signature(fixed(&authorised.signature)?),
        })?;
        let certified = tpm.certify_first(genesis)?;
        self.complete_log(&key, terms, &certified).await
    }

    /// The whole dialogue of what answers with evidence: `attest` makes it, about the challenge (see
    /// `attest::Expected::new`); software gives none.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn register_evidence(
        &self,
        component: &mut dyn TrustedWallet,
        terms: Terms,
        format: &str,
        attest: impl FnOnce(B256) -> Bytes,
        now: Timestamp,
    ) -> Result<VouchedRegistration, ClientError> {
        let key = wallet_key(component.public_key())?;
        let begun = self.begin(component, terms, format, Bytes::new(), now).await?;
        if let Some(vouched) = &begun.vouched {
            return self.vouched(&key, terms, vouched);
        }
        let challenge = begun.challenge.ok_or_else(|| rubbish("there is no challenge"))?;
        let body = CompletionBody {
            evidence: Some(attest(challenge)),
            ..CompletionBody::default()
        };
        self.complete(&key, terms, &body).await
    }

    /// The first step alone.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn begin(
        &self,
        component: &mut dyn TrustedWallet,
        terms: Terms,
        format: &str,
        evidence: Bytes,
        now: Timestamp,
    ) -> Result<BegunAnswer, ClientError> {
        let request = RegistrationRequest {
            key: wallet_key(component.public_key())?,
            owner: terms.owner,
            class: terms.class,
            format: format.to_owned(),
            evidence,
            requested_at: now,
        };
        let signature = sign(component, request.digest(&self.domain))?;
        let body = RegistrationBody::new(&request, &signature);
        let answer: BegunAnswer = self.caller.post("/v1/registrations", &body).await?;
        same("the wallet", answer.wallet, request.key.wallet().0)?;
        Ok(answer)
    }

    /// A TPM's second step alone.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn authorise(
        &self,
        wallet: WalletId,
        secret: B256,
        nonce: B256,
    ) -> Result<AuthorisationAnswer, ClientError> {
        let body = AuthorisationBody { secret, nonce };
        let path = format!("/v1/registrations/{wallet}/authorisation");
        Ok(self.caller.post(&path, &body).await?)
    }

    /// A TPM's last step alone.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn complete_log(
        &self,
        key: &WalletKey,
        terms: Terms,
        certified: &Certified,
    ) -> Result<VouchedRegistration, ClientError> {
        let body = CompletionBody {
            log: Some(CertificateFields {
                attest: Bytes::copy_from_slice(&certified.attest),
                signature: Bytes::copy_from_slice(&certified.signature.0),
            }),
            ..CompletionBody::default()
        };
        self.complete(key, terms, &body).await
    }

    async fn complete(
        &self,
        key: &WalletKey,
        terms: Terms,
        body: &CompletionBody,
    ) -> Result<VouchedRegistration, ClientError> {
        let path = format!("/v1/registrations/{}/completion", key.wallet());
        let answer: SignedAnswer = self.caller.post(&path, body).await?;
        self.vouched(key, terms, &answer.signed)
    }

    /// The registration of a wallet for its payees: refused (`not-registered`) until the contract has it for good.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn registration(
        &self,
        key: &WalletKey,
        terms: Terms,
    ) -> Result<SignedRegistration, ClientError> {
        let answer: SignedAnswer = self
            .caller
            .get(&format!("/v1/registrations/{}", key.wallet()))
            .await?;
        let signed = SignedRegistration::decode(&self.domain, &answer.signed)?;
        same("the wallet", signed.wallet(), key.wallet())?;
        same("the owner", signed.owner, terms.owner)?;
        same("the class", signed.class, terms.class)?;
        same("who signed", signed.registrar(&self.domain)?, self.registrar)?;
        Ok(signed)
    }

    /// A later end.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn renew(
        &self,
        component: &mut dyn TrustedWallet,
        terms: Terms,
        now: Timestamp,
    ) -> Result<VouchedRegistration, ClientError> {
        let key = wallet_key(component.public_key())?;
        let request = RenewalRequest {
            key,
            requested_at: now,
        };
        let signature = sign(component, request.digest(&self.domain))?;
        let path = format!("/v1/registrations/{}/renewal", key.wallet());
        let answer: SignedAnswer = self
            .caller
            .post(&path, &RenewalBody::new(&request, &signature))
            .await?;
        self.vouched(&key, terms, &answer.signed)
    }

    /// The receipt of a coin.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn receipt(&self, coin: &Coin) -> Result<SignedDeposit, ClientError> {
        let answer: SignedAnswer = self.caller.post("/v1/deposits", &DepositBody::from(coin)).await?;
        let signed = SignedDeposit::decode(&self.domain, &answer.signed)?;
        let (got, asked) = (self.domain.coin_id(&signed.coin), self.domain.coin_id(coin));
        same("the coin", got, asked)?;
        same("who signed", signed.registrar(&self.domain)?, self.registrar)?;
        Ok(signed)
    }

    /// A checkpoint of a wallet's log: the entries after `from` transfers, and the certificate for the last.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn checkpoint(
        &self,
        wallet: WalletId,
        from: Sequence,
        entries: &[LogEntry],
        certified: &Certified,
    ) -> Result<SignedLogCheckpoint, ClientError> {
        let entries: Vec<u8> = entries.iter().flat_map(LogEntry::to_bytes).collect();
        let body = CheckpointBody {
            wallet: wallet.0,
            from: from.0,
            entries: entries.into(),
            log: CertificateFields {
                attest: Bytes::copy_from_slice(&certified.attest),
                signature: Bytes::copy_from_slice(&certified.signature.0),
            },
        };
        let answer: SignedAnswer = self.caller.post("/v1/checkpoints", &body).await?;
        let signed = SignedLogCheckpoint::decode(&self.domain, &answer.signed)?;
        signed.check(&self.domain, wallet, self.registrar)?;
        Ok(signed)
    }

    /// The newest revocation list.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn revocations(&self) -> Result<RevocationList, ClientError> {
        let answer: RevocationsAnswer = self.caller.get("/v1/revocations").await?;
        let list = SignedRevocationList::decode(&self.domain, &answer.signed)?.verify(&self.domain)?;
        same("who signed", list.registrar(), self.registrar)?;
        Ok(list)
    }

    fn vouched(
        &self,
        key: &WalletKey,
        terms: Terms,
        signed: &[u8],
    ) -> Result<VouchedRegistration, ClientError> {
        let vouched = VouchedRegistration::decode(&self.domain, signed)?;
        same("the wallet", vouched.key.wallet(), key.wallet())?;
        same("the owner", vouched.registration.owner, terms.owner)?;
        same("the class", vouched.registration.class, terms.class)?;
        same("who signed", vouched.registrar(&self.domain)?, self.registrar)?;
        Ok(vouched)
    }
}

/// The component's key, as the protocol has it.
///
/// # Errors
///
/// It is no point.
pub fn wallet_key(key: PublicKey) -> Result<WalletKey, WalletKeyError> {
    WalletKey::new(B256::from_slice(&key.0[..32]), B256::from_slice(&key.0[32..]))
}

/// The Name of a TPM's log, as the protocol has it.
pub fn index_name(tpm: &Tpm) -> IndexName {
    IndexName(B256::from_slice(&tpm.index().name().0[2..]))
}

/// The head of a log that has begun.
fn head_of(tpm: &mut Tpm) -> Result<Option<Head>, ClientError> {
    match tpm.head() {
        Ok(head) => Ok(Some(head)),
        Err(error) if error.refusal().as_deref() == Some("TPM_RC_NV_UNINITIALIZED") => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn sign(component: &mut dyn TrustedWallet, digest: B256) -> Result<WalletSignature, ClientError> {
    let signature = component.sign(MessageDigest(digest.0))?;
    Ok(WalletSignature::from_bytes(&signature.0)?)
}

fn same<T: Copy + PartialEq + ToString>(field: &'static str, got: T, expected: T) -> Result<(), ClientError> {
    if got == expected {
        return Ok(());
    }
    Err(ClientError::Other {
        field,
        got: got.to_string(),
        expected: expected.to_string(),
    })
}

fn rubbish(problem: &str) -> ClientError {
    CallError::Rubbish {
        status: 0,
        problem: problem.to_owned(),
    }
    .into()
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], ClientError> {
    bytes
        .try_into()
        .map_err(|_| rubbish(&format!("{} bytes, not {N}", bytes.len())))
}
