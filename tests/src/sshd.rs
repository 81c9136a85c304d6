//! A stand-in for sshd where no whole system runs: a program of that name that holds the listening socket.
//!
//! That is all an inventory sees of the real one. Connections are established by the kernel and wait in its queue.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};

use crate::process;

/// Holds the socket until dropped.
#[derive(Debug)]
pub struct FakeSshd(Child);

impl FakeSshd {
    /// Hands `socket` to a program named sshd, which lies in `dir`.
    ///
    /// # Errors
    /// If it cannot be put there or started.
    pub fn serve(socket: TcpListener, dir: &Path) -> Result<Self> {
        let program = dir.join("sshd");
        // The kernel takes a process's name from the link, not from what it leads to.
        std::os::unix::fs::symlink("/bin/sleep", &program)
            .with_context(|| format!("cannot link {}", program.display()))?;
        let mut sshd = process::command(&program);
        sshd.arg("infinity").stdin(Stdio::from(OwnedFd::from(socket)));
        let sshd = sshd
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self(sshd))
    }
}

impl Drop for FakeSshd {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
