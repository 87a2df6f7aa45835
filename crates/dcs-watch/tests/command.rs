//! The `dcs-watch` command, as people and scripts run it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use dcs_watch::event::Event;
use dcs_watch::recording::{Entry, parse};
use lab::etcd::Etcd;
use lab::sandbox::Sandbox;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dcs-watch"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    result(&command(arguments).output().unwrap())
}

/// Exit code, standard output and standard error.
fn result(output: &Output) -> (i32, String, String) {
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn recording(version: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/patroni-keys");
    PathBuf::from(format!("{root}/patroni-{version}.jsonl"))
}

/// The command while it runs. Killed if the test fails.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next line that contains the text.
    fn line(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("no line with {text:?} ({error}) after {seen:#?}"),
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn exit_code(&mut self) -> i32 {
        lab::wait::wait_until("the command to end", PATIENCE, || {
            Ok(self.child.try_wait()?)
        })
        .unwrap()
        .code()
        .expect("the command ends by itself, not by a signal")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stdout: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[test]
fn a_recording_is_replayed_as_text_in_order() {
    let path = recording("4.1.5");
    let (code, out, err) = run(&["--from-file", path.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out.lines().count(),
        std::fs::read_to_string(path).unwrap().lines().count()
    );
    let mut rest = out.as_str();
    for text in [
        "# planned switchover",
        "switchover requested from pg1 to pg2, due now",
        "no leader: the leader key of pg1 is gone",
        "leader is pg2 (revision 39)",
        "synchronous standbys of pg2: pg1",
        "paused",
        "resumed",
        "member pg2 is gone",
    ] {
        let at = rest
            .find(text)
            .unwrap_or_else(|| panic!("no {text:?} in order"));
        rest = &rest[at..];
    }
}

#[test]
fn a_recording_replayed_as_json_is_the_same_recording() {
    let path = recording("2.1.7");
    let (code, out, _) = run(&["--from-file", path.to_str().unwrap(), "--output", "json"]);
    assert_eq!(code, 0);
    let original = std::fs::read_to_string(path).unwrap();
    for (before, after) in original.lines().zip(out.lines()) {
        assert_eq!(parse(before).unwrap(), parse(after).unwrap());
    }
    assert_eq!(original.lines().count(), out.lines().count());
    let line = out
        .lines()
        .find(|line| line.contains("/service/wk1/leader"))
        .unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (&line["scope"], &line["field"]),
        (&"wk1".into(), &"leader".into())
    );
}

/// The command, with a recording on standard input.
fn replay(recording: &[u8], arguments: &[&str]) -> (i32, String, String) {
    let mut child = command(&["--from-file", "-"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let recording = recording.to_vec();
    // In a thread: a long recording would fill both pipes.
    let writer = std::thread::spawn(move || stdin.write_all(&recording).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    result(&output)
}

#[test]
fn a_broken_line_is_named_and_the_rest_is_printed() {
    let mut recording = br#"{"t":1,"note":"first"}
nonsense

{"t":2,"event":"put","key":"/service/wk1/leader","value":"pg\u001b[31m1","mod_revision":5,"version":1}
{"t":3,"note":"last"}
"#
    .to_vec();
    recording.extend(b"{\"t\":4,\"note\":\"\xff\"}");
    let (code, out, err) = replay(&recording, &[]);
    assert_eq!(code, 1);
    assert!(err.contains("line 2"), "{err}");
    assert_eq!(out.lines().count(), 4, "{out}");
    assert!(
        !out.contains('\u{1b}'),
        "no control character reaches the terminal"
    );
}

#[test]
fn hostile_text_stays_on_its_line_and_does_not_flood_the_terminal() {
    let hostile = format!("a\u{1b}]0;\u{9b}\u{202e}\u{2028}\n{}", "x".repeat(66_000));
    let key = |rest: &str| format!("/service/{rest}");
    let entries = [
        (key("wk1/leader"), "{\"a\":1}".to_owned()),
        (
            key("wk1/sync"),
            serde_json::json!({"leader": hostile}).to_string(),
        ),
        (key(&format!("wk1/members/{hostile}")), "{}".to_owned()),
        (
            key(&format!("{}/leader", "s".repeat(66_000))),
            "pg1".to_owned(),
        ),
        (key(&format!("{hostile}/leader")), hostile.clone()),
        (format!("/elsewhere/{hostile}"), hostile.clone()),
    ];
    let puts = (1..).zip(&entries).map(|(revision, (key, value))| {
        serde_json::json!({
            "t": 1, "event": "put", "key": key, "value": value,
            "mod_revision": revision, "version": 1,
        })
    });
    let note = serde_json::json!({ "t": 2, "note": hostile });
    let broken = serde_json::json!({ "t": hostile });
    let lines: Vec<_> = puts
        .chain([note, broken])
        .map(|line| line.to_string())
        .collect();
    let recording = lines.join("\n");
    let is_clean = |text: &str| !text.replace('\n', "").contains(dcs_watch::text::is_control);

    let (code, text, err) = replay(recording.as_bytes(), &[]);
    assert_eq!(code, 1, "the last line is broken");
    assert_eq!(text.lines().count(), lines.len() - 1);
    assert!(is_clean(&text) && is_clean(&err), "{text:?} {err:?}");
    for line in text.lines().chain(err.lines()) {
        assert!(line.len() < 1500, "{} bytes: {line:?}", line.len());
    }

    // JSON is as clean, and loses nothing.
    let (_, json, _) = replay(recording.as_bytes(), &["--output", "json"]);
    assert!(is_clean(&json), "{json:?}");
    let replayed: Vec<_> = json.lines().map(|line| parse(line).unwrap()).collect();
    let good = &lines[..lines.len() - 1];
    let original: Vec<_> = good.iter().map(|line| parse(line).unwrap()).collect();
    assert_eq!(replayed, original);
}

#[test]
fn only_the_wanted_scopes_are_printed() {
    let path = recording("4.1.5");
    let path = path.to_str().unwrap();
    let (code, out, _) = run(&["--from-file", path, "--scope", "wk2"]);
    assert_eq!(code, 0);
    assert!(out.lines().all(|line| line.contains('#')), "notes only");
    let (_, some, _) = run(&["--from-file", path, "--scope", "wk2", "--scope", "wk1"]);
    let (_, all, _) = run(&["--from-file", path]);
    assert_eq!(some, all);
}

#[test]
fn wrong_usage_exits_with_2_and_names_the_mistake() {
    let missing = "/nowhere/recording.jsonl";
    for (arguments, text) in [
        (vec![], "--endpoints"),
        (
            vec!["--endpoints", "http://127.0.0.1:1", "--scope", "a/b"],
            "not a scope",
        ),
        (
            vec!["--endpoints", "http://127.0.0.1:1", "--namespace", "a b"],
            "not a namespace",
        ),
        (
            vec!["--endpoints", "https://127.0.0.1:1"],
            "https is not supported yet",
        ),
        (vec!["--endpoints", "127.0.0.1"], "not of the form"),
        (
            vec!["--endpoints", "http://127.0.0.1:1", "--user", "root"],
            "--password-file",
        ),
        (
            vec![
                "--endpoints",
                "http://127.0.0.1:1",
                "--user",
                "root",
                "--password-file",
                "/nowhere/p",
            ],
            "/nowhere/p",
        ),
        (
            vec!["--endpoints", "http://127.0.0.1:1", "--output", "yaml"],
            "yaml",
        ),
        (vec!["--from-file", missing], missing),
        (
            vec!["--from-file", missing, "--endpoints", "http://127.0.0.1:1"],
            "cannot be used with",
        ),
    ] {
        let (code, out, err) = run(&arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(text), "{arguments:?}: {err}");
    }
    assert_eq!(run(&["--help"]).0, 0);
    assert_eq!(run(&["--version"]).0, 0);
}

#[test]
fn a_reader_that_closes_the_pipe_ends_the_command_without_an_error() {
    let script = format!(
        "{} --from-file {} | head -1; echo ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_dcs-watch"),
        recording("4.1.5").display()
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let (_, out, err) = result(&output);
    assert_eq!((out.lines().last(), err.as_str()), (Some("0"), ""), "{out}");
}

#[test]
fn a_live_etcd_is_followed_through_a_restart() {
    let sandbox = Sandbox::new().unwrap();
    let etcd = Etcd::start(&sandbox).unwrap();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    etcd.kv().put("/service/wk2/leader", "other").unwrap();
    let mut watch = Running::start(&[
        "--endpoints",
        &etcd.endpoint(),
        "--scope",
        "wk1",
        "--scope",
        "wk9",
    ]);
    assert!(watch.line("leader is pg1").contains("as of"));
    watch.line("listed 2 keys");
    watch.line("scope wk9 has no key yet");
    watch.line("watching http://");
    etcd.kv().put("/service/wk2/leader", "silent").unwrap();
    etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    let line = watch.line("wk");
    assert!(line.contains("leader is pg2, was pg1 (revision"), "{line}");
    etcd.kill().unwrap();
    etcd.start_again().unwrap();
    for name in ["pg3", "pg4", "pg3"] {
        etcd.kv().put("/service/wk1/leader", name).unwrap();
    }
    // Lossless: each of them, in order.
    watch.line("leader is pg3, was pg2");
    watch.line("leader is pg4, was pg3");
    watch.line("leader is pg3, was pg4");
    etcd.kv().delete("/service/wk1/leader").unwrap();
    watch.line("no leader: the leader key of pg3 is gone");
    watch.signal("-TERM");
    assert_eq!(watch.exit_code(), 0);
}

#[test]
fn what_the_watch_prints_as_json_can_be_replayed() {
    let sandbox = Sandbox::new().unwrap();
    let etcd = Etcd::start(&sandbox).unwrap();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    let mut watch = Running::start(&["--endpoints", &etcd.endpoint(), "--output", "json"]);
    let listed = watch.line("\"event\":\"put\"");
    assert!(listed.contains("\"listed\":true"), "{listed}");
    watch.line("\"stream\":\"fresh\"");
    let revision = etcd.kv().delete("/service/wk1/leader").unwrap();
    let line = watch.line("delete");
    match parse(&line).unwrap().entry {
        Entry::Event(Event::Delete(record)) => {
            assert_eq!(record.mod_revision, revision);
            assert_eq!(record.key, b"/service/wk1/leader");
        }
        other => panic!("{other:?}"),
    }
    watch.signal("-INT");
    assert_eq!(watch.exit_code(), 0);
}

#[test]
fn keys_that_a_new_list_no_longer_has_are_printed_as_deleted() {
    let sandbox = Sandbox::new().unwrap();
    let etcd = Etcd::start(&sandbox).unwrap();
    for _ in 0..3 {
        etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    }
    let watch = Running::start(&["--endpoints", &etcd.endpoint()]);
    watch.line("watching http://");
    etcd.wipe().unwrap();
    watch.line("it was restored or wiped");
    watch.line("no leader: the leader key of pg1 is gone");
}

#[test]
fn an_empty_keyspace_and_an_unreachable_etcd_are_reported() {
    let sandbox = Sandbox::new().unwrap();
    let etcd = Etcd::start(&sandbox).unwrap();
    let dead = format!("http://127.0.0.1:{}", sandbox.port().unwrap());
    let both = format!("{dead},{}", etcd.endpoint());
    let watch = Running::start(&["--endpoints", &both]);
    assert!(watch.line("refused").contains(&dead));
    watch.line("API v2");
}
