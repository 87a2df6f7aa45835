//! Connecting, listing and opening the watch.

use super::harness::*;
use crate::event::Event;
use crate::machine::*;

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
fn an_opening_after_a_list_that_fails_lists_anew() {
    let mut harness = Harness::listed(10);
    assert_eq!(harness.actions(failed()), [RECONNECT]);
    harness.assert_relists(Input::Connected, Reason::Disconnected);
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
fn every_reason_has_its_own_label_and_text() {
    let labels: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.label()).collect();
    let texts: std::collections::HashSet<_> = Reason::ALL.iter().map(Reason::to_string).collect();
    assert_eq!(
        (labels.len(), texts.len()),
        (Reason::ALL.len(), Reason::ALL.len())
    );
}
