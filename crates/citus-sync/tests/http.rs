//! The daemon's pages and its end, over real HTTP against the real program.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

#[allow(
    dead_code,
    reason = "shared with the tests of the command line, which use the rest"
)]
#[path = "cli/fixture.rs"]
mod fixture;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use citus_core::report::{History, State};
use fixture::{FIXTURE, black_hole, native, run};
use lab::{Daemon, Sandbox, wait_for};

/// Far more than anything here needs.
const SOON: Duration = Duration::from_secs(30);

fn daemon(sandbox: &Sandbox, endpoint: &str, namespace: &str, database: &str) -> (Daemon, u16) {
    let listen = sandbox.port().unwrap();
    let more = format!("listen: 127.0.0.1:{listen}\n");
    let text = native(
        endpoint,
        namespace,
        "postgres",
        &[database],
        &[(1, "wk1")],
        &more,
    );
    let program = Path::new(env!("CARGO_BIN_EXE_citus-sync"));
    let daemon = Daemon::start(sandbox, program, &text, listen).unwrap();
    wait_for("the daemon to serve", SOON, || {
        Ok(daemon.get("/livez")?.0 == 200)
    })
    .unwrap();
    (daemon, listen)
}

/// The content type of a page and the page, for a client that accepts this.
fn page(listen: u16, path: &str, accept: &str) -> (String, String) {
    let mut response = ureq::get(format!("http://127.0.0.1:{listen}{path}"))
        .header("accept", accept)
        .call()
        .unwrap();
    let content_type = response.headers()["content-type"].to_str().unwrap();
    let content_type = content_type.to_owned();
    (content_type, response.body_mut().read_to_string().unwrap())
}

#[test]
fn every_page_is_served_while_etcd_is_away() {
    let sandbox = Sandbox::new().unwrap();
    let (_silent, etcd) = black_hole();
    let (daemon, listen) = daemon(
        &sandbox,
        &format!("http://127.0.0.1:{etcd}"),
        "service",
        "app",
    );

    assert_eq!(daemon.get("/livez").unwrap(), (200, "ok\n".to_owned()));
    let (status, reasons) = daemon.get("/readyz").unwrap();
    assert_eq!(status, 503);
    let lines: Vec<&str> = reasons.lines().collect();
    assert!(lines.iter().any(|line| line.contains("etcd")), "{reasons}");
    assert!(
        lines.iter().any(|line| line.contains("formation cn")),
        "{reasons}"
    );

    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let (content_type, metrics) = page(listen, "/metrics", openmetrics);
    assert_eq!(content_type, openmetrics);
    assert!(metrics.contains("citus_sync_ready 0\n"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    for accept in ["text/plain", "*/*"] {
        let (content_type, metrics) = page(listen, "/metrics", accept);
        assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
        assert!(metrics.contains("citus_sync_ready 0\n"), "{metrics}");
        assert!(metrics.contains("citus_sync_database_up{formation=\"cn\",database=\"app\"} 0\n"));
    }

    assert_eq!(page(listen, "/api/v1/state", "*/*").0, "application/json");
    let (_, state) = daemon.get("/api/v1/state").unwrap();
    let state: State = serde_json::from_str(&state).unwrap();
    assert!(!state.ready && !state.etcd.fresh, "{state:?}");
    assert_eq!(state.not_ready, lines);

    let (status, page) = daemon.get("/").unwrap();
    assert_eq!(status, 200);
    let (status, other) = daemon.get("/nothing/here").unwrap();
    assert_eq!(status, 404);
    let pages = [
        "/metrics",
        "/livez",
        "/readyz",
        "/api/v1/state",
        "/api/v1/history",
    ];
    for path in pages {
        assert!(page.contains(&format!("href=\"{path}\"")), "{page}");
        assert!(other.lines().any(|line| line.starts_with(path)), "{other}");
    }
    let hold = "/api/v1/groups/{group}/hold";
    assert!(
        page.contains(hold) && other.contains(hold),
        "{page}\n{other}"
    );
    let nothing = "{\"transitions\":[]}".to_owned();
    assert_eq!(daemon.get("/api/v1/history").unwrap(), (200, nothing));
    assert_eq!(daemon.stop(SOON).unwrap(), Some(0));
}

/// `citus-sync hold` against the daemon at this port, and its exit code.
fn hold(listen: u16, token: &str, group: &str) -> (Option<i32>, String) {
    let url = format!("http://127.0.0.1:{listen}");
    let mut command = fixture::command(&["hold", "--group", group, "--url", &url]);
    command.env("CITUS_SYNC_TOKEN", token);
    let ran = run(command);
    (ran.code, ran.stderr)
}

#[test]
fn without_a_token_in_its_configuration_a_daemon_holds_nothing() {
    let sandbox = Sandbox::new().unwrap();
    let (_silent, etcd) = black_hole();
    let endpoint = format!("http://127.0.0.1:{etcd}");
    let (daemon, listen) = daemon(&sandbox, &endpoint, "service", "app");
    let (code, said) = hold(listen, "0123456789abcdef", "7");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`token_file`"), "{said}");

    let url = format!("http://127.0.0.1:{listen}");
    let config = daemon.config().to_str().unwrap();
    for arguments in [
        vec!["history", "--url", &url],
        vec!["history", "-c", config, "--group", "citus/1"],
    ] {
        let ran = run(fixture::command(&arguments));
        ran.ended(0);
        assert!(ran.stdout.starts_with("no transition yet"), "{ran:?}");
    }
    let ran = run(fixture::command(&["history", "--json", "--url", &url]));
    let history: History = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(history.transitions, []);

    let mut command = fixture::command(&["history", "--watch", "--json", "--url", &url]);
    let mut watching = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.take(2).map(Result::unwrap).collect();
    assert_eq!(lines, ["{\"transitions\":[]}"; 2]);
    assert_eq!(fixture::end_of(&mut watching), Some(0));

    drop(daemon);
    let ran = run(fixture::command(&["history", "--url", &url]));
    ran.ended(1);
    assert!(ran.stderr.contains("no daemon answers"), "{ran:?}");
}

#[test]
fn a_client_with_the_token_learns_which_groups_there_are() {
    let sandbox = Sandbox::new().unwrap();
    let (_silent, etcd) = black_hole();
    let listen = sandbox.port().unwrap();
    std::fs::write(sandbox.root().join("token"), "0123456789abcdef\n").unwrap();
    let more = format!("listen: 127.0.0.1:{listen}\ntoken_file: token\n");
    let endpoint = format!("http://127.0.0.1:{etcd}");
    let text = native(&endpoint, "s", "postgres", &["app"], &[(1, "wk1")], &more);
    let program = Path::new(env!("CARGO_BIN_EXE_citus-sync"));
    let daemon = Daemon::start(&sandbox, program, &text, listen).unwrap();
    wait_for("the daemon to serve", SOON, || {
        Ok(daemon.get("/livez")?.0 == 200)
    })
    .unwrap();
    let (code, said) = hold(listen, "another-token-than-that", "7");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the token is not the one"), "{said}");
    let (code, said) = hold(listen, "0123456789abcdef", "7");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no group or scope \"7\""), "{said}");
}

