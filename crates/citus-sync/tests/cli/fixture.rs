//! The command under test and the servers it looks at: one etcd and two PostgreSQL servers for all
//! tests of this file. Each test has a namespace and databases of its own.

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use lab::{Etcd, Postgres, Sandbox, wait_until};

/// No command may take longer, whatever hangs. Far more than any of its deadlines.
const PATIENCE: Duration = Duration::from_secs(60);

/// The servers. Never dropped: the lab's reaper ends them when this process is gone.
pub(crate) struct Fixture {
    #[allow(dead_code, reason = "for the tests that start daemons")]
    pub(crate) sandbox: Sandbox,
    pub(crate) etcd: Etcd,
    pub(crate) coordinator: Postgres,
    pub(crate) worker: Postgres,
}

pub(crate) static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let sandbox = Sandbox::new().unwrap();
    let etcd = Etcd::start(&sandbox).unwrap();
    let coordinator = Postgres::start(&sandbox, "cn").unwrap();
    let worker = Postgres::start(&sandbox, "wk1").unwrap();
    Fixture {
        sandbox,
        etcd,
        coordinator,
        worker,
    }
});

impl Fixture {
    /// A database on both servers that know each other: group 0 and group 1.
    pub(crate) fn citus_database(&self, name: &str) {
        // CREATE DATABASE copies template1, which allows no other session in it meanwhile.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock();
        for server in [&self.worker, &self.coordinator] {
            server
                .execute("postgres", &format!("CREATE DATABASE {name}"))
                .unwrap();
            server.install_citus(name).unwrap();
        }
        let (own, worker) = (self.coordinator.port(), self.worker.port());
        let sql = format!(
            "SELECT citus_set_coordinator_host('127.0.0.1', {own}); \
             SELECT citus_add_node('127.0.0.1', {worker}, 1)"
        );
        self.coordinator.execute(name, &sql).unwrap();
    }

    /// What Patroni would write for a scope whose first member leads.
    pub(crate) fn put_scope(&self, namespace: &str, scope: &str, members: &[(&str, u16)]) {
        let kv = self.etcd.kv();
        let folder = format!("/{namespace}/{scope}");
        for (number, (name, port)) in members.iter().enumerate() {
            let role = if number == 0 { "primary" } else { "replica" };
            let member = format!(
                "{{\"conn_url\":\"postgres://127.0.0.1:{port}/postgres\",\"state\":\"running\",\
                 \"role\":\"{role}\",\"version\":\"4.1.5\",\"timeline\":1}}"
            );
            kv.put(&format!("{folder}/members/{name}"), &member)
                .unwrap();
        }
        kv.put(
            &format!("{folder}/initialize"),
            &self.system_at(members[0].1),
        )
        .unwrap();
        kv.put(&format!("{folder}/leader"), members[0].0).unwrap();
    }

    /// The system identifier of the server at a port; some other where there is no server of ours.
    fn system_at(&self, port: u16) -> String {
        let servers = [&self.coordinator, &self.worker];
        let server = servers.into_iter().find(|server| server.port() == port);
        let other = || "7384734872364872364".to_owned();
        server.map_or_else(other, |server| server.system().unwrap())
    }

    /// Scopes `cn` and `wk1` at the two servers.
    pub(crate) fn put_both(&self, namespace: &str) {
        self.put_scope(namespace, "cn", &[("cn-1", self.coordinator.port())]);
        self.put_scope(namespace, "wk1", &[("wk1-1", self.worker.port())]);
    }

    /// A configuration of these databases and worker groups, `{more}` at its end.
    pub(crate) fn file(
        &self,
        namespace: &str,
        databases: &[&str],
        workers: &[(u32, &str)],
        more: &str,
    ) -> File {
        let endpoint = self.etcd.endpoint();
        file(&native(
            &endpoint, namespace, "postgres", databases, workers, more,
        ))
    }
}

/// A native configuration.
pub(crate) fn native(
    endpoint: &str,
    namespace: &str,
    user: &str,
    databases: &[&str],
    workers: &[(u32, &str)],
    more: &str,
) -> String {
    let mut text = format!(
        "etcd:\n  endpoints: [\"{endpoint}\"]\nnamespace: /{namespace}/\ncoordinator:\n  scope: \
         cn\n  databases: [{}]\n  user: {user}\nworkers:\n",
        databases.join(", ")
    );
    for (group, scope) in workers {
        let _ = writeln!(text, "  - {{ group: {group}, scope: {scope} }}");
    }
    text + more
}

/// A configuration file. It is removed when this value is dropped.
pub(crate) struct File {
    folder: tempfile::TempDir,
}

pub(crate) fn file(text: &str) -> File {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("citus-sync.yml"), text).unwrap();
    File { folder }
}

impl File {
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("citus-sync.yml")
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The command, in an environment of its own.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_citus-sync"));
    // The user that runs the tests may have PGPASSWORD or a ~/.pgpass.
    command
        .args(arguments)
        .env_clear()
        .env("HOME", "/nonexistent");
    command.stdin(Stdio::null());
    command
}

/// Runs `citus-sync ARGUMENTS… -c FILE`.
pub(crate) fn with_file(arguments: &[&str], file: &File) -> Ran {
    let path = file.path();
    let mut all = arguments.to_vec();
    all.extend(["-c", path.to_str().unwrap()]);
    run(command(&all))
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Ran {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).unwrap();
        text
    });
    let writer = thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        text
    });
    let code = end_of(&mut child);
    let (stdout, stderr) = (writer.join().unwrap(), reader.join().unwrap());
    // Shown when the test fails, or with --nocapture.
    println!("{command:?}\n{stdout}{stderr}");
    Ran {
        code,
        stdout,
        stderr,
    }
}

/// The exit code of a process that must end by itself.
pub(crate) fn end_of(child: &mut Child) -> Option<i32> {
    let ended = wait_until("the command to end", PATIENCE, || Ok(child.try_wait()?));
    if ended.is_err() {
        child.kill().unwrap();
    }
    ended.unwrap().code()
}

/// A port that accepts connections (the kernel does) and never answers.
pub(crate) fn black_hole() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

impl Ran {
    /// The line of `check` about this, which must be there, once.
    #[track_caller]
    pub(crate) fn line(&self, verdict: &str, words: &str) -> &str {
        let found: Vec<&str> = self
            .stdout
            .lines()
            .filter(|line| line.starts_with(verdict) && line.contains(words))
            .collect();
        assert_eq!(
            found.len(),
            1,
            "lines with {verdict} and {words:?} in\n{self:#?}"
        );
        found[0]
    }

    /// No line of `check` with this verdict.
    #[track_caller]
    pub(crate) fn none(&self, verdict: &str) {
        let found: Vec<&str> = self
            .stdout
            .lines()
            .filter(|line| line.starts_with(verdict))
            .collect();
        assert!(found.is_empty(), "{found:#?}");
    }

    #[track_caller]
    pub(crate) fn ended(&self, code: i32) {
        assert_eq!(self.code, Some(code), "\n{}\n{}", self.stdout, self.stderr);
    }
}
