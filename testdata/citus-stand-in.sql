-- A stand-in for Citus: the part of Citus 13 that decides where a group's
-- primary is, in SQL and PL/pgSQL, for PostgreSQL 13 to 17 without Citus.
--
-- Install it as a superuser into a database that does not have Citus, with
-- `psql -f` or as one simple query; installing it again is harmless. It is one
-- file so that either way is one step, and needs only the contrib extension
-- dblink (Debian ships it inside postgresql-NN). It is written from observed
-- behaviour; crates/lab/tests/contract.rs runs the same cases against Citus and
-- against this file.
--
-- WHAT IT SHOWS, as Citus 13.2 does
--   * pg_dist_node, pg_dist_placement, pg_dist_shard, pg_dist_partition,
--     pg_dist_colocation, pg_dist_poolinfo, pg_dist_local_group, citus_nodes:
--     in pg_catalog, same columns, types, defaults, uniqueness, readable by all.
--   * citus_add_node, citus_add_secondary_node, citus_remove_node,
--     citus_update_node, citus_set_coordinator_host, citus_set_node_property,
--     citus_pause_node_within_txn, lock_shard_metadata, lock_shard_resources,
--     citus_check_connection_to_node, citus_is_coordinator,
--     citus_coordinator_nodeid, recover_prepared_transactions,
--     create_distributed_table (hash), create_reference_table, and the master_*
--     names: same arguments, defaults, strictness, who may call them, SQLSTATEs
--     and messages.
--   * The locks. A move or a pause takes the exclusive lock of every shard of
--     the group (reference tables included, so that those of two groups exclude
--     each other where there is a reference table); writers take it shared;
--     readers do not. A move takes RowExclusiveLock on pg_dist_node, then
--     ExclusiveLock, until commit, and can deadlock as Citus does. A plain
--     UPDATE takes ShareRowExclusiveLock, a write to a reference table
--     RowShareLock. lock_timeout counts. Same name and port: nothing.
--     lock_shard_metadata(3, …) of a reference table keeps its writers waiting
--     and stands beside another one.
--   * force: from lock_cooldown + 100 ms on, whoever is in the way is terminated.
--   * A move sets metadatasynced to false for every worker with metadata.
--   * get_shard_id_for_distribution_column: the same shard as in Citus for
--     smallint, integer, bigint and text.
--   * recover_prepared_transactions: finishes what a dead session of the
--     coordinator left prepared on the workers, and warns of those it cannot reach.
--   * Through citus_stand_in_write and citus_stand_in_read, what a client of the
--     coordinator, or of a worker that has the metadata, would see: a write waits
--     in a hold on that node and then goes to the new address; errors of the node
--     come back with their own SQLSTATE; a node that cannot be reached is 08006 in
--     Citus's words.
--
-- WHAT IT DOES NOT SHOW
--   * It is no extension: pg_extension has no row `citus`, and citus_version()
--     says it is a stand-in. Settings `citus.*` are free placeholders: SHOW
--     fails until one is set, current_setting(name, true) gives NULL.
--   * No planner: INSERT, UPDATE and SELECT on a distributed table touch the
--     (empty) local table. All shards of a table are one plain table of the same
--     name on each node. Only two columns are written: the distribution column
--     and the first other one. There is no two-phase commit: a write is
--     committed on the node before the local transaction ends.
--   * SQL has but two modes of advisory locks and two lock spaces: where Citus
--     has AccessExclusiveLock or ExclusiveLock this has ExclusiveLock, where it
--     has any weaker mode this has ShareLock, and in pg_locks `objsubid` is 2 and
--     the class (8 co-located shard, 5 shard resource) is in the top byte of
--     `classid`. The application's own two-key advisory locks with such keys would
--     meet ours. So lock_shard_metadata modes 1, 3 and 5 are alike for the shards
--     of distributed tables. Those of reference tables have the true modes, but on
--     an empty table of their own, citus_stand_in.shard_N, in place of an advisory
--     lock of class 4.
--   * No background processes. What the maintenance daemon does shortly after a
--     move (send the metadata to the workers, set metadatasynced) happens when
--     somebody calls citus_stand_in_sync_metadata(). With force the caller itself
--     looks for blockers between waits of 100 ms, so it loses its place in the
--     queue each time. `SET citus_stand_in.no_worker_slots = on` shows what Citus
--     does when no background worker can be started.
--   * In a read-only transaction citus_update_node fails; Citus lets it pass.
--   * pg_dist_partition.partkey is the column's name, not an expression tree.
--   * Connections: libpq's own connect_timeout, whole seconds, at least two.

SET client_min_messages = warning;
SET allow_system_table_mods = on;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        RAISE EXCEPTION 'Citus is installed in database "%": the stand-in is for databases without it', current_database();
    END IF;
    IF NOT EXISTS (SELECT FROM pg_type WHERE typname = 'noderole' AND typnamespace = 'pg_catalog'::regnamespace) THEN
        CREATE TYPE pg_catalog.noderole AS ENUM ('primary', 'secondary', 'unavailable');
    END IF;
    CREATE SCHEMA IF NOT EXISTS citus;
    GRANT USAGE ON SCHEMA citus TO PUBLIC;
    IF to_regtype('citus.distribution_type') IS NULL THEN
        CREATE TYPE citus.distribution_type AS ENUM ('hash', 'range', 'append');
    END IF;
END $$;

CREATE SCHEMA IF NOT EXISTS citus_stand_in;
GRANT USAGE ON SCHEMA citus_stand_in TO PUBLIC;
CREATE EXTENSION IF NOT EXISTS dblink WITH SCHEMA citus_stand_in;

---------------------------------------------------------------------------
-- Tables
---------------------------------------------------------------------------

CREATE SEQUENCE IF NOT EXISTS pg_catalog.pg_dist_node_nodeid_seq MINVALUE 1 MAXVALUE 4294967296;
CREATE SEQUENCE IF NOT EXISTS pg_catalog.pg_dist_groupid_seq MINVALUE 1 MAXVALUE 4294967296;
CREATE SEQUENCE IF NOT EXISTS pg_catalog.pg_dist_shardid_seq MINVALUE 102008;
CREATE SEQUENCE IF NOT EXISTS pg_catalog.pg_dist_placement_placementid_seq;
CREATE SEQUENCE IF NOT EXISTS pg_catalog.pg_dist_colocationid_seq MINVALUE 1 MAXVALUE 4294967296;

