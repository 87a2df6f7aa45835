//! The coordinator leader that sessions are opened to. In: the view of the coordinator's scope.
//! Out: the member that leads it, or why there is none to speak to.

use dcs_watch::{Freshness, HostPort, ScopeView, SystemId};

/// The coordinator leader as this database's sessions know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The member's name.
    pub member: String,
    /// Where it is.
    pub address: HostPort,
    /// `mod_revision` of the leader key it was verified for.
    pub leader_revision: i64,
    /// The system identifier of its scope, if etcd has one.
    pub system: Option<SystemId>,
}

/// The member that holds the coordinator's leader key, or why there is none to speak to.
pub(super) fn leader_of(view: &ScopeView) -> Result<Server, String> {
    let scope = &view.scope;
    match &view.freshness {
        Freshness::Fresh => {}
        Freshness::Unknown => return Err("nothing was read from etcd yet".to_owned()),
        Freshness::Stale { reason } => return Err(format!("etcd's view is stale ({reason})")),
    }
    if !view.exists() {
        return Err(format!("etcd knows no scope {scope}"));
    }
    let leader = view
        .leader
        .as_ref()
        .ok_or(format!("coordinator scope {scope} has no leader"))?;
    let address = view.leader_address().ok_or(format!(
        "member {} leads {scope}, but its member key has no usable conn_url",
        leader.value
    ))?;
    Ok(Server {
        member: leader.value.clone(),
        address: address.clone(),
        leader_revision: leader.mod_revision,
        system: view.system.as_ref().map(|system| system.value),
    })
}
