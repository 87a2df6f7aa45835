//! What Patroni 2.1 to 4.1 writes under its keys, as types.
//!
//! Enters: raw value bytes. Leaves: a value, or a [`ValueError`] that says in words what was wrong.
//! Nothing in here panics, whatever the bytes are. A value whose top level is wrong is refused; a
//! part of it that is wrong is refused too when a decision hangs on it (an address, a due time),
//! and passed over when none does.
//!
//! The addresses live in [`address`], log positions in [`lsn`].

pub mod address;
pub mod lsn;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use address::HostPort;
pub use lsn::{Lsn, position};

use crate::key::excerpt;

/// A leader's name longer than this is no member name; Patroni's are host names or so.
const LONGEST_NAME: usize = 1024;

/// What was wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(crate) String);

fn wrong<T>(what: impl Into<String>) -> Result<T, ValueError> {
    Err(ValueError(what.into()))
}

/// What a member does in its cluster, in the words of every Patroni version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// `master` before Patroni 4.0, `primary` since.
    Primary,
    /// `promoted`: on its way from replica to primary.
    Promoted,
    /// `demoted`: on its way from primary to replica, or crashed as one.
    Demoted,
    /// `replica`.
    Replica,
    /// `standby_leader`: leads a standby cluster, and is itself in recovery.
    StandbyLeader,
    /// `uninitialized`: no data directory yet.
    Uninitialized,
    /// A word of a Patroni that is not known here, or none at all (empty).
    Other(String),
}

impl Role {
    fn parse(word: &str) -> Self {
        match word {
            "master" | "primary" => Self::Primary,
            "promoted" => Self::Promoted,
            "demoted" => Self::Demoted,
            "replica" => Self::Replica,
            "standby_leader" => Self::StandbyLeader,
            "uninitialized" => Self::Uninitialized,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The word Patroni 4 uses.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Primary => "primary",
            Self::Promoted => "promoted",
            Self::Demoted => "demoted",
            Self::Replica => "replica",
            Self::StandbyLeader => "standby_leader",
            Self::Uninitialized => "uninitialized",
            Self::Other(word) => word,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Role {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a member says of itself. No log positions: they change all the time, are old when they
/// arrive, and a probe asks the member itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "Patroni's tags are independent switches"
)]
pub struct Member {
    /// Where PostgreSQL listens: `conn_url`, else `conn_kwargs`. None when neither says, or says a
    /// socket directory, which no other host can reach.
    pub address: Option<HostPort>,
    /// Patroni's own REST address.
    pub api_url: Option<String>,
    /// Patroni's word for what PostgreSQL does: `running`, `stopping`, `creating replica`, …
    pub state: String,
    /// What it does in the cluster.
    pub role: Role,
    /// Patroni's version.
    pub version: Option<String>,
    /// The timeline it is on.
    pub timeline: Option<u32>,
    /// Tagged to never become leader.
    pub nofailover: bool,
    /// Tagged to never become a synchronous standby.
    pub nosync: bool,
    /// Tagged to get no reads.
    pub noloadbalance: bool,
    /// A changed setting waits for a restart.
    pub pending_restart: bool,
    /// This member has seen that the cluster is paused.
    pub paused: bool,
}

/// The synchronous standbys: members that have every committed transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SyncState {
    /// The leader to which the standbys are synchronous.
    pub leader: Option<String>,
    /// Their names, in Patroni's order.
    pub standbys: Vec<String>,
    /// With quorum commit (Patroni 4.0 on): how many of the standbys a failover must reach. Then
    /// not every standby has every transaction.
    pub quorum: u32,
}

/// A switchover or failover that somebody asked for and that has not happened yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailoverRequest {
    /// The leader that is to step down; `patronictl failover` names none.
    pub leader: Option<String>,
    /// The member that is to take over.
    pub candidate: Option<String>,
    /// When it is due, if not at once.
    #[serde(with = "time::serde::rfc3339::option")]
    pub scheduled_at: Option<OffsetDateTime>,
}

/// The part of Patroni's dynamic configuration that matters to others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "Patroni's settings are independent switches"
)]
pub struct ClusterConfig {
    /// Patroni watches but does not act (`patronictl pause`).
    pub paused: bool,
    /// Commits wait for a synchronous standby (`on` and `quorum` alike).
    pub synchronous_mode: bool,
    /// … and wait for ever when there is none.
    pub synchronous_mode_strict: bool,
    /// `synchronous_mode: quorum` (Patroni 4.0 on).
    pub quorum_commit: bool,
    /// The leader may go on without etcd while all members vouch for it.
    pub failsafe_mode: bool,
    /// The whole scope follows another one: its leader is never writable.
    pub standby_cluster: bool,
    /// How long the leader key outlives its holder.
    pub ttl: Option<Duration>,
    /// How often Patroni looks.
    pub loop_wait: Option<Duration>,
    /// How long Patroni retries etcd and PostgreSQL.
    pub retry_timeout: Option<Duration>,
}

