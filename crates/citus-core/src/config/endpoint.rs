//! The address of an etcd member: `http://host:port` and nothing else.

use dcs_watch::value::HostPort;

/// What is wrong with an address, in the three parts of a problem.
pub(super) struct Wrong {
    pub(super) found: String,
    pub(super) expected: &'static str,
    pub(super) fix: String,
}

pub(super) const EXPECTED: &str = "an etcd address such as http://10.0.0.1:2379";

/// What to do about any setting that asks for TLS.
pub(super) const NO_TLS: &str = "this version speaks no TLS and will not fall back to plain text \
     behind your back: give it a plain-text address it can trust, for example a local stunnel";

/// Brings an address to the form `http://host:port`.
pub(super) fn parse(text: &str) -> Result<String, Wrong> {
    let shown = format!("the text {text:?}");
    let wrong = |found: String, fix: String| Wrong {
        found,
        expected: EXPECTED,
        fix,
    };
    let text = text.trim();
    // Before anything else: a password must not be shown by a later complaint.
    if text.contains('@') {
        return Err(wrong(
            "an address with a user or a password in it (not shown)".to_owned(),
            "give the user as `username` and the password as `password_file` or ETCD_PASSWORD"
                .to_owned(),
        ));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(wrong(shown, format!("write the scheme too: http://{text}")));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => {
            return Err(Wrong {
                found: shown,
                expected: EXPECTED,
                fix: NO_TLS.to_owned(),
            });
        }
        _ => return Err(wrong(shown, "the scheme must be http".to_owned())),
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err(wrong(
            shown,
            "leave out everything after the port".to_owned(),
        ));
    }
    match rest.parse::<HostPort>() {
        Ok(address) if !is_host(&address.host) => {
            Err(wrong(shown, format!("{:?} is no host name", address.host)))
        }
        Ok(address) => Ok(format!("http://{address}")),
        Err(_) if !rest.is_empty() && !rest.contains(':') => Err(wrong(
            shown,
            format!("write the port too: http://{rest}:2379"),
        )),
        Err(error) => Err(wrong(shown, error.to_string())),
    }
}

/// Names, IPv4 and IPv6 addresses, the latter with a zone if need be.
fn is_host(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || "-._:%".contains(c))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn addresses_come_out_in_one_form() {
        for (text, expected) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("HTTP://etcd-1:2379/", "http://etcd-1:2379"),
            ("http://[::1]:2379", "http://[::1]:2379"),
        ] {
            assert_eq!(parse(text).ok().as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_text_that_is_no_address_is_refused_with_what_to_write() {
        for (text, part) in [
            ("127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("http://etcd-1", "http://etcd-1:2379"),
            ("https://etcd-1:2379", "TLS"),
            ("ftp://etcd-1:2379", "http"),
            ("http://etcd-1:2379/v3", "after the port"),
            ("http://etcd!1:2379", "no host"),
        ] {
            let fix = parse(text).err().map(|wrong| wrong.fix).unwrap_or_default();
            assert!(fix.contains(part), "{text}: {fix}");
        }
        let wrong = parse("http://root:s3cret@etcd-1:2379").err().unwrap();
        assert!(!format!("{}{}", wrong.found, wrong.fix).contains("s3cret"));
    }
}
