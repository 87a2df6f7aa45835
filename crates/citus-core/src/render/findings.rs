//! What `check` found, one line each.

use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::table::{name, one_line};

/// How a thing that was looked at is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// It works, but something will surprise the operator some day.
    Warn,
    /// `run` could not do its work like this.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What was looked at: a scope, a database, a group.
    pub what: String,
    /// What was seen.
    pub detail: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn pass(what: impl Into<String>, detail: impl Into<String>) -> Self {
        let (what, detail) = (what.into(), detail.into());
        Self {
            verdict: Verdict::Pass,
            what,
            detail,
            fix: None,
        }
    }

    /// Something to know of.
    pub fn warn(
        what: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Warn,
            ..Self::fail(what, detail, fix)
        }
    }

    /// Something to fix. An empty `fix` is none: the detail has said it already.
    pub fn fail(
        what: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let fix = Some(fix.into()).filter(|fix| !fix.is_empty());
        Self {
            verdict: Verdict::Fail,
            what: what.into(),
            detail: detail.into(),
            fix,
        }
    }
}

/// Every finding on a line of its own, `verdict  what  — detail; fix`, and how many of each there
/// are at the end.
pub fn findings(findings: &[Finding]) -> String {
    let width = findings
        .iter()
        .map(|found| name(&found.what).chars().count())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for Finding {
        verdict,
        what,
        detail,
        fix,
    } in findings
    {
        // Writing to a String cannot fail.
        let (what, detail) = (name(what), one_line(detail));
        let _ = write!(text, "{verdict}  {what:<width$}  — {detail}");
        if let Some(fix) = fix {
            let _ = write!(text, "; {}", one_line(fix));
        }
        text.push('\n');
    }
    let count = |verdict| {
        findings
            .iter()
            .filter(|found| found.verdict == verdict)
            .count()
    };
    let (pass, warn, fail) = (
        count(Verdict::Pass),
        count(Verdict::Warn),
        count(Verdict::Fail),
    );
    let _ = writeln!(text, "\n{pass} pass, {warn} warn, {fail} fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_is_one_line() {
        let found = [
            Finding::pass(
                "configuration",
                "citus-sync.yml: coordinator cn, 2 worker groups",
            ),
            Finding::warn(
                "scope wk1",
                "Patroni is paused",
                "resume it: patronictl resume wk1",
            ),
            Finding::fail(
                "database shop",
                "FATAL: database \"shop\" does not exist\nline two",
                "create it, or take it out of `databases`",
            ),
            Finding::fail("group 3", "nobody there; start Patroni there", ""),
        ];
        insta::assert_snapshot!(findings(&found));
    }

    #[test]
    fn verdicts_are_plain_words_in_json() {
        let json = serde_json::to_value(Finding::pass("a", "b")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"verdict": "pass", "what": "a", "detail": "b", "fix": null})
        );
    }
}
