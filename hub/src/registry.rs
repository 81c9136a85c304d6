//! The fleet registry: join grants, nodes, and what nodes last said of themselves, as records in the store.
//!
//! Keys: `authority/<version>` and `grant/<id>` hold envelopes; `use/<grant>/<slot>` holds the node that spent one of the
//! grant's uses (a slot each, so that enrolments do not queue on one counter); `node/<id>` and `name/<name>` the node;
//! `status/<id>` what it last said. Records are JSON with their format first; `report/<id>` holds a node's last report as
//! it came (protobuf), apart from the status, so that neither is written again with the other.

mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_pki::authority::RefuseAuthority;
use holdfast_pki::envelope::Envelope;
use holdfast_proto::ids::{InvalidId, Name, NodeId, UniqueId};
use holdfast_proto::labels::Labels;
use holdfast_proto::payload::format_1;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::status::{InterfaceRecord, InventoryRecord, NodeStatus};
use crate::store::key::{Entry, Key, Revision, Span};
use crate::store::txn::CommitError;
use crate::store::{Store, Unavailable};

/// A node that enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRecord {
    /// Always 1.
    #[serde(deserialize_with = "format_1")]
    pub format: u32,
    /// Digest of its enrolment key.
    pub id: NodeId,
    /// What people call it. Free again once the node was removed.
    pub name: Name,
    /// Its labels: the join grant's, or the newest change's.
    pub labels: Labels,
    /// Their version: 1 for the join grant's.
    pub labels_version: u64,
    /// The grant it joined by.
    pub grant: UniqueId,
    /// The networks that bound its address, from the grant; empty: any.
    pub within: Vec<ipnet::IpNet>,
    /// When it enrolled, in Unix seconds.
    pub enrolled_secs: u64,
    /// When it was removed; its certificate admits nothing from then on.
    pub removed_secs: Option<u64>,
}

/// Every node that is not removed, with what it last said.
pub type Fleet = BTreeMap<NodeId, (NodeRecord, Option<NodeStatus>)>;

