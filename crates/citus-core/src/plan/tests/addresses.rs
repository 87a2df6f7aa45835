//! Where rows may point: spellings of one place, what the coordinator reaches, rows of other scopes,
//! exchanges, names that follow by themselves, clones. And what the checker stops of it.

use std::sync::Arc;

use dcs_watch::SystemId;

use super::super::*;
use super::builders::{LEADER_REVISION, Scenario, addr, clone_of, heard, refused, row, secondary};
use super::random::carried_out;
use super::telling::{reads_to, stay};
use crate::invariants::{Violation, check};

/// pg1 leads and takes writes, and the row of group 1 is at `host`.
fn at(host: &str) -> Scenario {
    Scenario::new()
        .leader("pg1")
        .says(ProbeState::Writable)
        .rows(
            "app",
            Rows::known(vec![row(2, 1, host), row(3, 2, "other")]),
        )
}

fn answerer(started: i64, in_recovery: bool) -> Reach {
    Reach::Yes(Some(Answerer {
        in_recovery,
        started,
    }))
}

fn step(scenario: &Scenario) -> Step {
    scenario.decision().steps["app"].clone()
}

/// What the checker says of a step in place of the one that was decided.
fn stopped(scenario: &Scenario, step: Step) -> Option<Violation> {
    scenario.with(|situation| {
        let mut decision = decide(situation);
        decision.steps.insert("app".to_owned(), step);
        check(situation, &decision).err()
    })
}

fn to_leader(from: &str) -> Step {
    Step::Move(Move {
        nodeid: 2,
        from: addr(from),
        to: addr("pg1"),
        make_way: None,
    })
}

#[test]
fn a_row_that_spells_the_leaders_address_in_another_way_is_in_sync() {
    assert_eq!(step(&at("PG1")), Step::InSync);
    assert!(at("Pg1").decide().is_in_sync());
    let mut v6 = at("[2001:DB8:0::1]");
    let address = &mut v6.view.members.get_mut("pg1").expect("pg1").value.address;
    *address = Some(addr("2001:db8::1"));
    assert_eq!(step(&v6.says(ProbeState::Writable)), Step::InSync);
}

#[test]
fn a_secondary_row_with_another_spelling_makes_way_too() {
    let rows = vec![row(2, 1, "pg2"), secondary(7, 1, "PG1")];
    let scenario = at("pg2").rows("app", Rows::known(rows.clone()));
    let Step::Move(moved) = step(&scenario) else {
        panic!("{:?}", step(&scenario))
    };
    assert_eq!(moved.make_way.as_ref().map(|way| way.nodeid), Some(7));
    let after = carried_out(&rows, &Step::Move(moved));
    assert_eq!(after[1].address, addr("pg2"));
}

#[test]
fn a_row_that_works_is_not_left_for_an_address_that_the_coordinator_does_not_reach() {
    let works = at("alias").reach("alias", answerer(1, false));
    let stays = works.clone().unreached("pg1");
    let Step::Wait(Wait::NotReached { row, leader, why }) = step(&stays) else {
        panic!("{:?}", step(&stays))
    };
    assert_eq!((row, leader, why), (addr("alias"), addr("pg1"), refused()));
    assert_eq!(stays.clone().decide().rule, Rule::Blocked);
    let unknown = Step::Wait(Wait::ReachUnknown {
        address: addr("pg1"),
    });
    assert_eq!(step(&works), unknown, "it was not asked yet");
    assert_eq!(step(&works.clone().reach("pg1", Reach::Asking)), unknown);
    let reached = works.reach("pg1", answerer(1, false));
    assert!(matches!(step(&reached), Step::Move(_)));

    assert!(matches!(
        stopped(&stays, to_leader("alias")),
        Some(Violation::OutOfReach { .. })
    ));
    assert_eq!(stopped(&reached, to_leader("alias")), None);
}

