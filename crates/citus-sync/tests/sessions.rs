//! Rule 2: what a session of ours holds ends, even if this process is frozen. The server ends it;
//! here the process is "frozen" by not turning its runtime any more.

use std::time::Duration;

use citus_sync::config::Password;
use citus_sync::edge::sql::{Connection, Login};
use citus_sync::policy::Policy;
use lab::{Postgres, Sandbox, wait_for};
use tokio::runtime::{Builder, Runtime};

const SOON: Duration = Duration::from_secs(60);

fn login() -> Login {
    Login::new("postgres", &Password::None, &Policy::default())
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A server, the runtime of "this process", and a session of ours on the server.
fn session(name: &str) -> (Postgres, Runtime, Connection) {
    let sandbox = Sandbox::new().expect("a sandbox");
    let server = Postgres::start(&sandbox, name).expect("PostgreSQL");
    let runtime = runtime();
    let address = server.address().parse().expect("an address");
    let session = runtime.block_on(Connection::open(&login(), &address, "postgres"));
    (server, runtime, session.expect("a session"))
}

#[test]
fn a_frozen_process_does_not_keep_its_locks() {
    let (server, runtime, mut session) = session("frozen");
    server
        .execute("postgres", "CREATE TABLE held ()")
        .expect("a table");
    runtime
        .block_on(session.run("BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE"))
        .expect("the lock");
    // From here on nobody turns the runtime: no statement, no keepalive answer of ours, no drop.
    let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'held'::regclass";
    let mut client = server.connect("postgres").expect("a client");
    let held: i64 = client.query_one(locks, &[]).expect("locks").get(0);
    assert_eq!(held, 1, "the lock is there to begin with");
    wait_for("the server to end the frozen session", SOON, || {
        Ok(client.query_one(locks, &[])?.get::<_, i64>(0) == 0)
    })
    .expect("the lock is given back");
}

#[test]
fn every_session_has_the_servers_own_deadlines() {
    let (_server, runtime, mut session) = session("deadlines");
    for setting in [
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "tcp_keepalives_idle",
        "tcp_user_timeout",
    ] {
        let query = format!("SELECT current_setting('{setting}') <> '0'");
        let set = runtime.block_on(session.boolean(&query)).expect(setting);
        assert!(set, "{setting} is 0, which is for ever");
    }
}

/// Asked for by us: what the system does of itself takes hours.
#[test]
fn a_host_of_ours_that_is_gone_is_given_up_within_seconds() {
    let (_server, runtime, mut session) = session("vanished");
    let mut number = |setting: &str| -> u32 {
        let query = format!(
            "SELECT setting FROM pg_settings WHERE name = '{setting}' AND source = 'client'"
        );
        let rows = runtime.block_on(session.rows(&query)).expect(setting);
        let text = rows.first().and_then(|row| row.get(0)).expect(setting);
        text.parse().expect("a number")
    };
    let (idle, interval) = (
        number("tcp_keepalives_idle"),
        number("tcp_keepalives_interval"),
    );
    let silence = idle + interval * number("tcp_keepalives_count");
    assert!((1..=15).contains(&silence), "{silence} s");
    let unanswered = number("tcp_user_timeout");
    assert!((1..=15_000).contains(&unanswered), "{unanswered} ms");
}

#[test]
fn a_server_that_accepts_and_never_answers_costs_no_more_than_the_deadline() {
    let black_hole = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = black_hole
        .local_addr()
        .expect("its address")
        .to_string()
        .parse()
        .expect("it");
    let runtime = runtime();
    let policy = Policy {
        connect_timeout: Duration::from_millis(300),
        ..Policy::default()
    };
    let login = Login::new("postgres", &Password::None, &policy);
    let opened = runtime.block_on(async {
        tokio::time::timeout(SOON, Connection::open(&login, &address, "postgres")).await
    });
    let error = opened
        .expect("an answer of our own")
        .expect_err("nobody is there");
    assert_eq!(error.to_string(), "connecting gave no answer within 300 ms");
}