/// The leader key: the name of a member.
pub fn leader(value: &[u8]) -> Result<String, ValueError> {
    let name = text(value)?;
    if name.trim().is_empty() {
        return wrong("the leader key is empty: expected a member's name");
    }
    if name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return wrong(format!("{:?} is not a member's name", excerpt(value)));
    }
    Ok(name.to_owned())
}

/// A member key: JSON, or the connection URL alone as very old Patroni wrote it.
pub fn member(value: &[u8]) -> Result<Member, ValueError> {
    let raw = text(value)?;
    if raw.starts_with("postgres://") || raw.starts_with("postgresql://") {
        let (url, api_url) = address::split_application_name(raw);
        return Ok(Member {
            address: address::from_url(&url)?,
            api_url,
            state: String::new(),
            role: Role::Other(String::new()),
            version: None,
            timeline: None,
            nofailover: false,
            nosync: false,
            noloadbalance: false,
            pending_restart: false,
            paused: false,
        });
    }
    let object = object(raw)?;
    let address = match (get(&object, "conn_url"), get(&object, "conn_kwargs")) {
        (Some(Value::String(url)), _) => address::from_url(url)?,
        (Some(other), _) => {
            return wrong(format!("conn_url: expected text, found {}", kind(other)));
        }
        (None, Some(Value::Object(kwargs))) => address::from_kwargs(kwargs)?,
        (None, Some(other)) => {
            return wrong(format!(
                "conn_kwargs: expected an object, found {}",
                kind(other)
            ));
        }
        (None, None) => None,
    };
    let tags = get(&object, "tags").and_then(Value::as_object);
    let tag = |name: &str| tags.and_then(|tags| get(tags, name));
    let priority_is_zero = |name: &str| {
        tag(name)
            .and_then(integer)
            .is_some_and(|priority| priority <= 0)
    };
    Ok(Member {
        address,
        api_url: string(&object, "api_url"),
        state: string(&object, "state").unwrap_or_default(),
        role: Role::parse(&string(&object, "role").unwrap_or_default()),
        version: string(&object, "version"),
        timeline: get(&object, "timeline")
            .and_then(integer)
            .and_then(|timeline| u32::try_from(timeline).ok()),
        // As in Patroni: the tag decides when it is there, else a priority of zero does.
        nofailover: tag("nofailover").map_or_else(|| priority_is_zero("failover_priority"), truth),
        nosync: tag("nosync").map_or_else(|| priority_is_zero("sync_priority"), truth),
        noloadbalance: tag("noloadbalance").is_some_and(truth),
        pending_restart: get(&object, "pending_restart").is_some_and(truth),
        paused: get(&object, "pause").is_some_and(truth),
    })
}

/// The sync key. An empty one names nobody.
pub fn sync(value: &[u8]) -> Result<SyncState, ValueError> {
    let raw = text(value)?;
    if raw.trim().is_empty() {
        return Ok(SyncState::default());
    }
    let object = object(raw)?;
    let name = |field: &str| match get(&object, field) {
        None => Ok(None),
        Some(Value::String(name)) if name.is_empty() => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.clone())),
        Some(other) => wrong(format!("{field}: expected a name, found {}", kind(other))),
    };
    let leader = name("leader")?;
    let standbys = name("sync_standby")?.map_or_else(Vec::new, |names| {
        names
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    });
    let quorum = match get(&object, "quorum") {
        None => 0,
        Some(number) => match integer(number).and_then(|number| u32::try_from(number).ok()) {
            Some(number) => number,
            // Not zero: that would promise that every standby has everything.
            None => return wrong(format!("quorum: expected a count, found {}", kind(number))),
        },
    };
    // As in Patroni: without a leader the rest means nothing.
    if leader.is_none() {
        return Ok(SyncState::default());
    }
    Ok(SyncState {
        leader,
        standbys,
        quorum,
    })
}

/// The failover key: JSON, or `leader:candidate` as old tools wrote it. None when it asks for
/// nothing (empty, `{}`, `null`), which is how Patroni clears it.
pub fn failover(value: &[u8]) -> Result<Option<FailoverRequest>, ValueError> {
    let raw = text(value)?.trim();
    if raw.is_empty() || raw == "null" {
        return Ok(None);
    }
    if !raw.starts_with(['{', '[', '"']) {
        if raw.chars().any(char::is_control) || raw.parse::<f64>().is_ok() {
            return wrong(format!("{:?} is no failover request", excerpt(value)));
        }
        let (leader, candidate) = raw.split_once(':').unwrap_or((raw, ""));
        let name = |name: &str| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
        return Ok(request(name(leader), name(candidate), None));
    }
    let object = object(raw)?;
    let name = |field: &str| match get(&object, field) {
        None => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.clone()).filter(|name| !name.is_empty())),
        Some(other) => wrong(format!("{field}: expected a name, found {}", kind(other))),
    };
    let scheduled_at = match get(&object, "scheduled_at") {
        None => None,
        Some(Value::String(text)) if text.is_empty() => None,
        // A time that cannot be read must not turn into "at once".
        Some(Value::String(text)) => Some(instant(text).ok_or_else(|| {
            ValueError(format!(
                "scheduled_at: {:?} is not a time with an offset",
                excerpt(text.as_bytes())
            ))
        })?),
        Some(other) => {
            return wrong(format!(
                "scheduled_at: expected text, found {}",
                kind(other)
            ));
        }
    };
    Ok(request(name("leader")?, name("member")?, scheduled_at))
}

