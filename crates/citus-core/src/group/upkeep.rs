//! What is looked after while a group is in sync: whether every entry node knows where it is, and that
//! sessions are warm where they will be needed.

use std::time::Instant;

use dcs_watch::HostPort;

use super::effect::Effect;
use super::prewarm::is_affordable;
use super::state::Group;
use crate::event::Event;
use crate::plan::{COORDINATOR_GROUP, Decision, Rows, Situation, Writes};

impl Group {
    /// Asks the entry nodes where they have this group, when it is time to.
    pub(super) fn verify_metadata(
        &mut self,
        situation: &Situation<'_>,
        decision: &Decision,
        now: Instant,
    ) {
        let in_sync =
            decision.is_in_sync() && self.settings.writes == Writes::Allowed && !situation.stopping;
        if !self.upkeep.verification.look(in_sync, now) {
            return;
        }
        let mut asked = Vec::new();
        for (database, rows) in situation.rows {
            let Rows::Known(rows) = rows else {
                continue;
            };
            let entry_nodes = rows.iter().filter(|row| row.is_entry_node());
            let targets: Vec<_> = entry_nodes
                .map(|row| row.address.clone())
                .filter(|node| !self.upkeep.verification.knows(database, node))
                .collect();
            let own = rows
                .iter()
                .any(|row| row.groupid == self.group() && row.is_primary());
            if own && !targets.is_empty() {
                asked.push((database.clone(), targets));
            }
        }
        self.upkeep.verification.begin(asked.len());
        for (database, targets) in asked {
            self.want(Effect::QueryMetadata { database, targets });
        }
    }

    /// What the entry nodes of one database said.
    pub(super) fn metadata_queried(
        &mut self,
        database: &str,
        answers: Vec<(HostPort, Result<Option<HostPort>, String>)>,
        now: Instant,
    ) {
        let group = self.group();
        let rows = self.facts.databases.get(database).map(|facts| &facts.rows);
        // The coordinator decides: what it has is what they should have.
        let row = match rows {
            Some(Rows::Known(rows)) => rows
                .iter()
                .find(|row| row.groupid == group && row.is_primary())
                .map(|row| row.address.clone()),
            _ => None,
        };
        let mut all_know = true;
        for (node, answer) in answers {
            match answer {
                // News came first, and will be looked after by itself.
                _ if !self.upkeep.verification.is_current() => {}
                Ok(Some(there)) if Some(&there) == row.as_ref() => {
                    self.upkeep.verification.known(database, &node);
                }
                Ok(there) => {
                    all_know = false;
                    self.slots.owe_resync(database);
                    self.publish(Event::EntryNodeBehind {
                        database: database.to_owned(),
                        node,
                        there,
                    });
                }
                Err(error) => {
                    all_know = false;
                    self.publish(Event::EntryNodeNotAsked {
                        database: database.to_owned(),
                        node,
                        error,
                    });
                }
            }
        }
        self.upkeep.verification.end(all_know, now);
    }

    /// Keeps sessions warm on this group's leader, through which clients enter as well: when another group
    /// is held there is no time to connect to every entry node.
    pub(super) fn prewarm(&mut self, situation: &Situation<'_>, decision: &Decision, now: Instant) {
        let in_sync = decision.is_in_sync()
            && !situation.stopping
            && self.group() != COORDINATOR_GROUP
            && self.settings.writes == Writes::Allowed;
        if !self.upkeep.prewarm.look(in_sync, now) {
            return;
        }
        for (database, rows) in situation.rows {
            let Rows::Known(rows) = rows else {
                continue;
            };
            let entry_nodes = || rows.iter().filter(|row| row.is_entry_node());
            let own = entry_nodes().find(|row| row.groupid == self.group());
            if let Some(own) = own
                && is_affordable(entry_nodes().count(), self.settings.databases.len())
            {
                let (database, node) = (database.clone(), own.address.clone());
                self.want(Effect::Prewarm { database, node });
            }
        }
    }
}
