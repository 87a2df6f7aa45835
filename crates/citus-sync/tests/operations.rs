//! The daemon as an operator meets it: signals, reloads, odd names, silent servers, a log that nobody
//! reads.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

#[allow(
    dead_code,
    reason = "shared with the tests of the command line, which use the rest"
)]
#[path = "cli/fixture.rs"]
mod fixture;
#[path = "operations/reload.rs"]
mod reload;
#[path = "operations/writers.rs"]
mod writers;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use citus_core::report::{GroupReport, State};
use fixture::{FIXTURE, black_hole, native, run};
use lab::{Daemon, Sandbox, wait_for};

/// Far more than anything here needs.
const SOON: Duration = Duration::from_secs(30);

const PROGRAM: &str = env!("CARGO_BIN_EXE_citus-sync");

/// A daemon with an etcd that never answers, and `more` at the end of its file.
fn lonely(sandbox: &Sandbox, etcd: u16, more: &str) -> (Daemon, u16) {
    let listen = sandbox.port().unwrap();
    let endpoint = format!("http://127.0.0.1:{etcd}");
    let more = format!("listen: 127.0.0.1:{listen}\n{more}");
    let text = native(&endpoint, "s", "postgres", &["app"], &[(1, "wk1")], &more);
    let daemon = Daemon::start(sandbox, Path::new(PROGRAM), &text, listen).unwrap();
    serves(&daemon);
    (daemon, listen)
}

fn serves(daemon: &Daemon) {
    wait_for("the daemon to serve", SOON, || {
        Ok(daemon.get("/livez")?.0 == 200)
    })
    .unwrap();
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// Waits for a line of the log with all of these words.
fn says(daemon: &Daemon, words: &[&str]) {
    wait_for(&format!("{words:?} in the log"), SOON, || {
        let entries = daemon.log().entries();
        let has = |text: &str| words.iter().all(|word| text.contains(word));
        Ok(entries.iter().any(|line| has(&line.text)))
    })
    .unwrap();
}

#[test]
fn odd_scopes_and_rows_are_cut_and_shown_and_hide_no_neighbour() {
    FIXTURE.citus_database("odd");
    FIXTURE.put_both("odd");
    let long = format!("wk2-{}", "x".repeat(66_000));
    FIXTURE.put_scope("odd", &long, &[("odd member", FIXTURE.worker.port())]);
    let odd = [(2, "[::1]", 5432), (3, "", -1), (4, "a b\u{1b}[2J", 70_000)];
    for (group, host, port) in odd {
        let sql = format!(
            "INSERT INTO pg_catalog.pg_dist_node (nodeid, groupid, nodename, nodeport, noderack, \
             noderole, nodecluster) VALUES ({}, {group}, '{host}', {port}, 'default', 'primary', \
             'default')",
            100 + group
        );
        FIXTURE.coordinator.execute("odd", &sql).unwrap();
    }
    for (scope, worker) in [("wk3", "wk3-1"), ("wk4", "wk4-1")] {
        FIXTURE.put_scope("odd", scope, &[(worker, FIXTURE.worker.port())]);
    }
    let listen = FIXTURE.sandbox.port().unwrap();
    let text = format!(
        "etcd: {{ endpoints: [\"{}\"] }}\nnamespace: /odd/\ncoordinator: {{ scope: cn, databases: \
         [odd] }}\ndiscover: '^wk(?<group>[0-9]+)(-x+)?$'\npolicy: {{ write: never }}\nlisten: \
         127.0.0.1:{listen}\n",
        FIXTURE.etcd.endpoint()
    );
    let program = Path::new(env!("CARGO_BIN_EXE_citus-sync"));
    let daemon = Daemon::start(&FIXTURE.sandbox, program, &text, listen).unwrap();
    daemon.wait_ready(SOON).unwrap();
    wait_for("all groups to be seen", SOON, || {
        let state: State = serde_json::from_str(&daemon.get("/api/v1/state")?.1)?;
        let groups = &state.formations[0].groups;
        Ok(groups.len() == 5 && groups[1].in_sync)
    })
    .unwrap();

    let url = format!("http://127.0.0.1:{listen}");
    let ran = run(fixture::command(&["status", "--url", &url]));
    ran.ended(0);
    for shown in ["x… (66 kB)", "[[::1]]:5432", " :0 ", r"a b\u{1b}[2J:0"] {
        assert!(
            ran.stdout.contains(shown),
            "{shown} is not in\n{}",
            ran.stdout
        );
    }
    assert!(ran.stdout.len() < 20_000, "{} bytes", ran.stdout.len());
    run(fixture::command(&["history", "--url", &url])).ended(0);
    let plan = run(fixture::command(&[
        "plan",
        "-c",
        daemon.config().to_str().unwrap(),
    ]));
    plan.ended(0);
    assert!(plan.stdout.contains("[[::1]]:5432"), "{}", plan.stdout);
    assert_eq!(daemon.stop(SOON).unwrap(), Some(0));
    assert!(
        daemon
            .log()
            .entries()
            .iter()
            .all(|line| line.text.len() < 8 << 10)
    );
}

#[test]
fn signals_that_mean_nothing_here_end_nothing_and_are_told() {
    let sandbox = Sandbox::new().unwrap();
    let (_silent, etcd) = black_hole();
    let (daemon, _) = lonely(&sandbox, etcd, "");
    for name in ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR"] {
        signal(daemon.pid(), name);
        let told = format!("SIG{name} does nothing here");
        wait_for(&told, SOON, || {
            Ok(daemon
                .log()
                .entries()
                .iter()
                .any(|line| line.text.contains(&told)))
        })
        .unwrap();
    }
    assert_eq!(daemon.get("/livez").unwrap().0, 200);
    assert_eq!(daemon.stop(SOON).unwrap(), Some(0));
}

