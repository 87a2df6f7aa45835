//! End to end: real etcd, real Patroni, real PostgreSQL, Citus where it is installed (its stand-in
//! otherwise), and the real program.
//!
//! The scenarios of one run share one laboratory, one after the other. Each begins and ends with
//! every scope healthy and every row its leader's, and each ends by asking what is left to decide.
//! `LAB_PATRONI=4` runs them on Patroni 4.1, `LAB_STAND_IN=1` on the stand-in.

mod addresses;
mod away;
mod bare;
mod clients;
mod crash;
mod daemon;
mod databases;
mod deadline;
mod entry_nodes;
mod etcd;
mod failover;
mod fixture;
mod hook;
mod hostile;
mod interrupted;
mod interruptions;
mod requests;
mod rights;
mod rows;
mod superseded;
mod switchover;
mod systemd;
mod ways_in;
mod who_answered;
mod writers;