/// Before Citus can ask who answers: our own session says which server is there.
#[test]
fn a_row_works_as_well_where_we_find_the_leader_ourselves() {
    let mut scenario = at("alias")
        .reach("alias", Reach::Yes(None))
        .unreached("pg1");
    let found = heard(&addr("alias"), ProbeState::Writable);
    scenario.answers.insert(addr("alias"), found);
    assert!(matches!(
        step(&scenario),
        Step::Wait(Wait::NotReached { .. })
    ));
    assert!(matches!(
        stopped(&scenario, to_leader("alias")),
        Some(Violation::OutOfReach { .. })
    ));
    scenario.answers.remove(&addr("alias"));
    let decision = scenario.decision();
    assert!(matches!(
        decision.steps["app"],
        Step::Wait(Wait::ReachUnknown { .. })
    ));
    assert!(decision.ask.iter().any(|ask| ask.address == addr("alias")));
    let scenario = scenario.at_row("alias", ProbeState::Unreachable("refused".to_owned()));
    assert!(matches!(step(&scenario), Step::Move(_)));
}

#[test]
fn after_a_failover_the_row_follows_whatever_the_coordinator_reaches() {
    for (what, scenario) in [
        ("another member", at("pg2").reach("pg2", answerer(1, false))),
        ("another server", at("old").reach("old", answerer(2, false))),
        ("a standby", at("old").reach("old", answerer(1, true))),
        ("nothing is there", at("old").unreached("old")),
        ("it cannot be asked", at("old")),
    ] {
        let scenario = scenario.unreached("pg1");
        assert!(matches!(step(&scenario), Step::Move(_)), "{what}");
    }
    let asked = at("old").reach("old", Reach::Asking).unreached("pg1");
    let unknown = Wait::ReachUnknown {
        address: addr("old"),
    };
    assert_eq!(step(&asked), Step::Wait(unknown), "for a moment");
}

#[test]
fn a_row_at_another_scopes_member_is_that_scopes() {
    let theirs = at("wk2a").neighbour(2, &["wk2a", "wk2b"], Some("wk2a"));
    let Step::Wait(Wait::NotOurs { scope, group, .. }) = step(&theirs) else {
        panic!("{:?}", step(&theirs))
    };
    assert_eq!((scope.as_str(), group), ("wk2", 2));
    assert_eq!(
        stopped(&theirs, to_leader("wk2a")),
        Some(Violation::NotOurRow {
            address: addr("wk2a")
        })
    );
    let known = theirs.clone().own_rows();
    assert!(matches!(step(&known), Step::Move(_)), "it was ours before");

    let requested = theirs.requested(super::telling::request(Some("pg1"), None));
    assert!(matches!(step(&requested), Step::Wait(Wait::NotOurs { .. })));
    let hold = Step::Hold(Hold {
        nodeid: 2,
        reason: super::telling::REQUEST,
    });
    assert!(matches!(
        stopped(&requested, hold),
        Some(Violation::NotOurRow { .. })
    ));
}

#[test]
fn a_row_at_an_unknown_address_waits_until_every_scope_was_read() {
    let mut scenario = at("old").neighbour(2, &[], None);
    let neighbours = Arc::make_mut(&mut scenario.addresses.neighbours);
    neighbours.get_mut(&2).expect("group 2").members = None;
    assert!(matches!(
        step(&scenario),
        Step::Wait(Wait::ScopesUnread { .. })
    ));
    assert_eq!(
        step(&scenario.clone().rows("app", rows_at("pg1"))),
        Step::InSync
    );
    assert!(matches!(
        step(&scenario.rows("app", rows_at("pg2"))),
        Step::Move(_)
    ));
}

fn rows_at(host: &str) -> Rows {
    Rows::known(vec![row(2, 1, host)])
}

/// pg1 leads group 1, whose row is at `b`, where `rows` say that pg1 is group 2's.
fn exchanged() -> Scenario {
    at("b")
        .rows("app", Rows::known(vec![row(2, 1, "b"), row(3, 2, "pg1")]))
        .neighbour(2, &["b", "b2"], Some("b"))
        .own_rows()
}

