//! The one laboratory of a run, and what every scenario begins and ends with.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::postgres::Client;
use lab::{Hook, Lab, Scope, Version, wait_for};
use serde_json::{Value, json};

use crate::daemon::{Daemon, SOON};

/// Two databases, so that each scenario is told twice at once.
pub(crate) const DATABASES: [&str; 2] = ["postgres", "second"];

/// Time for Patroni to make a scope whole again: rewind, restart, a synchronous standby.
const HEALTHY: Duration = Duration::from_secs(90);

/// The laboratory, healthy. It is started by the first scenario, and ended by its reaper when this
/// process is gone, however it went.
pub(crate) fn laboratory() -> MutexGuard<'static, Lab> {
    static LAB: OnceLock<Mutex<Lab>> = OnceLock::new();
    let lab = LAB.get_or_init(|| {
        let version = Version::from_environment().expect("a known version");
        let builder = Lab::builder().workers(3).members(2).databases(DATABASES);
        // The scenarios that are not about the hook do without it: switchovers are raced then, and a
        // restart without a hold is what it always was.
        let builder = match version {
            Version::Debian => builder,
            Version::V4_1 => builder.hook(Path::new(env!("CARGO_BIN_EXE_citus-sync"))),
        };
        let lab = builder.start().expect("the laboratory must start");
        if let Some(hook) = lab.hook() {
            hook.turn_off().expect("the hook is off");
        }
        for database in DATABASES {
            tie_groups_together(&lab, database);
        }
        eprintln!(
            "laboratory: {}, {}, started in {:.1} s",
            lab.version(),
            lab.flavour(),
            lab.start_up_time().as_secs_f64()
        );
        Mutex::new(lab)
    });
    // A scenario that failed leaves the lab as it was then; the next one makes it whole first.
    let lab = lab.lock().unwrap_or_else(PoisonError::into_inner);
    make_whole(&lab);
    lab
}

/// A reference table, which has a shard in every group: what holds of several groups, and moves,
/// could stand in each other's way at.
fn tie_groups_together(lab: &Lab, database: &str) {
    let sql = "CREATE TABLE currencies (code int PRIMARY KEY, rate int); \
               SELECT create_reference_table('currencies')";
    coordinator(lab, database)
        .batch_execute(sql)
        .expect("a reference table");
    if lab.flavour().is_citus() {
        coordinator(lab, database)
            .batch_execute("INSERT INTO currencies VALUES (1, 100)")
            .expect("a row in it");
    }
}

/// A superuser's session on the coordinator's leader.
pub(crate) fn coordinator(lab: &Lab, database: &str) -> Client {
    lab.coordinator()
        .connect(database)
        .expect("the coordinator")
}

/// A scope by name.
pub(crate) fn scope<'a>(lab: &'a Lab, name: &str) -> &'a Scope {
    lab.scope(name).expect("the scope")
}

/// Asks Patroni for a switchover, and waits for the new leader.
pub(crate) fn switch(lab: &Lab, name: &str) {
    scope(lab, name).switchover(None).expect("a switchover");
}

/// The end of a dead leader's lease, now instead of after `ttl`; and its successor.
pub(crate) fn succeed(lab: &Lab, name: &str, victim: &str) {
    let scope = scope(lab, name);
    scope.expire_leader().expect("the end of its lease");
    scope.wait_new_leader(victim, SOON).expect("a new leader");
}

/// A crash without the wait for `ttl`.
pub(crate) fn crash(lab: &Lab, name: &str) -> String {
    let victim = scope(lab, name).crash().expect("a crash");
    succeed(lab, name, victim.name());
    victim.name().to_owned()
}

/// The lab's hook, on until this is dropped.
pub(crate) struct HookOn<'a>(&'a Hook);

impl<'a> HookOn<'a> {
    /// None where Patroni has no `before_stop`.
    pub(crate) fn where_there_is_one(lab: &'a Lab) -> Option<Self> {
        let hook = lab.hook()?;
        hook.turn_on().expect("the hook is on");
        Some(Self(hook))
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        self.0.log()
    }
}

impl Drop for HookOn<'_> {
    fn drop(&mut self) {
        self.0.turn_off().expect("the hook is off");
    }
}

/// Starts and thaws whatever is not running, and waits until every scope is healthy.
pub(crate) fn make_whole(lab: &Lab) {
    lab.etcd().thaw();
    if lab.etcd().kv().status().is_err() {
        lab.etcd().start_again().expect("etcd starts again");
    }
    for scope in lab.scopes() {
        configure_anew(lab, scope);
    }
    for scope in lab.scopes() {
        scope.thaw();
        scope.revive().expect("members start again");
    }
    let Err(error) = lab.wait_healthy(HEALTHY) else {
        return;
    };
    // A Patroni can be wedged by what it went through (3.0 may follow a leader that is gone, after
    // etcd was restarted under it). That is not what these scenarios are about.
    eprintln!("every member is started anew: {error:#}");
    for member in lab.scopes().iter().flat_map(Scope::members) {
        member.crash().expect("a crash");
        member.start().expect("a start");
    }
    lab.wait_healthy(HEALTHY).expect("every scope is healthy");
}

