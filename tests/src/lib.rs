//! Proof across processes: real binaries, real kernels, real packets.
//!
//! A [`world::World`] holds hosts, each in a network namespace of its own, on one switch. A [`fleet::Fleet`] is a world
//! with a hub and agents in it; a [`lab::BootedNode`] is a host on which a whole Debian runs under systemd. Everything
//! ends when its owner is dropped. The demo and the tests in `tests/` are written with these.
//!
//! Invariant: nothing here touches the machine's own network, mounts or processes. Worlds are made only inside the
//! private one that `cargo xtask` enters; what cannot be made there is skipped by name (see [`mod@need`]).

pub mod fleet;
pub mod fuzz;
pub mod lab;
pub mod need;
pub mod nft;
pub mod node;
pub mod openssh;
pub mod operator;
pub mod process;
pub mod socket;
pub mod ssh;
pub mod sshd;
pub mod stage;
pub mod token_agent;
pub mod wait;
pub mod world;

mod netns;
