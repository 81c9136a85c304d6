//! The machine's OpenSSH, which says what a signature of an ssh key is: keys, signatures over files, and an ssh-agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use holdfast_pki::ssh_key::SshPublicKey;
use tempfile::TempDir;

use crate::fleet::write;
use crate::process::{self, Process};
use crate::wait;

const LIMIT: Duration = Duration::from_secs(30);
/// Between these lines of armour lies the binary signature (PROTOCOL.sshsig, section 1).
const ARMOUR: [&str; 2] = ["-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"];

/// A place for keys and signatures.
#[derive(Debug)]
pub struct OpenSsh {
    dir: TempDir,
}

impl OpenSsh {
    /// An empty place.
    ///
    /// # Errors
    /// If there is no room.
    pub fn new() -> Result<Self> {
        let dir = TempDir::with_prefix("openssh-").context("cannot make a temporary directory")?;
        Ok(Self { dir })
    }

    /// Where its files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes a key without a passphrase: the private key's file, beside which the `.pub` file lies.
    ///
    /// # Errors
    /// If ssh-keygen does not.
    pub fn make_key(&self, name: &str, key_type: &str) -> Result<PathBuf> {
        let path = self.dir.path().join(name);
        let mut keygen = process::command("ssh-keygen");
        keygen
            .args(["-q", "-t", key_type, "-N", "", "-C", "", "-f"])
            .arg(&path);
        process::run(&keygen, LIMIT, "")?.ok()?;
        Ok(path)
    }

    /// What `ssh-keygen -Y sign` makes of `message`, without its armour.
    ///
    /// # Errors
    /// If it does not sign.
    pub fn sign(&self, key: &Path, namespace: &str, hash: &str, message: &str) -> Result<Vec<u8>> {
        let file = self.write("message", message)?;
        let mut sign = process::command("ssh-keygen");
        sign.args(["-Y", "sign", "-q", "-n", namespace, "-O"])
            .arg(format!("hashalg={hash}"))
            .arg("-f")
            .args([key, &file]);
        process::run(&sign, LIMIT, "")?.ok()?;
        let signed = file.with_extension("sig");
        let text = std::fs::read_to_string(&signed).context("ssh-keygen left no signature")?;
        std::fs::remove_file(&signed).context("cannot remove the signature")?;
        let base64: String = text.lines().filter(|line| !ARMOUR.contains(line)).collect();
        BASE64.decode(base64).context("the signature is no base64")
    }

    /// Whether `ssh-keygen -Y verify` takes `signature` for one of `key` over `message`.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn accepts(
        &self,
        key: &SshPublicKey,
        namespace: &str,
        message: &str,
        signature: &[u8],
    ) -> Result<bool> {
        let allowed = self.write("allowed_signers", &format!("ann {key}\n"))?;
        let armoured = [ARMOUR[0], &BASE64.encode(signature), ARMOUR[1], ""].join("\n");
        let signature = self.write("signature", &armoured)?;
        let mut verify = process::command("ssh-keygen");
        verify
            .args(["-Y", "verify", "-I", "ann", "-n", namespace, "-f"])
            .arg(allowed)
            .arg("-s")
            .arg(signature);
        let ended = process::run(&verify, LIMIT, message)?;
        match ended.code {
            Some(0) => Ok(true),
            Some(255) => Ok(false),
            _ => bail!("`{}` cannot tell: {}", ended.line, ended.stderr),
        }
    }

    /// An ssh-agent that holds the key in `file`.
    ///
    /// # Errors
    /// If it does not start, or does not take the key.
    pub fn agent(&self, file: &Path) -> Result<SshAgent> {
        let socket = self.dir.path().join("agent");
        let mut agent = process::command("ssh-agent");
        agent.args(["-D", "-a"]).arg(&socket);
        let process = Process::spawn("ssh-agent", agent, &self.dir.path().join("agent.log"))?;
        let mut add = process::command("ssh-add");
        add.env("SSH_AUTH_SOCK", &socket).arg("-q").arg(file);
        wait::until("the ssh-agent to take the key", LIMIT, || {
            match process::run(&add, LIMIT, "").and_then(process::Outcome::ok) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{error:#}")),
            }
        })?;
        Ok(SshAgent {
            _process: process,
            socket,
        })
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.path().join(name);
        write(&path, text)?;
        Ok(path)
    }
}

/// A running ssh-agent; ended when dropped.
#[derive(Debug)]
pub struct SshAgent {
    _process: Process,
    /// For `SSH_AUTH_SOCK`.
    pub socket: PathBuf,
}
