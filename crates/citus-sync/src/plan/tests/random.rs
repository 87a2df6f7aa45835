//! Any situation: the checker never stops the table, and what was decided, once carried out,
//! leaves nothing to decide.

use dcs_watch::{Freshness, HostPort};
use proptest::prelude::*;

use super::super::*;
use super::builders::{Story, addr, row, secondary};

/// The round of a hold that is taken here; members' answers are older and newer ones.
const ROUND: u64 = 3;

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
pub(super) fn carried_out(rows: &[Row], step: &Step) -> Vec<Row> {
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

/// How far a database is in a hold once the step is done.
fn progress_after(story: &Story, database: &str, step: &Step) -> Progress {
    let mut progress = story.progress.get(database).copied().unwrap_or_default();
    match step {
        Step::Settled | Step::Wait(_) | Step::Register(_) | Step::Repair(_) => {}
        Step::Hold(_) => progress.held = Held::Yes { round: ROUND },
        Step::LetGo => progress.held = Held::No,
        Step::ReadMove(_) => progress.owes_resync = true,
        Step::Move(_) => {
            progress = Progress {
                held: Held::No,
                owes_resync: true,
                ..progress
            }
        }
        Step::Resync(_) => progress.owes_resync = false,
    }
    progress
}

/// Carries a whole decision out, as a keeper does.
fn after(mut story: Story, decision: &Decision) -> Story {
    let expired = story.standing.is_some_and(|standing| standing.expired);
    if expired {
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method alone is not general enough in its lifetimes"
        )]
        let reasons = story.with(|situation| situation.reason_to_hold());
        let own = story.standing.map(|standing| standing.reason);
        story.given_up.extend(own.into_iter().chain(reasons));
        story.asked = None;
    }
    for (database, step) in &decision.steps {
        let progress = progress_after(&story, database, step);
        story.progress.insert(database.clone(), progress);
        if let Some(Rows::Known(rows)) = story.rows.get(database) {
            let rows = Rows::known(carried_out(rows, step));
            story.rows.insert(database.clone(), rows);
        }
        if let Step::Hold(hold) = step {
            story.standing.get_or_insert(Standing {
                reason: hold.reason,
                expired: false,
            });
        }
    }
    let holding = |step: &Step| {
        matches!(
            step,
            Step::Hold(_) | Step::Wait(Wait::Taking { .. } | Wait::Held { .. })
        )
    };
    let none = story
        .progress
        .values()
        .all(|progress| progress.held == Held::No);
    if none && !decision.steps.values().any(holding) {
        story.standing = None;
    }
    story
}

proptest! {
    #[test]
    fn what_is_decided_keeps_the_rules_and_carried_out_leaves_nothing_to_do(mut story in story()) {
        // A hold may be let go, a wreck moved, then mended, and Citus told of it; never more.
        for _ in 0..6 {
            let decision = story.clone().decide();
            if !decision.steps.values().any(Step::acts) {
                return Ok(());
            }
            story = after(story, &decision);
        }
        prop_assert!(
            !story.clone().decide().steps.values().any(Step::acts),
            "still not settled: {story:?}"
        );
    }
}
