//! However a hold ends, what it held is given back: by the server's own hand if need be (rule 2).

use std::cell::Cell;
use std::thread;
use std::time::Duration;

use citus_core::plan::Rows;
use citus_core::policy::Policy;

use crate::fixture::Fixture;
use crate::held::Held;
use crate::servers::{
    DEAD_PORT, Servers, holder, servers, until, wait_for_holder, wait_for_nobody,
};
use crate::session::Session;

/// This process is "frozen" by not turning its runtime any more: no statement, no answer to a
/// keepalive of ours, no drop.
#[test]
fn the_server_ends_a_hold_at_its_deadline_though_we_are_frozen() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let mut order = fixture.order(1, &[servers.address(2)]);
    // Shorter than what every session of ours has anyway.
    order.left = Duration::from_secs(4);
    let hold = fixture.run(fixture.take(&order));
    let hold = hold.expect("a hold");
    let entry_nodes = &servers.workers[1];
    let writers = [&servers.coordinator, entry_nodes]
        .map(|server| Session::open(server, "writer").start(&servers.write(1, "late")));
    Servers::wait_blocked(&servers.coordinator, "scenario writer", 1);
    Servers::wait_blocked(entry_nodes, "scenario writer", 1);
    // Frozen from here on.
    for writer in writers {
        writer
            .outcome()
            .expect("it goes on when the server ends the hold");
    }
    Servers::wait_gone(&servers.coordinator, &holder(1));
    Servers::wait_gone(entry_nodes, &holder(1));

    // Thawed: we are told, and what is known of the coordinator is not lost with the hold.
    let unchanged = fixture.changed.has_changed();
    fixture.run(hold.closing());
    fixture.release(hold);
    fixture.run(async { tokio::time::sleep(Duration::from_millis(50)).await });
    assert_eq!(fixture.changed.has_changed().ok(), unchanged.ok());
    assert!(matches!(fixture.database.rows(), Rows::Known(_)));
}

/// What the wait for writers has used up is not given on top.
#[test]
fn the_deadline_counts_from_the_beginning_of_the_wait() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let mut psql = servers.session("psql");
    psql.run(&format!("BEGIN; {}", servers.write(1, "in the way")));
    let mut order = fixture.order(1, &[]);
    order.cooldown = Duration::from_secs(4);
    order.left = Duration::from_secs(6);
    let mut session = servers.session("ground");
    let begun = session.one("SELECT clock_timestamp()");
    let hold = fixture.run(fixture.take(&order));
    let hold = hold.expect("a hold");
    assert_eq!(hold.terminated().len(), 1, "it waited for somebody");
    // Frozen from here on. The server's own clock says how long it took.
    let mut last = begun.clone();
    let holders = format!(
        "SELECT clock_timestamp() FROM pg_stat_activity WHERE application_name = '{}'",
        holder(1)
    );
    until("the end of the hold", || {
        let rows = session.try_rows(&holders).expect("holders");
        match rows.first() {
            Some(row) => last.clone_from(&row[0]),
            None => return true,
        }
        false
    });
    let took = format!("SELECT extract(epoch FROM timestamptz '{last}' - '{begun}')");
    let took: f64 = session.one(&took).parse().expect("seconds");
    assert!((4.0..8.0).contains(&took), "{took} s, 6 were given");
}

