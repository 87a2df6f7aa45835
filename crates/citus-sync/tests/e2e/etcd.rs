//! etcd restarted, or full of nonsense, under real Patroni clusters.

use lab::{Lab, wait_for};
use serde_json::json;

use crate::daemon::{Daemon, SOON};
use crate::fixture::{in_sync, laboratory, make_whole};

#[test]
fn etcd_restarted_under_the_watch_is_survived() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    lab.etcd().kill().expect("etcd dies");
    lab.etcd().start_again().expect("etcd is back");
    make_whole(&lab);
    lab.scope("wk1")
        .expect("wk1")
        .switchover(None)
        .expect("a switchover");
    in_sync(&lab, &daemon);
}

#[test]
fn a_release_while_etcd_is_silent_puts_reads_and_writes_back_at_the_leader() {
    let lab = laboratory();
    let daemon = Daemon::start_by(&lab, &json!({"hold_timeout": "59s"}));
    in_sync(&lab, &daemon);
    // Opened now: the lab finds the coordinator by way of etcd.
    let mut client = coordinator(&lab);
    let mut row = || -> i32 {
        let row = "SELECT nodeport FROM pg_dist_node WHERE groupid = 1 AND noderole = 'primary'";
        client.query_one(row, &[]).expect("the row").get(0)
    };
    let before = row();
    // Else Patroni demotes its leaders before the view is stale.
    for scope in lab.scopes() {
        scope.configure(&json!({"pause": true})).expect("paused");
        for member in scope.members() {
            let key = format!("members/{}", member.name());
            let paused = wait_for("Patroni to pause", SOON, || {
                let key = scope.key(&key)?;
                Ok(key.is_some_and(|key| key.value.contains("\"pause\":true")))
            });
            daemon.expect(paused);
        }
    }
    let answer = daemon.hold(1);
    assert!(answer.reads_moved_to.is_some(), "{answer:?}");
    assert_ne!(row(), before);
    lab.etcd().freeze();
    daemon.wait_logged(&["the views of all scopes are stale"]);
    daemon.release(1);
    let back = wait_for("the row to be back", SOON, || Ok(row() == before));
    lab.etcd().thaw();
    daemon.expect(back);
    make_whole(&lab);
    in_sync(&lab, &daemon);
}

fn coordinator(lab: &Lab) -> lab::postgres::Client {
    lab.coordinator()
        .connect("postgres")
        .expect("the coordinator")
}

#[test]
fn the_slow_timer_finds_a_row_that_was_changed_by_hand() {
    let lab = laboratory();
    let daemon = Daemon::start_with(&lab, |config| {
        config["policy"] = json!({"reconcile_every": "1s"});
    });
    daemon.wait_ready();
    in_sync(&lab, &daemon);
    let spoil = "UPDATE pg_dist_node SET nodeport = nodeport + 20000 WHERE groupid = 1";
    coordinator(&lab).execute(spoil, &[]).expect("spoilt");
    daemon.wait_logged(&["done: move node", "scope=wk1"]);
    in_sync(&lab, &daemon);
}

#[test]
fn malformed_keys_in_etcd_are_logged_counted_and_harmless() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let kv = lab.etcd().kv();
    let nonsense: &[(&str, &[u8])] = &[
        ("/service/wk1/members/ghost", b"{not json"),
        ("/service/wk1/members/deaf", b"null"),
        ("/service/wk1/sync", b"[1,2,3]"),
        ("/service/wk1/failover", b"{\"leader\": 7}"),
        ("/service/wk1/config", b"\xff\xfe"),
        ("/service/strange", b"?"),
        ("/service//leader", b"?"),
        ("/service/wk1/0/0/0/leader", b"?"),
    ];
    // What Patroni itself needs is put back below.
    let kept: Vec<_> = ["sync", "config"]
        .map(|field| {
            lab.scope("wk1")
                .expect("wk1")
                .key(field)
                .expect("a key")
                .expect("its value")
        })
        .into();
    for (key, value) in nonsense {
        kv.put_bytes(key, value).expect("put");
    }
    wait_for("the nonsense to be told", SOON, || {
        Ok(daemon.group(1)?.problems.len() >= 3)
    })
    .expect("problems");
    assert!(
        daemon
            .metric("citus_sync_etcd_malformed_values_total", &[])
            .expect("metrics")
            >= 3
    );
    for key in kept {
        kv.put(&key.key, &key.value).expect("put back");
    }
    for (key, _) in nonsense {
        if !key.ends_with("/sync") && !key.ends_with("/config") {
            kv.delete(key).expect("deleted");
        }
    }
    wait_for("the nonsense to be forgotten", SOON, || {
        Ok(daemon.group(1)?.problems.is_empty())
    })
    .expect("no problems");
    make_whole(&lab);
    lab.scope("wk1")
        .expect("wk1")
        .switchover(None)
        .expect("a switchover");
    in_sync(&lab, &daemon);
}

#[test]
fn a_leader_key_that_names_no_member_moves_nothing() {
    let lab = laboratory();
    let daemon = Daemon::start_with(&lab, |config| {
        // A scope of our own making beside the real ones: Patroni does not fight over its keys.
        config["workers"]
            .as_array_mut()
            .expect("a list")
            .push(json!({"group": 9, "scope": "made"}));
    });
    daemon.wait_ready();
    let kv = lab.etcd().kv();
    for nonsense in ["ghost", "", "{\"a\":1}"] {
        kv.put("/service/made/leader", nonsense).expect("put");
        wait_for("the group to be waited for", SOON, || {
            let group = daemon.group(9)?;
            Ok(
                group.leader.as_deref() == (!nonsense.is_empty()).then_some(nonsense)
                    || !group.problems.is_empty(),
            )
        })
        .unwrap_or_else(|error| panic!("{nonsense:?}: {error:#}\n{}", daemon.log()));
        assert!(!daemon.group(9).expect("a report").in_sync);
    }
    assert_eq!(
        daemon
            .metric("citus_sync_steps_total", &[])
            .expect("metrics"),
        0
    );
    kv.delete_prefix("/service/made/").expect("deleted");
}
