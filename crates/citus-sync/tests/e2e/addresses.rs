//! Where rows go: spellings of one address, addresses that the coordinator does not reach, exchanged
//! addresses, registered and fixed ones, clones. Keys are written by hand, servers are plain ones.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use citus_core::plan::{Stay, Wait};
use lab::postgres::Client;
use lab::{Etcd, Postgres, Sandbox, wait_for};
use serde_json::{Value, json};

use crate::daemon::{Daemon, SOON};
use crate::fixture::{in_sync, laboratory};

/// A second address of a server, which lets citus-sync through and nobody else, until it is opened.
/// It closes connections of the coordinator as a proxy would whose server is gone.
struct Passage {
    host: &'static str,
    port: u16,
    way: Arc<Way>,
}

/// Where a passage leads, and what goes through it.
struct Way {
    to: AtomicU16,
    is_open: AtomicBool,
    clients: Mutex<Vec<TcpStream>>,
}

impl Passage {
    fn to(server: &Postgres, host: &'static str) -> Self {
        let port = server.port();
        let way = Arc::new(Way {
            to: AtomicU16::new(port),
            is_open: AtomicBool::new(false),
            clients: Mutex::default(),
        });
        let listener = TcpListener::bind((host, port)).expect("a second address");
        let through = way.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let through = through.clone();
                thread::spawn(move || {
                    // What the client closes ends both ways.
                    let _ = pass(client, &through);
                });
            }
        });
        Self { host, port, way }
    }

    fn open(&self) {
        self.way.is_open.store(true, Ordering::SeqCst);
    }

    /// The address is given to another server; whoever was at the first one is cut off.
    fn turn_to(&self, server: &Postgres) {
        self.way.to.store(server.port(), Ordering::SeqCst);
        for client in self.way.clients.lock().expect("clients").drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// The first packet names the application.
fn pass(mut client: TcpStream, way: &Way) -> std::io::Result<()> {
    way.clients
        .lock()
        .expect("clients")
        .push(client.try_clone()?);
    let mut packet = [0; 4096];
    let length = client.read(&mut packet)?;
    let first = &packet[..length];
    let ours = first.windows(10).any(|window| window == b"citus-sync");
    if !ours && !way.is_open.load(Ordering::SeqCst) {
        return client.shutdown(Shutdown::Both);
    }
    let mut server = TcpStream::connect(("127.0.0.1", way.to.load(Ordering::SeqCst)))?;
    server.write_all(first)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let there = thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = there.join();
    Ok(())
}

/// A coordinator, and three servers that take writes.
struct Bed {
    sandbox: Sandbox,
    etcd: Etcd,
    coordinator: Postgres,
    servers: [Postgres; 3],
}

impl Bed {
    fn start() -> Self {
        let sandbox = Sandbox::new().expect("a sandbox");
        let etcd = Etcd::start(&sandbox).expect("etcd");
        let server = |name: &str| {
            let server = Postgres::start(&sandbox, name).expect("PostgreSQL");
            let citus = server.install_citus("postgres");
            citus.expect("Citus or its stand-in");
            server
        };
        let bed = Self {
            coordinator: server("cn1"),
            servers: [server("pg1"), server("pg2"), server("pg3")],
            sandbox,
            etcd,
        };
        bed.member("cn", "cn1", &bed.coordinator.address());
        bed.leader("cn", "cn1");
        bed
    }

    fn put(&self, key: &str, value: &str) {
        let key = format!("/service/{key}");
        self.etcd.kv().put(&key, value).expect("put");
    }

    fn member(&self, scope: &str, name: &str, address: &str) {
        self.put(&format!("{scope}/members/{name}"), &member_key(address));
    }

    fn leader(&self, scope: &str, name: &str) {
        self.put(&format!("{scope}/leader"), name);
    }

    fn add(&self, host: &str, server: &Postgres, group: i32) {
        self.execute(&format!(
            "SELECT citus_add_node('{host}', {}, {group})",
            server.port()
        ));
    }

    fn execute(&self, sql: &str) {
        self.coordinator.execute("postgres", sql).expect(sql);
    }

    fn client(&self) -> Client {
        self.coordinator
            .connect("postgres")
            .expect("the coordinator")
    }

    /// Each row, in the order of groups: `nodeid group nodename:nodeport`.
    fn rows(&self) -> Vec<String> {
        let rows = self.client().query(
            "SELECT format('%s %s %s:%s', nodeid, groupid, nodename, nodeport) FROM pg_dist_node \
             WHERE groupid > 0 ORDER BY groupid",
            &[],
        );
        rows.expect("the rows")
            .iter()
            .map(|row| row.get(0))
            .collect()
    }

    fn nodeid(&self, group: i32) -> i32 {
        let sql = "SELECT nodeid FROM pg_dist_node WHERE groupid = $1 AND noderole = 'primary'";
        self.client()
            .query_one(sql, &[&group])
            .expect("a row")
            .get(0)
    }

    fn daemon(&self, change: impl FnOnce(&mut Value)) -> Daemon {
        let listen = self.sandbox.port().expect("a port");
        let mut config = json!({
            "etcd": {"endpoints": [self.etcd.endpoint()]},
            "coordinator": {"scope": "cn", "databases": ["postgres"]},
            "workers": [{"group": 1, "scope": "wk1"}],
            "listen": format!("127.0.0.1:{listen}"),
        });
        change(&mut config);
        let daemon = Daemon::start_configured(&self.sandbox, listen, &config, |_| {});
        daemon.wait_ready();
        daemon
    }

    fn wait_row(&self, daemon: &Daemon, row: &str) {
        let what = format!("the row {row}");
        let there = wait_for(&what, SOON, || Ok(self.rows().contains(&row.to_owned())));
        daemon.expect(there);
    }
}

fn member_key(address: &str) -> String {
    json!({
        "conn_url": format!("postgres://{address}/postgres"),
        "state": "running", "role": "replica", "version": "4.1.5",
    })
    .to_string()
}

fn wait_in_sync(daemon: &Daemon, group: i32) {
    let in_sync = wait_for("the group to be in sync", SOON, || {
        Ok(daemon.group(group)?.in_sync)
    });
    daemon.expect(in_sync);
    no_violation(daemon);
}

fn no_violation(daemon: &Daemon) {
    let violations = daemon.metric("citus_sync_rule_violations_total", &[]);
    assert_eq!(violations.expect("metrics"), 0, "{}", daemon.log());
}

fn wait(daemon: &Daemon, group: i32, what: &str, is_it: impl Fn(&Wait) -> bool) -> Wait {
    let mut found = None;
    let waits = wait_for(what, SOON, || {
        found.clone_from(&daemon.group(group)?.databases["postgres"].wait);
        Ok(found.as_ref().is_some_and(&is_it))
    });
    daemon.expect(waits);
    found.expect("a reason to wait")
}

fn moves(daemon: &Daemon) -> u64 {
    daemon
        .metric("citus_sync_steps_total", &[])
        .expect("metrics")
}

#[test]
fn a_row_that_spells_its_leaders_name_in_capitals_is_left_as_it_is() {
    let bed = Bed::start();
    let [first, second, _] = &bed.servers;
    bed.add("LOCALHOST", first, 1);
    bed.member("wk1", "pg1", &format!("localhost:{}", first.port()));
    bed.member("wk1", "pg2", &format!("LocalHost:{}", second.port()));
    bed.leader("wk1", "pg1");
    let node = bed.nodeid(1);
    let daemon = bed.daemon(|_| {});
    wait_in_sync(&daemon, 1);
    assert_eq!(bed.rows(), [format!("{node} 1 LOCALHOST:{}", first.port())]);
    assert_eq!(moves(&daemon), 0, "{}", daemon.log());
    bed.leader("wk1", "pg2");
    bed.wait_row(&daemon, &format!("{node} 1 LocalHost:{}", second.port()));
    wait_in_sync(&daemon, 1);
    assert_eq!(moves(&daemon), 1, "{}", daemon.log());
}

#[test]
fn a_row_that_works_stays_where_the_coordinator_reaches_it_and_follows_a_failover_loudly() {
    let bed = Bed::start();
    let [first, second, _] = &bed.servers;
    bed.add("127.0.0.1", first, 1);
    let (one, two) = (
        Passage::to(first, "127.0.0.77"),
        Passage::to(second, "127.0.0.78"),
    );
    bed.member("wk1", "pg1", &one.address());
    bed.member("wk1", "pg2", &two.address());
    bed.leader("wk1", "pg1");
    let node = bed.nodeid(1);
    let daemon = bed.daemon(|_| {});
    wait(&daemon, 1, "the row to stay", |wait| {
        matches!(wait, Wait::NotReached { .. })
    });
    assert_eq!(bed.rows(), [format!("{node} 1 127.0.0.1:{}", first.port())]);
    let (_, status) = daemon.command(&["status"]);
    let (_, plan) = daemon.configured(&["plan"]);
    let (passed, check) = daemon.configured(&["check"]);
    assert!(!passed, "{check}");
    for (text, said) in [("status", &status), ("plan", &plan), ("check", &check)] {
        assert!(
            said.contains("does not reach") && said.contains("127.0.0.77"),
            "{text}: {said}"
        );
    }
    assert!(
        check.contains("wk1, member pg2") && check.contains("127.0.0.78"),
        "{check}"
    );
    let reaches = |member: &str| {
        let parts = [format!("member=\"{member}\""), "group=\"1\"".to_owned()];
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        daemon
            .metric("citus_sync_coordinator_reaches", &parts)
            .expect("metrics")
    };
    assert_eq!((reaches(""), reaches("pg1")), (1, 0));
    daemon.wait_logged(&["WARN", "the coordinator does not reach", "member=\"pg2\""]);

    // The old server is gone: the row follows, although the coordinator does not get there.
    bed.leader("wk1", "pg2");
    first.kill().expect("killed");
    bed.wait_row(&daemon, &format!("{node} 1 {}", two.address()));
    daemon.wait_logged(&[
        "ERROR",
        "does not reach the address of this group's row",
        "127.0.0.78",
    ]);
    two.open();
    daemon.wait_logged(&["INFO", "reaches this address again", "127.0.0.78"]);
    assert_eq!(reaches("pg2"), 1);
    wait_in_sync(&daemon, 1);
}

#[test]
fn a_row_moves_to_the_advertised_address_once_the_coordinator_gets_there() {
    let bed = Bed::start();
    let [first, ..] = &bed.servers;
    bed.add("127.0.0.1", first, 1);
    let passage = Passage::to(first, "127.0.0.79");
    bed.member("wk1", "pg1", &passage.address());
    bed.leader("wk1", "pg1");
    let node = bed.nodeid(1);
    let daemon = bed.daemon(|_| {});
    wait(&daemon, 1, "the row to stay", |wait| {
        matches!(wait, Wait::NotReached { .. })
    });
    passage.open();
    bed.wait_row(&daemon, &format!("{node} 1 {}", passage.address()));
    wait_in_sync(&daemon, 1);
}

/// Groups 1 and 2, each with one member, at addresses that can be given to other servers. Each test has
/// hosts of its own: a passage stays until all tests are over.
fn two_groups(bed: &Bed, hosts: [&'static str; 2]) -> [Passage; 2] {
    let [first, second, _] = &bed.servers;
    let (one, two) = (Passage::to(first, hosts[0]), Passage::to(second, hosts[1]));
    for passage in [&one, &two] {
        passage.open();
    }
    bed.add(one.host, first, 1);
    bed.add(two.host, second, 2);
    bed.member("wk1", "wk1a", &one.address());
    bed.member("wk2", "wk2a", &two.address());
    bed.leader("wk1", "wk1a");
    bed.leader("wk2", "wk2a");
    [one, two]
}

fn both(config: &mut Value) {
    config["workers"] = json!([{"group": 1, "scope": "wk1"}, {"group": 2, "scope": "wk2"}]);
}

/// The two members exchange their addresses.
fn exchange_addresses(bed: &Bed, [one, two]: &[Passage; 2]) {
    let [first, second, _] = &bed.servers;
    one.turn_to(second);
    two.turn_to(first);
    let (at_one, at_two) = (member_key(&one.address()), member_key(&two.address()));
    let keys = [
        ("/service/wk1/members/wk1a", at_two.as_str()),
        ("/service/wk2/members/wk2a", at_one.as_str()),
    ];
    bed.etcd.kv().put_all(&keys).expect("put");
}

#[test]
fn groups_whose_leaders_exchange_addresses_are_exchanged_in_one_transaction() {
    let bed = Bed::start();
    let passages = two_groups(&bed, ["127.0.0.91", "127.0.0.92"]);
    let [at_one, at_two] = passages.each_ref().map(Passage::address);
    let (one, two) = (bed.nodeid(1), bed.nodeid(2));
    let daemon = bed.daemon(both);
    wait_in_sync(&daemon, 1);
    wait_in_sync(&daemon, 2);
    exchange_addresses(&bed, &passages);
    bed.wait_row(&daemon, &format!("{one} 1 {at_two}"));
    assert_eq!(
        bed.rows(),
        [format!("{one} 1 {at_two}"), format!("{two} 2 {at_one}")]
    );
    wait_in_sync(&daemon, 1);
    wait_in_sync(&daemon, 2);
    let exchanged = daemon.metric("citus_sync_steps_total", &["operation=\"exchange\""]);
    assert_eq!(exchanged.expect("metrics"), 1, "{}", daemon.log());
    assert_eq!(moves(&daemon), 1, "{}", daemon.log());
}

/// While a writer keeps a shard of one of the groups locked, the rows are exchanged by plain updates.
#[test]
fn an_exchange_waits_for_no_writer() {
    let bed = Bed::start();
    let passages = two_groups(&bed, ["127.0.0.93", "127.0.0.94"]);
    bed.execute(
        "SET citus.shard_count = 4; CREATE TABLE t (id int); \
         SELECT create_distributed_table('t', 'id')",
    );
    let daemon = bed.daemon(both);
    wait_in_sync(&daemon, 1);
    wait_in_sync(&daemon, 2);
    let mut writer = bed.client();
    let locks = "BEGIN; SELECT lock_shard_metadata(5, array_agg(shardid ORDER BY shardid)) \
         FROM pg_dist_placement WHERE groupid = 2";
    writer.batch_execute(locks).expect("a writer's locks");
    exchange_addresses(&bed, &passages);
    let at_two = passages[1].address();
    bed.wait_row(&daemon, &format!("{} 1 {at_two}", bed.nodeid(1)));
    drop(writer);
    wait_in_sync(&daemon, 1);
    wait_in_sync(&daemon, 2);
}

#[test]
fn rows_of_a_database_that_numbers_its_groups_differently_are_left_alone_and_told() {
    let bed = Bed::start();
    let passages = two_groups(&bed, ["127.0.0.95", "127.0.0.96"]);
    exchange_addresses(&bed, &passages);
    let before = bed.rows();
    let daemon = bed.daemon(both);
    for group in [1, 2] {
        let found = wait(&daemon, group, "it to be told", |wait| {
            matches!(wait, Wait::NotOurs { .. })
        });
        assert!(found.to_string().contains("not ours to move"), "{found}");
    }
    let (passed, check) = daemon.configured(&["check"]);
    assert!(!passed && check.contains("not ours to move"), "{check}");
    assert_eq!(bed.rows(), before);
    no_violation(&daemon);
}

#[test]
fn rows_get_the_registered_address_and_the_daemon_connects_to_the_advertised_one() {
    let bed = Bed::start();
    let [first, second, _] = &bed.servers;
    bed.add("127.0.0.1", first, 1);
    let (one, two) = (
        Passage::to(first, "127.0.0.81"),
        Passage::to(second, "127.0.0.82"),
    );
    bed.member("wk1", "pg1", &one.address());
    bed.member("wk1", "pg2", &two.address());
    bed.leader("wk1", "pg1");
    let node = bed.nodeid(1);
    let daemon = bed.daemon(|config| {
        config["addresses"] =
            json!([{"advertised": r"127\.0\.0\.8[12]:(\d+)", "registered": "127.0.0.1:$1"}]);
    });
    wait_in_sync(&daemon, 1);
    assert_eq!(moves(&daemon), 0, "{}", daemon.log());
    bed.leader("wk1", "pg2");
    bed.wait_row(&daemon, &format!("{node} 1 {}", second.address()));
    wait_in_sync(&daemon, 1);
    let (_, plan) = daemon.configured(&["plan"]);
    assert!(!plan.contains("127.0.0.82"), "{plan}");
    let (_, check) = daemon.configured(&["check"]);
    assert!(
        check.contains(&format!("reaches {}", second.address())),
        "{check}"
    );

    // Two members that would be registered at one address have none.
    let third = &bed.servers[2];
    bed.member("wk1", "pg3", &format!("127.0.0.81:{}", second.port()));
    let problems =
        wait_for("it to be told", SOON, || {
            let problems = daemon.group(1)?.problems.join("; ");
            Ok(problems.contains("pg2")
                && problems.contains("pg3")
                && problems.contains("`addresses`"))
        });
    daemon.expect(problems);
    bed.member("wk1", "pg3", &third.address());
    wait_in_sync(&daemon, 1);
}

#[test]
fn a_group_behind_a_fixed_address_is_held_and_its_row_never_rewritten() {
    let bed = Bed::start();
    let [first, ..] = &bed.servers;
    let vip = Passage::to(first, "127.0.0.99");
    vip.open();
    bed.add(vip.host, first, 1);
    let second = first.standby("pg1b").expect("a standby");
    bed.execute(
        "SET citus.shard_count = 4; CREATE TABLE t (id int); \
         SELECT create_distributed_table('t', 'id')",
    );
    bed.member("wk1", "pg1", &first.address());
    bed.member("wk1", "pg2", &second.address());
    bed.leader("wk1", "pg1");
    let before = bed.rows();
    let daemon = bed.daemon(|config| {
        config["workers"] = json!([{"group": 1, "scope": "wk1", "address": "fixed"}]);
    });
    wait_in_sync(&daemon, 1);
    bed.put(
        "wk1/failover",
        &json!({"leader": "pg1", "member": "pg2"}).to_string(),
    );
    daemon.wait_held(1);
    let held = wait(&daemon, 1, "reads to stay", |wait| {
        matches!(
            wait,
            Wait::Held {
                stay: Some(Stay::Fixed),
                ..
            }
        )
    });
    assert!(held.to_string().contains("`fixed`"), "{held}");
    second.promote().expect("promoted");
    vip.turn_to(&second);
    bed.leader("wk1", "pg2");
    bed.etcd
        .kv()
        .delete("/service/wk1/failover")
        .expect("deleted");
    daemon.wait_let_go(1);
    wait_in_sync(&daemon, 1);
    assert_eq!(bed.rows(), before);
    assert_eq!(moves(&daemon), 0, "{}", daemon.log());
    let disagrees = daemon.metric("citus_sync_row_disagrees", &["group=\"1\""]);
    assert_eq!(disagrees.expect("metrics"), 0);
}

#[test]
fn a_clones_row_in_the_way_of_a_failover_changes_places_with_the_groups_row() {
    let bed = Bed::start();
    let [first, second, _] = &bed.servers;
    bed.add("127.0.0.1", first, 1);
    bed.member("wk1", "pg1", &first.address());
    bed.member("wk1", "pg2", &second.address());
    bed.leader("wk1", "pg1");
    let node = bed.nodeid(1);
    let clones = "SELECT count(*) FROM information_schema.columns \
         WHERE table_name = 'pg_dist_node' AND column_name = 'nodeisclone'";
    if bed
        .client()
        .query_one(clones, &[])
        .expect("columns")
        .get::<_, i64>(0)
        == 0
    {
        return;
    }
    // As `citus_add_clone_node` leaves it (`CitusAddCloneNode` in Citus's node_metadata.c).
    bed.execute(&format!(
        "INSERT INTO pg_dist_node (nodeid, groupid, nodename, nodeport, noderole, isactive, \
         hasmetadata, metadatasynced, shouldhaveshards, nodeisclone, nodeprimarynodeid) \
         VALUES (70, 70, '127.0.0.1', {}, 'unavailable', false, false, false, false, true, {node})",
        second.port()
    ));
    let daemon = bed.daemon(|_| {});
    wait_in_sync(&daemon, 1);
    bed.leader("wk1", "pg2");
    bed.wait_row(&daemon, &format!("{node} 1 {}", second.address()));
    bed.wait_row(&daemon, &format!("70 70 {}", first.address()));
    wait_in_sync(&daemon, 1);
    daemon.wait_logged(&["WARN", "the row of clone node 70"]);
    let clone = "SELECT nodeisclone FROM pg_dist_node WHERE nodeid = 70";
    assert!(
        bed.client()
            .query_one(clone, &[])
            .expect("it")
            .get::<_, bool>(0)
    );
}

/// The coordinator has no password for the standby, and citus-sync has.
#[test]
fn reads_of_a_hold_stay_where_they_are_while_the_coordinator_does_not_reach_the_standby() {
    let lab = laboratory();
    let scope = lab.scope("wk1").expect("wk1");
    let standby = scope.replicas().expect("replicas")[0];
    let role = "SET citus.enable_create_role_propagation = off; \
         DROP ROLE IF EXISTS reader; CREATE ROLE reader SUPERUSER LOGIN PASSWORD 'secret'";
    for scope in lab.scopes() {
        let mut client = scope.connect("postgres").expect("a leader");
        client.batch_execute(role).expect("a role");
    }
    let mut there = standby.connect("postgres").expect("the standby");
    let role_is_there = wait_for("the role at the standby", SOON, || {
        let sql = "SELECT count(*) FROM pg_roles WHERE rolname = 'reader'";
        Ok(there.query_one(sql, &[])?.get::<_, i64>(0) == 1)
    });
    role_is_there.expect("replicated");
    let hba: String = (there.query_one("SELECT pg_read_file(current_setting('hba_file'))", &[]))
        .expect("pg_hba.conf")
        .get(0);
    write_hba(
        &mut there,
        &format!("host all reader 127.0.0.1/32 scram-sha-256\n{hba}"),
    );

    let password = lab.sandbox().root().join("reader");
    lab.sandbox()
        .write(&password, "secret\n")
        .expect("a password");
    let daemon = Daemon::start_with(&lab, |config| {
        config["coordinator"]["user"] = json!("reader");
        config["coordinator"]["password_file"] = json!(password);
    });
    daemon.wait_ready();
    let unreached = wait_for("it to be told", SOON, || {
        let reach = daemon.group(1)?.reach;
        Ok(reach.iter().any(|place| {
            let why = place.why.as_ref().map(|why| why.kind.name());
            place.member.as_deref() == Some(standby.name()) && why == Some("authentication")
        }))
    });
    daemon.expect(unreached);
    let (passed, check) = daemon.configured(&["check"]);
    let said = format!("member {}", standby.name());
    let named = check.contains(&said) && check.contains("authentication");
    assert!(!passed && named, "{check}");

    daemon.hold(1);
    let held = wait(&daemon, 1, "reads to stay", |wait| {
        matches!(
            wait,
            Wait::Held {
                stay: Some(Stay::NotReached { .. }),
                ..
            }
        )
    });
    assert!(held.to_string().contains(&standby.address()), "{held}");
    assert_eq!(
        daemon.group(1).expect("it").databases["postgres"].row,
        leader_of(scope)
    );
    daemon.release(1);
    daemon.wait_let_go(1);

    write_hba(&mut there, &hba);
    let reached = wait_for("the standby to be reached", SOON, || {
        let reach = daemon.group(1)?.reach;
        Ok(reach.iter().all(|place| place.why.is_none()))
    });
    daemon.expect(reached);
    daemon.hold(1);
    let moved = wait_for("reads at the standby", SOON, || {
        let row = daemon.group(1)?.databases["postgres"].row.clone();
        Ok(row.is_some_and(|row| row.to_string() == standby.address()))
    });
    daemon.expect(moved);
    daemon.release(1);
    daemon.wait_let_go(1);
    in_sync(&lab, &daemon);
}

fn leader_of(scope: &lab::Scope) -> Option<dcs_watch::HostPort> {
    scope.leader_address().expect("a leader").parse().ok()
}

fn write_hba(server: &mut Client, text: &str) {
    // Line by line: COPY would write a line break inside of a value as \n. An empty line would be
    // written in quotes, which is no line of pg_hba.conf.
    let file: String = (server.query_one("SELECT current_setting('hba_file')", &[]))
        .expect("its place")
        .get(0);
    let quoted = text.replace('\'', "''");
    let copy = format!(
        "COPY (SELECT line FROM regexp_split_to_table('{quoted}', E'\\n') line WHERE line <> '') TO '{file}' \
         WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02'); SELECT pg_reload_conf()"
    );
    server.batch_execute(&copy).expect("pg_hba.conf");
}
