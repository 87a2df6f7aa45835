//! Entry nodes that cannot be had are skipped and named, and nobody waits for them (rule 9).

use std::fs;
use std::time::Duration;

use citus_core::outcome::{EntryNodeNews, Skipped};
use citus_sync::execute::ask_entry_nodes;
use dcs_watch::HostPort;
use lab::Postgres;

use crate::fixture::Fixture;
use crate::held::Held;
use crate::servers::{DEAD_PORT, Servers, holder, servers, until, wait_for_nobody};
use crate::session::Session;

fn nowhere() -> HostPort {
    HostPort {
        host: "127.0.0.1".to_owned(),
        port: DEAD_PORT,
    }
}

/// The entry nodes that Citus is to tell by itself.
fn marked(servers: &Servers) -> String {
    servers.session("ground").one(
        "SELECT COALESCE(string_agg(nodeport::text, ','), '') FROM pg_dist_node \
         WHERE hasmetadata AND NOT metadatasynced AND groupid = 2",
    )
}

/// A server in recovery, whose log is longer than that of one that is new.
fn standby(servers: &Servers, name: &str) -> Postgres {
    let standby = Postgres::start(&servers.sandbox, name).expect("a server");
    for _ in 0..3 {
        let mut session = Session::open(&standby, "ground");
        session.run("CREATE TABLE more (); DROP TABLE more");
        session.run("SELECT pg_switch_wal()");
    }
    standby.stop().expect("its end");
    let data = standby.log().parent().expect("its folder").join("data");
    fs::write(data.join("standby.signal"), "").expect("a standby");
    standby.start_again().expect("a standby");
    standby
}

fn sorted(skipped: &[Skipped]) -> Vec<&HostPort> {
    let mut entry_nodes: Vec<&HostPort> = skipped.iter().map(|left| &left.node).collect();
    entry_nodes.sort();
    entry_nodes
}

/// A hold of group 1 that waits at its only entry node, of group 2, for as long as a client there leaves its
/// transaction open.
fn hold_beside_a_writer(servers: &Servers, fixture: &Fixture) -> (Session, Held) {
    let mut client = Session::open(&servers.workers[1], "client");
    client.run(&format!("BEGIN; {}", servers.write(1, "at the entry node")));
    let mut order = fixture.order(1, &[servers.address(2)]);
    order.cooldown = Duration::from_secs(50);
    let hold = fixture.run(fixture.take(&order));
    (client, hold.expect("a hold"))
}

#[test]
fn an_entry_node_that_refuses_and_one_that_is_frozen_are_skipped_of_a_hold() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let (one, two) = (servers.address(1), servers.address(2));
    servers.workers[0].freeze();
    let hold = fixture.hold(2, &[nowhere(), one.clone()]);
    // It came although the entry node is still frozen.
    assert_eq!(hold.entry_nodes(), []);
    assert_eq!(sorted(&hold.skipped()), [&nowhere(), &one]);
    let texts: Vec<String> = hold.skipped().iter().map(ToString::to_string).collect();
    let texts = texts.join("; ");
    assert!(
        texts.contains("127.0.0.1:1: ") && texts.contains("gave no answer within 300 ms"),
        "{texts}"
    );
    fixture.release(hold);

    // Those that can be had are had.
    let hold = fixture.hold(1, &[nowhere(), one.clone(), two.clone()]);
    assert_eq!(hold.entry_nodes(), std::slice::from_ref(&two));
    assert_eq!(sorted(&hold.skipped()), [&nowhere(), &one]);
    fixture.release(hold);
    servers.workers[0].thaw();
}

/// Whoever asked for the hold waits for the coordinator alone.
#[test]
fn an_entry_node_that_says_nothing_delays_no_hold() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let entry_nodes = [servers.address(2)];
    // From here on there is a session to it, so it is waited for for as long as a statement may take.
    fixture.release(fixture.hold(1, &entry_nodes));
    servers.workers[1].freeze();
    let order = fixture.order(1, &entry_nodes);
    let hold = fixture.run(fixture.take(&order));
    let mut hold = hold.expect("a hold");
    assert_eq!(hold.under_way(), entry_nodes, "nothing is known of it yet");
    assert_eq!((hold.entry_nodes(), hold.skipped()), (vec![], vec![]));
    servers.workers[1].thaw();
    fixture.run(hold.known());
    assert_eq!(hold.entry_nodes(), entry_nodes, "it joins");
    fixture.release(hold);
}