/// What the server was told when the locks were taken counts anew from each word of ours.
#[test]
fn a_hold_that_is_frozen_between_two_tries_to_end_it_has_no_second_deadline() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let mut session = servers.session("ground");
    let begun = session.one("SELECT clock_timestamp()");
    let mut order = fixture.order(1, &[]);
    order.left = Duration::from_secs(8);
    let hold = fixture.run(fixture.take(&order));
    let hold = hold.expect("a hold");
    let mut admin = servers.session("admin");
    admin.run("BEGIN; LOCK TABLE pg_dist_node IN ROW EXCLUSIVE MODE");
    let since = |moment: &str| format!("extract(epoch FROM {moment} - timestamptz '{begun}')");
    let waited = format!("SELECT {} > 5", since("clock_timestamp()"));
    until("most of its time", || session.one(&waited) == "t");
    let seen = format!(
        "SELECT {} FROM pg_stat_activity WHERE application_name = '{}'",
        since("clock_timestamp()"),
        holder(1)
    );
    // A thread of its own, because this one is frozen.
    let mut session = servers.session("ground");
    let watch = move || {
        let mut last = 0.0;
        until("the end of the hold", || {
            let rows = session.try_rows(&seen).expect("holders");
            let Some(row) = rows.first() else {
                return true;
            };
            last = row[0].parse().expect("seconds");
            false
        });
        last
    };
    let (watch, last, tries) = (Cell::new(Some(watch)), Cell::new(0.0), Cell::new(0));
    let still_right = || {
        tries.set(tries.get() + 1);
        if tries.get() == 2 {
            let watch = watch.take().expect("once");
            last.set(thread::spawn(watch).join().expect("its end"));
        }
        true
    };
    let step = servers.a_move(1, DEAD_PORT);
    let end = hold.finish(fixture.sessions(), &[], &step, still_right);
    fixture.run(end).expect_err("somebody is in the way");
    assert_eq!(tries.get(), 2);
    assert!(last.get() < 11.0, "{} s, 8 were given", last.get());
}

#[test]
fn a_hold_that_is_called_off_while_it_is_taken_leaves_no_session() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let mut psql = servers.session("psql");
    psql.run(&format!("BEGIN; {}", servers.write(1, "in the way")));
    let mut order = fixture.order(1, &[]);
    order.cooldown = Duration::from_secs(50);
    fixture.run(async {
        let port = servers.coordinator.port();
        let waits = tokio::task::spawn_blocking(move || wait_for_holder(port));
        tokio::select! {
            taken = fixture.take(&order) => {
                panic!("somebody is in the way, but {taken:?}")
            }
            waits = waits => waits.expect("it waits"),
        }
    });
    // The reason to hold is gone, the writer is not. Others must not queue behind nobody.
    let other = servers
        .session("other")
        .start(&servers.write_beside(1, "goes on"));
    fixture.run(async {
        let port = servers.coordinator.port();
        let gone = move || wait_for_nobody(port, &holder(1));
        tokio::task::spawn_blocking(gone).await.expect("it is gone");
    });
    other.outcome().expect("nobody is held");
    assert_eq!(psql.one("SELECT 1"), "1", "nobody was terminated");
}

#[test]
fn a_hold_that_is_dropped_releases_writers() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let hold = fixture.hold(1, &[servers.address(2)]);
    let writers = [&servers.coordinator, &servers.workers[1]]
        .map(|server| Session::open(server, "writer").start(&servers.write(1, "after")));
    Servers::wait_blocked(&servers.coordinator, "scenario writer", 1);
    Servers::wait_blocked(&servers.workers[1], "scenario writer", 1);
    drop(hold);
    // As in life, the runtime turns: a session is closed by its task.
    fixture.run(async {
        for server in [&servers.coordinator, &servers.workers[1]] {
            let port = server.port();
            let gone = move || wait_for_nobody(port, &holder(1));
            tokio::task::spawn_blocking(gone).await.expect("it is gone");
        }
    });
    for writer in writers {
        writer.outcome().expect("it goes on");
    }
}

