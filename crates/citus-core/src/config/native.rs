//! The native file: its top level. Formations are read in [`super::formation`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dcs_watch::key::{Namespace, ScopeId};

use super::login::{self, Named};
use super::reader::{At, Doc, Fields};
use super::yaml::Node;
use super::{Config, Election, Etcd, Fixture, Formation, endpoint, formation, token};
use crate::policy::{Policy, limits};

/// Where HTTP is served unless told otherwise: nothing but this host can reach it.
pub(super) const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8009);

/// Patroni's own default.
pub(super) const DEFAULT_NAMESPACE: &str = "/service/";

const TOP: &[&str] = &[
    "etcd",
    "namespace",
    "coordinator",
    "workers",
    "discover",
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
pub(super) fn read<'a>(doc: &'a Doc<'a>, node: &'a Node, fixture: &Fixture<'_>) -> Option<Config> {
    let root = At::root(doc, node);
    let expected = "a mapping with at least `etcd`, `coordinator` and `workers`";
    let fields = root.fields(TOP, expected)?;
    let etcd = match fields.require("etcd", "the etcd that Patroni uses", ETCD_EXAMPLE) {
        Some(at) => etcd(&at, fixture),
        None => None,
    };
    let namespace = match fields.get("namespace") {
        Some(at) => namespace(&at),
        None => Some(DEFAULT_NAMESPACE.to_owned()),
    };
    let listen = match fields.get("listen") {
        Some(at) => listen(&at),
        None => Some(DEFAULT_LISTEN),
    };
    let token = token::read(&fields, fixture);
    if let Some(at) = fields.get("tls") {
        tls(&at);
    }
    let election = match fields.get("election") {
        Some(at) => election(&at),
        None => Some(Election::default()),
    };
    let policy = match fields.get("policy") {
        Some(at) => formation::policy(&at, &Policy::default()),
        None => Some(Policy::default()),
    };
    let formations = match fields.get("formations") {
        Some(at) => many(&fields, &at, policy.as_ref(), fixture),
        None => formation::read(&fields, policy.as_ref(), fixture).map(|one| vec![one]),
    };
    Some(Config {
        listen: listen?,
        token,
        etcd: etcd?,
        namespace: namespace?,
        formations: formations?,
        election: election?,
        warnings: Vec::new(),
        source: fixture.file.to_owned(),
    })
}

const ETCD_EXAMPLE: &str = "for example: etcd: {endpoints: [\"http://10.0.0.1:2379\"]}";

fn etcd(at: &At<'_>, fixture: &Fixture<'_>) -> Option<Etcd> {
    let known = [
        "endpoints",
        "username",
        "password",
        "password_file",
        "ca",
        "cert",
        "key",
    ];
    let fields = at.fields(&known, "a mapping with `endpoints`")?;
    for key in ["ca", "cert", "key"] {
        if let Some(at) = fields.get(key) {
            at.bad_key("a TLS setting", "none in this version", endpoint::NO_TLS);
        }
    }
    let username = match fields.get("username") {
        Some(at) => Some(at.text("the name of an etcd user")?.to_owned()),
        None => None,
    };
    let named = match login::named(&fields, fixture, login::ETCD_PASSWORD) {
        Named::Secret(at, secret) => Some((at, secret)),
        Named::Passfile(..) | Named::Nothing => None,
    };
    let (username, password) = login::for_etcd(&fields, username, named, fixture);
    let list = fields.require("endpoints", "a list of etcd addresses", ETCD_EXAMPLE)?;
    Some(Etcd {
        endpoints: endpoints(&list)?,
        username,
        password,
    })
}

fn endpoints(at: &At<'_>) -> Option<Vec<String>> {
    let expected = "a list of etcd addresses, best of all members";
    let items = at.list(
        expected,
        "write it as a list: endpoints: [\"http://10.0.0.1:2379\"]",
    )?;
    if items.is_empty() {
        at.bad(expected, "name at least one");
        return None;
    }
    let mut endpoints: Vec<String> = Vec::new();
    let mut whole = true;
    for item in &items {
        let Some(text) = item.text(endpoint::EXPECTED) else {
            whole = false;
            continue;
        };
        match endpoint::parse(text) {
            Ok(address) if endpoints.contains(&address) => {
                item.bad("each address once", "remove it here");
                whole = false;
            }
            Ok(address) => endpoints.push(address),
            Err(wrong) => {
                item.bad_found(&wrong.found, wrong.expected, &wrong.fix);
                whole = false;
            }
        }
    }
    whole.then_some(endpoints)
}

/// Patroni's namespace with a slash at both ends, as Patroni itself normalises it.
pub(super) fn namespace(at: &At<'_>) -> Option<String> {
    let expected = "Patroni's namespace, such as /service/";
    match Namespace::new(at.text(expected)?) {
        Ok(namespace) => Some(namespace.to_string()),
        Err(error) => {
            at.bad(expected, &error.to_string());
            None
        }
    }
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

/// The `formations` list: each entry has what a file for one formation has at its top level.
fn many(
    top: &Fields<'_>,
    at: &At<'_>,
    policy: Option<&Policy>,
    fixture: &Fixture<'_>,
) -> Option<Vec<Formation>> {
    for key in ["coordinator", "workers", "discover", "register"] {
        if let Some(at) = top.get(key) {
            let fix = format!("move `{key}` into an entry of `formations`");
            at.bad_key(
                &format!("`{key}` beside `formations`"),
                "one or the other",
                &fix,
            );
        }
    }
    let expected = "a list of formations, each with `coordinator` and `workers`";
    let items = at.list(
        expected,
        "write each formation as an item: - coordinator: …",
    )?;
    if items.is_empty() {
        at.bad(
            expected,
            "add one, or write `coordinator` and `workers` at the top level",
        );
        return None;
    }
    let read: Vec<(&At<'_>, Option<Formation>)> = items
        .iter()
        .map(|item| {
            let fields = item.fields(formation::KEYS, "a mapping with `coordinator`");
            (
                item,
                fields.and_then(|fields| formation::read(&fields, policy, fixture)),
            )
        })
        .collect();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut scopes: BTreeMap<ScopeId, usize> = BTreeMap::new();
    for (i, (at, formation)) in read.iter().enumerate() {
        let Some(formation) = formation else { continue };
        // Two formations with one coordinator have one name as well; say the former only.
        let mut shared = false;
        for scope in formation.scopes() {
            if let Some(first) = scopes.insert(scope.clone(), i)
                && first != i
            {
                shared = true;
                at.bad_found(
                    &format!("scope {scope}, which formations[{first}] uses too"),
                    "each scope in one formation",
                    "a Patroni cluster serves one Citus cluster: remove it from one of them",
                );
            }
        }
        if let Some(first) = names.insert(formation.name.clone(), i)
            && !shared
        {
            at.bad_found(
                &format!(
                    "the name {:?}, which formations[{first}] has too",
                    formation.name
                ),
                "a name of its own for each formation",
                "set `name`",
            );
        }
    }
    read.into_iter().map(|(_, formation)| formation).collect()
}
