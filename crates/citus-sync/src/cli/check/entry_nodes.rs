//! The entry nodes: worker leaders with metadata, through which clients can send queries as well. A
//! client on an entry node that is not held writes past every hold.

use dcs_watch::HostPort;

use super::answers::EntryNodes;
use super::per_database::PerDatabase;
use crate::cli::remediation::{describe, quoted, remediation};
use crate::cli::snapshot::{Answers, Groups};
use crate::session::SqlError;
use crate::session::inspect::EntryNodeFacts;
use citus_core::config::Formation;
use citus_core::render::Finding;

pub(super) fn judge(
    formation: &Formation,
    groups: &Groups,
    answers: &Answers,
    entry_nodes: &EntryNodes,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for (group, view) in &groups.views {
        if answers.get(group).is_some_and(Result::is_err) {
            // `server::leaders` says so.
            continue;
        }
        let Some(address) = view.leader_address() else {
            continue;
        };
        let what = format!("entry node {}", view.scope);
        let mut per_database = PerDatabase::of(formation);
        for database in &formation.coordinator.databases {
            if let Some(answer) = entry_nodes.get(&(*group, database.clone())) {
                per_database.add(
                    database,
                    entry_node(formation, &what, address, database, answer),
                );
            }
        }
        found.extend(per_database.finish());
    }
    found
}

/// Whether clients use this entry node cannot be known here, so a right that is missing is a warning.
fn entry_node(
    formation: &Formation,
    what: &str,
    address: &HostPort,
    database: &str,
    answer: &Result<EntryNodeFacts, SqlError>,
) -> Finding {
    let coordinator = &formation.coordinator;
    let user = &coordinator.user;
    let facts = match answer {
        Ok(facts) => facts,
        Err(error) => {
            return Finding::fail(
                what,
                format!(
                    "{address} could not be looked at: {}: clients that enter there are not held, \
                     and see the group stop",
                    describe(error)
                ),
                remediation(error, coordinator, address, database),
            );
        }
    };
    if facts.in_recovery {
        return Finding::fail(
            what,
            format!(
                "{address} could not be looked at: it is in recovery, so that what our role may do \
                 there is not sure yet"
            ),
            "look again when it takes writes",
        );
    }
    let (lacks, grants): (Vec<&str>, Vec<String>) = missing(user, *facts).into_iter().unzip();
    if lacks.is_empty() {
        return Finding::pass(what, format!("{address} can be held, and its reads moved"));
    }
    Finding::warn(
        what,
        format!(
            "role {user} may not {} on {address}: it is skipped, and clients that enter there \
             notice",
            lacks.join(", ")
        ),
        format!(
            "there, in each database, as a superuser: {}",
            grants.join("; ")
        ),
    )
}

/// What the role may not do there, and the statements that grant it.
fn missing(user: &str, facts: EntryNodeFacts) -> Vec<(&'static str, String)> {
    let role = quoted(user);
    let needed = [
        (
            facts.locks,
            "hold writes (lock_shard_metadata)",
            "GRANT EXECUTE ON FUNCTION lock_shard_metadata(integer, bigint[])",
        ),
        (
            facts.updates,
            "move reads (UPDATE on pg_dist_node)",
            "GRANT SELECT, UPDATE ON pg_catalog.pg_dist_node",
        ),
        (
            facts.signals,
            "end sessions in the way",
            "GRANT pg_signal_backend",
        ),
    ];
    needed
        .into_iter()
        .filter(|(allowed, ..)| !allowed)
        .map(|(_, what, grant)| (what, format!("{grant} TO {role}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use citus_core::config::{Coordinator, Password, Workers};
    use citus_core::policy::Policy;
    use citus_core::render::Verdict;

    fn said(answer: &Result<EntryNodeFacts, SqlError>) -> (Verdict, String) {
        let formation = Formation {
            name: "cn".to_owned(),
            coordinator: Coordinator {
                scope: "cn".parse().unwrap(),
                databases: vec!["app".to_owned()],
                user: "sync".to_owned(),
                password: Password::None,
            },
            workers: Workers::Listed([].into()),
            fixed: [].into(),
            addresses: citus_core::config::AddressRules::default(),
            register: false,
            policy: Policy::default(),
        };
        let address = "10.0.1.1:5432".parse().unwrap();
        let found = entry_node(&formation, "entry node wk1", &address, "app", answer);
        let fix = found.fix.unwrap_or_default();
        (found.verdict, format!("{}; {fix}", found.detail))
    }

    #[test]
    fn an_entry_node_needs_three_rights() {
        let whole = EntryNodeFacts {
            in_recovery: false,
            superuser: false,
            signals: true,
            updates: true,
            locks: true,
        };
        assert_eq!(said(&Ok(whole)).0, Verdict::Pass);
        for (facts, lack, grant) in [
            (
                EntryNodeFacts {
                    locks: false,
                    ..whole
                },
                "hold writes",
                "lock_shard_metadata(integer, bigint[]) TO \"sync\"",
            ),
            (
                EntryNodeFacts {
                    updates: false,
                    ..whole
                },
                "move reads",
                "GRANT SELECT, UPDATE ON pg_catalog.pg_dist_node TO \"sync\"",
            ),
            (
                EntryNodeFacts {
                    signals: false,
                    ..whole
                },
                "end sessions",
                "GRANT pg_signal_backend TO \"sync\"",
            ),
        ] {
            let (verdict, text) = said(&Ok(facts));
            assert_eq!(verdict, Verdict::Warn);
            assert!(text.contains(lack) && text.contains(grant), "{text}");
        }
        let standby = EntryNodeFacts {
            in_recovery: true,
            updates: false,
            ..whole
        };
        let (verdict, text) = said(&Ok(standby));
        assert_eq!(verdict, Verdict::Fail);
        assert!(
            text.contains("could not be looked at: it is in recovery"),
            "{text}"
        );
        let lost = Err(SqlError::Answer("gone".to_owned()));
        let (verdict, text) = said(&lost);
        assert_eq!(verdict, Verdict::Fail);
        assert!(text.contains("are not held"), "{text}");
    }
}
