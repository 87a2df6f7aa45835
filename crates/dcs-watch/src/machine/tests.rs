//! Every transition of the machine.

use super::*;
use crate::event::Record;

const TIMING: Timing = Timing {
    progress_every: Duration::from_secs(2),
    silence_after: Duration::from_secs(7),
    relist_every: Duration::from_secs(600),
};

fn head(revision: i64) -> Header {
    Header {
        cluster_id: 1,
        member_id: 1,
        revision,
        raft_term: 5,
    }
}

fn record(key: &str, revision: i64) -> Record {
    Record {
        key: key.into(),
        mod_revision: revision,
        version: 1,
        ..Record::default()
    }
}

fn put(revision: i64) -> Event {
    Event::Put(record("k", revision))
}

fn events(revision: i64, of: &[i64]) -> Input {
    Input::Events {
        header: head(revision),
        events: of.iter().copied().map(put).collect(),
    }
}

fn page(revision: i64, keys: &[&str], more: bool) -> Input {
    let records = keys.iter().map(|key| record(key, 1)).collect();
    Input::Page {
        header: head(revision),
        records,
        more,
    }
}

fn failed() -> Input {
    Input::Failed {
        error: "it broke".into(),
    }
}

fn canceled(compact_revision: i64) -> Input {
    Input::Canceled {
        compact_revision,
        reason: String::new(),
    }
}

fn answer(revision: i64) -> Input {
    Input::Progress {
        header: head(revision),
        ordered: false,
    }
}

/// A machine with a clock that only the test moves.
struct Harness {
    machine: Machine,
    now: Duration,
}

impl Harness {
    fn new() -> Self {
        Self {
            machine: Machine::default(),
            now: Duration::from_secs(100),
        }
    }

    /// Started, connected, listed at 10, opened with etcd at 10.
    fn watching() -> Self {
        let mut harness = Self::listed(10);
        harness.feed(Input::Opened { header: head(10) });
        harness
    }

    fn listed(revision: i64) -> Self {
        let mut harness = Self::new();
        harness.feed(Input::Start);
        harness.feed(Input::Connected);
        harness.feed(page(revision, &["k"], false));
        harness
    }

    fn feed(&mut self, input: Input) -> Vec<Output> {
        let (machine, out) = step(self.machine.clone(), input, self.now, &TIMING);
        self.machine = machine;
        out
    }

    fn wait(&mut self, millis: u64) -> &mut Self {
        self.now += Duration::from_millis(millis);
        self
    }

    /// What is to be done, without what is to be reported.
    fn actions(&mut self, input: Input) -> Vec<Output> {
        let out = self.feed(input);
        out.into_iter()
            .filter(|out| !matches!(out, Output::Status(_)))
            .collect()
    }

    fn statuses(&mut self, input: Input) -> Vec<StreamStatus> {
        self.feed(input)
            .into_iter()
            .filter_map(|out| {
                if let Output::Status(status) = out {
                    Some(status)
                } else {
                    None
                }
            })
            .collect()
    }

    fn assert_relists(&mut self, input: Input, reason: Reason) {
        let out = self.feed(input);
        assert!(
            out.contains(&Output::Status(StreamStatus::Listing { reason })),
            "{out:?}"
        );
        assert!(
            out.iter().any(|out| matches!(out, Output::List { .. })),
            "{out:?}"
        );
        assert!(
            matches!(self.machine.state, State::Listing { reason: now, .. } if now == reason),
            "{:?}",
            self.machine.state
        );
    }

    fn state(&self) -> &State {
        &self.machine.state
    }
}

const RECONNECT: Output = Output::Connect {
    rotate: true,
    pause: true,
};

#[test]
fn the_machine_connects_lists_opens_and_watches() {
    let mut harness = Harness::new();
    assert_eq!(
        harness.feed(Input::Start),
        [Output::Connect {
            rotate: false,
            pause: false
        }]
    );
    harness.assert_relists(Input::Connected, Reason::First);
    let out = harness.actions(page(10, &["a", "b"], false));
    assert_eq!(
        out,
        [
            Output::Event(Event::Init),
            Output::Event(Event::InitPut(record("a", 1))),
            Output::Event(Event::InitPut(record("b", 1))),
            Output::Event(Event::InitDone { revision: 10 }),
            Output::Open { from: 10 },
        ]
    );
    assert_eq!(
        harness.statuses(Input::Opened { header: head(10) }),
        [StreamStatus::Fresh]
    );
    assert!(matches!(
        harness.state(),
        State::Watching(Watching {
            after: 10,
            delivered: None,
            behind: None,
            ..
        })
    ));
}

