//! Lists: pages, and an empty keyspace.

use std::sync::atomic::Ordering;

use dcs_watch::client::{Confirm, ListError, list_once};
use dcs_watch::{KeyRevisions, ScopeId};

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

#[test]
fn the_keys_of_a_scope_are_read_as_etcd_has_them_now() {
    let (_sandbox, etcd) = etcd();
    let (kv, runtime) = (etcd.kv(), runtime());
    let elsewhere = "http://127.0.0.1:1".to_owned();
    let confirm = Confirm::new(settings(&[elsewhere, etcd.endpoint()]));
    let keys = |scope: &str| runtime.block_on(confirm.keys(&scope.parse::<ScopeId>().unwrap()));
    let (leader, sync) = (None, None);
    assert_eq!(keys("wk1"), Ok(KeyRevisions { leader, sync }));
    let leader = Some(kv.put("/service/wk1/leader", "pg1").unwrap());
    assert_eq!(keys("wk1"), Ok(KeyRevisions { leader, sync }));
    let sync = Some(kv.put("/service/wk1/sync", "{}").unwrap());
    assert_eq!(keys("wk1"), Ok(KeyRevisions { leader, sync }));
    // In the layout of Patroni's own Citus support the group is part of the path.
    let leader = Some(kv.put("/service/citus/1/leader", "pg1").unwrap());
    let sync = None;
    assert_eq!(keys("citus/1"), Ok(KeyRevisions { leader, sync }));

    etcd.kill().unwrap();
    let error = keys("wk1").unwrap_err();
    assert!(error.contains("refused"), "{error}");
    // And on a new connection once it is back.
    etcd.start_again().unwrap();
    lab::wait_for("the keys", std::time::Duration::from_secs(30), || {
        Ok(keys("citus/1") == Ok(KeyRevisions { leader, sync }))
    })
    .unwrap();
}
