//! Names, arguments and columns in the catalogue, and the rights to use them.

use anyhow::{Result, ensure};

use crate::fixture::{Case, Fixture, Session};

pub(crate) const CASES: &[Case] = &[
    ("the functions have these signatures", signatures),
    (
        "pg_dist_node and the tables around it have these columns",
        columns,
    ),
    ("everything is found by its pg_catalog name", qualified),
    (
        "citus_version and pg_extension tell Citus from the stand-in",
        version,
    ),
    (
        "a role without rights may read the rows, and the right to execute citus_update_node is enough to move",
        rights,
    ),
    (
        "a key is in the same shard on Citus and on the stand-in",
        same_shard,
    ),
    (
        "a worker shows a table for each shard of its group once a session sees shards",
        shard_tables,
    ),
    (
        "recover_prepared_transactions has nothing to recover",
        recover,
    ),
];

const MOVE_ARGUMENTS: &str = "node_id integer, new_node_name text, new_node_port integer, \
     force boolean DEFAULT false, lock_cooldown integer DEFAULT 10000";
const ADD_ARGUMENTS: &str = "nodename text, nodeport integer, groupid integer DEFAULT '-1'::integer, \
     noderole noderole DEFAULT 'primary'::noderole, nodecluster name DEFAULT 'default'::name";
const NODE: &str = "nodename text, nodeport integer";
const LOCK: &str = "lock_mode integer, shard_id bigint[]";

/// Name, arguments, result, and whether every role may call it. All of them are strict,
/// except `create_distributed_table`.
const FUNCTIONS: &[(&str, &str, &str, bool)] = &[
    ("citus_update_node", MOVE_ARGUMENTS, "void", false),
    ("master_update_node", MOVE_ARGUMENTS, "void", false),
    (
        "citus_pause_node_within_txn",
        "node_id integer, force boolean DEFAULT false, lock_cooldown integer DEFAULT 10000",
        "void",
        false,
    ),
    ("lock_shard_metadata", LOCK, "void", true),
    ("lock_shard_resources", LOCK, "void", true),
    (
        "citus_check_connection_to_node",
        "nodename text, nodeport integer DEFAULT 5432",
        "boolean",
        true,
    ),
    ("citus_add_node", ADD_ARGUMENTS, "integer", false),
    ("master_add_node", ADD_ARGUMENTS, "integer", false),
    (
        "citus_add_secondary_node",
        "nodename text, nodeport integer, primaryname text, primaryport integer, \
         nodecluster name DEFAULT 'default'::name",
        "integer",
        false,
    ),
    ("citus_remove_node", NODE, "void", false),
    ("master_remove_node", NODE, "void", false),
    (
        "citus_set_coordinator_host",
        "host text, port integer DEFAULT (current_setting('port'::text))::integer, \
         node_role noderole DEFAULT 'primary'::noderole, node_cluster name DEFAULT 'default'::name",
        "void",
        false,
    ),
    (
        "citus_set_node_property",
        "nodename text, nodeport integer, property text, value boolean",
        "void",
        false,
    ),
    ("citus_version", "", "text", true),
    ("citus_is_coordinator", "", "boolean", true),
    ("citus_coordinator_nodeid", "", "integer", true),
    ("recover_prepared_transactions", "", "integer", false),
    (
        "create_distributed_table",
        "table_name regclass, distribution_column text, \
         distribution_type citus.distribution_type DEFAULT 'hash'::citus.distribution_type, \
         colocate_with text DEFAULT 'default'::text, shard_count integer DEFAULT NULL::integer",
        "void",
        true,
    ),
    (
        "create_reference_table",
        "table_name regclass",
        "void",
        true,
    ),
];

fn signatures(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    for (name, arguments, result, public) in FUNCTIONS {
        let found = session.rows(&format!(
            "SELECT pg_get_function_arguments(oid), pg_get_function_result(oid), proisstrict,
                    has_function_privilege('public', oid, 'EXECUTE')
             FROM pg_proc WHERE proname = '{name}' AND pronamespace = 'pg_catalog'::regnamespace"
        ))?;
        let yes_no = |yes: bool| if yes { "t" } else { "f" }.to_owned();
        let expected = vec![vec![
            (*arguments).to_owned(),
            (*result).to_owned(),
            yes_no(*name != "create_distributed_table"),
            yes_no(*public),
        ]];
        ensure!(
            found == expected,
            "{name}: {found:?}, expected {expected:?}"
        );
    }
    Ok(())
}

/// Name, type, and `!` for NOT NULL.
const COLUMNS: &[(&str, &str)] = &[
    (
        "pg_dist_node",
        "nodeid integer!, groupid integer!, nodename text!, nodeport integer!, noderack text!, hasmetadata boolean!, \
         isactive boolean!, noderole noderole!, nodecluster name!, metadatasynced boolean, shouldhaveshards boolean!, \
         nodeisclone boolean!, nodeprimarynodeid integer!",
    ),
    (
        "pg_dist_placement",
        "placementid bigint!, shardid bigint!, shardstate integer!, shardlength bigint!, groupid integer!",
    ),
    (
        "pg_dist_shard",
        "logicalrelid regclass!, shardid bigint!, shardstorage \"char\"!, shardminvalue text, shardmaxvalue text",
    ),
    (
        "pg_dist_partition",
        "logicalrelid regclass!, partmethod \"char\"!, partkey text, colocationid integer!, repmodel \"char\"!, \
         autoconverted boolean",
    ),
    ("pg_dist_poolinfo", "nodeid integer!, poolinfo text!"),
    ("pg_dist_local_group", "groupid integer!"),
    (
        "citus_nodes",
        "nodename text, nodeport integer, role text, active boolean",
    ),
];

