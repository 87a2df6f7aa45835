//! A history of etcd that is not the one known before.

use super::harness::*;
use crate::event::Event;
use crate::machine::*;

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
