//! What news has overtaken is not carried out: whoever changes rows asks once more right before.

use citus_core::plan::{Register, Repair};
use citus_sync::execute::{StepError, register, repair, resync};
use dcs_watch::HostPort;

use crate::fixture::Fixture;
use crate::servers::{DEAD_PORT, servers};

/// Of every row, which is there and when it was changed last.
const VERSIONS: &str =
    "SELECT string_agg(nodeid || ' ' || xmin, ',' ORDER BY nodeid) FROM pg_dist_node";

#[test]
fn no_step_changes_a_row_once_newer_state_came() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let mut session = servers.session("ground");
    let temporary = HostPort {
        host: "citus-sync-swap-99.invalid".to_owned(),
        port: DEAD_PORT,
    };
    session.run(&format!(
        "INSERT INTO pg_dist_node (nodeid, groupid, nodename, nodeport, noderole) \
         VALUES (99, 1, '{}', {}, 'secondary')",
        temporary.host, temporary.port
    ));
    let nowhere = HostPort {
        host: "127.0.0.1".to_owned(),
        port: DEAD_PORT,
    };
    let before = session.one(VERSIONS);
    let step = servers.a_move(1, DEAD_PORT);
    let moved = fixture.run(fixture.move_row(&[], &step, || false));
    let step = Repair {
        nodeid: 99,
        from: temporary,
        to: nowhere.clone(),
    };
    let repaired = fixture.run(repair(&fixture.database, &step, || false));
    let step = Register {
        group: 7,
        address: nowhere,
    };
    let registered = fixture.run(register(&fixture.database, &step, || false));
    for (what, end) in [
        ("move", moved),
        ("repair", repaired),
        ("register", registered),
    ] {
        let error = end.expect_err("superseded");
        assert!(matches!(error, StepError::Superseded), "{what}: {error}");
    }
    assert_eq!(session.one(VERSIONS), before);
    let error = fixture.run(resync(&fixture.database, 1, || false));
    assert!(matches!(error, Err(StepError::Superseded)), "{error:?}");
    assert_eq!(session.one(VERSIONS), before);
}

#[test]
fn no_move_that_waited_for_a_writer_changes_a_row_once_newer_state_came() {
    let servers = servers();
    servers.owner("mover");
    for function in ["citus_update_node", "citus_pause_node_within_txn"] {
        let grant = format!("GRANT EXECUTE ON FUNCTION {function} TO mover");
        servers.session("ground").run(&grant);
    }
    let mut session = servers.session("ground");
    let before = session.one(VERSIONS);
    // With a plain UPDATE; and by way of Citus, where the role may not.
    for role in ["postgres", "mover"] {
        let fixture = Fixture::of_role(&servers, role);
        let mut psql = servers.session("psql");
        psql.run(&format!("BEGIN; {}", servers.write(1, "in the way")));
        let step = servers.a_move(1, DEAD_PORT);
        // The first try, which waits for nobody, finds him; the news comes while he is waited for.
        let asked = std::cell::Cell::new(0);
        let still_right = || {
            asked.set(asked.get() + 1);
            asked.get() == 1
        };
        let end = fixture.move_row(&[], &step, still_right);
        let error = fixture.run(end).expect_err("superseded");
        assert!(matches!(error, StepError::Superseded), "{role}: {error}");
        assert_eq!(session.one(VERSIONS), before, "{role}");
    }
}
