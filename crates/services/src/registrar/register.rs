//! Registration: load, decide, save, answer. The order of the steps is what keeps a key from having two logs.

use alloy_primitives::{B256, Bytes};
use p256::ecdsa::SigningKey;
use protocol::offline::{
    ClassId, Domain, IndexName, Key, Kind, LogHead, NameHash, Registration, RegistrationDigest, Seconds,
    Signature, SignedRegistration, Timestamp, VouchedRegistration, WalletId, WalletKey, WalletSignature,
};
use storage::offline::registrar::{
    AuthorisedRecord, LogIndexRecord, RegisteredRecord, RegistrarStore, RegistrarStoreError, Stage,
    StageName, WalletRecord,
};
use trusted::{
    Genesis, PublicKey,
    tpm::{Challenge, IndexHandle, LogIndex},
};

use super::{
    ClassPolicy, FinalDeposits, FinalWallets, Policy, RegistrarError, RegistrationRequest, RenewalRequest,
    Result,
    attest::{AttestationError, Expected, Format, Tpm, tpm},
};

/// How long a challenge is good, from the first request to the last answer. (A TPM's is good until it is answered.)
pub const CHALLENGE_LIFE: Seconds = Seconds(10 * 60);

/// A TPM's clock may be slow, by a third at most (TPM 2.0 allows its owner less): an authorisation is dead after half as long
/// again, and a minute.
const CLOCK_MARGIN: Seconds = Seconds::MINUTE;

/// A registrar's two keys.
pub struct Keys {
    /// Signs registrations, receipts, checkpoints and lists.
    pub registrar: Key,
    /// P-256: authorises the beginnings of logs, which a TPM verifies.
    pub policy: SigningKey,
}

/// A registrar: its keys, its rules, its view of the chain and its store.
pub struct Registrar<S, V> {
    pub(super) domain: Domain,
    pub(super) keys: Keys,
    pub(super) policy: Policy,
    pub(super) vault: V,
    pub(super) store: S,
}

/// What a wallet has to answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The wallet.
    pub wallet: WalletId,
    /// A TPM's credential (`blob`, `encryptedSeed`), or the challenge of what answers with evidence.
    pub offer: Offer,
    /// How far the wallet is.
    pub stage: StageName,
    /// The log's first entry, once it was authorised: who was cut off after writing it has it certified again.
    pub genesis: Option<B256>,
    /// The registration for the contract, once it was signed.
    pub vouched: Option<VouchedRegistration>,
}

/// See [`Begun::offer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// For a TPM: two byte strings.
    Credential(Bytes, Bytes),
    /// For everything else: what the evidence is bound to.
    Challenge(B256),
}

impl<S: RegistrarStore, V: FinalDeposits + FinalWallets> Registrar<S, V> {
    /// The registrar of this vault. The store must be its own.
    pub fn new(domain: Domain, keys: Keys, policy: Policy, vault: V, store: S) -> Self {
        Self {
            domain,
            keys,
            policy,
            vault,
            store,
        }
    }

    /// The vault whose wallets are registered.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The registrar's rules.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Who signs.
    pub fn address(&self) -> alloy_primitives::Address {
        self.keys.registrar.address()
    }

    /// Who authorises the beginnings of logs: part of an index's policy.
    pub fn policy_key(&self) -> PublicKey {
        let point = self.keys.policy.verifying_key().to_sec1_point(false);
        let mut key = [0; 64];
        key.copy_from_slice(&point.as_bytes()[1..]);
        PublicKey(key)
    }

