//! What Patroni does in the model: who leads, who is synchronous, and what it writes down.

use std::collections::BTreeSet;

use dcs_watch::{Role, SyncState};

use super::super::builders::{Story, versioned};
use super::server::{Entry, lsn};
use super::{HOSTS, Synchronous, World};

impl World {
    fn next_revision(&mut self) -> i64 {
        self.revision += 1;
        self.revision
    }

    /// Every member that is up writes down what it is.
    pub(super) fn describe_members(&mut self) {
        for host in HOSTS {
            let server = &self.servers[host];
            if !server.is_up() {
                continue;
            }
            let member = self.etcd.members.entry(host.to_owned());
            let member = member.or_insert_with(|| Story::new().view.members[host].clone());
            member.value.role = if server.is_primary() {
                Role::Primary
            } else {
                Role::Replica
            };
            member.value.timeline = server.timeline();
        }
    }

    /// Who leads by etcd.
    pub(super) fn key_holder(&self) -> Option<&'static str> {
        self.host_of(&self.etcd.leader.as_ref()?.value)
    }

    pub(super) fn write_sync(&mut self, standbys: &[&str]) {
        let Some(leader) = self.key_holder() else {
            return;
        };
        let quorum = match self.synchronous {
            Synchronous::Off => return,
            Synchronous::On => 0,
            // Of two standbys one will do, so a failover has to look at both.
            Synchronous::Quorum => u32::from(standbys.len() > 1),
        };
        let sync = SyncState {
            leader: Some(leader.to_owned()),
            standbys: standbys.iter().map(|name| (*name).to_owned()).collect(),
            quorum,
        };
        self.etcd.sync = Some(versioned(sync, self.revision));
    }

    /// The leader's Patroni looks at who streams: those become, or stay, synchronous.
    pub(super) fn look_for_standbys(&mut self, wanted: u32) {
        let Some(leader) = self
            .key_holder()
            .filter(|host| self.servers[host].is_primary())
        else {
            return;
        };
        let primary = &self.servers[leader];
        let streams = |host: &&str| {
            let server = &self.servers[host];
            server.is_up() && server.log == primary.log && server.received == Some(server.log.len())
        };
        let chosen = (0..)
            .zip(HOSTS)
            .filter(|(place, _)| wanted >> place & 1 == 1);
        let standbys: Vec<&str> = chosen
            .map(|(_, host)| host)
            .filter(|host| *host != leader)
            .filter(streams)
            .collect();
        self.write_sync(&standbys);
    }

    /// A leader that is not there loses its key in the end.
    pub(super) fn leader_key_expires(&mut self) {
        if self
            .key_holder()
            .is_some_and(|host| !self.servers[host].is_primary())
        {
            self.etcd.leader = None;
        }
    }

    /// A member that is not there loses its key as well.
    pub(super) fn member_key_expires(&mut self, host: &str) {
        if !self.servers[host].is_up() {
            self.etcd.members.remove(host);
        }
    }

    /// The leader's Patroni writes down how far it is.
    pub(super) fn heartbeat(&mut self) {
        if let Some(primary) = self.primary() {
            self.etcd.last_position = Some(lsn(self.servers[primary].log.len()));
        }
    }

    /// The leader stops in good order because it was asked to leave, and gives its key back.
    pub(super) fn leader_leaves(&mut self) {
        let Some(leader) = self
            .key_holder()
            .filter(|host| self.servers[host].is_primary())
        else {
            return;
        };
        let Some(request) = &self.etcd.failover else {
            return;
        };
        let request = &request.value;
        let stays = request.candidate.as_deref() == Some(leader)
            || (request.leader.is_none() && request.candidate.is_none())
            || request.leader.as_ref().is_some_and(|name| name != leader);
        if stays {
            return;
        }
        // Whoever streams gets all of it before the server ends.
        let primary = self.servers[leader].clone();
        for (host, server) in &mut self.servers {
            if *host != leader && server.received.is_some() {
                server.stream(&primary, primary.log.len());
            }
        }
        self.acknowledge();
        self.crash(leader);
        self.etcd.leader = None;
    }

    /// A standby takes the leader key, if Patroni would let it.
    pub(super) fn promote(&mut self, host: &'static str) {
        let server = &self.servers[host];
        if self.etcd.leader.is_some() || !server.is_up() || server.is_primary() {
            return;
        }
        if let Some(sync) = &self.etcd.sync {
            let sync = &sync.value;
            let knows = sync.leader.as_deref() == Some(host)
                || sync.standbys.iter().any(|name| name == host);
            if !knows || !self.has_everything_acknowledged(host) {
                return;
            }
        }
        let revision = self.next_revision();
        self.etcd.leader = Some(versioned(host.to_owned(), revision));
        self.write_sync(&[]);
        // Without synchronous standbys Patroni itself loses what this one does not have.
        let log = &self.servers[host].log;
        let here = |id: &u32| {
            let is_it = |entry: &Entry| matches!(entry, Entry::Write { id: own, .. } if own == id);
            log.iter().any(is_it)
        };
        let (kept, lost): (BTreeSet<u32>, BTreeSet<u32>) =
            self.acknowledged.iter().partition(|id| here(id));
        self.acknowledged = kept;
        assert!(
            lost.is_empty() || self.synchronous == Synchronous::Off,
            "the world's Patroni lost {lost:?}"
        );
    }

    /// One step towards a scope that is well: somebody leads, whoever was asked to leave leaves,
    /// and the others follow.
    pub(super) fn patroni_goes_on(&mut self) {
        let Some(leader) = self.key_holder() else {
            for host in HOSTS {
                self.promote(host);
            }
            if self.etcd.leader.is_none() {
                for host in HOSTS {
                    self.start(host);
                }
            }
            return;
        };
        if !self.servers[leader].is_up() {
            self.start(leader);
        } else if !self.servers[leader].is_primary() {
            self.promotion_ends();
        } else if self.etcd.failover.is_some() {
            self.leader_leaves();
            self.etcd.failover = None;
        } else {
            for host in HOSTS {
                self.start(host);
                self.rewind(host);
            }
            self.look_for_standbys(u32::MAX);
        }
    }

    fn has_everything_acknowledged(&self, host: &str) -> bool {
        let log = &self.servers[host].log;
        self.acknowledged.iter().all(|id| {
            let is_it = |entry: &Entry| matches!(entry, Entry::Write { id: own, .. } if own == id);
            log.iter().any(is_it)
        })
    }

    /// The holder of the leader key takes writes.
    pub(super) fn promotion_ends(&mut self) {
        let Some(host) = self.key_holder() else {
            return;
        };
        if self.servers[host].is_primary() || !self.servers[host].is_up() {
            return;
        }
        let timeline = u32::try_from(self.next_revision()).expect("a small number");
        let server = self.servers.get_mut(host).expect("a server");
        server.end_promotion(timeline);
        self.last_primary = host;
        // No session closes: whoever wants to know has to ask.
    }

    pub(super) fn crash(&mut self, host: &'static str) {
        let server = self.servers.get_mut(host).expect("a server");
        if server.is_up() {
            server.crash();
            self.session_closes(host);
        }
    }

    /// Patroni starts a PostgreSQL that is down: as what it was while its key is there, else as
    /// a standby.
    pub(super) fn start(&mut self, host: &'static str) {
        if self.servers[host].is_up() {
            return;
        }
        let leads = self.key_holder() == Some(host);
        self.servers.get_mut(host).expect("a server").start(leads);
        self.session_opens(host);
    }

    /// A member whose log parted from the leader's is made to follow.
    pub(super) fn rewind(&mut self, host: &'static str) {
        let Some(primary) = self.primary().filter(|primary| *primary != host) else {
            return;
        };
        let primary = self.servers[primary].clone();
        let server = self.servers.get_mut(host).expect("a server");
        if server.follows(&primary) {
            return;
        }
        server.rewind(&primary);
        self.session_closes(host);
        self.session_opens(host);
    }

    pub(super) fn stream(&mut self, host: &'static str, entries: usize) {
        let Some(primary) = self.primary().filter(|primary| *primary != host) else {
            return;
        };
        let primary = self.servers[primary].clone();
        let server = self.servers.get_mut(host).expect("a server");
        server.stream(&primary, entries);
    }

    /// Whether a member had to receive whatever was acknowledged.
    pub(super) fn was_synchronous(&self, host: &str) -> bool {
        (self.etcd.sync.as_ref())
            .is_some_and(|sync| sync.value.standbys.iter().any(|name| name == host))
    }

    /// Whether the coordinator reaches a member.
    pub(super) fn coordinator_reaches(&self, host: &str) -> bool {
        let server = &self.servers[host];
        server.is_up() && !server.cut_from_coordinator
    }

    pub(super) fn is_lost_to_us(&self, host: &str) -> bool {
        let server = &self.servers[host];
        !server.is_up() || server.cut_from_us
    }
}
