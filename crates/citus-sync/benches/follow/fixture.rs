//! What the moves happen on: one etcd, a coordinator, and two groups of two
//! servers each. All four take writes all the time, so that nothing but the
//! leader key decides where a row belongs.

use anyhow::{Context as _, Result};
use lab::postgres::Client;
use lab::{Etcd, Flavour, Postgres, Sandbox};

use super::support::keys;
use super::support::machine::Machine;

/// The database on every server.
pub(crate) const DATABASE: &str = "postgres";

/// A member of a group.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The member's name.
    pub(crate) name: String,
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
}

/// One row and the two servers it goes back and forth between.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The row.
    pub(crate) nodeid: i32,
    /// The row begins at the first.
    pub(crate) places: [Place; 2],
}

/// Everything that is up before the first move. Fields are dropped in this order.
pub(crate) struct Fixture {
    /// The group that the daemon keeps, with Patroni's keys in the scope `wk1`.
    pub(crate) kept: Group,
    /// The group of the floor, in no scope.
    pub(crate) bare: Group,
    /// The etcd of both.
    pub(crate) etcd: Etcd,
    /// The coordinator of both.
    pub(crate) coordinator: Postgres,
    flavour: Flavour,
    _workers: Vec<Postgres>,
    /// Holds it all.
    pub(crate) sandbox: Sandbox,
}

impl Fixture {
    /// Starts the servers, adds the groups, spreads a table over them, writes the keys.
    pub(crate) fn prepare(stand_in: bool) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let etcd = Etcd::start(&sandbox)?;
        let coordinator = start_server(&sandbox, "cn", stand_in)?;
        let flavour = coordinator.install_citus(DATABASE)?;
        let mut workers = Vec::new();
        for name in ["pg1", "pg2", "bare1", "bare2"] {
            let worker = start_server(&sandbox, name, stand_in)?;
            worker.install_citus(DATABASE)?;
            workers.push(worker);
        }

        let mut sql = coordinator.connect(DATABASE)?;
        sql.execute(
            "SELECT citus_set_coordinator_host('127.0.0.1', $1)",
            &[&i32::from(coordinator.port())],
        )
        .context("the coordinator's own row")?;
        let kept = add_group(&mut sql, 1, [&workers[0], &workers[1]])?;
        let bare = add_group(&mut sql, 2, [&workers[2], &workers[3]])?;
        // So that a move takes locks: 16 shards in each group.
        sql.batch_execute(
            "SET citus.shard_count = 32;
             SET citus.shard_replication_factor = 1;
             CREATE TABLE account (id bigint PRIMARY KEY, note text);
             SELECT create_distributed_table('account', 'id')",
        )
        .context("spreading a table over the groups")?;

        let cn = Place {
            name: "cn1".to_owned(),
            port: coordinator.port(),
        };
        write_scope(&etcd, "cn", &[cn])?;
        write_scope(&etcd, "wk1", &kept.places)?;
        Ok(Self {
            kept,
            bare,
            etcd,
            coordinator,
            flavour,
            _workers: workers,
            sandbox,
        })
    }

    /// What it runs on.
    pub(crate) fn machine(&self) -> Result<Machine> {
        let mut sql = self.coordinator.connect(DATABASE)?;
        Machine::look(
            &mut sql,
            &self.etcd.endpoint(),
            self.sandbox.root(),
            self.flavour.to_string(),
        )
    }

    /// Whether workers have metadata that a move makes stale and the coordinator then fixes.
    pub(crate) fn resynchronises(&self) -> bool {
        self.flavour.is_citus()
    }
}

fn start_server(sandbox: &Sandbox, name: &str, stand_in: bool) -> Result<Postgres> {
    let builder = Postgres::builder(sandbox, name);
    if stand_in {
        builder.stand_in().start()
    } else {
        builder.start()
    }
}

/// Adds a group whose row begins at the first of two servers.
fn add_group(sql: &mut Client, number: i32, pair: [&Postgres; 2]) -> Result<Group> {
    let places = pair.map(|server| Place {
        name: server.name().to_owned(),
        port: server.port(),
    });
    let port = i32::from(places[0].port);
    let row = sql
        .query_one(
            "SELECT citus_add_node('127.0.0.1', $1, $2)",
            &[&port, &number],
        )
        .with_context(|| format!("adding group {number}"))?;
    Ok(Group {
        nodeid: row.get(0),
        places,
    })
}

/// The first place leads.
fn write_scope(etcd: &Etcd, scope: &str, places: &[Place]) -> Result<()> {
    for (number, place) in places.iter().enumerate() {
        let value = keys::member("127.0.0.1", place.port, number == 0, 67_108_864);
        etcd.kv()
            .put(&keys::member_key(scope, &place.name), &value)?;
    }
    etcd.kv().put(&keys::leader_key(scope), &places[0].name)?;
    Ok(())
}
