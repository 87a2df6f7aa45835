//! What etcd itself says, read linearizably, of who leads and who is synchronous: asked for while a member
//! at which a row points is lost, because reads are moved on the strength of it.

use std::time::{Duration, Instant};

use dcs_watch::{KeyRevisions, ScopeView};

/// How long an answer counts. It is asked for again after that.
const COUNTS: Duration = Duration::from_secs(1);

/// The pause after the question itself failed.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What an answer is about: another view, or another loss, is another question.
type About = (u64, KeyRevisions, u64);

#[derive(Clone, Debug, Default)]
pub(super) struct KeyConfirmation {
    about: Option<About>,
    /// Rises with each question that is about something else.
    number: u64,
    asking: bool,
    answer: Option<KeyRevisions>,
    again: Option<Instant>,
}

impl KeyConfirmation {
    /// Forgets an answer that is about an older view, or was given before `round` began, which a loss
    /// and the coordinator's word about one do.
    pub(super) fn look(&mut self, view: &ScopeView, round: u64) {
        let about = Some((view.lineage, KeyRevisions::of(view), round));
        if about != self.about {
            *self = Self {
                about,
                number: self.number + 1,
                ..Self::default()
            };
        }
    }

    /// The answer, while it counts.
    pub(super) fn answer(&self) -> Option<KeyRevisions> {
        self.answer
    }

    /// Whether to ask now, and under which number; if so, it is being asked.
    pub(super) fn begin(&mut self) -> Option<u64> {
        if self.asking || self.again.is_some() {
            return None;
        }
        self.asking = true;
        Some(self.number)
    }

    pub(super) fn heard(
        &mut self,
        number: u64,
        answer: Result<KeyRevisions, String>,
        now: Instant,
    ) {
        if number != self.number {
            return;
        }
        self.asking = false;
        let pause = if answer.is_ok() { COUNTS } else { ASK_AGAIN };
        self.again = Some(now + pause);
        self.answer = answer.ok();
    }

    /// Ends the pauses that are over, so that each is waited for once.
    pub(super) fn ripen(&mut self, now: Instant) {
        self.again = self.again.filter(|again| *again > now);
    }

    /// When to ask again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.again
    }
}

#[cfg(test)]
mod tests {
    use dcs_watch::ScopeId;

    use super::super::clock::zero;
    use super::*;

    const NOTHING: KeyRevisions = KeyRevisions {
        leader: None,
        sync: None,
    };

    #[test]
    fn an_answer_counts_for_the_view_and_the_loss_that_it_was_asked_for() {
        let mut view = ScopeView::empty(ScopeId::new("wk1"));
        let mut keys = KeyConfirmation::default();
        keys.look(&view, 1);
        let number = keys.begin().expect("to be asked");
        assert_eq!(keys.begin(), None, "it is being asked");
        keys.heard(number, Ok(NOTHING), zero());
        assert_eq!(keys.answer(), Some(NOTHING));
        assert_eq!(keys.begin(), None, "it counts for a while");
        keys.ripen(zero() + COUNTS);
        let again = keys.begin().expect("again");
        // Another loss.
        keys.look(&view, 2);
        assert_eq!(keys.answer(), None);
        keys.heard(again, Ok(NOTHING), zero());
        assert_eq!(keys.answer(), None, "it was about the last loss");
        let number = keys.begin().expect("at once");
        keys.heard(number, Ok(NOTHING), zero());
        // Another view.
        view.lineage += 1;
        keys.look(&view, 2);
        assert_eq!(keys.answer(), None);
    }

    #[test]
    fn a_question_that_fails_is_put_again() {
        let mut keys = KeyConfirmation::default();
        keys.look(&ScopeView::empty(ScopeId::new("wk1")), 1);
        let number = keys.begin().expect("to be asked");
        keys.heard(number, Err("refused".to_owned()), zero());
        assert_eq!(keys.answer(), None);
        let due = keys.next_due().expect("again");
        keys.ripen(due);
        assert_eq!(keys.next_due(), None);
        assert!(keys.begin().is_some());
    }
}
