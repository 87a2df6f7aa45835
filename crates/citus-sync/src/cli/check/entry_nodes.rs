//! The entry nodes: worker leaders with metadata, through which clients can send queries as well. Who is
//! not held there writes past every hold.

use dcs_watch::HostPort;

use super::{EntryNodes, PerDatabase};
use crate::cli::remediation::{name, remediation, say};
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
            // `leaders` has said so.
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

/// What makes it no entry node matters little while nobody enters there, which we cannot know: a warning
/// at most.
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
            return Finding::warn(
                what,
                format!(
                    "{address}: {}: clients that enter there are not held, and see the group \
                     stop",
                    say(error)
                ),
                remediation(error, coordinator, address, database),
            );
        }
    };
    if facts.in_recovery {
        return Finding::warn(
            what,
            format!("{address} is in recovery, so that what our role may do there is not sure yet"),
            "look again when it takes writes",
        );
    }
    let mut lacks = Vec::new();
    let mut grants = Vec::new();
    if !facts.locks {
        lacks.push("hold writes (lock_shard_metadata)");
        grants.push(format!(
            "GRANT EXECUTE ON FUNCTION lock_shard_metadata(integer, bigint[]) TO {}",
            name(user)
        ));
    }
    if !facts.updates {
        lacks.push("move reads (UPDATE on pg_dist_node)");
        grants.push(format!(
            "GRANT SELECT, UPDATE ON pg_catalog.pg_dist_node TO {}",
            name(user)
        ));
    }
    if !facts.signals {
        lacks.push("end sessions in the way");
        grants.push(format!("GRANT pg_signal_backend TO {}", name(user)));
    }
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
        assert!(said(&Ok(standby)).1.contains("is in recovery"));
        let lost = Err(SqlError::Answer("gone".to_owned()));
        let (verdict, text) = said(&lost);
        assert_eq!(verdict, Verdict::Warn);
        assert!(text.contains("are not held"), "{text}");
    }
}
