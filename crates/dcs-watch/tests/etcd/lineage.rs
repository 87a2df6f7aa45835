//! A history of etcd that is not the one known before.

use crate::harness::{Watch, etcd};

#[test]
fn a_wiped_etcd_is_another_lineage() {
    let (_sandbox, etcd) = etcd();
    for _ in 0..5 {
        etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    }
    let watch = Watch::of(&etcd);
    assert_eq!(watch.health().lineage, 0);
    etcd.wipe().unwrap();
    watch.wait("a new lineage", |watch| watch.health().lineage == 1);
    watch.wait_leader("wk1", None);
    assert_eq!(
        watch.view("wk1").lineage,
        1,
        "also of a scope that the new list does not have"
    );
    etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    watch.wait_leader("wk1", Some("pg2"));
    assert_eq!(watch.view("wk1").lineage, 1);
}

#[test]
fn an_etcd_that_was_replaced_is_another_lineage() {
    let (_sandbox, etcd) = etcd();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    let watch = Watch::of(&etcd);
    let cluster = watch.health().cluster_id;
    etcd.replace_with_empty().unwrap();
    watch.wait("a new lineage", |watch| watch.health().lineage == 1);
    assert_ne!(watch.health().cluster_id, cluster);
}

#[test]
fn an_etcd_set_back_to_a_backup_is_another_lineage() {
    let (_sandbox, etcd) = etcd();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    let backup = etcd.backup().unwrap();
    for _ in 0..5 {
        etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    }
    let watch = Watch::of(&etcd);
    assert_eq!(watch.leader("wk1").as_deref(), Some("pg2"));
    etcd.restore(&backup).unwrap();
    watch.wait("a new lineage", |watch| watch.health().lineage == 1);
    watch.wait_leader("wk1", Some("pg1"));
    assert_eq!(watch.view("wk1").lineage, 1);
}
