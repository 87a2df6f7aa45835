//! Sessions with PostgreSQL servers, each with a deadline on everything, and what is asked on them.
//! The only folder that knows the client library. It holds and moves nothing: `execute` does.
//!
//! Each file uses only files above it in this list, bottom first:
//!
//! 1. `error`, `bounded`, `server`: what can go wrong; how much a server may send; which member
//!    leads the coordinator
//! 2. `socket`: a TCP connection with keepalives
//! 3. `password`, then `login`: the password, which may change; the role, the settings of each session
//! 4. `connect`: one open session
//! 5. `warm`, `reference_tables`, `writer_lock`, `catalogue`, `member`, `shards`: idle sessions; the
//!    session that all holds of a database share; the one that keeps other daemons from writing;
//!    reading what a database says of its Citus, and what a member says of itself; counting a group's
//!    shards
//! 6. `pool`, `entry_nodes`: the coordinator's sessions, and those of the entry nodes
//! 7. `database`, `probe`, `inspect`: one database on the coordinator leader; whether a member
//!    takes writes; one look, for commands that look once
//! 8. `reachability`: whether the coordinator reaches an address

mod address_book;
mod bounded;
mod catalogue;
mod connect;
mod database;
mod entry_nodes;
mod error;
pub mod inspect;
mod login;
mod member;
mod password;
mod pool;
mod probe;
mod reachability;
mod reference_tables;
mod server;
mod shards;
mod socket;
mod warm;
mod writer_lock;

pub use bounded::Bounds;
pub use connect::Connection;
pub(crate) use connect::{AnswerRow, GRACE};
pub use database::{Database, DatabaseState};
pub(crate) use entry_nodes::EntryNodeSessions;

pub use address_book::AddressBook;
pub use error::SqlError;
pub use login::Login;
pub use member::MemberAnswer;
pub use password::SharedPassword;
pub(crate) use pool::Leased;
pub use probe::{Listener, Probes};
pub use reachability::{can_reach, reach};
pub(crate) use reference_tables::{ReferenceTables, Share};
pub use server::Server;
pub use shards::count_shards;
