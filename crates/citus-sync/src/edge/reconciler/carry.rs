//! Carries out what was decided: one future a step, and what goes on beside the steps.

use std::pin::Pin;
use std::time::Instant;

use dcs_watch::HostPort;
use futures_util::future::{Aborted, abortable};
use tracing::{debug, warn};

use super::precondition::{Precondition, ReadPrecondition};
use super::{Reconciler, Seen};
use crate::execute::{
    Hold, HoldOrder, MetadataAnswer, StepError, carry_out, flush_log, move_reads, recover_prepared,
    resync,
};
use crate::session::{Database, SqlError, can_reach};
use citus_core::outcome::{EntryNodeNews, Finished};
use citus_core::plan::{Decision, Held, ProbeState, Rows, Situation, Step};

pub(super) type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;

/// A step that came to its end.
pub(super) struct Ended {
    pub(super) database: String,
    pub(super) step: Step,
    pub(super) seen: Option<Seen>,
    pub(super) started: Instant,
    pub(super) result: Result<Done, StepError>,
}

/// What a step that succeeded leaves.
pub(super) enum Done {
    /// A row is where it should be.
    Finished(Finished),
    /// Writes are held.
    Held(Box<Hold>),
    /// Writes go on. What had become of the hold's entry nodes.
    LetGo(EntryNodeNews),
    /// Citus is telling its workers.
    Resynced,
}

/// News from beside the steps.
pub(super) enum Aside {
    /// The coordinator closed a holding session.
    Lost { database: String, id: u64 },
    /// Something came to its end, and what there is to decide may have changed.
    Over,
    /// The coordinator said whether it reaches a member.
    Reachability {
        address: HostPort,
        round: u64,
        answer: Result<bool, SqlError>,
    },
    /// Prepared transactions were looked after.
    Recovered {
        database: String,
        result: Result<i64, SqlError>,
    },
    /// A hold that came too late was let go.
    Discarded { database: String },
    /// It is known of each entry node of a hold whether it is held.
    EntryNodes { database: String },
    /// A database's readers at a leader are gone, or it cannot be known.
    Readers { number: u64 },
    /// Entry nodes said where they have this group.
    Told {
        database: String,
        told: Vec<MetadataAnswer>,
    },
}

impl Reconciler {
    pub(super) fn start(&mut self, situation: &Situation<'_>, decision: &Decision) {
        if *situation.leader_answer() != ProbeState::Writable {
            for (_, hold) in self.holds.open_holds() {
                hold.leader_is_gone();
            }
        }
        for (name, step) in &decision.steps {
            // What is still being taken is under way, and is called off at once.
            if *step == Step::LetGo && self.holds.call_off(name) {
                continue;
            }
            if !step.acts() || !self.attempts.may_start(name, step) {
                continue;
            }
            if matches!(step, Step::Resync(_)) && self.others_are_held() {
                continue;
            }
            // Once we are asked to stop, what is open is ended, and nothing is begun.
            if situation.stopping && self.holds.held(name) == Held::No {
                continue;
            }
            let Some(database) = self.database(name) else {
                continue;
            };
            if self.attempts.start(name) {
                self.context
                    .store
                    .metrics()
                    .retries
                    .get_or_create(&self.row_labels(name))
                    .inc();
            }
            let entry_nodes = match situation.rows.get(name) {
                Some(Rows::Known(rows)) => self.entry_nodes_of(rows),
                _ => vec![],
            };
            let future = self.carry(
                database,
                step,
                entry_nodes,
                Precondition::of(situation.view),
            );
            let (name, step, seen) = (name.clone(), step.clone(), self.seen);
            self.running.push(Box::pin(async move {
                let started = Instant::now();
                let result = future.await;
                Ended {
                    database: name,
                    step,
                    seen,
                    started,
                    result,
                }
            }));
        }
    }

    fn database(&self, name: &str) -> Option<Database> {
        let mut databases = self.context.databases.iter();
        databases.find(|db| *db.name == *name).cloned()
    }

