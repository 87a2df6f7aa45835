//! The table, row by row, as an operator would tell it; then everything at random.

mod builders;
mod telling;

mod asked;
mod deadlines;
mod following;
mod holds;
mod losses;
mod passages;
mod promotions;
mod random;
mod reads;
mod requests;
mod resyncs;
mod sequences;
mod the_checker_stops_changes;
mod the_checker_stops_holds;
mod world;
