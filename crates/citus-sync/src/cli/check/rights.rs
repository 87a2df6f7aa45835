//! What our role may do on the coordinator, and the statements that grant it the rest.

use super::answers::{Inspected, facts};
use super::per_database::PerDatabase;
use crate::cli::remediation::quoted;
use crate::session::inspect::{CallableFunction, CitusFacts, Facts};
use citus_core::config::{Coordinator, Formation};
use citus_core::render::Finding;

/// What following a leader needs.
pub(super) fn to_move(formation: &Formation, inspected: &Inspected) -> Vec<Finding> {
    let (coordinator, register) = (&formation.coordinator, formation.register);
    let mut found = PerDatabase::of(formation);
    for (database, facts) in facts(inspected) {
        if let Ok(citus) = &facts.citus {
            let finding = right_to_move(coordinator, register, facts.superuser, citus);
            found.add(database, finding);
        }
    }
    found.finish()
}

/// What holds and read moves need: without it rows still follow their leaders, but clients notice.
pub(super) fn to_hold(formation: &Formation, inspected: &Inspected) -> Vec<Finding> {
    let mut found = PerDatabase::of(formation);
    for (database, facts) in facts(inspected) {
        if let Ok(citus) = &facts.citus {
            found.add(database, right_to_hold(formation, facts, citus));
        }
    }
    found.finish()
}

/// What a hold and a move call: each pair is the present name and the one before it.
const NEEDED: [[&str; 2]; 3] = [
    ["citus_update_node", "master_update_node"],
    ["citus_pause_node_within_txn", "lock_shard_metadata"],
    ["lock_shard_metadata", "lock_shard_metadata"],
];

/// What a registration calls.
const NEEDED_TO_REGISTER: [&str; 2] = ["citus_add_node", "master_add_node"];

fn right_to_move(
    coordinator: &Coordinator,
    register: bool,
    superuser: bool,
    citus: &CitusFacts,
) -> Finding {
    let user = &coordinator.user;
    let what = format!("rights of {user}");
    if superuser {
        return Finding::pass(what, "superuser");
    }
    let needed = NEEDED.iter().chain(register.then_some(&NEEDED_TO_REGISTER));
    let mut refused: Vec<&CallableFunction> = needed
        .filter_map(|names| {
            names
                .iter()
                .find_map(|name| citus.functions.iter().find(|f| f.name == *name))
        })
        .filter(|function| !function.allowed)
        .collect();
    // Before Citus 12.1 two of the pairs are the same.
    refused.dedup();
    if refused.is_empty() {
        return Finding::pass(what, "no superuser, but may call what a move calls");
    }
    let (names, signatures): (Vec<&str>, Vec<&str>) = refused
        .iter()
        .map(|f| (f.name.as_str(), f.signature.as_str()))
        .unzip();
    Finding::fail(
        what,
        format!("may not call {}", names.join(", ")),
        format!(
            "GRANT EXECUTE ON FUNCTION {} TO {}",
            signatures.join(", "),
            quoted(user)
        ),
    )
}

fn right_to_hold(formation: &Formation, facts: &Facts, citus: &CitusFacts) -> Finding {
    let user = &formation.coordinator.user;
    let what = "holds and reads";
    let mut missing = missing_to_hold(formation, facts, citus);
    missing.extend(missing_calls(&quoted(user), citus));
    if missing.is_empty() {
        let superuser = if facts.superuser {
            ""
        } else {
            ", but for superusers' sessions in the way, which it may not end"
        };
        return Finding::pass(
            what,
            format!("role {user} may hold writes and move reads{superuser}"),
        );
    }
    let (lacks, grants): (Vec<String>, Vec<String>) = missing.into_iter().unzip();
    Finding::warn(
        what,
        format!("role {user} may not do everything: {}", lacks.join("; ")),
        grants.join("; "),
    )
}

/// A right that is missing: what does not work without it, and the statement that grants it.
type Missing = (String, String);

/// Rights on tables and sessions.
fn missing_to_hold(formation: &Formation, facts: &Facts, citus: &CitusFacts) -> Vec<Missing> {
    let role = quoted(&formation.coordinator.user);
    let mut missing = Vec::new();
    if formation.policy.read_move && !citus.dialect.moves_plainly() {
        missing.push((
            "reads cannot be moved to a standby".to_owned(),
            format!("GRANT SELECT, INSERT, UPDATE, DELETE ON pg_catalog.pg_dist_node TO {role}"),
        ));
    }
    if !citus.other_owners.is_empty() {
        let owners = citus.other_owners.join(", ");
        missing.push((
            format!(
                "nothing can be held, as Citus lets only the owner lock a table's shards, and \
                 {owners} own some"
            ),
            format!("GRANT {owners} TO {role}"),
        ));
    }
    if !facts.signals {
        missing.push((
            "sessions in the way of a hold cannot be ended, so that it may come too late"
                .to_owned(),
            format!("GRANT pg_signal_backend TO {role}"),
        ));
    }
    missing
}

