//! `cargo xtask lab traffic`. In: a running lab. Out: every second what its clients
//! did; at the end which of them failed, and whether every acknowledged write is there.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use lab::report::Report;
use lab::{Kind, Lab, Load, Protocol, Traffic};

use crate::screen;

/// What to send.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long to send
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Pause between two statements of a client
    #[arg(long, default_value_t = 10)]
    pause_ms: u64,
    /// Use the leader of this worker scope as an entry node too; it must have the metadata
    #[arg(long)]
    entry_node: Option<String>,
}

pub(crate) fn run(lab: &Lab, arguments: &Arguments) -> Result<()> {
    let load = Load {
        pause: Duration::from_millis(arguments.pause_ms),
        ..Load::default()
    };
    let mut builder = Traffic::builder(lab)
        .load(load)
        .protocols([Protocol::Simple, Protocol::Prepared])
        .in_turn();
    if lab.flavour().is_citus() {
        builder = builder.multi_shard(1);
    }
    if let Some(entry_node) = &arguments.entry_node {
        builder = builder.also_through(entry_node)?;
    }
    let mut traffic = screen::step("starting the clients", || builder.start())?;
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut whole = traffic.take_report();
    while Instant::now() < end {
        thread::sleep(Duration::from_secs(1));
        let report = traffic.take_report();
        screen::line(&second(&report));
        whole = whole.and(report);
    }
    let writes = traffic.verify(lab)?;
    for summary in whole.streams() {
        if summary.failed > 0 {
            screen::line(&format!(
                "{}: {} of {} failed, like: {}",
                summary.stream,
                summary.failed,
                summary.failed + summary.succeeded,
                summary.errors.join("; ").replace('\n', " ")
            ));
        }
    }
    screen::line(&format!(
        "every acknowledged write is there ({writes} checked)"
    ));
    Ok(())
}

fn second(report: &Report) -> String {
    let word = |name: &str, kind| {
        format!(
            "{name} {:>5} done {:>4} failed, longest gap {:>8}",
            report.succeeded(kind),
            report.failures(kind).len(),
            screen::span(report.longest_gap(kind).length()),
        )
    };
    let multi = report.failures(Kind::WriteAll).len() + report.failures(Kind::ReadAll).len();
    format!(
        "{} | {} | multi-shard {multi} failed",
        word("writes", Kind::Write),
        word("reads", Kind::Read)
    )
}
