//! Roles and servers that mean harm: nothing of theirs runs with our rights, and nothing that they
//! send costs more than a warning.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use lab::Lab;
use lab::postgres::Client;
use lab::wait_for;

use crate::daemon::{Daemon, SOON};
use crate::fixture::{coordinator, in_sync, laboratory, scope, switch};

/// What a function of the hostile role writes to the server's log when a session of ours calls it.
const CANARY: &str = "CANARY: called by a session of citus-sync";

/// What follows is done on this server alone: Citus repeats nothing elsewhere.
const HERE_ALONE: &str = "SET citus.enable_ddl_propagation = off; \
                          SET citus.enable_create_role_propagation = off;";

/// Operators that an ordinary role may make in a schema where it may create, and a function for
/// each that does what the real one does. The types of the first lot are not those of any operator of
/// PostgreSQL, which is found by a cast: an exact match in any schema of `search_path` comes first.
/// The others come first only where `search_path` names their schema before `pg_catalog`, which a
/// database's owner can set.
const OPERATORS: [(&str, &str, &str, &str, &str); 9] = [
    (
        "oid",
        "=",
        "regnamespace",
        "bool",
        "pg_catalog.oideq($1, $2::oid)",
    ),
    (
        "oid",
        "=",
        "regclass",
        "bool",
        "pg_catalog.oideq($1, $2::oid)",
    ),
    (
        "numeric",
        "*",
        "int4",
        "numeric",
        "pg_catalog.numeric_mul($1, $2::numeric)",
    ),
    (
        "name",
        "~~",
        "text",
        "bool",
        "pg_catalog.textlike($1::text, $2)",
    ),
    ("name", "=", "name", "bool", "pg_catalog.nameeq($1, $2)"),
    ("text", "=", "text", "bool", "pg_catalog.texteq($1, $2)"),
    ("int4", "=", "int4", "bool", "pg_catalog.int4eq($1, $2)"),
    ("text", "||", "text", "text", "pg_catalog.textcat($1, $2)"),
    (
        "pg_lsn",
        ">=",
        "pg_lsn",
        "bool",
        "pg_catalog.pg_lsn_ge($1, $2)",
    ),
];

/// A role that owns no more than operators in the schema `public` of the lab's databases, on every
/// server. Gone when this is dropped.
struct Mallory<'a>(&'a Lab);

impl<'a> Mallory<'a> {
    fn moves_in(lab: &'a Lab) -> Self {
        let mallory = Self(lab);
        for scope in lab.scopes() {
            for database in lab.databases() {
                let mut admin = scope.connect(database).expect("a server");
                admin
                    .batch_execute(&makes_operators())
                    .expect("an ordinary role may");
            }
            // What the owner of a database can do to every session that connects to it.
            let mut admin = scope.connect("second").expect("a server");
            admin
                .batch_execute(&format!(
                    "{HERE_ALONE} ALTER DATABASE second SET search_path = public, pg_catalog"
                ))
                .expect("a search path");
        }
        mallory
    }

    fn is_superuser(client: &mut Client) -> bool {
        let query = "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'";
        client.query_one(query, &[]).expect("the role").get(0)
    }
}

impl Drop for Mallory<'_> {
    fn drop(&mut self) {
        for scope in self.0.scopes() {
            let databases = self.0.databases().iter();
            for database in databases.chain([&"postgres".to_owned()]) {
                let Ok(mut admin) = scope.connect(database) else {
                    continue;
                };
                let _ = admin.batch_execute(&format!(
                    "{HERE_ALONE} SET search_path = pg_catalog; \
                     ALTER DATABASE second RESET search_path; DROP OWNED BY mallory CASCADE"
                ));
                let _ = admin.batch_execute(&format!("{HERE_ALONE} DROP ROLE mallory"));
            }
        }
    }
}

