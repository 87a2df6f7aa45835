//! Keys written by hand and members that are plain servers: for what Patroni would not do, or would
//! take long to recover from.

use std::process::Command;
use std::thread;

use lab::postgres::Client;
use lab::{Etcd, Postgres, Sandbox, wait_for};
use serde_json::{Value, json};

use crate::daemon::{Daemon, SOON};

/// Where a request for a failover or switchover of the group is.
const REQUEST: &str = "/service/wk1/failover";

/// A coordinator and the two members of group 1, both of which take writes: the second is a copy of the
/// first, promoted.
pub(crate) struct Bare {
    pub(crate) sandbox: Sandbox,
    pub(crate) etcd: Etcd,
    pub(crate) coordinator: Postgres,
    pub(crate) members: [Postgres; 2],
}

impl Bare {
    pub(crate) fn start() -> Self {
        let sandbox = Sandbox::new().expect("a sandbox");
        let etcd = Etcd::start(&sandbox).expect("etcd");
        let server = |name: &str| {
            let server = Postgres::start(&sandbox, name).expect("PostgreSQL");
            server
                .install_citus("postgres")
                .expect("Citus or its stand-in");
            server
        };
        let (coordinator, first) = (server("cn1"), server("pg1"));
        let second = first.standby("pg2").expect("a copy of pg1");
        second.promote().expect("pg2 takes writes");
        let members = [first, second];
        let bare = Self {
            sandbox,
            etcd,
            coordinator,
            members,
        };
        bare.put_member("cn", &bare.coordinator);
        bare.put_leader("cn", &bare.coordinator);
        for member in &bare.members {
            bare.put_member("wk1", member);
        }
        let add = format!(
            "SELECT citus_add_node('127.0.0.1', {}, 1)",
            bare.members[0].port()
        );
        bare.coordinator
            .execute("postgres", &add)
            .expect("the group");
        bare
    }

    pub(crate) fn put_member(&self, scope: &str, server: &Postgres) {
        self.put_member_at(scope, server, &server.address());
    }

    /// Its member key says that it is at this address.
    pub(crate) fn put_member_at(&self, scope: &str, server: &Postgres, address: &str) {
        let value = json!({
            "conn_url": format!("postgres://{address}/postgres"),
            "state": "running", "role": "replica", "version": "4.1.5",
        });
        let key = format!("/service/{scope}/members/{}", server.name());
        self.etcd
            .kv()
            .put(&key, &value.to_string())
            .expect("a member");
    }

    pub(crate) fn put_leader(&self, scope: &str, server: &Postgres) {
        self.etcd
            .kv()
            .put(&format!("/service/{scope}/leader"), server.name())
            .expect("a leader");
    }

    /// The scope's cluster is that of this server.
    pub(crate) fn put_system(&self, scope: &str, server: &Postgres) {
        let system = server.system().expect("its system identifier");
        self.etcd
            .kv()
            .put(&format!("/service/{scope}/initialize"), &system)
            .expect("an identifier");
    }

    /// What `patronictl switchover` and its kin write.
    pub(crate) fn request(&self, request: &Value) {
        self.etcd
            .kv()
            .put(REQUEST, &request.to_string())
            .expect("a request");
    }

    /// Withdraws the request.
    pub(crate) fn withdraw(&self) {
        self.etcd.kv().delete(REQUEST).expect("deleted");
    }

    /// A distributed table, so that there is something to hold.
    pub(crate) fn distribute(&self) {
        self.coordinator
            .execute(
                "postgres",
                "SET citus.shard_count = 4; CREATE TABLE t (id int);
                 SELECT create_distributed_table('t', 'id')",
            )
            .expect("a distributed table");
    }

    /// A session that takes the locks which a writer takes, and keeps them until its `COMMIT`; it
    /// waits where a writer would wait.
    pub(crate) fn writer(&self) -> thread::JoinHandle<Client> {
        let mut writer = self.coordinator.connect("postgres").expect("a writer");
        thread::spawn(move || {
            writer
                .batch_execute(
                    "SET application_name = 'writer'; BEGIN; \
                     SELECT lock_shard_metadata(5, array_agg(shardid ORDER BY shardid)) \
                     FROM pg_dist_placement WHERE groupid = 1",
                )
                .expect("the writer's locks");
            writer
        })
    }