fn request(
    leader: Option<String>,
    candidate: Option<String>,
    scheduled_at: Option<OffsetDateTime>,
) -> Option<FailoverRequest> {
    // Nobody to leave and nobody to take over: Patroni ignores it.
    (leader.is_some() || candidate.is_some()).then_some(FailoverRequest {
        leader,
        candidate,
        scheduled_at,
    })
}

/// The config key.
pub fn config(value: &[u8]) -> Result<ClusterConfig, ValueError> {
    let object = object(text(value)?)?;
    let switch = |name: &str| get(&object, name).is_some_and(truth);
    let seconds = |name: &str| {
        get(&object, name)
            .and_then(integer)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs)
    };
    let quorum_commit = get(&object, "synchronous_mode")
        .and_then(Value::as_str)
        .is_some_and(|mode| mode.eq_ignore_ascii_case("quorum"));
    Ok(ClusterConfig {
        paused: switch("pause"),
        synchronous_mode: quorum_commit || switch("synchronous_mode"),
        synchronous_mode_strict: switch("synchronous_mode_strict"),
        quorum_commit,
        failsafe_mode: switch("failsafe_mode"),
        standby_cluster: get(&object, "standby_cluster")
            .is_some_and(|value| value.as_object().is_some_and(|object| !object.is_empty())),
        ttl: seconds("ttl"),
        loop_wait: seconds("loop_wait"),
        retry_timeout: seconds("retry_timeout"),
    })
}

/// The failsafe key: each member's REST address.
pub fn failsafe(value: &[u8]) -> Result<BTreeMap<String, String>, ValueError> {
    let raw = text(value)?;
    if raw.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    object(raw)?
        .into_iter()
        .map(|(name, url)| match url {
            Value::String(url) => Ok((name, url)),
            other => wrong(format!(
                "{}: expected an address, found {}",
                excerpt(name.as_bytes()),
                kind(&other)
            )),
        })
        .collect()
}

/// The initialize key: whether the first member has finished. Patroni puts it empty while it
/// bootstraps, and the system identifier afterwards.
pub fn initialized(value: &[u8]) -> bool {
    !value.is_empty()
}

fn text(value: &[u8]) -> Result<&str, ValueError> {
    std::str::from_utf8(value).map_err(|_| ValueError(format!("{:?} is not UTF-8", excerpt(value))))
}

fn object(raw: &str) -> Result<Map<String, Value>, ValueError> {
    if raw.is_empty() {
        return wrong("the value is empty: expected a JSON object");
    }
    match json(raw)? {
        Value::Object(object) => Ok(object),
        other => wrong(format!("expected a JSON object, found {}", kind(&other))),
    }
}

fn json<T: DeserializeOwned>(raw: &str) -> Result<T, ValueError> {
    serde_json::from_str(raw)
        .map_err(|error| ValueError(format!("{:?} is not JSON: {error}", redacted(raw))))
}

/// A part of a broken value for a message, without the password that a connection URL in it
/// may carry.
fn redacted(raw: &str) -> String {
    if raw.contains("://") {
        "…".to_owned()
    } else {
        excerpt(raw.as_bytes())
    }
}

/// A field that is there and is not null.
fn get<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

fn string(object: &Map<String, Value>, name: &str) -> Option<String> {
    get(object, name).and_then(Value::as_str).map(str::to_owned)
}

/// Patroni's own idea of truth: booleans, and the words people write in YAML.
fn truth(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_i64() == Some(1),
        Value::String(word) => ["true", "on", "yes", "1"]
            .iter()
            .any(|yes| word.eq_ignore_ascii_case(yes)),
        _ => false,
    }
}

/// A whole number, also one that somebody wrote in quotes.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(digits) => digits.trim().parse().ok(),
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// What Python's `isoformat()` writes, with an offset in any of the forms people type.
fn instant(text: &str) -> Option<OffsetDateTime> {
    let text = text.trim();
    if !text.is_ascii() || text.len() < 16 {
        return None;
    }
    let (date, clock) = (&text[..10], &text[11..]);
    if !matches!(text.as_bytes()[10], b'T' | b't' | b' ') {
        return None;
    }
    let (clock, offset) = match clock.find(['Z', 'z', '+', '-']) {
        Some(at) => clock.split_at(at),
        // Without an offset it could mean any hour.
        None => return None,
    };
    let clock = clock.trim_end();
    let clock = if clock.len() == 5 {
        format!("{clock}:00")
    } else {
        clock.to_owned()
    };
    let offset = match (offset.len(), offset.contains(':')) {
        (1, _) => "Z".to_owned(),
        (3, false) => format!("{offset}:00"),
        (5, false) => format!("{}:{}", &offset[..3], &offset[3..]),
        (6, true) => offset.to_owned(),
        _ => return None,
    };
    OffsetDateTime::parse(&format!("{date}T{clock}{offset}"), &Rfc3339).ok()
}

#[cfg(test)]
mod tests;
