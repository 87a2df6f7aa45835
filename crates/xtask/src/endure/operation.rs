//! What is done to a formation. In: chance, and how many scopes there are. Out: one operation
//! after the other, told in words. Nothing here looks at the world, so a seed is a sequence.

use std::time::Duration;

use super::chance::Chance;

/// A scope by its place in the lab: 0 is the coordinator's.
pub(super) type Place = usize;

/// One operation. Members are named by their role, as who has it depends on what happened before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Patroni is asked for switchovers, all at once.
    Switchover { scopes: Vec<Place>, named: bool },
    /// Asked for another one as soon as the first is over.
    ThereAndBack { scope: Place },
    /// A switchover, and in the middle of it the member that is to lead dies.
    LosesItsHeir { scope: Place, after: Duration },
    /// A switchover, and in the middle of it the coordinator is switched over, or dies.
    CoordinatorToo {
        scope: Place,
        crash: bool,
        after: Duration,
    },
    /// Patroni is asked to restart the leader's PostgreSQL, in all of them at once.
    Restart { scopes: Vec<Place> },
    /// PostgreSQL of the leader dies, Patroni lives.
    CrashPostgres { scope: Place },
    /// The leaders' Patroni and PostgreSQL die.
    Crash { scopes: Vec<Place>, lease: Lease },
    /// A standby's Patroni and PostgreSQL die.
    CrashStandby { scope: Place },
    /// A member does nothing for a while.
    Freeze {
        scope: Place,
        who: Who,
        how: How,
        length: Duration,
        lease: Lease,
    },
    /// The daemon does nothing for a while, while a switchover may be made.
    FreezeDaemon {
        how: How,
        length: Duration,
        meanwhile: Option<Place>,
    },
    /// The daemon dies, in the middle of a switchover perhaps, and is started again.
    KillDaemon {
        meanwhile: Option<Place>,
        after: Duration,
        away: Duration,
    },
    /// etcd is away for a while.
    Etcd { how: Away, length: Duration },
    /// Somebody writes a request into etcd that comes to nothing.
    Request {
        scope: Place,
        what: Futile,
        length: Duration,
    },
    /// `citus-sync hold`.
    Hold {
        scope: Place,
        length: Duration,
        then: Then,
    },
}

/// What becomes of the lease of a leader that cannot renew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// It is ended at once, as the passing of `ttl` would.
    Revoked,
    /// It runs out by itself.
    RunsOut,
    /// The member is back before it runs out.
    Kept,
}

/// A member by its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Leader,
    Standby,
}

/// How somebody does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// SIGSTOP: the kernel goes on to answer for it.
    Stopped,
    /// Every packet for it is dropped, too.
    Silent,
}

/// How etcd is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Away {
    Stopped,
    Killed,
    Frozen,
}

/// Why a request comes to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Futile {
    /// It is withdrawn, perhaps before Patroni has seen it.
    Withdrawn,
    /// Its candidate does not exist.
    ForNobody,
    /// Its time is far off, and it is withdrawn.
    FarOff,
}

/// How a hold goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Released,
    /// Nobody releases it.
    RunsOut,
    /// The leader dies.
    Crash,
    /// A switchover comes.
    Switchover,
}

impl Operation {
    /// The next one, of a lab with this many scopes.
    pub(super) fn choose(chance: &mut Chance, scopes: usize) -> Self {
        let all: Vec<Place> = (0..scopes).collect();
        let workers = &all[1..];
        let any = chance.one(&all);
        let worker = chance.one(workers);
        let middle = millis(chance, 0, 1500);
        let sort = chance.weighted(&[
            (16, 0),
            (10, 1),
            (5, 2),
            (4, 3),
            (6, 4),
            (11, 5),
            (7, 6),
            (12, 7),
            (4, 8),
            (8, 9),
            (6, 10),
            (8, 11),
            (7, 12),
            (6, 13),
            (9, 14),
        ]);
        match sort {
            0 => Self::Switchover {
                scopes: vec![any],
                named: chance.happens(50),
            },
            1 => {
                let of = if chance.happens(25) { &all } else { workers };
                Self::Switchover {
                    scopes: chance.some(of, 2),
                    named: chance.happens(50),
                }
            }
            2 => Self::ThereAndBack { scope: any },
            3 => Self::LosesItsHeir {
                scope: worker,
                after: middle,
            },
            4 => Self::CoordinatorToo {
                scope: worker,
                crash: chance.happens(50),
                after: middle,
            },
            5 => Self::Restart {
                scopes: one_or_some(chance, 30, any, workers),
            },
            6 => Self::CrashPostgres { scope: any },
            7 => Self::Crash {
                scopes: one_or_some(chance, 20, any, workers),
                lease: lease(chance),
            },
            8 => Self::CrashStandby { scope: any },
            9 => Self::freeze(chance, any),
            10 => Self::FreezeDaemon {
                how: how(chance),
                length: millis(chance, 200, 8000),
                meanwhile: chance.happens(60).then_some(any),
            },
            11 => Self::KillDaemon {
                meanwhile: chance.happens(70).then_some(any),
                after: middle,
                away: millis(chance, 0, 3000),
            },
            12 => Self::Etcd {
                how: chance.one(&[Away::Stopped, Away::Killed, Away::Frozen]),
                length: millis(chance, 100, 6000),
            },
            13 => Self::Request {
                scope: any,
                what: chance.one(&[Futile::Withdrawn, Futile::ForNobody, Futile::FarOff]),
                length: millis(chance, 20, 1500),
            },
            _ => Self::hold(chance, worker),
        }
    }

