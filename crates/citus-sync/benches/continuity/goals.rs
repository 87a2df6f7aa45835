//! What was wanted. In: the daemon's cells. Out: each goal, what was measured, and whether it is
//! met. The worst of all rounds counts.

use serde::Serialize;

use super::event::{Event, Who};
use super::numbers::{Cell, Spread};
use super::sample::Sample;

const READ_GAP: f64 = 150.0;
const WRITES_BEYOND: f64 = 50.0;
const AT_ONCE: f64 = 1.3;
const READS_BACK: f64 = 250.0;
const FIRST_WRITE: f64 = 50.0;

/// One goal.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    pub(crate) event: Event,
    pub(crate) groups: usize,
    /// What was wanted.
    pub(crate) wanted: String,
    /// What came of it.
    pub(crate) measured: String,
    pub(crate) met: bool,
}

/// All goals that these cells say something about.
pub(crate) fn goals(cells: &[Cell<'_>]) -> Vec<Goal> {
    let mut goals = Vec::new();
    let daemons = cells.iter().filter(|cell| cell.who == Who::Daemon);
    for cell in daemons {
        match cell.event {
            Event::Switchover | Event::HookedSwitchover | Event::HookedRestart => {
                planned(cell, cells, &mut goals);
            }
            Event::Crash | Event::HeldCrash => crash(cell, &mut goals),
            // Nothing announces a restart.
            Event::Restart | Event::Nothing => {}
        }
    }
    goals
}

fn planned(cell: &Cell<'_>, cells: &[Cell<'_>], goals: &mut Vec<Goal>) {
    let writes = cell.sum(|sample| sample.failed().0);
    let reads = cell.sum(|sample| sample.failed().1);
    goals.push(Goal {
        event: cell.event,
        groups: cell.groups,
        wanted: "no single-shard statement fails".into(),
        measured: format!("{writes} writes, {reads} reads"),
        met: writes + reads == 0,
    });
    goals.push(at_most(cell, "longest read gap", READ_GAP, |sample| {
        sample.read_gap
    }));
    goals.push(at_most(
        cell,
        "longest write gap beyond the time without a writable leader",
        WRITES_BEYOND,
        |sample| sample.write_gap_beyond,
    ));
    let one = cells
        .iter()
        .find(|other| (other.who, other.event, other.groups) == (cell.who, cell.event, 1));
    if let Some(one) = one.filter(|_| cell.groups > 1) {
        let ratio =
            cell.spread(|sample| sample.over).median / one.spread(|sample| sample.over).median;
        let patroni = cell.spread(|sample| sample.stop_to_writable).median
            / one.spread(|sample| sample.stop_to_writable).median;
        goals.push(Goal {
            event: cell.event,
            groups: cell.groups,
            wanted: format!("over within {AT_ONCE} times as long as with one group"),
            measured: format!("{ratio:.2} times (without a writable leader: {patroni:.2} times)"),
            met: ratio <= AT_ONCE,
        });
    }
}

fn crash(cell: &Cell<'_>, goals: &mut Vec<Goal>) {
    goals.push(at_most(
        cell,
        "reads are back after",
        READS_BACK,
        |sample| sample.reads_back,
    ));
    goals.push(at_most(
        cell,
        "first write after the new leader is writable",
        FIRST_WRITE,
        |sample| sample.first_write,
    ));
}

fn at_most(cell: &Cell<'_>, what: &str, limit: f64, value: impl Fn(&Sample) -> f64) -> Goal {
    let Spread { median, worst } = cell.spread(value);
    Goal {
        event: cell.event,
        groups: cell.groups,
        wanted: format!("{what}: at most {limit} ms"),
        measured: format!("{worst:.0} ms (median {median:.0} ms)"),
        met: worst <= limit,
    }
}
