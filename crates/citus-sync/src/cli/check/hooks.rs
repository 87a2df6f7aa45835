//! Whether Patroni's `before_stop` on the workers can have writes held: a token, and an address
//! that they reach.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::cli::snapshot::{self, Groups};
use citus_core::config::{Config, Origin, TOKEN_VARIABLE};
use citus_core::plan::{COORDINATOR_GROUP, Writes};
use citus_core::render::Finding;

/// Hosts that are named; more have the same cause.
const HOSTS_SHOWN: usize = 3;

/// The token, unless everything here is only observed.
pub(super) fn token(config: &Config) -> Option<Finding> {
    let what = "token";
    let obeyed = config.formations.iter();
    let obeyed = obeyed.filter(|formation| snapshot::writes(formation) == Writes::Allowed);
    // Whether a request holds everywhere; none where nothing is ever held.
    let on_request = obeyed
        .map(|formation| formation.policy.hold_on_request)
        .reduce(|all, one| all && one)?;
    Some(match &config.token {
        Some(token) => Finding::pass(
            what,
            match token.origin() {
                Origin::Env(name) => format!("from {name} in the environment"),
                Origin::File(file) | Origin::Key { file, .. } => {
                    format!("from {}", file.display())
                }
            },
        ),
        None => Finding::warn(
            what,
            format!(
                "none: `citus-sync hold` and `release` will be refused, and with them every \
                 before_stop of Patroni, so that restarts of a leader are noticed{}",
                if on_request {
                    ""
                } else {
                    ", and switchovers as well: `policy.hold_on_request` is off"
                }
            ),
            format!(
                "`openssl rand -hex 32 > FILE`, name that file with `token_file` here and with \
                 --token-file in `postgresql.before_stop` of the workers (or set {TOKEN_VARIABLE})"
            ),
        ),
    })
}

/// Whether a daemon that listens there can be asked from where the workers are.
pub(super) fn reachable(config: &Config, groups: &Groups) -> Option<Finding> {
    let members = groups
        .views
        .iter()
        .filter(|(group, _)| **group != COORDINATOR_GROUP)
        .flat_map(|(_, view)| view.members.values());
    let hosts = members.filter_map(|member| Some(member.value.address.as_ref()?.host.as_str()));
    from_afar(config.listen, hosts)
}

fn from_afar<'a>(listen: SocketAddr, hosts: impl Iterator<Item = &'a str>) -> Option<Finding> {
    let hosts: BTreeSet<&str> = hosts.filter(|host| !is_loopback(host)).collect();
    if !listen.ip().is_loopback() || hosts.is_empty() {
        return None;
    }
    let named: Vec<&str> = hosts.iter().take(HOSTS_SHOWN).copied().collect();
    let more = match hosts.len().saturating_sub(HOSTS_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(Finding::warn(
        "listen",
        format!(
            "{listen} is this host only: a before_stop of Patroni on {}{more} cannot reach it",
            named.join(", ")
        ),
        format!(
            "set `listen` to an address of this host that they reach, or to 0.0.0.0:{}; every \
             client that reaches it can read, but only one with the token can hold",
            listen.port()
        ),
    ))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use citus_core::render::Verdict;

    fn config(more: &str) -> Config {
        let text = format!(
            "etcd: {{endpoints: ['http://127.0.0.1:1']}}\ncoordinator: {{scope: cn, databases: \
             [app]}}\nworkers: [{{group: 1, scope: wk1}}]\n{more}"
        );
        let read = |_: &std::path::Path| Ok(text.clone());
        Config::load("c.yml".as_ref(), &|_| None, &read).unwrap()
    }

    #[test]
    fn a_missing_token_is_a_finding_where_writes_could_be_held() {
        assert_eq!(token(&config("")).unwrap().verdict, Verdict::Warn);
        let observed = config("policy: {write: never}\n");
        assert_eq!(token(&observed), None);
    }

    #[test]
    fn without_a_token_the_finding_says_what_is_not_held() {
        let detail = |more: &str| token(&config(more)).unwrap().detail;
        assert!(detail("").ends_with("restarts of a leader are noticed"));
        let when_asked = detail("policy: {hold_on_request: off}\n");
        assert!(when_asked.contains("switchovers as well"), "{when_asked}");
    }

    #[test]
    fn a_daemon_on_loopback_is_out_of_reach_of_other_hosts_only() {
        let found = |listen: &str, hosts: &[&str]| {
            from_afar(listen.parse().unwrap(), hosts.iter().copied())
                .map(|finding| format!("{}; {}", finding.detail, finding.fix.unwrap_or_default()))
        };
        assert_eq!(
            found("127.0.0.1:8009", &["localhost", "127.0.0.2", "::1"]),
            None
        );
        assert_eq!(found("10.0.0.9:8009", &["10.0.1.1"]), None);
        assert_eq!(found("0.0.0.0:8009", &["10.0.1.1"]), None);
        let hosts = [
            "wk1a",
            "wk1b",
            "10.0.1.1",
            "10.0.1.1",
            "10.0.1.2",
            "127.0.0.1",
        ];
        let text = found("[::1]:8010", &hosts).unwrap();
        assert!(
            text.contains("on 10.0.1.1, 10.0.1.2, wk1a and 1 more cannot"),
            "{text}"
        );
        assert!(text.contains("0.0.0.0:8010"), "{text}");
    }
}
