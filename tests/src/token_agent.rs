//! An ssh-agent with a FIDO2 token in it, without either: the protocol (draft-miller-ssh-agent) spoken around a key that
//! signs as a token does (`pki::sshsig_testing`, OpenSSH PROTOCOL.u2f).
//!
//! A real token cannot be touched by a test. That what it signs is what OpenSSH takes for a token's signature is proved
//! beside it, with `ssh-keygen -Y verify`.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use holdfast_pki::ssh_key::SshPublicKey;
use holdfast_pki::ssh_wire::{Reader, put_string};
use holdfast_pki::sshsig_testing::{SshKey, TOUCHED};

// Message numbers (draft-miller-ssh-agent, section 6.1).
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// What the token's user does when a signature is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Touches the token.
    Touches,
    /// Does not, and the token signs all the same: one made without the need of a touch.
    IsAway,
    /// Does not, and the token gives up.
    Refuses,
}

/// A running agent; ended when dropped.
#[derive(Debug)]
pub struct TokenAgent {
    key: Arc<SshKey>,
    user: Arc<Mutex<User>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// For `SSH_AUTH_SOCK`.
    pub socket: PathBuf,
}

impl TokenAgent {
    /// An agent in `dir` with a new token, whose user does as told.
    ///
    /// # Errors
    /// If there can be no socket.
    pub fn start(dir: &Path, user: User) -> Result<Self> {
        let socket = dir.join("token-agent");
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
        let (key, ended) = (Arc::new(SshKey::token()), Arc::new(AtomicBool::new(false)));
        let user = Arc::new(Mutex::new(user));
        let (held, present, over) = (key.clone(), user.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                // Whoever hangs up early has seen enough.
                let _ = serve(stream, &held, &present);
            }
        });
        Ok(Self {
            key,
            user,
            ended,
            thread: Some(thread),
            socket,
        })
    }

    /// From now on its user does this.
    pub fn set_user(&self, user: User) {
        *self.user.lock().unwrap_or_else(PoisonError::into_inner) = user;
    }

    /// The token's public key.
    #[must_use]
    pub fn public(&self) -> &SshPublicKey {
        self.key.public()
    }
}

impl Drop for TokenAgent {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes it, so that it sees.
        let _ = UnixStream::connect(&self.socket);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: UnixStream, key: &SshKey, user: &Mutex<User>) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut request)?;
        let user = *user.lock().unwrap_or_else(PoisonError::into_inner);
        let mut framed = Vec::new();
        put_string(
            &mut framed,
            &answer(&request, key, user).unwrap_or_else(|| vec![FAILURE]),
        );
        stream.write_all(&framed)?;
    }
}

/// `None` is the agent's one way to say no.
fn answer(request: &[u8], key: &SshKey, user: User) -> Option<Vec<u8>> {
    let mut request = Reader::new(request);
    match request.byte()? {
        REQUEST_IDENTITIES => {
            let mut answer = vec![IDENTITIES_ANSWER];
            answer.extend_from_slice(&1_u32.to_be_bytes());
            put_string(&mut answer, key.public().blob());
            put_string(&mut answer, b"token");
            Some(answer)
        }
        SIGN_REQUEST => {
            let blob = request.string()?;
            let data = request.string()?;
            let flags = match user {
                User::Touches => TOUCHED,
                User::IsAway => 0,
                User::Refuses => return None,
            };
            (blob == key.public().blob()).then_some(())?;
            let mut answer = vec![SIGN_RESPONSE];
            put_string(&mut answer, &key.answer(data, flags));
            Some(answer)
        }
        _ => None,
    }
}