#[test]
fn a_list_in_pages_is_taken_at_one_revision_and_delivered_as_one() {
    let mut harness = Harness::new();
    harness.feed(Input::Start);
    harness.feed(Input::Connected);
    let out = harness.actions(page(10, &["a", "b"], true));
    assert_eq!(out.first(), Some(&Output::Event(Event::Init)));
    assert_eq!(
        out.last(),
        Some(&Output::NextPage {
            revision: 10,
            after: "b".into()
        })
    );
    assert!(
        !out.iter()
            .any(|out| matches!(out, Output::Event(Event::InitDone { .. })))
    );
    // Meanwhile etcd went on; the list is still that of revision 10.
    let out = harness.actions(page(15, &["c"], false));
    assert_eq!(
        out,
        [
            Output::Event(Event::InitPut(record("c", 1))),
            Output::Event(Event::InitDone { revision: 10 }),
            Output::Open { from: 10 },
        ]
    );
}

#[test]
fn a_page_that_says_more_but_is_empty_ends_the_list() {
    let mut harness = Harness::new();
    harness.feed(Input::Start);
    harness.feed(Input::Connected);
    let out = harness.actions(page(10, &[], true));
    assert_eq!(out.last(), Some(&Output::Open { from: 10 }));
}

#[test]
fn the_view_is_fresh_only_once_the_watch_is_confirmed() {
    let mut harness = Harness::new();
    harness.feed(Input::Start);
    harness.feed(Input::Connected);
    assert!(
        !harness
            .statuses(page(10, &["k"], false))
            .contains(&StreamStatus::Fresh)
    );
    assert!(!harness.machine.known.fresh);
    harness.feed(Input::Opened { header: head(10) });
    assert!(harness.machine.known.fresh);
}

#[test]
fn events_are_passed_on_and_repeated_ones_are_dropped() {
    let mut harness = Harness::watching();
    let out = harness.feed(events(12, &[9, 10, 11, 12]));
    assert_eq!(out, [Output::Event(put(11)), Output::Event(put(12))]);
    assert!(matches!(
        harness.state(),
        State::Watching(Watching {
            delivered: Some(12),
            ..
        })
    ));
    assert_eq!(harness.feed(events(12, &[10])), []);
    assert!(matches!(
        harness.state(),
        State::Watching(Watching {
            delivered: Some(12),
            ..
        })
    ));
}

#[test]
fn events_that_a_watch_repeats_do_not_count_as_delivered() {
    let mut harness = Harness::watching();
    harness.feed(events(10, &[10]));
    assert!(matches!(
        harness.state(),
        State::Watching(Watching {
            delivered: None,
            ..
        })
    ));
}

#[test]
fn deletes_are_passed_on_like_puts() {
    let mut harness = Harness::watching();
    let delete = Event::Delete(record("k", 11));
    let out = harness.feed(Input::Events {
        header: head(11),
        events: vec![delete.clone()],
    });
    assert_eq!(out, [Output::Event(delete)]);
}

#[test]
fn a_failed_connection_is_tried_anew_at_the_next_endpoint() {
    let mut harness = Harness::new();
    harness.feed(Input::Start);
    assert_eq!(harness.actions(failed()), [RECONNECT]);
    assert_eq!(harness.actions(failed()), [RECONNECT]);
    harness.assert_relists(Input::Connected, Reason::First);
}

#[test]
fn a_failed_list_begins_anew_even_half_way() {
    let mut harness = Harness::new();
    harness.feed(Input::Start);
    harness.feed(Input::Connected);
    harness.feed(page(10, &["a"], true));
    assert_eq!(harness.actions(failed()), [RECONNECT]);
    harness.assert_relists(Input::Connected, Reason::First);
    assert_eq!(
        harness.actions(page(12, &["a"], false))[0],
        Output::Event(Event::Init)
    );
}

#[test]
fn a_stream_that_broke_is_resumed_from_what_it_delivered() {
    let mut harness = Harness::watching();
    harness.feed(events(14, &[12, 14]));
    assert_eq!(harness.actions(failed()), [RECONNECT]);
    assert_eq!(harness.feed(Input::Connected), [Output::Open { from: 14 }]);
    assert_eq!(
        harness.statuses(Input::Opened { header: head(14) }),
        [StreamStatus::Resumed { after: 14 }]
    );
    assert_eq!(
        harness.feed(events(15, &[14, 15])),
        [Output::Event(put(15))]
    );
}

