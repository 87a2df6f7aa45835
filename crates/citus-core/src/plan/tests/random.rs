//! Any situation: the checker never stops the table, and what was decided, once executed,
//! leaves nothing to decide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcs_watch::{FailoverRequest, Freshness, HostPort, KeyRevisions, Lsn, SystemId, Versioned};
use proptest::prelude::*;

use super::super::*;
use super::builders::{
    LEADER_REVISION, Scenario, addr, clone_of, refused, row, secondary, versioned,
};
use super::telling::{self, REQUEST};

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
        3 => Just(ProbeState::InRecovery),
        2 => Just(ProbeState::Unreachable("refused".to_owned())),
        1 => Just(ProbeState::Refuses("too many clients".to_owned())),
    ]
}

/// How a row spells its address, beside what the members advertise.
const SPELLINGS: [&str; 3] = ["PG1", "Pg2", "pg1.old"];

fn any_row() -> impl Strategy<Value = (i32, &'static str, u8)> {
    let hosts = [&HOSTS[..], &SPELLINGS[..]].concat();
    (0..3_i32, prop::sample::select(hosts), 0..5_u8)
}

/// Rows as Citus could hold them: no `nodename:nodeport` twice.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(any_row(), 0..6).prop_map(|picked| {
        let mut rows: Vec<Row> = Vec::new();
        for (nodeid, (group, host, role)) in (1..).zip(picked) {
            if rows.iter().all(|present| present.address != addr(host)) {
                rows.push(match role {
                    0 | 1 => secondary(nodeid, group, host),
                    2 => clone_of(nodeid, host),
                    _ => row(nodeid, group, host),
                });
            }
        }
        rows
    })
}

fn position() -> impl Strategy<Value = Option<u64>> {
    prop::option::weighted(0.9, 98..102_u64)
}

/// What a member said: of itself, how far it is, in which round, and under which leader key.
fn answer() -> impl Strategy<Value = (ProbeState, (Option<u64>, Option<u64>), u64, bool)> {
    (
        state(),
        (position(), position()),
        0..5_u64,
        prop::bool::weighted(0.2),
    )
}

/// What a member says of itself: of the scope's cluster, of another one, or nothing.
fn identity() -> impl Strategy<Value = Identity> {
    let system = prop_oneof![
        4 => Just(Some(SystemId(7))),
        1 => Just(Some(SystemId(99))),
        1 => Just(None),
    ];
    (system, prop::option::weighted(0.9, 1..3_u32))
        .prop_map(|(system, timeline)| Identity { system, timeline })
}

prop_compose! {
    fn count()(
        expected in 0..3_u64,
        found in 0..3_u64,
        serves in prop::option::of(0..3_i32),
        is_coordinator in prop::bool::weighted(0.1),
    ) -> Result<ShardCount, String> {
        if found > expected {
            return Err("refused".to_owned());
        }
        let missing = (found < expected).then_some(102_008);
        Ok(ShardCount { expected, found, missing, serves, is_coordinator })
    }
}

prop_compose! {
    /// Who is who, what was known of it, and what was counted.
    fn clusters()(
        identities in prop::collection::vec(identity(), HOSTS.len()),
        scope in prop::option::weighted(0.8, (prop_oneof![4 => Just(7_u64), 1 => Just(99_u64)], 1..3_i64)),
        known in prop::option::weighted(0.7, (prop::option::weighted(0.8, Just(7_u64)), prop::option::weighted(0.9, 1..3_i64))),
        counts in prop::collection::btree_map(
            (prop_oneof![Just("app"), Just("second")], prop::sample::select(&HOSTS[..3])), count(), 0..6),
    ) -> Clusters {
        Clusters {
            identities: HOSTS.into_iter().zip(identities).collect(),
            scope: scope.map(|(id, created)| versioned(SystemId(id), created)),
            known: known.map(|(id, created)| KnownCluster { system: id.map(SystemId), created }),
            counts: counts.into_iter().map(|((database, host), count)| {
                ((database.to_owned(), addr(host)), count)
            }).collect(),
        }
    }
}

#[derive(Clone, Debug)]
struct Clusters {
    identities: BTreeMap<&'static str, Identity>,
    scope: Option<Versioned<SystemId>>,
    known: Option<KnownCluster>,
    counts: ShardCounts,
}

fn reason() -> impl Strategy<Value = Reason> {
    prop_oneof![
        3 => Just(REQUEST),
        1 => Just(Reason::HoldRequest { id: 1 }),
        1 => Just(Reason::Promotion { revision: LEADER_REVISION }),
        1 => Just(Reason::Loss { revision: LEADER_REVISION }),
        1 => Just(Reason::Loss { revision: 0 }),
    ]
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![
        2 => Just(Held::No),
        1 => Just(Held::Taking),
        3 => (0..4_u64).prop_map(|round| Held::Yes { round }),
    ]
}

