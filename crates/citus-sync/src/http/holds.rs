//! `POST` and `DELETE /api/v1/groups/{group}/hold`: the token first, then the group, then its
//! reconciler; and an answer by the moment that was asked for, whatever the reconciler does.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Bytes;
use serde::Deserialize;
use tokio::time::timeout;

use super::handler_state::HandlerState;
use super::room::Place;
use crate::state::{GroupHandle, LookupError};
use citus_core::config::TOKEN_VARIABLE;
use citus_core::report::{HoldAnswer, HoldOutcome, HoldRequest, Refusal, RefusalKind};

/// When the answer comes unless the request says so.
const WAIT: Duration = Duration::from_secs(5);

/// The longest that a request may have its answer wait. Less than the lifetime of a connection.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How much earlier than we do the reconciler should answer, at most: its answer says more than ours.
const HEAD_START: Duration = Duration::from_millis(100);

/// The longest body that is read. What is known to be in one takes less than a hundred bytes, and
/// member names are short.
const LONGEST_BODY: usize = 16 << 10;

/// How long a client may take to send its body, once its token was found right.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// `?formation=`, where groups of several have the same number.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    formation: Option<String>,
}

type Group = Result<Path<String>, PathRejection>;
type Formation = Result<Query<Of>, QueryRejection>;

/// Why there is no answer of a reconciler.
struct Refused(StatusCode, Refusal);

impl Refused {
    fn new(status: StatusCode, error: RefusalKind, message: impl Into<String>) -> Self {
        let refusal = Refusal {
            error,
            message: message.into(),
            active: None,
        };
        Self(status, refusal)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, refusal) = self;
        let mut response = (status, Json(refusal)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer realm=\"citus-sync\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

pub(super) async fn hold(
    Shared(state): Shared<HandlerState>,
    group: Group,
    of: Formation,
    request: Request,
) -> Response {
    let started = Instant::now();
    match prepare(&state, group, of, request).await {
        Ok((handle, request, wait)) => {
            let answer = answer(wait, started, handle.hold(request)).await;
            respond(&handle, started, answer)
        }
        Err(refused) => refused.into_response(),
    }
}

pub(super) async fn release(
    Shared(state): Shared<HandlerState>,
    group: Group,
    of: Formation,
    request: Request,
) -> Response {
    let started = Instant::now();
    match prepare(&state, group, of, request).await {
        Ok((handle, _, wait)) => {
            let answer = answer(wait, started, handle.release()).await;
            respond(&handle, started, answer)
        }
        Err(refused) => refused.into_response(),
    }
}

/// The way to the reconciler, the request to it, and how long to wait for its answer.
async fn prepare(
    state: &HandlerState,
    group: Group,
    of: Formation,
    request: Request,
) -> Result<(GroupHandle, HoldRequest, Duration), Refused> {
    // First of all: a client without the token learns nothing about the groups.
    authorise(state, request.headers())?;
    if let Some(place) = request.extensions().get::<Arc<Place>>() {
        place.authorise();
    }
    let bad = |text: String| Refused::new(StatusCode::BAD_REQUEST, RefusalKind::BadRequest, text);
    let Path(group) = group.map_err(|error| bad(error.body_text()))?;
    let Query(of) = of.map_err(|error| bad(error.body_text()))?;
    let mut hold = read(request.into_body()).await?;
    if hold.timeout_ms == Some(0) {
        return Err(bad(
            "timeout_ms: found 0; expected a number of milliseconds from 1".to_owned(),
        ));
    }
    if (hold.member.as_ref()).is_some_and(|member| member.trim().is_empty()) {
        return Err(bad(
            "member: found an empty name; expected the member that is about to stop, or no `member` to \
             hold whichever leads"
                .to_owned(),
        ));
    }
    let wait = hold
        .wait_ms
        .map_or(WAIT, Duration::from_millis)
        .min(LONGEST_WAIT);
    let for_reconciler = wait.saturating_sub(HEAD_START.min(wait / 10));
    hold.wait_ms = u64::try_from(for_reconciler.as_millis()).ok();
    let handle = state.store.command(&group, of.formation.as_deref())?;
    Ok((handle, hold, wait))
}

impl From<LookupError> for Refused {
    fn from(error: LookupError) -> Self {
        let (status, kind) = match error {
            LookupError::UnknownFormation { .. } | LookupError::UnknownGroup { .. } => {
                (StatusCode::NOT_FOUND, RefusalKind::UnknownGroup)
            }
            LookupError::Ambiguous { .. } => (StatusCode::CONFLICT, RefusalKind::Ambiguous),
        };
        Self::new(status, kind, error.to_string())
    }
}

fn authorise(state: &HandlerState, headers: &HeaderMap) -> Result<(), Refused> {
    let token = state.token.borrow();
    let Some(token) = &*token else {
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            RefusalKind::NoToken,
            format!(
                "this daemon has no token, so every request for a hold is refused: name a file with one \
                 under `token_file` in its configuration, or set {TOKEN_VARIABLE}, and reload or \
                 start it again"
            ),
        ));
    };
    let unauthorized =
        |text: &str| Refused::new(StatusCode::UNAUTHORIZED, RefusalKind::Unauthorized, text);
    let given = headers.get(header::AUTHORIZATION).ok_or_else(|| {
        unauthorized("a token is needed: Authorization: Bearer … (--token-file FILE)")
    })?;
    let wrong = || unauthorized("the token is not the one this daemon was started with");
    let (scheme, given) = given
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(wrong)?;
    let right = scheme.eq_ignore_ascii_case("bearer")
        && same(given.trim().as_bytes(), token.expose().as_bytes());
    if right { Ok(()) } else { Err(wrong()) }
}

