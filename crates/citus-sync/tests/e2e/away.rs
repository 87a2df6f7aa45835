//! etcd away, compacted meanwhile, emptied, or back from a backup in which another member led.

use citus_core::plan::Rule;
use lab::wait_for;
use serde_json::json;

use crate::bare::Bare;
use crate::daemon::SOON;

#[test]
fn a_restored_etcd_moves_no_row_while_the_member_it_names_takes_writes() {
    let bare = Bare::start();
    let [old, new] = &bare.members;
    bare.put_leader("wk1", old);
    let daemon = bare.daemon(&json!({}));
    bare.wait_row(&daemon, old);
    let backup = bare.etcd.backup().expect("a backup");
    bare.put_leader("wk1", new);
    bare.wait_row(&daemon, new);
    // More history than the backup has: its revision is lower than what was seen.
    for n in 0..10 {
        bare.etcd
            .kv()
            .put("/elsewhere", &n.to_string())
            .expect("put");
    }

    bare.etcd.restore(&backup).expect("restored");
    wait_for("the daemon to mistrust what it reads", SOON, || {
        let group = daemon.group(1)?;
        let step = &group.databases["postgres"].step;
        Ok(step.contains("etcd went back in time") && step.contains("still takes writes"))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));
    let mut client = bare
        .coordinator
        .connect("postgres")
        .expect("the coordinator");
    assert_eq!(
        Bare::row(&mut client).expect("the row"),
        new.port(),
        "{}",
        daemon.log()
    );

    // As soon as that member is gone for certain, what etcd says is the best there is.
    new.kill().expect("dead");
    bare.wait_row(&daemon, old);
}

#[test]
fn an_etcd_that_lost_everything_moves_nothing() {
    let bare = Bare::start();
    let [old, _] = &bare.members;
    bare.put_leader("wk1", old);
    let daemon = bare.daemon(&json!({}));
    bare.wait_row(&daemon, old);
    bare.etcd.replace_with_empty().expect("emptied");
    wait_for("the scopes to be gone", SOON, || {
        let state = daemon.state()?;
        Ok(state.etcd.fresh
            && state.formations[0]
                .groups
                .iter()
                .all(|group| group.leader.is_none()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));
    let mut client = bare
        .coordinator
        .connect("postgres")
        .expect("the coordinator");
    assert_eq!(Bare::row(&mut client).expect("the row"), old.port());
    assert_eq!(
        daemon
            .metric("citus_sync_steps_total", &[])
            .expect("metrics"),
        0
    );
}

#[test]
fn nothing_changes_while_etcd_is_away() {
    let bare = Bare::start();
    let [leader, other] = &bare.members;
    bare.put_leader("wk1", leader);
    let daemon = bare.daemon(&json!({"reconcile_every": "1s"}));
    bare.wait_row(&daemon, leader);
    bare.etcd.freeze();
    wait_for("the view to be stale", SOON, || {
        Ok(!daemon.state()?.etcd.fresh)
    })
    .expect("stale");

    // A row changed by hand is seen, and stays: on a stale view it is not known what is right.
    let spoil = format!(
        "UPDATE pg_dist_node SET nodeport = {} WHERE groupid = 1",
        other.port()
    );
    bare.coordinator
        .execute("postgres", &spoil)
        .expect("changed by hand");
    wait_for("the daemon to see the row", SOON, || {
        let group = daemon.group(1)?;
        let seen = group.databases["postgres"].row.as_ref().map(|row| row.port);
        Ok(group.rule == Rule::Stale && seen == Some(other.port()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));
    assert_eq!(
        daemon
            .metric("citus_sync_steps_total", &[])
            .expect("metrics"),
        0
    );

    // And as soon as etcd is back, it is.
    bare.etcd.thaw();
    bare.wait_row(&daemon, leader);
}

#[test]
fn a_failover_during_a_cut_off_watch_is_found_although_etcd_has_compacted_it() {
    let bare = Bare::start();
    let [old, new] = &bare.members;
    bare.put_leader("wk1", old);
    let daemon = bare.daemon(&json!({}));
    bare.wait_row(&daemon, old);
    // Something that the watch itself delivers, so that it has a revision to resume from.
    bare.put_leader("wk1", new);
    bare.wait_row(&daemon, new);
    daemon.freeze();
    bare.etcd.kill().expect("etcd dies");
    bare.etcd.start_again().expect("etcd is back");
    bare.put_leader("wk1", old);
    let last = bare.etcd.kv().put("/elsewhere", "x").expect("put");
    bare.etcd.kv().compact(last).expect("compacted");
    daemon.thaw();
    bare.wait_row(&daemon, old);
    let reason = ["reason=\"compacted\""];
    let relists = daemon.metric("citus_sync_etcd_relists_total", &reason);
    assert_eq!(relists.expect("metrics"), 1, "{}", daemon.log());
}
