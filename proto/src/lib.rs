//! What goes over the wire, and the identifiers that every crate shares.
//!
//! [`v1`] is generated from `holdfast/v1/holdfast.proto`; [`ids`] and [`labels`] are the domain's small types, checked
//! once where they are parsed; [`payload`] says what every signed document begins with. No logic beyond that lives here.

pub mod ids;
pub mod labels;
pub mod payload;

/// The messages and services of `holdfast.v1`, as generated.
#[expect(missing_docs, reason = "generated code; the .proto file documents it")]
#[expect(clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("holdfast.v1");
}

/// The most bytes of a slice in one message.
pub const SLICE_CHUNK_BYTES_MAX: usize = 256 * 1024;
/// The most bytes of one slice: three chunks, which one store transaction (1 MiB) takes whole.
pub const SLICE_BYTES_MAX: usize = 768 * 1024;
/// The most bytes of one message from a node on its link.
pub const UPLINK_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of one message to a node: a chunk and its frame.
pub const DOWNLINK_BYTES_MAX: usize = SLICE_CHUNK_BYTES_MAX + 64 * 1024;
/// The most bytes of what a hub is shown that it lacks (HigherState).
pub const SHOW_BYTES_MAX: usize = 1024 * 1024;
/// The most bytes of one chunk of that.
pub const SHOW_CHUNK_BYTES_MAX: usize = 32 * 1024;
/// The most versions of the authority, and the most raises of the epoch, that a hub is shown at once.
pub const SHOWN_MAX: usize = 32;
/// The version of the link protocol that this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;
