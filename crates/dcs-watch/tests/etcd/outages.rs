//! Restarts, breaks, silence and failed members: no event is lost, and a view that may be old is
//! stale.

use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dcs_watch::Freshness;
use dcs_watch::client::{ListError, list_once};
use lab::etcd::Etcd;
use lab::sandbox::Sandbox;
use lab::wait::wait_until;

use crate::harness::{MEMBER, PATIENCE, Watch, etcd, runtime, settings};

#[test]
fn events_during_a_restart_of_etcd_are_not_lost() {
    let (_sandbox, etcd) = etcd();
    let watch = Watch::of(&etcd);
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    watch.wait_leader("wk1", Some("pg1"));
    etcd.stop().unwrap();
    etcd.start_again().unwrap();
    etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    watch.wait_leader("wk1", Some("pg2"));
    watch.wait("a fresh view", |watch| watch.health().last_error.is_none());
    assert_eq!(watch.health().lineage, 0);
    assert!(watch.counters().reconnects.load(Ordering::Relaxed) >= 1);
}

#[test]
fn a_short_break_is_resumed_without_a_list() {
    let (_sandbox, etcd) = etcd();
    let mut settings = settings(&[etcd.endpoint()]);
    settings.silence_after = Duration::from_secs(60);
    let watch = Watch::start(settings);
    watch.wait_fresh();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    watch.wait_leader("wk1", Some("pg1"));
    etcd.kill().unwrap();
    etcd.start_again().unwrap();
    etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    watch.wait_leader("wk1", Some("pg2"));
    assert!(watch.counters().resumes.load(Ordering::Relaxed) >= 1);
    let lists: u64 = watch
        .counters()
        .relists()
        .iter()
        .map(|(_, count)| count)
        .sum();
    assert_eq!(lists, 1, "{:?}", watch.counters());
}

#[test]
fn a_compaction_while_disconnected_leads_to_a_new_list() {
    let (sandbox, etcd) = etcd();
    let mut settings = settings(&[etcd.endpoint()]);
    settings.silence_after = Duration::from_secs(60);
    // Long pauses, so that the compaction is over before the watch comes back.
    settings.retry_first = Duration::from_secs(2);
    settings.retry_max = Duration::from_secs(2);
    let watch = Watch::start(settings);
    watch.wait_fresh();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    etcd.kv().put("/service/wk1/members/pg1", MEMBER).unwrap();
    watch.wait("the member", |watch| !watch.view("wk1").members.is_empty());
    etcd.kill().unwrap();
    etcd.start_again().unwrap();
    etcd.kv().delete("/service/wk1/members/pg1").unwrap();
    for _ in 0..5 {
        etcd.kv().put("/elsewhere", "x").unwrap();
    }
    let revision = etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    etcd.kv().compact(revision).unwrap();
    watch.wait_leader("wk1", Some("pg2"));
    assert!(
        watch.view("wk1").members.is_empty(),
        "the delete that no watch delivered"
    );
    assert_eq!(watch.relists("compacted"), 1, "{:?}", watch.counters());
    assert_eq!(watch.health().lineage, 0);
    drop(watch);
    drop(sandbox);
}

#[test]
fn a_frozen_etcd_makes_the_view_stale_and_a_thawed_one_fresh_again() {
    let (_sandbox, etcd) = etcd();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    let watch = Watch::of(&etcd);
    etcd.freeze();
    watch.wait("a stale view", Watch::is_stale);
    let view = watch.view("wk1");
    assert!(
        matches!(view.freshness, Freshness::Stale { .. }),
        "each view is stale itself"
    );
    assert_eq!(
        view.leader.as_ref().unwrap().value,
        "pg1",
        "etcd gone is not leader gone"
    );
    assert!(watch.counters().view_age().unwrap() >= Duration::from_millis(1500));
    etcd.thaw();
    watch.wait_fresh();
    assert_eq!(watch.view("wk1").freshness, Freshness::Fresh);
    assert_eq!(watch.health().lineage, 0);
    assert!(watch.relists("silence") >= 1);
    etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    watch.wait_leader("wk1", Some("pg2"));
}

