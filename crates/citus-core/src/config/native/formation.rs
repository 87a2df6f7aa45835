//! One formation of the native file: coordinator, workers and policy.

use super::super::environment::Environment;
use super::super::formation::{Coordinator, Formation};
use super::super::reader::{At, Fields};
use super::super::{login, values};
use super::{addresses, policy, workers};
use crate::policy::Policy;

/// What an entry of `formations` may have.
pub(super) const KEYS: &[&str] = &[
    "name",
    "coordinator",
    "workers",
    "discover",
    "addresses",
    "register",
    "policy",
];

/// Reads a formation from an entry of `formations`, or from the top level of a file that has none.
pub(super) fn read(
    fields: &Fields<'_>,
    base: Option<&Policy>,
    environment: &Environment<'_>,
) -> Option<Formation> {
    let fix = "for example: coordinator: {scope: cn, databases: [postgres], user: postgres}";
    let coordinator = fields
        .require(
            "coordinator",
            "the coordinator's scope, databases and user",
            fix,
        )
        .and_then(|at| coordinator(&at, environment));
    let workers = workers::read(fields, coordinator.as_ref());
    let addresses = addresses::read(fields);
    let name = match fields.get("name") {
        Some(at) => at.text("a name for the formation").map(str::to_owned),
        None => coordinator.as_ref().map(|c| c.scope.path().into_owned()),
    };
    let register = match fields.get("register") {
        Some(at) => at.flag(),
        None => Some(false),
    };
    // The policy at the top level of the file is `base` already.
    let own = if fields.at.is_root() {
        None
    } else {
        fields.get("policy")
    };
    let policy = match (own, base) {
        (Some(at), base) => policy::read(&at, &base.cloned().unwrap_or_default()),
        (None, base) => base.cloned(),
    };
    let (workers, fixed) = workers?;
    Some(Formation {
        name: name?,
        coordinator: coordinator?,
        workers,
        fixed,
        addresses: addresses?,
        register: register?,
        policy: policy?,
    })
}

fn coordinator(at: &At<'_>, environment: &Environment<'_>) -> Option<Coordinator> {
    let known = [
        "scope",
        "databases",
        "user",
        "password",
        "password_file",
        "passfile",
    ];
    let fields = at.fields(&known, "a mapping with `scope`, `databases` and `user`")?;
    let scope = fields
        .require(
            "scope",
            "the coordinator's Patroni scope",
            "for example: scope: cn",
        )
        .and_then(|at| {
            let scope = values::scope(&at)?;
            if scope.group.is_some_and(|group| group != 0) {
                let fix = "in Patroni's own Citus layout the coordinator is group 0";
                at.bad("a coordinator's scope, such as cn or citus/0", fix);
                return None;
            }
            Some(scope)
        });
    let databases = fields
        .require(
            "databases",
            "a list of the Citus databases",
            "for example: databases: [postgres]",
        )
        .and_then(|at| values::databases(&at));
    let user = match fields.get("user") {
        Some(at) => at.text("the role to log in as").map(str::to_owned),
        None => Some("postgres".to_owned()),
    };
    let named = login::named(&fields, environment, login::PGPASSWORD);
    let password = login::for_postgres(named, &fields, environment);
    Some(Coordinator {
        scope: scope?,
        databases: databases?,
        user: user?,
        password,
    })
}
