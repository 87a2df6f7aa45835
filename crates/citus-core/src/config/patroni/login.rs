//! How Patroni's file says to log in to PostgreSQL.

use super::super::environment::Environment;
use super::super::formation::Password;
use super::super::login::{self, Named};
use super::super::reader::Fields;
use super::password;

/// The superuser of `postgresql.authentication`, and where its password is.
pub(super) fn read(
    fields: &Fields<'_>,
    environment: &Environment<'_>,
) -> Option<(String, Password)> {
    let postgresql = match fields.given("postgresql") {
        Some(at) => Some(at.open_fields("a mapping")?),
        None => None,
    };
    // Patroni's own defaults: the role `postgres`, and no password.
    let superuser = postgresql
        .as_ref()
        .and_then(|f| f.given("authentication"))
        .and_then(|at| at.open_fields("a mapping"))
        .and_then(|f| f.given("superuser"))
        .and_then(|at| at.open_fields("a mapping"));
    let Some(superuser) = superuser else {
        let named = passfile(postgresql.as_ref(), environment);
        let password =
            login::for_postgres(named, postgresql.as_ref().unwrap_or(fields), environment);
        return Some(("postgres".to_owned(), password));
    };
    let user = match superuser.given("username") {
        Some(at) => at.text("the name of the superuser")?.to_owned(),
        None => "postgres".to_owned(),
    };
    if let Some(at) = superuser.given("sslmode") {
        match at.text("one of libpq's sslmode words")? {
            "disable" | "allow" | "prefer" => {}
            _ => at.bad(
                "disable, allow or prefer, in this version",
                "this version speaks no TLS and will not fall back to plain text behind your back",
            ),
        }
    }
    let named = match superuser.given("password") {
        Some(at) => {
            let secret = password::read(&at, environment)?;
            Named::Secret(at, secret)
        }
        None => passfile(postgresql.as_ref(), environment),
    };
    Some((user, login::for_postgres(named, &superuser, environment)))
}

/// `postgresql.pgpass` is a file that Patroni writes when it starts a standby: it may not exist.
fn passfile<'a>(postgresql: Option<&Fields<'a>>, environment: &Environment<'_>) -> Named<'a> {
    let Some(at) = postgresql.and_then(|fields| fields.given("pgpass")) else {
        return Named::Nothing;
    };
    match at
        .text("the path of a pgpass file")
        .map(|text| environment.beside(text))
    {
        Some(file) if (environment.read)(&file).is_ok() => Named::Passfile(at, file),
        _ => Named::Nothing,
    }
}
