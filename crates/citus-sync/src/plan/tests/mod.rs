//! The table, row by row, as an operator would tell it; then everything at random.

mod builders;
mod telling;

mod asked;
mod deadlines;
mod following;
mod holds;
mod losses;
mod promotions;
mod random;
mod reads;
mod requests;
mod resyncs;
mod the_checker_stops;
