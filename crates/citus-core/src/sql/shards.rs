//! Which database cluster a server serves, and whether it has the shards of a group.

use super::quote;

/// The system identifier of the session's server. PostgreSQL lets every role ask (seen on PostgreSQL 15) (there is no REVOKE in
/// its `system_functions.sql`); where somebody revoked that, it fails with 42501.
pub const SYSTEM: &str = "SELECT system_identifier FROM pg_catalog.pg_control_system()";

/// When the session's server was started, in microseconds since 1970 by its own clock.
pub const STARTED: &str = "SELECT \
     (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::int8";

/// The group that a server takes itself for. It fails where there is no Citus.
pub const SERVES: &str = "SELECT groupid FROM pg_catalog.pg_dist_local_group";

/// The shards of a group as the coordinator has them, a row a table: schema, table, shards as an array,
/// and how many. Placements that are to be deleted (`shardstate` 4, before Citus 11) may be gone already.
pub fn shards_of(group: i32) -> String {
    format!(
        "SELECT n.nspname, c.relname, pg_catalog.array_agg(s.shardid ORDER BY s.shardid), \
         pg_catalog.count(*) FROM pg_catalog.pg_dist_placement p \
         JOIN pg_catalog.pg_dist_shard s ON s.shardid = p.shardid \
         JOIN pg_catalog.pg_class c ON c.oid = s.logicalrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE p.groupid = {group} AND p.shardstate = 1 GROUP BY 1, 2"
    )
}

/// The shards of one table, as the coordinator has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableShards {
    /// The table's schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The shards, as the text of an array of numbers.
    pub shards: String,
}

/// Has the session see shards in `pg_class`. Citus hides them there from all but its own sessions; a server
/// without Citus takes it for a setting of nobody's.
pub const SEE_SHARDS: &str = "SET citus.override_table_visibility = off";

/// Counts on a server how many of these shards are there, and names the first that is not. A shard is a
/// table `<table>_<shard>` in the same schema; Citus cuts a name that becomes too long, so of such a
/// name the beginning and the number are compared. Shards are numbered alike in every Citus cluster:
/// the number alone says nothing. To be asked on a session that [sees shards](SEE_SHARDS).
pub fn count_shards(tables: &[TableShards]) -> String {
    let values: Vec<String> = tables
        .iter()
        .map(|table| {
            format!(
                "({}::text, {}::text, {}::int8[])",
                quote(&table.schema),
                quote(&table.table),
                quote(&table.shards)
            )
        })
        .collect();
    format!(
        "SELECT pg_catalog.count(DISTINCT e.id) FILTER (WHERE t.id IS NOT NULL), \
         pg_catalog.min(e.id) FILTER (WHERE t.id IS NULL) \
         FROM (SELECT v.schema, v.name, i.id FROM (VALUES {}) AS v(schema, name, ids), \
         pg_catalog.unnest(v.ids) AS i(id)) AS e LEFT JOIN \
         (SELECT n.nspname::text AS schema, c.relname::text AS name, \
         pg_catalog.substring(c.relname::text, '_([0-9]{{1,18}})$')::int8 AS id \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'f') AND c.relname ~ '_[0-9]{{1,18}}$') AS t \
         ON t.schema = e.schema AND t.id = e.id AND CASE \
         WHEN pg_catalog.octet_length(e.name || '_' || e.id::text) < 64 \
         THEN t.name = e.name || '_' || e.id::text \
         ELSE pg_catalog.starts_with(t.name, pg_catalog.left(e.name, 8)) END",
        values.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_quoted() {
        let table = |schema: &str, table: &str| TableShards {
            schema: schema.to_owned(),
            table: table.to_owned(),
            shards: "{102008,102010}".to_owned(),
        };
        let text = count_shards(&[table("public", "t"), table("o'hara", r"a\b")]);
        for part in [
            "('public'::text, 't'::text, '{102008,102010}'::int8[])",
            r"('o''hara'::text,  E'a\\b'::text, ",
            "'_([0-9]{1,18})$'",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
