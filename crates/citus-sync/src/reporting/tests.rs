//! The metrics after one of each thing that can happen.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use citus_core::config::Password;
use citus_core::event::{ChangeTimes, Event, HoldEnd, Whose};
use citus_core::outcome::{Phases, Skipped};
use citus_core::plan::{Move, Reason, Rule, Step, Writes};
use citus_core::policy::Policy;
use citus_core::report::{
    GroupDatabaseReport, GroupReport, PhaseTimes, ReachReport, Transition, TransitionKind,
    TransitionOutcome,
};
use dcs_watch::HostPort;
use dcs_watch::client::{Settings, spawn};
use tokio::sync::watch;

use super::Reporting;
use crate::metrics::{Format, Metrics, WatchNumbers};
use crate::session::{Database, Login};
use crate::state::{FormationState, StateStore};

const SECOND: Duration = Duration::from_secs(1);

fn address(host: &str) -> HostPort {
    format!("{host}:5432").parse().unwrap()
}

/// A store with one formation that has one database, whose rows are not known.
fn store() -> StateStore {
    let nowhere = Settings::new(vec!["http://127.0.0.1:1".to_owned()]);
    let (views, _) = spawn(nowhere, std::future::pending());
    let login = Login::new("postgres", &Password::None, &Policy::default());
    let database = Database::new("app", Arc::new(login), watch::channel(()).0);
    let (cn, writes) = ("cn".to_owned(), Writes::Allowed);
    let formation = FormationState::new(cn.clone(), cn, writes, vec![database]);
    StateStore::new(views, Metrics::default(), vec![formation])
}

fn whose() -> Whose {
    Whose {
        formation: "cn".to_owned(),
        group: 1,
        scope: "wk1".to_owned(),
    }
}

/// One of each event that a metric counts.
fn events() -> Vec<Event> {
    let database = || "app".to_owned();
    let reason = Reason::Request { revision: 1 };
    let step = || {
        Step::Move(Move {
            nodeid: 2,
            from: address("a"),
            to: address("b"),
            make_way: None,
        })
    };
    let go_on = |end| Event::WritesGoOn {
        leader: None,
        after: SECOND,
        end,
    };
    vec![
        Event::Violation {
            what: String::new(),
        },
        Event::LeaderWritable { after: SECOND },
        Event::HoldFailed {
            database: database(),
            error: String::new(),
            failures: None,
        },
        Event::HoldLost {
            database: database(),
        },
        Event::HoldExpired {
            reason,
            taken: true,
            after: SECOND,
        },
        go_on(HoldEnd::Expired),
        go_on(HoldEnd::Released),
        go_on(HoldEnd::Followed),
        Event::EntryNodeSkipped {
            database: database(),
            skipped: Skipped {
                node: address("wk2"),
                error: String::new(),
            },
        },
        Event::SessionsTerminated {
            database: database(),
            count: 3,
        },
        Event::ReadsMoved {
            database: database(),
            from: address("a"),
            to: address("b"),
            after: None,
            took: SECOND,
        },
        Event::RowChanged {
            database: database(),
            step: step(),
            times: ChangeTimes {
                writable: SECOND,
                started: SECOND,
            },
            phases: Phases::default(),
        },
        Event::Retried {
            database: database(),
        },
        Event::Recovered {
            database: database(),
            count: 2,
        },
        Event::TransitionOver(transition()),
        // Last: the hold stands.
        Event::Held {
            database: database(),
            reason,
            after: SECOND,
            entry_nodes: 0,
            skipped: 0,
            terminated: 0,
            left: SECOND,
        },
    ]
}

fn transition() -> Transition {
    Transition {
        formation: "cn".to_owned(),
        group: 1,
        scope: "wk1".to_owned(),
        kind: TransitionKind::Switchover,
        at: String::new(),
        from: None,
        to: None,
        reason: String::new(),
        outcome: TransitionOutcome::Followed,
        phases: PhaseTimes {
            requested_us: Some(1),
            ..PhaseTimes::default()
        },
        databases: BTreeMap::new(),
    }
}

