//! What the lab and the build need from the system. In: the needs. Out: they
//! are installed, or an error with the command that installs them.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::installation::Installation;
use crate::user::is_root;

/// Something that a package of the system provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The `etcd` server.
    Etcd,
    /// A PostgreSQL server, any version that Debian keeps installable aside.
    PostgreSql,
    /// Debian's Patroni, with what it needs to speak to etcd.
    Patroni,
    /// The system Python's `venv`, for another Patroni.
    Venv,
    /// `protoc` and the well-known types it imports: the product's etcd client
    /// needs both to build.
    Protoc,
}

const WELL_KNOWN_TYPES: &str = "/usr/include/google/protobuf/descriptor.proto";

/// What a lab needs to run, without the build.
pub const LAB: &[Need] = &[Need::Etcd, Need::PostgreSql, Need::Patroni];

impl Need {
    fn is_met(self) -> bool {
        match self {
            Self::Etcd => in_path("etcd"),
            Self::PostgreSql => Installation::find().is_ok(),
            Self::Patroni => {
                Path::new("/usr/bin/patroni").exists() && python_has("etcd, psycopg2, urllib3")
            }
            Self::Venv => python_has("venv, ensurepip"),
            Self::Protoc => in_path("protoc") && Path::new(WELL_KNOWN_TYPES).exists(),
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            // It has its own name since Debian 11.
            Self::Etcd if known_to_apt("etcd-server") => &["etcd-server"],
            Self::Etcd => &["etcd"],
            Self::PostgreSql => &["postgresql"],
            Self::Patroni => &["patroni", "python3-etcd", "python3-psycopg2"],
            Self::Venv => &["python3-venv"],
            // Debian only recommends the second for the first.
            Self::Protoc => &["protobuf-compiler", "libprotobuf-dev"],
        }
    }
}

/// Installs what is missing, with `apt-get`, when called by root. Tells
/// `say` before it does. For anybody else, and where there is no `apt-get`, an
/// error with the command.
pub fn ensure_installed(needs: &[Need], say: impl Fn(&str)) -> Result<()> {
    if needs.iter().all(|need| need.is_met()) {
        return Ok(());
    }
    let apt = in_path("apt-get");
    if apt && is_root() {
        // Before anything else: apt's lists may be missing, and with them the
        // answer to which name a package has.
        say("updating the package lists");
        run(apt_get(&["update", "--quiet", "--quiet"]))?;
    }
    let packages = missing(needs);
    let list = packages.join(" ");
    if !apt {
        bail!("missing on this machine, which has no apt-get: what Debian calls {list}");
    }
    if !is_root() {
        bail!(
            "missing on this machine: {list}. Install with:\n\n  {}\n",
            install_command(&list)
        );
    }
    say(&format!("installing {list}"));
    let mut install = apt_get(&["install", "--yes", "--quiet", "--quiet"]);
    install.arg("--no-install-recommends").args(&packages);
    run(install)?;
    let still = missing(needs);
    ensure!(
        still.is_empty(),
        "installed, and still not usable: {}",
        still.join(" ")
    );
    Ok(())
}

fn install_command(list: &str) -> String {
    format!("sudo apt-get update && sudo apt-get install --no-install-recommends {list}")
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    let unmet = needs.iter().filter(|need| !need.is_met());
    unmet
        .flat_map(|need| need.packages().iter().copied())
        .collect()
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn run(mut command: Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([
            "/usr/bin".into(),
            "/usr/sbin".into(),
            "/usr/local/bin".into(),
        ])
        .any(|folder| folder.join(program).exists())
}

fn python_has(modules: &str) -> bool {
    quiet(Command::new("/usr/bin/python3").args(["-c", &format!("import {modules}")]))
}

fn known_to_apt(package: &str) -> bool {
    quiet(Command::new("apt-cache").args(["show", "--quiet", package]))
}

fn quiet(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_pasted() {
        let command = install_command("etcd-server patroni");
        assert!(command.ends_with(" etcd-server patroni"), "{command}");
        assert!(
            command.starts_with("sudo apt-get update && sudo apt-get install "),
            "{command}"
        );
    }

    #[test]
    fn the_shell_is_in_the_path_and_nonsense_is_not() {
        assert!(in_path("sh"));
        assert!(!in_path("no-such-program-anywhere"));
    }
}
