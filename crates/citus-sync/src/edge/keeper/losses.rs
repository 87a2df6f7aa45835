//! Members that do not answer us any more, and what the coordinator says of its own way to them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dcs_watch::HostPort;

use crate::edge::sql::SqlError;
use crate::plan::{Probe, ProbeState, Reach};

/// How long the coordinator's word that it does reach a member counts. It is asked again after
/// that, for as long as we do not reach it ourselves.
const REACHABLE_FOR: Duration = Duration::from_secs(1);

/// The pause after the question itself failed.
const ASK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct Losses {
    lost: BTreeMap<HostPort, Loss>,
}

struct Loss {
    /// The round that began with it.
    round: u64,
    reach: Option<Reach>,
    asking: bool,
    /// When the coordinator may be asked again.
    again: Option<Instant>,
}

impl Losses {
    /// Looks at the latest answers; `round` rises with each member that was lost since, so that
    /// what others said before does not count.
    pub(super) fn look(&mut self, answers: &BTreeMap<HostPort, Probe>, round: &mut u64) {
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
                    reach: None,
                    asking: false,
                    again: None,
                };
                self.lost.insert(address.clone(), loss);
            }
        }
    }

    /// What the coordinator says, where it said something.
    pub(super) fn reach(&self) -> BTreeMap<HostPort, Reach> {
        self.lost
            .iter()
            .filter_map(|(address, loss)| Some((address.clone(), loss.reach?)))
            .collect()
    }

    /// Whether the coordinator is to be asked now; if so, it is being asked.
    pub(super) fn begin(&mut self, address: &HostPort, now: Instant) -> bool {
        let Some(loss) = self.lost.get_mut(address) else {
            return false;
        };
        let due = !loss.asking && loss.again.is_none_or(|again| again <= now);
        loss.asking |= due;
        due
    }

    /// The coordinator's answer.
    pub(super) fn heard(&mut self, address: &HostPort, answer: Result<bool, SqlError>) {
        let Some(loss) = self.lost.get_mut(address) else {
            return;
        };
        loss.asking = false;
        let now = Instant::now();
        (loss.reach, loss.again) = match answer {
            Ok(false) => (Some(Reach::Unreachable { round: loss.round }), None),
            Ok(true) => (Some(Reach::Reachable), Some(now + REACHABLE_FOR)),
            Err(error) => {
                tracing::debug!(%address, "the coordinator could not be asked: {error}");
                (None, Some(now + ASK_AGAIN))
            }
        };
    }

    /// When the coordinator may be asked again about some member that it reaches, or could not be
    /// asked about.
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
