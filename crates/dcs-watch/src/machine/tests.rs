//! Every edge of the machine.

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

/// The machine on a bench, with a clock that only the test turns.
struct Bench {
    machine: Machine,
    now: Duration,
}

impl Bench {
    fn new() -> Self {
        Self {
            machine: Machine::default(),
            now: Duration::from_secs(100),
        }
    }

    /// Started, connected, listed at 10, opened with etcd at 10.
    fn watching() -> Self {
        let mut bench = Self::listed(10);
        bench.give(Input::Opened { header: head(10) });
        bench
    }

    fn listed(revision: i64) -> Self {
        let mut bench = Self::new();
        bench.give(Input::Start);
        bench.give(Input::Connected);
        bench.give(page(revision, &["k"], false));
        bench
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        let (machine, out) = step(self.machine.clone(), input, self.now, &TIMING);
        self.machine = machine;
        out
    }

    fn wait(&mut self, millis: u64) -> &mut Self {
        self.now += Duration::from_millis(millis);
        self
    }

    /// What it does, without what it tells.
    fn acts(&mut self, input: Input) -> Vec<Output> {
        let out = self.give(input);
        out.into_iter()
            .filter(|out| !matches!(out, Output::News(_)))
            .collect()
    }

    fn news(&mut self, input: Input) -> Vec<News> {
        self.give(input)
            .into_iter()
            .filter_map(|out| {
                if let Output::News(news) = out {
                    Some(news)
                } else {
                    None
                }
            })
            .collect()
    }

    fn relists_for(&mut self, input: Input, reason: Reason) {
        let out = self.give(input);
        assert!(
            out.contains(&Output::News(News::Listing { reason })),
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
fn it_connects_lists_opens_and_watches() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.give(Input::Start),
        [Output::Connect {
            rotate: false,
            pause: false
        }]
    );
    bench.relists_for(Input::Connected, Reason::First);
    let out = bench.acts(page(10, &["a", "b"], false));
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
        bench.news(Input::Opened { header: head(10) }),
        [News::Fresh]
    );
    assert!(matches!(
        bench.state(),
        State::Watching(Watching {
            after: 10,
            delivered: None,
            behind: None,
            ..
        })
    ));
}

#[test]
fn a_list_in_pages_is_taken_at_one_revision_and_told_as_one() {
    let mut bench = Bench::new();
    bench.give(Input::Start);
    bench.give(Input::Connected);
    let out = bench.acts(page(10, &["a", "b"], true));
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
    let out = bench.acts(page(15, &["c"], false));
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
    let mut bench = Bench::new();
    bench.give(Input::Start);
    bench.give(Input::Connected);
    let out = bench.acts(page(10, &[], true));
    assert_eq!(out.last(), Some(&Output::Open { from: 10 }));
}

#[test]
fn the_view_is_fresh_only_once_the_watch_is_confirmed() {
    let mut bench = Bench::new();
    bench.give(Input::Start);
    bench.give(Input::Connected);
    assert!(!bench.news(page(10, &["k"], false)).contains(&News::Fresh));
    assert!(!bench.machine.known.fresh);
    bench.give(Input::Opened { header: head(10) });
    assert!(bench.machine.known.fresh);
}

#[test]
fn events_are_passed_on_and_what_the_watch_repeats_is_dropped() {
    let mut bench = Bench::watching();
    let out = bench.give(events(12, &[9, 10, 11, 12]));
    assert_eq!(out, [Output::Event(put(11)), Output::Event(put(12))]);
    assert!(matches!(
        bench.state(),
        State::Watching(Watching {
            delivered: Some(12),
            ..
        })
    ));
    assert_eq!(bench.give(events(12, &[10])), []);
    assert!(matches!(
        bench.state(),
        State::Watching(Watching {
            delivered: Some(12),
            ..
        })
    ));
}

#[test]
fn what_a_watch_repeats_counts_as_nothing_delivered() {
    let mut bench = Bench::watching();
    bench.give(events(10, &[10]));
    assert!(matches!(
        bench.state(),
        State::Watching(Watching {
            delivered: None,
            ..
        })
    ));
}

#[test]
fn deletes_are_passed_on_like_puts() {
    let mut bench = Bench::watching();
    let delete = Event::Delete(record("k", 11));
    let out = bench.give(Input::Events {
        header: head(11),
        events: vec![delete.clone()],
    });
    assert_eq!(out, [Output::Event(delete)]);
}

