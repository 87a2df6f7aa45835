//! A configuration as the text of a native file. Secrets are referred to, never written out.
//!
//! What is rendered reads back as the same configuration (given the same environment); settings
//! that have their default are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use dcs_watch::key::ScopeId;

use super::addresses::AddressRules;
use super::formation::{Coordinator, Formation, Password};
use super::login::{ETCD_PASSWORD, PGPASSWORD};
use super::secret::{Origin, Secret};
use super::settings::{Config, DEFAULT_LISTEN, DEFAULT_NAMESPACE, Election};
use super::workers::Workers;
use crate::policy::Policy;

/// Why no native file can be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// Worker groups are known only by their nodes' addresses, and their scopes were not found.
    #[error(
        "the scopes of these worker groups are not known, so no native file is written:\n{}\nMake \
         sure etcd can be reached and Patroni runs at one of the nodes of each group, then convert \
         again", .0.join("\n")
    )]
    Unresolved(Vec<String>),
}

/// Renders `config` as a native file.
///
/// `scopes` gives the scope of each worker group that is known only by addresses (see
/// [`Formation::resolve`]); for other configurations it is not looked at.
pub fn convert(config: &Config, scopes: &BTreeMap<u32, ScopeId>) -> Result<String, ConvertError> {
    let mut out = Text::default();
    out.line(
        0,
        &format!(
            "# Written by `citus-sync config convert` from {}.",
            one_line(&config.source)
        ),
    );
    for warning in &config.warnings {
        out.line(
            0,
            &format!("# There: {}", warning.replace(['\n', '\r'], " ")),
        );
    }
    etcd(&mut out, config);
    if config.namespace != DEFAULT_NAMESPACE {
        out.line(0, &format!("namespace: {}", quote(&config.namespace)));
    }
    if config.listen != DEFAULT_LISTEN {
        out.line(0, &format!("listen: {}", quote(&config.listen.to_string())));
    }
    token(&mut out, config);
    election(&mut out, &config.election);
    match config.formations.as_slice() {
        [one] if one.name == one.coordinator.scope.path() => {
            formation(&mut out, 0, one, scopes)?;
        }
        many => {
            out.line(0, "formations:");
            for one in many {
                out.line(1, &format!("- name: {}", quote(&one.name)));
                formation(&mut out, 2, one, scopes)?;
            }
        }
    }
    Ok(out.0)
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, depth: usize, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{:indent$}{line}", "", indent = depth * 2);
    }
}

fn etcd(out: &mut Text, config: &Config) {
    out.line(0, "etcd:");
    out.line(1, "endpoints:");
    for endpoint in &config.etcd.endpoints {
        out.line(2, &format!("- {}", quote(endpoint)));
    }
    if let Some(username) = &config.etcd.username {
        out.line(1, &format!("username: {}", quote(username)));
    }
    if let Some(secret) = &config.etcd.password {
        reference(out, 1, secret, ETCD_PASSWORD);
    }
}

fn token(out: &mut Text, config: &Config) {
    match config.token.as_ref().map(Secret::origin) {
        Some(Origin::File(file)) => out.line(0, &format!("token_file: {}", quote_path(file))),
        Some(Origin::Env(name)) => {
            let line = format!("# The token comes from {name} in the environment.");
            out.line(0, &line);
        }
        // No file but a token's own may hold one.
        None | Some(Origin::Key { .. }) => {}
    }
}

fn election(out: &mut Text, election: &Election) {
    let default = Election::default();
    if *election == default {
        return;
    }
    out.line(0, "election:");
    if let Some(name) = &election.name {
        out.line(1, &format!("name: {}", quote(name)));
    }
    if election.ttl != default.ttl {
        out.line(1, &format!("ttl: {}", time(election.ttl)));
    }
}

/// Says where the secret is to come from.
fn reference(out: &mut Text, depth: usize, secret: &Secret, variable: &str) {
    match secret.origin() {
        Origin::File(file) => out.line(depth, &format!("password_file: {}", quote_path(file))),
        Origin::Env(name) => {
            out.line(
                depth,
                &format!("# The password comes from {name} in the environment."),
            );
        }
        Origin::Key { file, key } => {
            out.line(
                depth,
                &format!("# The password stands in {}, under", one_line(file)),
            );
            out.line(
                depth,
                &format!("# {key}, and is not copied. Set {variable} in the"),
            );
            out.line(
                depth,
                "# environment, or put it in a file of its own and name that here:",
            );
            let name = if variable == ETCD_PASSWORD {
                "etcd-password"
            } else {
                "password"
            };
            out.line(depth, &format!("# password_file: /etc/citus-sync/{name}"));
        }
    }
}

