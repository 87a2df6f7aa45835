//! Carries out one operation. In: the world, whole. Out: the world, with members and etcd running
//! again as far as it is theirs to run, and notes of what others refused. That Patroni refuses something is
//! no failure: the world is asked afterwards whether it is as it should be.

use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result};
use lab::{Etcd, Lab, Scope, wait_until};
use serde_json::json;

use super::operation::{Away, Futile, How, Lease, Operation, Place, Then, Who};
use super::words::name;
use super::world::World;

/// After the end of its lease.
const NEW_LEADER: Duration = Duration::from_secs(60);
/// With the lease itself.
const NEW_LEADER_LATE: Duration = Duration::from_secs(90);

/// For the old leader to be a synchronous standby.
const SWITCHED_BACK: Duration = Duration::from_secs(30);

/// What others refused, or what did not come to pass.
pub(super) type Notes = Vec<String>;

/// Does it. An error is a promise that was not kept.
pub(super) fn carry_out(world: &mut World, operation: &Operation) -> Result<Notes> {
    let mut notes = Notes::new();
    match operation {
        Operation::Switchover { scopes, named } => {
            at_once(&world.lab, scopes, &mut notes, |scope| {
                switch(scope, *named)
            });
        }
        Operation::ThereAndBack { scope } => {
            let scope = scope_at(&world.lab, *scope)?;
            note(&mut notes, switch(scope, false));
            note(&mut notes, switch_back(scope));
        }
        Operation::LosesItsHeir { scope, after } => {
            loses_its_heir(scope_at(&world.lab, *scope)?, *after, &mut notes)?;
        }
        Operation::CoordinatorToo {
            scope,
            crash,
            after,
        } => coordinator_too(&world.lab, *scope, *crash, *after, &mut notes)?,
        Operation::Restart { scopes } => {
            at_once(&world.lab, scopes, &mut notes, |scope| {
                scope.restart().map(drop)
            });
        }
        Operation::CrashPostgres { scope } => {
            scope_at(&world.lab, *scope)?.leader()?.crash_postgres()?;
        }
        Operation::Crash { scopes, lease } => {
            at_once(&world.lab, scopes, &mut notes, |scope| die(scope, *lease));
        }
        Operation::CrashStandby { scope } => {
            let scope = scope_at(&world.lab, *scope)?;
            for standby in scope.replicas()? {
                standby.crash()?;
            }
        }
        Operation::Freeze {
            scope,
            who,
            how,
            length,
            lease,
        } => {
            let scope = scope_at(&world.lab, *scope)?;
            note(&mut notes, freeze(scope, *who, *how, *length, *lease));
        }
        Operation::FreezeDaemon {
            how,
            length,
            meanwhile,
        } => freeze_daemon(world, *how, *length, *meanwhile, &mut notes)?,
        Operation::KillDaemon {
            meanwhile,
            after,
            away,
        } => kill_daemon(world, *meanwhile, *after, *away, &mut notes)?,
        Operation::Etcd { how, length } => away(world.lab.etcd(), *how, *length)?,
        Operation::Request {
            scope,
            what,
            length,
        } => request(&world.lab, *scope, *what, *length)?,
        Operation::Hold {
            scope,
            length,
            then,
        } => hold(world, *scope, *length, *then, &mut notes)?,
    }
    notes.retain(|note| !note.is_empty());
    Ok(notes)
}

fn scope_at(lab: &Lab, place: Place) -> Result<&Scope> {
    lab.scope(&name(place))
}

fn note<T>(notes: &mut Notes, outcome: Result<T>) {
    if let Err(error) = outcome {
        notes.push(format!("{error:#}"));
    }
}

