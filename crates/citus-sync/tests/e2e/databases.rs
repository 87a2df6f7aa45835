//! Databases fail alone and are named; together they move at once.

use lab::wait_for;
use serde_json::json;

use crate::daemon::{Daemon, SOON};
use crate::fixture::{close_second, coordinator, in_sync, laboratory, rows_are_leaders, switch};

#[test]
fn a_database_that_is_broken_for_a_while_is_retried_alone() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let mut admin = lab
        .coordinator()
        .connect("postgres")
        .expect("the coordinator");
    close_second(&mut admin);
    wait_for("the database to be named", SOON, || {
        let state = daemon.state()?;
        Ok(state.formations[0].databases.iter().any(|database| {
            database.name == "second"
                && database
                    .error
                    .as_ref()
                    .is_some_and(|why| why.contains("second"))
        }))
    })
    .expect("named");

    lab.scope("wk1")
        .expect("wk1")
        .switchover(None)
        .expect("a switchover");
    wait_for("the other database to follow", SOON, || {
        rows_are_leaders(&lab, "postgres").map(|()| true)
    })
    .expect("the other database follows");
    assert!(
        !daemon.group(1).expect("a report").in_sync,
        "one database is behind"
    );

    admin
        .batch_execute("ALTER DATABASE second ALLOW_CONNECTIONS true")
        .expect("open again");
    in_sync(&lab, &daemon);
}

#[test]
fn a_database_that_does_not_exist_keeps_no_other_waiting() {
    let lab = laboratory();
    let daemon = Daemon::start_with(&lab, |config| {
        // First on purpose: probes must not depend on it either.
        config["coordinator"]["databases"] = json!(["nowhere", "postgres", "second"]);
    });
    daemon.wait_ready();
    lab.scope("wk2")
        .expect("wk2")
        .switchover(None)
        .expect("a switchover");
    wait_for("the existing databases to follow", SOON, || {
        rows_are_leaders(&lab, "postgres")?;
        rows_are_leaders(&lab, "second")?;
        Ok(true)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));
    let state = daemon.state().expect("a state");
    let nowhere = &state.formations[0].databases[0];
    let why = nowhere.error.as_deref().expect("an error");
    assert!(why.contains("\"nowhere\" does not exist"), "{why}");
}

#[test]
fn a_database_whose_locks_are_stuck_holds_up_no_other() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    // Another session holds group 1's shards in one database and never lets go.
    let mut holder = coordinator(&lab, "second");
    holder
        .batch_execute(
            "SET application_name = 'stuck'; BEGIN; SELECT lock_shard_metadata(7, \
             array_agg(shardid ORDER BY shardid)) FROM pg_dist_placement WHERE groupid = 1",
        )
        .expect("held");
    switch(&lab, "wk1");
    in_sync(&lab, &daemon);
    // Terminated by the hold, if that had the time for it: a move does not need its locks.
    // The other database had its hold, and no session was in its way.
    let transition = daemon.transition(1);
    let (postgres, second) = (
        &transition.databases["postgres"],
        &transition.databases["second"],
    );
    let ended = holder.batch_execute("SELECT 1").is_err();
    let told = second.terminated.iter().any(|who| who.contains("stuck"));
    assert_eq!(ended, told, "{transition:#?}");
    assert!(second.committed_us.is_some(), "{transition:#?}");
    assert!(postgres.terminated.is_empty(), "{transition:#?}");
    assert!(
        postgres.held_us.is_some() && postgres.held_us < second.held_us.or(second.committed_us),
        "{transition:#?}"
    );
}
