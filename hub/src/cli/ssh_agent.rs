//! An ssh-agent's client (draft-miller-ssh-agent): which keys it holds, and a signature by one of them.
//!
//! Blocking, on a connection for each question: an operator's command has nothing else to do meanwhile. The agent is the
//! operator's own and trusted with the key; its answers are bounded and read strictly all the same.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_pki::ssh_key::SshPublicKey;
use holdfast_pki::ssh_wire::{Reader, put_string};

/// The longest answer that is read, as OpenSSH's own client has it.
const REPLY_BYTES_MAX: usize = 256 * 1024;
/// What needs nobody's hand.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// For a PIN to be typed and a token to be touched; below the two minutes for which a hub's challenge is good.
const SIGN_TIMEOUT: Duration = Duration::from_secs(100);

// Message numbers (draft-miller-ssh-agent, section 6.1).
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// Why an ssh-agent does not sign.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SshAgentError {
    /// There is none.
    #[error(
        "there is no ssh-agent: SSH_AUTH_SOCK is not set; start one, then add the signing key with `ssh-add`"
    )]
    NoSocket,
    /// It cannot be talked to.
    #[error("cannot talk to the ssh-agent at {}: is it running?", .socket.display())]
    Socket {
        /// Its socket (SSH_AUTH_SOCK).
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It has other keys.
    #[error(
        "the ssh-agent does not hold the signing key {key}: add it with `ssh-add FILE`, or unlock the agent"
    )]
    NotHeld {
        /// The key that is wanted.
        key: SshPublicKey,
    },
    /// It said no.
    #[error(
        "the ssh-agent did not sign: it asked for a touch, a PIN or a confirmation that did not come, or it is locked; \
         try again"
    )]
    Refused,
    /// It said nothing.
    #[error("the ssh-agent did not answer within {} s: was the token touched? Try again", .limit.as_secs())]
    TimedOut {
        /// How long it was given.
        limit: Duration,
    },
    /// It said something else.
    #[error("the ssh-agent at {} does not answer like one", .socket.display())]
    Garbled {
        /// Its socket.
        socket: PathBuf,
    },
    /// What it signed does not count.
    #[error(
        "what the ssh-agent signed is no good signature of {key}: a token's key must ask for a touch each time, \
         without `-O no-touch-required`"
    )]
    BadSignature {
        /// The key that should have signed.
        key: SshPublicKey,
    },
}

/// An ssh-agent at its socket.
#[derive(Debug)]
pub(crate) struct SshAgent {
    socket: PathBuf,
}

impl SshAgent {
    /// The agent that `SSH_AUTH_SOCK` names.
    pub(crate) fn from_env() -> Result<Self, SshAgentError> {
        match std::env::var_os("SSH_AUTH_SOCK") {
            Some(socket) if !socket.is_empty() => Ok(Self::at(Path::new(&socket))),
            _ => Err(SshAgentError::NoSocket),
        }
    }

    fn at(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Checks that the agent holds `key`, which needs no touch.
    pub(crate) fn must_hold(&self, key: &SshPublicKey) -> Result<(), SshAgentError> {
        let reply = self.ask(&[REQUEST_IDENTITIES], LIST_TIMEOUT)?;
        let held = holds(&reply, key.blob()).ok_or_else(|| self.garbled())?;
        if held {
            Ok(())
        } else {
            Err(SshAgentError::NotHeld { key: key.clone() })
        }
    }

    /// A signature of `key` over `data`, as SSH writes it.
    pub(crate) fn sign(&self, key: &SshPublicKey, data: &[u8]) -> Result<Vec<u8>, SshAgentError> {
        self.sign_within(key, data, SIGN_TIMEOUT)
    }

    fn sign_within(
        &self,
        key: &SshPublicKey,
        data: &[u8],
        limit: Duration,
    ) -> Result<Vec<u8>, SshAgentError> {
        let mut request = vec![SIGN_REQUEST];
        put_string(&mut request, key.blob());
        put_string(&mut request, data);
        // No flags: they choose among RSA's digests.
        request.extend_from_slice(&0_u32.to_be_bytes());
        let reply = self.ask(&request, limit)?;
        signature(&reply).ok_or_else(|| self.garbled())
    }

    /// Sends one message and reads the answer to it.
    fn ask(&self, request: &[u8], limit: Duration) -> Result<Vec<u8>, SshAgentError> {
        let reply = self
            .exchange(request, limit)
            .map_err(|source| match source.kind() {
                // Linux says the one, macOS the other.
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => SshAgentError::TimedOut { limit },
                io::ErrorKind::InvalidData => self.garbled(),
                _ => SshAgentError::Socket {
                    socket: self.socket.clone(),
                    source,
                },
            })?;
        if reply == [FAILURE] {
            return Err(SshAgentError::Refused);
        }
        Ok(reply)
    }

    fn exchange(&self, request: &[u8], limit: Duration) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        let mut framed = Vec::new();
        put_string(&mut framed, request);
        stream.write_all(&framed)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > REPLY_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut reply = vec![0; length];
        stream.read_exact(&mut reply)?;
        Ok(reply)
    }

    fn garbled(&self) -> SshAgentError {
        SshAgentError::Garbled {
            socket: self.socket.clone(),
        }
    }
}

