//! The ends of orders: what follows when a hold was taken, reads or a row were moved, or something failed.

use std::time::Instant;

use super::attempts::{Running, Seen};
use super::clock::{self, micros};
use super::effect::Effect;
use super::input::{Done, Ended, Failure, FailureKind, Now};
use super::state::Group;
use crate::entry_node::EntryNodeHeard;
use crate::event::{ChangeTimes, Event};
use crate::outcome::{EntryNodeNews, Finished, Skipped};
use crate::plan::{Held, Move, Step};
use crate::report::MoveReport;

/// When an order was started, and what was known of the leader then.
#[derive(Clone, Copy)]
struct Began {
    started: Instant,
    seen: Option<Seen>,
}

impl Group {
    /// Takes in the end of an order.
    pub(super) fn order_ended(&mut self, ended: Ended, now: Now) {
        let Ended {
            database,
            order,
            started,
            result,
            jitter,
        } = ended;
        let Some(Running { step, seen, .. }) = self.attempts.running(&database, order) else {
            return;
        };
        let outcome = result.as_ref().map(|_| ());
        self.attempts
            .end(&database, &step, outcome, jitter, now.instant);
        let was_held = self.slots.held(&database) != Held::No;
        if result.is_ok() {
            self.tell_clone(&database, &step);
        }
        if let Err(failure) = &result
            && failure.kind != FailureKind::Superseded
            && let Some(recorder) = self.phase.recorder()
        {
            recorder.failed(&database, &failure.text);
        }
        match (&step, result) {
            (Step::Hold(_), result) => self.hold_ended(&database, order, result, now.instant),
            (Step::LetGo, result) => self.release_ended(&database, result.ok(), now.instant),
            (Step::ReadMove(step), Ok(Done::Changed(finished))) => {
                self.reads_moved(&database, step, &finished, now.instant);
            }
            (Step::Resync(_), Ok(_)) => self.slots.resynced(&database),
            (Step::Move(_) | Step::Exchange(_) | Step::Register(_) | Step::Repair(_), result) => {
                let began = Began { started, seen };
                self.change_ended(&database, &step, began, result, now);
            }
            (_, Ok(_)) => {}
            (step, Err(failure)) => self.complain(&database, step, failure),
        }
        let moved = matches!(step, Step::Move(_) | Step::Exchange(_));
        let released = matches!(step, Step::LetGo) && was_held;
        if moved || released {
            self.want(Effect::RecoverPrepared { database });
        }
    }

    fn hold_ended(
        &mut self,
        database: &str,
        order: u64,
        result: Result<Done, Failure>,
        now: Instant,
    ) {
        match result {
            Ok(Done::Held { terminated }) => {
                if let Some(entry_nodes) = self.slots.entry_nodes(database) {
                    entry_nodes.also_terminated(terminated);
                }
                if !self.slots.settle(database, order, now) {
                    // Called off while its last lock came.
                    self.discard(database, now);
                } else if let Some(hold) = self.phase.hold_mut() {
                    hold.taken = true;
                }
            }
            Ok(_) => {
                self.slots.ended(database);
            }
            Err(failure) => {
                if self.slots.failed(database) {
                    self.let_entry_nodes_go(database);
                }
                self.hold_failed(database, failure);
            }
        }
    }

    pub(super) fn let_entry_nodes_go(&mut self, database: &str) {
        self.want(Effect::LetEntryNodesGo {
            database: database.to_owned(),
        });
    }

    fn release_ended(&mut self, database: &str, done: Option<Done>, now: Instant) {
        let mut entry_nodes = self.slots.ended(database);
        if let Some(Done::Released { not_followed }) = done {
            let news = entry_nodes.last_news(not_followed);
            self.entry_nodes_since(database, &news);
        }
        if let Some(recorder) = self.phase.recorder() {
            recorder.let_go(database, now);
        }
    }