#[test]
fn groups_that_have_each_others_addresses_are_exchanged_by_the_lowest_of_them() {
    let scenario = exchanged();
    let Step::Exchange(exchange) = step(&scenario) else {
        panic!("{:?}", step(&scenario))
    };
    let Rows::Known(rows) = &scenario.rows["app"] else {
        panic!("known");
    };
    let after = carried_out(rows, &Step::Exchange(exchange.clone()));
    assert_eq!(after[0].address, addr("pg1"));
    assert_eq!(after[1].address, addr("b"));
    assert!(!after.iter().any(Row::is_temporary));
    assert_eq!(scenario.clone().decide().rule, Rule::Move);

    // The other group sees the same, and waits.
    let other = Scenario::new()
        .group(2)
        .leader("pg1")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(vec![row(3, 2, "a"), row(2, 1, "pg1")]))
        .neighbour(1, &["a"], Some("a"))
        .own_rows();
    let waits = Wait::Exchanged {
        by: 1,
        groups: vec![1, 2],
    };
    assert_eq!(step(&other), Step::Wait(waits));
    let parts = exchange.parts;
    assert!(matches!(
        stopped(&other, Step::Exchange(Exchange { parts })),
        Some(Violation::UnknownNode { .. } | Violation::BadExchange { .. })
    ));
}

#[test]
fn a_circle_of_three_groups_is_exchanged_at_once() {
    let rows = vec![row(2, 1, "c"), row(3, 2, "pg1"), row(4, 3, "b")];
    let scenario = at("c")
        .rows("app", Rows::known(rows.clone()))
        .neighbour(2, &["b"], Some("b"))
        .neighbour(3, &["c"], Some("c"))
        .own_rows();
    let after = carried_out(&rows, &step(&scenario));
    let addresses: Vec<_> = after.iter().map(|row| row.address.host.as_str()).collect();
    assert_eq!(addresses, ["pg1", "b", "c"]);
}

#[test]
fn nothing_is_exchanged_on_a_guess() {
    type Change = fn(&mut Scenario);
    let changes: [(&str, Change); 9] = [
        ("never ours", |s| s.addresses.own.clear()),
        ("never theirs", |s| other(s).own.clear()),
        ("they are held", |s| other(s).held = true),
        ("their leader is not known", |s| other(s).leader = None),
        ("they want another address", |s| {
            other(s).leader.as_mut().expect("a leader").address = addr("b3");
        }),
        ("their leader is not proven", |s| other(s).proven.clear()),
        ("our leader is not proven", |s| s.known_cluster = None),
        ("etcd was restored", |s| s.trusted_lineage = Some(7)),
        ("it is a secondary row", |s| {
            let rows = vec![row(2, 1, "b"), secondary(3, 2, "pg1")];
            s.rows.insert("app".to_owned(), Rows::known(rows));
        }),
    ];
    let sound = step(&exchanged());
    for (what, change) in changes {
        let mut scenario = exchanged();
        change(&mut scenario);
        assert!(matches!(step(&scenario), Step::Wait(_)), "{what}");
        assert!(stopped(&scenario, sound.clone()).is_some(), "{what}");
    }
    assert_eq!(stopped(&exchanged(), sound), None);
}

#[test]
fn an_exchange_waits_until_each_leader_is_known_to_have_its_groups_shards() {
    let mut theirs = exchanged();
    other(&mut theirs).proven.clear();
    let waits = Wait::Exchanged {
        by: 1,
        groups: vec![1, 2],
    };
    assert_eq!(step(&theirs), Step::Wait(waits));
    let mut ours = exchanged().at_row("b", ProbeState::InRecovery);
    ours.known_cluster = None;
    let Step::Wait(wait) = step(&ours) else {
        panic!("{:?}", step(&ours))
    };
    assert_eq!(wait.counts_at(), Some(&addr("pg1")), "{wait}");
}

