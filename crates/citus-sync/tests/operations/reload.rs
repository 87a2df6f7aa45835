//! Reading the configuration again.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use citus_core::report::State;
use lab::{Daemon, Sandbox, wait_for};

use crate::fixture::{self, FIXTURE, black_hole, native, run};
use crate::{PROGRAM, SOON, lonely, says, signal};

/// A token's file, for nobody else to read.
fn write_secret(file: &Path, secret: &str) {
    fs::write(file, format!("{secret}\n")).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

/// What a request for a hold of group 7, which is not there, comes to with this token.
fn asks(listen: u16, token: &str) -> String {
    let url = format!("http://127.0.0.1:{listen}");
    let mut command = fixture::command(&["hold", "--group", "7", "--url", &url]);
    command.env("CITUS_SYNC_TOKEN", token);
    run(command).stderr
}

const OLD: &str = "the-token-of-yesterday";
const NEW: &str = "the-token-of-today-0";

fn reload(file: &Path) -> fixture::Ran {
    run(fixture::command(&["reload", "-c", file.to_str().unwrap()]))
}

#[test]
fn a_reload_takes_over_a_new_token_and_names_what_needs_a_restart() {
    let sandbox = Sandbox::new().unwrap();
    let (_silent, etcd) = black_hole();
    let secret = sandbox.root().join("token");
    write_secret(&secret, OLD);
    let (daemon, listen) = lonely(&sandbox, etcd, "token_file: token\n");
    assert!(asks(listen, OLD).contains("there is no group"));

    // By the signal, as from systemd.
    write_secret(&secret, NEW);
    signal(daemon.pid(), "HUP");
    says(&daemon, &["reload: taken over", "token_file"]);
    assert!(asks(listen, OLD).contains("the token is not the one"));
    assert!(asks(listen, NEW).contains("there is no group"));

    // By the command, which finds the daemon by its file.
    let file = daemon.config();
    let ran = reload(file);
    ran.ended(0);
    assert_eq!(ran.stdout, "nothing has changed\n");
    let text = fs::read_to_string(file).unwrap();
    let changed = text.replace("[app]", "[app, shop]") + "policy: { hold_timeout: 9s }\n";
    fs::write(file, changed).unwrap();
    write_secret(&secret, OLD);
    let ran = reload(file);
    ran.ended(1);
    assert_eq!(
        ran.stdout,
        "taken over: token_file\nneeds a restart: coordinator.databases, policy.hold_timeout\n"
    );
    assert!(asks(listen, OLD).contains("there is no group"));
    says(
        &daemon,
        &[
            "only a restart",
            "coordinator.databases, policy.hold_timeout",
        ],
    );
    let url = format!("http://127.0.0.1:{listen}");
    let ran = run(fixture::command(&["status", "--url", &url]));
    assert!(
        ran.stdout
            .contains("needs a restart: coordinator.databases"),
        "{ran:?}"
    );
    assert_eq!(daemon.stop(SOON).unwrap(), Some(0));
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing_and_the_log_says_why() {
    let sandbox = Sandbox::new().unwrap();
    let (_silent, etcd) = black_hole();
    let secret = sandbox.root().join("token");
    write_secret(&secret, OLD);
    let (daemon, listen) = lonely(&sandbox, etcd, "token_file: token\n");
    let file: PathBuf = daemon.config().to_owned();
    let good = fs::read_to_string(&file).unwrap();
    write_secret(&secret, NEW);
    for (bad, why) in [
        (format!("{good}polcy: {{}}\n"), "polcy"),
        ("{".to_owned(), "YAML"),
        (String::new(), "cannot be used"),
    ] {
        fs::write(&file, bad).unwrap();
        signal(daemon.pid(), "HUP");
        says(&daemon, &["nothing has changed", why]);
        let ran = reload(&file);
        ran.ended(2);
    }
    fs::remove_file(&file).unwrap();
    signal(daemon.pid(), "HUP");
    says(&daemon, &["nothing has changed", "cannot be read"]);
    assert!(asks(listen, OLD).contains("there is no group"));
    assert_eq!(daemon.stop(SOON).unwrap(), Some(0));
}

#[test]
fn a_new_password_of_the_role_is_used_without_a_restart() {
    FIXTURE.citus_database("rotated");
    FIXTURE.put_both("rotated");
    let superuser = "CREATE ROLE scram_only SUPERUSER LOGIN PASSWORD 'yesterday'";
    FIXTURE.coordinator.execute("postgres", superuser).unwrap();
    FIXTURE.worker.execute("postgres", superuser).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("password");
    write_secret(&secret, "yesterday");
    let listen = FIXTURE.sandbox.port().unwrap();
    let text = native(
        &FIXTURE.etcd.endpoint(),
        "rotated",
        "scram_only",
        &["rotated"],
        &[(1, "wk1")],
        &format!("listen: 127.0.0.1:{listen}\n"),
    );
    let user = "  user: scram_only\n";
    let password = format!("{user}  password_file: {}\n", secret.display());
    let text = text.replace(user, &password);
    let daemon = Daemon::start(&FIXTURE.sandbox, Path::new(PROGRAM), &text, listen).unwrap();
    daemon.wait_ready(SOON).unwrap();

    let rotate = "ALTER ROLE scram_only PASSWORD 'today'";
    let hang_up = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = \
                   'scram_only'";
    for server in [&FIXTURE.coordinator, &FIXTURE.worker] {
        server.execute("postgres", rotate).unwrap();
        server.execute("postgres", hang_up).unwrap();
    }
    says(&daemon, &["password authentication failed"]);
    write_secret(&secret, "today");
    let ran = reload(daemon.config());
    ran.ended(0);
    assert_eq!(ran.stdout, "taken over: coordinator.password\n");
    wait_for("both groups to be in sync again", SOON, || {
        let state: State = serde_json::from_str(&daemon.get("/api/v1/state")?.1)?;
        let groups = &state.formations[0].groups;
        Ok(groups.len() == 2 && groups.iter().all(|group| group.in_sync && group.writable))
    })
    .unwrap();
}

#[test]
fn a_reload_without_a_daemon_says_which_there_are() {
    let sandbox = Sandbox::new().unwrap();
    let (_silent, etcd) = black_hole();
    let (daemon, _) = lonely(&sandbox, etcd, "");
    let endpoint = format!("http://127.0.0.1:{etcd}");
    let other = fixture::file(&native(
        &endpoint,
        "s",
        "postgres",
        &["app"],
        &[(1, "wk1")],
        "",
    ));
    let ran = reload(&other.path());
    ran.ended(1);
    let its = daemon.config().to_str().unwrap();
    assert!(
        ran.stderr.contains("no daemon runs with") && ran.stderr.contains(its),
        "{ran:?}"
    );
}
