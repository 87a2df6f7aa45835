//! Who answered: a server of another cluster is not the leader; a scope that was made anew proves that
//! its leader has the group's shards; and without a memory the member at the row is asked first.

use dcs_watch::SystemId;

use super::super::*;
use super::builders::{LEADER_REVISION, Scenario, addr, versioned};
use super::telling::{app, asks, moved_to, reads_to, request, stay, waiting};

/// The cluster that has the shards.
const OURS: u64 = 7;
/// Another one.
const OTHER: u64 = 99;

impl Scenario {
    /// Patroni's `initialize` key, created at this revision.
    pub(super) fn scope_is(mut self, system: u64, created: i64) -> Self {
        self.view.system = Some(versioned(SystemId(system), created));
        self
    }

    /// What a member said of itself, beside its answer.
    pub(super) fn identity(mut self, host: &str, system: u64, timeline: Option<u32>) -> Self {
        let probe = self.answers.get_mut(&addr(host)).expect("an answer");
        probe.identity = Identity {
            system: Some(SystemId(system)),
            timeline,
        };
        // No two servers are started at the same microsecond.
        probe.started = Some(i64::from(host.as_bytes()[host.len() - 1]));
        self
    }

    /// The group was in sync with a leader of this cluster.
    pub(super) fn knows(mut self, system: u64, created: i64) -> Self {
        self.known_cluster = Some(KnownCluster {
            system: Some(SystemId(system)),
            created: Some(created),
        });
        self
    }

    /// So many of four shards were found at a member.
    pub(super) fn counted(self, host: &str, found: u64) -> Self {
        self.counted_as(host, found, |_| {})
    }

    fn counted_as(mut self, host: &str, found: u64, change: fn(&mut ShardCount)) -> Self {
        let mut count = ShardCount {
            expected: 4,
            found,
            missing: (found < 4).then_some(102_008),
            serves: Some(0),
            is_coordinator: false,
        };
        change(&mut count);
        self.shards
            .insert(("app".to_owned(), addr(host)), Ok(count));
        self
    }

    /// As the program is when it has just been started.
    fn just_started(mut self) -> Self {
        (self.trusted_lineage, self.known_cluster) = (None, None);
        self
    }
}

/// pg2 leads, the row is at pg1, and the scope and both members are of our cluster.
fn failed_over() -> Scenario {
    Scenario::new()
        .leader("pg2")
        .says(ProbeState::Writable)
        .at_row("pg1", ProbeState::InRecovery)
        .identity("pg1", OURS, None)
        .identity("pg2", OURS, Some(2))
        .scope_is(OURS, 5)
        .knows(OURS, 5)
}

fn unproven(decision: &Decision) -> &Unproven {
    match waiting(decision) {
        Wait::Unproven(unproven) => unproven,
        wait => panic!("expected a leader without proof, found {wait:?}"),
    }
}

#[test]
fn a_leader_of_the_same_cluster_is_followed_at_once() {
    assert_eq!(moved_to(&failed_over().decide()), addr("pg2"));
}

#[test]
fn a_server_of_another_cluster_is_not_followed_and_both_identifiers_are_named() {
    for state in [ProbeState::Writable, ProbeState::InRecovery] {
        let scenario = failed_over().says(state).identity("pg2", OTHER, Some(9));
        let decision = scenario.decide();
        assert_eq!(decision.rule, Rule::Foreign);
        let text = waiting(&decision).to_string();
        assert!(text.contains("99") && text.contains('7'), "{text}");
        assert_eq!(asks(&decision)[0], "pg2", "it is watched");
    }
}

#[test]
fn nothing_is_held_for_a_server_of_another_cluster() {
    let foreign = |scenario: Scenario| {
        scenario
            .switchover()
            .identity("pg1", OTHER, None)
            .scope_is(OURS, 5)
            .knows(OURS, 5)
    };
    let decision = foreign(Scenario::quiet()).decide();
    assert_eq!(decision.rule, Rule::Foreign);
    assert!(matches!(waiting(&decision), Wait::ForeignServer { .. }));
    // What is held already is let go.
    let decision = foreign(Scenario::quiet().held()).decide();
    assert_eq!(*app(&decision), Step::LetGo);
}

