//! Members of selector groups, as a hub last told them. Unsigned: `policy::render` keeps only what lies in the group's
//! signed `within`. Kept on disk, so that a node that starts without its hub does not close on its peers.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use holdfast_pki::files::Files;
use holdfast_policy::render::AddressSets;
use holdfast_policy::slice::Members;
use holdfast_proto::v1;

const FILE: &str = "members.json";
/// The most groups that are kept, and the most members of one: a hub in an enemy's hand must not fill this node.
const GROUPS_MAX: usize = 512;
const MEMBERS_MAX: usize = 10_000;
/// The most members of all groups together: about 2 MiB here and in a few copies.
const ADDRESSES_MAX: usize = 20_000;

/// What is on disk; nothing, if it cannot be read: the hub tells it again.
#[must_use]
pub fn load(state_dir: &Path, files: &dyn Files) -> AddressSets {
    let bytes = files.read(&state_dir.join(FILE)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Writes `members` to disk.
///
/// # Errors
/// [`io::Error`]; what was there before is there still.
pub fn save(members: &AddressSets, state_dir: &Path, files: &dyn Files) -> io::Result<()> {
    let bytes = serde_json::to_vec(members).expect("texts and addresses");
    files.write_atomic(&state_dir.join(FILE), &bytes, 0o600)
}

/// Cuts `members` to what is kept.
pub fn bound(members: &mut AddressSets) {
    let total = |members: &AddressSets| members.values().map(BTreeSet::len).sum::<usize>();
    while members.len() > GROUPS_MAX || total(members) > ADDRESSES_MAX {
        members.pop_last();
    }
}

/// The sets of a hub's message; what cannot be read is left out.
#[must_use]
pub fn from_wire(wire: v1::AddressSets) -> AddressSets {
    let set = |set: v1::AddressSet| -> Option<(Members, BTreeSet<IpAddr>)> {
        let addresses = set
            .addresses
            .iter()
            .take(MEMBERS_MAX)
            .filter_map(|address| address.parse().ok());
        Some((set.members.parse().ok()?, addresses.collect()))
    };
    wire.sets.into_iter().take(GROUPS_MAX).filter_map(set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pki::files::SystemFiles;

    fn set(members: &str, addresses: &[&str]) -> v1::AddressSet {
        v1::AddressSet {
            members: members.to_owned(),
            addresses: addresses.iter().map(|&address| address.to_owned()).collect(),
        }
    }

    #[test]
    fn members_are_kept_by_selector_and_interfaces_and_read_back() {
        let sets = vec![
            set("role=web", &["10.0.0.1"]),
            set("role=web on docker0", &["10.0.0.2", "nonsense"]),
            set("role=web on eth1,eth0", &["10.0.0.3"]),
            set("ROLE", &["10.0.0.4"]),
        ];
        let members = from_wire(v1::AddressSets { sets });
        let kept: Vec<_> = members
            .iter()
            .map(|(members, addresses)| format!("{members}: {addresses:?}"))
            .collect();
        assert_eq!(kept, ["role=web: {10.0.0.1}", "role=web on docker0: {10.0.0.2}"]);

        let dir = tempfile::tempdir().unwrap();
        save(&members, dir.path(), &SystemFiles).unwrap();
        assert_eq!(load(dir.path(), &SystemFiles), members);
    }
}
