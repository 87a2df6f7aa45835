//! What to do about a server that could not be asked, and about a name that is not there.

use dcs_watch::HostPort;
use strsim::levenshtein;

use crate::session::SqlError;
use citus_core::config::{Coordinator, Origin, Password};

/// The error, without what only a developer needs.
pub(super) fn describe(error: &SqlError) -> String {
    match error {
        // It is our own sentence, wrapped: "there is no pg_dist_node: …".
        SqlError::Answer(text) => text.clone(),
        error => error.to_string(),
    }
}

/// The fix for a failed login or statement at `address`. Empty where the error itself says it.
pub(super) fn remediation(
    error: &SqlError,
    coordinator: &Coordinator,
    address: &HostPort,
    database: &str,
) -> String {
    let user = &coordinator.user;
    let SqlError::Server { code, message } = error else {
        return without_answer(error, coordinator);
    };
    match code.as_str() {
        "28P01" => format!(
            "correct the password of role {user}: {}",
            password_source(&coordinator.password)
        ),
        "28000" if message.contains("does not exist") => {
            format!("create role {user}, or correct `coordinator.user`")
        }
        "28000" => format!(
            "let role {user} in from this host in pg_hba.conf of {address} (Patroni: \
             `postgresql.pg_hba`)"
        ),
        "3D000" => format!(
            "create database {database} there and CREATE EXTENSION citus in it, or take it out of \
             `databases`"
        ),
        "42501" => format!(
            "GRANT CONNECT ON DATABASE {} TO {}",
            quoted(database),
            quoted(user)
        ),
        "53300" => "raise max_connections there, or end idle sessions".to_owned(),
        "57P03" => "wait until it has started, then look again".to_owned(),
        "57014" => format!("see in pg_stat_activity of {address} what it waits for"),
        _ => String::new(),
    }
}

fn without_answer(error: &SqlError, coordinator: &Coordinator) -> String {
    let text = error.to_string();
    if text.contains("password missing") {
        return format!(
            "role {} needs a password and none is known: set PGPASSWORD, or name `password_file` \
             or `passfile` under `coordinator`",
            coordinator.user
        );
    }
    if text.contains("failed to lookup address") {
        return "the name does not resolve on this host: fix DNS or /etc/hosts, or let Patroni \
                advertise an address that does (`postgresql.connect_address`)"
            .to_owned();
    }
    match error {
        SqlError::Deadline { .. } => {
            "the host may be frozen, overloaded or behind a firewall that drops packets: look at \
             it; `policy.connect_timeout` and `policy.statement_timeout` set how long to wait"
                .to_owned()
        }
        SqlError::Io(_) => {
            "start PostgreSQL there, or see why Patroni still names this address".to_owned()
        }
        _ => String::new(),
    }
}

/// Where the password that was used comes from; never the password.
fn password_source(password: &Password) -> String {
    match password {
        Password::None => "none is configured; set PGPASSWORD, or name `password_file` or \
                           `passfile` under `coordinator`"
            .to_owned(),
        Password::Passfile(file) => format!("it comes from {}", file.display()),
        Password::Literal(secret) => match secret.origin() {
            Origin::Env(name) => format!("it comes from {name} in the environment"),
            Origin::File(file) => format!("it comes from {}", file.display()),
            Origin::Key { file, key } => format!("it comes from {key} in {}", file.display()),
        },
    }
}

/// An SQL name, quoted.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// The names that are most like `wanted`, the most alike first: a typing mistake or two away.
/// Case does not count.
pub(super) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    // One slip in short names, more in long ones; more than that is another name.
    let limit = (wanted.chars().count() / 3).max(1);
    let wanted = wanted.to_lowercase();
    let mut near: Vec<(usize, &str)> = names
        .map(|name| (levenshtein(&wanted, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    near.sort_unstable();
    near.into_iter().map(|(_, name)| name).take(3).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use citus_core::config::Secret;

    fn coordinator(password: Password) -> Coordinator {
        let databases = vec!["app".to_owned()];
        Coordinator {
            scope: "cn".parse().unwrap(),
            databases,
            user: "sync".to_owned(),
            password,
        }
    }

    fn fix(code: &str, message: &str, password: Password) -> String {
        let error = SqlError::Server {
            code: code.to_owned(),
            message: message.to_owned(),
        };
        let address = HostPort {
            host: "10.0.0.1".to_owned(),
            port: 5432,
        };
        remediation(&error, &coordinator(password), &address, "app")
    }

    #[test]
    fn a_wrong_password_is_named_by_its_source_and_never_shown() {
        let secret = |origin| Password::Literal(Secret::new("hunter2", origin));
        for (password, place) in [
            (secret(Origin::Env("PGPASSWORD")), "PGPASSWORD"),
            (
                secret(Origin::File(PathBuf::from("/run/password"))),
                "/run/password",
            ),
            (
                secret(Origin::Key {
                    file: "/etc/p.yml".into(),
                    key: "superuser".to_owned(),
                }),
                "superuser in /etc/p.yml",
            ),
            (
                Password::Passfile(PathBuf::from("/root/.pgpass")),
                "/root/.pgpass",
            ),
            (Password::None, "password_file"),
        ] {
            let text = fix("28P01", "password authentication failed", password);
            assert!(text.contains("role sync") && text.contains(place), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn every_common_refusal_has_its_fix() {
        for (code, message, word) in [
            ("28000", "role \"sync\" does not exist", "create role sync"),
            (
                "28000",
                "no pg_hba.conf entry for host",
                "pg_hba.conf of 10.0.0.1:5432",
            ),
            (
                "3D000",
                "database \"app\" does not exist",
                "CREATE EXTENSION citus",
            ),
            (
                "42501",
                "permission denied for database",
                "GRANT CONNECT ON DATABASE \"app\"",
            ),
            (
                "53300",
                "sorry, too many clients already",
                "max_connections",
            ),
        ] {
            let text = fix(code, message, Password::None);
            assert!(text.contains(word), "{code}: {text}");
        }
    }

    #[test]
    fn names_that_are_a_slip_away_are_found() {
        let names = ["cn", "wk1", "wk2", "worker-eu-1", "worker-eu-2"];
        let near = |wanted| nearest(wanted, names.into_iter());
        assert_eq!(near("wk3"), ["wk1", "wk2"]);
        assert_eq!(near("WK1"), ["wk1", "wk2"]);
        assert_eq!(near("worker-eu1"), ["worker-eu-1", "worker-eu-2"]);
        assert_eq!(near("payments"), [""; 0]);
        assert_eq!(near(""), [""; 0]);
    }
}
