//! What a soak does to a formation: one operation. In: nothing. Out: the operations, and what follows
//! from each for its clients.

use std::time::Duration;

/// A scope by its number in the lab: 0 is the coordinator's.
pub(super) type ScopeNumber = usize;

/// One operation. It names members by role, because earlier operations decide which member has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Patroni switches scopes over.
    Switchover(Switchover),
    /// Patroni switches a scope over, and then back.
    SwitchoverAndBack(ScopeNumber),
    /// The candidate of a switchover is killed during the switchover.
    CandidateDies(CandidateDies),
    /// The coordinator is switched over or killed during a switchover of a worker.
    CoordinatorToo(CoordinatorToo),
    /// Patroni restarts the leader's PostgreSQL, in all these scopes at once.
    Restart(Vec<ScopeNumber>),
    /// The leader's PostgreSQL is killed, but not its Patroni.
    CrashPostgres(ScopeNumber),
    /// The leaders' Patroni and PostgreSQL are killed.
    Crash(Crash),
    /// The standbys' Patroni and PostgreSQL are killed.
    CrashStandby(ScopeNumber),
    /// A member is frozen for a while.
    Freeze(Freeze),
    /// The daemon is frozen for a while, perhaps during a switchover.
    FreezeDaemon(FreezeDaemon),
    /// The daemon is killed, perhaps during a switchover, and started again.
    KillDaemon(KillDaemon),
    /// etcd is away for a while.
    Etcd(Etcd),
    /// A failover request that leads to nothing is written to etcd.
    Request(Request),
    /// An operator runs `citus-sync hold`.
    Hold(Hold),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Switchover {
    /// All are switched over at once.
    pub(super) scopes: Vec<ScopeNumber>,
    /// The request names a candidate.
    pub(super) named: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CandidateDies {
    pub(super) scope: ScopeNumber,
    /// This long after the request.
    pub(super) after: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CoordinatorToo {
    pub(super) scope: ScopeNumber,
    /// The coordinator's leader is killed, and not switched over.
    pub(super) crash: bool,
    /// This long after the request.
    pub(super) after: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crash {
    pub(super) scopes: Vec<ScopeNumber>,
    pub(super) lease: Lease,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Freeze {
    pub(super) scope: ScopeNumber,
    pub(super) role: Role,
    pub(super) outage: Outage,
    pub(super) length: Duration,
    pub(super) lease: Lease,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FreezeDaemon {
    pub(super) outage: Outage,
    pub(super) length: Duration,
    /// This scope is switched over meanwhile.
    pub(super) meanwhile: Option<ScopeNumber>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KillDaemon {
    /// This scope is switched over meanwhile.
    pub(super) meanwhile: Option<ScopeNumber>,
    /// The time from the request to the kill.
    pub(super) after: Duration,
    /// The time until the daemon is started again.
    pub(super) away: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Etcd {
    pub(super) outage: EtcdOutage,
    pub(super) length: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) scope: ScopeNumber,
    pub(super) futile: Futile,
    /// The request is withdrawn after this time.
    pub(super) length: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) scope: ScopeNumber,
    pub(super) length: Duration,
    pub(super) then: Then,
}

/// What happens to the lease of a leader that cannot renew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// It is revoked at once, which is as if it had expired.
    Revoked,
    /// It expires after `ttl`.
    Expires,
    /// The member is back before it expires.
    Kept,
}

/// The role of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Leader,
    Standby,
}

/// How a process is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outage {
    /// It is suspended with SIGSTOP. The kernel still answers for it.
    Suspended,
    /// It is suspended, and every packet for it is dropped.
    Vanished,
}

/// Why etcd is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EtcdOutage {
    Stopped,
    Killed,
    Frozen,
}

/// Why a failover request leads to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Futile {
    /// It is withdrawn, perhaps before Patroni has seen it.
    Withdrawn,
    /// Its candidate does not exist.
    NoSuchCandidate,
    /// It is scheduled for a time far away, and withdrawn.
    FarAway,
}

/// What ends a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// `citus-sync release`.
    Released,
    /// Its timeout.
    Expires,
    /// A crash of the leader.
    Crash,
    /// A switchover.
    Switchover,
}

impl Operation {
    /// The kind that it is counted as.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Switchover(switchover) if switchover.scopes.len() > 1 => "switchovers at once",
            Self::Switchover(_) => "switchover",
            Self::SwitchoverAndBack(_) => "switchover and back",
            Self::CandidateDies(_) => "switchover, candidate dies",
            Self::CoordinatorToo(too) if too.crash => "switchover, coordinator dies",
            Self::CoordinatorToo(_) => "switchover, coordinator too",
            Self::Restart(_) => "restart",
            Self::CrashPostgres(_) => "crash of PostgreSQL alone",
            Self::Crash(_) => "crash",
            Self::CrashStandby(_) => "crash of a standby",
            Self::Freeze(freeze) if freeze.role == Role::Leader => "leader frozen",
            Self::Freeze(_) => "standby frozen",
            Self::FreezeDaemon(_) => "daemon frozen",
            Self::KillDaemon(_) => "daemon killed",
            Self::Etcd(_) => "etcd away",
            Self::Request(_) => "futile request",
            Self::Hold(_) => "manual hold",
        }
    }

    /// The scopes of which a member may end. Its clients lose their connections, whatever citus-sync
    /// does.
    pub(super) fn ends(&self) -> Vec<ScopeNumber> {
        match self {
            Self::Switchover(Switchover { scopes, .. })
            | Self::Restart(scopes)
            | Self::Crash(Crash { scopes, .. }) => scopes.clone(),
            Self::SwitchoverAndBack(scope)
            | Self::CandidateDies(CandidateDies { scope, .. })
            | Self::CrashPostgres(scope)
            | Self::CrashStandby(scope)
            | Self::Freeze(Freeze { scope, .. })
            | Self::Request(Request { scope, .. })
            | Self::Hold(Hold { scope, .. }) => vec![*scope],
            Self::CoordinatorToo(CoordinatorToo { scope, .. }) => vec![0, *scope],
            Self::FreezeDaemon(FreezeDaemon { meanwhile, .. })
            | Self::KillDaemon(KillDaemon { meanwhile, .. }) => meanwhile.iter().copied().collect(),
            Self::Etcd(_) => Vec::new(),
        }
    }

    /// The scope whose old leader may wake up and answer its clients while another member leads.
    /// Without a watchdog nothing fences it, and its answers are stale.
    pub(super) fn unfenced(&self) -> Option<ScopeNumber> {
        match self {
            Self::Freeze(freeze) if freeze.role == Role::Leader && freeze.lease != Lease::Kept => {
                Some(freeze.scope)
            }
            _ => None,
        }
    }
}
