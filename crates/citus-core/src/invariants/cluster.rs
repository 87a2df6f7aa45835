//! Rules 1 and 4 for who answered: a server of the scope's own database cluster, with the group's
//! shards, and not behind the server that it takes over from.

use dcs_watch::HostPort;

use crate::plan::{COORDINATOR_GROUP, ProbeState, Situation};

/// No server that says to be of another cluster than the scope is anything of the scope's.
pub(super) fn is_of_the_scope(situation: &Situation<'_>, server: &HostPort) -> bool {
    let said = situation.answers.get(server);
    let said = said.and_then(|probe| probe.identity.system);
    let scope = situation.view.system.as_ref().map(|system| system.value);
    said.is_none() || scope.is_none() || said == scope
}

/// The server is of the cluster, and of the scope, that this group was in sync with; or every shard
/// of the group was found there.
pub(super) fn has_the_shards(situation: &Situation<'_>, database: &str, server: &HostPort) -> bool {
    let said = situation.answers.get(server);
    let said = said.and_then(|probe| probe.identity.system);
    let scope = situation.view.system.as_ref();
    let is_known = situation.known_cluster.is_some_and(|known| {
        let same_scope = known.created == scope.map(|system| system.create_revision);
        let contradicts = known
            .system
            .is_some_and(|id| said.is_some_and(|said| said != id));
        same_scope && !contradicts
    });
    if is_known || situation.group == COORDINATOR_GROUP {
        return true;
    }
    let key = (database.to_owned(), server.clone());
    let Some(Ok(count)) = situation.shards.get(&key) else {
        return false;
    };
    // Group 0 is what a worker says that was never told.
    let takes_itself_for_another =
        !matches!(count.serves, None | Some(0)) && count.serves != Some(situation.group);
    count.found >= count.expected && !count.is_coordinator && !takes_itself_for_another
}

/// Without a memory of the group, or of its scope as it is now: the server that the row names was
/// asked, and takes no writes; or it is the leader's own; or it is of another cluster; or the leader is
/// ahead of it.
pub(super) fn gives_way(situation: &Situation<'_>, from: &HostPort, to: &HostPort) -> bool {
    let scope = situation.view.system.as_ref();
    let created = scope.map(|system| system.create_revision);
    let remembers = situation.trusted_lineage.is_some()
        && situation.known_cluster.map(|known| known.created) == Some(created);
    if remembers {
        return true;
    }
    let (Some(old), Some(new)) = (situation.answers.get(from), situation.answers.get(to)) else {
        return false;
    };
    if old.state != ProbeState::Writable {
        return old.state != ProbeState::Unknown;
    }
    let clusters = old.identity.system.zip(new.identity.system);
    let timelines = old.identity.timeline.zip(new.identity.timeline);
    let positions = old.position.written.zip(new.position.written);
    let is_one_server = old.started.is_some_and(|at| new.started == Some(at));
    is_one_server
        || clusters.is_some_and(|(old, new)| old != new)
        || timelines.is_some_and(|(old, new)| old < new)
            && positions.is_some_and(|(old, new)| old <= new)
}
