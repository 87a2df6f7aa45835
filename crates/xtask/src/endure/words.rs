//! An operation in words, on one line.

use std::fmt;
use std::time::Duration;

use super::operation::{Away, Futile, How, Lease, Operation, Place, Then, Who};

/// `cn`, `wk1`, … as the lab names them.
pub(super) fn name(place: Place) -> String {
    match place {
        0 => lab::cluster::COORDINATOR.into(),
        number => format!("wk{number}"),
    }
}

fn names(places: &[Place]) -> String {
    let names: Vec<String> = places.iter().map(|place| name(*place)).collect();
    names.join(", ")
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switchover { scopes, named } => {
                let candidate = if *named { "" } else { "out" };
                write!(
                    f,
                    "switchover of {} with{candidate} a candidate",
                    names(scopes)
                )
            }
            Self::ThereAndBack { scope } => write!(f, "switchover of {} and back", name(*scope)),
            Self::LosesItsHeir { scope, after } => write!(
                f,
                "switchover of {}, whose heir dies after {after:?}",
                name(*scope)
            ),
            Self::CoordinatorToo {
                scope,
                crash,
                after,
            } => {
                let what = if *crash { "dies" } else { "is switched over" };
                let scope = name(*scope);
                write!(
                    f,
                    "switchover of {scope}, the coordinator {what} after {after:?}"
                )
            }
            Self::Restart { scopes } => write!(f, "restart of {}", names(scopes)),
            Self::CrashPostgres { scope } => {
                write!(f, "crash of PostgreSQL alone of {}", name(*scope))
            }
            Self::Crash { scopes, lease } => write!(f, "crash of {}, {lease}", names(scopes)),
            Self::CrashStandby { scope } => write!(f, "crash of a standby of {}", name(*scope)),
            Self::Freeze {
                scope,
                who,
                how,
                length,
                lease,
            } => freeze(f, *scope, (*who, *how, *lease), *length),
            Self::FreezeDaemon {
                how,
                length,
                meanwhile,
            } => {
                write!(f, "the daemon is {how} for {length:?}")?;
                during(f, *meanwhile)
            }
            Self::KillDaemon {
                meanwhile,
                after,
                away,
            } => {
                write!(f, "the daemon is killed and is away for {away:?}")?;
                match meanwhile {
                    None => Ok(()),
                    Some(scope) => write!(f, ", {after:?} into a switchover of {}", name(*scope)),
                }
            }
            Self::Etcd { how, length } => write!(f, "etcd is {how} for {length:?}"),
            Self::Request {
                scope,
                what,
                length,
            } => write!(f, "a request for {} {what} after {length:?}", name(*scope)),
            Self::Hold {
                scope,
                length,
                then,
            } => hold(f, &name(*scope), *length, *then),
        }
    }
}

fn freeze(
    f: &mut fmt::Formatter<'_>,
    scope: Place,
    (who, how, lease): (Who, How, Lease),
    length: Duration,
) -> fmt::Result {
    let who = match who {
        Who::Leader => "the leader",
        Who::Standby => "a standby",
    };
    write!(f, "{who} of {} is {how} for {length:?}", name(scope))?;
    match lease {
        Lease::Kept => Ok(()),
        lease => write!(f, " or until another one leads, {lease}"),
    }
}

fn hold(f: &mut fmt::Formatter<'_>, scope: &str, length: Duration, then: Then) -> fmt::Result {
    match then {
        Then::Released => write!(f, "a hold of {scope}, released after {length:?}"),
        Then::RunsOut => write!(f, "a hold of {scope} for {length:?}"),
        Then::Crash => write!(f, "a hold of {scope}, {length:?} later its crash"),
        Then::Switchover => write!(f, "a hold of {scope}, {length:?} later its switchover"),
    }
}

fn during(f: &mut fmt::Formatter<'_>, meanwhile: Option<Place>) -> fmt::Result {
    match meanwhile {
        None => Ok(()),
        Some(scope) => write!(f, " during a switchover of {}", name(scope)),
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Revoked => "the lease ended at once",
            Self::RunsOut => "the lease left to run out",
            Self::Kept => "the lease kept",
        })
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "stopped",
            Self::Silent => "cut off",
        })
    }
}

impl fmt::Display for Away {
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
            Self::ForNobody => "names nobody as its candidate, and is withdrawn",
            Self::FarOff => "is for another century, and is withdrawn",
        })
    }
}
