//! The etcd client: a task that keeps the views true, and one list for commands that look once.
//!
//! Enters: [`Settings`]. Leaves: [`Views`] to subscribe to ([`spawn`]), or the views of all scopes
//! at one revision ([`list_once`]). Needs a tokio runtime with time and I/O.
//!
//! - `etcd`: connections, lists and watches; the only file that names `etcd_client`
//! - `driver`: executes the outputs of [`crate::machine`] and feeds it the answers
//! - `watcher`: the task that folds events into the store and wakes the subscribers
//! - `views`: the subscriptions
//! - `listing`: one list of everything
//! - `confirm`: one linearizable read of a few keys
//! - `retry`: pauses between tries; the only file that names `backoff`
//! - `password`: the etcd user's password, which may change
//! - `settings`: how etcd is reached, and the time limits
//! - `counters`: counts for metrics

mod confirm;
mod counters;
pub(crate) mod driver;
mod etcd;
mod listing;
mod password;
mod retry;
mod settings;
mod views;
mod watcher;

pub use confirm::Confirm;
pub use counters::Counters;
pub(crate) use listing::NO_KEY_HINT;
pub use listing::{ListError, list_once};
pub use password::Password;
pub use retry::Retry;
pub use settings::{Settings, SettingsError};
pub use views::{Health, Views};
pub use watcher::spawn;
