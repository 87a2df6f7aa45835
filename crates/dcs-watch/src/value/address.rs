//! Where a member listens, out of what Patroni writes about it.
//!
//! Enters: `conn_url` or `conn_kwargs`. Leaves: a [`HostPort`], none where the member has no
//! address that another host could reach, or a [`ValueError`]. A message never repeats a URL: it
//! may carry a password.

use serde_json::{Map, Value};

use super::error::{ValueError, wrong};
use super::host_port::{HostPort, is_plain, split_port};
use super::json::{get, integer, kind};

const POSTGRES_PORT: u16 = 5432;

/// The address in a connection URL; none when it names a socket directory or no host at all.
pub(super) fn from_url(url: &str) -> Result<Option<HostPort>, ValueError> {
    let Some(rest) = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))
    else {
        return wrong("the connection URL does not begin with postgres://");
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let mut host = None;
    let mut port = None;
    if !authority.is_empty() {
        if authority.contains(',') {
            return wrong("the connection URL names several hosts: expected the member's own");
        }
        // `postgres://:5433/db` has a port but leaves the host to the query or the socket.
        if let Some(digits) = authority.strip_prefix(':') {
            port = Some(parse_port(digits)?);
        } else {
            let decoded = percent_decoded(authority)?;
            if decoded.starts_with('/') {
                return Ok(None);
            }
            let (name, number) = split_port(&decoded)?;
            host = Some(name);
            port = number;
        }
    }
    // libpq lets the query override what stands before it.
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "host" | "hostaddr" => host = Some(percent_decoded(value)?),
            "port" => port = Some(parse_port(value)?),
            _ => {}
        }
    }
    reachable(host, port)
}

/// The address in `conn_kwargs`.
pub(super) fn from_kwargs(kwargs: &Map<String, Value>) -> Result<Option<HostPort>, ValueError> {
    let host = match get(kwargs, "host") {
        None => None,
        Some(Value::String(host)) => Some(host.clone()),
        Some(other) => {
            return wrong(format!(
                "conn_kwargs.host: expected text, found {}",
                kind(other)
            ));
        }
    };
    let port = match get(kwargs, "port") {
        None => None,
        Some(number) => match integer(number).and_then(|port| u16::try_from(port).ok()) {
            Some(port) if port > 0 => Some(port),
            _ => {
                return wrong(format!(
                    "conn_kwargs.port: expected a port, found {}",
                    kind(number)
                ));
            }
        },
    };
    reachable(host, port)
}

/// The host and port as an address that another host can reach; none for a socket directory.
fn reachable(host: Option<String>, port: Option<u16>) -> Result<Option<HostPort>, ValueError> {
    let Some(host) = host.filter(|host| !host.is_empty() && !host.starts_with('/')) else {
        return Ok(None);
    };
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    if host.is_empty() || host.contains(',') || !is_plain(&host) {
        return wrong("the connection address is not one host");
    }
    Ok(Some(HostPort {
        host,
        port: port.unwrap_or(POSTGRES_PORT),
    }))
}

fn parse_port(digits: &str) -> Result<u16, ValueError> {
    match digits.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => wrong("the connection URL has no valid port"),
    }
}

/// Splits a member's value as very old Patroni wrote it, `conn_url?application_name=api_url`, into
/// the connection URL and the REST address.
pub(super) fn split_application_name(raw: &str) -> (String, Option<String>) {
    let Some((url, query)) = raw.split_once('?') else {
        return (raw.to_owned(), None);
    };
    let api_url = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("application_name="))
        .and_then(|api_url| percent_decoded(api_url).ok());
    if api_url.is_none() {
        return (raw.to_owned(), None);
    }
    let others: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.starts_with("application_name="))
        .collect();
    if others.is_empty() {
        (url.to_owned(), api_url)
    } else {
        (format!("{url}?{}", others.join("&")), api_url)
    }
}

