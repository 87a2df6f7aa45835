//! The page in the states that people open it for.

use std::collections::BTreeMap;

use time::format_description::well_known::Rfc3339;

use super::*;
use crate::plan::Rule;
use crate::report::{PhaseTimes, ReloadReport, TransitionKind, TransitionOutcome};

const NOW: &str = "2026-11-22T12:05:09Z";

fn now() -> OffsetDateTime {
    OffsetDateTime::parse(NOW, &Rfc3339).unwrap()
}

fn at(host: &str) -> HostPort {
    HostPort {
        host: host.to_owned(),
        port: 5432,
    }
}

fn row_at(host: &str) -> GroupDatabaseReport {
    GroupDatabaseReport {
        row: Some(at(host)),
        step: "in sync".to_owned(),
        wait: None,
        in_sync: true,
        running: false,
        retry: None,
    }
}

fn group(number: i32, scope: &str, leader: &str, host: &str) -> GroupReport {
    let databases = ["app", "shop"].map(|name| (name.to_owned(), row_at(host)));
    GroupReport {
        group: number,
        scope: scope.to_owned(),
        leader: Some(leader.to_owned()),
        address: Some(at(host)),
        writable: true,
        members: 3,
        paused: false,
        problems: vec![],
        rule: Rule::InSync,
        in_sync: true,
        databases: BTreeMap::from(databases),
        last_move: None,
        hold: None,
        reach: vec![],
    }
}

fn database(name: &str) -> DatabaseReport {
    DatabaseReport {
        name: name.to_owned(),
        server: Some(at("10.0.0.1")),
        citus: Some("Citus 13.2.2".to_owned()),
        rows: Some(3),
        unsynced: vec![],
        error: None,
    }
}

/// Everything is as it should be; group 1 moved a minute ago.
fn in_sync() -> State {
    let moved = MoveReport {
        at: "2026-11-22T12:04:00.5Z".to_owned(),
        database: "app".to_owned(),
        step: "move node 2 from 10.0.1.1:5432 to 10.0.1.2:5432".to_owned(),
        writable_us: 231_400,
        locked_us: 232_900,
        committed_us: 235_700,
        forced: false,
    };
    State {
        reload: None,
        version: "0.1.0".to_owned(),
        started_at: "2026-11-19T10:00:00.123Z".to_owned(),
        ready: true,
        not_ready: vec![],
        etcd: EtcdReport {
            endpoint: "http://10.0.9.1:2379".to_owned(),
            fresh: true,
            freshness: "fresh".to_owned(),
            revision: 84_211,
            view_age_ms: Some(412),
            last_error: None,
        },
        formations: vec![FormationReport {
            name: "cn".to_owned(),
            writes: Writes::Allowed,
            coordinator: "cn".to_owned(),
            databases: vec![database("app"), database("shop")],
            groups: vec![
                group(0, "cn", "cn-1", "10.0.0.1"),
                GroupReport {
                    last_move: Some(moved),
                    ..group(1, "wk1", "wk1-2", "10.0.1.2")
                },
                group(2, "wk2", "wk2-1", "10.0.2.1"),
            ],
            unresolved: vec![],
        }],
    }
}

fn with_group(change: impl FnOnce(&mut GroupReport)) -> State {
    let mut state = in_sync();
    change(&mut state.formations[0].groups[2]);
    state
}

fn waiting(group: &mut GroupReport, rule: Rule, wait: &Wait) {
    (group.rule, group.in_sync) = (rule, false);
    for database in group.databases.values_mut() {
        (database.step, database.wait) = (format!("wait: {wait}"), Some(wait.clone()));
    }
}

#[test]
fn in_sync_with_a_move_a_minute_ago() {
    insta::assert_snapshot!(status(&in_sync(), &[], now()));
}

#[test]
fn a_leader_that_is_being_promoted_in_a_paused_scope() {
    let state = with_group(|group| {
        group.paused = true;
        group.leader = Some("wk2-3".to_owned());
        group.address = Some(at("10.0.2.3"));
        waiting(
            group,
            Rule::Promoting,
            &Wait::Promoting {
                address: at("10.0.2.3"),
            },
        );
    });
    insta::assert_snapshot!(status(&state, &[], now()));
}

