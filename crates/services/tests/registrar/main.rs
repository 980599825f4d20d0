//! The registrar over HTTP: the whole dialogue with a real (software) TPM, and everything that it refuses.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{collections::BTreeSet, num::NonZeroU32};

use alloy_primitives::{Address, B256, Bytes};
use micropay_services::registrar::{
    Policy, PolicyError, RegistrarError,
    attest::{AttestationError, Rules, Tpm as TpmVerifier},
    client::{ClientError, Terms, index_name, wallet_key},
    http::{Limits, OPENAPI, ROUTES, limits},
};
use protocol::offline::{
    Amount, ClassId, Coin, DepositNonce, Input, Key, LogEntry, LogHead, NameHash, Registration, Seconds,
    Sequence, SpentTree, Timestamp, TransferDigest, VouchedRegistration, WalletId,
};
use support::{
    CLASS, Chain, ENDORSES, Machine, Maker, NOW, OWNER, Running, domain, policy, policy_key, registrar_key,
    rule, terms,
};
use trusted::{
    Entry, Genesis, Head, LogsTransfers as _, MessageDigest, Signature, Software, Tpm, TrustedWallet as _,
    tpm::{Authorisation, Credential, EndorsementKey},
};

/// A registrar, a maker, and a machine of that maker.
struct World {
    folder: tempfile::TempDir,
    maker: Maker,
    chain: Chain,
    machine: Machine,
}

impl World {
    fn new() -> Option<Self> {
        let maker = Maker::new("A maker of TPMs");
        Some(Self {
            folder: tempfile::tempdir().unwrap(),
            machine: Machine::new(&maker)?,
            chain: Chain::default(),
            maker,
        })
    }

    async fn registrar(&self) -> Running {
        Running::start(self.folder.path(), &self.maker, &self.chain).await
    }
}

/// The first step, by hand.
async fn begin(running: &Running, tpm: &mut Tpm, terms: Terms) -> Result<Credential, ClientError> {
    let evidence = evidence(tpm, None);
    let begun = running
        .caller()
        .begin(tpm, terms, "tpm", evidence, running.now())
        .await?;
    let credential = begun.credential.unwrap();
    Ok(Credential {
        blob: credential.blob.to_vec(),
        encrypted_seed: credential.encrypted_seed.to_vec(),
    })
}

fn evidence(tpm: &mut Tpm, certificate: Option<Vec<u8>>) -> Bytes {
    let certificate = certificate.unwrap_or_else(|| tpm.endorsement_certificate().unwrap().unwrap());
    let evidence = serde_json::json!({
        "endorsementCertificate": Bytes::from(certificate),
        "intermediates": [],
        "keyArea": Bytes::copy_from_slice(tpm.key_area().as_bytes()),
        "indexHandle": tpm.index().handle.0,
    });
    evidence.to_string().into_bytes().into()
}

fn wallet_of(tpm: &Tpm) -> WalletId {
    wallet_key(tpm.public_key()).unwrap().wallet()
}

#[tokio::test]
async fn a_wallet_in_a_tpm_is_registered_once() {
    let Some(world) = World::new() else { return };
    let running = world.registrar().await;
    let mut tpm = world.machine.wallet();
    let caller = running.caller();
    assert_eq!(caller.policy_key().await.unwrap(), policy_key());
    let signed = caller
        .register_tpm(&mut tpm, terms(), Vec::new(), NOW)
        .await
        .unwrap();
    assert_eq!(signed.registrar(&domain()).unwrap(), registrar_key().address());
    let registration = signed.registration;
    assert_eq!((registration.owner, registration.class), (OWNER, CLASS));
    assert_eq!(registration.log, index_name(&tpm).hash());
    assert_eq!(registration.valid_until, NOW.plus(Seconds(604_800)));
    // The log has begun with it.
    let genesis = domain().registration_digest(&registration);
    assert_eq!(tpm.head().unwrap(), Head::first(Genesis(genesis.0.0)));
    // Again, from another connection, later: the same bytes.
    running.later(200);
    let again = caller
        .register_tpm(&mut tpm, terms(), Vec::new(), running.now())
        .await;
    assert_eq!(again.unwrap(), signed);
    let key = wallet_key(tpm.public_key()).unwrap();
    // Payees get none before the contract has it.
    assert_eq!(rule(caller.registration(&key, terms()).await), "not-registered");
    running.chain.register(&signed);
    let known = caller.registration(&key, terms()).await.unwrap();
    assert_eq!(known.registration(), registration);
    assert_eq!(known.registrar(&domain()).unwrap(), registrar_key().address());
    // Other terms for the same key: never.
    for other in [
        Terms {
            owner: Address::repeat_byte(0x0b),
            ..terms()
        },
        Terms {
            class: ClassId::dev(1),
            ..terms()
        },
    ] {
        let format = if other.class == CLASS { "tpm" } else { "software" };
        let evidence = if other.class == CLASS {
            evidence(&mut tpm, None)
        } else {
            Bytes::new()
        };
        let refused = caller
            .begin(&mut tpm, other, format, evidence, running.now())
            .await;
        assert_eq!(rule(refused), "other-terms");
    }
    // Nor a second beginning: the secret is known, and the answer is no.
    let credential = begin(&running, &mut tpm, terms()).await.unwrap();
    let secret = B256::new(*tpm.activate_credential(&credential).unwrap());
    let refused = caller.authorise(key.wallet(), secret, B256::repeat_byte(1)).await;
    assert_eq!(rule(refused), "wrong-stage");
    // Renewed when half of the time is over, with the same origin.
    let early = caller.renew(&mut tpm, terms(), running.now()).await.unwrap();
    assert_eq!(early, signed);
    running.later(400_000);
    let renewed = caller.renew(&mut tpm, terms(), running.now()).await.unwrap();
    assert!(renewed.registration.valid_until > registration.valid_until);
    // What is vouched for is not on the chain yet.
    assert_eq!(rule(caller.registration(&key, terms()).await), "not-registered");
    running.chain.register(&renewed);
    let known = caller.registration(&key, terms()).await.unwrap();
    assert_eq!(known.registration(), renewed.registration);
    assert_eq!(known.origin(&domain()), genesis);
    running.later(400_000);
    let renewed = caller.renew(&mut tpm, terms(), running.now()).await.unwrap();
    running.chain.register(&renewed);
    let known = caller.registration(&key, terms()).await.unwrap();
    assert_eq!(known.origin(&domain()), genesis);
}

