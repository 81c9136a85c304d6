//! `hub.toml`: what a hub must know before it opens its store. Written by `holdfast init`, read by `holdfast serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use holdfast_pki::authority::AuthorityPin;
use holdfast_pki::files::Files;
use holdfast_proto::ids::{TrustDomain, UniqueId};
use serde::{Deserialize, Serialize};

use crate::store::embedded::JOURNAL;

/// The file's name in the hub's directory. It is written last: where it is, the hub is complete.
pub const FILE: &str = "hub.toml";

/// A hub's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Always 1.
    pub format: u32,
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// This hub, in its SPIFFE ID.
    pub hub_id: UniqueId,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where agents and operators reach it, `host:port`; goes into join tokens.
    pub advertise: Vec<String>,
    /// How long a node's certificate lives, in days. Agents do not renew yet, so it is long.
    pub node_certificate_days: u32,
    /// How long an operator's API certificate lives, in hours: it is renewed while it lasts, and ends by itself after.
    #[serde(default = "operator_certificate_hours")]
    pub operator_certificate_hours: u32,
    /// The authority that this hub began with.
    pub authority: AuthorityPin,
}

/// A working day: who works on needs no second login, who left is out by night.
pub const OPERATOR_CERTIFICATE_HOURS: u32 = 8;
/// A week. Longer ones would make of access what the design says it is not: something to be kept and stolen.
const OPERATOR_CERTIFICATE_HOURS_MAX: u32 = 7 * 24;

const fn operator_certificate_hours() -> u32 {
    OPERATOR_CERTIFICATE_HOURS
}

/// Where things are in the hub's directory.
#[derive(Debug, Clone)]
pub struct HubDir(PathBuf);

impl HubDir {
    /// The layout below `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.0.join(FILE)
    }

    /// The store's directory.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// The store's only lasting file.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.store().join(JOURNAL)
    }

    /// The key that signs this hub's checkpoints.
    #[must_use]
    pub fn checkpoint_key(&self) -> PathBuf {
        self.0.join("ca").join("checkpoint.key")
    }

    /// Certificate and key of one of the hub's CAs.
    #[must_use]
    pub fn ca(&self, ca: CaName) -> (PathBuf, PathBuf) {
        let dir = self.0.join("ca");
        (
            dir.join(format!("{}.crt", ca.as_str())),
            dir.join(format!("{}.key", ca.as_str())),
        )
    }
}

/// The CAs of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaName {
    /// The root of hubs and nodes. Its key is only needed to make issuing CAs and may be kept elsewhere.
    NodeRoot,
    /// Issues leaves for this hub and for nodes, below the node root.
    Issuing,
    /// The root of the operators' access to the API. Its key is only needed to make issuing CAs and may be kept elsewhere.
    OperatorRoot,
    /// Issues operators' API certificates, below the operators' root.
    OperatorIssuing,
}

impl CaName {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::NodeRoot,
        Self::Issuing,
        Self::OperatorRoot,
        Self::OperatorIssuing,
    ];

    /// Whether the hub serves with its key; one that is only needed to make issuing CAs may be kept elsewhere.
    #[must_use]
    pub const fn is_served_with(self) -> bool {
        matches!(self, Self::Issuing | Self::OperatorIssuing)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::NodeRoot => "node-root",
            Self::Issuing => "issuing",
            Self::OperatorRoot => "operator-root",
            Self::OperatorIssuing => "operator-issuing",
        }
    }
}

impl Config {
    /// Reads the settings of the hub in `dir`.
    ///
    /// # Errors
    /// [`ReadConfig`] says which file and what is wrong in it.
    pub fn read(dir: &HubDir, files: &dyn Files) -> Result<Self, ReadConfig> {
        let path = dir.config();
        let bytes = files.read(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => ReadConfig::NoHub {
                dir: dir.path().to_owned(),
            },
            _ => ReadConfig::Io {
                path: path.clone(),
                source,
            },
        })?;
        let text = String::from_utf8_lossy(&bytes);
        let config: Self = toml::from_str(&text).map_err(|source| ReadConfig::Toml {
            path: path.clone(),
            source,
        })?;
        let hours = 1..=OPERATOR_CERTIFICATE_HOURS_MAX;
        if config.format != 1
            || config.advertise.is_empty()
            || config.node_certificate_days == 0
            || !hours.contains(&config.operator_certificate_hours)
        {
            return Err(ReadConfig::Values { path });
        }
        Ok(config)
    }

    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let settings = toml::to_string(self).expect("a struct of texts and numbers");
        format!("# Settings of a Holdfast hub. `holdfast serve` reads them when it starts.\n\n{settings}")
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ReadConfig {
    /// Nothing was initialised there.
    #[error("there is no hub in {}: make one with `holdfast init --dir {}`", .dir.display(), .dir.display())]
    NoHub {
        /// The directory.
        dir: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no TOML of ours.
    #[error("{} is not right", .path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Line, column and what is wrong.
        source: toml::de::Error,
    },
    /// Its values cannot be used.
    #[error(
        "{}: format must be 1, advertise must name an address, node_certificate_days must be above 0, operator_certificate_hours 1 to {OPERATOR_CERTIFICATE_HOURS_MAX}",
        .path.display()
    )]
    Values {
        /// The file.
        path: PathBuf,
    },
}
