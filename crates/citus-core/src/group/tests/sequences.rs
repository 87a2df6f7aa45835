//! Random transitions: whatever happens in whatever order, the rules hold at each step, and when the world
//! is well again the group is in sync.

use proptest::prelude::*;

use super::fixture::{DATABASES, Event, Fixture, HOLD_TIMEOUT, HOSTS, Synchronous};
use crate::plan::Limits;

/// How often something happens: in any transition, in one of lost leaders, in one of switchovers. And
/// what, by a number that says to whom and how much.
type Chance = ([u32; 3], fn(u32) -> Event);

fn host(seed: u32) -> &'static str {
    HOSTS[seed as usize % HOSTS.len()]
}

/// pg1, as a rule: it leads to begin with.
fn leader(seed: u32) -> &'static str {
    if seed.is_multiple_of(4) {
        host(seed / 4)
    } else {
        "pg1"
    }
}

/// pg2 or pg3, as a rule.
fn standby(seed: u32) -> &'static str {
    if seed.is_multiple_of(8) {
        host(seed / 8)
    } else {
        HOSTS[1 + seed as usize % 2]
    }
}

fn database(seed: u32) -> &'static str {
    DATABASES[seed as usize % DATABASES.len()]
}

fn some_host(seed: u32) -> Option<&'static str> {
    HOSTS.get(seed as usize % (HOSTS.len() + 1)).copied()
}

/// Most of it is the ordinary course of things; what breaks is fixed more often than it breaks,
/// or little would ever be decided.
const CHANCES: &[Chance] = &[
    // Clients and the logs.
    ([80, 120, 100], |n| Event::Write(n as usize % 2)),
    ([40, 40, 60], |n| {
        Event::WriteThroughEntryNode(n as usize % 2)
    }),
    ([20, 20, 40], |n| Event::WriteAtLeader(n as usize % 2)),
    ([80, 240, 160], |n| {
        Event::Stream(standby(n), n as usize / 16 % 4)
    }),
    ([80, 160, 160], |n| {
        Event::Replay(standby(n), n as usize / 16 % 4)
    }),
    ([40, 10, 10], |_| Event::CatchUp),
    // PostgreSQL and Patroni.
    ([15, 25, 3], |n| Event::Crash(leader(n))),
    ([25, 15, 10], |n| Event::Start(host(n))),
    ([10, 10, 10], |n| Event::Rewind(host(n))),
    ([20, 10, 5], |_| Event::LeaderKeyExpires),
    ([5, 10, 0], |n| Event::MemberKeyExpires(leader(n))),
    ([40, 0, 20], |_| Event::LeaderLeaves),
    ([20, 10, 10], |n| Event::Promote(standby(n))),
    ([20, 10, 20], |_| Event::PromotionEnds),
    ([20, 30, 20], |n| Event::LookForStandbys(n)),
    ([10, 20, 0], |_| Event::Heartbeat),
    ([100, 15, 15], |_| Event::PatroniGoesOn),
    // People.
    ([25, 0, 10], |n| Event::Request {
        leaving: some_host(n),
        candidate: some_host(n / 4),
        at: (n / 16 % 4 == 0).then_some(u64::from(n) / 64 % 2_000),
    }),
    ([40, 0, 80], |n| Event::Switchover(some_host(n))),
    ([15, 0, 20], |_| Event::Withdraw),
    ([4, 0, 4], |_| Event::AskForHold),
    ([4, 0, 2], |_| Event::Release),
    ([30, 5, 10], |n| Event::Wait(u64::from(n) % 500)),
    ([4, 0, 4], |n| {
        Event::Wait(u64::from(n) % (2 * HOLD_TIMEOUT))
    }),
    // What we are told.
    ([100, 100, 120], |n| Event::Answer(standby(n))),
    ([60, 20, 100], |n| Event::Answer(leader(n))),
    ([50, 80, 10], |n| Event::CoordinatorSays(leader(n))),
    ([170, 10, 30], |_| Event::EverybodyAnswers),
    // The network.
    ([6, 25, 0], |n| Event::CutFromUs(leader(n))),
    ([6, 20, 0], |n| Event::CutFromCoordinator(leader(n))),
    ([25, 20, 0], |n| Event::Heal(host(n))),
    ([6, 6, 6], |n| Event::Intrude(host(n))),
    ([6, 4, 4], |_| Event::ScopeIsMadeAnew),
    ([4, 0, 0], |_| Event::EtcdIsSilent),
    ([15, 0, 0], |_| Event::EtcdIsBack),
    ([3, 2, 2], |_| Event::EtcdIsRestored),
    // The coordinator.
    ([3, 0, 0], |n| Event::CoordinatorIsLost {
        forgets: n % 2 == 1,
    }),
    ([20, 0, 0], |_| Event::CoordinatorIsBack),
    ([40, 10, 100], |n| Event::LocksCome(database(n))),
    ([4, 0, 4], |n| Event::LocksFail(database(n))),
    ([8, 4, 20], |n| Event::HoldIsLost(database(n))),
    ([40, 10, 60], |n| Event::EntryNodeGoesOn(database(n))),
    ([6, 2, 10], |n| Event::EntryNodeFails(database(n))),
    ([6, 2, 10], |n| Event::EntryNodeIsLost(database(n))),
    ([4, 0, 4], |n| Event::Break(database(n))),
    ([20, 0, 20], |n| Event::Fix(database(n))),
    ([4, 0, 0], |n| Event::Disconnect(database(n))),
    ([20, 0, 0], |n| Event::Connect(database(n))),
    // This program.
    ([2, 0, 0], |_| Event::Stop),
    ([8, 0, 2], |_| Event::NewProgram),
];

/// One number an event, looked up: a union of so many strategies takes longer to draw from than
/// the world takes to live through what was drawn.
fn event(theme: usize) -> impl Strategy<Value = Event> {
    let all: u32 = CHANCES.iter().map(|(often, _)| often[theme]).sum();
    (0..all, any::<u32>()).prop_map(move |(mut place, seed)| {
        for (often, event) in CHANCES {
            match place.checked_sub(often[theme]) {
                None => return event(seed),
                Some(rest) => place = rest,
            }
        }
        unreachable!("a place beyond the last")
    })
}

/// A long sequence of everything, or a short one with a theme.
fn events() -> impl Strategy<Value = Vec<Event>> {
    prop_oneof![
        prop::collection::vec(event(0), 0..120),
        prop::collection::vec(event(1), 0..60),
        prop::collection::vec(event(2), 0..60),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let max_lag = prop::option::weighted(0.3, 0..64_u64);
    let usually = prop::bool::weighted(0.9);
    (usually, max_lag, usually, any::<bool>()).prop_map(
        |(read_move, max_lag, hold_on_request, hold_on_leader_loss)| Limits {
            read_move,
            max_lag,
            hold_on_request,
            hold_on_leader_loss,
        },
    )
}

fn synchronous() -> impl Strategy<Value = Synchronous> {
    let all = [Synchronous::Off, Synchronous::On, Synchronous::Quorum];
    prop::sample::select(all.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold_and_it_ends_well(
        synchronous in synchronous(),
        limits in limits(),
        events in events(),
    ) {
        let mut fixture = Fixture::new(synchronous, limits);
        for event in events {
            fixture.happens(event);
        }
        fixture.happens(Event::CatchUp);
        fixture.everybody_answers();
        fixture.assert_reads_are_served();
        fixture.heal();
        fixture.assert_in_sync();
    }
}
