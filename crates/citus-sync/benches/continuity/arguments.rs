//! The bench's command line.

use clap::Parser;

use super::event::Event;

/// Measures what clients notice of switchovers, restarts and crashes
#[derive(Debug, Parser)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Args {
    /// How often each planned event is measured
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// How often each crash is measured: one takes most of a minute
    #[arg(long, default_value_t = 2)]
    pub(crate) crashes: usize,
    /// How often each event is measured with the ten-second poll
    #[arg(long, default_value_t = 1)]
    pub(crate) baseline_rounds: usize,
    /// How many groups at once
    #[arg(long, value_delimiter = ',', default_value = "1,2,4", value_parser = parse_groups)]
    pub(crate) groups: Vec<usize>,
    /// Which events
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Event::ALL)]
    pub(crate) events: Vec<Event>,
    /// Between two statements of a client
    #[arg(long, default_value_t = 150)]
    pub(crate) pause_ms: u64,
    /// A writer and a reader for each group in one database, through the coordinator, instead of
    /// clients of all sorts
    #[arg(long)]
    pub(crate) few: bool,
    /// Seconds between two looks of the poll that citus-sync is compared with
    #[arg(long, default_value_t = 10)]
    pub(crate) poll_s: u64,
    /// 3 (Debian's; before 3.0.3 without the hook) or 4 (4.1)
    #[arg(long, default_value = "4")]
    pub(crate) patroni: lab::Version,
    /// Use the stand-in although Citus is installed
    #[arg(long)]
    pub(crate) stand_in: bool,
    /// Tell of every event what etcd, the members, the daemon and the hook said, and the
    /// first failures of clients (to standard error)
    #[arg(long)]
    pub(crate) accounts: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    /// Given by `cargo bench`; without it, as under `cargo test --all-targets`, nothing is done
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

/// Groups that are ever disturbed at once; one more is the entry node.
pub(crate) const GROUPS: usize = 4;

fn parse_groups(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=GROUPS).contains(&number) => Ok(number),
        _ => Err(format!("1 to {GROUPS}")),
    }
}
