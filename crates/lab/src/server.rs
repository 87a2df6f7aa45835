//! A PostgreSQL server without Patroni. In: a sandbox and settings. Out: a
//! server that can be stopped, killed, frozen and started again, and
//! connections to it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postgres::{Client, NoTls};
use rustix::process::Signal;

use crate::citus::{Flavour, install_citus, stand_in_forced};
use crate::installation::Installation;
use crate::process::Process;
use crate::sandbox::Sandbox;
use crate::wait::within;

/// The time limit for opening a connection to a server of the lab.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const START: Duration = Duration::from_secs(30);

/// A role that needs a password (SCRAM) on every lab server; on loopback all other roles
/// need none. A test that uses the role creates it:
/// `CREATE ROLE scram_only LOGIN PASSWORD '…'`.
pub const PASSWORD_ROLE: &str = "scram_only";

/// The size of a WAL segment. It is small because a lab has many servers, and each writes and copies
/// several segments.
pub(crate) const WAL_SEGMENT_MB: &str = "4";

/// A server to configure.
#[derive(Debug)]
pub struct PostgresBuilder {
    sandbox: Sandbox,
    name: String,
    settings: Vec<(String, String)>,
    stand_in: bool,
}

impl PostgresBuilder {
    /// Adds a line to `postgresql.conf`. It overrides earlier ones and the defaults.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Uses the stand-in even where Citus is installed.
    #[must_use]
    pub fn stand_in(mut self) -> Self {
        self.stand_in = true;
        self
    }

    /// Initialises and starts the server, and waits until it answers.
    pub fn start(self) -> Result<Postgres> {
        let installation = Installation::find()?;
        let folder = self.sandbox.folder(&self.name)?;
        let port = self.sandbox.port()?;
        let stand_in = self.stand_in || stand_in_forced() || !installation.has_citus;
        let server = Postgres {
            process: Process::new(&self.sandbox, folder.clone()),
            sandbox: self.sandbox,
            installation,
            name: self.name,
            folder,
            port,
            stand_in,
        };
        server.initialise(&self.settings)?;
        server.start_again()?;
        Ok(server)
    }
}

/// A running (or stopped) server.
#[derive(Debug)]
pub struct Postgres {
    sandbox: Sandbox,
    installation: Installation,
    name: String,
    folder: PathBuf,
    port: u16,
    stand_in: bool,
    process: Process,
}

impl Postgres {
    /// A server named `name` with default settings.
    pub fn start(sandbox: &Sandbox, name: &str) -> Result<Self> {
        Self::builder(sandbox, name).start()
    }

    /// A server named `name` to configure.
    pub fn builder(sandbox: &Sandbox, name: &str) -> PostgresBuilder {
        PostgresBuilder {
            sandbox: sandbox.clone(),
            name: name.into(),
            settings: Vec::new(),
            stand_in: false,
        }
    }