CREATE TABLE IF NOT EXISTS pg_catalog.pg_dist_node (
    nodeid int NOT NULL DEFAULT nextval('pg_dist_node_nodeid_seq') PRIMARY KEY,
    groupid int NOT NULL DEFAULT nextval('pg_dist_groupid_seq'),
    nodename text NOT NULL,
    nodeport int NOT NULL DEFAULT 5432,
    noderack text NOT NULL DEFAULT 'default',
    hasmetadata bool NOT NULL DEFAULT false,
    isactive bool NOT NULL DEFAULT true,
    noderole noderole NOT NULL DEFAULT 'primary',
    nodecluster name NOT NULL DEFAULT 'default',
    metadatasynced bool DEFAULT false,
    shouldhaveshards bool NOT NULL DEFAULT true,
    nodeisclone bool NOT NULL DEFAULT false,
    nodeprimarynodeid int NOT NULL DEFAULT 0,
    UNIQUE (nodename, nodeport),
    CONSTRAINT primaries_are_only_allowed_in_the_default_cluster
        CHECK (NOT (nodecluster <> 'default' AND noderole = 'primary'))
);

CREATE TABLE IF NOT EXISTS pg_catalog.pg_dist_local_group (groupid int NOT NULL PRIMARY KEY);
INSERT INTO pg_catalog.pg_dist_local_group SELECT 0 WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_dist_local_group);

CREATE TABLE IF NOT EXISTS pg_catalog.pg_dist_partition (
    logicalrelid regclass NOT NULL UNIQUE,
    partmethod "char" NOT NULL,
    partkey text,
    colocationid int NOT NULL DEFAULT 0,
    repmodel "char" NOT NULL DEFAULT 'c',
    autoconverted bool DEFAULT false
);

CREATE TABLE IF NOT EXISTS pg_catalog.pg_dist_colocation (
    colocationid int NOT NULL PRIMARY KEY,
    shardcount int NOT NULL,
    replicationfactor int NOT NULL,
    distributioncolumntype oid NOT NULL,
    distributioncolumncollation oid NOT NULL
);

CREATE TABLE IF NOT EXISTS pg_catalog.pg_dist_shard (
    logicalrelid regclass NOT NULL,
    shardid bigint NOT NULL UNIQUE,
    shardstorage "char" NOT NULL,
    shardminvalue text,
    shardmaxvalue text
);
CREATE INDEX IF NOT EXISTS pg_dist_shard_logical_relid_index ON pg_catalog.pg_dist_shard (logicalrelid);

CREATE TABLE IF NOT EXISTS pg_catalog.pg_dist_placement (
    placementid bigint NOT NULL DEFAULT nextval('pg_dist_placement_placementid_seq') UNIQUE,
    shardid bigint NOT NULL,
    shardstate int NOT NULL,
    shardlength bigint NOT NULL,
    groupid int NOT NULL,
    CONSTRAINT placement_shardid_groupid_unique_index UNIQUE (shardid, groupid)
);
CREATE INDEX IF NOT EXISTS pg_dist_placement_groupid_index ON pg_catalog.pg_dist_placement (groupid);

CREATE TABLE IF NOT EXISTS pg_catalog.pg_dist_poolinfo (
    nodeid int NOT NULL PRIMARY KEY,
    poolinfo text NOT NULL
);

CREATE OR REPLACE VIEW pg_catalog.citus_nodes AS
SELECT nodename, nodeport,
       CASE WHEN groupid = 0 THEN 'coordinator' ELSE 'worker' END AS role,
       isactive AS active
FROM pg_catalog.pg_dist_node;

GRANT SELECT ON pg_catalog.pg_dist_node, pg_catalog.pg_dist_local_group, pg_catalog.pg_dist_partition,
    pg_catalog.pg_dist_colocation, pg_catalog.pg_dist_shard, pg_catalog.pg_dist_placement,
    pg_catalog.pg_dist_poolinfo, pg_catalog.citus_nodes TO PUBLIC;

-- Our own functions update pg_dist_node as Citus's C code does: without this trigger.
CREATE OR REPLACE FUNCTION citus_stand_in.one_primary_per_group() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE pg_catalog.pg_dist_node IN SHARE ROW EXCLUSIVE MODE;
    IF NEW.noderole = 'primary' AND EXISTS (
        SELECT FROM pg_catalog.pg_dist_node
        WHERE groupid = NEW.groupid AND noderole = 'primary' AND nodeid <> NEW.nodeid)
    THEN
        RAISE EXCEPTION 'there cannot be two primary nodes in a group';
    END IF;
    RETURN NEW;
END $$;

