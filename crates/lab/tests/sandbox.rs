//! The ground everything else stands on: etcd and PostgreSQL come up, can be
//! hurt and brought back, and nothing of them survives their owner.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::{Etcd, Postgres, Sandbox, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn etcd_keeps_keys_and_can_be_hurt() {
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
    wait_until("a write without the first", SOON, || {
        cluster[1].kv().put("/a", "1").map(Some)
    })
    .unwrap();
    wait_until("the write on the third", SOON, || cluster[2].kv().get("/a")).unwrap();
    cluster[0].start_again().unwrap();
    wait_until("the write on the first", SOON, || cluster[0].kv().get("/a")).unwrap();
}

#[test]
fn postgres_takes_citus_or_its_stand_in_and_comes_back() {
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
fn what_the_owner_drops_is_gone() {
    let sandbox = Sandbox::new().unwrap();
    let root = sandbox.root().to_owned();
    let etcd = Etcd::start(&sandbox).unwrap();
    assert!(!processes_in(&root).is_empty());
    drop(etcd);
    assert_eq!(processes_in(&root), [0_i32; 0]);
    let mut stray = sandbox.command("sleep").arg("600").spawn().unwrap();
    drop(sandbox);
    assert!(!stray.wait().unwrap().success(), "the stray was not killed");
    assert!(!root.exists());
}

/// Run as a process of its own by the tests below.
#[test]
#[ignore = "an owner for other tests to kill, not a test"]
fn owner() {
    let sandbox = Sandbox::new().unwrap();
    let _etcd = Etcd::start(&sandbox).unwrap();
    let server = Postgres::start(&sandbox, "pg").unwrap();
    let mut daemon = Command::new("sleep");
    let mut daemon = sandbox
        .mark(daemon.arg("600").current_dir("/"))
        .spawn()
        .unwrap();
    server.freeze(); // the dead cannot be frozen, but the frozen must die
    println!("\nroot {}", sandbox.root().display());
    daemon.wait().unwrap(); // never: the reaper kills us all
}

#[test]
fn nothing_survives_an_owner_that_is_killed() {
    nothing_survives(&["-KILL"]);
}

#[test]
fn nothing_survives_an_owner_that_is_interrupted_with_its_whole_group() {
    nothing_survives(&["-INT", "--", "-"]);
}

fn nothing_survives(signal: &[&str]) {
    use std::os::unix::process::CommandExt as _;
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let root = announced_root(&mut owner);
    let id = root.file_name().unwrap().to_str().unwrap().to_owned();
    let before = members_of(&root, &id);
    assert!(
        before.len() >= 4,
        "etcd, PostgreSQL and a daemon ought to run: {before:?}"
    );
    let segments = std::fs::read_to_string(root.join("pg/data/postmaster.pid")).unwrap();
    let segment = segments
        .lines()
        .nth(6)
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .to_owned();
    assert!(shared_memory().contains(&segment));

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

    wait_for("the reaper's work", SOON, || Ok(!root.exists())).unwrap();
    assert_eq!(members_of(&root, &id), [0_i32; 0]);
    assert!(
        !shared_memory().contains(&segment),
        "a shared memory segment was left"
    );
}

fn announced_root(owner: &mut Child) -> PathBuf {
    BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("root ").map(PathBuf::from))
        .expect("the owner came up")
}

/// Ids of the System V segments of this machine.
fn shared_memory() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    table
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned))
        .collect()
}

fn processes_in(root: &Path) -> Vec<i32> {
    members_of(root, "no such mark")
}

/// What the reaper would find, found here without it.
fn members_of(root: &Path, id: &str) -> Vec<i32> {
    let mark = format!("LAB_ID={id}");
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let inside =
                std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(root));
            let marked = std::fs::read(entry.path().join("environ")).is_ok_and(|text| {
                text.split(|byte| *byte == 0)
                    .any(|var| var == mark.as_bytes())
            });
            (inside || marked).then_some(pid)
        })
        .collect()
}
