//! Files as they really are: with a byte order mark, open to everybody, or no files at all.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{Ran, command, run};

/// A folder with a configuration that names a secret's file by this key.
struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new(top: &str, coordinator: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "\u{feff}etcd: {{ endpoints: [\"http://127.0.0.1:1\"] }}\n{top}coordinator:\n  scope: cn\n  \
             databases: [app]\n{coordinator}workers: [{{ group: 1, scope: wk1 }}]\n"
        );
        fs::write(folder.path().join("citus-sync.yml"), text).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn pipe(&self, name: &str) {
        let made = Command::new("mkfifo").arg(self.path(name)).status();
        assert!(made.unwrap().success());
    }

    fn convert(&self) -> Ran {
        let file = self.path("citus-sync.yml");
        run(command(&["config", "convert", "-c", path(&file)]))
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_file() {
    let folder = Folder::new("token_file: secret\n", "  password_file: secret\n");
    folder.write("secret", "\u{feff}0123456789abcdef\n", 0o600);
    let ran = folder.convert();
    ran.ended(0);
    assert!(ran.stdout.contains("token_file: "), "{ran:?}");
    // Nor of what a hook is given.
    let secret = folder.path("secret");
    let arguments = ["hold", "--group", "1", "--url", "127.0.0.1:1"];
    let mut hold = command(&arguments);
    hold.args(["--wait", "100ms", "--token-file"]).arg(&secret);
    let ran = run(hold);
    ran.ended(1);
    assert!(ran.stderr.contains("127.0.0.1:1"), "{ran:?}");
}

#[test]
fn a_pipe_in_place_of_a_secret_is_refused_and_never_waited_for() {
    for (top, coordinator) in [
        ("token_file: secret\n", ""),
        ("", "  password_file: secret\n"),
        ("", "  passfile: secret\n"),
    ] {
        let folder = Folder::new(top, coordinator);
        folder.pipe("secret");
        let ran = folder.convert();
        ran.ended(2);
        assert!(ran.stderr.contains("it is a named pipe"), "{ran:?}");
    }
    let folder = Folder::new("", "");
    folder.pipe("token");
    let mut hold = command(&["hold", "--group", "1", "--token-file"]);
    hold.arg(folder.path("token"));
    let ran = run(hold);
    ran.ended(2);
    assert!(ran.stderr.contains("it is a named pipe"), "{ran:?}");
}

#[test]
fn a_secret_that_others_can_change_is_refused() {
    for (top, coordinator, mode, fix) in [
        ("token_file: secret\n", "", 0o602, "chmod o= "),
        ("token_file: secret\n", "", 0o666, "chmod o= "),
        ("", "  password_file: secret\n", 0o622, "chmod o= "),
        ("", "  passfile: secret\n", 0o666, "chmod 0600"),
        ("", "  passfile: secret\n", 0o640, "chmod 0600"),
    ] {
        let folder = Folder::new(top, coordinator);
        folder.write("secret", "0123456789abcdef\n", mode);
        let ran = folder.convert();
        ran.ended(2);
        let secret = folder.path("secret");
        let mode = format!("(mode {mode:04o})");
        for word in [path(&secret), &mode, fix] {
            assert!(ran.stderr.contains(word), "{word}: {ran:?}");
        }
    }
    // A pgpass file that only the environment names.
    let folder = Folder::new("", "");
    folder.write("pgpass", "*:*:*:*:secret\n", 0o644);
    let file = folder.path("citus-sync.yml");
    let mut convert = command(&["config", "convert", "-c", path(&file)]);
    convert.env("PGPASSFILE", folder.path("pgpass"));
    let ran = run(convert);
    ran.ended(2);
    assert!(ran.stderr.contains("libpq"), "{ran:?}");
}

#[test]
fn a_secret_that_others_can_read_is_warned_about() {
    let folder = Folder::new("token_file: secret\n", "");
    folder.write("secret", "0123456789abcdef\n", 0o644);
    folder.write(
        "citus-sync.yml",
        &fs::read_to_string(folder.path("citus-sync.yml")).unwrap(),
        0o666,
    );
    let file = folder.path("citus-sync.yml");
    let ran = run(command(&["check", "-c", path(&file)]));
    let line = ran.line("warn  configuration", "may read the secret in it");
    assert!(line.contains("chmod o="), "{line}");
    let line = ran.line("warn  configuration", "so configure this program");
    assert!(line.contains("chmod o-w"), "{line}");

    folder.write("secret", "0123456789abcdef\n", 0o640);
    let ran = run(command(&["check", "-c", path(&file)]));
    assert!(!ran.stdout.contains("may read the secret"), "{ran:?}");
}
