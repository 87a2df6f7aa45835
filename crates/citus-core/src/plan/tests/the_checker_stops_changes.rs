//! The checker alone, on moves, registrations and repairs: a right decision, spoilt, is stopped.

use dcs_watch::Freshness;

use super::super::*;
use super::builders::{Scenario, addr, row, secondary};
use crate::invariants::{Violation, check};

/// A right decision, spoilt by `spoil`, must be stopped with `rule N`.
fn stopped(scenario: &Scenario, rule: &str, spoil: impl FnOnce(&mut Decision)) {
    let mut decision = scenario.clone().decide();
    spoil(&mut decision);
    let violation = scenario
        .with(|situation| check(situation, &decision))
        .unwrap_err();
    assert!(violation.to_string().starts_with(rule), "{violation}");
}

fn moving() -> Scenario {
    Scenario::new().leader("pg2").says(ProbeState::Writable)
}

fn edit(decision: &mut Decision, change: impl FnOnce(&mut Move)) {
    let Some(Step::Move(step)) = decision.steps.get_mut("app") else {
        panic!("{decision:?}")
    };
    change(step);
}

#[test]
fn the_checker_stops_a_move_to_a_member_that_does_not_lead() {
    stopped(&moving(), "rule 1", |d| {
        edit(d, |step| step.to = addr("pg3"));
    });
}

#[test]
fn the_checker_stops_a_move_to_a_leader_that_did_not_answer_for_this_key() {
    let mut decision = moving().decide();
    decision.rule = Rule::Move;
    let scenario = Scenario::new()
        .leader("pg2")
        .said_earlier(ProbeState::Writable);
    let violation = scenario
        .with(|situation| check(situation, &decision))
        .unwrap_err();
    assert!(matches!(violation, Violation::NotTheWritableLeader { .. }));
    let scenario = Scenario::new().leader("pg2").says(ProbeState::InRecovery);
    let violation = scenario
        .with(|situation| check(situation, &decision))
        .unwrap_err();
    assert!(matches!(violation, Violation::NotTheWritableLeader { .. }));
}

#[test]
fn the_checker_stops_a_move_to_a_temporary_name() {
    // Even if the leader claims it for its own.
    let named = addr("citus-sync-swap-7.invalid");
    let mut scenario = moving();
    scenario.view.members.get_mut("pg2").unwrap().value.address = Some(named.clone());
    let scenario = scenario.says(ProbeState::Writable);
    let mut decision = moving().decide();
    edit(&mut decision, |step| step.to = named.clone());
    let violation = scenario
        .with(|situation| check(situation, &decision))
        .unwrap_err();
    assert!(
        matches!(&violation, Violation::NotTheWritableLeader { address, .. } if *address == named),
        "{violation}"
    );
}

#[test]
fn the_checker_stops_a_change_on_a_stale_view() {
    let decision = moving().decide();
    let stale = moving().freshness(Freshness::Stale {
        reason: String::new(),
    });
    let violation = stale
        .with(|situation| check(situation, &decision))
        .unwrap_err();
    assert_eq!(violation, Violation::NotFresh);
}

#[test]
fn the_checker_stops_a_change_on_news_from_a_restored_etcd() {
    let decision = moving().decide();
    let restored = moving()
        .lineage(3, Some(2))
        .at_row("pg1", ProbeState::Writable);
    let violation = restored
        .with(|situation| check(situation, &decision))
        .unwrap_err();
    assert!(matches!(violation, Violation::UnprovenLineage { .. }));
}

#[test]
fn the_checker_stops_a_primary_row_that_would_lose_its_nodeid() {
    stopped(&moving(), "rule 6", |d| edit(d, |step| step.nodeid = 3));
}

#[test]
fn the_checker_stops_a_swap_that_leaves_a_temporary_name() {
    let rows = Rows::known(vec![row(2, 1, "pg1"), secondary(7, 1, "pg2")]);
    let scenario = moving().rows("app", rows);
    stopped(&scenario, "rule 6", |d| {
        edit(d, |step| {
            let way = step.make_way.as_mut().unwrap();
            way.then = way.temporary.clone();
        });
    });
    stopped(&scenario, "rule 6", |d| {
        edit(d, |step| step.make_way = None);
    });
}

#[test]
fn the_checker_stops_a_change_in_a_database_that_is_not_known() {
    stopped(&moving(), "rule 8", |d| {
        let step = d.steps["app"].clone();
        d.steps.insert("elsewhere".to_owned(), step);
    });
}

#[test]
fn the_checker_stops_a_change_where_patroni_is_in_charge() {
    let decision = moving().decide();
    let managed = moving().writes(Writes::PatroniManages);
    let violation = managed
        .with(|situation| check(situation, &decision))
        .unwrap_err();
    assert_eq!(violation, Violation::OnlyObserved);
}

#[test]
fn the_checker_stops_a_registration_of_a_group_that_has_a_row_or_of_another_group() {
    let scenario = Scenario::new()
        .leader("pg1")
        .says(ProbeState::Writable)
        .registering()
        .rows("app", Rows::known(vec![]));
    let right = scenario.clone().decide();
    let taken = scenario
        .clone()
        .rows("app", Rows::known(vec![row(2, 1, "pg3")]));
    let violation = taken
        .with(|situation| check(situation, &right))
        .unwrap_err();
    assert!(matches!(violation, Violation::NotThePrimaryRow { .. }));
    stopped(&scenario, "rule 6", |d| {
        let Some(Step::Register(step)) = d.steps.get_mut("app") else {
            panic!()
        };
        step.group = 2;
    });
}

