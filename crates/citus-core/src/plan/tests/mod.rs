//! The table, row by row, as an operator would tell it; then everything at random.

mod builders;
mod telling;

mod asked;
mod deadlines;
mod failures_seen;
mod fixture;
mod following;
mod holds;
mod promotions;
mod random;
mod reads;
mod requests;
mod resyncs;
mod sequences;
mod the_checker_stops_changes;
mod the_checker_stops_holds;
mod transitions;
