//! The policy language. Pure: no I/O, no clock.
pub mod firewall;