#[test]
fn a_watchdog_that_allows_no_time_is_off() {
    let sandbox = Sandbox::new().unwrap();
    let (_silent, etcd) = black_hole();
    for limit in ["0", "1"] {
        let listen = sandbox.port().unwrap();
        let endpoint = format!("http://127.0.0.1:{etcd}");
        let more = format!("listen: 127.0.0.1:{listen}\n");
        let text = native(&endpoint, "s", "postgres", &["app"], &[(1, "wk1")], &more);
        let program = Path::new(env!("CARGO_BIN_EXE_citus-sync"));
        let daemon = Daemon::start_as(&sandbox, program, &text, listen, |command| {
            command.env("WATCHDOG_USEC", limit);
        });
        let daemon = daemon.unwrap();
        wait_for("the daemon to serve", SOON, || {
            Ok(daemon.get("/livez")?.0 == 200)
        })
        .unwrap();
        assert_eq!(daemon.stop(SOON).unwrap(), Some(0), "{limit}");
    }
}

#[test]
fn a_reader_of_the_log_that_is_stuck_stops_nothing() {
    let sandbox = Sandbox::new().unwrap();
    let listen = sandbox.port().unwrap();
    let more = format!("listen: 127.0.0.1:{listen}\n");
    let endpoint = format!("http://127.0.0.1:{}", sandbox.port().unwrap());
    let text = native(&endpoint, "s", "postgres", &["app"], &[(1, "wk1")], &more);
    let file = fixture::file(&text);
    // A pipe of Linux takes 64 KiB. This one is full before the first line.
    let (_unread, mut full) = std::io::pipe().unwrap();
    full.write_all(&vec![b'\n'; 64 << 10]).unwrap();
    let mut command = fixture::command(&["run", "-c"]);
    command.arg(file.path()).stderr(full);
    let mut child = sandbox.spawn(&mut command).unwrap();
    let page = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", listen))?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    wait_for("the daemon to serve", SOON, || Ok(page().is_ok())).unwrap();
    signal(child.id(), "TERM");
    assert_eq!(fixture::end_of(&mut child), Some(0));
}

/// Scopes whose leaders accept connections, and never say anything: the kernel accepts for them.
fn silent_leaders(namespace: &str, database: &str, with_rows: bool) -> TcpListener {
    FIXTURE.citus_database(database);
    FIXTURE.put_scope(namespace, "cn", &[("cn-1", FIXTURE.coordinator.port())]);
    let silent = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let kv = FIXTURE.etcd.kv();
    for number in 2..62 {
        let host = format!("127.0.0.{number}");
        let folder = format!("/{namespace}/wk{number}");
        let member = format!(
            "{{\"conn_url\":\"postgres://{host}:{port}/postgres\",\"state\":\"running\",\
             \"role\":\"primary\",\"version\":\"4.1.5\",\"timeline\":1}}"
        );
        kv.put(&format!("{folder}/members/m"), &member).unwrap();
        kv.put(&format!("{folder}/leader"), "m").unwrap();
        if with_rows {
            let sql = format!(
                "INSERT INTO pg_catalog.pg_dist_node (nodeid, groupid, nodename, nodeport, noderack, \
                 noderole, nodecluster) VALUES ({}, {number}, '{host}', {port}, 'default', 'primary', \
                 'default')",
                100 + number
            );
            FIXTURE.coordinator.execute(database, &sql).unwrap();
        }
    }
    silent
}

/// The most sessions that a daemon has on the coordinator, until each group has been looked at and lost.
fn most_sessions(namespace: &str, database: &str) -> i64 {
    let listen = FIXTURE.sandbox.port().unwrap();
    let text = format!(
        "etcd: {{ endpoints: [\"{}\"] }}\nnamespace: /{namespace}/\ncoordinator: {{ scope: cn, \
         databases: [{database}] }}\ndiscover: '^wk(?<group>[0-9]+)$'\nlisten: 127.0.0.1:{listen}\n\
         policy: {{ connect_timeout: 1s }}\n",
        FIXTURE.etcd.endpoint()
    );
    let program = Path::new(env!("CARGO_BIN_EXE_citus-sync"));
    let daemon = Daemon::start(&FIXTURE.sandbox, program, &text, listen).unwrap();
    let count = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'citus-sync%' AND datname = \
         '{database}'"
    );
    let mut client = FIXTURE.coordinator.connect("postgres").unwrap();
    let mut most = 0;
    wait_for(
        "every leader to be lost, and asked about again",
        SOON,
        || {
            let now: i64 = client.query_one(&count, &[])?.get(0);
            most = most.max(now);
            let state: State = serde_json::from_str(&daemon.get("/api/v1/state")?.1)?;
            let groups = &state.formations[0].groups;
            let lost = |group: &GroupReport| {
                let steps = &group.databases[database].step;
                group.group == 0 || steps.contains("cannot reach") || steps.contains("lost")
            };
            Ok(groups.len() == 61 && groups.iter().all(lost))
        },
    )
    .unwrap();
    assert_eq!(daemon.get("/livez").unwrap().0, 200);
    most
}

#[test]
fn groups_without_a_row_take_no_session_of_the_coordinator() {
    let _silent = silent_leaders("silent", "silent", false);
    let most = most_sessions("silent", "silent");
    assert!((1..=3).contains(&most), "{most} sessions");
}

#[test]
fn sixty_silent_leaders_take_a_bounded_number_of_sessions_of_the_coordinator() {
    let _silent = silent_leaders("silent_rows", "silent_rows", true);
    let most = most_sessions("silent_rows", "silent_rows");
    // Two that stay, ten questions at once, and those that were just given back.
    assert!((1..=16).contains(&most), "{most} sessions");
}
