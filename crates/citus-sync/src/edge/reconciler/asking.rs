//! What people and hooks ask of a group, and what they are answered: when the hold is as complete
//! as it will be, and never later than they asked for.

use std::time::{Duration, Instant};

use dcs_watch::{Freshness, ScopeView};
use tokio::sync::oneshot;
use tracing::info;

use super::Reconciler;
use crate::edge::commands::Command;
use citus_core::plan::{
    COORDINATOR_GROUP, Decision, Held, Reason, Situation, Stay, Step, Wait, Writes,
};
use citus_core::report::{HoldAnswer, HoldOutcome, HoldRequest};

/// When an answer has to be there unless the request says so.
const WAIT: Duration = Duration::from_secs(5);

/// How much earlier we answer: the answer still has to travel, and somebody who got none knows
/// less than somebody who was told "not yet".
const MARGIN: Duration = Duration::from_millis(100);

/// How long reads may take to go to a standby once everything is held, before a hook is answered:
/// PostgreSQL waits for the hook, and writers wait for PostgreSQL.
const READS_PATIENCE: Duration = Duration::from_secs(1);

/// How long entry nodes may take from then on to be held and to follow a read move: what they do not do in
/// time, their clients see fail. One that is silent, or has a long writer, is worth no more of
/// everybody's time.
const ENTRY_NODES_PATIENCE: Duration = Duration::from_millis(500);

/// Somebody who waits for an answer.
pub(super) struct Asker {
    reply: oneshot::Sender<HoldAnswer>,
    since: Instant,
    by: Instant,
    wants: Wants,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Hold,
    Release,
}

impl Asker {
    fn new(reply: oneshot::Sender<HoldAnswer>, wait: Duration, wants: Wants) -> Self {
        let since = Instant::now();
        Self {
            reply,
            since,
            by: since + wait.saturating_sub(MARGIN),
            wants,
        }
    }
}

impl Reconciler {
    /// Takes a command in; the next turn acts on it.
    pub(super) fn command(&mut self, command: Command) {
        let view = self.view.borrow().clone();
        match command {
            Command::Hold { request, reply } => {
                let wait = request.wait_ms.map_or(WAIT, Duration::from_millis);
                let asker = Asker::new(reply, wait, Wants::Hold);
                match self.why_not(&view, &request) {
                    Some((outcome, why)) => self.answer(asker, outcome, why),
                    None => self.ask_for_hold(&view, &request, asker),
                }
            }
            Command::Release { reply } => {
                let asker = Asker::new(reply, WAIT, Wants::Release);
                // One that was lost stands on, and its entry nodes are held.
                let stands = self.holds.stood().is_some();
                if self.holds.is_empty() && self.holds.asked().is_none() && !stands {
                    self.answer(asker, HoldOutcome::NothingHeld, String::new());
                    return;
                }
                info!(
                    formation = self.context.name, group = self.group, scope = %self.scope,
                    "`citus-sync release`: the hold is let go"
                );
                let request = view.failover.as_ref().map(|request| request.mod_revision);
                let request = request.map(|revision| Reason::Request { revision });
                self.holds.let_go_by_hand();
                self.holds.give_up(request);
                self.askers.push(asker);
            }
        }
    }

    fn ask_for_hold(&mut self, view: &ScopeView, request: &HoldRequest, asker: Asker) {
        let limit = self.context.policy.hold_timeout;
        let wanted = request.timeout_ms.map(Duration::from_millis);
        let timeout = wanted.map_or(limit, |wanted| wanted.min(limit));
        let leader = view.leader.as_ref().map(|leader| leader.value.as_str());
        let started = view
            .leader_address()
            .and_then(|address| self.probes.answers().get(address)?.started);
        self.holds.ask(leader.unwrap_or_default(), started, timeout);
        info!(
            formation = self.context.name, group = self.group, scope = %self.scope,
            member = request.member.as_deref().unwrap_or("not told"),
            timeout_ms = timeout.as_millis(),
            "`citus-sync hold`: writes are to be held"
        );
        self.askers.push(asker);
        if let Some(leader) = view.leader_address() {
            self.look_for_readers(leader);
        }
    }

    /// What speaks against a hold, in words.
    fn why_not(&self, view: &ScopeView, request: &HoldRequest) -> Option<(HoldOutcome, String)> {
        if self.context.writes != Writes::Allowed {
            let why = "this formation is only observed, so nothing is held".to_owned();
            return Some((HoldOutcome::Refused, why));
        }
        if self.group == COORDINATOR_GROUP {
            let why = "the coordinator cannot be held: the session that holds would end with it";
            return Some((HoldOutcome::Refused, why.to_owned()));
        }
        if view.freshness != Freshness::Fresh {
            let why = format!("etcd's view is {}", view.freshness);
            return Some((HoldOutcome::NotHeld, why));
        }
        let Some(leader) = &view.leader else {
            let why = "nobody holds the leader key".to_owned();
            return Some((HoldOutcome::NotHeld, why));
        };
        match &request.member {
            Some(member) if *member != leader.value => {
                let why = format!("{member} does not lead, {} does", leader.value);
                Some((HoldOutcome::NotTheLeader, why))
            }
            _ => None,
        }
    }

