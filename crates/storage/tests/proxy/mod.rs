//! A way to the server that can go wrong.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What becomes of what is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// The server commits; its answer is lost with the connection.
    CutAtCommit,
    /// Nothing arrives, and nobody is told.
    Silent,
}

pub(crate) struct Proxy {
    port: u16,
    mode: Arc<Mutex<Mode>>,
    cuts: Arc<AtomicU32>,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            mode: Arc::new(Mutex::new(Mode::Pass)),
            cuts: Arc::default(),
        };
        let (mode, cuts) = (proxy.mode.clone(), proxy.cuts.clone());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(carry(client, server, mode.clone(), cuts.clone()));
            }
        });
        proxy
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }

    /// Connections cut at a commit.
    pub(crate) fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::Relaxed)
    }

    /// The same database through this proxy.
    pub(crate) fn url(&self, direct: &str) -> String {
        let (front, rest) = direct.rsplit_once(':').unwrap();
        let (_, database) = rest.split_once('/').unwrap();
        format!("{front}:{}/{database}", self.port)
    }
}

/// Until one side ends, or it is cut.
async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    mode: Arc<Mutex<Mode>>,
    cuts: Arc<AtomicU32>,
) -> Option<()> {
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut committing = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let sent = up.get(..read.ok()?).filter(|sent| !sent.is_empty())?;
                let now = *mode.lock();
                if now == Mode::Silent {
                    continue;
                }
                server.write_all(sent).await.ok()?;
                if committing {
                    // Answered, so it is done.
                    let answered = server.read(&mut down).await.ok()?;
                    assert!(answered > 0, "the server went away by itself");
                    cuts.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
                // A statement is sent by its text first and then, once it is understood, to be executed.
                committing = now == Mode::CutAtCommit && sent.windows(7).any(|word| word == b"COMMIT\0");
            }
            read = server.read(&mut down) => {
                let sent = down.get(..read.ok()?).filter(|sent| !sent.is_empty())?;
                if *mode.lock() != Mode::Silent {
                    client.write_all(sent).await.ok()?;
                }
            }
        }
    }
}
