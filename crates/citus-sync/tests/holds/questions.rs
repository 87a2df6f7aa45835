//! What the coordinator is asked beside holds and moves.

use citus_sync::edge::sql::{can_reach, recover_prepared};
use dcs_watch::HostPort;

use crate::ground::{DEAD_PORT, Session, World, ground};

#[test]
fn the_coordinator_says_whom_it_reaches() {
    let ground = ground();
    let world = World::new(&ground);
    let ask = |address: &HostPort| world.run(can_reach(&world.database, address));
    assert!(ask(&ground.address(1)).expect("an answer"));
    let nowhere = HostPort {
        host: "127.0.0.1".to_owned(),
        port: DEAD_PORT,
    };
    assert!(!ask(&nowhere).expect("an answer"));
    // It accepts and never answers: the answer comes while it is still frozen.
    ground.workers[0].freeze();
    let frozen = ask(&ground.address(1));
    ground.workers[0].thaw();
    if ground.flavour.is_citus() {
        assert!(!frozen.expect("an answer"));
    } else {
        // The stand-in's wait has whole seconds: our own bound comes first.
        assert!(!frozen.unwrap_or(false));
    }
}

#[test]
fn what_a_dead_session_left_prepared_is_recovered() {
    let ground = ground();
    let world = World::new(&ground);
    let recover = || world.run(recover_prepared(&world.database));
    assert_eq!(recover().expect("an answer"), 0);
    if !ground.flavour.is_citus() {
        return;
    }
    // As Citus names them: the coordinator's group, a process that is no more, and two numbers.
    let mut worker = Session::open(&ground.workers[0], "worker");
    worker.run("BEGIN; CREATE TABLE left_behind (); PREPARE TRANSACTION 'citus_0_999999_1_1'");
    assert_eq!(recover().expect("an answer"), 1);
    assert_eq!(worker.one("SELECT count(*) FROM pg_prepared_xacts"), "0");
}