    /// Answers whoever can be, or must be, answered now.
    pub(super) fn answer_askers(&mut self, situation: &Situation<'_>, decision: &Decision) {
        let now = Instant::now();
        // A database that cannot be held whatever happens is not waited for.
        let held = |database: &str| matches!(self.holds.held(database), Held::Yes { .. });
        let mut possible = (decision.steps.iter())
            .filter(|(_, step)| !step.is_out_of_reachability())
            .peekable();
        let all_held = possible.peek().is_some() && possible.all(|(database, _)| held(database));
        self.all_held = match (all_held, self.all_held) {
            (true, since) => Some(since.unwrap_or(now)),
            (false, _) => None,
        };
        let patient = |patience| self.all_held.is_some_and(|since| now < since + patience);
        let mut open = self.holds.open_holds();
        let entry_nodes_in_sync = open.all(|(_, hold)| hold.is_quiet());
        // A read move is seen in the coordinator's rows before the entry nodes have followed.
        let under_way = |database: &str| self.attempts.is_running(database);
        let reads_in_sync = decision.steps.iter().all(|(database, step)| match step {
            _ if under_way(database) => false,
            Step::Wait(Wait::Held { stay, .. }) => !matches!(
                stay,
                Some(Stay::Asking | Stay::Behind { .. } | Stay::NoStandby)
            ),
            Step::ReadMove(_) => false,
            _ => true,
        });
        let complete = all_held
            && (reads_in_sync || !patient(READS_PATIENCE))
            && (entry_nodes_in_sync || !patient(ENTRY_NODES_PATIENCE))
            // Where reads stayed nobody's end is waited for.
            && (self.reads_at.is_none() || self.readers.are_done(now));
        let over = situation.reason_to_hold().is_none();
        for asker in std::mem::take(&mut self.askers) {
            let late = asker.by <= now;
            match asker.wants {
                Wants::Hold if complete || late || over => {
                    let some = self.holds.open_holds().next().is_some();
                    let fan_out = decision.steps.keys().all(|database| held(database));
                    let outcome = match (fan_out, some) {
                        (true, _) => HoldOutcome::Held,
                        (false, true) => HoldOutcome::Partly,
                        (false, false) => HoldOutcome::NotHeld,
                    };
                    let why = if fan_out && complete && self.readers.are_left() {
                        "statements that began before still run at the leader".to_owned()
                    } else if fan_out {
                        String::new()
                    } else if over {
                        "what it was asked for is over".to_owned()
                    } else {
                        self.what_is_missing(decision)
                    };
                    self.answer(asker, outcome, why);
                }
                Wants::Release if self.holds.is_empty() => {
                    self.answer(asker, HoldOutcome::Released, String::new());
                }
                Wants::Release if late => {
                    let why = "its end was asked for, and is under way".to_owned();
                    self.answer(asker, HoldOutcome::Partly, why);
                }
                _ => self.askers.push(asker),
            }
        }
        if self.askers.is_empty() {
            self.readers.forget();
        }
    }

    fn what_is_missing(&self, decision: &Decision) -> String {
        let missing = decision.steps.iter().filter_map(|(database, step)| {
            if matches!(self.holds.held(database), Held::Yes { .. }) {
                return None;
            }
            let failure = self.attempts.failure(database).map(|retry| retry.error);
            let why = failure.unwrap_or_else(|| step.to_string());
            Some(format!("{database}: {why}"))
        });
        missing.collect::<Vec<_>>().join("; ")
    }

    /// When somebody has to be answered, or would be.
    pub(super) fn next_answer(&self) -> Option<Instant> {
        let now = Instant::now();
        let ends =
            [ENTRY_NODES_PATIENCE, READS_PATIENCE].map(|patience| Some(self.all_held? + patience));
        let ends = ends.into_iter().chain([self.readers.until()]);
        let patience = ends.flatten().filter(|end| *end > now);
        let askers = self.askers.iter().map(|asker| asker.by);
        askers
            .clone()
            .chain(patience.filter(|_| askers.len() > 0))
            .min()
    }

    fn answer(&self, asker: Asker, outcome: HoldOutcome, message: String) {
        let open: Vec<_> = self.holds.open_holds().collect();
        let skipped = open.iter().flat_map(|(database, hold)| {
            let skipped = hold.skipped().into_iter();
            let skipped = skipped.map(move |entry_node| format!("{database}: {entry_node}"));
            let under_way = hold.entry_nodes_under_way().into_iter();
            skipped.chain(
                under_way
                    .map(move |entry_node| format!("{database}: {entry_node}: is not held yet")),
            )
        });
        let answer = HoldAnswer {
            formation: self.context.name.clone(),
            group: self.group,
            scope: self.scope.to_string(),
            outcome,
            held: open.iter().map(|(name, _)| (*name).to_owned()).collect(),
            reads_moved_to: self.reads_at.clone(),
            took_ms: u64::try_from(asker.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            skipped: skipped.collect(),
            message,
        };
        // Nobody waits any more: they gave up, which is theirs to do.
        let _ = asker.reply.send(answer);
    }
}
