//! Rows that move: reads under a hold, at the end of a hold, and without one.

use citus_core::plan::{MakeWay, Move, Step};
use citus_core::policy::Policy;
use citus_sync::edge::sql::{Hold, StepError, carry_out, move_reads, resync};
use dcs_watch::HostPort;
use lab::wait_for;

use crate::ground::{DEAD_PORT, Ground, SOON, Session, World, ground, holder, until};

fn dead() -> String {
    format!("127.0.0.1:{DEAD_PORT}")
}

#[test]
fn reads_follow_at_once_while_writers_wait() {
    let ground = ground();
    let world = World::new(&ground);
    let door = &ground.workers[1];
    let hold = world.hold(1, &[ground.address(2)]);
    let mut reader = ground.session("reader");
    reader.run(&ground.read(1));
    let mut at_door = Session::open(door, "reader");
    at_door.run(&ground.read(1));
    let writer = ground.session("writer").start(&ground.write(1, "waits"));
    Ground::wait_blocked(&ground.coordinator, "story writer", 1);

    let step = ground.a_move(1, DEAD_PORT);
    let doors = [ground.address(2)];
    let moved = move_reads(&world.database, &world.doors, &doors, 1, &step, || true);
    let finished = world.run(moved).expect("reads are moved");
    assert_eq!(finished.left_out, []);
    assert!(finished.plain, "a resync is owed");
    assert_eq!(world.known(step.nodeid), dead());
    for session in [&mut reader, &mut at_door] {
        let error = session.try_rows(&ground.read(1)).expect_err("nobody there");
        assert_eq!(error.0, "08006", "{error:?}");
    }
    assert!(!writer.is_over(), "writers are still held");

    // Back, because the switchover was called off.
    let back = ground.a_move(1, ground.workers[0].port());
    let moved = move_reads(&world.database, &world.doors, &doors, 1, &back, || true);
    world.run(moved).expect("reads are back");
    world.release(hold);
    writer.outcome().expect("it goes where the row points");
    reader.run(&ground.read(1));
    at_door.run(&ground.read(1));
}

#[test]
fn the_end_of_a_hold_moves_the_row_everywhere_and_lets_go() {
    let ground = ground();
    let world = World::new(&ground);
    let [one, two] = [ground.address(1), ground.address(2)];
    // Held through one door, moved through both.
    let hold = world.hold(1, std::slice::from_ref(&two));
    let writers = [&ground.coordinator, &ground.workers[1]]
        .map(|server| Session::open(server, "writer").start(&ground.write(1, "waits")));
    Ground::wait_blocked(&ground.coordinator, "story writer", 1);
    Ground::wait_blocked(&ground.workers[1], "story writer", 1);
    let step = ground.a_move(1, DEAD_PORT);
    let targets = [one, two];
    let end = hold.finish(&world.database, &world.doors, &targets, &step, || true);
    let finished = world.run(end).expect("the end");
    assert_eq!(finished.left_out, []);
    assert!(finished.plain);
    for server in [&ground.coordinator, &ground.workers[0], &ground.workers[1]] {
        assert_eq!(Ground::row(server, 1), dead(), "{}", server.name());
    }
    assert_eq!(world.known(step.nodeid), dead());
    // They waited, and went where the row points now: nobody is there.
    for writer in writers {
        let error = writer.outcome().expect_err("nobody is there");
        assert_eq!(error.0, "08006", "{error:?}");
    }
    assert_eq!(Ground::backends(&ground.coordinator, &holder(1)), 0);
    assert_eq!(Ground::backends(&ground.workers[1], &holder(1)), 0);
    // Nobody was marked: Citus would refuse DDL for as long as anybody is.
    let marked = "SELECT count(*) FROM pg_dist_node WHERE hasmetadata AND NOT metadatasynced";
    assert_eq!(ground.session("ground").one(marked), "0");
}

#[test]
fn news_that_came_first_leaves_the_row_and_lets_go() {
    let ground = ground();
    let world = World::new(&ground);
    let hold = world.hold(1, &[ground.address(2)]);
    let step = ground.a_move(1, DEAD_PORT);
    let targets = [ground.address(2)];
    let end = hold.finish(&world.database, &world.doors, &targets, &step, || false);
    let error = world.run(end).expect_err("superseded");
    assert!(matches!(error, StepError::Superseded), "{error}");
    for server in [&ground.coordinator, &ground.workers[1]] {
        // Given back, not merely left for the server to find out.
        assert_eq!(Ground::backends(server, &holder(1)), 0, "{}", server.name());
        assert_eq!(Ground::row(server, 1), ground.address(1).to_string());
        Session::open(server, "writer").run(&ground.write(1, "free"));
    }
    let moved = move_reads(&world.database, &world.doors, &targets, 1, &step, || false);
    let error = world.run(moved).expect_err("superseded");
    assert!(matches!(error, StepError::Superseded), "{error}");
    for server in [&ground.coordinator, &ground.workers[1]] {
        assert_eq!(Ground::row(server, 1), ground.address(1).to_string());
    }
}

