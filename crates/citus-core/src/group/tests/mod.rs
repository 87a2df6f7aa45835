//! The group reconciler itself, driven as the daemon drives it: whole transitions, then everything at random.

mod entry_nodes;
mod fixture;
mod sequences;
mod transitions;
