//! What would be changed now, one line a group and database.

use std::fmt::Write as _;

use dcs_watch::HostPort;
use serde::{Deserialize, Serialize};

use super::{Table, counted};
use crate::plan::Rule;

/// One group in one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanLine {
    /// The Citus cluster's name.
    pub formation: String,
    /// Citus `groupid`.
    pub group: u32,
    /// Its Patroni scope; none while no scope could be given to the group.
    pub scope: Option<String>,
    /// The member that holds the leader key.
    pub leader: Option<String>,
    /// Where it is.
    pub address: Option<HostPort>,
    /// The database; none where the scope is not known.
    pub database: Option<String>,
    /// Where the group's primary row points.
    pub row: Option<HostPort>,
    /// Which row of the decision table matched.
    pub rule: Option<Rule>,
    /// What would be done, in words.
    pub step: String,
    /// Whether it would change `pg_dist_node`.
    pub changes: bool,
    /// Why nothing could be decided.
    pub undecided: Option<String>,
}

/// The lines as a table, and what they come to.
pub fn plan(lines: &[PlanLine]) -> String {
    let many = lines
        .iter()
        .any(|line| line.formation != lines[0].formation);
    let mut text = String::new();
    let mut rest = lines;
    while let Some(first) = rest.first() {
        let end = rest
            .iter()
            .position(|line| line.formation != first.formation);
        let (own, others) = rest.split_at(end.unwrap_or(rest.len()));
        if many {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "formation {}", first.formation);
        }
        text.push_str(&table(own).render());
        if !others.is_empty() {
            text.push('\n');
        }
        rest = others;
    }
    let changes = lines.iter().filter(|line| line.changes).count();
    let undecided = lines.iter().filter(|line| line.undecided.is_some()).count();
    let waits = lines
        .iter()
        .filter(|line| line.undecided.is_none() && line.step.starts_with("wait"))
        .count();
    let _ = write!(text, "\n{}", counted(changes, "row", "rows"));
    text.push_str(" would change");
    if waits > 0 {
        let _ = write!(text, ", {} would wait", counted(waits, "row", "rows"));
    }
    if undecided > 0 {
        let _ = write!(text, ", {undecided} could not be decided");
    }
    text.push_str("; nothing was changed\n");
    text
}

fn table(lines: &[PlanLine]) -> Table {
    let mut table = Table::new(&[
        "GROUP", "SCOPE", "LEADER", "ADDRESS", "DATABASE", "ROW", "STEP",
    ]);
    for line in lines {
        let address = |address: &Option<HostPort>| {
            address
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        table.row([
            line.group.to_string(),
            line.scope.clone().unwrap_or_default(),
            line.leader.clone().unwrap_or_default(),
            address(&line.address),
            line.database.clone().unwrap_or_default(),
            address(&line.row),
            match &line.undecided {
                Some(why) => format!("cannot tell: {why}"),
                None => line.step.clone(),
            },
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(group: u32, scope: &str, database: &str) -> PlanLine {
        let address = Some(HostPort {
            host: format!("10.0.{group}.1"),
            port: 5432,
        });
        PlanLine {
            formation: "cn".to_owned(),
            group,
            scope: Some(scope.to_owned()),
            leader: Some(format!("{scope}-1")),
            address: address.clone(),
            database: Some(database.to_owned()),
            row: address,
            rule: Some(Rule::InSync),
            step: "in sync".to_owned(),
            changes: false,
            undecided: None,
        }
    }

    #[test]
    fn a_plan_says_what_moves_what_waits_and_what_it_cannot_tell() {
        let old = HostPort {
            host: "10.0.1.2".to_owned(),
            port: 5432,
        };
        let lines = [
            line(0, "cn", "app"),
            PlanLine {
                row: Some(old),
                rule: Some(Rule::Move),
                step: "move node 2 from 10.0.1.2:5432 to 10.0.1.1:5432".to_owned(),
                changes: true,
                ..line(1, "wk1", "app")
            },
            PlanLine {
                rule: Some(Rule::Promoting),
                step: "wait: the leader at 10.0.2.1:5432 is still in recovery".to_owned(),
                ..line(2, "wk2", "app")
            },
            PlanLine {
                scope: None,
                leader: None,
                address: None,
                database: None,
                row: None,
                rule: None,
                step: String::new(),
                undecided: Some("no Patroni scope has a member at 10.0.3.1:5432".to_owned()),
                ..line(3, "", "")
            },
        ];
        insta::assert_snapshot!(plan(&lines));
    }

    #[test]
    fn several_formations_are_kept_apart() {
        let other = PlanLine {
            formation: "eu".to_owned(),
            ..line(0, "eu-cn", "app")
        };
        insta::assert_snapshot!(plan(&[line(0, "cn", "app"), other]));
    }
}
