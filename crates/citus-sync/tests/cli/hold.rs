//! `hold` and `release`: what they print and how they end, with daemons that the test plays.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fake::{Fake, answer};
use crate::fixture::{black_hole, command, file, native, run};
use crate::token::{ask, token};

#[test]
fn each_outcome_has_its_line_and_its_exit_code() {
    for (verb, outcome, status, code, words) in [
        ("hold", "held", 200, 0, "writes are held in app (7 ms)"),
        ("hold", "partly", 200, 1, "held on some entry nodes only"),
        ("hold", "not_held", 503, 1, "not held"),
        ("hold", "not_the_leader", 200, 0, "nothing to hold"),
        ("hold", "refused", 409, 1, "refused"),
        ("hold", "not_held", 504, 1, "not held"),
        ("release", "released", 200, 0, "released"),
        ("release", "nothing_held", 200, 0, "nothing was held"),
        ("release", "not_held", 504, 1, "not held"),
    ] {
        let daemon = Fake::says(status, &answer(outcome));
        let ran = ask(&[verb, "--group", "1", "--url", &daemon.url()]);
        ran.ended(code);
        assert!(
            ran.stdout.starts_with("citus-sync: group 1 (wk1): ") && ran.stdout.contains(words),
            "{outcome}: {ran:?}"
        );
        assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
        assert_eq!(ran.stderr, "", "{outcome}");

        let ran = ask(&[verb, "--group", "1", "--url", &daemon.url(), "--json"]);
        ran.ended(code);
        let said: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(said, answer(outcome));
    }
}

#[test]
fn the_daemon_receives_what_the_command_line_asks_for() {
    let daemon = Fake::says(200, &answer("held"));
    let hold = [
        "hold",
        "--scope",
        "citus/1",
        "--member",
        "wk1-2",
        "--timeout",
        "12s",
    ];
    let more = ["--wait", "3s", "--formation", "eu 1", "--url"];
    let url = daemon.url();
    ask(&[&hold[..], &more, &[&url]].concat()).ended(0);
    let heard = daemon.only();
    assert_eq!(
        heard.line,
        "POST /api/v1/groups/citus%2F1/hold?formation=eu%201 HTTP/1.1"
    );
    assert_eq!(heard.token, "Bearer 0123456789abcdef");
    assert_eq!(heard.body["member"], "wk1-2");
    assert_eq!(heard.body["timeout_ms"], 12_000);
    let wait = heard.body["wait_ms"].as_u64().unwrap();
    assert!((1..3000).contains(&wait), "{heard:?}");

    let daemon = Fake::says(200, &answer("released"));
    ask(&["release", "--group", "7", "--url", &daemon.url()]).ended(0);
    let heard = daemon.only();
    assert_eq!(heard.line, "DELETE /api/v1/groups/7/hold HTTP/1.1");
    assert_eq!(heard.body["member"], Value::Null);
}

#[test]
fn a_hold_by_a_person_names_no_member() {
    let daemon = Fake::says(200, &answer("held"));
    ask(&["hold", "--group", "1", "--url", &daemon.url()]).ended(0);
    assert_eq!(daemon.only().body["member"], Value::Null);
    assert_eq!(daemon.only().body["timeout_ms"], Value::Null);
}

#[test]
fn a_refusal_is_printed_as_the_daemon_words_it() {
    let message = "the token is not the one this daemon was started with";
    let body = json!({"error": "unauthorized", "message": message});
    let daemon = Fake::says(401, &body);
    let ran = ask(&["hold", "--group", "1", "--url", &daemon.url()]);
    ran.ended(1);
    assert_eq!(
        ran.stdout,
        "citus-sync: group 1: not held, the daemon refused\n"
    );
    assert_eq!(ran.stderr, format!("citus-sync: {message}\n"));
}

#[test]
fn the_first_daemon_that_answers_decides() {
    let (listener, closed) = black_hole();
    drop(listener);
    let closed = format!("http://127.0.0.1:{closed}");
    let stranger = Fake::says(200, &json!({"hello": "world"}));
    let stranger = stranger.url();
    let (yes, never) = (
        Fake::says(200, &answer("held")),
        Fake::says(200, &answer("held")),
    );
    let urls = [
        "--url",
        &closed,
        "--url",
        &stranger,
        "--url",
        &yes.url(),
        "--url",
        &never.url(),
    ];
    let ran = ask(&[&["hold", "--group", "1"], &urls[..]].concat());
    ran.ended(0);
    assert!(ran.stderr.contains("refused"), "{ran:?}");
    assert!(
        ran.stderr.contains("did not answer like citus-sync"),
        "{ran:?}"
    );
    assert_eq!((yes.count(), never.count()), (1, 0));
}

