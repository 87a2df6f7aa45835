//! How long a Patroni cluster takes no writes, measured at its members. In: a scope.
//! Out: when its old leader stopped, and when a leader acknowledged a commit again.
//!
//! Only members are asked, so this is the time that Patroni and PostgreSQL need: no client
//! of a coordinator can write sooner. A server that has left recovery may still not be
//! writable: with synchronous replication a commit waits for a standby, which may take seconds
//! after a restart. So a commit is made, of a message in the log and not of a table row.
//! Members that end (crash, stop, restart) are seen; frozen ones are not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator as _;

use crate::scope::Scope;
use crate::server::connect;
use crate::wait::wait_until;

/// The pause between two looks at a member while no member leads: how late a change may be seen.
const LOOK: Duration = Duration::from_millis(2);
/// The pause between two tries to connect: each costs a listening server a process.
const KNOCK: Duration = Duration::from_millis(5);
/// The pause between two looks at a standby while another member leads.
const SELDOM: Duration = Duration::from_millis(20);

/// Watches a scope's members until it is dropped.
#[derive(Debug)]
pub struct Interruption {
    scope: String,
    stop: Arc<AtomicBool>,
    news: Arc<Mutex<Vec<News>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct News {
    member: usize,
    at: Instant,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// It acknowledged a commit, for the first time since it leads.
    Writable,
    /// It led, and has closed its connections.
    Gone,
}

/// A time without a writable leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// When the old leader ended.
    pub stopped: Instant,
    /// When a commit was acknowledged again.
    pub writable: Instant,
}

impl Interrupted {
    /// The time between the two.
    pub fn length(&self) -> Duration {
        self.writable.saturating_duration_since(self.stopped)
    }
}

impl Interruption {
    /// Begins to watch, and waits until the present leader has acknowledged a commit.
    pub fn watch(scope: &Scope) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let news: Arc<Mutex<Vec<News>>> = Arc::default();
        let led = Arc::new(AtomicBool::new(false));
        for (member, server) in scope.members().iter().enumerate() {
            let (port, stop, led) = (server.port(), Arc::clone(&stop), Arc::clone(&led));
            let news = Arc::clone(&news);
            thread::spawn(move || {
                look(port, &stop, &led, |what| {
                    let at = Instant::now();
                    locked(&news).push(News { member, at, what });
                });
            });
        }
        let seen = Self {
            scope: scope.name().to_owned(),
            stop,
            news,
        };
        let what = format!("a commit at the leader of scope {}", seen.scope);
        wait_until(&what, Duration::from_secs(30), || {
            let found = locked(&seen.news)
                .iter()
                .any(|news| news.what == What::Writable);
            Ok(found.then_some(()))
        })?;
        Ok(seen)
    }

    /// The first interruption after `since`, once it is over.
    pub fn after(&self, since: Instant) -> Option<Interrupted> {
        first(&locked(&self.news), since)
    }

    /// Waits for the end of the first interruption after `since`.
    pub fn wait_over(&self, since: Instant, deadline: Duration) -> Result<Interrupted> {
        let what = format!("scope {} to take writes again", self.scope);
        wait_until(&what, deadline, || Ok(self.after(since)))
    }
}

impl Drop for Interruption {
    fn drop(&mut self) {
        // The threads are not waited for: one may hang at a frozen member until that member ends.
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// The time from the leader's end to the first commit of any member.
fn first(news: &[News], since: Instant) -> Option<Interrupted> {
    let mut leader = None;
    let mut stopped = None;
    for news in news {
        match (news.what, stopped) {
            (What::Writable, None) => leader = Some(news.member),
            (What::Gone, None) if news.at >= since && leader == Some(news.member) => {
                stopped = Some(news.at);
            }
            (What::Writable, Some(stopped)) => {
                let writable = news.at;
                return Some(Interrupted { stopped, writable });
            }
            (What::Gone, _) => {}
        }
    }
    None
}

/// Watches one member. While the scope has a leader the other members are asked seldom, and the
/// leader never: its connection closes when it ends.
fn look(port: u16, stop: &AtomicBool, led: &AtomicBool, mut report: impl FnMut(What)) {
    while !stop.load(Ordering::SeqCst) {
        let Ok(mut client) = connect(port, "postgres") else {
            thread::sleep(KNOCK);
            continue;
        };
        loop {
            match ask(&mut client) {
                Ok(true) => {
                    led.store(true, Ordering::SeqCst);
                    report(What::Writable);
                    if wait_closed(&mut client, stop) {
                        led.store(false, Ordering::SeqCst);
                        report(What::Gone);
                    }
                    break;
                }
                Ok(false) => thread::sleep(if led.load(Ordering::SeqCst) {
                    SELDOM
                } else {
                    LOOK
                }),
                Err(_) => break,
            }
            if stop.load(Ordering::SeqCst) {
                return;
            }
        }
    }
}

/// True when the member takes writes: it has left recovery, and has acknowledged a commit.
fn ask(client: &mut Client) -> Result<bool> {
    let row = client.query_one("SELECT pg_is_in_recovery()", &[])?;
    let leads = !row.get::<_, bool>(0);
    if leads {
        client
            .execute(
                "SELECT pg_logical_emit_message(true, 'lab', 'writable')",
                &[],
            )
            .context("a commit")?;
    }
    Ok(leads)
}

/// False when `stop` came before the server closed the connection.
fn wait_closed(client: &mut Client, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::SeqCst) {
        let waited = client.notifications().timeout_iter(SELDOM).next().map(drop);
        if waited.is_err() || client.simple_query("").is_err() {
            return true;
        }
    }
    false
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_lasts_from_the_leaders_end_to_the_first_commit_of_any_member() {
        let zero = Instant::now();
        let at = |after: u64| zero + Duration::from_millis(after);
        let news = |member, after, what| News {
            member,
            at: at(after),
            what,
        };
        let mut seen = vec![news(0, 10, What::Writable)];
        assert_eq!(first(&seen, at(50)), None);
        // The standby restarts as well, which interrupts no writes.
        seen.push(news(1, 60, What::Gone));
        seen.push(news(0, 100, What::Gone));
        assert_eq!(first(&seen, at(50)), None, "it is not over");
        seen.push(news(1, 350, What::Writable));
        let expected = Interrupted {
            stopped: at(100),
            writable: at(350),
        };
        assert_eq!(first(&seen, at(50)), Some(expected));
        assert_eq!(expected.length(), Duration::from_millis(250));
        // The next one is of the new leader.
        assert_eq!(first(&seen, at(360)), None);
        seen.push(news(1, 400, What::Gone));
        seen.push(news(1, 450, What::Writable));
        assert_eq!(
            first(&seen, at(360)).map(|one| one.length()),
            Some(Duration::from_millis(50))
        );
    }
}
