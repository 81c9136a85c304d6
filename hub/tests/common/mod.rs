//! The real `holdfast` program with a directory and a port of its own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A hub in a directory of its own, and the operator that `init` makes.
pub(crate) struct Hub {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

impl Hub {
    pub(crate) fn new() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("passphrase"), "correct horse\n").unwrap();
        Self { dir, address }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn holdfast(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command
            .args(words)
            .env("HOLDFAST_OPERATOR_DIR", self.path("operator"))
            .env("HOLDFAST_PASSPHRASE_FILE", self.path("passphrase"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn init(&self, more: &[&str]) -> Output {
        let (dir, address) = (self.path("hub"), self.address.to_string());
        let dir = dir.to_str().unwrap();
        let words = [
            "init",
            "--dir",
            dir,
            "--trust-domain",
            "lab.example",
            "--listen",
            &address,
            "--advertise",
            &address,
        ];
        self.holdfast(&words).args(more).output().unwrap()
    }

    pub(crate) fn serve(&self) -> Serving {
        let mut command = self.holdfast(&["serve", "--dir", self.path("hub").to_str().unwrap()]);
        let mut serving = Serving(command.stderr(Stdio::piped()).spawn().unwrap());
        wait_until("the hub accepts connections", || {
            assert!(serving.0.try_wait().unwrap().is_none(), "the hub ended");
            TcpStream::connect(self.address).is_ok()
        });
        serving
    }
}

/// Ends with the test, whatever becomes of it.
pub(crate) struct Serving(pub(crate) Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
