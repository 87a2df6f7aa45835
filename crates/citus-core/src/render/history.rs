//! Transitions that are over: a table of many, a line of one.

use dcs_watch::HostPort;
use time::OffsetDateTime;

use super::Table;
use super::table::{name, one_line};
use super::times::{instant, microseconds, moment};
use crate::report::{DatabaseTransition, Phase, Transition};

/// The phases that have a column, in the order in which they usually happen. The request is where
/// the clock starts, and a leader that is gone says little beside the one that came after it.
const COLUMNS: [Phase; 6] = [
    Phase::Held,
    Phase::ReadsMoved,
    Phase::LeaderKey,
    Phase::Writable,
    Phase::Committed,
    Phase::Released,
];

/// The page that `history` prints: a line a transition, oldest first, and below it a line for each
/// database in which not everything went as it should.
pub fn history(transitions: &[Transition]) -> String {
    if transitions.is_empty() {
        return "no transition yet: nothing was held or moved since the daemon started\n"
            .to_owned();
    }
    let many = transitions
        .iter()
        .any(|transition| transition.formation != transitions[0].formation);
    let mut table = Table::new(&[
        "WHEN",
        "GROUP",
        "KIND",
        "FROM → TO",
        "OUTCOME",
        "HELD",
        "READS",
        "KEY",
        "WRITABLE",
        "COMMIT",
        "RELEASED",
        "REASON",
    ]);
    for transition in transitions {
        let [held, reads, key, writable, committed, released] = COLUMNS.map(|column| {
            let mut phases = transition.phases.happened();
            phases
                .find(|(phase, _)| *phase == column)
                .map(|(_, time)| tenths(time))
                .unwrap_or_default()
        });
        let formation = if many {
            format!("{}: ", transition.formation)
        } else {
            String::new()
        };
        table.row([
            instant(&transition.at),
            format!("{formation}{} ({})", transition.group, transition.scope),
            transition.kind.name().to_owned(),
            way(transition),
            transition.outcome.name().to_owned(),
            held,
            reads,
            key,
            writable,
            committed,
            released,
            transition.reason.clone(),
        ]);
        for (database, report) in &transition.databases {
            if let Some(note) = note(report) {
                table.note(&format!("{}: {note}", name(database)));
            }
        }
    }
    format!(
        "{}\nHELD to RELEASED: milliseconds since the first news\n",
        table.render()
    )
}

/// One transition in one line, with its formation's name where there are several.
pub(super) fn brief(transition: &Transition, named: bool, now: OffsetDateTime) -> String {
    let phases: Vec<String> = transition
        .phases
        .happened()
        .filter(|(phase, _)| *phase != Phase::Requested)
        .map(|(phase, time)| {
            let name = phase.name().replace('_', " ");
            format!("{name} {}", microseconds(time))
        })
        .collect();
    let troubled = transition
        .databases
        .iter()
        .any(|(_, one)| note(one).is_some());
    let more = if troubled {
        "; not everywhere, see `citus-sync history`"
    } else {
        ""
    };
    let formation = if named {
        format!("formation {}, ", name(&transition.formation))
    } else {
        String::new()
    };
    let what = format!("{} {}", transition.kind.name(), way(transition));
    one_line(&format!(
        "{}: {formation}group {} ({}), {}, {}: {}{more}",
        moment(&transition.at, now),
        transition.group,
        name(&transition.scope),
        what.trim_end(),
        transition.outcome.name(),
        phases.join(", ")
    ))
}

