//! The one file that polls. In: what is awaited, a deadline, and a question to ask. Out: the
//! answer, or an error that names what did not come and the last error.

use std::fmt::Write as _;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The pause between two questions: short enough not to show in a timeline, long enough to leave the
/// processor to what is waited for.
const INTERVAL: Duration = Duration::from_millis(20);

/// Asks until the answer is `Some`, or `deadline` has passed.
///
/// An error counts as "not yet" (a server that is starting refuses
/// connections). The error at the deadline becomes part of the message.
pub fn wait_until<T>(
    what: &str,
    deadline: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let began = Instant::now();
    let mut last_error;
    loop {
        match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => last_error = None,
            Err(error) => last_error = Some(error),
        }
        if began.elapsed() >= deadline {
            let mut message = format!("{what}: not within {:.1} s", deadline.as_secs_f64());
            if let Some(error) = last_error {
                let _ = write!(message, " (last error: {error:#})");
            }
            bail!(message);
        }
        thread::sleep(INTERVAL);
    }
}

/// [`wait_until`] for a plain yes or no.
pub fn wait_for(
    what: &str,
    deadline: Duration,
    mut ask: impl FnMut() -> Result<bool>,
) -> Result<()> {
    wait_until(what, deadline, || Ok(ask()?.then_some(())))
}

/// Runs `work` in a thread of its own, and gives up on it after `limit`. Nothing else bounds
/// a blocking call to a server that may be frozen. The thread is left behind, and ends
/// when its call returns.
pub fn within<T: Send + 'static>(
    what: &str,
    limit: Duration,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // After the limit the receiver is gone.
        let _ = sender.send(work());
    });
    match receiver.recv_timeout(limit) {
        Ok(outcome) => outcome,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            bail!("{what}: no answer within {:.1} s", limit.as_secs_f64())
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => bail!("{what}: the thread panicked"),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn wait_until_returns_the_first_answer() {
        let mut asked = 0;
        let answer = wait_until("the third", Duration::from_secs(5), || {
            asked += 1;
            if asked < 2 {
                return Err(anyhow!("not up"));
            }
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(answer.unwrap(), 3);
    }

    #[test]
    fn within_gives_up_on_a_call_that_does_not_return() {
        let (_keep, never) = mpsc::channel::<()>();
        let hang = move || Ok(never.recv()?);
        let error = within("the frozen", Duration::from_millis(1), hang).unwrap_err();
        assert!(
            error.to_string().starts_with("the frozen: no answer"),
            "{error}"
        );
        assert_eq!(
            within("the quick", Duration::from_secs(5), || Ok(7)).unwrap(),
            7
        );
    }

    #[test]
    fn an_error_names_what_did_not_come_and_the_last_error() {
        let error = wait_until::<()>("the moon", Duration::ZERO, || Err(anyhow!("cloudy")))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("the moon") && error.contains("cloudy"),
            "{error}"
        );
    }
}
