//! What every scenario starts from: a coordinator and two workers (groups 1 and 2) with a distributed
//! table and a reference table, and citus-sync's sessions there.
//!
//! The servers are started once. Scenarios take turns, and each begins by undoing what the last one
//! left.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use citus_core::plan::Move;
use dcs_watch::HostPort;
use lab::{Flavour, Postgres, Sandbox, wait_for, wait_until};

use crate::session::{SOON, Session};

/// A port that nobody listens on: a move there is seen in the error of the next query. Reserved by
/// IANA (tcpmux), so not in any lab's block.
pub(crate) const DEAD_PORT: u16 = 1;

/// The name of the session that holds reference tables for all groups.
pub(crate) const REFERENCES: &str = "citus-sync: hold reference tables";

/// The servers.
pub(crate) struct Servers {
    pub(crate) flavour: Flavour,
    pub(crate) coordinator: Postgres,
    /// The leaders of groups 1 and 2.
    pub(crate) workers: [Postgres; 2],
    pub(crate) sandbox: Sandbox,
}

static SERVERS: LazyLock<Mutex<Servers>> = LazyLock::new(|| Mutex::new(Servers::start()));

/// The servers, as they were at first, for one scenario.
pub(crate) fn servers() -> MutexGuard<'static, Servers> {
    let servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    servers.restore();
    servers
}

impl Servers {
    fn start() -> Self {
        let sandbox = Sandbox::new().expect("a sandbox");
        let start = |name: &str| {
            Postgres::builder(&sandbox, name)
                // Nobody finds a deadlock but who has another setting.
                .setting("deadlock_timeout", "50s")
                .setting("citus.metadata_sync_interval", "200ms")
                .setting("citus.metadata_sync_retry_interval", "100ms")
                .start()
                .expect(name)
        };
        let coordinator = start("coordinator");
        let workers = [start("worker-1"), start("worker-2")];
        let flavour = coordinator.install_citus("postgres").expect("Citus");
        for worker in &workers {
            worker.install_citus("postgres").expect("Citus");
        }
        let servers = Self {
            flavour,
            coordinator,
            workers,
            sandbox,
        };
        let [one, two] = &servers.workers;
        let mut session = servers.session("ground");
        for sql in [
            format!(
                "SELECT citus_set_coordinator_host('127.0.0.1', {})",
                servers.coordinator.port()
            ),
            format!("SELECT citus_add_node('127.0.0.1', {}, 1)", one.port()),
            format!("SELECT citus_add_node('127.0.0.1', {}, 2)", two.port()),
            "CREATE TABLE kv (k bigint PRIMARY KEY, v text)".into(),
            "SELECT create_distributed_table('kv', 'k', shard_count => 8)".into(),
            "CREATE TABLE countries (id bigint PRIMARY KEY, name text)".into(),
            "SELECT create_reference_table('countries')".into(),
        ] {
            session.run(&sql);
        }
        servers
    }

    /// Undoes whatever the last scenario, or its failure, left behind.
    fn restore(&self) {
        for server in self.workers.iter().chain([&self.coordinator]) {
            server.thaw();
        }
        // The coordinator first: Citus tells its rows to every worker that is marked. A sync that the
        // last scenario began holds the table until it is done everywhere.
        for server in [&self.coordinator].into_iter().chain(&self.workers) {
            let mut session = Session::open(server, "ground");
            session.run(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
                 AND (application_name LIKE 'scenario%' OR application_name LIKE 'citus-sync%')",
            );
            let mut rows = String::new();
            for group in 0..=2 {
                let port = self.server(group).port();
                let row = format!(
                    "UPDATE pg_dist_node SET nodename = '127.0.0.1', nodeport = {port} \
                     WHERE groupid = {group} AND nodeport <> {port}; "
                );
                rows.push_str(&row);
            }
            session.run(&format!(
                "BEGIN; LOCK TABLE pg_dist_node IN SHARE ROW EXCLUSIVE MODE; \
                 DELETE FROM pg_dist_node \
                 WHERE noderole <> 'primary' OR groupid NOT IN (0, 1, 2); {rows}\
                 UPDATE pg_dist_node SET metadatasynced = true WHERE hasmetadata; COMMIT"
            ));
        }
        self.own("postgres");
    }

    /// The server that a group really has.
    pub(crate) fn server(&self, group: usize) -> &Postgres {
        match group {
            0 => &self.coordinator,
            worker => &self.workers[worker - 1],
        }
    }

    pub(crate) fn address(&self, group: usize) -> HostPort {
        self.server(group).address().parse().expect("an address")
    }

    /// A client of the coordinator.
    pub(crate) fn session(&self, name: &str) -> Session {
        Session::open(&self.coordinator, name)
    }

    /// The first or the last of some keys whose shards are placed on `group`.
    fn key(&self, group: usize, which: &str) -> String {
        self.session("ground").one(&format!(
            "SELECT {which}(k) FROM generate_series(1, 100) k JOIN pg_dist_placement \
             ON shardid = get_shard_id_for_distribution_column('kv', k) WHERE groupid = {group}"
        ))
    }

    /// A client's write of a key that lives on `group`.
    pub(crate) fn write(&self, group: usize, value: &str) -> String {
        self.write_to("kv", "k", "v", &self.key(group, "min"), value)
    }

    /// A write of another key that lives on `group`: such as do not wait for each other.
    pub(crate) fn write_beside(&self, group: usize, value: &str) -> String {
        self.write_to("kv", "k", "v", &self.key(group, "max"), value)
    }

