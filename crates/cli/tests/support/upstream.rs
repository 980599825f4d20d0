//! The server whose answers are sold: says what it was asked, and counts. It can be told to be slow, to fail and to hang.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers after a while.
    Fine(Duration),
    /// Answers with status 500.
    Failing,
    /// Takes requests and says nothing until the other side has had enough.
    Hanging,
}

/// Runs until the test ends.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl Upstream {
    pub(crate) fn start(delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            mood: Arc::new(Mutex::new(Mood::Fine(delay))),
            asked: Arc::default(),
        };
        let server = upstream.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = server.clone();
                // A gateway that dies breaks its connection: nothing to report.
                thread::spawn(move || server.answer(&stream));
            }
        });
        upstream
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn turn(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    /// How often this path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.asked.lock().get(path).copied().unwrap_or(0)
    }

    /// One request, one answer: what these tests need of HTTP.
    fn answer(&self, mut stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut first = String::new();
        reader.read_line(&mut first).ok()?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            match line.trim().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().ok()?;
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let mut words = first.split(' ');
        let (method, path) = (words.next()?, words.next()?.to_owned());
        *self.asked.lock().entry(path.clone()).or_default() += 1;
        let mood = *self.mood.lock();
        let status = match mood {
            Mood::Hanging => {
                // Until the gateway has had enough.
                reader.read_exact(&mut [0]).ok()?;
                return None;
            }
            Mood::Failing => "500 Internal Server Error",
            Mood::Fine(delay) => {
                thread::sleep(delay);
                if path == "/missing" {
                    "404 Not Found"
                } else {
                    "200 OK"
                }
            }
        };
        let good = format!("{method} {path} {}", String::from_utf8_lossy(&body));
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nX-Good: yes\r\nConnection: close\r\n\r\n{good}",
            good.len()
        )
        .ok()
    }
}
