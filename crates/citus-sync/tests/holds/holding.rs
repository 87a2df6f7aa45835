//! Taking holds and giving them back.

use std::time::Duration;

use crate::fixture::Fixture;
use crate::servers::{REFERENCES, Servers, holder, servers, wait_for_holder, wait_for_nobody};
use crate::session::{SOON, Session};

#[test]
fn two_groups_are_held_side_by_side_and_reference_tables_with_them() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let one = fixture.hold(1, &[servers.address(2)]);
    let two = fixture.hold(2, &[servers.address(1)]);
    assert_eq!((one.terminated(), two.terminated()), (vec![], vec![]));
    assert_eq!((one.skipped(), two.skipped()), (vec![], vec![]));
    let start = |write: &str| servers.session("writer").start(write);
    let first = start(&servers.write(1, "side by side"));
    let second = start(&servers.write(2, "side by side"));
    let reference = start(&servers.write_reference("both"));
    Servers::wait_blocked(&servers.coordinator, "scenario writer", 3);
    fixture.release(one);
    first.outcome().expect("group 1 goes on");
    assert!(!second.is_over(), "group 2 is still held");
    assert!(!reference.is_over(), "and the reference table with it");
    fixture.release(two);
    second.outcome().expect("group 2 goes on");
    reference.outcome().expect("the reference table too");
}

/// PostgreSQL queues whoever asks behind those that wait already: the next group must not ask again.
#[test]
fn a_writer_of_a_reference_table_that_waits_in_one_hold_does_not_delay_the_next() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let one = fixture.hold(1, &[]);
    let writer = servers
        .session("writer")
        .start(&servers.write_reference("both"));
    Servers::wait_blocked(&servers.coordinator, "scenario writer", 1);
    let two = fixture.hold(2, &[]);
    assert_eq!((one.terminated(), two.terminated()), (vec![], vec![]));
    assert_eq!(Servers::backends(&servers.coordinator, REFERENCES), 1);
    fixture.release(one);
    Servers::wait_blocked(&servers.coordinator, "scenario writer", 1);
    fixture.release(two);
    writer.outcome().expect("it goes on");
    fixture.wait_for_nobody(&servers.coordinator, REFERENCES);
}

/// As one that was started anew while the server has not ended the sessions of the one before it.
#[test]
fn another_instance_that_holds_reference_tables_is_not_in_the_way() {
    let servers = servers();
    let (before, after) = (Fixture::new(&servers), Fixture::new(&servers));
    let one = before.hold(1, &[]);
    let two = after.hold(2, &[]);
    assert_eq!(two.terminated(), &[] as &[String]);
    assert_eq!(Servers::backends(&servers.coordinator, REFERENCES), 2);
    let writer = servers
        .session("writer")
        .start(&servers.write_reference("both"));
    Servers::wait_blocked(&servers.coordinator, "scenario writer", 1);
    before.release(one);
    Servers::wait_blocked(&servers.coordinator, "scenario writer", 1);
    after.release(two);
    writer.outcome().expect("it goes on");
}

#[test]
fn reference_tables_are_held_until_the_latest_deadline_and_by_the_server() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let take = |group, left| {
        let mut order = fixture.order(group, &[]);
        order.left = Duration::from_secs(left);
        fixture.run(fixture.take(&order))
    };
    let first = take(1, 3).expect("a hold");
    let second = take(2, 300).expect("a hold");
    // Frozen until the server has ended the first.
    Servers::wait_gone(&servers.coordinator, &holder(1));
    assert_eq!(Servers::backends(&servers.coordinator, REFERENCES), 1);
    drop(first);
    let third = take(1, 3).expect("a hold");
    fixture.release(second);
    // The last one that is left has an earlier end.
    fixture.run(async {
        let port = servers.coordinator.port();
        let gone = move || wait_for_nobody(port, REFERENCES);
        tokio::task::spawn_blocking(gone).await.expect("it is gone");
    });
    fixture.release(third);
}

#[test]
fn a_writer_waits_while_its_group_is_held_and_goes_on_when_it_is_let_go() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    servers.session("writer").run(&servers.write(1, "before"));
    let hold = fixture.hold(1, &[]);
    let writer = servers.session("writer").start(&servers.write(1, "after"));
    Servers::wait_blocked(&servers.coordinator, "scenario writer", 1);
    let mut other = servers.session("other");
    assert_eq!(other.one(&servers.read(1)), "before", "readers pass");
    other.run(&servers.write(2, "others pass"));
    fixture.release(hold);
    writer.outcome().expect("it goes on");
    assert_eq!(other.one(&servers.read(1)), "after");
}

