//! The checker alone, on moves, registrations and repairs: a right decision, spoilt, is stopped.

use dcs_watch::Freshness;

use super::super::*;
use super::builders::{Story, addr, row, secondary};

/// A right decision, spoilt by `spoil`, must be stopped with `rule N`.
fn stopped(story: &Story, rule: &str, spoil: impl FnOnce(&mut Decision)) {
    let mut decision = story.clone().decide();
    spoil(&mut decision);
    let violation = story
        .with(|situation| check(situation, &decision))
        .unwrap_err();
    assert!(violation.to_string().starts_with(rule), "{violation}");
}

fn moving() -> Story {
    Story::new().leader("pg2").says(ProbeState::Writable)
}

fn edit(decision: &mut Decision, change: impl FnOnce(&mut Move)) {
    let Some(Step::Move(step)) = decision.steps.get_mut("app") else {
        panic!("{decision:?}")
    };
    change(step);
}

#[test]
fn a_guess() {
    stopped(&moving(), "rule 1", |d| {
        edit(d, |step| step.to = addr("pg3"));
    });
}

#[test]
fn a_leader_that_did_not_answer_for_this_key() {
    let mut decision = moving().decide();
    decision.rule = Rule::Move;
    let story = Story::new()
        .leader("pg2")
        .said_earlier(ProbeState::Writable);
    let violation = story
        .with(|situation| check(situation, &decision))
        .unwrap_err();
    assert!(matches!(violation, Violation::NotTheWritableLeader { .. }));
    let story = Story::new().leader("pg2").says(ProbeState::InRecovery);
    let violation = story
        .with(|situation| check(situation, &decision))
        .unwrap_err();
    assert!(matches!(violation, Violation::NotTheWritableLeader { .. }));
}

#[test]
fn a_change_on_a_stale_view() {
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
fn a_change_on_news_from_a_restored_etcd() {
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
fn a_primary_row_that_would_lose_its_nodeid() {
    stopped(&moving(), "rule 6", |d| edit(d, |step| step.nodeid = 3));
}

#[test]
fn a_swap_that_leaves_a_temporary_name() {
    let rows = Rows::known(vec![row(2, 1, "pg1"), secondary(7, 1, "pg2")]);
    let story = moving().rows("app", rows);
    stopped(&story, "rule 6", |d| {
        edit(d, |step| {
            let way = step.make_way.as_mut().unwrap();
            way.then = way.temporary.clone();
        });
    });
    stopped(&story, "rule 6", |d| edit(d, |step| step.make_way = None));
}

#[test]
fn a_change_in_a_database_that_is_not_known() {
    stopped(&moving(), "rule 8", |d| {
        let step = d.steps["app"].clone();
        d.steps.insert("elsewhere".to_owned(), step);
    });
}

#[test]
fn a_change_where_patroni_is_in_charge() {
    let decision = moving().decide();
    let managed = moving().writes(Writes::PatroniManages);
    let violation = managed
        .with(|situation| check(situation, &decision))
        .unwrap_err();
    assert_eq!(violation, Violation::OnlyObserved);
}

#[test]
fn a_registration_of_a_group_that_has_a_row_or_of_another_group() {
    let story = Story::new()
        .leader("pg1")
        .says(ProbeState::Writable)
        .registering()
        .rows("app", Rows::known(vec![]));
    let right = story.clone().decide();
    let taken = story
        .clone()
        .rows("app", Rows::known(vec![row(2, 1, "pg3")]));
    let violation = taken
        .with(|situation| check(situation, &right))
        .unwrap_err();
    assert!(matches!(violation, Violation::NotThePrimaryRow { .. }));
    stopped(&story, "rule 6", |d| {
        let Some(Step::Register(step)) = d.steps.get_mut("app") else {
            panic!()
        };
        step.group = 2;
    });
}

#[test]
fn a_repair_that_names_a_stranger() {
    let rows = vec![
        row(2, 1, "pg1"),
        secondary(7, 1, "citus-sync-swap-7.invalid"),
    ];
    let story = Story::new()
        .leader("pg1")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(rows));
    stopped(&story, "rule 6", |d| {
        let Some(Step::Repair(step)) = d.steps.get_mut("app") else {
            panic!()
        };
        step.to = addr("stranger");
    });
}
