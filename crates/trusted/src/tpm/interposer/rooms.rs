//! A TPM has room for three sessions and three keys: whoever fails leaves them free.

use super::*;

/// A killed wallet leaves key and sessions in a raw TPM's three slots: the next clears them away.
#[test]
fn a_wallet_that_was_killed_a_hundred_times_finds_room() {
    struct Cut {
        tpm: Box<dyn Transport>,
        dead: Arc<AtomicBool>,
        managed: bool,
    }
    impl Transport for Cut {
        fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
            if self.dead.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.tpm.transact(command)
        }

        fn managed(&self) -> bool {
            self.managed
        }
    }
    let Some((bench, wallet, hand, mut head)) = tapped() else {
        return;
    };
    drop(wallet);
    let killed = |managed, work: &mut dyn FnMut(&mut Tpm) -> Result<()>| -> Result<()> {
        let dead = Arc::new(AtomicBool::new(false));
        let cut = Cut {
            tpm: bench.emulator.connect().unwrap(),
            dead: dead.clone(),
            managed,
        };
        let mut wallet = Tpm::open(Box::new(cut), bench.folder.path(), Passwords::default())?;
        let done = work(&mut wallet);
        dead.store(true, Ordering::Relaxed);
        done
    };
    for number in 0..100 {
        killed(false, &mut |wallet| {
            wallet.begin()?;
            head = wallet.extend(head, entry(number))?;
            wallet.certify(head, entry(number).transfer()).map(drop)
        })
        .unwrap();
    }
    // The control: who clears nothing away finds the TPM full.
    let codes: Vec<_> = (0..4)
        .filter_map(|_| killed(true, &mut |_| Ok(())).err()?.refusal())
        .collect();
    assert_eq!(codes.last().map(String::as_str), Some("TPM_RC_OBJECT_MEMORY"));
    assert_eq!(
        open(&bench, &hand, Passwords::default()).unwrap().head().unwrap(),
        head
    );
}

/// Nor does one fill the TPM that loses its session again and again while it lives.
#[test]
fn sessions_that_are_lost_are_flushed() {
    let Some((_bench, mut wallet, hand, mut head)) = tapped() else {
        return;
    };
    wallet.begin().unwrap();
    for number in 0..20 {
        // The answer is lost, or says what is not so.
        hand.changes_answers(TpmCc::NvExtend, move |answer| {
            if number % 2 == 0 {
                answer.clear();
            } else {
                // The session's nonce, after the entry of the policy session.
                flip(answer, 60);
            }
        });
        wallet.extend(head, entry(number)).unwrap_err();
        hand.rests();
        let now = wallet.head().unwrap();
        assert_eq!(
            Progress::of(now, head, entry(number)).unwrap(),
            Progress::Extended
        );
        head = now;
        wallet.certify(head, entry(number).transfer()).unwrap();
    }
}

/// `cargo test --release -p micropay-trusted --features swtpm --lib time_of_a_session -- --ignored --nocapture`
#[test]
#[ignore = "measures, and proves nothing"]
fn time_of_a_session() {
    const SESSIONS: usize = 200;
    let Some((_bench, mut wallet, ..)) = tapped() else {
        return;
    };
    let mut times: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let start = std::time::Instant::now();
            wallet.device.begin_anew().unwrap();
            start.elapsed()
        })
        .collect();
    times.sort();
    drop(writeln!(
        io::stdout(),
        "session: p50 {:?}, p95 {:?}",
        times[SESSIONS / 2],
        times[SESSIONS * 95 / 100]
    ));
}
