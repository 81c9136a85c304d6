//! The guard: a change that nobody confirms is undone, by a process that needs neither the agent nor the hub.
//!
//! A pending commit is one file, `<id>.armed`, with the snapshots, a deadline on the boot clock and the boot id. What
//! becomes of it is decided by one atomic rename of that file, which exactly one side wins:
//!
//! ```text
//! <id>.armed --confirm (agent)-----------------------> <id>.confirmed
//!            --deadline, reboot, undo_now (anyone)---> <id>.undoing --restored--> <id>.undone
//! ```
//!
//! Whoever works on the file holds a lock on it (flock(2), which the kernel drops when its holder dies, and which a rename
//! keeps): so a guard that is alive can be told from a dead one without pids. `.undoing` says that the undo is decided;
//! whoever finds it without a living guard restores again, which is safe to do twice.
//!
//! [`mod@file`] is the file and its states, [`launch`] starts the guard, [`run`] is its process, [`commit`] the agent's side.

pub mod commit;
pub mod file;
pub mod launch;
pub mod run;
pub mod undo;
