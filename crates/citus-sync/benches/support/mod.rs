//! What both benches need: the daemon as an operator runs it, the keys that
//! Patroni writes, the machine they run on, and a table on the terminal.

pub(crate) mod daemon;
pub(crate) mod keys;
pub(crate) mod machine;
pub(crate) mod table;
