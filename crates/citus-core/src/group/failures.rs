//! The failure detector: members that do not answer us any more, and what the coordinator says of its
//! own way to them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dcs_watch::HostPort;

use crate::plan::{Probe, ProbeState, Reachability};

/// How long the coordinator's word counts. It is asked again after that, for as long as we do not
/// reach the member ourselves: what was so an hour ago is no reason to move anything.
const WORD_COUNTS: Duration = Duration::from_secs(1);

/// … for a member that has been lost for long: a host that is down for the night is asked about
/// every ten seconds.
const LONGEST: Duration = Duration::from_secs(10);

/// The pause after the question itself failed.
const ASK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, Default)]
pub(super) struct FailureDetector {
    lost: BTreeMap<HostPort, Loss>,
}

#[derive(Clone, Debug)]
struct Loss {
    /// The round that began with it.
    round: u64,
    since: Instant,
    reachability: Option<Reachability>,
    asking: bool,
    /// When the coordinator may be asked again.
    again: Option<Instant>,
    /// How often in a row it could not be asked.
    failures: u32,
}

/// To be put to the coordinator.
#[derive(Debug)]
pub(super) struct Question {
    /// Which loss it is about.
    pub(super) round: u64,
    /// How often in a row it could not be put. Each time another database is tried: one that lets
    /// nobody in, or not our role, is no reason to leave reads where they fail.
    pub(super) failures: u32,
}

impl FailureDetector {
    /// Looks at the latest answers; `round` rises with each member that was lost since, so that
    /// what others said before does not count.
    pub(super) fn look(
        &mut self,
        answers: &BTreeMap<HostPort, Probe>,
        round: &mut u64,
        now: Instant,
    ) {
        self.lost.retain(|address, _| {
            matches!(
                answers.get(address).map(|probe| &probe.state),
                Some(ProbeState::Unreachable(_))
            )
        });
        for (address, probe) in answers {
            if matches!(probe.state, ProbeState::Unreachable(_)) && !self.lost.contains_key(address)
            {
                *round += 1;
                let loss = Loss {
                    round: *round,
                    since: now,
                    reachability: None,
                    asking: false,
                    again: None,
                    failures: 0,
                };
                self.lost.insert(address.clone(), loss);
            }
        }
    }

    /// Whether we do not reach a member.
    pub(super) fn is_lost(&self, address: &HostPort) -> bool {
        self.lost.contains_key(address)
    }

    /// Which loss of a member is known.
    #[cfg(test)]
    pub(super) fn round(&self, address: &HostPort) -> Option<u64> {
        Some(self.lost.get(address)?.round)
    }

    /// What the coordinator says, where it said something.
    pub(super) fn reachability(&self) -> BTreeMap<HostPort, Reachability> {
        self.lost
            .iter()
            .filter_map(|(address, loss)| Some((address.clone(), loss.reachability?)))
            .collect()
    }

    /// Whether the coordinator is to be asked now, and about which loss; if so, it is being asked.
    pub(super) fn begin(&mut self, address: &HostPort, now: Instant) -> Option<Question> {
        let loss = self.lost.get_mut(address)?;
        let due = !loss.asking && loss.again.is_none_or(|again| again <= now);
        loss.asking |= due;
        due.then_some(Question {
            round: loss.round,
            failures: loss.failures,
        })
    }

    /// The coordinator's answer about the loss that began with round `of`. A member that was back
    /// meanwhile, and is lost again, is another loss.
    ///
    /// Its first word that it does not reach the member either begins a new `round`: until then its
    /// clients may have written there, so what a standby said before does not count (rule 1b).
    ///
    /// How often in a row it could not be asked, when that is worth a line in the log.
    pub(super) fn heard(
        &mut self,
        address: &HostPort,
        of: u64,
        answer: Result<bool, String>,
        round: &mut u64,
        now: Instant,
    ) -> Option<(u32, String)> {
        let loss = self.lost.get_mut(address).filter(|loss| loss.round == of)?;
        loss.asking = false;
        let since = now.saturating_duration_since(loss.since);
        let counts = now + (since / 10).clamp(WORD_COUNTS, LONGEST);
        let reaches = match answer {
            Ok(reaches) => reaches,
            Err(error) => {
                loss.failures += 1;
                (loss.reachability, loss.again) = (None, Some(now + ASK_AGAIN));
                // The first may be no more than a session that went with the same host.
                let worth_telling = loss.failures > 1 && loss.failures.is_power_of_two();
                return worth_telling.then_some((loss.failures, error));
            }
        };
        loss.failures = 0;
        let reachability = match loss.reachability {
            _ if reaches => Reachability::Reachable,
            Some(known @ Reachability::Unreachable { .. }) => known,
            _ => {
                *round += 1;
                Reachability::Unreachable { round: *round }
            }
        };
        (loss.reachability, loss.again) = (Some(reachability), Some(counts));
        None
    }

