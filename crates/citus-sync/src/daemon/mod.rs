//! The daemon: everything as one process. `run` uses `notify` and `reload`.

mod notify;
mod reload;
mod run;

pub use reload::Load;
pub use run::{Control, etcd_settings, run};