#[test]
fn an_entry_node_with_a_writer_in_the_way_joins_the_hold_later() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let entry_node = &servers.workers[1];
    let entry_nodes = [servers.address(2)];
    let (mut client, mut hold) = hold_beside_a_writer(&servers, &fixture);
    assert_eq!((hold.entry_nodes(), hold.skipped()), (vec![], vec![]));
    client.run("COMMIT");
    fixture.run(hold.known());
    assert_eq!(hold.entry_nodes(), entry_nodes);
    let writer = Session::open(entry_node, "writer").start(&servers.write(1, "after"));
    Servers::wait_blocked(entry_node, "scenario writer", 1);
    assert_eq!(fixture.release(hold).skipped, []);
    writer.outcome().expect("it goes on");

    // The end of the hold does not wait for it either.
    let (mut client, hold) = hold_beside_a_writer(&servers, &fixture);
    assert_eq!(hold.under_way(), entry_nodes);
    fixture.release(hold);
    fixture.run(async {
        let port = entry_node.port();
        let gone = move || wait_for_nobody(port, &holder(1));
        tokio::task::spawn_blocking(gone).await.expect("it is gone");
    });
    assert_eq!(client.one("SELECT 1"), "1", "nobody was terminated");
}

#[test]
fn a_writer_in_the_way_at_an_entry_node_is_terminated_there() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let mut client = Session::open(&servers.workers[1], "client");
    client.run(&format!("BEGIN; {}", servers.write(1, "at the entry node")));
    let mut hold = fixture.hold(1, &[servers.address(2)]);
    assert_eq!(hold.entry_nodes(), [servers.address(2)]);
    let [who] = &hold.news().terminated[..] else {
        panic!("{:?}", hold.terminated());
    };
    let place = format!("at entry node {}", servers.address(2));
    assert!(
        who.contains("scenario client") && who.ends_with(&place),
        "{who}"
    );
    assert_eq!(hold.news().terminated, [""; 0], "told once");
    fixture.release(hold);
}

/// At an entry node that is not held, the row stays where writes are taken.
#[test]
fn reads_of_an_entry_node_that_is_not_held_follow_when_the_leader_is_gone_or_at_the_end() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let entry_node = &servers.workers[1];
    let entry_nodes = [servers.address(2)];
    let before = servers.address(1).to_string();
    for end in ["the leader is gone", "the hold ends"] {
        let back = servers.a_move(1, servers.workers[0].port());
        let moved = fixture.send_reads(&entry_nodes, &back, || true);
        fixture.run(moved).expect("as it was");
        let (mut client, mut hold) = hold_beside_a_writer(&servers, &fixture);
        let step = servers.a_move(1, DEAD_PORT);
        fixture.move_reads(&mut hold, &entry_nodes, &step);
        assert_eq!(Servers::row(&servers.coordinator, 1), nowhere().to_string());
        assert_eq!(Servers::row(entry_node, 1), before);
        client.run("COMMIT");
        fixture.run(hold.known());
        assert_eq!(hold.entry_nodes(), entry_nodes);
        assert_eq!(
            Servers::row(entry_node, 1),
            before,
            "the standby does not answer"
        );
        let writer = Session::open(entry_node, "writer").start(&servers.write(1, "waits"));
        Servers::wait_blocked(entry_node, "scenario writer", 1);
        if end == "the leader is gone" {
            hold.leader_is_gone();
            until("the row", || {
                fixture.run(hold.turn());
                Servers::row(entry_node, 1) == nowhere().to_string()
            });
            assert!(!writer.is_over(), "it is held all the same");
        }
        let news = fixture.release(hold);
        assert_eq!((news.held, news.skipped), (1, vec![]));
        assert_eq!(Servers::row(entry_node, 1), nowhere().to_string());
        // Not let go before the row was moved.
        let error = writer.outcome().expect_err("nobody is there");
        assert_eq!(error.0, "08006", "{error:?}");
        assert_eq!(marked(&servers), "");
    }
}

