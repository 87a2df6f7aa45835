//! A role with few rights: what it may do is done, what it may not is said.

use citus_core::report::{Phase, TransitionKind, TransitionOutcome};
use serde_json::json;

use crate::bare::Bare;
use crate::clients::was;

#[test]
fn a_role_that_may_not_update_pg_dist_node_holds_and_moves_no_reads() {
    let bare = Bare::start();
    let [old, new] = &bare.members;
    bare.put_leader("wk1", old);
    bare.distribute();
    for server in [&bare.coordinator, old, new] {
        server
            .execute(
                "postgres",
                "SET citus.enable_create_role_propagation = off; \
                 CREATE ROLE app; CREATE ROLE follower LOGIN IN ROLE app",
            )
            .expect("a role");
    }
    // Citus lets only roles that may change a table hold its shards.
    bare.coordinator
        .execute("postgres", "ALTER TABLE t OWNER TO app")
        .expect("its owner");
    for function in [
        "citus_update_node(integer, text, integer, boolean, integer)",
        "citus_pause_node_within_txn(integer, boolean, integer)",
        "lock_shard_metadata(integer, bigint[])",
    ] {
        let grant = format!("GRANT EXECUTE ON FUNCTION {function} TO follower");
        bare.coordinator.execute("postgres", &grant).expect(&grant);
    }
    let daemon = bare.daemon_as("follower", &json!({}), |_| {});
    daemon.wait_ready();
    bare.wait_row(&daemon, old);

    bare.request(&json!({"leader": old.name(), "member": new.name()}));
    daemon.wait_held(1);
    let writer = bare.writer();
    bare.wait_writer_waits(&daemon);
    let group = daemon.group(1).expect("a report");
    let step = &group.databases["postgres"].step;
    assert!(
        step.contains("reads stay at") && step.contains("our role may not update pg_dist_node"),
        "{step}"
    );
    bare.put_leader("wk1", new);
    bare.withdraw();
    drop(writer.join().expect("the writer goes on"));
    bare.in_sync(&daemon, new);
    was(
        &daemon.transition(1),
        TransitionKind::Switchover,
        TransitionOutcome::Followed,
        &[
            Phase::Requested,
            Phase::Held,
            Phase::LeaderGone,
            Phase::LeaderKey,
            Phase::Writable,
            Phase::Committed,
            Phase::Released,
        ],
    );
    daemon.wait_logged(&["switchover over, followed", "scope=wk1"]);
}
