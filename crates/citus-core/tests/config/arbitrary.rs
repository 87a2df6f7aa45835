//! Arbitrary text: it is accepted or refused, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use citus_core::config::{Workers, convert};
use dcs_watch::key::ScopeId;
use proptest::prelude::*;

use super::{bare, load, load_text, read_sample, scopes_by_number, yaml_files};

/// Keys that the readers look for.
const KNOWN: &[&str] = &[
    "etcd",
    "etcd3",
    "endpoints",
    "hosts",
    "host",
    "url",
    "port",
    "protocol",
    "username",
    "password",
    "password_file",
    "passfile",
    "namespace",
    "coordinator",
    "workers",
    "discover",
    "addresses",
    "advertised",
    "registered",
    "address",
    "register",
    "formations",
    "policy",
    "listen",
    "token",
    "token_file",
    "tls",
    "mode",
    "election",
    "name",
    "ttl",
    "scope",
    "databases",
    "database",
    "user",
    "group",
    "groupid",
    "nodes",
    "citus",
    "postgresql",
    "restapi",
    "authentication",
    "superuser",
    "pgpass",
    "loop_wait",
    "hold_timeout",
    "lock_cooldown",
    "read_move_max_lag",
    "write",
    "use_secondary_nodes",
    "<<",
];

/// A key that the readers know, or one that they do not.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(KNOWN).prop_map(str::to_owned),
        ".{0,6}"
    ]
}

/// A value as flow YAML, nested to some depth.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("~".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        any::<i128>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        ".{0,12}".prop_map(|text| format!("{text:?}")),
        proptest::sample::select(
            &[
                "wk1",
                "citus/1",
                "http://h:1",
                "h:1",
                "30s",
                "0s",
                "auto",
                "off",
                "2",
                "a,b:3,"
            ][..]
        )
        .prop_map(str::to_owned),
        r"\(\?<group>.{0,4}\)".prop_map(|text| format!("{text:?}")),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let map = proptest::collection::vec((key(), inner.clone()), 0..6).prop_map(|entries| {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{key:?}: {value}"))
                .collect();
            format!("{{{}}}", entries.join(", "))
        });
        let list = proptest::collection::vec(inner, 0..4)
            .prop_map(|items| format!("[{}]", items.join(", ")));
        prop_oneof![2 => map, 1 => list]
    })
}

/// Accepted or refused, but never a panic, and a refusal has something to say. What is accepted
/// converts and reads back.
fn survives(text: &str) {
    // Passwords that stood in the text are not written again, so they come from here both times.
    let env = [("PGPASSWORD", "x"), ("ETCD_PASSWORD", "x")];
    match load_text(text, &env, &[]) {
        Ok(mut config) => {
            let scopes = scopes_by_number(&config);
            let native = convert(&config, &scopes).unwrap();
            let again = load_text(&native, &env, &[])
                .unwrap_or_else(|error| panic!("converted:\n{native}\n{error}"));
            if let Workers::AtNodes(_) = config.formations[0].workers {
                config.formations[0].workers = Workers::Listed(scopes);
            }
            assert_eq!(bare(again), bare(config), "converted:\n{native}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_reader_panic(text in "(?s).{0,200}") {
        survives(&text);
    }

    #[test]
    fn no_yaml_makes_the_reader_panic(entries in proptest::collection::vec((key(), value()), 0..8)) {
        let lines: Vec<String> =
            entries.iter().map(|(key, value)| format!("{key:?}: {value}")).collect();
        survives(&lines.join("\n"));
    }

    #[test]
    fn no_damage_to_a_good_file_makes_the_reader_panic(
        which in 0_usize..1000,
        from in 0_usize..2000,
        length in 0_usize..20,
        by in "[a-z0-9:{}\\[\\]&*<!'\"# \n-]{0,6}",
    ) {
        let files = yaml_files("good");
        let text = read_sample(Path::new(&files[which % files.len()])).unwrap();
        let mut chars: Vec<char> = text.chars().collect();
        let from = from % chars.len();
        let to = (from + length).min(chars.len());
        chars.splice(from..to, by.chars());
        survives(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn any_name_survives_conversion(
        user in "\\PC{1,12}",
        database in "[^\\p{C}]{1,12}",
        scope in "[a-zA-Z0-9_.: '\"#-]{1,12}",
    ) {
        prop_assume!(!user.trim().is_empty() && !database.trim().is_empty() && !scope.trim().is_empty());
        prop_assume!(scope != "wk1" && scope != "wk2");
        let mut config = load("good/minimal.yml").unwrap();
        let formation = &mut config.formations[0];
        formation.coordinator.user = user;
        formation.coordinator.databases = vec![database];
        formation.coordinator.scope = ScopeId::new(&scope);
        formation.name = scope;
        let native = convert(&config, &BTreeMap::new()).unwrap();
        let again = load_text(&native, &[], &[]).unwrap_or_else(|e| panic!("{native}\n{e}"));
        prop_assert_eq!(bare(again), bare(config));
    }
}