    /// When the coordinator is to be asked again about some member.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let waiting = self.lost.values().filter(|loss| !loss.asking);
        waiting.filter_map(|loss| loss.again).min()
    }

    /// Ends the pauses that are over, so that each is waited for once.
    pub(super) fn ripen(&mut self, now: Instant) {
        for loss in self.lost.values_mut() {
            loss.again = loss.again.filter(|again| *again > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::zero;
    use super::*;
    use crate::plan::{Identity, Position};

    fn lost() -> (HostPort, BTreeMap<HostPort, Probe>) {
        let address: HostPort = "10.0.0.1:5432".parse().unwrap();
        let probe = Probe {
            address: address.clone(),
            leader_revision: 1,
            round: 0,
            state: ProbeState::Unreachable("refused".to_owned()),
            position: Position::default(),
            started: None,
            identity: Identity::default(),
        };
        (address.clone(), BTreeMap::from([(address, probe)]))
    }

    #[test]
    fn the_coordinators_word_begins_a_round_and_only_the_first_time() {
        let (address, answers) = lost();
        let (mut detector, mut round) = (FailureDetector::default(), 0);
        detector.look(&answers, &mut round, zero());
        assert_eq!(round, 1, "a loss begins a round");
        let question = detector.begin(&address, zero()).expect("to be asked");
        detector.heard(&address, question.round, Ok(false), &mut round, zero());
        assert_eq!(
            detector.reachability()[&address],
            Reachability::Unreachable { round: 2 }
        );
        detector.ripen(zero() + LONGEST);
        let question = detector.begin(&address, zero()).expect("again");
        detector.heard(&address, question.round, Ok(false), &mut round, zero());
        assert_eq!(
            detector.reachability()[&address],
            Reachability::Unreachable { round: 2 }
        );
        assert_eq!(round, 2);
    }

    #[test]
    fn an_answer_about_an_earlier_loss_counts_for_nothing() {
        let (address, answers) = lost();
        let (mut detector, mut round) = (FailureDetector::default(), 0);
        detector.look(&answers, &mut round, zero());
        let earlier = detector.begin(&address, zero()).expect("to be asked");
        detector.look(&BTreeMap::new(), &mut round, zero());
        detector.look(&answers, &mut round, zero());
        detector.heard(&address, earlier.round, Ok(false), &mut round, zero());
        assert!(detector.reachability().is_empty());
    }

    #[test]
    fn a_question_that_cannot_be_put_is_counted_told_now_and_then_and_put_again() {
        let (address, answers) = lost();
        let (mut detector, mut round) = (FailureDetector::default(), 0);
        detector.look(&answers, &mut round, zero());
        let mut now = zero();
        for told in [None, Some(2), None, Some(4)] {
            let before = detector.begin(&address, now).expect("to be asked").failures;
            let refused = Err("no".to_owned());
            let worth_telling = detector.heard(&address, 1, refused, &mut round, now);
            assert_eq!(worth_telling.map(|(failures, _)| failures), told);
            assert!(detector.reachability().is_empty());
            now = detector.next_due().expect("again");
            detector.ripen(now);
            let next = detector.begin(&address, now).expect("again");
            assert_eq!(next.failures, before + 1);
            detector.lost.get_mut(&address).unwrap().asking = false;
        }
        detector.begin(&address, now).expect("to be asked");
        detector.heard(&address, 1, Ok(true), &mut round, zero());
        now = detector.next_due().expect("again");
        assert_eq!(detector.begin(&address, now).expect("again").failures, 0);
    }
}
