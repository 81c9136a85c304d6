//! The firewall on the host: one nftables table, `inet holdfast`, and nothing else.
//!
//! [`nft`] renders the desired firewall to nftables' JSON, [`kernel`] loads and lists our table, [`listing`] brings a
//! listing to a form that can be compared and put back, [`resource`] makes a [`crate::reconcile::Resource`] of them.
//!
//! Invariants: no other table is read or named; a replacement is one transaction, so there is no moment without rules;
//! no chain has the policy drop, so that flushing ours by hand at the console opens rather than locks out.

pub mod kernel;
pub mod listing;
pub mod nft;
pub mod resource;
