//! Quiet and silence: signs of life, stale views, and streams that lag.

use super::harness::*;
use crate::machine::*;

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
    // etcd is at 20: up to six revisions are still on their way.
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