fn progress() -> impl Strategy<Value = Progress> {
    let rarely = || prop::bool::weighted(0.2);
    (held(), any::<bool>(), rarely(), rarely()).prop_map(
        |(held, owes_resync, no_read_moves, leader_open)| Progress {
            held,
            owes_resync,
            no_read_moves,
            leader_open,
        },
    )
}

fn member() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&HOSTS[..3])
}

prop_compose! {
    /// What etcd says beyond who leads.
    fn keys()(
        request in prop::option::of((
            prop::option::of(member()),
            prop::option::of(member()),
            prop::option::weighted(0.3, -40_000..10_000_i64),
        )),
        sync in prop::option::weighted(0.8, (
            member(),
            prop::sample::subsequence(&HOSTS[..3], 0..3),
            0..2_u32,
        )),
        paused in prop::bool::weighted(0.1),
        timelines in prop::collection::vec(prop::option::of(1..3_u32), 3),
        last_position in position(),
        gone in prop::option::weighted(0.2, member()),
    ) -> Scenario {
        let mut scenario = Scenario::new();
        if let Some((leaving, candidate, at)) = request {
            let at = at.map(|at| scenario.now + time::Duration::milliseconds(at));
            let request = FailoverRequest { scheduled_at: at, ..telling::request(leaving, candidate) };
            scenario = scenario.requested(request);
        }
        if let Some((leader, standbys, quorum)) = sync {
            scenario = scenario.synchronous(leader, &standbys).quorum(quorum);
        }
        if paused {
            scenario = scenario.paused();
        }
        for (name, timeline) in HOSTS.iter().zip(timelines) {
            scenario.view.members.get_mut(*name).expect("a member").value.timeline = timeline;
        }
        scenario.view.last_position = last_position.map(Lsn);
        if let Some(gone) = gone {
            scenario.view.members.remove(gone);
        }
        scenario
    }
}

prop_compose! {
    /// What this program remembers of holds.
    fn memory()(
        active_hold in prop::option::weighted(0.7, (reason(), prop::bool::weighted(0.2))),
        app in progress(),
        second in progress(),
        requested_hold in prop::option::weighted(0.2, (member(), prop::option::of(1..3_i64))),
        given_up in prop::collection::vec(reason(), 0..2),
        limits in (
            prop::bool::weighted(0.8), prop::option::of(0..4_u64), prop::bool::weighted(0.8), any::<bool>(),
        ),
        stopping in prop::bool::weighted(0.1),
        reachability in prop::collection::btree_map(
            prop::sample::select(&HOSTS[..]),
            prop_oneof![
                1 => Just(Reachability::Reachable),
                3 => (0..4_u64).prop_map(|round| Reachability::Unreachable { round }),
            ],
            0..4,
        ),
    ) -> Memory {
        let (read_move, max_lag, hold_on_request, hold_on_leader_loss) = limits;
        Memory {
            active_hold: active_hold.map(|(reason, expired)| ActiveHold { reason, expired }),
            progress: BTreeMap::from([("app".to_owned(), app), ("second".to_owned(), second)]),
            requested_hold: requested_hold.map(|(leader, started)| RequestedHold { id: 1, leader: leader.to_owned(), started }),
            given_up,
            limits: Limits { read_move, max_lag, hold_on_request, hold_on_leader_loss },
            stopping,
            reachability: reachability.into_iter().map(|(host, reachability)| (addr(host), reachability)).collect(),
        }
    }
}

fn reach() -> impl Strategy<Value = Reach> {
    let answerer = (any::<bool>(), 1..3_i64);
    let answerer = answerer.prop_map(|(in_recovery, started)| Answerer {
        in_recovery,
        started,
    });
    prop_oneof![
        1 => Just(Reach::Asking),
        4 => prop::option::of(answerer).prop_map(Reach::Yes),
        3 => Just(Reach::No(refused())),
    ]
}

prop_compose! {
    fn neighbour()(
        members in prop::option::weighted(0.9, prop::collection::vec(prop::sample::select(&HOSTS[..4]), 0..3)),
        leader in prop::option::weighted(0.7, prop::sample::select(&HOSTS[..4])),
        held in prop::bool::weighted(0.2),
        own in prop::bool::weighted(0.8),
        proven in prop::bool::weighted(0.8),
    ) -> Neighbour {
        let app = |is: bool| -> BTreeSet<String> { is.then(|| "app".to_owned()).into_iter().collect() };
        Neighbour {
            scope: "wk2".to_owned(),
            members: members.map(|members| members.into_iter().map(addr).collect()),
            leader: leader.map(|host| NeighbourLeader { address: addr(host), revision: 7 }),
            held,
            own: app(own),
            proven: app(proven),
        }
    }
}

