//! HTTP: what the daemon serves, and the client with which `status` reads it. The only folder that
//! knows the HTTP libraries.

mod client;
mod server;

pub use client::{ClientError, fetch_state};
pub use server::serve;
