//! What a member says of itself, under `members/<name>`.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::address;
use super::error::{ValueError, wrong};
use super::host_port::HostPort;
use super::json::{get, integer, kind, object, string, text, truth};
use crate::text::{NAME_BYTES, excerpt};

/// The role of a member in its cluster, by the names of every Patroni version.
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
    /// A role that is not known here, or none at all (empty).
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

    /// The role's name in Patroni 4; exact, also for a role that is not known here.
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
        f.write_str(&excerpt(self.as_str(), NAME_BYTES))
    }
}

impl Serialize for Role {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a member says of itself. Its log positions are left out: they change all the time and are
/// old when they arrive, so a probe asks the member itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "Patroni's tags are independent switches"
)]
pub struct Member {
    /// Where PostgreSQL listens: `conn_url`, else `conn_kwargs`. None when there is neither, or when
    /// it names a socket directory, which no other host can reach.
    pub address: Option<HostPort>,
    /// Patroni's own REST address.
    pub api_url: Option<String>,
    /// The state of PostgreSQL, as Patroni names it: `running`, `stopping`, `creating replica`, …
    /// Empty when it is absent.
    pub state: String,
    /// Its role in the cluster.
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
    /// A changed setting needs a restart to take effect.
    pub pending_restart: bool,
    /// This member has seen that the cluster is paused.
    pub paused: bool,
}

/// Reads a member key: JSON, or the connection URL alone as very old Patroni wrote it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::refused;

    fn member_of(json: &str) -> Member {
        member(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[test]
    fn a_member_has_an_address_a_state_a_role_and_tags() {
        let member = member_of(
            r#"{"conn_url":"postgres://10.0.0.1:5433/postgres","api_url":"http://10.0.0.1:8008/patroni",
                "state":"running","role":"replica","version":"4.1.5","timeline":3,"xlog_location":17,
                "tags":{"nosync":true,"noloadbalance":"true","nofailover":false},
                "pending_restart":true,"pause":true}"#,
        );
        assert_eq!(
            member.address,
            Some(HostPort {
                host: "10.0.0.1".into(),
                port: 5433
            })
        );
        assert_eq!(
            member.api_url.as_deref(),
            Some("http://10.0.0.1:8008/patroni")
        );
        assert_eq!(
            (member.state.as_str(), member.role),
            ("running", Role::Replica)
        );
        assert_eq!(
            (member.version.as_deref(), member.timeline),
            (Some("4.1.5"), Some(3))
        );
        assert!(member.nosync && member.noloadbalance && !member.nofailover);
        assert!(member.pending_restart && member.paused);
    }

    #[test]
    fn every_role_of_every_version_is_known() {
        for (word, role) in [
            ("master", Role::Primary),
            ("primary", Role::Primary),
            ("promoted", Role::Promoted),
            ("demoted", Role::Demoted),
            ("replica", Role::Replica),
            ("standby_leader", Role::StandbyLeader),
            ("uninitialized", Role::Uninitialized),
            ("quartermaster", Role::Other("quartermaster".into())),
        ] {
            assert_eq!(member_of(&format!(r#"{{"role":"{word}"}}"#)).role, role);
        }
        assert_eq!(member_of("{}").role, Role::Other(String::new()));
        assert_eq!(
            serde_json::to_string(&Role::Primary).unwrap(),
            "\"primary\""
        );
    }

    #[test]
    fn a_member_of_very_old_patroni_is_a_url_alone() {
        let member =
            member_of("postgres://u:p@h:5433/postgres?application_name=http://h:8008/patroni");
        assert_eq!(member.address.unwrap().to_string(), "h:5433");
        assert_eq!(member.api_url.as_deref(), Some("http://h:8008/patroni"));
        assert_eq!(
            member_of("postgres://h/db?port=1&application_name=x")
                .address
                .unwrap()
                .port,
            1
        );
    }

    #[test]
    fn a_member_that_is_no_object_is_refused() {
        refused(member(b""), "empty");
        refused(member(b"null"), "found null");
        refused(member(b"[]"), "found a list");
        refused(member(b"17"), "found a number");
        refused(member(b"{\"state\": "), "is not JSON");
        refused(member(b"\xff"), "UTF-8");
    }

    #[test]
    fn malformed_parts_of_a_member_on_which_no_decision_hangs_are_ignored() {
        let member = member_of(
            r#"{"conn_url":"postgres://h:1/","state":7,"role":[],"timeline":-1,"tags":"x","version":{},
                "api_url":false,"pause":"maybe","pending_restart":null}"#,
        );
        assert_eq!(member.address.unwrap().to_string(), "h:1");
        assert_eq!(
            (member.state.as_str(), member.timeline, member.paused),
            ("", None, false)
        );
    }

    #[test]
    fn a_priority_of_zero_counts_as_the_tag_unless_the_tag_is_set() {
        let tagged = |tags: &str| member_of(&format!(r#"{{"tags":{tags}}}"#));
        assert!(tagged(r#"{"failover_priority":0}"#).nofailover);
        assert!(!tagged(r#"{"failover_priority":1}"#).nofailover);
        assert!(!tagged(r#"{"failover_priority":0,"nofailover":false}"#).nofailover);
        assert!(tagged(r#"{"failover_priority":"0"}"#).nofailover);
        assert!(tagged(r#"{"sync_priority":0}"#).nosync);
        assert!(tagged(r#"{"nosync":1}"#).nosync && tagged(r#"{"nosync":"on"}"#).nosync);
    }
}