prop_compose! {
    /// What is known of addresses: by the coordinator, by the other groups, by the configuration.
    fn addresses()(
        fixed in prop::bool::weighted(0.1),
        neighbours in prop::collection::btree_map(0..3_i32, neighbour(), 0..3),
        own in prop::sample::subsequence(vec!["app", "second"], 0..=2),
        reach in prop::collection::btree_map(
            prop::sample::select([&HOSTS[..4], &SPELLINGS[2..]].concat()),
            reach(),
            0..5,
        ),
    ) -> AddressFacts {
        let reach: BTreeMap<_, _> = reach.into_iter().map(|(host, reach)| (addr(host), reach)).collect();
        AddressFacts {
            fixed,
            neighbours: Arc::new(neighbours),
            own: own.into_iter().map(str::to_owned).collect(),
            reach: BTreeMap::from([("app".to_owned(), reach)]),
        }
    }
}

#[derive(Clone, Debug)]
struct Memory {
    active_hold: Option<ActiveHold>,
    progress: BTreeMap<String, Progress>,
    requested_hold: Option<RequestedHold>,
    given_up: Vec<Reason>,
    limits: Limits,
    stopping: bool,
    reachability: BTreeMap<HostPort, Reachability>,
}

prop_compose! {
    fn scenario()(
        keys in keys(),
        memory in memory(),
        addresses in addresses(),
        clusters in clusters(),
        revisions in prop_oneof![
            6 => Just(None),
            1 => Just(Some(None)),
            1 => Just(Some(Some(KeyRevisions { leader: Some(LEADER_REVISION + 1), sync: Some(20) }))),
        ],
        group in 0..3_i32,
        leader in prop::option::weighted(0.9, member()),
        fresh in prop::bool::weighted(0.9),
        lineage in 0..2_u64,
        trusted in prop::option::of(0..2_u64),
        answers in prop::collection::btree_map(prop::sample::select(&HOSTS[..]), answer(), 0..6),
        app in rows(),
        second in prop::option::weighted(0.8, rows()),
        register in any::<bool>(),
        writes in prop_oneof![
            8 => Just(Writes::Allowed),
            1 => Just(Writes::PatroniManages),
            1 => Just(Writes::ObserveOnly),
        ],
    ) -> Scenario {
        let mut scenario = keys.group(group).lineage(lineage, trusted).writes(writes);
        if let Some(leader) = leader {
            scenario = scenario.leader(leader);
        }
        if !fresh {
            scenario = scenario.stale();
        }
        for (host, (state, positions, round, earlier)) in answers {
            let (written, replayed) = positions;
            let replayed = if state == ProbeState::InRecovery { replayed } else { None };
            scenario = scenario.answers(host, state, (written, replayed), round);
            if earlier {
                let probe = scenario.answers.get_mut(&addr(host)).expect("just put");
                probe.leader_revision = LEADER_REVISION - 10;
            }
        }
        for (host, identity) in clusters.identities {
            if let Some(probe) = scenario.answers.get_mut(&addr(host))
                && matches!(probe.state, ProbeState::Writable | ProbeState::InRecovery)
            {
                probe.identity = identity;
            }
        }
        scenario.view.system = clusters.scope;
        scenario.known_cluster = clusters.known;
        scenario.shards = clusters.counts;
        scenario.keys = revisions;
        scenario.register = register;
        scenario.progress = memory.progress;
        if scenario.writes == Writes::Allowed && scenario.group != COORDINATOR_GROUP {
            scenario.active_hold = memory.active_hold;
        } else {
            // What is never held was never held.
            for progress in scenario.progress.values_mut() {
                progress.held = Held::No;
            }
        }
        // What is held stands.
        if scenario.progress.values().any(|progress| progress.held != Held::No) {
            scenario.active_hold.get_or_insert(ActiveHold { reason: REQUEST, expired: false });
        }
        scenario.requested_hold = memory.requested_hold;
        scenario.given_up = memory.given_up;
        scenario.limits = memory.limits;
        scenario.stopping = memory.stopping;
        scenario.reachability = memory.reachability;
        scenario.addresses = addresses;
        let second = second.map_or(Rows::Unknown("down".to_owned()), Rows::known);
        scenario.rows("app", Rows::known(app)).rows("second", second)
    }
}

