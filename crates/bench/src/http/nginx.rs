//! nginx (Debian package) as a plain reverse proxy, for comparison.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use eyre::{Result, WrapErr, ensure};

/// A running nginx; ends when dropped.
pub struct Nginx {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Nginx {
    /// Starts it before `upstream`. `None` where it is not installed.
    ///
    /// # Errors
    /// When it does not start.
    pub fn before(upstream: SocketAddr) -> Result<Option<Self>> {
        if Command::new("nginx")
            .arg("-v")
            .stderr(Stdio::null())
            .status()
            .is_err()
        {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        // Free now, and nobody else's on a machine that measures.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let path = folder.path().display();
        let config = format!(
            "daemon off; worker_processes auto; pid {path}/pid; error_log {path}/error warn;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;\n\
               fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n\
               upstream up {{ server {upstream}; keepalive 128; }}\n\
               keepalive_requests 1000000;\n\
               server {{ listen {address}; location / {{ proxy_pass http://up; proxy_http_version 1.1;\n\
                 proxy_set_header Connection \"\"; }} }} }}\n"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        let child = Command::new("nginx")
            .arg("-c")
            .arg(&file)
            .arg("-e")
            .arg(folder.path().join("early"))
            .stdin(Stdio::null())
            .spawn()
            .wrap_err("nginx")?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(address).is_err() {
            ensure!(Instant::now() < deadline, "nginx does not listen on {address}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(Self {
            child,
            address,
            _folder: folder,
        }))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers. It may be gone already.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}