#[test]
fn a_stream_that_broke_before_it_delivered_is_not_resumed() {
    let mut harness = Harness::watching();
    assert_eq!(harness.actions(failed()), [RECONNECT]);
    harness.assert_relists(Input::Connected, Reason::Disconnected);
}

#[test]
fn requested_progress_gives_no_revision_to_resume_from() {
    let mut harness = Harness::watching();
    harness.feed(answer(50));
    harness.feed(failed());
    harness.assert_relists(Input::Connected, Reason::Disconnected);

    let mut harness = Harness::watching();
    harness.feed(events(14, &[14]));
    harness.feed(answer(50));
    harness.feed(failed());
    assert_eq!(harness.feed(Input::Connected), [Output::Open { from: 14 }]);
}

#[test]
fn ordered_progress_gives_a_revision_to_resume_from() {
    let mut harness = Harness::watching();
    harness.feed(Input::Progress {
        header: head(50),
        ordered: true,
    });
    harness.feed(failed());
    assert_eq!(harness.feed(Input::Connected), [Output::Open { from: 50 }]);
}

#[test]
fn ordered_progress_never_lowers_the_revision_to_resume_from() {
    let mut harness = Harness::watching();
    harness.feed(events(20, &[20]));
    harness.feed(Input::Progress {
        header: head(15),
        ordered: true,
    });
    harness.feed(failed());
    assert_eq!(harness.feed(Input::Connected), [Output::Open { from: 20 }]);
}

#[test]
fn a_resume_that_fails_is_tried_again_from_the_same_revision() {
    let mut harness = Harness::watching();
    harness.feed(events(14, &[14]));
    harness.feed(failed());
    harness.feed(failed());
    harness.feed(Input::Connected);
    assert_eq!(harness.actions(failed()), [RECONNECT]);
    assert_eq!(harness.feed(Input::Connected), [Output::Open { from: 14 }]);
    harness.feed(Input::Opened { header: head(14) });
    // Opened and broken at once: still the same revision.
    harness.feed(failed());
    assert_eq!(harness.feed(Input::Connected), [Output::Open { from: 14 }]);
}

#[test]
fn an_opening_after_a_list_that_fails_lists_anew() {
    let mut harness = Harness::listed(10);
    assert_eq!(harness.actions(failed()), [RECONNECT]);
    harness.assert_relists(Input::Connected, Reason::Disconnected);
}

#[test]
fn compaction_lists_anew_on_the_same_connection() {
    let mut harness = Harness::watching();
    harness.assert_relists(canceled(40), Reason::Compacted);

    let mut harness = Harness::watching();
    harness.feed(events(14, &[14]));
    harness.feed(failed());
    harness.feed(Input::Connected);
    harness.assert_relists(canceled(40), Reason::Compacted);
    assert!(matches!(
        harness.actions(page(50, &["k"], false)).last(),
        Some(Output::Open { from: 50 })
    ));
}

#[test]
fn a_canceled_watch_lists_anew_after_a_pause_and_reports_why() {
    let mut harness = Harness::watching();
    let out = harness.feed(canceled(0));
    assert!(
        matches!(&out[0], Output::Status(StreamStatus::Broken { error }) if error.contains("canceled"))
    );
    assert_eq!(out.last(), Some(&Output::List { pause: true }));

    let mut harness = Harness::listed(10);
    harness.assert_relists(
        Input::Canceled {
            compact_revision: 0,
            reason: "permission denied".into(),
        },
        Reason::Canceled,
    );
}

#[test]
fn progress_is_requested_only_after_a_quiet_time() {
    let mut harness = Harness::watching();
    assert_eq!(harness.wait(1_999).feed(Input::Tick), []);
    assert_eq!(harness.wait(1).feed(Input::Tick), [Output::AskProgress]);
    assert_eq!(
        harness.wait(1).feed(Input::Tick),
        [],
        "not twice for the same quiet"
    );
    assert_eq!(harness.wait(2_000).feed(Input::Tick), [Output::AskProgress]);
    harness.feed(events(11, &[11]));
    assert_eq!(
        harness.wait(1_999).feed(Input::Tick),
        [],
        "events are life enough"
    );
}

#[test]
fn answers_keep_a_quiet_view_fresh() {
    let mut harness = Harness::watching();
    for _ in 0..20 {
        assert_eq!(harness.wait(2_000).feed(Input::Tick), [Output::AskProgress]);
        assert_eq!(harness.feed(answer(10)), []);
    }
    assert!(harness.machine.known.fresh);
}

