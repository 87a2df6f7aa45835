//! The decision table. First match wins; each arm says which row of `docs/design.md` it is.

use std::collections::{BTreeMap, BTreeSet};

use dcs_watch::{Freshness, HostPort, Role, SystemId};

use super::addresses::{is_ours, may_leave};
use super::follow::{follow, point_at, the_primary_row};
use super::{
    Ask, Decision, Held, Hold, Identity, ProbeState, Reachability, Reason, Row, Rows, Rule,
    Situation, Stay, Step, Wait, Writes, reads,
};

/// What the leader key and its holder say.
enum Leader<'a> {
    /// There is no member to ask, and why.
    Missing(Rule, Wait),
    /// The server there has this system identifier, and the scope that one.
    Foreign(&'a HostPort, SystemId, SystemId),
    /// It has not answered for this leader key.
    Unknown(&'a HostPort),
    /// It holds the key, and is being promoted.
    Promoting(&'a HostPort),
    /// We cannot reach it.
    Lost(&'a HostPort, &'a str),
    /// It takes writes.
    Writable(&'a HostPort),
}

/// What is to become of writes.
#[derive(Clone, Copy)]
enum HoldIntent {
    /// They are to wait.
    Hold(Reason),
    /// A hold that is open stays as it is.
    Keep,
    /// They are not to wait any longer.
    LetGo,
}

/// Decides completely what to do for one group.
pub fn decide(situation: &Situation<'_>) -> Decision {
    let expired = situation
        .active_hold
        .is_some_and(|active_hold| active_hold.expired);
    // 1: etcd gone is not leader gone. Only a hold still ends, at its deadline or with us.
    let stale = match &situation.view.freshness {
        Freshness::Fresh => None,
        Freshness::Unknown => Some(Wait::ViewUnknown),
        Freshness::Stale { reason } => Some(Wait::ViewStale {
            why: reason.clone(),
        }),
    };
    if let Some(wait) = stale {
        let ends = expired || situation.stopping;
        let steps = each(situation, |database, rows| {
            match situation.progress_of(database).held {
                Held::Yes { .. } if ends => end_unseen(situation, database, rows),
                Held::Taking if ends => Step::LetGo,
                _ => Step::Wait(wait.clone()),
            }
        });
        let rule = if expired { Rule::Expired } else { Rule::Stale };
        return Decision {
            rule,
            steps,
            ask: asked_in_silence(situation),
            reachability: vec![],
            again_in: None,
        };
    }

    let leader = leader(situation);
    let hold_intent = hold_intent(situation, &leader, expired);
    let steps = each(situation, |database, rows| {
        let step = in_database(situation, &leader, hold_intent, database, rows);
        permitted(situation.writes, step)
    });
    let rule = rule(situation, &leader, hold_intent, &steps, expired);
    let (ask, reachability) = questions(situation, &leader, hold_intent, &steps);
    Decision {
        rule,
        steps,
        ask,
        reachability,
        again_in: situation.until_due(),
    }
}

/// The end of a hold while etcd is silent. Our own read move is undone where the leader that etcd
/// named last says on its live session that it takes writes: else these would fail at the standby until
/// etcd is back.
fn end_unseen(situation: &Situation<'_>, database: &str, rows: &Rows) -> Step {
    if let (Leader::Writable(address), Rows::Known(rows)) = (leader(situation), rows)
        && !situation.addresses.fixed
        && let Ok(primary) = the_primary_row(situation, rows)
        && reads::are_moved(situation, primary)
        && is_ours(situation, database, primary).is_ok()
        && may_leave(situation, database, primary, address).is_ok()
        && situation.may_follow(database).is_ok()
        && let Ok(back) = point_at(situation, rows, primary, address)
    {
        Step::Move(back)
    } else {
        Step::LetGo
    }
}

fn each(situation: &Situation<'_>, step: impl Fn(&str, &Rows) -> Step) -> BTreeMap<String, Step> {
    let rows = situation.rows.iter();
    rows.map(|(name, rows)| (name.clone(), step(name, rows)))
        .collect()
}

fn leader<'a>(situation: &Situation<'a>) -> Leader<'a> {
    let view = situation.view;
    let Some(leader) = &view.leader else {
        let wait = if view.exists() {
            Wait::LeaderGone
        } else {
            Wait::NoScope {
                scope: view.scope.to_string(),
            }
        };
        return Leader::Missing(Rule::LeaderGone, wait);
    };
    let Some(address) = view.leader_address() else {
        let wait = Wait::NoAddress {
            member: leader.value.clone(),
        };
        return Leader::Missing(Rule::Unproven, wait);
    };
    // Whatever it was asked for: a server never becomes one of another cluster under its sessions.
    if let Some(probe) = situation.answers.get(address)
        && let Some((found, expected)) = situation.of_another_cluster(probe)
        && matches!(probe.state, ProbeState::Writable | ProbeState::InRecovery)
    {
        return Leader::Foreign(address, found, expected);
    }
    match situation.leader_answer() {
        ProbeState::Unknown => Leader::Unknown(address),
        ProbeState::InRecovery => Leader::Promoting(address),
        ProbeState::Unreachable(error) | ProbeState::Refuses(error) => Leader::Lost(address, error),
        ProbeState::Writable => Leader::Writable(address),
    }
}

fn hold_intent(situation: &Situation<'_>, leader: &Leader<'_>, expired: bool) -> HoldIntent {
    // 2: the deadline has passed.
    if expired || situation.stopping {
        return HoldIntent::LetGo;
    }
    // 3: a server of another cluster is not the leader. Nothing is held for it.
    if matches!(leader, Leader::Foreign(..)) {
        return HoldIntent::LetGo;
    }
    // 4: a reason to hold stands.
    if let Some(reason) = situation.reason_to_hold() {
        return HoldIntent::Hold(reason);
    }
    let revision = situation
        .view
        .leader
        .as_ref()
        .map_or(0, |leader| leader.mod_revision);
    let own = match leader {
        // 7: promotion takes from milliseconds to minutes (patroni#2972). The leader of a standby
        // cluster is in recovery for ever, and no write is to wait for that.
        Leader::Promoting(_) if !leads_a_standby_cluster(situation) => {
            Some(Reason::Promotion { revision })
        }
        // 8 and 9: only if the policy says so.
        Leader::Lost(address, _)
            if situation.limits.hold_on_leader_loss
                && matches!(
                    situation.reachability.get(*address),
                    Some(Reachability::Unreachable { .. })
                ) =>
        {
            Some(Reason::Loss { revision })
        }
        Leader::Missing(Rule::LeaderGone, Wait::LeaderGone)
            if situation.limits.hold_on_leader_loss =>
        {
            Some(Reason::Loss { revision })
        }
        _ => None,
    };
    // Once a hold ran into its deadline, no fact that goes with it is a reason for another.
    let own = own.filter(|_| situation.can_be_held() && situation.given_up.is_empty());
    match (own, leader) {
        (Some(reason), _) => HoldIntent::Hold(reason),
        (None, Leader::Writable(_)) => HoldIntent::LetGo,
        (None, _) if situation.active_hold.is_some() => HoldIntent::Keep,
        (None, _) => HoldIntent::LetGo,
    }
}

fn leads_a_standby_cluster(situation: &Situation<'_>) -> bool {
    situation
        .view
        .leader_member()
        .is_some_and(|member| member.role == Role::StandbyLeader)
}

fn in_database(
    situation: &Situation<'_>,
    leader: &Leader<'_>,
    hold_intent: HoldIntent,
    database: &str,
    rows: &Rows,
) -> Step {
    let held = situation.progress_of(database).held;
    let rows = match rows {
        Rows::Known(rows) => rows,
        Rows::Unknown(_) if held != Held::No && matches!(hold_intent, HoldIntent::LetGo) => {
            return Step::LetGo;
        }
        Rows::Unknown(why) => return Step::Wait(Wait::RowsUnknown { why: why.clone() }),
    };
    if held == Held::No
        && let Ok(row) = the_primary_row(situation, rows)
        && let Err(wait) = is_ours(situation, database, row)
    {
        return Step::Wait(wait);
    }
    let unheld = || match leader {
        Leader::Writable(address) => follow(situation, database, address, rows),
        _ => without_leader(situation, leader, database, rows),
    };
    match (hold_intent, held) {
        (HoldIntent::LetGo | HoldIntent::Keep, Held::No) => unheld(),
        // The hold ends with the row's move; otherwise it just ends.
        (HoldIntent::LetGo, Held::Yes { .. }) => match unheld() {
            step @ Step::Move(_) => step,
            _ => Step::LetGo,
        },
        (HoldIntent::LetGo, Held::Taking) => Step::LetGo,
        (HoldIntent::Hold(reason), Held::No) => match unheld() {
            Step::Wait(wait) if wait.forbids_holds() => Step::Wait(wait),
            // Not held yet, and the row is not where this leader's reads are: first things first.
            step @ (Step::Move(_) | Step::ReadMove(_)) if !moved_already(situation, rows) => step,
            _ => hold(situation, rows, reason),
        },
        (HoldIntent::Hold(reason), Held::Taking) => Step::Wait(Wait::Taking { what_for: reason }),
        (HoldIntent::Hold(reason), Held::Yes { round }) => {
            while_held(situation, leader, database, rows, round, reason)
        }
        (HoldIntent::Keep, Held::Taking) => Step::Wait(Wait::Taking {
            what_for: kept_for(situation),
        }),
        (HoldIntent::Keep, Held::Yes { round }) => {
            let reason = kept_for(situation);
            while_held(situation, leader, database, rows, round, reason)
        }
    }
}

fn kept_for(situation: &Situation<'_>) -> Reason {
    let active_hold = situation.active_hold.map(|active_hold| active_hold.reason);
    active_hold.unwrap_or(Reason::Loss { revision: 0 })
}

fn moved_already(situation: &Situation<'_>, rows: &[Row]) -> bool {
    matches!(the_primary_row(situation, rows), Ok(row) if reads::are_moved(situation, row))
}

/// Row 4, before the hold.
fn hold(situation: &Situation<'_>, rows: &[Row], reason: Reason) -> Step {
    match the_primary_row(situation, rows) {
        Ok(row) => Step::Hold(Hold {
            nodeid: row.nodeid,
            reason,
        }),
        Err(wait) => Step::Wait(wait),
    }
}

/// Row 4, in the hold: reads go where they can be.
fn while_held(
    situation: &Situation<'_>,
    leader: &Leader<'_>,
    database: &str,
    rows: &[Row],
    round: u64,
    reason: Reason,
) -> Step {
    let primary = match the_primary_row(situation, rows) {
        Ok(primary) => primary,
        Err(wait) => return Step::Wait(wait),
    };
    let at = &primary.address;
    let target = match leader {
        _ if situation.addresses.fixed => Err(Some(Stay::Fixed)),
        Leader::Writable(address) if *address == at => {
            reads::while_held(situation, database, round).map_err(Some)
        }
        // Where reads were sent is gone, and the leader is still there: a candidate that died.
        Leader::Writable(address) if is_lost(situation, at) => back(situation, database, address),
        _ if is_lost(situation, at) => reads::after_loss(situation, database, at).map_err(Some),
        _ => Err(None),
    };
    match target {
        Ok(to) => read_move(situation, rows, primary, &to),
        Err(stay) => Step::Wait(Wait::Held {
            what_for: reason,
            reads_at: at.clone(),
            stay,
        }),
    }
}

/// Back at the leader.
fn back(
    situation: &Situation<'_>,
    database: &str,
    leader: &HostPort,
) -> Result<HostPort, Option<Stay>> {
    let probe = situation.leader_probe();
    let identity = probe.map_or_else(Identity::default, |probe| probe.identity);
    let shards = situation.has_the_shards(database, leader, identity);
    shards.map_err(|unproven| Some(Stay::Unproven(unproven)))?;
    Ok(leader.clone())
}

/// Rows 3, 7, 8 and 9 without a hold: reads go where they can be, once their member is lost.
fn without_leader(
    situation: &Situation<'_>,
    leader: &Leader<'_>,
    database: &str,
    rows: &[Row],
) -> Step {
    let wait = why_no_leader(leader);
    let primary = match the_primary_row(situation, rows) {
        Ok(primary) if !matches!(leader, Leader::Foreign(..)) => primary,
        _ => return Step::Wait(wait),
    };
    let at = &primary.address;
    if is_lost(situation, at) {
        return match reads::after_loss(situation, database, at) {
            Ok(to) => read_move(situation, rows, primary, &to),
            // What keeps the leader from answering says more than that no member was asked yet.
            Err(Stay::Off | Stay::Unconfirmed | Stay::Fixed) => Step::Wait(wait),
            Err(stay) => Step::Wait(Wait::Lost {
                address: at.clone(),
                stay,
            }),
        };
    }
    let moved = matches!(
        leader,
        Leader::Lost(..) | Leader::Missing(Rule::LeaderGone, _)
    ) && reads::are_moved(situation, primary);
    if moved {
        let stranded = match leader {
            Leader::Lost(address, _)
                if situation.reachability.get(*address) == Some(&Reachability::Reachable) =>
            {
                Some((*address).clone())
            }
            _ => None,
        };
        return Step::Wait(Wait::ReadsMoved {
            to: at.clone(),
            stranded,
        });
    }
    Step::Wait(wait)
}

fn why_no_leader(leader: &Leader<'_>) -> Wait {
    match leader {
        Leader::Missing(_, wait) => wait.clone(),
        Leader::Unknown(address) | Leader::Writable(address) => Wait::NotProbed {
            address: (*address).clone(),
        },
        Leader::Promoting(address) => Wait::Promoting {
            address: (*address).clone(),
        },
        Leader::Foreign(address, found, expected) => Wait::ForeignServer {
            address: (*address).clone(),
            found: *found,
            expected: *expected,
        },
        Leader::Lost(address, error) => Wait::Unreachable {
            address: (*address).clone(),
            error: (*error).to_owned(),
        },
    }
}

fn read_move(situation: &Situation<'_>, rows: &[Row], primary: &Row, to: &HostPort) -> Step {
    match point_at(situation, rows, primary, to) {
        Ok(step) => Step::ReadMove(step),
        Err(wait) => Step::Wait(wait),
    }
}

fn is_lost(situation: &Situation<'_>, address: &HostPort) -> bool {
    matches!(situation.state_of(address), ProbeState::Unreachable(_))
}

/// 11: what is not ours to write is only named.
fn permitted(writes: Writes, step: Step) -> Step {
    if writes == Writes::Allowed || !step.acts() {
        return step;
    }
    Step::Wait(Wait::Observed {
        step: step.to_string(),
        because: writes,
    })
}

fn rule(
    situation: &Situation<'_>,
    leader: &Leader<'_>,
    hold_intent: HoldIntent,
    steps: &BTreeMap<String, Step>,
    expired: bool,
) -> Rule {
    if expired {
        return Rule::Expired;
    }
    if situation.reason_to_hold().is_some() && matches!(hold_intent, HoldIntent::Hold(_)) {
        return Rule::Hold;
    }
    match leader {
        Leader::Missing(rule, _) => *rule,
        Leader::Foreign(..) => Rule::Foreign,
        Leader::Unknown(_) => Rule::Unproven,
        Leader::Promoting(_) => Rule::Promoting,
        Leader::Lost(..) => Rule::Unreachable,
        Leader::Writable(_) => {
            let acts = |step: &Step| step.acts() && !matches!(step, Step::Resync(_));
            if steps.values().any(acts) {
                Rule::Move
            } else if steps.values().any(Step::acts) {
                Rule::Resync
            } else if steps.values().all(|step| *step == Step::InSync) {
                Rule::InSync
            } else {
                Rule::Blocked
            }
        }
    }
}

/// Which members to ask before the next decision, and about which the coordinator is to say whether
/// it reaches them.
fn questions(
    situation: &Situation<'_>,
    leader: &Leader<'_>,
    hold_intent: HoldIntent,
    steps: &BTreeMap<String, Step>,
) -> (Vec<Ask>, Vec<HostPort>) {
    // Writers are waiting, or fail until the row is back.
    let moved = |rows: &Rows| matches!(rows, Rows::Known(rows) if moved_already(situation, rows));
    let hurry = situation.active_hold.is_some() || situation.rows.values().any(moved);
    let mut ask = Questions {
        members: Vec::new(),
        hurry,
    };
    match leader {
        Leader::Missing(..) => {}
        Leader::Writable(address) | Leader::Foreign(address, ..) => ask.add(address, false),
        Leader::Unknown(address) | Leader::Promoting(address) | Leader::Lost(address, _) => {
            ask.add(address, true);
        }
    }
    for address in steps.values().filter_map(asked_at_the_row) {
        ask.add(address, false);
    }
    let mut reachability = Vec::new();
    if situation.limits.read_move {
        let pressing = steps.values().any(waits_for_a_standby);
        if matches!(hold_intent, HoldIntent::Hold(_)) && situation.reason_to_hold().is_some() {
            for address in reads::standbys(situation) {
                ask.add(&address, pressing);
            }
        }
        if !matches!(leader, Leader::Writable(_)) || hurry {
            for at in primary_addresses(situation) {
                ask.add(&at, false);
                if !is_lost(situation, &at) || situation.writes != Writes::Allowed {
                    continue;
                }
                for address in reads::failover_candidates(situation, &at) {
                    ask.add(&address, pressing);
                }
                reachability.push(at);
            }
        }
    }
    // Also where reads stay or are elsewhere already: whether writes may be held for the loss hangs
    // on it, and that only this daemon does not reach the leader is worth a word. A group without a row
    // has neither reads nor writes, and each question takes a session of the coordinator.
    if let Leader::Lost(address, _) = leader
        && !primary_addresses(situation).is_empty()
        && (situation.limits.read_move || situation.limits.hold_on_leader_loss)
        && is_lost(situation, address)
        && situation.writes == Writes::Allowed
        && !reachability.contains(address)
    {
        reachability.push((*address).clone());
    }
    (ask.members, reachability)
}

/// While etcd is silent nothing is asked, but in a hold: its end looks at what the leader and the standby
/// that has the reads say.
fn asked_in_silence(situation: &Situation<'_>) -> Vec<Ask> {
    let mut ask = Questions {
        members: Vec::new(),
        hurry: false,
    };
    if situation.active_hold.is_some() {
        let rows = primary_addresses(situation);
        for address in situation.view.leader_address().into_iter().chain(&rows) {
            ask.add(address, false);
        }
    }
    ask.members
}

/// The member at the row, where a step waits for what that says.
fn asked_at_the_row(step: &Step) -> Option<&HostPort> {
    match step {
        Step::Wait(
            Wait::LineageUnproven { address, .. }
            | Wait::RowNotAsked { address }
            | Wait::OlderLeader { address, .. }
            // Where the coordinator cannot ask which server answers at the row, we do.
            | Wait::ReachUnknown { address }
            | Wait::NotReached { row: address, .. },
        ) => Some(address),
        _ => None,
    }
}

/// The members to ask before the next decision, each once.
struct Questions {
    members: Vec<Ask>,
    hurry: bool,
}

impl Questions {
    fn add(&mut self, address: &HostPort, eager: bool) {
        if let Some(present) = (self.members.iter_mut()).find(|ask| ask.address == *address) {
            present.eager |= eager;
            return;
        }
        self.members.push(Ask {
            address: address.clone(),
            eager,
            hurry: self.hurry,
        });
    }
}

/// Whether reads wait for a standby, or for what the leader says of itself.
fn waits_for_a_standby(step: &Step) -> bool {
    let stay = match step {
        Step::Wait(Wait::Held { stay, .. }) => stay.as_ref(),
        Step::Wait(Wait::Lost { stay, .. }) => Some(stay),
        _ => None,
    };
    matches!(
        stay,
        Some(Stay::Asking | Stay::Behind { .. } | Stay::NoStandby)
    )
}

/// Where the group's primary rows point, in whichever database; no server has a temporary name, and
/// what is behind a name that follows by itself is no member that could be lost.
fn primary_addresses(situation: &Situation<'_>) -> BTreeSet<HostPort> {
    if situation.addresses.fixed {
        return BTreeSet::new();
    }
    let known = situation.rows.values().filter_map(|rows| match rows {
        Rows::Known(rows) => Some(rows),
        Rows::Unknown(_) => None,
    });
    known
        .flat_map(|rows| rows.iter())
        .filter(|row| row.groupid == situation.group && row.is_primary() && !row.is_temporary())
        .map(|row| row.address.clone())
        .collect()
}