fn makes_operators() -> String {
    let mut sql = format!(
        "{HERE_ALONE} DO $$ BEGIN CREATE ROLE mallory NOSUPERUSER; \
         EXCEPTION WHEN duplicate_object THEN NULL; END $$; \
         GRANT CREATE, USAGE ON SCHEMA public TO mallory; SET ROLE mallory; "
    );
    for (number, (left, operator, right, result, truth)) in OPERATORS.iter().enumerate() {
        let _ = write!(
            sql,
            "CREATE FUNCTION public.trap_{number}({left}, {right}) RETURNS {result} \
             LANGUAGE plpgsql SET search_path = pg_catalog AS $trap$ BEGIN \
             IF current_setting('application_name') LIKE 'citus-sync%' THEN \
             RAISE LOG '{CANARY}'; \
             BEGIN ALTER ROLE mallory SUPERUSER; EXCEPTION WHEN OTHERS THEN NULL; END; \
             END IF; RETURN {truth}; END $trap$; \
             CREATE OPERATOR public.{operator} (LEFTARG = {left}, RIGHTARG = {right}, \
             FUNCTION = public.trap_{number}); "
        );
    }
    sql + "RESET ROLE"
}

/// The logs of all servers, standbys included.
fn logs(lab: &Lab) -> Vec<PathBuf> {
    let members = lab.scopes().iter().flat_map(lab::Scope::members);
    members.map(lab::Member::log).collect()
}

/// The trap works: a session that looks like ours and sets no `search_path` is caught by it. This is
/// what keeps the test from passing because the trap catches nothing.
fn the_trap_catches(lab: &Lab) {
    let mut bait = scope(lab, "wk1").connect("second").expect("a session");
    let caught = bait.batch_execute(
        "SET application_name = 'citus-sync bait'; BEGIN; \
         SELECT 'a'::text = 'a'::text, 1::numeric * 2::int4; ROLLBACK",
    );
    caught.expect("a harmless statement");
    let log = scope(lab, "wk1").leader().expect("a leader").log();
    let caught = wait_for("the trap to catch a bait", SOON, || {
        Ok(fs::read_to_string(&log)?.contains(CANARY))
    });
    caught.expect("operators of an ordinary role are called");
}

#[test]
fn no_operator_of_an_ordinary_role_runs_with_our_rights() {
    let lab = laboratory();
    let mallory = Mallory::moves_in(&lab);
    the_trap_catches(&lab);
    let before: Vec<usize> = logs(&lab)
        .iter()
        .map(|log| caught_in(log.as_path()))
        .collect();

    // Commands that look once, and the daemon through a switchover: its probes ask workers and
    // standbys, its holds and moves change the rows of coordinator and workers.
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let looked = daemon.configured(&["check"]);
    assert!(looked.1.contains("pg_dist_node"), "{}", looked.1);
    let planned = daemon.configured(&["plan"]);
    assert!(planned.1.contains("wk1"), "{}", planned.1);
    switch(&lab, "wk1");
    in_sync(&lab, &daemon);

    for scope in lab.scopes() {
        let mut admin = scope.connect("postgres").expect("a server");
        assert!(
            !Mallory::is_superuser(&mut admin),
            "an ordinary role became superuser at {}\n{}",
            scope.name(),
            daemon.log()
        );
    }
    let after: Vec<usize> = logs(&lab)
        .iter()
        .map(|log| caught_in(log.as_path()))
        .collect();
    assert_eq!(before, after, "the traps that our sessions fell into");
    drop(mallory);
    let mut admin = coordinator(&lab, "postgres");
    let left = "SELECT count(*) FROM pg_roles WHERE rolname = 'mallory'";
    let left: i64 = admin.query_one(left, &[]).expect("roles").get(0);
    assert_eq!(left, 0, "the lab is left as it was");
}

fn caught_in(log: &Path) -> usize {
    let text = fs::read(log).expect("a log");
    String::from_utf8_lossy(&text).matches(CANARY).count()
}
