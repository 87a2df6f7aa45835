//! The command, as a person or a script runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use dcs_watch::event::Event;
use dcs_watch::recording::{What, parse};
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
    told(&command(arguments).output().unwrap())
}

fn told(output: &Output) -> (i32, String, String) {
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

    /// The next line that contains the words.
    fn line(&self, words: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("no line with {words:?} ({error}) after {seen:#?}"),
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
        .expect("it ends by itself, not by a signal")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stdout: ChildStdout) -> mpsc::Receiver<String> {
    let (tell, hear) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { return };
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    hear
}

#[test]
fn a_recording_is_told_in_words() {
    let path = recording("4.1.5");
    let (code, out, err) = run(&["--from-file", path.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out.lines().count(),
        std::fs::read_to_string(path).unwrap().lines().count()
    );
    let mut rest = out.as_str();
    for words in [
        "# planned switchover",
        "switchover asked for, from pg1 to pg2, now",
        "no leader: the leader key of pg1 is gone",
        "leader is pg2 (revision 39)",
        "synchronous standbys of pg2: pg1",
        "paused",
        "resumed",
        "member pg2 is gone",
    ] {
        let at = rest
            .find(words)
            .unwrap_or_else(|| panic!("no {words:?} in order"));
        rest = &rest[at..];
    }
}

#[test]
fn a_recording_survives_the_trip_through_json() {
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

#[test]
fn a_broken_line_is_named_and_the_rest_is_told() {
    let mut child = command(&["--from-file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = "{\"t\":1,\"note\":\"first\"}\nnonsense\n\n{\"t\":2,\"event\":\"put\",\"key\":\"/service/wk1/leader\",\"value\":\"pg\\u001b[31m1\",\"mod_revision\":5,\"version\":1}\n{\"t\":3,\"note\":\"last\"}";
    stdin.write_all(text.as_bytes()).unwrap();
    stdin.write_all(b"\n{\"t\":4,\"note\":\"\xff\"}").unwrap();
    drop(stdin);
    let (code, out, err) = told(&child.wait_with_output().unwrap());
    assert_eq!(code, 1);
    assert!(err.contains("line 2"), "{err}");
    assert_eq!(out.lines().count(), 4, "{out}");
    assert!(
        !out.contains('\u{1b}'),
        "nothing foreign reaches the terminal"
    );
}

#[test]
fn only_the_scopes_asked_for_are_told() {
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
fn wrong_usage_ends_with_2_and_says_what_is_wrong() {
    let missing = "/nowhere/recording.jsonl";
    for (arguments, words) in [
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
        assert!(err.contains(words), "{arguments:?}: {err}");
    }
    assert_eq!(run(&["--help"]).0, 0);
    assert_eq!(run(&["--version"]).0, 0);
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let script = format!(
        "{} --from-file {} | head -1; echo ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_dcs-watch"),
        recording("4.1.5").display()
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let (_, out, err) = told(&output);
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
fn what_is_watched_can_be_replayed() {
    let sandbox = Sandbox::new().unwrap();
    let etcd = Etcd::start(&sandbox).unwrap();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    let mut watch = Running::start(&["--endpoints", &etcd.endpoint(), "--output", "json"]);
    let listed = watch.line("\"event\":\"put\"");
    assert!(listed.contains("\"listed\":true"), "{listed}");
    watch.line("\"stream\":\"fresh\"");
    let revision = etcd.kv().delete("/service/wk1/leader").unwrap();
    let line = watch.line("delete");
    match parse(&line).unwrap().what {
        What::Event(Event::Delete(record)) => {
            assert_eq!(record.mod_revision, revision);
            assert_eq!(record.key, b"/service/wk1/leader");
        }
        other => panic!("{other:?}"),
    }
    watch.signal("-INT");
    assert_eq!(watch.exit_code(), 0);
}

#[test]
fn what_vanished_across_a_list_is_told_as_deleted() {
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
fn an_empty_keyspace_and_an_unreachable_etcd_are_told() {
    let sandbox = Sandbox::new().unwrap();
    let etcd = Etcd::start(&sandbox).unwrap();
    let dead = format!("http://127.0.0.1:{}", sandbox.port().unwrap());
    let both = format!("{dead},{}", etcd.endpoint());
    let watch = Running::start(&["--endpoints", &both]);
    assert!(watch.line("refused").contains(&dead));
    watch.line("API v2");
}
