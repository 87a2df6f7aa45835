//! Answers of servers that no test machine has, for the tests of the judges.

use std::collections::BTreeMap;

use crate::session::SqlError;
use crate::session::inspect::Facts;
use citus_core::config::{Coordinator, Password};
use citus_core::render::Finding;

/// A coordinator with one database, and the role `sync`.
pub(super) fn coordinator() -> Coordinator {
    Coordinator {
        scope: "cn".parse().unwrap(),
        databases: vec!["app".to_owned()],
        user: "sync".to_owned(),
        password: Password::None,
    }
}

/// A server with usual settings and these.
pub(super) fn server(settings: &[(&str, &str)]) -> Facts {
    let usual = [
        ("statement_timeout", "10000"),
        ("lock_timeout", "2000"),
        ("idle_session_timeout", "0"),
        ("max_worker_processes", "8"),
    ];
    let settings: BTreeMap<String, String> = usual
        .iter()
        .chain(settings)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Facts {
        superuser: false,
        signals: false,
        settings,
        sees_settings: true,
        workers_running: Some(3),
        citus: Err(SqlError::Answer("not asked".to_owned())),
    }
}

/// What a finding says, and its fix.
pub(super) fn text(finding: &Finding) -> String {
    format!(
        "{}; {}",
        finding.detail,
        finding.fix.clone().unwrap_or_default()
    )
}
