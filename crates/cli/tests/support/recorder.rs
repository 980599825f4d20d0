//! Stands between payers and a merchant that may be somebody else every second, and writes down all that was said.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

/// As on a real network, much is on its way at any moment.
const LATENCY: Duration = Duration::from_millis(20);

/// A message of a payer, and the answer, if there was one.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) request: Value,
    pub(crate) reply: Option<Value>,
}

#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    merchant: Arc<Mutex<Option<SocketAddr>>>,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let recorder = Self {
            address: listener.local_addr().unwrap(),
            merchant: Arc::default(),
            exchanges: Arc::default(),
        };
        let server = recorder.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (server, stream) = (server.clone(), stream.unwrap());
                // Either side may die at any moment: that ends the connection, and nothing else.
                thread::spawn(move || server.connection(stream).ok());
            }
        });
        recorder
    }

    /// From now on, new connections go to this merchant.
    pub(crate) fn forward_to(&self, merchant: Option<SocketAddr>) {
        *self.merchant.lock() = merchant;
    }

    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.lock().clone()
    }

    fn connection(&self, payer: TcpStream) -> std::io::Result<()> {
        let Some(merchant) = *self.merchant.lock() else {
            return Ok(());
        };
        let merchant = TcpStream::connect(merchant)?;
        payer.set_nodelay(true)?;
        merchant.set_nodelay(true)?;
        let (mut from_payer, mut from_merchant) = (BufReader::new(payer), BufReader::new(merchant));
        loop {
            let Some(line) = read_line(&mut from_payer)? else {
                return Ok(());
            };
            let index = {
                let mut exchanges = self.exchanges.lock();
                exchanges.push(Exchange {
                    request: serde_json::from_slice(&line)?,
                    reply: None,
                });
                exchanges.len() - 1
            };
            thread::sleep(LATENCY);
            from_merchant.get_mut().write_all(&line)?;
            let Some(line) = read_line(&mut from_merchant)? else {
                return Ok(());
            };
            // Delivered as soon as the merchant has let go of it.
            self.exchanges.lock()[index].reply = Some(serde_json::from_slice(&line)?);
            from_payer.get_mut().write_all(&line)?;
        }
    }
}

/// A whole line; none once the other side is gone.
fn read_line(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    Ok(line.ends_with(b"\n").then_some(line))
}
