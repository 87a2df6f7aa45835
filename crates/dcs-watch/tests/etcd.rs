//! The client against a real etcd, which does what the tests of the machine assume.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use dcs_watch::client::{Counters, Health, ListError, Settings, Views, list_once, spawn};
use dcs_watch::{Freshness, Lsn, ScopeId, ScopeView};
use lab::etcd::Etcd;
use lab::sandbox::Sandbox;
use lab::wait::{wait_for, wait_until};
use serde_json::json;
use tokio::sync::oneshot;

/// Long enough for a loaded machine; no test waits so long when all is well.
const PATIENCE: Duration = Duration::from_secs(30);

const MEMBER: &str = r#"{"conn_url":"postgres://10.0.0.1:5432/x","state":"running","role":"replica","xlog_location":1}"#;

fn etcd() -> (Sandbox, Etcd) {
    let sandbox = Sandbox::new().unwrap();
    let etcd = Etcd::start(&sandbox).unwrap();
    (sandbox, etcd)
}

/// Impatient, so that the tests are quick; the proportions are those of the defaults.
fn settings(endpoints: &[String]) -> Settings {
    let mut settings = Settings::new(endpoints.to_vec());
    settings.request_timeout = Duration::from_secs(1);
    settings.progress_every = Duration::from_millis(300);
    settings.silence_after = Duration::from_millis(1500);
    settings.retry_max = Duration::from_millis(300);
    settings
}

/// The watcher in a thread of its own (one thread is enough), stopped and waited for at the end.
struct Watch {
    views: Views,
    stop: Option<oneshot::Sender<()>>,
    ended: mpsc::Receiver<bool>,
}