#[test]
fn writes_through_an_entry_node_wait_there() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let hold = fixture.hold(1, &[servers.address(2)]);
    assert_eq!(hold.entry_nodes(), [servers.address(2)]);
    let entry_node = &servers.workers[1];
    let writer =
        Session::open(entry_node, "writer").start(&servers.write(1, "through an entry node"));
    Servers::wait_blocked(entry_node, "scenario writer", 1);
    fixture.release(hold);
    writer.outcome().expect("it goes on");
}

#[test]
fn a_writer_in_the_way_is_terminated_after_the_cooldown_and_named() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let mut psql = servers.session("psql");
    psql.run(&format!("BEGIN; {}", servers.write(1, "in the way")));
    let entry_node = &servers.workers[1];
    let hold = fixture.hold(1, &[]);
    let [who] = &hold.terminated()[..] else {
        panic!("{:?}", hold.terminated());
    };
    let expected = format!(
        "pid {} (role postgres, scenario psql, idle in transaction",
        psql.pid
    );
    assert!(who.starts_with(&expected), "{who}");
    let (code, _) = psql.try_rows("SELECT 1").expect_err("it was terminated");
    assert!(["57P01", ""].contains(&code.as_str()), "{code}");
    fixture.release(hold);

    // At an entry node as well.
    let mut psql = servers.session("psql");
    psql.run(&format!("BEGIN; {}", servers.write(1, "in the way")));
    let mut client = Session::open(entry_node, "client");
    client.run(&format!(
        "BEGIN; {}",
        servers.write_beside(1, "at the entry node")
    ));
    let hold = fixture.hold(1, &[servers.address(2)]);
    assert_eq!(hold.skipped(), []);
    let expected = format!("pid {} (role postgres, scenario client", client.pid);
    let at_entry_node = |who: &String| {
        who.starts_with(&expected)
            && who.ends_with(&format!("at entry node {}", servers.address(2)))
    };
    assert!(
        hold.terminated().iter().any(at_entry_node),
        "{:?}",
        hold.terminated()
    );
}

#[test]
fn a_session_of_our_own_is_never_terminated_but_named() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let mut other = Session::open(&servers.coordinator, "citus-sync: another instance");
    other.run(&format!("BEGIN; {}", servers.write(1, "in the way")));
    let order = fixture.order(1, &[]);
    let error = fixture
        .run(fixture.take(&order))
        .expect_err("it is in the way");
    let text = error.to_string();
    assert!(
        text.contains("55P03") && text.contains("citus-sync: another instance"),
        "{text}"
    );
    other.run("COMMIT");
    // The session bears the hold's name until it is closed, which is for its task to do.
    fixture.wait_for_nobody(&servers.coordinator, &holder(1));
}

/// It has nothing that anybody could want, and goes on when that hold does.
#[test]
fn a_writer_that_only_waits_in_another_hold_is_not_terminated() {
    let servers = servers();
    let (before, after) = (Fixture::new(&servers), Fixture::new(&servers));
    let one = before.hold(1, &[]);
    let writer = servers.session("writer").start(&servers.write(1, "waits"));
    Servers::wait_blocked(&servers.coordinator, "scenario writer", 1);
    // The first instance is in the way, and the writer stands in the queue between the two.
    let order = after.order(1, &[]);
    let error = after
        .run(after.take(&order))
        .expect_err("the first one's hold stands")
        .to_string();
    assert!(error.contains(&holder(1)), "{error}");
    assert!(!writer.is_over(), "it waits as before");
    before.release(one);
    writer.outcome().expect("it goes on");
}

#[test]
fn a_writer_that_waits_in_another_hold_and_has_a_wanted_lock_is_terminated() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let two = fixture.hold(2, &[]);
    let mut writer = servers.session("writer");
    writer.run(&format!("BEGIN; {}", servers.write(1, "has it")));
    let pid = writer.pid;
    let writer = writer.start(&servers.write(2, "waits"));
    Servers::wait_blocked(&servers.coordinator, "scenario writer", 1);
    // No time to be gentle.
    let mut order = fixture.order(1, &[]);
    order.cooldown = Duration::ZERO;
    let one = fixture.run(fixture.take(&order));
    let one = one.expect("a hold beside the other");
    let [who] = &one.terminated()[..] else {
        panic!("{:?}", one.terminated());
    };
    assert!(who.starts_with(&format!("pid {pid} ")), "{who}");
    writer.outcome().expect_err("it was terminated");
    fixture.release(one);
    fixture.release(two);
}

