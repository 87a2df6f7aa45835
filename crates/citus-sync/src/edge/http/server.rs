//! The daemon's pages: the board goes in, answers leave. Nothing here changes anything.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::edge::board::Board;
use crate::report::State;

/// What Prometheus takes for OpenMetrics; with any other content type it falls back to the older
/// format, which does not know `# EOF`.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long a client may take for its request's head. Also ends keep-alive connections on which
/// nothing is asked any more; longer than the usual scrape interval of 15 s.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection older than this is closed, so that clients which never read their answer cannot
/// use up [`CONNECTIONS`] for good. Everything served takes milliseconds.
const LIFETIME: Duration = Duration::from_secs(300);

/// Connections at once. More wait in the listen queue: each costs memory, and no monitoring opens
/// so many.
const CONNECTIONS: usize = 128;

/// How long answers under way may take once the daemon stops.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// What is served, for the front page and for those who asked for something else.
const PATHS: [(&str, &str); 4] = [
    ("/metrics", "OpenMetrics"),
    ("/livez", "whether the loops turn"),
    (
        "/readyz",
        "whether the view of etcd is fresh and the rows are known",
    ),
    (
        "/api/v1/state",
        "everything that is known, as JSON; `citus-sync status` shows it as tables",
    ),
];

/// Serves until `shutdown` turns true. A client that is slow to take its answer delays the end by
/// a second at most.
///
/// # Errors
///
/// None so far: a connection that cannot be accepted is no reason to stop following leaders.
pub async fn serve(
    listener: TcpListener,
    board: Board,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let router = router(board);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let permit = room.clone().acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        tokio::select! {
            (accepted, permit) = accepted => match accepted {
                Ok((stream, _)) => {
                    let connection = connection(stream, router.clone(), shutdown.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: trying again at once would spin.
                    warn!("HTTP: cannot accept a connection: {error}");
                    sleep(Duration::from_millis(200)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            // An error means that whoever could ask us to stop is gone.
            () = async { drop(shutdown.wait_for(|stop| *stop).await) } => break,
        }
    }
    drop(listener);
    // Each ends by itself within its last second.
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn connection(stream: TcpStream, router: Router, mut shutdown: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(router);
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = sleep(LIFETIME) => None,
        // The answer is a lock guard, which must not live across an await.
        () = async { drop(shutdown.wait_for(|stop| *stop).await) } => None,
    };
    let result = if let Some(result) = ended {
        result
    } else {
        connection.as_mut().graceful_shutdown();
        timeout(LAST_ANSWERS, connection).await.unwrap_or(Ok(()))
    };
    if let Err(error) = result {
        debug!("HTTP: {error}");
    }
}

/// The routes.
fn router(board: Board) -> Router {
    Router::new()
        .route("/", get(front_page))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/api/v1/state", get(state))
        .fallback(not_found)
        .with_state(board)
}

async fn metrics(Shared(board): Shared<Board>) -> Response {
    let text = board
        .metrics()
        .expose(&board.watch_numbers(), board.not_ready().is_empty());
    ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response()
}

async fn livez(Shared(board): Shared<Board>) -> (StatusCode, String) {
    match board.alive() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// One reason a line, so that a probe's log says all of them.
async fn readyz(Shared(board): Shared<Board>) -> (StatusCode, String) {
    let not_ready = board.not_ready();
    if not_ready.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let lines = not_ready
        .iter()
        .map(|why| why.replace('\n', " ") + "\n")
        .collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}

async fn state(Shared(board): Shared<Board>) -> Json<State> {
    Json(board.state())
}

async fn front_page() -> Html<String> {
    let links = PATHS
        .map(|(path, what)| format!("<li><a href=\"{path}\">{path}</a> {what}</li>\n"))
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
