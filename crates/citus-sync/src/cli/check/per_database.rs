//! Findings about the databases of one coordinator, and how databases are named in them.

use citus_core::config::Formation;
use citus_core::render::Finding;

/// `database app`, `databases app, shop`.
pub(super) fn databases_named(names: &[String]) -> String {
    let word = if names.len() == 1 {
        "database"
    } else {
        "databases"
    };
    format!("{word} {}", names.join(", "))
}

/// Findings of each database; one that several share is listed once, with their names.
pub(super) struct PerDatabase<'a> {
    formation: &'a Formation,
    found: Vec<(Finding, Vec<&'a str>)>,
}

impl<'a> PerDatabase<'a> {
    pub(super) fn of(formation: &'a Formation) -> Self {
        Self {
            formation,
            found: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, database: &'a str, finding: Finding) {
        match self.found.iter_mut().find(|(known, _)| *known == finding) {
            Some((_, databases)) => databases.push(database),
            None => self.found.push((finding, vec![database])),
        }
    }

    pub(super) fn finish(self) -> Vec<Finding> {
        let several = self.formation.coordinator.databases.len() > 1;
        self.found
            .into_iter()
            .map(|(mut finding, databases)| {
                if several {
                    finding.detail = format!("{} (in {})", finding.detail, databases.join(", "));
                }
                finding
            })
            .collect()
    }
}
