//! Rows of `pg_dist_node`: adding and removing them, and which changes Citus refuses.

use anyhow::{Result, ensure};

use crate::fixture::{Case, DEAD_PORT, Fixture, Session};

pub(crate) const CASES: &[Case] = &[
    (
        "a name and port belong to one row, a group has one primary",
        uniqueness,
    ),
    (
        "moves and pauses of unknown nodes, and moves to a taken address, are refused",
        refused_moves,
    ),
    (
        "locks of unknown shards, no shards or an unknown mode are refused",
        refused_locks,
    ),
    (
        "a second primary, an unknown node and an unknown property are refused",
        refused_nodes,
    ),
    (
        "a shard of a table that is not distributed, or of no key, is refused",
        refused_keys,
    ),
    (
        "a call with a NULL argument changes nothing",
        null_arguments,
    ),
    ("a move does not check its new address", unchecked),
    (
        "adding a known address returns the id of its row",
        add_known,
    ),
    (
        "a group given by number does not advance the sequence of groups",
        group_sequence,
    ),
    (
        "adding a worker that cannot be reached fails and adds nothing",
        add_unreachable,
    ),
    (
        "a secondary is added without a connection to it, in another cluster too",
        add_secondary,
    ),
    (
        "nodes are neither added nor removed while a worker's metadata is behind",
        add_unsynced,
    ),
    (
        "a node with the only placement of a shard cannot be removed",
        remove,
    ),
    (
        "citus_set_coordinator_host sets the coordinator's row",
        coordinator_host,
    ),
];

fn uniqueness(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    let (one, two) = (fixture.port(1), fixture.port(2));
    let key = "pg_dist_node_nodename_nodeport_key";
    session.refused(
        &format!(
            "INSERT INTO pg_dist_node (groupid, nodename, nodeport) VALUES (9, '127.0.0.1', {one})"
        ),
        "23505",
        key,
    )?;
    session.refused(
        &format!("UPDATE pg_dist_node SET nodeport = {two} WHERE groupid = 1"),
        "23505",
        key,
    )?;
    session.refused(
        "INSERT INTO pg_dist_node (groupid, nodename, nodeport) VALUES (1, '127.0.0.1', 2)",
        "P0001",
        "there cannot be two primary nodes in a group",
    )?;
    session.refused(
        "UPDATE pg_dist_node SET groupid = 1 WHERE groupid = 2",
        "P0001",
        "there cannot be two primary nodes in a group",
    )?;
    session.refused(
        "INSERT INTO pg_dist_node (groupid, nodename, nodeport, nodecluster) VALUES (9, '127.0.0.1', 2, 'other')",
        "23514",
        "primaries_are_only_allowed_in_the_default_cluster",
    )?;
    Ok(())
}

/// Statements that must fail, each with its SQLSTATE and its whole message.
fn refuses_all(session: &mut Session, table: &[(String, &str, &str)]) -> Result<()> {
    for (sql, code, message) in table {
        let refusal = session.refused(sql, code, message)?;
        ensure!(
            refusal.message() == *message,
            "{:?} from: {sql}",
            refusal.message()
        );
    }
    Ok(())
}

fn refused_moves(fixture: &Fixture) -> Result<()> {
    let (one, two) = (fixture.port(1), fixture.port(2));
    let taken = "there is already another node with the specified hostname and port";
    let unknown = "node 99 not found";
    refuses_all(
        &mut fixture.session()?,
        &[
            (fixture.move_group(1, two), "55000", taken),
            (
                "SELECT citus_update_node(99, 'x', 1)".into(),
                "P0002",
                unknown,
            ),
            // Node ids are printed unsigned.
            (
                "SELECT citus_update_node(-5, 'x', 1)".into(),
                "P0002",
                "node 4294967291 not found",
            ),
            (
                "SELECT master_update_node(99, 'x', 1)".into(),
                "P0002",
                unknown,
            ),
            (
                "SELECT citus_pause_node_within_txn(99)".into(),
                "P0002",
                unknown,
            ),
            // Citus checks the address before the node.
            (
                format!("SELECT citus_update_node(99, '127.0.0.1', {one})"),
                "55000",
                taken,
            ),
        ],
    )
}