#[test]
fn a_row_that_is_right_stays_untouched_and_so_do_the_others() {
    let ground = ground();
    let world = World::new(&ground);
    let versions =
        "SELECT string_agg(nodeid || ' ' || xmin, ',' ORDER BY nodeid) FROM pg_dist_node";
    let mut session = ground.session("ground");
    let before = session.one(versions);
    let right = ground.a_move(1, ground.workers[0].port());
    let moved = move_reads(&world.database, &world.doors, &[], 1, &right, || true);
    world.run(moved).expect("nothing to do");
    assert_eq!(session.one(versions), before);
    // The node of another group.
    let step = ground.a_move(2, DEAD_PORT);
    let moved = move_reads(&world.database, &world.doors, &[], 1, &step, || true);
    let error = world.run(moved).expect_err("not its row").to_string();
    assert!(error.contains("no row of node"), "{error}");
    assert_eq!(session.one(versions), before);
}

#[test]
fn a_secondary_row_changes_places_with_the_primary() {
    let ground = ground();
    let world = World::new(&ground);
    let standby = HostPort {
        host: "127.0.0.1".to_owned(),
        port: DEAD_PORT,
    };
    let mut session = ground.session("ground");
    for server in [&ground.coordinator, &ground.workers[1]] {
        Session::open(server, "ground").run(&format!(
            "INSERT INTO pg_dist_node (nodeid, groupid, nodename, nodeport, noderole) \
             VALUES (99, 1, '127.0.0.1', {DEAD_PORT}, 'secondary')"
        ));
    }
    let old = ground.address(1);
    let step = Move {
        nodeid: ground.nodeid(1),
        from: old.clone(),
        to: standby.clone(),
        make_way: Some(MakeWay {
            nodeid: 99,
            temporary: HostPort {
                host: "citus-sync-swap-99.invalid".to_owned(),
                port: DEAD_PORT,
            },
            then: old.clone(),
        }),
    };
    let rows = "SELECT string_agg(noderole || ' ' || nodename || ':' || nodeport, ', ' ORDER BY nodeid) \
                FROM pg_dist_node WHERE groupid = 1";
    let swapped = format!("primary {standby}, secondary {old}");
    let hold = world.hold(1, &[ground.address(2)]);
    let targets = [ground.address(2)];
    let end = hold.finish(&world.database, &world.doors, &targets, &step, || true);
    assert_eq!(world.run(end).expect("the end").left_out, []);
    assert_eq!(session.one(rows), swapped);
    assert_eq!(
        Session::open(&ground.workers[1], "ground").one(rows),
        swapped
    );
    // Once more: nothing is left to do.
    let versions =
        "SELECT string_agg(nodeid || ' ' || xmin, ',' ORDER BY nodeid) FROM pg_dist_node";
    let before = session.one(versions);
    let moved = move_reads(&world.database, &world.doors, &[], 1, &step, || true);
    world.run(moved).expect("nothing to do");
    assert_eq!(session.one(versions), before);
}

/// Played by a session of its name, which gives way only when it is cancelled.
#[test]
fn a_hung_metadata_sync_is_cancelled_and_the_hold_is_kept_meanwhile() {
    let ground = ground();
    let world = World::new(&ground);
    for held in [true, false] {
        let hold = held.then(|| world.hold(1, &[]));
        let writer = held.then(|| {
            let writer = ground.session("writer").start(&ground.write(1, "waits"));
            Ground::wait_blocked(&ground.coordinator, "story writer", 1);
            writer
        });
        let mut sync = Session::open(&ground.coordinator, "story: sync");
        sync.run(
            "SET application_name = 'Citus Metadata Sync Daemon'; BEGIN; \
             LOCK TABLE pg_dist_node IN ROW EXCLUSIVE MODE",
        );
        let sync = sync.start("SELECT pg_sleep(50)");
        let port = if held {
            DEAD_PORT
        } else {
            ground.workers[0].port()
        };
        let step = ground.a_move(1, port);
        if let Some(hold) = hold {
            let end = hold.finish(&world.database, &world.doors, &[], &step, || true);
            world.run(end).expect("the end");
        } else {
            let moved = move_reads(&world.database, &world.doors, &[], 1, &step, || true);
            world.run(moved).expect("reads are moved");
        }
        let cancelled = sync.outcome().expect_err("it was cancelled");
        assert_eq!(cancelled.0, "57014", "{cancelled:?}");
        if let Some(writer) = writer {
            // Had the locks been given back with the first round, it would have reached the old
            // address.
            let error = writer.outcome().expect_err("nobody is there");
            assert_eq!(error.0, "08006", "{error:?}");
        }
    }
}

