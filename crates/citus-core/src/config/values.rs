//! Values that both kinds of file have: a scope, a list of databases, a worker group, a namespace.

use dcs_watch::key::{Namespace, ScopeId};

use super::reader::At;
use super::workers::MAX_GROUP;
use super::yaml::Node;

/// A list of database names, none empty, none twice.
pub(super) fn databases(at: &At<'_>) -> Option<Vec<String>> {
    let expected = "a list of the Citus databases";
    let items = at.list(expected, "write it as a list: databases: [postgres]")?;
    if items.is_empty() {
        at.bad(
            expected,
            "name at least one: each database has its own pg_dist_node",
        );
        return None;
    }
    let mut databases: Vec<String> = Vec::new();
    let mut whole = true;
    for item in &items {
        match item.text("the name of a database") {
            Some(name) if databases.iter().any(|other| other == name) => {
                item.bad("each database once", "remove it here");
                whole = false;
            }
            Some(name) => databases.push(name.to_owned()),
            None => whole = false,
        }
    }
    whole.then_some(databases)
}

/// A scope, in either of Patroni's layouts.
pub(super) fn scope(at: &At<'_>) -> Option<ScopeId> {
    let expected = "a Patroni scope, such as wk1, or citus/1 in Patroni's own Citus layout";
    let text = at.text(expected)?;
    match text.parse() {
        Ok(scope) => Some(scope),
        Err(error) => {
            at.bad(expected, &format!("{error}"));
            None
        }
    }
}

/// A worker's group: never 0, never more than Citus can store.
pub(super) fn group(at: &At<'_>) -> Option<u32> {
    if *at.node == Node::Int(0) {
        at.bad(
            "a worker's Citus group, from 1 up",
            "group 0 is the coordinator: remove it here",
        );
        return None;
    }
    at.number(&(1..=MAX_GROUP), "a worker's Citus group")
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
