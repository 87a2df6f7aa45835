//! The pages of holds and transitions, over real connections, with a reconciler that the test plays.

use std::time::Duration;

use dcs_watch::HostPort;
use dcs_watch::client::{Settings, Views, spawn};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::client::{Called, Order, call, fetch_history};
use super::server::serve;
use crate::metrics::Metrics;
use crate::state::Command;
use crate::state::{FormationState, StateStore};
use citus_core::config::{Origin, Secret};
use citus_core::plan::Writes;
use citus_core::report::{
    HoldAnswer, HoldOutcome, HoldRequest, PhaseTimes, Refusal, RefusalKind, Transition,
    TransitionKind, TransitionOutcome,
};

/// Far more than anything here needs.
const SOON: Duration = Duration::from_secs(30);

fn token(text: &str) -> Secret {
    Secret::new(text, Origin::Env("CITUS_SYNC_TOKEN"))
}

/// Views of an etcd that is not there: nothing here looks at them.
fn no_views() -> Views {
    spawn(
        Settings::new(vec!["http://127.0.0.1:1".to_owned()]),
        std::future::pending(),
    )
    .0
}

fn store(formations: &[&str]) -> StateStore {
    let formations = formations
        .iter()
        .map(|name| {
            let name = (*name).to_owned();
            FormationState::new(name.clone(), name, Writes::Allowed, vec![])
        })
        .collect();
    StateStore::new(no_views(), Metrics::default(), formations)
}

/// A server, until dropped.
struct Serving {
    url: String,
    task: JoinHandle<()>,
    _stop: watch::Sender<bool>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serving(store: &StateStore, with: Option<&str>) -> Serving {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = listener.local_addr().unwrap().to_string();
    let (stop, stopping) = watch::channel(false);
    let (store, with) = (store.clone(), watch::channel(with.map(token)).1);
    let task = tokio::spawn(async move {
        serve(listener, store, with, stopping).await.unwrap();
    });
    Serving {
        url,
        task,
        _stop: stop,
    }
}

fn answer(outcome: HoldOutcome) -> HoldAnswer {
    HoldAnswer {
        formation: "cn".to_owned(),
        group: 1,
        scope: "wk1".to_owned(),
        outcome,
        held: vec![],
        reads_moved_to: None,
        took_ms: 3,
        skipped: vec![],
        message: String::new(),
    }
}

/// A reconciler that answers every command with this, and passes on each command it received.
fn reconciler(
    mut heard: mpsc::Receiver<Command>,
    outcome: HoldOutcome,
) -> mpsc::UnboundedReceiver<Option<HoldRequest>> {
    let (received, commands) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(command) = heard.recv().await {
            let (request, reply) = match command {
                Command::Hold { request, reply } => (Some(request), reply),
                Command::Release { reply } => (None, reply),
            };
            let _ = received.send(request);
            let _ = reply.send(answer(outcome));
        }
    });
    commands
}

/// The status code of a request as it is written here.
async fn raw(url: &str, request: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(url).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let body = text.split_once("\r\n\r\n").unwrap().1;
    (status, body.to_owned())
}

/// A request with this token and body, and its answer.
async fn post(url: &str, path: &str, token: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: {token}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    raw(url, &request).await
}

