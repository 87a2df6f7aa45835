//! Prints events and how the stream fares, as text or as JSON lines.
//!
//! Enters: events as the machine tells them, or as a recording does. Leaves: lines on standard
//! output. Keys that a list repeats unchanged are not printed again; keys that it no longer has
//! are printed as deleted, for so they are.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Stdout, Write};

use clap::ValueEnum;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use crate::client::driver::{Reply, Sink};
use crate::describe::describe;
use crate::event::{Event, Record};
use crate::key::{self, Namespace, ScopeId};
use crate::machine::{Known, News};
use crate::recording::EventFields;

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Text,
    Json,
}

/// When: a moment of the day, or seconds into a recording.
#[derive(Clone, Copy)]
enum When {
    Live,
    Recorded(f64),
}

#[derive(Serialize)]
struct JsonEvent<'a> {
    t: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(flatten)]
    fields: EventFields<'a>,
    scope: Option<String>,
    field: Option<String>,
    /// Found in a list, not in the watch.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    listed: bool,
    /// What it means, for a person.
    words: &'a str,
}

#[derive(Serialize)]
struct JsonNote<'a> {
    t: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    note: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
}

/// Prints events and how the stream fares.
pub(super) struct Printer {
    namespace: Namespace,
    only: Vec<ScopeId>,
    output: Output,
    started: Instant,
    out: Stdout,
    known: HashMap<Vec<u8>, Record>,
    listing: Vec<Record>,
    listed_before: bool,
    failure: Option<io::Error>,
}

impl Printer {
    pub(super) fn new(namespace: Namespace, only: Vec<ScopeId>, output: Output) -> Self {
        Self {
            namespace,
            only,
            output,
            started: Instant::now(),
            out: io::stdout(),
            known: HashMap::new(),
            listing: Vec::new(),
            listed_before: false,
            failure: None,
        }
    }

    /// A note of a recording.
    pub(super) fn note(&mut self, t: f64, note: &str) -> io::Result<()> {
        self.print_note(When::Recorded(t), note, None, None)
    }

    /// An event of a recording.
    pub(super) fn recorded(&mut self, t: f64, event: Event) -> io::Result<()> {
        match event {
            Event::Put(record) => self.change(When::Recorded(t), "put", record, false),
            Event::Delete(record) => self.change(When::Recorded(t), "delete", record, false),
            Event::Init | Event::InitPut(_) | Event::InitDone { .. } => Ok(()),
        }
    }

