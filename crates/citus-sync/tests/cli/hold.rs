//! `hold` and `release`: what they say and how they end, with daemons that the test plays, and a
//! Patroni that is a shell script.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fake::{Fake, answer};
use crate::fixture::{Ran, black_hole, command, file, native, run};

/// A token file that is gone with this value.
struct Token(tempfile::TempDir);

fn token() -> Token {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "0123456789abcdef\n").unwrap();
    Token(folder)
}

impl Token {
    fn path(&self) -> String {
        self.0.path().join("token").to_str().unwrap().to_owned()
    }
}

/// Runs `citus-sync ARGUMENTS… --token-file FILE`.
fn ask(arguments: &[&str]) -> Ran {
    let token = token();
    let path = token.path();
    let mut all = arguments.to_vec();
    all.extend(["--token-file", &path]);
    run(command(&all))
}

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
fn what_is_asked_for_is_what_the_daemon_is_told() {
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
fn a_person_is_no_member() {
    let daemon = Fake::says(200, &answer("held"));
    ask(&["hold", "--group", "1", "--url", &daemon.url()]).ended(0);
    assert_eq!(daemon.only().body["member"], Value::Null);
    assert_eq!(daemon.only().body["timeout_ms"], Value::Null);
}

#[test]
fn a_refusal_is_told_with_its_fix() {
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
    let (listener, nobody) = black_hole();
    drop(listener);
    let nobody = format!("http://127.0.0.1:{nobody}");
    let stranger = Fake::says(200, &json!({"hello": "world"}));
    let stranger = stranger.url();
    let (yes, never) = (
        Fake::says(200, &answer("held")),
        Fake::says(200, &answer("held")),
    );
    let urls = [
        "--url",
        &nobody,
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
fn a_daemon_that_needs_its_time_is_heard_out_while_the_next_is_asked() {
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
fn it_ends_in_time_whatever_hangs() {
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

    // A token file on a disk that does not answer.
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("token");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let path = pipe.to_str().unwrap();
    let ran = run(command(&[
        "hold",
        "--group",
        "1",
        "--wait",
        "500ms",
        "--token-file",
        path,
    ]));
    ran.ended(1);
    assert_eq!(ran.stdout, "citus-sync: not held, no answer in time\n");
}

#[test]
fn a_name_server_that_never_answers_does_not_hold_it_up() {
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

#[test]
fn what_is_missing_is_told_at_once() {
    let daemon = Fake::says(200, &answer("held"));
    let url = daemon.url();
    let with = |arguments: &[&str], words: &str| {
        let ran = run(command(arguments));
        ran.ended(2);
        assert!(ran.stderr.contains(words), "{arguments:?}: {ran:?}");
        assert_eq!(ran.stdout, "");
    };
    let token = token();
    let path = token.path();
    with(
        &["hold", "--url", &url, "--token-file", &path],
        "which group?",
    );
    with(
        &["hold", "--group", "1", "--url", &url],
        "there is no token",
    );
    let nowhere = ["--token-file", "/nonexistent/token"];
    with(
        &[&["hold", "--group", "1", "--url", &url], &nowhere[..]].concat(),
        "--token-file /nonexistent/token: cannot be read: No such file",
    );
    for wrong in ["", "two words\n"] {
        std::fs::write(&path, wrong).unwrap();
        let words = if wrong.is_empty() {
            "it is empty"
        } else {
            "it has spaces"
        };
        with(
            &["hold", "--group", "1", "--url", &url, "--token-file", &path],
            words,
        );
    }
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
        with(&[&["hold"], &arguments[..]].concat(), words);
    }
    std::fs::write(&path, "0123456789abcdef").unwrap();
    for verb in ["hold", "release"] {
        with(
            &[
                verb,
                "--group",
                "1",
                "--url",
                "https://here:1",
                "--token-file",
                &path,
            ],
            "plain HTTP",
        );
    }
    assert_eq!(daemon.count(), 0);
}

#[test]
fn the_daemons_own_file_tells_where_it_is_and_its_token() {
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

/// A script named `patroni` that runs `citus-sync ARGUMENTS…` as a child of its own.
fn patroni(folder: &Path, config: &str, arguments: &[&str]) -> Command {
    let program = env!("CARGO_BIN_EXE_citus-sync");
    let quoted: Vec<String> = arguments.iter().map(|word| format!("'{word}'")).collect();
    // Not exec: Patroni stays the parent. What comes after the command keeps a shell from it.
    let script = format!(
        "#!/bin/sh\nunset PATRONI_NAME PATRONI_SCOPE\n{program} {}\ncode=$?\nexit $code\n",
        quoted.join(" ")
    );
    let path = folder.join("patroni");
    std::fs::write(&path, script).unwrap();
    let mut command = Command::new("/bin/sh");
    command.arg(&path).arg(config);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir(folder);
    command
}

#[test]
fn a_script_of_patroni_knows_who_stops() {
    let daemon = Fake::says(200, &answer("not_the_leader"));
    let (url, token) = (daemon.url(), token());
    let path = token.path();
    let hold = ["hold", "--url", &url, "--token-file", &path];
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let yaml = "scope: wk1\nname: wk1-2\npostgresql: {listen: '0:5432'}\n";
    std::fs::write(folder.join("p.yml"), yaml).unwrap();
    let split = folder.join("split");
    std::fs::create_dir(&split).unwrap();
    std::fs::write(split.join("1.yaml"), "name: wrong\nscope: citus\n").unwrap();
    std::fs::write(split.join("2.yml"), "name: split-1\n").unwrap();
    std::fs::write(split.join("3.yml"), "citus: {group: 3, database: app}\n").unwrap();
    std::fs::write(split.join("4.txt"), "name: ignored\n").unwrap();

    let absolute = folder.join("p.yml").to_str().unwrap().to_owned();
    let mut seen = 0;
    let mut asks = |command: Command| {
        let ran = run(command);
        ran.ended(0);
        seen += 1;
        let heard = daemon.last(seen);
        let path = heard.line.split(' ').nth(1).unwrap().to_owned();
        (path, heard.body["member"].clone(), ran.stdout)
    };
    let wk1 = "/api/v1/groups/wk1/hold";
    for config in [&absolute, "p.yml"] {
        let (path, member, stdout) = asks(patroni(folder, config, &hold));
        assert_eq!((path.as_str(), member), (wk1, json!("wk1-2")), "{config}");
        assert!(
            stdout.contains("nothing to hold, wk1-2 does not lead"),
            "{stdout}"
        );
    }
    let (path, member, _) = asks(patroni(folder, "split", &hold));
    assert_eq!(path, "/api/v1/groups/citus%2F3/hold");
    assert_eq!(member, "split-1");

    // Patroni takes its variables out of the environment that it hands on, and so does the script.
    let mut command = patroni(folder, "p.yml", &hold);
    command.env("PATRONI_NAME", "by-variable");
    let (path, member, _) = asks(command);
    assert_eq!((path.as_str(), member), (wk1, json!("by-variable")));

    // A shell in between, as in `before_stop: sh -c '…'`.
    let wrapped = format!("{} {}", env!("CARGO_BIN_EXE_citus-sync"), hold.join(" "));
    let script = folder.join("patroni");
    let line = format!("#!/bin/sh\nsh -c \"{wrapped}; true\"\ntrue\n");
    let command = patroni(folder, "p.yml", &hold);
    std::fs::write(&script, line).unwrap();
    let (path, member, _) = asks(command);
    assert_eq!((path.as_str(), member), (wk1, json!("wk1-2")));

    // What is said goes before what is found, and nobody is nobody.
    let given = [&hold[..], &["--group", "7", "--member", "other"]].concat();
    let (path, member, _) = asks(patroni(folder, "p.yml", &given));
    assert_eq!(
        (path.as_str(), member),
        ("/api/v1/groups/7/hold", json!("other"))
    );
    let given = [&hold[..], &["--member", ""]].concat();
    let (_, member, _) = asks(patroni(folder, "p.yml", &given));
    assert_eq!(member, Value::Null);
}

#[test]
fn a_patroni_that_cannot_be_understood_is_told_and_nothing_held() {
    let daemon = Fake::says(200, &answer("held"));
    let (url, token) = (daemon.url(), token());
    let path = token.path();
    let hold = ["hold", "--group", "1", "--url", &url, "--token-file", &path];
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("broken.yml"), "a: [\n").unwrap();
    std::fs::write(folder.join("nameless.yml"), "scope: wk1\n").unwrap();
    for (config, words) in [
        ("missing.yml", "missing.yml: No such file"),
        ("broken.yml", "text that is no YAML"),
        ("nameless.yml", "has no `name`"),
    ] {
        let ran = run(patroni(folder, config, &hold));
        ran.ended(2);
        assert!(
            ran.stderr.contains(words) && ran.stderr.contains("--member"),
            "{ran:?}"
        );
    }
    assert_eq!(daemon.count(), 0);
    // Who is told does not need to look.
    let given = [&hold[..], &["--member", "wk1-1"]].concat();
    run(patroni(folder, "missing.yml", &given)).ended(0);
    assert_eq!(daemon.only().body["member"], "wk1-1");
}
