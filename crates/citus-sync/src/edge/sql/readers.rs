//! Who still reads at a leader from which reads were moved.

use std::time::Duration;

use dcs_watch::HostPort;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Database, Doors, SqlError};
use crate::statements::CITUS_IS_QUIET;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// So many looks in a row have to find nobody: a statement that was planned before reads were moved is
/// on its way there for a moment longer.
const LOOKS: u32 = 2;

/// Completes when the leader runs no statement of this database any more that Citus sent it. The
/// session is opened at once; the first look is `moved`'s to begin, which is said when reads have been.
///
/// # Errors
///
/// It cannot be known: the leader does not answer, or nobody says `moved` any more.
pub async fn readers_are_gone(
    database: &Database,
    doors: &Doors,
    leader: &HostPort,
    mut moved: watch::Receiver<bool>,
) -> Result<(), SqlError> {
    let mut session = doors.session(leader, &database.name).await?;
    if moved.wait_for(|moved| *moved).await.is_ok() {
        let mut quiet = 0;
        loop {
            let nobody = session.boolean(CITUS_IS_QUIET).await?;
            quiet = if nobody { quiet + 1 } else { 0 };
            if quiet == LOOKS {
                break;
            }
            sleep(PAUSE).await;
        }
    }
    doors.put_back(&database.name, session);
    Ok(())
}
