//! The project's own commands. All it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    match xtask::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
