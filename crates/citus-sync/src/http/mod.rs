//! HTTP: what the daemon serves, and the client with which `status`, `hold` and their like ask it.
//! The only folder that knows the HTTP libraries.
//!
//! From the bottom up: `exposition`, `room`, `handler_state`, `holds`, `server`. `client` stands alone.

mod client;
mod exposition;
mod handler_state;
mod holds;
mod room;
mod server;
#[cfg(test)]
mod tests;

pub use client::{Called, ClientError, Order, call, fetch_history, fetch_state, is_address};
pub use server::serve;
