//! The answer to a hold or a release, as one line for a log.

use std::fmt::Write as _;

use super::table::one_line;
use crate::report::{HoldAnswer, HoldOutcome};

/// One line: what it came to, in which databases, how long it took, and what else there is to say.
/// `member` is the one that is about to stop.
pub fn hold_answer(answer: &HoldAnswer, member: Option<&str>) -> String {
    let held = answer.held.join(", ");
    let what = match answer.outcome {
        HoldOutcome::Held => format!("writes are held in {held}"),
        HoldOutcome::Partly if held.is_empty() => {
            "writes are held on some entry nodes only".to_owned()
        }
        HoldOutcome::Partly => format!("writes are held only in {held}"),
        HoldOutcome::NotHeld => "not held".to_owned(),
        HoldOutcome::NotTheLeader => match member.filter(|_| answer.message.is_empty()) {
            Some(member) => format!("nothing to hold, {member} does not lead"),
            None => "nothing to hold".to_owned(),
        },
        HoldOutcome::Released => "released".to_owned(),
        HoldOutcome::NothingHeld => "nothing was held".to_owned(),
        HoldOutcome::Refused => "refused".to_owned(),
    };
    let mut text = format!("group {} ({}): {what}", answer.group, answer.scope);
    // Writing to a String cannot fail, here and below.
    if let Some(address) = &answer.reads_moved_to {
        let _ = write!(text, ", reads are at {address}");
    }
    let _ = write!(text, " ({} ms)", answer.took_ms);
    if !answer.message.is_empty() {
        let _ = write!(text, ": {}", answer.message);
    }
    if !answer.skipped.is_empty() {
        let _ = write!(text, "; skipped: {}", answer.skipped.join(", "));
    }
    one_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_one_line() {
        let answer = |outcome| HoldAnswer {
            formation: "cn".to_owned(),
            group: 1,
            scope: "wk1".to_owned(),
            outcome,
            held: vec![],
            reads_moved_to: None,
            took_ms: 12,
            skipped: vec![],
            message: String::new(),
        };
        let held = ["app".to_owned(), "shop".to_owned()];
        let whole = HoldAnswer {
            held: held.to_vec(),
            reads_moved_to: Some("10.0.1.2:5432".parse().unwrap()),
            ..answer(HoldOutcome::Held)
        };
        let partly = HoldAnswer {
            held: held[..1].to_vec(),
            skipped: vec!["10.0.2.1:5432: no answer\nwithin 300 ms".to_owned()],
            message: "shop: FATAL: too many connections".to_owned(),
            ..answer(HoldOutcome::Partly)
        };
        let late = HoldAnswer {
            message: "no answer within 20 ms".to_owned(),
            ..answer(HoldOutcome::NotHeld)
        };
        let other = HoldAnswer {
            message: "wk1-2 does not lead, wk1-1 does".to_owned(),
            ..answer(HoldOutcome::NotTheLeader)
        };
        let mut lines = vec![
            hold_answer(&whole, None),
            hold_answer(&partly, None),
            hold_answer(&late, None),
            hold_answer(&answer(HoldOutcome::NotTheLeader), Some("wk1-2")),
            hold_answer(&other, Some("wk1-2")),
        ];
        for outcome in [
            HoldOutcome::Released,
            HoldOutcome::NothingHeld,
            HoldOutcome::Refused,
        ] {
            lines.push(hold_answer(&answer(outcome), None));
        }
        insta::assert_snapshot!(lines.join("\n"));
    }
}
