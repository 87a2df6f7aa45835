//! What the program knows and remembers between two decisions, as its keeper does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dcs_watch::{Freshness, HostPort, ScopeView};
use time::OffsetDateTime;

use super::super::super::*;
use super::super::builders::{Story, addr};
use super::{DATABASES, HOLD_TIMEOUT, HOSTS, World};

/// A question that was put to a member.
#[derive(Clone, Copy, Debug)]
struct Order {
    leader_revision: i64,
    round: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Stood {
    reason: Reason,
    deadline: u64,
    by_hand: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Keeper {
    view: Option<ScopeView>,
    orders: BTreeMap<HostPort, Order>,
    answers: BTreeMap<HostPort, Probe>,
    /// Members that are lost, and what the coordinator says of them.
    lost: BTreeMap<HostPort, Option<Reach>>,
    /// About whom the coordinator was asked.
    asked_coordinator: BTreeSet<HostPort>,
    pub(super) round: u64,
    standing: Option<Stood>,
    asked: Option<Asked>,
    askings: u64,
    /// When what was asked for lapses, unless a hold stands for it by then.
    asked_until: Option<u64>,
    pub(super) given_up: Vec<Reason>,
    /// … of which some are forgotten.
    pub(super) ever_given_up: Vec<Reason>,
    trusted_lineage: Option<u64>,
    pub(super) owes_resync: BTreeSet<&'static str>,
    /// Failed a moment ago, and is not tried again before something happens.
    pub(super) pauses: BTreeSet<&'static str>,
    stopping: bool,
}

impl Keeper {
    pub(super) fn view_is(&mut self, freshness: Freshness, etcd: Option<&ScopeView>) {
        if let Some(etcd) = etcd {
            self.view = Some(etcd.clone());
        }
        let view = self
            .view
            .get_or_insert_with(|| ScopeView::empty(dcs_watch::ScopeId::new("wk1")));
        view.freshness = freshness;
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.standing.as_ref().map(|stood| stood.deadline)
    }

    pub(super) fn trusts(&self, lineage: u64) -> bool {
        self.trusted_lineage
            .is_none_or(|trusted| trusted == lineage)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Begins to stand, unless it does.
    pub(super) fn stand(&mut self, reason: Reason, now: u64) -> u64 {
        let stood = self.standing.get_or_insert(Stood {
            reason,
            deadline: now + HOLD_TIMEOUT,
            by_hand: false,
        });
        stood.deadline
    }

    fn standing(&self, now: u64) -> Option<Standing> {
        self.standing.as_ref().map(|stood| Standing {
            reason: stood.reason,
            expired: stood.by_hand || stood.deadline <= now,
        })
    }

    fn give_up(&mut self, reasons: impl IntoIterator<Item = Reason>) {
        let own = self.standing.as_ref().map(|stood| stood.reason);
        for reason in own.into_iter().chain(reasons) {
            self.given_up.push(reason);
            self.ever_given_up.push(reason);
        }
        self.asked = None;
    }

    /// Members that were lost since begin a new round; those that are back are no loss any more.
    fn look_at_losses(&mut self) {
        let is_lost = |probe: &Probe| matches!(probe.state, ProbeState::Unreachable(_));
        let answers = &self.answers;
        self.lost
            .retain(|address, _| answers.get(address).is_some_and(is_lost));
        for (address, probe) in answers {
            if is_lost(probe) && !self.lost.contains_key(address) {
                self.round += 1;
                self.lost.insert(address.clone(), None);
            }
        }
    }
}

impl World {
    pub(super) fn now(&self) -> OffsetDateTime {
        Story::new().now + Duration::from_millis(self.clock)
    }

    /// Decides until there is nothing to carry out.
    pub(super) fn settle(&mut self) {
        self.keeper.pauses.clear();
        for _ in 0..16 {
            if !self.turn() {
                self.assert_the_rules();
                return;
            }
            self.acknowledge();
        }
        panic!("never comes to rest: {:?}", self.told);
    }

    /// One decision, carried out; whether anything was.
    fn turn(&mut self) -> bool {
        self.keeper.look_at_losses();
        let mut story = self.story();
        if self.keeper.asked.is_some() {
            story.with(|situation| self.look_at_asked(situation));
            story.asked.clone_from(&self.keeper.asked);
        }
        let decision = story.decision();
        let mut acted = false;
        for (name, step) in &decision.steps {
            let name = DATABASES.iter().find(|own| *own == name).expect("ours");
            let held = self.databases[name].held;
            if step.acts()
                && !self.keeper.pauses.contains(name)
                && !(self.keeper.stopping && held == Held::No)
            {
                acted = true;
                self.told.push(format!("{name}: {step}"));
                self.carry_out(name, step);
            }
        }
        self.remember(&story, &decision);
        acted
    }

    /// Everything the program knows.
    fn story(&self) -> Story {
        let keeper = &self.keeper;
        let mut story = Story::new();
        if let Some(view) = &keeper.view {
            story.view = view.clone();
        }
        story.answers.clone_from(&keeper.answers);
        let reach = keeper.lost.iter();
        story.reach = reach
            .filter_map(|(address, reach)| Some((address.clone(), (*reach)?)))
            .collect();
        story.trusted_lineage = keeper.trusted_lineage;
        for (name, database) in &self.databases {
            let rows = if database.connected {
                Rows::known(database.rows.clone())
            } else {
                Rows::Unknown("not connected".to_owned())
            };
            story.rows.insert((*name).to_owned(), rows);
            let progress = Progress {
                held: database.held,
                owes_resync: keeper.owes_resync.contains(name),
                no_read_moves: false,
            };
            story.progress.insert((*name).to_owned(), progress);
        }
        story.standing = keeper.standing(self.clock);
        story.asked.clone_from(&keeper.asked);
        story.given_up.clone_from(&keeper.given_up);
        story.liberties = self.liberties;
        story.stopping = keeper.stopping;
        story.now = self.now();
        story
    }

    /// What is decided now; the checker looks at it as well.
    pub(in super::super) fn decide(&self) -> Decision {
        self.story().decide()
    }

    fn look_at_asked(&mut self, situation: &Situation<'_>) {
        let Some(asked) = &mut self.keeper.asked else {
            return;
        };
        if asked.started.is_none() {
            asked.started = situation.leader_probe().and_then(|probe| probe.started);
        } else if situation.is_fulfilled(asked) {
            self.keeper.asked = None;
        }
    }

    fn remember(&mut self, story: &Story, decision: &Decision) {
        let keeper = &mut self.keeper;
        if decision.is_at_rest() {
            keeper.trusted_lineage = Some(story.view.lineage);
            let request = story.view.failover.as_ref().map(|r| r.mod_revision);
            keeper.given_up.retain(
                |reason| matches!(reason, Reason::Request { revision } if Some(*revision) == request),
            );
        }
        let leader_revision = story.view.leader.as_ref().map_or(0, |l| l.mod_revision);
        for ask in &decision.ask {
            let order = Order {
                leader_revision,
                round: keeper.round,
            };
            keeper.orders.insert(ask.address.clone(), order);
        }
        keeper
            .asked_coordinator
            .extend(decision.reach.iter().cloned());
        let mut reason = None;
        story.with(|situation| reason = situation.reason_to_hold());
        let expired = story.standing.is_some_and(|standing| standing.expired);
        if expired {
            keeper.give_up(reason);
        }
        let wanted = decision.steps.values().any(|step| {
            matches!(
                step,
                Step::Hold(_) | Step::Wait(Wait::Taking { .. } | Wait::Held { .. })
            )
        });
        let none = self.databases.values().all(|db| db.held == Held::No);
        let blind = self.etcd_is_silent || self.databases.values().all(|db| !db.connected);
        // It stands until its reason is known to be over, so that one that was lost with its
        // session and is taken again has the deadline that it had from the beginning.
        if none && (expired || !(wanted || blind || reason.is_some())) {
            keeper.standing = None;
        }
        let stands = keeper.standing.is_some();
        if !stands && keeper.asked_until.is_some_and(|until| until <= self.clock) {
            keeper.asked = None;
        }
    }

    /// A member that was asked answers, with what it was asked for; or our attempt fails.
    pub(super) fn member_answers(&mut self, host: &'static str) {
        let server = &self.servers[host];
        if self.is_lost_to_us(host) {
            self.is_heard(host, ProbeState::Unreachable("refused".to_owned()));
        } else {
            let (state, position) = server.answer();
            let started = Some(server.started);
            if let Some(probe) = self.is_heard(host, state) {
                (probe.position, probe.started) = (position, started);
            }
        }
    }

    fn is_heard(&mut self, host: &'static str, state: ProbeState) -> Option<&mut Probe> {
        let order = *self.keeper.orders.get(&addr(host))?;
        let probe = Probe {
            address: addr(host),
            leader_revision: order.leader_revision,
            round: order.round,
            state,
            position: Position::default(),
            started: None,
        };
        self.keeper.answers.insert(addr(host), probe);
        self.keeper.answers.get_mut(&addr(host))
    }

    /// Our session to a member closes: that is known at once, where there is one.
    pub(super) fn session_closes(&mut self, host: &'static str) {
        self.is_heard(host, ProbeState::Unreachable("closed".to_owned()));
        // One that comes back at once was lost all the same.
        self.keeper.look_at_losses();
    }

    /// A member can be reached again, and is.
    pub(super) fn session_opens(&mut self, host: &'static str) {
        self.member_answers(host);
        self.coordinator_reaches_again(host);
    }

    /// What the coordinator said of a member that it did not reach does not outlive that.
    pub(super) fn coordinator_reaches_again(&mut self, host: &str) {
        if self.coordinator_reaches(host)
            && let Some(reach) = self.keeper.lost.get_mut(&addr(host))
        {
            *reach = None;
        }
    }

    /// The coordinator says whether it reaches a member, if it was asked. Whatever others
    /// said earlier they said while it may have been there.
    pub(super) fn coordinator_says(&mut self, host: &'static str) {
        let reaches = self.coordinator_reaches(host);
        let connected = self.databases.values().any(|database| database.connected);
        let keeper = &mut self.keeper;
        if !connected || !keeper.asked_coordinator.remove(&addr(host)) {
            return;
        }
        match keeper.lost.get_mut(&addr(host)) {
            Some(reach) if reaches => *reach = Some(Reach::Reachable),
            // It says so again and again; only the first time is news.
            Some(Some(Reach::Unreachable { .. })) | None => {}
            Some(reach) => {
                keeper.round += 1;
                let round = keeper.round;
                *reach = Some(Reach::Unreachable { round });
            }
        }
    }

    /// `citus-sync hold`.
    pub(super) fn ask_for_hold(&mut self) {
        let Some(leader) = self.key_holder() else {
            return;
        };
        let keeper = &mut self.keeper;
        let same = (keeper.asked.as_ref()).is_some_and(|asked| asked.leader == leader);
        if self.etcd_is_silent || (same && keeper.standing.is_some()) {
            return;
        }
        keeper.asked_until = Some(self.clock + HOLD_TIMEOUT);
        keeper.askings += 1;
        keeper.asked = Some(Asked {
            id: keeper.askings,
            leader: leader.to_owned(),
            started: keeper
                .answers
                .get(&addr(leader))
                .and_then(|probe| probe.started),
        });
    }

    /// `citus-sync release`.
    pub(super) fn release_by_hand(&mut self) {
        let held = self.databases.values().any(|db| db.held != Held::No);
        if !held && self.keeper.asked.is_none() {
            return;
        }
        let request = self
            .keeper
            .view
            .as_ref()
            .and_then(|view| view.failover.as_ref());
        let request = request.map(|request| Reason::Request {
            revision: request.mod_revision,
        });
        if let Some(stood) = &mut self.keeper.standing {
            stood.by_hand = true;
        }
        self.keeper.give_up(request);
    }

    /// Another one takes over, and the server ends the sessions of the first.
    pub(super) fn new_program(&mut self) {
        self.keeper = Keeper {
            askings: self.keeper.askings,
            ..Keeper::default()
        };
        for database in self.databases.values_mut() {
            database.held = Held::No;
        }
        for host in HOSTS {
            self.member_answers(host);
        }
    }
}
