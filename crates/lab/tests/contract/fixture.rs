//! What every case starts with: a coordinator and two workers with a
//! distributed table, and sessions that can be observed while they wait for locks.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use lab::postgres::Error as PostgresError;
use lab::postgres::error::DbError;
use lab::postgres::{Client, Config, NoTls, SimpleQueryMessage};
use lab::{Flavour, Postgres, Sandbox, wait_for};

/// The longest that a case waits for anything; a busy machine needs less.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// A port without a server: after a move to it the next query fails, and names it. It is reserved by
/// IANA (tcpmux), and in no lab's block.
pub(crate) const DEAD_PORT: u16 = 1;

/// Makes Citus send the metadata to all workers, by way of a row that no other transaction ever sees.
/// The COMMIT is left to the case.
pub(crate) const RESYNC: &str = "
    BEGIN; SET LOCAL lock_timeout = '5s'; LOCK TABLE pg_dist_node IN EXCLUSIVE MODE;
    UPDATE pg_dist_node SET metadatasynced = true WHERE hasmetadata AND groupid <> 0;
    INSERT INTO pg_dist_node (nodeid, groupid, nodename, nodeport, noderole)
        VALUES (-1, 1, 'one.invalid', 1, 'unavailable');
    SELECT citus_update_node(-1, 'two.invalid', 1);
    DELETE FROM pg_dist_node WHERE nodeid = -1";

/// The rows of all nodes, as one node has them.
const ROWS: &str = "SELECT nodeid, groupid, nodename, nodeport FROM pg_dist_node ORDER BY nodeid";