impl Watch {
    fn start(settings: Settings) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (tell, ended) = mpsc::channel();
        let (give, views) = mpsc::channel();
        std::thread::spawn(move || {
            runtime().block_on(async move {
                let (views, task) = spawn(settings, async {
                    let _ = stopped.await;
                });
                give.send(views).unwrap();
                tell.send(task.await.is_ok()).unwrap();
            });
        });
        Self {
            views: views.recv().unwrap(),
            stop: Some(stop),
            ended,
        }
    }

    fn of(etcd: &Etcd) -> Self {
        let watch = Self::start(settings(&[etcd.endpoint()]));
        watch.wait_fresh();
        watch
    }

    fn view(&self, scope: &str) -> Arc<ScopeView> {
        self.views.scope(&scope.parse().unwrap()).borrow().clone()
    }

    fn leader(&self, scope: &str) -> Option<String> {
        self.view(scope)
            .leader
            .as_ref()
            .map(|leader| leader.value.clone())
    }

    fn health(&self) -> Health {
        self.views.health().borrow().clone()
    }

    fn counters(&self) -> Arc<Counters> {
        self.views.counters()
    }

    fn relists(&self, reason: &str) -> u64 {
        let relists = self.counters().relists();
        relists
            .iter()
            .find(|(label, _)| *label == reason)
            .unwrap()
            .1
    }

    fn wait(&self, what: &str, mut is: impl FnMut(&Self) -> bool) {
        if let Err(error) = wait_for(what, PATIENCE, || Ok(is(self))) {
            panic!(
                "{error}; health {:?}, counters {:?}",
                self.health(),
                self.counters()
            );
        }
    }

    fn wait_fresh(&self) {
        self.wait("a fresh view", |watch| {
            watch.health().freshness == Freshness::Fresh
        });
    }

    fn wait_leader(&self, scope: &str, name: Option<&str>) {
        self.wait(&format!("leader {name:?} of {scope}"), |watch| {
            watch.leader(scope).as_deref() == name
        });
    }

    fn is_stale(&self) -> bool {
        matches!(self.health().freshness, Freshness::Stale { .. })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let ended = self.ended.recv_timeout(Duration::from_secs(5));
        if !std::thread::panicking() {
            assert!(
                ended.expect("the watcher stops at shutdown"),
                "the watcher panicked"
            );
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn puts_and_deletes_reach_the_views() {
    let (_sandbox, etcd) = etcd();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    etcd.kv().put("/service/wk1/members/pg1", MEMBER).unwrap();
    let watch = Watch::of(&etcd);
    let view = watch.view("wk1");
    assert_eq!(view.freshness, Freshness::Fresh);
    assert_eq!(view.leader_address().unwrap().to_string(), "10.0.0.1:5432");
    assert_eq!(watch.health().keys, 2);

    etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    watch.wait_leader("wk1", Some("pg2"));
    etcd.kv().delete("/service/wk1/leader").unwrap();
    watch.wait_leader("wk1", None);
    etcd.kv().put("/service/citus/0/leader", "c1").unwrap();
    watch.wait_leader("citus/0", Some("c1"));
    let scopes: Vec<_> = watch
        .views
        .scopes()
        .borrow()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(scopes, ["citus/0", "wk1"]);
    etcd.kv().delete_prefix("/service/").unwrap();
    watch.wait("no scope", |watch| watch.views.scopes().borrow().is_empty());
    assert_eq!(watch.counters().malformed_values.load(Ordering::Relaxed), 0);
    assert_eq!(watch.relists("first"), 1);
}

#[test]
fn a_lease_that_ends_removes_its_keys_from_the_view() {
    let (_sandbox, etcd) = etcd();
    let watch = Watch::of(&etcd);
    let lease = etcd.kv().grant_lease(60).unwrap();
    etcd.kv()
        .put_leased("/service/wk1/leader", "pg1", lease)
        .unwrap();
    etcd.kv()
        .put_leased("/service/wk1/members/pg1", MEMBER, lease)
        .unwrap();
    watch.wait_leader("wk1", Some("pg1"));
    assert_eq!(watch.view("wk1").leader_lease, lease);
    etcd.kv().revoke_lease(lease).unwrap();
    watch.wait("an empty scope", |watch| !watch.view("wk1").exists());
}

#[test]
fn a_change_wakes_only_the_subscribers_of_its_scope() {
    let (_sandbox, etcd) = etcd();
    etcd.kv().put("/service/wk1/members/pg1", MEMBER).unwrap();
    etcd.kv().put("/service/wk2/leader", "x").unwrap();
    let watch = Watch::of(&etcd);
    let id = |name: &str| name.parse::<ScopeId>().unwrap();
    let mut one = watch.views.scope(&id("wk1"));
    let mut two = watch.views.scope(&id("wk2"));
    let mut health = watch.views.health();
    one.mark_unchanged();
    two.mark_unchanged();
    health.mark_unchanged();
    for position in 2..50 {
        let beat = MEMBER.replace("\":1}", &format!("\":{position}}}"));
        etcd.kv().put("/service/wk1/members/pg1", &beat).unwrap();
        let status = format!(r#"{{"optime":{position}}}"#);
        etcd.kv().put("/service/wk1/status", &status).unwrap();
    }
    etcd.kv().put("/service/wk2/leader", "y").unwrap();
    watch.wait_leader("wk2", Some("y"));
    assert!(two.has_changed().unwrap());
    assert!(!one.has_changed().unwrap(), "positions wake no subscriber");
    assert_eq!(one.borrow().last_position, Some(Lsn(49)), "but are seen");
    assert!(
        !health.has_changed().unwrap(),
        "events do not change the health of the watch"
    );
    assert!(watch.counters().events.load(Ordering::Relaxed) >= 97);
}

#[test]
fn events_during_a_restart_of_etcd_are_not_lost() {
    let (_sandbox, etcd) = etcd();
    let watch = Watch::of(&etcd);
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    watch.wait_leader("wk1", Some("pg1"));
    etcd.stop().unwrap();
    etcd.start_again().unwrap();
    etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    watch.wait_leader("wk1", Some("pg2"));
    watch.wait("a fresh view", |watch| watch.health().last_error.is_none());
    assert_eq!(watch.health().lineage, 0);
    assert!(watch.counters().reconnects.load(Ordering::Relaxed) >= 1);
}

#[test]
fn a_short_break_is_resumed_without_a_list() {
    let (_sandbox, etcd) = etcd();
    let mut settings = settings(&[etcd.endpoint()]);
    settings.silence_after = Duration::from_secs(60);
    let watch = Watch::start(settings);
    watch.wait_fresh();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    watch.wait_leader("wk1", Some("pg1"));
    etcd.kill().unwrap();
    etcd.start_again().unwrap();
    etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    watch.wait_leader("wk1", Some("pg2"));
    assert!(watch.counters().resumes.load(Ordering::Relaxed) >= 1);
    let lists: u64 = watch
        .counters()
        .relists()
        .iter()
        .map(|(_, count)| count)
        .sum();
    assert_eq!(lists, 1, "{:?}", watch.counters());
}

#[test]
fn a_compaction_while_disconnected_leads_to_a_new_list() {
    let (sandbox, etcd) = etcd();
    let mut settings = settings(&[etcd.endpoint()]);
    settings.silence_after = Duration::from_secs(60);
    // Long pauses, so that the compaction is over before the watch comes back.
    settings.retry_first = Duration::from_secs(2);
    settings.retry_max = Duration::from_secs(2);
    let watch = Watch::start(settings);
    watch.wait_fresh();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    etcd.kv().put("/service/wk1/members/pg1", MEMBER).unwrap();
    watch.wait("the member", |watch| !watch.view("wk1").members.is_empty());
    etcd.kill().unwrap();
    etcd.start_again().unwrap();
    etcd.kv().delete("/service/wk1/members/pg1").unwrap();
    for _ in 0..5 {
        etcd.kv().put("/elsewhere", "x").unwrap();
    }
    let revision = etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    etcd.kv().compact(revision).unwrap();
    watch.wait_leader("wk1", Some("pg2"));
    assert!(
        watch.view("wk1").members.is_empty(),
        "the delete that no watch delivered"
    );
    assert_eq!(watch.relists("compacted"), 1, "{:?}", watch.counters());
    assert_eq!(watch.health().lineage, 0);
    drop(watch);
    drop(sandbox);
}

#[test]
fn a_frozen_etcd_makes_the_view_stale_and_a_thawed_one_fresh_again() {
    let (_sandbox, etcd) = etcd();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    let watch = Watch::of(&etcd);
    etcd.freeze();
    watch.wait("a stale view", Watch::is_stale);
    let view = watch.view("wk1");
    assert!(
        matches!(view.freshness, Freshness::Stale { .. }),
        "each view says so itself"
    );
    assert_eq!(
        view.leader.as_ref().unwrap().value,
        "pg1",
        "etcd gone is not leader gone"
    );
    assert!(watch.counters().view_age().unwrap() >= Duration::from_millis(1500));
    etcd.thaw();
    watch.wait_fresh();
    assert_eq!(watch.view("wk1").freshness, Freshness::Fresh);
    assert_eq!(watch.health().lineage, 0);
    assert!(watch.relists("silence") >= 1);
    etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    watch.wait_leader("wk1", Some("pg2"));
}

#[test]
fn a_quiet_etcd_is_not_taken_for_a_dead_one() {
    let (_sandbox, etcd) = etcd();
    let watch = Watch::of(&etcd);
    let asked = || watch.counters().progress_requests.load(Ordering::Relaxed);
    watch.wait("many signs of life", |_| asked() > 12);
    assert_eq!(watch.counters().stale.load(Ordering::Relaxed), 0);
    assert_eq!(watch.counters().reconnects.load(Ordering::Relaxed), 0);
}

#[test]
fn endpoints_that_refuse_or_never_answer_are_passed_over() {
    let (sandbox, etcd) = etcd();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    let dead = format!("http://127.0.0.1:{}", sandbox.port().unwrap());
    // Accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let black_hole = format!("http://{}", silent.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in silent.incoming() {
            kept.push(stream);
        }
    });
    let endpoints = [dead, black_hole, etcd.endpoint()];
    let watch = Watch::start(settings(&endpoints));
    watch.wait_fresh();
    assert_eq!(watch.health().endpoint, etcd.endpoint());
    assert_eq!(watch.leader("wk1").as_deref(), Some("pg1"));
    // And again once the good endpoint fails and comes back.
    etcd.stop().unwrap();
    watch.wait("a stale view", Watch::is_stale);
    etcd.start_again().unwrap();
    watch.wait_fresh();

    let views = runtime()
        .block_on(list_once(&settings(&endpoints)))
        .unwrap();
    assert_eq!(
        views[&"wk1".parse().unwrap()]
            .leader
            .as_ref()
            .unwrap()
            .value,
        "pg1"
    );
    let error = runtime()
        .block_on(list_once(&settings(&endpoints[..2])))
        .unwrap_err();
    let ListError::Unreachable { tried } = &error else {
        panic!("{error}")
    };
    assert_eq!(tried.len(), 2);
    assert!(tried[0].1.contains("refused"), "{error}");
    assert!(tried[1].1.contains("no answer within"), "{error}");
}

