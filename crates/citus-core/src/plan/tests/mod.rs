//! The table, row by row, as an operator would tell it; then everything at random.

mod addresses;
pub(crate) mod builders;
mod telling;

mod deadlines;
mod following;
mod holds;
mod lost_members;
mod promotions;
pub(crate) mod random;
mod reads;
mod requested_holds;
mod requests;
mod resyncs;
mod temporary_names;
mod the_checker_stops_changes;
mod the_checker_stops_entry_nodes;
mod the_checker_stops_holds;
mod the_checker_stops_read_moves;
mod who_answered;
