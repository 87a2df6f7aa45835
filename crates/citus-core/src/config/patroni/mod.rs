//! Patroni's own file. From bottom to top: `password` and `nodes`; `etcd`, `login` and `citus`;
//! `file`, which reads the top level.

mod citus;
mod etcd;
mod file;
mod login;
mod nodes;
mod password;

pub(super) use file::{is_patroni, read};
