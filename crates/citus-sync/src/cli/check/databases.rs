//! The coordinator's databases: whether each can be asked, has Citus, and which.

use dcs_watch::HostPort;

use super::answers::{Inspected, facts};
use super::per_database::{PerDatabase, databases_named};
use crate::cli::remediation::{describe, remediation};
use crate::cli::snapshot::Groups;
use crate::session::SqlError;
use crate::session::inspect::Facts;
use citus_core::config::{Coordinator, Formation};
use citus_core::render::{Finding, counted};
use citus_core::sql::FAULT_FIXED_BY;

pub(super) fn judge(formation: &Formation, groups: &Groups, inspected: &Inspected) -> Vec<Finding> {
    let coordinator = &formation.coordinator;
    let Some(address) = groups.coordinator() else {
        return vec![Finding::fail(
            databases_named(&coordinator.databases),
            format!(
                "could not be looked at: scope {} has no leader with an address",
                coordinator.scope
            ),
            "",
        )];
    };
    if let Some(finding) = not_asked(coordinator, inspected) {
        return vec![finding];
    }
    let mut found: Vec<Finding> = inspected
        .iter()
        .map(|(name, answer)| database(coordinator, address, name, answer))
        .collect();
    found.extend(known_faults(formation, inspected));
    found
}

/// Faults of the Citus version that runs there.
fn known_faults(formation: &Formation, inspected: &Inspected) -> Vec<Finding> {
    let mut found = PerDatabase::of(formation);
    for (database, facts) in facts(inspected) {
        if let Ok(citus) = &facts.citus
            && let Some(fault) = citus.dialect.known_fault()
        {
            let finding = Finding::warn("Citus version", fault, FAULT_FIXED_BY);
            found.add(database, finding);
        }
    }
    found.finish()
}

/// The server refused us in every database, and no database is at fault. What was not looked at is no
/// pass: `server::leaders` may well have had the last session that was free.
fn not_asked(coordinator: &Coordinator, inspected: &Inspected) -> Option<Finding> {
    let refused = |answer: &Result<Facts, SqlError>| {
        answer
            .as_ref()
            .is_err_and(|error| !error.is_about_the_database())
    };
    inspected.values().all(refused).then(|| {
        let why = inspected.values().find_map(|answer| answer.as_ref().err());
        let why = why.map(describe).unwrap_or_default();
        Finding::fail(
            databases_named(&coordinator.databases),
            format!(
                "could not be looked at: no session with the server that leads {}: {why}",
                coordinator.scope
            ),
            "fix that first, then look again",
        )
    })
}

fn database(
    coordinator: &Coordinator,
    address: &HostPort,
    name: &str,
    answer: &Result<Facts, SqlError>,
) -> Finding {
    let what = format!("database {name}");
    let failed = |error: &SqlError| {
        let fix = remediation(error, coordinator, address, name);
        Finding::fail(&what, format!("{address}: {}", describe(error)), fix)
    };
    match answer {
        Err(error)
        | Ok(Facts {
            citus: Err(error), ..
        }) => failed(error),
        Ok(Facts {
            citus: Ok(citus), ..
        }) => {
            let rows = counted(citus.rows.len(), "row", "rows");
            Finding::pass(
                what,
                format!("{}, {rows} in pg_dist_node", citus.dialect.version),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::fixture::coordinator;
    use citus_core::render::Verdict;

    #[test]
    fn databases_that_could_not_be_looked_at_are_no_pass() {
        let full = || Err(SqlError::Answer("remaining slots are reserved".to_owned()));
        let databases = ["app", "shop"].map(|name| (name.to_owned(), full()));
        let found = not_asked(&coordinator(), &databases.into()).unwrap();
        assert_eq!(found.verdict, Verdict::Fail);
        assert!(
            found.detail.starts_with("could not be looked at"),
            "{found:?}"
        );
        assert!(found.detail.contains("remaining slots"), "{found:?}");
    }
}
