//! A model of etcd: keys, their history, and which part of it was compacted away.

use std::collections::BTreeMap;

use dcs_watch::event::{Event, Record};
use dcs_watch::machine::Header;
use dcs_watch::store::Store;
use dcs_watch::{Freshness, Namespace, ScopeId, ScopeView};

pub(crate) const KEYS: [&str; 14] = [
    "a/leader",
    "a/members/m1",
    "a/members/m2",
    "a/sync",
    "a/failover",
    "a/config",
    "a/status",
    "a/optime/leader",
    "b/leader",
    "b/members/m1",
    "b/status",
    "c/0/leader",
    "c/1/leader",
    "b/members/",
];

pub(crate) const VALUES: [&str; 12] = [
    "m1",
    "m2",
    "",
    "{}",
    "null",
    r#"{"conn_url":"postgres://h:1/x","role":"replica","xlog_location":1}"#,
    r#"{"conn_url":"postgres://h:1/x","role":"replica","xlog_location":2}"#,
    r#"{"leader":"m1","sync_standby":"m2","member":"m2","pause":true}"#,
    "{broken",
    r#"{"optime":67108864,"slots":{"m2":67108864}}"#,
    r#"{"optime":67108960}"#,
    "67109000",
];

/// An etcd that remembers everything until it is compacted.
#[derive(Debug, Clone)]
pub(crate) struct Etcd {
    pub(crate) cluster_id: u64,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) keys: BTreeMap<Vec<u8>, Record>,
    pub(crate) history: Vec<Event>,
}

impl Etcd {
    pub(crate) fn new(cluster_id: u64) -> Self {
        Self {
            cluster_id,
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            history: Vec::new(),
        }
    }

    pub(crate) fn header(&self) -> Header {
        Header {
            cluster_id: self.cluster_id,
            member_id: 1,
            revision: self.revision,
            raft_term: 2,
        }
    }

    pub(crate) fn put(&mut self, key: usize, value: usize) {
        self.revision += 1;
        let key = format!("/service/{}", KEYS[key]).into_bytes();
        let old = self.keys.get(&key);
        let record = Record {
            value: VALUES[value].into(),
            mod_revision: self.revision,
            create_revision: old.map_or(self.revision, |old| old.create_revision),
            version: old.map_or(1, |old| old.version + 1),
            lease: 0,
            key: key.clone(),
        };
        self.keys.insert(key, record.clone());
        self.history.push(Event::Put(record));
    }

    /// One revision for several deletes, as when a lease ends.
    pub(crate) fn delete(&mut self, keys: &[usize]) {
        let revision = self.revision + 1;
        for key in keys {
            let key = format!("/service/{}", KEYS[*key]).into_bytes();
            if self.keys.remove(&key).is_some() {
                self.revision = revision;
                let record = Record {
                    key,
                    mod_revision: revision,
                    ..Record::default()
                };
                self.history.push(Event::Delete(record));
            }
        }
    }

    pub(crate) fn since(&self, from: i64) -> Vec<Event> {
        self.history
            .iter()
            .filter(|event| revision(event) >= from)
            .cloned()
            .collect()
    }

    pub(crate) fn views(&self) -> BTreeMap<ScopeId, ScopeView> {
        let mut store = Store::new(Namespace::default());
        store.apply(Event::Init);
        for record in self.keys.values() {
            store.apply(Event::InitPut(record.clone()));
        }
        store.apply(Event::InitDone {
            revision: self.revision,
        });
        views(&store)
    }
}

pub(crate) fn revision(event: &Event) -> i64 {
    match event {
        Event::Put(record) | Event::Delete(record) => record.mod_revision,
        _ => 0,
    }
}

/// The views of the scopes of [`KEYS`], as etcd holds them.
pub(crate) fn views(store: &Store) -> BTreeMap<ScopeId, ScopeView> {
    ["a", "b", "c/0", "c/1"]
        .into_iter()
        .map(|name| {
            let id: ScopeId = name.parse().unwrap();
            let mut view = store.view(&id);
            // Freshness and lineage are of the stream, not of what etcd holds.
            view.freshness = Freshness::Fresh;
            view.lineage = 0;
            (id, view)
        })
        .collect()
}
