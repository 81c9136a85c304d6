//! The hub: what should be. And the operator's CLI, a thin client of the hub's Operator service.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests set up their own files, processes and clocks"
    )
)]

#[cfg(feature = "server")]
pub mod store;
