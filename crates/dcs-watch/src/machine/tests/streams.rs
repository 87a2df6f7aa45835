//! An open watch: what it delivers, how it breaks, and from where it is resumed.

use super::harness::*;
use crate::event::Event;
use crate::machine::*;

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
fn a_gap_lists_anew() {
    let mut harness = Harness::watching();
    harness.feed(events(14, &[14]));
    harness.assert_relists(Input::Gap, Reason::Gap);
    assert_eq!(harness.feed(Input::Gap), [], "once");
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