/// Why the registry cannot answer or change.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] Unavailable),
    /// A change was not acknowledged.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A record is not what this version writes.
    #[error("the record {key} cannot be read; was the store written by a newer hub?")]
    Record {
        /// Where it is.
        key: Key,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A key holds something that is no id.
    #[error("the key {key} cannot be read")]
    Key {
        /// The key.
        key: Key,
        /// What is wrong.
        source: InvalidId,
    },
    /// A record is gone that another one names.
    #[error("the record {key} is missing, which another one names; put the store back from a backup")]
    Missing {
        /// Where it should be.
        key: Key,
    },
    /// The authority in the store does not hold together.
    #[error("the stored authority is not valid")]
    Authority(#[from] RefuseAuthority),
    /// There is none.
    #[error("the store holds no authority: it belongs to no hub that `holdfast init` made")]
    NoAuthority,
}

/// Typed access to the fleet's records.
#[derive(Debug, Clone)]
pub struct Registry {
    store: Arc<dyn Store>,
}

/// A record and the revision that wrote it.
#[derive(Debug, Clone)]
pub struct Versioned<T> {
    /// The record.
    pub value: T,
    /// For a precondition.
    pub revision: Revision,
}

impl Registry {
    /// The registry in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Where the records are.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// How far the store has come.
    ///
    /// # Errors
    /// [`RegistryError`] from the store.
    pub async fn revision(&self) -> Result<Revision, RegistryError> {
        Ok(self.store.range(&Span::between("", ""), 1).await?.revision)
    }

    /// The key of an authority version.
    #[must_use]
    pub fn authority_key(version: u64) -> Key {
        format!("authority/{version:020}").into()
    }

    /// The key of a join grant.
    #[must_use]
    pub fn grant_key(id: &UniqueId) -> Key {
        format!("grant/{id}").into()
    }

    /// The key of one use of a join grant.
    #[must_use]
    pub fn use_key(grant: &UniqueId, slot: u32) -> Key {
        format!("use/{grant}/{slot:010}").into()
    }

    /// The key of a node.
    #[must_use]
    pub fn node_key(id: &NodeId) -> Key {
        format!("node/{id}").into()
    }

    /// The key of a node's name.
    #[must_use]
    pub fn name_key(name: &Name) -> Key {
        format!("name/{name}").into()
    }

    /// The key of a node's last report.
    #[must_use]
    pub fn report_key(id: &NodeId) -> Key {
        format!("report/{id}").into()
    }

    /// The key of what a node last said.
    #[must_use]
    pub fn status_key(id: &NodeId) -> Key {
        format!("status/{id}").into()
    }

    /// The versions of the authority after `after`, oldest first: at most `limit`.
    ///
    /// # Errors
    /// [`RegistryError`] from the store, or for a record that cannot be read.
    pub async fn authority_versions(&self, after: u64, limit: usize) -> Result<Vec<Envelope>, RegistryError> {
        let span = Span::prefix("authority/").after(&Self::authority_key(after));
        let page = self.store.range(&span, limit).await?;
        page.entries.iter().map(read_record).collect()
    }

    /// A join grant's envelope.
    ///
    /// # Errors
    /// [`RegistryError`] from the store, or for a record that cannot be read.
    pub async fn grant(&self, id: &UniqueId) -> Result<Option<Envelope>, RegistryError> {
        Ok(self.record(&Self::grant_key(id)).await?.map(|found| found.value))
    }

    /// A node, removed or not.
    ///
    /// # Errors
    /// [`RegistryError`] from the store, or for a record that cannot be read.
    pub async fn node(&self, id: &NodeId) -> Result<Option<Versioned<NodeRecord>>, RegistryError> {
        self.record(&Self::node_key(id)).await
    }

    /// The node that has `name` now.
    ///
    /// # Errors
    /// [`RegistryError`] from the store, or for a record that cannot be read.
    pub async fn node_named(&self, name: &Name) -> Result<Option<Versioned<NodeRecord>>, RegistryError> {
        match self.record::<NodeId>(&Self::name_key(name)).await? {
            Some(id) => self.node(&id.value).await,
            None => Ok(None),
        }
    }

    /// What a node last said.
    ///
    /// # Errors
    /// [`RegistryError`] from the store, or for a record that cannot be read.
    pub async fn status(&self, id: &NodeId) -> Result<Option<Versioned<NodeStatus>>, RegistryError> {
        self.record(&Self::status_key(id)).await
    }

    /// Names of nodes that are not removed, in order, from behind `after`: at most `limit`, and whether more follow.
    ///
    /// # Errors
    /// [`RegistryError`] from the store, or for a record that cannot be read.
    pub async fn names(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<(String, NodeId)>, bool), RegistryError> {
        let mut span = Span::prefix("name/");
        if !after.is_empty() {
            span = span.after(&format!("name/{after}").into());
        }
        let page = self.store.range(&span, limit).await?;
        let names = page.entries.iter().map(|entry| {
            let name = entry.key.strip_prefix("name/").unwrap_or_default().to_owned();
            Ok((name, read_record::<NodeId>(entry)?))
        });
        Ok((names.collect::<Result<_, RegistryError>>()?, page.rest.is_some()))
    }

    /// Every node that is not removed, with what it last said.
    ///
    /// # Errors
    /// [`RegistryError`] from the store, or for a record that cannot be read.
    pub async fn fleet(&self) -> Result<Fleet, RegistryError> {
        let mut statuses: BTreeMap<NodeId, NodeStatus> = BTreeMap::new();
        for entry in self.all("status/").await? {
            let id = entry.key.strip_prefix("status/").unwrap_or_default().parse();
            let id = id.map_err(|source| RegistryError::Key {
                key: entry.key.clone(),
                source,
            })?;
            statuses.insert(id, read_record(&entry)?);
        }
        let mut fleet = BTreeMap::new();
        for entry in self.all("node/").await? {
            let node: NodeRecord = read_record(&entry)?;
            if node.removed_secs.is_none() {
                let status = statuses.remove(&node.id);
                fleet.insert(node.id, (node, status));
            }
        }
        Ok(fleet)
    }

    /// Every entry whose key begins with `prefix`.
    pub(crate) async fn all(&self, prefix: &str) -> Result<Vec<Entry>, RegistryError> {
        let mut entries = Vec::new();
        let mut rest = Some(Span::prefix(prefix));
        while let Some(span) = rest {
            let page = self.store.range(&span, crate::store::key::PAGE_MAX).await?;
            entries.extend(page.entries);
            rest = page.rest;
        }
        Ok(entries)
    }

    /// The record at `key`, if there is one.
    ///
    /// # Errors
    /// [`RegistryError`] from the store, or for a record that cannot be read.
    pub async fn record<T: DeserializeOwned>(
        &self,
        key: &Key,
    ) -> Result<Option<Versioned<T>>, RegistryError> {
        let entry = self.store.get(key).await?;
        entry
            .map(|entry| {
                Ok(Versioned {
                    value: read_record(&entry)?,
                    revision: entry.revision,
                })
            })
            .transpose()
    }
}

/// A record as it is stored.
pub fn to_record(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records are structs of texts and numbers")
}

/// Reads what [`to_record`] wrote.
pub(crate) fn read_record<T: DeserializeOwned>(entry: &Entry) -> Result<T, RegistryError> {
    serde_json::from_slice(&entry.value).map_err(|source| RegistryError::Record {
        key: entry.key.clone(),
        source,
    })
}