#[test]
fn etcd_has_fallen_silent() {
    let mut state = in_sync();
    let why = "silent for 7 s".to_owned();
    (state.ready, state.not_ready) = (false, vec![format!("etcd's view is stale: {why}")]);
    state.etcd = EtcdReport {
        fresh: false,
        freshness: format!("stale: {why}"),
        view_age_ms: Some(93_000),
        last_error: Some("http://10.0.9.2:2379: connection refused".to_owned()),
        ..state.etcd
    };
    for group in &mut state.formations[0].groups {
        waiting(group, Rule::Stale, &Wait::ViewStale { why: why.clone() });
    }
    insta::assert_snapshot!(status(&state, &[], now()));
}

#[test]
fn nothing_is_known_yet() {
    let mut state = in_sync();
    state.ready = false;
    state.not_ready = vec!["etcd's view is unknown".to_owned()];
    state.etcd = EtcdReport {
        freshness: "unknown".to_owned(),
        ..EtcdReport::default()
    };
    let formation = &mut state.formations[0];
    formation.groups.clear();
    for database in &mut formation.databases {
        (database.server, database.citus, database.rows) = (None, None, None);
        database.error = Some("not connected to the coordinator yet".to_owned());
    }
    insta::assert_snapshot!(status(&state, &[], now()));
}

#[test]
fn one_database_is_down_and_another_waits_for_metadata() {
    let error = "cn-1 (10.0.0.1:5432): database \"shop\" does not exist (SQLSTATE 3D000)";
    let mut state = in_sync();
    let formation = &mut state.formations[0];
    formation.databases[0].unsynced = vec![2, 3];
    let shop = &mut formation.databases[1];
    (shop.citus, shop.rows, shop.server) = (None, None, None);
    shop.error = Some(error.to_owned());
    for group in &mut formation.groups {
        (group.rule, group.in_sync) = (Rule::Blocked, false);
        let wait = Wait::RowsUnknown {
            why: error.to_owned(),
        };
        let shop = GroupDatabaseReport {
            row: None,
            step: format!("wait: {wait}"),
            wait: Some(wait),
            in_sync: false,
            running: false,
            retry: None,
        };
        group.databases.insert("shop".to_owned(), shop);
    }
    insta::assert_snapshot!(status(&state, &[], now()));
}

#[test]
fn a_formation_that_patroni_manages_is_only_observed() {
    let mut state = in_sync();
    let formation = &mut state.formations[0];
    formation.writes = Writes::PatroniManages;
    (formation.name, formation.coordinator) = ("main".to_owned(), "citus/0".to_owned());
    formation.groups.truncate(2);
    let step = "move node 2 from 10.0.1.1:5432 to 10.0.1.2:5432".to_owned();
    let wait = Wait::Observed {
        step,
        because: Writes::PatroniManages,
    };
    waiting(&mut formation.groups[1], Rule::Blocked, &wait);
    insta::assert_snapshot!(status(&state, &[], now()));
}

#[test]
fn a_move_that_fails_and_is_tried_again() {
    let state = with_group(|group| {
        (group.rule, group.in_sync) = (Rule::Move, false);
        group.problems = vec!["/service/wk2/members/wk2-9: not JSON: expected value".to_owned()];
        let step = "move node 3 from 10.0.2.2:5432 to 10.0.2.1:5432".to_owned();
        let failed = RetryReport {
            failures: 4,
            error: "the statement gave no answer\nwithin 11000 ms".to_owned(),
        };
        let app = GroupDatabaseReport {
            step: step.clone(),
            ..row_at("10.0.2.2")
        };
        let shop = GroupDatabaseReport {
            step,
            retry: Some(failed),
            ..row_at("10.0.2.2")
        };
        group.databases.insert(
            "app".to_owned(),
            GroupDatabaseReport {
                running: true,
                ..app
            },
        );
        group.databases.insert("shop".to_owned(), shop);
    });
    insta::assert_snapshot!(status(&state, &[], now()));
}

