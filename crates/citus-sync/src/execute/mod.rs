//! What the group reconciler has done in the databases: holds, read moves, moves, resyncs, recovery
//! of prepared transactions, on the coordinator and on the entry nodes. Nothing here decides: what
//! to do was decided, and whether it is still right is asked once more right before rows change.
//!
//! Each file uses only files above it in this list, bottom first; below all of them is `session`:
//!
//! 1. `error`, `blockers`, `place`: why a step was not carried out; which sessions are in the way;
//!    where locks are taken
//! 2. `order`, `transaction`, `lock_holders`, `conclude`: what an executor is told to do; how rows
//!    change in a transaction; which session keeps `pg_dist_node` locked; the end of a step on the
//!    coordinator
//! 3. `locking`, `row_update`, `skipped_mark`: takes a group's locks; changes one row; marks entry
//!    nodes that did not follow
//! 4. `held_entry_node`, `entry_node_reads`, `fan_out`: how one entry node is held; its reads that
//!    follow later; coordinator and entry nodes side by side
//! 5. `entry_nodes`, `plain_move`, `forced_move`: the sessions on a formation's entry nodes; the two
//!    ways of a move when sessions are in the way
//! 6. `entry_node_holds`: the entry nodes of a group's holds, each with an order of its own
//! 7. `read_move`, `row_move`, `row_exchange`, `metadata_query`, `flush`, `readers`, `count`: one step
//!    each, and the questions beside the steps
//! 8. `hold`, then `hold_finish` and `hold_release`
//!
//! `resync` and `recover` stand on the first two layers alone.

mod blockers;
mod conclude;
mod count;
mod entry_node_holds;
mod entry_node_reads;
mod entry_nodes;
mod error;
mod fan_out;
mod flush;
mod forced_move;
mod held_entry_node;
mod hold;
mod hold_finish;
mod hold_release;
mod lock_holders;
mod locking;
mod metadata_query;
mod order;
mod place;
mod plain_move;
mod read_move;
mod readers;
mod recover;
mod resync;
mod row_exchange;
mod row_move;
mod row_update;
mod skipped_mark;
mod transaction;

pub use count::count_at;
pub use entry_node_holds::{EntryNodeHolds, HeldSessions};
pub use entry_nodes::EntryNodes;
pub use error::StepError;
pub use flush::flush_log;
pub use hold::Hold;
pub use hold_finish::{Finish, NotFinished};
pub use metadata_query::{MetadataAnswer, ask_entry_nodes};
pub use order::HoldOrder;
pub use read_move::move_reads;
pub use readers::readers_are_gone;
pub use recover::recover_prepared;
pub use resync::resync;
pub use row_exchange::exchange;
pub use row_move::{register, repair, row_move};