#[test]
fn silence_makes_the_view_stale_and_a_list_makes_it_fresh_again() {
    let mut harness = Harness::watching();
    assert_eq!(
        harness.wait(7_000).actions(Input::Tick),
        [Output::AskProgress],
        "the limit itself is fine"
    );
    let out = harness.wait(1).feed(Input::Tick);
    assert!(
        matches!(&out[0], Output::Status(StreamStatus::Stale { .. })),
        "{out:?}"
    );
    assert_eq!(out[1..], [RECONNECT]);
    assert_eq!(harness.wait(60_000).feed(Input::Tick), [], "reported once");
    harness.assert_relists(Input::Connected, Reason::Silence);
    harness.feed(page(10, &["k"], false));
    assert_eq!(
        harness.statuses(Input::Opened { header: head(10) }),
        [StreamStatus::Fresh]
    );
}

#[test]
fn silence_after_delivery_still_means_a_list() {
    let mut harness = Harness::watching();
    harness.feed(events(14, &[14]));
    harness.wait(7_001).feed(Input::Tick);
    harness.assert_relists(Input::Connected, Reason::Silence);
}

#[test]
fn the_view_goes_stale_while_reconnecting_and_is_then_not_resumed() {
    let mut harness = Harness::watching();
    harness.feed(events(14, &[14]));
    harness.feed(failed());
    assert!(
        harness
            .wait(7_000)
            .statuses(failed())
            .iter()
            .all(|status| matches!(status, StreamStatus::Broken { .. }))
    );
    assert!(matches!(
        harness.wait(1).statuses(Input::Tick)[..],
        [StreamStatus::Stale { .. }]
    ));
    harness.assert_relists(Input::Connected, Reason::Silence);
}

#[test]
fn a_resume_that_is_confirmed_too_late_lists_instead() {
    let mut harness = Harness::watching();
    harness.feed(events(14, &[14]));
    harness.feed(failed());
    harness.feed(Input::Connected);
    harness.wait(7_001);
    harness.assert_relists(Input::Opened { header: head(14) }, Reason::Silence);
    assert!(!harness.machine.known.fresh);
}

#[test]
fn input_that_waited_in_the_socket_of_a_suspended_process_is_no_sign_of_life() {
    let mut harness = Harness::watching();
    harness.wait(60_000);
    let out = harness.feed(events(11, &[11]));
    assert!(
        matches!(&out[0], Output::Status(StreamStatus::Stale { .. })),
        "{out:?}"
    );
    assert_eq!(out[1..], [RECONNECT]);
    harness.assert_relists(Input::Connected, Reason::Silence);

    let mut harness = Harness::watching();
    let out = harness.wait(60_000).feed(failed());
    assert!(out.contains(&RECONNECT), "{out:?}");
    harness.assert_relists(Input::Connected, Reason::Silence);
}

#[test]
fn a_list_that_grew_old_before_the_watch_opened_is_taken_again() {
    let mut harness = Harness::listed(10);
    harness.wait(7_001);
    harness.assert_relists(Input::Opened { header: head(11) }, Reason::Silence);
    assert!(!harness.machine.known.fresh);
    // Unless etcd has not moved since: then it is as good as new.
    let mut harness = Harness::listed(10);
    harness.wait(7_001);
    assert_eq!(
        harness.statuses(Input::Opened { header: head(10) }),
        [StreamStatus::Fresh]
    );
    assert_eq!(harness.machine.known.heard, Some(harness.now));
}

#[test]
fn a_view_that_was_never_known_does_not_go_stale() {
    let mut harness = Harness::new();
    harness.feed(Input::Start);
    assert_eq!(harness.wait(1_000_000).statuses(Input::Tick), []);
}

#[test]
fn a_resumed_stream_is_no_sign_of_life_until_it_has_caught_up() {
    let mut harness = Harness::watching();
    harness.feed(events(14, &[14]));
    let heard = harness.machine.known.heard;
    harness.feed(failed());
    harness.wait(500).feed(Input::Connected);
    // etcd is at 20: up to six revisions are on their way to us.
    harness.feed(Input::Opened { header: head(20) });
    assert_eq!(harness.machine.known.heard, heard);
    harness.wait(500).feed(answer(20));
    assert_eq!(
        harness.machine.known.heard, heard,
        "an answer may overtake events"
    );
    harness.feed(events(20, &[17]));
    assert_eq!(harness.machine.known.heard, heard, "not all of them");
    harness.feed(events(20, &[20]));
    assert_eq!(harness.machine.known.heard, Some(harness.now));
}

