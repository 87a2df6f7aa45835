//! The daemon's way to stderr, which never makes a task wait. In: lines of the log. Out: the same lines,
//! written by a thread of its own.
//!
//! A full pipe whose reader is stuck (a collector, a paused terminal) blocks each write to it. The
//! daemon must go on: what does not fit into a bounded buffer is dropped, counted, and told once stderr
//! takes lines again.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait for stderr at most: some thousand lines.
const BUFFER: usize = 1 << 20;

/// How long the end of the program waits for stderr to take what is left.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Takes lines and returns at once; cheap to clone.
#[derive(Clone)]
pub(super) struct LogWriter {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// A line came, or the last one was written.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// A line is being written.
    busy: bool,
    /// Lines that were dropped since the log last said so.
    lost: u64,
}

impl LogWriter {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let of_thread = shared.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || of_thread.write_all_to(out))?;
        Ok(Self { shared })
    }

    /// Waits until everything is written, for a second at most.
    pub(super) fn wait_until_written(&self) {
        let queue = self.shared.queue();
        let done = |queue: &mut Queue| queue.busy || !queue.lines.is_empty();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(queue, LAST_WORDS, done);
        drop(waited);
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.bytes + line.len() > BUFFER {
            queue.lost += 1;
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_vec());
        self.changed.notify_all();
    }

    /// Writes each line, until the process ends.
    fn write_all_to(&self, mut out: impl Write) {
        loop {
            let line = self.next();
            // A stderr that is closed loses the line, and is no reason to end.
            let _ = out.write_all(&line).and_then(|()| out.flush());
            let lost = self.written(line.len());
            if lost > 0 {
                warn!(
                    lost,
                    "lines of this log are missing: stderr did not take them in time"
                );
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.queue();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.busy = true;
                return line;
            }
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A line of this length has left. How many were lost, once there is room to say so.
    fn written(&self, length: usize) -> u64 {
        let mut queue = self.queue();
        queue.busy = false;
        queue.bytes -= length;
        self.changed.notify_all();
        if queue.bytes < BUFFER / 2 {
            std::mem::take(&mut queue.lost)
        } else {
            0
        }
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    /// Takes a line whenever the test lets it.
    struct Gate {
        open: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // Closed for good: open for good.
            let _ = self.open.recv();
            let _ = self.written.send(line.to_vec());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_blocked_reader_makes_no_writer_wait_and_what_is_lost_is_counted() {
        let (open, gate) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let writer = LogWriter::start(Gate {
            open: gate,
            written,
        });
        let mut writer = writer.unwrap();
        let line = vec![b'x'; 1 << 10];
        let started = Instant::now();
        for _ in 0..5000 {
            writer.write_all(&line).unwrap();
        }
        // Nothing is waited for that does not come.
        writer.wait_until_written();
        assert!(started.elapsed() < Duration::from_secs(30));
        let kept = BUFFER / line.len();
        assert_eq!(writer.shared.queue().lost, 5000 - kept as u64);
        drop(open);
        let all: Vec<_> = lines.iter().take(kept).collect();
        assert!(all.iter().all(|one| *one == line));
        writer.wait_until_written();
        assert_eq!(writer.shared.queue().lost, 0, "it was told");
    }
}
