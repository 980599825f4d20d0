//! One address in front of several gateways: hands each connection to the next of them.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

#[derive(Clone)]
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    /// The next is the first.
    gateways: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Balancer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let balancer = Self {
            address: listener.local_addr().unwrap(),
            gateways: Arc::default(),
        };
        let server = balancer.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let gateway = server.next();
                // A gateway that is dead just now is a connection that breaks.
                thread::spawn(move || connect(stream, gateway).ok());
            }
        });
        balancer
    }

    /// From now on connections go to these, in turn.
    pub(crate) fn turn_to(&self, gateways: &[SocketAddr]) {
        *self.gateways.lock() = gateways.to_vec();
    }

    fn next(&self) -> SocketAddr {
        let mut gateways = self.gateways.lock();
        gateways.rotate_left(1);
        *gateways.last().unwrap()
    }
}

fn connect(payer: TcpStream, gateway: SocketAddr) -> io::Result<()> {
    let gateway = TcpStream::connect(gateway)?;
    payer.set_nodelay(true)?;
    gateway.set_nodelay(true)?;
    let (from_payer, to_gateway) = (payer.try_clone()?, gateway.try_clone()?);
    let up = thread::spawn(move || pass(from_payer, to_gateway));
    pass(gateway, payer);
    up.join().unwrap();
    Ok(())
}

/// Passes bytes on until either side ends.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    // However it ends, it is the end of both.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