#[test]
fn a_daemon_that_is_not_active_leads_to_the_one_that_is() {
    let active = Fake::says(200, &answer("held"));
    let body = |address: &str| json!({"error": "not_active", "message": "this instance is not active", "active": address});
    let standby = Fake::says(503, &body(&format!("127.0.0.1:{}", active.port)));
    // Named or not, it is asked once.
    for more in [vec![], vec!["--url".to_owned(), active.url()]] {
        let before = active.count();
        let mut arguments = vec!["hold".to_owned(), "--group".to_owned(), "1".to_owned()];
        arguments.extend(["--url".to_owned(), standby.url()]);
        arguments.extend(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ran = ask(&arguments);
        ran.ended(0);
        assert_eq!(ran.stderr, "");
        assert_eq!(active.count(), before + 1);
    }

    // Two that send us to each other do not keep us busy.
    let (listener, port) = black_hole();
    drop(listener);
    let lost = Fake::says(503, &body(&format!("127.0.0.1:{port}")));
    let ran = ask(&[
        "hold",
        "--group",
        "1",
        "--url",
        &lost.url(),
        "--url",
        &lost.url(),
    ]);
    ran.ended(1);
    assert_eq!(lost.count(), 1);
    assert!(
        ran.stderr
            .contains("this instance is not active; name every instance with --url"),
        "{ran:?}"
    );
}

#[test]
fn a_daemon_that_says_nothing_delays_only_itself() {
    let (_silent, port) = black_hole();
    let silent = format!("http://127.0.0.1:{port}");
    let daemon = Fake::says(200, &answer("held"));
    let urls = ["--url", &silent, "--url", &daemon.url()];
    // It never answers, so that only the other one can have.
    let ran = ask(&[&["hold", "--group", "1", "--wait", "40s"], &urls[..]].concat());
    ran.ended(0);
    assert!(ran.stdout.contains("writes are held"), "{ran:?}");
}

#[test]
fn a_slow_daemon_is_waited_for_while_the_next_is_asked() {
    let slow = Fake::does(|stream, _| {
        use std::io::Write as _;
        std::thread::sleep(Duration::from_millis(1500));
        let text = answer("held").to_string();
        let length = text.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"
        );
    });
    let address = format!("127.0.0.1:{}", slow.port);
    let body = json!({"error": "not_active", "message": "another one is", "active": address});
    let standby = Fake::says(503, &body);
    let urls = ["--url", &slow.url(), "--url", &standby.url()];
    let ran = ask(&[&["hold", "--group", "1", "--wait", "40s"], &urls[..]].concat());
    ran.ended(0);
    assert_eq!((slow.count(), standby.count()), (1, 1));
}

/// Whatever hangs, the process ends by itself: `run` waits longer than any `--wait` here, and
/// nothing of what hangs ever ends.
#[test]
fn the_command_ends_within_its_wait_whatever_hangs() {
    let (_silent, port) = black_hole();
    let silent = format!("http://127.0.0.1:{port}");
    let half = Fake::does(|stream, _| {
        use std::io::Write as _;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{");
        std::thread::sleep(Duration::from_secs(3600));
    });
    for url in [silent, half.url()] {
        let ran = ask(&["hold", "--group", "1", "--wait", "500ms", "--url", &url]);
        ran.ended(1);
        assert_eq!(
            ran.stdout,
            "citus-sync: group 1: not held, no daemon answered in time\n"
        );
        assert!(ran.stderr.contains("gave no answer within"), "{ran:?}");
        assert!(ran.stderr.contains("`listen`"), "the fix: {ran:?}");
    }

    // A file on a disk that does not answer.
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("citus-sync.yml");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let path = pipe.to_str().unwrap();
    let ran = run(command(&[
        "hold", "--group", "1", "--wait", "500ms", "-c", path,
    ]));
    ran.ended(1);
    assert_eq!(ran.stdout, "citus-sync: not held, no answer in time\n");
    assert_eq!(
        ran.stderr,
        "citus-sync: timed out locally; check DNS and disk\n"
    );
}

#[test]
fn a_name_server_that_never_answers_does_not_delay_the_command() {
    // What the C library does with such a server, without one: it blocks its thread.
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("dns.c"), folder.path().join("dns.so"));
    let code = "unsigned sleep(unsigned);\n\
                int getaddrinfo(const char *a, const char *b, const void *c, void **d) \
                { sleep(3600); return -2; }\n";
    std::fs::write(&source, code).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status()
        .unwrap();
    assert!(compiled.success());
    let token = token();
    let path = token.path();
    let mut command = command(&[
        "hold",
        "--group",
        "1",
        "--wait",
        "500ms",
        "--url",
        "http://sync.example:8009",
        "--token-file",
        &path,
    ]);
    command.env("LD_PRELOAD", &library);
    let ran = run(command);
    ran.ended(1);
    assert!(
        ran.stderr
            .contains("sync.example:8009 gave no answer within"),
        "{ran:?}"
    );
}