#[tokio::test]
async fn killed_between_any_two_steps_it_goes_on() {
    let Some(world) = World::new() else { return };
    let mut tpm = world.machine.wallet();
    let wallet = wallet_of(&tpm);
    // Before and after each step the registrar is another process.
    let running = world.registrar().await;
    let credential = begin(&running, &mut tpm, terms()).await.unwrap();
    running.stop().await;
    let running = world.registrar().await;
    assert_eq!(begin(&running, &mut tpm, terms()).await.unwrap(), credential);
    let secret = B256::new(*tpm.activate_credential(&credential).unwrap());
    let nonce = B256::new(tpm.begin().unwrap().nonce);
    let authorised = running.caller().authorise(wallet, secret, nonce).await.unwrap();
    running.stop().await;
    let running = world.registrar().await;
    running.later(30);
    let again = running.caller().authorise(wallet, secret, nonce).await.unwrap();
    assert_eq!(again, authorised, "the same session, the same bytes");
    assert_eq!(running.wallets(wallet).await.unwrap(), "Authorised");
    let genesis = Genesis(authorised.genesis.0);
    tpm.write_first(&Authorisation {
        genesis,
        expiration: authorised.expiration,
        signature: Signature(authorised.signature[..].try_into().unwrap()),
    })
    .unwrap();
    running.stop().await;
    drop(tpm);
    // The wallet was killed, too: the whole dialogue again finds the log as it is.
    let running = world.registrar().await;
    let mut tpm = world.machine.wallet();
    let signed = running
        .caller()
        .register_tpm(&mut tpm, terms(), Vec::new(), running.now())
        .await
        .unwrap();
    assert_eq!(
        domain().registration_digest(&signed.registration).0,
        authorised.genesis
    );
    running.chain.register(&signed);
    let known = running.caller().registration(&signed.key, terms()).await.unwrap();
    running.stop().await;
    // And after it, with the chain away: what was signed once is signed again.
    let running = world.registrar().await;
    running.chain.set_down(true);
    assert_eq!(
        running.caller().registration(&signed.key, terms()).await.unwrap(),
        known
    );
}

