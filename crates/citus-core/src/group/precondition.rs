//! What has to be so right before a step changes something. Enters: what was known when it was decided,
//! and what is known then. Leaves: whether the step is still right.

use std::time::Instant;

use dcs_watch::{Freshness, ScopeView};

/// The news that a step was decided on: when it changed, the step is not carried out any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precondition {
    /// Not decided while etcd was silent.
    fresh: bool,
    lineage: u64,
    leader: Option<i64>,
    request: Option<i64>,
    sync: Option<i64>,
}

impl Precondition {
    /// What was known when a step was decided.
    pub fn of(view: &ScopeView) -> Self {
        Self {
            fresh: view.freshness == Freshness::Fresh,
            lineage: view.lineage,
            leader: view.leader.as_ref().map(|leader| leader.mod_revision),
            request: view.failover.as_ref().map(|request| request.mod_revision),
            sync: view.sync.as_ref().map(|sync| sync.mod_revision),
        }
    }

    /// Whether the same leader still has its key. A move stands on that alone: Patroni clears the
    /// request, and writes down other standbys, right after it.
    pub fn still_leads(self, view: &ScopeView) -> bool {
        let now = Self::of(view);
        (now.fresh || !self.fresh) && (now.lineage, now.leader) == (self.lineage, self.leader)
    }

    /// Whether nothing of it has changed.
    fn still_stands(self, view: &ScopeView) -> bool {
        view.freshness == Freshness::Fresh && Self::of(view) == self
    }
}

/// What a read move stands on: a hold that has not come to its end, or a leader that is still lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPrecondition {
    /// Nothing of the news that it was decided on has changed.
    pub news: Precondition,
    /// When what is held ends.
    pub deadline: Option<Instant>,
    /// Whether the member that reads are moved from was lost.
    pub lost: bool,
}

impl ReadPrecondition {
    /// Whether it is still right, with what is known now.
    pub fn still_stands(&self, view: &ScopeView, lost: bool, now: Instant) -> bool {
        self.news.still_stands(view)
            && self.deadline.is_none_or(|deadline| now < deadline)
            && self.lost == lost
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dcs_watch::{FailoverRequest, ScopeId, SyncState, Versioned};

    use super::super::clock::zero;
    use super::*;

    fn versioned<T>(value: T, revision: i64) -> Versioned<T> {
        Versioned {
            value,
            mod_revision: revision,
            create_revision: 1,
        }
    }

    fn view() -> ScopeView {
        let mut view = ScopeView::empty(ScopeId::new("wk1"));
        view.freshness = Freshness::Fresh;
        view.leader = Some(versioned("wk1-1".to_owned(), 7));
        view.failover = Some(versioned(request(), 8));
        view.sync = Some(versioned(sync(), 9));
        view
    }

    fn request() -> FailoverRequest {
        FailoverRequest {
            leader: Some("wk1-1".to_owned()),
            candidate: None,
            scheduled_at: None,
        }
    }

    fn sync() -> SyncState {
        SyncState {
            leader: Some("wk1-1".to_owned()),
            standbys: vec!["wk1-2".to_owned()],
            quorum: 0,
        }
    }

    /// The news that may come while a step is under way, and whether a move is right all the same.
    fn all_news() -> Vec<(&'static str, bool, ScopeView)> {
        let with = |change: fn(&mut ScopeView)| {
            let mut view = view();
            change(&mut view);
            view
        };
        vec![
            ("none", true, view()),
            (
                "etcd is silent",
                false,
                with(|view| {
                    view.freshness = Freshness::Stale {
                        reason: "silent".to_owned(),
                    };
                }),
            ),
            ("another etcd", false, with(|view| view.lineage += 1)),
            ("no leader", false, with(|view| view.leader = None)),
            (
                "another leader",
                false,
                with(|view| view.leader = Some(versioned("wk1-2".to_owned(), 10))),
            ),
            (
                "the leader took its key again",
                false,
                with(|view| view.leader = Some(versioned("wk1-1".to_owned(), 10))),
            ),
            (
                "the request is gone",
                true,
                with(|view| view.failover = None),
            ),
            (
                "another request",
                true,
                with(|view| view.failover = Some(versioned(request(), 10))),
            ),
            (
                "other standbys",
                true,
                with(|view| view.sync = Some(versioned(sync(), 10))),
            ),
        ]
    }

    #[test]
    fn a_move_stands_on_its_leader_key_and_nothing_else() {
        for (news, right, now) in all_news() {
            assert_eq!(Precondition::of(&view()).still_leads(&now), right, "{news}");
        }
    }

    #[test]
    fn a_read_move_stands_on_all_that_was_known() {
        let now = zero();
        let precondition = ReadPrecondition {
            news: Precondition::of(&view()),
            deadline: Some(now + Duration::from_millis(1)),
            lost: false,
        };
        for (news, _, view) in all_news() {
            assert_eq!(
                precondition.still_stands(&view, false, now),
                news == "none",
                "{news}"
            );
        }
    }

    #[test]
    fn a_read_move_ends_with_its_hold_and_with_the_loss_that_it_was_made_for() {
        let (view, now) = (view(), zero());
        let news = Precondition::of(&view);
        let (deadline, after) = (Some(now), now + Duration::from_millis(1));
        let held = |now| {
            let lost = false;
            ReadPrecondition {
                news,
                deadline,
                lost,
            }
            .still_stands(&view, lost, now)
        };
        assert!(!held(now), "its deadline has come");
        assert!(!held(after));
        let lost = ReadPrecondition {
            news,
            deadline: None,
            lost: true,
        };
        assert!(lost.still_stands(&view, true, after));
        assert!(!lost.still_stands(&view, false, after), "it answers again");
        let planned = ReadPrecondition {
            lost: false,
            ..lost
        };
        assert!(
            !planned.still_stands(&view, true, after),
            "it is lost meanwhile"
        );
    }
}
