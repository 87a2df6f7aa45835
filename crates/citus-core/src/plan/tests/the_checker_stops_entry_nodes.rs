//! The checker alone, on entry nodes: a right order, spoilt, is stopped.

use std::time::Duration;

use super::super::*;
use super::builders::{Scenario, addr};
use super::telling::REQUEST;
use super::the_checker_stops_holds::held;
use crate::entry_node::{EntryNodeAction, EntryNodeFacts, EntryNodeOrder};
use crate::invariants::{Violation, check_at_entry_node, may_follow_at_once};

/// The round of the hold in [`held`].
const ROUND: u64 = 1;

fn to_pg2() -> Move {
    Move {
        nodeid: 2,
        from: addr("pg1"),
        to: addr("pg2"),
        make_way: None,
    }
}

fn order(action: EntryNodeAction) -> EntryNodeOrder {
    EntryNodeOrder {
        id: 1,
        node: addr("other"),
        action,
    }
}

fn hold(left: Duration) -> EntryNodeOrder {
    let cooldown = Duration::ZERO;
    order(EntryNodeAction::Hold { left, cooldown })
}

fn verdict(
    scenario: &Scenario,
    order: &EntryNodeOrder,
    facts: &EntryNodeFacts,
) -> Result<(), Violation> {
    scenario.with(|situation| check_at_entry_node(situation, "app", order, facts))
}

/// Reads of the coordinator are at pg2, and those of the entry node are to follow.
fn reads_moved() -> Scenario {
    let mut scenario = held();
    for rows in scenario.rows.values_mut() {
        if let Rows::Known(rows) = rows {
            let mut moved = rows.to_vec();
            moved[0].address = addr("pg2");
            *rows = moved.into();
        }
    }
    scenario
}

fn facts(held_in: Option<u64>, shown_by: Option<&str>) -> EntryNodeFacts {
    EntryNodeFacts {
        held_in,
        followed: false,
        shown_by: shown_by.map(addr),
    }
}

#[test]
fn the_checker_stops_a_hold_of_an_entry_node_after_the_deadline_or_while_the_program_stops() {
    let nothing = EntryNodeFacts::default();
    let scenario = Scenario::quiet().switchover().active_hold(REQUEST);
    let right = hold(Duration::from_secs(1));
    assert_eq!(verdict(&scenario, &right, &nothing), Ok(()));
    let refused = Err(Violation::NoHoldNow);
    assert_eq!(verdict(&scenario, &hold(Duration::ZERO), &nothing), refused);
    let expired = scenario.clone().expired();
    assert_eq!(verdict(&expired, &right, &nothing), refused);
    let mut stopping = scenario.clone();
    stopping.stopping = true;
    assert_eq!(verdict(&stopping, &right, &nothing), refused);
    let mut observed = scenario;
    observed.writes = Writes::PatroniManages;
    let refused = Err(Violation::OnlyObserved);
    assert_eq!(verdict(&observed, &right, &nothing), refused);
}

#[test]
fn the_checker_stops_an_entry_node_that_follows_to_a_standby_that_may_lack_writes() {
    let scenario = reads_moved();
    let follow = order(EntryNodeAction::Follow(to_pg2()));
    let right = facts(Some(ROUND), Some("pg2"));
    assert_eq!(verdict(&scenario, &follow, &right), Ok(()));
    let refused = Err(Violation::UnheldEntryNode {
        node: addr("other"),
        standby: addr("pg2"),
    });
    for wrong in [
        facts(None, Some("pg2")),
        facts(Some(ROUND), None),
        facts(Some(ROUND), Some("pg3")),
    ] {
        assert_eq!(verdict(&scenario, &follow, &wrong), refused, "{wrong:?}");
        // No client writes there any more.
        let gone = reads_moved().lost("pg1");
        assert_eq!(verdict(&gone, &follow, &wrong), Ok(()), "{wrong:?}");
    }
}

#[test]
fn the_checker_stops_an_entry_node_that_goes_ahead_of_the_coordinator() {
    let follow = order(EntryNodeAction::Follow(to_pg2()));
    let right = facts(Some(ROUND), Some("pg2"));
    let refused = Err(Violation::AheadOfCoordinator {
        address: addr("pg2"),
    });
    assert_eq!(verdict(&held(), &follow, &right), refused);
}

#[test]
fn the_checker_stops_an_entry_node_that_was_held_too_late_to_follow_at_once() {
    let verdict = |scenario: &Scenario, facts: &EntryNodeFacts| {
        scenario.with(|situation| {
            may_follow_at_once(situation, &addr("other"), facts, ROUND, &to_pg2())
        })
    };
    let scenario = held();
    assert_eq!(verdict(&scenario, &facts(Some(ROUND - 1), None)), Ok(()));
    let followed = EntryNodeFacts {
        followed: true,
        ..facts(Some(ROUND), None)
    };
    assert_eq!(verdict(&scenario, &followed), Ok(()));
    let refused = Err(Violation::UnheldEntryNode {
        node: addr("other"),
        standby: addr("pg2"),
    });
    for wrong in [facts(Some(ROUND), None), facts(None, None)] {
        assert_eq!(verdict(&scenario, &wrong), refused, "{wrong:?}");
        assert_eq!(verdict(&held().lost("pg1"), &wrong), Ok(()), "{wrong:?}");
    }
}
