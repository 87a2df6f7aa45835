//! Any story: whatever happens in whatever order, the rules hold at each step, and when the world
//! is well again the group is settled.

use proptest::prelude::*;

use super::super::*;
use super::world::{DATABASES, Event, HOLD_TIMEOUT, HOSTS, Synchronous, World};

/// How often something happens, and what, by a number that says to whom and how much.
type Chance = (u32, fn(u32) -> Event);

fn host(seed: u32) -> &'static str {
    HOSTS[seed as usize % HOSTS.len()]
}

fn database(seed: u32) -> &'static str {
    DATABASES[seed as usize % DATABASES.len()]
}

fn some_host(seed: u32) -> Option<&'static str> {
    HOSTS.get(seed as usize % (HOSTS.len() + 1)).copied()
}

/// Most of it is the ordinary course of things; what breaks is mended more often than it breaks,
/// or little would ever be decided.
const CHANCES: &[Chance] = &[
    // Clients and the logs.
    (50, |n| Event::Write(n as usize % 2)),
    (40, |n| Event::Stream(host(n), n as usize / 4 % 6)),
    (40, |n| Event::Replay(host(n), n as usize / 4 % 6)),
    (40, |_| Event::CatchUp),
    // PostgreSQL and Patroni.
    (15, |n| Event::Crash(host(n))),
    (25, |n| Event::Start(host(n))),
    (10, |n| Event::Rewind(host(n))),
    (20, |_| Event::LeaderKeyExpires),
    (5, |n| Event::MemberKeyExpires(host(n))),
    (40, |_| Event::LeaderLeaves),
    (20, |n| Event::Promote(host(n))),
    (20, |_| Event::PromotionEnds),
    (20, |n| Event::LookForStandbys(n)),
    (10, |_| Event::Heartbeat),
    (100, |_| Event::PatroniGoesOn),
    // People.
    (25, |n| Event::Request {
        leaving: some_host(n),
        candidate: some_host(n / 4),
        at: (n / 16 % 4 == 0).then_some(u64::from(n) / 64 % 2_000),
    }),
    (40, |n| Event::Switchover(some_host(n))),
    (15, |_| Event::Withdraw),
    (4, |_| Event::AskForHold),
    (4, |_| Event::Release),
    (30, |n| Event::Wait(u64::from(n) % 500)),
    (4, |n| Event::Wait(u64::from(n) % (2 * HOLD_TIMEOUT))),
    // What we are told.
    (140, |n| Event::Answer(host(n))),
    (50, |n| Event::CoordinatorSays(host(n))),
    (170, |_| Event::EverybodyAnswers),
    // The network.
    (6, |n| Event::CutFromUs(host(n))),
    (6, |n| Event::CutFromCoordinator(host(n))),
    (25, |n| Event::Heal(host(n))),
    (4, |_| Event::EtcdIsSilent),
    (15, |_| Event::EtcdIsBack),
    (3, |_| Event::EtcdIsRestored),
    // The coordinator.
    (3, |n| Event::CoordinatorIsLost {
        forgets: n % 2 == 1,
    }),
    (20, |_| Event::CoordinatorIsBack),
    (40, |n| Event::LocksCome(database(n))),
    (4, |n| Event::LocksFail(database(n))),
    (8, |n| Event::HoldIsLost(database(n))),
    (4, |n| Event::Break(database(n))),
    (20, |n| Event::Mend(database(n))),
    (4, |n| Event::Disconnect(database(n))),
    (20, |n| Event::Connect(database(n))),
    // This program.
    (2, |_| Event::Stop),
    (8, |_| Event::NewProgram),
];

/// One number each, looked up: a union of so many strategies takes longer to draw from than the
/// world takes to live through what was drawn.
fn event() -> impl Strategy<Value = Event> {
    let all: u32 = CHANCES.iter().map(|(often, _)| often).sum();
    (0..all, any::<u32>()).prop_map(|(mut place, seed)| {
        for (often, event) in CHANCES {
            match place.checked_sub(*often) {
                None => return event(seed),
                Some(rest) => place = rest,
            }
        }
        unreachable!("a place beyond the last")
    })
}

fn liberties() -> impl Strategy<Value = Liberties> {
    let max_lag = prop::option::weighted(0.3, 0..64_u64);
    (prop::bool::weighted(0.9), max_lag, any::<bool>()).prop_map(
        |(read_move, max_lag, hold_on_leader_loss)| Liberties {
            read_move,
            max_lag,
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
        liberties in liberties(),
        events in prop::collection::vec(event(), 0..120),
    ) {
        let mut world = World::new(synchronous, liberties);
        for event in events {
            world.happens(event);
        }
        world.heal();
        world.assert_settled();
    }
}
