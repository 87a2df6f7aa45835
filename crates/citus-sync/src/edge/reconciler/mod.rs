//! One task a group: waits for news, asks [`citus_core::plan`], carries it out, and asks again.
//!
//! News is a new view of the scope, new rows in some database, a member's answer, a command, the
//! end of a step or of a holding session, or a moment that was waited for. Databases are held and
//! moved side by side; each retries alone. The reconciler makes no choice of its own: it starts what
//! was decided, once the invariant checker has let it pass.

mod asking;
mod attempts;
mod carry;
mod events;
mod failures_seen;
mod holds;
mod precondition;
mod prewarm;
mod readers;
mod scenario;
mod transitions;
mod verification;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dcs_watch::{Freshness, HostPort, ScopeId, ScopeView};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tracing::error;

use self::asking::Asker;
use self::attempts::Attempts;
use self::carry::{Aside, Ended, Future};
use self::failures_seen::FailureDetector;
use self::holds::Holds;
use self::prewarm::Prewarm;
use self::readers::Readers;
use self::transitions::Recorder;
use self::verification::MetadataVerification;
use super::commands::Command;
use super::store::StateStore;
use crate::execute::EntryNodes;
use crate::session::{Database, Probes};
use citus_core::plan::{self, Decision, ProbeState, Rows, Rule, Situation, Step, Wait, Writes};
use citus_core::policy::Policy;
use citus_core::report::MoveReport;

/// How long steps that are under way, and holds, may take to end once we are asked to stop. What
/// is cut off then is rolled back by the server.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What the reconcilers of one formation share.
pub struct Context {
    /// Where reports go.
    pub store: StateStore,
    /// Which formation of the state store this is.
    pub formation: usize,
    /// Its name.
    pub name: String,
    /// Its policy.
    pub policy: Policy,
    /// Add missing groups.
    pub register: bool,
    /// Whether its rows are ours to write.
    pub writes: Writes,
    /// Its databases.
    pub databases: Vec<Database>,
    /// Sessions on its entry nodes.
    pub entry_nodes: EntryNodes,
    /// Wakes when the rows of any of them changed.
    pub rows_changed: watch::Receiver<()>,
    /// Groups that are held.
    pub held: Mutex<BTreeSet<i32>>,
}

/// When to look again whether other groups are still held, with a resync to be made.
const OTHERS_HELD: Duration = Duration::from_millis(250);

/// The task of one group.
pub struct Reconciler {
    context: Arc<Context>,
    group: i32,
    scope: ScopeId,
    view: watch::Receiver<Arc<ScopeView>>,
    rows_changed: watch::Receiver<()>,
    commands: mpsc::Receiver<Command>,
    probes: Probes,
    /// The lineage under which this group was last found in sync, and who led then.
    trusted_lineage: Option<u64>,
    in_sync_leader: Option<String>,
    seen: Option<Seen>,
    /// Rises when a hold is complete and when a member is lost: positions that were asked for
    /// earlier say nothing about either.
    round: u64,
    running: FuturesUnordered<Future<Ended>>,
    /// What is under way beside the steps; none of it holds up a decision.
    aside: FuturesUnordered<Future<Aside>>,
    attempts: Attempts,
    holds: Holds,
    failures_seen: FailureDetector,
    verification: MetadataVerification,
    prewarm: Prewarm,
    askers: Vec<Asker>,
    readers: Readers,
    /// Since when every database is held.
    all_held: Option<Instant>,
    /// Where reads were sent, while they are not at the leader.
    reads_at: Option<HostPort>,
    /// The deadline of the standing hold has passed, and that was told.
    expired: bool,
    /// The last decision knew that the deadline has passed.
    deadline_seen: bool,
    recorder: Option<Recorder>,
    last_move: Option<MoveReport>,
    told: Option<scenario::Told>,
    /// When to stop waiting for the end, once we were asked to stop.
    stop_by: Option<Instant>,
    /// When to decide again although no news came.
    again: Option<Instant>,
}

/// When the present leader key was first seen, or its holder was lost, and when that first said it
/// takes writes since.
#[derive(Clone, Copy, Debug)]
struct Seen {
    revision: i64,
    at: Instant,
    writable: Option<Instant>,
}

impl Reconciler {
    /// A reconciler that knows nothing yet.
    pub fn new(
        context: Arc<Context>,
        group: i32,
        scope: ScopeId,
        view: watch::Receiver<Arc<ScopeView>>,
        probes: Probes,
    ) -> Self {
        let rows_changed = context.rows_changed.clone();
        let name = scope.to_string();
        let commands = context.store.listen(context.formation, group, &name);
        Self {
            context,
            group,
            scope,
            view,
            rows_changed,
            commands,
            probes,
            trusted_lineage: None,
            in_sync_leader: None,
            seen: None,
            round: 0,
            running: FuturesUnordered::new(),
            aside: FuturesUnordered::new(),
            attempts: Attempts::default(),
            holds: Holds::default(),
            failures_seen: FailureDetector::default(),
            verification: MetadataVerification::default(),
            prewarm: Prewarm::default(),
            askers: Vec::new(),
            readers: Readers::default(),
            all_held: None,
            reads_at: None,
            expired: false,
            deadline_seen: false,
            recorder: None,
            last_move: None,
            told: None,
            stop_by: None,
            again: None,
        }
    }

