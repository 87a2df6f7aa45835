//! Carries a step out on the model's rows, and holds it against the truth of the world.

use dcs_watch::HostPort;

use super::super::super::*;
use super::super::random::carried_out;
use super::server::{Entry, lsn};
use super::{DATABASES, Synchronous, World};

impl World {
    pub(super) fn carry_out(&mut self, name: &'static str, step: &Step) {
        let database = &self.databases[name];
        if !matches!(step, Step::LetGo) {
            assert!(!self.etcd_is_silent, "rule 5: {step} on a stale view");
            assert!(database.connected, "rule 8: {step} in an unknown database");
        }
        let held = database.held;
        match step {
            Step::Settled | Step::Wait(_) => {}
            Step::Register(_) | Step::Repair(_) => panic!("nothing here needs {step}"),
            Step::Hold(taken) => self.take_hold(name, taken),
            Step::LetGo => {
                assert_ne!(held, Held::No, "lets go of nothing");
                self.database(name).held = Held::No;
            }
            Step::Resync(resync) => {
                assert_eq!(held, Held::No, "a resync would wait for our own hold");
                assert_eq!(self.row_of(name), resync.address.host);
                if !self.fails(name) {
                    self.keeper.owes_resync.remove(name);
                }
            }
            Step::Move(moved) => {
                assert_ne!(held, Held::Taking, "a move beside our own hold");
                assert!(
                    self.takes_writes(&moved.to),
                    "rule 1: {step}, which takes no writes"
                );
                self.update(name, step);
                // The locks are gone with the transaction, whatever became of it.
                self.database(name).held = Held::No;
            }
            Step::ReadMove(moved) => {
                assert_ne!(held, Held::Taking, "a read move beside our own hold");
                if !self.takes_writes(&moved.to) {
                    assert!(self.liberties.read_move, "{step} against the policy");
                    self.assert_it_has_everything(name, moved);
                }
                self.update(name, step);
            }
        }
    }

    fn take_hold(&mut self, name: &'static str, hold: &Hold) {
        assert_eq!(self.databases[name].held, Held::No, "held twice");
        let until = self.keeper.stand(hold.reason, self.clock);
        assert!(self.clock < until, "rule 2: a hold after the deadline");
        let over = match hold.reason {
            // Somebody wanted something, once.
            Reason::Request { .. } | Reason::Asked { .. } => &self.keeper.ever_given_up,
            // A leader may be lost again once its group was settled.
            Reason::Promotion { .. } | Reason::Loss { .. } => &self.keeper.given_up,
        };
        assert!(
            !over.contains(&hold.reason),
            "rule 2: held again for {:?}",
            hold.reason
        );
        if !self.fails(name) {
            self.database(name).held = Held::Taking;
        }
    }

    pub(super) fn locks_come(&mut self, name: &'static str) {
        if self.databases[name].held == Held::Taking {
            self.keeper.round += 1;
            let round = self.keeper.round;
            self.database(name).held = Held::Yes { round };
        }
    }

    pub(super) fn locks_fail(&mut self, name: &'static str) {
        if self.databases[name].held == Held::Taking {
            self.database(name).held = Held::No;
            self.keeper.pauses.insert(name);
        }
    }

    /// Whether a statement fails now; it is not tried again before something happens.
    fn fails(&mut self, name: &'static str) -> bool {
        let fails = self.databases[name].failing;
        if fails {
            self.keeper.pauses.insert(name);
        }
        fails
    }

    fn update(&mut self, name: &'static str, step: &Step) {
        if self.fails(name) {
            return;
        }
        let database = self.database(name);
        let after = carried_out(&database.rows, step);
        database.before = Some(std::mem::replace(&mut database.rows, after));
        self.keeper.owes_resync.insert(name);
    }

    fn takes_writes(&self, address: &HostPort) -> bool {
        let server = &self.servers[address.host.as_str()];
        server.is_up() && server.is_primary() && !server.cut_from_us
    }

    /// Rule 1b, from the logs themselves: whoever reads there sees what it saw before.
    fn assert_it_has_everything(&self, name: &str, moved: &Move) {
        let (from, to) = (moved.from.host.as_str(), moved.to.host.as_str());
        let standby = &self.servers[to];
        assert!(
            standby.is_up() && !standby.cut_from_us,
            "reads go to nobody"
        );
        let replayed = &standby.log[..standby.replayed];
        let history = &self.servers[self.last_primary].log;
        assert!(
            history.starts_with(replayed) || replayed.starts_with(history),
            "rule 1: {to} shows what never happened: {self:#?}"
        );
        let source = &self.servers[from];
        if source.is_up() && source.is_primary() && !source.cut_from_us {
            // In a hold: what the leader shows is what the standby shows.
            let held = self.databases[name].held;
            assert!(
                matches!(held, Held::Yes { .. }),
                "reads leave a living leader"
            );
            let lacks = missing(name, &source.log, replayed);
            assert!(lacks.is_empty(), "rule 1: {to} lacks {lacks:?} of {from}");
            return;
        }
        assert!(
            !self.coordinator_reaches(from),
            "reads leave {from}, which clients can reach"
        );
        let lacks = missing(name, history, replayed);
        let known = self.etcd.last_position.unwrap_or_default();
        let lag = known.0.saturating_sub(lsn(standby.replayed).0);
        match self.liberties.max_lag {
            _ if !lacks.iter().any(|id| self.acknowledged.contains(id)) => {}
            // What it may lack is measured by what can be known. Of too few voters each is as good
            // as an asynchronous standby.
            Some(max_lag)
                if self.synchronous == Synchronous::Quorum || !self.was_synchronous(to) =>
            {
                assert!(lag <= max_lag, "rule 1: {to} is {lag} bytes behind");
            }
            _ => {
                panic!("rule 1: {to} lacks {lacks:?}, which somebody was told is there: {self:#?}")
            }
        }
    }
}

/// Writes to this database that are in one log and not in the other.
fn missing(name: &str, log: &[Entry], replayed: &[Entry]) -> Vec<u32> {
    let own = DATABASES.iter().position(|own| *own == name);
    let writes = log.iter().filter_map(|entry| match entry {
        Entry::Write { database, id } if Some(*database) == own => Some((*id, entry)),
        _ => None,
    });
    let missing = writes.filter(|(_, entry)| !replayed.contains(entry));
    missing.map(|(id, _)| id).collect()
}
