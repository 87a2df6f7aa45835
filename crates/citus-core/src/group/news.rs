//! What a group reconciler is told, taken in: facts are kept, requests are noted, and what came of
//! questions and orders goes where it belongs. The next decision knows it.

use std::time::{Duration, Instant};

use dcs_watch::{Freshness, HostPort, ScopeView};

use super::effect::Effect;
use super::input::{Input, Now, RequestId};
use super::requests::{WAIT, Waiting, Wants};
use super::state::Group;
use crate::event::Event;
use crate::plan::{COORDINATOR_GROUP, Reason, Writes};
use crate::report::{HoldOutcome, HoldRequest};

/// How long orders that are under way, and holds, may take to end once we are asked to stop. What
/// is cut off then is rolled back by the server.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// How much longer than what stands a request may want and still be the same.
const SLACK: Duration = Duration::from_secs(1);

impl Group {
    pub(super) fn hear(&mut self, input: Input, now: Now) {
        match input {
            Input::View(view) => self.facts.view = view,
            Input::Databases(databases) => self.facts.databases = databases,
            Input::Answers(answers) => self.facts.answers = answers,
            Input::OthersHeld(held) => self.facts.others_held = held,
            Input::Neighbours(neighbours) => self.facts.neighbours = neighbours,
            Input::ReachHeard { number, answer } => {
                self.reach.heard(number, answer, now.instant);
            }
            Input::Hold { id, request } => self.hold_requested(id, &request, now),
            Input::Release { id } => self.release_requested(id, now.instant),
            Input::Ended(ended) => self.order_ended(ended, now),
            Input::EntryNode(heard) => self.entry_node_heard(heard),
            Input::HoldLost { database, order } => self.hold_lost(database, order, now.instant),
            Input::Discarded { database } => {
                self.slots.ended(&database);
            }
            Input::CoordinatorSaid {
                address,
                round,
                answer,
            } => self.coordinator_said(address, round, answer, now.instant),
            Input::KeysRead { number, answer } => self.keys.heard(number, answer, now.instant),
            Input::ShardsCounted {
                database,
                address,
                number,
                answer,
            } => {
                let key = (database, address);
                self.counting.heard(number, &key, answer, now.instant);
            }
            Input::ReadersGone { number } => self.readers.known(number),
            Input::Recovered { database, result } => self.recovered(database, result),
            Input::MetadataQueried { database, answers } => {
                self.metadata_queried(&database, answers, now.instant);
            }
            Input::Stop => {
                self.stop_by.get_or_insert(now.instant + STOP_PATIENCE);
            }
        }
    }

    fn hold_requested(&mut self, id: RequestId, request: &HoldRequest, now: Now) {
        let view = self.facts.view.clone();
        let wait = request.wait_ms.map_or(WAIT, Duration::from_millis);
        let waiting = Waiting::new(id, wait, Wants::Hold, now.instant);
        if let Some((outcome, why)) = self.why_not(&view, request) {
            self.answer(waiting, outcome, why, now.instant);
            return;
        }
        let limit = self.settings.policy.hold_timeout;
        let wanted = request.timeout_ms.map(Duration::from_millis);
        let timeout = wanted.map_or(limit, |wanted| wanted.min(limit));
        if let Some(why) =
            self.ends_too_soon(request, wanted.map(|wanted| wanted.min(limit)), now.instant)
        {
            self.answer(waiting, HoldOutcome::Refused, why, now.instant);
            return;
        }
        let leader = view.leader.as_ref().map(|leader| leader.value.as_str());
        let started = view
            .leader_address()
            .and_then(|address| self.facts.answers.get(address)?.started);
        let stands = self.phase.hold().is_some();
        let leader = leader.unwrap_or_default();
        self.requests
            .ask(leader, started, timeout, stands, now.instant);
        self.publish(Event::HoldRequested {
            member: request.member.clone(),
            timeout,
        });
        self.requests.wait(waiting);
        if let Some(leader) = view.leader_address()
            && let Some(number) = self.readers.watch(self.settings.databases.len())
        {
            let leader = leader.clone();
            self.want(Effect::WatchReaders { number, leader });
        }
    }

    /// A person who wants writes held for longer than the hold that stands must know that they are not:
    /// its deadline is with the server since it was taken. A hook only needs writes to be held while its
    /// member stops.
    fn ends_too_soon(
        &self,
        request: &HoldRequest,
        wanted: Option<Duration>,
        now: Instant,
    ) -> Option<String> {
        let left = self.phase.hold()?.left(now);
        let wanted = wanted.filter(|wanted| *wanted > left + SLACK)?;
        request.member.is_none().then(|| {
            format!(
                "writes are held already, for {:.1} s more at the most, and not for {:.1} s: a hold that \
                 stands is not made longer; `citus-sync release` ends it, then hold again",
                left.as_secs_f64(),
                wanted.as_secs_f64()
            )
        })
    }

    /// What speaks against a hold, in words.
    fn why_not(&self, view: &ScopeView, request: &HoldRequest) -> Option<(HoldOutcome, String)> {
        if self.settings.writes != Writes::Allowed {
            let why = "this formation is only observed, so nothing is held".to_owned();
            return Some((HoldOutcome::Refused, why));
        }
        if self.group() == COORDINATOR_GROUP {
            let why = "the coordinator cannot be held: the session that holds would end with it";
            return Some((HoldOutcome::Refused, why.to_owned()));
        }
        if view.freshness != Freshness::Fresh {
            let why = format!("etcd's view is {}", view.freshness);
            return Some((HoldOutcome::NotHeld, why));
        }
        let Some(leader) = &view.leader else {
            let why = "no member holds the leader key".to_owned();
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

    fn release_requested(&mut self, id: RequestId, now: Instant) {
        let waiting = Waiting::new(id, WAIT, Wants::Release, now);
        // A hold that was lost stands on, and its entry nodes are held.
        let stands = self.phase.hold().is_some();
        if self.slots.is_empty() && self.requests.pending().is_none() && !stands {
            self.answer(waiting, HoldOutcome::NothingHeld, String::new(), now);
            return;
        }
        self.publish(Event::ReleaseRequested);
        let request = self.facts.view.failover.as_ref();
        let request = request.map(|request| Reason::Request {
            revision: request.mod_revision,
        });
        if let Some(hold) = self.phase.hold_mut() {
            hold.by_hand = true;
        }
        self.give_up(request);
        self.requests.wait(waiting);
    }

    /// The coordinator closed the holding session: writes go on, whatever was wanted.
    fn hold_lost(&mut self, database: String, order: u64, now: Instant) {
        if !self.slots.lost(&database, order) {
            return;
        }
        self.want(Effect::ForgetHold {
            database: database.clone(),
        });
        if let Some(recorder) = self.phase.recorder() {
            recorder.failed(&database, "the coordinator closed the session that held");
            recorder.released(&database, now);
        }
        self.publish(Event::HoldLost { database });
    }

    fn coordinator_said(
        &mut self,
        address: HostPort,
        round: u64,
        answer: Result<bool, String>,
        now: Instant,
    ) {
        let failed = self
            .failures
            .heard(&address, round, answer, &mut self.round, now);
        if let Some((failures, error)) = failed {
            self.publish(Event::CoordinatorNotAsked {
                address,
                failures,
                error,
            });
        }
    }

    fn recovered(&mut self, database: String, result: Result<u64, String>) {
        match result {
            Ok(0) => {}
            Ok(count) => self.publish(Event::Recovered { database, count }),
            Err(error) => self.publish(Event::NotRecovered { database, error }),
        }
    }
}
