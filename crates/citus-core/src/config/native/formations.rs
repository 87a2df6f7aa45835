//! The `formations` list, and what no two formations may share.

use std::collections::BTreeMap;

use dcs_watch::key::ScopeId;

use super::super::environment::Environment;
use super::super::formation::Formation;
use super::super::reader::{At, Fields};
use super::formation;
use crate::policy::Policy;

/// The `formations` list: each entry has what a file for one formation has at its top level.
pub(super) fn read(
    top: &Fields<'_>,
    at: &At<'_>,
    policy: Option<&Policy>,
    environment: &Environment<'_>,
) -> Option<Vec<Formation>> {
    for key in [
        "coordinator",
        "workers",
        "discover",
        "addresses",
        "register",
    ] {
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
            let formation = fields.and_then(|one| formation::read(&one, policy, environment));
            (item, formation)
        })
        .collect();
    distinct(&read);
    read.into_iter().map(|(_, formation)| formation).collect()
}

/// Notes a problem for every name and every scope that two formations have.
fn distinct(read: &[(&At<'_>, Option<Formation>)]) {
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
}