/// What was written through it since the leader was asked how much a standby has to have is more.
#[test]
fn reads_of_an_entry_node_that_was_held_late_do_not_follow_at_once() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let entry_node = &servers.workers[1];
    let entry_nodes = [servers.address(2)];
    let (mut client, mut hold) = hold_beside_a_writer(&servers, &fixture);
    client.run("COMMIT");
    fixture.run(hold.known());
    assert_eq!(hold.entry_nodes(), entry_nodes);
    let step = servers.a_move(1, DEAD_PORT);
    fixture.move_reads(&mut hold, &entry_nodes, &step);
    assert_eq!(Servers::row(&servers.coordinator, 1), nowhere().to_string());
    // Nor later: the standby does not answer. Each question takes as long as the move would.
    for _ in 0..20 {
        let told = ask_entry_nodes(&fixture.database, &fixture.entry_nodes, &entry_nodes, 1);
        let [(_, at)] = &fixture.run(told)[..] else {
            panic!("one entry node")
        };
        assert_eq!(at.as_ref().ok(), Some(&Some(servers.address(1))));
    }
    assert_eq!(fixture.release(hold).skipped, []);
    assert_eq!(Servers::row(entry_node, 1), nowhere().to_string());
}

/// There is nobody left whom its writers could reach.
#[test]
fn reads_of_an_entry_node_that_cannot_be_held_follow_all_the_same_once_the_leader_is_gone() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let entry_node = &servers.workers[1];
    let entry_nodes = [servers.address(2)];
    let (_client, mut hold) = hold_beside_a_writer(&servers, &fixture);
    let away = servers.a_move(1, DEAD_PORT);
    fixture.move_reads(&mut hold, &entry_nodes, &away);
    hold.leader_is_gone();
    until("the row", || {
        fixture.run(hold.turn());
        Servers::row(entry_node, 1) == nowhere().to_string()
    });
    // From now on at once.
    let back = servers.a_move(1, servers.workers[0].port());
    fixture.move_reads(&mut hold, &entry_nodes, &back);
    assert_eq!(Servers::row(entry_node, 1), servers.address(1).to_string());
    assert_eq!(hold.entry_nodes(), [], "its client is still there");
    fixture.release(hold);
}

#[test]
fn reads_of_an_entry_node_that_is_held_late_follow_once_the_standby_has_everything() {
    let servers = servers();
    let ahead = standby(&servers, "ahead");
    let new = Postgres::start(&servers.sandbox, "new").expect("a server");
    let fixture = Fixture::new(&servers);
    let entry_node = &servers.workers[1];
    let entry_nodes = [servers.address(2)];
    let (mut client, mut hold) = hold_beside_a_writer(&servers, &fixture);
    let mut step = servers.a_move(1, ahead.port());
    // One that has less in its log than the standby.
    step.from.port = new.port();
    fixture.move_reads(&mut hold, &entry_nodes, &step);
    assert_eq!(Servers::row(entry_node, 1), servers.workers[0].address());
    assert!(!hold.is_quiet(), "it is being taken");
    client.run("COMMIT");
    // Whoever waits for that may take it that the entry node has followed.
    fixture.run(hold.quiet());
    assert!(hold.is_quiet());
    assert_eq!(Servers::row(entry_node, 1), ahead.address());
    assert_eq!(hold.entry_nodes(), entry_nodes, "not before it was held");
    assert_eq!(fixture.release(hold).skipped, []);
    assert_eq!(Servers::row(entry_node, 1), ahead.address());
}

#[test]
fn an_entry_node_that_is_neither_held_nor_follows_is_named_once_and_marked() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let entry_nodes = [servers.address(2)];
    for end in ["release", "finish"] {
        servers.workers[1].freeze();
        let mut hold = fixture.hold(1, &entry_nodes);
        assert_eq!(sorted(&hold.news().skipped), [&entry_nodes[0]]);
        let step = servers.a_move(1, DEAD_PORT);
        fixture.move_reads(&mut hold, &entry_nodes, &step);
        assert_eq!(marked(&servers), "", "it may follow yet");
        let skipped = if end == "release" {
            fixture.release(hold).skipped
        } else {
            let end = hold.finish(fixture.sessions(), &entry_nodes, &step, || true);
            fixture.run(end).expect("the end").skipped
        };
        assert_eq!(skipped, [], "{end}: somebody knows it");
        assert_eq!(marked(&servers), entry_nodes[0].port.to_string(), "{end}");
        servers.workers[1].thaw();
        let unmark = "UPDATE pg_dist_node SET metadatasynced = true WHERE hasmetadata";
        servers.session("ground").run(unmark);
    }
}

