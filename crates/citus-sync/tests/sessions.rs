//! Rule 2: what a session of ours holds ends, even if this process is frozen. The server ends it;
//! here the process is "frozen" by not turning its runtime any more.

use std::time::Duration;

use citus_core::config::{Origin, Password, Secret};
use citus_core::policy::Policy;
use citus_sync::session::{Connection, Login, SharedPassword};
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
        .block_on(session.run("BEGIN; LOCK TABLE public.held IN ACCESS EXCLUSIVE MODE"))
        .expect("the lock");
    // From here on the runtime does not run: no statement, no keepalive answer of ours, no drop.
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

/// By keepalives that the session asks for: those of the system take hours.
#[test]
fn a_server_gives_a_silent_session_of_ours_up_within_seconds() {
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
        .expect_err("no server answers");
    assert_eq!(error.to_string(), "connecting gave no answer within 300 ms");
}

/// Case for case what a role or a database may have set, and our sessions set themselves.
#[test]
fn no_setting_of_a_role_or_a_database_reaches_our_sessions() {
    let (server, runtime, session) = session("settings");
    drop(session);
    server
        .execute(
            "postgres",
            "CREATE SCHEMA evil; \
             ALTER DATABASE postgres SET search_path = evil, pg_catalog; \
             ALTER ROLE postgres SET search_path = evil; \
             ALTER ROLE postgres SET default_transaction_isolation = 'serializable'; \
             ALTER ROLE postgres SET default_transaction_read_only = on; \
             ALTER ROLE postgres SET default_transaction_deferrable = on; \
             ALTER ROLE postgres SET row_security = off; \
             ALTER ROLE postgres SET statement_timeout = 0; \
             ALTER ROLE postgres SET idle_in_transaction_session_timeout = 0",
        )
        .expect("settings");
    let address = server.address().parse().expect("an address");
    let session = runtime.block_on(Connection::open(&login(), &address, "postgres"));
    let mut session = session.expect("a session");
    for (setting, value) in [
        ("search_path", "pg_catalog,pg_temp"),
        ("transaction_isolation", "read committed"),
        ("transaction_read_only", "off"),
        ("transaction_deferrable", "off"),
        ("row_security", "on"),
    ] {
        let query = format!("SELECT current_setting('{setting}')");
        let rows = runtime.block_on(session.rows(&query)).expect(setting);
        assert_eq!(rows[0].get(0), Some(value), "{setting}");
    }
    let deadlines = "SELECT current_setting('statement_timeout') <> '0' \
         AND current_setting('idle_in_transaction_session_timeout') <> '0'";
    let set = runtime.block_on(session.boolean(deadlines));
    assert!(set.expect("an answer"), "a deadline of ours is off");
}

/// A server that says the first of `words` to the client that connects, and the others to its
/// answer. Returns what opening a session on it and asking one question comes to, and how many
/// bytes of `words` were taken.
fn hostile(words: Vec<Vec<u8>>) -> (String, usize) {
    use std::io::{Read as _, Write as _};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        let mut startup = [0; 4096];
        let _ = socket.read(&mut startup);
        let mut sent = 0;
        for (number, words) in words.iter().enumerate() {
            if number == 1 {
                // Whatever the client makes of the first: a password, a statement.
                let _ = socket.read(&mut startup);
            }
            for chunk in words.chunks(1 << 10) {
                if socket.write_all(chunk).is_err() {
                    return sent;
                }
                sent += chunk.len();
            }
        }
        // Until the client goes.
        let _ = socket.read(&mut startup);
        while socket.read(&mut startup).is_ok_and(|read| read > 0) {}
        sent
    });
    let runtime = runtime();
    let address = address.parse().expect("an address");
    let password = Secret::new("secret", Origin::Env("PGPASSWORD"));
    let login = Login {
        password: SharedPassword::new(Password::Literal(password)),
        ..login()
    };
    let error = runtime.block_on(async {
        let mut session = Connection::open(&login, &address, "postgres").await?;
        session.rows("SELECT 1").await
    });
    let error = error.expect_err("nothing useful").to_string();
    drop(runtime);
    (error, server.join().expect("the server"))
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a length");
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// Authentication is over, and the server is ready.
fn welcome() -> Vec<u8> {
    [message(b'R', &[0; 4]), message(b'Z', b"I")].concat()
}

