//! The `dcs-watch` command.

use std::process::ExitCode;

/// The whole command.
pub fn main() -> ExitCode {
    ExitCode::from(2)
}