#[test]
fn the_checker_stops_a_repair_that_names_an_address_of_no_member() {
    let rows = vec![
        row(2, 1, "pg1"),
        secondary(7, 1, "citus-sync-swap-7.invalid"),
    ];
    let scenario = Scenario::new()
        .leader("pg1")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(rows));
    stopped(&scenario, "rule 6", |d| {
        let Some(Step::Repair(step)) = d.steps.get_mut("app") else {
            panic!()
        };
        step.to = addr("stranger");
    });
}

/// A scenario whose group has no row yet, and is to get one.
fn registering() -> Scenario {
    Scenario::new()
        .leader("pg1")
        .says(ProbeState::Writable)
        .registering()
        .rows("app", Rows::known(vec![]))
}

#[test]
fn the_checker_stops_a_registration_of_a_member_that_is_not_the_writable_leader() {
    let right = registering().decide();
    assert!(matches!(right.steps["app"], Step::Register(_)));
    for wrong in [
        registering().says(ProbeState::InRecovery),
        registering().said_earlier(ProbeState::Writable),
        registering().leader("pg2").says(ProbeState::Writable),
    ] {
        let violation = wrong
            .with(|situation| check(situation, &right))
            .unwrap_err();
        assert!(
            matches!(violation, Violation::NotTheWritableLeader { .. }),
            "{violation}"
        );
    }
}

#[test]
fn the_checker_stops_a_registration_of_an_address_that_another_row_has() {
    let right = registering().decide();
    let taken = registering().rows("app", Rows::known(vec![row(3, 2, "pg1")]));
    let violation = taken.with(|situation| check(situation, &right));
    assert_eq!(
        violation,
        Err(Violation::BadSwap {
            address: addr("pg1")
        })
    );
}

/// A row of group 1 that a swap left with a temporary name, and another group's.
fn temporary_name_left() -> Scenario {
    let rows = vec![
        row(2, 1, "pg1"),
        secondary(7, 1, "citus-sync-swap-7.invalid"),
        secondary(8, 2, "citus-sync-swap-8.invalid"),
        row(3, 2, "pg3"),
    ];
    Scenario::new()
        .leader("pg1")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(rows))
}

fn fix(decision: &mut Decision, change: impl FnOnce(&mut Repair)) {
    let Some(Step::Repair(step)) = decision.steps.get_mut("app") else {
        panic!("{decision:?}")
    };
    change(step);
}

#[test]
fn the_checker_stops_a_repair_of_a_row_that_has_no_temporary_name_or_is_another_groups() {
    for (nodeid, host) in [
        (8, "citus-sync-swap-8.invalid"),
        (7, "citus-sync-swap-8.invalid"),
        (2, "pg1"),
    ] {
        stopped(&temporary_name_left(), "rule 6", |d| {
            fix(d, |step| {
                step.nodeid = nodeid;
                step.from = addr(host);
            });
        });
    }
}

#[test]
fn the_checker_stops_a_repair_that_takes_an_address_from_another_row() {
    // pg3 is a replica of the scope, but a row of another group names it; and pg1 leads.
    for host in ["pg3", "pg1"] {
        stopped(&temporary_name_left(), "rule 6", |d| {
            fix(d, |step| step.to = addr(host));
        });
    }
    // The leader is no spare replica, even where no row names it.
    let mut apart = temporary_name_left()
        .leader("pg3")
        .says(ProbeState::Writable);
    let rows = vec![
        row(2, 1, "pg1"),
        secondary(7, 1, "citus-sync-swap-7.invalid"),
    ];
    apart = apart.rows("app", Rows::known(rows));
    let mut decision = temporary_name_left().decide();
    fix(&mut decision, |step| step.to = addr("pg3"));
    let violation = apart.with(|situation| check(situation, &decision));
    assert_eq!(
        violation,
        Err(Violation::BadSwap {
            address: addr("pg3")
        })
    );
}

#[test]
fn the_checker_stops_a_swap_with_a_row_that_does_not_bear_the_address() {
    let rows = vec![
        row(2, 1, "pg1"),
        secondary(7, 1, "pg2"),
        secondary(8, 1, "pg3"),
        secondary(9, 2, "other"),
    ];
    let scenario = moving().rows("app", Rows::known(rows));
    for nodeid in [8, 9, 2] {
        stopped(&scenario, "rule 6", |d| {
            edit(d, |step| step.make_way.as_mut().unwrap().nodeid = nodeid);
        });
    }
    // Nor with another group's, even if that bears it, be it primary or secondary.
    let decision = scenario.decide();
    for other in [row(7, 2, "pg2"), secondary(7, 2, "pg2"), row(7, 1, "pg2")] {
        let scenario = moving().rows("app", Rows::known(vec![row(2, 1, "pg1"), other]));
        let violation = scenario.with(|situation| check(situation, &decision));
        assert_eq!(
            violation,
            Err(Violation::NotThePrimaryRow {
                nodeid: 7,
                from: addr("pg2")
            })
        );
    }
}

#[test]
fn the_checker_stops_a_swap_that_gives_two_rows_one_address() {
    let rows = vec![
        row(2, 1, "pg1"),
        secondary(7, 1, "pg2"),
        secondary(8, 1, "pg3"),
    ];
    let scenario = moving().rows("app", Rows::known(rows));
    let way = |change: fn(&mut MakeWay)| {
        stopped(&scenario, "rule 6", |d| {
            edit(d, |step| change(step.make_way.as_mut().unwrap()));
        });
    };
    // In the end, with another row or with the primary itself; and on the way there.
    way(|way| way.then = addr("pg3"));
    way(|way| way.then = addr("pg2"));
    way(|way| way.temporary = addr("pg3"));
}
