//! Members: who is in a selector group, as a question that a hub can answer.
//!
//! Signed within a slice, asked for by its text, and the key of [`crate::render::AddressSets`]; so it has one spelling:
//! `role=db`, or `role=db on ens*,eth0` with the interfaces sorted.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use holdfast_proto::ids::InvalidId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::interface::{INTERFACE_BYTES_MAX, InterfacePattern, is_left_out};
use crate::selector::{SELECTOR_BYTES_MAX, Selector};

/// The most interfaces that one group may name: more than any machine has kinds of.
pub const INTERFACES_MAX: usize = 32;
/// Between the selector and the interfaces.
const ON: &str = " on ";
/// A text of the longest selector and the most interfaces, each with its comma.
const TEXT_BYTES_MAX: usize = SELECTOR_BYTES_MAX + ON.len() + INTERFACES_MAX * (INTERFACE_BYTES_MAX + 1);

/// The addresses of the nodes that a selector matches, on certain interfaces of theirs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Members {
    selector: Selector,
    interfaces: BTreeSet<InterfacePattern>,
}

impl Members {
    /// The members by `selector`, on these `interfaces`; with none: on all but those of containers and guests.
    ///
    /// # Errors
    /// [`InvalidId`] for more than [`INTERFACES_MAX`] interfaces.
    pub fn new(selector: Selector, interfaces: BTreeSet<InterfacePattern>) -> Result<Self, InvalidId> {
        if interfaces.len() > INTERFACES_MAX {
            let got = format!("{} interfaces", interfaces.len());
            return Err(InvalidId::new("list of interfaces", &got, "at most 32 wanted"));
        }
        Ok(Self { selector, interfaces })
    }

    /// Whose addresses.
    #[must_use]
    pub const fn selector(&self) -> &Selector {
        &self.selector
    }

    /// Whether the addresses of a node's interface called `interface` count.
    #[must_use]
    pub fn covers(&self, interface: &str) -> bool {
        if self.interfaces.is_empty() {
            return !is_left_out(interface);
        }
        self.interfaces.iter().any(|pattern| pattern.meets(interface))
    }
}

impl From<Selector> for Members {
    fn from(selector: Selector) -> Self {
        Self {
            selector,
            interfaces: BTreeSet::new(),
        }
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.selector)?;
        for (n, interface) in self.interfaces.iter().enumerate() {
            write!(f, "{}{interface}", if n == 0 { ON } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Members {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let refused = |want| InvalidId::new("group's members", text, want);
        if text.len() > TEXT_BYTES_MAX {
            return Err(refused("a selector and at most 32 interfaces wanted"));
        }
        let members = match text.split_once(ON) {
            None => text.parse::<Selector>()?.into(),
            Some((selector, interfaces)) => {
                let interfaces = interfaces.split(',').map(str::parse).collect::<Result<_, _>>()?;
                Self::new(selector.parse()?, interfaces)?
            }
        };
        if members.to_string() != text {
            return Err(refused("each interface once and sorted wanted"));
        }
        Ok(members)
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::members_of;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn without_interfaces_all_count_but_those_of_containers_and_guests() {
        let members = members_of("role=db");
        assert!(members.covers("eth0") && members.covers("vmbr0") && members.covers("br-lan"));
        assert!(!members.covers("docker0") && !members.covers("virbr0"));
    }

    #[test]
    fn named_interfaces_count_and_no_others() {
        let members = members_of("role=db on docker0,ens*");
        assert!(members.covers("docker0") && members.covers("ens18"));
        assert!(!members.covers("eth0") && !members.covers("docker1"));
        assert!(members_of("all on *").covers("virbr0"));
    }

    #[test]
    fn members_have_one_spelling() {
        for other in [
            "",
            "on eth0",
            "role=db on ",
            "role=db on",
            "role=db  on eth0",
            "role=db on eth0,eth0",
            "role=db on eth1,eth0",
            "role=db on eth0,",
            "role=db on eth0 on eth1",
            "role=db on eth 0",
        ] {
            assert!(other.parse::<Members>().is_err(), "{other}");
        }
    }

    #[test]
    fn more_interfaces_than_fit_are_refused() {
        let on = |n| {
            let names: Vec<_> = (0..n).map(|n| format!("eth{n:02}")).collect();
            format!("role=db on {}", names.join(","))
        };
        assert!(on(INTERFACES_MAX).parse::<Members>().is_ok());
        assert!(on(INTERFACES_MAX + 1).parse::<Members>().is_err());
        assert!(
            format!("role=db on {}", "x".repeat(2_000))
                .parse::<Members>()
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn what_parses_is_written_the_same_way(text in "[a-c]=[a-c](,[a-c]=[a-c])?( on [a-c*.]{1,3}(,[a-c*]{1,3}){0,2})?|\\PC{0,20}") {
            if let Ok(members) = text.parse::<Members>() {
                prop_assert_eq!(members.to_string(), text);
            }
        }

        #[test]
        fn what_is_written_reads_back(selector in "[a-c]=[a-c]|all", interfaces in vec("[a-z][a-z0-9.-]{0,13}[*]?", 0..INTERFACES_MAX)) {
            let interfaces = interfaces.iter().map(|text| text.parse().unwrap()).collect();
            let members = Members::new(selector.parse().unwrap(), interfaces).unwrap();
            prop_assert_eq!(members.to_string().parse::<Members>().unwrap(), members);
        }
    }
}