/// What did not go as it should in one database.
fn note(database: &DatabaseTransition) -> Option<String> {
    let list = |what: &str, items: &[String]| {
        (!items.is_empty()).then(|| format!("{what} {}", items.join(", ")))
    };
    let told: Vec<String> = [
        list("skipped", &database.skipped),
        list("ended", &database.terminated),
        database
            .error
            .as_ref()
            .map(|error| format!("error: {error}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// From where to where, if it went anywhere.
fn way(transition: &Transition) -> String {
    let shown =
        |address: &Option<HostPort>| address.as_ref().map_or("?".to_owned(), ToString::to_string);
    match (&transition.from, &transition.to) {
        (None, None) => String::new(),
        (from, to) if from == to => format!("{} stays", shown(to)),
        (from, to) => format!("{} → {}", shown(from), shown(to)),
    }
}

/// Milliseconds with one decimal.
fn tenths(time: u64) -> String {
    let tenths = time / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use time::format_description::well_known::Rfc3339;

    use super::*;
    use crate::report::{PhaseTimes, TransitionKind, TransitionOutcome};

    fn address(host: &str) -> HostPort {
        HostPort {
            host: host.to_owned(),
            port: 5432,
        }
    }

    fn switchover() -> Transition {
        Transition {
            formation: "cn".to_owned(),
            group: 1,
            scope: "wk1".to_owned(),
            kind: TransitionKind::Switchover,
            at: "2026-11-22T12:04:00.5Z".to_owned(),
            from: Some(address("10.0.1.1")),
            to: Some(address("10.0.1.2")),
            reason: "switchover asked for in etcd".to_owned(),
            outcome: TransitionOutcome::Followed,
            phases: PhaseTimes {
                requested_us: Some(0),
                held_us: Some(4_321),
                reads_moved_us: Some(9_870),
                leader_gone_us: Some(101_000),
                leader_key_us: Some(412_345),
                writable_us: Some(1_203_900),
                committed_us: Some(1_207_000),
                released_us: Some(1_207_050),
            },
            databases: [("app".to_owned(), DatabaseTransition::default())].into(),
        }
    }

    /// A switchover, a restart with trouble, a crash, a hold that expired.
    fn transitions() -> Vec<Transition> {
        let troubled = DatabaseTransition {
            skipped: vec!["10.0.2.1:5432: no answer\nwithin 300 ms".to_owned()],
            terminated: vec!["pid 4711 (psql, idle in transaction for 12 s)".to_owned()],
            error: Some("could not be held: too many connections".to_owned()),
            ..DatabaseTransition::default()
        };
        let restart = Transition {
            kind: TransitionKind::Restart,
            to: Some(address("10.0.1.1")),
            outcome: TransitionOutcome::Kept,
            reason: "hold asked for by wk1-1".to_owned(),
            phases: PhaseTimes {
                leader_key_us: None,
                committed_us: None,
                ..switchover().phases
            },
            databases: [
                ("app".to_owned(), DatabaseTransition::default()),
                ("shop".to_owned(), troubled),
            ]
            .into(),
            ..switchover()
        };
        let crash = Transition {
            group: 20,
            scope: "worker-eu-20".to_owned(),
            kind: TransitionKind::Failover,
            reason: "the leader answers no more".to_owned(),
            phases: PhaseTimes {
                requested_us: None,
                held_us: None,
                released_us: None,
                ..switchover().phases
            },
            ..switchover()
        };
        let hold = Transition {
            kind: TransitionKind::Hold,
            from: None,
            to: None,
            outcome: TransitionOutcome::Expired,
            reason: String::new(),
            phases: PhaseTimes {
                held_us: Some(1_000),
                released_us: Some(30_000_000),
                ..PhaseTimes::default()
            },
            ..switchover()
        };
        vec![switchover(), restart, crash, hold]
    }

    #[test]
    fn transitions_are_a_table_with_what_went_wrong_below_each() {
        insta::assert_snapshot!(history(&transitions()));
    }

    #[test]
    fn several_formations_are_named() {
        let other = Transition {
            formation: "eu".to_owned(),
            ..switchover()
        };
        let page = history(&[switchover(), other]);
        assert!(
            page.contains("cn: 1 (wk1)") && page.contains("eu: 1 (wk1)"),
            "{page}"
        );
    }

    #[test]
    fn no_transition_is_said_to_be_none() {
        assert!(history(&[]).starts_with("no transition yet"));
    }

    #[test]
    fn a_transition_fits_into_a_line() {
        let now = OffsetDateTime::parse("2026-11-22T12:05:09Z", &Rfc3339).unwrap();
        let lines: Vec<String> = transitions()
            .iter()
            .map(|one| brief(one, false, now))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