#[test]
fn a_quiet_etcd_is_not_taken_for_a_dead_one() {
    let (_sandbox, etcd) = etcd();
    let watch = Watch::of(&etcd);
    let asked = || watch.counters().progress_requests.load(Ordering::Relaxed);
    watch.wait("many signs of life", |_| asked() > 12);
    assert_eq!(watch.counters().stale.load(Ordering::Relaxed), 0);
    assert_eq!(watch.counters().reconnects.load(Ordering::Relaxed), 0);
}

#[test]
fn endpoints_that_refuse_or_never_answer_are_passed_over() {
    let (sandbox, etcd) = etcd();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    let dead = format!("http://127.0.0.1:{}", sandbox.port().unwrap());
    // Accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let black_hole = format!("http://{}", silent.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in silent.incoming() {
            kept.push(stream);
        }
    });
    let endpoints = [dead, black_hole, etcd.endpoint()];
    let watch = Watch::start(settings(&endpoints));
    watch.wait_fresh();
    assert_eq!(watch.health().endpoint, etcd.endpoint());
    assert_eq!(watch.leader("wk1").as_deref(), Some("pg1"));
    // And again once the good endpoint fails and comes back.
    etcd.stop().unwrap();
    watch.wait("a stale view", Watch::is_stale);
    etcd.start_again().unwrap();
    watch.wait_fresh();

    let views = runtime()
        .block_on(list_once(&settings(&endpoints)))
        .unwrap();
    assert_eq!(
        views[&"wk1".parse().unwrap()]
            .leader
            .as_ref()
            .unwrap()
            .value,
        "pg1"
    );
    let error = runtime()
        .block_on(list_once(&settings(&endpoints[..2])))
        .unwrap_err();
    let ListError::Unreachable { tried } = &error else {
        panic!("{error}")
    };
    assert_eq!(tried.len(), 2);
    assert!(tried[0].1.contains("refused"), "{error}");
    assert!(tried[1].1.contains("no answer within"), "{error}");
}

#[test]
fn the_watch_goes_on_at_another_member_when_one_fails() {
    let sandbox = Sandbox::new().unwrap();
    let members = Etcd::start_cluster(&sandbox, 3).unwrap();
    members[0].kv().put("/service/wk1/leader", "pg1").unwrap();
    let endpoints: Vec<_> = members.iter().map(Etcd::endpoint).collect();
    let watch = Watch::start(settings(&endpoints));
    watch.wait_fresh();
    assert_eq!(watch.health().endpoint, endpoints[0]);
    for (going, value) in [(0, "pg2"), (1, "pg3")] {
        if going == 0 {
            members[going].kill().unwrap();
        } else {
            members[going].freeze();
        }
        let put = || members[2].kv().put("/service/wk1/leader", value).map(Some);
        wait_until("a quorum", PATIENCE, put).unwrap();
        watch.wait_leader("wk1", Some(value));
        assert_ne!(watch.health().endpoint, endpoints[going]);
        if going == 0 {
            members[going].start_again().unwrap();
        } else {
            members[going].thaw();
        }
    }
    assert_eq!(watch.health().lineage, 0, "the same cluster all along");
}

#[test]
fn the_view_goes_stale_at_a_member_without_a_quorum() {
    let sandbox = Sandbox::new().unwrap();
    let members = Etcd::start_cluster(&sandbox, 3).unwrap();
    let watch = Watch::start(settings(&[members[0].endpoint()]));
    watch.wait_fresh();
    members[1].kill().unwrap();
    members[2].kill().unwrap();
    watch.wait("a stale view", Watch::is_stale);
    members[1].start_again().unwrap();
    watch.wait_fresh();
    assert_eq!(watch.health().lineage, 0);
}