    fn open_hold(&self, database: &str) -> Option<&Hold> {
        let mut open = self.holds.open_holds();
        open.find(|(name, _)| *name == database)
            .map(|(_, hold)| hold)
    }

    /// The entry nodes beside the coordinator: the leaders of the other groups, where they have the
    /// metadata. Clients of this group's own leader lose their connections with it anyway.
    fn entry_nodes_of(&self, rows: &[citus_core::plan::Row]) -> Vec<HostPort> {
        let entry_nodes = rows
            .iter()
            .filter(|row| row.is_entry_node() && !row.is_temporary() && row.groupid != self.group);
        entry_nodes.map(|row| row.address.clone()).collect()
    }

    fn carry(
        &mut self,
        database: Database,
        step: &Step,
        targets: Vec<HostPort>,
        precondition: Precondition,
    ) -> Future<Result<Done, StepError>> {
        let now = self.view.clone();
        let leads = {
            let now = now.clone();
            move || precondition.still_leads(&now.borrow())
        };
        let (group, entry_nodes) = (self.group, self.context.entry_nodes.clone());
        match step.clone() {
            Step::Hold(hold) => {
                let policy = &self.context.policy;
                let left = self.holds.stand(hold.reason, policy.hold_timeout);
                if let Some(recorder) = &mut self.recorder {
                    recorder.held_for(hold.reason);
                }
                let order = HoldOrder {
                    group,
                    left,
                    cooldown: policy.lock_cooldown,
                    entry_nodes: targets,
                    name: format!("group {group}"),
                };
                let name = database.name.to_string();
                let (future, abort) =
                    abortable(async move { Hold::take(&database, &entry_nodes, &order).await });
                self.holds.taking(&name, abort);
                Box::pin(async move {
                    match future.await {
                        Ok(result) => result.map(|hold| Done::Held(Box::new(hold))),
                        Err(Aborted) => Err(StepError::Superseded),
                    }
                })
            }
            Step::LetGo => {
                let hold = self.holds.end(&database.name);
                Box::pin(async move {
                    let news = match hold {
                        Some(hold) => hold.release(&database).await,
                        None => EntryNodeNews::default(),
                    };
                    Ok(Done::LetGo(news))
                })
            }
            Step::ReadMove(step) => {
                let precondition = ReadPrecondition {
                    news: precondition,
                    deadline: self.holds.stood().map(|stood| stood.deadline),
                    lost: self.failures_seen.is_lost(&step.from),
                };
                let (answers, from) = (self.probes.listen(), step.from.clone());
                let still_right = move || {
                    precondition.still_stands(&now.borrow(), answers.is_lost(&from), Instant::now())
                };
                let hold = self.open_hold(&database.name);
                let under_hold = hold.map(|hold| hold.reads(&database));
                Box::pin(async move {
                    let moved = match under_hold {
                        Some(hold) => hold.move_to(&targets, &step, still_right).await,
                        None => {
                            move_reads(&database, &entry_nodes, &targets, group, &step, still_right)
                                .await
                        }
                    };
                    moved.map(Done::Finished)
                })
            }
            Step::Resync(_) => Box::pin(async move {
                resync(&database, group, leads)
                    .await
                    .map(|_| Done::Resynced)
            }),
            Step::Move(step) => match self.holds.end(&database.name) {
                Some(hold) => Box::pin(async move {
                    hold.finish(&database, &entry_nodes, &targets, &step, leads)
                        .await
                        .map(Done::Finished)
                }),
                None => Box::pin(async move {
                    let step = Step::Move(step);
                    carry_out(&database, &entry_nodes, &targets, group, &step, leads)
                        .await
                        .map(Done::Finished)
                }),
            },
            step => Box::pin(async move {
                carry_out(&database, &entry_nodes, &targets, group, &step, leads)
                    .await
                    .map(Done::Finished)
            }),
        }
    }