#[test]
fn a_failed_connection_is_tried_anew_at_the_next_endpoint() {
    let mut bench = Bench::new();
    bench.give(Input::Start);
    assert_eq!(bench.acts(failed()), [RECONNECT]);
    assert_eq!(bench.acts(failed()), [RECONNECT]);
    bench.relists_for(Input::Connected, Reason::First);
}

#[test]
fn a_failed_list_begins_anew_even_half_way() {
    let mut bench = Bench::new();
    bench.give(Input::Start);
    bench.give(Input::Connected);
    bench.give(page(10, &["a"], true));
    assert_eq!(bench.acts(failed()), [RECONNECT]);
    bench.relists_for(Input::Connected, Reason::First);
    assert_eq!(
        bench.acts(page(12, &["a"], false))[0],
        Output::Event(Event::Init)
    );
}

#[test]
fn a_stream_that_broke_is_resumed_from_what_it_delivered() {
    let mut bench = Bench::watching();
    bench.give(events(14, &[12, 14]));
    assert_eq!(bench.acts(failed()), [RECONNECT]);
    assert_eq!(bench.give(Input::Connected), [Output::Open { from: 14 }]);
    assert_eq!(
        bench.news(Input::Opened { header: head(14) }),
        [News::Resumed { after: 14 }]
    );
    assert_eq!(bench.give(events(15, &[14, 15])), [Output::Event(put(15))]);
}

#[test]
fn a_stream_that_broke_before_it_delivered_is_not_resumed() {
    let mut bench = Bench::watching();
    assert_eq!(bench.acts(failed()), [RECONNECT]);
    bench.relists_for(Input::Connected, Reason::Disconnected);
}

#[test]
fn requested_progress_is_no_place_to_resume_from() {
    let mut bench = Bench::watching();
    bench.give(answer(50));
    bench.give(failed());
    bench.relists_for(Input::Connected, Reason::Disconnected);

    let mut bench = Bench::watching();
    bench.give(events(14, &[14]));
    bench.give(answer(50));
    bench.give(failed());
    assert_eq!(bench.give(Input::Connected), [Output::Open { from: 14 }]);
}

#[test]
fn ordered_progress_is_a_place_to_resume_from() {
    let mut bench = Bench::watching();
    bench.give(Input::Progress {
        header: head(50),
        ordered: true,
    });
    bench.give(failed());
    assert_eq!(bench.give(Input::Connected), [Output::Open { from: 50 }]);
}

#[test]
fn ordered_progress_never_takes_the_place_back() {
    let mut bench = Bench::watching();
    bench.give(events(20, &[20]));
    bench.give(Input::Progress {
        header: head(15),
        ordered: true,
    });
    bench.give(failed());
    assert_eq!(bench.give(Input::Connected), [Output::Open { from: 20 }]);
}

#[test]
fn a_resume_that_fails_is_tried_again_from_the_same_place() {
    let mut bench = Bench::watching();
    bench.give(events(14, &[14]));
    bench.give(failed());
    bench.give(failed());
    bench.give(Input::Connected);
    assert_eq!(bench.acts(failed()), [RECONNECT]);
    assert_eq!(bench.give(Input::Connected), [Output::Open { from: 14 }]);
    bench.give(Input::Opened { header: head(14) });
    // Opened and broken at once: still the same place.
    bench.give(failed());
    assert_eq!(bench.give(Input::Connected), [Output::Open { from: 14 }]);
}

#[test]
fn an_opening_after_a_list_that_fails_lists_anew() {
    let mut bench = Bench::listed(10);
    assert_eq!(bench.acts(failed()), [RECONNECT]);
    bench.relists_for(Input::Connected, Reason::Disconnected);
}

#[test]
fn compaction_lists_anew_on_the_same_connection() {
    let mut bench = Bench::watching();
    bench.relists_for(canceled(40), Reason::Compacted);

    let mut bench = Bench::watching();
    bench.give(events(14, &[14]));
    bench.give(failed());
    bench.give(Input::Connected);
    bench.relists_for(canceled(40), Reason::Compacted);
    assert!(matches!(
        bench.acts(page(50, &["k"], false)).last(),
        Some(Output::Open { from: 50 })
    ));
}

#[test]
fn a_canceled_watch_lists_anew_after_a_pause_and_says_so() {
    let mut bench = Bench::watching();
    let out = bench.give(canceled(0));
    assert!(matches!(&out[0], Output::News(News::Broken { error }) if error.contains("canceled")));
    assert_eq!(out.last(), Some(&Output::List { pause: true }));

    let mut bench = Bench::listed(10);
    bench.relists_for(
        Input::Canceled {
            compact_revision: 0,
            reason: "permission denied".into(),
        },
        Reason::Canceled,
    );
}

