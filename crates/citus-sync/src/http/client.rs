//! Asks a daemon over plain HTTP, within a deadline.
//!
//! hyper-util's client connects and sends. It reads no proxy from the environment and follows no
//! redirect, so a token goes to the named address only.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::time::Duration;

use dcs_watch::HostPort;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::http::uri::Scheme;
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::timeout;

use citus_core::config::Secret;
use citus_core::report::{History, HoldAnswer, HoldRequest, Refusal, State};

/// The path of the state.
const STATE: &str = "/api/v1/state";

/// The path of the history.
const HISTORY: &str = "/api/v1/history";

/// The longest answer that is read. A thousand groups in five databases take about 2 MiB.
const LONGEST: usize = 64 << 20;

/// The longest part of an unexpected answer that goes into a message.
const EXCERPT: usize = 200;

/// Why a daemon could not be call.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The URL is not the address of a daemon.
    #[error("{url:?} is no address of a daemon: {why}; expected http://host:port")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nothing listens there, or it cannot be reached.
    #[error("no daemon answers at {address}: {error}")]
    Unreachable {
        /// Where we tried.
        address: HostPort,
        /// What came back.
        error: String,
    },
    /// Something listens there and does not answer.
    #[error("{address} gave no answer within {} ms", after.as_millis())]
    Deadline {
        /// Where we call.
        address: HostPort,
        /// How long we waited.
        after: Duration,
    },
    /// The answer is not that of a daemon of this version.
    #[error("{address} did not answer like citus-sync {}: {what}", env!("CARGO_PKG_VERSION"))]
    Answer {
        /// Where we call.
        address: HostPort,
        /// What came instead.
        what: String,
    },
}

/// What a daemon is to do with a group.
#[derive(Clone, Debug)]
pub enum Order {
    /// Hold its writes.
    Hold(HoldRequest),
    /// Release them. Only `wait_ms` counts.
    Release(HoldRequest),
}

/// What a daemon made of an [`Order`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Called {
    /// The group's reconciler answered, or did not in time.
    Answer(HoldAnswer),
    /// The daemon did not pass it on.
    Refused(Refusal),
}

/// Reads `/api/v1/state` of the daemon at `url`: `http://host:port`, or only `host:port`.
///
/// # Errors
///
/// [`ClientError`]; never later than `deadline`, but for a name server that blocks its thread.
pub async fn fetch_state(url: &str, deadline: Duration) -> Result<State, ClientError> {
    get(url, STATE, deadline).await
}

/// Reads `/api/v1/history` of the daemon at `url`: the last `limit` transitions, of one group or all.
///
/// # Errors
///
/// As [`fetch_state`].
pub async fn fetch_history(
    url: &str,
    group: Option<&str>,
    limit: usize,
    deadline: Duration,
) -> Result<History, ClientError> {
    let mut path = format!("{HISTORY}?limit={limit}");
    if let Some(group) = group {
        // Writing to a String cannot fail.
        let _ = write!(path, "&group={}", escape(group));
    }
    get(url, &path, deadline).await
}

/// Tells the daemon at `url` what to do with a group, which is named by its number or its scope.
///
/// # Errors
///
/// As [`fetch_state`].
pub async fn call(
    url: &str,
    token: &Secret,
    (formation, group): (Option<&str>, &str),
    order: &Order,
    deadline: Duration,
) -> Result<Called, ClientError> {
    let mut path = format!("/api/v1/groups/{}/hold", escape(group));
    if let Some(formation) = formation {
        let _ = write!(path, "?formation={}", escape(formation));
    }
    let (method, body) = match order {
        Order::Hold(request) => (Method::POST, request),
        Order::Release(request) => (Method::DELETE, request),
    };
    let address = address_of(url)?;
    let wrong = |what: String| ClientError::Answer {
        address: address.clone(),
        what,
    };
    let body = serde_json::to_vec(body).map_err(|error| wrong(error.to_string()))?;
    let pending = PendingCall {
        method,
        path: &path,
        token: Some(token),
        body: body.into(),
    };
    let (status, body) = send_within(deadline, &address, pending).await?;
    // The status says the same; which of the two it is shows in the body alone.
    if let Ok(answer) = serde_json::from_slice(&body) {
        return Ok(Called::Answer(answer));
    }
    serde_json::from_slice(&body)
        .map(Called::Refused)
        .map_err(|_| wrong(format!("{status}: {}", excerpt(&body))))
}

/// Whether this is a URL, or host and port, that a daemon could have.
///
/// # Errors
///
/// [`ClientError::Url`].
pub fn is_address(url: &str) -> Result<(), ClientError> {
    address_of(url).map(|_| ())
}

/// Host and port of a URL; a path behind them is ignored, so that the URL of any page will do.
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

/// A text as one segment of a path, or as a value in a query: all but what is never special is
/// escaped, so that the scope `citus/1` is one segment.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(byte.into());
            }
            byte => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

fn excerpt(body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body)
        .chars()
        .take(EXCERPT)
        .collect();
    text.trim().to_owned()
}

/// One request.
struct PendingCall<'a> {
    method: Method,
    path: &'a str,
    token: Option<&'a Secret>,
    body: Bytes,
}

