//! The agent: what is.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests set up their own files, processes and clocks"
    )
)]

pub mod authority_chain;
pub mod backoff;
pub mod ceiling;
pub mod change;
pub mod checkpoints;
pub mod dial;
pub mod enroll;
pub mod firewall;
pub mod guard;
pub mod host;
pub mod identity;
pub mod inbox;
pub mod inventory;
pub mod keeper;
pub mod keeps;
pub mod ledger;
pub mod link;
pub mod members;
pub mod reconcile;
pub mod release;
pub mod run;
#[cfg(test)]
mod testing;