#[test]
fn a_resumed_stream_that_stays_quiet_has_caught_up_after_a_while() {
    let mut harness = Harness::watching();
    harness.feed(events(14, &[14]));
    harness.feed(failed());
    harness.feed(Input::Connected);
    harness.feed(Input::Opened { header: head(20) });
    harness.wait(2_000).feed(answer(20));
    assert_eq!(harness.machine.known.heard, Some(harness.now));

    let mut harness = Harness::listed(10);
    harness.feed(Input::Opened { header: head(20) });
    harness.wait(10).feed(Input::Progress {
        header: head(20),
        ordered: true,
    });
    assert_eq!(
        harness.machine.known.heard,
        Some(harness.now),
        "ordered progress is never early"
    );
}

#[test]
fn a_stream_that_never_catches_up_is_given_up() {
    let mut harness = Harness::watching();
    harness.feed(events(14, &[14]));
    harness.feed(failed());
    harness.feed(Input::Connected);
    harness.feed(Input::Opened { header: head(20) });
    assert!(
        harness
            .wait(7_001)
            .actions(Input::Tick)
            .contains(&RECONNECT)
    );
}

#[test]
fn another_cluster_is_another_lineage() {
    let mut harness = Harness::watching();
    harness.feed(events(14, &[14]));
    harness.feed(failed());
    harness.feed(Input::Connected);
    let other = Header {
        cluster_id: 2,
        ..head(1000)
    };
    harness.assert_relists(Input::Opened { header: other }, Reason::ClusterChanged);
    let out = harness.feed(Input::Page {
        header: other,
        records: vec![],
        more: false,
    });
    assert!(
        matches!(
            &out[0],
            Output::Status(StreamStatus::Lineage { lineage: 1, .. })
        ),
        "{out:?}"
    );
    assert_eq!(
        out[1],
        Output::Event(Event::Init),
        "reported before the list"
    );
    assert_eq!(
        harness.statuses(Input::Opened { header: other }),
        [StreamStatus::Fresh]
    );
    // And that is now the cluster.
    harness.feed(failed());
    harness.feed(Input::Connected);
    let out = harness.feed(Input::Page {
        header: other,
        records: vec![],
        more: false,
    });
    assert!(
        !out.iter()
            .any(|out| matches!(out, Output::Status(StreamStatus::Lineage { .. })))
    );
}

#[test]
fn another_cluster_in_the_middle_of_a_stream_is_noticed() {
    for input in [
        Input::Events {
            header: Header {
                cluster_id: 2,
                ..head(11)
            },
            events: vec![put(11)],
        },
        Input::Progress {
            header: Header {
                cluster_id: 2,
                ..head(11)
            },
            ordered: false,
        },
    ] {
        let mut harness = Harness::watching();
        harness.assert_relists(input, Reason::ClusterChanged);
    }
}

#[test]
fn a_fallen_revision_is_another_lineage_if_a_list_confirms_it() {
    let mut harness = Harness::watching();
    harness.feed(events(14, &[14]));
    harness.feed(failed());
    harness.feed(Input::Connected);
    harness.assert_relists(Input::Opened { header: head(3) }, Reason::RevisionFell);
    assert!(matches!(
        harness.statuses(page(3, &["k"], false))[0],
        StreamStatus::Lineage { lineage: 1, .. }
    ));
    assert_eq!(
        harness.machine.known.revision, 3,
        "measured against the new history from now on"
    );
}

#[test]
fn a_member_that_is_merely_behind_is_no_new_lineage() {
    let mut harness = Harness::watching();
    harness.feed(events(14, &[14]));
    harness.feed(failed());
    harness.feed(Input::Connected);
    harness.assert_relists(Input::Opened { header: head(13) }, Reason::RevisionFell);
    let statuses = harness.statuses(page(14, &["k"], false));
    assert!(
        !statuses
            .iter()
            .any(|status| matches!(status, StreamStatus::Lineage { .. })),
        "{statuses:?}"
    );
}

#[test]
fn a_list_that_is_behind_any_revision_ever_seen_is_another_lineage() {
    // Seen in a sign of life only; it was committed all the same.
    let mut harness = Harness::watching();
    harness.feed(answer(50));
    harness.feed(failed());
    harness.feed(Input::Connected);
    let statuses = harness.statuses(page(49, &["k"], false));
    assert!(
        matches!(statuses[0], StreamStatus::Lineage { lineage: 1, .. }),
        "{statuses:?}"
    );
}

