//! Lists: pages, and an empty keyspace.

use std::sync::atomic::Ordering;

use dcs_watch::client::{ListError, list_once};

use crate::harness::{Watch, etcd, runtime, settings};

#[test]
fn a_list_of_many_pages_is_complete() {
    let (_sandbox, etcd) = etcd();
    for number in 0..50 {
        etcd.kv()
            .put(&format!("/service/s{number}/leader"), "pg1")
            .unwrap();
    }
    etcd.kv().put("/service0", "next to the namespace").unwrap();
    etcd.kv().put("/servicf", "next to the namespace").unwrap();
    let mut settings = settings(&[etcd.endpoint()]);
    settings.page = 7;
    let watch = Watch::start(settings.clone());
    watch.wait_fresh();
    assert_eq!(watch.views.scopes().borrow().len(), 50);
    assert_eq!(watch.health().keys, 50);
    assert_eq!(watch.counters().list_requests.load(Ordering::Relaxed), 8);
    assert_eq!(runtime().block_on(list_once(&settings)).unwrap().len(), 50);
}

#[test]
fn an_empty_keyspace_is_an_error_that_mentions_api_v2() {
    let (_sandbox, etcd) = etcd();
    etcd.kv().put("/elsewhere/wk1/leader", "pg1").unwrap();
    let error = runtime()
        .block_on(list_once(&settings(&[etcd.endpoint()])))
        .unwrap_err();
    assert!(matches!(error, ListError::Empty { .. }), "{error}");
    assert!(error.to_string().contains("API v2"), "{error}");
    let watch = Watch::of(&etcd);
    assert_eq!(watch.health().keys, 0);
}