fn refused_locks(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    refuses_all(
        &mut session,
        &[
            (
                format!("SELECT lock_shard_metadata(8, '{}')", fixture.shards(1)?),
                "XX000",
                "unsupported lockmode 8",
            ),
            (
                "SELECT lock_shard_metadata(7, '{}')".into(),
                "XX000",
                "no locks specified",
            ),
            (
                "SELECT lock_shard_resources(7, '{}')".into(),
                "XX000",
                "no locks specified",
            ),
            (
                "SELECT lock_shard_metadata(7, '{999999}')".into(),
                "XX000",
                "could not find valid entry for shard 999999",
            ),
        ],
    )?;
    // This function takes no lock on unknown shards, and raises no error.
    session.run("SELECT lock_shard_resources(7, '{999999}')")
}

fn refused_nodes(fixture: &Fixture) -> Result<()> {
    let one = fixture.port(1);
    refuses_all(
        &mut fixture.session()?,
        &[
            (
                "SELECT citus_add_node('127.0.0.1', 2, 1)".into(),
                "XX000",
                "group 1 already has a primary node",
            ),
            (
                "SELECT citus_add_node('127.0.0.1', 2, 9, 'primary', 'other')".into(),
                "XX000",
                "primaries must be added to the default cluster",
            ),
            (
                "SELECT citus_remove_node('127.0.0.1', 2)".into(),
                "XX000",
                "node at \"127.0.0.1:2\" does not exist",
            ),
            (
                format!("SELECT citus_set_node_property('127.0.0.1', {one}, 'x', true)"),
                "XX000",
                "only the 'shouldhaveshards' property can be set using this function",
            ),
            (
                "SELECT citus_set_node_property('127.0.0.1', 2, 'shouldhaveshards', true)".into(),
                "XX000",
                "node at \"127.0.0.1:2\" does not exist",
            ),
        ],
    )
}

fn refused_keys(fixture: &Fixture) -> Result<()> {
    refuses_all(
        &mut fixture.session()?,
        &[
            (
                "SELECT get_shard_id_for_distribution_column('pg_class', 5)".into(),
                "42P16",
                "relation is not distributed",
            ),
            (
                "SELECT get_shard_id_for_distribution_column('kv')".into(),
                "22004",
                "distribution value cannot be NULL for tables other than reference tables.",
            ),
        ],
    )
}

fn null_arguments(fixture: &Fixture) -> Result<()> {
    let before = fixture.row(1)?;
    let mut session = fixture.session()?;
    session.run("SELECT citus_update_node(NULL, 'x', 1), citus_update_node(1, NULL, 1), citus_pause_node_within_txn(NULL)")?;
    ensure!(fixture.row(1)? == before);
    Ok(())
}

fn unchecked(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    session.run(
        "SELECT citus_update_node((SELECT nodeid FROM pg_dist_node WHERE groupid = 1), 'no such host', 70000)",
    )?;
    let row = fixture.row(1)?;
    ensure!(row == "no such host:70000", "{row}");
    Ok(())
}

fn add_known(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    let known = session.one("SELECT nodeid FROM pg_dist_node WHERE groupid = 1")?;
    let port = fixture.port(1);
    let again = session.one(&format!("SELECT citus_add_node('127.0.0.1', {port})"))?;
    ensure!(again == known, "{again}, not {known}");
    let old_name = session.one(&format!("SELECT master_add_node('127.0.0.1', {port})"))?;
    ensure!(old_name == known);
    Ok(())
}

fn group_sequence(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    session.run("SELECT setval('pg_catalog.pg_dist_groupid_seq', 1, false)")?;
    for group in [1, 2] {
        session.refused(
            "SELECT citus_add_node('127.0.0.1', 2)",
            "XX000",
            &format!("group {group} already has a primary node"),
        )?;
    }
    // The sequence is not rolled back: the third caller gets a free group.
    session.refused(
        &format!("SELECT citus_add_node('127.0.0.1', {DEAD_PORT})"),
        "08006",
        "failed",
    )?;
    Ok(())
}

