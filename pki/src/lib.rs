//! Who may speak, and what was approved.
//!
//! Keys, CSRs, certificates and TLS: [`spiffe`], [`csr`], [`issue`], [`tls`]. What operators sign and how it is verified:
//! [`envelope`], [`authority`], [`grant`], [`labels`], [`epoch`], [`draft`], [`access`], [`token`]; with which keys:
//! [`signing_key`], [`ssh_key`], [`sshsig`]; what a hub gives to be signed and what it signs itself: [`challenge`],
//! [`checkpoint`]. No sockets.
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

pub mod access;
pub mod authority;
pub mod challenge;
pub mod checkpoint;
pub mod clock;
pub mod csr;
pub mod draft;
pub mod envelope;
pub mod epoch;
pub mod files;
#[cfg(any(test, feature = "testing"))]
pub mod files_testing;
pub mod grant;
pub mod issue;
pub mod labels;
pub mod random;
pub mod signing_key;
pub mod spiffe;
pub mod ssh_key;
pub mod ssh_wire;
pub mod sshsig;
#[cfg(any(test, feature = "testing"))]
pub mod sshsig_testing;
pub mod tls;
pub mod token;
