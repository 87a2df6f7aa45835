//! The view of a scope as the coordinator knows it: each member at the address that its row has.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcs_watch::text::excerpt;
use dcs_watch::{HostPort, Problem, ScopeView};

use crate::config::AddressRules;

/// How much of a name is shown.
const NAME_BYTES: usize = 200;

/// A view whose members have registered addresses, and the address at which each is advertised.
#[derive(Clone, Debug)]
pub struct RegisteredView {
    /// The view.
    pub view: Arc<ScopeView>,
    /// By registered address: where Patroni says that the member listens, where that is another one.
    pub advertised: BTreeMap<HostPort, HostPort>,
}

/// Puts registered addresses in the place of advertised ones. A member whose registered address is
/// none, or is another member's as well, has no address, and a problem of the view says why.
pub fn registered(view: &Arc<ScopeView>, rules: &AddressRules) -> RegisteredView {
    let mut advertised = BTreeMap::new();
    if rules.is_empty() {
        return RegisteredView {
            view: view.clone(),
            advertised,
        };
    }
    let mut mapped = ScopeView::clone(view);
    let mut places: BTreeMap<HostPort, Vec<(String, HostPort)>> = BTreeMap::new();
    for (name, member) in &mut mapped.members {
        let Some(own) = &member.value.address else {
            continue;
        };
        match rules.registered(own) {
            Ok(registered) => {
                let place = places.entry(registered).or_default();
                place.push((name.clone(), own.clone()));
            }
            Err(error) => {
                let what = format!("{own} has no registered address: {error}; correct `addresses`");
                mapped
                    .problems
                    .push(problem(name, what, member.mod_revision));
                member.value.address = None;
            }
        }
    }
    for (place, members) in places {
        put(&mut mapped, &mut advertised, &place, &members);
    }
    mapped
        .problems
        .sort_by(|one, other| one.key.cmp(&other.key));
    RegisteredView {
        view: Arc::new(mapped),
        advertised,
    }
}

/// Puts members at the address where they are registered; several are all the same member only while
/// they advertise one address.
fn put(
    mapped: &mut ScopeView,
    advertised: &mut BTreeMap<HostPort, HostPort>,
    place: &HostPort,
    members: &[(String, HostPort)],
) {
    // Two members may advertise one address for a moment, when a host was given another name.
    let collides = members.iter().any(|(_, own)| *own != members[0].1);
    let names: Vec<_> = members
        .iter()
        .map(|(name, own)| format!("{} ({own})", excerpt(name, NAME_BYTES)))
        .collect();
    for (name, own) in members {
        let Some(member) = mapped.members.get_mut(name) else {
            continue;
        };
        if collides {
            let what = format!(
                "{} would all be registered at {place}; correct `addresses`",
                names.join(", ")
            );
            let revision = member.mod_revision;
            member.value.address = None;
            mapped.problems.push(problem(name, what, revision));
            continue;
        }
        if place != own {
            advertised.insert(place.clone(), own.clone());
        }
        member.value.address = Some(place.clone());
    }
}

fn problem(member: &str, what: String, mod_revision: i64) -> Problem {
    Problem {
        key: format!("members/{}", excerpt(member, NAME_BYTES)),
        what,
        mod_revision,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AddressRule;
    use crate::plan::tests::builders::Scenario;

    fn mapped(pattern: &str, to: &str) -> RegisteredView {
        let rule = AddressRule::new(pattern, to).expect("a rule");
        let view = Arc::new(Scenario::new().view);
        registered(&view, &AddressRules::new(vec![rule]))
    }

    fn address(view: &ScopeView, member: &str) -> Option<String> {
        let address = view.members[member].value.address.as_ref();
        address.map(ToString::to_string)
    }

    #[test]
    fn members_are_where_the_coordinator_finds_them() {
        let RegisteredView { view, advertised } = mapped("pg([12]):5432", "10.2.0.$1:6432");
        assert_eq!(address(&view, "pg1").as_deref(), Some("10.2.0.1:6432"));
        assert_eq!(address(&view, "pg3").as_deref(), Some("pg3:5432"));
        let (one, two) = (
            "10.2.0.2:6432".parse().expect("it"),
            "pg2:5432".parse().expect("it"),
        );
        assert_eq!(advertised.get(&one), Some(&two));
        assert_eq!(advertised.len(), 2);
        assert!(view.problems.is_empty());
    }

    #[test]
    fn members_that_share_a_registered_address_have_none_and_are_named() {
        let RegisteredView { view, advertised } = mapped("pg[12]:5432", "vip:5432");
        assert_eq!(address(&view, "pg1"), None);
        assert_eq!(address(&view, "pg2"), None);
        assert_eq!(address(&view, "pg3").as_deref(), Some("pg3:5432"));
        assert!(advertised.is_empty());
        assert_eq!(view.problems.len(), 2);
        let what = &view.problems[0].what;
        assert!(what.contains("pg1 (pg1:5432), pg2 (pg2:5432)"), "{what}");
        assert!(
            what.contains("vip:5432") && what.contains("`addresses`"),
            "{what}"
        );
    }

    #[test]
    fn a_member_that_a_rule_gives_no_address_has_none_and_is_named() {
        let RegisteredView { view, .. } = mapped("(x?)pg1:5432", "$1:5432");
        assert_eq!(address(&view, "pg1"), None);
        assert_eq!(view.problems[0].key, "members/pg1");
    }
}
