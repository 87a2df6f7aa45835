//! `cargo xtask demo`. In: a machine with cargo. Out: what a newcomer wants to
//! see: a planned switchover and a crash, while clients write and read.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::{Daemon, Lab, Load, Timeline, Traffic, Version};

use crate::story::{Happening, tell};
use crate::{screen, setup, shell};

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// 3 (Debian's) or 4 (4.1)
    #[arg(long, default_value = "3")]
    patroni: Version,
    /// The Citus stand-in even where Citus is installed
    #[arg(long)]
    stand_in: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    screen::heading("citus-sync: a demo on this machine");
    screen::line(
        "A coordinator and two worker groups, each a Patroni cluster of two, on one etcd.",
    );
    screen::line("Clients write and read through the coordinator, in both groups, all the time.");
    screen::put("\n");
    setup::for_build()?;
    setup::for_lab(arguments.patroni)?;
    screen::step(
        "building citus-sync (debug build: the first one takes a minute)",
        || shell::run_quietly(&mut shell::cargo(&["build", "--quiet", "-p", "citus-sync"])),
    )?;
    let program = shell::target().join("debug/citus-sync");
    let lab = screen::step(
        "starting etcd, 3 Patroni clusters of 2, and 2 databases",
        || {
            Lab::builder()
                .workers(2)
                .members(2)
                .patroni(arguments.patroni)
                .databases(["postgres", "app2"])
                .stand_in(arguments.stand_in)
                .start()
        },
    )?;
    let listen = lab.sandbox().port()?;
    let configuration = lab.daemon_configuration(listen)?;
    let daemon = screen::step("starting citus-sync, waiting for /readyz", || {
        let daemon = Daemon::start(lab.sandbox(), &program, &configuration, listen)?;
        daemon.wait_ready(Duration::from_secs(30))?;
        Ok(daemon)
    })?;
    let mut traffic = screen::step("starting a writer and a reader for each group", || {
        Traffic::start(&lab, "postgres", Load::default())
    })?;
    screen::line(&format!(
        "running on {} with {}",
        lab.version(),
        lab.flavour()
    ));

    let timeline = Timeline::default();
    tell(
        &lab,
        &daemon,
        &traffic,
        &timeline,
        Happening::Switchover("wk1"),
    )?;
    tell(&lab, &daemon, &traffic, &timeline, Happening::Crash("wk2"))?;

    screen::heading("And now");
    let writes = traffic.verify(&lab)?;
    screen::line(&format!(
        "every acknowledged write is there ({writes} checked)"
    ));
    for database in lab.databases() {
        let agree = lab.rows(database)? == lab.leaders()?;
        let word = if agree {
            "is what etcd says"
        } else {
            "DIFFERS from what etcd says"
        };
        screen::line(&format!("pg_dist_node of database {database} {word}"));
    }
    let code = daemon.stop(Duration::from_secs(10))?;
    let code = code.context("citus-sync was ended by a signal")?;
    screen::line(&format!("citus-sync stopped with exit code {code}"));
    screen::step("removing the lab", || lab.remove())?;
    screen::put("\n");
    screen::line("cargo xtask lab up      a lab of your own to break");
    screen::line("cargo xtask test        all checks and tests");
    Ok(ExitCode::SUCCESS)
}
