//! The one writer: its loop is [`Writer::run`].

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::disk::{Disk, WriteFailure};
use crate::store::index::{Grant, Mutation};
use crate::store::journal::{self, RECORD_BYTES_MAX};
use crate::store::key::Revision;
use crate::store::lease::LeaseError;
use crate::store::live::Live;
use crate::store::lock::DirLock;
use crate::store::txn::{CommitError, Txn};

/// A group takes no further commit once it has this many bytes: some tens of milliseconds of a slow disk.
const BATCH_BYTES_FULL: usize = 4 << 20;
/// The largest group, and so the most that an interrupted write can leave behind.
pub(super) const BATCH_BYTES_MAX: usize = BATCH_BYTES_FULL + RECORD_BYTES_MAX;

/// What is asked of the writer.
#[derive(Debug)]
pub(super) enum Request {
    /// A validated transaction.
    Commit { txn: Txn, reply: Reply<CommitError> },
    /// A lease.
    Acquire { grant: Grant, reply: Reply<LeaseError> },
}

type Reply<E> = oneshot::Sender<Result<Revision, E>>;

/// An answer that may be given once the group is on the disk. A refusal waits too: it may rest on what an accepted
/// transaction of the same group will have done.
enum Answer {
    Commit(Reply<CommitError>, Result<Revision, CommitError>),
    Acquire(Reply<LeaseError>, Result<Revision, LeaseError>),
}

/// Requests that were judged together and become durable with one sync.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    mutations: Vec<Mutation>,
    answers: Vec<Answer>,
}

/// Owns the journal.
#[derive(Debug)]
pub(super) struct Writer {
    disk: Disk,
    live: Arc<Live>,
    queue: mpsc::Receiver<Request>,
    /// Given up last, when nothing is written any more.
    _lock: DirLock,
}

impl Writer {
    pub(super) const fn new(
        disk: Disk,
        live: Arc<Live>,
        queue: mpsc::Receiver<Request>,
        lock: DirLock,
    ) -> Self {
        Self {
            disk,
            live,
            queue,
            _lock: lock,
        }
    }

    /// Until the store is dropped: takes what waits, makes it durable, lets it be seen, answers.
    pub(super) fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let group = self.judge(first);
            let written = match group.bytes.as_slice() {
                [] => Ok(()),
                bytes => self.disk.write(bytes),
            };
            match written {
                Ok(()) => {
                    self.live.apply(group.mutations);
                    group.answers.into_iter().for_each(Answer::give);
                }
                Err(failure) => group.answers.into_iter().for_each(|answer| answer.fail(&failure)),
            }
        }
    }

    /// Takes `first` and what else waits, up to a full group.
    fn judge(&mut self, first: Request) -> Group {
        let synced = self.disk.synced();
        let mut group = Group::default();
        self.live.stage(|stage| {
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Commit { txn, reply } => {
                        let verdict = stage.commit(&txn);
                        group.accept(synced, verdict.as_ref().ok(), Mutation::Txn(txn));
                        group.answers.push(Answer::Commit(reply, verdict));
                    }
                    Request::Acquire { grant, reply } => {
                        let verdict = stage.grant(&grant);
                        group.accept(synced, verdict.as_ref().ok(), Mutation::Grant(grant));
                        group.answers.push(Answer::Acquire(reply, verdict));
                    }
                }
                let full = group.bytes.len() >= BATCH_BYTES_FULL;
                next = (!full).then(|| self.queue.try_recv().ok()).flatten();
            }
        });
        group
    }
}

impl Group {
    /// Adds the record of what got a revision.
    fn accept(&mut self, synced: u64, revision: Option<&Revision>, mutation: Mutation) {
        if let Some(revision) = revision {
            journal::encode(&mut self.bytes, synced, *revision, &mutation);
            self.mutations.push(mutation);
        }
    }
}

impl Answer {
    // A caller that no longer listens is none of the writer's business.
    fn give(self) {
        match self {
            Self::Commit(reply, verdict) => drop(reply.send(verdict)),
            Self::Acquire(reply, verdict) => drop(reply.send(verdict)),
        }
    }

    fn fail(self, failure: &WriteFailure) {
        let failed = match (self, failure.clone()) {
            (Self::Commit(reply, verdict), WriteFailure::Unknown(reason)) if verdict.is_ok() => {
                Self::Commit(reply, Err(CommitError::Unknown(reason)))
            }
            (Self::Commit(reply, _), WriteFailure::Refused(reason) | WriteFailure::Unknown(reason)) => {
                Self::Commit(reply, Err(CommitError::Unavailable(reason)))
            }
            (Self::Acquire(reply, _), WriteFailure::Refused(reason) | WriteFailure::Unknown(reason)) => {
                Self::Acquire(reply, Err(LeaseError::Unavailable(reason)))
            }
        };
        failed.give();
    }
}