#[test]
fn the_watch_goes_on_at_another_member_when_one_fails() {
    let sandbox = Sandbox::new().unwrap();
    let members = Etcd::start_cluster(&sandbox, 3).unwrap();
    members[0].kv().put("/service/wk1/leader", "pg1").unwrap();
    let endpoints: Vec<_> = members.iter().map(Etcd::endpoint).collect();
    let watch = Watch::start(settings(&endpoints));
    watch.wait_fresh();
    assert_eq!(watch.health().endpoint, endpoints[0]);
    for (going, value) in [(0, "pg2"), (1, "pg3")] {
        if going == 0 {
            members[going].kill().unwrap();
        } else {
            members[going].freeze();
        }
        let put = || members[2].kv().put("/service/wk1/leader", value).map(Some);
        wait_until("a quorum", PATIENCE, put).unwrap();
        watch.wait_leader("wk1", Some(value));
        assert_ne!(watch.health().endpoint, endpoints[going]);
        if going == 0 {
            members[going].start_again().unwrap();
        } else {
            members[going].thaw();
        }
    }
    assert_eq!(watch.health().lineage, 0, "the same cluster all along");
}

#[test]
fn the_view_goes_stale_at_a_member_without_a_quorum() {
    let sandbox = Sandbox::new().unwrap();
    let members = Etcd::start_cluster(&sandbox, 3).unwrap();
    let watch = Watch::start(settings(&[members[0].endpoint()]));
    watch.wait_fresh();
    members[1].kill().unwrap();
    members[2].kill().unwrap();
    watch.wait("a stale view", Watch::is_stale);
    members[1].start_again().unwrap();
    watch.wait_fresh();
    assert_eq!(watch.health().lineage, 0);
}

