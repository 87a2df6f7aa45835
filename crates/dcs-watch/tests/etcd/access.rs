//! Settings, users and passwords.

use std::sync::atomic::Ordering;

use dcs_watch::Freshness;
use dcs_watch::client::{ListError, Settings, list_once};
use lab::etcd::Etcd;
use serde_json::json;

use crate::harness::{Watch, etcd, runtime, settings};

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
        bad.password = password.map(Into::into);
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
