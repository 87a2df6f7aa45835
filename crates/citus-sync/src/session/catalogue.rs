//! Reads what a database says of its Citus: the functions it has, our rights, its rows.

use std::collections::BTreeSet;

use dcs_watch::HostPort;
use dcs_watch::text::{NAME_BYTES, excerpt};

use super::connect::{AnswerRow, Connection};
use super::error::SqlError;
use citus_core::plan::{NodeRole, Row};
use citus_core::sql::{COLUMNS, Dialect, FUNCTIONS, Function, RIGHTS, Rights, VERSION};

/// Learns which Citus this database has.
pub(super) async fn detect(session: &mut Connection) -> Result<Dialect, SqlError> {
    let functions: Vec<Function> = session
        .rows(FUNCTIONS)
        .await?
        .iter()
        .map(|row| {
            Ok(Function {
                name: text(row, 0)?,
                arguments: number(row, 1)?,
            })
        })
        .collect::<Result<_, SqlError>>()?;
    let columns = session.rows(COLUMNS).await?;
    let columns: BTreeSet<String> = columns
        .iter()
        .map(|row| text(row, 0))
        .collect::<Result<_, _>>()?;
    let version = if Dialect::has_version(&functions) {
        session
            .rows(VERSION)
            .await?
            .first()
            .map(|row| text(row, 0))
            .transpose()?
    } else {
        None
    };
    // "Citus 13.2.2 on x86_64-pc-linux-gnu, compiled by …": the first two words are for people.
    let version = version.map(|full| match full.split_once(" on ") {
        Some((short, _)) => excerpt(short, NAME_BYTES).into_owned(),
        None => excerpt(&full, NAME_BYTES).into_owned(),
    });
    let rights = session.rows(RIGHTS).await?;
    let may = |column| {
        rights
            .first()
            .is_some_and(|row| row.get(column) == Some("t"))
    };
    let rights = Rights {
        update: may(0),
        edit: may(1),
    };
    Dialect::detect(&functions, columns, version, rights)
        .map_err(|none| SqlError::Answer(none.to_string()))
}

/// Reads all rows of `pg_dist_node`.
pub(super) async fn read_rows(
    session: &mut Connection,
    dialect: &Dialect,
) -> Result<Vec<Row>, SqlError> {
    let rows = session.rows(&dialect.read_rows()).await?;
    rows.iter().map(parse_row).collect()
}

fn parse_row(row: &AnswerRow) -> Result<Row, SqlError> {
    Ok(Row {
        nodeid: number(row, 0)?,
        groupid: number(row, 1)?,
        address: HostPort {
            host: text(row, 2)?,
            // The column is an int4. A port that none can be is shown as 0: this row is never right,
            // and the others are read all the same.
            port: u16::try_from(number::<i32>(row, 3)?).unwrap_or(0),
        },
        role: NodeRole::from_text(&text(row, 4)?),
        cluster: text(row, 5)?,
        active: row.get(6) == Some("t"),
        has_metadata: row.get(7) == Some("t"),
        metadata_synced: row.get(8) == Some("t"),
    })
}

fn text(row: &AnswerRow, column: usize) -> Result<String, SqlError> {
    row.try_get(column)
        .ok()
        .flatten()
        .map(str::to_owned)
        .ok_or_else(|| SqlError::Answer(format!("column {column} of a catalogue is empty")))
}

fn number<T: std::str::FromStr>(row: &AnswerRow, column: usize) -> Result<T, SqlError> {
    let text = text(row, column)?;
    text.parse().map_err(|_| {
        SqlError::Answer(format!(
            "column {column} of a catalogue is {:?}, no number that fits",
            excerpt(&text, NAME_BYTES)
        ))
    })
}
