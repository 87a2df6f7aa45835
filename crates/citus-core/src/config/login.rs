//! Where a password is, and which of several places goes first.
//!
//! The environment goes before the file, because that is where a unit or a container overrides it:
//! `PGPASSWORD`, then what the file names, then `PGPASSFILE`, then `~/.pgpass` if it is there.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::formation::Password;
use super::reader::{At, Fields};
use super::secret::{Origin, Secret};

/// The password of the coordinator's role.
pub(super) const PGPASSWORD: &str = "PGPASSWORD";
/// A pgpass file that takes the place of `~/.pgpass`.
pub(super) const PGPASSFILE: &str = "PGPASSFILE";
/// The password of the etcd user.
pub(super) const ETCD_PASSWORD: &str = "ETCD_PASSWORD";

/// What a password file has to be.
const EXPECTED_FILE: &str = "a file with the password on its only line";

/// What a file itself says about a password.
pub(super) enum Named<'a> {
    Nothing,
    Secret(At<'a>, Secret),
    Passfile(At<'a>, PathBuf),
}

/// The keys of a native file: `password_file`, `passfile`, and `password`, which is refused.
pub(super) fn named<'a>(
    fields: &Fields<'a>,
    environment: &Environment<'_>,
    variable: &str,
) -> Named<'a> {
    refuse_inline(fields, variable);
    let secret = fields.get("password_file").and_then(|at| {
        let file = environment.beside(at.text("the path of a file that holds only the password")?);
        let secret = secret_file(&at, &file, environment, EXPECTED_FILE)?;
        Some((at, secret))
    });
    let passfile = fields.get("passfile").and_then(|at| {
        let file = environment.beside(at.text("the path of a pgpass file")?);
        readable(&at, &file, environment)?;
        Some((at, file))
    });
    match (secret, passfile) {
        (Some(_), Some((at, _))) => {
            at.bad_key(
                "both `password_file` and `passfile`",
                "one of them",
                "remove the other",
            );
            Named::Nothing
        }
        (Some((at, secret)), None) => Named::Secret(at, secret),
        (None, Some((at, file))) => Named::Passfile(at, file),
        (None, None) => Named::Nothing,
    }
}

fn refuse_inline(fields: &Fields<'_>, variable: &str) {
    if let Some(at) = fields.get("password") {
        at.bad_key(
            "a password written out in the file",
            "only a reference to it",
            &format!(
                "set {variable} in the environment, or put the password in a file of its own and \
                 name it with `password_file`{}",
                if variable == PGPASSWORD {
                    ", or name a pgpass file with `passfile`"
                } else {
                    ""
                }
            ),
        );
    }
}

/// Decides between the file and the environment for a PostgreSQL role.
pub(super) fn for_postgres(
    named: Named<'_>,
    fields: &Fields<'_>,
    environment: &Environment<'_>,
) -> Password {
    if let Some(value) = environment.variable(PGPASSWORD) {
        match &named {
            Named::Secret(at, secret) if secret.expose() != value => overridden(at, PGPASSWORD),
            Named::Passfile(at, _) => overridden(at, PGPASSWORD),
            Named::Secret(..) | Named::Nothing => {}
        }
        return Password::Literal(Secret::new(value, Origin::Env(PGPASSWORD)));
    }
    let from_env = environment.variable(PGPASSFILE).map(PathBuf::from);
    match (named, from_env) {
        (Named::Secret(_, secret), _) => Password::Literal(secret),
        (Named::Passfile(at, file), Some(theirs)) if theirs != file => {
            overridden(&at, PGPASSFILE);
            Password::Passfile(theirs)
        }
        (Named::Passfile(_, file), _) => Password::Passfile(file),
        (Named::Nothing, Some(file)) => {
            if let Err(error) = (environment.read)(&file) {
                fields.at.bad_found(
                    &format!("PGPASSFILE={} in the environment: {error}", file.display()),
                    "a pgpass file that can be read",
                    "correct the variable, or unset it",
                );
            }
            Password::Passfile(file)
        }
        (Named::Nothing, None) => match environment
            .variable("HOME")
            .map(|home| home_passfile(&home))
        {
            Some(file) if (environment.read)(&file).is_ok() => Password::Passfile(file),
            _ => Password::None,
        },
    }
}

fn home_passfile(home: &str) -> PathBuf {
    Path::new(home).join(".pgpass")
}

/// The etcd user and password, both or neither.
pub(super) fn for_etcd(
    fields: &Fields<'_>,
    username: Option<String>,
    named: Option<(At<'_>, Secret)>,
    environment: &Environment<'_>,
) -> (Option<String>, Option<Secret>) {
    let from_env = environment.variable(ETCD_PASSWORD);
    if let (Some((at, secret)), Some(value)) = (&named, &from_env)
        && secret.expose() != value
    {
        overridden(at, ETCD_PASSWORD);
    }
    let in_file = named.is_some();
    let secret = match from_env {
        Some(value) => Some(Secret::new(value, Origin::Env(ETCD_PASSWORD))),
        None => named.map(|(_, secret)| secret),
    };
    match (username, secret) {
        (Some(username), Some(secret)) => (Some(username), Some(secret)),
        // A `password` that is refused has been spoken of already.
        (Some(_), None) if fields.has("password") => (None, None),
        (Some(_), None) => {
            fields.missing(
                "password_file",
                "the password of the etcd user",
                "set ETCD_PASSWORD in the environment, or name a file that holds the password",
            );
            (None, None)
        }
        (None, Some(_)) if in_file => {
            fields.missing("username", "the etcd user the password belongs to", "");
            (None, None)
        }
        (None, Some(_)) => {
            fields.at.doc.warn(
                "ETCD_PASSWORD: set in the environment, but unused because no etcd user name is \
                 configured"
                    .to_owned(),
            );
            (None, None)
        }
        (None, None) => (None, None),
    }
}

pub(super) fn overridden(at: &At<'_>, variable: &str) {
    at.doc.warn(format!(
        "{}: not used, because {variable} is set in the environment",
        at.path
    ));
}

/// The one line of a secret's file.
pub(super) fn secret_file(
    at: &At<'_>,
    file: &Path,
    environment: &Environment<'_>,
    expected: &str,
) -> Option<Secret> {
    let text = match (environment.read)(file) {
        Ok(text) => text,
        Err(error) => {
            let found = format!("{}, which cannot be read: {error}", file.display());
            at.bad_found(&found, expected, "");
            return None;
        }
    };
    let value = text.trim_end_matches(['\r', '\n']);
    let wrong = if value.is_empty() {
        "empty"
    } else if value.contains(['\r', '\n', '\0']) {
        "of several lines"
    } else {
        return Some(Secret::new(value, Origin::File(file.to_owned())));
    };
    at.bad_found(
        &format!("{}, which is {wrong}", file.display()),
        expected,
        "",
    );
    None
}

fn readable(at: &At<'_>, file: &Path, environment: &Environment<'_>) -> Option<()> {
    match (environment.read)(file) {
        Ok(_) => Some(()),
        Err(error) => {
            let found = format!("{}, which cannot be read: {error}", file.display());
            at.bad_found(&found, "a pgpass file that can be read", "");
            None
        }
    }
}