    /// Keeps the group until `shutdown` turns true and what was under way has ended.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            self.turn();
            if self.stop_by.is_some() && self.holds.is_empty() && self.running.is_empty() {
                return;
            }
            let due = self.next_due();
            tokio::select! {
                // The watcher is gone only when the daemon is stopping.
                news = self.view.changed() => if news.is_err() { return },
                news = self.rows_changed.changed() => if news.is_err() { return },
                () = self.probes.changed() => {}
                Some(ended) = self.running.next(), if !self.running.is_empty() => {
                    self.end(ended);
                }
                Some(news) = self.aside.next(), if !self.aside.is_empty() => self.hear(news),
                Some(command) = self.commands.recv() => self.command(command),
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    if self.stop_by.is_some_and(|by| by <= Instant::now()) {
                        return;
                    }
                }
                _ = shutdown.wait_for(|stop| *stop), if self.stop_by.is_none() => {
                    self.stop_by = Some(Instant::now() + STOP_PATIENCE);
                }
            }
        }
    }

    /// The next moment that is waited for.
    fn next_due(&self) -> Option<Instant> {
        let deadline = self.holds.stood().map(|stood| stood.deadline);
        let all = [
            self.attempts.next_due(),
            self.failures_seen.next_due(),
            self.verification.next_due(),
            self.prewarm.next_due(),
            self.next_answer(),
            // Once it has passed and that was seen, what is decided then is what is waited for.
            deadline.filter(|_| !self.deadline_seen),
            self.holds.asked_until(),
            self.again,
            self.stop_by,
        ];
        all.into_iter().flatten().min()
    }

    /// Decides once and starts what is to be done.
    fn turn(&mut self) {
        let now = Instant::now();
        self.attempts.ripen(now);
        self.failures_seen.ripen(now);
        let view = self.view.borrow_and_update().clone();
        let rows: BTreeMap<String, Rows> = self
            .context
            .databases
            .iter()
            .map(|database| (database.name.to_string(), database.rows()))
            .collect();
        self.look_at_leader(&view);
        self.holds.lapse(now);
        let answers = self.probes.answers();
        self.failures_seen.look(&answers, &mut self.round);
        let reachability = self.failures_seen.reachability();
        let progress = self.holds.progress(&self.without_read_moves());
        let active_hold = self.holds.active_hold(now);
        let asked = self.holds.asked().cloned();
        let given_up = self.holds.given_up().to_vec();
        let situation = Situation {
            group: self.group,
            view: &view,
            answers: &answers,
            reachability: &reachability,
            trusted_lineage: self.trusted_lineage,
            rows: &rows,
            progress: &progress,
            active_hold: active_hold.as_ref(),
            asked: asked.as_ref(),
            given_up: &given_up,
            register: self.context.register,
            writes: self.context.writes,
            limits: self.context.policy.limits(),
            stopping: self.stop_by.is_some(),
            now: OffsetDateTime::now_utc(),
        };
        self.holds.look_at_asked(&situation);
        self.look_at_answer(situation.leader_answer());

        let decision = plan::decide(&situation);
        self.note(&situation, &decision);
        if let Err(violation) = citus_core::invariants::check(&situation, &decision) {
            self.context.store.metrics().violations.inc();
            error!(
                formation = self.context.name, group = self.group, scope = %self.scope,
                "a decision was stopped, nothing is changed; please report this as a bug: {violation}"
            );
            // To let go is always right.
            let mut ends = decision.clone();
            ends.steps.retain(|_, step| *step == Step::LetGo);
            self.start(&situation, &ends);
        } else {
            self.start(&situation, &decision);
        }
        if decision.is_at_rest() {
            self.trusted_lineage = Some(view.lineage);
            self.in_sync_leader = view.leader.as_ref().map(|leader| leader.value.clone());
            let request = view.failover.as_ref().map(|request| request.mod_revision);
            self.holds.forget(request);
        }
        let revision = view.leader.as_ref().map_or(0, |leader| leader.mod_revision);
        self.probes.ask(&decision.ask, revision, self.round);
        self.ask_coordinator(&decision.reachability);
        self.again = decision.again_in.map(|pause| Instant::now() + pause);
        self.look_after_entry_nodes(&situation, &decision);
        self.keep_entry_node_warm(&situation, &decision);
        if self.resync_has_to_wait(&decision) {
            self.again = Some(Instant::now() + OTHERS_HELD);
        }
        self.look_at_hold(&situation, &decision);
        self.tell_whether_held();
        self.answer_askers(&situation, &decision);
        self.close_transition(&situation, &decision);
        self.tell(&situation, &decision);
    }

    /// Notes when the leader key changed hands, and forgets failures that were about the last one.
    fn look_at_leader(&mut self, view: &ScopeView) {
        let revision = view.leader.as_ref().map(|leader| leader.mod_revision);
        if self.seen.map(|seen| seen.revision) == revision {
            return;
        }
        self.seen = revision.map(|revision| Seen {
            revision,
            at: Instant::now(),
            writable: None,
        });
        self.attempts.forget();
    }

    fn look_at_answer(&mut self, answer: &ProbeState) {
        let Some(seen) = &mut self.seen else {
            return;
        };
        match (answer, seen.writable) {
            (ProbeState::Writable, None) => {
                seen.writable = Some(Instant::now());
                self.context
                    .store
                    .metrics()
                    .promotion
                    .observe(seen.at.elapsed().as_secs_f64());
            }
            (ProbeState::Unreachable(_), Some(_)) => {
                seen.at = Instant::now();
                seen.writable = None;
            }
            _ => {}
        }
    }

    /// A resync tells every worker of every row. While another group is held, its row may be at a
    /// standby, and a worker that is not held (it was started a moment ago) would send reads there which
    /// are behind what it writes. So it waits for the end of all holds, which have deadlines.
    fn resync_has_to_wait(&self, decision: &Decision) -> bool {
        let resyncs = |step: &Step| matches!(step, Step::Resync(_));
        decision.steps.values().any(resyncs) && self.others_are_held()
    }

    fn others_are_held(&self) -> bool {
        let held = self.context.held.lock();
        let held = held.unwrap_or_else(PoisonError::into_inner);
        held.iter().any(|group| *group != self.group)
    }

    fn tell_whether_held(&self) {
        let held = self.context.held.lock();
        let mut held = held.unwrap_or_else(PoisonError::into_inner);
        if self.holds.stood().is_some() {
            held.insert(self.group);
        } else {
            held.remove(&self.group);
        }
    }

    /// Databases in which our role may not update `pg_dist_node`.
    fn without_read_moves(&self) -> BTreeSet<String> {
        let databases = self.context.databases.iter();
        databases
            .filter(|database| !database.may_update())
            .map(|database| database.name.to_string())
            .collect()
    }

    /// What the recorder of this transition has to say of a decision, before it is carried out.
    fn note(&mut self, situation: &Situation<'_>, decision: &Decision) {
        let view = situation.view;
        let leader = view.leader.as_ref().map(|leader| leader.value.clone());
        let begins = decision.rule != Rule::Resync && decision.steps.values().any(Step::acts)
            || (self.in_sync_leader.is_some()
                && matches!(
                    decision.rule,
                    Rule::Unreachable | Rule::LeaderGone | Rule::Promoting
                ));
        if self.recorder.is_none() && begins && self.context.writes == Writes::Allowed {
            let reason = match decision.steps.values().find_map(|step| match step {
                Step::Hold(hold) => Some(hold.reason.to_string()),
                _ => None,
            }) {
                Some(reason) => reason,
                None if self.in_sync_leader.is_none() => "a row was not its leader's".to_owned(),
                None => "the leader was lost or changed".to_owned(),
            };
            let from = decision
                .steps
                .keys()
                .find_map(|database| scenario::row_of(situation, database));
            let before = self.in_sync_leader.clone().or_else(|| leader.clone());
            let scope = self.scope.to_string();
            let whose = (self.context.name.as_str(), self.group, scope.as_str());
            self.recorder = Some(Recorder::begin(whose, before, from, reason));
        }
        if let Some(recorder) = &mut self.recorder {
            let answer = situation.leader_answer();
            let lost = matches!(answer, ProbeState::Unreachable(_));
            let writable = *answer == ProbeState::Writable;
            recorder.look_at_leader(leader.as_deref(), lost, writable);
        }
    }

    /// Whether the hold stands on, has run into its deadline, or is over.
    fn look_at_hold(&mut self, situation: &Situation<'_>, decision: &Decision) {
        self.deadline_seen = situation
            .active_hold
            .is_some_and(|active_hold| active_hold.expired);
        if self.deadline_seen {
            self.expire(situation);
        }
        let wanted = decision.steps.values().any(|step| {
            matches!(
                step,
                Step::Hold(_) | Step::Wait(Wait::Taking { .. } | Wait::Held { .. })
            )
        });
        // A hold that was lost with the coordinator's session is taken again, with the deadline that
        // it had from the beginning: it stands until its reason is known to be over.
        let blind = situation.view.freshness != Freshness::Fresh
            || (situation.rows.values()).all(|rows| matches!(rows, Rows::Unknown(_)));
        let stands = wanted || blind || situation.reason_to_hold().is_some();
        if self.holds.is_empty() && (self.deadline_seen || !stands) {
            self.fall(situation);
        }
        self.reads_at = decision
            .steps
            .keys()
            .find_map(|database| scenario::row_of(situation, database))
            .filter(|row| {
                self.holds.stood().is_some() && Some(row) != situation.view.leader_address()
            });
    }
}
