//! Rows as they may be found: missing, swapped, with names left behind; scopes that come later.

use lab::wait_for;
use serde_json::json;

use crate::daemon::{Daemon, SOON};
use crate::fixture::{DATABASES, in_sync, laboratory};

fn execute(lab: &lab::Lab, database: &str, sql: &str) {
    lab.coordinator()
        .connect(database)
        .expect("the coordinator")
        .batch_execute(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn one<T: for<'a> lab::postgres::types::FromSql<'a>>(lab: &lab::Lab, sql: &str) -> T {
    let mut client = lab
        .coordinator()
        .connect("postgres")
        .expect("the coordinator");
    client
        .query_one(sql, &[])
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
        .get(0)
}

/// The `nodeid` of group 1's row with this role.
fn nodeid(lab: &lab::Lab, role: &str) -> i32 {
    let which = format!("groupid = 1 AND noderole = '{role}'");
    one(
        lab,
        &format!("SELECT nodeid FROM pg_dist_node WHERE {which}"),
    )
}

/// Where the row with this `nodeid` points.
fn address(lab: &lab::Lab, nodeid: i32) -> String {
    let address = "SELECT nodename || ':' || nodeport FROM pg_dist_node";
    one(lab, &format!("{address} WHERE nodeid = {nodeid}"))
}

/// Adds a secondary row of group 1 for the replica.
fn add_secondary(lab: &lab::Lab, leader: &str, replica: &str) {
    if !lab.flavour().is_citus() {
        // It has no maintenance daemon, and adds no node while a worker is out of sync.
        execute(lab, "postgres", "SELECT citus_stand_in_sync_metadata()");
    }
    let port = |address: &str| address.rsplit_once(':').expect("a port").1.to_owned();
    let (leader, replica) = (port(leader), port(replica));
    let arguments = format!("'127.0.0.1', {replica}, '127.0.0.1', {leader}");
    let add = format!("SELECT citus_add_secondary_node({arguments})");
    execute(lab, "postgres", &add);
}

#[test]
fn a_secondary_row_changes_places_with_its_primary_and_both_keep_their_nodeids() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let scope = lab.scope("wk1").expect("wk1");
    let (leader, replica) = (
        scope.leader_address().expect("a leader"),
        scope.replicas().expect("replicas")[0].address(),
    );
    let primary = nodeid(&lab, "primary");
    add_secondary(&lab, &leader, &replica);
    let secondary = nodeid(&lab, "secondary");

    // The daemon read the rows before there was a secondary one. What it then does is refused by
    // Citus (the name is taken), read again, and done as a swap.
    scope.switchover(None).expect("a switchover");
    in_sync(&lab, &daemon);
    assert_eq!(address(&lab, primary), replica);
    assert_eq!(address(&lab, secondary), leader);

    // A swap that was cut off in the middle left its temporary name: it is found and fixed.
    let cut_off = "UPDATE pg_dist_node SET nodename = '127.0.0.1-demoted'";
    let cut_off = format!("{cut_off} WHERE nodeid = {secondary}");
    execute(&lab, "postgres", &cut_off);
    drop(daemon);
    let daemon = Daemon::start(&lab);
    let fixed = wait_for("the name to be fixed", SOON, || {
        Ok(address(&lab, secondary) == leader)
    });
    daemon.expect(fixed);
    let remove = "SELECT citus_remove_node(nodename, nodeport) FROM pg_dist_node";
    let remove = format!("{remove} WHERE nodeid = {secondary}");
    execute(&lab, "postgres", &remove);
    drop(daemon);
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
}

#[test]
fn scopes_are_discovered_by_name_and_join_without_a_restart() {
    let lab = laboratory();
    let daemon = Daemon::start_with(&lab, |config| {
        config.as_object_mut().expect("a mapping").remove("workers");
        config["discover"] = json!("^wk(?<group>[0-9]+)$");
    });
    daemon.wait_ready();
    in_sync(&lab, &daemon);
    lab.scope("wk3")
        .expect("wk3")
        .switchover(None)
        .expect("a switchover");
    in_sync(&lab, &daemon);

    let kv = lab.etcd().kv();
    kv.put("/service/wk7/initialize", "1").expect("put");
    wait_for("the new scope to be followed", SOON, || {
        Ok(daemon.group(7)?.scope == "wk7")
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));
    kv.delete_prefix("/service/wk7/").expect("deleted");
}

#[test]
fn a_formation_that_patroni_manages_is_only_observed() {
    let lab = laboratory();
    let kv = lab.etcd().kv();
    // Patroni's own integration lays its keys out as /service/<scope>/<group>/….
    for (group, scope) in ["cn", "wk1"].iter().enumerate() {
        let scope = lab.scope(scope).expect("a scope");
        let member = scope.leader().expect("a leader");
        let value = json!({
            "conn_url": format!("postgres://{}/postgres", member.address()),
            "state": "running", "role": "primary",
        });
        kv.put(
            &format!("/service/citus/{group}/members/m"),
            &value.to_string(),
        )
        .expect("put");
        kv.put(&format!("/service/citus/{group}/leader"), "m")
            .expect("put");
    }
    let daemon = Daemon::start_with(&lab, |config| {
        config["coordinator"]["scope"] = json!("citus/0");
        config["workers"] = json!([{"group": 1, "scope": "citus/1"}]);
    });
    daemon.wait_ready();
    // Its leader is another one than the row says: here, and only for this daemon.
    let replica = lab
        .scope("wk2")
        .expect("wk2")
        .leader_address()
        .expect("a leader");
    let value = json!({
        "conn_url": format!("postgres://{replica}/postgres"), "state": "running", "role": "primary",
    });
    let rows = DATABASES.map(|database| lab.rows(database).expect("rows"));
    kv.put("/service/citus/1/members/other", &value.to_string())
        .expect("put");
    kv.put("/service/citus/1/leader", "other").expect("put");
    wait_for("the new leader to be seen", SOON, || {
        Ok(daemon.group(1)?.leader.as_deref() == Some("other")
            && daemon.group(1)?.rule == citus_core::plan::Rule::Blocked)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));
    assert_eq!(
        DATABASES.map(|database| lab.rows(database).expect("rows")),
        rows
    );
    assert_eq!(
        daemon
            .metric("citus_sync_steps_total", &[])
            .expect("metrics"),
        0
    );
    kv.delete_prefix("/service/citus/").expect("deleted");
}

#[test]
fn a_missing_group_is_named_and_registered_where_asked_for() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    drop(daemon);
    // A database of its own, with Citus and no rows.
    let fresh = "CREATE DATABASE fresh";
    for scope in lab.scopes() {
        scope
            .connect("postgres")
            .expect("a leader")
            .batch_execute(fresh)
            .expect(fresh);
        let mut client = scope.connect("fresh").expect("the new database");
        lab::install_citus(&mut client, !lab.flavour().is_citus()).expect("Citus");
    }
    let only_fresh = |config: &mut serde_json::Value| {
        config["coordinator"]["databases"] = json!(["fresh"]);
    };
    let daemon = Daemon::start_with(&lab, only_fresh);
    daemon.wait_ready();
    daemon.wait_logged(&["no primary row for group 1", "citus_add_node"]);
    drop(daemon);

    let daemon = Daemon::start_with(&lab, |config| {
        only_fresh(config);
        config["register"] = json!(true);
    });
    daemon.wait_ready();
    wait_for("every group to be registered", SOON, || {
        Ok(lab.rows("fresh")? == lab.leaders()?)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));
    drop(daemon);
    for scope in lab.scopes() {
        let mut client = scope.connect("postgres").expect("a leader");
        client
            .batch_execute("DROP DATABASE fresh WITH (FORCE)")
            .expect("dropped");
    }
}
