//! A leader key that names a server which is not what it is taken for: of another cluster, without the
//! group's shards, the coordinator itself, or older than the one at the row. Keys are written by hand.

use lab::{Postgres, wait_for};
use serde_json::json;

use crate::bare::Bare;
use crate::daemon::{Daemon, SOON};

impl Bare {
    /// The group is in sync with its first member, has four shards, and its scope names its cluster.
    fn in_sync_with_shards() -> (Self, Daemon) {
        let bare = Self::start();
        bare.put_system("cn", &bare.coordinator);
        bare.put_system("wk1", &bare.members[0]);
        bare.put_leader("wk1", &bare.members[0]);
        bare.distribute();
        let daemon = bare.daemon(&json!({}));
        bare.wait_row(&daemon, &bare.members[0]);
        (bare, daemon)
    }

    /// A server of another cluster, with the extension and an empty database.
    fn another_cluster(&self, name: &str) -> Postgres {
        let server = Postgres::start(&self.sandbox, name).expect("PostgreSQL");
        server
            .install_citus("postgres")
            .expect("Citus or its stand-in");
        server
    }

    /// The scope is removed from etcd, and a server makes it anew and leads it.
    fn make_scope_anew(&self, leader: &Postgres) {
        self.etcd
            .kv()
            .delete_prefix("/service/wk1/")
            .expect("removed");
        self.put_system("wk1", leader);
        self.put_member("wk1", leader);
        self.put_leader("wk1", leader);
    }

