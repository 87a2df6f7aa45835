//! etcd and PostgreSQL start in a sandbox, survive faults, and end with their owner.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::{Etcd, Postgres, Sandbox, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn etcd_keeps_keys_and_survives_freezing_killing_and_restoring() {
    let sandbox = Sandbox::new().unwrap();
    let etcd = Etcd::start(&sandbox).unwrap();
    let kv = etcd.kv();

    let first = kv.put("/service/wk1/leader", "a").unwrap();
    let lease = kv.grant_lease(60).unwrap();
    kv.put_leased("/service/wk2/leader", "b", lease).unwrap();
    kv.put("/other", "").unwrap();
    let keys: Vec<String> = kv
        .list("/service/")
        .unwrap()
        .into_iter()
        .map(|found| found.key)
        .collect();
    assert_eq!(keys, ["/service/wk1/leader", "/service/wk2/leader"]);
    assert_eq!(
        kv.get("/service/wk1/leader").unwrap().unwrap().mod_revision,
        first
    );
    assert_eq!(kv.get("/other").unwrap().unwrap().value, "");

    kv.revoke_lease(lease).unwrap();
    assert_eq!(kv.get("/service/wk2/leader").unwrap(), None);
    kv.compact(kv.status().unwrap().revision).unwrap();
    kv.defragment().unwrap();

    etcd.freeze();
    assert!(kv.get("/other").is_err(), "a frozen etcd answered");
    etcd.thaw();
    wait_until("the thawed etcd", SOON, || kv.get("/other")).unwrap();

    etcd.kill().unwrap();
    assert!(kv.get("/other").is_err(), "a dead etcd answered");
    etcd.start_again().unwrap();
    assert!(
        kv.get("/other").unwrap().is_some(),
        "a key was lost in a crash"
    );

    let before = kv.status().unwrap();
    let backup = etcd.backup().unwrap();
    kv.put("/late", "x").unwrap();
    etcd.restore(&backup).unwrap();
    let restored = kv.status().unwrap();
    assert_eq!(
        (restored.cluster_id, restored.revision),
        (before.cluster_id, before.revision)
    );
    assert_eq!(kv.get("/late").unwrap(), None);

    etcd.replace_with_empty().unwrap();
    assert_ne!(kv.status().unwrap().cluster_id, before.cluster_id);
    assert_eq!(kv.list("/").unwrap(), []);
}

#[test]
fn three_etcds_survive_the_loss_of_one() {
    let sandbox = Sandbox::new().unwrap();
    let cluster = Etcd::start_cluster(&sandbox, 3).unwrap();
    cluster[0].kill().unwrap();
    wait_until("a write without the first member", SOON, || {
        cluster[1].kv().put("/a", "1").map(Some)
    })
    .unwrap();
    wait_until("the write on the third", SOON, || cluster[2].kv().get("/a")).unwrap();
    cluster[0].start_again().unwrap();
    wait_until("the write on the first", SOON, || cluster[0].kv().get("/a")).unwrap();
}

#[test]
fn postgres_keeps_settings_and_rows_over_a_kill_and_asks_for_passwords() {
    let sandbox = Sandbox::new().unwrap();
    let server = Postgres::builder(&sandbox, "pg")
        .setting("work_mem", "5MB")
        .start()
        .unwrap();
    let setting = |name: &str| -> String {
        let row = server
            .connect("postgres")
            .unwrap()
            .query_one(&format!("SHOW {name}"), &[]);
        row.unwrap().get(0)
    };
    assert_eq!(
        (setting("work_mem"), setting("fsync")),
        ("5MB".into(), "on".into())
    );

    server
        .execute("postgres", "CREATE TABLE t AS SELECT 7 AS n")
        .unwrap();
    server.kill().unwrap();
    assert!(server.connect("postgres").is_err());
    server.start_again().unwrap();
    let row = server
        .connect("postgres")
        .unwrap()
        .query_one("SELECT n FROM t", &[])
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);

    server
        .execute("postgres", "CREATE ROLE scram_only LOGIN PASSWORD 'secret'")
        .unwrap();
    let mut config = postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(server.port())
        .user("scram_only")
        .dbname("postgres");
    let error = config.connect(postgres::NoTls).map(drop).unwrap_err();
    assert!(format!("{error:?}").contains("password"), "{error:?}");
    config.password("secret").connect(postgres::NoTls).unwrap();

    server.stop().unwrap();
    assert!(server.connect("postgres").is_err());
}