    /// What went wrong with standard output; a reader that has seen enough is nothing wrong.
    pub(super) fn finish(self) -> io::Result<()> {
        match self.failure {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    fn wanted(&self, scope: &ScopeId) -> bool {
        self.only.is_empty()
            || self
                .only
                .iter()
                .any(|only| only == scope || (only.group.is_none() && only.name == scope.name))
    }

    fn change(&mut self, when: When, event: &str, record: Record, listed: bool) -> io::Result<()> {
        let key = record.key.clone();
        let fields = EventFields::new(event, &record);
        let revision = record.mod_revision;
        let (before, now) = if event == "delete" {
            (self.known.remove(&key), None)
        } else {
            let now = record.value.clone();
            (self.known.insert(key.clone(), record), Some(now))
        };
        let (scope, field, words) = match key::parse(&self.namespace, &key) {
            Ok((scope, field)) => {
                let before = before.as_ref().map(|before| before.value.as_slice());
                let words = describe(&field, before, now.as_deref());
                (Some(scope), Some(field.to_string()), words)
            }
            Err(error) => (key::folder(&self.namespace, &key), None, error.to_string()),
        };
        // What belongs to no scope is shown unless scopes were asked for.
        if !scope
            .as_ref()
            .map_or(self.only.is_empty(), |scope| self.wanted(scope))
        {
            return Ok(());
        }
        let (t, time) = self.clock(when);
        match self.output {
            Output::Text => {
                let scope = scope.map_or_else(|| "-".to_owned(), |scope| scope.to_string());
                let at = if listed { "as of" } else { "revision" };
                let time = time.unwrap_or_else(|| format!("{t:10.3}"));
                self.write(&format!("{time}  {scope:<12} {words} ({at} {revision})"))
            }
            Output::Json => self.json(&JsonEvent {
                t,
                time,
                fields,
                scope: scope.map(|scope| scope.to_string()),
                field,
                listed,
                words: &words,
            }),
        }
    }

    fn print_note(
        &mut self,
        when: When,
        note: &str,
        stream: Option<&str>,
        endpoint: Option<&str>,
    ) -> io::Result<()> {
        let (t, time) = self.clock(when);
        match self.output {
            Output::Text => {
                let time = time.unwrap_or_else(|| format!("{t:10.3}"));
                self.write(&format!("{time}  # {note}"))
            }
            Output::Json => self.json(&JsonNote {
                t,
                time,
                note,
                stream,
                endpoint,
            }),
        }
    }

    fn clock(&self, when: When) -> (f64, Option<String>) {
        match when {
            When::Recorded(t) => (t, None),
            When::Live => {
                let now = OffsetDateTime::now_utc();
                let now = now.replace_nanosecond(now.nanosecond() / 1_000_000 * 1_000_000);
                let time = now
                    .unwrap_or_else(|_| OffsetDateTime::now_utc())
                    .format(&Rfc3339);
                let millis = self.started.elapsed().as_millis();
                (
                    u32::try_from(millis).map_or(f64::MAX, f64::from) / 1000.0,
                    time.ok(),
                )
            }
        }
    }

    fn json(&mut self, line: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(line)?;
        self.write(&line)
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        // Locked for one line only, so that lines of other threads never get into it.
        let mut out = self.out.lock();
        // Foreign values may hold anything; a line stays one line, and a terminal unharmed.
        if line.chars().any(char::is_control) {
            let line: String = line
                .chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect();
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{line}")?;
        }
        out.flush()
    }

    /// Prints what a list brought that was not known, in the order in which it happened.
    fn listed(&mut self, revision: i64) -> io::Result<()> {
        let mut listing = std::mem::take(&mut self.listing);
        let named: std::collections::HashSet<_> =
            listing.iter().map(|record| record.key.clone()).collect();
        let mut vanished: Vec<_> = self
            .known
            .keys()
            .filter(|key| !named.contains(*key))
            .cloned()
            .collect();
        vanished.sort_unstable();
        for key in vanished {
            let record = Record {
                key,
                mod_revision: revision,
                ..Record::default()
            };
            self.change(When::Live, "delete", record, true)?;
        }
        listing.retain(|record| {
            self.known.get(&record.key).is_none_or(|known| {
                (known.mod_revision, known.create_revision)
                    != (record.mod_revision, record.create_revision)
            })
        });
        listing.sort_by_key(|record| record.mod_revision);
        for record in listing {
            self.change(When::Live, "put", record, true)?;
        }
        Ok(())
    }

    /// Says once, after the first list, what was asked for and is not there.
    fn missing(&mut self, endpoint: &str) -> io::Result<()> {
        if std::mem::replace(&mut self.listed_before, true) {
            return Ok(());
        }
        let mut notes = Vec::new();
        if self.known.is_empty() {
            notes.push(format!(
                "no key under {} in API v3: either the namespace is another one, or Patroni writes to API v2 (its configuration says `etcd:` where `etcd3:` is needed)",
                self.namespace
            ));
        } else {
            for only in &self.only {
                let here = |key: &Vec<u8>| {
                    key::folder(&self.namespace, key).is_some_and(|id| id.name == only.name)
                };
                if !self.known.keys().any(here) {
                    notes.push(format!("scope {only} has no key yet"));
                }
            }
        }
        for note in notes {
            self.print_note(When::Live, &note, Some("missing"), Some(endpoint))?;
        }
        Ok(())
    }

    fn reply(&mut self, told: io::Result<()>) -> Reply {
        match told {
            Ok(()) => Reply::Go,
            Err(error) => {
                self.failure = Some(error);
                Reply::Stop
            }
        }
    }
}

impl Sink for Printer {
    fn event(&mut self, event: Event) -> Reply {
        let told = match event {
            Event::Init => {
                self.listing.clear();
                Ok(())
            }
            Event::InitPut(record) => {
                self.listing.push(record);
                Ok(())
            }
            Event::InitDone { revision } => self.listed(revision),
            Event::Put(record) => self.change(When::Live, "put", record, false),
            Event::Delete(record) => self.change(When::Live, "delete", record, false),
        };
        self.reply(told)
    }

    fn news(&mut self, news: &News, endpoint: &str, _known: &Known) -> Reply {
        let (stream, note) = match news {
            News::Listing { reason } => ("listing", format!("listing {endpoint}: {reason}")),
            News::Listed { revision, keys } => (
                "listed",
                format!("listed {keys} keys at revision {revision}"),
            ),
            News::Fresh => ("fresh", format!("watching {endpoint}")),
            News::Resumed { after } => (
                "resumed",
                format!("watching {endpoint} again, resumed after revision {after}"),
            ),
            News::Broken { error } => ("broken", error.clone()),
            News::Stale { reason } => ("stale", format!("stale: {reason}")),
            News::Lineage { reason, .. } => ("lineage", reason.clone()),
        };
        let mut told = self.print_note(When::Live, &note, Some(stream), Some(endpoint));
        if matches!(news, News::Listed { .. }) && told.is_ok() {
            told = self.missing(endpoint);
        }
        self.reply(told)
    }
}
