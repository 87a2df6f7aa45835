//! `check` and `plan` before real servers with what people leave broken.

use crate::fixture::{FIXTURE, File, Ran, black_hole, command, file, native, run, with_file};

#[test]
fn broken_keys_of_patroni_are_listed_by_scope() {
    let kv = FIXTURE.etcd.kv();
    let (_listener, port) = black_hole();
    FIXTURE.put_scope("broken", "cn", &[("cn-1", port), ("cn-2", port)]);
    kv.put(
        "/broken/wk1/members/a",
        "{\"state\": \"running\", \"role\": \"replica\"}",
    )
    .unwrap();
    kv.put("/broken/wk1/config", "{\"pause\": true}").unwrap();
    kv.put(
        "/broken/wk2/members/b",
        "{\"state\": \"running\", \"role\": \"primary\"}",
    )
    .unwrap();
    kv.put("/broken/wk2/leader", "b").unwrap();
    kv.put("/broken/wk3/leader", "ghost").unwrap();
    kv.put("/broken/wk3/members/c", "{no json").unwrap();
    let file = FIXTURE.file(
        "broken",
        &["app"],
        &[(1, "wk1"), (2, "wk2"), (3, "wk3")],
        "",
    );
    let ran = with_file(&["check"], &file);
    ran.ended(1);
    let line = ran.line("fail", "scope wk1 (group 1)");
    assert!(
        line.contains("no member holds the leader key; members: a (replica, running)"),
        "{line}"
    );
    ran.line("warn", "Patroni is paused");
    let line = ran.line("fail", "scope wk2 (group 2)");
    assert!(line.contains("connect_address"), "{line}");
    ran.line(
        "fail",
        "ghost holds the leader key but has no readable member key",
    );
    ran.line("warn", "/broken/wk3/members/c");
    let line = ran.line("fail", &format!("address 127.0.0.1:{port}"));
    assert!(line.contains("cn/cn-1, cn/cn-2"), "{line}");
}

#[test]
fn a_healthy_formation_passes() {
    FIXTURE.citus_database("healthy");
    FIXTURE.put_both("healthy");
    let file = FIXTURE.file("healthy", &["healthy"], &[(1, "wk1")], "");
    let ran = with_file(&["check"], &file);
    ran.ended(0);
    ran.none("fail");
    for words in [
        "scope cn",
        "leader of wk1",
        "database healthy ",
        "row of group 1",
        "lock table",
    ] {
        ran.line("pass", words);
    }
    ran.line("pass", "coordinator to wk1");
    ran.line("pass", "entry node wk1");
    ran.line("pass", "may hold writes and move reads");
    let line = ran.line("warn", "token");
    assert!(
        line.contains("before_stop") && line.contains("`token_file`"),
        "{line}"
    );
    let mut with_token = command(&["check", "-c", file.path().to_str().unwrap()]);
    with_token.env("CITUS_SYNC_TOKEN", "0123456789abcdef");
    run(with_token).line("pass", "token");

    let ran = with_file(&["plan"], &file);
    ran.ended(0);
    assert!(ran.stdout.contains("0 rows would change"), "{}", ran.stdout);
}

#[test]
fn a_leader_at_an_address_of_another_group_fails() {
    FIXTURE.citus_database("taken");
    let port = FIXTURE.coordinator.port();
    FIXTURE.put_scope("taken", "cn", &[("cn-1", port)]);
    FIXTURE.put_scope("taken", "wk1", &[("wk1-1", port)]);
    let file = FIXTURE.file("taken", &["taken"], &[(1, "wk1")], "");
    let ran = with_file(&["check"], &file);
    ran.ended(1);
    let line = ran.line("fail", "row of group 1 (wk1)");
    assert!(
        line.contains("already belongs to node") && line.contains("of group 0"),
        "{line}"
    );
}