#[test]
fn an_entry_node_that_freezes_while_it_is_held_is_not_waited_for() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let entry_nodes = [servers.address(2)];
    for end in ["release", "finish"] {
        let hold = fixture.hold(1, &entry_nodes);
        assert_eq!(hold.entry_nodes(), entry_nodes);
        servers.workers[1].freeze();
        if end == "release" {
            fixture.release(hold);
        } else {
            let step = servers.a_move(1, DEAD_PORT);
            let end = hold.finish(fixture.sessions(), &entry_nodes, &step, || true);
            let finished = fixture.run(end).expect("the end");
            assert_eq!(sorted(&finished.skipped), [&entry_nodes[0]]);
            assert_eq!(Servers::row(&servers.coordinator, 1), nowhere().to_string());
        }
        servers.workers[1].thaw();
    }
}

#[test]
fn an_entry_node_that_was_started_anew_while_it_was_held_follows_all_the_same() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let entry_nodes = [servers.address(2)];
    let hold = fixture.hold(1, &entry_nodes);
    assert_eq!(hold.entry_nodes(), entry_nodes);
    servers.workers[1].stop().expect("its end");
    servers.workers[1].start_again().expect("it is back");
    let step = servers.a_move(1, DEAD_PORT);
    let end = hold.finish(fixture.sessions(), &entry_nodes, &step, || true);
    let finished = fixture.run(end).expect("the end");
    assert_eq!(finished.skipped, []);
    assert_eq!(Servers::row(&servers.workers[1], 1), nowhere().to_string());
}

#[test]
fn an_entry_node_that_did_not_follow_is_marked_so_that_citus_tells_it() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let (one, two) = (servers.address(1), servers.address(2));
    servers.workers[1].freeze();
    let step = servers.a_move(1, DEAD_PORT);
    let entry_nodes = [two.clone(), nowhere()];
    let moved = fixture.send_reads(&entry_nodes, &step, || true);
    let finished = fixture.run(moved).expect("reads are moved");
    assert_eq!(sorted(&finished.skipped), [&nowhere(), &two]);
    assert_eq!(
        marked(&servers),
        two.port.to_string(),
        "{one} has been told nothing either, but was no entry node"
    );
    servers.workers[1].thaw();
}

/// Who is marked, and by nothing but its port: there is one entry node, and the other worker was none.
const MARKED: &str = "SELECT string_agg(nodeport::text, ',') FROM pg_dist_node \
                      WHERE hasmetadata AND NOT metadatasynced";

#[test]
fn an_entry_node_that_did_not_follow_the_end_of_a_hold_is_marked_and_no_other() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let entry_nodes = [servers.address(2)];
    let step = servers.a_move(1, DEAD_PORT);
    let hold = fixture.hold(1, &[]);
    servers.workers[1].freeze();
    let end = hold.finish(fixture.sessions(), &entry_nodes, &step, || true);
    let finished = fixture.run(end).expect("the end");
    assert_eq!(sorted(&finished.skipped), [&entry_nodes[0]]);
    let marked = servers.session("ground").one(MARKED);
    servers.workers[1].thaw();
    assert_eq!(marked, entry_nodes[0].port.to_string());
}

#[test]
fn an_entry_node_that_did_not_follow_a_move_past_a_writer_is_marked() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let entry_nodes = [servers.address(2)];
    let step = servers.a_move(1, DEAD_PORT);
    let mut psql = servers.session("psql");
    psql.run(&format!("BEGIN; {}", servers.write(1, "in the way")));
    servers.workers[1].freeze();
    let moved = fixture.move_row(&entry_nodes, &step, || true);
    let finished = fixture.run(moved).expect("a move");
    assert_eq!(sorted(&finished.skipped), [&entry_nodes[0]]);
    let marked = servers.session("ground").one(MARKED);
    servers.workers[1].thaw();
    assert_eq!(marked, entry_nodes[0].port.to_string());
}

