//! What citus-sync is compared with: the script that it replaces. Every ten seconds it connects to
//! every node of every group, one after the other, takes the one that is not in recovery for the
//! primary, and calls `citus_update_node` when the row says otherwise. No etcd, no holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lab::postgres::Client;
use lab::{Lab, connect};

/// Between two looks whether it shall end.
const TICK: Duration = Duration::from_millis(50);

/// The running poll. Dropping it ends it.
pub(crate) struct Baseline {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A group and the ports of its members.
struct Group {
    number: i32,
    ports: Vec<u16>,
}

impl Baseline {
    /// Looks now, and then every `pause`.
    pub(crate) fn start(lab: &Lab, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let groups: Vec<Group> = lab
            .scopes()
            .iter()
            .map(|scope| Group {
                number: i32::try_from(scope.group()).unwrap_or(i32::MAX),
                ports: scope.members().iter().map(lab::Member::port).collect(),
            })
            .collect();
        let databases = lab.databases().to_vec();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                // As in the script: what fails now is tried again next time.
                if let Err(error) = look(&groups, &databases) {
                    eprintln!("the poll: {error:#}");
                }
                let next = Instant::now() + pause;
                while Instant::now() < next && !stopped.load(Ordering::SeqCst) {
                    thread::sleep(TICK);
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(groups: &[Group], databases: &[String]) -> Result<()> {
    let (coordinator, workers) = groups.split_first().context("no groups")?;
    let coordinator = primary(coordinator).context("the coordinator has no primary")?;
    for group in workers {
        let Some(port) = primary(group) else {
            continue;
        };
        for database in databases {
            follow(&mut connect(coordinator, database)?, group.number, port)
                .with_context(|| format!("group {}, database {database}", group.number))?;
        }
    }
    Ok(())
}

/// The node that is not in recovery.
fn primary(group: &Group) -> Option<u16> {
    let mut ports = group.ports.iter().copied();
    ports.find(|port| {
        let asked = connect(*port, "postgres")
            .and_then(|mut client| Ok(client.query_one("SELECT NOT pg_is_in_recovery()", &[])?));
        asked.is_ok_and(|row| row.get(0))
    })
}

fn follow(coordinator: &mut Client, group: i32, port: u16) -> Result<()> {
    let port = i32::from(port);
    coordinator.execute(
        "SELECT citus_update_node(nodeid, '127.0.0.1', $2) FROM pg_dist_node \
         WHERE groupid = $1 AND noderole = 'primary' AND nodeport <> $2",
        &[&group, &port],
    )?;
    Ok(())
}