#[tokio::test]
async fn attack_second_authorisation_for_a_second_log() {
    let Some(world) = World::new() else { return };
    let running = world.registrar().await;
    let caller = running.caller();
    let mut tpm = world.machine.wallet();
    let wallet = wallet_of(&tpm);
    let credential = begin(&running, &mut tpm, terms()).await.unwrap();
    let secret = B256::new(*tpm.activate_credential(&credential).unwrap());
    let nonce = B256::new(tpm.begin().unwrap().nonce);
    let first = caller.authorise(wallet, secret, nonce).await.unwrap();
    let begin_log = |tpm: &mut Tpm, authorised: &micropay_services::registrar::wire::AuthorisationAnswer| {
        tpm.write_first(&Authorisation {
            genesis: Genesis(authorised.genesis.0),
            expiration: authorised.expiration,
            signature: Signature(authorised.signature[..].try_into().unwrap()),
        })
    };
    begin_log(&mut tpm, &first).unwrap();
    // What the first log certifies is kept for later.
    let head = tpm.head().unwrap();
    let entry = Entry::new([1; 32], trusted::TransferDigest([2; 32]));
    let head = tpm.extend(head, entry).unwrap();
    let kept = tpm.certify(head, entry.transfer()).unwrap();
    // The log is undefined, and another beginning asked for: not while the TPM could take the first.
    tpm.undefine().unwrap();
    tpm.define().unwrap();
    let nonce = B256::new(tpm.begin().unwrap().nonce);
    assert_eq!(
        rule(caller.authorise(wallet, secret, nonce).await),
        "authorisation-live"
    );
    running.later(60 + 30 + 60);
    assert_eq!(
        rule(caller.authorise(wallet, secret, nonce).await),
        "authorisation-live"
    );
    running.later(1);
    let second = caller.authorise(wallet, secret, nonce).await.unwrap();
    // And then the beginning is another one: the first log is worth nothing under the registration to come.
    assert_ne!(second.genesis, first.genesis);
    begin_log(&mut tpm, &second).unwrap();
    let key = wallet_key(tpm.public_key()).unwrap();
    let genesis = Genesis(second.genesis.0);
    let certified = tpm.certify_first(genesis).unwrap();
    // The certificate of the first beginning does not complete it, nor that of a longer log.
    let stale = caller.complete_log(&key, terms(), &kept).await;
    assert_eq!(rule(stale), "evidence-does-not-verify");
    let signed = caller.complete_log(&key, terms(), &certified).await.unwrap();
    let origin = domain().registration_digest(&signed.registration);
    assert_eq!(origin.0, second.genesis);
    running.chain.register(&signed);
    caller.registration(&key, terms()).await.unwrap();
    let entries = [LogEntry::from_bytes(&entry.0)];
    let folded = LogHead::registered(origin).folded(&entries);
    assert_ne!(folded.0.0, head.0, "the kept certificate is of another log");
    running.chain.settle(wallet, folded);
    let refused = caller.checkpoint(wallet, Sequence::ZERO, &entries, &kept).await;
    assert_eq!(rule(refused), "not-certified");
}

#[tokio::test]
async fn evidence_of_a_tpm_that_is_worth_nothing() {
    let Some(world) = World::new() else { return };
    let running = world.registrar().await;
    let caller = running.caller();
    let mut tpm = world.machine.wallet();
    let endorsement = tpm.endorsement_key().unwrap();
    let strangers = Maker::new("Another maker");
    let software = Maker::new("swtpm-localca-rootca");
    let certificate = world.maker.certify(endorsement, ENDORSES);
    let mut flipped = certificate.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut padded = certificate.clone();
    padded.extend([0xff; 40]);
    let mut followed = certificate.clone();
    followed.extend([1; 40]);
    let of_other_key = {
        let mut point = [0; 64];
        point.copy_from_slice(&tpm.public_key().0);
        world
            .maker
            .certify(EndorsementKey(trusted::PublicKey(point)), ENDORSES)
    };
    for (certificate, needed) in [
        (strangers.certify(endorsement, ENDORSES), "wrong-chain"),
        (software.certify(endorsement, ENDORSES), "emulated"),
        (
            world.maker.certify(endorsement, &[2, 23, 133, 8, 2]),
            "wrong-chain",
        ),
        (flipped, "wrong-chain"),
        (followed, "evidence-malformed"),
        (certificate[..100].to_vec(), "evidence-malformed"),
        (Vec::new(), "evidence-malformed"),
    ] {
        let evidence = evidence(&mut tpm, Some(certificate));
        let refused = caller.begin(&mut tpm, terms(), "tpm", evidence, NOW).await;
        assert_eq!(rule(refused), needed);
    }
    // Another TPM's certificate: the credential is for that one, and this one does not open it.
    let evidence_of_other = evidence(&mut tpm, Some(of_other_key));
    let begun = caller
        .begin(&mut tpm, terms(), "tpm", evidence_of_other, NOW)
        .await
        .unwrap();
    let credential = begun.credential.unwrap();
    let opened = tpm.activate_credential(&Credential {
        blob: credential.blob.to_vec(),
        encrypted_seed: credential.encrypted_seed.to_vec(),
    });
    assert!(opened.unwrap_err().refusal().is_some());
    let refused = caller.authorise(wallet_of(&tpm), B256::ZERO, B256::ZERO).await;
    assert_eq!(rule(refused), "wrong-secret");
    // What a maker pads is read. And times are looked at.
    let key = wallet_key(tpm.public_key()).unwrap();
    let rules = policy(world.folder.path(), &world.maker, "");
    let rules = rules
        .class(CLASS)
        .unwrap()
        .rules("tpm".parse().unwrap())
        .unwrap()
        .clone();
    let verifier = TpmVerifier::new(rules.clone());
    let padded = evidence(&mut tpm, Some(padded));
    let facts = verifier.judge(&padded, &key, NOW).unwrap();
    assert_eq!(facts.endorsement, endorsement);
    for (now, why) in [(1_700_000_000, "not begun"), (2_100_000_000, "expired")] {
        let refused = verifier.judge(&padded, &key, Timestamp(now));
        assert!(
            matches!(refused, Err(AttestationError::OutOfTime { .. })),
            "{why}"
        );
    }
    let other = protocol::offline::SoftwareKey::from_bytes(&[7; 32]).unwrap();
    assert!(matches!(
        verifier.judge(&padded, other.public_key(), NOW),
        Err(AttestationError::WrongKey { .. })
    ));
    // A key that could leave the TPM, an index that is not the owner's, and no roots.
    let change = |field: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_slice(&padded).unwrap();
        json[field] = value;
        serde_json::to_vec(&json).unwrap()
    };
    let mut area = tpm.key_area().as_bytes().to_vec();
    area[7] ^= 2;
    for changed in [
        change("keyArea", serde_json::json!(Bytes::from(area))),
        change("indexHandle", serde_json::json!(0x01c0_000a)),
        change("more", serde_json::json!(1)),
    ] {
        assert!(matches!(
            verifier.judge(&changed, &key, NOW),
            Err(AttestationError::Malformed { .. })
        ));
    }
    let nobody = TpmVerifier::new(Rules::default());
    assert!(matches!(
        nobody.judge(&padded, &key, NOW),
        Err(AttestationError::WrongChain { .. })
    ));
}