#[test]
fn a_dropped_server_and_a_dropped_sandbox_leave_no_process() {
    let sandbox = Sandbox::new().unwrap();
    let root = sandbox.root().to_owned();
    let etcd = Etcd::start(&sandbox).unwrap();
    assert!(!processes_in(&root).is_empty());
    drop(etcd);
    assert_eq!(processes_in(&root), [0_i32; 0]);
    let mut stray = sandbox
        .spawn(Command::new("sleep").arg("600").current_dir("/"))
        .unwrap();
    drop(sandbox);
    assert!(!stray.wait().unwrap().success(), "the stray was not killed");
    assert!(!root.exists());
}

/// The tests below run this as a process of its own.
#[test]
#[ignore = "not a test: other tests start and kill it"]
fn owner() {
    let sandbox = Sandbox::new().unwrap();
    let _etcd = Etcd::start(&sandbox).unwrap();
    let server = Postgres::start(&sandbox, "pg").unwrap();
    let mut daemon = sandbox
        .spawn(Command::new("sleep").arg("600").current_dir("/"))
        .unwrap();
    // A process that left its parent, and every folder, session and variable of the lab.
    let mut escaped = Command::new("setsid");
    escaped.args(["--fork", "env", "-i", "sleep", "600"]);
    let escaped = sandbox.spawn(escaped.current_dir("/")).unwrap().wait();
    assert!(escaped.unwrap().success());
    server.freeze(); // a frozen process must die too
    println!("\nroot {}", sandbox.root().display());
    daemon.wait().unwrap(); // the test kills this process first
}

#[test]
fn nothing_survives_an_owner_that_is_killed() {
    nothing_survives(&["-KILL"]);
}

#[test]
fn nothing_survives_an_owner_whose_process_group_is_interrupted() {
    nothing_survives(&["-INT", "--", "-"]);
}

fn nothing_survives(signal: &[&str]) {
    let mut owner = start_owner("owner");
    let root = announced_root(owner.stdout.take().unwrap());
    let inside = Namespaces::of(processes_in(&root)[0]).unwrap();
    let before = inside.members();
    assert!(
        before.len() >= 5,
        "init, etcd, PostgreSQL and two other processes must run: {before:?}"
    );
    let lock_file = std::fs::read_to_string(root.join("pg/data/postmaster.pid")).unwrap();
    let key = lock_file.lines().nth(6).unwrap();
    let key = key.split_whitespace().next().unwrap();
    assert!(shared_memory(Some(before[0])).contains(&key.to_owned()));

    let (last, options) = signal.split_last().unwrap();
    let target = if options.is_empty() {
        String::new()
    } else {
        (*last).to_owned()
    };
    let flags = if options.is_empty() { signal } else { options };
    let killed = Command::new("kill")
        .args(flags)
        .arg(format!("{target}{}", owner.id()))
        .status();
    assert!(killed.unwrap().success());
    owner.wait().unwrap();

    wait_for("the folder to be removed", SOON, || Ok(!root.exists())).unwrap();
    wait_for("the end of every process", SOON, || {
        Ok(inside.members().is_empty() && processes_in(&root).is_empty())
    })
    .unwrap();
    assert!(
        !shared_memory(None).contains(&key.to_owned()),
        "a shared memory segment was left"
    );
}

/// The test below runs this as a process of its own.
#[test]
#[ignore = "not a test: another test starts and kills it"]
fn owner_that_removes() {
    let sandbox = Sandbox::new().unwrap();
    for number in 0..20_000 {
        std::fs::write(sandbox.root().join(number.to_string()), "").unwrap();
    }
    println!("\nroot {}", sandbox.root().display());
    sandbox.remove().unwrap();
}

