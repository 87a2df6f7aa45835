//! Watches a lab from outside. In: the lab and one scope. Out: a timeline of
//! etcd's keys, of which member takes writes, and of the addresses in
//! `pg_dist_node`. It does not ask the daemon.

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use postgres::Client;
use serde_json::Value;

use crate::cluster::Lab;
use crate::formation::rows;
use crate::gateway::watched_keys;
use crate::scope::Scope;
use crate::server::connect;
use crate::timeline::Timeline;

/// The pause between two looks at a server: how late a change may be seen.
const LOOK: Duration = Duration::from_millis(2);

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Observer {
    stop: Arc<AtomicBool>,
}

impl Observer {
    /// Watches `scope` and its row in every database of `lab`.
    pub fn watch(lab: &Lab, scope: &Scope, timeline: &Timeline) -> Result<Self> {
        let observer = Self {
            stop: Arc::new(AtomicBool::new(false)),
        };
        observer.watch_keys(scope, timeline.clone())?;
        for member in scope.members() {
            observer.watch_role(member.name().to_owned(), member.port(), timeline.clone());
        }
        for database in lab.databases() {
            let port = lab.coordinator().leader()?.port();
            observer.watch_row(port, database.clone(), scope.group(), timeline.clone());
        }
        Ok(observer)
    }

    /// Watches the keys that change with the leader.
    fn watch_keys(&self, scope: &Scope, timeline: Timeline) -> Result<()> {
        let prefix = scope.path("");
        let mut stream = BufReader::new(scope.etcd.watch(&prefix)?);
        // The first message says that the watch is open.
        stream
            .read_line(&mut String::new())
            .context("waiting for the watch")?;
        let stop = Arc::clone(&self.stop);
        thread::spawn(move || {
            for line in stream.lines().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(json) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                for (key, value) in watched_keys(&json) {
                    let field = key.strip_prefix(&prefix).unwrap_or(&key);
                    if matches!(field, "leader" | "failover") {
                        let text = match value.as_deref() {
                            None => format!("{field} key deleted"),
                            Some(value) => format!("{field} key = {value}"),
                        };
                        timeline.add("etcd", &text);
                    }
                }
            }
        });
        Ok(())
    }

    fn watch_role(&self, name: String, port: u16, timeline: Timeline) {
        let ask = move |client: &mut Client| -> Result<String> {
            let row = client.query_one("SELECT pg_is_in_recovery()", &[])?;
            Ok(if row.get(0) {
                "is a standby"
            } else {
                "takes writes"
            }
            .to_owned())
        };
        self.watch_server(port, "postgres".into(), ask, move |now| {
            timeline.add(&name, now.unwrap_or("does not answer"));
        });
    }

    fn watch_row(&self, port: u16, database: String, group: u32, timeline: Timeline) {
        let ask = move |client: &mut Client| -> Result<String> {
            let rows = rows(client)?.into_iter();
            rows.filter(|(number, _)| *number == group)
                .map(|(_, address)| address)
                .next()
                .context("no row")
        };
        let name = database.clone();
        self.watch_server(port, database, ask, move |now| {
            if let Some(address) = now {
                timeline.add(
                    "pg_dist_node",
                    &format!("group {group} at {address} ({name})"),
                );
            }
        });
    }

    /// Asks a server again and again, and reports each new answer. The first answer, before this
    /// returns, is not reported.
    fn watch_server(
        &self,
        port: u16,
        database: String,
        mut ask: impl FnMut(&mut Client) -> Result<String> + Send + 'static,
        report: impl Fn(Option<&str>) + Send + 'static,
    ) {
        let stop = Arc::clone(&self.stop);
        let mut client = connect(port, &database).ok();
        let mut known = client.as_mut().and_then(|open| ask(open).ok());
        thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                if client.is_none() {
                    client = connect(port, &database).ok();
                }
                let now = client.as_mut().and_then(|open| ask(open).ok());
                if now.is_none() {
                    client = None;
                }
                if known != now {
                    report(now.as_deref());
                    known = now;
                }
                thread::sleep(LOOK);
            }
        });
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}
