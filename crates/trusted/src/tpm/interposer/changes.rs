//! Commands and answers that are changed on their way.

use super::*;

#[test]
fn attack_bus_interposer_changes_a_command() {
    let Some((_bench, mut wallet, hand, base)) = tapped() else {
        return;
    };
    let theirs = Sha256::digest([0x66; 64]);
    // Another entry in place of the payment's: the control is what the chip took before there was a session.
    let replace = move |command: &mut Vec<u8>| {
        let at = parameters_at(command);
        command[at + 2..at + 34].copy_from_slice(&theirs);
    };
    hand.changes_commands(TpmCc::NvExtend, replace);
    refused(wallet.extend(base, entry(1)), "TPM_RC_BAD_AUTH");
    hand.rests();
    assert_eq!(wallet.head().unwrap(), base);
    hand.changes_commands(TpmCc::NvExtend, replace);
    wallet.bare_append(entry(1)).unwrap();
    hand.rests();
    let mut base_now = wallet.head().unwrap();
    assert_eq!(base_now, base.then(Entry([0x66; 64])), "control");

    // Any bit of the parameters, in each command of a payment and of a message.
    for at in 0..34 {
        hand.changes_commands(TpmCc::NvExtend, move |command| {
            let at = at + parameters_at(command);
            flip(command, at);
        });
        refused(wallet.extend(base_now, entry(2)), "TPM_RC_BAD_AUTH");
    }
    hand.rests();
    assert_eq!(wallet.head().unwrap(), base_now);
    base_now = wallet.extend(base_now, entry(2)).unwrap();
    for at in [0, 1, 2, 20, 33, 34, 36, 39] {
        hand.changes_commands(TpmCc::NvCertify, move |command| {
            let at = at + parameters_at(command);
            flip(command, at);
        });
        refused(wallet.certify(base_now, entry(2).transfer()), "TPM_RC_BAD_AUTH");
        for kind in [TpmCc::Hash, TpmCc::Sign] {
            hand.changes_commands(kind, move |command| {
                let at = at + parameters_at(command);
                flip(command, at);
            });
            refused(wallet.sign(MessageDigest([7; 32])), "TPM_RC_BAD_AUTH");
        }
    }
    for at in [0, 1, 3] {
        hand.changes_commands(TpmCc::NvRead, move |command| {
            let at = at + parameters_at(command);
            flip(command, at);
        });
        refused(wallet.head(), "TPM_RC_BAD_AUTH");
    }
    hand.rests();
    wallet.certify(base_now, entry(2).transfer()).unwrap();
    wallet.sign(MessageDigest([7; 32])).unwrap();
}