/// What the sockets of both sides may hold beside what was read.
const IN_SOCKETS: usize = 16 << 20;

#[test]
fn a_server_that_never_stops_sending_is_given_up() {
    let long_enough = 100_000;
    let entered = message(b'R', &[0; 4]);
    let parameter = message(b'S', &[[b'x'; 999].as_slice(), b"\0\0"].concat());
    let notice = [&b"SNOTICE\0C00000\0M"[..], &[b'x'; 1000], b"\0\0"].concat();
    let notice = message(b'N', &notice);
    let columns = message(
        b'T',
        b"\0\x01x\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
    );
    let row = message(b'D', &[&[0, 1, 0, 0, 3, 232][..], &[b'x'; 1000]].concat());
    for (what, words) in [
        (
            "a login",
            vec![[entered, parameter.repeat(long_enough)].concat()],
        ),
        ("notices", vec![welcome(), notice.repeat(long_enough)]),
        (
            "rows",
            vec![welcome(), [columns, row.repeat(long_enough)].concat()],
        ),
        ("a message", vec![welcome(), b"D\x7f\xff\xff\xff".to_vec()]),
    ] {
        let (error, sent) = hostile(words);
        assert!(error.contains("more than"), "{what}: {error}");
        assert!(sent < IN_SOCKETS + (8 << 20), "{what}: {sent} bytes taken");
    }
}

#[test]
fn an_error_of_many_megabytes_is_refused_and_a_long_one_is_cut_and_escaped() {
    let error = |text: &[u8]| {
        let body = [&b"SERROR\0CXX000\0M"[..], text, b"\0\0"].concat();
        message(b'E', &body)
    };
    let (said, _) = hostile(vec![welcome(), error(&vec![b'x'; 20 << 20])]);
    assert!(said.len() < 4 << 10, "{} bytes", said.len());
    assert!(said.contains("a message of"), "{said}");

    let forged = format!("no\nERROR forged\u{1b}[2J{}", "x".repeat(500_000));
    let (said, _) = hostile(vec![welcome(), error(forged.as_bytes())]);
    assert!(said.len() < 4 << 10, "{} bytes", said.len());
    assert!(!said.chars().any(char::is_control), "{said:?}");
    assert!(said.starts_with(r"no\nERROR forged"), "{said}");
    assert!(said.ends_with("(SQLSTATE XX000)"), "{said}");
}

#[test]
fn a_login_that_asks_for_endless_hashing_is_refused() {
    let sasl = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let rounds = message(b'R', b"\0\0\0\x0br=nonce,s=c2FsdA==,i=4294967295");
    let (error, _) = hostile(vec![sasl, rounds]);
    assert!(error.contains("4294967295 rounds"), "{error}");
}

/// Citus 11.2.0 to 12.1.6 crash PostgreSQL when the end of a transaction that changed `pg_dist_node`
/// takes a name back (citus#7791); so no transaction of ours may have one to take back.
#[test]
fn a_failed_transaction_takes_no_name_back() {
    let (_server, runtime, mut session) = session("names");
    let name = |runtime: &Runtime, session: &mut Connection| {
        let query = "SELECT current_setting('application_name')";
        let rows = runtime.block_on(session.rows(query)).expect("a name");
        rows[0].get(0).expect("a name").to_owned()
    };
    let begun = runtime.block_on(session.run_named("citus-sync: hold group 1", "BEGIN"));
    begun.expect("a transaction");
    assert_eq!(name(&runtime, &mut session), "citus-sync: hold group 1");
    runtime.block_on(session.run("ROLLBACK")).expect("its end");
    assert_eq!(
        name(&runtime, &mut session),
        "citus-sync: hold group 1",
        "the name was set outside of the transaction"
    );
    session.unname();
    assert_eq!(name(&runtime, &mut session), "citus-sync");
    assert!(session.is_usable());
}