    /// A row was moved, registered or repaired, or was to be; a hold that was open ended with it.
    fn change_ended(
        &mut self,
        database: &str,
        step: &Step,
        began: Began,
        result: Result<Done, Failure>,
        now: Now,
    ) {
        let was_held = self.slots.held(database) != Held::No;
        let began = Began {
            seen: self.seen_for(began.seen, was_held),
            ..began
        };
        if let Err(failure) = &result
            && failure.hold_kept
        {
            // Writers wait on, and the move is tried again.
            self.slots.keep_open(database);
            self.complain(database, step, failure.clone());
            return;
        }
        let mut result = result;
        if was_held {
            let mut entry_nodes = self.slots.ended(database);
            if let Ok(Done::Changed(finished)) = &mut result {
                let news = entry_nodes.last_news(std::mem::take(&mut finished.skipped));
                finished.skipped = news.skipped;
                finished.terminated.extend(news.terminated);
            }
        }
        if let Ok(Done::Changed(finished)) = &result {
            self.row_changed(database, finished, now.instant);
        }
        if was_held {
            self.released(database, now.instant);
        }
        match result {
            Ok(Done::Changed(finished)) => {
                self.tell_change(database, step, began, &finished, now);
            }
            Ok(_) => {}
            Err(failure) => self.change_failed(database, step, failure),
        }
    }

    /// A leader that took writes before the hold began, and all the time, was followed by nobody.
    fn seen_for(&self, seen: Option<Seen>, was_held: bool) -> Option<Seen> {
        let since = self.phase.hold().map(|hold| hold.since);
        seen.filter(|seen| !was_held || seen.writable >= since)
    }

    /// Holds whose coordinator is held stand: entry nodes that are just about done had a moment.
    pub(super) fn open_holds_that_are_settled(&mut self, now: Instant) {
        for database in self.slots.settled(now) {
            self.round += 1;
            self.slots.open(&database, self.round);
            self.hold_taken(&database, now);
        }
    }

    /// Writes of one database are held.
    fn hold_taken(&mut self, database: &str, now: Instant) {
        if let Some(recorder) = self.phase.recorder() {
            recorder.held(database, now);
        }
        let news = match self.slots.entry_nodes(database) {
            Some(entry_nodes) => entry_nodes.stand(),
            None => EntryNodeNews::default(),
        };
        self.entry_nodes_since(database, &news);
        let Some(hold) = self.phase.hold_mut() else {
            return;
        };
        hold.taken = true;
        let event = Event::Held {
            database: database.to_owned(),
            reason: hold.reason,
            after: now.saturating_duration_since(hold.since),
            entry_nodes: news.held,
            skipped: news.skipped.len(),
            terminated: news.terminated.len(),
            left: hold.deadline.saturating_duration_since(now),
        };
        self.publish(event);
        // Reads can only move once a standby has all that is on the leader's disk.
        if let Some(leader) = self.facts.view.leader_address()
            && self.settings.policy.read_move
        {
            let (database, leader) = (database.to_owned(), leader.clone());
            self.want(Effect::FlushLog { database, leader });
        }
    }

    /// Takes in what is heard of an entry node.
    pub(super) fn entry_node_heard(&mut self, heard: EntryNodeHeard) {
        let EntryNodeHeard {
            database,
            node,
            order,
            answer,
        } = heard;
        let Some(entry_nodes) = self.slots.entry_nodes(&database) else {
            return;
        };
        entry_nodes.hear(&node, order, answer, self.round);
        if entry_nodes.holds_own(&node, order) && self.slots.is_open(&database) {
            // What was written through the leader until now is in no position that was said before.
            self.round += 1;
            self.slots.open(&database, self.round);
            self.want(Effect::FlushLog {
                database: database.clone(),
                leader: node,
            });
        }
        let Some(entry_nodes) = self.slots.entry_nodes(&database) else {
            return;
        };
        // An entry node that is held late is told of with the others.
        let Some(news) = entry_nodes.joined() else {
            return;
        };
        self.entry_nodes_since(&database, &news);
        self.publish(Event::EntryNodesJoined {
            database,
            held: news.held,
            skipped: news.skipped.len(),
            terminated: news.terminated.len(),
        });
    }

    fn hold_failed(&mut self, database: &str, failure: Failure) {
        if failure.kind != FailureKind::Superseded {
            let failures = self.attempts.worth_telling(database);
            self.publish(Event::HoldFailed {
                database: database.to_owned(),
                error: failure.text,
                failures,
            });
        }
    }