/// Whether two secrets are the same, in a time that depends on the length of `given` only: the time
/// taken tells an attacker nothing.
fn same(given: &[u8], secret: &[u8]) -> bool {
    let mut difference = u8::from(given.len() != secret.len());
    for (byte, expected) in given.iter().zip(secret.iter().cycle()) {
        difference = black_box(difference | (byte ^ expected));
    }
    difference == 0 && !given.is_empty()
}

/// The body as a request. An empty body is a request with the defaults.
async fn read(body: Body) -> Result<HoldRequest, Refused> {
    let refused = |status, text: String| Refused::new(status, RefusalKind::BadRequest, text);
    let body = timeout(BODY_TIMEOUT, Limited::new(body, LONGEST_BODY).collect())
        .await
        .map_err(|_| {
            let text = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
            refused(StatusCode::REQUEST_TIMEOUT, text)
        })?
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                let text = format!("the body is longer than {LONGEST_BODY} bytes");
                refused(StatusCode::PAYLOAD_TOO_LARGE, text)
            } else {
                refused(
                    StatusCode::BAD_REQUEST,
                    format!("the body broke off: {error}"),
                )
            }
        })?
        .to_bytes();
    parse(&body).map_err(|text| refused(StatusCode::BAD_REQUEST, text))
}

fn parse(body: &Bytes) -> Result<HoldRequest, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(HoldRequest::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        format!(
            "the body is not what was expected: {error}; expected nothing, or JSON such as \
             {{\"member\": \"wk1-1\", \"timeout_ms\": 30000, \"wait_ms\": 5000}}, each of which \
             may be omitted"
        )
    })
}

/// What came of a command.
enum Answer {
    /// The reconciler answered.
    Given(HoldAnswer),
    /// There is no reconciler at the moment.
    Gone,
    /// It did not answer in time.
    TimedOut(Duration),
}

async fn answer(
    wait: Duration,
    started: Instant,
    asking: impl Future<Output = Option<HoldAnswer>>,
) -> Answer {
    match timeout(wait.saturating_sub(started.elapsed()), asking).await {
        Ok(Some(answer)) => Answer::Given(answer),
        Ok(None) => Answer::Gone,
        Err(_) => Answer::TimedOut(wait),
    }
}

fn respond(handle: &GroupHandle, started: Instant, answer: Answer) -> Response {
    let nothing = |message: String| HoldAnswer {
        formation: handle.formation.clone(),
        group: handle.group,
        scope: handle.scope.clone(),
        outcome: HoldOutcome::NotHeld,
        held: Vec::new(),
        reads_moved_to: None,
        took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        skipped: Vec::new(),
        message,
    };
    let (status, answer) = match answer {
        Answer::Given(answer) => (status(answer.outcome), answer),
        Answer::Gone => (
            StatusCode::SERVICE_UNAVAILABLE,
            nothing("the task of this group is being started again; try again".to_owned()),
        ),
        Answer::TimedOut(wait) => (
            StatusCode::GATEWAY_TIMEOUT,
            nothing(format!(
                "the task of this group gave no answer within {} ms; what it does is in the \
                 daemon's log and in `citus-sync status`",
                wait.as_millis()
            )),
        ),
    };
    (status, Json(answer)).into_response()
}

fn status(outcome: HoldOutcome) -> StatusCode {
    match outcome {
        HoldOutcome::Held
        | HoldOutcome::Partly
        | HoldOutcome::NotTheLeader
        | HoldOutcome::Released
        | HoldOutcome::NothingHeld => StatusCode::OK,
        HoldOutcome::NotHeld => StatusCode::SERVICE_UNAVAILABLE,
        HoldOutcome::Refused => StatusCode::CONFLICT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_the_same_only_if_every_byte_is() {
        assert!(same(b"abc", b"abc"));
        for given in [&b""[..], b"a", b"ab", b"abd", b"abcd", b"abcabc", b"xbc"] {
            assert!(!same(given, b"abc"), "{given:?}");
        }
        assert!(!same(b"", b""), "no token is never the right one");
    }

    #[test]
    fn a_body_may_be_empty_but_not_malformed() {
        for empty in ["", " \r\n"] {
            assert_eq!(parse(&Bytes::from(empty)), Ok(HoldRequest::default()));
        }
        let whole = r#"{"member": "wk1-1", "timeout_ms": 1, "wait_ms": 2}"#;
        let request = parse(&Bytes::from(whole)).unwrap();
        assert_eq!(request.member.as_deref(), Some("wk1-1"));
        assert_eq!((request.timeout_ms, request.wait_ms), (Some(1), Some(2)));
        for (wrong, word) in [
            ("{", "EOF"),
            ("3", "invalid type"),
            (r#"{"timeout": 1}"#, "unknown field `timeout`"),
            (r#"{"timeout_ms": -1}"#, "u64"),
            (r#"{"timeout_ms": "30s"}"#, "u64"),
        ] {
            let error = parse(&Bytes::from(wrong)).unwrap_err();
            assert!(error.contains(word) && error.contains("wait_ms"), "{error}");
        }
    }
}