/// Functions that a hold or a read move calls where it may, and what happens where it may not.
const USEFUL: [(&str, &str); 2] = [
    (
        "citus_check_connection_to_node",
        "a dead leader cannot be told from one that only this daemon does not reach, so its reads stay",
    ),
    (
        "recover_prepared_transactions",
        "prepared transactions of a dead leader keep rows locked for up to a minute",
    ),
];

fn missing_calls(role: &str, citus: &CitusFacts) -> Vec<Missing> {
    let refused = USEFUL.iter().filter_map(|(name, why)| {
        let is_refused = |function: &&CallableFunction| function.name == *name && !function.allowed;
        let function = citus.functions.iter().find(is_refused)?;
        let grant = format!("GRANT EXECUTE ON FUNCTION {} TO {role}", function.signature);
        Some(((*why).to_owned(), grant))
    });
    refused.collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{coordinator, server, text};
    use super::*;
    use citus_core::config::Workers;
    use citus_core::policy::Policy;
    use citus_core::render::Verdict;
    use citus_core::sql::{Dialect, Function, Rights};

    /// Citus 13, to whose `pg_dist_node` the role has these rights.
    fn citus(rights: Rights, functions: Vec<CallableFunction>) -> CitusFacts {
        let named = |name: &str| Function {
            name: name.to_owned(),
            arguments: 5,
        };
        let columns = ["hasmetadata", "metadatasynced"].map(str::to_owned).into();
        let known = ["citus_update_node", "lock_shard_metadata"].map(named);
        let version = Some("Citus 13.2.2".to_owned());
        CitusFacts {
            dialect: Dialect::detect(&known, columns, version, rights).unwrap(),
            rows: vec![],
            functions,
            most_shards: None,
            other_owners: vec![],
        }
    }

    fn function(name: &str, allowed: bool) -> CallableFunction {
        CallableFunction {
            name: name.to_owned(),
            signature: format!("{name}()"),
            allowed,
        }
    }

    fn formation(read_move: bool) -> Formation {
        Formation {
            name: "cn".to_owned(),
            coordinator: coordinator(),
            workers: Workers::Listed([].into()),
            fixed: [].into(),
            addresses: citus_core::config::AddressRules::default(),
            register: false,
            policy: Policy {
                read_move,
                ..Policy::default()
            },
        }
    }

    const ALL: Rights = Rights {
        update: true,
        edit: true,
    };

    /// A server on which the role may end sessions.
    fn able() -> Facts {
        Facts {
            signals: true,
            ..server(&[])
        }
    }

    const RECOVER: &str = "recover_prepared_transactions";

    /// The finding about a role that may not do everything, as text.
    fn said(facts: &Facts, citus: &CitusFacts) -> String {
        let found = right_to_hold(&formation(true), facts, citus);
        assert_eq!(found.verdict, Verdict::Warn, "{found:?}");
        text(&found)
    }

    #[test]
    fn a_role_that_may_do_everything_passes() {
        let citus = citus(ALL, vec![function(RECOVER, true)]);
        let found = right_to_hold(&formation(true), &able(), &citus);
        assert_eq!(found.verdict, Verdict::Pass, "{found:?}");
    }

    #[test]
    fn a_right_on_pg_dist_node_is_needed_only_where_reads_are_moved() {
        let bare = citus(Rights::default(), vec![]);
        let missing = said(&able(), &bare);
        assert!(
            missing.contains("reads cannot be moved")
                && missing
                    .contains("INSERT, UPDATE, DELETE ON pg_catalog.pg_dist_node TO \"sync\""),
            "{missing}"
        );
        let found = right_to_hold(&formation(false), &able(), &bare);
        assert_eq!(found.verdict, Verdict::Pass, "{found:?}");
    }

    #[test]
    fn what_a_role_lacks_for_holds_comes_with_its_grants() {
        let missing = said(&server(&[]), &citus(ALL, vec![]));
        assert!(
            missing.contains("GRANT pg_signal_backend TO \"sync\""),
            "{missing}"
        );
        let others = CitusFacts {
            other_owners: vec!["app".to_owned(), "\"Shop\"".to_owned()],
            ..citus(ALL, vec![])
        };
        let missing = said(&able(), &others);
        assert!(
            missing.contains("nothing can be held")
                && missing.contains("GRANT app, \"Shop\" TO \"sync\""),
            "{missing}"
        );
        let missing = said(&able(), &citus(ALL, vec![function(RECOVER, false)]));
        assert!(
            missing.contains("GRANT EXECUTE ON FUNCTION recover_prepared_transactions() TO"),
            "{missing}"
        );
    }
}