#[test]
fn a_row_at_a_lost_member_stays_while_the_leader_is_a_server_of_another_cluster() {
    let scenario = Scenario::new()
        .leader("pg3")
        .says(ProbeState::Writable)
        .identity("pg3", OTHER, None)
        .scope_is(OURS, 5)
        .knows(OURS, 5)
        .lost("pg1")
        .confirmed("pg1", 3)
        .synchronous("pg1", &["pg2"])
        .standby_at("pg2", 100, 100, 3);
    let decision = scenario.decide();
    assert!(matches!(waiting(&decision), Wait::ForeignServer { .. }));
}

#[test]
fn where_nobody_says_which_cluster_it_is_rows_follow_as_ever() {
    let mut silent = failed_over();
    for probe in silent.answers.values_mut() {
        probe.identity = Identity::default();
    }
    assert_eq!(moved_to(&silent.decide()), addr("pg2"));
    let mut no_key = failed_over();
    no_key.view.system = None;
    no_key.known_cluster.as_mut().expect("known").created = None;
    assert_eq!(moved_to(&no_key.decide()), addr("pg2"));
}

#[test]
fn a_scope_made_anew_is_followed_once_its_leader_has_the_shards() {
    let made_anew = || {
        failed_over()
            .scope_is(OTHER, 60)
            .identity("pg2", OTHER, Some(1))
    };
    let decision = made_anew().decide();
    assert_eq!(decision.rule, Rule::Blocked);
    assert_eq!(
        *unproven(&decision),
        Unproven::NotCounted {
            address: addr("pg2"),
            error: None
        }
    );
    assert_eq!(waiting(&decision).counts_at(), Some(&addr("pg2")));
    // An empty cluster under the old name.
    let decision = made_anew().counted("pg2", 0).decide();
    let text = unproven(&decision).to_string();
    for part in ["0 of the 4 shards of group 1", "102008", "99", "7;"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(
        waiting(&decision).counts_at(),
        Some(&addr("pg2")),
        "they are counted again"
    );
    // All but one is not enough.
    let decision = made_anew().counted("pg2", 3).decide();
    assert!(matches!(unproven(&decision), Unproven::Missing { .. }));
    // pg_upgrade: another identifier, and the shards are there.
    let decision = made_anew().counted("pg2", 4).decide();
    assert_eq!(moved_to(&decision), addr("pg2"));
}

#[test]
fn a_group_without_shards_has_nothing_to_prove() {
    let decision = failed_over()
        .scope_is(OTHER, 60)
        .identity("pg2", OTHER, Some(1))
        .counted_as("pg2", 0, |count| {
            (count.expected, count.missing) = (0, None);
        })
        .decide();
    assert_eq!(moved_to(&decision), addr("pg2"));
}

#[test]
fn a_server_that_serves_another_group_and_the_coordinator_are_no_leaders_of_this_one() {
    let made_anew = failed_over()
        .scope_is(OTHER, 60)
        .identity("pg2", OTHER, Some(1));
    let own = |count: &mut ShardCount| count.serves = Some(1);
    let decision = made_anew.clone().counted_as("pg2", 4, own).decide();
    assert_eq!(moved_to(&decision), addr("pg2"));
    let other = |count: &mut ShardCount| count.serves = Some(2);
    let decision = made_anew.clone().counted_as("pg2", 4, other).decide();
    assert!(matches!(
        unproven(&decision),
        Unproven::OtherGroup { serves: 2, .. }
    ));
    let coordinator = |count: &mut ShardCount| count.is_coordinator = true;
    let decision = made_anew.counted_as("pg2", 4, coordinator).decide();
    assert!(matches!(unproven(&decision), Unproven::Coordinator { .. }));
}

#[test]
fn a_scope_made_anew_at_the_very_address_of_the_row_is_not_in_sync_without_the_shards() {
    let reused = || {
        Scenario::quiet()
            .identity("pg1", OTHER, Some(1))
            .scope_is(OTHER, 60)
            .knows(OURS, 5)
    };
    let decision = reused().decide();
    assert!(matches!(unproven(&decision), Unproven::NotCounted { .. }));
    let decision = reused().counted("pg1", 0).decide();
    assert!(matches!(unproven(&decision), Unproven::Missing { .. }));
    assert!(!decision.is_at_rest(), "it is not remembered as good");
    assert!(reused().counted("pg1", 4).decide().is_in_sync());
    // Nothing is held for it either.
    let decision = reused().counted("pg1", 0).switchover().decide();
    assert!(matches!(unproven(&decision), Unproven::Missing { .. }));
}

/// `patronictl remove` and a restore from a backup: the identifier is the same, the copy is old.
#[test]
fn a_restored_copy_is_not_followed_while_the_member_at_the_row_takes_writes() {
    let restored = |state, written| {
        failed_over()
            .scope_is(OURS, 60)
            .answers("pg2", ProbeState::Writable, (Some(written), None), 0)
            .identity("pg2", OURS, Some(3))
            .answers("pg1", state, (Some(100), None), 0)
            .identity("pg1", OURS, Some(2))
            .counted("pg2", 4)
    };
    let decision = restored(ProbeState::Writable, 40).decide();
    assert!(matches!(waiting(&decision), Wait::OlderLeader { .. }));
    let stopped = restored(ProbeState::Unreachable("refused".to_owned()), 40);
    assert_eq!(moved_to(&stopped.decide()), addr("pg2"));
}

#[test]
fn at_a_start_the_member_at_the_row_is_asked_first() {
    let started = || {
        failed_over()
            .just_started()
            .counted("pg2", 4)
            .answers("pg2", ProbeState::Writable, (Some(100), None), 0)
            .identity("pg2", OURS, Some(2))
    };
    let mut not_asked = started();
    not_asked.answers.remove(&addr("pg1"));
    let decision = not_asked.decide();
    assert!(matches!(waiting(&decision), Wait::RowNotAsked { .. }));
    assert!(asks(&decision).contains(&"pg1"));
    // It follows, or is gone.
    assert_eq!(moved_to(&started().decide()), addr("pg2"));
    for gone in [
        ProbeState::Unreachable("refused".to_owned()),
        ProbeState::Refuses("not you".to_owned()),
    ] {
        let decision = started().at_row("pg1", gone).decide();
        assert_eq!(moved_to(&decision), addr("pg2"));
    }
}

#[test]
fn at_a_start_a_row_moves_away_from_a_primary_only_to_a_newer_one() {
    let both_write = |at_row: (u32, u64), leader: (u32, u64)| {
        failed_over()
            .just_started()
            .counted("pg2", 4)
            .answers("pg1", ProbeState::Writable, (Some(at_row.1), None), 0)
            .identity("pg1", OURS, Some(at_row.0))
            .answers("pg2", ProbeState::Writable, (Some(leader.1), None), 0)
            .identity("pg2", OURS, Some(leader.0))
    };
    // etcd was restored: its leader is the older one.
    for (at_row, leader) in [
        ((2, 100), (1, 90)),
        ((2, 100), (2, 100)),
        ((2, 100), (1, 200)),
        ((2, 100), (3, 90)),
    ] {
        let decision = both_write(at_row, leader).decide();
        assert_eq!(decision.rule, Rule::Blocked);
        let Wait::OlderLeader { address, .. } = waiting(&decision) else {
            panic!("{decision:?}");
        };
        assert_eq!(*address, addr("pg1"));
        assert!(asks(&decision).contains(&"pg1"));
        // Nothing is held meanwhile.
        let decision = both_write(at_row, leader)
            .requested(request(Some("pg2"), None))
            .decide();
        assert!(matches!(waiting(&decision), Wait::OlderLeader { .. }));
    }
    // A primary that was left behind, which nobody fenced.
    let decision = both_write((1, 90), (2, 100)).decide();
    assert_eq!(moved_to(&decision), addr("pg2"));
    // The row names the very server that leads, by another name.
    let decision = both_write((2, 100), (2, 100))
        .started("pg1", 7)
        .started("pg2", 7);
    assert_eq!(moved_to(&decision.decide()), addr("pg2"));
    // A primary of another cluster is none of this one's.
    let decision = both_write((2, 100), (1, 90))
        .identity("pg1", OTHER, Some(2))
        .decide();
    assert_eq!(moved_to(&decision), addr("pg2"));
}

#[test]
fn at_a_start_the_shards_are_counted_before_a_row_moves() {
    let started = failed_over().just_started();
    assert!(matches!(
        unproven(&started.clone().decide()),
        Unproven::NotCounted { .. }
    ));
    let decision = started.clone().counted("pg2", 0).decide();
    assert!(
        matches!(
            unproven(&decision),
            Unproven::Missing { known: Some(_), .. }
        ),
        "{decision:?}"
    );
    // A row that is where it should be needs no proof: nothing is changed.
    let quiet = Scenario::quiet().just_started();
    assert!(quiet.decide().is_in_sync());
}

#[test]
fn the_coordinators_own_group_is_counted_by_nobody() {
    let rows = vec![super::builders::row(1, 0, "pg1")];
    let decision = failed_over()
        .just_started()
        .group(0)
        .rows("app", Rows::known(rows))
        .decide();
    assert_eq!(moved_to(&decision), addr("pg2"));
}

#[test]
fn reads_never_go_to_a_standby_of_another_cluster() {
    let lost = || {
        Scenario::quiet()
            .lost("pg1")
            .confirmed("pg1", 3)
            .standby_at("pg2", 100, 100, 3)
            .scope_is(OURS, 5)
            .knows(OURS, 5)
    };
    let decision = lost().identity("pg2", OURS, None).decide();
    assert_eq!(reads_to(&decision), addr("pg2"));
    let decision = lost().identity("pg2", OTHER, None).decide();
    assert_eq!(*stay(&decision), Stay::NoStandby);
    // In a hold the leader itself says which cluster it is.
    let held = |system| {
        let mut scenario = Scenario::quiet().switchover().held();
        scenario = scenario
            .answers("pg1", ProbeState::Writable, (Some(100), None), 3)
            .identity("pg1", OURS, Some(1))
            .standby_at("pg2", 100, 100, 3)
            .identity("pg2", system, None);
        scenario.known_cluster.as_mut().expect("known").system = Some(SystemId(OURS));
        scenario.decide()
    };
    assert_eq!(reads_to(&held(OURS)), addr("pg2"));
    assert!(matches!(
        waiting(&held(OTHER)),
        Wait::Held { stay: Some(_), .. }
    ));
}

#[test]
fn after_a_loss_reads_go_to_a_scope_that_is_new_to_us_only_with_its_shards() {
    let lost = || {
        Scenario::quiet()
            .lost("pg1")
            .confirmed("pg1", 3)
            .standby_at("pg2", 100, 100, 3)
            .just_started()
    };
    let decision = lost().decide();
    assert!(stay(&decision).to_string().contains("is being asked"));
    assert_eq!(waiting(&decision).counts_at(), Some(&addr("pg2")));
    assert_eq!(reads_to(&lost().counted("pg2", 4).decide()), addr("pg2"));
    let decision = lost().counted("pg2", 0).decide();
    assert!(stay(&decision).to_string().contains("0 of the 4 shards"));
}

/// The checker needs no table to see it.
#[test]
fn the_checker_stops_what_goes_to_a_server_that_is_not_what_it_is_taken_for() {
    use crate::invariants::{Violation, check};

    let step = Step::Move(Move {
        nodeid: 2,
        from: addr("pg1"),
        to: addr("pg2"),
        make_way: None,
    });
    let hold = Step::Hold(Hold {
        nodeid: 2,
        reason: Reason::HoldRequest { id: 1 },
    });
    let judge = |scenario: &Scenario, step: &Step| {
        let mut decision = scenario.with(decide);
        decision.steps.insert("app".to_owned(), step.clone());
        scenario.with(|situation| check(situation, &decision))
    };
    assert_eq!(judge(&failed_over(), &step), Ok(()));
    let foreign = failed_over().identity("pg2", OTHER, None);
    let address = addr("pg2");
    let found = Err(Violation::ForeignServer { address });
    assert_eq!(judge(&foreign, &step), found);
    assert_eq!(judge(&foreign, &hold), found);
    let address = addr("pg2");
    let unproven = Err(Violation::UnprovenShards { address });
    let made_anew = failed_over().scope_is(OURS, 60);
    assert_eq!(judge(&made_anew, &step), unproven);
    assert_eq!(judge(&made_anew.clone().counted("pg2", 3), &step), unproven);
    let coordinator = made_anew
        .clone()
        .counted_as("pg2", 4, |count| count.is_coordinator = true);
    assert_eq!(judge(&coordinator, &step), unproven);
    assert_eq!(judge(&made_anew.clone().counted("pg2", 4), &step), Ok(()));
    let two = made_anew
        .counted("pg2", 4)
        .at_row("pg1", ProbeState::Writable)
        .started("pg1", 7);
    let address = addr("pg1");
    assert_eq!(
        judge(&two, &step),
        Err(Violation::UnprovenLineage { address })
    );
    assert_eq!(LEADER_REVISION, 40, "the answers above are to this key");
}