#[test]
fn whoever_sits_on_pg_dist_node_is_named_and_the_hold_is_let_go() {
    let ground = ground();
    let world = World::new(&ground);
    let mut admin = ground.session("admin");
    admin.run("BEGIN; LOCK TABLE pg_dist_node IN ROW EXCLUSIVE MODE");
    let hold = world.hold(1, &[]);
    let step = ground.a_move(1, DEAD_PORT);
    let end = hold.finish(&world.database, &world.doors, &[], &step, || true);
    let error = world
        .run(end)
        .expect_err("somebody is in the way")
        .to_string();
    assert!(error.contains("story admin"), "{error}");
    assert_eq!(Ground::backends(&ground.coordinator, &holder(1)), 0);
    ground.session("writer").run(&ground.write(1, "free"));
    admin.run("COMMIT");
}

/// Rule 7: what another group holds is no obstacle, and is not ended.
#[test]
fn a_move_with_somebody_in_the_way_needs_no_reference_table() {
    let ground = ground();
    let world = World::new(&ground);
    let other = world.hold(2, &[]);
    // Held by group 2: it waits, and would be in the way of everybody who wants all of it.
    let reference = ground
        .session("reference")
        .start(&ground.write_reference("waits"));
    Ground::wait_blocked(&ground.coordinator, "story reference", 1);
    let step = Step::Move(ground.a_move(1, DEAD_PORT));
    let doors = [ground.address(2)];
    let moved = carry_out(&world.database, &world.doors, &doors, 1, &step, || true);
    let finished = world.run(moved).expect("a move");
    assert!(finished.plain, "{finished:?}");
    assert_eq!((finished.terminated, finished.left_out), (vec![], vec![]));
    assert_eq!(Ground::row(&ground.coordinator, 1), dead());
    assert_eq!(Ground::row(&ground.workers[1], 1), dead(), "the door too");
    assert_eq!(
        Ground::backends(&ground.coordinator, &holder(2)),
        1,
        "the other hold stands"
    );
    world.release(other);
    // The reference table has a placement in group 1 too, which is nowhere now.
    assert!(reference.outcome().is_err(), "it went on");
}

#[test]
fn a_move_with_a_writer_in_the_way_is_made_all_the_same_and_ends_nobody() {
    let ground = ground();
    let world = World::new(&ground);
    let mut psql = ground.session("psql");
    psql.run(&format!("BEGIN; {}", ground.write(1, "in the way")));
    let step = Step::Move(ground.a_move(1, DEAD_PORT));
    let moved = carry_out(&world.database, &world.doors, &[], 1, &step, || true);
    let finished = world.run(moved).expect("a move");
    assert_eq!(finished.terminated, vec![] as Vec<String>);
    assert!(finished.plain && !finished.phases.forced);
    assert_eq!(Ground::row(&ground.coordinator, 1), dead());
    assert_eq!(psql.one("SELECT 1"), "1");
}

/// Whoever waits for a silent host can be ended by nobody before that host says something.
#[test]
fn a_writer_that_hangs_on_a_silent_host_does_not_keep_the_row_there() {
    let ground = ground();
    let world = World::new(&ground);
    let write = ground.write(1, "hangs");
    let step = Step::Move(ground.a_move(1, DEAD_PORT));
    ground.workers[0].freeze();
    let hangs = ground.session("hangs").start(&write);
    let mut session = ground.session("ground");
    until("a writer that has its shard", || {
        let has = "SELECT count(*) > 0 FROM pg_locks JOIN pg_stat_activity USING (pid) \
                   WHERE granted AND mode = 'ShareLock' AND application_name = 'story hangs'";
        session.one(has) == "t"
    });
    let moved = carry_out(&world.database, &world.doors, &[], 1, &step, || true);
    let moved = world.run(moved);
    let hung = !hangs.is_over();
    ground.workers[0].thaw();
    assert!(moved.expect("a move").plain);
    assert!(hung, "the writer has hung all the time");
    assert_eq!(Ground::row(&ground.coordinator, 1), dead());
}

#[test]
fn a_move_with_nobody_in_the_way_is_told_to_the_workers_by_citus() {
    let ground = ground();
    let world = World::new(&ground);
    let step = Step::Move(ground.a_move(1, DEAD_PORT));
    let moved = carry_out(&world.database, &world.doors, &[], 1, &step, || true);
    let finished = world.run(moved).expect("a move");
    assert!(!finished.plain && !finished.phases.forced);
    assert_eq!(Ground::row(&ground.coordinator, 1), dead());
}

