//! The entry nodes of a hold: who follows when, and what is told.

use std::time::{Duration, Instant};

use dcs_watch::HostPort;

use crate::entry_node::{EntryNodeAction, EntryNodeAnswer, EntryNodeOrder};
use crate::group::HeldEntryNodes;
use crate::group::clock::zero;
use crate::outcome::{EntryNodeNews, Skipped};
use crate::plan::Move;
use crate::plan::tests::builders::addr;

/// The round in which the hold stands.
const ROUND: u64 = 1;

fn hold() -> EntryNodeAction {
    EntryNodeAction::Hold {
        left: Duration::from_secs(30),
        cooldown: Duration::from_secs(2),
    }
}

fn to(host: &str) -> Move {
    Move {
        nodeid: 2,
        from: addr("pg1"),
        to: addr(host),
        make_way: None,
    }
}

fn held() -> EntryNodeAnswer {
    EntryNodeAnswer::Held { terminated: vec![] }
}

/// Entry nodes of a hold, and who counts the orders.
struct Scenario {
    nodes: HeldEntryNodes,
    orders: u64,
    zero: Instant,
}

impl Scenario {
    fn new(nodes: &[&str]) -> Self {
        let mut scenario = Self {
            nodes: HeldEntryNodes::default(),
            orders: 0,
            zero: zero(),
        };
        scenario.begin(nodes);
        scenario
    }

    fn begin(&mut self, nodes: &[&str]) -> Vec<HostPort> {
        let wanted: Vec<HostPort> = nodes.iter().map(|node| addr(node)).collect();
        let orders = &mut self.orders;
        let begun = self.nodes.begin(&wanted, &hold(), self.zero, || {
            *orders += 1;
            *orders
        });
        begun.into_iter().map(|order| order.node).collect()
    }

    fn due(&mut self) -> Vec<EntryNodeOrder> {
        let orders = &mut self.orders;
        self.nodes.due(Some(&hold()), None, None, || {
            *orders += 1;
            *orders
        })
    }

    /// What is due while the group's own leader, pg1, takes writes.
    fn due_at_own(&mut self) -> Vec<EntryNodeOrder> {
        let orders = &mut self.orders;
        let own = addr("pg1");
        self.nodes.due(Some(&hold()), Some(&own), None, || {
            *orders += 1;
            *orders
        })
    }

    /// The only order that is due.
    fn only_due(&mut self) -> EntryNodeOrder {
        let mut due = self.due();
        assert_eq!(due.len(), 1, "{due:?}");
        due.remove(0)
    }

    /// Orders are numbered from 1, in the order of the nodes.
    fn hear(&mut self, node: &str, order: u64, answer: EntryNodeAnswer, round: u64) {
        self.nodes.hear(&addr(node), order, answer, round);
    }

    fn move_reads(&mut self, nodes: &[&str], step: &Move) -> Vec<HostPort> {
        let targets = nodes.iter().map(|node| addr(node)).collect();
        let at_once = self.nodes.move_reads(targets, ROUND);
        self.nodes.reads_moved(step, &[]);
        at_once
    }
}

/// One entry node that was not held in time, and that reads were moved beside.
fn one_behind() -> Scenario {
    let mut scenario = Scenario::new(&["late"]);
    assert_eq!(scenario.move_reads(&["late"], &to("pg2")), []);
    scenario
}

#[test]
fn only_entry_nodes_that_were_held_in_time_follow_reads_at_once_while_the_leader_is_there() {
    let mut scenario = Scenario::new(&["early", "late", "never"]);
    scenario.hear("early", 1, held(), ROUND - 1);
    scenario.hear("late", 2, held(), ROUND);
    let all = ["early", "late", "never"];
    assert_eq!(scenario.move_reads(&all, &to("pg2")), [addr("early")]);
    scenario.nodes.leader_is_gone(true);
    assert_eq!(scenario.move_reads(&all, &to("pg3")), all.map(addr));
}