/// Whether `blob` is in a list of identities; `None` if it is no such list.
fn holds(reply: &[u8], blob: &[u8]) -> Option<bool> {
    let mut reply = Reader::new(reply);
    (reply.byte()? == IDENTITIES_ANSWER).then_some(())?;
    let mut held = false;
    for _ in 0..reply.uint32()? {
        held |= reply.string()? == blob;
        let _comment = reply.string()?;
    }
    reply.end()?;
    Some(held)
}

/// The signature in an answer; `None` if it is no such answer.
fn signature(reply: &[u8]) -> Option<Vec<u8>> {
    let mut reply = Reader::new(reply);
    (reply.byte()? == SIGN_RESPONSE).then_some(())?;
    let signature = reply.string()?.to_vec();
    reply.end()?;
    Some(signature)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread::JoinHandle;

    use holdfast_pki::sshsig_testing::SshKey;

    use super::*;

    /// An agent that gives one answer, framed, and goes; with `None` it never answers.
    struct Scripted {
        agent: SshAgent,
        thread: JoinHandle<Vec<u8>>,
        _dir: tempfile::TempDir,
    }

    fn agent_that_says(framed: Option<Vec<u8>>) -> Scripted {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent");
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut request).unwrap();
            match framed {
                Some(framed) => stream.write_all(&framed).unwrap(),
                // Until the client has gone.
                None => drop(stream.read(&mut [0])),
            }
            request
        });
        Scripted {
            agent: SshAgent::at(&socket),
            thread,
            _dir: dir,
        }
    }

    fn framed(message: &[u8]) -> Option<Vec<u8>> {
        let mut framed = Vec::new();
        put_string(&mut framed, message);
        Some(framed)
    }

    fn identities(keys: &[&[u8]]) -> Vec<u8> {
        let mut answer = vec![IDENTITIES_ANSWER];
        answer.extend_from_slice(&u32::try_from(keys.len()).unwrap().to_be_bytes());
        for key in keys {
            put_string(&mut answer, key);
            put_string(&mut answer, b"a comment");
        }
        answer
    }

    #[test]
    fn the_agent_that_holds_the_key_is_told_from_one_that_holds_others() {
        let (key, other) = (SshKey::software(), SshKey::token());
        let answer = identities(&[b"of another type", key.public().blob()]);
        let asked = |key: &SshKey| agent_that_says(framed(&answer)).agent.must_hold(key.public());
        assert!(asked(&key).is_ok());
        let refused = asked(&other).unwrap_err().to_string();
        assert!(
            refused.contains(&other.public().to_string()) && refused.contains("ssh-add"),
            "{refused}"
        );
    }

    #[test]
    fn an_agent_that_refuses_is_no_garbled_one() {
        let scripted = agent_that_says(framed(&[FAILURE]));
        let refused = scripted.agent.sign(SshKey::token().public(), b"data");
        assert!(matches!(refused, Err(SshAgentError::Refused)), "{refused:?}");
    }

    #[test]
    fn a_touch_that_does_not_come_ends_the_waiting() {
        let scripted = agent_that_says(None);
        let limit = Duration::from_millis(50);
        let refused = scripted
            .agent
            .sign_within(SshKey::token().public(), b"data", limit);
        assert!(
            matches!(refused, Err(SshAgentError::TimedOut { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn answers_that_are_none_are_refused() {
        let key = SshKey::software();
        let mut response = vec![SIGN_RESPONSE];
        put_string(&mut response, b"signature");
        for (what, answer) in [
            ("nothing", framed(&[])),
            ("another message", framed(&identities(&[]))),
            ("cut off", framed(&response[..response.len() - 1])),
            ("with more behind", framed(&[&response[..], &[0]].concat())),
            ("too long", Some(0xffff_ffff_u32.to_be_bytes().to_vec())),
        ] {
            let refused = agent_that_says(answer).agent.sign(key.public(), b"data");
            assert!(
                matches!(refused, Err(SshAgentError::Garbled { .. })),
                "{what}: {refused:?}"
            );
        }
        let mut too_few = identities(&[key.public().blob()]);
        too_few[4] = 2;
        let refused = agent_that_says(framed(&too_few)).agent.must_hold(key.public());
        assert!(
            matches!(refused, Err(SshAgentError::Garbled { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn an_agent_that_went_away_is_told_by_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let gone = SshAgent::at(&dir.path().join("gone"));
        let error = gone.must_hold(SshKey::software().public()).unwrap_err();
        assert!(error.to_string().contains("/gone"), "{error}");
    }

    #[test]
    fn what_is_asked_is_the_key_and_the_data() {
        let key = SshKey::software();
        let mut response = vec![SIGN_RESPONSE];
        put_string(&mut response, b"signature");
        let scripted = agent_that_says(framed(&response));
        assert_eq!(scripted.agent.sign(key.public(), b"data").unwrap(), b"signature");
        let request = scripted.thread.join().unwrap();
        let mut asked = Reader::new(&request);
        assert_eq!(asked.byte(), Some(SIGN_REQUEST));
        assert_eq!(asked.string(), Some(key.public().blob()));
        assert_eq!(asked.string(), Some(&b"data"[..]));
        assert_eq!(asked.uint32(), Some(0));
        assert_eq!(asked.end(), Some(()));
    }
}