#[tokio::test]
async fn a_request_of_somebody_else_is_refused() {
    let Some(world) = World::new() else { return };
    let running = world.registrar().await;
    let mut tpm = world.machine.wallet();
    let evidence = evidence(&mut tpm, None);
    // Old, and of the future: a replay after five minutes.
    let caller = running.caller();
    for at in [NOW.0 - 301, NOW.0 + 301] {
        let refused = caller
            .begin(&mut tpm, terms(), "tpm", evidence.clone(), Timestamp(at))
            .await;
        assert_eq!(rule(refused), "request-out-of-time");
    }
    // The wallet did not sign these terms.
    let key = wallet_key(tpm.public_key()).unwrap();
    let signature = tpm.sign(MessageDigest([5; 32])).unwrap();
    let body = serde_json::json!({
        "key": { "x": key.x(), "y": key.y() }, "owner": OWNER, "class": 1, "format": "tpm",
        "evidence": evidence, "requestedAt": NOW.0, "signature": Bytes::copy_from_slice(&signature.0),
    });
    let (status, answer) = post(&running, "/v1/registrations", &body).await;
    assert_eq!((status, answer["rule"].as_str()), (401, Some("wrong-signer")));
    let mut high = body.clone();
    high["signature"] = serde_json::json!(Bytes::from(vec![0xff; 64]));
    assert_eq!(
        post(&running, "/v1/registrations", &high).await.1["rule"],
        "bad-signature"
    );
    let mut off = body.clone();
    off["key"]["y"] = serde_json::json!(B256::repeat_byte(1));
    assert_eq!(
        post(&running, "/v1/registrations", &off).await.1["rule"],
        "bad-key"
    );
    let mut unknown = body;
    unknown["more"] = 1.into();
    assert_eq!(post(&running, "/v1/registrations", &unknown).await.0, 400);
    // No class, and no such evidence.
    let none = Terms {
        class: ClassId(9),
        ..terms()
    };
    assert_eq!(
        rule(caller.begin(&mut tpm, none, "tpm", evidence.clone(), NOW).await),
        "no-class"
    );
    for format in ["sgx", "software", "nonsense"] {
        let refused = caller
            .begin(&mut tpm, terms(), format, evidence.clone(), NOW)
            .await;
        assert_eq!(rule(refused), "format-not-accepted");
    }
    assert_eq!(running.wallets(key.wallet()).await, None, "nothing was stored");
}

async fn post(running: &Running, path: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
    let answer = reqwest::Client::new()
        .post(format!("{}{path}", running.base))
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    (
        status,
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap(),
    )
}

/// A DEV wallet that is registered.
async fn dev_wallet(running: &Running, folder: &std::path::Path) -> (Software, WalletId) {
    let mut wallet = Software::create(folder).unwrap();
    let terms = Terms {
        class: ClassId::dev(1),
        ..terms()
    };
    let signed = running
        .caller()
        .register_evidence(&mut wallet, terms, "software", |_| Bytes::new(), running.now())
        .await
        .unwrap();
    assert!(signed.registration.class.is_dev());
    running.chain.register(&signed);
    (wallet, signed.key.wallet())
}