#[test]
fn a_row_that_is_not_at_its_leader_is_a_warning_and_a_planned_move() {
    FIXTURE.citus_database("moved");
    FIXTURE.put_both("moved");
    let elsewhere = "SELECT citus_update_node(nodeid, 'localhost', nodeport) \
                     FROM pg_dist_node WHERE groupid = 1";
    FIXTURE.coordinator.execute("moved", elsewhere).unwrap();
    let file = FIXTURE.file("moved", &["moved"], &[(1, "wk1")], "");
    let ran = with_file(&["check"], &file);
    ran.ended(0);
    let line = ran.line("warn", "row of group 1 (wk1)");
    assert!(line.contains("`run` will move node"), "{line}");
    let ran = with_file(&["plan", "--json"], &file);
    ran.ended(0);
    let lines: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let group = lines
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["group"] == 1)
        .unwrap();
    assert_eq!(
        (&group["changes"], &group["rule"]),
        (&true.into(), &"move".into()),
        "{group}"
    );
    let port = FIXTURE.worker.port();
    assert_eq!(group["row"], format!("localhost:{port}"));
    assert_eq!(group["address"], format!("127.0.0.1:{port}"));
}

#[test]
fn a_wrong_password_is_named_by_its_source_and_never_shown() {
    FIXTURE.put_both("password");
    let role = "CREATE ROLE scram_only LOGIN PASSWORD 'right'";
    FIXTURE.coordinator.execute("postgres", role).unwrap();
    let endpoint = FIXTURE.etcd.endpoint();
    let workers = [(1, "wk1")];
    let text = native(
        &endpoint,
        "password",
        "scram_only",
        &["postgres"],
        &workers,
        "",
    );
    let file = file(&text);
    let path = file.path();
    for arguments in [["check", "-c"], ["plan", "-c"]] {
        let mut command = command(&[arguments[0], arguments[1], path.to_str().unwrap()]);
        command.env("PGPASSWORD", "hunter2");
        let ran = run(command);
        ran.ended(1);
        assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
        assert!(
            ran.stdout.contains("password authentication failed"),
            "{ran:?}"
        );
        if arguments[0] == "check" {
            let line = ran.line("fail", "leader of cn");
            assert!(
                line.contains("role scram_only") && line.contains("PGPASSWORD"),
                "{line}"
            );
            ran.line("fail", "could not be looked at: no session");
        }
    }
    // No password at all.
    let ran = with_file(&["check"], &file);
    ran.ended(1);
    let line = ran.line("fail", "leader of cn");
    assert!(
        line.contains("needs a password") && line.contains("passfile"),
        "{line}"
    );
}

#[test]
fn a_coordinator_with_one_free_connection_is_no_pass() {
    FIXTURE.citus_database("crowded");
    FIXTURE.put_both("crowded");
    let role = "CREATE ROLE one_session LOGIN CONNECTION LIMIT 1";
    FIXTURE.coordinator.execute("postgres", role).unwrap();
    let endpoint = FIXTURE.etcd.endpoint();
    let workers = [(1, "wk1")];
    let text = native(
        &endpoint,
        "crowded",
        "one_session",
        &["crowded"],
        &workers,
        "",
    );
    let ran = with_file(&["check"], &file(&text));
    ran.ended(1);
    // Which of the two has the connection is not ours to say.
    let told = ["could not be looked at", "leader of cn"];
    let failed = |line: &str| line.starts_with("fail") && told.iter().any(|one| line.contains(one));
    let full = |line: &str| line.contains("too many connections for role");
    assert!(
        ran.stdout.lines().any(|line| failed(line) && full(line)),
        "{ran:?}"
    );
}