#[test]
fn a_group_whose_scope_is_not_known_is_named() {
    let mut state = in_sync();
    state.formations[0].groups.truncate(2);
    state.formations[0].unresolved =
        vec!["group 2: no Patroni scope has a member at 10.0.2.1:5432".to_owned()];
    insta::assert_snapshot!(status(&state, &[], now()));
}

#[test]
fn a_hold_that_stands_and_a_transition_that_is_over() {
    let state = with_group(|group| {
        group.hold = Some(HoldReport {
            reason: "asked for by wk2-1, which is about to stop".to_owned(),
            since: "2026-11-22T12:05:05Z".to_owned(),
            deadline: "2026-11-22T12:05:35Z".to_owned(),
            databases: [("app", "held"), ("shop", "taking")]
                .map(|(name, state)| (name.to_owned(), state.to_owned()))
                .into(),
            reads_at: Some(at("10.0.2.2")),
        });
    });
    let transition = Transition {
        formation: "cn".to_owned(),
        group: 1,
        scope: "wk1".to_owned(),
        kind: TransitionKind::Switchover,
        at: "2026-11-22T12:04:00.5Z".to_owned(),
        from: Some(at("10.0.1.1")),
        to: Some(at("10.0.1.2")),
        reason: "switchover asked for in etcd".to_owned(),
        outcome: TransitionOutcome::Followed,
        phases: PhaseTimes {
            requested_us: Some(0),
            held_us: Some(4_321),
            released_us: Some(812_000),
            ..PhaseTimes::default()
        },
        databases: BTreeMap::new(),
    };
    insta::assert_snapshot!(status(&state, &[transition], now()));
}

#[test]
fn a_reload_that_left_something_open_is_shown_until_the_next_one() {
    let with = |reload| {
        let reload = Some(reload);
        status(
            &State {
                reload,
                ..in_sync()
            },
            &[],
            now(),
        )
    };
    let reload = ReloadReport {
        at: "2026-11-22T12:04:00Z".to_owned(),
        ..ReloadReport::default()
    };
    let page = with(ReloadReport {
        needs_restart: vec!["listen".to_owned(), "workers".to_owned()],
        ..reload.clone()
    });
    assert!(page.contains("needs a restart: listen, workers"), "{page}");
    let page = with(ReloadReport {
        refused: Some("line 3: no such key".to_owned()),
        ..reload.clone()
    });
    assert!(
        page.contains("nothing was changed: line 3: no such key"),
        "{page}"
    );
    assert!(!with(reload).contains("reload"));
}

/// One odd row, member or scope costs itself: the page is read from the daemon's JSON and shown.
#[test]
fn odd_names_are_read_back_cut_and_shown() {
    let long = "x".repeat(66_000);
    let hosts = ["[::1]", "", "a b", "::1", "a\u{1b}[2J", &long];
    let groups = (1..).zip(hosts).map(|(number, host)| GroupReport {
        scope: long.clone(),
        leader: Some(long.clone()),
        ..group(number, "", "", host)
    });
    let formation = FormationReport {
        name: long.clone(),
        writes: Writes::Allowed,
        coordinator: "cn".to_owned(),
        databases: vec![database(&long)],
        groups: groups.collect(),
        unresolved: vec![long.clone()],
    };
    let state = State {
        formations: vec![formation],
        ..in_sync()
    };
    let json = serde_json::to_string(&state).unwrap();
    let read: State = serde_json::from_str(&json).unwrap();
    assert_eq!(read, state);
    let page = status(&read, &[], now());
    for host in [
        "[[::1]]:5432",
        " :5432",
        "a b:5432",
        " [::1]:5432",
        r"a\u{1b}[2J:5432",
    ] {
        assert!(page.contains(host), "{host} is not in\n{page}");
    }
    assert!(page.len() < 100_000, "{} bytes", page.len());
}
