//! The moment by which the process has ended, whatever hangs: a name server, a disk, a pipe that
//! nobody reads.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::stdout::{complain, print};

/// The part of the wait that is kept for saying what happened, at most.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// How long saying it may take when this process is being ended.
const BLURT: Duration = Duration::from_millis(20);

/// A process that ends in time.
pub(super) struct Bound {
    started: Instant,
    wait: Duration,
    failed: &'static str,
}

impl Bound {
    /// Ends this process with exit code 1 at `wait` after `started`, unless it has ended by itself.
    /// `failed` is what it did not come to then.
    pub(super) fn new(started: Instant, wait: Duration, failed: &'static str) -> Self {
        let last = wait.saturating_sub(margin(wait) / 2);
        let guard = move || {
            thread::sleep(last.saturating_sub(started.elapsed()));
            // Writing may hang as well, if that is what hangs.
            let (done, said) = mpsc::channel();
            thread::spawn(move || {
                complain("citus-sync: something here hangs: a name that does not resolve, a disk?");
                let line = format!("citus-sync: {failed}, no answer in time\n");
                let _ = print(&line);
                let _ = done.send(());
            });
            let _ = said.recv_timeout(BLURT);
            std::process::exit(1);
        };
        // Without threads nothing else works either; then the answer's own deadline has to do.
        if let Err(error) = thread::Builder::new().name("bound".to_owned()).spawn(guard) {
            complain(&format!("citus-sync: no thread to watch the time: {error}"));
        }
        Self {
            started,
            wait,
            failed,
        }
    }

    /// The moment after which no answer is waited for.
    pub(super) fn last_answer(&self) -> Instant {
        self.started + self.wait.saturating_sub(margin(self.wait))
    }

    /// What it did not come to, if it fails.
    pub(super) fn failed(&self) -> &'static str {
        self.failed
    }
}

fn margin(wait: Duration) -> Duration {
    LAST_WORDS.min(wait / 5)
}
