//! The `etcd` section.

use super::super::endpoint;
use super::super::environment::Environment;
use super::super::login::{self, Named};
use super::super::reader::At;
use super::super::settings::Etcd;

/// A section that would do.
pub(super) const EXAMPLE: &str = "for example: etcd: {endpoints: [\"http://10.0.0.1:2379\"]}";

/// Reads the section. `None` when a problem was noted.
pub(super) fn read(at: &At<'_>, environment: &Environment<'_>) -> Option<Etcd> {
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
    let named = match login::named(&fields, environment, login::ETCD_PASSWORD) {
        Named::Secret(at, secret) => Some((at, secret)),
        Named::Passfile(..) | Named::Nothing => None,
    };
    let (username, password) = login::for_etcd(&fields, username, named, environment);
    let list = fields.require("endpoints", "a list of etcd addresses", EXAMPLE)?;
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
