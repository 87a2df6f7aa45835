//! The table, row by row, as an operator would tell it; then everything at random.

pub(crate) mod builders;
mod telling;

mod asked;
mod deadlines;
mod failures_seen;
mod following;
mod holds;
mod promotions;
pub(crate) mod random;
mod reads;
mod requests;
mod resyncs;
mod the_checker_stops_changes;
mod the_checker_stops_holds;