#[test]
fn a_wiped_etcd_is_another_lineage() {
    let (_sandbox, etcd) = etcd();
    for _ in 0..5 {
        etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    }
    let watch = Watch::of(&etcd);
    assert_eq!(watch.health().lineage, 0);
    etcd.wipe().unwrap();
    watch.wait("a new lineage", |watch| watch.health().lineage == 1);
    watch.wait_leader("wk1", None);
    assert_eq!(
        watch.view("wk1").lineage,
        1,
        "also of a scope that the new list does not have"
    );
    etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    watch.wait_leader("wk1", Some("pg2"));
    assert_eq!(watch.view("wk1").lineage, 1);
}

#[test]
fn an_etcd_that_was_replaced_is_another_lineage() {
    let (_sandbox, etcd) = etcd();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    let watch = Watch::of(&etcd);
    let cluster = watch.health().cluster_id;
    etcd.replace_with_empty().unwrap();
    watch.wait("a new lineage", |watch| watch.health().lineage == 1);
    assert_ne!(watch.health().cluster_id, cluster);
}

#[test]
fn an_etcd_set_back_to_a_backup_is_another_lineage() {
    let (_sandbox, etcd) = etcd();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    let backup = etcd.backup().unwrap();
    for _ in 0..5 {
        etcd.kv().put("/service/wk1/leader", "pg2").unwrap();
    }
    let watch = Watch::of(&etcd);
    assert_eq!(watch.leader("wk1").as_deref(), Some("pg2"));
    etcd.restore(&backup).unwrap();
    watch.wait("a new lineage", |watch| watch.health().lineage == 1);
    watch.wait_leader("wk1", Some("pg1"));
    assert_eq!(watch.view("wk1").lineage, 1);
}

