//! Rows that move: reads under a hold, at the end of a hold, and without one.

use citus_core::plan::{MakeWay, Move};
use citus_core::policy::Policy;
use citus_sync::execute::{Finish, StepError, resync};
use dcs_watch::HostPort;
use lab::wait_for;

use crate::fixture::Fixture;
use crate::servers::{DEAD_PORT, Servers, holder, servers, until};
use crate::session::{SOON, Session};

fn dead() -> String {
    format!("127.0.0.1:{DEAD_PORT}")
}

#[test]
fn reads_follow_at_once_while_writers_wait() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let entry_node = &servers.workers[1];
    let hold = fixture.hold(1, &[servers.address(2)]);
    let mut reader = servers.session("reader");
    reader.run(&servers.read(1));
    let mut at_entry_node = Session::open(entry_node, "reader");
    at_entry_node.run(&servers.read(1));
    let writer = servers.session("writer").start(&servers.write(1, "waits"));
    Servers::wait_blocked(&servers.coordinator, "scenario writer", 1);

    let step = servers.a_move(1, DEAD_PORT);
    let entry_nodes = [servers.address(2)];
    let moved = fixture.send_reads(&entry_nodes, &step, || true);
    let finished = fixture.run(moved).expect("reads are moved");
    assert_eq!(finished.skipped, []);
    assert!(finished.plain, "a resync is owed");
    assert_eq!(fixture.known(step.nodeid), dead());
    for session in [&mut reader, &mut at_entry_node] {
        let error = session
            .try_rows(&servers.read(1))
            .expect_err("nobody there");
        assert_eq!(error.0, "08006", "{error:?}");
    }
    assert!(!writer.is_over(), "writers are still held");

    // Back, because the switchover was called off.
    let back = servers.a_move(1, servers.workers[0].port());
    let moved = fixture.send_reads(&entry_nodes, &back, || true);
    fixture.run(moved).expect("reads are back");
    fixture.release(hold);
    writer.outcome().expect("it goes where the row points");
    reader.run(&servers.read(1));
    at_entry_node.run(&servers.read(1));
}

#[test]
fn the_end_of_a_hold_moves_the_row_at_every_entry_node_and_releases_writers() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let [one, two] = [servers.address(1), servers.address(2)];
    // Held through one entry node, moved through both.
    let hold = fixture.hold(1, std::slice::from_ref(&two));
    let writers = [&servers.coordinator, &servers.workers[1]]
        .map(|server| Session::open(server, "writer").start(&servers.write(1, "waits")));
    Servers::wait_blocked(&servers.coordinator, "scenario writer", 1);
    Servers::wait_blocked(&servers.workers[1], "scenario writer", 1);
    let step = servers.a_move(1, DEAD_PORT);
    let targets = [one, two];
    let end = hold.finish(fixture.sessions(), &targets, &step, || true);
    let finished = fixture.run(end).expect("the end");
    assert_eq!(finished.skipped, []);
    assert!(finished.plain);
    for server in [
        &servers.coordinator,
        &servers.workers[0],
        &servers.workers[1],
    ] {
        assert_eq!(Servers::row(server, 1), dead(), "{}", server.name());
    }
    assert_eq!(fixture.known(step.nodeid), dead());
    // They waited, and went where the row points now: nobody is there.
    for writer in writers {
        let error = writer.outcome().expect_err("nobody is there");
        assert_eq!(error.0, "08006", "{error:?}");
    }
    assert_eq!(Servers::backends(&servers.coordinator, &holder(1)), 0);
    assert_eq!(Servers::backends(&servers.workers[1], &holder(1)), 0);
    // Nobody was marked: Citus would refuse DDL for as long as anybody is.
    let marked = "SELECT count(*) FROM pg_dist_node WHERE hasmetadata AND NOT metadatasynced";
    assert_eq!(servers.session("ground").one(marked), "0");
}

#[test]
fn newer_state_that_came_first_leaves_the_row_and_releases_writers() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let hold = fixture.hold(1, &[servers.address(2)]);
    let step = servers.a_move(1, DEAD_PORT);
    let targets = [servers.address(2)];
    let end = hold.finish(fixture.sessions(), &targets, &step, || false);
    let error = fixture.run(end).expect_err("superseded");
    assert!(matches!(error, StepError::Superseded), "{error}");
    for server in [&servers.coordinator, &servers.workers[1]] {
        // Given back, not merely left for the server to find out.
        assert_eq!(
            Servers::backends(server, &holder(1)),
            0,
            "{}",
            server.name()
        );
        assert_eq!(Servers::row(server, 1), servers.address(1).to_string());
        Session::open(server, "writer").run(&servers.write(1, "free"));
    }
    let moved = fixture.send_reads(&targets, &step, || false);
    let error = fixture.run(moved).expect_err("superseded");
    assert!(matches!(error, StepError::Superseded), "{error}");
    for server in [&servers.coordinator, &servers.workers[1]] {
        assert_eq!(Servers::row(server, 1), servers.address(1).to_string());
    }
}

