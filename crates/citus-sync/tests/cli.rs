//! The command line, as an operator meets it: exit codes and messages of the real program against
//! real servers, broken in the ways that people break them.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

#[path = "cli/check.rs"]
mod check;
#[path = "cli/fake.rs"]
mod fake;
#[path = "cli/fixture.rs"]
mod fixture;
#[path = "cli/hold.rs"]
mod hold;
#[path = "cli/patroni.rs"]
mod patroni;
#[path = "cli/token.rs"]
mod token;

use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;

use fixture::{FIXTURE, black_hole, command, end_of, file, native, run, with_file};

#[test]
fn a_file_that_is_not_there_is_named() {
    for arguments in [
        vec!["run"],
        vec!["check"],
        vec!["plan"],
        vec!["config", "convert"],
    ] {
        let mut arguments = arguments;
        arguments.extend(["-c", "/nonexistent/citus-sync.yml"]);
        let ran = run(command(&arguments));
        ran.ended(2);
        assert!(
            ran.stderr
                .contains("/nonexistent/citus-sync.yml: cannot be read"),
            "{ran:?}"
        );
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn bad_yaml_is_reported_with_its_line() {
    let file = file("etcd: [\n");
    let ran = with_file(&["check"], &file);
    ran.ended(2);
    let place = format!("{}:", file.path().display());
    assert!(ran.stderr.starts_with(&place), "{ran:?}");
}

#[test]
fn every_wrong_key_has_a_line_of_its_own() {
    let text = native(
        "http://127.0.0.1:1",
        "service",
        "postgres",
        &["app"],
        &[(1, "wk1")],
        "",
    );
    let ran = with_file(
        &["check"],
        &file(&(text + "lisen: 1\npolicy: { lock_cooldwon: 1s }\n")),
    );
    ran.ended(2);
    for key in ["lisen", "lock_cooldwon"] {
        assert_eq!(
            ran.stderr.lines().filter(|line| line.contains(key)).count(),
            1,
            "{ran:?}"
        );
    }
}

#[test]
fn one_scope_cannot_serve_two_groups() {
    let workers = [(1, "wk1"), (2, "wk1")];
    let text = native(
        "http://127.0.0.1:1",
        "service",
        "postgres",
        &["app"],
        &workers,
        "",
    );
    let ran = with_file(&["check"], &file(&text));
    ran.ended(2);
    assert!(
        ran.stderr.contains("scope wk1, which group 1 has too"),
        "{ran:?}"
    );
}

#[test]
fn wrong_arguments_exit_with_2_and_help_with_0() {
    for (arguments, code) in [
        (vec![], 2),
        (vec!["chekc"], 2),
        (vec!["check"], 2),
        (vec!["status", "-c", "x", "--url", "y"], 2),
        (vec!["status", "--url", "https://somewhere"], 2),
        (vec!["--log-level", "loud=very", "status"], 2),
        (vec!["--help"], 0),
        (vec!["--version"], 0),
        (vec!["config", "--help"], 0),
    ] {
        let ran = run(command(&arguments));
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
        let words = if code == 0 { &ran.stdout } else { &ran.stderr };
        assert!(!words.is_empty(), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn an_unreachable_etcd_is_reported_with_its_reason() {
    let (listener, port) = black_hole();
    drop(listener); // now nothing listens there
    let endpoint = format!("http://127.0.0.1:{port}");
    let text = native(
        &endpoint,
        "service",
        "postgres",
        &["app"],
        &[(1, "wk1")],
        "",
    );
    let ran = with_file(&["check"], &file(&text));
    ran.ended(1);
    let line = ran.line("fail", &format!("etcd 127.0.0.1:{port}"));
    assert!(
        line.contains("refused") && line.contains("etcd.endpoints"),
        "{line}"
    );
    ran.line("fail", "everything else");

    let ran = with_file(&["plan"], &file(&text));
    ran.ended(1);
    assert!(ran.stderr.contains(&endpoint), "{ran:?}");
}

#[test]
fn an_etcd_that_never_answers_is_given_up() {
    let (_listener, port) = black_hole();
    let endpoint = format!("http://127.0.0.1:{port}");
    let text = native(
        &endpoint,
        "service",
        "postgres",
        &["app"],
        &[(1, "wk1")],
        "",
    );
    let ran = with_file(&["check", "--json"], &file(&text));
    ran.ended(1);
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let etcd = found
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["verdict"] == "fail")
        .unwrap();
    assert_eq!(etcd["what"], format!("etcd 127.0.0.1:{port}"));
    assert!(etcd["fix"].is_string(), "{etcd}");
    with_file(&["plan"], &file(&text)).ended(1);
}

#[test]
fn one_dead_endpoint_of_two_is_a_warning() {
    let (listener, port) = black_hole();
    drop(listener);
    FIXTURE.put_scope("two", "cn", &[("cn-1", port)]);
    let endpoints = format!("{}\", \"http://127.0.0.1:{port}", FIXTURE.etcd.endpoint());
    let text = native(&endpoints, "two", "postgres", &["app"], &[(1, "wk1")], "");
    let ran = with_file(&["check"], &file(&text));
    ran.line("pass", &format!("etcd 127.0.0.1:{}", FIXTURE.etcd.port()));
    ran.line("warn", &format!("etcd 127.0.0.1:{port}"));
}

#[test]
fn an_empty_keyspace_points_to_patronis_api_v2() {
    let file = FIXTURE.file("empty", &["app"], &[(1, "wk1")], "");
    let ran = with_file(&["check"], &file);
    ran.ended(1);
    let line = ran.line("fail", "no key under /empty/");
    assert!(line.contains("API v2") && line.contains("etcd3:"), "{line}");
    let ran = with_file(&["plan"], &file);
    ran.ended(1);
    assert!(ran.stderr.contains("API v2"), "{ran:?}");
}

#[test]
fn a_scope_that_does_not_exist_gets_the_nearest_names() {
    let (_listener, port) = black_hole();
    FIXTURE.put_scope("names", "wk1", &[("a", port)]);
    FIXTURE.put_scope("names", "citus/0", &[("b", port + 1)]);
    let text = native(
        &FIXTURE.etcd.endpoint(),
        "names",
        "postgres",
        &["app"],
        &[(1, "wk-1")],
        "",
    )
    .replace("scope: cn", "scope: citus");
    let ran = with_file(&["check"], &file(&text));
    ran.ended(1);
    let line = ran.line("fail", "scope wk-1 (group 1)");
    assert!(
        line.contains("did you mean wk1?") && line.contains("`workers`"),
        "{line}"
    );
    let line = ran.line("fail", "scope citus (coordinator)");
    assert!(line.contains("did you mean citus/0?"), "{line}");

    let ran = with_file(&["plan"], &file(&text));
    ran.ended(1);
    assert!(
        ran.stdout.contains("cannot tell: etcd has no scope wk-1"),
        "{}",
        ran.stdout
    );
}

#[test]
fn the_old_scripts_file_is_converted_with_the_scopes_that_live_at_its_nodes() {
    FIXTURE.put_both("convert");
    let port = FIXTURE.worker.port();
    let text = |nodes: &str| {
        format!(
            "scope: cn\nnamespace: /convert/\netcd3:\n  host: 127.0.0.1:{}\npostgresql: {{}}\ncitus:\n  databases: \
             [app]\n  workers:\n    - groupid: 1\n      nodes: [{nodes}]\n",
            FIXTURE.etcd.port()
        )
    };
    let ran = with_file(
        &["config", "convert"],
        &file(&text(&format!("127.0.0.1:{port}"))),
    );
    ran.ended(0);
    assert!(ran.stdout.contains("- { group: 1, scope: wk1 }"), "{ran:?}");
    let converted = with_file(&["config", "convert"], &file(&ran.stdout));
    converted.ended(0);
    assert!(
        converted.stdout.contains("- { group: 1, scope: wk1 }"),
        "it reads back: {ran:?}"
    );

    let ran = with_file(&["config", "convert"], &file(&text("127.0.0.1:1")));
    ran.ended(1);
    assert_eq!(ran.stdout, "");
    assert!(
        ran.stderr
            .contains("no Patroni scope has a member at 127.0.0.1:1"),
        "{ran:?}"
    );
}

#[test]
fn status_without_a_daemon_says_what_to_do() {
    let (listener, port) = black_hole();
    drop(listener);
    let listen = format!("listen: 127.0.0.1:{port}\n");
    let file = FIXTURE.file("status", &["app"], &[(1, "wk1")], &listen);
    let ran = with_file(&["status"], &file);
    ran.ended(1);
    assert!(
        ran.stderr
            .contains(&format!("no daemon answers at 127.0.0.1:{port}")),
        "{ran:?}"
    );
    let hint = format!("`citus-sync plan -c {}`", file.path().display());
    assert!(ran.stderr.contains(&hint), "{ran:?}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let file = FIXTURE.file("empty", &["app"], &[(1, "wk1")], "");
    let path = file.path();
    let mut command = command(&["check", "-c", path.to_str().unwrap()]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(end_of(&mut child), Some(1), "the verdict, not 101");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn the_log_goes_to_stderr_in_the_format_asked_for() {
    // A token that is too short is a warning in the log; the taken address ends it at once.
    let (_listener, port) = black_hole();
    let more = format!("listen: 127.0.0.1:{port}\n");
    let text = native(
        "http://127.0.0.1:1",
        "s",
        "postgres",
        &["a"],
        &[(1, "wk1")],
        &more,
    );
    let file = file(&text);
    let path = file.path();
    let log = |options: &[&str], journal: bool| -> String {
        let kept = tempfile::NamedTempFile::new().unwrap();
        let meta = kept.as_file().metadata().unwrap();
        let stream = format!("{}:{}", meta.dev(), meta.ino());
        let mut arguments = vec!["run", "-c", path.to_str().unwrap()];
        arguments.extend(options);
        let mut command = command(&arguments);
        command.env("JOURNAL_STREAM", if journal { &stream } else { "1:1" });
        command.env("CITUS_SYNC_TOKEN", "short");
        command.stderr(kept.reopen().unwrap()).stdout(Stdio::null());
        assert_eq!(end_of(&mut command.spawn().unwrap()), Some(1));
        let text = std::fs::read_to_string(kept.path()).unwrap();
        let line = text.lines().find(|line| line.contains("can be guessed"));
        line.unwrap_or_default().to_owned()
    };
    assert!(
        log(&[], true).starts_with(" WARN "),
        "the journal has a clock of its own"
    );
    let file = log(&[], false);
    assert!(
        file.starts_with("20") && file.contains(" WARN ") && !file.contains('\x1b'),
        "{file}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&log(&["--log-format", "json"], true)).unwrap();
    assert_eq!(json["level"], "WARN");
    assert_eq!(log(&["--log-level", "error"], false), "");
}