#[tokio::test]
async fn software_is_registered_in_dev_classes_and_challenges_end() {
    let (folder, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let maker = Maker::new("A maker of TPMs");
    let running = Running::start(folder.path(), &maker, &Chain::default()).await;
    let (mut wallet, id) = dev_wallet(&running, &keys.path().join("a")).await;
    let terms = Terms {
        class: ClassId::dev(1),
        ..terms()
    };
    let caller = running.caller();
    let renewed = caller.renew(&mut wallet, terms, running.now()).await.unwrap();
    assert_eq!(renewed.key.wallet(), id);
    // A challenge is good for ten minutes; then the wallet begins anew, and gets another.
    let mut late = Software::create(&keys.path().join("b")).unwrap();
    let begun = caller
        .begin(&mut late, terms, "software", Bytes::new(), NOW)
        .await
        .unwrap();
    running.later(601);
    let body = serde_json::json!({ "evidence": "0x" });
    let path = format!("/v1/registrations/{}/completion", begun.wallet);
    assert_eq!(post(&running, &path, &body).await.1["rule"], "challenge-expired");
    let anew = caller
        .begin(&mut late, terms, "software", Bytes::new(), running.now())
        .await
        .unwrap();
    assert_ne!(anew.challenge, begun.challenge);
    let more = serde_json::json!({ "evidence": "0x01" });
    assert_eq!(post(&running, &path, &more).await.1["rule"], "evidence-too-long");
    assert_eq!(post(&running, &path, &body).await.0, 200);
    let nobody = format!("/v1/registrations/{}/completion", B256::repeat_byte(3));
    assert_eq!(post(&running, &nobody, &body).await.1["rule"], "unknown-wallet");
}

#[tokio::test]
async fn a_receipt_is_signed_once_and_only_for_what_is_final() {
    let (folder, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let maker = Maker::new("A maker of TPMs");
    let chain = Chain::default();
    let running = Running::start(folder.path(), &maker, &chain).await;
    let caller = running.caller();
    let (_, wallet) = dev_wallet(&running, keys.path()).await;
    let coin = |amount: u128, nonce: u64| Coin {
        wallet,
        asset: Address::ZERO,
        amount: Amount(amount),
        deposit_nonce: DepositNonce(nonce),
    };
    let settle_by = NOW.plus(Seconds::DAY);
    assert_eq!(rule(caller.receipt(&coin(7, 0)).await), "not-final");
    chain.deposit(&coin(7, 0), settle_by);
    // The chain has another coin than the one that is asked for.
    assert_eq!(rule(caller.receipt(&coin(8, 0)).await), "not-final");
    chain.set_down(true);
    let problem = caller.receipt(&coin(7, 0)).await.unwrap_err();
    assert!(problem.retry() && !problem.to_string().contains("secret"));
    chain.set_down(false);
    let signed = caller.receipt(&coin(7, 0)).await.unwrap();
    assert_eq!(signed.settle_by, settle_by);
    // Once: whatever the chain says later, and without it.
    chain.deposit(&coin(7, 0), settle_by.plus(Seconds::DAY));
    chain.set_down(true);
    assert_eq!(caller.receipt(&coin(7, 0)).await.unwrap(), signed);
    chain.set_down(false);
    let stranger = Coin {
        wallet: WalletId(B256::repeat_byte(1)),
        ..coin(1, 5)
    };
    chain.deposit(&stranger, settle_by);
    assert_eq!(rule(caller.receipt(&stranger).await), "unknown-wallet");
    running.registrar.revoke(wallet, NOW).await.unwrap();
    chain.deposit(&coin(1, 6), settle_by);
    assert_eq!(rule(caller.receipt(&coin(1, 6)).await), "revoked");
}

#[tokio::test]
async fn caps_and_checkpoints_of_a_tpms_wallet() {
    let Some(world) = World::new() else { return };
    let running = world.registrar().await;
    let caller = running.caller();
    let mut tpm = world.machine.wallet();
    let signed = caller
        .register_tpm(&mut tpm, terms(), Vec::new(), NOW)
        .await
        .unwrap();
    let wallet = signed.key.wallet();
    running.chain.register(&signed);

    // Caps: 100 a coin, 150 a wallet, in one asset.
    let coin = |amount: u128, nonce: u64, asset: Address| {
        let coin = Coin {
            wallet,
            asset,
            amount: Amount(amount),
            deposit_nonce: DepositNonce(nonce),
        };
        running.chain.deposit(&coin, NOW.plus(Seconds::DAY));
        coin
    };
    let native = Address::ZERO;
    assert_eq!(
        rule(caller.receipt(&coin(101, 0, native)).await),
        "coin-too-large"
    );
    assert_eq!(
        rule(caller.receipt(&coin(1, 1, OWNER)).await),
        "asset-not-accepted"
    );
    caller.receipt(&coin(100, 2, native)).await.unwrap();
    assert_eq!(rule(caller.receipt(&coin(51, 3, native)).await), "above-cap");
    caller.receipt(&coin(50, 4, native)).await.unwrap();

    // Checkpoints. A clone of the TPM, from before the first payment.
    drop(tpm);
    let clone = world.machine.emulator.clone_state().unwrap();
    let copied = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(world.machine.folder.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copied.path().join(file.file_name())).unwrap();
    }
    let mut tpm = world.machine.wallet();
    let origin = LogHead::registered(domain().registration_digest(&signed.registration));
    let mut entries = Vec::new();
    let mut pay = |tpm: &mut Tpm, input: u8, transfer: u8| {
        let entry = Entry::new([input; 32], trusted::TransferDigest([transfer; 32]));
        let head = tpm.head().unwrap();
        let head = tpm.extend(head, entry).unwrap();
        entries.push(LogEntry::from_bytes(&entry.0));
        (tpm.certify(head, entry.transfer()).unwrap(), entries.clone())
    };
    let (first, of_first) = pay(&mut tpm, 1, 0x11);
    let (second, of_second) = pay(&mut tpm, 2, 0x22);
    let head = |entries: &[LogEntry]| origin.folded(entries);

    assert_eq!(
        rule(
            caller
                .checkpoint(wallet, Sequence::ZERO, &of_second, &second)
                .await
        ),
        "not-settled"
    );
    running.chain.settle(wallet, head(&of_second));
    for (from, entries, certified, needed) in [
        (0, &of_first[..], &second, "not-certified"),
        (0, &of_second[..1], &second, "not-certified"),
        (1, &of_second[..], &second, "entries-missing"),
        (0, &[], &second, "entry-count"),
        (0, &of_first[..], &first, "not-settled"),
    ] {
        let refused = caller
            .checkpoint(wallet, Sequence(from), entries, certified)
            .await;
        assert_eq!(rule(refused), needed);
    }
    let point = caller
        .checkpoint(wallet, Sequence::ZERO, &of_second, &second)
        .await
        .unwrap();
    assert_eq!(point.checkpoint.sequence, Sequence(2));
    assert_eq!(point.checkpoint.head, head(&of_second));
    let spent = SpentTree::new([1, 2].map(|input| Input(B256::repeat_byte(input))));
    assert_eq!(point.checkpoint.spent, spent.root());
    // Again, and an older part of it: what was signed.
    running.later(50);
    for (entries, certified) in [(&of_second, &second), (&of_first, &first)] {
        let again = caller
            .checkpoint(wallet, Sequence::ZERO, entries, certified)
            .await;
        assert_eq!(again.unwrap(), point);
    }
    // Further, from the last one.
    let (third, of_third) = pay(&mut tpm, 3, 0x33);
    running.chain.settle(wallet, head(&of_third));
    let next = caller
        .checkpoint(wallet, Sequence(2), &of_third[2..], &third)
        .await
        .unwrap();
    assert_eq!(next.checkpoint.sequence, Sequence(3));
    // An input that was spent before is not hidden behind a checkpoint.
    let (twice, of_twice) = pay(&mut tpm, 1, 0x44);
    running.chain.settle(wallet, head(&of_twice));
    let refused = caller
        .checkpoint(wallet, Sequence(3), &of_twice[3..], &twice)
        .await;
    assert_eq!(rule(refused), "input-spent-twice");

    // The clone's log forks: it is shown, and the wallet is gone.
    let connection = clone.connect().unwrap();
    let mut cloned = Tpm::open(connection, copied.path(), trusted::tpm::Passwords::default()).unwrap();
    let entry = Entry::new([1; 32], trusted::TransferDigest([0x99; 32]));
    let base = cloned.head().unwrap();
    assert_eq!(base.0, origin.0.0);
    let forked = cloned.extend(base, entry).unwrap();
    let certified = cloned.certify(forked, entry.transfer()).unwrap();
    let fork = [LogEntry {
        input: Input(B256::repeat_byte(1)),
        transfer: TransferDigest(B256::repeat_byte(0x99)),
    }];
    assert!(
        running
            .caller()
            .revocations()
            .await
            .unwrap()
            .revoked_at(wallet, CLASS)
            .is_none()
    );
    let refused = caller.checkpoint(wallet, Sequence::ZERO, &fork, &certified).await;
    assert_eq!(rule(refused), "log-forks");
    let list = caller.revocations().await.unwrap();
    assert!(list.revoked_at(wallet, CLASS).is_some());
    assert_eq!(
        rule(caller.renew(&mut tpm, terms(), running.now()).await),
        "revoked"
    );
    assert_eq!(
        rule(caller.checkpoint(wallet, Sequence::ZERO, &of_third, &third).await),
        "revoked"
    );
}

/// An owner takes its wallet to the contract with a registrar of its own, where payments by the log are worth nothing; or
/// with a renewal, which begins another log than the TPM's. No payee hears of either, and no coin gets a receipt.
#[tokio::test]
async fn attack_register_elsewhere_or_otherwise() {
    let Some(world) = World::new() else { return };
    let running = world.registrar().await;
    let caller = running.caller();
    let mut tpm = world.machine.wallet();
    let signed = caller
        .register_tpm(&mut tpm, terms(), Vec::new(), NOW)
        .await
        .unwrap();
    let key = signed.key;
    let coin = Coin {
        wallet: key.wallet(),
        asset: Address::ZERO,
        amount: Amount(7),
        deposit_nonce: DepositNonce(0),
    };
    running.chain.deposit(&coin, NOW.plus(Seconds::DAY));
    let refused = async |needed: &str| {
        assert_eq!(rule(caller.registration(&key, terms()).await), needed);
        assert_eq!(rule(caller.receipt(&coin).await), needed);
    };
    refused("not-registered").await;

    let own = Key::from_bytes(&[0x55; 32]).unwrap();
    let elsewhere = Registration {
        log: NameHash::NONE,
        ..signed.registration
    };
    running.chain.register(&VouchedRegistration {
        registration: elsewhere,
        signature: elsewhere.vouch(&domain(), &own),
        ..signed
    });
    refused("registered-otherwise").await;

    running.chain.forget(key.wallet());
    running.later(400_000);
    let renewed = caller.renew(&mut tpm, terms(), running.now()).await.unwrap();
    running.chain.register(&renewed);
    refused("registered-otherwise").await;

    running.chain.forget(key.wallet());
    running.chain.register(&signed);
    running.chain.register(&renewed);
    caller.registration(&key, terms()).await.unwrap();
    caller.receipt(&coin).await.unwrap();
}

/// An owner stops its wallet on the chain by itself, where payees without a network do not hear of it: the registrar signs
/// nothing more for it, and its list says so.
#[tokio::test]
async fn attack_a_wallet_that_the_contract_has_stopped_goes_on_paying() {
    let (folder, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let maker = Maker::new("A maker of TPMs");
    let chain = Chain::default();
    let running = Running::start(folder.path(), &maker, &chain).await;
    let caller = running.caller();
    let (_, wallet) = dev_wallet(&running, keys.path()).await;
    let coin = Coin {
        wallet,
        asset: Address::ZERO,
        amount: Amount(7),
        deposit_nonce: DepositNonce(0),
    };
    chain.deposit(&coin, NOW.plus(Seconds::DAY));
    let class = ClassId::dev(1);
    assert_eq!(
        caller.revocations().await.unwrap().revoked_at(wallet, class),
        None
    );
    chain.stop(wallet);
    assert_eq!(rule(caller.receipt(&coin).await), "revoked");
    let list = caller.revocations().await.unwrap();
    assert!(list.revoked_at(wallet, class).is_some());
}

/// A double spend that anybody proved on the chain is in the next list, also when nobody asks for anything of that wallet.
#[tokio::test]
async fn double_spends_that_were_proven_are_in_the_list() {
    let (folder, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let maker = Maker::new("A maker of TPMs");
    let chain = Chain::default();
    let running = Running::start(folder.path(), &maker, &chain).await;
    let caller = running.caller();
    let (_, wallet) = dev_wallet(&running, keys.path()).await;
    let foreign = WalletId(B256::repeat_byte(9));
    let class = ClassId::dev(1);
    caller.revocations().await.unwrap();
    chain.prove(wallet);
    chain.prove(foreign);
    // A node that does not answer keeps no list back.
    chain.set_down(true);
    running.later(3_600);
    assert_eq!(
        caller.revocations().await.unwrap().revoked_at(wallet, class),
        None
    );
    chain.set_down(false);
    running.later(3_600);
    let list = caller.revocations().await.unwrap();
    assert!(list.revoked_at(wallet, class).is_some());
    assert_eq!(list.revoked_at(foreign, class), None, "another registrar's");
}

#[tokio::test]
async fn the_revocation_list_ages_and_is_signed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let maker = Maker::new("A maker of TPMs");
    let running = Running::start(folder.path(), &maker, &Chain::default()).await;
    let caller = running.caller();
    let (one, two) = (WalletId(B256::repeat_byte(1)), WalletId(B256::repeat_byte(2)));
    let empty = caller.revocations().await.unwrap();
    assert_eq!(empty.issued_at(), NOW);
    running.later(3_599);
    let same = caller.revocations().await.unwrap();
    assert_eq!((same.issued_at(), same.age(running.now())), (NOW, Seconds(3_599)));
    running.later(1);
    assert_eq!(caller.revocations().await.unwrap().issued_at(), running.now());
    // A revocation is in the next list, within the same second, and stays with its time.
    let at = running.now();
    running.registrar.revoke(one, at).await.unwrap();
    let list = caller.revocations().await.unwrap();
    assert!(list.revoked_at(one, CLASS).is_some() && list.revoked_at(two, CLASS).is_none());
    running.later(1_000);
    assert_eq!(running.registrar.revoke(one, running.now()).await.unwrap(), at);
    running
        .registrar
        .kill_class(ClassId(5), running.now())
        .await
        .unwrap();
    let list = caller.revocations().await.unwrap();
    assert!(list.revoked_at(two, ClassId(5)).is_some());
    // It outlives the process.
    running.stop().await;
    let running = Running::start(folder.path(), &maker, &Chain::default()).await;
    let again = running.caller().revocations().await.unwrap();
    assert_eq!(again, list);
    // A killed class registers nobody.
    running.registrar.kill_class(ClassId::dev(1), NOW).await.unwrap();
    let keys = tempfile::tempdir().unwrap();
    let mut wallet = Software::create(keys.path()).unwrap();
    let dev = Terms {
        class: ClassId::dev(1),
        ..terms()
    };
    let refused = running
        .caller()
        .begin(&mut wallet, dev, "software", Bytes::new(), NOW)
        .await;
    assert_eq!(rule(refused), "revoked");
}

#[tokio::test]
async fn bounds_hold() {
    let folder = tempfile::tempdir().unwrap();
    let maker = Maker::new("A maker of TPMs");
    let narrow = Limits {
        per_ip: NonZeroU32::new(1),
        ..limits()
    };
    let running = Running::bounded(folder.path(), &maker, &Chain::default(), narrow).await;
    let long = serde_json::json!({ "evidence": Bytes::from(vec![0; limits().body_bytes]) });
    let (status, answer) = post(&running, "/v1/registrations", &long).await;
    assert_eq!((status, answer["rule"].as_str()), (413, Some("body-too-large")));
    let asked = reqwest::Client::new();
    let media = asked
        .post(format!("{}/v1/deposits", running.base))
        .body("{}")
        .send()
        .await;
    assert_eq!(media.unwrap().status().as_u16(), 415);
    let mut statuses = BTreeSet::new();
    for _ in 0..12 {
        let answer = asked
            .get(format!("{}/v1/registrar", running.base))
            .send()
            .await
            .unwrap();
        statuses.insert(answer.status().as_u16());
    }
    assert_eq!(statuses, BTreeSet::from([200, 429]));
}

#[test]
fn a_policy_makes_sense_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let maker = Maker::new("A maker of TPMs");
    std::fs::write(folder.path().join("maker.crt"), &maker.root).unwrap();
    std::fs::write(folder.path().join("soft.crt"), Maker::new("swtpm-localca").root).unwrap();
    let parse = |text: &str, dev: bool| Policy::parse(text, folder.path(), dev).map(drop);
    let tpm = r#"number = 1
        kind = "log"
        validity = 3600
        accept = [{ format = "tpm", roots = ["maker.crt"] }]"#;
    parse(&format!("[[class]]\n{tpm}"), false).unwrap();
    let class = |change: &dyn Fn(String) -> String| change(format!("[[class]]\n{tpm}"));
    let cases: [(&str, String); 13] = [
        ("ClassTwice", format!("[[class]]\n{tpm}\n[[class]]\n{tpm}")),
        ("Toml", class(&|text| text + "\nmore = 1")),
        ("EmulatedRoot", class(&|text| text.replace("maker", "soft"))),
        (
            "DevClass",
            class(&|text| text.replace("kind", "dev = true\nkind")),
        ),
        (
            "NumberTooLarge",
            class(&|text| text.replace("number = 1", "number = 2147483648")),
        ),
        ("OutOfRange", class(&|text| text.replace("3600", "59"))),
        ("OutOfRange", class(&|text| text.replace("3600", "7776001"))),
        (
            "WrongKind",
            class(&|text| text.replace("\"log\"", "\"signature\"")),
        ),
        ("Accept", class(&|text| text.replace("\"maker.crt\"", ""))),
        ("Accept", class(&|text| text.replace("maker", "missing"))),
        (
            "SoftwareNotDev",
            class(&|text| {
                text.replace("\"log\"", "\"signature\"")
                    .replace("tpm", "software")
            }),
        ),
        (
            "Accept",
            class(&|text| text.replace("\"log\"", "\"signature\"").replace("tpm", "nitro")),
        ),
        (
            "Formats",
            "[[class]]\nnumber = 1\nkind = \"log\"\nvalidity = 3600\naccept = []".to_owned(),
        ),
    ];
    for (needed, text) in cases {
        let refused: PolicyError = parse(&text, false).unwrap_err();
        let name = format!("{refused:?}");
        assert!(name.starts_with(needed), "{needed}: {refused}");
    }
    // What is for development is taken where that is allowed.
    let soft = class(&|text| text.replace("maker", "soft").replace("kind", "dev = true\nkind"));
    parse(&soft, true).unwrap();
}

/// The document names every route, and every route answers as it says.
#[tokio::test]
async fn openapi_says_what_there_is() {
    let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let written: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| (method.clone(), path.clone()))
        })
        .collect();
    let routes = ROUTES.map(|(method, path)| (method.to_owned(), path.to_owned()));
    assert_eq!(written, BTreeSet::from(routes));

    let folder = tempfile::tempdir().unwrap();
    let maker = Maker::new("A maker of TPMs");
    let running = Running::start(folder.path(), &maker, &Chain::default()).await;
    for path in ["/v1/registrar", "/v1/revocations", "/openapi.json"] {
        let answer = reqwest::get(format!("{}{path}", running.base)).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        let answer: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let schema =
            &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        let name = schema["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        let schema = &document["components"]["schemas"][name];
        for field in schema["required"].as_array().into_iter().flatten() {
            assert!(!answer[field.as_str().unwrap()].is_null(), "{path}: {field}");
        }
    }
    let error = RegistrarError::UnknownWallet {
        wallet: WalletId(B256::ZERO),
    };
    assert!(
        document["paths"]["/v1/registrations/{wallet}"]["get"]["responses"][error.status().to_string()]
            .is_object()
    );
}
