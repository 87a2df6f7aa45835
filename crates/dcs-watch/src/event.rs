//! The five words of a stream: init, (init) put, init done, put, delete.
//!
//! A list says *init*, *put* for each key, and *init done*; the watch after it says *put* and
//! *delete*. Whoever folds them swaps at *init done*, so nobody ever sees half a list.

/// A key as etcd holds it. After a delete only the key and the revision of the delete mean
/// anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The whole key, raw.
    pub key: Vec<u8>,
    /// The value, raw.
    pub value: Vec<u8>,
    /// The revision of this put or delete.
    pub mod_revision: i64,
    /// The revision at which the key came to be.
    pub create_revision: i64,
    /// How many puts the key has had since; 0 for a delete.
    pub version: i64,
    /// The lease it lives under; 0 for none.
    pub lease: i64,
}

/// What happened.
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
