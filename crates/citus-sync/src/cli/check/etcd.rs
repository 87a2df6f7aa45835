//! Each endpoint of etcd on its own: the daemon uses one at a time, so a dead one among them shows
//! only when it is needed.

use std::collections::BTreeSet;

use dcs_watch::client::{ListError, Settings, list_once};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::cli::snapshot::Views;
use citus_core::render::{Finding, counted};

type Answer = Result<Views, ListError>;

/// Lists everything through every endpoint at once, and gives the first complete list.
pub(super) async fn ask(settings: &Settings) -> (Vec<Finding>, Option<Views>) {
    let questions = settings.endpoints.iter().map(async |endpoint| {
        let mut settings = settings.clone();
        settings.endpoints = vec![endpoint.clone()];
        // Each page has its own deadline; this one is for a list that never ends.
        let limit = settings.request_timeout * 4;
        let answer = timeout(limit, list_once(&settings))
            .await
            .unwrap_or_else(|_| {
                let error = format!("the list was not complete after {} s", limit.as_secs());
                Err(ListError::Unreachable {
                    tried: vec![(endpoint.clone(), error)],
                })
            });
        (endpoint.clone(), answer)
    });
    let answers: Vec<(String, Answer)> = join_all(questions).await;
    let found = judge(settings, &answers);
    (
        found,
        answers.into_iter().find_map(|(_, answer)| answer.ok()),
    )
}

fn judge(settings: &Settings, answers: &[(String, Answer)]) -> Vec<Finding> {
    let any = answers.iter().any(|(_, answer)| answer.is_ok());
    let mut found: Vec<Finding> = Vec::new();
    for (endpoint, answer) in answers {
        let what = format!("etcd {}", endpoint.trim_start_matches("http://"));
        found.push(match answer {
            Ok(views) => {
                let namespace = settings.namespace.as_str();
                let scopes = views.values().filter(|view| view.exists()).count();
                Finding::pass(
                    what,
                    format!(
                        "answers; {} under {namespace}",
                        counted(scopes, "Patroni scope", "Patroni scopes")
                    ),
                )
            }
            Err(error @ (ListError::Unreachable { .. } | ListError::Settings(_))) => {
                let detail = match error {
                    ListError::Unreachable { tried } if tried.len() == 1 => tried[0].1.clone(),
                    other => other.to_string(),
                };
                let fix = "start etcd there, open the way to it, or correct `etcd.endpoints`";
                if any {
                    let detail = format!("{detail}; the other endpoints are used meanwhile");
                    Finding::warn(what, detail, fix)
                } else {
                    Finding::fail(what, detail, fix)
                }
            }
            // Their texts say what to do.
            Err(error @ (ListError::AuthFailed { .. } | ListError::Empty { .. })) => {
                Finding::fail(what, error.to_string(), "")
            }
        });
    }
    if !any {
        found.push(Finding::fail(
            "everything else",
            "could not be looked at: the leaders are in etcd",
            "fix etcd first, then look again",
        ));
    }
    found.extend(two_clusters(answers));
    found
}

/// Endpoints of one cluster list the same scopes.
fn two_clusters(answers: &[(String, Answer)]) -> Option<Finding> {
    let listed = answers.iter().filter_map(|(endpoint, answer)| {
        let views = answer.as_ref().ok()?;
        let scopes: BTreeSet<_> = views
            .values()
            .filter(|view| view.exists())
            .map(|view| &view.scope)
            .collect();
        Some((endpoint, scopes))
    });
    let listed: Vec<_> = listed.collect();
    let (first, scopes) = listed.first()?;
    let (other, _) = listed.iter().find(|(_, theirs)| theirs != scopes)?;
    Some(Finding::fail(
        "etcd",
        format!("{first} and {other} list different scopes: they are not of one etcd cluster"),
        "name only the members of the cluster that Patroni uses under `etcd.endpoints`",
    ))
}

#[cfg(test)]
mod tests {
    use dcs_watch::ScopeView;

    use super::*;
    use citus_core::render::Verdict;

    fn settings() -> Settings {
        Settings::new(vec![
            "http://10.0.0.1:2379".to_owned(),
            "http://10.0.0.2:2379".to_owned(),
        ])
    }

    fn views(names: &[&str]) -> Views {
        names
            .iter()
            .map(|name| {
                let mut view = ScopeView::empty(name.parse().unwrap());
                view.system = Some(dcs_watch::Versioned {
                    value: dcs_watch::SystemId(1),
                    mod_revision: 1,
                    create_revision: 1,
                });
                (view.scope.clone(), view)
            })
            .collect()
    }

    fn unreachable(endpoint: &str) -> Answer {
        let tried = vec![(endpoint.to_owned(), "connection refused".to_owned())];
        Err(ListError::Unreachable { tried })
    }

    fn verdicts(answers: &[Answer]) -> Vec<(Verdict, String)> {
        let named: Vec<(String, Answer)> = settings()
            .endpoints
            .into_iter()
            .zip(answers.iter().cloned())
            .collect();
        judge(&settings(), &named)
            .into_iter()
            .map(|found| (found.verdict, found.detail))
            .collect()
    }

    #[test]
    fn one_dead_endpoint_of_two_is_a_warning() {
        let found = verdicts(&[
            unreachable("http://10.0.0.1:2379"),
            Ok(views(&["cn", "wk1"])),
        ]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].0, Verdict::Warn);
        assert!(found[0].1.contains("connection refused"), "{found:?}");
        assert_eq!(found[1].0, Verdict::Pass);
        assert!(
            found[1].1.contains("2 Patroni scopes under /service/"),
            "{found:?}"
        );
    }

    #[test]
    fn without_etcd_the_scopes_are_not_looked_at() {
        let dead = unreachable("http://10.0.0.1:2379");
        let found = verdicts(&[dead.clone(), dead]);
        assert_eq!(
            [found[0].0, found[1].0, found[2].0],
            [Verdict::Fail, Verdict::Fail, Verdict::Fail]
        );
        assert!(found[2].1.contains("could not be looked at"), "{found:?}");
    }

    #[test]
    fn endpoints_of_two_etcd_clusters_fail() {
        let found = verdicts(&[Ok(views(&["cn"])), Ok(views(&["cn", "wk1"]))]);
        assert_eq!(found[2].0, Verdict::Fail);
        assert!(found[2].1.contains("not of one etcd cluster"), "{found:?}");
        assert_eq!(verdicts(&[Ok(views(&["cn"])), Ok(views(&["cn"]))]).len(), 2);
    }
}
