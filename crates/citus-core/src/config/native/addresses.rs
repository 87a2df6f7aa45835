//! `addresses`: what the coordinator calls members that Patroni advertises under other addresses.

use super::super::addresses::{AddressRule, AddressRuleError, AddressRules};
use super::super::reader::{At, Fields};

const EXAMPLE: &str =
    r"for example: addresses: [{advertised: '^10\.1\.(.*):5432$', registered: '10.2.$1:5432'}]";

/// Reads `addresses` of a formation; none where it has none. `None` when a problem was noted.
pub(super) fn read(fields: &Fields<'_>) -> Option<AddressRules> {
    let Some(at) = fields.get("addresses") else {
        return Some(AddressRules::default());
    };
    let items = at.list("a list of `advertised` and `registered`", EXAMPLE)?;
    let rules: Vec<Option<AddressRule>> = items.iter().map(rule).collect();
    Some(AddressRules::new(rules.into_iter().collect::<Option<_>>()?))
}

fn rule(item: &At<'_>) -> Option<AddressRule> {
    let expected = "a mapping with `advertised` and `registered`";
    let fields = item.fields(&["advertised", "registered"], expected)?;
    let pattern = "a regular expression over host:port as Patroni advertises it";
    let advertised = fields
        .require("advertised", pattern, EXAMPLE)
        .and_then(|at| at.text(pattern).map(|text| (at, text)));
    let address = "host:port as the coordinator calls it, with $1 for a group of `advertised`";
    let registered = fields
        .require("registered", address, EXAMPLE)
        .and_then(|at| at.text(address).map(|text| (at, text)));
    let ((advertised_at, advertised), (registered_at, registered)) = (advertised?, registered?);
    match AddressRule::new(advertised, registered) {
        Ok(rule) => return Some(rule),
        Err(error @ AddressRuleError::Syntax(_)) => {
            advertised_at.bad(pattern, &format!("{error}; {EXAMPLE}"));
        }
        Err(error @ AddressRuleError::NoGroup(_)) => {
            let fix = format!("{error}; write ${{1}} where a letter or digit follows");
            registered_at.bad(address, &fix);
        }
        Err(error @ AddressRuleError::NoAddress(_)) => {
            registered_at.bad(address, &format!("{error}; {EXAMPLE}"));
        }
    }
    None
}
