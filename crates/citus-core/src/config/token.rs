//! The bearer token: a client that shows it may have writes of a group held.
//!
//! `CITUS_SYNC_TOKEN` in the environment goes before `token_file`, as it does for passwords. The
//! same checks serve the daemon and its clients.

use super::environment::Environment;
use super::login::{self, overridden};
use super::reader::{At, Fields};
use super::secret::{Origin, Secret};

/// The environment variable that holds the token.
pub const TOKEN_VARIABLE: &str = "CITUS_SYNC_TOKEN";

/// A shorter token can be guessed by a client that tries for long enough.
const SHORT: usize = 16;

/// What a token file has to be.
const EXPECTED_FILE: &str = "a file with the token on its only line";

/// What every token has to be.
const EXPECTED: &str = "a token of visible ASCII characters, such as `openssl rand -hex 32` prints";

/// The keys of a native file: `token_file`, and `token`, which is refused; and the environment.
/// `None` when there is no token, or when a problem was noted.
pub(super) fn read(fields: &Fields<'_>, environment: &Environment<'_>) -> Option<Secret> {
    if let Some(at) = fields.get("token") {
        at.bad_key(
            "a token written out in the file",
            "only a reference to it",
            &format!(
                "set {TOKEN_VARIABLE} in the environment, or put the token in a file of its own \
                 and name it with `token_file`"
            ),
        );
    }
    let named = fields.get("token_file").and_then(|at| {
        let file = environment.beside(at.text("the path of a file that holds only the token")?);
        let secret = login::secret_file(&at, &file, environment, EXPECTED_FILE)?;
        if let Err(wrong) = check(secret.expose()) {
            let found = format!("{}, whose token {wrong}", file.display());
            at.bad_found(&found, EXPECTED, "");
            return None;
        }
        Some((at, secret))
    });
    if let Some(secret) = from_environment(&fields.at, environment) {
        if let Some((at, file)) = &named
            && *file != secret
        {
            overridden(at, TOKEN_VARIABLE);
        }
        return Some(secret);
    }
    let (at, secret) = named?;
    if secret.expose().len() < SHORT {
        short(&at, &at.path.to_string());
    }
    Some(secret)
}

/// The token of the environment alone.
pub(super) fn from_environment(root: &At<'_>, environment: &Environment<'_>) -> Option<Secret> {
    let value = environment.variable(TOKEN_VARIABLE)?;
    if let Err(wrong) = check(&value) {
        let found = format!("{TOKEN_VARIABLE} in the environment, which {wrong}");
        root.bad_found(&found, EXPECTED, "");
        return None;
    }
    if value.len() < SHORT {
        short(root, TOKEN_VARIABLE);
    }
    Some(Secret::new(value, Origin::Env(TOKEN_VARIABLE)))
}

fn short(at: &At<'_>, place: &str) {
    at.doc.warn(format!(
        "{place}: the token is shorter than {SHORT} characters and can be guessed; take a longer \
         one, such as `openssl rand -hex 32` prints"
    ));
}

/// Whether a text can be a token: it goes into a line of an HTTP request as it is.
fn check(value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        Err("is empty")
    } else if value.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err("has spaces or characters that are not ASCII")
    }
}

/// The token in a token file's text.
///
/// # Errors
///
/// What is wrong with it, to be said after the file's name.
pub fn token(text: &str) -> Result<&str, &'static str> {
    let value = text.trim_end_matches(['\r', '\n']);
    if value.contains(['\r', '\n']) {
        return Err("has several lines");
    }
    check(value)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::token;

    #[test]
    fn a_token_file_has_one_line_of_visible_characters() {
        assert_eq!(token("abc-DEF_123.~+/=\r\n"), Ok("abc-DEF_123.~+/="));
        for text in ["", "\n", "a b", "a\nb", "tökén", "a\tb", "a\0"] {
            assert!(token(text).is_err(), "{text:?}");
        }
    }
}