    /// Waits until a [`Bare::writer`] waits in a hold.
    pub(crate) fn wait_writer_waits(&self, daemon: &Daemon) {
        let mut observer = self.coordinator.connect("postgres").expect("an observer");
        let waiting = wait_for("a writer to wait", SOON, || {
            let waiting = "SELECT count(*) FROM pg_stat_activity \
                 WHERE application_name = 'writer' AND wait_event_type = 'Lock'";
            Ok(observer.query_one(waiting, &[])?.get::<_, i64>(0) > 0)
        });
        daemon.expect(waiting);
    }

    /// Waits until the daemon has seen all that was put into etcd before: the watch keeps its order.
    pub(crate) fn wait_seen(&self, daemon: &Daemon) {
        for paused in [true, false] {
            let config = json!({"pause": paused}).to_string();
            let kv = self.etcd.kv();
            kv.put("/service/wk1/config", &config).expect("put");
            let seen = wait_for("the daemon to see the latest key", SOON, || {
                Ok(daemon.group(1)?.paused == paused)
            });
            daemon.expect(seen);
        }
    }

    /// The end of every scenario in which something was held.
    pub(crate) fn in_sync(&self, daemon: &Daemon, leader: &Postgres) {
        self.wait_row(daemon, leader);
        daemon.wait_let_go(1);
        let mut observer = self.coordinator.connect("postgres").expect("an observer");
        let gone = wait_for("no session to hold", SOON, || {
            let holders = "SELECT count(*) FROM pg_stat_activity \
                 WHERE application_name LIKE 'citus-sync: %'";
            Ok(observer.query_one(holders, &[])?.get::<_, i64>(0) == 0)
        });
        daemon.expect(gone);
        let violations = daemon.metric("citus_sync_rule_violations_total", &[]);
        assert_eq!(violations.expect("metrics"), 0, "{}", daemon.log());
    }

    /// A daemon that is ready, with `policy` if there is one.
    pub(crate) fn daemon(&self, policy: &Value) -> Daemon {
        let daemon = self.daemon_with(policy, |_| {});
        daemon.wait_ready();
        daemon
    }

    /// A daemon whose command is changed by `change`; does not wait.
    pub(crate) fn daemon_with(&self, policy: &Value, change: impl FnOnce(&mut Command)) -> Daemon {
        self.daemon_as("postgres", policy, change)
    }

    /// [`Bare::daemon_with`], in the role of `user`.
    pub(crate) fn daemon_as(
        &self,
        user: &str,
        policy: &Value,
        change: impl FnOnce(&mut Command),
    ) -> Daemon {
        let listen = self.sandbox.port().expect("a port");
        let config = json!({
            "etcd": {"endpoints": [self.etcd.endpoint()]},
            "coordinator": {"scope": "cn", "databases": ["postgres"], "user": user},
            "workers": [{"group": 1, "scope": "wk1"}],
            "policy": policy,
            "listen": format!("127.0.0.1:{listen}"),
        });
        Daemon::start_configured(&self.sandbox, listen, &config, change)
    }

    pub(crate) fn row(client: &mut Client) -> anyhow::Result<u16> {
        let row = client.query_one("SELECT nodeport FROM pg_dist_node WHERE groupid = 1", &[])?;
        Ok(u16::try_from(row.get::<_, i32>(0))?)
    }

    pub(crate) fn wait_row(&self, daemon: &Daemon, member: &Postgres) {
        let mut client = self
            .coordinator
            .connect("postgres")
            .expect("the coordinator");
        wait_for(&format!("the row at {}", member.name()), SOON, || {
            Ok(Self::row(&mut client)? == member.port() && daemon.group(1)?.in_sync)
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));
    }
}