/// Patroni's settings as they were, if a scenario left others behind.
fn configure_anew(lab: &Lab, scope: &Scope) {
    let key = scope.key("config").expect("etcd").expect("its settings");
    let mut config: Value = serde_json::from_str(&key.value).unwrap_or_default();
    if config["pause"] != json!(true) && config["synchronous_mode"] == json!(true) {
        return;
    }
    config["pause"] = json!(null);
    config["synchronous_mode"] = json!(true);
    // Not asked of Patroni: there may be no leader to ask.
    let kv = lab.etcd().kv();
    kv.put(&key.key, &config.to_string()).expect("put");
}

/// No standby is synchronous any more, until the scope is [made whole](make_whole).
pub(crate) fn make_asynchronous(scope: &Scope) {
    scope
        .configure(&json!({"synchronous_mode": false}))
        .expect("asynchronous");
    wait_for("nobody to be synchronous", SOON, || {
        let sync = scope.key("sync")?;
        Ok(sync.is_none_or(|sync| {
            let value: Value = serde_json::from_str(&sync.value).unwrap_or_default();
            value["sync_standby"]
                .as_str()
                .unwrap_or_default()
                .is_empty()
        }))
    })
    .expect("asynchronous");
}

/// Every primary row of `database` is its leader's.
pub(crate) fn rows_are_leaders(lab: &Lab, database: &str) -> Result<()> {
    let (rows, leaders) = (lab.rows(database)?, lab.leaders()?);
    ensure!(
        rows == leaders,
        "{database}: rows {rows:?}, leaders {leaders:?}"
    );
    Ok(())
}

/// What an entry node's own copy of `pg_dist_node` says, as [`Lab::rows`] does of the coordinator's.
pub(crate) fn rows_at(scope: &Scope, database: &str) -> Result<Vec<(u32, String)>> {
    let rows = scope.connect(database)?.query(
        "SELECT groupid, nodename || ':' || nodeport FROM pg_dist_node \
         WHERE noderole = 'primary' ORDER BY groupid",
        &[],
    )?;
    let rows = rows.iter();
    rows.map(|row| Ok((u32::try_from(row.get::<_, i32>(0))?, row.get(1))))
        .collect()
}

/// Sessions that hold, or wait to, on the leaders of all scopes: who, and where.
pub(crate) fn holders(lab: &Lab) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for scope in lab.scopes() {
        let rows = scope.connect("postgres")?.query(
            "SELECT application_name FROM pg_stat_activity \
             WHERE application_name LIKE 'citus-sync: %'",
            &[],
        )?;
        let names = rows.iter().map(|row| row.get::<_, String>(0));
        found.extend(names.map(|name| format!("{name} at {}", scope.name())));
    }
    Ok(found)
}

/// The end of every scenario: in every database rows = leaders, on the coordinator and on every
/// entry node; nothing is held anywhere; and deciding again says in sync.
pub(crate) fn in_sync(lab: &Lab, daemon: &Daemon) {
    let began = Instant::now();
    let in_sync = wait_for("rows = leaders, and nothing left to decide", SOON, || {
        let leaders = lab.leaders()?;
        for database in lab.databases() {
            rows_are_leaders(lab, database)?;
            for group in lab.entry_nodes(database)? {
                let entry_node = lab.workers().iter().find(|scope| scope.group() == group);
                let entry_node = entry_node.context("an entry node that is no worker")?;
                let rows = rows_at(entry_node, database)?;
                ensure!(
                    rows == leaders,
                    "{database} at entry node {}: rows {rows:?}, leaders {leaders:?}",
                    entry_node.name()
                );
            }
        }
        let state = daemon.state()?;
        let groups = &state.formations[0].groups;
        ensure!(
            groups.len() == lab.scopes().len(),
            "{} groups are followed",
            groups.len()
        );
        for group in groups {
            ensure!(group.in_sync && group.hold.is_none(), "{group:?}");
        }
        let holders = holders(lab)?;
        ensure!(holders.is_empty(), "{holders:?}");
        Ok(true)
    });
    daemon.expect(in_sync);
    let violations = daemon.metric("citus_sync_rule_violations_total", &[]);
    assert_eq!(
        violations.expect("metrics"),
        0,
        "the invariant checker stopped a decision\n{}",
        daemon.log()
    );
    if began.elapsed() > Duration::from_secs(3) {
        eprintln!("in sync after {:.1} s", began.elapsed().as_secs_f64());
    }
}

/// How many moves were committed so far, of one group.
pub(crate) fn moves(daemon: &Daemon, group: u32) -> u64 {
    let group = format!("group=\"{group}\"");
    let of = |outcome: &str| {
        let outcome = format!("outcome=\"{outcome}\"");
        let parts = ["operation=\"move\"", &group, &outcome];
        daemon
            .metric("citus_sync_steps_total", &parts)
            .expect("metrics")
    };
    of("committed") + of("forced")
}

/// A key of the ledger that lives on a group.
pub(crate) fn key_of_group(client: &mut Client, group: i32) -> i64 {
    let query = format!(
        "SELECT key FROM generate_series(1::bigint, 100) key JOIN pg_dist_placement \
         ON shardid = get_shard_id_for_distribution_column('ledger', key) \
         WHERE groupid = {group} LIMIT 1"
    );
    let row = client.query_one(&query, &[]);
    row.expect("a key of the group").get(0)
}

/// A server lets no session into the database `second` any more, and ends those that are there.
pub(crate) fn close_second(admin: &mut Client) {
    admin
        .batch_execute("ALTER DATABASE second ALLOW_CONNECTIONS false")
        .expect("closed");
    admin
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'second'",
            &[],
        )
        .expect("terminated");
}