/// The same to all of these scopes, at once.
fn at_once(
    lab: &Lab,
    scopes: &[Place],
    notes: &mut Notes,
    work: impl Fn(&Scope) -> Result<()> + Sync,
) {
    let outcomes: Vec<Result<()>> = thread::scope(|threads| {
        let running: Vec<_> = scopes
            .iter()
            .map(|place| threads.spawn(|| work(scope_at(lab, *place)?)))
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

/// Both at once.
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

fn switch(scope: &Scope, named: bool) -> Result<()> {
    let standby = scope.replicas()?.first().map(|member| member.name());
    scope.switchover(standby.filter(|_| named)).map(drop)
}

/// Asked for again until the old leader is a standby to which Patroni switches.
fn switch_back(scope: &Scope) -> Result<()> {
    let what = format!("Patroni to switch {} back", scope.name());
    wait_until(&what, SWITCHED_BACK, || match switch(scope, false) {
        Err(error) if format!("{error:#}").contains("412 Precondition Failed") => Err(error),
        outcome => Ok(Some(outcome)),
    })?
}

/// The leader dies, and another one leads.
fn die(scope: &Scope, lease: Lease) -> Result<()> {
    let victim = scope.crash()?.name();
    succeed(scope, victim, lease)
}

/// Another one leads.
fn succeed(scope: &Scope, former: &str, lease: Lease) -> Result<()> {
    let patience = if lease == Lease::Revoked {
        scope.expire_leader()?;
        NEW_LEADER
    } else {
        NEW_LEADER_LATE
    };
    scope.wait_new_leader(former, patience).map(drop)
}

fn freeze(scope: &Scope, who: Who, how: How, length: Duration, lease: Lease) -> Result<()> {
    let leader = scope.leader()?;
    let member = match who {
        Who::Leader => leader,
        Who::Standby => scope.replicas()?.into_iter().next().context("a standby")?,
    };
    match how {
        How::Stopped => member.freeze(),
        How::Silent => member.vanish()?,
    }
    sleep(length);
    let succeeded = if lease == Lease::Kept {
        Ok(())
    } else {
        succeed(scope, member.name(), lease)
    };
    match how {
        How::Stopped => member.thaw(),
        How::Silent => member.reappear()?,
    }
    succeeded
}

fn loses_its_heir(scope: &Scope, after: Duration, notes: &mut Notes) -> Result<()> {
    let replicas = scope.replicas()?;
    let heir = replicas.first().context("a scope of one")?;
    beside(
        notes,
        || switch(scope, false),
        || {
            sleep(after);
            heir.crash()
        },
    );
    heir.start()
}

fn coordinator_too(
    lab: &Lab,
    scope: Place,
    crash: bool,
    after: Duration,
    notes: &mut Notes,
) -> Result<()> {
    let (scope, coordinator) = (scope_at(lab, scope)?, lab.coordinator());
    beside(
        notes,
        || switch(scope, false),
        || {
            sleep(after);
            if crash {
                die(coordinator, Lease::Revoked)
            } else {
                switch(coordinator, false)
            }
        },
    );
    Ok(())
}

fn freeze_daemon(
    world: &World,
    how: How,
    length: Duration,
    meanwhile: Option<Place>,
    notes: &mut Notes,
) -> Result<()> {
    let scope = meanwhile.map(|scope| scope_at(&world.lab, scope));
    let scope = scope.transpose()?;
    let daemon = &world.daemon;
    match how {
        How::Stopped => daemon.freeze()?,
        How::Silent => daemon.vanish()?,
    }
    let switched = || scope.map_or(Ok(()), |scope| switch(scope, false));
    beside(notes, switched, || {
        sleep(length);
        match how {
            How::Stopped => daemon.thaw(),
            How::Silent => daemon.reappear(),
        }
    });
    Ok(())
}

fn away(etcd: &Etcd, how: Away, length: Duration) -> Result<()> {
    match how {
        Away::Stopped => etcd.stop()?,
        Away::Killed => etcd.kill()?,
        Away::Frozen => etcd.freeze(),
    }
    sleep(length);
    match how {
        Away::Stopped | Away::Killed => etcd.start_again(),
        Away::Frozen => {
            etcd.thaw();
            Ok(())
        }
    }
}

fn kill_daemon(
    world: &mut World,
    meanwhile: Option<Place>,
    after: Duration,
    away: Duration,
    notes: &mut Notes,
) -> Result<()> {
    let scope = meanwhile.map(|scope| scope_at(&world.lab, scope));
    let scope = scope.transpose()?;
    let daemon = &world.daemon;
    let switched = || scope.map_or(Ok(()), |scope| switch(scope, false));
    beside(notes, switched, || {
        sleep(after);
        daemon.kill()?;
        sleep(away);
        Ok(())
    });
    world.start_daemon_again()
}

/// Written as Patroni's own interface writes it.
fn request(lab: &Lab, place: Place, what: Futile, length: Duration) -> Result<()> {
    let scope = scope_at(lab, place)?;
    let leader = scope.leader()?.name();
    let request = match what {
        Futile::Withdrawn => json!({"leader": leader}),
        Futile::ForNobody => json!({"leader": leader, "member": "nobody"}),
        Futile::FarOff => {
            json!({"leader": leader, "scheduled_at": "2126-01-01T00:00:00+00:00"})
        }
    };
    let key = scope.path("failover");
    lab.etcd().kv().put(&key, &request.to_string())?;
    sleep(length);
    lab.etcd().kv().delete(&key).map(drop)
}

fn hold(
    world: &World,
    place: Place,
    length: Duration,
    then: Then,
    notes: &mut Notes,
) -> Result<()> {
    let scope = scope_at(&world.lab, place)?;
    let timeout = format!("{}ms", length.as_millis());
    let bounded = ["--member", "", "--timeout", &timeout];
    let more = match then {
        Then::RunsOut => &bounded[..],
        _ => &bounded[..2],
    };
    notes.push(world.order("hold", scope.name(), more)?);
    sleep(length);
    match then {
        Then::RunsOut => {}
        Then::Released => notes.push(world.order("release", scope.name(), &[])?),
        Then::Crash => note(notes, die(scope, Lease::Revoked)),
        Then::Switchover => note(notes, switch(scope, false)),
    }
    Ok(())
}
