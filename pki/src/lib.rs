//! Who may speak, and what was approved.
//!
//! Keys, CSRs, certificates and their chains, TLS; what operators sign and how it is verified. No sockets.
//!
//! [`clock`], [`random`] and [`files`] are the three doors to the machine that both binaries share: each is a trait with
//! the real thing and, under the feature `testing`, a twin with switches for faults.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests set up their own files, processes and clocks"
    )
)]

pub mod clock;
pub mod files;
pub mod random;