    /// A client's write of every shard of the distributed table, whose locks it takes in order.
    pub(crate) fn write_all(&self, value: &str) -> String {
        if self.flavour.is_citus() {
            format!("UPDATE kv SET v = '{value}'")
        } else {
            "SELECT lock_shard_metadata(5, array_agg(shardid ORDER BY shardid)) \
             FROM pg_dist_shard WHERE logicalrelid = 'kv'::regclass"
                .to_owned()
        }
    }

    /// The groups, the one first that has the first shard.
    pub(crate) fn groups_by_first_shard(&self) -> [i32; 2] {
        let group = self.session("ground").one(
            "SELECT groupid FROM pg_dist_placement JOIN pg_dist_shard USING (shardid) \
             WHERE logicalrelid = 'kv'::regclass ORDER BY shardid LIMIT 1",
        );
        if group == "1" { [1, 2] } else { [2, 1] }
    }

    /// A client's write of the reference table.
    pub(crate) fn write_reference(&self, value: &str) -> String {
        self.write_to("countries", "id", "name", "1", value)
    }

    fn write_to(&self, table: &str, key: &str, column: &str, at: &str, value: &str) -> String {
        if self.flavour.is_citus() {
            format!(
                "INSERT INTO {table} ({key}, {column}) VALUES ({at}, '{value}') \
                 ON CONFLICT ({key}) DO UPDATE SET {column} = excluded.{column}"
            )
        } else {
            format!("SELECT citus_stand_in_write('{table}', {at}, '{value}')")
        }
    }

    /// A client's read of the key that lives on `group`.
    pub(crate) fn read(&self, group: usize) -> String {
        let key = self.key(group, "min");
        if self.flavour.is_citus() {
            format!("SELECT v FROM kv WHERE k = {key}")
        } else {
            format!("SELECT citus_stand_in_read('kv', {key})")
        }
    }

    /// Where a group's primary row points, as `server` has it.
    pub(crate) fn row(server: &Postgres, group: usize) -> String {
        Session::open(server, "ground").one(&format!(
            "SELECT nodename || ':' || nodeport FROM pg_dist_node \
             WHERE groupid = {group} AND noderole = 'primary'"
        ))
    }

    pub(crate) fn nodeid(&self, group: usize) -> i32 {
        let query = format!(
            "SELECT nodeid FROM pg_dist_node WHERE groupid = {group} AND noderole = 'primary'"
        );
        let text = self.session("ground").one(&query);
        text.parse().expect("a number")
    }

    /// A move of a group's row to a port of 127.0.0.1.
    pub(crate) fn a_move(&self, group: usize, port: u16) -> Move {
        Move {
            nodeid: self.nodeid(group),
            from: self.address(group),
            to: HostPort {
                host: "127.0.0.1".to_owned(),
                port,
            },
            make_way: None,
        }
    }

    /// A role that owns the tables, and so may hold them, but is no superuser.
    pub(crate) fn owner(&self, role: &str) {
        let mut admin = self.session("ground");
        admin.run(&format!(
            "DO $$ BEGIN IF to_regrole('{role}') IS NULL THEN CREATE ROLE {role} LOGIN; END IF; END $$"
        ));
        self.own(role);
    }

    pub(crate) fn own(&self, role: &str) {
        let mut admin = self.session("ground");
        for table in ["kv", "countries"] {
            admin.run(&format!("ALTER TABLE {table} OWNER TO {role}"));
        }
    }

    /// How many backends of `server` bear this name.
    pub(crate) fn backends(server: &Postgres, name: &str) -> usize {
        let query =
            format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'");
        let text = Session::open(server, "ground").one(&query);
        text.parse().expect("a number")
    }

    /// Waits until as many backends of `server` with this name wait for a lock.
    pub(crate) fn wait_blocked(server: &Postgres, name: &str, count: usize) {
        let mut session = Session::open(server, "ground");
        wait_for(&format!("{count} {name} that wait"), SOON, || {
            let waiting = session.one(&format!(
                "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                 WHERE NOT granted AND application_name = '{name}'"
            ));
            Ok(waiting == count.to_string())
        })
        .expect("it waits");
    }

    /// Waits until nobody of `server` bears this name.
    pub(crate) fn wait_gone(server: &Postgres, name: &str) {
        wait_for(&format!("{name} that is gone"), SOON, || {
            Ok(Self::backends(server, name) == 0)
        })
        .expect("it is gone");
    }
}

/// The names that holding and moving sessions have in `pg_stat_activity`.
pub(crate) fn holder(group: i32) -> String {
    format!("citus-sync: hold group {group}")
}

/// Waits until a question is answered with yes.
pub(crate) fn until(what: &str, mut ask: impl FnMut() -> bool) {
    wait_until(what, SOON, || Ok(ask().then_some(()))).expect(what);
}

/// Waits, in a thread of its own while the runtime turns, until a hold waits for a lock.
pub(crate) fn wait_for_holder(port: u16) {
    let waiting = "SELECT count(*) = 1 FROM pg_locks JOIN pg_stat_activity USING (pid) \
                   WHERE NOT granted AND application_name LIKE 'citus-sync: hold%'";
    wait_at(port, waiting);
}

/// The same until no session bears this name.
pub(crate) fn wait_for_nobody(port: u16, name: &str) {
    let gone =
        format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = '{name}'");
    wait_at(port, &gone);
}

fn wait_at(port: u16, question: &str) {
    let mut client = lab::connect(port, "postgres").expect("a client");
    wait_for(question, SOON, || {
        Ok(client.query_one(question, &[])?.get(0))
    })
    .expect(question);
}