#[test]
fn nothing_survives_an_owner_that_is_killed_while_it_removes_its_lab() {
    let mut owner = start_owner("owner_that_removes");
    let root = announced_root(owner.stdout.take().unwrap());
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_for("the folder to be removed", SOON, || Ok(!root.exists())).unwrap();
}

/// The test below runs this as a process of its own.
#[test]
#[ignore = "not a test: another test starts it"]
fn owner_that_detaches() {
    let sandbox = Sandbox::new().unwrap();
    let mut server = Command::new("setsid");
    server.args(["--fork", "sleep", "600"]);
    server.current_dir(sandbox.root());
    server.stdout(Stdio::null()).stderr(Stdio::null());
    let server = sandbox.spawn(&mut server).unwrap().wait();
    assert!(server.unwrap().success());
    sandbox.detach().unwrap();
    println!("\nroot {}", sandbox.root().display());
}

#[test]
fn a_detached_lab_outlives_its_owner_until_another_process_removes_it() {
    let owner = start_owner("owner_that_detaches");
    let owner = owner.wait_with_output().unwrap();
    let root = announced_root(&*owner.stdout);
    let _even_if_this_test_fails = RemovedWhenDropped(&root);
    assert!(owner.status.success(), "{owner:?}");

    let sandbox = Sandbox::attach(&root).unwrap();
    let server = processes_in(&root);
    assert_eq!(server.len(), 1);
    let inside = Namespaces::of(server[0]).unwrap();
    let mut late = sandbox.spawn(Command::new("sleep").arg("600")).unwrap();
    let late_pid = i32::try_from(late.id()).unwrap();
    assert!(inside.members().contains(&late_pid));
    drop(sandbox);
    assert!(late.try_wait().unwrap().is_none() && root.exists());

    Sandbox::attach(&root).unwrap().remove().unwrap();
    assert!(!root.exists());
    assert!(!late.wait().unwrap().success());
    wait_for("the end of every process", SOON, || {
        Ok(inside.members().is_empty())
    })
    .unwrap();
    // After a restart of the machine only the folder may be left.
    std::fs::create_dir(&root).unwrap();
    let sandbox = Sandbox::attach(&root).unwrap();
    let error = sandbox.spawn(&mut Command::new("true")).unwrap_err();
    assert!(error.to_string().contains("restart"), "{error:#}");
    sandbox.remove().unwrap();
    assert!(!root.exists());
}

/// Removes a detached lab when the test ends, even if it fails.
struct RemovedWhenDropped<'a>(&'a Path);

impl Drop for RemovedWhenDropped<'_> {
    fn drop(&mut self) {
        let _ = Sandbox::attach(self.0).map(|sandbox| sandbox.remove());
    }
}

/// Runs one of the ignored functions above, in a process group of its own.
fn start_owner(name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap()
}

fn announced_root(stdout: impl Read) -> PathBuf {
    BufReader::new(stdout)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("root ").map(PathBuf::from))
        .expect("the owner came up")
}

/// Keys of the System V segments in the namespace of a process, or in the machine's.
fn shared_memory(pid: Option<i32>) -> Vec<String> {
    let mut command = Command::new("cat");
    if let Some(pid) = pid {
        command = Command::new("nsenter");
        command.args(["--ipc", "--target", &pid.to_string(), "cat"]);
    }
    let output = command.arg("/proc/sysvipc/shm").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

/// All processes of this machine.
fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
}

fn processes_in(folder: &Path) -> Vec<i32> {
    processes()
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
        })
        .collect()
}

/// A lab's namespaces: of process ids, and of System V shared memory. The kernel removes them with
/// their last process.
struct Namespaces([PathBuf; 2]);

impl Namespaces {
    fn of(pid: i32) -> Option<Self> {
        let link = |name| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
        Some(Self([link("pid")?, link("ipc")?]))
    }

    /// All processes in at least one of them.
    fn members(&self) -> Vec<i32> {
        processes()
            .filter(|pid| {
                Self::of(*pid).is_some_and(|own| (0..2).any(|kind| own.0[kind] == self.0[kind]))
            })
            .collect()
    }
}
