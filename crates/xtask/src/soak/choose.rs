//! Which operation comes next. In: random numbers, and the number of scopes. Out: an operation.
//! Nothing here looks at the lab, so a seed is a sequence of operations.

use std::time::Duration;

use super::operation::{
    CandidateDies, CoordinatorToo, Crash, Etcd, EtcdOutage, Freeze, FreezeDaemon, Futile, Hold,
    KillDaemon, Lease, Operation, Outage, Request, Role, ScopeNumber, Switchover, Then,
};
use super::random::Random;

/// Makes one kind of operation.
type Make = fn(&mut Random, &Draw) -> Operation;

/// Each kind with its weight: it is chosen so often of 119 times.
const KINDS: [(u64, Make); 15] = [
    (16, switchover),
    (10, switchovers),
    (5, |_, draw| Operation::SwitchoverAndBack(draw.any)),
    (4, candidate_dies),
    (6, coordinator_too),
    (11, restart),
    (7, |_, draw| Operation::CrashPostgres(draw.any)),
    (12, crash),
    (4, |_, draw| Operation::CrashStandby(draw.any)),
    (8, freeze),
    (6, freeze_daemon),
    (8, kill_daemon),
    (7, etcd),
    (6, request),
    (9, hold),
];

/// What is drawn for every operation, needed or not.
struct Draw {
    /// All scopes; the first one is the coordinator's.
    all: Vec<ScopeNumber>,
    any: ScopeNumber,
    worker: ScopeNumber,
    /// A moment during a switchover.
    during: Duration,
}

impl Draw {
    fn workers(&self) -> &[ScopeNumber] {
        &self.all[1..]
    }
}

/// The next operation for a lab with this many scopes.
pub(super) fn choose(random: &mut Random, scopes: usize) -> Operation {
    let all: Vec<ScopeNumber> = (0..scopes).collect();
    let draw = Draw {
        any: random.one(&all),
        worker: random.one(&all[1..]),
        during: millis(random, 0, 1500),
        all,
    };
    let make = random.weighted(&KINDS);
    make(random, &draw)
}

fn switchover(random: &mut Random, draw: &Draw) -> Operation {
    Operation::Switchover(Switchover {
        scopes: vec![draw.any],
        named: random.happens(50),
    })
}

fn switchovers(random: &mut Random, draw: &Draw) -> Operation {
    let of = if random.happens(25) {
        &draw.all
    } else {
        draw.workers()
    };
    Operation::Switchover(Switchover {
        scopes: random.some(of, 2),
        named: random.happens(50),
    })
}

fn candidate_dies(_: &mut Random, draw: &Draw) -> Operation {
    Operation::CandidateDies(CandidateDies {
        scope: draw.worker,
        after: draw.during,
    })
}

fn coordinator_too(random: &mut Random, draw: &Draw) -> Operation {
    Operation::CoordinatorToo(CoordinatorToo {
        scope: draw.worker,
        crash: random.happens(50),
        after: draw.during,
    })
}

fn restart(random: &mut Random, draw: &Draw) -> Operation {
    Operation::Restart(one_or_some(random, 30, draw))
}

fn crash(random: &mut Random, draw: &Draw) -> Operation {
    Operation::Crash(Crash {
        scopes: one_or_some(random, 20, draw),
        lease: lease(random),
    })
}

fn freeze(random: &mut Random, draw: &Draw) -> Operation {
    let role = if random.happens(65) {
        Role::Leader
    } else {
        Role::Standby
    };
    Operation::Freeze(Freeze {
        scope: draw.any,
        role,
        outage: outage(random),
        length: millis(random, 200, 6000),
        lease: if role == Role::Leader && random.happens(40) {
            lease(random)
        } else {
            Lease::Kept
        },
    })
}

fn freeze_daemon(random: &mut Random, draw: &Draw) -> Operation {
    Operation::FreezeDaemon(FreezeDaemon {
        outage: outage(random),
        length: millis(random, 200, 8000),
        meanwhile: random.happens(60).then_some(draw.any),
    })
}

fn kill_daemon(random: &mut Random, draw: &Draw) -> Operation {
    Operation::KillDaemon(KillDaemon {
        meanwhile: random.happens(70).then_some(draw.any),
        after: draw.during,
        away: millis(random, 0, 3000),
    })
}

fn etcd(random: &mut Random, _: &Draw) -> Operation {
    Operation::Etcd(Etcd {
        outage: random.one(&[EtcdOutage::Stopped, EtcdOutage::Killed, EtcdOutage::Frozen]),
        length: millis(random, 100, 6000),
    })
}

fn request(random: &mut Random, draw: &Draw) -> Operation {
    Operation::Request(Request {
        scope: draw.any,
        futile: random.one(&[Futile::Withdrawn, Futile::NoSuchCandidate, Futile::FarAway]),
        length: millis(random, 20, 1500),
    })
}

fn hold(random: &mut Random, draw: &Draw) -> Operation {
    Operation::Hold(Hold {
        scope: draw.worker,
        length: millis(random, 100, 4000),
        then: random.weighted(&[
            (4, Then::Released),
            (2, Then::Expires),
            (2, Then::Crash),
            (2, Then::Switchover),
        ]),
    })
}

/// Several workers in `percent` of the cases, any one scope otherwise.
fn one_or_some(random: &mut Random, percent: u64, draw: &Draw) -> Vec<ScopeNumber> {
    if random.happens(percent) {
        random.some(draw.workers(), 2)
    } else {
        vec![draw.any]
    }
}

fn millis(random: &mut Random, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.between(from, to))
}

/// Mostly revoked: an expiry takes the whole `ttl`.
fn lease(random: &mut Random) -> Lease {
    if random.happens(85) {
        Lease::Revoked
    } else {
        Lease::Expires
    }
}

fn outage(random: &mut Random) -> Outage {
    if random.happens(60) {
        Outage::Suspended
    } else {
        Outage::Vanished
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn sequence(seed: u64, operations: usize) -> Vec<Operation> {
        let mut random = Random::new(seed);
        (0..operations).map(|_| choose(&mut random, 4)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_operations() {
        assert_eq!(sequence(1, 200), sequence(1, 200));
        assert_ne!(sequence(1, 200), sequence(2, 200));
        assert_eq!(sequence(3, 200)[..50], sequence(3, 50));
    }

    #[test]
    fn two_hundred_operations_are_of_every_kind() {
        let kinds: BTreeSet<&str> = sequence(1, 200).iter().map(Operation::kind).collect();
        assert_eq!(kinds.len(), 17, "{kinds:?}");
    }

    #[test]
    fn every_operation_is_described_on_one_line() {
        for operation in sequence(5, 500) {
            let text = operation.to_string();
            assert!(!text.contains('\n') && text.len() < 110, "{text}");
        }
    }
}
