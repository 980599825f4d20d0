//! Somebody on the bus between wallet and chip, who hears and changes what passes, against a real swtpm. Each attack has its
//! control: the same on a command without the session succeeds.
#![allow(clippy::unwrap_used, reason = "tests")]

mod changes;
mod rooms;
mod words;

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tpm2_protocol::data::{TpmAlgId, TpmCc};

use super::attack::{Bench, GENESIS, entry, refused};
use super::policy::parent_template;
use super::*;
use crate::{Progress, ResponseCode};

/// What the interposer does with a command: it has the TPM, and gives the wallet an answer.
type Act = Box<dyn FnMut(&mut dyn Transport, &[u8]) -> io::Result<Vec<u8>> + Send>;

/// Commands and their answers.
type Heard = Mutex<Vec<(Vec<u8>, Vec<u8>)>>;

/// The hand on the line, kept by the test.
#[derive(Clone)]
struct Hand(Arc<Mutex<Act>>);

struct Line {
    tpm: Box<dyn Transport>,
    hand: Hand,
}

impl Transport for Line {
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        (self.hand.0.lock().unwrap())(self.tpm.as_mut(), command)
    }

    fn managed(&self) -> bool {
        self.tpm.managed()
    }
}

impl Default for Hand {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Box::new(
            |tpm: &mut dyn Transport, command: &[u8]| tpm.transact(command),
        ))))
    }
}

impl Hand {
    fn does(&self, act: impl FnMut(&mut dyn Transport, &[u8]) -> io::Result<Vec<u8>> + Send + 'static) {
        *self.0.lock().unwrap() = Box::new(act);
    }

    fn rests(&self) {
        self.does(|tpm, command| tpm.transact(command));
    }

    /// Changes each command of this kind.
    fn changes_commands(&self, kind: TpmCc, change: impl Fn(&mut Vec<u8>) + Send + 'static) {
        self.does(move |tpm, command| {
            let mut command = command.to_vec();
            if is(kind, &command) {
                change(&mut command);
            }
            tpm.transact(&command)
        });
    }

    /// Changes each answer to this kind; the TPM has done the command.
    fn changes_answers(&self, kind: TpmCc, change: impl Fn(&mut Vec<u8>) + Send + 'static) {
        self.does(move |tpm, command| {
            let mut answer = tpm.transact(command)?;
            if is(kind, command) {
                change(&mut answer);
            }
            Ok(answer)
        });
    }

    /// Keeps what passes, from now on.
    fn records(&self) -> Arc<Heard> {
        let seen = Arc::new(Heard::default());
        let kept = seen.clone();
        self.does(move |tpm, command| {
            let answer = tpm.transact(command)?;
            kept.lock().unwrap().push((command.to_vec(), answer.clone()));
            Ok(answer)
        });
        seen
    }
}

fn is(kind: TpmCc, command: &[u8]) -> bool {
    command[6..10] == kind.value().to_be_bytes()
}

fn flip(frame: &mut [u8], at: usize) {
    if let Some(byte) = frame.get_mut(at) {
        *byte ^= 1;
    }
}

/// A wallet of this bench with somebody on its line.
fn open(bench: &Bench, hand: &Hand, passwords: Passwords) -> Result<Tpm> {
    let line = Line {
        tpm: bench.emulator.connect().unwrap(),
        hand: hand.clone(),
    };
    Tpm::open(Box::new(line), bench.folder.path(), passwords)
}

/// The same with a log that has begun, and its head.
fn tapped() -> Option<(Bench, Tpm, Hand, Head)> {
    let (bench, mut wallet) = Bench::new()?;
    let challenge = wallet.begin().unwrap();
    let head = wallet.write_first(&bench.authorise(challenge, GENESIS)).unwrap();
    drop(wallet);
    let hand = Hand::default();
    let wallet = open(&bench, &hand, Passwords::default()).unwrap();
    Some((bench, wallet, hand, head))
}

/// The commands as they were before there was a session.
impl Tpm {
    fn bare_index(&self) -> Handle {
        Handle::bare(self.index.handle.0)
    }

    fn bare_head(&mut self) -> Head {
        let index = self.bare_index();
        let head = self.device.nv_read(index, Auth::Empty, 32, 0).unwrap();
        Head(head.try_into().unwrap())
    }

    fn bare_append(&mut self, entry: Entry) -> Result<()> {
        let (session, _) = self.device.start_policy()?;
        let index = self.bare_index();
        self.in_session(session, |device, log| {
            device.policy_nv_written(session)?;
            device.policy_or(session, &log.branches())?;
            device.nv_extend_by(index, &[Auth::Policy(session)], &entry.0)
        })
    }

    /// The attestation.
    fn bare_certify(&mut self, transfer: TransferDigest) -> Vec<u8> {
        let parameters = Writer::default()
            .sized(&Sha256::digest(transfer.0))
            .u16(TpmAlgId::Null.value())
            .u16(32)
            .u16(0)
            .done();
        let handles = [
            Handle::bare(self.key_handle),
            self.bare_index(),
            self.bare_index(),
        ];
        let auths = [Auth::Empty, Auth::Empty];
        let answer = self
            .device
            .run(TpmCc::NvCertify, &handles, &auths, &parameters)
            .unwrap();
        Reader::new("NV_Certify", &answer).sized().unwrap().to_vec()
    }

    /// What the TPM says is the message's hash.
    fn bare_hash(&mut self, message: &[u8; 32]) -> Vec<u8> {
        let parameters = Writer::default()
            .sized(message)
            .u16(TpmAlgId::Sha256.value())
            .u32(TpmRh::Owner.value())
            .done();
        let answer = self.device.run(TpmCc::Hash, &[], &[], &parameters).unwrap();
        Reader::new("Hash", &answer).sized().unwrap().to_vec()
    }
}

/// Where the parameters of the commands begin that a payment is made of: after handles and sessions.
fn parameters_at(command: &[u8]) -> usize {
    let handles = match u32::from_be_bytes(command[6..10].try_into().unwrap()) {
        code if code == TpmCc::NvCertify.value() => 3,
        code if code == TpmCc::Hash.value() => 0,
        code if code == TpmCc::Sign.value() => 1,
        _ => 2,
    };
    let area = 10 + 4 * handles;
    let size = u32::from_be_bytes(command[area..area + 4].try_into().unwrap());
    area + 4 + usize::try_from(size).unwrap()
}