    /// Starts a standby that streams from this server: a copy of its database cluster, with the same
    /// system identifier.
    pub fn standby(&self, name: &str) -> Result<Self> {
        let folder = self.sandbox.folder(name)?;
        let standby = Self {
            process: Process::new(&self.sandbox, folder.clone()),
            sandbox: self.sandbox.clone(),
            installation: self.installation.clone(),
            name: name.into(),
            folder,
            port: self.sandbox.port()?,
            stand_in: self.stand_in,
        };
        let mut copy = (self.sandbox).command(self.installation.program("pg_basebackup"));
        copy.args(["--host=127.0.0.1", "--username=postgres", "--no-sync"])
            .args([
                "--checkpoint=fast",
                "--wal-method=stream",
                "--write-recovery-conf",
            ])
            .arg(format!("--port={}", self.port))
            .arg("-D")
            .arg(standby.data());
        let output = self.sandbox.output(&mut copy)?;
        ensure!(
            output.status.success(),
            "pg_basebackup of {} failed: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        let file = standby.data().join("postgresql.conf");
        let mut text = fs::read_to_string(&file)?;
        let _ = writeln!(text, "port = {}", standby.port);
        self.sandbox.write(&file, &text)?;
        standby.start_again()?;
        Ok(standby)
    }

    /// Ends its recovery, on a timeline of its own, and waits until it takes writes.
    pub fn promote(&self) -> Result<()> {
        let promoted = self
            .connect("postgres")?
            .query_one("SELECT pg_promote()", &[])?;
        ensure!(
            promoted.get::<_, bool>(0),
            "{} was not promoted in time",
            self.name
        );
        Ok(())
    }

    /// Its system identifier.
    pub fn system(&self) -> Result<String> {
        let question = "SELECT system_identifier::text FROM pg_control_system()";
        Ok(self.connect("postgres")?.query_one(question, &[])?.get(0))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// True when [`Postgres::install_citus`] installs the stand-in.
    pub fn uses_stand_in(&self) -> bool {
        self.stand_in
    }

    /// A superuser's connection.
    pub fn connect(&self, database: &str) -> Result<Client> {
        connect(self.port, database)
    }

    /// Runs statements on a new connection.
    pub fn execute(&self, database: &str, sql: &str) -> Result<()> {
        self.connect(database)?
            .batch_execute(sql)
            .with_context(|| format!("{} ({}): {sql}", self.name, self.address()))
    }

    /// Installs Citus or its stand-in in a database that exists.
    pub fn install_citus(&self, database: &str) -> Result<Flavour> {
        install_citus(&mut self.connect(database)?, self.stand_in)
    }

    /// Starts it again after a stop or a kill, and waits until it answers.
    pub fn start_again(&self) -> Result<()> {
        let mut command = self.sandbox.command(self.installation.program("postgres"));
        command.arg("-D").arg(self.data());
        self.process.spawn(command)?;
        let what = format!("PostgreSQL {} on port {}", self.name, self.port);
        self.process
            .wait_ready(&what, START, || self.connect("postgres").map(|_| true))
    }

    /// A fast shutdown: PostgreSQL ends the sessions and makes a checkpoint.
    pub fn stop(&self) -> Result<()> {
        self.process.stop(Signal::INT, Duration::from_secs(30))
    }

    /// Kills all of its processes with SIGKILL.
    pub fn kill(&self) -> Result<()> {
        self.process.kill()
    }

    /// Suspends all of its processes with SIGSTOP. The kernel accepts connections for it, and it
    /// never answers.
    pub fn freeze(&self) {
        self.process.signal_all(Signal::STOP);
    }

    /// Undoes [`Postgres::freeze`].
    pub fn thaw(&self) {
        self.process.signal_all(Signal::CONT);
    }

    /// Makes it look like a server whose host is gone: it is suspended, and every packet for it is
    /// dropped, so that a connection is neither accepted nor refused.
    pub fn vanish(&self) -> Result<()> {
        self.process.vanish()
    }

    /// Undoes [`Postgres::vanish`].
    pub fn reappear(&self) -> Result<()> {
        self.process.reappear()
    }

    /// The file with its log.
    pub fn log(&self) -> PathBuf {
        self.process.log()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn initialise(&self, settings: &[(String, String)]) -> Result<()> {
        let mut command = self.sandbox.command(self.installation.program("initdb"));
        command
            .args([
                "--username=postgres",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
            ])
            .args(["--locale=C.UTF-8", "--wal-segsize", WAL_SEGMENT_MB, "-D"])
            .arg(self.data());
        let output = self.sandbox.output(&mut command)?;
        ensure!(
            output.status.success(),
            "initdb of {} failed: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        let mut text = fs::read_to_string(self.data().join("postgresql.conf"))?;
        let _ = writeln!(
            text,
            "\nlisten_addresses = '127.0.0.1'\nport = {}",
            self.port
        );
        for (name, value) in base_settings(!self.stand_in) {
            let _ = writeln!(text, "{name} = '{value}'");
        }
        for (name, value) in settings {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        self.sandbox
            .write(&self.data().join("postgresql.conf"), &text)?;
        self.sandbox.write(
            &self.data().join("pg_hba.conf"),
            &(hba_lines().join("\n") + "\n"),
        )
    }
}

/// The settings of every server of a lab: small, and as Citus and Patroni need them.
pub(crate) fn base_settings(citus: bool) -> Vec<(&'static str, &'static str)> {
    let mut settings = vec![
        ("shared_buffers", "16MB"),
        ("max_connections", "100"),
        ("max_worker_processes", "16"),
        ("max_prepared_transactions", "100"),
        ("max_locks_per_transaction", "128"),
        ("wal_level", "logical"),
        ("min_wal_size", "32MB"),
        ("max_wal_size", "256MB"),
        ("log_line_prefix", "%m [%p] %a "),
        // No sockets: their paths have a length limit.
        ("unix_socket_directories", ""),
        // Files in the data folder, removed with it. POSIX segments in /dev/shm would outlive a
        // SIGKILL.
        ("dynamic_shared_memory_type", "mmap"),
        // Without these a cached connection to a silent host would stay open for minutes.
        // The stand-in reads both settings too.
        (
            "citus.node_conninfo",
            "sslmode=disable connect_timeout=3 tcp_user_timeout=3000 \
             keepalives=1 keepalives_idle=1 keepalives_interval=1 keepalives_count=3",
        ),
        ("citus.node_connection_timeout", "3000"),
    ];
    if citus {
        settings.push(("shared_preload_libraries", "citus"));
    }
    settings
}

/// The lines of `pg_hba.conf`: every role may connect from loopback, [`PASSWORD_ROLE`] with a
/// password.
pub(crate) fn hba_lines() -> Vec<String> {
    vec![
        format!("host all {PASSWORD_ROLE} 127.0.0.1/32 scram-sha-256"),
        "host all all 127.0.0.1/32 trust".into(),
        "host replication all 127.0.0.1/32 trust".into(),
    ]
}

/// A superuser's connection to a lab server. Fails after [`CONNECT_TIMEOUT`], even if the server
/// accepts and never answers.
pub fn connect(port: u16, database: &str) -> Result<Client> {
    let mut config = postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user("postgres")
        .dbname(database)
        .application_name("lab")
        .connect_timeout(CONNECT_TIMEOUT);
    let what = format!("connecting to 127.0.0.1:{port}, database {database}");
    let about = what.clone();
    within(&what, CONNECT_TIMEOUT, move || {
        config.connect(NoTls).context(about)
    })
}
