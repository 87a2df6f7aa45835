//! Which scope serves which worker group: listed, discovered by name, or found by the addresses of
//! its members.
//!
//! Pure: names and views enter, an assignment and the reasons for its gaps leave.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dcs_watch::key::ScopeId;
use dcs_watch::value::HostPort;
use dcs_watch::view::ScopeView;
use regex::Regex;

/// The greatest `groupid` that Citus can store: the column is an `integer`.
pub(super) const MAX_GROUP: u32 = i32::MAX.unsigned_abs();

/// How the worker scopes of a formation are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workers {
    /// Named one by one.
    Listed(BTreeMap<u32, ScopeId>),
    /// Every scope whose name matches; new ones join without a restart.
    Discovered(Discover),
    /// Known only by addresses, as in the section of Patroni's file that this project takes over:
    /// the scope is the one with a member at one of them.
    AtNodes(BTreeMap<u32, Vec<HostPort>>),
}

/// A regular expression over scope names whose group named `group` yields the Citus group.
#[derive(Debug, Clone)]
pub struct Discover(Regex);

/// Why a pattern cannot serve to discover worker scopes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    /// The pattern is no regular expression.
    #[error("{0}")]
    Syntax(String),
    /// The pattern has no group named `group`.
    #[error("the pattern has no group named `group`")]
    NoGroup,
}

impl Discover {
    /// Compiles `pattern`.
    pub fn new(pattern: &str) -> Result<Self, DiscoverError> {
        let regex = Regex::new(pattern).map_err(|e| {
            // regex draws the pattern over several lines; its last line says what is wrong.
            let text = e.to_string();
            let last = text.lines().last().unwrap_or_default();
            DiscoverError::Syntax(last.trim_start_matches("error: ").to_owned())
        })?;
        if regex.capture_names().flatten().any(|name| name == "group") {
            Ok(Self(regex))
        } else {
            Err(DiscoverError::NoGroup)
        }
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> &str {
        self.0.as_str()
    }

    /// The worker group that `scope`'s name stands for. `None` when the name does not match, when
    /// what matched is no number, and for group 0, which is the coordinator's.
    pub fn group_of(&self, scope: &ScopeId) -> Option<u32> {
        let name = scope.path();
        let group: u32 = self
            .0
            .captures(&name)?
            .name("group")?
            .as_str()
            .parse()
            .ok()?;
        (1..=MAX_GROUP).contains(&group).then_some(group)
    }
}

impl PartialEq for Discover {
    fn eq(&self, other: &Self) -> bool {
        self.pattern() == other.pattern()
    }
}

impl Eq for Discover {}

/// A worker group that has no scope, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The Citus group.
    pub group: u32,
    /// Why no scope could be given to it.
    pub reason: Reason,
}

/// Why a worker group has no scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// No scope has a member at any of these addresses.
    NoMember(Vec<HostPort>),
    /// More than one scope could be meant.
    Ambiguous(BTreeSet<ScopeId>),
    /// The one scope that could be meant serves other groups as well.
    Shared {
        /// The scope.
        scope: ScopeId,
        /// The other groups that lead to it.
        others: BTreeSet<u32>,
    },
    /// The one scope that could be meant is the coordinator's.
    Coordinator(ScopeId),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = self.group;
        match &self.reason {
            Reason::NoMember(nodes) => write!(
                f,
                "group {group}: no Patroni scope has a member at {}; start Patroni there, or name \
                 the scope under `workers` of a native file",
                list(nodes, "or")
            ),
            Reason::Ambiguous(scopes) => write!(
                f,
                "group {group}: the scopes {} could all be meant; name the right one under \
                 `workers` of a native file",
                list(scopes, "and")
            ),
            Reason::Shared { scope, others } => write!(
                f,
                "group {group}: its addresses lead to scope {scope}, and so do those of group {}; \
                 a scope serves one group",
                list(others, "and")
            ),
            Reason::Coordinator(scope) => write!(
                f,
                "group {group}: its addresses lead to scope {scope}, which is the coordinator's"
            ),
        }
    }
}

fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>, last: &str) -> String {
    let mut words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match words.pop() {
        None => String::new(),
        Some(word) if words.is_empty() => word,
        Some(word) => format!("{} {last} {word}", words.join(", ")),
    }
}

impl Workers {
    /// Gives each group its scope, as far as `views` tell; groups without one come with a reason.
    ///
    /// `Listed` needs no views. Scopes that are gone from etcd are not counted.
    pub fn resolve<'a>(
        &self,
        views: impl Iterator<Item = &'a ScopeView>,
    ) -> (BTreeMap<u32, ScopeId>, Vec<Unresolved>) {
        let mut found: BTreeMap<u32, BTreeSet<ScopeId>> = BTreeMap::new();
        match self {
            Self::Listed(listed) => return (listed.clone(), Vec::new()),
            Self::Discovered(discover) => {
                for view in views.filter(|view| view.exists()) {
                    if let Some(group) = discover.group_of(&view.scope) {
                        found.entry(group).or_default().insert(view.scope.clone());
                    }
                }
            }
            Self::AtNodes(groups) => {
                found.extend(groups.keys().map(|group| (*group, BTreeSet::new())));
                for view in views {
                    for (group, nodes) in groups {
                        if nodes.iter().any(|node| lives_at(view, node)) {
                            found.entry(*group).or_default().insert(view.scope.clone());
                        }
                    }
                }
            }
        }
        self.assign(&found)
    }

    /// The scope of each group, where exactly one was found that no other group has.
    fn assign(
        &self,
        found: &BTreeMap<u32, BTreeSet<ScopeId>>,
    ) -> (BTreeMap<u32, ScopeId>, Vec<Unresolved>) {
        let mut resolved = BTreeMap::new();
        let mut unresolved = Vec::new();
        for (&group, scopes) in found {
            let mut scopes_iter = scopes.iter();
            let reason = match (scopes_iter.next(), scopes_iter.next()) {
                (None, _) => Reason::NoMember(self.nodes_of(group)),
                (Some(_), Some(_)) => Reason::Ambiguous(scopes.clone()),
                (Some(scope), None) => {
                    let others: BTreeSet<u32> = found
                        .iter()
                        .filter(|(other, theirs)| **other != group && theirs.contains(scope))
                        .map(|(other, _)| *other)
                        .collect();
                    if others.is_empty() {
                        resolved.insert(group, scope.clone());
                        continue;
                    }
                    Reason::Shared {
                        scope: scope.clone(),
                        others,
                    }
                }
            };
            unresolved.push(Unresolved { group, reason });
        }
        (resolved, unresolved)
    }

    fn nodes_of(&self, group: u32) -> Vec<HostPort> {
        match self {
            Self::AtNodes(groups) => groups.get(&group).cloned().unwrap_or_default(),
            Self::Listed(_) | Self::Discovered(_) => Vec::new(),
        }
    }
}

fn lives_at(view: &ScopeView, node: &HostPort) -> bool {
    view.members
        .values()
        .filter_map(|member| member.value.address.as_ref())
        .any(|address| address == node)
}
