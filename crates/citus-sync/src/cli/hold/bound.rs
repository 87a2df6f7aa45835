//! The moment by which the process has ended, whatever hangs: a name server, a disk, a pipe that
//! is not read.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::stdout::{print, print_error};

/// The part of the wait that is kept for the closing message, at most.
const MESSAGE_TIME: Duration = Duration::from_millis(250);

/// How long printing that message may take when the time is up.
const MESSAGE_LIMIT: Duration = Duration::from_millis(20);

/// The time limit of this process.
pub(super) struct Bound {
    started: Instant,
    wait: Duration,
    failed: &'static str,
}

impl Bound {
    /// Ends this process with exit code 1 at `wait` after `started`, unless it has ended by itself.
    /// `failed` is what to print then: `not held`.
    pub(super) fn new(started: Instant, wait: Duration, failed: &'static str) -> Self {
        let last = wait.saturating_sub(margin(wait) / 2);
        let guard = move || {
            thread::sleep(last.saturating_sub(started.elapsed()));
            // Writing may hang as well, if that is what hangs.
            let (done, printed) = mpsc::channel();
            thread::spawn(move || {
                print_error("citus-sync: timed out locally; check DNS and disk");
                let line = format!("citus-sync: {failed}, no answer in time\n");
                let _ = print(&line);
                let _ = done.send(());
            });
            let _ = printed.recv_timeout(MESSAGE_LIMIT);
            std::process::exit(1);
        };
        // Without threads nothing else works either; then the answer's own deadline has to do.
        if let Err(error) = thread::Builder::new().name("bound".to_owned()).spawn(guard) {
            print_error(&format!("citus-sync: no thread to watch the time: {error}"));
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

    /// What to print when it fails.
    pub(super) fn failed(&self) -> &'static str {
        self.failed
    }
}

fn margin(wait: Duration) -> Duration {
    MESSAGE_TIME.min(wait / 5)
}
