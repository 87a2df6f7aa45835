//! Prints events and the status of the stream, as text or as JSON lines.
//!
//! Enters: events of the watch or of a recording. Leaves: lines on standard output. Keys that a
//! list repeats unchanged are not printed again; keys that it no longer has are printed as deleted.
//!
//! A line has no control character, whatever keys and values hold. Text is escaped and cut to a
//! bound; JSON is escaped as JSON has it, and loses nothing.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Stdout, Write};

use clap::ValueEnum;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use crate::client::NO_KEY_HINT;
use crate::client::driver::{Reply, Sink};
use crate::describe::describe;
use crate::event::{Event, Record};
use crate::key::{self, Namespace, ScopeId};
use crate::machine::{Known, StreamStatus};
use crate::recording::EventFields;
use crate::text::{self, excerpt};

/// Bytes of a note in a line of text.
const NOTE_BYTES: usize = 1000;

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Text,
    Json,
}

/// When an event happened: now, or so many seconds into a recording.
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
    /// Found in a list, not delivered by the watch.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    listed: bool,
    /// What the event means, for people.
    description: &'a str,
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

/// Prints events and the status of the stream.
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

    /// The error of standard output, if there was one. A reader that closed its end is no error.
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
        let (scope, field, description) = match key::parse(&self.namespace, &key) {
            Ok((scope, field)) => {
                let before = before.as_ref().map(|before| before.value.as_slice());
                let description = describe(&field, before, now.as_deref());
                (Some(scope), Some(field.to_string()), description)
            }
            Err(error) => (key::folder(&self.namespace, &key), None, error.to_string()),
        };
        // A key without a scope is printed unless only some scopes are wanted.
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
                self.write(&format!(
                    "{time}  {scope:<12} {description} ({at} {revision})"
                ))
            }
            Output::Json => self.json(&JsonEvent {
                t,
                time,
                fields,
                scope: scope.map(|scope| scope.path().into_owned()),
                field,
                listed,
                description: &description,
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
                self.write(&format!("{time}  # {}", excerpt(note, NOTE_BYTES)))
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
        self.write(&text::escape_json(&line))
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        // Locked for one line only, so that a line is never mixed with those of other threads.
        let mut out = self.out.lock();
        writeln!(out, "{line}")?;
        out.flush()
    }

    /// Prints what a list changed: first the keys that vanished, then the new puts in their order.
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

    /// Prints once, after the first list, which of the wanted scopes have no key.
    fn note_missing(&mut self, endpoint: &str) -> io::Result<()> {
        if std::mem::replace(&mut self.listed_before, true) {
            return Ok(());
        }
        let mut notes = Vec::new();
        if self.known.is_empty() {
            notes.push(format!(
                "no key under {} in API v3: {NO_KEY_HINT}",
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

    fn reply(&mut self, printed: io::Result<()>) -> Reply {
        match printed {
            Ok(()) => Reply::Continue,
            Err(error) => {
                self.failure = Some(error);
                Reply::Stop
            }
        }
    }
}

impl Sink for Printer {
    fn event(&mut self, event: Event) -> Reply {
        let printed = match event {
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
        self.reply(printed)
    }

    fn status(&mut self, status: &StreamStatus, endpoint: &str, _known: &Known) -> Reply {
        let (stream, note) = match status {
            StreamStatus::Listing { reason } => {
                ("listing", format!("listing {endpoint}: {reason}"))
            }
            StreamStatus::Listed { revision, keys } => (
                "listed",
                format!("listed {keys} keys at revision {revision}"),
            ),
            StreamStatus::Fresh => ("fresh", format!("watching {endpoint}")),
            StreamStatus::Resumed { after } => (
                "resumed",
                format!("watching {endpoint} again, resumed after revision {after}"),
            ),
            StreamStatus::Broken { error } => ("broken", error.clone()),
            StreamStatus::Stale { reason } => ("stale", format!("stale: {reason}")),
            StreamStatus::Lineage { reason, .. } => ("lineage", reason.clone()),
        };
        let mut printed = self.print_note(When::Live, &note, Some(stream), Some(endpoint));
        if matches!(status, StreamStatus::Listed { .. }) && printed.is_ok() {
            printed = self.note_missing(endpoint);
        }
        self.reply(printed)
    }
}