fn report() -> GroupReport {
    let database = |in_sync| GroupDatabaseReport {
        row: Some(address("a")),
        step: String::new(),
        wait: None,
        in_sync,
        running: false,
        retry: None,
    };
    let reach = ReachReport {
        database: "app".to_owned(),
        member: Some("wk1-1".to_owned()),
        address: address("b"),
        row: false,
        why: None,
    };
    let databases = [("app", true), ("second", false)];
    GroupReport {
        group: 1,
        scope: "wk1".to_owned(),
        leader: Some("wk1-1".to_owned()),
        address: Some(address("b")),
        writable: true,
        members: 2,
        paused: true,
        problems: vec![],
        rule: Rule::InSync,
        in_sync: true,
        databases: databases
            .map(|(name, in_sync)| (name.to_owned(), database(in_sync)))
            .into(),
        last_move: None,
        hold: None,
        reach: vec![reach],
    }
}

/// The names under which metrics are registered, without the prefixes.
fn registered() -> Vec<String> {
    let registry = Metrics::default().registry(&WatchNumbers::default(), true);
    let debug = format!("{registry:?}");
    let descriptors = debug.split("Descriptor { name: \"").skip(1);
    descriptors
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn every_registered_metric_is_set_by_something_that_happens() {
    let store = store();
    let mut reporting = Reporting::new(store.clone(), whose());
    for event in events() {
        reporting.publish(event);
    }
    reporting.report(report());
    // Of a task that ended; `Crew::restart` counts it.
    store.metrics().restarts.inc();

    let text = store.expose(Format::OpenMetrics);
    let names = registered();
    assert!(names.len() >= 30, "{names:?}");
    for name in names {
        // What etcd's watch counts is read from the watch, zeros too.
        let of_etcd = format!("citus_sync_etcd_{name}");
        let ours = format!("citus_sync_{name}");
        let has = |line: &&str| line.starts_with(&ours) || line.starts_with(&of_etcd);
        let samples: Vec<&str> = text.lines().filter(has).collect();
        assert!(
            !samples.is_empty(),
            "{name} is registered and never set:\n{text}"
        );
        let says_0 = |sample: &&&str| sample.ends_with(" 0");
        let may_be_0 =
            ["ready", "database_up"].contains(&name.as_str()) || samples[0].starts_with(&of_etcd);
        let set = samples.iter().filter(|sample| !says_0(sample)).count();
        assert!(
            set > 0 || may_be_0,
            "{name} is never anything but 0:\n{text}"
        );
    }
    for outcome in ["released", "followed", "expired", "failed", "lost"] {
        let line = format!(
            "citus_sync_holds_total{{formation=\"cn\",group=\"1\",outcome=\"{outcome}\"}} 1"
        );
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let down = "citus_sync_database_up{formation=\"cn\",database=\"app\"} 0";
    assert!(text.lines().any(|line| line == down), "{text}");
}

/// What `promtool check metrics` finds in this text; nothing, if all is well.
fn promtool(text: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of Debian's package prometheus");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_metrics_whatever_scopes_are_called() {
    let store = store();
    for scope in ["wk1", "a\"b\\c\n# EOF\nd{}=,\u{1b}ü"] {
        let whose = Whose {
            scope: scope.to_owned(),
            ..whose()
        };
        let mut reporting = Reporting::new(store.clone(), whose);
        for event in events() {
            reporting.publish(event);
        }
        reporting.report(report());
    }
    let text = store.expose(Format::PrometheusText);
    assert_eq!(promtool(&text), "", "{text}");
    assert_ne!(promtool("a_total{ 1\n"), "", "promtool finds what is wrong");
}

#[tokio::test]
async fn a_group_in_which_nothing_happened_has_its_counters_at_0() {
    let store = store();
    Reporting::new(store.clone(), whose()).report(report());
    let text = store.expose(Format::PrometheusText);
    for wanted in [
        "citus_sync_holds_total{formation=\"cn\",group=\"1\",outcome=\"followed\"} 0",
        "citus_sync_holding{formation=\"cn\",group=\"1\",scope=\"wk1\"} 0",
        "citus_sync_hold_deadline_timestamp_seconds{formation=\"cn\",group=\"1\",scope=\"wk1\"} 0",
        "citus_sync_read_moves_total{formation=\"cn\",group=\"1\",database=\"app\"} 0",
        "citus_sync_retries_total{formation=\"cn\",group=\"1\",database=\"app\"} 0",
    ] {
        assert!(text.lines().any(|line| line == wanted), "{wanted}\n{text}");
    }
}
