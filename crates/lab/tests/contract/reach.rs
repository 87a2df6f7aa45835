//! What the coordinator says of a node that does not answer, or is read-only.

use std::net::TcpListener;

use anyhow::{Result, ensure};

use crate::fixture::{Case, DEAD_PORT, Fixture, Session};
use lab::wait_for;

pub(crate) const CASES: &[Case] = &[
    (
        "citus_check_connection_to_node returns true for a server that answers",
        answers,
    ),
    (
        "citus_check_connection_to_node returns false for a closed port, with a warning and not an error",
        closed,
    ),
    (
        "citus_check_connection_to_node returns false for a server that never answers, within citus.node_connection_timeout",
        mute,
    ),
    (
        "citus_check_connection_to_node returns false for a server that fell silent between two calls of one session that keeps no connections",
        silent_later,
    ),
    (
        "recover_prepared_transactions ends prepared transactions of a dead session, and warns of a worker that it cannot reach",
        recover,
    ),
    (
        "reads and writes of a group whose node is gone fail with 08006",
        gone,
    ),
    (
        "a write to a read-only node fails with 25006, a read does not",
        read_only,
    ),
];

fn check(session: &mut Session, port: u16) -> Result<String> {
    session.one(&format!(
        "SELECT citus_check_connection_to_node('127.0.0.1', {port})"
    ))
}

fn answers(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    ensure!(check(&mut session, fixture.port(1))? == "t");
    ensure!(session.notices.lock().unwrap().is_empty());
    Ok(())
}

fn closed(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    ensure!(check(&mut session, DEAD_PORT)? == "f");
    let notices = session.notices.lock().unwrap().clone();
    let words = format!(
        "08006: connection to the remote node postgres@127.0.0.1:{DEAD_PORT} failed with the following error: Connection refused"
    );
    ensure!(
        notices.len() == 1 && notices[0].starts_with(&words),
        "{notices:?}"
    );
    Ok(())
}

fn mute(fixture: &Fixture) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?; // the kernel accepts, and nothing answers
    let mut session = fixture.session()?;
    session.run("SET citus.node_connection_timeout = 300")?;
    // If nothing else bounds the call, the session's statement_timeout does.
    let port = listener.local_addr()?.port();
    ensure!(check(&mut session, port)? == "f");
    let notices = session.notices.lock().unwrap().clone();
    let words = [
        "01000: could not establish connection after 300 ms".to_owned(),
        format!("08006: connection to the remote node postgres@127.0.0.1:{port} failed"),
    ];
    ensure!(notices == words, "{notices:?}");
    Ok(())
}

fn silent_later(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    // With a connection kept from the first call, Citus would use it for the second one, and
    // wait for the answer beyond any timeout.
    session.run("SET citus.max_cached_conns_per_worker = 0")?;
    session.run("SET citus.node_connection_timeout = 300")?;
    ensure!(check(&mut session, fixture.port(1))? == "t");
    fixture.workers[0].freeze();
    let second = session.start(&format!(
        "SELECT citus_check_connection_to_node('127.0.0.1', {})",
        fixture.port(1)
    ))?;
    let outcome = second.outcome();
    fixture.workers[0].thaw();
    let rows = outcome?.1?;
    ensure!(rows == [["f"]], "{rows:?}");
    Ok(())
}

fn recover(fixture: &Fixture) -> Result<()> {
    // Citus's own names: group, process, transaction, connection.
    for (group, name) in [(1, "citus_0_999999_1_1"), (2, "citus_0_999999_1_2")] {
        fixture.entry_node(group)?.run(&format!(
            "BEGIN; CREATE TABLE left_behind (a int); PREPARE TRANSACTION '{name}'"
        ))?;
    }
    let left = |group| {
        fixture
            .entry_node(group)?
            .one("SELECT count(*) FROM pg_prepared_xacts")
    };
    fixture.session()?.run(&fixture.move_group(1, DEAD_PORT))?;
    let mut session = fixture.session()?;
    let recovered = session.one("SELECT recover_prepared_transactions()")?;
    let notices = session.notices.lock().unwrap().clone();
    let words = format!("01000: transaction recovery cannot connect to 127.0.0.1:{DEAD_PORT}");
    ensure!(
        recovered == "1" && notices.contains(&words),
        "{recovered} {notices:?}"
    );
    ensure!(left(1)? == "1" && left(2)? == "0");
    fixture
        .session()?
        .run(&fixture.move_group(1, fixture.port(1)))?;
    let recovered = session.one("SELECT recover_prepared_transactions()")?;
    ensure!(recovered == "1" && left(1)? == "0", "{recovered}");
    Ok(())
}

fn gone(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    session.run(&fixture.move_group(1, DEAD_PORT))?;
    let words = format!(
        "connection to the remote node postgres@127.0.0.1:{DEAD_PORT} failed with the following error: Connection refused"
    );
    session.refused(&fixture.write(1, "x")?, "08006", &words)?;
    session.refused(&fixture.read(1)?, "08006", &words)?;
    session.run(&fixture.write(2, "x")?)
}

fn read_only(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    session.run(&fixture.write(1, "old")?)?;
    let mut worker = Session::open(fixture.port(1))?;
    let set = |worker: &mut Session, value: &str| {
        // This session must still be able to write its settings.
        worker.run("SET default_transaction_read_only = off")?;
        worker.run(&format!(
            "ALTER SYSTEM SET default_transaction_read_only = {value}"
        ))?;
        worker.run("SELECT pg_reload_conf()")?;
        wait_for(
            "the setting to take effect",
            crate::fixture::DEADLINE,
            || {
                let seen =
                    Session::open(fixture.port(1))?.one("SHOW default_transaction_read_only")?;
                Ok(seen == value)
            },
        )
    };
    set(&mut worker, "on")?;
    let outcome = (|| {
        let mut client = fixture.session()?;
        client.refused(
            &fixture.write(1, "new")?,
            "25006",
            "cannot execute INSERT in a read-only transaction",
        )?;
        let value = client.one(&fixture.read(1)?)?;
        ensure!(value == "old", "{value}");
        Ok(())
    })();
    set(&mut worker, "off")?;
    outcome
}