fn add_unreachable(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    let refusal = session.refused(
        &format!("SELECT citus_add_node('127.0.0.1', {DEAD_PORT}, 9)"),
        "08006",
        &format!("connection to the remote node postgres@127.0.0.1:{DEAD_PORT} failed with the following error: "),
    )?;
    ensure!(
        refusal.message().contains("Connection refused"),
        "{}",
        refusal.message()
    );
    let rows = session.one("SELECT count(*) FROM pg_dist_node")?;
    ensure!(rows == "3", "{rows} rows");
    Ok(())
}

fn add_secondary(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    session.run("SELECT citus_add_node('127.0.0.1', 2, 1, 'secondary')")?;
    session.run("SELECT citus_add_node('127.0.0.1', 3, 1, 'secondary', 'other')")?;
    let port = fixture.port(1);
    session.run(&format!(
        "SELECT citus_add_secondary_node('127.0.0.1', 4, '127.0.0.1', {port})"
    ))?;
    let rows = session.rows(
        "SELECT groupid, nodeport, hasmetadata, isactive, nodecluster, metadatasynced, shouldhaveshards
         FROM pg_dist_node WHERE noderole = 'secondary' ORDER BY nodeport",
    )?;
    let expected: Vec<Vec<String>> = [
        "1 2 f t default f t",
        "1 3 f t other f t",
        "1 4 f t default f t",
    ]
    .iter()
    .map(|row| row.split(' ').map(str::to_owned).collect())
    .collect();
    ensure!(rows == expected, "{rows:?}");
    session.run("SELECT citus_remove_node('127.0.0.1', 2)")?;
    let rest = session.one("SELECT count(*) FROM pg_dist_node WHERE noderole = 'secondary'")?;
    ensure!(rest == "2", "{rest} left");
    Ok(())
}

fn add_unsynced(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    session.run(&fixture.move_group(2, DEAD_PORT))?;
    let refusal = session.refused(
        "SELECT citus_add_node('127.0.0.1', 2, 1, 'secondary')",
        "55000",
        "is a metadata node, but is out of sync",
    )?;
    ensure!(
        refusal.hint()
            == Some("If the node is up, wait until metadata gets synced to it and try again."),
        "{:?}",
        refusal.hint()
    );
    Ok(())
}

fn remove(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    let port = fixture.port(1);
    let refusal = session.refused(
        &format!("SELECT citus_remove_node('127.0.0.1', {port})"),
        "XX000",
        &format!("cannot remove or disable the node 127.0.0.1:{port} because because it contains the only shard placement for shard "),
    )?;
    ensure!(
        refusal
            .detail()
            .is_some_and(|detail| detail.ends_with("is public.kv")),
        "{:?}",
        refusal.detail()
    );
    Ok(())
}

fn coordinator_host(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    let id = "SELECT nodeid FROM pg_dist_node WHERE groupid = 0";
    let before = session.one(id)?;
    session.run(&format!(
        "SELECT citus_set_coordinator_host('localhost', {})",
        fixture.port(0)
    ))?;
    let row = fixture.row(0)?;
    ensure!(row == format!("localhost:{}", fixture.port(0)), "{row}");
    ensure!(session.one(id)? == before, "the row has a new nodeid");
    let synced = session.one("SELECT bool_and(metadatasynced) FROM pg_dist_node")?;
    ensure!(synced == "t", "it is no move: nothing is marked for resync");
    session.refused(
        &format!(
            "SELECT citus_set_coordinator_host('127.0.0.1', {})",
            fixture.port(1)
        ),
        "23505",
        "pg_dist_node_nodename_nodeport_key",
    )?;
    let truths = session.rows(&format!(
        "SELECT citus_is_coordinator(), citus_coordinator_nodeid() = {before}"
    ))?;
    ensure!(truths == [["t", "t"]], "{truths:?}");
    Ok(())
}