#[test]
fn an_entry_node_that_is_not_held_follows_once_when_the_leader_is_gone() {
    let mut scenario = one_behind();
    assert_eq!(scenario.due(), [], "the leader serves it");
    scenario.nodes.leader_is_gone(true);
    assert_eq!(
        scenario.only_due().action,
        EntryNodeAction::Follow(to("pg2"))
    );
    assert_eq!(scenario.due(), [], "it was begun");
}

#[test]
fn an_entry_node_that_is_held_late_follows_once_the_standby_has_what_was_written_through_it() {
    let mut scenario = one_behind();
    scenario.hear("late", 1, held(), ROUND);
    let question = scenario.only_due();
    assert_eq!(question.action, EntryNodeAction::CatchUp(to("pg2")));
    assert_eq!(scenario.due(), [], "it was asked");
    scenario.hear("late", question.id, EntryNodeAnswer::CaughtUp, ROUND);
    let order = scenario.only_due();
    assert_eq!(order.action, EntryNodeAction::Follow(to("pg2")));
    assert!(!scenario.nodes.status().quiet);
    scenario.hear("late", order.id, EntryNodeAnswer::Followed, ROUND);
    assert!(scenario.nodes.status().quiet);
    // From now on it is as one that was held in time.
    assert_eq!(scenario.move_reads(&["late"], &to("pg3")), [addr("late")]);
}

#[test]
fn an_entry_node_whose_standby_cannot_be_compared_waits_for_the_end_of_the_leader() {
    let mut scenario = one_behind();
    scenario.hear("late", 1, held(), ROUND);
    let question = scenario.only_due();
    scenario.hear("late", question.id, EntryNodeAnswer::CannotTell, ROUND);
    assert_eq!(scenario.due(), []);
    scenario.nodes.leader_is_gone(true);
    let order = scenario.only_due();
    assert_eq!(order.action, EntryNodeAction::Follow(to("pg2")));
}

#[test]
fn an_older_move_of_an_entry_node_ends_before_the_next_begins() {
    let mut scenario = one_behind();
    scenario.nodes.leader_is_gone(true);
    let first = scenario.only_due();
    scenario.nodes.leader_is_gone(false);
    assert_eq!(scenario.move_reads(&["late"], &to("pg3")), []);
    scenario.nodes.leader_is_gone(true);
    assert_eq!(scenario.due(), [], "the first is under way");
    scenario.hear("late", first.id, EntryNodeAnswer::Followed, ROUND);
    let second = scenario.only_due();
    assert_eq!(second.action, EntryNodeAction::Follow(to("pg3")));
}

#[test]
fn an_entry_node_does_not_follow_where_the_coordinators_row_has_left_again() {
    let mut scenario = one_behind();
    scenario.nodes.leader_is_gone(true);
    let orders = &mut scenario.orders;
    let elsewhere = addr("pg1");
    let due = scenario.nodes.due(None, None, Some(&elsewhere), || {
        *orders += 1;
        *orders
    });
    assert_eq!(due, []);
}

#[test]
fn an_entry_node_that_could_not_follow_is_tried_again_at_the_end_of_the_hold() {
    let mut scenario = one_behind();
    scenario.nodes.leader_is_gone(true);
    let order = scenario.only_due();
    scenario.hear("late", order.id, EntryNodeAnswer::DidNotFollow, ROUND);
    assert_eq!(scenario.due(), []);
    let ends = scenario.nodes.end(Some(&addr("pg2")), scenario.zero);
    let follows: Vec<_> = ends.into_iter().map(|end| (end.node, end.follow)).collect();
    assert_eq!(follows, [(addr("late"), Some(to("pg2")))]);
}

#[test]
fn an_entry_node_that_closes_its_session_is_held_again_once() {
    let mut scenario = Scenario::new(&["other"]);
    scenario.hear("other", 1, held(), ROUND - 1);
    scenario.hear("other", 1, EntryNodeAnswer::Lost, ROUND);
    assert_eq!(scenario.nodes.status().held, []);
    assert_eq!(scenario.move_reads(&["other"], &to("pg2")), []);
    let again = scenario.only_due();
    assert_eq!(again.action, hold());
    scenario.hear("other", again.id, held(), ROUND);
    assert_eq!(scenario.nodes.status().held, [addr("other")]);
    scenario.hear("other", again.id, EntryNodeAnswer::Lost, ROUND);
    let status = scenario.nodes.status();
    assert_eq!(status.skipped.len(), 1, "{status:?}");
    assert_eq!(scenario.due(), []);
}

