//! An HTTP server in front of a node, that can behave as nodes do on bad days.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use serde_json::{Value, json};
use url::Url;

/// What kind of day it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// The node answers.
    Fine,
    /// Connections are closed at once.
    Refusing,
    /// Requests are taken and never answered.
    Hanging,
    /// A gateway answers with a page for people.
    Html,
    /// The node says that it is on another chain.
    WrongChain,
    /// The node takes transactions, and says that it does not.
    Denying,
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) url: Url,
    weather: Arc<Mutex<Weather>>,
}

impl Node {
    pub(crate) fn in_front_of(node: &Url) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let proxy = Self {
            url,
            weather: Arc::new(Mutex::new(Weather::Fine)),
        };
        let (server, behind) = (proxy.clone(), format!("127.0.0.1:{}", node.port().unwrap()));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (server, behind, stream) = (server.clone(), behind.clone(), stream.unwrap());
                // A client that gives up breaks its connection: nothing to report.
                thread::spawn(move || server.answer(stream, &behind).ok());
            }
        });
        proxy
    }

    pub(crate) fn turn(&self, weather: Weather) {
        *self.weather.lock() = weather;
    }

    fn answer(&self, mut client: TcpStream, behind: &str) -> std::io::Result<()> {
        let weather = *self.weather.lock();
        if weather == Weather::Refusing {
            return Ok(());
        }
        let body = read_body(&mut client)?;
        match weather {
            Weather::Hanging => {
                // Until the client has had enough.
                client.read_exact(&mut [0])
            }
            Weather::Html => respond(
                &mut client,
                "text/html",
                b"<html><h1>Scheduled maintenance</h1></html>",
            ),
            Weather::WrongChain if body.windows(11).any(|part| part == b"eth_chainId") => {
                let request: Value = serde_json::from_slice(&body)?;
                let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": "0x1" }).to_string();
                respond(&mut client, "application/json", answer.as_bytes())
            }
            Weather::Fine | Weather::Refusing | Weather::WrongChain | Weather::Denying => {
                let mut node = TcpStream::connect(behind)?;
                let head = format!(
                    "POST / HTTP/1.1\r\nhost: {behind}\r\ncontent-type: application/json\r\nconnection: close\r\n\
                     content-length: {}\r\n\r\n",
                    body.len()
                );
                node.write_all(&[head.as_bytes(), &body].concat())?;
                let mut answer = Vec::new();
                node.read_to_end(&mut answer)?;
                if weather == Weather::Denying && body.windows(7).any(|part| part == b"sendRaw") {
                    let request: Value = serde_json::from_slice(&body)?;
                    let error = json!({ "code": -32602, "message": "no, \u{1b}[2J" });
                    let denied = json!({ "jsonrpc": "2.0", "id": request["id"], "error": error });
                    return respond(&mut client, "application/json", denied.to_string().as_bytes());
                }
                client.write_all(&answer)
            }
        }
    }
}

fn respond(client: &mut TcpStream, kind: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(&[head.as_bytes(), body].concat())
}

fn read_body(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        if bytes.len() >= end + 4 + length {
            return Ok(bytes[end + 4..end + 4 + length].to_vec());
        }
    }
}
