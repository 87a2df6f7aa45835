//! Turns healthy Patroni clusters into one Citus formation. In: the scopes and
//! the databases. Out: nodes registered so that group numbers follow the
//! workers' order, and a few tables with data.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use postgres::Client;

use crate::citus::{Flavour, install_citus};
use crate::scope::Scope;

/// Few, so that a small machine stays quick, but more than one for each worker.
const SHARDS: u32 = 8;
/// The number of rows in each table at the start.
const ROWS: u32 = 200;

/// Installs Citus or its stand-in in every database, and registers the nodes. `scopes[0]` is the
/// coordinator's.
pub(crate) fn form(scopes: &[Scope], databases: &[String], citus: bool) -> Result<Flavour> {
    let mut flavour = Flavour::StandIn;
    for scope in scopes {
        let known = existing(&mut scope.connect("postgres")?)?;
        for database in databases {
            if !known.contains(database) {
                scope
                    .connect("postgres")?
                    .batch_execute(&format!("CREATE DATABASE {}", quoted(database)))
                    .with_context(|| format!("creating {database} in scope {}", scope.name()))?;
            }
            flavour = install_citus(&mut scope.connect(database)?, !citus)
                .with_context(|| format!("scope {}, database {database}", scope.name()))?;
        }
    }
    for database in databases {
        register(scopes, database, &flavour)
            .with_context(|| format!("forming database {database}"))?;
    }
    Ok(flavour)
}

/// The group and the address of each primary row.
pub(crate) fn rows(client: &mut Client) -> Result<Vec<(u32, String)>> {
    let rows = client.query(
        "SELECT groupid, nodename || ':' || nodeport FROM pg_dist_node \
         WHERE noderole = 'primary' ORDER BY groupid",
        &[],
    )?;
    rows.iter()
        .map(|row| Ok((u32::try_from(row.get::<_, i32>(0))?, row.get(1))))
        .collect()
}

fn register(scopes: &[Scope], database: &str, flavour: &Flavour) -> Result<()> {
    let (coordinator, workers) = scopes.split_first().context("a lab has a coordinator")?;
    let mut client = coordinator.connect(database)?;
    let port = |scope: &Scope| -> Result<i32> { Ok(i32::from(scope.leader()?.port())) };
    client.execute(
        "SELECT citus_set_coordinator_host('127.0.0.1', $1)",
        &[&port(coordinator)?],
    )?;
    let mut expected = BTreeMap::from([(0, coordinator.leader_address()?)]);
    for worker in workers {
        client
            .execute("SELECT citus_add_node('127.0.0.1', $1)", &[&port(worker)?])
            .with_context(|| format!("adding scope {}", worker.name()))?;
        expected.insert(worker.group(), worker.leader_address()?);
    }
    let found: BTreeMap<u32, String> = rows(&mut client)?.into_iter().collect();
    ensure!(
        found == expected,
        "pg_dist_node has {found:?}, not {expected:?}"
    );
    create_tables(&mut client, flavour).context("creating the tables")
}

/// [`crate::traffic`] writes to `ledger`; `customers` and `orders` make it more than one table.
fn create_tables(client: &mut Client, flavour: &Flavour) -> Result<()> {
    client.batch_execute(&format!(
        "SET citus.shard_count = {SHARDS};
         CREATE TABLE ledger (id bigint PRIMARY KEY, note text);
         CREATE TABLE customers (id bigint PRIMARY KEY, name text);
         CREATE TABLE orders (customer bigint, id bigint, total int, PRIMARY KEY (customer, id));
         SELECT create_distributed_table('ledger', 'id');
         SELECT create_distributed_table('customers', 'id');
         SELECT create_distributed_table('orders', 'customer');"
    ))?;
    if flavour.is_citus() {
        client.batch_execute(&format!(
            "INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, {ROWS}) n;
             INSERT INTO orders SELECT n, n, n * 10 FROM generate_series(1, {ROWS}) n;"
        ))?;
    }
    Ok(())
}

fn existing(client: &mut Client) -> Result<Vec<String>> {
    let rows = client.query("SELECT datname::text FROM pg_database", &[])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
