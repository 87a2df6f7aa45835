//! The one place that polls. In: what is awaited, how long at most, and a
//! question. Out: the answer, or an error that names what did not come and what
//! was last heard.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Short enough not to show in a timeline, long enough to leave the two cores
/// to the processes that are waited for.
const INTERVAL: Duration = Duration::from_millis(20);

/// Asks until the answer is `Some`, or `deadline` has passed.
///
/// An error is taken as "not yet" (a server that is starting refuses
/// connections) and is shown if it is still the last word at the deadline.
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
            let mut message = format!("waited {:.1} s in vain for: {what}", deadline.as_secs_f64());
            if let Some(error) = last_error {
                let _ = write!(message, " (last heard: {error:#})");
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

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn gives_the_first_answer() {
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
    fn says_what_did_not_come_and_why() {
        let error = wait_until::<()>("the moon", Duration::ZERO, || Err(anyhow!("cloudy")))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("the moon") && error.contains("cloudy"),
            "{error}"
        );
    }
}
