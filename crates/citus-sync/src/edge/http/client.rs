//! Reads a daemon's state over plain HTTP, within a deadline.

use std::time::Duration;

use dcs_watch::HostPort;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::report::State;

/// The path of the state.
const STATE: &str = "/api/v1/state";

/// The longest answer that is read. A thousand groups in five databases take about 2 MiB.
const LONGEST: usize = 64 << 20;

/// The longest piece of a foreign answer that goes into a message.
const EXCERPT: usize = 200;

/// Why a daemon's state could not be had.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The URL is none of a daemon.
    #[error("{url:?} is no address of a daemon: {why}; expected http://host:port")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nobody listens there, or it cannot be reached.
    #[error("no daemon answers at {address}: {error}")]
    Unreachable {
        /// Where we tried.
        address: HostPort,
        /// What came back.
        error: String,
    },
    /// Somebody listens there and says nothing.
    #[error("{address} gave no answer within {} ms", after.as_millis())]
    Deadline {
        /// Where we asked.
        address: HostPort,
        /// How long we waited.
        after: Duration,
    },
    /// The answer is not a daemon's state.
    #[error("{address} did not answer like citus-sync {}: {what}", env!("CARGO_PKG_VERSION"))]
    Answer {
        /// Where we asked.
        address: HostPort,
        /// What came instead.
        what: String,
    },
}

/// Reads `/api/v1/state` of the daemon at `url`: `http://host:port`, or only `host:port`.
///
/// # Errors
///
/// [`ClientError`]; never later than `deadline`.
pub async fn fetch_state(url: &str, deadline: Duration) -> Result<State, ClientError> {
    let address = address_of(url)?;
    match timeout(deadline, fetch(&address)).await {
        Ok(result) => result,
        Err(_) => Err(ClientError::Deadline {
            address,
            after: deadline,
        }),
    }
}

/// Host and port of a URL; a path behind them is left out, so that the URL of any page will do.
fn address_of(url: &str) -> Result<HostPort, ClientError> {
    let wrong = |why| ClientError::Url {
        url: url.to_owned(),
        why,
    };
    if url.starts_with("https://") {
        return Err(wrong("the daemon speaks plain HTTP"));
    }
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err(wrong("it takes no user"));
    }
    authority
        .parse()
        .map_err(|_| wrong("host or port are missing"))
}

async fn fetch(address: &HostPort) -> Result<State, ClientError> {
    let unreachable = |error: String| ClientError::Unreachable {
        address: address.clone(),
        error,
    };
    let wrong = |what: String| ClientError::Answer {
        address: address.clone(),
        what,
    };

    let stream = TcpStream::connect((address.host.as_str(), address.port))
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    let driver = tokio::spawn(connection);
    let request = Request::get(STATE)
        .header(header::HOST, address.to_string())
        .header(header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| wrong(error.to_string()))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| wrong(error.to_string()))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST)
        .collect()
        .await
        .map_err(|error| wrong(error.to_string()))?
        .to_bytes();
    driver.abort();
    if status != StatusCode::OK {
        let said: String = String::from_utf8_lossy(&body)
            .chars()
            .take(EXCERPT)
            .collect();
        return Err(wrong(format!("{status}: {}", said.trim())));
    }
    serde_json::from_slice(&body).map_err(|error| wrong(format!("not its state: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url_of_any_page_or_host_and_port() {
        for url in [
            "http://10.0.0.1:8009",
            "10.0.0.1:8009",
            "http://10.0.0.1:8009/readyz",
        ] {
            assert_eq!(
                address_of(url).unwrap().to_string(),
                "10.0.0.1:8009",
                "{url}"
            );
        }
        assert_eq!(address_of("http://[::1]:8009/").unwrap().host, "::1");
        for url in [
            "https://10.0.0.1:8009",
            "http://user@host:1",
            "http://",
            "10.0.0.1",
            "a:b",
        ] {
            assert!(address_of(url).is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_listener_that_says_nothing_is_given_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = silent.local_addr().unwrap().to_string();
        let error = fetch_state(&url, Duration::from_millis(50))
            .await
            .unwrap_err();
        assert!(matches!(error, ClientError::Deadline { .. }), "{error}");
    }

    #[tokio::test]
    async fn another_server_is_not_taken_for_a_daemon() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = listener.local_addr().unwrap().to_string();
        let server = axum::Router::new().route(STATE, axum::routing::get(async || "{\"a\": 1}"));
        let task = tokio::spawn(async move { axum::serve(listener, server).await });
        let error = fetch_state(&url, Duration::from_secs(10))
            .await
            .unwrap_err();
        task.abort();
        assert!(matches!(error, ClientError::Answer { .. }), "{error}");
        assert!(error.to_string().contains("missing field"), "{error}");
    }
}