#[test]
fn an_answer_to_an_earlier_order_changes_nothing() {
    let mut scenario = Scenario::new(&["other"]);
    scenario.hear("other", 7, held(), 0);
    assert_eq!(scenario.nodes.status().under_way, [addr("other")]);
    scenario.hear("other", 1, held(), 0);
    scenario.hear("other", 7, EntryNodeAnswer::Lost, 0);
    assert_eq!(scenario.nodes.status().held, [addr("other")]);
}

#[test]
fn it_is_quiet_when_nothing_is_being_taken_or_about_to_follow() {
    assert!(HeldEntryNodes::default().status().quiet);
    let mut scenario = one_behind();
    assert!(!scenario.nodes.status().quiet, "it is being taken");
    let error = "refused".to_owned();
    scenario.hear("late", 1, EntryNodeAnswer::NotHeld { error }, ROUND);
    // Not held, so it waits for the leader's end, or the hold's.
    assert!(scenario.nodes.status().quiet);
}

#[test]
fn an_entry_node_that_cannot_be_held_is_told_once_and_one_that_leads_nothing_never() {
    let mut scenario = Scenario::new(&["one", "two", "three"]);
    let error = "gone".to_owned();
    scenario.hear("one", 1, EntryNodeAnswer::NotHeld { error }, 0);
    // Reads of its own group are at a standby: its clients cannot write.
    scenario.hear("two", 2, EntryNodeAnswer::IsNone, 0);
    let skipped = |news: &EntryNodeNews| -> Vec<HostPort> {
        news.skipped.iter().map(|left| left.node.clone()).collect()
    };
    assert_eq!(skipped(&scenario.nodes.stand()), [addr("one")]);
    assert_eq!(scenario.nodes.joined(), None, "one is still being taken");
    scenario.hear("three", 3, held(), ROUND);
    let joined = scenario.nodes.joined().expect("all are known");
    assert_eq!((joined.held, skipped(&joined)), (1, vec![]));
    assert_eq!(scenario.nodes.joined(), None, "told once");
    // Neither at the end, though it did not follow.
    let not_followed = vec![Skipped {
        node: addr("one"),
        error: "still gone".to_owned(),
    }];
    assert_eq!(skipped(&scenario.nodes.last_news(not_followed)), []);
}

#[test]
fn an_entry_node_that_had_no_time_to_be_held_is_not_named_at_the_end() {
    let named = |after: Duration| {
        let mut scenario = Scenario::new(&["slow"]);
        scenario.nodes.end(None, scenario.zero + after);
        let news = scenario.nodes.last_news(vec![]);
        let skipped = news.skipped.into_iter();
        skipped.map(|left| left.node).collect::<Vec<_>>()
    };
    assert_eq!(named(Duration::from_millis(299)), []);
    assert_eq!(named(Duration::from_millis(300)), [addr("slow")]);
}

#[test]
fn the_entry_nodes_of_a_hold_that_was_lost_are_not_taken_again() {
    let mut scenario = Scenario::new(&["one", "two"]);
    scenario.hear("one", 1, held(), 0);
    let error = "gone".to_owned();
    scenario.hear("two", 2, EntryNodeAnswer::NotHeld { error }, 0);
    scenario.nodes.keep();
    assert!(scenario.nodes.are_kept());
    assert_eq!(scenario.begin(&["one", "two", "three"]), [addr("three")]);
    scenario.nodes.stand();
    assert!(!scenario.nodes.are_kept());
}

/// The group's own leader, and what is heard of it.
fn own(answer: EntryNodeAnswer) -> Scenario {
    let mut scenario = Scenario::new(&[]);
    assert!(scenario.nodes.is_open(&addr("pg1")), "not asked for yet");
    assert_eq!(scenario.due_at_own().len(), 1);
    assert!(!scenario.nodes.own_is_known() && scenario.nodes.is_open(&addr("pg1")));
    scenario.hear("pg1", 1, answer, 0);
    assert!(scenario.nodes.own_is_known());
    scenario
}