#[test]
fn a_row_that_is_right_stays_untouched_and_so_do_the_others() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let versions =
        "SELECT string_agg(nodeid || ' ' || xmin, ',' ORDER BY nodeid) FROM pg_dist_node";
    let mut session = servers.session("ground");
    let before = session.one(versions);
    let right = servers.a_move(1, servers.workers[0].port());
    let moved = fixture.send_reads(&[], &right, || true);
    fixture.run(moved).expect("nothing to do");
    assert_eq!(session.one(versions), before);
    // The node of another group.
    let step = servers.a_move(2, DEAD_PORT);
    let moved = fixture.send_reads(&[], &step, || true);
    let error = fixture.run(moved).expect_err("not its row").to_string();
    assert!(error.contains("no row of node"), "{error}");
    assert_eq!(session.one(versions), before);
}

#[test]
fn a_secondary_row_changes_places_with_the_primary() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let standby = HostPort {
        host: "127.0.0.1".to_owned(),
        port: DEAD_PORT,
    };
    let mut session = servers.session("ground");
    for server in [&servers.coordinator, &servers.workers[1]] {
        Session::open(server, "ground").run(&format!(
            "INSERT INTO pg_dist_node (nodeid, groupid, nodename, nodeport, noderole) \
             VALUES (99, 1, '127.0.0.1', {DEAD_PORT}, 'secondary')"
        ));
    }
    let old = servers.address(1);
    let step = Move {
        nodeid: servers.nodeid(1),
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
    let hold = fixture.hold(1, &[servers.address(2)]);
    let targets = [servers.address(2)];
    let end = hold.finish(fixture.sessions(), &targets, &step, || true);
    assert_eq!(fixture.run(end).expect("the end").skipped, []);
    assert_eq!(session.one(rows), swapped);
    assert_eq!(
        Session::open(&servers.workers[1], "ground").one(rows),
        swapped
    );
    // Once more: nothing is left to do.
    let versions =
        "SELECT string_agg(nodeid || ' ' || xmin, ',' ORDER BY nodeid) FROM pg_dist_node";
    let before = session.one(versions);
    let moved = fixture.send_reads(&[], &step, || true);
    fixture.run(moved).expect("nothing to do");
    assert_eq!(session.one(versions), before);
}

