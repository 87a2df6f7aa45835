//! The wall around the pure crates. In: what `cargo tree` says of a crate. Out: the crates in it that
//! no pure crate may depend on, however far down.
//!
//! That pure code *names* nothing impure needs no check here: what a crate does not depend on it
//! cannot name, and clippy finds the clocks that `crates/citus-core/clippy.toml` forbids.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Runtimes, clients and servers. A pure crate that has one of them below it can start a task, open
/// a connection or wait for a clock.
const IMPURE: &[&str] = &[
    "axum",
    "etcd-client",
    "h2",
    "hyper",
    "mio",
    "tokio",
    "tokio-postgres",
    "tonic",
    "tracing-subscriber",
];

/// The feature of `dcs-watch` without which it is pure.
const CLIENT: &str = "client";

/// A crate, or the part of one, that must be pure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pure {
    /// The crate's name.
    pub name: &'static str,
    /// The arguments of `cargo` that select that part.
    pub options: &'static [&'static str],
}

impl Pure {
    /// The arguments of `cargo` that list what it is built with.
    pub fn tree(&self) -> Vec<&'static str> {
        let mut arguments = vec!["tree", "-p", self.name, "-e", "normal", "--prefix", "none"];
        arguments.extend(self.options);
        arguments
    }

    /// What is wrong with the `tree` that cargo printed, a line for each crate.
    pub fn breaches(&self, tree: &str) -> Vec<String> {
        let found = |name: &&&str| tree.lines().any(|line| first_word(line) == **name);
        let way = self.tree().join(" ").replace(" --prefix none", "");
        let complaint = |name: &&str| {
            format!(
                "{} depends on {name}; `cargo {way} -i {name}` shows the way",
                self.name
            )
        };
        IMPURE.iter().filter(found).map(complaint).collect()
    }
}

/// The pure parts of the workspace at `root`.
pub fn pure(root: &Path) -> Result<Vec<Pure>> {
    let manifest = root.join("crates/dcs-watch/Cargo.toml");
    let manifest =
        fs::read_to_string(&manifest).with_context(|| format!("reading {}", manifest.display()))?;
    let mut pure = vec![Pure {
        name: "citus-core",
        options: &[],
    }];
    if has_feature(&manifest, CLIENT) {
        pure.push(Pure {
            name: "dcs-watch",
            options: &["--no-default-features"],
        });
    }
    Ok(pure)
}

/// Whether a manifest declares the feature.
fn has_feature(manifest: &str, feature: &str) -> bool {
    let features = manifest
        .lines()
        .skip_while(|line| line.trim() != "[features]")
        .skip(1)
        .take_while(|line| !line.starts_with('['));
    features
        .filter_map(|line| line.split_once('='))
        .any(|(name, _)| name.trim() == feature)
}

fn first_word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: Pure = Pure {
        name: "citus-core",
        options: &[],
    };

    #[test]
    fn an_impure_crate_anywhere_in_the_tree_is_named() {
        let tree = "citus-core v0.1.0 (/x)\nserde v1.0.2 (*)\ntonic v0.14.1\ntokio v1.47.1 (*)\n";
        let said = CORE.breaches(tree);
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(
            said[0],
            "citus-core depends on tokio; `cargo tree -p citus-core -e normal -i tokio` shows the way"
        );
        assert!(said[1].contains("tonic"), "{said:?}");
    }

    #[test]
    fn a_name_that_only_begins_like_an_impure_one_is_no_breach() {
        let tree = "citus-core v0.1.0 (/x)\ntokio-util v0.7.1\nhyperloglog v1.0.0\n";
        assert_eq!(CORE.breaches(tree), [""; 0]);
    }

    #[test]
    fn a_feature_is_found_in_its_own_section_alone() {
        let with = "[features]\ndefault = [\"client\"]\nclient = [\n  \"dep:tokio\",\n]\n";
        assert!(has_feature(with, CLIENT));
        assert!(!has_feature("[dependencies]\nclient = \"1\"\n", CLIENT));
        assert!(!has_feature(
            "[features]\n[dependencies]\nclient = \"1\"\n",
            CLIENT
        ));
    }
}
