//! `--watch`: a page of the daemon, printed again and again.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::outcome::{Done, Failed, Outcome};
use super::stdout::{Reader, print, print_anew, print_error};
use crate::http::ClientError;

/// How often `--watch` looks again.
const REDRAW: Duration = Duration::from_secs(1);

/// Prints a page every second until the reader is gone or the process is interrupted. A daemon that
/// goes away meanwhile is waited for: it may be restarting. With `json`, only documents go to stdout.
pub(super) async fn watch(
    json: bool,
    mut page: impl AsyncFnMut() -> Result<Result<String, Failed>, ClientError>,
) -> Outcome {
    let print = if std::io::stdout().is_terminal() && !json {
        print_anew
    } else {
        print
    };
    loop {
        let text = match page().await {
            Ok(page) => format!("{}\n", page?),
            Err(error @ ClientError::Url { .. }) => {
                return Err(Failed::Configuration(error.to_string()));
            }
            Err(error) if json => {
                print_error(&format!("citus-sync: {error}"));
                String::new()
            }
            Err(error) => format!("{error}\n"),
        };
        if print(&text)? == Reader::Gone {
            return Ok(Done::Yes);
        }
        tokio::time::sleep(REDRAW).await;
    }
}