fn other(scenario: &mut Scenario) -> &mut Neighbour {
    let neighbours = Arc::make_mut(&mut scenario.addresses.neighbours);
    neighbours.get_mut(&2).expect("group 2")
}

#[test]
fn the_checker_stops_an_exchange_that_is_none() {
    type Change = fn(&mut Exchange);
    let Step::Exchange(sound) = step(&exchanged()) else {
        panic!("an exchange");
    };
    let changes: [(&str, Change); 8] = [
        ("one row", |e| e.parts.truncate(1)),
        ("to a third address", |e| e.parts[1].to = addr("x")),
        ("one address twice", |e| {
            e.parts[1].to = e.parts[0].to.clone();
        }),
        ("a name that is no temporary one", |e| {
            e.parts[1].temporary = addr("y");
        }),
        ("another leader key", |e| e.parts[1].revision += 1),
        ("another leader key of ours", |e| e.parts[0].revision += 1),
        ("another row", |e| e.parts[1].nodeid = 9),
        ("another place", |e| e.parts[1].from = addr("x")),
    ];
    assert_eq!(sound.parts[0].revision, LEADER_REVISION);
    for (what, change) in changes {
        let mut exchange = sound.clone();
        change(&mut exchange);
        let found = stopped(&exchanged(), Step::Exchange(exchange));
        assert!(found.is_some(), "{what}");
    }
}

#[test]
fn a_fixed_row_is_held_for_and_never_rewritten() {
    let fixed = at("vip").fixed();
    assert_eq!(step(&fixed), Step::InSync);
    assert!(fixed.clone().decide().is_in_sync());
    assert_eq!(
        stopped(&fixed, to_leader("vip")),
        Some(Violation::NotOurRow {
            address: addr("vip")
        })
    );
    let requested = fixed.requested(super::telling::request(Some("pg1"), None));
    assert!(matches!(step(&requested), Step::Hold(_)));
    let held = requested.clone().held();
    let Step::Wait(Wait::Held { stay, .. }) = step(&held) else {
        panic!("{:?}", step(&held))
    };
    assert_eq!(stay, Some(Stay::Fixed));
    // Another member leads, and takes writes.
    let followed = at("vip").fixed().leader("pg2").says(ProbeState::Writable);
    assert_eq!(step(&followed.held()), Step::LetGo);
}

#[test]
fn a_fixed_row_whose_leader_became_one_of_another_cluster_is_not_in_sync() {
    let mut scenario = at("vip").fixed();
    let said = scenario.answers.get_mut(&addr("pg1")).expect("pg1");
    said.identity.system = Some(SystemId(99));
    assert_eq!(step(&scenario), Step::InSync);
    scenario.known_cluster = Some(KnownCluster {
        system: Some(SystemId(7)),
        created: None,
    });
    assert!(matches!(step(&scenario), Step::Wait(Wait::Unproven(_))));
}

#[test]
fn a_fixed_row_is_not_registered_at_a_members_own_address() {
    let none = at("vip").fixed().registering();
    let none = none.rows("app", Rows::known(vec![row(3, 2, "other")]));
    assert!(matches!(step(&none), Step::Wait(Wait::NoRow { .. })));
    let register = Step::Register(Register {
        group: 1,
        address: addr("pg1"),
    });
    assert!(stopped(&none, register).is_some());
}

#[test]
fn a_clones_row_changes_places_with_the_row_that_follows() {
    let rows = vec![row(2, 1, "pg2"), clone_of(7, "pg1"), row(3, 2, "other")];
    let scenario = at("pg2").rows("app", Rows::known(rows.clone()));
    let moved = step(&scenario);
    let after = carried_out(&rows, &moved);
    assert_eq!(after[0].address, addr("pg1"));
    assert_eq!(after[1].address, addr("pg2"));
    assert_eq!(after[1].role, NodeRole::Clone);
    assert_eq!(
        step(&scenario.rows("app", Rows::known(after))),
        Step::InSync
    );
}