    /// The first step. The same terms again give the same answer, at any stage.
    pub async fn begin(
        &self,
        request: &RegistrationRequest,
        signature: &WalletSignature,
        now: Timestamp,
    ) -> Result<Begun> {
        request.check(&self.domain, signature, now)?;
        let (class, format) = self.class(request)?;
        let wallet = request.key.wallet();
        let stored = self.store.wallet(wallet).await?;
        self.check_alive(wallet, class.id).await?;
        if let Some(record) = &stored {
            let differs = differs(record, request);
            let fresh = now.since(Timestamp(record.begun_at)) <= CHALLENGE_LIFE;
            match (differs, &record.stage) {
                (None, Stage::Begun) if !fresh => {}
                (None, _) => return begun(record),
                (Some(_), Stage::Begun) => {}
                (Some((field, got, stored)), _) => {
                    return Err(RegistrarError::OtherTerms {
                        wallet,
                        field,
                        got,
                        stored,
                    });
                }
            }
        }
        let mut record = self.record(request, class, format, now)?;
        record.version = stored.map_or(0, |stored| stored.version);
        let limit = Some(self.policy.wallets_per_device);
        match self.store.save_wallet(&record, limit).await {
            Ok(_) => begun(&record),
            // The same request at the same time: the other one's answer is this one's.
            Err(RegistrarStoreError::WalletStale { .. }) => match self.store.wallet(wallet).await? {
                Some(record) if differs(&record, request).is_none() => begun(&record),
                _ => Err(RegistrarStoreError::WalletStale {
                    wallet,
                    got: record.version,
                    stored: record.version + 1,
                }
                .into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// A TPM's second step: it has the secret, and a session in which the log's beginning waits. The same nonce again gives
    /// the same authorisation; another one only when the TPM refuses the first.
    pub async fn authorise(
        &self,
        wallet: WalletId,
        secret: &[u8; 32],
        nonce: B256,
        now: Timestamp,
    ) -> Result<AuthorisedRecord> {
        let record = self.known(wallet).await?;
        let index = log_index(&record, self.policy_key())?;
        let got = tpm::answer_hash(secret);
        if got != record.expected {
            return Err(RegistrarError::WrongSecret {
                got,
                needed: record.expected,
            });
        }
        let class = ClassId(record.class);
        self.check_alive(wallet, class).await?;
        match &record.stage {
            Stage::Begun => {}
            Stage::Authorised(former) if former.nonce == nonce => return Ok(former.clone()),
            Stage::Authorised(former) => {
                let life = u64::from(former.expiration);
                let until = Timestamp(former.at)
                    .plus(Seconds(life + life / 2))
                    .plus(CLOCK_MARGIN);
                if now <= until {
                    return Err(RegistrarError::AuthorisationLive { wallet, until, now });
                }
            }
            Stage::Registered(_) => {
                return Err(RegistrarError::WrongStage {
                    wallet,
                    got: StageName::Registered,
                    needed: StageName::Begun,
                });
            }
        }
        let validity = self.known_class(class)?.validity;
        // Another end than every time before: another registration, another beginning of the log.
        let valid_until = now.plus(validity).0.max(record.last_valid_until + 1);
        let genesis = self
            .domain
            .registration_digest(&registration(&record, Timestamp(valid_until))?);
        let expiration = self.policy.authorisation_life;
        let challenge = Challenge {
            index,
            nonce: nonce.0,
        };
        let authorisation = challenge
            .authorise(&self.keys.policy, Genesis(genesis.0.0), expiration)
            .map_err(|error| RegistrarError::Authorise(error.to_string()))?;
        let authorised = AuthorisedRecord {
            nonce,
            valid_until,
            genesis: genesis.0,
            at: now.0,
            expiration,
            signature: Bytes::copy_from_slice(&authorisation.signature.0),
        };
        let next = WalletRecord {
            last_valid_until: valid_until,
            stage: Stage::Authorised(authorised.clone()),
            ..record
        };
        self.store.save_wallet(&next, None).await?;
        Ok(authorised)
    }

    /// A TPM's last step: the certificate that the log has begun as authorised. Again: the same registration. Its owner takes
    /// it to the contract.
    pub async fn finish_log(
        &self,
        wallet: WalletId,
        attest: &[u8],
        signature: &[u8],
        now: Timestamp,
    ) -> Result<VouchedRegistration> {
        let record = self.known(wallet).await?;
        let index = log_index(&record, self.policy_key())?;
        let authorised = match &record.stage {
            Stage::Registered(_) => return vouched(&record),
            Stage::Authorised(authorised) => authorised.clone(),
            Stage::Begun => {
                return Err(RegistrarError::WrongStage {
                    wallet,
                    got: StageName::Begun,
                    needed: StageName::Authorised,
                });
            }
        };
        let genesis = RegistrationDigest(authorised.genesis);
        tpm::verify_first(&key(&record)?, index, genesis, attest, signature)?;
        self.sign(record, Timestamp(authorised.valid_until), now).await
    }

    /// The last step of what answers with evidence: an enclave, or software. Again: the same registration.
    pub async fn finish_evidence(
        &self,
        wallet: WalletId,
        evidence: &[u8],
        now: Timestamp,
    ) -> Result<VouchedRegistration> {
        let mut record = self.known(wallet).await?;
        let class = self.known_class(ClassId(record.class))?;
        let begun_at = Timestamp(record.begun_at);
        match &record.stage {
            Stage::Registered(_) => return vouched(&record),
            Stage::Begun if record.index.is_none() => {}
            stage => {
                return Err(RegistrarError::WrongStage {
                    wallet,
                    got: stage.name(),
                    needed: StageName::Registered,
                });
            }
        }
        if now.since(begun_at) > CHALLENGE_LIFE {
            return Err(RegistrarError::ChallengeExpired {
                begun_at,
                now,
                life: CHALLENGE_LIFE,
            });
        }
        let format: Format = record
            .format
            .parse()
            .map_err(|_| not_accepted(class, &record.format))?;
        let verifier = class
            .verifier(format)
            .ok_or_else(|| not_accepted(class, &record.format))?;
        let expected = Expected::new(key(&record)?, record.expected);
        let facts = verifier.verify(evidence, &expected, now)?;
        record.device = facts.device;
        let valid_until = now.plus(class.validity);
        self.sign(record, valid_until, now).await
    }

    /// A later end for a registered wallet, when half of its time is over; before that, what there is.
    pub async fn renew(
        &self,
        request: &RenewalRequest,
        signature: &WalletSignature,
        now: Timestamp,
    ) -> Result<VouchedRegistration> {
        request.check(&self.domain, signature, now)?;
        let wallet = request.key.wallet();
        let record = self.known(wallet).await?;
        let class = self.known_class(ClassId(record.class))?;
        let Stage::Registered(registered) = &record.stage else {
            return Err(RegistrarError::WrongStage {
                wallet,
                got: record.stage.name(),
                needed: StageName::Registered,
            });
        };
        self.check_alive(wallet, class.id).await?;
        self.check_alive_on_chain(wallet, class.id, now).await?;
        if now.plus(Seconds(class.validity.0 / 2)) < Timestamp(registered.valid_until) {
            return vouched(&record);
        }
        if !matches!(record.format.as_str(), "tpm" | "software") {
            return Err(RegistrarError::NotRenewed {
                class: class.id,
                got: record.format,
                accepted: "tpm, software",
            });
        }
        let valid_until = now
            .plus(class.validity)
            .max(Timestamp(registered.valid_until + 1));
        self.sign(record, valid_until, now).await
    }

    /// The registration that payees take: signed when the contract has it for good.
    pub async fn registration(&self, wallet: WalletId, now: Timestamp) -> Result<SignedRegistration> {
        let record = self.known(wallet).await?;
        let registered = registered(&record)?;
        if registered.confirmed_until == Some(registered.valid_until) {
            return self.signed(&record);
        }
        self.check_alive(wallet, ClassId(record.class)).await?;
        let signed = self.signed(&record)?;
        self.check_final(&signed, registered, now).await?;
        let next = WalletRecord {
            stage: Stage::Registered(RegisteredRecord {
                confirmed_until: Some(registered.valid_until),
                ..registered.clone()
            }),
            ..record
        };
        // Somebody who asked at the same time has saved it, or renewed it: then it is asked for again.
        self.store.save_wallet(&next, None).await?;
        Ok(signed)
    }

    /// The registration of a wallet that the contract has for good, in this or a former version.
    pub(super) async fn confirmed(&self, wallet: WalletId, now: Timestamp) -> Result<SignedRegistration> {
        let record = self.known(wallet).await?;
        match registered(&record)?.confirmed_until {
            Some(_) => self.signed(&record),
            None => self.registration(wallet, now).await,
        }
    }

    /// Whether the contract has just this, from this registrar. The first time its log must be where this registration
    /// begins it: an owner could register with a renewal.
    async fn check_final(
        &self,
        signed: &SignedRegistration,
        registered: &RegisteredRecord,
        now: Timestamp,
    ) -> Result<()> {
        let wallet = signed.wallet();
        let Some(known) = self.vault.wallet(wallet).await? else {
            return Err(RegistrarError::NotRegistered { wallet });
        };
        if !known.alive {
            return Err(self.stopped_on_chain(wallet, signed.class, now).await?);
        }
        let needed = signed.registration();
        let differs = |field, got: String, needed: String| match got == needed {
            true => Ok(()),
            false => Err(RegistrarError::RegisteredOtherwise {
                wallet,
                field,
                got,
                needed,
            }),
        };
        let me = self.address();
        differs("registrar", known.registrar.to_string(), me.to_string())?;
        differs("owner", known.owner.to_string(), needed.owner.to_string())?;
        differs("class", known.class.to_string(), needed.class.to_string())?;
        differs("log", known.log.to_string(), needed.log.to_string())?;
        if known.valid_until != needed.valid_until {
            // A renewal that is not there yet.
            return Err(RegistrarError::NotRegistered { wallet });
        }
        if signed.kind() == Kind::Log && registered.confirmed_until.is_none() {
            let origin = LogHead::registered(signed.origin(&self.domain));
            differs("log's beginning", known.head.to_string(), origin.to_string())?;
        }
        Ok(())
    }

    /// Saves, and answers what is saved.
    async fn sign(
        &self,
        record: WalletRecord,
        valid_until: Timestamp,
        now: Timestamp,
    ) -> Result<VouchedRegistration> {
        self.check_alive(record.id(), ClassId(record.class)).await?;
        let first = match &record.stage {
            Stage::Registered(former) => {
                let former_digest = self
                    .domain
                    .registration_digest(&registration(&record, Timestamp(former.valid_until))?);
                Some(record.origin(former_digest).0)
            }
            _ => None,
        };
        let signature = registration(&record, valid_until)?.vouch(&self.domain, &self.keys.registrar);
        let confirmed_until = match &record.stage {
            Stage::Registered(former) => former.confirmed_until,
            _ => None,
        };
        let limit = record.device.map(|_| self.policy.wallets_per_device);
        let next = WalletRecord {
            last_valid_until: record.last_valid_until.max(valid_until.0),
            stage: Stage::Registered(RegisteredRecord {
                valid_until: valid_until.0,
                signature: Bytes::copy_from_slice(&signature.to_bytes()),
                first,
                at: now.0,
                confirmed_until,
            }),
            ..record
        };
        self.store.save_wallet(&next, limit).await?;
        vouched(&next)
    }

    fn signed(&self, record: &WalletRecord) -> Result<SignedRegistration> {
        let registered = registered(record)?;
        let valid_until = Timestamp(registered.valid_until);
        Ok(SignedRegistration {
            key: key(record)?,
            owner: record.owner,
            class: ClassId(record.class),
            index: record.index.map(|index| IndexName(index.name)),
            valid_until,
            signature: registration(record, valid_until)?.confirm(&self.domain, &self.keys.registrar),
            first: registered.first.map(RegistrationDigest),
        })
    }

    pub(super) async fn known(&self, wallet: WalletId) -> Result<WalletRecord> {
        let record = self.store.wallet(wallet).await?;
        record.ok_or(RegistrarError::UnknownWallet { wallet })
    }

    pub(super) fn known_class(&self, class: ClassId) -> Result<&ClassPolicy> {
        self.policy.class(class).ok_or_else(|| RegistrarError::NoClass {
            got: class,
            known: self.policy.classes().iter().map(|class| class.id.0).collect(),
        })
    }

    fn class(&self, request: &RegistrationRequest) -> Result<(&ClassPolicy, Format)> {
        let class = self.known_class(request.class)?;
        let format = request.format.parse().ok();
        let format = format.filter(|format| class.verifier(*format).is_some());
        match format {
            Some(format) => Ok((class, format)),
            None => Err(not_accepted(class, &request.format)),
        }
    }

    /// A new record, with what the wallet has to answer to.
    fn record(
        &self,
        request: &RegistrationRequest,
        class: &ClassPolicy,
        format: Format,
        now: Timestamp,
    ) -> Result<WalletRecord> {
        let mut record = WalletRecord {
            wallet: request.key.wallet().0,
            version: 0,
            key: key_bytes(&request.key),
            owner: request.owner,
            class: class.id.0,
            format: format.name().to_owned(),
            device: None,
            index: None,
            begun_at: now.0,
            expected: B256::new(rand::random()),
            offer: Bytes::new(),
            last_valid_until: 0,
            stage: Stage::Begun,
        };
        if format.kind() == Kind::Signature {
            // Evidence that needs a challenge comes later; what comes now is not looked at.
            let got = request.evidence.len();
            if got > 0 {
                return Err(AttestationError::TooLong { got, limit: 0 }.into());
            }
            return Ok(record);
        }
        let rules = class.rules(format).cloned().unwrap_or_default();
        let facts = Tpm::new(rules).judge(&request.evidence, &request.key, now)?;
        let activation = facts.activation(rand::random())?;
        let index = facts.index(self.policy_key());
        record.device = Some(facts.device());
        record.index = Some(LogIndexRecord {
            handle: index.handle.0,
            name: B256::from_slice(&index.name().0[2..]),
        });
        record.expected = activation.expected;
        record.offer = offer_bytes(&activation.credential.blob, &activation.credential.encrypted_seed);
        Ok(record)
    }
}

fn registered(record: &WalletRecord) -> Result<&RegisteredRecord> {
    match &record.stage {
        Stage::Registered(registered) => Ok(registered),
        stage => Err(RegistrarError::WrongStage {
            wallet: record.id(),
            got: stage.name(),
            needed: StageName::Registered,
        }),
    }
}

fn vouched(record: &WalletRecord) -> Result<VouchedRegistration> {
    let registered = registered(record)?;
    let signature = Signature::from_bytes(&registered.signature)
        .map_err(|error| corrupt(record, format!("its signature: {error}")))?;
    Ok(VouchedRegistration {
        key: key(record)?,
        registration: registration(record, Timestamp(registered.valid_until))?,
        signature,
    })
}

/// The first field in which a request is not for what was begun.
fn differs(record: &WalletRecord, request: &RegistrationRequest) -> Option<(&'static str, String, String)> {
    let evidence: Option<tpm::TpmEvidence> = serde_json::from_slice(&request.evidence).ok();
    let handle = |index: Option<u32>| index.map_or("none".to_owned(), |handle| format!("{handle:#010x}"));
    let fields = [
        ("owner", request.owner.to_string(), record.owner.to_string()),
        ("class", request.class.to_string(), record.class.to_string()),
        ("format", request.format.clone(), record.format.clone()),
        (
            "index",
            handle(evidence.map(|evidence| evidence.index_handle)),
            handle(record.index.map(|index| index.handle)),
        ),
    ];
    fields.into_iter().find(|(_, got, stored)| got != stored)
}

fn begun(record: &WalletRecord) -> Result<Begun> {
    let offer = match record.index {
        None => Offer::Challenge(record.expected),
        Some(_) => {
            let (blob, seed) = offer_parts(&record.offer)
                .ok_or_else(|| corrupt(record, "its credential is cut off".to_owned()))?;
            Offer::Credential(blob, seed)
        }
    };
    Ok(Begun {
        wallet: record.id(),
        offer,
        stage: record.stage.name(),
        genesis: match &record.stage {
            Stage::Authorised(authorised) => Some(authorised.genesis),
            _ => None,
        },
        vouched: match &record.stage {
            Stage::Registered(_) => Some(vouched(record)?),
            _ => None,
        },
    })
}

/// Length of the first, and both.
fn offer_bytes(blob: &[u8], seed: &[u8]) -> Bytes {
    let length = u16::try_from(blob.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), blob, seed].concat().into()
}

fn offer_parts(offer: &Bytes) -> Option<(Bytes, Bytes)> {
    let (length, rest) = offer.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (blob, seed) = rest.split_at_checked(length)?;
    Some((Bytes::copy_from_slice(blob), Bytes::copy_from_slice(seed)))
}

fn log_index(record: &WalletRecord, registrar: PublicKey) -> Result<LogIndex> {
    let index = record
        .index
        .ok_or(RegistrarError::NoLog { wallet: record.id() })?;
    let rebuilt = LogIndex {
        handle: IndexHandle(index.handle),
        registrar,
    };
    if rebuilt.name().0[2..] != index.name[..] {
        return Err(corrupt(record, "its log is another policy key's".to_owned()));
    }
    Ok(rebuilt)
}

fn registration(record: &WalletRecord, valid_until: Timestamp) -> Result<Registration> {
    let log = record.index.map(|index| IndexName(index.name).hash());
    Ok(Registration {
        wallet: key(record)?.wallet(),
        owner: record.owner,
        class: ClassId(record.class),
        log: log.unwrap_or(NameHash::NONE),
        valid_until,
    })
}

fn key_bytes(key: &WalletKey) -> Bytes {
    [key.x().0, key.y().0].concat().into()
}

pub(super) fn key(record: &WalletRecord) -> Result<WalletKey> {
    if record.key.len() != 64 {
        return Err(corrupt(record, format!("a key of {} bytes", record.key.len())));
    }
    let (x, y) = record.key.split_at(32);
    Ok(WalletKey::new(B256::from_slice(x), B256::from_slice(y))?)
}

fn not_accepted(class: &ClassPolicy, got: &str) -> RegistrarError {
    let accepted: Vec<&str> = class.formats().map(Format::name).collect();
    RegistrarError::FormatNotAccepted {
        class: class.id,
        got: got.chars().take(32).collect(),
        accepted: accepted.join(", "),
    }
}

fn corrupt(record: &WalletRecord, problem: String) -> RegistrarError {
    RegistrarStoreError::Corrupt {
        table: "wallet",
        row: record.wallet.to_string(),
        problem,
    }
    .into()
}