#[test]
fn a_sign_of_life_is_asked_for_after_a_quiet_time_only() {
    let mut bench = Bench::watching();
    assert_eq!(bench.wait(1_999).give(Input::Tick), []);
    assert_eq!(bench.wait(1).give(Input::Tick), [Output::AskProgress]);
    assert_eq!(
        bench.wait(1).give(Input::Tick),
        [],
        "not twice for the same quiet"
    );
    assert_eq!(bench.wait(2_000).give(Input::Tick), [Output::AskProgress]);
    bench.give(events(11, &[11]));
    assert_eq!(
        bench.wait(1_999).give(Input::Tick),
        [],
        "events are life enough"
    );
}

#[test]
fn answers_keep_a_quiet_view_fresh() {
    let mut bench = Bench::watching();
    for _ in 0..20 {
        assert_eq!(bench.wait(2_000).give(Input::Tick), [Output::AskProgress]);
        assert_eq!(bench.give(answer(10)), []);
    }
    assert!(bench.machine.known.fresh);
}

#[test]
fn silence_makes_the_view_stale_and_a_list_makes_it_fresh_again() {
    let mut bench = Bench::watching();
    assert_eq!(
        bench.wait(7_000).acts(Input::Tick),
        [Output::AskProgress],
        "the limit itself is fine"
    );
    let out = bench.wait(1).give(Input::Tick);
    assert!(
        matches!(&out[0], Output::News(News::Stale { .. })),
        "{out:?}"
    );
    assert_eq!(out[1..], [RECONNECT]);
    assert_eq!(bench.wait(60_000).give(Input::Tick), [], "said once");
    bench.relists_for(Input::Connected, Reason::Silence);
    bench.give(page(10, &["k"], false));
    assert_eq!(
        bench.news(Input::Opened { header: head(10) }),
        [News::Fresh]
    );
}

#[test]
fn silence_after_delivery_still_means_a_list() {
    let mut bench = Bench::watching();
    bench.give(events(14, &[14]));
    bench.wait(7_001).give(Input::Tick);
    bench.relists_for(Input::Connected, Reason::Silence);
}

#[test]
fn the_view_goes_stale_while_reconnecting_and_is_then_not_resumed() {
    let mut bench = Bench::watching();
    bench.give(events(14, &[14]));
    bench.give(failed());
    assert!(
        bench
            .wait(7_000)
            .news(failed())
            .iter()
            .all(|news| matches!(news, News::Broken { .. }))
    );
    assert!(matches!(
        bench.wait(1).news(Input::Tick)[..],
        [News::Stale { .. }]
    ));
    bench.relists_for(Input::Connected, Reason::Silence);
}

#[test]
fn a_resume_that_is_confirmed_too_late_lists_instead() {
    let mut bench = Bench::watching();
    bench.give(events(14, &[14]));
    bench.give(failed());
    bench.give(Input::Connected);
    bench.wait(7_001);
    bench.relists_for(Input::Opened { header: head(14) }, Reason::Silence);
    assert!(!bench.machine.known.fresh);
}

#[test]
fn what_waited_in_the_socket_of_a_suspended_process_is_no_news() {
    let mut bench = Bench::watching();
    bench.wait(60_000);
    let out = bench.give(events(11, &[11]));
    assert!(
        matches!(&out[0], Output::News(News::Stale { .. })),
        "{out:?}"
    );
    assert_eq!(out[1..], [RECONNECT]);
    bench.relists_for(Input::Connected, Reason::Silence);

    let mut bench = Bench::watching();
    let out = bench.wait(60_000).give(failed());
    assert!(out.contains(&RECONNECT), "{out:?}");
    bench.relists_for(Input::Connected, Reason::Silence);
}

#[test]
fn a_list_that_grew_old_before_the_watch_opened_is_taken_again() {
    let mut bench = Bench::listed(10);
    bench.wait(7_001);
    bench.relists_for(Input::Opened { header: head(11) }, Reason::Silence);
    assert!(!bench.machine.known.fresh);
    // Unless etcd has not moved since: then it is as good as new.
    let mut bench = Bench::listed(10);
    bench.wait(7_001);
    assert_eq!(
        bench.news(Input::Opened { header: head(10) }),
        [News::Fresh]
    );
    assert_eq!(bench.machine.known.heard, Some(bench.now));
}

