//! Executes one operation. In: the fixture, in sync. Out: the fixture with its members and etcd
//! running again, as far as the operation stopped them, and notes of what was refused. A
//! refusal of Patroni is no failure: the checks decide afterwards.

use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result};
use lab::{Lab, Scope, wait_until};
use serde_json::json;

use super::describe::name;
use super::fixture::Fixture;
use super::operation::{
    CandidateDies, CoordinatorToo, Crash, Etcd, EtcdOutage, Freeze, FreezeDaemon, Futile, Hold,
    KillDaemon, Lease, Operation, Outage, Request, Role, ScopeNumber, Switchover, Then,
};

/// For a new leader after the old leader's lease was revoked.
const NEW_LEADER: Duration = Duration::from_secs(60);
/// For a new leader if the lease must expire first.
const NEW_LEADER_AFTER_TTL: Duration = Duration::from_secs(90);
/// For the old leader to become a synchronous standby.
const SWITCHED_BACK: Duration = Duration::from_secs(30);

/// What was refused, or did not happen.
pub(super) type Notes = Vec<String>;

/// Executes `operation`. An error is a promise that was not kept.
pub(super) fn execute(fixture: &mut Fixture, operation: &Operation) -> Result<Notes> {
    let mut notes = Notes::new();
    let lab = &fixture.lab;
    match operation {
        Operation::Switchover(switchover) => switchovers(lab, switchover, &mut notes),
        Operation::SwitchoverAndBack(scope) => {
            switch_and_back(scope_at(lab, *scope)?, &mut notes);
        }
        Operation::CandidateDies(dies) => candidate_dies(lab, dies, &mut notes)?,
        Operation::CoordinatorToo(too) => coordinator_too(lab, too, &mut notes)?,
        Operation::Restart(scopes) => {
            at_once(lab, scopes, &mut notes, |scope| scope.restart().map(drop));
        }
        Operation::CrashPostgres(scope) => scope_at(lab, *scope)?.leader()?.crash_postgres()?,
        Operation::Crash(Crash { scopes, lease }) => {
            at_once(lab, scopes, &mut notes, |scope| crash(scope, *lease));
        }
        Operation::CrashStandby(scope) => {
            for standby in scope_at(lab, *scope)?.replicas()? {
                standby.crash()?;
            }
        }
        Operation::Freeze(freeze) => note(&mut notes, freeze_member(lab, freeze)),
        Operation::FreezeDaemon(freeze) => freeze_daemon(fixture, freeze, &mut notes)?,
        Operation::KillDaemon(kill) => kill_daemon(fixture, kill, &mut notes)?,
        Operation::Etcd(etcd) => etcd_away(lab, etcd)?,
        Operation::Request(request) => futile_request(lab, request)?,
        Operation::Hold(operation) => hold(fixture, operation, &mut notes)?,
    }
    notes.retain(|note| !note.is_empty());
    Ok(notes)
}

fn scope_at(lab: &Lab, scope: ScopeNumber) -> Result<&Scope> {
    lab.scope(&name(scope))
}

fn note<T>(notes: &mut Notes, outcome: Result<T>) {
    if let Err(error) = outcome {
        notes.push(format!("{error:#}"));
    }
}

/// Does the same to all these scopes, at once.
fn at_once(
    lab: &Lab,
    scopes: &[ScopeNumber],
    notes: &mut Notes,
    work: impl Fn(&Scope) -> Result<()> + Sync,
) {
    let outcomes: Vec<Result<()>> = thread::scope(|threads| {
        let running: Vec<_> = scopes
            .iter()
            .map(|scope| threads.spawn(|| work(scope_at(lab, *scope)?)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Ok(())))
            .collect()
    });
    for outcome in outcomes {
        note(notes, outcome);
    }
}

/// Does both at once.
fn beside(
    notes: &mut Notes,
    one: impl FnOnce() -> Result<()> + Send,
    other: impl FnOnce() -> Result<()>,
) {
    let (first, second) = thread::scope(|threads| {
        let running = threads.spawn(one);
        let second = other();
        (running.join().unwrap_or_else(|_| Ok(())), second)
    });
    note(notes, first);
    note(notes, second);
}

fn switchovers(lab: &Lab, switchover: &Switchover, notes: &mut Notes) {
    at_once(lab, &switchover.scopes, notes, |scope| {
        switch(scope, switchover.named)
    });
}

fn switch(scope: &Scope, named: bool) -> Result<()> {
    let standby = scope.replicas()?.first().map(|member| member.name());
    scope.switchover(standby.filter(|_| named)).map(drop)
}

fn switch_and_back(scope: &Scope, notes: &mut Notes) {
    note(notes, switch(scope, false));
    note(notes, switch_back(scope));
}

/// Asks until the old leader is a standby that Patroni accepts as the next leader.
fn switch_back(scope: &Scope) -> Result<()> {
    let what = format!("Patroni to switch {} back", scope.name());
    wait_until(&what, SWITCHED_BACK, || match switch(scope, false) {
        Err(error) if format!("{error:#}").contains("412 Precondition Failed") => Err(error),
        outcome => Ok(Some(outcome)),
    })?
}

/// Kills the leader, and waits for the next one.
fn crash(scope: &Scope, lease: Lease) -> Result<()> {
    let victim = scope.crash()?.name();
    next_leader(scope, victim, lease)
}

