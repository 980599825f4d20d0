//! PostgreSQL servers to throw away. Needs the programs of a PostgreSQL 13 or newer, on `PATH` or where Debian puts them.
//!
//! A guard process starts the server and waits for its standard input to end. That is when the handle is dropped or the
//! test's process ends, however it ends; then it stops the server and removes its folder.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{Connection, PgConnection, migrate::MigrateDatabase};

/// Where Debian's packages put the programs, one folder per version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Arguments: folder of the programs, port. Says `ready FOLDER` when the server takes connections.
///
/// Commits need not outlive the machine, so nothing is flushed; they do outlive the server's processes. Anyone on this machine
/// may connect, and finds made-up tickets.
const GUARD: &str = r#"
set -eu
bin=$1 port=$2
folder=$(mktemp -d "${TMPDIR:-/tmp}/micropay-postgres-XXXXXX")
cd "$folder"
clean() { "$bin/pg_ctl" -D data -m immediate stop >/dev/null 2>&1 || true; cd /; rm -rf "$folder"; }
trap clean EXIT
trap '' INT TERM HUP
{
    "$bin/initdb" -D data -U micropay -A trust -E UTF8 --no-locale --no-sync
    cat >>data/postgresql.conf <<END
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$folder'
fsync = off
max_connections = 300
END
    "$bin/pg_ctl" -D data -l server.log -w start
} >start.log 2>&1 </dev/null || { cat start.log server.log 2>/dev/null; exit 1; }
echo "ready $folder"
read -r _ || true
"#;

/// A server of its own. Dropping it stops it and removes its folder.
#[derive(Debug)]
pub struct PostgresCluster {
    guard: Child,
    bin: PathBuf,
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
}

impl PostgresCluster {
    /// The one that all tests of this process share; it is started by the first who asks and goes with the process. Panics
    /// with what is to be done if there is no PostgreSQL.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<PostgresCluster, String>> = OnceLock::new();
        match SHARED.get_or_init(Self::try_start) {
            Ok(cluster) => cluster,
            Err(problem) => panic!("{problem}"),
        }
    }

    /// Another one, to be harmed. Panics as [`PostgresCluster::shared`] does.
    pub fn start() -> Self {
        Self::try_start().unwrap_or_else(|problem| panic!("{problem}"))
    }

    fn try_start() -> Result<Self, String> {
        let bin = programs()?;
        // Another process may take the port before the server does.
        let mut problem = String::new();
        for _ in 0..3 {
            match Self::start_on(&bin, free_port()) {
                Ok(cluster) => return Ok(cluster),
                Err(log) => problem = log,
            }
        }
        Err(format!(
            "PostgreSQL in {} does not start:\n{problem}",
            bin.display()
        ))
    }

    fn start_on(bin: &Path, port: u16) -> Result<Self, String> {
        let mut guard = as_nobody("sh")
            .args(["-c", GUARD, "guard"])
            .arg(bin)
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start a shell: {error}"))?;
        let mut said = BufReader::new(guard.stdout.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).map_err(|error| error.to_string())?;
        match line.trim_end().strip_prefix("ready ") {
            Some(folder) => Ok(Self {
                guard,
                bin: bin.to_path_buf(),
                folder: folder.into(),
                port,
                databases: AtomicU32::new(0),
            }),
            None => {
                let _ = said.read_to_string(&mut line);
                let _ = guard.wait();
                Err(line)
            }
        }
    }

    /// Makes an empty database and returns its address.
    pub async fn database(&self) -> String {
        let url = self.url(&format!(
            "store{}",
            self.databases.fetch_add(1, Ordering::Relaxed)
        ));
        sqlx::Postgres::create_database(&url).await.unwrap();
        url
    }

    /// A connection beside the store's, for looking and for damage.
    pub async fn connect(url: &str) -> PgConnection {
        PgConnection::connect(url).await.unwrap()
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops the server as a crash does, without a word to its clients, and starts it again. Waits for that.
    pub fn restart(&self) {
        self.control(&["restart", "-m", "immediate", "-l", "server.log"]);
    }

    /// Stops the server as a crash does. Waits for that.
    pub fn stop(&self) {
        self.control(&["stop", "-m", "immediate"]);
    }

    /// Starts the server again after [`PostgresCluster::stop`]. Waits for that.
    pub fn resume(&self) {
        self.control(&["start", "-l", "server.log"]);
    }

    fn control(&self, args: &[&str]) {
        let status = as_nobody("sh")
            .args([
                "-c",
                r#"cd "$1" && shift && exec "$@" >/dev/null 2>&1 </dev/null"#,
                "sh",
            ])
            .arg(&self.folder)
            .arg(self.bin.join("pg_ctl"))
            .args(["-D", "data", "-w"])
            .args(args)
            .status()
            .unwrap();
        assert!(status.success(), "pg_ctl {args:?}: {status}");
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://micropay@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for PostgresCluster {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The folder with the server's programs.
fn programs() -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<PathBuf> = fs::read_dir(DEBIAN)
        .map(|versions| {
            versions
                .flatten()
                .map(|version| version.path().join("bin"))
                .collect()
        })
        .unwrap_or_default();
    // The newest first.
    let version = |bin: &PathBuf| {
        let name = bin.parent()?.file_name()?.to_str()?;
        name.parse::<u32>().ok()
    };
    debian.sort_by_key(|bin| std::cmp::Reverse(version(bin)));
    env::split_paths(&path)
        .chain(debian)
        .find(|bin| bin.join("initdb").is_file() && bin.join("pg_ctl").is_file())
        .ok_or_else(|| {
            format!(
                "PostgreSQL is needed for this test, and there is no initdb on PATH or in {DEBIAN}/*/bin. On Debian and \
                 Ubuntu: apt-get install postgresql. Elsewhere: install PostgreSQL 13 or newer and put its programs on PATH."
            )
        })
}

/// PostgreSQL refuses to run as root. A process group of its own, so that Ctrl-C does not end the guard before its work.
fn as_nobody(program: &str) -> Command {
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|id| id.stdout == b"0\n");
    let mut command = if root {
        let mut command = Command::new("runuser");
        command.args(["-u", "nobody", "--", program]);
        command
    } else {
        Command::new(program)
    };
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.current_dir("/");
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
