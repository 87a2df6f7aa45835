//! Patroni's dynamic configuration, under `config`.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::error::ValueError;
use super::json::{get, integer, object, text, truth};

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
    /// Commits wait for ever while there is no synchronous standby.
    pub synchronous_mode_strict: bool,
    /// `synchronous_mode: quorum` (Patroni 4.0 on).
    pub quorum_commit: bool,
    /// The leader may go on without etcd while all members vouch for it.
    pub failsafe_mode: bool,
    /// The whole scope replicates from another one, so its leader never takes writes.
    pub standby_cluster: bool,
    /// How long the leader key outlives its holder, in whole seconds.
    pub ttl: Option<Duration>,
    /// How long Patroni waits between two rounds, in whole seconds.
    pub loop_wait: Option<Duration>,
    /// How long Patroni retries etcd and PostgreSQL, in whole seconds.
    pub retry_timeout: Option<Duration>,
}

/// Reads the config key. A setting that is absent or cannot be read has its default: off, or none.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::refused;

    #[test]
    fn the_configuration_is_read_as_patroni_reads_it() {
        let read = |json: &str| config(json.as_bytes()).unwrap();
        let full = read(
            r#"{"ttl":20,"loop_wait":5,"retry_timeout":"7","pause":true,"synchronous_mode":true,
                "synchronous_mode_strict":"on","failsafe_mode":1,"standby_cluster":{"host":"h"},
                "postgresql":{"parameters":{"max_connections":50}}}"#,
        );
        assert_eq!(full.ttl, Some(Duration::from_secs(20)));
        assert_eq!(full.loop_wait, Some(Duration::from_secs(5)));
        assert_eq!(full.retry_timeout, Some(Duration::from_secs(7)));
        assert!(full.paused && full.synchronous_mode && full.synchronous_mode_strict);
        assert!(full.failsafe_mode && full.standby_cluster && !full.quorum_commit);
        let quorum = read(r#"{"synchronous_mode":"quorum"}"#);
        assert!(quorum.synchronous_mode && quorum.quorum_commit);
        assert_eq!(read("{}"), ClusterConfig::default());
        assert_eq!(
            read(
                r#"{"pause":null,"ttl":-5,"loop_wait":[],"synchronous_mode":"off","standby_cluster":{}}"#
            ),
            ClusterConfig::default()
        );
        refused(config(b""), "empty");
        refused(config(b"null"), "found null");
        refused(config(b"pause: true"), "is not JSON");
    }
}
