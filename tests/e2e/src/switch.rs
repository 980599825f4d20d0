//! A TCP switch in front of a node: passes bytes on, cuts every connection, or takes them and stays silent.

use alloy::transports::http::reqwest::Url;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the switch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Pass,
    /// Closes every connection: the node is down.
    Cut,
    /// Takes connections and requests, and answers nothing until the mode changes: the node hangs.
    Hang,
}

/// A switch on a free port. It works until its runtime ends.
#[derive(Debug)]
pub struct Switch {
    /// Where to connect to.
    pub url: Url,
    mode: watch::Sender<Mode>,
}

impl Switch {
    /// In front of this node, passing everything on.
    pub async fn start(node: Url) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut url = node.clone();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let (mode, changes) = watch::channel(Mode::Pass);
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    continue;
                };
                tokio::spawn(connection(stream, node.clone(), changes.clone()));
            }
        });
        Self { url, mode }
    }

    /// Connections that are open are closed.
    pub fn set(&self, mode: Mode) {
        self.mode.send(mode).unwrap();
    }
}

async fn connection(mut client: TcpStream, node: Url, mut changes: watch::Receiver<Mode>) {
    let mode = *changes.borrow_and_update();
    match mode {
        Mode::Cut => {}
        Mode::Hang => drop(changes.changed().await),
        Mode::Pass => {
            let address = (node.host_str().unwrap().to_owned(), node.port().unwrap());
            let Ok(mut server) = TcpStream::connect(address).await else {
                return;
            };
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => {}
                _ = changes.changed() => {
                    // Whoever waits for an answer is to wait on, not to see a broken connection.
                    if *changes.borrow_and_update() == Mode::Hang {
                        drop(changes.changed().await);
                    }
                }
            }
        }
    }
}
