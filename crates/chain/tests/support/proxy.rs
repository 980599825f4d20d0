//! An HTTP server between client and node. It passes requests on, or answers in the node's place: with rubbish, late, or
//! not at all.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::transports::http::reqwest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// What to do with a request.
pub enum Reply {
    /// Let the node answer.
    Pass,
    /// Let the node answer, then change its `result`.
    Edit(Box<dyn FnOnce(&mut Value) + Send>),
    /// Let the node answer, and pass it on late.
    Late(Duration),
    /// Answer with this `result`.
    Result(Value),
    /// Answer with a JSON-RPC error.
    Error(i64, &'static str),
    /// Answer with this HTTP status and body.
    Raw(u16, String),
    /// Close the connection.
    HangUp,
}

type Rule = Box<dyn FnMut(&str, &Value) -> Reply + Send>;

#[derive(Clone)]
pub struct Proxy {
    pub url: Url,
    rule: Arc<Mutex<Rule>>,
}

impl Proxy {
    /// In front of `node`, passing everything on until told otherwise.
    pub async fn start(node: Url) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(|_, _| Reply::Pass)));
        let proxy = Self { url, rule };
        let server = proxy.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (server, node) = (server.clone(), node.clone());
                // A client that gives up breaks its connection: nothing to report.
                tokio::spawn(async move { server.serve(stream, node).await.ok() });
            }
        });
        proxy
    }

    /// From now on: a method with parameters gets this reply.
    pub fn rule(&self, rule: impl FnMut(&str, &Value) -> Reply + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// From now on, pass everything on.
    pub fn heal(&self) {
        self.rule(|_, _| Reply::Pass);
    }

    async fn serve(&self, mut stream: TcpStream, node: Url) -> std::io::Result<()> {
        let request: Value = serde_json::from_slice(&read_body(&mut stream).await?)?;
        let reply = {
            let mut rule = self.rule.lock().unwrap();
            (*rule)(request["method"].as_str().unwrap(), &request["params"])
        };
        let (status, body) = match reply {
            Reply::Pass => (200, ask(&node, &request).await.to_string()),
            Reply::Edit(edit) => {
                let mut answer = ask(&node, &request).await;
                if let Some(result) = answer.get_mut("result") {
                    edit(result);
                }
                (200, answer.to_string())
            }
            Reply::Late(time) => {
                let answer = ask(&node, &request).await;
                tokio::time::sleep(time).await;
                (200, answer.to_string())
            }
            Reply::Result(result) => (
                200,
                json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string(),
            ),
            Reply::Error(code, message) => {
                let error = json!({ "code": code, "message": message });
                (
                    200,
                    json!({ "jsonrpc": "2.0", "id": request["id"], "error": error }).to_string(),
                )
            }
            Reply::Raw(status, body) => (status, body),
            Reply::HangUp => return Ok(()),
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.shutdown().await
    }
}

async fn ask(node: &Url, request: &Value) -> Value {
    reqwest::Client::new()
        .post(node.clone())
        .json(request)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap()
}

async fn read_body(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(0, |length| length.trim().parse().unwrap());
        if bytes.len() >= end + 4 + length {
            return Ok(bytes[end + 4..end + 4 + length].to_vec());
        }
    }
}
