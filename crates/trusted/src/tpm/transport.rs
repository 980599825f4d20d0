//! How a command's bytes reach a TPM: the kernel's device, or a software TPM's socket. Both carry raw frames, whose header
//! holds their length.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{AddrParseError, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// The longest answer of a TPM 2.0.
const MAX_RESPONSE: usize = 4096;
const HEADER: usize = 10;
/// Key creation on a slow chip takes tens of seconds at worst.
const PATIENCE: Duration = Duration::from_secs(60);

/// One command in, its response out.
pub trait Transport: Send {
    /// Sends the frame and returns the answer's.
    ///
    /// # Errors
    ///
    /// What the system says; the TPM may have done the command.
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>>;

    /// Whether objects and sessions that an earlier user left behind are cleared away by somebody: the kernel's resource
    /// manager does; a raw TPM has three slots, and keeps what a killed process had loaded.
    fn managed(&self) -> bool;
}

/// Where a TPM is, as users write it: the path of a device, or `swtpm:address:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The kernel's device; `/dev/tpmrm0` is the one to use.
    Device(PathBuf),
    /// A software TPM's TCP server.
    Swtpm(SocketAddr),
}

impl Default for Place {
    fn default() -> Self {
        Self::Device("/dev/tpmrm0".into())
    }
}

impl Place {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn connect(&self) -> io::Result<Box<dyn Transport>> {
        Ok(match self {
            Self::Device(path) => Box::new(KernelDevice::open(path)?),
            Self::Swtpm(address) => Box::new(Socket::connect(*address)?),
        })
    }
}

impl FromStr for Place {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        match text.strip_prefix("swtpm:") {
            Some(address) => address.parse().map(Self::Swtpm),
            None => Ok(Self::Device(text.into())),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => path.display().fmt(f),
            Self::Swtpm(address) => write!(f, "swtpm:{address}"),
        }
    }
}

/// `/dev/tpmrm0`: the kernel's resource manager. The user needs access to it (group `tss` on Debian).
pub struct KernelDevice(File);

impl KernelDevice {
    /// Opens the device.
    ///
    /// # Errors
    ///
    /// If there is none, or it may not be used.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(path).map(Self)
    }
}

impl Transport for KernelDevice {
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        // The device takes one command per write and gives one response per read.
        self.0.write_all(command)?;
        let mut response = vec![0; MAX_RESPONSE];
        let length = self.0.read(&mut response)?;
        response.truncate(length);
        Ok(response)
    }

    fn managed(&self) -> bool {
        true
    }
}

/// The TCP server of `swtpm socket --tpm2 --server type=tcp,…`. It serves one connection at a time.
pub struct Socket(TcpStream);

impl Socket {
    /// Connects.
    ///
    /// # Errors
    ///
    /// If nobody listens there.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }
}

impl Transport for Socket {
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut response = vec![0; HEADER];
        self.0.read_exact(&mut response)?;
        let length = u32::from_be_bytes([response[2], response[3], response[4], response[5]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !(HEADER..=MAX_RESPONSE).contains(&length) {
            let message = format!("a response of {length} bytes, not {HEADER} to {MAX_RESPONSE}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        response.resize(length, 0);
        self.0.read_exact(&mut response[HEADER..])?;
        Ok(response)
    }

    fn managed(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_what_it_says() {
        let swtpm: Place = "swtpm:127.0.0.1:2321".parse().unwrap();
        assert_eq!(swtpm, Place::Swtpm(SocketAddr::from(([127, 0, 0, 1], 2321))));
        assert_eq!(swtpm.to_string().parse::<Place>().unwrap(), swtpm);
        assert_eq!("/dev/tpmrm0".parse::<Place>().unwrap(), Place::default());
        "swtpm:here".parse::<Place>().unwrap_err();
    }
}