/// Text with each `%xx` replaced by the byte it stands for.
fn percent_decoded(text: &str) -> Result<String, ValueError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let decoded = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let Some(decoded) = decoded else {
            return wrong("the connection URL has a % without two hexadecimal digits");
        };
        bytes.push(decoded);
        rest = &tail[2..];
    }
    String::from_utf8(bytes)
        .map_err(|_| ValueError::new("the connection URL encodes text that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use crate::value::tests::refused;
    use crate::value::{Member, member};

    fn member_of(json: &str) -> Member {
        member(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    fn address_of(json: &str) -> Option<String> {
        member_of(json).address.map(|address| address.to_string())
    }

    #[test]
    fn an_address_is_read_from_every_form_of_conn_url() {
        for (url, address) in [
            ("postgres://h:5433/postgres", Some("h:5433")),
            ("postgresql://h:5433/postgres", Some("h:5433")),
            ("postgres://h/postgres", Some("h:5432")),
            ("postgres://h", Some("h:5432")),
            (
                "postgres://[2001:db8::1]:5433/postgres",
                Some("[2001:db8::1]:5433"),
            ),
            ("postgres://[::1]/postgres", Some("[::1]:5432")),
            ("postgres://user:p%40ss@h:5433/db", Some("h:5433")),
            ("postgres://user:p@ss@h:5433/db", Some("h:5433")),
            (
                "postgres://pg%2D1.example:5433/db",
                Some("pg-1.example:5433"),
            ),
            ("postgres:///db?host=h&port=5433", Some("h:5433")),
            ("postgres://:5433/db?host=h", Some("h:5433")),
            (
                "postgres://h:1/db?port=5433&sslmode=require",
                Some("h:5433"),
            ),
            // Socket directories, which no other host can reach.
            ("postgres:///db?host=/var/run/postgresql", None),
            ("postgres:///db?host=%2Fvar%2Frun&port=5433", None),
            ("postgres://%2Fvar%2Frun%2Fpostgresql:5433/db", None),
            ("postgres:///db", None),
        ] {
            let json = serde_json::json!({ "conn_url": url }).to_string();
            assert_eq!(address_of(&json).as_deref(), address, "{url}");
        }
    }

    #[test]
    fn an_ipv6_host_is_kept_without_brackets() {
        let member = member_of(r#"{"conn_url":"postgres://[2001:db8::1]:5433/postgres"}"#);
        assert_eq!(member.address.unwrap().host, "2001:db8::1");
    }

    #[test]
    fn an_address_that_cannot_be_read_is_refused_without_repeating_a_password() {
        for url in [
            "mysql://h:1/",
            "postgres://user:secret@h:port/db",
            "postgres://user:secret@h:0/db",
            "postgres://user:secret@h:65536/db",
            "postgres://user:secret@2001:db8::1:5432/db",
            "postgres://user:secret@[2001:db8::1/db",
            "postgres://user:secret@[::1]x:1/db",
            "postgres://user:secret@a,b:5432/db",
            "postgres://user:secret@h%:5432/db",
            "postgres://user:secret@h%zz:5432/db",
            "postgres://user:secret@h%ff:5432/db",
            "postgres://user:secret@h%+1:5432/db",
            "postgres://user:secret@a b:5432/db",
            "postgres://h/db?port=x",
        ] {
            let error = member(
                serde_json::json!({ "conn_url": url })
                    .to_string()
                    .as_bytes(),
            );
            let error = error.expect_err(url).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        // Broken JSON is quoted, but not if a URL may be in it.
        let broken = br#"{"conn_url":"postgres://u:secret@h/"#;
        assert!(!member(broken).unwrap_err().to_string().contains("secret"));
    }

    #[test]
    fn an_address_is_read_from_conn_kwargs_when_there_is_no_conn_url() {
        for (json, address) in [
            (
                r#"{"conn_kwargs":{"host":"h","port":5433}}"#,
                Some("h:5433"),
            ),
            (
                r#"{"conn_kwargs":{"host":"h","port":"5433"}}"#,
                Some("h:5433"),
            ),
            (r#"{"conn_kwargs":{"host":"h"}}"#, Some("h:5432")),
            (
                r#"{"conn_kwargs":{"host":"2001:db8::1","port":5433}}"#,
                Some("[2001:db8::1]:5433"),
            ),
            (
                r#"{"conn_kwargs":{"host":"[::1]","port":5433}}"#,
                Some("[::1]:5433"),
            ),
            (
                r#"{"conn_kwargs":{"host":"/var/run/postgresql","port":5433}}"#,
                None,
            ),
            (r#"{"conn_kwargs":{"port":5433}}"#, None),
            (
                r#"{"conn_url":null,"conn_kwargs":{"host":"h"}}"#,
                Some("h:5432"),
            ),
            (
                r#"{"conn_url":"postgres://u:1/","conn_kwargs":{"host":"h"}}"#,
                Some("u:1"),
            ),
            (r"{}", None),
            (r#"{"conn_url":null}"#, None),
        ] {
            assert_eq!(address_of(json).as_deref(), address, "{json}");
        }
        refused(
            member(br#"{"conn_kwargs":{"host":"h","port":70000}}"#),
            "port",
        );
        refused(member(br#"{"conn_kwargs":{"host":["h"]}}"#), "a list");
        refused(member(br#"{"conn_kwargs":"host=h"}"#), "an object");
        refused(
            member(br#"{"conn_url":7}"#),
            "conn_url: expected text, found a number",
        );
    }
}