#[test]
fn malformed_keys_and_values_are_problems_and_are_counted() {
    let (_sandbox, etcd) = etcd();
    let watch = Watch::of(&etcd);
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    for (key, value) in [
        ("/service/wk1/members/pg1", b"\xff\xfe".as_slice()),
        ("/service/wk1/members/", b"{}"),
        ("/service/wk1/sync", b"[]"),
        ("/service/wk1/failover", b"{\"leader\":"),
        ("/service/wk1/config", b"null"),
        ("/service/wk2/leader", b""),
    ] {
        etcd.kv().put_bytes(key, value).unwrap();
    }
    etcd.kv()
        .put_bytes("/service/wk1/members/big", &vec![b'['; 1_000_000])
        .unwrap();
    watch.wait("the problems", |watch| {
        watch.view("wk1").problems.len() == 6
    });
    let counters = watch.counters();
    assert_eq!(counters.malformed_keys.load(Ordering::Relaxed), 1);
    assert_eq!(counters.malformed_values.load(Ordering::Relaxed), 6);
    assert_eq!(watch.leader("wk1").as_deref(), Some("pg1"));
    assert_eq!(watch.view("wk2").problems.len(), 1);
    etcd.kv().delete_prefix("/service/wk1/").unwrap();
    watch.wait("no problem", |watch| watch.view("wk1").problems.is_empty());
}

#[test]
fn a_list_of_many_pages_is_complete() {
    let (_sandbox, etcd) = etcd();
    for number in 0..50 {
        etcd.kv()
            .put(&format!("/service/s{number}/leader"), "pg1")
            .unwrap();
    }
    etcd.kv().put("/service0", "next to the namespace").unwrap();
    etcd.kv().put("/servicf", "next to the namespace").unwrap();
    let mut settings = settings(&[etcd.endpoint()]);
    settings.page = 7;
    let watch = Watch::start(settings.clone());
    watch.wait_fresh();
    assert_eq!(watch.views.scopes().borrow().len(), 50);
    assert_eq!(watch.health().keys, 50);
    assert_eq!(watch.counters().list_requests.load(Ordering::Relaxed), 8);
    assert_eq!(runtime().block_on(list_once(&settings)).unwrap().len(), 50);
}

#[test]
fn an_empty_keyspace_is_an_error_that_mentions_api_v2() {
    let (_sandbox, etcd) = etcd();
    etcd.kv().put("/elsewhere/wk1/leader", "pg1").unwrap();
    let error = runtime()
        .block_on(list_once(&settings(&[etcd.endpoint()])))
        .unwrap_err();
    assert!(matches!(error, ListError::Empty { .. }), "{error}");
    assert!(error.to_string().contains("API v2"), "{error}");
    let watch = Watch::of(&etcd);
    assert_eq!(watch.health().keys, 0);
}

#[test]
fn settings_that_cannot_work_are_refused_with_a_reason() {
    for (endpoint, text) in [
        ("https://127.0.0.1:2379", "https is not supported yet"),
        ("http://127.0.0.1", "not of the form"),
        ("ftp://127.0.0.1:2379", "not of the form"),
        ("http://u:secret@127.0.0.1:2379", "not of the form"),
        (
            "https://u:secret@127.0.0.1:2379",
            "https is not supported yet",
        ),
    ] {
        let error = Settings::new(vec![endpoint.to_owned()])
            .validate()
            .unwrap_err()
            .to_string();
        assert!(error.contains(text) && !error.contains("secret"), "{error}");
        let watch = Watch::start(Settings::new(vec![endpoint.to_owned()]));
        assert!(watch.health().last_error.unwrap().contains(text));
    }
    assert!(Settings::new(vec![]).validate().is_err());
    assert!(
        Settings::new(vec!["127.0.0.1:2379".into()])
            .validate()
            .is_ok()
    );
    let mut settings = Settings::new(vec!["http://127.0.0.1:2379/".into()]);
    settings.validate().unwrap();
    settings.username = Some("root".into());
    assert!(settings.validate().is_err());
    settings.password = Some("secret".into());
    settings.validate().unwrap();
    assert!(!format!("{settings:?}").contains("secret"));
    settings.silence_after = settings.progress_every;
    assert!(settings.validate().is_err());
}