    /// Takes in the end of a step.
    pub(super) fn end(&mut self, ended: Ended) {
        let Ended {
            database,
            step,
            seen,
            started,
            result,
        } = ended;
        self.attempts
            .end(&database, &step, result.as_ref().map(|_| ()));
        let was_held = self.holds.held(&database) != Held::No;
        // A leader that took writes before the hold began, and all the time, was followed by nobody.
        let since = self.holds.stood().map(|stood| stood.since);
        let seen = seen.filter(|seen| !was_held || seen.writable >= since);
        if let Err(error) = &result
            && !matches!(error, StepError::Superseded)
            && let Some(recorder) = &mut self.recorder
        {
            recorder.failed(&database, &error.to_string());
        }
        match (&step, result) {
            (Step::Hold(_), Ok(Done::Held(hold))) => self.hold_is_open(&database, hold),
            (Step::Hold(_), Err(error)) => {
                self.holds.ended(&database);
                self.hold_failed(&database, &error);
            }
            (Step::LetGo, result) => {
                self.holds.ended(&database);
                if let Ok(Done::LetGo(news)) = result {
                    self.entry_nodes_since(&database, &news);
                }
                if let Some(recorder) = &mut self.recorder {
                    recorder.let_go(&database);
                }
            }
            (Step::ReadMove(step), Ok(Done::Finished(finished))) => {
                self.reads_are_moved(&database, step, &finished);
                self.await_entry_nodes(&database);
            }
            (Step::Resync(_), Ok(_)) => self.holds.resynced(&database),
            (Step::Move(_) | Step::Register(_) | Step::Repair(_), result) => {
                if was_held {
                    self.holds.ended(&database);
                }
                let result = result.map(|done| match done {
                    Done::Finished(finished) => finished,
                    _ => Finished::default(),
                });
                if let Ok(finished) = &result {
                    if finished.plain {
                        self.holds.owe_resync(&database);
                    }
                    if let Some(recorder) = &mut self.recorder {
                        recorder.committed(&database, &finished.skipped, &finished.terminated);
                    }
                    self.count_skipped(&database, &finished.skipped);
                    self.count_terminated(&database, finished.terminated.len());
                }
                if was_held && let Some(recorder) = &mut self.recorder {
                    recorder.released(&database);
                }
                self.recount(&database, &step, seen, started, &result);
            }
            (_, Ok(_)) => {}
            (step, Err(error)) => self.complain(&database, step, &error),
        }
        let moved = matches!(step, Step::Move(_));
        let released = matches!(step, Step::LetGo) && was_held;
        if moved || released {
            self.recover(&database);
        }
    }

    /// Entry nodes that are held late follow a read move late, too, and a hook is answered when they have.
    fn await_entry_nodes(&mut self, name: &str) {
        if let Some(quiet) = self.open_hold(name).map(Hold::entry_nodes_are_quiet) {
            self.aside.push(Box::pin(async move {
                quiet.await;
                Aside::Over
            }));
        }
    }

    /// Reads can only move once a standby has all that is on the leader's disk.
    fn have_log_flushed(&mut self, name: &str) {
        let leader = self.view.borrow().leader_address().cloned();
        let (Some(leader), Some(database)) = (leader, self.database(name)) else {
            return;
        };
        if !self.context.policy.read_move {
            return;
        }
        let entry_nodes = self.context.entry_nodes.clone();
        self.aside.push(Box::pin(async move {
            if let Err(error) = flush_log(&entry_nodes, &leader, &database.name).await {
                debug!(database = %database.name, %leader, "having the log flushed: {error}");
            }
            Aside::Over
        }));
    }

