//! Prepares the machine for a command. In: what the command needs. Out: installed
//! packages and a built daemon, or an error that says what to do.

use std::path::PathBuf;

use anyhow::Result;
use lab::packages::{LAB, Need, ensure_installed};

use crate::{screen, shell};

/// Installs what building the product needs.
pub(crate) fn for_build() -> Result<()> {
    install(&[Need::Protoc])
}

/// Installs what tests need beside a lab.
pub(crate) fn for_tests() -> Result<()> {
    install(&[Need::Promtool])
}

/// Installs what a lab with Patroni `version` needs.
pub(crate) fn for_lab(version: lab::Version) -> Result<()> {
    let mut needs = LAB.to_vec();
    if version == lab::Version::V4_1 {
        needs.push(Need::Venv);
    }
    install(&needs)
}

/// Builds citus-sync, announced as `what`. Returns the program.
pub(crate) fn build_citus_sync(what: &str) -> Result<PathBuf> {
    for_build()?;
    screen::step(what, || {
        shell::run_quietly(&mut shell::cargo(&["build", "--quiet", "-p", "citus-sync"]))
    })?;
    Ok(shell::target().join("debug/citus-sync"))
}

fn install(needs: &[Need]) -> Result<()> {
    ensure_installed(needs, |what| screen::line(&format!("{what} …")))
}
