//! The store of a single hub: a journal on disk is the truth, an index in memory answers.
//!
//! A commit goes to the one writer (`writer`), which takes all that wait, judges them, appends their records
//! (`super::journal`), syncs once, applies them to the index, and only then acknowledges. Readers and watchers see the
//! index alone, so nothing that a power cut could take back. At start the journal is read through (`replay`).
//!
//! A disk that is full or fails stops the acknowledgements, not the readers; every commit tries anew, so that the store
//! heals by itself (`disk`).

use std::future::ready;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use holdfast_pki::clock::Clock;
use holdfast_pki::files::Files;
use tokio::sync::{mpsc, oneshot};

use self::disk::Disk;
use self::writer::{Request, Writer};
use super::index::Index;
use super::key::{Entry, Key, Page, Revision, Span};
use super::lease::{Lease, LeaseError, Term};
use super::live::{Live, grant, stopped};
use super::lock::DirLock;
use super::txn::{CommitError, Txn};
use super::watch::{Watch, WatchError};
use super::{BoxFuture, Store, Unavailable, journal};

mod disk;
mod replay;
mod writer;

#[cfg(test)]
mod tests;

/// The journal's name in the store's directory.
pub const JOURNAL: &str = "journal";

/// How many commits may wait for the writer, more than one group takes at its largest; the next ones wait in their
/// callers. At most 256 MiB with transactions of the largest size, 1 MiB with usual ones (under 4 KiB).
const QUEUE_MAX: usize = 256;

/// A [`Store`] over a journal.
#[derive(Debug)]
pub struct JournalStore {
    live: Arc<Live>,
    /// None once it is being dropped.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

/// Why a store did not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal cannot be read or written.
    #[error("cannot open the journal {}; it must belong to the hub's user, on a disk that works", .path.display())]
    Io {
        /// The journal.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is no journal.
    #[error("{} is no journal, or its first {} bytes are damaged; put back the hub's own from a backup", .path.display(), journal::HEADER_BYTES)]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// A journal of another version.
    #[error("{} has format {found}, this version reads {}; use the version that wrote it or a newer one", .path.display(), journal::FORMAT)]
    Format {
        /// The journal.
        path: PathBuf,
        /// Its format number.
        found: u32,
    },
    /// Something acknowledged is no longer there as written. Cutting it off would forget what follows, so the hub does
    /// not start.
    #[error(
        "the journal {} is damaged at byte {offset}: {reason}; this is not the end of an interrupted write, and what was acknowledged would be lost: put the journal back from a backup",
        .path.display()
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Where the first bad record begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The writer did not start.
    #[error("cannot start the store's writer; raise the limit on threads")]
    Writer(#[source] io::Error),
}

impl JournalStore {
    /// Opens the store in the locked directory, making it if it is new. What an interrupted write left at the end of the
    /// journal is cut off: none of it was acknowledged.
    ///
    /// # Errors
    /// [`OpenError`] names the file and, if it is damaged, the byte.
    pub fn open(lock: DirLock, files: &dyn Files, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let path = lock.dir().join(JOURNAL);
        let mut index = Index::new();
        let disk = Disk::open(files, path, &mut index)?;
        let live = Arc::new(Live::new(index, clock));
        let (requests, queue) = mpsc::channel(QUEUE_MAX);
        let writer = Writer::new(disk, live.clone(), queue, lock);
        let thread = std::thread::Builder::new().name("store-writer".to_owned());
        Ok(Self {
            live,
            requests: Some(requests),
            writer: Some(thread.spawn(|| writer.run()).map_err(OpenError::Writer)?),
        })
    }

    /// Forgets the past before `min`: watches from there on get [`WatchError::Compacted`].
    #[cfg(test)]
    pub(crate) fn compact(&self, min: Revision) {
        self.live.compact(min);
    }

    /// Hands a request to the writer and waits for its answer.
    async fn ask<E>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<Revision, E>>) -> Request,
        unsent: impl FnOnce(Unavailable) -> E,
        unanswered: impl FnOnce(Unavailable) -> E,
    ) -> Result<Revision, E> {
        let (reply, answer) = oneshot::channel();
        let Some(requests) = &self.requests else {
            return Err(unsent(stopped()));
        };
        if requests.send(request(reply)).await.is_err() {
            return Err(unsent(stopped()));
        }
        answer.await.unwrap_or_else(|_gone| Err(unanswered(stopped())))
    }

    async fn commit_durably(&self, txn: Txn) -> Result<Revision, CommitError> {
        txn.validate()?;
        let request = |reply| Request::Commit { txn, reply };
        self.ask(request, CommitError::Unavailable, CommitError::Unknown)
            .await
    }

    async fn acquire_durably(&self, name: &str, holder: &str, ttl: Duration) -> Result<Lease, LeaseError> {
        let grant = grant(name, holder, ttl)?;
        let request = |reply| Request::Acquire { grant, reply };
        let revision = self
            .ask(request, LeaseError::Unavailable, LeaseError::Unavailable)
            .await?;
        Ok(Lease {
            name: name.to_owned(),
            term: Term::new(revision.get()),
            ttl,
        })
    }
}

/// Waits until the writer has answered what was handed to it and has given up the directory.
impl Drop for JournalStore {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer had panicked");
        }
    }
}

impl Store for JournalStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Unavailable>> {
        Box::pin(ready(Ok(self.live.get(key))))
    }

    fn range<'a>(&'a self, span: &'a Span, limit: usize) -> BoxFuture<'a, Result<Page, Unavailable>> {
        Box::pin(ready(Ok(self.live.range(span, limit))))
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(self.commit_durably(txn))
    }

    fn watch(&self, from: Revision, span: Span) -> BoxFuture<'_, Result<Box<dyn Watch>, WatchError>> {
        Box::pin(ready(self.live.watch(from, span)))
    }

    fn acquire<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Lease, LeaseError>> {
        Box::pin(self.acquire_durably(name, holder, ttl))
    }

    // Renewing and releasing leave no record: a restart ends every lease anyway, and a heartbeat must not cost a sync.
    fn renew<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), LeaseError>> {
        Box::pin(ready(self.live.renew(lease)))
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), Unavailable>> {
        self.live.release(lease);
        Box::pin(ready(Ok(())))
    }
}
