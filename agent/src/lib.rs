//! The agent: what is.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests set up their own files, processes and clocks"
    )
)]

pub mod firewall;
pub mod guard;
pub mod host;
pub mod inventory;
pub mod reconcile;