/// Waits for a leader other than `former`, whose lease is revoked or expires.
fn next_leader(scope: &Scope, former: &str, lease: Lease) -> Result<()> {
    let deadline = if lease == Lease::Revoked {
        scope.expire_leader()?;
        NEW_LEADER
    } else {
        NEW_LEADER_AFTER_TTL
    };
    scope.wait_new_leader(former, deadline).map(drop)
}

fn freeze_member(lab: &Lab, freeze: &Freeze) -> Result<()> {
    let scope = scope_at(lab, freeze.scope)?;
    let member = match freeze.role {
        Role::Leader => scope.leader()?,
        Role::Standby => scope.replicas()?.into_iter().next().context("no standby")?,
    };
    match freeze.outage {
        Outage::Suspended => member.freeze(),
        Outage::Vanished => member.vanish()?,
    }
    sleep(freeze.length);
    let next = match freeze.lease {
        Lease::Kept => Ok(()),
        lease => next_leader(scope, member.name(), lease),
    };
    match freeze.outage {
        Outage::Suspended => member.thaw(),
        Outage::Vanished => member.reappear()?,
    }
    next
}

fn candidate_dies(lab: &Lab, dies: &CandidateDies, notes: &mut Notes) -> Result<()> {
    let scope = scope_at(lab, dies.scope)?;
    let replicas = scope.replicas()?;
    let candidate = replicas.first().context("no standby")?;
    beside(
        notes,
        || switch(scope, false),
        || {
            sleep(dies.after);
            candidate.crash()
        },
    );
    candidate.start()
}

fn coordinator_too(lab: &Lab, too: &CoordinatorToo, notes: &mut Notes) -> Result<()> {
    let (scope, coordinator) = (scope_at(lab, too.scope)?, lab.coordinator());
    beside(
        notes,
        || switch(scope, false),
        || {
            sleep(too.after);
            if too.crash {
                crash(coordinator, Lease::Revoked)
            } else {
                switch(coordinator, false)
            }
        },
    );
    Ok(())
}

/// A switchover of this scope, or nothing.
fn switch_meanwhile(
    lab: &Lab,
    meanwhile: Option<ScopeNumber>,
) -> Result<impl FnOnce() -> Result<()> + Send> {
    let scope = meanwhile.map(|scope| scope_at(lab, scope)).transpose()?;
    Ok(move || scope.map_or(Ok(()), |scope| switch(scope, false)))
}

fn freeze_daemon(fixture: &Fixture, freeze: &FreezeDaemon, notes: &mut Notes) -> Result<()> {
    let switch = switch_meanwhile(&fixture.lab, freeze.meanwhile)?;
    let daemon = &fixture.daemon;
    match freeze.outage {
        Outage::Suspended => daemon.freeze()?,
        Outage::Vanished => daemon.vanish()?,
    }
    beside(notes, switch, || {
        sleep(freeze.length);
        match freeze.outage {
            Outage::Suspended => daemon.thaw(),
            Outage::Vanished => daemon.reappear(),
        }
    });
    Ok(())
}

fn kill_daemon(fixture: &mut Fixture, kill: &KillDaemon, notes: &mut Notes) -> Result<()> {
    let switch = switch_meanwhile(&fixture.lab, kill.meanwhile)?;
    let daemon = &fixture.daemon;
    beside(notes, switch, || {
        sleep(kill.after);
        daemon.kill()?;
        sleep(kill.away);
        Ok(())
    });
    fixture.start_daemon_again()
}

fn etcd_away(lab: &Lab, away: &Etcd) -> Result<()> {
    let etcd = lab.etcd();
    match away.outage {
        EtcdOutage::Stopped => etcd.stop()?,
        EtcdOutage::Killed => etcd.kill()?,
        EtcdOutage::Frozen => etcd.freeze(),
    }
    sleep(away.length);
    match away.outage {
        EtcdOutage::Stopped | EtcdOutage::Killed => etcd.start_again(),
        EtcdOutage::Frozen => {
            etcd.thaw();
            Ok(())
        }
    }
}

/// Writes the request as Patroni's REST API does, and withdraws it.
fn futile_request(lab: &Lab, request: &Request) -> Result<()> {
    let scope = scope_at(lab, request.scope)?;
    let leader = scope.leader()?.name();
    let text = match request.futile {
        Futile::Withdrawn => json!({"leader": leader}),
        Futile::NoSuchCandidate => json!({"leader": leader, "member": "ghost"}),
        Futile::FarAway => {
            json!({"leader": leader, "scheduled_at": "2126-01-01T00:00:00+00:00"})
        }
    };
    let key = scope.path("failover");
    lab.etcd().kv().put(&key, &text.to_string())?;
    sleep(request.length);
    lab.etcd().kv().delete(&key).map(drop)
}

fn hold(fixture: &Fixture, hold: &Hold, notes: &mut Notes) -> Result<()> {
    let scope = scope_at(&fixture.lab, hold.scope)?;
    let timeout = format!("{}ms", hold.length.as_millis());
    let bounded = ["--member", "", "--timeout", &timeout];
    let options = match hold.then {
        Then::Expires => &bounded[..],
        _ => &bounded[..2],
    };
    notes.push(fixture.citus_sync("hold", scope.name(), options)?);
    sleep(hold.length);
    match hold.then {
        Then::Expires => {}
        Then::Released => notes.push(fixture.citus_sync("release", scope.name(), &[])?),
        Then::Crash => note(notes, crash(scope, Lease::Revoked)),
        Then::Switchover => note(notes, switch(scope, false)),
    }
    Ok(())
}
