//! What is heard, said again, left out, or said by somebody else.

use super::*;

#[test]
fn attack_bus_interposer_replays() {
    let Some((_bench, mut wallet, hand, base)) = tapped() else {
        return;
    };
    let last = |seen: &Heard, kind| {
        let seen = seen.lock().unwrap();
        seen.iter()
            .rfind(|(command, _)| is(kind, command))
            .unwrap()
            .clone()
    };
    let code = |answer: Vec<u8>| ResponseCode(u32::from_be_bytes(answer[6..10].try_into().unwrap())).name();

    // An old answer: the head of yesterday, by which the wallet would pay from a log that has gone on.
    let seen = hand.records();
    assert_eq!(wallet.head().unwrap(), base);
    let (_, old) = last(&seen, TpmCc::NvRead);
    wallet.bare_head();
    let (_, bare) = last(&seen, TpmCc::NvRead);
    let head = wallet.extend(base, entry(1)).unwrap();
    wallet.certify(head, entry(1).transfer()).unwrap();
    hand.changes_answers(TpmCc::NvRead, move |answer| answer.clone_from(&old));
    let error = wallet.extend(base, entry(1)).unwrap_err();
    assert!(matches!(error, TrustedError::ForgedAnswer { .. }), "{error}");
    hand.changes_answers(TpmCc::NvRead, move |answer| answer.clone_from(&bare));
    assert_eq!(wallet.bare_head(), base, "control");

    // An old command. The policy session of an extend is over, so the interposer makes one at the same handle, as it can.
    let seen = hand.records();
    wallet.extend(head, entry(2)).unwrap();
    let (old, _) = last(&seen, TpmCc::NvExtend);
    wallet.bare_append(entry(3)).unwrap();
    let (bare, _) = last(&seen, TpmCc::NvExtend);
    let head = head.then(entry(2)).then(entry(3));
    hand.rests();
    let again = |wallet: &mut Tpm, frame: Vec<u8>| {
        let (session, _) = wallet.device.start_policy().unwrap();
        assert_eq!(frame[22..26], session.to_be_bytes(), "the same handle");
        wallet.device.policy_nv_written(session).unwrap();
        let branches = wallet.index.branches();
        wallet.device.policy_or(session, &branches).unwrap();
        let answer = wallet.device.raw(&frame).unwrap();
        wallet.device.end_session(session).unwrap();
        code(answer)
    };
    assert_eq!(again(&mut wallet, old), "TPM_RC_BAD_AUTH");
    assert_eq!(wallet.head().unwrap(), head);
    assert_eq!(again(&mut wallet, bare), "TPM_RC_SUCCESS", "control");
    let head = head.then(entry(3));
    assert_eq!(wallet.head().unwrap(), head);

    // The TPM does it, the interposer says "busy", the wallet repeats: it is done once.
    let mut busy = true;
    hand.does(move |tpm, command| {
        let answer = tpm.transact(command)?;
        if is(TpmCc::NvExtend, command) && std::mem::take(&mut busy) {
            // TPM_RC_RETRY
            return Ok(vec![0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x22]);
        }
        Ok(answer)
    });
    wallet.extend(head, entry(4)).unwrap_err();
    hand.rests();
    let now = wallet.head().unwrap();
    assert_eq!(Progress::of(now, head, entry(4)).unwrap(), Progress::Extended);
    wallet.certify(now, entry(4).transfer()).unwrap();
}

/// What the session cannot prevent: the free branch of the log's policy asks for no secret. The wallet notices at once.
#[test]
fn attack_bus_interposer_takes_the_session_off() {
    let Some((_bench, mut wallet, hand, base)) = tapped() else {
        return;
    };
    hand.changes_commands(TpmCc::NvExtend, |command| {
        // The policy session's entry alone (9 bytes), and data of its own.
        let mut bare = [&command[..18], &[0, 0, 0, 9], &command[22..31], &[0, 32]].concat();
        bare.extend_from_slice(&[0x66; 32]);
        let length = u32::try_from(bare.len()).unwrap();
        bare[2..6].copy_from_slice(&length.to_be_bytes());
        *command = bare;
    });
    let error = wallet.extend(base, entry(1)).unwrap_err();
    assert!(matches!(error, TrustedError::Malformed { .. }), "{error}");
    hand.rests();
    let now = wallet.head().unwrap();
    let error = Progress::of(now, base, entry(1)).unwrap_err();
    assert!(matches!(error, TrustedError::HeadMismatch { .. }), "{error}");
    wallet
        .certify(base.then(entry(1)), entry(1).transfer())
        .unwrap_err();
}