#[test]
fn a_daemon_that_sees_everything_is_ready_and_status_shows_it() {
    FIXTURE.citus_database("pages");
    FIXTURE.put_both("pages");
    let endpoint = FIXTURE.etcd.endpoint();
    let (daemon, listen) = daemon(&FIXTURE.sandbox, &endpoint, "pages", "pages");
    daemon.wait_ready(SOON).unwrap();
    wait_for("both groups to be in sync", SOON, || {
        let state: State = serde_json::from_str(&daemon.get("/api/v1/state")?.1)?;
        let groups = &state.formations[0].groups;
        Ok(groups.len() == 2 && groups.iter().all(|group| group.in_sync))
    })
    .unwrap();
    assert_eq!(daemon.get("/readyz").unwrap(), (200, "ok\n".to_owned()));
    let (_, metrics) = daemon.get("/metrics").unwrap();
    for line in [
        "citus_sync_ready 1\n",
        "citus_sync_database_up{formation=\"cn\",database=\"pages\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }

    let url = format!("http://127.0.0.1:{listen}");
    let config = daemon.config().to_str().unwrap();
    for arguments in [["status", "--url", &url], ["status", "-c", config]] {
        let ran = run(fixture::command(&arguments));
        ran.ended(0);
        assert!(
            ran.stdout.contains("formation cn: 2 of 2 groups in sync"),
            "{ran:?}"
        );
        let port = FIXTURE.worker.port();
        let row = ran
            .stdout
            .lines()
            .find(|line| line.contains("wk1-1"))
            .unwrap();
        assert!(
            row.contains(&format!("127.0.0.1:{port}")) && row.ends_with("in sync"),
            "{row}"
        );
    }
    let ran = run(fixture::command(&["status", "--json", "--url", &url]));
    ran.ended(0);
    let state: State = serde_json::from_str(&ran.stdout).unwrap();
    assert!(state.ready);

    // Watched, one document a line, until the reader has seen enough.
    let mut command = fixture::command(&["status", "--watch", "--json", "--url", &url]);
    let mut watching = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for line in lines.take(2) {
        let state: State = serde_json::from_str(&line.unwrap()).unwrap();
        assert!(state.ready);
    }
    assert_eq!(fixture::end_of(&mut watching), Some(0));
}

#[test]
fn clients_that_neither_speak_nor_listen_do_not_delay_the_end() {
    let sandbox = Sandbox::new().unwrap();
    let (_silent, etcd) = black_hole();
    let (daemon, listen) = daemon(
        &sandbox,
        &format!("http://127.0.0.1:{etcd}"),
        "service",
        "app",
    );
    let connect = || TcpStream::connect(("127.0.0.1", listen)).unwrap();
    let mute = connect();
    let mut half = connect();
    half.write_all(b"GET /livez HTTP/1.1\r\nHost: ").unwrap();
    let mut deaf = connect();
    // Requests whose answers are never read, until they fill every buffer between us.
    deaf.set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    while deaf.write_all(&request).is_ok() {}
    // Others are served all the while.
    wait_for("another client's answer", SOON, || {
        Ok(daemon.get("/livez")?.0 == 200)
    })
    .unwrap();
    // Less than the half minute for which a client may take its time otherwise.
    assert_eq!(daemon.stop(Duration::from_secs(20)).unwrap(), Some(0));
    drop((mute, half, deaf));
}

#[test]
fn a_keep_alive_connection_is_closed_when_the_daemon_stops() {
    let sandbox = Sandbox::new().unwrap();
    let (_silent, etcd) = black_hole();
    let (daemon, listen) = daemon(
        &sandbox,
        &format!("http://127.0.0.1:{etcd}"),
        "service",
        "app",
    );
    let mut client = TcpStream::connect(("127.0.0.1", listen)).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client
        .write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(daemon.stop(SOON).unwrap(), Some(0));
    // End of file, not a reset.
    client.read_to_end(&mut Vec::new()).unwrap();
}

/// A daemon as a plain child of the test, whose exit code can be had however it ends.
fn child(sandbox: &Sandbox) -> (Child, u16, fixture::File) {
    let listen = sandbox.port().unwrap();
    let etcd = sandbox.port().unwrap();
    let more = format!("listen: 127.0.0.1:{listen}\n");
    let endpoint = format!("http://127.0.0.1:{etcd}");
    let text = native(
        &endpoint,
        "service",
        "postgres",
        &["app"],
        &[(1, "wk1")],
        &more,
    );
    let file = fixture::file(&text);
    let mut command = fixture::command(&["run", "-c", file.path().to_str().unwrap()]);
    let child = sandbox.spawn(command.stderr(Stdio::null())).unwrap();
    wait_for("the daemon to serve", SOON, || {
        Ok(TcpStream::connect(("127.0.0.1", listen)).is_ok())
    })
    .unwrap();
    (child, listen, file)
}

#[test]
fn sigint_ends_the_daemon_as_cleanly_as_sigterm() {
    let sandbox = Sandbox::new().unwrap();
    for name in ["INT", "TERM"] {
        let (mut child, _, _file) = child(&sandbox);
        signal(&child, name);
        assert_eq!(fixture::end_of(&mut child), Some(0), "{name}");
    }
}

#[test]
fn a_second_signal_ends_the_daemon_at_once() {
    let sandbox = Sandbox::new().unwrap();
    let (mut child, listen, _file) = child(&sandbox);
    // A request under way keeps it for its last second.
    let mut half = TcpStream::connect(("127.0.0.1", listen)).unwrap();
    half.write_all(b"GET /livez HTTP/1.1\r\nHost: ").unwrap();
    // Both signals wait for it when it wakes up: neither can come too late.
    for name in ["STOP", "INT", "TERM", "CONT"] {
        signal(&child, name);
    }
    let code = fixture::end_of(&mut child);
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
}

#[test]
fn an_address_in_use_is_reported_with_its_key() {
    let (listener, port) = black_hole();
    let listen = format!("listen: 127.0.0.1:{port}\n");
    let text = native(
        "http://127.0.0.1:1",
        "s",
        "postgres",
        &["a"],
        &[(1, "wk1")],
        &listen,
    );
    let ran = fixture::with_file(&["run"], &fixture::file(&text));
    ran.ended(1);
    assert!(
        ran.stderr
            .contains(&format!("cannot listen on 127.0.0.1:{port} (`listen`)")),
        "{ran:?}"
    );
    drop(listener);
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill")
        .args(["-s", name, &pid])
        .status()
        .unwrap();
    assert!(sent.success());
}