/// Reads may be at a standby by then, where the writes of the entry node's clients would fail.
#[test]
fn the_entry_nodes_of_a_hold_that_is_lost_stay_held_until_it_is_taken_again() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let entry_node = &servers.workers[1];
    let entry_nodes = [servers.address(2)];
    let pid = format!(
        "SELECT pid FROM pg_stat_activity WHERE application_name = '{}'",
        holder(1)
    );
    let pid = |server| Session::open(server, "ground").one(&pid);
    let lose = |hold: Held| {
        let end = format!(
            "SELECT pg_terminate_backend({}, 10000)",
            pid(&servers.coordinator)
        );
        servers.session("ground").run(&end);
        fixture.run(hold.closing());
        fixture.keep_entry_nodes(hold, 1);
    };
    let hold = fixture.hold(1, &entry_nodes);
    let before = pid(entry_node);
    let writer = Session::open(entry_node, "writer").start(&servers.write(1, "at the entry node"));
    Servers::wait_blocked(entry_node, "scenario writer", 1);
    lose(hold);

    // It does not come to that: somebody is in the way whom we do not terminate.
    let mut own = servers.session("citus-sync: another instance");
    own.run(&format!("BEGIN; {}", servers.write_beside(1, "in the way")));
    let order = fixture.order(1, &entry_nodes);
    let taken = fixture.run(fixture.take(&order));
    taken.expect_err("somebody is in the way");
    own.run("ROLLBACK");
    assert_eq!(pid(entry_node), before);

    let hold = fixture.hold(1, &entry_nodes);
    assert_eq!(hold.entry_nodes(), entry_nodes);
    assert_eq!(pid(entry_node), before, "it was held all the time");
    assert!(!writer.is_over());
    let news = fixture.release(hold);
    assert_eq!((news.held, news.skipped), (1, vec![]));
    writer.outcome().expect("it goes on");

    // And until the group is let go.
    lose(fixture.hold(1, &entry_nodes));
    assert_eq!(Servers::backends(entry_node, &holder(1)), 1);
    fixture.kept.borrow_mut().clear();
    fixture.run(async {
        let port = entry_node.port();
        let gone = move || wait_for_nobody(port, &holder(1));
        tokio::task::spawn_blocking(gone).await.expect("it is gone");
    });
}

/// A move that has taken the locks of its group is not a hold, and makes writers wait all the same.
#[test]
fn a_move_keeps_its_locks_no_longer_than_a_hold_may() {
    let servers = servers();
    let policy = Policy {
        hold_timeout: Duration::from_secs(1),
        ..Policy::default()
    };
    let fixture = Fixture::with(&servers, "postgres", &policy);
    // In the way of the first try, which wants everything, and not of the second.
    let mut writer = servers.session("writer");
    writer.run(&format!("BEGIN; {}", servers.write_reference("open")));
    let step = servers.a_move(1, DEAD_PORT);
    let tries = Cell::new(0);
    let frozen = || {
        // Not on this thread, which turns a runtime.
        let frozen = thread::scope(|scope| scope.spawn(|| who_is_ended_first(&servers)).join());
        frozen.expect("the end of one of them")
    };
    let moved = fixture.move_row(&[], &step, || {
        tries.set(tries.get() + 1);
        if tries.get() == 2 {
            assert_eq!(frozen(), "the move");
        }
        true
    });
    fixture.run(moved).expect_err("its session was ended");
    assert_eq!(tries.get(), 2);
    let row = Servers::row(&servers.coordinator, 1);
    assert_eq!(row, servers.address(1).to_string());
    writer.run("ROLLBACK");
}

/// A move that holds the locks of group 1 and says nothing any more, or a session that may be silent
/// for eight seconds.
fn who_is_ended_first(servers: &Servers) -> &'static str {
    const MOVE: &str = "citus-sync: move group 1";
    assert_eq!(Servers::backends(&servers.coordinator, MOVE), 1);
    let mut other = servers.session("other");
    other.run("SET idle_in_transaction_session_timeout = '8s'; BEGIN");
    let mut session = servers.session("ground");
    let left = format!(
        "SELECT string_agg(application_name, ', ') FROM pg_stat_activity \
         WHERE application_name IN ('{MOVE}', 'scenario other')"
    );
    let mut first = "";
    until("the end of one of them", || {
        first = match session.one(&left).as_str() {
            "scenario other" => "the move",
            MOVE => "the other",
            _ => return false,
        };
        true
    });
    first
}
