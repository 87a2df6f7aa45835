//! Brings the machine into the state that a command needs. In: needs. Out: a
//! machine that has them, or an error with the command that would.

use anyhow::Result;
use lab::packages::{LAB, Need, ensure_installed};

use crate::screen;

/// For building the product.
pub(crate) fn for_build() -> Result<()> {
    install(&[Need::Protoc])
}

/// For a lab with Patroni `version`.
pub(crate) fn for_lab(version: lab::Version) -> Result<()> {
    let mut needs = LAB.to_vec();
    if version == lab::Version::V4_1 {
        needs.push(Need::Venv);
    }
    install(&needs)
}

fn install(needs: &[Need]) -> Result<()> {
    ensure_installed(needs, |what| screen::line(&format!("{what} …")))
}