#[test]
fn a_session_of_our_own_that_waits_in_a_hold_is_not_cancelled() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let two = fixture.hold(2, &[]);
    let mut other = Session::open(&servers.coordinator, "citus-sync: another instance");
    other.run(&format!("BEGIN; {}", servers.write(1, "in the way")));
    let other = other.start(&servers.write(2, "waits"));
    Servers::wait_blocked(&servers.coordinator, "citus-sync: another instance", 1);
    let order = fixture.order(1, &[]);
    fixture
        .run(fixture.take(&order))
        .expect_err("it is in the way");
    assert!(!other.is_over(), "it waits as before");
    fixture.release(two);
    other.outcome().expect("it goes on");
}

#[test]
fn a_role_that_may_not_terminate_says_so() {
    let servers = servers();
    servers.owner("holder");
    let fixture = Fixture::of_role(&servers, "holder");
    let mut psql = servers.session("psql");
    psql.run(&format!("BEGIN; {}", servers.write(1, "in the way")));
    let order = fixture.order(1, &[]);
    let taken = fixture.run(fixture.take(&order));
    let error = taken.expect_err("it is in the way").to_string();
    assert!(
        error.contains("pg_signal_backend") && error.contains("42501"),
        "{error}"
    );
    psql.run("COMMIT");
}

#[test]
fn a_writer_that_meets_the_hold_half_way_does_not_make_it_fail() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    // It has the last shard of the group and wants the first: a deadlock with whoever takes them in
    // order and does not give in. PostgreSQL would end the writer.
    let shards = "SELECT min(shardid) || ' ' || max(shardid) FROM pg_dist_placement \
                  JOIN pg_dist_shard USING (shardid) WHERE logicalrelid = 'kv'::regclass AND groupid = 1";
    let mut writer = servers.session("writer");
    let shards = writer.one(shards);
    let (first, last) = shards.split_once(' ').expect("two");
    writer.run("SET deadlock_timeout = '3s'");
    writer.run(&format!(
        "BEGIN; SELECT lock_shard_metadata(5, '{{{last}}}')"
    ));
    let mut order = fixture.order(1, &[]);
    order.cooldown = Duration::from_secs(20);
    let first = first.to_owned();
    let hold = fixture.run(async {
        let take = fixture.take(&order);
        let meeting = tokio::task::spawn_blocking({
            let port = servers.coordinator.port();
            move || {
                wait_for_holder(port);
                writer.run(&format!(
                    "SELECT lock_shard_metadata(5, '{{{first}}}'); COMMIT"
                ));
            }
        });
        let (hold, met) = tokio::join!(take, meeting);
        met.expect("the writer");
        hold
    });
    let hold = hold.expect("a hold");
    assert_eq!(hold.terminated(), &[] as &[String]);
}

/// A write of many shards takes their locks in order. Who has those of group 1 and waits in the hold
/// of group 2 can do nothing before that is over, and would keep group 1 from being held all that time.
#[test]
fn a_write_of_many_shards_that_waits_in_one_hold_does_not_keep_the_next_group_from_its_own() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let first = servers.groups_by_first_shard();
    let later = fixture.hold(first[1], &[]);
    let writer = servers.session("writer").start(&servers.write_all("many"));
    Servers::wait_blocked(&servers.coordinator, "scenario writer", 1);
    let mut order = fixture.order(first[0], &[]);
    // Longer than anybody waits here: nobody is terminated.
    order.cooldown = SOON;
    order.left = 2 * SOON;
    let hold = fixture.run(fixture.take(&order));
    let hold = hold.expect("a hold");
    let (code, _) = writer.outcome().expect_err("its statement was cancelled");
    assert_eq!(code, "57014");
    let [who] = &hold.terminated()[..] else {
        panic!("{:?}", hold.terminated());
    };
    assert!(
        who.contains("scenario writer") && who.ends_with(": statement cancelled"),
        "{who}"
    );
    fixture.release(hold);
    fixture.release(later);
}