/// Played by a session of its name, which gives way only when it is cancelled.
#[test]
fn a_hung_metadata_sync_is_cancelled_and_the_hold_is_kept_meanwhile() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    for held in [true, false] {
        let hold = held.then(|| fixture.hold(1, &[]));
        let writer = held.then(|| {
            let writer = servers.session("writer").start(&servers.write(1, "waits"));
            Servers::wait_blocked(&servers.coordinator, "scenario writer", 1);
            writer
        });
        let mut sync = Session::open(&servers.coordinator, "scenario: sync");
        sync.run(
            "SET application_name = 'Citus Metadata Sync Daemon'; BEGIN; \
             LOCK TABLE pg_dist_node IN ROW EXCLUSIVE MODE",
        );
        let sync = sync.start("SELECT pg_sleep(50)");
        let port = if held {
            DEAD_PORT
        } else {
            servers.workers[0].port()
        };
        let step = servers.a_move(1, port);
        if let Some(hold) = hold {
            let end = hold.finish(fixture.sessions(), &[], &step, || true);
            fixture.run(end).expect("the end");
        } else {
            let moved = fixture.send_reads(&[], &step, || true);
            fixture.run(moved).expect("reads are moved");
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
fn a_session_that_locks_pg_dist_node_is_named_and_the_hold_is_released() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let mut admin = servers.session("admin");
    admin.run("BEGIN; LOCK TABLE pg_dist_node IN ROW EXCLUSIVE MODE");
    let hold = fixture.hold(1, &[]);
    let step = servers.a_move(1, DEAD_PORT);
    let end = hold.finish(fixture.sessions(), &[], &step, || true);
    let error = fixture
        .run(end)
        .expect_err("somebody is in the way")
        .to_string();
    assert!(error.contains("scenario admin"), "{error}");
    assert_eq!(Servers::backends(&servers.coordinator, &holder(1)), 0);
    servers.session("writer").run(&servers.write(1, "free"));
    admin.run("COMMIT");
}

/// As the rebalancer does for a moment: writes must not go on where the row still points at the old
/// leader.
#[test]
fn a_hold_outlives_a_lock_on_pg_dist_node_and_ends_with_the_move() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let targets = [servers.address(2)];
    let step = servers.a_move(1, DEAD_PORT);
    let finish = Finish {
        targets: &targets,
        step: &step,
        keep: true,
    };
    let mut admin = servers.session("admin");
    admin.run("BEGIN; LOCK TABLE pg_dist_node IN ROW EXCLUSIVE MODE");
    let hold = fixture.hold(1, &targets);
    let writers = [&servers.coordinator, &servers.workers[1]]
        .map(|server| Session::open(server, "writer").start(&servers.write(1, "waits")));
    for server in [&servers.coordinator, &servers.workers[1]] {
        Servers::wait_blocked(server, "scenario writer", 1);
    }
    let sessions = fixture.sessions();
    let failed = fixture.run(hold.finish_or_keep(sessions, finish, || true));
    let (error, kept) = failed.expect_err("pg_dist_node is locked");
    assert!(error.to_string().contains("scenario admin"), "{error}");
    let hold = kept.expect("the hold stands");
    assert_eq!(hold.entry_nodes(), targets);
    assert!(writers.iter().all(|writer| !writer.is_over()));
    admin.run("COMMIT");
    let finished = fixture.run(hold.finish_or_keep(sessions, finish, || true));
    let finished = finished.map_err(|(error, _)| error).expect("the end");
    assert_eq!(finished.skipped, []);
    for server in [&servers.coordinator, &servers.workers[1]] {
        assert_eq!(Servers::row(server, 1), dead(), "{}", server.name());
    }
    for writer in writers {
        let error = writer.outcome().expect_err("nobody is there");
        assert_eq!(error.0, "08006", "{error:?}");
    }
}

/// Rule 7: what another group holds is no obstacle, and is not ended.
#[test]
fn a_move_past_a_writer_needs_no_reference_table() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let other = fixture.hold(2, &[]);
    // Held by group 2: it waits, and would be in the way of everybody who wants all of it.
    let reference = servers
        .session("reference")
        .start(&servers.write_reference("waits"));
    Servers::wait_blocked(&servers.coordinator, "scenario reference", 1);
    let step = servers.a_move(1, DEAD_PORT);
    let entry_nodes = [servers.address(2)];
    let moved = fixture.move_row(&entry_nodes, &step, || true);
    let finished = fixture.run(moved).expect("a move");
    assert!(finished.plain, "{finished:?}");
    assert_eq!((finished.terminated, finished.skipped), (vec![], vec![]));
    assert_eq!(Servers::row(&servers.coordinator, 1), dead());
    assert_eq!(
        Servers::row(&servers.workers[1], 1),
        dead(),
        "the entry node too"
    );
    assert_eq!(
        Servers::backends(&servers.coordinator, &holder(2)),
        1,
        "the other hold stands"
    );
    fixture.release(other);
    // The reference table has a placement in group 1 too, which is nowhere now.
    assert!(reference.outcome().is_err(), "it went on");
}

#[test]
fn a_move_past_a_writer_is_made_and_terminates_no_session() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let mut psql = servers.session("psql");
    psql.run(&format!("BEGIN; {}", servers.write(1, "in the way")));
    let step = servers.a_move(1, DEAD_PORT);
    let moved = fixture.move_row(&[], &step, || true);
    let finished = fixture.run(moved).expect("a move");
    assert_eq!(finished.terminated, vec![] as Vec<String>);
    assert!(finished.plain && !finished.phases.forced);
    assert_eq!(Servers::row(&servers.coordinator, 1), dead());
    assert_eq!(psql.one("SELECT 1"), "1");
}

/// Whoever waits for a silent host can be ended by nobody before that host says something.
#[test]
fn a_writer_that_hangs_on_a_silent_host_does_not_keep_the_row_there() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let write = servers.write(1, "hangs");
    let step = servers.a_move(1, DEAD_PORT);
    servers.workers[0].freeze();
    let hangs = servers.session("hangs").start(&write);
    let mut session = servers.session("ground");
    until("a writer that has its shard", || {
        let has = "SELECT count(*) > 0 FROM pg_locks JOIN pg_stat_activity USING (pid) \
                   WHERE granted AND mode = 'ShareLock' AND application_name = 'scenario hangs'";
        session.one(has) == "t"
    });
    let moved = fixture.move_row(&[], &step, || true);
    let moved = fixture.run(moved);
    let hung = !hangs.is_over();
    servers.workers[0].thaw();
    assert!(moved.expect("a move").plain);
    assert!(hung, "the writer has hung all the time");
    assert_eq!(Servers::row(&servers.coordinator, 1), dead());
}

