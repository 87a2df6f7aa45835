//! The events that a list and the watch after it deliver.
//!
//! A list is [`Event::Init`], an [`Event::InitPut`] for each key, and [`Event::InitDone`]. The watch
//! after it delivers [`Event::Put`] and [`Event::Delete`]. The store replaces its views at
//! [`Event::InitDone`], so half a list is never seen.

/// A key as etcd holds it. For a delete only the key and the revision have a meaning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The whole key, as bytes.
    pub key: Vec<u8>,
    /// The value, as bytes.
    pub value: Vec<u8>,
    /// The etcd revision of this put or delete.
    pub mod_revision: i64,
    /// The etcd revision at which the key was created.
    pub create_revision: i64,
    /// The number of puts since the key was created, that one included; 0 for a delete.
    pub version: i64,
    /// The id of the lease that the key ends with; 0 for none.
    pub lease: i64,
}

/// One event of a list or a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A list begins.
    Init,
    /// A key in the list.
    InitPut(Record),
    /// The list is complete: what it did not name does not exist.
    InitDone {
        /// The etcd revision at which the list was taken.
        revision: i64,
    },
    /// A key was put.
    Put(Record),
    /// A key was deleted, or its lease ended.
    Delete(Record),
}
