//! What a new configuration changes of the one that runs: what can be taken over at once, and what needs
//! a restart.

use std::collections::BTreeMap;

use super::formation::{Coordinator, Formation};
use super::settings::{Config, Election, Etcd};
use crate::policy::Policy;

/// The keys whose values differ, as they stand in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Secrets: the new ones are used from now on.
    pub applied: Vec<String>,
    /// The rest, which is read at start alone.
    pub needs_restart: Vec<String>,
}

impl Changes {
    /// From one configuration to another.
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut changes = Self::default();
        // By name, so that a new field is not forgotten here. Warnings are told by themselves, and the
        // file is the same.
        let Config {
            listen,
            token,
            etcd,
            namespace,
            formations,
            election,
            warnings: _,
            source: _,
        } = old;
        changes.apply("token_file", token == &new.token);
        changes.restart("listen", listen == &new.listen);
        changes.etcd(etcd, &new.etcd);
        changes.restart("namespace", namespace == &new.namespace);
        changes.formations(formations, &new.formations);
        let Election { name, ttl } = election;
        changes.restart("election.name", name == &new.election.name);
        changes.restart("election.ttl", ttl == &new.election.ttl);
        changes
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.needs_restart.is_empty()
    }

    fn apply(&mut self, key: &str, same: bool) {
        if !same {
            self.applied.push(key.to_owned());
        }
    }

    fn restart(&mut self, key: &str, same: bool) {
        if !same {
            self.needs_restart.push(key.to_owned());
        }
    }

    fn etcd(&mut self, old: &Etcd, new: &Etcd) {
        let Etcd {
            endpoints,
            username,
            password,
        } = old;
        self.restart("etcd.endpoints", endpoints == &new.endpoints);
        self.restart("etcd.username", username == &new.username);
        // A user who comes or goes brings the password along.
        if username == &new.username {
            self.apply("etcd.password_file", password == &new.password);
        }
    }

    fn formations(&mut self, old: &[Formation], new: &[Formation]) {
        let by_name = |formations: &[Formation]| -> BTreeMap<String, Formation> {
            let formations = formations.iter().cloned();
            formations.map(|one| (one.name.clone(), one)).collect()
        };
        let several = old.len() > 1 || new.len() > 1;
        let (old, mut new) = (by_name(old), by_name(new));
        for (name, old) in &old {
            let prefix = if several {
                format!("{name}: ")
            } else {
                String::new()
            };
            match new.remove(name) {
                Some(new) => self.formation(&prefix, old, &new),
                None => self.needs_restart.push(format!("formation {name} is gone")),
            }
        }
        let names = new.into_keys();
        self.needs_restart
            .extend(names.map(|name| format!("formation {name} is new")));
    }

    fn formation(&mut self, prefix: &str, old: &Formation, new: &Formation) {
        let Formation {
            name: _,
            coordinator,
            workers,
            fixed,
            addresses,
            register,
            policy,
        } = old;
        let Coordinator {
            scope,
            databases,
            user,
            password,
        } = coordinator;
        let key = |name: &str| format!("{prefix}{name}");
        let theirs = &new.coordinator;
        self.restart(&key("coordinator.scope"), scope == &theirs.scope);
        self.restart(
            &key("coordinator.databases"),
            databases == &theirs.databases,
        );
        self.restart(&key("coordinator.user"), user == &theirs.user);
        self.apply(&key("coordinator.password"), password == &theirs.password);
        let same_workers = workers == &new.workers && fixed == &new.fixed;
        self.restart(&key("workers"), same_workers);
        self.restart(&key("addresses"), addresses == &new.addresses);
        self.restart(&key("register"), register == &new.register);
        self.policy(prefix, policy, &new.policy);
    }

    fn policy(&mut self, prefix: &str, old: &Policy, new: &Policy) {
        let Policy {
            hold_timeout,
            lock_cooldown,
            read_move,
            read_move_max_lag,
            hold_on_request,
            hold_on_leader_loss,
            secondaries,
            use_secondary_nodes,
            fallback_to_primary,
            write,
            connect_timeout,
            statement_timeout,
            probe_interval,
            reconcile_every,
        } = old;
        for (key, same) in [
            ("hold_timeout", *hold_timeout == new.hold_timeout),
            ("lock_cooldown", *lock_cooldown == new.lock_cooldown),
            ("read_move", *read_move == new.read_move),
            (
                "read_move_max_lag",
                *read_move_max_lag == new.read_move_max_lag,
            ),
            ("hold_on_request", *hold_on_request == new.hold_on_request),
            (
                "hold_on_leader_loss",
                *hold_on_leader_loss == new.hold_on_leader_loss,
            ),
            ("secondaries", *secondaries == new.secondaries),
            (
                "use_secondary_nodes",
                *use_secondary_nodes == new.use_secondary_nodes,
            ),
            (
                "fallback_to_primary",
                *fallback_to_primary == new.fallback_to_primary,
            ),
            ("write", *write == new.write),
            ("connect_timeout", *connect_timeout == new.connect_timeout),
            (
                "statement_timeout",
                *statement_timeout == new.statement_timeout,
            ),
            ("probe_interval", *probe_interval == new.probe_interval),
            ("reconcile_every", *reconcile_every == new.reconcile_every),
        ] {
            self.restart(&format!("{prefix}policy.{key}"), same);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

    const FILE: &str = "etcd: { endpoints: [\"http://10.0.0.1:2379\"], username: u, password_file: e }\n\
                        coordinator: { scope: cn, databases: [app], password_file: p }\n\
                        workers: [{ group: 1, scope: wk1 }]\ntoken_file: t\n";

    /// The configuration in this text, with the secrets of these files.
    fn config(text: &str, secrets: &[(&str, &str)]) -> Config {
        let read = |path: &Path| -> io::Result<String> {
            let name = path.to_str().unwrap();
            let secret = secrets.iter().find(|(file, _)| *file == name);
            let usual = if name == "c" {
                text
            } else {
                "0123456789abcdef"
            };
            Ok(secret.map_or(usual, |(_, secret)| secret).to_owned())
        };
        Config::load(Path::new("c"), &|_| None, &read).unwrap()
    }

    fn changes(text: &str, secrets: &[(&str, &str)]) -> Changes {
        Changes::between(&config(FILE, &[]), &config(text, secrets))
    }

    #[test]
    fn the_same_file_changes_nothing() {
        assert!(changes(FILE, &[]).is_empty());
        assert!(changes(&format!("# a comment\n{FILE}"), &[]).is_empty());
    }

    #[test]
    fn secrets_are_taken_over_at_once() {
        for (file, key) in [
            ("t", "token_file"),
            ("e", "etcd.password_file"),
            ("p", "coordinator.password"),
        ] {
            let found = changes(FILE, &[(file, "another-0123456789")]);
            assert_eq!(
                (found.applied, found.needs_restart),
                (vec![key.to_owned()], vec![])
            );
        }
        let without = FILE.replace("token_file: t\n", "");
        assert_eq!(changes(&without, &[]).applied, ["token_file"]);
    }

    #[test]
    fn every_other_key_needs_a_restart_and_is_named() {
        let more = |text: &str| format!("{FILE}{text}\n");
        for (text, keys) in [
            (more("listen: 127.0.0.1:9"), "listen"),
            (more("namespace: /db/"), "namespace"),
            (more("register: true"), "register"),
            (more("policy: { hold_timeout: 9s }"), "policy.hold_timeout"),
            (more("policy: { write: never }"), "policy.write"),
            (more("election: { ttl: 9s }"), "election.ttl"),
            (
                FILE.replace("[app]", "[app, shop]"),
                "coordinator.databases",
            ),
            (FILE.replace("group: 1", "group: 2"), "workers"),
            (
                FILE.replace("scope: wk1", "scope: wk1, address: fixed"),
                "workers",
            ),
            (
                more("addresses: [{ advertised: \"a:1\", registered: \"b:1\" }]"),
                "addresses",
            ),
            (FILE.replace("10.0.0.1", "10.0.0.2"), "etcd.endpoints"),
            (FILE.replace("username: u", "username: v"), "etcd.username"),
            (
                FILE.replace("scope: cn", "scope: eu"),
                "formation cn is gone, formation eu is new",
            ),
        ] {
            let found = changes(&text, &[]);
            assert_eq!(found.applied, [""; 0], "{text}");
            assert_eq!(found.needs_restart.join(", "), keys, "{text}");
        }
    }
}