#[test]
fn a_proxy_in_the_environment_is_not_asked() {
    let (daemon, proxy) = (
        Fake::says(200, &answer("held")),
        Fake::says(502, &json!({})),
    );
    let token = token();
    let (path, url) = (token.path(), daemon.url());
    let mut command = command(&["hold", "--group", "1", "--url", &url, "--token-file", &path]);
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, proxy.url());
    }
    run(command).ended(0);
    assert_eq!((daemon.count(), proxy.count()), (1, 0));
}

/// Runs `citus-sync ARGUMENTS…`, which must be refused before any daemon is asked.
#[track_caller]
fn refused(arguments: &[&str], words: &str) {
    let ran = run(command(arguments));
    ran.ended(2);
    assert!(ran.stderr.contains(words), "{arguments:?}: {ran:?}");
    assert_eq!(ran.stdout, "");
}

#[test]
fn without_a_group_or_a_usable_token_no_daemon_is_asked() {
    let daemon = Fake::says(200, &answer("held"));
    let url = daemon.url();
    let token = token();
    let path = token.path();
    refused(
        &["hold", "--url", &url, "--token-file", &path],
        "which group?",
    );
    let hold = ["hold", "--group", "1", "--url", &url];
    refused(&hold, "no API token was given");
    refused(
        &[&hold[..], &["--token-file", "/nonexistent/token"]].concat(),
        "--token-file /nonexistent/token: cannot be read: No such file",
    );
    for (wrong, words) in [("", "it is empty"), ("two words\n", "it has spaces")] {
        std::fs::write(&path, wrong).unwrap();
        refused(&[&hold[..], &["--token-file", &path]].concat(), words);
    }
    assert_eq!(daemon.count(), 0);
}

#[test]
fn a_wrong_argument_is_refused_with_what_is_expected() {
    for (arguments, words) in [
        (
            vec!["--group", "1", "--scope", "wk1"],
            "cannot be used with",
        ),
        (vec!["--group", "one"], "invalid value"),
        (vec!["--group", "1", "--wait", "5"], "such as 5s"),
        (vec!["--group", "1", "--wait", "2m"], "from 100ms to 1m"),
        (vec!["--group", "1", "--timeout", "0s"], "from 1ms to 10m"),
        (
            vec!["--group", "1", "-c", "x", "--url", "y"],
            "cannot be used with",
        ),
    ] {
        refused(&[&["hold"], &arguments[..]].concat(), words);
    }
    let token = token();
    let path = token.path();
    let https = ["--url", "https://here:1", "--token-file", &path];
    for verb in ["hold", "release"] {
        refused(
            &[&[verb, "--group", "1"], &https[..]].concat(),
            "plain HTTP",
        );
    }
}

#[test]
fn the_daemons_configuration_gives_its_address_and_token() {
    let daemon = Fake::says(200, &answer("held"));
    let token = token();
    let text = |more: &str| {
        let listen = format!("listen: 0.0.0.0:{}\n{more}", daemon.port);
        native(
            "http://127.0.0.1:1",
            "s",
            "postgres",
            &["a"],
            &[(1, "wk1")],
            &listen,
        )
    };
    let without = file(&text(""));
    let path = without.path();
    let ran = run(command(&[
        "hold",
        "--group",
        "1",
        "-c",
        path.to_str().unwrap(),
    ]));
    ran.ended(2);
    assert!(ran.stderr.contains("`token_file` in"), "{ran:?}");

    let with = file(&text(&format!("token_file: {}\n", token.path())));
    let path = with.path();
    let path = path.to_str().unwrap();
    run(command(&["hold", "--group", "1", "-c", path])).ended(0);
    assert_eq!(daemon.only().token, "Bearer 0123456789abcdef");

    let mut command = command(&["hold", "--group", "1", "--url", &daemon.url()]);
    command.env("CITUS_SYNC_TOKEN", "fedcba9876543210");
    run(command).ended(0);
    assert_eq!(daemon.count(), 2);
}