/// What is relied on, and the function that checks it.
pub(crate) type Case = (&'static str, fn(&Fixture) -> Result<()>);

/// The servers of all cases.
pub(crate) struct Fixture {
    pub(crate) flavour: Flavour,
    pub(crate) coordinator: Postgres,
    pub(crate) workers: [Postgres; 2],
    _sandbox: Sandbox,
}

impl Fixture {
    /// Starts the servers, registers them as groups 0, 1 and 2, and distributes
    /// table `kv` over the workers.
    pub(crate) fn prepare(stand_in: bool) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let start = |name: &str| {
            let builder = Postgres::builder(&sandbox, name)
                // A worker that one case leaves out of sync must not delay the next case.
                .setting("citus.metadata_sync_interval", "200ms")
                .setting("citus.metadata_sync_retry_interval", "100ms")
                // Citus does these from time to time; here only the cases do.
                .setting("citus.distributed_deadlock_detection_factor", "-1")
                .setting("citus.recover_2pc_interval", "-1");
            if stand_in {
                builder.stand_in()
            } else {
                builder
            }
            .start()
        };
        let coordinator = start("coordinator")?;
        let workers = [start("worker-1")?, start("worker-2")?];
        let flavour = coordinator.install_citus("postgres")?;
        for worker in &workers {
            worker.install_citus("postgres")?;
        }
        let fixture = Self {
            flavour,
            coordinator,
            workers,
            _sandbox: sandbox,
        };
        let mut session = fixture.session()?;
        let [one, two] = &fixture.workers;
        for sql in [
            format!(
                "SELECT citus_set_coordinator_host('127.0.0.1', {})",
                fixture.coordinator.port()
            ),
            format!("SELECT citus_add_node('127.0.0.1', {}, 1)", one.port()),
            format!("SELECT citus_add_node('127.0.0.1', {}, 2)", two.port()),
            "CREATE TABLE kv (k bigint PRIMARY KEY, v text)".into(),
            "SELECT create_distributed_table('kv', 'k', shard_count => 8)".into(),
        ] {
            session.run(&sql)?;
        }
        Ok(fixture)
    }

    /// Undoes what the last case left behind, even if it failed.
    pub(crate) fn restore(&self) -> Result<()> {
        for worker in &self.workers {
            worker.thaw();
        }
        let mut session = self.session()?;
        let mut entry_nodes = [self.entry_node(1)?, self.entry_node(2)?];
        // Sessions of the last case may not have ended yet.
        for session in entry_nodes.iter_mut().chain([&mut session]) {
            session.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE backend_type = 'client backend' AND application_name = 'case' AND pid <> pg_backend_pid()",
            )?;
        }
        session.run(
            "DELETE FROM pg_dist_node WHERE noderole = 'secondary' OR groupid NOT IN (0, 1, 2)",
        )?;
        for group in 0..=2 {
            session.retry(&self.move_group(group, self.port(group)))?;
        }
        self.sync()?;
        // Citus does not sync rows that a case changed with a plain UPDATE.
        let ours = session.rows(ROWS)?;
        let mut alike = true;
        for entry_node in &mut entry_nodes {
            alike &= entry_node.rows(ROWS)? == ours;
        }
        if !alike {
            session.retry(&format!("{RESYNC}; COMMIT"))?;
            self.sync()?;
        }
        Ok(())
    }

    /// The port of a group's server, whatever its row says.
    pub(crate) fn port(&self, group: usize) -> u16 {
        match group {
            0 => self.coordinator.port(),
            worker => self.workers[worker - 1].port(),
        }
    }

    /// `citus_update_node` of a group's primary to a port of 127.0.0.1.
    pub(crate) fn move_group(&self, group: usize, port: u16) -> String {
        self.move_group_with(group, port, "")
    }

    /// The same with more arguments, such as `, true, 200`.
    #[allow(clippy::unused_self)] // reads better at the call
    pub(crate) fn move_group_with(&self, group: usize, port: u16, more: &str) -> String {
        format!(
            "SELECT citus_update_node((SELECT nodeid FROM pg_dist_node
                WHERE groupid = {group} AND noderole = 'primary'), '127.0.0.1', {port}{more})"
        )
    }

    /// `citus_pause_node_within_txn` of a group's primary.
    #[allow(clippy::unused_self)]
    pub(crate) fn pause_group(&self, group: usize) -> String {
        format!(
            "SELECT citus_pause_node_within_txn((SELECT nodeid FROM pg_dist_node
                WHERE groupid = {group} AND noderole = 'primary'))"
        )
    }

    /// A client's write of a key that lives on `group`.
    pub(crate) fn write(&self, group: usize, value: &str) -> Result<String> {
        Ok(self.write_key(&self.key(group)?, value))
    }

    /// A client's write of a key.
    pub(crate) fn write_key(&self, key: &str, value: &str) -> String {
        if self.flavour.is_citus() {
            format!(
                "INSERT INTO kv (k, v) VALUES ({key}, '{value}') ON CONFLICT (k) DO UPDATE SET v = excluded.v"
            )
        } else {
            format!("SELECT citus_stand_in_write('kv', {key}, '{value}')")
        }
    }

    /// A client's read of the same key.
    pub(crate) fn read(&self, group: usize) -> Result<String> {
        let key = self.key(group)?;
        Ok(if self.flavour.is_citus() {
            format!("SELECT v FROM kv WHERE k = {key}")
        } else {
            format!("SELECT citus_stand_in_read('kv', {key})")
        })
    }

    /// The first key whose shard is placed on `group`.
    fn key(&self, group: usize) -> Result<String> {
        self.session()?.one(&format!(
            "SELECT min(k) FROM generate_series(1, 100) k JOIN pg_dist_placement
                ON shardid = get_shard_id_for_distribution_column('kv', k) WHERE groupid = {group}"
        ))
    }

    /// The shards of `kv` on a group, as an array literal.
    pub(crate) fn shards(&self, group: usize) -> Result<String> {
        self.session()?.one(&format!(
            "SELECT array_agg(shardid ORDER BY shardid)::text FROM pg_dist_placement JOIN pg_dist_shard USING (shardid)
             WHERE logicalrelid = 'kv'::regclass AND groupid = {group}"
        ))
    }

    /// `host:port` of a group's primary row, as committed.
    pub(crate) fn row(&self, group: usize) -> Result<String> {
        self.session()?.one(&format!(
            "SELECT nodename || ':' || nodeport FROM pg_catalog.pg_dist_node WHERE groupid = {group} AND noderole = 'primary'"
        ))
    }

    /// Waits until all workers have the metadata. Citus's maintenance daemon sends it; with the
    /// stand-in this function does.
    pub(crate) fn sync(&self) -> Result<()> {
        let mut session = self.session()?;
        wait_for("the workers' metadata in sync", DEADLINE, || {
            if !self.flavour.is_citus() {
                session.run("SELECT citus_stand_in_sync_metadata()")?;
            }
            let unsynced = session.one(
                "SELECT count(*) FROM pg_dist_node WHERE hasmetadata AND NOT metadatasynced",
            )?;
            Ok(unsynced == "0")
        })
    }

    /// A new session on the worker of a group, as an entry node.
    pub(crate) fn entry_node(&self, group: usize) -> Result<Session> {
        Session::open(self.port(group))
    }

    /// A new session on the coordinator.
    pub(crate) fn session(&self) -> Result<Session> {
        Session::open(self.coordinator.port())
    }

    /// Starts a statement in a new session.
    pub(crate) fn start(&self, sql: &str) -> Result<Pending> {
        self.session()?.start(sql)
    }

    /// Starts a statement and waits until it waits for a lock.
    pub(crate) fn start_and_block(&self, sql: &str) -> Result<Pending> {
        let pending = self.start(sql)?;
        self.wait_blocked(pending.pid)
            .with_context(|| sql.to_owned())?;
        Ok(pending)
    }

    /// Waits until a backend waits for a lock.
    pub(crate) fn wait_blocked(&self, pid: i32) -> Result<()> {
        wait_blocked(self.session()?, pid)
    }

    /// Starts a statement on a worker and waits until it waits for a lock there.
    pub(crate) fn start_and_block_at(&self, group: usize, sql: &str) -> Result<Pending> {
        let pending = self.entry_node(group)?.start(sql)?;
        wait_blocked(self.entry_node(group)?, pending.pid).with_context(|| sql.to_owned())?;
        Ok(pending)
    }

    /// Waits until a backend has ended.
    pub(crate) fn wait_gone(&self, pid: i32) -> Result<()> {
        let mut session = self.session()?;
        wait_for("a session that is gone", DEADLINE, || {
            let there = session.one(&format!(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"
            ))?;
            Ok(there == "0")
        })
    }
}

