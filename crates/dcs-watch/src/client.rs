//! The etcd client: a task that keeps the views true, and one list for commands that look once.
//!
//! Enters: [`Settings`]. Leaves: [`Views`] to subscribe to ([`spawn`]), or the views of all scopes
//! at one revision ([`list_once`]). Needs a tokio runtime with time and I/O.
//!
//! - `etcd`: connections, lists and watches; the only file that names `etcd_client`
//! - `driver`: executes what [`crate::machine`] asks for and feeds it what came of it
//! - `watcher`: folds events into the store and wakes the subscribers
//! - `listing`: one list of everything
//! - `retry`: pauses between tries; the only file that names `backoff`
//! - `settings`, `counters`: what goes in, and what was counted

mod counters;
pub(crate) mod driver;
mod etcd;
mod listing;
mod retry;
mod settings;
mod watcher;

pub use counters::Counters;
pub use listing::{ListError, list_once};
pub use retry::Retry;
pub use settings::{Settings, SettingsError};
pub use watcher::{Health, Views, spawn};
