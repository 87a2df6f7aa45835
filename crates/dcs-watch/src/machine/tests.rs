//! Every transition of the machine.

mod harness;
mod lineage;
mod lists;
mod silence;
mod streams;
