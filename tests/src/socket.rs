//! Real connections: what became of one, and a server that counts them.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long silence lasts before it is called that: room for one lost SYN, which is sent again after one second.
const SILENCE: Duration = Duration::from_millis(1500);

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It came about.
    Open,
    /// The other side said no: nobody listens there.
    Refused,
    /// Nothing came back: a firewall, also one's own, or a cut wire swallowed it.
    Silent,
}

/// Opens a connection from where this thread is.
///
/// # Errors
/// As connect(2), a time-out included.
pub fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, SILENCE)
}

/// What became of the connection that [`connect`] tried.
///
/// # Errors
/// For an error that is not about the way there.
pub fn reach(tried: io::Result<TcpStream>) -> io::Result<Reach> {
    match tried {
        Ok(_) => Ok(Reach::Open),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Ok(Reach::Refused),
            io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable => Ok(Reach::Silent),
            _ => Err(error),
        },
    }
}

/// A server that accepts, counts and closes connections until it is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: Arc<TcpListener>,
    accepted: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Serves `socket`, which may belong to another network namespace than this thread.
    #[must_use]
    pub fn serve(socket: TcpListener) -> Self {
        let socket = Arc::new(socket);
        let accepted = Arc::new(AtomicUsize::new(0));
        let thread = std::thread::spawn({
            let (socket, accepted) = (Arc::clone(&socket), Arc::clone(&accepted));
            move || {
                while socket.accept().is_ok() {
                    accepted.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self {
            socket,
            accepted,
            thread: Some(thread),
        }
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // On Linux this ends the accept that the thread waits in.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_counts_and_ends() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let listener = Listener::serve(socket);
        assert_eq!(reach(connect(at)).unwrap(), Reach::Open);
        crate::wait::until("one connection", Duration::from_secs(5), || {
            match listener.accepted() {
                1 => Ok(()),
                n => Err(format!("{n}")),
            }
        })
        .unwrap();
        drop(listener);
        assert_eq!(reach(connect(at)).unwrap(), Reach::Refused);
    }
}
