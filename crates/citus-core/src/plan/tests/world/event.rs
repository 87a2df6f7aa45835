//! What can happen, each thing whenever it may.

use std::time::Duration;

use dcs_watch::{FailoverRequest, Freshness};

use super::super::super::Held;
use super::super::builders::versioned;
use super::{DATABASES, HOSTS, World};

type Host = &'static str;

/// More entries than any log has.
const FAR: usize = 1_000_000;

#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Event {
    // Clients and the logs.
    Write(usize),
    Stream(Host, usize),
    Replay(Host, usize),
    /// All standbys do both for as long as there is something.
    CatchUp,
    // PostgreSQL and Patroni.
    Crash(Host),
    Start(Host),
    Rewind(Host),
    LeaderKeyExpires,
    MemberKeyExpires(Host),
    LeaderLeaves,
    /// The next thing that Patroni would do by itself.
    PatroniGoesOn,
    Promote(Host),
    PromotionEnds,
    /// Which of the three may be synchronous.
    LookForStandbys(u32),
    Heartbeat,
    // People.
    Request {
        leaving: Option<Host>,
        candidate: Option<Host>,
        /// Milliseconds from now.
        at: Option<u64>,
    },
    /// Whoever leads is asked to leave, now.
    Switchover(Option<Host>),
    Withdraw,
    AskForHold,
    Release,
    /// Time passes.
    Wait(u64),
    // What we are told.
    Answer(Host),
    /// All of them, the coordinator too, and what is under way ends well.
    EverybodyAnswers,
    CoordinatorSays(Host),
    // The network.
    CutFromUs(Host),
    CutFromCoordinator(Host),
    Heal(Host),
    EtcdIsSilent,
    EtcdIsBack,
    /// Its history is not the one we knew.
    EtcdIsRestored,
    // The coordinator; the last change of its rows may be lost with it.
    CoordinatorIsLost {
        forgets: bool,
    },
    CoordinatorIsBack,
    LocksCome(Host),
    LocksFail(Host),
    HoldIsLost(Host),
    Break(Host),
    Mend(Host),
    Disconnect(Host),
    Connect(Host),
    // This program.
    Stop,
    NewProgram,
}

impl World {
    pub(super) fn apply(&mut self, event: Event) {
        match event {
            Event::Write(database) => self.write(database),
            Event::Stream(host, entries) => self.stream(host, entries),
            Event::Replay(host, entries) => {
                // Whoever is being promoted replays what it has; it is not yet writable.
                self.server(host).replay(entries);
            }
            Event::CatchUp => {
                for host in HOSTS {
                    self.server(host).replay(FAR);
                    // To ask for the log, and to get it.
                    self.stream(host, FAR);
                    self.stream(host, FAR);
                    self.server(host).replay(FAR);
                }
            }
            Event::Crash(host) => self.crash(host),
            Event::Start(host) => self.start(host),
            Event::Rewind(host) => self.rewind(host),
            Event::LeaderKeyExpires => self.leader_key_expires(),
            Event::MemberKeyExpires(host) => self.member_key_expires(host),
            Event::LeaderLeaves => self.leader_leaves(),
            Event::PatroniGoesOn => self.patroni_goes_on(),
            Event::Promote(host) => self.promote(host),
            Event::PromotionEnds => self.promotion_ends(),
            Event::LookForStandbys(wanted) => self.look_for_standbys(wanted),
            Event::Heartbeat => self.heartbeat(),
            Event::Request {
                leaving,
                candidate,
                at,
            } => self.request(leaving, candidate, at),
            Event::Switchover(candidate) => {
                if let Some(leader) = self.key_holder() {
                    self.request(Some(leader), candidate, None);
                }
            }
            Event::Withdraw => self.etcd.failover = None,
            Event::AskForHold => self.ask_for_hold(),
            Event::Release => self.release_by_hand(),
            Event::Wait(milliseconds) => self.clock += milliseconds,
            Event::Answer(host) => self.member_answers(host),
            Event::EverybodyAnswers => {
                for host in HOSTS {
                    self.member_answers(host);
                    self.coordinator_says(host);
                }
                for database in DATABASES {
                    self.locks_come(database);
                }
            }
            Event::CoordinatorSays(host) => self.coordinator_says(host),
            Event::CutFromUs(host) => {
                self.server(host).cut_from_us = true;
                self.session_closes(host);
            }
            Event::CutFromCoordinator(host) => self.server(host).cut_from_coordinator = true,
            Event::Heal(host) => {
                let server = self.server(host);
                server.cut_from_coordinator = false;
                let was_cut = std::mem::take(&mut server.cut_from_us);
                if was_cut {
                    self.session_opens(host);
                }
                self.coordinator_reaches_again(host);
            }
            Event::EtcdIsSilent => self.etcd_is_silent = true,
            Event::EtcdIsBack => self.etcd_is_silent = false,
            Event::EtcdIsRestored => self.etcd.lineage += 1,
            Event::CoordinatorIsLost { forgets } => self.lose_coordinator(forgets),
            Event::CoordinatorIsBack => {
                if !self.coordinator_is_up {
                    self.coordinator_is_up = true;
                    for database in self.databases.values_mut() {
                        database.connected = true;
                    }
                }
            }
            Event::LocksCome(database) => self.locks_come(database),
            Event::LocksFail(database) => self.locks_fail(database),
            Event::HoldIsLost(database) => {
                let database = self.database(database);
                if matches!(database.held, Held::Yes { .. }) {
                    database.held = Held::No;
                }
            }
            Event::Break(database) => self.database(database).failing = true,
            Event::Mend(database) => self.database(database).failing = false,
            Event::Disconnect(database) => self.database(database).connected = false,
            Event::Connect(database) => {
                let up = self.coordinator_is_up;
                self.database(database).connected = up;
            }
            Event::Stop => self.keeper.stop(),
            Event::NewProgram => self.new_program(),
        }
        self.describe_members();
        self.tell_view();
    }

    pub(super) fn server(&mut self, host: Host) -> &mut super::Server {
        self.servers.get_mut(host).expect("a server")
    }

    pub(super) fn database(&mut self, name: &str) -> &mut super::Database {
        self.databases.get_mut(name).expect("a database")
    }

    fn request(&mut self, leaving: Option<Host>, candidate: Option<Host>, at: Option<u64>) {
        self.revision += 1;
        let request = FailoverRequest {
            leader: leaving.map(str::to_owned),
            candidate: candidate.map(str::to_owned),
            scheduled_at: at.map(|at| self.now() + Duration::from_millis(at)),
        };
        self.etcd.failover = Some(versioned(request, self.revision));
    }

    fn lose_coordinator(&mut self, forgets: bool) {
        self.coordinator_is_up = false;
        for database in self.databases.values_mut() {
            database.connected = false;
            database.held = Held::No;
            // A plain update does not wait for the disk.
            if let Some(before) = database.before.take().filter(|_| forgets) {
                database.rows = before;
            }
        }
    }

    /// What etcd says reaches us, unless it is silent.
    fn tell_view(&mut self) {
        if self.etcd_is_silent {
            let reason = "silent".to_owned();
            self.keeper.view_is(Freshness::Stale { reason }, None);
        } else {
            self.keeper.view_is(Freshness::Fresh, Some(&self.etcd));
        }
    }
}