fn columns(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    for (table, expected) in COLUMNS {
        let found = session.one(&format!(
            "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN '!' ELSE '' END, ', ' ORDER BY attnum)
             FROM pg_attribute WHERE attrelid = 'pg_catalog.{table}'::regclass AND attnum > 0 AND NOT attisdropped"
        ))?;
        ensure!(found == *expected, "{table}: {found}");
    }
    Ok(())
}

fn qualified(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    session.run("SET search_path = ''")?;
    let rows = session.one("SELECT count(*) FROM pg_dist_node")?;
    ensure!(rows == "3", "{rows} rows in pg_dist_node");
    session.run("SELECT pg_catalog.citus_version(), pg_catalog.citus_is_coordinator()")?;
    let functions = session.one(
        "SELECT count(*) FROM pg_proc WHERE oid = to_regprocedure('pg_catalog.citus_update_node(int4,text,int4,bool,int4)')",
    )?;
    ensure!(functions == "1");
    Ok(())
}

fn version(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    let version = session.one("SELECT citus_version()")?;
    let extension = session.one("SELECT count(*) FROM pg_extension WHERE extname = 'citus'")?;
    if fixture.flavour.is_citus() {
        ensure!(
            version.starts_with("Citus 1") && extension == "1",
            "{version}"
        );
    } else {
        ensure!(
            version == "Citus stand-in (behaves like 13.2)" && extension == "0",
            "{version}"
        );
    }
    Ok(())
}

fn rights(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    session.run("DROP ROLE IF EXISTS reader; CREATE ROLE reader")?;
    fixture.sync()?;
    session.run("SET ROLE reader")?;
    session.run("SELECT FROM pg_dist_node; SELECT FROM pg_dist_placement; SELECT FROM pg_dist_shard; SELECT FROM pg_dist_poolinfo")?;
    let denied = "permission denied for function citus_update_node";
    session.refused(&fixture.move_group(1, 1), "42501", denied)?;
    session.refused(
        "UPDATE pg_dist_node SET noderack = 'default'",
        "42501",
        "permission denied for table pg_dist_node",
    )?;
    session.refused(
        &format!("SELECT lock_shard_metadata(7, '{}')", fixture.shards(1)?),
        "42501",
        "must be owner of table kv",
    )?;
    session.run("RESET ROLE")?;
    let grant = "FUNCTION citus_update_node(int, text, int, bool, int)";
    session.run(&format!(
        "GRANT EXECUTE ON {grant} TO reader; SET ROLE reader"
    ))?;
    let moved = session.run(&format!(
        "BEGIN; {}; ROLLBACK",
        fixture.move_group(1, crate::fixture::DEAD_PORT)
    ));
    session.run(&format!(
        "ROLLBACK; RESET ROLE; REVOKE EXECUTE ON {grant} FROM reader; DROP ROLE reader"
    ))?;
    moved
}

fn same_shard(fixture: &Fixture) -> Result<()> {
    // The shards of the keys 1 to 10, of eight; recorded from Citus 13.2.
    const SHARDS: &str = "0,6,3,2,1,5,2,0,7,1";
    let found = fixture.session()?.one(
        "SELECT string_agg((get_shard_id_for_distribution_column('kv', k)
            - (SELECT min(shardid) FROM pg_dist_shard WHERE logicalrelid = 'kv'::regclass))::text, ',' ORDER BY k)
         FROM generate_series(1, 10) k",
    )?;
    ensure!(found == SHARDS, "{found}");
    Ok(())
}

/// Without the setting Citus hides them, and the stand-in, which has no such setting, does not.
fn shard_tables(fixture: &Fixture) -> Result<()> {
    let expected = fixture.session()?.one(
        "SELECT string_agg(c.relname || '_' || s.shardid, ',' ORDER BY s.shardid)
         FROM pg_dist_placement p JOIN pg_dist_shard s USING (shardid)
         JOIN pg_class c ON c.oid = s.logicalrelid WHERE p.groupid = 1",
    )?;
    let mut worker = Session::open(fixture.port(1))?;
    worker.run("SET citus.override_table_visibility = off")?;
    let found = worker.one(
        "SELECT string_agg(relname, ',' ORDER BY substring(relname, '[0-9]+$')::int8)
         FROM pg_class WHERE relkind = 'r' AND relname ~ '_10[0-9]{4}$'",
    )?;
    ensure!(found == expected, "{found}, not {expected}");
    Ok(())
}

fn recover(fixture: &Fixture) -> Result<()> {
    let recovered = fixture
        .session()?
        .one("SELECT recover_prepared_transactions()")?;
    ensure!(recovered == "0", "{recovered}");
    Ok(())
}
