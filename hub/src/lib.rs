//! The hub: what should be. And the operator's CLI, a thin client of the hub's Operator service.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests set up their own files, processes and clocks"
    )
)]

pub mod cli;
pub mod members;
pub mod operator_dir;
pub mod signing_source;

#[cfg(feature = "server")]
pub mod acceptor;
#[cfg(feature = "server")]
pub mod access;
#[cfg(feature = "server")]
pub mod api;
#[cfg(feature = "server")]
pub mod authority;
#[cfg(feature = "server")]
pub mod ca;
#[cfg(feature = "server")]
pub mod checkpoints;
#[cfg(feature = "server")]
pub mod claims;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod director;
#[cfg(feature = "server")]
pub mod drafts;
#[cfg(feature = "server")]
pub mod endorsement;
#[cfg(feature = "server")]
pub mod epoch;
#[cfg(feature = "server")]
pub mod hold;
#[cfg(feature = "server")]
pub mod init;
#[cfg(feature = "server")]
pub mod labels;
#[cfg(feature = "server")]
pub mod links;
#[cfg(feature = "server")]
pub mod pace;
#[cfg(feature = "server")]
pub mod pending;
#[cfg(feature = "server")]
mod place;
#[cfg(feature = "server")]
pub mod registry;
#[cfg(feature = "server")]
pub mod releases;
#[cfg(feature = "server")]
pub mod restore;
#[cfg(feature = "server")]
pub mod serve;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod tasks;
#[cfg(test)]
#[cfg(feature = "server")]
mod testing;
#[cfg(feature = "server")]
pub mod witness;
