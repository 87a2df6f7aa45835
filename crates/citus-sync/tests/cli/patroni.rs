//! `hold` as a script of Patroni, which is a shell script here: which member is about to stop, and in
//! which scope.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::fake::{Fake, answer};
use crate::fixture::run;
use crate::token::{Token, token};

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

/// A folder with a Patroni's `p.yml`, and the daemon that `hold` asks.
struct Host {
    folder: tempfile::TempDir,
    token: Token,
    daemon: Fake,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let yaml = "scope: wk1\nname: wk1-2\npostgresql: {listen: '0:5432'}\n";
        std::fs::write(folder.path().join("p.yml"), yaml).unwrap();
        Self {
            folder,
            token: token(),
            daemon: Fake::says(200, &answer("not_the_leader")),
        }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `hold MORE…` with the daemon's address and token.
    fn hold(&self, more: &[&str]) -> Vec<String> {
        let (url, path) = (self.daemon.url(), self.token.path());
        let hold = ["hold", "--url", &url, "--token-file", &path];
        let all = hold.iter().chain(more);
        all.map(|word| (*word).to_owned()).collect()
    }

    /// A Patroni with this configuration, whose script is `hold MORE…`.
    fn patroni(&self, config: &str, more: &[&str]) -> Command {
        let hold = self.hold(more);
        let hold: Vec<&str> = hold.iter().map(String::as_str).collect();
        patroni(self.folder(), config, &hold)
    }

    /// Runs it: the path and the member of the only request, and what was printed.
    #[track_caller]
    fn asked(&self, command: Command) -> (String, Value, String) {
        let before = self.daemon.count();
        let ran = run(command);
        ran.ended(0);
        let heard = self.daemon.last(before + 1);
        let path = heard.line.split(' ').nth(1).unwrap().to_owned();
        (path, heard.body["member"].clone(), ran.stdout)
    }
}

const WK1: &str = "/api/v1/groups/wk1/hold";

#[test]
fn patronis_file_names_the_member_and_its_scope() {
    let host = Host::new();
    let absolute = host.folder().join("p.yml").to_str().unwrap().to_owned();
    for config in [&absolute, "p.yml"] {
        let (path, member, stdout) = host.asked(host.patroni(config, &[]));
        assert_eq!((path.as_str(), member), (WK1, json!("wk1-2")), "{config}");
        assert!(
            stdout.contains("nothing to hold, wk1-2 does not lead"),
            "{stdout}"
        );
    }
}

#[test]
fn a_folder_is_read_as_patroni_reads_it() {
    let host = Host::new();
    let split = host.folder().join("split");
    std::fs::create_dir(&split).unwrap();
    std::fs::write(split.join("1.yaml"), "name: wrong\nscope: citus\n").unwrap();
    std::fs::write(split.join("2.yml"), "name: split-1\n").unwrap();
    std::fs::write(split.join("3.yml"), "citus: {group: 3, database: app}\n").unwrap();
    std::fs::write(split.join("4.txt"), "name: ignored\n").unwrap();
    let (path, member, _) = host.asked(host.patroni("split", &[]));
    assert_eq!(path, "/api/v1/groups/citus%2F3/hold");
    assert_eq!(member, "split-1");
}

/// Patroni takes its variables out of the environment that it hands on, and so does the script.
#[test]
fn a_variable_in_patronis_own_environment_goes_before_its_file() {
    let host = Host::new();
    let mut command = host.patroni("p.yml", &[]);
    command.env("PATRONI_NAME", "by-variable");
    let (path, member, _) = host.asked(command);
    assert_eq!((path.as_str(), member), (WK1, json!("by-variable")));
}

/// As in `before_stop: sh -c '…'`.
#[test]
fn patroni_is_found_above_a_shell() {
    let host = Host::new();
    let command = host.patroni("p.yml", &[]);
    let hold = host.hold(&[]).join(" ");
    let program = env!("CARGO_BIN_EXE_citus-sync");
    let script = format!("#!/bin/sh\nsh -c \"{program} {hold}; true\"\ntrue\n");
    std::fs::write(host.folder().join("patroni"), script).unwrap();
    let (path, member, _) = host.asked(command);
    assert_eq!((path.as_str(), member), (WK1, json!("wk1-2")));
}

#[test]
fn an_option_goes_before_patronis_file_and_an_empty_member_is_none() {
    let host = Host::new();
    let command = host.patroni("p.yml", &["--group", "7", "--member", "other"]);
    let (path, member, _) = host.asked(command);
    assert_eq!(
        (path.as_str(), member),
        ("/api/v1/groups/7/hold", json!("other"))
    );
    let (_, member, _) = host.asked(host.patroni("p.yml", &["--member", ""]));
    assert_eq!(member, Value::Null);
}

#[test]
fn without_a_readable_configuration_of_patroni_nothing_is_held() {
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
    // With --member and --group it is not read.
    let given = [&hold[..], &["--member", "wk1-1"]].concat();
    run(patroni(folder, "missing.yml", &given)).ended(0);
    assert_eq!(daemon.only().body["member"], "wk1-1");
}
