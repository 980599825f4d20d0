//! A software TPM for tests and the demo: one `swtpm` process with its state in its own folder. Real power cuts (kill -9), and
//! copies of the state, which a chip would not allow.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::TrustedError;
use crate::tpm;
use crate::tpm::transport::{Socket, Transport};

const PACKAGES: &str = "Debian package swtpm";
const PATIENCE: Duration = Duration::from_secs(20);
/// Another process may take a free port before swtpm does.
const ATTEMPTS: u32 = 5;

/// A software TPM that does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmulatorError {
    /// There is no program `swtpm`.
    #[error("there is no swtpm: {PACKAGES}")]
    NotInstalled,
    /// The program ended, or nobody listens.
    #[error("swtpm does not start: {0}")]
    NotStarted(String),
    /// A file or a process.
    #[error("swtpm")]
    Io(#[from] io::Error),
}

/// A running software TPM, killed at drop; its state goes with it.
pub struct Emulator {
    /// State in `state/`, the program's words in `log`.
    folder: TempDir,
    process: Child,
    address: SocketAddr,
}

impl Emulator {
    /// Starts a TPM without history.
    ///
    /// # Errors
    ///
    /// [`EmulatorError::NotInstalled`], or it does not start.
    pub fn start() -> Result<Self, EmulatorError> {
        let folder = new_folder()?;
        fs::create_dir(folder.path().join("state"))?;
        Self::power_on(folder)
    }

    /// As [`Emulator::start`]; `None` without swtpm, after saying so. Where `CI` is set, tests must not be skipped: it panics.
    pub fn for_test() -> Option<Self> {
        match Self::start() {
            Ok(emulator) => Some(emulator),
            Err(EmulatorError::NotInstalled) if std::env::var_os("CI").is_none() => {
                say_skipped();
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn power_on(folder: TempDir) -> Result<Self, EmulatorError> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let (mut process, address) = spawn(folder.path())?;
            match await_server(&mut process, address) {
                Ok(()) => {
                    return Ok(Self {
                        folder,
                        process,
                        address,
                    });
                }
                Err(error) => last = format!("{error}; {}", fs::read_to_string(folder.path().join("log"))?),
            }
            kill(&mut process);
        }
        Err(EmulatorError::NotStarted(last))
    }

    /// A connection; the TPM serves one at a time, so drop the one before.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn connect(&self) -> io::Result<Box<dyn Transport>> {
        Ok(Box::new(Socket::connect(self.address)?))
    }

    /// Plays the TPM's maker: puts a certificate of the endorsement key (X.509 DER, at most 2,048 bytes) where makers put it.
    /// Once, while nothing is connected. (swtpm's own tools certify no P-256 key.)
    ///
    /// # Errors
    ///
    /// [`TrustedError::Refused`] if there is one already, or it is too long.
    pub fn install_endorsement_certificate(&self, certificate: &[u8]) -> Result<(), TrustedError> {
        let transport = self.connect().map_err(|source| TrustedError::Transport {
            command: "connect".to_owned(),
            source,
        })?;
        tpm::install_certificate(transport, certificate)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kill -9, with no chance to save anything, and on again. Connections are dead.
    ///
    /// # Errors
    ///
    /// If it does not start again.
    pub fn power_cut(&mut self) -> Result<(), EmulatorError> {
        kill(&mut self.process);
        for _ in 0..ATTEMPTS {
            (self.process, self.address) = spawn(self.folder.path())?;
            if await_server(&mut self.process, self.address).is_ok() {
                return Ok(());
            }
            kill(&mut self.process);
        }
        Err(EmulatorError::NotStarted(fs::read_to_string(
            self.folder.path().join("log"),
        )?))
    }

    /// A second TPM with a copy of this one's state: same keys, same log. What makes a software TPM no trusted component.
    ///
    /// # Errors
    ///
    /// If the files cannot be copied, or it does not start.
    pub fn clone_state(&self) -> Result<Self, EmulatorError> {
        let folder = new_folder()?;
        let state = folder.path().join("state");
        fs::create_dir(&state)?;
        for file in fs::read_dir(self.folder.path().join("state"))? {
            let file = file?;
            // The lock belongs to the running process.
            if file.file_type()?.is_file() && file.file_name() != ".lock" {
                fs::copy(file.path(), state.join(file.file_name()))?;
            }
        }
        Self::power_on(folder)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}

/// Past the test harness, which keeps to itself what passing tests print.
fn say_skipped() {
    drop(writeln!(io::stderr(), "skipped: there is no swtpm ({PACKAGES})"));
}

/// swtpm wants an absolute path.
fn new_folder() -> io::Result<TempDir> {
    TempDir::with_prefix_in("micropay-swtpm-", std::env::temp_dir().canonicalize()?)
}

fn spawn(folder: &Path) -> Result<(Child, SocketAddr), EmulatorError> {
    // Both at once, so that they differ.
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (address, control_address) = (server.local_addr()?, control.local_addr()?);
    drop((server, control));
    let log = File::create(folder.join("log"))?;
    let process = Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .arg("--tpmstate")
        .arg(format!("dir={}", folder.join("state").display()))
        .arg("--server")
        .arg(format!("type=tcp,port={}", address.port()))
        .arg("--ctrl")
        .arg(format!("type=tcp,port={}", control_address.port()))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    match process {
        Ok(process) => Ok((process, address)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(EmulatorError::NotInstalled),
        Err(error) => Err(error.into()),
    }
}

/// Until it answers. Whoever else took the port would not answer as a TPM.
fn await_server(process: &mut Child, address: SocketAddr) -> Result<(), String> {
    // TPM2_GetRandom of one byte.
    const COMMAND: &[u8] = &[0x80, 0x01, 0, 0, 0, 0x0c, 0, 0, 0x01, 0x7b, 0, 1];
    let since = Instant::now();
    loop {
        if let Ok(Some(status)) = process.try_wait() {
            return Err(format!("it ended with {status}"));
        }
        let answer = Socket::connect(address).and_then(|mut socket| socket.transact(COMMAND));
        match answer {
            Ok(answer) if answer.get(6..10) == Some(&[0; 4]) => return Ok(()),
            Ok(answer) => return Err(format!("it answers {answer:02x?} to GetRandom")),
            Err(error) if since.elapsed() > PATIENCE => return Err(format!("nobody at {address}: {error}")),
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
}

fn kill(process: &mut Child) {
    // It may have ended by itself.
    drop(process.kill());
    drop(process.wait());
}