#[test]
fn citus_tells_its_workers_of_a_move_that_no_session_blocks() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let step = servers.a_move(1, DEAD_PORT);
    let moved = fixture.move_row(&[], &step, || true);
    let finished = fixture.run(moved).expect("a move");
    assert!(!finished.plain && !finished.phases.forced);
    assert_eq!(Servers::row(&servers.coordinator, 1), dead());
}

#[test]
fn a_resync_tells_every_worker_beside_holds_and_leaves_no_row() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let step = servers.a_move(1, DEAD_PORT);
    let moved = fixture.send_reads(&[], &step, || true);
    fixture.run(moved).expect("reads are moved");
    let worker = &servers.workers[1];
    assert_eq!(Servers::row(worker, 1), servers.address(1).to_string());
    // Even if every worker is marked already, of which Citus would make nothing.
    let mut session = servers.session("ground");
    session.run("UPDATE pg_dist_node SET metadatasynced = false WHERE hasmetadata AND groupid = 2");
    let holds = [fixture.hold(1, &[]), fixture.hold(2, &[])];
    // A sync that is under way just then is not waited for: the next try will do.
    wait_for("the resync", SOON, || {
        fixture.run(resync(&fixture.database, 1, || true))?;
        Ok(true)
    })
    .expect("it is told");
    wait_for("the worker's row", SOON, || {
        if !servers.flavour.is_citus() {
            session.run("SELECT citus_stand_in_sync_metadata()");
        }
        Ok(Servers::row(worker, 1) == dead())
    })
    .expect("it follows");
    for server in [&servers.coordinator, worker] {
        let rows = Session::open(server, "ground").one("SELECT count(*) FROM pg_dist_node");
        assert_eq!(rows, "3", "{}", server.name());
    }
    for hold in holds {
        fixture.release(hold);
    }
}

#[test]
fn a_role_that_may_not_change_the_rows_holds_all_the_same_and_citus_moves() {
    let servers = servers();
    servers.owner("mover");
    let grant = "GRANT EXECUTE ON FUNCTION citus_update_node TO mover";
    servers.session("ground").run(grant);
    let fixture = Fixture::of_role(&servers, "mover");
    let step = servers.a_move(1, DEAD_PORT);
    let moved = fixture.run(fixture.send_reads(&[], &step, || true));
    let taken = fixture.run(fixture.take(&fixture.order(1, &[])));
    let finished = taken.map(|hold| {
        let end = hold.finish(fixture.sessions(), &[], &step, || true);
        fixture.run(end)
    });
    let error = moved.expect_err("it may not");
    assert!(matches!(error, StepError::NoRights), "{error}");
    let finished = finished.expect("a hold").expect("its end");
    assert!(!finished.plain, "Citus tells the workers itself");
    assert_eq!(Servers::row(&servers.coordinator, 1), dead());
}

/// It may be the very thing that is gone.
#[test]
fn no_move_waits_for_the_coordinators_synchronous_standby() {
    /// Until it is dropped.
    struct Nobody<'a>(&'a Servers);
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

    let servers = servers();
    // Nothing else ends the wait for it.
    let policy = Policy {
        statement_timeout: 2 * SOON,
        ..Policy::default()
    };
    let fixture = Fixture::with(&servers, "postgres", &policy);
    let nobody = Nobody(&servers);
    nobody.set("nobody");
    let (away, back) = (
        servers.a_move(1, DEAD_PORT),
        servers.a_move(1, servers.workers[0].port()),
    );
    let moved = fixture.send_reads(&[], &away, || true);
    fixture.run(moved).expect("reads are moved");
    let hold = fixture.hold(1, &[]);
    let end = hold.finish(fixture.sessions(), &[], &back, || true);
    fixture.run(end).expect("the end");
    let moved = fixture.move_row(&[], &away, || true);
    assert!(!fixture.run(moved).expect("a move").plain, "at once");
    wait_for("the resync", SOON, || {
        fixture.run(resync(&fixture.database, 1, || true))?;
        Ok(true)
    })
    .expect("workers are told");
    assert_eq!(Servers::row(&servers.coordinator, 1), dead());
}
