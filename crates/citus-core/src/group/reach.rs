//! Whether the coordinator reaches the members of the scope, and the addresses of the group's rows:
//! asked ahead of time, so that it is known when it matters.
//!
//! One question of a group is under way at a time. An address is asked about when it is new, when the
//! leader key changes hands, when our own way to it breaks or is back, and slowly otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::time::{Duration, Instant};

use dcs_watch::HostPort;

use crate::plan::Reach;

/// How often an address that is reached is asked about, with nothing new: a firewall rule tells of
/// itself nowhere. A hundred groups of three members make one question a second.
const SLOWLY: Duration = Duration::from_secs(300);

/// How often an address that is not reached is asked about: somebody is at work on it.
const UNREACHED: Duration = Duration::from_secs(10);

/// How often such an address is asked about while a decision waits for it.
const HURRY: Duration = Duration::from_secs(1);

/// The first pause after the question itself failed; each one is twice as long, up to [`SLOWLY`].
const FAILED: Duration = Duration::from_secs(1);

/// After so many questions in a row that could not be put, what was known is too old to stand on.
const FORGOTTEN_AFTER: u32 = 3;

/// One address in one database: `pg_hba.conf` and the coordinator's own settings may tell databases
/// apart.
pub(super) type Place = (String, HostPort);

/// What the coordinator said, and when it is asked again.
#[derive(Clone, Debug, Default)]
pub(super) struct ReachLedger {
    entries: BTreeMap<Place, Entry>,
    /// What is being asked, and by which question.
    asking: Option<(Place, u64)>,
    questions: u64,
    /// The leader key under which all of this was asked.
    revision: Option<i64>,
    /// A transition is under way, and no answer is waited for.
    pub(super) resting: bool,
    /// What was told, and whether it was about a row.
    pub(super) told: BTreeMap<Place, bool>,
}

#[derive(Clone, Debug)]
struct Entry {
    reach: Option<Reach>,
    due: Instant,
    /// When it was asked last.
    asked: Option<Instant>,
    /// We do not reach it ourselves.
    lost: bool,
    /// How often in a row the question could not be put.
    failures: u32,
    /// How often in a row the answer was no: a server that is started anew says no once.
    refusals: u32,
}

/// To be put to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) database: String,
    pub(super) address: HostPort,
    pub(super) number: u64,
}

/// Pauses of many groups drift apart by up to a fifth.
fn spread(pause: Duration, place: &Place) -> Duration {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(place);
    pause + pause / 100 * u32::try_from(hash % 20).unwrap_or(0)
}

impl ReachLedger {
    /// Notes which addresses matter now.
    pub(super) fn look(
        &mut self,
        places: &BTreeSet<Place>,
        lost: impl Fn(&HostPort) -> bool,
        revision: Option<i64>,
        now: Instant,
    ) {
        let changed = std::mem::replace(&mut self.revision, revision) != revision;
        self.entries.retain(|place, _| places.contains(place));
        for place in places {
            let lost = lost(&place.1);
            let entry = self.entries.entry(place.clone()).or_insert(Entry {
                reach: Some(Reach::Asking),
                due: now,
                asked: None,
                lost,
                failures: 0,
                refusals: 0,
            });
            if changed || entry.lost != lost {
                entry.due = entry.due.min(now);
                entry.lost = lost;
            }
        }
    }

    /// An answer is waited for: a no is asked about again soon.
    pub(super) fn hurry(&mut self) {
        let refused = |entry: &&mut Entry| matches!(entry.reach, Some(Reach::No(_)));
        for entry in self.entries.values_mut().filter(refused) {
            if let Some(asked) = entry.asked {
                entry.due = entry.due.min(asked + HURRY);
            }
        }
    }

