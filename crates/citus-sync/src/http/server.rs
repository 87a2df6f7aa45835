//! The daemon's HTTP server: its connections, its routes, and the pages that show the state store.
//! Only the handlers in [`super::holds`] change anything.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Query, Request, State as Shared};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::exposition;
use super::handler_state::HandlerState;
use super::holds;
use super::room::{Place, Room};
use crate::state::StateStore;
use citus_core::config::Secret;
use citus_core::report::{History, State};

/// How long a client may take for its request's head. Also ends keep-alive connections on which
/// nothing is asked any more; longer than the usual scrape interval of 15 s.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may take until the head of its first request is there.
const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection older than this is closed, so that clients which never read their answer cannot
/// keep their places for good. A page takes milliseconds, and a request for a hold waits for a
/// minute at most.
const LIFETIME: Duration = Duration::from_secs(300);

/// How long answers under way may take once the daemon stops.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

/// What is served, for the front page and for the answer to an unknown path.
const PATHS: [(&str, &str); 6] = [
    (
        "/metrics",
        "OpenMetrics, or Prometheus text, as `Accept` has it",
    ),
    ("/livez", "whether the loops turn"),
    (
        "/readyz",
        "whether the view of etcd is fresh and the rows are known",
    ),
    (
        "/api/v1/state",
        "everything that is known, as JSON; `citus-sync status` shows it as tables",
    ),
    (
        "/api/v1/history",
        "transitions that are over (?group=, ?limit=), as JSON; `citus-sync history` shows them as a \
         table",
    ),
    (
        HOLD,
        "POST holds a group's writes, DELETE lets them go; `citus-sync hold` and `citus-sync \
         release` do it for you",
    ),
];

/// Where holds are asked for. `{group}` is a number or a scope.
const HOLD: &str = "/api/v1/groups/{group}/hold";

/// Serves until `shutdown` turns true. Without a token every request for a hold is refused. A client
/// that is slow to take its answer delays the end by a second at most.
///
/// # Errors
///
/// None so far: a connection that cannot be accepted is no reason to stop following leaders.
pub async fn serve(
    listener: TcpListener,
    store: StateStore,
    token: watch::Receiver<Option<Secret>>,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let router = router(HandlerState { store, token });
    let room = Room::default();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let place = Arc::new(room.enter(peer.ip(), Instant::now()));
                    connections.spawn(connection(stream, place, router.clone(), shutdown.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: trying again at once would spin.
                    warn!("HTTP: cannot accept a connection: {error}");
                    sleep(Duration::from_millis(200)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            // An error means that the sender is gone: no task could ask us to stop any more.
            () = async { drop(shutdown.wait_for(|stop| *stop).await) } => break,
        }
    }
    drop(listener);
    // Each ends by itself within its last second.
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn connection(
    stream: TcpStream,
    place: Arc<Place>,
    router: Router,
    mut shutdown: watch::Receiver<bool>,
) {
    let seat = place.clone();
    let (asked, mut first_head) = watch::channel(false);
    let service = router.layer(middleware::from_fn(
        move |mut request: Request, next: Next| {
            let (place, asked) = (seat.clone(), asked.clone());
            async move {
                asked.send_replace(true);
                let _answering = place.answering();
                request.extensions_mut().insert(place.clone());
                next.run(request).await
            }
        },
    ));
    let service = TowerToHyperService::new(service);
    let silent = async {
        let heard = first_head.wait_for(|asked| *asked);
        if timeout(FIRST_HEAD_TIMEOUT, heard).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = sleep(LIFETIME) => None,
        // Both are closed at once: there is no answer under way that its client would read.
        () = place.must_leave() => return,
        () = silent => return,
        // The answer is a lock guard, which must not live across an await.
        () = async { drop(shutdown.wait_for(|stop| *stop).await) } => None,
    };
    let result = if let Some(result) = ended {
        result
    } else {
        connection.as_mut().graceful_shutdown();
        timeout(SHUTDOWN_LIMIT, connection).await.unwrap_or(Ok(()))
    };
    if let Err(error) = result {
        debug!("HTTP: {error}");
    }
}

/// The routes.
pub(super) fn router(shared: HandlerState) -> Router {
    Router::new()
        .route("/", get(front_page))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/api/v1/state", get(state))
        .route("/api/v1/history", get(history))
        .route(HOLD, post(holds::hold).delete(holds::release))
        .fallback(not_found)
        .with_state(shared)
}

async fn metrics(Shared(store): Shared<StateStore>, headers: HeaderMap) -> Response {
    let format = exposition::wanted(&headers);
    let fields = [
        (header::CONTENT_TYPE, format.content_type()),
        (header::VARY, "Accept"),
    ];
    (fields, store.expose(format)).into_response()
}

async fn livez(Shared(store): Shared<StateStore>) -> (StatusCode, String) {
    match store.alive() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// One reason a line, so that a probe's log says all of them.
async fn readyz(Shared(store): Shared<StateStore>) -> (StatusCode, String) {
    let not_ready = store.not_ready();
    if not_ready.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let lines = not_ready
        .iter()
        .map(|why| why.replace('\n', " ") + "\n")
        .collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}

async fn state(Shared(store): Shared<StateStore>) -> Json<State> {
    Json(store.state())
}

/// Which transitions are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// By number or scope.
    group: Option<String>,
    formation: Option<String>,
    /// Not more than these last ones.
    limit: Option<usize>,
}

async fn history(Shared(store): Shared<StateStore>, Query(wanted): Query<Wanted>) -> Json<History> {
    let mut transitions = store.history();
    transitions.retain(|transition| {
        let is = |name: &String| transition.group.to_string() == *name || transition.scope == *name;
        wanted.group.as_ref().is_none_or(is)
            && wanted
                .formation
                .as_ref()
                .is_none_or(|name| transition.formation == *name)
    });
    let surplus = wanted
        .limit
        .map_or(0, |limit| transitions.len().saturating_sub(limit));
    transitions.drain(..surplus);
    Json(History { transitions })
}

async fn front_page() -> Html<String> {
    let links = PATHS
        .map(|(path, what)| match path {
            // Not to be followed: it takes more than a click.
            HOLD => format!("<li>{path} {what}</li>\n"),
            _ => format!("<li><a href=\"{path}\">{path}</a> {what}</li>\n"),
        })
        .concat();
    let version = env!("CARGO_PKG_VERSION");
    Html(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>citus-sync</title>\
         </head>\n<body><h1>citus-sync {version}</h1>\n<ul>\n{links}</ul></body></html>\n"
    ))
}

async fn not_found(uri: Uri) -> (StatusCode, String) {
    let paths = PATHS
        .map(|(path, what)| format!("{path}  {what}\n"))
        .concat();
    (
        StatusCode::NOT_FOUND,
        format!("there is no {}; there is\n{paths}", uri.path()),
    )
}