/// What the database would hold after the step, and whether it would have let it happen.
pub(crate) fn carried_out(rows: &[Row], step: &Step) -> Vec<Row> {
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
        Step::InSync | Step::Wait(_) | Step::Hold(_) | Step::LetGo | Step::Resync(_) => {}
        Step::Move(step) | Step::ReadMove(step) => {
            if let Some(way) = &step.make_way {
                set(&mut rows, way.nodeid, &way.temporary);
            }
            set(&mut rows, step.nodeid, &step.to);
            if let Some(way) = &step.make_way {
                set(&mut rows, way.nodeid, &way.then);
            }
        }
        Step::Exchange(step) => {
            for part in &step.parts {
                set(&mut rows, part.nodeid, &part.temporary);
            }
            for part in &step.parts {
                set(&mut rows, part.nodeid, &part.to);
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
fn progress_after(scenario: &Scenario, database: &str, step: &Step) -> Progress {
    let mut progress = scenario.progress.get(database).copied().unwrap_or_default();
    match step {
        Step::InSync | Step::Wait(_) | Step::Exchange(_) | Step::Register(_) | Step::Repair(_) => {}
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

/// Executes a whole decision, as a reconciler does.
fn after(mut scenario: Scenario, decision: &Decision) -> Scenario {
    let expired = scenario
        .active_hold
        .is_some_and(|active_hold| active_hold.expired);
    if expired {
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method alone is not general enough in its lifetimes"
        )]
        let reasons = scenario.with(|situation| situation.reason_to_hold());
        let own = scenario.active_hold.map(|active_hold| active_hold.reason);
        scenario.given_up.extend(own.into_iter().chain(reasons));
        scenario.requested_hold = None;
    }
    for (database, step) in &decision.steps {
        let progress = progress_after(&scenario, database, step);
        scenario.progress.insert(database.clone(), progress);
        if let Some(Rows::Known(rows)) = scenario.rows.get(database) {
            let rows = Rows::known(carried_out(rows, step));
            scenario.rows.insert(database.clone(), rows);
        }
        if let Step::Hold(hold) = step {
            scenario.active_hold.get_or_insert(ActiveHold {
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
    let none = scenario
        .progress
        .values()
        .all(|progress| progress.held == Held::No);
    if none && !decision.steps.values().any(holding) {
        scenario.active_hold = None;
    }
    scenario
}

/// What can be said of a decision without a thought of tables or positions.
fn assert_it_is_sane(scenario: &Scenario, decision: &Decision) {
    let expired = scenario
        .active_hold
        .is_some_and(|active_hold| active_hold.expired);
    if scenario.addresses.fixed {
        let rewrites = |step: &Step| {
            !matches!(step, Step::Hold(_) | Step::LetGo | Step::Resync(_)) && step.acts()
        };
        assert!(!decision.steps.values().any(rewrites), "{decision:?}");
    }
    if scenario.writes != Writes::Allowed {
        assert!(!decision.steps.values().any(Step::acts), "{decision:?}");
    }
    for (database, step) in &decision.steps {
        let held = scenario.progress[database].held;
        let ends = matches!(step, Step::LetGo | Step::Move(_));
        if expired || scenario.stopping {
            assert!(!matches!(step, Step::Hold(_)), "{step}");
            assert!(held == Held::No || ends, "{database} stays held: {step}");
        }
        if scenario.view.freshness != Freshness::Fresh {
            // A hold that ends may take its own read move back.
            let is_held = matches!(held, Held::Yes { .. });
            let undoes = matches!(step, Step::Move(_)) && is_held;
            assert!(
                !step.acts() || *step == Step::LetGo || undoes,
                "on a stale view: {step}"
            );
        }
        if held == Held::Taking {
            assert!(
                !step.acts() || *step == Step::LetGo,
                "beside a hold: {step}"
            );
        }
        if held == Held::No {
            assert_ne!(*step, Step::LetGo, "{database} is not held");
        } else {
            assert_ne!(*step, Step::InSync, "{database} is held");
            assert!(
                !matches!(step, Step::Hold(_) | Step::Resync(_)),
                "in a hold: {step}"
            );
        }
        if let Step::Hold(hold) = step {
            assert_ne!(scenario.group, COORDINATOR_GROUP);
            assert!(!scenario.given_up.contains(&hold.reason), "again: {step}");
        }
    }
    if decision.is_in_sync() {
        assert!(decision.steps.values().all(|step| *step == Step::InSync));
    }
}

proptest! {
    #[test]
    fn every_decision_keeps_the_rules_and_leaves_nothing_to_do_once_executed(mut scenario in scenario()) {
        // A hold may be let go, a row moved, a temporary name fixed, Citus told of it, writes held
        // again, and reads moved; never more.
        for _ in 0..8 {
            let decision = scenario.decision();
            assert_it_is_sane(&scenario, &decision);
            if !decision.steps.values().any(Step::acts) {
                return Ok(());
            }
            scenario = after(scenario, &decision);
        }
        prop_assert!(
            !scenario.decision().steps.values().any(Step::acts),
            "still not in sync: {scenario:?}"
        );
    }
}