fn refusal(body: &str) -> Refusal {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

const RIGHT: &str = "Bearer right-token-of-this-daemon";
const TOKEN: &str = "right-token-of-this-daemon";
const HOLD_1: &str = "/api/v1/groups/1/hold";

#[tokio::test]
async fn every_outcome_has_its_status() {
    for (outcome, status) in [
        (HoldOutcome::Held, 200),
        (HoldOutcome::Partly, 200),
        (HoldOutcome::NotTheLeader, 200),
        (HoldOutcome::Released, 200),
        (HoldOutcome::NothingHeld, 200),
        (HoldOutcome::NotHeld, 503),
        (HoldOutcome::Refused, 409),
    ] {
        let store = store(&["cn"]);
        let mut commands = reconciler(store.listen("cn", 1, "wk1"), outcome);
        let server = serving(&store, Some(TOKEN)).await;
        let (found, body) = post(&server.url, HOLD_1, RIGHT, "").await;
        assert_eq!(found, status, "{outcome:?}: {body}");
        let body: HoldAnswer = serde_json::from_str(&body).unwrap();
        assert_eq!(body, answer(outcome));
        let request = commands.recv().await.unwrap().unwrap();
        assert_eq!((request.member, request.timeout_ms), (None, None));
        assert_eq!(request.wait_ms, Some(4900), "a little less than we wait");
    }
}

#[tokio::test]
async fn a_request_reaches_the_reconciler_of_its_group_or_scope() {
    let store = store(&["cn"]);
    let mut one = reconciler(store.listen("cn", 1, "citus/1"), HoldOutcome::Held);
    let mut two = reconciler(store.listen("cn", 2, "citus/2"), HoldOutcome::Released);
    let server = serving(&store, Some(TOKEN)).await;
    let request = HoldRequest {
        member: Some("wk1-1".to_owned()),
        timeout_ms: Some(12_000),
        wait_ms: Some(500_000),
    };
    let hold = Order::Hold(request.clone());
    let called = call(&server.url, &token(TOKEN), (None, "citus/1"), &hold, SOON).await;
    assert_eq!(
        called.unwrap(),
        Called::Answer(answer(HoldOutcome::Held)),
        "by scope"
    );
    let heard = one.recv().await.unwrap().unwrap();
    assert_eq!(
        (heard.member, heard.timeout_ms),
        (request.member, Some(12_000))
    );
    assert_eq!(heard.wait_ms, Some(59_900), "a minute at most");

    let release = Order::Release(HoldRequest::default());
    let url = format!("http://{}/", server.url);
    let called = call(&url, &token(TOKEN), (Some("cn"), "2"), &release, SOON).await;
    assert_eq!(
        called.unwrap(),
        Called::Answer(answer(HoldOutcome::Released))
    );
    assert_eq!(two.recv().await, Some(None), "by number");
}

#[tokio::test]
async fn without_the_right_token_nothing_reaches_the_reconciler() {
    let store = store(&["cn"]);
    let mut commands = reconciler(store.listen("cn", 1, "wk1"), HoldOutcome::Held);
    let server = serving(&store, Some(TOKEN)).await;
    for wrong in [
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer right-token-of-this-daemo",
        "Bearer right-token-of-this-daemon2",
        "Basic right-token-of-this-daemon",
        "right-token-of-this-daemon",
    ] {
        // Nor does the answer show whether a group exists.
        for path in [HOLD_1, "/api/v1/groups/77/hold"] {
            let (status, body) = post(&server.url, path, wrong, "").await;
            assert_eq!(status, 401, "{wrong}: {body}");
            assert_eq!(refusal(&body).error, RefusalKind::Unauthorized);
            assert!(!body.contains("right-token"), "{body}");
        }
    }
    let bare = format!("DELETE {HOLD_1} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(raw(&server.url, &bare).await.0, 401);
    assert!(
        commands.try_recv().is_err(),
        "the reconciler received something"
    );

    let (status, _) = post(&server.url, HOLD_1, "bearer right-token-of-this-daemon", "").await;
    assert_eq!(status, 200, "the scheme's case does not matter");
}

#[tokio::test]
async fn a_daemon_without_a_token_says_how_to_get_one() {
    let store = store(&["cn"]);
    let _reconciler = reconciler(store.listen("cn", 1, "wk1"), HoldOutcome::Held);
    let server = serving(&store, None).await;
    let (status, body) = post(&server.url, HOLD_1, "Bearer ", "").await;
    assert_eq!(status, 403);
    let refusal = refusal(&body);
    assert_eq!(refusal.error, RefusalKind::NoToken);
    assert!(refusal.message.contains("`token_file`"), "{refusal:?}");
}

#[tokio::test]
async fn a_refusal_of_an_unknown_or_ambiguous_group_names_those_there_are() {
    let store = store(&["eu", "us"]);
    let _reconcilers = [
        reconciler(store.listen("eu", 1, "eu-wk1"), HoldOutcome::Held),
        reconciler(store.listen("us", 1, "us-wk1"), HoldOutcome::Held),
    ];
    let server = serving(&store, Some(TOKEN)).await;
    let ask = async |path: &str| {
        let (status, body) = post(&server.url, path, RIGHT, "").await;
        (status, body)
    };
    let (status, body) = ask("/api/v1/groups/7/hold").await;
    assert_eq!(status, 404);
    let message = refusal(&body).message;
    assert!(
        message.contains("1 (eu-wk1)") && message.contains("1 (us-wk1)"),
        "{message}"
    );
    let (status, body) = ask(HOLD_1).await;
    assert_eq!(status, 409);
    assert_eq!(refusal(&body).error, RefusalKind::Ambiguous);
    let message = refusal(&body).message;
    assert!(
        message.contains("eu, us") && message.contains("?formation="),
        "{message}"
    );
    assert_eq!(ask("/api/v1/groups/1/hold?formation=us").await.0, 200);
    assert_eq!(ask("/api/v1/groups/us-wk1/hold").await.0, 200);
    let (status, body) = ask("/api/v1/groups/1/hold?formation=asia").await;
    assert_eq!(status, 404);
    assert!(refusal(&body).message.contains("eu, us"), "{body}");
}

#[tokio::test]
async fn a_malformed_request_is_refused_with_the_reason() {
    let store = store(&["cn"]);
    let mut commands = reconciler(store.listen("cn", 1, "wk1"), HoldOutcome::Held);
    let server = serving(&store, Some(TOKEN)).await;
    let long = format!("{{\"member\": \"{}\"}}", "a".repeat(20_000));
    for (path, body, status) in [
        (HOLD_1, "{", 400),
        (HOLD_1, "{\"membre\": \"a\"}", 400),
        (HOLD_1, "{\"timeout_ms\": 0}", 400),
        (HOLD_1, "{\"member\": \"\"}", 400),
        (HOLD_1, "{\"member\": \" \\t\"}", 400),
        (HOLD_1, &long, 413),
        ("/api/v1/groups/1/hold?formaton=a", "", 400),
        ("/api/v1/groups/%ff/hold", "", 400),
    ] {
        let (found, answer) = post(&server.url, path, RIGHT, body).await;
        assert_eq!(found, status, "{path} {body}: {answer}");
        assert_eq!(refusal(&answer).error, RefusalKind::BadRequest);
    }
    assert!(
        commands.try_recv().is_err(),
        "the reconciler received something"
    );
}

#[tokio::test]
async fn the_answer_comes_in_time_whatever_the_reconciler_does() {
    let store = store(&["cn"]);
    let (silent, full) = (store.listen("cn", 1, "wk1"), store.listen("cn", 2, "wk2"));
    drop(store.listen("cn", 3, "wk3"));
    let server = serving(&store, Some(TOKEN)).await;
    let body = "{\"wait_ms\": 20}";
    // More than wait for a reconciler that does not even listen.
    for group in [1; 20].into_iter().chain([2]) {
        let path = format!("/api/v1/groups/{group}/hold");
        let (status, body) = post(&server.url, &path, RIGHT, body).await;
        assert_eq!(status, 504, "{body}");
        let answer: HoldAnswer = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (answer.outcome, answer.group),
            (HoldOutcome::NotHeld, group)
        );
        assert!(answer.message.contains("20 ms"), "{answer:?}");
    }
    let (status, body) = post(&server.url, "/api/v1/groups/3/hold", RIGHT, body).await;
    assert_eq!(status, 503, "{body}");
    let answer: HoldAnswer = serde_json::from_str(&body).unwrap();
    assert_eq!(answer.outcome, HoldOutcome::NotHeld);
    drop((silent, full));
}

#[tokio::test]
async fn a_later_reconciler_takes_the_place_of_an_earlier_one() {
    let store = store(&["cn"]);
    let earlier = store.listen("cn", 1, "wk1");
    let mut commands = reconciler(store.listen("cn", 1, "wk1"), HoldOutcome::Held);
    drop(earlier);
    let server = serving(&store, Some(TOKEN)).await;
    assert_eq!(post(&server.url, HOLD_1, RIGHT, "").await.0, 200);
    assert!(commands.recv().await.is_some());
}

fn transition(group: i32, scope: &str, number: usize) -> Transition {
    let address = |host: &str| HostPort {
        host: host.to_owned(),
        port: 5432,
    };
    Transition {
        formation: "cn".to_owned(),
        group,
        scope: scope.to_owned(),
        kind: TransitionKind::Switchover,
        at: "2026-11-22T12:00:00Z".to_owned(),
        from: Some(address("10.0.1.1")),
        to: Some(address("10.0.1.2")),
        reason: number.to_string(),
        outcome: TransitionOutcome::Followed,
        phases: PhaseTimes {
            requested_us: Some(0),
            ..PhaseTimes::default()
        },
        databases: [].into(),
    }
}

#[tokio::test]
async fn history_comes_oldest_first_by_group_and_limited() {
    let store = store(&["cn"]);
    let server = serving(&store, None).await;
    let reasons = async |group: Option<&str>, limit: usize| -> Vec<String> {
        let history = fetch_history(&server.url, group, limit, SOON)
            .await
            .unwrap();
        history
            .transitions
            .into_iter()
            .map(|one| one.reason)
            .collect()
    };
    assert_eq!(reasons(None, 10).await, [""; 0]);
    for number in 0..1003 {
        let group = if number % 2 == 0 { 1 } else { 2 };
        store.record(transition(group, &format!("citus/{group}"), number));
    }
    assert_eq!(reasons(None, 5000).await.len(), 1000);
    assert_eq!(
        reasons(None, 5000).await[0],
        "3",
        "the oldest are forgotten"
    );
    assert_eq!(reasons(None, 2).await, ["1001", "1002"]);
    assert_eq!(reasons(Some("2"), 2).await, ["999", "1001"]);
    assert_eq!(reasons(Some("citus/1"), 2).await, ["1000", "1002"]);
    assert_eq!(reasons(Some("3"), 2).await, [""; 0]);
    let (status, _) = raw(
        &server.url,
        "GET /api/v1/history?limit=-1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(status, 400);
}

/// A client that waits longer than the answer takes is not held up by the connection.
#[tokio::test]
async fn a_body_that_never_comes_is_given_up() {
    let store = store(&["cn"]);
    let _reconciler = reconciler(store.listen("cn", 1, "wk1"), HoldOutcome::Held);
    let server = serving(&store, Some(TOKEN)).await;
    let half = format!(
        "POST {HOLD_1} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: {RIGHT}\r\n\
         Content-Length: 100\r\n\r\n{{"
    );
    let (status, body) = raw(&server.url, &half).await;
    assert_eq!(status, 408, "{body}");
}

/// Connections from this address of loopback, on which `sent` is all that is ever sent.
async fn connections(url: &str, from: &str, count: usize, sent: &str) -> Vec<TcpStream> {
    use tokio::io::AsyncWriteExt as _;
    let mut open = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let mut stream = socket.connect(url.parse().unwrap()).await.unwrap();
        // The server may have closed it already.
        let _ = stream.write_all(sent.as_bytes()).await;
        open.push(stream);
    }
    open
}

#[tokio::test]
async fn connections_that_ask_nothing_keep_no_request_with_the_token_out() {
    let half = "GET /livez HTTP/1.1\r\nHost: a";
    let slow_body = format!(
        "POST {HOLD_1} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer no\r\nContent-Length: 9\r\n\r\n"
    );
    for sent in ["", half, &slow_body] {
        let store = store(&["cn"]);
        let _reconciler = reconciler(store.listen("cn", 1, "wk1"), HoldOutcome::Held);
        let server = serving(&store, Some(TOKEN)).await;
        let mut silent = Vec::new();
        for from in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
            silent.extend(connections(&server.url, from, 140, sent).await);
        }
        let hold = Order::Hold(HoldRequest::default());
        let patience = Duration::from_secs(4);
        let called = call(&server.url, &token(TOKEN), (None, "1"), &hold, patience).await;
        let expected = Called::Answer(answer(HoldOutcome::Held));
        assert_eq!(called.unwrap(), expected, "{sent:?}");
    }
}

