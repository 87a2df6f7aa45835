//! What the lab and the build need from the system. In: the needs. Out: installed
//! packages, or an error with the command that installs them.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::installation::Installation;
use crate::user::is_root;

/// A program or module that a package of the system provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The `etcd` server.
    Etcd,
    /// A PostgreSQL server of any version, as Debian installs it.
    PostgreSql,
    /// Debian's Patroni, with the modules that it needs for etcd.
    Patroni,
    /// The system Python's `venv`, for Patroni 4.1.
    Venv,
    /// `protoc` and the well-known types it imports: building the product's etcd client takes both.
    Protoc,
    /// `promtool`, which a test has look at the metrics.
    Promtool,
}

const WELL_KNOWN_TYPES: &str = "/usr/include/google/protobuf/descriptor.proto";

/// What a lab needs to run, but not to build.
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
            Self::Promtool => in_path("promtool"),
            Self::Protoc => in_path("protoc") && Path::new(WELL_KNOWN_TYPES).exists(),
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            // Debian 11 and later call it so.
            Self::Etcd if known_to_apt("etcd-server") => &["etcd-server"],
            Self::Etcd => &["etcd"],
            Self::PostgreSql => &["postgresql"],
            Self::Patroni => &["patroni", "python3-etcd", "python3-psycopg2"],
            Self::Venv => &["python3-venv"],
            // The first package only recommends the second.
            Self::Promtool => &["prometheus"],
            Self::Protoc => &["protobuf-compiler", "libprotobuf-dev"],
        }
    }
}

/// Installs what is missing, with `apt-get`, when called by root; `say` is told each step.
/// For other users, and where there is no `apt-get`, returns an error that says what to install.
pub fn ensure_installed(needs: &[Need], say: impl Fn(&str)) -> Result<()> {
    if needs.iter().all(|need| need.is_met()) {
        return Ok(());
    }
    let apt = in_path("apt-get");
    if apt && is_root() {
        // First of all: without apt's lists the name of a package is not known.
        say("updating the package lists");
        run(apt_get(&["update", "--quiet", "--quiet"]))?;
    }
    let packages = missing(needs);
    let list = packages.join(" ");
    if !apt {
        bail!("this machine lacks these packages of Debian, and has no apt-get: {list}");
    }
    if !is_root() {
        bail!(
            "this machine lacks {list}. Install with:\n\n  {}\n",
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
        "installed, but not usable: {}",
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
    fn the_install_command_names_every_package() {
        let command = install_command("etcd-server patroni");
        assert!(command.ends_with(" etcd-server patroni"), "{command}");
        assert!(
            command.starts_with("sudo apt-get update && sudo apt-get install "),
            "{command}"
        );
    }

    #[test]
    fn in_path_finds_the_shell_and_no_program_that_does_not_exist() {
        assert!(in_path("sh"));
        assert!(!in_path("no-such-program-anywhere"));
    }
}
