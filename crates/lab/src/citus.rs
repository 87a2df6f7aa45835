//! Citus, or its stand-in. In: a connection. Out: a database with
//! `pg_dist_node` and the functions around it, and which of the two it has.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use postgres::Client;
use serde::{Deserialize, Serialize};

/// Anything but `0` in it means: use the stand-in even where Citus is installed.
pub const STAND_IN_VARIABLE: &str = "LAB_STAND_IN";

/// What a lab's databases have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flavour {
    /// The extension.
    Citus {
        /// The extension's own version, for example `13.2-1`.
        version: String,
    },
    /// `testdata/citus-stand-in.sql`: the same functions, locks and errors, but
    /// no distributed tables.
    StandIn,
}

impl Flavour {
    /// True for the extension.
    pub fn is_citus(&self) -> bool {
        matches!(self, Self::Citus { .. })
    }
}

impl std::fmt::Display for Flavour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Citus { version } => write!(f, "Citus {version}"),
            Self::StandIn => f.write_str("the Citus stand-in (Citus is not used here)"),
        }
    }
}

/// True when [`STAND_IN_VARIABLE`] asks for the stand-in.
pub fn stand_in_forced() -> bool {
    env::var(STAND_IN_VARIABLE).is_ok_and(|value| !value.is_empty() && value != "0")
}

/// Where the stand-in's source is.
pub fn stand_in_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/citus-stand-in.sql")
}

/// Creates the extension, or the stand-in, in the database of `client`.
pub fn install_citus(client: &mut Client, stand_in: bool) -> Result<Flavour> {
    if stand_in {
        let file = stand_in_file();
        let sql =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        client
            .batch_execute(&sql)
            .context("installing the Citus stand-in")?;
        return Ok(Flavour::StandIn);
    }
    client
        .batch_execute("CREATE EXTENSION IF NOT EXISTS citus")
        .context("CREATE EXTENSION citus")?;
    let row = client
        .query_one(
            "SELECT extversion FROM pg_extension WHERE extname = 'citus'",
            &[],
        )
        .context("reading the version of Citus")?;
    Ok(Flavour::Citus {
        version: row.get(0),
    })
}
