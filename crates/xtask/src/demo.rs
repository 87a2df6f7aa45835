//! `cargo xtask demo`. In: a machine with cargo. Out: a first look at citus-sync: a planned
//! switchover and a crash, while clients write and read.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::{Daemon, Lab, Load, Timeline, Traffic, Version};

use crate::scenario::{Scenario, Stage};
use crate::{screen, setup};

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Patroni: 3 (Debian's) or 4 (4.1)
    #[arg(long, default_value = "3")]
    patroni: Version,
    /// Use the Citus stand-in even where Citus is installed
    #[arg(long)]
    stand_in: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    screen::heading("citus-sync: a demo on this machine");
    screen::line(
        "A coordinator and two worker groups, each a Patroni cluster of two, on one etcd.",
    );
    screen::line("Clients write and read in both groups all the time, through the coordinator.");
    screen::put("\n");
    let (lab, daemon) = start(arguments)?;
    let mut traffic = screen::step("starting a writer and a reader for each group", || {
        Traffic::start(&lab, "postgres", Load::default())
    })?;
    screen::line(&format!(
        "running on {} with {}",
        lab.version(),
        lab.flavour()
    ));
    let stage = Stage {
        lab: &lab,
        daemon: &daemon,
        traffic: &traffic,
        timeline: &Timeline::default(),
    };
    stage.run(Scenario::Switchover("wk1"))?;
    stage.run(Scenario::Crash("wk2"))?;

    screen::heading("And now");
    check(&lab, &mut traffic)?;
    let code = daemon.stop(Duration::from_secs(10))?;
    let code = code.context("citus-sync was ended by a signal")?;
    screen::line(&format!("citus-sync stopped with exit code {code}"));
    screen::step("removing the lab", || lab.remove())?;
    screen::put("\n");
    screen::line("cargo xtask lab up      a lab of your own to break");
    screen::line("cargo xtask test        all checks and tests");
    Ok(ExitCode::SUCCESS)
}

/// A lab, and the daemon in it.
fn start(arguments: &Arguments) -> Result<(Lab, Daemon)> {
    setup::for_lab(arguments.patroni)?;
    let program =
        setup::build_citus_sync("building citus-sync (debug build: the first one takes a minute)")?;
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
    Ok((lab, daemon))
}

/// Checks every acknowledged write and every row.
fn check(lab: &Lab, traffic: &mut Traffic) -> Result<()> {
    let writes = traffic.verify(lab)?;
    screen::line(&format!(
        "every acknowledged write is there ({writes} checked)"
    ));
    for database in lab.databases() {
        let agrees = if lab.rows(database)? == lab.leaders()? {
            "agrees with etcd"
        } else {
            "DOES NOT AGREE with etcd"
        };
        screen::line(&format!("pg_dist_node of database {database} {agrees}"));
    }
    Ok(())
}