#[test]
fn writes_through_the_own_leader_are_held_or_known_not_to_be() {
    assert!(!own(held()).nodes.is_open(&addr("pg1")));
    // A standby is asked again as soon as it leads.
    let mut standby = own(EntryNodeAnswer::IsNone);
    assert!(standby.nodes.is_open(&addr("pg1")));
    assert_eq!(standby.due(), []);
    assert_eq!(standby.due_at_own().len(), 1);
    let error = "too many clients".to_owned();
    let mut refused = own(EntryNodeAnswer::NotHeld { error });
    assert!(refused.nodes.is_open(&addr("pg1")));
    assert_eq!(refused.nodes.stand().skipped.len(), 1);
}

#[test]
fn a_leader_that_stops_is_not_told_of_as_skipped() {
    let mut scenario = own(held());
    scenario.hear("pg1", 1, EntryNodeAnswer::Lost, ROUND);
    assert!(scenario.nodes.is_open(&addr("pg1")));
    assert_eq!(scenario.due(), [], "it is no leader that takes writes");
    let again = scenario.due_at_own().remove(0);
    let error = "refused".to_owned();
    scenario.hear("pg1", again.id, EntryNodeAnswer::NotHeld { error }, ROUND);
    assert_eq!(scenario.nodes.stand().skipped, []);
}

#[test]
fn an_entry_node_whose_taking_was_called_off_is_taken_when_the_hold_stands_on() {
    let mut scenario = Scenario::new(&["slow"]);
    scenario
        .nodes
        .stop_taking(scenario.zero + Duration::from_secs(1));
    assert_eq!(scenario.due(), []);
    scenario.nodes.resume();
    assert_eq!(scenario.nodes.news().skipped, [], "the hold is not over");
    let again = scenario.only_due();
    assert_eq!(again.action, hold());
    scenario.hear("slow", again.id, held(), ROUND);
    assert_eq!(scenario.nodes.status().held, [addr("slow")]);
}

#[test]
fn no_entry_node_follows_at_the_end_where_the_coordinators_row_is_not_any_more() {
    let mut scenario = one_behind();
    let ends = scenario.nodes.end(Some(&addr("pg1")), scenario.zero);
    assert_eq!(ends, []);
}

#[test]
fn an_entry_node_that_was_skipped_by_a_read_move_follows_at_the_end() {
    let mut scenario = Scenario::new(&["early"]);
    scenario.hear("early", 1, held(), ROUND - 1);
    let targets = vec![addr("early")];
    assert_eq!(scenario.nodes.move_reads(targets.clone(), ROUND), targets);
    let skipped = Skipped {
        node: addr("early"),
        error: "not done in time".to_owned(),
    };
    scenario.nodes.reads_moved(&to("pg2"), &[skipped]);
    assert_eq!(scenario.due(), []);
    let ends = scenario.nodes.end(Some(&addr("pg2")), scenario.zero);
    assert_eq!(ends[0].follow, Some(to("pg2")));
}

#[test]
fn an_entry_node_goes_back_to_the_leader_at_once() {
    let mut scenario = Scenario::new(&["late"]);
    assert_eq!(scenario.move_reads(&["late"], &to("pg1")), []);
    let order = scenario.due_at_own();
    let back = order.iter().filter(|order| order.node == addr("late"));
    let back: Vec<_> = back.map(|order| &order.action).collect();
    assert_eq!(back, [&EntryNodeAction::Follow(to("pg1"))]);
}

#[test]
fn an_own_leader_that_says_nothing_and_is_gone_keeps_no_hold_from_standing() {
    let mut scenario = Scenario::new(&[]);
    assert_eq!(scenario.due_at_own().len(), 1);
    assert!(!scenario.nodes.own_is_known());
    scenario.nodes.leader_is_gone(true);
    assert!(scenario.nodes.own_is_known());
}
