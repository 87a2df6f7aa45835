//! How stories end: what must have come about once everybody has answered.

use super::super::super::*;
use super::{DATABASES, Event, HOLD_TIMEOUT, HOSTS, World};

impl World {
    /// Whatever was broken is mended, somebody leads, and nobody wants anything.
    pub(in super::super) fn heal(&mut self) {
        if self.keeper.is_stopping() {
            self.happens(Event::NewProgram);
        }
        self.happens(Event::EtcdIsBack);
        self.happens(Event::CoordinatorIsBack);
        for host in HOSTS {
            self.happens(Event::Heal(host));
        }
        for database in DATABASES {
            self.happens(Event::Mend(database));
            self.happens(Event::Connect(database));
        }
        self.happens(Event::Withdraw);
        for host in HOSTS {
            self.happens(Event::Start(host));
        }
        // Who may lead leads, and the others follow.
        for host in HOSTS {
            self.happens(Event::Promote(host));
        }
        self.happens(Event::PromotionEnds);
        for host in HOSTS {
            self.happens(Event::Rewind(host));
        }
        self.happens(Event::CatchUp);
        self.everybody_answers();
        if self.keeper.is_asked() {
            self.happens(Event::Wait(HOLD_TIMEOUT));
            self.everybody_answers();
        }
    }

    /// Rows are the leader's, nothing is held, and there is nothing left to do.
    pub(in super::super) fn assert_settled(&mut self) {
        let leader = self.primary().expect("the world is healthy");
        for database in DATABASES {
            assert_eq!(self.row_of(database), leader, "{database}: {self:#?}");
            assert_eq!(self.held(database), Held::No, "{database}: {self:#?}");
        }
        let decision = self.decide();
        assert_eq!(decision.rule, Rule::Settled, "{decision:#?}: {self:#?}");
        assert_eq!(self.deadline(), None, "a hold still stands: {self:#?}");
    }

    /// Where a standby could serve reads that have nowhere to go, it does: whoever has to be asked
    /// was asked, and nothing else is waited for. Everybody has answered, and replayed what it has.
    pub(in super::super) fn assert_reads_are_served(&self) {
        if !self.may_move_reads() {
            return;
        }
        let Some(sync) = self.etcd.sync.as_ref().map(|sync| &sync.value) else {
            return;
        };
        let ready = |name: &String| {
            let Some(server) = self.servers.get(name.as_str()) else {
                return false;
            };
            server.is_up()
                && !server.is_primary()
                && !server.cut_from_us
                && server.received.is_some()
                && server.replayed == server.log.len()
        };
        if sync.standbys.is_empty() || !sync.standbys.iter().all(ready) {
            return;
        }
        for name in DATABASES {
            let database = &self.databases[name];
            let at = self.row_of(name);
            let server = &self.servers[at];
            if !database.connected || database.failing || sync.leader.as_deref() != Some(at) {
                continue;
            }
            assert!(
                server.is_up() || server.cut_from_us,
                "reads of {name} stay at {at}, which is down: {self:#?}"
            );
            let held = matches!(database.held, Held::Yes { .. });
            let answers = server.is_primary() && !server.cut_from_us;
            let leads = self.key_holder() == Some(at);
            let is_there = |name: &String| self.servers[name.as_str()].log == server.log;
            let waits = held && answers && leads && sync.standbys.iter().any(is_there);
            assert!(
                !waits,
                "reads of {name} stay at {at}, which is about to stop: {self:#?}"
            );
        }
    }

    fn may_move_reads(&self) -> bool {
        self.liberties.read_move
            && !self.etcd_is_silent
            && self.coordinator_is_up
            && self.keeper.trusts(self.etcd.lineage)
            && !self.keeper.is_stopping()
            && HOSTS
                .iter()
                .all(|host| self.etcd.members.contains_key(*host))
    }
}
