//! The policy language: from files to the firewall of one node. Pure: no I/O, no clock.
//!
//! ```text
//! files --parse::load--> Policy --slices--> Slice --to_bytes--> stored and sent by digest, named in a signed Manifest
//! node: Manifest + labels + bytes --release::complete--> [Slice] --render::render + address sets--> DesiredState
//! people: plan::diff (what would change), lockout::find (who would be cut off), Firewall::judge (who may pass, and why)
//! ```
//!
//! Invariant: what a node runs is decided by signed bytes alone. Address sets are the only unsigned input, and
//! [`render`] keeps them inside each group's signed `within`.

pub mod firewall;
pub mod interface;
pub mod lockout;
mod network;
pub mod parse;
pub mod plan;
pub mod release;
pub mod render;
pub mod selector;
pub mod slice;
#[cfg(test)]
mod testing;
