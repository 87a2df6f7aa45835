//! The hook that Patroni runs before it stops PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use lab::{Lab, Version};

const LONG: Duration = Duration::from_secs(90);

#[test]
fn patroni_runs_the_hook_before_a_stop_and_waits_for_it() {
    // Prints its arguments, its parent and the token, and checks that PostgreSQL has not stopped yet.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    let script = "#!/bin/sh\n\
                  echo \"arguments: $*\"\n\
                  echo \"parent: $(tr '\\0' ' ' </proc/$PPID/cmdline)\"\n\
                  echo \"token: $(cat \"$7\")\"\n\
                  [ -e \"$(readlink /proc/$PPID/cwd)/data/postmaster.pid\" ] && echo 'it runs'\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let lab = Lab::builder()
        .workers(1)
        .members(1)
        .patroni(Version::V4_1)
        .hook(&program)
        .start()
        .unwrap();
    let hook = lab.hook().unwrap();
    let config: serde_json::Value =
        serde_json::from_str(&lab.daemon_configuration(hook.listen()).unwrap()).unwrap();
    assert_eq!(config["token_file"], hook.token_file().to_str().unwrap());
    assert_eq!(hook.log(), "", "no PostgreSQL was stopped yet");

    let wk1 = lab.scope("wk1").unwrap();
    wk1.restart().unwrap();
    wk1.wait_healthy(LONG).unwrap();
    let said = hook.log();
    for expected in [
        format!(
            "arguments: hold --scope wk1 --url http://127.0.0.1:{} --token-file {}",
            hook.listen(),
            hook.token_file().display()
        ),
        format!("token: {}", hook.token().unwrap()),
        "it runs".into(),
    ] {
        assert!(
            said.lines().any(|line| line == expected),
            "{expected:?}:\n{said}"
        );
    }
    let parent = said
        .lines()
        .find(|line| line.starts_with("parent: "))
        .unwrap();
    assert!(
        parent.contains("patroni") && parent.contains("patroni.yml"),
        "{said}"
    );

    hook.turn_off().unwrap();
    wk1.restart().unwrap();
    wk1.wait_healthy(LONG).unwrap();
    assert_eq!(hook.log(), said, "the hook was off");
    hook.turn_on().unwrap();
    wk1.restart().unwrap();
    assert_ne!(hook.log(), said);
}