fn formation(
    out: &mut Text,
    depth: usize,
    formation: &Formation,
    scopes: &BTreeMap<u32, ScopeId>,
) -> Result<(), ConvertError> {
    coordinator(out, depth, &formation.coordinator);
    match &formation.workers {
        Workers::Listed(listed) => workers(out, depth, listed, &formation.fixed),
        Workers::Discovered(discover) => {
            out.line(depth, &format!("discover: {}", quote(discover.pattern())));
        }
        Workers::AtNodes(groups) => {
            let mut listed = BTreeMap::new();
            let mut missing = Vec::new();
            for (group, nodes) in groups {
                if let Some(scope) = scopes.get(group) {
                    listed.insert(*group, scope.clone());
                } else {
                    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
                    missing.push(format!("  group {group}, at {}", nodes.join(", ")));
                }
            }
            if !missing.is_empty() {
                return Err(ConvertError::Unresolved(missing));
            }
            workers(out, depth, &listed, &formation.fixed);
        }
    }
    addresses(out, depth, &formation.addresses);
    if formation.register {
        out.line(depth, "register: true");
    }
    policy(out, depth, &formation.policy);
    Ok(())
}

fn coordinator(out: &mut Text, depth: usize, coordinator: &Coordinator) {
    out.line(depth, "coordinator:");
    out.line(
        depth + 1,
        &format!("scope: {}", quote(&coordinator.scope.path())),
    );
    let databases: Vec<String> = coordinator
        .databases
        .iter()
        .map(|name| quote(name))
        .collect();
    out.line(depth + 1, &format!("databases: [{}]", databases.join(", ")));
    out.line(depth + 1, &format!("user: {}", quote(&coordinator.user)));
    match &coordinator.password {
        Password::None => {}
        Password::Literal(secret) => reference(out, depth + 1, secret, PGPASSWORD),
        Password::Passfile(file) => {
            out.line(depth + 1, &format!("passfile: {}", quote_path(file)));
        }
    }
}

fn workers(out: &mut Text, depth: usize, listed: &BTreeMap<u32, ScopeId>, fixed: &BTreeSet<u32>) {
    out.line(depth, "workers:");
    for (group, scope) in listed {
        let scope = quote(&scope.path());
        let address = if fixed.contains(group) {
            ", address: fixed"
        } else {
            ""
        };
        out.line(
            depth + 1,
            &format!("- {{ group: {group}, scope: {scope}{address} }}"),
        );
    }
}

fn addresses(out: &mut Text, depth: usize, rules: &AddressRules) {
    if rules.is_empty() {
        return;
    }
    out.line(depth, "addresses:");
    for rule in rules.iter() {
        let (advertised, registered) = (quote(rule.pattern()), quote(rule.registered()));
        let line = format!("- {{ advertised: {advertised}, registered: {registered} }}");
        out.line(depth + 1, &line);
    }
}

fn policy(out: &mut Text, depth: usize, policy: &Policy) {
    let default = Policy::default();
    if *policy == default {
        return;
    }
    out.line(depth, "policy:");
    for ((key, value), (_, by_default)) in settings(policy).into_iter().zip(settings(&default)) {
        if value != by_default {
            out.line(depth + 1, &format!("{key}: {value}"));
        }
    }
}

/// Every setting of a policy, as its key and its value are written.
fn settings(p: &Policy) -> [(&'static str, String); 14] {
    let lag = |bytes: u64| bytes.to_string();
    [
        ("hold_timeout", time(p.hold_timeout)),
        ("lock_cooldown", time(p.lock_cooldown)),
        ("read_move", p.read_move.to_string()),
        (
            "read_move_max_lag",
            p.read_move_max_lag.map_or("off".to_owned(), lag),
        ),
        ("hold_on_request", p.hold_on_request.to_string()),
        ("hold_on_leader_loss", p.hold_on_leader_loss.to_string()),
        ("secondaries", p.secondaries.to_string()),
        ("use_secondary_nodes", quote(p.use_secondary_nodes.as_str())),
        ("fallback_to_primary", p.fallback_to_primary.to_string()),
        ("write", quote(p.write.as_str())),
        ("connect_timeout", time(p.connect_timeout)),
        ("statement_timeout", time(p.statement_timeout)),
        ("probe_interval", time(p.probe_interval)),
        ("reconcile_every", time(p.reconcile_every)),
    ]
}

fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn one_line(path: &Path) -> String {
    path.display()
        .to_string()
        .replace(|c: char| c.is_control(), "?")
}

fn quote_path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

/// A YAML scalar that every reader takes for this very text.
fn quote(text: &str) -> String {
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !words.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            c if c.is_alphanumeric() => quoted.push(c),
            c => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}
