//! Which scope serves which group: found by addresses, by name, or not at all.

use std::collections::{BTreeMap, BTreeSet};

use citus_core::config::{Discover, Formation, Reason, Workers};
use dcs_watch::key::ScopeId;
use dcs_watch::view::{ScopeView, Versioned};

use super::load;

fn scope(text: &str) -> ScopeId {
    text.parse().unwrap()
}

/// A scope as etcd shows it, with its members at `addresses`.
fn view(name: &str, addresses: &[&str]) -> ScopeView {
    let mut view = ScopeView::empty(scope(name));
    for (i, address) in addresses.iter().enumerate() {
        let value = format!(
            r#"{{"conn_url":"postgres://{address}/postgres","state":"running","role":"replica"}}"#
        );
        let member = dcs_watch::value::member(value.as_bytes()).unwrap();
        view.members.insert(
            format!("{name}-{i}"),
            Versioned {
                value: member,
                mod_revision: 1,
                create_revision: 1,
            },
        );
    }
    view
}

fn formation_at(workers: Workers) -> Formation {
    let mut formation = load("good/minimal.yml").unwrap().formations.remove(0);
    formation.workers = workers;
    formation
}

fn at_nodes(groups: &[(u32, &[&str])]) -> Formation {
    formation_at(Workers::AtNodes(
        groups
            .iter()
            .map(|(group, nodes)| (*group, nodes.iter().map(|n| n.parse().unwrap()).collect()))
            .collect(),
    ))
}

#[test]
fn worker_scopes_are_found_by_the_addresses_of_their_members() {
    let formation = at_nodes(&[
        (1, &["10.0.0.1:5432", "10.0.0.2:5432"]),
        (2, &["WK2.example:5432"]),
        (3, &["10.0.0.3:5432"]),
        (4, &["10.0.0.1:5433"]),
    ]);
    let views = [
        view("cn", &["10.0.0.9:5432"]),
        view("wk1", &["10.0.0.7:5432", "10.0.0.2:5432"]),
        view("wk2", &["wk2.example:5432"]),
    ];
    let (resolved, unresolved) = formation.resolve(views.iter());
    assert_eq!(
        resolved,
        BTreeMap::from([(1, scope("wk1")), (2, scope("wk2"))])
    );
    let text: Vec<String> = unresolved.iter().map(ToString::to_string).collect();
    assert_eq!(unresolved.len(), 2, "{text:?}");
    assert!(text[0].starts_with("group 3: no Patroni scope has a member at 10.0.0.3:5432"));
    assert!(text[1].starts_with("group 4: no Patroni scope has a member at 10.0.0.1:5433"));
}

#[test]
fn nodes_that_lead_to_no_worker_scope_of_their_own_are_reported_and_not_used() {
    let formation = at_nodes(&[
        (1, &["10.0.0.1:5432", "10.0.0.2:5432"]),
        (2, &["10.0.0.3:5432"]),
        (3, &["10.0.0.4:5432"]),
        (4, &["10.0.0.9:5432"]),
    ]);
    let views = [
        view("cn", &["10.0.0.9:5432"]),
        view("wk1", &["10.0.0.1:5432"]),
        view("wk2", &["10.0.0.2:5432"]),
        view("wk3", &["10.0.0.3:5432", "10.0.0.4:5432"]),
    ];
    let (resolved, unresolved) = formation.resolve(views.iter());
    assert_eq!(resolved, BTreeMap::new());
    let reasons: BTreeMap<u32, Reason> = unresolved
        .iter()
        .map(|u| (u.group, u.reason.clone()))
        .collect();
    let both = BTreeSet::from([scope("wk1"), scope("wk2")]);
    assert_eq!(reasons[&1], Reason::Ambiguous(both));
    assert_eq!(
        reasons[&2],
        Reason::Shared {
            scope: scope("wk3"),
            others: [3].into()
        }
    );
    assert_eq!(
        reasons[&3],
        Reason::Shared {
            scope: scope("wk3"),
            others: [2].into()
        }
    );
    assert_eq!(reasons[&4], Reason::Coordinator(scope("cn")));
    let text = unresolved
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        text.contains("the scopes wk1 and wk2 could all be meant"),
        "{text}"
    );
}

#[test]
fn a_pattern_discovers_scopes_by_name() {
    let discover = Discover::new(r"^(wk|citus/)(?<group>\d+)$").unwrap();
    for (name, group) in [
        ("wk1", Some(1)),
        ("wk007", Some(7)),
        ("citus/3", Some(3)),
        ("citus/0", None),
        ("wk0", None),
        ("wk", None),
        ("wk1a", None),
        ("wk2147483647", Some(2_147_483_647)),
        ("wk2147483648", None),
        ("wk99999999999999999999", None),
    ] {
        assert_eq!(discover.group_of(&scope(name)), group, "{name}");
    }
}

#[test]
fn discovery_leaves_out_the_coordinator_and_reports_two_scopes_for_one_group() {
    let pattern = r"(?<group>\d+)$";
    let mut formation = formation_at(Workers::Discovered(Discover::new(pattern).unwrap()));
    formation.coordinator.scope = scope("cn1");
    let there = &["10.0.0.1:5432"][..];
    let views = [
        view("cn1", there),
        view("wk1", there),
        view("wk2", there),
        view("x2", there),
    ];
    let (resolved, unresolved) = formation.resolve(views.iter());
    assert_eq!(resolved, BTreeMap::from([(1, scope("wk1"))]));
    assert_eq!(unresolved.len(), 1);
    let both = BTreeSet::from([scope("wk2"), scope("x2")]);
    assert_eq!(unresolved[0].reason, Reason::Ambiguous(both));
}
