//! The top level of the native file.

use std::net::SocketAddr;

use super::super::environment::Environment;
use super::super::reader::{At, Doc};
use super::super::settings::{Config, DEFAULT_LISTEN, DEFAULT_NAMESPACE, Election};
use super::super::yaml::Node;
use super::super::{token, values};
use super::{etcd, formation, formations, policy};
use crate::policy::{Policy, limits};

const TOP: &[&str] = &[
    "etcd",
    "namespace",
    "coordinator",
    "workers",
    "discover",
    "addresses",
    "register",
    "formations",
    "policy",
    "listen",
    "token",
    "token_file",
    "tls",
    "election",
];

/// Reads a native file. `None` when a problem was noted.
pub(in crate::config) fn read<'a>(
    doc: &'a Doc<'a>,
    node: &'a Node,
    environment: &Environment<'_>,
) -> Option<Config> {
    let root = At::root(doc, node);
    let expected = "a mapping with at least `etcd`, `coordinator` and `workers`";
    let fields = root.fields(TOP, expected)?;
    let etcd = match fields.require("etcd", "the etcd that Patroni uses", etcd::EXAMPLE) {
        Some(at) => etcd::read(&at, environment),
        None => None,
    };
    let namespace = match fields.get("namespace") {
        Some(at) => values::namespace(&at),
        None => Some(DEFAULT_NAMESPACE.to_owned()),
    };
    let listen = match fields.get("listen") {
        Some(at) => listen(&at),
        None => Some(DEFAULT_LISTEN),
    };
    let token = token::read(&fields, environment);
    if let Some(at) = fields.get("tls") {
        tls(&at);
    }
    let election = match fields.get("election") {
        Some(at) => election(&at),
        None => Some(Election::default()),
    };
    let policy = match fields.get("policy") {
        Some(at) => policy::read(&at, &Policy::default()),
        None => Some(Policy::default()),
    };
    let formations = match fields.get("formations") {
        Some(at) => formations::read(&fields, &at, policy.as_ref(), environment),
        None => formation::read(&fields, policy.as_ref(), environment).map(|one| vec![one]),
    };
    Some(Config {
        listen: listen?,
        token,
        etcd: etcd?,
        namespace: namespace?,
        formations: formations?,
        election: election?,
        warnings: Vec::new(),
        source: environment.file.to_owned(),
    })
}

fn listen(at: &At<'_>) -> Option<SocketAddr> {
    let expected = "an IP address and a port such as 127.0.0.1:8009";
    let text = at.text(expected)?;
    let fix = match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => return Some(address),
        Ok(_) => "port 0 would be another one after every start".to_owned(),
        Err(_) => match text.strip_prefix(':') {
            Some(port) => format!("write 0.0.0.0:{port} to be reached from everywhere"),
            None if text.starts_with("localhost:") => {
                text.replacen("localhost", "write 127.0.0.1", 1)
            }
            None => "an IPv6 address goes in brackets: [::1]:8009".to_owned(),
        },
    };
    at.bad(expected, &fix);
    None
}

fn tls(at: &At<'_>) -> Option<()> {
    let fields = at.fields(&["mode", "ca", "cert", "key"], "a mapping with `mode`")?;
    let off = match fields.get("mode") {
        Some(mode) => {
            let words = [
                ("disable", true),
                ("prefer", false),
                ("require", false),
                ("verify-ca", false),
                ("verify-full", false),
            ];
            mode.word(&words)?
        }
        None => false,
    };
    let certificates = ["ca", "cert", "key"]
        .iter()
        .any(|key| fields.get(key).is_some());
    if !off || certificates {
        at.bad_key(
            "settings for TLS towards PostgreSQL",
            "none, or `mode: disable`, in this version",
            "this version speaks no TLS and will not fall back to plain text behind your back: \
             remove `tls` and let pg_hba.conf admit this host without it",
        );
    }
    Some(())
}

fn election(at: &At<'_>) -> Option<Election> {
    let fields = at.fields(&["name", "ttl"], "a mapping with `name` or `ttl`")?;
    let name = match fields.get("name") {
        Some(at) => Some(at.text("a name for this instance")?.to_owned()),
        None => None,
    };
    let ttl = match fields.get("ttl") {
        Some(at) => at.duration(limits::ELECTION_TTL)?,
        None => Election::default().ttl,
    };
    at.doc.warn(
        "election: accepted, but without effect in this version: run one instance only".to_owned(),
    );
    Some(Election { name, ttl })
}
