//! Files that survive a power cut: whole or not at all, readable by their owner only.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::{Result, TrustedError};

const OWNER_ONLY: u32 = 0o600;

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> TrustedError {
    move |source| TrustedError::File {
        path: path.to_path_buf(),
        action,
        source,
    }
}

/// Replaces the file: a crash leaves the old or the new content, and after the return it is the new one.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(OWNER_ONLY)
            .open(&partial)?;
        // An older partial file may have had another mode.
        file.set_permissions(fs::Permissions::from_mode(OWNER_ONLY))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        // The rename itself is durable once the folder is.
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(failed(path, "write"))
}

/// Reads a file that only its owner may read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let mode = fs::metadata(path)
        .map_err(failed(path, "read"))?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        return Err(TrustedError::OpenToOthers {
            path: path.to_path_buf(),
            got: mode,
            expected: OWNER_ONLY,
        });
    }
    fs::read(path).map_err(failed(path, "read"))
}

/// Makes the wallet's folder, and refuses one that has this file.
pub(crate) fn prepare(folder: &Path, file: &str) -> Result<Lock> {
    fs::create_dir_all(folder).map_err(failed(folder, "create"))?;
    let path = folder.join(file);
    if path.exists() {
        return Err(TrustedError::Exists(path));
    }
    lock(folder)
}

/// A folder held for this process until this is dropped, or the process is killed.
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that is just being started holds the same open file until it is another program.
        drop(self.0.unlock());
    }
}

/// Holds the folder.
pub(crate) fn lock(folder: &Path) -> Result<Lock> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(OWNER_ONLY)
        .open(&path)
        .map_err(failed(&path, "open"))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(TrustedError::InUse(folder.to_path_buf())),
        Err(TryLockError::Error(error)) => Err(failed(&path, "lock")(error)),
    }
}
