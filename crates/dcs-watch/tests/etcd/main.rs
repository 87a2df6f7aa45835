//! The client against a real etcd, which does what the tests of the machine assume.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod harness;
mod lineage;
mod lists;
mod outages;
mod subscriptions;
