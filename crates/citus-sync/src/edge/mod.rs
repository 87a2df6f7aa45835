//! The edge: everything that talks to the world. Nothing outside this folder may use it.

pub mod cli;
pub mod commands;
pub mod daemon;
pub mod formation;
pub mod http;
pub mod notify;
pub mod reconciler;
pub mod store;