#[test]
fn a_resync_tells_every_worker_beside_holds_and_leaves_no_row() {
    let ground = ground();
    let world = World::new(&ground);
    let step = ground.a_move(1, DEAD_PORT);
    let moved = move_reads(&world.database, &world.doors, &[], 1, &step, || true);
    world.run(moved).expect("reads are moved");
    let worker = &ground.workers[1];
    assert_eq!(Ground::row(worker, 1), ground.address(1).to_string());
    // Even if every worker is marked already, of which Citus would make nothing.
    let mut session = ground.session("ground");
    session.run("UPDATE pg_dist_node SET metadatasynced = false WHERE hasmetadata AND groupid = 2");
    let holds = [world.hold(1, &[]), world.hold(2, &[])];
    // A sync that is under way just then is not waited for: the next try will do.
    wait_for("the resync", SOON, || {
        world.run(resync(&world.database, 1, || true))?;
        Ok(true)
    })
    .expect("it is told");
    wait_for("the worker's row", SOON, || {
        if !ground.flavour.is_citus() {
            session.run("SELECT citus_stand_in_sync_metadata()");
        }
        Ok(Ground::row(worker, 1) == dead())
    })
    .expect("it follows");
    for server in [&ground.coordinator, worker] {
        let rows = Session::open(server, "ground").one("SELECT count(*) FROM pg_dist_node");
        assert_eq!(rows, "3", "{}", server.name());
    }
    for hold in holds {
        world.release(hold);
    }
}

#[test]
fn a_role_that_may_not_change_the_rows_holds_all_the_same_and_citus_moves() {
    let ground = ground();
    ground.owner("mover");
    let grant = "GRANT EXECUTE ON FUNCTION citus_update_node TO mover";
    ground.session("ground").run(grant);
    let world = World::of_role(&ground, "mover");
    let step = ground.a_move(1, DEAD_PORT);
    let moved = world.run(move_reads(
        &world.database,
        &world.doors,
        &[],
        1,
        &step,
        || true,
    ));
    let taken = world.run(Hold::take(
        &world.database,
        &world.doors,
        &world.order(1, &[]),
    ));
    let finished = taken.map(|hold| {
        let end = hold.finish(&world.database, &world.doors, &[], &step, || true);
        world.run(end)
    });
    let error = moved.expect_err("it may not");
    assert!(matches!(error, StepError::NoRights), "{error}");
    let finished = finished.expect("a hold").expect("its end");
    assert!(!finished.plain, "Citus tells the workers itself");
    assert_eq!(Ground::row(&ground.coordinator, 1), dead());
}

/// It may be the very thing that is gone.
#[test]
fn no_move_waits_for_the_coordinators_synchronous_standby() {
    /// Until it is dropped.
    struct Nobody<'a>(&'a Ground);
    impl Nobody<'_> {
        fn set(&self, names: &str) {
            let mut session = self.0.session("ground");
            session.run(&format!(
                "ALTER SYSTEM SET synchronous_standby_names = '{names}'"
            ));
            session.run("SELECT pg_reload_conf()");
            until("the setting", || {
                self.0
                    .session("ground")
                    .one("SHOW synchronous_standby_names")
                    == names
            });
        }
    }
    impl Drop for Nobody<'_> {
        fn drop(&mut self) {
            self.set("");
        }
    }

    let ground = ground();
    // Nothing else ends the wait for it.
    let policy = Policy {
        statement_timeout: 2 * SOON,
        ..Policy::default()
    };
    let world = World::with(&ground, "postgres", &policy);
    let nobody = Nobody(&ground);
    nobody.set("nobody");
    let (away, back) = (
        ground.a_move(1, DEAD_PORT),
        ground.a_move(1, ground.workers[0].port()),
    );
    let moved = move_reads(&world.database, &world.doors, &[], 1, &away, || true);
    world.run(moved).expect("reads are moved");
    let hold = world.hold(1, &[]);
    let end = hold.finish(&world.database, &world.doors, &[], &back, || true);
    world.run(end).expect("the end");
    let step = Step::Move(away);
    let moved = carry_out(&world.database, &world.doors, &[], 1, &step, || true);
    assert!(!world.run(moved).expect("a move").plain, "at once");
    wait_for("the resync", SOON, || {
        world.run(resync(&world.database, 1, || true))?;
        Ok(true)
    })
    .expect("workers are told");
    assert_eq!(Ground::row(&ground.coordinator, 1), dead());
}