/// The coordinator decides: what it does not do, no entry node does, whether it was held or not.
#[test]
fn no_entry_node_follows_a_coordinator_that_did_not_move() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let mut admin = servers.session("admin");
    let targets = [servers.address(1), servers.address(2)];
    let step = servers.a_move(1, DEAD_PORT);
    for held in [true, false] {
        let hold = held.then(|| fixture.hold(1, &targets[1..]));
        admin.run("BEGIN; LOCK TABLE pg_dist_node IN ROW EXCLUSIVE MODE");
        if let Some(hold) = hold {
            let end = hold.finish(fixture.sessions(), &targets, &step, || true);
            fixture.run(end).expect_err("somebody is in the way");
        } else {
            let moved = fixture.send_reads(&targets, &step, || true);
            fixture.run(moved).expect_err("somebody is in the way");
        }
        admin.run("COMMIT");
        for server in [
            &servers.coordinator,
            &servers.workers[0],
            &servers.workers[1],
        ] {
            let row = Servers::row(server, 1);
            assert_eq!(row, servers.address(1).to_string(), "{}", server.name());
            assert_eq!(Servers::backends(server, &holder(1)), 0);
        }
    }
}

/// It would come to its own end only after several rounds.
#[test]
fn an_entry_node_whose_rows_are_locked_is_not_waited_for() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let entry_nodes = [servers.address(2)];
    let mut admin = Session::open(&servers.workers[1], "admin");
    admin.run("BEGIN; LOCK TABLE pg_dist_node IN ROW EXCLUSIVE MODE");
    let step = servers.a_move(1, DEAD_PORT);
    let moved = fixture.send_reads(&entry_nodes, &step, || true);
    let finished = fixture.run(moved).expect("reads are moved");
    let [left] = &finished.skipped[..] else {
        panic!("{finished:?}");
    };
    assert_eq!(
        left.error, "not done 300 ms after the coordinator",
        "its own end was not waited for"
    );
    admin.run("COMMIT");
}

#[test]
fn an_entry_node_in_recovery_is_none() {
    let servers = servers();
    let standby = standby(&servers, "standby");
    // Reads of group 2 are there.
    let entry_nodes: [HostPort; 1] = [standby.address().parse().expect("an address")];
    servers.session("ground").run(&format!(
        "UPDATE pg_dist_node SET nodeport = {} WHERE groupid = 2",
        entry_nodes[0].port
    ));
    let fixture = Fixture::new(&servers);
    let step = servers.a_move(1, DEAD_PORT);
    let moved = fixture.send_reads(&entry_nodes, &step, || true);
    let finished = fixture.run(moved).expect("reads are moved");
    assert_eq!(finished.skipped, []);
    assert!(finished.plain, "a resync is owed");
    for end in ["release", "finish"] {
        let mut hold = fixture.hold(1, &entry_nodes);
        assert_eq!((hold.entry_nodes(), hold.skipped()), (vec![], vec![]));
        fixture.move_reads(&mut hold, &entry_nodes, &step);
        hold.leader_is_gone();
        if end == "release" {
            assert_eq!(fixture.release(hold), EntryNodeNews::default());
        } else {
            let end = hold.finish(fixture.sessions(), &entry_nodes, &step, || true);
            assert_eq!(fixture.run(end).expect("the end").skipped, []);
        }
    }
    // Else Citus would refuse every DDL.
    assert_eq!(marked(&servers), "");
}

#[test]
fn a_coordinator_that_cannot_be_held_leaves_no_entry_node_held() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let mut own = Session::open(&servers.coordinator, "citus-sync: another instance");
    own.run(&format!("BEGIN; {}", servers.write(1, "in the way")));
    let order = fixture.order(1, &[servers.address(2)]);
    let taken = fixture.take(&order);
    fixture.run(taken).expect_err("somebody is in the way");
    let (port, write) = (servers.workers[1].port(), servers.write_beside(1, "free"));
    fixture.run(async {
        let writer = tokio::task::spawn_blocking(move || {
            let mut client = lab::connect(port, "postgres").expect("a client");
            client
                .batch_execute("SET lock_timeout = '30s'")
                .expect("set");
            client.batch_execute(&write)
        });
        writer.await.expect("a writer").expect("nothing is held");
    });
}
