//! HTTP by hand, for requests that no client would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends bytes and reads until the server closes or has said nothing for a while.
pub(crate) async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may have had enough before it has all.
    let _ = stream.write_all(bytes.as_ref()).await;
    read_all(&mut stream).await
}

/// What comes until the end, or until nothing has come for half a second.
pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    let pause = Duration::from_millis(500);
    while let Ok(Ok(read @ 1..)) = tokio::time::timeout(pause, stream.read(&mut buffer)).await {
        text.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// How long until the server closes; `None`: not within the patience.
pub(crate) async fn closed_after(stream: &mut TcpStream, patience: Duration) -> Option<Duration> {
    let begun = std::time::Instant::now();
    let mut buffer = [0; 4096];
    let read = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
    tokio::time::timeout(patience, read).await.ok()?;
    Some(begun.elapsed())
}

/// The status of an answer.
pub(crate) fn status(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1).unwrap_or("0");
    code.parse().unwrap_or(0)
}
