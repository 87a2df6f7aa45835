//! An operation in words, on one line.

use std::fmt;

use super::operation::{
    CoordinatorToo, EtcdOutage, Freeze, FreezeDaemon, Futile, Hold, KillDaemon, Lease, Operation,
    Outage, Role, ScopeNumber, Switchover, Then,
};

/// `cn`, `wk1`, … as the lab names them.
pub(super) fn name(scope: ScopeNumber) -> String {
    match scope {
        0 => lab::cluster::COORDINATOR.into(),
        number => format!("wk{number}"),
    }
}

fn names(scopes: &[ScopeNumber]) -> String {
    let names: Vec<String> = scopes.iter().map(|scope| name(*scope)).collect();
    names.join(", ")
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switchover(switchover) => switchover.fmt(f),
            Self::SwitchoverAndBack(scope) => {
                write!(f, "switchover of {} and back", name(*scope))
            }
            Self::CandidateDies(dies) => {
                let (scope, after) = (name(dies.scope), dies.after);
                write!(
                    f,
                    "switchover of {scope}, its candidate dies after {after:?}"
                )
            }
            Self::CoordinatorToo(too) => too.fmt(f),
            Self::Restart(scopes) => write!(f, "restart of {}", names(scopes)),
            Self::CrashPostgres(scope) => {
                write!(f, "crash of PostgreSQL alone of {}", name(*scope))
            }
            Self::Crash(crash) => write!(f, "crash of {}, {}", names(&crash.scopes), crash.lease),
            Self::CrashStandby(scope) => write!(f, "crash of a standby of {}", name(*scope)),
            Self::Freeze(freeze) => freeze.fmt(f),
            Self::FreezeDaemon(freeze) => freeze.fmt(f),
            Self::KillDaemon(kill) => kill.fmt(f),
            Self::Etcd(etcd) => write!(f, "etcd is {} for {:?}", etcd.outage, etcd.length),
            Self::Request(request) => {
                let (scope, after) = (name(request.scope), request.length);
                write!(
                    f,
                    "a request for {scope} {} after {after:?}",
                    request.futile
                )
            }
            Self::Hold(hold) => hold.fmt(f),
        }
    }
}

impl fmt::Display for Switchover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = if self.named { "with" } else { "without" };
        write!(
            f,
            "switchover of {} {with} a candidate",
            names(&self.scopes)
        )
    }
}

impl fmt::Display for CoordinatorToo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scope, after) = (name(self.scope), self.after);
        let what = if self.crash {
            "dies"
        } else {
            "is switched over"
        };
        write!(
            f,
            "switchover of {scope}, the coordinator {what} after {after:?}"
        )
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (role, scope) = (self.role, name(self.scope));
        write!(
            f,
            "{role} of {scope} is {} for {:?}",
            self.outage, self.length
        )?;
        match self.lease {
            Lease::Kept => Ok(()),
            lease => write!(f, " or until another member leads, {lease}"),
        }
    }
}

impl fmt::Display for FreezeDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the daemon is {} for {:?}", self.outage, self.length)?;
        match self.meanwhile {
            None => Ok(()),
            Some(scope) => write!(f, " during a switchover of {}", name(scope)),
        }
    }
}

impl fmt::Display for KillDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the daemon is killed and is away for {:?}", self.away)?;
        match self.meanwhile {
            None => Ok(()),
            Some(scope) => write!(f, ", {:?} into a switchover of {}", self.after, name(scope)),
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scope, length) = (name(self.scope), self.length);
        match self.then {
            Then::Released => write!(f, "a hold of {scope}, released after {length:?}"),
            Then::Expires => write!(f, "a hold of {scope} for {length:?}"),
            Then::Crash => write!(f, "a hold of {scope}, {length:?} later its crash"),
            Then::Switchover => write!(f, "a hold of {scope}, {length:?} later its switchover"),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "the leader",
            Self::Standby => "a standby",
        })
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Revoked => "the lease is revoked at once",
            Self::Expires => "the lease expires",
            Self::Kept => "the lease is kept",
        })
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Suspended => "suspended",
            Self::Vanished => "cut off",
        })
    }
}

impl fmt::Display for EtcdOutage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::Frozen => "frozen",
        })
    }
}

impl fmt::Display for Futile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Withdrawn => "is withdrawn",
            Self::NoSuchCandidate => "names no member, and is withdrawn",
            Self::FarAway => "is for another century, and is withdrawn",
        })
    }
}