#[test]
fn nothing_is_stale_that_was_never_known() {
    let mut bench = Bench::new();
    bench.give(Input::Start);
    assert_eq!(bench.wait(1_000_000).news(Input::Tick), []);
}

#[test]
fn a_resumed_stream_is_no_sign_of_life_until_it_has_caught_up() {
    let mut bench = Bench::watching();
    bench.give(events(14, &[14]));
    let heard = bench.machine.known.heard;
    bench.give(failed());
    bench.wait(500).give(Input::Connected);
    // etcd is at 20: up to six revisions are on their way to us.
    bench.give(Input::Opened { header: head(20) });
    assert_eq!(bench.machine.known.heard, heard);
    bench.wait(500).give(answer(20));
    assert_eq!(
        bench.machine.known.heard, heard,
        "an answer may overtake events"
    );
    bench.give(events(20, &[17]));
    assert_eq!(bench.machine.known.heard, heard, "not all of them");
    bench.give(events(20, &[20]));
    assert_eq!(bench.machine.known.heard, Some(bench.now));
}

#[test]
fn a_resumed_stream_that_stays_quiet_has_caught_up_after_a_while() {
    let mut bench = Bench::watching();
    bench.give(events(14, &[14]));
    bench.give(failed());
    bench.give(Input::Connected);
    bench.give(Input::Opened { header: head(20) });
    bench.wait(2_000).give(answer(20));
    assert_eq!(bench.machine.known.heard, Some(bench.now));

    let mut bench = Bench::listed(10);
    bench.give(Input::Opened { header: head(20) });
    bench.wait(10).give(Input::Progress {
        header: head(20),
        ordered: true,
    });
    assert_eq!(
        bench.machine.known.heard,
        Some(bench.now),
        "ordered progress is never early"
    );
}

#[test]
fn a_stream_that_never_catches_up_is_given_up() {
    let mut bench = Bench::watching();
    bench.give(events(14, &[14]));
    bench.give(failed());
    bench.give(Input::Connected);
    bench.give(Input::Opened { header: head(20) });
    assert!(bench.wait(7_001).acts(Input::Tick).contains(&RECONNECT));
}

#[test]
fn another_cluster_is_another_lineage() {
    let mut bench = Bench::watching();
    bench.give(events(14, &[14]));
    bench.give(failed());
    bench.give(Input::Connected);
    let other = Header {
        cluster_id: 2,
        ..head(1000)
    };
    bench.relists_for(Input::Opened { header: other }, Reason::ClusterChanged);
    let out = bench.give(Input::Page {
        header: other,
        records: vec![],
        more: false,
    });
    assert!(
        matches!(&out[0], Output::News(News::Lineage { lineage: 1, .. })),
        "{out:?}"
    );
    assert_eq!(out[1], Output::Event(Event::Init), "told before the list");
    assert_eq!(bench.news(Input::Opened { header: other }), [News::Fresh]);
    // And that is now the cluster.
    bench.give(failed());
    bench.give(Input::Connected);
    let out = bench.give(Input::Page {
        header: other,
        records: vec![],
        more: false,
    });
    assert!(
        !out.iter()
            .any(|out| matches!(out, Output::News(News::Lineage { .. })))
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
        let mut bench = Bench::watching();
        bench.relists_for(input, Reason::ClusterChanged);
    }
}

#[test]
fn a_fallen_revision_is_another_lineage_if_a_list_says_so() {
    let mut bench = Bench::watching();
    bench.give(events(14, &[14]));
    bench.give(failed());
    bench.give(Input::Connected);
    bench.relists_for(Input::Opened { header: head(3) }, Reason::RevisionFell);
    assert!(matches!(
        bench.news(page(3, &["k"], false))[0],
        News::Lineage { lineage: 1, .. }
    ));
    assert_eq!(
        bench.machine.known.revision, 3,
        "measured against the new history from now on"
    );
}

#[test]
fn a_member_that_is_merely_behind_is_no_new_lineage() {
    let mut bench = Bench::watching();
    bench.give(events(14, &[14]));
    bench.give(failed());
    bench.give(Input::Connected);
    bench.relists_for(Input::Opened { header: head(13) }, Reason::RevisionFell);
    let news = bench.news(page(14, &["k"], false));
    assert!(
        !news.iter().any(|news| matches!(news, News::Lineage { .. })),
        "{news:?}"
    );
}

