//! The command line: arguments go in, a page on stdout and an exit code come out. Logs and errors
//! go to stderr.
//!
//! Exit codes: 0 done, 1 the thing asked for is not so, 2 usage or configuration.
//!
//! From the bottom up: `outcome` is what a command came to; `runtime`, `secret_files`, `source`,
//! `stdout`, `log_writer` and `logs` use only that and each other in this order; `address` and
//! `watch` are for commands that ask a running daemon, `remediation`, `snapshot`, `addresses` and `look`
//! for those that look for themselves; then one file or folder for each command (`check`, `convert`, `history`,
//! `hold`, `plan`, `reload`, `run`, `status`); `dispatch` picks the command.

mod address;
mod addresses;
mod check;
mod convert;
mod dispatch;
mod history;
mod hold;
mod log_writer;
mod logs;
mod look;
mod outcome;
mod plan;
mod reload;
mod remediation;
mod run;
mod runtime;
mod secret_files;
mod snapshot;
mod source;
mod status;
mod stdout;
mod watch;

pub use dispatch::main;