    /// The names of the group's shards.
    fn shards(&self) -> Vec<String> {
        let mut client = self.coordinator.connect("postgres").expect("a session");
        let names = "SELECT c.relname || '_' || s.shardid FROM pg_dist_placement p \
             JOIN pg_dist_shard s USING (shardid) JOIN pg_class c ON c.oid = s.logicalrelid \
             WHERE p.groupid = 1 ORDER BY 1";
        let rows = client.query(names, &[]).expect("the shards");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The group waits with a reason that has all of these parts, in `status`, `plan`, `check` and the
    /// log; and its row is still at this member.
    fn waits(&self, daemon: &Daemon, at: &Postgres, parts: &[&str]) {
        let mut client = self.coordinator.connect("postgres").expect("a session");
        let waits = wait_for(&format!("a wait that says {parts:?}"), SOON, || {
            let group = daemon.group(1)?;
            let step = &group.databases["postgres"].step;
            Ok(parts.iter().all(|part| step.contains(part)))
        });
        daemon.expect(waits);
        let (_, status) = daemon.command(&["status"]);
        let (_, plan) = daemon.configured(&["plan"]);
        let (passed, check) = daemon.configured(&["check"]);
        assert!(!passed, "{check}");
        for part in parts {
            assert!(status.contains(part), "status lacks {part}: {status}");
            assert!(plan.contains(part), "plan lacks {part}: {plan}");
            assert!(check.contains(part), "check lacks {part}: {check}");
        }
        daemon.wait_logged(&[&["waiting", "scope=wk1"], parts].concat());
        assert_eq!(Self::row(&mut client).expect("the row"), at.port());
        let violations = daemon.metric("citus_sync_rule_violations_total", &[]);
        assert_eq!(violations.expect("metrics"), 0, "{}", daemon.log());
    }
}

/// What a restore brings back.
fn restore_shards(server: &Postgres, names: &[String]) {
    for name in names {
        let create = format!("CREATE TABLE IF NOT EXISTS {name} (id int)");
        server.execute("postgres", &create).expect("a shard");
    }
}

fn systems<const N: usize>(servers: [&Postgres; N]) -> [String; N] {
    servers.map(|server| server.system().expect("its system identifier"))
}

#[test]
fn a_row_does_not_follow_a_scope_made_anew_until_its_leader_has_the_shards() {
    let (bare, mut daemon) = Bare::in_sync_with_shards();
    let old = &bare.members[0];
    let new = bare.another_cluster("wk1x");
    let [ours, other] = systems([old, &new]);
    bare.make_scope_anew(&new);
    let missing = [
        "0 of the 4 shards of group 1",
        other.as_str(),
        ours.as_str(),
    ];
    bare.waits(&daemon, old, &missing);

    // A hold is not taken for it either.
    bare.request(&json!({"leader": new.name(), "member": "somebody"}));
    bare.wait_seen(&daemon);
    assert_eq!(daemon.group(1).expect("a report").hold, None);
    bare.withdraw();

    // A new start forgets nothing that matters, and neither does the end of the old cluster.
    daemon.kill_and_start_again();
    bare.waits(&daemon, old, &missing);
    old.kill().expect("dead");
    daemon.kill_and_start_again();
    bare.waits(&daemon, old, &missing[..2]);

    // Part of the data is not the data.
    let shards = bare.shards();
    restore_shards(&new, &shards[1..]);
    bare.waits(
        &daemon,
        old,
        &["3 of the 4 shards of group 1", other.as_str()],
    );
    restore_shards(&new, &shards);
    bare.wait_row(&daemon, &new);
}

/// `pg_upgrade` makes another cluster with the same data, and Patroni a scope anew.
#[test]
fn a_row_follows_an_upgraded_cluster_at_once() {
    let (bare, daemon) = Bare::in_sync_with_shards();
    let upgraded = bare.another_cluster("wk1x");
    restore_shards(&upgraded, &bare.shards());
    bare.make_scope_anew(&upgraded);
    bare.wait_row(&daemon, &upgraded);
    assert!(!daemon.log().contains("waiting: 127"), "{}", daemon.log());
}

/// The data directory was restored from a backup that is older than the table: the same identifier, and
/// a later timeline.
#[test]
fn a_row_does_not_follow_a_copy_that_was_restored_from_a_backup() {
    let (bare, daemon) = Bare::in_sync_with_shards();
    let [old, copy] = &bare.members;
    assert_eq!(old.system().expect("one"), copy.system().expect("the same"));
    bare.make_scope_anew(copy);
    bare.waits(&daemon, old, &["still takes writes", "two primaries"]);
    old.kill().expect("dead");
    bare.waits(&daemon, old, &["0 of the 4 shards of group 1"]);
    restore_shards(copy, &bare.shards());
    bare.wait_row(&daemon, copy);
}

#[test]
fn a_row_follows_neither_the_coordinator_nor_a_server_of_another_cluster() {
    let (bare, mut daemon) = Bare::in_sync_with_shards();
    let [old, new] = &bare.members;
    let stranger = bare.another_cluster("stranger");
    let [ours, coordinator, other] = systems([old, &bare.coordinator, &stranger]);
    // A member whose connect_address is wrong.
    bare.put_member_at("wk1", new, &bare.coordinator.address());
    bare.put_leader("wk1", new);
    bare.waits(
        &daemon,
        old,
        &["of another database cluster", &ours, &coordinator],
    );
    // … or was given to somebody else.
    bare.put_member_at("wk1", new, &stranger.address());
    bare.waits(
        &daemon,
        old,
        &["of another database cluster", &ours, &other],
    );
    daemon.kill_and_start_again();
    bare.waits(
        &daemon,
        old,
        &["of another database cluster", &ours, &other],
    );

    // Also where nothing says which cluster the scope is.
    bare.etcd
        .kv()
        .delete("/service/wk1/initialize")
        .expect("deleted");
    bare.put_member_at("wk1", new, &bare.coordinator.address());
    bare.waits(&daemon, old, &["is the coordinator itself"]);

    bare.put_system("wk1", old);
    bare.put_member("wk1", new);
    bare.put_leader("wk1", old);
    bare.wait_row(&daemon, old);
}

#[test]
fn at_a_start_a_row_does_not_move_to_an_older_leader() {
    let (bare, mut daemon) = Bare::in_sync_with_shards();
    let [old, new] = &bare.members;
    let backup = bare.etcd.backup().expect("a backup");
    bare.put_leader("wk1", new);
    bare.wait_row(&daemon, new);
    for n in 0..10 {
        let kv = bare.etcd.kv();
        kv.put("/elsewhere", &n.to_string()).expect("put");
    }
    bare.etcd.restore(&backup).expect("restored");
    daemon.kill_and_start_again();
    bare.waits(
        &daemon,
        new,
        &["still takes writes", "timelines 2 and 1", "two primaries"],
    );

    // As soon as that member is gone for certain, what etcd says is the best there is.
    new.kill().expect("dead");
    bare.wait_row(&daemon, old);
}

/// The primary that nobody fenced is the one at the row, and the daemon was away meanwhile.
#[test]
fn at_a_start_a_row_moves_to_a_newer_leader_though_the_older_takes_writes() {
    let (bare, mut daemon) = Bare::in_sync_with_shards();
    let [old, new] = &bare.members;
    daemon.kill();
    restore_shards(new, &bare.shards());
    // More of the log than the old one will have.
    for _ in 0..8 {
        new.execute(
            "postgres",
            "SELECT pg_logical_emit_message(false, 'x', 'x'); SELECT pg_switch_wal()",
        )
        .expect("a segment");
    }
    bare.put_leader("wk1", new);
    daemon.start_again();
    bare.wait_row(&daemon, new);
    assert!(old.connect("postgres").is_ok(), "it was not asked to stop");
}

#[test]
fn a_role_that_may_not_ask_for_the_identifier_follows_and_check_says_so() {
    let bare = Bare::start();
    let [old, new] = &bare.members;
    bare.put_system("wk1", old);
    bare.put_leader("wk1", old);
    for server in [&bare.coordinator, old, new] {
        server
            .execute(
                "postgres",
                "SET citus.enable_create_role_propagation = off; CREATE ROLE follower LOGIN; \
                 REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
            )
            .expect("a role");
    }
    bare.coordinator
        .execute(
            "postgres",
            "GRANT EXECUTE ON FUNCTION \
             citus_update_node(integer, text, integer, boolean, integer), \
             citus_pause_node_within_txn(integer, boolean, integer), \
             lock_shard_metadata(integer, bigint[]) TO follower",
        )
        .expect("granted");
    let daemon = bare.daemon_as("follower", &json!({}), |_| {});
    daemon.wait_ready();
    bare.wait_row(&daemon, old);
    bare.put_leader("wk1", new);
    bare.wait_row(&daemon, new);
    let (_, check) = daemon.configured(&["check"]);
    assert!(
        check.contains("GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO \"follower\""),
        "{check}"
    );
}

#[test]
fn no_session_is_opened_on_a_coordinator_of_another_cluster() {
    let (bare, daemon) = Bare::in_sync_with_shards();
    let stranger = bare.another_cluster("stranger");
    let [ours, other] = systems([&bare.coordinator, &stranger]);
    bare.put_member_at("cn", &bare.coordinator, &stranger.address());
    let refused = wait_for("the stranger to be refused", SOON, || {
        let state = daemon.state()?;
        let error = state.formations[0].databases[0].error.clone();
        let error = error.unwrap_or_default();
        Ok([&ours, &other]
            .into_iter()
            .all(|id| error.contains(id.as_str())))
    });
    daemon.expect(refused);
    bare.put_member("cn", &bare.coordinator);
    bare.wait_row(&daemon, &bare.members[0]);
}

#[test]
fn at_a_start_a_row_that_has_another_name_of_the_leaders_host_is_no_second_primary() {
    let (bare, mut daemon) = Bare::in_sync_with_shards();
    daemon.kill();
    bare.coordinator
        .execute(
            "postgres",
            "UPDATE pg_dist_node SET nodename = 'localhost' WHERE groupid = 1",
        )
        .expect("another name");
    daemon.start_again();
    let mut client = bare.coordinator.connect("postgres").expect("a session");
    let renamed = wait_for("the name that is advertised", SOON, || {
        let name = "SELECT nodename FROM pg_dist_node WHERE groupid = 1";
        let name: String = client.query_one(name, &[])?.get(0);
        Ok(name == "127.0.0.1" && daemon.group(1)?.in_sync)
    });
    daemon.expect(renamed);
}