#[test]
fn secrets_do_not_cross_the_bus() {
    let Some((bench, mut wallet, hand, base)) = tapped() else {
        return;
    };
    let (owner, maker, secret) = (*b"the owner's password", *b"the maker's password", [0xa5; 32]);
    let has = |seen: &Heard, needle: &[u8]| {
        let seen = seen.lock().unwrap();
        let frames = seen.iter().flat_map(|(command, answer)| [command, answer]);
        frames
            .flat_map(|frame| frame.windows(needle.len()))
            .any(|window| window == needle)
    };
    let seen = hand.records();
    wallet.device.set_password(TpmRh::Owner, &owner).unwrap();
    wallet.device.set_password(TpmRh::Endorsement, &maker).unwrap();
    assert!(has(&seen, &owner) && has(&seen, &maker), "control");
    drop(wallet);

    let passwords = Passwords {
        owner: Zeroizing::new(owner.to_vec()),
        endorsement: Zeroizing::new(maker.to_vec()),
    };
    let seen = hand.records();
    let mut wallet = open(&bench, &hand, passwords).unwrap();
    let endorsement = wallet.endorsement_key().unwrap();
    let credential = make_credential(endorsement, wallet.key_area().name(), secret).unwrap();
    assert_eq!(*wallet.activate_credential(&credential).unwrap(), secret);
    let message = MessageDigest([0x3c; 32]);
    wallet.sign(message).unwrap();
    let head = wallet.extend(base, entry(1)).unwrap();
    let certified = wallet.certify(head, entry(1).transfer()).unwrap();

    let extended = Sha256::digest(entry(1).0);
    let qualifying = Sha256::digest(entry(1).transfer().0);
    let encrypted: [(&str, &[u8]); 8] = [
        ("credential", &credential.blob),
        ("message", &message.0),
        ("its hash", &Sha256::digest(message.0)),
        ("entry", &extended),
        ("qualifying data", &qualifying),
        ("head before", &base.0),
        ("head", &head.0),
        ("attestation", &certified.attest[..32]),
    ];
    for (what, bytes) in encrypted {
        assert!(!has(&seen, bytes), "{what}");
    }
    assert!(has(&seen, &endorsement.0.0[..32]), "what is public is seen");

    wallet.bare_hash(&message.0);
    wallet.bare_append(entry(1)).unwrap();
    wallet.bare_head();
    wallet.bare_certify(entry(1).transfer());
    let twice = head.then(entry(1));
    let bare = [
        message.0,
        Sha256::digest(message.0).into(),
        extended.into(),
        qualifying.into(),
        twice.0,
    ];
    for bytes in bare {
        assert!(has(&seen, &bytes), "control");
    }
    wallet.undefine().unwrap();
    drop(wallet);
    assert!(!has(&seen, &owner) && !has(&seen, &maker) && !has(&seen, &secret));
}

/// A key of the interposer's in the place of the pinned one.
#[test]
fn attack_bus_interposer_shows_another_root() {
    let Some((bench, mut wallet, hand, base)) = tapped() else {
        return;
    };
    let (null, pinned) = (
        wallet.device.create_primary(TpmRh::Null, &parent_template()),
        wallet.root,
    );
    let theirs = null.unwrap().public;
    let name = Name::of(&theirs);
    let show = move |answer: &mut Vec<u8>| {
        // Header, handle, length of the parameters, length of the public area.
        if answer.len() > 20 + theirs.len() {
            answer[20..20 + theirs.len()].copy_from_slice(&theirs);
        }
    };
    // In a process that lives on: the session is lost, and the next needs the root.
    hand.changes_answers(TpmCc::NvRead, |answer| flip(answer, 20));
    wallet.head().unwrap_err();
    hand.changes_answers(TpmCc::CreatePrimary, show.clone());
    for _ in 0..3 {
        let error = wallet.extend(base, entry(1)).unwrap_err();
        assert!(
            matches!(error, TrustedError::OtherRoot { got, expected } if got == name && expected == pinned),
            "{error}"
        );
    }
    hand.rests();
    assert_eq!(wallet.head().unwrap(), base);
    drop(wallet);

    // When the wallet is opened.
    hand.changes_answers(TpmCc::CreatePrimary, show);
    let Err(error) = open(&bench, &hand, Passwords::default()) else {
        panic!("another root was taken");
    };
    assert!(
        matches!(error, TrustedError::OtherRoot { got, expected } if got == name && expected == pinned),
        "{error}"
    );

    // When it was made, by somebody who has stayed in between since: the TPM's certificate names the true root.
    hand.rests();
    let mut wallet = open(&bench, &hand, Passwords::default()).unwrap();
    wallet.root = name;
    let error = wallet.certify_first(GENESIS).unwrap_err();
    assert!(
        matches!(&error, TrustedError::CertificateMismatch { field, .. } if field.starts_with("signer")),
        "{error}"
    );
}