/// Changed anywhere, an answer is refused by its HMAC or by its form; or the change was in what nobody reads.
#[test]
fn attack_bus_interposer_changes_an_answer() {
    let Some((_bench, mut wallet, hand, mut head)) = tapped() else {
        return;
    };
    let endorsement = wallet.endorsement_key().unwrap();
    let credential = make_credential(endorsement, wallet.key_area().name(), [0xa5; 32]).unwrap();
    for kind in [
        TpmCc::NvRead,
        TpmCc::NvExtend,
        TpmCc::NvCertify,
        TpmCc::Hash,
        TpmCc::Sign,
        TpmCc::ActivateCredential,
    ] {
        let (mut forged, mut at) = (0, 10);
        loop {
            // The answer's length, told by the interposer.
            let length = Arc::new(Mutex::new(0));
            let told = length.clone();
            hand.changes_answers(kind, move |answer| {
                *told.lock().unwrap() = answer.len();
                flip(answer, at);
            });
            let number = u8::try_from(at % 251).unwrap();
            let (message, payment) = (MessageDigest([number; 32]), entry(number));
            let done = match kind {
                TpmCc::Hash | TpmCc::Sign => wallet.sign(message).map(drop),
                TpmCc::ActivateCredential => wallet.activate_credential(&credential).map(|secret| {
                    assert_eq!(*secret, [0xa5; 32]);
                }),
                _ => wallet
                    .extend(head, payment)
                    .and_then(|head| wallet.certify(head, payment.transfer()))
                    .map(|certified| assert_eq!(certified.head(), head.then(payment))),
            };
            hand.rests();
            let length = *length.lock().unwrap();
            // The length of the parameters is not signed, but moves what is.
            let parameters = 14 + usize::try_from(parameters_of_answer(kind)).unwrap();
            match done {
                Err(TrustedError::ForgedAnswer { got, expected, .. }) => {
                    assert_ne!(got, expected);
                    forged += 1;
                }
                Err(TrustedError::Malformed { .. }) => {}
                Err(error) => panic!("{kind}, byte {at}: {error}"),
                Ok(()) => assert!(at >= parameters, "{kind}: byte {at} was believed"),
            }
            // As after a crash: the head tells, and a certificate can be had.
            let now = wallet.head().unwrap();
            if !matches!(kind, TpmCc::Hash | TpmCc::Sign | TpmCc::ActivateCredential)
                && Progress::of(now, head, payment).unwrap() == Progress::Extended
            {
                head = now;
                wallet.certify(head, payment.transfer()).unwrap();
            }
            at += if at < 64 { 1 } else { 5 };
            if at >= length {
                break;
            }
        }
        assert!(forged > 20, "{kind}: {forged} by their HMAC");
    }
    // The controls: what the bus says is believed.
    hand.changes_answers(TpmCc::NvRead, |answer| flip(answer, 20));
    assert_ne!(wallet.bare_head(), head);
    hand.changes_answers(TpmCc::NvCertify, |answer| flip(answer, 17));
    assert_ne!(wallet.bare_certify(TransferDigest([1; 32]))[1], b'T');
    hand.changes_answers(TpmCc::Hash, |answer| flip(answer, 20));
    assert_ne!(wallet.bare_hash(&[1; 32])[..], Sha256::digest([1; 32])[..]);
    hand.does(|_, command| {
        // "Done", and nothing was.
        let done: &[u8] = &[0x80, 0x02, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
        let started: &[u8] = &[0x80, 0x01, 0, 0, 0, 48, 0, 0, 0, 0, 3, 0, 0, 1, 0, 32];
        Ok(match command {
            _ if is(TpmCc::NvExtend, command) => done.to_vec(),
            _ if is(TpmCc::StartAuthSession, command) => [started, &[0; 32]].concat(),
            _ => vec![0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0],
        })
    });
    wallet.bare_append(entry(9)).unwrap();
    wallet.append(&entry(9).0).unwrap_err();
    hand.rests();
    assert_eq!(wallet.head().unwrap(), head);
}

/// Cut, or with another header: whatever it was of a payment, nothing comes out, and the wallet finds back to where it was.
#[test]
fn attack_bus_interposer_spoils_an_answer() {
    let Some((bench, mut wallet, hand, mut head)) = tapped() else {
        return;
    };
    let mut spoilt = 0;
    for kind in [
        TpmCc::NvRead,
        TpmCc::StartAuthSession,
        TpmCc::PolicyNvWritten,
        TpmCc::PolicyOr,
        TpmCc::NvExtend,
        TpmCc::NvCertify,
    ] {
        for at in (0..60).step_by(3) {
            for cut in [true, false] {
                if !cut && at >= 10 {
                    continue;
                }
                let (done, now) = (Arc::new(AtomicBool::new(false)), head);
                let spoil = done.clone();
                hand.changes_answers(kind, move |answer| {
                    let at = at.min(answer.len() - 1);
                    spoil.store(true, Ordering::Relaxed);
                    if cut {
                        answer.truncate(at);
                    } else {
                        flip(answer, at);
                    }
                });
                let payment = entry(at as u8);
                wallet
                    .extend(now, payment)
                    .and_then(|head| wallet.certify(head, payment.transfer()))
                    .unwrap_err();
                assert!(done.load(Ordering::Relaxed));
                spoilt += 1;
                hand.rests();
                if kind == TpmCc::StartAuthSession {
                    // Nobody knows the handle of that session: who opens the wallet next clears it away.
                    drop(wallet);
                    wallet = open(&bench, &hand, Passwords::default()).unwrap();
                }
                head = wallet.head().unwrap();
                if Progress::of(head, now, payment).unwrap() == Progress::Extended {
                    wallet.certify(head, payment.transfer()).unwrap();
                }
            }
        }
    }
    assert!(spoilt > 100, "{spoilt}");
}

/// How many bytes of parameters the answer has.
fn parameters_of_answer(kind: TpmCc) -> u32 {
    match kind {
        TpmCc::NvRead | TpmCc::ActivateCredential => 34,
        // Attestation, and a signature.
        TpmCc::NvCertify => 2 + 173 + 4 + 68,
        // Digest, and a ticket by HMAC-SHA-384 or shorter.
        TpmCc::Hash => 34 + 8,
        TpmCc::Sign => 4 + 68,
        _ => 0,
    }
}