#[test]
fn each_database_fails_alone() {
    FIXTURE.citus_database("whole");
    FIXTURE
        .coordinator
        .execute("postgres", "CREATE DATABASE bare")
        .unwrap();
    FIXTURE.put_both("databases");
    let file = FIXTURE.file("databases", &["bare", "gone", "whole"], &[(1, "wk1")], "");
    let ran = with_file(&["check"], &file);
    ran.ended(1);
    ran.line("pass", "database whole");
    let line = ran.line("fail", "database bare");
    assert!(line.contains("CREATE EXTENSION citus"), "{line}");
    let line = ran.line("fail", "database gone");
    assert!(
        line.contains("does not exist") && line.contains("`databases`"),
        "{line}"
    );
    assert!(ran.line("pass", "row of group 1").contains("(in whole)"));

    let ran = with_file(&["plan"], &file);
    ran.ended(1);
    let of = |words: &str| {
        ran.stdout
            .lines()
            .filter(|line| line.contains(words))
            .count()
    };
    assert_eq!(
        of("cannot tell: pg_dist_node is not known"),
        4,
        "{}",
        ran.stdout
    );
    assert_eq!(of("in sync"), 2, "{}", ran.stdout);
}

#[test]
fn a_worker_that_never_answers_hides_nothing_of_the_others() {
    let (_listener, port) = black_hole();
    FIXTURE.citus_database("hung");
    FIXTURE.put_both("hung");
    FIXTURE.put_scope("hung", "wk2", &[("wk2-1", port)]);
    let workers = [(1, "wk1"), (2, "wk2")];
    let file = FIXTURE.file(
        "hung",
        &["hung"],
        &workers,
        "policy: { connect_timeout: 1s }\n",
    );
    let ran = with_file(&["check"], &file);
    ran.ended(1);
    let line = ran.line("fail", "leader of wk2");
    assert!(
        line.contains("no answer") && line.contains(&format!(":{port}")),
        "{line}"
    );
    ran.line("fail", "coordinator to wk2");
    ran.line("fail", "row of group 2 (wk2)");
    ran.line("pass", "leader of wk1");
    ran.line("pass", "coordinator to wk1");
    ran.line("pass", "row of group 1 (wk1)");

    let ran = with_file(&["plan"], &file);
    ran.ended(1);
    assert!(
        ran.stdout.contains("1 could not be decided"),
        "{}",
        ran.stdout
    );
}

#[test]
fn groups_without_rows_and_rows_without_groups_are_both_listed() {
    FIXTURE.citus_database("gaps");
    FIXTURE.put_both("gaps");
    // Group 1 of the rows is not in the file; group 7 of the file has no row.
    let file = |more: &str| FIXTURE.file("gaps", &["gaps"], &[(7, "wk1")], more);
    let ran = with_file(&["check"], &file(""));
    ran.ended(1);
    let line = ran.line("fail", "has no primary row for group 7");
    assert!(
        line.contains("is that of node") && line.contains("group 1"),
        "{line}"
    );
    let line = ran.line("warn", "row of group 1 ");
    assert!(
        line.contains("does not name") && line.contains("`workers`"),
        "{line}"
    );

    // Registering cannot fix it: the address is group 1's.
    let ran = with_file(&["check"], &file("register: true\n"));
    ran.ended(1);
    assert!(ran.line("fail", "row of group 7").contains("of group 1"));
}

