//! The etcd sections of Patroni's own file: `etcd3:`, which can be watched, and `etcd:` (API v2),
//! which cannot.

use super::super::environment::Environment;
use super::super::reader::{At, Fields};
use super::super::secret::{Origin, Secret};
use super::super::settings::Etcd;
use super::super::yaml::Node;
use super::super::{endpoint, login};
use super::password;

/// The port of etcd where Patroni's file names none.
const PORT: u16 = 2379;

/// Reads the etcd section of Patroni's file. `None` when a problem was noted.
pub(super) fn read(fields: &Fields<'_>, environment: &Environment<'_>) -> Option<Etcd> {
    const V2: &str = "Patroni keeps its keys in etcd's API v2 then, and they cannot be seen through \
         API v3, which is what can be watched (patroni#1822)";
    match (fields.get("etcd3"), fields.get("etcd")) {
        (Some(v3), Some(_)) => {
            v3.doc.warn(format!(
                "etcd: beside etcd3, and Patroni takes the `etcd` section first; {V2}. Remove the \
                 `etcd` section and restart Patroni"
            ));
            etcd3(&v3, environment)
        }
        (Some(v3), None) => etcd3(&v3, environment),
        (None, Some(v2)) => {
            v2.bad_key(
                "an `etcd` section and no `etcd3`",
                "an `etcd3` section",
                &format!("{V2}: rename `etcd` to `etcd3` on every member and restart Patroni"),
            );
            None
        }
        (None, None) => {
            let other = ["consul", "zookeeper", "exhibitor", "kubernetes", "raft"];
            let fix = match other.into_iter().find(|key| fields.has(key)) {
                Some(key) => {
                    format!("Patroni uses {key} here, which is not supported: only etcd is")
                }
                None => "if Patroni takes it from PATRONI_ETCD3_HOSTS, write a native file instead"
                    .to_owned(),
            };
            fields.missing("etcd3", "the `etcd3` section of Patroni", &fix);
            None
        }
    }
}

fn etcd3(at: &At<'_>, environment: &Environment<'_>) -> Option<Etcd> {
    let fields = at.open_fields("a mapping with `host` or `hosts`")?;
    let plain = without_tls(&fields)?;
    let mut username = match fields.given("username") {
        Some(at) => Some(at.text("the name of an etcd user")?.to_owned()),
        None => None,
    };
    let mut named = match fields.given("password") {
        Some(at) => password::read(&at, environment).map(|secret| (at, secret)),
        None => None,
    };
    // The order in which Patroni looks at them.
    let endpoints = if let Some(at) = fields.given("proxy") {
        at.bad_key(
            "an etcd proxy",
            "`host` or `hosts`",
            "a proxy cannot be watched through",
        );
        return None;
    } else if let Some(at) = fields.given("url") {
        let (address, user) = url(&at, environment)?;
        // Patroni takes user and password from the URL alone when there is one.
        (username, named) = match user {
            Some((user, secret)) => (Some(user), secret.map(|secret| (at, secret))),
            None => (None, None),
        };
        vec![address]
    } else if let Some(at) = fields.given("hosts") {
        hosts(&at, &fields)?
    } else if let Some(at) = fields.given("host") {
        let port = default_port(&fields)?;
        vec![address(&at, at.text("an etcd host")?, port)?]
    } else {
        let fix = match ["srv", "srv_suffix", "discovery_srv"]
            .into_iter()
            .find(|k| fields.has(k))
        {
            Some(key) => format!("`{key}` is not supported: name the hosts"),
            None => String::new(),
        };
        fields.missing("hosts", "the etcd hosts, as `hosts` or `host`", &fix);
        return None;
    };
    let (username, password) = login::for_etcd(&fields, username, named, environment);
    plain.then_some(Etcd {
        endpoints,
        username,
        password,
    })
}

/// Whether the section asks for no TLS. `None` when `protocol` is no text.
fn without_tls(fields: &Fields<'_>) -> Option<bool> {
    let mut plain = true;
    for key in ["cacert", "cert", "key"] {
        if let Some(at) = fields.given(key) {
            at.bad_key("a TLS setting", "none in this version", endpoint::NO_TLS);
            plain = false;
        }
    }
    if let Some(at) = fields.given("protocol")
        && at.text("http or https")? != "http"
    {
        at.bad("http, in this version", endpoint::NO_TLS);
        plain = false;
    }
    Some(plain)
}

fn default_port(fields: &Fields<'_>) -> Option<u16> {
    match fields.given("port") {
        Some(at) => {
            let port = at.number(&(1..=u32::from(u16::MAX)), "a port")?;
            u16::try_from(port).ok()
        }
        None => Some(PORT),
    }
}

/// `hosts` is a list, or a text with commas.
fn hosts(at: &At<'_>, fields: &Fields<'_>) -> Option<Vec<String>> {
    let port = default_port(fields)?;
    let expected = "etcd hosts, as a list or with commas between them";
    let mut addresses: Vec<String> = Vec::new();
    let mut push = |at: &At<'_>, text: &str| {
        let address = address(at, text, port)?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
        Some(())
    };
    match at.node {
        Node::Text(text) => {
            for host in text
                .split(',')
                .map(str::trim)
                .filter(|host| !host.is_empty())
            {
                push(at, host)?;
            }
        }
        _ => {
            for item in at.list(expected, "")? {
                push(&item, item.text("an etcd host")?)?;
            }
        }
    }
    if addresses.is_empty() {
        at.bad(expected, "name at least one");
        return None;
    }
    Some(addresses)
}

/// `host` or `host:port` as an address.
fn address(at: &At<'_>, text: &str, port: u16) -> Option<String> {
    let text = text.trim();
    let whole = if text.contains(':') {
        text.to_owned()
    } else {
        format!("{text}:{port}")
    };
    let address = endpoint::parse(&format!("http://{whole}"));
    if let Err(wrong) = &address {
        at.bad_found(&wrong.found, "an etcd host, such as 10.0.0.1:2379", "");
    }
    address.ok()
}

type User = (String, Option<Secret>);

/// `http://user:password@host:port`, of which only the host is needed.
fn url(at: &At<'_>, environment: &Environment<'_>) -> Option<(String, Option<User>)> {
    let text = at.text(endpoint::EXPECTED)?.trim();
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (login, host) = match rest.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, rest),
    };
    let host = host.trim_end_matches('/');
    let host = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:{PORT}")
    };
    match endpoint::parse(&format!("{scheme}://{host}")) {
        Ok(address) => {
            let origin = Origin::Key {
                file: environment.file.to_owned(),
                key: at.path.to_string(),
            };
            let user = login.map(|login| match login.split_once(':') {
                Some((user, password)) => (user.to_owned(), Some(Secret::new(password, origin))),
                None => (login.to_owned(), None),
            });
            Some((address, user))
        }
        Err(wrong) => {
            at.bad_found(&wrong.found, wrong.expected, &wrong.fix);
            None
        }
    }
}
