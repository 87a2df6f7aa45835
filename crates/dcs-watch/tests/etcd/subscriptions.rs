//! What subscribers see of keys that change.

use std::sync::atomic::Ordering;

use dcs_watch::{Freshness, Lsn, ScopeId};

use crate::harness::{MEMBER, Watch, etcd};

#[test]
fn puts_and_deletes_reach_the_views() {
    let (_sandbox, etcd) = etcd();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    etcd.kv().put("/service/wk1/members/pg1", MEMBER).unwrap();
    let watch = Watch::of(&etcd);
    let view = watch.view("wk1");
    assert_eq!(view.freshness, Freshness::Fresh);
    assert_eq!(view.leader_address().unwrap().to_string(), "10.0.0.1:5432");
    assert_eq!(watch.health().keys, 2);

    etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    watch.wait_leader("wk1", Some("pg2"));
    etcd.kv().delete("/service/wk1/leader").unwrap();
    watch.wait_leader("wk1", None);
    etcd.kv().put("/service/citus/0/leader", "c1").unwrap();
    watch.wait_leader("citus/0", Some("c1"));
    let scopes: Vec<_> = watch
        .views
        .scopes()
        .borrow()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(scopes, ["citus/0", "wk1"]);
    etcd.kv().delete_prefix("/service/").unwrap();
    watch.wait("no scope", |watch| watch.views.scopes().borrow().is_empty());
    assert_eq!(watch.counters().malformed_values.load(Ordering::Relaxed), 0);
    assert_eq!(watch.relists("first"), 1);
}

#[test]
fn a_lease_that_ends_removes_its_keys_from_the_view() {
    let (_sandbox, etcd) = etcd();
    let watch = Watch::of(&etcd);
    let lease = etcd.kv().grant_lease(60).unwrap();
    etcd.kv()
        .put_leased("/service/wk1/leader", "pg1", lease)
        .unwrap();
    etcd.kv()
        .put_leased("/service/wk1/members/pg1", MEMBER, lease)
        .unwrap();
    watch.wait_leader("wk1", Some("pg1"));
    assert_eq!(watch.view("wk1").leader_lease, lease);
    etcd.kv().revoke_lease(lease).unwrap();
    watch.wait("an empty scope", |watch| !watch.view("wk1").exists());
}

#[test]
fn a_change_wakes_only_the_subscribers_of_its_scope() {
    let (_sandbox, etcd) = etcd();
    etcd.kv().put("/service/wk1/members/pg1", MEMBER).unwrap();
    etcd.kv().put("/service/wk2/leader", "x").unwrap();
    let watch = Watch::of(&etcd);
    let id = |name: &str| name.parse::<ScopeId>().unwrap();
    let mut one = watch.views.scope(&id("wk1"));
    let mut two = watch.views.scope(&id("wk2"));
    let mut health = watch.views.health();
    one.mark_unchanged();
    two.mark_unchanged();
    health.mark_unchanged();
    for position in 2..50 {
        let beat = MEMBER.replace("\":1}", &format!("\":{position}}}"));
        etcd.kv().put("/service/wk1/members/pg1", &beat).unwrap();
        let status = format!(r#"{{"optime":{position}}}"#);
        etcd.kv().put("/service/wk1/status", &status).unwrap();
    }
    etcd.kv().put("/service/wk2/leader", "y").unwrap();
    watch.wait_leader("wk2", Some("y"));
    assert!(two.has_changed().unwrap());
    assert!(!one.has_changed().unwrap(), "positions wake no subscriber");
    assert_eq!(one.borrow().last_position, Some(Lsn(49)), "but are seen");
    assert!(
        !health.has_changed().unwrap(),
        "events do not change the health of the watch"
    );
    assert!(watch.counters().events.load(Ordering::Relaxed) >= 97);
}

#[test]
fn subscribers_of_before_and_after_see_the_last_put() {
    let (_sandbox, etcd) = etcd();
    let watch = Watch::of(&etcd);
    let before = watch.views.scope(&"later".parse().unwrap());
    assert!(!before.borrow().exists(), "subscribed before it exists");
    let mut last = 0;
    for _ in 0..20 {
        last = etcd.kv().put("/service/later/leader", "pg1").unwrap();
    }
    watch.wait("the last put", |_| {
        before
            .borrow()
            .leader
            .as_ref()
            .is_some_and(|leader| leader.mod_revision == last)
    });
    assert_eq!(
        **watch.views.scope(&"later".parse().unwrap()).borrow(),
        **before.borrow()
    );
}

#[test]
fn malformed_keys_and_values_are_problems_and_are_counted() {
    let (_sandbox, etcd) = etcd();
    let watch = Watch::of(&etcd);
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    for (key, value) in [
        ("/service/wk1/members/pg1", b"\xff\xfe".as_slice()),
        ("/service/wk1/members/", b"{}"),
        ("/service/wk1/sync", b"[]"),
        ("/service/wk1/failover", b"{\"leader\":"),
        ("/service/wk1/config", b"null"),
        ("/service/wk2/leader", b""),
    ] {
        etcd.kv().put_bytes(key, value).unwrap();
    }
    etcd.kv()
        .put_bytes("/service/wk1/members/big", &vec![b'['; 1_000_000])
        .unwrap();
    watch.wait("the problems", |watch| {
        watch.view("wk1").problems.len() == 6
    });
    let counters = watch.counters();
    assert_eq!(counters.malformed_keys.load(Ordering::Relaxed), 1);
    assert_eq!(counters.malformed_values.load(Ordering::Relaxed), 6);
    assert_eq!(watch.leader("wk1").as_deref(), Some("pg1"));
    assert_eq!(watch.view("wk2").problems.len(), 1);
    etcd.kv().delete_prefix("/service/wk1/").unwrap();
    watch.wait("no problem", |watch| watch.view("wk1").problems.is_empty());
}