    fn freeze(chance: &mut Chance, scope: Place) -> Self {
        let who = if chance.happens(65) {
            Who::Leader
        } else {
            Who::Standby
        };
        Self::Freeze {
            scope,
            who,
            how: how(chance),
            length: millis(chance, 200, 6000),
            lease: if who == Who::Leader && chance.happens(40) {
                lease(chance)
            } else {
                Lease::Kept
            },
        }
    }

    fn hold(chance: &mut Chance, scope: Place) -> Self {
        Self::Hold {
            scope,
            length: millis(chance, 100, 4000),
            then: chance.weighted(&[
                (4, Then::Released),
                (2, Then::RunsOut),
                (2, Then::Crash),
                (2, Then::Switchover),
            ]),
        }
    }

    /// What it is counted as.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Switchover { scopes, .. } if scopes.len() > 1 => "switchovers at once",
            Self::Switchover { .. } => "switchover",
            Self::ThereAndBack { .. } => "there and back",
            Self::LosesItsHeir { .. } => "switchover whose heir dies",
            Self::CoordinatorToo { crash: true, .. } => "switchover, coordinator dies",
            Self::CoordinatorToo { .. } => "switchover, coordinator too",
            Self::Restart { .. } => "restart",
            Self::CrashPostgres { .. } => "crash of PostgreSQL alone",
            Self::Crash { .. } => "crash",
            Self::CrashStandby { .. } => "crash of a standby",
            Self::Freeze {
                who: Who::Leader, ..
            } => "leader frozen",
            Self::Freeze { .. } => "standby frozen",
            Self::FreezeDaemon { .. } => "daemon frozen",
            Self::KillDaemon { .. } => "daemon killed",
            Self::Etcd { .. } => "etcd away",
            Self::Request { .. } => "request for nothing",
            Self::Hold { .. } => "hold by hand",
        }
    }

    /// Scopes of which a member ends: who is connected to it loses the connection, whatever anybody does.
    pub(super) fn ends(&self) -> Vec<Place> {
        match self {
            Self::Switchover { scopes, .. }
            | Self::Restart { scopes }
            | Self::Crash { scopes, .. } => scopes.clone(),
            Self::ThereAndBack { scope }
            | Self::LosesItsHeir { scope, .. }
            | Self::CrashPostgres { scope }
            | Self::CrashStandby { scope }
            | Self::Freeze { scope, .. }
            | Self::Request { scope, .. }
            | Self::Hold { scope, .. } => vec![*scope],
            Self::CoordinatorToo { scope, .. } => vec![0, *scope],
            Self::FreezeDaemon { meanwhile, .. } | Self::KillDaemon { meanwhile, .. } => {
                meanwhile.iter().copied().collect()
            }
            Self::Etcd { .. } => Vec::new(),
        }
    }

    /// A scope whose old leader may wake up and answer its own clients although another one leads:
    /// without a watchdog nothing fences it, and what it reads is old.
    pub(super) fn unfenced(&self) -> Option<Place> {
        match self {
            Self::Freeze {
                scope,
                who: Who::Leader,
                lease: Lease::Revoked | Lease::RunsOut,
                ..
            } => Some(*scope),
            _ => None,
        }
    }
}

/// Several workers' scopes, so many times of a hundred.
fn one_or_some(chance: &mut Chance, percent: u64, one: Place, workers: &[Place]) -> Vec<Place> {
    if chance.happens(percent) {
        chance.some(workers, 2)
    } else {
        vec![one]
    }
}

fn millis(chance: &mut Chance, from: u64, to: u64) -> Duration {
    Duration::from_millis(chance.between(from, to))
}

/// Few have the time to wait for `ttl`.
fn lease(chance: &mut Chance) -> Lease {
    if chance.happens(85) {
        Lease::Revoked
    } else {
        Lease::RunsOut
    }
}

fn how(chance: &mut Chance) -> How {
    if chance.happens(60) {
        How::Stopped
    } else {
        How::Silent
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn sequence(seed: u64, operations: usize) -> Vec<Operation> {
        let mut chance = Chance::new(seed);
        (0..operations)
            .map(|_| Operation::choose(&mut chance, 4))
            .collect()
    }

    #[test]
    fn a_seed_is_a_sequence() {
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
    fn every_operation_is_one_line() {
        for operation in sequence(5, 500) {
            let text = operation.to_string();
            assert!(!text.contains('\n') && text.len() < 110, "{text}");
        }
    }
}