/// Waits until a backend of `session`'s server waits for a lock.
fn wait_blocked(mut session: Session, pid: i32) -> Result<()> {
    wait_for("a session that waits for a lock", DEADLINE, || {
        let waiting = session.one(&format!(
            "SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted"
        ))?;
        Ok(waiting != "0")
    })
}

/// A connection to a server, with time limits on everything.
pub(crate) struct Session {
    client: Client,
    pub(crate) pid: i32,
    /// Warnings and notices, as `SQLSTATE: message`.
    pub(crate) notices: Arc<Mutex<Vec<String>>>,
}

impl Session {
    pub(crate) fn open(port: u16) -> Result<Self> {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let heard = notices.clone();
        let mut client = Config::new()
            .host("127.0.0.1")
            .port(port)
            .user("postgres")
            .dbname("postgres")
            .application_name("case")
            .options("-c statement_timeout=60s -c idle_in_transaction_session_timeout=120s")
            .connect_timeout(lab::server::CONNECT_TIMEOUT)
            .notice_callback(move |notice| {
                let line = format!("{}: {}", notice.code().code(), notice.message());
                heard.lock().unwrap().push(line);
            })
            .connect(NoTls)?;
        let pid = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
        Ok(Self {
            client,
            pid,
            notices,
        })
    }

    /// Runs statements, and returns all their rows as text.
    pub(crate) fn rows(&mut self, sql: &str) -> Result<Vec<Vec<String>>> {
        let messages = self
            .client
            .simple_query(sql)
            .with_context(|| sql.to_owned())?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|column| row.get(column).unwrap_or("NULL").to_owned())
                    .collect(),
            ),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Runs statements, and ignores their rows.
    pub(crate) fn run(&mut self, sql: &str) -> Result<()> {
        self.rows(sql).map(drop)
    }

    /// The first value of the only row.
    pub(crate) fn one(&mut self, sql: &str) -> Result<String> {
        let mut rows = self.rows(sql)?;
        ensure!(rows.len() == 1, "{} rows from: {sql}", rows.len());
        Ok(rows.remove(0).remove(0))
    }

    /// Runs a move, again if a deadlock with the maintenance daemon aborted it.
    pub(crate) fn retry(&mut self, sql: &str) -> Result<()> {
        for _ in 0..10 {
            match self.rows(sql) {
                Err(error) if sqlstate(&error) == "40P01" => {}
                other => return other.map(drop),
            }
        }
        bail!("ten deadlocks in a row: {sql}")
    }

    /// Runs statements that must fail with this SQLSTATE, and a message that contains `message`.
    pub(crate) fn refused(&mut self, sql: &str, code: &str, message: &str) -> Result<DbError> {
        let Err(error) = self.rows(sql) else {
            bail!("should have failed with {code} {message:?}: {sql}");
        };
        let refusal = db_error(&error)?;
        ensure!(
            refusal.code().code() == code && refusal.message().contains(message),
            "expected {code} {message:?}, got {} {:?} from: {sql}",
            refusal.code().code(),
            refusal.message(),
        );
        Ok(refusal)
    }

    /// Runs one more statement, in a thread.
    pub(crate) fn start(mut self, sql: &str) -> Result<Pending> {
        let (sender, answer) = mpsc::channel();
        let pid = self.pid;
        let sql = sql.to_owned();
        thread::Builder::new().spawn(move || {
            let outcome = self.rows(&sql);
            let _ = sender.send((self, outcome));
        })?;
        Ok(Pending { pid, answer })
    }
}

type Answer = (Session, Result<Vec<Vec<String>>>);

/// A statement that runs in a thread.
pub(crate) struct Pending {
    pub(crate) pid: i32,
    answer: Receiver<Answer>,
}

impl Pending {
    /// Waits for its outcome.
    pub(crate) fn outcome(self) -> Result<Answer> {
        self.answer.recv_timeout(DEADLINE).map_err(|error| {
            anyhow!(match error {
                RecvTimeoutError::Timeout => "the statement did not end",
                RecvTimeoutError::Disconnected => "the statement's thread is gone",
            })
        })
    }

    /// Waits for its success.
    pub(crate) fn succeeds(self) -> Result<Session> {
        let (session, outcome) = self.outcome()?;
        outcome?;
        Ok(session)
    }
}

/// The server's own error in `error`.
pub(crate) fn db_error(error: &anyhow::Error) -> Result<DbError> {
    error
        .downcast_ref::<PostgresError>()
        .and_then(PostgresError::as_db_error)
        .cloned()
        .with_context(|| format!("not an error of the server: {error:#}"))
}

/// The SQLSTATE of an error, or an empty string.
pub(crate) fn sqlstate(error: &anyhow::Error) -> String {
    db_error(error).map_or_else(
        |_| String::new(),
        |refusal| refusal.code().code().to_owned(),
    )
}