#[test]
fn a_role_that_may_not_move_rows_gets_the_grant() {
    FIXTURE.citus_database("rights");
    FIXTURE.put_both("rights");
    FIXTURE
        .coordinator
        .execute("postgres", "CREATE ROLE limited LOGIN")
        .unwrap();
    FIXTURE
        .worker
        .execute("postgres", "CREATE ROLE limited LOGIN")
        .ok(); // Citus may have done it
    let endpoint = FIXTURE.etcd.endpoint();
    let text = native(
        &endpoint,
        "rights",
        "limited",
        &["rights"],
        &[(1, "wk1")],
        "",
    );
    let ran = with_file(&["check"], &file(&text));
    ran.ended(1);
    let line = ran.line("fail", "rights of limited");
    assert!(line.contains("may not call citus_update_node"), "{line}");
    let grant = line.split("; ").last().unwrap();
    assert!(
        grant.starts_with("GRANT EXECUTE ON FUNCTION citus_update_node("),
        "{grant}"
    );

    FIXTURE.coordinator.execute("rights", grant).unwrap();
    let ran = with_file(&["check"], &file(&text));
    ran.line("pass", "rights of limited");
    grants_for_holds_do_what_they_promise(&ran, &file(&text));
    // And it is true: this is what a move calls.
    let mut session = as_limited(&FIXTURE.coordinator);
    let moved = "BEGIN; SELECT citus_pause_node_within_txn(nodeid, false, 100), \
                 citus_update_node(nodeid, 'localhost', nodeport, true, 100) \
                 FROM pg_dist_node WHERE groupid = 1; ROLLBACK";
    session.batch_execute(moved).unwrap();
}

/// The rest of what a role needs comes as warnings, each with statements that fix it.
fn grants_for_holds_do_what_they_promise(ran: &Ran, file: &File) {
    for (words, server) in [
        ("holds and reads", &FIXTURE.coordinator),
        ("entry node wk1", &FIXTURE.worker),
    ] {
        let line = ran.line("warn", words);
        let start = line.find("GRANT").unwrap();
        server.execute("rights", &line[start..]).unwrap();
    }
    let ran = with_file(&["check"], file);
    ran.line("pass", "role limited may hold writes and move reads");
    ran.line("pass", "entry node wk1");
    // And it is true, there and here: this is what holds and read moves do.
    let read_move = "BEGIN; LOCK TABLE pg_dist_node IN SHARE ROW EXCLUSIVE MODE; \
                     UPDATE pg_dist_node SET nodeport = 1 WHERE groupid = 1; ROLLBACK";
    let messenger = "BEGIN; INSERT INTO pg_dist_node (nodeid, groupid, nodename, nodeport, noderole) \
                     VALUES (77777, 1, 'a.invalid', 1, 'unavailable'); \
                     DELETE FROM pg_dist_node WHERE nodeid = 77777; ROLLBACK";
    let mut entry_node = as_limited(&FIXTURE.worker);
    let mut coordinator = as_limited(&FIXTURE.coordinator);
    entry_node.batch_execute(read_move).unwrap();
    coordinator.batch_execute(read_move).unwrap();
    coordinator.batch_execute(messenger).unwrap();
    let recover = "SELECT recover_prepared_transactions()";
    coordinator.batch_execute(recover).unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'in the way'";
    entry_node
        .batch_execute("SET application_name = 'in the way'")
        .unwrap();
    as_limited(&FIXTURE.worker).batch_execute(end).unwrap();
    entry_node.batch_execute("SELECT 1").unwrap_err();
}

fn as_limited(server: &lab::Postgres) -> lab::postgres::Client {
    lab::postgres::Config::new()
        .host("127.0.0.1")
        .port(server.port())
        .user("limited")
        .dbname("rights")
        .connect(lab::postgres::NoTls)
        .unwrap()
}

#[test]
fn a_formation_that_patroni_manages_is_announced_as_observed() {
    FIXTURE.citus_database("grouped");
    FIXTURE.put_scope(
        "grouped",
        "citus/0",
        &[("cn-1", FIXTURE.coordinator.port())],
    );
    FIXTURE.put_scope("grouped", "citus/1", &[("wk1-1", FIXTURE.worker.port())]);
    let workers = [(1, "citus/1")];
    let text = native(
        &FIXTURE.etcd.endpoint(),
        "grouped",
        "postgres",
        &["grouped"],
        &workers,
        "",
    )
    .replace("scope: cn", "scope: citus/0");
    let ran = with_file(&["check"], &file(&text));
    ran.ended(0);
    let line = ran.line("warn", "Patroni's own Citus integration is in charge");
    assert!(line.contains("policy.write"), "{line}");
}
