//! `cargo xtask test`. In: the workspace. Out: one line for each stage, a summary,
//! and a failure if any stage failed. Every stage runs, so that the summary shows
//! all failures.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab::Version;
use lab::citus::{STAND_IN_VARIABLE, stand_in_forced};
use lab::installation::Installation;

use crate::structure::{findings, wall};
use crate::{screen, setup, shell};

/// The target that needs a lab, and the machine for itself.
const END_TO_END: &str = "e2e";

/// The target that tests holds on PostgreSQL alone, without etcd and Patroni.
const HOLDS: &str = "holds";

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Skip the end-to-end tests
    #[arg(long)]
    quick: bool,
    /// Run end-to-end tests with this Patroni only: 3 (Debian's) or 4 (4.1)
    #[arg(long)]
    patroni: Option<Version>,
}

/// A stage that has run.
struct Done {
    name: String,
    took: Duration,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

#[derive(Default)]
struct Stages {
    done: Vec<Done>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let versions = match arguments.patroni {
        Some(version) => vec![version],
        None => vec![Version::Debian, Version::V4_1],
    };
    let mut stages = Stages::default();

    stages.run("set-up", || {
        setup::for_build()?;
        setup::for_tests()?;
        versions
            .iter()
            .try_for_each(|version| setup::for_lab(*version))
    });
    stages.run("structure", check_structure);
    stages.run("format", || {
        shell::run(&mut shell::cargo(&["fmt", "--all", "--check"]))
    });
    stages.run("clippy", || {
        let arguments = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        shell::run(&mut shell::cargo(&arguments))
    });
    stages.run("clippy, pure crates alone", pure_crates_alone);
    stages.dependencies();
    stages.run("unit and integration tests", unit_tests);
    stages.holds_on_the_stand_in();
    stages.run("documentation tests", || {
        shell::run(&mut shell::cargo(&[
            "test",
            "--workspace",
            "--doc",
            "--quiet",
        ]))
    });
    if arguments.quick {
        stages.skip("end-to-end tests", "--quick");
    } else {
        stages.end_to_end(&versions);
    }
    stages.summary(began.elapsed())
}

/// Clippy again for each pure crate without the rest of the workspace, whose features would bring
/// clients in, and with the settings that forbid clocks.
fn pure_crates_alone() -> Result<()> {
    let root = shell::root();
    for pure in wall::pure(&root)? {
        let mut command = shell::cargo(&["clippy", "-p", pure.name]);
        command
            .args(pure.options)
            .args(["--", "-D", "warnings"])
            .env("CLIPPY_CONF_DIR", root.join("crates/citus-core"));
        shell::run(&mut command)?;
    }
    Ok(())
}

/// `cargo xtask structure`.
pub(crate) fn structure() -> Result<ExitCode> {
    check_structure()?;
    Ok(ExitCode::SUCCESS)
}

fn check_structure() -> Result<()> {
    let root = shell::root();
    let findings = findings::scan(&root)?;
    let mut impure = Vec::new();
    for pure in wall::pure(&root)? {
        let tree = shell::run_quietly(&mut shell::cargo(&pure.tree()))?;
        impure.extend(pure.breaches(&tree));
    }
    for warning in &findings.warnings {
        screen::line(&format!("warning: {warning}"));
    }
    for breach in &impure {
        screen::line(breach);
    }
    for breach in &findings.breaches {
        screen::line(&breach.to_string());
    }
    for circle in findings.circles.iter().chain(&findings.knots) {
        screen::line(circle);
    }
    let counts = [
        (impure.len(), "impure dependencies"),
        (findings.breaches.len(), "libraries away from home"),
        (findings.circles.len(), "circles of files"),
    ];
    let wrong = counts.iter().filter(|(count, _)| *count > 0);
    let wrong: Vec<String> = wrong
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if !wrong.is_empty() {
        bail!("{}", wrong.join(", "));
    }
    screen::line(&format!(
        "{} files: no circle, every library at home, nothing impure below what is pure",
        findings.files
    ));
    Ok(())
}

/// All tests except the end-to-end ones. Cargo cannot exclude a target by name.
fn unit_tests() -> Result<()> {
    let metadata = shell::cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata = shell::run_quietly(&mut { metadata })?;
    let mut command = shell::cargo(&["test", "--workspace", "--no-fail-fast", "--lib", "--bins"]);
    for target in test_targets(&metadata)? {
        if target != END_TO_END {
            command.args(["--test", &target]);
        }
    }
    shell::run(in_memory(&mut command))
}

/// Labs in memory start and end sooner.
fn in_memory(command: &mut Command) -> &mut Command {
    if let (None, Some(folder)) = (std::env::var_os("TMPDIR"), lab::sandbox::memory_folder()) {
        command.env("TMPDIR", folder);
    }
    command
}

fn test_targets(metadata: &str) -> Result<Vec<String>> {
    let metadata: serde_json::Value =
        serde_json::from_str(metadata).context("reading cargo's metadata")?;
    let none = Vec::new();
    let packages = metadata["packages"].as_array().unwrap_or(&none);
    let mut names: Vec<String> = packages
        .iter()
        .flat_map(|package| package["targets"].as_array().unwrap_or(&none))
        .filter(|target| target["kind"][0] == "test")
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

impl Stages {
    fn run(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        screen::heading(name);
        let began = Instant::now();
        let outcome = match work() {
            Ok(()) => Outcome::Passed,
            Err(error) => {
                screen::line(&format!("{error:#}"));
                Outcome::Failed(format!("{error:#}"))
            }
        };
        self.done.push(Done {
            name: name.into(),
            took: began.elapsed(),
            outcome,
        });
    }

    fn skip(&mut self, name: &str, why: &str) {
        let outcome = Outcome::Skipped(why.into());
        self.done.push(Done {
            name: name.into(),
            took: Duration::ZERO,
            outcome,
        });
    }

    /// Licences and advisories, if `cargo-deny` is installed.
    fn dependencies(&mut self) {
        if shell::run_quietly(&mut shell::cargo(&["deny", "--version"])).is_ok() {
            self.run("dependencies", || {
                shell::run(&mut shell::cargo(&["deny", "check"]))
            });
        } else {
            self.skip("dependencies", "cargo-deny is not installed");
        }
    }

    /// Where Citus is installed, holds are tested on its stand-in as well: else a test that has
    /// come to be true of Citus alone would not be noticed there.
    fn holds_on_the_stand_in(&mut self) {
        if !runs_on_stand_in() {
            self.run("holds, stand-in", || shell::run(&mut test_on(HOLDS, true)));
        }
    }

    /// On each Patroni, with Citus where it is installed and its stand-in otherwise;
    /// `LAB_STAND_IN=1` takes the stand-in everywhere.
    fn end_to_end(&mut self, versions: &[Version]) {
        let stand_in = runs_on_stand_in();
        let contents = if stand_in { "stand-in" } else { "Citus" };
        for version in versions {
            let name = format!("end to end, {version}, {contents}");
            self.run(&name, || end_to_end(*version, stand_in));
        }
    }

    fn summary(&self, took: Duration) -> ExitCode {
        screen::heading("summary");
        let mut failed = false;
        for stage in &self.done {
            let (word, why) = match &stage.outcome {
                Outcome::Passed => ("passed", String::new()),
                Outcome::Skipped(why) => ("skipped", format!("  {why}")),
                Outcome::Failed(why) => {
                    failed = true;
                    (
                        "FAILED",
                        format!("  {}", why.lines().next().unwrap_or_default()),
                    )
                }
            };
            let took = screen::seconds(stage.took);
            screen::line(&format!("{word:<8} {took:>8}  {}{why}", stage.name));
        }
        screen::line(&format!("all of it took {}", screen::seconds(took)));
        if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

/// Whether tests run on the stand-in: Citus is not installed, or the stand-in is asked for.
fn runs_on_stand_in() -> bool {
    let citus = Installation::find().is_ok_and(|found| found.has_citus);
    !citus || stand_in_forced()
}

/// One of the product's test targets, on the stand-in or on Citus.
fn test_on(target: &str, stand_in: bool) -> Command {
    let mut command = shell::cargo(&["test", "-p", "citus-sync", "--test", target]);
    command.env(STAND_IN_VARIABLE, if stand_in { "1" } else { "0" });
    in_memory(&mut command);
    command
}

fn end_to_end(version: Version, stand_in: bool) -> Result<()> {
    let patroni = if version == Version::V4_1 { "4" } else { "3" };
    let mut command = test_on(END_TO_END, stand_in);
    command
        .env("LAB_PATRONI", patroni)
        .args(["--", "--test-threads=1"]);
    shell::run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_target_of_cargos_metadata_is_named_once() {
        let metadata = r#"{"packages": [
            {"targets": [{"kind": ["lib"], "name": "a"}, {"kind": ["test"], "name": "e2e"}]},
            {"targets": [{"kind": ["test"], "name": "config"}, {"kind": ["test"], "name": "e2e"}]}
        ]}"#;
        assert_eq!(test_targets(metadata).unwrap(), ["config", "e2e"]);
        assert!(test_targets("not json").is_err());
    }

    #[test]
    fn one_failed_stage_fails_the_command() {
        let mut stages = Stages::default();
        stages.run("good", || Ok(()));
        stages.skip("skipped", "not here");
        assert_eq!(stages.summary(Duration::ZERO), ExitCode::SUCCESS);
        stages.run("bad", || bail!("broken"));
        stages.run("good again", || Ok(()));
        assert_eq!(stages.summary(Duration::ZERO), ExitCode::FAILURE);
    }
}