/// Gives etcd two users: root, and `stranger`, which has no permission.
fn with_users(etcd: &Etcd) {
    let post = |path: &str, body: serde_json::Value| etcd.kv().post(path, &body).unwrap();
    post(
        "/v3/auth/user/add",
        json!({ "name": "root", "password": "r00t" }),
    );
    post("/v3/auth/role/add", json!({ "name": "root" }));
    post(
        "/v3/auth/user/grant",
        json!({ "user": "root", "role": "root" }),
    );
    post(
        "/v3/auth/user/add",
        json!({ "name": "stranger", "password": "s" }),
    );
    post("/v3/auth/enable", json!({}));
}

#[test]
fn a_user_is_authenticated_again_when_its_token_is_no_longer_valid() {
    let (_sandbox, etcd) = etcd();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    with_users(&etcd);
    let mut good = settings(&[etcd.endpoint()]);
    good.username = Some("root".into());
    good.password = Some("r00t".into());
    let watch = Watch::start(good.clone());
    watch.wait_fresh();
    assert_eq!(watch.leader("wk1").as_deref(), Some("pg1"));
    // etcd forgets its tokens with a restart.
    etcd.stop().unwrap();
    etcd.start_again().unwrap();
    watch.wait("a resumed or new watch", |watch| {
        watch.counters().reconnects.load(Ordering::Relaxed) >= 1
            && watch.health().last_error.is_none()
            && watch.health().freshness == Freshness::Fresh
    });

    for (user, password, text) in [
        (None, None, "user name is empty"),
        (Some("root"), Some("wrong"), "authentication failed"),
        (Some("unknown"), Some("x"), "authentication failed"),
        (Some("stranger"), Some("s"), "permission denied"),
    ] {
        let mut bad = good.clone();
        bad.username = user.map(str::to_owned);
        bad.password = password.map(str::to_owned);
        let error = runtime().block_on(list_once(&bad)).unwrap_err();
        assert!(
            matches!(error, ListError::AuthFailed { .. }),
            "{user:?}: {error}"
        );
        assert!(error.to_string().contains(text), "{user:?}: {error}");
    }
}

#[test]
fn credentials_for_an_etcd_without_users_do_no_harm() {
    let (_sandbox, etcd) = etcd();
    etcd.kv().put("/service/wk1/leader", "pg1").unwrap();
    let mut settings = settings(&[etcd.endpoint()]);
    settings.username = Some("patroni".into());
    settings.password = Some("x".into());
    assert_eq!(runtime().block_on(list_once(&settings)).unwrap().len(), 1);
}

#[test]
fn subscribers_of_before_and_after_see_the_last_put() {
    let (_sandbox, etcd) = etcd();
    let watch = Watch::of(&etcd);
    let before = watch.views.scope(&"later".parse().unwrap());
    assert!(!before.borrow().exists(), "subscribed before it exists");
    let mut last = 0;
    for _ in 0..20 {
        last = etcd.kv().put("/service/later/leader", "pg1").unwrap();
    }
    watch.wait("the last put", |_| {
        before
            .borrow()
            .leader
            .as_ref()
            .is_some_and(|leader| leader.mod_revision == last)
    });
    assert_eq!(
        **watch.views.scope(&"later".parse().unwrap()).borrow(),
        **before.borrow()
    );
}
