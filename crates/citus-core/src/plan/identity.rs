//! Whether a server is what its address is taken for: of the scope's database cluster, with the
//! group's shards, and not behind the server at which the row points.
//!
//! A leader key names a member, and a member key an address. What answers there may be anything: the
//! server of another cluster that was given the address, a copy that was restored from a backup, or
//! an empty cluster that was made under an old name.

use dcs_watch::{HostPort, SystemId};

use super::{
    COORDINATOR_GROUP, Identity, KnownCluster, Probe, ProbeState, Row, Rows, Situation, Unproven,
    Wait,
};

/// Whether two identifiers are known and differ.
fn differ(one: Option<SystemId>, other: Option<SystemId>) -> bool {
    one.is_some() && other.is_some() && one != other
}

impl Situation<'_> {
    /// The system identifier that the server of an answer has, and that of the scope's cluster, where
    /// both are known and differ.
    pub fn of_another_cluster(&self, probe: &Probe) -> Option<(SystemId, SystemId)> {
        let found = probe.identity.system?;
        let expected = self.view.system.as_ref()?.value;
        (found != expected).then_some((found, expected))
    }

    /// Whether a standby's answer comes from a server of the leader's cluster, as far as is known.
    pub(super) fn may_stand_by(&self, probe: &Probe) -> bool {
        let leader = self.leader_probe();
        let leader = leader.and_then(|leader| leader.identity.system);
        self.of_another_cluster(probe).is_none() && !differ(leader, probe.identity.system)
    }

    /// When the scope was made, as far as etcd tells.
    fn created(&self) -> Option<i64> {
        self.view
            .system
            .as_ref()
            .map(|system| system.create_revision)
    }

    /// The cluster of the leader with which the group is in sync now.
    pub fn cluster_in_sync(&self) -> KnownCluster {
        let leader = self.leader_probe();
        KnownCluster {
            system: leader.and_then(|leader| leader.identity.system),
            created: self.created(),
        }
    }

    /// Whether the group was never found in sync, or its scope was made anew since.
    fn is_new_to_us(&self) -> bool {
        (self.known_cluster).is_none_or(|known| known.created != self.created())
    }

    /// Whether the row points at a server that has become one of another cluster since the group was
    /// in sync there.
    pub(super) fn became_another_cluster(&self, identity: Identity) -> bool {
        (self.known_cluster).is_some_and(|known| differ(known.system, identity.system))
    }

    /// Whether the server is known to have the group's shards in this database: it is of the cluster
    /// that had them when the group was last in sync, or they were counted there.
    pub(super) fn has_the_shards(
        &self,
        database: &str,
        address: &HostPort,
        identity: Identity,
    ) -> Result<(), Box<Unproven>> {
        // The coordinator's own metadata is what the shards are counted by.
        let is_known = !self.is_new_to_us() && !self.became_another_cluster(identity);
        if self.group == COORDINATOR_GROUP || is_known {
            return Ok(());
        }
        let address = address.clone();
        match self.shards.get(&(database.to_owned(), address.clone())) {
            None => Err(Box::new(Unproven::NotCounted {
                address,
                error: None,
            })),
            Some(Err(error)) => Err(Box::new(Unproven::NotCounted {
                address,
                error: Some(error.clone()),
            })),
            Some(Ok(count)) => {
                let at_row = self.row_of(database).and_then(|row| self.answers.get(row));
                let known = self.known_cluster.and_then(|known| known.system);
                let known = known.or_else(|| at_row?.identity.system);
                count.judge(self.group, &address, identity.system, known)
            }
        }
    }

    /// Whether the group's row may go to its leader in this database, for all that is known of who
    /// answers there: the server of the scope's cluster, with the group's shards, and not behind the
    /// one at the row.
    ///
    /// # Errors
    ///
    /// Why not, or what has still to be asked.
    pub fn may_follow(&self, database: &str) -> Result<(), Wait> {
        let (Some(leader), Some(Rows::Known(rows))) =
            (self.leader_probe(), self.rows.get(database))
        else {
            return Err(Wait::ViewUnknown);
        };
        let address = leader.address.clone();
        if let Some((found, expected)) = self.of_another_cluster(leader) {
            return Err(Wait::ForeignServer {
                address,
                found,
                expected,
            });
        }
        let own = |row: &&Row| row.groupid == self.group && row.is_primary();
        if let Some(primary) = rows.iter().find(own) {
            self.row_gives_way(primary)?;
        }
        let shards = self.has_the_shards(database, &address, leader.identity);
        shards.map_err(Wait::Unproven)
    }

    /// Older news never overwrites newer, when nothing is remembered that the leader key could be
    /// compared with: the member at which the row points is asked first. While that takes writes as a
    /// primary of the same cluster, the row moves only to a leader that is ahead of it.
    pub(super) fn row_gives_way(&self, primary: &Row) -> Result<(), Wait> {
        let remembered = self.trusted_lineage.is_some() && !self.is_new_to_us();
        if remembered || primary.is_temporary() {
            return Ok(());
        }
        let address = primary.address.clone();
        let Some(at_row) = self.answers.get(&address) else {
            return Err(Wait::RowNotAsked { address });
        };
        let Some(leader) = self.leader_probe() else {
            return Ok(());
        };
        match at_row.state {
            ProbeState::Unknown => Err(Wait::RowNotAsked { address }),
            ProbeState::InRecovery | ProbeState::Unreachable(_) | ProbeState::Refuses(_) => Ok(()),
            ProbeState::Writable if differ(leader.identity.system, at_row.identity.system) => {
                Ok(())
            }
            // The row names the leader's own host by another name.
            ProbeState::Writable if is_the_same(leader, at_row) => Ok(()),
            ProbeState::Writable if is_ahead(leader, at_row) => Ok(()),
            ProbeState::Writable => Err(Wait::OlderLeader {
                address,
                leader: leader.address.clone(),
                timeline: at_row.identity.timeline,
                leader_timeline: leader.identity.timeline,
            }),
        }
    }
}

/// Whether two answers come from one server: of the same cluster, started at the same microsecond.
fn is_the_same(one: &Probe, other: &Probe) -> bool {
    one.started.is_some() && one.started == other.started
}

/// Whether a leader was promoted after the other server, and has no less of the log. A copy that was
/// restored from a backup is on a later timeline, too, but behind.
fn is_ahead(leader: &Probe, other: &Probe) -> bool {
    let timelines = (leader.identity.timeline, other.identity.timeline);
    let positions = (leader.position.written, other.position.written);
    matches!(timelines, (Some(own), Some(other)) if own > other)
        && matches!(positions, (Some(own), Some(other)) if own >= other)
}