#[test]
fn a_revision_that_falls_below_the_watch_in_the_stream_is_noticed() {
    let mut harness = Harness::watching();
    harness.assert_relists(answer(9), Reason::RevisionFell);
}

#[test]
fn a_lower_term_in_a_stream_is_a_member_that_is_behind() {
    let low = Header {
        raft_term: 4,
        ..head(10)
    };
    let mut harness = Harness::listed(10);
    harness.assert_relists(Input::Opened { header: low }, Reason::TermFell);
    let mut harness = Harness::watching();
    harness.assert_relists(
        Input::Progress {
            header: low,
            ordered: true,
        },
        Reason::TermFell,
    );
    let mut harness = Harness::watching();
    harness.assert_relists(
        Input::Events {
            header: low,
            events: vec![],
        },
        Reason::TermFell,
    );
    // A quorum that answers with the old term is fine, one with a lower term is not the same.
    let statuses = harness.statuses(page(10, &["k"], false));
    assert!(
        !statuses
            .iter()
            .any(|status| matches!(status, StreamStatus::Lineage { .. }))
    );
    harness.feed(failed());
    harness.feed(Input::Connected);
    let statuses = harness.statuses(Input::Page {
        header: low,
        records: vec![],
        more: false,
    });
    assert!(
        matches!(statuses[0], StreamStatus::Lineage { lineage: 1, .. }),
        "{statuses:?}"
    );
    // From then on that term is the measure.
    assert_eq!(
        harness.statuses(Input::Opened { header: low }),
        [StreamStatus::Fresh]
    );
}

#[test]
fn a_term_that_a_lone_member_counts_up_is_not_remembered() {
    let mut harness = Harness::watching();
    harness.feed(Input::Progress {
        header: Header {
            raft_term: 99,
            ..head(10)
        },
        ordered: false,
    });
    harness.feed(failed());
    harness.feed(Input::Connected);
    let statuses = harness.statuses(page(11, &["k"], false));
    assert!(
        !statuses
            .iter()
            .any(|status| matches!(status, StreamStatus::Lineage { .. })),
        "{statuses:?}"
    );
}

#[test]
fn a_gap_lists_anew() {
    let mut harness = Harness::watching();
    harness.feed(events(14, &[14]));
    harness.assert_relists(Input::Gap, Reason::Gap);
    assert_eq!(harness.feed(Input::Gap), [], "once");
}

#[test]
fn everything_is_listed_anew_periodically() {
    let mut harness = Harness::watching();
    for _ in 0..119 {
        harness.wait(5_000).feed(answer(10));
        assert!(
            !harness
                .actions(Input::Tick)
                .contains(&Output::List { pause: false })
        );
    }
    harness.wait(5_000).feed(answer(10));
    harness.assert_relists(Input::Tick, Reason::Timer);
    assert!(harness.machine.known.fresh, "the view is as good as before");
    harness.feed(page(10, &["k"], false));
    harness.feed(Input::Opened { header: head(10) });
    assert_eq!(harness.feed(Input::Tick), [], "and the clock begins anew");
}

#[test]
fn input_that_comes_too_late_changes_nothing() {
    let late = [
        Input::Connected,
        Input::Opened { header: head(10) },
        page(99, &["k"], false),
        Input::Start,
    ];
    for input in late {
        let mut harness = Harness::watching();
        let before = harness.machine.clone();
        assert_eq!(harness.feed(input), []);
        assert_eq!(harness.machine, before);
    }
    let mut harness = Harness::listed(10);
    harness.feed(failed());
    for input in [
        events(11, &[11]),
        answer(11),
        canceled(0),
        Input::Gap,
        Input::Tick,
    ] {
        let before = harness.machine.clone();
        assert_eq!(harness.feed(input), []);
        assert_eq!(harness.machine, before);
    }
    let mut idle = Harness::new();
    assert_eq!(idle.feed(Input::Tick), []);
    assert_eq!(idle.feed(failed()), []);
}

#[test]
fn every_reason_has_its_own_label_and_text() {
    let labels: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.label()).collect();
    let texts: std::collections::HashSet<_> = Reason::ALL.iter().map(Reason::to_string).collect();
    assert_eq!(
        (labels.len(), texts.len()),
        (Reason::ALL.len(), Reason::ALL.len())
    );
}
