//! What a member says of itself: whether it is in recovery, how far it is, and which database cluster
//! it serves.

use citus_core::plan::{Identity, Position};
use citus_core::sql::{SYSTEM, WHERE_IT_IS, WHERE_IT_IS_NOW, batch};
use dcs_watch::Lsn;

use super::connect::{AnswerRow, Connection, system_of};
use super::error::SqlError;

/// A member's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberAnswer {
    /// It takes no writes.
    pub in_recovery: bool,
    /// How far it is in the write-ahead log.
    pub position: Position,
    /// When its postmaster was started, in microseconds since 1970 by its own clock.
    pub started: Option<i64>,
    /// Which database cluster it serves.
    pub identity: Identity,
}

/// The first question of a session, all in one round trip; a second one follows where our role may
/// not ask for the system identifier.
///
/// # Errors
///
/// It cannot be asked, or answers something else.
pub(super) async fn ask_first(session: &mut Connection) -> Result<MemberAnswer, SqlError> {
    match session.rows(&batch([SYSTEM, WHERE_IT_IS])).await {
        Ok(rows) => {
            let mut answer = parse(rows.get(1))?;
            answer.identity.system = Some(system_of(rows.first())?);
            Ok(answer)
        }
        Err(error) if error.is_about_a_function() => {
            parse(session.rows(WHERE_IT_IS).await?.first())
        }
        Err(error) => Err(error),
    }
}

/// The question again, on a session where it was asked before. The system identifier is not asked for
/// twice: the server of a session never becomes one of another cluster.
///
/// # Errors
///
/// As the first time.
pub(super) async fn ask_again(
    session: &mut Connection,
    before: &MemberAnswer,
) -> Result<MemberAnswer, SqlError> {
    let mut answer = parse(session.rows(WHERE_IT_IS_NOW).await?.first())?;
    answer.identity.system = before.identity.system;
    Ok(answer)
}

fn parse(row: Option<&AnswerRow>) -> Result<MemberAnswer, SqlError> {
    let text = |column| row.and_then(|row| row.get(column));
    let in_recovery = match text(0) {
        Some("t") => true,
        Some("f") => false,
        other => return Err(SqlError::unexpected(other, WHERE_IT_IS_NOW)),
    };
    let lsn = |column| text(column).and_then(|text| text.parse::<Lsn>().ok());
    Ok(MemberAnswer {
        in_recovery,
        position: Position {
            written: lsn(1),
            replayed: lsn(2),
            exhausted: text(4) == Some("t"),
        },
        started: text(3).and_then(|text| text.parse().ok()),
        identity: Identity {
            system: None,
            timeline: text(5).and_then(|text| u32::from_str_radix(text, 16).ok()),
        },
    })
}