    /// What is to be asked now, if anything.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Question> {
        if self.asking.is_some() {
            return None;
        }
        let due = self.entries.iter().filter(|(_, entry)| entry.due <= now);
        // What was never asked is waited for.
        let first = due.min_by_key(|(_, entry)| (entry.reach != Some(Reach::Asking), entry.due));
        let place = first?.0.clone();
        self.questions += 1;
        self.asking = Some((place.clone(), self.questions));
        Some(Question {
            database: place.0,
            address: place.1,
            number: self.questions,
        })
    }

    /// Takes in what the coordinator said, or why it could not be asked.
    pub(super) fn heard(&mut self, number: u64, answer: Result<Reach, String>, now: Instant) {
        if self
            .asking
            .as_ref()
            .is_none_or(|(_, asked)| *asked != number)
        {
            return;
        }
        let Some((place, _)) = self.asking.take() else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&place) else {
            return;
        };
        entry.asked = Some(now);
        if let Ok(reach) = answer {
            let pause = match reach {
                Reach::No(_) => UNREACHED,
                Reach::Yes(_) | Reach::Asking => SLOWLY,
            };
            let refused = matches!(reach, Reach::No(_));
            entry.refusals = if refused { entry.refusals + 1 } else { 0 };
            (entry.reach, entry.failures) = (Some(reach), 0);
            entry.due = now + spread(pause, &place);
            return;
        }
        entry.failures += 1;
        if entry.reach == Some(Reach::Asking) || entry.failures >= FORGOTTEN_AFTER {
            entry.reach = None;
        }
        let pause = FAILED.saturating_mul(1 << entry.failures.min(10));
        entry.due = now + spread(pause.min(SLOWLY), &place);
    }

    /// How often in a row the answer was no.
    pub(super) fn refusals(&self, place: &Place) -> u32 {
        self.entries.get(place).map_or(0, |entry| entry.refusals)
    }

    /// Every pause is over.
    #[cfg(test)]
    pub(super) fn all_due(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            entry.due = now;
        }
    }

    /// What is known, by database.
    pub(super) fn known(&self) -> BTreeMap<String, BTreeMap<HostPort, Reach>> {
        let mut known: BTreeMap<String, BTreeMap<HostPort, Reach>> = BTreeMap::new();
        for ((database, address), entry) in &self.entries {
            if let Some(reach) = &entry.reach {
                let of = known.entry(database.clone()).or_default();
                of.insert(address.clone(), reach.clone());
            }
        }
        known
    }

    /// When the next question is due; while one is under way its answer comes first, and in a
    /// transition nothing is asked that nobody waits for.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let idle = self.asking.is_none() && !self.resting;
        idle.then(|| self.entries.values().map(|entry| entry.due).min())?
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::zero;
    use super::*;
    use crate::plan::{Unreached, UnreachedKind};

    fn place(host: &str) -> Place {
        let address = format!("{host}:5432").parse().expect("an address");
        ("app".to_owned(), address)
    }

    fn no() -> Reach {
        Reach::No(Unreached {
            kind: UnreachedKind::Refused,
            error: "connection refused".to_owned(),
        })
    }

    fn look(ledger: &mut ReachLedger, places: &[&str], now: Instant) {
        let places = places.iter().map(|host| place(host)).collect();
        ledger.look(&places, |_| false, Some(1), now);
    }

    fn answer(ledger: &mut ReachLedger, reach: Result<Reach, String>, now: Instant) -> HostPort {
        let question = ledger.begin(now).expect("a question");
        ledger.heard(question.number, reach, now);
        question.address
    }

    #[test]
    fn each_address_is_asked_about_once_one_after_the_other_and_then_slowly() {
        let (mut ledger, now) = (ReachLedger::default(), zero());
        look(&mut ledger, &["pg1", "pg2"], now);
        let first = ledger.begin(now).expect("a question");
        assert_eq!(ledger.begin(now), None, "one at a time");
        assert_eq!(ledger.next_due(), None, "its answer is waited for");
        ledger.heard(first.number, Ok(Reach::Yes(None)), now);
        let second = answer(&mut ledger, Ok(no()), now);
        assert_ne!(first.address, second);
        assert_eq!(ledger.begin(now), None);
        let due = ledger.next_due().expect("again");
        assert!(due >= now + UNREACHED && due < now + UNREACHED * 2);
        assert_eq!(answer(&mut ledger, Ok(Reach::Yes(None)), due), second);
        let due = ledger.next_due().expect("again");
        assert!(due >= now + SLOWLY, "nothing is new");
    }

    #[test]
    fn a_new_address_a_new_leader_key_and_a_lost_session_each_bring_a_question() {
        let (mut ledger, now) = (ReachLedger::default(), zero());
        let ask = |ledger: &mut ReachLedger, hosts: &[&str], lost: bool, revision: i64| {
            let places = hosts.iter().map(|host| place(host)).collect();
            ledger.look(
                &places,
                |address| lost && address.host == "pg1",
                Some(revision),
                now,
            );
            let mut asked = Vec::new();
            while let Some(question) = ledger.begin(now) {
                ledger.heard(question.number, Ok(Reach::Yes(None)), now);
                asked.push(question.address.host);
            }
            asked.sort();
            asked
        };
        assert_eq!(ask(&mut ledger, &["pg1"], false, 1), ["pg1"]);
        assert!(ask(&mut ledger, &["pg1"], false, 1).is_empty());
        assert_eq!(ask(&mut ledger, &["pg1", "pg2"], false, 1), ["pg2"]);
        assert_eq!(ask(&mut ledger, &["pg1", "pg2"], true, 1), ["pg1"]);
        assert!(ask(&mut ledger, &["pg1", "pg2"], true, 1).is_empty());
        assert_eq!(ask(&mut ledger, &["pg1", "pg2"], false, 1), ["pg1"]);
        assert_eq!(ask(&mut ledger, &["pg1", "pg2"], false, 2), ["pg1", "pg2"]);
        assert!(ask(&mut ledger, &["pg2"], false, 2).is_empty());
    }

    #[test]
    fn what_cannot_be_asked_is_not_waited_for_and_asked_less_and_less_often() {
        let (mut ledger, mut now) = (ReachLedger::default(), zero());
        look(&mut ledger, &["pg1"], now);
        assert_eq!(ledger.known()["app"][&place("pg1").1], Reach::Asking);
        let mut pause = Duration::ZERO;
        for _ in 0..5 {
            answer(&mut ledger, Err("no session".to_owned()), now);
            assert!(ledger.known().is_empty());
            let due = ledger.next_due().expect("again");
            assert!(due - now > pause, "the pauses grow");
            (pause, now) = (due - now, due);
        }
        answer(&mut ledger, Ok(Reach::Yes(None)), now);
        // What was known stands while single questions fail.
        now = ledger.next_due().expect("again");
        answer(&mut ledger, Err("no session".to_owned()), now);
        assert_eq!(ledger.known()["app"][&place("pg1").1], Reach::Yes(None));
    }

    #[test]
    fn an_answer_to_an_earlier_question_counts_for_nothing() {
        let (mut ledger, now) = (ReachLedger::default(), zero());
        look(&mut ledger, &["pg1"], now);
        let question = ledger.begin(now).expect("a question");
        ledger.heard(question.number + 1, Ok(no()), now);
        assert_eq!(ledger.known()["app"][&place("pg1").1], Reach::Asking);
        look(&mut ledger, &["pg2"], now);
        ledger.heard(question.number, Ok(no()), now);
        assert_eq!(ledger.known()["app"].len(), 1, "pg1 matters no more");
    }
}
