//! The native file. From bottom to top: `policy`, `etcd` and `workers`; `formation`; `formations`;
//! `file`, which reads the top level.

mod addresses;
mod etcd;
mod file;
mod formation;
mod formations;
mod policy;
mod workers;

pub(super) use file::read;
