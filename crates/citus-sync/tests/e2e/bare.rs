//! Keys written by hand and members that are plain servers: for what Patroni would not do, or would
//! take long to recover from.

use std::process::Command;

use lab::postgres::Client;
use lab::{Etcd, Postgres, Sandbox, wait_for};
use serde_json::{Value, json};

use crate::daemon::{Daemon, SOON};

/// A coordinator and the two members of group 1, both of which take writes.
pub(crate) struct Bare {
    sandbox: Sandbox,
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
        let (coordinator, members) = (server("cn1"), [server("pg1"), server("pg2")]);
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

    fn put_member(&self, scope: &str, server: &Postgres) {
        let value = json!({
            "conn_url": format!("postgres://{}/postgres", server.address()),
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

    /// A daemon that is ready, with `policy` if there is one.
    pub(crate) fn daemon(&self, policy: &Value) -> Daemon {
        let daemon = self.daemon_with(policy, |_| {});
        daemon.wait_ready();
        daemon
    }

    /// A daemon whose command is changed by `change`; does not wait.
    pub(crate) fn daemon_with(&self, policy: &Value, change: impl FnOnce(&mut Command)) -> Daemon {
        let listen = self.sandbox.port().expect("a port");
        let config = json!({
            "etcd": {"endpoints": [self.etcd.endpoint()]},
            "coordinator": {"scope": "cn", "databases": ["postgres"], "user": "postgres"},
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
            Ok(Self::row(&mut client)? == member.port() && daemon.group(1)?.settled)
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));
    }
}