    /// Reads of one database go to a standby, or back.
    fn reads_moved(&mut self, database: &str, step: &Move, finished: &Finished, now: Instant) {
        if let Some(entry_nodes) = self.slots.entry_nodes(database) {
            entry_nodes.reads_moved(step, &finished.skipped);
        }
        self.tell_skipped(database, &finished.skipped);
        if finished.plain {
            self.slots.owe_resync(database);
        }
        if let Some(recorder) = self.phase.recorder() {
            recorder.reads_moved(database, &finished.skipped, now);
        }
        let hold = self.phase.hold();
        let after = hold.map(|hold| now.saturating_duration_since(hold.since));
        self.publish(Event::ReadsMoved {
            database: database.to_owned(),
            from: step.from.clone(),
            to: step.to.clone(),
            after,
            took: finished.phases.committed,
        });
    }

    fn row_changed(&mut self, database: &str, finished: &Finished, now: Instant) {
        if finished.plain {
            self.slots.owe_resync(database);
        }
        if let Some(recorder) = self.phase.recorder() {
            recorder.committed(database, &finished.skipped, &finished.terminated, now);
        }
        self.tell_skipped(database, &finished.skipped);
        self.tell_terminated(database, finished.terminated.len());
    }

    fn released(&mut self, database: &str, now: Instant) {
        if let Some(recorder) = self.phase.recorder() {
            recorder.released(database, now);
        }
    }

    fn tell_change(
        &mut self,
        database: &str,
        step: &Step,
        Began { started, seen }: Began,
        finished: &Finished,
        now: Now,
    ) {
        let at = seen.map_or(started, |seen| seen.at);
        let writable = seen.and_then(|seen| seen.writable).unwrap_or(started);
        let times = ChangeTimes {
            writable: writable.saturating_duration_since(at),
            started: started.saturating_duration_since(at),
        };
        let phases = finished.phases;
        self.told.last_move = Some(MoveReport {
            at: clock::text(now.utc),
            database: database.to_owned(),
            step: step.to_string(),
            writable_us: micros(times.writable),
            locked_us: micros(times.started + phases.locked),
            committed_us: micros(times.started + phases.committed),
            forced: phases.forced,
        });
        self.publish(Event::RowChanged {
            database: database.to_owned(),
            step: step.clone(),
            times,
            phases,
        });
    }

    fn change_failed(&mut self, database: &str, step: &Step, failure: Failure) {
        if failure.kind == FailureKind::Superseded {
            self.publish(Event::RowSuperseded {
                database: database.to_owned(),
                step: step.clone(),
            });
        } else {
            self.complain(database, step, failure);
        }
    }

    fn complain(&mut self, database: &str, step: &Step, failure: Failure) {
        if failure.kind == FailureKind::Superseded {
            return;
        }
        let failures = self.attempts.worth_telling(database);
        // Groups that are switched over together resync together, and Citus itself is at it as well.
        let is_nothing = matches!(step, Step::Resync(_))
            && failure.kind == FailureKind::LockTimeout
            && failures.is_none_or(|failures| failures < 4);
        self.publish(Event::Failed {
            database: database.to_owned(),
            step: step.clone(),
            error: failure.text,
            ambiguous: failure.kind == FailureKind::Ambiguous,
            failures: failures.filter(|_| !is_nothing),
        });
    }

    /// What became of a hold's entry nodes since it was last told.
    fn entry_nodes_since(&mut self, database: &str, news: &EntryNodeNews) {
        self.tell_skipped(database, &news.skipped);
        self.tell_terminated(database, news.terminated.len());
        if let Some(recorder) = self.phase.recorder() {
            recorder.entry_nodes(database, news);
        }
    }

    fn tell_skipped(&mut self, database: &str, skipped: &[Skipped]) {
        for skipped in skipped {
            self.publish(Event::EntryNodeSkipped {
                database: database.to_owned(),
                skipped: skipped.clone(),
            });
        }
    }

    fn tell_terminated(&mut self, database: &str, count: usize) {
        if count > 0 {
            self.publish(Event::SessionsTerminated {
                database: database.to_owned(),
                count,
            });
        }
    }
}