#[test]
fn a_list_that_is_behind_any_revision_ever_seen_is_another_lineage() {
    // Seen in a sign of life only; it was committed all the same.
    let mut bench = Bench::watching();
    bench.give(answer(50));
    bench.give(failed());
    bench.give(Input::Connected);
    let news = bench.news(page(49, &["k"], false));
    assert!(
        matches!(news[0], News::Lineage { lineage: 1, .. }),
        "{news:?}"
    );
}

#[test]
fn a_revision_that_falls_below_the_watch_in_the_stream_is_noticed() {
    let mut bench = Bench::watching();
    bench.relists_for(answer(9), Reason::RevisionFell);
}

#[test]
fn a_lower_term_in_a_stream_is_a_member_that_is_behind() {
    let low = Header {
        raft_term: 4,
        ..head(10)
    };
    let mut bench = Bench::listed(10);
    bench.relists_for(Input::Opened { header: low }, Reason::TermFell);
    let mut bench = Bench::watching();
    bench.relists_for(
        Input::Progress {
            header: low,
            ordered: true,
        },
        Reason::TermFell,
    );
    let mut bench = Bench::watching();
    bench.relists_for(
        Input::Events {
            header: low,
            events: vec![],
        },
        Reason::TermFell,
    );
    // A quorum that answers with the old term is fine, one with a lower term is not the same.
    let news = bench.news(page(10, &["k"], false));
    assert!(!news.iter().any(|news| matches!(news, News::Lineage { .. })));
    bench.give(failed());
    bench.give(Input::Connected);
    let news = bench.news(Input::Page {
        header: low,
        records: vec![],
        more: false,
    });
    assert!(
        matches!(news[0], News::Lineage { lineage: 1, .. }),
        "{news:?}"
    );
    // From then on that term is the measure.
    assert_eq!(bench.news(Input::Opened { header: low }), [News::Fresh]);
}

#[test]
fn a_term_that_a_lone_member_counts_up_is_not_remembered() {
    let mut bench = Bench::watching();
    bench.give(Input::Progress {
        header: Header {
            raft_term: 99,
            ..head(10)
        },
        ordered: false,
    });
    bench.give(failed());
    bench.give(Input::Connected);
    let news = bench.news(page(11, &["k"], false));
    assert!(
        !news.iter().any(|news| matches!(news, News::Lineage { .. })),
        "{news:?}"
    );
}

#[test]
fn a_gap_lists_anew() {
    let mut bench = Bench::watching();
    bench.give(events(14, &[14]));
    bench.relists_for(Input::Gap, Reason::Gap);
    assert_eq!(bench.give(Input::Gap), [], "once");
}

#[test]
fn everything_is_listed_anew_from_time_to_time() {
    let mut bench = Bench::watching();
    for _ in 0..119 {
        bench.wait(5_000).give(answer(10));
        assert!(
            !bench
                .acts(Input::Tick)
                .contains(&Output::List { pause: false })
        );
    }
    bench.wait(5_000).give(answer(10));
    bench.relists_for(Input::Tick, Reason::Timer);
    assert!(bench.machine.known.fresh, "the view is as good as before");
    bench.give(page(10, &["k"], false));
    bench.give(Input::Opened { header: head(10) });
    assert_eq!(bench.give(Input::Tick), [], "and the clock begins anew");
}

#[test]
fn what_comes_too_late_changes_nothing() {
    let late = [
        Input::Connected,
        Input::Opened { header: head(10) },
        page(99, &["k"], false),
        Input::Start,
    ];
    for input in late {
        let mut bench = Bench::watching();
        let before = bench.machine.clone();
        assert_eq!(bench.give(input), []);
        assert_eq!(bench.machine, before);
    }
    let mut bench = Bench::listed(10);
    bench.give(failed());
    for input in [
        events(11, &[11]),
        answer(11),
        canceled(0),
        Input::Gap,
        Input::Tick,
    ] {
        let before = bench.machine.clone();
        assert_eq!(bench.give(input), []);
        assert_eq!(bench.machine, before);
    }
    let mut idle = Bench::new();
    assert_eq!(idle.give(Input::Tick), []);
    assert_eq!(idle.give(failed()), []);
}

#[test]
fn every_reason_has_its_own_label_and_words() {
    let labels: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.label()).collect();
    let words: std::collections::HashSet<_> = Reason::ALL.iter().map(Reason::to_string).collect();
    assert_eq!(
        (labels.len(), words.len()),
        (Reason::ALL.len(), Reason::ALL.len())
    );
}
