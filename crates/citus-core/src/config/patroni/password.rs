//! A password that stands in Patroni's file itself.

use super::super::environment::Environment;
use super::super::reader::At;
use super::super::secret::{Origin, Secret};
use super::super::yaml::Node;

/// A password that stands in Patroni's file itself.
pub(super) fn read(at: &At<'_>, environment: &Environment<'_>) -> Option<Secret> {
    let value = match at.node {
        Node::Text(text) if !text.is_empty() => text.clone(),
        // YAML takes `password: 123456` for a number, and Patroni does not mind.
        Node::Int(number) => number.to_string(),
        _ => {
            at.bad_found(
                "something else (not shown)",
                "a password as text",
                "put it in quotes",
            );
            return None;
        }
    };
    let origin = Origin::Key {
        file: environment.file.to_owned(),
        key: at.path.to_string(),
    };
    Some(Secret::new(value, origin))
}