#[tokio::test]
async fn a_request_with_the_token_that_waits_for_its_answer_outlives_any_crowd() {
    let store = store(&["cn"]);
    let mut heard = store.listen("cn", 1, "wk1");
    let server = serving(&store, Some(TOKEN)).await;
    let url = server.url.clone();
    let asking = tokio::spawn(async move {
        let hold = Order::Hold(HoldRequest::default());
        call(&url, &token(TOKEN), (None, "1"), &hold, SOON).await
    });
    let Some(Command::Hold { reply, .. }) = heard.recv().await else {
        panic!("a hold was asked for");
    };
    let _silent = connections(&server.url, "127.0.0.1", 300, "").await;
    // The last of them was accepted when another client is answered.
    let get = "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(&server.url, get).await.0, 200);
    reply.send(answer(HoldOutcome::Held)).unwrap();
    let held = Called::Answer(answer(HoldOutcome::Held));
    assert_eq!(asking.await.unwrap().unwrap(), held);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_sends_a_request_is_closed_after_some_seconds() {
    use tokio::io::AsyncReadExt as _;
    let store = store(&["cn"]);
    let server = serving(&store, None).await;
    let started = tokio::time::Instant::now();
    for sent in ["", "GET / HT"] {
        let mut silent = connections(&server.url, "127.0.0.1", 1, sent).await;
        // Its end, or a reset.
        let _ = silent[0].read_to_end(&mut Vec::new()).await;
    }
    assert!(started.elapsed() < Duration::from_secs(15));
}
