//! Properties of single values and keys.

use dcs_watch::event::{Event, Record};
use dcs_watch::store::{NewProblem, Store};
use dcs_watch::text::is_control;
use dcs_watch::{Lsn, Namespace, ScopeId};
use proptest::prelude::*;

use crate::etcd_model::KEYS;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Any position is read, with any other fields beside it, and changes no view otherwise.
    #[test]
    fn a_position_is_read_and_changes_no_view_otherwise(
        optimes in prop::collection::vec(any::<u64>(), 1..20),
        slots in prop::collection::btree_map("[a-z\"\\\\{}]{0,8}", any::<u64>(), 0..4),
        old: bool,
    ) {
        let mut store = Store::new(Namespace::default());
        let key = if old { "optime/leader" } else { "status" };
        for (version, optime) in (1..).zip(optimes) {
            let value = if old {
                optime.to_string()
            } else {
                serde_json::json!({"slots": slots, "optime": optime, "x": [slots]}).to_string()
            };
            let applied = store.apply(Event::Put(Record {
                key: format!("/service/a/{key}").into_bytes(),
                value: value.into_bytes(),
                mod_revision: version,
                create_revision: 1,
                version,
                lease: 0,
            }));
            prop_assert!(applied.changed.is_empty() && applied.problems.is_empty() && !applied.gap);
            let expected = Some(Lsn(optime)).filter(|lsn| lsn.0 > 0);
            prop_assert_eq!(store.view(&ScopeId::new("a")).last_position, expected);
        }
    }

    #[test]
    fn a_log_position_survives_being_written_and_read(bytes: u64, other: u64) {
        let lsn = Lsn(bytes);
        prop_assert_eq!(lsn.to_string().parse(), Ok(lsn));
        prop_assert_eq!(lsn.to_string().to_lowercase().parse(), Ok(lsn));
        prop_assert_eq!(format!("{:08X}/{:08X}", bytes >> 32, bytes & 0xFFFF_FFFF).parse(), Ok(lsn));
        prop_assert_eq!(lsn < Lsn(other), bytes < other);
    }

    #[test]
    fn no_text_makes_a_log_position_panic(text in "[0-9A-Fa-fx/é+ -]{0,24}") {
        if let Ok(lsn) = text.parse::<Lsn>() {
            let digits = |text: &str| text.split('/').map(|half| u64::from_str_radix(half, 16).unwrap()).collect::<Vec<_>>();
            prop_assert_eq!(digits(&text), digits(&lsn.to_string()));
        }
    }

    /// Any bytes as key and value are folded without a panic, and problems are safe to print.
    #[test]
    fn any_value_under_any_key_is_folded_and_its_problem_is_safe_to_print(
        key in prop::collection::vec(any::<u8>(), 0..40),
        value in prop::collection::vec(any::<u8>(), 0..80),
        text in "[{}\\[\\]\":,a-z0-9/@%.\u{0}-\u{1f}\u{80}-\u{9f}\u{2028}-\u{202e}]{0,60}",
    ) {
        let mut store = Store::new(Namespace::default());
        let prefixes = ["", "/service/", "/service/a/", "/service/a/members/"];
        let mut keys: Vec<_> = prefixes.map(|prefix| [prefix.as_bytes(), &key].concat()).to_vec();
        keys.extend(KEYS.map(|key| format!("/service/{key}").into_bytes()));
        keys.extend(prefixes.map(|prefix| format!("{prefix}{text}").into_bytes()));
        for (revision, key) in (1..).zip(keys) {
            for (offset, value) in [(0, value.as_slice()), (1000, text.as_bytes())] {
                let record = Record {
                    key: key.clone(),
                    value: value.to_vec(),
                    mod_revision: revision + offset,
                    version: 1,
                    ..Record::default()
                };
                let applied = store.apply(Event::Put(record.clone()));
                for NewProblem { scope, problem } in applied.problems {
                    let scope = scope.map_or_else(String::new, |scope| scope.to_string());
                    let line = format!("{scope} {} {}", problem.key, problem.what);
                    prop_assert!(!line.contains(is_control), "{line:?}");
                    prop_assert!(line.len() < 1000, "{} bytes", line.len());
                }
                if offset == 0 {
                    let mod_revision = record.mod_revision + 100;
                    store.apply(Event::Delete(Record { mod_revision, version: 0, ..record }));
                }
            }
        }
    }
}
