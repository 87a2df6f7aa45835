//! The daemon: everything as one process. `run` uses `notify`.

mod notify;
mod run;

pub use run::{etcd_settings, run};
