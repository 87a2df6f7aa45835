//! Any situation: the checker never stops the table, and what was decided, once carried out,
//! leaves nothing to decide.

use std::collections::BTreeMap;

use dcs_watch::{Freshness, HostPort};
use proptest::prelude::*;

use super::super::*;
use super::builders::{Story, addr, row, secondary};

const HOSTS: [&str; 6] = [
    "pg1",
    "pg2",
    "pg3",
    "other",
    "10.0.0.5-demoted",
    "citus-sync-swap-7.invalid",
];

fn state() -> impl Strategy<Value = ProbeState> {
    prop_oneof![
        1 => Just(ProbeState::Unknown),
        4 => Just(ProbeState::Writable),
        1 => Just(ProbeState::InRecovery),
        1 => Just(ProbeState::Unreachable("refused".to_owned())),
    ]
}

fn any_row() -> impl Strategy<Value = (i32, &'static str, bool)> {
    (0..3_i32, prop::sample::select(&HOSTS[..]), any::<bool>())
}

/// Rows as Citus could hold them: no `nodename:nodeport` twice.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(any_row(), 0..6).prop_map(|picked| {
        let mut rows: Vec<Row> = Vec::new();
        for (nodeid, (group, host, is_secondary)) in (1..).zip(picked) {
            if rows.iter().all(|present| present.address != addr(host)) {
                rows.push(if is_secondary {
                    secondary(nodeid, group, host)
                } else {
                    row(nodeid, group, host)
                });
            }
        }
        rows
    })
}

prop_compose! {
    fn story()(
        group in 0..3_i32,
        leader in prop::option::weighted(0.9, prop::sample::select(&HOSTS[..3])),
        answer in prop::option::weighted(0.9, (state(), any::<bool>())),
        fresh in prop::bool::weighted(0.9),
        lineage in 0..2_u64,
        trusted in prop::option::of(0..2_u64),
        at_rows in prop::collection::btree_map(prop::sample::select(&HOSTS[..]), state(), 0..4),
        app in rows(),
        second in prop::option::weighted(0.8, rows()),
        register in any::<bool>(),
        writes in prop_oneof![
            4 => Just(Writes::Allowed),
            1 => Just(Writes::PatroniManages),
            1 => Just(Writes::ObserveOnly),
        ],
    ) -> Story {
        let mut story = Story::new().group(group).lineage(lineage, trusted).writes(writes);
        if let Some(leader) = leader {
            story = story.leader(leader);
            if let Some((state, earlier)) = answer {
                story = if earlier { story.said_earlier(state) } else { story.says(state) };
            }
        }
        if !fresh {
            story = story.freshness(Freshness::Stale { reason: "silent".to_owned() });
        }
        for (host, state) in at_rows {
            story = story.at_row(host, state);
        }
        story.register = register;
        let second = second.map_or(Rows::Unknown("down".to_owned()), Rows::known);
        story.rows("app", Rows::known(app)).rows("second", second)
    }
}

/// What the database would hold after the step, and whether it would have let it happen.
fn carried_out(rows: &[Row], step: &Step) -> Vec<Row> {
    let mut rows = rows.to_vec();
    let set = |rows: &mut Vec<Row>, nodeid: i32, to: &HostPort| {
        assert!(
            rows.iter().all(|row| row.address != *to),
            "Citus: there is already another node with the specified hostname and port: {to}"
        );
        rows.iter_mut()
            .find(|row| row.nodeid == nodeid)
            .expect("a row")
            .address = to.clone();
    };
    match step {
        Step::Settled | Step::Wait(_) | Step::Hold(_) | Step::LetGo | Step::Resync(_) => {}
        Step::Move(step) | Step::ReadMove(step) => {
            if let Some(way) = &step.make_way {
                set(&mut rows, way.nodeid, &way.temporary);
            }
            set(&mut rows, step.nodeid, &step.to);
            if let Some(way) = &step.make_way {
                set(&mut rows, way.nodeid, &way.then);
            }
        }
        Step::Repair(step) => set(&mut rows, step.nodeid, &step.to),
        Step::Register(step) => {
            let nodeid = rows.iter().map(|row| row.nodeid).max().unwrap_or(0) + 1;
            rows.push(Row {
                address: step.address.clone(),
                ..row(nodeid, step.group, "new")
            });
        }
    }
    rows
}

proptest! {
    #[test]
    fn what_is_decided_keeps_the_rules_and_carried_out_leaves_nothing_to_do(mut story in story()) {
        // A wreck may take a move and then a repair; never more than these.
        for _ in 0..3 {
            let decision = story.clone().decide();
            if !decision.steps.values().any(Step::acts) {
                return Ok(());
            }
            let rows: BTreeMap<String, Rows> = story
                .rows
                .iter()
                .map(|(database, rows)| {
                    let after = match rows {
                        Rows::Unknown(_) => rows.clone(),
                        Rows::Known(rows) => {
                            Rows::known(carried_out(rows, &decision.steps[database]))
                        }
                    };
                    (database.clone(), after)
                })
                .collect();
            story.rows = rows;
        }
        prop_assert!(
            !story.clone().decide().steps.values().any(Step::acts),
            "still not settled: {story:?}"
        );
    }
}
