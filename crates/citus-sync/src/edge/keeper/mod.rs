//! One task a group: waits for news, asks [`crate::plan`], carries it out, and asks again.
//!
//! News is a new view of the scope, new rows in some database, a member's answer, the end of a
//! step, or the moment of a retry. Databases are moved side by side; each retries alone. The
//! keeper makes no choice of its own: it starts what was decided, once the invariant checker has
//! let it pass.

mod attempts;
mod story;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dcs_watch::{Freshness, HostPort, ScopeId, ScopeView};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};
use tracing::error;

use self::attempts::Attempts;
use super::board::Board;
use super::sql::{Database, Doors, Phases, Probes, StepError, carry_out};
use crate::plan::{self, Decision, ProbeState, Rows, Situation, Step, Writes};
use crate::policy::Policy;
use crate::report::MoveReport;

/// How long steps that are under way may take to end once we are asked to stop. What is cut off
/// then is rolled back by the server.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What the keepers of one formation share.
pub struct Context {
    /// Where reports go.
    pub board: Board,
    /// Which formation of the board this is.
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
    /// Sessions on its doors.
    pub doors: Doors,
    /// Wakes when the rows of any of them changed.
    pub rows_changed: watch::Receiver<()>,
}

/// The task of one group.
pub struct Keeper {
    context: Arc<Context>,
    group: i32,
    scope: ScopeId,
    view: watch::Receiver<Arc<ScopeView>>,
    rows_changed: watch::Receiver<()>,
    probes: Probes,
    /// The lineage under which this group was last found settled.
    trusted_lineage: Option<u64>,
    seen: Option<Seen>,
    running: FuturesUnordered<Running>,
    attempts: Attempts,
    last_move: Option<MoveReport>,
    told: Option<story::Told>,
}

/// When the present leader key was first seen, and when its holder first said it takes writes.
#[derive(Clone, Copy, Debug)]
struct Seen {
    revision: i64,
    at: Instant,
    writable: Option<Instant>,
}

type Running = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// A step that came to its end.
struct Ended {
    database: String,
    step: Step,
    seen: Seen,
    started: Instant,
    result: Result<Phases, StepError>,
}

impl Keeper {
    /// A keeper that knows nothing yet.
    pub fn new(
        context: Arc<Context>,
        group: i32,
        scope: ScopeId,
        view: watch::Receiver<Arc<ScopeView>>,
        probes: Probes,
    ) -> Self {
        let rows_changed = context.rows_changed.clone();
        Self {
            context,
            group,
            scope,
            view,
            rows_changed,
            probes,
            trusted_lineage: None,
            seen: None,
            running: FuturesUnordered::new(),
            attempts: Attempts::default(),
            last_move: None,
            told: None,
        }
    }

    /// Keeps the group until `shutdown` turns true.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            self.turn();
            let due = self.attempts.next_due();
            tokio::select! {
                // The watcher is gone only when the daemon is stopping.
                news = self.view.changed() => if news.is_err() { break },
                news = self.rows_changed.changed() => if news.is_err() { break },
                () = self.probes.changed() => {}
                Some(ended) = self.running.next(), if !self.running.is_empty() => {
                    self.end(ended);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {}
                _ = shutdown.wait_for(|stop| *stop) => break,
            }
        }
        let _ = timeout(STOP_PATIENCE, async {
            while let Some(ended) = self.running.next().await {
                self.end(ended);
            }
        })
        .await;
    }

    /// Decides once and starts what is to be done.
    fn turn(&mut self) {
        self.attempts.ripen(Instant::now());
        let view = self.view.borrow_and_update().clone();
        let rows: BTreeMap<String, Rows> = self
            .context
            .databases
            .iter()
            .map(|database| (database.name.to_string(), database.rows()))
            .collect();
        self.look_at_leader(&view);
        let row_probes = self.row_probes(&view);
        let probe = view
            .leader_address()
            .and_then(|address| self.probes.answer(address));
        let situation = Situation {
            group: self.group,
            view: &view,
            probe: probe.as_ref(),
            trusted_lineage: self.trusted_lineage,
            row_probes: &row_probes,
            rows: &rows,
            register: self.context.register,
            writes: self.context.writes,
        };
        if let (ProbeState::Writable, Some(seen)) = (situation.leader_answer(), &mut self.seen)
            && seen.writable.is_none()
        {
            seen.writable = Some(Instant::now());
            self.context
                .board
                .metrics()
                .promotion
                .observe(seen.at.elapsed().as_secs_f64());
        }

        let decision = plan::decide(&situation);
        if let Err(violation) = plan::check(&situation, &decision) {
            self.context.board.metrics().violations.inc();
            error!(
                formation = self.context.name, group = self.group, scope = %self.scope,
                "a decision was stopped, nothing is changed; please report this as a bug: {violation}"
            );
        } else {
            if decision.is_settled() {
                self.trusted_lineage = Some(view.lineage);
            }
            self.start(&view, &decision);
        }
        let revision = view.leader.as_ref().map_or(0, |leader| leader.mod_revision);
        self.probes.ask(&decision.ask, revision);
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

    /// What members at rows' addresses say, while etcd's history is new to us.
    fn row_probes(&self, view: &ScopeView) -> BTreeMap<HostPort, ProbeState> {
        let trusted = self
            .trusted_lineage
            .is_none_or(|lineage| lineage == view.lineage);
        if trusted {
            BTreeMap::new()
        } else {
            self.probes.states()
        }
    }

    fn start(&mut self, view: &ScopeView, decision: &Decision) {
        let (Some(seen), Some(leader)) = (self.seen, view.leader.as_ref()) else {
            return;
        };
        for (name, step) in &decision.steps {
            if !step.writes() || !self.attempts.may_start(name) {
                continue;
            }
            let Some(database) = self.context.databases.iter().find(|db| *db.name == **name) else {
                continue;
            };
            if self.attempts.start(name) {
                self.context
                    .board
                    .metrics()
                    .retries
                    .get_or_create(&self.row_labels(name))
                    .inc();
            }
            let (database, step, name) = (database.clone(), step.clone(), name.clone());
            let (group, revision) = (self.group, leader.mod_revision);
            let now = self.view.clone();
            let doors = self.context.doors.clone();
            self.running.push(Box::pin(async move {
                let started = Instant::now();
                let still_right = move || {
                    let view = now.borrow();
                    view.freshness == Freshness::Fresh
                        && view
                            .leader
                            .as_ref()
                            .is_some_and(|key| key.mod_revision == revision)
                };
                let result = carry_out(&database, &doors, &[], group, &step, still_right)
                    .await
                    .map(|finished| finished.phases);
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

    fn end(&mut self, ended: Ended) {
        self.attempts.end(&ended.database, &ended.result);
        self.recount(ended);
    }
}