/// Writes are held, and pg2 and pg3, both synchronous, have everything.
fn held() -> Scenario {
    Scenario::quiet()
        .switchover()
        .synchronous("pg1", &["pg2", "pg3"])
        .held()
        .leader_at(100, 1)
        .standby_at("pg2", 100, 100, 1)
        .standby_at("pg3", 100, 100, 1)
}

#[test]
fn reads_of_a_hold_go_only_where_the_coordinator_gets() {
    assert_eq!(reads_to(&held().decide()), addr("pg2"), "as it was");
    assert_eq!(reads_to(&held().unreached("pg2").decide()), addr("pg3"));
    let asked = held().unreached("pg2").reach("pg3", answerer(9, true));
    assert_eq!(reads_to(&asked.decide()), addr("pg3"));
    let none = held().unreached("pg2").unreached("pg3");
    let Stay::NotReached { address, why } = stay(&none.clone().decide()).clone() else {
        panic!("{:?}", none.decide())
    };
    assert_eq!((address, why), (addr("pg2"), refused()));
    let asking = held()
        .reach("pg2", Reach::Asking)
        .reach("pg3", Reach::Asking);
    assert!(matches!(stay(&asking.decide()), Stay::ReachUnknown { .. }));
    for stops in [none, held().reach("pg2", Reach::Asking)] {
        let reads = Step::ReadMove(Move {
            nodeid: 2,
            from: addr("pg1"),
            to: addr("pg2"),
            make_way: None,
        });
        assert!(matches!(
            stopped(&stops, reads),
            Some(Violation::OutOfReach { .. })
        ));
    }
}

#[test]
fn reads_of_a_lost_leader_go_to_another_standby_that_has_everything_if_the_best_is_not_reached() {
    let lost = || {
        Scenario::quiet()
            .synchronous("pg1", &["pg2", "pg3"])
            .quorum(1)
            .lost("pg1")
            .confirmed("pg1", 1)
            .standby_at("pg2", 100, 100, 1)
            .standby_at("pg3", 100, 100, 1)
    };
    assert_eq!(reads_to(&lost().decide()), addr("pg3"), "as it was");
    assert_eq!(reads_to(&lost().unreached("pg3").decide()), addr("pg2"));
    let none = lost().unreached("pg3").unreached("pg2");
    let decision = none.decide();
    let waits = matches!(
        &decision.steps["app"],
        Step::Wait(Wait::Lost {
            stay: Stay::NotReached { .. },
            ..
        })
    );
    assert!(waits, "{decision:?}");
}

#[test]
fn why_an_address_is_not_reached_is_told_apart_by_what_is_said() {
    for (error, kind) in [
        (
            "connection to server at \"10.0.0.7\", port 5432 failed: Connection refused",
            UnreachedKind::Refused,
        ),
        ("timeout expired", UnreachedKind::Timeout),
        (
            "connection to server failed: Connection timed out",
            UnreachedKind::Timeout,
        ),
        (
            "could not translate host name \"x\" to address: Name or service not known",
            UnreachedKind::Name,
        ),
        (
            "server does not support SSL, but SSL was required",
            UnreachedKind::Tls,
        ),
        ("SSL error: certificate verify failed", UnreachedKind::Tls),
        (
            "FATAL:  no pg_hba.conf entry for host \"10.0.0.1\", user \"u\", database \"d\", no encryption",
            UnreachedKind::Authentication,
        ),
        (
            "FATAL:  password authentication failed for user \"u\"",
            UnreachedKind::Authentication,
        ),
        (
            "fe_sendauth: no password supplied",
            UnreachedKind::Authentication,
        ),
        ("No route to host", UnreachedKind::Other),
    ] {
        assert_eq!(UnreachedKind::from_error(error), kind, "{error}");
    }
}