async fn get<T: DeserializeOwned>(
    url: &str,
    path: &str,
    deadline: Duration,
) -> Result<T, ClientError> {
    let address = address_of(url)?;
    let pending = PendingCall {
        method: Method::GET,
        path,
        token: None,
        body: Bytes::new(),
    };
    let (status, body) = send_within(deadline, &address, pending).await?;
    let wrong = |what: String| ClientError::Answer {
        address: address.clone(),
        what,
    };
    if status != StatusCode::OK {
        return Err(wrong(format!("{status}: {}", excerpt(&body))));
    }
    serde_json::from_slice(&body).map_err(|error| wrong(format!("not what {path} gives: {error}")))
}

async fn send_within(
    deadline: Duration,
    address: &HostPort,
    pending: PendingCall<'_>,
) -> Result<(StatusCode, Bytes), ClientError> {
    match timeout(deadline, send(address, pending)).await {
        Ok(result) => result,
        Err(_) => Err(ClientError::Deadline {
            address: address.clone(),
            after: deadline,
        }),
    }
}

async fn send(
    address: &HostPort,
    pending: PendingCall<'_>,
) -> Result<(StatusCode, Bytes), ClientError> {
    let unreachable = |error: String| ClientError::Unreachable {
        address: address.clone(),
        error,
    };
    let wrong = |what: String| ClientError::Answer {
        address: address.clone(),
        what,
    };

    // In parts: a `?` in the host must not make another host of it.
    let uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(address.to_string())
        .path_and_query(pending.path)
        .build()
        .map_err(|error| unreachable(error.to_string()))?;
    let mut request = Request::builder()
        .method(pending.method)
        .uri(uri)
        .header(header::ACCEPT, "application/json");
    if let Some(token) = pending.token {
        let mut value = header::HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|error| wrong(error.to_string()))?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    if !pending.body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request
        .body(Full::new(pending.body))
        .map_err(|error| wrong(error.to_string()))?;
    let response = client().request(request).await.map_err(|error| {
        let what = innermost(&error);
        if error.is_connect() {
            unreachable(what)
        } else {
            wrong(what)
        }
    })?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST)
        .collect()
        .await
        .map_err(|error| wrong(innermost(&*error)))?
        .to_bytes();
    Ok((status, body))
}

/// A client for one request. It keeps no connection, and it sends nothing twice: a daemon that
/// received an order may have executed it.
fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .retry_canceled_requests(false)
        .build_http()
}

/// What went wrong, without the layers that only say where.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::JoinHandle;

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

    #[test]
    fn a_scope_is_one_segment() {
        assert_eq!(escape("citus/1"), "citus%2F1");
        assert_eq!(escape("wk-1_a.b~"), "wk-1_a.b~");
        assert_eq!(escape("a b?&é"), "a%20b%3F%26%C3%A9");
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

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = listener.local_addr().unwrap().to_string();
        let (arrived, arrival) = tokio::sync::watch::channel(false);
        let server = axum::Router::new()
            .route(
                STATE,
                axum::routing::get(async || axum::response::Redirect::temporary("/elsewhere")),
            )
            .route(
                "/elsewhere",
                axum::routing::get(async move || arrived.send_replace(true).to_string()),
            );
        let task = tokio::spawn(async move { axum::serve(listener, server).await });
        let error = fetch_state(&url, Duration::from_secs(10))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("307"), "{error}");
        assert!(!*arrival.borrow());
        task.abort();
    }

    /// Reads one request, sends `head`, then `piece` again and again; ends when the client has
    /// closed the connection.
    async fn endless(head: &'static [u8], piece: &'static [u8]) -> (String, JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            stream.write_all(head).await.unwrap();
            if piece.is_empty() {
                assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
            } else {
                while stream.write_all(piece).await.is_ok() {}
            }
        });
        (url, task)
    }

    /// Waits for the end of the connection.
    async fn closed(server: JoinHandle<()>) {
        let ended = timeout(Duration::from_secs(30), server).await;
        ended.expect("the connection is still open").unwrap();
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut_off_and_its_connection_closed() {
        let (url, server) = endless(b"HTTP/1.1 200 OK\r\n\r\n", &[b' '; 1 << 14]).await;
        let error = fetch_state(&url, Duration::from_secs(60))
            .await
            .unwrap_err();
        assert!(matches!(error, ClientError::Answer { .. }), "{error}");
        assert!(
            error.to_string().ends_with(": length limit exceeded"),
            "{error}"
        );
        closed(server).await;
    }

    #[tokio::test]
    async fn headers_without_end_are_cut_off_and_their_connection_closed() {
        let (url, server) = endless(b"HTTP/1.1 200 OK\r\nA: ", &[b'a'; 1 << 14]).await;
        let error = fetch_state(&url, Duration::from_secs(60))
            .await
            .unwrap_err();
        assert!(matches!(error, ClientError::Answer { .. }), "{error}");
        assert!(
            error.to_string().ends_with(": message head is too large"),
            "{error}"
        );
        closed(server).await;
    }

    #[tokio::test]
    async fn the_deadline_is_for_the_whole_answer_and_closes_the_connection() {
        for head in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"] {
            let (url, server) = endless(head, b"").await;
            let error = fetch_state(&url, Duration::from_millis(50))
                .await
                .unwrap_err();
            assert!(matches!(error, ClientError::Deadline { .. }), "{error}");
            closed(server).await;
        }
    }

    #[tokio::test]
    async fn a_host_that_no_url_can_name_is_unreachable() {
        for url in ["a<b:1", "127.0.0.1?b:1", "127.0.0.1#b:1"] {
            let error = fetch_state(url, Duration::from_secs(10)).await.unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("no daemon answers at {url}: invalid ")),
                "{error}"
            );
        }
    }
}
