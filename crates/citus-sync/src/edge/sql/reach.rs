//! Whether the coordinator itself can reach an address.

use dcs_watch::HostPort;

use super::{Database, SqlError};

/// Asks the coordinator; bounded to about a second.
///
/// # Errors
///
/// The question could not be put, which says nothing about the address.
pub async fn can_reach(database: &Database, address: &HostPort) -> Result<bool, SqlError> {
    let _ = (database, address);
    Err(SqlError::Answer("not built yet".to_owned()))
}
