//! Whatever happens to events on their way, the view is what a new list would give.
//!
//! A model of etcd makes a random history; the machine and the store follow it through breaks,
//! compactions, repeated deliveries, members that lag, wiped clusters and suspended processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod etcd_model;
mod rig;
mod values;

use std::time::Duration;

use dcs_watch::Namespace;
use dcs_watch::machine::{Input, State};
use dcs_watch::store::Store;
use proptest::prelude::*;

use crate::etcd_model::{Etcd, KEYS, VALUES, views};
use crate::rig::{Move, Rig, TIMING, moves};

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_view_is_what_a_fresh_list_would_give(moves in moves()) {
        let mut rig = Rig::new();
        for one in moves {
            rig.play(one);
        }
        rig.catch_up();
        if rig.lost {
            // An event that never arrived is noticed with the next periodic list.
            rig.now += TIMING.relist_every;
            rig.feed(Input::Tick);
            rig.catch_up();
        }
        prop_assert_eq!(views(&rig.store), rig.etcd.views());
        for (id, view) in views(&rig.store) {
            let reported = rig.positions.get(&id).copied().flatten();
            prop_assert_eq!(reported, view.last_position, "{}", id);
        }
    }

    /// The view is right whenever the stream is open and no event is on its way, not only in the end.
    #[test]
    fn the_view_is_right_whenever_the_wire_is_empty(moves in moves()) {
        let mut rig = Rig::new();
        for one in moves {
            if matches!(one, Move::Wipe { same_id: true }) {
                continue;
            }
            rig.play(one);
            let quiet = rig.wire.as_ref().is_some_and(Vec::is_empty);
            if quiet && !rig.lost && matches!(rig.machine.state, State::Watching { .. }) {
                prop_assert_eq!(views(&rig.store), rig.etcd.views());
            }
        }
    }

    /// Every fresh view was complete within the silence limit.
    #[test]
    fn a_fresh_view_was_complete_within_the_limit(moves in moves()) {
        let mut rig = Rig::new();
        // When the view was last what etcd held.
        let mut complete = Duration::ZERO;
        for one in moves {
            if matches!(one, Move::Wipe { .. } | Move::Lose | Move::Answer { .. }) {
                continue;
            }
            if views(&rig.store) == rig.etcd.views() {
                complete = rig.now;
            }
            // The machine cannot see events that the wire holds back. While it delivers some, the
            // limit runs from the last delivery.
            let delivered = matches!(one, Move::Deliver(..));
            rig.play(one);
            if delivered || views(&rig.store) == rig.etcd.views() {
                complete = rig.now;
            }
            if rig.machine.known.fresh {
                let heard = rig.machine.known.heard.unwrap();
                prop_assert!(rig.now <= heard + TIMING.silence_after);
                if rig.wire.is_none() {
                    prop_assert!(rig.now <= complete + TIMING.silence_after * 2);
                }
            }
        }
    }

    /// Another history is never taken for the same one when its revision or cluster differs.
    #[test]
    fn a_wiped_etcd_is_another_lineage(before in 2..20_usize, same_id: bool) {
        let mut rig = Rig::new();
        rig.catch_up();
        for value in 0..before {
            rig.play(Move::Put(0, value % 2));
        }
        rig.catch_up();
        prop_assert_eq!(rig.lineage, 0);
        rig.play(Move::Wipe { same_id });
        rig.catch_up();
        prop_assert_eq!(rig.lineage, 1);
        prop_assert_eq!(views(&rig.store), rig.etcd.views());
    }

    /// The store alone: in any order, and with any repetition, the last change of a key counts.
    #[test]
    fn the_order_of_delivery_does_not_matter(
        changes in prop::collection::vec((0..KEYS.len(), prop::option::of(0..VALUES.len())), 1..40),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
    ) {
        let mut etcd = Etcd::new(1);
        for (key, value) in changes {
            match value {
                Some(value) => etcd.put(key, value),
                None => etcd.delete(&[key]),
            }
        }
        let mut store = Store::new(Namespace::default());
        if !etcd.history.is_empty() {
            for index in order {
                store.apply(etcd.history[index.index(etcd.history.len())].clone());
            }
        }
        let mut last: Vec<_> = etcd.history.clone();
        last.reverse();
        for event in last {
            store.apply(event);
        }
        prop_assert_eq!(views(&store), etcd.views());
    }
}