DROP TRIGGER IF EXISTS pg_dist_node_trigger ON pg_catalog.pg_dist_node;
CREATE TRIGGER pg_dist_node_trigger BEFORE INSERT OR UPDATE ON pg_catalog.pg_dist_node
    FOR EACH ROW WHEN (current_setting('citus_stand_in.internal', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION citus_stand_in.one_primary_per_group();

---------------------------------------------------------------------------
-- Locks
---------------------------------------------------------------------------

-- The two keys of a shard's metadata lock; no row for an unknown shard.
-- Co-located shards of hash-distributed tables share one lock, so do they here.
CREATE OR REPLACE FUNCTION citus_stand_in.metadata_lock(shard bigint, OUT key1 int, OUT key2 int)
RETURNS SETOF record LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN t.partmethod = 'h' THEN (8 << 24) + (
                    SELECT count(*)::int FROM pg_catalog.pg_dist_shard o
                    WHERE o.logicalrelid = s.logicalrelid AND o.shardid < s.shardid)
                ELSE 4 << 24 END,
           CASE WHEN t.partmethod = 'h' THEN t.colocationid ELSE s.shardid::int END
    FROM pg_catalog.pg_dist_shard s JOIN pg_catalog.pg_dist_partition t USING (logicalrelid)
    WHERE s.shardid = shard
$$;

-- The command that takes such a lock, in a mode of Citus's numbers: 1 AccessShare
-- to 8 AccessExclusive. A reference table's is taken on a table, because that is
-- the only thing in SQL that knows more than two modes.
CREATE OR REPLACE FUNCTION citus_stand_in.lock_command(key1 int, key2 int, lock_mode int) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN key1 = 4 << 24 THEN format('LOCK TABLE citus_stand_in.shard_%s IN %s MODE', key2,
            ('{ACCESS SHARE,ROW SHARE,ROW EXCLUSIVE,SHARE UPDATE EXCLUSIVE,SHARE,SHARE ROW EXCLUSIVE,EXCLUSIVE,ACCESS EXCLUSIVE}'::text[])[lock_mode])
        WHEN lock_mode >= 7 THEN format('SELECT pg_advisory_xact_lock(%s, %s)', key1, key2)
        ELSE format('SELECT pg_advisory_xact_lock_shared(%s, %s)', key1, key2)
    END
$$;

-- The query that names who has it.
CREATE OR REPLACE FUNCTION citus_stand_in.lock_holders(key1 int, key2 int) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT 'SELECT pid FROM pg_locks WHERE granted AND pid <> pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND '
        || CASE WHEN key1 = 4 << 24 THEN format('relation = ''citus_stand_in.shard_%s''::regclass', key2)
           ELSE format('locktype = ''advisory'' AND objsubid = 2 AND classid::int8 = %s AND objid::int8 = %s', key1, key2) END
$$;

-- The table that stands for a reference table's shard.
CREATE OR REPLACE FUNCTION citus_stand_in.create_lock(shard bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE IF NOT EXISTS citus_stand_in.shard_%s ()', shard);
    EXECUTE format('GRANT UPDATE ON citus_stand_in.shard_%s TO PUBLIC', shard); -- the right to lock it
END $$;

-- Takes a lock with `lock_command`. With `kill_after` set: once that moment has
-- passed, terminates the backends that `blockers` (a query) names, every 100 ms.
-- The caller's lock_timeout still bounds the whole wait.
CREATE OR REPLACE FUNCTION citus_stand_in.acquire(lock_command text, blockers text, kill_after timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    own text := current_setting('lock_timeout');
    own_deadline timestamptz;
    patience float8;
    victim int;
BEGIN
    IF kill_after IS NULL THEN
        EXECUTE lock_command;
        RETURN;
    END IF;
    IF own <> '0' THEN
        own_deadline := clock_timestamp() + own::interval;
    END IF;
    LOOP
        patience := greatest(extract(epoch FROM kill_after - clock_timestamp()), 0) * 1000 + 100;
        IF own_deadline IS NOT NULL THEN
            patience := least(patience, extract(epoch FROM own_deadline - clock_timestamp()) * 1000);
        END IF;
        BEGIN
            PERFORM set_config('lock_timeout', greatest(ceil(patience), 1)::bigint::text, true);
            EXECUTE lock_command;
            PERFORM set_config('lock_timeout', own, true);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            IF clock_timestamp() >= own_deadline THEN
                RAISE;
            END IF;
        END;
        IF clock_timestamp() >= kill_after THEN
            FOR victim IN EXECUTE blockers LOOP
                RAISE LOG 'terminating conflicting backend %', victim;
                PERFORM pg_terminate_backend(victim);
            END LOOP;
        END IF;
    END LOOP;
END $$;

-- When `force` begins to terminate; NULL for never. Shows also what Citus does
-- when all background workers are taken.
CREATE OR REPLACE FUNCTION citus_stand_in.kill_after(force bool, lock_cooldown int) RETURNS timestamptz
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT force THEN
        RETURN NULL;
    ELSIF current_setting('citus_stand_in.no_worker_slots', true) = 'on' THEN
        PERFORM set_config('lock_timeout', lock_cooldown::text, true);
        RAISE WARNING 'could not start background worker to kill backends with conflicting locks to force the update. Degrading to acquiring locks with a lock time out.'
            USING HINT = 'Increasing max_worker_processes might help.';
        RETURN NULL;
    END IF;
    RETURN clock_timestamp() + lock_cooldown * interval '1 ms';
END $$;

CREATE OR REPLACE FUNCTION citus_stand_in.lock_group(grp int, kill_after timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    k record;
BEGIN
    FOR k IN
        SELECT l.key1, l.key2 FROM pg_catalog.pg_dist_placement p, citus_stand_in.metadata_lock(p.shardid) l
        WHERE p.groupid = grp GROUP BY 1, 2 ORDER BY min(p.shardid)
    LOOP
        PERFORM citus_stand_in.acquire(
            citus_stand_in.lock_command(k.key1, k.key2, 8), citus_stand_in.lock_holders(k.key1, k.key2), kill_after);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION citus_stand_in.lock_nodes(mode text, kill_after timestamptz) RETURNS void
LANGUAGE sql AS $$
    SELECT citus_stand_in.acquire(
        'LOCK TABLE pg_catalog.pg_dist_node IN ' || mode || ' MODE',
        'SELECT pid FROM pg_locks WHERE relation = ''pg_catalog.pg_dist_node''::regclass AND granted
            AND pid <> pg_backend_pid() AND mode NOT IN (''AccessShareLock'', ''RowShareLock'')',
        kill_after)
$$;

-- What lock_shard_metadata and lock_shard_resources have in common.
CREATE OR REPLACE FUNCTION citus_stand_in.check_lock_request(lock_mode int, shards bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF lock_mode NOT IN (1, 3, 5, 7) THEN
        RAISE EXCEPTION 'unsupported lockmode %', lock_mode USING ERRCODE = 'XX000';
    ELSIF cardinality(shards) = 0 THEN
        RAISE EXCEPTION 'no locks specified' USING ERRCODE = 'XX000';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.lock_shard_metadata(lock_mode int, shard_id bigint[]) RETURNS void
LANGUAGE plpgsql STRICT AS $$
DECLARE
    shard bigint;
    tab regclass;
    k record;
BEGIN
    PERFORM citus_stand_in.check_lock_request(lock_mode, shard_id);
    FOREACH shard IN ARRAY shard_id LOOP
        SELECT s.logicalrelid INTO tab FROM pg_catalog.pg_dist_shard s WHERE s.shardid = shard;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'could not find valid entry for shard %', shard USING ERRCODE = 'XX000';
        ELSIF NOT pg_has_role((SELECT relowner FROM pg_class WHERE oid = tab), 'USAGE') THEN
            RAISE EXCEPTION 'must be owner of table %', tab USING ERRCODE = '42501';
        END IF;
        SELECT * INTO k FROM citus_stand_in.metadata_lock(shard);
        EXECUTE citus_stand_in.lock_command(k.key1, k.key2, lock_mode);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.lock_shard_resources(lock_mode int, shard_id bigint[]) RETURNS void
LANGUAGE plpgsql STRICT AS $$
DECLARE
    shard bigint;
    tab regclass;
BEGIN
    PERFORM citus_stand_in.check_lock_request(lock_mode, shard_id);
    FOREACH shard IN ARRAY shard_id LOOP
        SELECT s.logicalrelid INTO tab FROM pg_catalog.pg_dist_shard s WHERE s.shardid = shard;
        CONTINUE WHEN NOT FOUND;
        IF NOT (has_table_privilege(tab, 'UPDATE, DELETE, TRUNCATE')
                OR lock_mode = 3 AND has_table_privilege(tab, 'INSERT')) THEN
            RAISE EXCEPTION 'permission denied for table %', tab USING ERRCODE = '42501';
        END IF;
        EXECUTE citus_stand_in.lock_command(5 << 24, shard::int, lock_mode);
    END LOOP;
END $$;

---------------------------------------------------------------------------
-- Moving a node
---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION citus_stand_in.node(node_id int) RETURNS pg_catalog.pg_dist_node
LANGUAGE plpgsql STABLE AS $$
DECLARE
    n pg_catalog.pg_dist_node;
BEGIN
    SELECT * INTO n FROM pg_catalog.pg_dist_node WHERE nodeid = node_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'node % not found', node_id & 4294967295 USING ERRCODE = 'P0002';
    END IF;
    RETURN n;
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.citus_update_node(
    node_id int, new_node_name text, new_node_port int, force bool DEFAULT false, lock_cooldown int DEFAULT 10000)
RETURNS void LANGUAGE plpgsql STRICT SECURITY DEFINER SET citus_stand_in.internal = 'on' AS $$
DECLARE
    same int;
    n pg_catalog.pg_dist_node;
    kill_after timestamptz;
BEGIN
    SELECT nodeid INTO same FROM pg_catalog.pg_dist_node
    WHERE nodename = new_node_name AND nodeport = new_node_port;
    IF same = node_id THEN
        RETURN;
    ELSIF same IS NOT NULL THEN
        RAISE EXCEPTION 'there is already another node with the specified hostname and port' USING ERRCODE = '55000';
    END IF;
    n := citus_stand_in.node(node_id);
    IF n.noderole = 'primary' THEN
        kill_after := citus_stand_in.kill_after(force, lock_cooldown);
        PERFORM citus_stand_in.lock_group(n.groupid, kill_after);
    END IF;
    -- Two steps, weaker lock first, as Citus: this is where two callers that
    -- waited for a third deadlock.
    PERFORM citus_stand_in.lock_nodes('ROW EXCLUSIVE', kill_after);
    UPDATE pg_catalog.pg_dist_node SET nodename = new_node_name, nodeport = new_node_port WHERE nodeid = node_id;
    PERFORM citus_stand_in.lock_nodes('EXCLUSIVE', kill_after);
    UPDATE pg_catalog.pg_dist_node SET metadatasynced = false WHERE hasmetadata AND metadatasynced AND groupid > 0;
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.master_update_node(
    node_id int, new_node_name text, new_node_port int, force bool DEFAULT false, lock_cooldown int DEFAULT 10000)
RETURNS void LANGUAGE sql STRICT AS $$
    SELECT pg_catalog.citus_update_node(node_id, new_node_name, new_node_port, force, lock_cooldown)
$$;

CREATE OR REPLACE FUNCTION pg_catalog.citus_pause_node_within_txn(
    node_id int, force bool DEFAULT false, lock_cooldown int DEFAULT 10000)
RETURNS void LANGUAGE plpgsql STRICT SECURITY DEFINER AS $$
DECLARE
    n pg_catalog.pg_dist_node := citus_stand_in.node(node_id);
BEGIN
    IF n.noderole = 'primary' THEN
        PERFORM citus_stand_in.lock_group(n.groupid, citus_stand_in.kill_after(force, lock_cooldown));
    END IF;
END $$;

---------------------------------------------------------------------------
-- Other nodes, over dblink. One connection per session and address is kept, as
-- in Citus.
---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION citus_stand_in.connect(link text, host text, port int) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    timeout_ms int;
    reason text;
BEGIN
    timeout_ms := extract(epoch FROM (CASE WHEN t ~ '^\d+$' THEN t || ' ms' ELSE t END)::interval) * 1000
        FROM coalesce(nullif(current_setting('citus.node_connection_timeout', true), ''), '30000') t;
    PERFORM citus_stand_in.dblink_connect(link, format('%s host=''%s'' port=%s dbname=''%s'' user=''%s'' connect_timeout=%s',
        current_setting('citus.node_conninfo', true), replace(replace(host, '\', '\\'), '''', '\'''), port,
        replace(replace(current_database(), '\', '\\'), '''', '\'''),
        replace(replace(session_user, '\', '\\'), '''', '\'''), greatest(ceil(timeout_ms / 1000.0), 2)));
EXCEPTION WHEN sqlclient_unable_to_establish_sqlconnection THEN
    GET STACKED DIAGNOSTICS reason = PG_EXCEPTION_DETAIL;
    reason := rtrim(regexp_replace(reason, '^connection to server at .*, port \d+ failed: ', ''), E'\n');
    IF reason ~ 'timeout expired' THEN
        RAISE WARNING 'could not establish connection after % ms', timeout_ms;
        RAISE EXCEPTION 'connection to the remote node %@%:% failed', session_user, host, port USING ERRCODE = '08006';
    END IF;
    RAISE EXCEPTION 'connection to the remote node %@%:% failed with the following error: %', session_user, host, port, reason
        USING ERRCODE = '08006';
END $$;

-- Runs one statement on a node and gives the first column of its first row (for
-- a command: its tag). It can be cancelled, whatever the node does. A kept
-- connection that turns out to be lost is opened anew, once.
CREATE OR REPLACE FUNCTION citus_stand_in.run(host text, port int, command text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    link text := format('citus_stand_in %s:%s', host, port);
    kept bool := link = ANY (citus_stand_in.dblink_get_connections());
    pause float8 := 0.0002;
    answer text;
BEGIN
    IF kept IS NOT TRUE THEN
        PERFORM citus_stand_in.connect(link, host, port);
    END IF;
    BEGIN
        PERFORM citus_stand_in.dblink_send_query(link, command);
        WHILE citus_stand_in.dblink_is_busy(link) = 1 LOOP
            PERFORM pg_sleep(pause);
            pause := least(pause * 2, 0.005);
        END LOOP;
        SELECT r INTO answer FROM citus_stand_in.dblink_get_result(link) AS t(r text);
        PERFORM FROM citus_stand_in.dblink_get_result(link) AS t(r text);
        RETURN answer;
    EXCEPTION
        WHEN connection_exception OR connection_failure OR admin_shutdown OR crash_shutdown OR cannot_connect_now THEN
            PERFORM citus_stand_in.dblink_disconnect(link);
            IF kept IS NOT TRUE THEN
                RAISE;
            END IF;
        WHEN query_canceled OR OTHERS THEN
            PERFORM citus_stand_in.dblink_disconnect(link);
            RAISE;
    END;
    RETURN citus_stand_in.run(host, port, command);
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.citus_check_connection_to_node(nodename text, nodeport int DEFAULT 5432)
RETURNS bool LANGUAGE plpgsql STRICT SECURITY DEFINER AS $$
BEGIN
    PERFORM citus_stand_in.connect('citus_stand_in check', nodename, nodeport);
    PERFORM citus_stand_in.dblink_disconnect('citus_stand_in check');
    RETURN true;
EXCEPTION WHEN connection_failure THEN
    RAISE WARNING '%', SQLERRM USING ERRCODE = '08006';
    RETURN false;
END $$;

-- Makes a node's metadata like ours, where the node has the stand-in too.
CREATE OR REPLACE FUNCTION citus_stand_in.send_metadata(n pg_catalog.pg_dist_node) RETURNS void
LANGUAGE plpgsql AS $outer$
DECLARE
    command text := '';
    tab text;
    content json;
BEGIN
    FOREACH tab IN ARRAY '{pg_dist_node,pg_dist_colocation,pg_dist_partition,pg_dist_shard,pg_dist_placement}'::text[] LOOP
        EXECUTE format('SELECT coalesce(json_agg(t), ''[]'') FROM pg_catalog.%I t', tab) INTO content;
        command := command || format('DELETE FROM pg_catalog.%1$I; INSERT INTO pg_catalog.%1$I
            SELECT * FROM json_populate_recordset(NULL::pg_catalog.%1$I, %2$L);', tab, content);
    END LOOP;
    command := command || 'PERFORM citus_stand_in.create_lock(s.shardid) FROM pg_catalog.pg_dist_shard s
        JOIN pg_catalog.pg_dist_partition USING (logicalrelid) WHERE partmethod = ''n'';';
    command := format('BEGIN IF to_regproc(''pg_catalog.citus_stand_in_write'') IS NOT NULL THEN
        SET LOCAL citus_stand_in.internal = ''on''; %s UPDATE pg_catalog.pg_dist_local_group SET groupid = %s; END IF; END',
        command, n.groupid);
    PERFORM citus_stand_in.run(n.nodename, n.nodeport, format('DO %L', command));
END $outer$;

-- Plays the maintenance daemon: sends the metadata to every worker that has not
-- got it, and says whether all have it now. A node that cannot be reached stays
-- unsynced and is named in a warning.
CREATE OR REPLACE FUNCTION pg_catalog.citus_stand_in_sync_metadata() RETURNS bool
LANGUAGE plpgsql SECURITY DEFINER SET citus_stand_in.internal = 'on' AS $$
DECLARE
    n pg_catalog.pg_dist_node;
BEGIN
    LOCK TABLE pg_catalog.pg_dist_node IN ROW EXCLUSIVE MODE;
    FOR n IN SELECT * FROM pg_catalog.pg_dist_node
        WHERE hasmetadata AND NOT metadatasynced AND isactive AND noderole = 'primary' AND groupid > 0 ORDER BY nodeid
    LOOP
        BEGIN
            UPDATE pg_catalog.pg_dist_node SET metadatasynced = true WHERE nodeid = n.nodeid;
            PERFORM citus_stand_in.send_metadata(n);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'failed to sync metadata to %:%', n.nodename, n.nodeport USING DETAIL = SQLERRM;
        END;
    END LOOP;
    RETURN NOT EXISTS (SELECT FROM pg_catalog.pg_dist_node WHERE hasmetadata AND NOT metadatasynced AND groupid > 0);
END $$;

---------------------------------------------------------------------------
-- Adding and removing nodes
---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION citus_stand_in.refuse_unsynced() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    n pg_catalog.pg_dist_node;
BEGIN
    SELECT * INTO n FROM pg_catalog.pg_dist_node
    WHERE hasmetadata AND NOT metadatasynced AND isactive AND noderole = 'primary' AND groupid > 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '%:% is a metadata node, but is out of sync', n.nodename, n.nodeport
            USING ERRCODE = '55000', HINT = 'If the node is up, wait until metadata gets synced to it and try again.';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.citus_add_node(
    nodename text, nodeport int, groupid int DEFAULT -1, noderole noderole DEFAULT 'primary', nodecluster name DEFAULT 'default')
RETURNS int LANGUAGE plpgsql STRICT SECURITY DEFINER SET citus_stand_in.internal = 'on' AS $$
#variable_conflict use_column
DECLARE
    n pg_catalog.pg_dist_node;
    primary_node bool := citus_add_node.noderole = 'primary';
    grp int := citus_add_node.groupid;
BEGIN
    LOCK TABLE pg_catalog.pg_dist_node IN EXCLUSIVE MODE;
    SELECT * INTO n FROM pg_catalog.pg_dist_node d
    WHERE d.nodename = citus_add_node.nodename AND d.nodeport = citus_add_node.nodeport;
    IF FOUND THEN
        RETURN n.nodeid;
    END IF;
    -- The sequence knows nothing of groups that were given by number.
    IF grp = -1 THEN
        grp := nextval('pg_catalog.pg_dist_groupid_seq');
    END IF;
    IF primary_node AND EXISTS (
        SELECT FROM pg_catalog.pg_dist_node d WHERE d.groupid = grp AND d.noderole = 'primary')
    THEN
        RAISE EXCEPTION 'group % already has a primary node', grp USING ERRCODE = 'XX000';
    ELSIF primary_node AND citus_add_node.nodecluster <> 'default' THEN
        RAISE EXCEPTION 'primaries must be added to the default cluster' USING ERRCODE = 'XX000';
    END IF;
    PERFORM citus_stand_in.refuse_unsynced();
    INSERT INTO pg_catalog.pg_dist_node
        (groupid, nodename, nodeport, noderole, nodecluster, hasmetadata, metadatasynced, shouldhaveshards)
    VALUES (grp, citus_add_node.nodename, citus_add_node.nodeport, citus_add_node.noderole, citus_add_node.nodecluster,
        primary_node, primary_node, grp <> 0)
    RETURNING * INTO n;
    IF primary_node AND grp <> 0 THEN
        PERFORM citus_stand_in.place_reference_tables(n);
        PERFORM citus_stand_in.send_metadata(d) FROM pg_catalog.pg_dist_node d
        WHERE d.hasmetadata AND d.groupid > 0 AND d.noderole = 'primary' ORDER BY d.nodeid <> n.nodeid, d.nodeid;
    END IF;
    RETURN n.nodeid;
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.master_add_node(
    nodename text, nodeport int, groupid int DEFAULT -1, noderole noderole DEFAULT 'primary', nodecluster name DEFAULT 'default')
RETURNS int LANGUAGE sql STRICT AS $$
    SELECT pg_catalog.citus_add_node($1, $2, $3, $4, $5)
$$;

CREATE OR REPLACE FUNCTION pg_catalog.citus_add_secondary_node(
    nodename text, nodeport int, primaryname text, primaryport int, nodecluster name DEFAULT 'default')
RETURNS int LANGUAGE plpgsql STRICT AS $$
DECLARE
    grp int;
BEGIN
    SELECT d.groupid INTO grp FROM pg_catalog.pg_dist_node d WHERE d.nodename = primaryname AND d.nodeport = primaryport;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'node at "%:%" does not exist', primaryname, primaryport USING ERRCODE = 'XX000';
    END IF;
    RETURN pg_catalog.citus_add_node($1, $2, grp, 'secondary', $5);
END $$;

CREATE OR REPLACE FUNCTION citus_stand_in.node_at(host text, port int) RETURNS pg_catalog.pg_dist_node
LANGUAGE plpgsql STABLE AS $$
DECLARE
    n pg_catalog.pg_dist_node;
BEGIN
    SELECT * INTO n FROM pg_catalog.pg_dist_node WHERE nodename = host AND nodeport = port;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'node at "%:%" does not exist', host, port USING ERRCODE = 'XX000';
    END IF;
    RETURN n;
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.citus_remove_node(nodename text, nodeport int) RETURNS void
LANGUAGE plpgsql STRICT SECURITY DEFINER SET citus_stand_in.internal = 'on' AS $$
DECLARE
    n pg_catalog.pg_dist_node;
    sole record;
BEGIN
    LOCK TABLE pg_catalog.pg_dist_node IN EXCLUSIVE MODE;
    n := citus_stand_in.node_at($1, $2);
    IF n.noderole = 'primary' THEN
        SELECT p.shardid, s.logicalrelid INTO sole
        FROM pg_catalog.pg_dist_placement p JOIN pg_catalog.pg_dist_shard s USING (shardid)
        WHERE p.groupid = n.groupid AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_dist_placement o WHERE o.shardid = p.shardid AND o.groupid <> p.groupid)
        ORDER BY p.shardid LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'cannot remove or disable the node %:% because because it contains the only shard placement for shard %',
                n.nodename, n.nodeport, sole.shardid
                USING ERRCODE = 'XX000',
                DETAIL = format('One of the table(s) that prevents the operation complete successfully is %s',
                    (SELECT format('%I.%I', relnamespace::regnamespace, relname) FROM pg_class WHERE oid = sole.logicalrelid)),
                HINT = 'To proceed, either drop the tables or use undistribute_table() function to convert them to local tables';
        END IF;
        DELETE FROM pg_catalog.pg_dist_placement p WHERE p.groupid = n.groupid;
    END IF;
    DELETE FROM pg_catalog.pg_dist_node d WHERE d.nodeid = n.nodeid;
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.master_remove_node(nodename text, nodeport int) RETURNS void
LANGUAGE sql STRICT AS $$ SELECT pg_catalog.citus_remove_node($1, $2) $$;

CREATE OR REPLACE FUNCTION pg_catalog.citus_set_node_property(nodename text, nodeport int, property text, value bool)
RETURNS void LANGUAGE plpgsql STRICT SECURITY DEFINER SET citus_stand_in.internal = 'on' AS $$
BEGIN
    IF property <> 'shouldhaveshards' THEN
        RAISE EXCEPTION 'only the ''shouldhaveshards'' property can be set using this function' USING ERRCODE = 'XX000';
    END IF;
    UPDATE pg_catalog.pg_dist_node d SET shouldhaveshards = value WHERE d.nodeid = (citus_stand_in.node_at($1, $2)).nodeid;
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.citus_set_coordinator_host(
    host text, port int DEFAULT current_setting('port')::int, node_role noderole DEFAULT 'primary', node_cluster name DEFAULT 'default')
RETURNS void LANGUAGE plpgsql STRICT SECURITY DEFINER SET citus_stand_in.internal = 'on' AS $$
BEGIN
    LOCK TABLE pg_catalog.pg_dist_node IN ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM pg_catalog.pg_dist_node WHERE groupid = 0 AND noderole = 'primary') THEN
        UPDATE pg_catalog.pg_dist_node SET nodename = host, nodeport = port WHERE groupid = 0 AND noderole = 'primary';
        PERFORM citus_stand_in.refuse_unsynced();
    ELSE
        PERFORM pg_catalog.citus_add_node(host, port, 0, node_role, node_cluster);
    END IF;
END $$;

---------------------------------------------------------------------------
-- Distributed tables: only what is needed to know whose shard a key is
---------------------------------------------------------------------------

-- Creates the table that holds all shards of `tab` on one node.
CREATE OR REPLACE FUNCTION citus_stand_in.create_table_on(n pg_catalog.pg_dist_node, tab regclass, key_column text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    columns text;
    sch text;
BEGIN
    SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum) INTO columns
    FROM pg_attribute WHERE attrelid = tab AND attnum > 0 AND NOT attisdropped;
    SELECT relnamespace::regnamespace::text INTO sch FROM pg_class WHERE oid = tab;
    PERFORM citus_stand_in.run(n.nodename, n.nodeport, format('CREATE SCHEMA IF NOT EXISTS %s', sch));
    PERFORM citus_stand_in.run(n.nodename, n.nodeport, format('CREATE TABLE IF NOT EXISTS %s.%I (%s, PRIMARY KEY (%I))',
        sch, (SELECT relname FROM pg_class WHERE oid = tab), columns, key_column));
END $$;

-- Creates the tables of its shards on one node, named as Citus names them. They stay empty: what is
-- written goes to the table that holds all shards.
CREATE OR REPLACE FUNCTION citus_stand_in.create_shards_on(n pg_catalog.pg_dist_node, tab regclass)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    sch text;
    command text;
BEGIN
    SELECT relnamespace::regnamespace::text INTO sch FROM pg_class WHERE oid = tab;
    SELECT string_agg(format('CREATE TABLE IF NOT EXISTS %s.%I ()', sch, c.relname || '_' || s.shardid), '; ')
    INTO command
    FROM pg_catalog.pg_dist_placement p JOIN pg_catalog.pg_dist_shard s USING (shardid)
    JOIN pg_class c ON c.oid = s.logicalrelid
    WHERE s.logicalrelid = tab AND p.groupid = n.groupid;
    IF command IS NOT NULL THEN
        PERFORM citus_stand_in.run(n.nodename, n.nodeport, command);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION citus_stand_in.place_reference_tables(n pg_catalog.pg_dist_node) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT p.logicalrelid, s.shardid, (SELECT attname FROM pg_attribute WHERE attrelid = p.logicalrelid AND attnum = 1) col
        FROM pg_catalog.pg_dist_partition p JOIN pg_catalog.pg_dist_shard s USING (logicalrelid) WHERE p.partmethod = 'n'
    LOOP
        PERFORM citus_stand_in.create_table_on(n, t.logicalrelid, t.col);
        INSERT INTO pg_catalog.pg_dist_placement (shardid, shardstate, shardlength, groupid) VALUES (t.shardid, 1, 0, n.groupid);
        PERFORM citus_stand_in.create_shards_on(n, t.logicalrelid);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.create_distributed_table(
    table_name regclass, distribution_column text, distribution_type citus.distribution_type DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    shards int := coalesce(shard_count, current_setting('citus.shard_count', true)::int, 32);
    step bigint := 4294967296 / shards;
    col record;
    colocation int;
    groups int[];
    shard bigint;
BEGIN
    SELECT atttypid, attcollation INTO col FROM pg_attribute WHERE attrelid = table_name AND attname = distribution_column AND attnum > 0;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'column "%" of relation "%" does not exist', distribution_column, table_name USING ERRCODE = '42703';
    ELSIF distribution_type <> 'hash' THEN
        RAISE EXCEPTION 'the stand-in distributes by hash only' USING ERRCODE = '0A000';
    ELSIF EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = table_name) THEN
        RAISE EXCEPTION 'table "%" is already distributed', table_name USING ERRCODE = '42P16';
    END IF;
    SELECT array_agg(groupid ORDER BY nodename, nodeport) INTO groups FROM pg_catalog.pg_dist_node
    WHERE noderole = 'primary' AND isactive AND shouldhaveshards;
    IF groups IS NULL THEN
        RAISE EXCEPTION 'replication_factor (1) exceeds number of worker nodes (0)' USING ERRCODE = '22023',
            HINT = 'Add more worker nodes or try again with a lower replication factor.';
    END IF;
    SELECT colocationid INTO colocation FROM pg_catalog.pg_dist_colocation
    WHERE shardcount = shards AND distributioncolumntype = col.atttypid AND colocate_with = 'default' ORDER BY 1 LIMIT 1;
    IF NOT FOUND THEN
        colocation := nextval('pg_catalog.pg_dist_colocationid_seq');
        INSERT INTO pg_catalog.pg_dist_colocation VALUES (colocation, shards, 1, col.atttypid, col.attcollation);
    END IF;
    PERFORM citus_stand_in.create_table_on(n, table_name, distribution_column)
    FROM pg_catalog.pg_dist_node n WHERE noderole = 'primary' AND groupid > 0;
    INSERT INTO pg_catalog.pg_dist_partition VALUES (table_name, 'h', distribution_column, colocation, 's', false);
    FOR i IN 0..shards - 1 LOOP
        shard := nextval('pg_catalog.pg_dist_shardid_seq');
        INSERT INTO pg_catalog.pg_dist_shard VALUES (table_name, shard, 't', -2147483648 + i * step,
            CASE WHEN i = shards - 1 THEN 2147483647 ELSE -2147483649 + (i + 1) * step END);
        INSERT INTO pg_catalog.pg_dist_placement (shardid, shardstate, shardlength, groupid)
        VALUES (shard, 1, 0, groups[1 + i % cardinality(groups)]);
    END LOOP;
    PERFORM citus_stand_in.create_shards_on(n, table_name)
    FROM pg_catalog.pg_dist_node n WHERE noderole = 'primary' AND groupid > 0;
    PERFORM citus_stand_in.send_metadata(n) FROM pg_catalog.pg_dist_node n
    WHERE hasmetadata AND noderole = 'primary' AND groupid > 0;
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.create_reference_table(table_name regclass) RETURNS void
LANGUAGE plpgsql STRICT SECURITY DEFINER AS $$
DECLARE
    shard bigint := nextval('pg_catalog.pg_dist_shardid_seq');
BEGIN
    INSERT INTO pg_catalog.pg_dist_partition VALUES (table_name, 'n', NULL, 0, 't', false);
    INSERT INTO pg_catalog.pg_dist_shard VALUES (table_name, shard, 't', NULL, NULL);
    INSERT INTO pg_catalog.pg_dist_placement (shardid, shardstate, shardlength, groupid)
    SELECT shard, 1, 0, groupid FROM pg_catalog.pg_dist_node WHERE noderole = 'primary' ORDER BY groupid;
    PERFORM citus_stand_in.create_table_on(n, table_name, (SELECT attname FROM pg_attribute WHERE attrelid = table_name AND attnum = 1)),
        citus_stand_in.create_shards_on(n, table_name),
        citus_stand_in.send_metadata(n)
    FROM pg_catalog.pg_dist_node n WHERE noderole = 'primary' AND groupid > 0;
    PERFORM citus_stand_in.create_lock(shard);
END $$;

-- DROP TABLE takes the metadata along. The table on the nodes stays, and so does
-- the lock of a reference table: no other shard will have its number.
CREATE OR REPLACE FUNCTION citus_stand_in.forget_dropped_tables() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    gone oid[] := ARRAY(SELECT objid FROM pg_event_trigger_dropped_objects() WHERE object_type = 'table');
BEGIN
    DELETE FROM pg_catalog.pg_dist_placement WHERE shardid IN (
        SELECT shardid FROM pg_catalog.pg_dist_shard WHERE logicalrelid = ANY (gone));
    DELETE FROM pg_catalog.pg_dist_shard WHERE logicalrelid = ANY (gone);
    DELETE FROM pg_catalog.pg_dist_partition WHERE logicalrelid = ANY (gone);
END $$;

DROP EVENT TRIGGER IF EXISTS citus_stand_in_drop;
CREATE EVENT TRIGGER citus_stand_in_drop ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED')
    EXECUTE FUNCTION citus_stand_in.forget_dropped_tables();

CREATE OR REPLACE FUNCTION citus_stand_in.shard_of(tab regclass, hashed int) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    method "char";
BEGIN
    SELECT partmethod INTO method FROM pg_catalog.pg_dist_partition WHERE logicalrelid = tab;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'relation is not distributed' USING ERRCODE = '42P16';
    ELSIF method <> 'n' AND hashed IS NULL THEN
        RAISE EXCEPTION 'distribution value cannot be NULL for tables other than reference tables.' USING ERRCODE = '22004';
    END IF;
    RETURN (SELECT shardid FROM pg_catalog.pg_dist_shard WHERE logicalrelid = tab
        AND (method = 'n' OR hashed BETWEEN shardminvalue::int AND shardmaxvalue::int));
END $$;

-- PL/pgSQL has no "any": one function for whole numbers, one for text (and for
-- literals without a type).
CREATE OR REPLACE FUNCTION pg_catalog.get_shard_id_for_distribution_column(table_name regclass, distribution_value bigint DEFAULT NULL)
RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT citus_stand_in.shard_of($1, hashint8($2)) $$;

CREATE OR REPLACE FUNCTION pg_catalog.get_shard_id_for_distribution_column(table_name regclass, distribution_value text)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT citus_stand_in.shard_of($1, CASE WHEN EXISTS (
        SELECT FROM pg_catalog.pg_dist_partition p JOIN pg_attribute a ON attrelid = logicalrelid AND attname = partkey
        WHERE logicalrelid = $1 AND atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype))
        THEN hashint8($2::bigint) ELSE hashtext($2) END)
$$;

---------------------------------------------------------------------------
-- A client of the coordinator
---------------------------------------------------------------------------

-- Where a key lives: the two columns, and (for a reference table) every place.
CREATE OR REPLACE FUNCTION citus_stand_in.places(tab regclass, shard bigint)
RETURNS SETOF pg_catalog.pg_dist_node LANGUAGE sql AS $$
    SELECT n.* FROM pg_catalog.pg_dist_placement p JOIN pg_catalog.pg_dist_node n USING (groupid)
    WHERE p.shardid = shard AND n.noderole = 'primary' AND n.groupid > 0 ORDER BY n.groupid
$$;

CREATE OR REPLACE FUNCTION citus_stand_in.columns(tab regclass, OUT key_column text, OUT value_column text)
LANGUAGE sql STABLE AS $$
    SELECT k, (SELECT attname FROM pg_attribute WHERE attrelid = tab AND attnum > 0 AND NOT attisdropped AND attname <> k ORDER BY attnum LIMIT 1)
    FROM (SELECT coalesce(partkey, (SELECT attname FROM pg_attribute WHERE attrelid = tab AND attnum = 1)) k
          FROM pg_catalog.pg_dist_partition WHERE logicalrelid = tab) p
$$;

-- A writer of a reference table goes to all nodes and wants them to stay.
CREATE OR REPLACE FUNCTION citus_stand_in.share_nodes() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    LOCK TABLE pg_catalog.pg_dist_node IN ROW SHARE MODE;
END $$;

-- INSERT … ON CONFLICT DO UPDATE of one row, as through Citus.
CREATE OR REPLACE FUNCTION pg_catalog.citus_stand_in_write(table_name regclass, key bigint, payload text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    shard bigint := pg_catalog.get_shard_id_for_distribution_column(table_name, key);
    c record;
    k record;
    n pg_catalog.pg_dist_node;
BEGIN
    SELECT * INTO k FROM citus_stand_in.metadata_lock(shard);
    EXECUTE citus_stand_in.lock_command(k.key1, k.key2, 5);
    IF k.key1 = 4 << 24 THEN
        PERFORM citus_stand_in.share_nodes();
    END IF;
    SELECT * INTO c FROM citus_stand_in.columns(table_name);
    -- Read only now: whoever held the lock may have moved the node.
    FOR n IN SELECT * FROM citus_stand_in.places(table_name, shard) LOOP
        PERFORM citus_stand_in.run(n.nodename, n.nodeport, format(
            'INSERT INTO %1$s (%2$I, %3$I) VALUES (%4$L, %5$L) ON CONFLICT (%2$I) DO UPDATE SET %3$I = excluded.%3$I',
            table_name, c.key_column, c.value_column, key, payload));
    END LOOP;
END $$;

-- SELECT of one row by its key, as through Citus: takes no lock.
CREATE OR REPLACE FUNCTION pg_catalog.citus_stand_in_read(table_name regclass, key bigint) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    c record;
    n pg_catalog.pg_dist_node;
BEGIN
    SELECT * INTO c FROM citus_stand_in.columns(table_name);
    SELECT * INTO n FROM citus_stand_in.places(table_name,
        pg_catalog.get_shard_id_for_distribution_column(table_name, key)) LIMIT 1;
    RETURN citus_stand_in.run(n.nodename, n.nodeport, format(
        'SELECT %I FROM %s WHERE %I = %L', c.value_column, table_name, c.key_column, key));
END $$;

---------------------------------------------------------------------------
-- The rest
---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION pg_catalog.citus_version() RETURNS text
LANGUAGE sql STABLE STRICT AS $$ SELECT 'Citus stand-in (behaves like 13.2)'::text $$;

CREATE OR REPLACE FUNCTION pg_catalog.citus_is_coordinator() RETURNS bool
LANGUAGE sql STRICT AS $$
    SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_local_group WHERE groupid = 0) AND EXISTS (SELECT FROM pg_catalog.pg_dist_node)
$$;

CREATE OR REPLACE FUNCTION pg_catalog.citus_coordinator_nodeid() RETURNS int
LANGUAGE sql STABLE STRICT AS $$
    SELECT coalesce((SELECT nodeid FROM pg_catalog.pg_dist_node WHERE groupid = 0 AND noderole = 'primary'), 0)
$$;

-- Rolls back what is prepared in the name of this node's sessions. (There is no
-- two-phase commit here: nobody but a test has prepared it.)
CREATE OR REPLACE FUNCTION pg_catalog.recover_prepared_transactions() RETURNS int
LANGUAGE plpgsql STRICT SECURITY DEFINER AS $$
DECLARE
    n pg_catalog.pg_dist_node;
    gid text;
    recovered int := 0;
BEGIN
    FOR n IN SELECT * FROM pg_catalog.pg_dist_node WHERE noderole = 'primary' AND groupid > 0 ORDER BY groupid LOOP
        BEGIN
            FOR gid IN SELECT unnest(citus_stand_in.run(n.nodename, n.nodeport, format(
                'SELECT array_agg(gid) FROM pg_prepared_xacts WHERE database = current_database() AND starts_with(gid, %L)',
                format('citus_%s_', (SELECT groupid FROM pg_catalog.pg_dist_local_group))))::text[])
            LOOP
                PERFORM citus_stand_in.run(n.nodename, n.nodeport, format('ROLLBACK PREPARED %L', gid));
                recovered := recovered + 1;
            END LOOP;
        EXCEPTION WHEN connection_failure THEN
            RAISE WARNING 'transaction recovery cannot connect to %:%', n.nodename, n.nodeport;
        END;
    END LOOP;
    RETURN recovered;
END $$;

REVOKE ALL ON FUNCTION
    pg_catalog.citus_update_node(int, text, int, bool, int), pg_catalog.master_update_node(int, text, int, bool, int),
    pg_catalog.citus_pause_node_within_txn(int, bool, int), pg_catalog.recover_prepared_transactions(),
    pg_catalog.citus_add_node(text, int, int, noderole, name), pg_catalog.master_add_node(text, int, int, noderole, name),
    pg_catalog.citus_add_secondary_node(text, int, text, int, name),
    pg_catalog.citus_remove_node(text, int), pg_catalog.master_remove_node(text, int),
    pg_catalog.citus_set_node_property(text, int, text, bool),
    pg_catalog.citus_set_coordinator_host(text, int, noderole, name),
    pg_catalog.citus_stand_in_sync_metadata()
FROM PUBLIC;
REVOKE ALL ON FUNCTION citus_stand_in.run(text, int, text) FROM PUBLIC;

RESET allow_system_table_mods;
RESET client_min_messages;