    fn hold_is_open(&mut self, name: &str, hold: Box<Hold>) {
        self.round += 1;
        let closing = hold.closing();
        let mut news = hold.entry_node_news();
        news.terminated
            .extend_from_slice(hold.terminated_at_coordinator());
        let missing = !hold.entry_nodes_under_way().is_empty();
        let entry_nodes_are_known = hold.entry_nodes_are_known();
        match self.holds.open(name, hold, self.round) {
            Ok((id, over)) => {
                self.hold_taken(name, &news);
                self.have_log_flushed(name);
                if missing {
                    let database = name.to_owned();
                    self.aside.push(Box::pin(async move {
                        entry_nodes_are_known.await;
                        Aside::EntryNodes { database }
                    }));
                }
                let database = name.to_owned();
                self.aside.push(Box::pin(async move {
                    tokio::select! {
                        () = closing => Aside::Lost { database, id },
                        _ = over => Aside::Over,
                    }
                }));
            }
            // Called off while its last lock came.
            Err(hold) => {
                let Some(database) = self.database(name) else {
                    self.holds.ended(name);
                    return;
                };
                self.aside.push(Box::pin(async move {
                    hold.release(&database).await;
                    Aside::Discarded {
                        database: database.name.to_string(),
                    }
                }));
            }
        }
    }

    /// Frees what a dead coordinator session or the old primary left prepared, so that it does not
    /// keep rows locked for a minute (citus#1131). Bounded, and nobody waits for it.
    fn recover(&mut self, name: &str) {
        let Some(database) = self.database(name) else {
            return;
        };
        self.aside.push(Box::pin(async move {
            let result = recover_prepared(&database).await;
            Aside::Recovered {
                database: database.name.to_string(),
                result,
            }
        }));
    }

    /// Asks the coordinator whether it reaches members that we do not reach.
    pub(super) fn ask_coordinator(&mut self, addresses: &[HostPort]) {
        let now = Instant::now();
        let connected = |database: &&Database| matches!(database.rows(), Rows::Known(_));
        let databases: Vec<_> = self.context.databases.iter().filter(connected).collect();
        if databases.is_empty() {
            return;
        }
        for address in addresses {
            let Some(question) = self.failures_seen.begin(address, now) else {
                continue;
            };
            let database = databases[question.failures as usize % databases.len()].clone();
            let (address, round) = (address.clone(), question.round);
            self.aside.push(Box::pin(async move {
                let answer = can_reach(&database, &address).await;
                Aside::Reachability {
                    address,
                    round,
                    answer,
                }
            }));
        }
    }

    /// Takes in news from beside the steps.
    pub(super) fn hear(&mut self, news: Aside) {
        match news {
            Aside::Lost { database, id } => {
                if let Some(hold) = self.holds.lost(&database, id) {
                    if let Some(database) = self.database(&database) {
                        hold.keep_entry_nodes(&database);
                    }
                    self.hold_lost(&database);
                }
            }
            Aside::Reachability {
                address,
                round,
                answer,
            } => {
                let failed = self
                    .failures_seen
                    .heard(&address, round, answer, &mut self.round);
                if let Some((failures, error)) = failed {
                    self.coordinator_not_asked(&address, failures, &error);
                }
            }
            Aside::Over => {}
            Aside::EntryNodes { database } => {
                if let Some(news) = self.open_hold(&database).map(Hold::entry_node_news) {
                    self.entry_nodes_joined(&database, &news);
                }
            }
            Aside::Readers { number } => self.readers.known(number),
            Aside::Discarded { database } => self.holds.ended(&database),
            Aside::Told { database, told } => self.entry_nodes_said(&database, &told),
            Aside::Recovered { database, result } => match result {
                Ok(count) => self.recovered(&database, count),
                Err(error) => {
                    let (formation, group) = (&self.context.name, self.group);
                    debug!(
                        formation,
                        group, database, "recover_prepared_transactions: {error}"
                    );
                }
            },
        }
    }

    pub(super) fn complain(&self, database: &str, step: &Step, error: &StepError) {
        let Some(failures) = self.attempts.worth_telling(database) else {
            return;
        };
        // Groups that are switched over together resync together, and Citus itself is at it as well.
        let meets_others = matches!(error, StepError::Sql(error) if error.is_lock_timeout());
        let is_nothing = matches!(step, Step::Resync(_)) && meets_others && failures < 4;
        if !is_nothing && !matches!(error, StepError::Superseded) {
            warn!(
                formation = self.context.name, group = self.group, scope = %self.scope, database,
                failures, "failed, will be tried again: {step}: {error}"
            );
        }
    }
}
